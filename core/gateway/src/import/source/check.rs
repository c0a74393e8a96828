//! Whether a database is one of the package, in the version whose tables are known.

use super::database::Source;
use super::schema::{ALL, MEMBERS, MESSAGES, PAYMENTS, PROFILES, Query, USERS, WALLETS};

/// The beginning of the package's table names.
const APP: &str = "drfchelseru_";

/// The last migration of 3.1.2.
const LAST_MIGRATION: &str = "0027_payment_frontend_callback_url";

/// Checks that a database is one of the package in the version whose tables are known.
///
/// Errors: what is missing, and what to do.
pub(crate) fn check(source: &Source) -> Result<(), String> {
    let tables: Vec<_> =
        ALL.iter().map(|query| Ok((*query, source.columns(query.table)?))).collect::<Result<_, String>>()?;
    if tables.iter().all(|(query, columns)| columns.is_empty() || !query.table.starts_with(APP)) {
        return Err("this is no database of django-chelseru: it has no table drfchelseru_...".to_owned());
    }
    for (query, columns) in &tables {
        if columns.is_empty() {
            return Err(format!("the table {} is missing; {}", query.table, version(source)?));
        }
        if let Some(missing) = query.columns.iter().find(|column| !columns.contains(**column)) {
            return Err(format!("{} has no column {missing}; {}", query.table, version(source)?));
        }
    }
    for (table, column) in [
        (WALLETS.table, "user_id"),
        (PAYMENTS.table, "user_id"),
        (PROFILES.table, "user_id"),
        (MEMBERS.table, "user_id"),
        (MESSAGES.table, "sender_id"),
    ] {
        if let Some(target) = source.target(table, column)?.filter(|target| target != USERS.table) {
            return Err(format!(
                "{table}.{column} refers to {target} and not to {}: a project with AUTH_USER_MODEL keeps its users in \
                 two tables, and their ids mean two things; copy them into {} first",
                USERS.table, USERS.table
            ));
        }
    }
    Ok(())
}

/// What version of the package the database seems to be of.
fn version(source: &Source) -> Result<String, String> {
    const MIGRATIONS: Query = Query::by_id("django_migrations", &["id", "app", "name"]);
    let mut last = None;
    if !source.columns(MIGRATIONS.table)?.is_empty() {
        source.each(&MIGRATIONS, &mut |row| {
            if row.text("app")? == "drfchelseru" {
                last = Some(row.text("name")?);
            }
            Ok(())
        })?;
    }
    let found =
        last.map_or_else(|| "none was found".to_owned(), |name| format!("the last one here is {name}"));
    Ok(format!(
        "only databases of version 3.1.2 are read, whose last migration is {LAST_MIGRATION} ({found}): install \
         django-chelseru 3.1.2 and run migrate, then import"
    ))
}
