//! Routes: each parent and hostname becomes a VirtualService; routes that share both are merged in the order of the specification.

use arcstr::ArcStr;

use crate::id::ObjectRef;
use crate::mesh::gatewayapi::{DERIVED, GROUP, ISTIO_GROUP, Objects, Parent};
use crate::mesh::host;
use crate::mesh::index;
use crate::mesh::object::read::At;
use crate::mesh::object::virtual_service::{MESH, RuleAt};
use crate::mesh::object::{
    HttpAction, HttpMatch, HttpRule, L4Match, L4Rule, Meta, Route, Semantics, StringMatch, VirtualService,
};

/// The four kinds of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RouteKind {
    Http,
    Grpc,
    Tls,
    Tcp,
}

impl RouteKind {
    pub(crate) fn parse(kind: &str) -> Option<Self> {
        match kind {
            "HTTPRoute" => Some(Self::Http),
            "GRPCRoute" => Some(Self::Grpc),
            "TLSRoute" => Some(Self::Tls),
            "TCPRoute" => Some(Self::Tcp),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Grpc => "GRPCRoute",
            Self::Tls => "TLSRoute",
            Self::Tcp => "TCPRoute",
        }
    }
}

#[derive(Debug, Clone)]
struct ParentRef {
    group: ArcStr,
    kind: ArcStr,
    namespace: ArcStr,
    name: ArcStr,
    section: ArcStr,
    port: Option<u16>,
}

#[derive(Debug, Clone)]
struct Backend {
    group: ArcStr,
    kind: ArcStr,
    namespace: Option<ArcStr>,
    name: ArcStr,
    port: Option<u16>,
    weight: u32,
    authority: Option<ArcStr>,
    path: ArcStr,
}

#[derive(Debug)]
struct Rule {
    path: ArcStr,
    /// Each with its path; a rule without matches has none.
    matches: Vec<HttpMatch>,
    backends: Vec<Backend>,
    mirrors: Vec<Backend>,
    redirect: Option<u16>,
    authority: Option<ArcStr>,
    rewrites: bool,
    /// A filter or match that istiod refuses: the whole route is dropped.
    refused: bool,
}

/// An HTTPRoute, GRPCRoute, TLSRoute or TCPRoute.
#[derive(Debug)]
pub(crate) struct KubeRoute {
    pub(crate) meta: Meta,
    kind: RouteKind,
    parents: Vec<ParentRef>,
    hostnames: Vec<ArcStr>,
    rules: Vec<Rule>,
}

impl KubeRoute {
    pub(crate) fn read(kind: RouteKind, meta: Meta, at: &At<'_>) -> Self {
        let own = meta.namespace().clone();
        let or = |a: &At<'_>, key: &str, default: &str| a.key(key, |v| v.string()).unwrap_or_else(|| default.into());
        at.key("spec", |s| Self {
            kind,
            parents: s.key("parentRefs", |l| {
                l.each(|p| ParentRef {
                    group: or(&p, "group", GROUP),
                    kind: or(&p, "kind", "Gateway"),
                    namespace: or(&p, "namespace", &own),
                    name: p.key("name", |n| n.text()),
                    section: p.key("sectionName", |n| n.text()),
                    port: p.key("port", |p| p.port()).filter(|p| *p > 0),
                })
            }),
            hostnames: s.key("hostnames", |h| h.strings()),
            rules: s.key("rules", |l| l.each(|r| rule(kind, &r))),
            meta,
        })
    }
}

fn rule(kind: RouteKind, at: &At<'_>) -> Rule {
    let mut out = Rule {
        path: at.path(),
        matches: Vec::new(),
        backends: at.key("backendRefs", |l| l.each(|b| backend(&b))),
        mirrors: Vec::new(),
        redirect: None,
        authority: None,
        rewrites: false,
        refused: false,
    };
    let matches =
        at.key("matches", |l| l.each(|m| if kind == RouteKind::Grpc { grpc_match(&m) } else { http_match(&m) }));
    for m in matches {
        match m {
            Some(m) => out.matches.push(m),
            None => out.refused = true,
        }
    }
    at.key("filters", |l| l.each(|f| filter(&f, kind, &mut out)));
    out
}

fn filter(at: &At<'_>, kind: RouteKind, rule: &mut Rule) {
    let inner = |key: &str, f: &mut dyn FnMut(At<'_>)| at.key(key, f);
    match (at.key("type", |t| t.text()).as_str(), kind) {
        ("RequestHeaderModifier", _) => inner("requestHeaderModifier", &mut |m| {
            if let Some(authority) = authority(&m) {
                rule.authority = rule.authority.take().filter(|_| rule.rewrites).or(Some(authority));
            }
        }),
        ("RequestMirror", _) => {
            inner("requestMirror", &mut |m| rule.mirrors.push(m.key("backendRef", |b| backend(&b))));
        }
        ("RequestRedirect", RouteKind::Http) => inner("requestRedirect", &mut |r| {
            rule.redirect = Some(r.key("statusCode", |c| c.number()).filter(|c| *c > 0).map_or(301, |c| c as u16));
        }),
        ("URLRewrite", RouteKind::Http) => inner("urlRewrite", &mut |r| {
            rule.rewrites = true;
            if let Some(name) = r.key("hostname", |h| h.string()).filter(|h| !h.is_empty()) {
                rule.authority = Some(name);
            }
        }),
        ("CORS", RouteKind::Http) => {}
        _ => {
            at.note("is a filter that istiod refuses: the whole route is dropped");
            rule.refused = true;
        }
    }
}

/// The Host that a header modifier sets.
fn authority(at: &At<'_>) -> Option<ArcStr> {
    let part = |key: &str| at.key(key, |l| l.each(|h| (h.key("name", |n| n.text()), h.key("value", |v| v.text()))));
    let is = |k: &str| k.eq_ignore_ascii_case("host") || k.eq_ignore_ascii_case(":authority");
    let find = |key: &str| part(key).into_iter().find(|(k, v)| is(k) && !v.is_empty()).map(|(_, v)| v);
    find("set").or_else(|| find("add"))
}

fn backend(at: &At<'_>) -> Backend {
    let mut set = None;
    at.key("filters", |l| {
        l.each(|f| {
            if let Some(found) = f.key("requestHeaderModifier", |m| authority(&m)) {
                set = Some(found);
            }
        })
    });
    Backend {
        group: at.key("group", |g| g.string()).unwrap_or_default(),
        kind: at.key("kind", |k| k.string()).unwrap_or_else(|| "Service".into()),
        namespace: at.key("namespace", |n| n.string()),
        name: at.key("name", |n| n.text()),
        port: at.key("port", |p| p.port()).filter(|p| *p > 0),
        weight: at.key("weight", |w| w.number()).unwrap_or(1) as u32,
        authority: set,
        path: at.path(),
    }
}

fn named(at: &At<'_>, key: &str) -> Option<Vec<(ArcStr, StringMatch)>> {
    let all = at.key(key, |l| {
        l.each(|h| {
            let value = h.key("value", |v| v.text());
            let matcher = match h.key("type", |t| t.string()).as_deref() {
                None | Some("Exact") => StringMatch::Exact(value),
                Some("RegularExpression") => StringMatch::Regex(value),
                Some(_) => return None,
            };
            Some((h.key("name", |n| n.text()), matcher))
        })
    });
    all.into_iter().collect()
}

fn http_match(at: &At<'_>) -> Option<HttpMatch> {
    let uri = at.key("path", |p| {
        let value = p.key("value", |v| v.string()).unwrap_or_else(|| "/".into());
        Some(match p.key("type", |t| t.string()).as_deref() {
            None | Some("PathPrefix") if value != "/" => {
                StringMatch::Prefix(value.strip_suffix('/').unwrap_or(&value).into())
            }
            None | Some("PathPrefix") => StringMatch::Prefix(value),
            Some("Exact") => StringMatch::Exact(value),
            Some("RegularExpression") => StringMatch::Regex(value),
            Some(_) => return None,
        })
    })?;
    Some(HttpMatch {
        path: at.path(),
        uri: Some(uri),
        method: at.key("method", |m| m.string()).map(StringMatch::Exact),
        headers: named(at, "headers")?,
        query: named(at, "queryParams")?,
        ..HttpMatch::default()
    })
}

/// gRPC paths are `/Service/Method` (`createGRPCURIMatch`).
fn grpc_match(at: &At<'_>) -> Option<HttpMatch> {
    let uri = at.key("method", |m| {
        if !m.is_present() {
            return Some(None);
        }
        let (service, method) = (m.key("service", |s| s.string()), m.key("method", |s| s.string()));
        let exact = match m.key("type", |t| t.string()).as_deref() {
            None | Some("Exact") => true,
            Some("RegularExpression") => false,
            Some(_) => return None,
        };
        Some(Some(match (service, method, exact) {
            (None, None, _) => return None,
            (Some(s), None, true) => StringMatch::Prefix(format!("/{s}/").into()),
            (None, Some(m), _) => StringMatch::Regex(format!("/[^/]+/{m}").into()),
            (Some(s), Some(m), true) => StringMatch::Exact(format!("/{s}/{m}").into()),
            (Some(s), None, false) => StringMatch::Regex(format!("/{s}/.+").into()),
            (Some(s), Some(m), false) => StringMatch::Regex(format!("/{s}/{m}").into()),
        }))
    })?;
    Some(HttpMatch { path: at.path(), uri, headers: named(at, "headers")?, ..HttpMatch::default() })
}

/// What a route is attached to.
struct Attached<'a> {
    /// `mesh`, or the derived Gateway.
    internal: ArcStr,
    /// A mesh parent's hosts and port.
    mesh: Option<(Vec<ArcStr>, Option<u16>)>,
    hostname: Option<&'a ArcStr>,
    /// Hostnames of the other listeners on the same port with the same protocol.
    others: Vec<ArcStr>,
}

/// A VirtualService in the making, with what it merges by.
struct Keyed {
    key: String,
    sort: (i64, ArcStr, String),
    service: VirtualService,
}

/// All routes, merged.
pub(crate) fn translate(api: &Objects, parents: &[Parent], objects: &index::Objects) -> Vec<VirtualService> {
    let translation = Translation { api, parents, objects };
    let (mut out, mut keyed): (Vec<VirtualService>, Vec<Keyed>) = (Vec::new(), Vec::new());
    for route in &api.routes {
        if api.outdated.iter().any(|(_, kind, _)| *kind == route.kind) {
            continue;
        }
        match route.kind {
            RouteKind::Http | RouteKind::Grpc => translation.http(route, &mut keyed),
            RouteKind::Tcp => translation.tcp(route, &mut out),
            RouteKind::Tls => translation.tls(route, &mut out),
        }
    }
    // merged by parent and host, oldest first, then sorted as the specification asks (mergeHTTPRoutes)
    keyed.sort_by(|a, b| (&a.key, &a.sort).cmp(&(&b.key, &b.sort)));
    let mut last = String::new();
    for Keyed { key, mut service, .. } in keyed {
        if let (true, Some(base)) = (key == last, out.last_mut()) {
            base.http.append(&mut service.http);
            sort_rules(&mut base.http);
        } else {
            sort_rules(&mut service.http);
            let name = key.replace('/', "~");
            service.meta.object = ObjectRef::new("VirtualService", service.meta.namespace().clone(), name);
            out.push(service);
            last = key;
        }
    }
    out
}

struct Translation<'a> {
    api: &'a Objects,
    parents: &'a [Parent],
    objects: &'a index::Objects,
}

impl<'a> Translation<'a> {
    /// The parents that take the route, in order of their names (`extractParentReferenceInfo`, `filteredReferences`).
    fn attached(&self, route: &KubeRoute) -> Vec<Attached<'a>> {
        let mut out: Vec<Attached<'a>> = Vec::new();
        for parent in &route.parents {
            match (parent.group.as_str(), parent.kind.as_str()) {
                (GROUP, "Gateway") => self.listeners(route, parent, &mut out),
                ("", "Service") => {
                    let found = self
                        .objects
                        .services
                        .iter()
                        .any(|s| s.meta.name() == &parent.name && s.meta.namespace() == &parent.namespace);
                    if found {
                        let hosts = vec![host::service_host(&parent.name, &parent.namespace)];
                        out.push(Attached {
                            internal: MESH.into(),
                            mesh: Some((hosts, parent.port)),
                            hostname: None,
                            others: Vec::new(),
                        });
                    }
                }
                (ISTIO_GROUP, "ServiceEntry") => {
                    let found = self
                        .objects
                        .entries
                        .iter()
                        .find(|e| e.meta.name() == &parent.name && e.meta.namespace() == &parent.namespace);
                    if let Some(entry) = found {
                        let mesh = Some((entry.hosts.clone(), parent.port));
                        out.push(Attached { internal: MESH.into(), mesh, hostname: None, others: Vec::new() });
                    }
                }
                _ => {}
            }
        }
        out.sort_by(|a, b| a.internal.cmp(&b.internal));
        out
    }

    fn listeners(&self, route: &KubeRoute, wanted: &ParentRef, out: &mut Vec<Attached<'a>>) {
        let of_gateway = |p: &&Parent| p.namespace == wanted.namespace && p.name == wanted.name;
        let listeners: Vec<&'a Parent> = self.parents.iter().filter(of_gateway).collect();
        for listener in &listeners {
            let here = wanted.port.is_none_or(|p| p == listener.port)
                && (wanted.section.is_empty() || wanted.section == listener.section);
            if !here || !host_allowed(route, listener) || !listener.kinds.contains(&route.kind) {
                continue;
            }
            let beside = |p: &&&Parent| {
                !std::ptr::eq(**p, *listener)
                    && p.port == listener.port
                    && p.protocol == listener.protocol
                    && p.hostname != listener.hostname
            };
            out.push(Attached {
                internal: listener.internal.clone(),
                mesh: None,
                hostname: listener.hostname.as_ref(),
                others: listeners.iter().filter(beside).map(|p| p.hostname.clone().unwrap_or_default()).collect(),
            });
        }
    }

    fn http(&self, route: &KubeRoute, out: &mut Vec<Keyed>) {
        let mut count = 0;
        for parent in self.attached(route) {
            let Some(mut rules) = self.http_rules(route, parent.mesh.is_none()) else { continue };
            let mut key = parent.internal.to_string();
            let hosts = match &parent.mesh {
                None if route.hostnames.is_empty() => vec!["*".into()],
                None => route.hostnames.clone(),
                Some((hosts, port)) => {
                    key = route.meta.namespace().to_string();
                    if let Some(port) = port {
                        key = format!("{key}/{port}");
                        for rule in &mut rules {
                            with_port(rule, *port);
                        }
                    }
                    hosts.clone()
                }
            };
            if rules.is_empty() {
                continue;
            }
            for host in hosts.into_iter().filter(|h| parent.allows(h)) {
                let name = format!("{}~{count}~{DERIVED}", route.meta.name());
                let mut service = virtual_service(route, &name, &parent.internal, host.clone());
                service.http.clone_from(&rules);
                let sort = (route.meta.created, route.meta.namespace().clone(), name);
                out.push(Keyed { key: format!("{key}/{host}"), sort, service });
                count += 1;
            }
        }
    }

    /// One rule for each match; `None` where istiod drops the whole route.
    fn http_rules(&self, route: &KubeRoute, grants: bool) -> Option<Vec<HttpRule>> {
        let mut out = Vec::new();
        for rule in &route.rules {
            if rule.refused {
                return None;
            }
            let total: u32 = rule.backends.iter().map(|b| b.weight).sum();
            let action = if let Some(code) = rule.redirect {
                HttpAction::Redirect(code)
            } else if total == 0 {
                HttpAction::Answer(500)
            } else {
                HttpAction::Route(self.destinations(route, &rule.backends, grants)?)
            };
            let mirrors: Vec<(ArcStr, Option<u16>)> = rule
                .mirrors
                .iter()
                .filter_map(|m| self.destination(route, m, grants).ok())
                .map(|d| (d.host, d.port))
                .collect();
            let at = RuleAt { object: Some(route.meta.object.clone()), path: rule.path.clone() };
            let of = |matches: Vec<HttpMatch>| HttpRule {
                at: at.clone(),
                matches,
                action: action.clone(),
                authority: rule.authority.clone(),
                rewrites: rule.rewrites,
                delegate: None,
                mirrors: mirrors.clone(),
            };
            if rule.matches.is_empty() {
                out.push(of(Vec::new()));
            }
            out.extend(rule.matches.iter().map(|m| of(vec![m.clone()])));
        }
        Some(out)
    }

    /// Backends with a weight (`buildHTTPDestination`); `None`: a hard error.
    fn destinations(&self, route: &KubeRoute, backends: &[Backend], grants: bool) -> Option<Vec<Route>> {
        let used: Vec<&Backend> = backends.iter().filter(|b| b.weight > 0).collect();
        let single = used.len() == 1;
        used.into_iter()
            .map(|b| {
                let mut destination = self.destination(route, b, grants).ok()?;
                destination.weight = if single { 0 } else { b.weight };
                Some(destination)
            })
            .collect()
    }

    /// A backend that cannot be used has an empty host; what istiod refuses altogether is an error (`buildDestination`).
    fn destination(&self, route: &KubeRoute, backend: &Backend, grants: bool) -> Result<Route, Refused> {
        let own = route.meta.namespace();
        let mut out = Route {
            host: ArcStr::new(),
            subset: ArcStr::new(),
            port: None,
            weight: 0,
            authority: backend.authority.clone(),
            path: backend.path.clone(),
            denied: false,
        };
        let foreign = backend.namespace.as_ref().filter(|ns| *ns != own);
        if let Some(namespace) = foreign.filter(|_| grants)
            && !self.granted(route, backend, namespace)
        {
            out.denied = true;
            return Ok(out);
        }
        let namespace = backend.namespace.as_ref().unwrap_or(own);
        let host = match (backend.group.as_str(), backend.kind.as_str()) {
            ("", "Service") if backend.name.contains('.') => return Err(Refused),
            ("", "Service") | ("multicluster.x-k8s.io", "ServiceImport") => {
                host::service_host(&backend.name, namespace)
            }
            (ISTIO_GROUP, "Hostname") if backend.namespace.is_some() => return Err(Refused),
            (ISTIO_GROUP, "Hostname") => backend.name.clone(),
            _ => return Ok(out),
        };
        out.port = Some(backend.port.ok_or(Refused)?);
        out.host = host;
        Ok(out)
    }

    fn granted(&self, route: &KubeRoute, backend: &Backend, namespace: &ArcStr) -> bool {
        self.api.grants.iter().filter(|g| g.namespace == *namespace).any(|grant| {
            let from = grant
                .from
                .iter()
                .any(|(group, kind, ns)| group == GROUP && kind == route.kind.as_str() && ns == route.meta.namespace());
            let to = grant.to.iter().any(|(group, kind, name)| {
                *group == backend.group && *kind == backend.kind && (name.is_empty() || *name == backend.name)
            });
            from && to
        })
    }

    /// Rules of a TCPRoute or TLSRoute; a rule without a usable weight leads nowhere.
    fn l4_rules(&self, route: &KubeRoute, grants: bool) -> Option<Vec<L4Rule>> {
        let mut out = Vec::new();
        for rule in &route.rules {
            let at = RuleAt { object: Some(route.meta.object.clone()), path: rule.path.clone() };
            let total: u32 = rule.backends.iter().map(|b| b.weight).sum();
            if total == 0 {
                let nowhere = Route {
                    host: "internal.cluster.local".into(),
                    subset: "zero-weight".into(),
                    port: Some(65535),
                    weight: 0,
                    authority: None,
                    path: rule.path.clone(),
                    denied: false,
                };
                out.push(L4Rule { at, matches: Vec::new(), routes: vec![nowhere] });
                continue;
            }
            let routes = self.destinations(route, &rule.backends, grants)?;
            let matches = if route.kind == RouteKind::Tls {
                let sni = if route.hostnames.is_empty() { vec!["*".into()] } else { route.hostnames.clone() };
                vec![L4Match { path: rule.path.clone(), sni, ..L4Match::default() }]
            } else {
                Vec::new()
            };
            out.push(L4Rule { at, matches, routes });
        }
        Some(out)
    }

    fn tcp(&self, route: &KubeRoute, out: &mut Vec<VirtualService>) {
        let mut count = 0;
        for parent in self.attached(route) {
            let mut rules = self.l4_rules(route, parent.mesh.is_none()).unwrap_or_default();
            let hosts = match &parent.mesh {
                None => vec!["*".into()],
                Some((hosts, port)) => {
                    if let Some(port) = port {
                        for rule in &mut rules {
                            if rule.matches.is_empty() {
                                rule.matches.push(L4Match { path: rule.at.path.clone(), ..L4Match::default() });
                            }
                            rule.matches.iter_mut().for_each(|m| m.port = Some(*port));
                        }
                    }
                    hosts.clone()
                }
            };
            for host in hosts {
                let mut service = virtual_service(
                    route,
                    &format!("{}~tcp~{count}~{DERIVED}", route.meta.name()),
                    &parent.internal,
                    host,
                );
                service.tcp.clone_from(&rules);
                out.push(service);
                count += 1;
            }
        }
    }

    fn tls(&self, route: &KubeRoute, out: &mut Vec<VirtualService>) {
        let mut count = 0;
        for parent in self.attached(route) {
            let mut rules = self.l4_rules(route, parent.mesh.is_none()).unwrap_or_default();
            let mut hosts = if route.hostnames.is_empty() { vec!["*".into()] } else { route.hostnames.clone() };
            match (&parent.mesh, parent.hostname) {
                (Some((parent_hosts, port)), _) => {
                    hosts.clone_from(parent_hosts);
                    for m in rules.iter_mut().filter(|r| r.matches.len() == 1).flat_map(|r| &mut r.matches) {
                        if m.sni == ["*"] {
                            m.sni.clone_from(parent_hosts);
                        }
                        m.port = port.or(m.port);
                    }
                }
                (None, Some(listener)) => {
                    let listener = std::slice::from_ref(listener);
                    hosts = host::intersection(&hosts, listener);
                    for m in rules.iter_mut().flat_map(|r| &mut r.matches) {
                        m.sni = host::intersection(&m.sni, listener);
                    }
                    rules.retain(|r| r.matches.is_empty() || r.matches.iter().any(|m| !m.sni.is_empty()));
                }
                (None, None) => {}
            }
            for host in hosts {
                let name = format!("{}~tls~{count}~{DERIVED}", route.meta.name());
                let mut service = virtual_service(route, &name, &parent.internal, host.clone());
                service.tls.clone_from(&rules);
                if parent.mesh.is_some() {
                    for m in service.tls.iter_mut().filter(|r| r.matches.len() == 1).flat_map(|r| &mut r.matches) {
                        if m.sni.len() > 1 {
                            m.sni.retain(|s| host::overlap(&host, s));
                        }
                    }
                }
                out.push(service);
                count += 1;
            }
        }
    }
}

/// istiod drops the whole route.
struct Refused;

impl Attached<'_> {
    /// A more specific listener of the same Gateway takes the host away (`hostnameAllowedByIsolation`).
    fn allows(&self, host: &str) -> bool {
        let ours = self.hostname.map_or("", ArcStr::as_str);
        if !ours.is_empty() && !host::is_wildcard(ours) {
            return true;
        }
        if !ours.is_empty() && !host::overlap(host, ours) {
            return false;
        }
        !self.others.iter().any(|other| ours.len() <= other.len() && host::subset(host, other))
    }
}

/// Some hostname of the route overlaps with the listener's, and its namespace may attach (`referenceAllowed`).
fn host_allowed(route: &KubeRoute, listener: &Parent) -> bool {
    let any = [ArcStr::from("*")];
    let hostnames: &[ArcStr] = if route.hostnames.is_empty() { &any } else { &route.hostnames };
    listener.hosts.is_empty()
        || hostnames.iter().any(|hostname| {
            listener.hosts.iter().any(|allowed| {
                let (namespace, name) = allowed.split_once('/').unwrap_or(("*", allowed));
                host::overlap(name, hostname) && (namespace == "*" || namespace == route.meta.namespace().as_str())
            })
        })
}

fn with_port(rule: &mut HttpRule, port: u16) {
    if rule.matches.is_empty() {
        rule.matches.push(HttpMatch { path: rule.at.path.clone(), ..HttpMatch::default() });
    }
    rule.matches.iter_mut().for_each(|m| m.port = Some(port));
}

fn virtual_service(route: &KubeRoute, name: &str, gateway: &ArcStr, host: ArcStr) -> VirtualService {
    let object = ObjectRef::new("VirtualService", route.meta.namespace().clone(), name);
    VirtualService {
        meta: Meta { object, ..route.meta.clone() },
        shown: route.meta.object.clone(),
        semantics: Semantics::GatewayApi,
        hosts: vec![host],
        gateways: vec![gateway.clone()],
        export_to: None,
        http: Vec::new(),
        tls: Vec::new(),
        tcp: Vec::new(),
    }
}

/// Exact before prefix before expression, longer first, then method, headers, query (`sortHTTPRoutes`).
fn sort_rules(rules: &mut [HttpRule]) {
    let rank = |rule: &HttpRule| {
        let m = rule.matches.first()?;
        let (kind, length) = match &m.uri {
            Some(StringMatch::Exact(t)) => (3, t.len()),
            Some(StringMatch::Prefix(t)) => (2, t.len()),
            Some(StringMatch::Regex(t)) => (1, t.len()),
            Some(StringMatch::Any) | None => (-1, 0),
        };
        Some((kind, length, m.method.is_some(), m.headers.len(), m.query.len()))
    };
    // rules without a match go last; `None` is the smallest
    rules.sort_by_key(|rule| std::cmp::Reverse(rank(rule)));
}
