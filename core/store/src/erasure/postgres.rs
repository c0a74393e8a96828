//! The operations of this folder, in PostgreSQL statements.
//!
//! Beginning locks the code, the account, and the user's wallet. The steps are found by indexes, so they continue
//! where something is left and not where a walk stood.

use crate::chat::{FileId, RoomId, StoredFile};
use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Columns, Text, int};
use crate::erasure::{Erasure, ErasureBegun, ErasureDraft, ErasureProof};
use crate::files::postgres as file;
use crate::login::challenge::code::Guess;
use crate::login::password::postgres as password;
use crate::login::postgres::account;
use crate::login::postgres::code;
use crate::login::session::postgres::revoke_all;
use crate::login::user::User;
use crate::money::correction::postgres as correction;
use crate::money::correction::{CorrectionDraft, CorrectionMade};
use crate::money::ledger::postgres::balance_locked;
use crate::operator::console::postgres as console;
use crate::operator::note::postgres as note;
use crate::{PaymentId, SpendId, StoreError, Timestamp, UserId};

impl Postgres {
    /// Locks the code, the account and the wallet.
    pub(crate) async fn erasure_begin(&self, draft: ErasureDraft) -> Result<ErasureBegun, StoreError> {
        self.change(draft, |sql, draft| Box::pin(begin(sql, draft))).await
    }

    pub(crate) async fn erasures_open(&self, limit: usize) -> Result<Vec<Erasure>, StoreError> {
        let sql = self.reader().await?;
        let open = "select account, at, number from erasure where not ended order by account limit $1";
        let rows = sql.rows(open, &[&int(limit as u64)]).await?;
        let read = |row: &tokio_postgres::Row| Erasure {
            user: UserId(row.uint("account")),
            at: row.at("at"),
            number: row.text("number"),
        };
        Ok(rows.iter().map(read).collect())
    }

    /// Locks each room with a mark, one change a room.
    pub(crate) async fn erasure_rooms(
        &self,
        user: UserId,
        after: RoomId,
        limit: usize,
    ) -> Result<Option<RoomId>, StoreError> {
        let look = "select id,
                exists (select from room_ban b where b.room = r.id and b.account = $1)
                or exists (select from room_leaver l where l.room = r.id and l.account = $1)
                or exists (select from message m where m.room = r.id and m.sender = $1 and m.client_id is not null)
                as marked
            from (select id from room where id > $2 order by id limit $3) r order by id";
        let sql = self.reader().await?;
        let rooms = sql.rows(look, &[&int(user.0), &int(after.0), &int(limit as u64)]).await?;
        drop(sql);
        for room in rooms.iter().filter(|room| room.get("marked")) {
            let room = room.get::<_, i64>("id");
            // A user may have sent any number of messages to one room.
            while self.unmark(room, user, limit).await? {}
        }
        let last = rooms.last().filter(|_| rooms.len() == limit);
        Ok(last.map(|room| RoomId(room.uint("id"))))
    }

    /// Removes the marks of a user in a room; true when some may remain.
    async fn unmark(&self, room: i64, user: UserId, limit: usize) -> Result<bool, StoreError> {
        self.change((room, user, limit), |sql, &(room, user, limit)| {
            Box::pin(async move {
                let user = int(user.0);
                sql.run("select from room where id = $1 for update", &[&room]).await?;
                sql.run("delete from room_leaver where room = $1 and account = $2", &[&room, &user]).await?;
                let ban = "delete from room_ban where room = $1 and account = $2";
                if sql.run(ban, &[&room, &user]).await? > 0 {
                    sql.run("update room set bans = greatest(bans - 1, 0) where id = $1", &[&room]).await?;
                }
                let ids = "update message set client_id = null where room = $1 and seq in
                    (select seq from message where room = $1 and sender = $2 and client_id is not null limit $3)";
                let cleared = sql.run(ids, &[&room, &user, &int(limit as u64)]).await?;
                Ok(cleared == limit as u64)
            })
        })
        .await
    }

    pub(crate) async fn erasure_files(
        &self,
        user: UserId,
        after: FileId,
        limit: usize,
    ) -> Result<(Vec<StoredFile>, Option<FileId>), StoreError> {
        file::of_uploader(&self.reader().await?, user, after, limit).await
    }

    /// One statement.
    pub(crate) async fn erasure_file_doom(&self, file: FileId) -> Result<(), StoreError> {
        self.change(file, |sql, file| Box::pin(file::doom(sql, *file))).await
    }

    /// One statement for each table.
    pub(crate) async fn erasure_own(&self, user: UserId, limit: usize) -> Result<usize, StoreError> {
        self.change((user, limit), |sql, &(user, limit)| {
            Box::pin(async move {
                let mut left = limit as u64;
                for table in [
                    "delete from chat_contact where ctid in
                        (select ctid from chat_contact where account = $1 limit $2)",
                    "delete from chat_block where ctid in
                        (select ctid from chat_block where blocker = $1 limit $2)",
                    "delete from chat_decline where ctid in
                        (select ctid from chat_decline where decliner = $1 limit $2)",
                    "delete from idempotency where ctid in
                        (select ctid from idempotency where user_id = $1 limit $2)",
                    "delete from used_token where ctid in
                        (select ctid from used_token where account = $1 limit $2)",
                ] {
                    left -= sql.run(table, &[&int(user.0), &int(left)]).await?;
                }
                Ok(limit - usize::try_from(left).unwrap_or(0))
            })
        })
        .await
    }

    /// One statement. An account has a few looks at most, and an index leads to them.
    pub(crate) async fn erasure_looks(
        &self,
        user: UserId,
        _after: Vec<u8>,
        _limit: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.change(user, |sql, user| Box::pin(account::erase_looks(sql, *user))).await?;
        Ok(None)
    }

    /// One statement. The index leads to the user's blocks alone, so what is left begins at the start again.
    pub(crate) async fn erasure_blocks(
        &self,
        user: UserId,
        after: (UserId, UserId),
        limit: usize,
    ) -> Result<Option<(UserId, UserId)>, StoreError> {
        let remove = "delete from chat_block where ctid in
            (select ctid from chat_block where blocked = $1 limit $2)";
        self.remove_of_other(remove, user, after, limit).await
    }

    /// As [`Postgres::erasure_blocks`].
    pub(crate) async fn erasure_declines(
        &self,
        user: UserId,
        after: (UserId, UserId),
        limit: usize,
    ) -> Result<Option<(UserId, UserId)>, StoreError> {
        let remove = "delete from chat_decline where ctid in
            (select ctid from chat_decline where asker = $1 limit $2)";
        self.remove_of_other(remove, user, after, limit).await
    }

    /// Removes what other users have about a user, by a statement.
    async fn remove_of_other(
        &self,
        remove: &'static str,
        user: UserId,
        after: (UserId, UserId),
        limit: usize,
    ) -> Result<Option<(UserId, UserId)>, StoreError> {
        self.change((remove, user, after, limit), |sql, &(remove, user, after, limit)| {
            Box::pin(async move {
                let removed = sql.run(remove, &[&int(user.0), &int(limit as u64)]).await?;
                Ok((removed == limit as u64).then_some(after))
            })
        })
        .await
    }

    /// One statement; locks the payments in order of their numbers.
    pub(crate) async fn erasure_payments(
        &self,
        user: UserId,
        after: PaymentId,
        limit: usize,
    ) -> Result<Option<PaymentId>, StoreError> {
        self.change((user, after, limit), |sql, &(user, after, limit)| {
            Box::pin(async move {
                // What proves the payment stays: state, amount, order, gateway, reference, receipt.
                let forget = "with own as (
                        select id, state not in ('created', 'pending') as ended from payment
                        where user_id = $1 and id > $2 order by id limit $3 for update
                    )
                    update payment p set description = '',
                        claims = case when ended then '[]'::json else claims end,
                        frontend_url = case when ended then null else frontend_url end,
                        callback_key = case when ended then '' else callback_key end,
                        redirect_fields = case when ended and reference is not null then '[]'::json
                            else redirect_fields end,
                        start_message = case when ended and reference is not null then '' else start_message end,
                        refusal_text = case when refusal_text is null then null else '' end
                    from own where own.id = p.id returning p.id";
                let rows = sql.rows(forget, &[&int(user.0), &int(after.0), &int(limit as u64)]).await?;
                let last = rows.iter().map(|row| PaymentId(row.uint("id"))).max();
                Ok(last.filter(|_| rows.len() == limit))
            })
        })
        .await
    }

    /// One statement; locks the spends in order of their numbers.
    pub(crate) async fn erasure_spends(
        &self,
        user: UserId,
        after: SpendId,
        limit: usize,
    ) -> Result<Option<SpendId>, StoreError> {
        self.change((user, after, limit), |sql, &(user, after, limit)| {
            Box::pin(async move {
                let forget = "with own as (
                        select id from spend where user_id = $1 and id > $2 order by id limit $3 for update
                    )
                    update spend s set description = '' from own where own.id = s.id returning s.id";
                let rows = sql.rows(forget, &[&int(user.0), &int(after.0), &int(limit as u64)]).await?;
                let last = rows.iter().map(|row| SpendId(row.uint("id"))).max();
                Ok(last.filter(|_| rows.len() == limit))
            })
        })
        .await
    }

    /// One statement.
    pub(crate) async fn erasure_messages(
        &self,
        number: &str,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        self.change((number.to_owned(), before, limit), |sql, (number, before, limit)| {
            Box::pin(async move {
                // The number of a message is the microsecond of its creation.
                let remove = "delete from sms where id in
                    (select id from sms where number = $1 and id < $2 order by id limit $3)";
                let before = int(before.as_micros());
                let removed = sql.run(remove, &[&Text(number), &before, &int(*limit as u64)]).await?;
                Ok(usize::try_from(removed).unwrap_or(usize::MAX))
            })
        })
        .await
    }

    /// One statement.
    pub(crate) async fn erasure_end(&self, user: UserId) -> Result<(), StoreError> {
        self.change(user, |sql, user| {
            Box::pin(async move {
                let end = "update erasure set ended = true, number = '' where account = $1";
                sql.run(end, &[&int(user.0)]).await?;
                Ok(())
            })
        })
        .await
    }
}

async fn begin(sql: &Sql, draft: &ErasureDraft) -> Result<ErasureBegun, StoreError> {
    // All looks of the account are removed, so which one is today's does not matter.
    let ErasureDraft { user, look: _, proof, forfeit, by, now } = draft;
    if let ErasureProof::Code { challenge, .. } = proof {
        code::lock(sql, challenge).await?;
    }
    let Some(user) = account::locked(sql, *user).await? else { return Ok(ErasureBegun::Missing) };
    // A disabled account is erased by the staff only.
    if !user.active && !matches!(proof, ErasureProof::Staff) {
        return Ok(ErasureBegun::Missing);
    }
    if user.staff || user.superuser {
        return Ok(ErasureBegun::HasRights);
    }
    let open = "select id from payment where user_id = $1 and state in ('created', 'pending') order by id desc limit 1";
    if let Some(open) = sql.found(open, &[&int(user.id.0)]).await? {
        return Ok(ErasureBegun::PaymentOpen(PaymentId(open.uint("id"))));
    }
    let wallet = balance_locked(sql, user.id).await?;
    if wallet.held > 0 {
        return Ok(ErasureBegun::Held(wallet.held));
    }
    let available = wallet.available;
    if available > 0 && !forfeit {
        return Ok(ErasureBegun::Balance(available));
    }
    match proof {
        ErasureProof::Code { challenge, mac, guesser } => {
            match code::guess(sql, challenge, mac, *guesser, *now).await?.0 {
                Guess::Right => {}
                Guess::Burned => return Ok(ErasureBegun::Exhausted),
                _ => return Ok(ErasureBegun::Refused),
            }
        }
        ErasureProof::Password { checked } if password::kept(sql, user.id).await? != *checked => {
            return Ok(ErasureBegun::Refused);
        }
        ErasureProof::Password { .. } | ErasureProof::Staff => {}
    }
    if available > 0 && !give_up(sql, user.id, available, *by, *now).await? {
        return Ok(ErasureBegun::Balance(available));
    }
    let number = close(sql, &user).await?;
    let note = "insert into erasure (account, at, ordered_by, number) values ($1, $2, $3, $4)
        on conflict (account) do update set at = $2, ordered_by = $3, number = $4, ended = false";
    sql.run(note, &[&int(user.id.0), &At(*now), &int(by.0), &Text(&number)]).await?;
    Ok(ErasureBegun::Begun { forfeited: available })
}

/// Removes what makes the account one, and returns its number when no other account has it.
async fn close(sql: &Sql, user: &User) -> Result<String, StoreError> {
    revoke_all(sql, user.id, None).await?;
    console::remove(sql, user.id).await?;
    note::remove_filters(sql, user.id).await?;
    account::erase(sql, user).await?;
    if user.number.is_empty() {
        return Ok(String::new());
    }
    // The pending code of the number, and those for other purposes.
    let codes = "delete from challenge where name = $1 or starts_with(name, $1 || '/')";
    sql.run(codes, &[&Text(&user.number)]).await?;
    let shared = "select exists (select from account_number where number = $1)";
    let shared: bool = sql.row(shared, &[&Text(&user.number)]).await?.get(0);
    Ok(if shared { String::new() } else { user.number.clone() })
}

/// Moves what the wallet holds to the merchant; false when the books cannot take it.
async fn give_up(
    sql: &Sql,
    user: UserId,
    available: u64,
    by: UserId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let Ok(amount) = i64::try_from(available) else { return Ok(false) };
    let reason = "given up when the account was erased".to_owned();
    let draft = CorrectionDraft { user, amount: -amount, reason, by, now, once: None };
    Ok(matches!(correction::make(sql, &draft).await?, CorrectionMade::Done(_)))
}
