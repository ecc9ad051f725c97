//! The life of one torrent: from the pieces on the disk to all that are wanted, then seeding until it is time to leave.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::choice::{Guide, Selection};
use super::ctcs::{Control, Scene};
use super::error::Error;
use super::event::{Event, Face, Moment, TURN};
use super::hub::{Client, Settings};
use super::keeper::Keeper;
use super::presence::{BitfieldFile, Looker, Trust, with_end};
use crate::base::signal::Signals;
use crate::peer::{Log, Torrent};
use crate::storage::{self, Found, Journal, Storage};
use crate::swarm::{Leave, Standing};
use crate::torrent::{Bitfield, Metainfo};

/// Where a download's verified pieces are journalled, so that little is hashed again after a power cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Journalling {
    /// Nowhere.
    Off,
    /// Beside the data, unless that is a device: nothing tells what happened to a device between two runs.
    Beside,
    /// In this file.
    At(PathBuf),
}

/// A torrent to download and seed.
pub struct Download {
    /// The torrent.
    pub metainfo: Metainfo,
    /// Where the data is or will be: a file, a block device, or the directory of a torrent of many files.
    pub target: PathBuf,
    /// Trackers to announce to (BEP 12).
    pub tiers: Vec<Vec<String>>,
    /// The files that are wanted.
    pub selection: Selection,
    /// How far the traces of an earlier run are believed.
    pub trust: Trust,
    /// Enhanced CTorrent's bitfield file.
    pub bitfield: PathBuf,
    /// Where verified pieces are journalled; pieces that are here on trust alone never are.
    pub journalling: Journalling,
    /// Whether the room on the disk is taken beforehand.
    pub allocate: bool,
    /// When to leave once everything is here.
    pub leave: Leave,
    /// A CTCS server to report to and to obey.
    pub control: Option<Control>,
    /// Ends the download in order.
    pub signals: Signals,
    /// Takes warnings, from any thread.
    pub log: Log,
}

impl Download {
    /// Hashes the data on the disk and writes the bitfield file; creates nothing else. False if a signal ended it.
    ///
    /// # Errors
    /// `face` failed.
    pub fn check(self, face: Face) -> Result<bool, Error> {
        let (metainfo, target) = (&self.metainfo, &self.target);
        let opened = Storage::open_some(metainfo, target);
        let opened = opened.and_then(|some| if some.is_absent() { Storage::open(metainfo, target) } else { Ok(some) });
        let have = match opened {
            Ok(storage) => self.looker(&storage).look_at_all(face)?,
            Err(error) => {
                face(Event::Absent(&error))?;
                Bitfield::new(metainfo.geometry.pieces())
            }
        };
        if self.signals.ending() {
            return Ok(false);
        }
        face(Event::Present { have: &have, found: true })?;
        BitfieldFile::new(self.bitfield).save(&have, &self.log);
        Ok(true)
    }

    /// Downloads the missing pieces and seeds; returns once it is time to leave or a signal ends it.
    ///
    /// # Errors
    /// The data cannot be opened or written, no port is free, `face` failed, or the torrent had to end.
    pub fn run(mut self, settings: Settings, face: Face) -> Result<(), Error> {
        let (storage, found, refusal) = self.open().map_err(Error::Open)?;
        if found == Found::Nothing {
            face(Event::Creating)?;
        }
        let journal = self.journal(&storage).map_err(Error::Data)?;
        // Whoever has everything hashed each time has no use for the journal of what is whole.
        let spent = self.journal_file(&storage).filter(|_| self.trust == Trust::Nothing);
        let bitfield = BitfieldFile::new(std::mem::take(&mut self.bitfield));
        let have = self.looker(&storage).look(found, &bitfield, journal.as_ref(), face)?;
        if self.signals.ending() {
            return Ok(());
        }
        bitfield.forget();
        face(Event::Present { have: &have, found: found == Found::Data })?;
        // Data that may not be written is journalled no more than it is completed.
        let journal = journal.filter(|_| refusal.is_none());
        let lacking = self.selection.lacks(&have);
        if let Some(refusal) = refusal.filter(|_| lacking) {
            return Err(Error::Data(refusal));
        }
        if self.allocate && lacking {
            storage.preallocate(|file| self.selection.is_chosen(file)).map_err(Error::Data)?;
        }
        let mut guide = Guide::new(&self.selection, &self.metainfo.geometry, &have);
        while let Some(group) = guide.next(&have) {
            face(Event::Group(group, None))?;
        }
        let bind = settings.session.bind;
        let client = Client::start(settings).map_err(|error| Error::Listen(bind, error))?;
        face(Event::Listening(bind, client.session().port()))?;
        let torrent = client.session().add_some(self.metainfo, storage, have, &self.selection.pieces());
        let keeper = Keeper::start(journal, &torrent, self.log.clone());
        client.announcing().add(torrent.clone(), self.tiers);
        let (selection, signals) = (&self.selection, &self.signals);
        let running = Running { client: &client, torrent: &torrent, selection, signals, begin: Instant::now() };
        let outcome = running.serve(guide, self.leave, self.control, face);
        let announced = client.announced(&torrent);
        drop(client);
        if let Some(keeper) = keeper {
            keeper.close();
        }
        if let Some(spent) = spent.filter(|_| torrent.have().is_full()) {
            // One that stays is only in the way.
            let _ = std::fs::remove_file(spent);
        }
        bitfield.save(&torrent.have(), &self.log);
        outcome?;
        let moment = Moment { status: torrent.status(), announced };
        face(Event::Ended(&moment))?;
        moment.status.failure.map_or(Ok(()), |why| Err(Error::Failed(why)))
    }

    fn looker<'a>(&'a self, storage: &'a Storage) -> Looker<'a> {
        Looker { metainfo: &self.metainfo, storage, trust: self.trust, signals: &self.signals }
    }

    /// Opens the torrent's files. Data that may not be written can be seeded all the same: then the reason is returned
    /// as well.
    fn open(&self) -> Result<(Storage, Found, Option<storage::Error>), storage::Error> {
        match Storage::create_some(&self.metainfo, &self.target, |file| self.selection.needs(file)) {
            Ok((storage, found)) => Ok((storage, found, None)),
            Err(refusal) if is_read_only(&refusal) => match Storage::open_some(&self.metainfo, &self.target) {
                Ok(storage) => Ok((storage, Found::Data, Some(refusal))),
                Err(_) => Err(refusal),
            },
            Err(error) => Err(error),
        }
    }

    fn journal(&self, storage: &Storage) -> Result<Option<Journal>, storage::Error> {
        let journal = |path| Journal::new(path, &self.metainfo, storage);
        self.journal_file(storage).map(journal).transpose()
    }

    fn journal_file(&self, storage: &Storage) -> Option<PathBuf> {
        match &self.journalling {
            _ if self.trust == Trust::Everything => None,
            Journalling::Off => None,
            Journalling::Beside if storage.has_device() => None,
            Journalling::Beside => Some(with_end(&self.target, Journal::END)),
            Journalling::At(path) => Some(path.clone()),
        }
    }
}

fn is_read_only(error: &storage::Error) -> bool {
    let storage::Error::Io { cause, .. } = error else { return false };
    matches!(cause.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// A torrent that is downloaded or seeded.
struct Running<'a> {
    client: &'a Client,
    torrent: &'a Arc<Torrent>,
    selection: &'a Selection,
    signals: &'a Signals,
    begin: Instant,
}

impl Running<'_> {
    /// Goes on until a signal, a failure, a server's order, or the time to leave.
    fn serve(&self, mut guide: Guide, mut leave: Leave, mut control: Option<Control>, face: Face) -> Result<(), Error> {
        let downloaded = !self.torrent.status().whole;
        let mut whole_since: Option<Instant> = None;
        let mut needed = self.begin;
        while !self.signals.ending() {
            self.torrent.wait_change(TURN);
            let moment = self.moment();
            let status = &moment.status;
            if status.failure.is_some() {
                break;
            }
            if let Some(group) = (!guide.is_over()).then(|| guide.next(&self.torrent.have())).flatten() {
                face(Event::Group(group, Some(&moment)))?;
            }
            if status.whole && guide.is_over() && whole_since.is_none() {
                if let Some(error) = downloaded.then(|| self.torrent.storage().sync().err()).flatten() {
                    self.torrent.fail(error.to_string());
                    break;
                }
                face(Event::Whole { downloaded, since: self.begin, leave: &leave, moment: &moment })?;
                whole_since = Some(Instant::now());
            }
            face(Event::Turn(&moment))?;
            if leave.unneeded.is_some() && self.is_needed(&moment) {
                needed = Instant::now();
            }
            if let Some(control) = &mut control
                && control.turn(&mut self.scene(&moment, whole_since, &mut leave))
            {
                face(Event::Quit(&moment))?;
                break;
            }
            if let Some(since) = whole_since {
                if leave.decide(&self.standing(&moment, since, needed)).is_some() {
                    break;
                }
                // Nothing wakes a seeder: it only looks whether it is time to leave.
                self.signals.sleep(TURN);
            }
        }
        if let Some(control) = control {
            control.close(&self.scene(&self.moment(), whole_since, &mut leave));
        }
        Ok(())
    }

    fn moment(&self) -> Moment {
        Moment { status: self.torrent.status(), announced: self.client.announced(self.torrent) }
    }

    /// Returns the view of a CTCS server.
    fn scene<'a>(&'a self, moment: &'a Moment, whole_since: Option<Instant>, leave: &'a mut Leave) -> Scene<'a> {
        let Running { client, torrent, selection, .. } = *self;
        Scene { client, torrent, selection, moment, whole_since, leave }
    }

    /// Whether a peer is known that lacks something: a connected one, or one that the tracker counts, which is asked
    /// again soon when none is connected. To the tracker every peer that did not choose all files lacks something, we as
    /// well as those that have what we have: then only connected peers count.
    fn is_needed(&self, Moment { status, announced }: &Moment) -> bool {
        let counted = announced.incomplete.is_some_and(|lacking| lacking > 0) && (!status.whole || status.lacks == 0);
        if counted && status.whole && status.peers.1 == 0 {
            self.client.announcing().count_again(self.torrent);
        }
        status.peers.1 > 0 || counted
    }

    fn standing(&self, Moment { status, .. }: &Moment, since: Instant, needed: Instant) -> Standing {
        let length = match status.totals.downloaded {
            0 => self.torrent.metainfo().geometry.length() - status.lacks,
            downloaded => downloaded,
        };
        Standing {
            whole_for: since.elapsed(),
            unneeded_for: needed.elapsed(),
            uploaded: status.totals.uploaded,
            length,
        }
    }
}
