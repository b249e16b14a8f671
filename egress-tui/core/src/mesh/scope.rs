//! What the proxies of a namespace know: upstreams and VirtualServices for each egress listener, and the one list of upstreams
//! that clusters are made from (Istio: `model/sidecar.go`). Shared by all proxies with the same namespace and Sidecar.

use std::collections::hash_map::Entry;
use std::num::NonZeroU32;
use std::sync::Arc;

use arcstr::ArcStr;
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use crate::mesh::bits::Bits;
use crate::mesh::host;
use crate::mesh::hosts::{HostId, Hosts};
use crate::mesh::index::Index;
use crate::mesh::object::virtual_service::MESH;
use crate::mesh::object::{OutboundPolicy, Semantics, Sidecar};
use crate::mesh::paged::Paged;
use crate::mesh::protocol::Protocol;
use crate::mesh::registry::{Port, Upstream, UpstreamId};
use crate::mesh::visible::VsId;

/// An upstream in a scope, perhaps with fewer ports or with those of its namesakes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scoped<'a> {
    pub(crate) id: UpstreamId,
    /// Most are as the registry has them.
    changed: Option<&'a Changed>,
}

/// What a scope changes of an upstream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changed {
    /// Ports that differ from the upstream's own, with the upstream that each comes from.
    ports: Option<Box<[(UpstreamId, Port)]>>,
    /// Aliases that the Sidecar imports; `None` is all.
    aliases: Option<Box<[ArcStr]>>,
}

impl<'a> Scoped<'a> {
    fn own_ports(self) -> Option<&'a [(UpstreamId, Port)]> {
        self.changed?.ports.as_deref()
    }

    pub(crate) fn port_count(self, upstream: &Upstream) -> usize {
        self.own_ports().map_or(upstream.ports.len(), <[_]>::len)
    }

    pub(crate) fn ports(self, upstream: &'a Upstream) -> impl Iterator<Item = &'a Port> + 'a {
        let changed = self.own_ports();
        let own = changed.is_none().then_some(upstream.ports.iter());
        own.into_iter().flatten().chain(changed.into_iter().flatten().map(|(_, p)| p))
    }

    pub(crate) fn port(self, upstream: &'a Upstream, number: u16) -> Option<&'a Port> {
        self.ports(upstream).find(|p| p.number == number)
    }

    /// The object that a port comes from.
    pub(crate) fn port_owner(self, number: u16) -> UpstreamId {
        let mut changed = self.own_ports().into_iter().flatten();
        changed.find(|(_, p)| p.number == number).map_or(self.id, |(id, _)| *id)
    }

    pub(crate) fn aliases(self, upstream: &'a Upstream) -> impl Iterator<Item = &'a ArcStr> + 'a {
        let listed = self.changed.and_then(|c| c.aliases.as_deref());
        upstream.aliases.iter().map(|(_, h)| h).filter(move |h| listed.is_none_or(|a| a.contains(h)))
    }
}

/// An upstream that is about to be taken into a scope.
#[derive(Debug, Clone)]
struct Import {
    id: UpstreamId,
    changed: Option<Box<Changed>>,
}

impl Import {
    fn whole(id: UpstreamId) -> Self {
        Self { id, changed: None }
    }

    fn of(scoped: Scoped<'_>) -> Self {
        Self { id: scoped.id, changed: scoped.changed.cloned().map(Box::new) }
    }

    fn scoped(&self) -> Scoped<'_> {
        Scoped { id: self.id, changed: self.changed.as_deref() }
    }

    fn with_ports(&self, ports: Box<[(UpstreamId, Port)]>) -> Self {
        let aliases = self.changed.as_ref().and_then(|c| c.aliases.clone());
        Self { id: self.id, changed: Some(Box::new(Changed { ports: Some(ports), aliases })) }
    }

    fn reduced(&self, upstream: &Upstream, keep: impl Fn(u16) -> bool) -> Option<Self> {
        let this = self.scoped();
        if this.ports(upstream).all(|p| keep(p.number)) {
            return Some(self.clone());
        }
        let ports: Box<[(UpstreamId, Port)]> =
            this.ports(upstream).filter(|p| keep(p.number)).map(|p| (this.port_owner(p.number), p.clone())).collect();
        (!ports.is_empty()).then(|| self.with_ports(ports))
    }
}

/// Upstreams in order, none of them twice.
#[derive(Debug, Default)]
pub(crate) struct Services {
    ids: Box<[UpstreamId]>,
    changed: FxHashMap<UpstreamId, Changed>,
}

impl Services {
    fn of(imports: Vec<Import>) -> Self {
        let ids = imports.iter().map(|i| i.id).collect();
        let mut changed: FxHashMap<UpstreamId, Changed> =
            imports.into_iter().filter_map(|i| Some((i.id, *i.changed?))).collect();
        changed.shrink_to_fit();
        Self { ids, changed }
    }

    fn get(&self, id: UpstreamId) -> Scoped<'_> {
        Scoped { id, changed: if self.changed.is_empty() { None } else { self.changed.get(&id) } }
    }

    pub(crate) fn at(&self, place: u32) -> Scoped<'_> {
        self.get(self.ids[place as usize])
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Scoped<'_>> {
        self.ids.iter().map(|id| self.get(*id))
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
    pub(crate) services: Services,
    /// Which upstreams they are.
    known: Bits,
    /// Port number to (index into `services`, place among its ports), in order.
    pub(crate) by_port: FxHashMap<u16, Vec<(u32, u16)>>,
    pub(crate) virtual_services: Vec<VsId>,
    /// Which VirtualServices they are.
    imported: Bits,
    /// The place of each VirtualService in `virtual_services`, or [`ABSENT`].
    places: Box<[u32]>,
    /// The first VirtualService of each host, whatever its rules (`computeWildcardHostVirtualServiceIndex`).
    first_of_host: Paged<VsId>,
}

/// The place of a VirtualService that a listener does not have.
const ABSENT: u32 = u32::MAX;

impl EgressListener {
    fn new(index: &Index, egress: Option<Settings>, services: Vec<Import>, virtual_services: Vec<VsId>) -> Self {
        let services = Services::of(services);
        let mut by_port: FxHashMap<u16, Vec<(u32, u16)>> = FxHashMap::default();
        for (n, service) in (0u32..).zip(services.iter()) {
            let upstream = index.registry.get(service.id);
            for (place, port) in service.ports(upstream).enumerate() {
                by_port.entry(port.number).or_default().push((n, place as u16));
            }
        }
        by_port.values_mut().for_each(Vec::shrink_to_fit);
        let mut first_of_host = index.shared.pages.virtual_services.table(&index.hosts);
        for id in virtual_services.iter().rev() {
            for host in index.virtual_services.host_ids(*id) {
                first_of_host.set(*host, *id);
            }
        }
        let first_of_host = first_of_host.made();
        let mut places: Box<[u32]> = vec![ABSENT; index.virtual_services.list.len()].into();
        for (place, id) in (0u32..).zip(&virtual_services) {
            places[id.0 as usize] = place;
        }
        let known = Bits::new(index.registry.upstreams.len(), services.ids.iter().map(|id| id.0));
        let imported = Bits::new(places.len(), virtual_services.iter().map(|id| id.0));
        let (port, bind, capture_none) = egress.unwrap_or_default();
        Self { port, bind, capture_none, services, known, by_port, virtual_services, imported, places, first_of_host }
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
        self.imported.has(id.0)
    }

    fn place(&self, id: VsId) -> Option<u32> {
        self.places.get(id.0 as usize).copied().filter(|place| *place != ABSENT)
    }

    fn takes(&self, id: UpstreamId) -> bool {
        self.known.has(id.0)
    }

    /// The VirtualService whose host fits an upstream best.
    pub(crate) fn most_specific(&self, index: &Index, host: &str) -> Option<VsId> {
        index.hosts.most_specific(host, |id| self.first_of_host.get(id).copied())
    }
}

/// The scope.
#[derive(Debug)]
pub(crate) struct Scope {
    /// Index into the Sidecars.
    pub(crate) sidecar: Option<u32>,
    pub(crate) listeners: Vec<EgressListener>,
    /// Ports on which there may be a listener, sorted.
    pub(crate) ports: Box<[u16]>,
    /// What clusters are made from, one for each hostname. Their order is kept for gateways only.
    pub(crate) services: Services,
    hosts: Arc<Hosts>,
    by_host: Paged<Found>,
    pub(crate) policy: OutboundPolicy,
    /// Objects that the outbound policy comes from: the Sidecar's, else the mesh's.
    pub(crate) policy_of_sidecar: bool,
}

/// The upstream of a hostname in a scope. It says whether the scope changes it, so that most need no further look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Found(NonZeroU32);

impl Found {
    fn new(import: &Import) -> Self {
        Self(NonZeroU32::MIN.saturating_add(import.id.0 << 1 | u32::from(import.changed.is_some())))
    }

    fn id(self) -> UpstreamId {
        UpstreamId((self.0.get() - 1) >> 1)
    }

    fn is_changed(self) -> bool {
        (self.0.get() - 1) & 1 == 1
    }
}

/// A scope that is being put together.
struct Collecting<'a> {
    index: &'a Index,
    namespace: &'a ArcStr,
    services: Vec<Import>,
    /// Their places by host.
    places: FxHashMap<HostId, u32>,
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
        let mut collecting = Collecting::new(index, namespace);
        for listener in &listeners {
            collecting.collect(listener);
        }
        let (by_host, services) = collecting.by_host();
        Self {
            sidecar,
            listeners,
            ports: ports.into(),
            services: Services { ids: Box::default(), ..Services::of(services) },
            hosts: Arc::clone(&index.hosts),
            by_host,
            policy_of_sidecar: policy.is_some(),
            policy: policy.unwrap_or_else(|| OutboundPolicy { mode: index.config.policy.mode, proxy: None }),
        }
    }

    /// Of gateways and waypoints: everything that is exported to their namespace (`DefaultSidecarScopeForGateway`).
    pub(crate) fn of_gateway(index: &Index, namespace: &ArcStr) -> Self {
        let mut collecting = Collecting::new(index, namespace);
        for id in index.registry.visible_to(namespace) {
            collecting.append(Import::whole(id));
        }
        let (by_host, services) = collecting.by_host();
        Self {
            sidecar: None,
            listeners: Vec::new(),
            ports: Box::default(),
            services: Services::of(services),
            hosts: Arc::clone(&index.hosts),
            by_host,
            policy: index.config.policy.clone(),
            policy_of_sidecar: false,
        }
    }

    /// The upstream of a hostname.
    pub(crate) fn get(&self, host: &str) -> Option<Scoped<'_>> {
        let found = self.by_host.get(self.hosts.get(host)?)?;
        Some(if found.is_changed() { self.services.get(found.id()) } else { Scoped { id: found.id(), changed: None } })
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
}

impl<'a> Collecting<'a> {
    fn new(index: &'a Index, namespace: &'a ArcStr) -> Self {
        Self { index, namespace, services: Vec::new(), places: FxHashMap::default() }
    }

    fn by_host(self) -> (Paged<Found>, Vec<Import>) {
        let mut table = self.index.shared.pages.upstreams.table(&self.index.hosts);
        for (host, place) in self.places {
            table.set(host, Found::new(&self.services[place as usize]));
        }
        (table.made(), self.services)
    }

    /// Services of a listener, and where its VirtualServices lead (`collectImportedServices`).
    fn collect(&mut self, listener: &EgressListener) {
        for service in listener.services.iter() {
            self.append(Import::of(service));
        }
        // an HTTP_PROXY listener takes every port
        let port = listener.port.filter(|(_, protocol)| *protocol != Protocol::HttpProxy).map(|(p, _)| p);
        for id in &listener.virtual_services {
            self.import_destinations(*id, port);
        }
    }

    fn import_destinations(&mut self, id: VsId, listener_port: Option<u16>) {
        let index = self.index;
        let destinations = index.virtual_services.get(id).destinations(self.namespace);
        let mut seen: Vec<&ArcStr> = Vec::new();
        for (host, _) in &destinations {
            if seen.contains(&host) {
                continue;
            }
            seen.push(host);
            let Some(upstream) = self.pick(host) else { continue };
            let whole = Import::whole(upstream);
            let upstream = index.registry.get(upstream);
            let ports: Vec<u16> = destinations.iter().filter(|(h, _)| h == host).map(|(_, p)| *p).collect();
            let reduced = match listener_port {
                Some(port) => whole.reduced(upstream, |p| p == port),
                None if ports.contains(&0) => Some(whole),
                None => whole.reduced(upstream, |p| ports.contains(&p)),
            };
            if let Some(service) = reduced {
                self.append(service);
            }
        }
    }

    /// The upstream that a destination means: of the own namespace whatever its exportTo, else a visible one.
    fn pick(&self, host: &str) -> Option<UpstreamId> {
        let index = self.index;
        let named = index.registry.named(host);
        let get = |id: &UpstreamId| index.registry.get(*id);
        if let Some(own) = named.iter().find(|id| get(id).namespace == *self.namespace) {
            return Some(*own);
        }
        let visible = named.iter().copied().filter(|id| get(id).visibility.includes(self.namespace));
        if index.rules.pick_best_namespace {
            visible.min_by_key(|id| (!get(id).kubernetes, *id))
        } else {
            visible.min_by(|a, b| get(a).namespace.cmp(&get(b).namespace))
        }
    }

    /// Adds an upstream: Kubernetes wins over entries, ports of mergeable namesakes are joined, else the first stays
    /// (`appendSidecarServices`).
    fn append(&mut self, service: Import) {
        let upstream = self.index.registry.get(service.id);
        let place = match self.places.entry(upstream.host_id) {
            Entry::Occupied(place) => *place.get() as usize,
            Entry::Vacant(place) => {
                place.insert(self.services.len() as u32);
                self.services.push(service);
                return;
            }
        };
        let first = self.index.registry.get(self.services[place].id);
        match (first.kubernetes, upstream.kubernetes) {
            (true, false) => return,
            (false, true) => {
                self.services[place] = service;
                return;
            }
            _ => {}
        }
        let (known, new) = (self.services[place].scoped(), service.scoped());
        let equal = known.port_count(first) == new.port_count(upstream)
            && known
                .ports(first)
                .zip(new.ports(upstream))
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
        for port in new.ports(upstream) {
            if !ports.iter().any(|(_, p)| p.number == port.number) {
                ports.push((new.port_owner(port.number), port.clone()));
            }
        }
        self.services[place] = self.services[place].with_ports(ports.into());
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
fn select_services(index: &Index, own: &ArcStr, listed: &FxHashMap<ArcStr, Listed>, port: Option<u16>) -> Vec<Import> {
    let everywhere = listed.get("*");
    let mut imported: Vec<Import> = Vec::new();
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
            let whole = Import::whole(id);
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
