//! `ctorrent` downloading and seeding as labs' scripts have it: how it ends, what it leaves, how it resumes after it
//! was killed, and that the terminal is restored.
//!
//! Needs root for loop devices and mounts.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpListener};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::scene::{MIB, PATIENCE, PIECE, PIECES, Peer, Scene};
use crate::support::{Lab, applet, assert_same_file, binary, eventually, run, text, tools, write_payload};

/// The two numbers of `Found journal; K of 60 pieces are vouched for, H to be hashed.`
fn found_journal(said: &str) -> (u32, u32) {
    let line = said.lines().find(|line| line.starts_with("Found journal; ")).expect("a line on the journal");
    let numbers: Vec<u32> = line.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    assert!(matches!(numbers[..], [_, PIECES, _]), "{line}");
    (numbers[0], numbers[2])
}

/// A shell that runs `script` with `ctorrent` in its PATH, in a process namespace of its own, so that `pidof` sees
/// only its own.
fn shell(lab: &Lab, script: &str) -> Command {
    let bin = lab.make_dir("bin");
    if !bin.join("ctorrent").exists() {
        symlink(binary(), bin.join("ctorrent")).expect("link the applet");
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script]);
    command.env("PATH", path).current_dir(lab.path(""));
    command
}

#[test]
fn a_labs_script_fetches_an_image_and_its_hook_ends_the_seeding_also_when_nothing_had_to_be_fetched() {
    if !tools(&["unshare", "pidof"]) {
        return;
    }
    let scene = Scene::new(20);
    let _seeder = scene.seeder();
    let (place, at) = (scene.place(scene.address(3)).join(" "), scene.lab.make_dir("cache"));
    fs::copy(&scene.torrent, at.join("x.img.torrent")).expect("copy the torrent");
    // As in OpenGnsys' ogTorrentStart and updateCache.
    let script = format!(
        "cd {}; OGIMG=x.img; touch $OGIMG.torrent.bf
         ctorrent -f -c -X \"sleep 1; kill -2 \\$(pidof ctorrent)\" -C 100 $OGIMG.torrent -s $OGIMG {place} > log 2>&1
         echo $? > code; grep -m 1 \"Download\" log > first; grep -m1 -B1 \"Download\" log > summary; rm -f $OGIMG.torrent.bf",
        at.display()
    );
    run(&mut shell(&scene.lab, &script));
    let read = |name: &str| fs::read_to_string(at.join(name)).expect("read what the script left");
    assert_eq!((read("code").as_str(), read("first").as_str()), ("0\n", "Download complete.\n"), "{}", read("log"));
    let summary = read("summary");
    let line = summary.lines().next().expect("two lines");
    assert!(line.contains(" [60/60/60] 15MB,0MB | "), "{summary}");
    assert_same_file(&scene.whole, &at.join("x.img"));
    let begin = Instant::now();
    run(&mut shell(&scene.lab, &script));
    assert!(begin.elapsed() < Duration::from_secs(PATIENCE), "the hook ran though nothing had to be fetched");
    assert_eq!((read("code").as_str(), read("first").as_str()), ("0\n", ""), "{}", read("log"));
    assert!(read("log").contains("Already/Total: 60/60 (100%)\n"), "{}", read("log"));
}

#[test]
fn what_was_written_is_hashed_again_after_kill_9_and_nothing_after_a_clean_stop() {
    let scene = Scene::new(21);
    let seeder = scene.seeder();
    let file = scene.lab.path("fetched.img");
    let fetch = |options: &[&str]| scene.start_with(3, &file, applet("ctorrent"), options);
    let journal = scene.lab.path("fetched.img.torrent.journal");
    let recorded = || fs::metadata(&journal).map_or(0, |journal| journal.len());
    let mut killed = fetch(&["-D", "3000"]);
    eventually("the journal has a record", PATIENCE, || recorded() >= 56);
    killed.program.signal(Signal::KILL);
    killed.program.wait(PATIENCE);

    let mut stopped = fetch(&["-D", "2000"]);
    stopped.program.wait_for_line("Listening on", PATIENCE);
    let (vouched, hashed) = found_journal(&stopped.program.said());
    assert!(vouched == 0 && (1..PIECES).contains(&hashed), "{vouched} are vouched for, {hashed} were hashed");
    assert!(stopped.program.interrupt().success());
    let bitfield = scene.lab.path(&format!("bitfield-{}", scene.lab.host(3)));
    let have: u32 = fs::read(&bitfield).expect("a bitfield").iter().map(|byte| byte.count_ones()).sum();
    assert!(have > 0, "the namesake's bitfield file has {have} pieces");

    let mut done = fetch(&["-e", "1"]);
    done.program.wait_for_line("Download complete.", PATIENCE);
    assert_eq!(found_journal(&done.program.said()), (have, 0));
    assert_same_file(&scene.whole, &file);
    assert!(done.program.interrupt().success() && !bitfield.exists());

    let mut again = fetch(&["-e", "0"]);
    assert!(again.program.wait(PATIENCE).success());
    assert_eq!(found_journal(&again.program.said()), (PIECES, 0));

    // Another process writes to the data: nothing known of it counts any more.
    let mut data = File::options().write(true).open(&file).expect("open the data");
    data.write_all(&[0; 100]).expect("damage it");
    let mut damaged = fetch(&["-e", "1"]);
    damaged.program.wait_for_line("Download complete.", PATIENCE);
    assert!(damaged.program.said().contains("59/60 (98%)"), "{}", damaged.program.said());
    assert_same_file(&scene.whole, &file);
    drop(seeder);
}

/// Changes the first byte of the piece at `number` and puts the file's time back.
fn change(path: &Path, number: u64) {
    let data = File::options().read(true).write(true).open(path).expect("open the data");
    let modified = data.metadata().and_then(|metadata| metadata.modified()).expect("a time");
    let (at, mut byte) = (number * u64::from(PIECE), [0]);
    data.read_exact_at(&mut byte, at).expect("read a byte");
    data.write_all_at(&[!byte[0]], at).expect("change a byte");
    data.set_modified(modified).expect("put the time back");
}

#[test]
fn a_byte_that_changed_after_kill_9_is_found_and_fetched_again() {
    let scene = Scene::new(39);
    let _seeder = scene.seeder();
    let file = scene.lab.path("fetched.img");
    let fetch = |options: &[&str]| scene.start_with(3, &file, applet("ctorrent"), options);
    let journal = scene.lab.path("fetched.img.torrent.journal");
    let mut killed = fetch(&["-D", "3000"]);
    eventually("the journal has a record", PATIENCE, || fs::metadata(&journal).is_ok_and(|file| file.len() >= 56));
    killed.program.signal(Signal::KILL);
    killed.program.wait(PATIENCE);
    // The first piece that the journal names.
    let bytes = fs::read(&journal).expect("read the journal");
    change(&file, u64::from(u32::from_be_bytes(bytes[36..40].try_into().expect("four bytes"))));
    let mut done = fetch(&["-e", "9"]);
    done.program.wait_for_line("Download complete.", PATIENCE);
    assert_same_file(&scene.whole, &file);

    // What is whole is closed at once, so that a PC that is switched off looks at nothing again unless it changed.
    eventually("the journal is closed", PATIENCE, || {
        let bytes = fs::read(&journal).expect("read the journal");
        bytes.len() >= 56 && bytes[bytes.len() - 16..bytes.len() - 12] == [0; 4]
    });
    done.program.signal(Signal::KILL);
    done.program.wait(PATIENCE);
    let mut whole = fetch(&["-e", "9"]);
    whole.program.wait_for_line("Listening on", PATIENCE);
    assert_eq!(found_journal(&whole.program.said()), (PIECES, 0));
    whole.program.signal(Signal::KILL);
    whole.program.wait(PATIENCE);
    change(&file, 7);
    let mut again = fetch(&["-e", "9"]);
    again.program.wait_for_line("Download complete.", PATIENCE);
    assert!(again.program.said().contains("59/60 (98%)"), "{}", again.program.said());
    assert_same_file(&scene.whole, &file);
    assert!(again.program.interrupt().success());
}

/// The last value of `field` among the objects that `--json` printed.
fn last(peer: &Peer, field: &str) -> u64 {
    let said = peer.program.said();
    let (_, after) = said.rsplit_once(&format!("\"{field}\":")).unwrap_or(("", "0"));
    after.split([',', '}']).next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn a_leech_uploads_nothing_and_leaves_when_it_is_whole() {
    let scene = Scene::new(22);
    let mut seeder = scene.seeder();
    let mut leech = scene.start_with(3, &scene.lab.path("leech.img"), applet("ctorrent"), &["--leech", "--json"]);
    assert!(leech.program.wait(PATIENCE).success(), "it has nothing to stay for");
    assert!(leech.program.said().contains("Download complete."));
    assert_same_file(&scene.whole, &leech.file);
    assert!(seeder.program.interrupt().success());
    let stays = ["--leech", "--json", "--leave", "never"];
    let stingy = scene.start_with(4, &scene.lab.path("leech.img"), applet("ctorrent"), &stays);
    let poor = scene.start_with(5, &scene.lab.path("poor.img"), applet("ctorrent"), &["--json"]);
    eventually("the two have met", PATIENCE, || last(&poor, "seeds") == 1 && last(&stingy, "leechers") == 1);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((last(&stingy, "uploaded"), last(&poor, "have"), last(&stingy, "left")), (0, 0, 0));
}

#[test]
fn who_is_unneeded_leaves_and_who_is_needed_stays() {
    let scene = Scene::new(23);
    let leave = ["--leave", "unneeded=1s,1h"];
    let mut seeder = scene.start_with(2, &scene.whole, applet("ctorrent"), &leave);
    seeder.program.wait_for_line("Seed for others until", PATIENCE);
    let mut slow = scene.start_with(3, &scene.lab.path("a.img"), applet("ctorrent"), &["-D", "6000", "-e", "0"]);
    assert!(slow.program.wait(PATIENCE).success());
    assert!(slow.program.said().contains("Download complete."), "the seeder stayed for as long as it was needed");
    assert!(seeder.program.wait(PATIENCE).success(), "nobody needs it any more");
    assert_same_file(&scene.whole, &slow.file);
}

#[test]
fn progress_for_machines_is_one_json_object_a_line() {
    let scene = Scene::new(24);
    let _seeder = scene.seeder();
    let mut command = applet("ctorrent");
    let file = scene.lab.path("fetched.img");
    command.args(scene.place(scene.address(3))).args(["--json", "-e", "0", "-s"]).arg(&file).arg(&scene.torrent);
    let output = run(&mut command);
    let (objects, texts) = (text(&output.stdout), text(&output.stderr));
    let keys = "state seconds have pieces left downloaded uploaded down up seeds leechers".split(' ');
    let keys: Vec<String> = keys.map(|key| format!("\"{key}\":")).collect();
    let whole =
        |line: &str| line.starts_with("{\"") && line.ends_with('}') && keys.iter().all(|key| line.contains(key));
    assert!(objects.lines().count() >= 2 && objects.lines().all(whole), "{objects}");
    let end = objects.lines().last().expect("a line");
    assert!(end.starts_with("{\"state\":\"end\",") && end.contains("\"have\":60,\"pieces\":60,\"left\":0,"), "{end}");
    assert!(texts.contains("Download complete.\n"), "{texts}");
}

/// A tracker that knows no peers and records its requests.
pub fn listening_tracker(at: SocketAddrV4) -> Arc<Mutex<String>> {
    let listener = TcpListener::bind(at).expect("listen");
    let heard = Arc::new(Mutex::new(String::new()));
    let ours = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("accept");
            let mut bytes = [0; 4096];
            let length = stream.read(&mut bytes).unwrap_or(0);
            let first = text(&bytes[..length]).lines().next().unwrap_or_default().to_owned();
            ours.lock().expect("a lock").push_str(&(first + "\n"));
            let reply = "d8:completei0e10:incompletei1e8:intervali60e5:peers0:e";
            let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", reply.len());
            let _ = stream.write_all((head + reply).as_bytes());
        }
    });
    heard
}

#[test]
fn each_signal_that_ends_in_order_tells_the_tracker() {
    let scene = Scene::new(25);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let at = scene.address(9);
        let heard = listening_tracker(at);
        let url = format!("http://{at}/announce");
        let mut peer = scene.start_with(3, &scene.lab.path("x.img"), applet("ctorrent"), &["-u", &url]);
        let event = |event: &str| heard.lock().expect("a lock").matches(&format!("event={event}")).count();
        eventually("it has announced itself", PATIENCE, || event("started") == 1);
        peer.program.signal(signal);
        assert!(peer.program.wait(PATIENCE).success(), "{signal:?}");
        assert_eq!(event("stopped"), 1, "{signal:?}");
    }
    // With nohup it survives SIGHUP.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(binary()).arg("ctorrent");
    let mut peer = scene.start_with(4, &scene.whole, command, &["-e", "1"]);
    peer.program.wait_for_line("Seed for others", PATIENCE);
    peer.program.signal(Signal::HUP);
    std::thread::sleep(Duration::from_millis(300));
    assert!(peer.program.runs());
    assert!(peer.program.interrupt().success());
}

#[test]
fn the_terminal_is_what_it_was_whatever_ends_it() {
    if !tools(&["script", "stty"]) {
        return;
    }
    let scene = Scene::new(26);
    let place = scene.place(scene.address(3)).join(" ");
    let client = format!("{} ctorrent {place} {} -s", binary().display(), scene.torrent.display());
    let (whole, new) = (scene.whole.display(), scene.lab.path("new.img"));
    let endings = ["INT", "TERM", "HUP", "KILL"].map(|signal| {
        format!("{client} {} & pid=$!; sleep 0.5; stty -a > during; kill -{signal} $pid; wait $pid; :", new.display())
    });
    for ending in endings.into_iter().chain([format!("{client} {whole} -e 0; stty -a > during")]) {
        let script = format!("stty -a > before; {ending}; stty -a > after");
        // script(1) gives it a terminal of its own.
        let mut command = Command::new("script");
        command.args(["-q", "-c", &script, "/dev/null"]).current_dir(scene.lab.path("")).stdin(Stdio::null());
        run(&mut command);
        let read = |name: &str| fs::read_to_string(scene.lab.path(name)).expect("what stty said");
        assert!(read("before").contains(" echo "), "{}", read("before"));
        assert_eq!((read("during"), read("after")), (read("before"), read("before")), "{ending}");
    }
}

#[test]
fn a_daemon_goes_on_under_the_name_that_pidof_looks_for() {
    if !tools(&["unshare", "pidof"]) {
        return;
    }
    let scene = Scene::new(27);
    let place = scene.place(scene.address(3)).join(" ");
    let (torrent, whole) = (scene.torrent.display(), scene.whole.display());
    let waiting = "until grep -q Seed log; do sleep 0.05; done";
    let script = format!(
        "set -e
         {ogbox} ctorrent {place} {torrent} -s {whole} > log & {waiting}
         test $(cat /proc/$!/comm) = ctorrent; kill -2 $!; wait $!; rm log
         ctorrent {place} {torrent} -s {whole} > log & {waiting}
         test $(pidof ctorrent) = $!; kill -2 $(pidof ctorrent); wait $!; rm log
         ctorrent -dd {place} {torrent} -s {whole} > log; {waiting}
         pid=$(pidof ctorrent); test $(ps -o tty= -p $pid) = '?'; test $(ps -o sid= -p $pid) = $pid
         kill -2 $pid; while kill -0 $pid 2> /dev/null; do sleep 0.05; done
         ! ctorrent -d none.torrent",
        ogbox = binary().display()
    );
    run(&mut shell(&scene.lab, &script));
}

/// A loop device, unmounted and freed also when the test fails.
struct Loop(String);

impl Loop {
    fn over(backing: &Path) -> Loop {
        Loop(text(&run(Command::new("losetup").args(["-f", "--show"]).arg(backing)).stdout).trim().to_owned())
    }

    /// Requests to write that the kernel has given to it so far.
    fn writes(&self) -> u64 {
        let stat = fs::read_to_string(format!("/sys/block/{}/stat", self.0.trim_start_matches("/dev/")));
        let count = stat.expect("read its statistics").split_whitespace().nth(4).map(str::parse);
        count.expect("a fifth field").expect("a number")
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-q", &self.0]).status();
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

#[test]
fn after_a_power_cut_all_that_was_written_is_hashed_and_nothing_else() {
    if !tools(&["losetup", "mkfs.ext4"]) {
        return;
    }
    let scene = Scene::new(31);
    let _seeder = scene.seeder();
    let (disk, mounted) = (scene.lab.path("disk"), scene.lab.make_dir("mounted"));
    File::create(&disk).and_then(|disk| disk.set_len(40 << 20)).expect("make a disk");
    run(Command::new("mkfs.ext4").arg("-q").arg(&disk));
    // The file system's own writes must not come between: it has time enough.
    let mount = |device: &Loop| run(Command::new("mount").args(["-o", "commit=300", &device.0]).arg(&mounted));
    let fetch = |options: &[&str]| scene.start_with(3, &mounted.join("x.img"), applet("ctorrent"), options);
    let device = Loop::over(&disk);
    mount(&device);
    let mut cut = fetch(&["-D", "3000"]);
    let journal = mounted.join("x.img.torrent.journal");
    eventually("the journal has a record", PATIENCE, || fs::metadata(&journal).is_ok_and(|file| file.len() >= 56));
    cut.program.signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(100));
    // The data below the file system at this moment is what a disk would have kept.
    let kept = scene.lab.path("kept");
    fs::copy(&disk, &kept).expect("copy the disk");
    cut.program.signal(Signal::KILL);
    cut.program.wait(PATIENCE);
    drop(device);

    let device = Loop::over(&kept);
    mount(&device);
    let mut done = fetch(&["-e", "1"]);
    done.program.wait_for_line("Download complete.", PATIENCE);
    let (vouched, hashed) = found_journal(&done.program.said());
    assert!(vouched == 0 && (1..PIECES).contains(&hashed), "{vouched} are vouched for, {hashed} were hashed");
    assert_same_file(&scene.whole, &done.file);
    assert!(done.program.interrupt().success());
}

#[test]
fn a_block_device_is_filled_unless_it_is_in_use_or_too_small() {
    if !tools(&["losetup", "mkfs.ext4"]) {
        return;
    }
    let scene = Scene::new(28);
    let _seeder = scene.seeder();
    let (backing, mounted) = (scene.lab.path("disk"), scene.lab.make_dir("mounted"));
    File::create(&backing).and_then(|disk| disk.set_len(20 << 20)).expect("make a disk");
    let device = Loop::over(&backing);
    let fetch = || scene.start_with(3, device.0.as_ref(), applet("ctorrent"), &["-e", "0"]);
    run(Command::new("mkfs.ext4").args(["-q", &device.0]));
    run(Command::new("mount").arg(&device.0).arg(&mounted));
    let mut refused = fetch();
    assert_eq!(refused.program.wait(PATIENCE).code(), Some(1));
    assert!(
        refused.program.said().contains(&format!("open {}: Resource busy", device.0)),
        "{}",
        refused.program.said()
    );
    run(Command::new("umount").arg(&device.0));
    let mut fetched = fetch();
    assert!(fetched.program.wait(PATIENCE).success(), "{}", fetched.program.said());
    let mut written = vec![0; scene.whole.metadata().expect("the payload").len() as usize];
    File::open(&device.0).and_then(|mut disk| disk.read_exact(&mut written)).expect("read the device");
    assert!(written == fs::read(&scene.whole).expect("read the payload"), "the device has the payload");
}

#[test]
fn a_device_of_an_odd_size_is_filled_in_whole_blocks_to_its_last_sector() {
    if !tools(&["losetup", "blockdev"]) {
        return;
    }
    let mut counts = Vec::new();
    for (more, soft) in [(0, "4096"), (512, "512"), (1024, "1024")] {
        let scene = Scene::odd(33, MIB, more);
        let _seeder = scene.seeder();
        let backing = scene.lab.path("disk");
        File::create(&backing).and_then(|disk| disk.set_len((MIB << 20) as u64 + more as u64)).expect("make a disk");
        let device = Loop::over(&backing);
        let before = device.writes();
        // While somebody has it open, the kernel does not go back to the default by itself.
        let _held = File::open(&device.0).expect("open the device");
        let mut fetched = scene.start_with(3, device.0.as_ref(), applet("ctorrent"), &["-e", "0"]);
        assert!(fetched.program.wait(PATIENCE).success(), "{}", fetched.program.said());
        let size = text(&run(Command::new("blockdev").args(["--getbsz", &device.0])).stdout);
        assert_eq!(size.trim(), soft);
        run(Command::new("sync").arg(&device.0));
        counts.push(device.writes() - before);
        let whole = fs::read(&scene.whole).expect("read the payload");
        assert!(fs::read(&device.0).expect("read the device") == whole, "{more} bytes more");
        drop(device);
        assert!(fs::read(&backing).expect("read the disk") == whole, "{more} bytes more");
    }
    // How much is written at once depends on when it comes.
    assert!(counts.iter().all(|count| *count <= counts[0] * 2 + 20), "{counts:?}");
}

#[test]
fn a_taken_port_is_told_and_another_is_found() {
    let lab = Lab::new();
    write_payload(&lab.path("x.img"), 1, 29);
    run(applet("ctorrent").current_dir(lab.path("")).args(["-t", "x.img", "-u", "http://127.0.0.1:1/a", "-s", "t"]));
    let host = lab.host(1).to_string();
    let taken: Vec<TcpListener> =
        [2706, 3000].map(|port| TcpListener::bind((lab.host(1), port)).expect("listen")).into();
    let options = ["t", "-e", "0", "-i", &host, "-p", "3000", "--no-lsd"];
    let output = run(applet("ctorrent").current_dir(lab.path("")).args(options));
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(out.contains(&format!("Listening on {host}:2705\n")), "{out}");
    assert!(err.contains("warn, couldn't bind on specified port 3000"), "{err}");
    drop(taken);
}

#[test]
fn what_nobody_may_write_is_seeded_all_the_same() {
    if !tools(&["unshare"]) {
        return;
    }
    let scene = Scene::new(30);
    let images = scene.whole.parent().expect("a directory").display();
    let mount = format!("mount --bind {images} {images} && mount -o remount,bind,ro {images} && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &mount, "sh"]).arg(binary()).arg("ctorrent");
    let mut seeder = scene.start_with(2, &scene.whole, command, &["-e", "1"]);
    seeder.program.wait_for_line("Seed for others", PATIENCE);
    let mut leecher = scene.leecher();
    leecher.program.wait_for_line("Download complete.", PATIENCE);
    assert_same_file(&scene.whole, &leecher.file);
}
