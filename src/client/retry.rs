//! When and how often to try again.

use std::time::{Duration, Instant};

use super::{ClientError, ClientOptions, event_ids::random};

const WAIT_FIRST: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The tries of one call.
#[derive(Debug)]
pub(super) struct Retry {
    left: u32,
    until: Option<Instant>,
    wait: Duration,
}

impl Retry {
    /// So many as the options say.
    pub(super) fn of(options: &ClientOptions) -> Self {
        Self {
            left: options.retries,
            until: None,
            wait: WAIT_FIRST,
        }
    }

    /// As many as fit into a time.
    pub(super) fn within(time: Duration) -> Self {
        Self {
            left: u32::MAX,
            until: Instant::now().checked_add(time),
            wait: WAIT_FIRST,
        }
    }

    /// Waits for the next try; gives the error back if there is none.
    pub(super) async fn after(&mut self, error: ClientError) -> Result<(), ClientError> {
        let in_time = self.until.is_none_or(|until| Instant::now() < until);
        if self.left == 0 || !in_time || !error.is_transient() {
            return Err(error);
        }
        self.left -= 1;
        let wait = self
            .wait
            .max(error.retry_after().unwrap_or_default().min(WAIT_MAX));
        tracing::debug!(%error, ?wait, "trying again");
        tokio::time::sleep(jittered(wait)).await;
        self.wait = (self.wait * 2).min(WAIT_MAX);
        Ok(())
    }
}

/// Between half and all of it, so that clients that failed together do not come back together.
fn jittered(wait: Duration) -> Duration {
    let [a, b, ..] = random().to_be_bytes();
    let fraction = u32::from(u16::from_be_bytes([a, b]));
    wait / 2 + wait / 2 * fraction / u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_spread_over_its_upper_half() {
        let wait = Duration::from_millis(50);
        for _ in 0..1000 {
            let jittered = jittered(wait);
            assert!(jittered >= wait / 2 && jittered <= wait);
        }
        assert!(jittered(WAIT_MAX) <= WAIT_MAX);
    }
}
