//! Shared by the replays of recordings: the cases, a recorded request for our gateway, and the verdict.
//!
//! `contract/transcripts.json` holds the recordings. A replay sends its cases with placeholders and numbers filled
//! in, and finds what a client would see differ ([`head_difference`] and its own comparison of bodies). A [`Verdict`]
//! knows the intended differences: a recorded case that differs without being listed fails, and so does a listed one
//! that does not differ.

use chelseru_tests::{Answer, TestGateway, root};
use reqwest::RequestBuilder;
use serde_json::{Map, Value};

/// Case, our status, and the reason: a defect's number in the list below the recordings, or a text.
pub(crate) type Difference = (&'static str, u16, &'static str);

pub(crate) struct Case {
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) request: Value,
    pub(crate) response: Value,
}

/// The recorded cases under some paths, in order.
pub(crate) fn cases(paths: &[&str]) -> Vec<Case> {
    let text = std::fs::read_to_string(root().join("tests/contract/transcripts.json")).expect("recorded");
    let all: Vec<Value> = serde_json::from_str(&text).expect("the recordings are JSON");
    let wanted = |case: &Value| {
        let path = case["request"]["path"].as_str();
        path.is_some_and(|path| paths.iter().any(|wanted| path.starts_with(wanted)))
    };
    let text = |case: &Value, key: &str| case[key].as_str().unwrap_or_else(|| panic!("no {key}")).to_owned();
    let case = |mut case: Value| Case {
        group: text(&case, "group"),
        name: text(&case, "name"),
        request: case["request"].take(),
        response: case["response"].take(),
    };
    all.into_iter().filter(wanted).map(case).collect()
}

/// A recorded request with our numbers, for our gateway. `token` replaces `<jwt>`.
pub(crate) fn request(gateway: &TestGateway, recorded: &Value, token: Option<&str>) -> RequestBuilder {
    let method = recorded["method"].as_str().expect("a method").parse().expect("a method");
    let path = recorded["path"].as_str().expect("a path").trim_start_matches("/drfchelseru");
    let url = gateway.at(path);
    let mut builder = gateway.client.request(method, url);
    for (name, value) in recorded["headers"].as_object().into_iter().flatten() {
        let value = value.as_str().expect("a header's text");
        builder = match token {
            Some(token) => builder.header(name, value.replace("<jwt>", token)),
            None => builder.header(name, value),
        };
    }
    let body = &recorded["body"];
    if let Some(raw) = body["raw"].as_str() {
        builder.body(raw.to_owned())
    } else if let Some(form) = body["form"].as_object() {
        let text = |value: &Value| value.as_str().map_or_else(String::new, str::to_owned);
        builder.form(&form.iter().map(|(name, value)| (name, text(value))).collect::<Vec<_>>())
    } else if let Some(parts) = body["multipart"].as_object() {
        builder.body(multipart(parts))
    } else if !body.is_null() {
        builder.body(body.to_string())
    } else {
        builder
    }
}

/// The parts with the boundary of the recorded headers. A file's size was recorded, its bytes were not.
fn multipart(parts: &Map<String, Value>) -> String {
    let mut text = String::new();
    for (name, value) in parts {
        let (head, content) = match value["filename"].as_str() {
            Some(file) => {
                let size = usize::try_from(value["size"].as_u64().expect("a size")).expect("small");
                let kind = value["content_type"].as_str().expect("a type");
                let content = match kind {
                    "text/html" => "<script>alert(1)</script>".to_owned(),
                    _ => "x".repeat(size),
                };
                (format!("; filename=\"{file}\"\r\nContent-Type: {kind}"), content)
            }
            None => (String::new(), value.as_str().expect("text").to_owned()),
        };
        text += &format!(
            "------labboundary\r\nContent-Disposition: form-data; name=\"{name}\"{head}\r\n\r\n{content}\r\n"
        );
    }
    text + "------labboundary--\r\n"
}

pub(crate) fn status_difference(recorded: &Value, answer: &Answer) -> Option<String> {
    let status = recorded["status"].as_u64().expect("a status");
    (status != u64::from(answer.status)).then(|| format!("status {status} became {}", answer.status))
}

/// Differences before the body: the status, and the headers that clients act on.
pub(crate) fn head_difference(recorded: &Value, answer: &Answer) -> Option<String> {
    let header = |name: &&str| {
        let value = recorded["headers"][*name].as_str()?;
        let ours = answer.header(name);
        // `sessions/` accepts one more method than the original.
        let same = value == ours || (*name == "allow" && value == ours.replace(", DELETE", ""));
        (!same).then(|| format!("{name}: {value:?} became {ours:?}"))
    };
    status_difference(recorded, answer)
        .or_else(|| ["allow", "www-authenticate", "location"].iter().find_map(header))
}

/// The first elements of two lists, or how the lists differ.
pub(crate) fn first_of_each<'a>(
    at: &str,
    recorded: &'a [Value],
    ours: &'a [Value],
) -> Result<Option<(&'a Value, &'a Value)>, String> {
    match (recorded.first(), ours.first()) {
        (Some(recorded), Some(ours)) => Ok(Some((recorded, ours))),
        (None, None) => Ok(None),
        (recorded, _) => Err(format!("{at} was {}", if recorded.is_some() { "not empty" } else { "empty" })),
    }
}

/// The difference in type of two values that are not compared further.
pub(crate) fn type_difference(at: &str, recorded: &Value, ours: &Value) -> Option<String> {
    let same = std::mem::discriminant(recorded) == std::mem::discriminant(ours);
    (!same).then(|| format!("{at}: {recorded} became {ours}"))
}

/// Unlisted differences, and listed ones that do not differ.
pub(crate) struct Verdict {
    listed: &'static [Difference],
    judged: usize,
    failures: Vec<String>,
}

impl Verdict {
    pub(crate) fn new(listed: &'static [Difference]) -> Verdict {
        Verdict { listed, judged: 0, failures: Vec::new() }
    }

    pub(crate) fn judge(&mut self, case: &Case, found: Option<String>, answer: &Answer) {
        self.judged += 1;
        let name = &case.name;
        let failure = match (found, self.listed.iter().find(|(listed, ..)| listed == name)) {
            (None, None) => return,
            (Some(_), Some((_, status, _))) if *status == answer.status => return,
            (Some(found), Some((_, status, why))) => {
                format!("{name}: listed as {status} ({why}), but {found}: {}", answer.text)
            }
            (Some(found), None) => format!("{name}: {found}: {} {}", answer.status, answer.text),
            (None, Some((_, _, why))) => format!("{name}: listed ({why}), but it is the same"),
        };
        self.failures.push(failure);
    }

    /// Panics when a case failed, or when fewer than expected were judged.
    pub(crate) fn end(self, at_least: usize) {
        let Verdict { judged, failures, .. } = self;
        assert!(judged >= at_least, "only {judged} cases were found");
        assert!(failures.is_empty(), "{} of {judged}:\n{}", failures.len(), failures.join("\n"));
    }
}

#[test]
fn a_verdict_tells_unlisted_differences_and_listed_sameness() {
    const LISTED: &[Difference] = &[("known", 400, "8: why"), ("gone", 400, "9: why")];
    let case = |name: &str| Case {
        group: String::new(),
        name: name.to_owned(),
        request: Value::Null,
        response: Value::Null,
    };
    let answer = |status| Answer {
        status,
        headers: reqwest::header::HeaderMap::new(),
        body: Value::Null,
        text: String::new(),
    };
    let found = || Some("another status".to_owned());
    let mut verdict = Verdict::new(LISTED);
    verdict.judge(&case("same"), None, &answer(200));
    verdict.judge(&case("known"), found(), &answer(400));
    assert!(verdict.failures.is_empty(), "{:?}", verdict.failures);
    verdict.judge(&case("unknown"), found(), &answer(400));
    verdict.judge(&case("known"), found(), &answer(500));
    verdict.judge(&case("gone"), None, &answer(200));
    let names: Vec<&str> = verdict.failures.iter().filter_map(|failure| failure.split(':').next()).collect();
    assert_eq!(names, ["unknown", "known", "gone"]);
    assert!(std::panic::catch_unwind(|| verdict.end(5)).is_err());
    assert!(std::panic::catch_unwind(|| Verdict::new(LISTED).end(1)).is_err());
}

#[test]
fn every_listed_difference_is_of_a_recorded_case() {
    use crate::{contract, recorded_chat, recorded_payments};

    let recorded: Vec<String> = cases(&["/"]).into_iter().map(|case| case.name).collect();
    let listed = [contract::DIFFERENCES, recorded_chat::DIFFERENCES, recorded_payments::DIFFERENCES].concat();
    let unknown: Vec<&str> = listed
        .iter()
        .map(|(name, ..)| *name)
        .filter(|name| !recorded.iter().any(|known| known == name))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
