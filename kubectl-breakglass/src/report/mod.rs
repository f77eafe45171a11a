//! Report: what an incident was, as a page for a post-mortem and as facts for programs. Pure: what it is made from is read
//! elsewhere.

// What one write did, in words and line by line.
mod did;
// Records, tokens and what was heard → the facts.
pub mod facts;
// Everything of them that has a time.
pub mod timeline;
// What is not among them.
pub mod unseen;
// The facts → a page.
pub mod tell;
// What a page is made of.
pub mod page;
// A page → text for a repository or a wiki.
pub mod markdown;
// A page → text for a browser and for paper.
pub mod html;

#[cfg(test)]
mod tests;
