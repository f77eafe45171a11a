//! Since: from when on, as people write it.

use std::str::FromStr;

use breakglass::api::{Span, Timestamp};
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

/// From when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So long before now.
    Ago(Span),
    /// From the beginning of that day, UTC.
    Day(NaiveDate),
    /// From that moment.
    At(Timestamp),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ago = text.parse().map(Self::Ago).ok();
        let day = || text.parse().map(Self::Day).ok();
        let moment = || text.parse().map(Self::At).ok();
        let wrong = || "write it as 24h or 30d, as 2026-11-01, or as 2026-11-01T09:00:00Z".to_owned();
        ago.or_else(day).or_else(moment).ok_or_else(wrong)
    }
}

impl Since {
    /// The moment.
    pub fn moment(self, now: DateTime<Utc>) -> Timestamp {
        match self {
            Self::Ago(span) => Timestamp::new(now - span.delta()),
            Self::Day(day) => Timestamp::new(day.and_time(NaiveTime::MIN).and_utc()),
            Self::At(moment) => moment,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_length_a_day_or_a_moment() {
        let now = "2026-11-20T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("24h", Some("2026-11-19T12:00:00Z")),
            ("30d", Some("2026-10-21T12:00:00Z")),
            ("2026-11-01", Some("2026-11-01T00:00:00Z")),
            ("2026-11-01T09:00:00+01:00", Some("2026-11-01T08:00:00Z")),
            ("yesterday", None),
            ("", None),
        ] {
            let found = text.parse::<Since>().ok().map(|since| since.moment(now).to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
