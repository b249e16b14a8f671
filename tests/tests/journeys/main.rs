//! Sockets stitched into journeys, and judged, without a kernel: what the probe would report is written down here.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up must fail")]

mod again;
mod http;
mod node;

use egress_core::id::{CgroupId, Nanos, SocketCookie};
use egress_core::input::{Failure, Input, Opener, SocketEvent, Wire};
use egress_core::verdict::{Reason, Verdict};
use egress_core::world::Joint;
use proptest::prelude::*;

use crate::node::{DWH, GATEWAY, Node, PROXY_PORT, WAREHOUSE, Who, at, hello, only};
#[test]
fn app_sidecar_gateway_outside_is_one_row_with_three_hops() {
    let mut node = Node::new();
    let [a, s, g] = node.journey("cloud-platform/etl", 40_000, WAREHOUSE, &hello(DWH, 1));
    for cookie in [a, s, g] {
        node.close(cookie, 500, 4_000);
    }
    let world = node.world();
    let flow = only(&world);
    assert_eq!((flow.verdict(), flow.judgement.reason()), (Verdict::ViaGateway, Reason::RoutedViaGateway));
    let hops: Vec<_> = flow.path.iter().map(|h| (h.role, h.evidence)).collect();
    assert_eq!(hops, [("app", Joint::Socket), ("sidecar", Joint::TupleAndBytes), ("gateway", Joint::TupleAndBytes)]);
    assert_eq!((flow.connections, flow.open, flow.bytes_sent, flow.bytes_received), (1, 0, 500, 4_000));
}

#[test]
fn nat_may_change_the_source_port() {
    let mut node = Node::new();
    let (app, envoy) = (node.app("cloud-platform/web"), node.envoy("cloud-platform/web"));
    // The socket holds port 40000, the packet left with 61234: only the packet's numbers are the accepted ones.
    let wire = format!("{}:61234", app.ip);
    let a = node.open(&app, 40_000, WAREHOUSE, (&wire, PROXY_PORT));
    node.accept(PROXY_PORT, &wire);
    node.say(a, &hello(DWH, 2));
    let out = format!("{}:40001", envoy.ip);
    let s = node.open(&envoy, 40_001, WAREHOUSE, (&out, WAREHOUSE));
    node.say(s, &hello(DWH, 2));
    let world = node.world();
    let flow = only(&world);
    assert_eq!((flow.verdict(), flow.judgement.reason()), (Verdict::Bypass, Reason::SourceLabels));
    assert_eq!(flow.leg.as_str(), "app-captured");
    assert_eq!(flow.path.len(), 2);
}

#[test]
fn an_accept_that_comes_late_is_waited_for() {
    let mut node = Node::new();
    let (app, envoy) = (node.app("cloud-platform/web"), node.envoy("cloud-platform/web"));
    let source = format!("{}:40000", app.ip);
    let a = node.open(&app, 40_000, WAREHOUSE, (&source, PROXY_PORT));
    node.say(a, &hello(DWH, 3));
    node.tick(20);
    assert!(node.ledger.world().flows.is_empty(), "judged before the tick that decides capture");
    node.accept(PROXY_PORT, &source);
    let out = format!("{}:40001", envoy.ip);
    let s = node.open(&envoy, 40_001, WAREHOUSE, (&out, WAREHOUSE));
    node.say(s, &hello(DWH, 3));
    let world = node.world();
    assert_eq!(only(&world).leg.as_str(), "app-captured");
}

#[test]
fn a_socket_that_nat_left_alone_escaped() {
    let mut node = Node::new();
    let app = node.who("cloud-platform/etl-uid-1337", "app", "python3", 1337);
    let source = format!("{}:40000", app.ip);
    let a = node.open(&app, 40_000, WAREHOUSE, (&source, WAREHOUSE));
    node.say(a, &hello(DWH, 4));
    let world = node.world();
    let flow = only(&world);
    assert_eq!((flow.verdict(), flow.judgement.reason()), (Verdict::Bypass, Reason::ProxyUid));
    assert!(flow.judgement.reasons.contains(&Reason::RoutedViaGateway));
    assert_eq!(flow.expected.as_ref().unwrap().outcome.as_str(), "via-gateway");
}

#[test]
fn another_process_in_the_proxys_container_is_an_application() {
    let mut node = Node::new();
    let curl = node.who("cloud-platform/etl", "istio-proxy", "curl", 1337);
    let source = format!("{}:40000", curl.ip);
    let a = node.open(&curl, 40_000, WAREHOUSE, (&source, WAREHOUSE));
    node.say(a, &hello(DWH, 5));
    let world = node.world();
    let flow = only(&world);
    assert_eq!((flow.verdict(), flow.judgement.reason()), (Verdict::Bypass, Reason::ProxyContainer));
    assert_eq!(flow.source.container.as_deref(), Some("istio-proxy"));
}

#[test]
fn a_proxy_is_known_by_name_and_uid_where_no_status_names_its_container() {
    let mut node = Node::new();
    let mut envoy = node.envoy("cloud-platform/etl");
    let path = "/kubepods/burstable/pod0ba95583-8714-4811-8038-5fc155225049";
    envoy.opener.cgroup = CgroupId(77);
    node.ledger.apply(Input::Cgroup { id: CgroupId(77), path: Some(path.into()) });
    let source = format!("{}:40000", envoy.ip);
    node.open(&envoy, 40_000, WAREHOUSE, (&source, WAREHOUSE));
    assert!(node.world().flows.is_empty());
}

#[test]
fn a_sidecars_own_upstream_is_never_a_row() {
    let mut node = Node::new();
    let envoy = node.envoy("cloud-platform/etl");
    let source = format!("{}:40000", envoy.ip);
    node.open(&envoy, 40_000, WAREHOUSE, (&source, WAREHOUSE));
    assert!(node.world().flows.is_empty());
}

#[test]
fn a_gateways_upstream_is_a_row_only_until_its_journey_is_found() {
    let mut node = Node::new();
    let gateway = node.envoy(GATEWAY);
    let out = format!("{}:40002", gateway.ip);
    let g = node.open(&gateway, 40_002, WAREHOUSE, (&out, WAREHOUSE));
    node.say(g, &hello(DWH, 6));
    let world = node.world();
    assert_eq!(only(&world).verdict(), Verdict::GatewayLeg);
    // A connection elsewhere has no route.
    let out = format!("{}:40003", gateway.ip);
    node.open(&gateway, 40_003, "203.0.113.66:443", (&out, "203.0.113.66:443"));
    let world = node.world();
    let rogue = world.flows.iter().find(|f| f.verdict() == Verdict::GatewayRogue).unwrap();
    assert_eq!(rogue.judgement.reason(), Reason::GatewayNoRoute);
}

#[test]
fn equal_bytes_in_both_directions_of_time_are_joined_by_order() {
    let mut node = Node::new();
    // An opaque protocol: every client says the same first. Only the window tells, and it is called a guess.
    for i in 0..4u16 {
        node.journey("cloud-platform/etl-tds", 41_000 + i * 10, WAREHOUSE, b"\x12\x01\x00\x2f\x00\x00\x01\x00");
    }
    let world = node.world();
    assert_eq!(world.flows.len(), 1);
    assert_eq!(world.flows[0].connections, 4);
    assert_eq!(world.each.len(), 4);
    assert!(world.each.iter().all(|f| f.path.len() == 3));
}

#[test]
fn a_connection_that_the_proxy_drops_is_no_bypass() {
    let mut node = Node::new();
    let app = node.app("cloud-platform/etl");
    let source = format!("{}:40000", app.ip);
    let a = node.open(&app, 40_000, WAREHOUSE, (&source, PROXY_PORT));
    node.accept(PROXY_PORT, &source);
    node.say(a, &hello(DWH, 8));
    node.close(a, 100, 0);
    let world = node.world();
    let flow = only(&world);
    assert_eq!((flow.verdict(), flow.judgement.reason()), (Verdict::Unknown, Reason::EvidenceMissing));
}

#[test]
fn a_failed_connect_is_a_row_with_a_failure() {
    let mut node = Node::new();
    let app = node.who("cloud-platform/etl-uid-1337", "app", "python3", 1337);
    node.cookie += 1;
    let event = SocketEvent::Fail {
        cookie: SocketCookie(node.cookie),
        at: Nanos(node.now + 50_000),
        started: Nanos(node.now),
        opener: app.opener,
        dialled: at(WAREHOUSE),
        local: Some(at(&format!("{}:40000", app.ip))),
        wire: Some(Wire { source: at(&format!("{}:40000", app.ip)), destination: at(WAREHOUSE) }),
        failure: Failure::Refused,
    };
    node.event(event);
    let world = node.world();
    assert_eq!((only(&world).failures, only(&world).open), (1, 0));
}

#[test]
fn what_the_probe_and_the_tables_both_tell_is_one_connection() {
    let mut node = Node::new();
    let app = node.who("cloud-platform/etl-uid-1337", "app", "python3", 1337);
    let source = format!("{}:40000", app.ip);
    let cookie = node.open(&app, 40_000, WAREHOUSE, (&source, WAREHOUSE));
    node.say(cookie, &hello(DWH, 4));
    node.cookie -= 1;
    assert_eq!(node.older(&app, 40_000, WAREHOUSE, (&source, WAREHOUSE)), cookie);
    node.older(&app, 40_002, WAREHOUSE, (&format!("{}:40002", app.ip), WAREHOUSE));
    let world = node.world();
    assert_eq!(world.each.len(), 2);
    assert_eq!(world.flows.iter().map(|f| f.connections).sum::<u64>(), 2);
    assert!(world.flows.iter().all(|f| f.first_seen >= world.started), "nobody knows when the old one began");
}

#[test]
fn captured_connections_from_before_are_joined_by_destination_or_not_at_all() {
    let mut node = Node::new();
    let (app, envoy) = (node.app("cloud-platform/web"), node.envoy("cloud-platform/web"));
    for (port, to) in [(40_000, WAREHOUSE), (40_002, "203.0.113.99:1433")] {
        let source = format!("{}:{port}", app.ip);
        node.accept(PROXY_PORT, &source);
        node.older(&app, port, to, (&source, PROXY_PORT));
    }
    let out = format!("{}:40001", envoy.ip);
    node.older(&envoy, 40_001, WAREHOUSE, (&out, WAREHOUSE));
    let world = node.world();
    let to = |ip: &str| world.flows.iter().find(|f| f.destination.ip.to_string() == ip).unwrap();
    let joined = to(at(WAREHOUSE).ip().to_string().as_str());
    assert_eq!(joined.path.last().unwrap().evidence, Joint::TupleAndWindow, "a guess, and called one");
    let other = to("203.0.113.99");
    assert_eq!((other.path.len(), other.leg.as_str()), (1, "app-captured"));
    assert_eq!((other.verdict(), other.judgement.reason()), (Verdict::Unknown, Reason::EvidenceMissing));
}

#[test]
fn a_dns_answer_that_overtakes_its_socket_still_names_the_flow() {
    let mut node = Node::new();
    let app = node.app("cloud-platform/reporting-tds");
    node.resolve(&app, "ledger.example.net", [203, 0, 113, 77]);
    node.journey("cloud-platform/reporting-tds", 40_000, "203.0.113.77:1433", b"\x12\x01\x00\x2f\x00\x00\x01\x00");
    let world = node.world();
    let flow = world.flows.iter().find(|f| f.destination.port == 1433).unwrap();
    assert_eq!((flow.verdict(), flow.judgement.reason()), (Verdict::CapturedByOther, Reason::TcpHijack));
    assert_eq!(flow.destination.name.source.as_str(), "dns");
    let lookup = world.flows.iter().find(|f| f.destination.port == 53).unwrap();
    assert_eq!(lookup.verdict(), Verdict::InCluster);
}

/// One A record for one question.
#[test]
fn hostile_names_reach_the_world_escaped() {
    let mut node = Node::new();
    let app = node.who("cloud-platform/etl-uid-1337", "app", "\x1b[2Jx", 1337);
    let source = format!("{}:40000", app.ip);
    let a = node.open(&app, 40_000, "203.0.113.66:443", (&source, "203.0.113.66:443"));
    node.say(a, &hello("a\x1b[2J\u{202e}=cmd", 9));
    let world = node.world();
    let flow = only(&world);
    let text =
        format!("{} {} {}", flow.destination.label(), flow.source.process.as_ref().unwrap().comm, flow.judgement.why);
    assert!(text.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{text}");
}

#[test]
fn a_pod_that_no_object_knows_is_unknown_and_said_so() {
    let mut node = Node::new();
    let path = "/kubepods.slice/kubepods-pod11111111_2222_4333_8444_555555555555.slice";
    node.ledger.apply(Input::Cgroup { id: CgroupId(9), path: Some(path.into()) });
    let opener = Opener { tgid: 9, cgroup: CgroupId(9), ..Opener::default() };
    let stranger = Who { opener, ip: "10.244.9.9".into() };
    node.open(&stranger, 40_000, WAREHOUSE, ("10.244.9.9:40000", WAREHOUSE));
    let world = node.world();
    assert_eq!((only(&world).verdict(), only(&world).judgement.reason()), (Verdict::Unknown, Reason::EvidenceMissing));
    assert!(world.incomplete.iter().any(|i| i.what.contains("11111111-2222-4333-8444-555555555555")));
}

#[test]
fn loss_is_counted_and_makes_the_answer_incomplete() {
    let mut node = Node::new();
    node.ledger.apply(Input::Lost { stage: "ring.flow".into(), total: 3 });
    node.ledger.apply(Input::Lost { stage: "ring.flow".into(), total: 7 });
    let world = node.world();
    assert_eq!(world.coverage.lost_total(), 7);
    assert!(world.incomplete.iter().any(|i| i.what.contains("7 events were lost")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Many journeys at once, their events mixed as parallel clients mix them: every one keeps its own sockets.
    #[test]
    fn mixed_journeys_are_all_joined_right(order in proptest::collection::vec(any::<u16>(), 200)) {
        let mut node = Node::new();
        let journeys = 40u16;
        let (app, envoy, gateway) =
            (node.app("cloud-platform/etl"), node.envoy("cloud-platform/etl"), node.envoy(GATEWAY));
        let entrance = format!("{}:1433", gateway.ip);
        let mut step = vec![0u8; usize::from(journeys)];
        let mut open = std::collections::BTreeMap::new();
        let schedule = order.iter().map(|o| o % journeys).chain((0..journeys).flat_map(|j| [j; 6]));
        for j in schedule {
            let (port, bytes) = (20_000 + j * 3, hello(DWH, u64::from(j) + 1));
            let source = format!("{}:{port}", app.ip);
            let up = format!("{}:{}", envoy.ip, port + 1);
            let out = format!("{}:{}", gateway.ip, port + 2);
            let done = &mut step[usize::from(j)];
            *done += 1;
            match *done {
                1 => {
                    let a = node.open(&app, port, WAREHOUSE, (&source, PROXY_PORT));
                    node.say(a, &bytes);
                    open.insert(a, (port, j));
                }
                2 => node.accept(PROXY_PORT, &source),
                3 => {
                    let s = node.open(&envoy, port + 1, &entrance, (&up, &entrance));
                    node.say(s, &bytes);
                }
                4 => node.accept(&entrance, &up),
                5 => {
                    let g = node.open(&gateway, port + 2, WAREHOUSE, (&out, WAREHOUSE));
                    node.say(g, &bytes);
                }
                _ => {}
            }
        }
        let world = node.world();
        prop_assert_eq!(only(&world).connections, u64::from(journeys));
        prop_assert_eq!(world.each.len(), usize::from(journeys));
        for flow in &world.each {
            prop_assert_eq!(flow.verdict(), Verdict::ViaGateway);
            let ports: Vec<u16> = flow.path.iter().map(|h| h.from.unwrap().port()).collect();
            prop_assert_eq!(&ports, &[ports[0], ports[0] + 1, ports[0] + 2]);
        }
    }
}

#[test]
fn the_same_inputs_give_the_same_world() {
    let run = || {
        let mut node = Node::new();
        for i in 0..20u16 {
            let pod = ["cloud-platform/etl", "cloud-platform/etl-tds"][usize::from(i % 2)];
            node.journey(pod, 30_000 + i * 10, WAREHOUSE, &hello(DWH, u64::from(i)));
        }
        let world = node.world();
        format!("{:?} {:?}", world.flows, world.each)
    };
    assert_eq!(run(), run());
}
