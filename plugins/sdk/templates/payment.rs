//! TITLE: what is asked where, and the page that says so.
//!
//! Replace what belongs to "Acme" by your provider; the rest is how every plugin looks. Amounts are whole rial; a
//! provider that counts toman has `unit_rial: 10` in its rules and gets a tenth.

use chelseru_plugin_sdk::callback::Fields;
use chelseru_plugin_sdk::http::{Answer, Request};
use chelseru_plugin_sdk::json::Object;
use chelseru_plugin_sdk::payment::{
    Callback, Claim, Order, Receipt, Redirect, Rules, Started, Stored, Unconfirmed, Verdict,
};
use chelseru_plugin_sdk::{
    Context, Description, Error, Payment, Plugin, Rejection, Setting, encode, export_payment,
};

/// The provider.
pub struct Acme;

// With what else it can do: export_payment!(Acme: unverified, reverse, inquiry);
export_payment!(Acme);

impl Plugin for Acme {
    fn describe() -> Description {
        Description::new("acme", env!("CARGO_PKG_VERSION"), "Acme payments.")
            .setting(Setting::secret("api_key", "From acme.example, page API."))
            .base_url("https://api.acme.example", 15_000)
            .payer_url()
    }
}

impl Payment for Acme {
    fn rules(_: &dyn Context) -> Rules {
        Rules {
            amount_min: 10_000,
            amount_max: 500_000_000,
            unit_rial: 1,
            window_seconds: 20 * 60,
            unconfirmed: Unconfirmed::ReturnedAfter(30 * 60),
            reverse_seconds: 0,
            already_code: "confirmed-before".to_owned(),
        }
    }

    fn create(context: &dyn Context, order: Order) -> Result<Started, Error> {
        let body = Object::new()
            .number("amount", order.amount_rial)
            .text("callback", &order.callback_url)
            .text("description", &order.description)
            .text("id", &order.local_id.to_string());
        let answer = request(context, "/payments", body)?;
        if !answer.is_success() {
            return Err(failure(&answer));
        }
        let reference = answer.json()?.get("reference").text().to_owned();
        if reference.is_empty() {
            return Err(answer.unclear_because("no reference"));
        }
        let url = [&context.payer_url()?, "/pay/", &encode::segment(&reference)].concat();
        Ok(Started { reference, redirect: Redirect::Get(url), state: Vec::new(), message: String::new() })
    }

    /// Only a claim: nobody signs it. It says which payment to verify, never that it is paid.
    fn decode_callback(callback: &Callback) -> Option<Claim> {
        let fields = Fields::read(callback);
        let reference = Some(fields.get("reference")).filter(|text| !text.is_empty())?.to_owned();
        let cancelled = fields.get("status") == "cancelled";
        Some(Claim { reference, cancelled, receipt: None, data: Vec::new() })
    }

    fn verify(context: &dyn Context, payment: Stored, _: Option<Claim>) -> Result<Verdict, Error> {
        let body = Object::new().text("reference", &payment.reference).number("amount", payment.amount_rial);
        let answer = request(context, "/payments/confirm", body)?;
        if !answer.is_success() {
            return Err(failure(&answer));
        }
        let node = answer.json()?;
        let status = node.get("status").text();
        let refused = || Rejection::new(status, "");
        match status {
            "confirmed" | "confirmed-before" => {}
            // Only what nobody can pay any more is cancelled or failed; everything else is asked about again.
            "cancelled" => return Ok(Verdict::Cancelled(refused())),
            "failed" => return Ok(Verdict::Failed(refused())),
            "open" => return Ok(Verdict::NotPaid(refused())),
            "waiting" => return Ok(Verdict::Pending(answer.retry_after_secs())),
            _ => return Err(answer.unclear_because("a status nobody described")),
        }
        // An answer about something else is no answer about this payment.
        if node.get("reference").text() != payment.reference {
            return Ok(Verdict::Mismatch("reference".to_owned()));
        }
        if node.get("amount").integer().and_then(|amount| u64::try_from(amount).ok())
            != Some(payment.amount_rial)
        {
            return Ok(Verdict::Mismatch("amount".to_owned()));
        }
        let receipt = Receipt {
            number: node.get("receipt").text().to_owned(),
            card_pan: String::new(),
            card_hash: String::new(),
            fee_rial: None,
            amount_rial: Some(payment.amount_rial),
            code: status.to_owned(),
            text: String::new(),
        };
        if receipt.number.is_empty() {
            return Err(answer.unclear_because("no receipt"));
        }
        Ok(if status == "confirmed" { Verdict::Paid(receipt) } else { Verdict::PaidBefore(receipt) })
    }
}

fn request(context: &dyn Context, path: &str, body: Object) -> Result<Answer, Error> {
    let key = context.required("api_key")?;
    Request::post([&context.base_url()?, path].concat()).header("authorization", &key).json(body).act(context)
}

/// The provider's own refusal keeps its code, text and field; for any other answer the HTTP status decides.
fn failure(answer: &Answer) -> Error {
    let node = answer.json().unwrap_or_default();
    let error = node.get("error");
    match error.get("code").text() {
        "" => answer.unclear(),
        "bad-key" => Error::unauthorized("bad-key", error.get("text").text()),
        code => Error::rejected_field(code, error.get("text").text(), error.get("field").text()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chelseru_plugin_sdk::testing::{self, Script};

    fn verdict(status: u16, body: &str) -> Result<Verdict, Error> {
        let script = Script::for_plugin::<Acme>().setting("api_key", "k").reply(status, body);
        let payment = Stored {
            local_id: 1,
            reference: "A-1".to_owned(),
            amount_rial: 50_000,
            order: String::new(),
            state: Vec::new(),
        };
        Acme::verify(&script, payment, None)
    }

    #[test]
    fn the_description_obeys_the_rules() {
        testing::check_description::<Acme>();
    }

    #[test]
    fn only_an_explicit_success_about_this_payment_is_paid() {
        let paid = r#"{"status":"confirmed","reference":"A-1","amount":50000,"receipt":"9"}"#;
        assert!(matches!(verdict(200, paid), Ok(Verdict::Paid(_))));
        let other = paid.replace("50000", "50");
        assert!(matches!(verdict(200, &other), Ok(Verdict::Mismatch(field)) if field == "amount"));
        for text in testing::truncations(paid) {
            let script = Script::for_plugin::<Acme>().setting("api_key", "k").reply(200, text);
            let payment = Stored {
                local_id: 1,
                reference: "A-1".to_owned(),
                amount_rial: 50_000,
                order: String::new(),
                state: Vec::new(),
            };
            assert!(!matches!(Acme::verify(&script, payment, None), Ok(Verdict::Paid(_))));
        }
        assert!(matches!(verdict(500, ""), Err(Error::UnknownOutcome(_))));
        assert!(matches!(verdict(404, "<html>"), Err(Error::Unavailable(_))));
        let own = r#"{"error":{"code":"amount-low","text":"too small","field":"amount"}}"#;
        assert!(matches!(verdict(400, own), Err(Error::Rejected(r)) if r.field.as_deref() == Some("amount")));
    }
}
