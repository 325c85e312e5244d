//! Printing a module as PyTorch does: nested, with equal neighbours of a list printed once.

use std::fmt;

use super::{Module, walk};
use crate::python::AsPython;

/// The printed form of a module and all its children.
pub fn repr(module: &dyn Module) -> String {
    let extra = module.extra_repr();
    let members = walk::members(module);
    let (mut printed, mut lists) = (Vec::new(), Vec::new());
    for (name, child) in members.children {
        printed.push((name, repr(child)));
    }
    for (name, list) in members.parametrized {
        lists.push((name, repr(&*list)));
    }
    let type_name = if lists.is_empty() { module.type_name() } else { format!("Parametrized{}", module.type_name()) };
    if !lists.is_empty() {
        printed.push(("parametrizations".into(), nested("ModuleDict", Vec::new(), lists)));
    }
    let mut lines = Vec::new();
    for line in extra.split('\n') {
        if !line.is_empty() {
            lines.push(line.to_string());
        }
    }
    if printed.is_empty() && lines.len() < 2 {
        return format!("{type_name}({extra})");
    }
    let folded = if module.folds() { fold(printed) } else { printed };
    nested(&type_name, lines, folded)
}

fn nested(type_name: &str, mut lines: Vec<String>, children: Vec<(String, String)>) -> String {
    for (name, text) in children {
        lines.push(format!("({name}): {}", text.replace('\n', "\n  ")));
    }
    format!("{type_name}(\n  {}\n)", lines.join("\n  "))
}

/// The module without its children, as errors name it: for a container only its name.
pub(super) fn line(module: &dyn Module) -> String {
    match module.extra_repr() {
        extra if extra.is_empty() && !walk::members(module).children.is_empty() => module.type_name(),
        extra => format!("{}({})", module.type_name(), extra.replace('\n', ", ")),
    }
}

/// Combines equal neighbours into one entry: `(0-2): 3 x Linear(…)`.
fn fold(children: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut runs: Vec<(String, String, String, usize)> = Vec::new();
    for (name, text) in children {
        match runs.last_mut() {
            Some((_, last, same, count)) if *same == text => {
                *last = name;
                *count += 1;
            }
            _ => runs.push((name.clone(), name, text, 1)),
        }
    }
    let mut folded = Vec::with_capacity(runs.len());
    for (first, last, text, count) in runs {
        folded.push(match count {
            1 => (first, text),
            n => (format!("{first}-{last}"), format!("{n} x {text}")),
        });
    }
    folded
}

impl fmt::Display for dyn Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&repr(self))
    }
}

/// Builds what is printed between a module's parentheses, part by part; a method `extra_repr` of `#[module(repr)]`
/// returns it.
///
/// ```
/// use ndnn::module::ExtraRepr;
/// let extra = ExtraRepr::new().value(3).named("eps", 1e-5).unless_default("bias", true, true).finish();
/// assert_eq!(extra, "3, eps=1e-05");
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "`finish` returns the text"]
pub struct ExtraRepr(String);

impl ExtraRepr {
    /// An empty text.
    pub fn new() -> Self {
        ExtraRepr::default()
    }

    /// A value without a name.
    pub fn value(self, value: impl AsPython) -> Self {
        self.part("", &value)
    }

    /// `name=value`
    pub fn named(self, name: &str, value: impl AsPython) -> Self {
        self.part(name, &value)
    }

    /// `name=value`, unless the value is the default.
    pub fn unless_default<V: AsPython + PartialEq>(self, name: &str, value: V, default: V) -> Self {
        if value == default { self } else { self.part(name, &value) }
    }

    fn part(mut self, name: &str, value: &dyn AsPython) -> Self {
        let comma = if self.0.is_empty() { "" } else { ", " };
        let equals = if name.is_empty() { "" } else { "=" };
        self.0 += &format!("{comma}{name}{equals}{}", value.python());
        self
    }

    /// The text.
    pub fn finish(self) -> String {
        self.0
    }
}
