//! The boundary of a panic: the thread, request or job that had it. Everything else goes on.
//!
//! No input may cause a panic. Should one happen all the same, [`guard`] catches it and returns its message and place for
//! the caller's log, and the caller gives up that piece of work: it closes the connection, answers with an error, or refuses
//! the torrent. A panic outside any guard ends its thread, with a line on standard error.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::{Once, OnceLock};
use std::thread;

/// The applet, for lines on standard error; unset in tests, which keep their own way to report a panic.
static NAME: OnceLock<&'static str> = OnceLock::new();
static HOOK: Once = Once::new();

thread_local! {
    /// Guards around the current code of this thread.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// Message and place of a panic on its way to its guard.
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic that [`guard`] caught; displayed as `WHAT: panicked at FILE:LINE: MESSAGE`, in one line.
#[derive(Debug)]
pub struct Panicked(String);

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names the applet in lines about panics that no guard catches. To be called once, before the applet runs.
pub fn report_as(name: &'static str) {
    // Only the first name counts: a process runs one applet.
    let _ = NAME.set(name);
    HOOK.call_once(set_hook);
}

/// Runs `work` and returns its result; `what` names the work in the line about a panic.
///
/// Data that `work` had borrowed may be half changed after a panic: the caller drops it or makes it anew. Locks that it
/// held are poisoned, which [`lock`](super::sync::lock) passes over.
///
/// # Errors
/// `work` panicked. A panic outside this thread, of one that `work` waited for, has had its own line on standard error.
pub fn guard<T>(what: impl fmt::Display, work: impl FnOnce() -> T) -> Result<T, Panicked> {
    HOOK.call_once(set_hook);
    DEPTH.set(DEPTH.get() + 1);
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    DEPTH.set(DEPTH.get() - 1);
    done.map_err(|_| {
        // A payload passed on by `resume_unwind` has not gone through the hook.
        let panic = CAUGHT.take().unwrap_or_else(|| "panicked in another thread".to_owned());
        Panicked(format!("{what}: {panic}"))
    })
}

fn set_hook() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let line = describe(panic);
        // A second panic on the way to the guard ends the process, so both are printed now.
        let first = CAUGHT.try_with(|caught| caught.take()).ok().flatten();
        if DEPTH.get() > 0 && first.is_none() && CAUGHT.try_with(|caught| caught.replace(Some(line.clone()))).is_ok() {
            return;
        }
        let Some(name) = NAME.get() else { return usual(panic) };
        for line in first.iter().chain([&line]) {
            let thread = thread::current();
            let text = format!("{name}: **error** thread {}: {line}\n", thread.name().unwrap_or("without a name"));
            // One write, so that lines do not mix; a failure has nowhere to be reported.
            let _ = io::stderr().write_all(text.as_bytes());
        }
    }));
}

/// `panicked at FILE:LINE: MESSAGE` in one line.
fn describe(panic: &PanicHookInfo) -> String {
    let message = panic.payload_as_str().unwrap_or("no message");
    let message = message.replace(char::is_control, " ");
    match panic.location() {
        Some(place) => format!("panicked at {}:{}: {message}", place.file(), place.line()),
        None => format!("panicked: {message}"),
    }
}

/// Panics if `input` asks for it by `!panic-PLACE!`: how tests have code panic that no input should. Not in what ships.
#[cfg(test)]
pub fn panic_if_asked(place: &str, input: &[u8]) {
    let words = format!("!panic-{place}!");
    assert!(!input.windows(words.len()).any(|part| part == words.as_bytes()), "a test's panic");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line about a panic of `work`.
    fn caught(what: impl fmt::Display, work: impl FnOnce()) -> String {
        guard(what, work).unwrap_err().to_string()
    }

    #[test]
    fn a_panic_is_returned_with_what_was_done_and_its_place_in_one_line() {
        let line = line!() + 1;
        let said = caught(format_args!("answer {}", 7), || panic!("one\ntwo \x1b[2J {}", 3));
        assert_eq!(said, format!("answer 7: panicked at {}:{line}: one two  [2J 3", file!()));
        assert_eq!(guard("add", || 1 + 1).ok(), Some(2), "the next is none the worse");
    }

    #[test]
    fn an_inner_guard_keeps_its_panic_from_the_outer_one() {
        let outer = guard("outer", || caught("inner", || panic!("in the middle")));
        assert!(outer.unwrap().starts_with("inner: panicked at "));
        let behind = caught("outer", || {
            guard("inner", || ()).unwrap();
            panic!("behind it");
        });
        assert!(behind.ends_with(": behind it"), "{behind}");
    }

    #[test]
    fn a_panic_that_another_thread_passes_on_is_caught() {
        let wait = || {
            let elsewhere: fn() = || panic!("elsewhere");
            let panic = panic::catch_unwind(elsewhere).unwrap_err();
            CAUGHT.take();
            panic::resume_unwind(panic)
        };
        assert_eq!(caught("wait", wait), "wait: panicked in another thread");
    }

    #[test]
    fn a_lock_that_was_held_opens_again() {
        let lock = std::sync::Mutex::new(1);
        let said = caught("hold", || {
            let _held = lock.lock();
            panic!("while it is held");
        });
        assert!(said.ends_with(": while it is held"), "{said}");
        assert_eq!(*lock.lock().unwrap_or_else(|poisoned| poisoned.into_inner()), 1);
    }
}
