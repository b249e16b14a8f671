//! Service Mesh Manager (`servicemesh.cisco.com`): `IstioMeshGateway`, a gateway by itself, and `IstioControlPlane`, an istiod.
//! What they become: the operator's `internal/components/istiomeshgateway` and `discovery`.

use arcstr::ArcStr;
use serde_json::{Value, json};

use crate::id::ObjectRef;
use crate::mesh::declared::{Declaration, Plan, Settings, text, texts};

/// The Service has the object's name; its pods carry `gateway-name` and `gateway-type`, which Gateways select.
pub(crate) fn gateway(object: &ObjectRef, value: &Value) -> Declaration {
    let (namespace, name) = (object.name.namespace.clone(), object.name.name.clone());
    let kind = text(value, "/spec/type").unwrap_or_else(|| "ingress".into());
    let selector: Vec<(ArcStr, ArcStr)> =
        vec![("app".into(), name.clone()), ("gateway-name".into(), name.clone()), ("gateway-type".into(), kind)];
    let mut labels: Vec<(ArcStr, ArcStr)> = vec![("release".into(), "istio-meshgateway".into())];
    if let (Some(plane), Some(at)) =
        (text(value, "/spec/istioControlPlane/name"), text(value, "/spec/istioControlPlane/namespace"))
    {
        labels.push(("istio.io/rev".into(), format!("{plane}.{at}").into()));
    }
    labels.extend(texts(value.pointer("/spec/deployment/podMetadata/labels")));
    let plan = Plan {
        service_account: name.clone(),
        namespace,
        name,
        selector,
        labels,
        ports: value.pointer("/spec/service/ports").cloned().unwrap_or_else(|| json!([])),
        role: "router",
        unprivileged: value.pointer("/spec/runAsRoot").and_then(Value::as_bool) != Some(true),
    };
    let none = value.pointer("/spec/deployment/replicas/max").and_then(Value::as_u64) == Some(0);
    Declaration {
        by: object.clone(),
        ports: ".spec.service.ports".into(),
        labels: ".metadata.name".into(),
        service: Some(plan.service()),
        pod: plan.pod(),
        runs: !none,
        implied: false,
    }
}

pub(crate) fn control_plane(object: &ObjectRef, value: &Value) -> Settings {
    Settings {
        by: object.clone(),
        mesh: value.pointer("/spec/meshConfig").cloned().unwrap_or(Value::Null),
        places: Vec::new(),
        below: ".spec.meshConfig".into(),
        root: object.name.namespace.clone(),
        version: text(value, "/spec/version").and_then(|v| v.parse().ok()),
        env: Vec::new(),
        installs: true,
    }
}
