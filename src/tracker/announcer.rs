//! When and where to announce: the client's side of BEP 3, 12 and 31 as a pure state machine.
//!
//! It takes the time (milliseconds of any monotonic clock) and the outcome of each announce, and says when the next
//! one is due, to which tracker, with which event. No socket, no clock, no thread: the caller runs it. Trackers are
//! tried in the order of BEP 12. A failed one rests for a time that doubles from 1 s to 60 s, so that a dead first
//! tracker delays no announce for long and one that comes back is asked again within seconds.

use std::collections::HashSet;
use std::time::Duration;

use super::client::{AnnounceReply, Error, Event};
use crate::base::rng::Rng;

/// First rest of a failed tracker, milliseconds; doubles with each further failure.
const FIRST_REST: u64 = 1_000;
/// Longest rest of a failed tracker, milliseconds.
const LONGEST_REST: u64 = 60_000;
/// Time from an announce to an early one that asks for more peers, milliseconds; doubles while none come.
const FIRST_EARLY: u64 = 5_000;
/// Shortest interval accepted from a tracker, milliseconds.
const SHORTEST_INTERVAL: u64 = 5_000;
/// Jitter of intervals and rests in percent, so that a room that started together spreads out.
const JITTER: u64 = 10;

/// An announce to make now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The tracker's announce URL.
    pub url: String,
    /// The event to report.
    pub event: Event,
    /// The `tracker id` of an earlier reply, to be returned.
    pub tracker_id: Option<Vec<u8>>,
}

/// When and where one torrent is announced.
#[derive(Debug)]
pub struct Announcer {
    tiers: Vec<Vec<Tracker>>,
    rng: Rng,
    phase: Phase,
    /// The tracker and the event of the announce under way.
    in_flight: Option<(String, Event)>,
    /// Whether `completed` is still to be announced.
    completion: bool,
    /// Whether the torrent is complete.
    complete: bool,
    /// Time of the next regular announce.
    next_at: u64,
    /// Time of the last announce that succeeded.
    last_success: Option<u64>,
    /// The last reply's `min interval`, milliseconds.
    min_interval: u64,
    /// Milliseconds after the last announce at which an early one may be made.
    early: u64,
}

#[derive(Debug)]
struct Tracker {
    url: String,
    tracker_id: Option<Vec<u8>>,
    /// Whether it has answered `started`.
    started: bool,
    /// Whether to announce `started` once more.
    again: bool,
    /// Failures in a row.
    failures: u32,
    /// Time before which it is not asked; `u64::MAX` if it said never (BEP 31).
    rests_until: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// `stopped` is announced once to each tracker that knows of us.
    Stopping,
}

impl Announcer {
    /// An announcer that is due at once. `tiers` as in BEP 12 (a torrent without an announce-list has one tier of one
    /// URL); each tier is shuffled by `seed`. If `complete` from the start, `completed` is never announced.
    pub fn new(tiers: Vec<Vec<String>>, seed: u64, complete: bool) -> Announcer {
        let mut rng = Rng::new(seed);
        let mut seen = HashSet::new();
        let tiers = tiers
            .into_iter()
            .map(|mut tier| {
                rng.shuffle(&mut tier);
                tier.into_iter().filter(|url| seen.insert(url.clone())).map(Tracker::new).collect()
            })
            .collect();
        Announcer {
            tiers,
            rng,
            phase: Phase::Running,
            in_flight: None,
            completion: false,
            complete,
            next_at: 0,
            last_success: None,
            min_interval: 0,
            early: FIRST_EARLY,
        }
    }

    /// The time of the next announce; `None` while one is under way, and if there will be none.
    pub fn next(&self) -> Option<u64> {
        if self.in_flight.is_some() {
            return None;
        }
        match self.phase {
            Phase::Running => {
                let rested = self.trackers().map(|tracker| tracker.rests_until).min()?;
                (rested != u64::MAX).then(|| self.next_at.max(rested))
            }
            Phase::Stopping => self.to_be_stopped().map(|_| 0),
        }
    }

    /// The announce to make at `now`, if one is due. [`succeeded`](Self::succeeded) or [`failed`](Self::failed) must be
    /// called before there is another.
    pub fn due(&mut self, now: u64) -> Option<Announce> {
        if self.next()? > now {
            return None;
        }
        let tracker = match self.phase {
            Phase::Running => self.trackers().find(|tracker| tracker.rests_until <= now)?,
            Phase::Stopping => self.to_be_stopped()?,
        };
        let event = match self.phase {
            Phase::Stopping => Event::Stopped,
            Phase::Running if !tracker.started || tracker.again => Event::Started,
            Phase::Running if self.completion => Event::Completed,
            Phase::Running => Event::None,
        };
        let announce = Announce { url: tracker.url.clone(), event, tracker_id: tracker.tracker_id.clone() };
        self.in_flight = Some((announce.url.clone(), event));
        Some(announce)
    }

    /// Records the answer to the announce under way.
    pub fn succeeded(&mut self, now: u64, reply: &AnnounceReply) {
        let Some((url, event)) = self.in_flight.take() else { return };
        let Some((tier, at)) = self.find(&url) else { return };
        // BEP 12: the tracker that works moves to the front of its tier.
        self.tiers[tier][..=at].rotate_right(1);
        let tracker = &mut self.tiers[tier][0];
        tracker.failures = 0;
        tracker.rests_until = 0;
        tracker.started = event != Event::Stopped;
        tracker.again &= event != Event::Started;
        if let Some(id) = &reply.tracker_id {
            tracker.tracker_id = Some(id.clone());
        }
        if event == Event::Completed {
            self.completion = false;
        }
        self.last_success = Some(now);
        self.min_interval = reply.min_interval.map_or(0, milliseconds);
        let interval = milliseconds(reply.interval).max(SHORTEST_INTERVAL);
        self.early = self.early.min(interval);
        // A completion that came while `started` was under way is announced at once.
        self.next_at = if self.completion { now } else { now.saturating_add(self.rng.jitter(interval, JITTER)) };
    }

    /// Records that the announce under way was refused or not answered: its tracker rests, the next one is due.
    pub fn failed(&mut self, now: u64, error: &Error) {
        let Some((url, event)) = self.in_flight.take() else { return };
        let Some((tier, at)) = self.find(&url) else { return };
        let tracker = &mut self.tiers[tier][at];
        if event == Event::Stopped {
            tracker.started = false;
            return;
        }
        tracker.failures = tracker.failures.saturating_add(1);
        let rest = match error {
            Error::Refused { retry_in: Some(wait), .. } => milliseconds(*wait),
            _ => {
                let rest = FIRST_REST.saturating_mul(1 << (tracker.failures - 1).min(6)).min(LONGEST_REST);
                self.rng.jitter(rest, JITTER)
            }
        };
        tracker.rests_until = now.saturating_add(rest);
        self.next_at = now;
    }

    /// Makes the next announce early because the caller has too few peers: at least 5 s after the last one and not
    /// before the tracker's `min interval`. Each further early one waits twice as long, up to the interval.
    pub fn want_peers(&mut self) {
        let Some(last) = self.last_success else { return };
        let at = last.saturating_add(self.early.max(self.min_interval));
        if at < self.next_at {
            self.next_at = at;
            self.early = self.early.saturating_mul(2);
        }
    }

    /// Makes the next announce soon, as the user asked: 5 s after the last one, and not before the tracker's
    /// `min interval`. With `anew` all trackers get `started` again.
    pub fn hurry(&mut self, anew: bool) {
        if anew {
            self.tiers.iter_mut().flatten().for_each(|tracker| tracker.again = true);
        }
        let soon = self.last_success.map(|last| last.saturating_add(FIRST_EARLY.max(self.min_interval)));
        self.next_at = soon.unwrap_or(self.next_at).min(self.next_at);
    }

    /// Records that the caller has enough peers: the next lack of peers again leads to an announce after 5 s.
    pub fn has_peers(&mut self) {
        self.early = FIRST_EARLY;
    }

    /// Records that the torrent is complete as of `now`. `completed` is announced at once, unless the torrent was
    /// complete already.
    pub fn completed(&mut self, now: u64) {
        if !std::mem::replace(&mut self.complete, true) {
            self.completion = true;
            self.next_at = self.next_at.min(now);
        }
    }

    /// Ends the session: `stopped` is tried once at each tracker that knows of us. An announce under way is forgotten;
    /// the caller may drop it or wait for it.
    pub fn stop(&mut self) {
        self.phase = Phase::Stopping;
        self.in_flight = None;
    }

    /// Whether the session has ended and no announce is left to make.
    pub fn finished(&self) -> bool {
        self.phase == Phase::Stopping && self.in_flight.is_none() && self.to_be_stopped().is_none()
    }

    fn trackers(&self) -> impl Iterator<Item = &Tracker> {
        self.tiers.iter().flatten()
    }

    /// A tracker that lists us and answered the last time; waiting for one that did not would only delay the end.
    fn to_be_stopped(&self) -> Option<&Tracker> {
        self.trackers().find(|tracker| tracker.started && tracker.failures == 0)
    }

    fn find(&self, url: &str) -> Option<(usize, usize)> {
        self.tiers
            .iter()
            .enumerate()
            .find_map(|(tier, trackers)| trackers.iter().position(|tracker| tracker.url == url).map(|at| (tier, at)))
    }
}

impl Tracker {
    fn new(url: String) -> Tracker {
        Tracker { url, tracker_id: None, started: false, again: false, failures: 0, rests_until: 0 }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
