//! Organisations, rooms, members and messages.
//!
//! Rooms and members are held in memory while messages go by, about a hundred bytes for each membership. Messages get
//! the numbers of their room in the order of time and id, and move the read markers of who sent or read them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chelseru_domain::chat::{
    Access, FileId, KINDS, Member, Message, MessageBody, Organization, OrganizationId, ROOMS_MAX, Rights,
    Room, RoomId, RoomKind, RoomStatus, SEQ_MAX, TEXT_BYTES_MAX,
};
use chelseru_domain::ids::UserId;
use chelseru_store::chat::{ImportedIds, ImportedMessage, ImportedRoom};
use serde_json::json;

use super::reader::Reader;
use super::report::Report;
use super::source::{
    BANS, MEMBERS, MESSAGES, ORGANIZATIONS, PERMISSION_USERS, PERMISSIONS, PINS, Query, READ_BY,
    ROOM_PERMISSIONS, ROOMS, Row,
};
use super::target::{Batch, Target};
use super::users::People;

pub(super) const RULES: [&str; 4] = [
    "The owner of a room is the owner of its organisation; without one the first member: user_1 of an old room, then \
     the lowest id of the join table.",
    "A room of two members without organisation is the room of that pair; of several, the one with the smallest id.",
    "A banned user is no member, as here; a banned owner stays the owner and is not banned.",
    "Messages are numbered by (created_at, id). Read markers are the last message read or sent.",
];

/// The ids of messages that a client may still name: larger ones have the form of ids made here.
const OLD_IDS: u64 = SEQ_MAX + 1;

/// A room on its way.
struct Plan {
    room: Room,
    /// In the order of joining.
    members: Vec<Member>,
    /// Where each member is in the list.
    places: HashMap<UserId, usize>,
    bans: BTreeSet<UserId>,
    first: [Option<UserId>; 2],
    last_seq: u64,
}

type Rooms = BTreeMap<u64, Plan>;

/// The rooms that the source has, and what became of them.
pub(super) struct Chat {
    rooms: Rooms,
    /// Rooms that are left out, because nobody is in them.
    empty: HashSet<u64>,
    rooms_there: u64,
}

impl Chat {
    /// Whether a room is imported.
    ///
    /// Errors: a text that names the row, when there never was such a room.
    pub(super) fn has(&self, row: &Row<'_>, column: &str) -> Result<Option<RoomId>, String> {
        let id = row.id(column)?;
        match (self.rooms.contains_key(&id), self.empty.contains(&id)) {
            (true, _) => Ok(Some(RoomId(id))),
            (false, true) => Ok(None),
            (false, false) => {
                Err(format!("{}: {column} is {id}, but there is no room with this id", row.place()))
            }
        }
    }
}

/// Reads organisations and rooms, and stores the organisations.
///
/// Errors: a text that names table and row.
pub(super) fn plan(
    reader: &Reader,
    target: &Target,
    report: &mut Report,
    people: &People,
    ids: &mut ImportedIds,
) -> Result<Chat, String> {
    let owners = organizations(reader, target, report, people)?;
    ids.organization = reader.source.last_id(ORGANIZATIONS.table)?;
    ids.room = reader.source.last_id(ROOMS.table)?;
    let mut rooms = Rooms::new();
    let rooms_there = reader.each(&ROOMS, |row| {
        let plan = room(reader, report, people, &owners, row)?;
        rooms.insert(plan.room.id.0, plan);
        Ok(())
    })?;
    members(reader, report, people, &mut rooms)?;
    bans(reader, report, people, &mut rooms)?;
    pins(reader, report, people, &mut rooms)?;
    permissions(reader, report, people, &mut rooms)?;
    let mut chat = Chat { rooms, empty: HashSet::new(), rooms_there };
    settle(&mut chat, report, &owners);
    Ok(chat)
}

fn organizations(
    reader: &Reader,
    target: &Target,
    report: &mut Report,
    people: &People,
) -> Result<HashMap<u64, UserId>, String> {
    let (mut owners, mut batch) = (HashMap::new(), Batch::new());
    let there = reader.each(&ORGANIZATIONS, |row| {
        let (id, owner) = (row.id("id")?, people.of(row, "owner_id")?);
        owners.insert(id, owner);
        let organization = Organization {
            id: OrganizationId(id),
            name: row.text("name")?,
            uname: row.text("uname")?,
            owner,
            created_at: row.time("created_at", &reader.zone)?,
        };
        match batch.add(organization) {
            Some(rows) => target.put(async |store| store.import_organizations(rows).await),
            None => Ok(()),
        }
    })?;
    let rest = batch.rest();
    target.put(async |store| store.import_organizations(rest).await)?;
    report.table(ORGANIZATIONS.table, there, there);
    Ok(owners)
}

fn room(
    reader: &Reader,
    report: &mut Report,
    people: &People,
    organizations: &HashMap<u64, UserId>,
    row: &Row<'_>,
) -> Result<Plan, String> {
    let id = row.id("id")?;
    if id > ROOMS_MAX {
        return Err(format!("{}: rooms here have ids up to {ROOMS_MAX}", row.place()));
    }
    let status = match row.integer("status")? {
        1 => RoomStatus::Open,
        2 => RoomStatus::Closed,
        3 => RoomStatus::Hold,
        other => {
            report.warn("rooms with an unknown status: put on hold", format!("{}: {other}", row.place()));
            RoomStatus::Hold
        }
    };
    let organization = row.maybe_id("organization_id")?;
    if let Some(missing) = organization.filter(|id| !organizations.contains_key(id)) {
        let place = row.place();
        return Err(format!(
            "{place}: organization_id is {missing}, but there is no organisation with this id"
        ));
    }
    let user = |column: &str| row.maybe_id(column)?.map(|_| people.of(row, column)).transpose();
    let room = Room {
        id: RoomId(id),
        kind: RoomKind::Group,
        // Settled when all members are known.
        owner: UserId(0),
        name: row.maybe_text("name"),
        descriptions: row.maybe_text("descriptions"),
        avatar: None,
        status,
        organization: organization.map(OrganizationId),
        created_at: row.time("created_at", &reader.zone)?,
        updated_at: row.time("updated_at", &reader.zone)?,
        members: 0,
        bans: 0,
        revision: 0,
        changes: 0,
    };
    let mut plan = Plan {
        room,
        members: Vec::new(),
        places: HashMap::new(),
        bans: BTreeSet::new(),
        first: [user("user_1_id")?, user("user_2_id")?],
        last_seq: 0,
    };
    for user in plan.first.into_iter().flatten() {
        plan.join(user);
    }
    Ok(plan)
}

impl Plan {
    /// False when the user is a member already.
    fn join(&mut self, user: UserId) -> bool {
        if self.places.contains_key(&user) {
            return false;
        }
        self.places.insert(user, self.members.len());
        let joined_at = self.room.created_at;
        let rights = Rights::member().bits();
        self.members.push(Member {
            user,
            rights,
            read_seq: 0,
            deleted_unread: 0,
            pinned: false,
            joined_at,
            hidden_at: None,
            pending: false,
        });
        true
    }

    fn member(&mut self, user: UserId) -> Option<&mut Member> {
        self.places.get(&user).map(|at| &mut self.members[*at])
    }

    fn read(&mut self, user: UserId, seq: u64) {
        if let Some(member) = self.member(user) {
            member.read_seq = member.read_seq.max(seq);
        }
    }
}

/// Reads a join table of rooms and users.
fn joined(
    reader: &Reader,
    report: &mut Report,
    people: &People,
    rooms: &mut Rooms,
    query: &Query,
    mut each: impl FnMut(&mut Report, &mut Plan, UserId, &Row<'_>) -> bool,
) -> Result<(), String> {
    let mut here = 0;
    let there = reader.each(query, |row| {
        let (room, user) = (row.id("chatroom_id")?, people.of(row, "user_id")?);
        let Some(plan) = rooms.get_mut(&room) else {
            return Err(format!("{}: chatroom_id is {room}, but there is no room with this id", row.place()));
        };
        here += u64::from(each(report, plan, user, row));
        Ok(())
    })?;
    report.table(query.table, there, here);
    Ok(())
}

fn members(reader: &Reader, report: &mut Report, people: &People, rooms: &mut Rooms) -> Result<(), String> {
    joined(reader, report, people, rooms, &MEMBERS, |report, plan, user, row| {
        let joined = plan.join(user) || plan.first.contains(&Some(user));
        if !joined {
            report.left_out(row.place(), format!("user {user} is in room {} twice", plan.room.id.0));
        }
        joined
    })
}

fn bans(reader: &Reader, report: &mut Report, people: &People, rooms: &mut Rooms) -> Result<(), String> {
    joined(reader, report, people, rooms, &BANS, |_, plan, user, _| plan.bans.insert(user))
}

fn pins(reader: &Reader, report: &mut Report, people: &People, rooms: &mut Rooms) -> Result<(), String> {
    joined(reader, report, people, rooms, &PINS, |report, plan, user, row| match plan.member(user) {
        Some(member) => {
            member.pinned = true;
            true
        }
        None => {
            report.left_out(row.place(), format!("user {user} is no member of room {}", plan.room.id.0));
            false
        }
    })
}

/// Rights: a permission is a level of access with users, and belongs to rooms.
fn permissions(
    reader: &Reader,
    report: &mut Report,
    people: &People,
    rooms: &mut Rooms,
) -> Result<(), String> {
    let mut levels: HashMap<u64, Option<Access>> = HashMap::new();
    let there = reader.each(&PERMISSIONS, |row| {
        let number = row.integer("access")?;
        let access = u64::try_from(number).ok().and_then(Access::from_number);
        if access.is_none() {
            report.warn("levels of access that grant nothing", format!("{}: {number}", row.place()));
        }
        levels.insert(row.id("id")?, access);
        Ok(())
    })?;
    report.table(PERMISSIONS.table, there, there);
    let permission = |row: &Row<'_>, levels: &HashMap<u64, Option<Access>>| {
        let id = row.id("chatroompermissions_id")?;
        match levels.get(&id) {
            Some(access) => Ok((id, *access)),
            None => {
                let place = row.place();
                Err(format!(
                    "{place}: chatroompermissions_id is {id}, but there is no permission with this id"
                ))
            }
        }
    };
    let mut holders: HashMap<u64, Vec<UserId>> = HashMap::new();
    let there = reader.each(&PERMISSION_USERS, |row| {
        let (id, _) = permission(row, &levels)?;
        holders.entry(id).or_default().push(people.of(row, "user_id")?);
        Ok(())
    })?;
    report.table(PERMISSION_USERS.table, there, there);
    let there = reader.each(&ROOM_PERMISSIONS, |row| {
        let (id, access) = permission(row, &levels)?;
        let room = row.id("chatroom_id")?;
        let Some(plan) = rooms.get_mut(&room) else {
            return Err(format!("{}: chatroom_id is {room}, but there is no room with this id", row.place()));
        };
        let Some(access) = access else { return Ok(()) };
        for user in holders.get(&id).into_iter().flatten() {
            match plan.member(*user) {
                Some(member) => member.rights = Rights::from_bits(member.rights).with(access).bits(),
                None => {
                    let text = format!("{}: user {user} is no member of room {room}", row.place());
                    report.warn("rights of users who are no members: not granted", text);
                }
            }
        }
        Ok(())
    })?;
    report.table(ROOM_PERMISSIONS.table, there, there);
    Ok(())
}

/// Decides owners and pairs, once everything about rooms is known.
fn settle(chat: &mut Chat, report: &mut Report, organizations: &HashMap<u64, UserId>) {
    let mut pairs: HashSet<[UserId; 2]> = HashSet::new();
    chat.rooms.retain(|id, plan| {
        let owner = plan.room.organization.map(|organization| organizations[&organization.0]);
        if let Some(owner) = owner
            && plan.join(owner)
        {
            let text = format!("drfchelseru_chatroom {id}: user {owner}");
            report.warn("owners of organisations who were no members of a room: they are now", text);
        }
        let Some(owner) = owner.or_else(|| plan.members.first().map(|member| member.user)) else {
            report.left_out(format!("drfchelseru_chatroom {id}"), "nobody is in the room");
            chat.empty.insert(*id);
            return false;
        };
        plan.room.owner = owner;
        if plan.bans.remove(&owner) {
            report.warn(
                "owners who were banned: not banned",
                format!("drfchelseru_chatroom {id}: user {owner}"),
            );
        }
        let Plan { room, members, places, bans, .. } = plan;
        members.retain(|member| !bans.contains(&member.user));
        *places = members.iter().enumerate().map(|(at, member)| (member.user, at)).collect();
        room.members = u32::try_from(members.len()).unwrap_or(u32::MAX);
        room.bans = u32::try_from(bans.len()).unwrap_or(u32::MAX);
        for member in members.iter_mut().filter(|member| member.user == owner) {
            member.rights = Rights::owner().bits();
        }
        if members.len() == 1 {
            report.warn("rooms of one", format!("drfchelseru_chatroom {id}: user {owner}"));
        }
        if let [one, other] = members.as_mut_slice()
            && room.organization.is_none()
            && bans.is_empty()
        {
            let mut pair = [one.user, other.user];
            pair.sort_unstable();
            if pairs.insert(pair) {
                room.kind = RoomKind::Pair;
                let partner = if one.user == owner { other } else { one };
                partner.rights = Rights::from_bits(partner.rights).and(Rights::partner()).bits();
            } else {
                let text = format!("drfchelseru_chatroom {id}: users {} and {}", pair[0], pair[1]);
                report.warn("more rooms of a pair: kept as groups", text);
            }
        }
        true
    });
}

/// Finds the file of a message that has got its place: id and path of its link.
type FileOf<'a> = dyn FnMut(u64, RoomId, u64) -> Option<(FileId, String)> + 'a;

/// Stores messages, with their files, and moves read markers.
///
/// Errors: a text that names table and row.
pub(super) fn messages(
    reader: &Reader,
    target: &Target,
    report: &mut Report,
    people: &People,
    chat: &mut Chat,
    file_of: &mut FileOf<'_>,
) -> Result<(), String> {
    let (mut batch, mut here, mut readers) = (Batch::new(), 0, 0);
    let there = reader.each(&MESSAGES, |row| {
        let id = row.id("id")?;
        let sender = people.of(row, "sender_id")?;
        let Some(room) = chat.has(row, "chat_room_id")? else {
            report.left_out(row.place(), "its room is left out");
            return Ok(());
        };
        let plan = chat.rooms.get_mut(&room.0).expect("the room is imported");
        let seq = plan.last_seq + 1;
        if seq > SEQ_MAX {
            return Err(format!("{}: a room has at most {SEQ_MAX} messages", row.place()));
        }
        plan.last_seq = seq;
        plan.read(sender, seq);
        for user in row.maybe_text(READ_BY).unwrap_or_default().split(',').filter(|text| !text.is_empty()) {
            readers += 1;
            let user = user.parse().ok().and_then(|user| people.find(user));
            let user = user.ok_or_else(|| format!("{READ_BY} of {}: there is no such user", row.place()))?;
            plan.read(user, seq);
        }
        if id >= OLD_IDS {
            report.warn("messages whose old id is too large to be found by it", row.place());
        }
        let message = message(reader, report, row, (room, seq, sender), file_of)?;
        here += 1;
        match batch.add(ImportedMessage { message, old_id: id }) {
            Some(rows) => target.put(async |store| store.import_messages(rows).await),
            None => Ok(()),
        }
    })?;
    let rest = batch.rest();
    target.put(async |store| store.import_messages(rest).await)?;
    report.table(MESSAGES.table, there, here);
    report.table(READ_BY, reader.source.count(READ_BY)?, readers);
    Ok(())
}

fn message(
    reader: &Reader,
    report: &mut Report,
    row: &Row<'_>,
    (room, seq, sender): (RoomId, u64, UserId),
    file_of: &mut FileOf<'_>,
) -> Result<Message, String> {
    let mut text = row.text("text")?;
    if text.len() > TEXT_BYTES_MAX {
        let text_ends = (0..=TEXT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        report.warn(
            "texts longer than 32 KiB: cut",
            format!("{}: {} bytes, {text_ends} kept", row.place(), text.len()),
        );
        text.truncate(text_ends);
    }
    let kind = row.text("message_type")?;
    if !KINDS.contains(&kind.as_str()) {
        report.warn("messages of an unknown type: kept as they are", format!("{}: {kind:?}", row.place()));
    }
    let coordinate =
        |column: &str| Ok::<_, String>(row.maybe_real(column)?.map(|number| json!(number).to_string()));
    let file = file_of(row.id("id")?, room, seq);
    Ok(Message {
        room,
        seq,
        sender,
        body: MessageBody { kind, text, raw: false, lat: coordinate("lat")?, lng: coordinate("lng")? },
        file: file.as_ref().map(|(id, _)| *id),
        file_name: file.map(|(_, path)| path),
        client_id: None,
        created_at: row.time("created_at", &reader.zone)?,
        edited_at: None,
        deleted: false,
    })
}

/// Stores the rooms, when their messages are.
///
/// Errors: the store's.
pub(super) fn rooms(target: &Target, report: &mut Report, chat: Chat) -> Result<(), String> {
    report.table(ROOMS.table, chat.rooms_there, chat.rooms.len() as u64);
    let mut gathered = Vec::new();
    let mut records = 0;
    for (_, plan) in chat.rooms {
        let Plan { room, members, bans, .. } = plan;
        let other = members.iter().map(|member| member.user).find(|user| *user != room.owner);
        let pair_with = other.filter(|_| room.kind == RoomKind::Pair);
        records += members.len() + bans.len() + 1;
        gathered.push(ImportedRoom { room, members, bans: bans.into_iter().collect(), pair_with });
        if records >= 1000 {
            records = 0;
            let rows = std::mem::take(&mut gathered);
            target.put(async |store| store.import_rooms(rows).await)?;
        }
    }
    target.put(async |store| store.import_rooms(gathered).await)
}
