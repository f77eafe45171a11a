//! The connections there are: how many, and which of them has to go when there are too many.
//!
//! Whoever can reach the port can open connections and say nothing. The API server does not: it connects to ask. So a
//! connection that has not asked yet makes room for the next one, the oldest first; one that has asked stays. While there is
//! room nobody is ended: the API server opens a few ahead of its calls, and a call that is sent into a connection as it is
//! closed is lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::metrics::{Metrics, ReasonLabel};

/// How many connections are open at once. An API server keeps 25 idle ones for each path and opens more under load; ten of
/// them under load stay below this. Each takes about 33 KiB.
pub const CONNECTIONS: usize = 2_048;

/// How many of those that were told to go may still be there when the next one is taken: on a busy machine they are not gone at
/// once, and each holds a file.
const GOING: usize = 256;

/// All connections.
pub struct Peers {
    next: AtomicU64,
    open: Mutex<Open>,
    /// Told whenever one is gone.
    gone: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Open {
    number: usize,
    /// Those that have not asked yet, in the order they came.
    silent: BTreeMap<u64, Arc<Notify>>,
}

/// One connection; it counts until this is dropped.
pub struct Peer {
    id: u64,
    asked: AtomicBool,
    /// The name in its certificate, where it had to show one.
    pub name: Option<String>,
    end: Arc<Notify>,
    all: Arc<Peers>,
}

impl Peers {
    /// None yet.
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { next: AtomicU64::new(0), open: Mutex::default(), gone: Notify::new(), metrics })
    }

    /// Returns when one more may come. More than [`CONNECTIONS`] are there only while some of them are going.
    pub async fn room(&self) {
        while self.open.lock().unwrap_or_else(PoisonError::into_inner).number >= CONNECTIONS + GOING {
            self.gone.notified().await;
        }
    }

    /// Takes one more connection; `None` where there is no room and nobody to make any.
    pub fn join(self: &Arc<Self>) -> Option<Peer> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let end = Arc::new(Notify::new());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.number >= CONNECTIONS {
            let Some((_, oldest)) = open.silent.pop_first() else {
                self.refused("full");
                return None;
            };
            self.refused("silent");
            oldest.notify_one();
        }
        open.number += 1;
        self.metrics.connections.inc();
        open.silent.insert(id, end.clone());
        Some(Peer { id, asked: AtomicBool::new(false), name: None, end, all: self.clone() })
    }

    fn refused(&self, reason: &'static str) {
        self.metrics.connections_refused.get_or_create_owned(&ReasonLabel { reason }).inc();
    }
}

impl Peer {
    /// It has asked something that the API server could have asked.
    pub fn say_asked(&self) {
        if !self.asked.swap(true, Ordering::Relaxed) {
            self.all.open.lock().unwrap_or_else(PoisonError::into_inner).silent.remove(&self.id);
        }
    }

    /// Returns when it has to make room.
    pub async fn ended(&self) {
        self.end.notified().await;
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let mut open = self.all.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.number -= 1;
        open.silent.remove(&self.id);
        self.all.metrics.connections.dec();
        self.all.gone.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_that_never_asked_makes_room_and_who_asked_stays() {
        let peers = Peers::new(Arc::new(Metrics::new(Default::default())));
        let mut open: Vec<Peer> = (0..CONNECTIONS).filter_map(|_| peers.join()).collect();
        assert_eq!(open.len(), CONNECTIONS);
        open[0].say_asked();
        let one_more = peers.join().unwrap();
        // The first has asked, so the second goes: its place is taken by the newcomer once it is gone.
        open[1].ended().await;
        open.iter().for_each(Peer::say_asked);
        one_more.say_asked();
        assert!(peers.join().is_none());
        open.truncate(10);
        assert!(peers.join().is_some());
    }

    #[tokio::test]
    async fn who_is_told_to_go_and_does_not_keeps_others_waiting_and_nobody_out() {
        let peers = Peers::new(Arc::new(Metrics::new(Default::default())));
        let mut open: Vec<Peer> = (0..CONNECTIONS + GOING).filter_map(|_| peers.join()).collect();
        assert_eq!(open.len(), CONNECTIONS + GOING);
        let no_room = futures::FutureExt::now_or_never(peers.room());
        assert!(no_room.is_none());
        open.pop();
        peers.room().await;
    }
}
