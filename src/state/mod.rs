//! [`StateDict`]: named tensors. It does not know about modules.

mod ordered;
pub(crate) mod pattern;

pub(crate) use ordered::Ordered;

use crate::tensor::AnyTensor;

/// Named tensors in order: what a model saves and loads.
///
/// ```
/// use ndnn::{nn::StateDict, prelude::*};
/// let model = sequential![Linear::new(2, 1)];
/// A file from elsewhere, whose names begin with `module.`:
/// let file: StateDict = model.state_dict().into_iter().map(|(name, t)| (format!("module.{name}"), t)).collect();
/// let stripped = file.into_iter().map(|(name, t)| (name.trim_start_matches("module.").to_string(), t));
/// model.load_state_dict(&stripped.collect())?;
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct StateDict(Ordered<AnyTensor>);

impl StateDict {
    /// An empty state_dict.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tensor with this name.
    pub fn get(&self, name: &str) -> Option<&AnyTensor> {
        self.0.get(name)
    }

    /// Adds an entry at the end, or replaces the one with this name in its position.
    pub fn insert(&mut self, name: impl Into<String>, tensor: impl Into<AnyTensor>) {
        self.0.insert(name.into(), tensor.into());
    }

    /// Removes an entry.
    pub fn remove(&mut self, name: &str) -> Option<AnyTensor> {
        self.0.remove(name)
    }

    /// The names in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys()
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &AnyTensor)> {
        self.0.iter()
    }
}

impl FromIterator<(String, AnyTensor)> for StateDict {
    /// If two entries have one name, the last one is kept, in the position of the first.
    fn from_iter<I: IntoIterator<Item = (String, AnyTensor)>>(pairs: I) -> Self {
        StateDict(pairs.into_iter().collect())
    }
}

impl IntoIterator for StateDict {
    type Item = (String, AnyTensor);
    type IntoIter = std::iter::Flatten<std::vec::IntoIter<Option<(String, AnyTensor)>>>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
