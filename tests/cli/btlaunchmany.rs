//! btlaunchmany as servers start it: what it seeds, stops seeding, makes and remembers.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use ogbox::torrent::Metainfo;
use rustix::process::Signal;
use sha1_smol::Sha1;

use super::support::{Lab, Program, applet, eventually, free_port, run, text, write_payload};

const PIECE: usize = 256 << 10;
const BLOCK: usize = 16 << 10;

struct Server {
    program: Program,
    at: SocketAddrV4,
}

fn start(lab: &Lab, args: &[&str]) -> Server {
    let at = SocketAddrV4::new(lab.host(1), free_port(lab.host(1)));
    let port = at.port().to_string();
    let mut command = applet("btlaunchmany");
    command.arg(lab.make_dir("images")).args(["--bind", &at.ip().to_string(), "--minport", &port, "--maxport", &port]);
    command.args(["--lsd", "0"]).args(args);
    Server { program: lab.start("btlaunchmany", &mut command), at }
}

/// Makes an image of a MiB or more and its torrent, replacing those of this name.
fn put(lab: &Lab, name: &str, mib: usize, seed: u64) -> (PathBuf, Metainfo) {
    let image = lab.make_dir("images").join(name);
    fs::create_dir_all(image.parent().expect("a parent")).expect("make its directory");
    let new = lab.path("new");
    write_payload(&new, mib, seed);
    fs::rename(&new, &image).expect("put the image in its place");
    (image.clone(), describe(&image))
}

fn describe(image: &Path) -> Metainfo {
    let torrent = PathBuf::from(format!("{}.torrent", image.display()));
    let mut command = applet("ctorrent");
    command.arg("-t").arg(image).args(["-u", "http://127.0.0.1:1/announce", "--force", "-s"]).arg(&torrent);
    run(&mut command);
    Metainfo::read(&torrent).expect("a torrent")
}

/// A peer that takes piece after piece until it is cut off.
struct Peer(TcpStream);

impl Peer {
    /// Connects and waits to be unchoked; `None` if nobody unchokes it.
    fn connect(at: SocketAddrV4, metainfo: &Metainfo) -> Option<Peer> {
        let mut stream = TcpStream::connect(at).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        // Each is a stranger: the end of the last connection may not have been noticed yet.
        let id = format!("-XX0000-{:012}", stream.local_addr().ok()?.port());
        let hello = [b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0", &metainfo.info_hash.0[..], id.as_bytes()];
        stream.write_all(&hello.concat()).ok()?;
        stream.read_exact(&mut [0; 68]).ok()?;
        stream.write_all(&[0, 0, 0, 1, 2]).ok()?;
        let mut peer = Peer(stream);
        while peer.message()?.first() != Some(&1) {}
        Some(peer)
    }

    fn message(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).ok()?;
        let mut message = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut message).ok()?;
        Some(message)
    }

    /// Fetches a piece; `None` when cut off.
    fn piece(&mut self, metainfo: &Metainfo, piece: u32) -> Option<Vec<u8>> {
        let size = metainfo.geometry.piece_size(piece) as usize;
        let mut data = vec![0; size];
        for begin in (0..size).step_by(BLOCK) {
            let length = BLOCK.min(size - begin) as u32;
            let mut request = vec![0, 0, 0, 13, 6];
            [piece, begin as u32, length].iter().for_each(|number| request.extend(number.to_be_bytes()));
            self.0.write_all(&request).ok()?;
            loop {
                let message = self.message()?;
                if message.first() == Some(&7) && message[1..5] == piece.to_be_bytes() {
                    assert_eq!(message[5..9], (begin as u32).to_be_bytes());
                    data[begin..begin + length as usize].copy_from_slice(&message[9..]);
                    break;
                }
            }
        }
        Some(data)
    }

    /// Takes pieces, checking each, until cut off or until `enough`; returns their number.
    fn take(&mut self, metainfo: &Metainfo, enough: u32) -> u32 {
        let pieces = metainfo.geometry.pieces();
        for count in 0..enough {
            let Some(data) = self.piece(metainfo, count % pieces) else { return count };
            let wanted = metainfo.piece_hash(count % pieces);
            assert_eq!(Sha1::from(&data).digest().bytes(), wanted, "a wrong byte in piece {count}");
        }
        enough
    }
}

fn takes_all(server: &Server, metainfo: &Metainfo) -> bool {
    let pieces = metainfo.geometry.pieces();
    Peer::connect(server.at, metainfo).is_some_and(|mut peer| peer.take(metainfo, pieces) == pieces)
}

#[test]
fn no_arguments_print_every_option_and_wrong_ones_are_told() {
    let said = |args: &[&str]| {
        let output = applet("btlaunchmany").args(args).stdin(Stdio::null()).output().expect("run btlaunchmany");
        (output.status.code(), text(&output.stdout))
    };
    let (code, list) = said(&[]);
    assert_eq!(code, Some(1));
    for name in ["parse_dir_interval", "saveas_style", "max_uploads", "super_seeder", "check_hashes", "state_dir"] {
        assert!(list.contains(&format!("--{name} <arg>\n")), "{name} in {list}");
    }
    for (args, why) in [
        (&["--prot", "1"][..], "unknown key --prot"),
        (&["--minport", "1"], "Too few args - 1 min."),
        (&["a", "b"], "Too many args - 1 max."),
        (&["/no/such"], "/no/such is not a directory"),
        (&["/tmp", "--saveas_style", "2"], "--saveas_style 2: only 1 is known here"),
        (&["/tmp", "--create"], "--create needs --announce URL, the tracker of what it makes"),
    ] {
        assert_eq!(said(args), (Some(1), format!("error: {why}\nrun with no args for parameter explanations\n")));
    }
}

#[test]
fn torrents_of_all_subdirectories_are_seeded_and_their_coming_and_going_told() {
    let lab = Lab::new();
    let (_, one) = put(&lab, "one.img", 1, 1);
    let mut server = start(&lab, &["--max_initiate", "3"]);
    server.program.wait_for_line("one.img.torrent\"", 20);
    let (image, two) = put(&lab, "ou/deep/two.img", 2, 2);
    server.program.wait_for_line("two.img.torrent\"", 20);
    assert!(takes_all(&server, &one) && takes_all(&server, &two));
    fs::remove_file(format!("{}.torrent", image.display())).expect("remove a torrent");
    server.program.wait_for_line("dropped \"", 20);
    assert!(Peer::connect(server.at, &two).is_none());
    server.program.signal(Signal::USR1);
    server.program.wait_for_line("one.img.torrent\": \"seeding\" (100%) - 0P0s", 20);
    assert!(server.program.interrupt().success());
    let said = server.program.said();
    assert_eq!(said.matches("--max_initiate has no meaning here and is ignored").count(), 1, "{said}");
    assert!(said.contains("one.img.torrent: uploaded 1048576 bytes"), "{said}");
}

#[test]
fn an_image_that_is_replaced_is_served_anew_within_two_seconds_and_never_wrongly() {
    let lab = Lab::new();
    type Change = fn(&Path, &Path);
    let changes: [(&str, Change); 3] = [
        ("renamed over", |new, image| fs::rename(new, image).expect("replace the image")),
        ("copied over", |new, image| assert_eq!(fs::copy(new, image).expect("copy over the image"), 8 << 20)),
        ("overwritten in place", |new, image| {
            let (data, file) = (fs::read(new).expect("read"), File::options().write(true).open(image));
            file.expect("open the image").write_all_at(&data, 0).expect("overwrite it");
        }),
    ];
    let (image, mut metainfo) = put(&lab, "lab.img", 8, 1);
    let server = start(&lab, &[]);
    eventually("the image is served", 20, || takes_all(&server, &metainfo));
    for (seed, (way, change)) in (2..).zip(changes) {
        let mut peer = Peer::connect(server.at, &metainfo).expect("a connection");
        let new = lab.path("new");
        write_payload(&new, 8, seed);
        let old = metainfo.clone();
        let taking = std::thread::spawn(move || peer.take(&old, 1_000_000));
        std::thread::sleep(Duration::from_millis(100));
        change(&new, &image);
        metainfo = describe(&image);
        let begun = Instant::now();
        assert!(taking.join().expect("no wrong byte") > 0, "{way}");
        eventually("the new one is served", 10, || takes_all(&server, &metainfo));
        let seconds = begun.elapsed().as_secs_f64();
        println!("{way}: served after {seconds:.2} s");
    }
    let said = server.program.said();
    assert!(said.matches("dropped \"").count() >= 3, "{said}");
}

#[test]
fn a_torrent_with_many_leechers_does_not_starve_one_with_a_single_leecher() {
    let lab = Lab::new();
    let (_, crowded) = put(&lab, "crowded.img", 4, 1);
    let (_, quiet) = put(&lab, "quiet.img", 4, 2);
    for (options, leechers, pieces) in [
        // 2 MiB/s: in 3 s 6 MiB, of which half are the single leecher's.
        (&["--max_upload_rate", "2048"][..], 16, 10..14),
        // Slots belong to a torrent: a peer that waits for one waits for its own torrent's.
        (&["--max_upload_rate", "2048", "--max_uploads", "2"], 16, 10..14),
    ] {
        let server = start(&lab, options);
        eventually("both are seeded", 20, || {
            [&crowded, &quiet].iter().all(|metainfo| Peer::connect(server.at, metainfo).is_some())
        });
        let crowd: Vec<_> = (0..leechers)
            .map(|_| {
                let (metainfo, at) = (crowded.clone(), server.at);
                std::thread::spawn(move || Peer::connect(at, &metainfo).map(|mut peer| peer.take(&metainfo, 1_000_000)))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(500));
        let (begun, mut taken) = (Instant::now(), 0);
        let mut peer = Peer::connect(server.at, &quiet).expect("a connection");
        while begun.elapsed() < Duration::from_secs(3) {
            taken += peer.take(&quiet, 1);
        }
        drop(server);
        let got: u32 = crowd.into_iter().filter_map(|peer| peer.join().expect("no wrong byte")).sum();
        assert!(
            pieces.contains(&taken) && got > 0,
            "{taken} pieces of 256 KiB in 3 s with {options:?}, the others {got}"
        );
    }
}

#[test]
fn a_truncated_or_locked_image_is_not_served() {
    let lab = Lab::new();
    let (image, metainfo) = put(&lab, "lab.img", 1, 1);
    let lock = lab.path("images/lab.img.lock");
    fs::write(&lock, "").expect("lock it");
    let mut server = start(&lab, &[]);
    std::thread::sleep(Duration::from_millis(400));
    assert!(!server.program.said().contains("added"));
    fs::remove_file(&lock).expect("unlock it");
    server.program.wait_for_line("added", 20);
    let mut peer = Peer::connect(server.at, &metainfo).expect("a connection");
    File::options().write(true).open(&image).expect("open").set_len(1000).expect("truncate");
    assert_eq!(peer.take(&metainfo, 1000), 0);
    server.program.wait_for_line("dropped", 20);
    server.program.wait_for_line("shorter than its torrent says (1000 of 1048576 bytes)", 20);
}

#[test]
fn what_was_verified_is_remembered_over_restarts() {
    let lab = Lab::new();
    let (image, metainfo) = put(&lab, "lab.img", 4, 1);
    let state = lab.path("state");
    let args = ["--state_dir", state.to_str().expect("UTF-8")];
    let mut server = start(&lab, &args);
    server.program.wait_for_line("added", 20);
    assert!(server.program.interrupt().success());
    // Wrong bytes under the old time are not those that were verified.
    let changed = fs::metadata(&image).and_then(|metadata| metadata.modified()).expect("its time");
    let file = File::options().write(true).open(&image).expect("open");
    file.write_all_at(&[0; PIECE], 0).and_then(|()| file.set_modified(changed)).expect("forge");
    let now = file.metadata().expect("its times");
    drop(file);
    let mut server = start(&lab, &args);
    server.program.wait_for_line("its data does not match it (15 of 16 pieces do)", 20);
    server.program.interrupt();
    // Under a remembered stamp only a seeder that remembers believes them.
    let (mtime, ctime) = ((now.mtime(), now.mtime_nsec()), (now.ctime(), now.ctime_nsec()));
    let stamp = format!("{} {} {} {} {} {}", now.ino(), now.size(), mtime.0, mtime.1, ctime.0, ctime.1);
    fs::write(state.join("verified"), format!("{} {stamp}\n", metainfo.info_hash)).expect("forge the state");
    let mut server = start(&lab, &args);
    server.program.wait_for_line("added", 20);
    server.program.interrupt();
    fs::write(state.join("verified"), b"\xff\0 garbage\n").expect("damage the state");
    let mut server = start(&lab, &args);
    server.program.wait_for_line("its data does not match it (15 of 16 pieces do)", 20);
    assert!(Peer::connect(server.at, &metainfo).is_none());
}

#[test]
fn images_get_their_torrents_and_checksums_and_new_ones_when_they_change() {
    let lab = Lab::new();
    let images = lab.make_dir("images");
    fs::create_dir_all(images.join("ou/deep")).expect("make directories");
    write_payload(&images.join("ou/b.img"), 1, 1);
    write_payload(&images.join("ou/deep/c.img"), 1, 1);
    write_payload(&images.join("a.dsk"), 1, 2);
    write_payload(&images.join("d.iso"), 1, 3);
    let url = "http://127.0.0.1:1/announce";
    let server = start(&lab, &["--create", "1", "--announce", url]);
    let sum = |name: &str| {
        let output = run(std::process::Command::new("md5sum").arg(images.join(name)));
        text(&output.stdout)[..32].to_owned()
    };
    let metainfo = |name: &str| Metainfo::read(&images.join(format!("{name}.torrent")));
    for name in ["a.dsk", "ou/b.img"] {
        eventually("the torrent is made", 20, || metainfo(name).is_ok_and(|torrent| takes_all(&server, &torrent)));
        let torrent = metainfo(name).expect("a torrent");
        assert_eq!(torrent.comment, Some(sum(name)));
        assert_eq!((torrent.announce, torrent.name.as_str()), (vec![vec![url.to_owned()]], &name[name.len() - 5..]));
        for ending in ["sum", "full.sum"] {
            let stored = fs::read_to_string(images.join(format!("{name}.{ending}"))).expect("a checksum");
            assert_eq!(stored, format!("{}\n", sum(name)), "of a MiB both are the same");
        }
        assert!(!images.join(format!("{name}.lock")).exists());
    }
    assert!(metainfo("ou/deep/c.img").is_err() && metainfo("d.iso").is_err());
    // Other content of the same size.
    let old = metainfo("a.dsk").expect("a torrent").info_hash;
    write_payload(&images.join("a.dsk"), 1, 4);
    eventually("the torrent is made anew", 20, || {
        metainfo("a.dsk").is_ok_and(|torrent| torrent.info_hash != old && takes_all(&server, &torrent))
    });
    assert_eq!(metainfo("a.dsk").expect("a torrent").comment, Some(sum("a.dsk")));
}
