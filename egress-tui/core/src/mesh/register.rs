//! Whether a destination is registered for a workload, whatever its route.

use std::net::IpAddr;

use arcstr::ArcStr;
use smallvec::SmallVec;

use crate::mesh::host;
use crate::mesh::hosts::Holding;
use crate::mesh::index::Index;
use crate::mesh::object::Resolution;
use crate::mesh::proxy::{Proxy, Role};
use crate::mesh::registry::{Address, Upstream, UpstreamId, Visibility};
use crate::mesh::{Mesh, Miss, Registration};
use crate::verdict::Reason;
use crate::verdict::says::says;

/// A name that a call shows, looked up once.
pub(crate) struct Shown<'a> {
    /// In lower case, without a port.
    pub(crate) text: &'a str,
    /// A Host header may be an address.
    address: Option<IpAddr>,
    /// Hosts that hold it.
    pub(crate) holding: Holding,
}

impl<'a> Shown<'a> {
    pub(crate) fn new(index: &Index, text: &'a str) -> Self {
        let address = address(text);
        let holding = if address.is_some() { Holding::new() } else { index.hosts.holding(text) };
        Self { text, address, holding }
    }
}

/// How a destination is registered for a workload.
pub(crate) struct Registered {
    pub(crate) registration: Registration,
    /// With this port, and visible.
    pub(crate) here: SmallVec<[UpstreamId; 4]>,
    /// Entries that would register it but for one thing.
    pub(crate) misses: Vec<Miss>,
}

impl Mesh {
    /// Addresses that stand for a host: of its entry or Service, else what istiod allocates.
    pub fn addresses_of(&self, host: &str) -> impl Iterator<Item = IpAddr> {
        let registry = &self.index.registry;
        let mut found = Vec::new();
        registry.of_host.each_match(&host.to_ascii_lowercase(), |ids| {
            for upstream in ids.iter().map(|id| registry.get(*id)).filter(|u| *u.host == *host) {
                if let Address::Ip(ip) = upstream.address {
                    found.push(ip);
                }
                found.extend(upstream.allocated.iter().map(|(_, ip)| *ip));
            }
        });
        found.into_iter()
    }

    /// By any of the names, else by address.
    pub(crate) fn registration(&self, proxy: &Proxy, names: &[Shown<'_>], ip: IpAddr, port: u16) -> Registered {
        let index = &self.index;
        let mut candidates: SmallVec<[UpstreamId; 8]> = SmallVec::new();
        let mut hidden: SmallVec<[u32; 4]> = SmallVec::new();
        let mut by_name = false;
        for Shown { text: name, address, holding } in names {
            if let Some(address) = *address {
                if address != ip {
                    candidates.extend(self.inside.owners(address));
                }
                continue;
            }
            by_name = true;
            let known = candidates.len();
            for host in holding {
                candidates.extend_from_slice(index.registry.of_host.at(*host));
            }
            if candidates.len() == known {
                // a name below a headless Service, or a Service's short form: `name`, `name.namespace`, `name.namespace.svc`
                let headless = |id: &&UpstreamId| {
                    let upstream = index.registry.get(**id);
                    upstream.kubernetes && upstream.resolution == Resolution::Passthrough
                };
                let above = name.match_indices('.').filter_map(|(at, _)| index.registry.of_host.get(&name[at + 1..]));
                candidates.extend(above.flatten().filter(headless).copied());
                let long = long_name(name, proxy.namespace()).and_then(|long| index.registry.of_host.get(&long));
                candidates.extend(long.into_iter().flatten().copied());
            }
            if !index.hidden.list.is_empty() {
                index.hidden.by_host.each_match(name, |ids| hidden.extend_from_slice(ids));
            }
        }
        if !by_name {
            candidates.extend(self.inside.owners(ip));
            if let Some(service) = self.service_at(ip) {
                candidates.push(service);
            }
            hidden.extend(index.hidden.by_address.get(&ip).into_iter().flatten().copied());
        }
        // an ExternalName Service registers nothing itself: it is another name of its target
        let alias = |id: &UpstreamId| index.registry.get(*id).external_name.is_some();
        if candidates.iter().any(alias) {
            for id in std::mem::take(&mut candidates) {
                match &index.registry.get(id).external_name {
                    Some(target) => index.registry.of_host.each_match(target, |ids| {
                        candidates.extend(ids.iter().filter(|id| !alias(id)).copied());
                    }),
                    None => candidates.push(id),
                }
            }
        }
        if candidates.len() > 1 {
            candidates.sort_unstable();
            candidates.dedup();
        }
        let mut here: SmallVec<[UpstreamId; 4]> = SmallVec::new();
        for id in &candidates {
            let upstream = index.registry.get(*id);
            if upstream.port(port).is_some() && sees(index, proxy, upstream) {
                here.push(*id);
            }
        }
        if !here.is_empty() {
            return Registered { registration: Registration::Visible, here, misses: Vec::new() };
        }
        // those that have the port come first
        let (mut other, mut misses, mut with_port) = (Vec::new(), Vec::new(), 0);
        let mut add = |has_port: bool, miss: Miss| {
            misses.insert(if has_port { with_port } else { misses.len() }, miss);
            with_port += usize::from(has_port);
        };
        for id in &candidates {
            let upstream = index.registry.get(*id);
            match hides(index, proxy, upstream) {
                None => other.push(upstream),
                Some(miss) => add(upstream.port(port).is_some(), miss),
            }
        }
        hidden.sort_unstable();
        hidden.dedup();
        for hidden in hidden.iter().map(|n| &index.hidden.list[*n as usize]) {
            let (object, field, says) = hidden.by.clone();
            let has_port = hidden.entry.ports.iter().any(|p| p.number == port);
            add(has_port, Miss { reason: Reason::DiscoverySelector, object, field, says, gateway: None });
        }
        let registration = if with_port > 0 {
            Registration::NotVisible
        } else if !other.is_empty() {
            Registration::OtherPort
        } else if !misses.is_empty() {
            Registration::NotVisible
        } else {
            Registration::Unregistered
        };
        if registration == Registration::OtherPort {
            misses.splice(0..0, other.into_iter().map(|u| other_port(u, port)));
        }
        Registered { registration, here, misses }
    }

    /// The Service that has this cluster address.
    fn service_at(&self, ip: IpAddr) -> Option<UpstreamId> {
        let object = self.in_cluster(ip, 0)?.object.filter(|o| o.kind == "Service")?;
        let host = host::service_host(&object.name.name, &object.name.namespace);
        self.index.registry.named(&host).first().copied()
    }
}

/// A name that is an address: most are not, and are known by their first byte.
fn address(name: &str) -> Option<IpAddr> {
    let first = name.bytes().next()?;
    let possible = first.is_ascii_digit() || name.bytes().filter(|b| *b == b':').count() > 0;
    if possible { name.parse().ok() } else { None }
}

/// The host of the Service that a short name means in a namespace.
fn long_name(name: &str, namespace: &str) -> Option<ArcStr> {
    let mut parts = name.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(name), None, ..) => Some(host::service_host(name, namespace)),
        (Some(name), Some(namespace), None | Some("svc"), None) => Some(host::service_host(name, namespace)),
        _ => None,
    }
}

fn other_port(upstream: &Upstream, port: u16) -> Miss {
    let ports: Vec<String> = upstream.ports.iter().map(|p| p.number.to_string()).collect();
    Miss {
        reason: Reason::PortNotRegistered,
        object: upstream.object.clone(),
        field: ".spec.ports".into(),
        says: format!("{} is registered with port {}, not {port}", upstream.host, ports.join(", ")).into(),
        gateway: None,
    }
}

fn sees(index: &Index, proxy: &Proxy, upstream: &Upstream) -> bool {
    upstream.visibility.includes(proxy.namespace())
        && (proxy.key.role == Role::Gateway || proxy.scope.lists(index, upstream))
}

/// Why a proxy does not see an upstream.
pub(crate) fn hides(index: &Index, proxy: &Proxy, upstream: &Upstream) -> Option<Miss> {
    if sees(index, proxy, upstream) {
        return None;
    }
    let namespace = proxy.namespace();
    if !upstream.visibility.includes(namespace) {
        let capped = upstream.declared_export().unwrap_or(&index.config.service_export);
        let capped = Visibility::new(capped, &upstream.namespace).includes(namespace);
        let (object, field) = match upstream.declared_export() {
            _ if capped && let Some(object) = &index.config.object => {
                (object.clone(), index.config.field("serviceEntryVisibility"))
            }
            Some(_) if upstream.kubernetes => {
                (upstream.object.clone(), ".metadata.annotations[\"networking.istio.io/exportTo\"]".into())
            }
            Some(_) => (upstream.object.clone(), ".spec.exportTo".into()),
            None => match &index.config.object {
                Some(object) => (object.clone(), index.config.field("defaultServiceExportTo")),
                None => (upstream.object.clone(), ".spec.exportTo".into()),
            },
        };
        let says = says![&upstream.object, " is not exported to the namespace ", namespace];
        return Some(Miss { reason: Reason::NotExported, object, field, says, gateway: None });
    }
    let sidecar = &index.sidecars[proxy.scope.sidecar? as usize];
    let says = says![&sidecar.meta.object, " does not import ", &upstream.host];
    Some(Miss {
        reason: Reason::SidecarScope,
        object: sidecar.meta.object.clone(),
        field: ".spec.egress".into(),
        says,
        gateway: None,
    })
}
