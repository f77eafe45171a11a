//! A client that sends bytes which no HTTP client would send, over TLS, and reads what comes back one answer at a time.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;

use crate::certs::Pem;
use crate::probe;

/// How long an answer may take: longer than any deadline that an API server gives.
const LIMIT: Duration = Duration::from_secs(60);

/// One connection to a server of ours on loopback.
#[derive(Debug)]
pub struct Raw {
    stream: StreamOwned<ClientConnection, TcpStream>,
    /// What has been read and not yet been given out.
    rest: Vec<u8>,
}

/// One HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// The status line and the headers.
    pub head: String,
    /// Its body.
    pub body: String,
}

impl Answer {
    /// The `response` of the AdmissionReview in it; null where there is none.
    #[must_use]
    pub fn response(&self) -> Value {
        serde_json::from_str::<Value>(&self.body).map(|mut review| review["response"].take()).unwrap_or_default()
    }
}

/// A review as the API server posts it, and as it would not: any bytes.
#[must_use]
pub fn request(path: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

impl Raw {
    /// Connects, whatever certificate is shown.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(port: u16) -> Result<Self, String> {
        Self::over(probe::connect(probe::local(port))?, None, &[])
    }

    /// The same as the API server of somebody would, with a certificate of its own.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect_as(port: u16, login: &Pem) -> Result<Self, String> {
        Self::over(probe::connect(probe::local(port))?, Some(login), &[])
    }

    /// The same, offering these protocols (ALPN).
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn speaking(port: u16, protocols: &[&str]) -> Result<Self, String> {
        Self::over(probe::connect(probe::local(port))?, None, protocols)
    }

    /// Over a connection that is there.
    ///
    /// # Errors
    /// When it is not any more.
    pub fn over(stream: TcpStream, login: Option<&Pem>, protocols: &[&str]) -> Result<Self, String> {
        let stream = probe::session_as(stream, login, protocols)?;
        for set in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
            set(&stream.sock, Some(LIMIT)).map_err(|error| error.to_string())?;
        }
        Ok(Self { stream, rest: Vec::new() })
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// When the other side has closed.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).and_then(|()| self.stream.flush()).map_err(|error| error.to_string())
    }

    /// Shakes hands, and sends nothing yet; the protocol that was agreed on, if one was.
    ///
    /// # Errors
    /// When the other side does not.
    pub fn shake(&mut self) -> Result<Option<String>, String> {
        self.stream.flush().map_err(|error| error.to_string())?;
        Ok(self.stream.conn.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned()))
    }

    /// The next so many bytes, whatever they are.
    ///
    /// # Errors
    /// When the connection ends before.
    pub fn bytes(&mut self, length: usize) -> Result<Vec<u8>, String> {
        while self.rest.len() < length {
            self.read_more()?;
        }
        Ok(self.rest.drain(..length).collect())
    }

    /// Says that nothing more comes, and goes on reading.
    ///
    /// # Errors
    /// When the other side has closed.
    pub fn finish(&mut self) -> Result<(), String> {
        self.stream.conn.send_close_notify();
        self.stream.flush().and_then(|()| self.stream.sock.shutdown(Shutdown::Write)).map_err(|error| error.to_string())
    }

    /// The next answer.
    ///
    /// # Errors
    /// When the connection ends before it is whole.
    pub fn answer(&mut self) -> Result<Answer, String> {
        let end = loop {
            if let Some(at) = self.rest.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_more()?;
        };
        let head = String::from_utf8_lossy(&self.rest[..end]).into_owned();
        let field = |name: &str| {
            let fields = head.lines().filter_map(|line| line.split_once(':'));
            let found = fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.trim().to_owned())
        };
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(head.clone())?;
        let length = field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        while self.rest.len() < end + length {
            self.read_more()?;
        }
        let body = String::from_utf8_lossy(&self.rest[end..end + length]).into_owned();
        self.rest.drain(..end + length);
        Ok(Answer { status, head, body })
    }

    /// Posts a body and gives the answer to it.
    ///
    /// # Errors
    /// When there is none.
    pub fn post(&mut self, path: &str, body: &[u8]) -> Result<Answer, String> {
        // Who refuses a body may answer before it has read all of it.
        let sent = self.send(&request(path, body));
        self.answer().map_err(|error| format!("{path}: {sent:?}, {error}"))
    }

    fn read_more(&mut self) -> Result<(), String> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err("the connection ended".to_owned()),
            Ok(read) => {
                self.rest.extend_from_slice(&chunk[..read]);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }
}
