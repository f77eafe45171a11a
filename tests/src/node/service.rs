//! In the place of kube-proxy: whoever connects to a Service's address reaches one of its ready pods.
//!
//! A Service's address is one of this machine, so there is no packet to rewrite: it is listened on, and each connection is
//! carried to a pod.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::Shared;
use super::seen::Kind;

/// How often an address that could not be listened on is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// One pod behind a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    pub(super) node: String,
}

/// A Service's port that is listened on, and where it leads.
struct Open {
    task: JoinHandle<()>,
    endpoints: Arc<Mutex<Vec<Endpoint>>>,
}

/// Carries connections until the task ends.
pub(super) async fn serve(shared: Arc<Shared>) {
    let mut changes = shared.seen.changes();
    let mut open: BTreeMap<SocketAddr, Open> = BTreeMap::new();
    let mut said = BTreeSet::new();
    loop {
        let mut wanted = leads(&shared);
        // A Service without a ready pod refuses connections: nobody listens there.
        wanted.retain(|_, endpoints| !endpoints.is_empty());
        open.retain(|address, port| {
            let stays = wanted.contains_key(address);
            if !stays {
                // Connections that are there stay, as with kube-proxy: they are tasks of their own.
                port.task.abort();
            }
            stays
        });
        for (address, endpoints) in wanted {
            if let Some(port) = open.get(&address) {
                *port.endpoints.lock().unwrap_or_else(PoisonError::into_inner) = endpoints;
                continue;
            }
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    let endpoints = Arc::new(Mutex::new(endpoints));
                    let task = tokio::spawn(accept(Arc::clone(&shared), listener, Arc::clone(&endpoints)));
                    open.insert(address, Open { task, endpoints });
                }
                Err(error) => {
                    if said.insert(address) {
                        eprintln!("error: listening on {address}, a Service's: {error}");
                    }
                }
            }
        }
        let _ = tokio::time::timeout(AGAIN, changes.changed()).await;
    }
}

/// Each Service's address, and the pods that take new connections.
pub(super) fn leads(shared: &Shared) -> BTreeMap<SocketAddr, Vec<Endpoint>> {
    let slices = shared.seen.all(Kind::Slices);
    let mut leads = BTreeMap::new();
    for service in shared.seen.all(Kind::Services) {
        let Some(address) = service["spec"]["clusterIP"].as_str().and_then(|ip| ip.parse::<Ipv4Addr>().ok()) else {
            continue;
        };
        for port in service["spec"]["ports"].as_array().into_iter().flatten() {
            let Some(number) = port["port"].as_u64().and_then(|port| u16::try_from(port).ok()) else { continue };
            let ours = |slice: &&Arc<Value>| {
                slice["metadata"]["labels"]["kubernetes.io/service-name"] == service["metadata"]["name"]
            };
            let name = port["name"].as_str().unwrap_or_default();
            let of = |state: fn(&Value) -> bool| -> Vec<Endpoint> {
                slices.iter().filter(ours).flat_map(|slice| endpoints(shared, slice, name, state)).collect()
            };
            let mut found = of(|conditions| conditions["ready"] != false);
            if found.is_empty() {
                // As kube-proxy does it: when all are on their way out, those that still serve are better than none.
                found = of(|conditions| conditions["serving"] == true && conditions["terminating"] == true);
            }
            leads.insert(SocketAddr::from((address, number)), found);
        }
    }
    leads
}

/// The endpoints of one slice whose conditions are such, with the port of that name.
fn endpoints(shared: &Shared, slice: &Value, port: &str, state: fn(&Value) -> bool) -> Vec<Endpoint> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let ports = list(&slice["ports"]);
    let number = ports.iter().find(|one| one["name"].as_str().unwrap_or_default() == port);
    let number = number.and_then(|one| one["port"].as_u64()).and_then(|number| u16::try_from(number).ok());
    let endpoint = |endpoint: &Value| {
        let address = endpoint["addresses"][0].as_str()?.parse().ok()?;
        let here = IpAddr::V4(shared.network.here(address)?);
        let node = endpoint["nodeName"].as_str().unwrap_or_default().to_owned();
        Some(Endpoint { address: SocketAddr::new(here, number?), node })
    };
    list(&slice["endpoints"]).iter().filter(|one| state(&one["conditions"])).filter_map(endpoint).collect()
}

/// The next one in turn.
pub(super) fn next(turn: &AtomicUsize, endpoints: &[Endpoint]) -> Option<Endpoint> {
    endpoints.get(turn.fetch_add(1, Ordering::Relaxed) % endpoints.len().max(1)).cloned()
}

/// Takes connections, and gives them to the pods in turn.
async fn accept(shared: Arc<Shared>, listener: TcpListener, endpoints: Arc<Mutex<Vec<Endpoint>>>) {
    let turn = AtomicUsize::new(0);
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let endpoint = next(&turn, &endpoints.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(endpoint) = endpoint {
            let _ = client.set_nodelay(true);
            tokio::spawn(carry(Arc::clone(&shared), client, endpoint));
        }
    }
}

/// Carries one connection, for as long as the two ends want it. A node without power says nothing to anybody, not even that
/// the connection is over.
pub(super) async fn carry<C>(shared: Arc<Shared>, mut client: C, endpoint: Endpoint)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let mut dark = shared.dark.subscribe();
    let talk = async {
        if let Ok(mut pod) = TcpStream::connect(endpoint.address).await {
            let _ = pod.set_nodelay(true);
            let _ = tokio::io::copy_bidirectional(&mut client, &mut pod).await;
        }
    };
    let went_dark = tokio::select! {
        biased;
        _ = dark.wait_for(|dark| dark.contains(&endpoint.node)) => true,
        () = talk => false,
    };
    if went_dark {
        let _ = dark.wait_for(|dark| !dark.contains(&endpoint.node)).await;
    }
}
