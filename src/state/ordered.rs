//! [`Ordered`]: values by name, in insertion order.

use std::{collections::HashMap, fmt};

/// Values by name, in insertion order; finding, adding and removing take constant time.
#[derive(Clone)]
pub(crate) struct Ordered<V> {
    /// A removed value leaves a gap.
    slots: Vec<Option<(String, V)>>,
    places: HashMap<String, usize>,
}

impl<V> Default for Ordered<V> {
    fn default() -> Self {
        Ordered { slots: Vec::new(), places: HashMap::new() }
    }
}

impl<V> Ordered<V> {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&V> {
        let slot = self.slots[*self.places.get(name)?].as_ref();
        slot.map(|(_, value)| value)
    }

    /// Adds a value at the end, or replaces the one with this name, which is returned.
    pub(crate) fn insert(&mut self, name: String, value: V) -> Option<V> {
        match self.places.get(&name) {
            Some(&place) => self.slots[place].replace((name, value)).map(|(_, old)| old),
            None => {
                self.places.insert(name.clone(), self.slots.len());
                self.slots.push(Some((name, value)));
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<V> {
        let place = self.places.remove(name)?;
        let taken = self.slots[place].take();
        // Closing gaps visits all slots, but only after as many were removed as are left.
        if self.slots.len() > 2 * self.len() {
            self.slots.retain(Option::is_some);
            for (place, (name, _)) in self.slots.iter().flatten().enumerate() {
                *self.places.get_mut(name).expect("each has its place") = place;
            }
        }
        taken.map(|(_, value)| value)
    }

    /// The entry at a position.
    pub(crate) fn nth(&self, position: usize) -> Option<(&str, &V)> {
        if self.slots.len() > self.len() {
            return self.iter().nth(position);
        }
        self.slots.get(position)?.as_ref().map(|(name, value)| (name.as_str(), value))
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut V> {
        let slot = self.slots[*self.places.get(name)?].as_mut();
        slot.map(|(_, value)| value)
    }

    /// Removes the last entry.
    pub(crate) fn pop(&mut self) -> Option<(String, V)> {
        while let Some(slot) = self.slots.pop() {
            if let Some((name, value)) = slot {
                self.places.remove(&name);
                return Some((name, value));
            }
        }
        None
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &V)> {
        self.slots.iter().filter_map(|slot| {
            let (name, value) = slot.as_ref()?;
            Some((name.as_str(), value))
        })
    }

    pub(crate) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (&str, &mut V)> {
        self.slots.iter_mut().flatten().map(|(name, value)| (name.as_str(), value))
    }

    pub(crate) fn keys(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.iter().map(|(name, _)| name)
    }
}

impl<V> FromIterator<(String, V)> for Ordered<V> {
    /// If two values have one name, the last one is kept, in the position of the first.
    fn from_iter<I: IntoIterator<Item = (String, V)>>(pairs: I) -> Self {
        let mut all = Ordered::default();
        for (name, value) in pairs {
            all.insert(name, value);
        }
        all
    }
}

impl<V> IntoIterator for Ordered<V> {
    type Item = (String, V);
    type IntoIter = std::iter::Flatten<std::vec::IntoIter<Option<(String, V)>>>;
    fn into_iter(self) -> Self::IntoIter {
        self.slots.into_iter().flatten()
    }
}

impl<V: fmt::Debug> fmt::Debug for Ordered<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Ordered;

    fn pairs(all: &Ordered<i32>) -> Vec<(&str, i32)> {
        all.iter().map(|(name, &value)| (name, value)).collect()
    }

    #[test]
    fn the_last_value_stays_in_the_first_place() {
        let mut all: Ordered<i32> =
            [("b", 1), ("a", 2), ("b", 3)].map(|(n, v)| (n.to_string(), v)).into_iter().collect();
        assert_eq!(pairs(&all), [("b", 3), ("a", 2)]);
        assert_eq!((all.insert("a".into(), 4), all.insert("c".into(), 5), all.len()), (Some(2), None, 3));
        assert_eq!(all.nth(2), Some(("c", &5)));
        // Gaps are closed, and a name that is added again comes last.
        assert_eq!((all.remove("b"), all.remove("b"), all.get("b"), all.get("c")), (Some(3), None, None, Some(&5)));
        assert_eq!((all.remove("a"), all.insert("b".into(), 6)), (Some(4), None));
        assert_eq!((pairs(&all), all.slots.len()), (vec![("c", 5), ("b", 6)], 2));
        assert_eq!((all.nth(0), all.nth(1), all.nth(2)), (Some(("c", &5)), Some(("b", &6)), None));
        all.iter_mut().for_each(|(_, v)| *v += 1);
        *all.get_mut("b").unwrap() += 1;
        assert_eq!((all.get_mut("a").is_none(), all.get("b")), (true, Some(&8)));
        *all.get_mut("b").unwrap() -= 1;
        assert_eq!(all.clone().into_iter().collect::<Vec<_>>(), [("c".to_string(), 6), ("b".to_string(), 7)]);
        assert_eq!(format!("{all:?}"), r#"{"c": 6, "b": 7}"#);
        assert_eq!((all.remove("c"), all.remove("b"), all.len(), all.slots.len()), (Some(6), Some(7), 0, 0));
        // Behind a gap.
        let mut all: Ordered<i32> = ["a", "b", "c"].map(|n| (n.to_string(), 1)).into_iter().collect();
        assert_eq!(
            (all.remove("b"), all.pop(), all.pop(), all.pop(), all.len()),
            (Some(1), Some(("c".into(), 1)), Some(("a".into(), 1)), None, 0)
        );
    }

    /// A linear search per name would need 10^10 comparisons, closing each gap at once as many moves.
    #[test]
    fn two_hundred_thousand_names() {
        const N: usize = 200_000;
        let name = |i: usize| format!("layers.{i}.weight");
        let mut all: Ordered<usize> = (0..N).map(|i| (name(i), i)).collect();
        assert!((0..N).all(|i| all.get(&name(i)) == Some(&i) && all.nth(i) == Some((&name(i), &i))));
        assert!((0..N).all(|i| all.insert(name(i), i + 1) == Some(i)));
        assert!((0..N).all(|i| all.remove(&name(i)) == Some(i + 1)));
        assert_eq!(all.len(), 0);
    }
}
