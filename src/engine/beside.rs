//! The files that belong to an image and stand beside it: `X.img.sum`, `X.img.torrent` …

use std::io;
use std::path::{Path, PathBuf};

use super::path::is_zst;
use crate::base::whole;

/// Extensions of the files renamed to `.ant` when an image is made anew: the image itself and those made from it.
const KEPT: &[&str] = &["", ".torrent", ".sum", ".full.sum", SIZE];

/// Extensions of the files that a download leaves and a complete image needs no more: ctorrent's journal.
const TRACES: &[&str] = &[".torrent.journal"];

/// Extensions of the files derived from an image; they are invalid once it changes.
const DERIVED: &[&str] = &[".torrent", ".torrent.bf", ".torrent.bfog", ".sum", ".full.sum", SIZE];

/// Extension of the file with an image's size, which OpenGnsys 3 keeps beside it.
const SIZE: &str = ".size";
/// The end of the directory of OpenGnsys 3's images.
const REPOSITORY: &str = "ogrepository/images";

/// Appends `extension` to the whole of `path`: `X.img` and `.sum` give `X.img.sum`.
pub fn with(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(extension);
    PathBuf::from(name)
}

/// Renames an image and its files to their backup names (`X.img.ant`, `X.img.torrent.ant` …). Older backups are
/// replaced, or deleted where the image has no such file, so that all backups belong to one image.
///
/// # Errors
/// A file could not be renamed; those before it were.
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

/// Whether `image` is one of OpenGnsys 3, by its name or its directory (`/opt/opengnsys/ogrepository/images`): those have a
/// `.size` beside them. Their `.info.checked` is their repository's alone: never made, changed or removed here.
pub fn has_size(image: &Path) -> bool {
    let parents = image.ancestors().skip(1).take(2);
    is_zst(image) || parents.into_iter().any(|directory| directory.ends_with(REPOSITORY))
}

/// Writes an image's `.size`, bytes in decimal, if it should have one or has one.
///
/// # Errors
/// It cannot be written.
pub fn store_size(image: &Path) -> io::Result<()> {
    let file = with(image, SIZE);
    if has_size(image) || file.exists() || with(&file, ".ant").exists() {
        whole::write(&file, format!("{}\n", image.metadata()?.len()))?;
    }
    Ok(())
}

/// Deletes the files derived from an image; a missing one is not an error.
///
/// # Errors
/// A file could not be deleted.
pub fn remove_derived(image: &Path) -> io::Result<()> {
    DERIVED.iter().chain(TRACES).try_for_each(|extension| remove(&with(image, extension)))
}

/// Deletes what a download left beside the complete image that it made.
///
/// # Errors
/// A file could not be deleted.
pub fn remove_traces(image: &Path) -> io::Result<()> {
    TRACES.iter().try_for_each(|extension| remove(&with(image, extension)))
}

/// Deletes a file; a missing one is not an error.
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
    fn an_image_of_opengnsys_3_has_its_size_beside_it_and_its_repositorys_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let theirs = dir.path().join("ogrepository/images/aula1");
        std::fs::create_dir_all(&theirs).unwrap();
        let images = [dir.path().join("x.img"), dir.path().join("y.img.zst"), theirs.join("z.img")];
        for image in &images {
            std::fs::write(image, "image").unwrap();
            std::fs::write(with(image, ".info.checked"), "theirs").unwrap();
            store_size(image).unwrap();
        }
        let size = |image: &Path| std::fs::read_to_string(with(image, SIZE)).ok();
        assert_eq!(images.each_ref().map(|image| size(image)), [None, Some("5\n".into()), Some("5\n".into())]);
        std::fs::write(with(&images[0], SIZE), "7\n").unwrap();
        std::fs::write(&images[0], "another").unwrap();
        store_size(&images[0]).unwrap();
        assert_eq!(size(&images[0]).as_deref(), Some("7\n"));
        keep_as_backup(&images[1]).unwrap();
        remove_derived(&images[2]).unwrap();
        assert!(with(&images[1], ".size.ant").exists() && size(&images[2]).is_none());
        assert!(images.iter().all(|image| std::fs::read_to_string(with(image, ".info.checked")).unwrap() == "theirs"));
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
