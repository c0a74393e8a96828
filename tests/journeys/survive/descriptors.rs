//! Few file descriptors.

use std::net::TcpStream;

use chelseru_tests::folder;

use super::*;

/// Enough to start, and far fewer than clients ask for.
const FILES_MAX: u64 = 160;
const CLIENTS: usize = 400;

#[tokio::test(flavor = "multi_thread")]
async fn clients_cannot_take_the_last_descriptors() {
    let dir = folder("[server]\nheader_read_timeout_seconds = 60\n");
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {FILES_MAX} && exec \"$0\" serve")]).arg(process::binary());
    let mut town = Town::in_gateway(Served::start_command(dir.path(), command)).await;
    let address =
        town.served.url.trim_start_matches("http://").split('/').next().expect("an address").to_owned();

    // Idle connections until the gateway closes the newest.
    let mut held = Vec::new();
    wait_until("a refusal", async || {
        for _ in 0..CLIENTS / 10 {
            let Ok(stream) = TcpStream::connect(&address) else { continue };
            stream.set_nonblocking(true).expect("set");
            held.push(stream);
        }
        held.iter().any(is_closed)
    })
    .await;
    let open = held.iter().filter(|stream| !is_closed(stream)).count();
    assert!(open > 10, "only {open} of {} are open", held.len());
    // The connection that is kept alive goes on, and so does everything behind it: store, provider, files.
    for n in 0..20 {
        assert_eq!(town.say(&format!("message {n}")).await.status, 201);
    }
    town.login("09120000003").await;
    assert_eq!(town.get("/health/").await.status, 200);
    // An operator gets a connection when clients do not.
    assert_eq!(town.ready().await.0, 200);
    let taken =
        std::fs::read_dir(format!("/proc/{}/fd", town.served.child.id())).expect("read").count() as u64;
    assert!(taken < FILES_MAX * 15 / 16, "{taken} of {FILES_MAX} are taken");

    drop(held);
    wait_until("a new connection", async || {
        let fresh = chelseru_tests::client().get(town.url("/health/"));
        Answer::try_of(fresh).await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    town.served.terminate();
    assert!(town.served.ended().await.success());
}

/// Whether the other side closed a connection on which it never says anything.
fn is_closed(stream: &TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}
