//! Keeps a torrent's journal up to date from a thread of its own: downloads do not wait for the medium.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::base::boundary::guard;
use crate::peer::{Log, Torrent};
use crate::storage::{Failed, Journal};

/// Pause between two records of the journal.
const PAUSE: Duration = Duration::from_secs(3);
/// Time that connections get to end before the journal is closed.
const PARTING: Duration = Duration::from_secs(1);

/// The thread that keeps one torrent's journal.
pub struct Keeper {
    torrent: Arc<Torrent>,
    log: Log,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Option<Journal>>,
}

impl Keeper {
    /// Begins to keep `journal`; `None` when there is nothing to be kept or no thread for it.
    pub fn start(journal: Option<Journal>, torrent: &Arc<Torrent>, log: Log) -> Option<Keeper> {
        // A client that only seeds leaves no file beside the data that was not there.
        let whole = torrent.status().whole;
        let mut journal = journal.filter(|journal| !whole || journal.exists())?;
        if !whole {
            journal.begin();
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (ours, theirs, lines) = (torrent.clone(), stop.clone(), log.clone());
        let keep = move || {
            while !theirs.load(Ordering::Relaxed) {
                let whole = ours.status().whole;
                let have = ours.have();
                // Nothing writes to what is whole: from here on no end, however sudden, costs another look.
                let recorded = guard("keep the journal", || match whole {
                    true => journal.close(ours.storage(), &have),
                    false => journal.record(ours.storage(), &have),
                });
                match recorded {
                    Ok(recorded) if went_well(&recorded, &ours, &lines) => {}
                    Ok(_) => return None,
                    Err(panicked) => {
                        lines(&format!("**error** {panicked}"));
                        return None;
                    }
                }
                thread::park_timeout(PAUSE);
            }
            Some(journal)
        };
        let thread = thread::Builder::new().name("journal".to_owned()).stack_size(128 << 10).spawn(keep).ok()?;
        Some(Keeper { torrent: torrent.clone(), log, stop, thread })
    }

    /// Closes the journal in order, once the torrent's session has ended.
    pub fn close(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        // A thread that panicked has said so already.
        let Ok(Some(mut journal)) = self.thread.join() else { return };
        let step = Duration::from_millis(10);
        for _ in 0..PARTING.as_millis() / step.as_millis() {
            if self.torrent.status().peers == (0, 0) {
                let closed = journal.close(self.torrent.storage(), &self.torrent.have());
                went_well(&closed, &self.torrent, &self.log);
                return;
            }
            thread::sleep(step);
        }
        // A connection may still be writing: what was written is hashed again.
    }
}

fn went_well(done: &Result<(), Failed>, torrent: &Torrent, log: &Log) -> bool {
    match done {
        Ok(()) => {}
        Err(Failed::Data(error)) => torrent.fail(error.to_string()),
        Err(Failed::Journal(error)) => log(&format!("warn, no journal: {error}")),
    }
    done.is_ok()
}
