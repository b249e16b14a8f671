//! The edges of egress-tui: sources, engine, outputs, screens. What decides is in [`egress_core`].
//!
//! ```text
//! source ─▶ engine ─▶ World ─▶ { tui, out, cmd }
//! ```

pub mod cli;
pub mod cmd;
pub mod config;
pub mod engine;
pub mod exit;
pub mod out;
pub mod plugin;
pub mod source;
pub mod tui;

use clap::FromArgMatches as _;
use exit::Exit;
use plugin::Called;

/// The whole program: arguments in, exit code out.
pub fn run() -> Exit {
    if Called::now() == Called::Completer {
        let words: Vec<String> = std::env::args().skip(1).collect();
        // A shell that closed the pipe needs nothing more.
        let _ = plugin::complete(&words);
        return Exit::Done;
    }
    let cli = match parse() {
        Ok(Ok(cli)) => cli,
        Ok(Err(error)) => return failed(&error),
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

/// The command line, completed by the configuration files.
fn parse() -> Result<anyhow::Result<cli::Cli>, clap::Error> {
    let arguments: Vec<_> = std::env::args_os().collect();
    let command = Called::now().command();
    let given = read(&command, &arguments)?.common.config;
    let configured = match config::apply(&command, arguments, given.as_deref()) {
        Ok(configured) => configured,
        Err(error) => return Ok(Err(error)),
    };
    let mut cli = read(&command, &configured.arguments)?;
    cli.saved = configured.filters;
    Ok(Ok(cli))
}

fn read(command: &clap::Command, arguments: &[std::ffi::OsString]) -> Result<cli::Cli, clap::Error> {
    cli::Cli::from_arg_matches(&command.clone().try_get_matches_from(arguments)?)
}

#[expect(clippy::print_stderr, reason = "standard error is where the program talks")]
fn failed(error: &anyhow::Error) -> Exit {
    eprintln!("egress-tui: {error:#}");
    // A file that cannot be read is no mistake of the command line.
    if error.is::<source::replay::ReplayError>() { Exit::Cluster } else { Exit::Usage }
}
