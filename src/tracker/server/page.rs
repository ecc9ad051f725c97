//! The page for people at `/`: each image, and for each expanded image one row per PC.
//!
//! One document without scripts: it reloads itself, and its URL names the expanded images, so they stay expanded. It
//! suits phones and dark mode, and is in Spanish, Catalan or English, whichever the browser asks for.

use std::fmt::Write;

use super::status::{Row, Status, Torrent};
use super::words::{Words, language};

/// Seconds between two loads of the page.
const REFRESH: u32 = 5;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--dim:#777;--ok:#2a7;--warn:#c70;--bad:#d33}\
body{font:16px/1.4 system-ui,sans-serif;margin:0 auto;padding:1rem;max-width:64rem}\
h1{font-size:1.3rem}\
a{color:inherit}\
table{border-collapse:collapse;width:100%}\
th,td{text-align:right;padding:.4rem .6rem;border-bottom:1px solid var(--line);font-variant-numeric:tabular-nums;white-space:nowrap}\
th{font-weight:600;color:var(--dim)}\
th:first-child,td:first-child{text-align:left;white-space:normal;overflow-wrap:anywhere;min-width:6rem}\
td.rows{padding:0 0 1rem 1rem}td.rows td{font-size:.9rem;padding:.2rem .5rem}\
progress{appearance:none;width:8rem;height:.6rem;border:0;background:var(--line);vertical-align:middle}\
::-webkit-progress-bar{background:var(--line)}::-webkit-progress-value{background:var(--ok)}::-moz-progress-bar{background:var(--ok)}\
.of{display:inline-block;min-width:3.7rem}\
.complete{color:var(--ok)}.stalled{color:var(--warn)}.gone{color:var(--bad)}.dim{color:var(--dim)}\
@media(max-width:40rem){body{font-size:14px;padding:.4rem}th,td,td.rows td{padding:.35rem .25rem}.wide{display:none}\
td.rows{padding-left:.3rem}progress{width:3rem}}";

/// What the page shows besides the torrents.
#[derive(Clone, Copy, Debug, Default)]
pub struct View<'a> {
    /// Info-hashes of the expanded torrents.
    pub open: &'a [String],
    /// Whether nothing can be tracked.
    pub closed: bool,
    /// Whether each torrent links to its .torrent.
    pub link: bool,
    /// Whether there is a favicon.
    pub icon: bool,
    /// Whether torrents can be registered.
    pub register: bool,
    /// The server's time of day.
    pub clock: &'a str,
}

/// The beginning of a page, up to its heading.
fn begin(words: &Words, more: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"{}\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         {more}<style>{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n",
        words.code,
        title = words.title,
    )
}

/// The page.
pub fn page(status: &Status, view: &View, accepted: &str) -> String {
    let words = language(accepted);
    let icon = if view.icon { "<link rel=\"icon\" href=\"/favicon.ico\">\n" } else { "" };
    let mut out = begin(words, &format!("<meta http-equiv=\"refresh\" content=\"{REFRESH}\">\n{icon}"));
    // Writing to a String cannot fail.
    if view.closed {
        let _ = writeln!(out, "<p class=\"gone\">{}</p>", words.closed);
    } else if status.torrents.is_empty() {
        let _ = writeln!(out, "<p>{}</p>", words.none);
    }
    if !status.torrents.is_empty() {
        let _ = writeln!(
            out,
            "<table>\n<thead><tr><th>{}</th><th>{}</th><th>{}</th><th>{}</th><th class=\"wide\">{}</th></tr></thead>\n<tbody>",
            words.image, words.size, words.seeders, words.leechers, words.completed
        );
        for torrent in &status.torrents {
            torrent_rows(torrent, view.open, view.link, words, &mut out);
        }
        out.push_str("</tbody></table>\n");
    }
    if view.register {
        let _ = writeln!(out, "<p><a href=\"/register\">{}</a></p>", words.register);
    }
    let _ = write!(
        out,
        "<p class=\"dim\">{}: {} · ogbox {}</p>\n</body></html>\n",
        words.time,
        view.clock,
        env!("CARGO_PKG_VERSION")
    );
    out
}

/// The page on which a torrent is registered: why one was refused, if one was, or the info-hash, name and bytes of what was
/// registered, and the form.
pub fn register(accepted: &str, why: &str, done: Option<(&str, &str, u64)>) -> String {
    let words = language(accepted);
    let mut out = begin(words, "");
    // Writing to a String cannot fail.
    if let Some((hash, name, size)) = done {
        let _ = write!(out, "<p class=\"complete\">{}: <a href=\"/?open={hash}#h{hash}\">", words.registered);
        escape(name, &mut out);
        let _ = writeln!(out, "</a>, {} <span class=\"dim wide\">{hash}</span></p>", bytes(size, words.point));
    }
    if !why.is_empty() {
        out.push_str("<p class=\"gone\">");
        escape(why, &mut out);
        out.push_str("</p>\n");
    }
    // The token comes first: it is checked before the torrent is read.
    let _ = write!(
        out,
        "<form method=\"post\" action=\"/register\" enctype=\"multipart/form-data\">\n\
         <p><label>{} <input type=\"password\" name=\"token\" required></label></p>\n\
         <p><label>{} <input type=\"file\" name=\"torrent\" accept=\".torrent\" required></label></p>\n\
         <p><button>{}</button></p>\n</form>\n<p><a href=\"/\">←</a></p>\n</body></html>\n",
        words.token, words.fetch, words.register
    );
    out
}

fn torrent_rows(torrent: &Torrent, open: &[String], link: bool, words: &Words, out: &mut String) {
    let hash = &torrent.info_hash;
    let is_open = open.contains(hash);
    // The URL of the page with this torrent toggled and the others as they are.
    let others = open.iter().filter(|one| *one != hash);
    let stay: Vec<&String> = if is_open { others.collect() } else { others.chain([hash]).collect() };
    let target: String = stay.iter().map(|one| format!("open={one}&amp;")).collect();
    let _ = write!(
        out,
        "<tr id=\"h{hash}\"><td><a href=\"/?{}#h{hash}\">{} ",
        target.trim_end_matches("&amp;"),
        if is_open { "▾" } else { "▸" }
    );
    escape(if torrent.name.is_empty() { hash } else { &torrent.name }, out);
    out.push_str("</a>");
    if link {
        let _ = write!(out, " <a class=\"dim\" href=\"/file?info_hash={hash}\">{}</a>", words.fetch);
    }
    let size = if torrent.size == 0 { String::new() } else { bytes(torrent.size, words.point) };
    let _ = writeln!(
        out,
        "</td><td>{size}</td><td>{}</td><td>{}</td><td class=\"wide\">{}</td></tr>",
        torrent.seeders, torrent.leechers, torrent.completed
    );
    if !is_open {
        return;
    }
    out.push_str("<tr><td class=\"rows\" colspan=\"5\">");
    if torrent.peers.is_empty() {
        let _ = write!(out, "<p class=\"dim\">{}</p>", words.nobody);
    } else {
        out.push_str("<table><tbody>\n");
        torrent.peers.iter().for_each(|row| peer_row(row, words, out));
        out.push_str("</tbody></table>");
        let all = (torrent.seeders + torrent.leechers) as usize;
        if all > torrent.peers.len() {
            let _ = write!(out, "<p class=\"dim\">… {} {}</p>", all - torrent.peers.len(), words.more);
        }
    }
    out.push_str("</td></tr>\n");
}

fn peer_row(row: &Row, words: &Words, out: &mut String) {
    out.push_str("<tr><td>");
    if row.host.is_empty() {
        escape(&row.ip, out);
    } else {
        escape(&row.host, out);
        out.push_str(" <span class=\"dim wide\">");
        escape(&row.ip, out);
        out.push_str("</span>");
    }
    out.push_str("</td><td>");
    if let Some(permille) = row.permille {
        let (whole, tenths) = (permille / 10, permille % 10);
        let _ = write!(
            out,
            "<progress max=\"1000\" value=\"{permille}\"></progress> <span class=\"of\">{whole}{}{tenths}&nbsp;%</span>",
            words.point
        );
    }
    out.push_str("</td><td>");
    if row.rate > 0 {
        let _ = write!(out, "{}/s", bytes(row.rate.into(), words.point));
    }
    out.push_str("</td><td class=\"wide\">");
    if row.time_left > 0 {
        let (hours, minutes, seconds) = (row.time_left / 3600, row.time_left / 60 % 60, row.time_left % 60);
        let _ = write!(out, "{hours}:{minutes:02}:{seconds:02} {}", words.left);
    }
    let state = words.states.iter().find(|(state, _)| *state == row.state).map_or(row.state.as_str(), |(_, word)| word);
    let _ = writeln!(out, "</td><td class=\"{}\">{state}</td></tr>", row.state);
}

/// Formats a number of bytes for people.
fn bytes(count: u64, point: char) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count}&nbsp;B");
    }
    let mut unit = 0;
    let mut tenths = u128::from(count) * 10 / 1024;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}{point}{}&nbsp;{}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Appends `text` escaped for HTML text and attributes.
fn escape(text: &str, out: &mut String) {
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter if letter.is_control() => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::server::status::{DOWNLOADING, GONE};

    #[test]
    fn bytes_are_told_in_the_unit_that_fits() {
        let told = [0, 1023, 1024, 1536, 1 << 20, 26_843_545_600, u64::MAX]
            .map(|count| bytes(count, ',').replace("&nbsp;", " "));
        assert_eq!(told, ["0 B", "1023 B", "1,0 KiB", "1,5 KiB", "1,0 MiB", "25,0 GiB", "16383,9 PiB"]);
    }

    fn status(name: &str) -> Status {
        let row = |ip: &str, permille, rate, time_left, state: &str| Row {
            ip: ip.into(),
            port: 6881,
            host: String::new(),
            permille: Some(permille),
            rate,
            time_left,
            state: state.into(),
        };
        let peers = vec![row("10.0.0.1", 999, 2 << 20, 3725, DOWNLOADING), row("10.0.0.2", 500, 0, 0, GONE)];
        let info_hash = "07".repeat(20);
        Status {
            torrents: vec![Torrent {
                info_hash,
                name: name.into(),
                size: 1 << 30,
                seeders: 1,
                leechers: 2,
                completed: 5,
                peers,
            }],
        }
    }

    #[test]
    fn an_opened_torrent_shows_a_row_a_pc_and_can_be_closed() {
        let hash = "07".repeat(20);
        let open = page(
            &status("x.img"),
            &View { open: std::slice::from_ref(&hash), link: true, clock: "10:00", ..View::default() },
            "es",
        );
        for part in [
            "lang=\"es\"",
            "99,9&nbsp;%",
            "2,0&nbsp;MiB/s",
            "1:02:05 restante",
            "class=\"gone\">desaparecido",
            "… 1 más",
            "/file?info_hash=0707",
        ] {
            assert!(open.contains(part), "{part} in {open}");
        }
        assert!(open.contains(&format!("<a href=\"/?#h{hash}\">▾ x.img</a>")), "{open}");
        let closed = page(&status("x.img"), &View::default(), "en");
        assert!(closed.contains(&format!("<a href=\"/?open={hash}#h{hash}\">▸ x.img</a>")), "{closed}");
        assert!(!closed.contains("10.0.0.1") && !closed.contains("/file?"), "{closed}");
    }

    #[test]
    fn a_name_cannot_become_markup() {
        let shown = page(&status("<script>\"&'\u{1b}"), &View::default(), "");
        assert!(shown.contains("&lt;script&gt;&quot;&amp;&#39;\u{fffd}") && !shown.contains("<script"), "{shown}");
    }

    #[test]
    fn an_empty_tracker_says_so() {
        assert!(page(&Status { torrents: Vec::new() }, &View::default(), "").contains("not tracking any files yet..."));
    }
}
