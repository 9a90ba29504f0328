//! A task that ends with whoever waits for it: a client that is gone must not be read from.

use tokio::task::JoinHandle;
use tonic::Status;
use tracing::Instrument;

use super::status::Refusal;
use crate::types::kind::Kind;

/// The half of a stream that reads requests while the other half answers.
pub(super) struct AbortOnDrop<T>(JoinHandle<T>);

impl<T: Send + 'static> AbortOnDrop<Result<T, Status>> {
    /// Starts it, in the span of the call.
    pub(super) fn spawn(task: impl Future<Output = Result<T, Status>> + Send + 'static) -> Self {
        Self(tokio::spawn(task.in_current_span()))
    }

    /// How it ended.
    pub(super) async fn join(mut self) -> Result<T, Status> {
        (&mut self.0).await.unwrap_or_else(|e| {
            Err(Refusal::new(Kind::Internal, "TASK_FAILED", e.to_string()).into_status())
        })
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
