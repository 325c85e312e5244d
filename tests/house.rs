//! The rooms of `src/`, as ARCHITECTURE.md lists them: each knows only those above it.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn tokens(file: &Path) -> Vec<TokenTree> {
    let stream: TokenStream = fs::read_to_string(file).unwrap().parse().unwrap();
    stream.into_iter().collect()
}

fn is(token: &TokenTree, text: &str) -> bool {
    match token {
        TokenTree::Ident(ident) => ident == text,
        TokenTree::Punct(punct) => punct.as_char().to_string() == text,
        _ => false,
    }
}

/// The rooms, from the one that knows nothing to the one that may know all.
fn rooms() -> Vec<String> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = text.split("\n## ").find(|section| section.starts_with("The house")).unwrap();
    let names = section.lines().filter_map(|line| line.strip_prefix("| `src/")?.split('`').next());
    names.map(|name| name.trim_end_matches('/').trim_end_matches(".rs").to_owned()).collect()
}

/// All names in a tree of imports.
fn names(tree: &[TokenTree], into: &mut Vec<String>) {
    for token in tree {
        match token {
            TokenTree::Ident(ident) => into.push(ident.to_string()),
            TokenTree::Group(group) => names(&group.stream().into_iter().collect::<Vec<_>>(), into),
            _ => {}
        }
    }
}

/// The rooms of the names that lib.rs re-exports, and of its own modules the lowest room that they re-export from.
fn exported(rooms: &[String]) -> HashMap<String, String> {
    let (tokens, mut out) = (tokens(&root().join("src/lib.rs")), HashMap::new());
    for (i, token) in tokens.iter().enumerate() {
        if is(token, "use") {
            let (room, end) = (tokens[i + 1].to_string(), tokens[i..].iter().position(|token| is(token, ";")).unwrap());
            let mut all = Vec::new();
            if rooms.contains(&room) {
                names(&tokens[i + 2..i + end], &mut all);
            }
            out.extend(all.into_iter().map(|name| (name, room.clone())));
        } else if let Some(inside) = module(&tokens[i..]) {
            let mut found = Vec::new();
            imports(&inside, 1, &mut found);
            let floors = found.iter().filter_map(|name| floor(rooms, out.get(name).unwrap_or(name)));
            out.insert(tokens[i + 1].to_string(), rooms[floors.max().unwrap()].clone());
        }
    }
    // Macros: the derive package's, and one that a room exports for users.
    out.extend([("forward", "error"), ("sequential", "module")].map(|(name, room)| (name.into(), room.into())));
    out
}

fn floor(rooms: &[String], room: &str) -> Option<usize> {
    rooms.iter().position(|known| known == room)
}

/// What is in the module that begins here, if one does.
fn module(tokens: &[TokenTree]) -> Option<Vec<TokenTree>> {
    match tokens {
        [token, _, TokenTree::Group(group), ..] if is(token, "mod") && group.delimiter() == Delimiter::Brace => {
            Some(group.stream().into_iter().collect())
        }
        _ => None,
    }
}

/// The first names of a path or a tree of imports that begins `up` modules below the crate's root, of those that climb to it.
fn from_root(path: &[TokenTree], up: usize, into: &mut Vec<String>) {
    match path {
        [TokenTree::Group(group), ..] => {
            let tree: Vec<_> = group.stream().into_iter().collect();
            tree.split(|token| is(token, ",")).for_each(|path| from_root(path, up, into));
        }
        [token, colon, _, rest @ ..] if up > 0 && is(token, "super") && is(colon, ":") => from_root(rest, up - 1, into),
        [name, ..] if up == 0 => into.push(name.to_string()),
        _ => {}
    }
}

/// The first names of the paths that begin with `crate`, or climb to it from `depth` modules below, outside of test modules.
fn imports(tokens: &[TokenTree], depth: usize, into: &mut Vec<String>) {
    let mut i = 0;
    while i < tokens.len() {
        let text = |at: usize| tokens.get(at).map(ToString::to_string).unwrap_or_default();
        match &tokens[i] {
            token if is(token, "#") && text(i + 1).replace(' ', "") == "[cfg(test)]" => {
                i += tokens[i..]
                    .iter()
                    .position(|t| is(t, ";") || matches!(t, TokenTree::Group(g) if g.delimiter() == Delimiter::Brace))
                    .unwrap();
            }
            token if is(token, "crate") && text(i + 1) == ":" => from_root(&tokens[i + 3..], 0, into),
            token if is(token, "super") => from_root(&tokens[i..], depth, into),
            TokenTree::Group(group) => imports(&group.stream().into_iter().collect::<Vec<_>>(), depth, into),
            _ => {
                if let Some(inside) = module(&tokens[i..]) {
                    imports(&inside, depth + 1, into);
                    i += 2;
                }
            }
        }
        i += 1;
    }
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, into),
            false if path.file_name().is_some_and(|name| name != "tests.rs") => into.push(path),
            false => {}
        }
    }
}

#[test]
fn every_form_of_an_import_is_seen() {
    let code: TokenStream = "
        use crate::{a::{b, c}, d};
        use super::super::e;
        use super::{x, super::{f::y, g}};
        macro_rules! m { () => { $crate::h::z() } }
        fn of(x: crate::i::T) -> super::x::U { super::super::j::v() }
        mod inside { use super::x; use super::super::x; use super::super::super::k; }
        #[cfg(test)] use crate::x;
        #[cfg(test)] mod tests { use crate::x; }
        pub(crate) struct S { pub(super) x: crate::l }
    "
    .parse()
    .unwrap();
    let mut found = Vec::new();
    imports(&code.into_iter().collect::<Vec<_>>(), 2, &mut found);
    assert_eq!(found.concat(), "adefghijkl");
}

#[test]
fn no_import_points_up() {
    let (rooms, mut all, mut wrong) = (rooms(), Vec::new(), Vec::new());
    let exported = exported(&rooms);
    for (name, room) in [("Real", "number"), ("memory", "kernels"), ("prelude", "optim")] {
        assert_eq!(exported[name], room);
    }
    files(&root().join("src"), &mut all);
    let mut seen = 0;
    for file in &all {
        let inside = file.strip_prefix(root().join("src")).unwrap();
        let modules: Vec<&str> = inside.iter().map(|part| part.to_str().unwrap().trim_end_matches(".rs")).collect();
        // The root knows all, and so does a module of tests.
        if ["lib", "overhead"].contains(&modules[0]) {
            continue;
        }
        let here = floor(&rooms, modules[0]).unwrap_or_else(|| panic!("`{}` is not in the table", modules[0]));
        let mut found = Vec::new();
        imports(&tokens(file), modules.iter().filter(|&&name| name != "mod").count(), &mut found);
        for name in found {
            match floor(&rooms, exported.get(&name).unwrap_or(&name)) {
                Some(there) if there <= here => seen += 1,
                Some(_) => wrong.push(format!("{} knows `{name}`", inside.display())),
                None => wrong.push(format!("{} knows `{name}`, which is in no room", inside.display())),
            }
        }
    }
    assert!(seen > 900, "{seen} imports found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
