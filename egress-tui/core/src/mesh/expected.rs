//! The answer: what must happen, and which objects and fields say so.

use arcstr::ArcStr;

use crate::id::{NamespacedName, ObjectRef};
use crate::verdict::{Mark, Reason, Says, Step};

/// What the first hop does (design §7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// outboundTrafficPolicy lets it pass to where it was going.
    Passthrough,
    /// outboundTrafficPolicy (or another policy) stops it.
    Blocked,
    /// Straight to a registered external destination.
    Direct,
    /// To a gateway's pods.
    ViaGateway,
    /// To a waypoint's pods.
    ViaWaypoint,
    /// To another Service or entry of the mesh.
    InMesh,
    /// To whatever the name resolves to (dynamic forward proxy).
    Dynamic,
    /// Nowhere.
    Broken,
    /// The proxy answers itself (redirect, direct response).
    Answered,
    /// The proxy does not get it.
    NotCaptured,
    /// Loopback, the proxy's own port and the like.
    NotApplicable,
    /// Not modelled; `because` says what is missing.
    Unknown,
}

impl Outcome {
    /// The spelling in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passthrough => "passthrough",
            Self::Blocked => "blocked",
            Self::Direct => "direct",
            Self::ViaGateway => "via-gateway",
            Self::ViaWaypoint => "via-waypoint",
            Self::InMesh => "in-mesh",
            Self::Dynamic => "dynamic",
            Self::Broken => "broken",
            Self::Answered => "answered",
            Self::NotCaptured => "not-captured",
            Self::NotApplicable => "not-applicable",
            Self::Unknown => "unknown",
        }
    }
}

/// Whether the destination is registered for this workload, independent of routing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Registration {
    /// Host (or address) and port are, and this workload sees it.
    Visible,
    /// The host is and is visible, the port is not.
    OtherPort,
    /// An entry exists that this workload does not see.
    NotVisible,
    /// Nothing knows it.
    Unregistered,
}

impl Registration {
    /// The spelling in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Visible => "visible",
            Self::OtherPort => "other-port",
            Self::NotVisible => "not-visible",
            Self::Unregistered => "unregistered",
        }
    }
}

/// How sure the answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Certainty {
    /// Nothing that could change it is open.
    Exact,
    /// The server name would decide.
    NeedsSni,
    /// The Host header would decide.
    NeedsHost,
    /// Path, method or headers would decide.
    NeedsL7,
    /// What a name resolves to would decide.
    NeedsDns,
    /// An EnvoyFilter may have changed it.
    EnvoyFilterTainted,
}

impl Certainty {
    /// The spelling in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::NeedsSni => "needs-sni",
            Self::NeedsHost => "needs-host",
            Self::NeedsL7 => "needs-l7",
            Self::NeedsDns => "needs-dns",
            Self::EnvoyFilterTainted => "envoyfilter-tainted",
        }
    }
}

/// How the next hop is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NextKind {
    /// The proxy resolves a name.
    Dns,
    /// Endpoints stand in the entry.
    Static,
    /// The address that the application dialled.
    Original,
    /// Pods of a Service.
    Service,
}

impl NextKind {
    /// The spelling in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Static => "static",
            Self::Original => "original",
            Self::Service => "service",
        }
    }
}

/// What the proxy dials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// How it is found.
    pub kind: NextKind,
    /// The name that is resolved, or the Service's host.
    pub host: Option<ArcStr>,
    /// The port that is dialled.
    pub port: Option<u16>,
}

/// What the entry that took the connection was chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Match {
    /// Its host is the server name.
    Sni,
    /// Its host is the Host header.
    Host,
    /// The destination is one of its addresses.
    Address,
    /// The destination is in one of its address ranges.
    Cidr,
    /// It has no usable address, so it takes every destination on its port.
    AnyAddress,
}

/// Who owns the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A ServiceEntry with location MESH_EXTERNAL.
    External,
    /// A ServiceEntry with location MESH_INTERNAL.
    Internal,
    /// A Kubernetes Service.
    Service,
}

/// The registry service that took the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The ServiceEntry or Service.
    pub object: ObjectRef,
    /// The field that matched: `.spec.hosts[0]`, `.spec.addresses[1]`, `.spec.ports[0]`.
    pub field: ArcStr,
    /// Its hostname.
    pub host: ArcStr,
    /// Why it was chosen.
    pub by: Match,
    /// Which sort it is.
    pub owner: Owner,
    /// resolution NONE: the proxy dials the address that the application dialled.
    pub original_destination: bool,
}

/// A rule that would have led elsewhere but for one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss {
    /// The one thing.
    pub reason: Reason,
    /// The object.
    pub object: ObjectRef,
    /// Its field.
    pub field: ArcStr,
    /// A sentence.
    pub says: Says,
    /// The gateway that the rule leads to, if it leads to one.
    pub gateway: Option<NamespacedName>,
}

/// Why the proxy does not get a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncaptured {
    /// The rule of interception that decides.
    pub reason: Reason,
    /// The object whose field says so.
    pub object: Option<ObjectRef>,
    /// The field.
    pub field: Option<ArcStr>,
    /// A sentence.
    pub says: Says,
}

/// Steps of most answers.
const STEPS: usize = 8;

/// What must happen to one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// What the first hop does.
    pub outcome: Outcome,
    /// Envoy's name of the first hop's cluster.
    pub cluster: Option<ArcStr>,
    /// Status where no cluster is chosen.
    pub response: Option<u16>,
    /// The gateway (or waypoint) that it goes to: `namespace/name` of the Service.
    pub gateway: Option<NamespacedName>,
    /// What is dialled.
    pub next: Option<Next>,
    /// The same at that gateway's pod.
    pub leg2: Option<Box<Expected>>,
    /// Whether it is registered for this workload.
    pub registration: Registration,
    /// How sure.
    pub certainty: Certainty,
    /// Every cluster that is allowed, where there are several; the first is `cluster`.
    pub alternatives: Vec<ArcStr>,
    /// Every outcome that is allowed, where there are several: for verdicts that depend on the class only.
    pub alternative_outcomes: Vec<Outcome>,
    /// The registry service that took it.
    pub entry: Option<Entry>,
    /// A route of a VirtualService or Gateway API route chose the cluster.
    pub routed: Option<(ObjectRef, ArcStr)>,
    /// With `NotCaptured`: why; `then` is what a captured one would get.
    pub uncaptured: Option<Uncaptured>,
    /// With `NotCaptured`: what a captured one would get.
    pub then: Option<Box<Expected>>,
    /// The deciding reason, where the outcome has one of its own (broken, blocked, hidden, wrong protocol, …).
    pub reason: Option<Reason>,
    /// Contributing reasons.
    pub reasons: Vec<Reason>,
    /// Rules and entries that nearly applied, nearest first.
    pub misses: Vec<Miss>,
    /// The steps, in order.
    pub because: Vec<Step>,
}

impl Expected {
    /// An empty answer with this outcome.
    pub fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            cluster: None,
            response: None,
            gateway: None,
            next: None,
            leg2: None,
            registration: Registration::Unregistered,
            certainty: Certainty::Exact,
            alternatives: Vec::new(),
            alternative_outcomes: Vec::new(),
            entry: None,
            routed: None,
            uncaptured: None,
            then: None,
            reason: None,
            reasons: Vec::new(),
            misses: Vec::new(),
            because: Vec::with_capacity(STEPS),
        }
    }

    /// Not decided, because `missing`.
    pub fn unknown(missing: &'static str) -> Self {
        let mut answer = Self::new(Outcome::Unknown);
        answer.reason = Some(Reason::EvidenceMissing);
        answer.because.push(Step::new("model", Mark::Unknown, missing));
        answer
    }
}
