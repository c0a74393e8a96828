//! Accepted messages: those that a real provider would have sent and charged.
//!
//! A test reads this list to see whether a message was lost or sent twice. A message is entered in the step that
//! accepts it, so it stays when the connection is cut afterwards. Invariant: one local id of one account is entered
//! at most once; a repeat raises `times_asked` of the entry. Requests are in `log`; the provider modules decide what
//! to accept.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;

use crate::log::unix_ms;

/// A message that a provider accepted.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    /// The provider's id, as text because some exceed 2^53.
    pub id: String,
    pub provider: &'static str,
    /// Recipient in canonical form (`09...`; as sent when it is not an Iranian mobile number).
    pub number: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The provider's name or number of the template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Values for the template, by the provider's names, or by `1`, `2`, ... when the provider only orders them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// The caller's de-duplication id, when the provider accepts one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub localid: Option<String>,
    /// Milliseconds since 1970.
    pub accepted_at_ms: u64,
    /// Delivery state in the provider's numbering, as its status calls answer it.
    pub status: i64,
    /// Scheduled time in Unix seconds; 0: immediately.
    pub scheduled_at: u64,
    /// Requests for this message: 1, and one more for each repeat of its local id.
    pub times_asked: u32,
    /// Owner: the API key or user name. The control API does not show it.
    #[serde(skip)]
    pub(crate) account: String,
}

/// A message before it has an id.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) account: String,
    pub(crate) number: String,
    pub(crate) text: Option<String>,
    pub(crate) template: Option<String>,
    pub(crate) tokens: Vec<(String, String)>,
    pub(crate) sender: Option<String>,
    pub(crate) localid: Option<i64>,
    pub(crate) status: i64,
    pub(crate) scheduled_at: u64,
}

/// Accepted messages, oldest first. Past the limit the oldest are dropped; the count stays.
pub(crate) struct Ledger {
    messages: VecDeque<Message>,
    /// Number of dropped messages, which is the position of the first kept message.
    forgotten: u64,
    by_id: HashMap<(&'static str, u64), u64>,
    /// By provider, account and local id. Nested, so a look-up copies no account name.
    by_localid: HashMap<&'static str, HashMap<String, HashMap<i64, u64>>>,
    accepted: HashMap<&'static str, u64>,
    spent: HashMap<&'static str, i64>,
    messages_max: usize,
}

impl Ledger {
    pub(crate) fn new(messages_max: usize) -> Self {
        Self {
            messages: VecDeque::new(),
            forgotten: 0,
            by_id: HashMap::new(),
            by_localid: HashMap::new(),
            accepted: HashMap::new(),
            spent: HashMap::new(),
            messages_max: messages_max.max(1),
        }
    }

    /// Enters a message and returns its id and record. For a local id that the account has used before, enters nothing
    /// and returns the first record (`false`).
    pub(crate) fn accept(
        &mut self,
        provider: &'static str,
        id_first: u64,
        draft: Draft,
    ) -> (&mut Message, bool) {
        let known =
            draft.localid.and_then(|localid| self.localid_position(provider, &draft.account, localid));
        if let Some(position) = known {
            let message = self.at(position).expect("the index holds only kept messages");
            message.times_asked += 1;
            return (message, false);
        }
        if self.messages.len() >= self.messages_max {
            self.forget_oldest();
        }
        let count = self.accepted.entry(provider).or_default();
        let id = id_first + *count;
        *count += 1;
        let position = self.forgotten + self.messages.len() as u64;
        self.by_id.insert((provider, id), position);
        if let Some(localid) = draft.localid {
            let accounts = self.by_localid.entry(provider).or_default();
            match accounts.get_mut(&draft.account) {
                Some(localids) => drop(localids.insert(localid, position)),
                None => drop(accounts.insert(draft.account.clone(), HashMap::from([(localid, position)]))),
            }
        }
        self.messages.push_back(Message {
            id: id.to_string(),
            provider,
            number: draft.number,
            text: draft.text,
            template: draft.template,
            tokens: draft.tokens,
            sender: draft.sender,
            localid: draft.localid.map(|localid| localid.to_string()),
            accepted_at_ms: unix_ms(),
            status: draft.status,
            scheduled_at: draft.scheduled_at,
            times_asked: 1,
            account: draft.account,
        });
        (self.messages.back_mut().expect("one was just pushed"), true)
    }

    /// Whether the account has used this local id before.
    pub(crate) fn knows_localid(&self, provider: &'static str, account: &str, localid: i64) -> bool {
        self.localid_position(provider, account, localid).is_some()
    }

    pub(crate) fn by_id(&mut self, provider: &'static str, id: &str) -> Option<&mut Message> {
        let position = *self.by_id.get(&(provider, id.parse().ok()?))?;
        self.at(position)
    }

    pub(crate) fn by_localid(
        &mut self,
        provider: &'static str,
        account: &str,
        localid: i64,
    ) -> Option<&mut Message> {
        let position = self.localid_position(provider, account, localid)?;
        self.at(position)
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter()
    }

    /// Accepted messages of this provider since the last reset, dropped ones included.
    pub(crate) fn accepted(&self, provider: &str) -> u64 {
        self.accepted.get(provider).copied().unwrap_or(0)
    }

    /// Cost of all messages since the last reset, in the provider's unit.
    pub(crate) fn spent(&self, provider: &'static str) -> i64 {
        self.spent.get(provider).copied().unwrap_or(0)
    }

    /// Adds to [`Ledger::spent`]. A negative amount is a refund.
    pub(crate) fn spend(&mut self, provider: &'static str, amount: i64) {
        *self.spent.entry(provider).or_default() += amount;
    }

    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn localid_position(&self, provider: &'static str, account: &str, localid: i64) -> Option<u64> {
        self.by_localid.get(provider)?.get(account)?.get(&localid).copied()
    }

    fn at(&mut self, position: u64) -> Option<&mut Message> {
        self.messages.get_mut(usize::try_from(position.checked_sub(self.forgotten)?).ok()?)
    }

    fn forget_oldest(&mut self) {
        let Some(message) = self.messages.pop_front() else { return };
        self.forgotten += 1;
        if let Ok(id) = message.id.parse() {
            self.by_id.remove(&(message.provider, id));
        }
        if let Some(Ok(localid)) = message.localid.as_deref().map(str::parse) {
            let accounts = self.by_localid.get_mut(message.provider);
            if let Some(localids) = accounts.and_then(|accounts| accounts.get_mut(&message.account)) {
                localids.remove(&localid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(localid: Option<i64>) -> Draft {
        Draft { account: "key".into(), localid, ..Draft::default() }
    }

    #[test]
    fn a_repeated_local_id_answers_the_first_record() {
        let mut ledger = Ledger::new(10);
        let first = ledger.accept("p", 100, draft(Some(7))).0.id.clone();
        let (again, new) = ledger.accept("p", 100, draft(Some(7)));
        assert_eq!((again.id.as_str(), again.times_asked, new), (first.as_str(), 2, false));
        let other_account = Draft { account: "other".into(), ..draft(Some(7)) };
        assert!(ledger.accept("p", 100, other_account).1, "a local id belongs to one account");
        assert_eq!(ledger.accepted("p"), 2);
    }

    #[test]
    fn past_its_bound_the_oldest_message_is_forgotten_and_the_count_is_kept() {
        let mut ledger = Ledger::new(2);
        for localid in 0..3 {
            ledger.accept("p", 100, draft(Some(localid)));
        }
        assert_eq!(ledger.messages().map(|m| m.id.as_str()).collect::<Vec<_>>(), ["101", "102"]);
        assert_eq!((ledger.accepted("p"), ledger.forgotten()), (3, 1));
        assert!(ledger.by_id("p", "100").is_none());
        assert!(!ledger.knows_localid("p", "key", 0));
        assert_eq!(ledger.by_localid("p", "key", 2).unwrap().id, "102");
        assert_eq!(ledger.by_id("p", "101").unwrap().localid.as_deref(), Some("1"));
    }
}
