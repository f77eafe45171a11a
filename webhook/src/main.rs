//! argv → Config → serve → exit code; nothing else.

use std::process::ExitCode;

use clap::Parser;
use webhook::config::Config;

#[tokio::main]
async fn main() -> ExitCode {
    webhook::start_logging();
    match webhook::serve(Config::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
