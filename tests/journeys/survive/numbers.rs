//! The store's numbers for operators.

use chelseru_tests::folder;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_store_tells_how_it_is() {
    let dir = folder("");
    let town = Town::in_gateway(Served::start(dir.path())).await;
    let metric =
        async |name: &str| town.metric(name).await.unwrap_or_else(|| panic!("the metric {name} is missing"));
    assert_eq!(metric("chelseru_store_healthy").await, 1.0);
    let (batches, changes) = (metric("chelseru_store_batches").await, metric("chelseru_store_changes").await);
    for n in 0..5 {
        assert_eq!(town.say(&format!("message {n}")).await.status, 201);
    }
    assert!(metric("chelseru_store_batches").await >= batches + 5.0);
    assert!(metric("chelseru_store_changes").await >= changes + 5.0);
    assert!(metric("chelseru_store_write_seconds").await > 0.0);
    assert!(metric("chelseru_store_flush_last_seconds").await > 0.0);
    assert!(metric("chelseru_store_disk_free_bytes").await > 1e6);
    assert!(metric("chelseru_store_oldest_waiting_seconds").await < 60.0);
    assert!(metric("chelseru_store_changes_waiting").await < 10.0);
    wait_until("a count of the records", async || {
        town.metric("chelseru_store_records").await.is_some_and(|records| records > 5.0)
    })
    .await;
    let help = Answer::of(town.client.get(town.operator_url("/metrics/"))).await.text;
    for line in help.lines().filter(|line| line.starts_with("chelseru_store_")) {
        let name = line.split([' ', '{']).next().expect("a name");
        assert!(help.contains(&format!("# HELP {name} ")), "{name} is not described");
    }
}
