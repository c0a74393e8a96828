//! `cargo xtask autobahn`: run the Autobahn test suite against the hidden echo route.
//!
//! The suite is the standard conformance test of WebSocket servers. It needs Python 2.7, which most machines no longer
//! have. Therefore it is a separate command, and the journeys contain the same cases, written by hand.

use std::process::Command;

use crate::test::{PLUGINS_DIR, staged};
use crate::workspace::{Workspace, ask, ensure_wasm_target, run as run_command, shown};
use crate::{Done, Failure, plugins, start};

pub(crate) const HELP: &str = "
cargo xtask autobahn                     Run the suite with python2.7 from PATH.
cargo xtask autobahn --python PROGRAM    Run the suite with this Python 2.7.

Install the suite into the build folder (once, with pip, from the network), start a gateway with its echo route and run
the cases of groups 1 to 7, 9 and 10. Every case must be OK or informational. A run takes half a minute once built.
To get Python 2.7: pyenv install 2.7.18, or your system's package python2.";

/// Version of the suite on PyPI.
const SUITE: &str = "autobahntestsuite==25.10.1";

/// Starts the suite from its installation folder, with the `.pth` files there applied.
const START: &str = "import os, site, sys; folder = os.environ['AUTOBAHN_FOLDER']; site.addsitedir(folder); \
                     sys.path.insert(0, folder); from autobahntestsuite.wstest import run; sys.exit(run())";

pub(crate) fn run(workspace: &Workspace, arguments: Vec<String>) -> Done {
    let python = match arguments.as_slice() {
        [] => "python2.7",
        [option, program] if option == "--python" => program.as_str(),
        _ => return Err(Failure::Usage("autobahn: accepted: --python PROGRAM".to_owned())),
    };
    let version = "import sys; print('%d.%d' % sys.version_info[:2])";
    match ask(Command::new(python).args(["-c", version])) {
        Ok(version) if version == "2.7" => {}
        Ok(version) => {
            return Err(Failure::Failed(format!("{python} is Python {version}; the suite needs 2.7")));
        }
        Err(Failure::Failed(error) | Failure::Usage(error)) => {
            return Err(Failure::Failed(format!("{error}; name a Python 2.7 with --python PROGRAM")));
        }
    }
    let folder = workspace.target.join("autobahn");
    let suite = folder.join("suite");
    if !suite.join("autobahntestsuite").is_dir() {
        println!("[1/2] {SUITE}");
        let mut pip = Command::new(python);
        pip.args(["-m", "pip", "install", "--quiet", "--target"]).arg(&suite).arg(SUITE);
        run_command(&mut pip)?;
    }
    println!("[2/2] the gateway, its plugins, and the suite against its echo route");
    ensure_wasm_target(workspace)?;
    plugins::install(&plugins::build(workspace)?, &staged(workspace))?;
    let report = folder.join("report");
    run_command(&mut workspace.cargo(&start::build_arguments(&["chelseru-autobahn"], false)))?;
    let mut program = Command::new(workspace.program("debug", "chelseru-autobahn"));
    program
        .env(PLUGINS_DIR, staged(workspace))
        .env("AUTOBAHN_PYTHON", python)
        .env("AUTOBAHN_START", START)
        .env("AUTOBAHN_FOLDER", &suite)
        .env("AUTOBAHN_REPORT", &report);
    run_command(&mut program)?;
    println!("the report: {}", shown(workspace, &report.join("index.html")));
    Ok(())
}
