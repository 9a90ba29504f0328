//! Upkeep: `annals.v1.AdminService`. Each call is one decode, one engine call, one encode.
//!
//! Not here: when and how files are kept up (`engine`).

use tonic::{Request, Response, Status};

use super::{convert, gate::Gate};
use crate::proto::{
    GetCompactionStatsRequest, GetCompactionStatsResponse, TriggerCompactionRequest,
    TriggerCompactionResponse, admin_service_server::AdminService,
};

/// The service.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) gate: Gate,
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
}
