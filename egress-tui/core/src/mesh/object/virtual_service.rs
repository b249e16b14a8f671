//! VirtualService, and what routes of the Gateway API become.

use std::fmt;

use arcstr::ArcStr;

use crate::id::ObjectRef;
use crate::mesh::host;
use crate::mesh::object::read::{At, Labels};
use crate::mesh::object::{Meta, export_to};

/// The gateway name that means sidecars.
pub(crate) const MESH: &str = "mesh";

/// Whose rules apply where VirtualServices and Gateway API routes differ (`model.UseGatewaySemantics`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Semantics {
    Istio,
    GatewayApi,
}

/// Where a rule stands: its object, where that is not the VirtualService itself (delegates, Gateway API), and its path.
#[derive(Debug, Clone)]
pub(crate) struct RuleAt {
    pub(crate) object: Option<ObjectRef>,
    pub(crate) path: ArcStr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StringMatch {
    Exact(ArcStr),
    Prefix(ArcStr),
    Regex(ArcStr),
    /// A match without any of the three.
    Any,
}

impl StringMatch {
    fn read(at: &At<'_>) -> Option<Self> {
        at.is_present().then(|| {
            let part = |key: &str| at.key(key, |v| v.string());
            part("exact")
                .map(Self::Exact)
                .or_else(|| part("prefix").map(Self::Prefix))
                .or_else(|| part("regex").map(Self::Regex))
                .unwrap_or(Self::Any)
        })
    }
}

/// A condition that the bytes of a connection do not show; kept for delegates, which must not contradict their root.
pub(crate) type Named = Vec<(ArcStr, StringMatch)>;

#[derive(Debug, Clone, Default)]
pub(crate) struct HttpMatch {
    pub(crate) path: ArcStr,
    pub(crate) uri: Option<StringMatch>,
    pub(crate) scheme: Option<StringMatch>,
    pub(crate) method: Option<StringMatch>,
    pub(crate) authority: Option<StringMatch>,
    pub(crate) headers: Named,
    pub(crate) without_headers: Named,
    pub(crate) query: Named,
    pub(crate) ignore_case: bool,
    pub(crate) port: Option<u16>,
    pub(crate) source_labels: Labels,
    pub(crate) source_namespace: ArcStr,
    pub(crate) gateways: Vec<ArcStr>,
}

impl HttpMatch {
    /// Something besides the path has to hold.
    pub(crate) fn has_conditions(&self) -> bool {
        self.scheme.is_some()
            || self.method.is_some()
            || self.authority.is_some()
            || !self.headers.is_empty()
            || !self.without_headers.is_empty()
            || !self.query.is_empty()
    }
}

/// A destination with its weight.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) host: ArcStr,
    pub(crate) subset: ArcStr,
    pub(crate) port: Option<u16>,
    pub(crate) weight: u32,
    /// `headers.request.set` of the authority.
    pub(crate) authority: Option<ArcStr>,
    /// Path of the destination.
    pub(crate) path: ArcStr,
    /// A backend of another namespace, to which no ReferenceGrant permits the reference.
    pub(crate) denied: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum HttpAction {
    Route(Vec<Route>),
    Redirect(u16),
    Answer(u16),
}

#[derive(Debug, Clone)]
pub(crate) struct HttpRule {
    pub(crate) at: RuleAt,
    pub(crate) matches: Vec<HttpMatch>,
    pub(crate) action: HttpAction,
    pub(crate) authority: Option<ArcStr>,
    pub(crate) rewrites: bool,
    pub(crate) delegate: Option<(ArcStr, ArcStr)>,
    /// Where copies go: host and port.
    pub(crate) mirrors: Vec<(ArcStr, Option<u16>)>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct L4Match {
    pub(crate) path: ArcStr,
    pub(crate) sni: Vec<ArcStr>,
    pub(crate) subnets: Vec<ArcStr>,
    pub(crate) port: Option<u16>,
    pub(crate) source_labels: Labels,
    pub(crate) source_namespace: ArcStr,
    pub(crate) gateways: Vec<ArcStr>,
}

#[derive(Debug, Clone)]
pub(crate) struct L4Rule {
    pub(crate) at: RuleAt,
    pub(crate) matches: Vec<L4Match>,
    pub(crate) routes: Vec<Route>,
}

#[derive(Debug, Clone)]
pub(crate) struct VirtualService {
    /// Of a Gateway API route: with the name that istiod derives.
    pub(crate) meta: Meta,
    /// The object as users know it.
    pub(crate) shown: ObjectRef,
    pub(crate) semantics: Semantics,
    pub(crate) hosts: Vec<ArcStr>,
    /// Resolved: `mesh` or `namespace/name`; never empty.
    pub(crate) gateways: Vec<ArcStr>,
    pub(crate) export_to: Option<Vec<ArcStr>>,
    pub(crate) http: Vec<HttpRule>,
    pub(crate) tls: Vec<L4Rule>,
    pub(crate) tcp: Vec<L4Rule>,
}

impl VirtualService {
    pub(crate) fn read(meta: Meta, at: &At<'_>) -> Self {
        let ns = meta.namespace().clone();
        at.key("spec", |s| {
            let mut gateways = gateways(&s, &ns);
            if gateways.is_empty() {
                gateways.push(MESH.into());
            }
            Self {
                shown: meta.object.clone(),
                semantics: Semantics::Istio,
                hosts: s.key("hosts", |h| h.strings()).iter().map(|h| host::resolve(h, &ns)).collect(),
                gateways,
                export_to: s.key("exportTo", |e| export_to(&e)),
                http: s.key("http", |l| l.each(|r| http_rule(&r, &ns))),
                tls: s.key("tls", |l| l.each(|r| l4_rule(&r, &ns))),
                tcp: s.key("tcp", |l| l.each(|r| l4_rule(&r, &ns))),
                meta,
            }
        })
    }

    /// The object and field of a rule.
    pub(crate) fn object_of(&self, at: &RuleAt) -> ObjectRef {
        at.object.clone().unwrap_or_else(|| self.shown.clone())
    }

    /// Hosts and ports that its routes lead to, as far as a proxy of `namespace` imports them; 0 is every port
    /// (`virtualServiceDestinationsFilteredBySourceNamespace`).
    pub(crate) fn destinations(&self, namespace: &str) -> Vec<(ArcStr, u16)> {
        let mut out = Vec::new();
        let mut add = |host: &ArcStr, port: Option<u16>| {
            let item = (host.clone(), port.unwrap_or(0));
            if !out.contains(&item) {
                out.push(item);
            }
        };
        for rule in &self.http {
            let sources = rule.matches.iter().map(|m| m.source_namespace.as_str()).filter(|n| !n.is_empty());
            let (mut any, mut ours) = (false, false);
            for source in sources {
                any = true;
                ours |= source == namespace;
            }
            if any && !ours {
                continue;
            }
            if let HttpAction::Route(routes) = &rule.action {
                for route in routes {
                    add(&route.host, route.port);
                }
            }
            for (host, port) in &rule.mirrors {
                add(host, *port);
            }
        }
        for rule in self.tcp.iter().chain(&self.tls) {
            for route in &rule.routes {
                add(&route.host, route.port);
            }
        }
        out
    }
}

impl fmt::Display for RuleAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

fn gateways(at: &At<'_>, namespace: &str) -> Vec<ArcStr> {
    at.key("gateways", |g| g.strings()).iter().map(|g| gateway_name(g, namespace)).collect()
}

/// `name`, `./name`, `namespace/name`, or the old `name.namespace.svc…` (`model.resolveGatewayName`).
pub(crate) fn gateway_name(name: &ArcStr, namespace: &str) -> ArcStr {
    if name.as_str() == MESH {
        return name.clone();
    }
    match name.split_once('/') {
        Some((".", rest)) => format!("{namespace}/{rest}").into(),
        Some(_) => name.clone(),
        None => match name.split_once('.') {
            None => format!("{namespace}/{name}").into(),
            Some((short, rest)) => format!("{}/{short}", rest.split('.').next().unwrap_or(rest)).into(),
        },
    }
}

fn http_rule(at: &At<'_>, ns: &str) -> HttpRule {
    let mirror = |m: &At<'_>| {
        let host = m.key("host", |h| h.text());
        (!host.is_empty()).then(|| (host::resolve(&host, ns), m.key("port", |p| p.key("number", |n| n.port()))))
    };
    let mut mirrors: Vec<_> = at.key("mirror", |m| mirror(&m)).into_iter().collect();
    mirrors.extend(at.key("mirrors", |l| l.each(|m| m.key("destination", |d| mirror(&d)))).into_iter().flatten());
    let redirect = at.key("redirect", |r| {
        r.is_present().then(|| r.key("redirectCode", |c| c.number()).filter(|c| *c > 0).map_or(301, |c| c as u16))
    });
    let answer =
        at.key("directResponse", |r| r.is_present().then(|| r.key("status", |c| c.number()).unwrap_or(0) as u16));
    let action = match (redirect, answer) {
        (Some(code), _) => HttpAction::Redirect(code),
        (None, Some(code)) => HttpAction::Answer(code),
        (None, None) => HttpAction::Route(at.key("route", |l| l.each(|r| route(&r, ns)))),
    };
    let rewrite = at.key("rewrite", |r| r.key("authority", |a| a.string())).filter(|a| !a.is_empty());
    HttpRule {
        at: RuleAt { object: None, path: at.path() },
        matches: at.key("match", |l| l.each(|m| http_match(&m, ns))),
        action,
        authority: rewrite.or_else(|| at.key("headers", |h| authority(&h))),
        rewrites: at.key("rewrite", |r| r.is_present()),
        delegate: at.key("delegate", |d| {
            d.is_present().then(|| (d.key("namespace", |n| n.text()), d.key("name", |n| n.text())))
        }),
        mirrors,
    }
}

fn http_match(at: &At<'_>, ns: &str) -> HttpMatch {
    let named = |key: &str| {
        at.key(key, |h| h.fields(|name, v| (ArcStr::from(name), StringMatch::read(&v).unwrap_or(StringMatch::Any))))
    };
    let one = |key: &str| at.key(key, |v| StringMatch::read(&v));
    HttpMatch {
        path: at.path(),
        uri: one("uri"),
        scheme: one("scheme"),
        method: one("method"),
        authority: one("authority"),
        headers: named("headers"),
        without_headers: named("withoutHeaders"),
        query: named("queryParams"),
        ignore_case: at.key("ignoreUriCase", |b| b.bool()).unwrap_or(false),
        port: at.key("port", |p| p.port()).filter(|p| *p > 0),
        source_labels: at.key("sourceLabels", |l| l.labels()),
        source_namespace: at.key("sourceNamespace", |n| n.text()),
        gateways: gateways(at, ns),
    }
}

fn l4_rule(at: &At<'_>, ns: &str) -> L4Rule {
    L4Rule {
        at: RuleAt { object: None, path: at.path() },
        matches: at.key("match", |l| {
            l.each(|m| L4Match {
                path: m.path(),
                sni: m.key("sniHosts", |s| s.strings()),
                subnets: m.key("destinationSubnets", |s| s.strings()),
                port: m.key("port", |p| p.port()).filter(|p| *p > 0),
                source_labels: m.key("sourceLabels", |l| l.labels()),
                source_namespace: m.key("sourceNamespace", |n| n.text()),
                gateways: gateways(&m, ns),
            })
        }),
        routes: at.key("route", |l| l.each(|r| route(&r, ns))),
    }
}

fn route(at: &At<'_>, ns: &str) -> Route {
    let weight = at.key("weight", |w| w.number()).unwrap_or(0) as u32;
    let authority = at.key("headers", |h| authority(&h));
    at.key("destination", |d| {
        if !d.is_present() {
            d.note("is missing");
        }
        Route {
            host: host::resolve(&d.key("host", |h| h.text()), ns),
            subset: d.key("subset", |s| s.text()),
            port: d.key("port", |p| p.key("number", |n| n.port())),
            weight,
            authority,
            path: d.path(),
            denied: false,
        }
    })
}

/// `headers.request.set`, else `add`, of `:authority` or `Host` (`route.TranslateHeadersOperations`).
fn authority(headers: &At<'_>) -> Option<ArcStr> {
    let part = |key: &str| headers.key("request", |r| r.key(key, |s| s.labels()));
    let is_authority = |k: &str| k.eq_ignore_ascii_case(":authority") || k.eq_ignore_ascii_case("host");
    let find = |key: &str| part(key).into_iter().find(|(k, v)| is_authority(k) && !v.is_empty()).map(|(_, v)| v);
    find("set").or_else(|| find("add"))
}
