//! The calls of `QueryService` that compute over many events: decode, ask the engine, encode. A server that ends does not
//! wait for them.

use std::future::Future;

use tonic::{Request, Response, Status};

use super::{convert, query::Query, status::Refusal};
use crate::{
    engine::sql::SqlError,
    proto::{
        GetEventCorrelationRequest, GetEventCorrelationResponse, GetEventFrequencyRequest,
        GetEventFrequencyResponse, GetEventSummaryRequest, GetEventSummaryResponse,
    },
};

impl Query {
    pub(super) async fn frequency(
        &self,
        request: Request<GetEventFrequencyRequest>,
    ) -> Result<Response<GetEventFrequencyResponse>, Status> {
        let tenant = self.gate.tenant(request.metadata()).await?;
        let request = convert::frequency_request(request.into_inner()).map_err(Refusal::invalid)?;
        let answer = self.computed(tenant.frequency(&request)).await?;
        Ok(Response::new(convert::frequency(answer)))
    }

    pub(super) async fn summary(
        &self,
        request: Request<GetEventSummaryRequest>,
    ) -> Result<Response<GetEventSummaryResponse>, Status> {
        let tenant = self.gate.tenant(request.metadata()).await?;
        let request = convert::summary_request(request.into_inner()).map_err(Refusal::invalid)?;
        let answer = self.computed(tenant.summary(&request)).await?;
        Ok(Response::new(convert::summaries(&answer)))
    }

    pub(super) async fn correlation(
        &self,
        request: Request<GetEventCorrelationRequest>,
    ) -> Result<Response<GetEventCorrelationResponse>, Status> {
        let tenant = self.gate.tenant(request.metadata()).await?;
        let request =
            convert::correlation_request(request.into_inner()).map_err(Refusal::invalid)?;
        let answer = self.computed(tenant.correlation(&request)).await?;
        Ok(Response::new(convert::correlation(&answer)))
    }

    async fn computed<T>(
        &self,
        answer: impl Future<Output = Result<T, SqlError>>,
    ) -> Result<T, Refusal> {
        tokio::select! {
            biased;
            () = self.drain.cancelled() => Err(Refusal::shutting_down()),
            answer = answer => Ok(answer?),
        }
    }
}
