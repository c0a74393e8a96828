//! Fields, pages and failures shared by several money routes.

use std::fmt::Display;

use chelseru_domain::login::identity::Area;
use chelseru_domain::login::identity::Caller;
use chelseru_domain::money::wallet::{Actor, Role};
use chelseru_domain::money::{self, Currency, Money as Amount};
use http::StatusCode;
use serde_json::{Value, json};

use super::Money;
use crate::fields::{Fields, Text};
use crate::reply::{Failure, sentence};
use crate::request::Context;
use crate::route::{Field, Is};

pub(crate) const ORDER: Text = Text { chars_max: 64 };
pub(crate) const DESCRIPTION: Text = Text { chars_max: 255 };

/// Payments, or lines of a wallet, per page.
pub(crate) const PAGE: usize = 30;

pub(crate) const AMOUNT: Field = Field(
    "amount",
    Is::MayNumber,
    "An exact amount in the configured currency; the whole amount when absent.",
);

pub(crate) const CURRENCY: Field = Field(
    "currency",
    Is::MayText,
    "The unit of the amounts, as a check: IRT or IRR. Another unit is refused.",
);

const UNIT: Text = Text { chars_max: 10 };

/// Refuses a currency that is not the unit in which amounts are read.
pub(crate) fn check_currency(fields: &mut Fields, unit: Currency) {
    let name = money::currency_name(unit);
    if let Some(currency) = fields.given("currency", UNIT)
        && currency != name
    {
        let text = format!("\"{}\" is not a valid choice: amounts here are in {name}.", shown(&currency));
        fields.refuse("currency", text);
    }
}

/// An amount; `None` when absent, null or refused.
pub(crate) fn amount(fields: &mut Fields, unit: Currency) -> Option<Amount> {
    let text = fields.number_text("amount")?;
    match Amount::parse(&text, unit) {
        Ok(money) => Some(money),
        Err(error) => {
            fields.refuse("amount", sentence(&error));
            None
        }
    }
}

/// The caller with its role.
pub(crate) async fn actor(money: &Money, context: &Context, caller: &Caller) -> Result<Actor, Failure> {
    let user = caller.user_id;
    let staff = money.identity.is_staff(user, Area::Money).await.map_err(|error| failed(context, &error))?;
    Ok(Actor { user, role: if staff { Role::Staff } else { Role::Customer } })
}

/// 409: the wallet holds less.
pub(crate) fn overdraft(unit: Currency, available: u64) -> Failure {
    let body = json!({
        "detail": "The wallet holds less than this amount.",
        "available": money::to_json(available, unit),
        "currency": money::currency_name(unit),
    });
    Failure::object(StatusCode::CONFLICT, "insufficient_funds", body)
}

/// 409: one order is paid once. Names what paid it.
pub(crate) fn order_paid(kind: &'static str, id: u64) -> Failure {
    let text = format!("This order is paid by {kind} {id}.");
    Failure::object(StatusCode::CONFLICT, "order_paid", json!({"detail": text, kind: id}))
}

/// 409: a balance is limited to 63 bits.
pub(crate) fn too_large() -> Failure {
    Failure::detail(StatusCode::CONFLICT, "balance_too_large", "The balance would exceed its range.")
}

/// A provider's text as JSON: a number where it is one, as in the original.
pub(crate) fn number_or_text(text: &str) -> Value {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text && number.unsigned_abs() < 1 << 53 => number.into(),
        _ => text.into(),
    }
}

/// A client's text, shortened for an error.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Answers 500 and logs the cause.
pub(crate) fn failed(context: &Context, error: &dyn Display) -> Failure {
    tracing::error!(request.id = %context.id, %error, "the store failed to answer");
    Failure::internal()
}
