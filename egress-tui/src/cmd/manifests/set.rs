//! The objects that run the program on nodes: one description, printed in several forms.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cli::{Common, Manifests};
use crate::source::kube::{KINDS, Part};

/// The namespace unless another one is named.
const NAMESPACE: &str = "egress-tui";

/// The label of nodes that carry egress gateways, for `--nodes gateway`.
pub(super) const GATEWAY_NODES: &str = "node-role.kubernetes.io/egress";

/// What is asked for.
pub(super) struct Set {
    pub(super) namespace: String,
    pub(super) image: String,
    /// Label and value that nodes must have; `None`: all nodes.
    pub(super) nodes: Option<(String, String)>,
    revisions: Vec<String>,
}

impl Set {
    pub(super) fn new(common: &Common, options: &Manifests) -> Result<Self, String> {
        let nodes = match options.nodes.as_str() {
            "all" => None,
            "gateway" => Some((GATEWAY_NODES.to_owned(), String::new())),
            label => {
                let (key, value) = label.split_once('=').unwrap_or((label, ""));
                if !is_label(key, true) || !is_label(value, false) {
                    return Err(format!("--nodes: '{label}' is neither gateway nor all nor a label KEY=VALUE"));
                }
                Some((key.to_owned(), value.to_owned()))
            }
        };
        let namespace = common.namespace.clone().unwrap_or_else(|| NAMESPACE.to_owned());
        for name in options.revision.iter().chain([&namespace]) {
            if !is_name(name) {
                return Err(format!("'{name}' is no name of a namespace or a revision"));
            }
        }
        if options.image.is_empty() || options.image.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("--image: that is no name of an image".to_owned());
        }
        Ok(Self { namespace, image: options.image.clone(), nodes, revisions: options.revision.clone() })
    }

    /// A comment for whoever reads the printed set.
    pub(super) fn about(&self) -> String {
        let nodes = match &self.nodes {
            None => "every node".to_owned(),
            Some((key, value)) => {
                format!("nodes with the label {key}={value}  (kubectl label node NAME {key}={value})")
            }
        };
        format!(
            "# egress-tui {} on {nodes}. It reads, and changes nothing.\n\
             # kubectl -n {} exec -it ds/egress-tui -- egress-tui    is the dashboard of a node; what is wrong stands in the pods' logs.\n",
            env!("CARGO_PKG_VERSION"),
            self.namespace
        )
    }

    pub(super) fn objects(&self) -> Vec<Value> {
        let metadata = |namespaced: bool| {
            let mut metadata = json!({"name": "egress-tui", "labels": labels()});
            if namespaced {
                metadata["namespace"] = self.namespace.as_str().into();
            }
            metadata
        };
        vec![
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": {
                "app.kubernetes.io/name": "egress-tui",
                // Host paths and capabilities are what the stricter levels refuse.
                "pod-security.kubernetes.io/enforce": "privileged",
                // The program is no part of the mesh that it looks at.
                "istio-injection": "disabled"}}}),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(true)}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata(false), "rules": self.rules()}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": metadata(false),
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "egress-tui"},
                "subjects": [{"kind": "ServiceAccount", "name": "egress-tui", "namespace": self.namespace}]}),
            json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata(true), "spec": {
                "selector": {"matchLabels": {"app.kubernetes.io/name": "egress-tui"}},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}},
                "template": {"metadata": {"labels": labels()}, "spec": self.pod()}}}),
        ]
    }

    /// Everything that is read, and only with the verbs that read.
    fn rules(&self) -> Vec<Value> {
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for kind in KINDS.iter().filter(|k| k.part != Part::MeshConfig) {
            groups.entry(kind.group).or_default().push(kind.plural);
        }
        let verbs = ["get", "list", "watch"];
        let mut rules: Vec<Value> = groups
            .into_iter()
            .map(|(group, plurals)| json!({"apiGroups": [group], "resources": plurals, "verbs": verbs}))
            .collect();
        let names = std::iter::once("istio".to_owned()).chain(self.revisions.iter().map(|r| format!("istio-{r}")));
        let names: Vec<String> = names.collect();
        rules.push(json!({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": names, "verbs": verbs}));
        rules
    }

    pub(super) fn pod(&self) -> Value {
        let mut pod = json!({
            "serviceAccountName": "egress-tui",
            "terminationGracePeriodSeconds": 5,
            // Nodes that are set aside for gateways are tainted, as a rule.
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "egress-tui",
                "image": self.image,
                "args": ["watch", "-o", "jsonl"],
                "env": [
                    {"name": "EGRESS_TUI_NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                    {"name": "EGRESS_TUI_PROC", "value": "/host/proc"},
                    {"name": "EGRESS_TUI_CGROUP_ROOT", "value": "/host/cgroup"}
                ],
                // Measured (tests/cluster_size_live.rs): with 10 000 entries, and 100 pods on the node of 20 000 in the cluster, 107 MiB and
                // 1 % of a processor; a flow takes 1 KiB more, and traffic what it takes.
                "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
                "securityContext": {
                    "runAsUser": 0,
                    "privileged": false,
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    // Programs, maps and links; attaching to cgroups; helpers that read kernel memory; cgroups by their ids.
                    "capabilities": {"drop": ["ALL"], "add": ["BPF", "NET_ADMIN", "PERFMON", "DAC_READ_SEARCH"]},
                    "seccompProfile": {"type": "RuntimeDefault"}
                },
                "volumeMounts": [
                    {"name": "proc", "mountPath": "/host/proc", "readOnly": true},
                    {"name": "cgroup", "mountPath": "/host/cgroup", "readOnly": true}
                ]
            }],
            "volumes": [
                {"name": "proc", "hostPath": {"path": "/proc", "type": "Directory"}},
                {"name": "cgroup", "hostPath": {"path": "/sys/fs/cgroup", "type": "Directory"}}
            ]
        });
        if let Some((key, value)) = &self.nodes {
            pod["nodeSelector"] = json!({ key: value });
        }
        pod
    }
}

fn labels() -> Value {
    json!({"app.kubernetes.io/name": "egress-tui", "app.kubernetes.io/version": env!("CARGO_PKG_VERSION"), "sidecar.istio.io/inject": "false"})
}

/// A DNS label.
fn is_name(text: &str) -> bool {
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(inside) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_label(text: &str, key: bool) -> bool {
    let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.') || (key && b == b'/');
    (!key || !text.is_empty()) && text.len() <= 253 && text.bytes().all(inside)
}
