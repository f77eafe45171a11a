//! Report: what an incident was, or what a time was like, as a page for people and as facts for programs. Pure: what it is made from is read
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
// Records and tokens → the figures of a time.
pub mod figures;
// The figures → a page.
pub mod sum_up;
// What a page is made of.
pub mod page;
// A page → text for a repository or a wiki.
pub mod markdown;
// A page → text for a browser and for paper.
pub mod html;

#[cfg(test)]
mod tests;
