//! The shapes of rooms, messages and users in replies.
//!
//! Replies show users only as [`PublicUser`]. A reply reads each fact from the store once: each user of a page is
//! looked up once, and a room's members are one range, however many messages the page has. Lists inside a room are
//! cut at [`USERS_SHOWN`]; `members_count` holds the full number, and the members' own route lists all.

use chelseru_domain::chat::RoomKind;
use chelseru_domain::text::name_as_seen;
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use chelseru_domain::chat::{
    Access, Acquaintance, Action, ChatError, ChatService, FileId, Member, Message, Organization, PublicUser,
    Rights, RoomFacts, RoomStatus, RoomSummary, Strangers, message_id, permit,
};
use chelseru_domain::clock::rest_format;
use chelseru_domain::ids::UserId;
use serde::Serialize;
use serde_json::{Value, json};

use crate::files::shown::Shown;
use crate::request::Context;

/// Most members, and bans, shown in one room.
pub(crate) const USERS_SHOWN: usize = 100;
/// Most members, and bans, shown per room in a list, which may have a thousand rooms.
pub(crate) const USERS_LISTED: usize = 20;
/// Characters of a room's newest message in its list.
const PREVIEW_CHARS: usize = 200;
/// Largest room, in members, whose messages list their readers.
const READ_BY_MEMBERS: u32 = 50;

/// A user where many are listed, without the picture.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct UserJson {
    pub id: u64,
    pub username: String,
    pub first_name: String,
    pub last_name: String,
    /// The file of the picture, which the reader may not be allowed to have.
    #[serde(skip)]
    pub avatar: Option<FileId>,
}

impl From<PublicUser> for UserJson {
    fn from(user: PublicUser) -> Self {
        let PublicUser { id, username, first_name, last_name, avatar } = user;
        UserJson { id: id.0, username, first_name, last_name, avatar }
    }
}

/// A user with the picture, whose keys are those of a room's; both are missing without one, so that whoever has none
/// costs nothing.
#[derive(Serialize)]
pub(crate) struct PersonJson<'a> {
    #[serde(flatten)]
    user: &'a UserJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar_file: Option<&'a Value>,
}

impl<'a> PersonJson<'a> {
    /// With the picture if it is among the loaded ones.
    pub(crate) fn of(user: &'a UserJson, files: &'a Shown<'_>) -> PersonJson<'a> {
        PersonJson { user, avatar: files.address(user.avatar), avatar_file: files.get(user.avatar) }
    }
}

/// The users of one reply, each looked up once.
#[derive(Default)]
pub(crate) struct People {
    users: HashMap<UserId, UserJson>,
    /// Users whose names and pictures are not shown, with both.
    strangers: HashMap<UserId, UserJson>,
}

impl People {
    /// Loads users who are in a room with the reader, or wrote in one.
    pub(crate) async fn load(&mut self, chat: &ChatService, ids: Vec<UserId>) -> Result<(), ChatError> {
        for id in ids {
            if let Some(user) = self.strangers.remove(&id) {
                self.users.insert(id, user);
            }
            self.read(chat, id).await?;
        }
        Ok(())
    }

    /// Loads users who never agreed to be seen by the reader: their first and last names stay empty and their pictures
    /// hidden, unless strangers are admitted anyway.
    pub(crate) async fn load_strangers(
        &mut self,
        chat: &ChatService,
        ids: Vec<UserId>,
    ) -> Result<(), ChatError> {
        let shown = chat.rules().strangers == Strangers::Admit;
        for id in ids {
            if self.read(chat, id).await?
                && !shown
                && let Some(user) = self.users.get_mut(&id)
            {
                self.strangers.insert(id, user.clone());
                (user.first_name, user.last_name, user.avatar) = (String::new(), String::new(), None);
            }
        }
        Ok(())
    }

    /// True when the user was not loaded before.
    async fn read(&mut self, chat: &ChatService, id: UserId) -> Result<bool, ChatError> {
        let Entry::Vacant(place) = self.users.entry(id) else { return Ok(false) };
        let user = chat.user(id).await?.unwrap_or_else(|| PublicUser::gone(id));
        place.insert(user.into());
        Ok(true)
    }

    /// A loaded user.
    pub(crate) fn get(&self, id: UserId) -> Option<&UserJson> {
        self.users.get(&id)
    }

    /// A loaded user with the picture, if that is loaded.
    pub(crate) fn shown<'a>(&'a self, id: UserId, files: &'a Shown<'_>) -> Option<PersonJson<'a>> {
        Some(PersonJson::of(self.get(id)?, files))
    }

    /// The files of the pictures of loaded users.
    pub(crate) fn avatars(&self, ids: impl IntoIterator<Item = UserId>) -> Vec<FileId> {
        ids.into_iter().filter_map(|id| self.get(id)?.avatar).collect()
    }

    pub(crate) fn list(&self, ids: impl IntoIterator<Item = UserId>) -> Vec<&UserJson> {
        ids.into_iter().filter_map(|id| self.get(id)).collect()
    }
}

/// A room as one of its members sees it.
pub(crate) struct RoomView {
    pub summary: RoomSummary,
    pub members: Vec<Member>,
    bans: Vec<UserId>,
    organization: Option<Organization>,
    /// The newest message, where the room itself is shown.
    newest: Option<Message>,
    /// Whether the members' pictures are shown: of a pair, and of a room that is shown alone.
    pictures: bool,
}

impl RoomView {
    /// With at most `shown` members and bans.
    pub(crate) async fn of(
        chat: &ChatService,
        summary: RoomSummary,
        shown: usize,
    ) -> Result<RoomView, ChatError> {
        let room = &summary.room;
        let members = chat.members_from(room.id, UserId(0), shown).await?;
        // Only members who may ban see bans.
        let bans = match room.bans > 0 && may(&summary, Action::Unban) {
            true => chat.bans_from(room.id, UserId(0), shown).await?,
            false => Vec::new(),
        };
        let organization = match room.organization {
            Some(id) => chat.organization(id).await?,
            None => None,
        };
        let pictures = shown == USERS_SHOWN || summary.room.kind == RoomKind::Pair;
        Ok(RoomView { summary, members, bans, organization, newest: None, pictures })
    }

    /// Reads the newest message. A page of messages needs none.
    pub(crate) async fn with_newest(mut self, chat: &ChatService) -> Result<RoomView, ChatError> {
        let page = chat.messages_before(self.summary.room.id, u64::MAX, 1).await?;
        self.newest = page.messages.into_iter().next();
        Ok(self)
    }

    /// Loads all users and files shown by [`RoomView::json`]. Whoever was only asked, and whoever is banned, may be
    /// anybody.
    pub(crate) async fn load(
        &self,
        people: &mut People,
        files: &mut Shown<'_>,
        chat: &ChatService,
    ) -> Result<(), ChatError> {
        files
            .load(
                self.summary
                    .room
                    .avatar
                    .into_iter()
                    .chain(self.newest.as_ref().and_then(|newest| newest.file)),
            )
            .await?;
        let members = self.members.iter().filter(|member| !member.pending).map(|member| member.user);
        let sender = self.newest.as_ref().map(|message| message.sender);
        let known = members.chain([self.summary.member.user]).chain(sender);
        people.load(chat, known.collect()).await?;
        let asked = self.members.iter().filter(|member| member.pending).map(|member| member.user);
        people.load_strangers(chat, asked.chain(self.bans.iter().copied()).collect()).await?;
        let members = self.members.iter().filter(|_| self.pictures).map(|member| member.user);
        files.load_avatars(people.avatars(members.chain(sender))).await
    }

    pub(crate) fn json(&self, people: &People, files: &Shown<'_>) -> Value {
        let RoomSummary { room, member, last_seq, updated_at, unread } = &self.summary;
        let permissions: Vec<Value> = self
            .permissions()
            .into_iter()
            .map(|(access, users)| json!({"id": access.number(), "access": access.number(), "user": users}))
            .collect();
        json!({
            "id": room.id.0,
            "user_1": null,
            "user_2": null,
            "users": self.users(people, files),
            "unread_count": unread,
            "status": status_number(room.status),
            "name": room.name.as_deref().map(name_as_seen),
            "descriptions": room.descriptions,
            "updated_at": rest_format(*updated_at),
            "created_at": rest_format(room.created_at),
            "organization": self.organization.as_ref().map(organization_json),
            "pinned_for": people.list(member.pinned.then_some(member.user)),
            "permissions": permissions,
            "banneds": people.list(self.bans.iter().copied()),
            "is_group": room.kind == RoomKind::Group,
            "owner": room.owner.0,
            "avatar": files.address(room.avatar),
            "avatar_file": files.get(room.avatar),
            "members_count": room.members,
            "pending": member.pending,
            "my_access": access_numbers(rights_of(member, room.owner)),
            "last_seq": last_seq,
            "read_seq": member.read_seq,
            "last_message": self.newest.as_ref().map(|message| preview(message, people, files)),
        })
    }

    fn users(&self, people: &People, files: &Shown<'_>) -> Value {
        let members = self.members.iter().map(|member| member.user);
        match self.pictures {
            true => json!(members.filter_map(|user| people.shown(user, files)).collect::<Vec<_>>()),
            false => json!(people.list(members)),
        }
    }

    /// Rights of members beyond the initial ones, by access level. The owner has all rights, as `owner` shows.
    fn permissions(&self) -> Vec<(Access, Vec<u64>)> {
        let room = &self.summary.room;
        let start = match room.kind {
            RoomKind::Pair => Rights::partner(),
            RoomKind::Group => Rights::member(),
        };
        let granted = |access: Access| -> Vec<u64> {
            let has = |member: &&Member| {
                member.user != room.owner && Rights::from_bits(member.rights).without(start).has(access)
            };
            self.members.iter().filter(has).map(|member| member.user.0).collect()
        };
        let all = Access::ALL.into_iter().map(|access| (access, granted(access)));
        all.filter(|(_, users)| !users.is_empty()).collect()
    }

    /// The room inside a message, where users are numbers.
    pub(crate) fn reference(&self) -> RoomReference<'_> {
        let RoomSummary { room, member, updated_at, .. } = &self.summary;
        RoomReference {
            id: room.id.0,
            status: status_number(room.status),
            name: room.name.as_deref().map(name_as_seen),
            descriptions: room.descriptions.as_deref(),
            updated_at: rest_format(*updated_at),
            created_at: rest_format(room.created_at),
            user_1: None,
            user_2: None,
            organization: room.organization.map(|id| id.0),
            users: self.members.iter().map(|member| member.user.0).collect(),
            pinned_for: member.pinned.then_some(member.user.0).into_iter().collect(),
            permissions: self.permissions().into_iter().map(|(access, _)| access.number()).collect(),
            banneds: self.bans.iter().map(|user| user.0).collect(),
        }
    }

    /// The readers of a message, in a room with at most [`READ_BY_MEMBERS`] members.
    pub(crate) fn readers(&self, message: &Message) -> impl Iterator<Item = UserId> {
        let told = self.summary.room.members <= READ_BY_MEMBERS;
        let (seq, sender, at) = (message.seq, message.sender, message.created_at);
        let members = self.members.iter().filter(move |_| told);
        members
            .filter(move |member| {
                !member.pending && member.read_seq >= seq && member.user != sender && member.joined_at <= at
            })
            .map(|member| member.user)
    }
}

#[derive(Serialize)]
pub(crate) struct RoomReference<'a> {
    id: u64,
    status: u8,
    name: Option<Cow<'a, str>>,
    descriptions: Option<&'a str>,
    updated_at: String,
    created_at: String,
    user_1: Option<u64>,
    user_2: Option<u64>,
    organization: Option<u64>,
    users: Vec<u64>,
    pinned_for: Vec<u64>,
    permissions: Vec<u64>,
    banneds: Vec<u64>,
}

#[derive(Serialize)]
pub(crate) struct MessageJson<'a> {
    id: u64,
    sender: Option<PersonJson<'a>>,
    file_url: Option<String>,
    message_type: &'a str,
    text: &'a str,
    timestamp: String,
    lat: Option<f64>,
    lng: Option<f64>,
    created_at: String,
    chat_room: &'a RoomReference<'a>,
    read_by: Vec<&'a UserJson>,
    /// The message's number in its room.
    seq: u64,
    client_id: Option<&'a str>,
    edited_at: Option<String>,
    file_id: Option<u64>,
    file: Option<&'a Value>,
}

impl<'a> MessageJson<'a> {
    /// Builds the shape. Its users and files must be loaded.
    pub(crate) fn of(
        context: &Context,
        message: &'a Message,
        view: &RoomView,
        room: &'a RoomReference<'a>,
        (people, files): (&'a People, &'a Shown<'_>),
    ) -> MessageJson<'a> {
        let created_at = rest_format(message.created_at);
        MessageJson {
            id: message_id(message.room, message.seq),
            sender: people.shown(message.sender, files),
            file_url: message.file_name.as_deref().map(|path| context.address(path)),
            message_type: &message.body.kind,
            text: &message.body.text,
            timestamp: created_at.clone(),
            lat: number(message.body.lat.as_deref()),
            lng: number(message.body.lng.as_deref()),
            created_at,
            chat_room: room,
            read_by: people.list(view.readers(message)),
            seq: message.seq,
            client_id: message.client_id.as_deref(),
            edited_at: message.edited_at.map(rest_format),
            file_id: message.file.map(|file| file.0),
            file: files.get(message.file),
        }
    }
}

/// A coordinate. It is stored as JSON, and may be a text when it came from a socket.
fn number(json: Option<&str>) -> Option<f64> {
    json?.trim_matches('"').trim().parse().ok()
}

/// A message as the list of rooms shows it.
pub(crate) fn preview(message: &Message, people: &People, files: &Shown<'_>) -> Value {
    json!({
        "id": message_id(message.room, message.seq),
        "seq": message.seq,
        "sender": people.shown(message.sender, files),
        "message_type": message.body.kind,
        "text": message.body.text.chars().take(PREVIEW_CHARS).collect::<String>(),
        "file_id": message.file.map(|file| file.0),
        "file": files.get(message.file),
        "created_at": rest_format(message.created_at),
    })
}

pub(crate) fn member_json(member: &Member, owner: UserId, people: &People, files: &Shown<'_>) -> Value {
    json!({
        "user": people.shown(member.user, files),
        "access": access_numbers(rights_of(member, owner)),
        "is_owner": member.user == owner,
        "is_admin": member.user == owner || rights_of(member, owner).is_admin(),
        "read_seq": member.read_seq,
        "pending": member.pending,
        "joined_at": rest_format(member.joined_at),
    })
}

pub(crate) fn organization_json(organization: &Organization) -> Value {
    json!({
        "id": organization.id.0,
        "name": name_as_seen(&organization.name),
        "uname": organization.uname,
        "created_at": rest_format(organization.created_at),
        "owner": organization.owner.0,
    })
}

pub(crate) fn status_number(status: RoomStatus) -> u8 {
    match status {
        RoomStatus::Open => 1,
        RoomStatus::Closed => 2,
        RoomStatus::Hold => 3,
    }
}

pub(crate) fn access_numbers(rights: Rights) -> Vec<u64> {
    rights.iter().map(Access::number).collect()
}

fn rights_of(member: &Member, owner: UserId) -> Rights {
    chelseru_domain::chat::effective(member, owner)
}

/// Returns true when the viewing member may carry out an action without another member as target.
fn may(summary: &RoomSummary, action: Action) -> bool {
    let facts = RoomFacts {
        room: summary.room.clone(),
        actor: Some(summary.member),
        actor_banned: false,
        target: None,
        target_banned: false,
        target_exists: false,
        target_rooms: 0,
        acquaintance: Acquaintance::default(),
        actor_rooms: 0,
    };
    permit(action, &facts).is_ok()
}
