//! Runs plays and says what came of them.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::lab::client::Outcome;
use crate::lab::node::Ready;

/// Runs one; an error if the client did not get what it should.
pub(crate) fn play(ready: &Ready) -> Result<()> {
    let Some(rules) = &ready.early else { return one(ready) };
    rules.lift()?;
    let played = one(ready);
    rules.write()?;
    played
}

fn one(ready: &Ready) -> Result<()> {
    let (program, arguments) = ready.command.split_first().context("an empty command")?;
    let out = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
    let talk = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        bail!("{}: {} {}", ready.pod, out.status, talk.trim());
    }
    let outcome: Outcome = serde_json::from_slice(&out.stdout)
        .with_context(|| format!("{}: {:?} {talk}", ready.pod, String::from_utf8_lossy(&out.stdout)))?;
    let wrong = if ready.fails { outcome.ok } else { outcome.failed };
    if wrong > 0 {
        let got = if ready.fails { "got an answer".to_owned() } else { outcome.error.unwrap_or_default() };
        bail!("{}: {wrong} of {}: {got}", ready.pod, ready.count);
    }
    Ok(())
}

/// Runs all, in order.
pub(crate) fn all(plays: &[Ready]) -> Result<()> {
    plays.iter().try_for_each(play)
}
