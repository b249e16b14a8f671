//! `egress-tui.snapshot/v1` (design §7.2). Absent is null; fields are only ever added.

mod fill;

use std::collections::BTreeMap;

use egress_core::verdict::{Class, Reason, Severity, Verdict};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

/// Name and version of the document.
pub const SCHEMA: &str = "egress-tui.snapshot/v1";

/// The newest Istio release whose semantics this program knows.
pub const ISTIO_SEMANTICS: &str = "1.31";

/// One observation of one node.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "egress-tui snapshot")]
pub struct Document {
    /// Name and version of this document.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: &'static str,
    /// What made it.
    pub tool: Tool,
    /// The node that was observed.
    pub node: String,
    /// The cluster, where known.
    pub cluster: Option<String>,
    /// When observation began (RFC 3339).
    pub started: String,
    /// When it ended (RFC 3339).
    pub ended: String,
    /// What could be seen and what was lost.
    pub coverage: Coverage,
    /// What is missing, what that affects, what to do.
    pub incomplete: Vec<Incomplete>,
    /// Counts over all flows.
    pub totals: Totals,
    /// What chose the items of `flows`; null: all are there.
    pub filter: Option<String>,
    /// One item per flow, or per connection with `--each`.
    pub flows: Vec<Flow>,
    /// What is wrong with the objects.
    pub findings: Vec<Finding>,
}

/// What made the document.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tool {
    /// `egress-tui`.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The Istio release by whose rules flows were judged.
    pub istio_semantics: &'static str,
}

impl Tool {
    /// This program.
    pub fn here() -> Self {
        Self { name: "egress-tui", version: env!("CARGO_PKG_VERSION"), istio_semantics: ISTIO_SEMANTICS }
    }
}

/// What could be seen and what was lost.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    /// Nodes observed, of nodes known.
    pub nodes: Nodes,
    /// The hooks in the kernel.
    pub capture: Capture,
    /// Events that never arrived.
    pub lost: Lost,
    /// The objects that flows were judged by.
    pub mesh: Mesh,
}

/// Nodes observed, of nodes known.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Nodes {
    /// Observed.
    pub observed: u32,
    /// Known.
    pub total: u32,
}

/// The hooks in the kernel.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capture {
    /// `full`, `reduced` or `none`.
    pub tier: String,
    /// The folder that they are attached to.
    pub cgroup_root: String,
    /// Each hook.
    pub hooks: Vec<Hook>,
}

/// One hook.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Hook {
    /// Name of the BPF program; `sock_diag` or `proc-net` (without bytes and ends) is where connections older than it are found.
    pub name: String,
    /// Whether it is attached.
    pub attached: bool,
    /// Why not.
    pub why: Option<String>,
}

/// Events that never arrived.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lost {
    /// All of them.
    pub total: u64,
    /// By stage.
    pub by_stage: BTreeMap<String, u64>,
}

/// The objects that flows were judged by.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mesh {
    /// `files`, `cluster` or `none`, and where.
    pub source: String,
    /// Counts meshes, from 1.
    pub generation: u64,
    /// How old the newest is.
    pub age_seconds: f64,
    /// How many objects it has.
    pub objects: u32,
    /// Objects and files that could not be used, and why.
    pub skipped: Vec<String>,
    /// Objects may have changed without notice; null: every change is heard of, or they come from files.
    pub stale: Option<Stale>,
}

/// Objects that may have changed without notice.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Stale {
    /// Since when (RFC 3339).
    pub since: String,
    /// Why.
    pub why: String,
}

/// Objects changed, and with them a verdict.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Changed {
    /// When (RFC 3339).
    pub at: String,
    /// The verdict before.
    #[schemars(schema_with = "verdicts")]
    pub was: &'static str,
    /// Its reason.
    #[schemars(schema_with = "reasons")]
    pub reason: &'static str,
    /// The objects.
    pub objects: Vec<ChangedObject>,
}

/// An object that changed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ChangedObject {
    /// `Kind namespace/name`.
    pub object: String,
    /// The first field that differs; null where the whole object was added or removed.
    pub field: Option<String>,
    /// `added`, `changed` or `removed`.
    pub how: &'static str,
}

/// Something that is missing.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Incomplete {
    /// What.
    pub what: String,
    /// What that affects.
    pub affects: String,
    /// What to do.
    pub fix: String,
}

/// Counts over all flows.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Connections.
    pub connections: u64,
    /// By class.
    pub by_class: BTreeMap<&'static str, u64>,
    /// By verdict.
    pub by_verdict: BTreeMap<&'static str, u64>,
}

/// Connections of the same sort.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// Stable across runs on the same node.
    pub id: String,
    /// Who.
    pub source: Source,
    /// Where to.
    pub destination: Destination,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// `tls`, `http`, `http2`, `opaque`, null where no byte was seen.
    pub l7: Option<&'static str>,
    /// Which socket it begins with.
    #[schemars(schema_with = "legs")]
    pub leg: &'static str,
    /// The hops seen, the application's own socket first.
    pub path: Vec<Hop>,
    /// The verdict.
    #[schemars(schema_with = "verdicts")]
    pub verdict: &'static str,
    /// Its class.
    #[schemars(schema_with = "classes")]
    pub class: &'static str,
    /// Its severity.
    #[schemars(schema_with = "severities")]
    pub severity: &'static str,
    /// The deciding reason.
    #[schemars(schema_with = "reasons")]
    pub reason: &'static str,
    /// All reasons, the deciding one first.
    #[schemars(schema_with = "reason_list")]
    pub reasons: Vec<&'static str>,
    /// One sentence that names the deciding object.
    pub why: String,
    /// The steps that led to the verdict.
    pub chain: Vec<Because>,
    /// What the configuration says of a captured connection.
    pub expected: Option<Expected>,
    /// The verdict was another one before objects changed; null: it was not.
    pub changed: Option<Changed>,
    /// Of the connections, how many were judged by objects that may have been out of date.
    pub stale: u64,
    /// Connections.
    pub connections: u64,
    /// Of these, open ones.
    pub open: u64,
    /// Of these, failed ones.
    pub failures: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Latest smoothed round trip.
    pub rtt_micros: Option<u32>,
    /// Retransmitted segments.
    pub retransmits: u64,
    /// First connection (RFC 3339).
    pub first_seen: String,
    /// Latest sign of life (RFC 3339).
    pub last_seen: String,
    /// Community ID v1 (seed 0) of the first connection, as dialled.
    pub community_id: Option<String>,
}

/// Who.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Namespace of the pod.
    pub namespace: Option<String>,
    /// Name of the pod.
    pub pod: Option<String>,
    /// uid of the pod.
    pub pod_uid: Option<String>,
    /// What made the pod.
    pub workload: Option<Workload>,
    /// Name of the container.
    pub container: Option<String>,
    /// Service account.
    pub service_account: Option<String>,
    /// Process of the first connection.
    pub process: Option<Process>,
    /// Source address.
    pub ip: Option<String>,
    /// The node.
    pub node: String,
    /// Labels of the pod.
    pub labels: BTreeMap<String, String>,
    /// `cgroup`, `netns`, `address` or `none`.
    pub evidence: &'static str,
}

/// What made a pod.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Workload {
    /// `Deployment`, …
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// A process.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Process {
    /// Thread group id.
    pub pid: u32,
    /// Name, printable.
    pub comm: String,
    /// Effective uid.
    pub uid: u32,
}

/// Where to.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Destination {
    /// The address that was dialled.
    pub ip: String,
    /// The port.
    pub port: u16,
    /// The name, where one is known.
    pub host: Option<String>,
    /// How it is known.
    pub name: Name,
}

/// A name and its provenance.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Name {
    /// The name.
    pub value: Option<String>,
    /// `sni`, `http`, `dns`, `entry` or `none`.
    pub source: &'static str,
    /// `high`, `medium`, `low` or `none`.
    pub confidence: &'static str,
    /// For `dns`: seconds between the answer and the connection.
    pub age_seconds: Option<f64>,
    /// For `dns`: every name whose answer held the address.
    pub candidates: Vec<String>,
}

/// One socket on the way.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Hop {
    /// `app`, `sidecar`, `gateway`, …
    pub role: &'static str,
    /// The pod that opened it.
    pub pod: Option<String>,
    /// Its own address, as the next hop sees it.
    pub from: Option<String>,
    /// Where it connects to.
    pub to: String,
    /// What joined it to the hop before.
    pub evidence: &'static str,
}

/// One step of a chain.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Because {
    /// What was asked.
    pub claim: &'static str,
    /// `ok`, `no`, `miss`, `decides` or `unknown`.
    pub outcome: &'static str,
    /// `Kind namespace/name` of the object that decided it.
    pub object: Option<String>,
    /// Its field.
    pub field: Option<String>,
    /// A sentence.
    pub says: String,
}

/// What must happen.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Expected {
    /// Of the first hop.
    pub outcome: &'static str,
    /// Envoy's cluster name.
    pub cluster: Option<String>,
    /// Status where no cluster is chosen.
    pub response: Option<u16>,
    /// The gateway's Service, `namespace/name`.
    pub gateway: Option<String>,
    /// What is dialled.
    pub next: Option<Next>,
    /// The same at the gateway's pod.
    pub leg2: Option<Box<Expected>>,
    /// `visible`, `other-port`, `not-visible` or `unregistered`.
    pub registration: &'static str,
    /// How sure.
    pub certainty: &'static str,
    /// Clusters that are allowed, where there are several.
    pub alternatives: Vec<String>,
}

/// What is dialled.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Next {
    /// `dns`, `static`, `original` or `service`.
    pub kind: &'static str,
    /// Name that is resolved, or the Service's host.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
}

/// What is wrong with an object.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Finding {
    /// Code of the rule.
    pub rule: String,
    /// How bad.
    #[schemars(schema_with = "severities")]
    pub severity: &'static str,
    /// The object.
    pub object: FindingObject,
    /// Its field.
    pub field: Option<String>,
    /// The file it came from.
    pub file: Option<String>,
    /// The line.
    pub line: Option<u32>,
    /// What.
    pub message: String,
    /// What follows from it.
    pub consequence: Option<String>,
    /// What to do.
    pub fix: Option<String>,
    /// Flows that it explains.
    pub flows: Vec<String>,
    /// `raised` or `skipped`, with why.
    pub outcome: String,
}

/// The object of a finding.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FindingObject {
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

fn one_of(words: impl Iterator<Item = &'static str>) -> Schema {
    let words: Vec<&str> = words.collect();
    schemars::json_schema!({ "type": "string", "enum": words })
}

fn verdicts(_: &mut SchemaGenerator) -> Schema {
    one_of(Verdict::ALL.iter().map(|v| v.as_str()))
}

fn classes(_: &mut SchemaGenerator) -> Schema {
    one_of(Class::ALL.iter().map(|c| c.as_str()))
}

fn severities(_: &mut SchemaGenerator) -> Schema {
    one_of(Severity::ALL.iter().map(|s| s.as_str()))
}

fn reasons(_: &mut SchemaGenerator) -> Schema {
    one_of(Reason::ALL.iter().map(|r| r.code()))
}

fn reason_list(generator: &mut SchemaGenerator) -> Schema {
    let item = reasons(generator);
    schemars::json_schema!({ "type": "array", "minItems": 1, "items": item })
}

fn legs(_: &mut SchemaGenerator) -> Schema {
    one_of(["app-captured", "app-uncaptured", "proxy", "gateway", "infra", "host"].into_iter())
}

/// Which flows a document lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Items {
    /// One item per flow.
    Flows,
    /// One item per connection.
    Each,
}
