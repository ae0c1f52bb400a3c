//! Things under small numbers that stay theirs until they are removed; numbers are used again.

/// A list with holes.
#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Vec<Option<T>>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { slots: Vec::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The number that [`Slab::insert`] will give next.
    pub(super) fn next_index(&self) -> usize {
        self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len())
    }

    /// Puts one in, under [`Slab::next_index`].
    pub(super) fn insert(&mut self, thing: T) -> usize {
        let index = self.next_index();
        match self.slots.get_mut(index) {
            Some(slot) => *slot = Some(thing),
            None => self.slots.push(Some(thing)),
        }
        self.len += 1;
        index
    }

    /// The one under a number.
    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.slots.get_mut(index)?.as_mut()
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, index: usize) -> Option<T> {
        let thing = self.slots.get_mut(index)?.take()?;
        self.len -= 1;
        if self.len == 0 {
            self.slots = Vec::new();
        }
        Some(thing)
    }

    /// All, with their numbers.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(index, slot)| Some((index, slot.as_mut()?)))
    }

    /// All.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }

    /// Removes those that do not pass.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut T) -> bool) {
        for index in 0..self.slots.len() {
            if self.get_mut(index).is_some_and(|thing| !keep(thing)) {
                self.remove(index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_are_used_again() {
        let mut slab = Slab::default();
        assert_eq!((slab.insert('a'), slab.insert('b'), slab.insert('c')), (0, 1, 2));
        assert_eq!(slab.remove(1), Some('b'));
        assert_eq!(slab.remove(1), None);
        assert_eq!((slab.next_index(), slab.insert('d'), slab.len()), (1, 1, 3));
        slab.retain(|thing| *thing == 'd');
        assert_eq!(slab.iter().collect::<String>(), "d");
        assert_eq!(slab.iter_mut().next(), Some((1, &mut 'd')));
    }
}
