//! Live pages: one stream of server-sent events for each page in sight.
//!
//! A browser asks for the page's own address with `Accept: text/event-stream`. The gateway then looks at the page in
//! the operator's place, again and again, and sends its `main` when that changed, so the browser asks for nothing.
//! Looking works for every page and on every engine, also for what another gateway stored; a notice for each kind of
//! row would have to know which rows a filter shows.
//!
//! Invariants: a stream is no use of its session and ends with it; there are at most [`STREAMS_PER_OPERATOR`] of one
//! operator and [`STREAMS_MAX`] in all; looks run one at a time, and one stream looks for at most a [`SHARE`]th of the
//! time; a stop and a new configuration end all streams, and browsers come back by themselves.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use chelseru_domain::ids::UserId;
use http::header::{HeaderName, HeaderValue};
use http::{StatusCode, header};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Console;
use super::visit::{Outcome, Refused, Visit, guarded};
use crate::reply::Reply;
use crate::request::Context;

/// Streams of one operator. Browsers keep six connections to a host, so more would not open anyway.
pub(crate) const STREAMS_PER_OPERATOR: usize = 6;
/// Streams in all.
pub(crate) const STREAMS_MAX: usize = 32;
/// Between two looks, at least.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A page that takes long is looked at less often: the pause is this many times the look.
const SHARE: u32 = 20;
/// Silence before a comment that shows proxies that the stream lives. nginx gives up after 60 s.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A stream ends after this; the browser opens the next one.
const STREAM_MAX: Duration = Duration::from_secs(600);

const EVENTS: &str = "text/event-stream";
/// nginx would keep events until its buffer is full.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

/// How a page is made.
pub(crate) type Look = for<'a> fn(&'a Console, &'a Context, &'a Visit) -> Looking<'a>;
pub(crate) type Looking<'a> = Pin<Box<dyn Future<Output = Result<Outcome, Refused>> + Send + 'a>>;

/// The open streams.
pub struct Streams {
    open: Mutex<HashMap<UserId, usize>>,
    turn: Semaphore,
    stop: CancellationToken,
}

impl Default for Streams {
    fn default() -> Self {
        Streams { open: Mutex::default(), turn: Semaphore::new(1), stop: CancellationToken::new() }
    }
}

impl Streams {
    /// Ends all streams, and those that are opened afterwards.
    pub fn end(&self) {
        self.stop.cancel();
    }

    /// Takes a place, unless all are taken.
    fn enter(self: &Arc<Self>, user: UserId) -> Option<Place> {
        let mut open = self.lock();
        let own = open.get(&user).copied().unwrap_or(0);
        if own >= STREAMS_PER_OPERATOR || open.values().sum::<usize>() >= STREAMS_MAX {
            return None;
        }
        open.insert(user, own + 1);
        Some(Place { streams: self.clone(), user })
    }

    /// No code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the streams. Dropping it frees the place.
struct Place {
    streams: Arc<Streams>,
    user: UserId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.lock();
        if let Some(own) = open.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.user);
            }
        }
    }
}

/// Whether a request asks for a page's stream.
pub(crate) fn is_asked(context: &Context) -> bool {
    context.header(header::ACCEPT).split(',').any(|range| range.trim() == EVENTS)
}

/// The answer to whoever is no operator any more: a stream that ends, because a browser's stream follows no redirect to
/// the login.
pub(crate) fn refused(context: &Context, reply: Reply) -> Reply {
    match is_asked(context) && reply.status == StatusCode::SEE_OTHER {
        true => guarded(Reply::text(StatusCode::OK, EVENTS, event("end", ""))),
        false => reply,
    }
}

/// Opens the stream of a page. 204, after which a browser does not try again, when all places are taken.
pub(crate) fn open(console: &Arc<Console>, context: Context, visit: &Visit, look: Look) -> Reply {
    let Some(place) = console.streams.enter(visit.seat.user.id) else { return guarded(Reply::empty()) };
    let (events, sent) = mpsc::channel(1);
    let watched = Watched { console: Arc::downgrade(console), context, look, place };
    tokio::spawn(watched.tell(events));
    guarded(Reply::stream(StatusCode::OK, HeaderValue::from_static(EVENTS), sent))
        .with(UNBUFFERED, HeaderValue::from_static("no"))
}

/// A page whose stream is open.
struct Watched {
    /// Gone with its configuration.
    console: Weak<Console>,
    context: Context,
    look: Look,
    place: Place,
}

/// What a look found.
enum Seen {
    Main {
        html: String,
        live: bool,
    },
    /// The session ended, or the page is there no more.
    Ended,
    /// The page stays as it was.
    Failed,
}

impl Watched {
    async fn tell(self, events: mpsc::Sender<Bytes>) {
        let stop = &self.place.streams.stop;
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = events.closed() => {}
            () = tokio::time::sleep(STREAM_MAX) => {}
            () = self.look_on(&events) => {}
        }
    }

    /// Looks until the page does not change by itself any more, or the browser is gone.
    async fn look_on(&self, events: &mpsc::Sender<Bytes>) {
        let (mut shown, mut told_at) = (None, Instant::now());
        loop {
            let begun = Instant::now();
            let (event, ends) = match self.look().await {
                None => return,
                Some(Seen::Failed) => (None, false),
                Some(Seen::Ended) => (Some(event("end", "")), true),
                Some(Seen::Main { html, live }) => {
                    let print = fingerprint(&html);
                    let is_new = shown.replace(print) != Some(print);
                    (is_new.then(|| event("main", &html)), !live)
                }
            };
            let silent = told_at.elapsed() >= HEARTBEAT;
            let event = event.or_else(|| silent.then(|| Bytes::from_static(b":\n\n")));
            if let Some(event) = event {
                told_at = Instant::now();
                if events.send(event).await.is_err() {
                    return;
                }
            }
            if ends {
                return;
            }
            tokio::time::sleep(LOOK_EVERY.max(begun.elapsed() * SHARE).min(HEARTBEAT)).await;
        }
    }

    /// `None` when another configuration serves.
    async fn look(&self) -> Option<Seen> {
        let _turn = self.place.streams.turn.acquire().await.ok()?;
        let console = self.console.upgrade()?;
        let visit = match console.visit(&self.context).await {
            Ok(visit) => visit,
            Err(reply) if reply.status == StatusCode::SEE_OTHER => return Some(Seen::Ended),
            Err(_) => return Some(Seen::Failed),
        };
        Some(match (self.look)(&console, &self.context, &visit).await {
            Ok(Outcome::Page(page)) => {
                let live = page.live;
                let reply = visit.reply(&self.context, Ok(Outcome::Page(page)));
                main_of(&reply.body).map_or(Seen::Failed, |html| Seen::Main { html, live })
            }
            Err(Refused::Forbidden(_) | Refused::Missing) => Seen::Ended,
            _ => Seen::Failed,
        })
    }
}

/// The page's own part.
fn main_of(page: &[u8]) -> Option<String> {
    let page = std::str::from_utf8(page).ok()?;
    let main = &page[page.find("<main")?..];
    const END: &str = "</main>";
    Some(main[..main.find(END)? + END.len()].to_owned())
}

/// An event as it is sent: each line of its data for itself.
fn event(name: &str, data: &str) -> Bytes {
    let mut text = format!("event: {name}\n");
    // A carriage return would end a line, too.
    for line in data.split(['\n', '\r']) {
        text.push_str("data: ");
        text.push_str(line);
        text.push('\n');
    }
    text.push('\n');
    text.into()
}

fn fingerprint(html: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    html.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_for_one_operator_and_for_all_and_come_back() {
        let streams = Arc::new(Streams::default());
        let mut held: Vec<_> =
            (0..STREAMS_PER_OPERATOR).map(|_| streams.enter(UserId(1)).expect("a place")).collect();
        assert!(streams.enter(UserId(1)).is_none());
        let others = STREAMS_MAX - STREAMS_PER_OPERATOR;
        held.extend((0..others).map(|n| streams.enter(UserId(2 + n as u64)).expect("a place")));
        assert!(streams.enter(UserId(1000)).is_none(), "all are taken");
        held.pop();
        held.push(streams.enter(UserId(1000)).expect("a place"));
        drop(held);
        assert!(streams.lock().is_empty());
    }

    #[test]
    fn an_event_has_its_data_line_by_line() {
        assert_eq!(
            event("main", "<main>\na\r\n</main>"),
            "event: main\ndata: <main>\ndata: a\ndata: \ndata: </main>\n\n"
        );
        assert_eq!(event("end", ""), "event: end\ndata: \n\n");
    }

    #[test]
    fn the_part_of_a_page_is_its_main() {
        let page = b"<body><nav></nav><main id=\"content\" data-live>\n<p>x</p></main><dialog></dialog>";
        assert_eq!(main_of(page).as_deref(), Some("<main id=\"content\" data-live>\n<p>x</p></main>"));
        assert_eq!(main_of(b"<body>"), None);
    }
}
