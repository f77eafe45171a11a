//! A real control plane on this machine for the tests, the demo and `make up`: etcd, kube-apiserver,
//! kube-controller-manager, Flux and our webhook, each a child process that is gone when we are.
//!
//! A test takes [`Cluster::shared`] and a namespace of its own, or [`Cluster::own`] if it breaks things.

// The programs: found or built, and what they need.
pub mod binaries;
// Waiting without sleeping.
pub mod wait;
// Child processes that never outlive us.
pub mod process;
// Is it up, and on which port.
pub mod probe;
// Certificates and logins.
pub mod certs;
pub mod users;
// The control plane, in the order it starts.
pub mod apiserver;
pub mod controller_manager;
pub mod etcd;
// What people type.
pub mod kubectl;
// GitOps: the repository, what publishes it, and what applies it.
pub mod flux;
pub mod git;
pub mod source;
// breakglass itself, and what it left behind.
pub mod record;
pub mod webhook;
// An unknown kind.
pub mod widgets;
// All of it together.
mod cluster;
mod setup;

pub use cluster::Cluster;
pub use kubectl::{Kubectl, Output};
pub use setup::Setup;
pub use wait::wait_until;
