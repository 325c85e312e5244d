//! The IDX format: MNIST's own, as <http://yann.lecun.com/exdb/mnist/> describes it.

use std::path::{Path, PathBuf};

use super::file::Source;
use crate::{
    Error, Result,
    error::ErrorKind,
    tensor::{AnyTensor, Tensor},
};

fn malformed(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Format, "idx", format!("{}: {what}", path.display()))
}

/// What the header says of the elements: their type, their shape, and how many bytes one takes.
fn header(file: &mut Source<'_>, path: &Path) -> Result<(u8, Vec<usize>, usize)> {
    let (kind, axes) = match *file.up_to(4)? {
        [0, 0, kind, axes] if axes > 0 => (kind, usize::from(axes)),
        _ => {
            let what = "no IDX file: it does not begin with two zero bytes, a type and a number of axes";
            return Err(malformed(path, what));
        }
    };
    let width = match kind {
        0x08 | 0x09 => 1,
        0x0B => 2,
        0x0C | 0x0D => 4,
        0x0E => 8,
        other => return Err(malformed(path, format!("unknown element type 0x{other:02X}"))),
    };
    let sizes = file.up_to(4 * axes as u64)?;
    if sizes.len() < 4 * axes {
        return Err(malformed(path, "the file ends inside its header"));
    }
    let size = |c: &[u8]| u32::from_be_bytes(c.try_into().expect("4 bytes")) as usize;
    Ok((kind, sizes.chunks_exact(4).map(size).collect(), width))
}

/// Reads an IDX file, compressed by gzip or not: bytes and integers become `i64`, floats stay.
///
/// No more is read, and no more memory taken, than the header announces and the file holds.
///
/// # Errors
/// If the file cannot be read, is not in the format, or is shorter or longer than its header says.
pub fn load(path: impl AsRef<Path>) -> Result<AnyTensor> {
    let path = path.as_ref();
    let mut file = Source::open("idx", path)?;
    let (kind, shape, width) = header(&mut file, path)?;
    let announced = format!("shape {shape:?} of {width}-byte elements");
    let Some(wanted) = shape.iter().try_fold(width, |n: usize, &s| n.checked_mul(s)) else {
        return Err(malformed(path, format!("{announced} is more than a machine can hold")));
    };
    let data = file.up_to(wanted as u64)?;
    if data.len() < wanted || !file.up_to(1)?.is_empty() {
        let there = if data.len() < wanted { data.len().to_string() } else { "more".into() };
        return Err(malformed(path, format!("{announced} takes {wanted} bytes, the file holds {there}")));
    }
    let ints = |of: &dyn Fn(&[u8]) -> i64| Tensor::from_vec(&shape, data.chunks_exact(width).map(of).collect());
    Ok(match kind {
        0x08 => ints(&|c| i64::from(c[0]))?.into(),
        0x09 => ints(&|c| i64::from(c[0] as i8))?.into(),
        0x0B => ints(&|c| i64::from(i16::from_be_bytes(c.try_into().expect("2 bytes"))))?.into(),
        0x0C => ints(&|c| i64::from(i32::from_be_bytes(c.try_into().expect("4 bytes"))))?.into(),
        0x0D => {
            let floats = data.chunks_exact(4).map(|c| f32::from_be_bytes(c.try_into().expect("4 bytes"))).collect();
            Tensor::from_vec(&shape, floats)?.into()
        }
        _ => {
            let floats = data.chunks_exact(8).map(|c| f64::from_be_bytes(c.try_into().expect("8 bytes"))).collect();
            Tensor::from_vec(&shape, floats)?.into()
        }
    })
}

/// Reads images and labels of MNIST, or of a set in its format, from a folder: for `train` the files
/// `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, otherwise `t10k-…`, each with or without `.gz`.
///
/// Images are `[N, 1, 28, 28]` in 0 to 1, labels `[N]`.
///
/// # Errors
/// If a file is missing or malformed, or there are not as many labels as images.
pub fn mnist(folder: impl AsRef<Path>, train: bool) -> Result<(Tensor<f32>, Tensor<i64>)> {
    let folder = folder.as_ref();
    let part = if train { "train" } else { "t10k" };
    let images = load(find(folder, &format!("{part}-images-idx3-ubyte"))?)?.to::<f32>();
    let labels = load(find(folder, &format!("{part}-labels-idx1-ubyte"))?)?.to::<i64>();
    let &[n, rows, columns] = images.shape() else {
        return Err(malformed(folder, format!("images have three axes, these are {:?}", images.shape())));
    };
    if labels.shape() != [n] {
        return Err(malformed(folder, format!("{n} images but labels of shape {:?}", labels.shape())));
    }
    Ok((images.reshape([n as isize, 1, rows as isize, columns as isize])? / 255.0, labels))
}

/// The file of that name, plain or with `.gz`.
fn find(folder: &Path, name: &str) -> Result<PathBuf> {
    let (plain, packed) = (folder.join(name), folder.join(format!("{name}.gz")));
    [plain, packed].into_iter().find(|p| p.exists()).ok_or_else(|| {
        Error::new(ErrorKind::Io, "mnist", format!("{} holds neither {name} nor {name}.gz", folder.display()))
    })
}
