//! Upkeep: `annals.v1.AdminService`. Each call is one decode, one engine call, one encode.
//!
//! Not here: when and how files are kept up (`engine`).

use std::{io, path::PathBuf};

use futures_util::stream::{self, BoxStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{convert, gate::Gate, status::Refusal};
use crate::{
    engine::upkeep::verify::{Told, served::Verification},
    proto::{
        GetCompactionStatsRequest, GetCompactionStatsResponse, TriggerCompactionRequest,
        TriggerCompactionResponse, VerifyIntegrityRequest, VerifyIntegrityResponse, VerifyProgress,
        admin_service_server::AdminService, verify_integrity_response::Message,
    },
    types::kind::Kind,
};

/// The service; `drain` ends its streams when the server shuts down.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) gate: Gate,
    pub(crate) drain: CancellationToken,
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn trigger_compaction(
        &self,
        request: Request<TriggerCompactionRequest>,
    ) -> Result<Response<TriggerCompactionResponse>, Status> {
        let tenant = self.gate.tenant(request.metadata()).await?;
        Ok(Response::new(TriggerCompactionResponse {
            stats: Some(convert::compaction_stats(tenant.compact())),
        }))
    }

    async fn get_compaction_stats(
        &self,
        request: Request<GetCompactionStatsRequest>,
    ) -> Result<Response<GetCompactionStatsResponse>, Status> {
        let tenant = self.gate.tenant(request.metadata()).await?;
        Ok(Response::new(GetCompactionStatsResponse {
            stats: Some(convert::compaction_stats(tenant.compaction_stats())),
        }))
    }

    type VerifyIntegrityStream = BoxStream<'static, Result<VerifyIntegrityResponse, Status>>;

    async fn verify_integrity(
        &self,
        request: Request<VerifyIntegrityRequest>,
    ) -> Result<Response<Self::VerifyIntegrityStream>, Status> {
        let tenant = self.gate.tenant(request.metadata()).await?;
        let state = Verifying {
            verification: tenant.verify(),
            progress: VerifyProgress::default(),
            data_dir: self.gate.engine().dir().to_owned(),
            drain: self.drain.clone(),
        };
        let messages = stream::unfold(Some(state), Verifying::next);
        Ok(Response::new(Box::pin(messages)))
    }
}

/// A tenant being verified.
struct Verifying {
    verification: Verification,
    progress: VerifyProgress,
    data_dir: PathBuf,
    drain: CancellationToken,
}

impl Verifying {
    async fn next(
        verifying: Option<Self>,
    ) -> Option<(Result<VerifyIntegrityResponse, Status>, Option<Self>)> {
        let mut here = verifying?;
        let told = tokio::select! {
            biased;
            () = here.drain.cancelled() => {
                return Some((Err(Refusal::shutting_down().into_status()), None));
            }
            told = here.verification.next() => told,
        };
        let message = match told {
            Some(Told::Bytes(bytes)) => here.progressed(0, bytes),
            Some(Told::Read(bytes)) => here.progressed(bytes, 0),
            Some(Told::Fault(damage)) => Message::Fault(convert::fault(damage, &here.data_dir)),
            // Nothing is repaired here.
            Some(Told::Repaired(_) | Told::Lost(_)) => here.progressed(0, 0),
            None => {
                let verified = here.verification.finish().await;
                let summary = verified.map(convert::verify_summary).map(Message::Summary);
                let unread =
                    |e: io::Error| Refusal::new(Kind::Unavailable, "READ_FAILED", e.to_string());
                let last = summary.map_err(|e| unread(e).into_status());
                return Some((last.map(response), None));
            }
        };
        Some((Ok(response(message)), Some(here)))
    }

    fn progressed(&mut self, done: u64, total: u64) -> Message {
        let progress = &mut self.progress;
        progress.bytes_done += done;
        // Of a file that was replaced meanwhile, more may be read than there was.
        progress.bytes_total = (progress.bytes_total + total).max(progress.bytes_done);
        Message::Progress(self.progress)
    }
}

fn response(message: Message) -> VerifyIntegrityResponse {
    VerifyIntegrityResponse {
        message: Some(message),
    }
}
