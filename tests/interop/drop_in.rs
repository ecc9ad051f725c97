//! The names that scripts call: the same command lines and cases, run by partclone's and lzop's own programs and by
//! links to ogbox that precede them in the PATH.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::imaging::{assert_holds, fails, make, path, sh, works};
use crate::support::{binary, text, tools};

/// A directory, an ext4 file system in it and the tree that it holds, and a directory of links to ogbox.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Option<Place> {
        if !tools(&["partclone.extfs", "lzop", "mkfs.ext4", "debugfs"]) {
            return None;
        }
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("links")).unwrap();
        sh(&format!("{} --install -s {}/links", path(binary()), path(dir.path())));
        make(dir.path(), "64M", "");
        Some(Place { dir })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Exit code, standard output and standard error of a script that runs beside the file system.
    fn run(&self, ours: bool, script: &str) -> (Option<i32>, String, String) {
        let links = if ours { "links:" } else { "" };
        let output = Command::new("bash")
            .args(["-o", "pipefail", "-c", &format!("PATH={links}$PATH; {script}")])
            .current_dir(self.dir.path())
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// Asserts that both give the same, and returns it.
    fn same(&self, script: &str) -> (Option<i32>, String) {
        let (theirs, ours) = (self.run(false, script), self.run(true, script));
        assert_eq!((ours.0, &ours.1), (theirs.0, &theirs.1), "{script}\n{}", ours.2);
        (ours.0, ours.1)
    }
}

/// The output without the progress that changes from moment to moment.
fn lasting(said: &str) -> Vec<String> {
    let moments = ["Elapsed: ", "Total Time: ", "current block: "];
    said.split(['\r', '\n'])
        .map(str::trim_end)
        .filter(|line| !line.is_empty() && !moments.iter().any(|moment| line.starts_with(moment)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn opengnsys_pipelines_run_unchanged_and_say_the_same() {
    let Some(place) = Place::new() else { return };
    let save = "partclone.extfs -d0 -F -c -s fs | lzop > X.img";
    let restore = "rm -f back; truncate -s 64M back; lzop -dc X.img | partclone.restore -d0 -C -I -O back";
    let (mut said, mut restored) = (Vec::new(), Vec::new());
    for (saved_by_us, restored_by_us) in [(false, true), (true, false), (true, true), (false, false)] {
        let (code, _, error) = place.run(saved_by_us, save);
        assert_eq!(code, Some(0), "{error}");
        said.push(lasting(&error));
        let (code, _, error) = place.run(restored_by_us, restore);
        assert_eq!(code, Some(0), "{error}");
        restored.push(lasting(&error));
        assert_holds(&place.at("back"), &place.at("tree"));
    }
    assert!(said[0].iter().any(|line| line == "Cloned successfully."), "{said:?}");
    assert!(said.iter().all(|lines| *lines == said[0]), "{said:?}");
    assert!(restored.iter().all(|lines| *lines == restored[0]), "{restored:?}");
    let progress = place.run(true, save).2;
    assert!(progress.contains("Completed: 100.00%, Rate: ") && progress.contains(", 100.00% completed!"), "{progress}");
}

#[test]
fn what_partclone_info_says_is_read_by_opengnsys_as_ever() {
    let Some(place) = Place::new() else { return };
    place.run(false, "partclone.extfs -c -s fs -o image -L log");
    // Like OpenGnsys, from the first 40 lines only, which the map of used blocks may exceed.
    for script in [
        "partclone.info image 2>&1",
        "partclone.info -s image 2>&1",
        "partclone.info -s - < image 2>&1",
        "head -n 40 image > head; partclone.info head 2>&1",
    ] {
        let (code, said) = place.same(script);
        assert!(code == Some(0) && said.contains("\nimage format:    0002\n"), "{said}");
        let words: Vec<&str> = said.split_whitespace().collect();
        let after = |word| words[words.iter().position(|found| *found == word).unwrap() + 1];
        assert_eq!((after("system:"), after("size:")), ("EXTFS", "67.1"));
    }
    // For an image that is cut within the map, partclone prints nothing.
    assert_eq!(
        place.run(true, "head -c 200 image | partclone.info -s -"),
        place.run(true, "partclone.info -s - < image")
    );
    for script in ["partclone.info -s fs", "partclone.info -s nowhere", "head -c 60 image | partclone.info -s -"] {
        assert_eq!(place.same(script).0, Some(1));
    }
}

#[test]
fn partclone_s_names_end_as_partclone_does() {
    let Some(place) = Place::new() else { return };
    place.run(false, "partclone.extfs -c -s fs -o image -L log; mkfs.fat -C fat 4000; cp fs dirty");
    sh(&format!("debugfs -w -R 'set_super_value state 0' {}", place.at("dirty").display()));
    let mut bytes = fs::read(place.at("image")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(place.at("bad"), &bytes).unwrap();
    fs::write(place.at("cut"), &bytes[..middle]).unwrap();
    for (script, code) in [
        ("partclone.chkimg -s image -L log", 0),
        ("partclone.chkimg -s bad -L log", 1),
        ("partclone.chkimg -s cut -L log", 1),
        ("partclone.restore -C -s bad -O back -L log", 1),
        ("partclone.restore -C -I -s bad -O back -L log", 1),
        ("partclone.restore -C -i -s bad -O back -L log", 0),
        ("partclone.restore -C -s cut -O back -L log", 1),
        (": > there; partclone.restore -s image -o there -L log", 1),
        ("truncate -s 20M small; partclone.restore -s image -O small -L log; r=$?; rm small; exit $r", 1),
        ("partclone.extfs -c -s nowhere -O out -L log", 1),
        ("partclone.extfs -c -s fat -O out -L log", 1),
        ("partclone.extfs -c -s dirty -O out -L log", 1),
        ("partclone.extfs -c -F -s dirty -O out -L log", 0),
        ("partclone.extfs -c -I -s dirty -O out -L log", 0),
        ("partclone.ext4 -c -a0 -s fs -O - -L log | cksum", 0),
        ("rm -f out; partclone.dd -s fs -o out -L log; r=$?; cmp fs out && exit $r", 0),
        ("truncate -s 64M copy; partclone.ext3 -b -s fs -O copy -L log; r=$?; e2fsck -fn copy > log && exit $r", 0),
        ("partclone.imager -c -s fs -O out -L log; r=$?; partclone.info -s out 2>&1 | grep -v with && exit $r", 0),
        ("partclone.restore --help 2>&1 | grep -q -- -C", 0),
        ("partclone.ext2 --help 2>&1 | grep -q -- -c", 0),
    ] {
        let script =
            if script.contains("cksum") { script.replace("cksum", "tail -c +200 | cksum") } else { script.into() };
        assert_eq!(place.same(&script).0, Some(code), "{script}");
    }
    let (_, _, said) = place.run(true, "partclone.restore -C -i -s bad -O back");
    assert!(said.contains("checksums are not verified (-i)"), "{said}");
}

#[test]
fn lzop_does_what_lzop_does() {
    let Some(place) = Place::new() else { return };
    let cases = "
        exec 2>&1 < /dev/null; mkdir lzop; cd lzop; PATH=../$PATH
        t() { echo \"$*\"; \"$@\" 2>&1 | sed 's/ (os error .*//'; echo \"exit code $?\"; }
        cp ../tree/few/'file 0' a; touch -d '2020-01-02 03:04:05' a; chmod 640 a; echo garbage > garbage.lzo; mkdir d
        t lzop a; t lzop a; t lzop -f a; t lzop -q a; t lzop -vf a; t lzop a.lzo; stat -c '%n %a %Y' a a.lzo
        t lzop -t a.lzo; t lzop -tv a.lzo; t lzop -t garbage.lzo; t lzop -t nowhere; t lzop d; t lzop nowhere
        t lzop -d a.lzo; t lzop -df a.lzo; t lzop -dvf a.lzo; t lzop -d garbage.lzo; t lzop -dc < garbage.lzo
        cp a.lzo a.xyz; t lzop -d a.xyz; t lzop -U a; t lzop -dU a.lzo; t lzop -1 -o b.lzo a; t lzop -fdN b.lzo; ls
        lzop -q9c a | lzop -dc | cmp - a; lzop -3 < a | lzop -d | cmp - a; lzop -dc b.lzo a.lzo | cksum
        head -c 200 b.lzo > cut.lzo; lzop -t cut.lzo > log 2>&1; echo $?; lzop -dc cut.lzo > log 2>&1; echo $?
        t lzop -Uf a; ls; t lzop -Ud a.lzo; ls; stat -c '%n %a %Y' a; t lzop -S .zz a; t lzop -S zz -df a.zz
        cp a x.tar; lzop -S .tzo x.tar; mv x.tar.tzo x.tzo; rm x.tar; t lzop -d x.tzo; ls; cd ..; rm -r lzop";
    let (_, said) = place.same(cases);
    assert!(said.contains("lzop: a.lzo: already exists; not overwritten\nexit code 1\n"), "{said}");
    for (packed_by_us, expanded_by_us) in [(true, false), (false, true)] {
        place.run(packed_by_us, "cat tree/*/* | lzop > all.lzo");
        place.run(expanded_by_us, "lzop -t all.lzo && lzop -l all.lzo && lzop -dc < all.lzo > all");
        assert_eq!(place.run(false, "cat tree/*/* | cmp - all"), (Some(0), String::new(), String::new()));
    }
    let listed = |ours| place.run(ours, "lzop -l all.lzo").1;
    assert_eq!(listed(true), listed(false));
}

#[test]
fn every_job_tells_its_progress_as_json_with_the_bytes_that_came_in_and_out() {
    let Some(place) = Place::new() else { return };
    // The job, and whether it counts an image that it reads, and one that it writes.
    let jobs = [
        ("ogbox image save fs -o a.img", false, true),
        ("ogbox image verify a.img", true, false),
        ("ogbox image convert -c zstd a.img -o b.img", true, true),
        ("ogbox image restore b.img back --verify", true, false),
        ("partclone.extfs -c -s fs -o c.img", false, true),
        ("partclone.chkimg -s c.img", true, false),
        ("partclone.restore -s c.img -o back.c", true, false),
        ("partclone.dd -s fs -o copy", false, false),
        ("lzop c.img", false, true),
        ("lzop -dc c.img.lzo > back.lzo", false, true),
        ("lzop -t c.img.lzo", false, false),
    ];
    for (job, taken, written) in jobs {
        let job = job.replace("ogbox", path(binary()));
        let (code, _, said) = place.run(true, &format!("{job} --progress json"));
        assert_eq!(code, Some(0), "{job}: {said}");
        let last = said.lines().rfind(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{job}: {said}"));
        let number = |name: &str| -> u64 {
            let (_, rest) = last.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{job}: {last}"));
            rest.split([',', '}']).next().unwrap().parse().unwrap()
        };
        assert!(last.ends_with("\"end\":true}") && number("done") == number("total"), "{job}: {last}");
        assert!(number("total") > 1 << 20, "{job}: {last}");
        assert_eq!((number("taken") > 1 << 19, number("written") > 1 << 19), (taken, written), "{job}: {last}");
    }
}

#[test]
fn unused_blocks_are_cleared_on_request_and_what_was_written_is_read_back() {
    let Some(place) = Place::new() else { return };
    let at = |name: &str| place.at(name);
    works(&["save", path(&at("fs")), "-o", path(&at("image"))]);
    for flag in ["--zero", "--discard"] {
        fs::write(at("back"), vec![0xaa; 64 << 20]).unwrap();
        works(&["restore", flag, "--verify", path(&at("image")), path(&at("back"))]);
        assert_holds(&at("back"), &at("tree"));
        // A restored sparse file, each byte of which is either the source's or zero.
        works(&["restore", path(&at("image")), path(&at("fresh"))]);
        assert!(fs::read(at("back")).unwrap() == fs::read(at("fresh")).unwrap(), "{flag}");
        let blocks = |name| std::os::unix::fs::MetadataExt::blocks(&fs::metadata(at(name)).unwrap());
        assert!(blocks("back") < blocks("fresh") + 2048, "{flag}");
        fs::remove_file(at("fresh")).unwrap();
    }
    fs::write(at("back"), vec![0xaa; 64 << 20]).unwrap();
    works(&["restore", "--verify", path(&at("image")), path(&at("back"))]);
    let kept = fs::read(at("back")).unwrap();
    assert!(kept.iter().filter(|byte| **byte == 0xaa).count() > 10 << 20, "unused blocks stay as they are");
}

#[test]
fn loop_devices_are_cleared_and_read_back() {
    let Some(place) = Place::new() else { return };
    if !tools(&["losetup"]) {
        return;
    }
    let at = |name: &str| place.at(name);
    works(&["save", path(&at("fs")), "-o", path(&at("image"))]);
    fs::write(at("disk"), vec![0xaa; 64 << 20]).unwrap();
    let device = text(&sh(&format!("losetup -f --show {}", at("disk").display())).stdout).trim().to_owned();
    let done: Vec<_> = ["--zero", "--discard"]
        .iter()
        .map(|flag| {
            place.run(
                true,
                &format!("image restore {flag} --verify --progress json image {device} && e2fsck -fn {device}"),
            )
        })
        .collect();
    sh(&format!("losetup -d {device}"));
    for (code, _, said) in done {
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("\"step\":\"restore\"") && said.contains("\"end\":true}"), "{said}");
    }
    assert_holds(&at("disk"), &at("tree"));
    let mut last = vec![1; 4096];
    fs::File::open(at("disk")).unwrap().read_exact_at(&mut last, (64 << 20) - 8192).unwrap();
    assert!(last.iter().all(|byte| *byte == 0));
}

#[test]
fn a_target_that_only_the_used_blocks_fit_on_is_taken_with_c() {
    let Some(place) = Place::new() else { return };
    let at = |name: &str| place.at(name);
    // The last used block of an ext4 file system with a single group and free space behind it.
    sh(&format!("truncate -s 20M {0}; mkfs.ext4 -q -F -O ^has_journal {0}", at("few").display()));
    works(&["save", path(&at("few")), "-o", path(&at("image"))]);
    sh(&format!("truncate -s 19M {}", at("small").display()));
    assert!(fails(&["restore", path(&at("image")), path(&at("small"))]).contains("nothing was written"));
    let (code, _, said) = place.run(true, "partclone.restore -C -s image -O small");
    assert_eq!(code, Some(0), "{said}");
    sh(&format!("truncate -s 1M {}", at("small").display()));
    let (code, _, said) = place.run(true, "partclone.restore -C -s image -O small");
    assert!(code == Some(1) && said.contains("nothing was written"), "{said}");
}
