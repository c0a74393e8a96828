//! Whole logins at the domain's boundary: a temporary store, a clock moved by hand, and a provider that does what
//! the test says. No sockets, no sleeping.

mod place;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chelseru_domain::clock::{Clock, ManualClock, SystemClock};
use chelseru_domain::login::group::{Group, GroupPolicy};
use chelseru_domain::login::identity::{
    AuthenticateError, Caller, ClientInfo, Identity, IdentityRules, LoggedIn, PasswordError,
};
use chelseru_domain::login::method::{ByCode, ByPassword, LoginMethods};
use chelseru_domain::login::otp::{OtpRules, OtpService, SendError, Sent};
use chelseru_domain::login::password::Password;
use chelseru_domain::login::token::{TokenError, TokenRules, Tokens};
use chelseru_domain::login::user_agent::{Agent, UserAgentParser};
use chelseru_domain::operator::role::{Operator, Reason};
use chelseru_domain::secret::{KeyUse, MasterKey};
use chelseru_domain::sms::{Rejection, SmsBody, SmsClass, SmsError, SmsMessage, SmsPort, SmsReceipt};
use chelseru_domain::{PhoneNumber, Timestamp};
use chelseru_store::{Store, StoreOptions};
use place::Place;

const BY_CODE: ByCode = match LoginMethods::Both.by_code() {
    Ok(by) => by,
    Err(_) => panic!("both"),
};

const BY_PASSWORD: ByPassword = match LoginMethods::Both.by_password() {
    Ok(by) => by,
    Err(_) => panic!("both"),
};

const START: Timestamp = Timestamp::from_secs(1_800_000_000);
const TTL: Duration = Duration::from_secs(240);

/// Where codes are asked for and typed.
const HERE: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

/// Keeps what it is asked to send, and fails when told to.
#[derive(Default)]
struct Handset {
    inbox: Mutex<Vec<SmsMessage>>,
    fail_next: Mutex<Option<SmsError>>,
}

#[async_trait]
impl SmsPort for Handset {
    async fn send(&self, message: SmsMessage) -> Result<SmsReceipt, SmsError> {
        self.inbox.lock().unwrap().push(message);
        match self.fail_next.lock().unwrap().take() {
            Some(error) => Err(error),
            None => Ok(SmsReceipt {
                provider: "TEST".to_owned(),
                message_id: Some("1".to_owned()),
                duplicate: false,
                cost_rial: None,
            }),
        }
    }
}

struct World {
    otp: Arc<OtpService>,
    identity: Identity,
    store: Store,
    clock: Arc<ManualClock>,
    handset: Handset,
    _place: Place,
}

impl World {
    fn new() -> Self {
        World::with(OtpRules::default(), IdentityRules::default())
    }

    fn with(otp_rules: OtpRules, rules: IdentityRules) -> Self {
        let place = Place::new();
        let store = place.open(&StoreOptions::default());
        let clock = Arc::new(ManualClock::at(START));
        let master = MasterKey::from_bytes([3; 32]);
        let pepper = master.derive(KeyUse::OtpPepper);
        let otp = Arc::new(OtpService::new(store.clone(), clock.clone(), otp_rules, pepper).unwrap());
        let tokens = Tokens::new(TokenRules::default(), &master.derive(KeyUse::JwtHs256)).unwrap();
        let identity = Identity::new(store.clone(), clock.clone(), Arc::clone(&otp), tokens, rules).unwrap();
        World { otp, identity, store, clock, handset: Handset::default(), _place: place }
    }

    async fn send(&self) -> Result<Sent, SendError> {
        self.otp.send(BY_CODE, &number(), HERE, &self.handset).await
    }

    /// The code in the newest message.
    fn code(&self) -> String {
        let inbox = self.handset.inbox.lock().unwrap();
        let SmsBody::Text { text } = &inbox.last().expect("a message was sent").body else {
            panic!("no text")
        };
        text.chars().filter(char::is_ascii_digit).collect()
    }

    async fn authenticate(&self, code: &str) -> Result<LoggedIn, AuthenticateError> {
        self.authenticate_from(HERE, code).await
    }

    async fn authenticate_from(
        &self,
        ip: std::net::IpAddr,
        code: &str,
    ) -> Result<LoggedIn, AuthenticateError> {
        let client =
            ClientInfo { ip: Some(ip), user_agent: "curl/8.4.0".to_owned(), ..ClientInfo::default() };
        self.identity.authenticate(BY_CODE, &number(), code, Group::default(), client).await
    }

    /// Wrong guesses from so many addresses, as many from each as one has and one more.
    async fn strangers_guess(&self, addresses: u8) {
        let wrong = other_than(&self.code());
        for address in 0..addresses {
            for _ in 0..=self.otp.rules().attempts_max {
                let from = [198, 51, address, 1].into();
                assert_wrong_code(self.authenticate_from(from, &wrong).await);
            }
        }
    }

    async fn log_in(&self) -> LoggedIn {
        self.send().await.unwrap();
        self.authenticate(&self.code()).await.unwrap()
    }

    fn inbox_len(&self) -> usize {
        self.handset.inbox.lock().unwrap().len()
    }
}

fn number() -> PhoneNumber {
    PhoneNumber::parse("09121234567").unwrap()
}

/// A code of the same length that is not it.
fn other_than(code: &str) -> String {
    let first = if code.starts_with('1') { '2' } else { '1' };
    format!("{first}{}", &code[1..])
}

#[track_caller]
fn assert_wrong_code(result: Result<LoggedIn, AuthenticateError>) {
    assert!(matches!(result, Err(AuthenticateError::WrongCode)), "{result:?}");
}

#[test]
fn everything_holds_over_postgresql_too() {
    place::run_again("a_number_logs_in_and_is_known_again", &[]);
}

#[tokio::test]
async fn a_number_logs_in_and_is_known_again() {
    let world = World::new();
    let sent = world.send().await.unwrap();
    assert_eq!(sent, Sent { expires_in: TTL, provider: "TEST".to_owned() });
    let login = world.authenticate(&world.code()).await.unwrap();
    assert!(login.new_user);
    let caller = world.identity.caller(&login.access).await.unwrap();
    assert_eq!(caller, Caller { user_id: login.user_id, session_id: login.session_id });
    let user = world.identity.user_find("G0-09121234567").await.unwrap().unwrap();
    assert_eq!((user.id, user.username.as_str()), (login.user_id, "G0-09121234567"));
    assert_eq!(world.store.user_get(user.id).await.unwrap().unwrap().number, "+989121234567");
    assert!(world.identity.user_find("G1-09121234567").await.unwrap().is_none());
    assert_wrong_code(world.authenticate(&world.code()).await);
}

#[tokio::test]
async fn a_second_login_is_the_same_user_in_another_session() {
    let world = World::new();
    let first = world.log_in().await;
    let second = world.log_in().await;
    assert_eq!(first.user_id, second.user_id);
    assert_ne!(first.session_id, second.session_id);
    assert!(!second.new_user);
    assert!(world.identity.caller(&first.access).await.is_ok());
}

#[tokio::test]
async fn the_message_carries_the_code_an_id_and_the_class() {
    let rules = OtpRules { length: 10, text: "{code} is it: {code}".to_owned(), ..OtpRules::default() };
    let world = World::with(rules, IdentityRules::default());
    world.send().await.unwrap();
    let message = world.handset.inbox.lock().unwrap()[0].clone();
    assert_eq!((message.to, message.class), (number(), SmsClass::Otp));
    assert_eq!(message.local_id, START.as_micros());
    let SmsBody::Text { text } = message.body else { panic!("no text") };
    let (code, rest) = text.split_at(10);
    assert_eq!(rest, format!(" is it: {code}"));
    assert!(world.authenticate(code).await.is_ok());
}

#[tokio::test]
async fn a_template_carries_the_code_and_the_text_to_fall_back_on() {
    let rules = OtpRules { template: Some("otp-login".to_owned()), ..OtpRules::default() };
    let world = World::with(rules, IdentityRules::default());
    world.send().await.unwrap();
    let body = world.handset.inbox.lock().unwrap()[0].body.clone();
    let SmsBody::Template { name, values, fallback_text } = body else { panic!("no template") };
    assert_eq!((name.as_str(), values.len(), values[0].0.as_str()), ("otp-login", 1, "code"));
    assert_eq!(fallback_text, Some(format!("Your code: {}", values[0].1)));
    assert!(world.authenticate(&values[0].1).await.is_ok());
}

#[tokio::test]
async fn codes_are_taken_as_people_type_them() {
    let world = World::new();
    world.send().await.unwrap();
    let persian: String = world
        .code()
        .chars()
        .map(|digit| char::from_u32(u32::from(digit) - u32::from('0') + 0x06f0).unwrap())
        .collect();
    let (left, right) = persian.split_at(persian.len() / 2);
    assert!(world.authenticate(&format!("\u{200e} {left}-{right} ")).await.is_ok());
}

#[tokio::test]
async fn a_pending_code_holds_up_the_next_for_its_remaining_time() {
    let world = World::new();
    world.send().await.unwrap();
    let code = world.code();
    for (advance, left) in [(0, 240), (100, 140), (139, 1)] {
        world.clock.advance(Duration::from_secs(advance));
        let pending = world.send().await;
        let Err(SendError::Pending { retry_after }) = pending else { panic!("{pending:?}") };
        assert_eq!(retry_after, Duration::from_secs(left));
    }
    assert_eq!(world.inbox_len(), 1);
    world.clock.advance(Duration::from_secs(1));
    assert_wrong_code(world.authenticate(&code).await);
    assert!(world.send().await.is_ok());
}

#[tokio::test]
async fn after_the_resend_gap_a_new_code_kills_the_old() {
    let rules = OtpRules { resend_after: Some(Duration::from_secs(60)), ..OtpRules::default() };
    let world = World::with(rules, IdentityRules::default());
    world.send().await.unwrap();
    let old = world.code();
    world.clock.advance(Duration::from_micros(59_999_999));
    assert!(matches!(world.send().await, Err(SendError::Pending { .. })));
    world.clock.advance(Duration::from_micros(1));
    world.send().await.unwrap();
    let new = world.code();
    if old != new {
        assert_wrong_code(world.authenticate(&old).await);
    }
    assert!(world.authenticate(&new).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_parallel_sends_one_message_goes_out() {
    let world = Arc::new(World::new());
    let sends: Vec<_> = (0..8)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.send().await.is_ok() })
        })
        .collect();
    let mut sent = 0;
    for send in sends {
        sent += usize::from(send.await.unwrap());
    }
    assert_eq!((sent, world.inbox_len()), (1, 1));
    assert!(world.authenticate(&world.code()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_parallel_verifies_one_is_a_login() {
    let world = Arc::new(World::new());
    world.send().await.unwrap();
    let code = world.code();
    let verifies: Vec<_> = (0..50)
        .map(|_| {
            let (world, code) = (Arc::clone(&world), code.clone());
            tokio::spawn(async move { world.authenticate(&code).await.ok() })
        })
        .collect();
    let mut logins = Vec::new();
    for verify in verifies {
        logins.extend(verify.await.unwrap());
    }
    assert_eq!(logins.len(), 1);
    let caller = world.identity.caller(&logins[0].access).await.unwrap();
    assert_eq!(world.identity.sessions(&caller).await.unwrap().len(), 1);
}

#[tokio::test]
async fn five_wrong_guesses_burn_the_code_and_cannot_be_told_from_the_sixth() {
    let world = World::new();
    world.send().await.unwrap();
    let code = world.code();
    for _ in 0..4 {
        assert_wrong_code(world.authenticate(&other_than(&code)).await);
    }
    assert_wrong_code(world.authenticate("not even digits").await);
    assert_wrong_code(world.authenticate(&code).await);
    // A burned code does not hold up the next one.
    world.send().await.unwrap();
    assert!(world.authenticate(&world.code()).await.is_ok());
}

#[tokio::test]
async fn a_code_of_one_number_is_wrong_for_another() {
    let world = World::new();
    world.send().await.unwrap();
    let code = world.code();
    let other = PhoneNumber::parse("09127654321").unwrap();
    let stranger =
        world.identity.authenticate(BY_CODE, &other, &code, Group::default(), ClientInfo::default()).await;
    assert_wrong_code(stranger);
    world.otp.send(BY_CODE, &other, HERE, &world.handset).await.unwrap();
    if world.code() != code {
        let crossed = world
            .identity
            .authenticate(BY_CODE, &other, &code, Group::default(), ClientInfo::default())
            .await;
        assert_wrong_code(crossed);
    }
    assert!(world.authenticate(&code).await.is_ok());
}

#[tokio::test]
async fn a_message_that_was_not_sent_leaves_no_code_behind() {
    let rejection = Rejection { code: "418".to_owned(), text: "credit".to_owned() };
    for error in [
        SmsError::InvalidRecipient(rejection.clone()),
        SmsError::InsufficientCredit(rejection),
        SmsError::Unavailable("down".to_owned()),
    ] {
        let world = World::new();
        *world.handset.fail_next.lock().unwrap() = Some(error.clone());
        let Err(SendError::Sms(told)) = world.send().await else { panic!("sent") };
        assert_eq!(told, error);
        assert_wrong_code(world.authenticate(&world.code()).await);
        assert!(world.send().await.is_ok(), "a retry is possible at once");
    }
}

#[tokio::test]
async fn a_message_that_may_have_been_sent_keeps_its_code_and_allows_another() {
    let unknown = SmsError::UnknownOutcome("cut off".to_owned());
    let world = World::new();
    *world.handset.fail_next.lock().unwrap() = Some(unknown.clone());
    assert!(matches!(world.send().await, Err(SendError::Sms(error)) if error == unknown));
    assert!(world.authenticate(&world.code()).await.is_ok());

    *world.handset.fail_next.lock().unwrap() = Some(unknown);
    assert!(world.send().await.is_err());
    assert!(world.send().await.is_ok(), "another may be asked for at once");
    let ids: Vec<_> = world.handset.inbox.lock().unwrap().iter().map(|message| message.local_id).collect();
    assert_eq!(BTreeSet::from_iter(&ids).len(), ids.len(), "each message has an id of its own");
}

#[tokio::test]
async fn a_revoked_session_opens_nothing_from_then_on() {
    let world = World::new();
    let login = world.log_in().await;
    let other = world.log_in().await;
    let caller = world.identity.caller(&login.access).await.unwrap();
    assert!(world.identity.logout(&caller, None).await.unwrap());
    assert_eq!(world.identity.caller(&login.access).await, Err(TokenError::SessionEnded));
    assert!(world.identity.caller(&other.access).await.is_ok());
    assert!(!world.identity.logout(&caller, None).await.unwrap());
}

#[tokio::test]
async fn expired_refresh_and_foreign_tokens_open_nothing() {
    let world = World::new();
    let login = world.log_in().await;
    assert_eq!(world.identity.caller(&login.refresh).await, Err(TokenError::WrongType));
    assert_eq!(world.identity.caller("rubbish").await, Err(TokenError::Invalid));
    // The same numbers, signed by another gateway.
    let elsewhere =
        Tokens::new(TokenRules::default(), &MasterKey::from_bytes([4; 32]).derive(KeyUse::JwtHs256)).unwrap();
    let subject = chelseru_domain::login::token::TokenSubject {
        user_id: login.user_id,
        session_id: login.session_id,
        binding: None,
    };
    let foreign = elsewhere.issue(chelseru_domain::login::token::TokenType::Access, subject, START).unwrap();
    assert_eq!(world.identity.caller(&foreign).await, Err(TokenError::Invalid));
    world.clock.advance(Duration::from_secs(299));
    assert!(world.identity.caller(&login.access).await.is_ok());
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.identity.caller(&login.access).await, Err(TokenError::Expired));
}

#[tokio::test]
async fn an_inactive_user_is_told_so_and_gets_nothing() {
    let world = World::new();
    let login = world.log_in().await;
    world.store.user_set_active(login.user_id, false).await.unwrap();
    assert_eq!(world.identity.caller(&login.access).await, Err(TokenError::UserInactive));
    world.send().await.unwrap();
    let refused = world.authenticate(&world.code()).await;
    assert!(matches!(refused, Err(AuthenticateError::UserInactive)), "{refused:?}");
    world.store.user_set_active(login.user_id, true).await.unwrap();
    assert_eq!(world.identity.caller(&login.access).await, Err(TokenError::SessionEnded));
}

#[tokio::test]
async fn a_token_for_a_user_that_is_not_there_names_that() {
    let world = World::new();
    let login = world.log_in().await;
    let tokens =
        Tokens::new(TokenRules::default(), &MasterKey::from_bytes([3; 32]).derive(KeyUse::JwtHs256)).unwrap();
    let subject = chelseru_domain::login::token::TokenSubject {
        user_id: chelseru_domain::ids::UserId(999),
        session_id: login.session_id,
        binding: None,
    };
    let token = tokens.issue(chelseru_domain::login::token::TokenType::Access, subject, START).unwrap();
    assert_eq!(world.identity.caller(&token).await, Err(TokenError::UserNotFound));
}

#[tokio::test]
async fn a_caller_sees_only_own_sessions_and_which_one_is_current() {
    let world = World::new();
    let first = world.log_in().await;
    world.clock.advance(Duration::from_secs(10));
    let second = world.log_in().await;
    let other = PhoneNumber::parse("09127654321").unwrap();
    world.otp.send(BY_CODE, &other, HERE, &world.handset).await.unwrap();
    let stranger = world
        .identity
        .authenticate(BY_CODE, &other, &world.code(), Group::default(), ClientInfo::default())
        .await
        .unwrap();

    let caller = world.identity.caller(&first.access).await.unwrap();
    let sessions = world.identity.sessions(&caller).await.unwrap();
    let seen: Vec<_> = sessions.iter().map(|session| (session.id, session.current)).collect();
    assert_eq!(seen, [(second.session_id, false), (first.session_id, true)]);
    let own = &sessions[1];
    assert_eq!((own.user, own.created_at), (first.user_id, START));
    assert_eq!((own.ip_address, &*own.user_agent), ("192.0.2.7".parse().ok(), "curl/8.4.0"));
    assert_eq!((own.agent.device.as_str(), own.agent.browser.as_str()), ("Other", "curl"));
    assert_eq!(own.session_key.get_version_num(), 4);
    assert_ne!(own.session_key, sessions[0].session_key);

    let caller = world.identity.caller(&stranger.access).await.unwrap();
    let sessions = world.identity.sessions(&caller).await.unwrap();
    assert_eq!(sessions.iter().map(|session| session.id).collect::<Vec<_>>(), [stranger.session_id]);
}

#[tokio::test]
async fn last_seen_is_shown_at_once_and_written_in_one_change() {
    if place::over_postgres() {
        // What a login stores afterwards is counted there at any later moment.
        return;
    }
    let world = World::new();
    let login = world.log_in().await;
    // The first login with a user agent stores that afterwards; what is asked for next is answered after it.
    world.store.probe_put(b"after", b"").await.unwrap();
    world.clock.advance(Duration::from_secs(100));
    let before = world.store.commit_stats();
    for _ in 0..50 {
        world.identity.caller(&login.access).await.unwrap();
    }
    let now = world.clock.now();
    let caller = world.identity.caller(&login.access).await.unwrap();
    assert_eq!(world.identity.sessions(&caller).await.unwrap()[0].last_seen, now);
    assert_eq!(
        world.store.session_get(login.user_id, login.session_id).await.unwrap().unwrap().last_seen_at,
        START
    );
    assert_eq!(world.store.commit_stats(), before, "requests write nothing");

    assert_eq!(world.identity.flush_last_seen().await.unwrap(), 1);
    assert_eq!(
        world.store.session_get(login.user_id, login.session_id).await.unwrap().unwrap().last_seen_at,
        now
    );
    assert_eq!(world.store.commit_stats().batches, before.batches + 1);
    assert_eq!(world.identity.flush_last_seen().await.unwrap(), 0);
}

#[tokio::test]
async fn one_session_more_than_allowed_ends_the_oldest() {
    let rules = IdentityRules { sessions_per_user_max: 2, ..IdentityRules::default() };
    let world = World::with(OtpRules::default(), rules);
    let logins = [world.log_in().await, world.log_in().await];
    for login in &logins {
        assert!(world.identity.caller(&login.access).await.is_ok());
    }
    let third = world.log_in().await;
    assert_eq!(world.identity.caller(&logins[0].access).await, Err(TokenError::SessionEnded));
    assert!(world.identity.caller(&logins[1].access).await.is_ok());
    let caller = world.identity.caller(&third.access).await.unwrap();
    assert_eq!(world.identity.sessions(&caller).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_session_ends_with_its_refresh_token_and_is_purged() {
    let world = World::new();
    let login = world.log_in().await;
    let caller = world.identity.caller(&login.access).await.unwrap();
    world.clock.advance(Duration::from_secs(86_399));
    assert_eq!(world.identity.sessions(&caller).await.unwrap().len(), 1);
    assert_eq!(world.identity.purge(1).await.unwrap(), 0);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.identity.sessions(&caller).await.unwrap().len(), 0);
    assert_eq!(world.identity.purge(1).await.unwrap(), 1);
    assert_eq!(world.store.session_get(login.user_id, login.session_id).await.unwrap(), None);
}

#[tokio::test]
async fn sends_logins_and_upkeep_can_be_spawned() {
    let world = Arc::new(World::new());
    let run = Arc::clone(&world);
    let code_and_upkeep = tokio::spawn(async move {
        let login = run.log_in().await;
        run.identity.caller(&login.access).await.unwrap();
        (run.identity.purge(1).await.unwrap(), run.identity.flush_last_seen().await.unwrap())
    });
    assert_eq!(code_and_upkeep.await.unwrap(), (0, 1));
}

#[tokio::test]
async fn a_group_is_another_account_and_only_configured_ones_take_new_users() {
    let rules = |groups| IdentityRules { groups, ..IdentityRules::default() };
    let five = Group::parse("5").unwrap();
    let world = World::with(OtpRules::default(), rules(GroupPolicy::Only(BTreeSet::from([five]))));
    let log_in = |code: String, group| {
        let identity = &world.identity;
        async move { identity.authenticate(BY_CODE, &number(), &code, group, ClientInfo::default()).await }
    };
    world.send().await.unwrap();
    let wrong = log_in(other_than(&world.code()), Group::default()).await;
    assert_wrong_code(wrong);
    let closed = log_in(world.code(), Group::default()).await;
    assert!(matches!(closed, Err(AuthenticateError::GroupClosed)), "{closed:?}");
    let login = log_in(world.code(), five).await.unwrap();
    assert_eq!(world.store.user_get(login.user_id).await.unwrap().unwrap().username, "G5-09121234567");
}

#[tokio::test]
async fn what_a_client_says_about_itself_is_cut_and_canonical() {
    let world = World::new();
    world.send().await.unwrap();
    let client = ClientInfo {
        ip: "::ffff:192.0.2.1".parse().ok(),
        user_agent: "é".repeat(300),
        device_name: Some("é".repeat(70)),
    };
    let login = world
        .identity
        .authenticate(BY_CODE, &number(), &world.code(), Group::default(), client)
        .await
        .unwrap();
    let session = world.store.session_get(login.user_id, login.session_id).await.unwrap().unwrap();
    assert_eq!(*session.user_agent, *"é".repeat(256));
    assert_eq!(session.device_name, Some("é".repeat(64)));
    assert_eq!(session.ip_address, "192.0.2.1".parse().ok());
}

#[tokio::test]
async fn another_parser_of_user_agents_can_be_used() {
    struct Fixed;
    impl UserAgentParser for Fixed {
        fn parse(&self, user_agent: &str) -> Agent {
            Agent { device: "d".to_owned(), browser: user_agent.to_uppercase(), platform: "p".to_owned() }
        }
    }
    let mut world = World::new();
    world.identity = world.identity.with_user_agent_parser(Box::new(|| Box::new(Fixed)));
    let login = world.log_in().await;
    let caller = world.identity.caller(&login.access).await.unwrap();
    let session = world.identity.sessions(&caller).await.unwrap().remove(0);
    assert_eq!((session.agent.device.as_str(), session.agent.browser.as_str()), ("d", "CURL/8.4.0"));
}

#[tokio::test]
async fn a_closed_store_is_an_error_and_not_a_refusal() {
    let world = World::new();
    let login = world.log_in().await;
    world.store.close();
    assert!(matches!(world.send().await, Err(SendError::Store(_))));
    assert!(matches!(world.authenticate("123456").await, Err(AuthenticateError::Store(_))));
    assert!(world.identity.caller(&login.access).await.is_ok(), "reads go on");
    assert_eq!(world.inbox_len(), 1, "no message without a challenge");
}

#[tokio::test]
async fn session_bounds_out_of_range_are_refused() {
    let world = World::new();
    for (sessions_per_user_max, accepted) in [(0, false), (1, true), (1000, true), (1001, false)] {
        let rules = IdentityRules { sessions_per_user_max, ..IdentityRules::default() };
        let key = MasterKey::from_bytes([3; 32]).derive(KeyUse::JwtHs256);
        let tokens = Tokens::new(TokenRules::default(), &key).unwrap();
        let built =
            Identity::new(world.store.clone(), Arc::new(SystemClock), Arc::clone(&world.otp), tokens, rules);
        assert_eq!(built.is_ok(), accepted, "{sessions_per_user_max}");
    }
}

/// Both sides: a stranger uses up the stranger's guesses, and the owner types the code.
#[tokio::test]
async fn a_stranger_who_guesses_burns_the_strangers_chance_only() {
    let world = World::new();
    world.send().await.unwrap();
    world.strangers_guess(1).await;
    assert_wrong_code(world.authenticate_from([198, 51, 0, 1].into(), &world.code()).await);
    assert!(matches!(world.send().await, Err(SendError::Pending { .. })), "it replaces no code either");
    // The owner, in another network by now.
    world.authenticate_from([203, 0, 113, 9].into(), &world.code()).await.unwrap();
}

#[tokio::test]
async fn all_addresses_together_cannot_guess_and_the_owner_still_logs_in() {
    let world = World::new();
    // The account was used from here before.
    let known = [203, 0, 113, 9].into();
    world.send().await.unwrap();
    world.authenticate_from(known, &world.code()).await.unwrap();

    world.send().await.unwrap();
    world.strangers_guess(40).await;
    let fresh = [203, 0, 200, 1].into();
    assert_wrong_code(world.authenticate_from(fresh, &world.code()).await);
    world.authenticate(&world.code()).await.expect("who asked for the code has guesses of their own");

    // A stranger asks for the code and guesses; the owner types it where the account was used before.
    world.clock.advance(Duration::from_secs(3600));
    let stranger = [198, 51, 100, 1].into();
    world.otp.send(BY_CODE, &number(), stranger, &world.handset).await.unwrap();
    world.strangers_guess(40).await;
    world.authenticate_from(known, &world.code()).await.expect("a known address has guesses of its own");
}

#[tokio::test]
async fn others_have_twenty_guesses_at_a_code_of_six_digits_and_five_at_one_of_four() {
    for (length, expected) in [(4, 5), (5, 10), (6, 20), (10, 20)] {
        let rules = OtpRules { length, ..OtpRules::default() };
        assert_eq!(rules.others_max(), expected);
        let world = World::with(rules, IdentityRules::default());
        world.send().await.unwrap();
        let (code, wrong) = (world.code(), other_than(&world.code()));
        // One less than all, from different addresses: the next one is still looked at.
        for guess in 0..expected - 1 {
            let from = [198, 51, u8::try_from(guess).unwrap(), 1].into();
            assert_wrong_code(world.authenticate_from(from, &wrong).await);
        }
        world.authenticate_from([203, 0, 113, 1].into(), &code).await.expect("the last guess");

        world.send().await.unwrap();
        let (code, wrong) = (world.code(), other_than(&world.code()));
        for guess in 0..expected {
            let from = [198, 51, u8::try_from(guess).unwrap(), 1].into();
            assert_wrong_code(world.authenticate_from(from, &wrong).await);
        }
        assert_wrong_code(world.authenticate_from([203, 0, 200, 1].into(), &code).await);
    }
}

#[tokio::test]
async fn wrong_tokens_of_an_address_hold_up_no_right_one() {
    let world = World::new();
    let hour = Duration::from_secs(60 * 60);
    let mut tokens = Vec::new();
    for name in ["alice", "bob"] {
        let (password, reason) = (Password::new("kavir darya 7"), Reason::of_command());
        let user = world.identity.register(BY_PASSWORD, name, &password, "", None).await.unwrap();
        let permit = Operator::of_this_machine().permit().unwrap();
        let made = world.identity.reset_token_make(&permit, user.id, 24 * hour, &reason);
        tokens.push(made.await.expect("made").token);
    }
    let reset = async |token: &str| {
        let new = Password::new("another horse");
        world.identity.password_reset_by_token(BY_PASSWORD, token, &new, Some(HERE)).await
    };
    let unknown = tokens[0].replacen('1', "999", 1);
    let wrong = format!("{}x", tokens[0]);
    for number in 0..20 {
        // Of an account that has a token, of one that does not exist, and of no form at all.
        let token = [&*wrong, &*unknown, "x"][number % 3];
        assert!(matches!(reset(token).await, Err(PasswordError::Wrong)), "{number}");
    }
    reset(&tokens[0]).await.expect("a right one");
    for token in [&*wrong, &*unknown, "x", &*tokens[0]] {
        assert!(
            matches!(reset(token).await, Err(PasswordError::Waiting { retry_after }) if retry_after <= hour)
        );
    }
    reset(&tokens[1]).await.expect("a right one, past the bound");
    world.clock.advance(hour);
    assert!(matches!(reset(&wrong).await, Err(PasswordError::Wrong)), "counted anew");
}
