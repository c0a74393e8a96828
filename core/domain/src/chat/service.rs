//! The chat service: requests become changes with a judge, stored changes become events.
//!
//! A change's closure runs on the store's writer thread and only moves what was stored into a queue. One task,
//! [`ChatService::publish_all`], takes everything that waits, hands it to the port room by room, and then answers.
//! The queue is bounded by its senders: each answer releases the one who waits for it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use chelseru_store::chat::{
    Appended, FileDraft, FileId, FileKept, Judged, MessageBody, MessageDraft, MessageEdit, MessagePage,
    OrganizationChanged, OrganizationId, OrganizationMade, OrganizationRemoved, PairDraft, Room, RoomChange,
    RoomChanged, RoomDraft, RoomFacts, RoomId, RoomLimits, RoomMade, RoomStatus, RoomSummary, StoredFile,
};
use chelseru_store::{Store, StoreError};
use tokio::sync::{mpsc, oneshot};

use super::rights::{Action, Denied, Rights, effective, permit};
use super::{
    CLIENT_ID_CHARS_MAX, ChatError, ChatEvent, ChatPort, ChatRules, DESCRIPTIONS_CHARS_MAX, Gap, KINDS,
    Member, Message, MessageView, NAME_CHARS_MAX, Organization, Posted, PublicUser, Removal,
};
use crate::Clock;
use crate::ids::UserId;

/// Events handed to the port at once.
const PUBLISH_MAX: usize = 4096;

/// A message that somebody wants to send.
#[derive(Debug, Clone)]
pub struct Post {
    pub room: RoomId,
    pub sender: UserId,
    /// As others see it: [`ChatService::name`].
    pub sender_name: Arc<str>,
    pub body: MessageBody,
    pub file: Option<FileId>,
    pub client_id: Option<String>,
}

/// What of a room shall be otherwise; `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoomEdit {
    pub name: Option<Option<String>>,
    pub descriptions: Option<Option<String>>,
    pub status: Option<RoomStatus>,
    pub avatar: Option<Option<FileId>>,
}

/// What somebody asks of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomRequest {
    Edit(RoomEdit),
    Add(UserId),
    /// Of a member; the actor itself leaves.
    Remove(UserId),
    Ban(UserId),
    Unban(UserId),
    Grant(UserId, Rights),
    Revoke(UserId, Rights),
    Pin(bool),
    Read(u64),
    Delete,
}

impl RoomRequest {
    fn target(&self) -> Option<UserId> {
        match self {
            RoomRequest::Add(user)
            | RoomRequest::Remove(user)
            | RoomRequest::Ban(user)
            | RoomRequest::Unban(user)
            | RoomRequest::Grant(user, _)
            | RoomRequest::Revoke(user, _) => Some(*user),
            RoomRequest::Edit(_) | RoomRequest::Pin(_) | RoomRequest::Read(_) | RoomRequest::Delete => None,
        }
    }
}

enum Refusal {
    Denied(Denied),
    Full(&'static str),
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Refusal::Denied(denied)
    }
}

impl From<Refusal> for ChatError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied(denied) => ChatError::Denied(denied),
            Refusal::Full(what) => ChatError::Full(what),
        }
    }
}

/// Something that was stored, on its way to the port.
pub struct Stored {
    event: Option<(RoomId, ChatEvent)>,
    done: Box<dyn FnOnce() + Send>,
}

/// The rooms, for everybody who asks.
pub struct ChatService {
    store: Store,
    clock: Arc<dyn Clock>,
    rules: RwLock<Arc<ChatRules>>,
    stored: mpsc::UnboundedSender<Stored>,
}

impl ChatService {
    /// The service, and the queue that [`ChatService::publish_all`] must be run over.
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        rules: ChatRules,
    ) -> (Self, mpsc::UnboundedReceiver<Stored>) {
        let (stored, queue) = mpsc::unbounded_channel();
        (ChatService { store, clock, rules: RwLock::new(Arc::new(rules)), stored }, queue)
    }

    /// Publishes what is stored until the service is gone.
    pub async fn publish_all(mut queue: mpsc::UnboundedReceiver<Stored>, port: Arc<dyn ChatPort>) {
        let mut waiting = Vec::new();
        let mut order: Vec<RoomId> = Vec::new();
        let mut rooms: HashMap<RoomId, Vec<ChatEvent>> = HashMap::new();
        while queue.recv_many(&mut waiting, PUBLISH_MAX).await > 0 {
            let mut done = Vec::with_capacity(waiting.len());
            for stored in waiting.drain(..) {
                if let Some((room, event)) = stored.event {
                    let events = rooms.entry(room).or_default();
                    if events.is_empty() {
                        order.push(room);
                    }
                    events.push(event);
                }
                done.push(stored.done);
            }
            for room in order.drain(..) {
                if let Some(events) = rooms.get_mut(&room) {
                    port.publish(room, events);
                    events.clear();
                }
            }
            // Quiet rooms do not stay.
            if rooms.len() > PUBLISH_MAX {
                rooms = HashMap::new();
            }
            done.into_iter().for_each(|done| done());
            // A flood of events does not keep others from this thread.
            tokio::task::yield_now().await;
        }
    }

    pub fn rules(&self) -> Arc<ChatRules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn set_rules(&self, rules: ChatRules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// Keeps a message and shows it to its room; `done` gets the outcome after that. Calls of one task are kept in
    /// the order in which they were made.
    ///
    /// # Errors
    ///
    /// What can be said at once; `done` is not called then.
    pub fn post<D>(&self, post: Post, done: D) -> Result<(), ChatError>
    where
        D: FnOnce(Result<Posted, ChatError>) + Send + 'static,
    {
        self.check_body(&post.body)?;
        if let Some(id) = &post.client_id {
            check_client_id(id)?;
        }
        let Post { room, sender, sender_name, body, file, client_id } = post;
        let draft = MessageDraft { room, sender, body, file, client_id, now: self.clock.now() };
        let stored = self.stored.clone();
        let judge = |facts: &RoomFacts| permit(Action::Post, facts);
        self.store.chat_message_append(draft, judge, move |result| {
            let view = |message| MessageView { message, sender_name };
            let (event, result) = match result {
                Ok(Judged::Done(Appended::New(message))) => {
                    let view = view(message);
                    (Some((room, ChatEvent::Posted(view.clone()))), Ok(Posted { view, duplicate: false }))
                }
                Ok(Judged::Done(Appended::Known(message))) => {
                    (None, Ok(Posted { view: view(message), duplicate: true }))
                }
                Ok(Judged::Done(Appended::FileUnusable)) => (None, Err(ChatError::FileUnusable)),
                Ok(Judged::Done(Appended::RoomFull)) => (None, Err(ChatError::Full("messages of a room"))),
                Ok(Judged::Missing) => (None, Err(ChatError::RoomMissing)),
                Ok(Judged::Refused(denied)) => (None, Err(denied.into())),
                Err(error) => (None, Err(error.into())),
            };
            // The queue is gone only when the process ends.
            let _ = stored.send(Stored { event, done: Box::new(move || done(result)) });
        })?;
        Ok(())
    }

    /// [`ChatService::post`], waiting.
    ///
    /// # Errors
    ///
    /// See [`ChatError`].
    pub async fn post_and_wait(&self, post: Post) -> Result<Posted, ChatError> {
        let (sender, receiver) = oneshot::channel();
        self.post(post, move |result| drop(sender.send(result)))?;
        answer(receiver).await
    }

    /// Edits or deletes a message; says what became of it.
    ///
    /// # Errors
    ///
    /// See [`ChatError`].
    pub async fn message_change(
        &self,
        room: RoomId,
        seq: u64,
        actor: UserId,
        edit: MessageEdit,
    ) -> Result<(MessageView, u64), ChatError> {
        if let MessageEdit::Body(body) = &edit {
            self.check_body(body)?;
        }
        // Whether there is such a message is for those who may see it.
        self.check(room, actor, Action::See)?;
        let (sender, receiver) = oneshot::channel();
        let stored = self.stored.clone();
        let store = self.store.clone();
        let judge = move |facts: &RoomFacts, message: &Message| {
            let own = message.sender == actor;
            permit(
                match edit {
                    MessageEdit::Body(_) => Action::EditMessage { own },
                    MessageEdit::Delete => Action::DeleteMessage { own },
                },
                facts,
            )?;
            Ok::<_, Denied>(edit)
        };
        self.store.chat_message_change(room, seq, actor, self.clock.now(), judge, move |result| {
            let (event, result) = match result {
                Ok(Judged::Done(edited)) => {
                    let name = name_of(&store, edited.message.sender);
                    let view = MessageView { message: edited.message, sender_name: name };
                    let event =
                        ChatEvent::Edited { view: view.clone(), revision: edited.revision, by: actor };
                    (Some((room, event)), Ok((view, edited.revision)))
                }
                Ok(Judged::Missing) => (None, Err(ChatError::MessageMissing)),
                Ok(Judged::Refused(denied)) => (None, Err(denied.into())),
                Err(error) => (None, Err(error.into())),
            };
            let done = Box::new(move || drop(sender.send(result)));
            let _ = stored.send(Stored { event, done });
        })?;
        answer(receiver).await
    }

    /// Finds or makes the room of a pair. True when it is new.
    ///
    /// # Errors
    ///
    /// See [`ChatError`].
    pub async fn pair_open(
        &self,
        user: UserId,
        other: UserId,
        edit: RoomEdit,
    ) -> Result<(Room, bool), ChatError> {
        check_edit(&edit)?;
        let draft = PairDraft {
            user,
            other,
            name: edit.name.flatten(),
            descriptions: edit.descriptions.flatten(),
            status: edit.status.unwrap_or(RoomStatus::Open),
            owner_rights: Rights::owner().bits(),
            other_rights: Rights::partner().bits(),
            limits: self.limits(),
            now: self.clock.now(),
        };
        let (sender, receiver) = oneshot::channel();
        let stored = self.stored.clone();
        self.store.chat_pair_open(draft, move |result| {
            let _ = stored.send(made(result, vec![user, other], sender));
        })?;
        answer(receiver).await
    }

    /// Makes a group room.
    ///
    /// # Errors
    ///
    /// See [`ChatError`].
    pub async fn group_create(
        &self,
        owner: UserId,
        members: Vec<UserId>,
        organization: Option<OrganizationId>,
        edit: RoomEdit,
    ) -> Result<Room, ChatError> {
        check_edit(&edit)?;
        let mut everybody = members.clone();
        everybody.push(owner);
        let draft = RoomDraft {
            owner,
            owner_rights: Rights::owner().bits(),
            members,
            member_rights: Rights::member().bits(),
            name: edit.name.flatten(),
            descriptions: edit.descriptions.flatten(),
            status: edit.status.unwrap_or(RoomStatus::Open),
            organization,
            limits: self.limits(),
            now: self.clock.now(),
        };
        let (sender, receiver) = oneshot::channel();
        let stored = self.stored.clone();
        self.store.chat_group_create(draft, move |result| {
            let _ = stored.send(made(result, everybody, sender));
        })?;
        answer(receiver).await.map(|(room, _)| room)
    }

    /// Carries out what the actor asks of a room, when the matrix allows it.
    ///
    /// # Errors
    ///
    /// See [`ChatError`].
    pub async fn room_change(
        &self,
        room: RoomId,
        actor: UserId,
        request: RoomRequest,
    ) -> Result<RoomChanged, ChatError> {
        if let RoomRequest::Edit(edit) = &request {
            check_edit(edit)?;
            if let Some(Some(avatar)) = edit.avatar {
                let file = self.store.chat_file(avatar)?;
                let fits = |file: &StoredFile| {
                    file.room == room && file.uploader == actor && file.content_type.starts_with("image/")
                };
                if !file.as_ref().is_some_and(fits) {
                    return Err(ChatError::FileUnusable);
                }
            }
        }
        let target = request.target();
        let rules = self.rules();
        let (sender, receiver) = oneshot::channel();
        let stored = self.stored.clone();
        let asked = request.clone();
        let judge = move |facts: &RoomFacts| judge(&asked, actor, facts, &rules);
        let now = self.clock.now();
        self.store.chat_room_change(room, actor, target, now, judge, move |result| {
            let result = match result {
                Ok(Judged::Done(changed)) => Ok(changed),
                Ok(Judged::Missing) => Err(ChatError::RoomMissing),
                Ok(Judged::Refused(refusal)) => Err(refusal.into()),
                Err(error) => Err(error.into()),
            };
            let event = result.as_ref().ok().and_then(|changed| event(&request, actor, changed));
            let done = Box::new(move || drop(sender.send(result)));
            let _ = stored.send(Stored { event: event.map(|event| (room, event)), done });
        })?;
        answer(receiver).await
    }

    /// Whether a user may do something in a room now. What changes something is judged again when it is done.
    ///
    /// # Errors
    ///
    /// [`ChatError::RoomMissing`], [`ChatError::Denied`], [`ChatError::Store`].
    pub fn check(&self, room: RoomId, user: UserId, action: Action) -> Result<RoomFacts, ChatError> {
        let facts = self.store.chat_facts(room, user)?.ok_or(ChatError::RoomMissing)?;
        permit(action, &facts)?;
        Ok(facts)
    }

    /// A user's rooms, the one with the newest change first.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub fn rooms(&self, user: UserId) -> Result<Vec<RoomSummary>, ChatError> {
        let mut rooms = self.store.chat_rooms_of(user, self.rules().rooms_per_user_max)?;
        rooms.sort_by_key(|summary| std::cmp::Reverse((summary.updated_at, summary.room.id)));
        Ok(rooms)
    }

    /// A room as one of its members sees it.
    ///
    /// # Errors
    ///
    /// [`ChatError::RoomMissing`], [`ChatError::Denied`], [`ChatError::Store`].
    pub fn room(&self, room: RoomId, user: UserId) -> Result<RoomSummary, ChatError> {
        self.check(room, user, Action::See)?;
        self.store.chat_summary(room, user)?.ok_or(ChatError::RoomMissing)
    }

    /// Everybody in a room.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub fn members(&self, room: RoomId) -> Result<Vec<Member>, ChatError> {
        Ok(self.store.chat_members(room, self.rules().members_max as usize)?)
    }

    /// Members by user number from `from` on, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub fn members_from(&self, room: RoomId, from: UserId, limit: usize) -> Result<Vec<Member>, ChatError> {
        Ok(self.store.chat_members_from(room, from, limit)?)
    }

    /// Who is banned, by user number from `from` on, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub fn bans_from(&self, room: RoomId, from: UserId, limit: usize) -> Result<Vec<UserId>, ChatError> {
        Ok(self.store.chat_bans_from(room, from, limit)?)
    }

    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub fn bans(&self, room: RoomId) -> Result<Vec<UserId>, ChatError> {
        Ok(self.store.chat_bans(room, self.rules().bans_max as usize)?)
    }

    /// A member's rights in a room.
    #[must_use]
    pub fn rights(&self, room: &Room, member: &Member) -> Rights {
        effective(member, room.owner)
    }

    /// A page of messages: numbers below `before`, newest first. The caller was checked.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub fn messages_before(&self, room: RoomId, before: u64, limit: usize) -> Result<MessagePage, ChatError> {
        Ok(self.store.chat_messages_before(room, before, limit)?)
    }

    /// A page of messages: numbers above `after`, oldest first. The caller was checked.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub fn messages_after(&self, room: RoomId, after: u64, limit: usize) -> Result<MessagePage, ChatError> {
        Ok(self.store.chat_messages_after(room, after, limit)?)
    }

    /// # Errors
    ///
    /// [`ChatError::MessageMissing`], and those of [`ChatService::check`].
    pub fn message(&self, room: RoomId, seq: u64, user: UserId) -> Result<Message, ChatError> {
        self.check(room, user, Action::See)?;
        let message = self.store.chat_message(room, seq)?.filter(|message| !message.deleted);
        message.ok_or(ChatError::MessageMissing)
    }

    /// The newest number and revision of a room, all of it durable.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn heads(&self, room: RoomId) -> Result<(u64, u64), ChatError> {
        let seq = self.store.chat_last_seq(room)?;
        let revision = self.store.chat_facts(room, UserId(0))?.map_or(0, |facts| facts.room.revision);
        // What was just read may be applied and not flushed yet.
        self.store.chat_barrier().await?;
        Ok((seq, revision))
    }

    /// What lies between what a client has seen and what was published.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub fn gap(&self, room: RoomId, seen: (u64, u64), heads: (u64, u64)) -> Result<Gap, ChatError> {
        let max = self.rules().resume_max;
        // Who has seen more than there is has another room, or another past.
        if seen.0 > heads.0 || seen.1 > heads.1 || heads.0 - seen.0 > max || heads.1 - seen.1 > max {
            return Ok(Gap::Reset);
        }
        let mut names: HashMap<UserId, Arc<str>> = HashMap::new();
        let mut view = |message: Message| {
            let name = names.entry(message.sender).or_insert_with(|| name_of(&self.store, message.sender));
            MessageView { sender_name: Arc::clone(name), message }
        };
        let messages = self.store.chat_gap(room, seen.0, heads.0)?.into_iter().map(&mut view).collect();
        let edits = self.store.chat_revisions(room, seen.1, heads.1)?;
        let edits = edits.into_iter().map(|edit| (edit.revision, view(edit.message))).collect();
        Ok(Gap::Whole { messages, edits })
    }

    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub fn user(&self, id: UserId) -> Result<Option<PublicUser>, ChatError> {
        Ok(self.store.user_get(id)?.as_ref().map(PublicUser::of))
    }

    /// A user's name as others see it; empty when there is none.
    #[must_use]
    pub fn name(&self, id: UserId) -> Arc<str> {
        name_of(&self.store, id)
    }

    /// # Errors
    ///
    /// [`ChatError::Full`], [`ChatError::Invalid`], [`ChatError::Store`].
    pub async fn organization_create(
        &self,
        owner: UserId,
        name: String,
        uname: String,
    ) -> Result<Organization, ChatError> {
        let max = self.rules().organizations_per_user_max;
        match self.store.chat_organization_create(owner, name, uname, max, self.clock.now()).await? {
            OrganizationMade::New(organization) => Ok(organization),
            OrganizationMade::NameTaken => Err(uname_taken()),
            OrganizationMade::TooMany => Err(ChatError::Full("organizations of a user")),
        }
    }

    /// Renames an organisation of a user; what is `None` stays.
    ///
    /// # Errors
    ///
    /// [`ChatError::OrganizationMissing`], [`ChatError::Invalid`], [`ChatError::Store`].
    pub async fn organization_update(
        &self,
        owner: UserId,
        id: OrganizationId,
        name: Option<String>,
        uname: Option<String>,
    ) -> Result<Organization, ChatError> {
        match self.store.chat_organization_update(owner, id, name, uname).await? {
            OrganizationChanged::Changed(organization) => Ok(organization),
            OrganizationChanged::Missing => Err(ChatError::OrganizationMissing),
            OrganizationChanged::NameTaken => Err(uname_taken()),
        }
    }

    /// Removes an organisation of a user that has no rooms.
    ///
    /// # Errors
    ///
    /// [`ChatError::OrganizationMissing`], [`ChatError::OrganizationHasRooms`], [`ChatError::Store`].
    pub async fn organization_remove(&self, owner: UserId, id: OrganizationId) -> Result<(), ChatError> {
        match self.store.chat_organization_remove(owner, id).await? {
            OrganizationRemoved::Removed => Ok(()),
            OrganizationRemoved::Missing => Err(ChatError::OrganizationMissing),
            OrganizationRemoved::HasRooms(rooms) => Err(ChatError::OrganizationHasRooms(rooms)),
        }
    }

    /// The rooms of an organisation that a user is in, the one with the newest change first: all of them for its
    /// owner, who is in each.
    ///
    /// # Errors
    ///
    /// [`ChatError::OrganizationMissing`] when there is none that the user could know of, [`ChatError::Store`].
    pub fn organization_rooms(
        &self,
        user: UserId,
        id: OrganizationId,
    ) -> Result<Vec<RoomSummary>, ChatError> {
        let mut rooms = self.rooms(user)?;
        rooms.retain(|summary| summary.room.organization == Some(id));
        let owns = || Ok::<_, ChatError>(self.organization(id)?.is_some_and(|found| found.owner == user));
        if rooms.is_empty() && !owns()? { Err(ChatError::OrganizationMissing) } else { Ok(rooms) }
    }

    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub fn organization(&self, id: OrganizationId) -> Result<Option<Organization>, ChatError> {
        Ok(self.store.chat_organization(id)?)
    }

    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub fn organizations(&self, owner: UserId) -> Result<Vec<Organization>, ChatError> {
        Ok(self.store.chat_organizations_of(owner, self.rules().organizations_per_user_max)?)
    }

    /// Notes an uploaded file, unless a bound is reached; the uploader was checked with [`Action::Post`].
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn file_keep(&self, draft: FileDraft) -> Result<FileKept, ChatError> {
        Ok(self.store.chat_file_keep(draft).await?)
    }

    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub fn file(&self, id: FileId) -> Result<Option<StoredFile>, ChatError> {
        Ok(self.store.chat_file(id)?)
    }

    /// The file with this name in its link, if the user may have it: members have what a message (or the room, as its
    /// avatar) has; what nobody sent yet is its uploader's.
    ///
    /// # Errors
    ///
    /// [`ChatError::RoomMissing`], [`ChatError::Denied`], [`ChatError::Store`].
    pub fn file_for(&self, file: StoredFile, user: UserId) -> Result<Option<StoredFile>, ChatError> {
        self.check(file.room, user, Action::See)?;
        Ok(Some(file).filter(|file| file.message.is_some() || file.uploader == user))
    }

    /// Removes what rooms left behind whose removal was cut short.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn sweep_all(&self) -> Result<(), ChatError> {
        for room in self.store.chat_rooms_to_sweep(100)? {
            self.sweep(room).await?;
        }
        Ok(())
    }

    /// Removes what a deleted room left behind.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub async fn sweep(&self, room: RoomId) -> Result<(), ChatError> {
        while self.store.chat_room_sweep(room, 500).await? > 0 {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn now(&self) -> crate::Timestamp {
        self.clock.now()
    }

    fn limits(&self) -> RoomLimits {
        let rules = self.rules();
        RoomLimits {
            rooms_per_user_max: rules.rooms_per_user_max,
            members_max: rules.members_max,
            bans_max: rules.bans_max,
        }
    }

    fn check_body(&self, body: &MessageBody) -> Result<(), ChatError> {
        let invalid = |field, reason: String| Err(ChatError::Invalid { field, reason });
        if !KINDS.contains(&body.kind.as_str()) {
            return invalid("message_type", format!("\"{}\" is not a valid choice.", short(&body.kind)));
        }
        let max = self.rules().text_chars_max;
        // A character has at most four bytes: most texts need no counting.
        if body.text.len() > max && body.text.chars().count() > max {
            return invalid("text", format!("Ensure this field has no more than {max} characters."));
        }
        if body.text.contains('\0') {
            return invalid("text", "Null characters are not allowed.".to_owned());
        }
        for (field, value) in [("lat", &body.lat), ("lng", &body.lng)] {
            let number = value.as_ref().map(|value| value.trim_matches('"').trim().parse::<f64>());
            if number.is_some_and(|number| !number.is_ok_and(f64::is_finite)) {
                return invalid(field, "A valid number is required.".to_owned());
            }
        }
        Ok(())
    }
}

fn short(text: &str) -> String {
    text.chars().take(45).collect()
}

fn check_client_id(id: &str) -> Result<(), ChatError> {
    let fits =
        !id.is_empty() && id.len() <= CLIENT_ID_CHARS_MAX && id.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        return Ok(());
    }
    let reason = format!("Must be 1 to {CLIENT_ID_CHARS_MAX} printable ASCII characters.");
    Err(ChatError::Invalid { field: "client_id", reason })
}

fn check_edit(edit: &RoomEdit) -> Result<(), ChatError> {
    for (field, text, max) in
        [("name", &edit.name, NAME_CHARS_MAX), ("descriptions", &edit.descriptions, DESCRIPTIONS_CHARS_MAX)]
    {
        let Some(Some(text)) = text else { continue };
        if text.chars().count() > max {
            let reason = format!("Ensure this field has no more than {max} characters.");
            return Err(ChatError::Invalid { field, reason });
        }
        if text.contains('\0') {
            return Err(ChatError::Invalid { field, reason: "Null characters are not allowed.".to_owned() });
        }
    }
    Ok(())
}

/// What to carry out, by the matrix.
fn judge(
    request: &RoomRequest,
    actor: UserId,
    facts: &RoomFacts,
    rules: &ChatRules,
) -> Result<Vec<RoomChange>, Refusal> {
    let target_rights = facts.target.map_or(Rights::NONE, |target| Rights::from_bits(target.rights));
    Ok(match request {
        RoomRequest::Edit(edit) => {
            permit(Action::See, facts)?;
            judge_edit(edit, facts)?
        }
        RoomRequest::Add(_) => {
            permit(Action::Add, facts)?;
            if facts.target.is_some() {
                return Ok(Vec::new());
            }
            if facts.room.members >= rules.members_max {
                return Err(Refusal::Full("members of a room"));
            }
            if facts.target_rooms >= rules.rooms_per_user_max {
                return Err(Refusal::Full("rooms of a user"));
            }
            vec![RoomChange::Member { rights: Rights::member().bits() }]
        }
        RoomRequest::Remove(user) => {
            permit(if *user == actor { Action::Leave } else { Action::Kick }, facts)?;
            vec![RoomChange::Remove]
        }
        RoomRequest::Ban(_) => {
            permit(Action::Ban, facts)?;
            if !facts.target_banned && facts.room.bans >= rules.bans_max {
                return Err(Refusal::Full("bans of a room"));
            }
            vec![RoomChange::Ban]
        }
        RoomRequest::Unban(_) => {
            permit(Action::Unban, facts)?;
            vec![RoomChange::Unban]
        }
        RoomRequest::Grant(_, granted) => {
            permit(Action::Grant(*granted), facts)?;
            vec![RoomChange::Member { rights: target_rights.and(*granted).bits() }]
        }
        RoomRequest::Revoke(_, revoked) => {
            permit(Action::Revoke(*revoked), facts)?;
            vec![RoomChange::Member { rights: target_rights.without(*revoked).bits() }]
        }
        RoomRequest::Pin(pinned) => {
            permit(Action::See, facts)?;
            vec![RoomChange::Pin(*pinned)]
        }
        RoomRequest::Read(seq) => {
            permit(Action::See, facts)?;
            vec![RoomChange::Read(*seq)]
        }
        RoomRequest::Delete => {
            permit(Action::DeleteRoom, facts)?;
            vec![RoomChange::Delete]
        }
    })
}

/// What stays as it is needs no right.
fn judge_edit(edit: &RoomEdit, facts: &RoomFacts) -> Result<Vec<RoomChange>, Denied> {
    let room = &facts.room;
    let mut changes = Vec::new();
    if let Some(name) = edit.name.as_ref().filter(|name| **name != room.name) {
        permit(Action::Rename, facts)?;
        changes.push(RoomChange::Name(name.clone()));
    }
    if let Some(text) = edit.descriptions.as_ref().filter(|text| **text != room.descriptions) {
        permit(Action::Rename, facts)?;
        changes.push(RoomChange::Descriptions(text.clone()));
    }
    if let Some(avatar) = edit.avatar.filter(|avatar| *avatar != room.avatar) {
        permit(Action::Avatar, facts)?;
        changes.push(RoomChange::Avatar(avatar));
    }
    if let Some(status) = edit.status.filter(|status| *status != room.status) {
        let action = match status {
            RoomStatus::Open => Action::Reopen,
            RoomStatus::Closed => Action::Close,
            RoomStatus::Hold => Action::Hold,
        };
        permit(action, facts)?;
        // Out of a closed room into one on hold is an opening too.
        if room.status == RoomStatus::Closed {
            permit(Action::Reopen, facts)?;
        }
        changes.push(RoomChange::Status(status));
    }
    Ok(changes)
}

/// What a carried out request looks like to others.
fn event(request: &RoomRequest, actor: UserId, changed: &RoomChanged) -> Option<ChatEvent> {
    if changed.changes.is_empty() {
        return None;
    }
    let room = changed.room.clone();
    Some(match request {
        RoomRequest::Edit(_) => ChatEvent::Updated { room, by: actor },
        RoomRequest::Add(user) => ChatEvent::Joined { room, user: *user },
        RoomRequest::Remove(user) => {
            let why = if *user == actor { Removal::Left } else { Removal::Kicked };
            ChatEvent::Removed { user: *user, why }
        }
        RoomRequest::Ban(user) => ChatEvent::Removed { user: *user, why: Removal::Banned },
        RoomRequest::Unban(_) | RoomRequest::Pin(_) => return None,
        RoomRequest::Grant(user, _) | RoomRequest::Revoke(user, _) => {
            let rights = changed.changes.iter().find_map(|change| match change {
                RoomChange::Member { rights } => Some(Rights::from_bits(*rights)),
                _ => None,
            });
            ChatEvent::Rights { user: *user, rights: rights? }
        }
        RoomRequest::Read(seq) => {
            // A marker that did not move is no event; one past the end stands at the end.
            let member = changed.actor?;
            (*seq >= member.read_seq).then_some(ChatEvent::Read { user: actor, seq: member.read_seq })?
        }
        RoomRequest::Delete => ChatEvent::Deleted { former: changed.former.clone() },
    })
}

fn made(
    result: Result<RoomMade, StoreError>,
    members: Vec<UserId>,
    sender: oneshot::Sender<Result<(Room, bool), ChatError>>,
) -> Stored {
    let (event, result) = match result {
        Ok(RoomMade::New(room)) => {
            (Some((room.id, ChatEvent::Made { room: room.clone(), members })), Ok((room, true)))
        }
        Ok(RoomMade::Existing(room)) => (None, Ok((room, false))),
        Ok(RoomMade::UserMissing) => (None, Err(ChatError::UserMissing)),
        Ok(RoomMade::Banned) => (None, Err(Denied::Banned.into())),
        Ok(RoomMade::OrganizationMissing) => (None, Err(ChatError::OrganizationMissing)),
        Ok(RoomMade::TooManyRooms) => (None, Err(ChatError::Full("rooms of a user"))),
        Ok(RoomMade::TooManyMembers) => (None, Err(ChatError::Full("members of a room"))),
        Err(error) => (None, Err(error.into())),
    };
    Stored { event, done: Box::new(move || drop(sender.send(result))) }
}

/// A change whose answer never comes was begun when the store failed.
async fn answer<T>(receiver: oneshot::Receiver<Result<T, ChatError>>) -> Result<T, ChatError> {
    receiver.await.unwrap_or(Err(ChatError::Store(StoreError::Failed)))
}

fn uname_taken() -> ChatError {
    let reason = "organization with this uname already exists.".to_owned();
    ChatError::Invalid { field: "uname", reason }
}

fn name_of(store: &Store, user: UserId) -> Arc<str> {
    match store.user_get(user) {
        Ok(Some(user)) => PublicUser::of(&user).username.into(),
        _ => Arc::from(""),
    }
}
