//! What the webhook and the plugin must agree on.
//!
//! This crate does no I/O, reads no clock, makes no random value and holds no client: what it needs, it is given.

// The three kinds, as users write them.
pub mod api;
// Patterns with a star, for names.
pub mod glob;
// A policy that has been checked, and can answer.
pub mod rules;
// One write, as the API server put it to us.
pub mod write;
// What engines leave on what they apply.
pub mod engine;
// Who wrote.
pub mod writer;
// Which environment a write belongs to; whether a token covers it.
pub mod cover;
// The heart: what happens to a write.
pub mod decide;
// How a token is opened.
pub mod opening;
// What a direct write says about itself on the object.
pub mod stamp;
// Names and hashes that only the holder of the cluster's key can make.
pub mod seal;
// What a write changes.
pub mod diff;
// Which stamp an object has to carry; whether the one it carries is true.
pub mod mark;
// What keeps an engine from undoing a change.
pub mod hold;
// The patch that puts our keys on an object.
pub mod patch;
// What a field manager owns of an object.
pub mod owned;
// The record of a write.
pub mod record;
// What became of a write that was let in.
pub mod fate;
// What is left of a change in its object.
pub mod remains;
// The way back from a change.
pub mod put_back;
// How a change has ended.
pub mod outcome;
// What a person decides about it.
pub mod verdict;
// What the API server calls us for.
pub mod register;
// What a replica of the webhook says of itself.
pub mod report;

// What holds of every write, over all of the above.
#[cfg(test)]
mod tests;
