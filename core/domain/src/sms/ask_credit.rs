//! Asks the providers for their credit when it is due.

use std::time::Duration;

use super::queue::SmsRoute;
use super::route::Candidate;
use crate::Timestamp;

impl SmsRoute {
    /// Asks every provider whose credit is due; returns the names of those that were asked. A failed question changes
    /// nothing but the time of the next one.
    pub async fn ask_credit(&self, every: Duration, now: Timestamp) -> Vec<String> {
        let mut asked = Vec::new();
        for Candidate { provider, gate } in self.candidates() {
            if !provider.reports_credit() || !gate.credit().is_due(every, now) {
                continue;
            }
            let answer = provider.credit().await;
            if let Err(error) = &answer {
                tracing::warn!(plugin.id = provider.name(), %error, "a provider's credit could not be asked");
            }
            gate.note_credit(answer.map_err(|error| error.code()), now);
            asked.push(provider.name().to_owned());
        }
        asked
    }
}
