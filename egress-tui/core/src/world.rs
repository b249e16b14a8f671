//! Everything at one instant. The TUI, the reports and `explain` render these values; none of them computes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arcstr::ArcStr;
use serde::{Deserialize, Serialize};

use crate::id::{FlowId, ObjectRef, WallTime};
use crate::input::Transport;
use crate::mesh::{Difference, Expected, Mesh};
use crate::name::NameEvidence;
use crate::verdict::{Class, Judgement, Reason, Verdict};

/// Everything at one instant.
#[derive(Debug, Clone)]
pub struct World {
    /// Counts published worlds; unchanged means that nothing changed.
    pub generation: u64,
    /// The node that is observed.
    pub node: ArcStr,
    /// The cluster's name, where known.
    pub cluster: Option<ArcStr>,
    /// When observation began.
    pub started: WallTime,
    /// This instant.
    pub now: WallTime,
    /// What can be seen and what was lost.
    pub coverage: Coverage,
    /// What is missing, what it affects, what to do.
    pub incomplete: Vec<Incomplete>,
    /// All flows, in the order in which they were first seen.
    pub flows: Vec<Arc<Flow>>,
    /// Every connection as a flow of its own (`--each`), if that was asked for.
    pub each: Vec<Arc<Flow>>,
    /// Bytes per second and class, oldest first, at most [`HISTORY_SECONDS`]; `None` is a second that was not observed.
    pub history: Vec<Option<[u64; Class::ALL.len()]>>,
    /// The observations come from a recording.
    pub replayed: bool,
    /// What changed in the objects, oldest first, at most [`MOST_CHANGES`].
    pub changes: Vec<Arc<ObjectChange>>,
    /// The objects that the flows were judged by.
    pub mesh: Arc<Mesh>,
}

/// How many changes of objects a world carries.
pub const MOST_CHANGES: usize = 256;

/// An object changed while it was watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectChange {
    /// When it took effect.
    pub at: WallTime,
    /// Which object, at which field, and how.
    pub what: Difference,
}

impl fmt::Display for ObjectChange {
    /// `changed 2026-09-01T12:00:00Z: VirtualService n/a .spec.tcp[0]`; see [`ObjectChange::told`] for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.what.how.as_str(), self.at.rfc3339(), self.what.place())
    }
}

impl ObjectChange {
    /// `changed 12 s ago: VirtualService n/a .spec.tcp[0]`.
    pub fn told(&self, now: WallTime) -> String {
        let seconds = now.0.saturating_sub(self.at.0).max(0) / 1_000_000_000;
        let age = match seconds {
            0..120 => format!("{seconds} s"),
            120..7_200 => format!("{} min", seconds / 60),
            _ => format!("{} h", seconds / 3_600),
        };
        format!("{} {age} ago: {}", self.what.how.as_str(), self.what.place())
    }
}

/// A verdict that became another one because objects changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejudged {
    /// The verdict before.
    pub was: Verdict,
    /// Its reason.
    pub was_reason: Reason,
    /// What changed; never empty.
    pub by: Vec<Arc<ObjectChange>>,
}

/// How many seconds of history a world carries.
pub const HISTORY_SECONDS: usize = 60;

/// What can be seen and what was lost.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    /// Nodes observed (this one: 1).
    pub nodes_observed: u32,
    /// Nodes of the cluster, at least the observed ones.
    pub nodes_total: u32,
    /// The hooks in the kernel.
    pub capture: Capture,
    /// Events lost by stage.
    pub lost: Vec<(ArcStr, u64)>,
    /// Where the mesh objects come from.
    pub mesh: MeshSource,
    /// When the mesh was read.
    pub mesh_at: WallTime,
    /// Counts meshes, 0 before the first.
    pub mesh_generation: u64,
    /// The cluster that the mesh is read from; `None` for files.
    pub cluster: Option<ClusterState>,
}

impl Coverage {
    /// All lost events.
    pub fn lost_total(&self) -> u64 {
        self.lost.iter().map(|(_, n)| n).sum()
    }
}

/// How the kernel is observed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Capture {
    /// `full`, `reduced` or `none`.
    pub tier: ArcStr,
    /// Each hook, and why not where it is not attached.
    pub hooks: Vec<Hook>,
    /// The cgroup v2 folder that hooks are attached to.
    pub cgroup_root: ArcStr,
}

impl Capture {
    /// How many hooks are attached.
    pub fn attached(&self) -> usize {
        self.hooks.iter().filter(|h| h.why.is_none()).count()
    }
}

/// One hook.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hook {
    /// The BPF program's name; `sock_diag` or `proc-net` is the table where connections older than the programs are found.
    pub name: ArcStr,
    /// Why it is not attached; `None` if it is.
    pub why: Option<ArcStr>,
}

/// Where mesh objects come from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct MeshSource {
    /// `files`, `cluster` or `none`.
    pub kind: ArcStr,
    /// Folder, context, …
    pub place: ArcStr,
    /// How many objects.
    pub objects: u32,
    /// Objects and files that could not be used, each with what is wrong.
    pub skipped: Vec<ArcStr>,
}

/// What is known of the cluster that objects are read from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterState {
    /// Its name: that of the kubeconfig's context.
    pub name: ArcStr,
    /// Since when objects may have changed without notice, and why; `None` while every change is heard of.
    pub stale: Option<(WallTime, ArcStr)>,
    /// What cannot be read.
    pub gaps: Vec<Gap>,
}

/// Objects of a cluster that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Their kind; `all` where there is no cluster.
    pub kind: ArcStr,
    /// What is missing.
    pub missing: Incomplete,
}

/// Something that is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incomplete {
    /// What is missing.
    pub what: String,
    /// What that affects.
    pub affects: String,
    /// What to do about it.
    pub fix: String,
}

/// Which socket a flow begins with (design §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Leg {
    /// The proxy took it.
    AppCaptured,
    /// The proxy did not.
    AppUncaptured,
    /// A sidecar's or ztunnel's own upstream socket.
    Proxy,
    /// A gateway's or waypoint's upstream socket.
    Gateway,
    /// pilot-agent, kubelet, …
    Infra,
    /// No pod.
    Host,
}

impl Leg {
    /// The spelling in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AppCaptured => "app-captured",
            Self::AppUncaptured => "app-uncaptured",
            Self::Proxy => "proxy",
            Self::Gateway => "gateway",
            Self::Infra => "infra",
            Self::Host => "host",
        }
    }
}

/// What joined a hop to the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Joint {
    /// The first hop: the application's own socket.
    Socket,
    /// The first packet's four numbers after NAT, mirrored by the accepted socket; and the same first bytes.
    TupleAndBytes,
    /// The mirrored numbers; the next socket by pod, destination and time: a guess.
    TupleAndWindow,
    /// The same first bytes only.
    Bytes,
    /// Pod, destination and time only: a guess.
    Window,
}

impl Joint {
    /// The spelling in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::TupleAndBytes => "tuple+bytes",
            Self::TupleAndWindow => "tuple+window",
            Self::Bytes => "bytes",
            Self::Window => "window",
        }
    }
}

/// One socket on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// `app`, `sidecar`, `gateway`, `waypoint`, `ztunnel`.
    pub role: &'static str,
    /// The pod that opened the socket, `namespace/name`.
    pub pod: Option<ArcStr>,
    /// The socket's local address (after NAT where the first packet was seen).
    pub from: Option<SocketAddr>,
    /// Where the socket connects to.
    pub to: SocketAddr,
    /// What joined it.
    pub evidence: Joint,
}

/// How a socket was attributed to its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attribution {
    /// The pod's uid in the cgroup path.
    Cgroup,
    /// The network namespace of a known pod.
    Netns,
    /// The source address is the pod's.
    Address,
    /// No pod.
    None,
}

impl Attribution {
    /// The spelling in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Netns => "netns",
            Self::Address => "address",
            Self::None => "none",
        }
    }
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Process {
    /// Thread group id.
    pub pid: u32,
    /// Its name, printable.
    pub comm: ArcStr,
    /// Effective uid.
    pub uid: u32,
}

/// Who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Namespace of the pod.
    pub namespace: Option<ArcStr>,
    /// Name of the pod.
    pub pod: Option<ArcStr>,
    /// uid of the pod.
    pub pod_uid: Option<ArcStr>,
    /// The controller that made the pod.
    pub workload: Option<ObjectRef>,
    /// Name of the container.
    pub container: Option<ArcStr>,
    /// Service account.
    pub service_account: Option<ArcStr>,
    /// The process of the first connection.
    pub process: Option<Process>,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// Its node.
    pub node: ArcStr,
    /// The pod's labels.
    pub labels: Vec<(ArcStr, ArcStr)>,
    /// How it was attributed.
    pub evidence: Attribution,
}

impl Source {
    /// `namespace/workload`, or the process of the host.
    pub fn label(&self) -> String {
        match (&self.workload, &self.namespace, &self.pod, &self.process) {
            (Some(workload), ..) => workload.name.to_string(),
            (None, Some(namespace), Some(pod), _) => format!("{namespace}/{pod}"),
            (.., Some(process)) => format!("(pid {} {})", process.pid, process.comm),
            _ => "(unknown)".to_owned(),
        }
    }
}

/// Where it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The address that the application dialled (the first one, where a flow has several).
    pub ip: IpAddr,
    /// The port.
    pub port: u16,
    /// Its name and how that is known.
    pub name: NameEvidence,
}

impl Destination {
    /// The name, else the address.
    pub fn label(&self) -> String {
        self.name.host.as_ref().map_or_else(|| self.ip.to_string(), ToString::to_string)
    }
}

/// Connections of the same sort: one row.
#[derive(Debug, Clone)]
pub struct Flow {
    /// Stable across runs on the same node.
    pub id: FlowId,
    /// Who.
    pub source: Source,
    /// Where to.
    pub destination: Destination,
    /// TCP or UDP.
    pub protocol: Transport,
    /// `tls`, `http`, `http2`, `tcp`, `udp`, …
    pub l7: Option<&'static str>,
    /// Which socket it begins with.
    pub leg: Leg,
    /// The hops seen, the application's own socket first.
    pub path: Vec<Hop>,
    /// The verdict and why.
    pub judgement: Arc<Judgement>,
    /// What the configuration says of a captured connection; `None` where there is nothing to ask (host processes).
    pub expected: Option<Arc<Expected>>,
    /// The verdict was another one before objects changed.
    pub rejudged: Option<Arc<Rejudged>>,
    /// Of the connections, how many were judged by objects that may have been out of date.
    pub stale: u64,
    /// Connections so far.
    pub connections: u64,
    /// Of these, how many are open.
    pub open: u64,
    /// Of these, how many failed to connect.
    pub failures: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Bytes per second sent, over the last seconds.
    pub sent_per_second: u64,
    /// Bytes per second received, over the last seconds.
    pub received_per_second: u64,
    /// Latest smoothed round trip.
    pub rtt_micros: Option<u32>,
    /// Retransmitted segments.
    pub retransmits: u64,
    /// First connection.
    pub first_seen: WallTime,
    /// Latest sign of life.
    pub last_seen: WallTime,
    /// Community ID v1, seed 0, of the first connection's tuple as dialled.
    pub community_id: Option<ArcStr>,
}

impl Flow {
    /// Changes of the objects that its chain names, the latest first; before all those that changed its verdict.
    pub fn changes<'a>(&'a self, world: &'a World) -> Vec<&'a ObjectChange> {
        let decided = self.rejudged.iter().flat_map(|r| &r.by).map(|c| &**c);
        let mut out: Vec<&ObjectChange> = decided.collect();
        let chain = &self.judgement.chain;
        let named = |object: &ObjectRef| chain.iter().any(|s| s.object.as_ref() == Some(object));
        for change in world.changes.iter().rev().map(|c| &**c).filter(|c| named(&c.what.object)) {
            if !out.contains(&change) {
                out.push(change);
            }
        }
        out
    }

    /// The verdict.
    pub fn verdict(&self) -> Verdict {
        self.judgement.verdict
    }

    /// Its class.
    pub fn class(&self) -> Class {
        self.judgement.verdict.class()
    }

    /// What was spoken: the protocol that the first bytes show, else TCP or UDP.
    pub fn spoken(&self) -> &'static str {
        match self.l7 {
            Some("opaque" | "unknown") | None => self.protocol.as_str(),
            Some(l7) => l7,
        }
    }

    /// What came right after the application's socket, for the `VIA` column: a gateway's pod, `direct`, …
    pub fn via(&self) -> String {
        let gateway = self.path.iter().find(|h| matches!(h.role, "gateway" | "waypoint"));
        match (gateway.and_then(|h| h.pod.as_ref()), self.class()) {
            (Some(pod), _) => pod.rsplit('/').next().unwrap_or(pod).to_owned(),
            (None, Class::Stopped) => "-".to_owned(),
            (None, _) if self.judgement.verdict == Verdict::WrongGateway => "another gateway".to_owned(),
            // the gateway's half is on another node, or a pooled connection of its proxy carried this one
            (None, Class::Gateway) if self.expected.as_ref().is_some_and(|e| e.gateway.is_some()) => {
                let gateway = self.expected.as_ref().and_then(|e| e.gateway.as_ref());
                gateway.map_or_else(String::new, |g| g.name.to_string())
            }
            _ => "direct".to_owned(),
        }
    }
}
