//! What ztunnel does with a connection that it took (ztunnel: `proxy/outbound.rs`, `state.rs`), and which waypoint an entry is
//! bound to (istiod: `serviceregistry/ambient`; semantics §7.5).
//!
//! ztunnel looks at the address alone: no server name, no Host, no exportTo, no outboundTrafficPolicy. What a waypoint's own routes
//! and policies do is not modelled: where an entry has any, the answer says so.

use std::net::IpAddr;

use arcstr::ArcStr;
use smallvec::SmallVec;

use crate::id::{NamespacedName, ObjectRef};
use crate::mesh::gatewayapi::Waypoint;
use crate::mesh::object::Resolution;
use crate::mesh::object::mesh_config::EntryVisibility;
use crate::mesh::object::read::{Labels, label};
use crate::mesh::reach::ReachAddress;
use crate::mesh::registry::{Address, Upstream, UpstreamId};
use crate::mesh::{
    Call, Entry, Expected, Match, Mesh, Miss, Next, NextKind, Outcome, Owner, PodIndex, ProxyKind, Registration, host,
};
use crate::verdict::says::says;
use crate::verdict::{Mark, Reason, Step};

/// Label of an entry or its namespace.
const USE: &str = "istio.io/use-waypoint";
const USE_NAMESPACE: &str = "istio.io/use-waypoint-namespace";

/// Whether an entry has a waypoint.
enum Binding<'a> {
    /// Nobody asks for one.
    Unasked,
    /// The label at this object and field leads to it.
    Bound(&'a Waypoint, (ObjectRef, ArcStr)),
    /// The label asks for one that does not take the entry.
    Refused(Miss),
}

/// What an address is to ztunnel.
enum Found {
    /// An endpoint of an entry: a workload, which goes before every service.
    Endpoint(UpstreamId),
    /// An address of an entry.
    Service(UpstreamId, Match),
    /// A Service or a pod of the cluster.
    Cluster,
    Nothing,
}

fn field(key: &str) -> ArcStr {
    format!(".metadata.labels[\"{key}\"]").into()
}

impl Mesh {
    /// A pod that ztunnel would serve by its labels or its namespace's, but does not.
    pub(crate) fn is_meant_for_ztunnel(&self, pod: PodIndex) -> bool {
        let pod = self.pod(pod);
        let mode = |labels: &Labels| label(labels, "istio.io/dataplane-mode").cloned();
        let namespace = || self.index.namespaces.get(&pod.name.namespace).and_then(mode);
        matches!(pod.proxy, ProxyKind::Host | ProxyKind::None)
            && mode(&pod.labels).or_else(namespace).is_some_and(|m| m == "ambient")
    }

    /// What a connection gets that ztunnel took.
    pub(crate) fn by_ztunnel(&self, call: &Call<'_>) -> Expected {
        let index = &self.index;
        match self.addressed(call) {
            Found::Service(id, by) => self.to_entry(call, index.registry.get(id), by),
            Found::Endpoint(id) => {
                let upstream = index.registry.get(id);
                let mut out = direct(call, upstream, Match::Address);
                out.misses.extend(self.unused(upstream, "the address of an endpoint was dialled, not the entry's"));
                out
            }
            Found::Cluster => {
                let mut out = Expected::new(Outcome::InMesh);
                out.registration = Registration::Visible;
                out.next = Some(original(call));
                let inside = self.in_cluster(call.to.ip(), call.to.port());
                let says = format!("{} is an address of the cluster", call.to.ip());
                let step = Step::new("listener", Mark::Decides, says);
                out.because.push(match inside.and_then(|i| i.object) {
                    Some(object) => step.by(object, ".metadata.name"),
                    None => step,
                });
                out
            }
            Found::Nothing => self.unknown_address(call),
        }
    }

    fn addressed(&self, call: &Call<'_>) -> Found {
        let ip = call.to.ip();
        let registry = &self.index.registry;
        let own = &self.pod(call.pod).name.namespace;
        let of_cluster = self.in_cluster(ip, call.to.port()).is_some();
        if of_cluster && self.pod_by_ip(ip).is_some() {
            return Found::Cluster;
        }
        let seen = |id: &UpstreamId| self.seen_by(registry.get(*id), own);
        let owners: SmallVec<[UpstreamId; 2]> = self.inside.owners(ip).into_iter().filter(seen).collect();
        let endpoint = |u: &Upstream| {
            let mut reach = u.ports.iter().flat_map(|p| u.reach(p));
            u.resolution == Resolution::Static && reach.any(|(r, _)| r.address == ReachAddress::Ip(ip))
        };
        if let Some(id) = owners.iter().find(|id| endpoint(registry.get(**id))) {
            return Found::Endpoint(*id);
        }
        let exact = |u: &Upstream| u.address == Address::Ip(ip) || u.allocated.iter().any(|(_, a)| *a == ip);
        let first = |wanted: &dyn Fn(&Upstream) -> bool| {
            let mut fits: Vec<UpstreamId> = owners.iter().copied().filter(|id| wanted(registry.get(*id))).collect();
            // the client's own namespace first; the others stand in order of age
            fits.sort_by_key(|id| registry.get(*id).namespace != *own);
            fits.first().copied()
        };
        if let Some(id) = first(&exact) {
            return Found::Service(id, Match::Address);
        }
        if of_cluster {
            return Found::Cluster;
        }
        first(&|u| matches!(u.address, Address::Cidr(_))).map_or(Found::Nothing, |id| Found::Service(id, Match::Cidr))
    }

    /// serviceEntryVisibility is the only limit that ztunnel knows.
    fn seen_by(&self, upstream: &Upstream, namespace: &ArcStr) -> bool {
        if upstream.kubernetes {
            return true;
        }
        let none = Labels::new();
        let labels = self.index.namespaces.get(&upstream.namespace).unwrap_or(&none);
        let (policies, default) = &self.index.config.visibility;
        match policies.iter().find(|(s, _)| s.holds(labels)).map_or(*default, |(_, v)| *v) {
            EntryVisibility::Public => true,
            EntryVisibility::Namespace => upstream.namespace == *namespace,
            EntryVisibility::None => false,
        }
    }

    /// An address that an entry owns.
    fn to_entry(&self, call: &Call<'_>, upstream: &Upstream, by: Match) -> Expected {
        let port = call.to.port();
        match self.binding(upstream) {
            Binding::Bound(waypoint, (object, at)) => {
                let mut out = Expected::new(Outcome::ViaWaypoint);
                out.gateway = Some(waypoint.service.clone());
                out.registration = registered(upstream, port);
                out.entry = Some(entry(upstream, by));
                out.because.push(owns(call, upstream));
                out.next = Some(Next {
                    kind: NextKind::Service,
                    host: Some(host::service_host(&waypoint.service.name, &waypoint.service.namespace)),
                    port: Some(HBONE),
                });
                let says = format!("the entry is bound to the waypoint {}", waypoint.service);
                out.because.push(Step::new("route", Mark::Ok, says).by(object.clone(), at.clone()));
                out.leg2 = Some(Box::new(self.at_waypoint(call, upstream, waypoint)));
                out.routed = Some((object, at));
                out
            }
            Binding::Unasked => direct(call, upstream, by),
            Binding::Refused(miss) => {
                let mut out = direct(call, upstream, by);
                out.misses.push(miss);
                out
            }
        }
    }

    /// Nothing that ztunnel knows has this address: it passes on what it does not know. The name may tell more.
    fn unknown_address(&self, call: &Call<'_>) -> Expected {
        let pod = self.pod(call.pod);
        let mut out = Expected::new(Outcome::Passthrough);
        out.next = Some(original(call));
        let policy = Step::new(
            "policy",
            Mark::Decides,
            "ztunnel passes on every address that it does not know; outboundTrafficPolicy is not for ambient pods",
        )
        .by(pod.object.clone(), ".metadata.annotations[\"ambient.istio.io/redirection\"]");
        let named = [call.sni, call.host, call.dns].into_iter().flatten().find_map(|name| {
            let name = name.to_ascii_lowercase();
            let list = self.index.registry.of_host.of(&name);
            let known = list.iter().map(|id| self.index.registry.get(*id)).filter(|u| !u.kubernetes);
            known.filter(|u| self.seen_by(u, &pod.name.namespace)).min_by_key(|u| u.namespace != pod.name.namespace)
        });
        let Some(upstream) = named else {
            out.reason = Some(Reason::Unregistered);
            out.because.push(Step::new("registered", Mark::No, "no ServiceEntry has this host or address"));
            out.because.push(policy);
            return out;
        };
        out.registration = registered(upstream, call.to.port());
        if out.registration == Registration::OtherPort {
            out.reason = Some(Reason::PortNotRegistered);
            let says = says![&upstream.host, " is registered without port ", call.to.port()];
            out.misses.push(Miss {
                reason: Reason::PortNotRegistered,
                object: upstream.object.clone(),
                field: ".spec.ports".into(),
                says,
                gateway: None,
            });
            out.because.push(policy);
            return out;
        }
        if self.is_meant_for_ztunnel(call.pod) {
            // ztunnel's DNS would have told it the entry's address
            return self.to_entry(call, upstream, Match::Host);
        }
        out.outcome = Outcome::Direct;
        out.entry = Some(entry(upstream, if call.sni.is_some() { Match::Sni } else { Match::Host }));
        out.misses.extend(self.unused(upstream, "an address of the host was dialled, not the entry's"));
        out.because.push(policy);
        out
    }

    /// The waypoint of an entry was not used, because of something that the client did.
    fn unused(&self, upstream: &Upstream, says: &str) -> Option<Miss> {
        match self.binding(upstream) {
            Binding::Unasked => None,
            Binding::Refused(miss) => Some(miss),
            Binding::Bound(waypoint, (object, field)) => Some(Miss {
                reason: Reason::WaypointNotUsed,
                object,
                field,
                says: format!("{says}, so ztunnel knows no waypoint for it").into(),
                gateway: Some(waypoint.service.clone()),
            }),
        }
    }

    /// A sidecar's connection to an entry that has a waypoint: sidecars do not use it (`EndpointBuilder.findServiceWaypoint`).
    pub(crate) fn sidecar_misses_waypoint(&self, out: &Expected) -> Option<Miss> {
        let taken =
            out.entry.as_ref().filter(|_| out.outcome == Outcome::Direct && !self.index.waypoints.is_empty())?;
        let all = self.index.registry.of_host.get(&taken.host)?;
        let upstream = all.iter().map(|id| self.index.registry.get(*id)).find(|u| u.object == taken.object)?;
        let Binding::Bound(waypoint, (object, field)) = self.binding(upstream) else { return None };
        Some(Miss {
            reason: Reason::WaypointSidecarClient,
            object,
            field,
            says: says!["the entry is bound to the waypoint ", &waypoint.service, ", which sidecars do not use"],
            gateway: Some(waypoint.service.clone()),
        })
    }

    /// The label of the entry, else of its namespace (`fetchWaypointForService`).
    fn binding(&self, upstream: &Upstream) -> Binding<'_> {
        let index = &self.index;
        let none = Labels::new();
        let namespace = index.namespaces.get(&upstream.namespace).unwrap_or(&none);
        let (labels, object) = if label(upstream.labels(), USE).is_some() {
            (upstream.labels(), upstream.object.clone())
        } else {
            (namespace.as_slice(), ObjectRef::new("Namespace", "", upstream.namespace.clone()))
        };
        let Some(name) = label(labels, USE).filter(|n| *n != "none" && !n.is_empty()) else { return Binding::Unasked };
        let home = label(labels, USE_NAMESPACE).unwrap_or(&upstream.namespace);
        let refused = |object: ObjectRef, field: ArcStr, says: String, gateway: Option<NamespacedName>| {
            Binding::Refused(Miss { reason: Reason::WaypointNotBound, object, field, says: says.into(), gateway })
        };
        let Some(waypoint) = index.waypoints.iter().find(|w| w.name.namespace == *home && w.name.name == *name) else {
            let says = format!("there is no waypoint {home}/{name}");
            return refused(object, field(USE), says, None);
        };
        let gateway = Some(waypoint.service.clone());
        if !waypoint.for_services {
            let says = format!("{} is not for services", waypoint.object);
            return refused(waypoint.object.clone(), field("istio.io/waypoint-for"), says, gateway);
        }
        if !waypoint.admits(&upstream.namespace, namespace) {
            let says =
                format!("no listener of {} takes entries of the namespace {}", waypoint.object, upstream.namespace);
            return refused(waypoint.object.clone(), ".spec.listeners".into(), says, gateway);
        }
        Binding::Bound(waypoint, (object, field(USE)))
    }

    /// The second leg. The tunnel's target is the address and port that the application dialled.
    fn at_waypoint(&self, call: &Call<'_>, upstream: &Upstream, waypoint: &Waypoint) -> Expected {
        let port = call.to.port();
        if upstream.port(port).is_none() {
            let mut out = Expected::new(Outcome::Broken);
            out.registration = Registration::OtherPort;
            out.reason = Some(Reason::PortNotRegistered);
            let says = format!("the waypoint has no chain for port {port} of {}", upstream.object);
            out.because.push(Step::new("gateway", Mark::Decides, says).by(upstream.object.clone(), ".spec.ports"));
            return out;
        }
        if let Some((object, what)) = self.unmodelled(upstream, waypoint) {
            let mut out = Expected::unknown("");
            out.because.clear();
            let says = format!("{what} of a waypoint are not modelled");
            out.because.push(Step::new("model", Mark::Unknown, says).by(object, ".spec"));
            return out;
        }
        let mut out = Expected::new(Outcome::Direct);
        out.registration = Registration::Visible;
        out.entry = Some(entry(upstream, Match::Address));
        out.next = Some(resolved(upstream, port));
        let says = format!("the waypoint sends it on to {}", upstream.host);
        out.because.push(Step::new("gateway", Mark::Ok, says).by(upstream.object.clone(), upstream.host_field()));
        out
    }

    /// A route or policy that this waypoint applies to the entry: of the entry's or the waypoint's namespace.
    fn unmodelled(&self, upstream: &Upstream, waypoint: &Waypoint) -> Option<(ObjectRef, &'static str)> {
        let index = &self.index;
        let homes = [&upstream.namespace, &waypoint.name.namespace];
        let routes = index.virtual_services.by_host.of(&upstream.host);
        let mut routes = routes.iter().map(|id| index.virtual_services.get(*id));
        if let Some(vs) = routes.find(|vs| homes.contains(&vs.meta.namespace())) {
            return Some((vs.shown.clone(), "routes"));
        }
        let mut policies = index.authorization_policies.iter().filter(|p| homes.contains(&p.meta.namespace()));
        let policy = policies.find(|p| {
            p.attachment.targets.iter().any(|t| {
                (t.kind == "ServiceEntry" && t.name == upstream.object.name.name)
                    || (t.kind == "Gateway" && t.name == waypoint.name.name)
            })
        });
        policy.map(|p| (p.meta.object.clone(), "policies"))
    }

    /// The entry that a waypoint's own connection is for: one that is bound to it.
    pub(crate) fn waypoint_permits(&self, pod: PodIndex, to: (IpAddr, u16), name: Option<&str>) -> Option<Step> {
        if self.pod(pod).proxy != ProxyKind::Waypoint {
            return None;
        }
        let service = self.gateway_of_pod(pod)?;
        let registry = &self.index.registry;
        let bound = registry
            .upstreams
            .iter()
            .filter(|u| !u.kubernetes && matches!(self.binding(u), Binding::Bound(w, _) if w.service == service));
        let mut fits = bound.filter(|u| {
            u.ports.iter().any(|p| {
                let dials = p.target.unwrap_or(p.number) == to.1;
                let mut reach = u.reach(p);
                let listed = reach.any(|(r, port)| r.address == ReachAddress::Ip(to.0) && port == to.1);
                let named = name.is_none_or(|n| host::subset(&n.to_ascii_lowercase(), &u.host));
                listed || (dials && u.resolution.is_dns() && named)
            })
        });
        let upstream = fits.next()?;
        let says = format!("{} is bound to this waypoint", upstream.host);
        Some(Step::new("route", Mark::Ok, says).by(upstream.object.clone(), upstream.host_field()))
    }
}

/// Port of a waypoint's pods for tunnels of the mesh.
const HBONE: u16 = 15008;

/// Without a waypoint: ztunnel dials it itself.
fn direct(call: &Call<'_>, upstream: &Upstream, by: Match) -> Expected {
    let port = call.to.port();
    let passes = upstream.resolution == Resolution::Passthrough;
    if !passes && upstream.port(port).is_none() {
        let mut out = Expected::new(Outcome::Broken);
        out.registration = Registration::OtherPort;
        out.reason = Some(Reason::PortNotRegistered);
        out.entry = Some(entry(upstream, by));
        out.because.push(owns(call, upstream));
        let says = format!("{} has no port {port}: ztunnel closes the connection", upstream.object);
        out.because.push(Step::new("registered", Mark::Decides, says).by(upstream.object.clone(), ".spec.ports"));
        return out;
    }
    let mut out = Expected::new(Outcome::Direct);
    out.registration = Registration::Visible;
    out.entry = Some(entry(upstream, by));
    out.next = Some(if upstream.resolution.is_dns() { resolved(upstream, port) } else { original(call) });
    let step = owns(call, upstream);
    out.because.push(Step { mark: Mark::Decides, ..step });
    out
}

fn registered(upstream: &Upstream, port: u16) -> Registration {
    if upstream.port(port).is_some() { Registration::Visible } else { Registration::OtherPort }
}

fn entry(upstream: &Upstream, by: Match) -> Entry {
    let address = || match upstream.address {
        Address::Any => ".status.addresses".into(),
        Address::Ip(_) | Address::Cidr(_) => upstream.address_field(),
    };
    Entry {
        object: upstream.object.clone(),
        field: if matches!(by, Match::Address | Match::Cidr) { address() } else { upstream.host_field() },
        host: upstream.host.clone(),
        by,
        owner: if upstream.external { Owner::External } else { Owner::Internal },
        original_destination: upstream.resolution == Resolution::Passthrough,
    }
}

fn owns(call: &Call<'_>, upstream: &Upstream) -> Step {
    let taken = entry(upstream, Match::Address);
    let says = format!("{} is an address of {}", call.to.ip(), upstream.host);
    Step::new("listener", Mark::Ok, says).by(taken.object, taken.field)
}

fn original(call: &Call<'_>) -> Next {
    Next { kind: NextKind::Original, host: None, port: Some(call.to.port()) }
}

fn resolved(upstream: &Upstream, port: u16) -> Next {
    let target = upstream.port(port).and_then(|p| p.target).unwrap_or(port);
    Next { kind: NextKind::Dns, host: Some(upstream.host.clone()), port: Some(target) }
}

/// Waypoints of the mesh, while its objects are compiled.
pub(crate) fn waypoints(api: &crate::mesh::gatewayapi::Objects) -> Vec<Waypoint> {
    api.gateways().filter(|g| api.is_waypoint(g)).map(Waypoint::new).collect()
}
