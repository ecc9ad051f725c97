//! Web seeds: a torrent of ours that names one and a tracker that does not answer, fetched from busybox's HTTP server.

use std::net::SocketAddrV4;
use std::process::Command;

use crate::support::{Lab, applet, assert_same_file, run, tools, write_payload};

#[test]
fn a_web_seed_that_our_torrent_names_gives_everything_to_us_and_to_aria2() {
    if !tools(&["busybox", "aria2c"]) {
        return;
    }
    let lab = Lab::new();
    let (site, torrent) = (lab.make_dir("site"), lab.path("torrent"));
    let whole = site.join("odd name.img");
    write_payload(&whole, 16, 19);
    let server = SocketAddrV4::new(lab.host(1), lab.free_port(1));
    let (url, tracker) = (format!("http://{server}/"), format!("http://{}:1/announce", lab.host(1)));
    run(applet("ctorrent").arg("-t").arg(&whole).args(["-u", &tracker, "--web-seed", &url, "-s"]).arg(&torrent));
    let mut httpd = Command::new("busybox");
    let _httpd = lab.start("httpd", httpd.args(["httpd", "-f", "-p", &server.to_string(), "-h"]).arg(&site));
    lab.listens(server, 60);

    let (ours, theirs) = (lab.path("ours.img"), lab.make_dir("theirs"));
    let mut fetch = applet("ctorrent");
    fetch
        .args(["--no-lsd", "--local-web-seeds", "--leave", "0", "-i", &lab.host(2).to_string(), "-s"])
        .arg(&ours)
        .arg(&torrent);
    run(&mut fetch);
    assert_same_file(&whole, &ours);

    let mut fetch = Command::new("aria2c");
    fetch.args(["--no-conf", "--enable-dht=false", "--bt-enable-lpd=false", "--disable-ipv6=true", "--seed-time=0"]);
    fetch.args([format!("--interface={}", lab.host(3)), format!("--listen-port={}", lab.free_port(3))]);
    run(fetch.arg(format!("--dir={}", theirs.display())).arg(&torrent));
    assert_same_file(&whole, &theirs.join("odd name.img"));
}
