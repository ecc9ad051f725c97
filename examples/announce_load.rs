//! Load for trackers, ours and others; `scripts/bench-tracker` uses it.
//!
//!     announce_load udp ADDRESS INFO-HASH SECONDS
//!         announces of ever new peers over UDP, 128 under way at a time and sent by the batch, so that the load
//!         takes less of the processors than the tracker; prints answers a second and how long they are
//!     announce_load burst ADDRESS CLIENTS SECONDS INFO-HASH...
//!         so many clients, each with a connection of its own, spread over the time; prints how many were
//!         answered and how long the slowest and the median waited, counted from the moment each was due
//!     announce_load readers ADDRESS PEERS READERS SECONDS INFO-HASH
//!         announces so many peers, each at an address of its own, then reads /status.json in so many threads, again and
//!         again, while clients announce by UDP and in connections of their own every few milliseconds; prints how long
//!         the slowest and the median of these waited

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ogbox::sys::datagrams::Batch;
use ogbox::torrent::{InfoHash, PeerId};
use ogbox::tracker::message::{AnnounceReply, AnnounceRequest, Event};
use ogbox::tracker::udp::{Announce, MAX_PACKET, Reply, Request};

/// UDP announces in flight at a time.
const WINDOW: u32 = 128;
/// Threads of a burst, so many that clients hardly wait for each other's connect.
const THREADS: usize = 64;

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let wrong = |what: &str| io::Error::other(format!("{what}; usage is at the head of this file"));
    let address = |at: usize| args.get(at).and_then(|text| text.parse::<SocketAddr>().ok());
    let number = |at: usize| args.get(at).and_then(|text| text.parse::<u32>().ok());
    let hash = |text: &String| text.parse::<InfoHash>().map_err(|error| wrong(&error.to_string()));
    match (args.first().map(String::as_str), address(1)) {
        (Some("udp"), Some(tracker)) => {
            let text = args.get(2).ok_or_else(|| wrong("no info-hash"))?;
            udp(tracker, hash(text)?, number(3).ok_or_else(|| wrong("no time"))?)
        }
        (Some("burst"), Some(tracker)) => {
            let (Some(clients), Some(seconds)) = (number(2), number(3)) else { return Err(wrong("no numbers")) };
            let hashes: Vec<InfoHash> = args.iter().skip(4).map(hash).collect::<Result<_, _>>()?;
            if hashes.is_empty() {
                return Err(wrong("no info-hash"));
            }
            burst(tracker, clients as usize, Duration::from_secs(seconds.into()), hashes);
            Ok(())
        }
        (Some("readers"), Some(tracker)) => {
            let (Some(peers), Some(readers), Some(seconds)) = (number(2), number(3), number(4)) else {
                return Err(wrong("no numbers"));
            };
            let hash = hash(args.get(5).ok_or_else(|| wrong("no info-hash"))?)?;
            beside_readers(tracker, peers, readers, Duration::from_secs(seconds.into()), hash)
        }
        _ => Err(wrong("udp, burst or readers, and an address")),
    }
}

/// A peer id derived from its number.
fn peer_id(number: u32) -> PeerId {
    let mut id = *b"-XX0000-000000000000";
    let mut rest = number;
    for digit in id[8..].iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    PeerId(id)
}

/// A socket for announces to `tracker` that waits so long for an answer, and the connection id.
fn connect(tracker: SocketAddr, patience: Duration) -> io::Result<(UdpSocket, u64)> {
    let socket = UdpSocket::bind((if tracker.is_ipv4() { "0.0.0.0" } else { "::" }, 0))?;
    socket.connect(tracker)?;
    socket.set_read_timeout(Some(patience))?;
    let (mut packet, mut buffer) = (Vec::with_capacity(MAX_PACKET), [0; 2048]);
    Request::Connect { transaction: 1 }.write(&mut packet);
    socket.send(&packet)?;
    let length = socket.recv(&mut buffer)?;
    match Reply::read(&buffer[..length], tracker.ip()) {
        Some(Reply::Connect { connection, .. }) => Ok((socket, connection)),
        _ => Err(io::Error::other("no connection id")),
    }
}

fn udp(tracker: SocketAddr, info_hash: InfoHash, seconds: u32) -> io::Result<()> {
    let (socket, connection) = connect(tracker, Duration::from_millis(200))?;
    let mut packet = Vec::with_capacity(MAX_PACKET);
    let announce = |number: u32, out: &mut Vec<u8>| {
        let announce = Announce {
            info_hash,
            peer_id: peer_id(number % 100_000),
            downloaded: 0,
            left: u64::from(number % 2),
            uploaded: 0,
            event: Event::None,
            ip: [0, 0, 0, 0].into(),
            key: 0,
            numwant: Some(30),
            port: 1024 + (number % 60_000) as u16,
        };
        Request::Announce { connection, transaction: number, announce }.write(out);
    };
    let (mut sent, mut answered, mut refused, mut bytes) = (0u32, 0u32, 0u32, 0usize);
    let mut batch = Batch::new(MAX_PACKET);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(seconds.into()) {
        // Each answer is followed by the next announce; these are for the opening of the window, and to replace lost
        // ones.
        while sent - answered < WINDOW {
            packet.clear();
            announce(sent, &mut packet);
            socket.send(&packet)?;
            sent += 1;
        }
        match batch.receive(&socket) {
            Ok(got) => {
                for at in 0..got {
                    let Some((reply, _)) = batch.datagram(at) else { continue };
                    answered += 1;
                    bytes += reply.len();
                    // Action 3 of a reply is an error.
                    refused += u32::from(reply.starts_with(&[0, 0, 0, 3]));
                    announce(sent, &mut batch.output);
                    batch.answer(at);
                    sent += 1;
                }
                batch.send(&socket);
            }
            // Lost answers are not awaited.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sent = answered,
            Err(error) => return Err(error),
        }
    }
    println!(
        "{:.0} answers/s, {refused} of {answered} refusals, {} bytes each",
        f64::from(answered) / begin.elapsed().as_secs_f64(),
        bytes / (answered.max(1) as usize)
    );
    Ok(())
}

fn burst(tracker: SocketAddr, clients: usize, time: Duration, hashes: Vec<InfoHash>) {
    let (next, waits) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let hashes = Arc::new(hashes);
    let begin = Instant::now() + Duration::from_millis(100);
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (next, waits, hashes) = (next.clone(), waits.clone(), hashes.clone());
            thread::spawn(move || {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= clients {
                        return;
                    }
                    let due = begin + time.mul_f64(n as f64 / clients as f64);
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    if announce(tracker, hashes[n % hashes.len()], n as u32).is_ok()
                        && let Ok(mut waits) = waits.lock()
                    {
                        waits.push(due.elapsed());
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        // A client whose thread panicked counts as not answered.
        let _ = thread.join();
    }
    let mut waits = waits.lock().map(|waits| waits.clone()).unwrap_or_default();
    let (answered, all, times) = (waits.len(), begin.elapsed().as_secs_f64(), median_and_slowest(&mut waits));
    println!("{answered} of {clients} answered in {all:.2} s; {times}");
}

/// The words about how long was waited.
fn median_and_slowest(waits: &mut [Duration]) -> String {
    waits.sort_unstable();
    let milliseconds = |at: usize| waits.get(at).map_or(f64::NAN, |wait| wait.as_secs_f64() * 1000.0);
    let (median, slowest) = (milliseconds(waits.len() / 2), milliseconds(waits.len().saturating_sub(1)));
    format!("median {median:.1} ms, slowest {slowest:.1} ms")
}

/// The announce of peer `number` at an address of its own, which loopback may say.
fn of_its_own(info_hash: InfoHash, number: u32) -> Announce {
    let [_, a, b, c] = number.to_be_bytes();
    Announce {
        info_hash,
        peer_id: peer_id(number),
        downloaded: 0,
        left: u64::from(number % 50),
        uploaded: 0,
        event: Event::None,
        ip: [10, a, b, c].into(),
        key: number,
        numwant: Some(0),
        port: 6881,
    }
}

fn beside_readers(tracker: SocketAddr, peers: u32, readers: u32, time: Duration, hash: InfoHash) -> io::Result<()> {
    let (socket, connection) = connect(tracker, Duration::from_secs(10))?;
    let (mut packet, mut buffer) = (Vec::new(), [0; 2048]);
    let mut ask = |announce: Announce| -> io::Result<Option<Reply>> {
        packet.clear();
        Request::Announce { connection, transaction: announce.key, announce }.write(&mut packet);
        socket.send(&packet)?;
        let length = socket.recv(&mut buffer)?;
        Ok(Reply::read(&buffer[..length], tracker.ip()))
    };
    for number in 0..peers {
        ask(of_its_own(hash, number))?;
    }
    let (ending, pages) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (mut udp, mut http) = (Vec::new(), Vec::new());
    let mut there = 0;
    thread::scope(|threads| -> io::Result<()> {
        let read = || {
            while ending.load(Ordering::Relaxed) == 0 {
                let page = TcpStream::connect(tracker).and_then(|mut stream| {
                    stream.write_all(b"GET /status.json HTTP/1.0\r\n\r\n")?;
                    let mut page = Vec::new();
                    stream.read_to_end(&mut page)
                });
                // Those that are too slow give way to others, and begin anew.
                pages.fetch_add(page.map_or(0, |length| usize::from(length > 1 << 20)), Ordering::Relaxed);
            }
        };
        (0..readers).for_each(|_| _ = threads.spawn(read));
        let announced = (|| {
            let end = Instant::now() + time;
            for number in (0..).take_while(|_| Instant::now() < end) {
                let begin = Instant::now();
                if let Some(Reply::Announce { leechers, seeders, .. }) = ask(of_its_own(hash, number % peers.max(1)))? {
                    there = leechers + seeders;
                    udp.push(begin.elapsed());
                }
                let begin = Instant::now();
                announce(tracker, hash, number)?;
                http.push(begin.elapsed());
                thread::sleep(Duration::from_millis(3));
            }
            Ok(())
        })();
        ending.store(1, Ordering::Relaxed);
        announced
    })?;
    let pages = pages.load(Ordering::Relaxed);
    println!(
        "{there} peers, {pages} pages of {readers} readers; {} announces by UDP:  {}",
        udp.len(),
        median_and_slowest(&mut udp)
    );
    println!("{} in connections of their own:  {}", http.len(), median_and_slowest(&mut http));
    Ok(())
}

fn announce(tracker: SocketAddr, info_hash: InfoHash, n: u32) -> io::Result<()> {
    let request = AnnounceRequest {
        info_hash,
        peer_id: peer_id(n),
        port: 1024 + (n % 60_000) as u16,
        uploaded: 0,
        downloaded: 0,
        left: u64::from(n % 50),
        event: Event::Started,
        numwant: 50,
        key: n,
        ip: None,
        tracker_id: None,
    };
    let mut stream = TcpStream::connect_timeout(&tracker, Duration::from_secs(10))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let target = request.url("/announce");
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: tracker\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    let body = reply.windows(4).position(|part| part == b"\r\n\r\n").map_or(&reply[..0], |end| &reply[end + 4..]);
    AnnounceReply::parse(body, "").map(drop).map_err(io::Error::other)
}
