//! Images into other formats, lists of images, and images of other programs.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use crate::imaging::{assert_holds, fails, make, noise, path, saved_by_partclone, sh, works};
use crate::support::{binary, text, tools};

#[test]
fn an_image_becomes_one_of_any_format_that_partclone_takes() {
    if !tools(&["partclone.extfs", "lzop", "mkfs.ext4", "debugfs"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let fs = make(dir.path(), "40M", "");
    saved_by_partclone("extfs", "-a1 -k7 -K", &fs, &at("theirs"));
    for (name, flags) in [
        ("one", "--format 1 -c none"),
        ("unsummed", "--checksum none -c gzip"),
        ("often", "--blocks-per-checksum 1 -c lzop"),
        ("usual", "-c none"),
    ] {
        // From partclone's image and from our last one, also through pipes.
        for from in [at("theirs"), at("one")].into_iter().filter(|from| *from != at(name)) {
            println!("{name} from {}", from.display());
            let (image, back) = (path(&at(name)).to_owned(), at("back"));
            works(&[&["convert", path(&from), "-o", &image], &flags.split(' ').collect::<Vec<_>>()[..]].concat());
            works(&["verify", &image]);
            let plain = if flags.ends_with("lzop") { "lzop -dc" } else { "gzip -dcf" };
            sh(&format!(
                "truncate -s 40M {1}; {plain} {0} | partclone.restore -C -s - -O {1} -L /dev/null",
                image,
                path(&back)
            ));
            assert_holds(&back, &at("tree"));
            fs::remove_file(&back).unwrap();
            works(&["restore", &image, path(&back)]);
            assert_holds(&back, &at("tree"));
            fs::remove_file(&back).unwrap();
        }
    }
    // Saving in that format directly gives the same.
    works(&["save", path(&fs), "--format", "1", "-c", "none", "-o", path(&at("saved"))]);
    assert!(fs::read(at("saved")).unwrap() == fs::read(at("one")).unwrap());
    works(&["save", path(&fs), "-c", "none", "-o", path(&at("saved"))]);
    let (saved, usual) = (fs::read(at("saved")).unwrap(), fs::read(at("usual")).unwrap());
    assert!(saved[110..] == usual[110..], "but for who made it, and the free count of version 1's superblock");
    let piped = sh(&format!("{0} image convert - -c none < {1} 2> /dev/null", path(binary()), path(&at("often"))));
    assert!(piped.stdout[110..] == usual[110..]);

    let error = fails(&["convert", path(&at("theirs")), "--format", "1", "--checksum", "none", "-o", path(&at("x"))]);
    assert!(error.contains("version 1 has checksums of its own"), "{error}");
}

#[test]
fn a_damaged_image_becomes_none_and_leaves_the_older_one() {
    if !tools(&["mkfs.ext4", "debugfs"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let fs = make(dir.path(), "40M", "");
    works(&["save", path(&fs), "-o", path(&at("image"))]);
    let whole = fs::read(at("image")).unwrap();
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("X.img"), "older").unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [&whole[..whole.len() / 2], &whole[..whole.len() - 1], &flipped, b"partclone-im", b""] {
        fs::write(at("damaged"), damaged).unwrap();
        let error = fails(&["convert", path(&at("damaged")), "-o", path(&out.join("X.img"))]);
        assert!(error.contains(": byte "), "{error}");
        assert_eq!(fs::read(out.join("X.img")).unwrap(), b"older");
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1, "nothing half done is left");
    }
}

#[test]
fn a_copy_byte_by_byte_becomes_an_image_of_what_is_not_zero() {
    if !tools(&["partclone.dd", "lzop", "partclone.restore"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let holes = |len| vec![0; len];
    for tail in [0, 512, 3 * 512] {
        let disk = [holes(1 << 20), noise(3_000_064, 1), holes(3 << 20), vec![7; 4096], holes((1 << 20) + 256 + tail)]
            .concat();
        assert_eq!(disk.len() % 512, 0);
        fs::write(at("disk"), &disk).unwrap();
        sh(&format!(
            "rm -f {1}; partclone.dd -s {0} -o {1} -L /dev/null; lzop -f {1} -o {1}.lzo",
            path(&at("disk")),
            path(&at("dd"))
        ));
        for from in ["dd", "dd.lzo"] {
            works(&["convert", "--raw", path(&at(from)), "-o", path(&at("image"))]);
            assert!(fs::metadata(at("image")).unwrap().len() < 3_200_000);
            works(&["restore", path(&at("image")), path(&at("back"))]);
            assert!(fs::read(at("back")).unwrap() == disk, "{from} {tail}");
            fs::remove_file(at("back")).unwrap();
            sh(&format!(
                "truncate -s {2} {1}; lzop -dc {0} | partclone.restore -C -s - -O {1} -L /dev/null",
                path(&at("image")),
                path(&at("back")),
                disk.len()
            ));
            assert!(fs::read(at("back")).unwrap() == disk, "{from} {tail}, by partclone");
            fs::remove_file(at("back")).unwrap();
        }
    }
    fs::write(at("odd"), noise(1000, 1)).unwrap();
    assert!(
        fails(&["convert", "--raw", path(&at("odd")), "-o", path(&at("x"))]).contains("no whole number of sectors")
    );
    assert!(!at("x").exists());
}

#[test]
fn ls_tells_what_images_a_directory_has() {
    if !tools(&["mkfs.ext4", "debugfs", "ntfsclone", "mkfs.ntfs", "lzop"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let fs = make(dir.path(), "40M", "");
    fs::create_dir_all(at("images/room")).unwrap();
    works(&["save", path(&fs), "-o", path(&at("images/A.img"))]);
    works(&["save", path(&fs), "-c", "gzip", "-o", path(&at("images/room/B.img"))]);
    sh(&format!(
        "cd {}; truncate -s 20M ntfs; mkfs.ntfs -q -F -f ntfs > log; ntfsclone -s -o - ntfs 2> log | lzop > images/C.img;
         cd images; touch A.img.torrent A.img.full.sum room/B.img.lock; head -c 1M /dev/urandom > D.img; echo text > notes.txt;
         cp ../ntfs disk.bin; cp ../ntfs E.dsk; touch -d '2024-02-03 04:05:06 UTC' *.img room/*.img",
        path(dir.path())
    ));
    let ls = |args: &str| {
        let script = format!("cd {}; TZ=UTC {} image ls {args}", path(&at("images")), path(binary()));
        text(&sh(&script).stdout)
    };
    let table: Vec<Vec<String>> = ls("")
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect())
        .collect();
    let row = |name: &str| table.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("{name} in {table:?}"));
    assert_eq!(table.len(), 6, "{table:?}");
    assert_eq!(row("A.img")[1..3], ["EXTFS", "41.9 MB"]);
    assert_eq!(row("A.img")[5..], ["lzop", "2024-02-03 04:05", "torrent full.sum idx"]);
    assert_eq!(row("room/B.img")[5..], ["gzip", "2024-02-03 04:05", "lock"]);
    assert_eq!(row("C.img")[1..3], ["ntfsclone", "21.0 MB"]);
    assert_eq!(row("D.img")[1], "*");
    assert_eq!(row("E.dsk")[1], "partclone.dd");
    let json = ls("--json A.img D.img");
    let lines: Vec<&str> = json.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].starts_with(
            "{\"name\":\"A.img\",\"program\":\"partclone\",\"fs\":\"EXTFS\",\"device_size\":41943040,\"used\":"
        ) && lines[0]
            .contains("\"compression\":\"lzop\",\"written\":1706933106,\"beside\":[\"torrent\",\"full.sum\",\"idx\"]"),
        "{json}"
    );
    assert!(lines[1].contains("\"error\":\"") && lines[1].contains("not a partclone image"), "{json}");
}

#[test]
fn an_image_of_another_program_is_handed_to_it_or_names_it() {
    if !tools(&["ntfsclone", "mkfs.ntfs", "lzop", "gzip"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    sh(&format!(
        "cd {}; truncate -s 20M ntfs; mkfs.ntfs -q -F -f -L lab ntfs > log; ntfsclone -s -o ntfsclone ntfs > log 2>&1;
         lzop ntfsclone; (printf 'PaRtImAgE-VoLuMe'; head -c 5000 /dev/zero) | gzip > partimage.gz; head -c -1000 ntfsclone.lzo > cut.lzo",
        path(dir.path())
    ));
    let run = |script: &str| {
        let output =
            Command::new("bash").args(["-c", script]).current_dir(dir.path()).env("OGBOX", binary()).output().unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    for image in ["ntfsclone", "ntfsclone.lzo"] {
        let (code, _, said) =
            run(&format!("truncate -s 20M back; $OGBOX image restore {image} back && ntfsfix -n back"));
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(&format!("{image} is an image of ntfsclone")), "{said}");
        assert_eq!(run("ntfslabel back; rm back").1, "lab\n");
    }
    let (code, said, _) = run("$OGBOX image info ntfsclone.lzo");
    assert_eq!(
        (code, said.as_str()),
        (Some(0), "Image of:     ntfsclone\nFile system:  NTFS\nDevice size:  20971520 Byte\n")
    );
    let (_, said, _) = run("$OGBOX image info --json partimage.gz");
    assert_eq!(said, "{\"program\":\"partimage\",\"compression\":\"gzip\",\"fs\":\"\",\"device_size\":0}\n");
    for (script, why) in [
        (
            "PATH=/none $OGBOX image restore ntfsclone.lzo new",
            "is an image of ntfsclone, which is not installed: nothing was written to new",
        ),
        (
            "PATH=/none $OGBOX image restore partimage.gz new",
            "is an image of partimage, which is not installed: nothing was written to new",
        ),
        ("truncate -s 20M new; $OGBOX image restore cut.lzo new", "new was not finished and is unusable"),
        ("$OGBOX image restore - new < ntfsclone.lzo", "an image of ntfsclone, not of partclone"),
        ("$OGBOX image verify partimage.gz", "an image of partimage, not of partclone"),
        ("$OGBOX image restore ntfs new", "is not an image but a byte-by-byte copy: nothing was written"),
    ] {
        let (code, _, said) = run(script);
        assert!(code == Some(1) && said.contains(why), "{script}: {said}");
    }
    let script = format!("mkdir o; cd o; {} ogGetImageInfo ../ntfsclone.lzo", path(binary()));
    assert!(run(&script).1.starts_with("NTFSCLONE:LZOP:NTFS:20480"), "{:?}", run(&script));
}
