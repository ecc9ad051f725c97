//! The connection to a CTCS server: made in the background and again when it is lost, never waited for.
//!
//! Its cost is bounded whatever the server does: input is taken one chunk at a time, a line without an end is not kept,
//! and while the server does not read, its input is left alone and nothing more is queued.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Pause before a connection is made again, as in Enhanced CTorrent.
const PAUSE: Duration = Duration::from_secs(5);
/// Time-out of connecting to one address.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most addresses of a name to try.
const ADDRESSES: usize = 4;
/// The longest line, bytes: a list of 4096 bytes and its name.
const LINE: usize = 4352;
/// Bytes read at a time.
const CHUNK: usize = 4096;
/// Unsent bytes above which the server's input is left alone.
const BACKLOG: usize = 64 << 10;
/// Time after which a server that reads nothing is given up.
const UNREAD: Duration = Duration::from_secs(60);

enum Stage {
    /// No connection before this moment.
    Rests(Instant),
    Dials(Receiver<io::Result<TcpStream>>),
    Up(TcpStream),
}

/// A change of the connection.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// No change.
    None,
    /// The connection is up, and awaits our introduction.
    Up,
    /// The connection failed for this reason, after having lasted this long; zero if it never came up.
    Lost(String, Duration),
}

/// A connection to one server.
pub struct Link {
    /// HOST:PORT.
    server: String,
    stage: Stage,
    /// When the connection last came up.
    since: Instant,
    input: Vec<u8>,
    /// Whether the rest of an overlong line is being passed over.
    skips: bool,
    /// Whether there was an overlong line since the last look.
    noise: bool,
    output: Vec<u8>,
    /// When output last went out, or there was none.
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

    /// Returns the server's HOST:PORT.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Whether the server sent an overlong line since the last call.
    pub fn take_noise(&mut self) -> bool {
        std::mem::take(&mut self.noise)
    }

    /// Connects, sends and receives as far as that needs no waiting.
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

    /// Whether the connection is up and the server reads.
    pub fn listens(&self) -> bool {
        matches!(self.stage, Stage::Up(_)) && self.output.len() < BACKLOG
    }

    /// Queues `line` to be sent, if the connection is up.
    pub fn say(&mut self, line: &str) {
        if let Stage::Up(_) = self.stage {
            self.output.extend_from_slice(line.as_bytes());
            self.output.push(b'\n');
        }
    }

    /// Sends queued lines as far as that needs no waiting.
    ///
    /// # Errors
    /// The connection is broken.
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

    /// Returns the server's next line, without its end; `None` while the server does not read.
    pub fn next_line(&mut self) -> Option<String> {
        if !self.listens() {
            return None;
        }
        let end = self.input.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.input.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    /// Drops the connection and connects to `server`.
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
        // The rest of one connection means nothing on the next.
        (self.input, self.output, self.skips) = (Vec::new(), Vec::new(), false);
    }
}

fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Connects in a thread of its own: resolving a name may take long.
fn dial(server: String) -> Receiver<io::Result<TcpStream>> {
    let (told, outcome) = channel();
    // If no thread starts, the channel disconnects and the caller notices; a dropped receiver is ignored.
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
