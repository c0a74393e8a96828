//! What django-chelseru 3.1.2 keeps where: the columns that are read.

/// Rows of one table in an order.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) table: &'static str,
    pub(crate) columns: &'static [&'static str],
    pub(crate) order: &'static [&'static str],
    /// A column with the values of another table's rows that refer to this row, joined by commas.
    pub(crate) joined: Option<Joined>,
}

/// Rows of a join table, read with the rows they refer to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Joined {
    pub(crate) table: &'static str,
    pub(crate) refers: &'static str,
    pub(crate) value: &'static str,
}

impl Query {
    pub(super) const fn by_id(table: &'static str, columns: &'static [&'static str]) -> Query {
        Query { table, columns, order: &["id"], joined: None }
    }

    /// Where a column is in a row. The joined column has the name of its table and is the last.
    pub(super) fn place_of(&self, column: &str) -> Option<usize> {
        let own = self.columns.iter().position(|known| *known == column);
        let joined = self.joined.filter(|joined| joined.table == column).map(|_| self.columns.len());
        own.or(joined)
    }
}

pub(crate) const USERS: Query = Query::by_id(
    "auth_user",
    &[
        "id",
        "password",
        "last_login",
        "is_superuser",
        "username",
        "first_name",
        "last_name",
        "email",
        "is_staff",
        "is_active",
        "date_joined",
    ],
);
pub(crate) const USER_IDS: Query = Query::by_id(USERS.table, &["id"]);
pub(crate) const PROFILES: Query = Query::by_id("drfchelseru_user", &["id", "mobile", "group", "user_id"]);
pub(crate) const WALLETS: Query = Query::by_id("drfchelseru_wallet", &["id", "amount", "user_id"]);
pub(crate) const PAYMENTS: Query = Query::by_id(
    "drfchelseru_payment",
    &[
        "id",
        "order_id",
        "amount",
        "description",
        "callback_url",
        "currency",
        "user_id",
        "authority",
        "status_code",
        "gateway_title",
        "gateway_url",
        "message",
        "card_hash",
        "card_pan",
        "ref_id",
        "created_at",
        "updated_at",
        "status",
        "paid_at",
        "pay_mode",
        "frontend_callback_url",
    ],
);
pub(crate) const ORGANIZATIONS: Query =
    Query::by_id("drfchelseru_organization", &["id", "name", "uname", "created_at", "owner_id"]);
pub(crate) const ROOMS: Query = Query::by_id(
    "drfchelseru_chatroom",
    &[
        "id",
        "created_at",
        "updated_at",
        "user_1_id",
        "user_2_id",
        "status",
        "organization_id",
        "descriptions",
        "name",
    ],
);
pub(crate) const MEMBERS: Query =
    Query::by_id("drfchelseru_chatroom_users", &["id", "chatroom_id", "user_id"]);
pub(crate) const BANS: Query =
    Query::by_id("drfchelseru_chatroom_banneds", &["id", "chatroom_id", "user_id"]);
pub(crate) const PINS: Query =
    Query::by_id("drfchelseru_chatroom_pinned_for", &["id", "chatroom_id", "user_id"]);
pub(crate) const PERMISSIONS: Query = Query::by_id("drfchelseru_chatroompermissions", &["id", "access"]);
pub(crate) const PERMISSION_USERS: Query =
    Query::by_id("drfchelseru_chatroompermissions_user", &["id", "chatroompermissions_id", "user_id"]);
pub(crate) const ROOM_PERMISSIONS: Query =
    Query::by_id("drfchelseru_chatroom_permissions", &["id", "chatroom_id", "chatroompermissions_id"]);
pub(crate) const READ_BY: &str = "drfchelseru_messagechat_read_by";
pub(crate) const MESSAGES: Query = Query {
    table: "drfchelseru_messagechat",
    columns: &["id", "text", "message_type", "lat", "lng", "created_at", "sender_id", "chat_room_id"],
    order: &["chat_room_id", "created_at", "id"],
    joined: Some(Joined { table: READ_BY, refers: "messagechat_id", value: "user_id" }),
};
pub(crate) const FILES: Query = Query::by_id(
    "drfchelseru_attachfile",
    &["id", "file", "text", "created_at", "chatroom_id", "message_id", "user_id"],
);
pub(crate) const SMS: Query = Query::by_id(
    "drfchelseru_messagesms",
    &["id", "message_text", "mobile_number", "_from", "status", "created_at", "updated_at"],
);
pub(super) const READERS: Query = Query::by_id(READ_BY, &["id", "messagechat_id", "user_id"]);

pub(super) const ALL: [&Query; 16] = [
    &USERS,
    &PROFILES,
    &WALLETS,
    &PAYMENTS,
    &ORGANIZATIONS,
    &ROOMS,
    &MEMBERS,
    &BANS,
    &PINS,
    &PERMISSIONS,
    &PERMISSION_USERS,
    &ROOM_PERMISSIONS,
    &MESSAGES,
    &READERS,
    &FILES,
    &SMS,
];

/// Tables that are counted in the report and not imported, with the reason.
pub(crate) const NOT_IMPORTED: [(&str, &str); 5] = [
    ("drfchelseru_otpcode", "pending codes are in clear; a new one is sent in a minute"),
    ("drfchelseru_session", "sessions of the package were never linked to tokens"),
    ("auth_group", "groups of Django's admin grant nothing here"),
    ("auth_user_groups", "groups of Django's admin grant nothing here"),
    ("django_admin_log", "the admin's log stays in the old database"),
];
