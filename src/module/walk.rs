//! Walking the tree of modules, for the provided methods of [`Module`].

use std::collections::HashSet;

use super::{
    Module,
    any::{AnyBuffer, AnyParam},
    call::Place,
    field::Members,
    hooks::{self, Step},
};
use crate::{
    DType, Error, Result,
    error::or_panic,
    state::{Ordered, StateDict, pattern},
};

pub(super) fn members(module: &dyn Module) -> Members<'_> {
    let mut members = Members::default();
    module.members(&mut members);
    members
}

pub(super) fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") }
}

/// Calls `f` with the path and the members of a module and of everything below it, parents first and parametrizations last.
fn descend(module: &dyn Module, prefix: &str, f: &mut dyn FnMut(&str, &Members<'_>)) {
    let members = members(module);
    f(prefix, &members);
    for list in &members.beside {
        descend(&**list, prefix, f);
    }
    for (name, child) in &members.children {
        descend(*child, &join(prefix, name), f);
    }
    for (name, list) in &members.parametrized {
        descend(&**list, &join(prefix, &format!("parametrizations.{name}")), f);
    }
}

/// The parameters of a module itself, including those from which parametrizations compute others.
#[inline]
pub(super) fn own_parameters(root: &dyn Module) -> Vec<AnyParam> {
    let root = members(root);
    let mut own = Vec::new();
    for (_, param) in root.params {
        own.push(param);
    }
    for (_, list) in &root.parametrized {
        own.extend(parameters(&**list));
    }
    for list in &root.beside {
        own.extend(parameters(&**list));
    }
    own
}

/// The state_dict with its entries named as in this version of every module.
pub(super) fn upgraded(module: &dyn Module, state: &StateDict) -> StateDict {
    fn upgrade(module: &dyn Module, prefix: &str, state: &mut StateDict) {
        module.upgrade(prefix, state);
        let members = members(module);
        for list in &members.beside {
            list.upgrade(prefix, state);
        }
        for (name, child) in &members.children {
            upgrade(*child, &format!("{prefix}{name}."), state);
        }
        for (name, list) in &members.parametrized {
            upgrade(&**list, &format!("{prefix}parametrizations.{name}."), state);
        }
    }
    let mut state = state.clone();
    if let Some(hooks) = hooks::runner() {
        (hooks.run)(module, &mut Step::Loading(&mut state));
    }
    upgrade(module, "", &mut state);
    state
}

/// Shows each parameter once to `f`, with the path of its module and its name there.
fn each_parameter(root: &dyn Module, f: &mut dyn FnMut(&str, &str, &AnyParam)) {
    let mut seen = HashSet::new();
    descend(root, "", &mut |prefix, members| {
        for (name, param) in &members.params {
            if seen.insert(param.address()) {
                f(prefix, name, param);
            }
        }
    });
}

pub(super) fn parameters(root: &dyn Module) -> Vec<AnyParam> {
    let mut found = Vec::new();
    each_parameter(root, &mut |_, _, param| found.push(param.clone()));
    found
}

pub(super) fn named_parameters(root: &dyn Module) -> Vec<(String, AnyParam)> {
    let mut found = Vec::new();
    each_parameter(root, &mut |prefix, name, param| found.push((join(prefix, name), param.clone())));
    found
}

#[inline]
pub(super) fn named_buffers(root: &dyn Module) -> Vec<(String, AnyBuffer)> {
    let mut found = Vec::new();
    descend(root, "", &mut |prefix, members| {
        for (name, buffer) in &members.buffers {
            found.push((join(prefix, name), buffer.clone()));
        }
    });
    found
}

#[inline]
pub(super) fn children(root: &dyn Module) -> Vec<(String, &dyn Module)> {
    members(root).children
}

pub(super) fn named_modules(root: &dyn Module) -> Vec<(String, &dyn Module)> {
    fn below<'a>(parent: &'a dyn Module, prefix: &str, found: &mut Vec<(String, &'a dyn Module)>) {
        for (name, child) in members(parent).children {
            let path = join(prefix, &name);
            found.push((path.clone(), child));
            below(child, &path, found);
        }
    }
    let mut found = Vec::new();
    below(root, "", &mut found);
    found
}

/// The path to the module with this identity, inside this one.
pub(super) fn path_to(module: &dyn Module, place: Place) -> Option<String> {
    named_modules(module).into_iter().find(|(_, m)| m.place() == place).map(|(path, _)| path)
}

/// A parameter or a buffer: an entry of a state_dict, which can be written to.
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

    fn is_lazy(&self) -> bool {
        match self {
            Entry::Param(p) => p.is_lazy(),
            Entry::Buffer(b) => b.is_lazy(),
        }
    }

    pub(super) fn known_shape(&self) -> Vec<Option<usize>> {
        match self {
            Entry::Param(p) => p.known_shape(),
            Entry::Buffer(b) => b.known_shape(),
        }
    }

    /// What gives it the values that it has now.
    #[inline]
    pub(super) fn undo(&self) -> Box<dyn FnOnce()> {
        match self {
            Entry::Param(p) => p.undo(),
            Entry::Buffer(b) => b.undo(),
        }
    }

    /// The shape with 0 for unknown sizes, as PyTorch prints it.
    pub(super) fn shown_shape(&self) -> Vec<usize> {
        self.known_shape().into_iter().map(Option::unwrap_or_default).collect()
    }
}

/// # Errors
/// If one of these names belongs to a parameter or buffer that has no values yet.
pub(crate) fn no_lazy<'a>(op: &str, mut named: impl Iterator<Item = (&'a str, bool)>) -> Result<()> {
    match named.find(|(_, lazy)| *lazy) {
        None => Ok(()),
        Some((name, _)) => Err(lazy(op, name)),
    }
}

fn lazy(op: &str, name: &str) -> Error {
    let why = "has no values yet, since its shape comes from the first input; run a batch through the model first";
    Error::state(op, format!("`{name}` {why}"))
}

#[track_caller]
#[inline]
pub(super) fn num_parameters(root: &dyn Module) -> usize {
    let mut all = 0;
    for (name, param) in named_parameters(root) {
        if param.is_lazy() {
            or_panic(Err(lazy("num_parameters", &name)))
        }
        all += param.numel();
    }
    all
}

pub(super) fn zero_grad(root: &dyn Module) {
    parameters(root).iter().for_each(AnyParam::zero_grad);
}

#[inline]
pub(super) fn set_requires_grad(root: &dyn Module, requires_grad: bool) {
    parameters(root).iter().for_each(|p| p.set_requires_grad(requires_grad));
}

#[inline]
pub(super) fn set_requires_grad_matching(root: &dyn Module, pattern: &str, requires_grad: bool) -> Result<usize> {
    let params = named_parameters(root);
    let chosen = pattern::select("parameter", pattern, &params)?;
    chosen.iter().for_each(|&i| params[i].1.set_requires_grad(requires_grad));
    Ok(chosen.len())
}

/// Every parameter and buffer, in the order of PyTorch's state_dict.
///
/// # Errors
/// If two have the same name: a state_dict could hold only one of them.
pub(super) fn entries(op: &str, root: &dyn Module) -> Result<Ordered<Entry>> {
    let (mut found, mut twice) = (Ordered::default(), None);
    descend(root, "", &mut |prefix, members| {
        let mut add = |name: &str, entry| {
            let path = join(prefix, name);
            if found.insert(path.clone(), entry).is_some() {
                twice.get_or_insert(path);
            }
        };
        for (name, param) in &members.params {
            add(name, Entry::Param(param.clone()));
        }
        for (name, buffer) in &members.buffers {
            add(name, Entry::Buffer(buffer.clone()));
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

#[track_caller]
pub(super) fn state_dict(root: &dyn Module) -> StateDict {
    or_panic(state("state_dict", root))
}

/// # Errors
/// If two entries have the same name, or a parameter has no values yet.
pub(super) fn state(op: &str, root: &dyn Module) -> Result<StateDict> {
    if let Some(hooks) = hooks::runner() {
        (hooks.run)(root, &mut Step::Saving);
    }
    let mut state = StateDict::default();
    for (name, entry) in entries(op, root)? {
        if entry.is_lazy() {
            return Err(lazy(op, &name));
        }
        let value = match entry {
            Entry::Param(p) => p.detach(),
            Entry::Buffer(b) => b.tensor(),
        };
        state.insert(name, value);
    }
    if let Some(hooks) = hooks::runner() {
        (hooks.run)(root, &mut Step::Saved(&mut state));
    }
    Ok(state)
}

pub(super) fn train(root: &dyn Module) {
    set_mode(root, true);
}

pub(super) fn eval(root: &dyn Module) {
    set_mode(root, false);
}

fn set_mode(root: &dyn Module, training: bool) {
    descend(root, "", &mut |_, members| members.modes.iter().for_each(|mode| mode.set(training)));
}

/// Sets the modes of the layers whose path, or that of a module around them, matches.
#[inline]
pub(super) fn set_modes(root: &dyn Module, pattern: &str, training: bool) -> Result<usize> {
    let within = |mut path: &str| {
        while !pattern::matches(pattern, path) {
            let Some(dot) = path.rfind('.') else { return false };
            path = &path[..dot];
        }
        true
    };
    let (mut chosen, mut others) = (0, Vec::new());
    descend(root, "", &mut |path, members| match members.modes.is_empty() {
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

#[inline]
pub(super) fn is_training(root: &dyn Module) -> bool {
    let mut found = None;
    descend(root, "", &mut |_, members| {
        for mode in &members.modes {
            found = Some(found.unwrap_or(false) || mode.is_training());
        }
    });
    found.unwrap_or(true)
}

#[inline]
pub(super) fn apply(module: &dyn Module, path: &str, f: &mut dyn FnMut(&str, &dyn Module)) {
    for (name, child) in members(module).children {
        apply(child, &join(path, &name), f);
    }
    for (name, list) in members(module).parametrized {
        apply(&*list, &join(path, &format!("parametrizations.{name}")), f);
    }
    f(path, module);
}
