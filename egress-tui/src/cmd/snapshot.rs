//! `snapshot`: observe for a while, print what was seen as one document.

use std::io::{self, BufWriter, Write as _};

use tokio::signal::unix::{SignalKind, signal};

use super::{finish, observe};
use crate::cli::{Common, Form, Snapshot};
use crate::exit::Exit;
use crate::out;
use crate::out::snapshot::{Document, Items};

/// Runs the verb.
pub async fn run(common: &Common, options: &Snapshot) -> anyhow::Result<Exit> {
    if options.schema {
        return finish(out::schema(&mut io::stdout().lock()), Exit::Done);
    }
    let observation = observe::start(common, options.each).await?;
    let mut ended = Exit::Done;
    if observation.captures() {
        ended = wait(options.duration).await?;
    }
    let (world, exit) = observation.stop().await?;
    let items = if options.each { Items::Each } else { Items::Flows };
    let document = Document::new(&world, items);
    let mut stdout = BufWriter::new(io::stdout().lock());
    let written = match options.output {
        Form::Json => out::json(&document, &mut stdout),
        Form::Jsonl => out::jsonl(&document, &mut stdout),
        Form::Csv => out::csv::write(&document, &mut stdout).map_err(io::Error::other),
    };
    finish(written.and_then(|()| stdout.flush()), ended.or(exit))
}

/// The duration, or a signal that ends it early.
async fn wait(duration: std::time::Duration) -> anyhow::Result<Exit> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(tokio::select! {
        () = tokio::time::sleep(duration) => Exit::Done,
        _ = interrupt.recv() => Exit::Signal(2),
        _ = terminate.recv() => Exit::Signal(15),
        _ = hangup.recv() => Exit::Signal(1),
    })
}
