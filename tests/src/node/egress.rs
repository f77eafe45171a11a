//! In the place of kube-proxy where a Service's port cannot be listened on: the API server asks us for each connection into
//! the cluster, as it would ask a konnectivity server (an egress selector, with HTTP CONNECT).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::Shared;
use super::service::{Endpoint, carry, leads, next};

/// The longest request for a connection.
const LONGEST: usize = 4096;

/// Carries connections until the task ends.
pub(super) async fn serve(shared: Arc<Shared>, listener: UnixListener) {
    let turn = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let (shared, turn) = (Arc::clone(&shared), Arc::clone(&turn));
        tokio::spawn(async move {
            let _ = tunnel(shared, client, &turn).await;
        });
    }
}

async fn tunnel(shared: Arc<Shared>, mut client: UnixStream, turn: &AtomicUsize) -> std::io::Result<()> {
    let mut request = Vec::new();
    // Nothing of the connection itself is read here: who asks waits for the answer.
    while !request.ends_with(b"\r\n\r\n") && request.len() < LONGEST {
        request.push(client.read_u8().await?);
    }
    let request = String::from_utf8_lossy(&request);
    let target = request.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    match endpoint(&shared, target, turn).await {
        Some(endpoint) => {
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            carry(shared, client, endpoint).await;
            Ok(())
        }
        None => client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").await,
    }
}

/// A pod behind the Service of that address, or whatever else is meant.
async fn endpoint(shared: &Shared, target: &str, turn: &AtomicUsize) -> Option<Endpoint> {
    let address: SocketAddr = match target.parse() {
        Ok(address) => address,
        // The name that an ExternalName leads to.
        Err(_) => tokio::net::lookup_host(target).await.ok()?.next()?,
    };
    match leads(shared).get(&address) {
        Some(endpoints) => next(turn, endpoints),
        None => Some(Endpoint { address, node: String::new() }),
    }
}
