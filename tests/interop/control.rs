//! CTCS (`ctorrent -S`): ours and Debian's ctorrent with the same server.

use std::process::Command;

use crate::clients::{our_ctorrent, settle};
use crate::ctcs::{Client, Server};
use crate::support::{Lab, Program, applet, run, tools, write_payload};

/// Time limit of any act of a client, seconds.
const PATIENCE: u64 = 20;
const NAMES: [&str; 3] = ["a", "b", "c"];

/// `program` on host `n`, alone in its swarm, and its connection to `server`.
fn start(lab: &Lab, n: u8, mut program: Command, server: &Server) -> (Program, Client) {
    settle(lab, n, &mut program, &lab.path("x.torrent"));
    program.args(["-s", "files", "-n", "3,1", "-M", "30", "-m", "7", "-e", "5", "-E", "1.5"]);
    program.args(["-S", &server.at.to_string(), "torrent"]);
    (lab.start(&format!("peer-{n}"), &mut program), server.accept(PATIENCE))
}

/// The client's whole output, with `#` for its own values: its id, the time, its memory.
fn conversation(mut client: Client) -> Vec<String> {
    let mut said = vec![client.line().expect("its protocol")];
    let hello = client.line().expect("who it is");
    let words: Vec<&str> = hello.split(' ').collect();
    said.push(format!("{} # # # {}", words[0], words[4..].join(" ")));
    said.push(client.line().expect("its status"));
    said.extend(client.ask("SENDSTATUS", "CTSTATUS", "CTSTATUS"));
    said.extend(client.ask("SENDPEERS", "CTPEERSTART", "CTPEERSDONE"));
    let mut detail = client.ask("SENDDETAIL", "CTDETAIL", "CTFILESDONE");
    let words: Vec<&str> = detail[0].split(' ').collect();
    detail[0] = format!("{} {} {} # {}", words[0], words[1], words[2], words[4]);
    said.extend(detail);
    client.order("CTCONFIG max_peers 25");
    client.order("CTCONFIG seed_ratio 2");
    client.order("MAKETEA now");
    said.extend(client.settings().into_iter().filter(|line| !line.starts_with("CTCONFIG cache ")));
    client.order("SETDLIMIT 2000");
    client.order("SETULIMIT 3000");
    said.push(client.wait_for("its limits", |line| line.starts_with("CTBW ") && line.ends_with(" 2000,3000")));
    client.order("CTQUIT");
    said
}

#[test]
fn a_server_hears_the_same_of_ours_as_of_debian_s() {
    if !tools(&["ctorrent"]) {
        return;
    }
    let lab = Lab::new();
    let whole = lab.make_dir("whole");
    NAMES.iter().zip(90..).for_each(|(name, seed)| write_payload(&whole.join(name), 1, seed));
    // No tracker listens there: each is alone.
    let url = format!("http://{}:{}/announce", lab.host(1), lab.free_port(1));
    let mut create = applet("ctorrent");
    run(create.arg("-t").arg(&whole).args(["-l", "65536", "-u", &url, "-s"]).arg(lab.path("x.torrent")));
    let server = Server::new(&lab);
    let (mut ours, client) = start(&lab, 2, our_ctorrent(), &server);
    let said = conversation(client);
    let (mut theirs, client) = start(&lab, 3, Command::new("ctorrent"), &server);
    let said_by_theirs = conversation(client);
    assert_eq!(said, said_by_theirs);
    assert!(ours.wait(PATIENCE).success() && theirs.wait(PATIENCE).success());
}
