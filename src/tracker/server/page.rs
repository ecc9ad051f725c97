//! The page for people at `/`: each image, and for each expanded image one row per PC.
//!
//! One document without scripts: it reloads itself, and its URL names the expanded images, so they stay expanded. It
//! suits phones and dark mode, and is in Spanish, Catalan or English, whichever the browser asks for.

use std::fmt::Write;

use super::status::{COMPLETE, DOWNLOADING, GONE, Row, STALLED, Status, Torrent};

/// Seconds between two loads of the page.
const REFRESH: u32 = 5;

/// The page's texts in one language.
struct Words {
    code: &'static str,
    title: &'static str,
    none: &'static str,
    image: &'static str,
    size: &'static str,
    seeders: &'static str,
    leechers: &'static str,
    completed: &'static str,
    fetch: &'static str,
    nobody: &'static str,
    more: &'static str,
    left: &'static str,
    time: &'static str,
    states: [(&'static str, &'static str); 4],
    /// The decimal point.
    point: char,
}

const ENGLISH: Words = Words {
    code: "en",
    title: "BitTorrent download info",
    none: "not tracking any files yet...",
    image: "image",
    size: "size",
    seeders: "complete",
    leechers: "downloading",
    completed: "downloaded",
    fetch: ".torrent",
    nobody: "nobody is here",
    more: "more",
    left: "left",
    time: "server time",
    states: [(COMPLETE, "complete"), (DOWNLOADING, "downloading"), (STALLED, "stalled"), (GONE, "gone")],
    point: '.',
};

const SPANISH: Words = Words {
    code: "es",
    title: "Descargas BitTorrent",
    none: "todavía no se sigue ningún fichero…",
    image: "imagen",
    size: "tamaño",
    seeders: "completos",
    leechers: "descargando",
    completed: "descargas",
    fetch: ".torrent",
    nobody: "no hay nadie",
    more: "más",
    left: "restante",
    time: "hora del servidor",
    states: [(COMPLETE, "completo"), (DOWNLOADING, "descargando"), (STALLED, "parado"), (GONE, "desaparecido")],
    point: ',',
};

const CATALAN: Words = Words {
    code: "ca",
    title: "Baixades BitTorrent",
    none: "encara no se segueix cap fitxer…",
    image: "imatge",
    size: "mida",
    seeders: "complets",
    leechers: "baixant",
    completed: "baixades",
    fetch: ".torrent",
    nobody: "no hi ha ningú",
    more: "més",
    left: "restant",
    time: "hora del servidor",
    states: [(COMPLETE, "complet"), (DOWNLOADING, "baixant"), (STALLED, "aturat"), (GONE, "desaparegut")],
    point: ',',
};

/// The language that an Accept-Language header prefers (RFC 9110, 12.5.4); English if it has none of ours.
fn language(accepted: &str) -> &'static Words {
    let mut best = (0, &ENGLISH);
    for part in accepted.split(',') {
        let mut pieces = part.split(';').map(str::trim);
        let tag = pieces.next().unwrap_or_default();
        let name = tag.split('-').next().unwrap_or_default();
        let words = [&SPANISH, &CATALAN, &ENGLISH].into_iter().find(|words| words.code.eq_ignore_ascii_case(name));
        // In thousandths; without a weight it is 1.
        let weight = match pieces.find_map(|piece| piece.strip_prefix("q=")) {
            Some(text) => thousandths(text),
            None => 1000,
        };
        if let Some(words) = words.filter(|_| weight > best.0) {
            best = (weight, words);
        }
    }
    best.1
}

fn thousandths(text: &str) -> u32 {
    match text.split_once('.') {
        None => {
            if text == "1" {
                1000
            } else {
                0
            }
        }
        Some(("1", _)) => 1000,
        Some((_, fraction)) => {
            let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(3);
            digits.fold(0, |sum, digit| sum * 10 + u32::from(digit.wrapping_sub(b'0').min(9)))
        }
    }
}

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

/// The code of the page's language for a browser that accepts `accepted`.
pub fn code(accepted: &str) -> &'static str {
    language(accepted).code
}

/// The page. `open` holds the info-hashes of the expanded torrents; with `link` each torrent links to its .torrent;
/// with `icon` there is a favicon; `clock` is the server's time of day.
pub fn page(status: &Status, open: &[String], accepted: &str, link: bool, icon: bool, clock: &str) -> String {
    let words = language(accepted);
    let mut out = String::with_capacity(4096 + 400 * status.torrents.len());
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"{}\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta http-equiv=\"refresh\" content=\"{REFRESH}\">\n{}<style>{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n",
        words.code,
        if icon { "<link rel=\"icon\" href=\"/favicon.ico\">\n" } else { "" },
        title = words.title,
    );
    if status.torrents.is_empty() {
        let _ = writeln!(out, "<p>{}</p>", words.none);
    } else {
        let _ = writeln!(
            out,
            "<table>\n<thead><tr><th>{}</th><th>{}</th><th>{}</th><th>{}</th><th class=\"wide\">{}</th></tr></thead>\n<tbody>",
            words.image, words.size, words.seeders, words.leechers, words.completed
        );
        for torrent in &status.torrents {
            torrent_rows(torrent, open, link, words, &mut out);
        }
        out.push_str("</tbody></table>\n");
    }
    let _ = write!(
        out,
        "<p class=\"dim\">{}: {clock} · ogbox {}</p>\n</body></html>\n",
        words.time,
        env!("CARGO_PKG_VERSION")
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

    #[test]
    fn the_language_is_the_one_the_browser_prefers() {
        for (accepted, expected) in [
            ("", "en"),
            ("es", "es"),
            ("es-ES,es;q=0.9,en;q=0.8", "es"),
            ("ca-ES-valencia", "ca"),
            ("fr, ca;q=0.5, es;q=0.7", "es"),
            ("en;q=0.1,CA;q=0.15", "ca"),
            ("de", "en"),
            ("es;q=0", "en"),
            ("es;q=x,en;q=1.0", "en"),
            (";;;,,,q=", "en"),
        ] {
            assert_eq!(language(accepted).code, expected, "{accepted}");
        }
    }

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
        let open = page(&status("x.img"), std::slice::from_ref(&hash), "es", true, false, "10:00");
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
        let closed = page(&status("x.img"), &[], "en", false, false, "10:00");
        assert!(closed.contains(&format!("<a href=\"/?open={hash}#h{hash}\">▸ x.img</a>")), "{closed}");
        assert!(!closed.contains("10.0.0.1") && !closed.contains("/file?"), "{closed}");
    }

    #[test]
    fn a_name_cannot_become_markup() {
        let shown = page(&status("<script>\"&'\u{1b}"), &[], "", false, false, "");
        assert!(shown.contains("&lt;script&gt;&quot;&amp;&#39;\u{fffd}") && !shown.contains("<script"), "{shown}");
    }

    #[test]
    fn an_empty_tracker_says_so() {
        assert!(
            page(&Status { torrents: Vec::new() }, &[], "", false, false, "").contains("not tracking any files yet...")
        );
    }
}
