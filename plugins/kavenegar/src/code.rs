//! Return codes of the provider and the typed errors they stand for.
//!
//! The case decides what the gateway does: `invalid-recipient` and `invalid-message` are final, `throttled` and
//! `unavailable` are tried again, everything else goes to the next provider. A code that means a bug in the
//! request (400, 404-406, 414-419 ...) is final too: the same request fails in the same way again. It has no
//! case of its own and is reported as `invalid-message` with the code.
//!
//! Source: the return code tables of the provider's REST manual and of its client libraries; where they
//! disagree (401, 403), the manual. The class of a code is this project's own reading.

use chelseru_plugin_sdk::Error;
use chelseru_plugin_sdk::http::Answer;

/// The request was carried out.
pub(crate) const OK: i64 = 200;

/// A template value has a space, a line break or an underscore.
pub(crate) const TOKEN_CHARACTERS: i64 = 431;

/// The typed error of a return code other than [`OK`].
pub(crate) fn error(code: i64, text: &str, answer: &Answer) -> Error {
    match code {
        // 401 account disabled, 403 wrong key, 407 and 416 address not listed, 426 and 427 service or line not
        // open to the account, 430 identity not verified, 501 trial account.
        401 | 403 | 407 | 416 | 426 | 427 | 430 | 501 => Error::unauthorized(code, text),
        // 402 operation failed, 409 cannot answer now.
        402 | 409 => Error::unavailable(&[&code.to_string(), " ", text].concat()),
        429 | 451 => Error::Throttled(answer.retry_after_secs()),
        418 => Error::insufficient_credit(code, text),
        411 => Error::invalid_recipient(code, text),
        // 424 unknown or not approved, 432 has no %token.
        424 | 432 => Error::invalid_template(code, text),
        // 400 and 406 parameter missing, 404 and 405 method, 413 length, 414 too many recipients, 415 index,
        // 417 date, 419 array lengths, 422 character, 428 not digits for voice, 604 too many numbers, 607 tag.
        400 | 404 | 405 | 406 | 413 | 414 | 415 | 417 | 419 | 422 | 428 | TOKEN_CHARACTERS | 604 | 607 => {
            Error::invalid_message(code, text)
        }
        // The provider broke down, or somebody in front of it.
        500..=599 => answer.unclear_with(code as u16, &["return status ", &code.to_string()].concat()),
        // 412 sender line, 420 links (another provider may take them), and codes no source names.
        _ => Error::rejected(code, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::script;
    use chelseru_plugin_sdk::Context;
    use chelseru_plugin_sdk::SmsTemplate;
    use chelseru_plugin_sdk::http::{Header, HttpResponse, Request};
    use chelseru_plugin_sdk::sms::{Recipient, template};

    /// What the gateway does with an error.
    #[derive(Debug, PartialEq)]
    enum Class {
        Final,
        FailOver,
        Retry,
    }

    fn class(error: &Error) -> Class {
        match error {
            Error::InvalidRecipient(_) | Error::InvalidMessage(_) => Class::Final,
            Error::Throttled(_) | Error::Unavailable(_) => Class::Retry,
            Error::UnknownOutcome(_) => panic!("a documented code is never unclear: {error:?}"),
            _ => Class::FailOver,
        }
    }

    fn shown(error: &Error) -> String {
        let name = format!("{error:?}");
        name.split(['(', '{']).next().unwrap_or_default().to_owned()
    }

    /// Every code of the provider's table: its class there, and our case.
    const TABLE: &[(i64, Class, &str)] = &[
        (400, Class::Final, "Error::InvalidMessage"),
        (401, Class::FailOver, "Error::Unauthorized"),
        (402, Class::Retry, "Error::Unavailable"),
        (403, Class::FailOver, "Error::Unauthorized"),
        (404, Class::Final, "Error::InvalidMessage"),
        (405, Class::Final, "Error::InvalidMessage"),
        (406, Class::Final, "Error::InvalidMessage"),
        (407, Class::FailOver, "Error::Unauthorized"),
        (409, Class::Retry, "Error::Unavailable"),
        (411, Class::Final, "Error::InvalidRecipient"),
        (412, Class::FailOver, "Error::Rejected"),
        (413, Class::Final, "Error::InvalidMessage"),
        (414, Class::Final, "Error::InvalidMessage"),
        (415, Class::Final, "Error::InvalidMessage"),
        (416, Class::FailOver, "Error::Unauthorized"),
        (417, Class::Final, "Error::InvalidMessage"),
        (418, Class::FailOver, "Error::InsufficientCredit"),
        (419, Class::Final, "Error::InvalidMessage"),
        (420, Class::FailOver, "Error::Rejected"),
        (422, Class::Final, "Error::InvalidMessage"),
        (424, Class::FailOver, "Error::InvalidTemplate"),
        (426, Class::FailOver, "Error::Unauthorized"),
        (427, Class::FailOver, "Error::Unauthorized"),
        (428, Class::Final, "Error::InvalidMessage"),
        (429, Class::Retry, "Error::Throttled"),
        (430, Class::FailOver, "Error::Unauthorized"),
        (431, Class::Final, "Error::InvalidMessage"),
        (432, Class::FailOver, "Error::InvalidTemplate"),
        (451, Class::Retry, "Error::Throttled"),
        (501, Class::FailOver, "Error::Unauthorized"),
        (604, Class::Final, "Error::InvalidMessage"),
        (607, Class::Final, "Error::InvalidMessage"),
        // In no table: refused, another provider may take it.
        (499, Class::FailOver, "Error::Rejected"),
        (810, Class::FailOver, "Error::Rejected"),
    ];

    fn lookup(http_status: u16, body: String) -> Error {
        let recipient = Recipient { number: "+989120000001".into(), local_id: 1 };
        let values = vec![template::Value { name: "code".into(), value: "482913".into() }];
        let message = template::Message { recipient, template: "login".into(), values };
        let script = script().reply(http_status, body);
        crate::Kavenegar::send_template(&script, message).expect_err("refused")
    }

    #[test]
    fn each_documented_code_is_its_typed_error_on_any_http_status() {
        for (code, expected, case) in TABLE {
            let own_status = u16::try_from(*code).expect("a code is a small number");
            for http_status in [200, own_status, 500] {
                for entries in ["", r#","entries":null"#, r#","entries":[]"#, r#","entries":"none""#] {
                    let body =
                        format!(r#"{{"return":{{"status":{code},"message":"خطا 0912000001"}}{entries}}}"#);
                    let error = lookup(http_status, body);
                    assert_eq!(class(&error), *expected, "{code}: {error:?}");
                    assert_eq!(shown(&error), *case, "{code}");
                    assert!(!format!("{error:?}").contains("0912000001"), "numbers stay out of {error:?}");
                }
            }
        }
    }

    #[test]
    fn a_refusal_keeps_the_providers_code() {
        let error = lookup(200, r#"{"return":{"status":"۴۲۴","message":"الگو یافت نشد"}}"#.to_owned());
        assert_eq!(error, Error::invalid_template(424, "الگو یافت نشد"));
    }

    #[test]
    fn a_breakdown_of_the_provider_is_left_to_the_next_one_and_of_its_proxy_unknown() {
        for (code, own) in [(500, true), (502, false), (503, true), (504, false), (599, false)] {
            let error = lookup(200, format!(r#"{{"return":{{"status":{code},"message":"x"}}}}"#));
            assert_eq!(matches!(error, Error::BrokeDown(_)), own, "{code}: {error:?}");
            assert_eq!(matches!(error, Error::UnknownOutcome(_)), !own, "{code}: {error:?}");
        }
    }

    #[test]
    fn an_answer_of_somebody_in_front_did_not_take_the_message() {
        for status in [302, 400, 404, 405, 413] {
            for body in ["", "<html>", "{}", r#"{"error":"not found"}"#] {
                let error = lookup(status, body.to_owned());
                assert!(matches!(error, Error::Unavailable(_)), "{status} {body}: {error:?}");
            }
        }
        for status in [401, 403] {
            assert!(matches!(lookup(status, "<html>".to_owned()), Error::Unauthorized(_)));
        }
        assert!(matches!(lookup(429, "<html>".to_owned()), Error::Throttled(_)));
        assert!(matches!(lookup(408, "<html>".to_owned()), Error::UnknownOutcome(_)));
    }

    #[test]
    fn throttling_says_how_long_when_the_provider_does() {
        let response = HttpResponse {
            status: 429,
            headers: vec![Header { name: "Retry-After".into(), value: "12".into() }],
            body: Vec::new(),
        };
        let script = script().respond(response);
        let answer = Request::get("http://a").hand_over(&script as &dyn Context).expect("answered");
        assert_eq!(error(429, "", &answer), Error::Throttled(Some(12)));
    }
}
