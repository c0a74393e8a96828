//! The operations of this folder, in PostgreSQL statements.

use crate::chat::RoomId;
use crate::chat::postgres::request::{end_requests, put_block, remove_block};
use crate::chat::postgres::room::lock_users;
use crate::chat::request::{Blocked, ChatRequest};
use crate::engine::postgres::Postgres;
use crate::engine::postgres::value::{Columns, int, size};
use crate::{StoreError, UserId};

impl Postgres {
    pub(crate) async fn chat_requests(
        &self,
        user: UserId,
        limit: usize,
    ) -> Result<Vec<ChatRequest>, StoreError> {
        let statement =
            "select room, asked_by, at from chat_request where account = $1 order by room limit $2";
        let rows = self.reader().await?.rows(statement, &[&int(user.0), &size(limit)]).await?;
        let request = |row: &tokio_postgres::Row| ChatRequest {
            room: RoomId(row.uint("room")),
            by: UserId(row.uint("asked_by")),
            at: row.at("at"),
        };
        Ok(rows.iter().map(request).collect())
    }

    /// Locks both users, and then the rooms of the requests that end.
    pub(crate) async fn chat_block(&self, blocker: UserId, blocked: UserId) -> Result<Blocked, StoreError> {
        self.change((blocker, blocked), |sql, (blocker, blocked)| {
            Box::pin(async move {
                let (blocker, blocked) = (*blocker, *blocked);
                if !lock_users(sql, &[blocker, blocked]).await?.contains(&blocked) {
                    return Ok(Blocked::UserMissing);
                }
                if !put_block(sql, blocker, blocked).await? {
                    return Ok(Blocked::TooMany);
                }
                end_requests(sql, blocker, blocked).await?;
                Ok(Blocked::Done)
            })
        })
        .await
    }

    /// One statement.
    pub(crate) async fn chat_unblock(&self, blocker: UserId, blocked: UserId) -> Result<(), StoreError> {
        self.change((blocker, blocked), |sql, (blocker, blocked)| {
            Box::pin(remove_block(sql, *blocker, *blocked))
        })
        .await
    }

    pub(crate) async fn chat_blocks(
        &self,
        blocker: UserId,
        from: UserId,
        limit: usize,
    ) -> Result<Vec<UserId>, StoreError> {
        let statement = "select blocked from chat_block where blocker = $1 and blocked >= $2 \
                         order by blocked limit $3";
        let rows =
            self.reader().await?.rows(statement, &[&int(blocker.0), &int(from.0), &size(limit)]).await?;
        Ok(rows.iter().map(|row| UserId(row.uint("blocked"))).collect())
    }

    pub(crate) async fn chat_pair(&self, one: UserId, other: UserId) -> Result<Option<RoomId>, StoreError> {
        let statement = "select id from room where pair_low = $1 and pair_high = $2 and state = 'live'";
        let (low, high) = (int(one.min(other).0), int(one.max(other).0));
        let found = self.reader().await?.found(statement, &[&low, &high]).await?;
        Ok(found.map(|row| RoomId(row.uint("id"))))
    }

    pub(crate) async fn chat_share_a_room(&self, one: UserId, other: UserId) -> Result<bool, StoreError> {
        let statement = "select exists (select from room_member as own join room_member as their using (room) \
                         where own.account = $1 and their.account = $2 and not own.pending and not their.pending)";
        let row = self.reader().await?.row(statement, &[&int(one.0), &int(other.0)]).await?;
        Ok(row.get(0))
    }

    /// Locks the user, under whose row contacts are counted.
    pub(crate) async fn contacts_add(
        &self,
        user: UserId,
        marks: Vec<[u8; 16]>,
        max: usize,
    ) -> Result<bool, StoreError> {
        self.change((user, marks), move |sql, (user, marks)| {
            Box::pin(async move {
                lock_users(sql, &[*user]).await?;
                // Nothing is added when it would be too much: both counts see the contacts from before.
                let statement = "
                    with new as (
                        select distinct mark from unnest($2::bytea[]) as mark
                        where not exists (
                            select from chat_contact as known where account = $1 and known.mark = mark.mark
                        )
                    ), room as (
                        select (select count(*) from chat_contact where account = $1)
                            + (select count(*) from new) <= $3 as enough
                    ), added as (
                        insert into chat_contact (account, mark) select $1, mark from new, room where enough
                    )
                    select enough from room";
                let marks: Vec<&[u8]> = marks.iter().map(<[u8; 16]>::as_slice).collect();
                let row = sql.row(statement, &[&int(user.0), &marks, &size(max)]).await?;
                Ok(row.get("enough"))
            })
        })
        .await
    }

    /// One statement.
    pub(crate) async fn contacts_forget(&self, user: UserId, limit: usize) -> Result<usize, StoreError> {
        self.change(user, move |sql, user| {
            Box::pin(async move {
                let statement = "delete from chat_contact where account = $1 and mark in \
                                 (select mark from chat_contact where account = $1 order by mark limit $2)";
                let forgotten = sql.run(statement, &[&int(user.0), &size(limit)]).await?;
                Ok(usize::try_from(forgotten).unwrap_or(usize::MAX))
            })
        })
        .await
    }

    pub(crate) async fn contacts_have(&self, user: UserId, mark: [u8; 16]) -> Result<bool, StoreError> {
        let statement = "select exists (select from chat_contact where account = $1 and mark = $2)";
        let row = self.reader().await?.row(statement, &[&int(user.0), &mark.as_slice()]).await?;
        Ok(row.get(0))
    }
}
