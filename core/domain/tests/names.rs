//! Login by name: who waits for whose guesses, which names are one, and how many accounts an address may register.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::clock::ManualClock;
use chelseru_domain::login::account::UsernameFault;
use chelseru_domain::login::identity::{
    ClientInfo, Identity, IdentityRules, LoggedIn, PasswordError, PasswordRules, RegisterError,
};
use chelseru_domain::login::method::{ByPassword, LoginMethods};
use chelseru_domain::login::otp::{OtpRules, OtpService};
use chelseru_domain::login::password::Password;
use chelseru_domain::login::token::{TokenRules, Tokens};
use chelseru_domain::secret::{KeyUse, MasterKey};
use chelseru_domain::{Clock, Timestamp};
use chelseru_store::{Store, StoreOptions, UserDraft, UserMade};

const BY_PASSWORD: ByPassword = match LoginMethods::Both.by_password() {
    Ok(by) => by,
    Err(_) => panic!("both"),
};

const START: Timestamp = Timestamp::from_secs(1_800_000_000);
const PASSWORD: &str = "kavir darya 7";
const HOME: [u8; 4] = [192, 0, 2, 7];
const AWAY: [u8; 4] = [203, 0, 113, 9];

struct World {
    identity: Identity,
    store: Store,
    clock: Arc<ManualClock>,
    _folder: tempfile::TempDir,
}

impl World {
    fn with(passwords: PasswordRules) -> World {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        let clock = Arc::new(ManualClock::at(START));
        let master = MasterKey::from_bytes([3; 32]);
        let pepper = master.derive(KeyUse::OtpPepper);
        let otp = OtpService::new(store.clone(), clock.clone(), OtpRules::default(), pepper).unwrap();
        let tokens = Tokens::new(TokenRules::default(), &master.derive(KeyUse::JwtHs256)).unwrap();
        let rules = IdentityRules { passwords, ..IdentityRules::default() };
        let identity = Identity::new(store.clone(), clock.clone(), Arc::new(otp), tokens, rules).unwrap();
        World { identity, store, clock, _folder: folder }
    }

    async fn register(&self, name: &str, from: [u8; 4]) -> Result<(), RegisterError> {
        let ip = Some(IpAddr::from(from));
        self.identity.register(BY_PASSWORD, name, &Password::new(PASSWORD), "", ip).await.map(drop)
    }

    async fn login(&self, name: &str, password: &str, from: [u8; 4]) -> Result<LoggedIn, PasswordError> {
        let client = ClientInfo { ip: Some(from.into()), user_agent: String::new(), device_name: None };
        self.identity.login(BY_PASSWORD, name, &Password::new(password), client).await
    }

    /// Guesses wrongly until the gateway makes this address wait; returns the guesses that were compared.
    async fn guess(&self, name: &str, from: [u8; 4]) -> u32 {
        let mut compared = 0;
        while let Err(PasswordError::Wrong) = self.login(name, "a wrong one", from).await {
            compared += 1;
        }
        compared
    }

    async fn old_account(&self, name: &str, number: u32) -> chelseru_store::UserId {
        // An older version stored no look; a look that nobody asks for comes closest to none.
        let draft = UserDraft {
            username: name.to_owned(),
            look: format!("older {number}"),
            email: String::new(),
            password_hash: "none".to_owned(),
            staff: false,
            superuser: false,
            now: self.clock.now(),
        };
        match self.store.user_register(draft).await.unwrap() {
            UserMade::Made(user) => user.id,
            UserMade::NameTaken => panic!("{name} is taken"),
        }
    }
}

fn tight() -> PasswordRules {
    PasswordRules {
        attempts_max: 3,
        total_max: 10,
        lockout_first: Duration::from_secs(30),
        lockout_max: Duration::from_secs(900),
        ..PasswordRules::default()
    }
}

#[tokio::test]
async fn a_strangers_guesses_make_the_stranger_wait() {
    let world = World::with(tight());
    world.register("alice", HOME).await.unwrap();
    assert_eq!(world.guess("alice", AWAY).await, 3);
    // The owner is not held up, at any other address, and does not open the stranger's wait.
    world.login("alice", PASSWORD, HOME).await.unwrap();
    world.login("alice", PASSWORD, [198, 51, 100, 1]).await.unwrap();
    assert!(matches!(
        world.login("alice", PASSWORD, AWAY).await,
        Err(PasswordError::Waiting { retry_after }) if retry_after == Duration::from_secs(30)
    ));
}

#[tokio::test]
async fn all_addresses_together_guess_slowly_and_the_owner_at_home_does_not_wait() {
    let world = World::with(tight());
    world.register("alice", HOME).await.unwrap();
    world.login("alice", PASSWORD, HOME).await.unwrap();
    let mut compared = 0;
    for address in 0..10 {
        compared += world.guess("alice", [198, 51, address, 1]).await;
    }
    assert_eq!(compared, 10, "just at the total; the owner's login was given back");
    let waiting = world.login("alice", PASSWORD, [203, 0, 113, 77]).await;
    assert!(
        matches!(waiting, Err(PasswordError::Waiting { retry_after }) if retry_after == Duration::from_secs(30)),
        "{waiting:?}"
    );
    world.login("alice", PASSWORD, HOME).await.unwrap();
    // An hour of guesses from ever new addresses: one in half a minute.
    let mut slow = 0;
    for step in 0..360_u16 {
        world.clock.advance(Duration::from_secs(10));
        let [high, low] = step.to_be_bytes();
        slow += world.guess("alice", [100, 64 + high, low, 1]).await;
    }
    assert!((119..=121).contains(&slow), "{slow}");
    // Elsewhere the owner's turn comes with anybody's.
    world.clock.advance(Duration::from_secs(30));
    world.login("alice", PASSWORD, [203, 0, 113, 77]).await.unwrap();
}

#[tokio::test]
async fn names_that_look_alike_are_one_name() {
    let world = World::with(tight());
    world.register("علیرضا", HOME).await.unwrap();
    world.register("Sara", HOME).await.unwrap();
    for (name, from) in [("عليرضا", HOME), ("علـیرضا", AWAY), ("sARA", HOME), ("Ｓara", AWAY)] {
        world.login(name, PASSWORD, from).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let again = world.register(name, HOME).await;
        assert!(matches!(again, Err(RegisterError::Username(UsernameFault::Taken))), "{name}: {again:?}");
    }
    // Another spelling is not another chance.
    for name in ["علیرضا", "عليرضا", "علـیرضا"] {
        assert!(matches!(world.login(name, "a wrong one", AWAY).await, Err(PasswordError::Wrong)));
    }
    let waiting = world.login("عَلیرضا", PASSWORD, AWAY).await;
    assert!(matches!(waiting, Err(PasswordError::Waiting { .. })), "{waiting:?}");
}

#[tokio::test]
async fn names_of_older_versions_are_found_by_their_look_and_stay_usable() {
    let world = World::with(tight());
    let mut accounts = Vec::new();
    for (number, name) in (0..).zip(["Ali", "ali", "Reza", "عليرضا"]) {
        accounts.push(world.old_account(name, number).await);
    }
    let found = async |name: &str| {
        let user = world.identity.user_find(name).await.unwrap();
        user.map(|user| user.id)
    };
    assert_eq!(found("reza").await, None);
    for _ in 0..2 {
        world.identity.looks_enter().await.unwrap();
        assert_eq!(found("reza").await, Some(accounts[2]));
        assert_eq!(found("علیرضا").await, Some(accounts[3]));
        assert_eq!((found("Ali").await, found("ali").await), (Some(accounts[0]), Some(accounts[1])));
        assert_eq!(found("ALI").await, Some(accounts[0]), "the oldest account has the look");
    }
    // Accounts that an older version made after the first start.
    let later = world.old_account("Mina", 9).await;
    world.identity.looks_enter().await.unwrap();
    assert_eq!(found("mina").await, Some(later));
}

#[tokio::test]
async fn names_with_letters_that_show_nothing_are_refused_and_older_ones_stay() {
    let world = World::with(PasswordRules::default());
    let older = world.old_account("victim_x7\u{3164}", 0).await;
    world.register("victim_x7", HOME).await.unwrap();
    for (name, fault) in [
        ("victim_x7\u{3164}", UsernameFault::Invalid),
        ("victim\u{1160}_x7", UsernameFault::Invalid),
        ("victim_x7\u{345}", UsernameFault::Taken),
        ("VICTIM_x7\u{5b0}", UsernameFault::Taken),
    ] {
        let again = world.register(name, AWAY).await;
        assert!(
            matches!(again, Err(RegisterError::Username(found)) if found == fault),
            "{name:?}: {again:?}"
        );
    }
    let found = async |name: &str| world.identity.user_find(name).await.unwrap().map(|user| user.id);
    world.identity.looks_enter().await.unwrap();
    assert_eq!(found("victim_x7\u{3164}").await, Some(older), "as it is written");
    let victim = found("victim_x7").await;
    assert!(victim.is_some() && victim != Some(older));
    assert_eq!(found("Victim_x7\u{3164}").await, victim);
}

#[tokio::test]
async fn one_address_registers_so_many_accounts_in_an_hour() {
    let world = World::with(PasswordRules { registrations_per_hour_max: 3, ..PasswordRules::default() });
    for name in ["a-1", "a-2"] {
        world.register(name, HOME).await.unwrap();
    }
    // What was refused does not count.
    assert!(world.register("a-1", HOME).await.is_err());
    world.register("a-3", HOME).await.unwrap();
    let refused = world.register("a-4", HOME).await;
    assert!(
        matches!(refused, Err(RegisterError::Waiting(exhausted)) if exhausted.retry_after <= Duration::from_secs(3600)),
        "{refused:?}"
    );
    world.register("b-1", AWAY).await.unwrap();
    // A proxy that nobody declared: all of its clients have its address.
    for name in ["c-1", "c-2", "c-3", "c-4"] {
        world.register(name, [127, 0, 0, 1]).await.unwrap();
    }
    world.clock.advance(Duration::from_secs(3600));
    world.register("a-4", HOME).await.unwrap();
}
