//! Bencode (BEP 3): a decoder that borrows and an encoder that sorts.
//!
//! Decoding walks the bytes once, checks all of them and gives back a [`Value`]: a span known to be well
//! formed, whose parts are found by walking it again. Nothing is copied or allocated for the value, so
//! hostile input costs no more memory than it has bytes, and the walk keeps its own small stack
//! ([`MAX_DEPTH`]), so nesting costs no recursion.
//!
//! Strict: integers and string lengths have no leading zero, no minus zero, no sign but `-`, and integers
//! fit 64 bits with sign; a key occurs once in a dictionary. Tolerant: keys may be in any order, because
//! creators exist that do not sort, and the info-hash is taken over the bytes as found.

use std::ops::Range;

use super::{Error, Fault};
use crate::base::sort::{sort, sort_by};

/// Lists and dictionaries inside each other, the outermost included.
pub const MAX_DEPTH: usize = 64;

/// A well-formed bencoded value inside the bytes it was decoded from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    raw: &'a [u8],
    at: usize,
}

/// Decodes a value that takes up all of `bytes`.
///
/// # Errors
/// [`Error::Bencode`] with the offset of the first fault; bytes after the value are one.
pub fn decode(bytes: &[u8]) -> Result<Value<'_>, Error> {
    let (value, taken) = decode_prefix(bytes)?;
    match taken == bytes.len() {
        true => Ok(value),
        false => Err(Error::Bencode { at: taken, fault: Fault::Trailing }),
    }
}

/// Decodes the value at the front of `bytes` and returns it with the number of bytes it took; the rest is the
/// caller's (a metadata message of BEP 9 carries its payload there).
///
/// # Errors
/// [`Error::Bencode`] with the offset of the first fault.
pub fn decode_prefix(bytes: &[u8]) -> Result<(Value<'_>, usize), Error> {
    let taken = check(bytes).map_err(|(at, fault)| Error::Bencode { at, fault })?;
    Ok((Value { raw: &bytes[..taken], at: 0 }, taken))
}

impl<'a> Value<'a> {
    /// The value's own bytes, as found.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Offset of the value in the bytes that were decoded.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The integer, if it is one.
    pub fn int(&self) -> Option<i64> {
        match self.raw.first() {
            Some(b'i') => integer(self.raw, 0).ok().map(|(value, _)| value),
            _ => None,
        }
    }

    /// The string's bytes, if it is one.
    pub fn bytes(&self) -> Option<&'a [u8]> {
        match self.raw.first() {
            Some(b'0'..=b'9') => string(self.raw, 0).ok().and_then(|span| self.raw.get(span)),
            _ => None,
        }
    }

    /// The string as text, if it is one and UTF-8.
    pub fn str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// The elements, if it is a list.
    pub fn list(&self) -> Option<impl Iterator<Item = Value<'a>> + use<'a>> {
        let mut items = self.items(b'l')?;
        Some(std::iter::from_fn(move || items.next()))
    }

    /// The keys and values in the order found, if it is a dictionary.
    pub fn dict(&self) -> Option<impl Iterator<Item = (&'a [u8], Value<'a>)> + use<'a>> {
        let mut items = self.items(b'd')?;
        Some(std::iter::from_fn(move || Some((items.next()?.bytes()?, items.next()?))))
    }

    /// The value of `key`, if it is a dictionary that has it.
    pub fn get(&self, key: &[u8]) -> Option<Value<'a>> {
        self.dict()?.find(|(found, _)| *found == key).map(|(_, value)| value)
    }

    fn items(&self, kind: u8) -> Option<Items<'a>> {
        (self.raw.first() == Some(&kind)).then_some(Items { raw: self.raw, at: self.at, next: 1 })
    }
}

impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.raw.escape_ascii())
    }
}

/// The values between the opening letter of a well-formed list or dictionary and its `e`.
struct Items<'a> {
    raw: &'a [u8],
    at: usize,
    next: usize,
}

impl<'a> Iterator for Items<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let begin = self.next;
        self.next = skip(self.raw, begin)?;
        Some(Value { raw: &self.raw[begin..self.next], at: self.at + begin })
    }
}

type Checked<T> = Result<T, (usize, Fault)>;

/// The integer whose `i` is at `at`, and the offset after its `e`.
fn integer(bytes: &[u8], at: usize) -> Checked<(i64, usize)> {
    let digits_at = at + 1 + usize::from(bytes.get(at + 1) == Some(&b'-'));
    let digits = bytes[digits_at.min(bytes.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let end = digits_at + digits;
    match bytes.get(end) {
        None => return Err((bytes.len(), Fault::End)),
        Some(b'e') if digits > 0 => {}
        Some(_) => return Err((at, Fault::Integer)),
    }
    let negative = digits_at == at + 2;
    if bytes[digits_at] == b'0' && (digits > 1 || negative) {
        return Err((at, Fault::Integer));
    }
    let mut value = 0i64;
    for digit in &bytes[digits_at..end] {
        let digit = i64::from(digit - b'0');
        value = value
            .checked_mul(10)
            .and_then(|value| if negative { value.checked_sub(digit) } else { value.checked_add(digit) })
            .ok_or((at, Fault::Range))?;
    }
    Ok((value, end + 1))
}

/// The span of the string whose length begins at `at`.
fn string(bytes: &[u8], at: usize) -> Checked<Range<usize>> {
    let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    match bytes.get(at + digits) {
        None => return Err((bytes.len(), Fault::End)),
        Some(b':') if digits > 0 && (digits == 1 || bytes[at] != b'0') => {}
        Some(_) => return Err((at, Fault::StringLength)),
    }
    let says = bytes[at..at + digits]
        .iter()
        .try_fold(0u64, |length, digit| length.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
        .ok_or((at, Fault::StringLength))?;
    let begin = at + digits + 1;
    let left = bytes.len() - begin;
    match usize::try_from(says) {
        Ok(length) if length <= left => Ok(begin..begin + length),
        _ => Err((at, Fault::Short { says, left })),
    }
}

/// A list or dictionary that the walk is inside of.
#[derive(Clone, Copy, Default)]
struct Open {
    begin: usize,
    dict: bool,
    /// A key has been read and its value has not.
    keyed: bool,
    /// Span of the last key read, and whether all keys came in ascending order.
    key: Option<(usize, usize)>,
    unsorted: bool,
}

/// Walks the value at the front of `bytes`; returns the offset after it.
fn check(bytes: &[u8]) -> Checked<usize> {
    let mut stack = [Open::default(); MAX_DEPTH];
    let (mut depth, mut at) = (0usize, 0usize);
    loop {
        let byte = *bytes.get(at).ok_or((at, Fault::End))?;
        if let Some(open) = depth.checked_sub(1).map(|top| &mut stack[top]) {
            if byte == b'e' {
                if open.keyed {
                    return Err((at, Fault::KeyWithoutValue));
                }
                at += 1;
                if open.unsorted && has_key_twice(&bytes[open.begin..at]) {
                    return Err((open.begin, Fault::Twice));
                }
                depth -= 1;
                if depth == 0 {
                    return Ok(at);
                }
                continue;
            }
            if open.dict && !open.keyed {
                if !byte.is_ascii_digit() {
                    return Err((at, Fault::Key));
                }
                let span = string(bytes, at)?;
                if let Some((begin, end)) = open.key {
                    match bytes[begin..end].cmp(&bytes[span.clone()]) {
                        std::cmp::Ordering::Less => {}
                        std::cmp::Ordering::Equal => return Err((open.begin, Fault::Twice)),
                        std::cmp::Ordering::Greater => open.unsorted = true,
                    }
                }
                at = span.end;
                (open.key, open.keyed) = (Some((span.start, span.end)), true);
                continue;
            }
            open.keyed = false;
        }
        match byte {
            b'i' => at = integer(bytes, at)?.1,
            b'0'..=b'9' => at = string(bytes, at)?.end,
            b'l' | b'd' => {
                let open = stack.get_mut(depth).ok_or((at, Fault::Deep))?;
                *open = Open { begin: at, dict: byte == b'd', ..Open::default() };
                depth += 1;
                at += 1;
                continue;
            }
            _ => return Err((at, Fault::Start(byte))),
        }
        if depth == 0 {
            return Ok(at);
        }
    }
}

/// Offset after the well-formed value at `at`; `None` at the `e` that closes its container.
fn skip(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0usize;
    loop {
        match *bytes.get(at)? {
            b'i' => at = integer(bytes, at).ok()?.1,
            b'0'..=b'9' => at = string(bytes, at).ok()?.end,
            b'e' => (depth, at) = (depth.checked_sub(1)?, at + 1),
            _ => (depth, at) = (depth + 1, at + 1),
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// Whether a key occurs twice. Ascending keys show a repetition as they pass; others are sorted here, once, when
/// their dictionary closes.
fn has_key_twice(dict: &[u8]) -> bool {
    let mut keys: Vec<&[u8]> = Value { raw: dict, at: 0 }.dict().into_iter().flatten().map(|(key, _)| key).collect();
    sort(&mut keys);
    keys.windows(2).any(|pair| pair[0] == pair[1])
}

/// Writes bencode. Dictionaries come out sorted, in whatever order their keys were given.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    out: Vec<u8>,
}

impl Encoder {
    /// Creates an empty encoder.
    pub fn new() -> Encoder {
        Encoder::default()
    }

    /// Creates an encoder that appends to `out`, whose capacity is reused.
    pub fn onto(out: Vec<u8>) -> Encoder {
        Encoder { out }
    }

    /// The bytes written.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    /// Writes an integer.
    pub fn int(&mut self, value: i64) {
        self.out.push(b'i');
        self.decimal(value.unsigned_abs(), value < 0);
        self.out.push(b'e');
    }

    /// Writes a string.
    pub fn bytes(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.decimal(bytes.len() as u64, false);
        self.out.push(b':');
        self.out.extend_from_slice(bytes);
    }

    /// Writes a string of parts that are equally long, as compact lists of peers are (BEP 23).
    pub fn packed<const N: usize>(&mut self, parts: impl Iterator<Item = [u8; N]> + Clone) {
        let length = parts.clone().count() * N;
        self.decimal(length as u64, false);
        self.out.push(b':');
        let begin = self.out.len();
        self.out.resize(begin + length, 0);
        // Each part is one assignment; appending it would be a call of memcpy.
        let (places, _) = self.out[begin..].as_chunks_mut();
        places.iter_mut().zip(parts).for_each(|(place, part)| *place = part);
    }

    /// Writes a value that is bencoded already.
    pub fn raw(&mut self, bencoded: &[u8]) {
        self.out.extend_from_slice(bencoded);
    }

    /// Writes a list of the values that `fill` writes.
    pub fn list(&mut self, fill: impl FnOnce(&mut Encoder)) {
        self.out.push(b'l');
        fill(self);
        self.out.push(b'e');
    }

    /// Writes a dictionary of the entries that `fill` writes.
    pub fn dict(&mut self, fill: impl FnOnce(&mut Dict)) {
        let begin = self.out.len();
        self.out.push(b'd');
        let mut dict = Dict { encoder: self, key: None, unsorted: false };
        fill(&mut dict);
        let unsorted = dict.unsorted;
        self.out.push(b'e');
        if unsorted {
            self.sort(begin);
        }
    }

    /// Sorts the dictionary that begins at `begin`; of a repeated key the last value stays.
    fn sort(&mut self, begin: usize) {
        let dict = self.out.split_off(begin);
        let value = Value { raw: &dict, at: 0 };
        let mut entries: Vec<(&[u8], Value)> = value.dict().into_iter().flatten().collect();
        sort_by(&mut entries, |one, other| (one.0, other.1.at()) < (other.0, one.1.at()));
        entries.dedup_by_key(|(key, _)| *key);
        self.out.push(b'd');
        for (key, value) in entries {
            self.bytes(key);
            self.raw(value.raw);
        }
        self.out.push(b'e');
    }

    fn decimal(&mut self, mut value: u64, negative: bool) {
        let mut digits = [0u8; 21];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        if negative {
            at -= 1;
            digits[at] = b'-';
        }
        self.out.extend_from_slice(&digits[at..]);
    }
}

/// A dictionary being written.
pub struct Dict<'e> {
    encoder: &'e mut Encoder,
    /// Span of the last key in the encoder's bytes.
    key: Option<Range<usize>>,
    unsorted: bool,
}

impl Dict<'_> {
    /// Writes `key`; the caller writes exactly one value after it.
    pub fn key(&mut self, key: impl AsRef<[u8]>) -> &mut Encoder {
        let key = key.as_ref();
        self.unsorted |= self.key.take().is_some_and(|last| self.encoder.out[last] >= *key);
        self.encoder.bytes(key);
        let end = self.encoder.out.len();
        self.key = Some(end - key.len()..end);
        self.encoder
    }

    /// Writes an integer under `key`.
    pub fn int(&mut self, key: impl AsRef<[u8]>, value: i64) {
        self.key(key).int(value);
    }

    /// Writes a string under `key`.
    pub fn bytes(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.key(key).bytes(value);
    }

    /// Writes a string of equally long parts under `key`.
    pub fn packed<const N: usize>(&mut self, key: impl AsRef<[u8]>, parts: impl Iterator<Item = [u8; N]> + Clone) {
        self.key(key).packed(parts);
    }

    /// Writes a list under `key`.
    pub fn list(&mut self, key: impl AsRef<[u8]>, fill: impl FnOnce(&mut Encoder)) {
        self.key(key).list(fill);
    }

    /// Writes a dictionary under `key`.
    pub fn dict(&mut self, key: impl AsRef<[u8]>, fill: impl FnOnce(&mut Dict)) {
        self.key(key).dict(fill);
    }
}

#[cfg(test)]
mod tests;
