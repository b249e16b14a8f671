//! What is missing of the objects: since when they may have changed without notice, and which cannot be read.

use arcstr::ArcStr;
use egress_core::id::WallTime;
use egress_core::world::{ClusterState, Gap, Incomplete};

use super::access::{self, Access};
use super::keep::Keeper;
use super::kinds::{KINDS, Kind, Part};
use super::plan::Pods;
use super::trouble::Trouble;

/// A watch that is shorter closed than this is only being opened again.
const HICCUP: i64 = 3_000_000_000;

impl Keeper {
    /// What is known about the cluster.
    pub(super) fn state(&self, name: &ArcStr, now: WallTime) -> ClusterState {
        ClusterState { name: name.clone(), stale: self.stale(now), gaps: self.gaps(now) }
    }

    /// Since when objects may have changed without notice.
    fn stale(&self, now: WallTime) -> Option<(WallTime, ArcStr)> {
        let mut since = self.silent.as_ref().map(|(at, why)| (*at, why.clone()));
        for watched in self.watches.values() {
            let Some(trouble @ (Trouble::NotAccepted(_) | Trouble::NotUnderstood(_) | Trouble::Unreachable(_))) =
                &watched.closed
            else {
                continue;
            };
            if since.as_ref().is_none_or(|(at, _)| watched.open_until < *at) {
                since = Some((watched.open_until, trouble.to_string()));
            }
        }
        since.filter(|(at, _)| now.0.saturating_sub(at.0) > HICCUP).map(|(at, why)| (at, why.into()))
    }

    fn gaps(&self, now: WallTime) -> Vec<Gap> {
        let mut out = Vec::new();
        for (kind, access) in &self.access {
            if let Access::Denied(verbs) = access {
                out.push(denied(kind, &verbs.join(" and "), self.has(kind), &[]));
            }
        }
        for name in &self.denied_names {
            if let Some(kind) = KINDS.iter().find(|k| k.part == Part::MeshConfig) {
                out.push(denied(kind, &format!("read ConfigMap {name}"), false, &[name]));
            }
        }
        for watched in self.watches.values().filter(|w| w.closed == Some(Trouble::Denied)) {
            let kind = watched.target.kind;
            if !out.iter().any(|gap| gap.kind == kind.kind) {
                out.push(denied(kind, "list and watch", self.has(kind), &[]));
            }
        }
        for watched in self.watches.values().filter(|w| !w.listed && w.closed != Some(Trouble::Denied)) {
            if now.0.saturating_sub(watched.open_until.0) > HICCUP {
                let kind = watched.target.kind;
                out.push(Gap {
                    kind: kind.kind.into(),
                    missing: Incomplete {
                        what: format!("{} have not arrived", kind.resource()),
                        affects: kind.affects.to_owned(),
                        fix: "wait, or see whether the API server is overloaded".to_owned(),
                    },
                });
            }
        }
        let istio = |kind: &&Kind| kind.group == "networking.istio.io";
        if !self.served.is_empty() && !self.served.iter().any(|(kind, _)| istio(kind)) {
            out.push(Gap {
                kind: "ServiceEntry".into(),
                missing: Incomplete {
                    what: "the cluster has none of Istio's kinds".to_owned(),
                    affects: "nothing can be registered, and no rule leads to a gateway".to_owned(),
                    fix: "see whether --context names the right cluster".to_owned(),
                },
            });
        }
        out.extend(self.node_gap());
        out
    }

    /// The node's name is nobody's.
    fn node_gap(&self) -> Option<Gap> {
        let Pods::OfNode(name) = &self.pods else { return None };
        let nodes = self.watches.values().find(|w| w.target.kind.kind == "Node" && w.listed)?;
        let known = nodes.keys.iter().any(|(_, node)| node == name.as_str());
        (!known).then(|| Gap {
            kind: "Pod".into(),
            missing: Incomplete {
                what: format!("the cluster has no Node {name}"),
                affects: "pods of this machine are not known: their flows are unknown".to_owned(),
                fix: "name the Node with --node (in a DaemonSet: EGRESS_TUI_NODE from spec.nodeName)".to_owned(),
            },
        })
    }
}

fn denied(kind: &'static Kind, verbs: &str, has: bool, names: &[&str]) -> Gap {
    let after = if has { "; the objects that were known before are used" } else { "" };
    Gap {
        kind: kind.kind.into(),
        missing: Incomplete {
            what: format!("no right to {verbs} {}{after}", kind.resource()),
            affects: kind.affects.to_owned(),
            fix: format!("add to the ClusterRole: {}", access::rule(kind, names)),
        },
    }
}
