//! Replays recorded requests about payments at Zarinpal and PayPing; see `contract` for the method.
//!
//! A recorded authority stands for a payment of ours, created when it is first named, in the state of the recording.
//! An answer matches when its status matches, when every key of the original is present (ours may add some), and when
//! it agrees about being paid. Intended differences are in [`DIFFERENCES`].

use std::collections::BTreeMap;

use chelseru_simulator::{Fault, FaultKind};
use chelseru_tests::Answer;
use serde_json::{Value, json};

use crate::gateways::Street;
use crate::recorded::{self, Case, Difference, Verdict};

pub(crate) const DIFFERENCES: &[Difference] = &[
    ("payment_create.amount_text_500", 400, "27: a text amount was a crash"),
    ("payment_create.amount_null_500", 400, "27: a text amount was a crash"),
    ("payment_create.amount_negative", 400, "16: any amount was taken"),
    ("payment_create.amount_zero", 400, "16: any amount was taken"),
    ("payment_create.bad_pay_mode_text", 400, "16: pay_mode was not checked"),
    ("payment_create.unknown_pay_mode_99", 400, "16: pay_mode was not checked"),
    ("payment_create.callback_not_a_url", 400, "22: payers were sent anywhere"),
    ("payment_create.body_array", 400, "a list is no body, on every route"),
    ("payment_create.gateway_error_in_200", 502, "21: a gateway's failure was a 200"),
    ("payment_create.gateway_http_422", 502, "21: a gateway's failure was a 200"),
    ("payment_create.gateway_down", 502, "21: a gateway's failure was a 200"),
    ("payment_create.gateway_html", 502, "21: a gateway's failure was a 200"),
    ("payment_create.gateway_no_authority", 502, "21: payers were sent to StartPay/None"),
    ("payment_create.currency_from_client", 400, "16: the client chose the unit of the same number"),
    ("payment_verify_get.only_authority", 200, "some banks send payers back without a status"),
    ("payment_verify_get.open_redirect_302", 200, "22: such a payment cannot be made"),
    ("payment_verify_get.redirect_javascript", 200, "22: such a payment cannot be made"),
    ("payment_verify_post.json_body_many_null_rows_500", 404, "19: JSON was not read"),
    (
        "payment_verify_post.anonymous_empty_json_hits_null_row",
        404,
        "19: a body without a reference selected a failed payment",
    ),
    ("payment_create.payping_400", 502, "21: a gateway's failure was a 200"),
    ("payment_create.payping_401", 502, "21: a gateway's failure was a 200"),
    ("payment_create.payping_403", 502, "21: a gateway's failure was a 200"),
    ("payment_create.payping_404", 502, "21: a gateway's failure was a 200"),
    ("payment_create.payping_500", 502, "21: a gateway's failure was a 200"),
    ("payment_create.payping_503", 502, "21: a gateway's failure was a 200"),
    ("payment_create.payping_401_empty_body_500", 502, "20: an empty answer was a crash"),
    (
        "payment_create.payping_429_unlisted",
        503,
        "21: a gateway's failure was a 200; a limit says when to retry",
    ),
    ("payment_create.payping_down_500", 502, "20: a gateway that is down was a crash"),
    ("payment_verify_post.payping_real_v3_callback_shape", 200, "20: the real callback was not understood"),
    (
        "payment_verify_post.payping_real_v3_callback_shape_no_null_rows",
        200,
        "20: the real callback was not understood",
    ),
    ("payment_verify_post.payping_json_as_in_readme", 200, "19: JSON was not read"),
    ("payment_verify_post.payping_502_html_500", 200, "20: an answer that is no JSON was a crash"),
    ("payment_verify_post.payping_amount_mismatch_not_checked", 200, "18: amount and code were not compared"),
];

/// A replay, and the payments its recording names.
struct Replay {
    street: Street,
    /// Recorded authority -> ours.
    payments: BTreeMap<String, String>,
    /// Authorities that were paid in the recording.
    paid: Vec<String>,
}

impl Replay {
    async fn open(gateway: &str, cases: &[Case]) -> Replay {
        let street = Street::open_with(gateway, |config| {
            let urls = "callback_url = \"http://shop.example/drfchelseru/payment/verify/\"\n\
                        callback_urls = [\"http://example.com/callback\", \"https://app.example/done\"]";
            config.replace("callback_urls = [\"https://shop.example/pay\"]", urls)
        })
        .await;
        let said_paid = |case: &&Case| {
            let location = case.response["headers"]["location"].as_str().unwrap_or_default();
            case.response["body"]["details"]["is_pay"] == 1 || location.contains("status=paid")
        };
        let paid = cases.iter().filter(said_paid).flat_map(|case| authorities(&case.request)).collect();
        Replay { street, payments: BTreeMap::new(), paid }
    }

    /// Our payment for a recorded authority, paid if the recording's was.
    async fn payment(&mut self, case: &Case, recorded: &str) -> String {
        // Between these cases the recording reset its one payment.
        let again = fault(&case.name).is_some()
            || case.name.contains("mismatch")
            || case.name.ends_with("payping_get");
        if let Some(known) = self.payments.get(recorded).filter(|_| !again) {
            return known.clone();
        }
        let mut order = json!({"amount": 1000});
        let location = case.response["headers"]["location"].as_str().unwrap_or_default();
        if location.starts_with("https://app.example/") {
            let target = location.split("?status").next().unwrap_or_default();
            order["frontend_callback_url"] = target.into();
            order["order_id"] = if case.name.ends_with("with_query") { "o-2" } else { "o-3" }.into();
        }
        let details = self.street.shop.create(order).await;
        let ours = details["authority"].as_str().expect("text").to_owned();
        if self.paid.iter().any(|paid| paid == recorded) || case.name.contains("payping") {
            assert!(self.street.simulator.pay(&ours));
        }
        self.payments.insert(recorded.to_owned(), ours.clone());
        ours
    }

    async fn send(&mut self, case: &Case) -> Answer {
        let mut text = case.request.to_string();
        // The authority of a recording, wherever it occurs.
        if !case.name.starts_with("payment_create") {
            for recorded in authorities(&case.request) {
                let ours = self.payment(case, &recorded).await;
                text = text.replace(&recorded, &ours);
            }
        }
        let mut request: Value = serde_json::from_str(&text).expect("JSON");
        // The payer's browser returns to the address that the bank got, with the payment's key.
        if let Some(ours) = self.payments.values().find(|ours| text.contains(ours.as_str())) {
            let back = self.street.simulator.callback_url(ours).expect("known to the bank");
            let path = request["path"].as_str().expect("a path");
            let joint = if path.contains('?') { '&' } else { '?' };
            request["path"] = format!("{path}{joint}{}", back.split_once('?').expect("a key").1).into();
        }
        let body = &mut request["body"];
        // Receipt numbers belong to the bank.
        let receipt = |reference: &str| {
            let sessions = self.street.simulator.sessions();
            sessions
                .iter()
                .find(|session| session.reference == reference)
                .map(|session| session.receipt.to_string())
        };
        if let Some(form) = body.get_mut("form").and_then(Value::as_object_mut) {
            let code = form.get("paymentCode").and_then(Value::as_str).and_then(&receipt);
            if let Some(receipt) = code {
                form.insert("paymentRefId".into(), receipt.into());
            }
            if let Some(mut data) = form
                .get("data")
                .and_then(Value::as_str)
                .and_then(|data| serde_json::from_str::<Value>(data).ok())
            {
                if let Some(receipt) = data["paymentCode"].as_str().and_then(&receipt) {
                    data["paymentRefId"] = receipt.parse::<u64>().expect("a number").into();
                }
                form.insert("data".into(), data.to_string().into());
            }
        } else if let Some(receipt) = body.get("paymentCode").and_then(Value::as_str).and_then(&receipt) {
            body["paymentRefId"] = receipt.into();
        }
        let shop = &self.street.shop;
        Answer::of(recorded::request(&shop.gateway, &request, Some(&shop.login.access))).await
    }
}

/// The gateways' ids of payments in a recorded request.
fn authorities(request: &Value) -> Vec<String> {
    let text = request.to_string();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let named = words.filter(|word| word.len() > 20 && (word.starts_with("A0") || word.starts_with("PP0")));
    let mut named: Vec<String> = named.map(str::to_owned).collect();
    named.dedup();
    named
}

/// The gateway's fault in a recorded case.
fn fault(name: &str) -> Option<Fault> {
    let status = |provider: &str, code: u16| Fault::status(provider, code);
    Some(match name {
        "payment_create.gateway_error_in_200" => Fault::code("zarinpal", -9),
        "payment_create.gateway_http_422" | "payment_verify_get.gateway_422" => status("zarinpal", 422),
        "payment_create.gateway_down" | "payment_verify_get.gateway_down" => {
            Fault::new("zarinpal", FaultKind::CutBefore)
        }
        "payment_create.gateway_html" => Fault::new("zarinpal", FaultKind::Html),
        "payment_create.gateway_no_authority" => {
            let body = Some(r#"{"data":{"code":100,"message":"Success"},"errors":[]}"#.to_owned());
            Fault::new("zarinpal", FaultKind::Status { code: 200, body })
        }
        "payment_create.payping_400" | "payment_verify_post.payping_400" => Fault::code("payping", 101),
        "payment_create.payping_down_500" => Fault::new("payping", FaultKind::CutBefore),
        "payment_verify_post.payping_502_html_500" => {
            Fault::new("payping", FaultKind::Status { code: 502, body: Some("<html>".into()) })
        }
        _ => {
            let code = name.rsplit_once("payping_")?.1.get(..3)?.parse().ok()?;
            status("payping", code)
        }
    })
}

fn difference(recorded: &Value, answer: &Answer) -> Option<String> {
    if let Some(found) = recorded::status_difference(recorded, answer) {
        return Some(found);
    }
    if let Some(location) = recorded["headers"]["location"].as_str() {
        // Authority and receipt belong to the bank; the rest of the original's query comes first, unchanged.
        let names = |url: &str| -> Vec<String> {
            let query = url.rsplit_once('?').map_or("", |(_, query)| query);
            query.split('&').map(|pair| pair.split('=').next().unwrap_or_default().to_owned()).collect()
        };
        let (old, ours) = (names(location), names(answer.header("location")));
        return (!old.iter().all(|name| ours.contains(name))).then(|| format!("{old:?} became {ours:?}"));
    }
    let (old, ours) = (&recorded["body"], &answer.body);
    for (key, value) in old.as_object().into_iter().flatten() {
        let Some(our) = ours.get(key) else { return Some(format!("{key} is missing")) };
        for (inner, value) in value.as_object().into_iter().flatten() {
            match our.get(inner) {
                None => return Some(format!("{key}.{inner} is missing")),
                Some(our) if inner == "is_pay" && our != value => {
                    return Some(format!("is_pay {value} became {our}"));
                }
                _ => {}
            }
        }
        if value.is_string() && key != "detail" && value != our {
            return Some(format!("{key}: {value} became {our}"));
        }
    }
    None
}

async fn replay(gateway: &str, group: &str, at_least: usize) {
    let mut cases = recorded::cases(&["/drfchelseru/payment/"]);
    cases.retain(|case| case.group == group);
    let mut replay = Replay::open(gateway, &cases).await;
    let mut verdict = Verdict::new(DIFFERENCES);
    for case in &cases {
        replay.street.simulator.faults_clear();
        replay.street.simulator.settings(|settings| {
            settings.payping.wrong_amount =
                case.name == "payment_verify_post.payping_amount_mismatch_not_checked";
        });
        // The payment of a fault must exist before the fault.
        if let Some(fault) = fault(&case.name) {
            let call = match (gateway, case.name.starts_with("payment_create")) {
                ("ZARINPAL_COM", true) => "request",
                (_, true) => "pay",
                _ => "verify",
            };
            // A form's receipt is asked about first, and then none.
            let times = if case.name.starts_with("payment_verify_post.payping") { 2 } else { 1 };
            replay.street.simulator.fault(fault.method(call).times(times)).expect("a fault");
        }
        let answer = replay.send(case).await;
        verdict.judge(case, difference(&case.response, &answer), &answer);
        if case.name.contains("429") {
            // The limit applies to that gateway only, and the next case concerns another.
            replay.street.shop.check_ledger().await;
            replay = Replay::open(gateway, &cases).await;
        }
    }
    verdict.end(at_least);
    replay.street.shop.check_ledger().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_zarinpal_requests_are_answered_as_the_original_did() {
    replay("ZARINPAL_COM", "zarinpal", 45).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_payping_requests_are_answered_as_the_original_did() {
    replay("PAYPING_IR", "payping", 20).await;
}
