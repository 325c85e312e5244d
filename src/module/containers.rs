//! Modules that contain modules, and lists of parameters: [`ModuleList`], [`ModuleDict`], [`ParameterList`], [`ParameterDict`].

use std::{
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

// ---------------------------------------------------------------------------------------------------- lists of modules

/// Checks that a name can be a part of a path.
#[track_caller]
pub(super) fn proper(container: &str, name: String) -> String {
    assert!(!name.is_empty(), "{container}: a name cannot be empty");
    assert!(!name.contains('.'), "{container}: a name has no dot, which separates the parts of a path; got `{name}`");
    name
}

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
