//! ogGetImageInfo and its fields, ogGetSizeParameters, ogCreateImageSyntax, ogRestoreImageSyntax.

use std::path::Path;

use super::{Function, print};
use crate::applets::{Exit, Io};
use crate::engine::info::ImageInfo;
use crate::engine::{Engine, Error, syntax};

const IMAGE: &str = "REPO|CACHE /str_image";
const IMAGES: &[&str] = &["REPO /aula1/winxp"];

/// ogGetImageInfo: `PARTCLONE:LZOP:NTFS:5642158`.
pub const INFO: Function = Function {
    format: "path_filename",
    examples: &["/opt/opengnsys/images/prueba.img"],
    words: 1..=1,
    run: |engine, words, io| {
        let info = engine.image_info(&engine.env().rooted(words[0]))?;
        print(io, &info.to_string())
    },
};

/// ogGetImageProgram.
pub const PROGRAM: Function =
    Function { format: IMAGE, examples: IMAGES, words: 2..=2, run: |engine, words, io| field(engine, words, io, 0) };

/// ogGetImageCompressor.
pub const COMPRESSOR: Function =
    Function { format: IMAGE, examples: IMAGES, words: 2..=2, run: |engine, words, io| field(engine, words, io, 1) };

/// ogGetImageType: the type of the image's file system.
pub const TYPE: Function =
    Function { format: IMAGE, examples: IMAGES, words: 2..=2, run: |engine, words, io| field(engine, words, io, 2) };

/// ogGetImageSize: the size of the image's file system, KB.
pub const SIZE: Function =
    Function { format: IMAGE, examples: IMAGES, words: 2..=2, run: |engine, words, io| field(engine, words, io, 3) };

fn field(engine: &Engine, words: &[&str], io: &mut Io, at: usize) -> Result<Exit, Error> {
    let image = engine.image(&engine.named_place(words[0])?, words[1])?;
    let info: ImageInfo = engine.image_info(&image)?;
    print(io, info.to_string().split(':').nth(at).unwrap_or_default())
}

/// ogGetSizeParameters: data, required and free KB, and whether the image fits.
pub const SIZES: Function = Function {
    format: "int_ndisk int_npartition REPO|CACHE str_image [monolit|sync|diff]",
    examples: &["1 2 REPO Windows10"],
    words: 4..=5,
    run: |engine, words, io| {
        let sizes =
            engine.sizes(&super::paths::partition(engine, &words[..2])?, &engine.named_place(words[2])?, words[3])?;
        let fits = if sizes.fits() { "TRUE" } else { "FALSE" };
        print(io, &format!("{} {} {} {fits}", sizes.data, sizes.required, sizes.free))
    },
};

/// ogCreateImageSyntax.
pub const CREATE_SYNTAX: Function = Function {
    format: "path_device path_imagefile [str_tool str_compressor]",
    examples: &["/dev/sda1 /opt/opengnsys/images/prueba.img partclone lzop"],
    words: 2..=4,
    run: |engine, words, io| match words {
        [device, image] => print(io, &syntax::create(engine, device, image, "partclone", "gzip")?),
        [device, image, tool, compressor] => print(io, &syntax::create(engine, device, image, tool, compressor)?),
        _ => Err(Error::usage(engine.name(), CREATE_SYNTAX.format)),
    },
};

/// ogRestoreImageSyntax.
pub const RESTORE_SYNTAX: Function = Function {
    format: "path_imagefile path_device [str_tool str_compressor]",
    examples: &["/opt/opengnsys/images/prueba.img /dev/sda1 partclone lzop"],
    words: 2..=4,
    run: |engine, words, io| {
        let (image, tools) = match words {
            [image, _] => (image, engine.image_info(&engine.env().rooted(Path::new(image)))?),
            [image, _, _, _] => {
                let found = engine.env().rooted(Path::new(image)).is_file();
                engine.ensure(found, crate::engine::Code::NotFound, *image)?;
                (image, ImageInfo { program: "", compressor: String::new(), fs: String::new(), size: 0 })
            }
            _ => return Err(Error::usage(engine.name(), RESTORE_SYNTAX.format)),
        };
        let tool = words.get(2).copied().unwrap_or(tools.program);
        let compressor = words.get(3).copied().unwrap_or(&tools.compressor);
        print(io, &syntax::restore(engine, image, words[1], tool, compressor)?)
    },
};
