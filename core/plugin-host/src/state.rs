//! What one call owns while it runs, the imports it may use, and where each of its limits is counted.
//!
//! A [`CallState`] lives and dies with its store: one call, or the self-description of a plugin that is being
//! loaded (then there is no provider, and settings and network are denied). Limits that end the call travel as
//! [`Exceeded`] inside the engine's error; limits that the plugin can act on are answers of the import.
//! Not here: entering and leaving a call, and the wall clock (see `provider`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Engine, ResourceLimiter, Store, StoreContextMut, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::binding::Limits;
use crate::egress::{HttpError, HttpRequest, HttpResponse, Method, Transport, Url, header_parse};
use crate::grants::Grants;
use crate::output::{GuestOutput, GuestStream, Stream};
use crate::wit::chelseru::provider::http as wit;

/// Random bytes that a guest may ask for at once.
const RANDOM_BYTES_MAX: u64 = 64 << 10;
/// Headers of one request.
const HEADERS_MAX: usize = 64;
/// Bytes of a table's element, as counted against the memory limit.
const TABLE_ELEMENT_BYTES: usize = 8;
/// Core instances, memories and tables in one component: several times what a Rust guest with its adapters has.
pub(crate) const CORE_INSTANCES_MAX: u32 = 12;
pub(crate) const MEMORIES_MAX: u32 = 2;
pub(crate) const TABLES_MAX: u32 = 6;

/// The limit that ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Exceeded {
    #[error("memory limit")]
    Memory,
    #[error("CPU limit")]
    Cpu,
}

/// What a provider gives its calls.
pub(crate) struct Grant {
    pub(crate) name: Arc<str>,
    pub(crate) settings: std::collections::BTreeMap<String, String>,
    pub(crate) secrets: Arc<[String]>,
    pub(crate) hosts: Arc<Grants>,
    pub(crate) limits: Limits,
    /// `limits.cpu_time_max` in ticks of the host.
    pub(crate) ticks_max: u32,
}

/// Whether the function that is called may use the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    Granted,
    /// With what the plugin is told.
    Denied(&'static str),
}

/// The data of a store.
pub(crate) struct CallState {
    grant: Arc<Grant>,
    transport: Option<Arc<dyn Transport>>,
    network: Network,
    deadline: Instant,
    wasi: Option<WasiCtx>,
    table: ResourceTable,
    memory_bytes: usize,
    ticks: u32,
    requests: u32,
    request_bytes: usize,
    /// Requests that may have reached their host.
    requests_sent: u32,
}

impl CallState {
    /// Makes a store for one call, with every limit set.
    pub(crate) fn store(
        engine: &Engine,
        grant: &Arc<Grant>,
        transport: Option<Arc<dyn Transport>>,
        network: Network,
    ) -> Store<CallState> {
        let limits = &grant.limits;
        let (output_bytes_max, handles_max) = (limits.output_bytes_max, limits.handles_max);
        let mut table = ResourceTable::new();
        table.set_max_capacity(handles_max);
        let state = CallState {
            grant: Arc::clone(grant),
            transport,
            network,
            deadline: Instant::now() + limits.wall_time_max,
            wasi: None,
            table,
            memory_bytes: 0,
            ticks: 0,
            requests: 0,
            request_bytes: 0,
            requests_sent: 0,
        };
        let mut store = Store::new(engine, state);
        store.limiter(|state| state);
        store.set_hostcall_fuel(output_bytes_max);
        store.set_max_component_handles(handles_max);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| store.data_mut().tick());
        store
    }

    pub(crate) fn may_have_sent(&self) -> bool {
        self.requests_sent > 0
    }

    /// Called when a tick passed while the guest was running.
    fn tick(&mut self) -> wasmtime::Result<UpdateDeadline> {
        self.ticks += 1;
        if self.ticks > self.grant.ticks_max {
            return Err(Exceeded::Cpu.into());
        }
        if self.ticks <= 2 {
            // A short call that a tick happens to hit goes straight on after the others had their turn.
            return Ok(UpdateDeadline::Yield(1));
        }
        // A long one steps aside for real. Yielding alone would keep its worker busy, and a worker that is always
        // busy looks at sockets and timers only once in dozens of turns: other calls would notice.
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::time::sleep(Duration::from_millis(1)))))
    }

    fn memory_add(&mut self, current: usize, desired: usize) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_sub(current).saturating_add(desired);
        if total > self.grant.limits.memory_bytes_max {
            // A trap, and not a refusal that the guest sees: most allocators abort then anyway, and this way the
            // error says what happened.
            return Err(Exceeded::Memory.into());
        }
        self.memory_bytes = total;
        Ok(true)
    }
}

impl ResourceLimiter for CallState {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.memory_add(current, desired)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        Err(Exceeded::Memory.into())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.memory_add(
            current.saturating_mul(TABLE_ELEMENT_BYTES),
            desired.saturating_mul(TABLE_ELEMENT_BYTES),
        )
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        Err(Exceeded::Memory.into())
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}

impl WasiView for CallState {
    /// Built when a guest first needs it: most calls never do, and it costs more than the rest of a call's state.
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let CallState { grant, wasi, table, .. } = self;
        let ctx = wasi.get_or_insert_with(|| {
            let secrets = Arc::clone(&grant.secrets);
            let output = GuestOutput::new(Arc::clone(&grant.name), secrets, grant.limits.log_bytes_max);
            let stream = |stream| GuestStream { output: Arc::clone(&output), stream };
            WasiCtx::builder()
                .stdout(stream(Stream::Out))
                .stderr(stream(Stream::Err))
                .max_random_size(RANDOM_BYTES_MAX)
                .allow_tcp(false)
                .allow_udp(false)
                .allow_ip_name_lookup(false)
                .build()
        });
        WasiCtxView { ctx, table }
    }
}

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
                let answer = http_send(store.data_mut(), request).await;
                // The time of the answer is not the guest's: its next tick starts now.
                store.set_epoch_deadline(1);
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

    state.requests_sent += 1;
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
        state.request_bytes = state.request_bytes.saturating_add(bytes);
        // A transport other than ours may not have looked.
        if bytes > state.grant.limits.http_response_bytes_max
            || state.request_bytes > state.grant.limits.host_call_bytes_max
        {
            answer = Err(HttpError::TooLarge(bytes as u64));
        }
    }
    if let Err(error) = &answer
        && !error.may_have_sent()
    {
        state.requests_sent -= 1;
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
    state.requests += 1;
    if state.requests > limits.http_requests_max {
        return invalid(format!("more than {} requests in one call", limits.http_requests_max));
    }
    let heads: usize = request.headers.iter().map(|h| h.name.len() + h.value.len()).sum();
    state.request_bytes = state.request_bytes.saturating_add(request.url.len() + heads + request.body.len());
    if state.request_bytes > limits.host_call_bytes_max {
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
            .min(limits.host_call_bytes_max - state.request_bytes),
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

/// One line of the engine's error without its backtrace: the outermost and the innermost text.
pub(crate) fn error_text(error: &wasmtime::Error) -> String {
    const CHARS_MAX: usize = 300;
    let cause = error.root_cause().to_string();
    let line = cause.lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(CHARS_MAX).collect()
}
