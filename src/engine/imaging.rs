//! Saving a partition to an image and restoring it, with what OpenGnsys does around that: locks, unmounting, size
//! check, `.info`.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::info::ImageInfo;
use super::{Code, Device, Engine, Error, beside, syntax};
use crate::base::whole;
use crate::image::codec::{self, Input};
use crate::image::restore::{self, restore};
use crate::image::save::{ImageFile, Options, Save};
use crate::image::{self, Watch};

/// A compressor of images.
enum Compressor {
    /// Built in.
    Codec(codec::Codec),
    /// An installed program.
    Program(String),
}

/// Settings for making an image.
pub struct How<'a> {
    /// `partclone`, which is built in, `ntfsclone` or `partimage`.
    pub tool: &'a str,
    /// A compressor's name or OpenGnsys' old number for it.
    pub compressor: &'a str,
    /// Whether an older image is kept as a backup once the new one is complete.
    pub keep: bool,
}

impl Engine {
    /// Saves `device` to the image file `image` (ogCreateImage). Both are locked meanwhile and the partition is
    /// unmounted. `warn` receives what deserves a warning but is not an error.
    ///
    /// # Errors
    /// [`Code::Locked`]: either is in use. [`Code::NotWrite`]: a lock cannot be created. See also
    /// [`Engine::save_locked`].
    pub fn save_image(
        &self,
        device: &Device,
        image: &Path,
        how: &How,
        watch: &Watch,
        warn: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        let _device = self.lock_device(device)?;
        let _image = self.lock_image(image)?;
        self.save_locked(device, image, how, watch, warn)
    }

    /// Does the work of [`Engine::save_image`] for a caller that holds both locks.
    ///
    /// # Errors
    /// [`Code::Partition`]: the partition cannot be unmounted. [`Code::Image`]: anything else; no partial image is left
    /// then, and an older image is untouched.
    pub fn save_locked(
        &self,
        device: &Device,
        image: &Path,
        how: &How,
        watch: &Watch,
        warn: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        self.is_elsewhere(image, device)?;
        self.unmount(device)?;
        if how.tool.eq_ignore_ascii_case("partclone") {
            let compressor = self.compressor(how.compressor)?;
            save(device, image, &compressor, how.keep, watch, warn).map_err(failed)?;
        } else {
            self.save_with_program(device, image, how)?;
        }
        let info = self.image_info(image)?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let path = beside::with(image, ".info");
        // The server makes its list of images from it; the image is complete without it.
        if let Err(error) = whole::write(&path, format!("{info}:{host}\n")) {
            warn(&format!("write {}: {error}", path.display()));
        }
        Ok(())
    }

    /// Checks that `image` is not on `device` itself, where it could be neither written nor read.
    ///
    /// # Errors
    /// [`Code::Image`]: it is.
    pub fn is_elsewhere(&self, image: &Path, device: &Device) -> Result<(), Error> {
        let inside = self.mount_points(device).iter().any(|point| image.starts_with(point));
        let (image, path) = (image.display(), device.path.display());
        self.ensure(
            !inside,
            Code::Image,
            format!("{image} is on {path} itself: use the repository or another partition"),
        )
    }

    /// Restores the image file `image` to `device`, which is locked meanwhile and unmounted. All checksums in the
    /// image are verified.
    ///
    /// # Errors
    /// [`Code::Locked`]: either is in use. See also [`Engine::restore_locked`].
    pub fn restore_image(&self, image: &Path, device: &Device, watch: &Watch) -> Result<(), Error> {
        let info = self.image_for(image, device)?;
        let _device = self.lock_device(device)?;
        self.restore_locked(image, &info, device, watch)
    }

    /// Describes `image` after checking that it can be restored to `device`.
    ///
    /// # Errors
    /// [`Code::NotFound`]: there is no such file. [`Code::Image`]: it is not an image, incomplete, or on the partition
    /// itself. [`Code::ImgSizePartition`]: the partition is too small. [`Code::Locked`]: the image is being written.
    pub fn image_for(&self, image: &Path, device: &Device) -> Result<ImageInfo, Error> {
        let info = self.image_info(image)?;
        let size = device.size()?;
        if info.size > size {
            let (disk, partition) = (device.disk, device.partition.unwrap_or_default());
            let (size, wanted) = (size >> 10, info.size.div_ceil(1024));
            let why = format!("partition {disk} {partition} has {size} KB, the image needs {wanted}");
            return Err(Error::new(Code::ImgSizePartition, why));
        }
        self.is_elsewhere(image, device)?;
        if self.image_is_locked(image) {
            return Err(self.image_locked(image));
        }
        // An interrupted download of ogTorrentStart has the image's name already.
        let begun = beside::with(image, ".torrent.bf");
        let (name, sign) = (image.display(), begun.display());
        let why =
            format!("{name}: its download was interrupted ({sign} exists): updateCache or ogTorrentStart resumes it");
        self.ensure(!begun.exists(), Code::Image, why)?;
        Ok(info)
    }

    /// Does the work of [`Engine::restore_image`] for a caller that holds the partition's lock and got `info` from
    /// [`Engine::image_for`].
    ///
    /// # Errors
    /// [`Code::Image`]: the image is damaged, or the partition failed. [`Code::Partition`]: it cannot be unmounted.
    /// Nothing was written unless the message says so.
    pub fn restore_locked(&self, image: &Path, info: &ImageInfo, device: &Device, watch: &Watch) -> Result<(), Error> {
        self.unmount(device)?;
        if info.program != "PARTCLONE" {
            let line = syntax::restore(
                self,
                &image.to_string_lossy(),
                &device.path.to_string_lossy(),
                info.program,
                &info.compressor,
            )?;
            return self.run_pipeline(&line);
        }
        let mut opened = self.open_image(image)?;
        let input = std::mem::replace(&mut opened.input, Input::new(Box::new(std::io::empty()), ""));
        restore(input, &device.path, &restore::Options::default(), watch).map_err(failed)?;
        if opened.is_sound() {
            return Ok(());
        }
        let why = format!("`{} -dc` failed: {} is damaged", opened.compressor, image.display());
        Err(Error::new(Code::Image, why))
    }

    fn save_with_program(&self, device: &Device, image: &Path, how: &How) -> Result<(), Error> {
        let part = beside::with(image, ".part");
        let from = device.path.to_string_lossy();
        let line = syntax::create(self, &from, &part.to_string_lossy(), how.tool, how.compressor)?;
        let take_name = || {
            let renamed = if how.keep { beside::keep_as_backup(image) } else { Ok(()) };
            let renamed = renamed.and_then(|()| whole::finish(&part, image));
            renamed.map_err(|error| Error::new(Code::Image, format!("rename {}: {error}", part.display())))
        };
        let saved = self.run_pipeline(&line).and_then(|()| take_name());
        if saved.is_err() {
            // The error to report is the first one.
            let _ = beside::remove(&part);
        }
        saved
    }

    /// Runs `line` in bash; every program of its pipeline must succeed.
    ///
    /// # Errors
    /// [`Code::Image`]: bash does not start, or a program failed.
    pub fn run_pipeline(&self, line: &str) -> Result<(), Error> {
        let failed = |why: String| Error::new(Code::Image, format!("{}: {why}", line.trim()));
        let mut bash = Command::new("bash");
        // The line may call ogbox, which need not be in PATH.
        let own = std::env::current_exe().unwrap_or_default();
        let own = own.parent().unwrap_or(Path::new("")).display().to_string();
        bash.env("PATH", format!("{}:{own}", self.env().get("PATH")));
        let status = bash.args(["-o", "pipefail", "-c", line]).stdin(Stdio::null()).status();
        match status.map_err(|error| failed(format!("run bash: {error}")))? {
            status if status.success() => Ok(()),
            status => Err(failed(status.to_string())),
        }
    }

    fn compressor(&self, word: &str) -> Result<Compressor, Error> {
        let (name, level) =
            syntax::compressor(word).ok_or_else(|| Error::new(Code::Image, format!("unknown compressor {word}")))?;
        // As zstd itself does.
        let level =
            level.or_else(|| Some(self.env().get("ZSTD_CLEVEL")).filter(|text| name == "zstd" && !text.is_empty()));
        match codec::named(name) {
            Some(codec) => {
                let codec = level.map_or(Ok(*codec), |level| codec.at(level));
                codec.map(Compressor::Codec).map_err(|why| Error::new(Code::Image, why))
            }
            None if self.has_program(name) => Ok(Compressor::Program(name.to_owned())),
            None => Err(Error::new(Code::Image, format!("{name} is not installed"))),
        }
    }
}

fn failed(error: image::Error) -> Error {
    Error::new(Code::Image, error.to_string())
}

fn save(
    device: &Device,
    image: &Path,
    compressor: &Compressor,
    keep: bool,
    watch: &Watch,
    warn: &mut dyn FnMut(&str),
) -> Result<(), image::Error> {
    // As with partclone's -F: a file system that is not clean is taken as it is.
    let mut save = Save::open(&device.path, &Options { unclean: true, ..Options::default() })?;
    for note in save.notes() {
        warn(note);
    }
    if save.wants_scan() {
        save.scan(&Watch { begin: &|_| {}, ..*watch })?;
    }
    let name = image.display().to_string();
    // A link of that name becomes the backup; what it leads to is not written to.
    let mut file = ImageFile::create_at(image)?;
    match compressor {
        Compressor::Codec(codec) => {
            save.write(file.file(), &name, codec, watch)?;
        }
        Compressor::Program(program) => {
            let through = through(program, file.file())?;
            save_through(&save, through, program, watch)?;
        }
    }
    if keep {
        beside::keep_as_backup(image).map_err(|error| image::Error::io(format!("rename {name}"), error))?;
    }
    file.finish()
}

/// Starts `program -c`, which compresses its standard input into `file`.
fn through(program: &str, file: &mut File) -> Result<std::process::Child, image::Error> {
    let run = |error| image::Error::io(format!("run `{program} -c`"), error);
    let out = file.try_clone().map_err(run)?;
    Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(out).spawn().map_err(run)
}

fn save_through(save: &Save, mut child: std::process::Child, program: &str, watch: &Watch) -> Result<(), image::Error> {
    let none = codec::recognise(&[]);
    let written = match child.stdin.take() {
        Some(mut stdin) => save.write(&mut stdin as &mut (dyn Write + Send), program, none, watch),
        None => Ok(Vec::new()),
    };
    let status = child.wait().map_err(|error| image::Error::io(format!("wait for {program}"), error))?;
    written?;
    if status.success() { Ok(()) } else { Err(image::Error::Refused(format!("{program} ended with {status}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::env::Env;

    #[test]
    fn a_level_comes_with_the_compressors_word_or_for_zstd_from_its_own_variable() {
        let level = |word: &str, variable: &str| {
            let variables = vec![("ZSTD_CLEVEL".to_owned(), variable.to_owned())];
            let engine = Engine::new("ogCreateImage", Env::new(variables));
            match engine.compressor(word) {
                Ok(Compressor::Codec(codec)) => Ok((codec.name, codec.level)),
                Ok(Compressor::Program(name)) => panic!("{name}"),
                Err(error) => Err((error.code, error.detail)),
            }
        };
        assert_eq!(level("zstd", ""), Ok(("zstd", None)));
        assert_eq!(level("ZSTD:9", "3"), Ok(("zstd", Some(9))));
        assert_eq!(level("zstd", "3"), Ok(("zstd", Some(3))));
        assert_eq!(level("gzip", "3"), Ok(("gzip", None)));
        assert_eq!(level("2:6", "3"), Ok(("gzip", Some(6))));
        for (word, variable) in [("zstd:22", ""), ("zstd", "22")] {
            let why = "level 22 of compression zstd is none of 1 to 19".to_owned();
            assert_eq!(level(word, variable), Err((Code::Image, why)));
        }
        assert!(level("zstd:x", "").is_err() && level("lzop:9", "").is_err());
    }

    #[test]
    fn a_line_for_the_shell_has_the_level_as_its_program_takes_it() {
        let engine = Engine::new("ogCreateImageSyntax", Env::new(Vec::new()));
        let line = |compressor| syntax::save(&engine, "/dev/none", "ntfsclone", compressor).map_err(|error| error.code);
        assert!(line("zstd:9").is_ok_and(|line| line.ends_with("| zstd -9 -c ")));
        assert!(line("zstd").is_ok_and(|line| line.ends_with("| zstd -c ")));
        assert_eq!(line("lzop:9"), Err(Code::Format));
        assert_eq!(line("zstd:9; reboot"), Err(Code::Format));
    }
}
