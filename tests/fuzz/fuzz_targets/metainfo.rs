//! A torrent that is accepted has the properties that the other rooms rely on.
#![no_main]

use std::path::Component;

use libfuzzer_sys::fuzz_target;
use ogbox::torrent::Metainfo;

fuzz_target!(|bytes: &[u8]| {
    let Ok(metainfo) = Metainfo::parse(bytes) else { return };
    let geometry = &metainfo.geometry;
    assert!(geometry.pieces() > 0 && geometry.piece_length() > 0);
    assert_eq!(metainfo.files.iter().map(|file| file.length).sum::<u64>(), geometry.length());
    assert!(metainfo.files.iter().all(|file| {
        let mut components = file.path.components();
        components.next().is_some() && file.path.components().all(|part| matches!(part, Component::Normal(_)))
    }));
    let sizes: u64 = (0..geometry.pieces()).map(|piece| u64::from(geometry.piece_size(piece))).sum();
    assert_eq!(sizes, geometry.length());
    let _ = metainfo.piece_hash(geometry.pieces() - 1);
    let bare = Metainfo::from_info(metainfo.info_bytes()).expect("the info dictionary alone is as good");
    assert_eq!((bare.info_hash, &bare.files, bare.geometry), (metainfo.info_hash, &metainfo.files, metainfo.geometry));
});
