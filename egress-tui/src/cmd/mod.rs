//! One verb per file: wiring between sources, core and outputs.

pub mod demo;
pub mod desk;
pub mod doctor;
pub mod explain;
pub mod gate;
pub mod manifests;
mod objects;
pub mod observe;
pub mod paper;
pub mod record;
pub mod snapshot;
pub mod top;
pub mod watch;
mod why;

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write as _};

use egress_core::filter::{Filter, FilterError};
use egress_core::mesh::MeshOptions;
use egress_core::verdict::Reason;

use crate::cli::{Cli, Common, Explain, Screen, Tapes, Verb, When};
use crate::exit::Exit;
use crate::tui;
use crate::tui::look::ColorChoice;

/// Runs what the command line asks for.
pub async fn run(mut cli: Cli) -> anyhow::Result<Exit> {
    let filter = match filter(&cli) {
        Ok(filter) => filter,
        Err(error) => {
            complain(&error.to_string());
            return Ok(Exit::Usage);
        }
    };
    match cli.verb.take() {
        None | Some(Verb::Top) => top::run(&cli.common, &cli.tapes, &screen(&cli.screen, filter, cli.saved)).await,
        Some(Verb::Watch(options)) => watch::run(&cli.common, &cli.tapes, &options, filter.as_ref()).await,
        Some(Verb::Doctor(options)) => doctor::run(&cli.common, &options).await,
        Some(Verb::Config(options)) => paper::config(&options, &cli),
        Some(Verb::Completions(options)) => paper::completions(&options),
        Some(Verb::Man(options)) => paper::man(&options),
        Some(Verb::Demo) => demo::run(&cli.common, &cli.tapes, &screen(&cli.screen, filter, cli.saved)).await,
        Some(Verb::Snapshot(options)) => snapshot::run(&cli.common, &cli.tapes, &options, filter.as_ref()).await,
        Some(Verb::Record(options)) => record::run(&cli.common, &cli.tapes, &options).await,
        Some(Verb::Manifests(options)) => manifests::run(&cli.common, &options).await,
        Some(Verb::Explain(options)) => explain_verb(&cli.common, &cli.tapes, &options).await,
    }
}

/// `--filter`, which may name saved ones.
fn filter(cli: &Cli) -> Result<Option<Filter>, FilterError> {
    let saved = |name: &str| cli.saved.iter().find(|(n, _)| n == name).map(|(_, text)| text.clone());
    let namespace = cli.common.namespace.as_deref().filter(|_| !cli.common.all_namespaces);
    // A name may hold nothing that the filter's language would read as more than a name.
    let namespace = namespace.map(|name| format!("ns:\"{}\"", name.replace(['"', '\\'], "")));
    let text = match (namespace, cli.screen.filter.as_deref()) {
        (Some(namespace), Some(filter)) => Some(format!("{namespace} ({filter})")),
        (Some(namespace), None) => Some(namespace),
        (None, filter) => filter.map(str::to_owned),
    };
    text.map(|text| Filter::parse_with(&text, &saved)).transpose()
}

/// What the dashboard is told about its screen.
fn screen(screen: &Screen, filter: Option<Filter>, saved: Vec<(String, String)>) -> tui::Options {
    let color = match screen.color {
        When::Always => ColorChoice::Always,
        When::Auto => ColorChoice::Auto,
        When::Never => ColorChoice::Never,
    };
    tui::Options { color, ascii: screen.ascii, filter, saved: saved.into(), ..tui::Options::default() }
}

async fn explain_verb(common: &Common, tapes: &Tapes, options: &Explain) -> anyhow::Result<Exit> {
    let mut out = BufWriter::new(io::stdout().lock());
    if let Some(code) = &options.code {
        let Some(reason) = Reason::parse(code) else {
            complain(&format!("there is no reason code {code}; the nearest is {}", nearest(code)));
            return Ok(Exit::Usage);
        };
        return finish(writeln!(out, "{} ({}): {}", reason.code(), reason.group(), reason.meaning()), Exit::Done);
    }
    if let Some(flow) = &options.flow {
        return why::flow(common, tapes, options, flow).await;
    }
    let objects = match objects::load(common).await? {
        Ok(objects) => objects,
        Err(why) => {
            complain(&why);
            return Ok(Exit::Cluster);
        }
    };
    objects.complain();
    let (mesh, incomplete) = (objects.mesh.clone(), objects.exit());
    let Some(calls) = &options.calls else {
        return Ok(why::call(&mesh, common, options)?.or(incomplete));
    };
    let answered = if calls.as_os_str() == "-" {
        explain::run(&mesh, io::stdin().lock(), &mut out)
    } else {
        match File::open(calls) {
            Ok(file) => explain::run(&mesh, BufReader::new(file), &mut out),
            Err(error) => {
                complain(&format!("cannot read {}: {error}", calls.display()));
                return Ok(Exit::Cluster);
            }
        }
    };
    match answered {
        Ok(explain::Answered::All) => finish(out.flush(), incomplete),
        Ok(explain::Answered::Incomplete) => finish(out.flush(), Exit::Incomplete),
        Err(error) => match error.downcast::<io::Error>() {
            Ok(error) => finish(Err(error), Exit::Done),
            Err(error) => Err(error),
        },
    }
}

/// The code that shares the longest beginning, or the fewest differences.
fn nearest(code: &str) -> &'static str {
    let code = code.to_ascii_uppercase();
    let shared = |r: &&Reason| r.code().bytes().zip(code.bytes()).take_while(|(a, b)| a == b).count();
    Reason::ALL.iter().max_by_key(shared).map_or("", |r| r.code())
}

fn mesh_options(common: &Common) -> anyhow::Result<MeshOptions> {
    let env = common.istiod_env.iter().map(String::as_str);
    Ok(MeshOptions::parse(common.istio_version.as_deref(), env)?)
}

#[expect(clippy::print_stderr, reason = "standard error is where the program talks")]
fn complain(text: &str) {
    eprintln!("egress-tui: {text}");
}

/// A reader that closed the pipe has seen enough.
fn finish(written: io::Result<()>, exit: Exit) -> anyhow::Result<Exit> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(exit),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to standard output")),
        Ok(()) => Ok(exit),
    }
}
