//! `--leave`: when a client that has everything leaves.

use std::time::Duration;

use crate::base::decimal;
use crate::swarm::Leave;

/// Hours that `-e` stands for when it is not given.
const HOURS: f64 = 72.0;
/// How long no peer that lacks anything must have been seen, for `unneeded` without a TIME.
const UNNEEDED: Duration = Duration::from_secs(60);

/// Reads `never`, or conditions with commas between them: `TIME`, `RATIOx`, `unneeded`, `unneeded=TIME`. A time is in
/// seconds, or ends in one of the units s, m, h.
pub fn parse(text: &str) -> Result<Leave, String> {
    let mut leave = Leave::default();
    if text == "never" {
        return Ok(leave);
    }
    for word in text.split(',') {
        if word == "unneeded" {
            leave.unneeded = Some(UNNEEDED);
        } else if let Some(time) = word.strip_prefix("unneeded=") {
            leave.unneeded = Some(duration(time)?);
        } else if let Some(ratio) = word.strip_suffix('x') {
            leave.ratio = Some(positive(ratio)?);
        } else {
            leave.after = Some(duration(word)?);
        }
    }
    Ok(leave)
}

fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1.0),
        Some((at, 'm')) => (&text[..at], 60.0),
        Some((at, 'h')) => (&text[..at], 3600.0),
        _ => (text, 1.0),
    };
    Ok(Duration::try_from_secs_f64(positive(digits)? * unit).unwrap_or(Duration::MAX))
}

fn positive(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is neither never nor unneeded, nor a time (90, 90s, 15m, 2h), nor a ratio (1.5x)");
    decimal::read(text).ok_or_else(wrong)
}

/// Returns when to leave: as `--leave` says, else after `hours` (`-e`) and at `ratio` (`-E`, 0: none); a client that
/// only leeches has nothing to stay for.
pub fn conditions(leave: Option<Leave>, hours: Option<f64>, ratio: f64, leech: bool) -> Leave {
    if let Some(leave) = leave {
        return leave;
    }
    let hours = match hours {
        None if leech => 0.0,
        hours => hours.unwrap_or(HOURS),
    };
    Leave {
        after: (hours > 0.0 || ratio == 0.0)
            .then(|| Duration::try_from_secs_f64(hours * 3600.0).unwrap_or(Duration::MAX)),
        ratio: (ratio > 0.0).then_some(ratio),
        unneeded: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_times_ratios_and_not_being_needed() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(parse("never"), Ok(Leave::default()));
        assert_eq!(parse("90"), Ok(Leave { after: seconds(90), ..Leave::default() }));
        assert_eq!(parse("1.5m"), parse("90s"));
        assert_eq!(parse("unneeded"), Ok(Leave { unneeded: Some(UNNEEDED), ..Leave::default() }));
        assert_eq!(
            parse("2h,1.5x,unneeded=0"),
            Ok(Leave { after: seconds(7200), ratio: Some(1.5), unneeded: seconds(0) })
        );
    }

    #[test]
    fn anything_else_is_refused() {
        for wrong in ["", "always", "never,5", "-5", "5d", "x", "1,,2", "unneeded=", "1e99", "nan", "infx", "5é"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
