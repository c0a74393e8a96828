//! `chat/search/`: messages with words, in one room or in all rooms of the caller.
//!
//! The domain decides what fits and what the caller may see (`chelseru_domain::chat::search`). A cursor is the id of
//! the message to continue below, over all rooms with its time.

use std::collections::HashMap;
use std::sync::Arc;

use chelseru_domain::chat::search::{BadQuery, Found, Place, QUERY_CHARS_MAX, QUERY_WORDS_MAX, Query};
use chelseru_domain::chat::{ChatError, ChatService, Message, RoomId};
use chelseru_domain::login::identity::Caller;

use super::Chat;
use super::failure::{failure, no_room};
use super::json::{MessageJson, People, RoomView, USERS_SHOWN};
use super::message::page_size;
use crate::files::shown::Shown;
use crate::page::{CURSOR, Cursor, TimeCursor, page, page_in_time, start, start_in_time};
use crate::reply::{Failure, Reply};
use crate::request::{Access, Request};
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
                      or empty, although older messages have the words: one request reads a bounded number of \
                      messages. Continue while `next` is present",
            parameters: &[
                Field("q", Is::Text, "Up to 8 words. Each must stand within some word of a message."),
                Field("chat_room", Is::MayInteger, "The room; all rooms of the caller without it."),
                Field("page_size", Is::MayInteger, "Messages of a page, 1 to 100."),
                CURSOR,
            ],
            fields: &[],
            answers: &[
                (200, "Page<ChatMessage>"),
                (404, "The caller may not see the room."),
                (429, "Too many searches in this minute."),
            ],
        },
    }],
}];

/// `GET chat/search/?q=&chat_room=`.
async fn search(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
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
    let (service, user) = (&chat.chat, request.caller.user_id);
    let size = page_size(&request);
    let shown = match room {
        Some(room) => {
            let before = start(&request)?;
            let search = async {
                let Found { messages, next } = service.search_room(user, room, &query, before, size).await?;
                let next = next.map(Cursor::Next);
                show(&chat, &request, messages, |shown| page(&request, next, None, shown)).await
            };
            search.await
        }
        None => {
            let before = start_in_time(&request)?.map(|TimeCursor { at, position: id }| Place { at, id });
            let search = async {
                let Found { messages, next } = service.search_rooms(user, &query, before, size).await?;
                let next = next.map(|Place { at, id }| TimeCursor { at, position: id });
                show(&chat, &request, messages, |shown| page_in_time(&request, next, shown)).await
            };
            search.await
        }
    };
    let shown = shown.map_err(|error| failure(&request, error, no_room))?;
    Ok(shown.with_left(service.searches_left(user)))
}

fn reason(wrong: BadQuery) -> String {
    match wrong {
        BadQuery::Empty => "Must contain a letter or a digit.".to_owned(),
        BadQuery::TooLong => format!("Ensure this field has no more than {QUERY_CHARS_MAX} characters."),
        BadQuery::TooManyWords => format!("Must be at most {QUERY_WORDS_MAX} words."),
    }
}

/// The page with these messages, which `page` makes of what clients see of them.
async fn show(
    chat: &Chat,
    request: &Request<Caller>,
    found: Vec<Message>,
    page: impl FnOnce(&[MessageJson<'_>]) -> Reply,
) -> Result<Reply, ChatError> {
    let (service, reader) = (&chat.chat, request.caller);
    let views = views(service, reader, &found).await?;
    let (mut people, mut files) = (People::default(), Shown::to(&chat.files, request, reader));
    // A room that the caller left since the search is not shown.
    let messages = found.iter().filter_map(|message| Some((message, views.get(&message.room)?)));
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
            Some(MessageJson::of(request, message, view, reference, (&people, &files)))
        })
        .collect();
    Ok(page(&results))
}

/// The rooms of the found messages.
async fn views(
    service: &ChatService,
    reader: Caller,
    found: &[Message],
) -> Result<HashMap<RoomId, RoomView>, ChatError> {
    let mut views = HashMap::new();
    for message in found {
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
