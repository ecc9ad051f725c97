//! ogCreateImage, ogRestoreImage, ogUpdateCacheIsNecesary.

use std::time::Instant;

use super::swarm::catch_signals;
use super::{Function, NO, print};
use crate::applets::image::watch_over;
use crate::applets::{Exit, Io};
use crate::base::progress::Style;
use crate::base::signal::Signals;
use crate::engine::imaging::How;
use crate::engine::{Code, Error, Level, Targets};
use crate::image::Watch;

/// ogCreateImage: tool and compressor default to engine.cfg's.
pub const CREATE: Function = Function {
    format: "int_ndisk int_npartition REPO|CACHE /path_image [str_tool [str_compressor]]",
    examples: &["1 1 REPO /aula1/win7"],
    words: 4..=6,
    run: |engine, words, io| {
        let device = super::paths::partition(engine, &words[..2])?;
        let tool = words.get(4).copied().unwrap_or(engine.env().get("IMGPROG"));
        let compressor = words.get(5).copied().unwrap_or(engine.env().get("IMGCOMP"));
        let place = engine.named_place(words[2])?;
        let image = engine.file_to_be(&place, &engine.name_of_new_image(&place, words[3], compressor)?)?;
        let Io { out, err } = io;
        let mut warn = |text: &str| engine.echo(*err, Targets::NONE, Level::Warning, text);
        let how = How { tool, compressor, keep: false };
        let save = |watch: &Watch| engine.save_image(&device, &image, &how, watch, &mut warn);
        let line = watched("save", &catch_signals()?, save)?;
        engine.say(*out, Targets::NONE, &line);
        Ok(Exit::OK)
    },
};

/// ogRestoreImage.
pub const RESTORE: Function = Function {
    format: "REPO|CACHE /path_image int_ndisk int_npartition",
    examples: &["REPO /aula1/win7 1 1"],
    words: 4..=4,
    run: |engine, words, io| {
        let device = super::paths::partition(engine, &words[2..])?;
        let image = engine.image(&engine.named_place(words[0])?, words[1])?;
        let line = watched("restore", &catch_signals()?, |watch| engine.restore_image(&image, &device, watch))?;
        print(io, &line)
    },
};

/// ogUpdateCacheIsNecesary: exit code 0 is yes, 1 no.
pub const NECESSARY: Function = Function {
    format: "REPO path_image [UNICAST|MULTICAST|TORRENT|FULL]",
    examples: &["REPO /PS1_PH1.img UNICAST"],
    words: 2..=3,
    run: |engine, words, io| {
        engine.ensure(words[0].eq_ignore_ascii_case("REPO"), Code::NotFound, words.join(" "))?;
        let protocol = words.get(2).copied().unwrap_or("UNICAST");
        let necessary = engine.update_is_necessary(words[1], protocol, true, io.out, &|| false)?;
        Ok(if necessary { Exit::OK } else { NO })
    },
};

/// Runs `job` with its progress on standard error and `signals` as requests to stop; returns partclone's last line,
/// which createImage copies to the session's log.
///
/// # Errors
/// Those of `job`.
pub(super) fn watched(
    step: &str,
    signals: &Signals,
    job: impl FnOnce(&Watch) -> Result<(), Error>,
) -> Result<String, Error> {
    let begun = Instant::now();
    let total = watch_over(step, 1, Style::Auto, signals, Box::new(job))?;
    let seconds = begun.elapsed().as_secs();
    let rate = total.saturating_mul(60) / seconds.max(1);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    Ok(format!(
        "Total Time: {hours:02}:{minutes:02}:{:02}, Ave. Rate: {}.{:02}GB/min, 100.00% completed!",
        seconds % 60,
        rate / 1_000_000_000,
        rate / 10_000_000 % 100
    ))
}
