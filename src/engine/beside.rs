//! The files that belong to an image and stand beside it: `X.img.sum`, `X.img.torrent` …

use std::io;
use std::path::{Path, PathBuf};

use crate::base::whole;

/// What of an image is kept as `.ant` when it is made anew: the image and what was made from it.
const KEPT: &[&str] = &["", ".torrent", ".sum", ".full.sum"];

/// What is made from an image and is wrong once it is another.
const DERIVED: &[&str] = &[".torrent", ".torrent.bf", ".torrent.bfog", ".sum", ".full.sum"];

/// `path` with `extension` behind its whole name: `X.img` and `.sum` are `X.img.sum`.
pub fn with(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(extension);
    PathBuf::from(name)
}

/// Renames an image and what belongs to it to their backups' names (`X.img.ant`, `X.img.torrent.ant` …), in place of
/// older backups, of which none stays that belongs to another image.
///
/// # Errors
/// One could not be renamed; those before it were.
pub fn keep_as_backup(image: &Path) -> io::Result<()> {
    for extension in KEPT {
        let path = with(image, extension);
        let backup = with(&path, ".ant");
        match whole::rename(&path, &backup) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => remove(&backup)?,
            done => done?,
        }
    }
    Ok(())
}

/// Deletes what was made from an image; what is not there is no error.
///
/// # Errors
/// One could not be deleted.
pub fn remove_derived(image: &Path) -> io::Result<()> {
    DERIVED.iter().try_for_each(|extension| remove(&with(image, extension)))
}

/// Deletes a file; one that is not there is no error.
///
/// # Errors
/// It could not be deleted.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_and_its_files_become_backups_together() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["x.img", "x.img.torrent", "x.img.sum", "x.img.ant", "x.img.full.sum.ant"] {
            std::fs::write(at(name), name).unwrap();
        }
        keep_as_backup(&at("x.img")).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["x.img.ant", "x.img.sum.ant", "x.img.torrent.ant"]);
        assert_eq!(std::fs::read_to_string(at("x.img.ant")).unwrap(), "x.img");
    }

    #[test]
    fn only_what_was_made_from_an_image_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["x.img", "x.img.torrent", "x.img.torrent.bf", "x.img.full.sum", "x.img.ant"] {
            std::fs::write(at(name), "").unwrap();
        }
        remove_derived(&at("x.img")).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["x.img", "x.img.ant"]);
    }
}
