//! Every metric and every value of its labels. Labels come from enums and from the policy, never from what a client sends:
//! their number is bounded.
//!
//! `manifests/monitoring` reads them; a test holds the two together.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// What a scrape is answered with.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From a decision in memory (a tenth of a millisecond) to the longest timeout of a call, in seconds.
const BUCKETS: [f64; 12] = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 10.0];

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DecisionLabels {
    /// `stamp` or `gate`.
    pub call: &'static str,
    /// The environment's name in the policy, `cluster`, or empty where nobody had to know.
    pub environment: String,
    /// Who wrote, in a word.
    pub writer: &'static str,
    /// The decision in a word.
    pub decision: &'static str,
}

/// A label with a fixed set of values.
macro_rules! label {
    ($name:ident, $label:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub struct $name {
            /// Its value.
            pub $label: &'static str,
        }
    };
}
label!(CallLabel, call, "Which call.");
label!(ReasonLabel, reason, "Why.");
label!(PhaseLabel, phase, "The phase of a token.");
label!(StateLabel, state, "The state of a change.");
label!(CertificateLabel, certificate, "Which certificate.");
label!(WatchLabel, watch, "What is watched.");
label!(VersionLabel, version, "Of the program.");

/// A repair of a webhook configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RepairLabels {
    /// `mutating` or `validating`.
    pub kind: &'static str,
    /// `edited` or `deleted`.
    pub found: &'static str,
}

type Seconds = Gauge<f64, AtomicU64>;
type CallHistogram = Family<CallLabel, Histogram, fn() -> Histogram>;

/// All of them. What is counted is counted where it happens; what is a state is set before every scrape.
pub struct Metrics {
    registry: Registry,
    /// Decisions.
    pub decisions: Family<DecisionLabels, Counter>,
    /// How long they took.
    pub durations: CallHistogram,
    /// Reviews under way.
    pub in_flight: Gauge,
    /// Reviews answered with 503.
    pub put_off: Family<ReasonLabel, Counter>,
    /// Bytes that were no review.
    pub malformed: Counter,
    /// Bugs.
    pub panics: Counter,
    /// Records that could not be kept.
    pub records_failed: Counter,
    /// Repairs of the configurations.
    pub repairs: Family<RepairLabels, Counter>,
    /// Certificates made anew.
    pub rotations: Family<CertificateLabel, Counter>,
    /// Events that nobody will see.
    pub events_dropped: Counter,
    /// Log lines that nobody will see.
    pub log_lines_dropped: Counter,
    /// Open connections.
    pub connections: Gauge,
    /// Connections that were ended or not taken.
    pub connections_refused: Family<ReasonLabel, Counter>,
    /// Tokens.
    pub tokens: Family<PhaseLabel, Gauge>,
    /// Changes.
    pub changes: Family<StateLabel, Gauge>,
    /// Changes that are owed.
    pub debt: Gauge,
    /// Those that are overdue.
    pub overdue: Gauge,
    /// How old the oldest is.
    pub oldest: Seconds,
    /// When certificates end.
    pub certificate_ends: Family<CertificateLabel, Gauge>,
    /// How long watches have been cut off.
    pub cut_off: Family<WatchLabel, Seconds>,
    /// Whether this replica leads.
    pub leader: Gauge,
    /// Whether it is ready.
    pub ready: Gauge,
}

impl Metrics {
    /// All at zero, but for the log lines that were dropped: those are counted from before there are metrics.
    pub fn new(log_lines_dropped: Counter) -> Self {
        let mut registry = Registry::with_prefix("breakglass");
        let build = Family::<VersionLabel, Gauge>::default();
        build.get_or_create_owned(&VersionLabel { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "The program that runs", build);
        let metrics = Self {
            registry: Registry::default(),
            decisions: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            in_flight: Gauge::default(),
            put_off: Family::default(),
            malformed: Counter::default(),
            panics: Counter::default(),
            records_failed: Counter::default(),
            repairs: Family::default(),
            rotations: Family::default(),
            events_dropped: Counter::default(),
            log_lines_dropped,
            connections: Gauge::default(),
            connections_refused: Family::default(),
            tokens: Family::default(),
            changes: Family::default(),
            debt: Gauge::default(),
            overdue: Gauge::default(),
            oldest: Seconds::default(),
            certificate_ends: Family::default(),
            cut_off: Family::default(),
            leader: Gauge::default(),
            ready: Gauge::default(),
        };
        metrics.register_counts(&mut registry);
        metrics.register_states(&mut registry);
        Self { registry, ..metrics }
    }

    fn register_counts(&self, registry: &mut Registry) {
        registry.register("decisions", "Decisions about writes", self.decisions.clone());
        let help = "How long a review took to decide";
        registry.register_with_unit("review_duration", help, Unit::Seconds, self.durations.clone());
        registry.register("reviews_put_off", "Reviews answered with 503 and Retry-After", self.put_off.clone());
        registry.register(
            "reviews_malformed",
            "Requests that were no review, answered with 400",
            self.malformed.clone(),
        );
        registry.register("panics", "Reviews that met a bug, answered with 500", self.panics.clone());
        registry.register(
            "records_failed",
            "Records that were not kept; each write was refused",
            self.records_failed.clone(),
        );
        let help = "Repairs of the webhook configurations that somebody had edited or deleted";
        registry.register("registration_repairs", help, self.repairs.clone());
        registry.register("certificate_rotations", "Certificates that were made anew", self.rotations.clone());
        registry.register("events_dropped", "Events that were not written", self.events_dropped.clone());
        let help = "Log lines that were not written, because nobody read them fast enough";
        registry.register("log_lines_dropped", help, self.log_lines_dropped.clone());
        let help = "Connections that were ended or refused before their time";
        registry.register("connections_refused", help, self.connections_refused.clone());
    }

    fn register_states(&self, registry: &mut Registry) {
        registry.register("reviews_in_flight", "Reviews that are being answered", self.in_flight.clone());
        registry.register("connections", "Open connections", self.connections.clone());
        registry.register("tokens", "Tokens by phase", self.tokens.clone());
        registry.register("changes", "Changes by state", self.changes.clone());
        registry.register("debt_changes", "Changes that nobody has decided yet", self.debt.clone());
        registry.register("debt_overdue_changes", "Of these, those whose time to decide is over", self.overdue.clone());
        registry.register_with_unit("debt_oldest_age", "Age of the oldest of them", Unit::Seconds, self.oldest.clone());
        let help = "When the certificate ends, in Unix time";
        registry.register_with_unit("certificate_end_timestamp", help, Unit::Seconds, self.certificate_ends.clone());
        let help = "For how long a watch has not reached the API server; 0 while it does";
        registry.register_with_unit("watch_cut_off", help, Unit::Seconds, self.cut_off.clone());
        registry.register("leader", "1 where this replica runs the loops", self.leader.clone());
        registry.register("ready", "1 where this replica is ready", self.ready.clone());
    }

    /// Counts a decision.
    pub fn decided(&self, labels: DecisionLabels, took: Duration) {
        let call = CallLabel { call: labels.call };
        self.durations.get_or_create_owned(&call).observe(took.as_secs_f64());
        self.decisions.get_or_create_owned(&labels).inc();
    }

    /// Everything, as Prometheus reads it.
    ///
    /// # Errors
    /// Never, in practice: text is written into memory.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names of all metrics, as Prometheus has them: those without labels yet are in it, too.
    fn served() -> BTreeSet<String> {
        let metrics = Metrics::new(Counter::default());
        metrics.decided(
            DecisionLabels { call: "gate", environment: String::new(), writer: "", decision: "" },
            Duration::ZERO,
        );
        for family in [&metrics.put_off, &metrics.connections_refused] {
            family.get_or_create_owned(&ReasonLabel { reason: "" });
        }
        metrics.rotations.get_or_create_owned(&CertificateLabel { certificate: "" });
        metrics.repairs.get_or_create_owned(&RepairLabels { kind: "", found: "" });
        metrics.tokens.get_or_create_owned(&PhaseLabel { phase: "" });
        metrics.changes.get_or_create_owned(&StateLabel { state: "" });
        metrics.certificate_ends.get_or_create_owned(&CertificateLabel { certificate: "" });
        metrics.cut_off.get_or_create_owned(&WatchLabel { watch: "" });
        let text = metrics.text().unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.split(['{', ' ']).next().map(str::to_owned)).collect()
    }

    #[test]
    fn whoever_watches_asks_for_what_is_served() {
        let served = served();
        for page in [
            include_str!("../../manifests/monitoring/alerts.yaml"),
            include_str!("../../manifests/monitoring/dashboard.json"),
        ] {
            let words = page.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let asked: BTreeSet<&str> = words.filter(|word| word.starts_with("breakglass_")).collect();
            assert!(asked.len() > 8, "{asked:?}");
            for name in asked {
                assert!(served.contains(name), "{name} is not served: {served:?}");
            }
        }
    }

    #[test]
    fn what_is_counted_is_said_and_a_label_cannot_end_itself() {
        let metrics = Metrics::new(Counter::default());
        let environment = "prod\"} 1\n".to_owned();
        let labels = DecisionLabels { call: "gate", environment, writer: "Direct", decision: "Refuse" };
        metrics.decided(labels, Duration::from_millis(3));
        let text = metrics.text().unwrap();
        let line =
            r#"breakglass_decisions_total{call="gate",environment="prod\"} 1\n",writer="Direct",decision="Refuse"} 1"#;
        assert!(text.lines().any(|found| found == line), "{text}");
        assert!(text.contains("breakglass_review_duration_seconds_bucket{le=\"0.005\",call=\"gate\"} 1\n"), "{text}");
        assert!(text.contains("breakglass_build_info{version=\"") && text.ends_with("# EOF\n"), "{text}");
    }
}
