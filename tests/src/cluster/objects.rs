//! Objects as tests need them, and how they are stored.

use std::fs;
use std::path::{Path, PathBuf};

use egress_core::manifest;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::ApiServer;
use crate::program::repository;

/// A ClusterRole.
pub fn role(name: &str, rules: &Value) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules})
}

/// A rule that lets these be read.
pub fn reads(group: &str, resources: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": ["get", "list", "watch"]})
}

/// Rules that let everything be read that the program reads of Istio without the Gateway API and vendors.
pub fn rules() -> Vec<Value> {
    vec![
        reads("", &["namespaces", "nodes", "pods", "services"]),
        reads("discovery.k8s.io", &["endpointslices"]),
        reads("apiextensions.k8s.io", &["customresourcedefinitions"]),
        reads("networking.istio.io", &["*"]),
        reads("security.istio.io", &["*"]),
        json!({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["istio"], "verbs": ["get", "list", "watch"]}),
    ]
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Definitions of all kinds.
pub fn definitions() -> Vec<Value> {
    let path = repository().join("tests/apiserver/crds.yaml");
    let text = fs::read_to_string(&path).expect("readable");
    let read = manifest::parse("crds.yaml", &text);
    assert!(read.problems.is_empty(), "{:?}", read.problems);
    read.objects.into_iter().map(|o| o.value).collect()
}

pub(super) fn plural(kind: &str) -> String {
    match kind {
        "ServiceEntry" => "serviceentries".to_owned(),
        "WorkloadEntry" => "workloadentries".to_owned(),
        "Ingress" | "GatewayClass" => format!("{}es", kind.to_lowercase()),
        "NetworkPolicy" | "AuthorizationPolicy" => kind.to_lowercase().replace("policy", "policies"),
        _ => format!("{}s", kind.to_lowercase()),
    }
}

pub(super) fn api(client: &Client, object: &Value) -> Api<DynamicObject> {
    let version = text(&object["apiVersion"]);
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let kind = text(&object["kind"]);
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, &kind), &plural(&kind));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Creates or changes an object.
pub async fn apply(client: &Client, object: &Value) -> kube::Result<()> {
    let api = api(client, object);
    let name = text(&object["metadata"]["name"]);
    let params = PatchParams::apply("tests").force();
    let mut bare = object.clone();
    let status = bare.as_object_mut().and_then(|o| o.remove("status"));
    if let Some(metadata) = bare["metadata"].as_object_mut() {
        // What only a server may write.
        for own in ["uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"] {
            metadata.remove(own);
        }
    }
    api.patch(&name, &params, &Patch::Apply(&bare)).await?;
    if let Some(status) = status {
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&json!({"status": status}))).await?;
    }
    Ok(())
}

/// A namespace.
pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// An entry for one host.
pub fn entry(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": name, "namespace": namespace},
        "spec": {"hosts": [format!("{name}.example.com")], "location": "MESH_EXTERNAL", "resolution": "DNS",
            "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}]}})
}

/// A running pod of a node.
pub fn pod(namespace: &str, name: &str, node: &str, ip: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"nodeName": node, "containers": [{"name": "app", "image": "example/app"}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}})
}

/// Objects below a folder.
pub fn objects_below(folder: &Path) -> Vec<Value> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()).collect();
    files.sort();
    let texts = files.iter().map(|file| fs::read_to_string(file).expect("readable"));
    texts.flat_map(|text| manifest::parse("", &text).objects).map(|o| o.value).collect()
}

/// What a cluster writes itself is stored with its own uids and addresses, everything else is sent as kubectl does.
pub async fn load(server: &mut ApiServer, mut all: Vec<Value>) {
    all.sort_by_key(|o| o["kind"] != "Namespace");
    let own = |o: &Value| matches!(o["kind"].as_str(), Some("Pod" | "Service" | "EndpointSlice" | "Node"));
    let (own, rest): (Vec<Value>, Vec<Value>) = all.into_iter().partition(own);
    server.apply_all(&rest).await;
    server.store(&own);
}
