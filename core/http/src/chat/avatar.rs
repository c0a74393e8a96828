//! `me/avatar/`: the picture of the caller's account.
//!
//! It is shown wherever the caller's name is ([`PersonJson`](super::json::PersonJson)), never to users whom the caller
//! blocks. Only pictures that can be decoded are accepted: what others' apps show to their users is not the uploader's
//! choice of bytes.

use std::sync::Arc;

use chelseru_domain::login::identity::Caller;
use http::StatusCode;
use serde_json::json;

use super::Chat;
use super::failure::{failure, no_user};
use crate::drain::Incoming;
use crate::files::failure::file_failure;
use crate::files::shown::Shown;
use crate::files::upload::multipart;
use crate::reply::{Failure, Reply};
use crate::request::{Access, Request};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[Route {
    path: "/me/avatar/",
    name: "Me Avatar",
    access: Access::User,
    kind: Kind::Plain,
    operations: &[
        Operation {
            verb: Verb::Put,
            id: "me_avatar_set",
            call: call!(set),
            about: About {
                summary: "Set the picture of the caller's account, in place of the one before",
                parameters: &[],
                fields: &[Field(
                    "file",
                    Is::File,
                    "A JPEG, PNG or WebP picture of at most `files.avatar_bytes_max` bytes.",
                )],
                answers: &[
                    (200, "Avatar"),
                    (507, "The space for files is used up."),
                    (429, "Too many uploads at once."),
                ],
            },
        },
        Operation {
            verb: Verb::Delete,
            id: "me_avatar_remove",
            call: call!(remove),
            about: About {
                summary: "Remove the picture of the caller's account",
                parameters: &[],
                fields: &[],
                answers: &[(204, "There is none from now on.")],
            },
        },
    ],
}];

/// `PUT me/avatar/`: multipart `file`.
async fn set(chat: Arc<Chat>, request: Request<Caller, Incoming>) -> Answer {
    let Request { context, caller, body } = request;
    let (files, user) = (&chat.files, caller.user_id);
    let bytes_max = files.limits.avatar_bytes_max.min(files.limits.file_bytes_max);
    let form = multipart(files, &context, user, bytes_max, body).await?;
    let without = form.without_file();
    let (incoming, title) = form.file.ok_or_else(|| Failure::field("file", without))?;
    let keeper = chat.clone();
    let keeping = async move {
        let (store, limits) = (&keeper.files.store, &keeper.files.limits);
        let kept = store.keep_avatar(incoming, user, &title, limits).await;
        keeper.sockets.face_changed(user).await;
        kept
    };
    let kept = files.detached.spawn(keeping).await.map_err(|_| Failure::internal())?;
    let kept = kept.map_err(|error| file_failure(&context, error, "file"))?;
    let mut shown = Shown::to(files, &context, caller);
    shown.load_avatars(vec![kept.id]).await.map_err(|error| failure(&context, error, no_user))?;
    let id = Some(kept.id);
    Ok(Reply::json(StatusCode::OK, &json!({"avatar": shown.address(id), "avatar_file": shown.get(id)})))
}

/// `DELETE me/avatar/`: none is no error.
async fn remove(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let user = request.caller.user_id;
    let removed = chat.chat.avatar_remove(user, None).await;
    removed.map_err(|error| failure(&request, error, no_user))?;
    chat.sockets.face_changed(user).await;
    Ok(Reply::empty())
}
