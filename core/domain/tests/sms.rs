//! The queue of messages at the domain's boundary: a temporary store, scripted providers and short rules, in real time.

use chelseru_domain::sms::SmsOwner;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chelseru_domain::PhoneNumber;
use chelseru_domain::clock::{Clock, SystemClock};
use chelseru_domain::sms::gate::{Gate, GateRules};
use chelseru_domain::sms::queue::{SmsQueue, SmsRequest, SmsRoute, SmsRules, Submitted};
use chelseru_domain::sms::route::{Candidate, SmsProvider};
use chelseru_domain::sms::{Rejection, SmsBody, SmsClass, SmsError, SmsMessage, SmsPort, SmsReceipt};
use chelseru_store::{SmsRecord, SmsStatus, Store, StoreOptions};

/// Refuses with the script in turn, then takes everything, or goes on with the last refusal.
struct Scripted {
    script: Mutex<Vec<SmsError>>,
    for_ever: bool,
    /// When each message was handed over.
    asked: Mutex<BTreeMap<u64, Vec<Instant>>>,
}

#[async_trait]
impl SmsProvider for Scripted {
    fn name(&self) -> &str {
        "SCRIPTED"
    }

    async fn send(&self, message: &SmsMessage) -> Result<SmsReceipt, SmsError> {
        self.asked.lock().unwrap().entry(message.local_id).or_default().push(Instant::now());
        let mut script = self.script.lock().unwrap();
        match script.first().cloned() {
            Some(error) => {
                if !self.for_ever {
                    script.remove(0);
                }
                Err(error)
            }
            None => Ok(SmsReceipt {
                provider: "SCRIPTED".to_owned(),
                message_id: Some(message.local_id.to_string()),
                duplicate: false,
                cost_rial: None,
            }),
        }
    }
}

struct World {
    store: Store,
    route: Arc<SmsRoute>,
    provider: Arc<Scripted>,
    worker: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new(script: Vec<SmsError>, for_ever: bool, rules: SmsRules, gate: GateRules) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path(), StoreOptions::default()).expect("open");
        let opened = SmsQueue::open(store.clone(), Arc::new(SystemClock), Box::new(|_| {}), None).await;
        let queue = opened.expect("open").0;
        let provider = Arc::new(Scripted { script: Mutex::new(script), for_ever, asked: Mutex::default() });
        let candidate = Candidate { provider: provider.clone(), gate: Arc::new(Gate::new(gate)) };
        let route = Arc::new(SmsRoute::new(queue.clone(), vec![candidate], rules));
        let serving = route.clone();
        let worker = tokio::spawn(async move {
            queue.run(move || serving.clone(), Box::new(|work| drop(tokio::spawn(work)))).await;
        });
        World { store, route, provider, worker, _folder: folder }
    }

    /// Queues a notice.
    async fn queue(&self, n: usize) -> u64 {
        let request = SmsRequest {
            to: PhoneNumber::parse(&format!("0912{n:07}")).unwrap(),
            body: SmsBody::Text { text: "hello".to_owned() },
            owner: SmsOwner::ApiKey(1),
            idempotency: None,
            daily_cap: None,
            wait: false,
        };
        match self.route.submit(request).await.expect("stored") {
            Submitted::New(message) => message.id,
            Submitted::Repeated(_) => panic!("without a key nothing is a repeat"),
        }
    }

    async fn end_of(&self, id: u64) -> SmsRecord {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let message = self.store.sms_get(id).await.expect("read").expect("on record");
            if message.status.is_final() {
                return message;
            }
            assert!(Instant::now() < until, "it never ended: {message:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Sends a code. Returns the caller's result, the number of attempts, and the record.
    async fn code(&self) -> (Result<SmsReceipt, SmsError>, usize, SmsRecord) {
        let id = SystemClock.now().as_micros();
        let message = SmsMessage {
            to: PhoneNumber::parse("09121234567").unwrap(),
            local_id: id,
            body: SmsBody::Text { text: "code 123456".to_owned() },
            class: SmsClass::Otp,
            deadline: Instant::now() + Duration::from_secs(20),
        };
        let result = self.route.send(message).await;
        (result, self.asked(id).len(), self.store.sms_get(id).await.expect("read").expect("on record"))
    }

    fn asked(&self, id: u64) -> Vec<Instant> {
        self.provider.asked.lock().unwrap().get(&id).cloned().unwrap_or_default()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

/// No circuit that opens.
const PATIENT: GateRules = GateRules {
    failures: u32::MAX,
    open_for: Duration::from_secs(15),
    concurrency_max: 0,
    rate_per_second: 0,
};

#[tokio::test]
async fn delays_grow_with_jitter_and_nothing_is_tried_after_the_deadline() {
    let rules = SmsRules {
        notice_lifetime: Duration::from_millis(1500),
        retry_min: Duration::from_millis(40),
        retry_max: Duration::from_millis(320),
        ..SmsRules::default()
    };
    let world = World::new(vec![SmsError::Throttled(None)], true, rules, PATIENT).await;
    let id = world.queue(1).await;
    let message = world.end_of(id).await;
    assert_eq!((message.status, message.error.as_deref()), (SmsStatus::Expired, Some("throttled")));
    assert!(message.updated_at >= message.created_at);
    let asked = world.asked(id);
    assert!(asked.len() >= 2, "never tried again");
    // Each round asks once. The last retry may be taken up too late, and then nobody is asked.
    let rounds = message.rounds as usize;
    assert!((rounds..=rounds + 1).contains(&asked.len()), "{rounds} rounds, asked {} times", asked.len());
    for (round, pair) in asked.windows(2).enumerate() {
        let least = Duration::from_millis((40 << round.min(3)) / 2);
        assert!(pair[1] - pair[0] >= least, "round {round}: {:?} is below {least:?}", pair[1] - pair[0]);
    }
    // Longer than the longest delay: an expired message is not tried again.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.asked(id).len(), asked.len());
}

#[tokio::test]
async fn a_code_is_tried_again_only_while_its_asker_waits() {
    let throttled = || SmsError::Throttled(None);
    let rules = |otp_retry| SmsRules { otp_retry, ..SmsRules::default() };
    let (second, none) = (Duration::from_millis(1200), Duration::ZERO);

    let world =
        World::new(vec![throttled(), throttled()], false, rules(Duration::from_secs(10)), PATIENT).await;
    let (result, asked, message) = world.code().await;
    assert_eq!((result.map(|receipt| receipt.provider), asked), (Ok("SCRIPTED".to_owned()), 3));
    assert_eq!((message.status, message.tried.len()), (SmsStatus::Accepted, 2));

    let world = World::new(vec![throttled()], true, rules(second), PATIENT).await;
    let (result, asked, message) = world.code().await;
    assert_eq!((result, message.status), (Err(throttled()), SmsStatus::Failed));
    assert!((2..=4).contains(&asked), "asked {asked} times");
    assert_eq!(message.tried.len(), asked, "every attempt is on record");
    assert_eq!(world.store.sms_waiting().await.expect("read"), 0, "nobody sends it later");

    let refused = Rejection { code: "411".to_owned(), text: String::new() };
    for (error, otp_retry) in [
        (throttled(), none),
        (SmsError::Throttled(Some(Duration::from_secs(60))), second),
        (SmsError::UnknownOutcome("cut off".to_owned()), second),
        (SmsError::InvalidRecipient(refused.clone()), second),
        (SmsError::InsufficientCredit(refused.clone()), second),
    ] {
        let world = World::new(vec![error.clone()], true, rules(otp_retry), PATIENT).await;
        let (result, asked, message) = world.code().await;
        assert_eq!((result, asked), (Err(error.clone()), 1), "{error}");
        let unknown = matches!(error, SmsError::UnknownOutcome(_));
        assert_eq!(message.status == SmsStatus::Unknown, unknown, "{error}");
    }
}

#[tokio::test]
async fn a_rate_paces_the_queue_without_putting_messages_back() {
    let gate = GateRules { rate_per_second: 20, ..PATIENT };
    let world = World::new(Vec::new(), false, SmsRules::default(), gate).await;
    let started = Instant::now();
    let mut ids = Vec::new();
    for n in 0..40 {
        ids.push(world.queue(n).await);
    }
    let mut times = Vec::new();
    for id in ids {
        let message = world.end_of(id).await;
        assert_eq!((message.status, message.rounds), (SmsStatus::Accepted, 0), "{:?}", message.tried);
        times.extend(world.asked(id));
    }
    times.sort();
    assert!(started.elapsed() >= Duration::from_millis(900), "20 at once, then 20 a second");
    for (index, at) in times.iter().enumerate().skip(20) {
        let earliest = Duration::from_millis(50 * (index as u64 - 19));
        assert!(*at - times[0] + Duration::from_millis(30) >= earliest, "message {index} went too early");
    }
}

#[tokio::test]
async fn places_bound_what_is_handed_over_at_once() {
    let gate = GateRules { concurrency_max: 3, ..PATIENT };
    /// Messages at once, now and at most.
    struct Slow(Arc<Mutex<(usize, usize)>>);
    #[async_trait]
    impl SmsProvider for Slow {
        fn name(&self) -> &str {
            "SLOW"
        }
        async fn send(&self, message: &SmsMessage) -> Result<SmsReceipt, SmsError> {
            {
                let mut count = self.0.lock().unwrap();
                count.0 += 1;
                count.1 = count.1.max(count.0);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.0.lock().unwrap().0 -= 1;
            let message_id = Some(message.local_id.to_string());
            Ok(SmsReceipt { provider: "SLOW".to_owned(), message_id, duplicate: false, cost_rial: None })
        }
    }
    let busy = Arc::new(Mutex::new((0, 0)));
    let mut world = World::new(Vec::new(), false, SmsRules::default(), PATIENT).await;
    let candidate = Candidate { provider: Arc::new(Slow(busy.clone())), gate: Arc::new(Gate::new(gate)) };
    world.route = Arc::new(SmsRoute::new(world.route.queue().clone(), vec![candidate], SmsRules::default()));
    let send = |n: usize| {
        let route = world.route.clone();
        let request = SmsRequest {
            to: PhoneNumber::parse(&format!("0912{n:07}")).unwrap(),
            body: SmsBody::Text { text: "hello".to_owned() },
            owner: SmsOwner::ApiKey(1),
            idempotency: None,
            daily_cap: None,
            wait: true,
        };
        async move { route.submit(request).await.expect("stored") }
    };
    let sends: Vec<_> = (0..12).map(|n| tokio::spawn(send(n))).collect();
    for sending in sends {
        let Submitted::New(message) = sending.await.expect("no panic") else { panic!("a repeat") };
        assert_eq!(message.status, SmsStatus::Accepted, "{:?}", message.tried);
    }
    assert_eq!(busy.lock().unwrap().1, 3, "at once");
}
