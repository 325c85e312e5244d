//! Every public name of torch.nn, torch.optim and torch.utils.data is in ndnn or in a table of reasons, and docs/parity.md says where.
//!
//! `PARITY=write cargo test --test parity` writes the page anew.

mod table;

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use serde_json::Value;
use table::{ABSENT, THERE};

/// A name that ndnn has.
pub struct Place {
    /// PyTorch's module.
    of: &'static str,
    name: &'static str,
    /// The module in ndnn, and the path in it.
    module: &'static str,
    path: &'static str,
}

impl Place {
    fn path(&self) -> String {
        let path = format!("{}::{}", self.module, self.path);
        path.replace(' ', "").trim_start_matches("ndnn").trim_start_matches("::").replace("ndnn::", "")
    }
}

/// PyTorch's modules with their names, in the order of names.json.
fn names() -> Vec<(String, Vec<String>)> {
    let all: Value = serde_json::from_str(include_str!("names.json")).unwrap();
    let modules = all.as_object().unwrap().iter();
    let mut modules: Vec<_> =
        modules.map(|(module, names)| (module.clone(), names.as_object().unwrap().keys().cloned().collect())).collect();
    modules.sort();
    modules
}

/// What is known of each name: its place, or why it is absent.
fn known() -> BTreeMap<(&'static str, &'static str), Vec<Result<String, &'static str>>> {
    let mut known: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for place in THERE.iter().copied().flatten() {
        known.entry((place.of, place.name)).or_default().push(Ok(place.path()));
    }
    for &(of, names, why) in ABSENT {
        for name in names.split_whitespace() {
            known.entry((of, name)).or_default().push(Err(why));
        }
    }
    known
}

#[test]
fn every_name_has_one_place_or_one_reason() {
    let (names, known) = (names(), known());
    let mut wrong = String::new();
    for (module, names) in &names {
        for name in names {
            let found = known.get(&(module.as_str(), name.as_str())).map_or(0, Vec::len);
            if found != 1 {
                writeln!(wrong, "{module}.{name}: {found} entries in tests/parity/table.rs, expected one").unwrap();
            }
        }
    }
    for (of, name) in known.keys() {
        if !names.iter().any(|(module, names)| module == of && names.iter().any(|n| n == name)) {
            writeln!(wrong, "{of}.{name} is in tests/parity/table.rs, but PyTorch has no such name").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What is not there yet is not exported.
#[test]
fn what_is_absent_is_absent() {
    let exports = [
        ("torch.nn", include_str!("../../src/nn/mod.rs")),
        ("torch.nn.functional", include_str!("../../src/functional/mod.rs")),
    ];
    for (of, names, _) in ABSENT {
        let Some((_, text)) = exports.iter().find(|(module, _)| module == of) else { continue };
        let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let there: Vec<&str> = names.split_whitespace().filter(|name| words.contains(name)).collect();
        assert!(there.is_empty(), "{of} has {there:?} by now: move them in tests/parity/table.rs");
    }
}

/// How many conformance cases of a name compare what.
#[derive(Default)]
struct Cases {
    values: usize,
    gradients: usize,
    second: usize,
    errors: usize,
}

impl Cases {
    /// Those of a file of cases, if there is one.
    fn of(module: &str, name: &str) -> Cases {
        let folder = match module {
            "torch.nn" => "module",
            "torch.nn.functional" => "functional",
            "torch.optim" => "optim",
            _ => return Cases::default(),
        };
        let path = format!("{}/tests/conformance/cases/{folder}/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let mut cases = Cases::default();
        let Ok(bytes) = fs::read(path) else { return cases };
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let list: Value = serde_json::from_str(header["__metadata__"]["cases"].as_str().unwrap()).unwrap();
        for case in list.as_array().unwrap() {
            let has = |fields: &[&str]| {
                let full = |field: &&str| case[*field].as_object().is_some_and(|entries| !entries.is_empty());
                usize::from(fields.iter().any(full))
            };
            match case["kind"].as_str() {
                Some(kind) if kind.ends_with("error") => cases.errors += 1,
                _ => cases.values += 1,
            }
            cases.gradients += has(&["input_grads", "param_grads"]);
            cases.second += has(&["second_input_grads", "second_param_grads"]);
        }
        cases
    }
}

fn page() -> String {
    let known = known();
    let mut page = String::from(
        "# PyTorch's names in ndnn\n\nMade by `PARITY=write cargo test --test parity` from `tests/parity/table.rs` and the \
         cases in `tests/conformance/cases`, all of which pass (`tests/conformance/skips.rs` lists the few that are left \
         out). The columns count cases that compare values, gradients and second gradients with PyTorch's, and \
         calls that must be errors.\n",
    );
    for (module, names) in names() {
        let entry =
            |name: &String| known.get(&(module.as_str(), name.as_str())).map(|found| (name.clone(), found[0].clone()));
        let (there, absent): (Vec<_>, Vec<_>) = names.iter().filter_map(entry).partition(|(_, found)| found.is_ok());
        write!(page, "\n## {module}\n\n{} of {} names.\n", there.len(), names.len()).unwrap();
        if !there.is_empty() {
            page += "\n| name | in ndnn | values | gradients | second | errors |\n|---|---|---|---|---|---|\n";
        }
        for (name, path) in there {
            let Cases { values, gradients, second, errors } = Cases::of(&module, &name);
            let path = path.unwrap_or_default();
            writeln!(page, "| `{name}` | `{path}` | {values} | {gradients} | {second} | {errors} |").unwrap();
        }
        let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
        for (name, why) in absent {
            let why = why.unwrap_err();
            match reasons.iter_mut().find(|(reason, _)| *reason == why) {
                Some((_, names)) => names.push(format!("`{name}`")),
                None => reasons.push((why, vec![format!("`{name}`")])),
            }
        }
        for (why, names) in reasons {
            writeln!(page, "\nAbsent, {why}: {}.", names.join(", ")).unwrap();
        }
    }
    page
}

#[test]
fn the_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/parity.md");
    let page = page();
    if std::env::var_os("PARITY").is_some_and(|value| value == "write") {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/parity.md is out of date: PARITY=write cargo test --test parity");
}
