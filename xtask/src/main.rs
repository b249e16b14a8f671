//! What the repository can do with itself: run the lab, check everything, rebuild the probe.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command for developers: it talks")]

mod apiserver;
mod bpf;
mod check;
mod golang;
mod image;
mod install;
mod lab;
mod lint;
mod oracle;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::apiserver::ApiServer;
use crate::bpf::Bpf;
use crate::image::Image;
use crate::lab::Lab;
use crate::lab::inside::Inside;
use crate::oracle::Oracle;

/// Tasks of the egress-tui workspace
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    Lab(Lab),
    Bpf(Bpf),
    Image(Image),
    #[command(name = "apiserver")]
    ApiServer(ApiServer),
    /// Format, lints, unit, property, scenario, screen, command, live and conformance tests, the BPF object
    Test,
    #[command(subcommand)]
    Oracle(Oracle),
    /// What runs inside of a lab
    #[command(subcommand, hide = true)]
    Inside(Inside),
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Lab(lab) => lab.run(),
        Task::Bpf(bpf) => bpf.run(),
        Task::Image(image) => image.run(),
        Task::ApiServer(server) => server.run(),
        Task::Test => check::run(),
        Task::Oracle(oracle) => oracle.run(),
        Task::Inside(inside) => inside.run().map(|()| 0),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("cargo xtask: {e:#}");
            ExitCode::from(USAGE)
        }
    }
}

/// Usage and configuration (design §7); nothing was found, because nothing was looked at.
const USAGE: u8 = 2;

/// The folder of the workspace.
fn workspace() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or(here.clone(), PathBuf::from)
}
