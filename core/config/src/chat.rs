//! `[chat]`: the limits of rooms and of their sockets.

use chelseru_domain::chat::{self, ChatRules};
use serde::{Deserialize, Serialize};

use crate::read::Checker;
use crate::{Config, Origins, origins};

/// Every key applies live. An open socket keeps the limits it was opened with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Chat {
    /// Characters of a message's text: 1 to 65536.
    pub text_chars_max: usize,
    /// Members of a room: 2 to 100000.
    pub members_max: u32,
    /// Users banned from a room: 1 to 100000.
    pub bans_max: u32,
    /// Rooms a user may be in: 1 to 10000.
    pub rooms_per_user_max: usize,
    /// Organisations a user may own: 1 to 1000.
    pub organizations_per_user_max: usize,
    /// What happens to users who share no room with who opens a pair or adds them: `ask` or `admit`.
    pub strangers: Strangers,
    /// Requests that may wait for one user, 1 to 1000; one more ends the oldest.
    pub requests_max: usize,
    /// Rooms that one user may open in an hour; one more is answered 429.
    pub rooms_per_hour_max: u64,
    /// Strangers that one user may ask in an hour.
    pub requests_per_hour_max: u64,
    /// Who finds whom by number or name: `off`, `contacts` or `open`.
    pub directory: Directory,
    /// Numbers and names that one user may look up in a day.
    pub lookups_per_day_max: u64,
    /// Searches of one user in a minute.
    pub searches_per_minute_max: u64,
    /// Messages, and as many edits, that a resume delivers; a longer gap answers a reset. 1 to 100000.
    pub resume_max: u64,
    /// Messages, edits, signals and changes of rooms by one user in a minute; one more is refused with 429 or an error
    /// frame.
    pub messages_per_minute_max: u64,
    /// And in a day.
    pub messages_per_day_max: u64,
    /// Their bytes in a minute.
    pub bytes_per_minute_max: u64,
    /// And in a day.
    pub bytes_per_day_max: u64,
    /// Origins of web pages that may open sockets. Empty: those of `server.origins`; any page when that is empty, too,
    /// since a page needs a token anyway. A client without `Origin` is no browser and always may.
    pub origins: Origins,
    /// Open sockets; one more answers 503. 1 to 1000000.
    pub sockets_max: usize,
    /// Open sockets of one user; one more answers 429. 1 to 10000.
    pub sockets_per_user_max: usize,
    /// Sockets open at once whose first frame, which brings the token, has not arrived; one more is answered 503.
    pub sockets_unknown_max: u64,
    /// Those of one address; five times as many of one network.
    pub sockets_unknown_per_address_max: u64,
    /// Bytes of one message from a client, all its frames together; more closes the socket. 1024 to 1048576.
    pub frame_bytes_max: usize,
    /// Frames queued for a slow reader; more closes its socket. 64 to 1000000.
    pub queue_frames_max: usize,
    /// Bytes queued for a slow reader; more closes its socket. 65536 to 67108864.
    pub queue_bytes_max: usize,
    /// Frames a client may send per second, with bursts of twice as many. A frame counts as one more for each 4 KiB
    /// in it, a `subscribe` for each 50 rooms. A frame past it gets an error frame; as
    /// many again close the socket. 1 to 1000000.
    pub frames_per_second_max: u32,
    /// Seconds of silence before the gateway pings a client; twice as long closes the socket. 1 to 3600.
    pub heartbeat_seconds: u64,
    /// Sockets in a room above which presence events stop: 0 to 10000.
    pub presence_sockets_max: usize,
    /// Days for which messages are kept, then deleted as by their senders; 0 keeps them. At most 36500.
    pub messages_keep_days: u64,
}

/// What happens to users who share no room with who opens a pair or adds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strangers {
    /// They are asked.
    Ask,
    /// They are members at once.
    Admit,
}

/// Who finds whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Directory {
    Off,
    Contacts,
    Open,
}

impl From<chat::Strangers> for Strangers {
    fn from(strangers: chat::Strangers) -> Strangers {
        match strangers {
            chat::Strangers::Ask => Strangers::Ask,
            chat::Strangers::Admit => Strangers::Admit,
        }
    }
}

impl From<Strangers> for chat::Strangers {
    fn from(strangers: Strangers) -> chat::Strangers {
        match strangers {
            Strangers::Ask => chat::Strangers::Ask,
            Strangers::Admit => chat::Strangers::Admit,
        }
    }
}

impl From<chat::Directory> for Directory {
    fn from(directory: chat::Directory) -> Directory {
        match directory {
            chat::Directory::Off => Directory::Off,
            chat::Directory::Contacts => Directory::Contacts,
            chat::Directory::Open => Directory::Open,
        }
    }
}

impl From<Directory> for chat::Directory {
    fn from(directory: Directory) -> chat::Directory {
        match directory {
            Directory::Off => chat::Directory::Off,
            Directory::Contacts => chat::Directory::Contacts,
            Directory::Open => chat::Directory::Open,
        }
    }
}

impl Default for Chat {
    fn default() -> Self {
        let rules = ChatRules::default();
        Chat {
            text_chars_max: rules.text_chars_max,
            members_max: rules.members_max,
            bans_max: rules.bans_max,
            rooms_per_user_max: rules.rooms_per_user_max,
            organizations_per_user_max: rules.organizations_per_user_max,
            strangers: rules.strangers.into(),
            requests_max: rules.requests_max,
            rooms_per_hour_max: rules.rooms_per_hour_max,
            requests_per_hour_max: rules.requests_per_hour_max,
            directory: rules.directory.into(),
            lookups_per_day_max: rules.lookups_per_day_max,
            searches_per_minute_max: rules.searches_per_minute_max,
            resume_max: rules.resume_max,
            messages_per_minute_max: rules.messages_per_minute_max,
            messages_per_day_max: rules.messages_per_day_max,
            bytes_per_minute_max: rules.bytes_per_minute_max,
            bytes_per_day_max: rules.bytes_per_day_max,
            origins: Origins::default(),
            sockets_max: 50_000,
            sockets_per_user_max: 20,
            sockets_unknown_max: 1000,
            sockets_unknown_per_address_max: 50,
            frame_bytes_max: 128 * 1024,
            queue_frames_max: 4096,
            queue_bytes_max: 1024 * 1024,
            frames_per_second_max: 50,
            heartbeat_seconds: 30,
            presence_sockets_max: 100,
            messages_keep_days: chat::MESSAGES_KEEP_DAYS.default,
        }
    }
}

impl Chat {
    /// The part that the domain enforces.
    pub fn rules(&self) -> ChatRules {
        ChatRules {
            text_chars_max: self.text_chars_max,
            members_max: self.members_max,
            bans_max: self.bans_max,
            rooms_per_user_max: self.rooms_per_user_max,
            organizations_per_user_max: self.organizations_per_user_max,
            strangers: self.strangers.into(),
            requests_max: self.requests_max,
            rooms_per_hour_max: self.rooms_per_hour_max,
            requests_per_hour_max: self.requests_per_hour_max,
            directory: self.directory.into(),
            lookups_per_day_max: self.lookups_per_day_max,
            searches_per_minute_max: self.searches_per_minute_max,
            search_steps_max: chat::SEARCH_STEPS_MAX,
            resume_max: self.resume_max,
            messages_per_minute_max: self.messages_per_minute_max,
            messages_per_day_max: self.messages_per_day_max,
            bytes_per_minute_max: self.bytes_per_minute_max,
            bytes_per_day_max: self.bytes_per_day_max,
        }
    }
}

impl Config {
    /// The `[chat]` section with the pages that may open sockets.
    #[must_use]
    pub fn chat_limits(&self) -> Chat {
        let followed = self.chat.origins.is_empty();
        let origins = if followed { &self.server.origins } else { &self.chat.origins };
        Chat { origins: origins.clone(), ..self.chat.clone() }
    }
}

impl Checker<'_> {
    pub(crate) fn check_chat(&mut self, config: &Config) {
        let chat = &config.chat;
        self.rule("chat.text_chars_max", chat.text_chars_max, chat::TEXT_CHARS);
        self.rule("chat.members_max", chat.members_max, chat::MEMBERS);
        self.rule("chat.bans_max", chat.bans_max, chat::BANS);
        self.rule("chat.rooms_per_user_max", chat.rooms_per_user_max, chat::ROOMS_PER_USER);
        let organizations = chat.organizations_per_user_max;
        self.rule("chat.organizations_per_user_max", organizations, chat::ORGANIZATIONS_PER_USER);
        self.rule("chat.requests_max", chat.requests_max, chat::REQUESTS);
        self.rule("chat.rooms_per_hour_max", chat.rooms_per_hour_max, chat::ROOMS_PER_HOUR);
        self.rule("chat.requests_per_hour_max", chat.requests_per_hour_max, chat::REQUESTS_PER_HOUR);
        self.rule("chat.lookups_per_day_max", chat.lookups_per_day_max, chat::LOOKUPS_PER_DAY);
        self.rule("chat.searches_per_minute_max", chat.searches_per_minute_max, chat::SEARCHES_PER_MINUTE);
        self.rule("chat.resume_max", chat.resume_max, chat::RESUME_MESSAGES);
        self.rule("chat.messages_per_minute_max", chat.messages_per_minute_max, chat::MESSAGES_PER_MINUTE);
        self.rule("chat.messages_per_day_max", chat.messages_per_day_max, chat::MESSAGES_PER_DAY);
        self.rule("chat.bytes_per_minute_max", chat.bytes_per_minute_max, chat::BYTES_PER_MINUTE);
        self.rule("chat.bytes_per_day_max", chat.bytes_per_day_max, chat::BYTES_PER_DAY);
        self.range("chat.sockets_unknown_max", chat.sockets_unknown_max, 1, 1_000_000);
        let per_address = chat.sockets_unknown_per_address_max;
        self.range("chat.sockets_unknown_per_address_max", per_address, 1, chat.sockets_unknown_max);
        self.range("chat.sockets_max", chat.sockets_max as u64, 1, 1_000_000);
        self.range("chat.sockets_per_user_max", chat.sockets_per_user_max as u64, 1, 10_000);
        self.range("chat.frame_bytes_max", chat.frame_bytes_max as u64, 1024, 1024 * 1024);
        self.range("chat.queue_frames_max", chat.queue_frames_max as u64, 64, 1_000_000);
        self.range("chat.queue_bytes_max", chat.queue_bytes_max as u64, 65_536, 64 * 1024 * 1024);
        self.range("chat.frames_per_second_max", chat.frames_per_second_max.into(), 1, 1_000_000);
        self.range("chat.heartbeat_seconds", chat.heartbeat_seconds, 1, 3600);
        self.rule("chat.messages_keep_days", chat.messages_keep_days, chat::MESSAGES_KEEP_DAYS);
        self.range("chat.presence_sockets_max", chat.presence_sockets_max as u64, 0, 10_000);
        for origin in chat.origins.unusable() {
            self.refuse("chat.origins", format!("{origin:?}"), origins::ACCEPTED);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::Config;

    fn problems(text: &str) -> Vec<String> {
        match Config::parse(Path::new("config.toml"), text.into()) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn values_of_chat_are_checked() {
        let found = problems(
            "[chat]\norigins = [\"https://example.com\", \"example.com\", \"https://example.com/\"]\n\
             text_chars_max = 0\nsockets_max = 0\nheartbeat_seconds = 3601\n",
        );
        for key in [
            "config.toml:2: chat.origins = \"example.com\"",
            "config.toml:2: chat.origins = \"https://example.com/\"",
            "config.toml:3: chat.text_chars_max = 0: must be 1 to 65536",
            "config.toml:4: chat.sockets_max = 0: must be 1 to 1000000",
            "config.toml:5: chat.heartbeat_seconds = 3601: must be 1 to 3600",
        ] {
            assert!(found.iter().any(|problem| problem.contains(key)), "{key} is not in {found:#?}");
        }
        assert_eq!(found.len(), 5, "{found:#?}");
    }
}
