//! What is in an archive, read page by page and written as it is read.
//!
//! `account.json`, `sessions.json`, `rooms.json`, `requests.json`, `blocks.json`, `organizations.json`, `wallet.json`;
//! `messages.jsonl`, `files.jsonl`, `payments.jsonl`, `spends.jsonl`, `wallet_entries.jsonl`, `sms.jsonl` and
//! `audit.jsonl` with one object a line; `files/` with the bytes; `about.json` last, whose `complete` is false when a
//! limit was reached. Other people appear as account numbers only, and none of their messages. Amounts are in rial.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use chelseru_domain::chat::{ChatError, FileId, Message, RoomId, StoredFile, message_id};
use chelseru_domain::clock::rest_format;
use chelseru_domain::files::place::Part;
use chelseru_domain::ids::UserId;
use chelseru_domain::money::Currency;
use chelseru_domain::money::payment::{Payment, state_name};
use chelseru_domain::operator::audit::AuditQuery;
use chelseru_domain::phone::PhoneNumber;
use chelseru_domain::sms::{SmsFilter, SmsOrder, SmsRange};
use chelseru_domain::{StoreError, login::identity::Caller};
use futures_util::StreamExt;
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::Personal;
use crate::files::store::FileError;
use crate::login::me::user_json;
use crate::login::session::session_json;
use crate::money::spend::spend_json;
use crate::money::wallet::{entry_json, wallet_json};
use crate::operator::audit;
use crate::sms::json::{shown_text, status_word};

/// Records read at once.
const PAGE: usize = 500;
/// Messages that are examined, of all members of the user's rooms: some seconds of one core.
const MESSAGES_MAX: usize = 5_000_000;
/// Entries of the audit log that are examined.
const AUDIT_PAGES_MAX: usize = 100;
/// Bytes of the archive: the largest share of the disk that one request may take.
const BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Chat(#[from] ChatError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("disk error: {0}")]
    Disk(#[from] io::Error),
    #[error("archive: {0}")]
    Zip(#[from] zip::result::ZipError),
}

struct Archive<'a> {
    personal: &'a Personal,
    user: UserId,
    zip: ZipWriter<BufWriter<File>>,
    /// Bytes put in, before compression.
    bytes: u64,
    complete: bool,
}

/// Writes the archive of a user into an empty file.
pub(super) async fn write(personal: &Personal, user: UserId, file: File) -> Result<File, ArchiveError> {
    let zip = ZipWriter::new(BufWriter::new(file));
    let mut archive = Archive { personal, user, zip, bytes: 0, complete: true };
    archive.account().await?;
    archive.chat().await?;
    archive.messages().await?;
    archive.files().await?;
    archive.money().await?;
    archive.sms().await?;
    archive.audit().await?;
    let about = json!({
        "account": user.0,
        "made_at": rest_format(personal.clock.now()),
        "complete": archive.complete,
    });
    archive.json("about.json", &about)?;
    Ok(archive.zip.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?)
}

impl Archive<'_> {
    async fn account(&mut self) -> Result<(), ArchiveError> {
        let identity = &self.personal.identity;
        let account = identity.user(self.user).await?;
        // No session is the current one.
        let caller = Caller { user_id: self.user, session_id: chelseru_domain::ids::SessionId(0) };
        let sessions = identity.sessions(&caller).await?;
        self.json("account.json", &account.as_ref().map(user_json))?;
        self.json("sessions.json", &sessions.iter().map(session_json).collect::<Vec<_>>())
    }

    async fn chat(&mut self) -> Result<(), ArchiveError> {
        let chat = &self.personal.chat;
        let rooms: Vec<Value> = chat
            .rooms_and_hidden(self.user)
            .await?
            .iter()
            .map(|summary| {
                let (room, member) = (&summary.room, &summary.member);
                json!({
                    "id": room.id.0, "name": room.name, "is_owner": room.owner == self.user,
                    "joined_at": rest_format(member.joined_at), "pinned": member.pinned,
                    "read_up_to": member.read_seq,
                })
            })
            .collect();
        let requests: Vec<Value> = chat
            .requests(self.user)
            .await?
            .iter()
            .map(|waiting| json!({"room": waiting.request.room.0, "at": rest_format(waiting.request.at)}))
            .collect();
        let blocks = chat.blocks(self.user, UserId(0), chelseru_domain::chat::BLOCKS_MAX).await?;
        let organizations: Vec<Value> =
            chat.organizations(self.user).await?.iter().map(crate::chat::json::organization_json).collect();
        self.json("rooms.json", &rooms)?;
        self.json("requests.json", &requests)?;
        self.json("blocks.json", &blocks.iter().map(|user| user.0).collect::<Vec<_>>())?;
        self.json("organizations.json", &organizations)
    }

    /// The user's own messages in the rooms that the user is in.
    async fn messages(&mut self) -> Result<(), ArchiveError> {
        let chat = &self.personal.chat;
        self.begin("messages.jsonl")?;
        let mut examined = 0;
        for summary in chat.rooms_and_hidden(self.user).await? {
            let (room, mut after) = (summary.room.id, 0);
            loop {
                let page = chat.messages_after(room, after, PAGE).await?;
                examined += page.messages.len();
                let user = self.user;
                for message in page.messages.iter().filter(|message| message.sender == user) {
                    self.line(&message_json(room, message))?;
                }
                if !page.more {
                    break;
                }
                after = page.end;
                if examined >= MESSAGES_MAX || self.is_full() {
                    self.complete = false;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn files(&mut self) -> Result<(), ArchiveError> {
        let mut files: Vec<StoredFile> = Vec::new();
        let mut after = FileId(0);
        loop {
            let (page, last) = self.personal.chat.files_of(self.user, after, PAGE).await?;
            files.extend(page);
            match last {
                Some(last) => after = last,
                None => break,
            }
        }
        self.begin("files.jsonl")?;
        for file in &files {
            self.line(&json!({
                "id": file.id.0, "room": file.room.map(|room| room.0), "name": file.title,
                "content_type": file.content_type,
                "size": file.bytes, "text": file.text, "path": path(file),
                "created_at": rest_format(file.created_at),
            }))?;
        }
        for file in &files {
            if self.bytes.saturating_add(file.bytes) > BYTES_MAX {
                self.complete = false;
                continue;
            }
            self.personal.chat.check_room()?;
            let mut bytes = match self.personal.files.bytes(file, Part::whole(file.bytes)).await {
                // A file may be removed meanwhile.
                Err(FileError::Disk(_)) => continue,
                bytes => bytes?,
            };
            // Pictures and films are compressed already.
            let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
            self.zip.start_file(path(file), options.large_file(true))?;
            while let Some(piece) = bytes.next().await {
                let piece = piece?;
                self.zip.write_all(&piece)?;
                self.bytes += piece.len() as u64;
            }
        }
        Ok(())
    }

    async fn money(&mut self) -> Result<(), ArchiveError> {
        let (payments, wallets) = (&self.personal.payments, &self.personal.wallets);
        let balance = wallets.balance(self.user).await?;
        self.json("wallet.json", &wallet_json(self.user, balance, Currency::Irr))?;
        self.begin("payments.jsonl")?;
        let mut before = None;
        loop {
            let page = payments.list(self.user, before, PAGE).await?;
            for payment in &page {
                self.line(&payment_json(payment))?;
            }
            before = page.last().map(|payment| payment.id);
            if page.len() < PAGE {
                break;
            }
        }
        self.begin("spends.jsonl")?;
        let mut before = None;
        loop {
            let page = wallets.spends(self.user, before, PAGE).await?;
            for spend in &page {
                self.line(&spend_json(spend, Currency::Irr))?;
            }
            before = page.last().map(|spend| spend.id);
            if page.len() < PAGE {
                break;
            }
        }
        self.begin("wallet_entries.jsonl")?;
        let mut from = None;
        loop {
            let (entries, next) = wallets.entries(self.user, from, PAGE).await?;
            for entry in &entries {
                self.line(&entry_json(entry, Currency::Irr))?;
            }
            match next {
                Some(next) => from = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// The messages that were sent to the account's number.
    async fn sms(&mut self) -> Result<(), ArchiveError> {
        self.begin("sms.jsonl")?;
        let user = self.personal.identity.user(self.user).await?;
        let number = user.and_then(|user| PhoneNumber::parse(&user.mobile_number).ok());
        let Some(number) = number else { return Ok(()) };
        let filter = SmsFilter { number: Some(number.e164().to_owned()), ..SmsFilter::default() };
        let mut to = u64::MAX;
        loop {
            let range = SmsRange { from: 0, to, order: SmsOrder::NewestFirst };
            let page = self.personal.sms.queue().page(&filter, range, PAGE, PAGE).await?;
            for message in &page.messages {
                self.line(&json!({
                    "id": message.id, "message": shown_text(&message.content),
                    "status": status_word(message.status), "created_at": rest_format(message.created_at),
                }))?;
            }
            match page.messages.last() {
                Some(last) if page.messages.len() == PAGE => to = last.id,
                _ => return Ok(()),
            }
        }
    }

    async fn audit(&mut self) -> Result<(), ArchiveError> {
        self.begin("audit.jsonl")?;
        let log = self.personal.identity.audit();
        let mut before = None;
        for _ in 0..AUDIT_PAGES_MAX {
            let query = AuditQuery { before, user: Some(self.user), limit: PAGE, ..AuditQuery::default() };
            let page = log.page(query).await?;
            for entry in &page.entries {
                self.line(&audit::entry_json_for_user(entry))?;
            }
            match page.more_at {
                Some(more_at) => before = Some(more_at),
                None => return Ok(()),
            }
        }
        self.complete = false;
        Ok(())
    }

    fn json(&mut self, name: &str, value: &impl serde::Serialize) -> Result<(), ArchiveError> {
        self.begin(name)?;
        let text = serde_json::to_vec_pretty(value).map_err(io::Error::from)?;
        self.bytes += text.len() as u64;
        Ok(self.zip.write_all(&text)?)
    }

    fn begin(&mut self, name: &str) -> Result<(), ArchiveError> {
        self.personal.chat.check_room()?;
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        Ok(self.zip.start_file(name, options.large_file(true))?)
    }

    fn line(&mut self, value: &Value) -> Result<(), ArchiveError> {
        let mut text = serde_json::to_vec(value).map_err(io::Error::from)?;
        text.push(b'\n');
        self.bytes += text.len() as u64;
        Ok(self.zip.write_all(&text)?)
    }

    fn is_full(&self) -> bool {
        self.bytes >= BYTES_MAX
    }
}

fn message_json(room: RoomId, message: &Message) -> Value {
    let body = &message.body;
    json!({
        "id": message_id(room, message.seq), "room": room.0, "message_type": body.kind, "text": body.text,
        "lat": body.lat, "lng": body.lng, "file": message.file.map(|file| file.0),
        "created_at": rest_format(message.created_at), "edited_at": message.edited_at.map(rest_format),
    })
}

fn payment_json(payment: &Payment) -> Value {
    json!({
        "id": payment.id.0, "state": state_name(payment.state), "amount_rial": payment.amount,
        "refunded_rial": payment.refunded, "order_id": payment.order, "gateway": payment.gateway,
        "description": payment.description, "ref_id": payment.receipt.as_ref().map(|receipt| &receipt.number),
        "card_pan": payment.receipt.as_ref().map(|receipt| &receipt.card_pan),
        "created_at": rest_format(payment.created_at), "paid_at": payment.paid_at.map(rest_format),
    })
}

/// The place of a file in the archive. Titles hold no separator; the number keeps them apart.
fn path(file: &StoredFile) -> String {
    format!("files/{}-{}", file.id.0, file.title)
}
