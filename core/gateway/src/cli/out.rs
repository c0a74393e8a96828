//! Standard output of commands.
//!
//! Whoever reads it may stop early (`chelseru plugin list | head -1`), or it may be a full disk. `println!` would
//! panic. What a command did stands either way.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

/// Writes a line; used like `println!`.
macro_rules! say {
    () => { $crate::cli::out::write(format_args!("\n")) };
    ($($part:tt)*) => { $crate::cli::out::write(format_args!("{}\n", format_args!($($part)*))) };
}

/// Writes a text. Ends the process when nobody reads it any more: with success when its reader stopped, otherwise with
/// a sentence and status 1.
pub(super) fn write(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            eprintln!("standard output: {error}");
            std::process::exit(1);
        }
    }
}
