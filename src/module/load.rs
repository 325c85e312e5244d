//! Loading a [`StateDict`] into a module, strictly or in part.

use std::{collections::HashMap, fmt, path::Path};

use super::{
    Module, hooks,
    param::fits,
    walk::{self, Entry},
};
use crate::{AnyTensor, Error, Result, error::listed, io, state::StateDict};

/// What a partial load of a state_dict did, by name. Its [`Display`](fmt::Display) form is abridged; the lists are
/// complete.
#[must_use = "it says what was not loaded: look at `missing`, `unexpected` and `mismatched`, or ask `is_complete()`"]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Entries that were loaded.
    pub applied: Vec<String>,
    /// Entries of the model that the file lacks, with the model's shape; they are unchanged.
    pub missing: Vec<(String, Vec<usize>)>,
    /// Entries of the file that the model lacks, with the file's shape.
    pub unexpected: Vec<(String, Vec<usize>)>,
    /// Entries of both whose shapes differ: the model's, then the file's. They are unchanged.
    pub mismatched: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl LoadReport {
    /// Whether everything matched.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.mismatched.is_empty()
    }

    pub(crate) fn problems(&self) -> String {
        let named =
            |entries: &[(String, Vec<usize>)]| listed(entries.iter().map(|(n, shape)| format!("{n} {shape:?}")));
        let differ = self.mismatched.iter().map(|(n, model, file)| format!("{n} (model {model:?}, file {file:?})"));
        let lists = [
            ("missing", named(&self.missing)),
            ("unexpected", named(&self.unexpected)),
            ("of another shape", listed(differ)),
        ];
        let lists = lists.into_iter().filter(|(_, names)| !names.is_empty());
        lists.map(|(what, names)| format!("{what}: {names}")).collect::<Vec<_>>().join("; ")
    }

    /// How many unexpected entries match missing ones once a prefix is removed from or added to their names, and which
    /// prefix: `module.` for a model in `DataParallel`, `model.` for one in a trainer.
    fn prefix(&self) -> Option<(usize, String)> {
        // For each prefix, and what is done with it, how many.
        let mut found: Vec<(usize, &str, &str)> = Vec::new();
        for (long, short, what) in
            [(&self.unexpected, &self.missing, "removed"), (&self.missing, &self.unexpected, "added")]
        {
            let mut shapes: HashMap<&str, &[usize]> = HashMap::new();
            for (name, shape) in short {
                shapes.insert(name, shape);
            }
            for (name, shape) in long {
                for (dot, _) in name.match_indices('.') {
                    let (prefix, rest) = name.split_at(dot + 1);
                    if shapes.get(rest) == Some(&&**shape) {
                        match found.iter_mut().find(|(_, p, w)| (*p, *w) == (prefix, what)) {
                            Some((count, ..)) => *count += 1,
                            None => found.push((1, prefix, what)),
                        }
                    }
                }
            }
        }
        let (count, prefix, what) = found.into_iter().max()?;
        let enough = 2 * count >= self.missing.len().min(self.unexpected.len());
        enough.then(|| (count, format!("with the prefix `{prefix}` {what}")))
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "applied {}", self.applied.len())?;
        if self.is_complete() { Ok(()) } else { write!(f, "; {}", self.problems()) }
    }
}

/// Compares without changing anything; also returns what must be written where.
fn plan<'s>(op: &str, root: &dyn Module, state: &'s StateDict) -> Result<(LoadReport, Vec<Write<'s>>)> {
    let (mut report, mut writes) = (LoadReport::default(), Vec::new());
    let entries = walk::entries(op, root)?;
    let unexpected = state.iter().filter(|(name, _)| entries.get(name).is_none());
    report.unexpected = unexpected.map(|(name, tensor)| (name.to_string(), tensor.shape().to_vec())).collect();
    for (name, entry) in entries {
        match state.get(&name) {
            None => report.missing.push((name, entry.shown_shape())),
            Some(tensor) if !fits(&entry.known_shape(), tensor.shape()) => {
                report.mismatched.push((name, entry.shown_shape(), tensor.shape().to_vec()));
            }
            Some(tensor) => {
                report.applied.push(name);
                writes.push((entry, tensor));
            }
        }
    }
    Ok((report, writes))
}

/// A tensor for a parameter or buffer of its shape.
pub(super) type Write<'s> = (Entry, &'s AnyTensor);

pub(super) fn write(writes: Vec<Write<'_>>) {
    for (entry, tensor) in writes {
        match entry {
            Entry::Param(p) => p.set(tensor),
            Entry::Buffer(b) => b.set(tensor),
        }
        .expect("shapes were compared");
    }
}

/// Loads what matches, if `accept` accepts the report on it.
fn load(op: &str, root: &dyn Module, state: &StateDict, accept: fn(&LoadReport) -> Result<()>) -> Result<LoadReport> {
    let state = walk::upgraded(root, state);
    let (mut report, writes) = plan(op, root, &state)?;
    match hooks::runner() {
        Some(hooks) => (hooks.load)(root, &mut report, writes, accept)?,
        None => {
            accept(&report)?;
            write(writes);
        }
    }
    Ok(report)
}

pub(super) fn strict(root: &dyn Module, state: &StateDict) -> Result<()> {
    const OP: &str = "load_state_dict";
    let accept = |report: &LoadReport| {
        if report.is_complete() {
            return Ok(());
        }
        let hint = report.prefix().map_or(String::new(), |(count, how)| {
            format!("{count} of the {} unexpected names would fit {how}; ", report.unexpected.len())
        });
        Err(Error::state(OP, format!("{hint}{}; nothing was changed", report.problems())))
    };
    load(OP, root, state, accept).map(drop)
}

pub(super) fn partial(root: &dyn Module, state: &StateDict) -> Result<LoadReport> {
    const OP: &str = "load_state_dict_partial";
    let accept = |report: &LoadReport| {
        if !report.applied.is_empty() || report.is_complete() {
            return Ok(());
        }
        let names = report.unexpected.len() + report.mismatched.len();
        let why = match report.prefix() {
            _ if names == 0 => "the state_dict is empty".to_string(),
            Some((count, how)) if count == names => format!("none of the {names} names fits; they would {how}"),
            Some((count, how)) => format!("none of the {names} names fits; {count} of them would {how}"),
            None => format!("none of the {names} names fits; {}", report.problems()),
        };
        Err(Error::state(OP, format!("{why}; nothing was changed")))
    };
    load(OP, root, state, accept)
}

/// Loads a file by `load`; an error names the file.
pub(super) fn file<R>(path: &Path, load: impl FnOnce(&StateDict) -> Result<R>) -> Result<R> {
    load(&io::safetensors::load(path)?).map_err(|e| e.within(path.display()))
}

pub(super) fn bytes(root: &dyn Module, bytes: &[u8]) -> Result<()> {
    strict(root, &io::safetensors::from_bytes(bytes)?)
}

pub(super) fn to_bytes(root: &dyn Module) -> Result<Vec<u8>> {
    io::safetensors::to_bytes(&walk::state("to_bytes", root)?)
}
