//! How many answers are made for one user at a time. Each costs whoever runs this several requests to the model, so that nobody may
//! have any number of them. Counted by each pod for itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

/// One, and another in a second window.
const AT_ONCE: usize = 2;

/// Who has how many. Clones are the same.
#[derive(Clone, Default)]
pub struct Turns {
    taken: Arc<Mutex<HashMap<Uuid, usize>>>,
}

/// One answer of a user's. Dropped, it makes room for the next.
pub struct Turn {
    turns: Turns,
    user: Uuid,
}

impl Turns {
    /// A turn for this user, unless there are as many already as may be.
    pub fn take(&self, user: Uuid) -> Option<Turn> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(user).or_default();
        if *count >= AT_ONCE {
            return None;
        }
        *count += 1;
        Some(Turn { turns: self.clone(), user })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = self.turns.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.user) {
            Some(count) if *count > 1 => *count -= 1,
            // Who has none is not remembered.
            _ => drop(taken.remove(&self.user)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_is_dropped_is_free_again_and_others_have_their_own() {
        let (turns, ada, eve) = (Turns::default(), Uuid::from_u128(1), Uuid::from_u128(2));
        let mut taken: Vec<Turn> = (0..AT_ONCE).map(|_| turns.take(ada).unwrap()).collect();
        assert!(turns.take(ada).is_none());
        assert!(turns.take(eve).is_some());
        taken.pop();
        taken.push(turns.take(ada).unwrap());
        assert!(turns.take(ada).is_none());
        drop(taken);
        assert!(turns.taken.lock().unwrap().is_empty(), "nobody is remembered who has none");
    }
}
