//! Live lookups of a user's tokens, at a bounded rate: a flood of refused writes must not become a flood of requests.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use breakglass::api::BreakglassToken;

/// How many live lookups of one user's tokens are made in a [`WINDOW`] before the next one waits. A refused write
/// makes two, one in each call. All who wait share one answer, so a flood of refused writes costs the API server no more
/// than this for each user.
const MOST: usize = 10;
/// See [`MOST`].
const WINDOW: Duration = Duration::from_secs(1);

/// How many users' lookups are remembered; beyond, those that nobody waits for are forgotten.
const USERS: usize = 1_024;

/// The lookups of all users.
#[derive(Default)]
pub(super) struct Lookups(Mutex<HashMap<String, Arc<tokio::sync::Mutex<Latest>>>>);

/// The last lookups of one user.
#[derive(Default)]
struct Latest {
    /// When they were begun, the latest last; at most [`MOST`].
    begun: VecDeque<Instant>,
    /// What the latest one found.
    tokens: Vec<BreakglassToken>,
}

impl Lookups {
    /// What `look` finds of this user, or what it found for somebody who has been waiting as well.
    pub(super) async fn of<F>(&self, user: &str, look: impl FnOnce() -> F) -> Result<Vec<BreakglassToken>>
    where
        F: Future<Output = Result<Vec<BreakglassToken>>>,
    {
        let asked = Instant::now();
        let latest = {
            let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if users.len() >= USERS {
                users.retain(|_, latest| Arc::strong_count(latest) > 1);
            }
            users.entry(user.to_owned()).or_default().clone()
        };
        let mut latest = latest.lock().await;
        if latest.begun.back().is_some_and(|begun| *begun >= asked) {
            return Ok(latest.tokens.clone());
        }
        if latest.begun.len() == MOST
            && let Some(oldest) = latest.begun.pop_front()
        {
            tokio::time::sleep_until((oldest + WINDOW).into()).await;
        }
        let begun = Instant::now();
        let tokens = look().await?;
        latest.begun.push_back(begun);
        latest.tokens.clone_from(&tokens);
        Ok(tokens)
    }
}
