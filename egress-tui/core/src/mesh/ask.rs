//! [`Mesh::expect`]: one call, from the rules of interception to the finished answer.

use std::borrow::Cow;

use arcstr::ArcStr;
use smallvec::SmallVec;

use crate::id::{NamespacedName, ObjectRef};
use crate::mesh::chain::{Block, Picked};
use crate::mesh::decide::{Walk, Wire, Wrapped};
use crate::mesh::gateway::{GatewayPod, MergedGateway};
use crate::mesh::index::Index;
use crate::mesh::listener::VIRTUAL_OUTBOUND;
use crate::mesh::miss::Near;
use crate::mesh::object::policy::{EnvoyPart, EnvoyPatch};
use crate::mesh::object::virtual_service::RuleAt;
use crate::mesh::object::{HttpAction, HttpRule, L4Rule, Route};
use crate::mesh::proxy::{Proxy, Role};
use crate::mesh::register::Shown;
use crate::mesh::registry::Upstream;
use crate::mesh::route::without_port;
use crate::mesh::scope::Scope;
use crate::mesh::{Bytes, Call, CallLeg, Certainty, Expected, Mesh, Miss, Outcome, PodIndex, ProxyKind, Registration};
use crate::verdict::{Mark, Reason, Step};

impl Mesh {
    /// What Istio's configuration says must happen to this connection.
    pub fn expect(&self, call: &Call<'_>) -> Expected {
        let mut out = self.expected(call);
        self.index.origins.tell(&mut out);
        out
    }

    fn expected(&self, call: &Call<'_>) -> Expected {
        if call.leg == CallLeg::Gateway {
            return self.arriving(call);
        }
        if !call.captured {
            if call.to.ip().is_loopback() {
                let mut out = Expected::new(Outcome::NotApplicable);
                out.because.push(Step::new("captured", Mark::Decides, "loopback stays inside the pod"));
                return out;
            }
            if self.answers_dns(call) {
                let mut out = Expected::new(Outcome::NotApplicable);
                out.because.push(Step::new("captured", Mark::Decides, "the pod's proxy answers its DNS queries"));
                return out;
            }
            if let Some(uncaptured) = self.uncaptured(call) {
                let mut out = Expected::new(Outcome::NotCaptured);
                let then = self.captured(call);
                out.registration = then.registration;
                out.reason = Some(uncaptured.reason);
                let mut step = Step::new("captured", Mark::No, uncaptured.says.clone());
                step.object.clone_from(&uncaptured.object);
                step.field.clone_from(&uncaptured.field);
                out.because.push(step);
                out.uncaptured = Some(uncaptured);
                out.then = Some(Box::new(then));
                return out;
            }
        }
        let mut out = self.captured(call);
        let step = Step::new(
            "captured",
            Mark::Ok,
            if call.captured { "the proxy accepted it" } else { "no rule of interception leaves it out" },
        );
        out.because.insert(0, step);
        out
    }

    /// What a captured connection gets.
    fn captured(&self, call: &Call<'_>) -> Expected {
        if self.pod(call.pod).proxy == ProxyKind::Ambient || self.is_meant_for_ztunnel(call.pod) {
            return self.by_ztunnel(call);
        }
        let Some(proxy) = self.proxy(call.pod) else {
            return Expected::unknown("this kind of proxy is not modelled");
        };
        let names = Names::of(call);
        let shown = names.shown(&self.index);
        let walk = Walk { mesh: self, proxy, pod: call.pod, from: None, depth: 0 };
        let mut out = Self::by_bytes(call, &names, |wire| walk.outbound(wire));
        self.finish(&mut out, call, proxy, &shown, call.to.port());
        out
    }

    /// A connection that arrives at a gateway.
    fn arriving(&self, call: &Call<'_>) -> Expected {
        if self.pod(call.pod).proxy != ProxyKind::Gateway {
            return Expected::unknown("the pod runs no gateway");
        }
        let Some(proxy) = self.proxy(call.pod) else { return Expected::unknown("the pod runs no gateway") };
        let walk = Walk { mesh: self, proxy, pod: call.pod, from: None, depth: 0 };
        let names = Names::of(call);
        let mut out = Self::by_bytes(call, &names, |wire| walk.at_gateway(wire));
        // what arrives without a name is for the host that the route leads to, at the port of that route: it comes to a port of the
        // gateway
        let cluster = out.cluster.clone();
        let mut routed = cluster.as_deref().into_iter().flat_map(|cluster| cluster.split('|').skip(1));
        let port = routed.next().and_then(|p| p.parse().ok()).unwrap_or(call.to.port());
        let mut shown = names.shown(&self.index);
        if shown.is_empty() {
            shown.extend(routed.nth(1).map(|host| Shown::new(&self.index, without_port(host))));
        }
        self.finish(&mut out, call, proxy, &shown, port);
        out
    }

    /// Asks with the bytes that are known, or with all that are possible.
    fn by_bytes(call: &Call<'_>, names: &Names<'_>, ask: impl Fn(&Wire<'_>) -> Expected) -> Expected {
        fn wire<'a>(
            call: &Call<'a>,
            tls: Wrapped,
            http: bool,
            sni: Option<&'a str>,
            host: Option<&'a str>,
        ) -> Wire<'a> {
            let sni = Cow::Borrowed(sni.unwrap_or_default());
            Wire { to: call.to, tls, http, sni, host: host.map(Cow::Borrowed), path: call.path }
        }
        let Names { sni, host, .. } = names;
        match call.bytes {
            Bytes::Tls => {
                let https = call.leg == CallLeg::Gateway && call.host.is_some();
                ask(&wire(call, Wrapped::InTls, https, sni.as_deref(), host.as_deref().filter(|_| https)))
            }
            Bytes::Http | Bytes::Http2 => ask(&wire(call, Wrapped::Plain, true, None, host.as_deref())),
            Bytes::Opaque => ask(&wire(call, Wrapped::Plain, false, None, None)),
            Bytes::Unknown => {
                let name = names.iter().next();
                let tls = ask(&wire(call, Wrapped::InTls, false, name, None));
                let http = ask(&wire(call, Wrapped::Plain, true, None, name));
                let raw = ask(&wire(call, Wrapped::Plain, false, None, None));
                undecided(call, name.is_some(), tls, http, raw)
            }
        }
    }

    /// Registration, near misses, EnvoyFilters, and the reason where nothing has named one yet.
    fn finish(&self, out: &mut Expected, call: &Call<'_>, proxy: &Proxy, names: &[Shown<'_>], port: u16) {
        let registered = self.registration(proxy, names, call.to.ip(), port);
        out.registration = registered.registration;
        let near = Near { proxy, call, names, registered: &registered.here };
        let mut misses = registered.misses;
        let unrouted = matches!(out.outcome, Outcome::Passthrough | Outcome::Blocked | Outcome::Dynamic);
        if unrouted {
            if registered.registration == Registration::Visible {
                misses.extend(self.unrouted(&near));
            }
            if misses.first().is_some_and(|m| m.reason == Reason::SidecarScope) {
                out.registration = Registration::NotVisible;
            }
            let reason = match registered.registration {
                Registration::Visible => misses.first().map_or(Reason::ProtocolMismatch, |m| m.reason),
                Registration::OtherPort => Reason::PortNotRegistered,
                Registration::NotVisible => misses.first().map_or(Reason::NotExported, |m| m.reason),
                Registration::Unregistered => Reason::Unregistered,
            };
            out.reason = out.reason.or(Some(reason));
        }
        out.because
            .insert(out.because.len().saturating_sub(1), registered_step(registered.registration, misses.first()));
        if call.leg == CallLeg::Outbound && !matches!(out.outcome, Outcome::ViaGateway | Outcome::Answered) {
            misses.extend(self.near_misses(&near, out));
            misses.extend(self.sidecar_misses_waypoint(out));
        }
        let place = out.because.len().saturating_sub(1);
        for miss in
            misses.iter().rev().filter(|m| m.gateway.is_some() || registered.registration == Registration::Visible)
        {
            let claim = if miss.gateway.is_some() { "route" } else { "registered" };
            let step = Step::new(claim, Mark::Miss, miss.says.clone()).by(miss.object.clone(), miss.field.clone());
            out.because.insert(place, step);
        }
        if out.outcome == Outcome::Direct && call.leg == CallLeg::Outbound && out.routed.is_none() {
            let idle = out.entry.as_ref().filter(|_| misses.iter().all(|m| m.gateway.is_none()));
            if let Some(step) = idle.and_then(|e| self.idle_gateway(&e.host)) {
                out.because.insert(place, step);
            }
        }
        out.misses = misses;
        mark_loop(out);
        self.taint(out, proxy, call.to.port());
        if let Some(leg2) = out.leg2.as_deref() {
            // what the second leg lacks, the whole answer lacks
            if leg2.certainty == Certainty::EnvoyFilterTainted || out.certainty == Certainty::Exact {
                out.certainty = leg2.certainty;
            }
        }
    }

    /// Names the EnvoyFilter that may have changed what a proxy does with a connection to this port of its listeners. What no
    /// listener takes goes through the one of port 15001.
    pub(crate) fn taint(&self, out: &mut Expected, proxy: &Proxy, port: u16) {
        if proxy.filters.is_empty() {
            return;
        }
        let clusters: Vec<&ArcStr> = out.cluster.iter().chain(&out.alternatives).collect();
        let touches = |patch: &EnvoyPatch| match &patch.part {
            EnvoyPart::All => true,
            EnvoyPart::Port(p) => *p == port || (*p == VIRTUAL_OUTBOUND && proxy.key.role == Role::Sidecar),
            EnvoyPart::Cluster { name, port, subset, host } => clusters.iter().any(|cluster| {
                let mut parts = cluster.split('|').skip(1);
                let (number, of, dialled) = (parts.next(), parts.next(), parts.next());
                (name.is_empty() || name == *cluster)
                    && port.is_none_or(|p| number.and_then(|n| n.parse().ok()) == Some(p))
                    && (subset.is_empty() || of == Some(subset.as_str()))
                    && (host.is_empty() || dialled == Some(host.as_str()))
            }),
        };
        for (n, patches) in &proxy.filters {
            let filter = &self.index.envoy_filters[*n as usize];
            let Some(patch) = patches.iter().map(|p| &filter.patches[*p as usize]).find(|p| touches(p)) else {
                continue;
            };
            let of = match proxy.key.role {
                Role::Sidecar => "the sidecar's",
                Role::Gateway => "the gateway's",
            };
            let says = format!("an EnvoyFilter may have changed {of} configuration");
            let step = Step::new("listener", Mark::Unknown, says).by(filter.meta.object.clone(), patch.path.clone());
            // the steps after it say what the objects say; the last one of them decides
            out.because.insert(0, step);
            out.reasons.push(Reason::EnvoyFilter);
            out.certainty = Certainty::EnvoyFilterTainted;
            return;
        }
    }

    /// The Gateways of a pod, merged.
    pub(crate) fn merged_gateway<'p>(&self, proxy: &'p Proxy, pod: PodIndex) -> Option<&'p MergedGateway> {
        proxy
            .gateway
            .get_or_init(|| MergedGateway::new(&self.index, proxy, &self.roster.records[pod.0 as usize].gateway))
            .as_ref()
    }

    /// What a gateway's pod is to its listeners.
    pub(crate) fn gateway_of(&self, pod: PodIndex) -> &GatewayPod {
        &self.roster.records[pod.0 as usize].gateway
    }

    /// Pods behind a Service that run a gateway, in order of name.
    pub(crate) fn gateway_pods(&self, upstream: &Upstream) -> &[PodIndex] {
        self.roster.fronts.get(&upstream.object).map_or(&[], |pods| pods)
    }

    /// The upstream is a Service that fronts gateways.
    pub(crate) fn is_gateway_service(&self, upstream: &Upstream) -> bool {
        upstream.kubernetes && !self.gateway_pods(upstream).is_empty()
    }

    /// The Service that fronts a gateway's pod: the first by name.
    pub fn gateway_of_pod(&self, pod: PodIndex) -> Option<NamespacedName> {
        if !matches!(self.pod(pod).proxy, ProxyKind::Gateway | ProxyKind::Waypoint) {
            return None;
        }
        let target = self.roster.records[pod.0 as usize].gateway.targets.first()?;
        Some(self.index.services[target.service as usize].meta.object.name.clone())
    }

    /// Object and path of a rule, or of one of its matches.
    pub(crate) fn rule_field(&self, Picked { id, block, rule, place: m }: Picked) -> (ObjectRef, ArcStr) {
        let vs = self.index.virtual_services.get(id);
        let l4 = |list: &[L4Rule]| {
            list.get(rule as usize).map(|r| (r.at.clone(), r.matches.get(m as usize).map(|m| m.path.clone())))
        };
        let found = match block {
            Block::Http => {
                vs.http.get(rule as usize).map(|r| (r.at.clone(), r.matches.get(m as usize).map(|m| m.path.clone())))
            }
            Block::Tls => l4(&vs.tls),
            Block::Tcp => l4(&vs.tcp),
        };
        let Some((at, path)) = found else { return (vs.meta.object.clone(), ".spec".into()) };
        (vs.object_of(&at), path.unwrap_or(at.path))
    }

    /// One destination of a rule, and where the rule stands.
    pub(crate) fn destination(&self, picked: Picked, place: u16) -> Option<(&RuleAt, &Route)> {
        let vs = self.index.virtual_services.get(picked.id);
        let rule = picked.rule as usize;
        let (at, routes): (&RuleAt, &[Route]) = match picked.block {
            Block::Http => match vs.http.get(rule)? {
                HttpRule { at, action: HttpAction::Route(routes), .. } => (at, routes),
                other => (&other.at, &[]),
            },
            Block::Tls => vs.tls.get(rule).map(|r| (&r.at, &*r.routes))?,
            Block::Tcp => vs.tcp.get(rule).map(|r| (&r.at, &*r.routes))?,
        };
        Some((at, routes.get(place as usize)?))
    }

    /// Object and path of one destination of a rule.
    pub(crate) fn destination_field(&self, picked: Picked, place: u16) -> (ObjectRef, ArcStr) {
        match self.destination(picked, place) {
            Some((at, route)) => (self.index.virtual_services.get(picked.id).object_of(at), route.path.clone()),
            None => self.rule_field(picked),
        }
    }

    /// Object and field of the outbound policy that applies.
    pub(crate) fn policy_field(&self, scope: &Scope) -> (Option<ObjectRef>, ArcStr) {
        match scope.sidecar.filter(|_| scope.policy_of_sidecar) {
            Some(n) => {
                (Some(self.index.sidecars[n as usize].meta.object.clone()), ".spec.outboundTrafficPolicy".into())
            }
            None => (self.index.config.object.clone(), self.index.policy_field.clone()),
        }
    }
}

/// A gateway that sends it to a cluster where it came from sends it round for ever: Istio has no protection against that.
fn mark_loop(first: &mut Expected) {
    let legs = std::iter::successors(Some(&*first), |leg| leg.leg2.as_deref());
    if legs.last().is_none_or(|last| last.outcome != Outcome::ViaGateway) {
        return;
    }
    let mut passed: Vec<(Option<NamespacedName>, Option<ArcStr>)> = Vec::new();
    let mut leg = Some(first);
    while let Some(here) = leg.filter(|l| l.outcome == Outcome::ViaGateway) {
        let hop = (here.gateway.clone(), here.cluster.clone());
        if passed.contains(&hop) {
            let gateway = here.gateway.as_ref().map_or_else(String::new, ToString::to_string);
            here.reason = Some(Reason::GatewayLoop);
            let mut step =
                Step::new("gateway", Mark::Decides, format!("the route leads back to {gateway}, where it came from"));
            if let Some((object, field)) = &here.routed {
                step = step.by(object.clone(), field.clone());
            }
            here.because.push(step);
            return;
        }
        passed.push(hop);
        leg = here.leg2.as_deref_mut();
    }
}

/// The bytes were not seen: what all possible ones agree in is exact, else the likeliest answer with the others as alternatives.
fn undecided(call: &Call<'_>, named: bool, tls: Expected, http: Expected, raw: Expected) -> Expected {
    let same = |a: &Expected, b: &Expected| a.outcome == b.outcome && a.cluster == b.cluster && a.gateway == b.gateway;
    if same(&tls, &http) && same(&tls, &raw) {
        return tls;
    }
    let (mut first, others) = match call.to.port() {
        80 | 8080 => (http, [tls, raw]),
        443 | 8443 => (tls, [http, raw]),
        _ => (raw, [tls, http]),
    };
    first.certainty = if named || call.to.port() == 443 { Certainty::NeedsSni } else { Certainty::NeedsHost };
    let mut clusters: Vec<ArcStr> = first.cluster.iter().cloned().collect();
    let mut outcomes = vec![first.outcome];
    for other in others {
        clusters.extend(other.cluster.filter(|c| !clusters.contains(c)));
        if !outcomes.contains(&other.outcome) {
            outcomes.push(other.outcome);
        }
    }
    first.alternatives = clusters;
    first.alternative_outcomes = outcomes;
    first
}

/// Names in the bytes, else that of DNS, in lower case; none is empty.
struct Names<'a> {
    sni: Option<Cow<'a, str>>,
    host: Option<Cow<'a, str>>,
    dns: Option<Cow<'a, str>>,
}

impl<'a> Names<'a> {
    fn of(call: &Call<'a>) -> Self {
        let lower = |name: Option<&'a str>| name.filter(|n| !n.is_empty()).map(lower_case);
        let (sni, host) = (lower(call.sni), lower(call.host));
        let dns = lower(call.dns).filter(|_| sni.is_none() && host.is_none());
        Self { sni, host, dns }
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        [&self.sni, &self.host, &self.dns].into_iter().flatten().map(AsRef::as_ref)
    }

    /// Looked up.
    fn shown(&self, index: &Index) -> SmallVec<[Shown<'_>; 2]> {
        let mut out = SmallVec::new();
        for name in self.iter() {
            out.push(Shown::new(index, without_port(name)));
        }
        out
    }
}

/// Names come in lower case as a rule: then nothing is copied.
fn lower_case(name: &str) -> Cow<'_, str> {
    // to its end, whatever comes: so several bytes are looked at together
    if name.bytes().filter(u8::is_ascii_uppercase).count() > 0 {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

fn registered_step(registration: Registration, miss: Option<&Miss>) -> Step {
    match (registration, miss) {
        (Registration::Visible, _) => {
            Step::new("registered", Mark::Ok, "host and port are registered and visible here")
        }
        (_, Some(miss)) => {
            Step::new("registered", Mark::No, miss.says.clone()).by(miss.object.clone(), miss.field.clone())
        }
        (_, None) => Step::new("registered", Mark::No, "no ServiceEntry or Service has this host or address"),
    }
}
