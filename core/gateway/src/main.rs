//! The `chelseru` command. Everything it does stands in the library; see `chelseru::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    chelseru::cli::main()
}
