//! PeerAuthentication and EnvoyFilter, as far as they encrypt or change an outbound connection.

use arcstr::ArcStr;
use regex::{Regex, RegexBuilder};

use crate::mesh::object::Meta;
use crate::mesh::object::authorization::Attachment;
use crate::mesh::object::read::At;

/// mTLS mode of a PeerAuthentication; `Unset` inherits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerMode {
    Unset,
    Disable,
    Permissive,
    Strict,
}

#[derive(Debug, Clone)]
pub(crate) struct PeerAuthentication {
    pub(crate) meta: Meta,
    pub(crate) selects_all: bool,
    pub(crate) mode: PeerMode,
}

impl PeerAuthentication {
    pub(crate) fn read(meta: Meta, at: &At<'_>) -> Self {
        at.key("spec", |s| Self {
            selects_all: s.key("selector", |l| l.key("matchLabels", |l| l.labels())).is_empty(),
            mode: s.key("mtls", |m| {
                m.key("mode", |m| {
                    m.word(&[
                        ("UNSET", PeerMode::Unset),
                        ("DISABLE", PeerMode::Disable),
                        ("PERMISSIVE", PeerMode::Permissive),
                        ("STRICT", PeerMode::Strict),
                    ])
                })
                .unwrap_or(PeerMode::Unset)
            }),
            meta,
        })
    }
}

/// An EnvoyFilter: which proxies' configuration it may change, and where.
#[derive(Debug, Clone)]
pub(crate) struct EnvoyFilter {
    pub(crate) meta: Meta,
    pub(crate) attachment: Attachment,
    pub(crate) patches: Vec<EnvoyPatch>,
}

/// A patch that can touch outbound traffic.
#[derive(Debug, Clone)]
pub(crate) struct EnvoyPatch {
    pub(crate) path: ArcStr,
    /// Applies to what sidecars do with outbound traffic.
    pub(crate) sidecars: bool,
    /// Applies to gateways.
    pub(crate) gateways: bool,
    /// What it touches.
    pub(crate) part: EnvoyPart,
    /// The releases of proxies that it is for.
    pub(crate) version: Option<Regex>,
}

/// How far a patch narrows what it touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EnvoyPart {
    /// Everything.
    All,
    /// Listeners or route tables of one port.
    Port(u16),
    /// Clusters with this name, port, subset and host, as far as they are given.
    Cluster { name: ArcStr, port: Option<u16>, subset: ArcStr, host: ArcStr },
}

impl EnvoyFilter {
    pub(crate) fn read(meta: Meta, at: &At<'_>) -> Self {
        at.key("spec", |s| Self {
            attachment: Attachment::read(&s, "workloadSelector", "labels"),
            patches: s.key("configPatches", |l| l.each(|p| patch(&p))).into_iter().flatten().collect(),
            meta,
        })
    }
}

/// `None`: it has no patch, or changes only what comes in or what is not about connections
/// (`model/envoyfilter.go` convertToEnvoyFilterWrapper).
fn patch(at: &At<'_>) -> Option<EnvoyPatch> {
    let applies_to = at.key("applyTo", |a| a.text());
    let listeners = matches!(
        applies_to.as_str(),
        "LISTENER" | "FILTER_CHAIN" | "NETWORK_FILTER" | "HTTP_FILTER" | "LISTENER_FILTER"
    );
    let routes = matches!(applies_to.as_str(), "ROUTE_CONFIGURATION" | "VIRTUAL_HOST" | "HTTP_ROUTE");
    let clusters = applies_to == "CLUSTER";
    let patched = at.key("patch", |p| p.is_present());
    if !patched || !(listeners || routes || clusters || applies_to == "EXTENSION_CONFIG") {
        return None;
    }
    at.key("match", |m| {
        let context = m.key("context", |c| c.string()).unwrap_or_else(|| "ANY".into());
        let applies = |word: &str| context == "ANY" || context == word;
        let port = |key: &str| m.key(key, |l| l.key("portNumber", |p| p.port())).filter(|p| *p != 0);
        let place = if listeners {
            port("listener").map_or(EnvoyPart::All, EnvoyPart::Port)
        } else if routes {
            port("routeConfiguration").map_or(EnvoyPart::All, EnvoyPart::Port)
        } else if clusters && m.key("cluster", |c| c.is_present()) {
            m.key("cluster", |c| EnvoyPart::Cluster {
                name: c.key("name", |v| v.text()),
                port: c.key("portNumber", |p| p.port()).filter(|p| *p != 0),
                subset: c.key("subset", |v| v.text()),
                host: c.key("service", |v| v.text()),
            })
        } else {
            EnvoyPart::All
        };
        let version = m.key("proxy", |p| p.key("proxyVersion", |v| v.string()));
        let (sidecars, gateways) = (applies("SIDECAR_OUTBOUND"), applies("GATEWAY"));
        (sidecars || gateways).then(|| EnvoyPatch {
            path: at.path(),
            sidecars,
            gateways,
            part: place,
            version: version.and_then(|v| RegexBuilder::new(&v).size_limit(1 << 20).build().ok()),
        })
    })
}
