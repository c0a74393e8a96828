//! The addresses of a name, looked up on threads that nothing else waits for.
//!
//! The system's lookup holds its thread until a name server answers, and cannot be ended. On the blocking threads of
//! the runtime, which files and every other provider share, one guest that asks for slow names with short time limits
//! would soon hold all of them. So each lookup has a thread of its own, of which there are few: a provider has
//! [`PROVIDER_LOOKUPS_MAX`] and a host [`LOOKUPS_MAX`]. A place is free again when the system's lookup returns, not
//! when the request is given up. Requests for one name share a lookup. One that finds no place is answered as not sent.
//!
//! Not here: which addresses are allowed (see `grants`), and requests (see `egress`).

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Lookups of one provider at once. It calls one or two names; their lookups are shared.
pub(crate) const PROVIDER_LOOKUPS_MAX: usize = 4;
/// Lookups of a host at once, each on a thread: as many as sixteen providers may have.
pub(crate) const LOOKUPS_MAX: usize = 64;
/// An older lookup is not joined: its server may be gone while another one answers.
const JOIN_TIME_MAX: Duration = Duration::from_secs(5);

type Find = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Finds the addresses of a name; their ports do not matter. It may block its thread.
#[derive(Clone)]
pub struct Lookup(Arc<Find>);

impl Lookup {
    /// A lookup in another way than the system's, for tests.
    pub fn new(find: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Lookup {
        Lookup(Arc::new(find))
    }
}

/// The system's own.
impl Default for Lookup {
    fn default() -> Lookup {
        Lookup::new(|name| Ok((name, 0).to_socket_addrs()?.collect()))
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookup")
    }
}

/// Why there are no addresses. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    /// The lookup says so.
    #[error("{0}")]
    Failed(Arc<str>),
    /// No place is free. Trying again can help once an earlier lookup has ended.
    #[error("too many name lookups at once: earlier ones have no answer yet")]
    Busy,
    /// It ended without an answer.
    #[error("the name lookup stopped")]
    Stopped,
}

type Answer = Result<Arc<[SocketAddr]>, LookupError>;

/// The lookups of a host.
pub(crate) struct Lookups {
    lookup: Lookup,
    places: Arc<Semaphore>,
    /// The newest lookup of each name.
    running: Mutex<BTreeMap<String, Running>>,
    numbers: AtomicU64,
}

struct Running {
    number: u64,
    begun: Instant,
    answer: watch::Receiver<Option<Answer>>,
}

/// The places of one provider.
#[derive(Clone)]
pub(crate) struct ProviderPlaces(Arc<Semaphore>);

impl Default for ProviderPlaces {
    fn default() -> ProviderPlaces {
        ProviderPlaces(Arc::new(Semaphore::new(PROVIDER_LOOKUPS_MAX)))
    }
}

impl Lookups {
    pub(crate) fn new(lookup: Lookup) -> Arc<Lookups> {
        Arc::new(Lookups {
            lookup,
            places: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            running: Mutex::default(),
            numbers: AtomicU64::new(0),
        })
    }

    /// The addresses of a name. Dropping the future leaves the lookup to others and to its end.
    ///
    /// # Errors
    /// `Busy` at once when the provider or the host has no place left.
    pub(crate) async fn find(self: &Arc<Lookups>, name: &str, places: &ProviderPlaces) -> Answer {
        let mut answer = self.join(name, places)?;
        match answer.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().unwrap_or(Err(LookupError::Stopped)),
            Err(_) => Err(LookupError::Stopped),
        }
    }

    /// Joins a lookup of the name, or begins one.
    fn join(
        self: &Arc<Lookups>,
        name: &str,
        places: &ProviderPlaces,
    ) -> Result<watch::Receiver<Option<Answer>>, LookupError> {
        let mut running = self.running();
        if let Some(known) = running.get(name).filter(|known| known.begun.elapsed() < JOIN_TIME_MAX) {
            return Ok(known.answer.clone());
        }
        let place = |of: &Arc<Semaphore>| Arc::clone(of).try_acquire_owned().map_err(|_| LookupError::Busy);
        let held = [place(&places.0)?, place(&self.places)?];
        let (sender, answer) = watch::channel(None);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let ending = Ending { lookups: Arc::clone(self), name: name.to_owned(), number, _held: held };
        let run = move || {
            let found = (ending.lookups.lookup.0)(&ending.name);
            let found = found.map(Arc::from).map_err(|error| LookupError::Failed(error.to_string().into()));
            // First the place, then the answer: whoever has it may ask again.
            drop(ending);
            sender.send_replace(Some(found));
        };
        let thread = std::thread::Builder::new().name("plugin-lookup".to_owned());
        running.insert(name.to_owned(), Running { number, begun: Instant::now(), answer: answer.clone() });
        // Where there is no thread, the ending that is dropped waits for the lock.
        drop(running);
        thread.spawn(run).map_err(|error| LookupError::Failed(error.to_string().into()))?;
        Ok(answer)
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        // Nothing inside the lock panics half way through a change.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a lookup when it is dropped, also by a panic.
struct Ending {
    lookups: Arc<Lookups>,
    name: String,
    number: u64,
    _held: [OwnedSemaphorePermit; 2],
}

impl Drop for Ending {
    fn drop(&mut self) {
        let mut running = self.lookups.running();
        if running.get(&self.name).is_some_and(|newest| newest.number == self.number) {
            running.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    use super::*;

    /// Lookups that end when the sender is dropped, and how many began.
    fn hanging() -> (Arc<Lookups>, mpsc::Sender<()>, Arc<AtomicUsize>) {
        let (release, held) = mpsc::channel::<()>();
        let (held, begun) = (Mutex::new(held), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&begun);
        let lookups = Lookups::new(Lookup::new(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = held.lock().unwrap_or_else(PoisonError::into_inner).recv();
            Ok(vec![SocketAddr::from(([192, 0, 2, 1], 0))])
        }));
        (lookups, release, begun)
    }

    #[tokio::test]
    async fn requests_for_one_name_share_a_lookup() {
        let (lookups, release, begun) = hanging();
        let places = ProviderPlaces::default();
        let answers: Vec<_> = (0..100).map(|_| lookups.join("a.test", &places).expect("joins")).collect();
        drop(release);
        for mut answer in answers {
            let answer = answer.wait_for(Option::is_some).await.expect("an answer").clone();
            assert_eq!(answer.expect("answered").map(|found| found.len()), Ok(1));
        }
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        assert!(lookups.find("a.test", &places).await.is_ok(), "and the next one begins anew");
        assert_eq!(begun.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_provider_and_a_host_have_so_many_lookups_and_no_more_until_one_ends() {
        let (lookups, release, begun) = hanging();
        let providers: Vec<_> =
            (0..=LOOKUPS_MAX / PROVIDER_LOOKUPS_MAX).map(|_| ProviderPlaces::default()).collect();
        let (last, others) = providers.split_last().expect("several");
        for (number, places) in others.iter().enumerate() {
            for name in 0..PROVIDER_LOOKUPS_MAX {
                assert!(lookups.join(&format!("{name}.{number}.test"), places).is_ok());
            }
            if number + 1 < others.len() {
                assert_eq!(
                    lookups.join(&format!("more.{number}.test"), places).err(),
                    Some(LookupError::Busy)
                );
                let other = ProviderPlaces::default();
                assert!(lookups.join(&format!("0.{number}.test"), &other).is_ok(), "joining takes no place");
            }
        }
        assert_eq!(lookups.find("last.test", last).await, Err(LookupError::Busy));
        drop(release);
        while lookups.find("last.test", last).await.is_err() {
            tokio::task::yield_now().await;
        }
        while !lookups.running().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(begun.load(Ordering::SeqCst), LOOKUPS_MAX + 1);
    }

    #[tokio::test]
    async fn a_lookup_that_fails_or_panics_gives_its_place_back() {
        let lookups = Lookups::new(Lookup::new(|name| match name {
            "panics.test" => panic!("as it should"),
            _ => Err(io::Error::other("no such name")),
        }));
        let places = ProviderPlaces::default();
        for _ in 0..2 * PROVIDER_LOOKUPS_MAX {
            let failed = LookupError::Failed("no such name".into());
            assert_eq!(lookups.find("fails.test", &places).await, Err(failed));
            assert_eq!(lookups.find("panics.test", &places).await, Err(LookupError::Stopped));
        }
    }
}
