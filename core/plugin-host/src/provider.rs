//! A provider: a plugin bound to settings, grants and limits, and the calls through it.
//!
//! Every call runs in a fresh instance that is gone when the call ends, whichever way it ends: an answer, a trap, a
//! limit, or the caller dropping the future. Two semaphores stand in front, the provider's and the host's, so that
//! one slow provider cannot take every place and the pool is never asked for more than it has.
//! What a call returns has passed the border (see `text`) before the caller gets it.
//! Not here: the limits inside a call (see `state`), and who serves under which name (see `registry`).

use std::any::Any;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, ComponentNamedList, Instance, Lift, Lower};

use crate::aside::{Call, Habit};
use crate::binding::{self, BindError, Binding};
use crate::call_error::{self, CallError};
use crate::egress::{Egress, Transport};
use crate::function::Function;
use crate::host::Host;
use crate::limits::Limits;
use crate::meter::Meter;
use crate::plugin::Plugin;
use crate::state::{CallState, Grant, Network};
use crate::stats::{CallStats, Stats};
use crate::text::{Border, GuestData, error_text};

/// A plugin bound to settings, grants and limits: the thing that is called.
pub struct Provider {
    host: Host,
    plugin: Arc<Plugin>,
    grant: Arc<Grant>,
    transport: Arc<dyn Transport>,
    places: Arc<Semaphore>,
    waiting: AtomicU32,
    facts: OnceLock<Facts>,
}

/// What the embedder asked a provider when it was prepared.
pub type Facts = Arc<dyn Any + Send + Sync>;

/// A place of a provider and one of the host. A call keeps them until its instance is gone.
type Places = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Provider {
    /// Checks an operator's settings, hosts and limits against the plugin's description. Opens nothing yet.
    ///
    /// # Errors
    /// Lists every problem at once; no text holds a setting's value.
    pub fn bind(host: &Host, plugin: Arc<Plugin>, binding: Binding) -> Result<Provider, BindError> {
        Provider::bind_with(host, plugin, binding, Arc::default())
    }

    /// As [`Provider::bind`], counting in the figures of the entry whose provider this one replaces.
    pub(crate) fn bind_with(
        host: &Host,
        plugin: Arc<Plugin>,
        binding: Binding,
        stats: Arc<Stats>,
    ) -> Result<Provider, BindError> {
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
            transport: Arc::new(Egress::with_lookups(
                Arc::clone(&hosts),
                options.egress.clone(),
                Arc::clone(&host.inner.lookups),
                Arc::clone(&stats),
            )),
            places: Arc::new(Semaphore::new(limits.concurrency_max as usize)),
            waiting: AtomicU32::new(0),
            facts: OnceLock::new(),
            grant: Arc::new(Grant {
                name: name.into(),
                settings: bound.settings,
                border: Arc::new(Border::new(&bound.secrets)),
                hosts,
                tick: options.tick,
                habit: Habit::default(),
                limits,
                stats,
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

    /// What the registry's [`crate::Ask`] found out when this provider was prepared. `None` for a provider that was
    /// bound without a registry, or when the facts are of another type.
    pub fn facts<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.facts.get().and_then(|facts| facts.downcast_ref())
    }

    pub(crate) fn learn(&self, facts: Facts) {
        // Asked once; the first answer stays.
        let _ = self.facts.set(facts);
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
        self.grant.stats.in_flight()
    }

    /// What the calls of this entry came to, those of the providers before this one included.
    pub fn stats(&self) -> CallStats {
        self.grant.stats.snapshot()
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
        R: ComponentNamedList + Lift + GuestData + Send + Sync + 'static,
    {
        self.run(function, params, Network::Granted).await
    }

    /// As [`Provider::call`], for functions that need no network: a request is refused as not granted.
    pub async fn call_pure<P, R>(&self, function: Function<P, R>, params: P) -> Result<R, CallError>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'static,
        R: ComponentNamedList + Lift + GuestData + Send + Sync + 'static,
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
        let transport = Some(Arc::clone(&self.transport));
        let mut store = CallState::store(&self.host.inner.engine, &self.grant, transport, Network::Granted);
        match self.plugin.pre().instantiate_async(&mut store).await {
            Ok(instance) => Ok(Held { provider: self, store, instance, _places: places }),
            Err(error) => Err(self.grant.error_sort(&error, store.data().meter())),
        }
    }

    async fn run<P, R>(&self, function: Function<P, R>, params: P, network: Network) -> Result<R, CallError>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'static,
        R: ComponentNamedList + Lift + GuestData + Send + Sync + 'static,
    {
        let mut entered = Entered::new(&self.grant.stats);
        let result = self.run_counted(function, params, network).await;
        entered.error = result.as_ref().err().map(CallError::code);
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
        R: ComponentNamedList + Lift + GuestData + Send + Sync + 'static,
    {
        let Some(index) = self.plugin.function(function.interface(), function.name()) else {
            let (interface, function) = named(&function);
            return Err(CallError::NoSuchExport { interface, function });
        };
        let (places, index) = (self.enter().await?, *index);

        let transport = Some(Arc::clone(&self.transport));
        let mut store = CallState::store(&self.host.inner.engine, &self.grant, transport, network);
        let meter = Arc::clone(store.data().meter());
        let (plugin, grant) = (Arc::clone(&self.plugin), Arc::clone(&self.grant));
        let guest = Box::pin(async move {
            let answer = called::<P, R>(&plugin, &index, &mut store, params).await;
            let answer = match answer {
                Ok(mut answer) => {
                    answer.pass(&grant.border);
                    Ok(answer)
                }
                Err(Failed::Guest(error)) => Err(grant.error_sort(&error, store.data().meter())),
                Err(Failed::Type(error)) => {
                    let (interface, function) = named(&function);
                    Err(CallError::TypeMismatch { interface, function, message: error_text(&error) })
                }
            };
            drop(store);
            drop(places);
            answer
        });
        let aside = &self.host.inner.aside;
        let call = match self.grant.habit.is_long() {
            true => Call::aside(guest, Arc::clone(&meter), aside),
            false => Call::here(guest, Arc::clone(&meter), aside),
        };
        let wall_time_max = self.grant.limits.wall_time_max;
        match tokio::time::timeout(wall_time_max, call).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Timeout { after: wall_time_max, may_have_sent: meter.give_up() }),
        }
    }

    /// Waits for a place of this provider, then for one of the host.
    async fn enter(&self) -> Result<Places, CallError> {
        let global = &self.host.inner.calls;
        let own = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(own) => own,
            Err(_) => return self.enter_waiting(None).await,
        };
        match Arc::clone(global).try_acquire_owned() {
            Ok(place) => Ok((own, place)),
            Err(_) => self.enter_waiting(Some(own)).await,
        }
    }

    async fn enter_waiting(&self, own: Option<OwnedSemaphorePermit>) -> Result<Places, CallError> {
        let limits = &self.grant.limits;
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= limits.queue_calls_max {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(CallError::Busy);
        }
        let _waiting = Waiting(&self.waiting);
        let both = async {
            let own = match own {
                Some(own) => own,
                None => Arc::clone(&self.places).acquire_owned().await?,
            };
            let global = Arc::clone(&self.host.inner.calls);
            Ok::<_, tokio::sync::AcquireError>((own, global.acquire_owned().await?))
        };
        match tokio::time::timeout(limits.queue_time_max, both).await {
            Ok(Ok(places)) => Ok(places),
            Ok(Err(_)) | Err(_) => Err(CallError::Busy),
        }
    }
}

/// Instantiates the plugin and calls the function.
async fn called<P, R>(
    plugin: &Plugin,
    index: &ComponentExportIndex,
    store: &mut Store<CallState>,
    params: P,
) -> Result<R, Failed>
where
    P: ComponentNamedList + Lower + Send + Sync + 'static,
    R: ComponentNamedList + Lift + Send + Sync + 'static,
{
    let instance = plugin.pre().instantiate_async(&mut *store).await.map_err(Failed::Guest)?;
    let export = instance.get_typed_func::<P, R>(&mut *store, index).map_err(Failed::Type)?;
    export.call_async(&mut *store, params).await.map_err(Failed::Guest)
}

impl Grant {
    fn error_sort(&self, error: &wasmtime::Error, meter: &Meter) -> CallError {
        call_error::sort(error, &self.limits, &self.border, meter.may_have_sent())
    }
}

fn named<P, R>(function: &Function<P, R>) -> (String, String) {
    (function.interface().to_owned(), function.name().to_owned())
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
    store: Store<CallState>,
    instance: Instance,
    _places: Places,
}

impl Held<'_> {
    /// As [`Provider::call`], in the instance that is kept.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call<P, R>(&mut self, function: Function<P, R>, params: P) -> Result<R, CallError>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'static,
        R: ComponentNamedList + Lift + GuestData + Send + Sync + 'static,
    {
        let Some(index) = self.provider.plugin.function(function.interface(), function.name()) else {
            let (interface, function) = named(&function);
            return Err(CallError::NoSuchExport { interface, function });
        };
        let export = self.instance.get_typed_func::<P, R>(&mut self.store, index).map_err(|error| {
            let (interface, function) = named(&function);
            CallError::TypeMismatch { interface, function, message: error_text(&error) }
        })?;
        let meter = Arc::clone(self.store.data().meter());
        let answer = {
            let mut call = pin!(export.call_async(&mut self.store, params));
            std::future::poll_fn(|context| meter.poll(call.as_mut(), context)).await
        };
        let mut answer = answer.map_err(|error| self.provider.grant.error_sort(&error, &meter))?;
        answer.pass(&self.provider.grant.border);
        Ok(answer)
    }
}

enum Failed {
    Guest(wasmtime::Error),
    Type(wasmtime::Error),
}

/// Counts a call from its beginning to its end, which is a cancelled call's end too.
struct Entered<'a> {
    stats: &'a Stats,
    begun: Instant,
    error: Option<&'static str>,
}

impl Entered<'_> {
    fn new(stats: &Stats) -> Entered<'_> {
        stats.call_begun();
        Entered { stats, begun: Instant::now(), error: Some("cancelled") }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.stats.call_ended(self.begun.elapsed(), self.error);
    }
}

struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
