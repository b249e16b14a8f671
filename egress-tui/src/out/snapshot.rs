//! `egress-tui.snapshot/v1` (design §7.2). Absent is null; fields are only ever added.

use std::collections::BTreeMap;

use egress_core::filter::Filter;
use egress_core::mesh;
use egress_core::verdict::{Class, Judgement, Reason, Severity, Step, Verdict};
use egress_core::world::{self, World};
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

impl Document {
    /// The world as a document. A filter chooses items; totals are always of everything.
    pub fn new(world: &World, items: Items, filter: Option<&Filter>) -> Self {
        let mut totals = Totals { connections: 0, by_class: BTreeMap::new(), by_verdict: BTreeMap::new() };
        for class in Class::ALL {
            totals.by_class.insert(class.as_str(), 0);
        }
        for flow in &world.flows {
            totals.connections += flow.connections;
            *totals.by_class.entry(flow.class().as_str()).or_default() += flow.connections;
            *totals.by_verdict.entry(flow.verdict().as_str()).or_default() += flow.connections;
        }
        let flows = match items {
            Items::Flows => &world.flows,
            Items::Each => &world.each,
        };
        Self {
            schema: SCHEMA,
            tool: Tool::here(),
            node: world.node.to_string(),
            cluster: world.cluster.as_ref().map(ToString::to_string),
            started: world.started.rfc3339(),
            ended: world.now.rfc3339(),
            coverage: Coverage::from(world),
            incomplete: world.incomplete.iter().map(Incomplete::from).collect(),
            totals,
            filter: filter.map(|f| f.text().to_owned()),
            flows: flows
                .iter()
                .filter(|flow| filter.is_none_or(|f| f.accepts(flow, world.now)))
                .map(|f| Flow::from(&**f))
                .collect(),
            findings: Vec::new(),
        }
    }
}

impl From<&World> for Coverage {
    fn from(world: &World) -> Self {
        let coverage = &world.coverage;
        let age = (world.now.0 - coverage.mesh_at.0).max(0);
        let source = match (coverage.mesh.kind.as_str(), coverage.mesh.place.as_str()) {
            ("" | "none", _) => "none".to_owned(),
            (kind, "") => kind.to_owned(),
            (kind, place) => format!("{kind} {place}"),
        };
        Self {
            nodes: Nodes { observed: coverage.nodes_observed, total: coverage.nodes_total },
            capture: Capture {
                tier: coverage.capture.tier.to_string(),
                cgroup_root: coverage.capture.cgroup_root.to_string(),
                hooks: coverage
                    .capture
                    .hooks
                    .iter()
                    .map(|h| Hook {
                        name: h.name.to_string(),
                        attached: h.why.is_none(),
                        why: h.why.as_ref().map(ToString::to_string),
                    })
                    .collect(),
            },
            lost: Lost {
                total: coverage.lost_total(),
                by_stage: coverage.lost.iter().map(|(stage, n)| (stage.to_string(), *n)).collect(),
            },
            mesh: Mesh {
                source,
                generation: coverage.mesh_generation,
                age_seconds: age as f64 / 1e9,
                objects: coverage.mesh.objects,
                skipped: coverage.mesh.skipped.iter().map(ToString::to_string).collect(),
                stale: coverage
                    .cluster
                    .as_ref()
                    .and_then(|c| c.stale.as_ref())
                    .map(|(since, why)| Stale { since: since.rfc3339(), why: why.to_string() }),
            },
        }
    }
}

impl From<&world::Incomplete> for Incomplete {
    fn from(missing: &world::Incomplete) -> Self {
        Self { what: missing.what.clone(), affects: missing.affects.clone(), fix: missing.fix.clone() }
    }
}

impl From<&world::Flow> for Flow {
    fn from(flow: &world::Flow) -> Self {
        let judgement: &Judgement = &flow.judgement;
        Self {
            id: flow.id.to_string(),
            source: Source::from(&flow.source),
            destination: Destination::from(&flow.destination),
            protocol: flow.protocol.as_str(),
            l7: flow.l7,
            leg: flow.leg.as_str(),
            path: flow.path.iter().map(Hop::from).collect(),
            verdict: judgement.verdict.as_str(),
            class: judgement.verdict.class().as_str(),
            severity: judgement.severity.as_str(),
            reason: judgement.reason().code(),
            reasons: judgement.reasons.iter().map(|r| r.code()).collect(),
            why: judgement.why.clone(),
            chain: judgement.chain.iter().map(Because::from).collect(),
            expected: flow.expected.as_deref().map(Expected::from),
            changed: flow.rejudged.as_deref().and_then(changed),
            stale: flow.stale,
            connections: flow.connections,
            open: flow.open,
            failures: flow.failures,
            bytes_sent: flow.bytes_sent,
            bytes_received: flow.bytes_received,
            rtt_micros: flow.rtt_micros,
            retransmits: flow.retransmits,
            first_seen: flow.first_seen.rfc3339(),
            last_seen: flow.last_seen.rfc3339(),
            community_id: flow.community_id.as_ref().map(ToString::to_string),
        }
    }
}

fn changed(rejudged: &world::Rejudged) -> Option<Changed> {
    let field = |c: &world::ObjectChange| (!c.what.field.is_empty()).then(|| c.what.field.to_string());
    let object = |c: &world::ObjectChange| ChangedObject {
        object: c.what.object.to_string(),
        field: field(c),
        how: c.what.how.as_str(),
    };
    Some(Changed {
        at: rejudged.by.first()?.at.rfc3339(),
        was: rejudged.was.as_str(),
        reason: rejudged.was_reason.code(),
        objects: rejudged.by.iter().map(|c| object(c)).collect(),
    })
}

impl From<&world::Source> for Source {
    fn from(source: &world::Source) -> Self {
        Self {
            namespace: source.namespace.as_ref().map(ToString::to_string),
            pod: source.pod.as_ref().map(ToString::to_string),
            pod_uid: source.pod_uid.as_ref().map(ToString::to_string),
            workload: source
                .workload
                .as_ref()
                .map(|w| Workload { kind: w.kind.to_string(), name: w.name.name.to_string() }),
            container: source.container.as_ref().map(ToString::to_string),
            service_account: source.service_account.as_ref().map(ToString::to_string),
            process: source.process.as_ref().map(|p| Process { pid: p.pid, comm: p.comm.to_string(), uid: p.uid }),
            ip: source.ip.map(|ip| ip.to_string()),
            node: source.node.to_string(),
            labels: source.labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            evidence: source.evidence.as_str(),
        }
    }
}

impl From<&world::Destination> for Destination {
    fn from(destination: &world::Destination) -> Self {
        let name = &destination.name;
        let host = name.host.as_ref().map(ToString::to_string);
        Self {
            ip: destination.ip.to_string(),
            port: destination.port,
            host: host.clone(),
            name: Name {
                value: host,
                source: name.source.as_str(),
                confidence: name.confidence(),
                age_seconds: name.age_nanos.map(|n| n as f64 / 1e9),
                candidates: name.candidates.iter().map(ToString::to_string).collect(),
            },
        }
    }
}

impl From<&world::Hop> for Hop {
    fn from(hop: &world::Hop) -> Self {
        Self {
            role: hop.role,
            pod: hop.pod.as_ref().map(ToString::to_string),
            from: hop.from.map(|a| a.to_string()),
            to: hop.to.to_string(),
            evidence: hop.evidence.as_str(),
        }
    }
}

impl From<&Step> for Because {
    fn from(step: &Step) -> Self {
        Self {
            claim: step.claim,
            outcome: step.mark.as_str(),
            object: step.object.as_ref().map(ToString::to_string),
            field: step.field.as_ref().map(ToString::to_string),
            says: step.says.to_string(),
        }
    }
}

impl From<&mesh::Expected> for Expected {
    fn from(expected: &mesh::Expected) -> Self {
        Self {
            outcome: expected.outcome.as_str(),
            cluster: expected.cluster.as_ref().map(ToString::to_string),
            response: expected.response,
            gateway: expected.gateway.as_ref().map(ToString::to_string),
            next: expected.next.as_ref().map(|next| Next {
                kind: next.kind.as_str(),
                host: next.host.as_ref().map(ToString::to_string),
                port: next.port,
            }),
            leg2: expected.leg2.as_deref().map(|leg2| Box::new(Self::from(leg2))),
            registration: expected.registration.as_str(),
            certainty: expected.certainty.as_str(),
            alternatives: expected.alternatives.iter().map(ToString::to_string).collect(),
        }
    }
}
