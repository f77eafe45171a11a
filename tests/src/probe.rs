//! Asks a server of ours on loopback for one page: is it there, and what status does it answer.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Error, RootCertStore, StreamOwned};

use crate::certs::Pem;
use crate::trust::AnyCertificate;

/// How long one look may take; a server that is slower is asked again.
const LIMIT: Duration = Duration::from_secs(2);

/// Ports that the system gives to no connection by itself (net.ipv4.ip_local_port_range begins at 32768): one that is free
/// now would else belong to somebody's connection by the time that a server wants it.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// A port of the loopback interface that nobody listens on now, and that this process has not given to anybody.
///
/// # Errors
/// When there is none left.
pub fn free_port() -> std::io::Result<u16> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Processes that run beside each other begin at different places.
    let begin = std::process::id().wrapping_mul(331);
    let mut last = None;
    for _ in PORTS {
        let given = begin.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % u32::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(given).unwrap_or_default();
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| std::io::ErrorKind::AddrNotAvailable.into()))
}

/// Whether `http://127.0.0.1:<port><path>` answers 200.
///
/// # Errors
/// Why not, for the last line of a wait.
pub fn http(port: u16, path: &str) -> Result<(), String> {
    http_at(local(port), path)
}

/// The body of `http://127.0.0.1:<port><path>`, whatever the status.
///
/// # Errors
/// When nobody answers.
pub fn page(port: u16, path: &str) -> Result<String, String> {
    page_at(local(port), path)
}

/// The body of `http://<address><path>`, whatever the status.
///
/// # Errors
/// When nobody answers.
pub fn page_at(address: SocketAddr, path: &str) -> Result<String, String> {
    let mut stream = connect(address)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| format!("asking for {path}: {error}"))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| format!("{path}: {error}"))?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).ok_or_else(|| format!("{path}: {answer}"))
}

/// Whether `https://127.0.0.1:<port><path>` answers 200, whatever certificate it shows.
///
/// # Errors
/// Why not, for the last line of a wait.
pub fn https(port: u16, path: &str) -> Result<(), String> {
    https_at(local(port), path)
}

/// Whether `http://<address><path>` answers 200: the address of a pod.
///
/// # Errors
/// Why not.
pub fn http_at(address: SocketAddr, path: &str) -> Result<(), String> {
    expect_200(connect(address)?, path)
}

/// The same over TLS, whatever certificate it shows.
///
/// # Errors
/// Why not.
pub fn https_at(address: SocketAddr, path: &str) -> Result<(), String> {
    expect_200(session_at(address)?, path)
}

/// The certificate that the server at this address shows to whoever calls it `name` and trusts these CAs alone (PEM, one after
/// the other), as the API server does with a caBundle.
///
/// # Errors
/// Why it is not reached, or not believed.
pub fn leaf_at(address: SocketAddr, name: &str, trusted: &str) -> Result<Vec<u8>, String> {
    let said = |error: Error| error.to_string();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
        roots.add(certificate.map_err(|error| error.to_string())?).map_err(said)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(said)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
    let mut session = ClientConnection::new(Arc::new(config), name).map_err(said)?;
    let mut stream = connect(address)?;
    while session.is_handshaking() {
        session.complete_io(&mut stream).map_err(|error| format!("{address}: {error}"))?;
    }
    let shown = session.peer_certificates().and_then(|chain| chain.first());
    shown.map(|leaf| leaf.to_vec()).ok_or_else(|| format!("{address} shows no certificate"))
}

/// The bytes of the first certificate in this PEM.
///
/// # Errors
/// When there is none.
pub fn der(pem: &str) -> Result<Vec<u8>, String> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map(|one| one.to_vec()).map_err(|error| error.to_string())
}

/// POSTs `body` to `https://127.0.0.1:<port><path>`, whatever certificate that shows; the status and the body answered.
///
/// # Errors
/// When there is no answer.
pub fn post(port: u16, path: &str, body: &[u8]) -> Result<(u16, String), String> {
    post_at(local(port), path, body)
}

/// The same to `https://<address><path>`: the address of a pod.
///
/// # Errors
/// When there is no answer.
pub fn post_at(address: SocketAddr, path: &str, body: &[u8]) -> Result<(u16, String), String> {
    let mut stream = session_at(address)?;
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    // Who refuses a body may close before it has read all of it: what it answered counts.
    let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{path}: {sent:?}, {ended:?}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| format!("{path}: {head}"))?, body.to_owned()))
}

fn session_at(address: SocketAddr) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
    session_as(connect(address)?, None, &[])
}

/// A TLS session over this connection, whatever certificate the server shows: ours is this one, and we speak these protocols.
pub(crate) fn session_as(
    stream: TcpStream,
    login: Option<&Pem>,
    protocols: &[&str],
) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
    let config = AnyCertificate::client().map_err(|error| error.to_string())?;
    let mut config = match login {
        None => config.with_no_client_auth(),
        Some(pem) => {
            let certificate = CertificateDer::from_pem_slice(pem.certificate.as_bytes());
            let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).map_err(|error| error.to_string())?;
            let chain = vec![certificate.map_err(|error| error.to_string())?];
            config.with_client_auth_cert(chain, key).map_err(|error| error.to_string())?
        }
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
    let session = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    Ok(StreamOwned::new(session, stream))
}

pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

pub(crate) fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect_timeout(&address, LIMIT).map_err(|error| format!("{address}: {error}"))?;
    stream.set_read_timeout(Some(LIMIT)).map_err(|error| error.to_string())?;
    stream.set_write_timeout(Some(LIMIT)).map_err(|error| error.to_string())?;
    Ok(stream)
}

fn expect_200(mut stream: impl Read + Write, path: &str) -> Result<(), String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| format!("asking for {path}: {error}"))?;
    let mut answer = Vec::new();
    // Many servers close without a TLS goodbye: what came before that is the answer.
    let ended = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    if answer.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    match ended {
        Err(error) if answer.is_empty() => Err(format!("{path}: {error}")),
        _ => Err(format!("{path}: {}", answer.trim())),
    }
}
