//! Whether a watch still reaches the API server.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A watch that has met no error for this long is connected again: longer than the pause between two tries, and than a try that
/// gets no answer (the API server ends a watch after 30 s, and the client gives up on one five seconds later).
const QUIET: Duration = Duration::from_secs(45);

/// Whether a watch still reaches the API server. The watch itself says nothing while nothing changes: only errors, and what
/// comes after them, tell.
#[derive(Debug, Default)]
pub(super) struct Contact {
    /// When it met the first error in a row, and when the last.
    failing: Mutex<Option<(Instant, Instant)>>,
}

impl Contact {
    pub(super) fn heard(&self) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn failed(&self, now: Instant) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let first = failing.filter(|(_, last)| now - *last < QUIET).map_or(now, |(first, _)| first);
        *failing = Some((first, now));
    }

    /// For how long it has been cut off.
    pub(super) fn cut_off(&self, now: Instant) -> Duration {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.filter(|(_, last)| now - *last < QUIET).map_or(Duration::ZERO, |(first, _)| now - first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_cut_off_from_its_first_error_until_something_is_heard_or_nothing_is_met() {
        let (contact, start) = (Contact::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(contact.cut_off(at(0)), Duration::ZERO);
        contact.failed(at(1));
        contact.failed(at(31));
        assert_eq!(contact.cut_off(at(61)), Duration::from_secs(60));
        assert_eq!(contact.cut_off(at(31) + QUIET), Duration::ZERO);
        contact.failed(at(200));
        assert_eq!(contact.cut_off(at(201)), Duration::from_secs(1));
        contact.heard();
        assert_eq!(contact.cut_off(at(202)), Duration::ZERO);
    }
}
