//! argv → Config → serve → exit code; nothing else.

use std::process::ExitCode;

use clap::Parser;
use webhook::config::Config;

fn main() -> ExitCode {
    let config = Config::parse();
    let logs = webhook::logs::start();
    let served = tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| {
        let served = runtime.block_on(webhook::serve(config, logs.lost()));
        // A name that nobody resolves, say, would be waited for.
        runtime.shutdown_background();
        served
    });
    let code = match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    };
    logs.end();
    code
}
