//! The mesh: every object that decides where an outbound connection goes, compiled, indexed and immutable.
//!
//! ```text
//!  raw objects ─▶ object (typed) ─▶ index ─┬─ registry: hostnames, ports, addresses, endpoints
//!                                          ├─ visible: VirtualServices and DestinationRules by who may see them
//!                                          └─ gateways, Sidecars, pods, namespaces
//!  pod ─▶ scope (shared) ─▶ proxy (shared) ─┬─ listener + chain: address, port, SNI, bytes
//!                                           ├─ route: Host, path
//!                                           └─ gateway: the same for gateways' pods
//!  call ─▶ capture ─▶ decide ─▶ Expected
//! ```
//!
//! [`Mesh::expect`] answers, for one connection, what Istio's configuration says must happen, with the objects and
//! fields that decide it. It never looks at what was seen; that is compared in [`crate::verdict`]. Scopes, listeners and route
//! tables are compiled when a pod first needs them, and shared between pods that are alike.

mod allocate;
mod ambient;
mod arrive;
mod ask;
mod authz;
mod bits;
pub mod call;
mod capture;
mod chain;
mod cluster;
mod decide;
mod declared;
mod differ;
pub mod expected;
mod gap;
mod gateway;
mod gatewayapi;
mod host;
mod hosts;
mod index;
mod inside;
mod kept;
mod listener;
mod memo;
mod miss;
mod object;
pub mod options;
mod paged;
mod permit;
pub mod pod;
mod pods;
mod protocol;
mod proxy;
mod reach;
mod register;
mod registry;
mod remark;
mod revisions;
mod roster;
mod route;
mod scope;
mod shared;
mod visible;
pub mod whatif;
mod written;

pub use call::{Bytes, Call, CallLeg};
pub use differ::{Difference, How};
pub use expected::{Certainty, Entry, Expected, Match, Miss, Next, NextKind, Outcome, Owner, Registration, Uncaptured};
pub use kept::Change;
pub use memo::{Asked, Memo};
pub use options::{IstioVersion, MeshOptions, OptionError, Rules};
pub use pod::{Container, ContainerRole, Pod, PodIndex, ProxyKind};
pub use written::Written;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, RwLock};

use arcstr::ArcStr;
use rustc_hash::FxHashMap;

use crate::id::ObjectRef;
use crate::manifest::{self, Origin, Problem, RawObject};
use crate::mesh::index::Index;
use crate::mesh::inside::Inside;
use crate::mesh::kept::Kept;
use crate::mesh::proxy::{Proxy, ProxyKey, Role};
use crate::mesh::roster::Roster;
use crate::mesh::scope::Scope;

/// All objects at one moment.
#[derive(Debug)]
pub struct Mesh {
    /// No other mesh of this process has the same.
    edition: u64,
    index: Index,
    kept: Kept,
    options: MeshOptions,
    problems: Vec<Problem>,
    roster: Arc<Roster>,
    /// Of each VirtualService: some route of it leads to a gateway.
    leading: Box<[bool]>,
    inside: Arc<Inside>,
    /// The proxy of each pod, once it was asked for.
    proxies: Vec<OnceLock<Option<Arc<Proxy>>>>,
    scopes: RwLock<FxHashMap<ScopeKey, Arc<Scope>>>,
    alike: RwLock<FxHashMap<ProxyKey, Arc<Proxy>>>,
}

/// Meshes that this process made.
static EDITIONS: AtomicU64 = AtomicU64::new(1);

/// Namespace, role and Sidecar.
type ScopeKey = (ArcStr, Role, Option<u32>);

/// What an address inside the cluster belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InCluster {
    /// The object; `None` for loopback and link-local.
    pub object: Option<ObjectRef>,
    /// `pod`, `pod-network`, `service`, `node`, `api-server`, `dns`, `loopback`.
    pub what: &'static str,
}

impl Default for Mesh {
    fn default() -> Self {
        Self::compile(&[], &MeshOptions::default())
    }
}

impl Mesh {
    /// Compiles raw objects. Their order does not matter.
    pub fn compile(objects: &[RawObject], options: &MeshOptions) -> Self {
        Self::build(Kept::new(objects), options.clone(), None)
    }

    /// The mesh after some edits: the same as all objects compiled anew. Only the objects of the changes are read, and what hangs on
    /// other kinds than theirs is kept.
    #[must_use]
    pub fn edited(&self, changes: impl IntoIterator<Item = Change>) -> Self {
        Self::build(self.kept.edited(changes), self.options.clone(), Some(self))
    }

    fn build(kept: Kept, options: MeshOptions, before: Option<&Self>) -> Self {
        let (index, unchanged) = Index::new(kept.objects.clone(), &options, before.map(|b| &b.index));
        let roster = before.filter(|_| unchanged.pods);
        let roster = roster.map_or_else(|| Arc::new(Roster::new(&index)), |b| Arc::clone(&b.roster));
        let inside = before.filter(|_| unchanged.registry && unchanged.nodes);
        let inside = inside.map_or_else(|| Arc::new(Inside::new(&index)), |b| Arc::clone(&b.inside));
        Self {
            edition: EDITIONS.fetch_add(1, Ordering::Relaxed),
            problems: kept.problems().into_iter().chain(index.other_settings.iter().cloned()).collect(),
            proxies: roster.pods.iter().map(|_| OnceLock::new()).collect(),
            leading: index.virtual_services.list.iter().map(|vs| roster.leads_to_gateway(vs)).collect(),
            inside,
            roster,
            index,
            kept,
            options,
            scopes: RwLock::default(),
            alike: RwLock::default(),
        }
    }

    /// The pod at this index.
    pub fn pod(&self, index: PodIndex) -> &Pod {
        &self.roster.pods[index.0 as usize]
    }

    /// The pod with this `metadata.uid`.
    pub fn pod_by_uid(&self, uid: &str) -> Option<PodIndex> {
        self.roster.by_uid.get(uid).copied()
    }

    /// The pod that has this address (never one of hostNetwork, never one that has ended).
    pub fn pod_by_ip(&self, ip: IpAddr) -> Option<PodIndex> {
        self.roster.by_ip.get(&ip).copied()
    }

    /// The pod of this name.
    pub fn pod_by_name(&self, namespace: &str, name: &str) -> Option<PodIndex> {
        self.roster.by_name.get(&(namespace.into(), name.into())).copied()
    }

    /// Every pod.
    pub fn pods(&self) -> impl Iterator<Item = PodIndex> + '_ {
        (0..self.roster.pods.len() as u32).map(PodIndex)
    }

    /// Objects that could be used only in part, or not at all, in the order of files and lines.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Where every object stands, in the order of kind, namespace and name. The text of one that no file holds is its JSON.
    pub fn origins(&self) -> impl Iterator<Item = &Origin> {
        self.kept.origins()
    }

    /// Every object by name and group, with where it stands.
    pub(crate) fn named_origins(&self) -> impl Iterator<Item = (&kept::Identity, &Origin)> {
        self.kept.named()
    }

    /// How many objects there are, of any kind.
    pub fn object_count(&self) -> usize {
        self.kept.len()
    }

    /// Node objects.
    pub fn node_count(&self) -> usize {
        self.index.nodes.len()
    }

    /// The release whose rules decide.
    pub fn istio_version(&self) -> IstioVersion {
        self.index.version
    }

    /// The object as it was written, read once more.
    pub(crate) fn raw(&self, object: &ObjectRef) -> Option<RawObject> {
        manifest::read_again(self.kept.origin(object)?)
    }

    /// The text of an object, its file (empty where it comes from an API) and its first line there.
    pub fn object_text(&self, object: &ObjectRef) -> Option<(String, ArcStr, u32)> {
        let origin = self.kept.origin(object)?;
        let (text, line) = manifest::object_text(origin);
        Some((text, origin.file.clone(), line))
    }

    /// The line of a field in its file, or of the nearest field above it that exists.
    pub fn field_line(&self, object: &ObjectRef, field: &str) -> Option<u32> {
        manifest::field_line(self.kept.origin(object)?, field)
    }

    /// The proxy of a pod; `None` where it has none that istiod programs.
    fn proxy(&self, pod: PodIndex) -> Option<&Proxy> {
        self.proxies[pod.0 as usize].get_or_init(|| self.proxy_of(pod)).as_deref()
    }

    fn proxy_of(&self, pod: PodIndex) -> Option<Arc<Proxy>> {
        let record = &self.roster.records[pod.0 as usize];
        let role = match self.pod(pod).proxy {
            ProxyKind::Gateway => Role::Gateway,
            ProxyKind::Waypoint | ProxyKind::Ztunnel => return None,
            ProxyKind::Sidecar | ProxyKind::Ambient | ProxyKind::Host | ProxyKind::None | ProxyKind::Proxyless => {
                Role::Sidecar
            }
        };
        let namespace = self.pod(pod).name.namespace.clone();
        let sidecar =
            (role == Role::Sidecar).then(|| self.index.sidecar_for(&namespace, &self.pod(pod).labels)).flatten();
        let scope = self.scope(&namespace, role, sidecar);
        let labels = self.pod(pod).labels.iter().filter(|l| self.index.matters(l)).cloned().collect();
        let version = record.version.clone().filter(|_| self.index.filters_by_version);
        let allocated = record.uses_allocated;
        let key = ProxyKey { namespace, role, sidecar, labels, allocated, ipv6: record.ipv6, version };
        if role == Role::Gateway {
            // what it listens on depends on the Services that front the pod: each has a proxy of its own
            return Some(Arc::new(Proxy::new(&self.index, key, scope)));
        }
        let known = self.alike.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(&key).cloned();
        Some(known.unwrap_or_else(|| {
            let made = Arc::new(Proxy::new(&self.index, key.clone(), scope));
            let mut map = self.alike.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            map.entry(key).or_insert(made).clone()
        }))
    }

    fn scope(&self, namespace: &ArcStr, role: Role, sidecar: Option<u32>) -> Arc<Scope> {
        let key = (namespace.clone(), role, sidecar);
        let known = self.scopes.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(&key).cloned();
        known.unwrap_or_else(|| {
            let made = Arc::new(match role {
                Role::Sidecar => Scope::of_sidecar(&self.index, namespace, sidecar),
                Role::Gateway => Scope::of_gateway(&self.index, namespace),
            });
            let mut map = self.scopes.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            map.entry(key).or_insert(made).clone()
        })
    }
}
