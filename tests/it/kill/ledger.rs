//! What clients sent and were answered, and whether a log bears it out.
//!
//! A batch has a number, of which the ids of its events are made, so that each event of a log tells what it belongs to.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use annals::{
    Appended, Batch, Client, ClientError, Guard, GuardFailure, NewEvent, Position, ReadRequest,
    Text, Version,
    proto::{EventBatch, EventView},
};
use uuid::Uuid;

use crate::rng::Rng;

/// A cursor that all clients move, always with events: a log shows in which order.
pub(crate) const SHARED_CURSOR: &str = "shared";
/// An entity that one client alone appends to.
pub(crate) const CHAIN: &str = "chain";

pub(crate) fn event_id(batch: u64, index: usize) -> Uuid {
    Uuid::from_u64_pair(batch, index as u64)
}

/// Whether others can be in the way of a batch.
pub(crate) fn races(batch: &Batch) -> bool {
    let guarded = !batch.guards.is_empty() && batch.events[0].entity_id != CHAIN.into();
    guarded || batch.cursors.iter().any(|cursor| cursor.expected.is_some())
}

/// What a client learnt about a batch.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Appended(Appended),
    Refused(GuardFailure),
    Unknown,
}

impl Answer {
    pub(crate) fn of(outcome: Result<Appended, ClientError>) -> Self {
        match outcome {
            Ok(appended) => Self::Appended(appended),
            Err(ClientError::Lost(_) | ClientError::Ended) => Self::Unknown,
            Err(error) => match error.guard_failure() {
                Some(failure) => Self::Refused(failure.clone()),
                None => panic!("not to be expected: {error:?}"),
            },
        }
    }
}

/// A batch that was sent, and its answer.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) batch: Batch,
    pub(crate) answer: Answer,
}

/// Everything sent, by number.
pub(crate) struct Ledger {
    sent: BTreeMap<u64, Sent>,
    /// Batches without an answer that were found to stand.
    stood: usize,
    /// And those that were found not to.
    did_not_stand: usize,
}

/// A log, as a client read it.
pub(crate) struct Log {
    batches: Vec<EventBatch>,
    head: Position,
}

impl Log {
    pub(crate) async fn read(client: &Client) -> Self {
        let mut events = client.read(&ReadRequest::default()).await.unwrap();
        let mut batches = Vec::new();
        while let Some(batch) = events.next().await.unwrap() {
            batches.push(batch);
        }
        let head = events.head();
        Self { batches, head }
    }
}

/// What a log shows up to some event.
#[derive(Default)]
struct History<'a> {
    versions: HashMap<&'a str, Version>,
    /// Where events have a type and a tag.
    tagged: HashMap<(&'a str, &'a str), Vec<Position>>,
    /// Where the shared cursor stood, one after the other.
    cursor: Vec<Position>,
}

impl<'a> History<'a> {
    fn version(&self, entity_id: &Text) -> Version {
        self.versions.get(text(entity_id)).copied().unwrap_or(0)
    }

    fn cursor(&self) -> Position {
        self.cursor.last().copied().unwrap_or(0)
    }

    /// The first event after a guard's position that it does not want.
    fn first_match(&self, guard: &Guard) -> Option<Position> {
        let Guard::NoMatch { query, after } = guard else {
            return None;
        };
        let item = &query.items[0];
        let key = (text(&item.event_types[0]), text(&item.tags[0]));
        let positions = self.tagged.get(&key)?;
        positions.iter().copied().find(|position| position > after)
    }

    /// Whether a batch was rightly accepted here.
    fn assert_accepts(&self, batch: &Batch, context: &str) {
        for guard in &batch.guards {
            let holds = match guard {
                Guard::Entity { entity_id, expect } => expect.holds(self.version(entity_id)),
                Guard::NoMatch { .. } => self.first_match(guard).is_none(),
            };
            assert!(holds, "{context}: {guard:?} did not hold for {batch:?}");
        }
        for cursor in &batch.cursors {
            let expected = cursor.expected.unwrap_or(self.cursor());
            assert_eq!(expected, self.cursor(), "{context}: {batch:?}");
        }
    }

    fn enter(&mut self, event: &EventView<'a>) {
        *self.versions.entry(event.entity_id).or_default() += 1;
        for tag in event.tags.clone() {
            let key = (event.event_type, tag);
            self.tagged.entry(key).or_default().push(event.position);
        }
    }

    /// Whether what a refusal said is so.
    fn assert_bears_out(&self, failure: &GuardFailure, batch: &Batch, context: &str) {
        let context = format!("{context}: {failure}, of {batch:?}");
        match failure {
            GuardFailure::Entity {
                index,
                entity_id,
                expected,
                found,
            } => {
                let expect = *expected;
                let entity_id = entity_id.clone();
                assert_eq!(
                    batch.guards[*index],
                    Guard::Entity {
                        entity_id: entity_id.clone(),
                        expect
                    }
                );
                assert!(!expected.holds(*found), "{context}");
                let now = self.version(&entity_id);
                assert!(now >= *found, "{context}: it has {now} events");
            }
            GuardFailure::NoMatch { index, found } => {
                let first = self.first_match(&batch.guards[*index]);
                assert_eq!(first, Some(*found), "{context}");
            }
            GuardFailure::Cursor {
                index,
                name,
                expected,
                found,
            } => {
                let cursor = &batch.cursors[*index];
                assert_eq!((&cursor.name, cursor.expected), (name, Some(*expected)));
                assert_ne!(found, expected, "{context}");
                let stood = *found == 0 || self.cursor.contains(found);
                assert!(stood, "{context}: it never stood there");
            }
        }
    }
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            sent: BTreeMap::new(),
            stood: 0,
            did_not_stand: 0,
        }
    }

    pub(crate) fn enter(&mut self, number: u64, sent: Sent) {
        let before = self.sent.insert(number, sent);
        assert!(before.is_none(), "every batch has a number of its own");
    }

    pub(crate) fn batch(&self, number: u64) -> &Batch {
        &self.sent[&number].batch
    }

    /// The batches without an answer, in the order that each client sent them.
    pub(crate) fn unknown(&self) -> Vec<u64> {
        let unknown = |(number, sent): (&u64, &Sent)| {
            matches!(sent.answer, Answer::Unknown).then_some(*number)
        };
        self.sent.iter().filter_map(unknown).collect()
    }

    /// A few batches that stand, with what was said of them.
    pub(crate) fn some_that_stand(&self, count: usize, rng: &mut Rng) -> Vec<(Batch, Appended)> {
        let appended: Vec<_> = self
            .sent
            .values()
            .filter(|sent| !sent.batch.events.is_empty())
            .filter_map(|sent| match &sent.answer {
                Answer::Appended(appended) => Some((&sent.batch, appended)),
                _ => None,
            })
            .collect();
        let some = 0..count.min(appended.len());
        some.map(|_| {
            let (batch, appended) = *rng.pick(&appended);
            (batch.clone(), appended.clone())
        })
        .collect()
    }

    /// A batch without an answer has got one.
    pub(crate) fn settled(&mut self, number: u64, answer: Answer, stood: bool) {
        let sent = self.sent.get_mut(&number).unwrap();
        if !sent.batch.events.is_empty() {
            self.stood += usize::from(stood);
            self.did_not_stand += usize::from(!stood);
        }
        sent.answer = answer;
    }

    /// Asserts that a log is what clients appended, without gaps, each batch whole and once, and that all answers are
    /// true of it. Returns the numbers of the batches in it.
    pub(crate) fn check(&self, log: &Log, context: &str) -> BTreeSet<u64> {
        let events: Vec<_> = log.batches.iter().flatten().map(Result::unwrap).collect();
        assert_eq!(events.len() as Position, log.head, "{context}");
        let mut history = History::default();
        let mut stands = BTreeSet::new();
        let mut rest = events.as_slice();
        while let [first, ..] = rest {
            let (number, _) = Uuid::try_parse(first.event_id).unwrap().as_u64_pair();
            let Some(sent) = self.sent.get(&number) else {
                panic!("{context}: nobody appended {first:?}")
            };
            assert!(stands.insert(number), "{context}: twice: {first:?}");
            history.assert_accepts(&sent.batch, context);
            let (whole, after) = rest
                .split_at_checked(sent.batch.events.len())
                .unwrap_or_else(|| panic!("{context}: half: {sent:?}"));
            for (index, (event, appended)) in whole.iter().zip(&sent.batch.events).enumerate() {
                history.enter(event);
                let position = (events.len() - rest.len() + index + 1) as Position;
                assert_eq!(event.position, position, "{context}: a gap: {event:?}");
                let version = history.versions[event.entity_id];
                assert_eq!(event.version, version, "{context}: a gap: {event:?}");
                assert!(same(event, appended), "{context}: {event:?}, {appended:?}");
            }
            history
                .cursor
                .extend(sent.batch.cursors.iter().map(|cursor| cursor.position));
            match &sent.answer {
                Answer::Appended(told) => assert_told(told, whole, context),
                Answer::Refused(failure) => panic!("{context}: stands, {failure}: {sent:?}"),
                Answer::Unknown => {}
            }
            rest = after;
        }
        for (number, sent) in &self.sent {
            match &sent.answer {
                Answer::Appended(_) => {
                    let stood = sent.batch.events.is_empty() || stands.contains(number);
                    assert!(stood, "{context}: lost: {sent:?}");
                }
                Answer::Refused(failure) => {
                    history.assert_bears_out(failure, &sent.batch, context);
                }
                Answer::Unknown => {}
            }
        }
        stands
    }

    /// Asserts that every cursor stands where it was put last.
    pub(crate) async fn check_cursors(&self, client: &Client, log: &Log, context: &str) {
        let mut possible = BTreeMap::<Text, BTreeSet<Position>>::new();
        // Those of one client each, moved without events.
        for sent in self
            .sent
            .values()
            .filter(|sent| sent.batch.events.is_empty())
        {
            let cursor = &sent.batch.cursors[0];
            let possible = possible.entry(cursor.name.clone()).or_insert([0].into());
            match sent.answer {
                Answer::Appended(_) => *possible = [cursor.position].into(),
                Answer::Refused(_) => panic!("{context}: nobody else moves it: {sent:?}"),
                Answer::Unknown => drop(possible.insert(cursor.position)),
            }
        }
        let events = log.batches.iter().flatten().map(Result::unwrap);
        let moved = events.filter_map(|event| {
            let (number, _) = Uuid::try_parse(event.event_id).unwrap().as_u64_pair();
            Some(self.batch(number).cursors.first()?.position)
        });
        let shared = moved.last().unwrap_or(0);
        possible.insert(SHARED_CURSOR.into(), [shared].into());
        for (name, possible) in possible {
            let stands = match client.cursor(text(&name)).await {
                Err(error) if error.reason() == "NO_SUCH_CURSOR" => 0,
                stands => stands.unwrap(),
            };
            assert!(
                possible.contains(&stands),
                "{context}: cursor {name} is {stands}, not of {possible:?}"
            );
        }
    }

    /// Asserts that the clients met what they should be right about.
    pub(crate) fn assert_all_was_seen(&self) {
        let [versions, queries, cursors] = self.refusals();
        let counts = [self.stood, self.did_not_stand, versions, queries, cursors];
        assert!(counts.iter().all(|&count| count > 0), "{self}");
    }

    /// For a version, a match, a cursor.
    fn refusals(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for sent in self.sent.values() {
            match &sent.answer {
                Answer::Refused(GuardFailure::Entity { .. }) => counts[0] += 1,
                Answer::Refused(GuardFailure::NoMatch { .. }) => counts[1] += 1,
                Answer::Refused(GuardFailure::Cursor { .. }) => counts[2] += 1,
                Answer::Appended(_) | Answer::Unknown => {}
            }
        }
        counts
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [versions, queries, cursors] = self.refusals();
        write!(
            f,
            "of {} batches {versions} were refused for a version, {queries} for a match, {cursors} for a cursor; {} \
             stood without an answer, {} did not stand",
            self.sent.len(),
            self.stood,
            self.did_not_stand
        )
    }
}

fn assert_told(told: &Appended, whole: &[EventView<'_>], context: &str) {
    let position = whole[0].position;
    assert_eq!(told.first_position, position, "{context}");
    let last = position + whole.len() as Position - 1;
    assert_eq!(told.last_position, last, "{context}");
    let versions: Vec<_> = whole.iter().map(|event| event.version).collect();
    assert_eq!(told.versions, versions, "{context}");
    for event in whole {
        assert_eq!(told.recorded_at.as_micros(), event.recorded_at, "{context}");
    }
}

fn same(event: &EventView<'_>, appended: &NewEvent) -> bool {
    Uuid::try_parse(event.event_id).ok() == appended.event_id
        && event.entity_id == text(&appended.entity_id)
        && event.event_type == text(&appended.event_type)
        && event.payload == text(&appended.payload)
        && event.metadata == appended.metadata.as_ref().map(text)
        && event.tags.clone().eq(appended.tags.iter().map(text))
        && event.occurred_at == appended.occurred_at.map(annals::Timestamp::as_micros)
}

fn text(text: &Text) -> &str {
    std::str::from_utf8(text.as_bytes()).unwrap()
}
