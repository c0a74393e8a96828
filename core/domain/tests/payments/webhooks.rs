//! Events: written with what they tell of, told at least once, given up and replayed.

use chelseru_store::EventFilter;
use std::collections::HashMap;
use std::sync::Mutex;

use async_trait::async_trait;
use chelseru_domain::operator::webhook::{DELAYS, Receivers, Step, Told, Webhooks};
use chelseru_store::{DeliveryState, Event, EventBody};

use super::*;

/// Receivers with scripted answers.
#[derive(Default)]
struct Script {
    wants: HashMap<&'static str, Vec<&'static str>>,
    down: Mutex<Vec<String>>,
    gone: Mutex<bool>,
    told: Mutex<Vec<(String, u64, &'static str)>>,
    /// The time that was signed last.
    signed_at: Mutex<Timestamp>,
}

impl Script {
    fn of(wants: &[(&'static str, &[&'static str])]) -> Script {
        let wants = wants.iter().map(|(name, kinds)| (*name, kinds.to_vec())).collect();
        Script { wants, ..Script::default() }
    }

    fn told(&self) -> Vec<(String, u64, &'static str)> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

#[async_trait]
impl Receivers for Script {
    fn wanting(&self, kind: &str) -> Vec<String> {
        let wants = |kinds: &Vec<&str>| kinds.is_empty() || kinds.contains(&kind);
        let mut names: Vec<_> =
            self.wants.iter().filter(|(_, kinds)| wants(kinds)).map(|(name, _)| (*name).to_owned()).collect();
        names.sort();
        names
    }

    async fn tell(&self, endpoint: &str, event: &Event, now: Timestamp) -> Told {
        *self.signed_at.lock().unwrap() = now;
        self.told.lock().unwrap().push((endpoint.to_owned(), event.id.0, event.body.kind()));
        if self.down.lock().unwrap().iter().any(|name| name == endpoint) {
            return Told::Failed { error: "HTTP 500".to_owned(), retry_after: None };
        }
        if *self.gone.lock().unwrap() {
            return Told::Gone { error: "HTTP 410".to_owned() };
        }
        Told::Accepted
    }
}

fn webhooks(world: &World) -> Webhooks {
    Webhooks::new(world.store.clone(), world.clock.clone())
}

async fn tell(world: &World, script: &Script, endpoint: &str) -> Step {
    let webhooks = webhooks(world);
    webhooks.route(script).await.unwrap();
    webhooks.deliver(script, endpoint).await.unwrap()
}

#[tokio::test]
async fn nothing_is_written_while_nobody_listens() {
    let world = World::new();
    world.charge(10_000).await;
    assert_eq!(webhooks(&world).list(None, EventFilter::All, 10).await.unwrap(), []);
}

#[tokio::test]
async fn each_end_and_each_change_of_a_wallet_is_one_event() {
    let world = World::new();
    world.store.events_want(true).await.unwrap();
    let paid = world.charge(10_000).await;
    // Repeated callbacks tell nothing new.
    world.callback(&paid, true).await;
    let open = world.create(5_000).await;
    world.bank().cancel(reference(&open));
    world.callback(&open, false).await;
    let script = Script::of(&[("all", &[]), ("paid", &["payment.paid"])]);
    assert_eq!(tell(&world, &script, "all").await.delivered, 3);
    let signed_at = *script.signed_at.lock().unwrap();
    assert_eq!(signed_at, world.clock.now(), "signed by the gateway's clock, which does not jump");
    let kinds: Vec<_> = script.told().into_iter().map(|(_, _, kind)| kind).collect();
    assert_eq!(kinds, ["wallet.credited", "payment.paid", "payment.cancelled"]);
    assert_eq!(tell(&world, &script, "paid").await.delivered, 1);
    assert_eq!(script.told(), [("paid".to_owned(), 2, "payment.paid")]);
    assert_eq!(tell(&world, &script, "all").await, Step::default());
    let reports = webhooks(&world).list(None, EventFilter::All, 10).await.unwrap();
    let EventBody::WalletChanged { user, amount, balance, posting, .. } = &reports[2].event.body else {
        panic!("{reports:?}")
    };
    assert_eq!((*user, *amount, *balance, posting.as_str()), (USER, 10_000, 10_000, "payment:1"));
}

#[tokio::test]
async fn a_failing_receiver_is_tried_with_growing_delays_and_then_given_up_and_replayed() {
    let world = World::new();
    world.store.events_want(true).await.unwrap();
    world.charge(10_000).await;
    let script = Script::of(&[("shop", &["payment.paid"])]);
    script.down.lock().unwrap().push("shop".to_owned());
    for (tries, delay) in DELAYS.iter().enumerate() {
        assert_eq!(tell(&world, &script, "shop").await.failed, 1, "try {tries}");
        // Nine tenths of a delay are the least: not earlier.
        world.clock.advance(*delay * 8 / 10);
        assert_eq!(tell(&world, &script, "shop").await, Step::default(), "after try {tries}");
        world.clock.advance(*delay * 4 / 10);
    }
    assert_eq!(tell(&world, &script, "shop").await.dead, 1);
    assert_eq!(script.told().len(), DELAYS.len() + 1);
    world.clock.advance(Duration::from_secs(1_000_000));
    assert_eq!(tell(&world, &script, "shop").await, Step::default());
    let dead = webhooks(&world).list(None, EventFilter::Dead, 10).await.unwrap();
    let (endpoint, delivery) = &dead[0].deliveries[0];
    assert_eq!((endpoint.as_str(), delivery.state), ("shop", DeliveryState::Dead));
    assert_eq!((delivery.error.as_str(), delivery.attempts), ("HTTP 500", DELAYS.len() as u32 + 1));
    assert_eq!(world.store.deliveries_dead(10).await.unwrap(), 1);

    // A restart forgets nothing; what was given up is told when somebody asks for it.
    let world = world.restarted();
    script.down.lock().unwrap().clear();
    assert_eq!(webhooks(&world).replay_dead(None, 10).await.unwrap(), 1);
    assert_eq!(tell(&world, &script, "shop").await.delivered, 1);
    assert_eq!(webhooks(&world).list(None, EventFilter::Dead, 10).await.unwrap(), []);
    // So is what was delivered, and an endpoint that never had it.
    let id = dead[0].event.id;
    assert_eq!(webhooks(&world).replay(id, None).await.unwrap(), 1);
    assert_eq!(webhooks(&world).replay(id, Some("new".to_owned())).await.unwrap(), 1);
    assert_eq!(tell(&world, &script, "shop").await.delivered, 1);
    assert_eq!(tell(&world, &script, "new").await.delivered, 1);
    assert_eq!(webhooks(&world).replay(chelseru_store::EventId(99), None).await.unwrap(), 0);
}

#[tokio::test]
async fn a_receiver_that_is_down_is_not_asked_for_everything_that_waits() {
    let world = World::new();
    world.store.events_want(true).await.unwrap();
    for _ in 0..40 {
        world.charge(1_000).await;
    }
    let script = Script::of(&[("down", &[]), ("up", &[])]);
    script.down.lock().unwrap().push("down".to_owned());
    tell(&world, &script, "down").await;
    assert!(script.told().len() <= 8, "one round of parallel tries at most");
    // The other one has its own queue, and more than a step of it.
    let step = tell(&world, &script, "up").await;
    assert!(step.more);
    assert_eq!(step.delivered + tell(&world, &script, "up").await.delivered, 80);
}

#[tokio::test]
async fn gone_is_dead_at_once() {
    let world = World::new();
    world.store.events_want(true).await.unwrap();
    world.charge(1_000).await;
    let script = Script::of(&[("shop", &["payment.paid"])]);
    *script.gone.lock().unwrap() = true;
    assert_eq!(tell(&world, &script, "shop").await.dead, 1);
}

#[tokio::test]
async fn events_are_kept_for_a_time_and_up_to_a_number() {
    let world = World::new();
    world.store.events_want(true).await.unwrap();
    for _ in 0..5 {
        world.charge(1_000).await;
        world.clock.advance(Duration::from_secs(10));
    }
    let script = Script::of(&[("shop", &[])]);
    script.down.lock().unwrap().push("shop".to_owned());
    tell(&world, &script, "shop").await;
    let hooks = webhooks(&world);
    let count = async || hooks.list(None, EventFilter::All, 100).await.unwrap().len();
    let day = Duration::from_secs(86_400);
    assert_eq!((hooks.purge(day, 10, 100).await.unwrap(), count().await), (0, 10));
    assert_eq!((hooks.purge(day, 9, 100).await.unwrap(), count().await), (1, 9));
    assert_eq!((hooks.purge(Duration::from_secs(25), 9, 100).await.unwrap(), count().await), (5, 4));
    // What was removed is not told any more, and leaves nothing behind.
    script.down.lock().unwrap().clear();
    world.clock.advance(Duration::from_secs(60));
    script.told();
    tell(&world, &script, "shop").await;
    assert_eq!(script.told().len(), 4);
}
