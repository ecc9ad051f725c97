//! ogUcastSendFile, ogUcastReceiverFile: sending a file from one PC to others; mbuffer may be the other end.

use super::{Function, split_file};
use crate::applets::Exit;
use crate::base::signal::Signals;
use crate::engine::unicast::{Session, receive, send};
use crate::engine::{Code, Error};

/// ogUcastSendFile.
pub const SEND_FILE: Function = Function {
    format: "[ str_repo | int_ndisk int_npartition ] path_file port:ip_client[:ip_client...]",
    examples: &["REPO /aula1/winxp.img 8000:172.17.36.11:172.17.36.12"],
    words: 2..=4,
    run: |engine, words, _| {
        let (file, session) = split_file(words);
        let [session] = session else { return Err(Error::usage(engine.name(), SEND_FILE.format)) };
        let (place, name) = engine.place(file)?;
        let path = engine.file(&place, &name)?;
        send(&path, &Session::parse(session)?)?;
        Ok(Exit::OK)
    },
};

/// ogUcastReceiverFile: OpenGnsys has an error code for it, but not the function.
pub const RECEIVE_FILE: Function = Function {
    format: "port:ip_master [ str_repo | int_ndisk int_npartition ] path_file",
    examples: &["8000:172.17.36.249 CACHE /aula1/winxp.img"],
    words: 2..=4,
    run: |engine, words, _| {
        let session = Session::parse(words[0])?;
        let (place, name) = engine.place(&words[1..])?;
        let path = engine.file_to_be(&place, &name)?;
        let uncaught = |error| Error::new(Code::Generic, format!("catch signals: {error}"));
        let signals = Signals::catch_ends().map_err(uncaught)?;
        receive(&path, &session, &|| signals.ending())?;
        Ok(Exit::OK)
    },
};
