//! Walking the tree of modules: what [`Module`]'s provided methods do.

use std::collections::HashSet;

use super::{
    Module,
    any::{AnyBuffer, AnyParam},
    call::Place,
    field::{Members, MembersMut},
};
use crate::{
    Error, Result,
    state::{Ordered, StateDict},
};

pub(super) fn members<M: Module + ?Sized>(module: &M) -> Members<'_> {
    let mut members = Members::default();
    module.members(&mut members);
    members
}

pub(super) fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") }
}

/// Calls `f` with the path and the members of `module` and of everything below it, parents first.
fn descend<'a, M: Module + ?Sized>(module: &'a M, prefix: &str, f: &mut impl FnMut(&str, &Members<'a>)) {
    let members = members(module);
    f(prefix, &members);
    for (name, child) in &members.children {
        descend(*child, &join(prefix, name), f);
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

/// The path to the module at that place, inside this one.
pub(super) fn path_to(module: &dyn Module, place: Place) -> Option<String> {
    named_modules(module).into_iter().find(|(_, m)| m.place() == place).map(|(path, _)| path)
}

/// A parameter or a buffer: an entry of a state_dict that can be written to.
pub(super) enum Entry {
    Param(AnyParam),
    Buffer(AnyBuffer),
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
    Ok(entries(op, module)?.into_iter().map(|(name, entry)| (name, value(entry))).collect())
}

pub(super) fn set_mode<M: Module + ?Sized>(module: &mut M, training: bool) {
    let mut members = MembersMut::default();
    module.members_mut(&mut members);
    members.modes.into_iter().for_each(|mode| mode.set(training));
    members.children.into_iter().for_each(|child| set_mode(child, training));
}

pub(super) fn is_training<M: Module + ?Sized>(module: &M) -> Option<bool> {
    let mut found = None;
    descend(module, "", &mut |_, members| {
        if let Some(training) = members.training {
            found = Some(found.unwrap_or(false) || training);
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
