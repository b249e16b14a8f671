//! The decision at a gateway's pod: which server takes a connection, what policies say to it, and where its routes lead.

use arcstr::ArcStr;

use crate::id::ObjectRef;
use crate::mesh::authz::{Arrival, Court, Identity, Request, Ruling};
use crate::mesh::chain::{Action, Chain, Termination};
use crate::mesh::decide::{Chooser, Walk, Wire, Wrapped, answered, broken, not_found};
use crate::mesh::gateway::{GatewayListener, MergedGateway};
use crate::mesh::object::TlsMode;
use crate::mesh::paged::Once;
use crate::mesh::{Certainty, Expected, Outcome};
use crate::verdict::{Mark, Reason, Step};

impl Walk<'_> {
    /// A connection that arrives at a gateway's pod.
    pub(crate) fn at_gateway(&self, wire: &Wire<'_>) -> Expected {
        let index = &self.mesh.index;
        let Some(merged) = self.mesh.merged_gateway(self.proxy, self.pod) else {
            let out = broken(Reason::GatewaySelectsNothing, "no Gateway selects this pod: it listens on nothing");
            let mut out = out;
            self.unselected().decide(&mut out);
            return out;
        };
        let port = wire.to.port();
        let targets = &self.mesh.gateway_of(self.pod).targets;
        let Some(listener) = merged.listener(wire.to.ip(), port) else {
            let leads = targets.iter().find(|t| t.target == port).map(|t| &index.services[t.service as usize]);
            let place = match leads {
                Some(service) => (service.meta.object.clone(), ".spec.ports".into()),
                None => (self.mesh.pod(self.pod).object.clone(), ".metadata.labels".into()),
            };
            let says =
                format!("the gateway does not listen on port {port}: no server of a Gateway that selects it has it");
            let mut out = named(broken(Reason::GatewayPortMissing, says), Some(place));
            if let Some((_, (g, s))) = merged.idle.iter().find(|(p, _)| *p == port) {
                let gateway = &index.gateways[*g as usize];
                let server = &gateway.servers[*s as usize];
                out.reason = Some(Reason::GatewayNoRoute);
                let says = format!("the server of port {port} has no route, so there is no listener");
                out.because =
                    vec![Step::new("gateway", Mark::Decides, says).by(gateway.shown.clone(), server.path.clone())];
                if let Some(name) = server.hosts.first() {
                    let name = name.split_once('/').map_or(name.as_str(), |(_, n)| n).to_owned();
                    return self.explained(out, merged, port, &name);
                }
            } else if let Some(((g, s), why)) = merged.skipped.iter().find(|((g, s), _)| {
                // servers name ports of the Service or of the pod: either may be meant
                let number = index.gateways[*g as usize].servers[*s as usize].port.map(|(n, _)| n);
                number.is_some_and(|n| n == port || targets.iter().any(|t| t.port == n && t.target == port))
            }) {
                let gateway = &index.gateways[*g as usize];
                let says = format!("the server of port {port} is left out: {why}");
                let step = Step::new("gateway", Mark::Decides, says);
                out.because = vec![step.by(gateway.shown.clone(), gateway.servers[*s as usize].path.clone())];
            }
            return out;
        };
        let mut wire = wire.clone();
        if wire.tls == Wrapped::InTls && wire.sni.is_empty() && wire.http {
            wire.sni = wire.host.clone().unwrap_or_default();
        }
        let Some(chain) = listener.chains.find(wire.to.ip(), &wire.sni, wire.seen()) else {
            let mut out = self.no_server(listener, &wire);
            if let Some(gap) = self.no_chain(merged, port, (wire.tls != Wrapped::Plain).then_some(&wire.sni)) {
                gap.decide(&mut out);
            }
            return out;
        };
        let server = self.server_of(listener, chain);
        if let Some(out) = mismatch(chain, wire.tls) {
            return named(out, server.map(|(object, field)| (object, format!("{field}.tls.mode").into())));
        }
        let ruling = self.authorized(listener, chain, &wire);
        if let Ruling::Stops(step) = ruling {
            let mut out = Expected::new(Outcome::Blocked);
            out.reason = Some(Reason::AuthorizationPolicy);
            out.response = matches!(chain.action, Action::GatewayRoutes(_)).then_some(403);
            out.because.extend(server.map(|(object, field)| {
                Step::new("gateway", Mark::Ok, format!("listens on port {port}")).by(object, field)
            }));
            out.because.push(step);
            return out;
        }
        let mut out = match &chain.action {
            Action::Tcp(clusters) => {
                let chooser = Chooser { rule: chain.origin.rule, authority: None, http: false, missing: 503, place: 0 };
                self.weighted(clusters, &wire, chooser)
            }
            Action::Routes | Action::OwnRoutes(_) => not_found("no route table"),
            Action::GatewayRoutes(table) => {
                if wire.tls != Wrapped::Plain && chain.terminates.is_none()
                    || (wire.tls == Wrapped::Plain && !wire.http)
                {
                    let says = format!("the server on port {port} speaks HTTP, and these bytes are none");
                    let protocol = server.map(|(object, field)| (object, format!("{field}.port.protocol").into()));
                    return named(broken(Reason::ProtocolMismatch, says), protocol);
                }
                let mut guessed = false;
                if !wire.http {
                    // what is inside is not known: a client of HTTPS asks for the host that it names in SNI
                    wire.http = true;
                    wire.host = (!wire.sni.is_empty()).then(|| wire.sni.clone());
                    guessed = true;
                }
                let host = wire.authority().to_ascii_lowercase();
                let mut out = match merged.tables[*table as usize].table.find(&host) {
                    Some(host) if host.redirects && wire.tls == Wrapped::Plain => answered(301),
                    Some(found) if found.routes.is_empty() => {
                        let says = "the virtual host has no route".to_owned();
                        self.explained(not_found(says), merged, listener.port, &host)
                    }
                    Some(host) => self.http(host, &wire),
                    None => {
                        let says =
                            format!("no route of this gateway is for the host {}", crate::name::printable(&host));
                        self.explained(not_found(says), merged, listener.port, &host)
                    }
                };
                if guessed && out.certainty == Certainty::Exact {
                    out.certainty = Certainty::NeedsHost;
                }
                out
            }
        };
        apply(ruling, &mut out);
        if let Some((object, field)) = server {
            out.because.insert(0, Step::new("gateway", Mark::Ok, format!("listens on port {port}")).by(object, field));
        }
        out
    }

    /// What the AuthorizationPolicies of this gateway say, before any route is looked up.
    fn authorized(&self, listener: &GatewayListener, chain: &Once<Chain>, wire: &Wire<'_>) -> Ruling {
        if self.proxy.policies.is_empty() {
            return Ruling::Passes(None);
        }
        let index = &self.mesh.index;
        let from = self.from.map(|p| self.mesh.pod(p));
        let mode = listener.server(chain).and_then(|(g, s)| {
            let server = &index.gateways[g as usize].servers[s as usize];
            server.tls.map(|t| t.mode)
        });
        let identity = match (mode, wire.tls, from) {
            (Some(TlsMode::IstioMutual), Wrapped::InMeshTls, Some(pod)) => Identity::Of(format!(
                "spiffe://{}/ns/{}/sa/{}",
                index.config.trust_domain.replace('@', "."),
                pod.name.namespace,
                pod.service_account
            )),
            (
                Some(TlsMode::IstioMutual | TlsMode::Mutual | TlsMode::OptionalMutual),
                Wrapped::InMeshTls | Wrapped::InTls,
                _,
            ) => Identity::Unknown,
            _ => Identity::None,
        };
        let reads_http = matches!(chain.action, Action::GatewayRoutes(_));
        if reads_http && wire.tls == Wrapped::Plain && !wire.http {
            // the codec fails before any request reaches a policy
            return Ruling::Passes(None);
        }
        let inspects = listener.chains.list.iter().any(|c| !c.sni.is_empty() || c.terminates.is_some());
        let authority = wire.http.then(|| wire.authority());
        let arrival = Arrival {
            to: wire.to,
            from: from.and_then(|p| p.ips.first().copied()),
            identity,
            sni: if inspects && wire.tls != Wrapped::Plain { &wire.sni } else { "" },
            http: reads_http.then_some(Request { host: authority.as_deref(), path: wire.path }),
        };
        Court { index, arrival: &arrival }.rule(&self.proxy.policies)
    }

    /// No chain of the listener takes it: the bytes are in the clear, or no server has the name.
    fn no_server(&self, listener: &GatewayListener, wire: &Wire<'_>) -> Expected {
        let port = listener.port;
        let (reason, says) = match wire.tls {
            Wrapped::Plain => (
                Reason::TlsModeMismatch,
                format!("every server on port {port} expects TLS, and the connection is plaintext"),
            ),
            _ if wire.sni.is_empty() => (
                Reason::GatewayHostMissing,
                format!("servers on port {port} are chosen by server name, and there is none"),
            ),
            _ => {
                let name = crate::name::printable(&wire.sni);
                (Reason::GatewayHostMissing, format!("no server or route on port {port} has the server name {name}"))
            }
        };
        let mut out = broken(reason, says);
        if let Some((g, s)) = &listener.first {
            let gateway = &self.mesh.index.gateways[*g as usize];
            let leaf = if wire.tls == Wrapped::Plain { "tls" } else { "hosts" };
            let server = &gateway.servers[*s as usize];
            let field = match (&gateway.services, leaf) {
                (None, leaf) => format!("{}.{leaf}", server.path),
                (Some(_), _) => server.path.to_string(),
            };
            if let Some(step) = out.because.first_mut() {
                *step = step.clone().by(gateway.shown.clone(), field);
            }
        }
        out
    }

    /// Names what keeps the routes that there are for a host off this gateway.
    fn explained(&self, mut out: Expected, merged: &MergedGateway, port: u16, host: &str) -> Expected {
        if let Some(gap) = self.no_route(merged, port, host) {
            gap.decide(&mut out);
        }
        out
    }

    fn server_of(&self, listener: &GatewayListener, chain: &Once<Chain>) -> Option<(ObjectRef, ArcStr)> {
        let (g, s) = listener.server(chain)?;
        let gateway = &self.mesh.index.gateways[g as usize];
        Some((gateway.shown.clone(), gateway.servers[s as usize].path.clone()))
    }
}

/// The first step is decided by this object and field.
fn named(mut out: Expected, place: Option<(ObjectRef, ArcStr)>) -> Expected {
    if let (Some((object, field)), Some(step)) = (place, out.because.first_mut()) {
        *step = step.clone().by(object, field);
    }
    out
}

/// What a policy leaves open, and what it permits.
fn apply(ruling: Ruling, out: &mut Expected) {
    match ruling {
        Ruling::Passes(step) => {
            let place = usize::from(!out.because.is_empty() && out.because[0].claim == "gateway");
            if let Some(step) = step {
                out.because.insert(place, step);
            }
        }
        Ruling::Stops(_) => {}
        Ruling::Open(step, certainty) => {
            Walk::start_alternatives(out);
            out.alternative_outcomes.push(Outcome::Blocked);
            out.alternatives.push("403".into());
            out.certainty = certainty;
            out.reasons.push(Reason::AuthorizationPolicy);
            out.because.push(step);
        }
        Ruling::Asks(step) => {
            Walk::start_alternatives(out);
            out.alternative_outcomes.push(Outcome::Blocked);
            out.outcome = Outcome::Unknown;
            out.reason = Some(Reason::AuthorizationPolicy);
            out.because.push(step);
        }
    }
}

/// TLS on one side and not on the other.
fn mismatch(chain: &Chain, tls: Wrapped) -> Option<Expected> {
    let terminates = chain.terminates?;
    let says = match (terminates, tls) {
        (_, Wrapped::Plain) => "the server expects TLS, and the connection is plaintext",
        (Termination::IstioMutual, Wrapped::InTls) => {
            "the server expects mTLS of the mesh, and the connection is other TLS"
        }
        (Termination::Tls, Wrapped::InMeshTls) => {
            "the server has a certificate of its own, and the connection is mTLS of the mesh"
        }
        _ => return None,
    };
    Some(broken(Reason::TlsModeMismatch, says))
}
