//! The end-to-end tests: real programs against a real control plane.

// The control plane itself.
mod smoke;
