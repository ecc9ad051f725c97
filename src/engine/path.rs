//! File arguments of scripts: `REPO /x`, `CACHE /x`, `1 2 /x` (disk, partition) or `/x` (ogGetPath).

use std::path::{Path, PathBuf};

use super::env::relative;
use super::{Code, Device, Engine, Error};

/// The tree that a name is looked up in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The repository's images.
    Repo,
    /// The local cache's images.
    Cache,
    /// A partition.
    Partition(Device),
    /// This machine's own tree.
    Root,
}

impl Engine {
    /// The repository's address: `ogrepo` of the kernel command line, else `ROOTREPO`.
    pub fn repo_address(&self) -> &str {
        match self.env.get("ogrepo") {
            "" => self.env.get("ROOTREPO"),
            address => address,
        }
    }

    /// Parses the words that name a file into the place and the name within it.
    ///
    /// # Errors
    /// [`Code::Format`]: the words have none of the four forms. [`Code::NotFound`]: there is no such partition.
    pub fn place(&self, words: &[&str]) -> Result<(Place, String), Error> {
        match words {
            [name] if name.starts_with('/') => Ok((Place::Root, (*name).to_owned())),
            [place, name] => Ok((self.named_place(place)?, (*name).to_owned())),
            [disk, partition, name] => Ok((Place::Partition(self.device(disk, Some(partition))?), (*name).to_owned())),
            _ => Err(Error::new(Code::Format, words.join(" "))),
        }
    }

    /// Parses `REPO` or `CACHE`, in any case.
    ///
    /// # Errors
    /// [`Code::Format`]: it is neither.
    pub fn named_place(&self, word: &str) -> Result<Place, Error> {
        match word.to_ascii_uppercase().as_str() {
            "REPO" => Ok(Place::Repo),
            "CACHE" => Ok(Place::Cache),
            _ => Err(Error::new(Code::Format, format!("{word} is neither REPO nor CACHE"))),
        }
    }

    /// The directory that names of `place` are relative to; its partition is mounted if need be.
    ///
    /// # Errors
    /// [`Code::NotCache`]: this machine has no cache. [`Code::Partition`]: the partition cannot be mounted.
    pub fn directory(&self, place: &Place) -> Result<PathBuf, Error> {
        match place {
            Place::Repo => Ok(self.env.path("OGIMG")),
            Place::Cache => {
                let images = Path::new(self.env.get("OGIMG")).strip_prefix("/").unwrap_or(Path::new(""));
                let cache = match (self.cache_device(), self.cache_directory()) {
                    (Some(device), _) => self.mount(&device)?,
                    (None, Some(directory)) => directory,
                    (None, None) => return Err(Error::new(Code::NotCache, self.text("MSG_NOCACHE"))),
                };
                Ok(cache.join(images))
            }
            Place::Partition(device) => self.mount(device),
            Place::Root => Ok(PathBuf::from("/")),
        }
    }

    /// The file or directory `name` of `place`, matched in any case if need be (ogGetPath); `None` if there is none.
    ///
    /// # Errors
    /// See [`Engine::directory`].
    pub fn find(&self, place: &Place, name: &str) -> Result<Option<PathBuf>, Error> {
        let directory = self.directory(place)?;
        let name = match place {
            Place::Root => self.env.rooted(name).to_string_lossy().into_owned(),
            _ => name.to_owned(),
        };
        Ok(relative(&name).and_then(|path| find_below(directory, &path)))
    }

    /// The path of the file `name` of `place`, which need not exist; its directory must (ogGetParentPath).
    ///
    /// # Errors
    /// [`Code::NotFound`]: its directory does not exist. See also [`Engine::directory`].
    pub fn file_to_be(&self, place: &Place, name: &str) -> Result<PathBuf, Error> {
        let missing = || Error::new(Code::NotFound, self.describe(place, name));
        let path = Path::new(name);
        let base = path.file_name().ok_or_else(missing)?;
        let parent = path.parent().unwrap_or(Path::new("")).to_string_lossy();
        let parent = self.find(place, &parent)?.filter(|parent| parent.is_dir());
        parent.map(|parent| parent.join(base)).ok_or_else(|| {
            let why = format!("{}: there is no such directory", self.describe(place, &path.to_string_lossy()));
            Error::new(Code::NotFound, why)
        })
    }

    /// The file `name` of `place`.
    ///
    /// # Errors
    /// [`Code::NotFound`]: there is no such file. See also [`Engine::directory`].
    pub fn file(&self, place: &Place, name: &str) -> Result<PathBuf, Error> {
        let found = self.find(place, name)?.filter(|path| path.is_file());
        let missing = || {
            let what = self.describe(place, name);
            let directory = self.directory(place).unwrap_or_default();
            // A share that has gone away has no files either, and that is another matter.
            match std::fs::read_dir(&directory) {
                Err(error) if *place == Place::Repo => format!("{what}: read {}: {error}", directory.display()),
                _ => what,
            }
        };
        found.ok_or_else(|| Error::new(Code::NotFound, missing()))
    }

    /// The image `name` of `place`; scripts give the name without `.img`.
    ///
    /// # Errors
    /// As [`Engine::file`].
    pub fn image(&self, place: &Place, name: &str) -> Result<PathBuf, Error> {
        self.file(place, &self.image_name(place, &format!("{name}.img"))?)
    }

    /// The name of the image file `name` in `place`: that of OpenGnsys 3, `X.img.zst`, where there is no `X.img` but it.
    ///
    /// # Errors
    /// See [`Engine::directory`].
    pub fn image_name(&self, place: &Place, name: &str) -> Result<String, Error> {
        for other in names_of_image(name) {
            if self.find(place, &other)?.is_some() {
                return Ok(other);
            }
        }
        Ok(name.to_owned())
    }

    /// The name of the image file to be made of the image `name`, compressed by `compressor`: that of OpenGnsys 3 where it
    /// has that name already and zstd compresses it anew.
    ///
    /// # Errors
    /// See [`Engine::directory`].
    pub fn name_of_new_image(&self, place: &Place, name: &str, compressor: &str) -> Result<String, Error> {
        let usual = format!("{name}.img");
        match compressor.split(':').next() {
            Some(codec) if codec.eq_ignore_ascii_case("zstd") => self.image_name(place, &usual),
            _ => Ok(usual),
        }
    }

    /// `place` and `name` as scripts write them.
    pub fn describe(&self, place: &Place, name: &str) -> String {
        match place {
            Place::Repo => format!("REPO {name}"),
            Place::Cache => format!("CACHE {name}"),
            Place::Partition(device) => {
                format!("{} {} {name}", device.disk, device.partition.unwrap_or_default())
            }
            Place::Root => name.to_owned(),
        }
    }
}

/// Whether `image` has OpenGnsys 3's name for images that zstd compressed.
pub fn is_zst(image: &Path) -> bool {
    image.file_name().is_some_and(|name| name.as_encoded_bytes().ends_with(b".img.zst"))
}

/// The names that an image called `name` may have, the first one first: OpenGnsys 3 calls `X.img` also `X.img.zst`.
pub fn names_of_image(name: &str) -> Vec<String> {
    let other = name.ends_with(".img").then(|| format!("{name}.zst"));
    std::iter::once(name.to_owned()).chain(other).collect()
}

/// `path` below `directory`; a component that does not exist as written is matched in any case.
fn find_below(directory: PathBuf, path: &Path) -> Option<PathBuf> {
    let exact = directory.join(path);
    if exact.exists() {
        return Some(exact);
    }
    path.components().try_fold(directory, |at, component| {
        let next = at.join(component);
        if next.exists() {
            return Some(next);
        }
        let wanted = component.as_os_str().to_string_lossy().to_lowercase();
        let entries = std::fs::read_dir(&at).ok()?.filter_map(Result::ok);
        entries
            .map(|entry| entry.path())
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().to_lowercase() == wanted))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::moved;
    use super::*;

    #[test]
    fn files_are_found_by_place_and_in_any_case() {
        let (dir, engine) = moved(&[]);
        let images = dir.path().join("opt/opengnsys/images");
        let cached = dir.path().join("opt/opengnsys/cache/opt/opengnsys/images");
        std::fs::create_dir_all(images.join("Aula1")).unwrap();
        std::fs::create_dir_all(&cached).unwrap();
        for file in [images.join("Aula1/Win 10.img"), cached.join("Ubuntu.img")] {
            std::fs::write(file, "").unwrap();
        }
        let find = |words: &[&str]| {
            let (place, name) = engine.place(words).unwrap();
            engine.find(&place, &name).unwrap()
        };
        let win = Some(images.join("Aula1/Win 10.img"));
        assert_eq!(find(&["REPO", "/Aula1//Win 10.img/"]), win);
        assert_eq!(find(&["repo", "aula1/WIN 10.IMG"]), win);
        assert_eq!(find(&["/opt/opengnsys/images/aula1/win 10.img"]), win);
        assert_eq!(find(&["Cache", "/ubuntu.img"]), Some(cached.join("Ubuntu.img")));
        assert_eq!(find(&["REPO", "/ubuntu.img"]), None);
        assert_eq!(find(&["REPO", "/../cache/opt/opengnsys/images/Ubuntu.img"]), None);
        assert_eq!(find(&["REPO", "/"]), Some(images));
    }

    #[test]
    fn an_image_is_found_by_opengnsys_3s_name_where_it_has_no_other() {
        let (dir, engine) = moved(&[]);
        let images = dir.path().join("opt/opengnsys/images");
        let found = || engine.image(&Place::Repo, "win").map_err(|error| error.code);
        assert_eq!(found(), Err(Code::NotFound));
        std::fs::write(images.join("Win.img.zst"), "").unwrap();
        assert_eq!(found(), Ok(images.join("Win.img.zst")));
        std::fs::write(images.join("win.img"), "").unwrap();
        assert_eq!(found(), Ok(images.join("win.img")));
        assert_eq!(engine.image_name(&Place::Repo, "none.img").unwrap(), "none.img");
    }

    #[test]
    fn what_is_no_place_is_wrong_and_what_is_missing_not_found() {
        let (_dir, engine) = moved(&[]);
        let code = |words: &[&str]| {
            let found = engine.place(words).and_then(|(place, name)| engine.image(&place, &name));
            found.map_err(|error| error.code)
        };
        assert_eq!(code(&["relative"]), Err(Code::Format));
        assert_eq!(code(&["SERVER", "/x"]), Err(Code::Format));
        assert_eq!(code(&["1", "x", "/x"]), Err(Code::Format));
        assert_eq!(code(&["1", "1", "/x"]), Err(Code::NotFound));
        assert_eq!(code(&["CACHE", "/x"]), Err(Code::NotCache));
        assert_eq!(code(&["REPO", "/x"]), Err(Code::NotFound));
        assert_eq!(code(&[]), Err(Code::Format));
    }
}
