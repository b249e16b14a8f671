//! What nearly applied: rules that lead to a gateway but for one thing, and why a registered destination was not routed.

use arcstr::ArcStr;
use smallvec::SmallVec;

use crate::id::{NamespacedName, ObjectRef};
use crate::mesh::chain::{Block, Picked};
use crate::mesh::host;
use crate::mesh::listener::networks;
use crate::mesh::object::read::selects;
use crate::mesh::object::virtual_service::MESH;
use crate::mesh::object::{HttpAction, HttpMatch, L4Match, Route, Semantics, VirtualService};
use crate::mesh::protocol::Protocol;
use crate::mesh::proxy::Proxy;
use crate::mesh::register::Shown;
use crate::mesh::registry::{Address, Port, Upstream, UpstreamId};
use crate::mesh::route::PathMatch;
use crate::mesh::visible::VsId;
use crate::mesh::{Bytes, Call, Expected, Mesh, Miss};
use crate::verdict::says::says;
use crate::verdict::{Reason, Says};

/// One thing that a rule fails on.
struct Failure {
    reason: Reason,
    object: ObjectRef,
    field: ArcStr,
    says: Says,
}

/// The question, with what is registered for it.
pub(crate) struct Near<'a> {
    pub(crate) proxy: &'a Proxy,
    pub(crate) call: &'a Call<'a>,
    /// Names in the bytes (else of DNS).
    pub(crate) names: &'a [Shown<'a>],
    /// Upstreams that have the name (or address) and the port, and are visible.
    pub(crate) registered: &'a [UpstreamId],
}

impl Mesh {
    /// Rules that would have led to a gateway but for one thing, oldest VirtualService first.
    pub(crate) fn near_misses(&self, near: &Near<'_>, out: &Expected) -> Vec<Miss> {
        let index = &self.index;
        let mut candidates: SmallVec<[VsId; 4]> = SmallVec::new();
        for host in near.names.iter().flat_map(|name| &name.holding) {
            candidates.extend_from_slice(index.virtual_services.by_host.at(*host));
        }
        let entry = out.entry.as_ref().map(|e| e.host.as_str());
        if let Some(host) = entry.filter(|host| near.names.iter().all(|name| name.text != *host)) {
            index.virtual_services.by_host.each_match(host, |ids| candidates.extend_from_slice(ids));
        }
        candidates.retain(|id| self.leading[id.0 as usize]);
        if candidates.is_empty() {
            return Vec::new();
        }
        candidates.sort_unstable();
        candidates.dedup();
        let protocols = self.protocols(near, out);
        if protocols.is_empty() {
            return Vec::new();
        }
        let mut misses = Vec::new();
        for id in candidates {
            let rules = Rules { mesh: self, near, out, id, vs: index.virtual_services.get(id), protocols: &protocols };
            rules.collect(&mut misses);
        }
        misses
    }

    /// Protocols under which the destination is registered on this port.
    fn protocols(&self, near: &Near<'_>, out: &Expected) -> SmallVec<[Protocol; 2]> {
        let port = near.call.to.port();
        let registry = &self.index.registry;
        let mut list: SmallVec<[Protocol; 2]> = SmallVec::new();
        if let Some(entry) = &out.entry {
            // the one that took it tells; namesakes may declare the port otherwise
            let own = registry.of_host.get(&entry.host).into_iter().flatten().map(|id| registry.get(*id));
            let own = own.filter(|u| u.object == entry.object).find_map(|u| u.port(port));
            if let Some(own) = own {
                list.push(own.protocol);
                return list;
            }
        }
        let entry = out.entry.as_ref().and_then(|e| registry.of_host.get(&e.host));
        for id in near.registered.iter().chain(entry.into_iter().flatten()) {
            if let Some(port) = registry.get(*id).port(port)
                && !list.contains(&port.protocol)
            {
                list.push(port.protocol);
            }
        }
        list
    }

    /// Why a destination that is registered and visible was left to outboundTrafficPolicy.
    pub(crate) fn unrouted(&self, near: &Near<'_>) -> Option<Miss> {
        let registry = &self.index.registry;
        let (ip, port) = (near.call.to.ip(), near.call.to.port());
        let mut best: Option<(u8, Miss)> = None;
        for id in near.registered {
            let upstream = registry.get(*id);
            let Some(p) = upstream.port(port) else { continue };
            let miss = |reason: Reason, field: String, says: Says| Miss {
                reason,
                object: upstream.object.clone(),
                field: field.into(),
                says,
                gateway: None,
            };
            let declared = || format!(".spec.ports[{}].protocol", p.index);
            let bytes = bytes_word(near.call.bytes);
            let wrong_bytes = match near.call.bytes {
                Bytes::Tls => p.protocol.is_http(),
                Bytes::Http | Bytes::Http2 => p.protocol.is_tls(),
                Bytes::Opaque => p.protocol.is_http() || p.protocol.is_tls(),
                Bytes::Unknown => false,
            };
            let elsewhere = match near.proxy.address(upstream) {
                Address::Ip(own) => own != ip && !p.protocol.is_http(),
                Address::Cidr(net) => !net.contains(&ip) && !p.protocol.is_http(),
                Address::Any => false,
            };
            let found = if let Some(found) = self.off_the_port(near, upstream) {
                (0, found)
            } else if wrong_bytes {
                let protocol = p.protocol.as_str();
                let says = says![
                    "port ",
                    port,
                    " of ",
                    &upstream.host,
                    " is declared ",
                    protocol,
                    ", and the bytes are ",
                    bytes
                ];
                (1, miss(Reason::ProtocolMismatch, declared(), says))
            } else if p.protocol.is_tls() && near.call.bytes == Bytes::Tls && near.call.sni.is_none_or(str::is_empty) {
                let says = says![&upstream.host, " is chosen by server name, and the connection has none"];
                (0, miss(Reason::NoSni, upstream.host_field().to_string(), says))
            } else if elsewhere {
                let says = says![&upstream.host, " is registered with other addresses than ", ip];
                (2, miss(Reason::SniIpMismatch, near.proxy.address_field(upstream).to_string(), says))
            } else if let Some(found) = self.tls_rule_for(near, *id) {
                (0, found)
            } else {
                (0, self.shadowed(near, *id))
            };
            if best.as_ref().is_none_or(|(rank, _)| found.0 < *rank) {
                best = Some(found);
            }
        }
        best.map(|(_, miss)| miss)
    }

    /// An egress listener of the Sidecar that has this port imports other hosts: what its catch-all imports is not on the port.
    fn off_the_port(&self, near: &Near<'_>, upstream: &Upstream) -> Option<Miss> {
        let scope = &near.proxy.scope;
        let port = near.call.to.port();
        let place = scope.listeners.iter().position(|l| l.port.is_some_and(|(p, _)| p == port))?;
        let hosts = &scope.listeners[place].services;
        if hosts.iter().any(|s| self.index.registry.get(s.id).host == upstream.host) {
            return None;
        }
        let sidecar = &self.index.sidecars[scope.sidecar? as usize].meta.object;
        Some(Miss {
            reason: Reason::SidecarScope,
            object: sidecar.clone(),
            field: format!(".spec.egress[{place}]").into(),
            says: says!["the listener of ", sidecar, " for port ", port, " does not import ", &upstream.host],
            gateway: None,
        })
    }

    /// A tls rule that holds for the upstream takes the place of its own chain: other server names pass it by (semantics C7).
    fn tls_rule_for(&self, near: &Near<'_>, id: UpstreamId) -> Option<Miss> {
        if near.call.bytes != Bytes::Tls {
            return None;
        }
        let listeners = near.proxy.listeners(&self.index, near.call.to.port());
        let chains = &listeners.find(&self.index, near.call.to.ip(), None)?.chains.list;
        let host = &self.index.registry.get(id).host;
        let of = |other: UpstreamId| self.index.registry.get(other).host == *host;
        let rule = chains.iter().filter(|c| c.origin.upstream.is_some_and(of)).find_map(|c| c.origin.rule)?;
        let (object, field) = self.rule_field(rule);
        Some(Miss {
            reason: Reason::SniNotMatched,
            says: says![
                &object,
                " ",
                &field,
                " takes the place of the chain of ",
                host,
                ", and holds other server names"
            ],
            object,
            field: format!("{field}.sniHosts").into(),
            gateway: None,
        })
    }

    /// Another entry has the listener, or the longer prefix.
    fn shadowed(&self, near: &Near<'_>, id: UpstreamId) -> Miss {
        let registry = &self.index.registry;
        let upstream = registry.get(id);
        let (ip, port) = (near.call.to.ip(), near.call.to.port());
        let listeners = near.proxy.listeners(&self.index, port);
        let chains = listeners.find(&self.index, ip, None).map_or(&[][..], |l| &l.chains.list);
        let others = chains.iter().filter_map(|c| {
            let other = registry.get(c.origin.upstream?);
            (other.object != upstream.object).then_some((other, c))
        });
        // the longest prefix that holds the address hides the shorter ones
        let length =
            |cidrs: &[ipnet::IpNet]| cidrs.iter().filter(|n| n.contains(&ip)).map(ipnet::IpNet::prefix_len).max();
        let mut by_host = near.registered.iter().map(|id| registry.get(*id)).filter(|u| {
            // virtual hosts know one entry of a hostname, the last one
            matches!(near.call.bytes, Bytes::Http | Bytes::Http2)
                && u.object != upstream.object
                && u.host == upstream.host
        });
        if let Some(other) = by_host.next_back() {
            let field = other.port(port).map_or(arcstr::literal!(".spec.ports"), Port::field);
            return Miss {
                reason: Reason::ShadowedBy,
                object: other.object.clone(),
                field,
                says: says![
                    &other.object,
                    " is the entry of ",
                    &other.host,
                    " that virtual hosts know, not ",
                    &upstream.object
                ],
                gateway: None,
            };
        }
        let other = others.enumerate().max_by_key(|(n, (_, c))| (length(&c.cidrs), std::cmp::Reverse(*n)));
        let miss = |object: &ObjectRef, field: ArcStr, says: Says| Miss {
            reason: Reason::ShadowedBy,
            object: object.clone(),
            field,
            says,
            gateway: None,
        };
        match other {
            Some((_, (other, chain))) if length(&chain.cidrs).is_some() => {
                let says = says![&other.object, " has a longer prefix for ", ip, " than ", &upstream.object];
                miss(&other.object, near.proxy.address_field(other), says)
            }
            Some((_, (other, _))) => {
                let field = other.port(port).map_or(arcstr::literal!(".spec.ports"), Port::field);
                miss(&other.object, field, says![&other.object, " has port ", port, " before ", &upstream.object])
            }
            None => {
                let says = says!["another entry or rule has port ", port, " before ", &upstream.object];
                miss(&upstream.object, ".spec.ports".into(), says)
            }
        }
    }
}

fn bytes_word(bytes: Bytes) -> &'static str {
    match bytes {
        Bytes::Tls => "TLS",
        Bytes::Http | Bytes::Http2 => "HTTP",
        Bytes::Opaque => "neither TLS nor HTTP",
        Bytes::Unknown => "not known",
    }
}

/// The rules of one VirtualService.
struct Rules<'a> {
    mesh: &'a Mesh,
    near: &'a Near<'a>,
    out: &'a Expected,
    id: VsId,
    vs: &'a VirtualService,
    protocols: &'a [Protocol],
}

impl Rules<'_> {
    fn collect(&self, misses: &mut Vec<Miss>) {
        let whole = self.of_the_whole();
        if whole.len() > 1 {
            return;
        }
        for (r, rule) in self.vs.http.iter().enumerate() {
            let HttpAction::Route(routes) = &rule.action else { continue };
            let Some(gateway) = self.gateway(routes) else { continue };
            let none = HttpMatch { path: rule.at.path.clone(), ..HttpMatch::default() };
            let matches = if rule.matches.is_empty() { std::slice::from_ref(&none) } else { &rule.matches };
            for (n, m) in matches.iter().enumerate().filter(|(_, m)| for_mesh(&m.gateways)) {
                let place = if rule.matches.is_empty() { usize::MAX } else { n };
                let failures = self.http(m);
                self.judge(&whole, &failures, Picked::new(self.id, Block::Http, r, place), &gateway, misses);
            }
        }
        for (block, rules) in [(Block::Tls, &self.vs.tls), (Block::Tcp, &self.vs.tcp)] {
            for (r, rule) in rules.iter().enumerate() {
                let Some(gateway) = self.gateway(&rule.routes) else { continue };
                let none = L4Match { path: rule.at.path.clone(), ..L4Match::default() };
                let matches = if rule.matches.is_empty() { std::slice::from_ref(&none) } else { &rule.matches };
                for (n, m) in matches.iter().enumerate().filter(|(_, m)| for_mesh(&m.gateways)) {
                    let place = if rule.matches.is_empty() { usize::MAX } else { n };
                    let failures = self.l4(block, m);
                    self.judge(&whole, &failures, Picked::new(self.id, block, r, place), &gateway, misses);
                }
            }
        }
    }

    /// The gateway that a rule leads to, if it leads to one.
    fn gateway(&self, routes: &[Route]) -> Option<NamespacedName> {
        routes.iter().find_map(|r| self.mesh.roster.gateways.get(&r.host)).cloned()
    }

    fn failure(&self, reason: Reason, field: String, says: impl Into<Says>) -> Failure {
        Failure { reason, object: self.vs.shown.clone(), field: field.into(), says: says.into() }
    }

    /// Visibility, import, gateways.
    fn of_the_whole(&self) -> Vec<Failure> {
        let index = &self.mesh.index;
        let (proxy, vs) = (self.near.proxy, self.vs);
        let namespace = proxy.namespace();
        let mut out = Vec::new();
        let visible = index.virtual_services.visibility[self.id.0 as usize].includes(namespace);
        if !visible {
            let says = says![&vs.shown, " is not exported to the namespace ", namespace];
            out.push(self.failure(Reason::VsNotExported, ".spec.exportTo".to_owned(), says));
        } else if let Some(n) = proxy.scope.sidecar
            && !proxy.scope.imports(self.near.call.to.port(), self.id)
        {
            let sidecar = index.sidecars[n as usize].meta.object.clone();
            let says = says![&sidecar, " does not import ", &vs.shown];
            out.push(Failure { reason: Reason::VsNotImported, object: sidecar, field: ".spec.egress".into(), says });
        }
        if !vs.gateways.iter().any(|g| g == MESH) {
            let says = says![&vs.shown, " does not list the gateway mesh, so no sidecar uses it"];
            out.push(self.failure(Reason::VsGateways, ".spec.gateways".to_owned(), says));
        }
        if vs.semantics == Semantics::GatewayApi && vs.meta.namespace() != namespace {
            let registry = &index.registry;
            let ours = self.near.registered.iter().any(|id| registry.get(*id).namespace == *vs.meta.namespace());
            if !ours {
                let says = says![&vs.shown, " is neither in the client's namespace nor in that of the entry"];
                out.push(self.failure(Reason::VsNotExported, ".metadata.namespace".to_owned(), says));
            }
        }
        out
    }

    fn http(&self, m: &HttpMatch) -> Vec<Failure> {
        let call = self.near.call;
        let mut out = Vec::new();
        let readable = matches!(call.bytes, Bytes::Http | Bytes::Http2 | Bytes::Unknown);
        if !readable || !self.protocols.iter().any(|p| p.is_http_or_auto()) {
            out.push(self.wrong_block("http", &m.path));
        }
        self.port(m.port, &m.path, &mut out);
        // where gateways are named, source labels and namespace do not count
        if m.gateways.is_empty() {
            self.source(&m.source_labels, &m.source_namespace, &m.path, &mut out);
        }
        if let Some(path) = call.path
            && !PathMatch::new(m, self.vs.semantics).holds(path)
        {
            let says = "the rule does not hold the path of the request".to_owned();
            out.push(self.failure(Reason::HttpNotMatched, format!("{}.uri", m.path), says));
        }
        out
    }

    fn l4(&self, block: Block, m: &L4Match) -> Vec<Failure> {
        let call = self.near.call;
        let mut out = Vec::new();
        let (fits, word) = match block {
            Block::Tls => (self.protocols.iter().any(|p| p.is_tls()), "tls"),
            Block::Tcp | Block::Http => {
                (self.protocols.iter().any(|p| (p.is_tcp() && !p.is_tls()) || *p == Protocol::Auto), "tcp")
            }
        };
        if !fits {
            out.push(self.wrong_block(word, &m.path));
        }
        self.port(m.port, &m.path, &mut out);
        self.source(&m.source_labels, &m.source_namespace, &m.path, &mut out);
        if block == Block::Tls && fits && call.bytes != Bytes::Unknown {
            let sni = call.sni.map(str::to_ascii_lowercase).filter(|s| !s.is_empty());
            match sni {
                None => {
                    let says = "the rule needs a server name, and the connection has none".to_owned();
                    out.push(self.failure(Reason::NoSni, self.sni_field(&m.path), says));
                }
                Some(sni) if !m.sni.iter().any(|h| host::subset(&sni, h)) => {
                    let says = format!("the rule does not hold the server name {}", crate::name::printable(&sni));
                    out.push(self.failure(Reason::SniNotMatched, self.sni_field(&m.path), says));
                }
                Some(_) => {}
            }
        }
        let ip = call.to.ip();
        if !m.subnets.is_empty() && !networks(&m.subnets).iter().any(|n| n.contains(&ip)) {
            let says = says!["the rule is for subnets that do not hold ", ip];
            out.push(self.failure(Reason::SubnetNotMatched, format!("{}.destinationSubnets", m.path), says));
        }
        out
    }

    /// Where a rule says its server names; a TLSRoute says them once for all of its rules.
    fn sni_field(&self, path: &str) -> String {
        match self.vs.semantics {
            Semantics::GatewayApi => ".spec.hostnames".to_owned(),
            Semantics::Istio => format!("{path}.sniHosts"),
        }
    }

    fn wrong_block(&self, word: &str, path: &str) -> Failure {
        let declared: Vec<&str> = self.protocols.iter().map(|p| p.as_str()).collect();
        let says = format!(
            "a rule under {word} does not apply: the port is declared {}, and the bytes are {}",
            declared.join(" and "),
            bytes_word(self.near.call.bytes)
        );
        self.failure(Reason::VsWrongBlock, path.to_owned(), says)
    }

    fn port(&self, wanted: Option<u16>, path: &str, out: &mut Vec<Failure>) {
        let port = self.near.call.to.port();
        if let Some(wanted) = wanted.filter(|p| *p != port) {
            let says = says!["the rule is for port ", wanted, ", not ", port];
            out.push(self.failure(Reason::PortNotRouted, format!("{path}.port"), says));
        }
    }

    fn source(&self, labels: &[(ArcStr, ArcStr)], namespace: &str, path: &str, out: &mut Vec<Failure>) {
        let pod = self.mesh.pod(self.near.call.pod);
        if !selects(labels, &pod.labels) {
            let wanted: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let says = format!(
                "the rule is for pods with the labels {}, and {} has not all of them",
                wanted.join(","),
                pod.name
            );
            out.push(self.failure(Reason::SourceLabels, format!("{path}.sourceLabels"), says));
        }
        if !namespace.is_empty() && namespace != pod.name.namespace.as_str() {
            let says = says![
                "the rule is for pods of the namespace ",
                &ArcStr::from(namespace),
                ", not ",
                &pod.name.namespace
            ];
            out.push(self.failure(Reason::SourceNamespace, format!("{path}.sourceNamespace"), says));
        }
    }

    /// One failure is a miss; none, and the rule still did not decide: another one came first.
    fn judge(
        &self,
        whole: &[Failure],
        rule: &[Failure],
        picked: Picked,
        gateway: &NamespacedName,
        misses: &mut Vec<Miss>,
    ) {
        if whole.len() + rule.len() > 1 {
            return;
        }
        let of = |f: &Failure, object: ObjectRef| Miss {
            reason: f.reason,
            object,
            field: f.field.clone(),
            says: f.says.clone(),
            gateway: Some(gateway.clone()),
        };
        let (object, field) = self.mesh.rule_field(picked);
        let miss = match (whole.first(), rule.first()) {
            (Some(failure), _) => of(failure, failure.object.clone()),
            (None, Some(failure)) => of(failure, object),
            (None, None) => {
                if self.out.routed.as_ref() == Some(&(object.clone(), field.clone())) {
                    return;
                }
                let says = match &self.out.routed {
                    Some((winner, at)) => {
                        says![winner, " ", at, " comes before the rule ", &field, " of ", &object]
                    }
                    None => {
                        says!["another VirtualService of the same host comes before the rule ", &field, " of ", &object]
                    }
                };
                Miss { reason: Reason::VsShadowed, object, field, says, gateway: Some(gateway.clone()) }
            }
        };
        if !misses.contains(&miss) {
            misses.push(miss);
        }
    }
}

/// The match applies to sidecars, as far as its gateways tell.
fn for_mesh(gateways: &[ArcStr]) -> bool {
    gateways.is_empty() || gateways.iter().any(|g| g == MESH)
}
