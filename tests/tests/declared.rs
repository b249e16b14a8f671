//! What an object only declares is decided as what it becomes: the oracle's answers hold when the gateway's Pods, Services and
//! endpoints and the ConfigMap are taken out of the mesh, and the chain names the object that stands for them.

use egress_core::manifest::{self, RawObject};
use egress_core::mesh::{Mesh, MeshOptions};
use egress_tests::oracle::{self, Case};
use egress_tui::cmd::explain;
use serde_json::Value;

fn case(name: &str) -> Case {
    oracle::cases().into_iter().find(|c| c.name.ends_with(name)).unwrap_or_else(|| panic!("no case {name}"))
}

fn is(object: &RawObject, kind: &str) -> bool {
    object.value["kind"] == *kind
}

/// Pods that run a gateway.
fn is_gateway_pod(object: &RawObject) -> bool {
    is(object, "Pod") && object.value["spec"]["containers"][0]["args"][1] == "router"
}

/// Services that the declared gateways make, by name.
fn without(case: &Case, services: &[&str], config: bool) -> Vec<RawObject> {
    let named = |o: &RawObject| {
        let name = o.value["metadata"]["name"].as_str().unwrap_or_default();
        let service = o.value.pointer("/metadata/labels/kubernetes.io~1service-name").and_then(Value::as_str);
        services.contains(&service.unwrap_or(name))
    };
    let mut objects = case.objects();
    objects.retain(|o| {
        !(is_gateway_pod(o)
            || (is(o, "Service") && named(o))
            || (is(o, "EndpointSlice") && named(o))
            || (config && is(o, "ConfigMap")))
    });
    objects
}

/// The oracle's answers hold; and the chains of all that goes through a gateway.
fn holds(case: &Case, objects: &[RawObject]) -> Vec<Value> {
    let mut through = Vec::new();
    let mut seen = 0;
    for (want, got) in case.pairs(&case.answers(objects)) {
        if got["error"].is_string() {
            // a call of the gateway's own pod, which has another name
            continue;
        }
        seen += 1;
        let differs: Vec<_> = oracle::compared(&want, &got).into_iter().filter(|(_, ok)| !ok).collect();
        assert!(differs.is_empty(), "{}: {differs:?}\nwant {want}\n got {got}", case.name);
        if got["outcome"] == "via-gateway" {
            through.push(got);
        }
    }
    assert!(seen > 0 && !through.is_empty(), "{}: {seen} calls", case.name);
    through
}

fn names(chain: &Value, object: &str, field: &str) -> bool {
    let steps = chain["because"].as_array().expect("a chain");
    steps.iter().any(|s| s["object"] == object && s["field"] == field)
}

fn more(text: &str) -> Vec<RawObject> {
    let read = manifest::parse("more.yaml", text);
    assert!(read.problems.is_empty(), "{:?}", read.problems);
    read.objects
}

#[test]
fn a_mesh_gateway_is_what_its_operator_makes_of_it() {
    for name in ["seed-2-mesh-gateway", "seed-2-with-entry"] {
        let case = case(name);
        for chain in holds(&case, &without(&case, &["egress-demo"], false)) {
            assert!(names(&chain, "IstioMeshGateway smm-demo/egress-demo", ".metadata.name"), "{chain}");
        }
    }
}

#[test]
fn an_operators_gateway_is_what_its_charts_make_of_it() {
    let case = case("seed-4-gateway-per-upstream");
    let mut objects = without(&case, &["httpbin-egress", "istio-ingressgateway"], true);
    objects.extend(more(
        "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {name: istio-operator, namespace: istio-operator}\n\
         spec:\n  profile: default\n  meshConfig: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}\n",
    ));
    for chain in holds(&case, &objects) {
        assert!(
            names(&chain, "IstioOperator istio-operator/egress", ".spec.components.egressGateways[0].label"),
            "{chain}"
        );
    }
}

#[test]
fn an_injected_deployment_is_its_pods() {
    let case = case("seed-3-gateway-injection");
    let mut objects = without(&case, &[], false);
    // the Service is a manifest: no address, no endpoints
    objects.retain(|o| !(is(o, "EndpointSlice") && o.value["metadata"]["namespace"] == "egress-gw"));
    for service in objects.iter_mut().filter(|o| is(o, "Service") && o.value["metadata"]["name"] == "egress-gw") {
        let spec = service.value["spec"].as_object_mut().expect("a spec");
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    objects.extend(more(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: egress-gw, namespace: egress-gw}\nspec:\n  template:\n    metadata:\n\
        \x20     annotations: {inject.istio.io/templates: gateway}\n      labels: {istio: egress-gw}\n    spec:\n\
        \x20     containers: [{name: istio-proxy, image: auto}]\n",
    ));
    for chain in holds(&case, &objects) {
        assert!(names(&chain, "Deployment egress-gw/egress-gw", ".spec.template.metadata.labels"), "{chain}");
    }
}

#[test]
fn a_gateway_of_the_gateway_api_is_what_istiod_deploys() {
    let case = case("seed-3-gateway-api");
    let objects = without(&case, &["httpbin-egress-gateway-istio"], false);
    for chain in holds(&case, &objects) {
        assert!(names(&chain, "Gateway egress-gateway/httpbin-egress-gateway", ".metadata.name"), "{chain}");
    }
}

#[test]
fn nobody_sees_an_address_of_what_is_only_declared() {
    let case = case("seed-2-with-entry");
    let answers = case.answers(&without(&case, &["egress-demo"], false));
    assert!(!answers.contains("\"0.0."), "{answers}");
}

#[test]
fn hostile_objects_are_read_or_refused() {
    let kinds = [
        ("install.istio.io/v1alpha1", "IstioOperator"),
        ("servicemesh.cisco.com/v1alpha1", "IstioMeshGateway"),
        ("servicemesh.cisco.com/v1alpha1", "IstioControlPlane"),
        ("sailoperator.io/v1", "Istio"),
        ("maistra.io/v2", "ServiceMeshControlPlane"),
        ("apps/v1", "Deployment"),
        ("gateway.networking.k8s.io/v1", "Gateway"),
    ];
    let specs = [
        "spec: 1",
        "spec: []",
        "spec: {template: {metadata: 1, spec: {containers: [1, {name: istio-proxy, args: [proxy, router]}]}}}",
        "spec: {profile: preview, meshConfig: {defaultConfig: no}, values: {meshConfig: [], gateways: 7}}",
        "spec: {version: v2.5, techPreview: {meshConfig: {defaultConfig: x}}, gateways: {egress: 1, additionalEgress: {a: [], b: 2}}}",
        "spec: {components: {egressGateways: [1, {enabled: true, name: {}, label: [], k8s: {service: 1, env: [1], overlays: \
         [{kind: Deployment, name: istio-egressgateway, patches: [{path: spec, value: 1}, {path: 'spec.template', value: []}, 3]}, 4]}}]}}",
        "spec: {service: {ports: [1, {port: 99999}]}, deployment: {podMetadata: {labels: {a: [1]}}}}",
        "spec: {gatewayClassName: istio, listeners: [1, {name: [], port: x}], infrastructure: {labels: 1}}",
        "metadata: 1",
    ];
    for (api, kind) in kinds {
        for spec in specs {
            let text = format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: a, namespace: b}}\n{spec}\n");
            let mesh = Mesh::compile(&manifest::parse("a.yaml", &text).objects, &MeshOptions::default());
            let call = br#"{"id":"1","from":"b/a","to":"192.0.2.1:443","payload":"tls","sni":"a.example"}"#;
            explain::run(&mesh, &call[..], &mut Vec::new()).expect("memory is writable");
        }
    }
}
