//! How many connections there may be: in all, and from one origin, so that one client cannot keep the others out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::peer::Origin;

/// Counts connections. Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    inside: Arc<Mutex<Inside>>,
    total_max: usize,
    origin_max: usize,
}

#[derive(Debug, Default)]
struct Inside {
    total: usize,
    by_origin: HashMap<Origin, usize>,
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    gate: Gate,
    origin: Origin,
}

impl Gate {
    /// A gate for this many connections, and this many of one origin.
    pub(super) fn new(total_max: usize, origin_max: usize) -> Gate {
        Gate { inside: Arc::default(), total_max, origin_max }
    }

    /// A place, if there is one.
    ///
    /// # Errors
    /// Which limit is reached, in words for the log.
    pub(super) fn enter(&self, origin: Origin) -> Result<Ticket, String> {
        let mut inside = self.inside();
        if inside.total >= self.total_max {
            return Err(format!("there are {} connections already", inside.total));
        }
        let count = inside.by_origin.entry(origin).or_default();
        if *count >= self.origin_max {
            return Err(format!("it has {count} connections already"));
        }
        *count += 1;
        inside.total += 1;
        Ok(Ticket { gate: self.clone(), origin })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        // Counting cannot panic half-way.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inside = self.gate.inside();
        inside.total -= 1;
        if let Some(count) = inside.by_origin.get_mut(&self.origin) {
            *count -= 1;
            if *count == 0 {
                inside.by_origin.remove(&self.origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_in_all_and_by_origin_and_come_back() {
        let gate = Gate::new(3, 2);
        let first = gate.enter(Origin::User(1)).unwrap();
        let _second = gate.enter(Origin::User(1)).unwrap();
        assert!(gate.enter(Origin::User(1)).unwrap_err().contains("it has 2"));
        let other = gate.enter(Origin::User(2)).unwrap();
        assert!(gate.enter(Origin::User(3)).unwrap_err().contains("there are 3"));
        drop((first, other));
        assert!(gate.enter(Origin::User(1)).is_ok());
        assert_eq!(gate.inside().by_origin.len(), 1, "origins without connections are forgotten");
    }
}
