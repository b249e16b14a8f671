//! Requests: connections that are shared, wrapped, refused, or opened by others on a pod's behalf.

use egress_core::verdict::{Reason, Verdict};

use crate::node::{Node, PROXY_PORT, hello, mesh_of, only};

const INVOICES: &str = "203.0.113.40:80";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: invoices.example.net\r\n\r\n";

/// One request of a pod: taken by its sidecar, and carried on to `gateway` with `bytes`.
fn request(node: &mut Node, pod: &str, port: u16, (to, head): (&str, &[u8]), (gateway, bytes): (&str, &[u8])) {
    let (app, envoy) = (node.app(pod), node.envoy(pod));
    let source = format!("{}:{port}", app.ip);
    let a = node.open(&app, port, to, (&source, PROXY_PORT));
    node.accept(PROXY_PORT, &source);
    node.say(a, head);
    let up = format!("{}:{}", envoy.ip, port + 1);
    let s = node.open(&envoy, port + 1, gateway, (&up, gateway));
    node.accept(gateway, &up);
    node.say(s, bytes);
}

#[test]
fn what_two_proxies_wrap_in_tls_between_them_is_followed_through() {
    let mut node = Node::of(mesh_of("tls-origination"));
    let entrance = "10.244.0.21:8443";
    request(&mut node, "shop/orders", 40_000, (INVOICES, REQUEST), (entrance, &hello("invoices.example.net", 1)));
    let gateway = node.envoy("billing/billing-egress-6b8f4");
    let g = node.open(&gateway, 40_002, "203.0.113.40:443", ("10.244.0.21:40002", "203.0.113.40:443"));
    node.say(g, &hello("invoices.example.net", 2));
    let world = node.world();
    let flow = only(&world);
    assert_eq!((flow.verdict(), flow.judgement.reason()), (Verdict::ViaGateway, Reason::RoutedViaGateway));
    assert_eq!(flow.path.len(), 3, "{:?}", flow.path);
}

#[test]
fn a_request_whose_host_comes_later_is_one_for_the_name_that_was_resolved() {
    let mut node = Node::of(mesh_of("tls-origination"));
    let app = node.app("shop/orders-split");
    node.resolve(&app, "invoices.example.net", [203, 0, 113, 40]);
    let entrance = "10.244.0.21:8443";
    let head: &[u8] = b"GET / HTTP/1.1\r\n";
    request(&mut node, "shop/orders-split", 40_000, (INVOICES, head), (entrance, &hello("invoices.example.net", 3)));
    let world = node.world();
    let flow = world.flows.iter().find(|f| f.destination.port == 80).unwrap();
    assert_eq!((flow.verdict(), flow.judgement.reason()), (Verdict::ViaGateway, Reason::RoutedViaGateway));
}

#[test]
fn a_gateway_that_tries_again_with_the_requests_name_is_no_rogue() {
    let mut node = Node::of(mesh_of("tls-origination"));
    let gateway = node.envoy("httpbin/httpbin-egress-7c9d5");
    let g = node.open(&gateway, 40_002, "203.0.113.34:443", ("10.244.0.20:40002", "203.0.113.34:443"));
    // the text's VirtualService does not rewrite the authority
    node.say(g, &hello("legacy.example.com", 4));
    let world = node.world();
    assert_eq!(only(&world).verdict(), Verdict::GatewayLeg);

    let other = node.open(&gateway, 40_003, "203.0.113.34:443", ("10.244.0.20:40003", "203.0.113.34:443"));
    node.say(other, &hello("maps.example.com", 5));
    let world = node.world();
    assert!(world.flows.iter().any(|f| f.verdict() == Verdict::GatewayRogue), "no route has that name");
}

#[test]
fn a_request_that_the_gateway_refuses_claims_nothing_that_the_gateway_opens_for_others() {
    let mut node = Node::of(mesh_of("tls-origination"));
    let maps: &[u8] = b"GET / HTTP/1.1\r\nHost: maps.example.com\r\n\r\n";
    request(&mut node, "geo/maps", 40_000, ("203.0.113.30:80", maps), ("10.244.0.20:8080", maps));
    let gateway = node.envoy("httpbin/httpbin-egress-7c9d5");
    let g = node.open(&gateway, 40_002, "203.0.113.34:443", ("10.244.0.20:40002", "203.0.113.34:443"));
    node.say(g, &hello("legacy.example.com", 6));
    let world = node.world();
    let flow = world.flows.iter().find(|f| f.source.pod.as_deref() == Some("maps")).unwrap();
    assert_eq!((flow.verdict(), flow.judgement.reason()), (Verdict::Broken, Reason::GatewayHostMissing));
    assert_eq!(flow.path.len(), 2, "{:?}", flow.path);
}

#[test]
fn what_ztunnel_opens_for_a_pod_is_the_pods_by_its_network_namespace() {
    let mut node = Node::of(mesh_of("osm-egress-ambient"));
    let (entry, tunnels, host) = ("240.240.0.9:80", "10.244.0.10:15008", "203.0.113.30:80");
    let app = node.who("curl/curl", "curl", "curl", 1000);
    // its process is in a pod of its own, its socket in the namespace of the pod that it serves
    let mut ztunnel = node.who("ztunnel/ztunnel-4mz7r", "istio-proxy", "ztunnel", 0);
    ztunnel.opener.netns = app.opener.netns;
    ztunnel.ip.clone_from(&app.ip);
    let waypoint = node.envoy("istio-egress/egress-waypoint-6c9f8b7d5-t8k2m");
    let request = b"GET / HTTP/1.1\r\nHost: docs.redhat.com\r\n\r\n";

    let source = format!("{}:40000", app.ip);
    let a = node.open(&app, 40_000, entry, (&source, PROXY_PORT));
    node.accept(PROXY_PORT, &source);
    node.say(a, request);
    let up = format!("{}:40001", app.ip);
    let z = node.open(&ztunnel, 40_001, tunnels, (&up, tunnels));
    node.accept(tunnels, &up);
    node.say(z, &hello("way-out", 1));
    let out = format!("{}:40002", waypoint.ip);
    let w = node.open(&waypoint, 40_002, host, (&out, host));
    node.say(w, request);

    let world = node.world();
    let flow = only(&world);
    assert_eq!((flow.verdict(), flow.judgement.reason()), (Verdict::ViaWaypoint, Reason::RoutedViaWaypoint));
    let roles: Vec<_> = flow.path.iter().map(|h| h.role).collect();
    assert_eq!(roles, ["app", "ztunnel", "waypoint"]);
}

/// A request for which its proxy opens no connection of its own.
fn pooled_request(node: &mut Node, pod: &str, port: u16, to: &str, head: &[u8]) {
    let app = node.app(pod);
    let source = format!("{}:{port}", app.ip);
    let a = node.open(&app, port, to, (&source, PROXY_PORT));
    node.accept(PROXY_PORT, &source);
    node.say(a, head);
}

const PLACES: &[u8] = b"GET / HTTP/1.1\r\nHost: places.example.com\r\n\r\n";
const PLACES_ADDRESS: &str = "203.0.113.30:80";
const HTTPBIN_EGRESS: &str = "10.244.0.20:8080";
const GEO_EGRESS: &str = "10.244.0.22:8080";

#[test]
fn a_request_that_reuses_a_connection_goes_where_one_leads() {
    let mut node = Node::of(mesh_of("tls-origination"));
    request(&mut node, "geo/places-stale", 40_000, (PLACES_ADDRESS, PLACES), (HTTPBIN_EGRESS, PLACES));
    node.tick(5_000);
    pooled_request(&mut node, "geo/places-stale", 40_010, PLACES_ADDRESS, PLACES);
    let world = node.world();
    let verdicts: Vec<_> = world.each.iter().map(|f| f.verdict()).collect();
    assert_eq!(verdicts, [Verdict::WrongGateway; 2], "no connection of the proxy leads to geo-egress");
}

#[test]
fn a_request_that_may_have_reused_the_right_connection_is_well() {
    let mut node = Node::of(mesh_of("tls-origination"));
    request(&mut node, "geo/places", 40_000, (PLACES_ADDRESS, PLACES), (GEO_EGRESS, PLACES));
    node.tick(5_000);
    let legacy: &[u8] = b"GET / HTTP/1.1\r\nHost: legacy.example.com\r\n\r\n";
    request(&mut node, "geo/places", 40_020, ("203.0.113.34:80", legacy), (HTTPBIN_EGRESS, legacy));
    node.tick(5_000);
    pooled_request(&mut node, "geo/places", 40_030, PLACES_ADDRESS, PLACES);
    let world = node.world();
    let verdicts: Vec<_> = world.each.iter().map(|f| f.verdict()).collect();
    assert_eq!(verdicts, [Verdict::ViaGateway; 3]);
}
