//! Requests as the API server takes them, and its answers as it gives them.

use http::Method;
use serde_json::Value;
use tests::Cluster;

/// One request; what it is to say goes with it as JSON.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub path: String,
    pub content_type: &'static str,
    pub body: Option<Value>,
}

/// What came back: the object, or a Status with a message.
#[derive(Clone, Debug)]
pub struct Answer {
    pub code: u16,
    pub object: Value,
}

/// One person's connection.
#[derive(Clone)]
pub struct Caller(kube::Client);

impl Request {
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), content_type: "application/json", body: None }
    }

    pub fn with(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }
}

impl Answer {
    pub fn message(&self) -> &str {
        self.object["message"].as_str().unwrap_or_default()
    }
}

impl Caller {
    /// The admin: may do everything by RBAC, and is a direct writer to us.
    pub async fn admin(cluster: &Cluster) -> Self {
        Self::new(cluster, &[]).await
    }

    /// The admin as who sets the scene: in the group that we do not look at.
    pub async fn scene(cluster: &Cluster) -> Self {
        Self::new(cluster, &["system:masters", breakglass::api::OVERRIDE_GROUP]).await
    }

    async fn new(cluster: &Cluster, groups: &[&str]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kubeconfig = kube::config::Kubeconfig::read_from(cluster.kubectl("admin").kubeconfig()).unwrap();
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
        if !groups.is_empty() {
            config.auth_info.impersonate = Some("admin".to_owned());
            config.auth_info.impersonate_groups = Some(groups.iter().map(|&group| group.to_owned()).collect());
        }
        Self(kube::Client::try_from(config).unwrap())
    }

    /// Sends it; every answer is an answer, whatever its code.
    pub async fn send(&self, request: &Request) -> Result<Answer, String> {
        let said = |error: kube::Error| format!("{} {}: {error}", request.method, request.path);
        let body = request.body.as_ref().map(Value::to_string).unwrap_or_default();
        let built = http::Request::builder()
            .method(&request.method)
            .uri(&request.path)
            .header(http::header::CONTENT_TYPE, request.content_type)
            .body(kube::client::Body::from(body.into_bytes()))
            .unwrap();
        let response = self.0.send(built).await.map_err(said)?;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect_bytes().await.map_err(said)?;
        // A page that is no object (of something that was reached through a proxy) has no message.
        Ok(Answer { code, object: serde_json::from_slice(&bytes).unwrap_or_default() })
    }

    /// Reads what must be there.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        let answer = self.send(&Request::new(Method::GET, path)).await?;
        if answer.code == 200 { Ok(answer.object) } else { Err(format!("GET {path}: {answer:?}")) }
    }
}
