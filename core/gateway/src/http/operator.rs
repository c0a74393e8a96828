//! Routes for whoever runs the gateway: status, metrics, health and the sandbox's inbox.
//!
//! All but `health/` answer clients on this machine only. "On this machine" is more than a loopback peer: a
//! reverse proxy on the same host is one too, and a web page can point a name at 127.0.0.1. So a request that
//! was forwarded, or that names another host, is not local, and for it the route does not exist.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;

use super::reply::{Failure, Reply};
use super::{Context, header_text};

/// Headers that only a proxy adds.
const FORWARDED: [&str; 5] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];

pub(crate) fn is_local(peer: SocketAddr, headers: &HeaderMap) -> bool {
    peer.ip().to_canonical().is_loopback()
        && !FORWARDED.iter().any(|name| headers.contains_key(*name))
        && is_local_host(header_text(headers, header::HOST))
}

fn is_local_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    name.is_empty()
        || name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `GET sandbox/inbox/?mobile_number=`: what the trial provider was asked to send, newest first.
pub(crate) fn sandbox_inbox(context: &Context) -> Result<Reply, Failure> {
    let query = context.head.uri.query().unwrap_or("");
    let asked = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "mobile_number");
    let number = match asked {
        None => None,
        Some((_, text)) => match chelseru_domain::PhoneNumber::parse(&text) {
            Ok(number) => Some(number.local()),
            Err(error) => return Err(Failure::field("mobile_number", error.to_string())),
        },
    };
    Ok(Reply::json(StatusCode::OK, &json!({"results": context.app.inbox.list(number.as_deref())})))
}

/// `GET status/`: what runs, since when, and what was refused.
pub(crate) fn status(context: &Context) -> Result<Reply, Failure> {
    Ok(Reply::json(StatusCode::OK, &context.app.status()))
}

/// `GET metrics/`: the Prometheus text format.
pub(crate) fn metrics(context: &Context) -> Result<Reply, Failure> {
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    crate::messages::measure(&context.app);
    Ok(Reply::text(StatusCode::OK, content_type, context.app.metrics.render()))
}

/// `GET health/`: 200 while durable writes are possible, 503 when they are not.
pub(crate) fn health(context: &Context) -> Result<Reply, Failure> {
    if context.app.is_healthy() {
        return Ok(Reply::json(StatusCode::OK, &json!({"status": "ok"})));
    }
    let reply = Reply::json(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "store_failed"}));
    Ok(reply.with(super::reply::ERROR_CODE, HeaderValue::from_static("store_failed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(peer: &str, headers: &[(&'static str, &str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                (header::HeaderName::from_static(name), value.parse().expect("a header value"))
            })
            .collect();
        is_local(peer.parse().expect("an address"), &headers)
    }

    #[test]
    fn only_direct_clients_of_this_machine_are_local() {
        assert!(local("127.0.0.1:5", &[("host", "127.0.0.1:8000")]));
        assert!(local("[::1]:5", &[("host", "[::1]:8000")]));
        assert!(local("[::ffff:127.0.0.1]:5", &[("host", "localhost")]));
        assert!(!local("10.0.0.1:5", &[("host", "127.0.0.1:8000")]));
        assert!(!local("127.0.0.1:5", &[("host", "127.0.0.1"), ("x-forwarded-for", "1.2.3.4")]));
        assert!(!local("127.0.0.1:5", &[("host", "rebound.example:8000")]));
    }
}
