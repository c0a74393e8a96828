//! Which path and method mean which operation.
//!
//! One table. Every path ends in a slash; the same path without it answers 301 with a relative location, for
//! any method, as in the original.

use http::header::HeaderValue;
use http::{Method, StatusCode, Uri};
use serde_json::json;

use super::reply::Reply;
use crate::app::Live;

/// `noun_verb`, the same pair as the handler and the domain function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    OtpSend,
    Authenticate,
    Register,
    Login,
    PasswordChange,
    PasswordResetSend,
    PasswordReset,
    Me,
    MeUpdate,
    OperatorUsers,
    Backup,
    AuditList,
    Jwks,
    TokenRefresh,
    TokenVerify,
    Logout,
    SessionList,
    SessionEnd,
    SessionEndOthers,
    MessageSend,
    MessageList,
    MessageGet,
    MessageReport,
    ApiKeyList,
    ApiKeyCreate,
    ApiKeyRevoke,
    WebhookList,
    WebhookReplay,
    PaymentCreate,
    PaymentVerify,
    PaymentCallback,
    PaymentList,
    PaymentGet,
    PaymentRefund,
    ChatRoot,
    RoomList,
    RoomCreate,
    RoomGet,
    RoomUpdate,
    RoomDelete,
    RoomPin,
    RoomUnpin,
    RoomRead,
    RoomLeave,
    MemberList,
    MemberAdd,
    MemberGet,
    MemberRemove,
    MemberGrant,
    MemberRevoke,
    BanList,
    BanAdd,
    BanRemove,
    ChatMessageList,
    ChatMessageCreate,
    ChatMessageGet,
    ChatMessageUpdate,
    ChatMessageDelete,
    OrganizationList,
    OrganizationCreate,
    OrganizationGet,
    OrganizationUpdate,
    OrganizationDelete,
    OrganizationRooms,
    FileUpload,
    FileGet,
    FileDownload,
    TusCreate,
    TusGet,
    TusPatch,
    TusDelete,
    WalletGet,
    WalletEntries,
    SpendCreate,
    SpendGet,
    SpendCapture,
    SpendVoid,
    /// A socket of one room.
    ChatSocket,
    /// A socket of all rooms.
    Socket,
    SocketEcho,
    SandboxBankPage,
    SandboxBankDecide,
    SandboxInbox,
    Status,
    Metrics,
    Health,
    OpenApi,
}

impl Operation {
    pub fn reads_body(self) -> bool {
        matches!(
            self,
            Operation::OtpSend
                | Operation::Authenticate
                | Operation::Register
                | Operation::Login
                | Operation::PasswordChange
                | Operation::PasswordResetSend
                | Operation::PasswordReset
                | Operation::MeUpdate
                | Operation::OperatorUsers
                | Operation::Backup
                | Operation::TokenRefresh
                | Operation::TokenVerify
                | Operation::MessageSend
                | Operation::ApiKeyCreate
                | Operation::ApiKeyRevoke
                | Operation::WebhookReplay
                | Operation::PaymentCreate
                | Operation::PaymentCallback
                | Operation::PaymentRefund
                | Operation::RoomCreate
                | Operation::RoomUpdate
                | Operation::RoomRead
                | Operation::MemberAdd
                | Operation::MemberGrant
                | Operation::MemberRevoke
                | Operation::BanAdd
                | Operation::ChatMessageCreate
                | Operation::ChatMessageUpdate
                | Operation::OrganizationCreate
                | Operation::OrganizationUpdate
                | Operation::SpendCreate
                | Operation::SpendCapture
                | Operation::SpendVoid
                | Operation::SandboxBankDecide
        )
    }

    /// Takes the body as it comes, of any media type.
    pub fn reads_bytes(self) -> bool {
        matches!(self, Operation::MessageReport)
    }

    /// Reads the body piece by piece: a file.
    pub fn streams_body(self) -> bool {
        matches!(self, Operation::FileUpload | Operation::TusPatch)
    }

    /// The body is for a provider's plugin to understand: read, and not parsed here.
    pub fn keeps_body_raw(self) -> bool {
        self == Operation::PaymentCallback
    }
}

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Open,
    /// Anyone, and `Authorization` is not looked at: who comes with what has run out comes here.
    Tokenless,
    /// A valid access token.
    User,
    /// A client on this machine, not by way of a proxy; for others the route does not exist.
    Loopback,
}

pub struct Route {
    pub path: &'static str,
    /// As `OPTIONS` names it.
    name: &'static str,
    pub access: Access,
    methods: &'static [(Method, Operation)],
    /// When the route exists at all.
    exists: fn(&Live) -> bool,
}

const ALWAYS: fn(&Live) -> bool = |_| true;

/// A route for users that is always there.
macro_rules! user_route {
    ($path:literal, $name:literal, $($method:ident => $operation:ident),+) => {
        Route {
            path: $path,
            name: $name,
            access: Access::User,
            methods: &[$((Method::$method, Operation::$operation)),+],
            exists: ALWAYS,
        }
    };
}

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/otp/send/",
        name: "Otp Code Send",
        access: Access::Open,
        methods: &[(Method::POST, Operation::OtpSend)],
        exists: ALWAYS,
    },
    Route {
        path: "/authenticate/",
        name: "Authentication",
        access: Access::Open,
        methods: &[(Method::POST, Operation::Authenticate)],
        exists: ALWAYS,
    },
    Route {
        path: "/sessions/",
        name: "Session List",
        access: Access::User,
        methods: &[(Method::GET, Operation::SessionList), (Method::DELETE, Operation::SessionEndOthers)],
        exists: ALWAYS,
    },
    Route {
        path: "/sessions/{id}/",
        name: "Session",
        access: Access::User,
        methods: &[(Method::DELETE, Operation::SessionEnd)],
        exists: ALWAYS,
    },
    Route {
        path: "/register/",
        name: "Register",
        access: Access::Tokenless,
        methods: &[(Method::POST, Operation::Register)],
        exists: ALWAYS,
    },
    Route {
        path: "/login/",
        name: "Token Obtain Pair",
        access: Access::Tokenless,
        methods: &[(Method::POST, Operation::Login)],
        exists: ALWAYS,
    },
    Route {
        path: "/password/change/",
        name: "Password Change",
        access: Access::User,
        methods: &[(Method::POST, Operation::PasswordChange)],
        exists: ALWAYS,
    },
    Route {
        path: "/password/reset/send/",
        name: "Password Reset Code Send",
        access: Access::Tokenless,
        methods: &[(Method::POST, Operation::PasswordResetSend)],
        exists: ALWAYS,
    },
    Route {
        path: "/password/reset/",
        name: "Password Reset",
        access: Access::Tokenless,
        methods: &[(Method::POST, Operation::PasswordReset)],
        exists: ALWAYS,
    },
    Route {
        path: "/me/",
        name: "Me",
        access: Access::User,
        methods: &[(Method::GET, Operation::Me), (Method::PATCH, Operation::MeUpdate)],
        exists: ALWAYS,
    },
    Route {
        path: "/operator/users/",
        name: "Operator Users",
        access: Access::Loopback,
        methods: &[(Method::POST, Operation::OperatorUsers)],
        exists: ALWAYS,
    },
    Route {
        path: "/audit/",
        name: "Audit Log",
        access: Access::User,
        methods: &[(Method::GET, Operation::AuditList)],
        exists: ALWAYS,
    },
    Route {
        path: "/.well-known/jwks.json",
        name: "Token Keys",
        access: Access::Tokenless,
        methods: &[(Method::GET, Operation::Jwks)],
        exists: |live| !live.identity.tokens().jwks().keys.is_empty(),
    },
    Route {
        path: "/token/refresh/",
        name: "Token Refresh",
        access: Access::Tokenless,
        methods: &[(Method::POST, Operation::TokenRefresh)],
        exists: ALWAYS,
    },
    Route {
        path: "/token/verify/",
        name: "Token Verify",
        access: Access::Tokenless,
        methods: &[(Method::POST, Operation::TokenVerify)],
        exists: ALWAYS,
    },
    Route {
        path: "/logout/",
        name: "Logout",
        access: Access::User,
        methods: &[(Method::POST, Operation::Logout)],
        exists: ALWAYS,
    },
    // Who may use these is decided by `message::may_send`: an API key is no user.
    Route {
        path: "/message/send/",
        name: "Message Send",
        access: Access::Open,
        methods: &[(Method::POST, Operation::MessageSend)],
        exists: ALWAYS,
    },
    Route {
        path: "/message/",
        name: "Message List",
        access: Access::Open,
        methods: &[(Method::GET, Operation::MessageList)],
        exists: ALWAYS,
    },
    Route {
        path: "/message/{id}/",
        name: "Message",
        access: Access::Open,
        methods: &[(Method::GET, Operation::MessageGet)],
        exists: ALWAYS,
    },
    Route {
        path: "/message/report/{provider}/{secret}/",
        name: "Message Report",
        access: Access::Open,
        methods: &[(Method::GET, Operation::MessageReport), (Method::POST, Operation::MessageReport)],
        exists: ALWAYS,
    },
    Route {
        path: "/operator/apikeys/",
        name: "API Keys",
        access: Access::Loopback,
        methods: &[(Method::GET, Operation::ApiKeyList), (Method::POST, Operation::ApiKeyCreate)],
        exists: ALWAYS,
    },
    Route {
        path: "/operator/apikeys/revoke/",
        name: "API Key Revoke",
        access: Access::Loopback,
        methods: &[(Method::POST, Operation::ApiKeyRevoke)],
        exists: ALWAYS,
    },
    Route {
        path: "/operator/backup/",
        name: "Backup",
        access: Access::Loopback,
        methods: &[(Method::POST, Operation::Backup)],
        exists: ALWAYS,
    },
    Route {
        path: "/operator/webhooks/",
        name: "Webhooks",
        access: Access::Loopback,
        methods: &[(Method::GET, Operation::WebhookList), (Method::POST, Operation::WebhookReplay)],
        exists: ALWAYS,
    },
    Route {
        path: "/payment/create/",
        name: "Payment Create",
        access: Access::User,
        methods: &[(Method::POST, Operation::PaymentCreate)],
        exists: ALWAYS,
    },
    Route {
        path: "/payment/verify/",
        name: "Payment Verify",
        access: Access::Open,
        methods: &[(Method::GET, Operation::PaymentVerify), (Method::POST, Operation::PaymentCallback)],
        exists: ALWAYS,
    },
    Route {
        path: "/payment/",
        name: "Payment List",
        access: Access::User,
        methods: &[(Method::GET, Operation::PaymentList)],
        exists: ALWAYS,
    },
    Route {
        path: "/payment/{id}/",
        name: "Payment Instance",
        access: Access::User,
        methods: &[(Method::GET, Operation::PaymentGet)],
        exists: ALWAYS,
    },
    Route {
        path: "/payment/{id}/refund/",
        name: "Payment Refund",
        access: Access::User,
        methods: &[(Method::POST, Operation::PaymentRefund)],
        exists: ALWAYS,
    },
    Route {
        path: "/chat/",
        name: "Api Root",
        access: Access::Open,
        methods: &[(Method::GET, Operation::ChatRoot)],
        exists: ALWAYS,
    },
    user_route!("/chat/chatrooms/", "Chat Room List", GET => RoomList, POST => RoomCreate),
    user_route!("/chat/chatrooms.json", "Chat Room List", GET => RoomList, POST => RoomCreate),
    user_route!("/chat/chatrooms/{id}/", "Chat Room Instance", GET => RoomGet, PUT => RoomUpdate, PATCH => RoomUpdate, DELETE => RoomDelete),
    user_route!("/chat/chatrooms/{id}/pin/", "Chat Room Pin", POST => RoomPin, DELETE => RoomUnpin),
    user_route!("/chat/chatrooms/{id}/read/", "Chat Room Read", POST => RoomRead),
    user_route!("/chat/chatrooms/{id}/leave/", "Chat Room Leave", POST => RoomLeave),
    user_route!("/chat/chatrooms/{id}/members/", "Member List", GET => MemberList, POST => MemberAdd),
    user_route!("/chat/chatrooms/{id}/members/{user}/", "Member Instance", GET => MemberGet, DELETE => MemberRemove),
    user_route!("/chat/chatrooms/{id}/members/{user}/grant/", "Member Grant", POST => MemberGrant),
    user_route!("/chat/chatrooms/{id}/members/{user}/revoke/", "Member Revoke", POST => MemberRevoke),
    user_route!("/chat/chatrooms/{id}/bans/", "Ban List", GET => BanList, POST => BanAdd),
    user_route!("/chat/chatrooms/{id}/bans/{user}/", "Ban Instance", DELETE => BanRemove),
    user_route!("/chat/messages/", "Message List", GET => ChatMessageList, POST => ChatMessageCreate),
    user_route!("/chat/messages.json", "Message List", GET => ChatMessageList, POST => ChatMessageCreate),
    user_route!("/chat/messages/{id}/", "Message Instance", GET => ChatMessageGet, PUT => ChatMessageUpdate, PATCH => ChatMessageUpdate, DELETE => ChatMessageDelete),
    user_route!("/chat/organizations/", "Organization List", GET => OrganizationList, POST => OrganizationCreate),
    user_route!("/chat/organizations/{id}/", "Organization Instance", GET => OrganizationGet, PUT => OrganizationUpdate, PATCH => OrganizationUpdate, DELETE => OrganizationDelete),
    user_route!("/chat/organizations/{id}/chatrooms/", "Organization Chat Room List", GET => OrganizationRooms),
    user_route!("/message/file/upload/", "Upload File", POST => FileUpload),
    user_route!("/message/file/tus/", "Resumable Upload List", POST => TusCreate),
    user_route!("/message/file/tus/{upload}/", "Resumable Upload Instance", GET => TusGet, PATCH => TusPatch, DELETE => TusDelete),
    user_route!("/chat/files/{id}/", "File Instance", GET => FileGet),
    Route {
        path: "/media/uploads/chat_files/{year}/{month}/{day}/{name}",
        name: "File",
        access: Access::Open,
        methods: &[(Method::GET, Operation::FileDownload)],
        exists: ALWAYS,
    },
    Route {
        path: "/wallet/",
        name: "Wallet",
        access: Access::User,
        methods: &[(Method::GET, Operation::WalletGet)],
        exists: ALWAYS,
    },
    Route {
        path: "/wallet/entries/",
        name: "Wallet Entries",
        access: Access::User,
        methods: &[(Method::GET, Operation::WalletEntries)],
        exists: ALWAYS,
    },
    Route {
        path: "/wallet/spend/",
        name: "Wallet Spend",
        access: Access::User,
        methods: &[(Method::POST, Operation::SpendCreate)],
        exists: ALWAYS,
    },
    Route {
        path: "/wallet/spend/{id}/",
        name: "Wallet Spend Instance",
        access: Access::User,
        methods: &[(Method::GET, Operation::SpendGet)],
        exists: ALWAYS,
    },
    Route {
        path: "/wallet/spend/{id}/capture/",
        name: "Wallet Spend Capture",
        access: Access::User,
        methods: &[(Method::POST, Operation::SpendCapture)],
        exists: ALWAYS,
    },
    Route {
        path: "/wallet/spend/{id}/void/",
        name: "Wallet Spend Void",
        access: Access::User,
        methods: &[(Method::POST, Operation::SpendVoid)],
        exists: ALWAYS,
    },
    // Who may open a socket is decided by `socket`: a token comes in several ways, and the refusal is 403.
    Route {
        path: "/chat/{room}/",
        name: "Chat Socket",
        access: Access::Tokenless,
        methods: &[(Method::GET, Operation::ChatSocket)],
        exists: ALWAYS,
    },
    Route {
        path: "/ws/",
        name: "Socket",
        access: Access::Tokenless,
        methods: &[(Method::GET, Operation::Socket)],
        exists: ALWAYS,
    },
    Route {
        path: "/ws/echo/",
        name: "Socket Echo",
        access: Access::Tokenless,
        methods: &[(Method::GET, Operation::SocketEcho)],
        exists: ALWAYS,
    },
    Route {
        path: "/sandbox/pay/{reference}/",
        name: "Sandbox Bank",
        access: Access::Loopback,
        methods: &[(Method::GET, Operation::SandboxBankPage), (Method::POST, Operation::SandboxBankDecide)],
        exists: |live| live.config.payment.gateway == crate::config::SANDBOX_PAY,
    },
    Route {
        path: "/sandbox/inbox/",
        name: "Sandbox Inbox",
        access: Access::Loopback,
        methods: &[(Method::GET, Operation::SandboxInbox)],
        exists: |live| live.config.sandbox_selected(),
    },
    Route {
        path: "/status/",
        name: "Status",
        access: Access::Loopback,
        methods: &[(Method::GET, Operation::Status)],
        exists: ALWAYS,
    },
    Route {
        path: "/metrics/",
        name: "Metrics",
        access: Access::Loopback,
        methods: &[(Method::GET, Operation::Metrics)],
        exists: ALWAYS,
    },
    Route {
        path: "/health/",
        name: "Health",
        access: Access::Open,
        methods: &[(Method::GET, Operation::Health)],
        exists: ALWAYS,
    },
    Route {
        path: "/openapi.json",
        name: "OpenAPI Document",
        access: Access::Tokenless,
        methods: &[(Method::GET, Operation::OpenApi)],
        exists: ALWAYS,
    },
];

/// What a path leads to.
pub enum Found {
    Route(&'static Route),
    /// The path lacks its last slash; this is where it would be.
    MissingSlash(String),
    Nothing,
}

/// The routes under a base path, and those of files beside it.
pub struct Router {
    routes: matchit::Router<&'static Route>,
}

impl Router {
    pub fn new(base_path: &str) -> Router {
        let mut routes = matchit::Router::new();
        for route in ROUTES {
            routes
                .insert(format!("{}{}", if route.is_file() { "" } else { base_path }, route.path), route)
                .expect("the table's paths differ and the base path was checked");
        }
        Router { routes }
    }

    pub fn find(&self, uri: &Uri, live: &Live) -> Found {
        let path = uri.path();
        let lookup = |path: &str| self.routes.at(path).ok().map(|found| *found.value);
        if let Some(route) = lookup(path).filter(|route| (route.exists)(live)) {
            return Found::Route(route);
        }
        let with_slash = format!("{path}/");
        // `//host/..` as a location would lead to another host.
        if path.starts_with("//") || !lookup(&with_slash).is_some_and(|route| (route.exists)(live)) {
            return Found::Nothing;
        }
        Found::MissingSlash(match uri.query() {
            Some(query) => format!("{with_slash}?{query}"),
            None => with_slash,
        })
    }
}

impl Route {
    /// Answers with a file of whatever type it is.
    pub fn is_file(&self) -> bool {
        self.path.starts_with("/media/")
    }

    /// What it answers to, in the order of the table.
    pub fn methods(&self) -> &'static [(Method, Operation)] {
        self.methods
    }

    pub fn operation(&self, method: &Method) -> Option<Operation> {
        let asked = if *method == Method::HEAD { &Method::GET } else { method };
        self.methods.iter().find(|(method, _)| method == asked).map(|(_, operation)| *operation)
    }

    /// The `Allow` header, in the original's order.
    pub fn allow(&self) -> HeaderValue {
        let mut methods: Vec<&str> = ["GET", "POST", "PUT", "PATCH", "DELETE"]
            .into_iter()
            .filter(|name| self.methods.iter().any(|(method, _)| method.as_str() == *name))
            .collect();
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        methods.push("OPTIONS");
        HeaderValue::from_str(&methods.join(", ")).expect("methods are plain words")
    }

    /// The answer to `OPTIONS`.
    pub fn describe(&self) -> Reply {
        let parses = ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"];
        Reply::json(
            StatusCode::OK,
            &json!({"name": self.name, "description": "", "renders": ["application/json"], "parses": parses}),
        )
    }
}
