//! `make up`, `make down` and `make demo`: a cluster in `.local` that stays up when the command has ended. `make soak` has one
//! of its own, which does not.

// Starts it in the background, and says what is there.
mod up;
// The process in the background that holds it.
mod supervise;
// Ends it.
mod down;
// Plays an incident in it.
mod demo;
// Looks for a long time.
mod soak;
// Where its files lie.
mod place;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tests::Setup;

use crate::place::Place;

/// A real control plane on this machine, with Flux, breakglass and people in it
#[derive(Debug, Parser)]
struct Args {
    /// Where its files go
    #[arg(long, default_value = ".local")]
    directory: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start it and leave it up
    Up {
        /// Without breakglass in it, but with two nodes to install it on
        #[arg(long)]
        bare: bool,
    },
    /// End it; its logs and the fleet repository stay
    Down,
    /// Start it, play an incident in it, and leave it up
    Demo,
    /// Build what a cluster is made of, where it is missing; says what it builds, which tests cannot
    Build,
    /// Look for a long time for what no test thought of
    Soak {
        #[command(subcommand)]
        what: soak::Soak,
    },
    /// Serve again what the cluster of a failed test had stored, until Ctrl-C
    Look {
        /// The directory that the test named
        kept: PathBuf,
    },
    /// Hold the cluster; started by `up`
    #[command(hide = true)]
    Supervise {
        #[arg(long)]
        bare: bool,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = Place::new(&args.directory).and_then(|place| match args.command {
        Command::Up { bare } => {
            up::up(&place, bare)?;
            println!("{}", up::next_steps(&place, bare));
            Ok(())
        }
        Command::Down => down::down(&place),
        Command::Demo => demo::demo(&place),
        Command::Build => {
            Setup::new("build").flux().webhook().build().and_then(|()| tests::previous::previous().map(drop))
        }
        Command::Soak { what } => soak::soak(&what),
        Command::Look { kept } => supervise::look(&kept),
        Command::Supervise { bare } => supervise::supervise(&place, bare),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
