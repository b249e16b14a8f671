//! Endpoints: where an upstream can be reached (Istio: `serviceregistry/kube/controller/endpointslice.go`,
//! `serviceregistry/serviceentry/conversion.go`).

use std::fmt::Write as _;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use arcstr::ArcStr;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::mesh::host;
use crate::mesh::hosts::HostId;
use crate::mesh::object::istio::EntryPort;
use crate::mesh::object::read::{Labels, label, selects};
use crate::mesh::object::{
    Endpoint, EndpointSlice, Meta, PodSpec, Resolution, Service, ServiceEntry, ServiceType, WorkloadEntry,
};
use crate::mesh::registry::Sources;

/// An endpoint of (namespace, hostname).
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    pub(crate) address: ReachAddress,
    pub(crate) labels: ReachLabels,
    /// Speaks Istio's mTLS (`security.istio.io/tlsMode: istio`).
    pub(crate) mtls: bool,
    pub(crate) ready: bool,
    /// Names of the upstream's ports, each with its own port here.
    pub(crate) ports: Ports,
}

/// Most endpoints have the ports of many others: they are kept once ([`Known`]).
type Ports = Arc<Box<[(ArcStr, u16)]>>;

fn ports(list: impl Iterator<Item = (ArcStr, u16)>) -> Ports {
    Arc::new(list.collect())
}

impl Reach {
    /// The ports behind an upstream's port: one, or none.
    pub(crate) fn on<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u16> + 'a {
        self.ports.iter().filter(move |(n, _)| n == name).map(|(_, port)| *port)
    }

    fn like(&self, other: &Self) -> bool {
        self.address == other.address
            && *self.labels == *other.labels
            && (self.mtls, self.ready) == (other.mtls, other.ready)
    }
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReachAddress {
    Ip(IpAddr),
    Name(ArcStr),
    /// A Unix socket: nothing that the network shows.
    Unix,
}

/// Endpoints by namespace and hostname, each list in the order of its addresses as text.
pub(crate) type Endpoints = FxHashMap<(ArcStr, ArcStr), Arc<[Reach]>>;

/// Ports of the endpoints that were read so far.
#[derive(Default)]
struct Known(FxHashSet<Ports>);

impl Known {
    fn once(&mut self, ports: &mut Ports) {
        match self.0.get(ports) {
            Some(known) => *ports = Arc::clone(known),
            None => {
                self.0.insert(Arc::clone(ports));
            }
        }
    }
}

/// The order in which istiod names endpoints is that of their text.
fn sorted(mut list: Vec<Reach>, known: &mut Known) -> Arc<[Reach]> {
    for r in &mut list {
        known.once(&mut r.ports);
    }
    if list.len() > 1 {
        list.sort_by_cached_key(|r| {
            let mut text = arrayed::Text::default();
            if let ReachAddress::Ip(ip) = r.address {
                // never longer than the room there is
                let _ = write!(text, "{ip}");
            }
            text
        });
    }
    list.into()
}

/// Text without an allocation, for sorting.
mod arrayed {
    use std::fmt;

    /// Room for any address (`INET6_ADDRSTRLEN`); what is not written is zero, which sorts first.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub(super) struct Text {
        bytes: [u8; 46],
        length: u8,
    }

    impl Default for Text {
        fn default() -> Self {
            Self { bytes: [0; 46], length: 0 }
        }
    }

    impl fmt::Write for Text {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let start = usize::from(self.length);
            let room = self.bytes.get_mut(start..start + text.len()).ok_or(fmt::Error)?;
            room.copy_from_slice(text.as_bytes());
            self.length += text.len() as u8;
            Ok(())
        }
    }
}

/// Endpoints of Services: they hang on Services, slices and pods alone, and are most of all endpoints.
pub(crate) fn of_services(sources: &Sources<'_>) -> Endpoints {
    let mut out = Endpoints::default();
    let mut known = Known::default();
    let mut pods: FxHashMap<(&str, &str), &Arc<PodSpec>> = FxHashMap::default();
    for pod in sources.pods {
        pods.insert((pod.meta.namespace(), pod.meta.name()), pod);
    }
    let pods_of = by_namespace(sources.pods);
    let mut slices_of: FxHashMap<(&str, &str), Vec<&EndpointSlice>> = FxHashMap::default();
    for slice in sources.slices {
        slices_of.entry((&slice.namespace, &slice.service)).or_default().push(slice);
    }
    for service in sources.services {
        let meta = &service.meta;
        let key = (meta.namespace().clone(), host::service_host(meta.name(), meta.namespace()));
        let list = if service.kind == ServiceType::ExternalName && !sources.rules.external_name_alias {
            vec![Reach {
                address: ReachAddress::Name(service.external_name.clone()),
                labels: ReachLabels::None,
                mtls: false,
                ready: true,
                ports: ports(service.ports.iter().map(|p| (p.name.clone(), p.number))),
            }]
        } else {
            match slices_of.get(&(meta.namespace().as_str(), meta.name().as_str())) {
                Some(slices) => slices.iter().flat_map(|s| of_slice(s, &pods)).collect(),
                // no slice of any Service: the objects were written by hand, so the pods that the selector names are the endpoints
                None if !sources.slices.is_empty() => Vec::new(),
                None => of_selector(service, pods_of.get(meta.namespace().as_str()).map_or(&[], Vec::as_slice)),
            }
        };
        out.insert(key, sorted(list, &mut known));
    }
    out
}

/// Endpoints of entries, by namespace and host.
pub(crate) struct OfEntries {
    places: FxHashMap<(ArcStr, HostId), u32>,
    lists: Vec<Arc<[Reach]>>,
}

impl OfEntries {
    pub(crate) fn get(&self, namespace: &ArcStr, host: HostId) -> Option<&Arc<[Reach]>> {
        self.places.get(&(namespace.clone(), host)).map(|place| &self.lists[*place as usize])
    }
}

/// Endpoints of entries; where a Service has the same hostname, its own come first.
pub(crate) fn of_entries(sources: &Sources<'_>, services: &Endpoints) -> OfEntries {
    let mut places: FxHashMap<(ArcStr, HostId), u32> = FxHashMap::default();
    places.reserve(sources.entries.len());
    let mut lists: Vec<Vec<Reach>> = Vec::with_capacity(sources.entries.len());
    let pods_of = if sources.entries.iter().any(|e| e.selector.is_some()) {
        by_namespace(sources.pods)
    } else {
        FxHashMap::default()
    };
    let mut workloads: FxHashMap<&str, Vec<&WorkloadEntry>> = FxHashMap::default();
    for workload in sources.workloads {
        workloads.entry(workload.meta.namespace()).or_default().push(workload);
    }
    let mut entries: Vec<&ServiceEntry> = sources.entries.iter().map(|e| &**e).collect();
    Meta::oldest_first(&mut entries, |e| &e.meta);
    for entry in entries {
        for host in &entry.hosts {
            let namespace = entry.meta.namespace();
            let id = sources.hosts.get(host).unwrap_or(HostId::NONE);
            let list = *places.entry((namespace.clone(), id)).or_insert_with(|| {
                let known = services.get(&(namespace.clone(), host.clone()));
                lists.push(known.map_or_else(Vec::new, |l| l.to_vec()));
                lists.len() as u32 - 1
            });
            let list = &mut lists[list as usize];
            for new in of_entry_host(entry, host, &workloads, &pods_of) {
                add(list, new, entry.resolution == Resolution::DnsRoundRobin);
            }
        }
    }
    let mut known = Known::default();
    OfEntries { places, lists: lists.into_iter().map(|list| sorted(list, &mut known)).collect() }
}

/// Adds what is new of an endpoint; of a round-robin entry each port has one endpoint only
/// (`mergeServicesInstancesByNamespaceHost`).
fn add(list: &mut Vec<Reach>, mut new: Reach, single: bool) {
    let taken = |port: &(ArcStr, u16)| {
        list.iter().any(|r| {
            let same = r.like(&new) && r.ports.contains(port);
            same || (single && r.on(&port.0).next().is_some())
        })
    };
    if !list.is_empty() && new.ports.iter().any(taken) {
        let left = ports(new.ports.iter().filter(|p| !taken(p)).cloned());
        new.ports = left;
    }
    if !new.ports.is_empty() {
        list.push(new);
    }
}

fn by_namespace(pods: &[Arc<PodSpec>]) -> FxHashMap<&str, Vec<&Arc<PodSpec>>> {
    let mut out: FxHashMap<&str, Vec<&Arc<PodSpec>>> = FxHashMap::default();
    for pod in pods {
        out.entry(pod.meta.namespace()).or_default().push(pod);
    }
    out
}

fn of_slice(slice: &EndpointSlice, pods: &FxHashMap<(&str, &str), &Arc<PodSpec>>) -> Vec<Reach> {
    let ports = ports(slice.ports.iter().cloned());
    let mut out = Vec::with_capacity(slice.endpoints.len());
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
        out.push(Reach {
            address: ReachAddress::Ip(endpoint.address),
            mtls: speaks_mtls(&labels),
            labels,
            ready: endpoint.ready,
            ports: ports.clone(),
        });
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
        out.push(Reach {
            address: ReachAddress::Ip(*address),
            mtls: speaks_mtls(&pod.meta.labels),
            labels: ReachLabels::Pod(Arc::clone(pod)),
            ready: true,
            ports: ports(service.ports.iter().filter_map(|p| Some((p.name.clone(), target_port(pod, p)?)))),
        });
    }
    out
}

/// The container port that a Service's port means in a pod.
pub(crate) fn target_port(pod: &PodSpec, port: &crate::mesh::object::kube::ServicePort) -> Option<u16> {
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
    label(labels, "security.istio.io/tlsMode").is_some_and(|v| v == "istio")
}

fn of_entry_host(
    entry: &ServiceEntry,
    host: &ArcStr,
    workloads: &FxHashMap<&str, Vec<&WorkloadEntry>>,
    pods: &FxHashMap<&str, Vec<&Arc<PodSpec>>>,
) -> Vec<Reach> {
    let mut out = Vec::new();
    let namespace = entry.meta.namespace().as_str();
    let own = || ports(entry.ports.iter().map(|p| (p.name.clone(), p.target.unwrap_or(p.number))));
    if let Some(selector) = &entry.selector {
        for workload in workloads.get(namespace).into_iter().flatten() {
            let endpoint = &workload.endpoint;
            let named = endpoint.address.parse::<IpAddr>().is_err();
            if selects(selector, &endpoint.labels) && (!named || entry.resolution.is_dns()) {
                out.push(of_endpoint(entry, endpoint));
            }
        }
        for pod in pods.get(namespace).into_iter().flatten().filter(|p| selects(selector, &p.meta.labels)) {
            let Some(ip) = pod.ips.first() else { continue };
            out.push(Reach {
                address: ReachAddress::Ip(*ip),
                mtls: speaks_mtls(&pod.meta.labels),
                labels: ReachLabels::Pod(Arc::clone(pod)),
                ready: true,
                ports: own(),
            });
        }
    } else if entry.endpoints.is_empty() && entry.resolution.is_dns() {
        out.push(Reach {
            address: ReachAddress::Name(host.clone()),
            labels: ReachLabels::None,
            mtls: false,
            ready: true,
            ports: own(),
        });
    } else {
        out.extend(entry.endpoints.iter().map(|e| of_endpoint(entry, e)));
    }
    out
}

fn of_endpoint(entry: &ServiceEntry, endpoint: &Endpoint) -> Reach {
    let address = if endpoint.address.starts_with("unix://") {
        ReachAddress::Unix
    } else {
        endpoint.address.parse().map_or_else(|_| ReachAddress::Name(endpoint.address.clone()), ReachAddress::Ip)
    };
    let mode = label(&endpoint.labels, "security.istio.io/tlsMode");
    let port = |EntryPort { number, name, target, .. }: &EntryPort| {
        let named = endpoint.ports.iter().find(|(n, p)| n == name && *p > 0).map(|(_, p)| *p);
        let port = if address == ReachAddress::Unix { 0 } else { named.or(*target).unwrap_or(*number) };
        (name.clone(), port)
    };
    Reach {
        ports: ports(entry.ports.iter().map(port)),
        mtls: mode.map_or(endpoint.service_account, |m| m == "istio"),
        labels: ReachLabels::own(&endpoint.labels),
        ready: true,
        address,
    }
}
