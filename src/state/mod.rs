//! [`StateDict`]: named tensors. It does not know about modules.

mod ordered;
pub(crate) mod pattern;

pub(crate) use ordered::Ordered;

use crate::{Error, Result, error::there_are, tensor::AnyTensor};

/// Named tensors in order: what a model saves and loads.
///
/// ```
/// use ndnn::{nn::StateDict, prelude::*};
/// let model = sequential![Linear::new(2, 1)];
/// // A file from elsewhere, whose names begin with `module.`:
/// let file = model.state_dict().rename(|name| format!("module.{name}"))?;
/// model.load_state_dict(&file.strip_prefix("module.")?)?;
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

impl StateDict {
    /// The same tensors, renamed: `f` returns the new name for a name.
    ///
    /// # Errors
    /// If two entries would have the same name.
    pub fn rename(self, mut f: impl FnMut(&str) -> String) -> Result<StateDict> {
        let mut renamed = StateDict::new();
        for (old, tensor) in self {
            let name = f(&old);
            if renamed.0.insert(name.clone(), tensor).is_some() {
                return Err(Error::state(
                    "rename",
                    format!("two entries would be named `{name}`, one of them `{old}`"),
                ));
            }
        }
        Ok(renamed)
    }

    /// The same tensors, without a prefix such as `module.` where their names begin with it.
    ///
    /// # Errors
    /// If no name begins with it, or two entries would have the same name.
    #[inline]
    pub fn strip_prefix(self, prefix: &str) -> Result<StateDict> {
        self.prefixed("strip_prefix", prefix, "")
    }

    /// The same tensors, with another prefix in place of this one where their names begin with it.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// // Weights of a model for one with other names:
    /// let old = sequential![Linear::new(4, 8), ReLU, Linear::new(8, 2)];
    /// let new = Sequential::default().push_named("encoder", Linear::new(4, 8)).push_named("head", Linear::new(8, 2));
    /// let mut state = old.state_dict();
    /// for (from, to) in [("0.", "encoder."), ("2.", "head.")] {
    ///     state = state.replace_prefix(from, to)?;
    /// }
    /// new.load_state_dict(&state)?;
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If no name begins with it, or two entries would have the same name.
    #[inline]
    pub fn replace_prefix(self, prefix: &str, other: &str) -> Result<StateDict> {
        self.prefixed("replace_prefix", prefix, other)
    }

    #[inline]
    fn prefixed(self, op: &str, prefix: &str, other: &str) -> Result<StateDict> {
        if !self.keys().any(|name| name.starts_with(prefix)) {
            let names: Vec<&str> = self.keys().collect();
            let names = there_are(names.into_iter());
            return Err(Error::state(op, format!("no name begins with `{prefix}`; {names}")));
        }
        self.rename(|name| name.strip_prefix(prefix).map_or_else(|| name.to_string(), |rest| format!("{other}{rest}")))
    }

    /// The tensors whose names match a pattern such as `encoder.*` or `*.bias`.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let (trained, model) = (sequential![Linear::new(4, 8), Linear::new(8, 2)], sequential![Linear::new(4, 8), Linear::new(8, 5)]);
    /// let report = model.load_state_dict_partial(&trained.state_dict().select("0.*")?)?;
    /// assert_eq!(report.applied, ["0.weight", "0.bias"]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If none matches.
    #[inline]
    pub fn select(self, pattern: &str) -> Result<StateDict> {
        let named: Vec<(String, AnyTensor)> = self.into_iter().collect();
        let chosen = pattern::select("entry", pattern, &named)?;
        Ok(chosen.into_iter().map(|i| named[i].clone()).collect())
    }
}

impl FromIterator<(String, AnyTensor)> for StateDict {
    /// If two entries have one name, the last one is kept, in the position of the first.
    fn from_iter<I: IntoIterator<Item = (String, AnyTensor)>>(pairs: I) -> Self {
        StateDict(pairs.into_iter().collect())
    }
}

impl<N: Into<String>, A: Into<AnyTensor>, const K: usize> From<[(N, A); K]> for StateDict {
    fn from(pairs: [(N, A); K]) -> Self {
        pairs.into_iter().map(|(name, tensor)| (name.into(), tensor.into())).collect()
    }
}

impl IntoIterator for StateDict {
    type Item = (String, AnyTensor);
    type IntoIter = std::iter::Flatten<std::vec::IntoIter<Option<(String, AnyTensor)>>>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
