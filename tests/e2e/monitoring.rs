//! The alerts are rules that Prometheus takes, and fire when they should; what they ask for is what the webhook serves.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tests::{Cluster, binaries, probe};

const MONITORING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/monitoring");

#[test]
fn prometheus_takes_the_rules_and_they_fire_when_they_should() {
    let promtool = binaries::promtool().unwrap_or_else(|error| panic!("{error:#}"));
    let directory = std::env::temp_dir().join(format!("breakglass-rules-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let read = |name: &str| fs::read_to_string(Path::new(MONITORING).join(name)).unwrap();
    // promtool reads rules, not the object of the Prometheus operator that they stand in.
    let alerts = read("alerts.yaml");
    let (_, spec) = alerts.split_once("\nspec:\n").unwrap();
    let rules: String = spec.lines().map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line))).collect();
    fs::write(directory.join("rules.yaml"), rules).unwrap();
    fs::write(directory.join("alerts_test.yaml"), read("alerts_test.yaml")).unwrap();
    for args in [&["check", "rules", "rules.yaml"], &["test", "rules", "alerts_test.yaml"]] {
        let output = Command::new(&promtool).args(args).current_dir(&directory).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "promtool {args:?}: {}", String::from_utf8_lossy(&text));
    }
    fs::remove_dir_all(&directory).unwrap();
}

/// From a write to its line in the log, by the review's uid, and to its count.
#[test]
fn a_scrape_counts_what_was_decided_and_says_how_things_are() {
    let cluster = Cluster::shared();
    cluster.namespace("prod-scraped");
    let refused = cluster.kubectl("alice").run(&["-n", "prod-scraped", "create", "configmap", "a"]);
    assert!(refused.refusal().starts_with("prod is run by GitOps: "), "{refused}");
    let text = cluster.webhook().metrics().unwrap();
    let value = |line: &str| {
        let found = text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse::<f64>().ok());
        found.unwrap_or_else(|| panic!("no {line} in {text}"))
    };
    let refusals =
        "breakglass_decisions_total{call=\"gate\",environment=\"prod\",writer=\"Direct\",decision=\"Refuse\"}";
    assert!(value(refusals) >= 1.0);
    assert!(value("breakglass_review_duration_seconds_count{call=\"gate\"}") >= 1.0);
    assert!((value("breakglass_ready") - 1.0).abs() < f64::EPSILON);
    assert!((value("breakglass_leader") - 1.0).abs() < f64::EPSILON);
    for certificate in ["ca", "leaf"] {
        let end = value(&format!("breakglass_certificate_end_timestamp_seconds{{certificate=\"{certificate}\"}}"));
        assert!(end > 1_700_000_000.0, "{certificate} ends at {end}");
    }
    for watch in ["policy", "tokens", "namespaces", "changes"] {
        value(&format!("breakglass_watch_cut_off_seconds{{watch=\"{watch}\"}}"));
    }
    // Prometheus itself reads it.
    let promtool = binaries::promtool().unwrap_or_else(|error| panic!("{error:#}"));
    let lint = tests::kubectl::run(
        {
            let mut command = Command::new(promtool);
            command.args(["check", "metrics"]);
            command
        },
        text.trim_end().trim_end_matches("# EOF"),
    )
    .unwrap();
    assert!(!lint.stderr.contains("error while linting"), "{lint}");
    let verbose = probe::page(cluster.webhook().metrics_port(), "/readyz?verbose").unwrap();
    assert!(verbose.starts_with("[+]running ok\n") && verbose.ends_with("readyz check passed\n"), "{verbose}");
}

#[test]
fn the_dashboard_is_one_that_grafana_reads() {
    let text = fs::read_to_string(Path::new(MONITORING).join("dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids: Vec<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    ids.dedup();
    assert_eq!(ids.len(), panels.len());
    assert!(panels.iter().all(|panel| panel["targets"][0]["expr"].as_str().is_some_and(|expr| !expr.is_empty())));
}
