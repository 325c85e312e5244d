//! What is at a path of a model: modules, to see, change and replace them, parameters and buffers.

use std::any::{Any, type_name};

use super::{
    AnyBuffer, AnyParam, Forward, Module,
    walk::{self, Entry},
};
use crate::{Error, Real, Result, error::there_are};

#[inline]
pub(super) fn get<'m>(root: &'m dyn Module, op: &str, path: &str) -> Result<&'m dyn Module> {
    if path.is_empty() {
        return Ok(root.inside().unwrap_or(root));
    }
    let modules = walk::named_modules(root);
    match modules.iter().find(|(at, _)| at == path) {
        Some(&(_, module)) => Ok(module),
        None => {
            let there = there_are(modules.iter().map(|(at, _)| at));
            Err(Error::state(op, format!("there is no module `{path}`; {there}")))
        }
    }
}

/// The place of the module at a path: the field, or the box in a container.
#[inline]
fn slot<'m>(root: &'m mut dyn Module, op: &str, path: &str) -> Result<&'m mut dyn Module> {
    get(root, op, path)?;
    let (mut slot, mut rest) = (root, path);
    while !rest.is_empty() {
        let (name, behind) = step(&*slot, rest);
        slot = slot.child_mut(name).ok_or_else(|| {
            let why = "it is inside an Arc, or a module that does not show it in `child_mut`";
            Error::state(op, format!("`{path}` cannot be changed at `{name}`: {why}"))
        })?;
        rest = behind;
    }
    Ok(slot)
}

/// The name of the child with which the path begins, and the path from there. A name in a map may itself contain dots.
#[inline]
fn step<'p>(module: &dyn Module, path: &'p str) -> (&'p str, &'p str) {
    let children = walk::children(module);
    let is_child = |name: &str| children.iter().any(|(child, _)| child == name);
    let (mut name, mut rest) = (path, "");
    while !is_child(name) {
        let Some(dot) = name.rfind('.') else { return (path, "") };
        (name, rest) = (&path[..dot], &path[dot + 1..]);
    }
    (name, rest)
}

/// What is in the slot, or in a wrapper there, if its type is one of these.
#[inline]
pub(super) fn of_type<'m>(mut slot: &'m mut dyn Module, wanted: &dyn Fn(&dyn Any) -> bool) -> Option<&'m mut dyn Any> {
    while !wanted(&*slot) {
        slot = slot.child_mut("")?;
    }
    Some(slot)
}

/// What an error says that there is, and what that place takes.
#[inline]
fn other(op: &str, path: &str, root: &dyn Module, got: &str) -> Error {
    let there = get(root, op, path).map_or(String::new(), Module::type_name);
    let takes = "a field takes a module of exactly its own type, a child of a Sequential, ModuleList or ModuleDict any layer of the \
                 same input and element type, and one in an Arc is replaced as an Arc";
    Error::state(op, format!("`{path}` is a {there}, got a {got}; {takes}"))
}

pub(super) fn get_mut<'m, L: Module>(root: &'m mut dyn Module, path: &str) -> Result<&'m mut L> {
    let op = "get_submodule_mut";
    let is = |module: &dyn Any| module.is::<L>();
    if of_type(slot(root, op, path)?, &is).is_none() {
        return Err(other(op, path, root, type_name::<L>()));
    }
    let found = of_type(slot(root, op, path)?, &is).and_then(|found| found.downcast_mut());
    Ok(found.expect("found just now"))
}

pub(super) fn set<T: Real, L: Forward<T>>(root: &mut dyn Module, path: &str, module: L) -> Result<()> {
    let op = "set_submodule";
    let slot = of_type(slot(root, op, path)?, &|slot| slot.is::<Box<dyn Forward<T>>>() || slot.is::<L>());
    match slot {
        None => return Err(other(op, path, root, type_name::<L>())),
        Some(slot) => match slot.downcast_mut::<L>() {
            Some(field) => *field = module,
            None => *slot.downcast_mut().expect("one of the two") = Box::new(module) as Box<dyn Forward<T>>,
        },
    }
    Ok(())
}

#[inline]
pub(super) fn parameter(root: &dyn Module, path: &str) -> Result<AnyParam> {
    entry("get_parameter", "parameter", root, path, |entry| match entry {
        Entry::Param(param) => Some(param),
        Entry::Buffer(_) => None,
    })
}

#[inline]
pub(super) fn buffer(root: &dyn Module, path: &str) -> Result<AnyBuffer> {
    entry("get_buffer", "buffer", root, path, |entry| match entry {
        Entry::Buffer(buffer) => Some(buffer),
        Entry::Param(_) => None,
    })
}

fn entry<R>(op: &str, what: &str, root: &dyn Module, path: &str, of_kind: fn(Entry) -> Option<R>) -> Result<R> {
    let mut there = Vec::new();
    for (name, entry) in walk::entries(op, root)? {
        match of_kind(entry) {
            Some(found) if name == path => return Ok(found),
            Some(_) => there.push(name),
            None => {}
        }
    }
    Err(Error::state(op, format!("there is no {what} `{path}`; {}", there_are(there.iter()))))
}
