//! Filters that operators save: their own, for one list, bounded, and gone with the account.

use chelseru_domain::operator::console::FILTERS_MAX;
use chelseru_domain::operator::role::{Reason, Role};
use chelseru_tests::browser::{Browser, Shown};
use chelseru_tests::{TestGateway, machine};

use super::console::with_role;

const SAVE: &str = "/console/me/filters/save/";
const REMOVE: &str = "/console/me/filters/remove/";

async fn save(browser: &mut Browser, page: &Shown, name: &str) -> Shown {
    browser.submit(page, SAVE, &[("name", name)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_is_saved_for_its_list_and_its_operator() {
    let gateway = TestGateway::start("").await;
    let mut first = with_role(&gateway, "first", Role::Support).await;
    let mut second = with_role(&gateway, "second", Role::Support).await;
    let address = "/console/users/?q=%D8%B9%D9%84%DB%8C&state=disabled";
    let page = first.get(address).await;
    let saved = save(&mut first, &page, "علی‌های غیرفعال <b>").await;
    assert!(saved.status == 200 && saved.address.starts_with(address), "{}: {}", saved.address, saved.html);
    assert!(saved.has("علی‌های غیرفعال &#60;b&#62;"), "{}", saved.html);
    let list = first.get("/console/users/").await;
    assert!(list.has(&address.replace('&', "&#38;")), "its address is a link: {}", list.html);
    assert!(!first.get("/console/messages/").await.has("علی‌های"), "it belongs to one list");
    assert!(!second.get("/console/users/").await.has("علی‌های"), "it belongs to one operator");
    for wrong in ["", "  ", &"x".repeat(41)] {
        assert_eq!(save(&mut first, &page, wrong).await.status, 400, "{wrong:?}");
    }
    let elsewhere =
        first.submit(&page, SAVE, &[("name", "x"), ("address", "https://evil.example/console/")]).await;
    assert!(elsewhere.address.starts_with("/console/?done=1"), "{}", elsewhere.address);
    for number in 2..FILTERS_MAX {
        assert_eq!(save(&mut first, &page, &number.to_string()).await.status, 200, "{number}");
    }
    assert_eq!(save(&mut first, &page, "one more").await.status, 400);
    assert_eq!(save(&mut first, &page, "2").await.status, 200, "in place of one of its name");
    let list = first.get("/console/users/").await;
    let gone = first.submit(&list, REMOVE, &[("name", "2")]).await;
    assert!(gone.address.ends_with("done=1"), "{}", gone.html);
    assert_eq!(first.submit(&list, REMOVE, &[("name", "2")]).await.status, 404);

    // An account that is erased leaves none.
    let live = gateway.app.live();
    let user = live.identity.user_find("first").await.expect("read").expect("there").id;
    let logins = live.generation.console.desk.console();
    logins.role_set(&machine(), user, None, &Reason::of_command()).await.expect("taken");
    let notes = async || {
        let store = &gateway.app.store;
        store.notes(chelseru_store::NoteKind::Filter, "").await.expect("read").len()
    };
    assert_eq!(notes().await, FILTERS_MAX - 1);
    live.identity.erase_by_operator(&machine(), user, false, &Reason::of_command()).await.expect("erased");
    assert_eq!(notes().await, 0);
}
