//! Shared state of all connections: settings, faults, request log and ledger.
//!
//! Each part has its own lock, held for one look-up or one insertion and never while a request is read, delayed or
//! answered. Settings are read as a snapshot, also under the ledger's lock. Log and ledger are never locked together.

use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bank::Bank;
use crate::fault::Faults;
use crate::kavenegar::KavenegarSettings;
use crate::ledger::Ledger;
use crate::log::Log;
use crate::meli_payamak::MeliPayamakSettings;
use crate::parsian_webco::ParsianWebcoSettings;
use crate::payping::PaypingSettings;
use crate::zarinpal::ZarinpalSettings;

/// Behaviour of the providers without faults. `POST /_sim/settings` changes any key at run time by merging a partial
/// document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub kavenegar: KavenegarSettings,
    pub meli_payamak: MeliPayamakSettings,
    pub parsian_webco: ParsianWebcoSettings,
    pub zarinpal: ZarinpalSettings,
    pub payping: PaypingSettings,
}

/// Limits of the simulator's memory.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests kept in the log. Past the limit the oldest is dropped. Default 10,000, about 2 KiB each.
    pub requests_max: usize,
    /// Accepted messages kept. Past the limit the oldest is dropped with its local id. Default 200,000, about 0.5 KiB
    /// each, so a test can check a queue of 100,000.
    pub messages_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { requests_max: 10_000, messages_max: 200_000 }
    }
}

pub(crate) struct World {
    limits: Limits,
    settings: RwLock<Arc<Settings>>,
    pub(crate) faults: Faults,
    log: Mutex<Log>,
    ledger: Mutex<Ledger>,
    bank: Mutex<Bank>,
}

impl World {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            settings: RwLock::default(),
            faults: Faults::default(),
            log: Mutex::new(Log::new(limits.requests_max)),
            ledger: Mutex::new(Ledger::new(limits.messages_max)),
            bank: Mutex::new(Bank::new(limits.messages_max)),
        }
    }

    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    pub(crate) fn settings_change(&self, change: impl FnOnce(&mut Settings)) {
        let mut settings = self.settings.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        change(Arc::make_mut(&mut settings));
    }

    /// Merges a partial document: objects member by member, other values as a whole; `null` restores the default.
    ///
    /// Errors: name the unknown key or the wrong value; nothing changes.
    pub(crate) fn settings_merge(&self, text: &[u8]) -> Result<(), String> {
        let patch: Value = serde_json::from_slice(text).map_err(|error| format!("settings: {error}"))?;
        if !patch.is_object() {
            return Err("settings: accepted: a JSON object, see GET /_sim/settings".into());
        }
        let mut settings = self.settings.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut document = serde_json::to_value(&**settings).map_err(|error| error.to_string())?;
        merge(&mut document, patch);
        let merged: Settings =
            serde_json::from_value(document).map_err(|error| format!("settings: {error}"))?;
        *settings = Arc::new(merged);
        Ok(())
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn bank(&self) -> MutexGuard<'_, Bank> {
        self.bank.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Restores the initial state: no faults, default settings, empty log and ledger.
    pub(crate) fn reset(&self) {
        self.faults.clear();
        self.settings_change(|settings| *settings = Settings::default());
        *self.log() = Log::new(self.limits.requests_max);
        *self.ledger() = Ledger::new(self.limits.messages_max);
        *self.bank() = Bank::new(self.limits.messages_max);
    }
}

fn merge(document: &mut Value, patch: Value) {
    match (document, patch) {
        (Value::Object(members), Value::Object(patch)) => {
            for (name, value) in patch {
                if value.is_null() {
                    members.remove(&name);
                } else {
                    merge(members.entry(name).or_insert(Value::Null), value);
                }
            }
        }
        (document, patch) => *document = patch,
    }
}
