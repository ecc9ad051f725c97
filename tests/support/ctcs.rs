//! A CTorrent Control Server that follows its test, for ours and for Debian's ctorrent.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::time::Duration;

use crate::support::{Lab, eventually};

/// A server on the lab's first host.
pub struct Server {
    listener: TcpListener,
    pub at: SocketAddrV4,
}

/// A client that has connected.
pub struct Client {
    pub stream: BufReader<TcpStream>,
    patience: u64,
}

impl Server {
    pub fn new(lab: &Lab) -> Server {
        Server::on(SocketAddrV4::new(lab.host(1), 0))
    }

    /// Starts a server at `at`; port 0: any.
    pub fn on(at: SocketAddrV4) -> Server {
        let listener = TcpListener::bind(at).expect("listen");
        let port = listener.local_addr().expect("the port's number").port();
        let at = SocketAddrV4::new(*at.ip(), port);
        listener.set_nonblocking(true).expect("do not wait for ever");
        Server { listener, at }
    }

    /// Accepts the next connection, within `seconds`.
    pub fn accept(&self, seconds: u64) -> Client {
        let mut stream = None;
        eventually("a client connects to its server", seconds, || {
            stream = self.listener.accept().ok();
            stream.is_some()
        });
        let (stream, _) = stream.expect("just accepted");
        stream.set_nonblocking(false).expect("wait for what it says");
        stream.set_read_timeout(Some(Duration::from_secs(seconds))).expect("be patient");
        stream.set_write_timeout(Some(Duration::from_millis(500))).expect("be impatient");
        Client { stream: BufReader::new(stream), patience: seconds }
    }
}

impl Client {
    /// Sends an order; false if the client takes no more.
    pub fn order(&mut self, line: &str) -> bool {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes()).is_ok()
    }

    /// The client's next line; `None` if it has closed the connection.
    pub fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        match self.stream.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => {
                let line = String::from_utf8(line).expect("a line of text");
                Some(line.strip_suffix('\n').expect("a whole line").to_owned())
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("wait {} s for a line: {error}", self.patience),
        }
    }

    /// The next line that `suits`; others are skipped.
    pub fn wait_for(&mut self, what: &str, suits: impl Fn(&str) -> bool) -> String {
        loop {
            let line = self.line().unwrap_or_else(|| panic!("it closed the connection before {what}"));
            if suits(&line) {
                return line;
            }
        }
    }

    /// Returns the answer to `order`: the lines from the first word `begin` to the first word `end`.
    pub fn ask(&mut self, order: &str, begin: &str, end: &str) -> Vec<String> {
        assert!(self.order(order), "order {order}");
        let is = |word: &str, line: &str| line.split(' ').next() == Some(word);
        let mut lines = vec![self.wait_for(begin, |line| is(begin, line))];
        while begin != end && !is(end, lines.last().expect("one at least")) {
            // Unsolicited output comes whole, between two answers.
            lines.push(self.line().expect("the answer goes on"));
        }
        lines
    }

    /// The settings that the client reports.
    pub fn settings(&mut self) -> Vec<String> {
        let lines = self.ask("SENDCONF", "CTCONFIGSTART", "CTCONFIGDONE");
        lines[1..lines.len() - 1].to_vec()
    }
}
