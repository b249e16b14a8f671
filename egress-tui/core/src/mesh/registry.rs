//! The registry: every hostname that something registers, with ports, addresses and endpoints (Istio: `model.Service`,
//! `serviceregistry/serviceentry/conversion.go`, `serviceregistry/kube`).

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use arcstr::ArcStr;
use ipnet::IpNet;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::id::ObjectRef;
use crate::mesh::object::istio::EntryPort;
use crate::mesh::object::mesh_config::EntryVisibility;
use crate::mesh::object::read::{Labels, selects};
use crate::mesh::object::{
    self, EndpointSlice, PodSpec, Resolution, Service, ServiceEntry, ServiceType, WorkloadEntry,
};
use crate::mesh::options::Rules;
use crate::mesh::protocol::Protocol;
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
    Nobody,
    /// Sorted; the own namespace is spelled out.
    Namespaces(Vec<ArcStr>),
}

impl Visibility {
    /// From a declared exportTo and its default (`visibility.Instance`).
    pub(crate) fn new(declared: &[ArcStr], own: &ArcStr) -> Self {
        if declared.iter().any(|e| e == "*") {
            return Self::Public;
        }
        if declared.iter().any(|e| e == "~") {
            return Self::Nobody;
        }
        let mut list: Vec<ArcStr> = declared.iter().map(|e| if e == "." { own.clone() } else { e.clone() }).collect();
        list.sort();
        list.dedup();
        Self::Namespaces(list)
    }

    pub(crate) fn includes(&self, namespace: &str) -> bool {
        match self {
            Self::Public => true,
            Self::Nobody => false,
            Self::Namespaces(list) => list.iter().any(|n| n == namespace),
        }
    }
}

/// One registry service: a hostname of an object, at one of its addresses.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    pub(crate) host: ArcStr,
    pub(crate) namespace: ArcStr,
    pub(crate) object: ObjectRef,
    /// Its place in `spec.hosts` and `spec.addresses`.
    pub(crate) host_index: u16,
    pub(crate) address_index: u16,
    pub(crate) kubernetes: bool,
    pub(crate) created: i64,
    /// What ties of age are broken by: the hostname, for Kubernetes the name.
    pub(crate) sort_name: ArcStr,
    pub(crate) address: Address,
    /// All cluster addresses of a Service.
    pub(crate) cluster_ips: Vec<IpAddr>,
    /// Allocated by istiod (`status.addresses`), with their places there.
    pub(crate) allocated: Vec<(u16, IpAddr)>,
    pub(crate) ports: Vec<Port>,
    pub(crate) resolution: Resolution,
    pub(crate) external: bool,
    source: Source,
    pub(crate) visibility: Visibility,
    pub(crate) external_name: Option<ArcStr>,
    /// ExternalName Services that stand for it: namespace and host.
    pub(crate) aliases: Vec<(ArcStr, ArcStr)>,
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

    /// Path of the address, or of the port where it has none.
    pub(crate) fn address_field(&self) -> ArcStr {
        if self.kubernetes {
            ".spec.clusterIP".into()
        } else {
            format!(".spec.addresses[{}]", self.address_index).into()
        }
    }

    pub(crate) fn host_field(&self) -> ArcStr {
        if self.kubernetes { ".metadata.name".into() } else { format!(".spec.hosts[{}]", self.host_index).into() }
    }
}

/// An endpoint of (hostname, namespace, port).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) address: ReachAddress,
    pub(crate) port: u16,
    /// Name of the service port that it is for.
    pub(crate) port_name: ArcStr,
    pub(crate) labels: ReachLabels,
    /// Speaks Istio's mTLS (`security.istio.io/tlsMode: istio`).
    pub(crate) mtls: bool,
    pub(crate) ready: bool,
}

/// Labels of an endpoint: its pod's, or its own.
#[derive(Debug, Clone)]
pub(crate) enum ReachLabels {
    None,
    Pod(Arc<PodSpec>),
    Own(Box<Labels>),
}

impl ReachLabels {
    fn own(labels: &Labels) -> Self {
        if labels.is_empty() { Self::None } else { Self::Own(Box::new(labels.clone())) }
    }
}

impl Deref for ReachLabels {
    type Target = [(ArcStr, ArcStr)];

    fn deref(&self) -> &Self::Target {
        match self {
            Self::None => &[],
            Self::Pod(pod) => &pod.meta.labels,
            Self::Own(labels) => labels,
        }
    }
}

impl PartialEq for ReachLabels {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for ReachLabels {}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReachAddress {
    Ip(IpAddr),
    Name(ArcStr),
    /// A Unix socket: nothing that the network shows.
    Unix,
}

/// Hostnames, by order and by name.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) upstreams: Vec<Upstream>,
    /// In order: what everybody sees.
    pub(crate) public: Vec<UpstreamId>,
    /// In order: what is exported to a namespace by name.
    pub(crate) exported: FxHashMap<ArcStr, Vec<UpstreamId>>,
    /// The one that stands for a hostname in a namespace (`ServiceIndex.HostnameAndNamespace`).
    pub(crate) by_host: FxHashMap<ArcStr, SmallVec<[(ArcStr, UpstreamId); 1]>>,
    /// Endpoints of (namespace, hostname).
    endpoints: FxHashMap<(ArcStr, ArcStr), Box<[Reach]>>,
    /// Every upstream that has this hostname.
    pub(crate) of_host: host::Overlaps<UpstreamId>,
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
}

impl Registry {
    pub(crate) fn new(sources: &Sources<'_>) -> Self {
        let mut upstreams: Vec<Upstream> = Vec::new();
        for service in sources.services {
            upstreams.push(of_service(service, sources));
        }
        for entry in sources.entries {
            of_entry(entry, sources, &mut upstreams);
        }
        upstreams.shrink_to_fit();
        upstreams.sort_by(|a, b| {
            (a.created, &a.sort_name, &a.namespace, !a.kubernetes, &a.object.name.name, a.host_index, a.address_index)
                .cmp(&(
                    b.created,
                    &b.sort_name,
                    &b.namespace,
                    !b.kubernetes,
                    &b.object.name.name,
                    b.host_index,
                    b.address_index,
                ))
        });
        resolve_aliases(&mut upstreams);
        if !sources.rules.ip_autoallocate {
            allocate::addresses(&mut upstreams);
        }
        let mut registry = Self { upstreams, ..Self::default() };
        for n in 0..registry.upstreams.len() {
            registry.index(UpstreamId(n as u32));
        }
        registry.of_host =
            host::Overlaps::new((0u32..).zip(&registry.upstreams).map(|(n, u)| (&u.host, UpstreamId(n))));
        registry.endpoints = endpoints(sources).into_iter().map(|(key, list)| (key, list.into())).collect();
        registry
    }

    fn index(&mut self, id: UpstreamId) {
        let upstream = &self.upstreams[id.0 as usize];
        let namespaces = self.by_host.entry(upstream.host.clone()).or_default();
        match namespaces.iter_mut().find(|(ns, _)| *ns == upstream.namespace) {
            None => namespaces.push((upstream.namespace.clone(), id)),
            Some((_, known)) => {
                if upstream.kubernetes && !self.upstreams[known.0 as usize].kubernetes {
                    *known = id;
                }
            }
        }
        match &upstream.visibility {
            Visibility::Public => self.public.push(id),
            Visibility::Nobody => {}
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

    /// The upstreams of a hostname, one for each namespace.
    pub(crate) fn named(&self, host: &str) -> &[(ArcStr, UpstreamId)] {
        self.by_host.get(host).map_or(&[], SmallVec::as_slice)
    }

    /// Endpoints that a host has on a port of this number, from whichever of its entries: istiod keeps them by namespace, host and
    /// number, and of several entries the last one that has any counts (`initServiceRegistry`, `ServiceEndpointsByPort`).
    pub(crate) fn reach_by_number<'a>(
        &'a self,
        upstream: &Upstream,
        number: u16,
    ) -> impl Iterator<Item = &'a Reach> + 'a {
        let list =
            self.endpoints.get(&(upstream.namespace.clone(), upstream.host.clone())).map_or(&[][..], |list| &**list);
        let same = self.of_host.get(&upstream.host).into_iter().flatten().map(|id| self.get(*id));
        let named = same
            .filter(|u| u.namespace == upstream.namespace)
            .filter_map(|u| u.ports.iter().find(|p| p.number == number))
            .rfind(|p| list.iter().any(|r| r.port_name == p.name))
            .map(|p| p.name.clone());
        list.iter().filter(move |r| named.as_ref() == Some(&r.port_name))
    }

    /// Endpoints of a port.
    pub(crate) fn reach<'a>(&'a self, upstream: &Upstream, port: &'a Port) -> impl Iterator<Item = &'a Reach> + 'a {
        let list = self.endpoints.get(&(upstream.namespace.clone(), upstream.host.clone()));
        list.into_iter().flatten().filter(move |r| r.port_name == port.name)
    }
}

fn of_service(service: &Arc<Service>, sources: &Sources<'_>) -> Upstream {
    let meta = &service.meta;
    let external = service.kind == ServiceType::ExternalName;
    let alias = external && sources.rules.external_name_alias;
    let declared = service.export_to.as_deref();
    Upstream {
        host: host::service_host(meta.name(), meta.namespace()),
        namespace: meta.namespace().clone(),
        object: meta.object.clone(),
        host_index: 0,
        address_index: 0,
        kubernetes: true,
        created: meta.created,
        sort_name: meta.name().clone(),
        address: service.cluster_ips.first().map_or(Address::Any, |ip| Address::Ip(*ip)),
        cluster_ips: service.cluster_ips.clone(),
        allocated: Vec::new(),
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
        aliases: Vec::new(),
    }
}

fn of_entry(entry: &Arc<ServiceEntry>, sources: &Sources<'_>, out: &mut Vec<Upstream>) {
    let passthrough = entry.resolution == Resolution::Passthrough;
    let ports: Vec<Port> = (0u16..)
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
        let allocated = if auto {
            let places = (0u16..).zip(&entry.allocated).filter(|(_, (_, h))| h == host);
            places.filter_map(|(n, (value, _))| value.parse().ok().map(|ip| (n, ip))).collect()
        } else {
            Vec::new()
        };
        for (address_index, address) in &addresses {
            out.push(Upstream {
                host: host.clone(),
                namespace: entry.meta.namespace().clone(),
                object: entry.meta.object.clone(),
                host_index,
                address_index: *address_index,
                kubernetes: false,
                created: entry.meta.created,
                sort_name: host.clone(),
                address: *address,
                cluster_ips: Vec::new(),
                allocated: allocated.clone(),
                ports: ports.clone(),
                resolution: entry.resolution,
                external: entry.external,
                source: Source::Entry(Arc::clone(entry)),
                visibility: entry_visibility(entry, sources),
                external_name: None,
                aliases: Vec::new(),
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
        EntryVisibility::Namespace if exported.includes(own) => Visibility::Namespaces(vec![own.clone()]),
        EntryVisibility::Namespace | EntryVisibility::None => Visibility::Nobody,
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
            upstream.aliases.clone_from(list);
        }
    }
}

fn endpoints(sources: &Sources<'_>) -> FxHashMap<(ArcStr, ArcStr), Vec<Reach>> {
    let mut out: FxHashMap<(ArcStr, ArcStr), Vec<Reach>> = FxHashMap::default();
    let mut pods: FxHashMap<(&str, &str), &Arc<PodSpec>> = FxHashMap::default();
    let mut pods_of: FxHashMap<&str, Vec<&Arc<PodSpec>>> = FxHashMap::default();
    for pod in sources.pods {
        pods.insert((pod.meta.namespace(), pod.meta.name()), pod);
        pods_of.entry(pod.meta.namespace()).or_default().push(pod);
    }
    let mut of_service: FxHashMap<(&str, &str), Vec<&EndpointSlice>> = FxHashMap::default();
    for slice in sources.slices {
        of_service.entry((&slice.namespace, &slice.service)).or_default().push(slice);
    }
    for service in sources.services {
        let meta = &service.meta;
        let key = (meta.namespace().clone(), host::service_host(meta.name(), meta.namespace()));
        if service.kind == ServiceType::ExternalName && !sources.rules.external_name_alias {
            let named = |p: &object::kube::ServicePort| Reach {
                address: ReachAddress::Name(service.external_name.clone()),
                port: p.number,
                port_name: p.name.clone(),
                labels: ReachLabels::None,
                mtls: false,
                ready: true,
            };
            out.insert(key, service.ports.iter().map(named).collect());
            continue;
        }
        let list = match of_service.get(&(meta.namespace().as_str(), meta.name().as_str())) {
            Some(slices) => slices.iter().flat_map(|s| of_slice(s, &pods)).collect(),
            // no slice of any Service: the objects were written by hand, so the pods that the selector names are the endpoints
            None if !sources.slices.is_empty() => Vec::new(),
            None => of_selector(service, pods_of.get(meta.namespace().as_str()).map_or(&[], Vec::as_slice)),
        };
        out.insert(key, list);
    }
    let mut workloads: FxHashMap<&str, Vec<&WorkloadEntry>> = FxHashMap::default();
    for workload in sources.workloads {
        workloads.entry(workload.meta.namespace()).or_default().push(workload);
    }
    let mut entries: Vec<&ServiceEntry> = sources.entries.iter().map(|e| &**e).collect();
    entries.sort_by(|a, b| a.meta.age().cmp(&b.meta.age()));
    for entry in entries {
        for host in &entry.hosts {
            let key = (entry.meta.namespace().clone(), host.clone());
            let list = out.entry(key).or_default();
            let new = of_entry_host(entry, host, &workloads, &pods_of);
            for reach in new {
                // one endpoint only for each port of a round-robin entry (mergeServicesInstancesByNamespaceHost)
                let taken = entry.resolution == Resolution::DnsRoundRobin
                    && list.iter().any(|r| r.port_name == reach.port_name);
                if !taken && !list.contains(&reach) {
                    list.push(reach);
                }
            }
        }
    }
    out
}

fn of_slice(slice: &EndpointSlice, pods: &FxHashMap<(&str, &str), &Arc<PodSpec>>) -> Vec<Reach> {
    let mut out = Vec::new();
    for endpoint in &slice.endpoints {
        let pod = match &endpoint.pod {
            // istiod waits for the pod of an endpoint (endpointslice.go updateEndpointCacheForSlice)
            Some(name) => match pods.get(&(slice.namespace.as_str(), name.as_str())) {
                Some(pod) => Some(pod),
                None => continue,
            },
            None => None,
        };
        let labels = pod.map_or(ReachLabels::None, |p| ReachLabels::Pod(Arc::clone(p)));
        for (name, port) in &slice.ports {
            out.push(Reach {
                address: ReachAddress::Ip(endpoint.address),
                port: *port,
                port_name: name.clone(),
                mtls: speaks_mtls(&labels),
                labels: labels.clone(),
                ready: endpoint.ready,
            });
        }
    }
    out
}

fn of_selector(service: &Service, pods: &[&Arc<PodSpec>]) -> Vec<Reach> {
    let mut out = Vec::new();
    if service.selector.is_empty() {
        return out;
    }
    for pod in pods.iter().filter(|p| selects(&service.selector, &p.meta.labels)) {
        if matches!(pod.phase.as_str(), "Succeeded" | "Failed") {
            continue;
        }
        let Some(address) = pod.ips.first() else { continue };
        for port in &service.ports {
            let Some(target) = target_port(pod, port) else { continue };
            out.push(Reach {
                address: ReachAddress::Ip(*address),
                port: target,
                port_name: port.name.clone(),
                mtls: speaks_mtls(&pod.meta.labels),
                labels: ReachLabels::Pod(Arc::clone(pod)),
                ready: true,
            });
        }
    }
    out
}

/// The container port that a Service's port means in a pod.
pub(crate) fn target_port(pod: &PodSpec, port: &object::kube::ServicePort) -> Option<u16> {
    match &port.target {
        Ok(number) => Some(*number),
        Err(name) => pod
            .containers
            .iter()
            .flat_map(|c| &c.ports)
            .find(|(n, _, transport)| n == name && *transport == port.transport)
            .map(|(_, number, _)| *number),
    }
}

fn speaks_mtls(labels: &[(ArcStr, ArcStr)]) -> bool {
    object::read::label(labels, "security.istio.io/tlsMode").is_some_and(|v| v == "istio")
}

fn of_entry_host(
    entry: &ServiceEntry,
    host: &ArcStr,
    workloads: &FxHashMap<&str, Vec<&WorkloadEntry>>,
    pods: &FxHashMap<&str, Vec<&Arc<PodSpec>>>,
) -> Vec<Reach> {
    let mut out = Vec::new();
    let namespace = entry.meta.namespace().as_str();
    if let Some(selector) = &entry.selector {
        for workload in workloads.get(namespace).into_iter().flatten() {
            let endpoint = &workload.endpoint;
            let named = endpoint.address.parse::<IpAddr>().is_err();
            if selects(selector, &endpoint.labels) && (!named || entry.resolution.is_dns()) {
                of_endpoint(entry, endpoint, &mut out);
            }
        }
        for pod in pods.get(namespace).into_iter().flatten().filter(|p| selects(selector, &p.meta.labels)) {
            let Some(ip) = pod.ips.first() else { continue };
            for port in &entry.ports {
                out.push(Reach {
                    address: ReachAddress::Ip(*ip),
                    port: port.target.unwrap_or(port.number),
                    port_name: port.name.clone(),
                    mtls: speaks_mtls(&pod.meta.labels),
                    labels: ReachLabels::Pod(Arc::clone(pod)),
                    ready: true,
                });
            }
        }
    } else if entry.endpoints.is_empty() && entry.resolution.is_dns() {
        for port in &entry.ports {
            out.push(Reach {
                address: ReachAddress::Name(host.clone()),
                port: port.target.unwrap_or(port.number),
                port_name: port.name.clone(),
                labels: ReachLabels::None,
                mtls: false,
                ready: true,
            });
        }
    } else {
        for endpoint in &entry.endpoints {
            of_endpoint(entry, endpoint, &mut out);
        }
    }
    out
}

fn of_endpoint(entry: &ServiceEntry, endpoint: &object::Endpoint, out: &mut Vec<Reach>) {
    let address = if endpoint.address.starts_with("unix://") {
        ReachAddress::Unix
    } else {
        endpoint.address.parse().map_or_else(|_| ReachAddress::Name(endpoint.address.clone()), ReachAddress::Ip)
    };
    let mode = object::read::label(&endpoint.labels, "security.istio.io/tlsMode");
    for port in &entry.ports {
        let EntryPort { number, name, target, .. } = port;
        let named = endpoint.ports.iter().find(|(n, p)| n == name && *p > 0).map(|(_, p)| *p);
        out.push(Reach {
            port: if address == ReachAddress::Unix { 0 } else { named.or(*target).unwrap_or(*number) },
            address: address.clone(),
            port_name: name.clone(),
            mtls: mode.map_or(endpoint.service_account, |m| m == "istio"),
            labels: ReachLabels::own(&endpoint.labels),
            ready: true,
        });
    }
}
