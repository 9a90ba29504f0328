//! The checks of the soak (`benches/soak`) see each kind of fault that a log can have: a run that finds nothing means
//! something.

#[path = "../../benches/soak/ledger.rs"]
#[expect(dead_code, unused_imports, reason = "the soak uses all of it")]
mod ledger;
#[path = "../../benches/soak/story.rs"]
#[expect(dead_code, reason = "the soak uses all of it")]
mod story;

use std::{collections::HashMap, sync::Arc};

use annals::proto::{Event, EventBatch};
use prost::{Message, encoding::message};

use self::{
    ledger::{Answered, Audit, Fault, Ledger, Stands},
    story::{Place, Story},
};

const WRITERS: usize = 3;
const BATCHES: u64 = 20;

/// A log that is as it should be, and the answers that belong to it.
fn a_good_log() -> (Vec<Event>, Vec<(Answered, Vec<u64>)>) {
    let story = story();
    let (mut log, mut answers) = (Vec::new(), Vec::new());
    let mut versions = HashMap::new();
    for (batch, writer) in (0..BATCHES).flat_map(|b| (0..WRITERS).map(move |w| (b, w))) {
        let (first, recorded_at) = (
            log.len() as u64 + 1,
            1_000 + i64::try_from(log.len()).unwrap(),
        );
        let mut of_batch = Vec::new();
        for (at, event) in story.events(writer, batch).into_iter().enumerate() {
            let entity = story.entity_of(Place { writer, batch, at });
            let version = versions.entry(entity).or_insert(0);
            *version += 1;
            of_batch.push(*version);
            log.push(Event {
                position: log.len() as u64 + 1,
                entity_id: event.entity_id.to_string(),
                version: *version,
                event_type: event.event_type.to_string(),
                event_id: event.event_id.unwrap().to_string(),
                recorded_at: Some(time(recorded_at)),
                occurred_at: event.occurred_at.map(|at| time(at.as_micros())),
                payload: event.payload.to_string(),
                metadata: event.metadata.map(|text| text.to_string()),
                tags: event.tags.iter().map(ToString::to_string).collect(),
            });
        }
        let stands = Stands { first, recorded_at };
        answers.push((
            Answered {
                writer,
                batch,
                stands,
            },
            of_batch,
        ));
    }
    (log, answers)
}

fn story() -> Story {
    Story::new(3, WRITERS, 10, 15)
}

fn time(micros: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: (micros.rem_euclid(1_000_000) * 1_000) as i32,
    }
}

/// What the checks say of a log and of answers.
fn told(log: &[Event], answers: &[(Answered, Vec<u64>)]) -> Result<(), Fault> {
    let mut encoded = Vec::new();
    for event in log {
        message::encode(1, event, &mut encoded);
    }
    let batch = EventBatch::decode(encoded.as_slice()).unwrap();
    let ledger = Arc::new(Ledger::new(story()));
    for (answered, _) in answers {
        ledger.sending(answered.writer, answered.batch);
    }
    // Some are answered before they are seen, some after.
    let (before, after) = answers.split_at(answers.len() / 2);
    let answer =
        |(answered, versions): &(Answered, Vec<u64>)| ledger.answered(*answered, versions, 0);
    before.iter().try_for_each(answer)?;
    let mut audit = Audit::of_answers(ledger.clone());
    for event in &batch {
        audit.take(&event.unwrap())?;
    }
    after.iter().try_for_each(answer)?;
    let (_, events, _) = ledger.totals();
    if ledger.unsettled() != (0, 0) || !audit.is_whole() || audit.position != events {
        let unsettled = ledger.unsettled();
        return Err(Fault(format!(
            "{unsettled:?} are not settled, {} of {events}",
            audit.position
        )));
    }
    Ok(())
}

#[test]
fn a_good_log_passes_the_checks_of_the_soak() {
    let (log, answers) = a_good_log();
    assert!(log.len() > 100);
    told(&log, &answers).unwrap();
}

#[test]
fn the_checks_of_the_soak_see_every_kind_of_fault() {
    fn renumber(log: &mut [Event]) {
        for (n, event) in log.iter_mut().enumerate() {
            event.position = n as u64 + 1;
        }
    }
    type Harm = fn(&mut Vec<Event>);
    let harms: &[(&str, Harm)] = &[
        ("another payload", |log| log[50].payload = "{}".to_owned()),
        ("a space more in a payload", |log| log[50].payload.push(' ')),
        ("another entity", |log| {
            log[50].entity_id = log[49].entity_id.clone() + "x";
        }),
        ("another type", |log| {
            log[50].event_type = "order.lost".to_owned();
        }),
        ("a tag less", |log| drop(log[50].tags.pop())),
        ("other metadata", |log| {
            log[50].metadata = Some("{}".to_owned());
        }),
        ("another time of its own", |log| {
            log[50].occurred_at = Some(time(5));
        }),
        ("an event that nobody sent", |log| {
            log[50].event_id = uuid::Uuid::from_u128(u128::MAX).to_string();
        }),
        ("a position twice", |log| {
            log[50].position = log[49].position;
        }),
        ("a gap of positions", |log| drop(log.remove(50))),
        ("an event lost", |log| {
            log.remove(50);
            renumber(log);
        }),
        ("an event twice", |log| {
            log.insert(50, log[50].clone());
            renumber(log);
        }),
        ("two events exchanged", |log| {
            log.swap(50, 70);
            renumber(log);
        }),
        ("a version left out", |log| log[50].version += 1),
        ("a time before the one before", |log| {
            log.iter_mut()
                .skip(50)
                .for_each(|e| e.recorded_at = Some(time(1)));
        }),
        ("the last batch cut", |log| drop(log.pop())),
        ("the end lost", |log| log.truncate(60)),
    ];
    for (what, harm) in harms {
        let (mut log, answers) = a_good_log();
        harm(&mut log);
        let fault = told(&log, &answers).expect_err(what);
        println!("{what}: {fault}");
    }
}

#[test]
fn the_checks_of_the_soak_compare_answers_with_what_stands() {
    let (log, answers) = a_good_log();
    for n in [3, answers.len() - 3] {
        let mut moved = answers.clone();
        moved[n].0.stands.first += 1;
        told(&log, &moved).unwrap_err();
        let mut late = answers.clone();
        late[n].0.stands.recorded_at += 1;
        told(&log, &late).unwrap_err();
        // Nobody was told that it is there.
        let mut unanswered = answers.clone();
        unanswered.remove(n);
        told(&log, &unanswered).unwrap_err();
    }
}
