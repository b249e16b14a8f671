//! Objects of the published set-ups that look as if they did something for a connection and do not: the chain says so.

use std::fs;

use egress_tests::ask::{Asked, verdict};
use serde_json::{Value, json};

/// The objects of a scenario of the lab.
fn lab(scenario: &str) -> Asked {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/").to_owned() + scenario + "/mesh/";
    let texts =
        ["1-published.yaml", "2-added.yaml", "3-pods.yaml"].map(|f| fs::read_to_string(folder.clone() + f).expect(f));
    Asked::of(&[&texts[0], &texts[1], &texts[2]])
}

/// What the chain says of this object and field.
fn says<'a>(answer: &'a Value, object: &str, field: &str) -> Option<&'a str> {
    let chain = answer["because"].as_array().expect("a chain");
    chain.iter().find(|s| s["object"] == object && s["field"] == field)?["says"].as_str()
}

#[test]
fn a_gateway_that_nothing_routes_to_is_named() {
    let answer = lab("redis-registry-only").call("default/busybox", "203.0.113.59:6379", &json!({"payload": "opaque"}));
    assert_eq!(verdict(&answer), "registered-direct REGISTERED_DIRECT");
    let said = says(&answer, "Gateway default/istio-egressgateway", ".spec.servers[0].hosts").expect("said");
    assert!(said.ends_with("no VirtualService leads there: it takes no part"), "{said}");
}

#[test]
fn a_gateway_that_others_reach_the_same_host_by_is_named() {
    let tls = json!({"payload": "tls", "sni": "httpbin.org"});
    let answer = lab("tls-origination").call("shop/direct", "203.0.113.34:443", &tls);
    assert_eq!(verdict(&answer), "registered-direct REGISTERED_DIRECT");
    let said = says(&answer, "VirtualService httpbin/httpbin-egress", ".spec.http[1]").expect("said");
    assert!(said.ends_with("no rule leads this workload to that gateway"), "{said}");
}

#[test]
fn a_gateway_that_is_used_is_not() {
    let answer = lab("dwh-static-tcp").call("cloud-platform/web", "203.0.113.10:1433", &json!({"payload": "opaque"}));
    assert_eq!(verdict(&answer), "bypass SOURCE_LABELS");
    let gateway = "Gateway istio-egress-gateway/static-whitelist-internal-egress-gateway";
    assert_eq!(says(&answer, gateway, ".spec.servers[0].hosts"), None);
}

#[test]
fn a_misspelt_key_stands_beside_the_policy_that_it_did_not_change() {
    let tls = json!({"payload": "tls", "sni": "paste.example.org"});
    let answer = lab("redis-helm-typo").call("default/crawler", "203.0.113.66:443", &tls);
    assert_eq!(verdict(&answer), "unregistered UNREGISTERED");
    let map = "ConfigMap istio-system/istio-sidecar-injector";
    let said = says(&answer, map, ".data.values.global.outboundTrafficPolicymode").expect("said");
    assert!(said.contains("meshConfig.outboundTrafficPolicy.mode"), "{said}");
}

#[test]
fn the_server_name_that_a_gateway_offers_is_that_of_the_request() {
    let mesh = lab("tls-origination");
    let get = |host: &str| json!({"payload": "http", "host": host, "path": "/"});
    let answer = mesh.call("httpbin/sleep", "203.0.113.30:80", &get("legacy.example.com"));
    assert_eq!(verdict(&answer), "via-gateway ROUTED_VIA_GATEWAY");
    let field = ".spec.subsets[0].trafficPolicy.portLevelSettings[0]";
    let said = says(&answer, "DestinationRule httpbin/httpbin-egress", field).expect("said");
    assert!(said.contains("httpbin.org is asked for a name that is not its own"), "{said}");

    let answer = mesh.call("geo/places", "203.0.113.30:80", &get("places.example.com"));
    let said = says(&answer, "DestinationRule geo/geo-egress", field).expect("said");
    assert_eq!(said, "TLS originates with the server name geo.example.org");
}

#[test]
fn strict_peer_authentication_does_not_hold_for_a_gateways_server() {
    let mesh = lab("tls-origination");
    let get = |host: &str| json!({"payload": "http", "host": host, "path": "/"});
    let answer = mesh.call("httpbin/sleep", "203.0.113.30:80", &get("legacy.example.com"));
    let said = says(&answer, "PeerAuthentication httpbin/httpbin-egress", ".spec.mtls.mode").expect("said");
    assert!(said.contains("in clear text"), "{said}");

    // the way to this gateway is wrapped by a DestinationRule
    let answer = mesh.call("billing/invoices", "203.0.113.40:80", &get("invoices.example.net"));
    assert_eq!(says(&answer, "PeerAuthentication billing/billing-egress", ".spec.mtls.mode"), None);
}
