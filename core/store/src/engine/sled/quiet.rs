//! Catches the engine's panics without printing their texts.
//!
//! The engine panics where other libraries return an error, on the calling thread and on its own threads. The caller
//! catches the panic and reports it; the text of the panic would only confuse an operator.

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Prefix of the engine's thread names.
const ENGINE_THREADS: &str = "sled-";

/// Runs a call into the engine; its panics print nothing.
pub(crate) fn quietly<T>(call: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            QUIET.set(self.0);
        }
    }
    install();
    let _restore = Restore(QUIET.replace(true));
    call()
}

fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current();
            let engine = thread.name().is_some_and(|name| name.starts_with(ENGINE_THREADS));
            if QUIET.get() || engine {
                tracing::debug!(%panic, "the engine panicked");
            } else {
                print(panic);
            }
        }));
    });
}

/// The operating system error behind a panic, if there is one.
pub(crate) fn io_error(panic: &(dyn Any + Send)) -> Option<io::Error> {
    let text =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied())?;
    os_error(text)
}

/// The error of the operating system whose debug form stands in a text of the engine.
pub(crate) fn os_error(text: &str) -> Option<io::Error> {
    let (_, code) = text.split_once("Os { code: ")?;
    let code = code.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()?;
    Some(io::Error::from_raw_os_error(code))
}
