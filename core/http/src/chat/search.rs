//! `chat/search/`: messages with words, in one room or in all rooms of the caller.
//!
//! The domain decides what fits and what the caller may see (`chelseru_domain::chat::search`). A cursor is the id of
//! the message to continue below.

use std::collections::HashMap;
use std::sync::Arc;

use chelseru_domain::chat::search::{BadQuery, Found, QUERY_CHARS_MAX, QUERY_WORDS_MAX, Query};
use chelseru_domain::chat::{ChatError, ChatService, RoomId};
use chelseru_domain::login::identity::Caller;

use super::Chat;
use super::failure::{failure, no_room};
use super::json::{MessageJson, People, RoomView, USERS_SHOWN};
use super::message::page_size;
use crate::files::shown::Shown;
use crate::page::{CURSOR, Cursor, page, start};
use crate::reply::{Failure, Reply};
use crate::request::{Access, Context, Request};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[Route {
    path: "/chat/search/",
    name: "Message Search",
    access: Access::User,
    kind: Kind::Plain,
    operations: &[Operation {
        verb: Verb::Get,
        id: "chat_search",
        call: call!(search),
        about: About {
            summary: "Search messages, newest first, in one room or in all rooms of the caller. A page may be short, \
                      or empty, and not be the last: continue while `next` is present",
            parameters: &[
                Field("q", Is::Text, "Up to 8 words. Each must stand within some word of a message."),
                Field("chat_room", Is::MayInteger, "The room; all rooms of the caller without it."),
                Field("page_size", Is::MayInteger, "Messages of a page, 1 to 100."),
                CURSOR,
            ],
            fields: &[],
            answers: &[
                (200, "Page<ChatMessage>"),
                (404, "The caller may not see the room, or the message of the cursor is gone."),
                (429, "Too many searches in this minute."),
                (
                    503,
                    "The caller's messages are being indexed (search_preparing). Repeat after Retry-After.",
                ),
            ],
        },
    }],
}];

/// `GET chat/search/?q=&chat_room=`.
async fn search(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let before = start(&request)?;
    let Some(text) = request.query("q") else {
        return Err(Failure::field("q", "This field is required."));
    };
    let query = Query::parse(&text).map_err(|wrong| Failure::field("q", reason(wrong)))?;
    let room = match request.query("chat_room") {
        None => None,
        Some(text) => match text.parse() {
            Ok(room) => Some(RoomId(room)),
            Err(_) => return Err(Failure::field("chat_room", "A valid integer is required.")),
        },
    };
    let (service, user, size) = (&chat.chat, request.caller.user_id, page_size(&request));
    let found = match room {
        Some(room) => service.search_room(user, room, &query, before, size).await,
        None => service.search_rooms(user, &query, before, size).await,
    };
    let shown = async { show(&chat, &request, request.caller, found?).await };
    let shown = shown.await.map_err(|error| failure(&request, error, no_room))?;
    Ok(shown.with_left(service.searches_left(user)))
}

fn reason(wrong: BadQuery) -> String {
    match wrong {
        BadQuery::Empty => "Must contain a letter or a digit.".to_owned(),
        BadQuery::TooLong => format!("Ensure this field has no more than {QUERY_CHARS_MAX} characters."),
        BadQuery::TooManyWords => format!("Must be at most {QUERY_WORDS_MAX} words."),
    }
}

async fn show(chat: &Chat, context: &Context, reader: Caller, found: Found) -> Result<Reply, ChatError> {
    let service = &chat.chat;
    let views = views(service, reader, &found).await?;
    let (mut people, mut files) = (People::default(), Shown::to(&chat.files, context, reader));
    // A room that the caller left since the search is not shown.
    let messages = found.messages.iter().filter_map(|message| Some((message, views.get(&message.room)?)));
    let messages: Vec<_> = messages.collect();
    for (message, view) in &messages {
        files.load(message.file).await?;
        people.load(service, view.readers(message).chain([message.sender]).collect()).await?;
        files.load_avatars(people.avatars([message.sender])).await?;
    }
    let references: HashMap<RoomId, _> = views.iter().map(|(room, view)| (*room, view.reference())).collect();
    let results: Vec<MessageJson<'_>> = messages
        .iter()
        .filter_map(|(message, view)| {
            let reference = references.get(&message.room)?;
            Some(MessageJson::of(context, message, view, reference, (&people, &files)))
        })
        .collect();
    Ok(page(context, found.next.map(Cursor::Next), None, &results))
}

/// The rooms of the found messages.
async fn views(
    service: &ChatService,
    reader: Caller,
    found: &Found,
) -> Result<HashMap<RoomId, RoomView>, ChatError> {
    let mut views = HashMap::new();
    for message in &found.messages {
        if views.contains_key(&message.room) {
            continue;
        }
        match service.room(message.room, reader.user_id).await {
            Ok(summary) => {
                let view = RoomView::of(service, summary, USERS_SHOWN).await?;
                views.insert(message.room, view);
            }
            Err(ChatError::RoomMissing | ChatError::Denied(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(views)
}
