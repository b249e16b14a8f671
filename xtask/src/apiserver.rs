//! `cargo xtask apiserver`: a real API server on this machine, for the tests and for whoever wants to try something.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::golang::Program;
use crate::workspace;

/// Build the tests' Kubernetes API server into the cache (minutes the first time) and print where it is; --dir runs it
#[derive(Debug, Args)]
pub(crate) struct ApiServer {
    /// Run it with its data in this folder, until standard input ends
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// What it says of its own version.
const VERSION: &str = "-s -w -X k8s.io/component-base/version.gitVersion=v1.34.2 \
-X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=34";

impl ApiServer {
    pub(crate) fn run(&self) -> Result<u8> {
        let program = build()?;
        match &self.dir {
            None => println!("{}", program.display()),
            Some(dir) => return Err(Command::new(program).arg("-dir").arg(dir).exec().into()),
        }
        Ok(0)
    }
}

/// The program, built if these sources never were.
pub(crate) fn build() -> Result<PathBuf> {
    Program {
        name: "apiserver",
        sources: workspace().join("tests/apiserver"),
        needs: (1, 26),
        flags: &["-ldflags", VERSION],
        costs: "3 to 8 minutes, once; 2 GB of memory and 2 GB of Go's cache",
    }
    .build()
}
