//! `ctorrent -S`: what it reports to a CTorrent Control Server, what it does for one, and what no such server can do
//! to it.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::ctcs::{Client, Server};
use crate::scene::{PATIENCE, PIECES, Peer, Scene};
use crate::support::{applet, assert_same_file, binary, run, text, tools};

/// Host 3, which lacks everything unless it has `file` and is told of `server`; its options are `options`.
fn client(scene: &Scene, server: &Server, file: &Path, options: &[&str]) -> (Peer, Client) {
    let at = server.at.to_string();
    let options = [&["-e", "1", "-S", &at], options].concat();
    let peer = scene.start_with(3, file, applet("ctorrent"), &options);
    (peer, server.accept(PATIENCE))
}

/// All numbers in a line.
fn numbers(line: &str) -> Vec<u64> {
    let words = line.split(|char: char| !char.is_ascii_digit()).filter(|word| !word.is_empty());
    words.map(|word| word.parse().expect("a number")).collect()
}

/// The numbers of the client's next status.
fn status(client: &mut Client) -> Vec<u64> {
    numbers(&client.ask("SENDSTATUS", "CTSTATUS", "CTSTATUS")[0])
}

#[test]
fn each_order_of_a_server_is_carried_out_and_answered() {
    let scene = Scene::new(31);
    let seeder = scene.seeder();
    let server = Server::new(&scene.lab);
    let file = scene.lab.path("fetched.img");
    let (mut peer, mut client) = client(&scene, &server, &file, &["-D", "1000", "-X", "echo done"]);
    it_says_what_it_is(&mut client, &scene);
    it_says_what_it_does(&mut client, &scene, seeder.at, &file);
    it_changes_its_settings(&mut client);
    it_pauses_and_goes_on(&mut client);

    // It tells by itself that everything is here.
    let whole = format!(" {PIECES}/{PIECES}/{PIECES} ");
    client.wait_for("everything is here", |line| line.starts_with("CTSTATUS ") && line.contains(&whole));
    peer.program.wait_for_line("Seed for others 5 hours or to ratio of 2.50", PATIENCE);
    peer.program.wait_for_line("done", PATIENCE);
    let told = client.settings();
    assert!(told.iter().any(|line| line.starts_with("CTCONFIG seed_time F 0 4:5.00 ")), "{told:?}");
    assert!(!told.iter().any(|line| line.contains(" user_exit ") || line.contains(" file_list ")), "{told:?}");
    let detail = client.ask("SENDDETAIL", "CTDETAIL", "CTFILESDONE");
    let figures = numbers(&detail[0]);
    assert!(figures[2] - figures[3] < PATIENCE, "since when it seeds: {detail:?}");

    assert!(client.order("CTQUIT"));
    client.wait_for("its last words", |line| line.starts_with("CTSTATUS "));
    assert!(peer.program.wait(PATIENCE).success());
    assert_eq!(client.line(), None);
    assert!(peer.program.said().contains("CTCS sent Quit command\n"), "{}", peer.program.said());
    assert_same_file(&scene.whole, &file);
}

/// The protocol, its id and torrent, and a first status.
fn it_says_what_it_is(client: &mut Client, scene: &Scene) {
    assert_eq!(client.line().as_deref(), Some("PROTOCOL 0003"));
    let hello = client.line().expect("who it is");
    let words: Vec<&str> = hello.split(' ').collect();
    assert!(matches!(words[..], ["CTORRENT", id, _, _, _] if id.len() == 20 && id.starts_with("-OG")), "{hello}");
    assert_eq!(words[4], scene.torrent.display().to_string());
    let figures = numbers(&client.wait_for("its status", |line| line.starts_with("CTSTATUS ")));
    assert_eq!((figures.len(), figures[6], figures[12]), (15, u64::from(PIECES), 1000 << 10), "{figures:?}");
}

/// It fetches into `file` from `seeder`, which has all that is within reach, and says so each second.
fn it_says_what_it_does(client: &mut Client, scene: &Scene, seeder: SocketAddrV4, file: &Path) {
    let rates = client.wait_for("its rates", |line| line.starts_with("CTBW ") && !line.starts_with("CTBW 0,"));
    assert_eq!(numbers(&rates)[2..], [1000 << 10, 0]);
    let figures = status(client);
    assert_eq!((figures[0], figures[2], figures[7]), (1, 0, u64::from(PIECES)), "{figures:?}");
    let peers = client.ask("SENDPEERS", "CTPEERSTART", "CTPEERSDONE");
    let [_, told, _] = &peers[..] else { panic!("{peers:?}") };
    let words: Vec<&str> = told.split(' ').collect();
    assert_eq!((words.len(), words[0], words[2], words[3]), (9, "CTPEER", &*seeder.ip().to_string(), "UiCn"));
    assert_eq!(words[8], PIECES.to_string());
    let detail = client.ask("SENDDETAIL", "CTDETAIL", "CTFILESDONE");
    let [size, start, file_line, _] = &detail[..] else { panic!("{detail:?}") };
    let length = fs::metadata(&scene.whole).expect("the payload").len();
    let figures = numbers(size);
    assert_eq!((figures[0], figures[1], figures[3], start.as_str()), (length, 256 << 10, 0, "CTFILESTART"));
    let figures = numbers(file_line);
    assert_eq!(figures[..4], [1, 0, 0, u64::from(PIECES)], "{file_line}");
    assert_eq!((figures[5], figures[6]), (u64::from(PIECES), length), "{file_line}");
    assert!(file_line.ends_with(&format!(" {length} {}", file.display())), "{file_line}");
}

/// Settings are told, changed, told as changed; what is wrong is refused and changes nothing.
fn it_changes_its_settings(client: &mut Client) {
    let told = client.settings();
    let names: Vec<&str> = told.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    let all = "verbose seed_time seed_ratio max_peers min_peers file_list cache pause user_exit out_normal \
               out_interact out_error out_debug input ctcs_server";
    assert_eq!(names.join(" "), all);
    assert!(told.contains(&"CTCONFIG seed_time F 0 1:1 14:Seed time [-e] 23:~hours remaining (-e 1)".to_owned()));
    assert!(told.contains(&"CTCONFIG user_exit S 4096 9:echo done 23:Completion command [-X] 0:".to_owned()));
    for order in ["seed_time 5", "seed_ratio 2.5", "max_peers 25\r", "min_peers 7", "pause 1"] {
        client.order(&format!("CTCONFIG {order}"));
    }
    for (wrong, why) in [
        ("CTCONFIG max_peers 5", "Malformed or invalid input from CTCS: CTCONFIG max_peers 5"),
        ("CTCONFIG seed_time -3", "Malformed or invalid input from CTCS: CTCONFIG seed_time -3"),
        ("CTCONFIG", "Malformed or invalid input from CTCS: CTCONFIG"),
        ("SETULIMIT fast", "Malformed or invalid input from CTCS: SETULIMIT fast"),
        ("CTCONFIG bogus 1", "Unknown config option bogus from CTCS"),
        ("CTCONFIG user_exit touch ran", "user_exit is not changed by CTCS"),
        ("CTCONFIG out_error /etc/passwd", "out_error is not changed by CTCS"),
    ] {
        assert_eq!(client.ask(wrong, "CTINFO", "CTINFO"), [format!("CTINFO 2 {why}")]);
    }
    client.order("MAKETEA now");
    let told = client.settings();
    for (name, value) in [("seed_time", "1:5"), ("seed_ratio", "4:2.50"), ("max_peers", "2:25"), ("pause", "1:1")] {
        let line = told.iter().find(|line| line.starts_with(&format!("CTCONFIG {name} "))).expect("the setting");
        assert_eq!(line.split(' ').nth(4), Some(value), "{line}");
    }
}

/// Paused, nothing comes but what was on its way; then it goes on, at the rate that it is given.
fn it_pauses_and_goes_on(client: &mut Client) {
    std::thread::sleep(Duration::from_millis(500));
    let before = status(client);
    std::thread::sleep(Duration::from_millis(500));
    let after = status(client);
    assert_eq!(before[10], after[10], "paused it has fetched from {before:?} to {after:?}");
    assert!(after[5] < u64::from(PIECES) / 2, "{after:?}");
    client.order("SETULIMIT 30000");
    client.wait_for("the limit", |line| line.ends_with(" 1024000,30000"));
    client.order("SETDLIMIT 0");
    client.order("CTCONFIG pause 0");
}

#[test]
fn a_server_has_the_tracker_asked_and_the_seeding_ended_and_sends_a_client_to_another() {
    let scene = Scene::new(32);
    let (server, other) = (Server::new(&scene.lab), Server::new(&scene.lab));
    let tracker = scene.address(9);
    let heard = crate::ctorrent_run::listening_tracker(tracker);
    let url = format!("http://{tracker}/announce");
    let (mut peer, mut client) = client(&scene, &server, &scene.whole, &["-u", &url]);
    let events = |event: &str| heard.lock().expect("a lock").matches(event).count();
    let announces = |event: &str, many: usize| {
        crate::support::eventually("the tracker is asked", PATIENCE, || events(event) == many);
    };
    announces("event=started", 1);
    // It is asked again five seconds later; both orders together make one announce.
    client.order("CTUPDATE");
    client.order("CTRESTART");
    client.order("CTCONFIG ctcs_server nowhere");
    client.wait_for("a refusal", |line| line.ends_with("from CTCS: CTCONFIG ctcs_server nowhere"));
    client.order(&format!("CTCONFIG ctcs_server {}", other.at));
    let mut client = other.accept(PATIENCE);
    let told = client.settings();
    assert!(told.iter().any(|line| line.contains(&format!(":{} 11:CTCS server", other.at))), "{told:?}");
    announces("event=started", 2);
    assert_eq!(events("GET"), 2);
    client.order("CTCONFIG seed_time 0");
    assert!(peer.program.wait(PATIENCE).success());
    assert_eq!(events("event=stopped"), 1);
}

/// Harms a client for as long as it takes; returns how often the client connected.
type Harm = fn(&Server, Instant) -> usize;

const HARMS: [(&str, Harm); 4] = [
    ("closes at once", |server, until| {
        let mut connections = 0;
        while Instant::now() < until {
            drop(server.accept(PATIENCE));
            connections += 1;
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
        }
        connections
    }),
    ("says what is no line", |server, until| {
        let mut client = server.accept(PATIENCE);
        flood(&mut client, &[0xff; 64 << 10], until);
        1
    }),
    ("says nonsense", |server, until| {
        let mut client = server.accept(PATIENCE);
        let lines =
            "CTCONFIG \u{7}\nCTCONFIG x\0 y\nSETDLIMIT\nSETULIMIT 99999999999999999999\n\n\r\n\u{1b}[2J\nERROR \n";
        flood(&mut client, lines.repeat(100).as_bytes(), until);
        1
    }),
    ("asks and does not read", |server, until| {
        let mut client = server.accept(PATIENCE);
        flood(&mut client, "SENDDETAIL\nSENDPEERS\nSENDCONF\nCTUPDATE\n".repeat(1000).as_bytes(), until);
        1
    }),
];

fn flood(client: &mut Client, bytes: &[u8], until: Instant) {
    while Instant::now() < until {
        // A client that takes no more for half a second is not asked to end the test either.
        if client.stream.get_mut().write_all(bytes).is_err() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn no_server_harms_a_download_and_each_is_told_of_once() {
    let scene = Scene::new(33);
    let seeder = scene.seeder();
    // Long enough for the harm to be done meanwhile.
    let until = Instant::now() + Duration::from_secs(3);
    std::thread::scope(|threads| {
        for (host, (what, harm)) in (3..).zip(HARMS) {
            let scene = &scene;
            threads.spawn(move || {
                let server = Server::new(&scene.lab);
                let (at, file) = (server.at.to_string(), scene.lab.path(&format!("{host}.img")));
                let options = ["-e", "1", "-D", "8000", "-S", &at];
                let mut peer = scene.start_with(host, &file, applet("ctorrent"), &options);
                assert!(harm(&server, until) > 0, "{what}");
                peer.program.wait_for_line("Download complete.", PATIENCE);
                assert_same_file(&scene.whole, &file);
                peer.assert_small();
                assert!(peer.program.interrupt().success(), "{what}");
                let said = peer.program.said();
                assert!(said.matches("warn, CTCS server").count() <= 2, "{what}: {said}");
                assert!(!said.contains(['\u{7}', '\u{1b}']), "{what}: {said}");
            });
        }
    });
    drop(seeder);
}

#[test]
fn a_server_that_is_not_there_delays_nothing_and_is_found_when_it_comes() {
    let scene = Scene::new(34);
    let _seeder = scene.seeder();
    let at = scene.address(1).to_string();
    let file = scene.lab.path("fetched.img");
    let mut peer = scene.start_with(3, &file, applet("ctorrent"), &["-e", "1", "-S", &at]);
    peer.program.wait_for_line("Download complete.", PATIENCE);
    peer.program.wait_for_line(&format!("warn, CTCS server {at}: Connection refused"), PATIENCE);
    let server = Server::on(at.parse().expect("an address"));
    let mut client = server.accept(PATIENCE);
    client.wait_for("its status", |line| line.starts_with("CTSTATUS "));
    // A name without an address is no reason to wait either.
    let mut other =
        scene.start_with(4, &scene.lab.path("other.img"), applet("ctorrent"), &["-e", "0", "-S", "no.such.invalid:1"]);
    assert!(other.program.wait(PATIENCE).success());
    assert_eq!(peer.program.said().matches("warn, CTCS").count(), 1);
    assert!(peer.program.interrupt().success());
}

#[test]
fn a_password_is_told_to_the_server_alone_and_the_terminal_is_what_it_was() {
    if !tools(&["script", "stty"]) {
        return;
    }
    let scene = Scene::new(35);
    let server = Server::new(&scene.lab);
    let place = scene.place(scene.address(3)).join(" ");
    let client = format!("{} ctorrent {place} -S {}:", binary().display(), server.at);
    let client = format!("{client} {} -s {}", scene.torrent.display(), scene.whole.display());
    // Typed at the prompt; then each signal, and the keys that would end it, during the prompt.
    let signals = ["INT", "TERM", "HUP"].map(|signal| (format!("sleep 0.5; kill -{signal} $(cat pid)"), "sleep 1"));
    let keys = [("true".to_owned(), "sleep 0.5; printf 'a\\034\\032b\\003'; sleep 0.5")];
    let typed = [("true".to_owned(), "sleep 0.5; printf 'open sesame\\n'; sleep 0.5")];
    for (at, (meanwhile, typing)) in typed.into_iter().chain(keys).chain(signals).enumerate() {
        let script = format!(
            "stty -a > before; ({meanwhile}; sleep 0.1) & sh -c 'echo $$ > pid; exec {client}' \
             & wait_for=$!; sleep 0.3; stty -a > during; wait $wait_for; stty -a > after"
        )
        .replace("sh -c", "< /dev/tty sh -c");
        let line = format!("({typing}) | script -q -c \"$1\" /dev/null");
        let mut command = Command::new("bash");
        command.args(["-c", &line, "bash", &script]).current_dir(scene.lab.path("")).stdin(Stdio::null());
        let running = std::thread::spawn(move || text(&run(&mut command).stdout));
        if at == 0 {
            let mut client = server.accept(PATIENCE);
            assert_eq!(client.line().as_deref(), Some("PROTOCOL 0003"));
            assert_eq!(client.line().as_deref(), Some("AUTH open sesame"));
            client.order("CTQUIT");
        }
        let said = running.join().expect("the terminal");
        let read = |name: &str| fs::read_to_string(scene.lab.path(name)).expect("what stty said");
        assert!(read("before").contains(" echo ") && read("during").contains(" -echo "), "{at}: {}", read("during"));
        assert_eq!(read("after"), read("before"), "{at}: {said}");
        assert!(said.contains("Enter CTCS password: ") && !said.contains("sesame"), "{at}: {said}");
    }
    // In the background it reads the password from a pipe.
    let mut command = Command::new("sh");
    command.args(["-c", &format!("echo hush | {client} -d")]);
    run(&mut command);
    let mut client = server.accept(PATIENCE);
    assert_eq!((client.line().as_deref(), client.line().as_deref()), (Some("PROTOCOL 0003"), Some("AUTH hush")));
    client.order("CTQUIT");
    while client.line().is_some() {}
    assert!(TcpStream::connect_timeout(&SocketAddr::from(server.at), Duration::from_secs(1)).is_ok());
}
