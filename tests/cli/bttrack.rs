//! bttrack as its users start it: both dialects of its options, its texts, its exit codes, its end.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use ogbox::torrent::bencode::Encoder;
use ogbox::torrent::{InfoHash, Metainfo, PeerId};
use ogbox::tracker::client::{AnnounceRequest, Client, Error, Event};
use rustix::process::Signal;

use crate::support::{Lab, Program, applet, eventually, free_port, listens, run, text};

fn bttrack(args: &[&str]) -> Output {
    applet("bttrack").args(args).stdin(Stdio::null()).output().expect("run bttrack")
}

/// Puts a torrent of one piece into `dir`.
fn put_torrent(dir: &Path, name: &str) -> InfoHash {
    let mut out = Encoder::new();
    out.dict(|top| {
        top.dict("info", |info| {
            info.int("length", 5);
            info.bytes("name", name);
            info.int("piece length", 16384);
            info.bytes("pieces", [7; 20]);
        });
    });
    let bytes = out.finish();
    fs::write(dir.join(format!("{name}.torrent")), &bytes).expect("write a torrent");
    Metainfo::parse(&bytes).expect("a torrent").info_hash
}

/// A tracker at host 1 of its lab.
struct Tracker {
    program: Program,
    at: SocketAddrV4,
}

fn start(lab: &Lab, args: &[&str]) -> Tracker {
    start_where(lab, args, "/nowhere".as_ref())
}

/// The same where OpenGnsys' images are in `images`.
fn start_where(lab: &Lab, args: &[&str], images: &Path) -> Tracker {
    let at = SocketAddrV4::new(lab.host(1), free_port(lab.host(1)));
    let mut command = applet("bttrack");
    command.args(["--port", &at.port().to_string(), "--bind", &at.ip().to_string()]).args(args).env("OGIMG", images);
    let program = lab.start("bttrack", &mut command);
    listens(at, 20);
    Tracker { program, at }
}

/// Announces peer `n`, which lacks something, to the tracker at `at`; returns the number of peers in the answer.
pub fn announce(at: SocketAddrV4, info_hash: InfoHash, n: u8) -> Result<usize, Error> {
    let request = AnnounceRequest {
        info_hash,
        peer_id: PeerId([n; 20]),
        port: 7000 + u16::from(n),
        uploaded: 0,
        downloaded: 0,
        left: 5,
        event: Event::Started,
        numwant: 50,
        key: 0,
        ip: None,
        tracker_id: None,
    };
    let client = Client::new("test/1", Ipv4Addr::UNSPECIFIED.into(), Duration::from_secs(10));
    client.announce(&format!("http://{at}/announce"), &request).map(|reply| reply.peers.len())
}

impl Tracker {
    fn announce(&self, hash: InfoHash, n: u8) -> Result<usize, Error> {
        announce(self.at, hash, n)
    }

    fn get(&self, target: &str) -> String {
        let mut stream = TcpStream::connect(self.at).expect("connect");
        write!(stream, "GET {target} HTTP/1.0\r\n\r\n").expect("ask");
        let mut said = Vec::new();
        stream.read_to_end(&mut said).expect("hear");
        text(&said)
    }
}

#[test]
fn no_arguments_print_every_option() {
    let output = bttrack(&[]);
    assert!(output.status.success());
    let said = text(&output.stdout);
    assert!(said.starts_with("--port <arg>\n          "), "{said}");
    // Of BitTornado, of Debian's bittorrent 3.4.2, of mainline, and our own.
    for name in [
        "dfile",
        "bind",
        "ipv6_enabled",
        "ipv6_binds_v4",
        "socket_timeout",
        "close_with_rst",
        "save_dfile_interval",
        "timeout_downloaders_interval",
        "reannounce_interval",
        "response_size",
        "max_give",
        "timeout_check_interval",
        "nat_check",
        "log_nat_checks",
        "min_time_between_log_flushes",
        "min_time_between_cache_refreshes",
        "allowed_dir",
        "allowed_list",
        "allowed_controls",
        "parse_allowed_interval",
        "parse_dir_interval",
        "multitracker_enabled",
        "multitracker_allowed",
        "multitracker_reannounce_interval",
        "multitracker_maxpeers",
        "aggregate_forward",
        "aggregator",
        "hupmonitor",
        "http_timeout",
        "show_infopage",
        "infopage_redirect",
        "show_names",
        "favicon",
        "allowed_ips",
        "banned_ips",
        "only_local_override_ip",
        "logfile",
        "allow_get",
        "keep_dead",
        "scrape_allowed",
        "dedicated_seed_id",
        "compact_reqd",
        "twisted",
        "pid",
        "open",
        "udp",
        "user",
        "hosts",
        "reverse_lookup",
        "publish_token",
        "ready_fd",
        "proxies",
        "max_peers_per_source",
        "get_by_name",
    ] {
        assert!(said.lines().any(|line| line == format!("--{name} <arg>")), "{name} in {said}");
    }
}

#[test]
fn wrong_command_lines_are_told_in_the_namesakes_words_and_way() {
    for (args, why) in [
        (&["--prot", "1"][..], "unknown key --prot"),
        (&["--port"], "parameter passed in at end with no value"),
        (&["--port", "x"], "wrong format of --port - invalid literal for int() with base 10: 'x'"),
        (&["--port", "6969"], "Option --dfile is required."),
        (&["--dfile", "x", "more"], "Too many args - 0 max."),
    ] {
        let output = bttrack(args);
        assert!(output.status.success(), "{args:?}: the namesakes return");
        assert_eq!(text(&output.stdout), format!("error: {why}\nrun with no arguments for parameter explanations\n"));
    }
}

#[test]
fn a_port_that_is_taken_is_an_error() {
    let lab = Lab::new();
    let listener = std::net::TcpListener::bind((lab.host(1), 0)).expect("take a port");
    let port = listener.local_addr().expect("its number").port().to_string();
    let (dfile, host) = (lab.path("dstate"), lab.host(1).to_string());
    let output = bttrack(&["--dfile", dfile.to_str().expect("UTF-8"), "--bind", &host, "--port", &port]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains(&format!("bttrack: listen on {host}:{port}: Address in use")), "{said}");
}

#[test]
fn the_command_lines_of_opengnsys_track_what_is_in_the_images_directory() {
    let lab = Lab::new();
    let images = lab.make_dir("images");
    let hash = put_torrent(&images, "x.img");
    let (dfile, log) = (lab.path("dstate"), lab.path("bttrack.out"));
    let common = ["--dfile", dfile.to_str().expect("UTF-8"), "--logfile", log.to_str().expect("UTF-8")];
    let images = ["--allowed_dir", images.to_str().expect("UTF-8")];
    let init = ["--reannounce_interval", "30", "--allow_get", "1", "--parse_allowed_interval", "1"];
    let hourly = [
        "--save_dfile_interval",
        "10",
        "--timeout_downloaders_interval",
        "10",
        "--reannounce_interval",
        "10",
        "--allow_get",
        "0",
    ];
    for (options, gives) in [(&init[..], true), (&hourly[..], false)] {
        let mut tracker = start(&lab, &[&common[..], &images[..], options].concat());
        assert!(tracker.announce(hash, 1).is_ok());
        assert_eq!(
            tracker.announce(InfoHash([1; 20]), 1).map_err(|error| error.to_string()),
            Err("refused by the tracker: Requested download is not authorized for use with this tracker.".to_owned())
        );
        let file = tracker.get(&format!("/file?info_hash={hash}"));
        assert_eq!(file.starts_with("HTTP/1.0 200 OK\r\n"), gives, "{file}");
        let file = tracker.get("/file?name=x.img");
        assert!(file.starts_with("HTTP/1.0 200 OK\r\n"), "PCs without the share ask by name: {file}");
        tracker.program.signal(Signal::TERM);
        assert!(tracker.program.wait(10).success());
        let said = fs::read_to_string(&log).expect("the log");
        assert!(said.contains("\"GET /announce?info_hash=") && said.contains("# Shutting down:  "), "{said}");
        assert!(dfile.is_file());
    }
}

#[test]
fn nothing_is_tracked_without_a_list_unless_open_says_so() {
    let lab = Lab::new();
    let dfile = lab.path("dstate");
    let dfile = dfile.to_str().expect("UTF-8");
    let nowhere = lab.path("nowhere");
    let closed = start_where(&lab, &["--dfile", dfile], &nowhere);
    assert!(closed.announce(InfoHash([1; 20]), 1).is_err());
    let page = closed.get("/");
    assert!(page.contains("Nothing is tracked: ") && page.contains("--open 1"), "{page}");
    assert!(closed.program.said().contains("nothing is tracked (--open 1 tracks all)"), "{}", closed.program.said());
    drop(closed);
    let open = start(&lab, &["--dfile", dfile, "--open"]);
    assert_eq!(open.announce(InfoHash([1; 20]), 1), Ok(0));
    assert_eq!(open.announce(InfoHash([1; 20]), 2), Ok(1));
}

#[test]
fn the_wikis_line_tracks_the_images_where_opengnsys_keeps_some_and_logs_which() {
    let lab = Lab::new();
    let (images, dfile, log) = (lab.make_dir("images"), lab.path("dstate"), lab.path("log"));
    let hash = put_torrent(&images, "x.img");
    let tracker = start_where(&lab, &["--dfile", dfile.to_str().expect("UTF-8")], &images);
    assert!(tracker.announce(hash, 1).is_ok() && tracker.announce(InfoHash([1; 20]), 1).is_err());
    let line =
        format!("neither --allowed_dir nor --allowed_list is given: OpenGnsys' {} is tracked\n", images.display());
    assert!(tracker.program.said().contains(&line), "{}", tracker.program.said());
    assert!(!tracker.get("/").contains("Nothing is tracked"));
    drop(tracker);
    let [dfile, logfile] = [&dfile, &log].map(|path| path.to_str().expect("UTF-8"));
    let _logged = start_where(&lab, &["--dfile", dfile, "--logfile", logfile], &images);
    let said = fs::read_to_string(&log).expect("the log");
    assert_eq!(said.lines().nth(1), Some(line.trim_end()), "{said}");
    // Whoever says what may be tracked, or all, means it.
    let open = start_where(&lab, &["--dfile", dfile, "--open", "1"], &images);
    assert!(open.announce(InfoHash([1; 20]), 1).is_ok());
}

#[test]
fn options_without_a_meaning_here_are_taken_and_say_so_once() {
    let lab = Lab::new();
    let dfile = lab.path("dstate");
    let dfile = dfile.to_str().expect("UTF-8");
    let tracker = start(&lab, &["--dfile", dfile, "--nat_check", "0", "--aggregator", "0", "--open", "1"]);
    let said = tracker.program.said();
    for name in ["nat_check", "aggregator"] {
        assert_eq!(said.matches(&format!("--{name} has no meaning here and is ignored\n")).count(), 1, "{said}");
    }
}

#[test]
fn peers_survive_a_kill_since_the_last_save() {
    let lab = Lab::new();
    let dfile = lab.path("dstate");
    let args = ["--dfile", dfile.to_str().expect("UTF-8"), "--open", "1", "--save_dfile_interval", "1"];
    let mut tracker = start(&lab, &args);
    assert_eq!(tracker.announce(InfoHash([1; 20]), 1), Ok(0));
    eventually("the state is saved", 20, || dfile.is_file());
    tracker.program.signal(Signal::KILL);
    tracker.program.wait(10);
    let again = start(&lab, &args);
    assert_eq!(again.announce(InfoHash([1; 20]), 2), Ok(1));
}

#[test]
fn readiness_and_process_id_are_told() {
    let lab = Lab::new();
    let (dfile, pid, socket) = (lab.path("dstate"), lab.path("pid"), lab.path("notify"));
    let listener = UnixDatagram::bind(&socket).expect("bind a socket");
    listener.set_read_timeout(Some(Duration::from_secs(20))).expect("set a time-out");
    let mut command = applet("bttrack");
    let at = SocketAddrV4::new(lab.host(1), free_port(lab.host(1)));
    command.args(["--port", &at.port().to_string(), "--bind", &at.ip().to_string(), "--ready_fd", "1"]);
    command.arg("--dfile").arg(&dfile).arg("--pid").arg(&pid).env("NOTIFY_SOCKET", &socket);
    let mut program = lab.start("bttrack", &mut command);
    let mut said = [0; 64];
    let length = listener.recv(&mut said).expect("be told");
    assert_eq!(&said[..length], b"READY=1");
    assert!(TcpStream::connect(at).is_ok(), "it listens when it says so");
    assert_eq!(fs::read_to_string(&pid).expect("the pid file"), format!("{}\n", program.id()));
    program.wait_for_line("\n", 20);
    assert!(program.interrupt().success());
    assert!(!pid.exists());
}

#[test]
fn a_hangup_reopens_the_log() {
    let lab = Lab::new();
    let (dfile, log, moved) = (lab.path("dstate"), lab.path("out"), lab.path("out.1"));
    let tracker = start(&lab, &["--dfile", dfile.to_str().expect("UTF-8"), "--logfile", log.to_str().expect("UTF-8")]);
    fs::rename(&log, &moved).expect("rotate the log");
    tracker.program.signal(Signal::HUP);
    eventually("the log is opened again", 20, || {
        fs::read_to_string(&log).is_ok_and(|said| said.starts_with("# Log reopened:  "))
    });
}

#[test]
fn root_is_given_up_for_the_user_named() {
    let lab = Lab::new();
    let dfile = lab.path("dstate");
    let args = ["--dfile", dfile.to_str().expect("UTF-8"), "--open", "1", "--user"];
    let nobody = bttrack(&[&args[..], &["no-such-user", "--port", "0"]].concat());
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody.stderr).contains("become user no-such-user: no such user"), "{}", text(&nobody.stderr));
    let me = text(&run(std::process::Command::new("id").arg("-u")).stdout);
    if me.trim() != "0" && std::env::var("SKIP").is_ok_and(|skip| skip.split(',').any(|one| one == "root")) {
        eprintln!("skipped: SKIP names root");
        return;
    }
    assert_eq!(me.trim(), "0", "this test needs root; SKIP=root leaves it out");
    let tracker = start(&lab, &[&args[..], &["nobody"]].concat());
    let status = fs::read_to_string(format!("/proc/{}/status", tracker.program.id())).expect("its status");
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("its user");
    let uids: Vec<&str> = uids.split_whitespace().collect();
    assert!(uids.len() == 4 && uids.iter().all(|uid| *uid != "0" && uid == &uids[0]), "{uids:?}");
    assert_eq!(tracker.announce(InfoHash([1; 20]), 1), Ok(0));
}
