//! What the staff sees and decides of money, over the API.

use chelseru_tests::Answer;
use serde_json::{Value, json};

use super::payments::Shop;

const CONFIG: &str = "[payment]\nstaff_users = [1]\n";

fn ids(answer: &Answer) -> Vec<u64> {
    let results = answer.body["results"].as_array().unwrap_or_else(|| panic!("{answer:?}"));
    results.iter().map(|payment| payment["id"].as_u64().expect("a number")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn staff_find_payments_by_anything_and_sum_and_export_them() {
    let shop = Shop::open(CONFIG).await;
    let open = shop.create(json!({"amount": 1000, "order_id": "a"})).await;
    let paid = shop.create(json!({"amount": 2000, "order_id": "b,\"c\""})).await;
    shop.pay(&paid).await;
    let stranger = shop.gateway.login("09120000002").await;
    let theirs = {
        let request = shop.gateway.client.post(shop.gateway.at("/payment/create/"));
        let request = request.bearer_auth(&stranger.access).json(&json!({"amount": 3000, "order_id": "a"}));
        Answer::of(request).await.body["details"]["id"].as_u64().expect("a number")
    };
    let (open_id, paid_id) = (open["id"].as_u64().expect("one"), paid["id"].as_u64().expect("one"));
    let authority = paid["authority"].as_str().expect("text");
    let seen = shop.get(&format!("/payment/{paid_id}/")).await.body;
    let ref_id = seen["ref_id"].as_str().map_or_else(|| seen["ref_id"].to_string(), str::to_owned);
    for (query, wanted) in [
        (String::new(), vec![theirs, paid_id, open_id]),
        ("?state=paid".to_owned(), vec![paid_id]),
        ("?state=pending&order_id=a".to_owned(), vec![theirs, open_id]),
        ("?user=1".to_owned(), vec![paid_id, open_id]),
        ("?user=09120000002".to_owned(), vec![theirs]),
        ("?amount=2000".to_owned(), vec![paid_id]),
        ("?amount=%DB%B2%DB%B0%DB%B0%DB%B0".to_owned(), vec![paid_id]),
        ("?amount_min=2000".to_owned(), vec![theirs, paid_id]),
        ("?gateway=SANDBOX_PAY&amount_max=1000".to_owned(), vec![open_id]),
        ("?gateway=OTHER".to_owned(), vec![]),
        ("?from=2001-01-01&until=2001-01-02".to_owned(), vec![]),
        ("?from=2001-01-01T00:00:00Z".to_owned(), vec![theirs, paid_id, open_id]),
        (format!("?authority={authority}"), vec![paid_id]),
        (format!("?ref_id={ref_id}"), vec![paid_id]),
        (format!("?id={open_id}"), vec![open_id]),
    ] {
        let found = shop.get(&format!("/staff/payments/{query}")).await;
        assert_eq!((found.status, ids(&found)), (200, wanted), "{query}");
    }
    for wrong in ["state=x", "amount=x", "from=yesterday", "id=x", "user=nobody"] {
        let refused = shop.get(&format!("/staff/payments/?{wrong}")).await;
        assert_eq!(refused.status, 400, "{wrong}: {refused:?}");
    }
    let totals = shop.get("/staff/payments/totals/").await.body;
    assert_eq!(
        (&totals["payments"], &totals["amount"], &totals["paid"], &totals["paid_amount"], &totals["next"]),
        (&json!(3), &json!(6000), &json!(1), &json!(2000), &Value::Null)
    );
    // What names one payment is a filter like the others, in the list, its totals and its table.
    for named in [format!("id={paid_id}"), format!("authority={authority}"), format!("ref_id={ref_id}")] {
        for (more, count) in
            [("", 1), ("&state=paid", 1), ("&state=expired", 0), ("&user=2", 0), ("&amount=7", 0)]
        {
            let list = shop.get(&format!("/staff/payments/?{named}{more}")).await;
            assert_eq!(ids(&list).len(), count, "{named}{more}: {list:?}");
            let totals = shop.get(&format!("/staff/payments/totals/?{named}{more}")).await;
            assert_eq!(totals.body["payments"], count, "{named}{more}: {totals:?}");
        }
    }
    let table = shop.get("/staff/payments/export/?state=paid").await;
    let lines: Vec<&str> = table.text.lines().collect();
    assert_eq!((table.status, lines.len()), (200, 2), "{table:?}");
    assert!(lines[1].contains("\"b,\"\"c\"\"\"") && lines[1].contains(",20000,"), "{table:?}");
    for path in [
        "/staff/payments/",
        "/staff/payments/totals/",
        "/staff/payments/export/",
        "/staff/holds/",
        "/staff/wallets/1/",
        "/staff/refunds/",
        "/staff/refunds/totals/",
        "/staff/refunds/export/",
    ] {
        assert_eq!(shop.gateway.get(path, Some(&stranger.access)).await.status, 403, "{path}");
        assert_eq!(shop.gateway.get(path, None).await.status, 401, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn staff_see_any_wallet_correct_it_and_ask_the_bank() {
    let shop = Shop::open(CONFIG).await;
    let stranger = shop.gateway.login("09120000002").await;
    let correct = json!({"amount": 500, "direction": "in", "reason": "goodwill", "currency": "IRT"});
    let key = [("Idempotency-Key", "c-1")];
    let made = shop.post_with("/staff/wallets/2/correct/", correct.clone(), &key).await;
    assert_eq!((made.status, &made.body["balance_after"]), (201, &json!(500)), "{made:?}");
    let again = shop.post_with("/staff/wallets/2/correct/", correct, &key).await;
    assert_eq!((&again.body, again.header("idempotency-replayed")), (&made.body, "true"));
    let wallet = shop.get("/staff/wallets/2/").await;
    assert_eq!((&wallet.body["balance"], &wallet.body["user"]), (&json!(500), &json!(2)));
    assert_eq!(shop.gateway.get("/wallet/", Some(&stranger.access)).await.body["balance"], 500);
    let lines = shop.get("/staff/wallets/2/entries/").await;
    assert_eq!(lines.body["results"][0]["kind"], "correction", "{lines:?}");
    let taken = json!({"amount": 501, "direction": "out", "reason": "too much"});
    assert_eq!(shop.post("/staff/wallets/2/correct/", taken).await.status, 409);
    for wrong in [
        json!({"amount": 1, "direction": "in"}),
        json!({"amount": 1, "direction": "up", "reason": "x"}),
        json!({"direction": "in", "reason": "x"}),
    ] {
        assert_eq!(shop.post("/staff/wallets/2/correct/", wrong).await.status, 400);
    }
    assert_eq!(shop.get("/staff/wallets/99/").await.status, 404);
    // A payment whose callback was lost is settled by asking.
    let details = shop.create(json!({"amount": 1000})).await;
    shop.decide(&details, "pay_lost").await;
    let asked = shop.post(&format!("/staff/payments/{}/ask/", details["id"]), json!({})).await;
    assert_eq!((asked.status, &asked.body["state"]), (200, &json!("paid")), "{asked:?}");
    let held = shop.post("/wallet/spend/", json!({"amount": 100, "hold": true, "order_id": "h"})).await;
    assert!(held.body["expires_at"].is_string(), "{held:?}");
    let twice = shop.post("/wallet/spend/", json!({"amount": 100, "order_id": "h"})).await;
    assert_eq!((twice.status, &twice.body["code"]), (409, &json!("order_paid")), "{twice:?}");
    let holds = shop.get("/staff/holds/").await;
    assert_eq!(holds.body["results"][0]["id"], held.body["id"]);
    let none =
        shop.post(&format!("/staff/payments/{}/reversal/", details["id"]), json!({"action": "undo"})).await;
    assert_eq!(none.status, 404, "nothing to decide: {none:?}");
    assert_eq!(shop.get("/staff/reversals/").await.body["results"], json!([]));
    shop.check_ledger().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn staff_find_refunds_in_every_state_and_export_them() {
    let shop = Shop::open(CONFIG).await;
    let first = shop.charge(1000).await;
    let second = shop.charge(2000).await;
    let refund = async |details: &Value, body: Value| {
        let refunded = shop.post(&format!("/payment/{}/refund/", details["id"]), body).await;
        assert_eq!(refunded.status, 201, "{refunded:?}");
    };
    refund(&first, json!({"amount": 100, "note": "=late, \"twice\""})).await;
    refund(&first, json!({"amount": 200, "to": "payer_outside"})).await;
    let seen = async |query: &str| {
        let found = shop.get(&format!("/staff/refunds/{query}")).await;
        assert_eq!(found.status, 200, "{query}: {found:?}");
        let results = found.body["results"].as_array().expect("a list").clone();
        results
            .iter()
            .map(|refund| (refund["payment"].clone(), refund["number"].as_u64().expect("a number")))
            .collect::<Vec<_>>()
    };
    let (one, two) = (first["id"].clone(), second["id"].clone());
    let both = vec![(one.clone(), 2), (one.clone(), 1)];
    for (query, wanted) in [
        ("", both.clone()),
        ("?state=done", both.clone()),
        ("?state=open", vec![]),
        ("?state=refused", vec![]),
        ("?state=undone", vec![]),
        ("?to=payer_outside", both.clone()),
        ("?to=wallet", vec![]),
        ("?user=09121234567", both.clone()),
        ("?by=1", both.clone()),
        ("?by=2", vec![]),
        ("?gateway=SANDBOX_PAY", both.clone()),
        ("?gateway=OTHER", vec![]),
        ("?from=2001-01-01", both.clone()),
        ("?until=2001-01-01", vec![]),
        (&format!("?payment={one}"), both.clone()),
        (&format!("?payment={two}"), vec![]),
        ("?payment=99999", vec![]),
        (&format!("?payment={one}&to=payer_outside&by=1"), both.clone()),
        (&format!("?payment={one}&state=open"), vec![]),
        (&format!("?payment={one}&user=2"), vec![]),
        (&format!("?payment={one}&until=2001-01-01"), vec![]),
    ] {
        assert_eq!(seen(query).await, wanted, "{query}");
    }
    let sums = shop.get(&format!("/staff/refunds/totals/?payment={one}")).await;
    assert_eq!((&sums.body["refunds"], &sums.body["amount"]), (&json!(2), &json!(300)), "{sums:?}");
    assert_eq!((&sums.body["standing"], &sums.body["standing_amount"]), (&json!(2), &json!(300)));
    let none = shop.get(&format!("/staff/refunds/totals/?payment={one}&state=open")).await;
    assert_eq!((&none.body["refunds"], &none.body["amount"]), (&json!(0), &json!(0)), "{none:?}");
    for wrong in ["state=x", "to=x", "from=yesterday", "payment=x", "user=nobody", "by=nobody"] {
        let refused = shop.get(&format!("/staff/refunds/?{wrong}")).await;
        assert_eq!(refused.status, 400, "{wrong}: {refused:?}");
    }
    assert_eq!(shop.get("/staff/refunds/?cursor=x").await.status, 404);
    // Pages: more refunds than one has.
    for _ in 0..60 {
        refund(&second, json!({"amount": 1})).await;
    }
    let (mut pages, mut numbers, mut at) = (0, Vec::new(), shop.gateway.at("/staff/refunds/"));
    loop {
        let page = Answer::of(shop.gateway.client.get(&at).bearer_auth(&shop.login.access)).await;
        pages += 1;
        for refund in page.body["results"].as_array().expect("a list") {
            numbers.push((refund["payment"].as_u64(), refund["number"].as_u64()));
        }
        match page.body["next"].as_str() {
            Some(next) => at = next.to_owned(),
            None => break,
        }
    }
    let mut distinct = numbers.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert!(pages > 1 && numbers.len() == 62 && distinct.len() == 62, "{pages} pages, {numbers:?}");
    let table = shop.get(&format!("/staff/refunds/export/?payment={one}&state=done")).await;
    let lines: Vec<&str> = table.text.lines().collect();
    assert_eq!((table.status, lines.len()), (200, 3), "{table:?}");
    assert!(lines[2].contains("\"'=late, \"\"twice\"\"\"") && lines[2].contains(",1000,"), "{table:?}");
    assert!(table.header("content-disposition").contains("refunds.csv"), "{table:?}");
}
