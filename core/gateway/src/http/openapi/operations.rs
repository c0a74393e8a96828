//! What the document says of each operation: one entry in one exhaustive match.
//!
//! Names of shapes are those of `schemas`; a text with a space is a sentence.

use crate::http::route::Operation;

/// A field of a body or a query.
pub(super) struct Field(pub(super) &'static str, pub(super) Kind, pub(super) &'static str);

#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A required text.
    Text,
    /// A text that may be missing.
    MayText,
    Integer,
    MayInteger,
    MayNumber,
    MayBool,
    MayList,
    /// A required file.
    File,
}

use Kind::{File, Integer, MayBool, MayInteger, MayList, MayNumber, MayText, Text};

/// What the document says of an operation.
pub(super) struct About {
    pub(super) summary: &'static str,
    pub(super) query: &'static [Field],
    pub(super) body: &'static [Field],
    /// Status and the name of a shape, or a sentence when it has a space: of an answer without JSON below 400, of an
    /// error from there on. `Name[]` is a list, `Page<Name>` one page of them, `One|Other` either.
    pub(super) answers: &'static [(u16, &'static str)],
}

const fn about_of(
    summary: &'static str,
    query: &'static [Field],
    body: &'static [Field],
    answers: &'static [(u16, &'static str)],
) -> Option<About> {
    Some(About { summary, query, body, answers })
}

const NUMBER: Field = Field("mobile_number", Text, "An Iranian mobile number in any usual spelling.");
const CURSOR: Field = Field("cursor", MayText, "From `next` or `previous` of another page.");
const ROOM: Field = Field("chat_room", Integer, "The room.");
const AMOUNT: Field = Field("amount", MayNumber, "In the configured currency, exactly; absent: all of it.");
const USER_ID: Field = Field("user_id", Integer, "A user.");
const TOKENS: &[(u16, &str)] = &[
    (200, "Tokens"),
    (401, "Wrong, expired, used or burned."),
    (403, "This way of logging in is switched off."),
    (429, "Too many tries."),
];

/// Everything there is to say of an operation; nothing of those that only tests have.
pub(super) fn about(operation: Operation) -> Option<About> {
    use Operation as O;
    match operation {
        O::OtpSend => about_of(
            "Send a code to a number",
            &[],
            &[NUMBER],
            &[
                (200, "Details"),
                (403, "This way of logging in is switched off."),
                (409, "A code is pending; Retry-After says for how long."),
                (429, "Too many codes for this number, address or in all."),
                (502, "The provider refused."),
            ],
        ),
        O::Authenticate => about_of(
            "Log in by code; the first login makes the account",
            &[],
            &[
                NUMBER,
                Field("code", Text, "The code; a number is taken, too."),
                Field("group", MayText, "A whole number the configuration allows; 0 when absent."),
            ],
            TOKENS,
        ),
        O::Register => about_of(
            "Make an account with a password",
            &[],
            &[
                Field("username", Text, "At most 150 letters, digits and @.+-_"),
                Field("password", Text, "8 to 128 characters."),
                Field("password2", Text, "The same again."),
                Field("email", MayText, "A mail address."),
            ],
            &[(201, "Registered"), (403, "This way of logging in is switched off.")],
        ),
        O::Login => about_of(
            "Log in by user name and password",
            &[],
            &[Field("username", Text, "The user name."), Field("password", Text, "The password.")],
            TOKENS,
        ),
        O::PasswordChange => about_of(
            "Change one's password; ends the other sessions",
            &[],
            &[
                Field("old_password", Text, "The present one."),
                Field("new_password", Text, "8 to 128 characters."),
            ],
            &[(200, "PasswordChanged"), (403, "This way of logging in is switched off.")],
        ),
        O::PasswordResetSend => about_of(
            "Send a code for a new password, if the number has an account",
            &[],
            &[NUMBER],
            &[(200, "Details"), (403, "This way of logging in is switched off.")],
        ),
        O::PasswordReset => about_of(
            "Set a password by code; ends all sessions",
            &[],
            &[
                NUMBER,
                Field("code", Text, "The code of password/reset/send/."),
                Field("new_password", Text, "8 to 128 characters."),
            ],
            &[(200, "Details"), (401, "Wrong code."), (403, "This way of logging in is switched off.")],
        ),
        O::Me => about_of("One's own account", &[], &[], &[(200, "Account")]),
        O::MeUpdate => about_of(
            "Change one's own fields; what is absent stays",
            &[],
            &[
                Field("first_name", MayText, "At most 150 characters."),
                Field("last_name", MayText, "At most 150 characters."),
                Field("email", MayText, "A mail address."),
            ],
            &[(200, "Account")],
        ),
        O::AuditList => about_of(
            "Security events, newest first; staff only",
            &[
                CURSOR,
                Field("event", MayText, "One kind of event."),
                Field("user", MayInteger, "One account."),
            ],
            &[],
            &[(200, "Page<AuditEvent>"), (403, "Not staff.")],
        ),
        O::Jwks => about_of(
            "The public keys of access tokens",
            &[],
            &[],
            &[(200, "KeySet"), (404, "Tokens are signed with a shared secret.")],
        ),
        O::TokenRefresh => about_of(
            "New tokens for a refresh token, which is replaced",
            &[],
            &[Field("refresh", Text, "The newest refresh token.")],
            TOKENS,
        ),
        O::TokenVerify => about_of(
            "Whether a token is good",
            &[],
            &[Field("token", Text, "An access or refresh token.")],
            &[(200, "Empty"), (401, "It is not.")],
        ),
        O::Logout => about_of("End this session", &[], &[], &[(200, "Details")]),
        O::SessionList => about_of("One's own sessions, newest first", &[], &[], &[(200, "Session[]")]),
        O::SessionEnd => about_of("End one of one's own sessions", &[], &[], &[(204, "It is done.")]),
        O::SessionEndOthers => about_of("End all other sessions", &[], &[], &[(200, "Ended")]),
        O::MessageSend => about_of(
            "Send a message, with an API key or as staff",
            &[],
            &[
                NUMBER,
                Field("message_text", Text, "The text, or the template's first value."),
                Field("template_id", MayText, "A logical template of the configuration."),
                Field(
                    "token2",
                    MayText,
                    "A further value of the template; so are token3, token10 and token20.",
                ),
                Field(
                    "wait",
                    MayBool,
                    "Answer when it is accepted or failed (default), or when it is stored.",
                ),
                Field("dry_run", MayBool, "Only say encoding, parts and warnings."),
            ],
            &[
                (200, "SentMessage|MessagePlan"),
                (202, "StoredMessage"),
                (401, "Neither a valid API key nor staff."),
                (403, "Not staff."),
                (409, "The request with this key runs."),
                (422, "The key stands for another request."),
                (429, "A cap is reached."),
                (502, "The provider refused."),
            ],
        ),
        O::MessageList => about_of(
            "Messages, newest first",
            &[
                CURSOR,
                Field("mobile_number", MayText, "To one number."),
                Field("status", MayText, "In one state."),
                Field("provider", MayText, "By one provider."),
            ],
            &[],
            &[(200, "Page<Message>"), (401, "Neither a valid API key nor staff."), (403, "Not staff.")],
        ),
        O::MessageGet => about_of(
            "One message and what became of it",
            &[],
            &[],
            &[(200, "Message"), (401, "Neither a valid API key nor staff."), (403, "Not staff.")],
        ),
        O::MessageReport => about_of(
            "A provider's delivery report, in its own form",
            &[],
            &[],
            &[(200, "Details"), (400, "The report is not understood.")],
        ),
        O::PaymentCreate => about_of(
            "Begin a payment; send the payer to gateway_url",
            &[],
            &[
                Field("amount", Text, "A number in the configured currency, exactly."),
                Field("order_id", MayText, "One's own name of it; an order has one open payment."),
                Field("description", MayText, "Shown by the bank."),
                Field(
                    "callback_url",
                    MayText,
                    "Where the bank sends the payer; must be allowed by the configuration.",
                ),
                Field(
                    "frontend_callback_url",
                    MayText,
                    "Where the result is redirected to; must be allowed.",
                ),
                Field("mobile", MayText, "For the bank's page."),
                Field("email", MayText, "For the bank's page."),
                Field("currency", MayText, "If given, the configured one."),
                Field("pay_mode", MayInteger, "1 charges the wallet (default), 2 only pays."),
            ],
            &[
                (200, "PaymentStarted"),
                (409, "This order has an open payment with other terms, or the request runs."),
                (422, "The key stands for another request."),
                (502, "The gateway refused or did not answer."),
            ],
        ),
        O::PaymentVerify => about_of(
            "Where the bank sends the payer back to: asks the bank, settles",
            &[
                Field("Authority", Text, "The bank's name of the payment."),
                Field("Status", Text, "What the bank's page says; never believed."),
            ],
            &[],
            &[
                (200, "PaymentResult"),
                (302, "To frontend_callback_url with the result."),
                (400, "It cannot be read."),
                (404, "No such payment."),
            ],
        ),
        O::PaymentCallback => about_of(
            "The same, as the bank posts it: form or JSON",
            &[],
            &[],
            &[
                (200, "PaymentResult"),
                (302, "To frontend_callback_url with the result."),
                (404, "No such payment."),
            ],
        ),
        O::PaymentList => {
            about_of("One's own payments, newest first", &[CURSOR], &[], &[(200, "Page<Payment>")])
        }
        O::PaymentGet => about_of("One of one's own payments", &[], &[], &[(200, "Payment")]),
        O::PaymentRefund => about_of(
            "Give a payment back; staff only",
            &[],
            &[AMOUNT, Field("to", MayText, "gateway, wallet or reverse."), Field("note", MayText, "Why.")],
            &[
                (201, "Refunded"),
                (403, "Not staff."),
                (409, "It is not paid, or the wallet does not have it any more."),
            ],
        ),
        O::WalletGet => about_of("What one has", &[], &[], &[(200, "Wallet")]),
        O::WalletEntries => {
            about_of("The lines of one's wallet, newest first", &[CURSOR], &[], &[(200, "Page<WalletEntry>")])
        }
        O::SpendCreate => about_of(
            "Spend from one's wallet, or hold",
            &[],
            &[
                Field("amount", Text, "A number in the configured currency, exactly."),
                Field("hold", MayBool, "Only set aside, until it is captured or voided."),
                Field("order_id", MayText, "One's own name of it."),
                Field("description", MayText, "For people."),
            ],
            &[
                (201, "Spend"),
                (409, "The wallet does not have it."),
                (422, "The key stands for another request."),
            ],
        ),
        O::SpendGet => about_of("One of one's own spends", &[], &[], &[(200, "Spend")]),
        O::SpendCapture => about_of(
            "Give held money to the merchant; staff only",
            &[],
            &[AMOUNT],
            &[(200, "Spend"), (403, "Not staff."), (409, "It has ended otherwise.")],
        ),
        O::SpendVoid => about_of(
            "Give held money back; staff only",
            &[],
            &[],
            &[(200, "Spend"), (403, "Not staff."), (409, "It has ended otherwise.")],
        ),
        O::ChatRoot => about_of("The addresses of the two collections", &[], &[], &[(200, "ChatAddresses")]),
        O::RoomList => about_of("One's rooms, the newest change first", &[], &[], &[(200, "Room[]")]),
        O::RoomCreate => about_of(
            "Find or make the room of a pair, or make a group",
            &[],
            &[
                Field("user_id", MayInteger, "The other of a pair; `user` is taken, too."),
                Field("users", MayList, "Members of a group."),
                Field("name", MayText, "At most 45 characters."),
                Field("descriptions", MayText, "At most 2000 characters."),
                Field("organization", MayInteger, "One of one's own; the group belongs to it."),
            ],
            &[(201, "Room"), (200, "Room")],
        ),
        O::RoomGet => about_of("A room", &[], &[], &[(200, "Room")]),
        O::RoomUpdate => about_of(
            "Rename, close, hold, reopen; what is absent stays",
            &[],
            &[
                Field("name", MayText, "At most 45 characters."),
                Field("descriptions", MayText, "At most 2000 characters."),
                Field("status", MayInteger, "1 open, 2 closed, 3 on hold."),
                Field("avatar", MayInteger, "A picture one uploaded to the room."),
            ],
            &[(200, "Room"), (403, "A right is missing.")],
        ),
        O::RoomDelete => about_of(
            "Delete a room with all that is in it",
            &[],
            &[],
            &[(204, "It is done."), (403, "A right is missing.")],
        ),
        O::RoomPin => about_of("Pin a room for oneself", &[], &[], &[(200, "Room")]),
        O::RoomUnpin => about_of("Unpin it", &[], &[], &[(200, "Room")]),
        O::RoomRead => about_of(
            "Move one's read marker forward",
            &[],
            &[
                Field("seq", MayInteger, "Up to this number; absent: everything."),
                Field("message", MayInteger, "Up to this message."),
            ],
            &[(200, "ReadMarker")],
        ),
        O::RoomLeave => about_of("Leave a room", &[], &[], &[(204, "It is done.")]),
        O::MemberList => about_of("Members of a room", &[CURSOR], &[], &[(200, "Page<Member>")]),
        O::MemberAdd => {
            about_of("Add a member", &[], &[USER_ID], &[(201, "Member"), (403, "A right is missing.")])
        }
        O::MemberGet => about_of("A member", &[], &[], &[(200, "Member")]),
        O::MemberRemove => {
            about_of("Remove a member", &[], &[], &[(204, "It is done."), (403, "A right is missing.")])
        }
        O::MemberGrant => about_of(
            "Grant levels of access",
            &[],
            &[Field("access", MayList, "A number from 1 to 13, or several.")],
            &[(200, "Member"), (403, "A right is missing.")],
        ),
        O::MemberRevoke => about_of(
            "Revoke levels of access",
            &[],
            &[Field("access", MayList, "A number from 1 to 13, or several.")],
            &[(200, "Member"), (403, "A right is missing.")],
        ),
        O::BanList => about_of(
            "Users banned from a room",
            &[CURSOR],
            &[],
            &[(200, "Page<PublicUser>"), (403, "A right is missing.")],
        ),
        O::BanAdd => about_of("Ban a user", &[], &[USER_ID], &[(201, "Room"), (403, "A right is missing.")]),
        O::BanRemove => {
            about_of("End a ban", &[], &[], &[(204, "It is done."), (403, "A right is missing.")])
        }
        O::ChatMessageList => about_of(
            "Messages of a room, newest first, 30 a page",
            &[Field("chat_room", MayInteger, "The room; the page is empty without it."), CURSOR],
            &[],
            &[(200, "Page<ChatMessage>")],
        ),
        O::ChatMessageCreate => about_of(
            "Post a message; open sockets see it",
            &[],
            &[
                ROOM,
                Field("text", MayText, "The text; may be missing with a file."),
                Field("message_type", MayText, "text (default), image, file or location."),
                Field("attach_id", MayInteger, "A file one uploaded to the room."),
                Field("lat", MayNumber, "Of a location."),
                Field("lng", MayNumber, "Of a location."),
                Field("client_id", MayText, "One's own name of it: the same twice is one message."),
            ],
            &[(201, "ChatMessage"), (200, "ChatMessage"), (403, "A right is missing.")],
        ),
        O::ChatMessageGet => about_of("A message", &[ROOM], &[], &[(200, "ChatMessage")]),
        O::ChatMessageUpdate => about_of(
            "Edit one's own message",
            &[ROOM],
            &[
                Field("text", MayText, "The text."),
                Field("lat", MayNumber, "Of a location."),
                Field("lng", MayNumber, "Of a location."),
            ],
            &[(200, "ChatMessage"), (403, "Another's, or a right is missing.")],
        ),
        O::ChatMessageDelete => {
            about_of("Delete a message", &[ROOM], &[], &[(204, "It is done."), (403, "A right is missing.")])
        }
        O::OrganizationList => about_of("One's organizations", &[], &[], &[(200, "Organization[]")]),
        O::OrganizationCreate => about_of(
            "Make an organization",
            &[],
            &[
                Field("name", Text, "At most 100 characters."),
                Field("uname", Text, "Its unique name: at most 45 letters, digits, _ - and ."),
            ],
            &[(201, "Organization")],
        ),
        O::OrganizationGet => about_of("One of one's organizations", &[], &[], &[(200, "Organization")]),
        O::OrganizationUpdate => about_of(
            "Rename one of one's organizations; what is absent stays",
            &[],
            &[
                Field("name", MayText, "At most 100 characters."),
                Field("uname", MayText, "Its unique name: at most 45 letters, digits, _ - and ."),
            ],
            &[(200, "Organization")],
        ),
        O::OrganizationDelete => about_of(
            "Delete one of one's organizations",
            &[],
            &[],
            &[(204, "It is done."), (409, "It has rooms.")],
        ),
        O::OrganizationRooms => {
            about_of("An organization's rooms that one is in", &[], &[], &[(200, "Room[]")])
        }
        O::FileUpload => about_of(
            "Upload a file to a room",
            &[],
            &[
                Field("file", File, "The bytes."),
                Field("chatroom", Integer, "The room."),
                Field("text", MayText, "For people."),
            ],
            &[
                (201, "UploadedFile"),
                (403, "A right is missing."),
                (507, "No room is left for files."),
                (429, "Too many uploads at once."),
            ],
        ),
        O::FileGet => about_of("A file's facts and a short-lived link", &[], &[], &[(200, "UploadedFile")]),
        O::FileDownload => about_of(
            "A file's bytes, for members of its room",
            &[],
            &[],
            &[
                (200, "The bytes."),
                (401, "Neither a token nor a valid link."),
                (206, "A part of the bytes."),
                (416, "No such part."),
            ],
        ),
        O::TusCreate => about_of(
            "Begin a resumable upload (tus 1.0)",
            &[],
            &[],
            &[
                (201, "Location has its address."),
                (400, "Field errors, in Upload-Metadata."),
                (412, "Tus-Resumable is not 1.0.0."),
                (413, "The file would be too large."),
                (507, "No room is left for files."),
            ],
        ),
        O::TusGet => about_of("How far a resumable upload is", &[], &[], &[(200, "Upload")]),
        O::TusPatch => about_of(
            "Send more of it",
            &[],
            &[],
            &[
                (204, "Upload-Offset is the new one."),
                (409, "Another offset than the one it has."),
                (423, "Another request sends right now."),
            ],
        ),
        O::TusDelete => about_of("Give a resumable upload up", &[], &[], &[(204, "It is done.")]),
        O::ChatSocket => about_of(
            "A WebSocket of one room; see CHAT.md",
            &[
                Field("token", MayText, "An access token; better in a header or a subprotocol."),
                Field("since", MayInteger, "Resume after this message."),
            ],
            &[],
            &[
                (101, "The socket is open."),
                (426, "No upgrade to a WebSocket was asked for."),
                (403, "No token, not a member, or banned."),
            ],
        ),
        O::Socket => about_of(
            "A WebSocket of all one's rooms; see CHAT.md",
            &[Field("token", MayText, "An access token; better in a header or a subprotocol.")],
            &[],
            &[
                (101, "The socket is open."),
                (426, "No upgrade to a WebSocket was asked for."),
                (403, "No valid token."),
            ],
        ),
        O::SandboxBankPage => about_of("The trial bank's page", &[], &[], &[(200, "A page.")]),
        O::SandboxBankDecide => about_of(
            "Pay, cancel, or pay without coming back",
            &[],
            &[Field("action", Text, "pay, cancel or pay_lost.")],
            &[
                (200, "A page: the way back is lost."),
                (409, "It was decided before."),
                (303, "To the callback address."),
            ],
        ),
        O::SandboxInbox => about_of(
            "What the trial provider was asked to send",
            &[Field("mobile_number", MayText, "To one number.")],
            &[],
            &[(200, "Results<InboxMessage>")],
        ),
        O::OperatorUsers => about_of(
            "What chelseru user asks of a running gateway",
            &[],
            &[],
            &[(200, "Account|Account[]"), (403, "The token of the data folder is missing or wrong.")],
        ),
        O::ApiKeyList => about_of("API keys", &[], &[], &[(200, "Results<ApiKey>")]),
        O::ApiKeyCreate => about_of(
            "Make an API key; its token is shown once",
            &[],
            &[
                Field("scope", Text, "sms."),
                Field("name", MayText, "For people."),
                Field("daily_cap", MayInteger, "Messages a day."),
            ],
            &[(201, "NewApiKey")],
        ),
        O::ApiKeyRevoke => {
            about_of("Revoke an API key", &[], &[Field("id", Integer, "Its number.")], &[(200, "Details")])
        }
        O::Backup => about_of(
            "Write a backup of the store, the key, the plugins and the uploaded files",
            &[],
            &[Field("folder", Text, "Where to, an absolute path on this machine; made by it.")],
            &[(200, "Copied")],
        ),
        O::WebhookList => about_of(
            "Events and their deliveries, newest first",
            &[
                Field("before", MayText, "Older than this event."),
                Field("dead", MayBool, "Only those that were given up."),
            ],
            &[],
            &[(200, "Results<WebhookEvent>")],
        ),
        O::WebhookReplay => about_of(
            "Tell an event again, or all that were given up",
            &[],
            &[
                Field("event", MayText, "Its id; absent: all that were given up."),
                Field("endpoint", MayText, "Only there."),
            ],
            &[(200, "Replayed")],
        ),
        O::Status => about_of("What runs, since when, and what was refused", &[], &[], &[(200, "Any")]),
        O::Metrics => about_of("Metrics in the Prometheus text format", &[], &[], &[(200, "The metrics.")]),
        O::Health => {
            about_of("Whether durable writes are possible", &[], &[], &[(200, "Health"), (503, "Health")])
        }
        O::OpenApi => about_of("This document", &[], &[], &[(200, "Any")]),
        O::SocketEcho => None,
    }
}
