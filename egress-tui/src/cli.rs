//! The command line: types for clap, and nothing else.

use std::path::PathBuf;
use std::time::Duration;

use egress_core::filter::{Filter, FilterError};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// What leaves this node, and does it go through the egress gateway?
#[derive(Debug, Parser)]
#[command(name = "egress-tui", version, about, after_help = EXIT_CODES, propagate_version = true)]
pub struct Cli {
    /// What to do; `top` on a terminal.
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// Options that every verb has.
    #[command(flatten)]
    pub common: Common,
    /// Recordings.
    #[command(flatten)]
    pub tapes: Tapes,
    /// Options of the dashboard.
    #[command(flatten)]
    pub screen: Screen,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 2 wrong usage; 3 cannot capture; 4 cannot read the cluster or the files; \
5 answered but incomplete (incomplete[] says why); 129, 130, 143 signals.";

/// Options that every verb has.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Mesh objects from YAML or JSON files or folders (repeatable)
    #[arg(long, value_name = "PATH", global = true)]
    pub mesh: Vec<PathBuf>,
    /// The Node object that this machine is (default: its host name)
    #[arg(long, value_name = "NAME", global = true)]
    pub node: Option<String>,
    /// The proc file system to read, for containers
    #[arg(long, value_name = "DIR", default_value = "/proc", global = true)]
    pub proc: PathBuf,
    /// Where hooks attach and below which pods are resolved (default: the cgroup2 mount)
    #[arg(long, value_name = "DIR", global = true)]
    pub cgroup_root: Option<PathBuf>,
    /// Size of each ring buffer between kernel and program, in bytes (a power of two)
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20, value_parser = ring_bytes, global = true)]
    pub ring_bytes: u32,
    /// Renamed into place as JSON when every hook that can be attached is, and the mesh is loaded
    #[arg(long, value_name = "PATH", global = true)]
    pub ready_file: Option<PathBuf>,
    /// Semantics of that Istio release (default: the newest known)
    #[arg(long, value_name = "VERSION", global = true)]
    pub istio_version: Option<String>,
    /// A feature switch of istiod's environment (repeatable)
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    pub istiod_env: Vec<String>,
}

/// Where observations come from, and where they are kept.
#[derive(Debug, Clone, Args)]
pub struct Tapes {
    /// Observations from recordings instead of the kernel (repeatable: several nodes are joined on the clock)
    #[arg(long, value_name = "FILE", global = true, conflicts_with_all = ["record", "cgroup_root"])]
    pub replay: Vec<PathBuf>,
    /// How fast a recording plays: a factor, or max (default: 1 on a screen, max elsewhere)
    #[arg(long, value_name = "FACTOR", value_parser = speed, global = true)]
    pub speed: Option<Speed>,
    /// Play up to there at full speed first: a span from the beginning
    #[arg(long, value_name = "TIME", value_parser = duration, global = true)]
    pub seek: Option<Duration>,
    /// Keep observations and objects in this file; it must not exist yet
    #[arg(long, value_name = "FILE", global = true)]
    pub record: Option<PathBuf>,
    /// Begin a new file when one has this many bytes; the old one gets .1 behind its name
    #[arg(long, value_name = "BYTES", value_parser = size, global = true)]
    pub rotate_size: Option<u64>,
    /// Begin a new file after this time
    #[arg(long, value_name = "TIME", value_parser = duration, global = true)]
    pub rotate_every: Option<Duration>,
    /// How many old files stay
    #[arg(long, value_name = "N", default_value_t = 24, global = true)]
    pub keep: u32,
}

/// How fast a recording plays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// Times as fast as it was.
    Times(f64),
    /// As fast as it can be read.
    Max,
}

fn speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    let times = text.trim_end_matches('x').parse::<f64>().ok().filter(|t| t.is_finite() && *t > 0.0);
    times.map(Speed::Times).ok_or_else(|| format!("'{text}' is no speed; write 1, 0.5, 10 or max"))
}

fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => 0,
    };
    let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).filter(|n| *n >= 65_536);
    bytes.ok_or_else(|| format!("'{text}' is no size of a file; write 64K or more, as 100M or 1G"))
}

/// Options of the dashboard.
#[derive(Debug, Clone, Args)]
pub struct Screen {
    /// When to use colour
    #[arg(long, value_enum, default_value_t = When::Auto, global = true)]
    pub color: When,
    /// Draw with ASCII only
    #[arg(long, global = true)]
    pub ascii: bool,
    /// Show only flows that fulfil it, as the dashboard's / does: is:problem ns:pay -port:53
    #[arg(long, value_name = "FILTER", value_parser = filter, global = true)]
    pub filter: Option<Filter>,
}

fn filter(text: &str) -> Result<Filter, FilterError> {
    Filter::parse(text)
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// Always.
    Always,
    /// As the terminal and `NO_COLOR` say.
    Auto,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// The dashboard: flows as they happen, judged
    Top,
    /// Observe for a while and print what was seen as one document
    Snapshot(Snapshot),
    /// Play a recording of the lab that is part of this program: no rights, cluster or network needed
    Demo,
    /// Observe and keep everything in a file, to be replayed and judged anew later
    Record(Record),
    /// What Istio's configuration says must happen to each of a list of connections
    Explain(Explain),
}

/// Options of `snapshot`.
#[derive(Debug, Clone, Args)]
pub struct Snapshot {
    /// How long to observe, counted from the moment of --ready-file [default: 10s; with --replay: all of it]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Form::Json)]
    pub output: Form,
    /// One item per connection instead of one per flow
    #[arg(long)]
    pub each: bool,
    /// Print the JSON Schema of the document and end
    #[arg(long)]
    pub schema: bool,
}

/// Options of `record`.
#[derive(Debug, Clone, Args)]
pub struct Record {
    /// The file; it must not exist yet
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How long to observe [default: until a signal]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
}

/// Forms of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// One JSON document.
    Json,
    /// One flow a line.
    Jsonl,
    /// The same columns, flattened.
    Csv,
}

/// Options of `explain`.
#[derive(Debug, Clone, Args)]
pub struct Explain {
    /// Connections to explain: one JSON object a line; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub calls: Option<PathBuf>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Lines::Jsonl)]
    pub output: Lines,
    /// Explain a reason code instead
    #[arg(long, value_name = "CODE", conflicts_with = "calls")]
    pub code: Option<String>,
}

/// Forms of `explain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Lines {
    /// One answer a line.
    Jsonl,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration =
        text.parse().map_err(|_| format!("'{text}' is no time; write 500ms, 10s, 5m or 1h"))?;
    Duration::try_from(parsed).map_err(|_| "a time before now is not possible".to_owned())
}

fn ring_bytes(text: &str) -> Result<u32, String> {
    let bytes: u32 = text.parse().map_err(|_| format!("'{text}' is no number of bytes"))?;
    let fits = bytes.is_power_of_two() && (4096..=1 << 30).contains(&bytes);
    fits.then_some(bytes).ok_or_else(|| "a power of two from 4096 to 1073741824 is needed".to_owned())
}
