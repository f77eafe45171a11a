//! etcd past the API server: many objects put there at once, and how often one was written.
//!
//! Custom resources are stored as the JSON that they are served as, under `/registry/<group>/<plural>/<name>`
//! (apiextensions-apiserver pkg/registry/customresource/etcd.go). A hundred thousand through the API server would take
//! minutes, and admission.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};

/// How many keys one transaction may write (etcd's --max-txn-ops).
const BATCH: usize = 128;

/// A client of etcd's HTTP gateway.
#[derive(Debug)]
pub struct Etcd {
    address: String,
}

impl Etcd {
    /// At `url`, without TLS.
    pub fn new(url: &str) -> Self {
        Self { address: url.trim_start_matches("http://").to_owned() }
    }

    fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn post(stream: &mut TcpStream, path: &str, body: &Value) -> Result<Value> {
        let body = body.to_string();
        let head = format!("POST {path} HTTP/1.1\r\nHost: etcd\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
        let mut read = Vec::new();
        let mut chunk = [0; 64 * 1024];
        loop {
            let got = stream.read(&mut chunk)?;
            read.extend_from_slice(&chunk[..got]);
            let text = String::from_utf8_lossy(&read);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let head = head.to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
                let whole = match length {
                    Some(length) => (body.len() >= length).then(|| body.to_owned()),
                    // Chunked, as the gateway writes long answers: one chunk and an empty one.
                    None => {
                        body.ends_with("0\r\n\r\n").then(|| body.split("\r\n").nth(1).unwrap_or_default().to_owned())
                    }
                };
                if let Some(body) = whole {
                    let ok = head.starts_with("http/1.1 200");
                    return if ok { Ok(serde_json::from_str(&body)?) } else { bail!("etcd answered {head}: {body}") };
                }
            }
            if got == 0 {
                bail!("etcd closed the connection after {text}");
            }
        }
    }

    /// Writes these keys.
    ///
    /// # Errors
    /// What etcd answers.
    pub fn put(&self, pairs: impl Iterator<Item = (String, String)>) -> Result<()> {
        let mut stream = self.connect()?;
        let mut pairs = pairs.peekable();
        while pairs.peek().is_some() {
            let batch: Vec<Value> = pairs
                .by_ref()
                .take(BATCH)
                .map(|(key, value)| json!({"requestPut": {"key": STANDARD.encode(key), "value": STANDARD.encode(value)}}))
                .collect();
            let answer = Self::post(&mut stream, "/v3/kv/txn", &json!({"success": batch}))?;
            if answer["succeeded"] != true {
                bail!("etcd did not take a batch: {answer}");
            }
        }
        Ok(())
    }

    /// How often the key was written since it was created.
    ///
    /// # Errors
    /// When it is not there.
    pub fn versions(&self, key: &str) -> Result<u64> {
        let answer = Self::post(&mut self.connect()?, "/v3/kv/range", &json!({"key": STANDARD.encode(key)}))?;
        let version = answer["kvs"][0]["version"].as_str().and_then(|text| text.parse().ok());
        version.with_context(|| format!("{key} is not in etcd: {answer}"))
    }
}

/// `count` live tokens from `first` on, each another person's, for a day.
pub fn tokens(first: usize, count: usize) -> impl Iterator<Item = (String, String)> {
    let now = Utc::now();
    let at = |hours: i64| (now + chrono::Duration::hours(hours)).to_rfc3339_opts(SecondsFormat::Secs, true);
    let (opened, expires) = (at(0), at(3));
    (first..first + count).map(move |number| {
        let name = format!("inc-{number:06}-bcdfg");
        let object = json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassToken",
            "metadata": {"name": name, "uid": uid("70ce", number), "generation": 1, "creationTimestamp": opened},
            "spec": {"incident": format!("INC-{number:06}"), "reason": "checkout returns 500",
                "user": format!("holder-{number:06}@example.com"), "environment": "prod", "namespaces": ["prod"],
                "openedAt": opened, "expiresAt": expires},
            "status": {"phase": "Active", "writes": 0}});
        (format!("/registry/breakglass.dev/breakglasstokens/{name}"), object.to_string())
    })
}

/// `count` pending changes, as ten writes under each token leave them.
pub fn changes(count: usize) -> impl Iterator<Item = (String, String)> {
    let now = Utc::now();
    let at = |hours: i64| (now + chrono::Duration::hours(hours)).to_rfc3339_opts(SecondsFormat::Secs, true);
    let (time, decide_by) = (at(0), at(24));
    (0..count).map(move |number| {
        let (token, incident) = (number / 10, format!("INC-{:06}", number / 10));
        let name = format!("inc-{token:06}-{number:016x}");
        let object = json!({"apiVersion": "breakglass.dev/v1alpha1", "kind": "BreakglassChange",
            "metadata": {"name": name, "uid": uid("c4a9", number), "generation": 1, "creationTimestamp": time,
                "labels": {"breakglass.dev/incident": incident, "breakglass.dev/token": format!("inc-{token:06}-bcdfg"),
                    "breakglass.dev/environment": "prod", "breakglass.dev/namespace": "prod",
                    "breakglass.dev/state": "pending"}},
            "spec": {"token": format!("inc-{token:06}-bcdfg"), "incident": incident,
                "user": format!("holder-{token:06}@example.com"), "time": time, "environment": "prod",
                "operation": "Update", "manager": "kubectl-edit",
                "target": {"apiVersion": "v1", "kind": "ConfigMap", "resource": "configmaps", "namespace": "prod",
                    "name": format!("settings-{number}"), "uid": uid("0b7e", number)},
                "before": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("settings-{number}"),
                    "namespace": "prod"}, "data": {"log": "info", "limit": "100"}},
                "patch": [{"op": "replace", "path": "/data/limit", "value": "200"}], "truncated": false,
                "decideBy": decide_by},
            "status": {"phase": "Pending"}});
        (format!("/registry/breakglass.dev/breakglasschanges/{name}"), object.to_string())
    })
}

fn uid(mark: &str, number: usize) -> String {
    format!("0e7e2a3c-{mark}-4000-8000-{number:012x}")
}
