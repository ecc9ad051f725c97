//! `make install` and `make uninstall` into a tree of their own: which names are laid where, what happens to what was
//! there, and scripts like those of OpenGnsys' cron in a chroot of that tree, with cron's PATH.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{Lab, binary, run, text, tools, write_payload};

/// What OpenGnsys' server calls by these names.
const SERVER: [&str; 8] = [
    "btlaunchmany",
    "btlaunchmany.bittornado",
    "btlaunchmany.py",
    "bttrack",
    "bttrack.bittornado",
    "bttrack.bittorrent",
    "bttrack.py",
    "ctorrent",
];

/// `make TARGET WORD…` for the tree `root`, with the binary under test.
fn make(root: &Path, words: &[&str]) -> Command {
    let mut make = Command::new("make");
    make.current_dir(env!("CARGO_MANIFEST_DIR")).args(["-s", "-o", "all"]).args(words);
    make.arg(format!("DESTDIR={}", root.display())).arg(format!("OGBOX={}", binary().display()));
    // What make of `make test` passes on is not for this one.
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    make
}

fn said(command: &mut Command) -> Output {
    command.output().expect("run make")
}

/// The names in `dir`, sorted.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn list(set: &str) -> Vec<String> {
    let listed = run(Command::new(binary()).args(["--list", set]));
    text(&listed.stdout).lines().map(str::to_owned).collect()
}

/// A tree with a database of packages, empty but for `ctorrent`, which a package is taken to have installed.
fn debian(lab: &Lab) -> PathBuf {
    let root = lab.make_dir("root");
    for dir in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "usr/bin"] {
        lab.make_dir(&format!("root/{dir}"));
    }
    for file in ["status", "available", "diversions"] {
        fs::write(root.join("var/lib/dpkg").join(file), "").expect("make a database of packages");
    }
    fs::write(root.join("usr/bin/ctorrent"), "a package's").expect("install a package");
    root
}

#[test]
fn the_sets_are_what_no_package_has_and_what_opengnsys_servers_call() {
    assert_eq!(list("opengnsys"), SERVER);
    let (safe, all) = (list("safe"), list("all"));
    assert!(safe.iter().all(|name| all.contains(name)));
    let shadowing = all.iter().filter(|name| !safe.contains(name));
    let other = |name: &str| name.starts_with("partclone.") || ["lzop", "unzstd", "zstd", "zstdcat"].contains(&name);
    let left: Vec<&str> = shadowing.map(String::as_str).filter(|name| !other(name)).collect();
    assert_eq!(left, ["btlaunchmany", "bttrack", "ctorrent"]);
    let unknown = said(Command::new(binary()).args(["--list", "some"]));
    assert_eq!(
        (unknown.status.code(), text(&unknown.stderr)),
        (Some(1), "ogbox: --list some: the sets are safe, opengnsys and all\n".to_owned())
    );
}

#[test]
fn the_default_shadows_no_package_and_the_last_set_counts() {
    let lab = Lab::new();
    let root = lab.make_dir("root");
    let (bin, cron) = (root.join("usr/local/bin"), root.join("usr/bin"));
    let with_ogbox = |set: &str| {
        let mut names = list(set);
        names.push("ogbox".to_owned());
        names.sort();
        names
    };
    run(&mut make(&root, &["install"]));
    assert_eq!((names(&bin), names(&cron)), (with_ogbox("safe"), vec![]));
    assert_eq!(fs::read_link(bin.join("createImage")).expect("a link"), Path::new("ogbox"));
    // The units and init scripts call nothing that is not there.
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/service")).expect("list the units") {
        let unit = fs::read_to_string(entry.expect("a unit").path()).expect("read a unit");
        let called = unit.split("/usr/local/bin/").skip(1).map(|rest| rest.split_whitespace().next().unwrap_or("?"));
        let called: Vec<&str> = called.collect();
        assert!(!called.is_empty() && called.iter().all(|name| bin.join(name).exists()), "{called:?}");
    }
    for _ in 0..2 {
        run(&mut make(&root, &["install", "LINKS=all"]));
        assert_eq!((names(&bin), names(&cron)), (with_ogbox("all"), vec![]));
    }
    run(&mut make(&root, &["install", "LINKS=opengnsys"]));
    assert_eq!((names(&bin), names(&cron)), (with_ogbox("safe"), SERVER.map(str::to_owned).to_vec()));
    assert_eq!(fs::read_link(cron.join("bttrack")).expect("a link"), Path::new("/usr/local/bin/ogbox"));
    // A file of the same name that came later is not ours to remove.
    fs::remove_file(cron.join("bttrack.py")).expect("remove a link");
    fs::write(cron.join("bttrack.py"), "another's").expect("install another");
    run(&mut make(&root, &["uninstall"]));
    assert_eq!((names(&bin), names(&cron)), (vec![], vec!["bttrack.py".to_owned()]));
    assert_eq!(names(&root.join("usr/local/share/ogbox")), [""; 0]);
    let wrong = said(&mut make(&root, &["install", "LINKS=some"]));
    assert!(!wrong.status.success() && text(&wrong.stderr).contains("safe: names that no package of Debian has"));
}

#[test]
fn what_a_package_installed_is_kept_and_comes_back() {
    if !tools(&["dpkg-divert"]) {
        return;
    }
    let lab = Lab::new();
    let root = debian(&lab);
    let read = |name: &str| fs::read_to_string(root.join("usr/bin").join(name)).ok();
    for _ in 0..2 {
        run(&mut make(&root, &["install", "LINKS=opengnsys"]));
        assert_eq!(read("ctorrent.distrib").as_deref(), Some("a package's"));
        assert!(root.join("usr/bin/ctorrent").is_symlink());
    }
    // bttrack's package, installed later, goes beside the link.
    let divert = run(Command::new("dpkg-divert").arg("--root").arg(&root).args(["--truename", "/usr/bin/bttrack"]));
    assert_eq!(text(&divert.stdout), "/usr/bin/bttrack.distrib\n");
    run(&mut make(&root, &["uninstall"]));
    assert_eq!(
        (names(&root.join("usr/bin")), read("ctorrent")),
        (vec!["ctorrent".to_owned()], Some("a package's".to_owned()))
    );
    assert_eq!(fs::read_to_string(root.join("var/lib/dpkg/diversions")).expect("the diversions"), "");
}

#[test]
fn without_dpkg_nothing_is_laid_where_a_file_is_and_the_file_is_named() {
    let lab = Lab::new();
    let (root, bin) = (lab.path("root"), lab.make_dir("root/usr/bin"));
    fs::write(bin.join("ctorrent"), "another's").expect("install another");
    let refused = said(&mut make(&root, &["install", "LINKS=opengnsys"]));
    assert!(!refused.status.success());
    let why = text(&refused.stderr);
    assert!(why.contains(&format!("\n{}\n", bin.join("ctorrent").display())) && why.contains("dpkg-divert"), "{why}");
    assert_eq!((names(&bin), names(&root.join("usr/local"))), (vec!["ctorrent".to_owned()], vec![]));
    run(&mut make(&root, &["install"]));
    assert_eq!(fs::read_to_string(bin.join("ctorrent")).expect("another's"), "another's");
}

/// An hourly job that kills the tracker and starts it anew with other options, and a minutely one that makes a torrent,
/// between the start and the stop of an init script; run in the tree, where `/bin` has this machine's programs.
const CRON: &str = r#"
set -e
images=/opt/opengnsys/images log=/opt/opengnsys/log
knows() { exec 3<>/dev/tcp/127.0.0.1/6969 && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && grep -q "$1" <&3; }
until_knows() { for n in $(seq 100); do if (knows "$1") 2>/dev/null; then return; fi; sleep 0.1; done; exit 1; }

# /etc/init.d/opengnsys
/usr/bin/bttrack.bittorrent --port 6969 --dfile /tmp/dstate --reannounce_interval 30 --logfile $log/bttrack.log \
    --allowed_dir $images --allow_get 1 --parse_allowed_interval 1 >/dev/null 2>&1 &
/usr/bin/btlaunchmany.bittornado $images >$log/seeder.log 2>&1 &
until_knows .

# the minutely job
cd $images
md5=$(md5sum <x.img | cut -d ' ' -f 1)
echo $md5 >x.img.full.sum
nice -n 8 ctorrent -t x.img -u http://127.0.0.1:6969/announce -s x.img.torrent -c $md5 -l 4194304
ctorrent -x x.img.torrent | sed -n 's/^<1> //p'

# the hourly job
old=$(pgrep -x bttrack)
pkill bttrack
rm -f /tmp/dstate
sleep 2
! pgrep -x bttrack
bttrack --save_dfile_interval 10 --timeout_downloaders_interval 10 --port 6969 --dfile /tmp/dstate \
    --reannounce_interval 10 --logfile $log/bttrack.log --allowed_dir $images --allow_get 0 >/dev/null 2>&1 &
until_knows x.img
[ "$(pgrep -x bttrack)" != "$old" ]
for n in $(seq 100); do if grep -q 'added "' $log/seeder.log; then echo seeds; exit; fi; sleep 0.1; done
exit 1
"#;

#[test]
fn opengnsys_cron_jobs_find_each_name_by_crons_path() {
    if !tools(&["unshare", "mount", "chroot", "pkill", "pgrep", "bash"]) {
        return;
    }
    let lab = Lab::new();
    let root = lab.make_dir("root");
    run(&mut make(&root, &["install", "LINKS=opengnsys"]));
    for dir in ["bin", "lib", "lib64", "usr/lib", "usr/lib64", "proc", "dev", "tmp", "etc", "opt/opengnsys/log"] {
        lab.make_dir(&format!("root/{dir}"));
    }
    write_payload(&lab.make_dir("root/opt/opengnsys/images").join("x.img"), 5, 1);
    fs::write(root.join("dev/null"), "").expect("make a place for /dev/null");
    fs::write(root.join("cron"), CRON).expect("write a script");
    // The tree's /usr/bin has the links alone, and its /bin this machine's programs.
    let enter = format!(
        "ip link set lo up; cd {root}; mount --bind /usr/bin bin; mount --bind /usr/lib usr/lib
         for dir in lib lib64; do mount --bind $(readlink -f /$dir) $dir; done
         mount -t proc proc proc; mount --bind /dev/null dev/null
         exec chroot . /bin/env -i PATH=/usr/bin:/bin /bin/bash /cron",
        root = root.display()
    );
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-ec", &enter]);
    unshare.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    let output = run(&mut unshare);
    let told = text(&output.stdout);
    assert!(told.ends_with("x.img [5242880]\nseeds\n"), "{told}{}", text(&output.stderr));
}
