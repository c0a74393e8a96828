//! Filters that an operator saved: a name for an address of one of the console's lists.
//!
//! They are the operator's own: nobody else sees them, and an erasure of the account removes them.

use chelseru_store::{NoteKind, NotePut, StoreError, filters_of};

use super::Console;
use crate::operator::role::Operator;
use crate::text::name_as_seen;

/// Filters of one operator.
pub const FILTERS_MAX: usize = 50;
/// Characters of a filter's name, and bytes of its address.
const NAME_CHARS_MAX: usize = 40;
const ADDRESS_BYTES_MAX: usize = 2000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedFilter {
    pub name: String,
    /// Path and query.
    pub address: String,
}

impl Console {
    /// The filters of an operator, by name. A program has none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn filters(&self, operator: &Operator) -> Result<Vec<SavedFilter>, StoreError> {
        let Some(user) = operator.user() else { return Ok(Vec::new()) };
        let prefix = filters_of(user);
        let notes = self.store.notes(NoteKind::Filter, &prefix).await?;
        let saved = notes.into_iter().filter_map(|note| {
            let name = note.name.strip_prefix(&prefix)?.to_owned();
            Some(SavedFilter { name, address: note.value })
        });
        Ok(saved.collect())
    }

    /// Saves an address under a name, in place of one of this name; false when the name or the address is empty or too
    /// long, or the operator has [`FILTERS_MAX`].
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn filter_save(
        &self,
        operator: &Operator,
        name: &str,
        address: &str,
    ) -> Result<bool, StoreError> {
        let Some(user) = operator.user() else { return Ok(false) };
        let name = name_as_seen(name.trim()).into_owned();
        let fits = (1..=NAME_CHARS_MAX).contains(&name.chars().count());
        if !fits || address.is_empty() || address.len() > ADDRESS_BYTES_MAX {
            return Ok(false);
        }
        let saved = self.filters(operator).await?;
        let seen = saved.iter().find(|one| one.name == name).map(|one| one.address.clone());
        if seen.is_none() && saved.len() >= FILTERS_MAX {
            return Ok(false);
        }
        let key = format!("{}{name}", filters_of(user));
        let put = self.store.note_put(NoteKind::Filter, key, seen, Some(address.to_owned())).await?;
        Ok(put == NotePut::Done)
    }

    /// Removes a filter; false when there is none of this name.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn filter_remove(&self, operator: &Operator, name: &str) -> Result<bool, StoreError> {
        let Some(user) = operator.user() else { return Ok(false) };
        let saved = self.filters(operator).await?;
        let Some(found) = saved.into_iter().find(|one| one.name == name) else { return Ok(false) };
        let key = format!("{}{name}", filters_of(user));
        Ok(self.store.note_put(NoteKind::Filter, key, Some(found.address), None).await? == NotePut::Done)
    }
}
