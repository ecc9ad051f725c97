//! Fixed newstyle negotiation: the client lists exports and chooses one.

use std::io::{self, Read, Write};

use super::Export;
use super::wire::{
    BLOCK_SIZES, FIXED_NEWSTYLE, MAGIC, NO_ZEROES, OPTION, OPTION_REPLY, ReadNumber, TRANSMISSION_FLAGS, broken,
};

/// Longest data of an option, bytes: a name has at most 4,096.
const LONGEST: u32 = 16 << 10;
/// Options of one connection before it is closed.
const MOST_OPTIONS: usize = 64;

const EXPORT_NAME: u32 = 1;
const ABORT: u32 = 2;
const LIST: u32 = 3;
const INFO: u32 = 6;
const GO: u32 = 7;

const ACK: u32 = 1;
const SERVER: u32 = 2;
const INFORMATION: u32 = 3;
const UNSUPPORTED: u32 = 1 << 31 | 1;
const INVALID: u32 = 1 << 31 | 3;
const UNKNOWN: u32 = 1 << 31 | 6;

/// Number of an information in NBD_OPT_INFO's replies.
const INFO_EXPORT: u16 = 0;
const INFO_BLOCK_SIZE: u16 = 3;

/// Negotiates; returns the chosen export, or `None` if the client went without one.
///
/// # Errors
/// The connection failed, or the client broke the protocol.
pub fn haggle<'a>(
    input: &mut dyn Read,
    output: &mut dyn Write,
    exports: &'a [Export],
) -> io::Result<Option<&'a Export>> {
    let mut hello = [MAGIC.to_be_bytes(), OPTION.to_be_bytes()].concat();
    hello.extend((FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes());
    output.write_all(&hello)?;
    let flags = input.u32()?;
    if flags & !u32::from(FIXED_NEWSTYLE | NO_ZEROES) != 0 {
        return Err(broken(format!("client flags {flags:#x} are unknown")));
    }
    let zeroes = flags & u32::from(NO_ZEROES) == 0;
    for _ in 0..MOST_OPTIONS {
        if input.u64()? != OPTION {
            return Err(broken("no option where one must be"));
        }
        let (option, length) = (input.u32()?, input.u32()?);
        if length > LONGEST {
            return Err(broken(format!("an option of {length} bytes")));
        }
        let mut data = vec![0; length as usize];
        input.read_exact(&mut data)?;
        let mut reply = |kind: u32, data: &[u8]| answer(output, option, kind, data);
        match option {
            EXPORT_NAME => {
                let export = find(exports, &data).ok_or_else(|| broken("an export that is not there"))?;
                let mut bytes = description(export);
                bytes.resize(bytes.len() + if zeroes { 124 } else { 0 }, 0);
                output.write_all(&bytes)?;
                return Ok(Some(export));
            }
            ABORT => {
                reply(ACK, &[])?;
                return Ok(None);
            }
            LIST if length > 0 => reply(INVALID, b"a list takes no data")?,
            LIST => {
                for export in exports {
                    let name = export.name.as_bytes();
                    reply(SERVER, &[&(name.len() as u32).to_be_bytes(), name].concat())?;
                }
                reply(ACK, &[])?;
            }
            INFO | GO => match wanted(&data) {
                None => reply(INVALID, b"its lengths contradict one another")?,
                Some(name) => match find(exports, name) {
                    None => reply(UNKNOWN, b"there is no such export")?,
                    Some(export) => {
                        reply(INFORMATION, &[&INFO_EXPORT.to_be_bytes(), &description(export)[..]].concat())?;
                        let sizes = BLOCK_SIZES.map(u32::to_be_bytes).concat();
                        reply(INFORMATION, &[&INFO_BLOCK_SIZE.to_be_bytes(), &sizes[..]].concat())?;
                        reply(ACK, &[])?;
                        if option == GO {
                            return Ok(Some(export));
                        }
                    }
                },
            },
            _ => reply(UNSUPPORTED, &[])?,
        }
    }
    Err(broken("more options than any client needs"))
}

fn answer(output: &mut dyn Write, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let mut bytes = OPTION_REPLY.to_be_bytes().to_vec();
    for number in [option, kind, data.len() as u32] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(data);
    output.write_all(&bytes)
}

fn find<'a>(exports: &'a [Export], name: &[u8]) -> Option<&'a Export> {
    exports.iter().find(|export| export.name.as_bytes() == name)
}

/// Returns size and transmission flags of an export.
fn description(export: &Export) -> Vec<u8> {
    [&export.size().to_be_bytes()[..], &TRANSMISSION_FLAGS.to_be_bytes()].concat()
}

/// Returns the name in the data of NBD_OPT_INFO or NBD_OPT_GO; `None` if its lengths are wrong. Which information the client
/// asks for is not looked at, for it gets all there is.
fn wanted(data: &[u8]) -> Option<&[u8]> {
    let (length, rest) = data.split_first_chunk::<4>()?;
    let (name, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let (count, asked) = rest.split_first_chunk::<2>()?;
    (asked.len() == 2 * usize::from(u16::from_be_bytes(*count))).then_some(name)
}
