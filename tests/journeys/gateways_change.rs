//! Payments of a gateway that is switched, removed or damaged, and payments that a gateway gives back.

use std::path::Path;
use std::time::Duration;

use chelseru_domain::operator::audit::AuditQuery;
use chelseru_simulator::{Fault, FaultKind, Paid};
use chelseru_tests::TestGateway;
use serde_json::{Value, json};

use super::gateways::{Street, authority, is_pay};
use super::payments::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn a_switched_gateway_leaves_open_payments_where_they_began() {
    let street = Street::open("ZARINPAL_COM").await;
    let details = street.create(5000).await;
    let switched = street.config.replace("gateway = \"ZARINPAL_COM\"", "gateway = \"PAYPING_IR\"");
    street.shop.gateway.edit_config(&switched);
    street.shop.gateway.wait_for("the switch", |status| status["payment"]["gateway"] == "PAYPING_IR").await;
    let other = street.create(6000).await;
    assert_eq!(other["gateway_title"], "PAYPING_IR");
    street.simulator.pay(authority(&details));
    assert_eq!(is_pay(&street.zarinpal_back(&details, "OK").await), 1);
    street.simulator.pay(authority(&other));
    assert_eq!(is_pay(&street.payping_back(&other).await), 1);
    assert_eq!(street.shop.balance().await, 11_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_open_payments_cannot_be_removed() {
    let street = Street::open("ZARINPAL_COM").await;
    let details = street.create(5000).await;
    street.create(6000).await;
    let without = street.without_zarinpal();
    let refused = |status: &Value, what: &str| {
        status["config"]["last_error"].as_str().is_some_and(|error| error.contains(what))
    };
    street.shop.gateway.edit_config(&without);
    let wanted = "provider.ZARINPAL_COM: cannot be removed while it has 2 open payments";
    street.shop.gateway.wait_for("the refusal", |status| refused(status, wanted)).await;
    // `check` asks the running gateway, and refuses what the reload refused.
    let file = street.shop.gateway.config_file();
    let checked = chelseru::cli::check_file(&file).await.err().unwrap_or_default();
    assert!(checked.contains(wanted), "{checked}");
    // Its name may not be given to another gateway, either.
    let changed =
        street.config.replace("[provider.ZARINPAL_COM]\n", "[provider.ZARINPAL_COM]\nplugin = \"payping\"\n");
    let changed = changed.replace("merchant_id", "api_key");
    street.shop.gateway.edit_config(&changed);
    let wanted = "cannot change its plugin from zarinpal to payping while it has 2 open payments";
    street.shop.gateway.wait_for("the refusal", |status| refused(status, wanted)).await;
    let checked = chelseru::cli::check_file(&file).await.err().unwrap_or_default();
    assert!(checked.contains(wanted), "{checked}");
    street.simulator.pay(authority(&details));
    assert_eq!(is_pay(&street.zarinpal_back(&details, "OK").await), 1, "it still serves");
    // After the last one has ended, the gateway can be removed.
    for session in street.simulator.sessions() {
        street.simulator.cancel(&session.reference);
    }
    street.clock.advance(Duration::from_secs(31 * 60));
    let until = std::time::Instant::now() + chelseru_tests::PATIENCE;
    while street.shop.gateway.app.store.payments_open("ZARINPAL_COM", 9).await.expect("readable") > 0 {
        assert!(std::time::Instant::now() < until, "a payment stays open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    street.shop.gateway.edit_config(&without);
    chelseru::cli::check_file(&file).await.expect("accepted once nothing is open");
    street.shop.gateway.wait_for("the removal", |status| status["payment"]["gateway"] == "PAYPING_IR").await;
}

/// When a plugin's file is removed, replaced or half-written, the loaded plugin keeps serving its open payments.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_is_gone_or_replaced_by_what_is_none_leaves_its_open_payments_served() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 4] = [
        ("gone", |file| std::fs::remove_file(file).expect("it was there")),
        ("no component", |file| chelseru_tests::replace(file, b"no component at all")),
        ("another kind", |file| {
            let other = std::fs::read(file.with_file_name("kavenegar.wasm")).expect("installed");
            chelseru_tests::replace(file, &other);
        }),
        ("cut", |file| {
            let whole = std::fs::read(file).expect("installed");
            chelseru_tests::replace(file, &whole[..whole.len() / 2]);
        }),
    ];
    for (what, harm) in harms {
        let street = Street::open("ZARINPAL_COM").await;
        let details = street.create(5000).await;
        harm(&street.shop.gateway.dir.path().join("data/plugins/zarinpal.wasm"));
        let refused = |status: &Value| status["providers"].to_string().contains("\"state\":\"serving-old\"");
        street.shop.gateway.wait_for(what, refused).await;
        // Operators see the payments that depend on it.
        let status = street.shop.gateway.status().await;
        assert_eq!(status["payment"]["open"], json!({"ZARINPAL_COM": 1}), "{what}");
        let metrics = street.shop.gateway.get("/metrics/", None).await.text;
        assert!(metrics.contains("chelseru_payments_open{gateway=\"ZARINPAL_COM\"} 1"), "{metrics}");
        let live = street.shop.gateway.app.live();
        live.identity.audit().flush().await;
        let refusals =
            AuditQuery { event: Some("plugin_refused".to_owned()), limit: 1, ..AuditQuery::default() };
        let refusals = live.identity.audit().page(refusals).await.expect("read").entries;
        let draft = &refusals[0].draft;
        let told = (draft.subject.as_str(), draft.detail.as_str());
        assert!(
            told.0 == "ZARINPAL_COM" && told.1.starts_with("open payments: 1; plugin "),
            "{what}: {told:?}"
        );
        street.simulator.pay(authority(&details));
        assert_eq!(
            is_pay(&street.zarinpal_back(&details, "OK").await),
            1,
            "{what}: the old one still serves"
        );
        assert_eq!(street.shop.gateway.status().await["payment"]["open"], json!({}), "{what}");
        let metrics = street.shop.gateway.get("/metrics/", None).await.text;
        assert!(metrics.contains("chelseru_payments_open{gateway=\"ZARINPAL_COM\"} 0"), "{metrics}");
    }
}

/// Zarinpal's component under another name: it loads, and fits the settings.
pub(crate) fn renamed(zarinpal: &[u8]) -> Vec<u8> {
    let (name, other) = (b"zarinpal0.1.0", b"zarinpax0.1.0");
    let mut renamed = zarinpal.to_vec();
    let found: Vec<usize> =
        (0..renamed.len() - name.len()).filter(|&at| renamed[at..].starts_with(name)).collect();
    assert!(!found.is_empty(), "the component does not hold its name and version in one piece");
    for at in found {
        renamed[at..at + other.len()].copy_from_slice(other);
    }
    renamed
}

/// The refusals of an entry's plugin in the audit log, newest first.
async fn refusals(gateway: &TestGateway, entry: &str) -> Vec<String> {
    let live = gateway.app.live();
    live.identity.audit().flush().await;
    let query = AuditQuery { event: Some("plugin_refused".to_owned()), limit: 100, ..AuditQuery::default() };
    let entries = live.identity.audit().page(query).await.expect("read").entries;
    let of_entry = entries.into_iter().map(|found| found.draft).filter(|draft| draft.subject == entry);
    of_entry.map(|draft| draft.detail).collect()
}

/// The part of `status/` about a provider entry.
fn entry<'a>(status: &'a Value, name: &str) -> &'a Value {
    let all = status["providers"].as_array().expect("a list");
    all.iter().find(|one| one["name"] == name).expect("an entry")
}

#[tokio::test(flavor = "multi_thread")]
async fn another_plugin_gets_no_open_payments_and_holds_up_no_other_change() {
    let sms = "[provider.KAVENEGAR_COM]\nhosts = [\"127.0.0.1\"]\n[provider.KAVENEGAR_COM.settings]\n\
               api_key = \"x\"\nbase_url = \"http://127.0.0.1:9\"\n";
    let street = Street::open_with("ZARINPAL_COM", |config| format!("{config}{sms}")).await;
    let details = street.create(5000).await;
    let gateway = &street.shop.gateway;
    let before = gateway.provider("ZARINPAL_COM").await["blake3"].clone();
    let digest = before.as_str().expect("a digest").to_owned();
    let plugin = |name: &str| gateway.plugins_dir().join(name);
    let changed = renamed(&std::fs::read(plugin("zarinpal.wasm")).expect("installed"));
    gateway.compile(&changed);
    chelseru_tests::replace(&plugin("zarinpal.wasm"), &changed);
    let wanted = "cannot change its plugin from zarinpal to zarinpax while it has 1 open payments";
    let is_kept = |status: &Value| {
        let found = entry(status, "ZARINPAL_COM");
        found["state"] == "serving-old" && found["last_error"] == wanted && found["blake3"] == *digest
    };
    gateway.wait_for("the refusal", is_kept).await;
    assert_eq!(refusals(gateway, "ZARINPAL_COM").await, [format!("open payments: 1; {wanted}")]);
    let list =
        tokio::task::block_in_place(|| chelseru_tests::process::run(gateway.dir.path(), &["plugin", "list"]));
    let list = String::from_utf8(list.stdout).expect("text");
    assert!(list.contains(&format!("ZARINPAL_COM: last error: {wanted}")), "{list}");

    // A good file of another provider.
    let other = std::fs::read(plugin("kavenegar.wasm")).expect("installed");
    chelseru_tests::replace(&plugin("kavenegar.wasm"), &chelseru_tests::hostile::changed(&other, b'n'));
    let taken = |status: &Value| {
        let found = entry(status, "KAVENEGAR_COM");
        found["generation"] == 2 && found["state"] == "serving" && is_kept(status)
    };
    gateway.wait_for("the other provider's component", taken).await;
    // An edit of something else; `check` accepts it, too.
    let edited = format!("{}\n[log]\nlevel = \"error\"\n", street.config.trim_end());
    gateway.edit_config(&edited);
    let applied = |status: &Value| status["config"]["generation"] == 2 && is_kept(status);
    gateway.wait_for("the edit", applied).await;
    assert_eq!(gateway.app.live().config.log.level, chelseru::config::LogLevel::Error);
    let report = chelseru::cli::check_file(&gateway.config_file()).await.expect("accepted");
    let warned = |warning: &String| {
        warning.contains(wanted) && warning.contains("degraded: its last good version serves")
    };
    assert!(report.degraded && report.warnings.iter().any(warned), "{:?}", report.warnings);
    // An edit of the entry itself is refused: its settings may be meant for the other plugin.
    gateway.edit_config(
        &edited.replace("request_timeout_ms = 1500\n\n[provider.PAYPING_IR]", "[provider.PAYPING_IR]"),
    );
    let refused =
        |status: &Value| status["config"]["last_error"].as_str().is_some_and(|error| error.contains(wanted));
    gateway.wait_for("the refusal of the edit", refused).await;
    gateway.edit_config(&edited);
    gateway.wait_for("the edit taken back", |status| status["config"]["last_error"].is_null()).await;

    // A start gives them to nobody else, either.
    let Street { shop: Shop { gateway, login }, simulator, clock, config } = street;
    let kept = gateway.dir.path().join("data/cache/kept");
    let is_written = || {
        let names = std::fs::read_dir(&kept).expect("a folder").flatten();
        let mut names = names.filter_map(|file| file.file_name().into_string().ok());
        names.any(|name| name.ends_with(&format!("-{digest}.wasm")))
    };
    assert!(is_written(), "its component stays kept");
    let dir = gateway.stop().await;
    let gateway = TestGateway::start_in(dir, clock.clone()).await;
    let status = gateway.status().await;
    assert!(is_kept(&status) && status["plugins"]["degraded"] == true, "{status:#}");
    assert_eq!(entry(&status, "ZARINPAL_COM")["plugin"], "zarinpal");
    let ready = gateway.get("/ready/", None).await;
    assert_eq!((ready.status, &ready.body["status"]), (200, &json!("degraded")), "{ready:?}");
    assert_eq!(refusals(&gateway, "ZARINPAL_COM").await[0], wanted);
    assert!(is_written(), "its component stays kept");
    let street = Street { shop: Shop { gateway, login }, simulator, clock, config };
    street.simulator.pay(authority(&details));
    street.settles(&details).await;
    street.shop.check_ledger().await;

    // Once nothing is open, the next start takes the new one.
    let Street { shop: Shop { gateway, .. }, clock, .. } = street;
    let gateway = TestGateway::start_in(gateway.stop().await, clock).await;
    let found = gateway.provider("ZARINPAL_COM").await;
    assert_eq!((&found["plugin"], &found["state"]), (&json!("zarinpax"), &json!("serving")), "{found}");
}

/// A staff user reverses a payment: the gateway is asked, and asked again when its answer is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_given_back_by_asking_its_gateway() {
    let street = Street::open("ZARINPAL_COM").await;
    let shop = &street.shop;
    let pay = async || {
        let details = street.create(5000).await;
        street.simulator.pay(authority(&details));
        assert_eq!(is_pay(&street.zarinpal_back(&details, "OK").await), 1);
        details
    };
    let reverse = async |details: &Value, more: Value| {
        let mut body = json!({"to": "reverse"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        shop.post(&format!("/payment/{}/refund/", details["id"]), body).await
    };
    let seen = async |details: &Value| shop.get(&format!("/payment/{}/", details["id"])).await.body;
    let at_bank = |details: &Value| {
        let sessions = street.simulator.sessions();
        sessions.iter().find(|session| session.reference == authority(details)).expect("known").paid
    };

    let first = pay().await;
    let part = reverse(&first, json!({"amount": 4000})).await;
    assert_eq!((part.status, shop.balance().await), (400, json!(5000)), "{part:?}");
    let done = reverse(&first, json!({})).await;
    assert_eq!((done.status, &done.body["refund"]["to"]), (201, &json!("payer")), "{done:?}");
    assert_eq!(done.body["payment"]["reversal"]["state"], "done", "{done:?}");
    assert_eq!((at_bank(&first), shop.balance().await), (Paid::Returned, json!(0)));
    assert_eq!(seen(&first).await["state"], "refunded");
    assert_eq!(reverse(&first, json!({})).await.status, 409, "once");

    // Done, but the answer is lost: the wallet is debited, and the reconciler learns the rest.
    let second = pay().await;
    let lost = Fault::new("zarinpal", FaultKind::CutAfter).method("reverse").times(1);
    street.simulator.fault(lost).expect("a fault");
    let open = reverse(&second, json!({})).await;
    assert_eq!((open.status, shop.balance().await), (201, json!(0)), "{open:?}");
    assert_eq!(open.body["payment"]["reversal"]["state"], "open", "{open:?}");
    // Its gateway cannot be removed meanwhile.
    shop.gateway.edit_config(&street.without_zarinpal());
    let refused = |status: &Value| status["config"]["last_error"].to_string().contains("1 pending reversals");
    shop.gateway.wait_for("the refusal", refused).await;
    street.clock.advance(Duration::from_secs(60));
    let until = std::time::Instant::now() + chelseru_tests::PATIENCE;
    while seen(&second).await["reversal"]["state"] != "done" {
        assert!(std::time::Instant::now() < until, "{}", seen(&second).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let asked =
        |call: &str| street.simulator.requests().iter().filter(|request| request.call == call).count();
    assert_eq!((asked("reverse"), asked("inquiry")), (3, 1), "the second time it asks what became of it");

    // A refusal is reported, and the payer is owed the money.
    let third = pay().await;
    street.simulator.fault(Fault::code("zarinpal", -60).method("reverse").times(1)).expect("a fault");
    let no = reverse(&third, json!({})).await;
    let reversal = &no.body["payment"]["reversal"];
    assert_eq!((no.status, &reversal["state"], &reversal["reason"]), (201, &json!("refused"), &json!("-60")));
    assert_eq!((at_bank(&third), shop.balance().await), (Paid::Verified, json!(0)));

    // A late reversal, and a gateway that cannot reverse, are refused before anything is booked.
    let fourth = pay().await;
    street.clock.advance(Duration::from_secs(30 * 60));
    let late = reverse(&fourth, json!({})).await;
    assert_eq!((late.status, shop.balance().await), (400, json!(5000)), "{late:?}");
    assert!(late.text.contains("30 minutes"), "{late:?}");
    shop.check_ledger().await;
}

/// PayPing reverses payments that were created with its setting.
#[tokio::test(flavor = "multi_thread")]
async fn payping_gives_back_when_it_was_agreed_on() {
    for (setting, status, state) in [("false", 400, "paid"), ("true", 201, "refunded")] {
        let agreed = |config: String| {
            config.replace(
                "api_key = \"payping-token\"",
                &format!("api_key = \"payping-token\"\nreversible = {setting}"),
            )
        };
        let street = Street::open_with("PAYPING_IR", agreed).await;
        let details = street.create(5000).await;
        street.simulator.pay(authority(&details));
        assert_eq!(is_pay(&street.payping_back(&details).await), 1);
        let lost = Fault::new("payping", FaultKind::CutAfter).method("reverse").times(1);
        street.simulator.fault(lost).expect("a fault");
        let path = format!("/payment/{}/refund/", details["id"]);
        let answer = street.shop.post(&path, json!({"to": "reverse"})).await;
        assert_eq!(answer.status, status, "reversible = {setting}: {answer:?}");
        assert_eq!(street.shop.state(&details).await, state);
        if status == 201 {
            // The answer was lost; asking again reveals it.
            assert_eq!(answer.body["payment"]["reversal"]["state"], "open", "{answer:?}");
            street.clock.advance(Duration::from_secs(60));
            let until = std::time::Instant::now() + chelseru_tests::PATIENCE;
            let path = format!("/payment/{}/", details["id"]);
            while street.shop.get(&path).await.body["reversal"]["state"] != "done" {
                assert!(std::time::Instant::now() < until, "never done");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
