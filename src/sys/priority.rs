//! Running in the background.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_long};

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

/// ioprio_set(2).
const IOPRIO_SET: c_long = if cfg!(target_arch = "x86_64") { 251 } else { 30 };
const IOPRIO_WHO_PROCESS: c_int = 1;
/// IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT.
const IDLE: c_int = 3 << 13;

/// Gives this thread, and those that it starts, only spare processor and disk time (nice 19, I/O class idle). Where
/// the system refuses, they run as before.
pub fn be_idle() {
    // On Linux this affects the calling thread alone.
    let _ = rustix::process::setpriority_process(None, 19);
    let this_thread: c_int = 0;
    // SAFETY: ioprio_set takes three numbers and no pointer.
    let _ = unsafe { syscall(IOPRIO_SET, IOPRIO_WHO_PROCESS, this_thread, IDLE) };
}

#[cfg(test)]
mod tests {
    use super::*;

    const IOPRIO_GET: c_long = if cfg!(target_arch = "x86_64") { 252 } else { 31 };

    #[test]
    fn an_idle_thread_takes_what_disk_time_is_left() {
        let class = std::thread::spawn(|| {
            be_idle();
            // SAFETY: ioprio_get takes two numbers and no pointer.
            unsafe { syscall(IOPRIO_GET, IOPRIO_WHO_PROCESS, 0 as c_int) }
        });
        assert_eq!(class.join().unwrap(), c_long::from(IDLE));
    }

    #[test]
    fn an_idle_thread_leaves_the_others_alone() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let idle = std::thread::spawn(move || {
            be_idle();
            nice()
        });
        assert_eq!((idle.join().unwrap(), nice()), (19, before));
    }
}
