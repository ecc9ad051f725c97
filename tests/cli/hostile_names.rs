//! Names that a shell or a program could take for more than names, in every command line that ogbox prints or runs: each
//! is one argument, exactly, and the file that it would make is never made.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::pc::Pc;
use crate::support::{Lab, applet, binary, run, text, tools};

/// Names of which a part would run or redirect, or be left out, several words, an option, a pattern. `P` is the file that
/// gives them away.
const NAMES: &[&str] = &[
    "a b",
    "a  b ",
    "a\tb\n",
    "a\ntouch P\n",
    "'; touch P; '",
    "\"; touch P; \"",
    "'\n; touch P; '",
    "$(touch P)",
    "'$(touch  P)'",
    "`touch P`",
    "a;touch P",
    "a&touch P&",
    "a|tee P",
    ">P",
    "-rf",
    "--file=P",
    "*",
    "?[a-z]",
    "~",
    "$HOME",
    "x\\",
    "#x",
    "{a,b}",
    "!!",
    "é ñ",
];

/// What `name` is where a program would take it for an option.
fn given(name: &str) -> String {
    if name.starts_with('-') { format!("./{name}") } else { name.to_owned() }
}

/// A directory of programs that do nothing but write down their arguments, and one to run lines in.
struct Stubs {
    lab: Lab,
    here: PathBuf,
}

impl Stubs {
    fn new(programs: &[&str]) -> Stubs {
        let lab = Lab::new();
        let here = lab.make_dir("here");
        lab.make_dir("said");
        let stubs = Stubs { lab, here };
        for program in programs {
            stubs.add(program, "");
        }
        // A pattern would find it.
        fs::write(stubs.here.join("xb"), "").expect("write a file");
        stubs
    }

    /// Adds a program that does `more`, too.
    fn add(&self, name: &str, more: &str) {
        let program = self.lab.make_dir("bin").join(name);
        let said = self.lab.path("said").join(name);
        let script = format!("#!/bin/sh\nprintf '%s\\0' \"$@\" >>'{}'\n{more}\n", said.display());
        fs::write(&program, script).expect("write a program");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("make it run");
    }

    /// Lets `command` find these programs, and no others that could be in their place.
    fn equip(&self, command: &mut Command) {
        command.env("PATH", self.lab.path("bin")).current_dir(&self.here);
        command.env("IPV4ADDR", "10.0.0.7").env_remove("LANG").env_remove("DEBUG");
    }

    /// The arguments of the program's calls since the last look.
    fn said(&self, program: &str) -> Vec<String> {
        let file = self.lab.path("said").join(program);
        let said = fs::read(&file).unwrap_or_default();
        let _ = fs::remove_file(&file);
        text(&said).split_terminator('\0').map(str::to_owned).collect()
    }

    /// Forgets all calls.
    fn forget(&self) {
        fs::remove_dir_all(self.lab.path("said")).expect("forget");
        self.lab.make_dir("said");
    }

    fn assert_untouched(&self, name: &str) {
        let names: Vec<_> = fs::read_dir(&self.here).expect("list").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["xb"], "{name}");
    }
}

const MULTICAST: &str = "9000:full-duplex:239.194.17.2:70M:20:120";
const UNICAST: &str = "8000:10.0.0.1";

/// A function that prints a command line for a name `N`, and the program that must have it as its argument.
const LINES: &[(&[&str], &str, &str)] = &[
    (&["ogMcastSyntax", "SENDFILE", MULTICAST, "N"], "udp-sender", "N"),
    (&["ogMcastSyntax", "RECEIVERFILE", "9000", "N"], "udp-receiver", "N"),
    (&["ogUcastSyntax", "SENDFILE", UNICAST, "N"], "mbuffer", "N"),
    (&["ogUcastSyntax", "RECEIVERFILE", UNICAST, "N"], "mbuffer", "N"),
    (&["ogMcastSyntax", "SENDPARTITION", MULTICAST, "N", "ntfsclone", "lzop"], "ntfsclone", "N"),
    (&["ogUcastSyntax", "SENDPARTITION", UNICAST, "N", "partimage", "gzip"], "partimage", "N"),
    (&["ogMcastSyntax", "RECEIVERPARTITION", "9000", "N", "dd", "lzop"], "dd", "of=N"),
    (&["ogUcastSyntax", "RECEIVERPARTITION", UNICAST, "N", "partclone", "none"], "partclone.restore", "N"),
    (&["ogCreateImageSyntax", "N", "x.img", "partclone", "zstd"], "partclone.dd", "N"),
    (&["ogRestoreImageSyntax", "../x.img", "N", "ntfsclone", "gzip"], "ntfsclone", "N"),
    (&["ogRestoreImageSyntax", "N", "/dev/sda1", "ntfsclone", "gzip"], "gzip", "N"),
];

#[test]
fn a_printed_command_line_has_each_name_as_one_word() {
    if !tools(&["bash"]) {
        return;
    }
    let programs = ["udp-sender", "udp-receiver", "ntfsclone", "partimage", "dd", "partclone.restore", "partclone.dd"];
    let stubs = Stubs::new(&programs);
    for packer in ["mbuffer", "lzop", "gzip", "zstd", "cat"] {
        stubs.add(packer, "");
    }
    // The root of the tree is in the lines as well: the log of udpcast is below it.
    let root = stubs.lab.make_dir("it's the\n $(touch P) root");
    // Run as OpenGnsys' scripts do, and as others should.
    let script = "line=$(\"$@\") || exit; eval $line; eval \"$line\"";
    fs::write(stubs.lab.path("x.img"), "").expect("make an image");
    for name in NAMES {
        for (words, program, argument) in LINES {
            stubs.forget();
            // An image must be there.
            if words[1] == "N" {
                fs::write(stubs.here.join(name), "").expect("make an image");
            }
            let words = words.iter().map(|word| if *word == "N" { name } else { word });
            let mut command = Command::new("/bin/bash");
            command.args(["-c", script, "bash"]).arg(binary()).args(words);
            stubs.equip(command.env("OGBOX_ROOT", &root));
            let output = run(&mut command);
            let mut said = stubs.said(program);
            // Printing the line of a receiver asks the program for what it can.
            said.retain(|word| word != "--help");
            let (first, second) = said.split_at(said.len() / 2);
            assert_eq!(first, second, "{name:?}: {}", text(&output.stderr));
            assert!(first.contains(&argument.replace('N', &given(name))), "{name:?}: {first:?}");
            if program.starts_with("udp-") {
                let log = root.join("tmp/mcast.log");
                assert!(first.contains(&log.display().to_string()), "{name:?}: {first:?}");
            }
            for made in [stubs.here.join("x.img"), stubs.here.join(name)] {
                let _ = fs::remove_file(made);
            }
            stubs.assert_untouched(name);
        }
    }
}

#[test]
fn an_image_of_any_name_is_made_and_restored_by_the_programs_of_others() {
    if !tools(&["bash"]) {
        return;
    }
    let stubs = Stubs::new(&["gzip", "configureOsCustom"]);
    // What it makes is an image of ntfsclone of a volume of no bytes, which `lzop` does not compress.
    stubs.add("ntfsclone", "case $1 in --force) printf '\\0ntfsclone-image%0500d' 0 | /usr/bin/tr 0 '\\0' ;; *) /bin/cat >/dev/null ;; esac");
    stubs.add("lzop", "exec /bin/cat \"$@\"");
    stubs.add("cat", "exec /bin/cat \"$@\"");
    std::os::unix::fs::symlink("/bin/bash", stubs.lab.path("bin").join("bash")).expect("link bash");
    let pc = Pc::new().with_cache();
    let og = |words: &[&str]| -> Output {
        let mut command = applet(words[0]);
        command.args(&words[1..]).env("OGBOX_ROOT", pc.lab.path(""));
        stubs.equip(&mut command);
        command.output().expect("run an applet")
    };
    let device = pc.lab.path("dev/sda1").display().to_string();
    for name in NAMES {
        let done = og(&["ogCreateImage", "1", "1", "CACHE", name, "ntfsclone", "lzop"]);
        assert!(done.status.success(), "{name:?}: {}", text(&done.stderr));
        assert_eq!(stubs.said("ntfsclone"), ["--force", "--save-image", "-O", "-", &device], "{name:?}");
        let image = pc.cached(&format!("{name}.img"));
        assert!(image.is_file(), "{name:?}");
        let done = og(&["deployImage", "CACHE", name, "1", "1"]);
        assert!(done.status.success(), "{name:?}: {}", text(&done.stderr));
        assert_eq!(stubs.said("ntfsclone"), ["--restore-image", "--overwrite", &device, "-"], "{name:?}");
        assert_eq!(stubs.said("cat"), [image.display().to_string()], "{name:?}");
        assert_eq!(stubs.said("configureOsCustom"), ["1", "1", "CACHE", name]);
        stubs.assert_untouched(name);
    }
}

#[test]
fn a_name_that_begins_with_a_dash_is_no_option_of_the_program_that_is_given_it() {
    let stubs = Stubs::new(&["partimage"]);
    stubs.add("bzip2", "exec /bin/cat -- \"$2\"");
    let write = |name: &str, bytes: &[u8]| fs::write(stubs.lab.path(name), bytes).expect("write a file");
    write("--keep", &[b"BZh9".as_slice(), &[0; 600]].concat());
    write("-of", b"");
    write("x.img", b"PaRtImAgE-VoLuMe\0");
    let there = |words: &[&str]| {
        let mut command = Command::new(binary());
        command.args(words);
        stubs.equip(&mut command);
        command.current_dir(stubs.lab.path("")).output().expect("run an applet")
    };
    there(&["ogGetImageInfo", "--keep"]);
    assert_eq!(stubs.said("bzip2"), ["-dc", "./--keep"].repeat(2));
    let done = there(&["image", "restore", "--progress", "none", "x.img", "--", "-of"]);
    let said = stubs.said("partimage");
    assert_eq!(said, ["-f3", "-B", "gui=no", "restore", "./-of", "stdin"], "{}", text(&done.stderr));
    // A repository of the kernel's command line: no name of a host, so that nmap is not asked about it.
    stubs.add("nmap", "echo open");
    let asked = |server: &str| {
        let mut command = Command::new("timeout");
        command.arg("2").arg(binary()).args(["ogMcastRequest", "/x.img", MULTICAST]);
        let path = format!("{}:/usr/bin:/bin", stubs.lab.path("bin").display());
        command.env("PATH", path).env("ogrepo", server).output().expect("run an applet");
        stubs.said("nmap")
    };
    assert_eq!(asked("-oN..P"), [""; 0]);
    assert_eq!(asked("127.0.0.1"), ["-n", "-sU", "-p", "9001", "127.0.0.1"]);
}

/// A script of the initramfs with its absolute paths below `root`.
fn moved(root: &Path, script: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("initramfs/root").join(script);
    let mut script = fs::read_to_string(script).expect("read a script");
    for path in ["/tmp/", "/run/", "/etc/", "/proc/sys/", "/sys/class/net/"] {
        script = script.replace(path, &format!("{}{path}", root.display()));
    }
    script
}

#[test]
fn what_dhcp_and_the_command_line_name_is_no_command_of_the_booting_pc() {
    let stubs = Stubs::new(&["ifconfig", "route", "ip"]);
    stubs.add("touchP", "/usr/bin/touch P");
    let root = stubs.lab.make_dir("root");
    for dir in ["tmp", "run", "etc", "proc/sys/kernel", "sys/class/net/eth0/device"] {
        fs::create_dir_all(root.join(dir)).expect("make a directory");
    }
    for (file, holds) in [("carrier", "1\n"), ("address", "52:54:00:00:00:01\n")] {
        fs::write(root.join("sys/class/net/eth0").join(file), holds).expect("write a file");
    }
    let dhcp = stubs.lab.path("udhcpc.script");
    fs::write(&dhcp, moved(&root, "etc/udhcpc.script")).expect("write a script");
    stubs.add("udhcpc", &format!("export ip=10.0.0.9; exec sh {} bound", dhcp.display()));
    let functions = moved(&root, "bin/ogbox-functions");
    let configure =
        format!("{functions}\nconfigure_network || exit\nprintf '%s|%s|%s' \"$IPV4ADDR\" \"$ogrepo\" \"$HOSTNAME\"\n");
    let path = format!("{}:/usr/bin:/bin", stubs.lab.path("bin").display());
    let said = |variables: &[(&str, &str)]| {
        let mut command = Command::new("sh");
        command.args(["-c", &configure]).env_clear().env("PATH", &path).current_dir(&stubs.here);
        command.envs(variables.iter().copied());
        let output = run(&mut command);
        stubs.assert_untouched(&format!("{variables:?}"));
        text(&output.stdout)
    };
    let offer = |name| {
        let interface = [("interface", "eth0"), ("ip", "dhcp"), ("siaddr", "10.0.0.1"), ("hostname", name)];
        said(&[&interface[..], &[("ntpsrv", "10.0.0.2 10.0.0.3")]].concat())
    };
    assert_eq!(offer("pc-1.lab_2"), "10.0.0.9|10.0.0.1|pc-1.lab_2");
    assert_eq!(offer(""), "10.0.0.9|10.0.0.1|pc-10-0-0-9");
    for odd in ["x'\ntouchP\n'", "x';touchP;'", "$(touchP)", "`touchP`", "-n", "x y\n\n"] {
        let said = offer(odd);
        let (_, name) = said.rsplit_once('|').expect("three words");
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)), "{odd:?}: {said}");
    }
    let named = |name| said(&[("ip", &format!("10.0.0.7:10.0.0.1::255.0.0.0:{name}:eth0:none"))]);
    assert_eq!(named("pc7"), "10.0.0.7|10.0.0.1|pc7");
    for odd in ["$(touchP)", "-n", "';touchP;'", "x y", "<b>"] {
        assert_eq!(named(odd), "10.0.0.7|10.0.0.1|pc-10-0-0-7", "{odd:?}");
    }
    let hosts = fs::read_to_string(root.join("etc/hosts")).expect("read the names");
    assert_eq!(hosts, "127.0.0.1 localhost\n10.0.0.7 pc-10-0-0-7\n");
}
