//! Numbers of the NBD protocol, big-endian, and reading them from a connection.

use std::io::{self, Read};

/// "NBDMAGIC", the server's first word.
pub const MAGIC: u64 = 0x4e42_444d_4147_4943;
/// "IHAVEOPT", before each option and after [`MAGIC`].
pub const OPTION: u64 = 0x4948_4156_454f_5054;
/// Before each reply to an option.
pub const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
/// Before each request, and before each simple reply.
pub const REQUEST: u32 = 0x2560_9513;
pub const REPLY: u32 = 0x6744_6698;

/// Handshake flags of both sides: fixed newstyle negotiation; no zeroes after NBD_OPT_EXPORT_NAME.
pub const FIXED_NEWSTYLE: u16 = 1;
pub const NO_ZEROES: u16 = 2;

/// Transmission flags: NBD_FLAG_HAS_FLAGS, READ_ONLY, SEND_FLUSH, CAN_MULTI_CONN and SEND_CACHE.
pub const TRANSMISSION_FLAGS: u16 = 1 | 1 << 1 | 1 << 2 | 1 << 8 | 1 << 10;

/// Smallest, preferred and largest length of a read, bytes.
pub const BLOCK_SIZES: [u32; 3] = [1, 64 << 10, 32 << 20];

/// Reads a big-endian number.
pub trait ReadNumber: Read {
    fn u16(&mut self) -> io::Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> io::Result<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl<R: Read + ?Sized> ReadNumber for R {}

/// Returns the error of a client that breaks the protocol.
pub fn broken(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}
