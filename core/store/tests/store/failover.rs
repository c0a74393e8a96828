//! A database server that is gone for good, and a standby that takes over: what was acknowledged is there, once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use chelseru_postgres_server::Server;
use chelseru_store::chat::{
    Additions, Appended, Judged, MessageBody, MessageDraft, RoomFacts, RoomId, RoomMade,
};
use chelseru_store::{LoginOutcome, SpendId, SpendMade, StoreError, UserId};

use super::money::{ALICE, once, opening, spend};
use super::proxy::Proxy;
use super::server::{new_database, opened, options, prepare};
use super::*;

const CALLERS: u8 = 8;
/// Changes of each caller.
const EACH: u8 = 25;
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_takes_over_has_everything_once() {
    let Some(primary) = Server::own() else { return };
    prepare(&primary);
    let name = new_database(&primary);
    let standby = primary.standby();
    let proxy = Proxy::new(primary.socket());
    let url = format!("host=127.0.0.1 port={} user=owner dbname={name}", proxy.port);
    let options = StoreOptions { connection_wait: Duration::from_secs(1), ..options() };
    let store = Arc::new(opened(&url, options).unwrap());
    for user in 1..=2 {
        log_in(&store, user).await;
    }
    store.import_balances(opening(ALICE, 1_000_000)).await.unwrap();
    let room = pair(&store).await;
    let done = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (store, done) = (Arc::clone(&store), Arc::clone(&done));
            tokio::spawn(async move {
                let mut made = Vec::new();
                for n in 0..EACH {
                    let key = caller * EACH + n;
                    let spent = insist(|| pay(Arc::clone(&store), key)).await;
                    let seq = insist(|| say(Arc::clone(&store), room, key)).await;
                    made.push((spent, seq));
                    done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                }
                made
            })
        })
        .collect();
    // In the middle of the work.
    let until = Instant::now() + PATIENCE;
    while done.load(std::sync::atomic::Ordering::SeqCst) < usize::from(CALLERS) {
        assert!(Instant::now() < until, "no progress");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    primary.crash();
    tokio::time::sleep(Duration::from_millis(300)).await;
    proxy.lead_to(standby.socket());
    tokio::task::block_in_place(|| standby.promote());
    let (mut spends, mut seqs) = (BTreeSet::new(), BTreeSet::new());
    for caller in callers {
        for (spend, seq) in caller.await.unwrap() {
            spends.insert(spend);
            seqs.insert(seq);
        }
    }
    let count = usize::from(CALLERS * EACH);
    assert_eq!((spends.len(), seqs.len()), (count, count), "each was made once");
    let stored = store.spends_of(ALICE, None, 1000).await.unwrap();
    assert_eq!(stored.iter().map(|spend| spend.id).collect::<BTreeSet<SpendId>>(), spends);
    let balance = store.wallet_balance(ALICE).await.unwrap().available;
    assert_eq!(balance, 1_000_000 - 10 * count as u64);
    let page = store.chat_messages_before(room, u64::MAX, 1000).await.unwrap();
    let numbers: BTreeSet<u64> = page.messages.iter().map(|message| message.seq).collect();
    assert_eq!((page.messages.len(), numbers), (count, seqs));
    let report = store.ledger_verify().await.unwrap();
    assert_eq!(report.difference, None);
}

/// Repeats a request until it is answered, as a client does.
async fn insist<T, F: Future<Output = Result<T, StoreError>>>(request: impl Fn() -> F) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        match request().await {
            Ok(answer) => return answer,
            Err(StoreError::Unavailable { .. } | StoreError::Busy | StoreError::Unsure) => {
                assert!(Instant::now() < until, "never answered");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

pub(super) async fn log_in(store: &Store, user: u64) {
    let (number, at) = (format!("+98912000000{user}"), 1000 * user);
    store.challenge_open(challenge(&number, at, at)).await.unwrap();
    let outcome = store.login_with_challenge(login(&number, RIGHT, at)).await.unwrap();
    let LoginOutcome::LoggedIn { user: found, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(found.id, UserId(user));
}

pub(super) async fn pair(store: &Store) -> RoomId {
    let draft = super::chat::pair(ALICE, UserId(2), Additions::Admit);
    let made = super::chat::answered(|then| store.chat_pair_open(draft, then)).await;
    let RoomMade::New { room, .. } = made else { panic!("{made:?}") };
    room.id
}

/// Makes the spend with this key.
async fn pay(store: Arc<Store>, key: u8) -> Result<SpendId, StoreError> {
    match store.spend_create(spend(10, "", Some(once(key)))).await? {
        SpendMade::Done(spend) | SpendMade::Repeated(spend) => Ok(spend.id),
        other => panic!("{other:?}"),
    }
}

/// Sends the message with this client id; returns its number.
async fn say(store: Arc<Store>, room: RoomId, key: u8) -> Result<u64, StoreError> {
    match append(&store, room, key)?.await.unwrap()? {
        Judged::Done(Appended::Known { message, .. } | Appended::New { message, .. }) => Ok(message.seq),
        other => panic!("{other:?}"),
    }
}

/// Begins to append the message with this client id.
pub(super) fn append(
    store: &Store,
    room: RoomId,
    key: u8,
) -> Result<tokio::sync::oneshot::Receiver<Result<Judged<Appended>, StoreError>>, StoreError> {
    let body = MessageBody {
        kind: "text".to_owned(),
        text: format!("message {key}"),
        raw: false,
        lat: None,
        lng: None,
    };
    let client_id = Some(format!("c{key}"));
    let draft = MessageDraft { room, sender: ALICE, body, file: None, client_id, now: secs(4000) };
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let then = move |result| drop(sender.send(result));
    store.chat_message_append(draft, |_: &RoomFacts| Ok(()), then)?;
    Ok(receiver)
}
