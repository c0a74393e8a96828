//! Made-up databases of django-chelseru, of any size, with the tables of the original's.

use std::path::Path;

use rusqlite::{Connection, params};

/// How large a database is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub users: u64,
    pub messages: u64,
    pub payments: u64,
}

impl Size {
    /// Rooms of two to five members.
    #[must_use]
    pub fn rooms(self) -> u64 {
        (self.users / 10).max(1)
    }

    /// The wallet of a user in toman: what the user's paid payments charged. What was returned went from the wallet.
    #[must_use]
    pub fn wallet(self, user: u64) -> u64 {
        let users = usize::try_from(self.users).unwrap_or(1);
        let paid = (user - 1..self.payments).step_by(users).filter(|payment| status(*payment) == "paid");
        paid.count() as u64 * 1000
    }
}

/// Makes a database at a path where there is none. The same size is the same database.
pub fn generate(path: &Path, size: Size) {
    let connection = Connection::open(path).expect("a database");
    connection.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN").expect("begun");
    tables(&connection);
    users(&connection, size);
    payments(&connection, size);
    rooms(&connection, size);
    messages(&connection, size);
    connection.execute_batch("COMMIT").expect("written");
}

/// Members of a room.
#[must_use]
pub fn members_of(size: Size, room: u64) -> Vec<u64> {
    (0..2 + room % 4).map(|at| (room * 7 + at) % size.users + 1).collect()
}

/// The room of a message.
#[must_use]
pub fn room_of(size: Size, message: u64) -> u64 {
    (message * 2_654_435_761) % size.rooms() + 1
}

fn tables(connection: &Connection) {
    let original = crate::root().join("tests/contract/django-3.1.2/db.sqlite3");
    let original = Connection::open_with_flags(original, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY);
    let original = original.expect("the original's database");
    let mut statements = original
        .prepare("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%' ORDER BY type DESC")
        .expect("a query");
    let statements = statements.query_map([], |row| row.get::<_, String>(0)).expect("rows");
    for statement in statements {
        connection.execute_batch(&statement.expect("a text")).expect("a table or an index");
    }
}

/// The number as the database's driver takes it.
fn whole(number: u64) -> i64 {
    i64::try_from(number).expect("a database is small")
}

/// An instant, in microseconds from the beginning of 2026.
fn time(micros: u64) -> String {
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let (days, seconds) = (seconds / 86_400, seconds % 86_400);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    // No month has fewer days.
    let (month, day) = (days / 28 % 12 + 1, days % 28 + 1);
    let year = 2020 + days / 28 / 12;
    format!("{year}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02}.{micros:06}")
}

fn users(connection: &Connection, size: Size) {
    let mut user = connection
        .prepare(
            "INSERT INTO auth_user (id, password, is_superuser, username, first_name, last_name, email, is_staff, \
             is_active, date_joined) VALUES (?1, '', 0, ?2, ?3, '', '', 0, 1, ?4)",
        )
        .expect("a statement");
    let mut profile = connection
        .prepare("INSERT INTO drfchelseru_user (mobile, \"group\", user_id) VALUES (?1, 0, ?2)")
        .expect("a statement");
    let mut wallet = connection
        .prepare(
            "INSERT INTO drfchelseru_wallet (amount, created_at, updated_at, user_id) VALUES (?1, ?2, ?2, ?3)",
        )
        .expect("a statement");
    for id in 1..=size.users {
        let number = format!("09{:09}", 120_000_000 + id);
        let joined = time(id * 1_000_000);
        user.execute(params![whole(id), format!("G0-{number}"), format!("کاربر {id}"), joined])
            .expect("a user");
        profile.execute(params![number, whole(id)]).expect("a profile");
        wallet.execute(params![size.wallet(id) as f64, joined, whole(id)]).expect("a wallet");
    }
}

/// How a payment ended, in the original's words.
fn status(payment: u64) -> &'static str {
    match payment % 7 {
        1 => "refounded",
        2 => "canceled",
        _ => "paid",
    }
}

fn payments(connection: &Connection, size: Size) {
    let mut payment = connection
        .prepare(
            "INSERT INTO drfchelseru_payment (order_id, amount, description, callback_url, mobile, email, currency, \
             user_id, authority, gateway_title, ref_id, created_at, status, updated_at, pay_mode) VALUES (?1, 1000.0, \
             'order', 'https://shop.example/', '', '', 'IRT', ?2, ?3, 'ZARINPAL_COM', ?4, ?5, ?6, ?5, 1)",
        )
        .expect("a statement");
    for id in 0..size.payments {
        let user = id % size.users + 1;
        let authority = format!("A{id:035}");
        payment
            .execute(params![
                format!("o{id}"),
                whole(user),
                authority,
                whole(id),
                time(id * 7_000_000),
                status(id)
            ])
            .expect("a payment");
    }
}

fn rooms(connection: &Connection, size: Size) {
    let mut room = connection
        .prepare("INSERT INTO drfchelseru_chatroom (id, created_at, updated_at, status, name) VALUES (?1, ?2, ?2, 1, ?3)")
        .expect("a statement");
    let mut member = connection
        .prepare("INSERT INTO drfchelseru_chatroom_users (chatroom_id, user_id) VALUES (?1, ?2)")
        .expect("a statement");
    for id in 1..=size.rooms() {
        room.execute(params![whole(id), time(id), format!("اتاق {id}")]).expect("a room");
        for user in members_of(size, id) {
            member.execute(params![whole(id), whole(user)]).expect("a member");
        }
    }
}

fn messages(connection: &Connection, size: Size) {
    let mut message = connection
        .prepare(
            "INSERT INTO drfchelseru_messagechat (id, text, timestamp, chat_room_id, sender_id, created_at, message_type) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?3, 'text')",
        )
        .expect("a statement");
    for id in 1..=size.messages {
        let room = room_of(size, id);
        let members = members_of(size, room);
        let sender = members[usize::try_from(id).unwrap_or(0) % members.len()];
        // Some share an instant: the id decides then.
        let text = format!("پیام شماره {id} در اتاق {room}، کمی درازتر از یک سلام ساده");
        message
            .execute(params![whole(id), text, time(id / 3 * 1_000_000), whole(room), whole(sender)])
            .expect("a message");
    }
}
