//! Peers that find each other without a tracker.

use std::path::Path;

use crate::support::{Lab, Program, applet, assert_same_file, run, tools, write_payload};

fn peer(lab: &Lab, host: u8, file: &Path, torrent: &Path) -> Program {
    let mut command = applet("ctorrent");
    command.args(["--lsd", "-e", "1", "-i", &format!("fd77::{host}"), "-p", &lab.free_port(host).to_string(), "-b"]);
    command.arg(lab.path(&format!("bitfield-{host}"))).arg("-s").arg(file).arg(torrent);
    lab.start(&format!("peer-{host}"), &mut command)
}

#[test]
fn two_find_each_other_by_multicast_over_ipv6() {
    if !tools(&["unshare", "nsenter", "ip"]) {
        return;
    }
    let lab = Lab::in_a_room();
    let (whole, fetched, torrent) = (lab.path("whole.img"), lab.path("fetched.img"), lab.path("torrent"));
    write_payload(&whole, 4, 14);
    run(applet("ctorrent").arg("-t").arg(&whole).args(["-u", "http://10.77.0.1:1/announce", "-s"]).arg(&torrent));
    let mut seeder = peer(&lab, 2, &whole, &torrent);
    seeder.wait_for_line("Seed for others", 30);
    let mut leecher = peer(&lab, 3, &fetched, &torrent);
    leecher.wait_for_line("Download complete.", 90);
    assert_same_file(&whole, &fetched);
    assert!(leecher.interrupt().success() && seeder.interrupt().success());
}
