//! The client's events in the namesake's words.

use std::io;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Instant;

use super::arguments::Run;
use super::info;
use super::status::Teller;
use crate::applets::Io;
use crate::base::shell::{self, Value};
use crate::client::{Event, Evidence, Group, Moment};
use crate::swarm::Leave;
use crate::torrent::{Bitfield, Metainfo};

/// Prints the client's events.
pub struct Face<'a, 'b> {
    options: &'a Run,
    /// Only its list of files is used.
    metainfo: Metainfo,
    target: &'a Path,
    teller: Teller<'a>,
    io: &'a mut Io<'b>,
    /// Whether the line that precedes "Download complete." was printed in this turn.
    summed_up: bool,
    /// The `-X` command, while it runs.
    child: Option<Child>,
}

impl<'a, 'b> Face<'a, 'b> {
    /// Returns a face that reports progress to `teller` and prints everything else to `io`.
    pub fn new(
        options: &'a Run,
        metainfo: &Metainfo,
        target: &'a Path,
        teller: Teller<'a>,
        io: &'a mut Io<'b>,
    ) -> Face<'a, 'b> {
        Face { options, metainfo: metainfo.clone(), target, teller, io, summed_up: false, child: None }
    }

    /// Prints one event.
    ///
    /// # Errors
    /// An output cannot be written, or the `-X` command cannot be started.
    pub fn take(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Creating => writeln!(self.io.out, "Creating file \"{}\"", self.target.display()),
            Event::Looking(evidence) => self.looking(evidence),
            Event::Hashed { done, of } => {
                // A reader that went away is no reason to stop hashing.
                let _ = self.teller.hashed(done, of, self.options.check, self.io);
                Ok(())
            }
            Event::Checked if self.options.check => Ok(()),
            Event::Checked => writeln!(self.io.out, "Checking completed."),
            Event::Absent(error) => {
                writeln!(self.io.err, "{error}")?;
                self.already(&Bitfield::new(self.metainfo.geometry.pieces()))
            }
            Event::Present { have, found } => self.present(have, found),
            Event::Group(group, moment) => self.group(group, moment),
            Event::Listening(address, port) => {
                if let Some(wanted) = self.options.port.filter(|wanted| ![0, port].contains(wanted)) {
                    writeln!(self.io.err, "warn, couldn't bind on specified port {wanted}")?;
                }
                writeln!(self.io.out, "Listening on {address}:{port}")?;
                self.io.out.flush()
            }
            Event::Whole { downloaded, since, leave, moment } => self.whole(downloaded, since, leave, moment),
            Event::Turn(moment) => self.turn(moment),
            Event::Quit(moment) => {
                self.teller.sum_up(if moment.status.whole { "seed" } else { "fetch" }, moment, self.io)?;
                writeln!(self.io.out, "CTCS sent Quit command")
            }
            Event::Ended(moment) => self.teller.sum_up("end", moment, self.io),
        }
    }

    fn looking(&mut self, evidence: Evidence) -> io::Result<()> {
        match evidence {
            Evidence::Nothing if self.options.force => {
                writeln!(self.io.err, "Files were not present; overriding force mode!")?;
            }
            Evidence::Nothing | Evidence::Hash => {}
            Evidence::BitfieldTrusted => {
                writeln!(self.io.out, "Found bit field file; resuming download from previous state.")?;
            }
            Evidence::Trusted => writeln!(
                self.io.out,
                "Skipping hash checks and forcing seed mode.\n\
                 -----> STOP NOW if you have not downloaded the whole torrent! <-----"
            )?,
            Evidence::Bitfield => writeln!(self.io.out, "Found bit field file; verifying previous state.")?,
            Evidence::Journal { known, pieces, doubtful } => writeln!(
                self.io.out,
                "Found journal; {known} of {pieces} pieces are vouched for, {doubtful} to be hashed."
            )?,
        }
        self.io.out.flush()
    }

    fn present(&mut self, have: &Bitfield, found: bool) -> io::Result<()> {
        if found && (self.options.check || !self.options.force) {
            let list = info::files(&self.metainfo, self.options.printable, Some(self.target), Some(have));
            self.io.out.write_all(&list)?;
        }
        if found && self.options.check { self.already(have) } else { Ok(()) }
    }

    /// Prints the line from which scripts read how much is here.
    fn already(&mut self, have: &Bitfield) -> io::Result<()> {
        let (pieces, of) = (have.count(), have.len());
        let percent = u64::from(pieces) * 100 / u64::from(of.max(1));
        writeln!(self.io.out, "Already/Total: {pieces}/{of} ({percent}%)")?;
        self.io.out.flush()
    }

    fn group(&mut self, group: Option<&Group>, moment: Option<&Moment>) -> io::Result<()> {
        if let Some(moment) = moment {
            self.teller.sum_up("fetch", moment, self.io)?;
            self.summed_up = true;
        }
        match group {
            Some(Group { name, pieces, bytes }) => {
                let what = name.as_ref().map_or("remaining files".to_owned(), |name| format!("file(s): {name}"));
                writeln!(self.io.out, "Downloading {what}\nPieces: {} ({bytes} bytes)", pieces.count())?;
            }
            None => writeln!(self.io.out, "End of download files list.")?,
        }
        self.io.out.flush()
    }

    fn whole(&mut self, downloaded: bool, since: Instant, leave: &Leave, moment: &Moment) -> io::Result<()> {
        if downloaded {
            if !self.summed_up {
                self.teller.sum_up("fetch", moment, self.io)?;
            }
            writeln!(self.io.out, "Download complete.")?;
            writeln!(self.io.out, "Total time used: {} minutes.", since.elapsed().as_secs() / 60)?;
        }
        let hours = leave.after.map_or(0.0, |after| after.as_secs_f64() / 3600.0);
        if self.options.leave.is_some() {
            writeln!(self.io.out, "Seed for others until it is time to leave")?;
        } else if !self.options.leech {
            let ratio = leave.ratio.map_or(String::new(), |ratio| format!(" or to ratio of {ratio:.2}"));
            writeln!(self.io.out, "Seed for others {hours} hours{ratio}")?;
        }
        self.io.out.flush()?;
        self.child = self.execute()?;
        self.teller.copy("seed", moment)
    }

    fn turn(&mut self, moment: &Moment) -> io::Result<()> {
        self.summed_up = false;
        self.teller.show(moment, self.io)?;
        if let Some(running) = &mut self.child
            && running.try_wait()?.is_some()
        {
            self.child = None;
        }
        Ok(())
    }

    /// Starts the `-X` command, if there is one. The names in it come from the torrent and the command line: they reach
    /// the shell as words, or in the environment.
    ///
    /// # Errors
    /// The shell cannot be started, or an odd name would stand in single quotes.
    pub fn execute(&self) -> io::Result<Option<Child>> {
        let Some(command) = &self.options.exec else { return Ok(None) };
        let failed = |why: &dyn std::fmt::Display| io::Error::other(format!("run `{command}`: {why}"));
        let (torrent, data) = (self.options.torrent[0].to_string_lossy(), self.target.to_string_lossy());
        let directory = std::env::current_dir()?;
        let directory = directory.to_string_lossy();
        let values = [
            Value { placeholder: "&t", variable: "OGBOX_TORRENT", text: &torrent },
            Value { placeholder: "&d", variable: "OGBOX_DATA", text: &data },
            Value { placeholder: "&w", variable: "OGBOX_DIR", text: &directory },
        ];
        let line = shell::expand(command, &values).map_err(|error| failed(&error))?;
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(line).envs(values.map(|value| (value.variable, value.text)));
        shell.spawn().map(Some).map_err(|error| failed(&error))
    }
}
