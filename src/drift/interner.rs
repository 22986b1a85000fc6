//! One copy of each text that is kept of many objects.

use std::collections::HashSet;
use std::sync::Arc;

/// Keeps one copy of each text: thousands of objects share a few field sets, managers and labels.
#[derive(Debug, Default)]
pub struct Interner {
    texts: HashSet<Arc<str>>,
    /// The size at which it looks for texts that nobody uses any more.
    sweep_at: usize,
}

impl Interner {
    const SMALLEST_SWEEP: usize = 64;

    /// The shared copy of a text.
    pub fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        if self.texts.len() >= self.sweep_at {
            self.sweep();
        }
        let shared: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&shared));
        shared
    }

    /// Lets go of what nobody else holds. It happens by itself whenever the number of texts has doubled.
    pub fn sweep(&mut self) {
        self.texts.retain(|text| Arc::strong_count(text) > 1);
        self.sweep_at = (self.texts.len() * 2).max(Self::SMALLEST_SWEEP);
    }

    /// How many texts are kept.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}
