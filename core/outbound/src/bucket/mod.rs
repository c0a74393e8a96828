//! Files in a bucket of an S3-compatible store: [`FilePlace`] over HTTP.
//!
//! Requests are presigned by `rusty-s3` and sent by the same client library as those to providers. A file travels in
//! pieces both ways, so memory does not grow with it. Every wait has an end: [`IDLE_MAX`] without progress, whatever
//! the size. What may help is tried again (`request`); a store that hangs is not asked twice.
//!
//! Invariant: keys and presigned addresses appear in no error and no log. Not here: when a file is offered, settled
//! and removed (`chelseru-http`, `files::store`).

mod health;
mod request;
mod send;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use chelseru_config::BucketPlace;
use chelseru_domain::files::place::{FilePlace, Part, Pieces, PlaceError, PlaceState};
use chelseru_domain::operator::Meter;
use futures_util::{StreamExt, stream};
use reqwest::header::{HeaderValue, RANGE};
use reqwest::{Response, Url};
use rusty_s3::actions::{CompleteMultipartUploadResponse, CreateMultipartUpload};
use rusty_s3::{Credentials, S3Action, UrlStyle};
use tokio::fs::File;
use tokio::time::timeout;

use health::Health;
use request::{Method, Outgoing};
use send::Source;

/// Without progress for so long, the store counts as away: no byte sent or received, no answer.
const IDLE_MAX: Duration = Duration::from_secs(15);
/// A probe that takes longer counts as one without an answer: somebody waits for it.
const PROBE_MAX: Duration = Duration::from_secs(10);
/// How long a presigned address is valid. It is used at once; the rest is for clocks that differ.
const SIGNED: Duration = Duration::from_secs(600);
/// A larger file is sent in parts, so that a broken connection costs one part.
const WHOLE_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of a part: the store's least is 5 MiB and its most are 10,000 parts, so a file of 4 GiB has 256.
const PART_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes of an answer that is no file.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// A bucket, or the part of it below a prefix.
pub struct Bucket {
    bucket: rusty_s3::Bucket,
    credentials: Credentials,
    prefix: String,
    /// As operators read it.
    shown: String,
    client: request::Client,
    health: Health,
}

impl Bucket {
    /// A bucket that nothing was asked of yet.
    ///
    /// # Errors
    ///
    /// A text for the operator: the endpoint and the name of the bucket make no address.
    pub fn new(place: &BucketPlace) -> Result<Bucket, String> {
        let shown = place.shown.clone();
        let refuse = |error: &dyn std::fmt::Display| format!("{shown}: is no address of a bucket: {error}");
        let endpoint: Url = place.endpoint.parse().map_err(|error| refuse(&error))?;
        let style = if place.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let bucket = rusty_s3::Bucket::new(endpoint, style, place.bucket.clone(), place.region.clone());
        let bucket = bucket.map_err(|error| refuse(&error))?;
        let credentials = Credentials::new(place.access_key.clone(), place.secret_key.clone());
        let (client, health) = (request::Client::default(), Health::default());
        Ok(Bucket { bucket, credentials, prefix: place.prefix.clone(), shown, client, health })
    }

    /// The name of a file's object.
    fn object(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    async fn put(&self, object: &str, source: &Source<'_>) -> Result<(), PlaceError> {
        let action = self.bucket.put_object(Some(&self.credentials), object);
        let outgoing = Outgoing::new(Method::PUT, || action.sign(SIGNED)).source(source);
        self.send(outgoing).await.map(drop)
    }

    /// Sends a large file in parts, one after the other.
    async fn put_parts(&self, object: &str, local: &Path, bytes: u64) -> Result<(), PlaceError> {
        let action = self.bucket.create_multipart_upload(Some(&self.credentials), object);
        let answer = self.send(Outgoing::new(Method::POST, || action.sign(SIGNED))).await?;
        let text = self.text(answer).await?;
        let begun = CreateMultipartUpload::parse_response(&text).map_err(|_| self.unclear())?;
        let sent = self.parts(object, local, bytes, begun.upload_id()).await;
        if sent.is_err() {
            let action =
                self.bucket.abort_multipart_upload(Some(&self.credentials), object, begun.upload_id());
            let aborted = self.send(Outgoing::new(Method::DELETE, || action.sign(SIGNED))).await;
            if let Err(error) = aborted {
                tracing::warn!(%error, object, "an unfinished upload may stay in the bucket");
            }
        }
        sent
    }

    async fn parts(&self, object: &str, local: &Path, bytes: u64, upload: &str) -> Result<(), PlaceError> {
        let mut tags: Vec<String> = Vec::new();
        let mut start = 0;
        while start < bytes {
            let part = Part { start, bytes: PART_BYTES.min(bytes - start), of: bytes };
            let number = u16::try_from(tags.len() + 1).map_err(io::Error::other)?;
            let action = self.bucket.upload_part(Some(&self.credentials), object, number, upload);
            let source = Source::File(local, part);
            let outgoing = Outgoing::new(Method::PUT, || action.sign(SIGNED)).source(&source);
            let answer = self.send(outgoing).await?;
            let tag = answer.headers().get("etag").and_then(|tag| tag.to_str().ok());
            tags.push(tag.ok_or_else(|| self.unclear())?.to_owned());
            start += part.bytes;
        }
        let tags = || tags.iter().map(String::as_str);
        let action = self.bucket.complete_multipart_upload(Some(&self.credentials), object, upload, tags());
        let signed = || action.sign(SIGNED);
        let list = action.clone().body().into();
        let source = Source::Bytes(list);
        let answer = self.send(Outgoing::new(Method::POST, signed).source(&source)).await?;
        // A store that began to answer before it was done reports a failure in the body of a 200.
        let text = self.text(answer).await?;
        let done = CompleteMultipartUploadResponse::parse(&text);
        done.map(drop).map_err(|_| PlaceError::Away(format!("{}: could not put a file together", self.shown)))
    }

    async fn get(&self, object: &str, part: Part) -> Result<Response, PlaceError> {
        let action = self.bucket.get_object(Some(&self.credentials), object);
        let mut outgoing = Outgoing::new(Method::GET, || action.sign(SIGNED));
        if part.bytes < part.of {
            let range = format!("bytes={}-{}", part.start, part.start + part.bytes - 1);
            outgoing = outgoing.header(RANGE, HeaderValue::try_from(range).map_err(io::Error::other)?);
        }
        let answer = self.send(outgoing).await?;
        match answer.content_length() {
            Some(bytes) if bytes == part.bytes => Ok(answer),
            bytes => {
                let (found, wanted) = (bytes.unwrap_or_default(), part.bytes);
                let shown = &self.shown;
                Err(PlaceError::Away(format!(
                    "{shown}{object}: has {found} bytes where {wanted} are expected"
                )))
            }
        }
    }

    async fn delete(&self, object: &str) -> Result<(), PlaceError> {
        let action = self.bucket.delete_object(Some(&self.credentials), object);
        match self.send(Outgoing::new(Method::DELETE, || action.sign(SIGNED))).await {
            Err(PlaceError::Missing) => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Writes an object, reads it and removes it.
    async fn round(&self) -> Result<(), PlaceError> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let object = self.object(&format!("probe-{:016x}", u64::from_ne_bytes(random)));
        let bytes = bytes::Bytes::from_static(b"chelseru writes, reads and removes this object");
        self.put(&object, &Source::Bytes(bytes.clone())).await?;
        let answer = self.get(&object, Part::whole(bytes.len() as u64)).await;
        let read = match answer {
            Ok(answer) => self.text(answer).await,
            Err(PlaceError::Missing) => Ok(String::new()),
            Err(error) => Err(error),
        };
        let removed = self.delete(&object).await;
        if read?.as_bytes() != bytes {
            let shown = &self.shown;
            return Err(PlaceError::Refused(format!("{shown}: does not give back what was just written")));
        }
        removed
    }

    fn unclear(&self) -> PlaceError {
        PlaceError::Refused(format!("{}: does not answer like an S3-compatible store", self.shown))
    }
}

#[async_trait]
impl FilePlace for Bucket {
    async fn offer(&self, local: &Path, path: &str) -> Result<(), PlaceError> {
        // The local file's name is the only trace of a copy without a record.
        File::open(local.parent().unwrap_or(Path::new("."))).await?.sync_all().await?;
        let (object, bytes) = (self.object(path), tokio::fs::metadata(local).await?.len());
        match bytes > WHOLE_MAX {
            true => self.put_parts(&object, local, bytes).await,
            false => self.put(&object, &Source::File(local, Part::whole(bytes))).await,
        }
    }

    async fn settle(&self, local: &Path, _path: &str) -> Result<(), PlaceError> {
        match tokio::fs::remove_file(local).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn withdraw(&self, path: &str) -> Result<(), PlaceError> {
        self.delete(&self.object(path)).await
    }

    async fn open(&self, path: &str, part: Part) -> Result<Pieces, PlaceError> {
        if part.bytes == 0 {
            return Ok(stream::empty().boxed());
        }
        let answer = self.get(&self.object(path), part).await?;
        let shown = self.shown.clone();
        let next = move |mut answer: Response| {
            let away = io::Error::other(format!("{shown}: a file ended early"));
            async move {
                match timeout(IDLE_MAX, answer.chunk()).await {
                    Ok(Ok(piece)) => Ok(piece.map(|piece| (piece, answer))),
                    Ok(Err(_)) | Err(_) => Err(away),
                }
            }
        };
        Ok(stream::try_unfold(answer, next).boxed())
    }

    async fn remove(&self, path: &str) -> Result<(), PlaceError> {
        self.delete(&self.object(path)).await
    }

    async fn probe(&self) -> Result<(), PlaceError> {
        let round = timeout(PROBE_MAX, self.round()).await.unwrap_or_else(|_| {
            let (shown, seconds) = (&self.shown, PROBE_MAX.as_secs());
            Err(PlaceError::Away(format!("{shown}: does not answer within {seconds} s")))
        });
        // Requests that were dropped noted nothing.
        self.health.note(&round);
        round
    }

    fn state(&self) -> PlaceState {
        self.health.state()
    }

    fn measure_by(&self, meter: &dyn Meter) {
        self.health.measure_by(meter);
    }
}
