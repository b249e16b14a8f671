//! OpenShift Service Mesh: `Istio` of the Sail operator (3.x), whose values are the charts', and `ServiceMeshControlPlane` of
//! Maistra (1.x and 2.x), which has words of its own.

use arcstr::ArcStr;
use serde_json::{Value, json};

use crate::id::ObjectRef;
use crate::mesh::declared::overlay::patch;
use crate::mesh::declared::{Declaration, Declared, Plan, Settings, text, texts};
use crate::mesh::options::IstioVersion;
use crate::name::printable;

pub(crate) fn istio(object: &ObjectRef, value: &Value) -> Settings {
    Settings {
        by: object.clone(),
        mesh: value.pointer("/spec/values/meshConfig").cloned().unwrap_or(Value::Null),
        places: Vec::new(),
        below: ".spec.values.meshConfig".into(),
        root: text(value, "/spec/namespace").unwrap_or_else(|| "istio-system".into()),
        version: text(value, "/spec/version").and_then(|v| v.parse().ok()),
        env: texts(value.pointer("/spec/values/pilot/env")),
        installs: true,
    }
}

/// Istio's release in each release of Maistra.
const RELEASES: [(&str, u16); 9] = [
    ("v1.0", 1),
    ("v1.1", 4),
    ("v2.0", 6),
    ("v2.1", 9),
    ("v2.2", 12),
    ("v2.3", 14),
    ("v2.4", 16),
    ("v2.5", 18),
    ("v2.6", 20),
];

pub(crate) fn control_plane(declared: &mut Declared, object: &ObjectRef, value: &Value) {
    let version = text(value, "/spec/version").unwrap_or_default();
    let release =
        RELEASES.iter().find(|(v, _)| *v == version).map(|(_, minor)| IstioVersion { major: 1, minor: *minor });
    let mut mesh = value.pointer("/spec/techPreview/meshConfig").filter(|m| m.is_object()).cloned();
    let mut places = Vec::new();
    // Maistra 1.x carries the charts' values below spec.istio
    let outbound = [
        (
            "/spec/proxy/networking/trafficControl/outbound/policy",
            ".spec.proxy.networking.trafficControl.outbound.policy",
        ),
        ("/spec/istio/global/outboundTrafficPolicy/mode", ".spec.istio.global.outboundTrafficPolicy.mode"),
    ];
    let mut place = ArcStr::from(outbound[0].1);
    let mut mode: ArcStr = "ALLOW_ANY".into();
    for (pointer, field) in outbound {
        if let Some(found) = text(value, pointer) {
            (mode, place) = (found, field.into());
        }
    }
    let settings = mesh.get_or_insert_with(|| json!({}));
    if settings.get("outboundTrafficPolicy").is_none() {
        settings["outboundTrafficPolicy"] = json!({"mode": mode.as_str()});
        places.push(("outboundTrafficPolicy".into(), place));
    }
    if let Some(domain) = text(value, "/spec/security/trust/domain") {
        settings["trustDomain"] = domain.as_str().into();
        places.push(("trustDomain".into(), ".spec.security.trust.domain".into()));
    }
    // MAISTRA-2528: proxies answer DNS themselves
    if release.is_some_and(|r| r.minor >= 9) && settings.pointer("/defaultConfig/proxyMetadata").is_none() {
        let metadata = json!({"ISTIO_META_DNS_CAPTURE": "true", "ISTIO_META_DNS_AUTO_ALLOCATE": "true"});
        patch(settings, "defaultConfig.proxyMetadata", &metadata);
    }
    declared.settings.push(Settings {
        by: object.clone(),
        mesh: mesh.unwrap_or(Value::Null),
        places,
        below: ".spec.techPreview.meshConfig".into(),
        root: object.name.namespace.clone(),
        version: release,
        env: texts(value.pointer("/spec/runtime/components/pilot/container/env")),
        installs: true,
    });
    gateways(declared, object, value);
}

fn gateways(declared: &mut Declared, object: &ObjectRef, value: &Value) {
    let off = |v: Option<&Value>| v.and_then(|v| v.get("enabled")).and_then(Value::as_bool) == Some(false);
    let older = value.pointer("/spec/istio/gateways");
    let all = value.pointer("/spec/gateways");
    if off(all) || off(older) {
        return;
    }
    for (key, old, name) in [
        ("egress", "istio-egressgateway", "istio-egressgateway"),
        ("ingress", "istio-ingressgateway", "istio-ingressgateway"),
    ] {
        let own = all.and_then(|a| a.get(key));
        let legacy = older.and_then(|a| a.get(old));
        if !off(own) && !off(legacy) {
            let istio = name.strip_prefix("istio-").unwrap_or(name);
            let field =
                if legacy.is_some() { format!(".spec.istio.gateways.{old}") } else { format!(".spec.gateways.{key}") };
            let ports = legacy.and_then(|l| l.get("ports"));
            declared.gateways.push(gateway(object, own.unwrap_or(&Value::Null), name, (name, istio), (&field, ports)));
        }
    }
    for key in ["additionalEgress", "additionalIngress"] {
        for (name, own) in all.and_then(|a| a.get(key)).and_then(Value::as_object).into_iter().flatten() {
            if !off(Some(own)) {
                let field = format!(".spec.gateways.{key}.{}", printable(name));
                declared.gateways.push(gateway(object, own, name, (name, name), (&field, None)));
            }
        }
    }
}

fn gateway(
    object: &ObjectRef,
    own: &Value,
    name: &str,
    (app, istio): (&str, &str),
    (field, ports): (&str, Option<&Value>),
) -> Declaration {
    let namespace = text(own, "/namespace").unwrap_or_else(|| object.name.namespace.clone());
    let mut selector: Vec<(ArcStr, ArcStr)> = vec![
        ("app".into(), app.into()),
        ("istio".into(), istio.into()),
        ("maistra.io/gateway".into(), format!("{name}.{namespace}").into()),
    ];
    for (key, wanted) in texts(own.pointer("/service/metadata/labels")) {
        selector.retain(|(k, _)| *k != key);
        selector.push((key, wanted));
    }
    let declared = own.pointer("/service/ports");
    let plan = Plan {
        namespace,
        name: name.into(),
        service_account: format!("{name}-service-account").into(),
        selector,
        labels: vec![("maistra-control-plane".into(), object.name.namespace.clone())],
        ports: declared.or(ports).cloned().unwrap_or_else(|| {
            json!([
                {"name": "http2", "port": 80, "targetPort": 8080, "protocol": "TCP"},
                {"name": "https", "port": 443, "targetPort": 8443, "protocol": "TCP"},
            ])
        }),
        role: "router",
        unprivileged: true,
    };
    let none = own.pointer("/runtime/deployment/replicas").and_then(Value::as_u64) == Some(0);
    Declaration {
        by: object.clone(),
        ports: if declared.is_some() { format!("{field}.service.ports").into() } else { field.into() },
        labels: field.into(),
        service: Some(plan.service()),
        pod: plan.pod(),
        runs: !none,
        implied: false,
    }
}
