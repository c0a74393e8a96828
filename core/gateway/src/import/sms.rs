//! Sent messages: an archive.
//!
//! The original kept the provider's own word as the status, so only an accepted one is known; the rest is unknown.
//! Numbers are canonical where they are numbers at all.

use chelseru_domain::PhoneNumber;
use chelseru_domain::Timestamp;
use chelseru_domain::sms::{SmsClass, SmsContent, SmsOwner, SmsRecord, SmsStatus};

use super::reader::Reader;
use super::report::Report;
use super::source::SMS;
use super::target::{Batch, Target};

pub(super) const RULES: [&str; 1] = [
    "Sent messages keep their times, and sms.keep_days counts from the import on. A status of 1, 4, 5 or 10 \
     (Kavenegar's words for taken and delivered) is accepted or delivered; every other is unknown.",
];

/// Bytes of a text; a record of the store stays below its limit.
const TEXT_BYTES_MAX: usize = 32 * 1024;

/// Imports the archive. The ids end before `now`, so that the next message sorts after them.
///
/// Errors: a text that names table and row.
pub(super) fn import(
    reader: &Reader,
    target: &Target,
    report: &mut Report,
    now: Timestamp,
) -> Result<(), String> {
    let count = reader.source.count(SMS.table)?;
    let mut id = now.as_micros().saturating_sub(count);
    let mut batch = Batch::new();
    let there = reader.each(&SMS, |row| {
        let written = row.text("mobile_number")?;
        let number = match PhoneNumber::parse(&written) {
            Ok(number) => number.e164().to_owned(),
            Err(error) => {
                report.warn("sent messages to what is no mobile number", format!("{}: {error}", row.place()));
                written.replace('\0', "")
            }
        };
        let mut text = row.text("message_text")?;
        if text.len() > TEXT_BYTES_MAX {
            report.warn("texts longer than 32 KiB: cut", format!("{}: {} bytes", row.place(), text.len()));
            let end = (0..=TEXT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
        }
        let word = row.maybe_text("status").unwrap_or_default();
        let status = match word.as_str() {
            "1" | "4" | "5" => SmsStatus::Accepted,
            "10" => SmsStatus::Delivered,
            _ => SmsStatus::Unknown,
        };
        let created_at = row.time("created_at", &reader.zone)?;
        let record = SmsRecord {
            status,
            id,
            number,
            content: SmsContent::Text(text),
            class: SmsClass::Notice,
            owner: SmsOwner::Gateway,
            created_at,
            updated_at: row.time("updated_at", &reader.zone)?,
            due_at: created_at,
            deadline: created_at,
            rounds: 0,
            begun: None,
            resume_with: None,
            provider: None,
            provider_message_id: None,
            cost_rial: None,
            error: (status == SmsStatus::Unknown).then_some(word),
            tried: Vec::new(),
            poll_at: None,
            polls: 0,
        };
        id += 1;
        match batch.add(record) {
            Some(rows) => target.put(async |store| store.import_sms(rows).await),
            None => Ok(()),
        }
    })?;
    let rest = batch.rest();
    target.put(async |store| store.import_sms(rest).await)?;
    report.table(SMS.table, there, there);
    Ok(())
}
