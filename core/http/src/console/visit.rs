//! A browser's request to the console: who asks, what a form says, and how the answer is wrapped.
//!
//! Invariants: a page is shown to an operator's session only, everybody else gets the login; a form acts only with the
//! key of its session and from this site; every page forbids scripts, styles and frames of others, and no answer is
//! kept by the browser.

use chelseru_domain::StoreError;
use chelseru_domain::operator::console::{Console as Logins, Opened, SavedFilter, Seat, Visitor};
use chelseru_domain::operator::role::{
    Act, ApiKeyRead, AuditRead, BackupRead, ConfigRead, Forbidden, MessageRead, OperatorRead, PaymentRead,
    Permit, Reason, Role, RoomMessageRead, RoomRead, UserRead, WalletRead, WebhookRead,
};
use http::header::{self, HeaderValue};
use http::{HeaderName, StatusCode};
use serde_json::Value;

use askama::Template;

use super::page::{Door, Form, Frame, Input, InputKind, MenuItem, Notice, Page, Part, Whole, cut};
use super::words::{Language, Words};
use super::{Console, show, stream};
use crate::fields::Fields;
use crate::reply::Reply;
use crate::request::{Context, header_text};

const HTML: &str = "text/html; charset=utf-8";

/// Scripts, styles and fonts of this site only, no inline ones, and no frame around it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);
const NO_REFERRER: HeaderValue = HeaderValue::from_static("same-origin");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The cookie with the session's token. Over TLS its name has the prefix with which browsers refuse one of a
/// neighbouring site.
const COOKIE: &str = "chelseru_console";
const COOKIE_TLS: &str = "__Host-chelseru_console";

/// Characters read of one field of a form.
const FIELD_CHARS_MAX: usize = 10_000;

/// Why a page is not shown.
pub(crate) enum Refused {
    Forbidden(Forbidden),
    Missing,
    /// The form has another session's key, or comes from another site.
    Form,
    /// The form did not act; it is shown again, on its page.
    Again(Box<Form>),
    Failed(String),
}

impl From<Forbidden> for Refused {
    fn from(forbidden: Forbidden) -> Refused {
        Refused::Forbidden(forbidden)
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Refused {
        Refused::Failed(error.to_string())
    }
}

impl Form {
    /// The form once more, with what was typed and the messages at its fields.
    pub(crate) fn again(self) -> Refused {
        Refused::Again(Box::new(self))
    }

    /// [`Form::refuse`], and the form once more.
    pub(crate) fn refused(mut self, name: &str, text: &str) -> Refused {
        self.refuse(name, text);
        self.again()
    }
}

/// What a handler made.
pub(crate) enum Outcome {
    Page(Page),
    /// The form was refused; the page shows why and what was typed.
    Again(Page),
    /// It acted; the browser goes to this address.
    Done(String),
    /// Goes to this address without having acted.
    To(String),
    File(Reply),
}

/// An operator at a browser.
pub(crate) struct Visit {
    pub(crate) seat: Seat,
    pub(crate) language: Language,
    pub(crate) t: &'static Words,
    /// The filters that the operator saved, for pages.
    filters: Vec<SavedFilter>,
}

impl Visit {
    pub(crate) fn permit<A: Act>(&self) -> Result<Permit<A>, Refused> {
        Ok(self.seat.operator.permit()?)
    }

    pub(crate) fn may<A: Act>(&self) -> bool {
        self.seat.operator.may::<A>()
    }

    /// A page of a form alone.
    pub(crate) fn alone(&self, form: Form) -> Page {
        Page::new(form.title.to_owned(), vec![Part::Form(Box::new(form))])
    }

    /// An operator's answer.
    pub(crate) fn reply(&self, context: &Context, outcome: Result<Outcome, Refused>) -> Reply {
        let t = self.t;
        let (status, page, bad) = match outcome {
            Ok(Outcome::Page(page)) => (StatusCode::OK, page, None),
            Ok(Outcome::Again(page)) => (StatusCode::BAD_REQUEST, page, None),
            Ok(Outcome::To(location)) => return see_other(&location),
            Ok(Outcome::Done(location)) => {
                let mark = if location.contains('?') { '&' } else { '?' };
                return see_other(&format!("{location}{mark}done=1"));
            }
            Ok(Outcome::File(reply)) => return guarded(reply),
            Err(Refused::Forbidden(forbidden)) => {
                tracing::info!(request.id = %context.id, %forbidden, "an operator was refused");
                (StatusCode::FORBIDDEN, titled(t.forbidden_title), Some(t.forbidden))
            }
            Err(Refused::Missing) => (StatusCode::NOT_FOUND, titled(t.missing_title), Some(t.missing)),
            Err(Refused::Form) => (StatusCode::FORBIDDEN, titled(t.failed_title), Some(t.form_wrong)),
            Err(Refused::Again(form)) => (StatusCode::BAD_REQUEST, self.alone(*form), None),
            Err(Refused::Failed(error)) => {
                tracing::error!(request.id = %context.id, error, "a page of the console failed");
                (StatusCode::INTERNAL_SERVER_ERROR, titled(t.failed_title), Some(t.failed))
            }
        };
        let notice = match bad {
            Some(text) => Some(Notice { bad: true, text: text.to_owned() }),
            None if context.query("done").is_some() => Some(Notice { bad: false, text: t.done.to_owned() }),
            None => None,
        };
        let frame = self.frame(context, notice);
        html(status, &Whole { frame: &frame, page: &page, t })
    }

    /// The saved filters of a page.
    fn saved(&self, path: &str) -> Vec<SavedFilter> {
        let of = |one: &&SavedFilter| one.address.split('?').next() == Some(path);
        self.filters.iter().filter(of).cloned().collect()
    }

    fn frame(&self, context: &Context, notice: Option<Notice>) -> Frame {
        let path = context.path();
        let menu = menu(self).into_iter().map(|(href, text)| {
            let current = if href == "/console/" { path == href } else { path.starts_with(href) };
            MenuItem { href, text, current }
        });
        // A form's address shows nothing when it is opened.
        let here = match context.head.method == http::Method::POST {
            true => "/console/".to_owned(),
            false => address_of(context),
        };
        Frame {
            language: self.language,
            who: cut(&self.seat.user.username),
            role: role_text(self.seat.operator.role(), self.t),
            form_key: self.seat.form_key.clone(),
            saved: self.saved(path),
            here,
            menu: menu.collect(),
            notice,
        }
    }
}

/// The pages that an operator's role includes: address and text.
fn menu(visit: &Visit) -> Vec<(&'static str, &'static str)> {
    let t = visit.t;
    let mut menu = vec![("/console/", t.overview)];
    let mut add = |may: bool, href, text| {
        if may {
            menu.push((href, text));
        }
    };
    add(visit.may::<UserRead>(), "/console/users/", t.users);
    add(visit.may::<UserRead>(), "/console/sessions/", t.sessions);
    add(visit.may::<PaymentRead>(), "/console/payments/", t.payments);
    add(visit.may::<WalletRead>(), "/console/wallets/", t.wallets);
    add(visit.may::<MessageRead>(), "/console/messages/", t.messages);
    add(visit.may::<RoomRead>(), "/console/rooms/", t.rooms);
    add(visit.may::<RoomMessageRead>(), "/console/files/", t.uploads);
    add(visit.may::<WebhookRead>(), "/console/webhooks/", t.webhooks);
    add(visit.may::<ConfigRead>(), "/console/providers/", t.providers);
    add(visit.may::<ConfigRead>(), "/console/config/", t.config);
    add(visit.may::<BackupRead>(), "/console/backups/", t.backups);
    add(visit.may::<ApiKeyRead>(), "/console/keys/", t.api_keys);
    add(visit.may::<OperatorRead>(), "/console/operators/", t.operators);
    add(visit.may::<AuditRead>(), "/console/audit/", t.audit);
    menu
}

fn titled(title: &str) -> Page {
    Page { title: title.to_owned(), ..Page::default() }
}

pub(crate) fn role_text(role: Role, t: &Words) -> &'static str {
    match role {
        Role::Viewer => t.role_viewer,
        Role::Support => t.role_support,
        Role::Finance => t.role_finance,
        Role::Admin => t.role_admin,
    }
}

impl Console {
    /// The operator of a browser.
    ///
    /// # Errors
    ///
    /// The answer instead: the login, or that the store cannot be read.
    pub(crate) async fn visit(&self, context: &Context) -> Result<Visit, Reply> {
        let seat = match token_in(context) {
            Some(token) if stream::is_asked(context) => {
                self.desk.console().glance(token, Some(context.client)).await
            }
            Some(token) => self.desk.console().seat(token, Some(context.client)).await,
            None => Ok(None),
        };
        match seat {
            Ok(Some(seat)) => {
                let language = Language::of(&seat.language);
                // A form leads to another page.
                let filters = match context.head.method == http::Method::GET {
                    true => self.desk.console().filters(&seat.operator).await.unwrap_or_default(),
                    false => Vec::new(),
                };
                Ok(Visit { seat, language, t: language.words(), filters })
            }
            Ok(None) => Err(see_other(&to_login(context))),
            Err(error) => {
                tracing::error!(request.id = %context.id, %error, "a console session could not be read");
                Err(guarded(Reply::text(StatusCode::INTERNAL_SERVER_ERROR, HTML, "")))
            }
        }
    }

    /// Sets the cookie of an opened session.
    pub(crate) fn seated(context: &Context, opened: &Opened, then: &str) -> Reply {
        let cookie = cookie(context, &opened.token, None);
        see_other(own_page(then)).with(header::SET_COOKIE, cookie)
    }

    /// Removes the cookie.
    pub(crate) fn unseated(context: &Context) -> Reply {
        see_other("/console/login/").with(header::SET_COOKIE, cookie(context, "", Some(0)))
    }
}

/// Where the login leads back to: a page of the console, whatever a query says.
pub(crate) fn own_page(then: &str) -> &str {
    let own = then.starts_with("/console/")
        && !then.contains("..")
        && then.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if own { then } else { "/console/" }
}

/// The address that a request was made for, without the mark of an act that is done.
fn address_of(context: &Context) -> String {
    let query = context.query_text();
    let kept: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && *pair != "done=1").collect();
    match kept.as_slice() {
        [] => context.path().to_owned(),
        kept => format!("{}?{}", context.path(), kept.join("&")),
    }
}

fn to_login(context: &Context) -> String {
    let path = context.path();
    if context.head.method != http::Method::GET || path == "/console/" {
        return "/console/login/".to_owned();
    }
    let then: String = form_urlencoded::byte_serialize(address_of(context).as_bytes()).collect();
    format!("/console/login/?then={then}")
}

/// The token in the cookie of this scheme.
fn token_in(context: &Context) -> Option<&str> {
    let name = if is_tls(context) { COOKIE_TLS } else { COOKIE };
    let cookies = context.head.headers.get_all(header::COOKIE).iter();
    let pairs = cookies.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    let mut named = pairs.filter_map(|pair| pair.trim().split_once('=')).filter(|(key, _)| *key == name);
    named.next().map(|(_, value)| value).filter(|value| !value.is_empty())
}

fn cookie(context: &Context, token: &str, max_age: Option<u64>) -> HeaderValue {
    let (name, more) = match is_tls(context) {
        true => (COOKIE_TLS, "; Path=/; Secure"),
        false => (COOKIE, "; Path=/console/"),
    };
    let age = max_age.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
    let text = format!("{name}={token}{more}; HttpOnly; SameSite=Strict{age}");
    HeaderValue::from_str(&text).expect("a token is plain text")
}

/// Whether the browser reached a trusted proxy over TLS.
fn is_tls(context: &Context) -> bool {
    context.edge.proxies.origin(context.peer.ip(), &context.head.headers).https
}

/// Whether a form comes from this site. A browser says so in at least one of the two headers; no page can set either.
/// `Sec-Fetch-Site` is the browser's own comparison, so it holds behind a proxy that changes `Host`, too.
pub(crate) fn is_own_site(context: &Context) -> bool {
    match header_text(&context.head.headers, FETCH_SITE) {
        "same-origin" => return true,
        "" => {}
        _ => return false,
    }
    let origin = context.header(header::ORIGIN);
    let named = context.head.uri.authority().map_or(context.header(header::HOST), |named| named.as_str());
    let proxied = context.edge.proxies.origin(context.peer.ip(), &context.head.headers).host;
    let host = proxied.as_deref().unwrap_or(named);
    origin.is_empty() || origin.split_once("://").is_some_and(|(_, from)| from.eq_ignore_ascii_case(host))
}

/// A form as it was typed.
pub(crate) struct Typed(Fields);

impl Typed {
    pub(crate) fn new(fields: Fields) -> Typed {
        Typed(fields)
    }

    /// A field without the spaces around it; empty when it is missing.
    pub(crate) fn get(&self, name: &str) -> String {
        self.raw(name).trim().chars().take(FIELD_CHARS_MAX).collect()
    }

    /// A field as typed, such as a password.
    pub(crate) fn raw(&self, name: &str) -> &str {
        self.0.value(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// A field with its digits in ASCII.
    pub(crate) fn latin(&self, name: &str) -> String {
        show::latin(&self.get(name))
    }

    /// Keeps what was typed in the form's fields, opens it, and drops older messages.
    pub(crate) fn fill(&self, form: &mut Form) {
        form.open = true;
        for field in &mut form.fields {
            field.value = self.get(field.name);
            field.error = None;
        }
    }

    /// The value of a choice. The form gets a message when it is none of them.
    pub(crate) fn one_of<T: Copy>(
        &self,
        form: &mut Form,
        name: &'static str,
        choices: &[(&str, T)],
        t: &Words,
    ) -> Option<T> {
        let word = self.get(name);
        let found = choices.iter().find(|(choice, _)| *choice == word).map(|(_, value)| *value);
        if found.is_none() {
            form.refuse(name, t.choice_wrong);
        }
        found
    }

    /// Checks that the form was made for this session and comes from this site.
    pub(crate) fn check(&self, context: &Context, visit: &Visit) -> Result<(), Refused> {
        match is_own_site(context) && Logins::form_fits(&visit.seat, self.raw("form_key")) {
            true => Ok(()),
            false => Err(Refused::Form),
        }
    }

    /// What every act needs: the reason, and the typed name where one is asked for, beside what else was `read` from
    /// the form. All of it is read before anything is refused, so a form shows all its messages at once.
    ///
    /// # Errors
    ///
    /// [`Refused::Again`] when anything is missing.
    pub(crate) fn complete<T>(
        &self,
        mut form: Form,
        read: Option<T>,
        t: &Words,
    ) -> Result<(Form, Reason, T), Refused> {
        match (self.reason(&mut form, t), read) {
            (Some(reason), Some(read)) => Ok((form, reason, read)),
            _ => Err(form.again()),
        }
    }

    /// [`Typed::complete`] of a form with nothing else in it.
    ///
    /// # Errors
    ///
    /// [`Refused::Again`] when anything is missing.
    pub(crate) fn reasoned(&self, form: Form, t: &Words) -> Result<(Form, Reason), Refused> {
        self.complete(form, Some(()), t).map(|(form, reason, ())| (form, reason))
    }

    /// The reason, and the typed name where one is asked for. Errors are written into the form, with what was typed.
    pub(crate) fn reason(&self, form: &mut Form, t: &Words) -> Option<Reason> {
        let text = self.get("reason");
        let reason = Reason::new(&text).ok();
        let confirmed = form.is_named(&self.get("confirm"));
        if !confirmed {
            form.open = true;
            form.text = format!("{} {}", form.text, t.confirm_wrong);
        }
        if reason.is_none() {
            form.refuse("reason", t.reason_missing);
        }
        for field in form.fields.iter_mut().filter(|field| field.name == "reason") {
            field.value.clone_from(&text);
        }
        reason.filter(|_| confirmed)
    }
}

/// The field for a reason.
pub(crate) fn reason_field(t: &Words) -> Input {
    Input { name: "reason", label: t.reason, kind: InputKind::Area, ..Input::default() }
}

/// The visitor of a login.
pub(crate) fn visitor(context: &Context) -> Visitor {
    Visitor { ip: Some(context.client), user_agent: context.header(header::USER_AGENT).to_owned() }
}

pub(crate) fn door(status: StatusCode, door: &Door<'_>) -> Reply {
    html(status, door)
}

fn html(status: StatusCode, template: &impl Template) -> Reply {
    match template.render() {
        Ok(text) => guarded(Reply::text(status, HTML, text)),
        Err(error) => {
            tracing::error!(%error, "a template of the console failed");
            guarded(Reply::text(StatusCode::INTERNAL_SERVER_ERROR, HTML, ""))
        }
    }
}

/// A reply with the console's own headers.
pub(crate) fn guarded(reply: Reply) -> Reply {
    reply
        .with(header::CONTENT_SECURITY_POLICY, POLICY)
        .with(header::REFERRER_POLICY, NO_REFERRER)
        .with(HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin"))
        .with(
            HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("same-origin"),
        )
}

pub(crate) fn see_other(location: &str) -> Reply {
    let location = HeaderValue::from_str(location).unwrap_or(HeaderValue::from_static("/console/"));
    guarded(Reply::bare(StatusCode::SEE_OTHER).with(header::LOCATION, location))
}

#[cfg(test)]
mod tests {
    use super::own_page;

    #[test]
    fn a_login_leads_to_a_page_of_the_console_only() {
        for own in ["/console/", "/console/users/?q=ali", "/console/users/7/"] {
            assert_eq!(own_page(own), own);
        }
        for other in [
            "",
            "/",
            "//evil.example/",
            "https://evil.example/console/",
            "/console/../x",
            "/console/\\x",
            "/console/\r\nA: b",
        ] {
            assert_eq!(own_page(other), "/console/", "{other:?}");
        }
    }
}
