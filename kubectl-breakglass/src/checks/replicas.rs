//! What the replicas say of themselves, and whether they still say anything.

use breakglass::report::{ANNOTATION, EVERY_SECONDS, NAME_PREFIX, Report};
use chrono::{DateTime, TimeDelta, Utc};
use k8s_openapi::api::coordination::v1::Lease;

use super::{Finding, HOME, Level, time_of, written};

const CHECK: &str = "replicas";

/// A report that is older is of a replica that hangs, or is gone.
const STALE: TimeDelta = TimeDelta::seconds(3 * EVERY_SECONDS as i64);

/// A watch that was cut off for longer is not coming back by itself.
const CUT_OFF: i64 = 60;

/// How far clocks may be apart: tokens end by them.
const SKEW: TimeDelta = TimeDelta::seconds(5);

/// How long a report is kept in mind after its pod is gone: the leader removes it.
const FORGOTTEN: TimeDelta = TimeDelta::minutes(10);

/// One replica's report.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// Its name, which is its pod's.
    pub name: String,
    /// What it says; nothing where that cannot be read.
    pub report: Option<Report>,
    /// When it said so, by its own clock.
    pub said: Option<DateTime<Utc>>,
    /// When that was written, by the API server's.
    pub written: Option<DateTime<Utc>>,
}

impl Replica {
    /// Reads a Lease that is a report.
    pub fn read(lease: &Lease) -> Self {
        let name = lease.metadata.name.clone().unwrap_or_default();
        let report = lease.metadata.annotations.as_ref().and_then(|annotations| annotations.get(ANNOTATION));
        Self {
            name: name.strip_prefix(NAME_PREFIX).unwrap_or(&name).to_owned(),
            report: report.and_then(|report| serde_json::from_str(report).ok()),
            said: lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref()).and_then(|time| time_of(&time.0)),
            written: written(&lease.metadata),
        }
    }

    /// Whether it said something lately.
    pub fn is_fresh(&self, now: DateTime<Utc>) -> bool {
        self.written.is_some_and(|written| now - written <= STALE)
    }
}

/// What is found at `now`, by the API server's clock. `wanted` is how many replicas the Deployment asks for.
pub fn replicas(replicas: &[Replica], wanted: i32, now: DateTime<Utc>) -> Vec<Finding> {
    if replicas.is_empty() {
        let message = "no replica says anything of itself: none runs, or none may write its Lease";
        let hint = format!("kubectl -n {HOME} logs -l app.kubernetes.io/name=breakglass --tail=20");
        let level = if wanted == 0 { Level::Note } else { Level::Problem };
        return vec![Finding::new(level, CHECK, message).hint(hint)];
    }
    let (fresh, stale): (Vec<_>, Vec<_>) = replicas.iter().partition(|replica| replica.is_fresh(now));
    let mut findings: Vec<Finding> = stale.iter().filter_map(|replica| silent(replica, now)).collect();
    for replica in &fresh {
        findings.extend(health(replica));
        findings.extend(clock(replica));
    }
    if findings.iter().all(|finding| finding.level < Level::Problem) && !fresh.is_empty() {
        let number = if fresh.len() == 1 { "1 replica is".to_owned() } else { format!("{} replicas are", fresh.len()) };
        findings.push(Finding::new(Level::Ok, CHECK, format!("{number} ready, and see all there is to see")));
    }
    findings
}

fn silent(replica: &Replica, now: DateTime<Utc>) -> Option<Finding> {
    let name = &replica.name;
    let since = replica.written.map(|written| now - written);
    if since.is_some_and(|since| since > FORGOTTEN) {
        let message = format!(
            "{name} has been silent for {} minutes: it is gone, and the leader has not removed its report",
            since?.num_minutes()
        );
        let hint = format!("kubectl -n {HOME} delete lease {NAME_PREFIX}{name}");
        return Some(Finding::new(Level::Note, CHECK, message).hint(hint));
    }
    let length = since.map_or("ever".to_owned(), |since| format!("{} s", since.num_seconds()));
    let message = format!("{name} has said nothing for {length}: it hangs, or is gone");
    let hint = format!("if it hangs: kubectl -n {HOME} delete pod {name}");
    Some(Finding::new(Level::Problem, CHECK, message).hint(hint).object(format!("pod/{name}")))
}

fn health(replica: &Replica) -> Vec<Finding> {
    let name = &replica.name;
    let logs = format!("kubectl -n {HOME} logs {name} --tail=20");
    let problem = |message: String, hint: String| {
        Finding::new(Level::Problem, CHECK, message).hint(hint).object(format!("pod/{name}"))
    };
    let Some(report) = &replica.report else {
        let message = format!("the report of {name} cannot be read by this version of the plugin");
        return vec![Finding::new(Level::Note, CHECK, message).hint("kubectl breakglass version")];
    };
    let mut findings = Vec::new();
    if !report.not_ready.is_empty() {
        findings.push(problem(format!("{name} is not ready: {}", report.not_ready.join("; ")), logs.clone()));
    }
    for (watch, seconds) in report.watches.iter().filter(|(_, seconds)| **seconds > CUT_OFF) {
        let message = format!("{name} has not heard of {watch} for {seconds} s: it goes by what it knew then");
        let hint = format!("kubectl -n {HOME} delete pod {name}");
        findings.push(problem(message, hint));
    }
    if report.failed_records > 0 {
        let message = format!(
            "{name} could not keep {} since it started; each such write was refused",
            if report.failed_records == 1 {
                "1 record".to_owned()
            } else {
                format!("{} records", report.failed_records)
            }
        );
        findings.push(Finding::new(Level::Note, CHECK, message).hint(logs));
    }
    if report.repairs > 0 {
        let times = if report.repairs == 1 { "once".to_owned() } else { format!("{} times", report.repairs) };
        let message = format!("somebody edited or deleted the webhook configurations: {name} repaired them {times}");
        let hint = "kubectl get events --field-selector reason=RegistrationRepaired";
        findings.push(Finding::new(Level::Note, CHECK, message).hint(hint));
    }
    findings
}

/// The replica's clock against the API server's, at one and the same moment.
fn clock(replica: &Replica) -> Option<Finding> {
    // The API server writes whole seconds, cut off.
    let ahead = replica.said? - replica.written?;
    (ahead.abs() > SKEW + TimeDelta::seconds(1)).then(|| {
        let name = &replica.name;
        let way = if ahead > TimeDelta::zero() { "ahead of" } else { "behind" };
        let message = format!(
            "the clock of {name} is {} s {way} the API server's: tokens end that much too {}",
            ahead.abs().num_seconds(),
            if ahead > TimeDelta::zero() { "early" } else { "late" }
        );
        let hint = format!("see to NTP on its node: kubectl -n {HOME} get pod {name} -o wide");
        Finding::new(Level::Problem, CHECK, message).hint(hint).object(format!("pod/{name}"))
    })
}

/// My own clock against the API server's: the plugin counts by it how long a token lives.
pub fn own_clock(mine: DateTime<Utc>, servers: DateTime<Utc>) -> Option<Finding> {
    let ahead = mine - servers;
    (ahead.abs() > SKEW + TimeDelta::seconds(1)).then(|| {
        let way = if ahead > TimeDelta::zero() { "ahead of" } else { "behind" };
        let message = format!(
            "the clock of this machine is {} s {way} the API server's: what is said here of times left is that much off",
            ahead.abs().num_seconds()
        );
        Finding::new(Level::Note, "clocks", message).hint("see to NTP on this machine: date -u")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn noon() -> DateTime<Utc> {
        "2026-11-20T12:00:00Z".parse().unwrap()
    }

    /// A report, `age` seconds old, by a clock that is `ahead` of the API server's.
    fn replica(name: &str, age: i64, ahead: i64, report: Value) -> Replica {
        let written = noon() - TimeDelta::seconds(age);
        let lease = json!({
            "metadata": {"name": format!("replica-{name}"), "annotations": {ANNOTATION: report.to_string()},
                "managedFields": [{"manager": "webhook", "operation": "Update", "time": written}]},
            "spec": {"renewTime": (written + TimeDelta::seconds(ahead)).to_rfc3339_opts(chrono::SecondsFormat::Micros, true)}});
        Replica::read(&serde_json::from_value(lease).unwrap())
    }

    #[track_caller]
    fn check(given: &[Replica], expected: &[(Level, &str, &str)]) {
        let findings = replicas(given, 2, noon());
        assert_eq!(findings.len(), expected.len(), "{findings:#?}");
        for (finding, (level, message, hint)) in findings.iter().zip(expected) {
            assert!(finding.level == *level && finding.message.contains(message), "{finding:#?}");
            assert!(finding.hints.first().map_or("", String::as_str).contains(hint), "{finding:#?}");
        }
    }

    #[test]
    fn what_a_replica_says_of_itself_is_said_on() {
        use Level::{Note, Ok, Problem};
        let well = || json!({"version": "0.2.0"});
        check(&[replica("a", 3, 0, well()), replica("b", 9, 5, well())], &[(Ok, "2 replicas are ready", "")]);
        check(&[replica("a", 30, 0, well())], &[(Ok, "1 replica is ready", "")]);
        check(
            &[replica("a", 31, 0, well()), replica("b", 1, 0, well())],
            &[(Problem, "a has said nothing for 31 s", "delete pod a")],
        );
        check(
            &[replica("a", 601, 0, well()), replica("b", 1, 0, well())],
            &[(Note, "a has been silent for 10 minutes", "delete lease replica-a"), (Ok, "1 replica is", "")],
        );
        check(
            &[replica("a", 1, 0, json!({"version": "0.2.0", "notReady": ["tokens are not read yet"]}))],
            &[(Problem, "a is not ready: tokens are not read yet", "logs a")],
        );
        check(
            &[replica("a", 1, 0, json!({"version": "0.2.0", "watches": {"tokens": 61, "policy": 60}}))],
            &[(Problem, "a has not heard of tokens for 61 s", "delete pod a")],
        );
        check(
            &[replica("a", 1, 0, json!({"version": "0.2.0", "failedRecords": 2, "repairs": 1}))],
            &[
                (Note, "could not keep 2 records", "logs a"),
                (Note, "a repaired them once", "events"),
                (Ok, "1 replica", ""),
            ],
        );
        check(
            &[replica("a", 1, 7, well())],
            &[(Problem, "is 7 s ahead of the API server's: tokens end that much too early", "NTP")],
        );
        check(
            &[replica("a", 1, -7, well())],
            &[(Problem, "is 7 s behind the API server's: tokens end that much too late", "NTP")],
        );
        check(&[replica("a", 1, 6, well())], &[(Ok, "1 replica", "")]);
        check(&[replica("a", 1, 0, json!("no report"))], &[(Note, "cannot be read", "version"), (Ok, "1 replica", "")]);
        check(&[], &[(Problem, "no replica says anything", "logs")]);
    }

    #[test]
    fn my_clock_is_held_against_the_servers() {
        for (ahead, expected) in [(0, None), (6, None), (7, Some("7 s ahead of")), (-7, Some("7 s behind"))] {
            let found = own_clock(noon() + TimeDelta::seconds(ahead), noon());
            assert_eq!(found.is_some(), expected.is_some(), "{ahead}: {found:?}");
            assert!(expected.is_none_or(|part| found.unwrap().message.contains(part)));
        }
    }
}
