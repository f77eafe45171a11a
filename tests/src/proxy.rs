//! A way to the API server that can be cut without either side noticing: what was connected hears nothing more, what connects
//! anew does. So a watch falls behind while questions are still answered. Or it is gone, for everybody, until it is back.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Result;

/// A proxy on loopback; it lasts until the process ends.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    opened: Arc<AtomicU64>,
    deaf: Arc<AtomicU64>,
    /// The clients that there have been; none while there is no way.
    clients: Arc<Mutex<Option<Vec<TcpStream>>>>,
}

impl Proxy {
    /// Leads to the server on this port of loopback.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn to(port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let clients = Arc::new(Mutex::new(Some(Vec::new())));
        let proxy = Self { port: listener.local_addr()?.port(), opened: Arc::default(), deaf: Arc::default(), clients };
        let (opened, deaf, clients) = (Arc::clone(&proxy.opened), Arc::clone(&proxy.deaf), Arc::clone(&proxy.clients));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let number = opened.fetch_add(1, Ordering::SeqCst) + 1;
                let Ok(server) = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))) else { continue };
                let (Ok(from_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else { continue };
                let Ok(known) = client.try_clone() else { continue };
                match clients.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                    Some(clients) => clients.push(known),
                    None => continue,
                }
                thread::spawn(move || pass_on(from_client, to_server, || true));
                let deaf = Arc::clone(&deaf);
                thread::spawn(move || pass_on(server, client, || number > deaf.load(Ordering::SeqCst)));
            }
        });
        Ok(proxy)
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on, nothing that the server says on the connections there are now reaches the client.
    pub fn cut(&self) {
        self.deaf.store(self.opened.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// From now on there is no way: what is connected is closed, and what connects as well.
    pub fn close(&self) {
        for client in self.clients.lock().unwrap_or_else(PoisonError::into_inner).take().into_iter().flatten() {
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    /// From now on there is one again.
    pub fn open(&self) {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default();
    }
}

/// Passes bytes on until one side ends; those that may not be passed on are dropped.
fn pass_on(mut from: TcpStream, mut to: TcpStream, may: impl Fn() -> bool) {
    let mut chunk = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        if may() && to.write_all(&chunk[..read]).is_err() {
            break;
        }
    }
    if may() {
        let _ = to.shutdown(Shutdown::Both);
    }
}
