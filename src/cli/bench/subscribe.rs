//! The work that subscribes: how fast the log is caught up with, then how late events arrive.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{
    super::error::CliError,
    Bench, Outcome,
    meter::{Meter, Window, add_up},
    read::check_positions,
};
use crate::{
    client::{AppendAnswers, AppendSender, Client, Start, Subscribed, Subscription},
    types::{append::Batch, id::Position, read::Filter},
};

const TICK: Duration = Duration::from_millis(1);
/// For what was acknowledged to arrive, after the end.
const ARRIVAL_MAX: Duration = Duration::from_secs(10);

/// When positions up to and including this one were there.
type Seen = Vec<(Position, Instant)>;

pub(super) async fn subscribe(bench: &Bench) -> Result<Outcome, CliError> {
    bench.prepare().await?;
    let catching_up = catch_up(bench).await?;
    let live = live(bench).await?;
    let figures = live.figures();
    Ok(Outcome {
        figures: catching_up.figures(),
        more: vec![(
            "live",
            json!({
                "events_per_second": figures.events_per_second,
                "rate_asked_for": bench.args.rate,
                "latency_us": figures.latency_us,
            }),
        )],
    })
}

/// From the beginning to the head, again and again.
async fn catch_up(bench: &Bench) -> Result<Meter, CliError> {
    let window = bench.window();
    let mut tasks = JoinSet::new();
    for (_, client) in bench.clients() {
        tasks.spawn(async move {
            let mut meter = Meter::new(window);
            while !window.is_over(Instant::now()) {
                let started = Instant::now();
                if catch_up_once(&client, &mut meter, window).await? {
                    meter.record(started, Instant::now(), 0);
                }
            }
            Ok(meter)
        });
    }
    add_up(tasks, window).await
}

/// False if time was over first.
async fn catch_up_once(
    client: &Client,
    meter: &mut Meter,
    window: Window,
) -> Result<bool, CliError> {
    let mut subscription = client
        .subscribe(Filter::default(), Start::After(0), None)
        .await?;
    let mut last = None;
    loop {
        match subscription.next().await? {
            Subscribed::Events(batch) => {
                let count = check_positions(&batch, &mut last)?;
                let now = Instant::now();
                meter.record_events(now, count);
                if window.is_over(now) {
                    return Ok(false);
                }
            }
            Subscribed::CaughtUp(_) => return Ok(true),
            Subscribed::Checkpoint(_) => {}
        }
    }
}

/// Events at a steady rate, and how long after its acknowledgement each subscriber has each of them.
async fn live(bench: &Bench) -> Result<Meter, CliError> {
    // Known before the first event is sent: nothing may be missed.
    let (ended, end) = watch::channel(None);
    let mut subscribers = JoinSet::new();
    for (_, client) in bench.clients() {
        let subscription = client
            .subscribe(Filter::default(), Start::Head, None)
            .await?;
        subscribers.spawn(arrivals(subscription, end.clone()));
    }
    let writer = bench.args.connect.client().await?;
    let (sender, answers) = writer.append_stream();
    let window = bench.window();
    let sending = tokio::spawn(send_steadily(
        sender,
        bench.material.feed(0, 1),
        bench.batch,
        bench.args.rate,
        window,
    ));
    let acknowledged = acknowledgements(answers).await?;
    sending
        .await
        .map_err(|e| CliError::Failed(format!("a task of the benchmark failed: {e}")))??;
    let last = acknowledged.last().map_or(0, |(position, _)| *position);
    ended.send_replace(Some(last));

    let mut meter = Meter::new(window);
    while let Some(done) = subscribers.join_next().await {
        let arrived =
            done.map_err(|e| CliError::Failed(format!("a task of the benchmark failed: {e}")))??;
        compare(&acknowledged, &arrived, bench.batch as u64, &mut meter)?;
    }
    Ok(meter)
}

async fn send_steadily(
    mut sender: AppendSender,
    mut feed: super::material::Feed,
    events: usize,
    rate: u32,
    window: Window,
) -> Result<(), CliError> {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let begun = Instant::now();
    let mut sent: u128 = 0;
    let mut batch = Batch::default();
    while !window.is_over(Instant::now()) {
        ticks.tick().await;
        let due = begun.elapsed().as_micros() * u128::from(rate) / 1_000_000;
        while sent + events as u128 <= due {
            feed.fill(&mut batch, events);
            sender.send(&batch).await?;
            sent += events as u128;
        }
    }
    Ok(())
}

async fn acknowledgements(mut answers: AppendAnswers) -> Result<Seen, CliError> {
    let mut seen = Seen::new();
    while let Some((_, outcome)) = answers.recv().await? {
        seen.push((outcome?.last_position, Instant::now()));
    }
    Ok(seen)
}

async fn arrivals(
    mut subscription: Subscription,
    mut end: watch::Receiver<Option<Position>>,
) -> Result<Seen, CliError> {
    let mut seen = Seen::new();
    let mut last = None;
    let mut until: Option<Position> = None;
    while until.is_none_or(|until| subscription.position() < until) {
        tokio::select! {
            delivery = subscription.next() => {
                if let Subscribed::Events(batch) = delivery? {
                    let now = Instant::now();
                    check_positions(&batch, &mut last)?;
                    seen.push((subscription.position(), now));
                }
            }
            _ = end.changed(), if until.is_none() => until = *end.borrow(),
            () = tokio::time::sleep(ARRIVAL_MAX), if until.is_some() => {
                return Err(CliError::Failed(format!(
                    "a subscriber has nothing after position {} although {until:?} is acknowledged: please report this",
                    subscription.position()
                )));
            }
        }
    }
    Ok(seen)
}

/// An event may well arrive before its acknowledgement: then it took no time.
fn compare(
    acknowledged: &Seen,
    arrived: &Seen,
    events: u64,
    meter: &mut Meter,
) -> Result<(), CliError> {
    let mut arrived = arrived.iter().peekable();
    for (position, at) in acknowledged {
        while arrived.next_if(|(until, _)| until < position).is_some() {}
        let Some((_, arrival)) = arrived.peek() else {
            return Err(CliError::Failed(format!(
                "position {position} is acknowledged and did not arrive: please report this"
            )));
        };
        if meter.counts(*at) {
            meter.record_latency(arrival.saturating_duration_since(*at), events);
            meter.record_events(*at, events);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_from_acknowledgement_to_the_batch_that_brings_the_event() {
        let window = Window::new(Duration::ZERO, Duration::from_mins(1));
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let acknowledged = vec![(1, at(10)), (2, at(20)), (3, at(30))];
        let arrived = vec![(1, at(5)), (3, at(32))];
        let mut meter = Meter::new(window);
        compare(&acknowledged, &arrived, 1, &mut meter).unwrap();
        let latency = meter.latency();
        assert!((latency.max / 12_000.0 - 1.0).abs() < 0.01);
        assert!((latency.p50 / 2_000.0 - 1.0).abs() < 0.01);
        assert!(compare(&vec![(4, at(40))], &arrived, 1, &mut meter).is_err());
    }
}
