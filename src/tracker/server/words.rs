//! The texts of the pages for people, in each language.
#![allow(missing_docs, reason = "the texts say what they are")]

use super::status::{COMPLETE, DOWNLOADING, GONE, STALLED};

/// The page's texts in one language.
pub struct Words {
    pub code: &'static str,
    pub title: &'static str,
    pub none: &'static str,
    pub image: &'static str,
    pub size: &'static str,
    pub seeders: &'static str,
    pub leechers: &'static str,
    pub completed: &'static str,
    pub fetch: &'static str,
    pub nobody: &'static str,
    pub more: &'static str,
    pub left: &'static str,
    pub time: &'static str,
    /// Why nothing is tracked, and what opens it.
    pub closed: &'static str,
    pub register: &'static str,
    pub registered: &'static str,
    pub token: &'static str,
    pub states: [(&'static str, &'static str); 4],
    /// The decimal point.
    pub point: char,
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
    closed: "Nothing is tracked: start bttrack with --allowed_dir DIR or --allowed_list FILE, or with --open 1 to track all.",
    register: "register a torrent",
    registered: "registered",
    token: "token",
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
    closed: "No se sigue nada: inicie bttrack con --allowed_dir DIR o --allowed_list FICHERO, o con --open 1 para seguirlo todo.",
    register: "registrar un torrent",
    registered: "registrado",
    token: "clave",
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
    closed: "No se segueix res: inicieu bttrack amb --allowed_dir DIR o --allowed_list FITXER, o amb --open 1 per seguir-ho tot.",
    register: "registrar un torrent",
    registered: "registrat",
    token: "clau",
    states: [(COMPLETE, "complet"), (DOWNLOADING, "baixant"), (STALLED, "aturat"), (GONE, "desaparegut")],
    point: ',',
};

/// The language that an Accept-Language header prefers (RFC 9110, 12.5.4); English if it has none of ours.
pub fn language(accepted: &str) -> &'static Words {
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

/// The code of the page's language for a browser that accepts `accepted`.
pub fn code(accepted: &str) -> &'static str {
    language(accepted).code
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
}
