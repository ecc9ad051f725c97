//! A form that a browser sends (multipart/form-data, RFC 7578), as far as registering a torrent needs it.
//!
//! Hostile input, which may be cut anywhere: nothing is allocated, and what does not have the form has no fields.

use kernels::scan::find;

/// Longest boundary (RFC 2046, 5.1.1), bytes.
const LONGEST_BOUNDARY: usize = 70;
/// Longest head of a field, bytes.
const LONGEST_HEAD: usize = 2048;

/// A field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// The name of its file, as the browser gives it; empty if it is none.
    pub file: &'a [u8],
    /// Its content.
    pub data: &'a [u8],
    /// Whether that is complete.
    pub whole: bool,
}

/// The boundary between the fields of a form, from its Content-Type; `None` if that is no form's.
pub fn boundary(kind: &[u8]) -> Option<&[u8]> {
    let mut parts = kind.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    if !parts.next()?.eq_ignore_ascii_case(b"multipart/form-data") {
        return None;
    }
    let name = |part: &[u8]| part.split_at_checked(9).is_some_and(|(name, _)| name.eq_ignore_ascii_case(b"boundary="));
    let boundary = unquoted(&parts.find(|part| name(part))?[9..]);
    (1..=LONGEST_BOUNDARY).contains(&boundary.len()).then_some(boundary)
}

/// The fields at the front of `body`; the last one may be incomplete.
pub fn fields<'a>(body: &'a [u8], boundary: &'a [u8]) -> impl Iterator<Item = Field<'a>> {
    let mut rest = body.strip_prefix(b"--").and_then(|rest| rest.strip_prefix(boundary));
    std::iter::from_fn(move || {
        let text = rest.take()?.strip_prefix(b"\r\n")?;
        let (head, data) = cut(&text[..text.len().min(LONGEST_HEAD)], b"\r\n\r\n", b"")
            .map(|(end, begin)| (&text[..end], &text[begin..]))?;
        let whole = cut(data, b"\r\n--", boundary);
        let (name, file) = names(head)?;
        let data = match whole {
            Some((end, next)) => {
                rest = Some(&data[next..]);
                &data[..end]
            }
            None => data,
        };
        Some(Field { name, file, data, whole: whole.is_some() })
    })
}

/// Where `mark` followed by `end` begins in `text`, and where it ends.
fn cut(text: &[u8], mark: &[u8], end: &[u8]) -> Option<(usize, usize)> {
    let mut at = 0;
    loop {
        at += find(&text[at..], mark[0])?;
        if text[at..].strip_prefix(mark).is_some_and(|rest| rest.starts_with(end)) {
            return Some((at, at + mark.len() + end.len()));
        }
        at += 1;
    }
}

/// The names of a field and of its file in the field's head.
fn names(head: &[u8]) -> Option<(&[u8], &[u8])> {
    let lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let is_it = |line: &&[u8]| {
        line.split_at_checked(20).is_some_and(|(name, _)| name.eq_ignore_ascii_case(b"content-disposition:"))
    };
    let line = lines.into_iter().find(is_it)?;
    let parts = || line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let name = parts().find_map(|part| part.strip_prefix(b"name="))?;
    let file = parts().find_map(|part| part.strip_prefix(b"filename=")).unwrap_or_default();
    Some((unquoted(name), unquoted(file)))
}

/// `text` without the quotes around it.
fn unquoted(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A form as browsers write it.
    fn written(boundary: &str, fields: &[(&str, &str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, file, data) in fields {
            out.extend_from_slice(
                format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"").as_bytes(),
            );
            if !file.is_empty() {
                let more = format!("; filename=\"{file}\"\r\nContent-Type: application/x-bittorrent");
                out.extend_from_slice(more.as_bytes());
            }
            out.extend_from_slice(b"\r\n\r\n");
            out.extend_from_slice(data);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        out
    }

    #[test]
    fn the_boundary_is_taken_from_a_forms_type_alone() {
        for (kind, expected) in [
            ("multipart/form-data; boundary=----WebKitFormBoundaryx", Some("----WebKitFormBoundaryx")),
            ("Multipart/Form-Data; charset=utf-8; Boundary=\"a b\"", Some("a b")),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
            ("multipart/mixed; boundary=x", None),
            ("", None),
        ] {
            assert_eq!(boundary(kind.as_bytes()), expected.map(str::as_bytes), "{kind}");
        }
        assert_eq!(boundary(format!("multipart/form-data; boundary={}", "x".repeat(71)).as_bytes()), None);
    }

    proptest! {
        #[test]
        fn fields_come_back_and_what_is_cut_is_not_whole(token in "[a-z]{1,9}", data: Vec<u8>, cut: prop::sample::Index) {
            let form = written("-xyz-", &[("token", "", token.as_bytes()), ("torrent", "x.torrent", &data)]);
            prop_assume!(!data.windows(7).any(|part| part == b"\r\n---xy"));
            let all: Vec<Field> = fields(&form, b"-xyz-").collect();
            prop_assert_eq!(all.len(), 2);
            prop_assert_eq!((all[0].name, all[0].file, all[0].data), (&b"token"[..], &b""[..], token.as_bytes()));
            prop_assert_eq!((all[1].name, all[1].file, all[1].data), (&b"torrent"[..], &b"x.torrent"[..], &data[..]));
            prop_assert!(all.iter().all(|field| field.whole));
            for (part, all) in fields(&form[..cut.index(form.len())], b"-xyz-").zip(all) {
                prop_assert!(part == all || !part.whole);
            }
        }

        #[test]
        fn any_bytes_have_fields_or_none(bytes: Vec<u8>, mark in prop::collection::vec(any::<u8>(), 1..5)) {
            let form = [b"--", &mark[..], b"\r\n", &bytes[..]].concat();
            let all: usize = fields(&form, &mark).map(|field| field.name.len() + field.file.len() + field.data.len()).sum();
            prop_assert!(all <= form.len());
            prop_assert_eq!(fields(&bytes, b"x").take(1000).count() * 5 <= bytes.len(), true);
            let _ = boundary(&bytes);
        }
    }
}
