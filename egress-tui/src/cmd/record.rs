//! `record`: observe, keep everything, say how much.

use super::complain;
use super::gate::Gate;
use super::observe::{self, Wanted};
use crate::cli::{Common, Record, Tapes};
use crate::exit::Exit;

/// Runs the verb.
pub async fn run(common: &Common, tapes: &Tapes, options: &Record) -> anyhow::Result<Exit> {
    if !tapes.replay.is_empty() {
        complain("record writes what the kernel shows; --replay has nothing to add (copy the file instead)");
        return Ok(Exit::Usage);
    }
    let tapes = Tapes { record: Some(options.file.clone()), ..tapes.clone() };
    let mut observation = observe::start(common, &tapes, Wanted::default()).await?;
    let stopped = observation.wait_until(options.duration, |_| false).await?;
    let ended = observation.stop().await?;
    let written = ended.written.unwrap_or_default();
    let files = if written.files == 1 { String::new() } else { format!(" in {} files", written.files) };
    complain(&format!(
        "{} flows, {} events lost, {} bytes{files}: {}",
        ended.world.flows.len(),
        ended.world.coverage.lost_total(),
        written.bytes,
        egress_core::name::printable(&options.file.display().to_string())
    ));
    // A signal is how a recording without an end is ended.
    let stopped = if options.duration.is_none() && stopped == Exit::Signal(2) { Exit::Done } else { stopped };
    Ok(stopped.or(ended.sources).or(Gate::default().exit(&ended.world)))
}
