//! The row of a code, and the steps shared by several operations inside a change.

use tokio_postgres::Row;

use crate::engine::postgres::sql::{Args, Sql};
use crate::engine::postgres::value::{At, Columns, Text, bits, unbits};
use crate::login::challenge::Guesser;
use crate::login::challenge::code::{Challenge, Guess};
use crate::{StoreError, Timestamp};

macro_rules! columns {
    () => {
        "id, mac, created_at, expires_at, resend_at, attempts_max, others_max, asked_from, guess_addresses, \
         guess_counts, known_guesses"
    };
}

pub(crate) use columns;

/// Locks a code, and counts and compares a guess at it. A wrong guess is stored; after a right one the caller removes
/// the code, or stores the guess by [`keep_guesses`].
pub(crate) async fn guess(
    sql: &Sql,
    name: &str,
    mac: &[u8; 32],
    guesser: Guesser,
    now: Timestamp,
) -> Result<(Guess, Option<Challenge>), StoreError> {
    let Some(mut challenge) = locked(sql, name).await? else { return Ok((Guess::Missing, None)) };
    let guess = challenge.guess(mac, guesser, now);
    if matches!(guess, Guess::Wrong { .. }) {
        keep_guesses(sql, name, &challenge).await?;
    }
    Ok((guess, Some(challenge)))
}

/// Stores what was guessed so far.
pub(crate) async fn keep_guesses(sql: &Sql, name: &str, challenge: &Challenge) -> Result<(), StoreError> {
    let keep =
        "update challenge set guess_addresses = $2, guess_counts = $3, known_guesses = $4 where name = $1";
    let (addresses, counts) = guesses(challenge);
    sql.run(keep, &[&Text(name), &addresses, &counts, &i64::from(challenge.known)]).await?;
    Ok(())
}

/// Removes a name's code; false without one.
pub(crate) async fn remove(sql: &Sql, name: &str) -> Result<bool, StoreError> {
    Ok(sql.run("delete from challenge where name = $1", &[&Text(name)]).await? > 0)
}

/// Locks a name's code before other rows.
pub(crate) async fn lock(sql: &Sql, name: &str) -> Result<(), StoreError> {
    sql.run("select from challenge where name = $1 for update", &[&Text(name)]).await?;
    Ok(())
}

/// Locks and reads a name's code.
pub(crate) async fn locked(sql: &Sql, name: &str) -> Result<Option<Challenge>, StoreError> {
    let locked = concat!("select ", columns!(), " from challenge where name = $1 for update");
    Ok(sql.found(locked, &[&Text(name)]).await?.map(|row| read(&row)))
}

/// Reads a name's code.
pub(crate) async fn found(sql: &Sql, name: &str) -> Result<Option<Challenge>, StoreError> {
    let found = concat!("select ", columns!(), " from challenge where name = $1");
    Ok(sql.found(found, &[&Text(name)]).await?.map(|row| read(&row)))
}

/// Stores a new code.
pub(crate) async fn insert(sql: &Sql, name: &str, challenge: &Challenge) -> Result<(), StoreError> {
    let insert = concat!(
        "insert into challenge (",
        columns!(),
        ", name) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
    );
    let (addresses, counts) = guesses(challenge);
    let args: Args<'_> = &[
        &bits(challenge.id),
        &challenge.mac.as_slice(),
        &At(challenge.created_at),
        &At(challenge.expires_at),
        &At(challenge.resend_at),
        &i64::from(challenge.attempts_max),
        &i64::from(challenge.others_max),
        &bits(challenge.from),
        &addresses,
        &counts,
        &i64::from(challenge.known),
        &Text(name),
    ];
    sql.run(insert, args).await?;
    Ok(())
}

fn guesses(challenge: &Challenge) -> (Vec<i64>, Vec<i64>) {
    challenge.guesses.iter().map(|(address, count)| (bits(*address), i64::from(*count))).unzip()
}

pub(crate) fn read(row: &Row) -> Challenge {
    let addresses: Vec<i64> = row.get("guess_addresses");
    let counts: Vec<i64> = row.get("guess_counts");
    let count = |count: i64| u32::try_from(count).unwrap_or(u32::MAX);
    Challenge {
        id: row.bits("id"),
        mac: row.bytes("mac"),
        created_at: row.at("created_at"),
        expires_at: row.at("expires_at"),
        resend_at: row.at("resend_at"),
        attempts_max: row.uint32("attempts_max"),
        others_max: row.uint32("others_max"),
        from: row.bits("asked_from"),
        guesses: addresses.into_iter().map(unbits).zip(counts.into_iter().map(count)).collect(),
        known: row.uint32("known_guesses"),
    }
}
