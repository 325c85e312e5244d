//! [`Args`]: the arguments of one call, as PyTorch passes them.
//!
//! Every accessor takes the argument's position in PyTorch's signature ([`KW`] for keyword-only ones) and its keyword;
//! `"dim|axis"` names an alias. It **marks** the argument as used: an argument that is given, is not None, and was
//! never read fails the case, so that no option can be ignored silently. A missing argument or one of another type is
//! an `Err`. Read arguments only once the target is known to be yours.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashSet},
    rc::Rc,
};

use ndnn::{AnyTensor, DType, Element, Error, Real, Result, Tensor};

use crate::values::{Value, strided};

/// The position of a keyword-only argument.
pub const KW: usize = usize::MAX;

/// A value from which an argument is made where PyTorch accepts a number or a tensor.
#[derive(Clone, Debug)]
pub enum Operand<T: Real> {
    Tensor(Tensor<T>),
    Number(f64),
}

/// How the tensors of a call are returned.
#[derive(Clone, Copy)]
pub struct Mode {
    /// Floating tensors with two or more axes as strided copies.
    pub strided: bool,
    /// Floating tensors as leaves that require a gradient.
    pub tracked: bool,
}

/// The arguments of one call.
pub struct Args<T: Real> {
    args: Vec<Value>,
    kwargs: Vec<(String, Value)>,
    /// The prefix of the paths in a module passed as an argument; empty at the top level.
    prefix: String,
    mode: Mode,
    shared: Rc<Shared<T>>,
}

/// What the calls on one set of arguments, and on those nested in it, record.
struct Shared<T: Real> {
    leaves: RefCell<BTreeMap<String, Tensor<T>>>,
    used: RefCell<HashSet<String>>,
    unused_inside: RefCell<Vec<(String, String)>>,
    mutated: RefCell<BTreeMap<String, AnyTensor>>,
}

impl<T: Real> Args<T> {
    pub fn new(args: Vec<Value>, kwargs: Vec<(String, Value)>, mode: Mode) -> Self {
        let shared = Rc::new(Shared {
            leaves: RefCell::default(),
            used: RefCell::default(),
            unused_inside: RefCell::default(),
            mutated: RefCell::default(),
        });
        Args { args, kwargs, prefix: String::new(), mode, shared }
    }

    // ------------------------------------------------------------------------------------------------- finding one

    /// The argument with its path, marked as used.
    fn find(&self, index: usize, name: &str) -> Option<(String, &Value)> {
        let found = match self.args.get(index) {
            Some(value) => (format!("{}args/{index}", self.prefix), value),
            None => name.split('|').find_map(|name| {
                let (key, value) = self.kwargs.iter().find(|(key, _)| key == name)?;
                Some((format!("{}kwargs/{key}", self.prefix), value))
            })?,
        };
        self.shared.used.borrow_mut().insert(found.0.clone());
        Some(found)
    }

    fn find_value(&self, index: usize, name: &str) -> Option<(String, &Value)> {
        self.find(index, name).filter(|(_, value)| !matches!(value, Value::Null))
    }

    fn need(&self, index: usize, name: &str) -> Result<(String, &Value)> {
        self.find_value(index, name).ok_or_else(|| Error::value("case", format!("the argument `{name}` is missing")))
    }

    /// Whether the argument is given and is not None; does not mark it.
    pub fn has(&self, index: usize, name: &str) -> bool {
        self.peek(index, name).is_some()
    }

    /// Whether the argument is given as None, where that differs from leaving it out.
    pub fn is_none(&self, index: usize, name: &str) -> bool {
        self.find(index, name).is_some_and(|(_, value)| matches!(value, Value::Null))
    }

    /// Whether the argument is a tensor; does not mark it.
    pub fn is_tensor(&self, index: usize, name: &str) -> bool {
        matches!(self.peek(index, name), Some(Value::Tensor(_)))
    }

    /// Whether the argument is a list; does not mark it.
    pub fn is_list(&self, index: usize, name: &str) -> bool {
        matches!(self.peek(index, name), Some(Value::List(_)))
    }

    /// Whether the argument is a string; does not mark it.
    pub fn is_str(&self, index: usize, name: &str) -> bool {
        matches!(self.peek(index, name), Some(Value::Str(_)))
    }

    /// Whether the argument is an integer; does not mark it.
    pub fn is_int(&self, index: usize, name: &str) -> bool {
        matches!(self.peek(index, name), Some(Value::Int(_)))
    }

    /// The element type of a tensor argument; does not mark it.
    pub fn tensor_dtype(&self, index: usize, name: &str) -> Option<DType> {
        match self.peek(index, name) {
            Some(Value::Tensor(tensor)) => Some(tensor.dtype()),
            _ => None,
        }
    }

    /// The argument, unless it is missing or None; does not mark it.
    fn peek(&self, index: usize, name: &str) -> Option<&Value> {
        let value = self
            .args
            .get(index)
            .or_else(|| name.split('|').find_map(|name| Some(&self.kwargs.iter().find(|(key, _)| key == name)?.1)))?;
        Some(value).filter(|value| !matches!(value, Value::Null))
    }

    /// The argument as it is, unless it is missing or None.
    pub fn value(&self, index: usize, name: &str) -> Option<&Value> {
        Some(self.find_value(index, name)?.1)
    }

    /// Marks an argument that has no meaning here (`inplace`, `out`, `device`) as used.
    pub fn ignore(&self, index: usize, name: &str) {
        self.find(index, name);
    }

    /// The number of positional arguments.
    pub fn positional(&self) -> usize {
        self.args.len()
    }

    // ------------------------------------------------------------------------------------------------------ tensors

    /// A floating tensor of type `T`: a leaf, the same one for each call.
    pub fn tensor(&self, index: usize, name: &str) -> Result<Tensor<T>> {
        let (path, value) = self.need(index, name)?;
        self.leaf(&path, name, value)
    }

    pub fn opt_tensor(&self, index: usize, name: &str) -> Result<Option<Tensor<T>>> {
        self.find_value(index, name).map(|(path, value)| self.leaf(&path, name, value)).transpose()
    }

    /// A floating tensor of type `T` without gradients: running statistics.
    pub fn detached(&self, index: usize, name: &str) -> Result<Tensor<T>> {
        Ok(self.tensor(index, name)?.detach())
    }

    pub fn opt_detached(&self, index: usize, name: &str) -> Result<Option<Tensor<T>>> {
        Ok(self.opt_tensor(index, name)?.map(|t| t.detach()))
    }

    pub fn long(&self, index: usize, name: &str) -> Result<Tensor<i64>> {
        typed(name, self.need(index, name)?.1)
    }

    pub fn opt_long(&self, index: usize, name: &str) -> Result<Option<Tensor<i64>>> {
        self.find_value(index, name).map(|(_, value)| typed(name, value)).transpose()
    }

    pub fn mask(&self, index: usize, name: &str) -> Result<Tensor<bool>> {
        typed(name, self.need(index, name)?.1)
    }

    pub fn opt_mask(&self, index: usize, name: &str) -> Result<Option<Tensor<bool>>> {
        self.find_value(index, name).map(|(_, value)| typed(name, value)).transpose()
    }

    /// A tensor of its own type; a floating one requires a gradient.
    pub fn any(&self, index: usize, name: &str) -> Result<AnyTensor> {
        let (path, value) = self.need(index, name)?;
        self.any_at(&path, name, value)
    }

    pub fn opt_any(&self, index: usize, name: &str) -> Result<Option<AnyTensor>> {
        self.find_value(index, name).map(|(path, value)| self.any_at(&path, name, value)).transpose()
    }

    /// A tensor or a number as a tensor of type `T`, as PyTorch promotes integers, bools and numbers together with
    /// floats.
    pub fn promoted(&self, index: usize, name: &str) -> Result<Tensor<T>> {
        let (path, value) = self.need(index, name)?;
        match value {
            Value::Tensor(AnyTensor::I64(t)) => Ok(t.cast()),
            Value::Tensor(AnyTensor::Bool(t)) => Ok(t.cast()),
            Value::Tensor(_) => self.leaf(&path, name, value),
            _ => Ok(Tensor::scalar(T::of(number(name, value)?))),
        }
    }

    /// A tensor or a number, distinguished.
    pub fn operand(&self, index: usize, name: &str) -> Result<Operand<T>> {
        match self.need(index, name)? {
            (path, value @ Value::Tensor(_)) => Ok(Operand::Tensor(self.leaf(&path, name, value)?)),
            (_, value) => Ok(Operand::Number(number(name, value)?)),
        }
    }

    /// A list of tensors, or all positional arguments from here on.
    pub fn tensors(&self, index: usize, name: &str) -> Result<Vec<Tensor<T>>> {
        self.each(index, name)?.into_iter().map(|(path, value)| self.leaf(&path, name, value)).collect()
    }

    /// As [`tensors`](Args::tensors), of any type.
    pub fn any_list(&self, index: usize, name: &str) -> Result<Vec<AnyTensor>> {
        self.each(index, name)?.into_iter().map(|(path, value)| self.any_at(&path, name, value)).collect()
    }

    /// The elements of a list with their paths, or all positional arguments from here on.
    fn each(&self, index: usize, name: &str) -> Result<Vec<(String, &Value)>> {
        let (path, value) = self.need(index, name)?;
        if let Value::List(list) = value {
            return Ok(list.iter().enumerate().map(|(i, v)| (format!("{path}/{i}"), v)).collect());
        }
        if index >= self.args.len() {
            return Err(wrong(name, value, "a list"));
        }
        Ok((index..self.args.len()).filter_map(|i| self.find(i, name)).collect())
    }

    fn leaf(&self, path: &str, name: &str, value: &Value) -> Result<Tensor<T>> {
        match value {
            Value::Tensor(tensor) if tensor.dtype() == T::DTYPE => Ok(self.gathering(path, tensor)),
            other => Err(wrong(name, other, &format!("a tensor of {}", T::DTYPE))),
        }
    }

    fn any_at(&self, path: &str, name: &str, value: &Value) -> Result<AnyTensor> {
        match value {
            // All leaves are of type T, so that one call returns all gradients: another float type is cast from its
            // leaf.
            Value::Tensor(tensor @ AnyTensor::F32(_)) => Ok(self.gathering(path, tensor).cast::<f32>().into()),
            Value::Tensor(tensor @ AnyTensor::F64(_)) => Ok(self.gathering(path, tensor).cast::<f64>().into()),
            Value::Tensor(tensor) => Ok(tensor.clone()),
            other => Err(wrong(name, other, "a tensor")),
        }
    }

    fn gathering(&self, path: &str, tensor: &AnyTensor) -> Tensor<T> {
        let mut leaves = self.shared.leaves.borrow_mut();
        let make = || {
            let tensor = tensor.to::<T>();
            let tensor = if self.mode.strided { strided(&tensor) } else { tensor };
            tensor.set_requires_grad(self.mode.tracked)
        };
        leaves.entry(path.to_string()).or_insert_with(make).clone()
    }

    // ------------------------------------------------------------------------------------------------ plain values

    pub fn int(&self, index: usize, name: &str) -> Result<isize> {
        integer(name, self.need(index, name)?.1)
    }

    pub fn opt_int(&self, index: usize, name: &str) -> Result<Option<isize>> {
        self.find_value(index, name).map(|(_, value)| integer(name, value)).transpose()
    }

    pub fn int_or(&self, index: usize, name: &str, default: isize) -> Result<isize> {
        Ok(self.opt_int(index, name)?.unwrap_or(default))
    }

    /// One number or a list.
    pub fn ints(&self, index: usize, name: &str) -> Result<Vec<isize>> {
        integers(name, self.need(index, name)?.1)
    }

    pub fn opt_ints(&self, index: usize, name: &str) -> Result<Option<Vec<isize>>> {
        self.find_value(index, name).map(|(_, value)| integers(name, value)).transpose()
    }

    /// A list, or all positional numbers from here on: `x.permute(2, 0, 1)`; no numbers are an empty list.
    pub fn rest_ints(&self, index: usize, name: &str) -> Result<Vec<isize>> {
        if !self.has(index, name) {
            return Ok(Vec::new());
        }
        self.each(index, name)?.into_iter().map(|(_, value)| integer(name, value)).collect()
    }

    /// One number or a list, where an element may be None (adaptive pooling's `(None, 7)`).
    pub fn ints_or_none(&self, index: usize, name: &str) -> Result<Vec<Option<isize>>> {
        let element = |value: &Value| match value {
            Value::Null => Ok(None),
            other => integer(name, other).map(Some),
        };
        match self.find(index, name) {
            Some((_, Value::List(list))) => list.iter().map(element).collect(),
            Some((_, value)) => Ok(vec![element(value)?]),
            None => Err(Error::value("case", format!("the argument `{name}` is missing"))),
        }
    }

    /// A number that is unsigned in ndnn's signature.
    pub fn size(&self, index: usize, name: &str) -> Result<usize> {
        unsigned(name, self.int(index, name)?)
    }

    pub fn opt_size(&self, index: usize, name: &str) -> Result<Option<usize>> {
        self.opt_int(index, name)?.map(|n| unsigned(name, n)).transpose()
    }

    pub fn size_or(&self, index: usize, name: &str, default: usize) -> Result<usize> {
        Ok(self.opt_size(index, name)?.unwrap_or(default))
    }

    /// One number or a list, none of them negative.
    pub fn sizes(&self, index: usize, name: &str) -> Result<Vec<usize>> {
        self.ints(index, name)?.into_iter().map(|n| unsigned(name, n)).collect()
    }

    pub fn opt_sizes(&self, index: usize, name: &str) -> Result<Option<Vec<usize>>> {
        let Some(ints) = self.opt_ints(index, name)? else { return Ok(None) };
        ints.into_iter().map(|n| unsigned(name, n)).collect::<Result<_>>().map(Some)
    }

    pub fn float(&self, index: usize, name: &str) -> Result<f64> {
        number(name, self.need(index, name)?.1)
    }

    pub fn opt_float(&self, index: usize, name: &str) -> Result<Option<f64>> {
        self.find_value(index, name).map(|(_, value)| number(name, value)).transpose()
    }

    pub fn float_or(&self, index: usize, name: &str, default: f64) -> Result<f64> {
        Ok(self.opt_float(index, name)?.unwrap_or(default))
    }

    /// One number or a list of numbers.
    pub fn floats(&self, index: usize, name: &str) -> Result<Vec<f64>> {
        numbers(name, self.need(index, name)?.1)
    }

    pub fn opt_floats(&self, index: usize, name: &str) -> Result<Option<Vec<f64>>> {
        self.find_value(index, name).map(|(_, value)| numbers(name, value)).transpose()
    }

    pub fn opt_bool(&self, index: usize, name: &str) -> Result<Option<bool>> {
        match self.find_value(index, name) {
            None => Ok(None),
            Some((_, Value::Bool(b))) => Ok(Some(*b)),
            Some((_, other)) => Err(wrong(name, other, "a bool")),
        }
    }

    pub fn bool_or(&self, index: usize, name: &str, default: bool) -> Result<bool> {
        Ok(self.opt_bool(index, name)?.unwrap_or(default))
    }

    /// A string, or the name of a callable.
    pub fn opt_str(&self, index: usize, name: &str) -> Result<Option<&str>> {
        match self.find_value(index, name) {
            None => Ok(None),
            Some((_, Value::Str(text) | Value::Function(text))) => Ok(Some(text)),
            Some((_, other)) => Err(wrong(name, other, "a text")),
        }
    }

    pub fn str_or<'a>(&'a self, index: usize, name: &str, default: &'a str) -> Result<&'a str> {
        Ok(self.opt_str(index, name)?.unwrap_or(default))
    }

    pub fn str(&self, index: usize, name: &str) -> Result<&str> {
        self.need(index, name)?;
        self.str_or(index, name, "")
    }

    /// A dtype argument.
    pub fn dtype(&self, index: usize, name: &str) -> Result<Option<DType>> {
        match self.find_value(index, name) {
            None => Ok(None),
            Some((_, Value::DType(dtype))) => Ok(Some(*dtype)),
            Some((_, other)) => Err(wrong(name, other, "a dtype")),
        }
    }

    /// A module passed as an argument: its class, and the arguments of its constructor, which must all be used too.
    pub fn module(&self, index: usize, name: &str) -> Result<Option<(String, Args<T>)>> {
        let Some((path, value)) = self.find_value(index, name) else { return Ok(None) };
        let Value::Module { target, args, kwargs } = value else { return Err(wrong(name, value, "a module")) };
        let inside = Args {
            args: args.clone(),
            kwargs: kwargs.clone(),
            prefix: format!("{path}/"),
            mode: Mode { tracked: false, ..self.mode },
            shared: self.shared.clone(),
        };
        self.shared.unused_inside.borrow_mut().extend(inside.paths());
        Ok(Some((target.clone(), inside)))
    }

    // -------------------------------------------------------------------------------------------- for the runner

    /// Records what an argument would hold after the call, if PyTorch changes it in place (running statistics).
    pub fn report_mutated(&self, index: usize, name: &str, now: impl Into<AnyTensor>) {
        if let Some((path, _)) = self.find(index, name) {
            self.shared.mutated.borrow_mut().insert(path, now.into());
        }
    }

    pub fn mutated(&self, path: &str) -> Option<AnyTensor> {
        self.shared.mutated.borrow().get(path).cloned()
    }

    /// Every leaf that was returned, by path.
    pub fn leaves(&self) -> BTreeMap<String, Tensor<T>> {
        self.shared.leaves.borrow().clone()
    }

    /// The arguments that are not None and were never read.
    pub fn unused(&self) -> Vec<String> {
        let used = self.shared.used.borrow();
        let inside = self.shared.unused_inside.borrow();
        let all = self.paths().into_iter().chain(inside.iter().cloned());
        all.filter(|(path, _)| !used.contains(path)).map(|(_, name)| name).collect()
    }

    /// Each argument that is not None: its path, and its name for messages.
    fn paths(&self) -> Vec<(String, String)> {
        let positional = self.args.iter().enumerate().map(|(i, v)| (format!("args/{i}"), format!("number {i}"), v));
        let keywords = self.kwargs.iter().map(|(k, v)| (format!("kwargs/{k}"), format!("`{k}`"), v));
        positional
            .chain(keywords)
            .filter(|(_, _, value)| !matches!(value, Value::Null))
            .map(|(path, name, value)| (format!("{}{path}", self.prefix), format!("{name} = {}", value.describe())))
            .collect()
    }
}

fn wrong(name: &str, value: &Value, expected: &str) -> Error {
    Error::value("case", format!("the argument `{name}` is {}, expected {expected}", value.describe()))
}

fn typed<U: Element>(name: &str, value: &Value) -> Result<Tensor<U>> {
    match value {
        Value::Tensor(tensor) if tensor.dtype() == U::DTYPE => Ok(tensor.to()),
        other => Err(wrong(name, other, &format!("a tensor of {}", U::DTYPE))),
    }
}

fn integer(name: &str, value: &Value) -> Result<isize> {
    match value {
        Value::Int(i) => Ok(*i as isize),
        other => Err(wrong(name, other, "an integer")),
    }
}

fn integers(name: &str, value: &Value) -> Result<Vec<isize>> {
    match value {
        Value::List(list) => list.iter().map(|v| integer(name, v)).collect(),
        other => Ok(vec![integer(name, other)?]),
    }
}

fn unsigned(name: &str, value: isize) -> Result<usize> {
    usize::try_from(value).map_err(|_| Error::value("case", format!("the argument `{name}` is negative: {value}")))
}

fn number(name: &str, value: &Value) -> Result<f64> {
    match value {
        Value::Int(i) => Ok(*i as f64),
        Value::Float(f) => Ok(*f),
        Value::Bool(b) => Ok(f64::from(*b)),
        // A learning rate may be a tensor without axes.
        Value::Tensor(t) if t.shape().is_empty() => t.to::<f64>().item(),
        other => Err(wrong(name, other, "a number")),
    }
}

fn numbers(name: &str, value: &Value) -> Result<Vec<f64>> {
    match value {
        Value::List(list) => list.iter().map(|v| number(name, v)).collect(),
        other => Ok(vec![number(name, other)?]),
    }
}
