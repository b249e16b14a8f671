//! Addresses: whose they are inside the cluster, and which entries own them.

use std::net::{IpAddr, SocketAddr};

use arcstr::ArcStr;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::id::ObjectRef;
use crate::mesh::index::Index;
use crate::mesh::reach::ReachAddress;
use crate::mesh::registry::{Address, UpstreamId};
use crate::mesh::{InCluster, Mesh};

/// Entries by address.
#[derive(Debug, Default)]
pub(crate) struct Inside {
    /// Cluster addresses to Services.
    services: FxHashMap<IpAddr, u32>,
    nodes: FxHashMap<IpAddr, u32>,
    /// Addresses of pods that only their Services' endpoints tell of: those of other nodes. Sorted; the second is the slice.
    behind: Vec<(IpAddr, u32)>,
    /// Nodes by the addresses that their pods get.
    pods_v4: PrefixMap<Ipv4Net, u32>,
    pods_v6: PrefixMap<Ipv6Net, u32>,
    /// Addresses of entries, allocated ones included.
    entries: FxHashMap<IpAddr, SmallVec<[UpstreamId; 1]>>,
    /// Addresses of their listed endpoints.
    endpoints: FxHashMap<IpAddr, SmallVec<[UpstreamId; 1]>>,
    /// Of the API server.
    api: Vec<(IpAddr, u16)>,
    v4: PrefixMap<Ipv4Net, SmallVec<[UpstreamId; 1]>>,
    v6: PrefixMap<Ipv6Net, SmallVec<[UpstreamId; 1]>>,
}

impl Inside {
    pub(crate) fn new(index: &Index) -> Self {
        let mut out = Self { api: api_endpoints(index), ..Self::default() };
        for (n, service) in (0u32..).zip(&index.services) {
            for ip in &service.cluster_ips {
                out.services.entry(*ip).or_insert(n);
            }
        }
        for (n, node) in (0u32..).zip(&index.nodes) {
            for ip in &node.addresses {
                out.nodes.entry(*ip).or_insert(n);
            }
            for net in &node.pod_networks {
                let _of_another_node = match net {
                    IpNet::V4(net) => out.pods_v4.insert(net.trunc(), n),
                    IpNet::V6(net) => out.pods_v6.insert(net.trunc(), n),
                };
            }
        }
        for (n, slice) in (0u32..).zip(&index.parts.slices) {
            out.behind.extend(slice.endpoints.iter().filter(|e| e.pod.is_some()).map(|e| (e.address, n)));
        }
        out.behind.sort_unstable();
        out.behind.dedup_by_key(|(ip, _)| *ip);
        out.behind.shrink_to_fit();
        for (n, upstream) in (0u32..).zip(&index.registry.upstreams).filter(|(_, u)| !u.kubernetes) {
            let id = UpstreamId(n);
            match upstream.address {
                Address::Ip(ip) => out.entries.entry(ip).or_default().push(id),
                Address::Cidr(IpNet::V4(net)) => out.v4.entry(net.trunc()).or_default().push(id),
                Address::Cidr(IpNet::V6(net)) => out.v6.entry(net.trunc()).or_default().push(id),
                Address::Any => {}
            }
            for (_, ip) in &upstream.allocated {
                out.entries.entry(*ip).or_default().push(id);
            }
            for port in &upstream.ports {
                for (reach, _) in upstream.reach(port) {
                    if let ReachAddress::Ip(ip) = reach.address {
                        let list = out.endpoints.entry(ip).or_default();
                        if !list.contains(&id) {
                            list.push(id);
                        }
                    }
                }
            }
        }
        out
    }

    /// Entries that own an address: exactly, by a range, or as an endpoint.
    pub(crate) fn owners(&self, ip: IpAddr) -> SmallVec<[UpstreamId; 2]> {
        let mut out: SmallVec<[UpstreamId; 2]> = self.entries.get(&ip).into_iter().flatten().copied().collect();
        match ip {
            IpAddr::V4(ip) => {
                out.extend(self.v4.get_lpm(&Ipv4Net::from(ip)).into_iter().flat_map(|(_, l)| l.iter().copied()));
            }
            IpAddr::V6(ip) => {
                out.extend(self.v6.get_lpm(&Ipv6Net::from(ip)).into_iter().flat_map(|(_, l)| l.iter().copied()));
            }
        }
        out.extend(self.endpoints.get(&ip).into_iter().flatten().copied());
        out
    }
}

/// Services of the cluster's DNS.
fn is_dns(object: &ObjectRef, labels: &[(ArcStr, ArcStr)]) -> bool {
    object.name.namespace == "kube-system"
        && (matches!(object.name.name.as_str(), "kube-dns" | "coredns" | "rke2-coredns-rke2-coredns")
            || crate::mesh::object::read::label(labels, "k8s-app").is_some_and(|v| v == "kube-dns"))
        || (object.name.namespace == "openshift-dns" && object.name.name == "dns-default")
}

impl InCluster {
    /// Whose address it is, in words.
    pub fn says(&self, to: SocketAddr) -> String {
        match &self.object {
            Some(node) if self.what == "pod-network" => format!("{to} is in the network of {node}'s pods"),
            Some(object) => format!("{to} is the address of {object}"),
            None => format!("{to} is {}", self.what),
        }
    }

    /// The field of the object that says so.
    pub(crate) fn field(&self) -> &'static str {
        match self.what {
            "pod" => ".status.podIPs",
            "pod-network" => ".spec.podCIDRs",
            _ => ".spec",
        }
    }
}

impl Mesh {
    /// Whose address this is, if it is inside the cluster.
    pub fn in_cluster(&self, ip: IpAddr, port: u16) -> Option<InCluster> {
        let link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        if ip.is_loopback() || ip.is_unspecified() || link_local {
            // NodeLocal DNSCache answers on a link-local address
            return Some(InCluster { object: None, what: if link_local && port == 53 { "dns" } else { "loopback" } });
        }
        if let Some(n) = self.inside.services.get(&ip) {
            let meta = &self.index.services[*n as usize].meta;
            let name = &meta.object.name;
            let what = if name.namespace == "default" && name.name == "kubernetes" {
                "api-server"
            } else if is_dns(&meta.object, &meta.labels) {
                "dns"
            } else {
                "service"
            };
            return Some(InCluster { object: Some(meta.object.clone()), what });
        }
        if let Some(pod) = self.pod_by_ip(ip) {
            let pod = self.pod(pod);
            let what = if is_dns(&ObjectRef::new("Service", pod.name.namespace.clone(), ""), &pod.labels) {
                "dns"
            } else {
                "pod"
            };
            return Some(InCluster { object: Some(pod.object.clone()), what });
        }
        let api = self.inside.api.contains(&(ip, port));
        let node = self.inside.nodes.get(&ip).map(|n| self.index.nodes[*n as usize].meta.object.clone());
        if api {
            return Some(InCluster {
                object: Some(ObjectRef::new("Service", "default", "kubernetes")),
                what: "api-server",
            });
        }
        if node.is_some() {
            return node.map(|object| InCluster { object: Some(object), what: "node" });
        }
        self.pod_elsewhere(ip)
    }

    /// A pod that is known by its Service's endpoints, or by the network that its node takes addresses from: of other nodes'
    /// pods no more than that may be known.
    fn pod_elsewhere(&self, ip: IpAddr) -> Option<InCluster> {
        let inside = &self.inside;
        if let Ok(at) = inside.behind.binary_search_by_key(&ip, |(ip, _)| *ip) {
            let slice = &self.index.parts.slices[inside.behind[at].1 as usize];
            let pod = slice.endpoints.iter().find(|e| e.address == ip).and_then(|e| e.pod.clone())?;
            return Some(InCluster { object: Some(ObjectRef::new("Pod", slice.namespace.clone(), pod)), what: "pod" });
        }
        let node = match ip {
            IpAddr::V4(ip) => inside.pods_v4.get_lpm(&Ipv4Net::from(ip)).map(|(_, n)| *n),
            IpAddr::V6(ip) => inside.pods_v6.get_lpm(&Ipv6Net::from(ip)).map(|(_, n)| *n),
        }?;
        Some(InCluster { object: Some(self.index.nodes[node as usize].meta.object.clone()), what: "pod-network" })
    }

    /// Addresses of the cluster's DNS servers.
    pub fn dns_servers(&self) -> Vec<IpAddr> {
        let of_dns = self.index.services.iter().filter(|s| is_dns(&s.meta.object, &s.meta.labels));
        of_dns.flat_map(|s| s.cluster_ips.iter().copied()).collect()
    }

    /// The address is istiod's: where proxies get their configuration and certificates.
    pub fn is_control_plane(&self, ip: IpAddr, port: u16) -> bool {
        let istiod = |labels: &[(ArcStr, ArcStr)]| {
            let is = |key: &str, value: &str| crate::mesh::object::read::label(labels, key).is_some_and(|v| v == value);
            is("app", "istiod") || is("istio", "pilot")
        };
        let ours = matches!(port, 15010 | 15012 | 15014 | 15017 | 443);
        if let Some(n) = self.inside.services.get(&ip) {
            let service = &self.index.services[*n as usize];
            return istiod(&service.meta.labels)
                || istiod(&service.selector)
                || (service.meta.name().starts_with("istiod") && ours);
        }
        self.pod_by_ip(ip).is_some_and(|p| istiod(&self.pod(p).labels)) && ours
    }
}

/// Endpoints of the API server's Service.
fn api_endpoints(index: &Index) -> Vec<(IpAddr, u16)> {
    let registry = &index.registry;
    let host = crate::mesh::host::service_host("kubernetes", "default");
    let mut out = Vec::new();
    for id in registry.named(&host) {
        let upstream = registry.get(id);
        for (reach, port) in upstream.ports.iter().flat_map(|p| upstream.reach(p)) {
            if let ReachAddress::Ip(ip) = reach.address {
                out.push((ip, port));
            }
        }
    }
    out
}
