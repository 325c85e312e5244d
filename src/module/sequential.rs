//! [`Sequential`]: layers one after another.

use std::{
    any::Any,
    collections::HashSet,
    fmt,
    ops::{Bound, Index, IndexMut, Range, RangeBounds},
};

use super::{
    Module,
    containers::proper,
    copies::{copying, sharing},
    field::Members,
    forward::Forward,
    printing::repr,
    replace,
};
use crate::{
    Error, Result, forward,
    state::Ordered,
    tensor::{Real, Tensor, Tensors},
};

/// Layers applied one after another, each to the output of the one before; the first takes an `X`, by default a tensor.
///
/// [`sequential!`](crate::sequential) creates one.
///
/// In PyTorch `model[i]` is `model[i]` here too, or [`get::<Linear>(i)`](Sequential::get) for a layer's own fields; `model[1:3]` is
/// [`slice`](Sequential::slice); `model[i] = layer` is [`replace`](Sequential::replace); `del model[i]` and `pop(i)` are
/// [`remove`](Sequential::remove), of several [`drain`](Sequential::drain); `append`, `insert` and `extend` have their names, and
/// [`push`](Sequential::push) is for building; `a + b` is `a.extend(b)`. Layers that were given names keep them.
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
    /// With another layer at the end, named by its position.
    ///
    /// # Panics
    /// If an earlier layer was given that name.
    #[track_caller]
    pub fn push(mut self, layer: impl Forward<T>) -> Self {
        self.append(layer);
        self
    }

    /// With another layer at the end under a name of its own, as in PyTorch's `Sequential(OrderedDict(…))`.
    ///
    /// # Panics
    /// If there is a layer with this name, or the name is empty or contains a dot.
    #[track_caller]
    pub fn push_named(mut self, name: impl Into<String>, layer: impl Forward<T>) -> Self {
        self.append_named(name, layer);
        self
    }

    /// Adds a layer at the end, named by its position.
    ///
    /// # Panics
    /// If an earlier layer was given that name.
    #[track_caller]
    pub fn append(&mut self, layer: impl Forward<T>) -> &mut Self {
        self.append_named(self.len().to_string(), layer)
    }

    /// Adds a layer at the end under a name of its own: PyTorch's `add_module`.
    ///
    /// # Panics
    /// If there is a layer with this name, or the name is empty or contains a dot.
    #[track_caller]
    pub fn append_named(&mut self, name: impl Into<String>, layer: impl Forward<T>) -> &mut Self {
        let name = proper("Sequential", name.into());
        assert!(
            self.layer_named(&name).is_none(),
            "Sequential: there is a layer named `{name}`; each needs a name of its own"
        );
        match self.first {
            None => self.first = Some((name, Box::new(layer))),
            Some(_) => drop(self.rest.insert(name, Box::new(layer))),
        }
        self
    }

    /// The layer at a position; [`get`](Sequential::get) is for one of a known type, and `model[0]` panics if there is none.
    pub fn layer(&self, position: usize) -> Option<&dyn Forward<T>> {
        match position {
            0 => self.first.as_ref().map(|(_, layer)| &**layer),
            further => self.rest.nth(further - 1).map(|(_, layer)| &**layer),
        }
    }

    /// The layer at a position, for writing: for example to put only this layer into evaluation mode.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let mut model = sequential![Linear::new(2, 2), BatchNorm1d::new(2)];
    /// model.layer_mut(1).unwrap().eval();
    /// assert!(!model[1].is_training());
    /// ```
    pub fn layer_mut(&mut self, position: usize) -> Option<&mut (dyn Forward<T> + 'static)> {
        self.iter_mut().nth(position)
    }

    /// The layer with this name.
    pub fn layer_named(&self, name: &str) -> Option<&dyn Forward<T>> {
        match &self.first {
            Some((first, layer)) if first == name => Some(&**layer),
            _ => self.rest.get(name).map(|layer| &**layer),
        }
    }

    /// Puts a layer at a position; those from there on move back. Layers that are named by their position are renamed.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let mut model = sequential![Linear::new(4, 8), Linear::new(8, 2)];
    /// model.insert(1, Tanh);
    /// assert_eq!(model.get::<Linear>(2).unwrap().weight.shape(), [2, 8]);
    /// let _last = model.remove(2);
    /// assert_eq!(model.named_parameters().len(), 2);
    /// ```
    ///
    /// # Panics
    /// If `position` is beyond the end, or two layers would have one name; then nothing has changed.
    #[track_caller]
    pub fn insert(&mut self, position: usize, layer: impl Forward<T>) {
        let n = self.len();
        assert!(position <= n, "Sequential: cannot insert at position {position} of {n} layers");
        self.splice(position..position, vec![Box::new(layer)]);
    }

    /// Takes out the layer at a position; those behind it move forward. Layers that are named by their position are
    /// renamed.
    ///
    /// # Panics
    /// If there is none, or two layers would have one name; then nothing has changed.
    #[track_caller]
    pub fn remove(&mut self, position: usize) -> Box<dyn Forward<T>> {
        let n = self.len();
        assert!(position < n, "Sequential: there is no position {position} among {n} layers");
        self.splice(position..position + 1, Vec::new()).remove(0)
    }

    /// Takes out the layers of a range, such as `1..3`, as [`remove`](Sequential::remove) does.
    ///
    /// # Panics
    /// If the range ends beyond the last layer, or before it begins, or two layers would have one name; then nothing has changed.
    #[track_caller]
    pub fn drain(&mut self, range: impl RangeBounds<usize>) -> Vec<Box<dyn Forward<T>>> {
        let range = self.range(range);
        self.splice(range, Vec::new())
    }

    /// Takes out the last layer.
    pub fn pop(&mut self) -> Option<Box<dyn Forward<T>>> {
        self.len().checked_sub(1).map(|last| self.remove(last))
    }

    /// Puts a layer in the place of another one, under its name, and returns that one.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn replace(&mut self, position: usize, layer: impl Forward<T>) -> Box<dyn Forward<T>> {
        let n = self.len();
        let first = self.first.iter_mut().map(|(_, layer)| layer);
        let place = first.chain(self.rest.iter_mut().map(|(_, layer)| layer)).nth(position);
        let Some(place) = place else { panic!("Sequential: there is no position {position} among {n} layers") };
        std::mem::replace(place, Box::new(layer))
    }

    /// Some of the layers, under their names, as a model that shares their parameters and buffers: `model[0:2]` in PyTorch. Its
    /// training mode is its own.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let model = sequential![Linear::new(4, 8), ReLU, Linear::new(8, 2)];
    /// let features = model.slice(..2).forward(&Tensor::ones([1, 4]))?;
    /// assert_eq!(features.shape(), [1, 8]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the range ends beyond the last layer, or before it begins.
    #[track_caller]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Sequential<T> {
        let range = self.range(range);
        let layers = sharing(|| self.clone()).into_named();
        let mut layers = layers.skip(range.start).take(range.len());
        Sequential { first: layers.next(), rest: layers.collect() }
    }

    #[track_caller]
    fn range(&self, range: impl RangeBounds<usize>) -> Range<usize> {
        let n = self.len();
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => n,
        };
        assert!(start <= end && end <= n, "Sequential: there is no slice {start}..{end} of {n} layers");
        start..end
    }

    fn into_named(self) -> impl Iterator<Item = (String, Box<dyn Forward<T>>)> {
        self.first.into_iter().chain(self.rest)
    }

    /// Puts layers in the place of those in a range, which are returned. Names are checked before anything changes, so that a
    /// caught panic loses no layer.
    #[track_caller]
    fn splice(&mut self, range: Range<usize>, new: Vec<Box<dyn Forward<T>>>) -> Vec<Box<dyn Forward<T>>> {
        let names = self.first.iter().map(|(name, _)| name.as_str()).chain(self.rest.keys()).enumerate();
        // None for a name that is the position.
        let mut names: Vec<Option<String>> =
            names.map(|(i, name)| (name != i.to_string()).then(|| name.to_string())).collect();
        names.splice(range.clone(), new.iter().map(|_| None));
        let names = names.into_iter().enumerate().map(|(i, name)| name.unwrap_or_else(|| i.to_string()));
        let (names, mut seen): (Vec<String>, _) = (names.collect(), HashSet::new());
        if let Some(name) = names.iter().find(|name| !seen.insert(name.as_str())) {
            panic!("Sequential: two layers would be named `{name}`");
        }
        let mut layers: Vec<_> = std::mem::take(self).into_iter().collect();
        let removed = layers.splice(range, new).collect();
        let mut named = names.into_iter().zip(layers);
        *self = Sequential { first: named.next(), rest: named.collect() };
        removed
    }

    /// The layers in order.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Forward<T>> {
        self.first.iter().map(|(_, layer)| &**layer).chain(self.rest.iter().map(|(_, layer)| &**layer))
    }

    /// The layers in order, for writing.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut (dyn Forward<T> + 'static)> {
        let first = self.first.iter_mut().map(|(_, layer)| &mut **layer);
        first.chain(self.rest.iter_mut().map(|(_, layer)| &mut **layer))
    }
}

impl<T: Real> Index<usize> for Sequential<T> {
    type Output = dyn Forward<T>;

    #[track_caller]
    fn index(&self, position: usize) -> &Self::Output {
        match self.layer(position) {
            Some(layer) => layer,
            None => panic!("Sequential: there is no position {position} among {} layers", self.len()),
        }
    }
}

impl<T: Real> IndexMut<usize> for Sequential<T> {
    #[track_caller]
    fn index_mut(&mut self, position: usize) -> &mut Self::Output {
        let n = self.len();
        match self.layer_mut(position) {
            Some(layer) => layer,
            None => panic!("Sequential: there is no position {position} among {n} layers"),
        }
    }
}

impl<T: Real> IntoIterator for Sequential<T> {
    type Item = Box<dyn Forward<T>>;
    type IntoIter = std::vec::IntoIter<Self::Item>;

    /// The layers without their names, for example for `model.extend(other)`.
    fn into_iter(self) -> Self::IntoIter {
        self.into_named().map(|(_, layer)| layer).collect::<Vec<_>>().into_iter()
    }
}

impl<T: Real> Extend<Box<dyn Forward<T>>> for Sequential<T> {
    /// Adds the layers at the end, each named by its position.
    ///
    /// # Panics
    /// If two layers would have one name; then nothing has changed.
    #[track_caller]
    fn extend<I: IntoIterator<Item = Box<dyn Forward<T>>>>(&mut self, layers: I) {
        let n = self.len();
        self.splice(n..n, layers.into_iter().collect());
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

    /// The layer at a position, if it is an `L`: `model.get::<Linear>(0)`; one in an `Arc` or a
    /// [`Hooked`](super::hooks::Hooked) is found under its own type and under that of the wrapper.
    pub fn get<L: Module>(&self, position: usize) -> Option<&L> {
        let module: &dyn Module = match position {
            0 => &*self.first.as_ref()?.1,
            further => &**self.rest.nth(further - 1)?.1,
        };
        let as_wrapped = || (module.inside()? as &dyn Any).downcast_ref();
        (module as &dyn Any).downcast_ref().or_else(as_wrapped)
    }

    /// The layer at a position, if it is an `L`, for writing.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let mut model = sequential![Linear::new(4, 8), Dropout::new(0.5)];
    /// *model.get_mut(1).unwrap() = Dropout::new(0.1);
    /// assert_eq!(model.get::<Dropout>(1).unwrap().to_string(), "Dropout(p=0.1, inplace=False)");
    /// ```
    pub fn get_mut<L: Module>(&mut self, position: usize) -> Option<&mut L> {
        let module: &mut dyn Module = match position {
            0 => &mut *self.first.as_mut()?.1,
            further => &mut **self.rest.iter_mut().nth(further - 1)?.1,
        };
        replace::of_type(module, &|module| module.is::<L>())?.downcast_mut()
    }
}

impl<T: Real, X: 'static> Module for Sequential<T, X> {
    fn members<'a>(&'a self, members: &mut Members<'a>) {
        self.first.iter().for_each(|(name, layer)| members.child(name, &**layer));
        self.rest.iter().for_each(|(name, layer)| members.child(name, &**layer));
    }
    fn child_mut(&mut self, name: &str) -> Option<&mut dyn Module> {
        match &mut self.first {
            Some((first, layer)) if first == name => Some(layer),
            _ => Some(self.rest.get_mut(name)?),
        }
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
        let _copying = copying();
        Sequential { first: self.first.clone(), rest: self.rest.clone() }
    }
}

impl<T: Real, X: 'static> fmt::Display for Sequential<T, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&repr(self))
    }
}
