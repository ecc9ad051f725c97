//! Shell scripts like those of labs, run unchanged: the applets are links in PATH. And the state of a terminal after
//! each way in which a command may end.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use crate::opengnsys_scripts::{Background, Repo, install};
use crate::pc::Pc;
use crate::support::{Lab, applet, assert_same_file, binary, eventually, listens, run, text, tools, write_payload};

/// A PATH that begins with links to all applets.
fn path(lab: &Lab) -> String {
    let bin = lab.make_dir("links");
    if !bin.join("ctorrent").exists() {
        run(Command::new(binary()).args(["--install", "-s"]).arg(&bin));
    }
    format!("{}:/usr/sbin:/sbin:/usr/bin:/bin", bin.display())
}

/// A script of the PC, run by bash in a process namespace of its own, so that `pidof` sees only its own.
fn script(pc: &Pc, name: &str, text: &str) -> Command {
    let file = pc.lab.path(name);
    fs::write(&file, text).expect("write a script");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc", "bash"]).arg(file);
    command.env("PATH", path(&pc.lab)).env("OGBOX_ROOT", pc.lab.path("")).env("IPV4ADDR", "127.0.0.1");
    command.env("OPENGNSYS", pc.lab.path("opt/opengnsys")).env("OGLOGCOMMAND", pc.lab.path("tmp/command.log"));
    command.env_remove("LANG").current_dir(pc.lab.path(""));
    command
}

/// A minutely cron job of a repository: describes one image that has no torrent, or a stale one.
const CREATOR: &str = r#"
cd $OPENGNSYS/images || exit 1
LOG=$OPENGNSYS/log/torrent-creator.log
for IMG in *.img */*.img; do
    [ -f "$IMG" ] || continue
    [ -f "$IMG.lock" ] && continue
    if [ -f "$IMG.torrent" -a -f "$IMG.full.sum" ]; then
        read -r NAME SIZE < <(ctorrent -x "$IMG.torrent" | awk '$1=="<1>" {gsub(/[][]/, "", $3); print $2, $3}')
        [ "$NAME" == "$(basename $IMG)" -a "$SIZE" == "$(stat -c %s $IMG)" ] && continue
    fi
    touch $IMG.lock
    rm -f $IMG.torrent $IMG.sum
    ogCalculateChecksum $PWD/$IMG > $IMG.sum
    ogCalculateFullChecksum $PWD/$IMG > $IMG.full.sum
    echo "$(date) : Inicio $IMG" >> $LOG
    if nice -n 8 ctorrent -t $IMG -u http://TRACKER:6969/announce -s $IMG.torrent -c $(cat $IMG.full.sum) -l 4194304; then
        echo "$(date) : Fin $IMG" >> $LOG
    else
        echo "$(date) : ERROR $IMG" >> $LOG
    fi
    rm -f $IMG.lock
    break
done
"#;

/// An updateCache like that of a release: copies the torrent, downloads, reads the log.
const UPDATE: &str = r#"
OGIMG=$OPENGNSYS/images
OGCAC=$OPENGNSYS/cache/opt/opengnsys/images
IMG=$1
ogUpdateCacheIsNecesary REPO /$IMG TORRENT
case $? in
    1) ogEcho log session "[ ] $IMG: nada"; exit 0 ;;
    0) ;;
    *) exit 31 ;;
esac
cp $OGIMG/$IMG.torrent $OGCAC/
> $OGLOGCOMMAND
ogTorrentStart CACHE /$IMG.torrent $2 2>&1 | tee -a $OGLOGCOMMAND
resumedownload=$(grep -m 1 "Download" $OGLOGCOMMAND)
grep -m1 -B1 "Download" $OGLOGCOMMAND > summary
if [ "$resumedownload" == "Download complete." ]; then
    rm -f $OGCAC/$IMG.torrent.bf
    ogEcho log session "[ ] $(ogCalculateFullChecksum CACHE /$IMG)"
fi
ogUpdateCacheIsNecesary REPO /$IMG TORRENT
[ $? == 1 ]
"#;

/// The wiki's: a hook ends the client some time after the download, and no other process of its name runs.
const RECEIVE: &str = r#"
cd $OPENGNSYS/cache/opt/opengnsys/images || exit 1
if ctorrent -s $1.img -c $OPENGNSYS/images/$1.img.torrent | tail -n 1 | grep -q '(100%)'; then exit 0; fi
ctorrent -X "sleep 1; kill -2 \$(pidof ctorrent)" $OPENGNSYS/images/$1.img.torrent -s $1.img -b $1.bf -C 100
rm -f $1.bf
! pidof ctorrent
"#;

#[test]
fn a_torrent_creator_an_update_and_the_wikis_receiver_run_unchanged() {
    if !tools(&["unshare", "pidof", "bash", "awk"]) {
        return;
    }
    let repo = Pc::new();
    let host = repo.lab.host(1);
    write_payload(&repo.images("x.img"), 9, 1);
    write_payload(&repo.images("aula1/b.img"), 9, 2);
    let creator = CREATOR.replace("TRACKER", &host.to_string());
    for made in ["x.img", "aula1/b.img", ""] {
        run(&mut script(&repo, "torrent-creator", &creator));
        let log = repo.log("opt/opengnsys/log/torrent-creator.log");
        assert!(log.lines().last().is_some_and(|line| line.ends_with(&format!(" : Fin {made}")) || made.is_empty()));
        assert!(!log.contains("ERROR"), "{log}");
    }
    assert_eq!(repo.log("opt/opengnsys/log/torrent-creator.log").lines().count(), 4, "nothing is made twice");
    let shown = text(&run(applet("ctorrent").arg("-x").arg(repo.images("aula1/b.img.torrent"))).stdout);
    assert!(shown.contains("Piece length: 4194304\n") && shown.contains("<1> b.img [9437184]\n"), "{shown}");
    assert!(shown.contains(&format!("Comment: {}", repo.log("opt/opengnsys/images/aula1/b.img.full.sum"))), "{shown}");

    let mut tracker = applet("bttrack");
    tracker.args(["--port", "6969", "--bind", &host.to_string(), "--reannounce_interval", "5", "--dfile"]);
    tracker.arg(repo.lab.path("dstate")).arg("--allowed_dir").arg(repo.images(""));
    let _tracker = repo.lab.start("bttrack", &mut tracker);
    let mut seeder = applet("btlaunchmany");
    let _seeder = repo.lab.start("btlaunchmany", seeder.args(["--bind", &host.to_string()]).arg(repo.images("")));
    listens(std::net::SocketAddrV4::new(host, 6969), 10);

    let pc = Pc::new().with_cache();
    fs::remove_dir_all(pc.images("")).expect("remove the images");
    symlink(repo.images(""), pc.lab.path("opt/opengnsys/images")).expect("mount the share");
    for again in [false, true] {
        let mut update = script(&pc, "updateCache", UPDATE);
        let output = run(update.args(["x.img", "peer:1"]));
        assert_same_file(&repo.images("x.img"), &pc.cached("x.img"));
        let left =
            ["x.img.torrent.bf", "x.img.torrent.bfog", "x.img.torrent.journal"].map(|name| pc.cached(name).exists());
        assert_eq!(left, [false; 3]);
        let summary = pc.log("summary");
        assert!(summary.ends_with("\nDownload complete.\n") && summary.contains(" [3/3/3] "), "{summary}");
        assert_eq!(text(&output.stdout).contains("[ ] x.img: nada"), again);
    }
    for _ in 0..2 {
        run(script(&pc, "receive", RECEIVE).arg("aula1/b").env("IMG", "aula1/b"));
        assert_same_file(&repo.images("aula1/b.img"), &pc.cached("aula1/b.img"));
    }
    // The functions of the wiki, in shell syntax.
    let wiki = "ogCreateTorrent CACHE /x $1 && test -f opt/opengnsys/cache/opt/opengnsys/images/x.img.torrent.ant
                ogReceiveTorrent help | grep -q 'ogReceiveTorrent'
                ogShareTorrent CACHE /none; test $? = 2";
    run(script(&pc, "wiki", wiki).arg(host.to_string()));
}

/// The lines of a block of the guide, which is written for a server's /opt/opengnsys.
fn recipe(beginning: &str) -> String {
    const GUIDE: &str = include_str!("../../scripts/opengnsys/README.md");
    let lines = GUIDE.lines().skip_while(|line| line.trim_start() != beginning);
    lines.take_while(|line| line.starts_with("    ")).map(|line| format!("{}\n", line.trim_start())).collect()
}

#[test]
fn the_scripts_of_a_lab_give_way_to_links_as_the_guide_says() {
    let lab = Lab::new();
    let scripts = lab.make_dir("client/scripts");
    let bin = lab.make_dir("client/bin");
    symlink(binary(), bin.join("ogbox")).expect("link the binary");
    let names = ["createImage", "restoreImage", "updateCache", "deployImage"];
    for name in names.iter().chain(&["configureOs"]) {
        run(Command::new("sh")
            .args(["-c", "printf '#!/bin/sh\\necho the old one\\n' >$1; chmod 755 $1", "sh"])
            .arg(scripts.join(name)));
    }
    let recipe = recipe("cd /opt/opengnsys/client/scripts && mkdir -p before");
    let recipe = recipe.replace("/opt/opengnsys/client/scripts", &scripts.display().to_string());
    run(Command::new("sh").args(["-e", "-c", &recipe]));
    let path = format!("{}:/usr/bin:/bin", scripts.display());
    let said =
        |name: &str| text(&run(Command::new("sh").args(["-c", &format!("{name} help")]).env("PATH", &path)).stdout);
    for name in names {
        assert!(said(name).contains(name), "{}", said(name));
        assert_eq!(said(&scripts.join("before").join(name).display().to_string()), "the old one\n", "it is kept");
    }
    assert_eq!(said("configureOs"), "the old one\n");
}

/// Compares the output of stty before, during and after `ending` on a terminal of its own; `keys` are typed after a
/// second.
fn on_a_terminal(pc: &Pc, ending: &str, keys: &str) {
    let script = format!("trap : INT; stty -a > before; {ending}; stty -a > after; echo ended");
    let typed = if keys.is_empty() { "true".to_owned() } else { format!("sleep 1; printf '{keys}'; sleep 1") };
    let line = format!("({typed}) | script -q -e -c \"$1\" /dev/null");
    let mut command = Command::new("bash");
    command.args(["-c", &line, "bash", &script]).current_dir(pc.lab.path("")).stdin(Stdio::null());
    command.env("PATH", path(&pc.lab)).env("OGBOX_ROOT", pc.lab.path("")).env("SHELL", "/bin/sh");
    let said = text(&run(command.env("ogrepo", pc.lab.host(1).to_string())).stdout);
    let read = |name: &str| fs::read_to_string(pc.lab.path(name)).unwrap_or_default();
    assert!(read("before").contains(" echo "), "{ending}: {}", read("before"));
    assert_eq!(read("after"), read("before"), "{ending}: {said}");
}

#[test]
fn the_terminal_is_what_it_was_however_a_script_ends() {
    if !tools(&["script", "stty", "mkfs.ext4"]) {
        return;
    }
    let mut repo = Repo::on(Pc::new());
    repo.create(11);
    let pc = Pc::new().with_cache();
    fs::File::create(pc.lab.path("dev/sda1")).and_then(|file| file.set_len(24 << 20)).expect("make a partition");
    let restore = format!("ogrepo={} restoreImage CACHE Ubuntu 1 1 TORRENT", repo.address);
    // Done; then Ctrl-C while it seeds; then each signal while it has no peers.
    on_a_terminal(&pc, &format!("{restore} peer:0"), "");
    on_a_terminal(&pc, &format!("{restore} peer:30"), "\\003");
    repo.daemons[1].interrupt();
    fs::remove_file(pc.cached("Ubuntu.img")).expect("remove the image");
    on_a_terminal(&pc, &format!("{restore} peer:0"), "\\003");
    let image = "opt/opengnsys/cache/opt/opengnsys/images/Ubuntu.img";
    let restore =
        format!("rm -f {image}.part*; {restore} peer:0 & pid=$!; until test -e {image}.part; do sleep 0.1; done");
    for signal in ["INT", "TERM", "HUP", "KILL"] {
        on_a_terminal(&pc, &format!("{restore}; kill -{signal} $pid; wait $pid"), "");
    }
    // Its ctorrent is killed, and the script reports that.
    let ending = format!("{restore}; kill -9 $(cat /proc/$pid/task/$pid/children); wait $pid; test $? = 31");
    on_a_terminal(&pc, &ending, "");
    let background = Background(&pc);
    eventually("nothing goes on", 10, || background.processes().is_empty());
    install(&pc, 12);
    on_a_terminal(&pc, "createImage 1 1 REPO y", "\\003");
}
