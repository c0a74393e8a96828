//! Known and unknown accounts: the same answers after the same work, counted and not timed.
//!
//! A clock on a busy machine shows little; what costs time is hashes and durable changes, and those are counted
//! here for every way to ask about an account.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use chelseru_domain::PhoneNumber;
use chelseru_domain::clock::ManualClock;
use chelseru_domain::login::group::Group;
use chelseru_domain::login::identity::{ClientInfo, Identity, IdentityRules, PasswordRules};
use chelseru_domain::login::method::{ByCode, ByPassword, LoginMethods};
use chelseru_domain::login::otp::{OtpRules, OtpService};
use chelseru_domain::login::password::Password;
use chelseru_domain::login::token::{TokenRules, Tokens};
use chelseru_domain::operator::audit::Audit;
use chelseru_domain::secret::{KeyUse, MasterKey};
use chelseru_domain::sms::{Rejection, SmsError, SmsMessage, SmsPort, SmsReceipt};
use chelseru_store::{Store, StoreOptions, Timestamp};

const BY_CODE: ByCode = match LoginMethods::Both.by_code() {
    Ok(by) => by,
    Err(_) => panic!("both"),
};
const BY_PASSWORD: ByPassword = match LoginMethods::Both.by_password() {
    Ok(by) => by,
    Err(_) => panic!("both"),
};

const CODE: &str = "424242";

/// Where all codes are asked for.
const HERE: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Takes every message, or refuses every one.
#[derive(Default)]
struct Handset {
    refuses: AtomicBool,
}

#[async_trait]
impl SmsPort for Handset {
    async fn send(&self, _message: SmsMessage) -> Result<SmsReceipt, SmsError> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(SmsError::Rejected(Rejection { code: "1".to_owned(), text: String::new() }));
        }
        Ok(SmsReceipt {
            provider: "TEST".to_owned(),
            message_id: Some("1".to_owned()),
            duplicate: false,
            cost_rial: None,
        })
    }
}

struct World {
    otp: Arc<OtpService>,
    identity: Identity,
    store: Store,
    handset: Handset,
    _folder: tempfile::TempDir,
}

/// Hashes, changes, and batches that were flushed: a change that wrote nothing needs none. The audit log's included.
type Work = (u64, u64, u64);

impl World {
    /// Two numbers that can log in; the first one gets an account, with a password when it is wished for.
    async fn new(password: bool) -> World {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let master = MasterKey::from_bytes([3; 32]);
        // The code is known without reading a message, so that a number without an account can be guessed right.
        let test_numbers = [known(), unknown()].map(|number| (number.e164().to_owned(), CODE.to_owned()));
        let rules = OtpRules { attempts_max: 3, test_numbers: test_numbers.into(), ..OtpRules::default() };
        let pepper = master.derive(KeyUse::OtpPepper);
        let otp = Arc::new(OtpService::new(store.clone(), clock.clone(), rules, pepper).unwrap());
        let tokens = Tokens::new(TokenRules::default(), &master.derive(KeyUse::JwtHs256)).unwrap();
        let passwords = PasswordRules { attempts_max: 2, ..PasswordRules::default() };
        let rules = IdentityRules { passwords, ..IdentityRules::default() };
        let identity = Identity::new(store.clone(), clock.clone(), otp.clone(), tokens, rules).unwrap();
        let identity = identity.with_audit(Audit::start(store.clone(), clock, 1000));
        let world = World { otp, identity, store, handset: Handset::default(), _folder: folder };
        world.otp.send(BY_CODE, &known(), HERE, &world.handset).await.unwrap();
        let group = Group::default();
        world.identity.authenticate(BY_CODE, &known(), CODE, group, ClientInfo::default()).await.unwrap();
        if password {
            world.otp.send_reset(BY_PASSWORD, &known(), group, HERE, &world.handset).await.unwrap();
            let new = Password::new("kavir darya 7");
            world.identity.password_reset(BY_PASSWORD, &known(), CODE, group, &new, None).await.unwrap();
        }
        world
    }

    /// What an answer says and what it took.
    async fn took(&self, answer: impl Future<Output = String>) -> (String, Work) {
        self.identity.audit().flush().await;
        let count = || {
            let stats = self.store.commit_stats();
            (self.identity.hashes().done(), stats.changes, stats.batches)
        };
        let before = count();
        let answer = answer.await;
        self.identity.audit().flush().await;
        let after = count();
        (answer, (after.0 - before.0, after.1 - before.1, after.2 - before.2))
    }

    async fn send(&self, number: &PhoneNumber) -> (String, Work) {
        self.took(async { format!("{:?}", self.otp.send(BY_CODE, number, HERE, &self.handset).await) }).await
    }

    async fn authenticate(&self, number: &PhoneNumber, code: &str) -> (String, Work) {
        let client = ClientInfo::default();
        self.took(async {
            format!("{:?}", self.identity.authenticate(BY_CODE, number, code, Group::default(), client).await)
        })
        .await
    }

    async fn login(&self, name: &str) -> (String, Work) {
        let password = Password::new("not it at all");
        let client = ClientInfo::default();
        self.took(async { format!("{:?}", self.identity.login(BY_PASSWORD, name, &password, client).await) })
            .await
    }

    async fn reset_send(&self, number: &PhoneNumber) {
        // Callers have answered before this ends, whatever it says.
        let _ = self.otp.send_reset(BY_PASSWORD, number, Group::default(), HERE, &self.handset).await;
    }

    async fn reset(&self, number: &PhoneNumber) -> (String, Work) {
        let new = Password::new("kavir darya 7");
        self.took(async {
            format!(
                "{:?}",
                self.identity
                    .password_reset(BY_PASSWORD, number, "000000", Group::default(), &new, None)
                    .await
            )
        })
        .await
    }

    async fn register(&self, number: &PhoneNumber) -> (String, Work) {
        let (name, password) = (format!("G0-{}", number.local()), Password::new("kavir darya 7"));
        self.took(async {
            format!("{:?}", self.identity.register(BY_PASSWORD, &name, &password, "", None).await)
        })
        .await
    }
}

fn known() -> PhoneNumber {
    PhoneNumber::parse("09121234567").unwrap()
}

fn unknown() -> PhoneNumber {
    PhoneNumber::parse("09121234568").unwrap()
}

#[tokio::test]
async fn codes_are_sent_and_refused_alike() {
    let world = World::new(false).await;
    let sent = world.send(&known()).await;
    assert_eq!(sent, world.send(&unknown()).await);
    assert_eq!(sent.1, (0, 1, 1), "a challenge is one change");
    assert_eq!(world.send(&known()).await, world.send(&unknown()).await, "a code is pending");
    // Three guesses burn the code, one more finds it burned.
    for _ in 0..4 {
        let wrong = world.authenticate(&known(), "000000").await;
        assert_eq!(wrong, world.authenticate(&unknown(), "000000").await);
        assert!(wrong.0.contains("WrongCode"), "{wrong:?}");
    }
}

#[tokio::test]
async fn passwords_are_refused_alike_with_and_without_an_account() {
    for has_password in [true, false] {
        let world = World::new(has_password).await;
        for (guess, text) in ["Wrong", "Wrong", "Waiting"].into_iter().enumerate() {
            let name = format!("G0-{}", known().local());
            let wrong = world.login(&name).await;
            assert_eq!(wrong, world.login("nobody.at.all").await, "guess {guess}");
            assert!(wrong.0.contains(text), "{wrong:?}");
            assert_eq!(wrong.1.0, u64::from(text == "Wrong"), "a hash for each guess that is looked at");
        }
    }
}

#[tokio::test]
async fn resets_are_refused_alike_also_when_the_provider_refused() {
    for refuses in [false, true] {
        let world = World::new(true).await;
        world.handset.refuses.store(refuses, Ordering::SeqCst);
        // Numbers without fixed codes, so that the provider is asked for the one that has an account.
        let rules = OtpRules { attempts_max: 3, ..OtpRules::default() };
        let otp = Arc::new(world.otp.with_rules(rules).unwrap());
        let world = World { otp, ..world };
        assert_eq!(world.reset(&known()).await, world.reset(&unknown()).await, "no code is pending");
        world.reset_send(&known()).await;
        world.reset_send(&unknown()).await;
        for guess in 0..4 {
            let wrong = world.reset(&known()).await;
            assert_eq!(wrong, world.reset(&unknown()).await, "guess {guess}, refuses: {refuses}");
            assert_eq!(wrong.1.0, 1);
        }
    }
}

#[tokio::test]
async fn names_of_numbers_are_refused_alike_before_any_work() {
    let world = World::new(true).await;
    let taken = world.register(&known()).await;
    assert_eq!(taken, world.register(&unknown()).await);
    assert_eq!(taken.1, (0, 0, 0));
}
