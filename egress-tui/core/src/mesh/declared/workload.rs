//! Deployments (and their like) whose pods istiod's webhook turns into gateways.

use serde_json::Value;

use crate::id::ObjectRef;
use crate::mesh::declared::overlay::patch;
use crate::mesh::declared::{Declaration, text};

/// A gateway by the template that its pods ask for, or by what their proxy is told to be; `None` for any other workload.
pub(crate) fn gateway(object: &ObjectRef, value: &Value) -> Option<Declaration> {
    let template = value.pointer("/spec/template")?;
    let asks = text(template, "/metadata/annotations/inject.istio.io~1templates")
        .is_some_and(|t| t.split(',').any(|t| t.trim().ends_with("gateway")));
    let containers = template.pointer("/spec/containers").and_then(Value::as_array)?;
    let routes = |c: &Value| {
        let args = c.get("args").and_then(Value::as_array);
        c["name"] == "istio-proxy" && args.is_some_and(|a| a.iter().any(|a| a == "router"))
    };
    if !asks && !containers.iter().any(routes) {
        return None;
    }
    let mut pod = template.clone();
    patch(&mut pod, "metadata.name", &object.name.name.as_str().into());
    patch(&mut pod, "metadata.namespace", &object.name.namespace.as_str().into());
    let count = |field: &str| value.pointer(field).and_then(Value::as_u64);
    // one that was applied tells in its status how many pods it has
    let applied = count("/status/observedGeneration").is_some();
    Some(Declaration {
        by: object.clone(),
        ports: ".spec.template.spec.containers".into(),
        labels: ".spec.template.metadata.labels".into(),
        service: None,
        pod,
        runs: count("/spec/replicas") != Some(0) && !(applied && count("/status/replicas").unwrap_or(0) == 0),
        implied: false,
    })
}
