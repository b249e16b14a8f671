//! Filter chains: what they match, what they do, and which one a connection falls into.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use arcstr::ArcStr;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use rustc_hash::FxHasher;
use smallvec::SmallVec;

use crate::mesh::hosts::{ByHost, Hosts};
use crate::mesh::registry::UpstreamId;
use crate::mesh::visible::VsId;

/// Envoy's cluster: port, subset, host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Cluster {
    pub(crate) port: u16,
    pub(crate) subset: ArcStr,
    /// Empty for a backend that cannot be used.
    pub(crate) host: ArcStr,
    name: ClusterName,
}

/// Envoy's name of a cluster, made when it is first asked for: it says nothing that the cluster's other parts do not say.
#[derive(Debug, Clone, Default)]
struct ClusterName(OnceLock<ArcStr>);

impl PartialEq for ClusterName {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for ClusterName {}

impl Hash for ClusterName {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Cluster {
    pub(crate) fn new(port: u16, subset: ArcStr, host: ArcStr) -> Self {
        Self { port, subset, host, name: ClusterName::default() }
    }

    /// Envoy's name.
    pub(crate) fn name(&self) -> &ArcStr {
        self.name.0.get_or_init(|| arcstr::format!("{self}"))
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.is_empty() {
            return f.write_str("UnknownService");
        }
        write!(f, "outbound|{}|{}|{}", self.port, self.subset, self.host)
    }
}

/// A cluster of several.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Weighted {
    pub(crate) cluster: Cluster,
    pub(crate) weight: u32,
    /// Its place among the routes of the rule.
    pub(crate) place: u16,
}

/// What a chain does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Sends bytes on.
    Tcp(SmallVec<[Weighted; 1]>),
    /// Looks the Host up in the port's route table.
    Routes,
    /// The route table of one upstream, whatever the Host.
    OwnRoutes(ArcStr),
    /// A route table of a gateway, by its place.
    GatewayRoutes(u32),
}

impl Action {
    pub(crate) fn tcp(cluster: Cluster) -> Self {
        Self::Tcp(SmallVec::from_iter([Weighted { cluster, weight: 0, place: 0 }]))
    }
}

/// How a gateway's chain ends TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Termination {
    /// Any client.
    Tls,
    /// Clients of the mesh only.
    IstioMutual,
}

/// A block of a VirtualService.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Block {
    Http,
    Tls,
    Tcp,
}

/// A rule of a VirtualService, and the match of it that fits (`u16::MAX`: it has none).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Picked {
    pub(crate) id: VsId,
    pub(crate) block: Block,
    pub(crate) rule: u16,
    pub(crate) place: u16,
}

impl Picked {
    pub(crate) fn new(id: VsId, block: Block, rule: usize, place: usize) -> Self {
        Self { id, block, rule: rule as u16, place: place.min(u16::MAX.into()) as u16 }
    }
}

/// What a chain was made for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) upstream: Option<UpstreamId>,
    pub(crate) rule: Option<Picked>,
}

/// A filter chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Chain {
    pub(crate) sni: SmallVec<[ArcStr; 1]>,
    pub(crate) cidrs: SmallVec<[IpNet; 1]>,
    /// Takes plaintext HTTP only.
    pub(crate) http_only: bool,
    /// Takes TLS of the mesh only (AUTO_PASSTHROUGH).
    pub(crate) mesh_only: bool,
    pub(crate) terminates: Option<Termination>,
    pub(crate) action: Action,
    pub(crate) origin: Origin,
}

impl Chain {
    fn is_match_all(&self) -> bool {
        (self.sni.is_empty() || self.sni.iter().any(|s| s == "*"))
            && !self.http_only
            && !self.mesh_only
            && self.cidrs.is_empty()
    }

    /// Networks that Envoy is told: 0.0.0.0/n is left out (`toFilterChainMatch`).
    fn networks(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.cidrs.iter().map(IpNet::trunc).filter(|n| n.addr() != IpAddr::from([0, 0, 0, 0]))
    }

    /// Equal for chains that [`Chain::matches_like`] each other.
    pub(crate) fn match_hash(&self) -> u64 {
        let one = |value: &dyn Fn(&mut FxHasher)| {
            let mut hasher = FxHasher::default();
            value(&mut hasher);
            hasher.finish()
        };
        let mut parts: SmallVec<[u64; 4]> =
            self.sni.iter().filter(|s| *s != "*").map(|s| one(&|h| s.hash(h))).collect();
        parts.extend(self.networks().map(|n| one(&|h| n.hash(h))));
        parts.sort_unstable();
        parts.dedup();
        one(&|h| (self.http_only, &parts).hash(h))
    }

    /// The same match, so that Envoy would refuse both together (`conflictsWith`).
    pub(crate) fn matches_like(&self, other: &Self) -> bool {
        let names = |c: &Self| c.sni.iter().filter(|s| *s != "*").cloned().collect::<BTreeSet<_>>();
        let nets = |c: &Self| c.networks().collect::<BTreeSet<_>>();
        self.http_only == other.http_only && names(self) == names(other) && nets(self) == nets(other)
    }
}

/// What the bytes are, as listener filters tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Tls,
    /// TLS of the mesh, which says so in ALPN.
    MeshTls,
    /// Plaintext HTTP.
    Http,
    /// Plaintext, something else.
    Raw,
}

/// Chains by server name.
#[derive(Debug)]
struct BySni {
    /// The chain of each name; with [`SEVERAL`] set, a place in `several`.
    names: ByHost,
    several: Vec<SmallVec<[u32; 2]>>,
    unnamed: SmallVec<[u32; 2]>,
}

/// Marks a place in [`BySni::several`].
const SEVERAL: u32 = 1 << 31;

impl BySni {
    /// Of chains, by their places in `list`.
    fn new(hosts: &Arc<Hosts>, list: &[Arc<Chain>], places: &[u32]) -> Self {
        let chain = |n: &u32| &list[*n as usize];
        let has_names = |n: &u32| !chain(n).sni.is_empty() && chain(n).sni.iter().all(|s| s != "*");
        let (with_names, without): (Vec<u32>, Vec<u32>) = places.iter().partition(|n| has_names(n));
        let mut several: Vec<SmallVec<[u32; 2]>> = Vec::new();
        let each = with_names.iter().flat_map(|n| chain(n).sni.iter().map(move |name| (name, *n)));
        let names = ByHost::new(hosts, each, |known, n| {
            if known == n {
                return known;
            }
            if known & SEVERAL == 0 {
                several.push(SmallVec::from_slice(&[known, n]));
                return SEVERAL | (several.len() as u32 - 1);
            }
            let list = &mut several[(known & !SEVERAL) as usize];
            if !list.contains(&n) {
                list.push(n);
            }
            known
        });
        Self { names, several, unnamed: without.into() }
    }

    /// The chains of the name that fits best, else those without names.
    fn find(&self, sni: Option<&str>) -> SmallVec<[u32; 4]> {
        match sni.and_then(|name| self.names.most_specific(name)) {
            None => self.unnamed.iter().copied().collect(),
            Some(place) if place & SEVERAL != 0 => self.several[(place & !SEVERAL) as usize].iter().copied().collect(),
            Some(only) => SmallVec::from_slice(&[only]),
        }
    }
}

/// The chains of a listener, indexed so that a connection finds its own without a scan.
#[derive(Debug)]
pub(crate) struct Chains {
    pub(crate) list: Box<[Arc<Chain>]>,
    /// The chain that takes what no other one does, if there is one.
    default: Option<u32>,
    v4: PrefixMap<Ipv4Net, u32>,
    v6: PrefixMap<Ipv6Net, u32>,
    groups: Vec<BySni>,
    /// Chains without networks.
    everywhere: BySni,
    has_sni: bool,
}

impl Chains {
    pub(crate) fn new(list: Box<[Arc<Chain>]>, hosts: &Arc<Hosts>) -> Self {
        let (mut v4, mut v6) = (PrefixMap::new(), PrefixMap::new());
        let (mut default, mut groups, mut everywhere) = (None, Vec::<Vec<u32>>::new(), Vec::new());
        for (n, chain) in (0u32..).zip(&list) {
            if chain.is_match_all() {
                default = Some(n);
                continue;
            }
            let mut networks = chain.networks().peekable();
            if networks.peek().is_none() {
                everywhere.push(n);
            }
            for network in networks {
                let fresh = groups.len() as u32;
                let group = match network {
                    IpNet::V4(net) => *v4.entry(net).or_insert(fresh),
                    IpNet::V6(net) => *v6.entry(net).or_insert(fresh),
                };
                if group == fresh {
                    groups.push(Vec::new());
                }
                groups[group as usize].push(n);
            }
        }
        Self {
            default,
            v4,
            v6,
            groups: groups.iter().map(|places| BySni::new(hosts, &list, places)).collect(),
            everywhere: BySni::new(hosts, &list, &everywhere),
            has_sni: list.iter().any(|c| !c.sni.is_empty()),
            list,
        }
    }

    /// The chain that takes a connection: longest network, then server name, then the sort of bytes; `None` is the listener's
    /// fall-through (outboundTrafficPolicy). No step back: what fails later than the network does not try a shorter one.
    pub(crate) fn find(&self, ip: IpAddr, sni: &str, seen: Seen) -> Option<(usize, &Chain)> {
        let net = match ip {
            IpAddr::V4(ip) => self.v4.get_lpm(&Ipv4Net::from(ip)).filter(|(n, _)| n.prefix_len() > 0).map(|(_, g)| *g),
            IpAddr::V6(ip) => self.v6.get_lpm(&Ipv6Net::from(ip)).filter(|(n, _)| n.prefix_len() > 0).map(|(_, g)| *g),
        };
        let group = net.map_or(&self.everywhere, |g| &self.groups[g as usize]);
        let encrypted = matches!(seen, Seen::Tls | Seen::MeshTls);
        let name = Some(sni).filter(|s| encrypted && !s.is_empty());
        let chain = |n: &u32| &*self.list[*n as usize];
        let mut left = group.find(name);
        // transport protocol: without a TLS inspector Envoy takes every connection for plaintext
        if left.iter().any(|n| chain(n).http_only) {
            let plain = !encrypted || !self.has_sni;
            left.retain(|n| chain(n).http_only == plain);
        }
        // application protocol, recognised from the bytes or from ALPN
        if left.iter().any(|n| chain(n).http_only || chain(n).mesh_only) {
            let http = seen == Seen::Http && left.iter().any(|n| chain(n).http_only);
            let mesh = seen == Seen::MeshTls && left.iter().any(|n| chain(n).mesh_only);
            left.retain(|n| chain(n).http_only == http && chain(n).mesh_only == mesh);
        }
        left.first().copied().or(self.default).map(|n| (n as usize, chain(&n)))
    }
}
