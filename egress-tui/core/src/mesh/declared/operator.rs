//! `IstioOperator` (`install.istio.io`): gateways of `spec.components`, each with the overlays that change its manifests, and mesh
//! settings (Istio: `operator/pkg/render`, `manifests/charts/gateways`).

use arcstr::ArcStr;
use serde_json::{Value, json};

use crate::id::ObjectRef;
use crate::mesh::declared::overlay::patch;
use crate::mesh::declared::{Declaration, Declared, Plan, Settings, text, texts};
use crate::mesh::object::read::At;

/// What a chart calls a sort of gateway.
struct Chart {
    /// Below `spec.components`.
    component: &'static str,
    /// Below `spec.values.gateways`, and the name of a gateway that has none.
    name: &'static str,
    /// The label `istio`.
    istio: &'static str,
}

const CHARTS: [Chart; 2] = [
    Chart { component: "egressGateways", name: "istio-egressgateway", istio: "egressgateway" },
    Chart { component: "ingressGateways", name: "istio-ingressgateway", istio: "ingressgateway" },
];

pub(crate) fn read(declared: &mut Declared, object: &ObjectRef, value: &Value, at: &At<'_>) {
    at.key("spec", |spec| {
        for chart in &CHARTS {
            spec.key(chart.component, |g| {
                if g.is_present() {
                    g.note(format!("is no field: gateways stand in spec.components.{}", chart.component));
                }
            });
        }
    });
    let profile = text(value, "/spec/profile").unwrap_or_else(|| "default".into());
    for chart in &CHARTS {
        let pointer = format!("/spec/components/{}", chart.component);
        let listed = value.pointer(&pointer).and_then(Value::as_array);
        for (n, entry) in listed.into_iter().flatten().enumerate() {
            if entry.get("enabled").and_then(Value::as_bool) == Some(true) {
                declared.gateways.push(gateway(object, value, chart, Some(n), entry, at));
            }
        }
        let by_profile = match chart.component {
            "egressGateways" => profile == "demo",
            _ => matches!(profile.as_str(), "default" | "demo"),
        };
        let named = |e: &Value| e.get("name").and_then(Value::as_str).unwrap_or(chart.name) == chart.name;
        if by_profile && !listed.is_some_and(|l| l.iter().any(named)) {
            declared.gateways.push(gateway(object, value, chart, None, &Value::Null, at));
        }
    }
    declared.settings.push(settings(object, value, profile != "empty"));
}

fn home(value: &Value) -> ArcStr {
    text(value, "/spec/namespace")
        .or_else(|| text(value, "/spec/values/global/istioNamespace"))
        .unwrap_or_else(|| "istio-system".into())
}

fn gateway(
    object: &ObjectRef,
    value: &Value,
    chart: &Chart,
    place: Option<usize>,
    entry: &Value,
    at: &At<'_>,
) -> Declaration {
    let values = value.pointer(&format!("/spec/values/gateways/{}", chart.name)).unwrap_or(&Value::Null);
    let name = text(entry, "/name").or_else(|| text(values, "/name")).unwrap_or_else(|| chart.name.into());
    let mut selector: Vec<(ArcStr, ArcStr)> =
        vec![("app".into(), chart.name.into()), ("istio".into(), chart.istio.into())];
    for (key, wanted) in texts(values.get("labels")).into_iter().chain(texts(entry.get("label"))) {
        match selector.iter_mut().find(|(k, _)| *k == key) {
            Some((_, known)) => *known = wanted,
            None => selector.push((key, wanted)),
        }
    }
    let own = entry.pointer("/k8s/service/ports");
    let ports = own.or_else(|| values.get("ports")).cloned().unwrap_or_else(|| {
        json!([
            {"name": "http2", "port": 80, "targetPort": 8080, "protocol": "TCP"},
            {"name": "https", "port": 443, "targetPort": 8443, "protocol": "TCP"},
        ])
    });
    let plan = Plan {
        namespace: text(entry, "/namespace").unwrap_or_else(|| home(value)),
        service_account: format!("{name}-service-account").into(),
        labels: vec![("service.istio.io/canonical-name".into(), name.clone())],
        name,
        selector,
        ports,
        role: "router",
        unprivileged: values.get("runAsRoot").and_then(Value::as_bool) != Some(true),
    };
    let (mut service, mut pod) = (plan.service(), plan.pod());
    for (key, wanted) in texts(entry.pointer("/k8s/podAnnotations")) {
        pod["metadata"]["annotations"][key.as_str()] = wanted.as_str().into();
    }
    if let Some(env) = entry.pointer("/k8s/env").and_then(Value::as_array)
        && let Some(known) = pod["spec"]["containers"][0]["env"].as_array_mut()
    {
        known.extend(env.iter().cloned());
    }
    if let Some(selector) = entry.pointer("/k8s/service/selector").filter(|s| s.is_object()) {
        service["spec"]["selector"] = selector.clone();
    }
    let mut replicas = entry.pointer("/k8s/replicaCount").cloned();
    overlays(entry, &plan.name, &mut service, &mut pod, &mut replicas, &|n, p, says| {
        note(at, chart, place.unwrap_or_default(), (n, p), says);
    });
    let below = match place {
        Some(n) => format!(".spec.components.{}[{n}]", chart.component),
        None => ".spec.profile".to_owned(),
    };
    let leaf = |found: bool, leaf: &str| match (place, found) {
        (Some(_), true) => format!("{below}.{leaf}"),
        (Some(_), false) => format!("{below}.name"),
        (None, _) => below.clone(),
    };
    Declaration {
        by: object.clone(),
        ports: leaf(own.is_some(), "k8s.service.ports").into(),
        labels: leaf(entry.get("label").is_some(), "label").into(),
        service: Some(service),
        pod,
        runs: replicas.as_ref().and_then(Value::as_u64) != Some(0),
        implied: place.is_none(),
    }
}

/// Applies patches for the gateway's Service and Deployment.
fn overlays(
    entry: &Value,
    name: &str,
    service: &mut Value,
    pod: &mut Value,
    replicas: &mut Option<Value>,
    note: &dyn Fn(usize, usize, String),
) {
    let list = |v: Option<&Value>| v.and_then(Value::as_array).cloned().unwrap_or_default();
    for (n, overlay) in list(entry.pointer("/k8s/overlays")).iter().enumerate() {
        if text(overlay, "/name").as_deref() != Some(name) {
            continue;
        }
        for (p, change) in list(overlay.get("patches")).iter().enumerate() {
            let path = text(change, "/path").unwrap_or_default();
            let wanted = change.get("value").unwrap_or(&Value::Null);
            let done = match overlay.get("kind").and_then(Value::as_str) {
                Some("Service") => patch(service, &path, wanted),
                Some("Deployment") => {
                    let mut deployment = json!({"spec": {"replicas": replicas, "template": pod}});
                    let done = patch(&mut deployment, &path, wanted);
                    let mut taken = |field: &str| deployment.pointer_mut(field).map(Value::take).unwrap_or_default();
                    *pod = taken("/spec/template");
                    *replicas = Some(taken("/spec/replicas"));
                    done
                }
                _ => true,
            };
            if !done {
                note(n, p, format!("{path:?} leads nowhere in the manifest that it patches"));
            }
        }
    }
}

/// Says it at the path of a patch.
fn note(at: &At<'_>, chart: &Chart, place: usize, (overlay, patch): (usize, usize), says: String) {
    at.key("spec", |s| {
        s.key("components", |c| {
            c.key(chart.component, |g| {
                g.item(place, |e| {
                    e.key("k8s", |k| {
                        k.key("overlays", |o| {
                            o.item(overlay, |o| {
                                o.key("patches", |l| l.item(patch, |p| p.key("path", |p| p.note(says))));
                            });
                        });
                    });
                });
            });
        });
    });
}

/// `spec.meshConfig` and `spec.values.meshConfig`: where both have a key, the values win.
fn settings(object: &ObjectRef, value: &Value, installs: bool) -> Settings {
    let mut mesh = value.pointer("/spec/meshConfig").filter(|m| m.is_object()).cloned().unwrap_or_else(|| json!({}));
    let mut places = Vec::new();
    for (key, wanted) in value.pointer("/spec/values/meshConfig").and_then(Value::as_object).into_iter().flatten() {
        mesh[key.as_str()] = wanted.clone();
        places.push((key.as_str().into(), format!(".spec.values.meshConfig.{key}").into()));
    }
    if text(value, "/spec/profile").is_some_and(|p| p == "preview")
        && mesh.pointer("/defaultConfig/proxyMetadata").is_none()
    {
        patch(&mut mesh, "defaultConfig.proxyMetadata", &json!({"ISTIO_META_DNS_CAPTURE": "true"}));
    }
    let mut env = texts(value.pointer("/spec/values/pilot/env"));
    for item in value.pointer("/spec/components/pilot/k8s/env").and_then(Value::as_array).into_iter().flatten() {
        env.extend(text(item, "/name").zip(text(item, "/value")));
    }
    let tag = text(value, "/spec/tag").or_else(|| text(value, "/spec/values/global/tag"));
    Settings {
        by: object.clone(),
        mesh,
        places,
        below: ".spec.meshConfig".into(),
        root: home(value),
        version: tag.and_then(|t| t.parse().ok()),
        env,
        installs,
    }
}
