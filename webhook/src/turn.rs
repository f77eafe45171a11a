//! Turns: of two writes under a token that would replace the same version of an object, one must lose. The second waits
//! until it is known whether the first has landed, and what cannot land any more leaves no record.
//!
//! The API server makes a write from the version that it read and, when somebody else was faster, makes it anew and asks us
//! again. Without turns a hundred writers on one object would leave thousands of records of attempts behind, for the
//! [`follow`](crate::follow)er to clear away.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How long a write waits for the one before it. The turn of a write that was let in ends when it is seen, mostly within
/// milliseconds; one that somebody else refused is not seen at all, and must not hold up the next for long.
const PATIENCE: Duration = Duration::from_millis(700);

/// What a write is about to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The object.
    pub uid: String,
    /// The version of it that is to be replaced.
    pub version: String,
    /// What this attempt has in common with others of the same write.
    pub attempt: String,
}

/// The writes that are on their way now, by the uid of their objects.
#[derive(Clone, Debug, Default)]
pub struct Turns(Arc<Mutex<HashMap<String, OnItsWay>>>);

#[derive(Debug)]
struct OnItsWay {
    intent: Intent,
    lost: Arc<AtomicBool>,
    over: watch::Receiver<bool>,
}

/// The right to write to one object next. It ends when it is dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Turns,
    uid: String,
    lost: Arc<AtomicBool>,
    over: watch::Sender<bool>,
}

impl Turns {
    /// Waits for its turn; `None` where the version that it would replace is gone: nothing of this attempt can land.
    pub async fn take(&self, intent: Intent) -> Option<Turn> {
        let since = Instant::now();
        loop {
            let mut over = {
                let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let wait = match turns.get(&intent.uid) {
                    Some(first) if first.intent.version == intent.version && since.elapsed() < PATIENCE => {
                        Some(first.over.clone())
                    }
                    Some(first) if is_older(&intent.version, &first.intent.version) => return None,
                    Some(first) => {
                        // What it would have replaced is replaced. Had it landed, this would find its work done.
                        if first.intent.attempt == intent.attempt {
                            first.lost.store(true, Ordering::Release);
                        }
                        None
                    }
                    None => None,
                };
                match wait {
                    Some(over) => over,
                    None => {
                        let (sender, over) = watch::channel(false);
                        let lost = Arc::<AtomicBool>::default();
                        let uid = intent.uid.clone();
                        turns.insert(uid.clone(), OnItsWay { intent, lost: lost.clone(), over });
                        return Some(Turn { turns: self.clone(), uid, lost, over: sender });
                    }
                }
            };
            // It ends with `true` where the first has landed, and is just dropped where nobody knows.
            let left = PATIENCE.saturating_sub(since.elapsed());
            if tokio::time::timeout(left, over.wait_for(|landed| *landed)).await.is_ok_and(|landed| landed.is_ok()) {
                return None;
            }
        }
    }
}

/// Versions of one object are numbers that grow (apimachinery pkg/util/resourceversion, KEP-5504).
fn is_older(one: &str, other: &str) -> bool {
    matches!((one.parse::<u64>(), other.parse::<u64>()), (Ok(one), Ok(other)) if one < other)
}

impl Turn {
    /// The write was seen: whoever would replace the same version cannot any more.
    pub fn landed(self) {
        self.over.send_replace(true);
    }

    /// Whether the same write was tried again since, from a later version: this attempt of it is over.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Another may have taken its place since.
        if turns.get(&self.uid).is_some_and(|current| Arc::ptr_eq(&current.lost, &self.lost)) {
            turns.remove(&self.uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent(uid: &str, version: u64, attempt: &str) -> Intent {
        Intent { uid: uid.to_owned(), version: version.to_string(), attempt: attempt.to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_that_replace_one_version_the_second_waits_and_loses() {
        let turns = Turns::default();
        let first = turns.take(intent("a", 5, "x")).await.unwrap();
        assert!(turns.take(intent("b", 5, "x")).await.is_some(), "another object");
        let second = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take(intent("a", 5, "y")).await }
        });
        tokio::task::yield_now().await;
        first.landed();
        assert!(second.await.unwrap().is_none());
        assert!(turns.take(intent("a", 6, "y")).await.is_some(), "tried again");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let turns = Turns::default();
        let first = turns.take(intent("a", 5, "x")).await.unwrap();
        // The first is not seen, since somebody else refused it.
        let second = turns.take(intent("a", 5, "y")).await.unwrap();
        assert!(!first.is_lost());
        drop(first);
        // The end of the first is not that of the second.
        assert!(turns.take(intent("a", 4, "z")).await.is_none());
        drop(second);
        assert!(turns.take(intent("a", 4, "z")).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_is_lost_when_the_same_write_comes_again() {
        let turns = Turns::default();
        let first = turns.take(intent("a", 5, "x")).await.unwrap();
        let other = turns.take(intent("a", 6, "y")).await.unwrap();
        assert!(!first.is_lost(), "that may be another write");
        let again = turns.take(intent("a", 7, "y")).await.unwrap();
        assert!(other.is_lost() && !again.is_lost());
    }
}
