//! Version 3 of CTCS, the protocol of the CTorrent Control Server (rahul.net/dholmes/ctorrent/ctcs-protocol.html), as
//! bytes and values: a server's orders and a client's lines.
//!
//! A message is a line of words. Where the description leaves something open, Enhanced CTorrent dnh3.3.2 decides: the
//! order of fields, rates and limits in bytes a second, unknown messages passed over.

use crate::torrent::PeerId;

/// A server's order.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Report the state: SENDSTATUS.
    Status,
    /// List the connected peers: SENDPEERS.
    Peers,
    /// List the files: SENDDETAIL.
    Detail,
    /// List the settings: SENDCONF.
    Settings,
    /// Change a setting: its name, its value.
    Set(String, String),
    /// Receive at most so many bytes a second; 0: no limit.
    LimitDown(u64),
    /// Send at most so many bytes a second; 0: no limit.
    LimitUp(u64),
    /// Announce now.
    Update,
    /// Announce as if only just started.
    Restart,
    /// End.
    Quit,
    /// The server reports an error.
    Error(String),
    /// An order that cannot be understood.
    Malformed,
    /// Nothing to do: a server's remark on itself, or an order of another version.
    Nothing,
}

impl Order {
    /// Reads a line without its end.
    pub fn parse(line: &str) -> Order {
        let line = line.trim_end_matches('\r');
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "SENDSTATUS" => Order::Status,
            "SENDPEERS" => Order::Peers,
            "SENDDETAIL" => Order::Detail,
            "SENDCONF" => Order::Settings,
            "SETDLIMIT" => rest.trim().parse().map_or(Order::Malformed, Order::LimitDown),
            "SETULIMIT" => rest.trim().parse().map_or(Order::Malformed, Order::LimitUp),
            "CTUPDATE" => Order::Update,
            "CTRESTART" => Order::Restart,
            "CTQUIT" => Order::Quit,
            "ERROR" => Order::Error(one_line(rest)),
            "CTCONFIG" => match rest.split_once(' ') {
                Some((name, value)) if !name.is_empty() => Order::Set(one_line(name), one_line(value)),
                _ => Order::Malformed,
            },
            _ => Order::Nothing,
        }
    }
}

/// Returns HOST:PORT of a server and whether it wants a password, which a further colon says; `None` if it is neither.
pub fn server(text: &str) -> Option<(&str, bool)> {
    let (server, asks) = match text.strip_suffix(':') {
        Some(server) => (server, true),
        None => (text, false),
    };
    let (host, port) = server.rsplit_once(':')?;
    (!host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)).then_some((server, asks))
}

/// Returns `text` with each control character, which could end a line or move a cursor, as `?`.
pub fn one_line(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '?' } else { char }).collect()
}

/// Spells a peer id as Enhanced CTorrent does: as text up to the first byte that is not printable, from there on as `0x`
/// and hex digits.
pub fn peer_id(id: &PeerId) -> String {
    let plain = id.0.iter().take_while(|byte| byte.is_ascii_graphic()).count();
    let (plain, odd) = id.0.split_at(plain);
    let mut text: String = plain.iter().map(|byte| char::from(*byte)).collect();
    if !odd.is_empty() {
        text += "0x";
    }
    odd.iter().for_each(|byte| text += &format!("{byte:02X}"));
    text
}

/// The numbers of CTSTATUS. Pairs are down and up, but for peers: connected and known to the tracker.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    pub seeders: (usize, u32),
    pub leechers: (usize, u32),
    /// Connections that are being made.
    pub connecting: usize,
    /// Pieces here, in all, and within reach.
    pub pieces: (u32, u32, u32),
    /// Bytes a second.
    pub rates: (u64, u64),
    /// Bytes since the start.
    pub totals: (u64, u64),
    /// Bytes a second at the most; 0: no limit.
    pub limits: (u64, u64),
}

impl Figures {
    /// Returns CTSTATUS; the cache size at its end is 0, for the cache is the page cache here.
    pub fn status(&self) -> String {
        let ((seeders, all_seeders), (leechers, all_leechers)) = (self.seeders, self.leechers);
        let ((here, all, reach), (down, up)) = (self.pieces, self.rates);
        let ((downloaded, uploaded), (most_down, most_up)) = (self.totals, self.limits);
        format!(
            "CTSTATUS {seeders}:{all_seeders}/{leechers}:{all_leechers}/{} {here}/{all}/{reach} {down},{up} \
             {downloaded},{uploaded} {most_down},{most_up} 0",
            self.connecting
        )
    }

    /// Returns CTBW: rates and limits.
    pub fn bandwidth(&self) -> String {
        let ((down, up), (most_down, most_up)) = (self.rates, self.limits);
        format!("CTBW {down},{up} {most_down},{most_up}")
    }
}

/// The type of a setting.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// On or off.
    Switch,
    /// A number.
    Number,
    /// A whole number within these bounds.
    Between(u64, u64),
    /// A whole number.
    Whole,
    /// Text, 4096 bytes at the most.
    Text,
}

/// Returns CTCONFIG: a setting, its value, its description and a remark.
pub fn setting(name: &str, kind: Kind, value: &str, what: &str, more: &str) -> String {
    let (letter, range) = match kind {
        Kind::Switch => ('B', "0".to_owned()),
        Kind::Number => ('F', "0".to_owned()),
        Kind::Whole => ('I', "0".to_owned()),
        Kind::Between(least, most) => ('I', format!("{least}-{most}")),
        Kind::Text => ('S', "4096".to_owned()),
    };
    let value = one_line(value);
    let [value, what, more] = [&*value, what, more].map(|text| format!("{}:{text}", text.len()));
    format!("CTCONFIG {name} {letter} {range} {value} {what} {more}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;

    #[test]
    fn a_server_is_a_host_and_a_port_and_a_colon_asks_for_its_password() {
        assert_eq!(server("host:2780"), Some(("host:2780", false)));
        assert_eq!(server("host:2780:"), Some(("host:2780", true)));
        assert_eq!(server("[::1]:2780:"), Some(("[::1]:2780", true)));
        for wrong in ["host", "host:", "host::", ":1", "host:0", "host:65536", "host:x:", ""] {
            assert_eq!(server(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn orders_are_read_as_the_namesake_reads_them() {
        for (line, order) in [
            ("SENDSTATUS", Order::Status),
            ("SENDSTATUS\r", Order::Status),
            ("SENDCONF extra", Order::Settings),
            ("SETDLIMIT 20", Order::LimitDown(20)),
            ("SETULIMIT 0\r", Order::LimitUp(0)),
            ("SETULIMIT", Order::Malformed),
            ("SETDLIMIT -5", Order::Malformed),
            ("SETDLIMIT 99999999999999999999", Order::Malformed),
            ("CTCONFIG seed_time 5", Order::Set("seed_time".to_owned(), "5".to_owned())),
            ("CTCONFIG user_exit a  b ", Order::Set("user_exit".to_owned(), "a  b ".to_owned())),
            ("CTCONFIG file_list ", Order::Set("file_list".to_owned(), String::new())),
            ("CTCONFIG seed_time", Order::Malformed),
            ("CTCONFIG", Order::Malformed),
            ("CTCONFIG  x", Order::Malformed),
            ("ERROR no\u{7} such", Order::Error("no? such".to_owned())),
            ("PROTOCOL 0003", Order::Nothing),
            ("sendstatus", Order::Nothing),
            ("SENDSTATUSX", Order::Nothing),
            ("", Order::Nothing),
        ] {
            assert_eq!(Order::parse(line), order, "{line:?}");
        }
    }

    #[test]
    fn lines_have_the_namesakes_form() {
        let figures = Figures {
            seeders: (1, 2),
            leechers: (3, 4),
            connecting: 5,
            pieces: (6, 14, 7),
            rates: (8, 9),
            totals: (10, 11),
            limits: (12, 13),
        };
        assert_eq!(figures.status(), "CTSTATUS 1:2/3:4/5 6/14/7 8,9 10,11 12,13 0");
        assert_eq!(figures.bandwidth(), "CTBW 8,9 12,13");
        assert_eq!(
            setting("seed_time", Kind::Number, "72", "Seed time [-e]", "~hours remaining (-e 72)"),
            "CTCONFIG seed_time F 0 2:72 14:Seed time [-e] 24:~hours remaining (-e 72)"
        );
        assert_eq!(setting("x", Kind::Between(20, 1000), "3", "", ""), "CTCONFIG x I 20-1000 1:3 0: 0:");
        assert_eq!(setting("x", Kind::Text, "a\nb", "", ""), "CTCONFIG x S 4096 3:a?b 0: 0:");
    }

    #[test]
    fn a_peer_id_is_spelled_in_hex_from_its_first_odd_byte_on() {
        assert_eq!(peer_id(&PeerId(*b"-OG0100-abcdefghijkl")), "-OG0100-abcdefghijkl");
        assert_eq!(peer_id(&PeerId(*b"-CD0303-a b\x00\xffghijklm")), "-CD0303-a0x206200FF6768696A6B6C6D");
        assert_eq!(peer_id(&PeerId([10; 20])), format!("0x{}", "0A".repeat(20)));
    }

    proptest! {
        #[test]
        fn whatever_a_server_says_is_read(line in any::<String>()) {
            if let Order::Set(name, value) = Order::parse(&line) {
                prop_assert!(!(name + &value).contains(['\n', '\r', '\0']));
            }
        }
    }
}
