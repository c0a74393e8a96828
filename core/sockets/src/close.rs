//! Why the gateway closes a socket: the code and the word that a client sees.
//!
//! The table of `CHAT.md` is this list; a test holds the two equal.

/// A close code with its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    pub code: u16,
    pub reason: &'static str,
}

macro_rules! closes {
    ($($(#[$doc:meta])* $name:ident = $code:literal $reason:literal;)*) => {
        impl Close {
            $($(#[$doc])* pub const $name: Close = Close { code: $code, reason: $reason };)*
            /// Every code there is.
            pub const ALL: &[Close] = &[$(Close::$name),*];
        }
    };
}

closes! {
    /// The client closed. Its own code is sent back.
    NORMAL = 1000 "";
    /// The gateway stops. The client may reconnect.
    GOING_AWAY = 1001 "gateway_stopping";
    /// The client broke the WebSocket protocol.
    PROTOCOL = 1002 "protocol_error";
    NOT_UTF8 = 1007 "not_utf8";
    TOO_BIG = 1009 "message_too_big";
    /// The gateway failed. The client may reconnect.
    INTERNAL = 1011 "internal_error";
    /// No valid token arrived in the first frame in time.
    UNAUTHORIZED = 4401 "token_not_valid";
    /// Not a member, banned, or the room is closed; only after a token in the first frame.
    FORBIDDEN = 4403 "room_forbidden";
    ROOM_MISSING = 4404 "room_missing";
    TOKEN_EXPIRED = 4410 "token_expired";
    /// The session ended or the account was disabled. The client must log in again.
    SESSION_ENDED = 4411 "session_ended";
    KICKED = 4412 "kicked";
    BANNED = 4413 "banned";
    ROOM_CLOSED = 4414 "room_closed";
    ROOM_DELETED = 4415 "room_deleted";
    LEFT = 4416 "left";
    /// The client did not read. It reconnects with `since` and loses nothing.
    SLOW = 4420 "slow_reader";
    /// The client sent nothing, not even a pong.
    SILENT = 4421 "heartbeat_timeout";
    /// The client sent far more frames than allowed.
    FLOOD = 4429 "flood";
    TOO_MANY = 4430 "too_many_sockets";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_page_lists_every_code() {
        let page = include_str!("../../gateway/CHAT.md");
        let listed: Vec<(u16, &str)> = page
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix("| ")?.split('|').map(str::trim);
                Some((cells.next()?.parse().ok()?, cells.next()?.trim_matches('`')))
            })
            .filter(|(code, _)| *code >= 1000)
            .collect();
        let known: Vec<(u16, &str)> = Close::ALL.iter().map(|close| (close.code, close.reason)).collect();
        assert_eq!(listed, known);
    }
}
