//! The addresses of one cluster on this machine: all of 127/8 leads to it, so pods and Services have addresses of their own
//! without any privilege.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result};
use serde_json::json;

/// How many clusters with nodes may run at once on a machine.
const NETWORKS: u8 = 64;

/// The first octets after 127 of what pods listen on, and of what Services are reached at.
const PODS: u8 = 20;
const SERVICES: u8 = 96;

/// Where a real kube-proxy says that it is healthy. Whoever holds that port of a network has the network.
const HELD_PORT: u16 = 10256;

/// The start of the addresses that the API server knows pods by. An EndpointSlice refuses loopback addresses, so the API
/// server is told these, and 10.244.x.y stands for 127.20.x.y (in the first network).
const POD_RANGE: [u8; 2] = [10, 244];

/// One cluster's part of 127/8, ours until this is dropped.
#[derive(Debug)]
pub(crate) struct Network {
    number: u8,
    next: AtomicU16,
    _held: TcpListener,
}

impl Network {
    /// Takes the first network that no other cluster on this machine has.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn reserve() -> Result<Self> {
        let free = (0..NETWORKS).find_map(|number| {
            let held = TcpListener::bind((Ipv4Addr::new(127, SERVICES + number, 0, 1), HELD_PORT)).ok()?;
            Some(Self { number, next: AtomicU16::new(0), _held: held })
        });
        free.with_context(|| format!("{NETWORKS} clusters with nodes run on this machine; end one"))
    }

    /// How the API server is told of it.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn arguments(&self, directory: &Path) -> Result<Vec<String>> {
        let mut arguments = vec![format!("--service-cluster-ip-range={}", self.services())];
        if !self.may_listen() {
            let config = directory.join("cluster/egress.json");
            let transport = json!({"uds": {"udsName": socket(directory)}});
            let cluster = json!({"name": "cluster", "connection": {"proxyProtocol": "HTTPConnect", "transport": transport}});
            let egress = json!({"apiVersion": "apiserver.k8s.io/v1beta1", "kind": "EgressSelectorConfiguration",
                "egressSelections": [cluster]});
            fs::write(&config, egress.to_string())?;
            arguments.push(format!("--egress-selector-config-file={}", config.display()));
        }
        Ok(arguments)
    }

    fn services(&self) -> String {
        format!("127.{}.0.0/16", SERVICES + self.number)
    }

    /// Whether this user may listen on port 443, which our Service has. If not, the API server goes through our socket, as
    /// through a konnectivity server, and nobody else reaches a Service.
    pub(crate) fn may_listen(&self) -> bool {
        TcpListener::bind((Ipv4Addr::new(127, SERVICES + self.number, 0, 1), 443)).is_ok()
    }

    /// The address of a new pod, as the API server is told it.
    pub(crate) fn pod(&self) -> Ipv4Addr {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (third, fourth) = ((number / 250) % 250, number % 250 + 1);
        Ipv4Addr::new(POD_RANGE[0], POD_RANGE[1], third as u8, fourth as u8)
    }

    /// Where the pod with that address listens on this machine; `None` for an address that is no pod's.
    pub(crate) fn here(&self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        let [first, second, third, fourth] = address.octets();
        ([first, second] == POD_RANGE).then(|| Ipv4Addr::new(127, PODS + self.number, third, fourth))
    }
}

/// Where the API server asks for connections to Services, when they cannot be listened on.
pub(crate) fn socket(directory: &Path) -> PathBuf {
    directory.join("cluster/egress.sock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clusters_share_no_address() {
        let (one, other) = (Network::reserve().unwrap(), Network::reserve().unwrap());
        assert_ne!(one.services(), other.services());
        let pod = one.pod();
        assert_ne!(pod, one.pod());
        assert_ne!(one.here(pod), other.here(pod));
        assert_eq!(one.here(Ipv4Addr::LOCALHOST), None);
    }
}
