//! Running in the background.

#![allow(unsafe_code)]

use std::ffi::c_int;

use libc::{SYS_ioprio_set, syscall};

/// IOPRIO_WHO_PROCESS, and IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT, of <linux/ioprio.h>, which libc lacks.
const WHO_PROCESS: c_int = 1;
const IDLE: c_int = 3 << 13;

/// Gives this thread, and those that it starts, only spare processor and disk time (nice 19, I/O class idle). Where
/// the system refuses, they run as before.
pub fn be_idle() {
    // On Linux this affects the calling thread alone.
    let _ = rustix::process::setpriority_process(None, 19);
    let this_thread: c_int = 0;
    // SAFETY: ioprio_set takes three numbers and no pointer.
    let _ = unsafe { syscall(SYS_ioprio_set, WHO_PROCESS, this_thread, IDLE) };
}

/// Lets this thread, and those that it starts, have a tenth of the processor time of others where these want it all (nice
/// 10). Where the system refuses, they run as before.
pub fn be_modest() {
    // On Linux this affects the calling thread alone.
    let _ = rustix::process::setpriority_process(None, 10);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_thread_takes_what_disk_time_is_left() {
        let class = std::thread::spawn(|| {
            be_idle();
            // SAFETY: ioprio_get takes two numbers and no pointer.
            unsafe { syscall(libc::SYS_ioprio_get, WHO_PROCESS, 0 as c_int) }
        });
        assert_eq!(class.join().unwrap(), i64::from(IDLE));
    }

    #[test]
    fn idle_and_modest_threads_leave_the_others_alone() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        for (be, expected) in [(be_idle as fn(), 19), (be_modest, 10)] {
            let thread = std::thread::spawn(move || {
                be();
                nice()
            });
            assert_eq!((thread.join().unwrap(), nice()), (expected, before));
        }
    }
}
