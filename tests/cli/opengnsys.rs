//! The functions of OpenGnsys' engine as commands, in a tree of files that stands for a lab PC's (OGBOX_ROOT).

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::support::{Lab, applet, text};

/// A PC: repository, cache directory, logs, and two disks that are files.
struct Pc {
    lab: Lab,
}

impl Pc {
    fn new() -> Pc {
        let lab = Lab::new();
        for dir in ["opt/opengnsys/images/aula1", "opt/opengnsys/log", "opt/opengnsys/etc", "tmp", "dev", "proc"] {
            lab.make_dir(dir);
        }
        lab.make_dir("var/lock");
        let list = "major minor  #blocks  name\n\n 259 0 1 nvme0n1\n 259 1 1 nvme0n1p1\n   8 0 1 sda\n   8 1 1 sda1\n";
        fs::write(lab.path("proc/partitions"), list).expect("write the list of partitions");
        for name in ["sda", "sda1", "nvme0n1", "nvme0n1p1"] {
            fs::write(lab.path("dev").join(name), "").expect("make a device");
        }
        Pc { lab }
    }

    fn with_cache(self) -> Pc {
        self.lab.make_dir("opt/opengnsys/cache/opt/opengnsys/images");
        self
    }

    fn images(&self, name: &str) -> PathBuf {
        self.lab.path("opt/opengnsys/images").join(name)
    }

    fn cached(&self, name: &str) -> PathBuf {
        self.lab.path("opt/opengnsys/cache/opt/opengnsys/images").join(name)
    }

    /// `NAME WORD…` as scripts write it, ready to be run on this PC.
    fn command(&self, line: &str) -> Command {
        let mut words = line.split(' ');
        let mut command = applet(words.next().unwrap_or_default());
        command.args(words).env("OGBOX_ROOT", self.lab.path("")).env("IPV4ADDR", "10.0.0.7");
        command.env_remove("LANG").env_remove("DEBUG");
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().expect("run an applet")
    }

    /// Runs what should print one line, below this PC's root, and say nothing else.
    fn told(&self, line: &str) -> String {
        let output = self.run(line);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{line}");
        text(&output.stdout).trim_end().replace(self.lab.path("").to_str().expect("a path in UTF-8"), "/")
    }

    /// The exit code, and the line on standard error without the time in it.
    fn refused(&self, line: &str) -> (Option<i32>, String) {
        refusal(&self.run(line))
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.lab.path(name)).unwrap_or_default()
    }
}

fn refusal(output: &Output) -> (Option<i32>, String) {
    let line = text(&output.stderr);
    let Some(rest) = line.strip_prefix("OpenGnsys error: ") else { return (output.status.code(), line) };
    // After date and time.
    (output.status.code(), rest.splitn(3, ' ').nth(2).unwrap_or_default().trim_end().to_owned())
}

fn error(code: i32, line: &str) -> (Option<i32>, String) {
    (Some(code), line.to_owned())
}

/// All functions: those of the applets whose names begin as theirs do.
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
    // A word too many or too few is a no.
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
