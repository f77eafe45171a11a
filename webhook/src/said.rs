//! What the API server said, in its own words: kube's error prints the whole Status, and prints it twice.

use kube::Error;

/// A sentence of the API server.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
pub struct Said {
    words: String,
    /// The HTTP status that came with it.
    pub code: u16,
}

/// The API server's sentence where it gave one; else the error as it is.
pub fn said(error: Error) -> anyhow::Error {
    match error {
        Error::Api(status) if !status.message.is_empty() => {
            Said { words: status.message.clone(), code: status.code }.into()
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_api_server_is_one_sentence() {
        let status = kube::core::Status::failure("secrets \"a\" is forbidden", "Forbidden").with_code(403);
        assert_eq!(format!("{:#}", said(Error::Api(Box::new(status)))), "secrets \"a\" is forbidden");
    }
}
