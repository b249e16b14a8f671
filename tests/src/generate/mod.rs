//! Random meshes and calls for differential testing: what Istio's own code says about them (`cargo xtask oracle eval`) is compared
//! with what the engine says.
//!
//! A mesh has few names, ports and addresses, so that objects meet: the same host in two entries, the same port with two protocols, two
//! Gateways on one pod, rules that differ in one field. Calls are drawn from what the mesh declares and then moved by one step: the
//! next port, a sibling of the name, the address after the range. Objects that Istio's validation refuses are avoided
//! where the rule is simple; `cargo xtask oracle eval` drops the others.
#![allow(
    clippy::needless_pass_by_value,
    clippy::similar_names,
    reason = "objects are made of values that are written down where they are used"
)]

mod calls;
mod chance;
mod cluster;
mod gateway;
mod gateway_api;
mod policy;
mod pools;
mod registry;
mod routing;
mod yaml;

pub use yaml::documents;

use serde_json::{Map, Value, json};

pub use chance::Chance;
use pools::{NAMESPACES, Pools};

/// A mesh and what is asked about it.
#[derive(Debug)]
pub struct Generated {
    /// Objects, in no order.
    pub objects: Vec<Value>,
    /// Lines of `explain --calls`.
    pub calls: Vec<Value>,
    /// Environment of istiod.
    pub features: Map<String, Value>,
    /// What the mesh has most of.
    pub theme: Theme,
}

/// What a mesh has most of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// A bit of each kind.
    Mixed,
    /// Entries that share hosts, ports and addresses.
    Registry,
    /// VirtualServices and DestinationRules that share hosts.
    Routing,
    /// Gateways that share pods and ports; second legs.
    Gateways,
    /// Sidecars and exportTo.
    Visibility,
    /// Gateway API.
    GatewayApi,
    /// Services of every kind beside entries.
    Services,
}

impl Theme {
    const ALL: [Self; 7] = [
        Self::Mixed,
        Self::Registry,
        Self::Routing,
        Self::Gateways,
        Self::Visibility,
        Self::GatewayApi,
        Self::Services,
    ];

    /// How it is written in `case.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mixed => "mixed",
            Self::Registry => "registry",
            Self::Routing => "routing",
            Self::Gateways => "gateways",
            Self::Visibility => "visibility",
            Self::GatewayApi => "gateway-api",
            Self::Services => "services",
        }
    }
}

/// The mesh of a seed, with so many calls.
pub fn mesh(seed: u64, calls: usize) -> Generated {
    let mut chance = Chance::new(seed);
    let theme = Theme::ALL[(seed % 7) as usize];
    let pools = Pools::choose(&mut chance);
    let mut draft = Draft { chance, pools, ..Draft::default() };
    draft.ties = draft.chance.percent(12);
    draft.namespaces();
    draft.mesh_config(theme);
    draft.pods_and_services(theme);
    draft.entries(theme);
    draft.gateways(theme);
    draft.gateway_api(theme);
    draft.routes(theme);
    draft.policies(theme);
    let calls = draft.calls(calls);
    draft.chance.shuffle(&mut draft.objects);
    Generated { objects: draft.objects, calls, features: draft.features, theme }
}

/// A Service that fronts gateway pods.
#[derive(Debug, Clone)]
struct Front {
    namespace: &'static str,
    service: String,
    /// Of the first pod.
    address: String,
    /// Port and targetPort.
    ports: Vec<(u16, u16)>,
    vip: String,
}

impl Front {
    fn host(&self) -> String {
        format!("{}.{}.svc.cluster.local", self.service, self.namespace)
    }
}

/// A plain Service.
#[derive(Debug, Clone)]
struct Plain {
    namespace: &'static str,
    name: String,
    ports: Vec<u16>,
}

impl Plain {
    fn host(&self) -> String {
        format!("{}.{}.svc.cluster.local", self.name, self.namespace)
    }
}

/// One host of a ServiceEntry.
#[derive(Debug, Clone)]
struct Registered {
    namespace: &'static str,
    /// The object.
    entry: String,
    host: String,
    ports: Vec<u16>,
    addresses: Vec<String>,
}

/// A Gateway object and the numbers of its servers' ports.
#[derive(Debug, Clone)]
struct Served {
    namespace: &'static str,
    name: String,
    hosts: Vec<String>,
    ports: Vec<u16>,
}

/// A Gateway API Gateway: its listeners' names, ports and hostnames.
#[derive(Debug, Clone)]
struct KubeGateway {
    namespace: &'static str,
    name: String,
    listeners: Vec<(String, u16, Option<String>)>,
}

/// A path of two legs that was meant to work.
#[derive(Debug, Clone)]
struct Way {
    front: Front,
    /// The port of the Gateway's server.
    server: u16,
    /// `http`, `tls` or `tcp`.
    kind: &'static str,
    entry: Registered,
    /// The entry's port.
    port: u16,
}

impl Way {
    fn payload(&self) -> &'static str {
        match self.kind {
            "http" => "http",
            "tls" => "tls",
            _ => "opaque",
        }
    }

    /// Where the gateway's pod listens for the server.
    fn target(&self) -> u16 {
        self.front.ports.iter().find(|(port, _)| *port == self.server).map_or(self.server, |p| p.1)
    }
}

/// A mesh that is being made.
#[derive(Debug, Default)]
struct Draft {
    chance: Chance,
    pools: Pools,
    objects: Vec<Value>,
    features: Map<String, Value>,
    serial: usize,
    /// Entries may be of one age, and have two addresses.
    ties: bool,
    clients: Vec<(&'static str, &'static str)>,
    services: Vec<Plain>,
    fronts: Vec<Front>,
    entries: Vec<Registered>,
    gateways: Vec<Served>,
    kube_gateways: Vec<KubeGateway>,
    delegates: Vec<(&'static str, String)>,
    ways: Vec<Way>,
    /// Hosts that a VirtualService or a route names: calls ask for them.
    routed: Vec<String>,
}

const ISTIO: &str = "networking.istio.io/v1";

impl Draft {
    fn namespace(&mut self) -> &'static str {
        self.chance.of(&NAMESPACES)
    }

    /// Few days, so that some objects are of the same age. Istio lists Services of one name and age in any order, which leaves
    /// nothing to compare: in most meshes entries are of different ages.
    fn created(&mut self, kind: &str) -> String {
        let minute = if kind == "ServiceEntry" && !self.ties { self.serial % 60 } else { 0 };
        format!("2024-03-{:02}T00:{minute:02}:00Z", self.chance.between(1, 12))
    }

    fn named(&mut self, prefix: &str) -> String {
        self.serial += 1;
        // Names in another order than they are made in: ties are decided by them.
        let letter = self.chance.of(&["a", "m", "z"]);
        format!("{prefix}-{letter}{}", self.serial)
    }

    /// Adds an object; `rest` is `spec`, `status`, `data` and the like.
    fn add(&mut self, api: &str, kind: &str, namespace: Option<&str>, name: &str, metadata: Value, rest: Value) {
        let mut meta = Map::new();
        meta.insert("name".into(), name.into());
        if let Some(namespace) = namespace {
            meta.insert("namespace".into(), namespace.into());
        }
        meta.insert("creationTimestamp".into(), self.created(kind).into());
        let mut object = Map::new();
        object.insert("apiVersion".into(), api.into());
        object.insert("kind".into(), kind.into());
        if let Value::Object(more) = metadata {
            meta.extend(more);
        }
        object.insert("metadata".into(), meta.into());
        if let Value::Object(more) = rest {
            object.extend(more);
        }
        self.objects.push(object.into());
    }

    /// exportTo as one of the forms that validation accepts; absent most of the time.
    fn exported(&mut self, own: &str, spec: &mut Map<String, Value>, share: usize, nobody: bool) {
        if !self.chance.percent(share) {
            return;
        }
        // `.` and the name of the own namespace are duplicates.
        let other = self.chance.of(&NAMESPACES.map(|n| if n == own { "default" } else { n }));
        let list: Vec<&str> = match self.chance.below(if nobody { 7 } else { 6 }) {
            0 => vec!["*"],
            1 | 2 => vec!["."],
            3 => vec![other],
            4 => vec![".", other],
            5 => self.chance.some(&NAMESPACES, 2, 3),
            _ => vec!["~"],
        };
        spec.insert("exportTo".into(), json!(list));
    }
}
