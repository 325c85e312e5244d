//! The safetensors format: reading and writing files or bytes.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::atomic;
use crate::{
    Error, Result,
    error::ErrorKind,
    kernels::{
        layout::row_major,
        memory::{mapped, vector},
        sizes::room,
        sort,
    },
    state::StateDict,
    tensor::{AnyTensor, Element, Tensor},
};

/// Length of the longest header that readers of the format accept, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// Writes a tensor as the format stores it: row-major, little-endian.
fn encode(tensor: &AnyTensor, out: &mut dyn Write) -> io::Result<()> {
    match tensor {
        AnyTensor::F32(t) => encoded(t, out, |x| x.to_le_bytes()),
        AnyTensor::F64(t) => encoded(t, out, |x| x.to_le_bytes()),
        AnyTensor::I64(t) => encoded(t, out, |x| x.to_le_bytes()),
        AnyTensor::Bool(t) => encoded(t, out, |x| [u8::from(x)]),
    }
}

fn encoded<T: Element, const B: usize>(
    tensor: &Tensor<T>,
    out: &mut dyn Write,
    of: impl Fn(T) -> [u8; B],
) -> io::Result<()> {
    let mut bytes = [[0; B]; 1 << 12];
    row_major(&tensor.view()).chunks(bytes.len()).try_for_each(|part| {
        bytes.iter_mut().zip(part).for_each(|(bytes, &x)| *bytes = of(x));
        out.write_all(bytes[..part.len()].as_flattened())
    })
}

/// The type of the elements, the bytes per element, and the bytes of all.
fn size(tensor: &AnyTensor) -> (Dtype, usize, usize) {
    let (dtype, width, numel) = match tensor {
        AnyTensor::F32(t) => (Dtype::F32, 4, t.numel()),
        AnyTensor::F64(t) => (Dtype::F64, 8, t.numel()),
        AnyTensor::I64(t) => (Dtype::I64, 8, t.numel()),
        AnyTensor::Bool(t) => (Dtype::BOOL, 1, t.numel()),
    };
    (dtype, width, width * numel)
}

/// The layout of a file: the length of its header and the header, then tensors.
struct Layout<'s> {
    head: Vec<u8>,
    tensors: Vec<&'s AnyTensor>,
}

impl<'s> Layout<'s> {
    /// The header lists the entries in their order. Their bytes are stored with the widest elements first, so that each
    /// tensor begins at a multiple of its element's width, as readers that map a file into memory require.
    fn new(state: &'s StateDict) -> Result<Self> {
        let refuse = |message: String| Err(Error::new(ErrorKind::Format, "safetensors", message));
        let entries: Vec<(&str, &AnyTensor)> = state.iter().collect();
        let order = sort::order(entries.len(), &|i| !(size(entries[i].1).1 as u64));
        let (mut ranges, mut end) = (vec![(0, 0); entries.len()], 0);
        for &i in &order {
            let start = end;
            end += size(entries[i].1).2;
            ranges[i] = (start, end);
        }
        let mut lines = Vec::new();
        for ((name, tensor), (start, end)) in entries.iter().zip(ranges) {
            if *name == "__metadata__" {
                return refuse(format!(
                    "a tensor cannot be named `{name}`, which the format keeps for remarks; rename it"
                ));
            }
            let (name, shape) = (serde_json::Value::from(*name), tensor.shape());
            let dtype = size(tensor).0;
            lines.push(format!(r#"{name}:{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#));
        }
        let mut header = format!("{{{}}}", lines.join(",")).into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let length = header.len() as u64;
        if length > MAX_HEADER {
            return refuse(format!("the names and shapes take {length} bytes, and the format allows {MAX_HEADER}"));
        }
        let head = [&length.to_le_bytes(), header.as_slice()].concat();
        Ok(Layout { head, tensors: order.iter().map(|&i| entries[i].1).collect() })
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.head)?;
        self.tensors.iter().try_for_each(|tensor| encode(tensor, out))
    }
}

/// The keys of a header in their order, which the format's own reader does not keep.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keyed;
        impl<'de> Visitor<'de> for Keyed {
            type Value = Keys;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a header")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(Keyed)
    }
}

/// What bytes that are not a safetensors file seem to be instead.
fn seems(bytes: &[u8]) -> &'static str {
    match bytes {
        [b'P', b'K', 3, 4, ..] | [0x80, 2..=5, ..] => {
            " but look like PyTorch's own format, as torch.save writes it; write them in Python with \
             safetensors.torch.save_file(model.state_dict(), path)"
        }
        _ if bytes.starts_with(b"version https://git-lfs") => {
            " but a pointer of Git LFS to one; fetch the file itself with `git lfs pull`"
        }
        _ => "",
    }
}

fn malformed(bytes: &[u8], cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let message = format!("this is not a safetensors file{}", seems(bytes));
    Error::new(ErrorKind::Format, "safetensors", message).caused_by(cause)
}

/// The format checks lengths, but also accepts shapes without elements that no array can have.
fn decode<T: Element, const B: usize>(view: &TensorView<'_>, of: impl Fn([u8; B]) -> T + Copy) -> Result<AnyTensor> {
    room::<T>("from_bytes", view.shape())?;
    let values = mapped(view.data().as_chunks().0, of);
    Tensor::from_vec(view.shape(), values).map(Into::into)
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

/// A stored tensor; narrower types become the nearest of the supported ones.
fn restore(name: &str, view: &TensorView<'_>) -> Result<AnyTensor> {
    let restored = match view.dtype() {
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
    };
    restored.map_err(|e| {
        Error::new(ErrorKind::Format, "safetensors", format!("`{name}` is not a valid tensor")).caused_by(e)
    })
}

/// The bytes of a safetensors file.
///
/// # Errors
/// If a tensor is named `__metadata__`, which the format reserves, all names and shapes together take more than 100 MB,
/// or there is not enough memory for the bytes.
pub fn to_bytes(state: &StateDict) -> Result<Vec<u8>> {
    let layout = Layout::new(state)?;
    let tensors: usize = layout.tensors.iter().map(|tensor| size(tensor).2).sum();
    let mut bytes = vector(room::<u8>("to_bytes", &[layout.head.len() + tensors])?);
    layout.write(&mut bytes).expect("a vector takes everything");
    Ok(bytes)
}

/// The tensors in the bytes of a safetensors file, in the order of its header; narrower types become f32 or i64.
///
/// # Errors
/// If the bytes are not in the format, or a tensor is of a type that has no counterpart.
pub fn from_bytes(bytes: &[u8]) -> Result<StateDict> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| malformed(bytes, e))?;
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let Keys(names) = serde_json::from_slice(&bytes[8..8 + length]).map_err(|e| malformed(bytes, e))?;
    let tensors = names.into_iter().filter(|name| name != "__metadata__").map(|name| {
        let view = file.tensor(&name).map_err(|e| malformed(bytes, e))?;
        Ok((restore(&name, &view)?, name)).map(|(tensor, name)| (name, tensor))
    });
    tensors.collect()
}

/// Writes a safetensors file completely or not at all, so that a crash leaves the old file unchanged.
///
/// The new file is written next to the old one under a random name (`.ndnn-….tmp`), synced, and renamed. Files that a
/// killed process left are removed by the next save into the folder. A symbolic link is followed; mode and owner of the
/// old file are kept if the system allows it; other hard links to it keep the old content. A pipe or a device is
/// written to directly.
///
/// # Errors
/// If the file cannot be written or is read-only, and as [`to_bytes`].
pub fn save(path: impl AsRef<Path>, state: &StateDict) -> Result<()> {
    let layout = Layout::new(state)?;
    atomic::replace(path.as_ref(), |out| layout.write(out))
}

/// Reads a safetensors file.
///
/// # Errors
/// If the file cannot be read or is not in the format.
pub fn load(path: impl AsRef<Path>) -> Result<StateDict> {
    let path = path.as_ref();
    let unreadable =
        |e: io::Error| Error::new(ErrorKind::Io, "load", format!("cannot read {}", path.display())).caused_by(e);
    let mut file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).take(8).read_to_end(&mut bytes).map_err(unreadable)?;
    // A large file of another kind is not read to its end, nor is a device without an end.
    if let Some(length) = bytes.first_chunk().map(|&length| u64::from_le_bytes(length))
        && !(2..=MAX_HEADER).contains(&length)
    {
        file.take(64).read_to_end(&mut bytes).map_err(unreadable)?;
        let cause = format!("a header of {length} bytes, where 2 to {MAX_HEADER} are possible");
        return Err(malformed(&bytes, cause).within(path.display()));
    }
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    from_bytes(&bytes).map_err(|e| e.within(path.display()))
}
