//! Worlds to draw: what the dashboard shows of the `dwh-static-tcp` scenario, and of everything that can be missing.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use arcstr::ArcStr;
use egress_core::id::{FlowId, NamespacedName, ObjectRef, WallTime};
use egress_core::input::Transport;
use egress_core::manifest::parse;
use egress_core::mesh::{Expected, Mesh, MeshOptions, Miss, Next, NextKind, Outcome, Registration};
use egress_core::name::{HostName, NameEvidence, NameSource};
use egress_core::verdict::{Class, Judgement, Mark, Reason, Step, Verdict};
use egress_core::world::{
    Attribution, Capture, Coverage, Destination, Flow, HISTORY_SECONDS, Hook, Hop, Incomplete, Joint, Leg, MeshSource,
    Process, Source, World,
};

/// 14:02:31 UTC, whatever the day.
pub const NOW: WallTime = WallTime(1_780_063_351_000_000_000);

const SECOND: i64 = 1_000_000_000;
const GATEWAY: &str = "istio-egress-gateway/static-whitelist-internal-egress-gateway";
const GATEWAY_POD: &str = "istio-egress-gateway/static-whitelist-internal-egress-gateway-7c9d5";
const DWH: &str = "emarsyscdi.database.windows.net";
const DWH_ADDRESS: &str = "203.0.113.10";

/// `seconds` before [`NOW`].
pub fn ago(seconds: i64) -> WallTime {
    WallTime(NOW.0 - seconds * SECOND)
}

fn service_entry() -> ObjectRef {
    ObjectRef::new("ServiceEntry", "istio-egress-gateway", "static-gap-dwh-connection")
}

fn virtual_service() -> ObjectRef {
    ObjectRef::new("VirtualService", "istio-egress-gateway", "direct-static-dwh-connection-through-egress-gateway")
}

fn gateway() -> NamespacedName {
    let (namespace, name) = GATEWAY.split_once('/').unwrap_or_default();
    NamespacedName::new(namespace, name)
}

/// A flow to build up from an ordinary one: a pod, one open connection, nothing wrong.
pub struct FlowBuilder {
    flow: Flow,
    judgement: Judgement,
    expected: Option<Expected>,
}

/// A flow from `namespace/pod` to `to`.
pub fn flow(from: &str, to: &str) -> FlowBuilder {
    let (namespace, pod) = from.split_once('/').unwrap_or(("default", from));
    let to: SocketAddr = to.parse().unwrap_or_else(|_| SocketAddr::from(([192, 0, 2, 1], 443)));
    let source_ip = IpAddr::from([10, 42, 3, 17]);
    let hop = Hop {
        role: "app",
        pod: Some(format!("{namespace}/{pod}").into()),
        from: Some(SocketAddr::new(source_ip, 40_112)),
        to,
        evidence: Joint::Socket,
    };
    let source = Source {
        namespace: Some(namespace.into()),
        pod: Some(pod.into()),
        pod_uid: Some("5f0c2d1e-0000-4000-8000-000000000001".into()),
        workload: Some(ObjectRef::new("Deployment", namespace, pod)),
        container: Some("app".into()),
        service_account: Some(pod.into()),
        process: Some(Process { pid: 4121, comm: "python3".into(), uid: 1000 }),
        ip: Some(source_ip),
        node: "node-1".into(),
        labels: vec![("app".into(), pod.into())],
        evidence: Attribution::Cgroup,
    };
    let flow = Flow {
        id: FlowId(0),
        source,
        destination: Destination { ip: to.ip(), port: to.port(), name: NameEvidence::none() },
        protocol: Transport::Tcp,
        l7: Some("tcp"),
        leg: Leg::AppCaptured,
        path: vec![hop],
        judgement: Arc::new(Judgement {
            verdict: Verdict::Unknown,
            severity: Verdict::Unknown.severity(),
            reasons: vec![Reason::EvidenceMissing],
            chain: Vec::new(),
            why: String::new(),
        }),
        expected: None,
        connections: 1,
        open: 1,
        failures: 0,
        bytes_sent: 4_096,
        bytes_received: 16_384,
        sent_per_second: 0,
        received_per_second: 0,
        rtt_micros: Some(1_240),
        rejudged: None,
        stale: 0,
        retransmits: 0,
        first_seen: ago(840),
        last_seen: ago(1),
        community_id: Some("1:LQU9qZlK+B5F3KDmev6m5PMibrg=".into()),
    };
    let judgement = (*flow.judgement).clone();
    FlowBuilder { flow, judgement, expected: None }
        .step("flow", Mark::Ok, None, "kernel connect, pod by cgroup")
        .judged(Verdict::Unknown, Reason::EvidenceMissing)
}

impl FlowBuilder {
    /// Verdict and deciding reason.
    #[must_use]
    pub fn judged(mut self, verdict: Verdict, reason: Reason) -> Self {
        self.judgement.verdict = verdict;
        self.judgement.severity = verdict.severity();
        self.judgement.reasons = vec![reason];
        self
    }

    /// Another reason.
    #[must_use]
    pub fn also(mut self, reason: Reason) -> Self {
        self.judgement.reasons.push(reason);
        self
    }

    /// One more step of the chain, decided by an object and its field.
    #[must_use]
    pub fn step(mut self, claim: &'static str, mark: Mark, by: Option<(ObjectRef, &str)>, says: &str) -> Self {
        let mut step = Step::new(claim, mark, says.to_owned());
        if let Some((object, field)) = by {
            step = step.by(object, field);
        }
        if mark == Mark::Decides {
            self.judgement.why = match (&step.object, &step.field) {
                (Some(object), Some(field)) => format!("{says} [{object} {field}]"),
                _ => says.to_owned(),
            };
        }
        self.judgement.chain.push(step);
        self
    }

    /// The name and how it is known.
    #[must_use]
    pub fn named(mut self, host: &str, source: NameSource) -> Self {
        self.flow.destination.name = NameEvidence {
            host: Some(HostName::sanitise(host.as_bytes())),
            source,
            age_nanos: (source == NameSource::Dns).then_some(2_000_000_000),
            candidates: vec![HostName::sanitise(host.as_bytes())],
        };
        self
    }

    /// What is spoken.
    #[must_use]
    pub fn speaks(mut self, l7: &'static str) -> Self {
        self.flow.l7 = Some(l7);
        self
    }

    /// Which socket it begins with.
    #[must_use]
    pub fn leg(mut self, leg: Leg) -> Self {
        self.flow.leg = leg;
        self
    }

    /// One more hop.
    #[must_use]
    pub fn hop(mut self, role: &'static str, pod: &str, to: &str, evidence: Joint) -> Self {
        let to = to.parse().unwrap_or(self.flow.path[0].to);
        let from = Some(SocketAddr::from(([10, 42, 3, 17], 50_000 + self.flow.path.len() as u16)));
        self.flow.path.push(Hop { role, pod: Some(pod.into()), from, to, evidence });
        self
    }

    /// Bytes per second, sent and received.
    #[must_use]
    pub fn moves(mut self, sent: u64, received: u64) -> Self {
        self.flow.sent_per_second = sent;
        self.flow.received_per_second = received;
        self.flow.bytes_sent = sent * 60;
        self.flow.bytes_received = received * 60;
        self
    }

    /// How many connections, and how long ago the first was.
    #[must_use]
    pub fn seen(mut self, connections: u64, seconds_ago: i64) -> Self {
        self.flow.connections = connections;
        self.flow.first_seen = ago(seconds_ago);
        self
    }

    /// What the configuration says of it.
    #[must_use]
    pub fn expected(mut self, expected: Expected) -> Self {
        self.expected = Some(expected);
        self
    }

    /// Anything else.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Flow)) -> Self {
        change(&mut self.flow);
        self
    }

    /// The flow, with an id of its own.
    pub fn build(mut self, id: u64) -> Arc<Flow> {
        self.flow.id = FlowId(id);
        self.flow.judgement = Arc::new(self.judgement);
        self.flow.expected = self.expected.map(Arc::new);
        Arc::new(self.flow)
    }
}

fn through_gateway() -> Expected {
    let mut expected = Expected::new(Outcome::ViaGateway);
    expected.cluster = Some(format!("outbound|1433||{}.svc.cluster.local", GATEWAY.replace('/', ".")).into());
    expected.gateway = Some(gateway());
    expected.registration = Registration::Visible;
    expected.routed = Some((virtual_service(), ".spec.tcp[0].route[0]".into()));
    expected.leg2 = Some(Box::new(direct()));
    expected
}

fn direct() -> Expected {
    let mut expected = Expected::new(Outcome::Direct);
    expected.cluster = Some(format!("outbound|1433||{DWH}").into());
    expected.next = Some(Next { kind: NextKind::Dns, host: Some(DWH.into()), port: Some(1433) });
    expected.registration = Registration::Visible;
    expected
}

fn passthrough() -> Expected {
    let mut expected = Expected::new(Outcome::Passthrough);
    expected.cluster = Some("PassthroughCluster".into());
    expected
}

fn nearly_labelled() -> Miss {
    Miss {
        reason: Reason::SourceLabels,
        object: virtual_service(),
        field: ".spec.tcp[0].match[0].sourceLabels".into(),
        says: "the rule wants egress-gateway-dwh=enabled, the pod has app=web".into(),
        gateway: Some(gateway()),
    }
}

fn nearly_registered() -> Expected {
    let mut expected = passthrough();
    expected.misses = vec![Miss {
        reason: Reason::PortNotRegistered,
        object: service_entry(),
        field: ".spec.ports[0].number".into(),
        says: "the entry has port 1433, not 443".into(),
        gateway: None,
    }];
    expected
}

fn dwh(from: &str) -> FlowBuilder {
    flow(from, &format!("{DWH_ADDRESS}:1433")).named(DWH, NameSource::Dns).step(
        "registered",
        Mark::Ok,
        Some((service_entry(), ".spec.ports[0]")),
        "host and port are registered, and this namespace sees the entry",
    )
}

/// The variants of the published set-up `dwh-static-tcp` (design §7.3), as a session on the node shows them.
pub fn dwh_flows() -> Vec<Arc<Flow>> {
    let pod = |name: &str| ObjectRef::new("Pod", "cloud-platform", name);
    let mut without_label = direct();
    without_label.misses = vec![nearly_labelled()];
    let builders = vec![
        dwh("cloud-platform/etl")
            .judged(Verdict::ViaGateway, Reason::RoutedViaGateway)
            .step(
                "route",
                Mark::Ok,
                Some((virtual_service(), ".spec.tcp[0].match[0]")),
                "port 1433 and the pod's labels match; the route leads to the gateway",
            )
            .step(
                "verdict",
                Mark::Decides,
                Some((virtual_service(), ".spec.tcp[0].route[0]")),
                "it went through the gateway that the rule names",
            )
            .hop("sidecar", "cloud-platform/etl", "10.42.3.9:1433", Joint::TupleAndBytes)
            .hop("gateway", GATEWAY_POD, "203.0.113.10:1433", Joint::Bytes)
            .expected(through_gateway())
            .moves(29_000, 2_900_000)
            .seen(31, 55),
        flow("cloud-platform/reporting", "203.0.113.77:1433")
            .named("ledger.example.net", NameSource::Dns)
            .judged(Verdict::CapturedByOther, Reason::TcpHijack)
            .also(Reason::RoutedViaGateway)
            .step(
                "listener",
                Mark::Ok,
                Some((service_entry(), ".spec.ports[0]")),
                "the entry has no address, so it listens on 0.0.0.0:1433",
            )
            .step(
                "verdict",
                Mark::Decides,
                Some((service_entry(), ".spec.ports[0]")),
                "the entry takes every TCP destination on port 1433, also ledger.example.net, and sends it to its own host",
            )
            .hop("sidecar", "cloud-platform/reporting", "10.42.3.9:1433", Joint::TupleAndBytes)
            .hop("gateway", GATEWAY_POD, "203.0.113.10:1433", Joint::Bytes)
            .expected(through_gateway())
            .moves(9_800, 41_000)
            .seen(2, 360),
        dwh("cloud-platform/web")
            .judged(Verdict::Bypass, Reason::SourceLabels)
            .also(Reason::RegisteredDirect)
            .step(
                "verdict",
                Mark::Decides,
                Some((virtual_service(), ".spec.tcp[0].match[0].sourceLabels")),
                "the rule to the gateway wants label egress-gateway-dwh=enabled, this pod has none",
            )
            .hop("sidecar", "cloud-platform/web", "203.0.113.10:1433", Joint::TupleAndBytes)
            .expected(without_label)
            .moves(1_100_000, 84_000)
            .seen(12, 840),
        flow("marketing/campaigns", &format!("{DWH_ADDRESS}:1433"))
            .named(DWH, NameSource::Dns)
            .judged(Verdict::NotVisible, Reason::NotExported)
            .step(
                "verdict",
                Mark::Decides,
                Some((service_entry(), ".spec.exportTo")),
                "the entry is exported to . and cloud-platform, not to marketing",
            )
            .hop("sidecar", "marketing/campaigns", "203.0.113.10:1433", Joint::TupleAndBytes)
            .expected(passthrough())
            .moves(18_000, 900)
            .seen(3, 540),
        dwh("cloud-platform/etl-uid-1337")
            .judged(Verdict::Bypass, Reason::ProxyUid)
            .also(Reason::RoutedViaGateway)
            .leg(Leg::AppUncaptured)
            .step(
                "verdict",
                Mark::Decides,
                Some((pod("etl-uid-1337"), ".spec.containers[0].securityContext.runAsUser")),
                "the process runs as uid 1337, which the redirection leaves alone",
            )
            .expected(through_gateway())
            .moves(22_000, 3_100)
            .seen(1, 41),
        dwh("cloud-platform/etl-excluded")
            .judged(Verdict::Bypass, Reason::ExcludedPort)
            .also(Reason::RoutedViaGateway)
            .leg(Leg::AppUncaptured)
            .step("captured", Mark::No, None, "the proxy never accepted this connection")
            .step(
                "verdict",
                Mark::Decides,
                Some((
                    pod("etl-excluded"),
                    ".metadata.annotations[\"traffic.sidecar.istio.io/excludeOutboundPorts\"]",
                )),
                "annotation excludeOutboundPorts \"1433\" takes the port off the proxy",
            )
            .expected(through_gateway())
            .moves(51_000, 2_000)
            .seen(4, 125),
        flow("cloud-platform/crawler", "203.0.113.66:443")
            .named("paste.example.org", NameSource::Sni)
            .speaks("tls")
            .judged(Verdict::Unregistered, Reason::Unregistered)
            .step(
                "verdict",
                Mark::Decides,
                Some((ObjectRef::new("ConfigMap", "istio-system", "istio"), ".data.mesh outboundTrafficPolicy.mode")),
                "no ServiceEntry has paste.example.org, and ALLOW_ANY lets it pass",
            )
            .hop("sidecar", "cloud-platform/crawler", "203.0.113.66:443", Joint::TupleAndWindow)
            .expected(nearly_registered())
            .moves(640, 2_200)
            .seen(1, 120),
        flow("cloud-platform/player", "203.0.113.99:443")
            .judged(Verdict::Udp, Reason::Udp)
            .speaks("udp")
            .leg(Leg::AppUncaptured)
            .step("verdict", Mark::Decides, Some((pod("player"), ".spec")), "UDP is never intercepted")
            .with(|f| f.protocol = Transport::Udp)
            .expected(passthrough())
            .moves(80, 4_000)
            .seen(1, 3),
        flow("istio-egress-gateway/static-whitelist-internal-egress-gateway", "203.0.113.7:8443")
            .judged(Verdict::GatewayRogue, Reason::GatewayNoRoute)
            .leg(Leg::Gateway)
            .step(
                "verdict",
                Mark::Decides,
                Some((
                    ObjectRef::new("Pod", "istio-egress-gateway", "static-whitelist-internal-egress-gateway-7c9d5"),
                    ".spec.containers[0]",
                )),
                "no route of this gateway leads to 203.0.113.7:8443",
            )
            .with(|f| f.source.process = Some(Process { pid: 8812, comm: "curl".into(), uid: 0 }))
            .moves(70, 60)
            .seen(1, 22),
        dwh("cloud-platform/debug")
            .judged(Verdict::Bypass, Reason::ProxyContainer)
            .also(Reason::RoutedViaGateway)
            .leg(Leg::AppUncaptured)
            .step(
                "verdict",
                Mark::Decides,
                Some((pod("debug"), ".spec.containers[1]")),
                "curl dialled out from container istio-proxy, which interception leaves alone",
            )
            .with(|f| f.source.container = Some("istio-proxy".into()))
            .expected(through_gateway())
            .moves(0, 0)
            .seen(1, 15),
        flow("data/etl", "198.51.100.23:5432")
            .judged(Verdict::RegisteredDirect, Reason::RegisteredDirect)
            .named("db.partner-b.example", NameSource::Dns)
            .step(
                "verdict",
                Mark::Decides,
                Some((ObjectRef::new("ServiceEntry", "data", "partner-b"), ".spec.hosts[0]")),
                "registered, and no rule leads elsewhere",
            )
            .moves(44_000, 380_000)
            .seen(6, 1_320),
        flow("web/ssr", "203.0.113.61:443")
            .judged(Verdict::Unknown, Reason::NameUnknown)
            .speaks("tls")
            .step("name", Mark::Unknown, None, "no server name: the hello is encrypted")
            .step("verdict", Mark::Decides, None, "a rule for port 443 needs a server name, and none was seen")
            .moves(2_100, 9_900)
            .seen(1, 5),
        flow("-/kubelet", "10.0.0.10:6443")
            .judged(Verdict::OutsideMesh, Reason::HostProcess)
            .leg(Leg::Host)
            .speaks("tls")
            .step("verdict", Mark::Decides, None, "a process of the node, not of a pod")
            .with(|f| {
                f.source.namespace = None;
                f.source.pod = None;
                f.source.workload = None;
                f.source.process = Some(Process { pid: 318, comm: "kubelet".into(), uid: 0 });
                f.source.evidence = Attribution::None;
                f.path[0].pod = None;
            })
            .moves(11_000, 52_000)
            .seen(1, 10_800),
        flow("web/frontend", "203.0.113.9:443")
            .judged(Verdict::Blocked, Reason::RegistryOnly)
            .named("fonts.example", NameSource::Sni)
            .step("verdict", Mark::Decides, None, "REGISTRY_ONLY stopped it")
            .seen(2, 90)
            .with(|f| f.open = 0),
    ];
    (1..).zip(builders).map(|(id, builder)| builder.build(id)).collect()
}

fn hooks() -> Vec<Hook> {
    ["connect4", "connect6", "sendmsg4", "sendmsg6", "sockops", "sock_release", "egress", "ingress"]
        .map(|name| Hook { name: name.into(), why: None })
        .to_vec()
}

/// Everything is there and nothing is lost.
pub fn coverage() -> Coverage {
    Coverage {
        nodes_observed: 1,
        nodes_total: 14,
        capture: Capture { tier: "full".into(), hooks: hooks(), cgroup_root: "/sys/fs/cgroup".into() },
        lost: Vec::new(),
        mesh: MeshSource { kind: "files".into(), place: "mesh/".into(), objects: 41, skipped: Vec::new() },
        mesh_at: ago(130),
        mesh_generation: 3,
        cluster: None,
    }
}

/// A minute in which bypasses grow, unregistered traffic comes in bursts, and three seconds were not observed.
fn history() -> Vec<Option<[u64; Class::ALL.len()]>> {
    (0..HISTORY_SECONDS as u64)
        .map(|second| {
            let lost = (21..24).contains(&second);
            let burst = if second % 9 == 0 { 61_000 } else { 900 };
            let grows = 1_200_000 * second.saturating_sub(28) / 31;
            (!lost).then_some([grows, burst, 2_000 * (second % 3), 424_000, 2_900_000 + 10_000 * second, 63_000, 0])
        })
        .collect()
}

/// A world with these flows, everything else in order.
pub fn world(flows: Vec<Arc<Flow>>) -> World {
    World {
        generation: 1,
        node: "node-1".into(),
        cluster: Some("prod-eu".into()),
        started: ago(3_600),
        now: NOW,
        coverage: coverage(),
        incomplete: Vec::new(),
        flows,
        each: Vec::new(),
        history: history(),
        replayed: false,
        changes: Vec::new(),
        mesh: Arc::new(Mesh::default()),
    }
}

/// The session of the `dwh-static-tcp` scenario, with its objects.
pub fn dwh_world() -> World {
    World { mesh: dwh_mesh(), ..world(dwh_flows()) }
}

/// The objects of the scenario, as the lab reads them.
pub fn dwh_mesh() -> Arc<Mesh> {
    static MESH: OnceLock<Arc<Mesh>> = OnceLock::new();
    let files = [
        ("mesh/1-published.yaml", include_str!("../lab/dwh-static-tcp/mesh/1-published.yaml")),
        ("mesh/2-added.yaml", include_str!("../lab/dwh-static-tcp/mesh/2-added.yaml")),
        ("mesh/3-pods.yaml", include_str!("../lab/dwh-static-tcp/mesh/3-pods.yaml")),
    ];
    let compile = || {
        let objects = files.iter().flat_map(|(file, text)| parse(file, text).objects).collect::<Vec<_>>();
        Arc::new(Mesh::compile(&objects, &MeshOptions::default()))
    };
    Arc::clone(MESH.get_or_init(compile))
}

/// The same, and nothing is younger than two minutes: nothing on the screen changes but the clock.
pub fn quiet_world() -> World {
    let mut world = dwh_world();
    for flow in &mut world.flows {
        let mut old = (**flow).clone();
        old.first_seen = old.first_seen.min(ago(150));
        *flow = Arc::new(old);
    }
    world
}

/// `count` flows of every verdict, with stable ids.
pub fn many(count: u64) -> World {
    let flows = (0..count)
        .map(|n| {
            let verdict = Verdict::ALL[n as usize % Verdict::ALL.len()];
            let reason = Reason::ALL[n as usize % Reason::ALL.len()];
            let from = format!("team-{}/service-{}", n % 97, n % 1_013);
            let to = format!("203.0.113.{}:{}", n % 251, 1 + n % 65_000);
            flow(&from, &to)
                .judged(verdict, reason)
                .named(&format!("host-{n}.example"), NameSource::Sni)
                .step("verdict", Mark::Decides, None, "for the sake of numbers")
                .moves((n * 7_919) % 100_000, (n * 104_729) % 1_000_000)
                .seen(n % 40, (n % 4_000).cast_signed())
                .build(n + 1)
        })
        .collect();
    world(flows)
}

fn missing(what: &str, affects: &str, fix: &str) -> Incomplete {
    Incomplete { what: what.into(), affects: affects.into(), fix: fix.into() }
}

/// The kernel refused the programs; nothing is seen.
pub fn blind_world() -> World {
    let mut world = world(Vec::new());
    let why: ArcStr = "bpf(BPF_PROG_LOAD): EPERM".into();
    world.coverage.capture.tier = "none".into();
    for hook in &mut world.coverage.capture.hooks {
        hook.why = Some(why.clone());
    }
    world.history.clear();
    world.incomplete = vec![missing(
        "the kernel refused the BPF programs: EPERM",
        "no connection can be seen; explain still works",
        "run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
    )];
    world
}

/// Flows, but no objects to judge them by.
pub fn meshless_world() -> World {
    let mut world = dwh_world();
    let unjudged = |flow: &Arc<Flow>| {
        let mut flow = (**flow).clone();
        flow.judgement = Arc::new(Judgement {
            verdict: Verdict::Unknown,
            severity: Verdict::Unknown.severity(),
            reasons: vec![Reason::EvidenceMissing],
            chain: vec![Step::new("mesh", Mark::Unknown, "no objects of the mesh are known")],
            why: "no mesh objects are known, so no flow can be judged".to_owned(),
        });
        flow.expected = None;
        Arc::new(flow)
    };
    world.flows = world.flows.iter().map(unjudged).collect();
    world.coverage.mesh = MeshSource { kind: "none".into(), ..MeshSource::default() };
    world.coverage.mesh_generation = 0;
    world.incomplete = vec![missing(
        "no mesh objects are known",
        "flows are shown, verdicts are not: every flow is unknown",
        "name manifests or dumps with --mesh PATH",
    )];
    world
}

/// The first moment: nothing is attached, nothing is read.
pub fn starting_world() -> World {
    let mut world = world(Vec::new());
    world.started = NOW;
    world.coverage.capture = Capture::default();
    world.coverage.mesh = MeshSource { kind: "files".into(), place: "mesh/".into(), ..MeshSource::default() };
    world.coverage.mesh_generation = 0;
    world.history.clear();
    world
}

/// A cluster that was not heard of for four minutes, and events that never arrived.
pub fn stale_world() -> World {
    let mut world = dwh_world();
    world.coverage.mesh.kind = "cluster".into();
    world.coverage.mesh.place = "prod-eu".into();
    world.coverage.mesh_at = ago(252);
    world.coverage.lost = vec![("ring.flow".into(), 1_204)];
    world.incomplete = vec![
        missing(
            "the API server has been unreachable for 4 minutes (timed out)",
            "verdicts use the last objects, pods may have changed",
            "check the connection; it is tried again every 10 s",
        ),
        missing(
            "1204 events were lost (ring.flow 1204)",
            "connections may be missing, or miss their name or their path",
            "enlarge the rings (--ring-bytes), or watch fewer connections",
        ),
    ];
    world
}

/// Names, processes and sentences as hostile as they can get into a world.
pub fn hostile_world() -> World {
    let nasty = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}gnp.exe\u{200b}\u{2066}漢字🙂e\u{301}\r\n\t";
    let long = nasty.repeat(64 * 1024 / nasty.len() + 1);
    let flows = (1..=8).map(|id| {
        flow("cloud-platform/etl", "203.0.113.80:443")
            .judged(Verdict::Unregistered, Reason::Unregistered)
            .step("verdict", Mark::Decides, Some((ObjectRef::new(nasty, nasty, &*long), nasty)), &long)
            .with(|f| {
                f.source.workload = Some(ObjectRef::new(nasty, nasty, &*long));
                f.source.process = Some(Process { pid: 1, comm: nasty.into(), uid: 0 });
                f.source.container = Some(long.as_str().into());
                f.destination.name = NameEvidence {
                    host: Some(HostName::sanitise(long.as_bytes())),
                    source: NameSource::Sni,
                    age_nanos: None,
                    candidates: Vec::new(),
                };
                f.path[0].pod = Some(long.as_str().into());
            })
            .build(id)
    });
    let mut world = world(flows.collect());
    world.node = nasty.into();
    world.cluster = Some(nasty.into());
    world.coverage.mesh.place = nasty.into();
    world.incomplete = vec![missing(nasty, &long, nasty)];
    world
}
