//! When and where to announce: the client's side of BEP 3, 12 and 31 as a pure state machine.
//!
//! It is given the time (milliseconds of any clock that never goes back) and what each announce gave, and it
//! says when the next one is due, to which tracker, with which event. No socket, no clock, no thread: the
//! caller runs it. Trackers are tried in the order of BEP 12; each failed one rests for a time of its own
//! that doubles from 1 s to 60 s, so that a dead first tracker delays nobody for long and a living one is
//! asked again within seconds.

use std::collections::HashSet;
use std::time::Duration;

use super::client::{AnnounceReply, Error, Event};
use crate::base::rng::Rng;

/// Milliseconds of the first rest of a tracker that failed; it doubles with each further failure.
const FIRST_REST: u64 = 1_000;
/// Milliseconds of the longest rest of a tracker that failed.
const LONGEST_REST: u64 = 60_000;
/// Milliseconds between an announce and an early one that asks for more peers; doubles while none come.
const FIRST_EARLY: u64 = 5_000;
/// Milliseconds below which no tracker's interval is believed.
const SHORTEST_INTERVAL: u64 = 5_000;
/// Percent by which intervals and rests are moved, so that a room that started together spreads out.
const JITTER: u64 = 10;

/// One announce to be made now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The tracker's announce URL.
    pub url: String,
    /// The event to tell it.
    pub event: Event,
    /// What the tracker gave as `tracker id`, to be given back.
    pub tracker_id: Option<Vec<u8>>,
}

/// When and where one torrent is announced.
#[derive(Debug)]
pub struct Announcer {
    tiers: Vec<Vec<Tracker>>,
    rng: Rng,
    phase: Phase,
    /// The tracker and the event of the announce that is being made.
    in_flight: Option<(String, Event)>,
    /// `completed` is still to be told.
    completion: bool,
    /// Complete from the start, or told to be since.
    complete: bool,
    /// Time of the next regular announce.
    next_at: u64,
    /// Time of the last announce that succeeded.
    last_success: Option<u64>,
    /// Milliseconds that the last tracker asked to be kept between two announces at least.
    min_interval: u64,
    /// Milliseconds after the last announce at which an early one may be made.
    early: u64,
}

#[derive(Debug)]
struct Tracker {
    url: String,
    tracker_id: Option<Vec<u8>>,
    /// It has been told `started` and has answered.
    started: bool,
    /// It is to be told `started` once more.
    again: bool,
    /// Failures in a row.
    failures: u32,
    /// Not to be asked before this time; `u64::MAX` when it said never.
    rests_until: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// `stopped` is being told, once, to each tracker that knows of us.
    Stopping,
}

impl Announcer {
    /// An announcer that is due at once. `tiers` as in BEP 12 (a torrent without an announce-list has one tier
    /// of one URL); each tier is shuffled, `seed` decides how. `complete`: nothing is missing at the start, so
    /// that `completed` is never told.
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

    /// The time of the next announce; None while one is being made, and when there will be none.
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

    /// The announce to make at `now`, if one is due; [`succeeded`](Self::succeeded) or [`failed`](Self::failed)
    /// must follow before there is another.
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

    /// The announce that was due was answered.
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
        // A completion that came while `started` was under way is told at once.
        self.next_at = if self.completion { now } else { now.saturating_add(self.rng.jitter(interval, JITTER)) };
    }

    /// The announce that was due was refused or not answered: its tracker rests, the next one is due.
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

    /// The caller has too few peers: the next announce is made early, at least 5 s after the last one and not
    /// before the tracker's `min interval`; each further one waits twice as long, up to the interval.
    pub fn want_peers(&mut self) {
        let Some(last) = self.last_success else { return };
        let at = last.saturating_add(self.early.max(self.min_interval));
        if at < self.next_at {
            self.next_at = at;
            self.early = self.early.saturating_mul(2);
        }
    }

    /// Somebody wants the trackers told soon: the next announce is made 5 s after the last one, and not before the
    /// tracker's `min interval`; `anew`: as if we had only just come.
    pub fn hurry(&mut self, anew: bool) {
        if anew {
            self.tiers.iter_mut().flatten().for_each(|tracker| tracker.again = true);
        }
        let soon = self.last_success.map(|last| last.saturating_add(FIRST_EARLY.max(self.min_interval)));
        self.next_at = soon.unwrap_or(self.next_at).min(self.next_at);
    }

    /// The caller has enough peers: the next lack of them is again met after 5 s.
    pub fn has_peers(&mut self) {
        self.early = FIRST_EARLY;
    }

    /// The torrent is complete as of `now`: `completed` is told at once, unless it was complete at the start or
    /// has been told already.
    pub fn completed(&mut self, now: u64) {
        if !std::mem::replace(&mut self.complete, true) {
            self.completion = true;
            self.next_at = self.next_at.min(now);
        }
    }

    /// The session ends: `stopped` is tried once at each tracker that knows of us. An announce that is being
    /// made is forgotten; the caller drops it or waits for it, as it likes.
    pub fn stop(&mut self) {
        self.phase = Phase::Stopping;
        self.in_flight = None;
    }

    /// Stopped, and nothing is left to be told.
    pub fn finished(&self) -> bool {
        self.phase == Phase::Stopping && self.in_flight.is_none() && self.to_be_stopped().is_none()
    }

    fn trackers(&self) -> impl Iterator<Item = &Tracker> {
        self.tiers.iter().flatten()
    }

    /// A tracker that believes us to be there and answered the last time: waiting for one that did not would
    /// only delay the end.
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
