//! The part of HTTP that a tracker needs: parsing the head of a request, writing replies (RFC 9112).
//!
//! Hostile input: a head is at most [`MAX_HEAD`] bytes and [`MAX_HEADERS`] lines, and nothing is allocated to read it.
//! As in the namesake, a request line of two words is HTTP/0.9 and lines may end in a bare LF. Chunked bodies are
//! refused with 411.

use kernels::scan::{find, find_control};

use crate::tracker::query::split;

/// Longest head that is read, bytes.
pub const MAX_HEAD: usize = 8 << 10;
/// Most lines of a head.
pub const MAX_HEADERS: usize = 64;

/// The method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Return the resource.
    Get,
    /// Return what Get would, without the body.
    Head,
    /// Store the body.
    Put,
    /// Register the body; of `/register` alone.
    Post,
}

/// The version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// No version in the request: a reply without a head.
    V09,
    /// One request per connection unless the client asks for more.
    V10,
    /// Several requests per connection unless the client asks for one.
    V11,
}

/// The head of a request, borrowed from the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// The method.
    pub method: Method,
    /// The whole request line, for the log.
    pub line: &'a [u8],
    /// The part of the target before the `?`.
    pub path: &'a [u8],
    /// The part of the target after the `?`.
    pub query: &'a [u8],
    /// The version of HTTP.
    pub version: Version,
    headers: &'a [u8],
}

/// The reason why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Longer than [`MAX_HEAD`] bytes or [`MAX_HEADERS`] lines.
    TooLong,
    /// Not two or three words, or an unknown version.
    RequestLine,
    /// An unsupported method.
    Method,
    /// A header line without a colon, or with a control character.
    Header,
}

impl Malformed {
    /// Status code and text of the reply.
    pub fn status(self) -> (u16, &'static str) {
        match self {
            Malformed::TooLong => (431, "you sent me garbage - endless headers\n"),
            Malformed::RequestLine => (400, "you sent me garbage - no request line\n"),
            Malformed::Method => (501, "you sent me garbage - no such method\n"),
            Malformed::Header => (400, "you sent me garbage - wrong header\n"),
        }
    }
}

impl<'a> Head<'a> {
    /// Parses the head at the front of `bytes` and returns it with its length; `None` until it is complete.
    ///
    /// # Errors
    /// The head is malformed, reported as soon as that is clear.
    pub fn read(bytes: &'a [u8]) -> Result<Option<(Head<'a>, usize)>, Malformed> {
        // A blank line before a request is allowed (RFC 9112, 2.2).
        let skipped = bytes.iter().take(4).take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let bytes = &bytes[skipped..];
        let window = &bytes[..bytes.len().min(MAX_HEAD)];
        let mut at = 0;
        let mut first = None;
        for _ in 0..=MAX_HEADERS {
            let Some(length) = find(&window[at..], b'\n') else {
                return if window.len() == MAX_HEAD { Err(Malformed::TooLong) } else { Ok(None) };
            };
            let line = window[at..at + length].strip_suffix(b"\r").unwrap_or(&window[at..at + length]);
            at += length + 1;
            match first {
                None => {
                    let head = request_line(line)?;
                    if head.version == Version::V09 {
                        return Ok(Some((head, skipped + at)));
                    }
                    first = Some((head, at));
                }
                Some((head, begin)) if line.is_empty() => {
                    return Ok(Some((Head { headers: &bytes[begin..at], ..head }, skipped + at)));
                }
                Some(_) => {
                    if find(line, b':').is_none() || !is_text(line) {
                        return Err(Malformed::Header);
                    }
                }
            }
        }
        Err(Malformed::TooLong)
    }

    /// The first header called `name` (lower case), without surrounding blanks.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        let mut rest = self.headers;
        while let Some(end) = find(rest, b'\n') {
            let (found, value) = rest[..end].split_at_checked(name.len()).unwrap_or_default();
            match value {
                [b':', value @ ..] if found.eq_ignore_ascii_case(name.as_bytes()) => return Some(value.trim_ascii()),
                _ => rest = &rest[end + 1..],
            }
        }
        None
    }

    /// Whether the connection stays open after the reply.
    pub fn keeps_alive(&self) -> bool {
        let says = |word: &str| {
            self.header("connection").is_some_and(|value| {
                value.split(|byte| *byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
            })
        };
        match self.version {
            Version::V09 => false,
            Version::V10 => says("keep-alive"),
            Version::V11 => !says("close"),
        }
    }
}

/// Whether `line` has no control characters other than tabs.
fn is_text(mut line: &[u8]) -> bool {
    while let Some(at) = find_control(line, [0x7f; 2]) {
        if line[at] != b'\t' {
            return false;
        }
        line = &line[at + 1..];
    }
    true
}

fn request_line(line: &[u8]) -> Result<Head<'_>, Malformed> {
    if find_control(line, [0x7f; 2]).is_some() {
        return Err(Malformed::RequestLine);
    }
    let mut words = split(line, b' ');
    let (Some(method), Some(target), version, None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err(Malformed::RequestLine);
    };
    let version = match version {
        None => Version::V09,
        Some(b"HTTP/1.0") => Version::V10,
        Some(b"HTTP/1.1") => Version::V11,
        Some(_) => return Err(Malformed::RequestLine),
    };
    let method = match method {
        b"GET" => Method::Get,
        b"HEAD" if version != Version::V09 => Method::Head,
        b"PUT" if version != Version::V09 => Method::Put,
        b"POST" if version != Version::V09 => Method::Post,
        _ => return Err(Malformed::Method),
    };
    // A proxy's form of the target includes scheme and host.
    let target = match target.strip_prefix(b"http://") {
        Some(rest) => rest.iter().position(|byte| *byte == b'/').map_or(&b"/"[..], |slash| &rest[slash..]),
        None => target,
    };
    let target = find(target, b'#').map_or(target, |end| &target[..end]);
    let (path, query) = match find(target, b'?') {
        Some(mark) => (&target[..mark], &target[mark + 1..]),
        None => (target, &target[target.len()..]),
    };
    if !path.starts_with(b"/") {
        return Err(Malformed::RequestLine);
    }
    if method == Method::Post && path != b"/register" {
        return Err(Malformed::Method);
    }
    Ok(Head { method, line, path, query, version, headers: &[] })
}

/// A reply without its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Status code.
    pub code: u16,
    /// The reason phrase; the namesake has `Not Authorized` with a 200.
    pub reason: &'a str,
    /// Content-Type.
    pub kind: &'a str,
    /// Further headers, each terminated by CR LF.
    pub headers: &'a str,
}

impl Reply<'_> {
    /// Appends head and `body` to `out`, in the form for the request's `method` and `version`; returns `keep_alive`.
    pub fn write(&self, method: Method, version: Version, keep_alive: bool, body: &[u8], out: &mut Vec<u8>) -> bool {
        if version != Version::V09 {
            let name = if version == Version::V10 { "HTTP/1.0 " } else { "HTTP/1.1 " };
            out.extend_from_slice(name.as_bytes());
            decimal(self.code.into(), out);
            out.push(b' ');
            for part in [self.reason, "\r\nContent-Type: ", self.kind, "\r\nContent-Length: "] {
                out.extend_from_slice(part.as_bytes());
            }
            decimal(body.len() as u64, out);
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(self.headers.as_bytes());
            match (version, keep_alive) {
                (Version::V10, true) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
                (Version::V11, false) => out.extend_from_slice(b"Connection: close\r\n"),
                _ => {}
            }
            out.extend_from_slice(b"\r\n");
        }
        if method != Method::Head {
            out.extend_from_slice(body);
        }
        keep_alive
    }
}

/// Appends `value` in decimal.
pub fn decimal(value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Option<(Head<'_>, usize)>, Malformed> {
        Head::read(text.as_bytes())
    }

    #[test]
    fn a_usual_head_is_read() {
        let text = "GET /announce?a=%00&b=1 HTTP/1.1\r\nHost: x\r\nUser-Agent:  ctorrent \r\n\r\nrest";
        let (head, length) = read(text).unwrap().unwrap();
        assert_eq!((head.method, head.version), (Method::Get, Version::V11));
        assert_eq!((head.path, head.query), (&b"/announce"[..], &b"a=%00&b=1"[..]));
        assert_eq!(head.header("user-agent"), Some(&b"ctorrent"[..]));
        assert_eq!(head.header("user"), None);
        assert_eq!(&text[length..], "rest");
        assert_eq!(head.line, b"GET /announce?a=%00&b=1 HTTP/1.1");
    }

    #[test]
    fn old_ways_are_understood() {
        let (head, length) = read("GET /scrape\nmore").unwrap().unwrap();
        assert_eq!((head.version, head.path, length), (Version::V09, &b"/scrape"[..], 12));
        let (head, _) = read("\r\nHEAD http://tracker:6969/file?x#y HTTP/1.0\nA:b\n\n").unwrap().unwrap();
        assert_eq!((head.method, head.path, head.query), (Method::Head, &b"/file"[..], &b"x"[..]));
        assert_eq!(head.header("a"), Some(&b"b"[..]));
        let (head, _) = read("GET http://tracker HTTP/1.0\n\n").unwrap().unwrap();
        assert_eq!(head.path, b"/");
    }

    #[test]
    fn connections_stay_as_version_and_header_say() {
        let keeps = |rest: &str| read(&format!("GET / {rest}\r\n\r\n")).unwrap().unwrap().0.keeps_alive();
        assert!(keeps("HTTP/1.1"));
        assert!(!keeps("HTTP/1.1\r\nConnection: Close"));
        assert!(!keeps("HTTP/1.1\r\nConnection: TE, close"));
        assert!(!keeps("HTTP/1.0"));
        assert!(keeps("HTTP/1.0\r\nconnection: Keep-Alive"));
    }

    #[test]
    fn garbage_is_told_apart_from_what_is_not_yet_whole() {
        for text in ["", "GET", "GET / HTTP/1.1", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: x\r\n"] {
            assert_eq!(read(text), Ok(None), "{text:?}");
        }
        for (text, expected) in [
            ("\x16\x03\x01\n", Malformed::RequestLine),
            ("GET\n", Malformed::RequestLine),
            ("GET / HTTP/2.0\n", Malformed::RequestLine),
            ("GET / x y\n", Malformed::RequestLine),
            ("GET x HTTP/1.1\n", Malformed::RequestLine),
            ("POST / HTTP/1.1\n", Malformed::Method),
            ("HEAD /\n", Malformed::Method),
            ("GET / HTTP/1.1\nno colon\n", Malformed::Header),
            ("GET / HTTP/1.1\na: \x1b[2J\n", Malformed::Header),
        ] {
            assert_eq!(read(text), Err(expected), "{text:?}");
        }
        let endless = "GET / HTTP/1.1\r\n".to_owned() + &"a: b\r\n".repeat(65);
        assert_eq!(read(&endless), Err(Malformed::TooLong));
        assert_eq!(read(&"x".repeat(MAX_HEAD)), Err(Malformed::TooLong));
        assert_eq!(read(&"x".repeat(MAX_HEAD - 1)), Ok(None));
    }

    #[test]
    fn replies_have_the_form_of_the_request() {
        let reply = Reply { code: 200, reason: "OK", kind: "text/plain", headers: "Pragma: no-cache\r\n" };
        let written = |method, version, keep| {
            let mut out = Vec::new();
            reply.write(method, version, keep, b"hello", &mut out);
            String::from_utf8(out).unwrap()
        };
        let head = "Content-Type: text/plain\r\nContent-Length: 5\r\nPragma: no-cache\r\n";
        assert_eq!(written(Method::Get, Version::V09, false), "hello");
        assert_eq!(written(Method::Get, Version::V10, false), format!("HTTP/1.0 200 OK\r\n{head}\r\nhello"));
        assert_eq!(written(Method::Get, Version::V11, true), format!("HTTP/1.1 200 OK\r\n{head}\r\nhello"));
        assert_eq!(
            written(Method::Head, Version::V11, false),
            format!("HTTP/1.1 200 OK\r\n{head}Connection: close\r\n\r\n")
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Ok(Some((head, length))) = Head::read(&bytes) {
                prop_assert!(length <= bytes.len() && head.path.first() == Some(&b'/'));
                let _ = (head.header("connection"), head.keeps_alive());
            }
        }

        /// The result does not depend on where the network cut the head.
        #[test]
        fn a_cut_head_is_waited_for(path in "[a-z]{0,9}", names in prop::collection::vec("[A-Za-z-]{1,9}", 0..9), cut: prop::sample::Index) {
            let headers: String = names.iter().map(|name| format!("{name}: value\r\n")).collect();
            let text = format!("GET /{path} HTTP/1.1\r\n{headers}\r\n");
            let part = &text[..cut.index(text.len())];
            prop_assert_eq!(read(part), Ok(None));
            let (head, length) = read(&text).unwrap().unwrap();
            prop_assert_eq!(length, text.len());
            prop_assert!(names.iter().all(|name| head.header(&name.to_lowercase()) == Some(b"value")));
        }
    }
}
