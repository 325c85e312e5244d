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

/// The rooms of the names that lib.rs re-exports.
fn exported(rooms: &[String]) -> HashMap<String, String> {
    let (tokens, mut out) = (tokens(&root().join("src/lib.rs")), HashMap::new());
    for (i, _) in tokens.iter().enumerate().filter(|(_, token)| is(token, "use")) {
        let (room, end) = (tokens[i + 1].to_string(), tokens[i..].iter().position(|token| is(token, ";")).unwrap());
        let mut all = Vec::new();
        if rooms.contains(&room) {
            names(&tokens[i + 2..i + end], &mut all);
        }
        out.extend(all.into_iter().map(|name| (name, room.clone())));
    }
    out
}

/// The first names of the paths that begin with `crate`, outside of test modules.
fn imports(tokens: &[TokenTree], into: &mut Vec<String>) {
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
            token if is(token, "crate") && text(i + 1) == ":" => match &tokens[i + 3] {
                TokenTree::Group(group) => {
                    let tree: Vec<_> = group.stream().into_iter().collect();
                    into.extend(tree.split(|token| is(token, ",")).filter_map(|path| Some(path.first()?.to_string())));
                }
                name => into.push(name.to_string()),
            },
            TokenTree::Group(group) => imports(&group.stream().into_iter().collect::<Vec<_>>(), into),
            _ => {}
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
fn no_import_points_up() {
    let (rooms, mut all, mut wrong) = (rooms(), Vec::new(), Vec::new());
    let floor = |room: &str| rooms.iter().position(|known| known == room);
    let exported = exported(&rooms);
    assert_eq!((rooms[0].as_str(), exported["Real"].as_str()), ("error", "number"));
    files(&root().join("src"), &mut all);
    let mut seen = 0;
    for file in &all {
        let inside = file.strip_prefix(root().join("src")).unwrap();
        let room = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        let Some(here) = floor(room) else { continue };
        let mut found = Vec::new();
        imports(&tokens(file), &mut found);
        for name in found {
            let there = floor(exported.get(&name).unwrap_or(&name));
            seen += usize::from(there.is_some());
            if there > Some(here) {
                wrong.push(format!("{} knows `{name}`", inside.display()));
            }
        }
    }
    assert!(seen > 900, "{seen} imports found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
