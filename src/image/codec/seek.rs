//! Random access to a compressed file: the offsets of its pieces come from a table, or from reading the file once.
//!
//! The table is that of zstd's "seekable format": after the frames of a zstd file, or in a file of its own beside one
//! of lzop (`X.img.idx`). Each piece read is checked against it; a wrong table that passes is for the caller to notice
//! ([`Pieces::table`]).

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Codec, Input, Piece, Split, Unpacked, lzop, zstd};
use crate::image::Error;

/// Most pieces in memory: 32 MiB, enough for half a TiB in lzop's.
const MOST: usize = 1 << 21;

/// Returns the path of the index of the file at `path`.
pub fn index_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".idx");
    PathBuf::from(name)
}

/// Returns the bytes of a file's index; `None` if the format has its own.
pub fn index(codec: &Codec, pieces: &[Piece]) -> Option<Vec<u8>> {
    (codec.name == "lzop").then(|| {
        let mut bytes = Vec::new();
        zstd::write_table(pieces, &mut bytes);
        bytes
    })
}

/// A compressed file with random access.
pub struct Pieces {
    file: Arc<File>,
    name: String,
    codec: &'static Codec,
    /// Holds the state from the file's header.
    split: Box<dyn Split>,
    /// Offset of each piece in the file and in the expanded content, and the end of the last one.
    starts: Vec<(u64, u64)>,
    table: bool,
    /// The piece expanded last, and its number.
    piece: Unpacked,
    loaded: Option<usize>,
}

impl Pieces {
    /// Opens a file that expands to `plain` bytes: by its table (if `trust`), else by reading it once, after a line to
    /// `say`.
    ///
    /// # Errors
    /// It cannot be read or is damaged, or is a stream that can only be read in order.
    pub fn open(file: File, path: &Path, plain: u64, trust: bool, say: fn(&str)) -> Result<Pieces, Error> {
        let name = path.display().to_string();
        let file = Arc::new(file);
        let mut input = input(&file, &name, 0);
        let codec = super::recognise(input.peek(16)?);
        let (split, piece) = ((codec.split)(), Unpacked::default());
        let mut pieces = Pieces { file, name, codec, split, starts: Vec::new(), table: false, piece, loaded: None };
        if codec.expand.is_none() {
            return Ok(pieces);
        }
        // This reads the header, and shows where pieces begin.
        let packed = &mut pieces.piece.packed;
        let first = pieces.split.next(&mut input, packed)?.then_some(packed.at);
        if packed.streamed {
            return Err(pieces.ordered());
        }
        let table = first.filter(|_| trust).and_then(|first| pieces.by_table(path, first, plain));
        match table {
            Some(starts) => (pieces.starts, pieces.table) = (starts, true),
            None => {
                say(&format!("{}: no index that fits: it is read once to find its blocks", pieces.name));
                pieces.scan()?;
            }
        }
        Ok(pieces)
    }

    /// Whether the offsets come from a table, not from the file itself.
    pub fn table(&self) -> bool {
        self.table
    }

    /// Reads the whole file for the offsets of its pieces.
    ///
    /// # Errors
    /// See [`Pieces::open`].
    pub fn scan(&mut self) -> Result<(), Error> {
        let mut input = input(&self.file, &self.name, 0);
        (self.starts, self.table, self.loaded) = (Vec::new(), false, None);
        self.split = (self.codec.split)();
        let mut end = (0, 0);
        let piece = &mut self.piece;
        while self.split.next(&mut input, &mut piece.packed)? {
            let apart = !self.starts.is_empty() && piece.packed.at != end.0;
            if piece.packed.streamed || apart || self.starts.len() == MOST {
                return Err(self.ordered());
            }
            // lz4's blocks do not say what they expand to.
            let plain = match self.codec.summed {
                true => piece.size(self.codec, &self.name)?,
                false => piece.packed.plain as u64,
            };
            self.starts.push((piece.packed.at, end.1));
            end = (input.at(), end.1 + plain);
        }
        self.starts.push(end);
        // A splitter that has read the header and is not at the end.
        self.split = (self.codec.split)();
        self.split.next(&mut self::input(&self.file, &self.name, 0), &mut self.piece.packed)?;
        Ok(())
    }

    /// Returns the error of a file that can only be read in order.
    fn ordered(&self) -> Error {
        let (name, codec) = (&self.name, self.codec.name);
        Error::Refused(format!(
            "{name}: this {codec} stream can only be read in order: make one with random access by `ogbox image convert \
             {name} -o OTHER`"
        ))
    }

    /// Returns the offsets in a table for pieces from byte `first` on, if they fit the file's size and `plain`.
    fn by_table(&self, path: &Path, first: u64, plain: u64) -> Option<Vec<(u64, u64)>> {
        let size = self.file.metadata().ok()?.len();
        let (table, rest) = match self.codec.name {
            "zstd" => {
                let table = zstd::read_table(&self.file, size, MOST)?;
                let length = zstd::table_size(table.len());
                (table, length)
            }
            "lzop" => {
                let file = File::open(index_of(path)).ok()?;
                let size = file.metadata().ok()?.len();
                let table = zstd::read_table(&file, size, MOST)?;
                (zstd::table_size(table.len()) == size).then_some((table, lzop::END))?
            }
            _ => return None,
        };
        let mut end = (first, 0);
        let mut starts = Vec::with_capacity(table.len() + 1);
        for (number, piece) in table.iter().enumerate() {
            // All have the size that our writer uses, so that no piece can be taken for another.
            if number + 1 < table.len() && piece.plain as usize != self.codec.piece {
                return None;
            }
            starts.push(end);
            end = (end.0 + u64::from(piece.packed), end.1 + u64::from(piece.plain));
        }
        starts.push(end);
        (end == (size.checked_sub(rest)?, plain)).then_some(starts)
    }

    /// Fills `to` with the expanded content from byte `at` on.
    ///
    /// # Errors
    /// The file is damaged, cannot be read, or ends before; or the table is wrong.
    pub fn read(&mut self, mut to: &mut [u8], mut at: u64) -> Result<(), Error> {
        if self.codec.expand.is_none() {
            let read = self.file.read_exact_at(to, at);
            return read.map_err(|error| Error::io(format!("read {} at byte {at}", self.name), error));
        }
        while !to.is_empty() {
            let number = self.starts.partition_point(|start| start.1 <= at).saturating_sub(1);
            let start = self.starts.get(number).map_or(0, |start| start.1);
            let plain = self.load(number)?;
            let from = (at - start) as usize;
            let take = plain.len().saturating_sub(from).min(to.len());
            let (now, later) = to.split_at_mut(take);
            now.copy_from_slice(&plain[from..from + take]);
            (to, at) = (later, at + take as u64);
        }
        Ok(())
    }

    fn load(&mut self, number: usize) -> Result<&[u8], Error> {
        let (Some(&start), Some(&end)) = (self.starts.get(number), self.starts.get(number + 1)) else {
            let end = self.starts.last().map_or(0, |end| end.0);
            return Err(Error::Damaged { what: self.name.clone(), at: end, why: "it ends too early".to_owned() });
        };
        if self.loaded != Some(number) {
            self.loaded = None;
            let mut input = input(&self.file, &self.name, start.0);
            let more = self.split.next(&mut input, &mut self.piece.packed)?;
            let packed = &self.piece.packed;
            let fits = more && !packed.streamed && packed.at == start.0 && input.at() == end.0;
            let length = if fits { self.piece.size(self.codec, &self.name)? } else { 0 };
            if !fits || length != end.1 - start.1 {
                return Err(input.damaged(start.0, "another block than the index says".to_owned()));
            }
            self.loaded = Some(number);
        }
        Ok(self.piece.plain(self.codec))
    }
}

impl Unpacked {
    /// Expands the piece; returns its plain size, bytes.
    fn size(&mut self, codec: &Codec, name: &str) -> Result<u64, Error> {
        self.expand(codec, name)?;
        Ok(self.plain(codec).len() as u64)
    }
}

/// Returns the file from byte `at` on.
fn input(file: &Arc<File>, name: &str, at: u64) -> Input {
    let mut input = Input::new(Box::new(From { file: Arc::clone(file), at }), name);
    input.at = at;
    input
}

struct From {
    file: Arc<File>,
    at: u64,
}

impl Read for From {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(to, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
