//! The IDX format of MNIST, as described at <http://yann.lecun.com/exdb/mnist/>.

use std::path::{Path, PathBuf};

use super::file::Source;
use crate::{
    Error, Result,
    error::ErrorKind,
    kernels::{memory::collected, sizes::room},
    tensor::{AnyTensor, Element, Tensor},
};

fn malformed(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Format, "idx", format!("{}: {what}", path.display()))
}

/// What the header says about the elements: their type, their shape, and the number of bytes of one.
#[inline]
fn header(file: &mut Source<'_>, path: &Path) -> Result<(u8, Vec<usize>, usize)> {
    let (kind, axes) = match *file.up_to(4)? {
        [0, 0, kind, axes] if axes > 0 => (kind, usize::from(axes)),
        _ => {
            let what = "not an IDX file: it does not begin with two zero bytes, a type and a number of axes";
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

/// Reads an IDX file, which may be compressed with gzip: bytes and integers become `i64`, floats keep their type.
///
/// It reads and allocates no more than the header announces and the file holds.
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
    let all = (&*data, &*shape);
    Ok(match kind {
        0x08 => decoded(all, |[b]: [u8; 1]| i64::from(b))?.into(),
        0x09 => decoded(all, |[b]: [u8; 1]| i64::from(b as i8))?.into(),
        0x0B => decoded(all, |b| i64::from(i16::from_be_bytes(b)))?.into(),
        0x0C => decoded(all, |b| i64::from(i32::from_be_bytes(b)))?.into(),
        0x0D => decoded(all, f32::from_be_bytes)?.into(),
        _ => decoded(all, f64::from_be_bytes)?.into(),
    })
}

fn decoded<T: Element, const B: usize>(
    (data, shape): (&[u8], &[usize]),
    of: impl Fn([u8; B]) -> T,
) -> Result<Tensor<T>> {
    room::<T>("idx", shape)?;
    Tensor::from_vec(shape, collected(data.as_chunks().0.iter().map(|&bytes| of(bytes))))
}

/// Reads images and labels of MNIST, or of a data set in its format, from a folder: for `train` the files
/// `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, otherwise `t10k-…`, each with or without `.gz`.
///
/// Images are `[N, 1, 28, 28]` with values from 0 to 1, labels are `[N]`.
///
/// # Errors
/// If a file is missing or malformed, or the numbers of labels and images differ.
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

/// The path of the file with this name, with or without `.gz`.
#[inline]
fn find(folder: &Path, name: &str) -> Result<PathBuf> {
    let (plain, packed) = (folder.join(name), folder.join(format!("{name}.gz")));
    [plain, packed].into_iter().find(|p| p.exists()).ok_or_else(|| {
        Error::new(ErrorKind::Io, "mnist", format!("{} holds neither {name} nor {name}.gz", folder.display()))
    })
}
