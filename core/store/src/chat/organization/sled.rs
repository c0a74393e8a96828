//! The operations of this folder, in sled statements.

use serde::{Deserialize, Serialize};

use crate::chat::organization::{OrganizationChanged, OrganizationMade, OrganizationRemoved};
use crate::chat::sled::room::RoomRecord;
use crate::chat::{Organization, OrganizationId, RoomId};
use crate::engine::sled::keys::chat as key;
use crate::engine::sled::record::{Record, encode_u64};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error};
use crate::{StoreError, Timestamp, UserId};

impl Sled {
    pub(crate) async fn chat_organization_create(
        &self,
        owner: UserId,
        name: String,
        uname: String,
        per_user_max: usize,
        now: Timestamp,
    ) -> Result<OrganizationMade, StoreError> {
        self.change(move |txn| {
            if txn.get(&key::organization_name(&uname))?.is_some() {
                return Ok(OrganizationMade::NameTaken);
            }
            let owned = txn.scan(&key::organizations_of(owner), per_user_max)?;
            if owned.len() >= per_user_max {
                return Ok(OrganizationMade::TooMany);
            }
            let id = OrganizationId(txn.next(key::ORGANIZATION_SEQUENCE)?);
            let record = OrganizationRecord { name, uname, owner, created_at: now };
            txn.put(key::organization_name(&record.uname), encode_u64(id.0));
            txn.put(key::organization_of(owner, id), sled::IVec::default());
            txn.put_record(key::organization(id), &record);
            Ok(OrganizationMade::New(record.with_id(id)))
        })
        .await
    }

    pub(crate) async fn chat_organization_update(
        &self,
        owner: UserId,
        id: OrganizationId,
        name: Option<String>,
        uname: Option<String>,
    ) -> Result<OrganizationChanged, StoreError> {
        self.change(move |txn| {
            let Some(mut record) = owned(txn, owner, id)? else {
                return Ok(OrganizationChanged::Missing);
            };
            if let Some(uname) = uname.filter(|uname| *uname != record.uname) {
                let key = key::organization_name(&uname);
                if txn.get(&key)?.is_some() {
                    return Ok(OrganizationChanged::NameTaken);
                }
                txn.delete(key::organization_name(&record.uname));
                txn.put(key, encode_u64(id.0));
                record.uname = uname;
            }
            record.name = name.unwrap_or(record.name);
            txn.put_record(key::organization(id), &record);
            Ok(OrganizationChanged::Changed(record.with_id(id)))
        })
        .await
    }

    pub(crate) async fn chat_organization_remove(
        &self,
        owner: UserId,
        id: OrganizationId,
    ) -> Result<OrganizationRemoved, StoreError> {
        self.change(move |txn| {
            let Some(record) = owned(txn, owner, id)? else {
                return Ok(OrganizationRemoved::Missing);
            };
            // The owner of an organisation owns its rooms and stays a member, so no index by organisation is needed.
            let rooms = of_organization(txn, owner, id)?;
            if rooms > 0 {
                return Ok(OrganizationRemoved::HasRooms(rooms));
            }
            txn.delete(key::organization_name(&record.uname));
            txn.delete(key::organization_of(owner, id));
            txn.delete(key::organization(id));
            Ok(OrganizationRemoved::Removed)
        })
        .await
    }

    pub(crate) fn chat_organization(&self, id: OrganizationId) -> Result<Option<Organization>, StoreError> {
        let record = self.record::<OrganizationRecord>(&key::organization(id))?;
        Ok(record.map(|record| record.with_id(id)))
    }

    pub(crate) fn chat_organizations_before(
        &self,
        before: Option<OrganizationId>,
        limit: usize,
    ) -> Result<Vec<Organization>, StoreError> {
        let end = key::organization(before.unwrap_or(OrganizationId(u64::MAX)));
        let mut found = Vec::new();
        for key in self.tree.range(key::organization(OrganizationId(0))..end).keys().rev().take(limit) {
            let id = OrganizationId(key::last(&key.map_err(error::read)?));
            found.extend(self.chat_organization(id)?);
        }
        Ok(found)
    }

    pub(crate) fn chat_organizations_of(
        &self,
        owner: UserId,
        limit: usize,
    ) -> Result<Vec<Organization>, StoreError> {
        let mut found = Vec::new();
        for key in self.tree.scan_prefix(key::organizations_of(owner)).keys().take(limit) {
            let id = OrganizationId(key::last(&key.map_err(error::read)?));
            found.extend(self.chat_organization(id)?);
        }
        Ok(found)
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct OrganizationRecord {
    pub(crate) name: String,
    pub(crate) uname: String,
    pub(crate) owner: UserId,
    pub(crate) created_at: Timestamp,
}

impl Record for OrganizationRecord {
    const KIND: &'static str = "organization";
    const SCHEMA: u8 = 1;
}

impl OrganizationRecord {
    pub(crate) fn with_id(self, id: OrganizationId) -> Organization {
        let OrganizationRecord { name, uname, owner, created_at } = self;
        Organization { id, name, uname, owner, created_at }
    }
}

/// An organisation, if the user owns it.
pub(crate) fn owned(
    txn: &Txn,
    owner: UserId,
    id: OrganizationId,
) -> Result<Option<OrganizationRecord>, StoreError> {
    let record = txn.get_record::<OrganizationRecord>(&key::organization(id))?;
    Ok(record.filter(|record| record.owner == owner))
}

/// Counts a user's rooms that belong to an organisation.
pub(crate) fn of_organization(
    txn: &Txn,
    user: UserId,
    organization: OrganizationId,
) -> Result<usize, StoreError> {
    let mut rooms = 0;
    for (key, _) in txn.scan(&key::user_rooms(user), usize::MAX)? {
        let room = txn.get_record::<RoomRecord>(&key::room(RoomId(key::last(&key))))?;
        rooms += usize::from(room.is_some_and(|room| room.organization == Some(organization)));
    }
    Ok(rooms)
}
