//! What a gateway's pods listen on: servers of all Gateways that select them, merged, with chains and route tables
//! (Istio: `model/gateway.go`, `networking/core/gateway.go`).

use std::sync::Arc;

use arcstr::ArcStr;
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use crate::mesh::chain::{Action, Block, Chain, Chains, Cluster, Origin, Picked, Termination};
use crate::mesh::host;
use crate::mesh::index::Index;
use crate::mesh::listener::to_clusters;
use crate::mesh::object::read::{Labels, selects};
use crate::mesh::object::{Gateway, L4Match, Semantics, Server, TlsMode};
use crate::mesh::paged::Once;
use crate::mesh::protocol::Protocol;
use crate::mesh::proxy::Proxy;
use crate::mesh::registry::UpstreamId;
use crate::mesh::route::{self, Found, RouteTable, VirtualHost};
use crate::mesh::visible::VsId;

/// A port of a Service that fronts a pod, and where it leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TargetPort {
    pub(crate) service: u32,
    pub(crate) port: u16,
    pub(crate) target: u16,
}

/// The pod that a gateway's proxy runs in, as far as its listeners depend on it.
#[derive(Debug, Clone)]
pub(crate) struct GatewayPod {
    pub(crate) labels: Labels,
    pub(crate) targets: Vec<TargetPort>,
    /// May not bind ports below 1024.
    pub(crate) unprivileged: bool,
}

/// A server: Gateway and place in its list.
pub(crate) type ServerId = (u32, u32);

/// Listener of one port (and bind).
#[derive(Debug)]
pub(crate) struct GatewayListener {
    pub(crate) port: u16,
    pub(crate) bind: ArcStr,
    pub(crate) chains: Chains,
    /// The server of each chain.
    servers: FxHashMap<Once<Chain>, ServerId>,
    /// The server of the first one.
    pub(crate) first: Option<ServerId>,
}

impl GatewayListener {
    /// Of chains and the server of each. Of chains that are alike the one counts that [`Chains::find`] would find.
    #[expect(clippy::mutable_key_type, reason = "the key is where the chain lies, and that does not change")]
    fn new(index: &Index, (port, bind): (u16, ArcStr), chains: Vec<Chain>, servers: &[ServerId]) -> Self {
        let shared = &index.shared;
        let list = shared.chains(chains);
        let mut of_chain: FxHashMap<Once<Chain>, ServerId> = FxHashMap::default();
        for (chain, server) in list.iter().zip(servers) {
            if chain.is_match_all() {
                of_chain.insert(chain.clone(), *server);
            } else {
                of_chain.entry(chain.clone()).or_insert(*server);
            }
        }
        let first = servers.first().copied();
        Self { port, bind, chains: Chains::new(list, &index.hosts, &shared.pages.chains), servers: of_chain, first }
    }

    /// The server that a chain was made for.
    pub(crate) fn server(&self, chain: &Once<Chain>) -> Option<ServerId> {
        self.servers.get(chain).copied()
    }
}

/// A route table with all that it holds.
#[derive(Debug)]
pub(crate) struct GatewayTable {
    pub(crate) table: RouteTable,
    pub(crate) hosts: Box<[Once<VirtualHost>]>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct MergedGateway {
    pub(crate) listeners: Vec<GatewayListener>,
    pub(crate) tables: Vec<GatewayTable>,
    /// Servers that were left out, with the reason: for lint and for "why not".
    pub(crate) skipped: Vec<(ServerId, &'static str)>,
    /// Servers in use, with the port that they are bound to.
    pub(crate) servers: Vec<(ServerId, u16)>,
    /// A port has a server, but no listener: no route leads anywhere.
    pub(crate) idle: Vec<(u16, ServerId)>,
}

/// Servers that share a listener.
struct Group {
    port: u16,
    protocol: Protocol,
    bind: ArcStr,
    /// Route table of plaintext HTTP.
    table: Option<String>,
    servers: Vec<ServerId>,
}

struct Merging<'a> {
    index: &'a Index,
    pod: &'a GatewayPod,
    groups: Vec<Group>,
    plain: FxHashMap<u16, (Protocol, ArcStr)>,
    ports: FxHashSet<u16>,
    tls_hosts: FxHashMap<u16, FxHashMap<ArcStr, ArcStr>>,
    other_binds: FxHashMap<u16, Vec<ArcStr>>,
    /// Servers of each route table.
    tables: Vec<(String, Vec<ServerId>)>,
    skipped: Vec<(ServerId, &'static str)>,
}

fn is_tls_server(server: &Server, protocol: Protocol) -> bool {
    server.tls.is_some() && !protocol.is_http()
}

fn is_http_server(server: &Server, protocol: Protocol) -> bool {
    protocol.is_http() || (protocol == Protocol::Https && !server.passes_through())
}

impl<'a> Merging<'a> {
    fn server(&self, id: ServerId) -> &'a Server {
        &self.index.gateways[id.0 as usize].servers[id.1 as usize]
    }

    /// All servers of the Gateways that apply, oldest Gateway first (`mergeGateways`).
    fn run(&mut self, namespace: &ArcStr) {
        let mut applying: Vec<(u32, &Gateway, Vec<&TargetPort>)> = Vec::new();
        for (g, gateway) in (0u32..).zip(&self.index.gateways) {
            if self.index.rules.scope_gateways && gateway.meta.namespace() != namespace {
                continue;
            }
            let targets: Vec<&TargetPort> = if let Some((ns, hosts)) = &gateway.services {
                self.targets_of(ns, hosts)
            } else {
                if gateway.selector.as_ref().is_some_and(|s| !selects(s, &self.pod.labels)) {
                    continue;
                }
                self.pod.targets.iter().collect()
            };
            if gateway.services.is_some() && targets.is_empty() {
                continue;
            }
            applying.push((g, gateway, targets));
        }
        let managed: Vec<&ArcStr> = applying
            .iter()
            .filter(|(_, gateway, _)| gateway.managed && self.index.rules.strict_gateways)
            .map(|(_, gateway, _)| gateway.meta.namespace())
            .collect();
        for (g, gateway, targets) in applying {
            let foreign = gateway.services.is_none() && !managed.contains(&gateway.meta.namespace());
            if foreign && !managed.is_empty() {
                let why = "a managed Gateway has these pods, and takes no Gateway of another namespace beside it";
                self.skipped.extend((0..gateway.servers.len() as u32).map(|s| ((g, s), why)));
                continue;
            }
            for s in 0..gateway.servers.len() as u32 {
                self.add(gateway, (g, s), &targets);
            }
        }
    }

    fn targets_of(&self, namespace: &ArcStr, hosts: &[ArcStr]) -> Vec<&'a TargetPort> {
        let of = |t: &&TargetPort| {
            let meta = &self.index.services[t.service as usize].meta;
            meta.namespace() == namespace && hosts.contains(&host::service_host(meta.name(), meta.namespace()))
        };
        self.pod.targets.iter().filter(of).collect()
    }

    /// Service ports mean their target port; with a selector the first one that fits, else the number itself (`resolvePorts`).
    fn resolve(&self, number: u16, gateway: &Gateway, targets: &[&TargetPort]) -> Vec<u16> {
        if gateway.services.is_some() {
            let mut ports: Vec<u16> = targets.iter().filter(|t| t.port == number).map(|t| t.target).collect();
            ports.sort_unstable();
            ports.dedup();
            return ports;
        }
        let literal = |t: &&&TargetPort| {
            let meta = &self.index.services[t.service as usize].meta;
            meta.label("experimental.istio.io/disable-gateway-port-translation").is_none()
        };
        vec![targets.iter().filter(literal).find(|t| t.port == number).map_or(number, |t| t.target)]
    }

    fn add(&mut self, gateway: &Gateway, id: ServerId, targets: &[&TargetPort]) {
        let server = self.server(id);
        let Some((number, protocol)) = server.port else {
            self.skipped.push((id, "it has no port"));
            return;
        };
        for port in self.resolve(number, gateway, targets) {
            let bind = if server.bind.is_empty() { String::new() } else { format!(".{}", server.bind) };
            let table = if protocol.is_http() {
                format!("http.{port}{bind}")
            } else if protocol == Protocol::Https && !server.passes_through() {
                format!("https.{number}.{}.{}{bind}", server.port_name, gateway.bound_name)
            } else {
                String::new()
            };
            if server.tls.is_some() && !self.take_hosts(port, server) {
                self.skipped.push((id, "an older server on this port has one of its hosts"));
                continue;
            }
            if self.ports.insert(port) {
                self.new_group(id, port, protocol, server, table);
            } else {
                self.join(id, port, protocol, server, table);
            }
        }
    }

    /// TLS hosts may stand on a port (and bind) once (`CheckDuplicates`).
    fn take_hosts(&mut self, port: u16, server: &Server) -> bool {
        let known = self.tls_hosts.entry(port).or_default();
        if server.hosts.iter().any(|h| known.get(h) == Some(&server.bind)) {
            return false;
        }
        known.extend(server.hosts.iter().map(|h| (h.clone(), server.bind.clone())));
        true
    }

    fn set_table(&mut self, name: &str, id: ServerId) {
        match self.tables.iter_mut().find(|(n, _)| n == name) {
            Some((_, servers)) => *servers = vec![id],
            None => self.tables.push((name.to_owned(), vec![id])),
        }
    }

    fn extend_table(&mut self, name: &str, id: ServerId) {
        match self.tables.iter_mut().find(|(n, _)| n == name) {
            Some((_, servers)) => servers.push(id),
            None => self.tables.push((name.to_owned(), vec![id])),
        }
    }

    fn new_group(&mut self, id: ServerId, port: u16, protocol: Protocol, server: &Server, table: String) {
        if !is_tls_server(server, protocol) {
            self.plain.insert(port, (protocol, server.bind.clone()));
        }
        if is_http_server(server, protocol) {
            self.set_table(&table, id);
        }
        let same = |g: &&mut Group| g.port == port && g.protocol == protocol && g.bind == server.bind;
        let servers = vec![id];
        let table = Some(table).filter(|t| !t.is_empty());
        match self.groups.iter_mut().find(same) {
            Some(group) => {
                group.servers = servers;
                group.table = table;
            }
            None => self.groups.push(Group { port, protocol, bind: server.bind.clone(), table, servers }),
        }
    }

    fn group(&mut self, port: u16, protocol: Protocol, bind: &ArcStr) -> Option<&mut Group> {
        self.groups.iter_mut().find(|g| g.port == port && g.protocol == protocol && g.bind == *bind)
    }

    /// The port has a server already.
    fn join(&mut self, id: ServerId, port: u16, protocol: Protocol, server: &Server, table: String) {
        if let Some((known, bind)) = self.plain.get(&port).cloned() {
            let mergeable = (protocol.is_http() || protocol == known) && known.is_http();
            if bind == server.bind && (!mergeable || table.is_empty()) {
                self.skipped.push((id, "an older server has this port with another protocol"));
                return;
            }
            if bind != server.bind {
                match self.group(port, protocol, &server.bind) {
                    None => self.new_group(id, port, protocol, server, table),
                    Some(group) => {
                        group.table = Some(table.clone()).filter(|t| !t.is_empty());
                        group.servers.push(id);
                        self.extend_table(&table, id);
                    }
                }
                return;
            }
            if let Some(group) = self.group(port, known, &bind) {
                group.servers.push(id);
            }
            self.extend_table(&table, id);
            return;
        }
        if !is_tls_server(server, protocol) {
            self.new_group(id, port, protocol, server, table);
            return;
        }
        if is_http_server(server, protocol) {
            if self.tables.iter().any(|(n, _)| *n == table) {
                self.skipped.push((id, "another server of the Gateway has the same port name"));
                return;
            }
            self.set_table(&table, id);
        }
        let binds = self.other_binds.entry(port).or_default();
        let new_bind = !binds.contains(&server.bind);
        if new_bind {
            binds.push(server.bind.clone());
        }
        if let Some(group) = self.group(port, protocol, &server.bind) {
            group.servers.push(id);
        } else {
            let table = None;
            self.groups.push(Group { port, protocol, bind: server.bind.clone(), table, servers: vec![id] });
        }
    }
}

impl MergedGateway {
    /// Of one pod; `None` where no Gateway applies.
    pub(crate) fn new(index: &Index, proxy: &Proxy, pod: &GatewayPod) -> Option<Self> {
        let mut merging = Merging {
            index,
            pod,
            groups: Vec::new(),
            plain: FxHashMap::default(),
            ports: FxHashSet::default(),
            tls_hosts: FxHashMap::default(),
            other_binds: FxHashMap::default(),
            tables: Vec::new(),
            skipped: Vec::new(),
        };
        merging.run(proxy.namespace());
        if merging.groups.is_empty() && merging.skipped.is_empty() {
            return None;
        }
        let mut out = Self { skipped: std::mem::take(&mut merging.skipped), ..Self::default() };
        let names: FxHashMap<String, u32> =
            (0u32..).zip(&merging.tables).map(|(n, (name, _))| (name.clone(), n)).collect();
        for (_, servers) in &merging.tables {
            out.tables.push(route_table(index, proxy, servers));
        }
        let mut building = Building { index, proxy, names: &names, tls_hosts: FxHashMap::default() };
        let mut open: Vec<(u16, ArcStr, Vec<Chain>, Vec<ServerId>)> = Vec::new();
        for group in &merging.groups {
            out.servers.extend(group.servers.iter().map(|s| (*s, group.port)));
            if pod.unprivileged && group.port < 1024 {
                out.skipped.extend(group.servers.iter().map(|s| (*s, "the pod may not bind ports below 1024")));
                continue;
            }
            let chains = building.chains(group);
            if chains.is_empty()
                && let Some(first) = group.servers.first()
            {
                out.idle.push((group.port, *first));
            }
            let (chains, servers): (Vec<Chain>, Vec<ServerId>) = chains.into_iter().unzip();
            // servers are merged by the bind that is written, listeners by the address that it means (`getListenerName`)
            let wildcard = if proxy.key.ipv6 { "::" } else { "0.0.0.0" };
            let bind = if group.bind == wildcard { ArcStr::new() } else { group.bind.clone() };
            match open.iter_mut().find(|(p, b, ..)| *p == group.port && *b == bind) {
                Some((_, _, known, known_servers)) => {
                    known.extend(chains);
                    known_servers.extend(servers);
                }
                None => open.push((group.port, bind, chains, servers)),
            }
        }
        for (port, bind, chains, servers) in open {
            if !chains.is_empty() {
                out.listeners.push(GatewayListener::new(index, (port, bind), chains, &servers));
            }
        }
        Some(out)
    }

    /// The listener of a port: bound to the address, else to all.
    pub(crate) fn listener(&self, ip: std::net::IpAddr, port: u16) -> Option<&GatewayListener> {
        let exact = self.listeners.iter().find(|l| l.port == port && l.bind.parse() == Ok(ip));
        exact.or_else(|| self.listeners.iter().find(|l| l.port == port && (l.bind.is_empty() || l.bind == "0.0.0.0")))
    }
}

struct Building<'a> {
    index: &'a Index,
    proxy: &'a Proxy,
    names: &'a FxHashMap<String, u32>,
    /// Server names of pass-through chains by port, with the bind.
    tls_hosts: FxHashMap<u16, FxHashMap<ArcStr, ArcStr>>,
}

impl Building<'_> {
    /// The chains of a group, each with its server (`buildGatewayTCPBasedFilterChains`).
    fn chains(&mut self, group: &Group) -> Vec<(Chain, ServerId)> {
        let table = |name: &str| self.names.get(name).copied().map(Action::GatewayRoutes);
        if group.protocol.is_http() {
            let first = group.servers.first().copied().unwrap_or_default();
            return group
                .table
                .as_deref()
                .and_then(table)
                .map(|action| (chain(&[], None, action, None), first))
                .into_iter()
                .collect();
        }
        let mut out = Vec::new();
        for id in &group.servers {
            let gateway = &self.index.gateways[id.0 as usize];
            let server = &gateway.servers[id.1 as usize];
            match server.tls {
                Some(tls) if group.protocol == Protocol::Https && !server.passes_through() => {
                    let bind = if server.bind.is_empty() { String::new() } else { format!(".{}", server.bind) };
                    let number = server.port.map_or(0, |(n, _)| n);
                    let name = format!("https.{number}.{}.{}{bind}", server.port_name, gateway.bound_name);
                    if let Some(action) = self.names.get(&name).copied().map(Action::GatewayRoutes) {
                        out.push((chain(&sni_hosts(server), Some(termination(tls.mode)), action, None), *id));
                    }
                }
                Some(_) if server.passes_through() => {
                    let chains = self.passthrough(gateway, server, group.port);
                    out.extend(chains.into_iter().map(|c| (c, *id)));
                }
                tls => {
                    let names = if tls.is_some() { sni_hosts(server) } else { Vec::new() };
                    let ends = tls.map(|t| termination(t.mode));
                    out.extend(
                        self.tcp(gateway, server).map(|(action, rule)| (chain(&names, ends, action, rule), *id)),
                    );
                }
            }
        }
        out
    }

    /// The first VirtualService whose hosts and rule fit takes everything (`buildGatewayNetworkFiltersFromTCPRoutes`).
    fn tcp(&self, gateway: &Gateway, server: &Server) -> Option<(Action, Option<Picked>)> {
        let port = server.port.map_or(0, |(n, _)| n);
        for id in self.index.virtual_services.for_gateway(self.proxy.namespace(), &gateway.bound_name) {
            let vs = self.index.virtual_services.get(id);
            if !hosts_fit(server, vs.meta.namespace(), &vs.hosts) {
                continue;
            }
            for (r, rule) in vs.tcp.iter().enumerate() {
                let place = if rule.matches.is_empty() {
                    Some(usize::MAX)
                } else {
                    rule.matches.iter().position(|m| l4_fits(m, port, &gateway.bound_name))
                };
                if let Some(place) = place.filter(|_| !rule.routes.is_empty()) {
                    return Some((
                        to_clusters(self.index, self.proxy, &rule.routes, port),
                        Some(Picked::new(id, Block::Tcp, r, place)),
                    ));
                }
            }
            // a TLSRoute at a listener that ends TLS
            if vs.semantics == Semantics::GatewayApi && !server.passes_through() {
                for (r, rule) in vs.tls.iter().enumerate().filter(|(_, r)| !r.routes.is_empty()) {
                    if let Some(n) = rule.matches.iter().position(|m| l4_fits(m, port, &gateway.bound_name)) {
                        return Some((
                            to_clusters(self.index, self.proxy, &rule.routes, port),
                            Some(Picked::new(id, Block::Tls, r, n)),
                        ));
                    }
                }
            }
        }
        None
    }

    /// One chain for each tls match (`buildGatewayNetworkFiltersFromTLSRoutes`).
    fn passthrough(&mut self, gateway: &Gateway, server: &Server, listener_port: u16) -> Vec<Chain> {
        if server.tls.is_some_and(|t| t.mode == TlsMode::AutoPassthrough) {
            return self.auto_passthrough(server);
        }
        let port = server.port.map_or(0, |(n, _)| n);
        let mut out = Vec::new();
        for id in self.index.virtual_services.for_gateway(self.proxy.namespace(), &gateway.bound_name) {
            let vs = self.index.virtual_services.get(id);
            if !hosts_fit(server, vs.meta.namespace(), &vs.hosts) {
                continue;
            }
            for (r, rule) in vs.tls.iter().enumerate().filter(|(_, r)| !r.routes.is_empty()) {
                for (n, m) in rule.matches.iter().enumerate().filter(|(_, m)| l4_fits(m, port, &gateway.bound_name)) {
                    let known = self.tls_hosts.entry(listener_port).or_default();
                    if m.sni.iter().any(|h| known.get(h) == Some(&server.bind)) {
                        continue;
                    }
                    known.extend(m.sni.iter().map(|h| (h.clone(), server.bind.clone())));
                    let action = to_clusters(self.index, self.proxy, &rule.routes, port);
                    out.push(chain(&m.sni, None, action, Some(Picked::new(id, Block::Tls, r, n))));
                }
            }
        }
        out
    }

    /// A chain for each cluster of the mesh; what is outside has none (`builtAutoPassthroughFilterChains`).
    fn auto_passthrough(&self, server: &Server) -> Vec<Chain> {
        let names = sni_hosts(server);
        let mut out = Vec::new();
        for scoped in self.proxy.scope.services.iter() {
            let upstream = self.index.registry.get(scoped.id);
            if upstream.external || !names.iter().any(|h| host::subset(&upstream.host, h)) {
                continue;
            }
            let rule = self.index.destination_rules.find(self.proxy.namespace(), &self.proxy.key.labels, upstream);
            let subsets = rule.into_iter().flat_map(|r| r.subsets.iter().map(|(_, s)| s.name.clone()));
            let subsets: Vec<ArcStr> = std::iter::once(ArcStr::new()).chain(subsets).collect();
            for port in scoped.ports(upstream).filter(|p| p.protocol != Protocol::Udp) {
                for subset in &subsets {
                    let name: ArcStr = format!("outbound_.{}_.{subset}_.{}", port.number, upstream.host).into();
                    let action = Action::tcp(Cluster::new(port.number, subset.clone(), upstream.host.clone()));
                    out.push(Chain { mesh_only: true, origin: of(scoped.id), ..chain(&[name], None, action, None) });
                }
            }
        }
        out
    }
}

fn of(upstream: UpstreamId) -> Origin {
    Origin { upstream: Some(upstream), rule: None }
}

fn chain(sni: &[ArcStr], terminates: Option<Termination>, action: Action, rule: Option<Picked>) -> Chain {
    Chain {
        sni: sni.iter().cloned().collect(),
        cidrs: SmallVec::new(),
        http_only: false,
        mesh_only: false,
        terminates,
        action,
        origin: Origin { upstream: None, rule },
    }
}

fn termination(mode: TlsMode) -> Termination {
    if mode == TlsMode::IstioMutual { Termination::IstioMutual } else { Termination::Tls }
}

/// Hosts of a server without their namespaces.
fn sni_hosts(server: &Server) -> Vec<ArcStr> {
    let mut names: Vec<ArcStr> =
        server.hosts.iter().map(|h| h.split_once('/').map_or_else(|| h.clone(), |(_, n)| n.into())).collect();
    names.sort();
    names.dedup();
    names
}

/// Some host of the server overlaps with one of the VirtualService (`pickMatchingGatewayHosts`).
pub(crate) fn hosts_fit(server: &Server, namespace: &str, hosts: &[ArcStr]) -> bool {
    server.hosts.iter().any(|server_host| {
        let name = match server_host.split_once('/') {
            Some((ns, _)) if ns != namespace => return false,
            Some((_, name)) => name,
            None => server_host,
        };
        hosts.iter().any(|h| host::overlap(name, h))
    })
}

/// Port and gateway of a rule; source labels and subnets do not count at a gateway (`l4SingleMatch`).
fn l4_fits(m: &L4Match, port: u16, gateway: &ArcStr) -> bool {
    m.port.is_none_or(|p| p == port) && (m.gateways.is_empty() || m.gateways.contains(gateway))
}

/// `buildGatewayHTTPRouteConfig`.
fn route_table(index: &Index, proxy: &Proxy, servers: &[ServerId]) -> GatewayTable {
    let mut hosts: Vec<(ArcStr, Vec<route::HttpRoute>, bool)> = Vec::new();
    let mut built: FxHashMap<(ArcStr, VsId), Vec<route::HttpRoute>> = FxHashMap::default();
    for id in servers {
        let gateway = &index.gateways[id.0 as usize];
        let server = &gateway.servers[id.1 as usize];
        let port = server.port.map_or(0, |(n, _)| n);
        let redirect = server.tls.is_some_and(|t| t.redirect);
        for vs_id in index.virtual_services.for_gateway(proxy.namespace(), &gateway.bound_name) {
            let vs = index.virtual_services.get(vs_id);
            let here: Vec<ArcStr> = server
                .hosts
                .iter()
                .filter_map(|h| match h.split_once('/') {
                    Some((ns, name)) => (ns == vs.meta.namespace().as_str() || ns == "*").then(|| name.into()),
                    None => Some(h.clone()),
                })
                .collect();
            let common = host::intersection(&here, &vs.hosts);
            if common.is_empty() {
                continue;
            }
            let key = (gateway.bound_name.clone(), vs_id);
            let routes = built.entry(key).or_insert_with(|| {
                let lookup = |name: &str| destination(index, proxy, vs.meta.namespace(), name);
                route::build(index, proxy, vs_id, port, &gateway.bound_name, &lookup)
            });
            if routes.is_empty() {
                continue;
            }
            for name in common {
                let name: ArcStr = name.to_ascii_lowercase().into();
                match hosts.iter_mut().find(|(h, ..)| *h == name) {
                    Some((_, known, redirects)) => {
                        known.extend(routes.iter().cloned());
                        *redirects |= redirect;
                    }
                    None => hosts.push((name, routes.clone(), redirect)),
                }
            }
        }
        if redirect {
            for name in &server.hosts {
                let name: ArcStr = name.to_ascii_lowercase().into();
                match hosts.iter_mut().find(|(h, ..)| *h == name) {
                    Some((.., redirects)) => *redirects = true,
                    None => hosts.push((name, Vec::new(), true)),
                }
            }
        }
    }
    let mut table = Vec::new();
    for (name, routes, redirects) in hosts {
        // catch-all routes go to the end (SortVHostRoutes)
        let (last, mut first): (Vec<_>, Vec<_>) = routes.into_iter().partition(route::HttpRoute::catches_all);
        first.extend(last);
        let host = VirtualHost { routes: Once::new(first.into()), upstream: None, redirects };
        table.push((Once::new(Arc::new(host)), vec![name]));
    }
    GatewayTable { table: RouteTable::new(index, &table), hosts: table.into_iter().map(|(host, _)| host).collect() }
}

/// A destination as a gateway's http routes see it: of the VirtualService's namespace if that is visible, else of the scope
/// (`buildNameToServiceMapForHTTPRoutes`).
fn destination(index: &Index, proxy: &Proxy, namespace: &ArcStr, name: &str) -> Option<Found> {
    let own = index.registry.named_in(name, namespace).map(|id| index.registry.get(id));
    if let Some(upstream) = own.filter(|u| u.visibility.includes(proxy.namespace())) {
        let single = if upstream.ports.len() == 1 { upstream.ports.first().map(|p| p.number) } else { None };
        return Some(Found { single, external_name: upstream.external_name.clone() });
    }
    let scoped = proxy.scope.get(name)?;
    let upstream = index.registry.get(scoped.id);
    let single = if scoped.port_count(upstream) == 1 { scoped.ports(upstream).next().map(|p| p.number) } else { None };
    Some(Found { single, external_name: upstream.external_name.clone() })
}
