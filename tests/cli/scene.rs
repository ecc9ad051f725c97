//! A payload, its torrent, a tracker that knows it, and our own `ctorrent`s that share it.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::Command;

use ogbox::torrent::Metainfo;

use crate::support::{Lab, Program, applet, binary, run, write_payload};

/// MiB of the payload: an odd number of pieces, so that the bitfield has spare bits.
pub const MIB: usize = 15;
/// Pieces of the payload, and bytes of each.
pub const PIECES: u32 = 60;
pub const PIECE: u32 = 256 << 10;
/// Time limit of one act, or of the download after it, seconds.
pub const PATIENCE: u64 = 20;

/// A payload with its torrent and a tracker.
pub struct Scene {
    pub lab: Lab,
    pub whole: PathBuf,
    pub torrent: PathBuf,
    pub info_hash: [u8; 20],
    _tracker: Program,
}

/// One of our `ctorrent`s, and the address it listens on.
pub struct Peer {
    pub program: Program,
    pub at: SocketAddrV4,
    pub file: PathBuf,
}

impl Scene {
    /// Makes a scene; the same `seed` gives the same payload.
    pub fn new(seed: u64) -> Scene {
        Scene::of(seed, MIB)
    }

    /// Makes a scene with a payload of `mib` MiB in pieces of [`PIECE`] bytes.
    pub fn of(seed: u64, mib: usize) -> Scene {
        Scene::odd(seed, mib, 0)
    }

    /// Makes a scene with a payload of `more` bytes more.
    pub fn odd(seed: u64, mib: usize, more: usize) -> Scene {
        let lab = Lab::new();
        let images = lab.make_dir("images");
        let (whole, torrent) = (images.join("x.img"), images.join("x.torrent"));
        write_payload(&whole, mib, seed);
        let mut payload = OpenOptions::new().append(true).open(&whole).expect("open the payload");
        payload.write_all(&vec![seed as u8; more]).expect("lengthen the payload");
        let tracker = SocketAddrV4::new(lab.host(1), lab.free_port(1));
        let url = format!("http://{tracker}/announce");
        run(applet("ctorrent").arg("-t").arg(&whole).args(["-u", &url, "-s"]).arg(&torrent));
        let mut command = applet("bttrack");
        command.args(["--port", &tracker.port().to_string(), "--bind", &tracker.ip().to_string()]);
        command
            .args(["--reannounce_interval", "5", "--dfile"])
            .arg(lab.path("dstate"))
            .arg("--allowed_dir")
            .arg(&images);
        let _tracker = lab.start("bttrack", &mut command);
        lab.listens(tracker, 60);
        let info_hash = Metainfo::read(&torrent).expect("read the torrent").info_hash.0;
        Scene { lab, whole, torrent, info_hash, _tracker }
    }

    /// The options that give a `ctorrent` the address `at` and its own bitfield file.
    pub fn place(&self, at: SocketAddrV4) -> Vec<String> {
        let bitfield = self.lab.path(&format!("bitfield-{}", at.ip()));
        // Multicast on loopback would reach the labs of other tests as well.
        let options = ["--no-lsd", "-i", &at.ip().to_string(), "-p", &at.port().to_string(), "-b"].map(str::to_owned);
        options.into_iter().chain([bitfield.display().to_string()]).collect()
    }

    /// A free address of host `n`.
    pub fn address(&self, n: u8) -> SocketAddrV4 {
        SocketAddrV4::new(self.lab.host(n), self.lab.free_port(n))
    }

    /// Starts a peer on host `n`, in a shell after the command `prefix` if there is one.
    pub fn start(&self, n: u8, file: PathBuf, prefix: Option<&str>) -> Peer {
        let command = match prefix {
            None => applet("ctorrent"),
            Some(prefix) => {
                let mut command = Command::new("sh");
                command.args(["-c", &format!("{prefix}; exec \"$@\""), "sh"]).arg(binary()).arg("ctorrent");
                command
            }
        };
        self.start_with(n, &file, command, &["-e", "1"])
    }

    /// Starts `command`, which runs `ctorrent`, on host `n` with further `options`.
    pub fn start_with(&self, n: u8, file: &Path, mut command: Command, options: &[&str]) -> Peer {
        let at = self.address(n);
        command.args(self.place(at)).args(options).arg("-s").arg(file).arg(&self.torrent);
        let program = self.lab.start(&format!("peer-{n}"), &mut command);
        Peer { program, at, file: file.to_owned() }
    }

    /// A peer on host 3 that lacks everything.
    pub fn leecher(&self) -> Peer {
        let mut peer = self.start(3, self.lab.path("fetched.img"), None);
        peer.program.wait_for_line("Listening on", PATIENCE);
        peer
    }

    /// A peer on host 2 that has everything.
    pub fn seeder(&self) -> Peer {
        let mut peer = self.start(2, self.whole.clone(), None);
        peer.program.wait_for_line("Seed for others", PATIENCE);
        peer
    }
}
