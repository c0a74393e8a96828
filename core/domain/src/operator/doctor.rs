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
    /// The place of uploaded files.
    Files = "files", "Free the disk of data/uploads, or correct [files.s3] and bring the bucket back; until then files answer 503.";
    /// The wall clock: codes, sessions and signatures depend on it.
    Clock = "clock", "Synchronise the machine's clock (`timedatectl set-ntp true`).";
    /// Who may read the key and the store.
    Permissions = "permissions", "Run `chmod -R go= FOLDER` on the named path, or give it back to the gateway's user (`chown -R`).";
    Keys = "keys", "Keep a copy of the key with the backups; without it a copy of the store is useless.";
    Webhooks = "webhooks", "Replay the dead events once their endpoint answers, and resume paused endpoints.";
    Money = "money", "Decide the named reversals on the payments page.";
    Operators = "operators", "Set up a second factor under My account, or take the role from who does not need it.";
}

macro_rules! phrases {
    ($($name:ident = $text:literal;)*) => {
        /// What can be found. `{}` stands for a name, a number or a line of the configuration's check.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Phrase {
            $($name,)*
        }

        impl Phrase {
            pub const ALL: &[Phrase] = &[$(Phrase::$name,)*];

            #[must_use]
            pub fn english(self) -> &'static str {
                match self { $(Phrase::$name => $text,)* }
            }
        }
    };
}

phrases! {
    StoreServes = "changes are stored";
    StoreIs = "the store is {}";
    DiskFree = "{} MiB free, the store has {} MiB";
    DiskUnknown = "the free space is unknown";
    BackupOnServer = "the store is on a server: its backups are the server's, data.dir beside them is yours";
    BackupNone = "no backup is on record";
    BackupHours = "the last one is {} hours old: {}";
    BackupDays = "the last one is {} days old: {}";
    ConfigServes = "the file serves";
    ConfigRefused = "{}";
    EditRefused = "not made here: {}";
    RestartNone = "no key waits for a restart";
    RestartKeys = "these keys wait: {}";
    ProvidersServe = "{} serve";
    ProvidersDown = "do not serve: {}";
    ProvidersOld = "serve their last good version: {}";
    CallbacksNone = "no payments are taken";
    CallbacksWell = "payers come back";
    CallbacksWarned = "{}";
    FilesEnough = "enough";
    FilesWarned = "{}";
    PlaceServes = "files are written, read and removed in {}";
    PlaceFails = "{}";
    PermissionsWell = "only the owner reads the data folder";
    PermissionsOpen = "{} is open to others (mode {})";
    PermissionsForeign = "{} belongs to user {} and not to the gateway's";
    KeyThere = "the key is in the data folder";
    KeyMissing = "the key cannot be read: {}";
    ClockWell = "not behind the newest record";
    ClockYears = "the clock is years behind";
    ClockHours = "a record is {} hours ahead of the clock";
    ClockDays = "a record is {} days ahead of the clock";
    WebhooksWell = "none dead, none paused";
    WebhooksDead = "{} dead events";
    WebhooksDeadLeast = "at least {} dead events";
    WebhooksPaused = "paused: {}";
    MoneyWell = "no reversal waits for a decision";
    MoneyStuck = "undecided reversals of payments {}";
    OperatorsWell = "each has a second factor";
    OperatorsWithout = "no second factor: {}";
}

/// Phrases with what stands in their places.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found(Vec<(Phrase, Vec<String>)>);

impl From<Phrase> for Found {
    fn from(phrase: Phrase) -> Found {
        Found(vec![(phrase, Vec::new())])
    }
}

impl Found {
    #[must_use]
    pub fn of<const N: usize>(phrase: Phrase, parts: [String; N]) -> Found {
        Found(vec![(phrase, parts.into())])
    }

    #[must_use]
    pub fn and(mut self, other: Found) -> Found {
        self.0.extend(other.0);
        self
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text in a language: `phrase` gives its form of a phrase, and `part` of what stands in a place.
    #[must_use]
    pub fn text(&self, phrase: impl Fn(Phrase) -> &'static str, part: impl Fn(&str) -> String) -> String {
        let one = |(name, parts): &(Phrase, Vec<String>)| {
            let mut parts = parts.iter();
            let mut pieces = phrase(*name).split("{}");
            let first = pieces.next().unwrap_or_default().to_owned();
            pieces.fold(first, |text, piece| {
                text + &parts.next().map(|text| part(text)).unwrap_or_default() + piece
            })
        };
        self.0.iter().map(one).collect::<Vec<_>>().join("; ")
    }
}

/// In English.
impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text(Phrase::english, str::to_owned))
    }
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub check: Check,
    pub state: State,
    pub what: Found,
}

impl Finding {
    #[must_use]
    pub fn new(check: Check, state: State, what: impl Into<Found>) -> Finding {
        Finding { check, state, what: what.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_finding_is_told_in_the_words_of_a_language() {
        let dead = Found::of(Phrase::WebhooksDead, ["3".to_owned()]);
        let both = dead.and(Found::of(Phrase::WebhooksPaused, ["shop, {}".to_owned()]));
        assert_eq!(both.to_string(), "3 dead events; paused: shop, {}");
        let loud = both.text(|_| "<{}>", |part| format!("[{part}]"));
        assert_eq!(loud, "<[3]>; <[shop, {}]>");
    }

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
