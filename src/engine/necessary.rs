//! Whether the cache's copy of an image differs from the repository's (ogUpdateCacheIsNecesary).

use std::io::Write;
use std::path::Path;

use super::checksum::{Sum, store_lacking};
use super::{Code, Engine, Error, Place, beside};

impl Engine {
    /// Whether the image file `name` (extension included) must be fetched from the repository into the cache by
    /// `protocol`; the reason goes to `out`. With `delete`, a copy that differs is deleted with its derived files.
    ///
    /// `TORRENT` and `FULL` compare checksums of whole files. All others compare those of the last MiB, and those of
    /// whole files if both are stored: a new image may end like the old one. A stored checksum is trusted as long as it
    /// is no older than its image.
    ///
    /// # Errors
    /// [`Code::NotCache`]: this machine has no cache. [`Code::NotFound`]: the repository has no such image.
    pub fn update_is_necessary(
        &self,
        name: &str,
        protocol: &str,
        delete: bool,
        out: &mut dyn Write,
        stop: &dyn Fn() -> bool,
    ) -> Result<bool, Error> {
        let mut say = |text: &str| {
            // A closed pipe is no error: the reader has seen enough.
            let _ = writeln!(out, "{text}");
        };
        let directory = self.directory(&Place::Cache)?;
        let name = &*self.image_name(&Place::Repo, name)?;
        let source = self.file(&Place::Repo, name)?;
        let relative = super::env::relative(name).unwrap_or_default();
        let copy = self.find(&Place::Cache, name)?.unwrap_or_else(|| directory.join(relative));
        if !copy.is_file() {
            for extension in [".torrent.bf", ".sum", ".full.sum"] {
                forget(&beside::with(&copy, extension))?;
            }
            say("TRUE(0), es necesario actualizar. Paso 1, la cache no contiene esa imagen ");
            return Ok(true);
        }
        if beside::with(&copy, ".torrent.bf").exists() {
            say(
                "TRUE(0), es necesario actualizar. Paso 2, la imagen esta en un estado de descarga torrent interrumpido",
            );
            return Ok(true);
        }
        let whole = ["TORRENT", "FULL"].iter().any(|word| protocol.eq_ignore_ascii_case(word));
        let sum = if whole { Sum::Full } else { Sum::Tail };
        let read = |path: &Path| {
            sum.of(path, stop).map_err(|error| Error::new(Code::NotFound, format!("read {}: {error}", path.display())))
        };
        let theirs = sum.current(&source).map_or_else(|| read(&source), Ok)?;
        let ours = match sum.current(&copy) {
            Some(kept) => kept,
            None => {
                let ours = read(&copy)?;
                // An unwritable cache is reported once an image is to be put into it.
                let _ = sum.store(&copy, &ours);
                ours
            }
        };
        let [source_sum, copy_sum] = [&source, &copy].map(|path| Sum::Full.current(path));
        let differs = source_sum.zip(copy_sum).is_some_and(|(theirs, ours)| theirs != ours);
        if ours == theirs && !differs {
            // As its namesake leaves them. What cannot be written is reported once an image is to be put there.
            let _ = store_lacking(&copy, None, stop).and_then(|()| beside::remove_traces(&copy));
            say("FALSE (1), No es neceario actualizar. Paso5.A la imagen esta en cache");
            return Ok(false);
        }
        if delete {
            say("imagen en cache distinta,  borramos la imagen anterior");
            forget(&copy)?;
            beside::remove_derived(&copy).map_err(|error| Error::new(Code::NotWrite, error.to_string()))?;
        }
        say("TRUE (0), Si es necesario actualizar.");
        Ok(true)
    }
}

fn forget(path: &Path) -> Result<(), Error> {
    beside::remove(path).map_err(|error| Error::new(Code::NotWrite, format!("delete {}: {error}", path.display())))
}
