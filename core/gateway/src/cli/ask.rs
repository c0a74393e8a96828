//! Asking the gateway that runs with a configuration.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::config::Loaded;

/// How long a running gateway may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer at most.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// One request to where the configuration listens.
pub(crate) async fn gateway(
    loaded: &Loaded,
    method: Method,
    path: &str,
    operator_token: Option<&str>,
    body: Option<Value>,
) -> Result<(StatusCode, Value), String> {
    let server = &loaded.config.server;
    let text = |error: &dyn std::fmt::Display| format!("no gateway answers at {}: {error}", server.listen);
    let exchange = async {
        let mut address = server.listen;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        let stream = tokio::net::TcpStream::connect(address).await.map_err(|error| text(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| text(&error))?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", server.base_path))
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = operator_token {
            request = request.header(header::AUTHORIZATION, format!("Operator {token}"));
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| text(&error))?;
        let response = sender.send_request(request).await.map_err(|error| text(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BYTES_MAX);
        let bytes = body.collect().await.map_err(|error| text(&error))?.to_bytes();
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    };
    tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or_else(|_| Err("it does not answer in time".into()))
}
