//! [`StateDict`]: named tensors; loading one into a module, strictly or in part.

use std::fmt;

use super::{
    module::{Module, no_such},
    walk::{self, Entry},
};
use crate::{Result, tensor::AnyTensor};

/// Named tensors in order: what a model saves and loads.
#[derive(Clone, Debug, Default)]
pub struct StateDict(Vec<(String, AnyTensor)>);

impl StateDict {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&AnyTensor> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, t)| t)
    }

    /// Adds or replaces an entry.
    pub fn insert(&mut self, name: impl Into<String>, tensor: impl Into<AnyTensor>) {
        let (name, tensor) = (name.into(), tensor.into());
        match self.0.iter_mut().find(|(n, _)| *n == name) {
            Some((_, old)) => *old = tensor,
            None => self.0.push((name, tensor)),
        }
    }

    /// Takes an entry out.
    pub fn remove(&mut self, name: &str) -> Option<AnyTensor> {
        let at = self.0.iter().position(|(n, _)| n == name)?;
        Some(self.0.remove(at).1)
    }

    /// The names in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(n, _)| n.as_str())
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &AnyTensor)> {
        self.0.iter().map(|(n, t)| (n.as_str(), t))
    }
}

impl FromIterator<(String, AnyTensor)> for StateDict {
    fn from_iter<I: IntoIterator<Item = (String, AnyTensor)>>(iter: I) -> Self {
        StateDict(iter.into_iter().collect())
    }
}

impl IntoIterator for StateDict {
    type Item = (String, AnyTensor);
    type IntoIter = std::vec::IntoIter<Self::Item>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// What loading a state_dict in part did, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Taken over.
    pub applied: Vec<String>,
    /// In the model but not in the file, with the model's shape: left as it was.
    pub missing: Vec<(String, Vec<usize>)>,
    /// In the file but not in the model, with the file's shape.
    pub unexpected: Vec<(String, Vec<usize>)>,
    /// In both with different shapes: the model's, the file's. Left as it was.
    pub mismatched: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl LoadReport {
    /// Whether everything fitted.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.mismatched.is_empty()
    }

    fn problems(&self) -> Vec<String> {
        let list = |what: &str, entries: &[(String, Vec<usize>)]| {
            let names: Vec<String> = entries.iter().map(|(name, shape)| format!("{name} {shape:?}")).collect();
            (!names.is_empty()).then(|| format!("{what}: {}", names.join(", ")))
        };
        let shapes: Vec<String> =
            self.mismatched.iter().map(|(n, model, file)| format!("{n} (model {model:?}, file {file:?})")).collect();
        let shapes = (!shapes.is_empty()).then(|| format!("of another shape: {}", shapes.join(", ")));
        [list("missing", &self.missing), list("unexpected", &self.unexpected), shapes].into_iter().flatten().collect()
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "applied {}", self.applied.len())?;
        self.problems().iter().try_for_each(|p| write!(f, "; {p}"))
    }
}

/// Compares without changing anything; answers also what is to be written where.
fn plan<'s, M: Module + ?Sized>(module: &M, state: &'s StateDict) -> (LoadReport, Vec<(Entry, &'s AnyTensor)>) {
    let (mut report, mut writes) = (LoadReport::default(), Vec::new());
    let entries = walk::entries(module);
    for (name, _) in state.iter().filter(|(name, _)| !entries.iter().any(|(n, _)| n == name)) {
        report.unexpected.push((name.to_string(), state.get(name).expect("its own key").shape().to_vec()));
    }
    for (name, entry) in entries {
        let shape = match &entry {
            Entry::Param(p) => p.shape(),
            Entry::Buffer(b) => b.shape(),
        };
        match state.get(&name) {
            None => report.missing.push((name, shape)),
            Some(tensor) if tensor.shape() != shape => {
                report.mismatched.push((name, shape, tensor.shape().to_vec()));
            }
            Some(tensor) => {
                report.applied.push(name);
                writes.push((entry, tensor));
            }
        }
    }
    (report, writes)
}

fn write(writes: Vec<(Entry, &AnyTensor)>) {
    for (entry, tensor) in writes {
        match entry {
            Entry::Param(p) => p.set(tensor),
            Entry::Buffer(b) => b.set(tensor),
        }
        .expect("shapes were compared");
    }
}

pub(super) fn load_strict<M: Module + ?Sized>(module: &M, state: &StateDict) -> Result<()> {
    let (report, writes) = plan(module, state);
    if !report.is_complete() {
        return Err(no_such("load_state_dict", format!("{}; nothing was changed", report.problems().join("; "))));
    }
    write(writes);
    Ok(())
}

pub(super) fn load_partial<M: Module + ?Sized>(module: &M, state: &StateDict) -> LoadReport {
    let (report, writes) = plan(module, state);
    write(writes);
    report
}
