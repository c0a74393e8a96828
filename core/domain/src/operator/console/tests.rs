//! The way in, end to end: links, passwords with a second factor, sessions, roles.

use std::time::Duration;

use chelseru_store::StoreOptions;

use super::factor::code_at;
use super::*;
use crate::clock::ManualClock;
use crate::login::identity::ClientInfo;
use crate::login::method::LoginMethods;
use crate::login::otp::{OtpRules, OtpService};
use crate::login::token::{TokenRules, Tokens};
use crate::operator::audit::Audit;
use crate::operator::role::{OperatorSetRole, Reason};

const PASSWORD: &str = "a long enough passphrase";

struct Desk {
    console: Console,
    clock: Arc<ManualClock>,
    store: Store,
    root: UserId,
    _folder: tempfile::TempDir,
}

impl Desk {
    async fn new() -> Desk {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let key = MasterKey::from_bytes([7; 32]);
        let otp =
            OtpService::new(store.clone(), clock.clone(), OtpRules::default(), key.derive(KeyUse::OtpPepper));
        let tokens = Tokens::new(TokenRules::default(), &key.derive(KeyUse::JwtHs256));
        let identity = Identity::new(
            store.clone(),
            clock.clone(),
            Arc::new(otp.unwrap()),
            tokens.unwrap(),
            Default::default(),
        );
        let audit = Audit::start(store.clone(), clock.clone(), 1000);
        let identity = Arc::new(identity.unwrap().with_audit(audit));
        let permit = Operator::of_this_machine().permit().unwrap();
        let root = identity.superuser_create(&permit, "root", &Password::new(PASSWORD), "").await.unwrap();
        let keys = Arc::new(ConsoleKeys::new(&key));
        let console = Console::new(store.clone(), clock.clone(), identity, keys);
        Desk { console, clock, store, root: root.id, _folder: folder }
    }

    async fn link(&self, user: UserId) -> Option<String> {
        let permit = Operator::of_this_machine().permit().unwrap();
        self.console.link_make(&permit, user).await.unwrap().map(|link| link.token)
    }

    async fn by_link(&self) -> Seat {
        let link = self.link(self.root).await.unwrap();
        let opened = self.console.login_by_link(&link, Visitor::default()).await.unwrap();
        self.console.seat(&opened.token, None).await.unwrap().unwrap()
    }

    /// Sets a second factor up. Returns its secret and the recovery codes.
    async fn enrol(&self) -> (String, Vec<String>) {
        let seat = self.by_link().await;
        let draft = self.console.factor_begin(&seat).unwrap();
        let code = code_at(&draft.secret, self.clock.now().as_secs()).unwrap();
        let codes = self.console.factor_confirm(&seat, &draft.sealed, &code).await.unwrap();
        (draft.secret, codes)
    }

    async fn login(&self, password: &str, code: &str) -> Result<Seat, String> {
        let opened = self.console.login("root", &Password::new(password), code, Visitor::default()).await;
        let opened = opened.map_err(|error| error.to_string())?;
        Ok(self.console.seat(&opened.token, None).await.unwrap().unwrap())
    }

    fn code(&self, secret: &str) -> String {
        code_at(secret, self.clock.now().as_secs()).unwrap()
    }
}

const WRONG: &str = "the console does not open";

#[tokio::test]
async fn a_link_opens_one_session_within_its_time() {
    let desk = Desk::new().await;
    let open = async |token: &str| desk.console.login_by_link(token, Visitor::default()).await.is_ok();
    let first = desk.link(desk.root).await.unwrap();
    let second = desk.link(desk.root).await.unwrap();
    assert!(!open(&first).await, "a newer link replaces it");
    assert!(!open(&second.replacen('1', "2", 1)).await, "another account's");
    assert!(open(&second).await);
    assert!(!open(&second).await, "used");
    let late = desk.link(desk.root).await.unwrap();
    desk.clock.advance(LINK_TTL);
    assert!(!open(&late).await, "expired");
    for text in ["", "-", "1-", "x-y", "99999-abc"] {
        assert!(!open(text).await, "{text}");
    }
}

#[tokio::test]
async fn a_password_alone_opens_nothing() {
    let desk = Desk::new().await;
    assert_eq!(desk.login(PASSWORD, "").await.err().as_deref(), Some(WRONG), "no factor yet");
    let (secret, _) = desk.enrol().await;
    desk.clock.advance(Duration::from_secs(60));
    for (password, code) in [(PASSWORD, ""), (PASSWORD, "000000"), ("another password", &desk.code(&secret))]
    {
        assert_eq!(desk.login(password, code).await.err().as_deref(), Some(WRONG), "{code}");
    }
    let persian: String = desk
        .code(&secret)
        .chars()
        .map(|digit| char::from_u32(0x6f0 + digit.to_digit(10).unwrap()).unwrap())
        .collect();
    let seat = desk.login(PASSWORD, &persian).await.unwrap();
    assert_eq!((seat.operator.role(), seat.user.id, seat.has_factor), (Role::Admin, desk.root, true));
}

#[tokio::test]
async fn a_time_step_opens_one_session() {
    let desk = Desk::new().await;
    let (secret, _) = desk.enrol().await;
    let confirmed = desk.code(&secret);
    assert!(desk.login(PASSWORD, &confirmed).await.is_err(), "the step that confirmed is used");
    desk.clock.advance(Duration::from_secs(30));
    let code = desk.code(&secret);
    assert!(desk.login(PASSWORD, &code).await.is_ok());
    assert!(desk.login(PASSWORD, &code).await.is_err(), "used");
    desk.clock.advance(Duration::from_secs(30));
    assert!(desk.login(PASSWORD, &code).await.is_err(), "an older step, within the tolerance");
    assert!(desk.login(PASSWORD, &desk.code(&secret)).await.is_ok());
}

#[tokio::test]
async fn a_recovery_code_opens_one_session() {
    let desk = Desk::new().await;
    let (_, codes) = desk.enrol().await;
    assert_eq!(codes.len(), factor::RECOVERY_CODES);
    assert!(desk.login(PASSWORD, &codes[3].to_uppercase()).await.is_ok());
    assert!(desk.login(PASSWORD, &codes[3]).await.is_err());
    assert!(desk.login(PASSWORD, &codes[4].replace('-', " ")).await.is_ok());
}

#[tokio::test]
async fn guesses_at_the_second_factor_have_to_wait() {
    let desk = Desk::new().await;
    let (secret, _) = desk.enrol().await;
    desk.clock.advance(Duration::from_secs(60));
    let mut texts = Vec::new();
    for _ in 0..8 {
        texts.push(desk.login(PASSWORD, "000000").await.err().unwrap());
    }
    assert!(texts.contains(&"too many guesses".to_owned()), "{texts:?}");
    assert!(desk.login(PASSWORD, &desk.code(&secret)).await.is_err(), "not even the right one");
    desk.clock.advance(Duration::from_secs(3600));
    assert!(desk.login(PASSWORD, &desk.code(&secret)).await.is_ok());
}

#[tokio::test]
async fn guesses_at_the_clients_login_hold_no_operator_up() {
    let desk = Desk::new().await;
    let (secret, _) = desk.enrol().await;
    desk.clock.advance(Duration::from_secs(60));
    let by = LoginMethods::Both.by_password().unwrap();
    // From 21 addresses, and from none, as the operator here.
    let addresses = (0..21u8).map(|last| Some([198, 51, 100, last].into())).chain([None]);
    let mut waiting = 0;
    for ip in addresses {
        for _ in 0..6 {
            let (wrong, client) = (Password::new("not it at all"), ClientInfo { ip, ..Default::default() });
            match desk.console.identity.login(by, "root", &wrong, client).await {
                Err(PasswordError::Waiting { .. }) => waiting += 1,
                refused => assert!(matches!(refused, Err(PasswordError::Wrong))),
            }
        }
    }
    assert_eq!(waiting, 20 + 6 + 6, "after five of each address, and a hundred of all");
    assert!(desk.login(PASSWORD, &desk.code(&secret)).await.is_ok());
}

#[tokio::test]
async fn guesses_at_the_console_have_to_wait() {
    let desk = Desk::new().await;
    let (secret, _) = desk.enrol().await;
    desk.clock.advance(Duration::from_secs(60));
    let mut texts = Vec::new();
    for _ in 0..6 {
        texts.push(desk.login("not it at all", "000000").await.err().unwrap());
    }
    assert_eq!(texts, [[WRONG; 5].as_slice(), &["too many guesses"]].concat());
    assert!(desk.login(PASSWORD, &desk.code(&secret)).await.is_err(), "not even the right one");
    desk.clock.advance(Duration::from_secs(30));
    assert!(desk.login(PASSWORD, &desk.code(&secret)).await.is_ok());
}

#[tokio::test]
async fn clients_who_fill_the_queue_of_hashes_hold_no_operator_up() {
    let desk = Desk::new().await;
    let (secret, _) = desk.enrol().await;
    desk.clock.advance(Duration::from_secs(30));
    let hashes = desk.console.identity.hashes();
    let places: Vec<_> = std::iter::from_fn(|| hashes.enter(None).ok()).collect();
    assert!(!places.is_empty());
    assert!(desk.login(PASSWORD, &desk.code(&secret)).await.is_ok());
}

#[tokio::test]
async fn sessions_end_idle_and_after_a_day() {
    let desk = Desk::new().await;
    let link = desk.link(desk.root).await.unwrap();
    let token = desk.console.login_by_link(&link, Visitor::default()).await.unwrap().token;
    let sits = async || desk.console.seat(&token, None).await.unwrap().is_some();
    for _ in 0..13 {
        desk.clock.advance(IDLE_MAX - Duration::from_secs(120));
        if desk.clock.now() >= Timestamp::from_secs(1_800_000_000).plus(ABSOLUTE_MAX) {
            break;
        }
        assert!(sits().await);
    }
    assert!(!sits().await, "after its absolute end");
    let link = desk.link(desk.root).await.unwrap();
    let token = desk.console.login_by_link(&link, Visitor::default()).await.unwrap().token;
    // What a page asks for by itself is no use.
    desk.clock.advance(IDLE_MAX - Duration::from_secs(60));
    assert!(desk.console.glance(&token, None).await.unwrap().is_some());
    desk.clock.advance(Duration::from_secs(60));
    assert!(desk.console.seat(&token, None).await.unwrap().is_none(), "idle");
    assert!(desk.console.glance(&token, None).await.unwrap().is_none(), "idle");
}

#[tokio::test]
async fn what_ends_an_account_ends_its_console() {
    let desk = Desk::new().await;
    let identity = &desk.console.identity;
    let machine = Operator::of_this_machine();
    let tokens = async || {
        let link = desk.link(desk.root).await.unwrap();
        desk.console.login_by_link(&link, Visitor::default()).await.unwrap().token
    };
    let reason = Reason::of_command();

    let token = tokens().await;
    identity
        .password_override(&machine.permit().unwrap(), desk.root, &Password::new("another long one"))
        .await
        .unwrap();
    assert!(desk.console.seat(&token, None).await.unwrap().is_none(), "a new password");

    let token = tokens().await;
    identity.user_set_active(&machine.permit().unwrap(), desk.root, false, &reason).await.unwrap();
    assert!(desk.console.seat(&token, None).await.unwrap().is_none(), "disabled");
    assert_eq!(desk.link(desk.root).await, None, "and no new link");
    identity.user_set_active(&machine.permit().unwrap(), desk.root, true, &reason).await.unwrap();

    let token = tokens().await;
    let none = chelseru_store::Rights::None;
    identity.user_set_rights(&machine.permit().unwrap(), desk.root, none, &reason).await.unwrap();
    assert!(desk.console.seat(&token, None).await.unwrap().is_none(), "without rights");
}

#[tokio::test]
async fn a_role_is_given_by_an_admin_and_never_to_oneself() {
    let desk = Desk::new().await;
    let seat = desk.by_link().await;
    let password = Password::new(PASSWORD);
    let by = LoginMethods::Both.by_password().unwrap();
    let user = desk.console.identity.register(by, "sara", &password, "", None).await.unwrap().id;
    assert_eq!(desk.link(user).await, None, "no operator");
    let permit = seat.operator.permit::<OperatorSetRole>().unwrap();
    let reason = Reason::new("works for us").unwrap();
    desk.console.role_set(&permit, user, Some(Role::Support), &reason).await.unwrap();
    let own = desk.console.role_set(&permit, desk.root, None, &reason).await;
    assert!(matches!(own, Err(RoleError::Own)));
    let link = desk.link(user).await.unwrap();
    let token = desk.console.login_by_link(&link, Visitor::default()).await.unwrap().token;
    let sara = desk.console.seat(&token, None).await.unwrap().unwrap();
    assert_eq!(sara.operator.role(), Role::Support);
    assert!(sara.operator.permit::<OperatorSetRole>().is_err());
    desk.console.role_set(&permit, user, None, &reason).await.unwrap();
    assert!(desk.console.seat(&token, None).await.unwrap().is_none());
    desk.console.identity.audit().flush().await;
    let query = super::super::audit::AuditQuery { limit: 50, actor: Some(desk.root), ..Default::default() };
    let page = desk.console.identity.audit().page(query).await.unwrap();
    let changed: Vec<_> = page
        .entries
        .iter()
        .filter(|entry| entry.draft.event == "operator_role_changed")
        .map(|entry| (entry.draft.before.as_str(), entry.draft.after.as_str(), entry.draft.reason.as_str()))
        .collect();
    assert_eq!(changed, [("support", "none", "works for us"), ("none", "support", "works for us")]);
}

#[tokio::test]
async fn a_stolen_session_does_not_change_the_second_factor() {
    let desk = Desk::new().await;
    let (secret, _) = desk.enrol().await;
    desk.clock.advance(Duration::from_secs(60));
    let seat = desk.login(PASSWORD, &desk.code(&secret)).await.unwrap();
    let draft = desk.console.factor_begin(&seat).unwrap();
    let code = desk.code(&draft.secret);
    let refused = desk.console.factor_confirm(&seat, &draft.sealed, &code).await;
    assert!(matches!(refused, Err(FactorError::Exists)));
    // A form of another operator's does not fit, and a link may.
    let mut other = desk.by_link().await;
    other.user.id = UserId(99);
    let refused = desk.console.factor_confirm(&other, &draft.sealed, &code).await;
    assert!(matches!(refused, Err(FactorError::Wrong)));
    let seat = desk.by_link().await;
    assert!(desk.console.factor_confirm(&seat, &draft.sealed, &code).await.is_ok());
    let stored = format!("{:?}", desk.store.operator_get(desk.root).await.unwrap());
    assert!(!stored.contains(&draft.secret), "{stored}");
}

#[tokio::test]
async fn a_form_belongs_to_its_session() {
    let desk = Desk::new().await;
    let (one, other) = (desk.by_link().await, desk.by_link().await);
    assert!(Console::form_fits(&one, &one.form_key));
    assert!(!Console::form_fits(&one, &other.form_key) && !Console::form_fits(&one, ""));
    assert_eq!(desk.console.sessions(&one).await.unwrap().len(), 2);
    assert_eq!(desk.console.session_end(&one, None).await.unwrap(), 1);
    assert_eq!(desk.console.sessions(&one).await.unwrap().len(), 1);
}
