//! Calendar times, local and UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment in the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// With century.
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 60.
    pub second: u8,
}

/// Current time, seconds since 1970, UTC.
pub fn unix_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64)
}

/// Returns the moment `seconds` after the beginning of 1970 in the time zone of this machine (TZ, /etc/localtime).
pub fn local(seconds: i64) -> Calendar {
    let Some(tm) = crate::sys::clock::local(seconds) else { return utc(seconds) };
    Calendar {
        year: i64::from(tm.tm_year) + 1900,
        month: tm.tm_mon as u8 + 1,
        day: tm.tm_mday as u8,
        hour: tm.tm_hour as u8,
        minute: tm.tm_min as u8,
        second: tm.tm_sec as u8,
    }
}

/// Returns the moment `seconds` after the beginning of 1970 in UTC (days to civil date after Howard Hinnant).
pub fn utc(seconds: i64) -> Calendar {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 1 March 0000, so that a leap day ends its year.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    Calendar {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month: month as u8,
        day: (day_of_year - (153 * from_march + 2) / 5 + 1) as u8,
        hour: (second / 3600) as u8,
        minute: (second / 60 % 60) as u8,
        second: (second % 60) as u8,
    }
}

/// Formats the moment as ctime(3) does, `Tue Nov 14 22:13:20 2023`, in the time zone of this machine.
pub fn ctime(seconds: i64) -> String {
    let Calendar { year, month, day, hour, minute, second } = local(seconds);
    let weekday = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"][weekday(year, month, day)];
    let month = "JanFebMarAprMayJunJulAugSepOctNovDec".get(usize::from(month) * 3 - 3..usize::from(month) * 3);
    format!("{weekday} {} {day:2} {hour:02}:{minute:02}:{second:02} {year}", month.unwrap_or("?"))
}

/// Days after Sunday (Tomohiko Sakamoto's congruence); `month` counts from 1.
fn weekday(year: i64, month: u8, day: u8) -> usize {
    let year = year - i64::from(month < 3);
    let shift = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4][usize::from(month) - 1];
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    (year + leaps + shift + i64::from(day)).rem_euclid(7) as usize
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn text(time: Calendar) -> String {
        let Calendar { year, month, day, hour, minute, second } = time;
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }

    #[test]
    fn utc_agrees_with_known_moments() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00"),
            (951_827_696, "2000-02-29 12:34:56"),
            (1_709_251_199, "2024-02-29 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (-1, "1969-12-31 23:59:59"),
        ] {
            assert_eq!(text(utc(seconds)), expected);
        }
    }

    #[test]
    fn local_time_agrees_with_date() {
        let seconds = 1_719_835_200;
        let date = Command::new("date").args(["-d", &format!("@{seconds}"), "+%Y-%m-%d %H:%M:%S"]).output().unwrap();
        assert_eq!(text(local(seconds)), String::from_utf8(date.stdout).unwrap().trim());
    }

    #[test]
    fn ctime_agrees_with_date() {
        // Leap days, a century that has none, the first of March after each, summer and winter.
        for seconds in [0, 951_827_696, 951_912_000, 1_709_251_199, 4_107_542_400, 1_719_835_200, 1_700_000_000, -1] {
            let mut date = Command::new("date");
            date.env("LC_ALL", "C").args(["-d", &format!("@{seconds}"), "+%a %b %e %H:%M:%S %Y"]);
            let date = date.output().unwrap();
            assert_eq!(ctime(seconds), String::from_utf8(date.stdout).unwrap().trim());
        }
    }

    #[test]
    fn no_moment_is_too_far_away() {
        for seconds in [i64::MIN, i64::MIN / 2, i64::MAX / 2, i64::MAX] {
            assert!(ctime(seconds).len() >= 24, "{seconds}");
        }
    }
}
