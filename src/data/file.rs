//! Reading a file that may be compressed.

use std::{
    fs::File,
    io::{self, Cursor, Read},
    path::Path,
};

use crate::{Error, Result, error::ErrorKind};

/// A file that is decompressed while it is read, if it is compressed with gzip.
pub(super) struct Source<'p> {
    op: &'static str,
    path: &'p Path,
    packed: bool,
    reader: Box<dyn Read>,
}

impl<'p> Source<'p> {
    #[inline]
    pub(super) fn open(op: &'static str, path: &'p Path) -> Result<Self> {
        let mut first = Vec::new();
        let file = File::open(path).and_then(|mut file| {
            file.by_ref().take(2).read_to_end(&mut first)?;
            Ok(file)
        });
        let file = file.map_err(|e| unreadable(op, path, e))?;
        let packed = first == [0x1f, 0x8b];
        let whole = Cursor::new(first).chain(file);
        let reader = if packed { gunzip(op, path, whole)? } else { Box::new(whole) };
        Ok(Source { op, path, packed, reader })
    }

    /// The next bytes: `limit` of them, or all that are left. It allocates memory for what is there, not for what was
    /// asked for.
    #[inline]
    pub(super) fn up_to(&mut self, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.reader.by_ref().take(limit).read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(e) if self.packed => {
                let what = format!("{}: damaged gzip data", self.path.display());
                Err(Error::new(ErrorKind::Format, self.op, what).caused_by(e))
            }
            Err(e) => Err(unreadable(self.op, self.path, e)),
        }
    }
}

#[inline]
fn unreadable(op: &str, path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, op, format!("cannot read {}", path.display())).caused_by(error)
}

#[cfg(feature = "gzip")]
fn gunzip(_: &str, _: &Path, packed: impl Read + 'static) -> Result<Box<dyn Read>> {
    Ok(Box::new(flate2::read::MultiGzDecoder::new(packed)))
}

#[cfg(not(feature = "gzip"))]
#[inline]
fn gunzip(op: &str, path: &Path, _: impl Read + 'static) -> Result<Box<dyn Read>> {
    let what = "the file is compressed; unpack it, or switch on ndnn's feature `gzip`";
    Err(Error::new(ErrorKind::Format, op, format!("{}: {what}", path.display())))
}
