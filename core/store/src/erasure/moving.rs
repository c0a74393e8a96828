//! Erased accounts, from one engine to the other: on PostgreSQL they keep an empty row, which rooms refer to.

use crate::UserId;
use crate::engine::moving::{Part, Records, Rows};
use crate::engine::postgres::change::Running;
use crate::engine::postgres::value::{At, Columns, Text, int};
use crate::engine::sled::keys;
use crate::engine::sled::keys::chat::last;
use crate::engine::sled::record::{decode, encode};
use crate::erasure::sled::ErasureRecord;
use crate::login::moving::put_erased;

pub(crate) const PART: Part = Part { keys: &[keys::ERASURES], tables: &["erasure"], to_postgres, to_sled };

fn to_postgres<'a>(rows: &'a Rows<'a>) -> Running<'a, ()> {
    let erasure = |key: &[u8], value: &[u8]| Ok(Some((UserId(last(key)), decode::<ErasureRecord>(value)?)));
    Box::pin(rows.each("erasures", keys::ERASURES, erasure, |sql, (user, erasure)| {
        Box::pin(async move {
            let ErasureRecord { at, by, number, ended } = erasure;
            put_erased(sql, *user, *at).await?;
            let put =
                "insert into erasure (account, at, ordered_by, number, ended) values ($1, $2, $3, $4, $5)";
            sql.run(put, &[&int(user.0), &At(*at), &int(by.0), &Text(number), ended]).await.map(drop)
        })
    }))
}

fn to_sled<'a>(records: &'a Records<'a>) -> Running<'a, ()> {
    let erasures = "select account, at, ordered_by, number, ended from erasure order by account";
    Box::pin(records.put("erasures", erasures, |row| {
        let (at, by) = (row.at("at"), UserId(row.uint("ordered_by")));
        let record = ErasureRecord { at, by, number: row.text("number"), ended: row.get("ended") };
        Ok([(keys::erasure(UserId(row.uint("account"))), encode(&record))])
    }))
}
