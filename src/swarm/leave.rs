//! The time at which a peer that has everything may leave.

use std::time::Duration;

/// The conditions under which to leave; the first that is met decides. Without any, the peer stays.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Leave {
    /// After this long as a seeder.
    pub after: Option<Duration>,
    /// At this ratio of bytes uploaded to the torrent's length.
    pub ratio: Option<f64>,
    /// When no peer that lacks anything was seen for this long.
    pub unneeded: Option<Duration>,
}

/// Why it is time to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The time is over.
    Time,
    /// The ratio is reached.
    Ratio,
    /// Nobody needs anything.
    Unneeded,
}

/// The state that the decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Time for which everything has been here.
    pub whole_for: Duration,
    /// Time since a peer that lacks something was last connected or reported by the tracker.
    pub unneeded_for: Duration,
    /// Bytes uploaded.
    pub uploaded: u64,
    /// The torrent's length, bytes.
    pub length: u64,
}

impl Leave {
    /// Whether a seeder in this state leaves, and why.
    pub fn decide(&self, standing: &Standing) -> Option<Reason> {
        let ratio = standing.uploaded as f64 / standing.length.max(1) as f64;
        if self.after.is_some_and(|after| standing.whole_for >= after) {
            Some(Reason::Time)
        } else if self.ratio.is_some_and(|least| ratio >= least) {
            Some(Reason::Ratio)
        } else if self.unneeded.is_some_and(|after| standing.unneeded_for >= after && standing.whole_for >= after) {
            Some(Reason::Unneeded)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANDING: Standing = Standing {
        whole_for: Duration::from_secs(60),
        unneeded_for: Duration::from_secs(5),
        uploaded: 150,
        length: 100,
    };

    #[test]
    fn without_conditions_it_stays() {
        assert_eq!(Leave::default().decide(&STANDING), None);
    }

    #[test]
    fn each_condition_is_enough_by_itself() {
        let after = Leave { after: Some(Duration::from_secs(60)), ..Leave::default() };
        let ratio = Leave { ratio: Some(1.5), ..Leave::default() };
        let unneeded = Leave { unneeded: Some(Duration::from_secs(5)), ..Leave::default() };
        assert_eq!(after.decide(&STANDING), Some(Reason::Time));
        assert_eq!(ratio.decide(&STANDING), Some(Reason::Ratio));
        assert_eq!(unneeded.decide(&STANDING), Some(Reason::Unneeded));
        assert_eq!(unneeded.decide(&Standing { unneeded_for: Duration::from_secs(4), ..STANDING }), None);
    }
}
