//! The commands, in the order of an incident.

// Let me write.
pub mod open;
// Open, run one command, close.
pub mod run;
// Who am I, what may I write to, what do I owe.
pub mod status;
// What was changed, and is not settled.
pub mod list;
// One change in full.
pub mod show;
// What is left of it.
pub mod diff;
// Where in Git an object comes from.
pub mod trace;
// Who put each field where it is.
pub mod blame;
// Keep it: Git says so.
pub mod accept;
// Put back what was there.
pub mod reject;
// What no engine owns.
pub mod orphans;
// What somebody wrote past us.
pub mod scan;
// Put a verdict off.
pub mod defer;
// It is in Git: prove it, and close.
pub mod settle;
// Keep the engine from it.
pub mod hold;
// Give it back.
pub mod release;
// What is to be told afterwards.
pub mod report;
// End a token early, say what is still owed.
pub mod close;
// The policy in force.
pub mod policy;
// Everything into the cluster, until it works.
pub mod install;
// Everything out of it, and no lock left behind.
pub mod uninstall;
// Is it in place, and who can write past it.
pub mod doctor;
// Plugin and webhook.
pub mod version;
// The script of a shell.
pub mod completion;
