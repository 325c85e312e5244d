//! Walking the tree of modules: what [`Module`]'s provided methods do.

use std::collections::HashSet;

use super::{
    Module,
    any::{AnyBuffer, AnyParam},
    field::Members,
};
use crate::{
    DType, Error, Result,
    state::{Ordered, StateDict, pattern},
};

pub(super) fn members<M: Module + ?Sized>(module: &M) -> Members<'_> {
    let mut members = Members::default();
    module.members(&mut members);
    members
}

pub(super) fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") }
}

/// Calls `f` with the path and the members of `module` and of everything below it, parents first, parametrizations last.
fn descend<M: Module + ?Sized>(module: &M, prefix: &str, f: &mut impl FnMut(&str, &Members<'_>)) {
    let members = members(module);
    f(prefix, &members);
    for (name, child) in &members.children {
        descend(*child, &join(prefix, name), f);
    }
    for (name, list) in &members.parametrized {
        descend(&**list, &join(prefix, &format!("parametrizations.{name}")), f);
    }
}

/// The parameters of the module itself, those from which parametrizations compute others included.
pub(super) fn own_parameters<M: Module + ?Sized>(module: &M) -> Vec<AnyParam> {
    let members = members(module);
    let computed = members.parametrized.iter().flat_map(|(_, list)| list.parameters());
    members.params.into_iter().map(|(_, p)| p).chain(computed).collect()
}

/// Lets every module rename the entries of an older state_dict.
pub(super) fn upgrade<M: Module + ?Sized>(module: &M, prefix: &str, state: &mut StateDict) {
    module.upgrade(prefix, state);
    let members = members(module);
    for (name, child) in members.children {
        upgrade(child, &format!("{prefix}{name}."), state);
    }
    for (name, list) in members.parametrized {
        upgrade(&*list, &format!("{prefix}parametrizations.{name}."), state);
    }
}

pub(super) fn named_parameters<M: Module + ?Sized>(module: &M) -> Vec<(String, AnyParam)> {
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    descend(module, "", &mut |prefix, members| {
        for (name, param) in &members.params {
            if seen.insert(param.address()) {
                found.push((join(prefix, name), param.clone()));
            }
        }
    });
    found
}

pub(super) fn named_buffers<M: Module + ?Sized>(module: &M) -> Vec<(String, AnyBuffer)> {
    let mut found = Vec::new();
    descend(module, "", &mut |prefix, members| {
        found.extend(members.buffers.iter().map(|(name, b)| (join(prefix, name), b.clone())));
    });
    found
}

pub(super) fn named_modules<M: Module + ?Sized>(module: &M) -> Vec<(String, &dyn Module)> {
    fn below<'a, M: Module + ?Sized>(module: &'a M, prefix: &str, found: &mut Vec<(String, &'a dyn Module)>) {
        for (name, child) in members(module).children {
            let path = join(prefix, &name);
            found.push((path.clone(), child));
            below(child, &path, found);
        }
    }
    let mut found = Vec::new();
    below(module, "", &mut found);
    found
}

/// A parameter or a buffer: an entry of a state_dict that can be written to.
pub(super) enum Entry {
    Param(AnyParam),
    Buffer(AnyBuffer),
}

impl Entry {
    pub(super) fn dtype(&self) -> DType {
        match self {
            Entry::Param(p) => p.dtype(),
            Entry::Buffer(b) => b.dtype(),
        }
    }

    pub(super) fn known_shape(&self) -> Vec<Option<usize>> {
        match self {
            Entry::Param(p) => p.known_shape(),
            Entry::Buffer(b) => b.shape().into_iter().map(Some).collect(),
        }
    }

    /// The shape with 0 for what is not known, as PyTorch prints it.
    pub(super) fn shown_shape(&self) -> Vec<usize> {
        self.known_shape().into_iter().map(Option::unwrap_or_default).collect()
    }
}

/// # Errors
/// If a parameter has no values yet.
pub(super) fn no_lazy<'a>(op: &str, mut params: impl Iterator<Item = (&'a str, &'a AnyParam)>) -> Result<()> {
    match params.find(|(_, p)| p.is_lazy()) {
        None => Ok(()),
        Some((name, _)) => {
            let why =
                "has no values yet, since its shape comes from the first input; run a batch through the model first";
            Err(Error::state(op, format!("`{name}` {why}")))
        }
    }
}

/// Every parameter and buffer in the order of PyTorch's state_dict.
///
/// # Errors
/// If two have one name: then a state_dict could hold only one of them.
pub(super) fn entries<M: Module + ?Sized>(op: &str, module: &M) -> Result<Ordered<Entry>> {
    let (mut found, mut twice) = (Ordered::default(), None);
    descend(module, "", &mut |prefix, members| {
        let params = members.params.iter().map(|(name, p)| (name, Entry::Param(p.clone())));
        let buffers = members.buffers.iter().map(|(name, b)| (name, Entry::Buffer(b.clone())));
        for (name, entry) in params.chain(buffers) {
            let path = join(prefix, name);
            if found.insert(path.clone(), entry).is_some() {
                twice.get_or_insert(path);
            }
        }
    });
    match twice {
        None => Ok(found),
        Some(path) => Err(Error::state(
            op,
            format!("the model has two entries named `{path}`; give each module a name of its own"),
        )),
    }
}

pub(super) fn state_dict<M: Module + ?Sized>(op: &str, module: &M) -> Result<StateDict> {
    let value = |entry| match entry {
        Entry::Param(p) => p.detach(),
        Entry::Buffer(b) => b.tensor(),
    };
    let entries = entries(op, module)?;
    no_lazy(
        op,
        entries.iter().filter_map(|(name, entry)| match entry {
            Entry::Param(p) => Some((name, p)),
            Entry::Buffer(_) => None,
        }),
    )?;
    Ok(entries.into_iter().map(|(name, entry)| (name, value(entry))).collect())
}

pub(super) fn set_mode<M: Module + ?Sized>(module: &M, training: bool) {
    descend(module, "", &mut |_, members| members.modes.iter().for_each(|mode| mode.set(training)));
}

/// Sets the modes of those whose path, or the path of something around them, matches.
pub(super) fn set_modes<M: Module + ?Sized>(module: &M, pattern: &str, training: bool) -> Result<usize> {
    let within = |path: &str| {
        let parts = path.match_indices('.').map(|(dot, _)| &path[..dot]);
        parts.chain([path]).any(|part| pattern::matches(pattern, part))
    };
    let (mut chosen, mut others) = (0, Vec::new());
    descend(module, "", &mut |path, members| match members.modes.is_empty() {
        true => {}
        false if within(path) => {
            members.modes.iter().for_each(|mode| mode.set(training));
            chosen += 1;
        }
        false => others.push(path.to_string()),
    });
    others.retain(|path| !path.is_empty());
    if chosen == 0 { Err(pattern::no_match("layer with a mode", pattern, others.iter())) } else { Ok(chosen) }
}

pub(super) fn is_training<M: Module + ?Sized>(module: &M) -> Option<bool> {
    let mut found = None;
    descend(module, "", &mut |_, members| {
        for mode in &members.modes {
            found = Some(found.unwrap_or(false) || mode.is_training());
        }
    });
    found
}

pub(super) fn apply(module: &dyn Module, path: &str, f: &mut impl FnMut(&str, &dyn Module)) {
    for (name, child) in members(module).children {
        apply(child, &join(path, &name), f);
    }
    f(path, module);
}
