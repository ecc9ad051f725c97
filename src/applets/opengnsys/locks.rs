//! ogIsImageLocked, ogLockImage, ogUnlockImage: the `.lock` beside an image.

use super::{Function, NO};
use crate::applets::Exit;
use crate::engine::{Code, Engine, Error, beside};

const FORMAT: &str = "[str_repo] path_image";
const EXAMPLES: &[&str] = &["/opt/opengnsys/images/aula1/winxp.img", "REPO /aula1/winxp.img"];

/// ogIsImageLocked: an error counts as no.
pub const IS_LOCKED: Function = Function {
    format: FORMAT,
    examples: EXAMPLES,
    words: 0..=usize::MAX,
    run: |engine, words, _| {
        let locked = image(engine, words).is_ok_and(|image| engine.image_is_locked(&image));
        Ok(if locked { Exit::OK } else { NO })
    },
};

/// ogLockImage: the lock lasts until ogUnlockImage, and survives its caller.
pub const LOCK: Function = Function {
    format: FORMAT,
    examples: EXAMPLES,
    words: 1..=2,
    run: |engine, words, _| {
        let lock = beside::with(&image(engine, words)?, ".lock");
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&lock)
            .map_err(|error| Error::new(Code::NotWrite, format!("create {}: {error}", lock.display())))?;
        Ok(Exit::OK)
    },
};

/// ogUnlockImage.
pub const UNLOCK: Function = Function {
    format: FORMAT,
    examples: EXAMPLES,
    words: 1..=2,
    run: |engine, words, _| {
        let lock = beside::with(&image(engine, words)?, ".lock");
        beside::remove(&lock)
            .map_err(|error| Error::new(Code::NotWrite, format!("delete {}: {error}", lock.display())))?;
        Ok(Exit::OK)
    },
};

/// The image file that the words name; it need not exist, but its directory must.
fn image(engine: &Engine, words: &[&str]) -> Result<std::path::PathBuf, Error> {
    let (place, name) = engine.place(words)?;
    match engine.find(&place, &engine.image_name(&place, &name)?)? {
        Some(image) => Ok(image),
        None => engine.file_to_be(&place, &name),
    }
}
