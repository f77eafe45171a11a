//! What the API server said, in its own words: kube's error prints the whole Status, and prints it twice.

use kube::Error;

/// The API server's sentence where it gave one; else the error as it is.
pub fn said(error: Error) -> anyhow::Error {
    match error {
        Error::Api(status) if !status.message.is_empty() => anyhow::anyhow!("{}", status.message),
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
