//! A cluster that the tests of a file have together: started by the first that asks, ended with the last that holds it. One that
//! stays until all tests are over does nothing and costs the others: a dozen of them take half of a small machine.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::cluster::Cluster;

thread_local! {
    /// What the test of this thread holds: each has a thread of its own, which ends with it.
    static HELD: RefCell<Vec<Arc<Cluster>>> = const { RefCell::new(Vec::new()) };
}

/// A cluster that several tests have together.
#[derive(Debug)]
pub struct Together {
    start: fn() -> Cluster,
    now: Mutex<Weak<Cluster>>,
}

impl Together {
    /// One that `start` starts.
    #[must_use]
    pub const fn new(start: fn() -> Cluster) -> Self {
        Self { start, now: Mutex::new(Weak::new()) }
    }

    /// The cluster, which the calling test holds from now on until it ends.
    ///
    /// # Panics
    /// Where `start` does.
    pub fn get(&self) -> Arc<Cluster> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let cluster = now.upgrade().unwrap_or_else(|| {
            let started = Arc::new((self.start)());
            *now = Arc::downgrade(&started);
            started
        });
        HELD.with_borrow_mut(|held| held.push(Arc::clone(&cluster)));
        cluster
    }
}
