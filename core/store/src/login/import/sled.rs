//! Statements of sled.

use crate::engine::sled::record::{decode_u64, encode_u64};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error, keys};
use crate::login::import::ImportedUser;
use crate::login::password::sled as password;
use crate::login::sled::contact::Contact;
use crate::login::sled::user;
use crate::{StoreError, UserId};

impl Sled {
    pub(crate) async fn import_users(&self, users: Vec<ImportedUser>) -> Result<(), StoreError> {
        self.change(move |txn| users.into_iter().try_for_each(|imported| put(txn, imported))).await
    }

    pub(crate) fn user_merged_into(&self, old: UserId) -> Result<Option<UserId>, StoreError> {
        let bytes = self.tree.get(keys::merged_user(old)).map_err(error::read)?;
        bytes.map(|bytes| decode_u64("merged user", &bytes).map(UserId)).transpose()
    }
}

fn put(txn: &mut Txn, imported: ImportedUser) -> Result<(), StoreError> {
    let ImportedUser { user, password_hash, owns_number, derived_name, merged } = imported;
    if !derived_name {
        txn.put(keys::user_name(&user.username), encode_u64(user.id.0));
    }
    if owns_number && !user.number.is_empty() {
        let mut contact = Contact::get(txn, &user.number)?;
        contact.add_account(user.group, user.id);
        contact.put(txn, &user.number);
    }
    if let Some(hash) = password_hash {
        password::put(txn, user.id, hash, user.created_at);
    }
    for old in merged {
        txn.put(keys::merged_user(old), encode_u64(user.id.0));
    }
    user::put(txn, &user);
    Ok(())
}
