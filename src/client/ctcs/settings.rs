//! The settings that a server sees, under Enhanced CTorrent's names, and which of them it may change.
//!
//! Each is reported as it is now. A server cannot change what only the command line decides here (memory, outputs), nor
//! the command to run at the end: nobody at the other end of a plain connection runs anything.

use std::time::Duration;

use super::message::{Kind, setting};
use super::scene::{Facts, Scene};
use crate::base::decimal::leading;
use crate::client::hub::connections;

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

/// Returns a CTCONFIG line for each setting; `server` is the one that we are connected to.
pub fn list(scene: &Scene, facts: &Facts, server: &str) -> Vec<String> {
    let status = &scene.moment.status;
    let hours = |time: Duration| time.as_secs_f64() / 3600.0;
    let (time, limit) = match (scene.leave.after, scene.whole_since) {
        (None, _) => ("0".to_owned(), "no limit".to_owned()),
        (Some(after), None) => (short(hours(after)), remaining(hours(after))),
        (Some(after), Some(since)) => {
            (format!("{:.2}", hours(after.saturating_sub(since.elapsed()))), remaining(hours(after)))
        }
    };
    let ratio = format!("{:.2}", scene.leave.ratio.unwrap_or(0.0));
    let peers = format!("Current peers: {}", status.peers.0 + status.peers.1);
    let (most, least) = (scene.torrent.max_peers().to_string(), scene.client.announcing().wanted().to_string());
    let memory = facts.memory.to_string();
    let paused = if scene.torrent.is_paused() { "1" } else { "0" };
    let between = |(least, most)| Kind::Between(least, most);
    let mut lines = vec![
        setting("verbose", Kind::Switch, "0", "Verbose output [-v]", "Disabled"),
        setting("seed_time", Kind::Number, &time, "Seed time [-e]", &limit),
        setting("seed_ratio", Kind::Number, &ratio, "Seed ratio [-E]", "Upload:Download"),
        setting("max_peers", between(MOST), &most, "Max peers [-M]", &peers),
        setting("min_peers", between(LEAST), &least, "Min peers [-m]", &peers),
    ];
    if !status.whole {
        lines.push(setting("file_list", Kind::Text, &facts.files, "Download files [-n]", ""));
    }
    lines.push(setting("cache", Kind::Whole, &memory, "Cache size [-C]", "MB; 0KB now in use"));
    lines.push(setting("pause", Kind::Switch, paused, "Pause torrent", "Stop upload/download"));
    if !status.whole {
        lines.push(setting("user_exit", Kind::Text, &facts.command, "Completion command [-X]", ""));
    }
    lines.extend(TEXTS.iter().map(|(name, value, what)| setting(name, Kind::Text, value, what, "")));
    lines.push(setting("ctcs_server", Kind::Text, server, "CTCS server", ""));
    lines
}

fn remaining(hours: f64) -> String {
    format!("~hours remaining (-e {})", short(hours))
}

/// Spells hours as the command line does.
fn short(hours: f64) -> String {
    if hours.fract() < 0.005 { format!("{hours:.0}") } else { format!("{hours:.2}") }
}

/// Gives the setting `name` a new value.
///
/// # Errors
/// The reason, or `None` when the value is not one of this setting.
pub fn change(scene: &mut Scene, facts: &Facts, name: &str, value: &str) -> Result<(), Option<String>> {
    let between = |(least, most)| {
        let number = leading(value).ok_or(None)? as u64;
        if (least..=most).contains(&number) { Ok(number) } else { Err(None) }
    };
    match name {
        "seed_time" => {
            let hours = leading(value).ok_or(None)?;
            let time = Duration::try_from_secs_f64(hours * 3600.0).unwrap_or(Duration::MAX);
            // Counted from now on, if it seeds already.
            let already = scene.whole_since.map_or(Duration::ZERO, |since| since.elapsed());
            scene.leave.after = Some(time.saturating_add(already));
        }
        "seed_ratio" => {
            let ratio = leading(value).ok_or(None)?;
            scene.leave.ratio = (ratio > 0.0).then_some(ratio);
        }
        "max_peers" => scene.torrent.set_max_peers(connections(facts.memory, between(MOST)?)),
        "min_peers" => scene.client.announcing().want_at_least(between(LEAST)? as usize),
        "pause" => scene.torrent.pause(leading(value).is_some_and(|number| number >= 1.0)),
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
