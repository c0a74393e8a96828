//! Pages for payers: the way to the bank, and the result on the way back.
//!
//! One template in Persian and English, right to left. Invariants: every value that others wrote is [`Escaped`]; the
//! policy allows the page's own style and script by their hashes and nothing else; no page is framed or cached. A
//! client that does not prefer HTML never gets one.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chelseru_domain::money::payment::gateway::Redirect;
use chelseru_domain::money::payment::{Confirmed, PaymentState, View};
use chelseru_domain::money::{self, Currency};
use http::header::{self, HeaderValue};
use http::uri::Uri;
use http::{Method, StatusCode};
use sha2::{Digest, Sha256};

use crate::reply::{Failure, Reply};

const HTML: &str = "text/html; charset=utf-8";

const TEMPLATE: &str = include_str!("payer.html");

const STYLE: &str = "body{font-family:Vazirmatn,Tahoma,sans-serif;max-width:30rem;margin:3rem auto;padding:0 1rem;\
text-align:center;line-height:1.7}h1{font-size:1.4rem}dl{margin:1.5rem 0}dt{color:#555}dd{margin:0 0 .8rem;\
font-size:1.1rem;overflow-wrap:anywhere}button{font:inherit;padding:.6rem 1.6rem}";

const SUBMIT: &str = "document.getElementById(\"bank\").submit()";

/// A text in both languages.
#[derive(Debug, Clone, Copy)]
struct Text {
    persian: &'static str,
    english: &'static str,
}

struct Fact {
    name: Text,
    value: String,
}

struct Form<'a> {
    url: &'a str,
    fields: &'a [(String, String)],
}

/// Text that is safe inside an element and inside a quoted attribute.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let special = |c: char| matches!(c, '&' | '<' | '>' | '"' | '\'');
        for part in self.0.split_inclusive(special) {
            let mut chars = part.chars();
            match chars.next_back().filter(|last| special(*last)) {
                Some(last) => write!(f, "{}&#{};", chars.as_str(), u32::from(last))?,
                None => f.write_str(part)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Text { persian, english }, value) = (self.name, Escaped(&self.value));
        writeln!(f, "<dt>{persian} <span lang=\"en\" dir=\"ltr\">{english}</span></dt>")?;
        writeln!(f, "<dd><bdi>{value}</bdi></dd>")
    }
}

impl fmt::Display for Form<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = Escaped(self.url);
        writeln!(f, "<form id=\"bank\" method=\"post\" action=\"{url}\" accept-charset=\"utf-8\">")?;
        for (name, value) in self.fields {
            let (name, value) = (Escaped(name), Escaped(value));
            writeln!(f, "<input type=\"hidden\" name=\"{name}\" value=\"{value}\">")?;
        }
        let english = "<span lang=\"en\" dir=\"ltr\">Go to the bank</span>";
        writeln!(f, "<button type=\"submit\">رفتن به بانک {english}</button>\n</form>")?;
        writeln!(f, "<script>{SUBMIT}</script>")
    }
}

/// The result of a payment. Amount, order and receipt are shown only to callers who may see the whole payment.
pub(crate) fn result(Confirmed { payment, view }: &Confirmed) -> Reply {
    let title = match payment.state {
        PaymentState::Paid => Text { persian: "پرداخت انجام شد", english: "Payment completed" },
        PaymentState::Refunded => {
            Text { persian: "مبلغ پرداخت بازگردانده شد", english: "Payment refunded" }
        }
        PaymentState::Created | PaymentState::Pending => Text {
            persian: "نتیجه هنوز از بانک نرسیده است؛ کمی بعد این صفحه را دوباره باز کنید",
            english: "The bank has not answered yet. Reload this page in a moment.",
        },
        PaymentState::Cancelled => Text { persian: "پرداخت لغو شد", english: "Payment cancelled" },
        PaymentState::Failed | PaymentState::Expired => {
            Text { persian: "پرداخت انجام نشد", english: "Payment not completed" }
        }
    };
    let mut facts = Vec::new();
    if *view == View::Whole {
        let unit = match payment.currency {
            Currency::Irt => "تومان",
            Currency::Irr => "ریال",
        };
        let amount = money::format(payment.amount, payment.currency);
        let value = format!("{amount} {unit} ({})", money::currency_name(payment.currency));
        facts.push(Fact { name: Text { persian: "مبلغ", english: "Amount" }, value });
        if !payment.order.is_empty() {
            let name = Text { persian: "سفارش", english: "Order" };
            facts.push(Fact { name, value: payment.order.clone() });
        }
        if let Some(receipt) = payment.receipt.as_ref().filter(|receipt| !receipt.number.is_empty()) {
            let name = Text { persian: "شماره پیگیری", english: "Receipt" };
            facts.push(Fact { name, value: receipt.number.clone() });
        }
    }
    page(StatusCode::OK, title, facts, None)
}

/// What a browser that came back from a bank sees instead of an error in JSON. Status, code and headers stay.
pub(crate) fn failure(failure: Failure, request_id: &str) -> Reply {
    let title = match failure.status {
        StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => {
            Text { persian: "این پرداخت پیدا نشد", english: "This payment was not found." }
        }
        StatusCode::TOO_MANY_REQUESTS => Text {
            persian: "درخواست‌ها زیاد است؛ کمی بعد دوباره تلاش کنید",
            english: "Too many requests. Try again in a moment.",
        },
        _ => Text {
            persian: "خطایی رخ داد؛ کمی بعد دوباره تلاش کنید",
            english: "Something failed. Try again later.",
        },
    };
    let json = failure.into_reply(request_id);
    let mut reply = page(json.status, title, Vec::new(), None);
    reply.headers.extend(json.headers.into_iter().filter(|(name, _)| *name != header::CONTENT_TYPE));
    reply
}

/// The way to a bank that takes payers by a form. The form submits itself, and has a button for browsers without
/// scripts.
pub(crate) fn bank_form(url: &str, redirect: &Redirect) -> Reply {
    let title = Text { persian: "در حال رفتن به بانک", english: "On the way to the bank" };
    let reply = page(StatusCode::OK, title, Vec::new(), Some(Form { url, fields: &redirect.fields }));
    // Banks compare the referrer with the site that the shop registered. The page's address holds a key, so its path
    // and query stay here.
    reply.with(header::REFERRER_POLICY, HeaderValue::from_static("origin"))
}

fn page(status: StatusCode, title: Text, facts: Vec<Fact>, form: Option<Form<'_>>) -> Reply {
    let mut policy = format!(
        "default-src 'none'; style-src '{}'; base-uri 'none'; frame-ancestors 'none'; form-action {}",
        hash(STYLE),
        form.as_ref().map_or_else(|| "'none'".to_owned(), |form| form_targets(form.url)),
    );
    if form.is_some() {
        policy.push_str(&format!("; script-src '{}'", hash(SUBMIT)));
    }
    let mut content = String::new();
    if !facts.is_empty() {
        content = format!("<dl>\n{}</dl>", facts.iter().map(Fact::to_string).collect::<String>());
    }
    content.extend(form.map(|form| form.to_string()));
    // The content comes last, because only it has text that others wrote.
    let page = TEMPLATE
        .replace("{title_persian}", title.persian)
        .replace("{title_english}", title.english)
        .replace("{style}", STYLE)
        .replace("{content}", &content);
    let reply = Reply::text(status, HTML, page);
    match HeaderValue::from_str(&policy) {
        Ok(policy) => reply.with(header::CONTENT_SECURITY_POLICY, policy),
        Err(_) => Reply::bare(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// Where the form may go. Browsers apply this to redirects as well, and banks redirect to hosts of their own, so any
/// host over TLS is allowed; over plain HTTP, which only trial banks use, the named one.
fn form_targets(url: &str) -> String {
    let uri = url.parse::<Uri>().unwrap_or_default();
    match (uri.scheme_str(), uri.authority()) {
        (Some("http"), Some(authority)) => format!("http://{authority}"),
        _ => "https:".to_owned(),
    }
}

/// The source expression of an inline style or script.
fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

/// Whether a browser shows the reply to a person: `Accept` names HTML and ranks it above JSON.
pub(crate) fn is_wanted(method: &Method, accept: &str, format: Option<&str>) -> bool {
    let quality = |wanted: &[&str]| -> f32 {
        let range = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let named =
                parts.next().is_some_and(|name| wanted.iter().any(|one| name.eq_ignore_ascii_case(one)));
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
            named.then_some(quality)
        };
        accept.split(',').filter_map(range).fold(0.0, f32::max)
    };
    let html = quality(&["text/html", "application/xhtml+xml"]);
    let json = quality(&["application/json", "application/*"]);
    *method != Method::OPTIONS && format.is_none() && html > json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_for_browsers_only() {
        let chrome = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        for (accept, format, wanted) in [
            (chrome, None, true),
            ("text/html", None, true),
            ("TEXT/HTML", None, true),
            ("application/json;q=0.5, text/html", None, true),
            (chrome, Some("json"), false),
            ("", None, false),
            ("*/*", None, false),
            ("application/json, text/plain, */*", None, false),
            ("application/json, text/html;q=0.9", None, false),
            ("text/html, application/json", None, false),
            ("text/html;q=0", None, false),
        ] {
            assert_eq!(is_wanted(&Method::GET, accept, format), wanted, "{accept}");
        }
    }

    #[test]
    fn the_policy_allows_the_pages_own_style_and_script_and_the_bank() {
        let redirect = Redirect {
            method: chelseru_domain::money::payment::gateway::RedirectMethod::Post,
            url: String::new(),
            fields: vec![("a\"><script>alert(1)</script>".into(), "'&<b>".into())],
        };
        for (url, target) in [
            ("https://bank.example/pay?a=1&b=2", "form-action https:"),
            ("http://127.0.0.1:8001/pay", "form-action http://127.0.0.1:8001"),
        ] {
            let reply = bank_form(url, &redirect);
            let text = String::from_utf8(reply.body.to_vec()).expect("UTF-8");
            let header = |wanted| {
                let mut named = reply.headers.iter().filter(|(name, _)| *name == wanted);
                named.next().expect("set").1.to_str().expect("text").to_owned()
            };
            let policy = header(header::CONTENT_SECURITY_POLICY);
            assert!(policy.starts_with("default-src 'none'; ") && policy.contains(target), "{policy}");
            for (start, end) in [("<style>", "</style>"), ("<script>", "</script>")] {
                let inline =
                    text.split(start).nth(1).and_then(|rest| rest.split(end).next()).expect("inline");
                assert!(policy.contains(&hash(inline)), "{policy}");
            }
            assert_eq!(text.matches("<script>").count(), 1, "{text}");
            assert!(!text.contains("<b>") && text.contains("<button type=\"submit\">"), "{text}");
            assert!(text.contains("action=\"") && !text.contains("a=1&b"), "{text}");
            assert_eq!(header(header::REFERRER_POLICY), "origin");
        }
    }
}
