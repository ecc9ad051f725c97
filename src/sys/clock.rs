//! The C library's idea of local time.

#![allow(unsafe_code)]

use std::mem::zeroed;

/// Breaks down `seconds` since 1970 in the time zone of this machine (TZ, /etc/localtime); `None` where the year does
/// not fit.
pub fn local(seconds: i64) -> Option<libc::tm> {
    // SAFETY: `tm` is integers and a pointer that is never followed, for which zeros are values.
    let mut tm: libc::tm = unsafe { zeroed() };
    // SAFETY: both pointers are to live values of the types that localtime_r(3) reads and writes; it keeps neither.
    let done = unsafe { libc::localtime_r(&seconds, &mut tm) };
    (!done.is_null()).then_some(tm)
}
