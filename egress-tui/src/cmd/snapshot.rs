//! `snapshot`: observe for a while, print what was seen as one document.

use std::io::{self, BufWriter, Write as _};
use std::time::Duration;

use super::finish;
use egress_core::filter::Filter;

use super::observe::{self, Wanted};
use crate::cli::{Common, Form, Snapshot, Tapes};
use crate::exit::Exit;
use crate::out;
use crate::out::snapshot::{Document, Items};

/// How long a headless verb observes unless told otherwise.
pub(super) const DURATION: Duration = Duration::from_secs(10);

/// Runs the verb.
pub async fn run(common: &Common, tapes: &Tapes, options: &Snapshot, filter: Option<&Filter>) -> anyhow::Result<Exit> {
    if options.schema {
        return finish(out::schema(&mut io::stdout().lock()), Exit::Done);
    }
    let gate = &options.gate;
    let wanted = Wanted { each: options.each, screen: false, duration: options.duration };
    let mut observation = observe::start(common, tapes, wanted).await?;
    let stopped =
        observation.wait_until(Some(options.duration.unwrap_or(DURATION)), |world| gate.is_enough(world)).await?;
    let ended = observation.stop().await?;
    let world = ended.world;
    let items = if options.each { Items::Each } else { Items::Flows };
    let document = Document::new(&world, items, filter);
    let mut stdout = BufWriter::new(io::stdout().lock());
    let written = match options.output {
        Form::Json => out::json(&document, &mut stdout),
        Form::Jsonl => out::jsonl(&document, &mut stdout),
        Form::Csv => out::csv::write(&document, &mut stdout).map_err(io::Error::other),
    };
    finish(written.and_then(|()| stdout.flush()), stopped.or(ended.sources).or(gate.exit(&world)))
}
