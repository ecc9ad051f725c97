//! Shared parts of the tests that run ogbox as a process: a lab (a directory, and a network of loopback addresses of
//! its own), programs that end with their test, waits that poll for a state, payloads, whole-file comparison, and
//! the rule for missing tools.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Interval of polling.
const TICK: Duration = Duration::from_millis(20);

/// The UDP port of a lab network's host 254 that the network's user holds.
const CLAIM: u16 = 20_000;

/// The binary under test.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_ogbox"))
}

/// `ogbox NAME`, ready for its arguments.
pub fn applet(name: &str) -> Command {
    let mut command = Command::new(binary());
    command.arg(name);
    command
}

/// Converts standard output or standard error to text, whatever bytes it holds.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs `command` to its end and returns its output; panics with all of it on failure.
pub fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("run {command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    output
}

/// Whether the calling test may use `name`, another program.
///
/// A missing tool is a failure, not a silent pass; only `SKIP=name,name` leaves out the tests that need it.
pub fn tool(name: &str) -> bool {
    if std::env::var("SKIP").is_ok_and(|skip| skip.split(',').any(|skipped| skipped == name)) {
        eprintln!("skipped: SKIP names {name}");
        return false;
    }
    let found =
        std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|d| d.join(name).is_file()));
    assert!(found, "{name} is not installed: `scripts/setup test` brings it, SKIP={name} leaves out what needs it");
    true
}

/// Whether all of `names` may be used; see [`tool`].
pub fn tools(names: &[&str]) -> bool {
    names.iter().all(|name| tool(name))
}

/// A directory and a /24 of loopback addresses that no other test has; both are released with it.
pub struct Lab {
    dir: tempfile::TempDir,
    net: [u8; 2],
    /// Holds the namespace, if the lab has one.
    room: Option<Program>,
    _claim: UdpSocket,
}

impl Lab {
    /// Creates a lab, its directory beside the build so that large payloads never land in a small /tmp.
    pub fn new() -> Lab {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("make the lab's directory");
        // The claim is a socket that the whole machine can see: tests of other checkouts respect it as well.
        let claim = |[a, b]: [u8; 2]| UdpSocket::bind((Ipv4Addr::new(127, a, b, 254), CLAIM)).ok();
        let (net, _claim) = (64..=254)
            .flat_map(|a| (0..=254).map(move |b| [a, b]))
            .find_map(|net| Some((net, claim(net)?)))
            .expect("claim a loopback network");
        Lab { dir, net, room: None, _claim }
    }

    /// Creates a lab in a network namespace of its own, for programs that refuse loopback addresses. It has nine
    /// hosts, all of them addresses of one interface; hosts 2 and 3 also have fd77::2 and fd77::3, on the one that
    /// multicast goes to.
    pub fn in_a_room() -> Lab {
        let lab = Lab::new();
        let network = "set -e; ip link set lo up
            for n in 1 2 3 4 5 6 7 8 9; do ip address add 10.77.0.$n/32 dev lo; done
            ip link add left type veth peer name right; ip link set left up; ip link set right up
            ip -6 route del multicast ff00::/8 dev right table local
            for n in 2 3; do ip address add fd77::$n/64 dev left nodad; done; echo open; exec sleep 1800";
        let mut room =
            lab.start("room", Command::new("unshare").args(["--map-root-user", "--net", "sh", "-c", network]));
        room.wait_for_line("open", 60);
        Lab { room: Some(room), ..lab }
    }

    /// The `command` to run on a host of the lab.
    fn on_a_host(&self, command: &Command) -> Option<Command> {
        let room = self.room.as_ref()?.id().to_string();
        let mut inside = Command::new("nsenter");
        inside.args(["--preserve-credentials", "--user", "--net", "--target", &room, "--"]);
        inside.arg(command.get_program()).args(command.get_args());
        inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(dir) = command.get_current_dir() {
            inside.current_dir(dir);
        }
        Some(inside)
    }

    /// A TCP port of host `n` that was free a moment ago.
    pub fn free_port(&self, n: u8) -> u16 {
        // In a room, only the caller uses the host's address.
        if self.room.is_some() { 20_001 } else { free_port(self.host(n)) }
    }

    /// Waits until a process listens on `address`.
    pub fn listens(&self, address: SocketAddrV4, seconds: u64) {
        let probe = format!("exec 3<>/dev/tcp/{}/{}", address.ip(), address.port());
        match self.on_a_host(Command::new("bash").args(["-c", &probe])) {
            Some(mut probe) => eventually(&format!("{address} listens"), seconds, || {
                probe.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
            }),
            None => listens(address, seconds),
        }
    }

    /// The path of `name` in the lab's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes the directory `name` in the lab.
    pub fn make_dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("make {}: {e}", path.display()));
        path
    }

    /// The address of host `n` (1–253) of the lab's network.
    pub fn host(&self, n: u8) -> Ipv4Addr {
        match self.room {
            Some(_) => Ipv4Addr::new(10, 77, 0, n),
            None => Ipv4Addr::new(127, self.net[0], self.net[1], n),
        }
    }

    /// Starts `command` with its output in the lab's file `NAME.log`.
    pub fn start(&self, name: &str, command: &mut Command) -> Program {
        let log = self.path(&format!("{name}.log"));
        let file = File::create(&log).expect("create a log");
        let mut inside = self.on_a_host(command);
        let command = inside.as_mut().unwrap_or(command);
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("share the log"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        Program { name: name.to_owned(), child, log }
    }
}

/// A TCP port of `host` that was free a moment ago.
pub fn free_port(host: Ipv4Addr) -> u16 {
    let listener = TcpListener::bind((host, 0)).expect("bind a free port");
    listener.local_addr().expect("the port's number").port()
}

/// A running program, killed when its test drops it; if the test failed, the end of its log is shown.
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All of its output so far.
    pub fn said(&self) -> String {
        text(&fs::read(&self.log).unwrap_or_default())
    }

    /// Whether it is still running.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("look after a child").is_none()
    }

    /// Sends `signal`.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap_or_else(|e| panic!("signal {}: {e}", self.name));
    }

    /// Waits until it ends by itself, at most `seconds`.
    pub fn wait(&mut self, seconds: u64) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            if let Some(status) = self.child.try_wait().expect("look after a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "{} still runs after {seconds} s", self.name);
            std::thread::sleep(TICK);
        }
    }

    /// Ends it with SIGINT, as a user does, within 10 seconds.
    pub fn interrupt(&mut self) -> ExitStatus {
        self.signal(Signal::INT);
        self.wait(10)
    }

    /// Waits until `line` occurs in its output.
    pub fn wait_for_line(&mut self, line: &str, seconds: u64) {
        let what = format!("{} says `{line}`", self.name);
        eventually(&what, seconds, || {
            let said = self.said().contains(line);
            assert!(said || self.runs(), "{} ended without saying `{line}`", self.name);
            said
        });
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Killing fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = self.said();
            let lines: Vec<&str> = said.split(['\n', '\r']).filter(|line| !line.is_empty()).collect();
            let (name, id) = (&self.name, self.id());
            eprintln!(
                "--- {name} (process {id}) said at last:\n{}",
                lines[lines.len().saturating_sub(15)..].join("\n")
            );
        }
    }
}

/// Polls until `state` holds; panics if it does not within `seconds`.
pub fn eventually(what: &str, seconds: u64, mut state: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !state() {
        assert!(Instant::now() < deadline, "waited {seconds} s in vain until {what}");
        std::thread::sleep(TICK);
    }
}

/// Waits until a process listens on `address`.
pub fn listens(address: SocketAddrV4, seconds: u64) {
    eventually(&format!("{address} listens"), seconds, || {
        std::net::TcpStream::connect_timeout(&address.into(), Duration::from_secs(1)).is_ok()
    });
}

/// Writes `mib` MiB that no compressor shrinks, the same for the same `seed` (splitmix64).
pub fn write_payload(path: &Path, mib: usize, seed: u64) {
    let mut file = File::create(path).unwrap_or_else(|e| panic!("create {}: {e}", path.display()));
    let mut state = seed;
    let mut chunk = vec![0; 1 << 20];
    for _ in 0..mib {
        for word in chunk.chunks_exact_mut(8) {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes());
        }
        file.write_all(&chunk).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
    }
}

/// Compares two files to their last byte.
pub fn assert_same_file(left: &Path, right: &Path) {
    let open = |path: &Path| File::open(path).unwrap_or_else(|e| panic!("open {}: {e}", path.display()));
    let length = |path: &Path| fs::metadata(path).unwrap_or_else(|e| panic!("look at {}: {e}", path.display())).len();
    let all = length(left);
    assert_eq!(all, length(right), "lengths of {} and {}", left.display(), right.display());
    let (mut a, mut b) = (open(left), open(right));
    let (mut chunk_a, mut chunk_b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut at = 0;
    while at < all {
        let want = chunk_a.len().min((all - at) as usize);
        a.read_exact(&mut chunk_a[..want]).expect("read the left file");
        b.read_exact(&mut chunk_b[..want]).expect("read the right file");
        if let Some(byte) = chunk_a[..want].iter().zip(&chunk_b[..want]).position(|(x, y)| x != y) {
            panic!("{} and {} differ at byte {}", left.display(), right.display(), at + byte as u64);
        }
        at += want as u64;
    }
}
