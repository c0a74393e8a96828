//! All rows, by the tag under which the document shows them.

use crate::route::{Route, check};
use crate::{chat, console, files, login, money, operator, personal, sms};

/// The rows of one file, with their tag.
pub(crate) struct Group {
    pub(crate) tag: &'static str,
    pub(crate) routes: &'static [Route],
}

const fn group(tag: &'static str, routes: &'static [Route]) -> Group {
    check(routes);
    Group { tag, routes }
}

/// The tag of routes on the operators' listener.
pub(crate) const OPERATOR: &str = "operator: on operator.listen";

pub(crate) const GROUPS: &[Group] = &[
    group("identity", login::code::ROUTES),
    group("identity", login::password::ROUTES),
    group("identity", login::session::ROUTES),
    group("identity", login::token::ROUTES),
    group("identity", login::me::ROUTES),
    group("identity", login::mobile::ROUTES),
    group("identity", chat::avatar::ROUTES),
    group("identity", login::erase::ROUTES),
    group("identity", personal::export::ROUTES),
    group("identity", operator::audit::ROUTES),
    group("sms", sms::send::ROUTES),
    group("sms", sms::list::ROUTES),
    group("sms", sms::report::ROUTES),
    group("money", money::create::ROUTES),
    group("money", money::go::ROUTES),
    group("money", money::verify::ROUTES),
    group("money", money::payment::ROUTES),
    group("money", money::refund::ROUTES),
    group("money", money::wallet::ROUTES),
    group("money", money::spend::ROUTES),
    group("money", money::staff::find::ROUTES),
    group("money", money::staff::refunds::ROUTES),
    group("money", money::staff::decide::ROUTES),
    group("money", money::staff::wallet::ROUTES),
    group("chat", chat::room::ROUTES),
    group("chat", chat::member::ROUTES),
    group("chat", chat::request::ROUTES),
    group("chat", chat::directory::ROUTES),
    group("chat", chat::message::ROUTES),
    group("chat", chat::search::ROUTES),
    group("chat", chat::organization::ROUTES),
    group("chat", files::upload::ROUTES),
    group("chat", files::tus::ROUTES),
    group("chat", files::download::ROUTES),
    group("chat", chat::socket::ROUTES),
    group(OPERATOR, money::bank::ROUTES),
    group(OPERATOR, operator::inbox::ROUTES),
    group(OPERATOR, operator::users::ROUTES),
    group(OPERATOR, operator::v1::ROUTES),
    group(OPERATOR, operator::v1::users::ROUTES),
    group(OPERATOR, operator::v1::money::ROUTES),
    group(OPERATOR, operator::v1::treasury::ROUTES),
    group(OPERATOR, operator::v1::records::ROUTES),
    group(OPERATOR, operator::v1::files::ROUTES),
    group(OPERATOR, operator::v1::webhooks::ROUTES),
    group(OPERATOR, operator::v1::house::ROUTES),
    group(OPERATOR, operator::api_key::ROUTES),
    group(OPERATOR, operator::backup::ROUTES),
    group(OPERATOR, operator::webhook::ROUTES),
    group(OPERATOR, operator::status::ROUTES),
    group(OPERATOR, operator::ready::ROUTES),
    group("gateway", operator::health::ROUTES),
];

/// The console's rows, which no document shows.
const CONSOLE: &[&[Route]] = &[
    console::assets::ROUTES,
    console::login::ROUTES,
    console::me::ROUTES,
    console::overview::ROUTES,
    console::users::ROUTES,
    console::sessions::ROUTES,
    console::rooms::ROUTES,
    console::organizations::ROUTES,
    console::files::ROUTES,
    console::messages::ROUTES,
    console::payments::ROUTES,
    console::wallets::ROUTES,
    console::ledger::ROUTES,
    console::webhooks::ROUTES,
    console::providers::ROUTES,
    console::components::ROUTES,
    console::config::ROUTES,
    console::backups::ROUTES,
    console::keys::ROUTES,
    console::audit::ROUTES,
];

const _: () = {
    let mut at = 0;
    while at < CONSOLE.len() {
        check(CONSOLE[at]);
        at += 1;
    }
};

/// Every row.
pub(crate) fn all() -> impl Iterator<Item = &'static Route> {
    GROUPS.iter().flat_map(|group| group.routes).chain(CONSOLE.iter().copied().flatten())
}
