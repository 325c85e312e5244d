//! Choosing by name: `*` matches any sequence of characters.

use std::fmt::Display;

use crate::{Error, Result, error::there_are};

/// Whether `name` matches `pattern`, in which `*` matches any sequence of characters, including dots.
#[inline]
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The positions of the entries whose names match.
///
/// # Errors
/// If none matches; the error lists the names that exist of `what`.
pub(crate) fn select<T>(what: &str, pattern: &str, named: &[(String, T)]) -> Result<Vec<usize>> {
    let found: Vec<usize> = (0..named.len()).filter(|&i| matches(pattern, &named[i].0)).collect();
    if found.is_empty() {
        return Err(no_match(what, pattern, named.iter().map(|(name, _)| name)));
    }
    Ok(found)
}

pub(crate) fn no_match<S: Display>(what: &str, pattern: &str, names: impl ExactSizeIterator<Item = S>) -> Error {
    Error::state("pattern", format!("`{pattern}` matches no {what}; {}", there_are(names)))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn star_stands_for_any_run() {
        assert!(matches("*.bias", "fc.1.bias") && matches("fc.*", "fc.1.bias") && matches("*norm*", "a.norm1.weight"));
        assert!(matches("fc.bias", "fc.bias") && matches("*", "anything") && matches("a*b*c", "a.b.b.c"));
        assert!(!matches("fc", "fc.bias") && !matches("*.bias", "bias2") && !matches("ab*b", "ab"));
    }
}
