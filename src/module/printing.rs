//! Printing a module as PyTorch does: nested, with equal neighbours of a list folded.

use std::fmt;

use super::{Module, walk};

/// The printed form of a module and all its children.
pub fn repr(module: &dyn Module) -> String {
    let extra = module.extra_repr();
    let children = walk::members(module).children;
    let printed: Vec<(String, String)> = children.into_iter().map(|(name, child)| (name, repr(child))).collect();
    let mut lines: Vec<String> = extra.split('\n').filter(|l| !l.is_empty()).map(str::to_string).collect();
    if printed.is_empty() && lines.len() < 2 {
        return format!("{}({extra})", module.type_name());
    }
    let folded = if module.folds() { fold(printed) } else { printed };
    lines.extend(folded.into_iter().map(|(name, text)| format!("({name}): {}", text.replace('\n', "\n  "))));
    format!("{}(\n  {}\n)", module.type_name(), lines.join("\n  "))
}

/// The first line's worth: the module without its children, as errors name it.
pub(super) fn line(module: &dyn Module) -> String {
    format!("{}({})", module.type_name(), module.extra_repr().replace('\n', ", "))
}

/// Runs of equal neighbours as one entry: `(0-2): 3 x Linear(…)`.
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
    runs.into_iter()
        .map(|(first, last, text, count)| match count {
            1 => (first, text),
            n => (format!("{first}-{last}"), format!("{n} x {text}")),
        })
        .collect()
}

impl fmt::Display for dyn Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&repr(self))
    }
}
