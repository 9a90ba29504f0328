//! A Flight service of somebody else in front of the server: it passes calls on, and ends their streams where it should
//! not, with a status of its own.

use std::collections::VecDeque;

use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
    flight_service_client::FlightServiceClient,
    flight_service_server::{FlightService, FlightServiceServer},
};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Server},
};

use crate::wire::TestServer;

type Answers<T> = BoxStream<'static, Result<T, Status>>;
type Answer<T> = Result<Response<T>, Status>;

/// Where the answers of a call end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// After so many messages, as if all were well.
    Well(usize),
    /// After so many messages, as if the server went away.
    Unavailable(usize),
}

struct Front {
    server: FlightServiceClient<Channel>,
    /// Of the next calls; those after them are not touched.
    ends: Mutex<VecDeque<End>>,
}

/// Starts one, whose next calls end so. Its address.
pub(crate) async fn front(server: &TestServer, ends: impl IntoIterator<Item = End>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let front = Front {
        server: FlightServiceClient::new(server.channel().await),
        ends: Mutex::new(ends.into_iter().collect()),
    };
    let serving = Server::builder()
        .add_service(FlightServiceServer::new(front))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(serving);
    url
}

impl Front {
    fn ended<T: Send + 'static>(&self, answers: Streaming<T>) -> Response<Answers<T>> {
        let end = self.ends.lock().pop_front();
        Response::new(match end {
            None => answers.boxed(),
            Some(End::Well(count)) => answers.take(count).boxed(),
            Some(End::Unavailable(count)) => {
                let gone = stream::iter([Err(Status::unavailable("gone"))]);
                answers.take(count).chain(gone).boxed()
            }
        })
    }
}

fn not_here<T>() -> Result<T, Status> {
    Err(Status::unimplemented("not here"))
}

#[tonic::async_trait]
impl FlightService for Front {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoExchangeStream = Answers<FlightData>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let answers = self.server.clone().do_get(request.into_inner()).await?;
        Ok(self.ended(answers.into_inner()))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        let messages = request.into_inner();
        let messages = messages.filter_map(|message| std::future::ready(message.ok()));
        let answers = self.server.clone().do_put(messages).await?;
        Ok(self.ended(answers.into_inner()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Answer<Self::HandshakeStream> {
        not_here()
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        not_here()
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        not_here()
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<PollInfo> {
        not_here()
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        not_here()
    }

    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Answer<Self::DoExchangeStream> {
        not_here()
    }

    async fn do_action(&self, _: Request<Action>) -> Answer<Self::DoActionStream> {
        not_here()
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<Self::ListActionsStream> {
        not_here()
    }
}
