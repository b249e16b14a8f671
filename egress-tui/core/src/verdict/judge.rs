//! The decision: what the configuration says ([`Expected`]) against what was seen ([`Seen`]), in the order of design §4.1.
//!
//! One fact, one verdict: the first line that fits decides, what fits further down is kept as a contributing reason.

use std::net::{IpAddr, SocketAddr};

use crate::id::{NamespacedName, ObjectRef};
use crate::input::Transport;
use crate::mesh::{
    Call, CallLeg, Certainty, Expected, Match, Mesh, Miss, Outcome, Owner, ProxyKind, Registration, Uncaptured,
};
use crate::name::{NameEvidence, NameSource};
use crate::verdict::compare::{Compared, compare};
use crate::verdict::says::says;
use crate::verdict::{Class, Judgement, Mark, Reason, Says, Step, Verdict};

/// What the proxy did with a connection that it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upstream<'a> {
    /// It opened no socket for it.
    None,
    /// It connected (or tried to connect) to this address.
    To(SocketAddr),
    /// It reached a pod of this gateway or waypoint.
    Gateway(&'a NamespacedName),
    /// It has an open connection to this gateway that it may have reused (HTTP).
    PooledGateway(&'a NamespacedName),
    /// It has an open connection to somewhere that it may have reused (HTTP).
    Pooled(SocketAddr),
}

/// What was seen of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen<'a> {
    /// Nothing was: judge as if everything did what the configuration says (`explain`).
    AsConfigured,
    /// The proxy accepted it.
    Captured(Upstream<'a>),
    /// The proxy did not, and the socket left the pod by itself.
    Uncaptured,
}

/// One connection of an application, with all that is known of it.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The objects.
    pub mesh: &'a Mesh,
    /// The connection.
    pub call: &'a Call<'a>,
    /// What the configuration says. For [`Seen::Captured`]: of a captured one.
    pub expected: &'a Expected,
    /// Its name.
    pub name: &'a NameEvidence,
    /// Addresses that DNS answers gave for the host of the entry that took it; empty if none was seen.
    pub entry_addresses: &'a [IpAddr],
    /// What was seen.
    pub seen: Seen<'a>,
}

/// For one call, as if seen to do what the configuration says (design §7.1).
pub fn as_configured(mesh: &Mesh, call: &Call<'_>, expected: &Expected) -> Judgement {
    let name = named_by(call);
    let pod = mesh.pod(call.pod);
    let own = |c: &crate::mesh::Container| {
        Some(c.name.as_str()) == call.container && c.role == crate::mesh::ContainerRole::Proxy
    };
    if call.leg == CallLeg::Outbound
        && pod.containers.iter().any(own)
        && mesh.is_control_plane(call.to.ip(), call.to.port())
    {
        let says = "the proxy's connection to its control plane".to_owned();
        return plain(Verdict::ProxyInfra, Reason::ProxyControl, Some((pod.object.clone(), ".spec.containers")), says);
    }
    if call.leg == CallLeg::Outbound && matches!(pod.proxy, ProxyKind::Gateway | ProxyKind::Waypoint) {
        // what a gateway's pod dials has to fit one of its routes, whoever in it dials
        return gateway_socket(mesh, call.pod, call.to, &name, pod.containers.iter().any(own));
    }
    judge(&Question { mesh, call, expected, name: &name, entry_addresses: &[], seen: Seen::AsConfigured })
}

/// The name that the call itself carries.
fn named_by(call: &Call<'_>) -> NameEvidence {
    let (host, source) = match (call.sni, call.host, call.dns) {
        (Some(sni), ..) => (Some(sni), NameSource::Sni),
        // an address as Host names nothing
        (None, Some(host), dns) if host.parse::<IpAddr>().is_ok() => {
            (dns, if dns.is_some() { NameSource::Dns } else { NameSource::None })
        }
        (None, Some(host), _) => (Some(host), NameSource::Http),
        (None, None, Some(dns)) => (Some(dns), NameSource::Dns),
        (None, None, None) => (None, NameSource::None),
    };
    NameEvidence { host: host.map(Into::into), source, age_nanos: None, candidates: Vec::new() }
}

/// The verdict on a connection of an application.
pub fn judge(question: &Question<'_>) -> Judgement {
    let uncaptured = match question.seen {
        Seen::AsConfigured => question.expected.outcome == Outcome::NotCaptured,
        Seen::Captured(_) => false,
        Seen::Uncaptured => true,
    };
    match question.call.leg {
        CallLeg::Gateway => arriving(question),
        CallLeg::Outbound if uncaptured => escaped(question),
        CallLeg::Outbound => taken(question),
    }
}

/// A connection that arrives at a gateway: what the gateway does with it.
fn arriving(q: &Question<'_>) -> Judgement {
    let e = q.expected;
    let draft = Draft::of(e);
    let source = e.routed.clone().or_else(|| e.entry.as_ref().map(|x| (x.object.clone(), x.field.clone())));
    let pod = &q.mesh.pod(q.call.pod).object;
    if e.outcome != Outcome::Unknown && may_stop(e) {
        return conditional_at_gateway(e, draft);
    }
    match e.outcome {
        Outcome::Broken => broken(e, draft),
        Outcome::Blocked => {
            let (object, says) = draft.last_source("policy", "a policy of the gateway stops it");
            draft.decide(Verdict::Blocked, e.reason.unwrap_or(Reason::AuthorizationPolicy), object, says)
        }
        Outcome::InMesh => {
            draft.decide(Verdict::InCluster, Reason::InCluster, source, format!("{pod} sends it on inside the cluster"))
        }
        Outcome::Direct
        | Outcome::Dynamic
        | Outcome::Answered
        | Outcome::Passthrough
        | Outcome::ViaGateway
        | Outcome::ViaWaypoint => {
            draft.decide(Verdict::GatewayLeg, Reason::GatewayRoute, source, format!("a route of {pod} takes it on"))
        }
        Outcome::NotCaptured | Outcome::NotApplicable | Outcome::Unknown => {
            let claim = if e.reason == Some(Reason::AuthorizationPolicy) { "policy" } else { "model" };
            let (object, says) = draft.last_source(claim, "this path is not modelled");
            draft.decide(Verdict::Unknown, e.reason.unwrap_or(Reason::EvidenceMissing), object, says)
        }
    }
}

/// Lines 2 and 4: it left without being captured.
fn escaped(q: &Question<'_>) -> Judgement {
    let pod = q.mesh.pod(q.call.pod);
    let captured = q.expected.then.as_deref().unwrap_or(q.expected);
    let mut draft = Draft::of(captured);
    if let Some(judgement) = in_cluster(q, &draft) {
        return judgement;
    }
    let cause = q.expected.uncaptured.clone().unwrap_or_else(|| Uncaptured {
        reason: Reason::RedirectMissing,
        object: Some(pod.object.clone()),
        field: Some(".metadata.annotations[\"sidecar.istio.io/status\"]".into()),
        says: says![&pod.object, " promises that its proxy takes this connection, but the proxy never accepted it"],
    });
    let mesh_wide = matches!(pod.proxy, ProxyKind::None | ProxyKind::Proxyless) && !pod.enrolled;
    let host_by_design = pod.proxy == ProxyKind::Host && !pod.enrolled;
    if mesh_wide || host_by_design {
        let says = format!("neither the namespace nor the labels of {} ask for a proxy", pod.object);
        draft.chain.push(Step::new("captured", Mark::No, cause.says));
        let source = cause.object.zip(cause.field);
        return draft.decide(Verdict::OutsideMesh, Reason::OutsideMesh, source, says);
    }
    let source = cause.object.clone().zip(cause.field.clone());
    if captured.outcome == Outcome::ViaGateway && captured.routed.is_none() && q.call.transport == Transport::Tcp {
        draft.also(Some(cause.reason));
        let gateway = captured.gateway.as_ref().map_or_else(String::new, ToString::to_string);
        let says = format!("the application dialled gateway {gateway} itself; {}", cause.says);
        return draft.decide(Verdict::GatewayDirect, Reason::GatewayAddressed, source, says);
    }
    if q.call.transport == Transport::Udp {
        let verdict = if captured.outcome == Outcome::Blocked { Verdict::Bypass } else { Verdict::Udp };
        // No field of the pod lets UDP pass: what stands against it is what the policy says of a TCP connection.
        let (policy, _) = draft.last_source("policy", "");
        return draft.decide(verdict, Reason::Udp, source.or(policy), cause.says);
    }
    let verdict = match captured.outcome {
        Outcome::ViaGateway | Outcome::ViaWaypoint | Outcome::Blocked => Verdict::Bypass,
        _ if captured.registration == Registration::Visible => Verdict::NotCaptured,
        _ => Verdict::Unregistered,
    };
    match captured.outcome {
        Outcome::ViaGateway => draft.also(Some(Reason::RoutedViaGateway)),
        Outcome::ViaWaypoint => draft.also(Some(Reason::RoutedViaWaypoint)),
        Outcome::Blocked => draft.also(Some(Reason::RegistryOnly)),
        _ => {}
    }
    if verdict == Verdict::Unregistered {
        // A captured one would have gone there too: the registration decides, the missing capture explains the path.
        draft.also(Some(cause.reason));
        let host = q.name.host.as_ref().map_or_else(|| q.call.to.ip().to_string(), ToString::to_string);
        let says = format!("{host} port {} is not registered for this workload; {}", q.call.to.port(), cause.says);
        let (policy, _) = draft.last_source("policy", "");
        return draft.decide(verdict, registration_reason(captured), policy.or(source), says);
    }
    draft.decide(verdict, cause.reason, source, cause.says)
}

/// Line 2 for any connection: the destination is in the cluster and no rule takes it elsewhere.
fn in_cluster(q: &Question<'_>, draft: &Draft) -> Option<Judgement> {
    let captured = q.expected.then.as_deref().unwrap_or(q.expected);
    let inside = q.mesh.in_cluster(q.call.to.ip(), q.call.to.port());
    let entry_takes_it = captured
        .entry
        .as_ref()
        .is_some_and(|e| e.owner != Owner::Service && matches!(e.by, Match::Address | Match::Cidr | Match::AnyAddress));
    let rule_takes_it = q.call.transport == Transport::Tcp && (captured.routed.is_some() || entry_takes_it);
    let gateway = captured.outcome == Outcome::ViaGateway;
    match inside {
        Some(_) if rule_takes_it || gateway => None,
        Some(inside) => {
            let (says, field) = (inside.says(q.call.to), inside.field());
            let source = inside.object.map(|o| (o, field.into()));
            Some(draft.clone().decide(Verdict::InCluster, Reason::InCluster, source, says))
        }
        None if captured.outcome == Outcome::NotApplicable => {
            let says = format!("{} is the proxy's own port or an address of this pod", q.call.to);
            Some(draft.clone().decide(Verdict::InCluster, Reason::InCluster, None, says))
        }
        None if captured.outcome == Outcome::InMesh && service_of(captured) => {
            let source = captured.entry.as_ref().map(|e| (e.object.clone(), e.field.clone()));
            let says = "the route leads to a Service of the cluster".to_owned();
            Some(draft.clone().decide(Verdict::InCluster, Reason::InCluster, source, says))
        }
        None => None,
    }
}

fn service_of(expected: &Expected) -> bool {
    expected.entry.as_ref().is_none_or(|e| e.owner == Owner::Service)
}

/// Lines 3 and 5 to 10: the proxy has it.
fn taken(q: &Question<'_>) -> Judgement {
    let e = q.expected;
    let mut draft = Draft::of(e);
    if let Some(judgement) = in_cluster(q, &draft) {
        return judgement;
    }
    if let Seen::Captured(upstream) = q.seen {
        match compare(q, upstream) {
            Compared::Agrees => {}
            Compared::Pooled => draft.also(Some(Reason::Pooled)),
            Compared::Unfinished(says) => {
                draft.chain.push(Step::new("seen", Mark::Unknown, says.clone()));
                if matches!(e.outcome, Outcome::ViaGateway | Outcome::ViaWaypoint | Outcome::Direct | Outcome::InMesh) {
                    return draft.decide(Verdict::Unknown, Reason::EvidenceMissing, None, says);
                }
            }
            Compared::Another(verdict, reason, says) => {
                draft.chain.push(Step::new("seen", Mark::No, says.clone()));
                let source = e.routed.clone().or_else(|| e.entry.as_ref().map(|x| (x.object.clone(), x.field.clone())));
                return draft.decide(verdict, reason, source, says);
            }
        }
    }
    if e.alternative_outcomes.len() > 1 && spread(e) {
        let says = "several outcomes are allowed, and nothing that was seen chooses between them".to_owned();
        let weighted = e.reasons.contains(&Reason::Weighted) && e.certainty == Certainty::Exact;
        let reason = if weighted { Reason::Weighted } else { Reason::EvidenceMissing };
        let source = e.routed.clone().or_else(|| draft.end("").0);
        return draft.decide(Verdict::Conditional, reason, source, says);
    }
    match e.outcome {
        Outcome::Blocked => {
            let reason = e.reason.unwrap_or_else(|| registration_reason(e));
            draft.also(Some(Reason::RegistryOnly));
            let (policy, says) = draft.last_source("policy", "outboundTrafficPolicy stopped it");
            // the reason is why it is not registered; the policy stands in the chain
            match e.misses.iter().find(|m| m.reason == reason) {
                Some(miss) => {
                    let source = Some((miss.object.clone(), miss.field.clone()));
                    draft.decide(Verdict::Blocked, reason, source, format!("{}; {says}", miss.says))
                }
                None => draft.decide(Verdict::Blocked, reason, policy, says),
            }
        }
        Outcome::Broken => broken(e, draft),
        Outcome::ViaGateway | Outcome::ViaWaypoint => through_gateway(q, draft),
        Outcome::Passthrough | Outcome::Dynamic => passed(q, draft),
        Outcome::Direct | Outcome::InMesh | Outcome::Answered => registered(q, draft),
        Outcome::Unknown | Outcome::NotCaptured | Outcome::NotApplicable => {
            let (source, says) = draft.last_source("model", "this path is not modelled");
            draft.decide(Verdict::Unknown, Reason::EvidenceMissing, source, says)
        }
    }
}

fn broken(e: &Expected, draft: Draft) -> Judgement {
    let reason = e.reason.unwrap_or(Reason::DestinationMissing);
    let (source, says) = draft.end("the configuration leads nowhere");
    draft.decide(Verdict::Broken, reason, source.or_else(|| e.routed.clone()), says)
}

/// Line 3, at a gateway.
fn stopped_at_gateway(leg: &Expected, draft: Draft, routed: Option<(ObjectRef, arcstr::ArcStr)>) -> Judgement {
    let (verdict, otherwise) = match leg.outcome {
        Outcome::Blocked => (Verdict::Blocked, Reason::AuthorizationPolicy),
        Outcome::Unknown => (Verdict::Unknown, Reason::EvidenceMissing),
        _ => (Verdict::Broken, Reason::GatewayNoRoute),
    };
    let (source, says) = match verdict {
        Verdict::Broken => draft.end("the gateway leads nowhere"),
        // what asks elsewhere is a policy, and anything else that is open is what this program does not model
        Verdict::Unknown if leg.reason != Some(Reason::AuthorizationPolicy) => {
            draft.last_source("model", "what happens at the gateway is not modelled")
        }
        _ => draft.last_source("policy", "a policy of the gateway stops it"),
    };
    draft.decide(verdict, leg.reason.unwrap_or(otherwise), source.or(routed), says)
}

/// Line 10, at a gateway: it stops what arrives, or does not, and nothing that was seen tells.
fn conditional_at_gateway(leg: &Expected, draft: Draft) -> Judgement {
    if leg.reasons.contains(&Reason::AuthorizationPolicy) {
        let (source, says) = draft.last_source("policy", "a policy of the gateway may stop it");
        return draft.decide(Verdict::Conditional, Reason::AuthorizationPolicy, source, says);
    }
    let says = "the gateway has several routes for it, and nothing that was seen chooses between them".to_owned();
    draft.decide(Verdict::Conditional, leg.reason.unwrap_or(Reason::EvidenceMissing), leg.routed.clone(), says)
}

/// Some of the allowed outcomes lead nowhere and some lead on.
fn may_stop(leg: &Expected) -> bool {
    let stops = |o: &Outcome| matches!(o, Outcome::Broken | Outcome::Blocked);
    leg.alternative_outcomes.iter().any(stops) && !leg.alternative_outcomes.iter().all(stops)
}

/// Lines 3 (the gateway leads nowhere), 6 and 7.
fn through_gateway(q: &Question<'_>, mut draft: Draft) -> Judgement {
    let e = q.expected;
    let waypoint = e.outcome == Outcome::ViaWaypoint;
    let legs: Vec<&Expected> = std::iter::successors(e.leg2.as_deref(), |leg| leg.leg2.as_deref()).collect();
    let ends = |l: &&Expected| {
        matches!(l.outcome, Outcome::Broken | Outcome::Blocked | Outcome::Unknown)
            || l.reason == Some(Reason::GatewayLoop)
    };
    if let Some(end) = legs.iter().position(ends) {
        legs[..=end].iter().for_each(|leg| draft.adopt(leg));
        return stopped_at_gateway(legs[end], draft, e.routed.clone());
    }
    if let Some(open) = legs.iter().position(|leg| may_stop(leg)) {
        legs[..=open].iter().for_each(|leg| draft.adopt(leg));
        return conditional_at_gateway(legs[open], draft);
    }
    if let Some(judgement) = captured_by_other(q, &draft) {
        return judgement;
    }
    let route = e.routed.clone();
    let gateway = e.gateway.as_ref().map_or_else(|| "the gateway".to_owned(), ToString::to_string);
    if let Some(leg2) = e.leg2.as_deref() {
        draft.adopt(leg2);
    }
    if let Some((object, field)) = route {
        let mut says = format!("{object} {field} leads to {gateway}");
        draft.remarks("tls").for_each(|more| says.extend(["; ", &more.text()]));
        let (verdict, reason) = if waypoint {
            (Verdict::ViaWaypoint, Reason::RoutedViaWaypoint)
        } else {
            (Verdict::ViaGateway, Reason::RoutedViaGateway)
        };
        return draft.decide(verdict, reason, Some((object, field)), says);
    }
    if waypoint {
        let source = e.entry.as_ref().map(|x| (x.object.clone(), x.field.clone()));
        let says = format!("the entry is bound to waypoint {gateway}");
        return draft.decide(Verdict::ViaWaypoint, Reason::RoutedViaWaypoint, source, says);
    }
    if e.reasons.contains(&Reason::EgressProxy) || e.reason == Some(Reason::EgressProxy) {
        let (source, says) = draft.last_source("policy", "outboundTrafficPolicy sends it to the gateway");
        return draft.decide(Verdict::ViaGateway, Reason::EgressProxy, source, says);
    }
    let source = e.entry.as_ref().map(|x| (x.object.clone(), x.field.clone()));
    let says = format!("the application dialled {gateway} itself; no VirtualService sent it there");
    draft.decide(Verdict::GatewayDirect, Reason::GatewayAddressed, source, says)
}

/// Line 8.
fn passed(q: &Question<'_>, mut draft: Draft) -> Judgement {
    let e = q.expected;
    let (verdict, reason) = match e.registration {
        Registration::NotVisible => (Verdict::NotVisible, hidden_by(e)),
        Registration::OtherPort => (Verdict::WrongPort, Reason::PortNotRegistered),
        Registration::Visible if e.reason == Some(Reason::SniIpMismatch) => {
            (Verdict::SniIpMismatch, Reason::SniIpMismatch)
        }
        Registration::Visible => (Verdict::WrongProtocol, protocol_reason(e)),
        Registration::Unregistered => (Verdict::Unregistered, Reason::Unregistered),
    };
    if q.name.host.is_none() {
        draft.also(Some(Reason::NameUnknown));
    }
    for miss in e.misses.iter().filter(|m| m.gateway.is_some()) {
        draft.also(Some(miss.reason));
    }
    if let Some(miss) = e.misses.iter().find(|m| m.reason == reason) {
        let (source, says) = ((miss.object.clone(), miss.field.clone()), miss.says.clone());
        return draft.decide(verdict, reason, Some(source), says);
    }
    let (source, mut says) = draft.last_source("policy", "outboundTrafficPolicy let it pass");
    if let Some(step) = draft.chain.iter().find(|s| s.claim == "policy" && s.mark == Mark::Miss) {
        let place = step.object.as_ref().zip(step.field.as_ref());
        says.extend(place.map(|(object, field)| format!(" ({field} of {} sets nothing)", object.name.name)));
    }
    let host = q.name.host.as_ref().map_or_else(|| q.call.to.ip().to_string(), ToString::to_string);
    let says = match verdict {
        Verdict::Unregistered => format!("no ServiceEntry or Service has {host}; {says}"),
        Verdict::WrongPort => format!("{host} is registered, port {} is not; {says}", q.call.to.port()),
        _ => says,
    };
    draft.decide(verdict, reason, source, says)
}

/// Lines 6, 8 (server name against address) and 9.
fn registered(q: &Question<'_>, mut draft: Draft) -> Judgement {
    let e = q.expected;
    if let Some(judgement) = captured_by_other(q, &draft) {
        return judgement;
    }
    if let Some(entry) = e.entry.as_ref().filter(|x| x.original_destination && matches!(x.by, Match::Sni)) {
        let ip = q.call.to.ip();
        if !q.entry_addresses.is_empty() && !q.entry_addresses.contains(&ip) {
            let says = format!(
                "the server name is {}'s, but {ip} is none of the addresses that DNS gave for it",
                entry.object
            );
            let source = Some((entry.object.clone(), ".spec.resolution".into()));
            return draft.decide(Verdict::SniIpMismatch, Reason::SniIpMismatch, source, says);
        }
    }
    if e.outcome != Outcome::Answered {
        if let Some(miss) = e.misses.iter().find(|m| m.gateway.is_some() && ESCAPES.contains(&m.reason)) {
            draft.also(Some(Reason::RegisteredDirect));
            return decide_by_miss(draft, Verdict::Bypass, miss);
        }
        if let Some(miss) = e.misses.iter().find(|m| {
            matches!(m.reason, Reason::WaypointSidecarClient | Reason::WaypointNotUsed | Reason::WaypointNotBound)
        }) {
            draft.also(Some(Reason::RegisteredDirect));
            return decide_by_miss(draft, Verdict::WaypointBypass, miss);
        }
    }
    for miss in e.misses.iter().filter(|m| m.gateway.is_some()) {
        draft.also(Some(miss.reason));
    }
    let source = e.routed.clone().or_else(|| e.entry.as_ref().map(|x| (x.object.clone(), x.field.clone())));
    let says = match &e.entry {
        Some(entry) => {
            let idle = draft.remarks("gateway").next().map_or_else(String::new, |says| format!(": {says}"));
            format!("{} {} registers it, and no rule leads to a gateway{idle}", entry.object, entry.field)
        }
        None => "a rule leads straight to it".to_owned(),
    };
    draft.decide(Verdict::RegisteredDirect, Reason::RegisteredDirect, source, says)
}

/// What a rule to a gateway may fail on for its absence to be a bypass (design §4.1 line 9).
const ESCAPES: [Reason; 8] = [
    Reason::SourceLabels,
    Reason::SourceNamespace,
    Reason::VsNotExported,
    Reason::VsNotImported,
    Reason::VsGateways,
    Reason::VsShadowed,
    Reason::NoSni,
    Reason::ShadowedBy,
];

fn decide_by_miss(draft: Draft, verdict: Verdict, miss: &Miss) -> Judgement {
    let gateway = miss.gateway.as_ref().map_or_else(String::new, |g| format!(" (it leads to {g})"));
    let says = format!("{}{gateway}", miss.says);
    draft.decide(verdict, miss.reason, Some((miss.object.clone(), miss.field.clone())), says)
}

/// Line 6: an entry of another host owns the address, and there is evidence that the application meant something else.
fn captured_by_other(q: &Question<'_>, draft: &Draft) -> Option<Judgement> {
    let entry = q.expected.entry.as_ref()?;
    let reason = match entry.by {
        Match::AnyAddress => Reason::TcpHijack,
        Match::Address | Match::Cidr => Reason::AddressHijack,
        Match::Sni | Match::Host => return None,
    };
    if entry.owner == Owner::Service {
        return None;
    }
    let ip = q.call.to.ip();
    let meant = match &q.name.host {
        Some(host) => {
            let same = |name: &str| covers(&entry.host, name);
            let any = same(host.as_str())
                || (q.name.source == NameSource::Dns && q.name.candidates.iter().any(|c| same(c.as_str())));
            (!any).then(|| format!("{host} ({})", q.name.source.as_str()))
        }
        None => (!q.entry_addresses.is_empty() && !q.entry_addresses.contains(&ip) && entry.by == Match::AnyAddress)
            .then(|| format!("{ip}, which is none of the addresses that DNS gave for {}", entry.host)),
    }?;
    let says =
        format!("the application meant {meant}, but {} {} takes it for {}", entry.object, entry.field, entry.host);
    let mut draft = draft.clone();
    if q.expected.outcome == Outcome::ViaGateway {
        draft.also(Some(Reason::RoutedViaGateway));
    }
    Some(draft.decide(Verdict::CapturedByOther, reason, Some((entry.object.clone(), entry.field.clone())), says))
}

/// `pattern` is a registry host: exact, or `*.suffix`.
fn covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
        None => pattern.eq_ignore_ascii_case(name),
    }
}

/// The allowed outcomes belong to different classes.
fn spread(e: &Expected) -> bool {
    let class = |o: &Outcome| match o {
        Outcome::ViaGateway | Outcome::ViaWaypoint => Class::Gateway,
        Outcome::Direct | Outcome::Answered => Class::Direct,
        Outcome::Blocked | Outcome::Broken => Class::Stopped,
        Outcome::InMesh | Outcome::NotApplicable => Class::Exempt,
        Outcome::Passthrough | Outcome::Dynamic => Class::Unregistered,
        Outcome::NotCaptured | Outcome::Unknown => Class::Unknown,
    };
    e.alternative_outcomes.iter().skip(1).any(|o| class(o) != class(&e.alternative_outcomes[0]))
}

fn registration_reason(e: &Expected) -> Reason {
    match e.registration {
        Registration::NotVisible => hidden_by(e),
        Registration::OtherPort => Reason::PortNotRegistered,
        Registration::Visible => protocol_reason(e),
        Registration::Unregistered => Reason::Unregistered,
    }
}

fn hidden_by(e: &Expected) -> Reason {
    let hides = [Reason::NotExported, Reason::SidecarScope, Reason::DiscoverySelector];
    let found = e.reason.into_iter().chain(e.misses.iter().map(|m| m.reason)).find(|r| hides.contains(r));
    found.unwrap_or(Reason::NotExported)
}

fn protocol_reason(e: &Expected) -> Reason {
    let fits = [Reason::NoSni, Reason::ProtocolMismatch, Reason::SniNotMatched, Reason::ShadowedBy];
    e.reason.filter(|r| fits.contains(r)).unwrap_or(Reason::ProtocolMismatch)
}

/// A judgement in the making.
#[derive(Debug, Clone)]
struct Draft {
    chain: Vec<Step>,
    also: Vec<Reason>,
}

impl Draft {
    fn of(expected: &Expected) -> Self {
        Self { chain: expected.because.clone(), also: expected.reasons.clone() }
    }

    /// Takes over the steps of the second leg.
    fn adopt(&mut self, leg2: &Expected) {
        self.chain.extend(leg2.because.iter().cloned());
        self.also.extend(leg2.reasons.iter().copied());
    }

    fn also(&mut self, reason: Option<Reason>) {
        self.also.extend(reason);
    }

    /// Object, field and sentence of the last step with this claim (any claim: the last step with an object).
    fn last_source(&self, claim: &str, otherwise: &str) -> (Option<(ObjectRef, arcstr::ArcStr)>, String) {
        let fits =
            |s: &&Step| if claim.is_empty() { s.object.is_some() || s.mark == Mark::No } else { s.claim == claim };
        match self.chain.iter().rev().find(fits) {
            Some(step) => (step.object.clone().zip(step.field.clone()), step.says.to_string()),
            None => (None, otherwise.to_owned()),
        }
    }

    /// What nearly did something for it.
    fn remarks(&self, claim: &'static str) -> impl Iterator<Item = &Says> {
        self.chain.iter().filter(move |s| s.claim == claim && s.mark == Mark::Miss).map(|s| &s.says)
    }

    /// What the step that ended the way says, with its object, else the nearest one before it.
    fn end(&self, otherwise: &str) -> (Option<(ObjectRef, arcstr::ArcStr)>, String) {
        let Some(place) = self.chain.iter().rposition(|step| step.mark == Mark::Decides) else {
            return self.last_source("", otherwise);
        };
        let before = self.chain[..=place].iter().rev().filter(|step| step.mark != Mark::Miss);
        let source = before.into_iter().find_map(|step| step.object.clone().zip(step.field.clone()));
        (source, self.chain[place].says.to_string())
    }

    fn decide(
        mut self,
        verdict: Verdict,
        reason: Reason,
        source: Option<(ObjectRef, arcstr::ArcStr)>,
        says: impl Into<Says>,
    ) -> Judgement {
        let mut step = Step::new("verdict", Mark::Decides, says);
        if let Some((object, field)) = source {
            step = step.by(object, field);
        }
        let why = sentence(&step);
        self.chain.push(step);
        let mut reasons = vec![reason];
        for also in self.also {
            if !reasons.contains(&also) {
                reasons.push(also);
            }
        }
        Judgement { verdict, severity: verdict.severity(), reasons, chain: self.chain, why }
    }
}

/// The sentence of the deciding step; names the object where the sentence itself does not.
fn sentence(step: &Step) -> String {
    let says = step.says.text();
    match (&step.object, &step.field) {
        (Some(object), Some(field)) if !says.contains(&object.to_string()) => format!("{says} [{object} {field}]"),
        (Some(_), Some(field)) if !says.contains(field.as_str()) => format!("{says} [{field}]"),
        _ => says.into_owned(),
    }
}

/// Line 1: a gateway's or waypoint's upstream socket that no journey claims, or another process in its pod.
pub fn gateway_socket(
    mesh: &Mesh,
    pod: crate::mesh::PodIndex,
    to: SocketAddr,
    name: &NameEvidence,
    proxy: bool,
) -> Judgement {
    let object = mesh.pod(pod).object.clone();
    let host = name.host.as_ref().map(crate::name::HostName::as_str);
    let mut draft = Draft { chain: Vec::new(), also: Vec::new() };
    if !proxy {
        draft.also(Some(Reason::ProxyContainer));
    }
    if let Some(step) = mesh.gateway_permits(pod, to, host) {
        let (source, says) = (step.object.clone().zip(step.field.clone()), step.says.to_string());
        draft.chain.push(step);
        return draft.decide(Verdict::GatewayLeg, Reason::GatewayRoute, source, says);
    }
    let says = format!("no route of the gateway pod {} leads to {to}", object.name);
    draft.decide(Verdict::GatewayRogue, Reason::GatewayNoRoute, Some((object, ".metadata.labels".into())), says)
}

/// A verdict that needs no configuration: host processes, control traffic, in-cluster destinations of proxies, gaps.
pub fn plain(verdict: Verdict, reason: Reason, object: Option<(ObjectRef, &str)>, says: String) -> Judgement {
    let draft = Draft { chain: Vec::new(), also: Vec::new() };
    draft.decide(verdict, reason, object.map(|(o, f)| (o, f.into())), says)
}
