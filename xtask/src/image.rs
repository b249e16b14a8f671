//! `cargo xtask image`: the program as one file that needs nothing of the system that it runs on, for the Containerfile.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::tools::cargo;
use crate::workspace;

/// Build the static binary that the Containerfile copies, and print where it is
#[derive(Debug, Args)]
pub(crate) struct Image {}

impl Image {
    #[expect(clippy::unused_self, reason = "a task like the others")]
    pub(crate) fn run(&self) -> Result<u8> {
        println!("{}", build()?.display());
        Ok(0)
    }
}

/// Linked once more from what is built already: only the last step differs.
pub(crate) fn build() -> Result<PathBuf> {
    let place = workspace().join("target/image/egress-tui");
    let mut link = cargo();
    link.args(["rustc", "--release", "--quiet", "--package", "egress-tui", "--bin", "egress-tui", "--"]);
    link.args(["-C", "target-feature=+crt-static"]);
    ensure!(link.status()?.success(), "the static binary does not link");
    fs::create_dir_all(place.parent().context("a folder")?)?;
    let fresh = place.with_extension("new");
    fs::copy(workspace().join("target/release/egress-tui"), &fresh)?;
    fs::rename(&fresh, &place)?;
    // Whoever looks for the program finds the usual one again.
    ensure!(
        cargo().args(["build", "--release", "--quiet", "--package", "egress-tui"]).status()?.success(),
        "cargo build failed"
    );
    Ok(place)
}
