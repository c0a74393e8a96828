//! One request to the bucket: sent, tried again where that may help, and its refusal in words for operators.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use chelseru_domain::files::place::PlaceError;
use reqwest::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Response, StatusCode, Url};
use tokio::sync::{Notify, OnceCell};
use tokio::time::{sleep, timeout};

use super::send::Source;
use super::{ANSWER_BYTES_MAX, Bucket, IDLE_MAX};

pub(super) use reqwest::Method;

/// A connection is there or it is not.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long an idle connection is kept. Stores close theirs after a minute or less; one that they closed costs an
/// attempt.
const KEPT_IDLE: Duration = Duration::from_secs(20);
const KEPT_MAX: usize = 32;
/// Waits before the second and the third attempt.
const RETRIES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];
/// A clock that differs by more is named as the cause of a refusal. Stores allow 15 minutes.
const SKEW_MAX: Duration = Duration::from_secs(300);

/// The HTTP client, built with the first request: reading the system's certificates takes milliseconds.
#[derive(Default)]
pub(super) struct Client(OnceCell<reqwest::Client>);

impl Client {
    async fn get(&self) -> Result<&reqwest::Client, String> {
        let build = || async {
            let built = tokio::task::spawn_blocking(|| {
                reqwest::Client::builder()
                    .redirect(reqwest::redirect::Policy::none())
                    .no_proxy()
                    .referer(false)
                    .retry(reqwest::retry::never())
                    .http1_only()
                    .connect_timeout(CONNECT_MAX)
                    .pool_idle_timeout(KEPT_IDLE)
                    .pool_max_idle_per_host(KEPT_MAX)
                    .build()
            });
            built.await.map_err(|error| error.to_string())?.map_err(|error| root(&error))
        };
        self.0.get_or_try_init(build).await
    }
}

/// A request that can be sent more than once.
pub(super) struct Outgoing<'a, S> {
    method: Method,
    /// A presigned address, anew for each attempt.
    signed: S,
    headers: HeaderMap,
    source: Option<&'a Source<'a>>,
}

impl<'a, S: Fn() -> Url> Outgoing<'a, S> {
    pub(super) fn new(method: Method, signed: S) -> Self {
        Outgoing { method, signed, headers: HeaderMap::new(), source: None }
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    pub(super) fn source(mut self, source: &'a Source<'a>) -> Self {
        self.source = Some(source);
        self
    }
}

/// How an attempt ended without success.
struct Failed {
    error: PlaceError,
    again: bool,
}

impl Failed {
    fn again(text: String) -> Failed {
        Failed { error: PlaceError::Away(text), again: true }
    }

    fn for_now(text: String) -> Failed {
        Failed { error: PlaceError::Away(text), again: false }
    }
}

impl Bucket {
    /// Sends a request, and again after a broken connection or an answer that asks for it.
    pub(super) async fn send<S: Fn() -> Url>(
        &self,
        outgoing: Outgoing<'_, S>,
    ) -> Result<Response, PlaceError> {
        let begun = Instant::now();
        let ended = self.attempts(&outgoing).await;
        self.health.ended(&outgoing.method, begun.elapsed(), &ended);
        ended
    }

    async fn attempts<S: Fn() -> Url>(&self, outgoing: &Outgoing<'_, S>) -> Result<Response, PlaceError> {
        let mut waits = RETRIES.iter();
        loop {
            match self.attempt(outgoing).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => match waits.next().filter(|_| failed.again) {
                    Some(wait) => sleep(*wait).await,
                    None => return Err(failed.error),
                },
            }
        }
    }

    async fn attempt<S: Fn() -> Url>(&self, outgoing: &Outgoing<'_, S>) -> Result<Response, Failed> {
        let shown = &self.shown;
        let client = self.client.get().await.map_err(|error| Failed::for_now(format!("{shown}: {error}")))?;
        let moved = Arc::new(Notify::new());
        let mut request = client.request(outgoing.method.clone(), (outgoing.signed)());
        request = request.headers(outgoing.headers.clone());
        // Stores want a length, of an empty body, too.
        if outgoing.method != Method::GET {
            let bytes = outgoing.source.map_or(0, Source::bytes);
            request = request.header(CONTENT_LENGTH, bytes);
        }
        if let Some(source) = outgoing.source {
            let body = source.body(moved.clone()).await;
            request = request.body(body.map_err(|error| Failed { error: error.into(), again: false })?);
        }
        match while_moving(&moved, IDLE_MAX, request.send()).await {
            None => Err(Failed::for_now(format!("{shown}: does not answer"))),
            Some(Err(error)) if error.is_timeout() => {
                Err(Failed::for_now(format!("{shown}: does not answer")))
            }
            Some(Err(error)) => Err(Failed::again(format!("{shown}: is not reachable: {}", root(&error)))),
            Some(Ok(answer)) if answer.status().is_success() => Ok(answer),
            Some(Ok(answer)) => Err(self.refusal(answer).await),
        }
    }

    /// What an answer without success means.
    async fn refusal(&self, answer: Response) -> Failed {
        let (status, skew) = (answer.status(), skew(answer.headers()));
        let text = self.text(answer).await.unwrap_or_default();
        let (code, message) = (element(&text, "Code"), element(&text, "Message"));
        let (shown, name) = (&self.shown, self.bucket.name());
        let refuse = |why: String| PlaceError::Refused(format!("{shown}: {why}"));
        let error = match (status, code) {
            (StatusCode::NOT_FOUND, "NoSuchBucket") => {
                refuse(format!("there is no bucket {name:?}; create it, or correct files.s3.bucket"))
            }
            (StatusCode::NOT_FOUND, "NoSuchUpload") => {
                return Failed::for_now(format!("{shown}: an upload in parts ended meanwhile"));
            }
            (StatusCode::NOT_FOUND, _) => PlaceError::Missing,
            (_, "RequestTimeTooSkewed") | (StatusCode::FORBIDDEN, _) if skew.is_some() => {
                let seconds = skew.unwrap_or_default().as_secs();
                refuse(format!("refuses this machine's clock, which differs by {seconds} s; synchronise it"))
            }
            (_, "RequestTimeTooSkewed") => refuse("refuses this machine's clock; synchronise it".to_owned()),
            (_, "InvalidAccessKeyId" | "NotSignedUp") => {
                refuse("does not know files.s3.access_key".to_owned())
            }
            (_, "SignatureDoesNotMatch") => refuse(
                "files.s3.secret_key does not belong to the access key, or files.s3.region is wrong"
                    .to_owned(),
            ),
            (StatusCode::FORBIDDEN, _) => refuse(format!(
                "the access key may not write, read and remove objects there ({})",
                shortened(code, message)
            )),
            (
                _,
                "AuthorizationHeaderMalformed" | "AuthorizationQueryParametersError" | "PermanentRedirect",
            ) => {
                let region = element(&text, "Region");
                let region = if region.is_empty() { String::new() } else { format!("; it is {region}") };
                refuse(format!("the bucket has another region or endpoint{region} ({message})"))
            }
            (StatusCode::TOO_MANY_REQUESTS, _) => {
                return Failed::again(format!("{shown}: answers {status} ({})", shortened(code, message)));
            }
            _ if status.is_server_error() => {
                return Failed::again(format!("{shown}: answers {status} ({})", shortened(code, message)));
            }
            _ => refuse(format!("answers {status} ({})", shortened(code, message))),
        };
        Failed { error, again: false }
    }

    /// The text of an answer that is no file.
    pub(super) async fn text(&self, mut answer: Response) -> Result<String, PlaceError> {
        let away = || PlaceError::Away(format!("{}: an answer ended early", self.shown));
        let mut text = Vec::new();
        while let Some(piece) =
            timeout(IDLE_MAX, answer.chunk()).await.map_err(|_| away())?.map_err(|_| away())?
        {
            text.extend_from_slice(&piece);
            if text.len() > ANSWER_BYTES_MAX {
                return Err(self.unclear());
            }
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// Waits for work that makes progress; `None` when nothing moved for `idle`.
async fn while_moving<T>(moved: &Notify, idle: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Some(done),
            () = moved.notified() => {}
            () = sleep(idle) => return None,
        }
    }
}

/// How far this machine's clock is from the store's, if that is far.
fn skew(headers: &HeaderMap) -> Option<Duration> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let now = SystemTime::now();
    let skew = now.duration_since(date).unwrap_or_else(|error| error.duration());
    Some(skew).filter(|skew| *skew > SKEW_MAX)
}

/// The text of the first element of this name. Errors of S3 are flat.
fn element<'a>(xml: &'a str, name: &str) -> &'a str {
    let text = || {
        let (_, rest) = xml.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0)
    };
    text().unwrap_or_default()
}

/// An error's code and message in one short line.
fn shortened(code: &str, message: &str) -> String {
    let text = if message.is_empty() { code.to_owned() } else { format!("{code}: {message}") };
    let plain = text.chars().map(|one| if one.is_control() { ' ' } else { one });
    plain.take(200).collect()
}

/// The innermost cause, which names no address.
fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    match error.source() {
        Some(_) => cause.to_string(),
        None => "the request could not be sent".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_store_is_read_from_its_elements() {
        let xml =
            "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>The\nbucket</Message></Error>";
        assert_eq!((element(xml, "Code"), element(xml, "Region")), ("NoSuchBucket", ""));
        assert_eq!(shortened(element(xml, "Code"), element(xml, "Message")), "NoSuchBucket: The bucket");
        assert_eq!(element("<Code>x", "Code"), "");
    }

    #[test]
    fn only_a_clock_that_is_far_away_is_a_cause() {
        let at = |offset: u64| {
            let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(offset));
            HeaderMap::from_iter([(DATE, HeaderValue::try_from(date).expect("a date"))])
        };
        assert_eq!(skew(&at(60)), None);
        let skew = skew(&at(7200)).expect("far away").as_secs();
        assert!((7100..=7200).contains(&skew), "{skew}");
        assert_eq!(super::skew(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn a_wait_ends_when_nothing_moves_and_not_before() {
        let (moved, idle) = (Notify::new(), Duration::from_secs(1));
        assert_eq!(while_moving(&moved, idle, std::future::pending::<()>()).await, None);
        let slow = async {
            for _ in 0..5 {
                sleep(idle / 4).await;
                moved.notify_one();
            }
            7
        };
        assert_eq!(while_moving(&moved, idle, slow).await, Some(7));
    }
}
