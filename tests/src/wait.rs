//! Waiting for a condition, with the last reason why it did not hold: the only place here that sleeps.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks `probe` until it answers `Ok`, and gives that answer back.
///
/// Level-triggered: the probe looks at what is, not at what happened, so nothing is missed between two looks.
///
/// # Errors
/// After `limit`, with `what` was waited for and the reason `probe` gave last.
pub fn wait_until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T, String>) -> Result<T> {
    let started = Instant::now();
    // Short at first, since most waits are short; then a tenth of what it took so far, since each look may start a process.
    let mut pause = Duration::from_millis(10);
    loop {
        match probe() {
            Ok(answer) => return Ok(answer),
            Err(reason) if started.elapsed() >= limit => {
                bail!("waited {} s for {what}; last seen: {reason}", limit.as_secs())
            }
            Err(_) => std::thread::sleep(pause),
        }
        let tenth = started.elapsed() / 10;
        pause = (pause * 2).min(tenth.clamp(Duration::from_millis(200), Duration::from_secs(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_reason_is_in_the_error() {
        let mut looks = 0;
        let error = wait_until("the moon", Duration::from_millis(30), || {
            looks += 1;
            Err::<(), _>(format!("cloud {looks}"))
        });
        let text = error.unwrap_err().to_string();
        assert!(text.ends_with(&format!("last seen: cloud {looks}")), "{text}");
    }

    #[test]
    fn a_condition_that_holds_is_not_waited_for() {
        assert_eq!(wait_until("now", Duration::ZERO, || Ok(7)).unwrap(), 7);
    }
}
