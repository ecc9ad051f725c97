//! Joins the repository to the client: opens, verifies, seeds and drops torrents as the catalogue decides.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::super::Failure;
use super::report::{Report, Row};
use crate::base::leftover;
use crate::base::stamp::Stamp;
use crate::client::Client;
use crate::peer::Torrent;
use crate::repository::{
    self, Admission, Catalogue, Image, Lack, Memory, Opened, Sight, State, Step, Worker, attempt, make,
};
use crate::sys::priority::be_idle;
use crate::sys::watch::Watch;
use crate::torrent::InfoHash;

/// Pause of an idle loop.
const TICK: Duration = Duration::from_millis(50);
/// Least time between two looks at the directory, however much changes there.
const LOOK: Duration = Duration::from_millis(250);
/// Time between two looks for a directory that is missing.
const MISSING: Duration = Duration::from_secs(1);
/// Time between two writes of the memory of verified data.
const SAVE: Duration = Duration::from_secs(2);

/// A worker's result.
enum Done {
    Opened(Sight, Result<Opened, String>),
    Verified(Sight, Opened, Result<(), String>),
    Made(Image, Result<Option<(InfoHash, Stamp)>, String>),
}

/// The seeder of one directory.
pub struct Seeder<'a> {
    client: &'a Client,
    report: &'a Report,
    memory: Memory,
    directory: PathBuf,
    /// Tracker of the torrents to make; `None`: make none.
    announce: Option<String>,
    catalogue: Catalogue,
    seeded: Vec<(PathBuf, Arc<Torrent>)>,
    images: Vec<Image>,
    watch: Option<Watch>,
    /// Whether the directory has changed since the last look.
    told: bool,
    /// Whether the directory was missing at the last look.
    missing: bool,
    looked: Instant,
    saved: Instant,
    opening: Worker<Done>,
    verifying: Worker<Done>,
    making: Worker<Done>,
    ending: Arc<AtomicBool>,
}

impl<'a> Seeder<'a> {
    /// Returns a seeder that has not looked at `directory` yet. With `announce` it makes the torrents that images lack,
    /// for that tracker.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn new(
        client: &'a Client,
        report: &'a Report,
        memory: Memory,
        directory: PathBuf,
        announce: Option<String>,
    ) -> Result<Seeder<'a>, Failure> {
        let unwatched = |error| report.say(&format!("**warning** directories are not watched: {error}"));
        Ok(Seeder {
            client,
            report,
            memory,
            directory,
            announce,
            catalogue: Catalogue::default(),
            seeded: Vec::new(),
            images: Vec::new(),
            watch: Watch::new(true).map_err(unwatched).ok(),
            told: false,
            missing: false,
            looked: Instant::now(),
            saved: Instant::now(),
            opening: Worker::start("open", || {})?,
            verifying: Worker::start("verify", || {})?,
            making: Worker::start("make", be_idle)?,
            ending: Arc::default(),
        })
    }

    /// Looks at the directory for the first time.
    pub fn first_look(&mut self) {
        let seen = repository::look(&self.directory);
        leftover::below(&seen.tree.directories, self.announce.is_some(), &|line| self.report.say(line));
        if self.announce.is_some() {
            seen.images.iter().filter(|image| image.locked).for_each(|image| make::break_stale_lock(&image.path));
        }
        self.look();
    }

    /// Waits a moment, then takes one turn. `rescan`: time after which to look at the directory unasked; `dump`: report
    /// everything.
    pub fn turn(&mut self, rescan: Duration, dump: bool) {
        match &mut self.watch {
            Some(watch) => self.told |= watch.wait(TICK),
            None => thread::sleep(TICK),
        }
        let since = self.looked.elapsed();
        let overdue = since >= rescan;
        // The return of a missing directory is not reported.
        self.told |= self.missing && since >= MISSING;
        if overdue {
            self.catalogue.try_again();
        }
        let waits = self.announce.is_some() && self.catalogue.waits(&self.images);
        if overdue || (since >= LOOK && (self.told || self.drop_failed() || waits)) {
            self.look();
        } else if self.told {
            // More of the same is coming.
            thread::sleep(LOOK.saturating_sub(since).min(TICK));
        }
        let mut done = self.opening.done();
        done.extend(self.verifying.done());
        done.extend(self.making.done());
        done.into_iter().for_each(|done| self.take_in(done));
        if self.saved.elapsed() >= SAVE {
            self.save();
        }
        if dump || self.report.is_due() {
            self.report.show(&self.rows(), dump);
        }
    }

    /// Reports the bytes sent, and saves the memory of verified data.
    pub fn end(mut self) {
        self.ending.store(true, Ordering::Relaxed);
        self.report.say("shutting down");
        for (path, torrent) in &self.seeded {
            self.tell_sent(path, torrent);
        }
        self.save();
        // A torrent in the making holds its image's lock: it is told to stop, and waited for.
        let patience = Instant::now();
        while self.making.is_busy() && self.making.done().is_empty() && patience.elapsed() < Duration::from_secs(5) {
            thread::sleep(TICK);
        }
    }

    fn look(&mut self) {
        loop {
            (self.looked, self.told) = (Instant::now(), false);
            let look = repository::look(&self.directory);
            let tree = look.tree;
            for step in self.catalogue.look(look.torrents, &|path| tree.is_unknown(path)) {
                match step {
                    Step::Drop(path) => self.drop_torrent(&path),
                    Step::Open(sight) => self.opening.push(move || {
                        let opened = attempt("open it", || repository::open(&sight));
                        Done::Opened(sight, opened)
                    }),
                }
            }
            self.images = look.images;
            self.missing = tree.directories.is_empty();
            // Another look finds what came into a directory before it was watched.
            if !self.watch.as_mut().is_some_and(|watch| watch.only(&tree.directories)) {
                break;
            }
        }
        self.make_next();
    }

    fn take_in(&mut self, done: Done) {
        match done {
            Done::Opened(sight, Ok(opened)) => {
                if self.announce.is_some() && !opened.metainfo.multi_file && !is_named_so(&opened, &sight) {
                    return self.refuse(&sight, &format!("it is for {}, another name", opened.metainfo.name));
                }
                if self.memory.knows(&opened.metainfo.info_hash, &opened.storage.stamps()) {
                    return self.seed(&sight, opened);
                }
                self.verifying.push(move || {
                    let verified = attempt("verify it", || repository::verify(&opened));
                    Done::Verified(sight, opened, verified)
                });
            }
            Done::Verified(sight, opened, Ok(())) => {
                self.memory.learn(opened.metainfo.info_hash, opened.storage.stamps());
                self.seed(&sight, opened);
            }
            Done::Opened(sight, Err(why)) | Done::Verified(sight, _, Err(why)) => self.refuse(&sight, &why),
            Done::Made(image, made) => {
                match made {
                    Ok(Some((hash, stamp))) => {
                        self.memory.learn(hash, vec![stamp]);
                        self.report.say(&format!("created \"{}.torrent\"", image.path.display()));
                    }
                    Ok(None) => self.report.say(&format!("summed \"{}\"", image.path.display())),
                    Err(why) => {
                        self.report.say(&format!("**warning** describe {}: {why}", image.path.display()));
                        self.catalogue.give_up(&image);
                    }
                }
                self.told = true;
            }
        }
    }

    fn seed(&mut self, sight: &Sight, opened: Opened) {
        let Opened { metainfo, storage } = opened;
        match self.catalogue.seed(sight, metainfo.info_hash) {
            Admission::Stale => {}
            Admission::Duplicate(first) => {
                let (path, first) = (sight.path.display(), first.display());
                self.report.say(&format!("**warning** {path} is a duplicate torrent for {first}"));
            }
            Admission::Seed => {
                self.seeded.push((sight.path.clone(), self.client.seed(metainfo, storage)));
                self.report.say(&format!("added \"{}\"", sight.path.display()));
            }
        }
    }

    fn refuse(&mut self, sight: &Sight, why: &str) {
        if self.catalogue.refuse(sight) {
            self.report.say(&format!("**warning** {} is not seeded: {why}", sight.path.display()));
        }
        self.make_next();
    }

    fn drop_torrent(&mut self, path: &Path) {
        let Some(at) = self.seeded.iter().position(|(known, _)| known == path) else { return };
        let (path, torrent) = self.seeded.remove(at);
        self.client.remove(&torrent);
        self.tell_sent(&path, &torrent);
        self.report.say(&format!("dropped \"{}\"", path.display()));
    }

    /// Drops torrents whose data could not be read as it was verified. True if there was one.
    fn drop_failed(&mut self) -> bool {
        let failed = self.seeded.iter().filter(|(_, torrent)| torrent.status().failure.is_some());
        let failed: Vec<PathBuf> = failed.map(|(path, _)| path.clone()).collect();
        for path in &failed {
            self.drop_torrent(path);
            self.catalogue.forget(path);
        }
        !failed.is_empty()
    }

    /// Starts to make what the next image lacks, unless something is being made already.
    fn make_next(&mut self) {
        let Some(announce) = self.announce.clone() else { return };
        if self.making.is_busy() {
            return;
        }
        // An image that is still being written is looked at again when it is closed.
        let next = self.catalogue.next_lack(&self.images, &|image| !make::is_unfinished(&image.path));
        let Some((image, lack)) = next.map(|(image, lack)| (image.clone(), lack)) else { return };
        let ending = self.ending.clone();
        self.making.push(move || {
            let stop = || ending.load(Ordering::Relaxed);
            let made = attempt("make it", || match lack {
                Lack::Sums => make::make_sums(&image.path, &stop).map(|_| None),
                Lack::Everything => make::make(&image.path, &announce, &stop).map(Some),
            });
            Done::Made(image, made)
        });
    }

    fn tell_sent(&self, path: &Path, torrent: &Torrent) {
        self.report.say(&format!("{}: uploaded {} bytes", path.display(), torrent.status().totals.uploaded));
    }

    fn save(&mut self) {
        self.saved = Instant::now();
        if let Err(error) = self.memory.save() {
            self.report.say(&format!("**warning** remember what was verified: {error}"));
        }
    }

    fn rows(&self) -> Vec<Row> {
        let row = |(path, state): (&Path, State)| {
            let mut row = Row::new(path, state);
            if let Some((_, torrent)) = self.seeded.iter().find(|(seeded, _)| seeded == path) {
                let status = torrent.status();
                row.seeds = status.peers.0;
                row.peers = status.peers.1;
                row.rate = status.rates.1 as u64;
                row.uploaded = status.totals.uploaded;
            }
            row
        };
        self.catalogue.states().map(row).collect()
    }
}

/// Whether the torrent's name is that of its data's file.
fn is_named_so(opened: &Opened, sight: &Sight) -> bool {
    sight.data_path().file_name().is_some_and(|name| name.to_string_lossy() == opened.metainfo.name)
}
