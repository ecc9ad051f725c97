//! Requests of an export, answered in order by simple replies.

use std::io::{self, Read, Write};

use super::Export;
use super::wire::{BLOCK_SIZES, REPLY, REQUEST, ReadNumber, broken};

const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;
const CACHE: u16 = 5;

/// Error numbers of the protocol.
const PERMISSION: u32 = 1;
const IO: u32 = 5;
const INVALID: u32 = 22;

/// Answers requests until the client disconnects. `say` receives a line for each failed read.
///
/// # Errors
/// The connection failed, or the client broke the protocol.
pub fn transmit(input: &mut dyn Read, output: &mut dyn Write, export: &Export, say: &dyn Fn(&str)) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        if input.u32()? != REQUEST {
            return Err(broken("no request where one must be"));
        }
        let (_flags, kind, cookie) = (input.u16()?, input.u16()?, input.u64()?);
        let (at, length) = (input.u64()?, input.u32()?);
        let is_within = at.checked_add(u64::from(length)).is_some_and(|end| end <= export.size());
        buffer.clear();
        let error = match kind {
            DISCONNECT => return Ok(()),
            READ | CACHE if !is_within || length > BLOCK_SIZES[2] => INVALID,
            READ => {
                buffer.resize(length as usize, 0);
                match export.source.read_at(&mut buffer, at) {
                    Ok(()) => 0,
                    Err(error) => {
                        say(&error.to_string());
                        buffer.clear();
                        IO
                    }
                }
            }
            FLUSH | CACHE => 0,
            WRITE => {
                // Its data follows the request, and is passed over to find the next one.
                io::copy(&mut (&mut *input).take(u64::from(length)), &mut io::sink())?;
                PERMISSION
            }
            _ => PERMISSION,
        };
        let mut head = [0; 16];
        head[..4].copy_from_slice(&REPLY.to_be_bytes());
        head[4..8].copy_from_slice(&error.to_be_bytes());
        head[8..].copy_from_slice(&cookie.to_be_bytes());
        output.write_all(&head)?;
        output.write_all(&buffer)?;
        output.flush()?;
    }
}
