//! Route tables: which virtual host a Host header falls into, and which routes it has (Istio: `networking/core/httproute.go`,
//! `core/route/route.go`).

use std::net::IpAddr;

use arcstr::ArcStr;
use regex::Regex;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::mesh::chain::{Block, Cluster, Picked, Weighted};
use crate::mesh::host::{self, CLUSTER_DOMAIN};
use crate::mesh::hosts::ByHost;
use crate::mesh::index::Index;
use crate::mesh::object::read::selects;
use crate::mesh::object::virtual_service::MESH;
use crate::mesh::object::{HttpAction, HttpMatch, Resolution, Semantics, StringMatch, VirtualService};
use crate::mesh::paged::Once;
use crate::mesh::protocol::Protocol;
use crate::mesh::proxy::Proxy;
use crate::mesh::registry::{Port, Upstream, UpstreamId};
use crate::mesh::scope::{EgressListener, Scoped};
use crate::mesh::visible::VsId;

/// What the path of a request must be.
#[derive(Debug, Clone)]
pub(crate) enum PathMatch {
    Any,
    Exact(ArcStr, Case),
    Prefix(ArcStr, Case),
    /// Whole segments.
    Segments(ArcStr, Case),
    Regex(Box<Regex>),
    /// An expression that Envoy would refuse.
    Never,
}

/// Whether upper and lower case differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Matters,
    Ignored,
}

impl PartialEq for PathMatch {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, Self::Any) | (Self::Never, Self::Never) => true,
            (Self::Exact(a, x), Self::Exact(b, y))
            | (Self::Prefix(a, x), Self::Prefix(b, y))
            | (Self::Segments(a, x), Self::Segments(b, y)) => a == b && x == y,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

impl PathMatch {
    pub(crate) fn new(m: &HttpMatch, semantics: Semantics) -> Self {
        let case = if m.ignore_case { Case::Ignored } else { Case::Matters };
        match &m.uri {
            None | Some(StringMatch::Any) => Self::Any,
            Some(StringMatch::Exact(path)) => Self::Exact(path.clone(), case),
            Some(StringMatch::Prefix(path)) if path == "/" => Self::Any,
            Some(StringMatch::Prefix(path)) if semantics == Semantics::GatewayApi => {
                Self::Segments(path.strip_suffix('/').unwrap_or(path).into(), case)
            }
            Some(StringMatch::Prefix(path)) => Self::Prefix(path.clone(), case),
            Some(StringMatch::Regex(text)) if text == ".*" => Self::Any,
            Some(StringMatch::Regex(text)) => regex::RegexBuilder::new(&format!("^(?:{text})$"))
                .size_limit(1 << 20)
                .build()
                .map_or(Self::Never, |r| Self::Regex(Box::new(r))),
        }
    }

    pub(crate) fn holds(&self, path: &str) -> bool {
        let starts = |prefix: &str, case: Case| match case {
            Case::Matters => path.starts_with(prefix),
            Case::Ignored => path.get(..prefix.len()).is_some_and(|p| p.eq_ignore_ascii_case(prefix)),
        };
        match self {
            Self::Any => true,
            Self::Exact(want, Case::Matters) => path == want,
            Self::Exact(want, Case::Ignored) => path.eq_ignore_ascii_case(want),
            Self::Prefix(want, case) => starts(want, *case),
            Self::Segments(want, case) => {
                starts(want, *case) && matches!(path.as_bytes().get(want.len()), None | Some(b'/'))
            }
            Self::Regex(regex) => regex.is_match(path),
            Self::Never => false,
        }
    }
}

/// What a route does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Target {
    Clusters(Vec<Weighted>),
    Answer(u16),
    Redirect(u16),
    /// A code that Envoy does not know: the route has no action.
    Nothing,
}

/// A route of a virtual host.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HttpRoute {
    pub(crate) path: PathMatch,
    /// Something besides the path has to hold.
    pub(crate) conditions: bool,
    pub(crate) target: Target,
    /// What Host becomes.
    pub(crate) authority: Option<ArcStr>,
    /// Status where the cluster does not exist.
    pub(crate) missing: u16,
    /// `None` for an upstream's own route.
    pub(crate) rule: Option<Picked>,
}

impl HttpRoute {
    /// Nothing after it is reached.
    pub(crate) fn catches_all(&self) -> bool {
        matches!(self.path, PathMatch::Any) && !self.conditions
    }
}

/// A virtual host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct VirtualHost {
    pub(crate) routes: Once<[HttpRoute]>,
    /// The upstream that it is for, if it is for one.
    pub(crate) upstream: Option<UpstreamId>,
    /// Plaintext is redirected to HTTPS.
    pub(crate) redirects: bool,
}

/// Virtual hosts by domain.
#[derive(Debug)]
pub(crate) struct RouteTable {
    domains: ByHost<Once<VirtualHost>>,
}

impl RouteTable {
    /// Of virtual hosts with their domains; of several with one domain the first has it.
    pub(crate) fn new(index: &Index, list: &[(Once<VirtualHost>, Vec<ArcStr>)]) -> Self {
        let hosts = list.iter().flat_map(|(host, domains)| domains.iter().map(move |d| (d, host.clone())));
        Self { domains: ByHost::new(&index.hosts, &index.shared.pages.virtual_hosts, hosts, |_, _| {}) }
    }

    /// The virtual host of a Host header: exact, then the longest wildcard. The port is cut off and case does not matter.
    pub(crate) fn find(&self, host: &str) -> Option<&Once<VirtualHost>> {
        self.domains.most_specific(without_port(host))
    }

    /// The virtual host that has exactly this domain.
    pub(crate) fn exact(&self, domain: &str) -> Option<&VirtualHost> {
        self.domains.get(domain).map(|host| &**host)
    }
}

/// A Host header without its port.
pub(crate) fn without_port(host: &str) -> &str {
    if !host.ends_with(|c: char| c.is_ascii_digit() || matches!(c, ':' | ']')) {
        return host;
    }
    if let Some(rest) = host.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((ip, port)) if port.starts_with(':') => ip,
            _ => host,
        };
    }
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Routes of a VirtualService for a proxy on a port (`BuildHTTPRoutesForVirtualService`).
pub(crate) fn build(
    index: &Index,
    proxy: &Proxy,
    id: VsId,
    port: u16,
    gateway: &str,
    lookup: &dyn Fn(&str) -> Option<Found>,
) -> Vec<HttpRoute> {
    let vs = index.virtual_services.get(id);
    let mut out = Vec::new();
    for (r, rule) in vs.http.iter().enumerate() {
        let route = |path: PathMatch, conditions: bool, place: usize| HttpRoute {
            path,
            conditions,
            target: target(&rule.action, port, lookup),
            authority: rule.authority.clone().or_else(|| single_authority(&rule.action)),
            missing: if vs.semantics == Semantics::GatewayApi { 500 } else { 503 },
            rule: Some(Picked::new(id, Block::Http, r, place)),
        };
        if rule.matches.is_empty() {
            out.push(route(PathMatch::Any, false, usize::MAX));
            return out;
        }
        for (n, m) in rule.matches.iter().enumerate() {
            if m.port.is_some_and(|p| p != port) || !source_matches(m, proxy, gateway) {
                continue;
            }
            let new = route(PathMatch::new(m, vs.semantics), m.has_conditions(), n);
            let last = new.catches_all();
            out.push(new);
            if last {
                return out;
            }
        }
    }
    out
}

/// Where `gateways` is given, source labels and namespace do not count (`sourceMatchHTTP`).
fn source_matches(m: &HttpMatch, proxy: &Proxy, gateway: &str) -> bool {
    if !m.gateways.is_empty() {
        return m.gateways.iter().any(|g| g == gateway);
    }
    selects(&m.source_labels, &proxy.key.labels)
        && (m.source_namespace.is_empty() || m.source_namespace == *proxy.namespace())
}

/// What a destination's host is in the table that a route is built for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// Its port, where it has one only.
    pub(crate) single: Option<u16>,
    pub(crate) external_name: Option<ArcStr>,
}

fn target(action: &HttpAction, port: u16, lookup: &dyn Fn(&str) -> Option<Found>) -> Target {
    match action {
        HttpAction::Redirect(code @ (301 | 302 | 303 | 307 | 308)) => Target::Redirect(*code),
        HttpAction::Redirect(_) => Target::Nothing,
        HttpAction::Answer(code) => Target::Answer(*code),
        HttpAction::Route(routes) => {
            let single = routes.len() == 1;
            let cluster = |route: &crate::mesh::object::Route| {
                let found = lookup(&route.host).unwrap_or_default();
                Cluster::new(
                    route.port.or(found.single).unwrap_or(port),
                    route.subset.clone(),
                    found.external_name.unwrap_or_else(|| route.host.clone()),
                )
            };
            let used = routes.iter().enumerate().filter(|(_, r)| single || r.weight > 0);
            Target::Clusters(
                used.map(|(n, r)| Weighted { cluster: cluster(r), weight: r.weight, place: n as u16 }).collect(),
            )
        }
    }
}

/// Headers of the only destination.
fn single_authority(action: &HttpAction) -> Option<ArcStr> {
    match action {
        HttpAction::Route(routes) => match routes.as_slice() {
            [only] => only.authority.clone(),
            _ => None,
        },
        HttpAction::Redirect(_) | HttpAction::Answer(_) => None,
    }
}

/// The route table of a sidecar on one port.
#[derive(Debug)]
pub(crate) struct PortRoutes {
    pub(crate) table: RouteTable,
}

/// An upstream that has the port, as the table knows it.
struct Member<'a> {
    scoped: Scoped<'a>,
    upstream: &'a Upstream,
    port: &'a Port,
}

impl PortRoutes {
    /// Builds the table (`BuildSidecarOutboundVirtualHosts`).
    pub(crate) fn new(index: &Index, proxy: &Proxy, port: u16) -> Self {
        let Some(egress) = proxy.scope.listener_for(port) else { return Self::empty(index) };
        // a generic HTTP proxy takes every port, but names with a port never match: the port is cut off before
        let generic = egress.port.is_some_and(|(_, protocol)| protocol == Protocol::HttpProxy);
        Table::new(index, proxy, egress, if generic { 80 } else { port }, generic).finish()
    }

    /// No routes at all.
    pub(crate) fn empty(index: &Index) -> Self {
        Self { table: RouteTable::new(index, &[]) }
    }

    /// The virtual host of a sniffed port with an address of its own.
    pub(crate) fn own(&self, host: &str) -> Option<&VirtualHost> {
        self.table.exact(&host.to_ascii_lowercase())
    }
}

struct Table<'a> {
    index: &'a Index,
    proxy: &'a Proxy,
    egress: &'a EgressListener,
    /// The port that routes are built for: 0 for a generic HTTP proxy.
    listener_port: u16,
    /// Of a hostname the last upstream counts: istiod overwrites the earlier ones in a map.
    members: FxHashMap<ArcStr, Member<'a>>,
    out: Vec<(Once<VirtualHost>, Vec<ArcStr>)>,
    taken: FxHashSet<ArcStr>,
    names: FxHashSet<ArcStr>,
    known: FxHashSet<ArcStr>,
}

/// Routes under several domains, of one VirtualService or one upstream.
struct Wrapper<'a> {
    hosts: Vec<ArcStr>,
    services: Vec<(Scoped<'a>, &'a Upstream)>,
    routes: Once<[HttpRoute]>,
}

impl<'a> Table<'a> {
    fn new(index: &'a Index, proxy: &'a Proxy, egress: &'a EgressListener, port: u16, generic: bool) -> Self {
        let mut members = FxHashMap::default();
        for (n, place) in egress.by_port.get(&port).into_iter().flatten() {
            let scoped = egress.services.at(*n);
            let upstream = index.registry.get(scoped.id);
            // a UDP port is none here (`PortList.GetByPort`)
            if let Some(port) = scoped.ports(upstream).nth(*place as usize).filter(|p| p.protocol != Protocol::Udp) {
                members.insert(lower(&upstream.host), Member { scoped, upstream, port });
            }
        }
        Self {
            index,
            proxy,
            egress,
            listener_port: if generic { 0 } else { port },
            members,
            out: Vec::new(),
            taken: FxHashSet::default(),
            names: FxHashSet::default(),
            known: FxHashSet::default(),
        }
    }

    fn finish(mut self) -> PortRoutes {
        let mut wrappers: Vec<Wrapper<'a>> = Vec::new();
        for id in self.selected() {
            wrappers.extend(self.of_virtual_service(id));
        }
        let routed: FxHashSet<&ArcStr> = wrappers.iter().flat_map(|w| &w.services).map(|(_, u)| &u.host).collect();
        let mut rest: Vec<&Member<'a>> = self.members.values().filter(|m| !routed.contains(&m.upstream.host)).collect();
        rest.sort_by(|a, b| a.upstream.host.cmp(&b.upstream.host));
        let own: Vec<Wrapper<'a>> = rest
            .into_iter()
            .filter(|m| m.upstream.resolution != Resolution::Alias && m.port.protocol.is_http_or_auto())
            .map(|m| Wrapper {
                hosts: Vec::new(),
                services: vec![(m.scoped, m.upstream)],
                routes: self
                    .index
                    .shared
                    .own_route(&m.upstream.host, m.port.number, || own_route(&m.upstream.host, m.port.number)),
            })
            .collect();
        wrappers.extend(own);
        for wrapper in &wrappers {
            self.known.extend(wrapper.services.iter().map(|(_, u)| u.host.clone()));
        }
        for wrapper in wrappers {
            for host in &wrapper.hosts {
                self.virtual_host(&lower(host), &wrapper, None);
            }
            for service in &wrapper.services {
                self.virtual_host(&lower(&service.1.host), &wrapper, Some(*service));
            }
        }
        PortRoutes { table: RouteTable::new(self.index, &self.out) }
    }

    /// VirtualServices with a host that is an upstream of this port; on port 80 all of them (`selectVirtualServices`).
    fn selected(&self) -> Vec<VsId> {
        if self.listener_port == 80 {
            return self.egress.virtual_services.clone();
        }
        let mut places: Vec<u32> =
            self.members.keys().flat_map(|host| self.egress.overlapping_any_case(self.index, host)).collect();
        places.sort_unstable();
        places.dedup();
        places.iter().map(|place| self.egress.virtual_services[*place as usize]).collect()
    }

    fn of_virtual_service(&self, id: VsId) -> Option<Wrapper<'a>> {
        let vs = self.index.virtual_services.get(id);
        let lookup = |host: &str| {
            let member = self.members.get(host)?;
            let single = if self.listener_port == 0 {
                (member.scoped.port_count(member.upstream) == 1).then_some(member.port.number)
            } else {
                Some(member.port.number)
            };
            Some(Found { single, external_name: member.upstream.external_name.clone() })
        };
        let routes = build(self.index, self.proxy, id, self.listener_port, MESH, &lookup);
        if routes.is_empty() {
            return None;
        }
        let (hosts, services) = self.separate(id, vs);
        // of the Gateway API: only for upstreams of its own namespace, unless the client is of its namespace
        if vs.semantics == Semantics::GatewayApi {
            let ours =
                |u: &Upstream| u.namespace == *vs.meta.namespace() || self.proxy.namespace() == vs.meta.namespace();
            if !services.iter().any(|(_, u)| ours(u)) {
                return None;
            }
        }
        let services: Vec<(Scoped<'_>, &Upstream)> = services
            .into_iter()
            .filter(|(_, u)| self.members.get(&lower(&u.host)).is_some_and(|m| m.port.protocol.is_http_or_auto()))
            .collect();
        // any host on port 80, even one that nothing registers
        (!services.is_empty() || self.listener_port == 80).then(|| Wrapper {
            hosts,
            services,
            routes: self.index.shared.routes(id, routes),
        })
    }

    /// Hosts of a VirtualService that are no upstream, and the upstreams that it is for (`separateVSHostsAndServices`).
    fn separate(&self, id: VsId, vs: &VirtualService) -> (Vec<ArcStr>, Vec<(Scoped<'a>, &'a Upstream)>) {
        let (mut hosts, mut services) = (Vec::new(), Vec::new());
        for host in vs.hosts.iter().filter(|h| !host::is_wildcard(h)) {
            match self.members.get(&lower(host)) {
                Some(m) => services.push((m.scoped, m.upstream)),
                None => hosts.push(host.clone()),
            }
        }
        for host in vs.hosts.iter().filter(|h| host::is_wildcard(h)) {
            if vs.semantics == Semantics::GatewayApi {
                hosts.push(host.clone());
                continue;
            }
            let host = lower(host);
            let registry = &self.index.registry;
            let mut names: Vec<ArcStr> =
                registry.of_host.of_any_case(&host).iter().map(|id| lower(&registry.get(*id).host)).collect();
            names.sort();
            names.dedup();
            let mut matching: Vec<&Member<'a>> = names.iter().filter_map(|h| self.members.get(h)).collect();
            if matching.is_empty() {
                hosts.push(host);
                continue;
            }
            matching.sort_by(|a, b| a.upstream.host.cmp(&b.upstream.host));
            services.extend(
                matching
                    .into_iter()
                    .filter(|m| self.egress.most_specific(self.index, &m.upstream.host) == Some(id))
                    .map(|m| (m.scoped, m.upstream)),
            );
        }
        (hosts, services)
    }

    fn virtual_host(&mut self, name: &ArcStr, wrapper: &Wrapper<'a>, service: Option<(Scoped<'a>, &'a Upstream)>) {
        if !self.names.insert(name.clone()) {
            return;
        }
        let (mut domains, short): (Vec<ArcStr>, Vec<ArcStr>) = match service {
            None => (vec![name.clone()], Vec::new()),
            Some((scoped, upstream)) => self.domains(scoped, upstream),
        };
        domains.retain(|d| {
            let d = lower(d);
            !(short.contains(&d) && self.known.contains(&d)) && self.taken.insert(d)
        });
        if domains.is_empty() {
            return;
        }
        let upstream = service.map(|(s, _)| s.id);
        let virtual_host = VirtualHost { routes: wrapper.routes.clone(), upstream, redirects: false };
        let virtual_host = self.index.shared.virtual_host(virtual_host);
        self.out.push((virtual_host, domains.iter().map(|d| self.index.shared.name(&lower(d))).collect()));
    }

    /// Domains of an upstream, and which of them are short forms (`generateVirtualHostDomains`).
    fn domains(&self, scoped: Scoped<'_>, upstream: &Upstream) -> (Vec<ArcStr>, Vec<ArcStr>) {
        let (mut domains, mut short) = (Vec::new(), Vec::new());
        for host in std::iter::once(&upstream.host).chain(scoped.aliases(upstream)) {
            domains.push(host.clone());
            let forms = short_names(host, self.proxy.namespace(), self.index.rules.absolute_names);
            domains.extend(forms.iter().cloned());
            short.extend(forms);
        }
        if upstream.kubernetes && upstream.resolution == Resolution::Passthrough {
            for n in 0..domains.len() {
                domains.push(format!("*.{}", domains[n]).into());
            }
        }
        for ip in self.proxy.addresses(upstream) {
            domains.push(match ip {
                IpAddr::V4(ip) => ip.to_string().into(),
                IpAddr::V6(ip) => format!("[{ip}]").into(),
            });
        }
        (domains, short)
    }
}

fn lower(text: &ArcStr) -> ArcStr {
    if text.bytes().any(|b| b.is_ascii_uppercase()) { text.to_ascii_lowercase().into() } else { text.clone() }
}

fn own_route(host: &ArcStr, port: u16) -> HttpRoute {
    let cluster = Cluster::new(port, ArcStr::new(), host.clone());
    HttpRoute {
        path: PathMatch::Any,
        conditions: false,
        target: Target::Clusters(vec![Weighted { cluster, weight: 0, place: 0 }]),
        authority: None,
        missing: 503,
        rule: None,
    }
}

/// Other spellings of a host for a proxy of `namespace`: with a dot at the end, and for Services without the domain
/// (`GenerateAltVirtualHosts`).
pub(crate) fn short_names(host: &str, namespace: &str, absolute: bool) -> Vec<ArcStr> {
    let mut out: Vec<ArcStr> = Vec::new();
    if absolute && host.parse::<IpAddr>().is_err() {
        out.push(format!("{host}.").into());
    }
    let Some(stem) = host.strip_suffix(CLUSTER_DOMAIN).and_then(|h| h.strip_suffix(".svc.")) else { return out };
    let Some((first, rest)) = stem.split_once('.') else { return out };
    if rest == namespace {
        out.extend([first.into(), format!("{stem}.svc").into(), stem.into()]);
    } else {
        out.extend([stem.into(), format!("{stem}.svc").into()]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_cut_off_hosts() {
        assert_eq!(without_port("a.com:80"), "a.com");
        assert_eq!(without_port("a.com"), "a.com");
        assert_eq!(without_port("[::1]:80"), "::1");
        assert_eq!(without_port("10.0.0.1:8080"), "10.0.0.1");
    }

    #[test]
    fn short_forms_depend_on_the_namespace() {
        let names = |h, ns| short_names(h, ns, false).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names("db.a.svc.cluster.local", "a"), ["db", "db.a.svc", "db.a"]);
        assert_eq!(names("db.a.svc.cluster.local", "b"), ["db.a", "db.a.svc"]);
        assert!(names("a.com", "b").is_empty());
    }

    #[test]
    fn gateway_api_prefixes_are_whole_segments() {
        let m = HttpMatch { uri: Some(StringMatch::Prefix("/a/".into())), ..HttpMatch::default() };
        let path = PathMatch::new(&m, Semantics::GatewayApi);
        assert!(path.holds("/a") && path.holds("/a/b") && !path.holds("/ab"));
        let path = PathMatch::new(&m, Semantics::Istio);
        assert!(!path.holds("/a") && path.holds("/a/b"));
    }
}
