//! Reads a review from the wire into memory, and only as much of it as there is room for.
//!
//! The budget is taken as the bytes arrive, not when they are announced: who announces much and sends nothing takes nothing
//! from anybody.

use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The largest review that is read. The API server takes writes of 3 MiB; JSON writes some characters as six bytes, and an
/// update carries two objects (apiserver pkg/server/config.go).
pub const LIMIT: usize = 32 * 1024 * 1024;

/// How long a review may take to arrive: the largest one at 10 MB/s.
const TIMEOUT: Duration = Duration::from_secs(4);

/// What all reviews under way may take together where nobody limits this process, in KiB.
const BUDGET_KIB: usize = 96 * 1024;

/// The least that is worth starting with: one review of the largest size.
const LEAST_KIB: usize = LIMIT / 1024;

/// A review takes this many times its own size while it is parsed, recorded and answered; and the process itself its share.
const SHARE: usize = 4;

/// Where a limit of this process's memory is said, in bytes: for control groups of version 2 and 1. In a container these are
/// its own.
const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// Why a review was not read.
#[derive(Debug)]
pub enum Unread {
    /// There is no room for it now.
    Full,
    /// It is larger than any review, or than it said.
    TooLarge,
    /// It took too long.
    Slow,
    /// It ended too early.
    Broken(String),
}

/// What all reviews under way may take together, in KiB: a quarter of what this process may take.
pub fn budget_kib() -> usize {
    let limit = LIMITS.iter().find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<usize>().ok());
    share_kib(limit)
}

fn share_kib(limit: Option<usize>) -> usize {
    limit.map_or(BUDGET_KIB, |bytes| (bytes / 1024 / SHARE).clamp(LEAST_KIB, BUDGET_KIB))
}

/// Reads a body that says it is `size` bytes long, and what it took of the budget, to be given back when it is answered.
///
/// # Errors
/// Why it was not read.
pub async fn read(body: Body, size: usize, budget: &Semaphore) -> Result<(Bytes, SemaphorePermit<'_>), Unread> {
    if size > LIMIT {
        return Err(Unread::TooLarge);
    }
    tokio::time::timeout(TIMEOUT, collect(body, size, budget)).await.unwrap_or(Err(Unread::Slow))
}

async fn collect(mut body: Body, size: usize, budget: &Semaphore) -> Result<(Bytes, SemaphorePermit<'_>), Unread> {
    let mut held = take(budget, 1)?;
    let mut taken = 1024;
    let mut whole = Vec::new();
    let mut only: Option<Bytes> = None;
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(|error| Unread::Broken(error.to_string()))?.into_data() else { continue };
        let length = whole.len() + only.as_ref().map_or(0, Bytes::len) + chunk.len();
        if length > size {
            return Err(Unread::TooLarge);
        }
        if length > taken {
            let more = (length - taken).div_ceil(1024);
            held.merge(take(budget, more)?);
            taken += more * 1024;
        }
        // Most reviews come in one piece, which is then not copied.
        match only.take() {
            None if whole.is_empty() => only = Some(chunk),
            None => whole.extend_from_slice(&chunk),
            Some(first) => {
                whole.extend_from_slice(&first);
                whole.extend_from_slice(&chunk);
            }
        }
    }
    let bytes = only.unwrap_or_else(|| whole.into());
    if bytes.len() < size {
        return Err(Unread::Broken(format!("{} of {size} bytes came", bytes.len())));
    }
    Ok((bytes, held))
}

fn take(budget: &Semaphore, kib: usize) -> Result<SemaphorePermit<'_>, Unread> {
    budget.try_acquire_many(u32::try_from(kib).unwrap_or(u32::MAX)).map_err(|_| Unread::Full)
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn pieces(pieces: &[&'static str]) -> Body {
        let pieces: Vec<Result<&'static str, std::convert::Infallible>> =
            pieces.iter().map(|&piece| Ok(piece)).collect();
        Body::from_stream(stream::iter(pieces))
    }

    #[tokio::test]
    async fn what_arrives_is_what_counts() {
        let budget = Semaphore::new(4);
        let (bytes, held) = read(pieces(&["ab", "c", "def"]), 6, &budget).await.unwrap();
        assert_eq!((&bytes[..], held.num_permits(), budget.available_permits()), (&b"abcdef"[..], 1, 3));
        drop(held);
        // Much is announced and little comes: nobody else is kept out by it.
        assert!(matches!(read(pieces(&["ab"]), LIMIT, &budget).await, Err(Unread::Broken(_))));
        assert!(matches!(read(pieces(&["abc"]), 2, &budget).await, Err(Unread::TooLarge)));
        assert!(matches!(read(pieces(&[]), LIMIT + 1, &budget).await, Err(Unread::TooLarge)));
        let large: &'static str = Box::leak("x".repeat(5_000).into_boxed_str());
        assert!(matches!(read(pieces(&[large]), 5_000, &budget).await, Err(Unread::Full)));
        assert_eq!(budget.available_permits(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_arrive_is_not_waited_for() {
        let budget = Semaphore::new(4);
        let body = Body::from_stream(stream::pending::<Result<&'static str, std::convert::Infallible>>());
        assert!(matches!(read(body, 6, &budget).await, Err(Unread::Slow)));
        assert_eq!(budget.available_permits(), 4);
    }

    #[test]
    fn the_budget_is_a_quarter_of_what_the_process_may_take_within_reason() {
        let mib = 1024 * 1024;
        for (limit, kib) in [
            (None, BUDGET_KIB),
            (Some(384 * mib), 96 * 1024),
            (Some(256 * mib), 64 * 1024),
            (Some(64 * mib), LEAST_KIB),
            (Some(usize::MAX), BUDGET_KIB),
        ] {
            assert_eq!(share_kib(limit), kib, "{limit:?}");
        }
    }
}
