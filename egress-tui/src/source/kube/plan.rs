//! Which watches there should be: by what is served, by what may be read, and by what the objects that are known ask for.

use std::collections::BTreeSet;

use arcstr::ArcStr;
use serde_json::Value;

use super::kinds::{Kind, Part};
use super::watch::Target;

/// Which pods are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pods {
    /// Those of a node, and those that route wherever they are.
    OfNode(ArcStr),
    /// All.
    All,
}

/// Selectors of pods that route, whatever the objects say: gateways that Istio manages, Istio's charts, control planes.
const ROUTERS: [&str; 3] =
    ["gateway.networking.k8s.io/gateway-name", "istio in (egressgateway,ingressgateway,eastwestgateway)", "app=istiod"];

/// Beyond so many selectors one watch of all pods is cheaper.
const MOST_SELECTORS: usize = 24;

/// Name of the ConfigMap of the mesh; those of revisions have the revision behind it.
pub(super) const MESH_CONFIG: &str = "istio";

/// What the objects ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// Label selectors of gateways.
    pub(super) selectors: BTreeSet<String>,
    /// Revisions of control planes, but for the default one.
    pub(super) revisions: BTreeSet<String>,
}

/// The watches of one kind.
pub(super) fn targets(kind: &'static Kind, version: &str, pods: &Pods, wishes: &Wishes) -> Vec<Target> {
    let target =
        |fields: Option<String>, labels: Option<String>| Target { kind, version: version.to_owned(), fields, labels };
    match (kind.part, pods) {
        (Part::Pods, Pods::OfNode(node)) => {
            let chosen = ROUTERS.iter().map(|s| (*s).to_owned()).chain(wishes.selectors.iter().cloned());
            let chosen: BTreeSet<String> = chosen.collect();
            if chosen.len() > MOST_SELECTORS {
                return vec![target(None, None)];
            }
            let own = target(Some(format!("spec.nodeName={node}")), None);
            std::iter::once(own).chain(chosen.into_iter().map(|s| target(None, Some(s)))).collect()
        }
        (Part::MeshConfig, _) => {
            let names = std::iter::once(MESH_CONFIG.to_owned())
                .chain(wishes.revisions.iter().map(|revision| format!("{MESH_CONFIG}-{revision}")));
            names.map(|name| target(Some(format!("metadata.name={name}")), None)).collect()
        }
        _ => vec![target(None, None)],
    }
}

impl Wishes {
    /// What one object asks for.
    pub(super) fn of(kind: &Kind, object: &Value) -> Self {
        let mut out = Self::default();
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        match (kind.group, kind.kind) {
            ("networking.istio.io", "Gateway") => {
                let labels = object.pointer("/spec/selector").and_then(Value::as_object).into_iter().flatten();
                let pairs: Option<Vec<String>> = labels
                    .map(|(key, value)| Some((key, value.as_str()?)))
                    .map(|pair| pair.filter(|(key, value)| is_label(key, value)).map(|(k, v)| format!("{k}={v}")))
                    .collect();
                // An empty one asks for every gateway: those that Istio knows are there anyway.
                out.selectors.extend(pairs.filter(|p| !p.is_empty()).map(|p| p.join(",")));
            }
            ("", "Namespace") => out.revision(text("/metadata/labels/istio.io~1rev")),
            ("", "Pod") if text("/metadata/labels/app") == "istiod" => {
                out.revision(text("/metadata/labels/istio.io~1rev"));
            }
            _ => {}
        }
        out
    }

    fn revision(&mut self, name: &str) {
        // Names of revisions are DNS labels; anything else names no ConfigMap.
        let is_name =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if is_name && name != "default" && name.len() <= 63 {
            self.revisions.insert(name.to_owned());
        }
    }

    /// Asks for nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.selectors.is_empty() && self.revisions.is_empty()
    }
}

/// Kubernetes' syntax of labels: a server refuses a selector of anything else.
fn is_label(key: &str, value: &str) -> bool {
    let word = |text: &str, longest: usize| {
        let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        bytes.len() <= longest
            && ends(bytes.first())
            && ends(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let key = match key.split_once('/') {
        Some((prefix, name)) => word(prefix, 253) && word(name, 63),
        None => word(key, 63),
    };
    key && (value.is_empty() || word(value, 63))
}

#[cfg(test)]
mod tests {
    use super::super::kinds::KINDS;
    use super::*;
    use serde_json::json;

    fn kind(group: &str, name: &str) -> &'static Kind {
        KINDS.iter().find(|k| k.group == group && k.kind == name).expect("in the table")
    }

    #[test]
    fn pods_of_a_node_are_watched_by_its_name_and_gateways_by_their_labels() {
        let mut wishes = Wishes::default();
        wishes.selectors.insert("app=custom".to_owned());
        let all = targets(kind("", "Pod"), "v1", &Pods::OfNode("w1".into()), &wishes);
        assert_eq!(all[0].fields.as_deref(), Some("spec.nodeName=w1"));
        assert!(all.iter().any(|t| t.labels.as_deref() == Some("app=custom")));
        assert!(all.iter().all(|t| t.fields.is_some() || t.labels.is_some()));
        assert_eq!(targets(kind("", "Pod"), "v1", &Pods::All, &wishes).len(), 1);
    }

    #[test]
    fn too_many_selectors_are_one_watch_of_all() {
        let selectors = (0..100).map(|n| format!("app=g{n}")).collect();
        let wishes = Wishes { selectors, ..Wishes::default() };
        let all = targets(kind("", "Pod"), "v1", &Pods::OfNode("w1".into()), &wishes);
        assert_eq!((all.len(), all[0].fields.as_deref(), all[0].labels.as_deref()), (1, None, None));
    }

    #[test]
    fn config_maps_are_those_of_the_mesh_and_its_revisions_only() {
        let namespace = json!({"metadata": {"labels": {"istio.io/rev": "canary"}}});
        let wishes = Wishes::of(kind("", "Namespace"), &namespace);
        let all = targets(kind("", "ConfigMap"), "v1", &Pods::All, &wishes);
        let fields: Vec<_> = all.iter().filter_map(|t| t.fields.as_deref()).collect();
        assert_eq!(fields, ["metadata.name=istio", "metadata.name=istio-canary"]);
    }

    #[test]
    fn hostile_selectors_and_revisions_are_not_asked_for() {
        for selector in [json!({"a b": "c"}), json!({"app": "x,y in (z)"}), json!({"app": 3}), json!({})] {
            let gateway = json!({"spec": {"selector": selector}});
            assert!(Wishes::of(kind("networking.istio.io", "Gateway"), &gateway).is_empty(), "{gateway}");
        }
        let namespace = json!({"metadata": {"labels": {"istio.io/rev": "a,metadata.name!=b"}}});
        assert!(Wishes::of(kind("", "Namespace"), &namespace).is_empty());
    }
}
