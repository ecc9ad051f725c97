//! The error numbers that OpenGnsys' scripts, console and server know (`OG_ERR_*` of loadenviron.sh).

use std::fmt;

/// The failure of an engine function: OpenGnsys' number, which is the exit code, and the details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// OpenGnsys' error number.
    pub code: Code,
    /// What was being done, to what, why it failed, what to do: printed in quotes after the code's text.
    pub detail: String,
}

impl Error {
    /// An error of `code` with `detail`.
    pub fn new(code: Code, detail: impl Into<String>) -> Error {
        Error { code, detail: detail.into() }
    }

    /// A usage error: `command` takes the arguments of `format`.
    pub fn usage(command: &str, format: &str) -> Error {
        Error::new(Code::Format, format!("{command} {format}").trim_end())
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.detail)
    }
}

/// Generates the enum and the table of its texts from one list, so that they cannot differ.
macro_rules! codes {
    ($($number:literal $name:ident $message:literal,)*) => {
        /// OpenGnsys' error numbers, used as exit codes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        #[allow(missing_docs)]
        pub enum Code { $($name = $number,)* }

        const CODES: &[(Code, &str)] = &[$((Code::$name, $message),)*];
    };
}

codes! {
    1 Format "MSG_ERR_FORMAT",
    2 NotFound "MSG_ERR_NOTFOUND",
    3 Partition "MSG_ERR_PARTITION",
    4 Locked "MSG_ERR_LOCKED",
    5 Image "MSG_ERR_IMAGE",
    6 NotOs "MSG_ERR_NOTOS",
    7 NotExec "MSG_ERR_NOTEXEC",
    14 NotWrite "MSG_ERR_NOTWRITE",
    15 NotCache "MSG_ERR_NOTCACHE",
    16 CacheSize "MSG_ERR_CACHESIZE",
    17 ReduceFs "MSG_ERR_REDUCEFS",
    18 ExtendFs "MSG_ERR_EXTENDFS",
    19 OutOfLimit "MSG_ERR_OUTOFLIMIT",
    20 FileSys "MSG_ERR_FILESYS",
    21 Cache "MSG_ERR_CACHE",
    22 NoGpt "MSG_ERR_NOGPT",
    23 Repo "MSG_ERR_REPO",
    24 NoMsdos "MSG_ERR_NOMSDOS",
    30 ImgSizePartition "MSG_ERR_IMGSIZEPARTITION",
    31 UpdateCache "MSG_ERR_UPDATECACHE",
    32 DontFormat "MSG_ERR_DONTFORMAT",
    33 ImageFile "MSG_ERR_IMAGEFILE",
    40 Generic "MSG_ERR_GENERIC",
    50 UcastSyntax "MSG_ERR_UCASTSYNTAXT",
    51 UcastSendPartition "MSG_ERR_UCASTSENDPARTITION",
    52 UcastSendFile "MSG_ERR_UCASTSENDFILE",
    53 UcastReceiverPartition "MSG_ERR_UCASTRECEIVERPARTITION",
    54 UcastReceiverFile "MSG_ERR_UCASTRECEIVERFILE",
    55 McastSyntax "MSG_ERR_MCASTSYNTAXT",
    56 McastSendFile "MSG_ERR_MCASTSENDFILE",
    57 McastReceiverFile "MSG_ERR_MCASTRECEIVERFILE",
    58 McastSendPartition "MSG_ERR_MCASTSENDPARTITION",
    59 McastReceiverPartition "MSG_ERR_MCASTRECEIVERPARTITION",
    60 ProtocolJoinMaster "MSG_ERR_PROTOCOLJOINMASTER",
    70 DontMountImage "MSG_ERR_DONTMOUNT_IMAGE",
    71 DontSyncImage "MSG_ERR_DONTSYNC_IMAGE",
    72 DontUnmountImage "MSG_ERR_DONTUNMOUNT_IMAGE",
    73 NotDifferent "MSG_ERR_NOTDIFFERENT",
    74 Synchronizing "MSG_ERR_SYNCHRONIZING",
    80 NotUefi "MSG_ERR_NOTUEFI",
    81 NotBios "MSG_ERR_NOTBIOS",
}

impl Code {
    /// The code of `number`; [`Code::Generic`] if unknown.
    pub fn of(number: u8) -> Code {
        CODES.iter().map(|(code, _)| *code).find(|code| *code as u8 == number).unwrap_or(Code::Generic)
    }

    /// The variable that holds the code's text (see [`super::messages`]).
    pub fn message(self) -> &'static str {
        CODES.iter().find(|(code, _)| *code == self).map_or("MSG_ERR_GENERIC", |(_, message)| message)
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::{Language, text};
    use super::*;

    #[test]
    fn every_code_has_a_text_in_every_language() {
        for (code, message) in CODES {
            for language in [Language::English, Language::Spanish, Language::Catalan] {
                assert_ne!(text(message, language), "", "{code:?} {language:?}");
            }
        }
    }

    #[test]
    fn a_number_is_its_code_and_an_unknown_one_is_generic() {
        assert_eq!([Code::of(1), Code::of(31), Code::of(81)], [Code::Format, Code::UpdateCache, Code::NotBios]);
        assert_eq!([Code::of(0), Code::of(9), Code::of(255)], [Code::Generic; 3]);
        assert_eq!(Code::of(40).message(), "MSG_ERR_GENERIC");
    }
}
