//! The OpenAPI 3.1 document of every route, made from the routes' own table.
//!
//! [`about`] says of each operation what it does, what it takes and what it answers; a new operation does not compile
//! without its entry. Shapes that several answers share are in [`schemas`]. Sockets have a page of their own
//! (`CHAT.md`), because OpenAPI cannot describe frames. Not here: what is accepted (the handlers decide).

use http::Method;
use serde_json::{Map, Value, json};

use super::route::{Access, Operation, ROUTES, Route};

/// A field of a body or a query.
struct Field(&'static str, Kind, &'static str);

#[derive(Clone, Copy)]
enum Kind {
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
struct About {
    summary: &'static str,
    query: &'static [Field],
    body: &'static [Field],
    /// Status and the name of a schema, or a sentence when it has a space.
    answers: &'static [(u16, &'static str)],
}

const fn about_of(
    summary: &'static str,
    query: &'static [Field],
    body: &'static [Field],
    answers: &'static [(u16, &'static str)],
) -> Option<About> {
    Some(About { summary, query, body, answers })
}

/// The document of a gateway under this base path.
pub fn document(base_path: &str) -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let mut methods = Map::new();
        for (method, operation) in route.methods() {
            if let Some(about) = about(*operation) {
                methods.insert(method.as_str().to_lowercase(), describe(route, method, *operation, &about));
            }
        }
        if !methods.is_empty() {
            let prefix = if route.is_file() { "" } else { base_path };
            paths.insert(format!("{prefix}{}", route.path), methods.into());
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "chelseru",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "MIT", "identifier": "MIT"},
            "description": "Phone and password login, sessions, SMS, payments with wallets, and chat. Bodies are JSON, \
                form or multipart. Every error has the headers X-Error-Code (stable, for programs) and X-Request-Id. A \
                path without its last slash answers 301. Sockets: core/gateway/CHAT.md.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "apiKey": {
                    "type": "apiKey", "in": "header", "name": "Authorization",
                    "description": "Api-Key TOKEN, made by chelseru apikey create",
                },
            },
        },
    })
}

fn describe(route: &Route, method: &Method, operation: Operation, about: &About) -> Value {
    let mut parameters: Vec<Value> = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    parameters.extend(about.query.iter().map(|Field(name, kind, text)| {
        json!({"name": name, "in": "query", "required": kind.is_required(), "description": text, "schema": kind.schema()})
    }));
    if takes_idempotency_key(operation) {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false, "schema": {"type": "string"},
            "description": "The same key and body get the first answer; another body 422; while it runs 409. Kept 24 h.",
        }));
    }
    let mut responses = Map::new();
    for (status, shape) in about.answers {
        responses.insert(status.to_string(), response(shape));
    }
    for (status, text) in errors(route, operation) {
        responses.entry(status.to_string()).or_insert_with(|| failure(text));
    }
    let mut object = json!({
        "operationId": operation_id(route, method, operation),
        "summary": about.summary,
        "tags": [tag(route)],
        "responses": responses,
    });
    if !parameters.is_empty() {
        object["parameters"] = parameters.into();
    }
    if !about.body.is_empty() {
        object["requestBody"] = request_body(about.body);
    }
    if let Some(security) = security(route, operation) {
        object["security"] = security;
    }
    object
}

fn request_body(fields: &[Field]) -> Value {
    let properties: Map<String, Value> = fields
        .iter()
        .map(|Field(name, kind, text)| {
            let mut schema = kind.schema();
            schema["description"] = (*text).into();
            ((*name).to_owned(), schema)
        })
        .collect();
    let required: Vec<&str> =
        fields.iter().filter(|field| field.1.is_required()).map(|field| field.0).collect();
    let schema = json!({"type": "object", "properties": properties, "required": required});
    let mut content = Map::new();
    let has_file = fields.iter().any(|field| matches!(field.1, File));
    if !has_file {
        content.insert("application/json".into(), json!({"schema": schema}));
        content.insert("application/x-www-form-urlencoded".into(), json!({"schema": schema}));
    }
    content.insert("multipart/form-data".into(), json!({"schema": schema}));
    json!({"required": !required.is_empty(), "content": content})
}

fn response(shape: &str) -> Value {
    if shape.contains(' ') {
        return json!({"description": shape});
    }
    let (name, list) = match shape.strip_suffix("[]") {
        Some(name) => (name, true),
        None => (shape, false),
    };
    let reference = json!({"$ref": format!("#/components/schemas/{name}")});
    let schema = if list { json!({"type": "array", "items": reference}) } else { reference };
    json!({"description": name, "content": {"application/json": {"schema": schema}}})
}

fn failure(text: &str) -> Value {
    let schema = if text.starts_with("Field") { "FieldErrors" } else { "Error" };
    let reference = format!("#/components/schemas/{schema}");
    json!({"description": text, "content": {"application/json": {"schema": {"$ref": reference}}}})
}

/// What any operation of this kind may answer besides its own.
fn errors(route: &Route, operation: Operation) -> Vec<(u16, &'static str)> {
    let mut errors = Vec::new();
    if operation.reads_body() || operation.streams_body() {
        errors.push((400, "Field errors, or a body that cannot be read."));
        errors.push((413, "The body is too large."));
        errors.push((415, "Another media type."));
    }
    if route.access == Access::User {
        errors.push((401, "No valid access token."));
    }
    if route.path.contains('{') {
        errors.push((404, "There is none, for this caller."));
    }
    errors
}

fn security(route: &Route, operation: Operation) -> Option<Value> {
    use Operation as O;
    match operation {
        O::MessageSend | O::MessageList | O::MessageGet => Some(json!([{"apiKey": []}, {"bearer": []}])),
        O::FileDownload => Some(json!([{"bearer": []}, {}])),
        _ if route.access == Access::User => Some(json!([{"bearer": []}])),
        _ => None,
    }
}

fn takes_idempotency_key(operation: Operation) -> bool {
    use Operation as O;
    matches!(operation, O::MessageSend | O::PaymentCreate | O::SpendCreate | O::PaymentRefund)
}

/// `noun_verb`; the same operation under another path or method has that in its name.
fn operation_id(route: &Route, method: &Method, operation: Operation) -> String {
    let mut id = String::new();
    for (at, c) in format!("{operation:?}").char_indices() {
        if c.is_uppercase() && at > 0 {
            id.push('_');
        }
        id.extend(c.to_lowercase());
    }
    if *method == Method::PUT || (operation == Operation::MessageReport && *method == Method::GET) {
        id.push_str(if *method == Method::PUT { "_put" } else { "_get" });
    }
    if route.path.ends_with(".json") && !route.path.starts_with("/.") {
        id.push_str("_json");
    }
    id
}

fn tag(route: &Route) -> &'static str {
    if route.access == Access::Loopback {
        return "operator: clients on this machine only";
    }
    let first = route.path.trim_start_matches('/').split('/').next().unwrap_or("");
    match first {
        "payment" | "wallet" => "money",
        "chat" | "media" | "ws" => "chat",
        "message" if route.path.contains("/file/") => "chat",
        "message" => "sms",
        "health" | "openapi.json" => "gateway",
        _ => "identity",
    }
}

impl Kind {
    fn is_required(self) -> bool {
        matches!(self, Text | Integer | File)
    }

    fn schema(self) -> Value {
        match self {
            Text | MayText => json!({"type": "string"}),
            Integer | MayInteger => json!({"type": "integer"}),
            MayNumber => json!({"type": ["number", "string"]}),
            MayBool => json!({"type": "boolean"}),
            MayList => json!({"type": "array", "items": {}}),
            File => json!({"type": "string", "contentMediaType": "application/octet-stream"}),
        }
    }
}

const NUMBER: Field = Field("mobile_number", Text, "An Iranian mobile number in any usual spelling.");
const CURSOR: Field = Field("cursor", MayText, "From `next` or `previous` of another page.");
const ROOM: Field = Field("chat_room", Integer, "The room.");
const AMOUNT: Field = Field("amount", MayNumber, "In the configured currency, exactly; absent: all of it.");
const USER_ID: Field = Field("user_id", Integer, "A user.");
const TOKENS: &[(u16, &str)] =
    &[(200, "Tokens"), (401, "Wrong, expired, used or burned."), (429, "Too many tries.")];

/// Everything there is to say of an operation; nothing of those that only tests have.
fn about(operation: Operation) -> Option<About> {
    use Operation as O;
    match operation {
        O::OtpSend => about_of(
            "Send a code to a number",
            &[],
            &[NUMBER],
            &[
                (200, "Details"),
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
            &[(201, "Registered"), (403, "Login by password is switched off.")],
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
            &[(200, "Details")],
        ),
        O::PasswordResetSend => about_of(
            "Send a code for a new password, if the number has an account",
            &[],
            &[NUMBER],
            &[(200, "Details")],
        ),
        O::PasswordReset => about_of(
            "Set a password by code; ends all sessions",
            &[],
            &[
                NUMBER,
                Field("code", Text, "The code of password/reset/send/."),
                Field("new_password", Text, "8 to 128 characters."),
            ],
            &[(200, "Details"), (401, "Wrong code.")],
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
            &[(200, "Page"), (403, "Not staff.")],
        ),
        O::Jwks => about_of("The public keys of access tokens", &[], &[], &[(200, "A JSON Web Key Set.")]),
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
            &[(200, "An empty object."), (401, "It is not.")],
        ),
        O::Logout => about_of("End this session", &[], &[], &[(200, "Details")]),
        O::SessionList => about_of("One's own sessions, newest first", &[], &[], &[(200, "Session[]")]),
        O::SessionEnd => about_of("End one of one's own sessions", &[], &[], &[(204, "It is done.")]),
        O::SessionEndOthers => about_of("End all other sessions", &[], &[], &[(200, "How many have ended.")]),
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
                (200, "SentMessage"),
                (202, "SentMessage"),
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
            &[(200, "Page")],
        ),
        O::MessageGet => about_of("One message and what became of it", &[], &[], &[(200, "SentMessage")]),
        O::MessageReport => {
            about_of("A provider's delivery report, in its own form", &[], &[], &[(200, "It is taken.")])
        }
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
        O::PaymentList => about_of("One's own payments, newest first", &[CURSOR], &[], &[(200, "Page")]),
        O::PaymentGet => about_of("One of one's own payments", &[], &[], &[(200, "Payment")]),
        O::PaymentRefund => about_of(
            "Give a payment back; staff only",
            &[],
            &[AMOUNT, Field("to", MayText, "gateway or wallet."), Field("note", MayText, "Why.")],
            &[
                (201, "Refunded"),
                (403, "Not staff."),
                (409, "It is not paid, or the wallet does not have it any more."),
            ],
        ),
        O::WalletGet => about_of("What one has", &[], &[], &[(200, "Wallet")]),
        O::WalletEntries => {
            about_of("The lines of one's wallet, newest first", &[CURSOR], &[], &[(200, "Page")])
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
            &[(200, "Spend"), (403, "Not staff.")],
        ),
        O::SpendVoid => {
            about_of("Give held money back; staff only", &[], &[], &[(200, "Spend"), (403, "Not staff.")])
        }
        O::ChatRoot => about_of("The addresses of the two collections", &[], &[], &[(200, "Two addresses.")]),
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
            &[(200, "The marker, the newest number and the unread count.")],
        ),
        O::RoomLeave => about_of("Leave a room", &[], &[], &[(204, "It is done.")]),
        O::MemberList => about_of("Members of a room", &[CURSOR], &[], &[(200, "Page")]),
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
            &[(200, "Page"), (403, "A right is missing.")],
        ),
        O::BanAdd => about_of("Ban a user", &[], &[USER_ID], &[(201, "Room"), (403, "A right is missing.")]),
        O::BanRemove => {
            about_of("End a ban", &[], &[], &[(204, "It is done."), (403, "A right is missing.")])
        }
        O::ChatMessageList => {
            about_of("Messages of a room, newest first, 30 a page", &[ROOM, CURSOR], &[], &[(200, "Page")])
        }
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
        O::FileUpload => about_of(
            "Upload a file to a room",
            &[],
            &[
                Field("file", File, "The bytes."),
                Field("chatroom", Integer, "The room."),
                Field("text", MayText, "For people."),
            ],
            &[(201, "UploadedFile"), (403, "A right is missing."), (429, "Too many uploads at once.")],
        ),
        O::FileGet => about_of("A file's facts and a short-lived link", &[], &[], &[(200, "UploadedFile")]),
        O::FileDownload => about_of(
            "A file's bytes, for members of its room",
            &[],
            &[],
            &[(200, "The bytes."), (206, "A part of the bytes."), (416, "No such part.")],
        ),
        O::TusCreate => {
            about_of("Begin a resumable upload (tus 1.0)", &[], &[], &[(201, "Location has its address.")])
        }
        O::TusGet => {
            about_of("How far a resumable upload is", &[], &[], &[(200, "Upload-Offset and Upload-Length.")])
        }
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
            &[(101, "The socket is open."), (403, "No token, not a member, or banned.")],
        ),
        O::Socket => about_of(
            "A WebSocket of all one's rooms; see CHAT.md",
            &[Field("token", MayText, "An access token; better in a header or a subprotocol.")],
            &[],
            &[(101, "The socket is open."), (403, "No valid token.")],
        ),
        O::SandboxBankPage => about_of("The trial bank's page", &[], &[], &[(200, "A page.")]),
        O::SandboxBankDecide => about_of(
            "Pay, cancel, or pay without coming back",
            &[],
            &[Field("action", Text, "pay, cancel or pay_lost.")],
            &[(303, "To the callback address.")],
        ),
        O::SandboxInbox => about_of(
            "What the trial provider was asked to send",
            &[Field("mobile_number", MayText, "To one number.")],
            &[],
            &[(200, "Page")],
        ),
        O::OperatorUsers => {
            about_of("What chelseru user asks of a running gateway", &[], &[], &[(200, "The answer.")])
        }
        O::ApiKeyList => about_of("API keys", &[], &[], &[(200, "Page")]),
        O::ApiKeyCreate => about_of(
            "Make an API key; its token is shown once",
            &[],
            &[
                Field("scope", Text, "sms."),
                Field("name", MayText, "For people."),
                Field("daily_cap", MayInteger, "Messages a day."),
            ],
            &[(201, "The key.")],
        ),
        O::ApiKeyRevoke => {
            about_of("Revoke an API key", &[], &[Field("id", Integer, "Its number.")], &[(200, "Details")])
        }
        O::WebhookList => about_of(
            "Events and their deliveries, newest first",
            &[
                Field("before", MayText, "Older than this event."),
                Field("dead", MayBool, "Only those that were given up."),
            ],
            &[],
            &[(200, "Page")],
        ),
        O::WebhookReplay => about_of(
            "Tell an event again, or all that were given up",
            &[],
            &[
                Field("event", MayText, "Its id; absent: all that were given up."),
                Field("endpoint", MayText, "Only there."),
            ],
            &[(200, "How many.")],
        ),
        O::Status => {
            about_of("What runs, since when, and what was refused", &[], &[], &[(200, "The status.")])
        }
        O::Metrics => about_of("Metrics in the Prometheus text format", &[], &[], &[(200, "The metrics.")]),
        O::Health => about_of(
            "Whether durable writes are possible",
            &[],
            &[],
            &[(200, "They are."), (503, "They are not.")],
        ),
        O::OpenApi => about_of("This document", &[], &[], &[(200, "This document.")]),
        O::SocketEcho => None,
    }
}

fn schemas() -> Value {
    let text = || json!({"type": "string"});
    let whole = || json!({"type": "integer"});
    let time = || json!({"type": "string", "format": "date-time"});
    let maybe = |kind: &str| json!({"type": [kind, "null"]});
    let object = |properties: Value| json!({"type": "object", "properties": properties});
    let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let user = || json!({"$ref": "#/components/schemas/PublicUser"});
    json!({
        "Error": object(json!({
            "detail": text(), "details": text(), "error": text(),
            "code": {"type": "string", "description": "Stable, for programs; also X-Error-Code."},
            "request_id": text(),
        })),
        "FieldErrors": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": text()},
            "description": "Field names and what is wrong with each; the code is in X-Error-Code.",
        },
        "Details": object(json!({"details": text()})),
        "Tokens": object(json!({"access": text(), "refresh": text()})),
        "Registered": object(json!({"username": text(), "email": text()})),
        "Page": object(json!({
            "next": maybe("string"), "previous": maybe("string"), "results": {"type": "array", "items": {"type": "object"}},
        })),
        "Account": object(json!({
            "id": whole(), "username": text(), "mobile_number": text(), "group": whole(), "first_name": text(), "last_name": text(),
            "email": text(), "is_staff": {"type": "boolean"}, "is_superuser": {"type": "boolean"},
            "is_active": {"type": "boolean"}, "has_password": {"type": "boolean"}, "date_joined": time(), "last_login": maybe("string"),
        })),
        "PublicUser": object(json!({"id": whole(), "username": text(), "first_name": text(), "last_name": text()})),
        "Session": object(json!({
            "id": whole(), "session_key": text(), "user_agent": text(), "ip_address": text(), "device": text(),
            "browser": text(), "platform": text(), "last_seen": time(), "created_at": time(), "user": whole(),
            "current": {"type": "boolean"},
        })),
        "SentMessage": object(json!({
            "details": text(), "receiver": text(), "message": text(), "messageid": {"type": ["integer", "string"]},
            "id": whole(), "status": text(), "provider": maybe("string"),
        })),
        "PaymentStarted": object(json!({"details": object(json!({
            "id": whole(), "authority": text(), "gateway_title": text(), "gateway_url": text(), "callback_url": text(),
            "currency": text(), "amount": {"type": "number"}, "status_code": whole(), "message": text(),
        }))})),
        "PaymentResult": object(json!({"details": object(json!({
            "is_pay": {"enum": [0, 1]}, "status_code": whole(), "message": text(), "card_hash": text(), "card_pan": text(),
            "ref_id": text(),
        }))})),
        "Payment": object(json!({
            "id": whole(), "state": {"enum": ["created", "pending", "paid", "failed", "cancelled", "expired", "refunded"]},
            "amount": {"type": ["number", "string"]}, "currency": {"enum": ["IRT", "IRR"]}, "amount_rial": whole(),
            "refunded": {"type": ["number", "string"]}, "order_id": text(), "ended_at": maybe("string"),
        })),
        "Refunded": object(json!({
            "refund": object(json!({
                "number": whole(), "amount": {"type": ["number", "string"]}, "currency": text(), "to": text(), "created_at": time(),
            })),
            "payment": reference("Payment"),
        })),
        "Wallet": object(json!({
            "user": whole(), "balance_rial": whole(), "balance": {"type": ["number", "string"]}, "held": {"type": ["number", "string"]}, "currency": {"enum": ["IRT", "IRR"]},
        })),
        "Spend": object(json!({
            "id": whole(), "state": {"enum": ["held", "captured", "voided"]}, "amount": {"type": ["number", "string"]},
            "currency": {"enum": ["IRT", "IRR"]}, "order_id": text(),
        })),
        "Organization": object(json!({
            "id": whole(), "name": text(), "uname": text(), "created_at": time(), "owner": whole(),
        })),
        "Room": object(json!({
            "id": whole(), "user_1": {"anyOf": [user(), {"type": "null"}]}, "user_2": {"anyOf": [user(), {"type": "null"}]},
            "users": {"type": "array", "items": user()}, "unread_count": whole(), "status": text(), "name": maybe("string"),
            "descriptions": maybe("string"), "updated_at": time(), "created_at": time(),
            "organization": {"anyOf": [reference("Organization"), {"type": "null"}]},
            "pinned_for": {"type": "array", "items": user()}, "permissions": {"type": "array", "items": {"type": "object"}},
            "banneds": {"type": "array", "items": user()}, "is_group": {"type": "boolean"}, "owner": whole(),
            "members_count": whole(), "last_seq": whole(), "read_seq": whole(),
        })),
        "Member": object(json!({
            "user": user(), "access": {"type": "array", "items": whole()}, "is_owner": {"type": "boolean"},
            "is_admin": {"type": "boolean"}, "read_seq": whole(), "joined_at": time(),
        })),
        "ChatMessage": object(json!({
            "id": whole(), "seq": whole(), "sender": user(), "text": text(),
            "message_type": {"enum": ["text", "image", "file", "location"]}, "file_url": maybe("string"),
            "lat": maybe("number"), "lng": maybe("number"), "timestamp": time(), "created_at": time(),
            "edited_at": maybe("string"), "client_id": maybe("string"), "read_by": {"type": "array", "items": user()},
        })),
        "UploadedFile": object(json!({
            "id": whole(), "file": text(), "chatroom": whole(), "text": maybe("string"), "created_at": time(),
            "name": text(), "content_type": text(), "size": whole(), "link": text(),
        })),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_and_method_is_described_once() {
        let document = document("/base");
        let mut ids = BTreeSet::new();
        for route in ROUTES {
            let prefix = if route.is_file() { "" } else { "/base" };
            for (method, operation) in route.methods() {
                let object =
                    &document["paths"][format!("{prefix}{}", route.path)][method.as_str().to_lowercase()];
                if *operation == Operation::SocketEcho {
                    assert!(object.is_null(), "what only tests have is not told");
                    continue;
                }
                let id = object["operationId"]
                    .as_str()
                    .unwrap_or_else(|| panic!("{method} {} is missing", route.path));
                assert!(ids.insert(id.to_owned()), "{id} is there twice");
                assert!(
                    object["responses"].as_object().is_some_and(|responses| !responses.is_empty()),
                    "{id}"
                );
                let parameters = object["parameters"].as_array().cloned().unwrap_or_default();
                let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
                assert_eq!(in_path, route.path.matches('{').count(), "{id}");
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document("");
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#/").skip(1).map(|rest| rest.split('"').next().unwrap_or(""))
        {
            assert!(document.pointer(&format!("/{reference}")).is_some(), "{reference}");
        }
    }
}
