//! Gateways over one database: who is there, which does what, and what they ask for many at once.

use chelseru_store::chat::RoomId;
use chelseru_store::{
    CONFIG_EDITS_MAX, Edit, EditDraft, EditOf, NODES_MAX, Node, NodeFacts, SessionId, SmsStatus, StoreError,
    Task, UserId,
};

use super::postgres::two;
use super::server::{Database, opened, options};
use super::*;

const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn facts(name: &str) -> NodeFacts {
    let (config, components) = ("digest".to_owned(), "other".to_owned());
    NodeFacts { name: name.to_owned(), generation: 1, config, components, edit: 3 }
}

#[tokio::test]
async fn one_gateway_is_alone_and_holds_every_lease() {
    for engine in engines() {
        let store = TestStore::new(engine);
        assert!(!store.is_shared());
        for _ in 0..2 {
            let nodes = store.node_seen(facts("a"), MINUTE).await.unwrap();
            let [Node { slot: 0, own: true, facts: found, .. }] = &nodes[..] else { panic!("{nodes:?}") };
            assert_eq!(*found, facts("a"));
            assert_eq!(store.leases_renew(MINUTE).await.unwrap(), Task::ALL);
        }
        assert!(store.is_empty().await.unwrap(), "who serves is no record");
        store.node_leave().await.unwrap();
    }
}

#[tokio::test]
async fn two_gateways_see_each_other_under_slots_of_their_own() {
    let Some((stores, _database)) = two() else { return };
    assert!(stores[0].is_shared());
    assert_eq!(stores[0].node_seen(facts("a"), MINUTE).await.unwrap().len(), 1);
    let later = NodeFacts { generation: 7, config: "other".to_owned(), edit: 9, ..facts("b") };
    let nodes = stores[1].node_seen(later.clone(), MINUTE).await.unwrap();
    let seen: Vec<_> = nodes.iter().map(|node| (node.slot, node.own, node.facts.clone())).collect();
    assert_eq!(seen, [(0, false, facts("a")), (1, true, later)]);
    stores[0].node_leave().await.unwrap();
    assert_eq!(stores[1].node_seen(facts("b"), MINUTE).await.unwrap().len(), 1);
    let back = stores[0].node_seen(facts("a"), MINUTE).await.unwrap();
    assert_eq!(back.iter().map(|node| node.slot).collect::<Vec<_>>(), [0, 1], "the free slot");
    // One that is silent for longer than what is asked for is not told.
    while stores[1].node_seen(facts("b"), Duration::from_millis(300)).await.unwrap().len() == 2 {}
}

#[tokio::test]
async fn there_are_so_many_slots_and_not_one_more() {
    if chelseru_postgres_server::server().is_none() {
        return;
    }
    let database = Database::new();
    let options = || StoreOptions { shared: true, connections_max: 1, ..options() };
    let mut stores = Vec::new();
    let mut entering = tokio::task::JoinSet::new();
    for _ in 0..NODES_MAX {
        let store = opened(&database.url(), options()).unwrap();
        stores.push(store.clone());
        entering.spawn(async move {
            let nodes = store.node_seen(facts("many"), MINUTE).await.unwrap();
            nodes.into_iter().find(|node| node.own).unwrap().slot
        });
    }
    let mut slots = entering.join_all().await;
    slots.sort_unstable();
    assert_eq!(slots, (0..NODES_MAX).collect::<Vec<_>>());
    let more = opened(&database.url(), options()).unwrap();
    let refused = more.node_seen(facts("more"), MINUTE).await.unwrap_err();
    assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");
    let slot = |nodes: &[Node]| nodes.iter().find(|node| node.own).unwrap().slot;
    let freed = slot(&stores[5].node_seen(facts("many"), MINUTE).await.unwrap());
    stores[5].node_leave().await.unwrap();
    assert_eq!(slot(&more.node_seen(facts("more"), MINUTE).await.unwrap()), freed);
}

#[tokio::test]
async fn a_lease_is_held_by_one_and_passes_on_when_its_time_is_over() {
    let Some((stores, _database)) = two() else { return };
    assert_eq!(stores[0].leases_renew(MINUTE).await.unwrap(), Task::ALL);
    assert_eq!(stores[1].leases_renew(MINUTE).await.unwrap(), []);
    assert_eq!(stores[0].leases_renew(MINUTE).await.unwrap(), Task::ALL, "renewed");
    stores[0].node_leave().await.unwrap();
    assert_eq!(stores[1].leases_renew(Duration::from_millis(1)).await.unwrap(), Task::ALL, "given up");
    // The second falls silent. A lease that is looked at in the millisecond in which it ends may be free, and the next
    // one not yet.
    while stores[0].leases_renew(MINUTE).await.unwrap() != Task::ALL {}
    assert_eq!(stores[1].leases_renew(MINUTE).await.unwrap(), []);
}

#[tokio::test]
async fn leases_asked_for_at_once_have_one_holder_each() {
    let Some((stores, _database)) = two() else { return };
    let held = super::postgres::at_once(&stores, 16, |store, n| async move {
        (n % 2, store.leases_renew(MINUTE).await.unwrap())
    });
    let held = held.await;
    for task in Task::ALL {
        let holders: std::collections::BTreeSet<_> =
            held.iter().filter(|(_, held)| held.contains(&task)).map(|(store, _)| *store).collect();
        assert_eq!(holders.len(), 1, "{task:?}: {held:?}");
    }
}

#[tokio::test]
async fn a_message_of_a_gateway_that_is_gone_is_recovered_and_none_of_one_that_is_there() {
    let Some((stores, _database)) = two() else { return };
    for store in &stores {
        store.node_seen(facts("a"), MINUTE).await.unwrap();
    }
    let draft = |id| sms::draft(id, Some(sms::begun("plain")));
    for (id, store) in [(10, &stores[0]), (11, &stores[1])] {
        store.sms_insert(draft(id)).await.unwrap();
    }
    assert_eq!(stores[1].sms_recover(secs(5)).await.unwrap().unknown, 0);
    stores[0].node_leave().await.unwrap();
    assert_eq!(stores[1].sms_recover(secs(5)).await.unwrap().unknown, 1);
    let status = async |id| stores[0].sms_get(id).await.unwrap().unwrap().status;
    assert_eq!((status(10).await, status(11).await), (SmsStatus::Unknown, SmsStatus::Sending));
}

#[tokio::test]
async fn sessions_and_rooms_are_asked_for_many_at_once() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (_, Session { user, id, .. }) = store.log_in(NUMBER, 1).await;
        let (_, other) = store.log_in("+989121234568", 2).await;
        let asked =
            [(user, id), (user, SessionId(99)), (other.user, id), (other.user, other.id), (UserId(9), id)];
        let open = async |now| store.sessions_open(&asked, now).await.unwrap();
        assert_eq!(open(secs(10)).await, [true, false, false, true, false]);
        assert!(store.session_revoke(user, id).await.unwrap());
        assert_eq!(open(secs(10)).await, [false, false, false, true, false]);
        assert_eq!(open(secs(SESSION_TTL * 2)).await, [false; 5]);
        assert!(store.sessions_open(&[], secs(10)).await.unwrap().is_empty());

        let draft = chat::pair(user, other.user, chelseru_store::chat::Additions::Admit);
        chat::answered(|then| store.chat_pair_open(draft, then)).await;
        let asked = [RoomId(1), RoomId(999)];
        let expected = store.chat_position(RoomId(1)).await.unwrap().expect("a room");
        assert_eq!(store.chat_positions(&asked).await.unwrap(), [(RoomId(1), expected)]);
    }
}

#[tokio::test]
async fn one_that_is_alone_and_those_that_share_refuse_each_other() {
    if chelseru_postgres_server::server().is_none() {
        return;
    }
    let database = Database::new();
    let alone = opened(&database.url(), options()).unwrap();
    let quick = StoreOptions { lock_wait: Duration::ZERO, ..options() };
    let together = || opened(&database.url(), StoreOptions { shared: true, ..quick.clone() });
    let refused = together().expect_err("refused").to_string();
    assert!(refused.contains("without [bus]") && refused.contains("process"), "{refused}");
    drop(alone);
    // The server may notice the end of a connection a moment later.
    let store = loop {
        match together() {
            Ok(store) => break store,
            Err(StoreError::InUse { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    };
    store.node_seen(facts("node-one:8000"), MINUTE).await.unwrap();
    let _beside = together().expect("they share it");
    let refused = opened(&database.url(), quick.clone()).expect_err("refused").to_string();
    assert!(refused.contains("node-one:8000"), "{refused}");
}

fn draft(of: EditOf, sealed: &[u8]) -> EditDraft {
    EditDraft { of, sealed: sealed.to_vec(), made_at: "a".to_owned(), now: secs(1) }
}

fn component(name: &str) -> EditOf {
    EditOf::Component(name.to_owned())
}

#[tokio::test]
async fn edits_are_made_in_their_order_and_none_is_undone_unseen() {
    let Some((stores, _database)) = two() else { return };
    assert_eq!(stores[0].edit_last().await.unwrap(), 0);
    assert!(stores[0].edit_after(0).await.unwrap().is_none());
    assert_eq!(stores[0].edit_enter(0, draft(EditOf::Config, b"one")).await.unwrap(), Some(1));
    // The second one has not made it yet.
    assert_eq!(stores[1].edit_enter(0, draft(EditOf::Config, b"other")).await.unwrap(), None);
    let Some(Edit { number: 1, of: EditOf::Config, sealed, made_at }) =
        stores[1].edit_after(0).await.unwrap()
    else {
        panic!("no edit")
    };
    assert_eq!((sealed.as_slice(), made_at.as_str()), (b"one".as_slice(), "a"));
    assert_eq!(stores[1].edit_enter(1, draft(component("bank"), &[0, 255])).await.unwrap(), Some(2));
    assert_eq!(stores[0].edit_enter(2, draft(component("panel"), b"")).await.unwrap(), Some(3));
    // Of a component the newest edit is enough.
    assert_eq!(stores[0].edit_enter(3, draft(component("bank"), b"new")).await.unwrap(), Some(4));
    let mut made = Vec::new();
    while let Some(edit) = stores[1].edit_after(made.last().map_or(0, |(number, _)| *number)).await.unwrap() {
        made.push((edit.number, edit.of));
    }
    assert_eq!(made, [(1, EditOf::Config), (3, component("panel")), (4, component("bank"))]);
    // Many at once: exactly one is the next.
    let entering = (0..8).map(|at| stores[at % 2].edit_enter(4, draft(EditOf::Config, b"race")));
    let entered = futures_util::future::join_all(entering).await;
    assert_eq!(entered.iter().filter(|entered| *entered.as_ref().unwrap() == Some(5)).count(), 1);
    assert_eq!(stores[1].edit_last().await.unwrap(), 5);
}

#[tokio::test]
async fn old_edits_of_the_configuration_are_forgotten() {
    let Some((stores, database)) = two() else { return };
    let rows = format!(
        "insert into edit (number, component, sealed, made_by, made_at) \
         select n, null, '', 'a', now() from generate_series(1, {CONFIG_EDITS_MAX}) as n"
    );
    database.run(&rows).unwrap();
    let next = CONFIG_EDITS_MAX + 1;
    let entered = stores[0].edit_enter(CONFIG_EDITS_MAX, draft(EditOf::Config, b"")).await.unwrap();
    assert_eq!(entered, Some(next));
    assert_eq!(stores[0].edit_after(0).await.unwrap().map(|edit| edit.number), Some(2));
    assert_eq!(stores[0].edit_last().await.unwrap(), next);
}
