//! Sockets stitched into journeys, and judged, without a kernel: what the probe would report is written down here.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up must fail")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use egress_core::id::{CgroupId, Nanos, NetnsCookie, SocketCookie, WallTime};
use egress_core::input::{Counters, Failure, Input, Opener, Payload, SocketEvent, Transport, Wire};
use egress_core::ledger::{Ledger, Options, PATIENCE};
use egress_core::mesh::{Mesh, MeshOptions};
use egress_core::verdict::{Reason, Verdict};
use egress_core::world::{Flow, Joint, MeshSource, World};
use proptest::prelude::*;

/// The warehouse, behind the gateway.
const WAREHOUSE: &str = "203.0.113.10:1433";
const GATEWAY: &str = "istio-egress-gateway/static-whitelist-internal-egress-gateway-7c9d5";
const PROXY_PORT: &str = "127.0.0.1:15001";

fn mesh() -> (Arc<Mesh>, MeshSource) {
    static MESH: std::sync::OnceLock<(Arc<Mesh>, MeshSource)> = std::sync::OnceLock::new();
    MESH.get_or_init(|| mesh_of("dwh-static-tcp")).clone()
}

/// The objects of a scenario of the lab.
fn mesh_of(scenario: &str) -> (Arc<Mesh>, MeshSource) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("lab").join(scenario).join("mesh");
    let (mesh, source) = egress_tui::source::files::load(&[folder], &MeshOptions::default()).unwrap();
    assert!(source.skipped.is_empty(), "{:?}", source.skipped);
    (mesh, source)
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// A node whose kernel says what a test tells it to.
struct Node {
    ledger: Ledger,
    mesh: Arc<Mesh>,
    now: u64,
    cookie: u64,
}

/// A process of a pod's container.
#[derive(Clone)]
struct Who {
    opener: Opener,
    ip: String,
}

impl Node {
    fn new() -> Self {
        Self::of(mesh())
    }

    fn of((mesh, source): (Arc<Mesh>, MeshSource)) -> Self {
        let ledger = Ledger::new(Options { node: "worker-1".into(), each: true, ..Options::default() });
        let mut node = Self { ledger, mesh: mesh.clone(), now: 1_000_000_000_000, cookie: 100 };
        node.tick(0);
        node.ledger.apply(Input::Mesh { at: Nanos(node.now), source, mesh });
        node
    }

    /// Lets time pass.
    fn tick(&mut self, millis: u64) {
        self.now += millis * Nanos::MILLI;
        let wall = WallTime(1_700_000_000_000_000_000 + self.now.cast_signed());
        self.ledger.apply(Input::Tick { now: Nanos(self.now), wall });
    }

    fn who(&mut self, pod: &str, container: &str, comm: &str, uid: u32) -> Who {
        let mesh = self.mesh.clone();
        let index =
            mesh.pods().find(|p| mesh.pod(*p).name.to_string() == pod).unwrap_or_else(|| panic!("no pod {pod}"));
        let found = mesh.pod(index);
        let id = found.containers.iter().find(|c| c.name == container).and_then(|c| c.id.clone()).unwrap();
        let path = format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-{id}.scope",
            found.uid.replace('-', "_")
        );
        let cgroup = CgroupId(u64::from(index.0) * 10 + container.len() as u64);
        self.ledger.apply(Input::Cgroup { id: cgroup, path: Some(path.into()) });
        let mut name = [0; 16];
        name[..comm.len()].copy_from_slice(comm.as_bytes());
        let tgid = (cgroup.0 as u32) * 100 + uid;
        let netns = NetnsCookie(u64::from(index.0) + 7);
        Who {
            opener: Opener { tgid, tid: tgid, uid, gid: uid, comm: name, cgroup, netns },
            ip: found.ips[0].to_string(),
        }
    }

    fn app(&mut self, pod: &str) -> Who {
        self.who(pod, "app", "python3", 0)
    }

    fn envoy(&mut self, pod: &str) -> Who {
        self.who(pod, "istio-proxy", "wrk:worker_0", 1337)
    }

    fn event(&mut self, event: SocketEvent) {
        self.now += 10_000;
        self.ledger.apply(Input::Socket(event));
    }

    /// connect() that was answered; `wire` is its first packet after NAT.
    fn open(&mut self, who: &Who, port: u16, to: &str, wire: (&str, &str)) -> SocketCookie {
        self.cookie += 1;
        let cookie = SocketCookie(self.cookie);
        let event = SocketEvent::Open {
            cookie,
            at: Nanos(self.now + 5_000),
            started: Nanos(self.now),
            opener: who.opener,
            transport: Transport::Tcp,
            dialled: at(to),
            remote: at(to),
            local: at(&format!("{}:{port}", who.ip)),
            wire: Some(Wire { source: at(wire.0), destination: at(wire.1) }),
            rtt_micros: Some(80),
        };
        self.event(event);
        cookie
    }

    /// The same, as the kernel's tables tell of it when it is older than the observation.
    fn older(&mut self, who: &Who, port: u16, to: &str, wire: (&str, &str)) -> SocketCookie {
        self.cookie += 1;
        let cookie = SocketCookie(self.cookie);
        self.event(SocketEvent::Open {
            cookie,
            at: Nanos(self.now),
            started: Nanos::BEFORE,
            opener: who.opener,
            transport: Transport::Tcp,
            dialled: at(to),
            remote: at(to),
            local: at(&format!("{}:{port}", who.ip)),
            wire: Some(Wire { source: at(wire.0), destination: at(wire.1) }),
            rtt_micros: None,
        });
        cookie
    }

    fn accept(&mut self, local: &str, remote: &str) {
        self.cookie += 1;
        let event = SocketEvent::Accept {
            cookie: SocketCookie(self.cookie),
            at: Nanos(self.now),
            local: at(local),
            remote: at(remote),
        };
        self.event(event);
    }

    fn say(&mut self, cookie: SocketCookie, bytes: &[u8]) {
        let total = u32::try_from(bytes.len()).unwrap();
        self.ledger.apply(Input::Payload(Payload {
            cookie,
            at: Nanos(self.now),
            offset: 0,
            total,
            bytes: bytes.to_vec(),
        }));
    }

    fn close(&mut self, cookie: SocketCookie, sent: u64, received: u64) {
        let counters = Counters { sent, received, rtt_micros: Some(90), retransmits: 0 };
        self.event(SocketEvent::Close { cookie, at: Nanos(self.now), counters });
    }

    /// A look-up, whose answer overtakes the socket that it came by.
    fn resolve(&mut self, who: &Who, name: &str, ip: [u8; 4]) {
        let resolver = SocketCookie(5);
        let message = dns_answer(name, ip);
        self.ledger.apply(Input::Dns { at: Nanos(self.now), cookie: resolver, message });
        self.event(SocketEvent::Open {
            cookie: resolver,
            at: Nanos(self.now),
            started: Nanos(self.now),
            opener: who.opener,
            transport: Transport::Udp,
            dialled: at("10.96.0.10:53"),
            remote: at("10.96.0.10:53"),
            local: at(&format!("{}:50000", who.ip)),
            wire: None,
            rtt_micros: None,
        });
    }

    /// Lets everything that waits decide.
    fn world(&mut self) -> World {
        self.tick(PATIENCE / Nanos::MILLI + 500);
        self.ledger.world()
    }

    /// app → sidecar → gateway → outside, all with the same first bytes. Returns the three cookies.
    fn journey(&mut self, pod: &str, port: u16, to: &str, bytes: &[u8]) -> [SocketCookie; 3] {
        let (app, envoy, gateway) = (self.app(pod), self.envoy(pod), self.envoy(GATEWAY));
        let entrance = format!("{}:1433", gateway.ip);
        let source = format!("{}:{port}", app.ip);
        let a = self.open(&app, port, to, (&source, PROXY_PORT));
        self.accept(PROXY_PORT, &source);
        self.say(a, bytes);
        let up = format!("{}:{}", envoy.ip, port + 1);
        let s = self.open(&envoy, port + 1, &entrance, (&up, &entrance));
        self.accept(&entrance, &up);
        self.say(s, bytes);
        let out = format!("{}:{}", gateway.ip, port + 2);
        let g = self.open(&gateway, port + 2, WAREHOUSE, (&out, WAREHOUSE));
        self.say(g, bytes);
        [a, s, g]
    }
}

fn only(world: &World) -> &Flow {
    assert_eq!(world.flows.len(), 1, "{:#?}", world.flows.iter().map(|f| &f.judgement.why).collect::<Vec<_>>());
    &world.flows[0]
}

/// A ClientHello as far as it matters here: server name and something random.
fn hello(name: &str, random: u64) -> Vec<u8> {
    let n = u16::try_from(name.len()).unwrap();
    let list = [&[0][..], &n.to_be_bytes(), name.as_bytes()].concat();
    let server_name = [&(n + 3).to_be_bytes()[..], &list].concat();
    let extension = [&[0, 0][..], &(n + 5).to_be_bytes(), &server_name].concat();
    let mut body = vec![3, 3];
    body.extend([0; 24]);
    body.extend(random.to_be_bytes());
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend((n + 9).to_be_bytes());
    body.extend(&extension);
    let handshake = [&[1, 0][..], &u16::try_from(body.len()).unwrap().to_be_bytes(), &body].concat();
    [&[0x16, 3, 1][..], &u16::try_from(handshake.len()).unwrap().to_be_bytes(), &handshake].concat()
}

const DWH: &str = "emarsyscdi.database.windows.net";

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
fn dns_answer(name: &str, ip: [u8; 4]) -> Vec<u8> {
    let mut out = vec![0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend(label.as_bytes());
    }
    out.extend([0, 0, 1, 0, 1]);
    out.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4]);
    out.extend(ip);
    out
}

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
