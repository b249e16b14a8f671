//! The decision: one connection through the configuration of one proxy, and of the gateways behind it.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use arcstr::ArcStr;

use crate::id::{NamespacedName, ObjectRef};
use crate::mesh::chain::{Action, Chain, Cluster, Picked, Seen, Weighted};
use crate::mesh::cluster::{self, Dial, Known, Missing, Wrap};
use crate::mesh::listener::{Bind, VIRTUAL_OUTBOUND};
use crate::mesh::object::{PolicyMode, Resolution};
use crate::mesh::proxy::Proxy;
use crate::mesh::registry::{Port, UpstreamId};
use crate::mesh::remark;
use crate::mesh::route::{HttpRoute, Target, VirtualHost};
use crate::mesh::{Certainty, Entry, Expected, Match, Mesh, Next, NextKind, Outcome, Owner, PodIndex};
use crate::verdict::says::says;
use crate::verdict::{Mark, Reason, Says, Step};

/// How many gateways in a row are followed (design §7.1).
const HOPS: usize = 3;

/// What a connection is wrapped in, as its receiver sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrapped {
    Plain,
    InTls,
    InMeshTls,
}

/// A connection as it arrives at a proxy.
#[derive(Debug, Clone)]
pub(crate) struct Wire<'a> {
    pub(crate) to: SocketAddr,
    pub(crate) tls: Wrapped,
    /// HTTP, inside TLS where there is TLS.
    pub(crate) http: bool,
    pub(crate) sni: Cow<'a, str>,
    pub(crate) host: Option<Cow<'a, str>>,
    pub(crate) path: Option<&'a str>,
}

impl Wire<'_> {
    pub(crate) fn seen(&self) -> Seen {
        match self.tls {
            Wrapped::InTls => Seen::Tls,
            Wrapped::InMeshTls => Seen::MeshTls,
            Wrapped::Plain if self.http => Seen::Http,
            Wrapped::Plain => Seen::Raw,
        }
    }

    /// Host, else the address.
    pub(crate) fn authority(&self) -> Cow<'_, str> {
        self.host.as_deref().map_or_else(|| Cow::Owned(self.to.ip().to_string()), Cow::Borrowed)
    }
}

/// One proxy's part of the way.
pub(crate) struct Walk<'m> {
    pub(crate) mesh: &'m Mesh,
    pub(crate) proxy: &'m Proxy,
    pub(crate) pod: PodIndex,
    /// The pod whose proxy connected to this one, where that is known.
    pub(crate) from: Option<PodIndex>,
    pub(crate) depth: usize,
}

/// What chose a cluster.
#[derive(Clone, Copy)]
pub(crate) struct Chooser<'c> {
    pub(crate) rule: Option<Picked>,
    pub(crate) authority: Option<&'c str>,
    pub(crate) http: bool,
    pub(crate) missing: u16,
    /// Place of the destination among those of the rule.
    pub(crate) place: u16,
}

impl Walk<'_> {
    /// A socket of an application, taken by its sidecar.
    pub(crate) fn outbound(&self, wire: &Wire<'_>) -> Expected {
        let index = &self.mesh.index;
        let port = wire.to.port();
        if port == VIRTUAL_OUTBOUND {
            let mut out = Expected::new(Outcome::Blocked);
            out.cluster = Some("BlackHoleCluster".into());
            out.because.push(Step::new(
                "listener",
                Mark::Decides,
                "the proxy's own port is a black hole: it would call itself",
            ));
            return out;
        }
        let listeners = self.proxy.listeners(index, port);
        let own = self.mesh.pod(self.pod).ips.first().copied();
        let Some(listener) = listeners.find(index, wire.to.ip(), own) else {
            let mut out = if self.proxy.mode() == PolicyMode::AllowAnyDynamicDns && wire.seen() == Seen::Http {
                self.dynamic()
            } else {
                self.policy(wire, false)
            };
            let says = says!["no listener for ", wire.to.ip(), " and none for every address on port ", port];
            out.because.insert(0, Step::new("listener", Mark::No, says));
            return out;
        };
        let place = |rest: &'static str| match listener.bind {
            Bind::Any => says!["the listener for every address on port ", port, rest],
            Bind::Ip(ip) => says!["the listener for ", SocketAddr::new(ip, port), rest],
        };
        let Some(chain) = listener.chains.find(wire.to.ip(), &wire.sni, wire.seen()) else {
            let mut out = self.policy(wire, false);
            out.reason = out.reason.filter(|r| *r != Reason::Unregistered).or(out.reason);
            out.because.insert(0, Step::new("listener", Mark::No, place(" has no chain for these bytes")));
            return out;
        };
        let mut out = match &chain.action {
            Action::Tcp(clusters) => {
                let chooser = Chooser { rule: chain.origin.rule, authority: None, http: false, missing: 503, place: 0 };
                self.weighted(clusters, wire, chooser)
            }
            _ if wire.tls != Wrapped::Plain || !wire.http => {
                let mut out = Expected::new(Outcome::Broken);
                out.reason = Some(Reason::ProtocolMismatch);
                out.because.push(Step::new(
                    "listener",
                    Mark::Decides,
                    place(" speaks HTTP only, and these bytes are none"),
                ));
                self.by_port_of(&mut out, chain, ".protocol", port);
                out
            }
            Action::Routes | Action::GatewayRoutes(_) => {
                let routes = self.proxy.routes(index, port);
                if let Some(host) = routes.table.find(&wire.authority()) {
                    self.http(host, wire)
                } else {
                    let mut out = self.policy(wire, true);
                    let name = ArcStr::from(crate::name::printable(&wire.authority()));
                    let says = says!["no virtual host for ", &name, " on port ", port];
                    out.because.insert(0, Step::new("route", Mark::No, says));
                    out
                }
            }
            Action::OwnRoutes(host) => {
                let routes = self.proxy.routes(index, port);
                match routes.own(host) {
                    Some(host) => {
                        let mut out = self.http(host, wire);
                        // the Host is not compared here: the address brought it
                        out.entry = None;
                        out
                    }
                    None => not_found("the route table of this listener has no virtual host"),
                }
            }
        };
        self.take(&mut out, chain, listener.bind, wire);
        if out.outcome == Outcome::Broken && chain.origin.rule.is_none() {
            self.by_port_of(&mut out, chain, "", port);
        }
        out.because.insert(0, Step::new("listener", Mark::Ok, place("")));
        out
    }

    /// The upstream that took the connection, and by what.
    fn take(&self, out: &mut Expected, chain: &Chain, bind: Bind, wire: &Wire<'_>) {
        if out.entry.is_some() {
            return;
        }
        let Some(id) = chain.origin.upstream else { return };
        if matches!(chain.action, Action::Routes) {
            return;
        }
        let by = if !chain.sni.is_empty() && !wire.sni.is_empty() {
            Match::Sni
        } else if !chain.cidrs.is_empty() {
            Match::Cidr
        } else if matches!(bind, Bind::Ip(_)) {
            Match::Address
        } else {
            Match::AnyAddress
        };
        out.entry = Some(self.entry(id, by, wire.to.port()));
    }

    fn entry(&self, id: UpstreamId, by: Match, port: u16) -> Entry {
        let upstream = self.mesh.index.registry.get(id);
        let field = match by {
            Match::Sni | Match::Host => upstream.host_field(),
            Match::Address | Match::Cidr => self.proxy.address_field(upstream),
            Match::AnyAddress => upstream.port(port).map_or(ArcStr::new(), Port::field),
        };
        Entry {
            object: upstream.object.clone(),
            field,
            host: upstream.host.clone(),
            by,
            owner: match (upstream.kubernetes, upstream.external) {
                (true, _) => Owner::Service,
                (false, true) => Owner::External,
                (false, false) => Owner::Internal,
            },
            original_destination: upstream.resolution == crate::mesh::object::Resolution::Passthrough,
        }
    }

    /// Routes of a virtual host, in order.
    pub(crate) fn http(&self, host: &VirtualHost, wire: &Wire<'_>) -> Expected {
        let path = wire.path.unwrap_or("/");
        let mut possible: Vec<&HttpRoute> = Vec::new();
        let mut ended = false;
        for route in host.routes.iter().filter(|r| r.path.holds(path)) {
            possible.push(route);
            if !route.conditions {
                ended = true;
                break;
            }
        }
        let open = !ended
            || possible.len() > 1
            || (wire.path.is_none()
                && host.routes.iter().any(|r| !matches!(r.path, crate::mesh::route::PathMatch::Any)));
        let Some(first) = possible.first() else {
            let mut out = not_found("no route of the virtual host matches the request");
            out.reason = Some(Reason::HttpNotMatched);
            if let Some(rule) = host.routes.iter().find_map(|r| r.rule)
                && let Some(step) = out.because.first_mut()
            {
                let (object, field) = self.mesh.rule_field(rule);
                *step = step.clone().by(object, format!("{field}.uri"));
            }
            if wire.path.is_none() {
                for other in host.routes.iter() {
                    self.alternative(&mut out, other, wire);
                }
                out.certainty = Certainty::NeedsL7;
            }
            self.by_host(&mut out, host, wire);
            return out;
        };
        let mut out = self.route(first, wire);
        for other in &possible[1..] {
            self.alternative(&mut out, other, wire);
        }
        if !ended {
            Self::start_alternatives(&mut out);
            out.alternatives.push("404".into());
            out.alternative_outcomes.push(Outcome::Broken);
        }
        if wire.path.is_none() {
            for other in host.routes.iter().filter(|r| !r.path.holds(path)) {
                self.alternative(&mut out, other, wire);
            }
        }
        if open && out.alternatives.len() > 1 {
            out.certainty = Certainty::NeedsL7;
        }
        self.by_host(&mut out, host, wire);
        out
    }

    fn by_host(&self, out: &mut Expected, host: &VirtualHost, wire: &Wire<'_>) {
        if let Some(id) = host.upstream {
            let literal = wire.authority().parse::<IpAddr>().is_ok();
            out.entry = Some(self.entry(id, if literal { Match::Address } else { Match::Host }, wire.to.port()));
        }
    }

    fn route(&self, route: &HttpRoute, wire: &Wire<'_>) -> Expected {
        let chooser = Chooser {
            rule: route.rule,
            authority: route.authority.as_deref(),
            http: true,
            missing: route.missing,
            place: 0,
        };
        let mut out = match &route.target {
            Target::Clusters(clusters) => return self.weighted(clusters, wire, chooser),
            Target::Answer(500) => {
                let mut out = broken(Reason::InvalidBackend, "the route answers 500: its backend cannot be used");
                out.response = Some(500);
                out
            }
            Target::Answer(code) | Target::Redirect(code) => answered(*code),
            Target::Nothing => broken(Reason::DestinationMissing, "the route has no action that Envoy knows"),
        };
        self.routed(&mut out, chooser.rule, None);
        out
    }

    fn alternative(&self, out: &mut Expected, route: &HttpRoute, wire: &Wire<'_>) {
        let other = self.route(route, wire);
        Self::start_alternatives(out);
        let name = other.cluster.clone().or_else(|| other.response.map(|r| r.to_string().into()));
        if let Some(name) = name.filter(|n| !out.alternatives.contains(n)) {
            out.alternatives.push(name);
        }
        out.alternatives.extend(other.alternatives);
        out.alternative_outcomes.push(other.outcome);
        out.alternative_outcomes.extend(other.alternative_outcomes);
    }

    pub(crate) fn start_alternatives(out: &mut Expected) {
        if out.alternatives.is_empty() {
            out.alternatives.extend(out.cluster.clone().or_else(|| out.response.map(|r| r.to_string().into())));
            out.alternative_outcomes.push(out.outcome);
        }
    }

    /// The first cluster decides; with weights the others are allowed as well.
    pub(crate) fn weighted(&self, clusters: &[Weighted], wire: &Wire<'_>, chooser: Chooser<'_>) -> Expected {
        let Some(first) = clusters.first() else {
            return broken(Reason::DestinationMissing, "the route has no destination");
        };
        let mut out = self.to_cluster(&first.cluster, wire, Chooser { place: first.place, ..chooser });
        self.routed(&mut out, chooser.rule, Some(first));
        for other in clusters.iter().skip(1) {
            let next = self.to_cluster(&other.cluster, wire, Chooser { place: other.place, ..chooser });
            Self::start_alternatives(&mut out);
            out.alternatives.extend(next.cluster);
            out.alternative_outcomes.push(next.outcome);
            if !out.reasons.contains(&Reason::Weighted) {
                out.reasons.push(Reason::Weighted);
            }
        }
        out
    }

    /// Names the rule that chose.
    fn routed(&self, out: &mut Expected, rule: Option<Picked>, chosen: Option<&Weighted>) {
        let Some(rule) = rule else { return };
        let (object, field) = self.mesh.rule_field(rule);
        let says = match chosen {
            Some(c) if c.weight > 0 => {
                says!["the rule leads to ", c.cluster.name(), " (weight ", c.weight, ")"]
            }
            Some(c) => says!["the rule leads to ", c.cluster.name()],
            None => "the rule applies".into(),
        };
        out.because.insert(0, Step::new("route", Mark::Ok, says).by(object.clone(), field.clone()));
        out.routed = Some((object, field));
    }

    /// outboundTrafficPolicy.
    fn policy(&self, wire: &Wire<'_>, in_http: bool) -> Expected {
        let scope = &self.proxy.scope;
        let (object, field) = self.mesh.policy_field(scope);
        let step = |says: &'static str| {
            let step = Step::new("policy", Mark::Decides, says);
            match &object {
                Some(object) => step.by(object.clone(), field.clone()),
                None => step,
            }
        };
        match scope.policy.mode {
            PolicyMode::RegistryOnly => {
                let mut out = Expected::new(Outcome::Blocked);
                if in_http {
                    out.response = Some(502);
                } else {
                    out.cluster = Some("BlackHoleCluster".into());
                }
                out.reasons.push(Reason::RegistryOnly);
                out.because.push(step("outboundTrafficPolicy REGISTRY_ONLY stops what is not registered"));
                out
            }
            PolicyMode::AllowAnyDynamicDns if in_http => self.dynamic(),
            PolicyMode::AllowAny | PolicyMode::AllowAnyDynamicDns => {
                if let Some((host, subset, port)) = &scope.policy.proxy {
                    let cluster = Cluster::new(port.unwrap_or(0), subset.clone(), host.clone());
                    let chooser = Chooser { rule: None, authority: None, http: in_http, missing: 503, place: 0 };
                    let mut out = self.to_cluster(&cluster, wire, chooser);
                    out.reasons.push(Reason::EgressProxy);
                    out.because.insert(0, step("outboundTrafficPolicy sends what is unknown to a proxy"));
                    return out;
                }
                let mut out = Expected::new(Outcome::Passthrough);
                out.cluster = Some("PassthroughCluster".into());
                out.next = Some(Next { kind: NextKind::Original, host: None, port: Some(wire.to.port()) });
                out.because.extend(self.mesh.misspelt_policy());
                out.because.push(step("outboundTrafficPolicy lets what is not registered pass"));
                out
            }
        }
    }

    fn dynamic(&self) -> Expected {
        let mut out = Expected::new(Outcome::Dynamic);
        out.cluster = Some("AllowAnyDynamicDNSCluster".into());
        let (object, field) = self.mesh.policy_field(&self.proxy.scope);
        let step = Step::new(
            "policy",
            Mark::Decides,
            "outboundTrafficPolicy sends unknown hosts to whatever their name resolves to",
        );
        out.because.push(match object {
            Some(object) => step.by(object, field),
            None => step,
        });
        out
    }

    fn to_cluster(&self, cluster: &Cluster, wire: &Wire<'_>, chooser: Chooser<'_>) -> Expected {
        let name = cluster.name().clone();
        let known = match cluster::find(&self.mesh.index, self.proxy, cluster) {
            Ok(known) => known,
            Err(missing) => return self.no_cluster(cluster, name, missing, chooser),
        };
        let mut out = self.reached(&known, wire, chooser);
        out.cluster = Some(name);
        out
    }

    fn no_cluster(&self, cluster: &Cluster, name: ArcStr, missing: Missing, chooser: Chooser<'_>) -> Expected {
        let host = crate::name::printable(&cluster.host);
        let denied =
            || chooser.rule.and_then(|r| self.mesh.destination(r, chooser.place)).is_some_and(|(_, r)| r.denied);
        let (reason, says) = match missing {
            _ if cluster.host.is_empty() && denied() => (
                Reason::ReferenceDenied,
                "the backend is of another namespace, where no ReferenceGrant permits the reference".to_owned(),
            ),
            _ if cluster.host.is_empty() => {
                (Reason::InvalidBackend, "the backend of the route cannot be used".to_owned())
            }
            Missing::Host => (Reason::DestinationMissing, format!("no entry or Service {host} is known to this proxy")),
            Missing::Port(id) if self.mesh.is_gateway_service(self.mesh.index.registry.get(id)) => {
                (Reason::GatewayPortMissing, format!("the gateway's Service {host} has no port {}", cluster.port))
            }
            Missing::Port(_) => (Reason::DestinationMissing, format!("{host} has no port {}", cluster.port)),
            Missing::Subset(_) => (
                Reason::SubsetMissing,
                format!("no DestinationRule that applies to {host} defines the subset {}", cluster.subset),
            ),
            Missing::Names(_) => (Reason::NoEndpoints, format!("{host} has no endpoint to resolve")),
        };
        let mut out = broken(reason, says);
        out.cluster = Some(name);
        out.response = chooser.http.then_some(chooser.missing);
        let place: Option<(ObjectRef, ArcStr)> = match (chooser.rule, missing) {
            (Some(rule), missing) => {
                let (object, field) = self.mesh.destination_field(rule, chooser.place);
                // a VirtualService says it in fields below; a backendRef is one line
                let leaf = match missing {
                    _ if !field.ends_with(".destination") => "",
                    Missing::Host => ".host",
                    Missing::Subset(_) => ".subset",
                    Missing::Port(_) | Missing::Names(_) => "",
                };
                Some((object, format!("{field}{leaf}").into()))
            }
            (None, Missing::Port(id) | Missing::Subset(id) | Missing::Names(id)) => {
                // another entry of this host stands for it in this proxy's clusters
                Some((self.mesh.index.registry.get(id).object.clone(), ".spec.ports".into()))
            }
            (None, Missing::Host) => None,
        };
        if let (Some((object, field)), Some(step)) = (place, out.because.first_mut()) {
            *step = step.clone().by(object, field);
        }
        let gap = match missing {
            Missing::Host => self.hidden(&cluster.host),
            Missing::Port(id) => self.reduced(id, cluster.port),
            Missing::Subset(_) | Missing::Names(_) => None,
        };
        if let Some(gap) = gap {
            gap.decide(&mut out);
        }
        out
    }

    fn reached(&self, known: &Known<'_>, wire: &Wire<'_>, chooser: Chooser<'_>) -> Expected {
        let upstream = known.upstream;
        let empty = matches!(&known.dial, Dial::Endpoints(endpoints) if endpoints.is_empty());
        if !upstream.kubernetes || upstream.external {
            if empty {
                let says = match upstream.resolution {
                    Resolution::Passthrough => {
                        format!("{} has resolution NONE: a gateway has no address to dial for it", upstream.host)
                    }
                    _ => format!("{} has no endpoint for this proxy", upstream.host),
                };
                let mut out = broken(Reason::NoEndpoints, says);
                let field = match (upstream.resolution, upstream.selector()) {
                    (Resolution::Passthrough, _) => ".spec.resolution",
                    (_, Some(_)) => ".spec.workloadSelector",
                    _ => ".spec.endpoints",
                };
                if let Some(step) = out.because.first_mut() {
                    *step = step.clone().by(upstream.object.clone(), field);
                }
                out.response = chooser.http.then_some(503);
                return out;
            }
            let mut out = Expected::new(if known.external { Outcome::Direct } else { Outcome::InMesh });
            out.next = Some(next(known, wire));
            out.because.extend(remark::originates(known, wire, chooser.authority));
            return out;
        }
        let pods = self.mesh.gateway_pods(upstream);
        if pods.is_empty() {
            if empty {
                let mut out = broken(Reason::NoEndpoints, format!("the Service {} has no endpoint", upstream.host));
                if let Some(step) = out.because.first_mut() {
                    *step = step.clone().by(upstream.object.clone(), ".spec.selector");
                }
                out.response = chooser.http.then_some(503);
                return out;
            }
            let mut out = Expected::new(Outcome::InMesh);
            out.next = Some(next(known, wire));
            return out;
        }
        let service = NamespacedName::new(upstream.namespace.clone(), upstream.object.name.name.clone());
        if empty {
            let mut out =
                broken(Reason::GatewayNoEndpoints, format!("the gateway's Service {service} has no endpoint"));
            if let Some(step) = out.because.first_mut() {
                *step = step.clone().by(upstream.object.clone(), ".spec.selector");
            }
            out.gateway = Some(service);
            out.response = chooser.http.then_some(503);
            return out;
        }
        let mut out = Expected::new(Outcome::ViaGateway);
        out.gateway = Some(service.clone());
        out.next = Some(next(known, wire));
        out.because.push(
            Step::new("gateway", Mark::Ok, says![&service, " is a gateway"])
                .by(upstream.object.clone(), ".spec.selector"),
        );
        if let Some((object, field)) = &known.rule {
            let says = match &known.wrap {
                Wrap::Nothing | Wrap::Automatic => "the way to the gateway is not wrapped in TLS".into(),
                Wrap::Tls(sni) => says!["the way to the gateway is wrapped in TLS, server name \"", sni, "\""],
                Wrap::IstioMutual(sni) => {
                    says!["the way to the gateway is wrapped in mTLS, server name \"", sni, "\""]
                }
            };
            out.because.push(Step::new("tls", Mark::Ok, says).by(object.clone(), field.clone()));
        }
        out.because.extend(self.unprotected(known, wire));
        if self.depth < HOPS {
            out.leg2 = self.second_leg(known, wire, chooser, pods).map(Box::new);
        }
        out
    }

    /// The same at the gateway's pod that has the first endpoint.
    fn second_leg(
        &self,
        known: &Known<'_>,
        wire: &Wire<'_>,
        chooser: Chooser<'_>,
        pods: &[PodIndex],
    ) -> Option<Expected> {
        let Dial::Endpoints(endpoints) = known.dial else { return None };
        let pod_of = |ip: &IpAddr| pods.iter().copied().find(|p| self.mesh.pod(*p).ips.first() == Some(ip));
        let (pod, ip, port, mtls) =
            endpoints.iter().find_map(|(ip, port, mtls)| pod_of(&ip).map(|p| (p, ip, port, mtls)))?;
        let mut next = wire.clone();
        next.to = SocketAddr::new(ip, port);
        if next.http && next.tls == Wrapped::Plain && next.host.is_none() {
            // a request without a name is one for the address that was dialled first
            next.host = Some(Cow::Owned(wire.to.ip().to_string()));
        }
        if let Some(authority) = chooser.authority {
            next.host = Some(Cow::Owned(authority.to_ascii_lowercase()));
        }
        match &known.wrap {
            Wrap::Tls(sni) => {
                next.tls = Wrapped::InTls;
                next.sni = Cow::Owned(sni.to_string());
            }
            Wrap::IstioMutual(sni) => {
                next.tls = Wrapped::InMeshTls;
                next.sni = Cow::Owned(sni.to_string());
            }
            Wrap::Automatic if mtls => {
                next.tls = Wrapped::InMeshTls;
                next.sni = Cow::Owned(cluster::own_name(known.cluster).to_string());
            }
            Wrap::Nothing | Wrap::Automatic => {}
        }
        let proxy = self.mesh.proxy(pod)?;
        let from = Some(self.pod);
        let there = Walk { mesh: self.mesh, proxy, pod, from, depth: self.depth + 1 };
        let mut out = there.at_gateway(&next);
        there.blame(&mut out, chooser.rule);
        self.mesh.taint(&mut out, proxy, next.to.port());
        Some(out)
    }
}

fn next(known: &Known<'_>, wire: &Wire<'_>) -> Next {
    let host = Some(known.upstream.host.clone());
    match &known.dial {
        Dial::Names(names) => {
            let (host, port) = match names.as_slice() {
                [(host, port)] => (Some(host.clone()), Some(*port)),
                _ => (host, names.first().map(|(_, p)| *p)),
            };
            Next { kind: NextKind::Dns, host, port }
        }
        Dial::Endpoints(list) => Next {
            kind: if known.upstream.kubernetes { NextKind::Service } else { NextKind::Static },
            host,
            port: list.iter().next().map(|(_, p, _)| p),
        },
        Dial::Original(port) => Next { kind: NextKind::Original, host, port: Some(port.unwrap_or(wire.to.port())) },
        Dial::Dynamic => {
            let name = if wire.sni.is_empty() { wire.host.as_deref() } else { Some(&*wire.sni) };
            Next { kind: NextKind::Dns, host: name.map(ArcStr::from), port: Some(wire.to.port()) }
        }
    }
}

pub(crate) fn broken(reason: Reason, says: impl Into<Says>) -> Expected {
    let mut out = Expected::new(Outcome::Broken);
    out.reason = Some(reason);
    let claim = match reason.group() {
        "gateway" => "gateway",
        "registration" => "listener",
        _ => "route",
    };
    out.because.push(Step::new(claim, Mark::Decides, says));
    out
}

pub(crate) fn not_found(says: impl Into<Says>) -> Expected {
    let mut out = broken(Reason::GatewayNoRoute, says);
    out.response = Some(404);
    out
}

pub(crate) fn answered(code: u16) -> Expected {
    let mut out = Expected::new(Outcome::Answered);
    out.response = Some(code);
    out.because.push(Step::new("route", Mark::Decides, format!("the proxy answers {code} itself")));
    out
}
