//! What is kept of an object that arrives: the fields that decide (semantics §1.1), and nothing that somebody would not want to
//! stand in a recording, such as the environment of applications.

use serde_json::{Map, Value};

/// Annotations of these owners decide something; of others none is kept.
const OWNERS: [&str; 3] = ["istio.io", "gateway.networking.k8s.io", "openshift.io/sa.scc"];

/// An annotation that is longer decides nothing that could be shown.
const LONGEST: usize = 16 << 10;

/// Containers of the mesh, whose arguments and environment decide; those of applications are not kept.
const OURS: [&str; 6] = ["istio-proxy", "istio-init", "istio-validation", "enable-core-dump", "discovery", "istio-cni"];

/// Trims an object of a kind. `api_version` and `kind` are written into it: items of lists come without.
pub(super) fn trim(mut object: Value, api_version: &str, kind: &str) -> Value {
    let Value::Object(whole) = &mut object else { return object };
    let mut out = Map::new();
    out.insert("apiVersion".to_owned(), api_version.into());
    out.insert("kind".to_owned(), kind.into());
    out.insert("metadata".to_owned(), metadata(whole.remove("metadata")));
    let (spec, status) = (whole.remove("spec"), whole.remove("status"));
    let spec = match kind {
        "Pod" => spec.map(pod_spec),
        "Node" => keep(spec, &["podCIDR", "podCIDRs"]),
        "Namespace" | "CustomResourceDefinition" => None,
        _ => spec,
    };
    let status = match kind {
        "Pod" => status.map(pod_status),
        "Node" | "ServiceEntry" | "Gateway" => keep(status, &["addresses"]),
        _ => None,
    };
    for (name, part) in [("spec", spec), ("status", status)] {
        if let Some(part) = part.filter(|p| !p.as_object().is_some_and(Map::is_empty)) {
            out.insert(name.to_owned(), part);
        }
    }
    match kind {
        "EndpointSlice" => {
            for name in ["addressType", "ports"] {
                out.extend(whole.remove_entry(name));
            }
            out.extend(whole.remove("endpoints").map(|e| ("endpoints".to_owned(), each(e, endpoint))));
        }
        "ConfigMap" => {
            out.extend(keep(whole.remove("data"), &["mesh", "meshNetworks"]).map(|d| ("data".to_owned(), d)));
        }
        _ => {}
    }
    Value::Object(out)
}

/// The fields of an object that have these names.
fn keep(object: Option<Value>, names: &[&str]) -> Option<Value> {
    let Value::Object(mut all) = object? else { return None };
    Some(Value::Object(names.iter().filter_map(|name| all.remove_entry(*name)).collect()))
}

/// Each element of a list, changed.
fn each(list: Value, change: impl Fn(Value) -> Value) -> Value {
    match list {
        Value::Array(items) => Value::Array(items.into_iter().map(change).collect()),
        other => other,
    }
}

fn metadata(metadata: Option<Value>) -> Value {
    let names = ["name", "namespace", "uid", "creationTimestamp", "labels", "annotations", "ownerReferences"];
    let Some(Value::Object(mut out)) = keep(metadata, &names) else { return Value::Object(Map::new()) };
    if let Some(Value::Object(annotations)) = out.get_mut("annotations") {
        annotations.retain(|key, value| {
            OWNERS.iter().any(|owner| key.contains(owner)) && value.as_str().is_none_or(|v| v.len() <= LONGEST)
        });
        if annotations.is_empty() {
            out.remove("annotations");
        }
    }
    if let Some(owners) = out.remove("ownerReferences") {
        let owner = |o| keep(Some(o), &["kind", "name", "controller"]).unwrap_or_default();
        out.insert("ownerReferences".to_owned(), each(owners, owner));
    }
    Value::Object(out)
}

fn endpoint(endpoint: Value) -> Value {
    let Some(Value::Object(mut out)) = keep(Some(endpoint), &["addresses", "conditions", "targetRef"]) else {
        return Value::Null;
    };
    for (name, kept) in [("conditions", &["ready"][..]), ("targetRef", &["kind", "name"])] {
        if let Some(part) = keep(out.remove(name), kept) {
            out.insert(name.to_owned(), part);
        }
    }
    Value::Object(out)
}

fn pod_spec(spec: Value) -> Value {
    let names = [
        "nodeName",
        "serviceAccountName",
        "hostNetwork",
        "securityContext",
        "initContainers",
        "containers",
        "ephemeralContainers",
    ];
    let Some(Value::Object(mut out)) = keep(Some(spec), &names) else { return Value::Null };
    if let Some(context) = keep(out.remove("securityContext"), &["runAsUser", "runAsGroup"])
        && context.as_object().is_some_and(|c| !c.is_empty())
    {
        out.insert("securityContext".to_owned(), context);
    }
    for name in ["initContainers", "containers", "ephemeralContainers"] {
        if let Some(list) = out.remove(name) {
            out.insert(name.to_owned(), each(list, container));
        }
    }
    Value::Object(out)
}

fn container(container: Value) -> Value {
    let ours = container.get("name").and_then(Value::as_str).is_some_and(|name| OURS.contains(&name));
    let mut names = vec!["name", "ports", "securityContext", "restartPolicy"];
    if ours {
        names.extend(["image", "args", "env"]);
    }
    let Some(Value::Object(mut out)) = keep(Some(container), &names) else { return Value::Null };
    if let Some(context) = keep(out.remove("securityContext"), &["runAsUser", "runAsGroup"])
        && context.as_object().is_some_and(|c| !c.is_empty())
    {
        out.insert("securityContext".to_owned(), context);
    }
    if let Some(env) = out.remove("env") {
        out.insert("env".to_owned(), each(env, |e| keep(Some(e), &["name", "value"]).unwrap_or_default()));
    }
    if let Some(ports) = out.remove("ports") {
        let port = |p| keep(Some(p), &["name", "containerPort", "protocol"]).unwrap_or_default();
        out.insert("ports".to_owned(), each(ports, port));
    }
    Value::Object(out)
}

fn pod_status(status: Value) -> Value {
    let lists = ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"];
    let mut names = vec!["phase", "podIP", "podIPs"];
    names.extend(lists);
    let Some(Value::Object(mut out)) = keep(Some(status), &names) else { return Value::Null };
    for name in lists {
        if let Some(list) = out.remove(name) {
            let id = |c| keep(Some(c), &["name", "containerID"]).unwrap_or_default();
            out.insert(name.to_owned(), each(list, id));
        }
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_a_pod_stays_what_decides_and_nothing_of_the_application_s_own() {
        let pod = json!({
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7", "managedFields": [{}],
                "annotations": {"sidecar.istio.io/status": "{}", "kubectl.kubernetes.io/last-applied-configuration": "x"},
                "ownerReferences": [{"kind": "ReplicaSet", "name": "a-1", "controller": true, "uid": "o"}]},
            "spec": {"nodeName": "w", "volumes": [{}], "containers": [
                {"name": "app", "image": "i", "env": [{"name": "PASSWORD", "value": "secret"}], "ports": [{"containerPort": 80}]},
                {"name": "istio-proxy", "args": ["proxy", "sidecar"], "env": [{"name": "X", "valueFrom": {}}]}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{}],
                "containerStatuses": [{"name": "app", "containerID": "containerd://1", "ready": true}]}
        });
        let kept = trim(pod, "v1", "Pod");
        assert_eq!(
            kept,
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "a", "namespace": "n", "uid": "u", "annotations": {"sidecar.istio.io/status": "{}"},
                    "ownerReferences": [{"kind": "ReplicaSet", "name": "a-1", "controller": true}]},
                "spec": {"nodeName": "w", "containers": [
                    {"name": "app", "ports": [{"containerPort": 80}]},
                    {"name": "istio-proxy", "args": ["proxy", "sidecar"], "env": [{"name": "X"}]}]},
                "status": {"phase": "Running", "podIP": "10.0.0.1",
                    "containerStatuses": [{"name": "app", "containerID": "containerd://1"}]}
            })
        );
    }

    #[test]
    fn of_other_kinds_the_spec_stays_whole() {
        let entry = json!({"metadata": {"name": "e", "namespace": "n"}, "spec": {"hosts": [1, null]}, "status": {"addresses": [], "x": 1}});
        let kept = trim(entry, "networking.istio.io/v1", "ServiceEntry");
        assert_eq!(kept["spec"], json!({"hosts": [1, null]}));
        assert_eq!(kept["status"], json!({"addresses": []}));
        assert_eq!(kept["apiVersion"], "networking.istio.io/v1");
    }

    #[test]
    fn an_object_of_any_shape_is_kept_as_far_as_it_goes() {
        for odd in
            [json!({}), json!({"metadata": 3, "spec": [], "status": "x"}), json!({"spec": {"containers": {"a": 1}}})]
        {
            let kept = trim(odd, "v1", "Pod");
            assert_eq!(kept["kind"], "Pod");
        }
        assert_eq!(trim(json!([1]), "v1", "Pod"), json!([1]));
    }

    #[test]
    fn long_annotations_are_left_out() {
        let huge = "x".repeat(200_000);
        let object = json!({"metadata": {"annotations": {"a.istio.io/b": huge, "networking.istio.io/exportTo": "."}}});
        assert_eq!(
            trim(object, "v1", "Service")["metadata"]["annotations"],
            json!({"networking.istio.io/exportTo": "."})
        );
    }
}
