//! What a pod's configuration takes off its proxy (semantics §7.2, §7.3), by what istio-init was given and in the order of the
//! rules that it programs.

use egress_tests::ask::{Asked, decided_by, verdict};
use serde_json::json;

const MESH: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db, namespace: shop}
spec: {hosts: [db.example], addresses: [203.0.113.5], ports: [{number: 5432, name: tcp, protocol: TCP}], resolution: STATIC, endpoints: [{address: 203.0.113.5}]}
";

const TO: &str = "203.0.113.5:5432";

/// A pod of `shop` whose rules were made with `args`, with these annotations.
fn pod(args: &str, annotations: &str) -> String {
    format!(
        r"
apiVersion: v1
kind: Pod
metadata: {{name: app, namespace: shop, annotations: {{{annotations}}}}}
spec:
  initContainers:
  - {{name: migrate}}
  - {{name: istio-init, args: [istio-iptables, {args}]}}
  - {{name: warm}}
  containers: [{{name: app}}, {{name: istio-proxy, args: [proxy, sidecar]}}]
status: {{podIP: 10.1.1.10}}
"
    )
}

fn of(pod: &str) -> Asked {
    Asked::of(&[MESH, pod])
}

#[test]
fn what_istio_init_was_given_wins_over_an_annotation_written_later() {
    let mesh = of(&pod(r#""-i", "*", "-o", "5432""#, ""));
    let answer = mesh.call("shop/app", TO, &json!({}));
    assert_eq!(verdict(&answer), "not-captured EXCLUDED_PORT");
    assert_eq!(decided_by(&answer), "Pod shop/app .spec.initContainers[1].args[4]");

    let late = r#""traffic.sidecar.istio.io/excludeOutboundPorts": "5432""#;
    let answer = of(&pod(r#""-i", "*", "-o", """#, late)).call("shop/app", TO, &json!({}));
    assert_eq!(verdict(&answer), "registered-direct REGISTERED_DIRECT");
}

#[test]
fn an_annotation_that_istio_init_was_given_is_what_is_named() {
    let annotated = r#""traffic.sidecar.istio.io/excludeOutboundPorts": "5432""#;
    let answer = of(&pod(r#""-i", "*", "-o", "5432""#, annotated)).call("shop/app", TO, &json!({}));
    assert_eq!(
        decided_by(&answer),
        "Pod shop/app .metadata.annotations[\"traffic.sidecar.istio.io/excludeOutboundPorts\"]"
    );
}

#[test]
fn excluded_ranges_come_before_included_ports_and_those_before_included_ranges() {
    let of = |args: &str| verdict(&of(&pod(args, "")).call("shop/app", TO, &json!({})));
    assert_eq!(of(r#""-i", "*", "-x", "203.0.113.0/24", "-q", "5432""#), "not-captured EXCLUDED_CIDR");
    assert_eq!(of(r#""-i", "10.0.0.0/8", "-q", "5432""#), "registered-direct REGISTERED_DIRECT");
    assert_eq!(of(r#""-i", "10.0.0.0/8""#), "not-captured NOT_INCLUDED");
    assert_eq!(of(r#""-i", """#), "not-captured NOT_INCLUDED");
}

#[test]
fn init_containers_before_istio_init_escape_and_those_after_it_do_not() {
    let mesh = of(&pod(r#""-i", "*""#, ""));
    let of = |name: &str| verdict(&mesh.call("shop/app", TO, &json!({"container": name})));
    assert_eq!(of("migrate"), "not-captured INIT_CONTAINER");
    assert_eq!(of("warm"), "registered-direct REGISTERED_DIRECT");
}

#[test]
fn a_cni_plugin_sets_interception_up_before_every_init_container() {
    let pod = pod(r#""-i", "*""#, "").replace("istio-init", "istio-validation");
    let answer = of(&pod).call("shop/app", TO, &json!({"container": "migrate"}));
    assert_eq!(verdict(&answer), "registered-direct REGISTERED_DIRECT");
}

#[test]
fn dns_queries_of_a_pod_with_dns_capture_stay_with_its_proxy() {
    let annotation = r#""proxy.istio.io/config": "proxyMetadata: {ISTIO_META_DNS_CAPTURE: 'true'}""#;
    let mesh = of(&pod(r#""-i", "*""#, annotation));
    let query = json!({"protocol": "udp", "payload": "unknown"});
    assert_eq!(mesh.call("shop/app", "10.96.0.10:53", &query)["outcome"], "not-applicable");
    assert_eq!(mesh.call("shop/app", "10.96.0.10:443", &query)["reason"], "UDP");
    // the proxy itself must reach the resolver
    let own = json!({"protocol": "udp", "payload": "unknown", "container": "istio-proxy"});
    assert_eq!(mesh.call("shop/app", "10.96.0.10:53", &own)["outcome"], "not-captured");
}
