//! The registry: every hostname that something registers, with ports, addresses and endpoints (Istio: `model.Service`,
//! `serviceregistry/serviceentry/conversion.go`, `serviceregistry/kube`).

use std::net::IpAddr;
use std::sync::Arc;

use arcstr::ArcStr;
use ipnet::IpNet;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::id::ObjectRef;
use crate::mesh::bits::Addresses;
use crate::mesh::hosts::{HostId, Hosts, Overlaps};
use crate::mesh::object::mesh_config::EntryVisibility;
use crate::mesh::object::read::Labels;
use crate::mesh::object::{
    self, EndpointSlice, PodSpec, Resolution, Service, ServiceEntry, ServiceType, WorkloadEntry,
};
use crate::mesh::options::Rules;
use crate::mesh::protocol::Protocol;
use crate::mesh::reach::{self, Endpoints, Reach, ReachAddress};
use crate::mesh::{allocate, host};

/// Index into [`Registry::upstreams`], which are sorted: oldest first, then name, then namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct UpstreamId(pub(crate) u32);

/// Where it listens for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Address {
    /// No address of its own.
    Any,
    Ip(IpAddr),
    Cidr(IpNet),
}

/// A port of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) number: u16,
    pub(crate) name: ArcStr,
    pub(crate) protocol: Protocol,
    /// With resolution NONE: another port at the same address.
    pub(crate) target: Option<u16>,
    /// Its place in the object's `ports`.
    pub(crate) index: u16,
}

/// Who may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Visibility {
    Public,
    /// Sorted; the own namespace is spelled out. Nobody, where there are none.
    Namespaces(Box<[ArcStr]>),
}

impl Visibility {
    /// From a declared exportTo and its default (`visibility.Instance`).
    pub(crate) fn new(declared: &[ArcStr], own: &ArcStr) -> Self {
        if declared.iter().any(|e| e == "*") {
            return Self::Public;
        }
        if declared.iter().any(|e| e == "~") {
            return Self::nobody();
        }
        let mut list: Vec<ArcStr> = declared.iter().map(|e| if e == "." { own.clone() } else { e.clone() }).collect();
        list.sort();
        list.dedup();
        Self::Namespaces(list.into())
    }

    fn nobody() -> Self {
        Self::Namespaces(Box::default())
    }

    pub(crate) fn includes(&self, namespace: &str) -> bool {
        match self {
            Self::Public => true,
            Self::Namespaces(list) => list.iter().any(|n| n == namespace),
        }
    }
}

/// One registry service: a hostname of an object, at one of its addresses. What every decision reads of it comes first and lies
/// together, in two lines of the cache.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub(crate) struct Upstream {
    pub(crate) host: ArcStr,
    pub(crate) object: ObjectRef,
    pub(crate) namespace: ArcStr,
    pub(crate) visibility: Visibility,
    pub(crate) external_name: Option<ArcStr>,
    pub(crate) host_id: HostId,
    /// Its place in `spec.hosts` and `spec.addresses`.
    pub(crate) host_index: u16,
    pub(crate) address_index: u16,
    pub(crate) kubernetes: bool,
    pub(crate) resolution: Resolution,
    pub(crate) external: bool,
    /// Most have one or two.
    pub(crate) ports: SmallVec<[Port; 2]>,
    pub(crate) address: Address,
    /// All cluster addresses of a Service.
    pub(crate) cluster_ips: Box<[IpAddr]>,
    /// Allocated by istiod (`status.addresses`), with their places there.
    pub(crate) allocated: Box<[(u16, IpAddr)]>,
    pub(crate) created: i64,
    source: Source,
    /// ExternalName Services that stand for it: namespace and host.
    pub(crate) aliases: Box<[(ArcStr, ArcStr)]>,
    /// Endpoints of its hostname in its namespace.
    reach: Arc<[Reach]>,
}

/// Paths of the first items of lists: most upstreams need no other.
struct Places {
    hosts: [ArcStr; 2],
    addresses: [ArcStr; 2],
    allocated: [ArcStr; 2],
    ports: [ArcStr; 4],
}

static PLACES: Places = Places {
    hosts: [arcstr::literal!(".spec.hosts[0]"), arcstr::literal!(".spec.hosts[1]")],
    addresses: [arcstr::literal!(".spec.addresses[0]"), arcstr::literal!(".spec.addresses[1]")],
    allocated: [arcstr::literal!(".status.addresses[0]"), arcstr::literal!(".status.addresses[1]")],
    ports: [
        arcstr::literal!(".spec.ports[0]"),
        arcstr::literal!(".spec.ports[1]"),
        arcstr::literal!(".spec.ports[2]"),
        arcstr::literal!(".spec.ports[3]"),
    ],
};

fn place(known: &[ArcStr], list: &str, n: u16) -> ArcStr {
    known.get(usize::from(n)).cloned().unwrap_or_else(|| arcstr::format!("{list}[{n}]"))
}

impl Port {
    /// Its path.
    pub(crate) fn field(&self) -> ArcStr {
        place(&PLACES.ports, ".spec.ports", self.index)
    }
}

/// The object that an upstream was read from.
#[derive(Debug, Clone)]
enum Source {
    Entry(Arc<ServiceEntry>),
    Service(Arc<Service>),
}

impl Upstream {
    pub(crate) fn labels(&self) -> &[(ArcStr, ArcStr)] {
        match &self.source {
            Source::Entry(entry) => &entry.meta.labels,
            Source::Service(service) => &service.meta.labels,
        }
    }

    pub(crate) fn selector(&self) -> Option<&Labels> {
        match &self.source {
            Source::Entry(entry) => entry.selector.as_ref(),
            Source::Service(service) => Some(&service.selector),
        }
    }

    /// exportTo as it is written.
    pub(crate) fn declared_export(&self) -> Option<&[ArcStr]> {
        match &self.source {
            Source::Entry(entry) => entry.export_to.as_deref(),
            Source::Service(service) => service.export_to.as_deref(),
        }
    }

    pub(crate) fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|p| p.number == number)
    }

    /// Endpoints of a port, each with its own port.
    pub(crate) fn reach<'a>(&'a self, port: &'a Port) -> impl Iterator<Item = (&'a Reach, u16)> + 'a {
        self.reach.iter().flat_map(|r| r.on(&port.name).map(move |own| (r, own)))
    }

    /// Addresses that a listener for it may have.
    fn listened_on(&self) -> impl Iterator<Item = IpAddr> + Clone + '_ {
        let own = if let Address::Ip(ip) = self.address { Some(ip) } else { None };
        let headless = self.kubernetes && self.address == Address::Any;
        let endpoints = self.reach.iter().filter(move |_| headless).filter_map(|r| match r.address {
            ReachAddress::Ip(ip) => Some(ip),
            ReachAddress::Name(_) | ReachAddress::Unix => None,
        });
        own.into_iter().chain(self.allocated.iter().map(|(_, ip)| *ip)).chain(endpoints)
    }

    /// The address that a proxy binds (`Service.GetAddressForProxy`); `allocated`: it uses istiod's addresses.
    pub(crate) fn address_for(&self, allocated: bool) -> Address {
        match (self.address, allocated) {
            (Address::Any, true) => self
                .allocated
                .iter()
                .find(|(_, a)| a.is_ipv4())
                .or(self.allocated.first())
                .map_or(Address::Any, |(_, a)| Address::Ip(*a)),
            (address, _) => address,
        }
    }

    /// Path of an address that istiod allocated.
    pub(crate) fn allocated_field(n: u16) -> ArcStr {
        place(&PLACES.allocated, ".status.addresses", n)
    }

    /// Path of the address, or of the port where it has none.
    pub(crate) fn address_field(&self) -> ArcStr {
        if self.kubernetes {
            arcstr::literal!(".spec.clusterIP")
        } else {
            place(&PLACES.addresses, ".spec.addresses", self.address_index)
        }
    }

    pub(crate) fn host_field(&self) -> ArcStr {
        if self.kubernetes {
            arcstr::literal!(".metadata.name")
        } else {
            place(&PLACES.hosts, ".spec.hosts", self.host_index)
        }
    }
}

/// Hostnames, by order and by name.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) upstreams: Vec<Upstream>,
    /// In order: what everybody sees.
    pub(crate) public: Vec<UpstreamId>,
    /// In order: what is exported to a namespace by name.
    pub(crate) exported: FxHashMap<ArcStr, Vec<UpstreamId>>,
    /// Every upstream that has this hostname.
    pub(crate) of_host: Overlaps<UpstreamId>,
    /// Addresses of upstreams, allocated ones and those of the endpoints of headless Services included: what proxies listen on.
    pub(crate) addresses: Addresses,
}

/// What the registry is made of.
pub(crate) struct Sources<'a> {
    pub(crate) entries: &'a [Arc<ServiceEntry>],
    pub(crate) services: &'a [Arc<Service>],
    pub(crate) slices: &'a [Arc<EndpointSlice>],
    pub(crate) workloads: &'a [Arc<WorkloadEntry>],
    pub(crate) pods: &'a [Arc<PodSpec>],
    pub(crate) config: &'a object::MeshConfig,
    pub(crate) rules: &'a Rules,
    /// Labels of namespaces.
    pub(crate) namespaces: &'a FxHashMap<ArcStr, Labels>,
    /// Numbers of all hosts.
    pub(crate) hosts: &'a Arc<Hosts>,
}

impl Registry {
    /// `services`: the endpoints of Services.
    pub(crate) fn new(sources: &Sources<'_>, services: &Endpoints) -> Self {
        let mut upstreams: Vec<Upstream> = Vec::new();
        for service in sources.services {
            upstreams.push(of_service(service, sources));
        }
        for entry in sources.entries {
            of_entry(entry, sources, &mut upstreams);
        }
        let mut upstreams = in_order(upstreams);
        let entries = reach::of_entries(sources, services);
        for upstream in &mut upstreams {
            let own = entries.get(&upstream.namespace, upstream.host_id);
            let of_service = || services.get(&(upstream.namespace.clone(), upstream.host.clone()));
            if let Some(list) = own.or_else(of_service) {
                upstream.reach = Arc::clone(list);
            }
        }
        resolve_aliases(&mut upstreams);
        if !sources.rules.ip_autoallocate {
            allocate::addresses(&mut upstreams);
        }
        let mut registry = Self { upstreams, ..Self::default() };
        for n in 0..registry.upstreams.len() {
            registry.index(UpstreamId(n as u32));
        }
        let named = (0u32..).zip(&registry.upstreams).map(|(n, u)| (&u.host, UpstreamId(n)));
        registry.of_host = Overlaps::new(sources.hosts, named);
        registry.addresses = Addresses::new(registry.upstreams.iter().flat_map(Upstream::listened_on));
        registry
    }

    fn index(&mut self, id: UpstreamId) {
        let upstream = &self.upstreams[id.0 as usize];
        match &upstream.visibility {
            Visibility::Public => self.public.push(id),
            Visibility::Namespaces(list) => {
                for namespace in list {
                    self.exported.entry(namespace.clone()).or_default().push(id);
                }
            }
        }
    }

    pub(crate) fn get(&self, id: UpstreamId) -> &Upstream {
        &self.upstreams[id.0 as usize]
    }

    /// What is exported to a namespace: by name first, then what is public (`servicesExportedToNamespace`).
    pub(crate) fn visible_to(&self, namespace: &str) -> impl Iterator<Item = UpstreamId> + '_ {
        self.exported.get(namespace).into_iter().flatten().chain(&self.public).copied()
    }

    /// The upstreams of a hostname, one for each namespace: the first, or the first of Kubernetes
    /// (`ServiceIndex.HostnameAndNamespace`).
    pub(crate) fn named(&self, host: &str) -> SmallVec<[UpstreamId; 2]> {
        let mut out: SmallVec<[UpstreamId; 2]> = SmallVec::new();
        for id in self.of_host.get(host).into_iter().flatten() {
            let upstream = self.get(*id);
            match out.iter_mut().find(|known| self.get(**known).namespace == upstream.namespace) {
                None => out.push(*id),
                Some(known) => {
                    if upstream.kubernetes && !self.get(*known).kubernetes {
                        *known = *id;
                    }
                }
            }
        }
        out
    }

    /// The one of them that is of a namespace.
    pub(crate) fn named_in(&self, host: &str, namespace: &str) -> Option<UpstreamId> {
        self.named(host).into_iter().find(|id| self.get(*id).namespace == namespace)
    }

    /// Endpoints that a host has on a port of this number, from whichever of its entries: istiod keeps them by namespace, host and
    /// number, and of several entries the last one that has any counts (`initServiceRegistry`, `ServiceEndpointsByPort`).
    pub(crate) fn reach_by_number<'a>(
        &'a self,
        upstream: &'a Upstream,
        number: u16,
    ) -> impl Iterator<Item = &'a Reach> {
        let list = &upstream.reach;
        let same = self.of_host.get(&upstream.host).into_iter().flatten().map(|id| self.get(*id));
        let named = same
            .filter(|u| u.namespace == upstream.namespace)
            .filter_map(|u| u.ports.iter().find(|p| p.number == number))
            .rfind(|p| list.iter().any(|r| r.on(&p.name).next().is_some()))
            .map(|p| &p.name);
        list.iter().filter(move |r| named.is_some_and(|name| r.on(name).next().is_some()))
    }
}

/// Oldest first, then by name, then by namespace (`SortServicesByCreationTime`).
fn in_order(upstreams: Vec<Upstream>) -> Vec<Upstream> {
    fn key(u: &Upstream) -> impl Ord + '_ {
        // of those that are as old the hostname decides, of Services the name
        let name = if u.kubernetes { &u.object.name.name } else { &u.host };
        (name, &u.namespace, !u.kubernetes, &u.object.name.name, u.host_index, u.address_index)
    }
    // upstreams are large: their order is found without moving them
    let mut order: Vec<(i64, u32)> = upstreams.iter().map(|u| u.created).zip(0u32..).collect();
    let of = |n: u32| key(&upstreams[n as usize]);
    order.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| of(a.1).cmp(&of(b.1))));
    let mut slots: Vec<Option<Upstream>> = upstreams.into_iter().map(Some).collect();
    let mut out = Vec::with_capacity(slots.len());
    out.extend(order.into_iter().filter_map(|(_, n)| slots[n as usize].take()));
    out
}

fn of_service(service: &Arc<Service>, sources: &Sources<'_>) -> Upstream {
    let meta = &service.meta;
    let external = service.kind == ServiceType::ExternalName;
    let alias = external && sources.rules.external_name_alias;
    let declared = service.export_to.as_deref();
    let host = host::service_host(meta.name(), meta.namespace());
    Upstream {
        host_id: sources.hosts.get(&host).unwrap_or(HostId::NONE),
        host,
        namespace: meta.namespace().clone(),
        object: meta.object.clone(),
        host_index: 0,
        address_index: 0,
        kubernetes: true,
        created: meta.created,
        address: service.cluster_ips.first().map_or(Address::Any, |ip| Address::Ip(*ip)),
        cluster_ips: service.cluster_ips.as_slice().into(),
        allocated: Box::default(),
        ports: (0u16..)
            .zip(&service.ports)
            .map(|(index, p)| Port {
                number: p.number,
                name: p.name.clone(),
                protocol: p.protocol,
                target: None,
                index,
            })
            .collect(),
        resolution: if alias {
            Resolution::Alias
        } else if external {
            Resolution::Dns
        } else if service.headless {
            Resolution::Passthrough
        } else {
            Resolution::Static
        },
        external,
        source: Source::Service(Arc::clone(service)),
        visibility: Visibility::new(declared.unwrap_or(&sources.config.service_export), meta.namespace()),
        external_name: alias.then(|| service.external_name.clone()),
        aliases: Box::default(),
        reach: Arc::default(),
    }
}

fn of_entry(entry: &Arc<ServiceEntry>, sources: &Sources<'_>, out: &mut Vec<Upstream>) {
    let passthrough = entry.resolution == Resolution::Passthrough;
    let ports: SmallVec<[Port; 2]> = (0u16..)
        .zip(&entry.ports)
        .map(|(index, p)| Port {
            number: p.number,
            name: p.name.clone(),
            protocol: p.protocol,
            target: p.target.filter(|_| passthrough),
            index,
        })
        .collect();
    let addresses: Vec<(u16, Address)> = if entry.addresses.is_empty() {
        vec![(0, Address::Any)]
    } else {
        (0u16..).zip(&entry.addresses).filter_map(|(n, text)| address(text).map(|a| (n, a))).collect()
    };
    let auto = sources.rules.ip_autoallocate
        && !passthrough
        && entry.addresses.is_empty()
        && !entry
            .meta
            .label("networking.istio.io/enable-autoallocate-ip")
            .is_some_and(|v| v.eq_ignore_ascii_case("false"));
    for (host_index, host) in (0u16..).zip(&entry.hosts) {
        let host_id = sources.hosts.get(host).unwrap_or(HostId::NONE);
        let allocated = if auto {
            let places = (0u16..).zip(&entry.allocated).filter(|(_, (_, h))| h == host);
            places.filter_map(|(n, (value, _))| value.parse().ok().map(|ip| (n, ip))).collect::<Box<[_]>>()
        } else {
            Box::default()
        };
        for (address_index, address) in &addresses {
            out.push(Upstream {
                host: host.clone(),
                host_id,
                namespace: entry.meta.namespace().clone(),
                object: entry.meta.object.clone(),
                host_index,
                address_index: *address_index,
                kubernetes: false,
                created: entry.meta.created,
                address: *address,
                cluster_ips: Box::default(),
                allocated: allocated.clone(),
                ports: ports.clone(),
                resolution: entry.resolution,
                external: entry.external,
                source: Source::Entry(Arc::clone(entry)),
                visibility: entry_visibility(entry, sources),
                external_name: None,
                aliases: Box::default(),
                reach: Arc::default(),
            });
        }
    }
}

/// exportTo, capped by serviceEntryVisibility (`PushContext.serviceExportTo`).
fn entry_visibility(entry: &ServiceEntry, sources: &Sources<'_>) -> Visibility {
    let own = entry.meta.namespace();
    let declared = entry.export_to.as_deref().unwrap_or(&sources.config.service_export);
    let exported = Visibility::new(declared, own);
    if !sources.config.visibility_for_sidecars || declared == ["~"] {
        return exported;
    }
    let none = Vec::new();
    let labels = sources.namespaces.get(own).unwrap_or(&none);
    let (policies, default) = &sources.config.visibility;
    match policies.iter().find(|(s, _)| s.holds(labels)).map_or(*default, |(_, v)| *v) {
        EntryVisibility::Public => exported,
        EntryVisibility::Namespace if exported.includes(own) => Visibility::Namespaces([own.clone()].into()),
        EntryVisibility::Namespace | EntryVisibility::None => Visibility::nobody(),
    }
}

/// An address of a ServiceEntry; a range of one address is that address; anything else is ignored.
fn address(text: &str) -> Option<Address> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(Address::Ip(ip));
    }
    let net = text.parse::<IpNet>().ok()?;
    Some(if net.prefix_len() == net.max_prefix_len() { Address::Ip(net.addr()) } else { Address::Cidr(net) })
}

/// ExternalName Services become aliases of the host that they name, through other aliases (`resolveServiceAliases`).
fn resolve_aliases(upstreams: &mut [Upstream]) {
    let raw: FxHashMap<ArcStr, ArcStr> =
        upstreams.iter().filter_map(|u| u.external_name.clone().map(|to| (u.host.clone(), to))).collect();
    if raw.is_empty() {
        return;
    }
    let mut aliases: FxHashMap<ArcStr, Vec<(ArcStr, ArcStr)>> = FxHashMap::default();
    for upstream in upstreams.iter() {
        let Some(mut to) = upstream.external_name.clone() else { continue };
        let mut hops = 0;
        while let Some(next) = raw.get(&to) {
            to = next.clone();
            hops += 1;
            if hops > raw.len() {
                break;
            }
        }
        if hops <= raw.len() {
            aliases.entry(to).or_default().push((upstream.namespace.clone(), upstream.host.clone()));
        }
    }
    for list in aliases.values_mut() {
        list.sort();
    }
    for upstream in upstreams {
        if let Some(list) = aliases.get(&upstream.host) {
            upstream.aliases = list.as_slice().into();
        }
    }
}
