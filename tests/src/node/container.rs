//! A container as a pod's spec describes it: which program, with which arguments and environment, asked by which probes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::probe;

/// Where a pod finds itself.
pub(crate) struct Place<'a> {
    /// The address that the API server knows it by.
    pub(crate) address: Ipv4Addr,
    /// The address that it listens on.
    pub(crate) here: Ipv4Addr,
    /// Of its node.
    pub(crate) host: &'a str,
}

/// The command that is the container. `kubeconfig` stands for the files that a kubelet would mount into it.
///
/// # Errors
/// When the environment comes from where we cannot look.
pub(crate) fn command(pod: &Value, program: &Path, kubeconfig: &Path, place: &Place<'_>) -> Result<Command, String> {
    let container = &pod["spec"]["containers"][0];
    let environment = environment(pod, container, place)?;
    let list = |field: &str| container[field].as_array().cloned().unwrap_or_default();
    // The first word of a command is the program, which is ours.
    let words = list("command").into_iter().skip(1).chain(list("args"));
    let mut command = Command::new(program);
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "RUST_LOG" || name == "RUST_BACKTRACE"));
    command.envs(&environment);
    for word in words {
        let word = expand(word.as_str().unwrap_or_default(), &environment);
        command.arg(word.replace("0.0.0.0:", &format!("{}:", place.here)));
    }
    command.arg("--kubeconfig").arg(kubeconfig);
    Ok(command)
}

fn environment(pod: &Value, container: &Value, place: &Place<'_>) -> Result<BTreeMap<String, String>, String> {
    if !container["envFrom"].is_null() {
        return Err("envFrom is not supported by the tests' kubelet".to_owned());
    }
    let mut environment = BTreeMap::new();
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().unwrap_or_default().to_owned();
        let value = match (&variable["value"], &variable["valueFrom"]["fieldRef"]["fieldPath"]) {
            (_, Value::String(path)) => field(pod, path, place)?,
            (value, _) if variable["valueFrom"].is_null() => {
                expand(value.as_str().unwrap_or_default(), &environment)
            }
            _ => return Err(format!("the tests' kubelet knows no other source of {name} than a fieldRef")),
        };
        environment.insert(name, value);
    }
    Ok(environment)
}

/// What the downward API says of a pod.
fn field(pod: &Value, path: &str, place: &Place<'_>) -> Result<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match path {
        "status.podIP" | "status.podIPs" => return Ok(place.address.to_string()),
        "status.hostIP" | "status.hostIPs" => return Ok(place.host.to_owned()),
        "metadata.name" | "metadata.namespace" | "metadata.uid" | "spec.nodeName" | "spec.serviceAccountName" => {
            let (object, field) = path.split_once('.').unwrap_or_default();
            return Ok(text(&pod[object][field]));
        }
        _ => {}
    }
    for map in ["labels", "annotations"] {
        let key = path.strip_prefix(&format!("metadata.{map}['")).and_then(|rest| rest.strip_suffix("']"));
        if let Some(key) = key {
            return Ok(text(&pod["metadata"][map][key]));
        }
    }
    Err(format!("the tests' kubelet does not know the field {path}"))
}

/// Puts variables in the place of `$(NAME)`; what is no variable stays as it is, and `$$(NAME)` is `$(NAME)`.
fn expand(text: &str, environment: &BTreeMap<String, String>) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('$') {
        out += &rest[..at];
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
            continue;
        }
        let name = rest.strip_prefix("$(").and_then(|inner| inner.split_once(')')).map(|(name, _)| name);
        match name.and_then(|name| environment.get_key_value(name)) {
            Some((name, value)) => {
                out += value;
                rest = &rest[name.len() + 3..];
            }
            None => {
                out.push('$');
                rest = &rest[1..];
            }
        }
    }
    out + rest
}

/// One probe of a container, with the defaults that the API server has filled in.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    scheme: String,
    path: String,
    port: Option<u16>,
    pub(crate) delay: Duration,
    pub(crate) period: Duration,
    pub(crate) failures: u64,
    pub(crate) successes: u64,
}

impl Probe {
    /// The probe of that name, if the container has it.
    pub(crate) fn of(pod: &Value, name: &str) -> Option<Self> {
        let container = &pod["spec"]["containers"][0];
        let probe = container.get(name)?;
        let seconds = |field: &str| Duration::from_secs(probe[field].as_u64().unwrap_or_default());
        let get = &probe["httpGet"];
        let named = |name: &str| {
            let mut ports = container["ports"].as_array().into_iter().flatten();
            ports.find(|port| port["name"] == name).and_then(|port| port["containerPort"].as_u64())
        };
        let port = get["port"].as_u64().or_else(|| named(get["port"].as_str()?));
        Some(Self {
            scheme: get["scheme"].as_str().unwrap_or("HTTP").to_owned(),
            path: get["path"].as_str().unwrap_or("/").to_owned(),
            port: port.and_then(|port| u16::try_from(port).ok()),
            delay: seconds("initialDelaySeconds"),
            period: seconds("periodSeconds").max(Duration::from_secs(1)),
            failures: probe["failureThreshold"].as_u64().unwrap_or(3),
            successes: probe["successThreshold"].as_u64().unwrap_or(1),
        })
    }

    /// Asks the pod at this address.
    ///
    /// # Errors
    /// Why it does not answer 200, or that the probe is of a kind that is not known here.
    pub(crate) fn ask(&self, here: Ipv4Addr) -> Result<(), String> {
        let port = self.port.ok_or("the tests' kubelet knows no other probe than an httpGet of a known port")?;
        let address = SocketAddr::from((here, port));
        match self.scheme.as_str() {
            "HTTPS" => probe::https_at(address, &self.path),
            _ => probe::http_at(address, &self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_is_started_as_its_spec_says() {
        let pod = json!({"metadata": {"name": "w-1", "uid": "u"}, "spec": {"containers": [{
            "args": ["--listen=0.0.0.0:8443", "--as=$(ME)", "$$(ME)", "$(NOBODY)"],
            "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "ME", "value": "pod/$(POD_NAME)"}]}]}});
        let place = Place { address: Ipv4Addr::new(10, 244, 0, 1), here: Ipv4Addr::new(127, 20, 0, 1), host: "h" };
        let command = command(&pod, Path::new("/webhook"), Path::new("/k"), &place).unwrap();
        let words: Vec<_> = command.get_args().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(words, ["--listen=127.20.0.1:8443", "--as=pod/w-1", "$(ME)", "$(NOBODY)", "--kubeconfig", "/k"]);
    }
}
