//! News of chat rooms for webhooks: messages and invitations that somebody without a socket missed.
//!
//! News are hints, from which an application builds push notifications. They are kept in memory only and tried a few
//! times within a minute; a restart forgets them, and so does a receiver that is down for longer. Nothing is lost by
//! that: whoever connects gets every message. Bounds: [`WAITING_MAX`] per endpoint, [`AT_ONCE`] requests of one at a
//! time; what exceeds them is dropped and counted. Payments' events have their own, durable path (`webhooks`).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::chat::{Absence, Notice, news, news_kind};
use chelseru_domain::ids::UserId;
use chelseru_domain::operator::Meter;
use chelseru_domain::operator::webhook::Told;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;

/// News that wait for one endpoint.
const WAITING_MAX: usize = 1000;
/// Requests to one endpoint at once.
const AT_ONCE: usize = 8;
/// Waits between attempts. Later a notification is no news.
const DELAYS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];
/// Notices taken at once.
const STEP: usize = 256;
/// Users without a socket here of whom the other gateways are asked at once; the rest counts as away.
const ASKED_MAX: usize = 10_000;

/// The places of one endpoint.
#[derive(Clone)]
struct Line {
    waiting: Arc<Semaphore>,
    sending: Arc<Semaphore>,
}

impl Default for Line {
    fn default() -> Line {
        Line { waiting: Arc::new(Semaphore::new(WAITING_MAX)), sending: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

/// Tells webhooks of news until the gateway stops.
pub(crate) async fn tell_news(app: Arc<App>, stop: CancellationToken) {
    let Some(mut queue) = app.hub.news() else { return };
    let (mut lines, mut notices) = (HashMap::new(), Vec::with_capacity(STEP));
    let tasks = TaskTracker::new();
    let mut dropped = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            received = queue.recv_many(&mut notices, STEP) => if received == 0 { return },
        }
        for absence in absences(&app, &mut notices).await {
            tell_one(&app, &stop, &tasks, &mut lines, &absence);
        }
        let now = app.hub.news_dropped();
        if now > dropped {
            tracing::warn!(count = now - dropped, "news of chat were dropped: too many wait");
            dropped = now;
        }
    }
}

/// Who missed each notice. The other gateways are asked once for all of them.
async fn absences(app: &App, notices: &mut Vec<Notice>) -> Vec<Absence> {
    let (mut missed, mut absent) = (Vec::new(), BTreeSet::new());
    for notice in notices.drain(..) {
        match app.chat.addressed(&notice).await {
            Ok(mut users) => {
                users.retain(|user| !app.hub.has(*user));
                absent.extend(users.iter().copied());
                missed.push((notice, users));
            }
            Err(error) => tracing::warn!(%error, "the members who are away could not be read"),
        }
    }
    let elsewhere = app.nodes.connected(absent.into_iter().take(ASKED_MAX).collect()).await;
    let of = |(notice, mut users): (Notice, Vec<UserId>)| {
        users.retain(|user| !elsewhere.contains(user));
        Absence::of(notice, users)
    };
    missed.into_iter().filter_map(of).collect()
}

/// Sends one notice to every endpoint that wants it, each by a task of its own.
fn tell_one(
    app: &Arc<App>,
    stop: &CancellationToken,
    tasks: &TaskTracker,
    lines: &mut HashMap<String, Line>,
    absence: &Absence,
) {
    for (name, with_text) in app.live().endpoints.wanting_news(news_kind(absence)) {
        let line = lines.entry(name.clone()).or_default().clone();
        let Ok(place) = line.waiting.try_acquire_owned() else {
            count(app, &name, "dropped");
            continue;
        };
        let (id, body) = news(absence, with_text);
        let (app, stop) = (app.clone(), stop.clone());
        tasks.spawn(async move {
            let _place = place;
            tokio::select! {
                () = stop.cancelled() => {}
                () = deliver(&app, &name, &line.sending, &id, &body) => {}
            }
        });
    }
}

async fn deliver(app: &App, name: &str, sending: &Semaphore, id: &str, body: &serde_json::Value) {
    for delay in DELAYS.into_iter().map(Some).chain([None]) {
        // The endpoints of the serving configuration, which may have changed since.
        let endpoints = app.live().endpoints.clone();
        let told = {
            let _turn = sending.acquire().await;
            endpoints.tell_news(name, id, body, app.clock.now()).await
        };
        match (told, delay) {
            (Told::Accepted, _) => return count(app, name, "delivered"),
            (Told::Failed { .. }, Some(delay)) => {
                count(app, name, "failed");
                tokio::time::sleep(delay).await;
            }
            (Told::Failed { error, .. } | Told::Gone { error }, _) => {
                tracing::warn!(webhook = name, %error, "news of chat were not delivered");
                return count(app, name, "dropped");
            }
        }
    }
}

fn count(app: &App, name: &str, outcome: &str) {
    let labels = [("webhook", name), ("outcome", outcome)];
    app.metrics.counter("chelseru_webhooks_total", &labels).increment();
}
