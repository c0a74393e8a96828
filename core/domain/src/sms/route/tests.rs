//! Failover with scripted providers: who is asked, in which order, and when it stops.

use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::PhoneNumber;
use crate::clock::SystemClock;
use crate::sms::gate::GateRules;
use crate::sms::{Rejection, SmsBody, SmsClass};

/// Answers with the script's errors in turn, then takes the message; counts what it was asked.
struct Scripted {
    name: &'static str,
    deduplicates: bool,
    script: Mutex<Vec<SmsError>>,
    asked: Mutex<Vec<u64>>,
}

#[async_trait]
impl SmsProvider for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    async fn deduplicates(&self, _: &SmsMessage) -> bool {
        self.deduplicates
    }

    async fn send(&self, message: &SmsMessage) -> Result<SmsReceipt, SmsError> {
        self.asked.lock().unwrap().push(message.local_id);
        let mut script = self.script.lock().unwrap();
        if script.is_empty() {
            return Ok(SmsReceipt {
                provider: self.name.to_owned(),
                message_id: Some("m1".to_owned()),
                duplicate: false,
                cost_rial: None,
            });
        }
        Err(script.remove(0))
    }
}

fn provider(name: &'static str, script: &[SmsError]) -> Arc<Scripted> {
    Arc::new(Scripted {
        name,
        deduplicates: name.starts_with("dedup"),
        script: Mutex::new(script.to_vec()),
        asked: Mutex::default(),
    })
}

fn message(timeout: Duration) -> SmsMessage {
    SmsMessage {
        to: PhoneNumber::parse("09121234567").unwrap(),
        local_id: 42,
        body: SmsBody::Text { text: "hello".to_owned() },
        class: SmsClass::Notice,
        deadline: Instant::now() + timeout,
    }
}

fn candidate(provider: Arc<dyn SmsProvider>) -> Candidate {
    Candidate { provider, gate: Arc::new(Gate::new(GateRules::default())) }
}

/// Records nothing and allows everything.
struct NoLog;

#[async_trait]
impl AttemptLog for NoLog {
    async fn begin(&self, _: &str, _: bool, _: &[Failure]) -> bool {
        true
    }
}

/// Sends by the providers; says who took it or the error, who failed before, and how often each was asked.
async fn check(providers: &[Arc<Scripted>]) -> (Result<String, SmsError>, Vec<String>, Vec<usize>) {
    let list: Vec<_> = providers.iter().map(|p| candidate(Arc::clone(p) as _)).collect();
    let routed = send(&list, &message(Duration::from_secs(60)), &SystemClock, &NoLog).await;
    let failed = routed.failures.iter().map(|failure| failure.provider.clone()).collect();
    let asked = providers.iter().map(|provider| provider.asked.lock().unwrap().len()).collect();
    (routed.result.map(|receipt| receipt.provider), failed, asked)
}

fn rejection() -> Rejection {
    Rejection { code: "1".to_owned(), text: "no".to_owned() }
}

fn unknown() -> SmsError {
    SmsError::UnknownOutcome("cut off".to_owned())
}

#[tokio::test]
async fn the_first_provider_that_takes_it_is_the_only_one_asked() {
    let (result, failed, asked) = check(&[provider("a", &[]), provider("b", &[])]).await;
    assert_eq!((result, failed.len(), asked), (Ok("a".to_owned()), 0, vec![1, 0]));
}

#[tokio::test]
async fn every_failure_that_sent_nothing_makes_room_for_the_next() {
    for error in [
        SmsError::NotMapped,
        SmsError::Unauthorized(rejection()),
        SmsError::InsufficientCredit(rejection()),
        SmsError::Throttled(None),
        SmsError::Unavailable("down".to_owned()),
        SmsError::BrokeDown("HTTP 503".to_owned()),
        SmsError::Rejected(rejection()),
        SmsError::Misconfigured("sender".to_owned()),
        SmsError::Busy,
        SmsError::PluginFault { reason: "trap".to_owned(), request_sent: false },
    ] {
        let (result, failed, asked) =
            check(&[provider("a", std::slice::from_ref(&error)), provider("b", &[])]).await;
        assert_eq!(
            (result, failed, asked),
            (Ok("b".to_owned()), vec!["a".to_owned()], vec![1, 1]),
            "{error}"
        );
    }
}

#[tokio::test]
async fn who_broke_down_may_have_sent_it_when_nobody_after_it_did() {
    let broke_down = SmsError::BrokeDown("HTTP 503".to_owned());
    let unknown = Err(SmsError::UnknownOutcome("HTTP 503".to_owned()));
    for last in [SmsError::Unavailable("down".to_owned()), SmsError::InvalidRecipient(rejection())] {
        let providers = [provider("a", std::slice::from_ref(&broke_down)), provider("b", &[last])];
        let (result, _, asked) = check(&providers).await;
        assert_eq!((result, asked), (unknown.clone(), vec![1, 1]));
    }
}

#[tokio::test]
async fn a_final_refusal_ends_it() {
    for error in [
        SmsError::InvalidRecipient(rejection()),
        SmsError::InvalidMessage(rejection()),
        SmsError::InvalidTemplate(rejection()),
    ] {
        let (result, _, asked) =
            check(&[provider("a", std::slice::from_ref(&error)), provider("b", &[])]).await;
        assert_eq!((result, asked), (Err(error), vec![1, 0]));
    }
}

#[tokio::test]
async fn an_unknown_outcome_is_never_sent_again() {
    for error in [unknown(), SmsError::PluginFault { reason: "slow".to_owned(), request_sent: true }] {
        let (result, _, asked) =
            check(&[provider("a", std::slice::from_ref(&error)), provider("b", &[])]).await;
        assert_eq!((result, asked), (Err(error), vec![1, 0]));
    }
}

#[tokio::test]
async fn a_provider_that_deduplicates_is_asked_once_more() {
    let deduplicating = provider("dedup", &[unknown()]);
    let (result, failed, _) = check(&[Arc::clone(&deduplicating), provider("b", &[])]).await;
    assert_eq!((result, failed), (Ok("dedup".to_owned()), vec!["dedup".to_owned()]));
    assert_eq!(*deduplicating.asked.lock().unwrap(), [42, 42]);

    let (result, _, asked) = check(&[provider("dedup", &[unknown(), unknown()]), provider("b", &[])]).await;
    assert_eq!((result, asked), (Err(unknown()), vec![2, 0]));
}

#[tokio::test]
async fn a_refusal_after_an_unknown_outcome_leaves_it_unknown() {
    let script = [unknown(), SmsError::Throttled(None)];
    let (result, _, asked) = check(&[provider("dedup", &script), provider("b", &[])]).await;
    assert_eq!((result, asked), (Err(unknown()), vec![2, 0]));
    let script = [unknown(), SmsError::InvalidMessage(rejection())];
    let (result, _, _) = check(&[provider("dedup", &script)]).await;
    assert_eq!(result, Err(unknown()));
}

#[tokio::test]
async fn when_all_fail_the_last_error_is_told_and_all_are_listed() {
    let down = SmsError::Unavailable("down".to_owned());
    let (result, failed, _) =
        check(&[provider("a", std::slice::from_ref(&down)), provider("b", &[SmsError::Busy])]).await;
    assert_eq!((result, failed), (Err(SmsError::Busy), vec!["a".to_owned(), "b".to_owned()]));
}

#[tokio::test]
async fn without_a_provider_it_is_misconfigured() {
    let (result, ..) = check(&[]).await;
    assert!(matches!(result, Err(SmsError::Misconfigured(_))));
}

#[tokio::test]
async fn nothing_is_tried_after_the_deadline() {
    let late = provider("a", &[]);
    let list = [candidate(Arc::clone(&late) as _)];
    let routed = send(&list, &message(Duration::ZERO), &SystemClock, &NoLog).await;
    assert!(matches!(routed.result, Err(SmsError::Unavailable(_))));
    assert!(late.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_provider_that_never_answers_is_unknown_at_the_deadline() {
    struct Silent;
    #[async_trait]
    impl SmsProvider for Silent {
        fn name(&self) -> &str {
            "silent"
        }
        async fn send(&self, _: &SmsMessage) -> Result<SmsReceipt, SmsError> {
            std::future::pending().await
        }
    }
    let next = provider("b", &[]);
    let list = [candidate(Arc::new(Silent)), candidate(Arc::clone(&next) as _)];
    let routed = send(&list, &message(Duration::from_millis(20)), &SystemClock, &NoLog).await;
    assert!(matches!(routed.result, Err(SmsError::UnknownOutcome(_))));
    assert!(next.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn no_provider_is_asked_when_the_attempt_cannot_be_recorded() {
    struct Full;
    #[async_trait]
    impl AttemptLog for Full {
        async fn begin(&self, _: &str, _: bool, _: &[Failure]) -> bool {
            false
        }
    }
    let ready = provider("a", &[]);
    let list = [candidate(Arc::clone(&ready) as _), candidate(provider("b", &[]) as _)];
    let routed = send(&list, &message(Duration::from_secs(60)), &SystemClock, &Full).await;
    assert!(matches!(routed.result, Err(SmsError::Unavailable(_))));
    assert!(ready.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_provider_whose_circuit_is_open_is_passed_over() {
    let down = provider("a", &vec![SmsError::Unavailable("down".to_owned()); 20]);
    let list = [candidate(Arc::clone(&down) as _), candidate(provider("b", &[]) as _)];
    let mut failures = Vec::new();
    for _ in 0..8 {
        let routed = send(&list, &message(Duration::from_secs(60)), &SystemClock, &NoLog).await;
        assert!(routed.result.is_ok());
        failures.push(routed.failures[0].error.code());
    }
    assert_eq!((failures[4], failures[5]), ("unavailable", "circuit_open"));
    assert_eq!(down.asked.lock().unwrap().len(), 5);
}

/// The one that runs dry on the way is not asked a second time in the round.
#[tokio::test]
async fn a_provider_without_credit_is_asked_last_and_each_one_once() {
    let no_credit = SmsError::InsufficientCredit(Rejection { code: "418".to_owned(), text: String::new() });
    let dry = provider("a", &[no_credit]);
    let other = provider("b", &[SmsError::Unavailable("down".to_owned())]);
    let list = [candidate(Arc::clone(&dry) as _), candidate(Arc::clone(&other) as _)];
    let round = async || send(&list, &message(Duration::from_secs(60)), &SystemClock, &NoLog).await;
    let asked = |provider: &Scripted| provider.asked.lock().unwrap().len();
    let first = round().await;
    assert_eq!(first.failures.len(), 2, "{:?}", first.failures);
    assert_eq!((asked(&dry), asked(&other)), (1, 1));
    assert_eq!(round().await.result.expect("taken").provider, "b");
    assert_eq!((asked(&dry), asked(&other)), (1, 2), "the dry one was not needed");
    list[0].gate.note_credit(Ok(Credit::Messages(5)), SystemClock.now());
    assert_eq!(round().await.result.expect("taken").provider, "a");
}
