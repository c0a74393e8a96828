//! What an import did, as text for people and as JSON for programs.
//!
//! Invariants: every row of the source is counted, and is either here or listed as left out with its reason; the sums
//! of money are exact in both units, parts of a rial included.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use chelseru_domain::money::{Currency, ExactRial, WholeRial, currency_name};
use serde::Serialize;

/// Lines of one kind that the text shows; the JSON has all of them.
const SHOWN_MAX: usize = 100;

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) source: String,
    pub(crate) source_kind: &'static str,
    /// BLAKE3 over every row that was read, in the order of reading.
    pub(crate) source_digest: String,
    pub(crate) dry_run: bool,
    pub(crate) unit: &'static str,
    pub(crate) time_zone: String,
    pub(crate) started_at: String,
    pub(crate) seconds: f64,
    pub(crate) version: &'static str,
    pub(crate) tables: Vec<TableCount>,
    pub(crate) left_out: Vec<LeftOut>,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) money: MoneySums,
    pub(crate) users: Vec<UserMoney>,
    /// Sentences on how what the source does not say was decided.
    pub(crate) rules: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct TableCount {
    pub(crate) table: String,
    pub(crate) there: u64,
    pub(crate) here: u64,
    pub(crate) left_out: u64,
    /// Why none of the table's rows was imported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct LeftOut {
    pub(crate) row: String,
    pub(crate) why: String,
}

/// Something to look at, with the rows it is about.
#[derive(Debug, Serialize)]
pub(crate) struct Warning {
    pub(crate) kind: &'static str,
    pub(crate) count: usize,
    pub(crate) rows: Vec<String>,
}

/// A sum in both units, with parts of a rial.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Sum {
    #[serde(rename = "IRT")]
    pub(crate) irt: String,
    #[serde(rename = "IRR")]
    pub(crate) irr: String,
}

impl From<ExactRial> for Sum {
    fn from(sum: ExactRial) -> Sum {
        Sum { irt: sum.in_unit(Currency::Irt), irr: sum.in_unit(Currency::Irr) }
    }
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct MoneySums {
    pub(crate) wallets_there: Sum,
    /// Credited to wallets here.
    pub(crate) wallets_here: Sum,
    /// Booked as debts here, as a positive sum.
    pub(crate) debts_here: Sum,
    /// Parts of a rial that no wallet has.
    pub(crate) remainders: Sum,
    /// Wallets there = wallets here - debts here + remainders.
    pub(crate) adds_up: bool,
    pub(crate) opening_postings: u64,
    /// Payments by their state there: number and sum.
    pub(crate) payments: BTreeMap<String, PaymentSum>,
    /// The hash of the ledger's last posting.
    pub(crate) ledger_head: String,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct PaymentSum {
    pub(crate) count: u64,
    pub(crate) sum: Sum,
    #[serde(skip)]
    pub(crate) exact: ExactRial,
}

/// One user's wallet beside what charged it.
#[derive(Debug, Serialize)]
pub(crate) struct UserMoney {
    pub(crate) user: u64,
    pub(crate) wallet_there: String,
    pub(crate) wallet_rial: i64,
    /// What the source's remainder below a rial is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) remainder_rial: String,
    /// Sum of the paid payments that charge the wallet.
    pub(crate) paid_there: String,
    /// Wallet less payments: what was spent (negative) or came otherwise.
    pub(crate) difference: String,
    /// Paid payments with an authority or order that another paid payment of the user has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) probable_double_credits: Vec<String>,
    #[serde(skip)]
    pub(crate) differs: bool,
}

impl Report {
    pub(crate) fn left_out(&mut self, row: String, why: impl Into<String>) {
        self.left_out.push(LeftOut { row, why: why.into() });
    }

    pub(crate) fn warn(&mut self, kind: &'static str, row: String) {
        match self.warnings.iter_mut().find(|warning| warning.kind == kind) {
            Some(warning) => {
                warning.count += 1;
                warning.rows.push(row);
            }
            None => self.warnings.push(Warning { kind, count: 1, rows: vec![row] }),
        }
    }

    /// Counts a table: rows there, rows here. The rest was left out.
    pub(crate) fn table(&mut self, table: &str, there: u64, here: u64) {
        let left_out = there.saturating_sub(here);
        self.tables.push(TableCount { table: table.to_owned(), there, here, left_out, reason: None });
    }

    /// Counts a table that is not imported.
    pub(crate) fn not_imported(&mut self, table: &str, there: u64, reason: &'static str) {
        let (table, reason) = (table.to_owned(), Some(reason));
        self.tables.push(TableCount { table, there, here: 0, left_out: there, reason });
    }

    /// Writes the report as JSON. It may be large, so it is never one text.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub(crate) fn write_json(&self, mut out: impl io::Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut out, self)?;
        out.write_all(b"\n")?;
        out.flush()
    }

    /// The report for people.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        self.write_text(&mut out).expect("a text takes everything");
        out
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let mode = if self.dry_run { " (dry run: nothing was stored)" } else { "" };
        writeln!(out, "Import from django-chelseru{mode}")?;
        writeln!(out, "  source    {}: {}", self.source_kind, self.source)?;
        writeln!(out, "  digest    {}", self.source_digest)?;
        writeln!(out, "  started   {}, took {:.1} s", self.started_at, self.seconds)?;
        writeln!(out, "  unit      {}, times without a zone are of {}", self.unit, self.time_zone)?;
        writeln!(out, "\nRows")?;
        writeln!(out, "  {:<42}{:>10}{:>10}{:>10}", "table", "there", "here", "left out")?;
        for TableCount { table, there, here, left_out, reason } in &self.tables {
            let reason = reason.map(|reason| format!("  {reason}")).unwrap_or_default();
            writeln!(out, "  {table:<42}{there:>10}{here:>10}{left_out:>10}{reason}")?;
        }
        self.write_money(out)?;
        if !self.warnings.is_empty() {
            writeln!(out, "\nTo look at")?;
        }
        for Warning { kind, count, rows } in &self.warnings {
            writeln!(out, "  {kind}: {count}")?;
            for row in rows.iter().take(SHOWN_MAX) {
                writeln!(out, "    {row}")?;
            }
            write_rest(out, rows.len())?;
        }
        if !self.left_out.is_empty() {
            writeln!(out, "\nLeft out")?;
        }
        for LeftOut { row, why } in self.left_out.iter().take(SHOWN_MAX) {
            writeln!(out, "  {row}: {why}")?;
        }
        write_rest(out, self.left_out.len())?;
        writeln!(out, "\nRules")?;
        for rule in &self.rules {
            writeln!(out, "  {rule}")?;
        }
        Ok(())
    }

    fn write_money(&self, out: &mut String) -> std::fmt::Result {
        let money = &self.money;
        writeln!(out, "\nMoney")?;
        writeln!(out, "  {:<30}{:>26}{:>26}", "", "toman", "rial")?;
        for (name, sum) in [
            ("wallets there", &money.wallets_there),
            ("wallets here", &money.wallets_here),
            ("debts here", &money.debts_here),
            ("parts of a rial, not booked", &money.remainders),
        ] {
            writeln!(out, "  {name:<30}{:>26}{:>26}", sum.irt, sum.irr)?;
        }
        for (state, payments) in &money.payments {
            let name = format!("{} payments {state}", payments.count);
            writeln!(out, "  {name:<30}{:>26}{:>26}", payments.sum.irt, payments.sum.irr)?;
        }
        let verdict = if money.adds_up { "adds up" } else { "DOES NOT ADD UP" };
        writeln!(out, "  wallets there = wallets here - debts here + parts of a rial: {verdict}")?;
        writeln!(out, "  {} opening postings, last hash {}", money.opening_postings, money.ledger_head)?;
        let shown: Vec<&UserMoney> = match self.users.len() <= SHOWN_MAX {
            true => self.users.iter().collect(),
            false => self.users.iter().filter(|user| user.differs).collect(),
        };
        writeln!(out, "\nUsers with money, in {}", self.unit)?;
        writeln!(out, "  {:>10}{:>24}{:>24}{:>24}", "user", "wallet", "paid in", "difference")?;
        for user in shown.iter().take(SHOWN_MAX) {
            let UserMoney { user, wallet_there, paid_there, difference, probable_double_credits, .. } = user;
            let double = match probable_double_credits.is_empty() {
                true => String::new(),
                false => format!("  probable double credit: {}", probable_double_credits.join(", ")),
            };
            writeln!(out, "  {user:>10}{wallet_there:>24}{paid_there:>24}{difference:>24}{double}")?;
        }
        write_rest(out, shown.len())
    }

    /// Fills the sums of wallets.
    pub(crate) fn wallet_sums(
        &mut self,
        there: ExactRial,
        wallets: ExactRial,
        debts: ExactRial,
        rest: ExactRial,
    ) {
        self.money.adds_up = there == wallets - debts + rest;
        self.money.wallets_there = there.into();
        self.money.wallets_here = wallets.into();
        self.money.debts_here = debts.into();
        self.money.remainders = rest.into();
    }
}

impl UserMoney {
    pub(crate) fn new(
        user: u64,
        unit: Currency,
        wallet: ExactRial,
        paid: ExactRial,
        probable_double_credits: Vec<String>,
    ) -> UserMoney {
        let WholeRial { rial, remainder } = wallet.whole();
        let difference = wallet - paid;
        UserMoney {
            user,
            wallet_there: wallet.in_unit(unit),
            wallet_rial: rial,
            remainder_rial: if remainder.is_zero() { String::new() } else { remainder.to_string() },
            paid_there: paid.in_unit(unit),
            difference: difference.in_unit(unit),
            differs: !difference.is_zero() || !probable_double_credits.is_empty(),
            probable_double_credits,
        }
    }
}

/// The name of a unit as the report shows it.
pub(crate) fn unit_name(unit: Currency) -> &'static str {
    currency_name(unit)
}

fn write_rest(out: &mut String, count: usize) -> std::fmt::Result {
    match count.checked_sub(SHOWN_MAX) {
        Some(more) if more > 0 => writeln!(out, "    and {more} more: see the JSON report"),
        _ => Ok(()),
    }
}
