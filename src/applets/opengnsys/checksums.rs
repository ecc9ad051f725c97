//! ogCalculateChecksum, ogCalculateFullChecksum, ogMakeChecksumFile, ogCompareChecksumFiles.

use super::{FILE, Function, NO, print, split_file};
use crate::applets::Exit;
use crate::engine::checksum::Sum;
use crate::engine::{Code, Engine, Error};

/// ogCalculateChecksum: MD5 of the last MiB.
pub const CALCULATE: Function = Function {
    format: FILE,
    examples: &["REPO /ubuntu.img"],
    words: 1..=3,
    run: |engine, words, io| print(io, &sum(engine, words, Sum::Tail)?),
};

/// ogCalculateFullChecksum: MD5 of the whole file.
pub const CALCULATE_FULL: Function = Function {
    format: FILE,
    examples: &["REPO /ubuntu.img"],
    words: 1..=3,
    run: |engine, words, io| print(io, &sum(engine, words, Sum::Full)?),
};

/// ogMakeChecksumFile: stores the result of ogCalculateChecksum beside the file.
pub const MAKE: Function = Function {
    format: FILE,
    examples: &["REPO /ubuntu.img"],
    words: 1..=3,
    run: |engine, words, _| {
        let sum = sum(engine, words, Sum::Tail)?;
        let (place, name) = engine.place(words)?;
        let path = engine.file(&place, &name)?;
        Sum::Tail.store(&path, &sum).map_err(|error| {
            Error::new(Code::NotWrite, format!("write {}{}: {error}", path.display(), Sum::Tail.extension()))
        })?;
        Ok(Exit::OK)
    },
};

/// ogCompareChecksumFiles: whether the checksums stored beside two files are equal; a missing one equals nothing.
pub const COMPARE: Function = Function {
    format: "[ str_repo | int_ndisk int_npartition ] path_source [ str_repo | int_ndisk int_npartition ] path_target",
    examples: &["REPO /ubuntu.img CACHE /ubuntu.img"],
    words: 2..=6,
    run: |engine, words, _| {
        let (source, target) = split_file(words);
        let stored = |words: &[&str]| {
            let (place, name) = engine.place(words)?;
            Ok(engine.find(&place, &name)?.and_then(|path| Sum::Tail.stored(&path)))
        };
        let (source, target): (Option<String>, Option<String>) = (stored(source)?, stored(target)?);
        Ok(if source.is_some() && source == target { Exit::OK } else { NO })
    },
};

fn sum(engine: &Engine, words: &[&str], kind: Sum) -> Result<String, Error> {
    let (place, name) = engine.place(words)?;
    let path = engine.file(&place, &name)?;
    kind.of(&path, &|| false).map_err(|error| Error::new(Code::NotFound, format!("read {}: {error}", path.display())))
}
