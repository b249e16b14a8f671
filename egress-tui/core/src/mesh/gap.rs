//! Where a way ends that the configuration shows: the object and field that would have to be another.
//!
//! A gateway that lacks a server, a route or a destination says nothing by itself: what is missing stands in another object, often
//! in another namespace. These are asked only once an answer is known to be broken.

use std::sync::Arc;

use arcstr::ArcStr;

use crate::id::ObjectRef;
use crate::mesh::chain::{Chain, Picked};
use crate::mesh::decide::Walk;
use crate::mesh::gateway::{MergedGateway, ServerId};
use crate::mesh::object::read::selects;
use crate::mesh::object::virtual_service::MESH;
use crate::mesh::object::{Gateway, Semantics, Server, TlsMode};
use crate::mesh::registry::UpstreamId;
use crate::mesh::visible::VsId;
use crate::mesh::{Expected, host, register};
use crate::verdict::{Mark, Reason, Says};

/// What is missing, and where.
pub(crate) struct Gap {
    pub(crate) reason: Reason,
    pub(crate) object: ObjectRef,
    pub(crate) field: ArcStr,
    pub(crate) says: Says,
    /// What contributes.
    pub(crate) also: Option<Reason>,
}

impl Gap {
    fn new(reason: Reason, object: &ObjectRef, field: impl Into<ArcStr>, says: impl Into<Says>) -> Self {
        Self { reason, object: object.clone(), field: field.into(), says: says.into(), also: None }
    }

    /// Makes it the step that decides, in the place of the one that only says that there is an end.
    pub(crate) fn decide(self, out: &mut Expected) {
        out.reason = Some(self.reason);
        out.reasons.extend(self.also);
        if let Some(step) = out.because.iter_mut().rev().find(|s| s.mark == Mark::Decides) {
            *step = step.clone().by(self.object, self.field);
            step.says = self.says;
        }
    }
}

impl Walk<'_> {
    fn server(&self, (g, s): ServerId) -> (&Gateway, &Server) {
        let gateway = &self.mesh.index.gateways[g as usize];
        (gateway, &gateway.servers[s as usize])
    }

    /// No Gateway gives this pod a server.
    pub(crate) fn unselected(&self) -> Gap {
        let index = &self.mesh.index;
        let pod = self.mesh.pod(self.pod);
        let held = |g: &&Arc<Gateway>| g.selector.as_ref().is_none_or(|s| selects(s, &pod.labels));
        if index.rules.scope_gateways
            && let Some(gateway) = index.gateways.iter().find(held)
        {
            let says = format!(
                "{} is for pods of its own namespace only (PILOT_SCOPE_GATEWAY_TO_NAMESPACE), and this one is in {}",
                gateway.shown, pod.name.namespace
            );
            return Gap::new(Reason::GatewaySelectsNothing, &gateway.shown, ".metadata.namespace", says);
        }
        let says = "no Gateway selects this pod: it listens on nothing";
        Gap::new(Reason::GatewaySelectsNothing, &pod.object, ".metadata.labels", says)
    }

    /// No chain of a listener takes a connection with this server name; plaintext has none.
    pub(crate) fn no_chain(&self, merged: &MergedGateway, port: u16, sni: Option<&str>) -> Option<Gap> {
        let servers: Vec<ServerId> = merged.servers.iter().filter(|(_, p)| *p == port).map(|(s, _)| *s).collect();
        let (gateway, server) = self.server(*servers.first()?);
        let Some(sni) = sni else {
            let says = format!("the server of port {port} expects TLS, and the connection is plaintext");
            let field = format!("{}.tls.mode", server.path);
            return Some(Gap::new(Reason::TlsModeMismatch, &gateway.shown, field, says));
        };
        let automatic = |s: &Server| s.tls.is_some_and(|t| t.mode == TlsMode::AutoPassthrough);
        if let Some((gateway, server)) = servers.iter().map(|s| self.server(*s)).find(|(_, s)| automatic(s)) {
            let says = "AUTO_PASSTHROUGH leads to services of the mesh by their own server names, and nowhere outside";
            let field = format!("{}.tls.mode", server.path);
            return Some(Gap::new(Reason::GatewayNoRoute, &gateway.shown, field, says));
        }
        self.no_route(merged, port, sni)
    }

    /// No route of this gateway is for a host.
    pub(crate) fn no_route(&self, merged: &MergedGateway, port: u16, name: &str) -> Option<Gap> {
        let servers: Vec<ServerId> = merged.servers.iter().filter(|(_, p)| *p == port).map(|(s, _)| *s).collect();
        let printed = crate::name::printable(name);
        let bare = |h: &ArcStr| h.split_once('/').map_or(h.clone(), |(_, n)| n.into());
        let covers = |s: &Server| s.hosts.iter().any(|h| host::subset(name, &bare(h)));
        let Some(id) = servers.iter().find(|s| covers(self.server(**s).1)) else {
            let (gateway, server) = self.server(*servers.first()?);
            let says = format!("no server of port {port} has the host {printed}");
            let field = format!("{}.hosts", server.path);
            return Some(Gap::new(Reason::GatewayHostMissing, &gateway.shown, field, says));
        };
        let (gateway, server) = self.server(*id);
        let all = &self.mesh.index.virtual_services;
        let named = |id: &&VsId| all.get(**id).hosts.iter().any(|h| host::subset(name, h));
        let Some(id) = all.by_gateway.get(&gateway.bound_name).into_iter().flatten().find(named) else {
            let mut others: Vec<VsId> = Vec::new();
            all.by_host.each_match(name, |ids| others.extend(ids.iter().copied()));
            // a route of the Gateway API for sidecars is no rule that lacks a gateway
            others.retain(|id| all.get(*id).semantics == Semantics::Istio);
            let says = format!("no route for the host {printed} is bound to this Gateway");
            return Some(match others.iter().min() {
                Some(other) => {
                    let other = &all.get(*other).shown;
                    Gap::new(Reason::GatewayNoRoute, other, ".spec.gateways", format!("{other}: {says}"))
                }
                None => Gap::new(Reason::GatewayNoRoute, &gateway.shown, server.path.clone(), says),
            });
        };
        let vs = all.get(*id);
        let namespace = self.proxy.namespace();
        if !all.visibility[id.0 as usize].includes(namespace) {
            let says = format!("{} is not exported to the gateway's namespace {namespace}", vs.shown);
            let gap = Gap::new(Reason::GatewayNoRoute, &vs.shown, ".spec.exportTo", says);
            return Some(Gap { also: Some(Reason::VsNotExported), ..gap });
        }
        let admits = |h: &ArcStr| match h.split_once('/') {
            Some((ns, n)) => (ns == "*" || ns == vs.meta.namespace().as_str()) && host::subset(name, n),
            None => host::subset(name, h),
        };
        if !server.hosts.iter().any(admits) {
            let says = format!("the hosts of the server are not for routes of the namespace {}", vs.meta.namespace());
            let field = format!("{}.hosts", server.path);
            return Some(Gap::new(Reason::GatewayHostMissing, &gateway.shown, field, says));
        }
        let says =
            format!("no rule of {} is for this Gateway and port {}", vs.shown, server.port.map_or(0, |(n, _)| n));
        Some(Gap::new(Reason::GatewayNoRoute, &vs.shown, ".spec", says))
    }

    /// The Gateway that a rule counts on, where the pod that it leads to does not listen.
    pub(crate) fn blame(&self, out: &mut Expected, rule: Option<Picked>) {
        let Some(found @ (Reason::GatewaySelectsNothing | Reason::GatewayPortMissing)) = out.reason else { return };
        let index = &self.mesh.index;
        let Some(vs) = rule.map(|r| index.virtual_services.get(r.id)) else { return };
        let labels = &self.mesh.pod(self.pod).labels;
        for name in vs.gateways.iter().filter(|g| *g != MESH) {
            let Some(gateway) = index.gateways.iter().find(|g| g.bound_name == *name) else {
                let says = format!("{} binds to the Gateway {name}, which does not exist", vs.shown);
                return Gap::new(found, &vs.shown, ".spec.gateways", says).decide(out);
            };
            if gateway.selector.as_ref().is_some_and(|s| !selects(s, labels)) {
                let says = format!("the selector of {} does not hold for the gateway's pod", gateway.shown);
                return Gap::new(Reason::GatewaySelectsNothing, &gateway.shown, ".spec.selector", says).decide(out);
            }
            if found == Reason::GatewayPortMissing {
                let says = format!("no server of {} is for the port that the rule leads to", gateway.shown);
                return Gap::new(found, &gateway.shown, ".spec.servers", says).decide(out);
            }
        }
    }

    /// A destination that has the port, but was imported without it: the Sidecar's listener has a port of its own.
    pub(crate) fn reduced(&self, id: UpstreamId, port: u16) -> Option<Gap> {
        let index = &self.mesh.index;
        let upstream = index.registry.get(id);
        upstream.port(port)?;
        let scope = &self.proxy.scope;
        let sidecar = &index.sidecars[scope.sidecar? as usize].meta.object;
        let field = match scope.listeners.iter().position(|l| l.port.is_some()) {
            Some(n) => format!(".spec.egress[{n}].port"),
            None => ".spec.egress".to_owned(),
        };
        let says = format!("{sidecar} imports {} without its port {port}", upstream.host);
        let gap = Gap::new(Reason::DestinationMissing, sidecar, field, says);
        Some(Gap { also: Some(Reason::SidecarScope), ..gap })
    }

    /// A dead end of an entry's own chain: the entry's port is where to look.
    pub(crate) fn by_port_of(&self, out: &mut Expected, chain: &Chain, leaf: &str, port: u16) {
        let Some(upstream) = chain.origin.upstream.map(|id| self.mesh.index.registry.get(id)) else { return };
        let Some(place) = upstream.port(port).map(|p| p.index) else { return };
        let step = out.because.iter_mut().rev().find(|s| s.mark == Mark::Decides && s.object.is_none());
        if let Some(step) = step {
            *step = step.clone().by(upstream.object.clone(), format!(".spec.ports[{place}]{leaf}"));
        }
    }

    /// Why a destination is not known to this proxy, where some object has it.
    pub(crate) fn hidden(&self, name: &str) -> Option<Gap> {
        let registry = &self.mesh.index.registry;
        let miss = registry
            .named(name)
            .iter()
            .find_map(|id| register::hides(&self.mesh.index, self.proxy, registry.get(*id)))?;
        let gap = Gap::new(Reason::DestinationMissing, &miss.object, miss.field, miss.says);
        Some(Gap { also: Some(miss.reason), ..gap })
    }
}
