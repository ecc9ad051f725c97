//! Answers to requests that put a torrent into the allowed directory: `PUT /file`, and `/register` by a form of the page or
//! by PUT and POST.

use std::net::IpAddr;

use super::{HTML, IP_REFUSED, Made, PLAIN, Service, accepted};
use crate::base::percent;
use crate::torrent::InfoHash;
use crate::tracker::query;
use crate::tracker::server::allowed::Source;
use crate::tracker::server::http::{Head, Method};
use crate::tracker::server::store::Listing;
use crate::tracker::server::{form, page, publish};

/// Most bytes of a form within which its token has to come.
const TOKEN_ROOM: usize = 4096;
/// Most bytes of a form besides the torrent.
const FORM_ROOM: usize = 64 << 10;
/// The refusal of whoever lacks the token.
const NO_TOKEN: &str = "a token is needed to publish here";

impl Service {
    /// Whether torrents can be published, by the bearer of the token.
    pub(super) fn publishes(&self) -> bool {
        self.config.publish_token.is_some() && matches!(self.config.source, Some(Source::Directory { .. }))
    }

    /// Answers a request for the page on which torrents are registered.
    pub(super) fn form(&self, head: &Head) -> Made {
        register(head, 200, "", None)
    }

    /// The length of a body to be stored, the front of which is `body`. The token is checked before any of the body is
    /// read, but for that of a form, which has to be at the front.
    ///
    /// # Errors
    /// The reply that refuses the body.
    pub fn body_length(&self, head: &Head, asker: IpAddr, body: &[u8]) -> Result<usize, Made> {
        if !self.admits(asker) {
            return Err(Made::refused(400, IP_REFUSED));
        }
        let Some(token) = self.config.publish_token.as_ref().filter(|_| self.publishes()) else {
            return Err(Made::no_put());
        };
        let mut room = publish::LARGEST;
        match (head.path, form_of(head)) {
            (b"/register", Some(boundary)) => {
                let offered = form_token(body, boundary);
                let waits = offered.is_none() && body.len() < TOKEN_ROOM;
                if !waits && !offered.is_some_and(|offered| publish::is_token(offered, token)) {
                    return Err(register(head, 401, NO_TOKEN, None));
                }
                room += FORM_ROOM;
            }
            (b"/file" | b"/register", _) => {
                if !publish::bears(head.header("authorization"), token) {
                    let refused = Made::new(401, "Unauthorized", PLAIN, format!("{NO_TOKEN}\n"));
                    return Err(refused.with("WWW-Authenticate: Bearer\r\n"));
                }
            }
            _ => return Err(Made::no_put()),
        }
        let Some(length) = head.header("content-length").and_then(query::number) else {
            return Err(Made::new(411, "Length Required", PLAIN, "say how long it is\n"));
        };
        match usize::try_from(length) {
            Ok(length) if length <= room => Ok(length),
            _ => Err(Made::new(413, "Content Too Large", PLAIN, "no .torrent is as large as that\n")),
        }
    }

    /// Answers a request with its complete body, which [`body_length`](Self::body_length) has let in.
    pub fn put(&self, head: &Head, body: &[u8]) -> Made {
        let Some(Source::Directory { path, .. }) = &self.config.source else { return Made::alas() };
        if let Some(boundary) = form_of(head) {
            // A short form ends before its token is missed.
            let (offered, token) = (form_token(body, boundary), self.config.publish_token.as_ref());
            if !offered.zip(token).is_some_and(|(offered, token)| publish::is_token(offered, token)) {
                return register(head, 401, NO_TOKEN, None);
            }
            let file = form::fields(body, boundary).find(|field| field.whole && field.name == b"torrent");
            let Some(file) = file else { return register(head, 400, "there is no torrent in the form", None) };
            // Some browsers give the path.
            let name = file.file.rsplit(|byte| matches!(byte, b'/' | b'\\')).next().filter(|name| !name.is_empty());
            return match publish::publish(path, name, file.data, &self.store) {
                Ok((hash, listing)) => register(head, 201, "", Some((hash, &listing))),
                Err((code, why)) => register(head, code, &why, None),
            };
        }
        let named = query::find(head.query, "name").and_then(percent::unescape);
        let registers = head.path == b"/register";
        let name = if registers { named } else { Some(named.unwrap_or_default()) };
        match publish::publish(path, name.as_deref(), body, &self.store) {
            Ok((hash, listing)) if registers => {
                let Listing { name, length, .. } = &*listing;
                Made::new(201, "Created", PLAIN, format!("{hash} {length} {}\n", name.replace(char::is_control, "?")))
            }
            Ok((hash, _)) => Made::new(201, "Created", PLAIN, format!("{hash}\n")),
            Err((code, why)) => Made::new(code, "Not Published", PLAIN, format!("{why}\n")),
        }
    }
}

/// The boundary of the form that a request carries.
fn form_of<'a>(head: &'a Head) -> Option<&'a [u8]> {
    head.header("content-type").filter(|_| head.method == Method::Post).and_then(form::boundary)
}

/// The token with which the form `body` begins, if that has come as a whole.
fn form_token<'a>(body: &'a [u8], boundary: &'a [u8]) -> Option<&'a [u8]> {
    let first = form::fields(body, boundary).next()?;
    (first.whole && first.name == b"token").then_some(first.data)
}

/// The page on which torrents are registered: with the reason of a refusal, or with what was registered.
fn register(head: &Head, code: u16, why: &str, done: Option<(InfoHash, &Listing)>) -> Made {
    let done = done.map(|(hash, listing)| (hash.to_string(), listing.name.as_str(), listing.length));
    let reason = match code {
        200 => "OK",
        201 => "Created",
        _ => "Not Published",
    };
    let page =
        page::register(accepted(head), why, done.as_ref().map(|(hash, name, size)| (hash.as_str(), *name, *size)));
    Made::new(code, reason, HTML, page).with("Cache-Control: no-store\r\nVary: Accept-Language\r\n")
}
