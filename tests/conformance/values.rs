//! The values of FORMAT.md: from JSON to ndnn's tensors.

use std::{collections::HashMap, fs, path::Path};

use ndarray::{ArrayD, Axis, IxDyn, Slice};
use ndnn::{AnyTensor, DType, Element, Tensor};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value as Json;

/// An argument as a case gives it.
// Some are read by few dispatch files, or only in messages.
#[allow(dead_code)]
#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
    Tensor(AnyTensor),
    DType(DType),
    /// An activation passed as a callable, by name.
    Function(String),
    /// A module passed as an argument.
    Module {
        target: String,
        args: Vec<Value>,
        kwargs: Vec<(String, Value)>,
    },
    /// A type that ndnn does not have, by the name in the case.
    Unsupported(String),
}

impl Value {
    /// The kind of value, for a message.
    pub fn describe(&self) -> String {
        match self {
            Value::Tensor(t) => format!("a tensor of {} {:?}", t.dtype(), t.shape()),
            other => format!("{other:?}"),
        }
    }
}

/// A case file: its cases, and its tensors by name.
#[derive(Default)]
pub struct CaseFile {
    pub cases: Vec<Json>,
    tensors: HashMap<String, AnyTensor>,
}

impl CaseFile {
    pub fn read(path: &Path) -> Result<CaseFile, String> {
        let bytes = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let bad = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| bad(&e))?;
        let metadata = header.metadata().as_ref().ok_or_else(|| bad(&"there is no __metadata__"))?;
        let cases = metadata.get("cases").ok_or_else(|| bad(&"there are no cases in __metadata__"))?;
        let mut cases: Vec<Json> = serde_json::from_str(cases).map_err(|e| bad(&e))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| bad(&e))?;
        let tensors: HashMap<String, AnyTensor> =
            file.iter().filter_map(|(name, view)| Some((name.to_string(), tensor(&view)?))).collect();
        let shape = |name: &str| tensors.get(name).map_or(Vec::new(), |t: &AnyTensor| t.shape().to_vec());
        cases.iter_mut().for_each(|case| crate::skips::mark_chance(case, shape));
        Ok(CaseFile { cases, tensors })
    }

    /// The tensor of a JSON `{"tensor": name}`.
    pub fn tensor(&self, json: &Json) -> Result<AnyTensor, String> {
        match self.value(json)? {
            Value::Tensor(tensor) => Ok(tensor),
            other => Err(format!("expected a tensor, the case has {}", other.describe())),
        }
    }

    /// The tensors of a JSON array.
    pub fn tensors(&self, json: &Json) -> Result<Vec<AnyTensor>, String> {
        list(json).iter().map(|t| self.tensor(t)).collect()
    }

    /// The tensors of a JSON object, by key.
    pub fn named_tensors(&self, json: &Json) -> Result<Vec<(String, AnyTensor)>, String> {
        entries(json).map(|(name, t)| Ok((name.clone(), self.tensor(t)?))).collect()
    }

    pub fn values(&self, json: &Json) -> Result<Vec<Value>, String> {
        list(json).iter().map(|v| self.value(v)).collect()
    }

    pub fn named_values(&self, json: &Json) -> Result<Vec<(String, Value)>, String> {
        entries(json).map(|(name, v)| Ok((name.clone(), self.value(v)?))).collect()
    }

    pub fn value(&self, json: &Json) -> Result<Value, String> {
        Ok(match json {
            Json::Null => Value::Null,
            Json::Bool(b) => Value::Bool(*b),
            Json::Number(n) => match n.as_i64() {
                Some(i) => Value::Int(i),
                None => Value::Float(n.as_f64().ok_or_else(|| format!("the number {n}"))?),
            },
            Json::String(s) => Value::Str(s.clone()),
            Json::Array(_) => Value::List(self.values(json)?),
            Json::Object(map) => {
                let text = |key: &str| map.get(key).and_then(Json::as_str);
                if let Some(name) = text("tensor") {
                    match self.tensors.get(name) {
                        Some(tensor) => Value::Tensor(tensor.clone()),
                        None => Value::Unsupported(format!("the tensor {name}")),
                    }
                } else if let Some(float) = text("float") {
                    Value::Float(float.parse().map_err(|_| format!("the float {float:?}"))?)
                } else if let Some(dtype) = text("dtype") {
                    match dtype {
                        "F32" => Value::DType(DType::F32),
                        "F64" => Value::DType(DType::F64),
                        "I64" => Value::DType(DType::I64),
                        "BOOL" => Value::DType(DType::Bool),
                        other => Value::Unsupported(format!("the dtype {other}")),
                    }
                } else if let Some(function) = text("function") {
                    Value::Function(function.to_string())
                } else if let Some(module) = text("module") {
                    Value::Module {
                        target: module.to_string(),
                        args: self.values(&json["args"])?,
                        kwargs: self.named_values(&json["kwargs"])?,
                    }
                } else {
                    Value::Map(self.named_values(json)?)
                }
            }
        })
    }
}

fn list(json: &Json) -> &[Json] {
    json.as_array().map_or(&[], Vec::as_slice)
}

fn entries(json: &Json) -> impl Iterator<Item = (&String, &Json)> {
    json.as_object().into_iter().flatten()
}

/// A stored tensor; `None` if ndnn has no such type.
fn tensor(view: &TensorView<'_>) -> Option<AnyTensor> {
    fn read<T: Element, const N: usize>(view: &TensorView<'_>, of: fn([u8; N]) -> T) -> AnyTensor {
        let elements = view.data().chunks_exact(N).map(|b| of(b.try_into().expect("N bytes"))).collect();
        Tensor::from_vec(view.shape(), elements).expect("as many elements as the shape says").into()
    }
    Some(match view.dtype() {
        Dtype::F32 => read(view, f32::from_le_bytes),
        Dtype::F64 => read(view, f64::from_le_bytes),
        Dtype::I64 => read(view, i64::from_le_bytes),
        Dtype::BOOL => read(view, |[b]: [u8; 1]| b != 0),
        _ => return None,
    })
}

/// The same elements, with gaps between them and the axes in reverse order in memory.
pub fn strided<T: Element>(tensor: &Tensor<T>) -> Tensor<T> {
    let shape = tensor.shape();
    if shape.len() < 2 {
        return tensor.clone();
    }
    let mut memory: Vec<usize> = shape.iter().rev().copied().collect();
    *memory.last_mut().expect("two axes or more") *= 2;
    let mut array = ArrayD::from_elem(IxDyn(&memory), T::ZERO).into_shared();
    array.slice_axis_inplace(Axis(memory.len() - 1), Slice::new(0, None, 2));
    let mut array = array.reversed_axes();
    array.assign(&tensor.view());
    array.into()
}
