//! Modules that contain modules: [`Sequential`], [`ModuleList`], [`ModuleDict`], [`ParameterList`], [`ParameterDict`].

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
    Error, Result, forward,
    state::Ordered,
    tensor::{DType, Real, Tensor, Tensors},
};

/// Layers applied one after another, each to the output of the one before; the first takes an `X`, by default a tensor.
///
/// [`sequential!`](crate::sequential) creates one.
///
/// ```
/// use ndnn::prelude::*;
/// let model = sequential![Linear::new(4, 8), ReLU, Linear::new(8, 2)];
/// assert_eq!(model.forward(&Tensor::zeros([3, 4]))?.shape(), [3, 2]);
/// // Labels in, scores out: a `Sequential<f32, Tensor<i64>>`.
/// let tagger = sequential![Embedding::new(1000, 64), LSTM::new(64, 128), Linear::new(128, 10)];
/// assert_eq!(tagger.forward(&tensor![[1, 2, 3]])?.shape(), [1, 3, 10]);
/// # Ok::<(), ndnn::Error>(())
/// ```
pub struct Sequential<T: Real = f32, X: 'static = Tensor<T>> {
    first: Option<(String, Box<dyn Forward<T, X>>)>,
    rest: Ordered<Box<dyn Forward<T>>>,
}

/// Checks that a name can be a part of a path.
#[track_caller]
fn proper(container: &str, name: String) -> String {
    assert!(!name.is_empty(), "{container}: a name cannot be empty");
    assert!(!name.contains('.'), "{container}: a name has no dot, which separates the parts of a path; got `{name}`");
    name
}

/// A [`Sequential`](crate::nn::Sequential) of the given layers: `sequential![Linear::new(4, 8), ReLU]`.
///
/// A type before a semicolon sets the element type of the layers, `sequential![f64; Linear::new(4, 8), ReLU]`: each
/// layer is converted by [`dtype`](crate::nn::Dtype::dtype) before it is boxed, since a boxed layer cannot be
/// converted. In generic code write `sequential![T; …]`.
///
/// ```
/// use ndnn::prelude::*;
/// let model = sequential![f64; Linear::new(1, 32), Tanh, Linear::new(32, 1)];
/// assert_eq!(model.forward(&tensor![[0.5]; f64])?.dtype(), ndnn::DType::F64);
/// // Weights trained in f32 can be used in f64:
/// let trained = sequential![Linear::new(1, 32), Tanh, Linear::new(32, 1)];
/// model.load_state_dict(&trained.state_dict())?;
/// # Ok::<(), ndnn::Error>(())
/// ```
#[macro_export]
macro_rules! sequential {
    () => {
        $crate::module::Sequential::default()
    };
    ($first:expr $(, $layer:expr)* $(,)?) => {
        $crate::module::Sequential::from((
            $crate::__private::first($first),
            ::std::vec![$($crate::__private::further($layer)),*],
        ))
    };
    ($t:ty; $($layer:expr),* $(,)?) => {
        $crate::sequential![$($crate::module::Dtype::dtype::<$t>($layer)),*]
    };
}

/// Boxes the first layer. The bound determines its types at once; an `as` would do so only at the end of the function.
pub fn first<T: Real, X: 'static>(layer: impl Forward<T, X>) -> Box<dyn Forward<T, X>> {
    Box::new(layer)
}

/// Boxes another layer.
pub fn further<T: Real>(layer: impl Forward<T>) -> Box<dyn Forward<T>> {
    Box::new(layer)
}

/// For [`sequential!`](crate::sequential).
impl<T: Real, X: 'static> From<(Box<dyn Forward<T, X>>, Vec<Box<dyn Forward<T>>>)> for Sequential<T, X> {
    fn from((first, rest): (Box<dyn Forward<T, X>>, Vec<Box<dyn Forward<T>>>)) -> Self {
        let rest = rest.into_iter().enumerate().map(|(i, layer)| ((i + 1).to_string(), layer)).collect();
        Sequential { first: Some(("0".into(), first)), rest }
    }
}

impl<T: Real> From<Vec<Box<dyn Forward<T>>>> for Sequential<T> {
    fn from(layers: Vec<Box<dyn Forward<T>>>) -> Self {
        let mut layers = layers.into_iter();
        match layers.next() {
            Some(first) => Self::from((first, layers.collect())),
            None => Self::default(),
        }
    }
}

impl<T: Real, X: 'static> Default for Sequential<T, X> {
    fn default() -> Self {
        Sequential { first: None, rest: Ordered::default() }
    }
}

impl<T: Real> Sequential<T> {
    /// Adds a layer at the end, named by its position.
    ///
    /// # Panics
    /// If an earlier layer was given that name.
    #[track_caller]
    pub fn push(self, layer: impl Forward<T>) -> Self {
        let position = self.len().to_string();
        self.push_named(position, layer)
    }

    /// Adds a layer at the end with a name of its own, as PyTorch's `Sequential(OrderedDict(…))` does.
    ///
    /// # Panics
    /// If there is a layer with this name, or the name is empty or contains a dot.
    #[track_caller]
    pub fn push_named(mut self, name: impl Into<String>, layer: impl Forward<T>) -> Self {
        let name = proper("Sequential", name.into());
        assert!(
            self.get_named(&name).is_none(),
            "Sequential: there is a layer named `{name}`; each needs a name of its own"
        );
        match self.first {
            None => self.first = Some((name, Box::new(layer))),
            Some(_) => drop(self.rest.insert(name, Box::new(layer))),
        }
        self
    }

    /// The layer at a position.
    pub fn get(&self, position: usize) -> Option<&dyn Forward<T>> {
        match position {
            0 => self.first.as_ref().map(|(_, layer)| &**layer),
            further => self.rest.nth(further - 1).map(|(_, layer)| &**layer),
        }
    }

    /// The layer at a position, for writing: `(layer as &mut dyn Any).downcast_mut::<Dropout>()`, or to put only this
    /// layer into evaluation mode.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let mut model = sequential![Linear::new(2, 2), BatchNorm1d::new(2)];
    /// model.get_mut(1).unwrap().eval();
    /// assert!(!model.get(1).unwrap().is_training());
    /// ```
    pub fn get_mut(&mut self, position: usize) -> Option<&mut (dyn Forward<T> + 'static)> {
        self.iter_mut().nth(position)
    }

    /// The layer with this name.
    pub fn get_named(&self, name: &str) -> Option<&dyn Forward<T>> {
        match &self.first {
            Some((first, layer)) if first == name => Some(&**layer),
            _ => self.rest.get(name).map(|layer| &**layer),
        }
    }

    /// The layers in order.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Forward<T>> {
        self.first.iter().map(|(_, layer)| &**layer).chain(self.rest.iter().map(|(_, layer)| &**layer))
    }

    /// The layers in order, for writing.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut (dyn Forward<T> + 'static)> {
        let first = self.first.iter_mut().map(|(_, layer)| &mut **layer);
        first.chain(self.rest.values_mut().map(|layer| &mut **layer))
    }
}

impl<T: Real> Extend<Box<dyn Forward<T>>> for Sequential<T> {
    /// Adds the layers at the end, each named by its position.
    fn extend<I: IntoIterator<Item = Box<dyn Forward<T>>>>(&mut self, layers: I) {
        for layer in layers {
            *self = std::mem::take(self).push(layer);
        }
    }
}

impl<T: Real, X: 'static> Sequential<T, X> {
    /// The number of layers.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    /// Whether there are no layers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Real, X: 'static> Module for Sequential<T, X> {
    fn members<'a>(&'a self, members: &mut Members<'a>) {
        self.first.iter().for_each(|(name, layer)| members.child(name, &**layer));
        self.rest.iter().for_each(|(name, layer)| members.child(name, &**layer));
    }
    fn type_name(&self) -> String {
        "Sequential".into()
    }
}

#[forward]
impl<T: Real, X: Send + Sync + Tensors + 'static> Forward<T, X> for Sequential<T, X> {
    fn forward(&self, x: &X) -> Result<Tensor<T>> {
        let mut y = match &self.first {
            Some((_, first)) => first.forward(x)?,
            None => (x as &dyn Any).downcast_ref::<Tensor<T>>().cloned().ok_or_else(|| {
                Error::value("Sequential", "no layer makes a tensor of the input; expected at least one")
            })?,
        };
        for (_, layer) in self.rest.iter() {
            y = layer.forward(&y)?;
        }
        Ok(y)
    }
}

impl<T: Real, X: 'static> Clone for Sequential<T, X> {
    fn clone(&self) -> Self {
        copying(|| Sequential { first: self.first.clone(), rest: self.rest.clone() })
    }
}

impl<T: Real, X: 'static> fmt::Display for Sequential<T, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&repr(self))
    }
}

// ---------------------------------------------------------------------------------------------------- lists of modules

/// A list of modules, named `0`, `1`, …: a `Vec`, which is itself a module; equal neighbours are printed once.
///
/// As a field it is cloned with the model that contains it, and tied parameters stay tied. A `Vec` by itself clones its
/// modules one after another, so what two of them share becomes two copies.
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

/// The methods of a wrapper, which behaves as the module inside.
macro_rules! as_inside {
    () => {
        fn members<'a>(&'a self, members: &mut $crate::module::Members<'a>) {
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
        fn place(&self) -> $crate::module::Place {
            (**self).place()
        }
        fn upgrade(&self, prefix: &str, state: &mut $crate::state::StateDict) {
            (**self).upgrade(prefix, state);
        }
    };
}
pub(super) use as_inside;

/// A boxed module, or a boxed `dyn Forward`, is that module.
impl<M: Module + ?Sized> Module for Box<M> {
    as_inside!();
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
    as_inside!();
    fn copied(&self) -> Self {
        cloned(self, || Arc::new((**self).copied()))
    }
}

impl<T: Real, X: 'static, M: Forward<T, X> + Clone> Forward<T, X> for Arc<M> {
    fn forward(&self, x: &X) -> Result<Tensor<T>> {
        (**self).forward(x)
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

/// Entries in order of insertion, each with a name: the basis of [`ModuleDict`] and [`ParameterDict`].
pub struct Dict<V>(Ordered<V>);

impl<V: Clone> Clone for Dict<V> {
    fn clone(&self) -> Self {
        copying(|| Dict(self.0.clone()))
    }
}

impl<F: Dtype> Dtype for Dict<F> {
    type With<U: Real> = Dict<F::With<U>>;
    #[track_caller]
    fn dtype<U: Real>(self) -> Dict<F::With<U>> {
        copying(|| Dict(self.0.into_iter().map(|(name, m)| (name, m.dtype::<U>())).collect()))
    }
}

impl<V> Default for Dict<V> {
    fn default() -> Self {
        Dict(Ordered::default())
    }
}

impl<V> Dict<V> {
    /// An empty collection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry, or replaces the one with this name in its position.
    ///
    /// # Panics
    /// If the name is empty or contains a dot.
    #[track_caller]
    pub fn insert(&mut self, name: impl Into<String>, value: V) {
        self.0.insert(proper("insert", name.into()), value);
    }

    /// The entry with this name.
    pub fn get(&self, name: &str) -> Option<&V> {
        self.0.get(name)
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no entries.
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

impl<N: Into<String>, V> FromIterator<(N, V)> for Dict<V> {
    /// As [`insert`](Dict::insert) for each entry: if two entries have one name, the last one is kept, as in PyTorch.
    #[track_caller]
    fn from_iter<I: IntoIterator<Item = (N, V)>>(iter: I) -> Self {
        let mut named = Dict::new();
        for (name, value) in iter {
            named.insert(name, value);
        }
        named
    }
}

impl<N: Into<String>, V, const K: usize> From<[(N, V); K]> for Dict<V> {
    #[track_caller]
    fn from(entries: [(N, V); K]) -> Self {
        // Not `collect`, which would lose the caller's line.
        Dict::from_iter(entries)
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
pub type ModuleDict<M = Box<dyn Forward>> = Dict<M>;

impl<M: Module + Clone> Module for Dict<M> {
    fn members<'a>(&'a self, members: &mut Members<'a>) {
        self.0.iter().for_each(|(name, m)| members.child(name, m));
    }
    fn type_name(&self) -> String {
        "ModuleDict".into()
    }
    fn copied(&self) -> Self {
        copying(|| Dict(self.0.iter().map(|(name, m)| (name.to_string(), m.copied())).collect()))
    }
}

// --------------------------------------------------------------------------------------------- parameters without a layer

/// A list of parameters, named `0`, `1`, ….
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

/// Parameters by name, in order of insertion.
#[derive(Default)]
pub struct ParameterDict<T: Real = f32>(Dict<Param<T>>);

impl<T: Real, N: Into<String>, const K: usize> From<[(N, Param<T>); K]> for ParameterDict<T> {
    #[track_caller]
    fn from(entries: [(N, Param<T>); K]) -> Self {
        ParameterDict(Dict::from(entries))
    }
}

/// What both collections of parameters share: access to the collection inside, members, printing, and a clone that copies.
macro_rules! parameters {
    ($name:ident: $inside:ty, |$self:ident| $entries:expr, |$t:ident| $type_name:expr, |$inner:ident, $f:ident| $map:expr) => {
        impl<T: Real> Deref for $name<T> {
            type Target = $inside;
            fn deref(&self) -> &$inside {
                &self.0
            }
        }

        impl<T: Real> DerefMut for $name<T> {
            fn deref_mut(&mut self) -> &mut $inside {
                &mut self.0
            }
        }

        impl<T: Real> Module for $name<T> {
            fn members<'a>(&'a $self, members: &mut Members<'a>) {
                $entries.for_each(|(name, p)| members.field(&name, p));
            }
            fn type_name(&self) -> String {
                stringify!($name).into()
            }
            /// Exactly PyTorch's layout.
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
            #[track_caller]
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
    ParameterList: Vec<Param<T>>,
    |self| self.0.iter().enumerate().map(|(i, p)| (i.to_string(), p)),
    |dtype| if dtype == DType::F32 { "float32" } else { "float64" },
    |params, f| params.iter().map(f).collect()
);
parameters!(
    ParameterDict: Dict<Param<T>>,
    |self| self.0.iter().map(|(n, p)| (n.to_string(), p)),
    |dtype| if dtype == DType::F32 { "FloatTensor" } else { "DoubleTensor" },
    |params, f| params.iter().map(|(n, p)| (n, f(p))).collect()
);
