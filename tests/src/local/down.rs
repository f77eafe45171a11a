//! `down`: ends the cluster, and returns when no process of it is left.

use std::time::Duration;

use anyhow::Result;
use tests::{process, wait_until};

use crate::place::Place;
use crate::up::gone;

/// Longer than the supervisor takes to end what it holds.
const LIMIT: Duration = Duration::from_secs(30);

/// Ends it if it is up.
pub(crate) fn down(place: &Place) -> Result<()> {
    let Some(holder) = place.holder()? else {
        wait_until("what is left of it to end", LIMIT, || gone(place))?;
        println!("not up");
        return Ok(());
    };
    process::send("TERM", &holder)?;
    let free = || match place.holder() {
        Ok(None) => Ok(()),
        Ok(Some(holder)) => Err(format!("process {holder} is there")),
        Err(error) => Err(format!("{error:#}")),
    };
    if wait_until("the supervisor to end", LIMIT, free).is_err() {
        // The watchdog ends the rest, however the supervisor goes.
        process::send("KILL", &holder)?;
        wait_until("the supervisor to be gone", LIMIT, free)?;
    }
    wait_until("its processes to be gone", LIMIT, || gone(place))?;
    println!("down; logs and the fleet repository stay in {} until the next start", place.directory.display());
    Ok(())
}
