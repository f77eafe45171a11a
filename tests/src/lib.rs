//! A real control plane on this machine for the tests, the demo and `make up`: etcd, kube-apiserver,
//! kube-controller-manager, Flux and our webhook, each a child process that is gone when we are.
//!
//! A test takes [`Cluster::shared`] and a namespace of its own, or [`Cluster::own`] if it breaks things.

// The programs: found or built, and what they need.
pub mod binaries;
pub mod previous;
// Waiting without sleeping.
pub mod wait;
// Child processes that never outlive us.
pub mod process;
// Is it up, and on which port.
pub mod probe;
// Whom it trusts: anybody.
pub mod trust;
// What no client would send.
pub mod raw;
pub mod review;
// A network that loses what it carries.
pub mod proxy;
// Less of the machine than there is.
pub mod limit;
// Certificates and logins.
pub mod certs;
pub mod users;
// The control plane, in the order it starts.
pub mod apiserver;
pub mod controller_manager;
pub mod etcd;
// What people type, what other clients send, and what the API server writes down of it.
pub mod audit;
pub mod http;
// What people type, and what other clients send.
pub mod client;
pub mod kubectl;
pub mod protobuf;
// GitOps: the repository, one with many kustomizations, what publishes it, and what applies it.
pub mod applications;
pub mod flux;
pub mod git;
pub mod source;
// The plugin, killed on its way.
pub mod fault;
// breakglass itself, and what it left behind.
pub mod record;
pub mod webhook;
// Nodes that run the webhook's pods, and people who write meanwhile.
pub mod load;
pub mod node;
// What each replica shows and counts; replicas that come and go with their certificates under load.
pub mod replicas;
pub mod rolling;
// An unknown kind, and an unknown webhook.
pub mod other_webhook;
pub mod widgets;
// Writes without a token, made up by the thousand.
pub mod bypass;
// All of it together.
mod cluster;
mod setup;
// One for the tests of a file.
mod together;

pub use cluster::{Cluster, OVERRIDE};
pub use http::Http;
pub use kubectl::{Kubectl, Output};
pub use setup::Setup;
pub use together::Together;
pub use wait::wait_until;
