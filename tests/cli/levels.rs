//! Levels of compression: `ogbox image -c NAME:LEVEL`, and what lzop says of levels that it does not have.

use std::fs;
use std::path::Path;

use crate::support::{Lab, applet, binary, run, text};

/// A source of 3 MiB: the binary under test, which longer searches shrink further as they do an installed system's files.
fn source(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(binary()).expect("read the binary");
    bytes.truncate(3 << 20);
    fs::write(path, &bytes).expect("write a source");
    bytes
}

#[test]
fn images_of_each_level_are_restored_and_higher_levels_are_smaller() {
    let lab = Lab::new();
    let (from, back) = (lab.path("source"), lab.path("back"));
    let bytes = source(&from);
    let mut sizes = Vec::new();
    for word in ["zstd:1", "zstd:3", "zstd:9", "zstd:19", "gzip:1", "gzip:9"] {
        let image = lab.path(word);
        run(applet("image").args(["save", "-c", word, "--progress", "none", "-o"]).args([&image, &from]));
        sizes.push(fs::metadata(&image).expect("look at the image").len());
        run(applet("image").args(["restore", "--progress", "none"]).args([&image, &back]));
        assert!(fs::read(&back).expect("read what was restored") == bytes, "{word}");
        fs::remove_file(&back).expect("remove what was restored");
    }
    assert!(sizes[..4].is_sorted_by(|lower, higher| lower > higher), "{sizes:?}");
    assert!(sizes[4] > sizes[5], "{sizes:?}");
    let converted = lab.path("converted");
    run(applet("image")
        .args(["convert", "-c", "zstd:19", "--progress", "none", "-o"])
        .args([&converted, &lab.path("gzip:1")]));
    assert!(fs::read(&converted).expect("read it") == fs::read(lab.path("zstd:19")).expect("read it"));
}

#[test]
fn a_level_that_there_is_none_of_is_refused_and_nothing_written() {
    let lab = Lab::new();
    source(&lab.path("source"));
    for (word, why) in [
        ("zstd:20", "level 20 of compression zstd is none of 1 to 19"),
        ("zstd:0", "level 0 of compression zstd is none of 1 to 19"),
        ("gzip:10", "level 10 of compression gzip is none of 1 to 9"),
        ("lzop:9", "compression lzop has no levels, so none is 9"),
        ("brotli:9", "compression brotli is none of lzop, gzip, zstd, lz4, none"),
    ] {
        for job in ["save", "convert"] {
            let words = [job, "-c", word, "-o"];
            let output = applet("image").args(words).args([lab.path("image"), lab.path("source")]).output();
            let output = output.expect("run image");
            assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), format!("image: {why}\n")), "{word}");
            assert!(!lab.path("image").exists());
        }
    }
}

#[test]
fn lzop_notes_once_that_it_has_no_slow_levels_and_does_its_work() {
    let lab = Lab::new();
    source(&lab.path("a"));
    source(&lab.path("b"));
    let lzop = |words: &[&str]| {
        let output = applet("lzop").current_dir(lab.path("")).args(words).output().expect("run lzop");
        (output.status.code(), text(&output.stderr))
    };
    let note = |level: &str| format!("lzop: {level}: there are no slow levels here; this compresses as -3 does\n");
    assert_eq!(lzop(&["-9", "a", "b"]), (Some(0), note("-9")));
    assert_eq!(lzop(&["-f7", "a"]), (Some(0), note("-7")));
    assert_eq!(lzop(&["-f", "--best", "a"]), (Some(0), note("--best")));
    for quiet in [&["-f6", "a"][..], &["-qf9", "a"], &["-t9", "a.lzo"], &["-df9", "a.lzo"]] {
        assert_eq!(lzop(quiet), (Some(0), String::new()), "{quiet:?}");
    }
}
