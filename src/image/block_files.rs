//! Used blocks as a directory of files for BitTorrent, as partclone's `--btfiles` writes it and Clonezilla and EZIO read it:
//! each run of blocks is a file named by its offset on the device, 32 hexadecimal digits, and `torrent.info` lists all of
//! them with the SHA-1 of each 16 MiB of their bytes, one run after the other.
//!
//! `torrent.info` gets its name last: a directory without it is not whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use kernels::lanes::Lanes;

use super::codec::Input;
use super::container::Header;
use super::unpack::{self, Event};
use super::{Error, Watch};
use crate::base::links;
use crate::base::whole::Whole;

/// Name of the list.
const INFO: &str = "torrent.info";
/// Bytes that one SHA-1 covers.
pub const PIECE: u64 = 16 << 20;
/// Bytes that are gathered before they are hashed; a multiple of SHA-1's blocks.
const GATHERED: usize = 64 << 10;

/// The layout of a directory.
#[derive(Clone, Copy)]
pub struct Layout {
    /// Whether the files are written, not only the list.
    pub files: bool,
    /// Most bytes of a run; longer ones are cut. Rounded down to whole blocks.
    pub longest: u64,
    /// Whether files of an earlier directory of this kind may be removed.
    pub overwrite: bool,
}

/// A directory in progress.
pub struct BlockFiles {
    dir: PathBuf,
    files: bool,
    longest: u64,
    info: Whole,
    list: BufWriter<File>,
    run: Option<Run>,
    hash: Lanes,
    /// Bytes gathered for the hash, and all bytes of the current piece.
    gathered: Vec<u8>,
    hashed: u64,
    /// Sums of the pieces that ended in the current run.
    sums: Vec<[u8; 20]>,
}

struct Run {
    start: u64,
    length: u64,
    file: Option<File>,
}

impl BlockFiles {
    /// Makes the directory `dir` for a device of `blocks` blocks.
    ///
    /// # Errors
    /// It is there, and may not be overwritten or holds other files; or it cannot be written to.
    pub fn create(dir: &Path, block_size: u32, blocks: u64, layout: &Layout) -> Result<BlockFiles, Error> {
        let failed = |error| Error::io(format!("make the directory {}", dir.display()), error);
        if links::is_among_nodes(dir).map_err(failed)? {
            return Err(Error::Refused(format!("{} would be among device nodes: nothing was written", dir.display())));
        }
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && layout.overwrite => clear(dir)?,
            // The list of what lies elsewhere may go into a directory that is there.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && !layout.files => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(Error::Refused(format!("directory {} exists: name another, or use -O", dir.display())));
            }
            made => made.map_err(failed)?,
        }
        let mut info = Whole::create(&dir.join(INFO)).map_err(failed)?;
        let mut list = BufWriter::new(info.file().try_clone().map_err(failed)?);
        write!(list, "block_size: {block_size}\nblocks_total: {blocks}\n").map_err(failed)?;
        let block = u64::from(block_size);
        Ok(BlockFiles {
            dir: dir.to_owned(),
            files: layout.files,
            longest: (layout.longest - layout.longest % block).max(block),
            info,
            list,
            run: None,
            hash: Lanes::new(1),
            gathered: Vec::new(),
            hashed: 0,
            sums: Vec::new(),
        })
    }

    /// Adds used bytes at offset `at` of the device; offsets only grow.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn add(&mut self, mut at: u64, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            if self.run.as_ref().is_some_and(|run| run.start + run.length != at || run.length >= self.longest) {
                self.end_run()?;
            }
            let run = match &mut self.run {
                Some(run) => run,
                none => none.insert(Run { start: at, length: 0, file: begin(&self.dir, at, self.files)? }),
            };
            let take = (self.longest - run.length).min(PIECE - self.hashed).min(bytes.len() as u64) as usize;
            let (now, later) = bytes.split_at(take);
            if let Some(file) = &mut run.file {
                file.write_all(now).map_err(|error| failed(&self.dir, error))?;
            }
            run.length += take as u64;
            self.hash(now);
            (at, bytes) = (at + take as u64, later);
        }
        Ok(())
    }

    /// Adds bytes of the current piece.
    fn hash(&mut self, mut bytes: &[u8]) {
        self.hashed += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(GATHERED - self.gathered.len()));
            self.gathered.extend_from_slice(now);
            bytes = later;
            if self.gathered.len() == GATHERED {
                self.hash.update(&[&self.gathered]);
                self.gathered.clear();
            }
        }
        if self.hashed == PIECE {
            self.end_piece();
        }
    }

    fn end_piece(&mut self) {
        let mut sum = [[0; 20]];
        self.hash.finish(&[&self.gathered], &mut sum);
        self.gathered.clear();
        self.hashed = 0;
        self.sums.push(sum[0]);
    }

    fn end_run(&mut self) -> Result<(), Error> {
        let Some(run) = self.run.take() else { return Ok(()) };
        let mut list = || -> io::Result<()> {
            write!(self.list, "offset: {:032x}\nlength: {:032x}\n", run.start, run.length)?;
            for sum in self.sums.drain(..) {
                let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
                writeln!(self.list, "sha1: {hex}")?;
            }
            Ok(())
        };
        list().map_err(|error| failed(&self.dir, error))
    }

    /// Brings everything to the disk, and then the list under its name.
    ///
    /// # Errors
    /// The disk failed.
    pub fn finish(mut self) -> Result<(), Error> {
        if self.hashed > 0 {
            self.end_piece();
        }
        self.end_run()?;
        let keep = || -> io::Result<()> {
            self.list.flush()?;
            // All files at once: there may be hundreds of thousands.
            rustix::fs::syncfs(File::open(&self.dir)?)?;
            self.info.commit().map(drop)
        };
        let dir = self.dir.clone();
        keep().map_err(|error| failed(&dir, error))
    }
}

/// Writes the used blocks of the image `input` to the directory `dir`.
///
/// # Errors
/// The image is damaged or cut short, the directory cannot be written to, or an end was asked for.
pub fn from_image(
    input: Input,
    ignore_checksums: bool,
    dir: &Path,
    layout: &Layout,
    watch: &Watch,
) -> Result<Header, Error> {
    let mut files = None;
    let header = unpack::read(input, ignore_checksums, watch, &mut |header, event| match (event, &mut files) {
        (Event::Begin(_), files) => {
            *files = Some(BlockFiles::create(dir, header.block_size, header.blocks, layout)?);
            Ok(())
        }
        (Event::Blocks(first, bytes), Some(files)) => files.add(first * u64::from(header.block_size), bytes),
        (Event::Blocks(..), None) => Ok(()),
    })?;
    files.map_or(Ok(()), BlockFiles::finish)?;
    Ok(header)
}

/// Creates the file of the run that begins at `at`, if files are written.
fn begin(dir: &Path, at: u64, files: bool) -> Result<Option<File>, Error> {
    let create = || File::create_new(dir.join(format!("{at:032x}")));
    files.then(create).transpose().map_err(|error| failed(dir, error))
}

/// Removes the files of an earlier directory of this kind.
fn clear(dir: &Path) -> Result<(), Error> {
    let read = || -> io::Result<Vec<PathBuf>> { fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect() };
    let found = read().map_err(|error| failed(dir, error))?;
    let ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let part = name.starts_with(&format!(".{INFO}.")) && name.ends_with(".ogbox-part");
        name == INFO || part || name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    if let Some(other) = found.iter().find(|path| !ours(path)) {
        return Err(Error::Refused(format!(
            "{} is no block file, so {} is not overwritten: nothing was written",
            other.display(),
            dir.display()
        )));
    }
    found.iter().try_for_each(fs::remove_file).map_err(|error| failed(dir, error))
}

fn failed(dir: &Path, error: io::Error) -> Error {
    Error::io(format!("write to {}", dir.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::lanes::sha1;

    fn hex(bytes: &[u8]) -> String {
        sha1(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn runs_are_files_and_pieces_go_on_over_them() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("set");
        let long: Vec<u8> = (0..PIECE as usize + 8192).map(|at| (at / 3) as u8).collect();
        let layout = Layout { files: true, longest: PIECE, overwrite: false };
        let mut set = BlockFiles::create(&dir, 4096, 9000, &layout).unwrap();
        set.add(4096, &[1; 4096]).unwrap();
        set.add(8192, &[2; 4096]).unwrap();
        for (at, part) in (0_u64..).step_by(5000).zip(long.chunks(5000)) {
            set.add(65_536 + at, part).unwrap();
        }
        assert!(!dir.join(INFO).exists());
        set.finish().unwrap();
        let name = |at: u64| dir.join(format!("{at:032x}"));
        assert_eq!(fs::read(name(4096)).unwrap(), [[1; 4096], [2; 4096]].concat());
        assert!(fs::read(name(65_536)).unwrap() == long[..PIECE as usize]);
        assert!(fs::read(name(65_536 + PIECE)).unwrap() == long[PIECE as usize..]);
        let all = [vec![1; 4096], vec![2; 4096], long].concat();
        let (first, last) = all.split_at(PIECE as usize);
        let want = format!(
            "block_size: 4096\nblocks_total: 9000\n\
             offset: {:032x}\nlength: {:032x}\noffset: {:032x}\nlength: {:032x}\nsha1: {}\n\
             offset: {:032x}\nlength: {:032x}\nsha1: {}\n",
            4096,
            8192,
            65_536,
            PIECE,
            hex(first),
            65_536 + PIECE,
            8192,
            hex(last)
        );
        assert_eq!(fs::read_to_string(dir.join(INFO)).unwrap(), want);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 4);
    }

    #[test]
    fn a_directory_with_other_files_is_not_overwritten() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("set");
        let layout = |files, overwrite| Layout { files, longest: 1 << 20, overwrite };
        let create = |files, overwrite| BlockFiles::create(&dir, 512, 1, &layout(files, overwrite)).map(|_| ());
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(format!("{:032x}", 512)), "old").unwrap();
        assert!(create(true, false).unwrap_err().to_string().contains("exists"));
        create(false, false).unwrap();
        fs::write(dir.join("letter"), "mine").unwrap();
        assert!(create(true, true).unwrap_err().to_string().contains("letter is no block file"));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
        fs::remove_file(dir.join("letter")).unwrap();
        create(true, true).unwrap();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    }
}
