//! Both sides of every cap: the stranger who uses it up, and the owner who still gets a code.

use std::sync::Arc;

use futures_util::FutureExt;

use super::*;

/// No cap but those a test sets.
fn open() -> ShieldRules {
    ShieldRules {
        number_gap: Duration::ZERO,
        number_per_hour_max: 1000,
        number_per_day_max: 1000,
        address_per_hour_max: 1000,
        network_per_hour_max: 1000,
        prefix_per_hour_max: 1000,
        total_per_hour_max: 1000,
        ratio_codes_min: 1000,
        ratio_percent_min: 0,
        slow_gap: Duration::from_secs(60),
    }
}

struct World {
    shield: Shield,
    rules: ShieldRules,
}

/// What is known of a number, as a test says it.
#[derive(Clone, Copy)]
struct Says {
    account: bool,
    here: bool,
}

impl Acquaintance for Says {
    async fn has_account(&self) -> bool {
        self.account
    }

    async fn was_here(&self) -> bool {
        self.here
    }
}

const NEW: Says = Says { account: false, here: false };
const ACCOUNT: Says = Says { account: true, here: false };
const HERE: Says = Says { account: true, here: true };

fn world(rules: ShieldRules) -> World {
    World { shield: Shield::default(), rules }
}

impl World {
    /// `None` when a code may be sent.
    fn ask(&self, number: &str, address: &str, at: u64) -> Option<(Cap, u64)> {
        self.ask_as(NEW, number, address, at)
    }

    fn ask_as(&self, says: Says, number: &str, address: &str, at: u64) -> Option<(Cap, u64)> {
        let (cap, retry_after) = match self.admit(says, number, address, at) {
            Ok(Admission::Open | Admission::AccountsOnly { account: true, .. }) => return None,
            Ok(Admission::AccountsOnly { cap, retry_after, .. }) => (cap, retry_after),
            Err(Refusal { cap, retry_after }) => (cap, retry_after),
        };
        Some((cap, retry_after.as_secs()))
    }

    fn admit(&self, says: Says, number: &str, address: &str, at: u64) -> Result<Admission, Refusal> {
        let number = PhoneNumber::parse(number).unwrap();
        let at = Timestamp::from_secs(36_000_000 + at);
        let address = address.parse().unwrap();
        let admitted = self.shield.admit(&self.rules, &number, address, &says, at).now_or_never();
        admitted.expect("nothing to wait for")
    }

    /// What a caller may see of an admission.
    fn seen(&self, says: Says, number: &str, address: &str, at: u64) -> Result<Option<(Cap, u64)>, Refusal> {
        self.admit(says, number, address, at).map(|admission| match admission {
            Admission::Open => None,
            Admission::AccountsOnly { cap, retry_after, .. } => Some((cap, retry_after.as_secs())),
        })
    }
}

const A: &str = "09121230001";

#[test]
fn a_number_keeps_its_gap_until_somebody_logs_in() {
    let world = world(ShieldRules { number_gap: Duration::from_secs(60), ..open() });
    assert_eq!(world.ask(A, "192.0.2.1", 0), None);
    assert_eq!(world.ask(A, "192.0.2.1", 59), Some((Cap::NumberGap, 1)));
    assert_eq!(world.ask("09121230002", "192.0.2.1", 59), None);
    assert_eq!(world.ask(A, "192.0.2.1", 60), None);
    world.shield.verified(&PhoneNumber::parse(A).unwrap(), Timestamp::from_secs(36_000_061));
    assert_eq!(world.ask(A, "192.0.2.1", 61), None);
    assert_eq!(world.ask(A, "192.0.2.1", 62), Some((Cap::NumberGap, 59)));
}

#[test]
fn a_number_stops_at_its_hour_and_at_its_day() {
    let world = world(ShieldRules { number_per_hour_max: 2, number_per_day_max: 3, ..open() });
    assert_eq!(world.ask(A, "192.0.2.1", 0), None);
    assert_eq!(world.ask(A, "192.0.2.2", 10), None);
    assert_eq!(world.ask(A, "192.0.2.3", 3599), Some((Cap::NumberHour, 1)));
    assert_eq!(world.ask(A, "192.0.2.3", 3600), None);
    assert_eq!(world.ask(A, "192.0.2.3", 20_000), Some((Cap::NumberDay, DAY - 20_000)));
    assert_eq!(world.ask(A, "192.0.2.3", DAY), None);
}

#[test]
fn addresses_and_networks_stop_and_are_free_after_an_hour() {
    let world = world(ShieldRules { address_per_hour_max: 2, network_per_hour_max: 3, ..open() });
    let number = |n: u32| format!("09{:09}", 120_000_000 + n);
    assert_eq!(world.ask(&number(1), "192.0.2.1", 0), None);
    assert_eq!(world.ask(&number(2), "192.0.2.1", 0), None);
    assert_eq!(world.ask(&number(3), "192.0.2.1", 0).unwrap().0, Cap::Address);
    assert_eq!(world.ask(&number(3), "::ffff:192.0.2.1", 0).unwrap().0, Cap::Address, "the same address");
    assert_eq!(world.ask(&number(3), "192.0.2.200", 0), None);
    assert_eq!(world.ask(&number(4), "192.0.2.7", 0).unwrap().0, Cap::Network);
    assert_eq!(world.ask(&number(4), "192.0.3.7", 0), None);
    let (_, wait) = world.ask(&number(5), "192.0.2.1", 0).unwrap();
    assert!((1..=HOUR).contains(&wait), "{wait}");
    assert_eq!(world.ask(&number(5), "192.0.2.1", wait), None);
    for n in 0..3 {
        assert_eq!(world.ask(&number(10 + n), &format!("2001:db8::{n}"), 0), None);
    }
    assert_eq!(world.ask(&number(20), "2001:db8::ff:1", 0).unwrap().0, Cap::Network);
    assert_eq!(world.ask(&number(20), "2001:db8:0:1::1", 0), None);
}

#[test]
fn a_prefix_and_the_total_stop() {
    let world = world(ShieldRules { prefix_per_hour_max: 2, total_per_hour_max: 3, ..open() });
    assert_eq!(world.ask("09121230001", "192.0.2.1", 0), None);
    assert_eq!(world.ask("09121230002", "192.0.2.2", 0), None);
    assert_eq!(world.ask("09121230003", "192.0.2.3", 0).unwrap().0, Cap::Prefix);
    assert_eq!(world.ask("09121240003", "192.0.2.3", 0), None, "a refused one was not counted");
    assert_eq!(world.ask("09131240003", "198.51.100.1", 0).unwrap().0, Cap::Total);
    assert_eq!(world.ask("09131240003", "198.51.100.1", HOUR), None);
}

/// A stranger uses up what one address has; everybody else goes on.
#[test]
fn one_address_has_a_share_of_the_total_and_of_a_prefix() {
    let world = world(ShieldRules { prefix_per_hour_max: 20, total_per_hour_max: 200, ..open() });
    for n in 0..2 {
        assert_eq!(world.ask(&format!("0912123000{n}"), "192.0.2.1", 0), None, "10 % of the prefix");
    }
    assert_eq!(world.ask("09121230009", "192.0.2.1", 0).unwrap().0, Cap::Address);
    assert_eq!(world.ask("09121230009", "198.51.100.1", 0), None, "the owner, elsewhere");
    for n in 3..5 {
        assert_eq!(world.ask(&format!("091{n}1230001"), "192.0.2.1", 0), None);
    }
    assert_eq!(world.ask("09161230001", "192.0.2.1", 0).unwrap().0, Cap::Address, "2 % of the total");
    assert_eq!(world.ask("09161230001", "198.51.100.1", 0), None);
}

#[test]
fn a_quarter_of_the_total_and_of_a_prefix_is_kept_for_accounts() {
    let world = world(ShieldRules { prefix_per_hour_max: 4, total_per_hour_max: 8, ..open() });
    let from = |n: u32| format!("192.0.{n}.1");
    for n in 0..3 {
        assert_eq!(world.ask(&format!("0912123000{n}"), &from(n), 0), None);
    }
    assert_eq!(world.ask("09121230009", &from(9), 0).unwrap().0, Cap::Prefix, "a new number");
    assert_eq!(world.ask_as(ACCOUNT, "09121230008", &from(8), 0), None, "the owner of an account");
    assert_eq!(world.ask_as(ACCOUNT, "09121230007", &from(7), 0).unwrap().0, Cap::Prefix, "the whole cap");
    for n in 3..6 {
        assert_eq!(world.ask(&format!("091{n}1230001"), &from(10 + n), 0), None);
    }
    assert_eq!(world.ask("09191230001", &from(20), 0).unwrap().0, Cap::Total, "a new number");
    assert_eq!(world.ask_as(ACCOUNT, "09181230001", &from(21), 0), None, "the owner of an account");
    assert_eq!(world.ask_as(ACCOUNT, "09181240001", &from(22), 0).unwrap().0, Cap::Total, "the whole cap");
}

#[test]
fn a_stranger_does_not_use_up_the_codes_of_a_number() {
    let rules = ShieldRules { number_per_hour_max: 5, number_per_day_max: 10, ..open() };
    let world = world(rules);
    for at in 0..3 {
        assert_eq!(world.ask(A, "192.0.2.1", at), None);
    }
    assert_eq!(world.ask(A, "192.0.2.1", 3).unwrap().0, Cap::NumberHour, "three of five");
    assert_eq!(world.ask(A, "198.51.100.1", 4), None, "the owner, in a new network");
    assert_eq!(world.ask(A, "203.0.113.1", 5), None);
    assert_eq!(world.ask(A, "203.0.114.1", 6).unwrap().0, Cap::NumberHour, "all strangers together");
    for at in 7..10 {
        assert_eq!(world.ask_as(HERE, A, "198.51.100.1", at), None, "the owner, where they were before");
    }
    assert_eq!(world.ask_as(HERE, A, "198.51.100.1", 11).unwrap().0, Cap::NumberHour);
}

#[test]
fn a_prefix_without_logins_is_slowed_and_recovers_with_them() {
    let world = world(ShieldRules { ratio_codes_min: 10, ratio_percent_min: 20, ..open() });
    let ask = |n: u32, at| world.ask(&format!("0912123{n:04}"), &format!("192.0.{}.1", n % 3), at);
    for n in 100..120 {
        assert_eq!(world.ask(&format!("0912123{n:04}"), "203.0.113.1", 0), None);
    }
    assert_eq!(ask(200, 0), None, "one address slows no prefix");
    for n in 0..5 {
        assert_eq!(ask(n, 0), None);
    }
    assert_eq!(ask(10, 0), Some((Cap::PrefixSlowed, 60)));
    assert_eq!(world.ask_as(ACCOUNT, "09121230500", "192.0.7.1", 0), None, "whoever has an account goes on");
    let now = Timestamp::from_secs(36_000_000);
    assert_eq!(world.shield.slowed(&world.rules, now), 1);
    assert_eq!(ask(10, 60), None, "slowed, not stopped");
    assert_eq!(ask(11, 61), Some((Cap::PrefixSlowed, 59)));
    assert_eq!(world.ask("09131230000", "192.0.2.1", 61), None, "another prefix is not");
    for n in 0..3 {
        world.shield.verified(&PhoneNumber::parse(&format!("0912123{n:04}")).unwrap(), now);
    }
    assert_eq!(world.shield.slowed(&world.rules, now), 0);
    assert_eq!(ask(11, 61), None);
}

/// Two strangers make the same requests, one about numbers with an account, the other about numbers without one. As
/// long as anything is kept, no reply tells them apart, and none of their later requests does.
#[test]
fn while_only_the_kept_part_is_left_no_reply_depends_on_the_account() {
    let slowed = ShieldRules { ratio_codes_min: 3, ratio_percent_min: 50, ..open() };
    let gap = Duration::from_secs(120);
    let full = ShieldRules { total_per_hour_max: 40, number_gap: gap, number_per_hour_max: 3, ..open() };
    let prefix = ShieldRules { prefix_per_hour_max: 40, number_gap: gap, ..open() };
    for (rules, expected) in [(slowed, Cap::PrefixSlowed), (full, Cap::Total), (prefix, Cap::Prefix)] {
        let worlds = [world(rules.clone()), world(rules)];
        for n in 0..30_u32 {
            for world in &worlds {
                let _ = world.ask(&format!("0912123{n:04}"), &format!("192.0.{n}.1"), u64::from(n) * 10);
            }
        }
        let mut limited = 0;
        for n in 0..8_u32 {
            let number = format!("0912123{:04}", 1000 + n / 2);
            let at = 600 + u64::from(n) * 37;
            let [one, other] = [ACCOUNT, NEW].map(|says| {
                worlds[usize::from(!says.account)].seen(says, &number, &format!("198.51.{n}.1"), at)
            });
            assert_eq!(one, other, "request {n} under {expected:?}");
            limited += u32::from(matches!(one, Ok(Some((cap, _))) if cap == expected));
        }
        assert!(limited >= 2, "{expected:?} was never used up");
    }
}

#[test]
fn requests_about_unknown_numbers_do_not_use_up_what_is_kept() {
    let world = world(ShieldRules { total_per_hour_max: 8, ..open() });
    for n in 0..60 {
        let asked = world.ask(&format!("09{:09}", 120_000_000 + n * 10_000), &format!("192.0.{n}.1"), 0);
        assert_eq!(asked.is_some(), n >= 6, "{n}: {asked:?}");
    }
    assert_eq!(world.ask_as(ACCOUNT, A, "198.51.100.1", 0), None);
    assert_eq!(world.ask_as(ACCOUNT, "09121240001", "198.51.101.1", 0), None);
    let used_up = |says| world.admit(says, "09121250001", "198.51.102.1", 0).unwrap_err().cap;
    assert_eq!([used_up(ACCOUNT), used_up(NEW)], [Cap::Total; 2], "429 comes to both at one moment");
}

/// Two gateways that share a store.
fn two(rules: &ShieldRules) -> [(Arc<Shield>, ShieldRules); 2] {
    let others: [Arc<std::sync::OnceLock<std::sync::Weak<Shield>>>; 2] =
        std::array::from_fn(|_| Arc::default());
    let shields = others.clone().map(|other| {
        Arc::new(Shield::shared(move |note| {
            // As over a wire.
            let note = serde_json::from_slice(&serde_json::to_vec(&note).unwrap()).unwrap();
            other.get().and_then(std::sync::Weak::upgrade).unwrap().elsewhere(note);
        }))
    });
    for (other, shield) in others.iter().zip(shields.iter().rev()) {
        other.set(Arc::downgrade(shield)).unwrap();
    }
    shields.map(|shield| (shield, rules.clone()))
}

#[test]
fn a_cap_is_one_cap_for_gateways_that_share_a_store() {
    let caps: [(ShieldRules, Cap, usize); 4] = [
        (ShieldRules { number_per_hour_max: 6, ..open() }, Cap::NumberHour, 6),
        (ShieldRules { address_per_hour_max: 8, ..open() }, Cap::Address, 8),
        (ShieldRules { prefix_per_hour_max: 40, ..open() }, Cap::Prefix, 30),
        (ShieldRules { total_per_hour_max: 40, ..open() }, Cap::Total, 30),
    ];
    for (rules, cap, expected) in caps {
        let two = two(&rules);
        let mut admitted = 0;
        let refused = (0..100).find_map(|n| {
            let (shield, rules) = &two[n % 2];
            let (number, address) = match cap {
                Cap::NumberHour => (A.to_owned(), format!("192.0.{n}.1")),
                Cap::Address => (format!("0912{n:03}0000"), "192.0.2.1".to_owned()),
                Cap::Prefix => (format!("0912123{n:04}"), format!("192.0.{n}.1")),
                _ => (format!("0912{n:03}0000"), format!("192.0.{n}.1")),
            };
            let number = PhoneNumber::parse(&number).unwrap();
            let (address, now) = (address.parse().unwrap(), Timestamp::from_secs(36_000_000));
            let answer = shield.admit(rules, &number, address, &NEW, now).now_or_never().unwrap();
            admitted += usize::from(matches!(answer, Ok(Admission::Open)));
            match answer {
                Ok(Admission::Open) => None,
                Ok(Admission::AccountsOnly { cap, .. }) | Err(Refusal { cap, .. }) => Some(cap),
            }
        });
        assert_eq!((refused, admitted), (Some(cap), expected), "{cap:?}");
    }
}

#[test]
fn a_login_and_a_lifted_cap_count_at_every_gateway() {
    let rules = ShieldRules { number_gap: Duration::from_secs(60), number_per_hour_max: 2, ..open() };
    let [(one, _), (other, _)] = two(&rules);
    let (number, now) = (PhoneNumber::parse(A).unwrap(), Timestamp::from_secs(36_000_000));
    let ask = |shield: &Shield| {
        shield.admit(&rules, &number, "192.0.2.1".parse().unwrap(), &NEW, now).now_or_never().unwrap()
    };
    assert!(ask(&one).is_ok());
    assert_eq!(ask(&other).unwrap_err().cap, Cap::NumberGap);
    other.verified(&number, now);
    assert!(ask(&one).is_ok());
    one.not_sent(&number);
    assert_eq!(ask(&other).unwrap_err().cap, Cap::NumberHour);
    assert!(one.lift(&number));
    assert!(ask(&other).is_ok());
}
