//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn correction_make(&self, draft: CorrectionDraft) -> Result<CorrectionMade, StoreError> {
        todo!()
    }
}
