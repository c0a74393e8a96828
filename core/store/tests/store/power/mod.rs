//! Power cuts: whatever a disk keeps of unsynced data, the store opens, and no answered change is missing or
//! duplicated.
//!
//! A child process works on a store while a preloaded library records its writes, renames and syncs (`record.c`). The
//! test then builds the image of a power cut at a random moment (`disk.rs`), opens it, and compares it with the
//! child's output until then. A failure names its seed; set `CHELSERU_POWER_SEED` to rebuild that image. Without a C
//! compiler, or outside Linux, nothing is tested and one line says so.

mod disk;

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::process::Stdio;

use chelseru_store::chat::{
    Additions, Appended, Judged, MessageBody, MessageDraft, RoomDraft, RoomId, RoomLimits, RoomMade,
    RoomStatus,
};
use chelseru_store::{
    Currency, ErasureBegun, ErasureDraft, ErasureProof, PayMode, PaymentCreated, PaymentDraft, PaymentId,
    PaymentReceipt, PaymentSettled, PaymentStart, PaymentState, Redirect, RedirectMethod, SessionGate,
    SessionId, SpendDraft, SpendId, SpendMade, StoreError, UserId,
};
use disk::{Random, Recorded, read_all};

use super::*;

const CHILD: &str = "power::child_that_a_power_cut_ends";
/// The child's task: `work`, `open`, `import`.
const TASK: &str = "CHELSERU_POWER_TASK";
const STORE: &str = "CHELSERU_POWER_STORE";
const EXPORT: &str = "CHELSERU_POWER_EXPORT";

const CALLERS: usize = 6;
const ROUNDS: usize = 9;
/// Images of a working store, and of each of the others.
const IMAGES: usize = 24;
const IMAGES_MORE: usize = 8;

/// The longest message, in characters of 1, 2 and 4 bytes.
fn longest(n: usize) -> String {
    ["a", "ش", "😀"][n % 3].repeat(4096)
}

async fn answered<T: Send + 'static>(
    call: impl FnOnce(Box<dyn FnOnce(Result<T, StoreError>) + Send>) -> Result<(), StoreError>,
) -> T {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    call(Box::new(move |result| drop(sender.send(result)))).unwrap();
    receiver.await.unwrap().unwrap()
}

async fn make_room(store: &Store, owner: UserId, members: Vec<UserId>) -> RoomId {
    let draft = RoomDraft {
        owner,
        owner_rights: u16::MAX,
        members,
        member_rights: u16::MAX,
        name: None,
        descriptions: None,
        status: RoomStatus::Open,
        organization: None,
        limits: RoomLimits { rooms_per_user_max: 1000, members_max: 1000, bans_max: 10 },
        additions: Additions::Admit,
        now: secs(100),
    };
    let RoomMade::New { room, .. } = answered(|then| store.chat_group_create(draft, then)).await else {
        panic!("no room")
    };
    room.id
}

async fn post(store: &Store, room: RoomId, sender: UserId, text: String, client_id: &str) -> u64 {
    let body = MessageBody { kind: "text".into(), text, raw: false, lat: None, lng: None };
    let draft = MessageDraft {
        room,
        sender,
        body,
        file: None,
        client_id: Some(client_id.to_owned()),
        now: secs(200),
    };
    let kept = answered(|then| store.chat_message_append(draft, |_| Ok(()), then)).await;
    match kept {
        Judged::Done(Appended::New { message, .. }) => message.seq,
        other => panic!("not kept: {other:?}"),
    }
}

async fn pay(store: &Store, user: UserId, name: &str) -> PaymentId {
    let draft = PaymentDraft {
        user,
        amount: 1000,
        currency: Currency::Irr,
        mode: PayMode::Charge,
        order: String::new(),
        unique_order: true,
        gateway: "bank".into(),
        plugin: String::new(),
        description: String::new(),
        callback_url: String::new(),
        callback_key: String::new(),
        frontend_url: None,
        now: secs(200),
        window_ends_at: secs(2000),
        check_at: secs(300),
        once: None,
    };
    let PaymentCreated::Created(payment) = store.payment_create(draft).await.unwrap() else {
        panic!("not created")
    };
    let start = PaymentStart {
        reference: name.to_owned(),
        redirect: Redirect { method: RedirectMethod::Get, url: String::new(), fields: Vec::new() },
        state: Vec::new(),
        message: String::new(),
    };
    store.payment_started(payment.id, start, secs(300), secs(201)).await.unwrap();
    let receipt = PaymentReceipt {
        number: name.to_owned(),
        card_pan: String::new(),
        card_hash: String::new(),
        fee_rial: None,
        code: String::new(),
        message: String::new(),
    };
    let settled = store.payment_settle(payment.id, receipt, None, secs(202)).await.unwrap();
    assert!(matches!(settled, PaymentSettled::Now(_)), "{settled:?}");
    payment.id
}

/// One caller's work, printed line by line as it is answered.
async fn work(store: Store, caller: usize, run: u64) {
    let mut room = None;
    for round in 0..ROUNDS {
        let name = format!("{run}-{caller}-{round}");
        let at = 1000 * (round as u64 + 1);
        let number = number(run as usize % 1000 * 1000 + caller * 50 + round % 3);
        store.challenge_open(challenge(&number, at, at)).await.unwrap();
        let outcome = store.login_with_challenge(login(&number, RIGHT, at)).await.unwrap();
        let LoginOutcome::LoggedIn { user, session, .. } = outcome else { panic!("{outcome:?}") };
        println!("login {} {}", user.id, session.id);
        let payment = pay(&store, user.id, &name).await;
        println!("paid {}", payment.0);
        let draft = SpendDraft {
            user: user.id,
            amount: 10,
            hold: false,
            expires_at: None,
            order: name.clone(),
            unique_order: true,
            description: String::new(),
            now: secs(203),
            once: None,
        };
        let SpendMade::Done(spend) = store.spend_create(draft).await.unwrap() else { panic!("not spent") };
        println!("spent {} {}", spend.id.0, name);
        leave(&store, caller, round, run).await;
        let room = match room {
            Some(room) => room,
            None => *room.insert((make_room(&store, user.id, Vec::new()).await, user.id)),
        };
        for n in 0..3 {
            let client_id = format!("{name}-{n}");
            let seq = post(&store, room.0, room.1, longest(n + round), &client_id).await;
            println!("message {} {seq} {client_id} {}", room.0.0, n + round);
        }
    }
}

/// A user who logs in and erases the account.
async fn leave(store: &Store, caller: usize, round: usize, run: u64) {
    let number = number(run as usize % 1000 * 1000 + 500 + caller * 50 + round);
    let at = 1000 * (round as u64 + 1);
    store.challenge_open(challenge(&number, at, at)).await.unwrap();
    let outcome = store.login_with_challenge(login(&number, RIGHT, at)).await.unwrap();
    let LoginOutcome::LoggedIn { user, session, .. } = outcome else { panic!("{outcome:?}") };
    println!("leaver {} {} {number}", user.id, session.id);
    let draft = ErasureDraft {
        user: user.id,
        look: String::new(),
        proof: ErasureProof::Staff,
        forfeit: false,
        by: user.id,
        now: secs(at),
    };
    let begun = store.erasure_begin(draft).await.unwrap();
    assert_eq!(begun, ErasureBegun::Begun { forfeited: 0 });
    println!("erased {}", user.id);
}

/// The child's part. Does nothing in an ordinary run, which lacks a task in its environment.
#[test]
fn child_that_a_power_cut_ends() {
    let Ok(task) = std::env::var(TASK) else { return };
    let path = std::path::PathBuf::from(std::env::var_os(STORE).unwrap());
    if task == "import" {
        let mut file = std::fs::File::open(std::env::var_os(EXPORT).unwrap()).unwrap();
        Store::import(&path, &mut file, || Ok(())).unwrap();
        println!("imported");
        return;
    }
    let store = Store::open(path, StoreOptions::default()).unwrap();
    println!("opened");
    if task == "work" {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            let run = u64::from(std::process::id());
            let callers: Vec<_> =
                (0..CALLERS).map(|caller| tokio::spawn(work(store.clone(), caller, run))).collect();
            for caller in callers {
                caller.await.unwrap();
            }
        });
    }
    store.close();
}

/// Runs the child on a folder and returns its record.
fn record(library: &Path, folder: &Path, task: &str, export: Option<&Path>) -> Recorded {
    let root = folder.join("root");
    let trace = folder.join(format!("{task}.trace"));
    let before = read_all(&root);
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args([CHILD, "--exact", "--nocapture"]).stdout(Stdio::null()).stderr(Stdio::inherit());
    child.env(TASK, task).env(STORE, root.join("db"));
    child.envs(export.map(|export| (EXPORT, export)));
    disk::record(&mut child, library, &root, &trace);
    assert!(child.status().unwrap().success(), "the child of {task}");
    Recorded::read(&root, before, &trace)
}

/// What the child's lines promise.
#[derive(Default)]
struct Promised {
    logins: Vec<(UserId, SessionId)>,
    payments: Vec<PaymentId>,
    spends: Vec<(SpendId, String)>,
    messages: Vec<(RoomId, u64, String, usize)>,
    leavers: Vec<(UserId, SessionId, String)>,
    erased: HashSet<UserId>,
}

impl Promised {
    fn of<'a>(lines: impl Iterator<Item = &'a str>) -> Promised {
        let mut promised = Promised::default();
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| words[at].parse::<u64>().unwrap();
            match words[0] {
                "login" => promised.logins.push((UserId(number(1)), SessionId(number(2)))),
                "paid" => promised.payments.push(PaymentId(number(1))),
                "spent" => promised.spends.push((SpendId(number(1)), words[2].to_owned())),
                "leaver" => {
                    let (user, session) = (UserId(number(1)), SessionId(number(2)));
                    promised.leavers.push((user, session, words[3].to_owned()));
                }
                "erased" => drop(promised.erased.insert(UserId(number(1)))),
                "message" => promised.messages.push((
                    RoomId(number(1)),
                    number(2),
                    words[3].to_owned(),
                    number(4) as usize,
                )),
                _ => {} // The test harness's own.
            }
        }
        promised
    }

    async fn check(&self, store: &Store, context: &str) {
        // A user keeps three sessions; the newest of each is there.
        let newest: HashMap<UserId, SessionId> = self.logins.iter().copied().collect();
        for (user, session) in newest {
            let gate = store.session_gate(user, session, secs(1001)).await.unwrap();
            assert_eq!(gate, SessionGate::Open, "{context}: session {session} of user {user}");
        }
        for id in &self.payments {
            let payment = store
                .payment_get(*id)
                .await
                .unwrap()
                .unwrap_or_else(|| panic!("{context}: payment {}", id.0));
            assert_eq!(payment.state, PaymentState::Paid, "{context}: payment {}", id.0);
        }
        for (id, order) in &self.spends {
            let spend =
                store.spend_get(*id).await.unwrap().unwrap_or_else(|| panic!("{context}: spend {}", id.0));
            assert_eq!(&spend.order, order, "{context}");
        }
        for (room, seq, client_id, n) in &self.messages {
            let message = store.chat_message(*room, *seq).await.unwrap();
            let message = message.unwrap_or_else(|| panic!("{context}: message {seq} of room {}", room.0));
            assert_eq!(message.client_id.as_ref(), Some(client_id), "{context}");
            assert_eq!(message.body.text, longest(*n), "{context}");
        }
        let rooms: HashSet<RoomId> = self.messages.iter().map(|(room, ..)| *room).collect();
        for room in rooms {
            let page = store.chat_messages_after(room, 0, 10_000).await.unwrap();
            let names: HashSet<_> = page.messages.iter().map(|message| message.client_id.clone()).collect();
            assert_eq!(names.len(), page.messages.len(), "{context}: a message is there twice");
            let seqs: Vec<u64> = page.messages.iter().map(|message| message.seq).collect();
            assert_eq!(
                seqs,
                (1..=seqs.len() as u64).collect::<Vec<_>>(),
                "{context}: numbers of room {}",
                room.0
            );
        }
        self.check_leavers(store, context).await;
        assert_eq!(store.ledger_verify().await.unwrap().difference, None, "{context}: the ledger");
    }

    /// An account is whole, or it is gone and its traces wait to be erased.
    async fn check_leavers(&self, store: &Store, context: &str) {
        let open: HashSet<UserId> =
            store.erasures_open(1000).await.unwrap().iter().map(|erasure| erasure.user).collect();
        for (user, session, number) in &self.leavers {
            let found = store.user_by_identity(0, number).await.unwrap().map(|user| user.id);
            let gate = store.session_gate(*user, *session, secs(1001)).await.unwrap();
            let whole = found == Some(*user) && gate == SessionGate::Open && !open.contains(user);
            let gone = found.is_none() && gate == SessionGate::UserMissing && open.contains(user);
            let fits = if self.erased.contains(user) { gone } else { whole || gone };
            assert!(fits, "{context}: user {user}: {found:?}, {gate:?}, listed: {}", open.contains(user));
        }
    }
}

fn seed() -> u64 {
    let fixed = std::env::var("CHELSERU_POWER_SEED").ok().and_then(|text| text.parse().ok());
    fixed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_nanos() as u64 | 1
    })
}

/// The library, or a line that says that nothing is tested.
fn recorder(folder: &Path) -> Option<std::path::PathBuf> {
    let library = disk::recorder(folder);
    if library.is_none() {
        // Not a macro, because the harness captures its output.
        let _ = writeln!(std::io::stderr(), "skipped: power cuts need Linux with glibc and a C compiler");
    }
    library
}

/// Opens a store again, once its last background work has let go of it.
fn reopened(folder: &Path) -> Store {
    loop {
        match Store::open(folder, StoreOptions::default()) {
            Err(StoreError::Locked { .. }) => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

/// Opens an image, checks it, and checks that it stays usable.
async fn check_image(image: &Path, promised: &Promised, context: &str) {
    let store = Store::open(image.join("db"), StoreOptions::default())
        .unwrap_or_else(|error| panic!("{context}: {error}: {:?}", std::error::Error::source(&error)));
    promised.check(&store, context).await;
    let blobs = std::fs::read_dir(image.join("db/sled/blobs")).unwrap().count();
    assert_eq!(blobs, 0, "{context}: the engine keeps nodes in files that it does not sync");
    store.challenge_open(challenge(NUMBER, 1, 5000)).await.unwrap();
    let user = match store.login_with_challenge(login(NUMBER, RIGHT, 5000)).await.unwrap() {
        LoginOutcome::LoggedIn { user, .. } => user,
        other => panic!("{context}: {other:?}"),
    };
    pay(&store, user.id, context).await;
    store.close();
    drop(store);
    let store = reopened(&image.join("db"));
    promised.check(&store, context).await;
}

async fn cut_images(
    recorded: &Recorded,
    images: usize,
    first: usize,
    check: impl AsyncFn(&Path, usize, &str),
) {
    let base = seed();
    for n in 0..images {
        let seed = base.wrapping_add((n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1;
        let mut random = Random(seed);
        let cut = first + random.below(recorded.len() - first + 1);
        let context = format!("CHELSERU_POWER_SEED={base}, image {n}, cut at {cut} of {}", recorded.len());
        let image = tempfile::tempdir().unwrap();
        recorded.image(cut, &mut random, image.path());
        check(image.path(), cut, &context).await;
    }
}

#[tokio::test]
async fn a_power_cut_loses_nothing_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = recorder(folder.path()) else { return };
    std::fs::create_dir(folder.path().join("root")).unwrap();
    let recorded = record(&library, folder.path(), "work", None);
    let check = async |image: &Path, cut: usize, context: &str| {
        check_image(image, &Promised::of(recorded.said(cut)), context).await;
    };
    cut_images(&recorded, IMAGES, 0, check).await;
}

/// Cuts the opening of a working store's image repeatedly, then runs more work on it.
#[tokio::test]
async fn a_power_cut_while_opening_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = recorder(folder.path()) else { return };
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let recorded = record(&library, folder.path(), "work", None);
    let base = seed();
    let mut random = Random(base);
    let cut = recorded.len() - recorded.len() / 4;
    let promised = Promised::of(recorded.said(cut));
    std::fs::remove_dir_all(&root).unwrap();
    std::fs::create_dir(&root).unwrap();
    recorded.image(cut, &mut random, &root);
    let opened = record(&library, folder.path(), "open", None);
    let check = async |image: &Path, _: usize, context: &str| {
        check_image(image, &promised, &format!("opening, CHELSERU_POWER_SEED={base}: {context}")).await;
    };
    cut_images(&opened, IMAGES_MORE, 0, check).await;
}

#[tokio::test]
async fn a_power_cut_while_importing_leaves_a_whole_store_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = recorder(folder.path()) else { return };
    std::fs::create_dir(folder.path().join("root")).unwrap();
    let recorded = record(&library, folder.path(), "work", None);
    let promised = Promised::of(recorded.said(recorded.len()));
    let export = folder.path().join("export");
    let store = Store::open(folder.path().join("root/db"), StoreOptions::default()).unwrap();
    store.export(std::fs::File::create(&export).unwrap(), Path::new("unused")).await.unwrap();
    store.close();
    drop(store);
    std::fs::remove_dir_all(folder.path().join("root")).unwrap();
    std::fs::create_dir(folder.path().join("root")).unwrap();
    let imported = record(&library, folder.path(), "import", Some(&export));
    let check = async |image: &Path, cut: usize, context: &str| {
        let said = imported.said(cut).any(|line| line == "imported");
        if !said {
            if !image.join("db").exists() {
                return;
            }
            match Store::open(image.join("db"), StoreOptions::default()) {
                Err(StoreError::HalfImported { .. }) => return,
                // Even the marker file is missing, so nothing is there.
                Ok(store) if store.ledger_verify().await.unwrap().postings == 0 => return,
                opened => drop(opened),
            }
        }
        check_image(image, &promised, context).await;
    };
    cut_images(&imported, IMAGES_MORE, 0, check).await;
}

/// Opening a store of an older version, with small segments, converts it.
#[tokio::test]
async fn a_power_cut_while_converting_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = recorder(folder.path()) else { return };
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let recorded = record(&library, folder.path(), "work", None);
    let promised = Promised::of(recorded.said(recorded.len()));
    let now = open_engine(&root.join("db"));
    let older = sled::Config::new().path(folder.path().join("older")).segment_size(SEGMENT_BYTES_BEFORE);
    let older = older.open().unwrap();
    for (key, value) in records_in(&now) {
        if key != b"mcommit" {
            older.insert(key, value).unwrap();
        }
    }
    older.flush().unwrap();
    drop((now, older));
    std::fs::remove_dir_all(root.join("db")).unwrap();
    std::fs::create_dir(root.join("db")).unwrap();
    std::fs::rename(folder.path().join("older"), root.join("db/sled")).unwrap();
    let converted = record(&library, folder.path(), "open", None);
    let check = async |image: &Path, _: usize, context: &str| check_image(image, &promised, context).await;
    cut_images(&converted, IMAGES_MORE, 0, check).await;
}
