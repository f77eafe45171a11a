//! argv in, exit code out; everything between is [`kubectl_breakglass::run`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(kubectl_breakglass::run(std::env::args_os().collect(), kubectl_breakglass::Io::of_process()))
}
