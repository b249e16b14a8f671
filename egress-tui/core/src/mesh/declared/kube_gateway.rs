//! Gateways of the Gateway API: istiod makes a Deployment and a Service for each (`gatewaycommon`, the templates `kube-gateway` and
//! `waypoint`).

use arcstr::ArcStr;
use serde_json::{Value, json};

use crate::mesh::declared::{Declaration, Plan};
use crate::mesh::gatewayapi::{KubeGateway, Objects};

pub(crate) fn gateways(api: &Objects) -> Vec<Declaration> {
    api.gateways().filter_map(|g| gateway(api, g)).collect()
}

/// `NAME-CLASS` for a gateway, `NAME` for a waypoint; ports and target ports are those of the listeners.
fn gateway(api: &Objects, gateway: &KubeGateway) -> Option<Declaration> {
    let waypoint = api.is_waypoint(gateway);
    if !(waypoint || api.is_ours(gateway)) || !gateway.is_managed() {
        return None;
    }
    let controller = if waypoint { "istio.io-mesh-controller" } else { "istio.io-gateway-controller" };
    let name = gateway.deployed_name(waypoint);
    let listeners = gateway.listeners().map(|(name, port, protocol)| {
        json!({
            "name": name.as_str(),
            "port": port,
            "targetPort": port,
            "appProtocol": protocol.to_ascii_lowercase(),
        })
    });
    let status = json!({"name": "status-port", "port": 15021, "targetPort": 15021, "appProtocol": "tcp"});
    let plan = Plan {
        namespace: gateway.meta.namespace().clone(),
        service_account: name.clone(),
        name,
        selector: vec![("gateway.networking.k8s.io/gateway-name".into(), gateway.meta.name().clone())],
        labels: vec![
            ("gateway.networking.k8s.io/gateway-class-name".into(), gateway.class().clone()),
            ("gateway.istio.io/managed".into(), ArcStr::from(controller)),
        ]
        .into_iter()
        .chain(gateway.wanted_labels().iter().cloned())
        .collect(),
        ports: Value::Array(std::iter::once(status).chain(listeners).collect()),
        role: if waypoint { "waypoint" } else { "router" },
        unprivileged: false,
    };
    Some(Declaration {
        by: gateway.meta.object.clone(),
        ports: ".spec.listeners".into(),
        labels: ".metadata.name".into(),
        service: Some(plan.service()),
        pod: plan.pod(),
        runs: true,
        implied: false,
    })
}
