//! Instructions of the hot paths, as valgrind counts them: the same on any machine and under any load, so that speed
//! is held like a test. `make counts` compares them with the figures in `benches/counts/`.
//!
//! Nothing here may depend on the processor: the lanes' instruction set is named, and what chooses by the processor is
//! not counted. The AVX2 figure needs one that has AVX2; the SHA extensions and AVX-512 are unknown to valgrind.
//! Inputs are made before the count begins, and what a function returns is dropped after it ends.
#![allow(missing_docs)] // of the modules that gungraun's macros make

use std::fmt;
use std::hint::black_box;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use gungraun::{library_benchmark, library_benchmark_group, main};
use kernels::lanes::{Kernel, Lanes};
use kernels::lzo1x;
use ogbox::base::rng::Rng;
use ogbox::image::fs;
use ogbox::image::source::Source;
use ogbox::peer::wire::Message;
use ogbox::swarm::{Action, Block, Config, PeerKey, Swarm, Traits, Verified};
use ogbox::torrent::{BLOCK, Bitfield, Geometry, InfoHash, PeerId};
use ogbox::tracker::message::Event;
use ogbox::tracker::server::store::{Rules, Store};
use ogbox::tracker::udp::{Announce, Request, announce_reply};

/// Bytes of a piece.
const PIECE: usize = 256 << 10;

/// Pieces for as many lanes as `kernel` has, and those lanes, which have looked at the processor already.
fn pieces(kernel: Kernel) -> (Vec<Vec<u8>>, Lanes) {
    // Next to no instructions where the processor lacks some: `scripts/counts` knows it by that.
    if !Kernel::available().contains(&kernel) {
        return (Vec::new(), Lanes::with(kernel, 0));
    }
    let mut rng = Rng::new(1);
    let mut lanes = Lanes::with(kernel, kernel.width());
    lanes.finish(&vec![&[][..]; kernel.width()], &mut vec![[0; 20]; kernel.width()]);
    let piece = |_| (0..PIECE / 8).flat_map(|_| rng.bits().to_le_bytes()).collect();
    ((0..kernel.width()).map(piece).collect(), lanes)
}

#[library_benchmark]
#[bench::sse2(args = (Kernel::Sse2), setup = pieces)]
#[bench::avx2(args = (Kernel::Avx2), setup = pieces)]
#[bench::portable(args = (Kernel::Portable), setup = pieces)]
fn pieces_hashed((pieces, mut lanes): (Vec<Vec<u8>>, Lanes)) -> impl Sized {
    let messages: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    let mut digests = vec![[0; 20]; pieces.len()];
    lanes.finish(black_box(&messages), &mut digests);
    drop(messages);
    (pieces, digests, lanes)
}

/// 256 KiB that compress to about half: words out of few, and bytes that say nothing.
fn text() -> Vec<u8> {
    let mut rng = Rng::new(2);
    let words: Vec<[u8; 8]> = (0..512).map(|_| rng.bits().to_le_bytes()).collect();
    let mut text = Vec::with_capacity(PIECE + 16);
    while text.len() < PIECE {
        match rng.below(3) {
            0 => text.extend(&rng.bits().to_le_bytes()[..7]),
            _ => text.extend(words[rng.below(512) as usize]),
        }
    }
    text.truncate(PIECE);
    text
}

fn to_compress() -> (Vec<u8>, lzo1x::Table, Vec<u8>) {
    (text(), lzo1x::Table::default(), vec![0; lzo1x::worst_case(PIECE)])
}

fn to_expand() -> (Vec<u8>, Vec<u8>) {
    let (text, mut table, mut packed) = to_compress();
    let length = lzo1x::compress(&text, &mut table, &mut packed);
    packed.truncate(length);
    (packed, vec![0; PIECE + lzo1x::SLACK])
}

#[library_benchmark]
#[bench::of_256_kib(setup = to_compress)]
fn lzo_compress((text, mut table, mut out): (Vec<u8>, lzo1x::Table, Vec<u8>)) -> impl Sized {
    let length = lzo1x::compress(black_box(&text), &mut table, &mut out);
    (text, table, out, length)
}

#[library_benchmark]
#[bench::of_256_kib(setup = to_expand)]
fn lzo_expand((packed, mut out): (Vec<u8>, Vec<u8>)) -> impl Sized {
    let result = lzo1x::expand(black_box(&packed), &mut out, PIECE);
    (packed, out, result)
}

/// Bytes of the bitfield of the wire's torrent.
const BITFIELD: usize = 640;

/// A thousand messages: of ten, six haves, a request, a block of 16 KiB, a choke and an extended one.
fn messages() -> Vec<u8> {
    let mut bytes = Vec::new();
    let (block, data) = (Block { piece: 1, begin: 0, length: BLOCK }, vec![7; BLOCK as usize]);
    for round in 0..100 {
        (0..6).for_each(|have| Message::Have(round * 6 + have).encode(&mut bytes));
        Message::Request(block).encode(&mut bytes);
        Message::Piece { piece: round, begin: 0, data: &data }.encode(&mut bytes);
        Message::Choke.encode(&mut bytes);
        Message::Extended(1, b"d5:added0:e").encode(&mut bytes);
    }
    bytes
}

#[library_benchmark]
#[bench::of_1000_messages(setup = messages)]
fn wire_decode(bytes: Vec<u8>) -> impl Sized {
    let (mut rest, mut known) = (black_box(bytes.as_slice()), 0);
    while let Ok(Some((message, length))) = Message::decode(rest, BITFIELD) {
        known += usize::from(!matches!(black_box(message), Message::Other(_)));
        rest = &rest[length..];
    }
    (bytes, known)
}

/// A swarm of 5,000 pieces of 256 KiB whose 60 peers have every second piece each and let us ask, and the requests
/// made.
fn swarm() -> (Swarm, Vec<(PeerKey, Block)>) {
    let geometry = Geometry::new(5_000 * PIECE as u64, PIECE as u32);
    let mut swarm = Swarm::new(geometry, Bitfield::new(geometry.pieces()), Config::default(), 3);
    let mut rng = Rng::new(4);
    for _ in 0..60 {
        let key = swarm.join(Duration::ZERO, Traits::stranger(true));
        let mut have = Bitfield::new(geometry.pieces());
        for piece in 0..geometry.pieces() {
            if rng.below(2) == 0 {
                have.set(piece);
            }
        }
        swarm.bitfield(Duration::ZERO, key, have).expect("a bitfield of the right length");
        swarm.unchoke(Duration::ZERO, key);
    }
    let requests = requests(&mut swarm);
    (swarm, requests)
}

/// What the swarm asks for now.
fn requests(swarm: &mut Swarm) -> Vec<(PeerKey, Block)> {
    let actions = std::iter::from_fn(|| swarm.next_action());
    actions
        .filter_map(|(key, action)| if let Action::Request(block) = action { Some((key, block)) } else { None })
        .collect()
}

#[library_benchmark]
#[bench::of_60_peers(setup = swarm)]
fn picker_steps((mut swarm, mut requests): (Swarm, Vec<(PeerKey, Block)>)) -> impl Sized {
    for step in 0..1_000 {
        let now = Duration::from_millis(step as u64);
        let Some(&(key, block)) = requests.get(step) else { break };
        swarm.arrived(now, key, block).expect("a block that was asked for");
        swarm.stored(now, key, block);
        while let Some((key, action)) = swarm.next_action() {
            match action {
                Action::Request(block) => requests.push((key, block)),
                Action::Verify(piece) => swarm.verified(now, piece, Verified::Good, &[]),
                _ => {}
            }
        }
    }
    (swarm, requests)
}

#[library_benchmark]
#[bench::of_60_peers(setup = swarm)]
fn swarm_tick((mut swarm, requests): (Swarm, Vec<(PeerKey, Block)>)) -> impl Sized {
    for step in 1..=100 {
        swarm.tick(Duration::from_millis(100 * step));
    }
    (swarm, requests)
}

/// The torrent that is announced.
const HASH: InfoHash = InfoHash([7; 20]);

/// A tracker that knows 1,000 peers of a torrent, and the announces of 100 of them as datagrams.
fn tracker() -> (Store, Vec<Vec<u8>>) {
    let store = Store::new(Rules { closed: false, ..Rules::default() }, 5);
    let announce = |number: u32, event| Announce {
        info_hash: HASH,
        peer_id: PeerId(std::array::from_fn(|at| (number >> (8 * (at % 4))) as u8)),
        downloaded: 0,
        left: u64::from(number % 2),
        uploaded: 0,
        event,
        ip: Ipv4Addr::UNSPECIFIED,
        key: number,
        numwant: None,
        port: 6881,
    };
    for number in 0..1_000 {
        answer(&store, &announce(number, Event::Started), &mut Vec::new());
    }
    let packets = (0..100).map(|number| {
        let mut packet = Vec::new();
        let announce = announce(number * 10, Event::None);
        Request::Announce { connection: 1, transaction: number, announce }.write(&mut packet);
        packet
    });
    let packets = packets.collect();
    (store, packets)
}

/// Takes note of an announce and writes the reply.
fn answer(store: &Store, announce: &Announce, out: &mut Vec<u8>) {
    let socket = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 | announce.key), announce.port));
    let question = ogbox::tracker::server::store::Announce {
        info_hash: announce.info_hash,
        address: socket.into(),
        owner: ogbox::tracker::server::peer::Owner::new(socket.ip(), announce.key),
        id: announce.peer_id,
        left: announce.left,
        event: announce.event,
        wanted: announce.numwant.map(|wanted| wanted as usize),
    };
    let mut peers = Vec::with_capacity(200);
    let answer = store.announce(&question, 1 << 24, &mut peers).expect("an open tracker");
    announce_reply(out, announce.key, answer.interval, answer.leechers, answer.seeders);
    peers.iter().filter_map(|(address, _)| address.compact_v4()).for_each(|peer| out.extend(peer));
}

#[library_benchmark]
#[bench::of_100_among_1000_peers(setup = tracker)]
fn announces((store, packets): (Store, Vec<Vec<u8>>)) -> impl Sized {
    let mut out = Vec::with_capacity(2048);
    for packet in &packets {
        if let Some(Request::Announce { announce, .. }) = Request::read(black_box(packet)) {
            out.clear();
            answer(&store, &announce, &mut out);
        }
    }
    (store, packets, out)
}

/// Groups of the file system.
const GROUPS: u32 = 256;
/// Its blocks: bytes of each, and how many a group has.
const FS_BLOCK: u32 = 4096;
const GROUP: u32 = 8 * FS_BLOCK;

/// What is read of a device that is zero elsewhere: from this offset on, this.
struct Device(Vec<(u64, Vec<u8>)>);

impl FileExt for Device {
    fn read_at(&self, to: &mut [u8], at: u64) -> io::Result<usize> {
        to.fill(0);
        for (start, bytes) in &self.0 {
            if let Some(from) = at.checked_sub(*start).filter(|from| *from < bytes.len() as u64) {
                let length = to.len().min(bytes.len() - from as usize);
                to[..length].copy_from_slice(&bytes[from as usize..from as usize + length]);
                break;
            }
        }
        Ok(to.len())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

/// An ext2 file system of 32 GiB: superblock, descriptors and a bitmap a group, runs of used and free blocks by turns.
fn ext2() -> Source {
    let mut rng = Rng::new(6);
    let (mut descriptors, mut bitmaps, mut all_free) = (Vec::new(), Vec::new(), 0);
    for group in 0..GROUPS {
        let mut bits = Vec::new();
        while bits.len() < FS_BLOCK as usize {
            let run = 1 + rng.below(40) as usize;
            bits.extend(std::iter::repeat_n([0xff, 0x00, 0x3c][rng.below(3) as usize], run));
        }
        bits.truncate(FS_BLOCK as usize);
        let free: u32 = bits.iter().map(|byte: &u8| byte.count_zeros()).sum();
        let mut descriptor = [0; 32];
        descriptor[..4].copy_from_slice(&(16 + group).to_le_bytes());
        descriptor[12..14].copy_from_slice(&(free as u16).to_le_bytes());
        descriptors.extend(descriptor);
        bitmaps.extend(bits);
        all_free += free;
    }
    let mut superblock = vec![0; 1024];
    let mut put = |at: usize, value: u32| superblock[at..at + 4].copy_from_slice(&value.to_le_bytes());
    put(0x04, GROUPS * GROUP);
    put(0x0c, all_free);
    put(0x18, 2);
    put(0x1c, 2);
    put(0x20, GROUP);
    put(0x24, GROUP);
    put(0x28, 8192);
    put(0x38, 0x0001_ef53);
    let block = u64::from(FS_BLOCK);
    let device = Device(vec![(1024, superblock), (block, descriptors), (16 * block, bitmaps)]);
    Source::over(Arc::new(device), "ext2".to_owned(), u64::from(GROUPS * GROUP) * block, 512)
}

#[library_benchmark]
#[bench::of_32_gib(setup = ext2)]
fn ext_map(source: Source) -> impl Sized {
    let used = fs::used(black_box(&source));
    let blocks = used.as_ref().map_or_else(|why| panic!("{}", text_of(why)), |used| used.map.used());
    (source, used, blocks)
}

fn text_of(why: &dyn fmt::Display) -> String {
    why.to_string()
}

library_benchmark_group!(
    name = counts,
    benchmarks = [pieces_hashed, lzo_compress, lzo_expand, wire_decode, picker_steps, swarm_tick, announces, ext_map,]
);
main!(library_benchmark_groups = counts);
