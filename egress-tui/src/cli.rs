//! The command line: types for clap, and nothing else.

use std::path::PathBuf;
use std::time::Duration;

use crate::cmd::gate::Gate;

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
    /// Filters of the configuration, by name.
    #[arg(skip)]
    pub saved: Vec<(String, String)>,
    /// Recordings.
    #[command(flatten)]
    pub tapes: Tapes,
    /// Options of the dashboard.
    #[command(flatten)]
    pub screen: Screen,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 --fail-on found something; 2 wrong usage; 3 cannot capture; 4 cannot read the cluster or the files; \
5 answered but incomplete (incomplete[] says why); 129, 130, 143 signals.";

/// Options that every verb has.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Mesh objects from YAML or JSON files or folders (repeatable)
    #[arg(long, value_name = "PATH", env = "EGRESS_TUI_MESH", global = true)]
    pub mesh: Vec<PathBuf>,
    /// Mesh objects from the cluster of this kubeconfig (default: as kubectl has it; in a pod, its service account)
    #[arg(long, value_name = "FILE", env = "EGRESS_TUI_KUBECONFIG", global = true, conflicts_with = "mesh")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME", env = "EGRESS_TUI_CONTEXT", global = true, conflicts_with = "mesh")]
    pub context: Option<String>,
    /// Flows of this namespace only; for explain, the namespace of a --from without one
    #[arg(short, long, value_name = "NAME", env = "EGRESS_TUI_NAMESPACE", global = true)]
    pub namespace: Option<String>,
    /// Flows of all namespaces, which is the default
    #[arg(short = 'A', long, global = true, overrides_with = "namespace")]
    pub all_namespaces: bool,
    /// The Node object that this machine is (default: its host name)
    #[arg(long, value_name = "NAME", env = "EGRESS_TUI_NODE", global = true)]
    pub node: Option<String>,
    /// The proc file system to read, for containers
    #[arg(long, value_name = "DIR", default_value = "/proc", env = "EGRESS_TUI_PROC", global = true)]
    pub proc: PathBuf,
    /// Where hooks attach and below which pods are resolved (default: the cgroup2 mount)
    #[arg(long, value_name = "DIR", env = "EGRESS_TUI_CGROUP_ROOT", global = true)]
    pub cgroup_root: Option<PathBuf>,
    /// Size of each ring buffer between kernel and program, in bytes (a power of two)
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20, value_parser = ring_bytes, env = "EGRESS_TUI_RING_BYTES", global = true)]
    pub ring_bytes: u32,
    /// Renamed into place as JSON when every hook that can be attached is, and the mesh is loaded
    #[arg(long, value_name = "PATH", global = true)]
    pub ready_file: Option<PathBuf>,
    /// Semantics of that Istio release (default: the newest known)
    #[arg(long, value_name = "VERSION", env = "EGRESS_TUI_ISTIO_VERSION", global = true)]
    pub istio_version: Option<String>,
    /// Configuration file instead of the user's and the system's
    #[arg(long, value_name = "FILE", env = "EGRESS_TUI_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    /// A feature switch of istiod's environment (repeatable)
    #[arg(long, value_name = "KEY=VALUE", env = "EGRESS_TUI_ISTIOD_ENV", global = true)]
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
    #[arg(long, value_enum, default_value_t = When::Auto, env = "EGRESS_TUI_COLOR", global = true)]
    pub color: When,
    /// Draw with ASCII only
    #[arg(long, env = "EGRESS_TUI_ASCII", global = true)]
    pub ascii: bool,
    /// Show only flows that fulfil it, as the dashboard's / does: is:problem ns:pay -port:53
    #[arg(long, value_name = "FILTER", env = "EGRESS_TUI_FILTER", global = true)]
    pub filter: Option<String>,
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
    /// One plain line for every new or changed problem (or for what --filter chooses)
    Watch(Watch),
    /// Observe for a while and print what was seen as one document
    Snapshot(Snapshot),
    /// Play a recording of the lab that is part of this program: no rights, cluster or network needed
    Demo,
    /// What this machine lets the program see, what is missing, what still works, what to do
    Doctor(Doctor),
    /// Values of the configuration files and where each comes from
    Config(Config),
    /// Completions for a shell, on standard output
    Completions(Completions),
    /// The manual page, on standard output: | man -l -
    Man(Man),
    /// Observe and keep everything in a file, to be replayed and judged anew later
    Record(Record),
    /// Print what runs the program on the nodes of a cluster: an account that only reads, and a DaemonSet
    Manifests(Manifests),
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
    /// When to fail.
    #[command(flatten)]
    pub gate: Gate,
    /// Print the JSON Schema of the document and end
    #[arg(long)]
    pub schema: bool,
}

/// Options of `watch`.
#[derive(Debug, Clone, Args)]
pub struct Watch {
    /// How long to observe [default: until a signal; with --replay: all of it]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// End after so many lines
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = WatchForm::Text)]
    pub output: WatchForm,
    /// When to fail.
    #[command(flatten)]
    pub gate: Gate,
}

/// Options of `doctor`.
#[derive(Debug, Clone, Args)]
pub struct Doctor {
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = DoctorForm::Text)]
    pub output: DoctorForm,
}

/// Forms of `doctor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DoctorForm {
    /// One finding a line.
    Text,
    /// A list of findings.
    Json,
}

/// Options of `config`.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Print a commented file to start from
    #[arg(long)]
    pub template: bool,
}

/// Options of `manifests`.
#[derive(Debug, Clone, Args)]
pub struct Manifests {
    /// On which nodes: gateway (label node-role.kubernetes.io/egress), all, or those with a label KEY=VALUE
    #[arg(long, value_name = "NODES", default_value = "gateway")]
    pub nodes: String,
    /// The image that a build of the Containerfile was pushed as
    #[arg(long, value_name = "IMAGE", default_value = concat!("egress-tui:", env!("CARGO_PKG_VERSION")))]
    pub image: String,
    /// A revision of the control plane, whose ConfigMap istio-REVISION is read too (repeatable)
    #[arg(long, value_name = "REVISION")]
    pub revision: Vec<String>,
    /// Write a Helm chart into this folder instead
    #[arg(long, value_name = "DIR", conflicts_with = "kustomize")]
    pub helm: Option<PathBuf>,
    /// Write a folder for kustomize instead
    #[arg(long, value_name = "DIR")]
    pub kustomize: Option<PathBuf>,
    /// Ask the cluster whether it would take them, as a dry run; needs the rights of whoever installs them
    #[arg(long, conflicts_with_all = ["helm", "kustomize"])]
    pub check: bool,
}

/// Options of `completions`.
#[derive(Debug, Clone, Args)]
pub struct Completions {
    /// For which shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// Options of `man`.
#[derive(Debug, Clone, Args)]
pub struct Man {
    /// The page of that verb instead of the whole program's
    #[arg(value_name = "VERB")]
    pub verb: Option<String>,
}

/// Forms of `watch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WatchForm {
    /// A sentence a line.
    Text,
    /// A JSON object a line.
    Jsonl,
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
#[command(group(clap::ArgGroup::new("what").args(["flow", "from", "calls", "code"]).required(true)))]
pub struct Explain {
    /// A flow that was seen: the beginning of its id, with --replay or live
    #[arg(value_name = "FLOW")]
    pub flow: Option<String>,
    /// The pod that would connect: NAMESPACE/POD
    #[arg(long, value_name = "NAMESPACE/POD", requires = "to")]
    pub from: Option<String>,
    /// Where to: ADDRESS:PORT or HOST:PORT
    #[arg(long, value_name = "HOST:PORT", requires = "from")]
    pub to: Option<String>,
    /// First bytes: tls, http, http2, opaque, unknown [default: tls on 443, http on 80, else opaque]
    #[arg(long, requires = "from")]
    pub payload: Option<String>,
    /// tcp or udp
    #[arg(long, requires = "from", default_value = "tcp")]
    pub protocol: String,
    /// Server name of the TLS hello [default: the host of --to]
    #[arg(long, requires = "from")]
    pub sni: Option<String>,
    /// Host header [default: the host of --to]
    #[arg(long, requires = "from")]
    pub host: Option<String>,
    /// Path of the request
    #[arg(long, requires = "from")]
    pub path: Option<String>,
    /// The container that connects
    #[arg(long, requires = "from")]
    pub container: Option<String>,
    /// The uid of the process
    #[arg(long, requires = "from")]
    pub uid: Option<u32>,
    /// How long to wait for FLOW where it is watched live
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "flow")]
    pub duration: Option<Duration>,
    /// Connections to explain: one JSON object a line; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub calls: Option<PathBuf>,
    /// Form of the output [default: text; jsonl with --calls]
    #[arg(short, long, value_enum)]
    pub output: Option<Lines>,
    /// Explain a reason code instead
    #[arg(long, value_name = "CODE")]
    pub code: Option<String>,
}

/// Forms of `explain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Lines {
    /// For people.
    Text,
    /// One document.
    Json,
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
