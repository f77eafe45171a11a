//! Reads a review from the wire into memory, and only as much of it as there is room for.
//!
//! The budget is taken as the bytes arrive, not when they are announced: who announces much and sends nothing takes nothing
//! from anybody.

use std::path::Path;
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

/// Where the control groups of this process are named, and where they lie.
const GROUPS: &str = "/proc/self/cgroup";
const ROOT: &str = "/sys/fs/cgroup";

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
    let groups = std::fs::read_to_string(GROUPS).unwrap_or_default();
    share_kib(memory_limit(&groups, Path::new(ROOT)))
}

/// What this process may take, in bytes: the least that its control group, or one around it, says; `None` where none does.
///
/// `groups` is one line a hierarchy: `0::<path>` for version 2, `<number>:<controllers>:<path>` for version 1. In a container
/// the path may be one that only the host knows; what is found on the way up is then the container's own.
fn memory_limit(groups: &str, root: &Path) -> Option<usize> {
    let groups = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let path = Path::new(path.trim_start_matches('/'));
        path.ancestors().filter_map(|group| limit(&root.join(group).join(file))).min()
    });
    groups.min()
}

/// The number in a file; `None` where there is none, as where it says `max`.
fn limit(file: &Path) -> Option<usize> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
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

    /// the limit is that of the process's own control group, or of one around it, whichever is less.
    #[test]
    fn the_limit_is_the_least_on_the_way_up() {
        let root = std::env::temp_dir().join(format!("breakglass-groups-{}", std::process::id()));
        let write = |file: &str, text: &str| {
            let file = root.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, format!("{text}\n")).unwrap();
        };
        write("memory.max", "max");
        write("pods/memory.max", "4096");
        write("pods/ours/memory.max", "1024");
        write("pods/theirs/memory.max", "8192");
        write("memory/memory.limit_in_bytes", "9223372036854771712");
        write("memory/old/memory.limit_in_bytes", "2048");
        for (groups, limit) in [
            ("0::/pods/ours\n", Some(1024)),
            ("0::/pods/theirs\n", Some(4096)),
            ("0::/pods/gone\n", Some(4096)),
            ("0::/\n", None),
            ("0::/../..\n", None),
            ("4:memory:/old\n0::/\n", Some(2048)),
            ("4:cpu,memory:/old\n0::/pods/ours\n", Some(1024)),
            ("4:memory:/known/to/the/host\n", Some(9223372036854771712)),
            ("5:cpu:/old\n1:name=systemd:/\nnonsense\n", None),
            ("", None),
        ] {
            assert_eq!(memory_limit(groups, &root), limit, "{groups}");
        }
        std::fs::remove_dir_all(root).unwrap();
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
