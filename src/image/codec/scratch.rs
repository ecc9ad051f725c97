//! The state that coders keep from piece to piece, each in its library's type.

use kernels::lzo1x;
use miniz_oxide::deflate::core::CompressorOxide;
use zstd_safe::{CCtx, DCtx};

/// The state of all coders, made once a thread; each coder fills its own when it is first used.
#[derive(Default)]
pub struct Scratch {
    /// The level to compress at; `None` for the codec's default.
    pub(super) level: Option<u8>,
    pub(super) lzo: lzo1x::Table,
    /// gzip's compressor, which holds 300 KB of tables.
    pub(super) deflate: Option<Box<CompressorOxide>>,
    pub(super) zstd: Contexts,
}

/// The contexts of zstd's library.
#[derive(Default)]
pub struct Contexts {
    pub(super) pack: Option<CCtx<'static>>,
    pub(super) expand: Option<DCtx<'static>>,
}
