//! Everything of one's own as an archive: `me/export/` and `staff/users/{id}/export/`.
//!
//! The archive is built in a file without a name in the data folder, so neither its size nor a slow client takes
//! memory, and a crash leaves nothing behind. Invariants: it holds nothing of a second person; an account has one
//! export at a time and [`PER_DAY`] in a day, and at most [`AT_ONCE`] are built at once.
//!
//! Not here: what is in it (see `archive`).

use std::io::{Seek, SeekFrom};
use std::sync::Arc;

use chelseru_domain::ids::UserId;
use chelseru_domain::login::identity::Caller;
use chelseru_domain::operator::audit::{AuditEvent, AuditKind};
use chelseru_domain::rate::Rate;
use http::{HeaderValue, StatusCode, header};

use super::{Exports, Personal, archive};
use crate::files::failure::file_failure;
use crate::files::store::{FileError, pieces};
use crate::reply::{Failure, Reply};
use crate::reply_body::FileBody;
use crate::request::{Access, Context, Request, not_found};
use crate::route::{About, Answer, Kind, Operation, Route, Verb, call};
use crate::staff::require_staff;

/// Archives built at once, each by a thread of its own.
const AT_ONCE: usize = 2;
/// Archives of one account in a day.
const PER_DAY: u64 = 5;

const ANSWERS: &[(u16, &str)] = &[
    (200, "A zip archive; README.md tells what is in it."),
    (403, "Not staff."),
    (404, "No such account."),
    (409, "An export of this account is running."),
    (429, "Too many exports of this account today."),
];

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/me/export/",
        name: "Me Export",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "me_export",
            call: call!(own),
            about: About {
                summary: "Get everything of the caller's as a zip archive",
                parameters: &[],
                fields: &[],
                answers: ANSWERS,
            },
        }],
    },
    Route {
        path: "/staff/users/{id}/export/",
        name: "Staff User Export",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "staff_user_export",
            call: call!(of_another),
            about: About {
                summary: "Get everything of a user's as a zip archive; staff only",
                parameters: &[],
                fields: &[],
                answers: ANSWERS,
            },
        }],
    },
];

/// The right to build one archive; dropping it lets the next one begin.
struct Turn {
    exports: Arc<Exports>,
    user: UserId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.exports.lock().remove(&self.user);
    }
}

/// `GET me/export/`.
async fn own(personal: Arc<Personal>, request: Request<Caller>) -> Answer {
    export(&personal, &request, request.caller.user_id).await
}

/// `GET staff/users/{id}/export/`.
async fn of_another(personal: Arc<Personal>, request: Request<Caller>) -> Answer {
    require_staff(&personal.identity, request.caller.user_id, &request).await?;
    let user = UserId(request.id("id")?);
    let reply = export(&personal, &request, user).await?;
    let event = AuditEvent::new(AuditKind::UserExported).user(user).ip(Some(request.client));
    personal.identity.audit().record(event.detail(format!("staff {}", request.caller.user_id)));
    Ok(reply)
}

/// Everything of a user as an archive. Callers check that whoever asks may have it.
pub(crate) async fn export(personal: &Arc<Personal>, context: &Context, user: UserId) -> Answer {
    let known = personal.identity.user(user).await.map_err(|error| failed(context, &error))?;
    if known.is_none() {
        return Err(not_found());
    }
    let turn = turn(personal, user)?;
    let scratch = personal.files.scratch().map_err(|error| file_failure(context, error, "detail"))?;
    let (building, runtime) = (personal.clone(), tokio::runtime::Handle::current());
    // A thread of its own, because compressing and writing block. It builds on when the client goes away.
    let built = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let mut file = runtime.block_on(archive::write(&building, user, scratch))?;
        let bytes = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        Ok::<_, archive::ArchiveError>((file, bytes))
    });
    let built = built.await.map_err(|_| Failure::internal())?;
    let (file, bytes) = built.map_err(|error| match error {
        archive::ArchiveError::File(error @ FileError::Away(_)) => file_failure(context, error, "detail"),
        error => failed(context, &error),
    })?;
    let body = FileBody::new(pieces(tokio::fs::File::from_std(file), bytes), bytes);
    let name = HeaderValue::from_static("attachment; filename=\"export.zip\"");
    let mut reply = Reply::bare(StatusCode::OK).with(header::CONTENT_DISPOSITION, name);
    reply = reply.with(header::CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    reply.file = Some(Box::new(body));
    Ok(reply)
}

/// Lets an export begin, or says why not.
fn turn(personal: &Personal, user: UserId) -> Result<Turn, Failure> {
    let exports = &personal.exports;
    let mut running = exports.lock();
    if running.contains(&user) {
        let text = "An export of this account is running.";
        return Err(Failure::detail(StatusCode::CONFLICT, "export_running", text));
    }
    if running.len() >= AT_ONCE {
        let text = "Too many exports are in progress. Please try again.";
        return Err(Failure::detail(StatusCode::SERVICE_UNAVAILABLE, "busy", text).retry_after(10));
    }
    let taken = exports.made.take(&user, 1, Rate::per_day("exports", PER_DAY), personal.clock.now());
    taken.map_err(|exhausted| {
        let text = "This account was exported often enough today. Please try again later.";
        Failure::detail(StatusCode::TOO_MANY_REQUESTS, "exports_limited", text).exhausted(exhausted)
    })?;
    running.insert(user);
    Ok(Turn { exports: exports.clone(), user })
}

fn failed(context: &Context, error: &dyn std::fmt::Display) -> Failure {
    tracing::error!(request.id = %context.id, %error, "an export could not be made");
    Failure::internal()
}
