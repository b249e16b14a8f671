//! Gateways: each listener becomes a Gateway of Istio with one server, bound to the Services of its class.

use arcstr::ArcStr;
use rustc_hash::FxHashMap;

use crate::id::{NamespacedName, ObjectRef};
use crate::mesh::gatewayapi::{DERIVED, GROUP, Objects, RouteKind};
use crate::mesh::host;
use crate::mesh::object::istio::{ServerTls, server_hosts};
use crate::mesh::object::mesh_config::Selector;
use crate::mesh::object::read::{At, Labels};
use crate::mesh::object::{Gateway, Meta, Server, TlsMode};
use crate::mesh::protocol::Protocol;

/// The controller that istiod is.
pub(crate) const CONTROLLER: &str = "istio.io/gateway-controller";

/// Namespaces whose routes may attach.
#[derive(Debug, Clone)]
enum From {
    Same,
    All,
    Selector(Selector),
}

#[derive(Debug)]
struct Listener {
    path: ArcStr,
    name: ArcStr,
    hostname: Option<ArcStr>,
    port: u16,
    protocol: ArcStr,
    tls: Option<ServerTls>,
    /// The mode is written, and it is Terminate.
    terminates: bool,
    from: From,
    kinds: Option<Vec<(ArcStr, ArcStr)>>,
}

/// A Gateway of the Gateway API.
#[derive(Debug)]
pub(crate) struct KubeGateway {
    pub(crate) meta: Meta,
    class: ArcStr,
    name_override: Option<ArcStr>,
    /// `spec.infrastructure.labels`.
    labels: Labels,
    /// Type (absent: IP for one, Hostname where there are several) and value.
    addresses: Vec<(Option<ArcStr>, ArcStr)>,
    listeners: Vec<Listener>,
}

impl KubeGateway {
    pub(crate) fn read(meta: Meta, at: &At<'_>) -> Self {
        let name_override =
            at.key("metadata", |m| m.key("annotations", |a| a.key("gateway.istio.io/name-override", |n| n.string())));
        let multi_network = meta.label("topology.istio.io/network").is_some();
        let expected = meta.label("networking.istio.io/gatewayPort").map_or("15443", ArcStr::as_str).to_owned();
        at.key("spec", |s| Self {
            class: s.key("gatewayClassName", |c| c.text()),
            name_override,
            labels: s.key("infrastructure", |i| i.key("labels", |l| l.labels())),
            addresses: s
                .key("addresses", |l| l.each(|a| (a.key("type", |t| t.string()), a.key("value", |v| v.text())))),
            listeners: s.key("listeners", |l| {
                l.each(|l| {
                    let port = l.key("port", |p| p.port()).unwrap_or(0);
                    Listener {
                        path: l.path(),
                        name: l.key("name", |n| n.text()),
                        hostname: l.key("hostname", |h| h.string()).filter(|h| !h.is_empty()),
                        port,
                        protocol: l.key("protocol", |p| p.text()),
                        tls: l.key("tls", |t| tls(&t, multi_network && port.to_string() == expected)),
                        terminates: l.key("tls", |t| t.key("mode", |m| m.string())).is_some_and(|m| m == "Terminate"),
                        from: l.key("allowedRoutes", |a| a.key("namespaces", |n| from(&n))),
                        kinds: l.key("allowedRoutes", |a| {
                            a.key("kinds", |k| {
                                let kinds = k.each(|k| {
                                    let group = k.key("group", |g| g.string()).unwrap_or_else(|| GROUP.into());
                                    (group, k.key("kind", |x| x.text()))
                                });
                                (!kinds.is_empty()).then_some(kinds)
                            })
                        }),
                    }
                })
            }),
            meta,
        })
    }

    /// istiod makes its deployment (`gatewaycommon.IsManaged`).
    pub(crate) fn is_managed(&self) -> bool {
        match self.addresses.as_slice() {
            [] => true,
            [(kind, _)] => kind.as_ref().is_none_or(|k| k == "IPAddress"),
            _ => false,
        }
    }

    /// Its class.
    pub(crate) fn class(&self) -> &ArcStr {
        &self.class
    }

    /// What its pods are to have beside their own labels.
    pub(crate) fn wanted_labels(&self) -> &Labels {
        &self.labels
    }

    /// Name, port and protocol of each listener.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = (&ArcStr, u16, &ArcStr)> {
        self.listeners.iter().map(|l| (&l.name, l.port, &l.protocol))
    }

    /// Name of the Deployment and Service that istiod makes (`gatewaycommon.GetDefaultName`); a waypoint's has no class in it.
    pub(crate) fn deployed_name(&self, waypoint: bool) -> ArcStr {
        let own =
            || if waypoint { self.meta.name().clone() } else { format!("{}-{}", self.meta.name(), self.class).into() };
        self.name_override.clone().unwrap_or_else(own)
    }

    /// Hosts of the Services that front its pods (`extractGatewayServices`).
    fn services(&self) -> Vec<ArcStr> {
        if self.is_managed() {
            return vec![host::service_host(&self.deployed_name(false), self.meta.namespace())];
        }
        let named = self.addresses.iter().filter(|(kind, _)| kind.as_ref().is_none_or(|k| k == "Hostname"));
        named
            .map(|(_, v)| if v.contains('.') { v.clone() } else { host::service_host(v, self.meta.namespace()) })
            .collect()
    }
}

/// A Gateway that istiod runs as a waypoint.
#[derive(Debug)]
pub(crate) struct Waypoint {
    pub(crate) object: ObjectRef,
    /// The Gateway's name.
    pub(crate) name: NamespacedName,
    /// Its Service's.
    pub(crate) service: NamespacedName,
    /// It takes what is addressed to services (`istio.io/waypoint-for`).
    pub(crate) for_services: bool,
    /// Namespaces that its listeners admit.
    admitted: Vec<From>,
}

impl Waypoint {
    pub(crate) fn new(gateway: &KubeGateway) -> Self {
        let namespace = gateway.meta.namespace();
        let kind = gateway.meta.label("istio.io/waypoint-for").map_or("service", ArcStr::as_str);
        Self {
            object: gateway.meta.object.clone(),
            name: NamespacedName::new(namespace.clone(), gateway.meta.name().clone()),
            service: NamespacedName::new(namespace.clone(), gateway.deployed_name(true)),
            for_services: matches!(kind, "service" | "all"),
            admitted: gateway.listeners.iter().map(|l| l.from.clone()).collect(),
        }
    }

    /// Entries of a namespace may use it; those of its own always may.
    pub(crate) fn admits(&self, namespace: &ArcStr, labels: &Labels) -> bool {
        *namespace == self.name.namespace
            || self.admitted.iter().any(|from| match from {
                From::Same => false,
                From::All => true,
                From::Selector(selector) => selector.holds(&with_name(labels, namespace)),
            })
    }
}

/// Labels of a namespace, with the one that Kubernetes adds itself.
fn with_name(labels: &Labels, namespace: &ArcStr) -> Labels {
    let mut labels = labels.clone();
    let key = ArcStr::from("kubernetes.io/metadata.name");
    match labels.binary_search_by(|(k, _)| k.cmp(&key)) {
        Ok(place) => labels[place].1 = namespace.clone(),
        Err(place) => labels.insert(place, (key, namespace.clone())),
    }
    labels
}

fn tls(at: &At<'_>, auto: bool) -> Option<ServerTls> {
    if !at.is_present() {
        return None;
    }
    let option = |key: &str| at.key("options", |o| o.key(key, |v| v.text()));
    let auto = auto || option("gateway.istio.io/listener-protocol") == "auto-passthrough";
    let mode = match at.key("mode", |m| m.string()).as_deref() {
        Some("Passthrough") if auto => TlsMode::AutoPassthrough,
        Some("Passthrough") => TlsMode::Passthrough,
        _ => match option("gateway.istio.io/tls-terminate-mode").as_str() {
            "MUTUAL" => TlsMode::Mutual,
            "OPTIONAL_MUTUAL" => TlsMode::OptionalMutual,
            "ISTIO_MUTUAL" => TlsMode::IstioMutual,
            _ => TlsMode::Simple,
        },
    };
    Some(ServerTls { mode, redirect: false })
}

fn from(at: &At<'_>) -> From {
    match at.key("from", |f| f.string()).as_deref() {
        None | Some("Same") => From::Same,
        Some("Selector") if at.key("selector", |s| s.is_present()) => {
            From::Selector(at.key("selector", |s| Selector::read(&s)))
        }
        Some(_) => From::All,
    }
}

/// What a route's parentRef can name: one listener.
#[derive(Debug)]
pub(crate) struct Parent {
    pub(crate) namespace: ArcStr,
    pub(crate) name: ArcStr,
    /// The name of the derived Gateway, with its namespace.
    pub(crate) internal: ArcStr,
    /// Hosts of the server, with namespaces.
    pub(crate) hosts: Vec<ArcStr>,
    pub(crate) hostname: Option<ArcStr>,
    pub(crate) section: ArcStr,
    pub(crate) port: u16,
    pub(crate) protocol: ArcStr,
    pub(crate) kinds: Vec<RouteKind>,
}

/// Listeners of Gateways whose class is istiod's.
pub(crate) fn translate(api: &Objects, namespaces: &FxHashMap<ArcStr, Labels>) -> (Vec<Gateway>, Vec<Parent>) {
    let (mut gateways, mut parents) = (Vec::new(), Vec::new());
    for gateway in &api.gateways {
        if !api.is_ours(gateway) {
            continue;
        }
        let services = gateway.services();
        let mut accepted: Vec<&Listener> = Vec::new();
        for listener in &gateway.listeners {
            if accepted.iter().any(|known| !distinct(known, listener)) {
                continue;
            }
            accepted.push(listener);
            let needs_tls = matches!(listener.protocol.as_str(), "HTTPS" | "TLS");
            if needs_tls && listener.tls.is_none() {
                continue;
            }
            let derived: ArcStr = format!("{}-{DERIVED}-{}", gateway.meta.name(), listener.name).into();
            let namespace = gateway.meta.namespace();
            let hosts = server_hosts(&hosts(gateway, listener, namespaces), namespace);
            let meta =
                Meta { object: ObjectRef::new("Gateway", namespace.clone(), derived.clone()), ..gateway.meta.clone() };
            let internal: ArcStr = format!("{namespace}/{derived}").into();
            parents.push(Parent {
                namespace: namespace.clone(),
                name: gateway.meta.name().clone(),
                internal: internal.clone(),
                hosts: hosts.clone(),
                hostname: listener.hostname.clone(),
                section: listener.name.clone(),
                port: listener.port,
                protocol: listener.protocol.clone(),
                kinds: kinds(listener),
            });
            gateways.push(Gateway {
                meta,
                shown: gateway.meta.object.clone(),
                bound_name: internal,
                selector: None,
                servers: vec![Server {
                    path: listener.path.clone(),
                    port: Some((listener.port, protocol(&listener.protocol))),
                    port_name: "default".into(),
                    bind: ArcStr::new(),
                    hosts,
                    tls: listener.tls,
                }],
                services: Some((namespace.clone(), services.clone())),
                managed: gateway.is_managed(),
            });
        }
    }
    (gateways, parents)
}

/// An unknown protocol is passed on as an empty one (`listenerProtocolToIstio`).
fn protocol(text: &str) -> Protocol {
    match text {
        "HTTP" | "HTTPS" | "TLS" | "TCP" => Protocol::parse(text),
        _ => Protocol::Auto,
    }
}

/// `namespace/host` for each namespace whose routes may attach (`buildHostnameMatch`).
fn hosts(gateway: &KubeGateway, listener: &Listener, namespaces: &FxHashMap<ArcStr, Labels>) -> Vec<ArcStr> {
    let hostname = listener.hostname.as_deref().unwrap_or("*");
    let mut allowed: Vec<ArcStr> = match &listener.from {
        From::Same => vec![gateway.meta.namespace().clone()],
        From::All => vec!["*".into()],
        From::Selector(selector) => namespaces
            .iter()
            .filter(|(name, labels)| selector.holds(&with_name(labels, name)))
            .map(|(name, _)| name.clone())
            .collect(),
    };
    allowed.sort();
    if allowed.is_empty() {
        allowed.push("~".into());
    }
    allowed.into_iter().map(|ns| format!("{ns}/{hostname}").into()).collect()
}

/// Kinds of routes that a listener takes (`GenerateGatewaySupportedKinds`).
fn kinds(listener: &Listener) -> Vec<RouteKind> {
    let supported: &[RouteKind] = match listener.protocol.as_str() {
        "HTTP" | "HTTPS" => &[RouteKind::Http, RouteKind::Grpc],
        "TCP" => &[RouteKind::Tcp],
        "TLS" if listener.terminates => &[RouteKind::Tls, RouteKind::Tcp],
        "TLS" => &[RouteKind::Tls],
        _ => &[],
    };
    let allowed = |kind: &RouteKind| {
        listener
            .kinds
            .as_ref()
            .is_none_or(|list| list.iter().any(|(group, k)| group == GROUP && RouteKind::parse(k) == Some(*kind)))
    };
    supported.iter().copied().filter(allowed).collect()
}

/// Two listeners of one Gateway can stand beside each other (`listenersDistinct`).
fn distinct(a: &Listener, b: &Listener) -> bool {
    if a.port != b.port {
        return true;
    }
    let l4 = |l: &Listener| matches!(l.protocol.as_str(), "TCP" | "UDP");
    let l7 = |l: &Listener| matches!(l.protocol.as_str(), "HTTP" | "HTTPS" | "TLS");
    if (l4(a) && (l4(b) || l7(b))) || (l7(a) && l4(b)) {
        return false;
    }
    if l7(a) && l7(b) {
        return a.hostname.as_deref().unwrap_or("*") != b.hostname.as_deref().unwrap_or("*");
    }
    a.protocol != b.protocol
}
