//! Clients that other people's programs generate from the OpenAPI document log in and read.
//!
//! Both run where they are installed: openapi-python-client in the Python of `CHELSERU_PYTHON`; openapi-typescript,
//! openapi-fetch, typescript and @types/node in the folder `node_modules` that `CHELSERU_NODE_MODULES` names.

use std::path::Path;
use std::process::{Command, Stdio};

use chelseru_tests::TestGateway;

const CONFIG: &str = "[auth]\notp_test_numbers = { \"09120000002\" = \"482913\" }\n";

const PYTHON: &str = r#"
import sys
from client import AuthenticatedClient, Client
from client.api.chat import chat_search, room_list
from client.api.identity import authenticate, me, otp_send
from client.models import AuthenticateBody, OtpSendBody

client = Client(base_url=sys.argv[1])
sent = otp_send.sync_detailed(client=client, body=OtpSendBody(mobile_number="09120000002"))
assert sent.status_code == 200, sent
tokens = authenticate.sync(client=client, body=AuthenticateBody(mobile_number="09120000002", code="482913"))
known = AuthenticatedClient(base_url=sys.argv[1], token=tokens.access)
assert room_list.sync_detailed(client=known).status_code == 200
assert chat_search.sync(client=known, q="tea").results == []
print("logged in as", me.sync(client=known).mobile_number)
"#;

const TYPESCRIPT: &str = r#"
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

const client = createClient<paths>({ baseUrl: process.argv[2] });
const body = { mobile_number: "09120000002" };
const sent = await client.POST("/drfchelseru/otp/send/", { body });
if (sent.error) throw new Error(JSON.stringify(sent.error));
const tokens = await client.POST("/drfchelseru/authenticate/", { body: { ...body, code: "482913" } });
if (!tokens.data) throw new Error(JSON.stringify(tokens.error));
const headers = { Authorization: `Bearer ${tokens.data.access}` };
const found = await client.GET("/drfchelseru/chat/search/", { headers, params: { query: { q: "tea" } } });
if (found.data?.results.length !== 0) throw new Error(JSON.stringify(found.error));
const me = await client.GET("/drfchelseru/me/", { headers });
console.log("logged in as", me.data?.mobile_number);
"#;

/// The gateway, its document in a folder, and the address that the document's paths follow.
async fn begin() -> (TestGateway, tempfile::TempDir, String) {
    let gateway = TestGateway::start(CONFIG).await;
    let folder = tempfile::tempdir().expect("a folder");
    let document = gateway.get("/openapi.json", None).await;
    std::fs::write(folder.path().join("openapi.json"), document.text).expect("written");
    let origin = gateway.url.trim_end_matches("/drfchelseru").to_owned();
    (gateway, folder, origin)
}

async fn run(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_python_client_logs_in() {
    let python = std::env::var("CHELSERU_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut tried = Command::new(&python);
    tried.args(["-c", "import openapi_python_client"]).stderr(Stdio::null());
    if !tried.status().is_ok_and(|status| status.success()) {
        println!("not run: openapi-python-client is not installed, so its client is not tried");
        return;
    }
    let (_gateway, folder, origin) = begin().await;
    let arguments = ["-m", "openapi_python_client", "generate", "--path", "openapi.json", "--meta", "none"];
    run(folder.path(), &python, &[&arguments[..], &["--output-path", "client"]].concat()).await;
    std::fs::write(folder.path().join("login.py"), PYTHON).expect("written");
    let said = run(folder.path(), &python, &["login.py", &origin]).await;
    assert_eq!(said, "logged in as 09120000002\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_typescript_client_is_sound_and_logs_in() {
    let Ok(modules) = std::env::var("CHELSERU_NODE_MODULES") else {
        println!("not run: CHELSERU_NODE_MODULES is not set, so openapi-typescript's client is not tried");
        return;
    };
    let (_gateway, folder, origin) = begin().await;
    let here = |name: &str| folder.path().join(name);
    std::os::unix::fs::symlink(&modules, here("node_modules")).expect("linked");
    std::fs::write(here("package.json"), "{\"type\": \"module\"}").expect("written");
    std::fs::write(here("login.ts"), TYPESCRIPT).expect("written");
    let bin = |name: &str| format!("{modules}/.bin/{name}");
    run(folder.path(), &bin("openapi-typescript"), &["openapi.json", "-o", "schema.d.ts"]).await;
    let strict =
        ["--strict", "--skipLibCheck", "--target", "es2022", "--module", "nodenext", "--types", "node"];
    run(folder.path(), &bin("tsc"), &[&strict[..], &["--lib", "es2022,dom", "login.ts"]].concat()).await;
    let said = run(folder.path(), "node", &["login.js", &origin]).await;
    assert_eq!(said, "logged in as 09120000002\n");
}
