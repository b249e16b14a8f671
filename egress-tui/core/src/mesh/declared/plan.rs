//! What an object wants, as the manifests that its operator would make.

use arcstr::ArcStr;
use serde_json::{Map, Value, json};

/// A gateway on its way to a Service and a pod.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) namespace: ArcStr,
    /// Of the Service.
    pub(crate) name: ArcStr,
    /// What the Service selects.
    pub(crate) selector: Vec<(ArcStr, ArcStr)>,
    /// What its pods have beside that.
    pub(crate) labels: Vec<(ArcStr, ArcStr)>,
    /// `spec.ports` of the Service.
    pub(crate) ports: Value,
    /// `router` or `waypoint`.
    pub(crate) role: &'static str,
    /// May not bind ports below 1024.
    pub(crate) unprivileged: bool,
    pub(crate) service_account: ArcStr,
}

impl Plan {
    /// The Service.
    pub(crate) fn service(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name.as_str(), "namespace": self.namespace.as_str()},
            "spec": {"selector": object(&self.selector), "ports": self.ports},
        })
    }

    /// A pod.
    pub(crate) fn pod(&self) -> Value {
        let mut labels = object(&self.selector);
        labels.extend(object(&self.labels));
        let env = if self.unprivileged {
            json!([{"name": "ISTIO_META_UNPRIVILEGED_POD", "value": "true"}])
        } else {
            json!([])
        };
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name.as_str(), "namespace": self.namespace.as_str(), "labels": labels},
            "spec": {
                "serviceAccountName": self.service_account.as_str(),
                "containers": [{"name": "istio-proxy", "args": ["proxy", self.role], "env": env}],
            },
        })
    }
}

fn object(labels: &[(ArcStr, ArcStr)]) -> Map<String, Value> {
    labels.iter().map(|(k, v)| (k.to_string(), Value::from(v.as_str()))).collect()
}
