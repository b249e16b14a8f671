//! What the proxies of a namespace know: upstreams and VirtualServices for each egress listener, and the one list of upstreams
//! that clusters are made from (Istio: `model/sidecar.go`). Shared by all proxies with the same namespace and Sidecar.

use std::sync::Arc;

use arcstr::ArcStr;
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use crate::mesh::host;
use crate::mesh::hosts::{Hosts, Places};
use crate::mesh::index::Index;
use crate::mesh::object::virtual_service::MESH;
use crate::mesh::object::{OutboundPolicy, Semantics, Sidecar};
use crate::mesh::protocol::Protocol;
use crate::mesh::registry::{Port, Upstream, UpstreamId};
use crate::mesh::visible::VsId;

/// An upstream in a scope, perhaps with fewer ports or with those of its namesakes.
#[derive(Debug, Clone)]
pub(crate) struct Scoped {
    pub(crate) id: UpstreamId,
    /// Most are as the registry has them.
    changed: Option<Box<Changed>>,
}

/// What a scope changes of an upstream.
#[derive(Debug, Clone, Default)]
struct Changed {
    /// Ports that differ from the upstream's own, with the upstream that each comes from.
    ports: Option<Box<[(UpstreamId, Port)]>>,
    /// Aliases that the Sidecar imports; `None` is all.
    aliases: Option<Box<[ArcStr]>>,
}

impl Scoped {
    fn whole(id: UpstreamId) -> Self {
        Self { id, changed: None }
    }

    fn own_ports(&self) -> Option<&[(UpstreamId, Port)]> {
        self.changed.as_ref()?.ports.as_deref()
    }

    fn with_ports(&self, ports: Box<[(UpstreamId, Port)]>) -> Self {
        let aliases = self.changed.as_ref().and_then(|c| c.aliases.clone());
        Self { id: self.id, changed: Some(Box::new(Changed { ports: Some(ports), aliases })) }
    }

    pub(crate) fn port_count(&self, upstream: &Upstream) -> usize {
        self.own_ports().map_or(upstream.ports.len(), <[_]>::len)
    }

    pub(crate) fn ports<'a>(&'a self, upstream: &'a Upstream) -> impl Iterator<Item = &'a Port> + 'a {
        let changed = self.own_ports();
        let own = changed.is_none().then_some(upstream.ports.iter());
        own.into_iter().flatten().chain(changed.into_iter().flatten().map(|(_, p)| p))
    }

    pub(crate) fn port<'a>(&'a self, upstream: &'a Upstream, number: u16) -> Option<&'a Port> {
        self.ports(upstream).find(|p| p.number == number)
    }

    /// The object that a port comes from.
    pub(crate) fn port_owner(&self, number: u16) -> UpstreamId {
        let changed = self.own_ports().into_iter().flatten();
        changed.into_iter().find(|(_, p)| p.number == number).map_or(self.id, |(id, _)| *id)
    }

    pub(crate) fn aliases<'a>(&'a self, upstream: &'a Upstream) -> impl Iterator<Item = &'a ArcStr> + 'a {
        let listed = self.changed.as_ref().and_then(|c| c.aliases.as_deref());
        upstream.aliases.iter().map(|(_, h)| h).filter(move |h| listed.is_none_or(|a| a.contains(h)))
    }

    fn reduced(&self, upstream: &Upstream, keep: impl Fn(u16) -> bool) -> Option<Self> {
        if self.ports(upstream).all(|p| keep(p.number)) {
            return Some(self.clone());
        }
        let ports: Box<[(UpstreamId, Port)]> =
            self.ports(upstream).filter(|p| keep(p.number)).map(|p| (self.port_owner(p.number), p.clone())).collect();
        (!ports.is_empty()).then(|| self.with_ports(ports))
    }
}

/// What an `egress` item says of the listener itself: port, bind, captureMode NONE.
type Settings = (Option<(u16, Protocol)>, ArcStr, bool);

/// One `egress` item of a Sidecar, or the one of everybody who has none.
#[derive(Debug)]
pub(crate) struct EgressListener {
    /// Set where the listener has a port of its own.
    pub(crate) port: Option<(u16, Protocol)>,
    pub(crate) bind: ArcStr,
    pub(crate) capture_none: bool,
    pub(crate) services: Vec<Scoped>,
    /// Which upstreams they are: a bit for each of the registry.
    known: Box<[u64]>,
    /// Port number to (index into `services`, place among its ports), in order.
    pub(crate) by_port: FxHashMap<u16, Vec<(u32, u16)>>,
    pub(crate) virtual_services: Vec<VsId>,
    /// The place of each VirtualService in `virtual_services`, or [`ABSENT`].
    places: Box<[u32]>,
    /// The first VirtualService of each host, whatever its rules (`computeWildcardHostVirtualServiceIndex`).
    first_of_host: Places,
}

/// The place of a VirtualService that a listener does not have.
const ABSENT: u32 = u32::MAX;

impl EgressListener {
    fn new(index: &Index, egress: Option<Settings>, services: Vec<Scoped>, virtual_services: Vec<VsId>) -> Self {
        let mut by_port: FxHashMap<u16, Vec<(u32, u16)>> = FxHashMap::default();
        for (n, service) in services.iter().enumerate() {
            let upstream = index.registry.get(service.id);
            for (place, port) in service.ports(upstream).enumerate() {
                by_port.entry(port.number).or_default().push((n as u32, place as u16));
            }
        }
        let mut first_of_host = Places::new(&index.hosts);
        for id in &virtual_services {
            for host in index.virtual_services.host_ids(*id) {
                first_of_host.set(*host, id.0);
            }
        }
        let mut places: Box<[u32]> = vec![ABSENT; index.virtual_services.list.len()].into();
        for (place, id) in (0u32..).zip(&virtual_services) {
            places[id.0 as usize] = place;
        }
        let mut known: Box<[u64]> = vec![0; index.registry.upstreams.len().div_ceil(64)].into();
        for service in &services {
            known[service.id.0 as usize / 64] |= 1 << (service.id.0 % 64);
        }
        let (port, bind, capture_none) = egress.unwrap_or_default();
        Self { port, bind, capture_none, services, known, by_port, virtual_services, places, first_of_host }
    }

    /// VirtualServices with a host that overlaps a pattern, in order.
    pub(crate) fn overlapping(&self, index: &Index, host: &str) -> SmallVec<[VsId; 2]> {
        let mut places: SmallVec<[u32; 4]> =
            index.virtual_services.by_host.of(host).iter().filter_map(|id| self.place(*id)).collect();
        places.sort_unstable();
        places.iter().map(|place| self.virtual_services[*place as usize]).collect()
    }

    /// The same, where case does not matter: their places in order. `host` is in lower case.
    pub(crate) fn overlapping_any_case(&self, index: &Index, host: &str) -> SmallVec<[u32; 4]> {
        let ids = index.virtual_services.by_host.of_any_case(host);
        ids.iter().filter_map(|id| self.place(*id)).collect()
    }

    /// It has this VirtualService.
    pub(crate) fn has(&self, id: VsId) -> bool {
        self.place(id).is_some()
    }

    fn place(&self, id: VsId) -> Option<u32> {
        self.places.get(id.0 as usize).copied().filter(|place| *place != ABSENT)
    }

    fn takes(&self, id: UpstreamId) -> bool {
        self.known.get(id.0 as usize / 64).is_some_and(|bits| bits >> (id.0 % 64) & 1 == 1)
    }

    /// The VirtualService whose host fits an upstream best.
    pub(crate) fn most_specific(&self, index: &Index, host: &str) -> Option<VsId> {
        index.hosts.most_specific(host, |id| self.first_of_host.get(id)).map(VsId)
    }
}

/// The scope.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) namespace: ArcStr,
    /// Index into the Sidecars.
    pub(crate) sidecar: Option<u32>,
    pub(crate) listeners: Vec<EgressListener>,
    /// Ports on which there may be a listener, sorted.
    pub(crate) ports: Box<[u16]>,
    /// What clusters are made from, one for each hostname.
    pub(crate) services: Vec<Scoped>,
    hosts: Arc<Hosts>,
    by_host: Places,
    pub(crate) policy: OutboundPolicy,
    /// Objects that the outbound policy comes from: the Sidecar's, else the mesh's.
    pub(crate) policy_of_sidecar: bool,
}

/// Hosts that a Sidecar lists for one namespace (`hostClassification`).
#[derive(Default)]
struct Listed {
    exact: FxHashSet<ArcStr>,
    all: Vec<ArcStr>,
    excluded: Vec<ArcStr>,
}

impl Listed {
    fn excludes(&self, host: &str) -> bool {
        self.excluded.iter().any(|e| host::subset(host, e))
    }

    /// Strict: an upstream's host must be held by a listed one.
    fn holds(&self, host: &str) -> bool {
        self.exact.contains(host)
            || self.all.iter().any(|listed| host::is_wildcard(listed) && host::subset(host, listed))
    }

    /// For VirtualServices either may hold the other, for routes of the Gateway API the strict rule counts.
    fn holds_route(&self, host: &str, semantics: Semantics) -> bool {
        self.exact.contains(host)
            || self.all.iter().any(|listed| {
                (host::is_wildcard(host) || host::is_wildcard(listed))
                    && match semantics {
                        Semantics::GatewayApi => host::subset(host, listed),
                        Semantics::Istio => host::overlap(host, listed),
                    }
            })
    }
}

/// Every host is exact and names its namespace: istiod looks them up instead of filtering, and finds one upstream for each
/// (`servicesForExactHosts`).
fn all_exact(listed: &FxHashMap<ArcStr, Listed>) -> bool {
    listed.iter().all(|(ns, l)| l.all.is_empty() || (ns != "*" && l.all.iter().all(|h| !host::is_wildcard(h))))
}

/// What a Sidecar's `hosts` list, by namespace; `*` is every namespace.
fn classify(index: &Index, hosts: &[ArcStr], own: &str) -> FxHashMap<ArcStr, Listed> {
    let mut out: FxHashMap<ArcStr, Listed> = FxHashMap::default();
    for host in hosts {
        let mut parts = host.split('/');
        let (Some(mut namespace), Some(name), None) = (parts.next(), parts.next(), parts.next()) else { continue };
        let mut excluded = false;
        if let Some(rest) = namespace.strip_prefix('~') {
            if index.rules.host_exclusion {
                excluded = true;
                namespace = if rest.is_empty() { "*" } else { rest };
            } else {
                // `~/*` imports nothing
                continue;
            }
        }
        let namespace = if namespace == "." { own } else { namespace };
        let listed = out.entry(namespace.into()).or_default();
        if excluded {
            listed.excluded.push(name.into());
            continue;
        }
        if !host::is_wildcard(name) {
            listed.exact.insert(name.into());
        }
        listed.all.push(name.into());
    }
    out
}

impl Scope {
    /// Of sidecars.
    pub(crate) fn of_sidecar(index: &Index, namespace: &ArcStr, sidecar: Option<u32>) -> Self {
        let object = sidecar.map(|n| &index.sidecars[n as usize]);
        let mut listeners = Vec::new();
        match object.map(|s| &**s).filter(|s| !s.egress.is_empty()) {
            None => listeners.push(egress_listener(index, namespace, &["*/*".into()], None)),
            Some(Sidecar { egress, .. }) => {
                for e in egress {
                    let settings = Some((e.port, e.bind.clone(), e.capture_none));
                    listeners.push(egress_listener(index, namespace, &e.hosts, settings));
                }
            }
        }
        let own = listeners.iter().filter_map(|l| l.port.map(|(p, _)| p));
        let mut ports: Vec<u16> = listeners.iter().flat_map(|l| l.by_port.keys().copied()).chain(own).collect();
        ports.sort_unstable();
        ports.dedup();
        let policy = object.and_then(|s| s.policy.clone());
        let mut scope = Self {
            namespace: namespace.clone(),
            sidecar,
            listeners,
            ports: ports.into(),
            services: Vec::new(),
            hosts: Arc::clone(&index.hosts),
            by_host: Places::new(&index.hosts),
            policy_of_sidecar: policy.is_some(),
            policy: policy.unwrap_or_else(|| OutboundPolicy { mode: index.config.policy.mode, proxy: None }),
        };
        scope.collect(index);
        scope
    }

    /// Of gateways and waypoints: everything that is exported to their namespace (`DefaultSidecarScopeForGateway`).
    pub(crate) fn of_gateway(index: &Index, namespace: &ArcStr) -> Self {
        let mut scope = Self {
            namespace: namespace.clone(),
            sidecar: None,
            listeners: Vec::new(),
            ports: Box::default(),
            services: Vec::new(),
            hosts: Arc::clone(&index.hosts),
            by_host: Places::new(&index.hosts),
            policy: index.config.policy.clone(),
            policy_of_sidecar: false,
        };
        for id in index.registry.visible_to(namespace) {
            scope.append(index, Scoped::whole(id));
        }
        scope
    }

    /// The upstream of a hostname.
    pub(crate) fn get(&self, host: &str) -> Option<&Scoped> {
        self.by_host.get(self.hosts.get(host)?).map(|n| &self.services[n as usize])
    }

    /// The listener of a port has this VirtualService.
    pub(crate) fn imports(&self, port: u16, id: VsId) -> bool {
        self.sidecar.is_none() || self.listener_for(port).is_some_and(|l| l.has(id))
    }

    /// Some listener takes the upstream's hostname.
    pub(crate) fn lists(&self, index: &Index, upstream: &Upstream) -> bool {
        let taken = |id: &UpstreamId| self.listeners.iter().any(|l| l.takes(*id));
        self.sidecar.is_none() || index.registry.of_host.at(upstream.host_id).iter().any(taken)
    }

    /// The listener that answers for a port: the one with that port, else the catch-all (`GetEgressListenerForRDS`).
    pub(crate) fn listener_for(&self, port: u16) -> Option<&EgressListener> {
        self.listeners.iter().find(|l| l.port.is_none_or(|(p, _)| p == port))
    }

    /// Services of each listener in turn, and where its VirtualServices lead (`collectImportedServices`).
    fn collect(&mut self, index: &Index) {
        let listeners = std::mem::take(&mut self.listeners);
        for listener in &listeners {
            for service in &listener.services {
                self.append(index, service.clone());
            }
            // an HTTP_PROXY listener takes every port
            let port = listener.port.filter(|(_, protocol)| *protocol != Protocol::HttpProxy).map(|(p, _)| p);
            for id in &listener.virtual_services {
                self.import_destinations(index, *id, port);
            }
        }
        self.listeners = listeners;
    }

    fn import_destinations(&mut self, index: &Index, id: VsId, listener_port: Option<u16>) {
        let destinations = index.virtual_services.get(id).destinations(&self.namespace);
        let mut seen: Vec<&ArcStr> = Vec::new();
        for (host, _) in &destinations {
            if seen.contains(&host) {
                continue;
            }
            seen.push(host);
            let Some(upstream) = self.pick(index, host) else { continue };
            let whole = Scoped::whole(upstream);
            let upstream = index.registry.get(upstream);
            let ports: Vec<u16> = destinations.iter().filter(|(h, _)| h == host).map(|(_, p)| *p).collect();
            let reduced = match listener_port {
                Some(port) => whole.reduced(upstream, |p| p == port),
                None if ports.contains(&0) => Some(whole),
                None => whole.reduced(upstream, |p| ports.contains(&p)),
            };
            if let Some(service) = reduced {
                self.append(index, service);
            }
        }
    }

    /// The upstream that a destination means: of the own namespace whatever its exportTo, else a visible one.
    fn pick(&self, index: &Index, host: &str) -> Option<UpstreamId> {
        let named = index.registry.named(host);
        let get = |id: &UpstreamId| index.registry.get(*id);
        if let Some(own) = named.iter().find(|id| get(id).namespace == self.namespace) {
            return Some(*own);
        }
        let visible = named.iter().copied().filter(|id| get(id).visibility.includes(&self.namespace));
        if index.rules.pick_best_namespace {
            visible.min_by_key(|id| (!get(id).kubernetes, *id))
        } else {
            visible.min_by(|a, b| get(a).namespace.cmp(&get(b).namespace))
        }
    }

    /// Adds an upstream: Kubernetes wins over entries, ports of mergeable namesakes are joined, else the first stays
    /// (`appendSidecarServices`).
    fn append(&mut self, index: &Index, service: Scoped) {
        let upstream = index.registry.get(service.id);
        let Some(place) = self.by_host.get(upstream.host_id).map(|n| n as usize) else {
            self.by_host.set(upstream.host_id, self.services.len() as u32);
            self.services.push(service);
            return;
        };
        let known = &self.services[place];
        let first = index.registry.get(known.id);
        match (first.kubernetes, upstream.kubernetes) {
            (true, false) => return,
            (false, true) => {
                self.services[place] = service;
                return;
            }
            _ => {}
        }
        let equal = known.port_count(first) == service.port_count(upstream)
            && known
                .ports(first)
                .zip(service.ports(upstream))
                .all(|(a, b)| a.number == b.number && a.name == b.name && a.protocol == b.protocol);
        let mergeable = first.namespace == upstream.namespace
            && first.resolution == upstream.resolution
            && first.labels() == upstream.labels()
            && first.selector().is_none_or(Vec::is_empty) == upstream.selector().is_none_or(Vec::is_empty)
            && first.selector().zip(upstream.selector()).is_none_or(|(a, b)| a == b)
            && first.declared_export() == upstream.declared_export();
        if equal || !mergeable {
            return;
        }
        let mut ports: Vec<(UpstreamId, Port)> =
            known.ports(first).map(|p| (known.port_owner(p.number), p.clone())).collect();
        for port in service.ports(upstream) {
            if !ports.iter().any(|(_, p)| p.number == port.number) {
                ports.push((service.port_owner(port.number), port.clone()));
            }
        }
        self.services[place] = known.with_ports(ports.into());
    }
}

fn egress_listener(index: &Index, namespace: &ArcStr, hosts: &[ArcStr], settings: Option<Settings>) -> EgressListener {
    let listed = classify(index, hosts, namespace);
    let port =
        settings.as_ref().and_then(|(port, ..)| *port).filter(|(_, p)| *p != Protocol::HttpProxy).map(|(p, _)| p);
    let services = select_services(index, namespace, &listed, port);
    let virtual_services = select_virtual_services(index, namespace, &listed);
    EgressListener::new(index, settings, services, virtual_services)
}

/// Upstreams that are exported to the namespace and listed; of one hostname those of one namespace only (`selectServices`).
fn select_services(index: &Index, own: &ArcStr, listed: &FxHashMap<ArcStr, Listed>, port: Option<u16>) -> Vec<Scoped> {
    let everywhere = listed.get("*");
    let mut imported: Vec<Scoped> = Vec::new();
    let candidates: Vec<UpstreamId> = if all_exact(listed) {
        let pairs = listed.iter().flat_map(|(ns, l)| l.exact.iter().map(move |h| (ns, h)));
        let found = pairs.filter_map(|(ns, h)| index.registry.named_in(h, ns));
        let mut found: Vec<UpstreamId> = found.filter(|id| index.registry.get(*id).visibility.includes(own)).collect();
        found.sort();
        found
    } else {
        index.registry.visible_to(own).collect()
    };
    for id in candidates {
        let upstream = index.registry.get(id);
        let here = listed.get(&upstream.namespace);
        if [here, everywhere].into_iter().flatten().any(|l| l.excludes(&upstream.host)) {
            continue;
        }
        for l in [here, everywhere].into_iter().flatten() {
            if !l.holds(&upstream.host) {
                continue;
            }
            let whole = Scoped::whole(id);
            let fitting = match port {
                None => Some(whole),
                Some(port) => whole.reduced(upstream, |p| p == port),
            };
            let Some(mut service) = fitting else { continue };
            if !upstream.aliases.is_empty() {
                let aliases = upstream.aliases.iter().map(|(_, h)| h.clone()).filter(|h| l.holds(h)).collect();
                service.changed.get_or_insert_default().aliases = Some(aliases);
            }
            imported.push(service);
            break;
        }
    }
    let mut chosen: FxHashMap<&ArcStr, (&ArcStr, bool)> = FxHashMap::default();
    for service in &imported {
        let upstream = index.registry.get(service.id);
        let this = (&upstream.namespace, upstream.kubernetes);
        match chosen.get_mut(&upstream.host) {
            None => {
                chosen.insert(&upstream.host, this);
            }
            Some(known) => {
                let better = index.rules.unified_scope && !known.1 && this.1 && (this.0 == own || known.0 != own);
                if this.0 == own || better {
                    *known = this;
                }
            }
        }
    }
    let keep: Vec<bool> = imported
        .iter()
        .map(|s| {
            let upstream = index.registry.get(s.id);
            chosen.get(&upstream.host).is_some_and(|(ns, _)| **ns == upstream.namespace)
        })
        .collect();
    let mut keep = keep.into_iter();
    imported.retain(|_| keep.next().unwrap_or(true));
    imported
}

/// VirtualServices that are exported to the namespace and listed (`SelectVirtualServices`).
fn select_virtual_services(index: &Index, own: &ArcStr, listed: &FxHashMap<ArcStr, Listed>) -> Vec<VsId> {
    let everywhere = listed.get("*");
    let mut seen = FxHashSet::default();
    let mut out = Vec::new();
    for bucket in index.virtual_services.buckets(own, &MESH.into()) {
        for ours in if index.rules.unified_scope { &[true, false][..] } else { &[false][..] } {
            for id in bucket {
                let vs = index.virtual_services.get(*id);
                let exact = vs.semantics == Semantics::GatewayApi && vs.meta.namespace() == own;
                if index.rules.unified_scope && exact != *ours {
                    continue;
                }
                let here = listed.get(vs.meta.namespace());
                let excluded = |host: &str| [here, everywhere].into_iter().flatten().any(|l| l.excludes(host));
                let imported = [here, everywhere]
                    .into_iter()
                    .flatten()
                    .any(|l| vs.hosts.iter().any(|h| l.holds_route(h, vs.semantics) && !excluded(h)));
                if imported && seen.insert(*id) {
                    out.push(*id);
                }
            }
        }
    }
    out
}
