//! OpenGnsys 3's images: `X.img.zst` or `X.img`, and beside it `X.img.zst.size`, `.sum`, `.info.checked`, `.torrent`.

use std::fs;
use std::path::Path;

use crate::image::Error;

/// Longest text that is read, bytes.
const MOST: u64 = 64;

/// Refuses an image that is shorter than the file `.size` beside it says.
///
/// # Errors
/// It was not copied to its end.
pub fn check(path: &Path) -> Result<(), Error> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".size");
    let Ok(image) = path.metadata() else { return Ok(()) };
    let small = fs::metadata(&beside).is_ok_and(|found| found.is_file() && found.len() <= MOST);
    let text = if small { fs::read_to_string(&beside).unwrap_or_default() } else { String::new() };
    match text.trim().parse::<u64>() {
        Ok(size) if image.is_file() && size > image.len() => Err(Error::Refused(format!(
            "{} has {} of the {size} bytes that {} gives: nothing was written; copy it again, or delete that file if it is of \
             an older image",
            path.display(),
            image.len(),
            beside.display()
        ))),
        _ => Ok(()),
    }
}
