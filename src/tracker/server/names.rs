//! Host names for the pages by reverse lookup (PTR, RFC 1035) in a thread of its own.
//!
//! A page never waits: a name not yet known appears the next time. Outcomes are cached, failures too. Answers are
//! hostile input: they must repeat the question, only valid host names are accepted, and nothing in them decides how
//! much is allocated or for how long they are parsed.
//!
//! The messages are parsed by our own code: simple-dns 0.13, the smallest maintained crate, weighs 68 KiB, for it links a
//! parser of every record type.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::base::sync::lock;

/// Most addresses remembered.
const MOST: usize = 16_384;
/// Most addresses waiting to be looked up.
const MOST_WANTED: usize = 1024;
/// Time for which a name is cached.
const GOOD: Duration = Duration::from_secs(3600);
/// Time for which the absence of a name is cached.
const NONE: Duration = Duration::from_secs(600);
/// Time before an unanswered lookup is repeated.
const SILENT: Duration = Duration::from_secs(60);
/// Time-out of an answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most resolvers asked, one after the other.
const MOST_RESOLVERS: usize = 3;
/// Longest answer that is read, bytes.
const LONGEST: usize = 1232;
/// Most records read of an answer.
const MOST_RECORDS: u16 = 32;
/// Longest name, bytes.
const LONGEST_NAME: usize = 253;
const PTR_IN: [u8; 4] = [0, 12, 0, 1];

/// The names known so far.
#[derive(Debug, Default)]
pub struct Names {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By address: its name, empty for none, and the time until which that is valid.
    names: HashMap<IpAddr, (String, Instant)>,
    wanted: VecDeque<IpAddr>,
}

impl Names {
    fn lock(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }

    /// The name of `ip`, empty if unknown; an unknown name is queued for lookup.
    pub fn of(&self, ip: IpAddr) -> String {
        let (mut known, now) = (self.lock(), Instant::now());
        let found = known.names.get(&ip).cloned();
        match found {
            Some((name, until)) if until > now => return name,
            _ if ip.is_loopback() || known.wanted.len() >= MOST_WANTED => return String::new(),
            // Names that are shown again are looked up again.
            None if known.names.len() >= MOST => known.names.clear(),
            _ => {}
        }
        // The old name is shown while it is looked up anew.
        let name = found.unwrap_or((String::new(), now)).0;
        known.names.insert(ip, (name.clone(), now + SILENT));
        known.wanted.push_back(ip);
        name
    }

    /// Asks the resolvers of `resolv_conf` for the next queued name; returns false if the queue is empty.
    pub fn ask_next(&self, resolv_conf: &Path) -> bool {
        let Some(ip) = self.lock().wanted.pop_front() else { return false };
        let servers = std::fs::read(resolv_conf).map(|text| resolvers(&text)).unwrap_or_default();
        for server in servers {
            // A resolver that cannot be reached or does not answer is skipped.
            if let Ok(Some(name)) = ask(server, ip) {
                let until = Instant::now() + if name.is_empty() { NONE } else { GOOD };
                self.lock().names.insert(ip, (name, until));
                return true;
            }
        }
        // No resolver answers, so waiting for the other names is pointless.
        self.lock().wanted.clear();
        true
    }
}

/// The name servers of a resolv.conf(5), each an address, or an address and a port.
pub fn resolvers(text: &[u8]) -> Vec<SocketAddr> {
    let text = String::from_utf8_lossy(text);
    let named = text.lines().filter_map(|line| line.trim_start().strip_prefix("nameserver")?.split_whitespace().next());
    let address = |word: &str| word.parse().map(|ip| SocketAddr::new(ip, 53)).or_else(|_| word.parse()).ok();
    named.filter_map(address).take(MOST_RESOLVERS).collect()
}

/// Asks `server` for the name of `ip`, empty if there is none; `None` if it does not answer in time.
fn ask(server: SocketAddr, ip: IpAddr) -> io::Result<Option<String>> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    // The kernel then drops packets from other senders.
    socket.connect(server)?;
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    let question = question(id, ip);
    socket.send(&question)?;
    let end = Instant::now() + PATIENCE;
    let mut answer = [0; LONGEST];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut answer)?;
        if let Some(name) = read(&answer[..length], &question) {
            return Ok(Some(name.unwrap_or_default()));
        }
    }
}

/// The question for the name of `ip`.
pub fn question(id: [u8; 2], ip: IpAddr) -> Vec<u8> {
    let labels: Vec<String> = match ip {
        IpAddr::V4(ip) => {
            ip.octets().iter().rev().map(u8::to_string).chain(["in-addr".to_owned(), "arpa".to_owned()]).collect()
        }
        IpAddr::V6(ip) => {
            let digits = ip.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            digits.map(|digit| format!("{digit:x}")).chain(["ip6".to_owned(), "arpa".to_owned()]).collect()
        }
    };
    // Flags: recursion desired; one question.
    let mut out = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in labels {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&PTR_IN);
    out
}

/// Parses an answer to `question`: `None` if it is not one, `Some(None)` if there is no name.
pub fn read(answer: &[u8], question: &[u8]) -> Option<Option<String>> {
    let (id, asked) = (question.get(..2)?, question.get(12..)?);
    let header = answer.get(..12)?;
    let answers = header[2] & 0x80 != 0 && header[4..6] == [0, 1];
    if !answers || header[..2] != *id || !answer[12..].starts_with(asked) {
        return None;
    }
    let count = u16::from_be_bytes([header[6], header[7]]);
    let mut at = question.len();
    let name = (0..count.min(MOST_RECORDS)).find_map(|_| {
        let owned = skip_name(answer, at)?;
        let fields = answer.get(owned..owned + 10)?;
        let length = usize::from(u16::from_be_bytes([fields[8], fields[9]]));
        at = owned + 10 + length;
        // Others, such as an alias on the way, are skipped.
        if fields[..4] == PTR_IN { Some(host_name(answer, owned + 10)) } else { None }
    });
    Some(name.flatten())
}

/// The offset behind the name at `at`.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..64 => at += 1 + usize::from(length),
            192.. => return Some(at + 2),
            _ => return None,
        }
    }
}

/// The name at `at`, if it is a valid host name.
fn host_name(message: &[u8], mut at: usize) -> Option<String> {
    let mut name = String::new();
    // Each pointer must lead further back than the one before, so there is no endless loop.
    let mut before = at;
    loop {
        match *message.get(at)? {
            0 => break,
            length @ 1..64 => {
                let label = message.get(at + 1..at + 1 + usize::from(length))?;
                if !label.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte)) {
                    return None;
                }
                name.extend(label.iter().map(|byte| char::from(*byte)));
                name.push('.');
                at += 1 + usize::from(length);
            }
            high @ 192.. => {
                at = usize::from(high & 63) << 8 | usize::from(*message.get(at + 1)?);
                if at >= before {
                    return None;
                }
                before = at;
            }
            _ => return None,
        }
        if name.len() > LONGEST_NAME + 1 {
            return None;
        }
    }
    name.pop();
    Some(name).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

    /// An answer to `question` with these records, each a type and its data, named by a pointer to the question.
    fn answer(question: &[u8], records: &[(u8, &[u8])]) -> Vec<u8> {
        let mut out = question.to_vec();
        (out[2], out[3], out[7]) = (0x81, 0x80, records.len() as u8);
        for (kind, data) in records {
            out.extend_from_slice(&[0xc0, 12, 0, *kind, 0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
            out.extend_from_slice(data);
        }
        out
    }

    fn name_of(data: &[u8]) -> Option<String> {
        let question = question([1, 2], IP);
        read(&answer(&question, &[(12, data)]), &question).expect("an answer")
    }

    #[test]
    fn a_question_is_the_address_backwards() {
        let asked = question([9, 8], IP);
        assert_eq!(&asked[12..], b"\x017\x010\x010\x0210\x07in-addr\x04arpa\0\0\x0c\0\x01");
        let asked = question([9, 8], "2001:db8::a".parse().unwrap());
        assert!(asked[12..].starts_with(b"\x01a\x010\x010"), "{}", asked.escape_ascii());
        assert!(asked.ends_with(b"\x018\x01b\x01d\x010\x011\x010\x010\x012\x03ip6\x04arpa\0\0\x0c\0\x01"));
    }

    #[test]
    fn a_name_is_read_with_and_without_pointers_and_behind_an_alias() {
        assert_eq!(name_of(b"\x03pc7\x03lab\0").as_deref(), Some("pc7.lab"));
        // The pointer leads to `in-addr.arpa` of the question.
        assert_eq!(name_of(b"\x03pc7\xc0\x15").as_deref(), Some("pc7.in-addr.arpa"));
        let question = question([1, 2], IP);
        let behind = answer(&question, &[(5, b"\x01x\0"), (12, b"\x02pc\0")]);
        assert_eq!(read(&behind, &question), Some(Some("pc".to_owned())));
        assert_eq!(read(&answer(&question, &[]), &question), Some(None));
    }

    #[test]
    fn names_that_are_none_are_not_taken() {
        let long = b"\x3f".iter().chain(&[b'a'; 63]).copied().collect::<Vec<u8>>().repeat(5);
        let cases: [&[u8]; 9] = [
            b"\0",
            b"\x03p<7\0",
            b"\x04pc\x1b[\0",
            b"\x02a.\0",
            b"\x40x",
            b"\x3fx",
            b"\xc0\x36",      // to itself
            b"\x01a\xc0\x3a", // forwards
            &long,
        ];
        for data in cases {
            assert_eq!(name_of(data), None, "{}", data.escape_ascii());
        }
    }

    #[test]
    fn what_answers_another_question_is_none() {
        let asked = question([1, 2], IP);
        let good = answer(&asked, &[(12, b"\x02pc\0")]);
        for (at, what) in [(0, "id"), (2, "a question"), (5, "no question"), (13, "another address")] {
            let mut other = good.clone();
            other[at] ^= if at == 2 { 0x80 } else { 1 };
            assert_eq!(read(&other, &asked), None, "{what}");
        }
        assert_eq!(read(&good[..asked.len() - 1], &asked), None);
    }

    #[test]
    fn resolvers_are_read_as_resolv_conf_5_says() {
        let text = "# nameserver 9.9.9.9\nsearch lab\n nameserver 10.0.0.1 # x\nnameserver fe80::1%eth0\nnameserver ::1\n\
                    nameserver 127.0.0.1:5353\nnameserver 10.0.0.4\n";
        let expected = ["10.0.0.1:53", "[::1]:53", "127.0.0.1:5353"].map(|text| text.parse().unwrap());
        assert_eq!(resolvers(text.as_bytes()), expected);
    }

    #[test]
    fn a_page_gets_at_once_what_is_known_and_what_is_not_is_asked_for_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        std::fs::write(&path, format!("nameserver {}\n", server.local_addr().unwrap())).unwrap();
        let names = Names::default();
        assert_eq!((names.of(IP), names.of(IP), names.of(Ipv4Addr::LOCALHOST.into())), Default::default());
        let answering = std::thread::spawn(move || {
            let mut asked = [0; 512];
            let (length, from) = server.recv_from(&mut asked).unwrap();
            let question = &asked[..length];
            let forged = [&[question[0] ^ 1], &answer(question, &[(12, b"\x03bad\0")])[1..]].concat();
            server.send_to(&forged, from).unwrap();
            server.send_to(&answer(question, &[(12, b"\x03pc7\x03lab\0")]), from).unwrap();
        });
        assert!(names.ask_next(&path));
        answering.join().unwrap();
        assert_eq!(names.of(IP), "pc7.lab");
        assert!(!names.ask_next(&path), "once");
        // A silent resolver is waited for only once.
        (1..=50).for_each(|n| drop(names.of(Ipv4Addr::new(10, 0, 1, n).into())));
        let begin = Instant::now();
        while names.ask_next(&path) {}
        assert!(begin.elapsed() < PATIENCE * 3);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(mut bytes: Vec<u8>, count in 0u8..9) {
            let question = question([1, 2], IP);
            let _ = read(&bytes, &question);
            let mut whole = answer(&question, &[]);
            whole[7] = count;
            whole.append(&mut bytes);
            if let Some(Some(name)) = read(&whole, &question) {
                prop_assert!(name.len() <= LONGEST_NAME);
            }
        }
    }
}
