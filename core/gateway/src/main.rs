//! The `chelseru` command. The library implements it; see `chelseru::cli`.

use std::process::ExitCode;

/// The store engine copies a node for each key it writes, on one thread, and frees the old one on others. The
/// system's allocator spends more time on that than the copying takes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    chelseru::cli::main()
}
