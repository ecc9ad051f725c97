//! Downloading an image of the repository that may be created anew meanwhile: then the new one is fetched by the same
//! call, with those pieces that are equal.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use super::child::{End, Fetching, Seeding};
use super::source::{Renewal, Source, Torrent};
use crate::base::signal::Signals;
use crate::engine::{Engine, Error, Level, Targets};

/// Prepares a download; the number says how many others were begun before.
type Prepare<'a> = dyn Fn(&Torrent, usize, &mut dyn Write) -> Result<(), Error> + 'a;

/// A download by ctorrent as a child process, from the torrent that the name has to the one that it has at the end.
pub struct Pursuit<'a> {
    /// Has the settings and logs.
    pub engine: &'a Engine,
    /// Ends the download in order.
    pub signals: &'a Signals,
    /// Where the name's torrent is looked for; `None` if no other can have the name.
    pub source: Option<Source>,
    /// ctorrent is interrupted once this file has not grown for too long.
    pub data: Option<&'a Path>,
    /// Whether the data is to be seeded in the background once it is complete.
    pub seeds: bool,
    /// Prepares the download of each torrent.
    pub prepare: &'a Prepare<'a>,
    /// Makes the command line, which is the same for each.
    pub command: &'a dyn Fn() -> Command,
}

impl Pursuit<'_> {
    /// Downloads `wanted`, or what has its name by then. Returns the torrent of what was fetched, and its seeder if one
    /// was asked for; `None`: it was interrupted.
    ///
    /// # Errors
    /// Those of `prepare`; [`NotExec`](crate::engine::Code::NotExec): ctorrent cannot be started.
    pub fn run(
        &self,
        mut wanted: Torrent,
        out: &mut (dyn Write + Send),
    ) -> Result<Option<(Torrent, Option<Seeding>)>, Error> {
        for begun in 0.. {
            (self.prepare)(&wanted, begun, out)?;
            let mut renewal = self.source.as_ref().map(|source| Renewal::of(source, &wanted));
            let (engine, signals, data) = (self.engine, self.signals, self.data);
            let mut fetching = Fetching { engine, signals, data, renewal: renewal.as_mut() };
            match fetching.run(&mut (self.command)(), self.seeds, out)? {
                End::Cut => break,
                End::Whole(seeding) if !renewal.as_mut().is_some_and(Renewal::look_at_end) => {
                    return Ok(Some((wanted, seeding)));
                }
                End::Whole(_) | End::Renewed => {}
            }
            let Some(other) = renewal.and_then(|renewal| renewal.found) else { break };
            wanted = other;
            let text = format!("{} was created anew meanwhile: going on with the new one", wanted.name);
            engine.echo(out, Targets::LOG_SESSION, Level::Warning, &text);
        }
        Ok(None)
    }
}
