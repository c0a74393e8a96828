//! Runs the Autobahn test suite against a gateway with its echo route. `cargo xtask autobahn` starts it.
//!
//! Environment: `AUTOBAHN_PYTHON` names the program, `AUTOBAHN_START` the code that it runs, `AUTOBAHN_REPORT` the
//! folder of its report. Exit status 1 when a case is neither OK nor informational, or when cases are missing.

use std::error::Error;
use std::process::ExitCode;

use chelseru_tests::TestGateway;
use serde_json::{Value, json};

/// Groups 8 and 11 have no cases. Groups 12 and 13 test compression, which the gateway does not offer.
const GROUPS: [&str; 9] = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"];

/// Number of cases of these groups in version 25.10.1.
const CASES: usize = 301;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match run().await {
        Ok(failed) if failed.is_empty() => {
            println!("{CASES} cases, none failed");
            ExitCode::SUCCESS
        }
        Ok(failed) => {
            eprintln!("error: {} of {CASES} cases failed:\n{}", failed.len(), failed.join("\n"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The cases that failed.
async fn run() -> Result<Vec<String>, Box<dyn Error>> {
    let variable =
        |name| std::env::var(name).map_err(|_| format!("{name} is not set: run cargo xtask autobahn"));
    let report = variable("AUTOBAHN_REPORT")?;
    let gateway = TestGateway::start("").await;
    let url = gateway.at("/ws/echo/").replace("http://", "ws://");
    let servers = json!([{"agent": "chelseru", "url": url}]);
    let spec = json!({"outdir": report, "servers": servers, "cases": GROUPS});
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), spec.to_string())?;
    let mut suite = tokio::process::Command::new(variable("AUTOBAHN_PYTHON")?);
    suite.args(["-c", &variable("AUTOBAHN_START")?, "--mode", "fuzzingclient", "--spec"]).arg(file.path());
    let status = suite.kill_on_drop(true).status().await?;
    if !status.success() {
        return Err(format!("the suite ended with {status}").into());
    }
    let index: Value = serde_json::from_slice(&std::fs::read(format!("{report}/index.json"))?)?;
    let cases = index["chelseru"].as_object().ok_or("the report names no cases")?;
    if cases.len() != CASES {
        return Err(format!("{} cases were run instead of {CASES}", cases.len()).into());
    }
    let good = |verdict: &Value| verdict == "OK" || verdict == "INFORMATIONAL";
    let failed = cases.iter().filter(|(_, case)| !good(&case["behavior"]) || !good(&case["behaviorClose"]));
    Ok(failed
        .map(|(id, case)| format!("{id}: {}, at its close {}", case["behavior"], case["behaviorClose"]))
        .collect())
}
