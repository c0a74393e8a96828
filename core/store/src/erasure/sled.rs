//! The operations of this folder, in sled statements.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::chat::sled::message::MessageRecord;
use crate::chat::sled::room::RoomRecord;
use crate::chat::{FileId, RoomId, StoredFile};
use crate::engine::sled::keys::chat as chat_key;
use crate::engine::sled::keys::money as money_key;
use crate::engine::sled::keys::sms as sms_key;
use crate::engine::sled::record::{Record, decode, decode_u64, encode_u64};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error, keys};
use crate::erasure::{Erasure, ErasureBegun, ErasureDraft, ErasureProof};
use crate::files::sled as file;
use crate::login::challenge::code::Guess;
use crate::login::password::sled as password;
use crate::login::session::sled::revoke_all;
use crate::login::sled::contact::{Contact, guess};
use crate::login::sled::user;
use crate::login::user::User;
use crate::money::correction::sled as correction;
use crate::money::correction::{CorrectionDraft, CorrectionMade};
use crate::money::ledger::Account;
use crate::money::ledger::sled::balance;
use crate::money::payment::sled as payment;
use crate::money::spend::Spend;
use crate::operator::note::{NOTES_MAX, NoteKind, filters_of};
use crate::sms::SmsRecord;
use crate::sms::sled as sms;
use crate::{PaymentId, SpendId, StoreError, Timestamp, UserId};

/// Newest payments that are examined inside the change. The caller examined all of them just before.
const PAYMENTS_MAX: usize = 100;

#[derive(Serialize, Deserialize)]
pub(crate) struct ErasureRecord {
    pub(crate) at: Timestamp,
    pub(crate) by: UserId,
    pub(crate) number: String,
    pub(crate) ended: bool,
}

impl Record for ErasureRecord {
    const KIND: &'static str = "erasure";
    const SCHEMA: u8 = 1;
}

impl Sled {
    pub(crate) async fn erasure_begin(&self, draft: ErasureDraft) -> Result<ErasureBegun, StoreError> {
        self.change(move |txn| begin(txn, draft)).await
    }

    pub(crate) fn erasures_open(&self, limit: usize) -> Result<Vec<Erasure>, StoreError> {
        let mut open = Vec::new();
        for entry in self.tree.scan_prefix(keys::ERASURES) {
            if open.len() >= limit {
                break;
            }
            let (key, value) = entry.map_err(error::read)?;
            let ErasureRecord { at, number, ended, .. } = decode(&value)?;
            if !ended {
                open.push(Erasure { user: UserId(chat_key::last(&key)), at, number });
            }
        }
        Ok(open)
    }

    pub(crate) async fn erasure_rooms(
        &self,
        user: UserId,
        after: RoomId,
        limit: usize,
    ) -> Result<Option<RoomId>, StoreError> {
        let range = self.tree.range((Bound::Excluded(chat_key::room(after)), Bound::Unbounded));
        let (rooms, last) = taken(range, chat_key::ROOMS, limit)?;
        let mut marked = Vec::new();
        for (key, _) in rooms {
            let room = RoomId(chat_key::last(&key));
            let has = |key: sled::IVec| self.tree.contains_key(key).map_err(error::read);
            let ids = self.tree.scan_prefix(chat_key::client_ids_of(room, user)).next();
            if ids.transpose().map_err(error::read)?.is_some()
                || has(chat_key::ban(room, user))?
                || has(chat_key::leaver(room, user))?
            {
                marked.push(room);
            }
        }
        for room in marked {
            // A user may have sent any number of messages to one room.
            while self.change(move |txn| unmark(txn, room, user, limit)).await? {}
        }
        Ok(last.map(|key| RoomId(chat_key::last(&key))))
    }

    pub(crate) fn erasure_files(
        &self,
        user: UserId,
        after: FileId,
        limit: usize,
    ) -> Result<(Vec<StoredFile>, Option<FileId>), StoreError> {
        let range = self.tree.range((Bound::Excluded(chat_key::file(after)), Bound::Unbounded));
        let (files, last) = taken(range, chat_key::FILES, limit)?;
        let mut own = Vec::new();
        for (key, value) in files {
            let file = file::read(FileId(chat_key::last(&key)), &value)?;
            own.extend(Some(file).filter(|file| file.uploader == user));
        }
        Ok((own, last.map(|key| FileId(chat_key::last(&key)))))
    }

    pub(crate) async fn erasure_file_doom(&self, file: FileId) -> Result<(), StoreError> {
        self.change(move |txn| file::doom(txn, file)).await
    }

    pub(crate) async fn erasure_own(&self, user: UserId, limit: usize) -> Result<usize, StoreError> {
        self.change(move |txn| {
            let mut removed = 0;
            let tables = [
                chat_key::contacts(user),
                chat_key::blocks(user),
                chat_key::declines(user),
                money_key::idempotency_of(user),
                keys::legacy_of(user),
            ];
            for table in tables {
                for (key, _) in txn.scan(&table, limit.saturating_sub(removed))? {
                    txn.delete(key);
                    removed += 1;
                }
            }
            Ok(removed)
        })
        .await
    }

    /// Continues after a key.
    pub(crate) async fn erasure_looks(
        &self,
        user: UserId,
        after: Vec<u8>,
        limit: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let from = match after.is_empty() {
            true => Bound::Included(keys::USER_LOOKS.to_vec()),
            false => Bound::Excluded(after),
        };
        let (looks, last) = taken(self.tree.range((from, Bound::Unbounded)), keys::USER_LOOKS, limit)?;
        let own = encode_u64(user.0);
        let found: Vec<_> =
            looks.into_iter().filter(|(_, owner)| *owner == own).map(|(key, _)| key).collect();
        if !found.is_empty() {
            self.change(move |txn| {
                for key in found {
                    // Another account may have taken the look since.
                    if txn.get(&key)?.is_some_and(|owner| owner == own) {
                        txn.delete(key);
                    }
                }
                Ok(())
            })
            .await?;
        }
        Ok(last.map(|key| key.to_vec()))
    }

    pub(crate) async fn erasure_blocks(
        &self,
        user: UserId,
        after: (UserId, UserId),
        limit: usize,
    ) -> Result<Option<(UserId, UserId)>, StoreError> {
        self.remove_of_other(user, chat_key::BLOCKS, chat_key::block(after.0, after.1), limit).await
    }

    pub(crate) async fn erasure_declines(
        &self,
        user: UserId,
        after: (UserId, UserId),
        limit: usize,
    ) -> Result<Option<(UserId, UserId)>, StoreError> {
        self.remove_of_other(user, chat_key::DECLINES, chat_key::decline(after.0, after.1), limit).await
    }

    /// Removes what other users have about a user, in a table of pairs of users.
    async fn remove_of_other(
        &self,
        user: UserId,
        table: &[u8],
        after: sled::IVec,
        limit: usize,
    ) -> Result<Option<(UserId, UserId)>, StoreError> {
        let range = self.tree.range((Bound::Excluded(after), Bound::Unbounded));
        let (entries, last) = taken(range, table, limit)?;
        let of_user = |key: &sled::IVec| chat_key::last(key) == user.0;
        let found: Vec<_> = entries.into_iter().map(|(key, _)| key).filter(of_user).collect();
        if !found.is_empty() {
            self.change(move |txn| {
                found.into_iter().for_each(|key| txn.delete(key));
                Ok(())
            })
            .await?;
        }
        Ok(last.and_then(|key| chat_key::users_of(&key)))
    }

    pub(crate) async fn erasure_payments(
        &self,
        user: UserId,
        after: PaymentId,
        limit: usize,
    ) -> Result<Option<PaymentId>, StoreError> {
        let first = money_key::payment_of(user, after);
        let range = self.tree.range((Bound::Excluded(first), Bound::Unbounded));
        let (found, last) = taken(range, &money_key::payments_of(user), limit)?;
        let ids: Vec<_> = found.iter().filter_map(|(key, _)| money_key::last_number(key)).collect();
        if !ids.is_empty() {
            self.change(move |txn| {
                for id in ids {
                    forget_payment(txn, PaymentId(id))?;
                }
                Ok(())
            })
            .await?;
        }
        Ok(last.and_then(|key| money_key::last_number(&key)).map(PaymentId))
    }

    pub(crate) async fn erasure_spends(
        &self,
        user: UserId,
        after: SpendId,
        limit: usize,
    ) -> Result<Option<SpendId>, StoreError> {
        let first = money_key::spend_of(user, after);
        let range = self.tree.range((Bound::Excluded(first.clone()), Bound::Unbounded));
        let prefix = &first[..first.len() - 8];
        let (found, last) = taken(range, prefix, limit)?;
        let ids: Vec<_> = found.iter().filter_map(|(key, _)| money_key::last_number(key)).collect();
        if !ids.is_empty() {
            self.change(move |txn| {
                for id in ids {
                    let key = money_key::spend(SpendId(id));
                    let spend = txn.get_record::<Spend>(&key)?;
                    if let Some(spend) = spend.filter(|spend| !spend.description.is_empty()) {
                        txn.put_record(key, &Spend { description: String::new(), ..spend });
                    }
                }
                Ok(())
            })
            .await?;
        }
        Ok(last.and_then(|key| money_key::last_number(&key)).map(SpendId))
    }

    pub(crate) async fn erasure_messages(
        &self,
        number: &str,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let range = sms_key::of_number(number, 0)..sms_key::of_number(number, before.as_micros());
        let mut ids = Vec::new();
        for entry in self.tree.range(range).take(limit) {
            ids.extend(sms_key::id_of(&entry.map_err(error::read)?.0));
        }
        if ids.is_empty() {
            return Ok(0);
        }
        let number = number.to_owned();
        self.change(move |txn| {
            let removed = ids.len();
            for id in ids {
                match txn.get_record::<SmsRecord>(&sms_key::message(id))? {
                    Some(message) => sms::remove(txn, message)?,
                    None => txn.delete(sms_key::of_number(&number, id)),
                }
            }
            Ok(removed)
        })
        .await
    }

    pub(crate) async fn erasure_end(&self, user: UserId) -> Result<(), StoreError> {
        self.change(move |txn| {
            let key = keys::erasure(user);
            if let Some(record) = txn.get_record::<ErasureRecord>(&key)? {
                txn.put_record(key, &ErasureRecord { number: String::new(), ended: true, ..record });
            }
            Ok(())
        })
        .await
    }
}

type Entries = Vec<(sled::IVec, sled::IVec)>;

/// The next `limit` entries of a table, and the last key when there may be more.
fn taken(
    range: impl Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>>,
    prefix: &[u8],
    limit: usize,
) -> Result<(Entries, Option<sled::IVec>), StoreError> {
    let mut entries = Vec::new();
    for entry in range.take(limit) {
        let (key, value) = entry.map_err(error::read)?;
        if !key.starts_with(prefix) {
            return Ok((entries, None));
        }
        entries.push((key, value));
    }
    let last = entries.last().map(|(key, _)| key.clone()).filter(|_| entries.len() == limit);
    Ok((entries, last))
}

fn begin(txn: &mut Txn, draft: ErasureDraft) -> Result<ErasureBegun, StoreError> {
    let ErasureDraft { user, look, proof, forfeit, by, now } = draft;
    let Some(user) = user::get(txn, user)? else { return Ok(ErasureBegun::Missing) };
    // A disabled account is erased by the staff only.
    if !user.active && !matches!(proof, ErasureProof::Staff) {
        return Ok(ErasureBegun::Missing);
    }
    if user.staff || user.superuser {
        return Ok(ErasureBegun::HasRights);
    }
    if let Some(open) = open_payment(txn, user.id)? {
        return Ok(ErasureBegun::PaymentOpen(open));
    }
    let rial = |account| Ok(u64::try_from(balance(txn, &account)?).unwrap_or(0));
    let (held, available) = (rial(Account::Held(user.id))?, rial(Account::Wallet(user.id))?);
    if held > 0 {
        return Ok(ErasureBegun::Held(held));
    }
    if available > 0 && !forfeit {
        return Ok(ErasureBegun::Balance(available));
    }
    match proof {
        ErasureProof::Code { challenge, mac, guesser } => {
            match guess(txn, &challenge, &mac, guesser, now)?.0 {
                Guess::Right => {}
                Guess::Burned => return Ok(ErasureBegun::Exhausted),
                _ => return Ok(ErasureBegun::Refused),
            }
        }
        ErasureProof::Password { checked } if password::kept(txn, user.id)? != checked => {
            return Ok(ErasureBegun::Refused);
        }
        ErasureProof::Password { .. } | ErasureProof::Staff => {}
    }
    if available > 0 && !give_up(txn, user.id, available, by, now)? {
        return Ok(ErasureBegun::Balance(available));
    }
    let number = close(txn, &user, &look)?;
    txn.put_record(keys::erasure(user.id), &ErasureRecord { at: now, by, number, ended: false });
    Ok(ErasureBegun::Begun { forfeited: available })
}

/// Removes what makes the account one, and returns its number when no other account has it.
fn close(txn: &mut Txn, user: &User, look: &str) -> Result<String, StoreError> {
    revoke_all(txn, user.id, None)?;
    let filters = keys::console::note(NoteKind::Filter, &filters_of(user.id));
    for (key, _) in txn.scan(&filters, NOTES_MAX)? {
        txn.delete(key);
    }
    let operator = keys::console::operator(user.id);
    for key in [keys::password(user.id), keys::reset_token(user.id), keys::user(user.id), operator] {
        txn.delete(key);
    }
    let own = encode_u64(user.id.0);
    // The name of a login by code has no entry, and an older account may have the look.
    for key in [keys::user_name(&user.username), keys::user_look(look)] {
        if txn.get(&key)?.is_some_and(|owner| owner == own) {
            txn.delete(key);
        }
    }
    if user.number.is_empty() {
        return Ok(String::new());
    }
    let mut contact = Contact::get(txn, &user.number)?;
    contact.remove_account(user.id);
    let shared = contact.accounts().next().is_some();
    contact.put(txn, &user.number);
    let older = keys::identity(user.group, &user.number);
    if txn.get(&older)?.is_some_and(|owner| owner == own) {
        txn.delete(older);
    }
    // Codes for other purposes, of this number.
    for (key, _) in txn.scan(&keys::contact(&format!("{}/", user.number)), usize::MAX)? {
        txn.delete(key);
    }
    Ok(if shared { String::new() } else { user.number.clone() })
}

/// Moves what the wallet holds to the merchant; false when the books cannot take it.
fn give_up(
    txn: &mut Txn,
    user: UserId,
    available: u64,
    by: UserId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let Ok(amount) = i64::try_from(available) else { return Ok(false) };
    let reason = "given up when the account was erased".to_owned();
    let draft = CorrectionDraft { user, amount: -amount, reason, by, now, once: None };
    Ok(matches!(correction::make(txn, draft)?, CorrectionMade::Done(_)))
}

fn open_payment(txn: &Txn, user: UserId) -> Result<Option<PaymentId>, StoreError> {
    let newest = txn.scan_back(&money_key::payments_of(user), PAYMENTS_MAX)?;
    for key in newest {
        let Some(id) = money_key::last_number(&key).map(PaymentId) else { continue };
        if payment::get(txn, id)?.is_some_and(|payment| payment.state.is_open()) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Clears a payment's free text. What proves the payment stays: state, amount, order, gateway, reference, receipt.
fn forget_payment(txn: &mut Txn, id: PaymentId) -> Result<(), StoreError> {
    let Some(mut payment) = payment::get(txn, id)? else { return Ok(()) };
    payment.description.clear();
    if !payment.state.is_open() {
        payment.claims.clear();
        payment.frontend_url = None;
        payment.callback_key.clear();
        if let Some(start) = &mut payment.start {
            start.redirect.fields.clear();
            start.message.clear();
        }
    }
    if let Some(refusal) = &mut payment.refusal {
        refusal.text.clear();
    }
    txn.put_record(money_key::payment(id), &payment);
    Ok(())
}

/// Removes the marks of a user in a room; true when some may remain.
fn unmark(txn: &mut Txn, id: RoomId, user: UserId, limit: usize) -> Result<bool, StoreError> {
    let leaver = chat_key::leaver(id, user);
    if txn.get(&leaver)?.is_some() {
        txn.delete(leaver);
    }
    let ban = chat_key::ban(id, user);
    if txn.get(&ban)?.is_some() {
        txn.delete(ban);
        if let Some(mut room) = txn.get_record::<RoomRecord>(&chat_key::room(id))? {
            room.bans = room.bans.saturating_sub(1);
            txn.put_record(chat_key::room(id), &room);
        }
    }
    let ids = txn.scan(&chat_key::client_ids_of(id, user), limit)?;
    let more = ids.len() == limit;
    for (key, value) in ids {
        let message = chat_key::message(id, decode_u64("client message id", &value)?);
        if let Some(mut record) = txn.get_record::<MessageRecord>(&message)? {
            record.client_id = None;
            txn.put_record(message, &record);
        }
        txn.delete(key);
    }
    Ok(more)
}
