use std::io::IoSlice;

use proptest::prelude::*;

use super::*;

const NOW: u64 = 0x0123_4567_89ab_cdef;
const HEAD_OF_ALL: &[u8; HEAD] = b"ogbox journal 2\n12345678901234567890";

fn journal(records: &[(u32, u32, u64)]) -> Vec<u8> {
    let records = records.iter().flat_map(|(first, count, stamp)| record(*first, *count, *stamp));
    HEAD_OF_ALL.iter().copied().chain(records).collect()
}

/// The pieces of ten that a journal vouches for, and whether it was closed.
fn told(bytes: &[u8], times: u64) -> Option<(Vec<u32>, bool)> {
    vouched(bytes, HEAD_OF_ALL, 10, times).map(|vouched| (vouched.pieces.iter_ones().collect(), vouched.closed))
}

#[test]
fn runs_add_up_until_the_end() {
    let open = journal(&[(0, 2, NOW), (7, 3, NOW), (1, 1, NOW)]);
    assert_eq!(told(&open, NOW), Some((vec![0, 1, 7, 8, 9], false)));
    let closed = journal(&[(0, 2, NOW), (0, 0, NOW + 1)]);
    assert_eq!(told(&closed, NOW + 1), Some((vec![0, 1], true)));
    assert_eq!(told(&journal(&[(0, 0, NOW)]), NOW), Some((vec![], true)));
    assert_eq!(told(&journal(&[]), NOW), None);
}

#[test]
fn a_torn_tail_costs_what_it_told_and_no_more() {
    let whole = journal(&[(0, 2, NOW), (7, 3, NOW)]);
    for cut in 1..RECORD {
        assert_eq!(told(&whole[..whole.len() - cut], NOW), Some((vec![0, 1], false)));
    }
    for byte in whole.len() - RECORD..whole.len() {
        let mut torn = whole.clone();
        torn[byte] ^= 1;
        torn.extend(record(5, 1, NOW));
        assert_eq!(told(&torn, NOW), Some((vec![0, 1], false)), "what follows a torn record is not believed");
    }
    let zeros = [&whole[..], &[0; 3 * RECORD]].concat();
    assert_eq!(told(&zeros, NOW), told(&whole, NOW), "a file system may leave zeros");
}

#[test]
fn a_journal_of_something_else_is_not_believed() {
    let good = journal(&[(0, 2, NOW)]);
    for byte in 0..HEAD {
        let mut other = good.clone();
        other[byte] ^= 1;
        assert_eq!(told(&other, NOW), None);
    }
    for hostile in [(10, 1, NOW), (0, 11, NOW), (u32::MAX, u32::MAX, NOW), (11, 0, NOW)] {
        assert_eq!(told(&journal(&[(0, 2, NOW), hostile]), NOW), None);
    }
    assert_eq!(told(&journal(&[(0, 0, NOW), (0, 2, NOW)]), NOW), None, "nothing follows the end");
    assert_eq!(told(&good[..HEAD - 1], NOW), None);
    assert_eq!(told(&[], NOW), None);
}

#[test]
fn data_that_was_changed_since_it_was_closed_is_not_vouched_for() {
    let closed = journal(&[(0, 2, NOW), (0, 0, NOW)]);
    assert_eq!(told(&closed, NOW), Some((vec![0, 1], true)));
    assert_eq!(told(&closed, NOW + 1), None);
    assert_eq!(told(&closed, NOW - 1), None);
}

proptest! {
    #[test]
    fn no_journal_makes_it_panic_or_invent_pieces(tail in prop::collection::vec(any::<u8>(), 0..100)) {
        let bytes = [&HEAD_OF_ALL[..], &tail].concat();
        prop_assert_eq!(told(&bytes, NOW), None);
    }

    #[test]
    fn what_was_recorded_is_read(have in prop::collection::vec(any::<bool>(), 1..200), split in 0usize..200) {
        let mut all = Bitfield::new(have.len() as u32);
        let mut early = all.clone();
        for (piece, _) in have.iter().enumerate().filter(|(_, here)| **here) {
            all.set(piece as u32);
            if piece < split {
                early.set(piece as u32);
            }
        }
        let records: Vec<_> = runs(&early, &Bitfield::new(all.len())).into_iter().chain(runs(&all, &early)).collect();
        let records: Vec<_> = records.into_iter().map(|(first, count)| (first, count, NOW)).collect();
        let read = vouched(&journal(&records), HEAD_OF_ALL, all.len(), NOW);
        prop_assert_eq!(read, (!records.is_empty()).then_some(Vouched { pieces: all, closed: false }));
    }
}

/// A torrent of ten pieces of four bytes; their hashes do not matter.
fn metainfo() -> Metainfo {
    let pieces = "a".repeat(200);
    let torrent = format!("d8:announce3:url4:infod6:lengthi40e4:name1:x12:piece lengthi4e6:pieces200:{pieces}ee");
    Metainfo::parse(torrent.as_bytes()).expect("a torrent")
}

fn pieces(of: &[u32]) -> Bitfield {
    let mut pieces = Bitfield::new(10);
    for piece in of {
        pieces.set(*piece);
    }
    pieces
}

#[test]
fn a_journal_lives_through_crashes_and_clean_stops_but_not_through_other_data() {
    let dir = tempfile::tempdir().unwrap();
    let (data, path) = (dir.path().join("x"), dir.path().join("x.journal"));
    let metainfo = metainfo();
    let open = || {
        let (storage, _) = Storage::create(&metainfo, &data).unwrap();
        let journal = Journal::new(path.clone(), &metainfo, &storage).unwrap();
        (storage, journal)
    };
    let (storage, mut journal) = open();
    assert!(!journal.exists() && journal.read(&storage).is_none());
    storage.write(0, &mut [IoSlice::new(b"0123")]).unwrap();
    journal.record(&storage, &pieces(&[0])).unwrap();
    journal.record(&storage, &pieces(&[0, 4])).unwrap();
    journal.record(&storage, &pieces(&[0, 4])).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), (HEAD + 2 * RECORD) as u64, "what is not new is not recorded");
    drop((storage, journal));

    let (storage, mut journal) = open();
    assert_eq!(journal.read(&storage), Some(Vouched { pieces: pieces(&[0, 4]), closed: false }));
    journal.record(&storage, &pieces(&[0, 4, 5])).unwrap();
    journal.close(&storage, &pieces(&[0, 4, 5, 9])).unwrap();
    let (storage, mut journal) = open();
    let closed = Some(Vouched { pieces: pieces(&[0, 4, 5, 9]), closed: true });
    assert_eq!(journal.read(&storage), closed);
    journal.record(&storage, &pieces(&[0, 4, 5, 9])).unwrap();
    assert_eq!(journal.read(&storage).map(|vouched| vouched.closed), Some(false), "this run may write");
    journal.close(&storage, &pieces(&[0, 4, 5, 9])).unwrap();
    assert_eq!(journal.read(&storage), closed);

    let modified = fs::metadata(&data).and_then(|metadata| metadata.modified()).unwrap();
    storage.write(0, &mut [IoSlice::new(b"4567")]).unwrap();
    File::options().write(true).open(&data).unwrap().set_modified(modified).unwrap();
    assert_eq!(journal.read(&storage), None, "somebody changed the data, and put its time back");
    journal.close(&storage, &pieces(&[0, 4, 5, 9])).unwrap();
    assert_eq!(journal.read(&storage), None, "closing again does not vouch for the change");

    fs::rename(&data, dir.path().join("old")).unwrap();
    fs::write(&data, [0; 40]).unwrap();
    let (storage, journal) = open();
    assert_eq!(journal.read(&storage), None, "it is another file");
}

#[test]
fn a_journal_without_this_runs_writing_vouches_for_the_data_as_it_was_found() {
    let dir = tempfile::tempdir().unwrap();
    let (data, path) = (dir.path().join("x"), dir.path().join("x.journal"));
    fs::write(&data, [1; 40]).unwrap();
    let metainfo = metainfo();
    for (writes, believed) in [(false, false), (true, true)] {
        let (storage, _) = Storage::create(&metainfo, &data).unwrap();
        let mut journal = Journal::new(path.clone(), &metainfo, &storage).unwrap();
        if writes {
            journal.begin();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        storage.write(0, &mut [IoSlice::new(b"x")]).unwrap();
        journal.close(&storage, &pieces(&[0])).unwrap();
        assert_eq!(journal.read(&storage).is_some(), believed);
    }
}

#[test]
fn a_link_in_the_place_of_a_journal_is_replaced_and_not_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let (data, path, other) = (dir.path().join("x"), dir.path().join("x.journal"), dir.path().join("other"));
    fs::write(&other, "precious").unwrap();
    std::os::unix::fs::symlink(&other, &path).unwrap();
    let (storage, _) = Storage::create(&metainfo(), &data).unwrap();
    let mut journal = Journal::new(path.clone(), &metainfo(), &storage).unwrap();
    journal.record(&storage, &pieces(&[1])).unwrap();
    assert_eq!(fs::read(&other).unwrap(), b"precious");
    assert!(!path.is_symlink() && path.is_file());
}

#[test]
fn a_journal_that_cannot_be_written_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, _) = Storage::create(&metainfo(), &dir.path().join("x")).unwrap();
    let path = dir.path().join("none/x.journal");
    let mut journal = Journal::new(path.clone(), &metainfo(), &storage).unwrap();
    match journal.record(&storage, &pieces(&[1])) {
        Err(Failed::Journal(error)) => {
            assert_eq!(error.to_string(), format!("write {}: No such file or directory (os error 2)", path.display()));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_is_made_later_takes_nothing_from_what_is_known_of_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let (data, path) = (dir.path().join("x"), dir.path().join("x.journal"));
    let pieces_of_all = "a".repeat(200);
    let files =
        [16, 0, 24].iter().zip(["a", "b", "c"]).map(|(length, at)| format!("d6:lengthi{length}e4:pathl1:{at}ee"));
    let torrent = format!(
        "d8:announce3:url4:infod5:filesl{}e4:name1:x12:piece lengthi4e6:pieces200:{pieces_of_all}ee",
        files.collect::<String>()
    );
    let metainfo = Metainfo::parse(torrent.as_bytes()).expect("a torrent");
    let open = |needed: &[usize]| {
        let (storage, _) = Storage::create_some(&metainfo, &data, |file| needed.contains(&file)).unwrap();
        let mut journal = Journal::new(path.clone(), &metainfo, &storage).unwrap();
        journal.begin();
        (storage, journal)
    };
    let (storage, mut journal) = open(&[0]);
    storage.write(0, &mut [IoSlice::new(b"0123")]).unwrap();
    assert!(storage.write(14, &mut [IoSlice::new(b"0123")]).is_err(), "a part of it is in a file that is not there");
    assert!(storage.is_there(12, 4) && !storage.is_there(12, 8) && storage.read(16, &mut [0; 4]).is_err());
    journal.close(&storage, &pieces(&[0])).unwrap();
    assert!(!data.join("b").exists() && !data.join("c").exists());

    let (storage, mut journal) = open(&[0, 1, 2]);
    assert_eq!(journal.read(&storage), Some(Vouched { pieces: pieces(&[0]), closed: true }));
    storage.write(16, &mut [IoSlice::new(b"4567")]).unwrap();
    journal.close(&storage, &pieces(&[0, 4])).unwrap();
    let (storage, journal) = open(&[0]);
    assert_eq!(journal.read(&storage), Some(Vouched { pieces: pieces(&[0, 4]), closed: true }));

    fs::remove_file(data.join("c")).unwrap();
    let (storage, journal) = open(&[0]);
    assert_eq!(journal.read(&storage), None, "what it told of is gone");
    drop(storage);
}
