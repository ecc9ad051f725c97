//! The settings that a server sees, under the namesake's names, and which of them it may change.
//!
//! Each is told as it is now. What only the command line decides here (memory, outputs) is refused when a server would
//! change it, and so is the command to run at the end: whoever is at the other end of a plain connection runs nothing.

use std::time::Duration;

use super::Scene;
use super::message::{Kind, setting};
use crate::applets::ctorrent::{number, run, whole};

/// Bounds of the numbers of peers.
const MOST: (u64, u64) = (20, 1000);
const LEAST: (u64, u64) = (1, 1000);
const TEXTS: [(&str, &str, &str); 5] = [
    ("out_normal", "stdout", "Normal/status output"),
    ("out_interact", "stdout", "Interactive output"),
    ("out_error", "stderr", "Error/warning output"),
    ("out_debug", "stderr", "Debug/verbose output"),
    ("input", "off", "Console input"),
];

/// A CTCONFIG line for each setting; `server` is where we are connected to.
pub fn list(scene: &Scene, server: &str) -> Vec<String> {
    let options = scene.options;
    let hours = |time: Duration| time.as_secs_f64() / 3600.0;
    let (time, limit) = match (scene.leave.after, scene.whole_since) {
        (None, _) => ("0".to_owned(), "no limit".to_owned()),
        (Some(after), None) => (short(hours(after)), remaining(hours(after))),
        (Some(after), Some(since)) => {
            (format!("{:.2}", hours(after.saturating_sub(since.elapsed()))), remaining(hours(after)))
        }
    };
    let ratio = format!("{:.2}", scene.leave.ratio.unwrap_or(0.0));
    let peers = format!("Current peers: {}", scene.status.peers.0 + scene.status.peers.1);
    let (most, least) = (scene.torrent.max_peers().to_string(), scene.announcing.wanted().to_string());
    let memory = run::memory(options).to_string();
    let paused = if scene.torrent.is_paused() { "1" } else { "0" };
    let between = |(least, most)| Kind::Between(least, most);
    let mut lines = vec![
        setting("verbose", Kind::Switch, "0", "Verbose output [-v]", "Disabled"),
        setting("seed_time", Kind::Number, &time, "Seed time [-e]", &limit),
        setting("seed_ratio", Kind::Number, &ratio, "Seed ratio [-E]", "Upload:Download"),
        setting("max_peers", between(MOST), &most, "Max peers [-M]", &peers),
        setting("min_peers", between(LEAST), &least, "Min peers [-m]", &peers),
    ];
    if !scene.status.whole {
        let list = options.files.as_deref().unwrap_or("");
        lines.push(setting("file_list", Kind::Text, list, "Download files [-n]", ""));
    }
    lines.push(setting("cache", Kind::Whole, &memory, "Cache size [-C]", "MB; 0KB now in use"));
    lines.push(setting("pause", Kind::Switch, paused, "Pause torrent", "Stop upload/download"));
    if !scene.status.whole {
        let command = options.exec.as_deref().unwrap_or("");
        lines.push(setting("user_exit", Kind::Text, command, "Completion command [-X]", ""));
    }
    lines.extend(TEXTS.iter().map(|(name, value, what)| setting(name, Kind::Text, value, what, "")));
    lines.push(setting("ctcs_server", Kind::Text, server, "CTCS server", ""));
    lines
}

fn remaining(hours: f64) -> String {
    format!("~hours remaining (-e {})", short(hours))
}

/// Hours as the command line has them.
fn short(hours: f64) -> String {
    if hours.fract() < 0.005 { format!("{hours:.0}") } else { format!("{hours:.2}") }
}

/// Gives the setting `name` a new value.
///
/// # Errors
/// Why not; none when the value is none of it.
pub fn change(scene: &mut Scene, name: &str, value: &str) -> Result<(), Option<String>> {
    let between = |(least, most)| {
        let number = whole(value).map_err(|_| None)?;
        if (least..=most).contains(&number) { Ok(number) } else { Err(None) }
    };
    match name {
        "seed_time" => {
            let hours = number(value).map_err(|_| None)?;
            let time = Duration::try_from_secs_f64(hours * 3600.0).unwrap_or(Duration::MAX);
            // From now on, when it seeds already.
            let already = scene.whole_since.map_or(Duration::ZERO, |since| since.elapsed());
            scene.leave.after = Some(time.saturating_add(already));
        }
        "seed_ratio" => {
            let ratio = number(value).map_err(|_| None)?;
            scene.leave.ratio = (ratio > 0.0).then_some(ratio);
        }
        "max_peers" => scene.torrent.set_max_peers(run::connections(scene.options, between(MOST)?)),
        "min_peers" => scene.announcing.want_at_least(between(LEAST)? as usize),
        "pause" => scene.torrent.pause(whole(value).is_ok_and(|number| number > 0)),
        "verbose" | "file_list" | "cache" | "user_exit" => {
            return Err(Some(format!("{name} is not changed by CTCS")));
        }
        "ctcs_server" => return Err(None),
        name if TEXTS.iter().any(|(text, ..)| *text == name) => {
            return Err(Some(format!("{name} is not changed by CTCS")));
        }
        name => return Err(Some(format!("Unknown config option {name} from CTCS"))),
    }
    Ok(())
}
