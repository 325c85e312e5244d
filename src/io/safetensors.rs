//! The safetensors format: read and written from a path or from bytes.

use std::{
    borrow::Cow,
    fs::{self, File},
    io::Write,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use safetensors::{Dtype, SafeTensors, View, tensor::TensorView};

use crate::{
    Error, Result,
    error::ErrorKind,
    kernels::index::row_major,
    nn::StateDict,
    tensor::{AnyTensor, DType, Element, Tensor},
};

/// The bytes of a tensor as the format stores them: row-major, little-endian.
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

fn store(tensor: &AnyTensor) -> Stored {
    let bytes = match tensor {
        AnyTensor::F32(t) => row_major(&t.view()).iter().flat_map(|x| x.to_le_bytes()).collect(),
        AnyTensor::F64(t) => row_major(&t.view()).iter().flat_map(|x| x.to_le_bytes()).collect(),
        AnyTensor::I64(t) => row_major(&t.view()).iter().flat_map(|x| x.to_le_bytes()).collect(),
        AnyTensor::Bool(t) => row_major(&t.view()).iter().map(|&x| u8::from(x)).collect(),
    };
    let dtype = match tensor.dtype() {
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::I64 => Dtype::I64,
        DType::Bool => Dtype::BOOL,
    };
    Stored { dtype, shape: tensor.shape().to_vec(), bytes }
}

fn decode<T: Element, const B: usize>(view: &TensorView<'_>, of: impl Fn([u8; B]) -> T) -> AnyTensor {
    let values = view.data().chunks_exact(B).map(|c| of(c.try_into().expect("B bytes"))).collect();
    Tensor::from_vec(view.shape(), values).expect("the format checks lengths").into()
}

/// A half-precision number: sign, five bits of exponent, ten of fraction.
fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1. } else { 1. };
    let (exponent, fraction) = ((bits >> 10) & 31, f32::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0. => f32::INFINITY,
        31 => f32::NAN,
        e => (1. + fraction / 1024.) * 2f32.powi(i32::from(e) - 15),
    }
}

/// A stored tensor; narrower types become the nearest of ours.
fn restore(name: &str, view: &TensorView<'_>) -> Result<AnyTensor> {
    Ok(match view.dtype() {
        Dtype::F32 => decode(view, f32::from_le_bytes),
        Dtype::F64 => decode(view, f64::from_le_bytes),
        Dtype::F16 => decode(view, |b| half(u16::from_le_bytes(b))),
        Dtype::BF16 => decode(view, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
        Dtype::I64 => decode(view, i64::from_le_bytes),
        Dtype::I32 => decode(view, |b| i64::from(i32::from_le_bytes(b))),
        Dtype::I16 => decode(view, |b| i64::from(i16::from_le_bytes(b))),
        Dtype::I8 => decode(view, |b| i64::from(i8::from_le_bytes(b))),
        Dtype::U8 => decode(view, |[b]| i64::from(b)),
        Dtype::BOOL => decode(view, |[b]| b != 0),
        other => {
            return Err(Error::new(
                ErrorKind::Format,
                "safetensors",
                format!("`{name}` is of type {other:?}, which has no place in a tensor of f32, f64, i64 or bool"),
            ));
        }
    })
}

/// The bytes of a safetensors file.
pub fn to_bytes(state: &StateDict) -> Vec<u8> {
    let stored = state.iter().map(|(name, tensor)| (name, store(tensor)));
    safetensors::serialize(stored, None).expect("names are unique and shapes are the tensors' own")
}

/// The tensors in the bytes of a safetensors file; narrower types become f32 or i64.
///
/// # Errors
/// If the bytes are not in the format, or a tensor is of a type that has no counterpart.
pub fn from_bytes(bytes: &[u8]) -> Result<StateDict> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| {
        Error::new(ErrorKind::Format, "safetensors", "these bytes are no safetensors file").caused_by(e)
    })?;
    file.tensors().into_iter().map(|(name, view)| Ok((restore(&name, &view)?, name)).map(|(t, n)| (n, t))).collect()
}

/// Writes a safetensors file: whole, or not at all, so that a crash leaves the old file as it was.
///
/// # Errors
/// If the file cannot be written.
pub fn save(path: impl AsRef<Path>, state: &StateDict) -> Result<()> {
    write_atomically(path.as_ref(), &to_bytes(state))
}

/// Reads a safetensors file.
///
/// # Errors
/// If it cannot be read or is not in the format.
pub fn load(path: impl AsRef<Path>) -> Result<StateDict> {
    let path = path.as_ref();
    let bytes = fs::read(path)
        .map_err(|e| Error::new(ErrorKind::Io, "load", format!("cannot read {}", path.display())).caused_by(e))?;
    from_bytes(&bytes).map_err(|e| e.within(path.display()))
}

/// Writes beside the file, makes sure that it is on the disk, and only then puts it in the old one's place.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let unique = format!("{}.{}.tmp", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{unique}"));
    let beside = path.with_file_name(name);
    let written = File::create(&beside)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&beside, path));
    written.map_err(|e| {
        let _ = fs::remove_file(&beside);
        Error::new(ErrorKind::Io, "save", format!("cannot write {}", path.display())).caused_by(e)
    })
}
