//! The addresses of one cluster on this machine: all of 127/8 leads to it, so pods and Services have addresses of their own
//! without any privilege.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result, bail};

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

    /// The range that the API server gives Services addresses from.
    pub(crate) fn services(&self) -> String {
        format!("127.{}.0.0/16", SERVICES + self.number)
    }

    /// Holds that a Service's port 443 can be listened on.
    ///
    /// # Errors
    /// When this user may not: with what to type.
    pub(crate) fn may_listen(&self) -> Result<()> {
        listen(SocketAddr::from((Ipv4Addr::new(127, SERVICES + self.number, 0, 1), 443))).map(drop)
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

/// Listens on a Service's address and port.
///
/// # Errors
/// When that is not possible: for a port below 1024 with what to type.
pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener> {
    match TcpListener::bind(address) {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => bail!(
            "this user may not listen on port {} ({address}), which the Service has. Let every user:\n  \
             sudo sysctl net.ipv4.ip_unprivileged_port_start={}",
            address.port(),
            address.port()
        ),
        Err(error) => Err(error).with_context(|| format!("listening on {address}, a Service's")),
    }
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
