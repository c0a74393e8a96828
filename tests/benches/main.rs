//! Runs the benches that are named on the command line; see `cargo xtask bench`.

fn main() {}
