//! Wallets and payments.
//!
//! A wallet becomes one opening posting in whole rial. Payments become records that nothing changes any more, because
//! what they charged is inside the opening balances; unpaid ones that a bank may still take money for stay open, so
//! that the payers of the last minutes are credited when the bank says so.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::Timestamp;
use chelseru_domain::ids::UserId;
use chelseru_domain::money::payment::began_by;
use chelseru_domain::money::payment::gateway::{PaymentGateway, PaymentGateways};
use chelseru_domain::money::{Currency, ExactRial, Money, WholeRial};
use chelseru_store::{
    OpeningBalance, PayMode, Payment, PaymentId, PaymentReceipt, PaymentStart, PaymentState, Redirect,
    RedirectMethod,
};

use super::reader::Reader;
use super::report::{Report, UserMoney};
use super::source::{PAYMENTS, Row, WALLETS};
use super::target::{Batch, Target};
use super::users::People;

/// How long after its window a payment is still asked for, in windows: a payer may have paid in its last minute.
const WINDOWS_OPEN: u32 = 2;

/// What an import needs to know of money.
pub(super) struct MoneyRules<'a> {
    pub(super) unit: Currency,
    pub(super) allow_debt: bool,
    pub(super) now: Timestamp,
    /// The configured gateways; `None` when the configuration cannot serve.
    pub(super) gateways: Option<&'a dyn PaymentGateways>,
    /// Allowed beginnings of the addresses that payers are sent back to.
    pub(super) callback_urls: &'a [String],
}

/// What one user had and paid.
#[derive(Default)]
struct Had {
    wallet: ExactRial,
    paid: ExactRial,
    doubles: Vec<String>,
}

/// Imports wallets and payments.
///
/// Errors: a text that names table and row.
pub(super) fn import(
    reader: &Reader,
    target: &Target,
    report: &mut Report,
    people: &People,
    rules: &MoneyRules<'_>,
) -> Result<u64, String> {
    let mut users: HashMap<u64, Had> = HashMap::new();
    wallets(reader, target, report, people, rules, &mut users)?;
    let last = payments(reader, target, report, people, rules, &mut users)?;
    let mut money: Vec<UserMoney> = users
        .into_iter()
        .map(|(user, had)| UserMoney::new(user, rules.unit, had.wallet, had.paid, had.doubles))
        .collect();
    money.sort_unstable_by_key(|user| user.user);
    report.users = money;
    Ok(last)
}

fn wallets(
    reader: &Reader,
    target: &Target,
    report: &mut Report,
    people: &People,
    rules: &MoneyRules<'_>,
    users: &mut HashMap<u64, Had>,
) -> Result<(), String> {
    let (mut there, mut here, mut debts, mut rest) =
        <(ExactRial, ExactRial, ExactRial, ExactRial)>::default();
    let (mut batch, mut postings) = (Batch::new(), 0);
    let mut refused = Vec::new();
    let rows = reader.each(&WALLETS, |row| {
        let user = people.of(row, "user_id")?;
        let amount = amount(row, rules.unit)?;
        let WholeRial { rial, remainder } = amount.whole();
        there += amount;
        rest += remainder;
        users.entry(user.0).or_default().wallet += amount;
        if !remainder.is_zero() {
            let text = format!("{}: user {user} had {} rial, and {remainder} more", row.place(), rial);
            report.warn("parts of a rial that are not booked", text);
        }
        if rial == 0 {
            return Ok(());
        }
        if rial < 0 {
            debts += ExactRial::from_rial(-rial);
            let text = format!("{}: user {user} owes {} rial", row.place(), rial.unsigned_abs());
            match rules.allow_debt {
                true => report.warn("debts", text),
                false => refused.push(text),
            }
        } else {
            here += ExactRial::from_rial(rial);
        }
        postings += 1;
        let kind = if rial < 0 { "debt" } else { "wallet" };
        let key = format!("import:{kind}:{}", row.id("id")?);
        match batch.add(OpeningBalance { key, user, amount: rial, at: rules.now }) {
            Some(balances) => target.put(async |store| store.import_balances(balances).await.map(drop)),
            None => Ok(()),
        }
    })?;
    if let Some(first) = refused.first() {
        let more = refused.len() - 1;
        return Err(format!(
            "{first}, and {more} more wallets are negative; a wallet here never is: settle them first, or import with \
             --allow-debt, which books each as a debt and leaves the wallet empty"
        ));
    }
    let balances = batch.rest();
    target.put(async |store| store.import_balances(balances).await.map(drop))?;
    report.table(WALLETS.table, rows, rows);
    report.wallet_sums(there, here, debts, rest);
    report.money.opening_postings = postings;
    Ok(())
}

/// The amount of a row.
fn amount(row: &Row<'_>, unit: Currency) -> Result<ExactRial, String> {
    let text = row.decimal("amount")?;
    ExactRial::parse(&text, unit)
        .map_err(|error| format!("{}: amount is {text:?}, which {error}", row.place()))
}

fn payments(
    reader: &Reader,
    target: &Target,
    report: &mut Report,
    people: &People,
    rules: &MoneyRules<'_>,
    users: &mut HashMap<u64, Had>,
) -> Result<u64, String> {
    let last = reader.source.last_id(PAYMENTS.table)?;
    let (mut batch, mut here) = (Batch::new(), 0);
    let mut seen = Seen::default();
    let rows = reader.each(&PAYMENTS, |row| {
        let user = people.of(row, "user_id")?;
        let status = row.text("status")?;
        let exact = amount(row, rules.unit)?;
        let sum = report.money.payments.entry(status.clone()).or_default();
        sum.count += 1;
        sum.exact += exact;
        if status == "paid" && row.integer("pay_mode")? == 1 {
            let had = users.entry(user.0).or_default();
            had.paid += exact;
            had.doubles.extend(seen.double_of(row, user)?);
        }
        let Some(payment) = payment(reader, report, row, user, &status, rules)? else { return Ok(()) };
        here += 1;
        match batch.add(payment) {
            Some(payments) => target.put(async |store| store.import_payments(payments).await),
            None => Ok(()),
        }
    })?;
    for sum in report.money.payments.values_mut() {
        sum.sum = sum.exact.into();
    }
    let payments = batch.rest();
    target.put(async |store| store.import_payments(payments).await)?;
    report.table(PAYMENTS.table, rows, here);
    Ok(last)
}

/// Authorities and orders of paid payments, by hash.
#[derive(Default)]
struct Seen(HashMap<u64, u64>);

impl Seen {
    /// The payments that this one may repeat.
    fn double_of(&mut self, row: &Row<'_>, user: UserId) -> Result<Vec<String>, String> {
        let id = row.id("id")?;
        let gateway = row.maybe_text("gateway_title").unwrap_or_default();
        let mut doubles = Vec::new();
        for (what, text, owner) in [
            ("authority", row.maybe_text("authority").unwrap_or_default(), gateway),
            ("order", row.text("order_id")?, user.to_string()),
        ] {
            if text.is_empty() {
                continue;
            }
            let hash = blake3::hash(format!("{what}\0{owner}\0{text}").as_bytes());
            let key = u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("32 bytes begin with 8"));
            if let Some(first) = self.0.insert(key, id) {
                doubles.push(format!("payments {first} and {id} have one {what}"));
            }
        }
        Ok(doubles)
    }
}

/// A payment as it is kept here; `None` when it is left out, which the report then says.
fn payment(
    reader: &Reader,
    report: &mut Report,
    row: &Row<'_>,
    user: UserId,
    status: &str,
    rules: &MoneyRules<'_>,
) -> Result<Option<Payment>, String> {
    let currency = currency(report, row, rules.unit);
    let exact = amount(row, currency)?;
    let WholeRial { rial, remainder } = exact.whole();
    let amount = match u64::try_from(rial).ok().and_then(|rial| Money::from_rial(rial).ok()) {
        Some(amount) if remainder.is_zero() => amount.rial(),
        _ => {
            let why = format!("an amount of {exact} rial is no payment here (status {status})");
            report.left_out(row.place(), why);
            return Ok(None);
        }
    };
    let created_at = row.time("created_at", &reader.zone)?;
    let updated_at = row.time("updated_at", &reader.zone)?;
    // The original sent payers wherever a client said.
    let frontend_url = row
        .maybe_text("frontend_callback_url")
        .filter(|url| chelseru_config::payment_url_allowed(url, rules.callback_urls));
    let gateway = row.maybe_text("gateway_title").unwrap_or_else(|| "unknown".to_owned()).replace('\0', "");
    let mut payment = Payment {
        id: PaymentId(row.id("id")?),
        user,
        state: PaymentState::Failed,
        reason: "imported".to_owned(),
        amount,
        currency,
        mode: if row.integer("pay_mode")? == 1 { PayMode::Charge } else { PayMode::Direct },
        order: row.text("order_id")?,
        gateway,
        plugin: String::new(),
        description: row.text("description")?,
        callback_url: row.text("callback_url")?,
        frontend_url,
        created_at,
        window_ends_at: created_at,
        paid_at: None,
        ended_at: Some(updated_at),
        start: start(row),
        claims: Vec::new(),
        asked: false,
        attempts: 0,
        check_at: created_at,
        receipt: None,
        refunded: 0,
        refunds: 0,
        callback_key: String::new(),
        refusal: None,
        uncredited: false,
        late_question: false,
        imported: true,
    };
    match status {
        "paid" | "refounded" => {
            payment.state = if status == "paid" { PaymentState::Paid } else { PaymentState::Refunded };
            let paid_at = row.maybe_time("paid_at", &reader.zone).ok().flatten();
            payment.paid_at = Some(paid_at.unwrap_or(updated_at));
            payment.receipt = Some(receipt(row));
            if status == "refounded" {
                payment.refunded = amount;
            }
        }
        "canceled" => payment.state = PaymentState::Cancelled,
        "unpaid" => unpaid(report, row, rules, &mut payment),
        other => {
            report.warn(
                "payments with an unknown status: kept as failed",
                format!("{}: {other:?}", row.place()),
            );
        }
    }
    Ok(Some(payment))
}

/// An unpaid payment: open while its gateway may still take money for it, expired otherwise.
fn unpaid(report: &mut Report, row: &Row<'_>, rules: &MoneyRules<'_>, payment: &mut Payment) {
    payment.state = PaymentState::Expired;
    if payment.start.is_none() {
        // The gateway never knew it.
        payment.state = PaymentState::Failed;
        return;
    }
    let known: Option<Arc<dyn PaymentGateway>> =
        rules.gateways.and_then(|gateways| gateways.by_name(&payment.gateway));
    let Some(gateway) = known else {
        let age = rules.now.since(payment.created_at);
        if age < Duration::from_secs(24 * 60 * 60) {
            let minutes = age.as_secs() / 60;
            let text = format!("{}: {} minutes old, gateway {}", row.place(), minutes, payment.gateway);
            report.warn("unpaid payments of today whose gateway is not configured: kept as expired", text);
        }
        return;
    };
    let window = gateway.rules().window;
    if payment.created_at.plus(window.saturating_mul(WINDOWS_OPEN)) <= rules.now {
        return;
    }
    report.warn("unpaid payments that stay open until the gateway answers", row.place());
    payment.state = PaymentState::Pending;
    payment.reason = String::new();
    payment.imported = false;
    payment.ended_at = None;
    payment.plugin = began_by(gateway.as_ref());
    // The old program may have asked, and the gateway confirmed it.
    payment.asked = true;
    payment.window_ends_at = payment.created_at.plus(window);
    payment.check_at = rules.now;
}

/// The unit of a payment. The original took the client's word and defaulted to its setting.
fn currency(report: &mut Report, row: &Row<'_>, unit: Currency) -> Currency {
    let currency = match row.maybe_text("currency").as_deref().map(str::trim) {
        None | Some("") => unit,
        Some("IRT") => Currency::Irt,
        Some("IRR") => Currency::Irr,
        Some(other) => {
            report.warn(
                "payments in an unknown currency: taken as the unit",
                format!("{}: {other:?}", row.place()),
            );
            unit
        }
    };
    if currency != unit {
        report.warn("payments in the other unit: the wallet was charged with the number", row.place());
    }
    currency
}

fn start(row: &Row<'_>) -> Option<PaymentStart> {
    let reference = row.maybe_text("authority").filter(|reference| !reference.is_empty())?;
    let url = row.maybe_text("gateway_url").unwrap_or_default();
    let message = row.maybe_text("message").unwrap_or_default();
    Some(PaymentStart {
        reference,
        redirect: Redirect { method: RedirectMethod::Get, url, fields: Vec::new() },
        state: Vec::new(),
        message,
    })
}

fn receipt(row: &Row<'_>) -> PaymentReceipt {
    let text = |column: &str| row.maybe_text(column).unwrap_or_default();
    PaymentReceipt {
        number: text("ref_id"),
        card_pan: text("card_pan"),
        card_hash: text("card_hash"),
        fee_rial: None,
        code: text("status_code"),
        message: text("message"),
    }
}
