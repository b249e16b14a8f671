//! AuthorizationPolicy, PeerAuthentication and EnvoyFilter, as far as they stop, encrypt or taint an outbound connection.

use arcstr::ArcStr;

use crate::mesh::object::Meta;
use crate::mesh::object::read::{At, Labels};

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

/// An EnvoyFilter: which proxies' configuration it may change.
#[derive(Debug, Clone)]
pub(crate) struct EnvoyFilter {
    pub(crate) meta: Meta,
    pub(crate) selector: Labels,
    /// Applies to outbound listeners of sidecars.
    pub(crate) sidecars: bool,
    /// Applies to gateways.
    pub(crate) gateways: bool,
}

impl EnvoyFilter {
    pub(crate) fn read(meta: Meta, at: &At<'_>) -> Self {
        at.key("spec", |s| {
            let contexts: Vec<ArcStr> =
                s.key("configPatches", |l| l.each(|p| p.key("match", |m| m.key("context", |c| c.text()))));
            let applies = |word: &str| contexts.iter().any(|c| c.is_empty() || c == "ANY" || c == word);
            Self {
                selector: s.key("workloadSelector", |w| w.key("labels", |l| l.labels())),
                sidecars: applies("SIDECAR_OUTBOUND"),
                gateways: applies("GATEWAY"),
                meta,
            }
        })
    }
}
