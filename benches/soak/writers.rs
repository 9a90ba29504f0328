//! The load: writers that each append their part of the story, one batch after the other or many in flight, and check
//! every answer. What is not answered is sent again until it is.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use annals::{
    Appended, Batch, Client, ClientError, CursorRecord, Expect, GuardFailure, Kind as ErrorKind,
    NewEvent, Query, QueryItem, Text, client::AppendAnswers,
};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::{
    ledger::{Answered, Fault, Ledger, Stands, ensure},
    run::{Run, chain, is_transient},
    story::{Kind, Place, Story, mixed},
};

/// Batches of a stream that wait for their answers.
const IN_FLIGHT: usize = 32;
/// Own batches that are sent once more now and then.
const REPEATED: usize = 50;
/// A writer that is behind its rate does not make up for more than this.
const CATCH_UP: Duration = Duration::from_secs(1);
/// No answer for so long, over a stream that is open, is a fault.
const SILENCE: Duration = Duration::from_mins(3);

/// A batch that was sent.
#[derive(Debug)]
struct Sent {
    number: u64,
    batch: Batch,
    /// That its events must get; empty if others append to the entity.
    versions: Vec<u64>,
    /// It was sent before, and its answer was lost.
    is_again: bool,
    at: std::time::Instant,
}

/// One writer of a tenant.
#[derive(Debug)]
pub(crate) struct Writer {
    run: Arc<Run>,
    ledger: Arc<Ledger>,
    client: Client,
    number: usize,
    /// Events a second.
    rate: f64,
    next: u64,
    due: Instant,
    /// Of its own entities, from their first on.
    versions: Vec<u64>,
    /// Of shared ones, as told last.
    shared: Vec<u64>,
    cursor: u64,
    /// The position that was answered last.
    last: u64,
    done: VecDeque<(u64, Appended)>,
}

impl Writer {
    pub(crate) fn new(
        run: &Arc<Run>,
        ledger: &Arc<Ledger>,
        client: Client,
        number: usize,
        rate: f64,
    ) -> Self {
        Self {
            run: run.clone(),
            ledger: ledger.clone(),
            client,
            number,
            rate,
            next: 0,
            due: Instant::now(),
            versions: vec![0; ledger.story.entities_per_writer()],
            shared: vec![0; crate::story::SHARED],
            cursor: 0,
            last: 0,
            done: VecDeque::new(),
        }
    }

    fn story(&self) -> &Story {
        &self.ledger.story
    }

    /// One batch after the other, until the run stops.
    pub(crate) async fn append(mut self) -> Result<(), Fault> {
        while !self.run.is_stopping() {
            sleep_until(self.due).await;
            let sent = self.prepare();
            let draw = mixed(sent.number ^ (self.number as u64) << 32);
            if self.story().kind(self.number, sent.number) == Kind::Shared {
                self.append_shared(sent).await?;
                continue;
            }
            if draw.is_multiple_of(40) {
                self.is_refused(&sent).await?;
            }
            let (answer, is_again) = self
                .run
                .call("append", || self.client.append(&sent.batch))
                .await?;
            let appended = answer.map_err(|e| self.refused(sent.number, &e))?;
            self.run
                .record_events("append", appended.versions.len() as u64);
            self.answered(&Sent { is_again, ..sent }, appended)?;
            self.look_back(draw >> 8).await?;
        }
        Ok(())
    }

    /// Many batches in flight over a stream, until the run stops.
    pub(crate) async fn append_stream(mut self) -> Result<(), Fault> {
        let mut in_flight = VecDeque::new();
        while !(self.run.is_stopping() && in_flight.is_empty()) {
            // Whether there is a server.
            self.run.ask("health", || self.client.is_serving()).await?;
            let (mut sender, answers) = self.client.append_stream();
            let mut opened = true;
            for sent in &mut in_flight {
                let sent: &mut Sent = sent;
                sent.is_again = true;
                opened &= sender.send(&sent.batch).await.is_ok();
            }
            if opened {
                self.stream(sender, answers, &mut in_flight).await?;
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Until the stream is lost, or all is answered after the run has stopped.
    async fn stream(
        &mut self,
        mut sender: annals::client::AppendSender,
        mut answers: AppendAnswers,
        in_flight: &mut VecDeque<Sent>,
    ) -> Result<(), Fault> {
        let mut request = 0;
        let mut silent_since = Instant::now();
        loop {
            let is_stopping = self.run.is_stopping();
            if is_stopping && in_flight.is_empty() {
                return Ok(());
            }
            let has_room = in_flight.len() < IN_FLIGHT && !is_stopping;
            tokio::select! {
                answer = timeout_at(silent_since + SILENCE, answers.recv()), if !in_flight.is_empty() => {
                    let answer = answer.map_err(|_| Fault(format!("a stream was silent for {SILENCE:?}")))?;
                    silent_since = Instant::now();
                    let outcome = match answer {
                        Ok(Some((id, outcome))) => {
                            ensure!(id == request, "a stream answered request {id} after {request} others");
                            request += 1;
                            outcome
                        }
                        Ok(None) => return Ok(()),
                        Err(e) if is_transient(&e) => return Ok(()),
                        Err(e) => return Err(Fault(format!("a stream of appends: {}", chain(&e)))),
                    };
                    match outcome {
                        Ok(appended) => {
                            let sent = in_flight.pop_front();
                            let sent = sent.ok_or_else(|| Fault("a stream answered once too often".to_owned()))?;
                            let events = appended.versions.len() as u64;
                            self.run.record("append over a stream", sent.at.elapsed(), events);
                            self.answered(&sent, appended)?;
                        }
                        Err(e) if is_transient(&e) => return Ok(()),
                        Err(e) => return Err(self.refused(in_flight.front().map_or(0, |sent| sent.number), &e)),
                    }
                }
                () = sleep_until(self.due), if has_room => {
                    if in_flight.is_empty() {
                        silent_since = Instant::now();
                    }
                    let sent = self.prepare();
                    let is_lost = sender.send(&sent.batch).await.is_err();
                    in_flight.push_back(sent);
                    if is_lost {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The next batch, with the guards and cursors that hold once those before it are appended; of a shared entity
    /// without, since others append to it meanwhile.
    fn prepare(&mut self) -> Sent {
        let (writer, number) = (self.number, self.next);
        self.next += 1;
        let story = self.ledger.story.clone();
        let kind = story.kind(writer, number);
        let mut batch = Batch::new(story.events(writer, number));
        let place = |at| Place {
            writer,
            batch: number,
            at,
        };
        let own = writer * story.entities_per_writer();
        if kind == Kind::Guarded {
            let entity = story.entity_of(place(0));
            let version = Expect::Version(self.versions[entity - own]);
            batch = batch.expecting(story.entity(entity), version);
        }
        if kind == Kind::Once {
            batch = batch.unless(once(writer, number), self.last / 2);
        }
        if kind == Kind::Cursor {
            batch = batch.with_cursor(CursorRecord {
                name: cursor_name(writer),
                position: self.last,
                expected: Some(self.cursor),
            });
            self.cursor = self.last;
        }
        let mut versions = Vec::new();
        if kind != Kind::Shared {
            for at in 0..batch.events.len() {
                let version = &mut self.versions[story.entity_of(place(at)) - own];
                *version += 1;
                versions.push(*version);
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        let pause = Duration::from_secs_f64(batch.events.len() as f64 / self.rate);
        let earliest = Instant::now().checked_sub(CATCH_UP).unwrap_or(self.due);
        self.due = self.due.max(earliest) + pause;
        self.ledger.sending(writer, number);
        Sent {
            number,
            batch,
            versions,
            is_again: false,
            at: std::time::Instant::now(),
        }
    }

    /// Checks the answer of a batch, and keeps it.
    fn answered(&mut self, sent: &Sent, appended: Appended) -> Result<(), Fault> {
        let (writer, number) = (self.number, sent.number);
        let events = sent.batch.events.len();
        let whole = appended.last_position + 1 - appended.first_position == events as u64;
        ensure!(
            whole && appended.versions.len() == events,
            "batch {number} of writer {writer} has {events} events, and was answered as {appended:?}"
        );
        ensure!(
            sent.is_again || !appended.duplicate,
            "batch {number} of writer {writer} was sent once, and was answered as a duplicate: {appended:?}"
        );
        ensure!(
            sent.versions.is_empty() || sent.versions == appended.versions,
            "batch {number} of writer {writer} got versions {:?} instead of {:?}",
            appended.versions,
            sent.versions
        );
        ensure!(
            appended.first_position > self.last,
            "batch {number} of writer {writer} stands at {}, one before it at {}",
            appended.first_position,
            self.last
        );
        self.last = appended.last_position;
        let text_bytes =
            |event: &NewEvent| event.payload.as_bytes().len() + event.entity_id.as_bytes().len();
        let bytes = sent.batch.events.iter().map(text_bytes).sum();
        let stands = Stands {
            first: appended.first_position,
            recorded_at: appended.recorded_at.as_micros(),
        };
        let answered = Answered {
            writer,
            batch: number,
            stands,
        };
        self.ledger.answered(answered, &appended.versions, bytes)?;
        self.done.push_back((number, appended));
        if self.done.len() > REPEATED {
            self.done.pop_front();
        }
        Ok(())
    }

    /// Others append to the entity too: tries until its guard holds.
    async fn append_shared(&mut self, mut sent: Sent) -> Result<(), Fault> {
        let (writer, number) = (self.number, sent.number);
        let story = self.ledger.story.clone();
        let entity = story.entity_of(Place {
            writer,
            batch: number,
            at: 0,
        });
        let shared = entity - story.writers() * story.entities_per_writer();
        loop {
            let version = self.shared[shared];
            let batch = sent
                .batch
                .clone()
                .expecting(story.entity(entity), Expect::Version(version));
            let (answer, is_again) = self
                .run
                .call("append", || self.client.append(&batch))
                .await?;
            sent.is_again |= is_again;
            match answer {
                Ok(appended) => {
                    self.run.record_events("append", 1);
                    let expected = appended.duplicate || appended.versions == [version + 1];
                    ensure!(expected, "guarded by version {version}: {appended:?}");
                    self.shared[shared] = appended.versions.first().copied().unwrap_or(version);
                    return self.answered(&sent, appended);
                }
                Err(e) => match e.guard_failure() {
                    Some(GuardFailure::Entity { found, .. }) if *found > version => {
                        self.shared[shared] = *found;
                    }
                    _ => return Err(self.refused(number, &e)),
                },
            }
        }
    }

    /// A batch with a guard that does not hold is refused, and says what was found.
    async fn is_refused(&self, sent: &Sent) -> Result<(), Fault> {
        let story = self.story();
        let place = Place {
            writer: self.number,
            batch: sent.number,
            at: 0,
        };
        let entity = story.entity(story.entity_of(place));
        // The versions are those that the batch will give.
        let found = sent.versions.first().map_or(0, |version| version - 1);
        let wrong = Expect::Version(found + 1 + sent.number % 5);
        let batch = Batch::new(sent.batch.events.clone()).expecting(entity, wrong);
        let (answer, _) = self
            .run
            .call("append refused", || self.client.append(&batch))
            .await?;
        match answer {
            Err(e) => match e.guard_failure() {
                Some(GuardFailure::Entity { found: told, .. }) if *told == found => Ok(()),
                _ => Err(Fault(format!(
                    "guarded by {wrong} at version {found}: {}",
                    chain(&e)
                ))),
            },
            Ok(appended) => Err(Fault(format!(
                "guarded by {wrong} at version {found}: {appended:?}"
            ))),
        }
    }

    /// Repeats, altered repeats, tags that are there, and the cursor.
    async fn look_back(&mut self, draw: u64) -> Result<(), Fault> {
        let writer = self.number;
        let Some((number, appended)) = self
            .done
            .get((draw >> 16) as usize % self.done.len().max(1))
            .cloned()
        else {
            return Ok(());
        };
        let story = self.ledger.story.clone();
        match draw % 400 {
            0..8 => {
                // A guard that failed: repeats are told before guards are looked at.
                let entity = story.entity(story.entity_of(Place {
                    writer,
                    batch: number,
                    at: 0,
                }));
                let batch =
                    Batch::new(story.events(writer, number)).expecting(entity, Expect::Absent);
                let again = self
                    .run
                    .ask("append again", || self.client.append(&batch))
                    .await?;
                let expected = Appended {
                    duplicate: true,
                    ..appended
                };
                ensure!(
                    again == expected,
                    "batch {number} of writer {writer}: {expected:?} became {again:?}"
                );
            }
            8..10 => {
                let mut batch = Batch::new(story.events(writer, number));
                if let Some(event) = batch.events.last_mut() {
                    event.payload = Text::from("{}");
                }
                let (answer, _) = self
                    .run
                    .call("append altered", || self.client.append(&batch))
                    .await?;
                let is_told = matches!(&answer, Err(e) if e.kind() == ErrorKind::AlreadyExists);
                ensure!(
                    is_told,
                    "altered, batch {number} of writer {writer} was answered with {answer:?}"
                );
            }
            10..14 if story.kind(writer, number) == Kind::Once => {
                let event = NewEvent::new(story.entity(0), "order.opened", "{}");
                let batch = Batch::new([event]).unless(once(writer, number), 0);
                let (answer, _) = self
                    .run
                    .call("append refused", || self.client.append(&batch))
                    .await?;
                let failure = answer.as_ref().err().and_then(ClientError::guard_failure);
                let is_told = matches!(
                    failure,
                    Some(GuardFailure::NoMatch { found, .. }) if *found == appended.first_position
                );
                ensure!(
                    is_told,
                    "guarded against a tag at {}: {answer:?}",
                    appended.first_position
                );
            }
            14..20 => {
                let name = cursor_name(writer).to_string();
                let cursor = self
                    .run
                    .ask("cursor", || self.client.cursor(name.clone()))
                    .await?;
                ensure!(
                    cursor == self.cursor,
                    "cursor {name} is {cursor}, and {} was written",
                    self.cursor
                );
            }
            _ => {}
        }
        Ok(())
    }

    fn refused(&self, number: u64, error: &ClientError) -> Fault {
        Fault(format!(
            "batch {number} of writer {}: {}",
            self.number,
            chain(error)
        ))
    }
}

fn cursor_name(writer: usize) -> Text {
    Text::from(format!("cursor-{writer}"))
}

fn once(writer: usize, batch: u64) -> Query {
    let tags = vec![Text::from(Story::once_tag(writer, batch))];
    let items = vec![QueryItem {
        tags,
        event_types: Vec::new(),
    }];
    Query { items }
}
