//! Modules that hold modules: [`Sequential`], [`ModuleList`], [`ModuleDict`], [`ParameterList`], [`ParameterDict`].

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use super::{
    Module,
    copies::{cloned, converted, copying},
    dtype::Dtype,
    field::Members,
    forward::Forward,
    param::Param,
    printing::repr,
};
use crate::{
    Result,
    state::Ordered,
    tensor::{DType, Real, Tensor},
};

/// Layers one after the other, each taking what the one before gave.
///
/// ```
/// use ndnn::prelude::*;
/// let model = sequential![Linear::new(4, 8), ReLU, Linear::new(8, 2)];
/// assert_eq!(model.forward(&Tensor::zeros([3, 4]))?.shape(), [3, 2]);
/// # Ok::<(), ndnn::Error>(())
/// ```
pub struct Sequential<T: Real = f32> {
    layers: Ordered<Box<dyn Forward<T>>>,
}

/// A name that can stand between the dots of a path.
#[track_caller]
fn proper(container: &str, name: String) -> String {
    assert!(!name.is_empty(), "{container}: a name cannot be empty");
    assert!(!name.contains('.'), "{container}: a name has no dot, which separates the parts of a path; got `{name}`");
    name
}

/// A [`Sequential`](crate::nn::Sequential) of the given layers: `sequential![Linear::new(4, 8), ReLU]`.
#[macro_export]
macro_rules! sequential {
    ($($layer:expr),* $(,)?) => {
        $crate::nn::Sequential::from(vec![$(Box::new($layer) as Box<dyn $crate::nn::Forward<_>>),*])
    };
}

impl<T: Real> From<Vec<Box<dyn Forward<T>>>> for Sequential<T> {
    fn from(layers: Vec<Box<dyn Forward<T>>>) -> Self {
        Sequential { layers: layers.into_iter().enumerate().map(|(i, layer)| (i.to_string(), layer)).collect() }
    }
}

impl<T: Real> Default for Sequential<T> {
    fn default() -> Self {
        Sequential { layers: Ordered::default() }
    }
}

impl<T: Real> Sequential<T> {
    /// Adds a layer at the end, named by its position.
    ///
    /// # Panics
    /// If a layer was given that name before.
    #[track_caller]
    pub fn push(self, layer: impl Forward<T>) -> Self {
        let position = self.layers.len().to_string();
        self.push_named(position, layer)
    }

    /// Adds a layer at the end under a name of its own, as `Sequential(OrderedDict(…))` does in PyTorch.
    ///
    /// # Panics
    /// If there is a layer of that name, or the name is empty or has a dot in it.
    #[track_caller]
    pub fn push_named(mut self, name: impl Into<String>, layer: impl Forward<T>) -> Self {
        let name = proper("Sequential", name.into());
        assert!(
            self.layers.get(&name).is_none(),
            "Sequential: there is a layer named `{name}`; each needs a name of its own"
        );
        self.layers.insert(name, Box::new(layer));
        self
    }

    /// The number of layers.
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether there is no layer.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The layer at a position.
    pub fn get(&self, position: usize) -> Option<&dyn Forward<T>> {
        self.layers.nth(position).map(|(_, layer)| &**layer)
    }

    /// The layer at a position, to change it.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let mut model = sequential![Linear::new(4, 8), BatchNorm1d::new(8)];
    /// model.get_mut(1).unwrap().eval();
    /// assert!(!model.is_training());
    /// ```
    pub fn get_mut(&mut self, position: usize) -> Option<&mut dyn Forward<T>> {
        // Not `map`: a closure's result would have to live as long as the box.
        match self.layers.values_mut().nth(position) {
            Some(layer) => Some(&mut **layer),
            None => None,
        }
    }

    /// The layers in order.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Forward<T>> {
        self.layers.iter().map(|(_, layer)| &**layer)
    }
}

impl<T: Real> Module for Sequential<T> {
    fn members<'a>(&'a self, members: &mut Members<'a>) {
        self.layers.iter().for_each(|(name, layer)| members.child(name, &**layer));
    }
    fn type_name(&self) -> String {
        "Sequential".into()
    }
}

impl<T: Real> Forward<T> for Sequential<T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let mut x = x.clone();
        for (name, layer) in self.layers.iter() {
            x = layer.forward(&x).map_err(|e| e.within(format_args!("Sequential ({name})")))?;
        }
        Ok(x)
    }
    crate::forward_dtype!();
}

impl<T: Real> Clone for Sequential<T> {
    fn clone(&self) -> Self {
        copying(|| Sequential { layers: self.layers.clone() })
    }
}

impl<T: Real> fmt::Display for Sequential<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&repr(self))
    }
}

impl<T: Real> Dtype for Sequential<T> {
    type With<U: Real> = Sequential<U>;
    /// # Panics
    /// If a layer is written for one element type only.
    #[track_caller]
    fn dtype<U: Real>(self) -> Sequential<U> {
        copying(|| Sequential { layers: self.layers.into_iter().map(|(n, layer)| (n, layer.dtype::<U>())).collect() })
    }
}

// ---------------------------------------------------------------------------------------------------- lists of modules

/// Modules in a row, named `0`, `1`, …: a `Vec`, which is a module itself; printed with equal neighbours folded.
///
/// As a field it is cloned with the model around it, and what is tied stays tied. A `Vec` alone clones one module after the
/// other, and what two of them share is then two copies.
///
/// ```
/// use ndnn::prelude::*;
/// #[derive(Module)]
/// struct Net { layers: ModuleList<Linear> }
/// let net = Net { layers: vec![Linear::new(2, 2), Linear::new(2, 2)] };
/// assert!(net.to_string().contains("(0-1): 2 x Linear(in_features=2, out_features=2, bias=True)"));
/// ```
pub type ModuleList<M = Box<dyn Forward>> = Vec<M>;

/// A list of modules, printed as PyTorch prints its `ModuleList`.
macro_rules! list {
    ([$($generics:tt)*] $t:ty, |$list:ident| $copied:expr) => {
        impl<$($generics)*> Module for $t {
            fn members<'a>(&'a self, members: &mut Members<'a>) {
                self.iter().enumerate().for_each(|(i, m)| members.child(i.to_string(), m));
            }
            fn type_name(&self) -> String {
                "ModuleList".into()
            }
            fn folds(&self) -> bool {
                true
            }
            fn copied(&self) -> Self {
                let $list = self;
                $copied
            }
        }
    };
}
list!([M: Module + Clone] Vec<M>, |list| list.iter().map(M::copied).collect());
list!([M: Module + Clone, const N: usize] [M; N], |list| list.each_ref().map(M::copied));

impl<M: Module + Clone> Module for BTreeMap<String, M> {
    fn members<'a>(&'a self, members: &mut Members<'a>) {
        self.iter().for_each(|(name, m)| members.child(name, m));
    }
    fn type_name(&self) -> String {
        "ModuleDict".into()
    }
    fn copied(&self) -> Self {
        self.iter().map(|(name, m)| (name.clone(), m.copied())).collect()
    }
}

/// A box around a module, or around a `dyn Forward`, is that module.
impl<M: Module + ?Sized> Module for Box<M> {
    fn members<'a>(&'a self, members: &mut Members<'a>) {
        (**self).members(members);
    }
    fn type_name(&self) -> String {
        (**self).type_name()
    }
    fn extra_repr(&self) -> String {
        (**self).extra_repr()
    }
    fn folds(&self) -> bool {
        (**self).folds()
    }
}

/// A module in several places of a model: a clone of the model has one copy of it, in the same places.
///
/// ```
/// use ndnn::prelude::*;
/// use std::sync::Arc;
/// let shared = Arc::new(Linear::new(4, 4));
/// let model = sequential![shared.clone(), ReLU, shared];
/// assert_eq!((model.parameters().len(), model.state_dict().len()), (2, 4));
/// ```
impl<M: Module + Clone> Module for Arc<M> {
    fn members<'a>(&'a self, members: &mut Members<'a>) {
        (**self).members(members);
    }
    fn type_name(&self) -> String {
        (**self).type_name()
    }
    fn extra_repr(&self) -> String {
        (**self).extra_repr()
    }
    fn folds(&self) -> bool {
        (**self).folds()
    }
    fn copied(&self) -> Self {
        cloned(self, || Arc::new((**self).copied()))
    }
}

impl<T: Real, M: Forward<T> + Clone> Forward<T> for Arc<M> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        (**self).forward(x)
    }
    fn dtype_boxed(&self, dtype: DType) -> Option<Box<dyn Any>> {
        (**self).dtype_boxed(dtype)
    }
}

impl<M: Dtype + Clone + 'static> Dtype for Arc<M> {
    type With<U: Real> = Arc<M::With<U>>;
    #[track_caller]
    fn dtype<U: Real>(self) -> Arc<M::With<U>> {
        copying(|| converted(&self, || Arc::new((*self).clone().dtype::<U>())))
    }
}

// ------------------------------------------------------------------------------------------------ what has its own names

/// Entries in order of insertion, each with a name: what [`ModuleDict`] and [`ParameterDict`] are made of.
pub struct Named<V>(Ordered<V>);

impl<V: Clone> Clone for Named<V> {
    fn clone(&self) -> Self {
        copying(|| Named(self.0.clone()))
    }
}

impl<F: Dtype> Dtype for Named<F> {
    type With<U: Real> = Named<F::With<U>>;
    #[track_caller]
    fn dtype<U: Real>(self) -> Named<F::With<U>> {
        copying(|| Named(self.0.into_iter().map(|(name, m)| (name, m.dtype::<U>())).collect()))
    }
}

impl<V> Default for Named<V> {
    fn default() -> Self {
        Named(Ordered::default())
    }
}

impl<V> Named<V> {
    /// No entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry, or replaces the one of that name where it stands.
    ///
    /// # Panics
    /// If the name is empty or has a dot in it.
    #[track_caller]
    pub fn insert(&mut self, name: impl Into<String>, value: V) {
        self.0.insert(proper("insert", name.into()), value);
    }

    /// The entry of that name.
    pub fn get(&self, name: &str) -> Option<&V> {
        self.0.get(name)
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The names in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys()
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.0.iter()
    }
}

impl<N: Into<String>, V> FromIterator<(N, V)> for Named<V> {
    /// As [`insert`](Named::insert) one by one: of two entries of one name the last stays, as in PyTorch.
    #[track_caller]
    fn from_iter<I: IntoIterator<Item = (N, V)>>(iter: I) -> Self {
        let mut named = Named::new();
        for (name, value) in iter {
            named.insert(name, value);
        }
        named
    }
}

impl<N: Into<String>, V, const K: usize> From<[(N, V); K]> for Named<V> {
    #[track_caller]
    fn from(entries: [(N, V); K]) -> Self {
        // No `collect`: it would lose the caller's place.
        Named::from_iter(entries)
    }
}

/// Modules by name, in order of insertion.
///
/// ```
/// use ndnn::prelude::*;
/// let heads = ModuleDict::from([("left", Linear::new(4, 2)), ("right", Linear::new(4, 3))]);
/// assert_eq!(heads.get("right").unwrap().forward(&Tensor::zeros([1, 4]))?.shape(), [1, 3]);
/// # Ok::<(), ndnn::Error>(())
/// ```
pub type ModuleDict<M = Box<dyn Forward>> = Named<M>;

impl<M: Module + Clone> Module for Named<M> {
    fn members<'a>(&'a self, members: &mut Members<'a>) {
        self.0.iter().for_each(|(name, m)| members.child(name, m));
    }
    fn type_name(&self) -> String {
        "ModuleDict".into()
    }
    fn copied(&self) -> Self {
        copying(|| Named(self.0.iter().map(|(name, m)| (name.to_string(), m.copied())).collect()))
    }
}

// --------------------------------------------------------------------------------------------- parameters without a layer

/// Parameters in a row, named `0`, `1`, ….
#[derive(Default)]
pub struct ParameterList<T: Real = f32>(Vec<Param<T>>);

impl<T: Real> From<Vec<Param<T>>> for ParameterList<T> {
    fn from(params: Vec<Param<T>>) -> Self {
        ParameterList(params)
    }
}

impl<T: Real> FromIterator<Param<T>> for ParameterList<T> {
    fn from_iter<I: IntoIterator<Item = Param<T>>>(iter: I) -> Self {
        ParameterList(iter.into_iter().collect())
    }
}

impl<T: Real> Deref for ParameterList<T> {
    type Target = Vec<Param<T>>;
    fn deref(&self) -> &Vec<Param<T>> {
        &self.0
    }
}

impl<T: Real> DerefMut for ParameterList<T> {
    fn deref_mut(&mut self) -> &mut Vec<Param<T>> {
        &mut self.0
    }
}

/// Parameters by name, in order of insertion.
#[derive(Default)]
pub struct ParameterDict<T: Real = f32>(Named<Param<T>>);

impl<T: Real, N: Into<String>, const K: usize> From<[(N, Param<T>); K]> for ParameterDict<T> {
    #[track_caller]
    fn from(entries: [(N, Param<T>); K]) -> Self {
        ParameterDict(Named::from(entries))
    }
}

impl<T: Real> Deref for ParameterDict<T> {
    type Target = Named<Param<T>>;
    fn deref(&self) -> &Named<Param<T>> {
        &self.0
    }
}

impl<T: Real> DerefMut for ParameterDict<T> {
    fn deref_mut(&mut self) -> &mut Named<Param<T>> {
        &mut self.0
    }
}

/// What a collection of parameters shares with the other: members, printing, a clone that copies.
macro_rules! parameters {
    ($name:ident, |$self:ident| $entries:expr, |$t:ident| $type_name:expr, |$inner:ident, $f:ident| $map:expr) => {
        impl<T: Real> Module for $name<T> {
            fn members<'a>(&'a $self, members: &mut Members<'a>) {
                $entries.for_each(|(name, p)| members.field(&name, p));
            }
            fn type_name(&self) -> String {
                stringify!($name).into()
            }
            /// PyTorch's layout, to the letter.
            fn extra_repr(&$self) -> String {
                let line = |(name, p): (String, &Param<T>)| {
                    let size = p.shape().iter().map(usize::to_string).collect::<Vec<_>>().join("x");
                    let $t = T::DTYPE;
                    format!("  ({name}): Parameter containing: [torch.{} of size {size}]", $type_name)
                };
                $entries.map(line).collect::<Vec<_>>().join("\n")
            }
        }

        impl<T: Real> Clone for $name<T> {
            fn clone(&self) -> Self {
                let ($inner, $f) = (&self.0, |p: &Param<T>| p.deep_clone());
                copying(|| $name($map))
            }
        }

        impl<T: Real> Dtype for $name<T> {
            type With<U: Real> = $name<U>;
            fn dtype<U: Real>(self) -> $name<U> {
                let ($inner, $f) = (&self.0, |p: &Param<T>| p.cast::<U>());
                copying(|| $name($map))
            }
        }

        impl<T: Real> fmt::Display for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&repr(self))
            }
        }
    };
}
parameters!(
    ParameterList,
    |self| self.0.iter().enumerate().map(|(i, p)| (i.to_string(), p)),
    |dtype| if dtype == DType::F32 { "float32" } else { "float64" },
    |params, f| params.iter().map(f).collect()
);
parameters!(
    ParameterDict,
    |self| self.0.iter().map(|(n, p)| (n.to_string(), p)),
    |dtype| if dtype == DType::F32 { "FloatTensor" } else { "DoubleTensor" },
    |params, f| params.iter().map(|(n, p)| (n, f(p))).collect()
);
