//! The programs of a swarm and the command lines with which they share one machine: each on a loopback
//! address of its own, no discovery but the tracker, no limits.
//!
//! Requirements, found by trying: Debian's ctorrent keeps its bitfield beside the torrent, so each one gets a copy
//! of its own; it reports the address of `-i` to the tracker, and it closes a connection on which it gets more
//! requests than it expects, as from aria2 on a fast link: these two fetch only little from one another, and need
//! ours to become whole. aria2 talks to the tracker from the address of `--interface`. opentracker reads its
//! whitelist after a chroot to the working directory, as nobody if it was root. transmission accepts no peer address
//! in 127.0.0.0/8 and needs a lab in a room; as a seeder it gives each peer at most 3 MB/s.

use std::fs;
use std::net::SocketAddrV4;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::{Lab, Program, applet, eventually};

/// The file that is shared has the same name everywhere.
pub const NAME: &str = "payload.img";

/// The place of a tracker, fixed before it runs: the torrent names it, and it has to know the torrent.
pub struct Tracker {
    /// The URL in the torrent.
    pub url: String,
    address: SocketAddrV4,
}

impl Tracker {
    /// Reserves a place on host 1 of the lab.
    pub fn planned(lab: &Lab) -> Tracker {
        let address = SocketAddrV4::new(lab.host(1), lab.free_port(1));
        Tracker { url: format!("http://{address}/announce"), address }
    }

    /// Starts our bttrack, which allows the torrents in the directory `allowed`.
    pub fn bttrack(&self, lab: &Lab, allowed: &Path) -> Program {
        let mut command = applet("bttrack");
        command.args(["--port", &self.address.port().to_string(), "--bind", &self.address.ip().to_string()]);
        command.arg("--dfile").arg(lab.path("dstate")).arg("--allowed_dir").arg(allowed);
        command.args(["--reannounce_interval", "5"]);
        self.start(lab, "bttrack", &mut command)
    }

    /// Starts Debian's opentracker, which allows only `info_hash` (40 hex digits); also returns the directory of its
    /// whitelist.
    pub fn opentracker(&self, lab: &Lab, info_hash: &str) -> (Program, TempDir) {
        // Not in the lab: nobody has no access to the home directory of the user who runs the tests.
        let whitelist = tempfile::tempdir().expect("make a directory for the whitelist");
        fs::set_permissions(whitelist.path(), fs::Permissions::from_mode(0o755)).expect("open it to nobody");
        let list = whitelist.path().join("whitelist");
        fs::write(&list, format!("{info_hash}\n")).expect("write the whitelist");
        let port = self.address.port().to_string();
        let mut command = Command::new("opentracker");
        command.current_dir("/").args(["-i", &self.address.ip().to_string(), "-p", &port, "-P", &port, "-w"]).arg(list);
        (self.start(lab, "opentracker", &mut command), whitelist)
    }

    fn start(&self, lab: &Lab, name: &str, command: &mut Command) -> Program {
        let program = lab.start(name, command);
        lab.listens(self.address, 60);
        program
    }
}

/// The program that a peer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// `ogbox ctorrent`.
    Ours,
    /// Debian's ctorrent.
    Ctorrent,
    /// Debian's aria2.
    Aria2,
    /// Debian's transmission-cli.
    Transmission,
    /// Debian's rtorrent.
    Rtorrent,
    /// The client of `scripts/bench` on Debian's python3-libtorrent.
    Libtorrent,
}

/// One peer of a swarm.
pub struct Peer {
    program: Program,
    client: Client,
    dir: PathBuf,
}

impl Peer {
    /// Starts `client` on host `n` of the lab; it seeds `whole` (a file) if that is given, else it fetches.
    pub fn start(lab: &Lab, n: u8, client: Client, torrent: &Path, whole: Option<&Path>) -> Peer {
        let name = format!("{client:?}-{n}");
        let dir = lab.make_dir(&name);
        fs::hard_link(torrent, dir.join("torrent")).expect("give a peer the torrent");
        if let Some(whole) = whole {
            fs::hard_link(whole, dir.join(NAME)).expect("give a seeder its file");
        }
        let hook = dir.join("hook");
        fs::write(&hook, "#!/bin/sh\ntouch \"$0.ran\"\n").expect("write the hook");
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("make the hook run");
        let at = SocketAddrV4::new(lab.host(n), lab.free_port(n));
        let mut command = match client {
            Client::Ours => ours(at),
            Client::Ctorrent => ctorrent(Command::new("ctorrent"), at),
            Client::Aria2 => aria2(at, &dir, whole.is_some()),
            Client::Transmission => transmission(at, &dir),
            Client::Rtorrent => rtorrent(at, &dir),
            Client::Libtorrent => libtorrent(at),
        };
        command.current_dir(&dir);
        match client {
            Client::Rtorrent => &mut command,
            Client::Libtorrent => {
                command.args(["torrent", if whole.is_some() { "" } else { "hook.ran" }, &lab.host(n).to_string()])
            }
            _ => command.arg("torrent"),
        };
        let program = lab.start(&name, &mut command);
        Peer { program, client, dir }
    }

    /// Ends the peer and returns its file. Ours must end in order within 10 seconds; Debian's ctorrent has taken
    /// minutes to say goodbye and is spared that.
    pub fn leave(mut self) -> PathBuf {
        if self.client == Client::Ours {
            let status = self.program.interrupt();
            assert!(status.success(), "ended by SIGINT with {status}");
        }
        self.dir.join(NAME)
    }

    /// Waits until the peer says that it has the whole file.
    pub fn wait_until_whole(&mut self, seconds: u64) {
        match self.client {
            Client::Ours | Client::Ctorrent => self.program.wait_for_line("Download complete.", seconds),
            client => eventually(&format!("{client:?} has the whole file"), seconds, || {
                assert!(self.program.runs(), "{client:?} ended too soon");
                self.dir.join("hook.ran").exists()
            }),
        }
    }
}

fn ours(at: SocketAddrV4) -> Command {
    ctorrent(our_ctorrent(), at)
}

/// Ours, without local discovery: multicast on loopback would reach the labs of other tests as well.
pub fn our_ctorrent() -> Command {
    let mut program = applet("ctorrent");
    program.arg("--no-lsd");
    program
}

/// Makes `program`, some ctorrent, run on host `n` in a directory of its own, which has the torrent as `torrent`.
pub fn settle(lab: &Lab, n: u8, program: &mut Command, torrent: &Path) -> PathBuf {
    let own = lab.make_dir(&format!("peer-{n}"));
    fs::hard_link(torrent, own.join("torrent")).expect("give a peer the torrent");
    program.args(["-i", &lab.host(n).to_string(), "-p", &lab.free_port(n).to_string()]).current_dir(&own);
    own
}

/// Gives `program`, some ctorrent, the address `at`.
fn ctorrent(mut program: Command, at: SocketAddrV4) -> Command {
    program.args(["-e", "1", "-s", NAME, "-i", &at.ip().to_string(), "-p", &at.port().to_string()]);
    program
}

fn aria2(at: SocketAddrV4, dir: &Path, seeds: bool) -> Command {
    let mut program = Command::new("aria2c");
    program.args(["--no-conf", "--enable-dht=false", "--bt-enable-lpd=false", "--enable-peer-exchange=false"]);
    program.args(["--disable-ipv6=true", "--file-allocation=none", "--seed-ratio=0.0", "--bt-max-peers=0", "--dir=."]);
    program.args(["--console-log-level=warn", "--summary-interval=0", "--show-console-readout=false"]);
    program.args([format!("--interface={}", at.ip()), format!("--listen-port={}", at.port())]);
    if seeds {
        program.args(["--bt-seed-unverified=true", "--check-integrity=false"]);
    }
    program.arg(format!("--on-bt-download-complete={}", dir.join("hook").display()));
    program
}

fn transmission(at: SocketAddrV4, dir: &Path) -> Command {
    let settings = format!(
        r#"{{"bind-address-ipv4": "{}", "bind-address-ipv6": "::1", "dht-enabled": false, "lpd-enabled": false,
             "pex-enabled": false, "utp-enabled": false, "ratio-limit-enabled": false}}"#,
        at.ip()
    );
    fs::create_dir(dir.join("settings")).expect("make transmission's directory");
    fs::write(dir.join("settings/settings.json"), settings).expect("write transmission's settings");
    let mut program = Command::new("transmission-cli");
    program.args(["-g", "settings", "-M", "-U", "-D", "-w"]).arg(dir).arg("-f").arg(dir.join("hook"));
    program.args(["-p", &at.port().to_string()]);
    program
}

/// rtorrent, whose settings name the torrent.
fn rtorrent(at: SocketAddrV4, dir: &Path) -> Command {
    let (ip, port, dir) = (at.ip(), at.port(), dir.display());
    let settings = format!(
        "network.bind_address.set = {ip}\nnetwork.local_address.set = {ip}\nnetwork.port_range.set = {port}-{port}\n\
         network.port_random.set = no\ndht.mode.set = disable\ntrackers.use_udp.set = no\nprotocol.pex.set = no\n\
         directory.default.set = {dir}\nsystem.daemon.set = true\n\
         method.set_key = event.download.finished,hook,\"execute.nothrow={dir}/hook\"\nload.start = {dir}/torrent\n"
    );
    let mut program = Command::new("rtorrent");
    fs::write(format!("{dir}/settings"), settings).expect("write rtorrent's settings");
    program.args(["-n", "-o", &format!("import={dir}/settings")]);
    program
}

/// libtorrent under Debian's own Python; it listens on a port of its own choice.
fn libtorrent(_: SocketAddrV4) -> Command {
    let mut program = Command::new("/usr/bin/python3");
    program.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/bench")).arg("libtorrent");
    program
}
