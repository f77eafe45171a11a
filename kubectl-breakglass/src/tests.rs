//! Command lines and what becomes of them, without a cluster.

use std::ffi::OsString;
use std::io::Write;
use std::sync::{Arc, Mutex};

use super::{Io, run};

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Runs a command line; returns exit code, stdout and stderr.
fn plugin(argv: &[&str]) -> (u8, String, String) {
    let (stdout, stderr) = (Shared::default(), Shared::default());
    let io = Io {
        stdin: Box::new(std::io::empty()),
        stdout: Box::new(stdout.clone()),
        stderr: Box::new(stderr.clone()),
        terminal: false,
        colour: super::print::diff::Colour::Plain,
    };
    let code = run(argv.iter().map(OsString::from).collect(), io);
    (code, stdout.text(), stderr.text())
}

#[track_caller]
fn check(words: &str, code: u8, stderr: &str) {
    let argv: Vec<&str> = std::iter::once("kubectl-breakglass").chain(words.split_whitespace()).collect();
    let (found, _, said) = plugin(&argv);
    assert_eq!(found, code, "{words}: {said}");
    assert!(said.contains(stderr), "{words}: {said}");
}

#[test]
fn wrong_usage_exits_2_and_says_what_would_be_right() {
    check("open INC-1", 2, "hint: kubectl breakglass open INC-123 -n prod --reason");
    check("open --reason r", 2, "<INCIDENT>");
    check("open INC-1 --reason r --ttl 0", 2, "that is no time at all");
    check("open INC-1 --reason r --ttl -1h", 2, "cannot end before it begins");
    check("open INC-1 --reason r --ttl soon", 2, "is not a length of time");
    check("run INC-1 --reason r", 2, "hint: kubectl breakglass run INC-123");
    check("list --state odd", 2, "possible values: admitted");
    check("list --watch --count", 2, "cannot be used with");
    check("list -o xml", 2, "possible values: table");
    check("close a b", 2, "unexpected argument");
    check("policy explain --as-group g apply cm", 2, "need --as: say which user they are about");
    check("policy check", 2, "<FILE>");
    check("policy check no-such-file", 1, "could not read no-such-file");
    check("list -o md", 2, "only a report is a page");
    check("policy show -o html", 2, "hint: kubectl breakglass report INC-123 -o md");
    check("report", 2, "INCIDENT");
    check("report INC-1 --since 30d", 2, "cannot be used with");
    check("report --since soon", 2, "write it as 24h or 30d");
    check("accept", 2, "CHANGE|KIND/NAME");
    check("accept --incident INC-1 --no-commit", 2, "--note");
    check("accept --incident INC-1 --no-commit --note n --push", 2, "cannot be used with");
    check("settle --watch --dry-run", 2, "cannot be used with");
    check("settle --timeout 1m", 2, "--watch");
    check("hold", 2, "CHANGE|KIND/NAME");
    check("release", 2, "CHANGE|KIND/NAME");
    check("decide", 2, "unrecognized subcommand");
    check("", 2, "Usage: kubectl breakglass");
}

#[test]
fn what_leads_to_no_cluster_exits_1() {
    check("list --kubeconfig /nowhere/config", 1, "error: could not read the kubeconfig /nowhere/config:");
}

#[test]
fn help_and_version_are_data() {
    let (code, help, said) = plugin(&["kubectl-breakglass", "--help"]);
    assert_eq!((code, said.as_str()), (0, ""));
    assert!(help.contains("Usage: kubectl breakglass"));
    let (code, version, said) = plugin(&["kubectl-breakglass", "version", "--client"]);
    assert_eq!((code, version.as_str(), said.as_str()), (0, "Client Version: v0.2.0\n", ""));
}

#[test]
fn no_line_of_help_is_wider_than_a_terminal() {
    let commands = [
        "",
        "open",
        "run",
        "status",
        "list",
        "show",
        "diff",
        "trace",
        "blame",
        "orphans",
        "scan",
        "accept",
        "reject",
        "defer",
        "settle",
        "hold",
        "release",
        "report",
        "close",
        "policy show",
        "install",
        "uninstall",
        "doctor",
        "version",
        "completion",
    ];
    for command in commands {
        let argv: Vec<&str> =
            std::iter::once("kubectl-breakglass").chain(command.split_whitespace()).chain(["--help"]).collect();
        let (_, help, _) = plugin(&argv);
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{command}: {line}");
        }
    }
}

#[test]
fn kubectl_is_offered_commands_and_no_files() {
    let (code, offers, said) = plugin(&["/usr/bin/kubectl_complete-breakglass", "clo"]);
    assert_eq!(
        (code, offers.as_str(), said.as_str()),
        (0, "close\tEnd a token early, and see what is still owed\n:4\n", "")
    );
    let (_, offers, _) = plugin(&["kubectl_complete-breakglass", ""]);
    assert!(offers.starts_with("open\t") && offers.ends_with(":4\n") && !offers.contains("--"), "{offers}");
    let (_, offers, _) = plugin(&["kubectl_complete-breakglass", "list", "--state", "pe"]);
    assert_eq!(offers, "pending\tNobody has decided\n:4\n");
}

#[test]
fn a_shell_gets_a_script() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = plugin(&["kubectl-breakglass", "completion", shell]);
        assert!(code == 0 && script.contains("kubectl-breakglass"), "{shell}");
    }
}
