//! The `chelseru` command. Everything it does stands in the library; see `chelseru::cli`.

use std::process::ExitCode;

/// The store engine copies a node for each key it writes, on one thread, and drops the old one on others; the
/// system's allocator spends more on that than the copying costs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    chelseru::cli::main()
}
