//! ServiceEntry, WorkloadEntry, Gateway, DestinationRule, Sidecar.

use arcstr::ArcStr;

use crate::id::ObjectRef;
use crate::mesh::object::read::{At, Labels};
use crate::mesh::object::{Meta, export_to};
use crate::mesh::protocol::Protocol;

/// How endpoints are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// The address that was dialled (ServiceEntry NONE, headless Services).
    Passthrough,
    /// Endpoints are listed (STATIC, Services).
    Static,
    /// Names are resolved, all answers used.
    Dns,
    /// Names are resolved, the first answer used.
    DnsRoundRobin,
    /// Whatever name is asked for.
    DynamicDns,
    /// Another name of a host (ExternalName).
    Alias,
}

impl Resolution {
    pub(crate) fn is_dns(self) -> bool {
        matches!(self, Self::Dns | Self::DnsRoundRobin)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct EntryPort {
    pub(crate) number: u16,
    pub(crate) name: ArcStr,
    pub(crate) protocol: Protocol,
    pub(crate) target: Option<u16>,
}

/// An endpoint in a ServiceEntry, or the spec of a WorkloadEntry.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) address: ArcStr,
    pub(crate) ports: Vec<(ArcStr, u16)>,
    pub(crate) labels: Labels,
    pub(crate) service_account: bool,
}

impl Endpoint {
    fn read(at: &At<'_>) -> Self {
        Self {
            address: at.key("address", |a| a.text()),
            ports: at.key("ports", |p| p.fields(|k, v| (ArcStr::from(k), v.port().unwrap_or(0)))),
            labels: at.key("labels", |l| l.labels()),
            service_account: at.key("serviceAccount", |s| s.string().is_some_and(|s| !s.is_empty())),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct ServiceEntry {
    pub(crate) meta: Meta,
    pub(crate) hosts: Vec<ArcStr>,
    pub(crate) addresses: Vec<ArcStr>,
    pub(crate) ports: Vec<EntryPort>,
    pub(crate) external: bool,
    pub(crate) resolution: Resolution,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) selector: Option<Labels>,
    pub(crate) export_to: Option<Vec<ArcStr>>,
    /// `status.addresses`: value and host.
    pub(crate) allocated: Vec<(ArcStr, ArcStr)>,
}

impl ServiceEntry {
    pub(crate) fn read(meta: Meta, at: &At<'_>) -> Self {
        let allocated = at.key("status", |s| {
            s.key("addresses", |a| a.each(|x| (x.key("value", |v| v.text()), x.key("host", |h| h.text()))))
        });
        at.key("spec", |s| Self {
            hosts: s.key("hosts", |h| {
                let hosts = h.strings();
                if hosts.is_empty() {
                    h.note("has no host: the entry registers nothing");
                }
                hosts
            }),
            addresses: s.key("addresses", |a| a.strings()),
            ports: s.key("ports", |p| p.each(Self::port).into_iter().flatten().collect()),
            external: s
                .key("location", |l| l.word(&[("MESH_EXTERNAL", true), ("MESH_INTERNAL", false)]).unwrap_or(true)),
            resolution: s.key("resolution", |r| {
                r.word(&[
                    ("NONE", Resolution::Passthrough),
                    ("STATIC", Resolution::Static),
                    ("DNS", Resolution::Dns),
                    ("DNS_ROUND_ROBIN", Resolution::DnsRoundRobin),
                    ("DYNAMIC_DNS", Resolution::DynamicDns),
                ])
                .unwrap_or(Resolution::Passthrough)
            }),
            endpoints: s.key("endpoints", |e| e.each(|e| Endpoint::read(&e))),
            selector: s.key("workloadSelector", |w| w.is_present().then(|| w.key("labels", |l| l.labels()))),
            export_to: s.key("exportTo", |e| export_to(&e)),
            allocated,
            meta,
        })
    }

    fn port(at: At<'_>) -> Option<EntryPort> {
        let number = at.key("number", |n| {
            let port = n.port();
            if !n.is_present() {
                n.note("is missing: the port is ignored");
            }
            port
        })?;
        Some(EntryPort {
            number,
            name: at.key("name", |n| n.text()),
            protocol: at.key("protocol", |p| Protocol::parse(&p.text())),
            target: at.key("targetPort", |t| t.port()).filter(|t| *t > 0),
        })
    }
}

#[derive(Debug, Clone)]
pub(crate) struct WorkloadEntry {
    pub(crate) meta: Meta,
    pub(crate) endpoint: Endpoint,
}

impl WorkloadEntry {
    pub(crate) fn read(meta: Meta, at: &At<'_>) -> Self {
        let mut endpoint = at.key("spec", |s| Endpoint::read(&s));
        // spec.labels win over metadata.labels (serviceentry ConvertWorkloadEntry merges both)
        for (key, value) in &meta.labels {
            if let Err(place) = endpoint.labels.binary_search_by(|(k, _)| k.cmp(key)) {
                endpoint.labels.insert(place, (key.clone(), value.clone()));
            }
        }
        Self { meta, endpoint }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsMode {
    Passthrough,
    Simple,
    Mutual,
    AutoPassthrough,
    IstioMutual,
    OptionalMutual,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerTls {
    pub(crate) mode: TlsMode,
    pub(crate) redirect: bool,
}

/// A server of a Gateway.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// Path of the server in its object.
    pub(crate) path: ArcStr,
    /// Port number and protocol; `None` where the port is missing.
    pub(crate) port: Option<(u16, Protocol)>,
    pub(crate) port_name: ArcStr,
    pub(crate) bind: ArcStr,
    /// As `host`, or `namespace/host`.
    pub(crate) hosts: Vec<ArcStr>,
    pub(crate) tls: Option<ServerTls>,
}

impl Server {
    pub(crate) fn passes_through(&self) -> bool {
        self.tls.is_some_and(|t| matches!(t.mode, TlsMode::Passthrough | TlsMode::AutoPassthrough))
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    /// Of a Gateway API listener: with the name that istiod derives.
    pub(crate) meta: Meta,
    /// The object as users know it.
    pub(crate) shown: ObjectRef,
    /// The name that routes bind to, `namespace/name`.
    pub(crate) bound_name: ArcStr,
    pub(crate) selector: Option<Labels>,
    pub(crate) servers: Vec<Server>,
    /// For a Gateway of the Gateway API: the hosts of the Services whose pods it is for, and their namespace.
    pub(crate) services: Option<(ArcStr, Vec<ArcStr>)>,
    /// Of the Gateway API, with a deployment that istiod makes.
    pub(crate) managed: bool,
}

impl Gateway {
    pub(crate) fn read(meta: Meta, at: &At<'_>) -> Self {
        let namespace = meta.namespace().clone();
        at.key("spec", |s| Self {
            bound_name: meta.object.name.to_string().into(),
            selector: s.key("selector", |l| l.is_present().then(|| l.labels())),
            servers: s.key("servers", |l| l.each(|server| Self::server(&server, &namespace))),
            services: None,
            managed: false,
            shown: meta.object.clone(),
            meta,
        })
    }

    fn server(at: &At<'_>, namespace: &str) -> Server {
        Server {
            path: at.path(),
            port: at.key("port", |p| {
                let number = p.key("number", |n| n.port());
                if number.is_none() {
                    p.note("has no number: the server is ignored");
                }
                let protocol = p.key("protocol", |t| Protocol::parse(&t.text()));
                number.map(|n| (n, protocol))
            }),
            port_name: at.key("port", |p| p.key("name", |n| n.text())),
            bind: at.key("bind", |b| b.text()),
            hosts: server_hosts(&at.key("hosts", |h| h.strings()), namespace),
            tls: at.key("tls", |t| {
                t.is_present().then(|| ServerTls {
                    mode: t.key("mode", |m| {
                        m.word(&[
                            ("PASSTHROUGH", TlsMode::Passthrough),
                            ("SIMPLE", TlsMode::Simple),
                            ("MUTUAL", TlsMode::Mutual),
                            ("AUTO_PASSTHROUGH", TlsMode::AutoPassthrough),
                            ("ISTIO_MUTUAL", TlsMode::IstioMutual),
                            ("OPTIONAL_MUTUAL", TlsMode::OptionalMutual),
                        ])
                        .unwrap_or(TlsMode::Passthrough)
                    }),
                    redirect: t.key("httpsRedirect", |r| r.bool()).unwrap_or(false),
                })
            }),
        }
    }
}

/// `./host` becomes `namespace/host`, `*/host` becomes `host` (`model.sanitizeServerHostNamespace`).
pub(crate) fn server_hosts(hosts: &[ArcStr], namespace: &str) -> Vec<ArcStr> {
    let clean = |host: &ArcStr| match host.split_once('/') {
        Some((".", name)) => format!("{namespace}/{name}").into(),
        Some(("*", name)) => name.into(),
        _ => host.clone(),
    };
    if hosts.iter().any(|h| h == "*/*") { vec!["*".into()] } else { hosts.iter().map(clean).collect() }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsSettingsMode {
    Disable,
    Simple,
    Mutual,
    IstioMutual,
}

#[derive(Debug, Clone)]
pub(crate) struct TlsSettings {
    pub(crate) mode: TlsSettingsMode,
    pub(crate) sni: ArcStr,
    pub(crate) credential: ArcStr,
    /// MUTUAL has both certificate files.
    pub(crate) has_files: bool,
}

/// The part of a trafficPolicy that decides where and how a connection goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    pub(crate) tls: Option<TlsSettings>,
    /// `loadBalancer.simple: PASSTHROUGH`: the address that was dialled; `None` where no balancer is set.
    pub(crate) passthrough: Option<bool>,
    pub(crate) ports: Vec<(u16, Policy)>,
    /// Path of the policy in its object.
    pub(crate) path: ArcStr,
}

impl Policy {
    fn read(at: &At<'_>) -> Option<Self> {
        at.is_present().then(|| Self {
            tls: at.key("tls", |t| {
                t.is_present().then(|| TlsSettings {
                    mode: t.key("mode", |m| {
                        m.word(&[
                            ("DISABLE", TlsSettingsMode::Disable),
                            ("SIMPLE", TlsSettingsMode::Simple),
                            ("MUTUAL", TlsSettingsMode::Mutual),
                            ("ISTIO_MUTUAL", TlsSettingsMode::IstioMutual),
                        ])
                        .unwrap_or(TlsSettingsMode::Disable)
                    }),
                    sni: t.key("sni", |s| s.text()),
                    credential: t.key("credentialName", |c| c.text()),
                    has_files: t.key("clientCertificate", |c| !c.text().is_empty())
                        && t.key("privateKey", |c| !c.text().is_empty()),
                })
            }),
            passthrough: at.key("loadBalancer", |l| {
                l.is_present().then(|| l.key("simple", |s| s.value().and_then(|v| v.as_str()) == Some("PASSTHROUGH")))
            }),
            ports: at.key("portLevelSettings", |p| {
                p.each(|p| {
                    let port = p.key("port", |n| n.key("number", |n| n.port()));
                    port.zip(Self::read(&p))
                })
                .into_iter()
                .flatten()
                .collect()
            }),
            path: at.path(),
        })
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Subset {
    pub(crate) name: ArcStr,
    pub(crate) labels: Labels,
    pub(crate) policy: Option<Policy>,
}

#[derive(Debug, Clone)]
pub(crate) struct DestinationRule {
    pub(crate) meta: Meta,
    pub(crate) host: ArcStr,
    pub(crate) export_to: Option<Vec<ArcStr>>,
    pub(crate) selector: Option<Labels>,
    pub(crate) policy: Option<Policy>,
    pub(crate) subsets: Vec<Subset>,
}

impl DestinationRule {
    pub(crate) fn read(meta: Meta, at: &At<'_>) -> Self {
        at.key("spec", |s| Self {
            host: crate::mesh::host::resolve(&s.key("host", |h| h.text()), meta.namespace()),
            export_to: s.key("exportTo", |e| export_to(&e)),
            selector: s.key("workloadSelector", |w| w.is_present().then(|| w.key("matchLabels", |l| l.labels()))),
            policy: s.key("trafficPolicy", |p| Policy::read(&p)),
            subsets: s.key("subsets", |l| {
                l.each(|x| Subset {
                    name: x.key("name", |n| n.text()),
                    labels: x.key("labels", |l| l.labels()),
                    policy: x.key("trafficPolicy", |p| Policy::read(&p)),
                })
            }),
            meta,
        })
    }
}

/// outboundTrafficPolicy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PolicyMode {
    RegistryOnly,
    AllowAny,
    AllowAnyDynamicDns,
}

pub(crate) const POLICY_MODES: [(&str, PolicyMode); 3] = [
    ("REGISTRY_ONLY", PolicyMode::RegistryOnly),
    ("ALLOW_ANY", PolicyMode::AllowAny),
    ("ALLOW_ANY_DYNAMIC_DNS", PolicyMode::AllowAnyDynamicDns),
];

/// outboundTrafficPolicy with the proxy that takes what is unknown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OutboundPolicy {
    pub(crate) mode: PolicyMode,
    /// Host, subset, port.
    pub(crate) proxy: Option<(ArcStr, ArcStr, Option<u16>)>,
}

impl OutboundPolicy {
    /// A message without `mode` is REGISTRY_ONLY: the enum's zero (semantics L26).
    pub(crate) fn read(at: &At<'_>) -> Option<Self> {
        at.is_present().then(|| Self {
            mode: at.key("mode", |m| m.word(&POLICY_MODES)).unwrap_or(PolicyMode::RegistryOnly),
            proxy: at.key("egressProxy", |p| {
                p.is_present().then(|| {
                    (
                        p.key("host", |h| h.text()),
                        p.key("subset", |s| s.text()),
                        p.key("port", |x| x.key("number", |n| n.port())),
                    )
                })
            }),
        })
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Egress {
    pub(crate) hosts: Vec<ArcStr>,
    pub(crate) port: Option<(u16, Protocol)>,
    pub(crate) bind: ArcStr,
    pub(crate) capture_none: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Sidecar {
    pub(crate) meta: Meta,
    pub(crate) selector: Option<Labels>,
    pub(crate) egress: Vec<Egress>,
    pub(crate) policy: Option<OutboundPolicy>,
}

impl Sidecar {
    pub(crate) fn read(meta: Meta, at: &At<'_>) -> Self {
        at.key("spec", |s| Self {
            selector: s.key("workloadSelector", |w| w.is_present().then(|| w.key("labels", |l| l.labels()))),
            egress: s.key("egress", |l| {
                l.each(|e| Egress {
                    hosts: e.key("hosts", |h| h.strings()),
                    port: e.key("port", |p| {
                        let number = p.key("number", |n| n.port());
                        number.map(|n| (n, p.key("protocol", |t| Protocol::parse(&t.text()))))
                    }),
                    bind: e.key("bind", |b| b.text()),
                    capture_none: e.key("captureMode", |c| c.value().and_then(|v| v.as_str()) == Some("NONE")),
                })
            }),
            policy: s.key("outboundTrafficPolicy", |p| OutboundPolicy::read(&p)),
            meta,
        })
    }
}
