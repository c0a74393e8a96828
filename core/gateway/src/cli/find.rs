//! `chelseru user list --search`, `payment list`, `session list`: what `operator/v1` of the running gateway finds.

use std::path::Path;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use super::ask::{Running, Way, open};

/// Rows printed unless `--limit` says otherwise.
const LIMIT_DEFAULT: usize = 100;

#[derive(Subcommand)]
pub(crate) enum PaymentCommand {
    /// List payments, newest first.
    List(Payments),
}

#[derive(Subcommand)]
pub(crate) enum SessionCommand {
    /// List sessions, those of the newest account first.
    List(Sessions),
}

#[derive(Args)]
pub(crate) struct Payments {
    /// A phone number, a user name or an account number.
    #[arg(long)]
    user: Option<String>,
    /// created, pending, paid, failed, cancelled, expired or refunded.
    #[arg(long)]
    state: Option<String>,
    #[arg(long)]
    order: Option<String>,
    /// Made on this day or later: 2026-11-26 or 1405/09/05.
    #[arg(long)]
    from: Option<String>,
    /// Made before this day.
    #[arg(long)]
    until: Option<String>,
    #[command(flatten)]
    print: Print,
}

#[derive(Args)]
pub(crate) struct Sessions {
    /// A phone number, a user name or an account number.
    #[arg(long)]
    user: Option<String>,
    /// The beginning of the address.
    #[arg(long)]
    address: Option<String>,
    /// A part of the device's name or of the user agent.
    #[arg(long)]
    device: Option<String>,
    #[command(flatten)]
    print: Print,
}

#[derive(Args)]
pub(crate) struct Print {
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
    /// Print at most so many.
    #[arg(long, default_value_t = LIMIT_DEFAULT)]
    limit: usize,
}

/// A column: its title, its field, and its width.
type Column = (&'static str, &'static str, usize);

const PAYMENT: &[Column] = &[
    ("ID", "id", 8),
    ("STATE", "state", 9),
    ("RIAL", "amount_rial", 12),
    ("USER", "user", 8),
    ("GATEWAY", "gateway_title", 16),
    ("CREATED", "created_at", 27),
    ("ORDER", "order_id", 0),
];
const SESSION: &[Column] = &[
    ("ID", "id", 8),
    ("USER", "user", 8),
    ("ADDRESS", "ip_address", 39),
    ("LAST SEEN", "last_seen", 27),
    ("USER AGENT", "user_agent", 0),
];
const USER: &[Column] = &[
    ("ID", "id", 8),
    ("NUMBER", "mobile_number", 13),
    ("ACTIVE", "is_active", 6),
    ("JOINED", "date_joined", 27),
    ("USERNAME", "username", 0),
];

pub(crate) async fn payments(config_file: &Path, wanted: &Payments) -> Result<(), String> {
    let Payments { user, state, order, from, until, print } = wanted;
    let filters = [("user", user), ("state", state), ("order", order), ("from", from), ("until", until)];
    found(config_file, "payments", &filters, PAYMENT, print).await
}

pub(crate) async fn sessions(config_file: &Path, wanted: &Sessions) -> Result<(), String> {
    let Sessions { user, address, device, print } = wanted;
    let filters = [("user", user), ("address", address), ("device", device)];
    found(config_file, "sessions", &filters, SESSION, print).await
}

pub(crate) async fn users(config_file: &Path, search: &str, json: bool) -> Result<(), String> {
    let print = Print { json, limit: LIMIT_DEFAULT };
    found(config_file, "users", &[("search", &Some(search.to_owned()))], USER, &print).await
}

/// Prints a list page by page. What more there is is said on standard error.
async fn found(
    config_file: &Path,
    list: &str,
    filters: &[(&str, &Option<String>)],
    columns: &[Column],
    print: &Print,
) -> Result<(), String> {
    let gateway: Box<Running> = match open(config_file).await? {
        Way::Gateway(gateway) => gateway,
        Way::Store(store) => {
            store.close();
            return Err(
                "no gateway runs with this configuration; start it, because it is what searches".into()
            );
        }
    };
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in filters {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let mut path = format!("/operator/v1/{list}/?{}", query.finish());
    let mut left = print.limit;
    if !print.json {
        say!("{}", line(columns, |(title, ..)| (*title).to_owned()));
    }
    loop {
        let page = gateway.ask(Method::GET, &path, None).await?;
        for row in page["results"].as_array().into_iter().flatten() {
            if left == 0 {
                eprintln!("there are more; narrow the search or raise --limit");
                return Ok(());
            }
            left -= 1;
            match print.json {
                true => say!("{row}"),
                false => say!("{}", line(columns, |(_, field, _)| text(&row[*field]))),
            }
        }
        // The address of the next page has another host and the base path before this route.
        let next =
            page["next"].as_str().and_then(|next| Some(next[next.find("/operator/v1/")?..].to_owned()));
        match next {
            Some(next) => path = next,
            None => return Ok(()),
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn line(columns: &[Column], cell: impl Fn(&Column) -> String) -> String {
    let cells: Vec<String> = columns
        .iter()
        .map(|column| {
            let (text, width) = (cell(column), column.2);
            format!("{text:<width$}")
        })
        .collect();
    cells.join("  ").trim_end().to_owned()
}
