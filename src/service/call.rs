//! What surrounds every call: the bound on calls at once, the refusal of new ones while the server drains, the deadline,
//! the span, the count, and the last look at what tonic answers on its own.
//!
//! Invariants: every call is counted once, with the code it ended with, also where the client went away; a deadline ends
//! a stream as it ends a single answer (tonic's own timer stops at the headers, and says `CANCELLED`).
//!
//! Not here: what calls do (`ingest`, `query`), whose they are (`gate`).

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use prost::bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::{Span, debug, debug_span};

use super::{
    gate::TENANT_KEY,
    status::{Refusal, from_outside},
};
use crate::{telemetry, types::kind::Kind};

/// Own timers fire so much before tonic's, which are told the same deadline and would answer `CANCELLED`.
const AHEAD_OF_TONIC: Duration = Duration::from_millis(1);
/// When a client that met the bound on calls should come back.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// How the paths of calls begin that drain by themselves and are counted by name.
const OWN_SERVICES: [&str; 2] = ["/annals.v1.", "/arrow.flight.protocol.FlightService/"];
const GRPC_STATUS: &str = "grpc-status";

/// The layer. Its clones share one count of calls.
#[derive(Clone)]
pub(crate) struct Calls {
    open: Arc<AtomicUsize>,
    open_max: usize,
    drain: CancellationToken,
}

impl Calls {
    /// At most so many calls at once; none are taken once `drain` is cancelled.
    pub(crate) fn new(open_max: usize, drain: CancellationToken) -> Self {
        Self {
            open: Arc::default(),
            open_max,
            drain,
        }
    }
}

impl<S> Layer<S> for Calls {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> CallService<S> {
        CallService {
            inner,
            calls: self.clone(),
        }
    }
}

/// See [`Calls`].
#[derive(Clone)]
pub(crate) struct CallService<S> {
    inner: S,
    calls: Calls,
}

impl<S> Service<Request<Body>> for CallService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<CallBody>;
    type Error = Infallible;
    type Future = CallFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let own = OWN_SERVICES.iter().any(|own| path.starts_with(own));
        let method = path.rsplit('/').next().unwrap_or_default();
        let tenant = request
            .headers()
            .get(TENANT_KEY)
            .and_then(|name| name.to_str().ok());
        let call = Call {
            open: Arc::clone(&self.calls.open),
            method_index: if own {
                telemetry::method_index(method)
            } else {
                telemetry::method_index("")
            },
            started: Instant::now(),
            span: debug_span!("call", method, tenant),
        };
        let open = call.open.fetch_add(1, Ordering::Relaxed);
        // Whether the server serves can be asked as long as it answers at all.
        if own && self.calls.drain.is_cancelled() {
            return CallFuture::refused(call, Refusal::shutting_down());
        }
        if own && open >= self.calls.open_max {
            let told = format!(
                "{} calls are open, the most at once: retry later",
                self.calls.open_max
            );
            let refusal =
                Refusal::new(Kind::Exhausted, "TOO_MANY_CALLS", told).retry_after(RETRY_AFTER);
            return CallFuture::refused(call, refusal);
        }
        let deadline = timeout(request.headers()).map(|timeout| {
            call.started
                .checked_add(timeout.saturating_sub(AHEAD_OF_TONIC))
                .unwrap_or(call.started)
        });
        let inner = {
            let _entered = call.span.enter();
            self.inner.call(request)
        };
        CallFuture {
            inner: Some(inner),
            refusal: None,
            sleep: deadline.map(sleep_until),
            deadline,
            drained: (!own).then(|| self.calls.drain.clone()),
            call: Some(call),
        }
    }
}

/// A call that is counted when it ends.
struct Call {
    open: Arc<AtomicUsize>,
    method_index: usize,
    started: Instant,
    span: Span,
}

impl Call {
    /// Ends the call with a code; without, by being dropped, it was cancelled.
    fn end(self, code: Code) {
        self.tell(code);
        self.open.fetch_sub(1, Ordering::Relaxed);
        let mut this = self;
        this.method_index = usize::MAX;
    }

    fn tell(&self, code: Code) {
        telemetry::call(self.method_index, code.into());
        let took_us = self.started.elapsed().as_micros();
        debug!(parent: &self.span, ?code, took_us, "call ended");
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.method_index != usize::MAX {
            self.tell(Code::Cancelled);
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

pin_project! {
    /// The answer of a call, until its headers.
    pub(crate) struct CallFuture<F> {
        #[pin]
        inner: Option<F>,
        refusal: Option<Refusal>,
        #[pin]
        sleep: Option<Sleep>,
        deadline: Option<Instant>,
        drained: Option<CancellationToken>,
        call: Option<Call>,
    }
}

impl<F> CallFuture<F> {
    fn refused(call: Call, refusal: Refusal) -> Self {
        Self {
            inner: None,
            refusal: Some(refusal),
            sleep: None,
            deadline: None,
            drained: None,
            call: Some(call),
        }
    }
}

impl<F> Future for CallFuture<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = Result<Response<CallBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let span = this
            .call
            .as_ref()
            .map_or_else(Span::none, |call| call.span.clone());
        let _entered = span.enter();
        if let Some(refusal) = this.refusal.take() {
            return Poll::Ready(Ok(answer(this.call.take(), &refusal.into_status())));
        }
        if let Some(inner) = this.inner.as_pin_mut()
            && let Poll::Ready(answered) = inner.poll(cx)
        {
            let Ok(response) = answered;
            return Poll::Ready(Ok(surround(
                response,
                this.call.take(),
                *this.deadline,
                this.drained.take(),
            )));
        }
        if let Some(sleep) = this.sleep.as_pin_mut() {
            ready!(sleep.poll(cx));
            return Poll::Ready(Ok(answer(
                this.call.take(),
                &Refusal::deadline_exceeded().into_status(),
            )));
        }
        Poll::Pending
    }
}

/// A status as a whole answer.
fn answer(call: Option<Call>, status: &Status) -> Response<CallBody> {
    if let Some(call) = call {
        call.end(status.code());
    }
    status.clone().into_http::<Body>().map(CallBody::plain)
}

/// Headers came: either they end the call, or its body does.
fn surround(
    response: Response<Body>,
    call: Option<Call>,
    deadline: Option<Instant>,
    drained: Option<CancellationToken>,
) -> Response<CallBody> {
    if response.headers().contains_key(GRPC_STATUS) {
        let status =
            Status::from_header_map(response.headers()).unwrap_or_else(|| Status::unknown(""));
        if let Some(refusal) = from_outside(&status) {
            return answer(call, &refusal.into_status());
        }
        if let Some(call) = call {
            call.end(status.code());
        }
        return response.map(CallBody::plain);
    }
    response.map(|inner| CallBody {
        inner,
        sleep: deadline.map(sleep_until),
        drained: drained.map(|token| Box::pin(token.cancelled_owned())),
        call,
        ended: false,
    })
}

pin_project! {
    /// The messages and trailers of a call.
    pub(crate) struct CallBody {
        inner: Body,
        #[pin]
        sleep: Option<Sleep>,
        // Only for services that know nothing of the drain, and whose streams would hold it up.
        drained: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
        call: Option<Call>,
        ended: bool,
    }
}

impl CallBody {
    fn plain(inner: Body) -> Self {
        Self {
            inner,
            sleep: None,
            drained: None,
            call: None,
            ended: false,
        }
    }
}

impl HttpBody for CallBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        let span = this
            .call
            .as_ref()
            .map_or_else(Span::none, |call| call.span.clone());
        let _entered = span.enter();
        if let Poll::Ready(frame) = Pin::new(&mut *this.inner).poll_frame(cx) {
            let code = match &frame {
                Some(Ok(frame)) => frame.trailers_ref().map(code_of),
                Some(Err(status)) => Some(status.code()),
                None => Some(Code::Ok),
            };
            if let Some(code) = code
                && let Some(call) = this.call.take()
            {
                call.end(code);
            }
            return Poll::Ready(frame);
        }
        let over = this
            .sleep
            .as_pin_mut()
            .is_some_and(|sleep| sleep.poll(cx).is_ready());
        let drained = this
            .drained
            .as_mut()
            .is_some_and(|drained| drained.as_mut().poll(cx).is_ready());
        let refusal = match (over, drained) {
            (true, _) => Refusal::deadline_exceeded(),
            (_, true) => Refusal::shutting_down(),
            _ => return Poll::Pending,
        };
        // Dropping the stream stops its work.
        *this.inner = Body::empty();
        *this.ended = true;
        let status = refusal.into_status();
        if let Some(call) = this.call.take() {
            call.end(status.code());
        }
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn code_of(trailers: &HeaderMap) -> Code {
    trailers
        .get(GRPC_STATUS)
        .map_or(Code::Unknown, |status| Code::from_bytes(status.as_bytes()))
}

/// How long the client waits, out of `grpc-timeout`: up to 8 digits and a unit. What is not that, is no deadline.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3_600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            timeout(&headers)
        };
        assert_eq!(read("5S"), Some(Duration::from_secs(5)));
        assert_eq!(read("99999999H"), Some(Duration::from_hours(99_999_999)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("0n"), Some(Duration::ZERO));
        for text in ["", "S", "5", "5s", "123456789S", "-1S", "+1S", "5 S"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_call_counts_once_however_it_ends() {
        let open = Arc::new(AtomicUsize::new(2));
        let call = || Call {
            open: Arc::clone(&open),
            method_index: 0,
            started: Instant::now(),
            span: Span::none(),
        };
        call().end(Code::Ok);
        assert_eq!(open.load(Ordering::Relaxed), 1);
        drop(call());
        assert_eq!(open.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_call_without_an_answer_ends_at_its_deadline() {
        let never = tower::service_fn(|_: Request<Body>| std::future::pending());
        let mut service = Calls::new(1, CancellationToken::new()).layer(never);
        let request = Request::builder()
            .uri("/annals.v1.QueryService/GetStats")
            .header("grpc-timeout", "5m");
        let request = request.body(Body::empty()).unwrap();
        let Ok(response) = service.call(request).await;
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(service.calls.open.load(Ordering::Relaxed), 0);
    }
}
