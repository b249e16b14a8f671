//! Outbound listeners of a sidecar on one port, and which filter chain takes a connection (Istio: `networking/core/listener.go`,
//! `tls.go`; Envoy: filter chain match).

use std::borrow::Borrow;
use std::collections::hash_map::Entry;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use arcstr::ArcStr;
use ipnet::IpNet;
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use crate::mesh::chain::{Action, Block, Chain, Chains, Cluster, Origin, Picked, Weighted};
use crate::mesh::host;
use crate::mesh::index::Index;
use crate::mesh::object::read::selects;
use crate::mesh::object::virtual_service::MESH;
use crate::mesh::object::{L4Match, Resolution, Route};
use crate::mesh::protocol::Protocol;
use crate::mesh::proxy::Proxy;
use crate::mesh::reach::ReachAddress;
use crate::mesh::registry::{Address, Upstream};
use crate::mesh::scope::{EgressListener, Scoped};
use crate::mesh::visible::VsId;

/// Port on which istiod's proxies are redirected to.
pub(crate) const VIRTUAL_OUTBOUND: u16 = 15001;

/// Ports that a proxy listens on itself: redirect targets, health, metrics.
const RESERVED: [u16; 4] = [VIRTUAL_OUTBOUND, 15006, 15021, 15090];

/// Address of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Bind {
    /// 0.0.0.0 (:: where the proxy has only IPv6).
    Any,
    Ip(IpAddr),
}

/// The listeners of one port.
#[derive(Debug, Default)]
pub(crate) struct PortListeners {
    exact: FxHashSet<ByAddress>,
    /// No address has a listener here that is not among [`Registry::addresses`](crate::mesh::registry::Registry::addresses).
    registered: bool,
    any: Option<Arc<Listener>>,
}

/// One listener.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) bind: Bind,
    pub(crate) chains: Chains,
    /// It belongs to one pod of a headless Service.
    pub(crate) of_pod: bool,
}

/// A listener that is found by the address that it binds, without a copy of it: a proxy has thousands.
#[derive(Debug)]
struct ByAddress(Arc<Listener>);

impl Borrow<IpAddr> for ByAddress {
    fn borrow(&self) -> &IpAddr {
        match &self.0.bind {
            Bind::Ip(ip) => ip,
            Bind::Any => &IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        }
    }
}

impl Hash for ByAddress {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Borrow::<IpAddr>::borrow(self).hash(state);
    }
}

impl PartialEq for ByAddress {
    fn eq(&self, other: &Self) -> bool {
        self.0.bind == other.0.bind
    }
}

impl Eq for ByAddress {}

impl PortListeners {
    /// Builds the listeners: egress listeners in order, in each the upstreams in order (`buildSidecarOutboundListeners`).
    pub(crate) fn new(index: &Index, proxy: &Proxy, port: u16) -> Self {
        let mut building = Building { index, proxy, port, open: Vec::new(), places: FxHashMap::default() };
        for egress in &proxy.scope.listeners {
            match egress.port {
                Some((own, protocol)) if own == port => building.own_port(egress, protocol),
                Some(_) => {}
                None => building.catch_all(egress),
            }
        }
        let (mut exact, mut any) = (FxHashSet::default(), None);
        for open in building.open {
            let listener = index.shared.listener((port, open.bind), open.of_pod, open.chains, &index.hosts);
            match open.bind {
                Bind::Any => any = Some(listener),
                Bind::Ip(_) => {
                    exact.insert(ByAddress(listener));
                }
            }
        }
        exact.shrink_to_fit();
        let known = |l: &ByAddress| index.registry.addresses.may_have(*Borrow::<IpAddr>::borrow(l));
        Self { registered: exact.iter().all(known), exact, any }
    }

    /// Exact address first, then the wildcard. `own` is the pod's own address, for which no listener of a headless Service exists.
    pub(crate) fn find(&self, index: &Index, ip: IpAddr, own: Option<IpAddr>) -> Option<&Listener> {
        // most connections are to an address that nothing listens on
        let possible = !self.registered || index.registry.addresses.may_have(ip);
        let exact = if possible { self.exact.get(&ip).map(|l| &*l.0) } else { None };
        exact.filter(|l| !l.of_pod || own != Some(ip)).or(self.any.as_deref())
    }
}

struct Open {
    bind: Bind,
    protocol: Protocol,
    locked: bool,
    of_pod: bool,
    chains: Vec<Chain>,
    by_match: ByMatch,
}

struct Building<'a> {
    index: &'a Index,
    proxy: &'a Proxy,
    port: u16,
    open: Vec<Open>,
    places: FxHashMap<Bind, usize>,
}

impl Building<'_> {
    fn open(&mut self, mut open: Open) {
        open.by_match = ByMatch::new(&open.chains);
        match self.places.entry(open.bind) {
            Entry::Occupied(place) => self.open[*place.get()] = open,
            Entry::Vacant(place) => {
                place.insert(self.open.len());
                self.open.push(open);
            }
        }
    }
}

/// One upstream about to be added.
struct Adding<'a> {
    egress: &'a EgressListener,
    scoped: Scoped<'a>,
    upstream: &'a Upstream,
    protocol: Protocol,
    bind: Option<Bind>,
    of_pod: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Conflict {
    None,
    HttpOverTcp,
    TcpOverHttp,
    TcpOverTcp,
    TcpOverAuto,
    AutoOverHttp,
    AutoOverTcp,
}

impl Building<'_> {
    /// A listener with a port of its own: its protocol counts, not that of the upstreams.
    fn own_port(&mut self, egress: &EgressListener, protocol: Protocol) {
        let bind = declared_bind(egress);
        if self.reserved(bind, protocol) {
            return;
        }
        for scoped in egress.services.iter() {
            let upstream = self.index.registry.get(scoped.id);
            self.add(&Adding { egress, scoped, upstream, protocol, bind, of_pod: false });
        }
    }

    fn catch_all(&mut self, egress: &EgressListener) {
        // what listeners with a port of their own made is theirs
        self.open.iter_mut().for_each(|o| o.locked = true);
        let bind = declared_bind(egress);
        for (n, place) in egress.by_port.get(&self.port).into_iter().flatten() {
            let scoped = egress.services.at(*n);
            let upstream = self.index.registry.get(scoped.id);
            let Some(port) = scoped.ports(upstream).nth(*place as usize) else { continue };
            if self.reserved(bind, port.protocol) {
                continue;
            }
            let adding = Adding { egress, scoped, upstream, protocol: port.protocol, bind, of_pod: false };
            let by_endpoint = bind.is_none()
                && upstream.resolution == Resolution::Passthrough
                && self.proxy.address(upstream) == Address::Any
                && (port.protocol.is_tcp() || port.protocol == Protocol::Auto);
            if !by_endpoint {
                self.add(&adding);
                continue;
            }
            let reach: Vec<_> = self.index.registry.reach_by_number(upstream, port.number).collect();
            if !upstream.kubernetes && reach.is_empty() && upstream.selector().is_none() {
                self.add(&adding);
                continue;
            }
            // one listener for each endpoint that has an address, ready or not
            for endpoint in reach {
                if let ReachAddress::Ip(ip) = endpoint.address {
                    self.add(&Adding { bind: Some(Bind::Ip(ip)), of_pod: true, ..adding });
                }
            }
        }
    }

    fn reserved(&self, bind: Option<Bind>, protocol: Protocol) -> bool {
        let wildcard = match bind {
            Some(bind) => bind == Bind::Any,
            None => protocol.is_http(),
        };
        wildcard && RESERVED.contains(&self.port)
    }

    /// Adds an upstream to the listener of its address, by the rules of conflicts (`buildSidecarOutboundListener`).
    fn add(&mut self, adding: &Adding<'_>) {
        let Adding { upstream, protocol, .. } = *adding;
        if upstream.resolution == Resolution::Alias || protocol == Protocol::Udp {
            return;
        }
        let http = protocol.is_http();
        let mut cidrs: Vec<IpNet> = Vec::new();
        let bind = adding.bind.unwrap_or_else(|| match self.proxy.address(upstream) {
            _ if http => Bind::Any,
            Address::Ip(ip) => Bind::Ip(ip),
            Address::Any => Bind::Any,
            Address::Cidr(net) => {
                cidrs.push(net);
                Bind::Any
            }
        });
        let place = self.places.get(&bind).copied();
        if place.is_some_and(|p| self.open[p].locked) {
            return;
        }
        let known = place.map(|p| self.open[p].protocol);
        let mut listener_protocol = protocol;
        let mut conflict = Conflict::None;
        let chains = if protocol == Protocol::HttpProxy {
            vec![Self::http_chain(adding, bind, false)]
        } else if http {
            match known {
                Some(known) if known.is_tcp() => conflict = Conflict::HttpOverTcp,
                Some(_) => return,
                None => {}
            }
            if bind == Bind::Any {
                // beside it what is not HTTP passes, so it counts as one that looks at the bytes
                listener_protocol = Protocol::Auto;
            }
            vec![Self::http_chain(adding, bind, bind == Bind::Any)]
        } else if protocol.is_tcp() {
            conflict = match known {
                None => Conflict::None,
                Some(known) if known.is_http() => Conflict::TcpOverHttp,
                Some(known) if known.is_tcp() => Conflict::TcpOverTcp,
                Some(_) => Conflict::TcpOverAuto,
            };
            self.tcp_chains(adding, bind, &cidrs)
        } else {
            conflict = match known {
                None => Conflict::None,
                Some(known) if known.is_http() => Conflict::AutoOverHttp,
                Some(known) if known.is_tcp() => Conflict::AutoOverTcp,
                Some(_) => return,
            };
            let mut chains = self.tcp_chains(adding, bind, &cidrs);
            chains.push(Self::http_chain(adding, bind, true));
            chains
        };
        if known.is_some_and(|known| conflict != Conflict::None && server_first(protocol, known)) {
            return;
        }
        let by_match = ByMatch::default();
        let open = Open { bind, protocol: listener_protocol, locked: false, of_pod: adding.of_pod, chains, by_match };
        match (conflict, place) {
            (Conflict::None | Conflict::AutoOverHttp, _) | (_, None) => self.open(open),
            (conflict, Some(place)) => {
                let known = &mut self.open[place];
                known.by_match.merge(&mut known.chains, open.chains);
                if matches!(conflict, Conflict::HttpOverTcp | Conflict::TcpOverHttp | Conflict::AutoOverTcp) {
                    known.protocol = Protocol::Auto;
                }
            }
        }
    }

    fn http_chain(adding: &Adding<'_>, bind: Bind, inspect: bool) -> Chain {
        // a sniffed port with an address of its own has a route table of its own; Host does not matter there
        let own = adding.protocol == Protocol::Auto && bind != Bind::Any;
        Chain {
            sni: SmallVec::new(),
            cidrs: SmallVec::new(),
            http_only: inspect,
            mesh_only: false,
            terminates: None,
            action: if own { Action::OwnRoutes(adding.upstream.host.clone()) } else { Action::Routes },
            origin: Origin { upstream: Some(adding.scoped.id), rule: None },
        }
    }

    fn tcp_chains(&self, adding: &Adding<'_>, bind: Bind, cidrs: &[IpNet]) -> Vec<Chain> {
        let candidates = adding.egress.overlapping(self.index, &adding.upstream.host);
        if adding.protocol.is_tls() {
            self.tls_rules(adding, bind, cidrs, &candidates)
        } else {
            self.tcp_rules(adding, cidrs, &candidates)
        }
    }

    /// The cluster of the upstream itself: the listener's port, unless the upstream has a single other one.
    fn own_cluster(&self, adding: &Adding<'_>) -> Action {
        let single = (adding.scoped.port_count(adding.upstream) == 1)
            .then(|| adding.scoped.ports(adding.upstream).next())
            .flatten();
        let port = single.map_or(self.port, |p| p.number);
        Action::tcp(Cluster::new(port, ArcStr::new(), adding.upstream.host.clone()))
    }

    fn statically(&self, m: &L4Match) -> bool {
        (m.gateways.is_empty() || m.gateways.iter().any(|g| g == MESH))
            && selects(&m.source_labels, &self.proxy.key.labels)
            && m.port.is_none_or(|p| p == self.port)
            && (m.source_namespace.is_empty() || m.source_namespace == *self.proxy.namespace())
    }

    /// `buildSidecarOutboundTLSFilterChainOpts`.
    fn tls_rules(&self, adding: &Adding<'_>, bind: Bind, cidrs: &[IpNet], candidates: &[VsId]) -> Vec<Chain> {
        let mut out = Vec::new();
        let mut done: Vec<(&[ArcStr], &[ArcStr])> = Vec::new();
        // the subnets of a match also hold for the matches after it: istiod keeps them in the same variable
        let mut subnets: SmallVec<[IpNet; 1]> = cidrs.into();
        for id in candidates {
            let vs = self.index.virtual_services.get(*id);
            for (r, rule) in vs.tls.iter().enumerate().filter(|(_, r)| !r.routes.is_empty()) {
                for (n, m) in rule.matches.iter().enumerate().filter(|(_, m)| self.statically(m)) {
                    if !m.subnets.is_empty() {
                        subnets = networks(&m.subnets);
                    }
                    let runtime = (m.sni.as_slice(), m.subnets.as_slice());
                    if !done.contains(&runtime) {
                        done.push(runtime);
                        out.push(Chain {
                            sni: m.sni.iter().cloned().collect(),
                            cidrs: subnets.clone(),
                            http_only: false,
                            mesh_only: false,
                            terminates: None,
                            action: self.to_routes(&rule.routes),
                            origin: Origin {
                                upstream: Some(adding.scoped.id),
                                rule: Some(Picked::new(*id, Block::Tls, r, n)),
                            },
                        });
                    }
                }
            }
        }
        if out.is_empty() {
            let upstream = adding.upstream;
            let address = self.proxy.address(upstream);
            let dynamic = upstream.resolution == Resolution::DynamicDns && host::is_wildcard(&upstream.host);
            let by_name = !cidrs.is_empty()
                || matches!(address, Address::Cidr(_))
                || (address == Address::Any && bind == Bind::Any)
                || dynamic;
            let mut sni: SmallVec<[ArcStr; 1]> = SmallVec::new();
            if by_name {
                sni.push(upstream.host.clone());
                for alias in adding.scoped.aliases(upstream) {
                    sni.push(alias.clone());
                    sni.extend(crate::mesh::route::short_names(
                        alias,
                        self.proxy.namespace(),
                        self.index.rules.absolute_names,
                    ));
                }
            }
            out.push(Chain {
                sni,
                cidrs: cidrs.into(),
                http_only: false,
                mesh_only: false,
                terminates: None,
                action: self.own_cluster(adding),
                origin: Origin { upstream: Some(adding.scoped.id), rule: None },
            });
        }
        out
    }

    /// `buildSidecarOutboundTCPFilterChainOpts`.
    fn tcp_rules(&self, adding: &Adding<'_>, cidrs: &[IpNet], candidates: &[VsId]) -> Vec<Chain> {
        let mut out = Vec::new();
        let chain = |cidrs: SmallVec<[IpNet; 1]>, action: Action, rule: Option<Picked>| Chain {
            sni: SmallVec::new(),
            cidrs,
            http_only: false,
            mesh_only: false,
            terminates: None,
            action,
            origin: Origin { upstream: Some(adding.scoped.id), rule },
        };
        let mut same_as_own = false;
        for id in candidates {
            let vs = self.index.virtual_services.get(*id);
            for (r, rule) in vs.tcp.iter().enumerate().filter(|(_, r)| !r.routes.is_empty()) {
                let mut subnets: Vec<ArcStr> = Vec::new();
                let mut terminal = rule.matches.is_empty().then_some(usize::MAX);
                let mut first = None;
                for (n, m) in rule.matches.iter().enumerate().filter(|(_, m)| self.statically(m)) {
                    if m.subnets.is_empty() {
                        terminal = Some(n);
                        break;
                    }
                    first = first.or(Some(n));
                    subnets.extend(m.subnets.iter().cloned());
                }
                if let Some(n) = terminal {
                    out.push(chain(
                        cidrs.into(),
                        self.to_routes(&rule.routes),
                        Some(Picked::new(*id, Block::Tcp, r, n)),
                    ));
                    return out;
                }
                if let Some(n) = first {
                    let nets = networks(&subnets);
                    let (mut a, mut b): (Vec<IpNet>, Vec<IpNet>) = (nets.to_vec(), cidrs.to_vec());
                    a.sort();
                    b.sort();
                    same_as_own |= a == b;
                    out.push(chain(nets, self.to_routes(&rule.routes), Some(Picked::new(*id, Block::Tcp, r, n))));
                }
            }
        }
        if !same_as_own {
            out.push(chain(cidrs.into(), self.own_cluster(adding), None));
        }
        out
    }

    fn to_routes(&self, routes: &[Route]) -> Action {
        to_clusters(self.index, self.proxy, routes, self.port)
    }
}

/// The clusters of tcp and tls routes: the destination's only port where none is named (`buildOutboundNetworkFilters`).
pub(crate) fn to_clusters(index: &Index, proxy: &Proxy, routes: &[Route], listener_port: u16) -> Action {
    let cluster = |route: &Route| {
        let found = proxy.scope.get(&route.host).map(|s| (s, index.registry.get(s.id)));
        let single = found.filter(|(s, u)| s.port_count(u) == 1).and_then(|(s, u)| s.ports(u).next());
        let alias = found.and_then(|(_, u)| u.external_name.clone());
        Cluster::new(
            route.port.or(single.map(|p| p.number)).unwrap_or(listener_port),
            route.subset.clone(),
            alias.unwrap_or_else(|| route.host.clone()),
        )
    };
    let weighted =
        |n: usize, route: &Route| Weighted { cluster: cluster(route), weight: route.weight, place: n as u16 };
    if let [only] = routes {
        return Action::Tcp(SmallVec::from_iter([weighted(0, only)]));
    }
    Action::Tcp(routes.iter().enumerate().filter(|(_, r)| r.weight > 0).map(|(n, r)| weighted(n, r)).collect())
}

fn declared_bind(egress: &EgressListener) -> Option<Bind> {
    if egress.bind.is_empty() {
        return egress.capture_none.then_some(Bind::Ip(IpAddr::from([127, 0, 0, 1])));
    }
    match egress.bind.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => Some(Bind::Any),
        Ok(ip) => Some(Bind::Ip(ip)),
        // a Unix socket: nothing that is dialled over the network gets there
        Err(_) => Some(Bind::Ip(IpAddr::from([0, 0, 0, 1]))),
    }
}

/// Subnets of a match; addresses count as networks of one.
pub(crate) fn networks(texts: &[ArcStr]) -> SmallVec<[IpNet; 1]> {
    let one = |text: &ArcStr| text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    texts.iter().filter_map(one).collect()
}

/// MongoDB and MySQL speak first or share no port with others (`isConflictWithWellKnownPort`).
fn server_first(incoming: Protocol, known: Protocol) -> bool {
    let first = |p| matches!(p, Protocol::Mongo | Protocol::Mysql);
    (first(incoming) || first(known)) && incoming != known
}

/// Chains by what they match, so that those that match the same are found without a scan.
#[derive(Default)]
struct ByMatch(FxHashMap<u64, SmallVec<[u32; 1]>>);

impl ByMatch {
    fn new(chains: &[Chain]) -> Self {
        let mut out = Self::default();
        for (n, chain) in (0u32..).zip(chains) {
            out.0.entry(chain.match_hash()).or_default().push(n);
        }
        out
    }

    /// Chains that match the same as one that is there are dropped (`mergeTCPFilterChains`).
    fn merge(&mut self, known: &mut Vec<Chain>, incoming: Vec<Chain>) {
        for chain in incoming {
            let alike = self.0.entry(chain.match_hash()).or_default();
            if !alike.iter().any(|n| known[*n as usize].matches_like(&chain)) {
                alike.push(known.len() as u32);
                known.push(chain);
            }
        }
    }
}
