//! Clients that append until their server is gone. They race for versions, tags and a cursor, and send some batches
//! twice; one of them sends many without waiting for the answers.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use annals::{
    Appended, Batch, Client, CursorRecord, Expect, GuardFailure, NewEvent, Query, QueryItem, Text,
    Version,
};
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinSet};

use super::ledger::{Answer, CHAIN, Ledger, SHARED_CURSOR, Sent, event_id};
use crate::{program::Served, rng::Rng};

const UNARY_CLIENTS: usize = 6;
/// Batches of the stream without an answer.
const STREAMED_MAX: usize = 16;
const EVENTS_MAX: usize = 50;
const HOT_ENTITIES: [&str; 4] = ["hot 0", "hot 1", "hot 2", "hot 3"];
const TYPES: [&str; 3] = ["opened", "changed", "closed"];
const SEAT_TAKEN: &str = "seat taken";
/// Batches of earlier servers that a client may send again.
const OLD_MAX: usize = 5;

/// What the clients tell each other of their answers, so that they get into each other's way.
pub(crate) struct Shared {
    next_number: AtomicU64,
    head: AtomicU64,
    versions: Mutex<HashMap<Text, Version>>,
    cursor: AtomicU64,
    /// The last seat that was taken.
    seat: AtomicU64,
    /// Events of the chain, with those that are still to be sent again.
    chained: AtomicU64,
    /// Since the server was started.
    answers: watch::Sender<u64>,
    kill_comes: AtomicBool,
}

impl Shared {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            next_number: AtomicU64::new(1),
            head: AtomicU64::new(0),
            versions: Mutex::default(),
            cursor: AtomicU64::new(0),
            seat: AtomicU64::new(0),
            chained: AtomicU64::new(0),
            answers: watch::Sender::new(0),
            kill_comes: AtomicBool::new(false),
        })
    }

    /// Waits for so many answers of the server.
    pub(crate) async fn answered(&self, count: u64) {
        let mut answers = self.answers.subscribe();
        answers.wait_for(|answers| *answers >= count).await.unwrap();
    }

    /// Calls that begin from now on may find no server.
    pub(crate) fn kill_comes(&self) {
        self.kill_comes.store(true, SeqCst);
    }

    fn learn(&self, batch: &Batch, answer: &Answer) {
        match answer {
            Answer::Appended(appended) => {
                self.head.fetch_max(appended.last_position, SeqCst);
                for (event, version) in batch.events.iter().zip(&appended.versions) {
                    self.learn_version(&event.entity_id, *version);
                    self.learn_seat(event);
                }
                if let Some(cursor) = batch.cursors.first() {
                    self.cursor.store(cursor.position, SeqCst);
                }
            }
            Answer::Refused(GuardFailure::Entity {
                entity_id, found, ..
            }) => self.learn_version(entity_id, *found),
            Answer::Refused(GuardFailure::NoMatch { .. }) => self.learn_seat(&batch.events[0]),
            Answer::Refused(GuardFailure::Cursor { found, .. }) => {
                self.cursor.store(*found, SeqCst);
            }
            Answer::Unknown => return,
        }
        self.answers.send_modify(|answers| *answers += 1);
    }

    fn learn_version(&self, entity_id: &Text, version: Version) {
        let mut versions = self.versions.lock();
        let known = versions.entry(entity_id.clone()).or_default();
        *known = version.max(*known);
    }

    fn learn_seat(&self, event: &NewEvent) {
        let tag = event.tags.first().map(ToString::to_string);
        if let Some(number) = tag.as_deref().and_then(|tag| tag.strip_prefix("seat:")) {
            self.seat.fetch_max(number.parse().unwrap(), SeqCst);
        }
    }
}

/// Clients at work.
pub(crate) struct Load {
    clients: JoinSet<Worked>,
}

/// What a client did.
#[derive(Default)]
struct Worked {
    sent: Vec<(u64, Sent)>,
    /// Calls that began before the kill and were never answered.
    unanswered: usize,
}

impl Load {
    pub(crate) async fn start(
        server: &Served,
        shared: &Arc<Shared>,
        ledger: &Ledger,
        rng: &mut Rng,
    ) -> Self {
        shared.answers.send_replace(0);
        shared.kill_comes.store(false, SeqCst);
        let mut clients = JoinSet::new();
        for index in 0..=UNARY_CLIENTS {
            let writer = Writer {
                index,
                client: super::connect(server).await,
                shared: Arc::clone(shared),
                stand: ledger.some_that_stand(OLD_MAX, rng),
                rng: Rng::new(rng.next()),
                worked: Worked::default(),
            };
            if index == UNARY_CLIENTS {
                clients.spawn(writer.stream());
            } else {
                clients.spawn(writer.call());
            }
        }
        Self { clients }
    }

    /// Waits until all have lost the server and enters what they did; returns how many calls the kill left unanswered.
    pub(crate) async fn end(mut self, ledger: &mut Ledger) -> usize {
        let mut unanswered = 0;
        while let Some(worked) = self.clients.join_next().await {
            let worked = worked.unwrap();
            unanswered += worked.unanswered;
            for (number, sent) in worked.sent {
                ledger.enter(number, sent);
            }
        }
        unanswered
    }
}

struct Writer {
    index: usize,
    client: Client,
    shared: Arc<Shared>,
    rng: Rng,
    /// Batches that stand, to be sent again.
    stand: Vec<(Batch, Appended)>,
    worked: Worked,
}

impl Writer {
    /// One call after the other, until one is not answered.
    async fn call(mut self) -> Worked {
        loop {
            let before_kill = !self.shared.kill_comes.load(SeqCst);
            let answered = match self.rng.below(100) {
                0..6 if !self.stand.is_empty() => self.send_again().await,
                6..12 => self.send_twice_at_once().await,
                _ => self.send().await,
            };
            if !answered {
                self.worked.unanswered += usize::from(before_kill);
                return self.worked;
            }
        }
    }

    async fn send(&mut self) -> bool {
        let (number, batch) = self.next_batch();
        let answer = Answer::of(self.client.append(&batch).await);
        self.note(number, batch, answer)
    }

    /// A batch that stands is not stored once more, whatever its guards say by now.
    async fn send_again(&mut self) -> bool {
        let (batch, told) = self.rng.pick(&self.stand).clone();
        match Answer::of(self.client.append(&batch).await) {
            Answer::Appended(again) => {
                let duplicate = true;
                assert_eq!(again, Appended { duplicate, ..told });
                true
            }
            Answer::Refused(failure) => panic!("{failure}, for a repeat of {batch:?}"),
            Answer::Unknown => false,
        }
    }

    /// As a client does that loses patience.
    async fn send_twice_at_once(&mut self) -> bool {
        let number = self.next_number();
        let batch = self.plain(number);
        let (one, other) = tokio::join!(self.client.append(&batch), self.client.append(&batch));
        let answer = match (Answer::of(one), Answer::of(other)) {
            (Answer::Appended(one), Answer::Appended(other)) => {
                assert_ne!(one.duplicate, other.duplicate, "{one:?}, {other:?}");
                let duplicate = one.duplicate;
                assert_eq!(one, Appended { duplicate, ..other });
                Answer::Appended(one)
            }
            (Answer::Unknown, only) | (only, Answer::Unknown) => only,
            (one, other) => panic!("{one:?} and {other:?} for {batch:?}"),
        };
        self.note(number, batch, answer)
    }

    /// Many batches at once over one stream, until it is lost.
    async fn stream(mut self) -> Worked {
        let (mut sender, mut answers) = self.client.append_stream();
        let mut in_flight = VecDeque::new();
        let mut answered = 0;
        'open: loop {
            while in_flight.len() < STREAMED_MAX {
                let before_kill = !self.shared.kill_comes.load(SeqCst);
                let (number, batch) = if self.rng.chance(50) {
                    self.chained()
                } else {
                    self.next_batch()
                };
                let sent = sender.send(&batch).await;
                in_flight.push_back((number, batch, before_kill));
                if sent.is_err() {
                    break 'open;
                }
            }
            let outcome = match answers.recv().await {
                Ok(Some((request_id, outcome))) => {
                    assert_eq!(request_id, answered, "answers come in order");
                    outcome
                }
                Ok(None) => break,
                Err(lost) => Err(lost),
            };
            let (number, batch, before_kill) = in_flight.pop_front().unwrap();
            let answer = Answer::of(outcome);
            if matches!(answer, Answer::Unknown) {
                in_flight.push_front((number, batch, before_kill));
                break;
            }
            answered += 1;
            self.note(number, batch, answer);
        }
        for (number, batch, before_kill) in in_flight {
            self.worked.unanswered += usize::from(before_kill);
            self.note(number, batch, Answer::Unknown);
        }
        self.worked
    }

    /// Returns whether it is an answer at all.
    fn note(&mut self, number: u64, batch: Batch, answer: Answer) -> bool {
        self.shared.learn(&batch, &answer);
        if let Answer::Appended(appended) = &answer
            && !batch.events.is_empty()
        {
            self.stand.push((batch.clone(), appended.clone()));
        }
        let answered = !matches!(answer, Answer::Unknown);
        self.worked.sent.push((number, Sent { batch, answer }));
        answered
    }

    fn next_number(&self) -> u64 {
        self.shared.next_number.fetch_add(1, SeqCst)
    }

    fn next_batch(&mut self) -> (u64, Batch) {
        let number = self.next_number();
        let batch = match self.rng.below(100) {
            0..35 => self.plain(number),
            35..65 => self.for_a_version(number),
            65..80 => self.for_a_seat(number),
            80..92 => self.with_shared_cursor(number),
            _ => Batch::default().with_cursor(self.cursor(format!("reader {}", self.index))),
        };
        (number, batch)
    }

    fn plain(&mut self, number: u64) -> Batch {
        let count = 1 + self.rng.below(EVENTS_MAX);
        self.events(number, count)
    }

    /// Only one of those who know the same version can have it.
    fn for_a_version(&mut self, number: u64) -> Batch {
        let entity_id = Text::from(*self.rng.pick(&HOT_ENTITIES));
        let known = self.shared.versions.lock().get(&entity_id).copied();
        let expect = match self.rng.below(10) {
            0 => Expect::Absent,
            1 => Expect::Exists,
            _ => Expect::Version(known.unwrap_or(0)),
        };
        let count = 1 + self.rng.below(3);
        let mut batch = self.events(number, count);
        for event in &mut batch.events {
            event.entity_id = entity_id.clone();
        }
        batch.expecting(entity_id, expect)
    }

    /// Only one of those who want the same seat can have it.
    fn for_a_seat(&mut self, number: u64) -> Batch {
        let seat = self.shared.seat.load(SeqCst) + self.rng.below(2) as u64;
        let seat = Text::from(format!("seat:{seat}"));
        let after = if self.rng.chance(70) {
            0
        } else {
            self.shared.head.load(SeqCst)
        };
        let guest = format!("guest {}", self.index);
        let event = NewEvent::new(guest, SEAT_TAKEN, "{}")
            .with_id(event_id(number, 0))
            .with_tags([seat.clone()]);
        let item = QueryItem {
            event_types: vec![SEAT_TAKEN.into()],
            tags: vec![seat],
        };
        Batch::new([event]).unless(Query { items: vec![item] }, after)
    }

    fn with_shared_cursor(&mut self, number: u64) -> Batch {
        let expected = self.rng.chance(60);
        let cursor = CursorRecord {
            expected: expected.then(|| self.shared.cursor.load(SeqCst)),
            ..self.cursor(SHARED_CURSOR.to_owned())
        };
        let count = 1 + self.rng.below(3);
        self.events(number, count).with_cursor(cursor)
    }

    fn cursor(&mut self, name: String) -> CursorRecord {
        let head = self.shared.head.load(SeqCst);
        CursorRecord {
            name: name.into(),
            position: head.saturating_sub(self.rng.below(50) as u64),
            expected: None,
        }
    }

    /// Each expects the one before, which was not answered yet.
    fn chained(&mut self) -> (u64, Batch) {
        let number = self.next_number();
        let count = 1 + self.rng.below(3);
        let mut batch = self.events(number, count);
        for event in &mut batch.events {
            event.entity_id = CHAIN.into();
        }
        let version = self.shared.chained.fetch_add(count as u64, SeqCst);
        (number, batch.expecting(CHAIN, Expect::Version(version)))
    }

    fn events(&mut self, number: u64, count: usize) -> Batch {
        let rng = &mut self.rng;
        let event = |index| {
            let entity_id = if rng.chance(30) {
                (*rng.pick(&HOT_ENTITIES)).to_owned()
            } else {
                format!("order {}", rng.below(500))
            };
            let filler = "payload ".repeat(rng.below(20));
            let payload = format!(r#"{{"n":{},"text":"{filler}"}}"#, rng.next());
            let event = NewEvent::new(entity_id, *rng.pick(&TYPES), payload);
            let event = event.with_id(event_id(number, index));
            if rng.chance(20) {
                event
                    .with_tags(["vip"])
                    .with_metadata(r#"{"source":"kill"}"#)
            } else {
                event
            }
        };
        Batch::new((0..count).map(event).collect::<Vec<_>>())
    }
}
