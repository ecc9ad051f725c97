//! The hostile neighbours of the soak: each function is a kind, which acts from an address of its own until the minute is
//! over, at a rate that a busy machine bears, and counts what it did.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ogbox::base::rng::Rng;
use ogbox::sys::net::{dial, listen};

use crate::crowd::Deed;
use crate::hostile_peer::{BITFIELD, EXTENDED, HAVE, PIECE, REQUEST, UNCHOKE, Wire, message};
use crate::soak::{Network, SEEDER, TRACKER, WEB_SEED, peer};

type Act = fn(&Network, Ipv4Addr, &AtomicU64);

/// Each kind, how many there are of it, and what they do.
pub const ACTORS: &[(&str, u8, Act)] = &[
    ("garbage in place of a handshake", 2, garbage),
    ("broken messages and floods of haves", 1, chatter),
    ("made-up addresses by PEX", 1, gossip),
    ("peers that send wrong data", 4, liar),
    ("tarpits that the tracker hands out", 1, tarpits),
    ("half requests to the tracker", 1, half_requests),
    ("long requests to the tracker", 2, long_requests),
    ("made-up announces, and leaving in the name of others", 2, forger),
    ("datagrams to the tracker", 1, datagrams),
    ("readers of pages", 16, reader),
    ("a web seed of wrong answers", 1, web_seed),
    ("made-up searches by multicast", 1, multicast),
];

/// What is done to each of the [`targets`] by connections that take a place, a slot, and more than their share, and by how
/// many.
pub const CROWDS: &[(Deed, usize)] =
    &[(Deed::Idle, 1), (Deed::Deaf, 1), (Deed::Greedy, 1), (Deed::Repeat, 1), (Deed::Cancel, 1), (Deed::Take, 1)];

/// Who is attacked by connections: the seeder and some of the peers.
pub fn targets() -> impl Iterator<Item = SocketAddrV4> + Clone {
    std::iter::once(SEEDER).chain((1..=5).map(peer))
}

fn count(done: &AtomicU64) {
    done.fetch_add(1, Ordering::Relaxed);
}

fn rng(from: Ipv4Addr) -> Rng {
    Rng::new(u32::from(from).into())
}

fn random(rng: &mut Rng, length: usize) -> Vec<u8> {
    (0..length).map(|_| rng.bits() as u8).collect()
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn escape(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02x}")).collect()
}

/// A port that nobody listens on, at some address of the network.
fn nowhere(rng: &mut Rng) -> [u8; 6] {
    [10, 77, 200 + rng.below(50) as u8, rng.bits() as u8, 40 + rng.below(80) as u8, rng.bits() as u8]
}

// ---------------------------------------------------------------- to peers

fn garbage(network: &Network, from: Ipv4Addr, done: &AtomicU64) {
    let mut rng = rng(from);
    for at in targets().cycle() {
        if !network.goes_on(ms(10)) {
            return;
        }
        if let Ok(mut wire) = Wire::connect(from, at)
            && wire.put(&random(&mut rng, 512)).is_ok()
        {
            count(done);
        }
    }
}

fn chatter(network: &Network, from: Ipv4Addr, done: &AtomicU64) {
    let mut rng = rng(from);
    for (number, at) in targets().cycle().enumerate() {
        if !network.goes_on(ms(200)) {
            return;
        }
        let have = |piece: u32| message(HAVE, &[&(piece % network.pieces).to_be_bytes()]);
        let deed = match number % 7 {
            0 => (0..3000).flat_map(have).collect(),
            1 => message(BITFIELD, &[&[0xff; 3]]),
            2 => [&[0xff; 4][..], &[PIECE]].concat(),
            3 => message(PIECE, &[&[0; 8], &[1; 64]]).repeat(1100),
            4 => message(EXTENDED, &[&[0], b"d1:md6:ut_pexi1e"]),
            5 => message(REQUEST, &[&[0xff; 12]]),
            _ => random(&mut rng, 4096),
        };
        let sent = Wire::connect(from, at).and_then(|mut wire| {
            wire.greet(network.info_hash, number % 7 == 4)?;
            wire.put(&deed)
        });
        done.fetch_add(sent.is_ok().into(), Ordering::Relaxed);
    }
}

fn gossip(network: &Network, from: Ipv4Addr, done: &AtomicU64) {
    let mut rng = rng(from);
    for at in targets().cycle() {
        let Ok(mut wire) = Wire::connect(from, at) else { continue };
        let hello = [&[0][..], b"d1:md6:ut_pexi1ee1:pi40000ee"];
        let greeted = wire.greet(network.info_hash, true).and_then(|()| wire.send(EXTENDED, &hello));
        for id in 1..=3 {
            let added: Vec<u8> = (0..50).flat_map(|_| nowhere(&mut rng)).collect();
            let told = [&[id][..], b"d5:added300:", &added, b"7:added.f50:", &[0; 50], b"e"];
            if greeted.is_ok() && wire.send(EXTENDED, &told).is_ok() {
                count(done);
            }
            if !network.goes_on(ms(300)) {
                return;
            }
        }
    }
}

/// Accepts connections until the minute is over, a few at a time, and has `serve` answer each.
fn accept(network: &Network, listener: &TcpListener, serve: impl Fn(Wire) -> io::Result<()> + Sync) {
    const MOST: u64 = 16;
    let (serve, open) = (&serve, &AtomicU64::new(0));
    listener.set_nonblocking(true).expect("not to wait");
    std::thread::scope(|scope| {
        while network.goes_on(ms(20)) {
            let Ok((stream, _)) = listener.accept() else { continue };
            if open.fetch_add(1, Ordering::Relaxed) < MOST {
                scope.spawn(move || {
                    // Whoever is served so soon goes away.
                    let _ = stream.set_nonblocking(false).and_then(|()| serve(Wire::over(stream)?));
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            } else {
                open.fetch_sub(1, Ordering::Relaxed);
            }
        }
    });
}

fn liar(network: &Network, from: Ipv4Addr, done: &AtomicU64) {
    let listener = listen(SocketAddrV4::new(from, 6881).into()).expect("listen");
    // The tracker lists it for minutes.
    let _ = get(from, TRACKER, &format!("{}&port=6881&left=0", query(network, &[b'l'; 20])));
    let mut bits = vec![0; network.pieces.div_ceil(8) as usize];
    (0..network.pieces as usize).for_each(|piece| bits[piece / 8] |= 0x80 >> (piece % 8));
    accept(network, &listener, |mut wire| {
        wire.0.read_exact(&mut [0; 68])?;
        wire.put(&[b"\x13BitTorrent protocol", &[0; 8][..], &network.info_hash, &[b'l'; 20]].concat())?;
        wire.send(BITFIELD, &[&bits])?;
        wire.send(UNCHOKE, &[])?;
        while network.goes_on(Duration::ZERO) {
            match wire.hear() {
                Ok((REQUEST, body)) if body.len() == 12 => {
                    let length = u32::from_be_bytes([body[8], body[9], body[10], body[11]]);
                    wire.send(PIECE, &[&body[..8], &vec![0xee; length.min(1 << 17) as usize]])?;
                    count(done);
                }
                Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    });
}

fn multicast(network: &Network, from: Ipv4Addr, done: &AtomicU64) {
    let socket = UdpSocket::bind((from, 0)).expect("bind a socket");
    let mut rng = rng(from);
    let hash: String = network.info_hash.iter().map(|byte| format!("{byte:02x}")).collect();
    while network.goes_on(ms(100)) {
        let port = 1 + rng.below(65_000);
        let search = format!(
            "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: {port}\r\nInfohash: {hash}\r\n\r\n\r\n"
        );
        for datagram in [search.into_bytes(), random(&mut rng, 1400), b"BT-SEARCH * HTTP/1.1\r\nPort: x".to_vec()] {
            let sent = socket.send_to(&datagram, (Ipv4Addr::new(239, 192, 152, 143), 6771));
            done.fetch_add(sent.is_ok().into(), Ordering::Relaxed);
        }
    }
}

// ---------------------------------------------------------------- to the tracker

/// Fetches a page; its head and its body.
pub fn get(from: Ipv4Addr, to: SocketAddrV4, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = dial(from.into(), to.into(), ms(2000))?;
    stream.set_read_timeout(Some(ms(5000)))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {to}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(4 << 20).read_to_end(&mut answer)?;
    Ok(answer)
}

fn query(network: &Network, id: &[u8]) -> String {
    let hash = escape(&network.info_hash);
    format!("/announce?info_hash={hash}&peer_id={}&uploaded=0&downloaded=0", escape(id))
}

fn tarpits(network: &Network, _: Ipv4Addr, done: &AtomicU64) {
    // At every address; the kernel accepts connections, and nobody ever answers.
    let _listener = listen(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 7777).into()).expect("listen");
    for own in (1..=64).cycle() {
        if !network.goes_on(ms(150)) {
            return;
        }
        let id = format!("-XX0000-{own:012}");
        let path = format!("{}&port=7777&left=0", query(network, id.as_bytes()));
        done.fetch_add(get(Ipv4Addr::new(10, 77, 67, own), TRACKER, &path).is_ok().into(), Ordering::Relaxed);
    }
}

fn half_requests(network: &Network, from: Ipv4Addr, done: &AtomicU64) {
    let mut held: Vec<Option<TcpStream>> = (0..48).map(|_| None).collect();
    while network.goes_on(ms(1000)) {
        for stream in &mut held {
            if stream.as_mut().is_none_or(|stream| stream.write_all(b"a").is_err()) {
                *stream = dial(from.into(), TRACKER.into(), ms(2000)).ok();
                let begun = stream.as_mut().is_some_and(|stream| stream.write_all(b"GET /announce?").is_ok());
                done.fetch_add(begun.into(), Ordering::Relaxed);
            }
        }
    }
}

fn long_requests(network: &Network, from: Ipv4Addr, done: &AtomicU64) {
    let mut wire = None;
    for number in 0u64.. {
        if !network.goes_on(ms(20)) {
            return;
        }
        let request = format!("GET /announce?{number}={} HTTP/1.1\r\nHost: x\r\n\r\n", "A".repeat(8000));
        let mut open = match wire.take() {
            Some(open) => open,
            None => match Wire::connect(from, TRACKER) {
                Ok(open) => open,
                Err(_) => continue,
            },
        };
        if open.put(request.as_bytes()).is_ok() && open.is_open() {
            count(done);
            wire = Some(open);
        }
    }
}

/// The peers of a reply in dictionaries: id, address, port.
fn learned(reply: &[u8]) -> Vec<(Vec<u8>, String, String)> {
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|window| window == what);
    let (mut peers, mut rest) = (Vec::new(), reply);
    while let Some(at) = find(rest, b"2:ip") {
        rest = &rest[at + 4..];
        let Some(id) = find(rest, b"7:peer id20:").map(|at| at + 12).filter(|id| rest.len() > id + 40) else { break };
        let ip = String::from_utf8_lossy(&rest[..id - 12]).split_once(':').map(|(_, ip)| ip.to_owned());
        let port = String::from_utf8_lossy(&rest[id + 20..id + 40]).into_owned();
        let port = port.split_once("porti").and_then(|(_, rest)| rest.split_once('e')).map(|(port, _)| port.to_owned());
        if let (Some(ip), Some(port)) = (ip, port) {
            peers.push((rest[id..id + 20].to_vec(), ip, port));
        }
    }
    peers
}

fn forger(network: &Network, from: Ipv4Addr, done: &AtomicU64) {
    let mut rng = rng(from);
    while network.goes_on(ms(100)) {
        let path = format!("{}&port=1&left=1&compact=0&numwant=50", query(network, &[b'f'; 20]));
        let peers = get(from, TRACKER, &path).map(|reply| learned(&reply)).unwrap_or_default();
        for (id, ip, port) in peers {
            let path = format!("{}&port={port}&left=0&event=stopped&ip={ip}", query(network, &id));
            done.fetch_add(get(from, TRACKER, &path).is_ok().into(), Ordering::Relaxed);
        }
        for _ in 0..10 {
            let [_, _, c, d, high, low] = nowhere(&mut rng);
            let (id, port) = (random(&mut rng, 20), u16::from_be_bytes([high, low]));
            let path = format!("{}&port={port}&left=0&ip=10.77.{c}.{d}", query(network, &id));
            // The answer does not matter.
            let _ = get(from, TRACKER, &path);
        }
    }
}

fn datagrams(network: &Network, from: Ipv4Addr, done: &AtomicU64) {
    let socket = UdpSocket::bind((from, 0)).expect("bind a socket");
    let mut rng = rng(from);
    while network.goes_on(ms(10)) {
        let length = 1 + rng.below(1400) as usize;
        let garbage = random(&mut rng, length);
        // An announce with a connection id that nobody was given.
        let mut announce = random(&mut rng, 98);
        announce[8..12].copy_from_slice(&[0, 0, 0, 1]);
        announce[16..36].copy_from_slice(&network.info_hash);
        let connect = [&0x0417_2710_1980_u64.to_be_bytes()[..], &[0; 4], &random(&mut rng, 4)].concat();
        for datagram in [garbage, announce, connect] {
            done.fetch_add(socket.send_to(&datagram, TRACKER).is_ok().into(), Ordering::Relaxed);
        }
    }
}

fn reader(network: &Network, from: Ipv4Addr, done: &AtomicU64) {
    for path in ["/", "/status.json", "/metrics", "/scrape"].iter().cycle() {
        if !network.goes_on(ms(250)) {
            return;
        }
        let answer = get(from, TRACKER, path);
        done.fetch_add(answer.is_ok_and(|answer| answer.starts_with(b"HTTP/1.")).into(), Ordering::Relaxed);
    }
}

fn web_seed(network: &Network, _: Ipv4Addr, done: &AtomicU64) {
    let listener = listen(WEB_SEED.into()).expect("listen");
    accept(network, &listener, |mut wire| {
        let mut head = [0; 4096];
        let got = wire.0.read(&mut head)?;
        let head = String::from_utf8_lossy(&head[..got]).to_ascii_lowercase();
        let range =
            head.split_once("range: bytes=").and_then(|(_, rest)| rest.split_once("\r\n")).map_or("0-0", |part| part.0);
        let (first, last) = range.split_once('-').unwrap_or(("0", "0"));
        let length = last.parse::<u64>().unwrap_or(0).saturating_sub(first.parse().unwrap_or(0)) + 1;
        let whole = u64::from(network.pieces) << 18;
        let number = done.fetch_add(1, Ordering::Relaxed);
        match number % 5 {
            0 => {
                wire.put(format!("HTTP/1.1 206 Partial Content\r\nContent-Length: {length}\r\nContent-Range: bytes {range}/{whole}\r\n\r\n").as_bytes())?;
                wire.put(&vec![0xee; length.min(16 << 20) as usize])
            }
            1 => wire.put(
                format!("HTTP/1.1 302 Found\r\nLocation: http://{WEB_SEED}/x.img\r\nContent-Length: 0\r\n\r\n")
                    .as_bytes(),
            ),
            2 => {
                wire.put(b"HTTP/1.1 206 Partial Content\r\nX: ")?;
                (0..100).take_while(|_| network.goes_on(ms(20))).try_for_each(|_| wire.put(&[b'x'; 1000]))
            }
            3 => {
                wire.put(b"HTTP/1.1 200 OK\r\n\r\n")?;
                (0..16).try_for_each(|_| wire.put(&[0xee; 1 << 16]))
            }
            _ => Ok(()),
        }
    });
}
