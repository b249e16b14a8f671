//! A node whose kernel says what a test tells it to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use egress_core::id::{CgroupId, Nanos, NetnsCookie, SocketCookie, WallTime};
use egress_core::input::{Counters, Input, Opener, Payload, SocketEvent, Transport, Wire};
use egress_core::ledger::{Ledger, Options, PATIENCE};
use egress_core::mesh::{Mesh, MeshOptions};
use egress_core::world::{Flow, MeshSource, World};

/// The warehouse, behind the gateway.
pub(crate) const WAREHOUSE: &str = "203.0.113.10:1433";
pub(crate) const GATEWAY: &str = "istio-egress-gateway/static-whitelist-internal-egress-gateway-7c9d5";
pub(crate) const PROXY_PORT: &str = "127.0.0.1:15001";

pub(crate) fn mesh() -> (Arc<Mesh>, MeshSource) {
    static MESH: std::sync::OnceLock<(Arc<Mesh>, MeshSource)> = std::sync::OnceLock::new();
    MESH.get_or_init(|| mesh_of("dwh-static-tcp")).clone()
}

/// The objects of a scenario of the lab.
pub(crate) fn mesh_of(scenario: &str) -> (Arc<Mesh>, MeshSource) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("lab").join(scenario).join("mesh");
    let (mesh, source) = egress_tui::source::files::load(&[folder], &MeshOptions::default()).unwrap();
    assert!(source.skipped.is_empty(), "{:?}", source.skipped);
    (mesh, source)
}

pub(crate) fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// A node whose kernel says what a test tells it to.
pub(crate) struct Node {
    pub(crate) ledger: Ledger,
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) now: u64,
    pub(crate) cookie: u64,
}

/// A process of a pod's container.
#[derive(Clone)]
pub(crate) struct Who {
    pub(crate) opener: Opener,
    pub(crate) ip: String,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::of(mesh())
    }

    pub(crate) fn of((mesh, source): (Arc<Mesh>, MeshSource)) -> Self {
        let ledger = Ledger::new(Options { node: "worker-1".into(), each: true, ..Options::default() });
        let mut node = Self { ledger, mesh: mesh.clone(), now: 1_000_000_000_000, cookie: 100 };
        node.tick(0);
        node.ledger.apply(Input::Mesh { at: Nanos(node.now), source, mesh });
        node
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, millis: u64) {
        self.now += millis * Nanos::MILLI;
        let wall = WallTime(1_700_000_000_000_000_000 + self.now.cast_signed());
        self.ledger.apply(Input::Tick { now: Nanos(self.now), wall });
    }

    pub(crate) fn who(&mut self, pod: &str, container: &str, comm: &str, uid: u32) -> Who {
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

    pub(crate) fn app(&mut self, pod: &str) -> Who {
        self.who(pod, "app", "python3", 0)
    }

    pub(crate) fn envoy(&mut self, pod: &str) -> Who {
        self.who(pod, "istio-proxy", "wrk:worker_0", 1337)
    }

    pub(crate) fn event(&mut self, event: SocketEvent) {
        self.now += 10_000;
        self.ledger.apply(Input::Socket(event));
    }

    /// connect() that was answered; `wire` is its first packet after NAT.
    pub(crate) fn open(&mut self, who: &Who, port: u16, to: &str, wire: (&str, &str)) -> SocketCookie {
        self.tcp(who, port, to, wire, true)
    }

    /// The same, as the kernel's tables tell of it when it is older than the observation.
    pub(crate) fn older(&mut self, who: &Who, port: u16, to: &str, wire: (&str, &str)) -> SocketCookie {
        self.tcp(who, port, to, wire, false)
    }

    fn tcp(&mut self, who: &Who, port: u16, to: &str, wire: (&str, &str), seen_to_begin: bool) -> SocketCookie {
        self.cookie += 1;
        let cookie = SocketCookie(self.cookie);
        let (started, at_once) = (Nanos(self.now), Nanos(self.now + 5_000));
        self.event(SocketEvent::Open {
            cookie,
            at: if seen_to_begin { at_once } else { started },
            started: if seen_to_begin { started } else { Nanos::BEFORE },
            opener: who.opener,
            transport: Transport::Tcp,
            dialled: at(to),
            remote: at(to),
            local: at(&format!("{}:{port}", who.ip)),
            wire: Some(Wire { source: at(wire.0), destination: at(wire.1) }),
            rtt_micros: seen_to_begin.then_some(80),
        });
        cookie
    }

    pub(crate) fn accept(&mut self, local: &str, remote: &str) {
        self.cookie += 1;
        let event = SocketEvent::Accept {
            cookie: SocketCookie(self.cookie),
            at: Nanos(self.now),
            local: at(local),
            remote: at(remote),
        };
        self.event(event);
    }

    pub(crate) fn say(&mut self, cookie: SocketCookie, bytes: &[u8]) {
        let total = u32::try_from(bytes.len()).unwrap();
        self.ledger.apply(Input::Payload(Payload {
            cookie,
            at: Nanos(self.now),
            offset: 0,
            total,
            bytes: bytes.to_vec(),
        }));
    }

    pub(crate) fn close(&mut self, cookie: SocketCookie, sent: u64, received: u64) {
        let counters = Counters { sent, received, rtt_micros: Some(90), retransmits: 0 };
        self.event(SocketEvent::Close { cookie, at: Nanos(self.now), counters });
    }

    /// A look-up, whose answer overtakes the socket that it came by.
    pub(crate) fn resolve(&mut self, who: &Who, name: &str, ip: [u8; 4]) {
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
    pub(crate) fn world(&mut self) -> World {
        self.tick(PATIENCE / Nanos::MILLI + 500);
        self.ledger.world()
    }

    /// app → sidecar → gateway → outside, all with the same first bytes. Returns the three cookies.
    pub(crate) fn journey(&mut self, pod: &str, port: u16, to: &str, bytes: &[u8]) -> [SocketCookie; 3] {
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

pub(crate) fn only(world: &World) -> &Flow {
    assert_eq!(world.flows.len(), 1, "{:#?}", world.flows.iter().map(|f| &f.judgement.why).collect::<Vec<_>>());
    &world.flows[0]
}

/// A ClientHello as far as it matters here: server name and something random.
pub(crate) fn hello(name: &str, random: u64) -> Vec<u8> {
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

pub(crate) const DWH: &str = "emarsyscdi.database.windows.net";

pub(crate) fn dns_answer(name: &str, ip: [u8; 4]) -> Vec<u8> {
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
