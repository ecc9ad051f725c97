//! bttrack and btlaunchmany on a server in a bad state: hostile torrents, a directory that vanishes, a full disk, a
//! file system without change events; and as OpenGnsys' init script starts and stops them.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use ogbox::torrent::Metainfo;
use ogbox::tracker::client::Error;
use rustix::process::Signal;

use super::bttrack::announce;
use super::support::{Lab, Program, applet, binary, eventually, free_port, listens, run, text, tool, write_payload};

/// Makes an image of a MiB in the lab's images and its torrent.
fn image(lab: &Lab, name: &str) -> Metainfo {
    let image = lab.make_dir("images").join(name);
    write_payload(&image, 1, name.len() as u64);
    let torrent = PathBuf::from(format!("{}.torrent", image.display()));
    run(applet("ctorrent").arg("-t").arg(&image).args(["-u", "http://127.0.0.1:1/announce", "-s"]).arg(&torrent));
    Metainfo::read(&torrent).expect("a torrent")
}

struct Servers {
    tracker: Program,
    seeder: Program,
    at: SocketAddrV4,
}

/// Starts both of them on the lab's images, with their command lines passed through `wrap`.
fn start(lab: &Lab, wrap: impl Fn(Command) -> Command, tracking: &[&str], seeding: &[&str]) -> Servers {
    let (host, seeding_host, images) = (lab.host(1), lab.host(2), lab.make_dir("images"));
    let at = SocketAddrV4::new(host, free_port(host));
    let (port, seeding_port) = (at.port().to_string(), free_port(seeding_host).to_string());
    let (host, seeding_host) = (host.to_string(), seeding_host.to_string());
    let mut command = applet("bttrack");
    command.args(["--bind", &host, "--port", &port, "--min_time_between_log_flushes", "0"]).args(tracking);
    command.arg("--allowed_dir").arg(&images).arg("--dfile").arg(lab.make_dir("state").join("dstate"));
    let tracker = lab.start("bttrack", &mut wrap(command));
    let mut command = applet("btlaunchmany");
    command.arg(&images).args(["--bind", &seeding_host, "--minport", &seeding_port, "--maxport", &seeding_port]);
    let seeder = lab.start(
        "btlaunchmany",
        &mut wrap({
            command.args(["--lsd", "0"]).args(seeding);
            command
        }),
    );
    listens(at, 20);
    Servers { tracker, seeder, at }
}

impl Servers {
    fn announce(&self, metainfo: &Metainfo, n: u8) -> Result<usize, Error> {
        announce(self.at, metainfo.info_hash, n)
    }
}

/// Whether a test that needs root may go on.
fn root() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    let skipped = std::env::var("SKIP").is_ok_and(|skip| skip.split(',').any(|one| one == "root"));
    assert!(skipped, "this test needs root; SKIP=root leaves it out");
    eprintln!("skipped: SKIP names root");
    false
}

/// `sh -c SCRIPT` in namespaces of its own, with the command line to execute in `$@`.
fn unshared(namespaces: &str, script: &str, command: &Command) -> Command {
    let mut whole = Command::new("unshare");
    whole.args([namespaces, "sh", "-ec", script, "sh"]).arg(command.get_program()).args(command.get_args());
    whole
}

/// Peak resident memory, KiB.
fn peak(program: &Program) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", program.id())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn ten_thousand_hostile_torrents_keep_nobody_from_the_good_one_nor_does_a_directory_that_vanishes() {
    let lab = Lab::new();
    let good = image(&lab, "zz-good.img");
    let images = lab.path("images");
    let whole = fs::read(images.join("zz-good.img.torrent")).expect("its torrent");
    for n in 0..10_000usize {
        let hostile = match n % 5 {
            // Truncated, damaged, nested without end, larger than the data, leading out of the directory.
            0 => whole[..n * 7 % whole.len()].to_vec(),
            1 => whole.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == n % whole.len()) << 7).collect(),
            2 => [b"d4:info".as_slice(), &b"l".repeat(20_000)].concat(),
            3 => b"d4:infod6:lengthi999999999999999999e4:name99999999999:x".to_vec(),
            _ => [
                b"d4:infod6:lengthi5e4:name14:../../../../tm12:piece lengthi16384e6:pieces20:".as_slice(),
                &[7; 20],
                b"ee",
            ]
            .concat(),
        };
        fs::write(images.join(format!("{n}.img.torrent")), hostile).expect("write a torrent");
    }
    let mut servers = start(&lab, |command| command, &[], &[]);
    servers.seeder.wait_for_line("added \"", 60);
    eventually("the good one is tracked", 60, || servers.announce(&good, 1).is_ok());
    for program in [&servers.tracker, &servers.seeder] {
        eventually("each is refused by name", 60, || {
            let said = program.said();
            (2..10_000).step_by(999).all(|n| said.contains(&format!("/{n}.img.torrent")))
        });
        assert!(peak(program) < 64 << 10, "{} KiB", peak(program));
    }
    fs::rename(&images, lab.path("away")).expect("take the directory away");
    servers.tracker.wait_for_line(&format!("**warning** read {}: ", images.display()), 20);
    assert!(!servers.seeder.said().contains("dropped"), "it was verified, and is open");
    assert!(servers.announce(&good, 2).is_ok_and(|peers| peers >= 1));
    fs::create_dir(&images).expect("put another one in its place");
    eventually("it is no longer tracked", 20, || servers.announce(&good, 3).is_err());
    servers.seeder.wait_for_line("dropped \"", 20);
    let new = image(&lab, "new.img");
    eventually("what is there now is tracked", 20, || servers.announce(&new, 1).is_ok());
    servers.seeder.wait_for_line("new.img.torrent\"", 20);
}

#[test]
fn a_full_disk_costs_neither_the_tracker_nor_the_state_it_saved_before() {
    let lab = Lab::new();
    if !root() {
        return;
    }
    let good = image(&lab, "x.img");
    let state = lab.make_dir("state");
    let script = format!("mount -t tmpfs -o size=64k tmpfs '{}'; exec \"$@\"", state.display());
    let servers = start(&lab, |command| unshared("-m", &script, &command), &["--save_dfile_interval", "1"], &[]);
    eventually("it is tracked", 20, || servers.announce(&good, 1).is_ok());
    let seen = PathBuf::from(format!("/proc/{}/root{}", servers.tracker.id(), state.display()));
    eventually("the state is saved", 20, || fs::metadata(seen.join("dstate")).is_ok_and(|file| file.len() > 100));
    let saved = fs::read(seen.join("dstate")).expect("the state");
    // The disk is full when no more fits.
    let _ = fs::write(seen.join("ballast"), vec![1; 128 << 10]);
    eventually("it is told", 20, || {
        servers.announce(&good, 2).expect("an answer");
        servers.tracker.said().contains("**warning** save statefile ")
    });
    assert!(servers.tracker.said().contains("No space left on device"), "{}", servers.tracker.said());
    assert_eq!(fs::read(seen.join("dstate")).expect("the state"), saved);
    fs::remove_file(seen.join("ballast")).expect("make room");
    eventually("it is saved again", 20, || {
        servers.announce(&good, 3).expect("an answer");
        fs::read(seen.join("dstate")).is_ok_and(|state| state.len() > saved.len())
    });
}

#[test]
fn changes_that_nobody_tells_of_are_found_by_looking() {
    let lab = Lab::new();
    if !root() {
        return;
    }
    // As on a network file system, where changes by others cause no event.
    let script = "echo 0 > /proc/sys/user/max_inotify_instances; exec \"$@\"";
    let look = ["--parse_dir_interval", "1"];
    let mut servers = start(&lab, |command| unshared("-Ur", script, &command), &look, &look);
    servers.tracker.wait_for_line("**warning** directories are not watched: ", 20);
    servers.seeder.wait_for_line("**warning** directories are not watched: ", 20);
    let late = image(&lab, "late.img");
    eventually("it is tracked", 20, || servers.announce(&late, 1).is_ok());
    servers.seeder.wait_for_line("late.img.torrent\"", 20);
    fs::rename(lab.path("images/late.img.torrent"), lab.path("images/late.img.torrent.inactive")).expect("rename");
    eventually("it is no longer tracked", 20, || servers.announce(&late, 1).is_err());
    servers.seeder.wait_for_line("dropped \"", 20);
}

/// A daemon that start-stop-daemon has started, known by its pid file.
struct Daemon<'a> {
    pid: &'a Path,
}

impl Daemon<'_> {
    /// Starts the program behind `link` as OpenGnsys' init script does.
    fn start<'a>(link: &Path, pid: &'a Path, args: &[&str]) -> Daemon<'a> {
        let mut command = Command::new("start-stop-daemon");
        command.args(["--start", "--quiet", "--background", "--make-pidfile", "--pidfile"]).arg(pid);
        run(command.arg("--exec").arg(link).arg("--").args(args));
        Daemon { pid }
    }

    fn stopping(&self) -> Command {
        let mut command = Command::new("start-stop-daemon");
        command.args(["--stop", "--quiet", "--retry", "TERM/10/KILL/5", "--remove-pidfile", "--pidfile"]).arg(self.pid);
        command
    }

    fn stop(self) {
        run(&mut self.stopping());
    }
}

/// Kills the daemon also when the test fails.
impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if self.pid.exists() {
            let _ = self.stopping().status();
        }
    }
}

#[test]
fn the_init_script_of_opengnsys_starts_and_stops_them_by_the_names_of_debians_packages() {
    if !tool("start-stop-daemon") {
        return;
    }
    let lab = Lab::new();
    let good = image(&lab, "x.img");
    let (host, port) = (lab.host(1), free_port(lab.host(1)));
    let link = |name: &str| {
        let link = lab.path(name);
        symlink(binary(), &link).expect("link the binary");
        link
    };
    let (tracker, seeder) = (link("bttrack.bittorrent"), link("btlaunchmany.bittornado"));
    let (tracker_pid, seeder_pid) = (lab.path("bttrack.pid"), lab.path("btseeder.pid"));
    let path = |name: &str| lab.path(name).into_os_string().into_string().expect("UTF-8");
    let (dfile, log, images, bind) = (path("dstate"), path("bttrack.log"), path("images"), host.to_string());
    let (port_word, at) = (port.to_string(), SocketAddrV4::new(host, port));
    let common =
        ["--port", &port_word, "--bind", &bind, "--dfile", &dfile, "--logfile", &log, "--allowed_dir", &images];
    let init = ["--reannounce_interval", "30", "--allow_get", "1", "--parse_allowed_interval", "1"];
    let hourly = ["--save_dfile_interval", "10", "--timeout_downloaders_interval", "10", "--allow_get", "0"];
    let seeding = Daemon::start(&seeder, &seeder_pid, &[&images, "--bind", &bind, "--lsd", "0"]);
    for (options, gives) in [(&init[..], "200"), (&hourly[..], "400")] {
        let tracking = Daemon::start(&tracker, &tracker_pid, &[&common[..], options].concat());
        listens(at, 20);
        for (file, name) in [(&tracker_pid, "bttrack"), (&seeder_pid, "btlaunchmany")] {
            let id = fs::read_to_string(file).expect("its id");
            let called = || fs::read_to_string(format!("/proc/{}/comm", id.trim())).expect("its name");
            eventually("pidof and pkill find it", 20, || called().trim() == name);
        }
        let mut stream = TcpStream::connect(at).expect("connect");
        write!(stream, "GET /file?info_hash={} HTTP/1.0\r\n\r\n", good.info_hash).expect("ask");
        let mut said = Vec::new();
        stream.read_to_end(&mut said).expect("hear");
        assert!(text(&said).starts_with(&format!("HTTP/1.0 {gives} ")), "{}", text(&said));
        // The hourly job forgets the swarm.
        tracking.stop();
        assert!(!Path::new(&dfile).exists(), "nobody was there to be remembered");
    }
    seeding.stop();
    assert!(!tracker_pid.exists() && !seeder_pid.exists());
    let said = fs::read_to_string(&log).expect("the log");
    assert_eq!(said.matches("# Shutting down:  ").count(), 2, "{said}");
}

#[test]
fn the_seeder_tells_who_started_it_when_it_is_ready_and_gives_up_root() {
    let lab = Lab::new();
    image(&lab, "x.img");
    if !root() {
        return;
    }
    let (pid, log) = (lab.path("pid"), lab.path("log"));
    let mut command = applet("btlaunchmany");
    command.arg(lab.path("images")).args(["--bind", &lab.host(1).to_string(), "--lsd", "0", "--ready_fd", "1"]);
    command.args(["--user", "nobody"]).arg("--pid").arg(&pid).arg("--logfile").arg(&log);
    let mut program = lab.start("btlaunchmany", &mut command);
    program.wait_for_line("\n", 20);
    assert_eq!(fs::read_to_string(&pid).expect("the pid file"), format!("{}\n", program.id()));
    let status = fs::read_to_string(format!("/proc/{}/status", program.id())).expect("its status");
    assert!(!status.contains("Uid:\t0"), "{status}");
    fs::rename(&log, lab.path("log.1")).expect("rotate the log");
    program.signal(Signal::HUP);
    // Unlike root, it may not create the file: it goes on all the same, and ends in order.
    program.signal(Signal::TERM);
    assert!(program.wait(10).success());
}
