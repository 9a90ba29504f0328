//! The works that write.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{sync::Notify, task::JoinSet};

use super::{
    super::error::CliError,
    Bench, Outcome,
    material::Feed,
    meter::{Meter, Window, add_up},
};
use crate::{
    client::{AppendAnswers, AppendSender, Client, Start},
    types::{
        append::{Appended, Batch, Query, QueryItem},
        read::Filter,
        text::Text,
    },
};

/// Subscriptions over one connection: below the number of streams that a server allows.
const SUBSCRIBERS_A_CONNECTION: u32 = 100;

/// Batches, each writer waiting for its answer; if there shall be idle subscribers, once more with them, and once more
/// without, since a log that grows gets slower by itself.
pub(super) async fn append(bench: &Bench) -> Result<Outcome, CliError> {
    let alone = append_for(bench, bench.window()).await?;
    if bench.args.idle_subscribers == 0 {
        return Ok(alone.figures().into());
    }
    let idle = idle_subscribers(bench).await?;
    let watched = append_for(bench, bench.window()).await?;
    drop(idle);
    let after = append_for(bench, bench.window()).await?.figures();
    let (alone, watched) = (alone.figures(), watched.figures());
    let without = f64::midpoint(alone.events_per_second, after.events_per_second);
    let more = json!({
        "subscribers": bench.args.idle_subscribers,
        "with_them": watched,
        "after_them": after,
        "share_of_events_per_second": watched.events_per_second / without,
    });
    Ok(Outcome {
        figures: alone,
        more: vec![("idle_subscribers", more)],
    })
}

async fn append_for(bench: &Bench, window: Window) -> Result<Meter, CliError> {
    let mut tasks = JoinSet::new();
    for (writer, client) in bench.clients() {
        let mut feed = bench.material.feed(writer, bench.writers);
        let events = bench.batch;
        tasks.spawn(async move {
            let mut meter = Meter::new(window);
            let mut batch = Batch::default();
            loop {
                feed.fill(&mut batch, events);
                let started = Instant::now();
                if window.is_over(started) {
                    return Ok(meter);
                }
                let appended = client.append(&batch).await?;
                meter.record(started, Instant::now(), check(&appended, events)?);
            }
        });
    }
    add_up(tasks, window).await
}

/// The number of events, if the positions say the same.
fn check(appended: &Appended, events: usize) -> Result<u64, CliError> {
    let positions = (appended.last_position + 1).saturating_sub(appended.first_position);
    if positions != events as u64 || appended.versions.len() != events {
        return Err(CliError::Failed(format!(
            "{events} events were appended, the answer is about {positions}: please report this"
        )));
    }
    Ok(positions)
}

async fn idle_subscribers(bench: &Bench) -> Result<JoinSet<()>, CliError> {
    let mut waiting = JoinSet::new();
    let mut client = bench.args.connect.client().await?;
    for n in 0..bench.args.idle_subscribers {
        if n > 0 && n % SUBSCRIBERS_A_CONNECTION == 0 {
            client = bench.args.connect.client().await?;
        }
        let filter = Filter {
            tags: vec![Text::from(format!("bench-nobody-{n}"))],
            ..Filter::default()
        };
        let mut subscription = client.subscribe(filter, Start::Head, None).await?;
        waiting.spawn(async move { while subscription.next().await.is_ok() {} });
    }
    Ok(waiting)
}

/// Batches over streams, without waiting for answers.
pub(super) async fn stream_append(bench: &Bench) -> Result<Outcome, CliError> {
    let window = bench.window();
    let mut tasks = JoinSet::new();
    for (writer, client) in bench.clients() {
        let feed = bench.material.feed(writer, bench.writers);
        let (events, in_flight) = (bench.batch, bench.args.in_flight as usize);
        tasks.spawn(async move {
            let (sender, answers) = client.append_stream();
            let flow = Arc::new(Flow::new(in_flight));
            let sending = tokio::spawn(send(sender, feed, events, flow.clone(), window));
            let meter = receive(answers, events, &flow, window).await?;
            sending
                .await
                .map_err(|e| CliError::Failed(format!("a task of the benchmark failed: {e}")))??;
            Ok(meter)
        });
    }
    Ok(add_up(tasks, window).await?.figures().into())
}

async fn send(
    mut sender: AppendSender,
    mut feed: Feed,
    events: usize,
    flow: Arc<Flow>,
    window: Window,
) -> Result<(), CliError> {
    let mut batch = Batch::default();
    let mut sent = 0;
    loop {
        flow.room_after(sent).await;
        feed.fill(&mut batch, events);
        let now = Instant::now();
        if window.is_over(now) {
            return Ok(());
        }
        flow.sent(sent, now);
        sender.send(&batch).await?;
        sent += 1;
    }
}

async fn receive(
    mut answers: AppendAnswers,
    events: usize,
    flow: &Flow,
    window: Window,
) -> Result<Meter, CliError> {
    let mut meter = Meter::new(window);
    let mut last_position = 0;
    while let Some((request_id, outcome)) = answers.recv().await? {
        let appended = outcome?;
        let events = check(&appended, events)?;
        if appended.first_position <= last_position {
            return Err(CliError::Failed(format!(
                "position {} came after {last_position} in one stream: please report this",
                appended.first_position
            )));
        }
        last_position = appended.last_position;
        meter.record(flow.when(request_id), Instant::now(), events);
        flow.answered(request_id + 1);
    }
    Ok(meter)
}

/// How far a stream's sender may go ahead of its answers, and when each batch was sent.
///
/// A full sender waits until half is answered: one wake-up for each batch would cost more than the batch. `answered` and
/// `wanted` are ordered with each other (`SeqCst`): either the receiver sees what the sender waits for, or the sender
/// sees that it is there.
struct Flow {
    begun: Instant,
    /// Nanoseconds since `begun`, by request id modulo the number in flight.
    sent: Vec<AtomicU64>,
    answered: AtomicU64,
    wanted: AtomicU64,
    room: Notify,
}

impl Flow {
    fn new(in_flight: usize) -> Self {
        Self {
            begun: Instant::now(),
            sent: (0..in_flight).map(|_| AtomicU64::new(0)).collect(),
            answered: AtomicU64::new(0),
            wanted: AtomicU64::new(u64::MAX),
            room: Notify::new(),
        }
    }

    fn slot(&self, request_id: u64) -> &AtomicU64 {
        let slots = self.sent.len() as u64;
        let slot = usize::try_from(request_id % slots).expect("below a length");
        &self.sent[slot]
    }

    async fn room_after(&self, sent: u64) {
        let in_flight = self.sent.len() as u64;
        if sent - self.answered.load(Ordering::SeqCst) < in_flight {
            return;
        }
        let wanted = sent - in_flight / 2;
        self.wanted.store(wanted, Ordering::SeqCst);
        while self.answered.load(Ordering::SeqCst) < wanted {
            self.room.notified().await;
        }
        self.wanted.store(u64::MAX, Ordering::SeqCst);
    }

    fn sent(&self, request_id: u64, at: Instant) {
        let nanos = u64::try_from((at - self.begun).as_nanos()).unwrap_or(u64::MAX);
        self.slot(request_id).store(nanos, Ordering::Release);
    }

    fn when(&self, request_id: u64) -> Instant {
        self.begun + Duration::from_nanos(self.slot(request_id).load(Ordering::Acquire))
    }

    fn answered(&self, count: u64) {
        self.answered.store(count, Ordering::SeqCst);
        if count >= self.wanted.load(Ordering::SeqCst) {
            self.room.notify_one();
        }
    }
}

/// An append guarded by "no event has this tag", the tag being new, and the same without the guard, in turns.
pub(super) async fn no_match(bench: &Bench) -> Result<Outcome, CliError> {
    bench.prepare().await?;
    let window = bench.window();
    let (mut guarded, mut plain) = (JoinSet::new(), JoinSet::new());
    for (writer, client) in bench.clients() {
        let feed = bench.material.feed(writer, bench.writers);
        let events = bench.batch;
        let (guarded_done, guarded_meter) = tokio::sync::oneshot::channel();
        plain.spawn(async move {
            let (guarded, plain) = in_turns(client, feed, events, window).await?;
            guarded_done.send(guarded).ok();
            Ok(plain)
        });
        guarded.spawn(async move {
            let gone = |_| CliError::Failed("a writer of the benchmark failed".into());
            guarded_meter.await.map_err(gone)
        });
    }
    let plain = add_up(plain, window).await?.figures();
    let guarded = add_up(guarded, window).await?.figures();
    Ok(Outcome {
        figures: guarded,
        more: vec![
            ("unguarded", json!(plain)),
            (
                "guarded_to_unguarded_p50",
                json!(guarded.latency_us.p50 / plain.latency_us.p50),
            ),
        ],
    })
}

async fn in_turns(
    client: Client,
    mut feed: Feed,
    events: usize,
    window: Window,
) -> Result<(Meter, Meter), CliError> {
    let (mut guarded, mut plain) = (Meter::new(window), Meter::new(window));
    let mut batch = Batch::default();
    for turn in 0_u64.. {
        feed.fill(&mut batch, events);
        // Ids of events are never used twice, and so a good source of tags that are new.
        let tag = Text::from(format!("bench-{}", crate::client::new_event_id()));
        for event in &mut batch.events {
            event.tags = vec![tag.clone()];
        }
        batch.guards.clear();
        let is_guarded = turn % 2 == 0;
        if is_guarded {
            let item = QueryItem {
                event_types: Vec::new(),
                tags: vec![tag],
            };
            batch = batch.unless(Query { items: vec![item] }, 0);
        }
        let started = Instant::now();
        if window.is_over(started) {
            break;
        }
        let appended = client.append(&batch).await?;
        let meter = if is_guarded { &mut guarded } else { &mut plain };
        meter.record(started, Instant::now(), check(&appended, events)?);
    }
    Ok((guarded, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_sender_waits_until_half_is_answered() {
        let flow = Arc::new(Flow::new(8));
        flow.room_after(7).await;
        let waiting = tokio::spawn({
            let flow = flow.clone();
            async move { flow.room_after(8).await }
        });
        tokio::task::yield_now().await;
        for answered in 1..=3 {
            flow.answered(answered);
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
        }
        flow.answered(4);
        waiting.await.unwrap();
    }
}
