//! The edges of egress-tui: sources, engine, outputs, screens. What decides is in [`egress_core`].
//!
//! ```text
//! source ─▶ engine ─▶ World ─▶ { tui, out, cmd }
//! ```

pub mod cli;
pub mod cmd;
pub mod engine;
pub mod exit;
pub mod out;
pub mod source;
pub mod tui;

use clap::Parser as _;
use exit::Exit;

/// The whole program: arguments in, exit code out.
pub fn run() -> Exit {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help and version on standard output, mistakes on standard error.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(cmd::run(cli)) {
        Ok(exit) => exit,
        Err(error) => failed(&error),
    }
}

#[expect(clippy::print_stderr, reason = "standard error is where the program talks")]
fn failed(error: &anyhow::Error) -> Exit {
    eprintln!("egress-tui: {error:#}");
    // A file that cannot be read is no mistake of the command line.
    if error.is::<source::replay::ReplayError>() { Exit::Cluster } else { Exit::Usage }
}
