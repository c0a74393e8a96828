//! Where the commands compile components: in a child process of this program, which a component cannot take down with
//! it. See `chelseru_plugin_host::Compiler`.

use std::path::PathBuf;

use chelseru_outbound::plugins::COMPILE_COMMAND;
use chelseru_plugin_host::{Compiler, Host, HostOptions};

use crate::config::PLUGIN_BYTES_MAX;

/// mimalloc commits a gigabyte in advance otherwise, and the compiler's limit counts what is committed.
const COMPILER_ENV: [(&str, &str); 2] =
    [("MIMALLOC_ARENA_EAGER_COMMIT", "0"), ("MIMALLOC_EAGER_COMMIT", "0")];

/// A host for a command that looks at one component, as large as any configuration may allow.
pub(super) fn host_for_one() -> Result<Host, String> {
    let options = HostOptions {
        pooling: false,
        compiler: compiler(),
        plugin_bytes_max: PLUGIN_BYTES_MAX,
        ..HostOptions::default()
    };
    Host::new(options).map_err(|error| error.to_string())
}

/// Compiles in a child process of this program, which a component cannot take down with it.
pub(super) fn compiler() -> Compiler {
    // On Linux the link, which an upgrade of the file does not break.
    let program = match cfg!(target_os = "linux") {
        true => Ok(PathBuf::from("/proc/self/exe")),
        false => std::env::current_exe(),
    };
    match program {
        Ok(program) => {
            let env = COMPILER_ENV.map(|(key, value)| (key.into(), value.into())).into();
            Compiler::Child { program, args: vec![COMPILE_COMMAND.into()], env }
        }
        Err(error) => {
            tracing::warn!(%error, "this program's own file is unknown, components are compiled without limits");
            Compiler::InProcess
        }
    }
}
