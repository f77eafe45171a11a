//! Lengths of time as people say them: 45s, 12m, 2h5m, 4d.

use chrono::{DateTime, TimeDelta, Utc};

/// How long ago `then` was.
pub fn since(then: DateTime<Utc>, now: DateTime<Utc>) -> String {
    length(now - then)
}

/// How long it is until `then`, whole minutes rounded up: an hour from now is `1h0m`, not `59m`.
pub fn until(then: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let left = then - now;
    if left <= TimeDelta::minutes(2) {
        return length(left);
    }
    length(TimeDelta::minutes((left + TimeDelta::seconds(59)).num_minutes()))
}

/// The largest two units that matter. Clocks differ: what lies a moment ahead is now.
pub fn length(delta: TimeDelta) -> String {
    let seconds = delta.num_seconds().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..3_600 => format!("{minutes}m"),
        3_600..86_400 => format!("{hours}h{}m", minutes % 60),
        86_400..259_200 => format!("{days}d{}h", hours % 24),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_has_the_units_that_matter() {
        for (seconds, expected) in [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (3_599, "59m"),
            (3_600, "1h0m"),
            (7_500, "2h5m"),
            (86_399, "23h59m"),
            (86_400, "1d0h"),
            (180_000, "2d2h"),
            (345_600, "4d"),
        ] {
            assert_eq!(length(TimeDelta::seconds(seconds)), expected, "{seconds}");
        }
    }

    #[test]
    fn what_is_left_is_rounded_up_and_what_is_past_is_not() {
        let now = DateTime::UNIX_EPOCH;
        for (seconds, expected) in [(3_599, "1h0m"), (3_541, "1h0m"), (1_741, "30m"), (100, "100s"), (-1, "0s")] {
            assert_eq!(until(now + TimeDelta::seconds(seconds), now), expected, "{seconds}");
        }
        assert_eq!(since(now - TimeDelta::seconds(3_599), now), "59m");
    }
}
