//! `message/report/...`: delivery reports that providers push.

use std::sync::Arc;

use bytes::Bytes;
use chelseru_domain::operator::Meter;
use chelseru_domain::sms::{Delivery, ReportError, SmsReported};
use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};
use serde_json::json;

use super::Sms;
use crate::pushed::Pushed;
use crate::reply::{Failure, Reply};
use crate::request::{Access, Context, Open, Request, not_found};
use crate::route::{About, Answer, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[Route {
    path: "/message/report/{provider}/{secret}/",
    name: "Message Report",
    access: Access::Open,
    kind: Kind::Pushed,
    operations: &[
        Operation { verb: Verb::Get, id: "message_report_get", call: call!(report), about: REPORT },
        Operation { verb: Verb::Post, id: "message_report", call: call!(report), about: REPORT },
    ],
}];

const REPORT: About = About {
    summary: "Take a provider's delivery report, in the provider's format",
    parameters: &[],
    fields: &[],
    answers: &[(200, "Details"), (400, "The report is not understood.")],
};

/// `GET` and `POST message/report/{provider}/{secret}/`. A wrong secret answers 404.
async fn report(sms: Arc<Sms>, request: Request<Open, Bytes>) -> Answer {
    let Request { context, body, .. } = request;
    let provider = context.parameter("provider");
    if !sms.report_secrets.fits(provider, context.parameter("secret")) {
        return Err(not_found());
    }
    let pushed = Pushed::read(context.header(header::CONTENT_TYPE), body).await?;
    let reports = match sms.decoder.decode(provider, delivery(&context, pushed)).await {
        Ok(reports) => reports,
        Err(ReportError::NotSupported) => return Err(not_found()),
        Err(ReportError::NotUnderstood(what)) => {
            tracing::warn!(request.id = %context.id, plugin.id = provider, what, "a delivery report was not understood");
            count(sms.meter.as_ref(), "not_understood");
            let text = "The report was not understood.";
            return Err(Failure::details(StatusCode::BAD_REQUEST, "report_not_understood", text));
        }
    };
    for (id, progress) in reports {
        let reported = sms.route.queue().report(provider, &id, progress).await.map_err(|error| {
            tracing::error!(request.id = %context.id, %error, "a delivery report could not be stored");
            Failure::internal()
        })?;
        count_report(sms.meter.as_ref(), reported);
    }
    Ok(Reply::json(StatusCode::OK, &json!({"details": "ok"})))
}

fn delivery(context: &Context, Pushed { content_type, body }: Pushed) -> Delivery {
    let headers = context.head.headers.iter().filter(|(name, _)| **name != header::CONTENT_TYPE);
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    };
    let mut headers: Vec<_> = headers.filter_map(text).collect();
    headers.push((header::CONTENT_TYPE.as_str().to_owned(), content_type));
    Delivery {
        method: context.head.method.as_str().to_owned(),
        query: context.query_text().to_owned(),
        headers,
        body: body.to_vec(),
    }
}

/// Counts a delivery report, whether the provider pushed it or was asked.
pub fn count_report(meter: &dyn Meter, reported: SmsReported) {
    count(
        meter,
        match reported {
            SmsReported::Moved => "moved",
            SmsReported::Unchanged => "unchanged",
            SmsReported::UnknownId => "unknown_id",
        },
    );
}

fn count(meter: &dyn Meter, outcome: &'static str) {
    meter.counter("chelseru_sms_reports_total", &[("outcome", outcome)]).increment();
}

/// The path of a report, up to its provider.
const REPORTS: &str = "/message/report/";

/// A path as the log may show it: without the secret part of a report's address.
pub(crate) fn logged_path(path: &str) -> String {
    match path.find(REPORTS) {
        None => path.to_owned(),
        Some(at) => {
            let (head, rest) = path.split_at(at + REPORTS.len());
            let provider = rest.split('/').next().unwrap_or("");
            format!("{head}{provider}/***/")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_shows_no_secret_part() {
        assert_eq!(logged_path("/a/message/report/K/5ec2e7/"), "/a/message/report/K/***/");
        assert_eq!(logged_path("/a/message/report/K/5ec2e7/x/y"), "/a/message/report/K/***/");
        assert_eq!(logged_path("/a/message/send/"), "/a/message/send/");
    }
}
