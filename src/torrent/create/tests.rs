use super::*;
use sha1_smol::Sha1;
use std::io::Write;
use std::sync::atomic::AtomicU64;

fn data(length: usize) -> Vec<u8> {
    (0..length as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 23) as u8).collect()
}

fn hashes(data: &[u8], piece_length: usize) -> Vec<[u8; 20]> {
    data.chunks(piece_length).map(|piece| Sha1::from(piece).digest().bytes()).collect()
}

fn described(path: &Path, options: &Options) -> Result<Metainfo, String> {
    let told = AtomicU64::new(0);
    let progress = |bytes| _ = told.fetch_add(bytes, Ordering::Relaxed);
    let source = Source::open(path).map_err(|error| error.to_string())?;
    let bytes = source.describe(options, 3, &|| false, &progress).map_err(|error| error.to_string())?;
    assert_eq!(told.into_inner(), source.length());
    Metainfo::parse(&bytes).map_err(|error| error.to_string())
}

fn pieces(metainfo: &Metainfo) -> Vec<[u8; 20]> {
    (0..metainfo.geometry.pieces()).map(|piece| metainfo.piece_hash(piece)).collect()
}

#[test]
fn a_file_is_described_with_everything_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(1_000_001);
    fs::write(dir.path().join("x.img"), &data).unwrap();
    let options = Options {
        announce: vec![vec!["http://a/".into(), "http://b/".into()], vec![], vec!["udp://c:1".into()]],
        piece_length: Some(65536),
        comment: Some("md5".into()),
        created_by: Some("us".into()),
        creation_date: Some(1_700_000_000),
        private: true,
        web_seeds: vec!["http://w/".into()],
        name: None,
    };
    let metainfo = described(&dir.path().join("x.img"), &options).unwrap();
    assert_eq!(metainfo.name, "x.img");
    assert_eq!(metainfo.geometry, Geometry::new(1_000_001, 65536));
    assert_eq!(pieces(&metainfo), hashes(&data, 65536));
    assert_eq!(metainfo.announce, [vec!["http://a/", "http://b/"], vec!["udp://c:1"]]);
    assert_eq!(metainfo.web_seeds, ["http://w/"]);
    assert_eq!((metainfo.comment.as_deref(), metainfo.created_by.as_deref()), (Some("md5"), Some("us")));
    assert!(metainfo.creation_date == Some(1_700_000_000) && metainfo.private && !metainfo.multi_file);
}

#[test]
fn a_file_is_described_with_nothing_but_itself() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x"), "abc").unwrap();
    let options = Options { name: Some("other".into()), piece_length: Some(2), ..Options::default() };
    let bytes = Source::open(&dir.path().join("x")).unwrap().describe(&options, 1, &|| false, &|_| {}).unwrap();
    let mut expected = b"d4:infod6:lengthi3e4:name5:other12:piece lengthi2e6:pieces40:".to_vec();
    expected.extend(hashes(b"abc", 2).concat());
    expected.extend(b"ee");
    assert_eq!(bytes, expected);
}

#[test]
fn a_directory_is_described_in_the_order_of_its_paths() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("top");
    fs::create_dir_all(top.join("a/b")).unwrap();
    fs::create_dir(top.join("void")).unwrap();
    let data = data(300_000);
    let files = [("a/b/z", 0..100_000), ("a/y", 100_000..100_000), ("a b", 100_000..100_001), ("m", 100_001..300_000)];
    for (path, span) in &files {
        fs::write(top.join(path), &data[span.clone()]).unwrap();
    }
    std::os::unix::fs::symlink("..", top.join("loop")).unwrap();
    let options = Options { piece_length: Some(16384), ..Options::default() };
    let metainfo = described(&top, &options).unwrap();
    assert_eq!(metainfo.name, "top");
    assert!(metainfo.multi_file);
    let found: Vec<_> = metainfo.files.iter().map(|file| (file.path.to_str().unwrap(), file.length)).collect();
    assert_eq!(found, files.clone().map(|(path, span)| (path, span.len() as u64)));
    assert_eq!(pieces(&metainfo), hashes(&data, 16384));
    assert_eq!(described(&top.join("a/.."), &options).unwrap(), metainfo);
}

#[test]
fn what_holds_no_data_or_is_not_there_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("empty"), "").unwrap();
    fs::create_dir(at("void")).unwrap();
    let refused = |name: &str| Source::open(&at(name)).unwrap_err().to_string();
    assert_eq!(refused("empty"), format!("describe {}: it holds no data", at("empty").display()));
    assert_eq!(refused("void"), format!("describe {}: it holds no data", at("void").display()));
    assert!(refused("none").starts_with(&format!("measure {}: No such file", at("none").display())));
    let device = Source::open(Path::new("/dev/null")).unwrap_err().to_string();
    assert_eq!(device, "measure /dev/null: it is not a file, directory or block device");
}

#[test]
fn a_metainfo_file_that_nobody_could_read_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    File::create(&path).unwrap().set_len(4 << 20).unwrap();
    let refused = |options: &Options| described(&path, options).unwrap_err();
    let error = refused(&Options { piece_length: Some(1), ..Options::default() });
    assert_eq!(error, format!("{}: larger than a metainfo file may be (67108864 bytes)", path.display()));
    let error = refused(&Options { name: Some("../x".into()), ..Options::default() });
    assert_eq!(error, format!("{}: info.name is \"../x\", which is no file name (byte 31)", path.display()));
    let error = refused(&Options { piece_length: Some(1 << 30), ..Options::default() });
    assert!(error.contains("info.piece length is 1073741824, not between 1 and 268435456 bytes"), "{error}");
}

#[test]
fn a_file_that_changes_while_it_is_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let describe =
        |source: Source| source.describe(&Options::default(), 2, &|| false, &|_| {}).unwrap_err().to_string();
    fs::write(&path, data(600_000)).unwrap();
    let source = Source::open(&path).unwrap();
    File::options().append(true).open(&path).unwrap().write_all(b"more").unwrap();
    assert_eq!(describe(source), format!("describe {}: it changed while it was read", path.display()));
    let source = Source::open(&path).unwrap();
    File::create(&path).unwrap().set_len(100_000).unwrap();
    assert_eq!(describe(source), format!("read {}: it became shorter", path.display()));
    let dir = path.parent().unwrap();
    fs::write(dir.join("y"), data(100)).unwrap();
    let source = Source::open(dir).unwrap();
    File::create(dir.join("y")).unwrap().set_len(99).unwrap();
    assert_eq!(describe(source), format!("read {}: y: it became shorter", dir.display()));
}

#[test]
fn piece_lengths_grow_with_the_data_up_to_4_mib_and_beyond_only_where_they_must() {
    let mib = |length: u64| f64::from(piece_length_for(length)) / f64::from(1 << 20);
    assert_eq!([1, 255 << 20, 256 << 20, 1 << 30, 3 << 30, 20 << 30].map(mib), [0.25, 0.25, 0.5, 2.0, 4.0, 4.0]);
    assert_eq!([8 << 40, 16 << 40, i64::MAX as u64].map(mib), [4.0, 8.0, 256.0]);
}

#[test]
fn a_metainfo_file_appears_whole_and_replaces_only_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.torrent");
    write(&path, b"one", false).unwrap();
    let refused = write(&path, b"two", false).unwrap_err().to_string();
    assert_eq!(refused, format!("write {}: File exists (os error 17)", path.display()));
    assert_eq!(fs::read(&path).unwrap(), b"one");
    write(&path, b"three", true).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"three");
    assert!(write(&dir.path().join("none/x.torrent"), b"one", true).is_err());
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["x.torrent"]);
}
