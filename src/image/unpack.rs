//! Reading an image: decompressed on all cores, its checksums verified, its blocks passed on in order.

use super::bitmap::{Bitmap, Growing};
use super::checksum::{BlockSum, Mode, Running, Sum};
use super::codec::{self, Input};
use super::container::{self, Header, MAP_MARK, MapMode, Version};
use super::{Error, Watch, legacy};

/// The parts of an image, in order.
pub enum Event<'a> {
    /// The map, once it and the header are read and sound; before any block.
    Begin(&'a Bitmap),
    /// Number of the first of some consecutive blocks, and their bytes.
    Blocks(u64, &'a [u8]),
}

/// Reads a whole image and calls `tell` with each part.
///
/// # Errors
/// The image is damaged or cut short, `tell` failed, or an end was asked for.
pub fn read(
    mut input: Input,
    ignore_checksums: bool,
    watch: &Watch,
    tell: &mut (dyn FnMut(&Header, Event) -> Result<(), Error> + Send),
) -> Result<Header, Error> {
    let codec = codec::recognise(input.peek(16)?);
    let name = input.name().to_owned();
    let mut unpacker = Unpacker::new(&name, ignore_checksums);
    codec::unpack(codec, &mut input, watch, &mut |bytes| unpacker.push(bytes, watch, tell))?;
    unpacker.finish()
}

/// Reads an image's header and map, and nothing after them.
///
/// # Errors
/// It is not an image, or it is damaged or cut short that early.
pub fn header(mut input: Input) -> Result<(Header, Bitmap), Error> {
    let codec = codec::recognise(input.peek(16)?);
    let name = input.name().to_owned();
    let mut unpacker = Unpacker::new(&name, false);
    let watch = Watch::idle();
    let mut begun = false;
    codec::unpack_while(codec, &mut input, &mut |bytes| {
        unpacker.push(bytes, &watch, &mut |_, event| {
            begun |= matches!(event, Event::Begin(_));
            Ok(())
        })?;
        Ok(!begun)
    })?;
    match (begun, unpacker) {
        (true, Unpacker { header: Some(header), map, .. }) => Ok((header, map)),
        (_, unpacker) => Err(unpacker.short()),
    }
}

/// Reads an image's header alone: all that a cut-off image may have.
///
/// # Errors
/// It is not an image, or it is damaged or cut short that early.
pub fn header_alone(mut input: Input) -> Result<Header, Error> {
    let codec = codec::recognise(input.peek(16)?);
    let name = input.name().to_owned();
    let mut unpacker = Unpacker::new(&name, false);
    codec::unpack_while(codec, &mut input, &mut |mut bytes| {
        unpacker.take_header(&mut bytes)?;
        Ok(unpacker.header.is_none())
    })?;
    match unpacker {
        Unpacker { header: Some(header), .. } => Ok(header),
        unpacker => Err(unpacker.short()),
    }
}

/// Largest map that is taken, without the pages that say nothing: 16 TiB in blocks of 4 KiB, every page of it mixed.
const MOST_MAP: usize = 512 << 20;

enum State {
    /// Collecting the header.
    Header,
    /// Reading the map; its bytes that are to come.
    Map { left: u64 },
    /// Collecting the map's check.
    Check { size: usize },
    /// Reading blocks.
    Blocks,
    /// Collecting a checksum.
    Sum { size: usize },
    /// All blocks have been read.
    Done,
}

/// Parses an image as its bytes arrive.
struct Unpacker<'a> {
    name: &'a str,
    ignore_checksums: bool,
    state: State,
    /// Bytes of an incomplete header, map, block or checksum.
    part: Vec<u8>,
    /// Offset of the next byte in the image before compression.
    at: u64,
    header: Option<Header>,
    /// The map as far as it has arrived, and its checksum.
    growing: Growing,
    map: Bitmap,
    map_sum: Running,
    /// Current run of used blocks: the next block, and how many are left.
    run: (u64, u64),
    /// Blocks until the next checksum, and first and last block since the previous one.
    unsummed: u32,
    summed: (u64, u64),
    sum: BlockSum,
}

impl Unpacker<'_> {
    fn new(name: &str, ignore_checksums: bool) -> Unpacker<'_> {
        Unpacker {
            name,
            ignore_checksums,
            state: State::Header,
            part: Vec::new(),
            at: 0,
            header: None,
            growing: Growing::default(),
            map: Bitmap::new(0),
            map_sum: Running::default(),
            run: (0, 0),
            unsummed: 0,
            summed: (0, 0),
            sum: BlockSum::None,
        }
    }

    fn damaged(&self, at: u64, why: impl Into<String>) -> Error {
        Error::Damaged { what: format!("the image in {}", self.name), at, why: why.into() }
    }

    /// Parses the image's next bytes.
    fn push(
        &mut self,
        mut bytes: &[u8],
        watch: &Watch,
        tell: &mut (dyn FnMut(&Header, Event) -> Result<(), Error> + Send),
    ) -> Result<(), Error> {
        let mut done = 0;
        while !bytes.is_empty() {
            let before = bytes.len();
            match self.state {
                State::Header => self.take_header(&mut bytes)?,
                State::Map { left } => self.grow_map(&mut bytes, left)?,
                State::Check { size } => {
                    if self.collect(&mut bytes, size) {
                        self.take_map(watch)?;
                        if let Some(header) = &self.header {
                            (watch.begin)(header);
                            tell(header, Event::Begin(&self.map))?;
                        }
                        self.start_blocks();
                    }
                }
                State::Blocks => done += self.take_blocks(&mut bytes, tell)?,
                State::Sum { size } => {
                    if self.collect(&mut bytes, size) {
                        self.check_sum()?;
                    }
                }
                State::Done => return Err(self.damaged(self.at, "bytes follow the last block")),
            }
            self.at += (before - bytes.len()) as u64;
        }
        (watch.progress)(done);
        Ok(())
    }

    /// Moves bytes to `part` until it has `size`; returns whether it has.
    fn collect(&mut self, bytes: &mut &[u8], size: usize) -> bool {
        let take = size.saturating_sub(self.part.len()).min(bytes.len());
        self.part.extend_from_slice(&bytes[..take]);
        *bytes = &bytes[take..];
        self.part.len() >= size
    }

    fn take_header(&mut self, bytes: &mut &[u8]) -> Result<(), Error> {
        if !self.collect(bytes, container::HEAD) {
            return Ok(());
        }
        let fault = |fault: container::Fault| match legacy::of(&self.part) {
            Some(legacy) => self.damaged(0, format!("an image of {}, not of partclone", legacy.program)),
            None => self.damaged(fault.at as u64, fault.why),
        };
        let size = container::header_size(&self.part).map_err(fault)?;
        if !self.collect(bytes, size) {
            return Ok(());
        }
        let header =
            Header::parse(&self.part).map_err(|fault: container::Fault| self.damaged(fault.at as u64, fault.why))?;
        self.part.clear();
        self.growing = Growing::new(header.blocks);
        self.state = match header.map_size() {
            0 => State::Check { size: header.map_check() as usize },
            left => State::Map { left },
        };
        self.header = Some(header);
        Ok(())
    }

    /// Takes the next bytes of the map, of which `left` are to come.
    fn grow_map(&mut self, bytes: &mut &[u8], left: u64) -> Result<(), Error> {
        let Some(header) = &self.header else { return Ok(()) };
        let (now, later) = bytes.split_at(left.min(bytes.len() as u64) as usize);
        *bytes = later;
        self.map_sum.update(now);
        match header.map {
            MapMode::Byte => self.growing.push_flags(now),
            MapMode::Bit | MapMode::None => self.growing.push(now),
        }
        if self.growing.mixed() > MOST_MAP {
            return Err(self.damaged(self.at, format!("a map of more than {MOST_MAP} bytes is not supported")));
        }
        self.state = match left - now.len() as u64 {
            0 => State::Check { size: header.map_check() as usize },
            left => State::Map { left },
        };
        Ok(())
    }

    fn take_map(&mut self, watch: &Watch) -> Result<(), Error> {
        let growing = std::mem::take(&mut self.growing);
        let Some(header) = &mut self.header else { return Ok(()) };
        self.map = match header.map {
            MapMode::None => {
                let mut all = Bitmap::new(header.blocks);
                all.set(0, header.blocks);
                all
            }
            MapMode::Bit | MapMode::Byte => growing.finish().unwrap_or_default(),
        };
        let sound = match (header.version, header.map) {
            (_, MapMode::None) => true,
            (Version::One, _) => self.part == MAP_MARK,
            (Version::Two, _) => self.part == self.map_sum.value().to_le_bytes(),
        };
        let (used, counted) = (self.map.used(), header.used_by_map);
        header.used_by_map = used;
        let told = header.version == Version::Two && header.map != MapMode::None;
        if !sound {
            return Err(self.damaged(self.at, "the map of used blocks does not fit its checksum"));
        }
        // The blocks are in the image by the map, whatever its maker counted.
        if told && used != counted {
            let name = self.name;
            (watch.note)(&format!(
                "the image in {name}: its map has {used} used blocks, its header {counted}; the map counts"
            ));
        }
        Ok(())
    }

    fn start_blocks(&mut self) {
        self.part = Vec::new();
        self.unsummed = self.header.as_ref().map_or(0, |header| header.blocks_per_checksum);
        self.sum = BlockSum::new(self.header.as_ref().map_or(Mode::None, |header| header.checksum));
        self.next_run();
    }

    /// Goes to the next used block, or to the end.
    fn next_run(&mut self) {
        if self.run.1 == 0 {
            match self.map.next_run(self.run.0) {
                Some(run) => self.run = run,
                None => self.run = (self.map.blocks(), 0),
            }
        }
        let size = self.header.as_ref().map_or(0, |header| header.checksum.size());
        let whole = self.header.as_ref().map_or(0, |header| header.blocks_per_checksum);
        self.state = match (self.run.1, size) {
            (_, 1..) if self.unsummed == 0 => State::Sum { size },
            (0, 1..) if self.unsummed < whole => State::Sum { size },
            (0, _) => State::Done,
            _ => State::Blocks,
        };
    }

    /// Takes blocks from `bytes`, whole ones without copying; returns the number of bytes in whole blocks.
    fn take_blocks(
        &mut self,
        bytes: &mut &[u8],
        tell: &mut (dyn FnMut(&Header, Event) -> Result<(), Error> + Send),
    ) -> Result<u64, Error> {
        let Some(header) = self.header.clone() else { return Ok(0) };
        let size = header.block_size as usize;
        let most = match header.checksum {
            Mode::None => self.run.1,
            _ => self.run.1.min(u64::from(self.unsummed)),
        };
        let whole = most.min((bytes.len() / size) as u64);
        if self.part.is_empty() && whole > 0 {
            let (blocks, rest) = bytes.split_at(whole as usize * size);
            *bytes = rest;
            self.pass_on(&header, blocks, whole, tell)?;
            return Ok(blocks.len() as u64);
        }
        if !self.collect(bytes, size) {
            return Ok(0);
        }
        let block = std::mem::take(&mut self.part);
        self.pass_on(&header, &block, 1, tell)?;
        self.part = block;
        self.part.clear();
        Ok(size as u64)
    }

    fn pass_on(
        &mut self,
        header: &Header,
        blocks: &[u8],
        count: u64,
        tell: &mut (dyn FnMut(&Header, Event) -> Result<(), Error> + Send),
    ) -> Result<(), Error> {
        self.sum.update(blocks, header.block_size as usize);
        let first = self.run.0;
        if self.unsummed == header.blocks_per_checksum {
            self.summed.0 = first;
        }
        self.summed.1 = first + count - 1;
        if header.checksum != Mode::None {
            self.unsummed -= count as u32;
        }
        self.run = (first + count, self.run.1 - count);
        tell(header, Event::Blocks(first, blocks))?;
        self.next_run();
        Ok(())
    }

    fn check_sum(&mut self) -> Result<(), Error> {
        let Some(header) = &self.header else { return Ok(()) };
        let (stored, sum) = (Sum::of(header.checksum, &self.part), self.sum.value());
        self.part.clear();
        if stored != sum && !self.ignore_checksums {
            let why = format!("the checksum of blocks {} to {} is {sum}, not {stored}", self.summed.0, self.summed.1);
            return Err(self.damaged(self.at, why));
        }
        self.unsummed = header.blocks_per_checksum;
        if header.reseed {
            self.sum = BlockSum::new(header.checksum);
        }
        self.next_run();
        Ok(())
    }

    /// Returns the header if all blocks have been read.
    fn finish(self) -> Result<Header, Error> {
        match self {
            Unpacker { state: State::Done, header: Some(header), .. } => Ok(header),
            unpacker => Err(unpacker.short()),
        }
    }

    /// Returns the error of an image that ends here.
    fn short(&self) -> Error {
        let within = match self.state {
            State::Header => "the header".to_owned(),
            State::Map { .. } | State::Check { .. } => "the map of used blocks".to_owned(),
            _ => format!("block {} of {}", self.run.0, self.map.blocks()),
        };
        self.damaged(self.at, format!("cut short within {within}"))
    }
}
