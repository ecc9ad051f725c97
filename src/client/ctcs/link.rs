//! The connection to a CTCS server: made in the background and again when it is lost, never waited for.
//!
//! What it costs is bounded whatever the server does. Of what it says only so much is taken as is read at once; of lines
//! that do not end nothing is kept; and while it does not read, nothing that it says is looked at and nothing is said.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Pause before a connection is made again; the namesake's.
const PAUSE: Duration = Duration::from_secs(5);
/// Time for one address to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Addresses of a name that are tried.
const ADDRESSES: usize = 4;
/// The longest line: a list of 4096 bytes and its name.
const LINE: usize = 4352;
/// Bytes that are read at once.
const CHUNK: usize = 4096;
/// Bytes that wait for a server to read them before it is listened to no longer.
const BACKLOG: usize = 64 << 10;
/// Time after which one that reads nothing is given up.
const UNREAD: Duration = Duration::from_secs(60);

enum Stage {
    /// Until then.
    Rests(Instant),
    Dials(Receiver<io::Result<TcpStream>>),
    Up(TcpStream),
}

/// What became of the connection.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// Nothing.
    None,
    /// It is up: say who we are.
    Up,
    /// It is lost after that time, or did not come up.
    Lost(String, Duration),
}

/// A connection to one server.
pub struct Link {
    /// HOST:PORT.
    server: String,
    stage: Stage,
    /// When it last came up.
    since: Instant,
    input: Vec<u8>,
    /// The rest of a line that is too long is passed over.
    skips: bool,
    /// There was one.
    noise: bool,
    output: Vec<u8>,
    /// When something of the output went out, or there was none.
    moved: Instant,
}

impl Link {
    /// Connects to `server`, HOST:PORT.
    pub fn new(server: String) -> Link {
        let now = Instant::now();
        Link {
            server,
            stage: Stage::Rests(now),
            since: now,
            input: Vec::new(),
            skips: false,
            noise: false,
            output: Vec::new(),
            moved: now,
        }
    }

    /// HOST:PORT.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// What the server said last was no line.
    pub fn take_noise(&mut self) -> bool {
        std::mem::take(&mut self.noise)
    }

    /// Goes on: connects, sends and receives what can be without waiting.
    pub fn turn(&mut self) -> Change {
        match &mut self.stage {
            Stage::Rests(until) if Instant::now() >= *until => self.stage = Stage::Dials(dial(self.server.clone())),
            Stage::Rests(_) => {}
            Stage::Dials(outcome) => match outcome.try_recv() {
                Ok(Ok(stream)) => {
                    (self.stage, self.since, self.moved) = (Stage::Up(stream), Instant::now(), Instant::now());
                    return Change::Up;
                }
                Ok(Err(error)) => return self.lose(error.to_string()),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return self.lose("no thread to connect in".to_owned()),
            },
            Stage::Up(_) => match self.exchange() {
                Ok(()) if !self.output.is_empty() && self.moved.elapsed() > UNREAD => {
                    return self.lose("it reads nothing".to_owned());
                }
                Ok(()) => {}
                Err(error) => return self.lose(error.to_string()),
            },
        }
        Change::None
    }

    /// It is up and reads what it is told.
    pub fn listens(&self) -> bool {
        matches!(self.stage, Stage::Up(_)) && self.output.len() < BACKLOG
    }

    /// Says `line`, if the connection is up.
    pub fn say(&mut self, line: &str) {
        if let Stage::Up(_) = self.stage {
            self.output.extend_from_slice(line.as_bytes());
            self.output.push(b'\n');
        }
    }

    /// Sends what was said, as far as that goes without waiting.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub fn flush(&mut self) -> io::Result<()> {
        let Stage::Up(stream) = &mut self.stage else { return Ok(()) };
        while !self.output.is_empty() {
            match stream.write(&self.output) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => {
                    self.output.drain(..sent);
                    self.moved = Instant::now();
                }
                Err(error) if waits(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.moved = Instant::now();
        Ok(())
    }

    /// The next line that the server said, without its end; none while it does not read what it was told.
    pub fn next_line(&mut self) -> Option<String> {
        if !self.listens() {
            return None;
        }
        let end = self.input.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.input.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    /// Goes over to `server`.
    pub fn redirect(&mut self, server: String) {
        self.server = server;
        self.rest(Duration::ZERO);
    }

    fn exchange(&mut self) -> io::Result<()> {
        self.flush()?;
        let Stage::Up(stream) = &mut self.stage else { return Ok(()) };
        if self.output.len() >= BACKLOG || self.input.contains(&b'\n') {
            return Ok(());
        }
        let mut chunk = [0; CHUNK];
        let got = match stream.read(&mut chunk) {
            Ok(0) => return Err(io::Error::other("it closed the connection")),
            Ok(got) => got,
            Err(error) if waits(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut news = &chunk[..got];
        if self.skips {
            let Some(end) = news.iter().position(|byte| *byte == b'\n') else { return Ok(()) };
            news = &news[end + 1..];
            self.skips = false;
        }
        self.input.extend_from_slice(news);
        if self.input.len() > LINE && !self.input.contains(&b'\n') {
            self.input.clear();
            (self.skips, self.noise) = (true, true);
        }
        Ok(())
    }

    fn lose(&mut self, why: String) -> Change {
        let lasted = if let Stage::Up(_) = self.stage { self.since.elapsed() } else { Duration::ZERO };
        self.rest(PAUSE);
        Change::Lost(why, lasted)
    }

    fn rest(&mut self, pause: Duration) {
        self.stage = Stage::Rests(Instant::now() + pause);
        // What is left of one connection means nothing on the next.
        (self.input, self.output, self.skips) = (Vec::new(), Vec::new(), false);
    }
}

fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Connects in a thread of its own: finding out a name's address may take long.
fn dial(server: String) -> Receiver<io::Result<TcpStream>> {
    let (told, outcome) = channel();
    // Without a thread nobody tells, which is noticed. Who does not wait any more is not told.
    let _ = thread::Builder::new().name("ctcs".to_owned()).spawn(move || drop(told.send(connect(&server))));
    outcome
}

fn connect(server: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::other("its name has no address");
    for address in server.to_socket_addrs()?.take(ADDRESSES) {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_nonblocking(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
