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
use crate::mesh::paged::{Once, Pool};
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

/// A filter chain. What every decision reads of it comes first and lies together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[repr(C)]
pub(crate) struct Chain {
    /// Takes plaintext HTTP only.
    pub(crate) http_only: bool,
    /// Takes TLS of the mesh only (AUTO_PASSTHROUGH).
    pub(crate) mesh_only: bool,
    pub(crate) terminates: Option<Termination>,
    pub(crate) origin: Origin,
    pub(crate) action: Action,
    pub(crate) sni: SmallVec<[ArcStr; 1]>,
    pub(crate) cidrs: SmallVec<[IpNet; 1]>,
}

impl Chain {
    pub(crate) fn is_match_all(&self) -> bool {
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

/// The chains of a server name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Named {
    One(Once<Chain>),
    Several(Arc<Vec<Once<Chain>>>),
}

impl Named {
    fn add(&mut self, chain: Once<Chain>) {
        match self {
            Self::One(known) if *known == chain => {}
            Self::One(known) => *self = Self::Several(Arc::new(vec![known.clone(), chain])),
            Self::Several(list) if list.contains(&chain) => {}
            Self::Several(list) => Arc::make_mut(list).push(chain),
        }
    }
}

/// Chains by server name.
#[derive(Debug)]
struct BySni {
    names: ByHost<Named>,
    unnamed: Box<[Once<Chain>]>,
}

impl BySni {
    fn new(hosts: &Arc<Hosts>, pool: &Pool<Named>, list: &[&Once<Chain>]) -> Self {
        let has_names = |chain: &&Once<Chain>| !chain.sni.is_empty() && chain.sni.iter().all(|s| s != "*");
        let each = list.iter().copied().filter(has_names);
        let each = each.flat_map(|chain| chain.sni.iter().map(move |name| (name, chain.clone())));
        let names =
            ByHost::new(hosts, pool, each.map(|(name, chain)| (name, Named::One(chain))), |known, new| match new {
                Named::One(chain) => known.add(chain),
                Named::Several(list) => list.iter().for_each(|chain| known.add(chain.clone())),
            });
        let unnamed = list.iter().copied().filter(|chain| !has_names(chain)).cloned().collect();
        Self { names, unnamed }
    }

    /// The chains of the name that fits best, else those without names.
    fn find(&self, sni: Option<&str>) -> &[Once<Chain>] {
        match sni.and_then(|name| self.names.most_specific(name)) {
            None => &self.unnamed,
            Some(Named::One(only)) => std::slice::from_ref(only),
            Some(Named::Several(list)) => list,
        }
    }
}

/// The chains of a listener, indexed so that a connection finds its own without a scan.
#[derive(Debug)]
pub(crate) struct Chains {
    pub(crate) list: Box<[Once<Chain>]>,
    /// The chain that takes what no other one does, if there is one.
    default: Option<Once<Chain>>,
    v4: PrefixMap<Ipv4Net, u32>,
    v6: PrefixMap<Ipv6Net, u32>,
    groups: Vec<BySni>,
    /// Chains without networks.
    everywhere: BySni,
    has_sni: bool,
}

impl Chains {
    pub(crate) fn new(list: Box<[Once<Chain>]>, hosts: &Arc<Hosts>, pool: &Pool<Named>) -> Self {
        let (mut v4, mut v6) = (PrefixMap::new(), PrefixMap::new());
        let (mut default, mut groups, mut everywhere) = (None, Vec::<Vec<&Once<Chain>>>::new(), Vec::new());
        for chain in &list {
            if chain.is_match_all() {
                default = Some(chain.clone());
                continue;
            }
            let mut networks = chain.networks().peekable();
            if networks.peek().is_none() {
                everywhere.push(chain);
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
                groups[group as usize].push(chain);
            }
        }
        Self {
            default,
            v4,
            v6,
            groups: groups.iter().map(|chains| BySni::new(hosts, pool, chains)).collect(),
            everywhere: BySni::new(hosts, pool, &everywhere),
            has_sni: list.iter().any(|c| !c.sni.is_empty()),
            list,
        }
    }

    /// The chain that takes a connection: longest network, then server name, then the sort of bytes; `None` is the listener's
    /// fall-through (outboundTrafficPolicy). No step back: what fails later than the network does not try a shorter one.
    pub(crate) fn find(&self, ip: IpAddr, sni: &str, seen: Seen) -> Option<&Once<Chain>> {
        let net = match ip {
            IpAddr::V4(ip) => self.v4.get_lpm(&Ipv4Net::from(ip)).filter(|(n, _)| n.prefix_len() > 0).map(|(_, g)| *g),
            IpAddr::V6(ip) => self.v6.get_lpm(&Ipv6Net::from(ip)).filter(|(n, _)| n.prefix_len() > 0).map(|(_, g)| *g),
        };
        let group = net.map_or(&self.everywhere, |g| &self.groups[g as usize]);
        let encrypted = matches!(seen, Seen::Tls | Seen::MeshTls);
        let name = Some(sni).filter(|s| encrypted && !s.is_empty());
        let found = group.find(name);
        // transport protocol: without a TLS inspector Envoy takes every connection for plaintext
        let plain = !encrypted || !self.has_sni;
        let by_transport = found.iter().any(|c| c.http_only);
        let left = |c: &&Once<Chain>| !by_transport || c.http_only == plain;
        // application protocol, recognised from the bytes or from ALPN
        let left = || found.iter().filter(left);
        if !left().any(|c| c.http_only || c.mesh_only) {
            return left().next().or(self.default.as_ref());
        }
        let http = seen == Seen::Http && left().any(|c| c.http_only);
        let mesh = seen == Seen::MeshTls && left().any(|c| c.mesh_only);
        left().find(|c| c.http_only == http && c.mesh_only == mesh).or(self.default.as_ref())
    }
}
