//! One request, as it goes over the wire, and as it is printed to be sent again.

use std::fmt;

use serde_json::Value;

use super::kind::Verb;

/// Whether a request has to be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// It is a write to a guarded place, and nobody who sends it has a token.
    Guarded,
    /// Nobody is asked for a token: it shows that such requests are well formed.
    Open,
}

/// What a request says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Body {
    None,
    Json(Value),
    /// The object as it is when the request is sent, with this merged into it.
    Edit(Value),
    Bytes(Vec<u8>),
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    pub(super) seed: u64,
    pub(super) index: u64,
    pub(super) verb: Verb,
    /// Of what kind, in which version.
    pub(super) kind: String,
    pub(super) aim: Aim,
    pub(super) dry_run: bool,
    pub(super) login: &'static str,
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Body,
}

impl Request {
    /// What the API server's audit log knows it by.
    pub(super) fn audit_id(&self) -> String {
        format!("fuzz-{}-{}", self.seed, self.index)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, index, verb, kind, login, method, path, headers, body, .. } = self;
        writeln!(f, "seed {seed}, request {index}: {verb} of {kind}, logged in as {login}")?;
        writeln!(f, "{method} {path}")?;
        for (name, value) in headers {
            writeln!(f, "{name}: {value}")?;
        }
        match body {
            Body::None => Ok(()),
            Body::Json(body) => writeln!(f, "\n{body}"),
            Body::Edit(edit) => writeln!(f, "\n(the object as it was, with this merged into it) {edit}"),
            Body::Bytes(bytes) => writeln!(f, "\n{}", bytes.escape_ascii()),
        }
    }
}
