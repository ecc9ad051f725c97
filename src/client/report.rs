//! A moment of a download as one line of JSON, for `--json` and between our own programs.

use std::time::Duration;

use nanoserde::SerJson;

use super::event::Moment;

/// A moment of a download.
#[derive(Clone, Debug, Default, PartialEq, SerJson)]
pub struct Report {
    /// `check`, `fetch`, `seed` or `end`.
    pub state: String,
    /// Seconds since the beginning.
    pub seconds: u64,
    /// Verified pieces; while the state is `check`, pieces hashed.
    pub have: u32,
    /// All pieces; while the state is `check`, those to hash.
    pub pieces: u32,
    /// Bytes missing.
    pub left: u64,
    /// Bytes received since the beginning.
    pub downloaded: u64,
    /// Bytes sent since the beginning.
    pub uploaded: u64,
    /// Bytes received a second.
    pub down: u64,
    /// Bytes sent a second.
    pub up: u64,
    /// Connected peers that have everything.
    pub seeds: usize,
    /// Connected peers that lack something.
    pub leechers: usize,
    /// Peers that have everything, as the tracker counts them.
    pub tracker_seeds: Option<u32>,
    /// Peers that lack something, as the tracker counts them.
    pub tracker_leechers: Option<u32>,
    /// Whether the tracker refused the last announce.
    pub refused: bool,
    /// Why the download had to end.
    pub failure: Option<String>,
}

impl Report {
    /// Describes hashing: `done` of `of` pieces after `time`.
    pub fn of_check(done: u32, of: u32, time: Duration) -> Report {
        Report { state: "check".to_owned(), seconds: time.as_secs(), have: done, pieces: of, ..Report::default() }
    }

    /// Describes a torrent of `pieces` pieces at `moment`, `time` after the beginning.
    pub fn of_moment(state: &str, pieces: u32, moment: &Moment, time: Duration) -> Report {
        let Moment { status, announced } = moment;
        Report {
            state: state.to_owned(),
            seconds: time.as_secs(),
            have: status.have,
            pieces,
            left: status.left,
            downloaded: status.totals.downloaded,
            uploaded: status.totals.uploaded,
            down: status.rates.0 as u64,
            up: status.rates.1 as u64,
            seeds: status.peers.0,
            leechers: status.peers.1,
            tracker_seeds: announced.complete,
            tracker_leechers: announced.incomplete,
            refused: announced.refused,
            failure: status.failure.clone(),
        }
    }

    /// Encodes the report as one line with its end.
    pub fn line(&self) -> String {
        format!("{}\n", self.serialize_json())
    }

    /// Returns the state that a line reports; `None` if it is no whole line of ours.
    pub fn state_of(line: &str) -> Option<&str> {
        let (state, rest) = line.strip_prefix("{\"state\":\"")?.split_once('"')?;
        rest.ends_with('}').then_some(state)
    }

    /// Whether a line reports that the tracker refused the last announce. Quotes within a text are escaped.
    pub fn is_refused(line: &str) -> bool {
        line.contains(",\"refused\":true,") || line.contains(",\"refused\":true}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_which_state_it_reports() {
        let full = Report {
            refused: true,
            state: "seed".to_owned(),
            have: 4,
            pieces: 4,
            tracker_seeds: Some(2),
            failure: Some("a \"line\"\nend".to_owned()),
            ..Report::default()
        };
        for (report, state) in [(full, "seed"), (Report::of_check(1, 4, Duration::from_secs(3)), "check")] {
            let line = report.line();
            assert_eq!((line.matches('\n').count(), Report::state_of(line.trim_end())), (1, Some(state)), "{line}");
            assert_eq!(Report::is_refused(&line), report.refused);
            assert_eq!(Report::state_of(&line[..line.len() - 2]), None, "a line that was cut");
        }
        assert_eq!(Report::state_of("Seed for others"), None);
    }
}
