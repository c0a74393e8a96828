//! What a caller of a callback sees, and how fast strangers can try references.

use std::net::IpAddr;
use std::time::Duration;

use chelseru_domain::ids::UserId;
use chelseru_domain::money::payment::gateway::Callback;
use chelseru_domain::money::payment::{
    CallbackCaller, CallbackError, Confirmed, SCAN_POINTS_HIT, SCAN_POINTS_MAX, SCAN_POINTS_MISS,
    SCAN_WINDOW, View,
};
use chelseru_domain::money::wallet::{Actor, Role};

use super::{ANYONE, USER, World, callback, reference, vouched};

fn from(address: &str) -> CallbackCaller {
    CallbackCaller { address: address.parse::<IpAddr>().unwrap(), actor: None }
}

fn user(user: UserId, role: Role) -> CallbackCaller {
    CallbackCaller { actor: Some(Actor { user, role }), ..ANYONE }
}

impl World {
    async fn ask(&self, callback: &Callback, caller: CallbackCaller) -> Result<Confirmed, CallbackError> {
        self.payments.callback(self.banks.as_ref(), callback, caller).await
    }

    async fn view(&self, callback: &Callback, caller: CallbackCaller) -> View {
        self.ask(callback, caller).await.unwrap().view
    }
}

#[tokio::test]
async fn the_key_the_user_and_staff_see_all_and_others_the_outcome() {
    let world = World::new();
    let payment = world.create(50_000).await;
    let bare = callback(reference(&payment), true);
    let with_key = vouched(&payment, bare.clone());
    assert_eq!(world.view(&with_key, ANYONE).await, View::Whole);
    assert_eq!(world.view(&bare, ANYONE).await, View::Outcome);
    assert_eq!(world.view(&bare, user(USER, Role::Customer)).await, View::Whole);
    assert_eq!(world.view(&bare, user(UserId(8), Role::Customer)).await, View::Outcome);
    assert_eq!(world.view(&bare, user(UserId(8), Role::Staff)).await, View::Whole);
    // Another payment's key opens nothing, for its owner neither.
    let other = world.create(60_000).await;
    let foreign = vouched(&other, bare);
    assert!(matches!(world.ask(&foreign, ANYONE).await, Err(CallbackError::NotFound)));
}

#[tokio::test]
async fn a_network_that_tries_references_waits_and_nobody_else_does() {
    let world = World::new();
    let payment = world.create(50_000).await;
    let known = callback(reference(&payment), true);
    let stranger = from("198.51.100.7");
    for number in 0..SCAN_POINTS_MAX / SCAN_POINTS_MISS {
        let guess = world.ask(&callback(&format!("BANK-9{number}"), true), stranger).await;
        assert!(matches!(guess, Err(CallbackError::NotFound)), "{guess:?}");
    }
    let wait = |answer: Result<Confirmed, CallbackError>| match answer {
        Err(CallbackError::TooMany(wait)) => Some(wait),
        _ => None,
    };
    let questions = world.bank().questions.load(std::sync::atomic::Ordering::SeqCst);
    for guess in [callback("BANK-77", true), known.clone(), Callback::default()] {
        assert_eq!(wait(world.ask(&guess, stranger).await), Some(SCAN_WINDOW), "known or not: {guess:?}");
    }
    assert_eq!(wait(world.ask(&known, from("198.51.100.8")).await), Some(SCAN_WINDOW), "the same network");
    // An invented key opens no way around.
    let invented = Callback { query: format!("callback_key=0&{}", known.query), ..known.clone() };
    assert_eq!(wait(world.ask(&invented, stranger).await), Some(SCAN_WINDOW));
    assert_eq!(
        world.bank().questions.load(std::sync::atomic::Ordering::SeqCst),
        questions,
        "the bank is left alone"
    );
    // The payer behind the same address, its logged-in owner, and other networks are served.
    assert_eq!(world.view(&vouched(&payment, known.clone()), stranger).await, View::Whole);
    let owner = CallbackCaller { address: stranger.address, ..user(USER, Role::Customer) };
    assert_eq!(world.view(&known, owner).await, View::Whole);
    assert_eq!(world.view(&known, from("203.0.113.1")).await, View::Outcome);
    world.clock.advance(SCAN_WINDOW);
    assert_eq!(world.view(&known, stranger).await, View::Outcome);
}

#[tokio::test]
async fn a_right_reference_costs_less_than_a_wrong_one() {
    const { assert!(SCAN_POINTS_HIT < SCAN_POINTS_MISS) };
    let world = World::new();
    let payment = world.create(50_000).await;
    let known = callback(reference(&payment), true);
    for _ in 0..SCAN_POINTS_MAX / SCAN_POINTS_HIT {
        assert_eq!(world.view(&known, ANYONE).await, View::Outcome);
    }
    world.clock.advance(Duration::from_secs(10));
    let Err(CallbackError::TooMany(wait)) = world.ask(&known, ANYONE).await else { panic!("not limited") };
    assert_eq!(wait, SCAN_WINDOW - Duration::from_secs(10));
}
