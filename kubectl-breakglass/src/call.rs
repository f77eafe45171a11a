//! One write to the API server, and the warnings that came with its answer.

use breakglass::decide::REHEARSED;
use http::HeaderMap;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions, Request};
use kube::client::Body;
use kube::core::Status;
use serde_json::Value;

use crate::manifests::Part;
use crate::tokens::Really;

/// What our writes to the cluster call themselves in managedFields.
pub const FIELD_MANAGER: &str = "breakglass";

/// An answer that was no error.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// The object, or what else was answered.
    pub body: Value,
    /// The warnings beside it.
    pub warnings: Vec<String>,
}

impl Heard {
    /// Whether our webhook would refuse the same, were it no dry run.
    pub fn would_be_refused(&self) -> bool {
        self.warnings.iter().any(|warning| warning.starts_with(REHEARSED))
    }
}

/// Whether fields of others are taken from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflicts {
    /// They are an error.
    Respect,
    /// The fields become ours.
    Force,
}

/// Applies an object, server-side.
///
/// # Errors
/// What the API server answers. `Api` where it says no.
pub async fn apply(client: &Client, part: &Part, conflicts: Conflicts, really: Really) -> kube::Result<Heard> {
    let params = PatchParams {
        dry_run: really == Really::DryRun,
        force: conflicts == Conflicts::Force,
        field_manager: Some(FIELD_MANAGER.to_owned()),
        // A field that the server does not know is a mistake of ours, or a server that is too old: never in silence.
        field_validation: Some(kube::api::ValidationDirective::Strict),
    };
    let request = Request::new(part.api(client).resource_url()).patch(&part.name, &params, &Patch::Apply(&part.object));
    send(client, request.map_err(kube::Error::BuildRequest)?).await
}

/// Creates an object.
///
/// # Errors
/// What the API server answers. `Api` where it says no.
pub async fn create(client: &Client, part: &Part, really: Really) -> kube::Result<Heard> {
    make(client, &part.api(client), (&part.object, FIELD_MANAGER), really).await
}

/// Deletes an object; what it owns goes after it.
///
/// # Errors
/// What the API server answers. `Api` where it says no.
pub async fn delete(client: &Client, api: &Api<DynamicObject>, name: &str, really: Really) -> kube::Result<Heard> {
    remove(client, (api, name), None, really).await
}

/// Patches the metadata of the very object with this uid: one that took its name since is another's.
///
/// # Errors
/// What the API server answers. `Api` where it says no.
pub async fn patch_metadata(
    api: &Api<DynamicObject>,
    (name, uid): (&str, &str),
    mut metadata: Value,
) -> kube::Result<()> {
    metadata["uid"] = uid.into();
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(serde_json::json!({"metadata": metadata}));
    api.patch_metadata(name, &params, &patch).await.map(drop)
}

/// What a write to an object, as it was read, is sent to.
#[derive(Clone, Copy, Debug)]
pub struct Addressee<'a> {
    /// Where objects like it are.
    pub api: &'a Api<DynamicObject>,
    /// Its name.
    pub name: &'a str,
    /// The part of it that is written to, where it is not all of it.
    pub subresource: Option<&'a str>,
}

/// Replaces an object that was read, unless somebody has written to it since.
///
/// # Errors
/// What the API server answers. `Api` where it says no.
pub async fn replace(
    client: &Client,
    to: Addressee<'_>,
    (object, manager): (&Value, &str),
    really: Really,
) -> kube::Result<Heard> {
    let (params, bytes) = posted(object, manager, really)?;
    let request = Request::new(to.api.resource_url());
    let request = match to.subresource {
        None => request.replace(to.name, &params, bytes),
        Some(subresource) => request.replace_subresource(subresource, to.name, &params, bytes),
    };
    send(client, request.map_err(kube::Error::BuildRequest)?).await
}

/// Creates an object, as a manager.
///
/// # Errors
/// What the API server answers. `Api` where it says no.
pub async fn make(
    client: &Client,
    api: &Api<DynamicObject>,
    (object, manager): (&Value, &str),
    really: Really,
) -> kube::Result<Heard> {
    let (params, bytes) = posted(object, manager, really)?;
    let request = Request::new(api.resource_url()).create(&params, bytes);
    send(client, request.map_err(kube::Error::BuildRequest)?).await
}

/// Deletes the very object with this uid, and what it owns after it.
///
/// # Errors
/// What the API server answers. `Api` where it says no.
pub async fn delete_that(client: &Client, to: Addressee<'_>, uid: &str, really: Really) -> kube::Result<Heard> {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    remove(client, (to.api, to.name), Some(preconditions), really).await
}

async fn remove(
    client: &Client,
    (api, name): (&Api<DynamicObject>, &str),
    preconditions: Option<Preconditions>,
    really: Really,
) -> kube::Result<Heard> {
    let params = DeleteParams { dry_run: really == Really::DryRun, preconditions, ..DeleteParams::background() };
    let request = Request::new(api.resource_url()).delete(name, &params);
    send(client, request.map_err(kube::Error::BuildRequest)?).await
}

/// How a manager sends a whole object.
fn posted(object: &Value, manager: &str, really: Really) -> kube::Result<(PostParams, Vec<u8>)> {
    let params = PostParams { dry_run: really == Really::DryRun, field_manager: Some(manager.to_owned()) };
    Ok((params, serde_json::to_vec(object).map_err(kube::Error::SerdeError)?))
}

async fn send(client: &Client, request: http::Request<Vec<u8>>) -> kube::Result<Heard> {
    let (headers, bytes) = answer(client, request).await?;
    let body = serde_json::from_slice(&bytes).map_err(kube::Error::SerdeError)?;
    let warnings = headers.get_all("warning").iter().filter_map(|value| warning(value.to_str().ok()?)).collect();
    Ok(Heard { body, warnings })
}

/// The library keeps no headers, and copies long answers twice, so that answers are read here as it reads them.
///
/// # Errors
/// What the API server answers. `Api` where it says no.
pub async fn answer(client: &Client, request: http::Request<Vec<u8>>) -> kube::Result<(HeaderMap, Vec<u8>)> {
    let answer = client.send(request.map(Body::from)).await?;
    let (code, headers) = (answer.status(), answer.headers().clone());
    let bytes = answer.into_body().collect_bytes().await?;
    if !code.is_success() {
        let status = serde_json::from_slice::<Status>(&bytes).unwrap_or_else(|_| {
            let words = String::from_utf8_lossy(&bytes);
            Status::failure(words.trim(), "Failed to parse error data").with_code(code.as_u16())
        });
        return Err(kube::Error::Api(Box::new(status)));
    }
    Ok((headers, bytes.into()))
}

/// The text of a Warning header: `299 - "words"`, in which a backslash stands before a quote and before itself.
///
/// RFC 7234, section 5.5, as NewWarningHeader in k8s.io/apimachinery's util/net/http.go writes it.
fn warning(header: &str) -> Option<String> {
    let quoted = header.trim().strip_prefix("299 ")?.split_once(" \"")?.1;
    let mut text = String::new();
    let mut letters = quoted.chars();
    loop {
        match letters.next()? {
            '"' => return Some(text),
            '\\' => text.push(letters.next()?),
            letter => text.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_what_stands_between_the_quotes() {
        for (header, expected) in [
            (r#"299 - "a b""#, Some("a b")),
            (r#"299 - "say \"a\\b\"""#, Some(r#"say "a\b""#)),
            (r#"299 - "never ends"#, None),
            (r#"110 - "stale""#, None),
            ("299", None),
        ] {
            assert_eq!(warning(header).as_deref(), expected, "{header}");
        }
    }
}
