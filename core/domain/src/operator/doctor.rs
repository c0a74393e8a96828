//! What is wrong with a gateway and its machine, and the cure of each.
//!
//! A finding names its check, a state, what was found, and what to do. The checks and their cures are here, so that
//! the console, the operator API and the command line say the same; the gateway examines.

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Well,
    /// Works, and should be looked at.
    Warning,
    /// Something does not work, or the next fault costs data.
    Bad,
}

impl State {
    /// The stable word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Well => "ok",
            State::Warning => "warning",
            State::Bad => "bad",
        }
    }
}

macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $cure:literal;)*) => {
        /// What is examined.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Check {
            $($(#[$doc])* $name,)*
        }

        impl Check {
            /// All of them, in the order in which they are reported.
            pub const ALL: &[Check] = &[$(Check::$name,)*];

            /// The stable word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Check::$name => $text,)* }
            }

            /// What to do when it does not end well.
            #[must_use]
            pub fn cure(self) -> &'static str {
                match self { $(Check::$name => $cure,)* }
            }
        }
    };
}

checks! {
    Store = "store",
        "Read the log; free disk space or restart the gateway, and restore a backup if it does not start.";
    Disk = "disk", "Free space on the disk of the data folder, or move the folder to a larger disk.";
    Backup = "backup", "Run `chelseru backup FOLDER` every day and keep the folder on another machine.";
    Config = "config", "Correct the named line and save, or roll back on the configuration page.";
    Restart = "restart", "Restart the gateway when its users can bear it.";
    Providers = "providers", "Open the provider's page, read its last error, and check its settings and component.";
    Callbacks = "callbacks", "Set `server.public_url`, or `payment.callback_url`.";
    OpenFiles = "open_files", "Raise the limit (`ulimit -n`, `LimitNOFILE=`), or lower the named keys.";
    /// The wall clock: codes, sessions and signatures depend on it.
    Clock = "clock", "Synchronise the machine's clock (`timedatectl set-ntp true`).";
    /// Who may read the key and the store.
    Permissions = "permissions", "Run `chmod -R go= FOLDER` on the named path.";
    Keys = "keys", "Keep a copy of the key with the backups; without it a copy of the store is useless.";
    Webhooks = "webhooks", "Replay the dead events once their endpoint answers, and resume paused endpoints.";
    Money = "money", "Decide the named reversals on the payments page.";
    Operators = "operators", "Set up a second factor under My account, or take the role from who does not need it.";
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub check: Check,
    pub state: State,
    pub what: String,
}

impl Finding {
    #[must_use]
    pub fn new(check: Check, state: State, what: impl Into<String>) -> Finding {
        Finding { check, state, what: what.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_check_has_a_word_of_its_own_and_a_cure() {
        let words: BTreeSet<&str> = Check::ALL.iter().map(|check| check.as_str()).collect();
        assert_eq!(words.len(), Check::ALL.len());
        for check in Check::ALL {
            assert!(check.cure().ends_with('.') && check.cure().len() < 120, "{}", check.as_str());
        }
        assert!(State::Well < State::Warning && State::Warning < State::Bad);
    }
}
