//! Which queries are cancelled, and what runs of them. A query is what one `GetFlightInfo` was asked for: all streams of
//! its tickets.
//!
//! The marks are in memory, of bounded number, and forgotten when the server ends: a ticket of a query that was
//! cancelled before is good again then, until it expires. After [`TICKET_LIFE`] no ticket of a cancelled query is left,
//! since they are not renewed any more, and its mark goes.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{super::status::Refusal, ticket::QueryId};
use crate::types::{
    kind::Kind,
    limits::{CANCELLED_QUERIES_MAX, TICKET_LIFE},
};

/// Those of a server. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Queries(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    running: HashMap<QueryId, Streams>,
    cancelled: HashSet<QueryId>,
    /// The same, in the order that they were cancelled in.
    oldest_first: VecDeque<(Instant, QueryId)>,
}

struct Streams {
    cancel: CancellationToken,
    count: usize,
}

/// A stream of a query, as long as it lives.
pub(super) struct Running {
    queries: Queries,
    query: QueryId,
    cancel: CancellationToken,
}

impl Queries {
    /// Ends all streams of a query, and refuses those to come.
    pub(super) fn cancel(&self, query: QueryId) {
        let mut state = self.0.lock();
        state.mark(query, Instant::now());
        let running = state.running.get(&query);
        let cancel = running.map(|streams| streams.cancel.clone());
        drop(state);
        // Wakes the streams, whose ends come back here.
        if let Some(cancel) = cancel {
            cancel.cancel();
        }
    }

    /// Refuses what was cancelled.
    pub(super) fn check(&self, query: QueryId) -> Result<(), Refusal> {
        self.0.lock().check(query)
    }

    /// Begins a stream of a query.
    pub(super) fn run(&self, query: QueryId) -> Result<Running, Refusal> {
        let mut state = self.0.lock();
        state.check(query)?;
        let streams = state.running.entry(query).or_insert_with(|| Streams {
            cancel: CancellationToken::new(),
            count: 0,
        });
        streams.count += 1;
        Ok(Running {
            queries: self.clone(),
            query,
            cancel: streams.cancel.clone(),
        })
    }
}

impl State {
    fn check(&self, query: QueryId) -> Result<(), Refusal> {
        if self.cancelled.contains(&query) {
            let told = "the query of the ticket was cancelled: ask GetFlightInfo for a new one";
            return Err(Refusal::new(Kind::Refused, "QUERY_CANCELLED", told));
        }
        Ok(())
    }

    fn mark(&mut self, query: QueryId, now: Instant) {
        let is_over = |at: &Instant| now.duration_since(*at) > TICKET_LIFE;
        while let Some((at, query)) = self.oldest_first.front()
            && (is_over(at) || self.oldest_first.len() >= CANCELLED_QUERIES_MAX)
        {
            self.cancelled.remove(query);
            self.oldest_first.pop_front();
        }
        if self.cancelled.insert(query) {
            self.oldest_first.push_back((now, query));
        }
    }
}

impl Running {
    /// Returns once the query is cancelled.
    pub(super) async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.queries.0.lock();
        if let Some(streams) = state.running.get_mut(&self.query) {
            streams.count -= 1;
            if streams.count == 0 {
                state.running.remove(&self.query);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn id(n: usize) -> QueryId {
        QueryId::from_u128(n as u128)
    }

    #[tokio::test]
    async fn a_cancelled_query_ends_with_all_its_streams_and_no_other_does() {
        let queries = Queries::default();
        let [one, two] = [(); 2].map(|()| queries.run(id(1)).unwrap());
        let other = queries.run(id(2)).unwrap();
        queries.cancel(id(1));
        one.cancelled().await;
        two.cancelled().await;
        assert!(!other.cancel.is_cancelled());
        assert!(queries.run(id(1)).is_err());
        assert!(queries.run(id(2)).is_ok());
        drop((one, two, other));
        assert!(queries.0.lock().running.is_empty());
    }

    #[test]
    fn marks_are_forgotten_with_the_last_ticket_and_beyond_their_number() {
        let mut state = State::default();
        let begun = Instant::now();
        state.mark(id(0), begun);
        state.mark(id(1), begun + TICKET_LIFE);
        assert!(state.check(id(0)).is_err());
        let later = begun + TICKET_LIFE + Duration::from_secs(1);
        state.mark(id(2), later);
        state.mark(id(2), later);
        assert!(state.check(id(0)).is_ok());
        for n in 3..=CANCELLED_QUERIES_MAX {
            state.mark(id(n), later);
        }
        assert!(state.check(id(1)).is_err());
        state.mark(id(CANCELLED_QUERIES_MAX + 1), later);
        assert!(state.check(id(1)).is_ok() && state.check(id(2)).is_err());
        assert_eq!(state.cancelled.len(), CANCELLED_QUERIES_MAX);
    }
}
