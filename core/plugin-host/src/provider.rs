//! A provider: a plugin bound to settings, grants and limits, and the calls through it.
//!
//! Every call runs in a fresh instance that is gone when the call ends, whichever way it ends: an answer, a trap, a
//! limit, or the caller dropping the future. Two semaphores stand in front, the provider's and the host's, so that
//! one slow provider cannot take every place and the pool is never asked for more than it has.
//! A call that fails says whether a request of it may have left, because then what it was to do may have been done.
//! Not here: the limits inside a call (see `state`), and who serves under which name (see `registry`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::component::{ComponentNamedList, Lift, Lower};
use wasmtime::{PoolConcurrencyLimitError, Trap};

use crate::binding::{self, BindError, Binding, Limits};
use crate::egress::{Egress, Transport};
use crate::function::Function;
use crate::host::{Host, Running, ticks};
use crate::plugin::Plugin;
use crate::state::{CallState, Exceeded, Grant, Network, error_text};

/// Why a call has no answer.
///
/// The texts are for logs; [`CallError::code`] is stable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// Too many calls run or wait. Nothing was done; trying again later is safe.
    #[error("too many calls at once")]
    Busy,
    /// No answer within the wall time.
    #[error("no answer in {} ms", after.as_millis())]
    Timeout {
        /// The limit.
        after: Duration,
        /// See [`CallError::may_have_sent`].
        may_have_sent: bool,
    },
    /// The guest computed for too long.
    #[error("more than {} ms of CPU", limit.as_millis())]
    CpuExceeded {
        /// The limit.
        limit: Duration,
        /// See [`CallError::may_have_sent`].
        may_have_sent: bool,
    },
    /// The guest wanted more memory than it may have.
    #[error("more than {limit_bytes} bytes of memory")]
    MemoryExceeded {
        /// The limit.
        limit_bytes: usize,
        /// See [`CallError::may_have_sent`].
        may_have_sent: bool,
    },
    /// The answer, or the arguments of a host call, are larger than what may be copied out of the guest.
    #[error("more than {limit_bytes} bytes of output")]
    OutputTooLarge {
        /// The limit.
        limit_bytes: usize,
        /// See [`CallError::may_have_sent`].
        may_have_sent: bool,
    },
    /// The guest held more resource handles than it may have.
    #[error("more than {limit} resource handles")]
    HandlesExceeded {
        /// The limit.
        limit: usize,
        /// See [`CallError::may_have_sent`].
        may_have_sent: bool,
    },
    /// The guest failed: a trap, an exit, or an answer that breaks the binary interface.
    #[error("trap: {message}")]
    Trap {
        /// One line of the engine's own words.
        message: String,
        /// See [`CallError::may_have_sent`].
        may_have_sent: bool,
    },
    /// The plugin does not export the function.
    #[error("function \"{interface}.{function}\" is not exported")]
    NoSuchExport {
        /// As asked for.
        interface: String,
        /// As asked for.
        function: String,
    },
    /// The plugin exports the function with another type. Loading refuses it when its kind lists the function.
    #[error("function \"{interface}.{function}\" has another type: {message}")]
    TypeMismatch {
        /// As asked for.
        interface: String,
        /// As asked for.
        function: String,
        /// What differs.
        message: String,
    },
}

impl CallError {
    /// A stable word for metrics and for machines.
    pub fn code(&self) -> &'static str {
        match self {
            CallError::Busy => "busy",
            CallError::Timeout { .. } => "timeout",
            CallError::CpuExceeded { .. } => "cpu_exceeded",
            CallError::MemoryExceeded { .. } => "memory_exceeded",
            CallError::OutputTooLarge { .. } => "output_too_large",
            CallError::HandlesExceeded { .. } => "handles_exceeded",
            CallError::Trap { .. } => "trap",
            CallError::NoSuchExport { .. } => "no_such_export",
            CallError::TypeMismatch { .. } => "type_mismatch",
        }
    }

    /// Whether at least one HTTP request of this call may have reached its host. Then what the call was to do may
    /// have been done, and doing it again may do it twice.
    pub fn may_have_sent(&self) -> bool {
        match self {
            CallError::Busy | CallError::NoSuchExport { .. } | CallError::TypeMismatch { .. } => false,
            CallError::Timeout { may_have_sent, .. }
            | CallError::CpuExceeded { may_have_sent, .. }
            | CallError::MemoryExceeded { may_have_sent, .. }
            | CallError::OutputTooLarge { may_have_sent, .. }
            | CallError::HandlesExceeded { may_have_sent, .. }
            | CallError::Trap { may_have_sent, .. } => *may_have_sent,
        }
    }
}

/// Counters of a provider entry. They go on when its plugin is replaced.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) calls: AtomicU64,
    pub(crate) call_errors: AtomicU64,
    pub(crate) in_flight: AtomicU32,
}

/// A plugin bound to settings, grants and limits: the thing that is called.
pub struct Provider {
    host: Host,
    plugin: Arc<Plugin>,
    grant: Arc<Grant>,
    transport: Arc<dyn Transport>,
    places: Semaphore,
    waiting: AtomicU32,
    stats: Arc<Stats>,
}

impl Provider {
    /// Checks an operator's settings, hosts and limits against the plugin's description. Opens nothing yet.
    ///
    /// # Errors
    /// Lists every problem at once; no text holds a setting's value.
    pub fn bind(host: &Host, plugin: Arc<Plugin>, binding: Binding) -> Result<Provider, BindError> {
        let options = host.options();
        let bound = binding::check(
            plugin.description(),
            plugin.memory_bytes_initial(),
            options.memory_bytes_max,
            &binding,
        )?;
        let Binding { name, limits, .. } = binding;
        let hosts = Arc::new(bound.grants);
        Ok(Provider {
            transport: Arc::new(Egress::new(Arc::clone(&hosts), options.egress.clone())),
            places: Semaphore::new(limits.concurrency_max as usize),
            waiting: AtomicU32::new(0),
            stats: Arc::default(),
            grant: Arc::new(Grant {
                name: name.into(),
                settings: bound.settings,
                secrets: bound.secrets.into(),
                hosts,
                ticks_max: ticks(limits.cpu_time_max, options.tick),
                limits,
            }),
            host: host.clone(),
            plugin,
        })
    }

    /// Replaces the way out, for tests and benches. Grants, and the limits on requests and answers, still hold.
    pub fn with_transport(mut self, transport: Arc<dyn Transport>) -> Provider {
        self.transport = transport;
        self
    }

    /// Goes on counting where the provider that this one replaces stood.
    pub(crate) fn with_stats(mut self, stats: Arc<Stats>) -> Provider {
        self.stats = stats;
        self
    }

    /// The name of the entry.
    pub fn name(&self) -> &str {
        &self.grant.name
    }

    /// The plugin behind it.
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// What each call may use.
    pub fn limits(&self) -> &Limits {
        &self.grant.limits
    }

    /// The value of a setting as the plugin sees it, unless it is secret.
    pub fn setting(&self, key: &str) -> Option<&str> {
        let described = self.plugin.description().settings.iter().find(|spec| spec.key == key)?;
        if described.secret { None } else { self.grant.settings.get(key).map(String::as_str) }
    }

    /// Calls that run or wait now.
    pub fn in_flight(&self) -> u32 {
        self.stats.in_flight.load(Ordering::Relaxed)
    }

    /// Calls a function of an exported interface in a fresh instance.
    ///
    /// Dropping the future ends the call at once; what it already sent is not taken back.
    ///
    /// # Errors
    /// See [`CallError`]. Nothing is ever tried again here.
    pub async fn call<P, R>(&self, function: Function<P, R>, params: P) -> Result<R, CallError>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'static,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        self.run(function, params, Network::Granted).await
    }

    /// As [`Provider::call`], for functions that need no network: a request is refused as not granted.
    pub async fn call_pure<P, R>(&self, function: Function<P, R>, params: P) -> Result<R, CallError>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'static,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        self.run(function, params, Network::Denied("this function may not use the network")).await
    }

    /// Keeps one instance for several calls. For measuring what a fresh instance costs: state survives from call
    /// to call, and the limits count over all of them, so nothing should be served this way.
    ///
    /// # Errors
    /// Those of a call that comes to instantiation.
    pub async fn hold(&self) -> Result<Held<'_>, CallError> {
        let places = self.enter().await?;
        let running = self.host.inner.run();
        let transport = Some(Arc::clone(&self.transport));
        let mut store = CallState::store(&self.host.inner.engine, &self.grant, transport, Network::Granted);
        match self.plugin.pre().instantiate_async(&mut store).await {
            Ok(instance) => Ok(Held { provider: self, store, instance, _running: running, _places: places }),
            Err(error) => Err(self.error_sort(&error, store.data().may_have_sent())),
        }
    }

    async fn run<P, R>(&self, function: Function<P, R>, params: P, network: Network) -> Result<R, CallError>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'static,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let stats = &*self.stats;
        stats.calls.fetch_add(1, Ordering::Relaxed);
        // Counts the call as failed unless it comes to a good end: a dropped future is no good end.
        let mut entered = Entered { stats, failed: true };
        stats.in_flight.fetch_add(1, Ordering::Relaxed);
        let result = self.run_counted(function, params, network).await;
        entered.failed = result.is_err();
        result
    }

    async fn run_counted<P, R>(
        &self,
        function: Function<P, R>,
        params: P,
        network: Network,
    ) -> Result<R, CallError>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'static,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let named = || (function.interface().to_owned(), function.name().to_owned());
        let Some(index) = self.plugin.function(function.interface(), function.name()) else {
            let (interface, function) = named();
            return Err(CallError::NoSuchExport { interface, function });
        };
        let _places = self.enter().await?;
        let _running = self.host.inner.run();

        let engine = &self.host.inner.engine;
        let mut store = CallState::store(engine, &self.grant, Some(Arc::clone(&self.transport)), network);
        let guest = async {
            let instance = self.plugin.pre().instantiate_async(&mut store).await.map_err(Failed::Guest)?;
            let export = instance.get_typed_func::<P, R>(&mut store, index).map_err(Failed::Type)?;
            export.call_async(&mut store, params).await.map_err(Failed::Guest)
        };
        let wall_time_max = self.grant.limits.wall_time_max;
        let ended = tokio::time::timeout(wall_time_max, guest).await;
        let may_have_sent = store.data().may_have_sent();
        match ended {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Failed::Guest(error))) => Err(self.error_sort(&error, may_have_sent)),
            Ok(Err(Failed::Type(error))) => {
                let (interface, function) = named();
                Err(CallError::TypeMismatch { interface, function, message: error_text(&error) })
            }
            Err(_) => Err(CallError::Timeout { after: wall_time_max, may_have_sent }),
        }
    }

    /// Waits for a place of this provider, then for one of the host.
    async fn enter(&self) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>), CallError> {
        let global = &self.host.inner.calls;
        let own = match self.places.try_acquire() {
            Ok(own) => own,
            Err(_) => return self.enter_waiting(None).await,
        };
        match global.try_acquire() {
            Ok(place) => Ok((own, place)),
            Err(_) => self.enter_waiting(Some(own)).await,
        }
    }

    async fn enter_waiting<'a>(
        &'a self,
        own: Option<SemaphorePermit<'a>>,
    ) -> Result<(SemaphorePermit<'a>, SemaphorePermit<'a>), CallError> {
        let limits = &self.grant.limits;
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= limits.queue_calls_max {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(CallError::Busy);
        }
        let _waiting = Waiting(&self.waiting);
        let both = async {
            let own = match own {
                Some(own) => own,
                None => self.places.acquire().await?,
            };
            Ok::<_, tokio::sync::AcquireError>((own, self.host.inner.calls.acquire().await?))
        };
        match tokio::time::timeout(limits.queue_time_max, both).await {
            Ok(Ok(places)) => Ok(places),
            Ok(Err(_)) | Err(_) => Err(CallError::Busy),
        }
    }

    fn error_sort(&self, error: &wasmtime::Error, may_have_sent: bool) -> CallError {
        let limits = &self.grant.limits;
        if let Some(exceeded) = error.downcast_ref::<Exceeded>() {
            return match exceeded {
                Exceeded::Memory => {
                    CallError::MemoryExceeded { limit_bytes: limits.memory_bytes_max, may_have_sent }
                }
                Exceeded::Cpu => CallError::CpuExceeded { limit: limits.cpu_time_max, may_have_sent },
            };
        }
        if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
            return CallError::Busy;
        }
        if let Some(trap) = error.downcast_ref::<Trap>() {
            return CallError::Trap { message: trap.to_string(), may_have_sent };
        }
        // The engine has no public type for these two; the tests hold the words equal to its own.
        let message = error_text(error);
        if message.contains("fuel allocated for hostcalls has been exhausted") {
            return CallError::OutputTooLarge { limit_bytes: limits.output_bytes_max, may_have_sent };
        }
        let handles = matches!(
            error.downcast_ref::<wasmtime::component::ResourceTableError>(),
            Some(wasmtime::component::ResourceTableError::Full)
        );
        if handles || message.contains("store handle limit exceeded") {
            return CallError::HandlesExceeded { limit: limits.handles_max, may_have_sent };
        }
        CallError::Trap { message, may_have_sent }
    }
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider")
            .field("name", &self.name())
            .field("plugin", &self.plugin)
            .finish_non_exhaustive()
    }
}

/// See [`Provider::hold`].
pub struct Held<'a> {
    provider: &'a Provider,
    store: wasmtime::Store<CallState>,
    instance: wasmtime::component::Instance,
    _running: Running<'a>,
    _places: (SemaphorePermit<'a>, SemaphorePermit<'a>),
}

impl Held<'_> {
    /// As [`Provider::call`], in the instance that is kept.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call<P, R>(&mut self, function: Function<P, R>, params: P) -> Result<R, CallError>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'static,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let named = || (function.interface().to_owned(), function.name().to_owned());
        let Some(index) = self.provider.plugin.function(function.interface(), function.name()) else {
            let (interface, function) = named();
            return Err(CallError::NoSuchExport { interface, function });
        };
        let export = self.instance.get_typed_func::<P, R>(&mut self.store, index).map_err(|error| {
            let (interface, function) = named();
            CallError::TypeMismatch { interface, function, message: error_text(&error) }
        })?;
        let answer = export.call_async(&mut self.store, params).await;
        answer.map_err(|error| self.provider.error_sort(&error, self.store.data().may_have_sent()))
    }
}

enum Failed {
    Guest(wasmtime::Error),
    Type(wasmtime::Error),
}

struct Entered<'a> {
    stats: &'a Stats,
    failed: bool,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.stats.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.failed {
            self.stats.call_errors.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
