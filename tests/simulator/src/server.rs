//! The HTTP side: accepts connections, reads requests, applies scripted faults, answers, logs.
//!
//! Steps of every provider request: read (at most 1 MiB), find the provider by path, take a fault, let the provider
//! work unless the fault forbids it, log, answer. A cut connection is a service error, so hyper closes the socket
//! without a byte. A client that goes away during a scripted delay drops the request's future: the remaining steps do
//! not happen, and the log says so. The control API is in `control`; replies are in the provider modules.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::futures::Notified;

use crate::control;
use crate::fault::{Fault, FaultKind, PAGE};
use crate::log::{Record, unix_ms};
use crate::payer;
use crate::provider::{self, Outcome, Provider, Reply};
use crate::request::Request;
use crate::world::World;

/// Largest request body, in bytes: 200 recipients with 900 characters each, in escaped UTF-8, fit.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Pause after a failed accept (no free descriptor), so the loop does not spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Accepts without end. Dropping the future ends it; dropping the runtime ends the connections.
pub(crate) async fn run(listener: TcpListener, world: Arc<World>) -> Infallible {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        // Small replies must not wait for an acknowledgement. A failure here costs speed only.
        let _ = stream.set_nodelay(true);
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            let service = service_fn(|request| serve(Arc::clone(&world), request));
            // The error is a scripted cut or a client that went away. Both are in the log.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn serve(world: Arc<World>, request: hyper::Request<Incoming>) -> Result<Response<Answer>, Cut> {
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let text = format!("the body is larger than {BODY_BYTES_MAX} bytes");
            return Ok(error_response(StatusCode::PAYLOAD_TOO_LARGE, &text));
        }
        Err(_) => return Err(Cut),
    };
    if parts.uri.path().trim_end_matches('/') == control::PAYMENTS && parts.method == Method::POST {
        return Ok(payer::answer(&world, &body).await);
    }
    if parts.uri.path().starts_with(control::PREFIX) {
        return Ok(control::answer(&world, &parts.method, parts.uri.path(), parts.uri.query(), &body));
    }
    let request = Request::new(parts, body);
    let Some(provider) = provider::by_path(&request.path) else {
        let text =
            format!("no provider serves {:?}; GET {}/ lists what is served", request.path, control::PREFIX);
        let mut entry = Entry::new(&world, None, request);
        entry.record.outcome = "no provider".into();
        entry.record.status = Some(404);
        return Ok(error_response(StatusCode::NOT_FOUND, &text));
    };
    let entry = Entry::new(&world, Some(provider), request);
    // Created before the fault leaves the list, so no release is missed.
    let released = world.faults.released();
    let fault = world.faults.take(provider.name(), &entry.record.call, || provider.numbers(&entry.request));
    match fault {
        None => {
            let reply = provider.answer(&world, &entry.request);
            Ok(entry.finish(reply))
        }
        Some(fault) => faulty(&world, provider, fault, entry, released).await,
    }
}

/// Answers a request that a fault strikes.
async fn faulty(
    world: &World,
    provider: &dyn Provider,
    fault: Fault,
    mut entry: Entry<'_>,
    released: Notified<'_>,
) -> Result<Response<Answer>, Cut> {
    let early = fault.accepts().then(|| provider.answer(world, &entry.request));
    if let Some(reply) = &early {
        entry.record.accepted = reply.outcome == Outcome::Accepted;
    }
    if fault.delay_ms > 0 {
        let _ = tokio::time::timeout(Duration::from_millis(fault.delay_ms), released).await;
    }
    entry.record.outcome = format!("fault {}", fault.kind_name());
    // Kinds that spoil a real reply have one: see `Fault::accepts`.
    let real = |early: Option<Reply>| early.unwrap_or_else(|| provider.answer(world, &entry.request));
    let (status, content_type, answer) = match fault.kind {
        FaultKind::Delay => {
            let reply = real(early);
            return Ok(entry.finish(reply));
        }
        FaultKind::Code { code, http_status_follows_code } => {
            let reply = provider.refuse(world, &entry.request, code, http_status_follows_code);
            (reply.status, reply.content_type, Answer::whole(reply.body))
        }
        FaultKind::Status { code, body } => {
            let body = body.unwrap_or_else(|| "scripted fault".into());
            let content_type = match body.trim_start().as_bytes().first() {
                Some(b'<') => "text/html",
                _ if serde_json::from_str::<Value>(&body).is_ok() => JSON,
                _ => "text/plain",
            };
            (code, content_type, Answer::whole(body.into()))
        }
        FaultKind::Html => (200, "text/html", Answer::whole(Bytes::from_static(PAGE.as_bytes()))),
        FaultKind::Empty => (200, JSON, Answer::whole(Bytes::new())),
        FaultKind::CutBefore | FaultKind::CutAfter => return Err(Cut),
        FaultKind::CutBody => {
            let reply = real(early);
            let half = reply.body.len() / 2;
            (
                reply.status,
                reply.content_type,
                Answer::Torn { whole_len: reply.body.len() as u64, half: Some(reply.body.slice(..half)) },
            )
        }
        FaultKind::TruncatedJson => {
            let reply = real(early);
            let half = reply.body.len() / 2;
            (reply.status, reply.content_type, Answer::whole(reply.body.slice(..half)))
        }
        FaultKind::WrongType => {
            let reply = real(early);
            let body = match serde_json::from_slice(&reply.body) {
                Ok(document) => wrapped(document).to_string(),
                // Not JSON (SOAP): a reply of another format.
                Err(_) => r#"{"d":[null]}"#.into(),
            };
            (reply.status, JSON, Answer::whole(body.into()))
        }
        FaultKind::Huge { bytes } => (200, JSON, Answer::Huge { left: bytes }),
    };
    entry.record.status = Some(status);
    let mut response = response(status, content_type, answer);
    if let Some(seconds) = fault.retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if (300..400).contains(&status) {
        response.headers_mut().insert(LOCATION, HeaderValue::from_static("https://elsewhere.invalid/"));
    }
    Ok(response)
}

const JSON: &str = "application/json; charset=utf-8";

/// The document with every plain value wrapped into an array.
fn wrapped(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            Value::Object(members.into_iter().map(|(name, value)| (name, wrapped(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(wrapped).collect()),
        plain => Value::Array(vec![plain]),
    }
}

/// A request and its unfinished log record. Dropped without a reply, it logs that the client went away.
struct Entry<'a> {
    world: &'a World,
    provider: Option<&'static dyn Provider>,
    request: Request,
    record: Record,
    started: Instant,
}

impl<'a> Entry<'a> {
    fn new(world: &'a World, provider: Option<&'static dyn Provider>, request: Request) -> Self {
        let record = Record {
            at_ms: unix_ms(),
            provider: provider.map_or("-", |provider| provider.name()),
            call: provider.map_or_else(String::new, |provider| provider.call(&request).into_owned()),
            outcome: "client went away".into(),
            ..Record::default()
        };
        Self { world, provider, request, record, started: Instant::now() }
    }

    fn finish(mut self, reply: Reply) -> Response<Answer> {
        self.record.outcome = reply.outcome.to_string();
        self.record.accepted |= reply.outcome == Outcome::Accepted;
        self.record.status = Some(reply.status);
        response(reply.status, reply.content_type, Answer::whole(reply.body))
    }
}

impl Drop for Entry<'_> {
    /// Completes the record from the request, without credentials, and logs it.
    fn drop(&mut self) {
        let secret = self.provider.map_or(&[] as &[_], |provider| provider.secret_fields());
        let request = &mut self.request;
        let mut record = std::mem::take(&mut self.record);
        record.method = request.http_method.to_string();
        record.path = match self.provider {
            Some(provider) => provider.masked_path(&request.path),
            None => std::mem::take(&mut request.path),
        };
        record.query = std::mem::take(&mut request.query).masked(secret);
        record.fields = std::mem::take(&mut request.body_fields).masked(secret);
        record.headers = std::mem::take(&mut request.headers);
        record.took_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.world.log().enter(record);
    }
}

/// Ends the connection without a reply.
#[derive(Debug)]
pub(crate) struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("connection cut on purpose")
    }
}

impl std::error::Error for Cut {}

/// The body of a reply.
pub(crate) enum Answer {
    Whole(Option<Bytes>),
    /// Announces the whole length, sends half of it, and fails.
    Torn {
        whole_len: u64,
        half: Option<Bytes>,
    },
    /// Remaining bytes of spaces. Spaces before JSON are legal, so a reader cannot refuse them early.
    Huge {
        left: u64,
    },
}

impl Answer {
    pub(crate) fn whole(body: Bytes) -> Self {
        Self::Whole((!body.is_empty()).then_some(body))
    }
}

static SPACES: [u8; 64 * 1024] = [b' '; 64 * 1024];

impl Body for Answer {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        Poll::Ready(match self.get_mut() {
            Self::Whole(body) => body.take().map(|bytes| Ok(Frame::data(bytes))),
            Self::Torn { half, .. } => Some(half.take().map(Frame::data).ok_or(Cut)),
            Self::Huge { left: 0 } => None,
            Self::Huge { left } => {
                let chunk = usize::try_from(*left).map_or(SPACES.len(), |left| left.min(SPACES.len()));
                *left -= chunk as u64;
                Some(Ok(Frame::data(Bytes::from_static(&SPACES[..chunk]))))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None) | Self::Huge { left: 0 })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(body) => body.as_ref().map_or(0, |body| body.len() as u64),
            Self::Torn { whole_len, .. } => *whole_len,
            Self::Huge { left } => *left,
        })
    }
}

fn response(status: u16, content_type: &'static str, answer: Answer) -> Response<Answer> {
    let mut response = Response::new(answer);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A reply of the simulator itself.
pub(crate) fn json_response(status: StatusCode, body: &Value) -> Response<Answer> {
    response(status.as_u16(), JSON, Answer::whole(body.to_string().into()))
}

pub(crate) fn text_response(body: String) -> Response<Answer> {
    response(200, "text/plain; charset=utf-8", Answer::whole(body.into()))
}

pub(crate) fn error_response(status: StatusCode, text: &str) -> Response<Answer> {
    json_response(status, &json!({"error": text}))
}

pub(crate) fn method_refused(method: &Method, accepted: &str) -> Response<Answer> {
    error_response(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!("{method} is not accepted here; accepted: {accepted}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_type_keeps_the_shape_and_wraps_every_plain_value() {
        let document = json!({"return": {"status": 200}, "entries": [{"messageid": 5, "message": null}]});
        assert_eq!(
            wrapped(document),
            json!({"return": {"status": [200]}, "entries": [{"messageid": [5], "message": [null]}]})
        );
    }
}
