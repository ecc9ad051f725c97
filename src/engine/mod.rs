//! The conventions of OpenGnsys' shell functions: numbers for disks, words for places, files beside images, locks,
//! logs, messages and exit codes. Applets written with them read like the scripts they replace:
//!
//! ```no_run
//! use ogbox::engine::{Engine, Error, Targets};
//! fn run(engine: &Engine, out: &mut dyn std::io::Write) -> Result<(), Error> {
//!     let (place, name) = engine.place(&["REPO", "/aula1/win"])?;
//!     let image = engine.image(&place, &name)?;
//!     let device = engine.device("1", Some("2"))?;
//!     let _locks = (engine.lock_image(&image)?, engine.lock_device(&device)?);
//!     engine.say(out, Targets::LOG_SESSION, &format!("[10] {} to {}", image.display(), device.path.display()));
//!     Ok(())
//! }
//! ```
//!
//! | file | contents |
//! |---|---|
//! | [`error`], [`messages`] | OG_ERR_* numbers, and the texts in three languages |
//! | [`env`](mod@env) | environment, engine.cfg, OGBOX_ROOT |
//! | [`log`] | ogEcho, ogRaiseError, ogHelp |
//! | [`device`], [`disk`], [`fs`] | disks and partitions; numbers ↔ devices; file systems of partitions |
//! | [`cache`] | finding and emptying the CACHE partition |
//! | [`mount`] | mount points, mounting, unmounting |
//! | [`path`] | `REPO /x`, `CACHE /x`, `1 2 /x`, `/x` |
//! | [`lock`] | exclusive use of images, partitions and disks |
//! | [`beside`] | the files that belong to an image |
//! | [`checksum`] | `.sum` and `.full.sum` |
//! | [`necessary`] | whether the cache's copy of an image is the repository's |
//! | [`info`] | descriptions of images: `PARTCLONE:LZOP:NTFS:5642158` |
//! | [`space`] | the space an image will need, and the free space |
//! | [`unicast`], [`multicast`] | sending a file or partition from one PC to others |
//! | [`upkeep`] | checking, cleaning, shrinking and growing a partition's file system |
//! | [`imaging`], [`syntax`] | saving and restoring a partition; command lines that do the same |

use std::cell::OnceCell;

pub mod beside;
pub mod cache;
pub mod checksum;
pub mod device;
pub mod disk;
pub mod env;
pub mod error;
pub mod fs;
pub mod imaging;
pub mod info;
pub mod lock;
pub mod log;
pub mod messages;
pub mod mount;
pub mod multicast;
pub mod necessary;
pub mod path;
pub mod space;
pub mod syntax;
pub mod unicast;
pub mod upkeep;

pub use device::Device;
pub use env::Env;
pub use error::{Code, Error};
pub use log::{Level, Targets};
pub use path::Place;

use messages::Language;

/// The engine for one command.
pub struct Engine {
    name: String,
    env: Env,
    /// The cache's partition, searched for once.
    cache: OnceCell<Option<Device>>,
}

impl Engine {
    /// The engine for the command `name` in the environment of this process.
    pub fn from_env(name: &str) -> Engine {
        Engine::new(name, Env::of_process())
    }

    /// The engine for the command `name` in `env`.
    pub fn new(name: &str, env: Env) -> Engine {
        Engine { name: name.to_owned(), env, cache: OnceCell::new() }
    }

    /// The command's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The variables and paths.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// The text of a `MSG_…` variable: the lab's if exported, else the built-in one for `LANG`.
    pub fn text(&self, variable: &str) -> String {
        let exported = self.env.get(variable);
        if exported.is_empty() {
            messages::text(variable, Language::of(self.env.get("LANG"))).to_owned()
        } else {
            exported.to_owned()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A fresh directory, and an engine whose tree is below it.
    pub fn moved(variables: &[(&str, &str)]) -> (tempfile::TempDir, Engine) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        for tree in ["opt/opengnsys/images", "opt/opengnsys/log", "tmp", "dev", "proc", "var/lock"] {
            std::fs::create_dir_all(dir.path().join(tree)).unwrap();
        }
        std::fs::write(dir.path().join("proc/partitions"), "major minor  #blocks  name\n\n").unwrap();
        let all = std::iter::once(("OGBOX_ROOT", root)).chain(variables.iter().copied());
        let engine = Engine::new("ogTest", Env::new(all.map(|(key, value)| (key.into(), value.into())).collect()));
        (dir, engine)
    }

    #[test]
    fn exported_texts_win_over_those_built_in() {
        let texts = |variables: &[(&str, &str)]| moved(variables).1.text("MSG_ERR_FORMAT");
        assert_eq!(texts(&[]), "Wrong execution format");
        assert_eq!(texts(&[("LANG", "es_ES.UTF-8")]), "Formato de ejecución incorrecto");
        assert_eq!(texts(&[("LANG", "ca_ES")]), "Format d'execució incorrecte");
        assert_eq!(texts(&[("LANG", "es_ES"), ("MSG_ERR_FORMAT", "Formatu okerra")]), "Formatu okerra");
    }
}
