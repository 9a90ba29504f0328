//! Verification of what a server has on disk.

use tonic::Streaming;

use super::{Client, ClientError, retry::Retry};
use crate::proto::{self, verify_integrity_response::Message};

/// A verification on its way. Dropping it gives it up.
#[derive(Debug)]
pub struct Verification {
    stream: Streaming<proto::VerifyIntegrityResponse>,
}

/// What a verification tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verifying {
    /// So far.
    Progress {
        /// Bytes that were read.
        done: u64,
        /// Bytes that are read in all.
        total: u64,
    },
    /// Something on disk is not what was written.
    Fault(IntegrityFault),
    /// All was read: the last one.
    Done(IntegritySummary),
}

/// Something on disk is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntegrityFault {
    /// Relative to the data directory.
    pub path: String,
    /// Where in the file.
    pub offset: u64,
    /// What was found.
    pub what: String,
}

/// What was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntegritySummary {
    /// Files read.
    pub files: u64,
    /// Events found, in whichever form.
    pub events: u64,
    /// Things that are wrong.
    pub faults: u64,
}

impl Client {
    /// Has the server read every file of this client's tenant, check every checksum, and compare what the log, the
    /// segments and their indexes say of the same events. Reads and appends go on.
    pub async fn verify(&self) -> Result<Verification, ClientError> {
        let request = proto::VerifyIntegrityRequest {};
        let mut retry = Retry::of(&self.options);
        loop {
            match self.admin.clone().verify_integrity(request).await {
                Ok(answer) => {
                    let stream = answer.into_inner();
                    return Ok(Verification { stream });
                }
                Err(status) => retry.after(status.into()).await?,
            }
        }
    }
}

impl Verification {
    /// What comes next; nothing comes after [`Verifying::Done`].
    pub async fn next(&mut self) -> Result<Verifying, ClientError> {
        loop {
            let message = self.stream.message().await?.ok_or(ClientError::Ended)?;
            return Ok(match message.message {
                Some(Message::Progress(progress)) => Verifying::Progress {
                    done: progress.bytes_done,
                    total: progress.bytes_total,
                },
                Some(Message::Fault(fault)) => Verifying::Fault(IntegrityFault {
                    path: fault.path,
                    offset: fault.offset,
                    what: fault.what,
                }),
                Some(Message::Summary(summary)) => Verifying::Done(IntegritySummary {
                    files: summary.files,
                    events: summary.events,
                    faults: summary.faults,
                }),
                // Of a later version of the protocol.
                None => continue,
            });
        }
    }
}
