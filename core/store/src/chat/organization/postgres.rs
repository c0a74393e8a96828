//! The operations of this folder, in PostgreSQL statements.

#![allow(unused_variables, reason = "statements to come")]

use super::*;
use crate::engine::postgres::Postgres;

impl Postgres {
    pub(crate) async fn chat_organization_create(
        &self,
        owner: UserId,
        name: String,
        uname: String,
        per_user_max: usize,
        now: Timestamp,
    ) -> Result<OrganizationMade, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_organization_update(
        &self,
        owner: UserId,
        id: OrganizationId,
        name: Option<String>,
        uname: Option<String>,
    ) -> Result<OrganizationChanged, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_organization_remove(
        &self,
        owner: UserId,
        id: OrganizationId,
    ) -> Result<OrganizationRemoved, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_organization(
        &self,
        id: OrganizationId,
    ) -> Result<Option<Organization>, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_organizations_before(
        &self,
        before: Option<OrganizationId>,
        limit: usize,
    ) -> Result<Vec<Organization>, StoreError> {
        todo!()
    }

    pub(crate) async fn chat_organizations_of(
        &self,
        owner: UserId,
        limit: usize,
    ) -> Result<Vec<Organization>, StoreError> {
        todo!()
    }
}
