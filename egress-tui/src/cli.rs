//! The command line: types for clap, and nothing else.

use std::path::PathBuf;
use std::time::Duration;

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

/// Options of the dashboard.
#[derive(Debug, Clone, Args)]
pub struct Screen {
    /// When to use colour
    #[arg(long, value_enum, default_value_t = When::Auto, global = true)]
    pub color: When,
    /// Draw with ASCII only
    #[arg(long, global = true)]
    pub ascii: bool,
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
    /// What Istio's configuration says must happen to each of a list of connections
    Explain(Explain),
}

/// Options of `snapshot`.
#[derive(Debug, Clone, Args)]
pub struct Snapshot {
    /// How long to observe, counted from the moment of --ready-file
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub duration: Duration,
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
