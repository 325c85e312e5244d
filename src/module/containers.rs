//! Modules that contain modules, and lists of parameters: [`ModuleList`], [`ModuleDict`], [`ParameterList`], [`ParameterDict`].

use std::{
    collections::BTreeMap,
    fmt,
    ops::{Deref, DerefMut, Index},
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
    error::there_are,
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
///
/// It has everything that a `Vec` has: PyTorch's `append` is `push`, `pop(i)` and `del l[i]` are `remove`, `l[1:3]` is `l[1..3]`, and
/// `a + b` is `a.extend(b)`; `insert`, `extend`, `pop()`, `l[i]` and `len` are the same.
pub type ModuleList<M = Box<dyn Forward>> = Vec<M>;

/// A list of modules, printed as PyTorch prints its `ModuleList`.
macro_rules! list {
    ([$($generics:tt)*] $t:ty, |$list:ident| $copied:expr) => {
        impl<$($generics)*> Module for $t {
            fn members<'a>(&'a self, members: &mut Members<'a>) {
                self.iter().enumerate().for_each(|(i, m)| members.child(i.to_string(), m));
            }
            fn child_mut(&mut self, name: &str) -> Option<&mut dyn Module> {
                let position: usize = name.parse().ok().filter(|i: &usize| i.to_string() == name)?;
                self.get_mut(position).map(M::as_module_mut)
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
    fn child_mut(&mut self, name: &str) -> Option<&mut dyn Module> {
        self.get_mut(name).map(M::as_module_mut)
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
        fn inside(&self) -> Option<&dyn $crate::module::Module> {
            let module = (**self).as_module();
            Some(module.inside().unwrap_or(module))
        }
        fn upgrade(&self, prefix: &str, state: &mut $crate::state::StateDict) {
            (**self).upgrade(prefix, state);
        }
    };
    // Of those that can be changed.
    (mut) => {
        fn child_mut(&mut self, name: &str) -> Option<&mut dyn $crate::module::Module> {
            match name {
                "" => Some((**self).as_module_mut()),
                name => (**self).child_mut(name),
            }
        }
    };
}
pub(super) use as_inside;

/// A boxed module, or a boxed `dyn Forward`, is that module.
impl<M: Module + ?Sized> Module for Box<M> {
    as_inside!();
    as_inside!(mut);
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
        let copying = copying();
        copying.end(converted(&self, || Arc::new((*self).clone().dtype::<U>())))
    }
}

// ------------------------------------------------------------------------------------------------ what has its own names

/// Entries in order of insertion, each with a name: the basis of [`ModuleDict`] and [`ParameterDict`].
///
/// It has what Python's `dict` has, under the names of Rust's maps: `d[name]` panics if there is none, and `d.get(name)` does not;
/// `d[name] = v` is [`insert`](Dict::insert); `name in d` is [`contains_key`](Dict::contains_key); `d.pop(name)` and `del d[name]`
/// are [`remove`](Dict::remove); `popitem()` is [`pop_last`](Dict::pop_last); `update(other)` and `d | other` are
/// `d.extend(other)`; `setdefault(name, v)` is [`get_or_insert_with`](Dict::get_or_insert_with); `items()` is
/// [`iter`](Dict::iter), `reversed(d)` is `d.keys().rev()`; `clear`, `keys` and `values` have their names.
pub struct Dict<V>(Ordered<V>);

impl<V: Clone> Clone for Dict<V> {
    fn clone(&self) -> Self {
        let _copying = copying();
        Dict(self.0.clone())
    }
}

impl<F: Dtype> Dtype for Dict<F> {
    type With<U: Real> = Dict<F::With<U>>;
    #[track_caller]
    fn dtype<U: Real>(self) -> Dict<F::With<U>> {
        let copying = copying();
        copying.end(Dict(self.0.into_iter().map(|(name, m)| (name, m.dtype::<U>())).collect()))
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

    /// Adds an entry, or replaces the one with this name in its position, which is returned.
    ///
    /// # Panics
    /// If the name is empty or contains a dot.
    #[track_caller]
    pub fn insert(&mut self, name: impl Into<String>, value: V) -> Option<V> {
        self.0.insert(proper("insert", name.into()), value)
    }

    /// The entry with this name.
    pub fn get(&self, name: &str) -> Option<&V> {
        self.0.get(name)
    }

    /// The entry with this name, for writing.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut V> {
        self.0.get_mut(name)
    }

    /// The entry with this name; if there is none, `value` makes it.
    ///
    /// # Panics
    /// As [`insert`](Dict::insert).
    #[track_caller]
    pub fn get_or_insert_with(&mut self, name: &str, value: impl FnOnce() -> V) -> &mut V {
        if !self.contains_key(name) {
            self.insert(name, value());
        }
        self.get_mut(name).expect("it is there now")
    }

    /// Whether there is an entry with this name.
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Takes out the entry with this name; the others keep their order.
    pub fn remove(&mut self, name: &str) -> Option<V> {
        self.0.remove(name)
    }

    /// Takes out the last entry.
    pub fn pop_last(&mut self) -> Option<(String, V)> {
        self.0.pop()
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.0 = Ordered::default();
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
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.keys()
    }

    /// The values in order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The values in order, for writing.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> {
        self.iter_mut().map(|(_, value)| value)
    }

    /// The entries in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &V)> {
        self.0.iter()
    }

    /// The entries in order, for writing.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (&str, &mut V)> {
        self.0.iter_mut()
    }
}

impl<V> Index<&str> for Dict<V> {
    type Output = V;

    #[track_caller]
    fn index(&self, name: &str) -> &V {
        match self.get(name) {
            Some(value) => value,
            None => panic!("Dict: there is no entry `{name}`; {}", there_are(self.keys().collect::<Vec<_>>().iter())),
        }
    }
}

impl<N: Into<String>, V> Extend<(N, V)> for Dict<V> {
    /// As [`insert`](Dict::insert) for each entry: one with a name that exists replaces that one.
    ///
    /// # Panics
    /// If a name is empty or contains a dot; then nothing has changed.
    #[track_caller]
    fn extend<I: IntoIterator<Item = (N, V)>>(&mut self, entries: I) {
        let mut checked = Vec::new();
        for (name, value) in entries {
            checked.push((proper("insert", name.into()), value));
        }
        checked.into_iter().for_each(|(name, value)| drop(self.0.insert(name, value)));
    }
}

impl<V> IntoIterator for Dict<V> {
    type Item = (String, V);
    type IntoIter = std::iter::Flatten<std::vec::IntoIter<Option<(String, V)>>>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<N: Into<String>, V> FromIterator<(N, V)> for Dict<V> {
    /// As [`insert`](Dict::insert) for each entry: if two entries have one name, the last one is kept, as in PyTorch.
    #[track_caller]
    fn from_iter<I: IntoIterator<Item = (N, V)>>(iter: I) -> Self {
        let mut named = Dict::new();
        named.extend(iter);
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
/// assert_eq!(heads["right"].forward(&Tensor::zeros([1, 4]))?.shape(), [1, 3]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// [`Dict`] says what PyTorch's methods are called here.
pub type ModuleDict<M = Box<dyn Forward>> = Dict<M>;

impl<M: Module + Clone> fmt::Display for Dict<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&repr(self))
    }
}

impl<M: Module + Clone> Module for Dict<M> {
    fn members<'a>(&'a self, members: &mut Members<'a>) {
        self.0.iter().for_each(|(name, m)| members.child(name, m));
    }
    fn child_mut(&mut self, name: &str) -> Option<&mut dyn Module> {
        self.get_mut(name).map(M::as_module_mut)
    }
    fn type_name(&self) -> String {
        "ModuleDict".into()
    }
    fn copied(&self) -> Self {
        let _copying = copying();
        Dict(self.0.iter().map(|(name, m)| (name.to_string(), m.copied())).collect())
    }
}

// --------------------------------------------------------------------------------------------- parameters without a layer

/// A list of parameters, named `0`, `1`, …; it has everything that a `Vec` has, as [`ModuleList`] says.
///
/// ```
/// use ndnn::prelude::*;
/// let mut weights: ParameterList = ParameterList::from(vec![Param::new(Tensor::ones([2]))]);
/// weights.push(Param::new(Tensor::zeros([3])));
/// assert_eq!((weights[1].shape(), weights.named_parameters()[1].0.as_str()), (vec![3], "1"));
/// ```
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

/// Parameters by name, in order of insertion; [`Dict`] says what PyTorch's methods are called here.
///
/// PyTorch's `copy()`, which shares the parameters, and `fromkeys(names, p)` are iterators; `clone()` is a deep copy.
///
/// ```
/// use ndnn::prelude::*;
/// let mut scales: ParameterDict = ParameterDict::from([("a", Param::new(Tensor::ones([2])))]);
/// scales.insert("b", Param::new(Tensor::zeros([3])));
/// assert_eq!(scales.keys().collect::<Vec<_>>(), ["a", "b"]);
/// let copy: ParameterDict = scales.iter().map(|(name, p)| (name, p.clone())).collect();
/// assert!(copy["a"].is_same(&scales["a"]) && !scales.clone()["a"].is_same(&scales["a"]));
/// let tied: ParameterDict = ["x", "y"].into_iter().map(|name| (name, scales["a"].clone())).collect();
/// assert_eq!(tied.parameters().len(), 1);
/// ```
#[derive(Default)]
pub struct ParameterDict<T: Real = f32>(Dict<Param<T>>);

impl<T: Real, N: Into<String>> FromIterator<(N, Param<T>)> for ParameterDict<T> {
    #[track_caller]
    fn from_iter<I: IntoIterator<Item = (N, Param<T>)>>(entries: I) -> Self {
        ParameterDict(Dict::from_iter(entries))
    }
}

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

        impl<T: Real> IntoIterator for $name<T> {
            type Item = <$inside as IntoIterator>::Item;
            type IntoIter = <$inside as IntoIterator>::IntoIter;
            fn into_iter(self) -> Self::IntoIter {
                self.0.into_iter()
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
                let _copying = copying();
                $name($map)
            }
        }

        impl<T: Real> Dtype for $name<T> {
            type With<U: Real> = $name<U>;
            #[track_caller]
            fn dtype<U: Real>(self) -> $name<U> {
                let ($inner, $f) = (&self.0, |p: &Param<T>| p.cast::<U>());
                let copying = copying();
                copying.end($name($map))
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
