//! The matrix of rights: every role, every action, every state of a room.

use crate::chat::RoomKind;
use chelseru_store::Timestamp;
use chelseru_store::chat::{Acquaintance, Room, RoomId};

use super::*;

const OWNER: UserId = UserId(1);
const ACTOR: UserId = UserId(2);
const TARGET: UserId = UserId(3);

fn member(user: UserId, rights: Rights) -> Member {
    Member {
        user,
        rights: rights.bits(),
        read_seq: 0,
        deleted_unread: 0,
        pinned: false,
        joined_at: Timestamp::default(),
        hidden_at: None,
        pending: false,
    }
}

fn facts(actor: Option<Member>) -> RoomFacts {
    RoomFacts {
        room: Room {
            id: RoomId(1),
            kind: RoomKind::Group,
            owner: OWNER,
            name: None,
            descriptions: None,
            avatar: None,
            status: RoomStatus::Open,
            organization: None,
            created_at: Timestamp::default(),
            updated_at: Timestamp::default(),
            members: 3,
            bans: 0,
            revision: 0,
            changes: 0,
        },
        actor,
        actor_banned: false,
        target: Some(member(TARGET, Rights::member())),
        target_banned: false,
        target_exists: true,
        target_rooms: 1,
        acquaintance: Acquaintance::default(),
        actor_rooms: 0,
    }
}

/// Every action once.
fn actions() -> Vec<Action> {
    let right = Rights::of(&[Access::Kick]);
    let reader = Rights::of(&[Access::ReadOnly]);
    vec![
        Action::See,
        Action::Attend,
        Action::Post,
        Action::Signal,
        Action::Accept,
        Action::Decline,
        Action::EditMessage { own: true },
        Action::EditMessage { own: false },
        Action::DeleteMessage { own: true },
        Action::DeleteMessage { own: false },
        Action::Add,
        Action::Leave,
        Action::Kick,
        Action::Ban,
        Action::Unban,
        Action::Grant(right),
        Action::Grant(reader),
        Action::Revoke(right),
        Action::Revoke(reader),
        Action::Close,
        Action::Hold,
        Action::Reopen,
        Action::Rename,
        Action::Avatar,
        Action::DeleteRoom,
    ]
}

fn allowed(facts: &RoomFacts) -> Vec<Action> {
    actions().into_iter().filter(|action| permit(*action, facts).is_ok()).collect()
}

#[test]
fn outsiders_and_banned_users_may_nothing() {
    assert!(allowed(&facts(None)).is_empty());
    let banned = RoomFacts { actor_banned: true, ..facts(Some(member(ACTOR, Rights::owner()))) };
    assert!(allowed(&banned).is_empty());
}

#[test]
fn a_reader_sees_and_leaves_whatever_else_is_granted() {
    let rights = Rights::owner().with(Access::ReadOnly);
    assert_eq!(allowed(&facts(Some(member(ACTOR, rights)))), [Action::See, Action::Attend, Action::Leave]);
}

#[test]
fn who_was_asked_decides_and_nobody_notices_anything_before() {
    let asked = |rights, owner, kind| {
        let facts = facts(Some(Member { pending: true, ..member(ACTOR, rights) }));
        RoomFacts { room: Room { owner, kind, ..facts.room.clone() }, ..facts }
    };
    // An invitation to a group opens nothing.
    let group = asked(Rights::owner(), OWNER, RoomKind::Group);
    assert_eq!(allowed(&group), [Action::Accept, Action::Decline, Action::Leave]);
    assert_eq!(permit(Action::See, &group), Err(Denied::NotMember));
    // The opener of a pair is asked after the other one's block ended.
    for owner in [OWNER, ACTOR] {
        let facts = asked(Rights::partner(), owner, RoomKind::Pair);
        let may = [
            Action::See,
            Action::Post,
            Action::Accept,
            Action::Decline,
            Action::Leave,
            Action::Ban,
            Action::Unban,
        ];
        assert_eq!(allowed(&facts), may);
        assert_eq!(permit(Action::Attend, &facts), Err(Denied::NotAccepted));
    }
    let accepted = facts(Some(member(ACTOR, Rights::member())));
    assert_eq!(permit(Action::Accept, &accepted), Err(Denied::NoRequest));
}

#[test]
fn a_member_talks_and_keeps_to_own_messages() {
    assert_eq!(
        allowed(&facts(Some(member(ACTOR, Rights::member())))),
        [
            Action::See,
            Action::Attend,
            Action::Post,
            Action::Signal,
            Action::EditMessage { own: true },
            Action::DeleteMessage { own: true },
            Action::Leave
        ]
    );
}

#[test]
fn the_owner_may_everything_but_edit_others_messages_and_leave() {
    let all = allowed(&facts(Some(member(OWNER, Rights::NONE))));
    let refused: Vec<_> = actions().into_iter().filter(|action| !all.contains(action)).collect();
    let nothing_waits = [Action::Accept, Action::Decline];
    assert_eq!(refused, [&nothing_waits[..], &[Action::EditMessage { own: false }, Action::Leave]].concat());
}

/// Nobody can be kept in a conversation of two.
#[test]
fn each_of_a_pair_may_leave_and_block_the_other() {
    let pair = |actor: Member, target: UserId| {
        let facts = facts(Some(actor));
        RoomFacts {
            room: Room { kind: RoomKind::Pair, members: 2, ..facts.room.clone() },
            target: Some(member(target, Rights::partner())),
            ..facts
        }
    };
    let partner = pair(member(ACTOR, Rights::partner()), OWNER);
    let reader = pair(member(ACTOR, Rights::of(&[Access::ReadOnly])), OWNER);
    for facts in [&pair(member(OWNER, Rights::NONE), ACTOR), &partner, &reader] {
        for action in [Action::Leave, Action::Ban, Action::Unban] {
            assert_eq!(permit(action, facts), Ok(()), "{action:?}");
        }
        assert_eq!(permit(Action::Kick, facts), Err(Denied::PairRoom));
    }
    assert_eq!(permit(Action::DeleteRoom, &partner), Err(Denied::NoRight));
    let oneself = pair(member(ACTOR, Rights::partner()), ACTOR);
    assert_eq!(permit(Action::Ban, &oneself), Err(Denied::NoRight));
    let blocked = RoomFacts { actor_banned: true, actor: None, ..partner };
    assert!(allowed(&blocked).is_empty());
}

#[test]
fn each_right_opens_its_own_actions_and_no_other() {
    let plain = allowed(&facts(Some(member(ACTOR, Rights::member()))));
    let right = Rights::of(&[Access::Kick]);
    let reader = Rights::of(&[Access::ReadOnly]);
    let table: [(Access, &[Action]); 11] = [
        (Access::Add, &[Action::Add]),
        (Access::Kick, &[Action::Kick]),
        (Access::Ban, &[Action::Ban, Action::Unban]),
        // Only what one has can be granted.
        (Access::Grant, &[Action::Revoke(reader)]),
        (Access::Revoke, &[Action::Grant(reader), Action::Revoke(right)]),
        (Access::KickAdmin, &[]),
        (Access::Close, &[Action::Close, Action::Hold]),
        (Access::Reopen, &[Action::Reopen]),
        (Access::Rename, &[Action::Rename]),
        (Access::Avatar, &[Action::Avatar]),
        (Access::Delete, &[Action::DeleteMessage { own: false }, Action::DeleteRoom]),
    ];
    for (access, opens) in table {
        let rights = Rights::member().with(access);
        let mut more = allowed(&facts(Some(member(ACTOR, rights))));
        more.retain(|action| !plain.contains(action));
        assert_eq!(more, opens, "{access:?}");
    }
    let both = Rights::of(&[Access::Member, Access::Grant, Access::Kick]);
    assert_eq!(permit(Action::Grant(right), &facts(Some(member(ACTOR, both)))), Ok(()));
}

/// Read-only in a set opens nothing for the other rights of the set, nor they for it.
#[test]
fn a_mixed_set_needs_what_each_of_its_parts_needs() {
    let managing = [Access::Grant, Access::Revoke, Access::KickAdmin, Access::Kick, Access::Delete];
    let actors = (0..1 << managing.len()).map(|chosen: u32| {
        let chosen = managing.into_iter().enumerate().filter(|(at, _)| chosen & 1 << at != 0);
        member(ACTOR, chosen.fold(Rights::member(), |rights, (_, access)| rights.with(access)))
    });
    let targets = [
        Some(member(TARGET, Rights::member())),
        Some(member(TARGET, Rights::member().with(Access::Kick))),
        Some(member(TARGET, Rights::member().with(Access::ReadOnly))),
        Some(member(OWNER, Rights::NONE)),
        None,
    ];
    let read_only = Rights::of(&[Access::ReadOnly]);
    for actor in actors.chain([member(OWNER, Rights::NONE)]) {
        for target in targets {
            let facts = RoomFacts { target, ..facts(Some(actor)) };
            for access in Access::ALL.into_iter().filter(|access| *access != Access::ReadOnly) {
                for others in [Rights::of(&[access]), Rights::of(&[access, Access::Delete])] {
                    for of in [Action::Grant, Action::Revoke] {
                        let parts = [read_only, others].map(|part| permit(of(part), &facts).is_ok());
                        let mixed = of(others.and(read_only));
                        let permitted = permit(mixed, &facts).is_ok();
                        assert_eq!(permitted, parts == [true, true], "{mixed:?} by {actor:?} of {target:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn an_admin_gets_no_right_past_the_own_ones_by_adding_read_only() {
    let by = |rights: &[Access], action| permit(action, &facts(Some(member(ACTOR, Rights::of(rights)))));
    let every = Rights::owner().with(Access::ReadOnly);
    assert_eq!(by(&[Access::Grant, Access::Revoke], Action::Grant(every)), Err(Denied::NoRight));
    let mixed = Rights::of(&[Access::ReadOnly, Access::Delete]);
    assert_eq!(by(&[Access::Revoke], Action::Revoke(mixed)), Err(Denied::NoRight));
    assert_eq!(by(&[Access::Revoke, Access::KickAdmin], Action::Grant(mixed)), Err(Denied::NoRight));
    assert_eq!(by(&[Access::Grant, Access::Revoke], Action::Revoke(mixed)), Ok(()));
    assert_eq!(by(&[Access::Grant, Access::Revoke, Access::Delete], Action::Grant(mixed)), Ok(()));
}

#[test]
fn admins_are_safe_from_those_who_may_not_kick_admins_and_the_owner_from_all() {
    let strong = Rights::owner().without(Rights::of(&[Access::KickAdmin]));
    let against = [Action::Kick, Action::Ban, Action::Revoke(Rights::of(&[Access::Kick]))];
    for action in against {
        let mut facts = facts(Some(member(ACTOR, strong)));
        facts.target = Some(member(TARGET, Rights::of(&[Access::Member, Access::Add])));
        assert_eq!(permit(action, &facts), Err(Denied::NoRight), "{action:?}");
        facts.actor = Some(member(ACTOR, Rights::owner()));
        assert_eq!(permit(action, &facts), Ok(()), "{action:?}");
        facts.target = Some(member(OWNER, Rights::NONE));
        assert_eq!(permit(action, &facts), Err(Denied::OwnerProtected), "{action:?}");
    }
}

#[test]
fn closed_takes_nothing_new_and_hold_only_from_those_who_could_reopen() {
    let post = |status, rights| {
        let mut facts = facts(Some(member(ACTOR, rights)));
        facts.room.status = status;
        permit(Action::Post, &facts)
    };
    let reopener = Rights::member().with(Access::Reopen);
    assert_eq!(post(RoomStatus::Closed, Rights::owner()), Err(Denied::RoomClosed));
    assert_eq!(post(RoomStatus::Hold, Rights::member()), Err(Denied::RoomOnHold));
    assert_eq!(post(RoomStatus::Hold, reopener), Ok(()));
    assert_eq!(post(RoomStatus::Open, Rights::member()), Ok(()));
    assert_eq!(post(RoomStatus::Open, Rights::NONE), Err(Denied::NoRight));
}

#[test]
fn targets_must_fit_the_deed() {
    let owner = Some(member(OWNER, Rights::NONE));
    let nobody = RoomFacts { target: None, target_exists: false, ..facts(owner) };
    assert_eq!(permit(Action::Add, &nobody), Err(Denied::TargetMissing));
    assert_eq!(permit(Action::Kick, &nobody), Err(Denied::TargetNotMember));
    assert_eq!(permit(Action::Ban, &nobody), Err(Denied::TargetMissing));
    let banned = RoomFacts { target: None, target_banned: true, ..facts(owner) };
    assert_eq!(permit(Action::Add, &banned), Err(Denied::TargetBanned));
    let blocks = Acquaintance { blocks: true, ..Acquaintance::default() };
    let blocked = RoomFacts { target: None, acquaintance: blocks, ..facts(owner) };
    assert_eq!(permit(Action::Add, &blocked), Err(Denied::Blocked));
    let mut pair = facts(owner);
    pair.room.kind = RoomKind::Pair;
    assert_eq!(permit(Action::Add, &pair), Err(Denied::PairRoom));
}

#[test]
fn numbers_name_the_levels() {
    for access in Access::ALL {
        assert_eq!(Access::from_number(access.number()), Some(access));
    }
    assert_eq!(Access::from_number(0), None);
    assert_eq!(Access::from_number(14), None);
}
