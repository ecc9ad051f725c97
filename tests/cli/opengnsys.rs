//! The functions of OpenGnsys' engine as commands, in a tree of files that stands for that of a lab PC (OGBOX_ROOT).

use std::fs;
use std::process::Command;

use crate::pc::{Pc, error, refusal, sh};
use crate::support::{run, text, tools};

/// All functions: the applets with the engine's prefix.
fn functions() -> Vec<String> {
    let list = Command::new(crate::support::binary()).arg("--list").output().expect("list the applets");
    let names: Vec<String> = text(&list.stdout).lines().filter(|n| n.starts_with("og")).map(str::to_owned).collect();
    assert!(names.len() >= 17, "{names:?}");
    names
}

#[test]
fn help_alone_explains_each_function_in_the_labs_language() {
    let pc = Pc::new();
    for name in functions() {
        for (lang, function, format) in
            [("en_GB", "Function", "Format"), ("es_ES.UTF-8", "Función", "Formato"), ("ca_ES", "Funció", "Format")]
        {
            let output = pc.command(&format!("{name} help")).env("LANG", lang).output().expect("ask for help");
            let help = text(&output.stdout);
            let lines: Vec<&str> = help.lines().collect();
            assert_eq!(output.status.code(), Some(0), "{name}");
            assert!(lines[0].starts_with(&format!("{function} {name}: ")), "{help}");
            assert!(lines[1].starts_with(&format!("    {format}: {name}")), "{help}");
        }
        let exported = format!("MSG_HELP_{name}");
        let output = pc.command(&format!("{name} help")).env(exported, "What it does").output().expect("ask for help");
        assert_eq!(text(&output.stdout).lines().next(), Some(format!("Function {name}: What it does").as_str()));
    }
}

#[test]
fn a_wrong_number_of_words_is_error_1_with_the_right_words_in_each_language() {
    let pc = Pc::new();
    for (lang, message) in [
        ("en_GB", "Wrong execution format"),
        ("es_ES", "Formato de ejecución incorrecto"),
        ("ca_ES", "Format d'execució incorrecte"),
    ] {
        let output = pc.command("ogGetFsType 1").env("LANG", lang).output().expect("run an applet");
        let line = format!("ogGetFsType: {message} \"ogGetFsType int_ndisk int_npartition\"");
        assert_eq!(refusal(&output), error(1, &line));
    }
    let own = pc.command("ogGetFsType 1").env("MSG_ERR_FORMAT", "Formatu okerra").output().expect("run an applet");
    assert!(text(&own.stderr).contains("ogGetFsType: Formatu okerra \""));
}

#[test]
fn errors_are_logged_unless_debug_is_no_and_name_the_calling_script() {
    let pc = Pc::new();
    let script = pc.lab.path("deploy.sh");
    let line = format!("{} ogDiskToDev 3; true", crate::support::binary().display());
    fs::write(&script, line).expect("write a script");
    for (debug, logged) in [("yes", true), ("no", false)] {
        let mut bash = Command::new("bash");
        bash.arg(&script).env("OGBOX_ROOT", pc.lab.path("")).env("IPV4ADDR", "10.0.0.7").env("DEBUG", debug);
        let output = bash.env("LANG", "C").output().expect("run a script");
        let said = text(&output.stderr);
        assert!(said.ends_with("ogDiskToDev<-deploy.sh: File or device not found \"disk 3\"\n"), "{said}");
        let log = pc.log("opt/opengnsys/log/10.0.0.7.log");
        assert_eq!(log, if logged { said } else { String::new() });
        let _ = fs::remove_file(pc.lab.path("opt/opengnsys/log/10.0.0.7.log"));
    }
}

#[test]
fn disks_are_numbered_and_named_both_ways() {
    let pc = Pc::new();
    assert_eq!(pc.told("ogDiskToDev"), "/dev/sda /dev/nvme0n1");
    assert_eq!(pc.told("ogDiskToDev 1"), "/dev/sda");
    assert_eq!(pc.told("ogDiskToDev 2 1"), "/dev/nvme0n1p1");
    assert_eq!(pc.told("ogDevToDisk /dev/nvme0n1p1"), "2 1");
    assert_eq!(pc.told("ogDevToDisk /dev/sda"), "1");
    assert_eq!(
        pc.refused("ogDiskToDev 1 2"),
        error(2, "ogDiskToDev: File or device not found \"disk 1, partition 2\"")
    );
    assert_eq!(
        pc.refused("ogDiskToDev sda"),
        error(1, "ogDiskToDev: Wrong execution format \"disk sda is no number\"")
    );
    assert_eq!(pc.refused("ogDevToDisk /dev/sdz"), error(2, "ogDevToDisk: File or device not found \"/dev/sdz\""));
}

#[test]
fn files_are_found_by_each_form_of_address() {
    let pc = Pc::new().with_cache();
    fs::write(pc.images("aula1/Win10.img"), "").expect("make an image");
    fs::write(pc.cached("ubuntu.img"), "").expect("make an image");
    for (line, path) in [
        ("ogGetPath REPO /aula1/Win10.img", "/opt/opengnsys/images/aula1/Win10.img"),
        ("ogGetPath repo AULA1//win10.IMG/", "/opt/opengnsys/images/aula1/Win10.img"),
        ("ogGetPath /opt/opengnsys/images/aula1/win10.img", "/opt/opengnsys/images/aula1/Win10.img"),
        ("ogGetPath CACHE /Ubuntu.img", "/opt/opengnsys/cache/opt/opengnsys/images/ubuntu.img"),
        ("ogGetPath REPO /none.img", ""),
        ("ogGetPath REPO /../log", ""),
        ("ogGetParentPath REPO /Aula1/new.img", "/opt/opengnsys/images/aula1"),
    ] {
        assert_eq!(pc.told(line), path, "{line}");
    }
    let (code, line) = pc.refused("ogGetPath SERVER /x");
    assert_eq!(
        (code, line.as_str()),
        (Some(1), "ogGetPath: Wrong execution format \"SERVER is neither REPO nor CACHE\"")
    );
    let (code, line) = Pc::new().refused("ogGetPath CACHE /x");
    assert_eq!((code, line.as_str()), (Some(15), "ogGetPath: No client cache partition \"No local cache\""));
}

#[test]
fn a_directory_is_a_cache_that_is_mounted_and_has_no_numbers() {
    let pc = Pc::new();
    assert_eq!(pc.refused("ogMountCache"), error(3, "ogMountCache: Unknown or wrong partition \"No local cache\""));
    let pc = pc.with_cache();
    assert_eq!(pc.told("ogMountCache"), "/opt/opengnsys/cache");
    assert_eq!(pc.told("ogUnmountCache"), "");
    let found = pc.run("ogFindCache");
    assert_eq!(
        (found.status.code(), text(&found.stdout), text(&found.stderr)),
        (Some(1), String::new(), String::new())
    );
}

#[test]
fn checksums_are_md5sums_and_only_what_is_there_is_equal() {
    let pc = Pc::new().with_cache();
    let image: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    fs::write(pc.images("x.img"), &image).expect("make an image");
    let md5sum = |filter: &str| {
        let script = format!("{filter} {} | md5sum", pc.images("x.img").display());
        text(&Command::new("sh").args(["-c", &script]).output().expect("run md5sum").stdout)[..32].to_owned()
    };
    assert_eq!(pc.told("ogCalculateChecksum REPO /x.img"), md5sum("tail -c1M"));
    assert_eq!(pc.told("ogCalculateFullChecksum /opt/opengnsys/images/x.img"), md5sum("cat"));
    let equal = || pc.run("ogCompareChecksumFiles REPO /x.img CACHE /x.img").status.code();
    assert_eq!(equal(), Some(1), "both are missing");
    pc.told("ogMakeChecksumFile REPO x.img");
    assert_eq!(pc.log("opt/opengnsys/images/x.img.sum"), md5sum("tail -c1M") + "\n");
    fs::write(pc.cached("x.img"), &image).expect("make an image");
    assert_eq!(equal(), Some(1), "one is missing");
    pc.told("ogMakeChecksumFile CACHE x.img");
    assert_eq!(equal(), Some(0));
    assert_eq!(
        pc.refused("ogCalculateChecksum REPO /y.img"),
        error(2, "ogCalculateChecksum: File or device not found \"REPO /y.img\"")
    );
}

#[test]
fn an_image_is_locked_until_it_is_unlocked() {
    let pc = Pc::new();
    fs::write(pc.images("aula1/x.img"), "").expect("make an image");
    let locked = |line: &str| pc.run(line).status.code();
    assert_eq!(locked("ogIsImageLocked REPO /aula1/x.img"), Some(1));
    pc.told("ogLockImage REPO /aula1/x.img");
    assert!(pc.images("aula1/x.img.lock").exists());
    assert_eq!(locked("ogIsImageLocked REPO /aula1/x.img"), Some(0));
    assert_eq!(locked("ogIsImageLocked /opt/opengnsys/images/aula1/X.img"), Some(0));
    pc.told("ogUnlockImage /opt/opengnsys/images/aula1/x.img");
    assert_eq!(locked("ogIsImageLocked REPO /aula1/x.img"), Some(1));
    pc.told("ogUnlockImage REPO /aula1/x.img");
    // A wrong number of arguments means no.
    assert_eq!([locked("ogIsImageLocked"), locked("ogIsImageLocked a b c d")], [Some(1), Some(1)]);
    assert_eq!(pc.refused("ogLockImage REPO /none/x.img").0, Some(2));
    assert_eq!(pc.refused("ogLockImage").0, Some(1));
}

#[test]
fn lines_go_to_the_logs_that_are_named() {
    let pc = Pc::new();
    assert_eq!(pc.told("ogEcho log session [10] saved"), "[10] saved");
    assert_eq!(pc.told("ogEcho COMMAND sent 5"), "sent 5");
    assert_eq!(pc.log("opt/opengnsys/log/10.0.0.7.log"), "[10] saved\n");
    assert_eq!(pc.log("tmp/session.log"), "[10] saved\n");
    assert_eq!(pc.log("tmp/command.log"), "sent 5\n");
    let said = pc.told("ogEcho session WARNING disk is old");
    assert!(said.starts_with("OpenGnsys warning: 20") && said.ends_with(" disk is old"), "{said}");
    assert!(pc.log("tmp/session.log").contains(&said) && pc.log("opt/opengnsys/log/10.0.0.7.log").contains(&said));
}

#[test]
fn an_error_raised_by_number_is_the_exit_code() {
    let pc = Pc::new();
    assert_eq!(
        pc.refused("ogRaiseError session 16 12 GB"),
        error(16, "ogRaiseError: Not enough space in local or remote cache \"12 GB\"")
    );
    assert!(pc.log("tmp/session.log").contains("\"12 GB\""));
    assert_eq!(pc.refused("ogRaiseError 99"), error(40, "ogRaiseError: Undefined unknown error"));
    assert_eq!(pc.refused("ogRaiseError").0, Some(1));
}

/// A PC with an ext4 file system of 48 MiB in its first partition, a smaller second one, and a cache.
fn lab_pc(script: &str) -> Pc {
    let pc = Pc::with_disk(160, script);
    let tree = pc.lab.make_dir("tree");
    fs::write(tree.join("file"), vec![7; 3_000_000]).expect("write a file");
    let (first, cache) = (pc.partition(1), pc.partition(4));
    let (first, cache, tree) = (first.display(), cache.display(), tree.display());
    sh(&format!("mkfs.ext4 -q -F -d {tree} {first}; mkfs.ext4 -q -F -L CACHE {cache}"));
    pc
}

const MBR: &str = "label: dos\nsize=48M, type=83\nsize=16M, type=83\nsize=48M, type=83\ntype=ca\n";
const GPT: &str = "label: gpt\nsize=48M\nsize=16M\nsize=48M\nname=CACHE\n";

#[test]
fn a_partition_goes_to_the_repository_and_to_the_cache_and_back() {
    if !tools(&["losetup", "sfdisk", "mkfs.ext4"]) {
        return;
    }
    for script in [MBR, GPT] {
        let pc = lab_pc(script);
        assert_eq!(pc.told("ogFindCache"), "1 4");
        assert_eq!(pc.told("ogGetFsType 1 1"), "EXT4");
        assert_eq!(pc.told("ogGetFsType 1 4"), "CACHE");
        assert_eq!(pc.told("ogMountCache"), "/opt/opengnsys/cache");
        assert!(pc.told("ogGetSizeParameters 1 1 CACHE win").ends_with(" TRUE"), "its directory is not made yet");
        fs::create_dir_all(pc.cached("")).expect("make the cache's images");
        let sizes = pc.told("ogGetSizeParameters 1 1 REPO win");
        assert!(sizes.ends_with(" TRUE") && sizes.split(' ').count() == 4, "{sizes}");
        for place in ["REPO", "CACHE"] {
            let saved = pc.run(&format!("ogCreateImage 1 1 {place} /win"));
            assert_eq!(saved.status.code(), Some(0), "{}", text(&saved.stderr));
            assert!(text(&saved.stdout).starts_with("Total Time: 00:00:"), "{}", text(&saved.stdout));
            let info = format!("PARTCLONE:LZOP:EXTFS:{}", 48 << 10);
            let path = if place == "REPO" { pc.images("win.img") } else { pc.cached("win.img") };
            assert_eq!(pc.told(&format!("ogGetImageInfo {}", path.display())), info);
            let kept = fs::read_to_string(path.with_extension("img.info")).expect("read the image's .info");
            assert!(kept.starts_with(&format!("{info}:")), "{kept}");
            assert!(!path.with_extension("img.lock").exists());
            for (field, value) in
                [("Program", "PARTCLONE"), ("Compressor", "LZOP"), ("Type", "EXTFS"), ("Size", "49152")]
            {
                assert_eq!(pc.told(&format!("ogGetImage{field} {place} /WIN")), value);
            }
            sh(&format!("dd if=/dev/zero of={} bs=1M count=8 conv=fsync status=none", pc.partition(3).display()));
            let restored = pc.run(&format!("ogRestoreImage {place} /win 1 3"));
            assert_eq!(restored.status.code(), Some(0), "{}", text(&restored.stderr));
            sh(&format!("e2fsck -fn {}", pc.partition(3).display()));
            let file = run(std::process::Command::new("debugfs")
                .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
                .args(["-R", "cat /file"])
                .arg(pc.partition(3)));
            assert!(file.stdout == vec![7; 3_000_000], "the restored file differs");
        }
        assert_eq!(pc.told("ogUnmountCache"), "");
    }
}

#[test]
fn what_would_do_harm_is_refused_with_its_code_and_leaves_nothing() {
    if !tools(&["losetup", "sfdisk", "mkfs.ext4"]) {
        return;
    }
    let pc = lab_pc(MBR);
    assert_eq!(pc.run("ogCreateImage 1 1 REPO /win").status.code(), Some(0));
    let before = fs::read(pc.images("win.img")).expect("read the image");
    for (line, code) in [
        ("ogRestoreImage REPO /win 1 2", 30),
        ("ogRestoreImage REPO /none 1 3", 2),
        ("ogRestoreImage REPO /win 1 9", 2),
        ("ogRestoreImage SERVER /win 1 3", 1),
        ("ogRestoreImage REPO /win 1", 1),
        ("ogCreateImage 1 9 REPO /win", 2),
        ("ogCreateImage 1 1 REPO /none/win", 2),
        ("ogCreateImage 1 1 REPO /win partclone arj", 5),
        ("ogCreateImage 1 1 REPO", 1),
    ] {
        let (told, why) = pc.refused(line);
        assert_eq!(told, Some(code), "{line}: {why}");
    }
    // In use by another command, and by another PC.
    fs::write(pc.lab.path("var/lock/lock-dev-sda1"), "").expect("lock a partition");
    assert_eq!(pc.refused("ogCreateImage 1 1 REPO /other").0, Some(4));
    fs::remove_file(pc.lab.path("var/lock/lock-dev-sda1")).expect("unlock a partition");
    pc.told("ogLockImage REPO /win.img");
    assert_eq!(pc.refused("ogCreateImage 1 1 REPO /win").0, Some(4));
    assert_eq!(pc.refused("ogRestoreImage REPO /win 1 3").0, Some(4));
    pc.told("ogUnlockImage REPO /win.img");
    // Damaged.
    let mut damaged = before.clone();
    damaged.truncate(before.len() / 2);
    fs::write(pc.images("cut.img"), damaged).expect("write half an image");
    fs::write(pc.images("none.img"), "no image").expect("write no image");
    assert_eq!(pc.refused("ogRestoreImage REPO /cut 1 3").0, Some(5));
    assert_eq!(pc.refused("ogRestoreImage REPO /none 1 3").0, Some(5));
    assert_eq!(fs::read(pc.images("win.img")).expect("read the image"), before);
    let mut left: Vec<_> =
        fs::read_dir(pc.images("")).expect("list the images").map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["aula1", "cut.img", "none.img", "win.img", "win.img.info"]);
    assert_eq!(fs::read_dir(pc.lab.path("var/lock")).expect("list the locks").count(), 0);
}

#[test]
fn the_caches_image_is_brought_anew_when_it_is_another() {
    let pc = Pc::new().with_cache();
    let ask = |protocol: &str| {
        let output = pc.run(&format!("ogUpdateCacheIsNecesary REPO /x.img {protocol}"));
        (output.status.code(), text(&output.stdout).lines().last().unwrap_or_default().to_owned())
    };
    assert_eq!(pc.refused("ogUpdateCacheIsNecesary REPO /x.img").0, Some(2));
    assert_eq!(pc.refused("ogUpdateCacheIsNecesary CACHE /x.img").0, Some(2));
    assert_eq!(pc.refused("ogUpdateCacheIsNecesary REPO").0, Some(1));
    fs::write(pc.images("x.img"), "image").expect("make an image");
    fs::write(pc.cached("x.img.full.sum"), "left behind").expect("leave a checksum");
    assert_eq!(ask("TORRENT").0, Some(0));
    assert!(!pc.cached("x.img.full.sum").exists(), "checksums of nothing go");
    fs::write(pc.cached("x.img"), "image").expect("make a copy");
    let same = "FALSE (1), No es neceario actualizar. Paso5.A la imagen esta en cache".to_owned();
    for protocol in ["TORRENT", "full", "UNICAST", ""] {
        assert_eq!(ask(protocol), (Some(1), same.clone()), "{protocol}");
    }
    fs::write(pc.cached("x.img.torrent.bf"), "").expect("interrupt a download");
    assert!(ask("TORRENT").1.contains("Paso 2"));
    fs::remove_file(pc.cached("x.img.torrent.bf")).expect("finish it");
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(pc.images("x.img"), "other").expect("renew the image");
    assert_eq!(ask("UNICAST"), (Some(0), "TRUE (0), Si es necesario actualizar.".to_owned()));
    assert_eq!(fs::read_dir(pc.cached("")).expect("list the cache").count(), 0, "the old one is gone");
    assert_eq!(Pc::new().refused("ogUpdateCacheIsNecesary REPO /x.img").0, Some(15));
    // A new image that ends like the old one.
    let image = |first: u8| [vec![first], vec![0; 1 << 20]].concat();
    fs::write(pc.images("x.img"), image(1)).expect("make an image");
    assert_eq!(pc.run("updateCache REPO /x.img UNICAST").status.code(), Some(0));
    fs::write(pc.images("x.img"), image(2)).expect("renew the image");
    let sum = text(&run(Command::new("md5sum").arg(pc.images("x.img"))).stdout);
    fs::write(pc.images("x.img.full.sum"), sum).expect("keep its checksum");
    assert_eq!(pc.run("updateCache REPO /x.img UNICAST").status.code(), Some(0));
    assert_eq!(fs::read(pc.cached("x.img")).expect("read the copy")[0], 2);
    assert_eq!(ask("UNICAST"), (Some(1), same));
}

#[test]
fn command_lines_are_those_that_opengnsys_prints() {
    let pc = Pc::new();
    let bin = pc.lab.make_dir("bin");
    let told = |line: &str| text(&pc.command(line).env("PATH", &bin).output().expect("run an applet").stdout);
    fs::write(pc.images("x.img"), "").expect("make an image");
    assert_eq!(
        told("ogCreateImageSyntax /dev/sda1 /x.img partclone lzop"),
        "ogbox image save --force -c none /dev/sda1 | lzop > /x.img\n"
    );
    for program in ["mbuffer", "partclone.imager", "partclone.restore"] {
        fs::write(bin.join(program), "").expect("make a program");
    }
    assert_eq!(
        told("ogCreateImageSyntax /dev/sda1 /x.img partclone lzop"),
        "partclone.imager -d0 -F -c -s /dev/sda1 | mbuffer -q -m 40M  | lzop > /x.img\n"
    );
    assert_eq!(
        told("ogCreateImageSyntax /dev/sda1 /x.img ntfsclone 0"),
        "ntfsclone --force --save-image -O - /dev/sda1 | mbuffer -q -m 40M  > /x.img\n"
    );
    assert_eq!(
        told("ogRestoreImageSyntax /opt/opengnsys/images/x.img /dev/sda1 PARTCLONE GZIP"),
        "gzip -dc /opt/opengnsys/images/x.img | mbuffer -q -m 40M  | partclone.restore -d0 -C -I -o /dev/sda1\n"
    );
    // A name with blanks stays one word of the command line.
    fs::write(pc.images("x y.img"), "").expect("make an image");
    let name = "/opt/opengnsys/images/x y.img";
    for (applet, words, end) in [
        ("ogCreateImageSyntax", ["/dev/sda1", name], "| gzip -c > '/opt/opengnsys/images/x y.img'\n"),
        ("ogRestoreImageSyntax", [name, "/dev/sda1"], "-o /dev/sda1\n"),
    ] {
        let mut command = pc.command(applet);
        let output = command.args(words).args(["partclone", "gzip"]).env("PATH", &bin).output().expect("run an applet");
        let line = text(&output.stdout);
        assert!(line.ends_with(end) && line.contains("'/opt/opengnsys/images/x y.img'"), "{line}");
    }
    assert_eq!(pc.refused("ogRestoreImageSyntax /opt/opengnsys/images/x.img /dev/sda1 partclone arj").0, Some(2));
    assert_eq!(pc.refused("ogRestoreImageSyntax /opt/opengnsys/images/y.img /dev/sda1").0, Some(2));
    assert_eq!(pc.refused("ogCreateImageSyntax /dev/sda1 /x.img partclone").0, Some(1));
}

#[test]
fn the_overlay_replaces_the_functions_that_a_lab_exports() {
    let pc = Pc::new();
    fs::write(pc.images("Win.img"), "").expect("make an image");
    let bin = pc.lab.make_dir("bin");
    std::os::unix::fs::symlink(crate::support::binary(), bin.join("ogbox")).expect("link ogbox");
    // As in loadenviron.sh: libraries, export, overlay; then a script that inherits the functions.
    let script = pc.lab.path("script");
    fs::write(&script, "ogGetPath REPO '/win.img'\nogFormat 1 1\nogGetFsType 1 || echo code $?\n")
        .expect("write a script");
    let overlay = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/opengnsys/Engine.ogbox");
    let session = format!(
        "ogGetPath () {{ echo lib; }}; ogFormat () {{ echo \"lib $*\"; }}; export -f ogGetPath ogFormat; \
         source {overlay}; exec bash {}",
        script.display()
    );
    let told = |path: &str| {
        let mut bash = Command::new("bash");
        bash.args(["-c", &session]).env("PATH", path).env("OGBOX_ROOT", pc.lab.path("")).env("LANG", "C");
        bash.output().expect("run bash")
    };
    let with = told(&format!("{}:/usr/bin:/bin", bin.display()));
    assert_eq!(text(&with.stdout), format!("{}\nlib 1 1\ncode 1\n", pc.images("Win.img").display()));
    assert!(text(&with.stderr).contains("ogGetFsType<-script: Wrong execution format"), "{}", text(&with.stderr));
    let without = told("/usr/bin:/bin");
    assert!(text(&without.stdout).starts_with("lib\nlib 1 1\n"));
    assert!(text(&without.stderr).contains("ogbox is not in PATH"), "{}", text(&without.stderr));
}

#[test]
fn a_file_goes_from_one_pc_to_others_also_by_mbuffer() {
    if !tools(&["mbuffer"]) {
        return;
    }
    let (sender, receiver) = (Pc::new(), Pc::new().with_cache());
    crate::support::write_payload(&sender.images("x.img"), 5, 1);
    let receive = |pc: &Pc, line: &str| pc.command(line).spawn().expect("start a receiver");
    let mut ours = receive(&receiver, "ogUcastReceiverFile 8004:127.0.0.1 CACHE /x.img");
    assert_eq!(sender.told("ogUcastSendFile REPO /x.img 8004:127.0.0.1"), "");
    assert!(ours.wait().expect("wait for the receiver").success());
    crate::support::assert_same_file(&sender.images("x.img"), &receiver.cached("x.img"));
    let theirs = receiver.cached("y.img");
    let mut mbuffer =
        Command::new("mbuffer").args(["-q", "-I", "127.0.0.1:8005", "-o"]).arg(&theirs).spawn().expect("start mbuffer");
    assert_eq!(sender.told("ogUcastSendFile /opt/opengnsys/images/x.img 8005:127.0.0.1"), "");
    assert!(mbuffer.wait().expect("wait for mbuffer").success());
    crate::support::assert_same_file(&sender.images("x.img"), &theirs);
    for (line, code) in [
        ("ogUcastSendFile REPO /x.img 9000:127.0.0.1", 50),
        ("ogUcastSendFile REPO /y.img 8004:127.0.0.1", 2),
        ("ogUcastSendFile REPO /x.img", 1),
        ("ogUcastReceiverFile 8004 REPO /x.img", 50),
        ("ogUcastReceiverFile 8004:127.0.0.1 CACHE /none/x.img", 15),
    ] {
        assert_eq!(sender.refused(line).0, Some(code), "{line}");
    }
}
