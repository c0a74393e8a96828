//! What every plugin may import: settings, HTTP, and WASI without files, sockets, arguments and environment.
//!
//! A request is checked for its form, its host and what the call may still send before the transport sees it. A refusal
//! is an answer that the plugin receives; a request past `http_requests_max` ends the call, so that a plugin that
//! ignores its refusals cannot go on asking.
//! Not here: sending (see `egress`) and what a call may use altogether (see `state`).

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use wasmtime::component::Linker;
use wasmtime::{Engine, StoreContextMut};

use crate::egress::{HttpError, HttpRequest, HttpResponse, Method, Url, header_parse};
use crate::limits::Exceeded;
use crate::state::{CallState, Network};
use crate::wit::chelseru::provider::http as wit;

/// Headers of one request.
const HEADERS_MAX: usize = 64;

/// Links what every plugin may import.
///
/// # Errors
/// Only when two definitions clash, which the tests would show.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<CallState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    linker.instance("chelseru:provider/settings@0.1.0")?.func_wrap(
        "get",
        |store: StoreContextMut<'_, CallState>, (key,): (String,)| {
            Ok((store.data().grant.settings.get(&key).cloned(),))
        },
    )?;
    linker.instance("chelseru:provider/http@0.1.0")?.func_wrap_async(
        "send",
        |mut store: StoreContextMut<'_, CallState>, (request,): (wit::Request,)| {
            Box::new(async move {
                let state = store.data_mut();
                state.http.requests += 1;
                if state.http.requests > state.grant.limits.http_requests_max {
                    return Err(Exceeded::HttpRequests.into());
                }
                let answer = http_send(state, request).await;
                Ok((answer.map(response_out).map_err(error_out),))
            })
        },
    )?;
    Ok(linker)
}

async fn http_send(state: &mut CallState, request: wit::Request) -> Result<HttpResponse, HttpError> {
    if let Network::Denied(why) = state.network {
        return Err(HttpError::NotGranted(why.to_owned()));
    }
    let Some(transport) = state.transport.clone() else {
        return Err(HttpError::NotGranted("there is no network here".to_owned()));
    };
    let request = request_in(state, request)?;

    if !state.meter().send() {
        state.meter().unsend();
        return Err(HttpError::NotSent("nobody waits for this call".to_owned()));
    }
    // In a task of its own: an HTTP client and TLS need far more stack than a guest's fiber has. The guard ends
    // it when this call ends.
    let mut task = Aborting(tokio::spawn(async move { transport.send(request).await }));
    let mut answer = match (&mut task.0).await {
        Ok(answer) => answer,
        Err(_) => Err(HttpError::Unanswered("the transport stopped".to_owned())),
    };
    if let Ok(response) = &answer {
        let heads: usize = response.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let bytes = heads + response.body.len();
        state.http.bytes_in = state.http.bytes_in.saturating_add(bytes);
        // A transport other than ours may not have looked.
        if bytes > state.grant.limits.http_response_bytes_max
            || state.http.bytes() > state.grant.limits.host_call_bytes_max
        {
            answer = Err(HttpError::TooLarge(bytes as u64));
        }
    }
    if let Err(error) = &answer
        && !error.may_have_sent()
    {
        state.meter().unsend();
    }
    answer
}

struct Aborting(JoinHandle<Result<HttpResponse, HttpError>>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Checks a guest's request: its form, its host, and what the call may still send.
fn request_in(state: &mut CallState, request: wit::Request) -> Result<HttpRequest, HttpError> {
    let limits = &state.grant.limits;
    let invalid = |why: String| Err(HttpError::InvalidRequest(why));
    let heads: usize = request.headers.iter().map(|h| h.name.len() + h.value.len()).sum();
    let bytes = request.url.len() + heads + request.body.len();
    state.http.bytes_out = state.http.bytes_out.saturating_add(bytes);
    if state.http.bytes() > limits.host_call_bytes_max {
        return invalid(format!("more than {} bytes of HTTP in one call", limits.host_call_bytes_max));
    }
    let url = match Url::parse(&request.url) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url,
        Ok(_) => return invalid("the URL is neither http nor https".to_owned()),
        Err(why) => return invalid(format!("URL: {why}")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return invalid("the URL holds a user or password; use a header".to_owned());
    }
    state.grant.hosts.check(&url).map_err(HttpError::NotGranted)?;
    if request.headers.len() > HEADERS_MAX {
        return invalid(format!("more than {HEADERS_MAX} headers"));
    }
    for header in &request.headers {
        header_parse(&header.name, &header.value)?;
    }
    // A little less than the call has left, so that the plugin can still say what the silence means.
    let left = state.deadline.saturating_duration_since(Instant::now());
    let left = left - (left / 10).min(Duration::from_millis(500));
    let timeout = request.timeout_ms.map_or(left, |ms| left.min(Duration::from_millis(ms.into())));
    Ok(HttpRequest {
        method: match request.method {
            wit::Method::Get => Method::GET,
            wit::Method::Post => Method::POST,
            wit::Method::Put => Method::PUT,
            wit::Method::Patch => Method::PATCH,
            wit::Method::Delete => Method::DELETE,
        },
        url,
        headers: request.headers.into_iter().map(|h| (h.name, h.value)).collect(),
        body: request.body,
        timeout,
        response_bytes_max: limits
            .http_response_bytes_max
            .min(limits.host_call_bytes_max - state.http.bytes()),
        ignores_body: false,
    })
}

fn response_out(response: HttpResponse) -> wit::Response {
    let headers = response.headers.into_iter().map(|(name, value)| wit::Header { name, value }).collect();
    wit::Response { status: response.status, headers, body: response.body }
}

fn error_out(error: HttpError) -> wit::Error {
    match error {
        HttpError::NotGranted(text) => wit::Error::NotGranted(text),
        HttpError::InvalidRequest(text) => wit::Error::InvalidRequest(text),
        HttpError::NotSent(text) => wit::Error::NotSent(text),
        HttpError::Unanswered(text) => wit::Error::Unanswered(text),
        HttpError::TooLarge(bytes) => wit::Error::TooLarge(bytes),
    }
}
