//! A small HTTP client over real sockets: one connection per request; the whole reply is kept.

use bytes::Bytes;
use chelseru_simulator::Simulator;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

pub(crate) const FORM: &str = "application/x-www-form-urlencoded";
pub(crate) const JSON: &str = "application/json";

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A simulator on a free port.
pub(crate) fn simulator() -> Simulator {
    Simulator::start(([127, 0, 0, 1], 0).into()).expect("a free loopback port")
}

/// One request; `Err` when the connection ends before the whole reply has arrived.
pub(crate) async fn request(
    simulator: &Simulator,
    method: &str,
    target: &str,
    content_type: &str,
    body: impl Into<Bytes>,
) -> Result<Answer, hyper::Error> {
    let stream = TcpStream::connect(simulator.addr).await.expect("the simulator listens");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header("host", "provider.example")
        .header("content-type", content_type)
        .body(Full::new(body.into()))
        .expect("a request");
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    Ok(Answer { status, body: response.into_body().collect().await?.to_bytes() })
}

pub(crate) async fn get(simulator: &Simulator, target: &str) -> Answer {
    request(simulator, "GET", target, FORM, "").await.expect("an answer")
}

pub(crate) async fn post(simulator: &Simulator, target: &str, form: &str) -> Answer {
    request(simulator, "POST", target, FORM, form.to_owned()).await.expect("an answer")
}

pub(crate) async fn post_json(simulator: &Simulator, target: &str, body: &Value) -> Answer {
    request(simulator, "POST", target, JSON, body.to_string()).await.expect("an answer")
}
