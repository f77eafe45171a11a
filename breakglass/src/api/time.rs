//! An instant to the second and a length of time, as our kinds write them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An instant in UTC, to the second: what Kubernetes writes in `creationTimestamp`, and what a stamp carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// Drops everything below a second, so that what is written reads back equal.
    pub fn new(instant: DateTime<Utc>) -> Self {
        Self(instant.trunc_subsecs(0))
    }

    /// The same instant for arithmetic.
    pub fn instant(self) -> DateTime<Utc> {
        self.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m-%dT%H:%M:%SZ"))
    }
}

impl FromStr for Timestamp {
    type Err = chrono::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        DateTime::parse_from_rfc3339(text).map(|instant| Self::new(instant.to_utc()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "date-time"})
    }
}

/// A length of time, more than zero and whole seconds, written as `30m`, `1h30m` or `14d`.
///
/// Go's own syntax has no days, and deadlines are spoken of in days; signs and fractions have no use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(TimeDelta);

/// Why a text is not a [`Span`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    /// Not a chain of numbers and units in the order d, h, m, s.
    #[error("{0:?} is not a length of time: write it as 30m, 1h30m or 2d")]
    Syntax(String),
    /// Zero.
    #[error("{0:?} is no time at all: give at least 1s")]
    Zero(String),
    /// More than [`Span::LONGEST_DAYS`].
    #[error("{0:?} is longer than {days} days", days = Span::LONGEST_DAYS)]
    TooLong(String),
}

impl Span {
    /// The longest span that can be written. Longer than any deadline here, and far from where clocks overflow.
    pub const LONGEST_DAYS: i64 = 3_650;

    /// The pattern of the schema; [`Span::from_str`] accepts nothing else.
    const PATTERN: &'static str = "^([0-9]{1,6}d)?([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,9}s)?$";

    const UNITS: [(char, i64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

    /// A span of whole minutes; for constants.
    pub const fn minutes(minutes: u32) -> Self {
        Self(TimeDelta::minutes(minutes as i64))
    }

    /// A span of whole hours; for constants.
    pub const fn hours(hours: u32) -> Self {
        Self(TimeDelta::hours(hours as i64))
    }

    /// The span from `start` to `end`, where `end` lies after it.
    pub fn between(start: Timestamp, end: Timestamp) -> Option<Self> {
        let delta = end.instant() - start.instant();
        (delta > TimeDelta::zero()).then_some(Self(delta))
    }

    /// The same length for arithmetic.
    pub fn delta(self) -> TimeDelta {
        self.0
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.num_seconds();
        for (unit, seconds) in Self::UNITS {
            // `24h` and not `1d`: up to two days, people count hours.
            if unit == 'd' && rest <= 2 * seconds {
                continue;
            }
            if rest >= seconds {
                write!(f, "{}{unit}", rest / seconds)?;
                rest %= seconds;
            }
        }
        Ok(())
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let syntax = || SpanError::Syntax(text.to_owned());
        let mut units = Self::UNITS.iter();
        let mut total: i64 = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            // Nine digits of seconds are 31 years; more would only be a way to overflow.
            if digits == 0 || digits > 9 {
                return Err(syntax());
            }
            let number: i64 = rest[..digits].parse().map_err(|_| syntax())?;
            let unit = rest[digits..].chars().next().ok_or_else(syntax)?;
            let (_, seconds) = units.find(|(name, _)| *name == unit).ok_or_else(syntax)?;
            total += number * seconds;
            rest = &rest[digits + 1..];
        }
        match total {
            _ if text.is_empty() => Err(syntax()),
            0 => Err(SpanError::Zero(text.to_owned())),
            seconds if seconds > Self::LONGEST_DAYS * 86_400 => Err(SpanError::TooLong(text.to_owned())),
            seconds => Ok(Self(TimeDelta::seconds(seconds))),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl schemars::JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": Self::PATTERN, "minLength": 2, "maxLength": 32})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_reads_back_as_written() {
        for text in ["1s", "30m", "1h", "1h30m", "24h", "48h", "14d", "3d12h", "90s"] {
            let span: Span = text.parse().unwrap();
            let canonical = if text == "90s" { "1m30s" } else { text };
            assert_eq!(span.to_string(), canonical);
            assert_eq!(span.to_string().parse::<Span>(), Ok(span));
        }
    }

    #[test]
    fn what_is_not_a_span_is_refused_with_its_reason() {
        for text in ["", "1", "h", "-1h", "1.5h", "1m1h", "1h1h", "1w", "9999999999s", "１h"] {
            assert!(matches!(text.parse::<Span>(), Err(SpanError::Syntax(_))), "{text:?}");
        }
        assert!(matches!("0m".parse::<Span>(), Err(SpanError::Zero(_))));
        assert!(matches!("999999d".parse::<Span>(), Err(SpanError::TooLong(_))));
    }

    #[test]
    fn a_timestamp_has_whole_seconds_and_z() {
        let read: Timestamp = "2026-11-20T01:02:03.987+02:00".parse().unwrap();
        assert_eq!(read.to_string(), "2026-11-19T23:02:03Z");
        assert_eq!(serde_json::to_string(&read).unwrap(), "\"2026-11-19T23:02:03Z\"");
    }
}
