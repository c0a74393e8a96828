//! `chelseru doctor`: what is wrong with a gateway and its machine, and the cure of each.

use std::path::Path;

use chelseru_domain::operator::doctor::State;
use chelseru_http::operator::v1::house::finding_json;
use http::Method;
use serde_json::Value;

use super::ask::{Way, open};
use crate::operator::doctor;
use crate::{config, files};

/// Prints the findings, worst first. Asks the running gateway; without one, examines what needs none.
///
/// Errors: something is bad, or the examination failed.
pub(super) async fn run(config_file: &Path, json: bool) -> Result<(), String> {
    let findings = match open(config_file).await? {
        Way::Gateway(gateway) => {
            let mut answer = gateway.ask(Method::GET, "/operator/v1/doctor/", None).await?;
            answer["results"].as_array_mut().map(std::mem::take).unwrap_or_default()
        }
        Way::Store(store) => {
            store.close();
            let loaded = super::load::load(config_file)?;
            let data_dir = config::data_dir(&loaded.config, config_file);
            let mut findings = doctor::machine(&loaded, &data_dir);
            if loaded.config.files.bucket().is_some() {
                let place = files::choose(&loaded, &data_dir)?.place;
                findings.push(
                    doctor::files(place.probe(), doctor::place_of_files(&loaded.config, &data_dir)).await,
                );
            }
            findings.sort_by_key(|one| std::cmp::Reverse(one.state));
            eprintln!("no gateway runs with this configuration; only its machine is examined");
            findings.iter().map(finding_json).collect()
        }
    };
    for finding in &findings {
        if json {
            say!("{finding}");
            continue;
        }
        let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        say!("{:<8} {:<12} {}", text("state"), text("check"), text("what"));
        if text("state") != State::Well.as_str() {
            say!("{:<8} {:<12} -> {}", "", "", text("cure"));
        }
    }
    let bad = |finding: &&Value| finding["state"] == State::Bad.as_str();
    match findings.iter().filter(bad).count() {
        0 => Ok(()),
        count => Err(format!("{count} of {} checks are bad", findings.len())),
    }
}
