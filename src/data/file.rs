//! Reading a file that may be compressed.

use std::{fs, path::Path};

use crate::{Error, Result, error::ErrorKind};

/// The bytes of a file, unpacked if it is compressed by gzip.
pub(super) fn bytes(op: &str, path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path)
        .map_err(|e| Error::new(ErrorKind::Io, op, format!("cannot read {}", path.display())).caused_by(e))?;
    if bytes.starts_with(&[0x1f, 0x8b]) { gunzip(op, path, &bytes) } else { Ok(bytes) }
}

#[cfg(feature = "gzip")]
fn gunzip(op: &str, path: &Path, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(bytes), &mut unpacked).map_err(|e| {
        Error::new(ErrorKind::Format, op, format!("{}: damaged gzip data", path.display())).caused_by(e)
    })?;
    Ok(unpacked)
}

#[cfg(not(feature = "gzip"))]
fn gunzip(op: &str, path: &Path, _: &[u8]) -> Result<Vec<u8>> {
    let what = "the file is compressed; unpack it, or switch on ndnn's feature `gzip`";
    Err(Error::new(ErrorKind::Format, op, format!("{}: {what}", path.display())))
}
