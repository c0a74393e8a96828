//! What an operator of the original looked up in Django admin, model by model, is found at the console: by each column
//! that names a person, an order, a room or a state, by parts, in Persian or Latin digits, and by days in both
//! calendars.

use chelseru_domain::clock::{Clock, SystemClock};
use chelseru_store::{SmsClass, SmsContent, SmsOwner, SmsRecord, SmsStatus, Timestamp};
use chelseru_tests::TestGateway;
use chelseru_tests::browser::{Browser, Shown};
use serde_json::{Value, json};

use super::payments::{NUMBER, Shop};

const MEMBER: &str = "09121234568";

/// A shop with one record of each model.
struct Furnished {
    shop: Shop,
    payment: Value,
    room: Value,
}

async fn furnished() -> Furnished {
    let shop = Shop::open("[chat]\nstrangers = \"admit\"\n").await;
    let payment = shop.create(json!({"amount": 1250, "order_id": "order-77", "description": "a book"})).await;
    shop.pay(&payment).await;
    shop.gateway.login(MEMBER).await;
    let club = shop.post("/chat/organizations/", json!({"name": "باشگاه شطرنج", "uname": "chess"})).await;
    assert!(club.status < 300, "{club:?}");
    let room = json!({"users": [2], "name": "Chess club", "organization": club.body["id"]});
    let room = shop.post("/chat/chatrooms/", room).await;
    assert!(room.status < 300, "{room:?}");
    let room = room.body["id"].clone();
    let text = json!({"chat_room": room, "text": "سلام، the board is set", "message_type": "text"});
    assert!(shop.post("/chat/messages/", text).await.status < 300);
    Furnished { shop, payment, room }
}

/// Rows of the page's first table.
fn rows(shown: &Shown) -> usize {
    assert_eq!(shown.status, 200, "{}: {}", shown.address, shown.html);
    let table = shown.html.split_once("<tbody>").map_or("", |(_, rest)| rest);
    table.split_once("</tbody>").map_or("", |(rows, _)| rows).matches("<tr>").count()
}

async fn finds(browser: &mut Browser, page: &str, queries: &[(&str, usize)]) {
    for (query, expected) in queries {
        let address = format!("/console/{page}/?{query}");
        let shown = browser.get(&address).await;
        assert_eq!(rows(&shown), *expected, "{address}: {}", shown.html);
    }
}

const NOBODY: &str = "user=09129999999";

/// A notice as the gateway keeps it.
fn notice(id: u64, text: &str) -> SmsRecord {
    let at = Timestamp::from_micros(id);
    SmsRecord {
        status: SmsStatus::Delivered,
        id,
        number: "+989121234567".to_owned(),
        content: SmsContent::Text(text.to_owned()),
        class: SmsClass::Notice,
        owner: SmsOwner::Gateway,
        created_at: at,
        updated_at: at,
        due_at: at,
        deadline: at,
        rounds: 1,
        begun: None,
        resume_with: None,
        provider: Some("FIRST".to_owned()),
        provider_message_id: None,
        cost_rial: None,
        error: None,
        tried: Vec::new(),
        poll_at: None,
        polls: 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_found_by_words_of_their_text() {
    let gateway = TestGateway::start("").await;
    let first = SystemClock.now().as_micros() - 1_000_000;
    let notices = [notice(first, "سفارش ۷۷ علي رسید"), notice(first + 1, "Order 78 <b>left</b>")];
    gateway.app.store.import_sms(notices.into()).await.expect("stored");
    let mut browser = Browser::of(&gateway, "root").await;
    let found = [
        ("", 2),
        // Letters and digits of either form.
        ("text=%D8%B9%D9%84%DB%8C", 1),
        ("text=77", 1),
        ("text=LEFT+order", 1),
        ("text=77+order", 0),
        ("text=left&status=delivered", 1),
        ("text=left&status=failed", 0),
    ];
    finds(&mut browser, "messages", &found).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_model_of_the_originals_admin_is_found_by_its_columns() {
    let Furnished { shop, payment, room } = furnished().await;
    let mut browser = Browser::of(&shop.gateway, "root").await;
    let browser = &mut browser;
    // User: mobile, group, user name, flags, the day of joining.
    finds(
        browser,
        "users",
        &[
            ("q=1234567", 1),
            ("q=%DB%B0%DB%B9%DB%B1%DB%B2%DB%B1%DB%B2%DB%B3%DB%B4%DB%B5%DB%B6%DB%B8", 1),
            ("q=G0-0912", 2),
            ("group=0&rights=none", 2),
            ("group=7", 0),
            ("state=disabled", 0),
            ("rights=superuser", 1),
            ("from=1380/01/01&until=2001-04-01", 0),
        ],
    )
    .await;
    // Session: the user, the address, the user agent.
    let by_user = format!("user={NUMBER}");
    finds(browser, "sessions", &[(&by_user, 1), ("address=127.0.", 2), ("address=10.", 0)]).await;
    assert_eq!(browser.get(&format!("/console/sessions/?{NOBODY}")).await.status, 400);
    // OTPCode and MessageSMS: the number, the state, the provider, the day. A code itself is nowhere.
    finds(
        browser,
        "messages",
        &[
            (&format!("number={NUMBER}"), 1),
            ("number=%DB%B0%DB%B9%DB%B1%DB%B2%DB%B1%DB%B2%DB%B3%DB%B4%DB%B5%DB%B6%DB%B8", 1),
            ("provider=SANDBOX_SMS", 2),
            ("status=failed", 0),
            ("until=1380/01/01", 0),
        ],
    )
    .await;
    // Payment: every column of its admin.
    let (id, authority) = (&payment["id"], payment["authority"].as_str().expect("text"));
    finds(
        browser,
        "payments",
        &[
            (&format!("id={id}"), 1),
            (&format!("authority={authority}"), 1),
            (&by_user, 1),
            ("order=order-77", 1),
            ("order=order-78", 0),
            ("state=paid", 1),
            ("state=refunded", 0),
            ("gateway=SANDBOX_PAY", 1),
            ("amount=%DB%B1%DB%B2%DB%B5%DB%B0", 1),
            ("amount_min=1251", 0),
            ("from=2020-01-01&amount_max=1250", 1),
        ],
    )
    .await;
    // Wallet: by its user.
    let wallet = browser.get(&format!("/console/wallets/?user={NUMBER}")).await;
    assert!(wallet.address == "/console/wallets/1/" && wallet.has("۱٬۲۵۰ تومان"), "{}", wallet.html);
    // Organization: both names, the owner.
    finds(
        browser,
        "organizations",
        &[("q=CHES", 1), ("q=%D8%B4%D8%B7%D8%B1%D9%86%D8%AC", 1), ("owner=1", 1), ("owner=2", 0)],
    )
    .await;
    // ChatRoom: the name, a member, the state, the organisation.
    finds(
        browser,
        "rooms",
        &[
            ("q=chess", 1),
            (&format!("member={MEMBER}"), 1),
            ("member=root", 0),
            ("status=open", 1),
            ("status=closed", 0),
        ],
    )
    .await;
    // ChatRoomPermissions: each member's rights stand on the room's page.
    let page = browser.get(&format!("/console/rooms/{room}/")).await;
    assert!(page.has("/console/users/1/") && page.has("/console/users/2/"), "{}", page.html);
    // MessageChat: a part of the text.
    let messages = format!("rooms/{room}/messages");
    finds(browser, &messages, &[("q=BOARD", 1), ("q=%D8%B3%D9%84%D8%A7%D9%85", 1), ("q=other", 0)]).await;
}
