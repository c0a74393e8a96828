//! An S3-compatible server of one test, with faults that the test switches on.
//!
//! `chelseru-bucket-server FOLDER ADDRESS ACCESS_KEY SECRET_KEY` prints its address and serves: it checks signatures,
//! and each folder in FOLDER is a bucket whose files are its objects. A line on standard input sets the mode
//! ([`Mode::read`]), or asks for the number of requests so far (`asked`); each line is answered by one. The end of the
//! input ends the server. Objects and signatures are those of `s3s`, which shares no code with the gateway.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What the server does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Serve,
    /// Answers 503.
    Fail,
    /// Serves until so many requests arrived, and then does what is asked and does not answer.
    HangAfter(u64),
}

impl Mode {
    /// `serve`, `fail` or `hang-after NUMBER`.
    fn read(line: &str) -> Option<Mode> {
        match line.split_once(' ') {
            None if line == "serve" => Some(Mode::Serve),
            None if line == "fail" => Some(Mode::Fail),
            Some(("hang-after", number)) => Some(Mode::HangAfter(number.parse().ok()?)),
            _ => None,
        }
    }
}

type Body = BoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Clone)]
struct Server {
    folder: PathBuf,
    service: S3Service,
    mode: watch::Receiver<Mode>,
    asked: Arc<AtomicU64>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, address, access_key, secret_key] = &arguments[..] else {
        panic!("usage: chelseru-bucket-server FOLDER ADDRESS ACCESS_KEY SECRET_KEY")
    };
    let mut service = S3ServiceBuilder::new(FileSystem::new(folder).expect("a folder"));
    service.set_auth(SimpleAuth::from_single(access_key.as_str(), secret_key.as_str()));
    let (mode, modes) = watch::channel(Mode::Serve);
    let folder = PathBuf::from(folder);
    let server = Server { folder, service: service.build(), mode: modes, asked: Arc::default() };
    let listener = TcpListener::bind(address).await.expect("a free address");
    println!("{}", listener.local_addr().expect("an address"));
    let asked = server.asked.clone();
    tokio::spawn(server.run(listener));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line == "asked" {
            println!("{}", asked.load(Ordering::SeqCst));
        } else {
            mode.send_replace(Mode::read(&line).expect("a mode"));
            println!("{line}");
        }
    }
}

impl Server {
    async fn run(self, listener: TcpListener) {
        loop {
            let (connection, _) = listener.accept().await.expect("a connection");
            let server = self.clone();
            let answer = hyper::service::service_fn(move |request| {
                let server = server.clone();
                async move { Ok::<_, Infallible>(server.answer(request).await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(connection), answer));
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let before = self.asked.fetch_add(1, Ordering::SeqCst);
        let mode = *self.mode.borrow();
        match mode {
            Mode::Fail => failure(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
            Mode::HangAfter(count) if count <= before => {
                let answer = self.serve(request).await;
                let _ = self.mode.clone().wait_for(|now| *now != mode).await;
                answer
            }
            Mode::Serve | Mode::HangAfter(_) => self.serve(request).await,
        }
    }

    async fn serve(&self, request: Request<Incoming>) -> Response<Body> {
        // `s3s-fs` would make a missing bucket.
        let bucket = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
        if !self.folder.join(bucket).is_dir() {
            return failure(StatusCode::NOT_FOUND, "NoSuchBucket");
        }
        match self.service.call(request.map(s3s::Body::from)).await {
            Ok(answer) => answer.map(|body| body.map_err(Into::into).boxed()),
            Err(_) => failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        }
    }
}

fn failure(status: StatusCode, code: &str) -> Response<Body> {
    let text = format!("<Error><Code>{code}</Code><Message>As a test wants it.</Message></Error>");
    let body = Full::new(Bytes::from(text));
    let mut answer = Response::new(body.map_err(|never| match never {}).boxed());
    *answer.status_mut() = status;
    answer
}
