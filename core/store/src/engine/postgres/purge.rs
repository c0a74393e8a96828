//! Purging: one statement removes a bounded number of expired rows, found by an index.
//!
//! Rows that another change holds are left for the next step. Several gateways may purge at once.

use super::Postgres;
use super::value::{At, int};
use crate::{PurgeStep, StoreError, Timestamp};

impl Postgres {
    /// Runs a statement that removes at most `$2` rows that are due at `$1`.
    pub(crate) async fn purge(
        &self,
        statement: &'static str,
        now: Timestamp,
        limit: usize,
    ) -> Result<PurgeStep, StoreError> {
        let limit = limit.max(1) as u64;
        let removed = self.change((statement, now, limit), |sql, &(statement, now, limit)| {
            Box::pin(async move { sql.run(statement, &[&At(now), &int(limit)]).await })
        });
        let removed = removed.await?;
        Ok(PurgeStep { removed: usize::try_from(removed).unwrap_or(usize::MAX), finished: removed < limit })
    }
}
