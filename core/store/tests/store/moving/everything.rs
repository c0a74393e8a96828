//! A store with one of everything, and what must be equal after it was moved.
//!
//! The comparisons also prove that they see everything: each kind of key that `engine/sled/keys` lists is in the store,
//! and each column of each table says something in some row. Whoever adds a key or a column without an example here
//! fails the test, and whoever forgets it in `moving.rs` fails the comparison.

use chelseru_store::chat::{
    Additions, FileDraft, FileKept, ImportedFile, ImportedMessage, ImportedRoom, Judged, Member, Message,
    MessageBody, MessageChange, MessageDraft, MessageEdit, OrganizationId, OrganizationMade, Picture, Room,
    RoomChange, RoomDraft, RoomFacts, RoomId, RoomKind, RoomLimits, RoomMade, RoomStatus, StoredFile,
    Thumbnail, WordBlock,
};
use chelseru_store::{
    ApiKeyDraft, Attempt, AuditDraft, AuditLog, CheckedLater, ConsoleDraft, ConsoleProof, CorrectionDraft,
    CreditFacts, ErasureBegun, ErasureDraft, ErasureProof, Guard, GuardRules, ImportedUser, KeptClaim,
    LegacyDraft, NoteKind, OperatorChange, OperatorRole, Payment, PaymentClaim, PaymentCreated, PaymentId,
    PaymentReceipt, PaymentRefusal, PaymentState, RefreshDraft, ResetToken, ReversalStep, SecondFactor,
    SessionId, SmsBegun, SmsClass, SmsContent, SmsDraft, SmsEnd, SmsIdempotency, SmsOwner, SmsQuota,
    SmsTried, SpendDraft, UserChange, UserDraft, UserId,
};

use super::super::chat::{answered, pair};
use super::super::money::{once, opening, payment, receipt, spend, start};
use super::super::{find, *};
use super::{Records, Tables};

/// More than every number that the stores compared here gave.
const MILLION: u64 = 1_000_000;

const LIMITS: RoomLimits = RoomLimits { rooms_per_user_max: 100, members_max: 100, bans_max: 100 };

pub(super) async fn fill(store: &TestStore) {
    accounts(store).await;
    chat(store).await;
    money(store).await;
    messages(store).await;
    operators(store).await;
}

async fn accounts(store: &TestStore) {
    for n in 1..=6 {
        let (user, _) = store.log_in(&number(n), 100 + n as u64).await;
        let name = |text: &str| Some(format!("{text}\0{n}"));
        let change = UserChange { first_name: name("a"), last_name: name("b"), email: name("c") };
        store.user_update(user.id, change).await.unwrap();
    }
    store.open_code(NUMBER, 300, 300).await;
    store.login_with_challenge(LoginDraft { group: 7, ..login(NUMBER, RIGHT, 301) }).await.unwrap();
    // Its user agent has a number by now, or gets one.
    store.log_in(&number(1), 400).await;
    let long = "x".repeat(3000);
    let mut draft = login(&number(2), RIGHT, 500);
    store.open_code(&number(2), 500, 500).await;
    draft.session.user_agent = "xy".to_owned();
    draft.session.device_name = Some(format!("a phone\0{long}"));
    store.login_with_challenge(draft).await.unwrap();
    for staff in [false, true] {
        let draft = UserDraft {
            username: format!("Alice{staff}"),
            look: format!("alice{staff}"),
            email: "a@example.com".to_owned(),
            password_hash: "$kept$".to_owned(),
            staff,
            superuser: staff,
            now: secs(50),
        };
        store.user_register(draft).await.unwrap();
    }
    store.looks_enter(|name| name.to_lowercase(), 100).await.unwrap();
    let imported = ImportedUser {
        user: chelseru_store::User { id: UserId(90), ..store.user_get(UserId(1)).await.unwrap().unwrap() },
        password_hash: None,
        owns_number: false,
        derived_name: true,
        merged: vec![UserId(91)],
    };
    store.import_users(vec![imported]).await.unwrap();
    let token = ResetToken { mac: [3; 32], expires_at: secs(900) };
    assert!(store.reset_token_put(UserId(7), token).await.unwrap());
    let rules = GuardRules {
        free: 1,
        wait_first: Duration::from_secs(10),
        wait_max: Duration::from_secs(35),
        forget_after: Duration::from_secs(1000),
    };
    store.password_guard(vec![Guard { key: [7; 32], rules }], secs(60)).await.unwrap();
    let session = login(NUMBER, RIGHT, 61).session;
    let legacy =
        LegacyDraft { user: UserId(1), token: 77, token_expires_at: secs(9000), session, now: secs(61) };
    store.legacy_session_open(legacy).await.unwrap();
    let session = store.sessions_of(UserId(3), None, 1).await.unwrap().remove(0);
    let refresh = RefreshDraft {
        user: session.user,
        session: session.id,
        binding: Some(session.binding()),
        generation: 0,
        now: secs(200),
        idle_max: Duration::from_secs(9000),
        absolute_max: Duration::from_secs(9000),
        repeat_max: Duration::from_secs(60),
    };
    store.refresh_rotate(refresh).await.unwrap();
    // A code with guesses of several addresses.
    store.challenge_open(ChallengeDraft { from: 5, ..challenge(NUMBER, u64::MAX, 600) }).await.unwrap();
    for (address, known) in [(u64::MAX, false), (4, true), (5, false)] {
        let guesser = Guesser { address, known };
        store.login_with_challenge(LoginDraft { guesser, ..login(NUMBER, WRONG, 601) }).await.unwrap();
    }
    erased(store, 8, false).await;
    erased(store, 9, true).await;
}

async fn erased(store: &TestStore, n: usize, ends: bool) {
    let (user, _) = store.log_in(&number(n), 700).await;
    let (look, proof) = (user.username.clone(), ErasureProof::Staff);
    let draft = ErasureDraft { user: user.id, look, proof, forfeit: false, by: UserId(2), now: secs(701) };
    let begun = store.erasure_begin(draft).await.unwrap();
    assert_eq!(begun, ErasureBegun::Begun { forfeited: 0 });
    if ends {
        store.erasure_end(user.id).await.unwrap();
    }
}

fn group(owner: u64, organization: Option<OrganizationId>) -> RoomDraft {
    RoomDraft {
        owner: UserId(owner),
        owner_rights: 511,
        members: vec![UserId(2), UserId(3)],
        member_rights: 3,
        name: Some("a\0group".to_owned()),
        descriptions: Some("of everything".to_owned()),
        status: RoomStatus::Hold,
        organization,
        limits: LIMITS,
        additions: Additions::Admit,
        now: secs(1000),
    }
}

async fn made(store: &TestStore, draft: RoomDraft) -> RoomId {
    match answered(|then| store.chat_group_create(draft, then)).await {
        RoomMade::New { room, .. } => room.id,
        other => panic!("{other:?}"),
    }
}

async fn changed(store: &TestStore, room: RoomId, actor: u64, target: Option<u64>, change: RoomChange) {
    let judge = move |_: &RoomFacts| Ok(vec![change.clone()]);
    let target = target.map(UserId);
    let done =
        answered(|then| store.chat_room_change(room, UserId(actor), target, secs(1100), judge, then)).await;
    assert!(matches!(done, Judged::Done(_)), "{done:?}");
}

async fn sent(store: &TestStore, room: RoomId, sender: u64, file: Option<&StoredFile>) {
    let body = MessageBody {
        kind: "text".to_owned(),
        text: format!("سلام\0 {sender}"),
        raw: sender == 2,
        lat: Some("35.7".to_owned()),
        lng: Some("\"51.3\"".to_owned()),
    };
    let (client_id, sender) = (Some(format!("c{sender}")), UserId(sender));
    let draft =
        MessageDraft { room, sender, body, file: file.map(|file| file.id), client_id, now: secs(1200) };
    let done = answered(|then| store.chat_message_append(draft, |_: &RoomFacts| Ok(()), then)).await;
    assert!(matches!(done, Judged::Done(_)), "{done:?}");
}

async fn kept(store: &TestStore, room: impl Into<Option<RoomId>>, name: &str) -> StoredFile {
    let thumbnail = Thumbnail { bytes: 9, width: 7, height: 8 };
    let draft = FileDraft {
        room: room.into(),
        uploader: UserId(2),
        name: name.to_owned(),
        folder: "/media/".to_owned(),
        title: "a title\0".to_owned(),
        content_type: "image/png".to_owned(),
        bytes: 100,
        text: Some("read".to_owned()),
        picture: Some(Picture { width: 70, height: 80, thumbnail: Some(thumbnail) }),
        quota_bytes: 1 << 20,
        total_bytes: 1 << 20,
        now: secs(1150),
    };
    match store.chat_file_keep(draft).await.unwrap() {
        FileKept::Kept(file) => file,
        other => panic!("{other:?}"),
    }
}

async fn chat(store: &TestStore) {
    let organization = store.chat_organization_create(UserId(1), "Tea".into(), "tea".into(), 9, secs(999));
    let OrganizationMade::New(organization) = organization.await.unwrap() else { panic!("no organisation") };
    let room = made(store, group(1, Some(organization.id))).await;
    let file = kept(store, room, "one.png").await;
    for (target, change) in [
        (Some(4), RoomChange::Ban),
        (Some(5), RoomChange::Invite { rights: 1, waiting_max: 9 }),
        (Some(6), RoomChange::Invite { rights: 1, waiting_max: 9 }),
        (None, RoomChange::Status(RoomStatus::Open)),
        (None, RoomChange::Pin(true)),
    ] {
        changed(store, room, 1, target, change).await;
    }
    changed(store, room, 6, None, RoomChange::Dismiss).await;
    changed(store, room, 2, None, RoomChange::Avatar(Some(file.id))).await;
    changed(store, room, 3, Some(3), RoomChange::Remove).await;
    let sent_file = kept(store, room, "two.png").await;
    // A picture of an account, and the one before it.
    kept(store, None, "me-before.png").await;
    kept(store, None, "me.png").await;
    kept(store, room, "doomed.png").await;
    sent(store, room, 2, Some(&sent_file)).await;
    for sender in [1, 2, 1, 2] {
        sent(store, made(store, group(1, None)).await, sender, None).await;
    }
    for sender in [1, 2, 1] {
        let draft = MessageDraft {
            room,
            sender: UserId(sender),
            body: MessageBody { kind: "text".into(), text: "x".into(), ..MessageBody::default() },
            file: None,
            client_id: None,
            now: secs(1300),
        };
        answered(|then| store.chat_message_append(draft, |_: &RoomFacts| Ok(()), then)).await;
    }
    changed(store, room, 1, None, RoomChange::Read(1)).await;
    let body = MessageBody { kind: "text".into(), text: "edited".into(), ..MessageBody::default() };
    for (seq, edit) in [(1, MessageEdit::Body(body)), (2, MessageEdit::Delete), (3, MessageEdit::Delete)] {
        let change = MessageChange { room, seq, actor: UserId(1), edit, now: secs(1400) };
        let judge = |_: &RoomFacts, _: &Message| Ok(());
        let done = answered(|then| store.chat_message_change(change, judge, then)).await;
        assert!(matches!(done, Judged::Done(_)), "{done:?}");
    }
    let block = WordBlock { first: 1, last: 1, bytes: vec![1, 2, 3] };
    let revision = store.chat_position(room).await.unwrap().unwrap().revision;
    assert!(store.chat_word_block_put(room, block, revision).await.unwrap());
    let hidden =
        answered(|then| store.chat_pair_open(pair(UserId(2), UserId(1), Additions::Admit), then)).await;
    let RoomMade::New { room: hidden, .. } = hidden else { panic!("{hidden:?}") };
    sent(store, hidden.id, 1, None).await;
    changed(store, hidden.id, 2, None, RoomChange::Hide).await;
    let asking = Additions::Ask { waiting_max: 9, waiting_per_sender_max: 9, requests_max: 9 };
    let declined = answered(|then| store.chat_pair_open(pair(UserId(3), UserId(6), asking), then)).await;
    let RoomMade::New { room: declined, .. } = declined else { panic!("{declined:?}") };
    changed(store, declined.id, 6, None, RoomChange::Dismiss).await;
    let gone = made(store, group(3, None)).await;
    sent(store, gone, 3, None).await;
    changed(store, gone, 3, None, RoomChange::Delete).await;
    store.chat_block(UserId(4), UserId(1)).await.unwrap();
    assert!(store.contacts_add(UserId(4), vec![[5; 16]], 9).await.unwrap());
    imported(store).await;
    let doomed = store.chat_files_doom(chelseru_store::chat::FileId(0), 100, secs(9999)).await.unwrap();
    assert!(!doomed.0.is_empty(), "{doomed:?}");
}

async fn imported(store: &TestStore) {
    let message = Message {
        room: RoomId(500),
        seq: 1,
        sender: UserId(1),
        body: MessageBody { kind: "text".into(), text: "old".repeat(3000), ..MessageBody::default() },
        file: None,
        file_name: None,
        client_id: None,
        created_at: secs(20),
        edited_at: None,
        deleted: false,
    };
    store.import_messages(vec![ImportedMessage { message, old_id: 7001 }]).await.unwrap();
    let room = Room {
        id: RoomId(500),
        kind: RoomKind::Pair,
        owner: UserId(1),
        name: None,
        descriptions: None,
        avatar: None,
        status: RoomStatus::Closed,
        organization: None,
        created_at: secs(10),
        updated_at: secs(11),
        members: 2,
        bans: 0,
        revision: 0,
        changes: 0,
    };
    let member = |user| Member {
        user: UserId(user),
        rights: 3,
        read_seq: 1,
        deleted_unread: 0,
        pinned: false,
        joined_at: secs(10),
        hidden_at: None,
        pending: false,
    };
    let (members, pair_with) = (vec![member(1), member(90)], Some(UserId(90)));
    store.import_rooms(vec![ImportedRoom { room, members, bans: Vec::new(), pair_with }]).await.unwrap();
    let file = StoredFile {
        id: chelseru_store::chat::FileId(600),
        room: Some(RoomId(500)),
        name: "old.png".to_owned(),
        shared: true,
        message: None,
        ..kept(store, RoomId(500), "three.png").await
    };
    store.import_files(vec![ImportedFile { file, old_path: "old/one\0.png".into() }]).await.unwrap();
}

async fn money(store: &TestStore) {
    find::filled(store).await;
    store.events_want(true).await.unwrap();
    for user in 1..=3 {
        store.import_balances(opening(UserId(user), 9_000)).await.unwrap();
    }
    store.import_balances(opening(UserId(5), -40)).await.unwrap();
    payments(store).await;
    let hold = SpendDraft { hold: true, expires_at: Some(secs(5000)), ..spend(300, "held\0", Some(once(2))) };
    for n in 1..=3 {
        let order = format!("hold {n}");
        let made = store.spend_create(SpendDraft { order, once: None, ..hold.clone() }).await.unwrap();
        let chelseru_store::SpendMade::Done(made) = made else { panic!("{made:?}") };
        match n {
            1 => drop(store.spend_capture(made.id, Some(200), secs(31)).await.unwrap()),
            2 => drop(store.spend_void(made.id, secs(31)).await.unwrap()),
            _ => drop(store.holds_expire(secs(6000), 10).await.unwrap()),
        }
    }
    store.spend_create(hold).await.unwrap();
    store.spend_create(spend(10, "spent", None)).await.unwrap();
    let correction = CorrectionDraft {
        user: UserId(2),
        amount: -50,
        reason: "a reason\0".to_owned(),
        by: UserId(3),
        now: secs(40),
        once: Some(once(3)),
    };
    store.correction_make(correction).await.unwrap();
    events(store).await;
}

async fn payments(store: &TestStore) {
    let kept = |vouched| KeptClaim {
        claim: PaymentClaim { cancelled: vouched, receipt: Some("r\0".to_owned()), data: vec![0, 200] },
        vouched,
    };
    for (n, text) in ["asked", "refused", "late", "paid", "new"].into_iter().enumerate() {
        let made = store.payment_create(payment(text, Some(once(10 + n as u8)))).await.unwrap();
        let PaymentCreated::Created(made) = made else { panic!("{made:?}") };
        if text == "new" {
            continue;
        }
        store.payment_started(made.id, start(text), secs(70), secs(11)).await.unwrap();
        store.payment_claimed(made.id, Some(kept(n == 0)), Some(secs(80))).await.unwrap();
        let refusal = || {
            let (code, text, field) = ("-9".to_owned(), "no\0".to_owned(), Some("amount".to_owned()));
            Some(PaymentRefusal { code, text, field })
        };
        match text {
            "asked" => {
                store.payment_check_later(made.id, CheckedLater::at(secs(90))).await.unwrap();
            }
            "refused" => {
                let end = PaymentState::Failed;
                store.payment_end(made.id, end, "refused\0".into(), refusal(), secs(12)).await.unwrap();
            }
            "late" => {
                store
                    .payment_end(made.id, PaymentState::Expired, "expired".into(), None, secs(12))
                    .await
                    .unwrap();
                store.payment_claimed(made.id, Some(kept(true)), Some(secs(95))).await.unwrap();
                store.payment_uncredited("BANK".into(), text.to_owned(), Some(7), secs(96)).await.unwrap();
            }
            _ => {
                let receipt = PaymentReceipt { card_hash: "h".to_owned(), ..receipt("paid\0") };
                store.payment_settle(made.id, receipt, None, secs(12)).await.unwrap();
                let paid = store.payment_get(made.id).await.unwrap().unwrap();
                let (id, start) = (PaymentId(5000), None);
                store.import_payments(vec![Payment { id, start, imported: true, ..paid }]).await.unwrap();
            }
        }
    }
    let reversed = store.reversals_open(1).await.unwrap().remove(0).payment;
    let step = ReversalStep::AskAgain { at: secs(9000), doubtful: true };
    store.reversal_step(reversed, step, secs(97)).await.unwrap();
}

async fn events(store: &TestStore) {
    let routed = |_: &chelseru_store::Event| vec!["one".to_owned(), "two".to_owned(), "three".to_owned()];
    store.events_route(1, secs(50), &routed).await.unwrap();
    let event = store.events_list(None, chelseru_store::EventFilter::All, 100).await.unwrap();
    let event = event.iter().find(|report| !report.deliveries.is_empty()).unwrap().event.id;
    let failed = |again_at| Attempt::Failed { error: "away\0".to_owned(), again_at };
    store.deliveries_note("one", vec![(event, Attempt::Delivered)]).await.unwrap();
    store.deliveries_note("two", vec![(event, failed(None))]).await.unwrap();
    store.deliveries_note("three", vec![(event, failed(Some(secs(99))))]).await.unwrap();
    let credit = CreditFacts { provider: "a".into(), amount: 1, unit: "rial".into(), min: 5 };
    store.credit_note(credit, true, secs(51)).await.unwrap();
}

async fn messages(store: &TestStore) {
    let begun = || Some(SmsBegun { provider: "dedup".to_owned(), deduplicates: true });
    let draft = |id: u64, begun: Option<SmsBegun>| SmsDraft {
        id,
        number: NUMBER.to_owned(),
        content: SmsContent::Text("hello\0".to_owned()),
        class: SmsClass::Notice,
        owner: SmsOwner::ApiKey(1),
        created_at: Timestamp::from_micros(id),
        deadline: secs(3600),
        begun,
        tried: Vec::new(),
        idempotency: Some(SmsIdempotency { key: [id as u8; 32], request: [2; 32], keys_max: 100 }),
        quota: Some(SmsQuota { api_key: 1, day: 20_000, cap: 100 }),
        queue_max: 100,
    };
    let tried =
        || vec![SmsTried { provider: "a".into(), code: "busy".into(), provider_code: Some("4\0".into()) }];
    store.sms_insert(draft(10, None)).await.unwrap();
    store.sms_insert(draft(11, begun())).await.unwrap();
    for (id, poll_at) in [(12, Some(secs(70))), (13, None)] {
        store
            .sms_insert(SmsDraft { class: SmsClass::Otp, content: SmsContent::Hidden, ..draft(id, begun()) })
            .await
            .unwrap();
        let end = SmsEnd::Accepted {
            provider: "a".to_owned(),
            provider_message_id: Some(format!("7{id}\0")),
            cost_rial: Some(1200),
            poll_at,
        };
        store.sms_end(id, end, tried(), secs(5)).await.unwrap();
    }
    store.sms_insert(draft(14, begun())).await.unwrap();
    let retry = SmsEnd::Retry { due_at: secs(30), resume_with: Some("dedup".to_owned()) };
    store.sms_end(14, retry, tried(), secs(2)).await.unwrap();
    store.sms_insert(draft(15, begun())).await.unwrap();
    store.sms_end(15, SmsEnd::Failed, tried(), secs(2)).await.unwrap();
    let imported = store.sms_get(13).await.unwrap().unwrap();
    let name = Some("imported".to_owned());
    let imported = chelseru_store::SmsRecord { id: 5, provider_message_id: name, polls: 3, ..imported };
    store.import_sms(vec![imported]).await.unwrap();
}

async fn operators(store: &TestStore) {
    for (user, role) in [(1, OperatorRole::Admin), (2, OperatorRole::Finance)] {
        store.operator_change(UserId(user), OperatorChange::Role(Some(role))).await.unwrap();
        store.operator_change(UserId(user), OperatorChange::Language("fa".into())).await.unwrap();
        let factor =
            SecondFactor { sealed: vec![1, 2], step: 5, recovery: vec![[8; 32], [9; 32]], since: secs(1) };
        store.operator_change(UserId(user), OperatorChange::Factor(Some(factor))).await.unwrap();
    }
    store.console_link_put(UserId(1), [4; 32], secs(90)).await.unwrap();
    for proof in [ConsoleProof::Link([4; 32]), ConsoleProof::Step(6)] {
        let hash = if matches!(proof, ConsoleProof::Step(_)) { [6; 32] } else { [5; 32] };
        let draft = ConsoleDraft {
            user: UserId(1),
            proof,
            hash,
            now: secs(60),
            expires_at: secs(160),
            ip_address: "192.0.2.1".to_owned(),
            user_agent: "a browser\0".to_owned(),
        };
        assert!(store.console_open(draft).await.unwrap().is_some());
    }
    store.console_touch(UserId(1), [6; 32], secs(61)).await.unwrap();
    store.console_link_put(UserId(2), [7; 32], secs(90)).await.unwrap();
    for kind in [NoteKind::PausedEndpoint, NoteKind::Correction, NoteKind::Filter, NoteKind::Alone] {
        store.note_put(kind, "a name\0".into(), None, Some("a value\0".into())).await.unwrap();
    }
    for daily_cap in [Some(100), None] {
        let (name, scope) = ("shop\0".to_owned(), "sms".to_owned());
        let draft = ApiKeyDraft { name, scope, hash: [3; 32], daily_cap, created_at: secs(70) };
        store.api_key_create(draft).await.unwrap();
    }
    assert!(store.api_key_revoke(2, secs(71)).await.unwrap());
    let entry = |event: &str| AuditDraft {
        at: secs(80),
        event: event.to_owned(),
        user: Some(UserId(1)),
        session: Some(SessionId(1)),
        ip_address: "192.0.2.1".to_owned(),
        subject: "09**\0".to_owned(),
        detail: "by code".to_owned(),
        actor: Some(UserId(2)),
        before: "a".to_owned(),
        after: "b".to_owned(),
        reason: "c".to_owned(),
    };
    for log in [AuditLog::Anyone, AuditLog::Account, AuditLog::Operator] {
        // The log has had more entries than it holds.
        store.audit_append((0..4).map(|_| (log, entry("login"))).collect(), 3).await.unwrap();
    }
    store.key_mark_set([9; 16]).await.unwrap();
    store.probe_put(b"probe", b"value").await.unwrap();
}

/// The kinds of keys that the key map lists, and the single keys that it names.
fn kinds() -> Vec<Vec<u8>> {
    let sources = [
        include_str!("../../../src/engine/sled/keys.rs"),
        include_str!("../../../src/engine/sled/keys/audit.rs"),
        include_str!("../../../src/engine/sled/keys/chat.rs"),
        include_str!("../../../src/engine/sled/keys/console.rs"),
        include_str!("../../../src/engine/sled/keys/money.rs"),
        include_str!("../../../src/engine/sled/keys/sms.rs"),
    ];
    let mut kinds = Vec::new();
    for line in sources.iter().flat_map(|source| source.lines()) {
        if let Some(cell) = line.strip_prefix("//! | `") {
            let kind = cell.split('`').next().unwrap().as_bytes().to_vec();
            // Explained elsewhere, kind by kind; parts are no records.
            if !matches!(kind.as_slice(), b"m" | b"C" | b"d" | b"q" | b"$" | b"~") {
                kinds.push(kind);
            }
        }
        for literal in line.split("b\"").skip(1).filter(|_| !line.starts_with("//!")) {
            let literal = literal.split('"').next().unwrap();
            if literal.starts_with("mseq") || literal.starts_with("q") {
                kinds.push(literal.as_bytes().to_vec());
            }
        }
    }
    kinds
}

/// Kinds that this version does not write: older ones have their tests where they are read.
const OLDER: [&[u8]; 2] = [b"i", b"$p"];

/// Made anew, or compared as they read: the words of messages, the audit log's chunks, and rooms that wait for their
/// sweep. What a member has read is moved by the newest message on PostgreSQL only.
const ANEW: [&[u8]; 7] = [b"Cs", b"Cz", b"a", b"A", b"O", b"Cm", b"mcommit"];

pub(super) fn compare_records(before: &Records, back: &Records) {
    let kinds = kinds();
    assert!(kinds.len() > 90, "{}", kinds.len());
    let exemplified = |kind: &[u8]| OLDER.contains(&kind) || before.keys().any(|key| key.starts_with(kind));
    assert!(before.values().any(|value| value.len() > 9000), "no example of a record in parts");
    let missing: Vec<_> =
        kinds.iter().filter(|kind| !exemplified(kind)).map(|kind| kind.escape_ascii()).collect();
    let mut wrong: Vec<String> =
        missing.iter().map(|kind| format!("no example of {kind}: add one")).collect();
    let swept =
        |key: &[u8]| swept_room(before).is_some_and(|room| key[0] == b'C' && key[2..].starts_with(&room));
    let is_anew = |key: &[u8]| ANEW.iter().any(|kind| key.starts_with(kind)) || swept(key);
    let number = |value: &[u8]| value.try_into().map(u64::from_be_bytes).ok();
    let is_sequence = |key: &[u8]| key.starts_with(b"mseq") || key.starts_with(b"qzseq");
    for (key, value) in before.iter().filter(|(key, _)| !is_anew(key)) {
        let name = key.escape_ascii();
        let is_same = match back.get(key) {
            None => number(value) == Some(0),
            // An import continues above the numbers of the export.
            Some(found) if is_sequence(key) && found != value => {
                number(found) == number(value).map(|number| number + MILLION)
            }
            Some(found) => found == value,
        };
        if !is_same {
            let found = back.get(key).map(|found| found.escape_ascii().to_string());
            wrong.push(format!("{name}: {}, then {found:?}", value.escape_ascii()));
        }
    }
    let new = back.keys().filter(|key| !is_anew(key) && !before.contains_key(*key));
    wrong.extend(new.map(|key| format!("{} is new", key.escape_ascii())));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The room that waits for its sweep.
fn swept_room(records: &Records) -> Option<Vec<u8>> {
    records.keys().find(|key| key.starts_with(b"Cz")).map(|key| key[2..].to_vec())
}

/// About the server, or made anew.
const OWN: [&str; 8] =
    ["commit_mark", "edit", "gateway", "lease", "migration", "node", "sms_count", "word_block"];

/// Columns that no row here fills: sessions from before bindings come from older stores on sled, see
/// [`one_of_everything_comes_back_from_postgres`](super::one_of_everything_comes_back_from_postgres).
const EMPTY: [(&str, &str); 1] = [("session", "unbound")];

pub(super) fn compare_tables(before: &Tables, back: &Tables) {
    assert!(before.len() > 40, "{}", before.len());
    let mut wrong = Vec::new();
    for (table, rows) in before.iter().filter(|(table, _)| !OWN.contains(&table.as_str())) {
        let Some(first) = rows.first() else {
            wrong.push(format!("no example of {table}: add one"));
            continue;
        };
        for column in first.keys() {
            let nothing = |value: &serde_json::Value| {
                let text = value.to_string();
                ["null", "\"\"", "0", "false", "[]", "{}"].contains(&text.as_str())
            };
            let filled = rows.iter().any(|row| !nothing(&row[column]));
            if !filled && !EMPTY.contains(&(table, column)) {
                wrong.push(format!("no example of {table}.{column}: add one"));
            }
        }
        let (rows, found) = (as_compared(table, rows, before), as_compared(table, &back[table], back));
        wrong.extend(rows.iter().filter(|row| !found.contains(row)).map(|row| format!("{table} lost {row}")));
        wrong.extend(found.iter().filter(|row| !rows.contains(row)).map(|row| format!("{table} has {row}")));
        if rows.len() != found.len() {
            wrong.push(format!("{table}: {} rows, then {}", rows.len(), found.len()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Rows without what is numbered or made anew.
fn as_compared(
    table: &str,
    rows: &[serde_json::Map<String, serde_json::Value>],
    all: &Tables,
) -> Vec<String> {
    let deleted: Vec<_> =
        all["room"].iter().filter(|row| row["state"] != "live").map(|row| &row["id"]).collect();
    let room = match table {
        "room" => "id",
        _ => "room",
    };
    let postings: std::collections::HashMap<_, _> =
        all["ledger_posting"].iter().map(|row| (row["number"].to_string(), row["key"].clone())).collect();
    let in_place = |row: &&serde_json::Map<String, serde_json::Value>| {
        table == "stored_file" || row.get(room).is_none_or(|room| !deleted.contains(&room))
    };
    let mut compared: Vec<String> = rows
        .iter()
        .filter(in_place)
        .map(|row| {
            let mut row = row.clone();
            match table {
                "ledger_posting" => drop(row.remove("number")),
                "ledger_entry" => {
                    let posting = postings[&row["posting"].to_string()].clone();
                    row.insert("posting".to_owned(), posting);
                }
                // An erased account's row says nothing.
                "account" if row["erased"] == true => {
                    row.remove("created_at");
                    row.remove("group_number");
                }
                // A message in hand belongs to an opening of the store.
                "sms" if row["status"] == "sending" => drop(row.remove("sender")),
                _ => {}
            }
            serde_json::to_string(&row).unwrap()
        })
        .collect();
    compared.sort();
    compared
}
