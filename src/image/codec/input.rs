//! A compressed file or stream, read once.

use std::io::{self, Read};

use super::packed::Packed;
use crate::image::Error;
use crate::image::place::Place;

/// A compressed file or stream, read once from its beginning.
pub struct Input {
    read: Box<dyn Read + Send>,
    name: String,
    /// Where its bytes lie, if that is known.
    places: Vec<Place>,
    /// Read but not yet taken: `ahead[from..]`.
    ahead: Vec<u8>,
    from: usize,
    pub(super) at: u64,
}

impl Input {
    /// Returns an input that reads from `read`, called `name` in errors.
    pub fn new(read: Box<dyn Read + Send>, name: &str) -> Input {
        Input { read, name: name.to_owned(), places: Vec::new(), ahead: Vec::new(), from: 0, at: 0 }
    }

    /// Returns it with the places where its bytes lie, which nothing may be restored to meanwhile.
    pub fn lying(self, places: Vec<Place>) -> Input {
        Input { places, ..self }
    }

    /// Returns where its bytes lie, as far as that is known.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Returns its name in errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the number of bytes taken so far.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Returns an error at byte `at`.
    pub fn damaged(&self, at: u64, why: String) -> Error {
        Error::Damaged { what: self.name.clone(), at, why }
    }

    /// Returns the next bytes without taking them: `count` or more, fewer only at the end.
    pub fn peek(&mut self, count: usize) -> Result<&[u8], Error> {
        if self.ahead.len() - self.from < count {
            self.ahead.drain(..self.from);
            self.from = 0;
        }
        // Read ahead: headers are taken byte by byte.
        let have = self.ahead.len();
        let lacks = count.saturating_sub(have - self.from);
        if lacks > 0 {
            self.ahead.resize(have + lacks.max(4096), 0);
            let mut got = 0;
            while got < lacks {
                match self.read.read(&mut self.ahead[have + got..]) {
                    Ok(0) => break,
                    Ok(count) => got += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(Error::io(format!("read {} at byte {}", self.name, self.at), error)),
                }
            }
            self.ahead.truncate(have + got);
        }
        Ok(&self.ahead[self.from..])
    }

    /// Whether no bytes are left.
    pub fn at_end(&mut self) -> Result<bool, Error> {
        Ok(self.peek(1)?.is_empty())
    }

    /// Takes `count` of the bytes that [`Input::peek`] returned.
    pub fn skip(&mut self, count: usize) {
        let count = count.min(self.ahead.len() - self.from);
        self.from += count;
        self.at += count as u64;
    }

    /// Takes one byte of `what`.
    pub fn byte(&mut self, what: &str) -> Result<u8, Error> {
        self.peek(1)?;
        let byte = *self.ahead.get(self.from).ok_or_else(|| self.short(what))?;
        self.from += 1;
        self.at += 1;
        Ok(byte)
    }

    /// Takes a big-endian number of `what`.
    pub fn u32_be(&mut self, what: &str) -> Result<u32, Error> {
        let mut value = 0;
        for byte in self.array::<4>(what)? {
            value = value << 8 | u32::from(byte);
        }
        Ok(value)
    }

    /// Takes the next `N` bytes, which are of `what`.
    pub fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Error> {
        if self.peek(N)?.len() < N {
            return Err(self.short(what));
        }
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.ahead[self.from..self.from + N]);
        self.from += N;
        self.at += N as u64;
        Ok(bytes)
    }

    /// Takes exactly `len` bytes of `what` into the front of `buffer`, which grows no faster than bytes arrive.
    pub fn fill(&mut self, buffer: &mut Vec<u8>, len: usize, what: &str) -> Result<(), Error> {
        if self.take(buffer, len)? < len {
            return Err(self.short(what));
        }
        Ok(())
    }

    /// Takes exactly `len` bytes of `what` and appends them to `packed`.
    pub fn append(&mut self, packed: &mut Packed, len: usize, what: &str) -> Result<(), Error> {
        let got = self.take_behind(&mut packed.data, packed.used, len)?;
        packed.used += got;
        if got < len { Err(self.short(what)) } else { Ok(()) }
    }

    /// Takes up to `len` bytes into the front of `buffer`: fewer only at the end.
    pub fn take(&mut self, buffer: &mut Vec<u8>, len: usize) -> Result<usize, Error> {
        self.take_behind(buffer, 0, len)
    }

    fn take_behind(&mut self, buffer: &mut Vec<u8>, start: usize, len: usize) -> Result<usize, Error> {
        const STEP: usize = 256 << 10;
        let mut got = 0;
        while got < len {
            let want = (len - got).min(STEP.max(got));
            let place = start + got..start + got + want;
            if buffer.len() < place.end {
                buffer.resize(place.end, 0);
            }
            let (to, ahead) = (&mut buffer[place], &self.ahead[self.from..]);
            let ready = ahead.len().min(want);
            to[..ready].copy_from_slice(&ahead[..ready]);
            self.from += ready;
            let read = read_full(&mut self.read, &mut to[ready..]).map_err(|error| {
                Error::io(format!("read {} at byte {}", self.name, self.at + (got + ready) as u64), error)
            })?;
            got += ready + read;
            if ready + read < want {
                break;
            }
        }
        self.at += got as u64;
        Ok(got)
    }

    fn short(&self, what: &str) -> Error {
        let end = self.at + (self.ahead.len() - self.from) as u64;
        self.damaged(end, format!("cut short within {what}"))
    }
}

/// Returns the little-endian number at the beginning of `bytes`; 0 if they are too short.
pub fn u32_le(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |four| u32::from_le_bytes(*four))
}

/// Reads until `to` is full or the end is reached; returns the number of bytes read.
pub fn read_full(read: &mut dyn Read, to: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < to.len() {
        match read.read(&mut to[got..]) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}
