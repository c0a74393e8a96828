//! Requests to the gateway that runs with a configuration.
//!
//! A store belongs to one process. While a gateway runs on it, a command asks that gateway over loopback, with the
//! token in its data folder. Otherwise the command opens the store itself: [`open`].

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chelseru_domain::clock::SystemClock;
use chelseru_domain::operator::audit::{Audit, AuditEvent};
use chelseru_store::Store;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::{self, OperatorListen};
use crate::database::{self, Refused};
use crate::door::OperatorDoor;

/// Time limit of a running gateway's answer. A hash may wait behind others, and a write waits for its flush.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
/// Largest accepted answer in bytes.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Sends one request to a gateway on this machine.
pub(super) async fn exchange(
    address: &OperatorListen,
    base_path: &str,
    method: Method,
    path: &str,
    operator_token: Option<&str>,
    body: Option<Value>,
    patience: Duration,
) -> Result<(StatusCode, Value), String> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{base_path}{path}"))
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = operator_token {
        request = request.header(crate::http::operator::OPERATOR_TOKEN, token);
    }
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    send(address, request.body(Full::new(Bytes::from(body))), patience).await
}

/// Sends a form with a file to the gateway behind a door.
pub(super) async fn upload(
    door: &OperatorDoor,
    path: &str,
    fields: &[(&str, &str)],
    file: &[u8],
    patience: Duration,
) -> Result<(StatusCode, Value), String> {
    // Random, so that it is not in the file.
    let boundary = uuid::Uuid::new_v4().simple().to_string();
    let mut body = Vec::with_capacity(file.len() + 1024);
    for (name, value) in fields {
        let part =
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    let part = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"file\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    body.extend_from_slice(part.as_bytes());
    body.extend_from_slice(file);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    let request = Request::post(format!("{}{path}", door.base_path))
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={boundary}"))
        .header(crate::http::operator::OPERATOR_TOKEN, &door.token)
        .body(Full::new(Bytes::from(body)));
    send(&door.address, request, patience).await
}

async fn send(
    address: &OperatorListen,
    request: http::Result<Request<Full<Bytes>>>,
    patience: Duration,
) -> Result<(StatusCode, Value), String> {
    let text = |error: &dyn std::fmt::Display| format!("no gateway answers at {address}: {error}");
    let request = request.map_err(|error| text(&error))?;
    let exchange = async {
        let mut sender = connect(address).await.map_err(|error| text(&error))?;
        let response = sender.send_request(request).await.map_err(|error| text(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BYTES_MAX);
        let bytes = body.collect().await.map_err(|error| text(&error))?.to_bytes();
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    };
    tokio::time::timeout(patience, exchange).await.unwrap_or_else(|_| Err("no answer in time".into()))
}

async fn connect(
    address: &OperatorListen,
) -> Result<SendRequest<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    match address {
        OperatorListen::Tcp(address) => {
            begin(tokio::net::TcpStream::connect(crate::http::reachable(*address)).await?).await
        }
        #[cfg(unix)]
        OperatorListen::Unix(path) => begin(tokio::net::UnixStream::connect(path).await?).await,
        #[cfg(not(unix))]
        OperatorListen::Unix(_) => Err("this system has no unix sockets".into()),
    }
}

async fn begin<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// How a command reaches the store.
pub(super) enum Way {
    Store(Store),
    Gateway(Box<Running>),
}

/// A gateway that has this store open.
pub(super) struct Running(OperatorDoor);

impl Running {
    pub(super) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, String> {
        self.ask_patiently(method, path, body, TIMEOUT).await
    }

    /// [`Running::ask`] with a longer time limit.
    pub(super) async fn ask_patiently(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        patience: Duration,
    ) -> Result<Value, String> {
        let door = &self.0;
        let (status, answer) =
            exchange(&door.address, &door.base_path, method, path, Some(&door.token), body, patience).await?;
        if status.is_success() {
            return Ok(answer);
        }
        let text = answer["details"].as_str().map_or_else(|| answer.to_string(), str::to_owned);
        Err(format!("the running gateway answered {status}: {text}"))
    }
}

/// Opens the store, or finds the gateway that has it open. Errors: a text for the operator.
pub(super) async fn open(config_file: &Path) -> Result<Way, String> {
    let loaded = super::load::load(config_file)?;
    let data_dir = config::data_dir(&loaded.config, config_file);
    std::fs::create_dir_all(&data_dir).map_err(|error| format!("{}: {error}", data_dir.display()))?;
    match database::open_for_command(&loaded, &data_dir).await {
        Ok(store) => Ok(Way::Store(store)),
        Err(Refused::InUse(_)) => {
            Ok(Way::Gateway(Box::new(Running(OperatorDoor::find_soon(&data_dir).await?))))
        }
        Err(Refused::Other(reason)) => Err(reason),
    }
}

/// Writes an audit event for a command's change of the store.
pub(super) async fn record(config_file: &Path, store: &Store, event: AuditEvent) -> Result<(), String> {
    let records_max = super::load::load(config_file)?.config.audit.records_max;
    let audit = Audit::start(store.clone(), Arc::new(SystemClock), records_max);
    audit.record(event);
    audit.flush().await;
    Ok(())
}
