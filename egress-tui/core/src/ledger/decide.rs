//! When a connection is judged, and with what evidence.

use std::net::SocketAddr;
use std::sync::Arc;

use arcstr::ArcStr;

use crate::id::{NamespacedName, Nanos};
use crate::input::Transport;
use crate::mesh::{Asked, Bytes, CallLeg, Expected, Match, Outcome, ProxyKind};
use crate::name::{HostName, NameEvidence, NameSource};
use crate::verdict::judge::{self, Question, Seen, Upstream};
use crate::verdict::{Judgement, Mark, Reason, Step, Verdict};
use crate::world::{Attribution, Destination, Flow, Joint, Leg, Process, Source};

use super::Ledger;
use super::community::community_id;
use super::flows::FlowKey;
use super::socket::{Key, Role, Socket};

/// A judged connection, before it is booked.
struct Judged {
    leg: Leg,
    judgement: Judgement,
    expected: Option<Arc<Expected>>,
    name: NameEvidence,
}

impl Ledger {
    /// Something new is known about this socket: settles it if nothing is open any more, and whom it explains.
    pub(super) fn evidence_for(&mut self, key: Key) {
        let Some(socket) = self.sockets.get(&key) else { return };
        let (role, tcp, booked) = (socket.role, socket.transport == Transport::Tcp, socket.booked.is_some());
        let (pod_uid, claimed) = (socket.whose.pod_uid.clone(), socket.claimed_by.is_some());
        match (role, pod_uid) {
            (Role::Sidecar | Role::Gateway, Some(uid)) if tcp && !claimed => {
                for waiting in self.waiting_in(&uid) {
                    self.no_longer_waiting(&uid, waiting);
                    self.settle(waiting);
                }
            }
            (Role::Sidecar | Role::Gateway, _) if tcp => {}
            _ if booked || (role != Role::Agent && tcp && !self.is_settled(key)) => {}
            _ => self.settle(key),
        }
    }

    /// Nothing that could change the answer is open.
    fn is_settled(&mut self, key: Key) -> bool {
        let Some(socket) = self.sockets.get(&key) else { return false };
        if socket.first.sniffed.is_none() && !socket.is_over() {
            return false;
        }
        let Some(wire) = socket.wire else { return false };
        if wire.destination == socket.remote && self.taker(socket).is_none() {
            // NAT left it alone, and no proxy is at the other end.
            return true;
        }
        if socket.first.fingerprint.is_none() {
            return false;
        }
        self.follow(key, false);
        // Complete once the last socket leads to no proxy any more.
        self.journey(key).last().is_some_and(|(last, _)| last.key != key && self.taker(last).is_none())
    }

    /// Judges a socket with what is known, and books it.
    pub(super) fn settle(&mut self, key: Key) {
        let Some(socket) = self.sockets.get(&key) else { return };
        if socket.claimed_by.is_some() {
            return;
        }
        let role = socket.role;
        if matches!(role, Role::App | Role::GatewayOther) && socket.transport == Transport::Tcp {
            let closed = self.closed_gateway(key);
            self.follow_to(key, true, closed.as_ref());
        }
        if role == Role::Gateway && self.sockets.get(&key).is_some_and(|s| self.taker(s).is_some()) {
            self.follow(key, true);
        }
        let Some(judged) = self.judged(key) else { return };
        self.book(key, judged);
    }

    fn judged(&mut self, key: Key) -> Option<Judged> {
        let socket = self.sockets.get(&key)?;
        match socket.role {
            Role::Host => Some(self.host_process(socket)),
            Role::Stranger => Some(self.stranger(socket)),
            Role::Agent => Some(self.infra(socket, "pilot-agent's own connection")),
            Role::Sidecar if socket.transport == Transport::Udp => {
                Some(self.infra(socket, "the proxy's own name look-up"))
            }
            // A sidecar's upstream is never a row of its own.
            Role::Sidecar => self
                .mesh
                .is_control_plane(socket.dialled.ip(), socket.dialled.port())
                .then(|| self.infra(socket, "the proxy's connection to its control plane")),
            Role::Gateway | Role::GatewayOther => Some(self.gateway_upstream(socket)),
            Role::App => self.application(key),
        }
    }

    fn host_process(&self, socket: &Socket) -> Judged {
        let says = format!("process {} (pid {}) belongs to no pod", socket.whose.comm, socket.opener.pid());
        let judgement = judge::plain(Verdict::OutsideMesh, Reason::HostProcess, None, says);
        Judged { leg: Leg::Host, judgement, expected: None, name: self.name_of(socket, None) }
    }

    fn stranger(&self, socket: &Socket) -> Judged {
        let uid = socket.whose.pod_uid.as_deref().unwrap_or_default();
        let says = if self.coverage.mesh.objects == 0 {
            "no mesh objects are known, so nothing can be judged".to_owned()
        } else {
            format!("no Pod object has the uid {uid} that stands in the process's cgroup")
        };
        let judgement = judge::plain(Verdict::Unknown, Reason::EvidenceMissing, None, says);
        Judged { leg: Leg::AppUncaptured, judgement, expected: None, name: self.name_of(socket, None) }
    }

    fn infra(&self, socket: &Socket, says: &str) -> Judged {
        let object = socket.whose.pod.map(|p| (self.mesh.pod(p).object.clone(), ".spec.containers"));
        let judgement = judge::plain(Verdict::ProxyInfra, Reason::ProxyControl, object, says.to_owned());
        Judged { leg: Leg::Infra, judgement, expected: None, name: self.name_of(socket, None) }
    }

    fn gateway_upstream(&self, socket: &Socket) -> Judged {
        let proxy = socket.role == Role::Gateway;
        let name = self.name_of(socket, None);
        let Some(pod) = socket.whose.pod else { return self.stranger(socket) };
        let to = socket.dialled;
        if proxy && (socket.transport == Transport::Udp || self.mesh.is_control_plane(to.ip(), to.port())) {
            return self.infra(socket, "the gateway proxy's own control traffic");
        }
        let leg = if proxy { Leg::Gateway } else { Leg::AppUncaptured };
        // A proxy dials what it resolved; the server name that it then offers is that of the request, unless a rule rewrites it.
        let resolved = self.names.of(&reader(socket), to.ip(), socket.started).into_iter();
        let resolved = resolved.flat_map(|n| n.candidates).filter(|_| proxy);
        let permits =
            |host: &Option<HostName>| self.mesh.gateway_permits(pod, to, host.as_ref().map(HostName::as_str)).is_some();
        let by = std::iter::once(name.host.clone()).chain(resolved.map(Some)).find(permits);
        let permitted = by.is_some();
        let judgement = match self.mesh.in_cluster(to.ip(), to.port()) {
            Some(inside) if !permitted => {
                let says = inside.says(to);
                judge::plain(Verdict::InCluster, Reason::InCluster, inside.object.map(|o| (o, ".status")), says)
            }
            _ => {
                let known_as = NameEvidence { host: by.unwrap_or_else(|| name.host.clone()), ..name.clone() };
                judge::gateway_socket(&self.mesh, pod, to, &known_as, proxy)
            }
        };
        Judged { leg, judgement, expected: None, name }
    }

    /// What is asked of the mesh about a socket of an application.
    fn asked(&self, socket: &Socket) -> Option<Asked> {
        let dns = self.names.of(&reader(socket), socket.dialled.ip(), socket.started).and_then(|n| n.host);
        let sniffed = socket.first.sniffed.as_ref();
        // A request has a Host that did not come with its first segment: the name that was resolved is the best guess.
        let cut = sniffed.is_some_and(|s| s.cut);
        Some(Asked {
            pod: socket.whose.pod?,
            leg: CallLeg::Outbound,
            to: socket.dialled,
            transport: socket.transport,
            bytes: if cut && dns.is_none() { Bytes::Unknown } else { socket.bytes() },
            sni: socket.sni().cloned(),
            host: socket.host().or(dns.as_ref().filter(|_| cut)).cloned(),
            path: sniffed.and_then(|s| s.path.clone()),
            dns,
            container: socket.whose.container.clone(),
            uid: Some(socket.opener.uid),
            gid: Some(socket.opener.gid),
            captured: self.is_redirected(socket) && self.taker(socket).is_some(),
        })
    }

    /// The gateway that must not carry this HTTP request on: what it opens meanwhile belongs to other requests.
    fn closed_gateway(&mut self, key: Key) -> Option<NamespacedName> {
        let socket = self.sockets.get(&key).filter(|s| matches!(s.bytes(), Bytes::Http | Bytes::Http2))?;
        let asked = self.asked(socket).filter(|a| a.captured)?;
        let expected = self.expected.expect(&self.mesh, &asked);
        let leg = expected.leg2.as_deref()?;
        let stops = matches!(leg.outcome, Outcome::Broken | Outcome::Blocked | Outcome::Answered);
        (stops && leg.alternative_outcomes.is_empty()).then(|| expected.gateway.clone()).flatten()
    }

    fn application(&mut self, key: Key) -> Option<Judged> {
        let socket = self.sockets.get(&key)?;
        let redirected = self.is_redirected(socket);
        let asked = self.asked(socket)?;
        let captured = asked.captured;
        let expected = self.expected.expect(&self.mesh, &asked);
        let socket = self.sockets.get(&key)?;
        let name = self.name_of(socket, Some(&expected));
        let call = asked.call();
        let gateway = self.gateway_reached(key);
        let journey = self.journey(key);
        let upstream = journey.get(1).map(|(s, _)| s.dialled);
        let pooled = self.pooled(socket, expected.gateway.as_ref());
        let seen = match (captured, &gateway, upstream, &pooled) {
            (false, ..) => Seen::Uncaptured,
            (true, Some(gateway), ..) => Seen::Captured(Upstream::Gateway(gateway)),
            (true, None, Some(to), _) => Seen::Captured(Upstream::To(to)),
            (true, None, None, Some((_, Some(gateway)))) => Seen::Captured(Upstream::PooledGateway(gateway)),
            (true, None, None, Some((to, None))) => Seen::Captured(Upstream::Pooled(*to)),
            (true, None, None, None) => Seen::Captured(Upstream::None),
        };
        let owner = expected.then.as_deref().unwrap_or(&expected).entry.as_ref();
        let addresses = owner.map_or(&[][..], |e| self.names.addresses(&e.host));
        let question = Question {
            mesh: &self.mesh,
            call: &call,
            expected: &expected,
            name: &name,
            entry_addresses: addresses,
            seen,
        };
        let mut judgement = judge::judge(&question);
        let mut chain = self.observed(socket, &name, redirected, captured, &journey);
        chain.append(&mut judgement.chain);
        judgement.chain = chain;
        let guessed = journey.iter().any(|(_, j)| matches!(j, Joint::TupleAndWindow | Joint::Window));
        if guessed
            && !judgement.reasons.contains(&Reason::EvidenceMissing)
            && judgement.verdict == Verdict::PolicyMismatch
        {
            // A contradiction that rests on a guess is no contradiction.
            judgement.reasons.push(Reason::EvidenceMissing);
        }
        if let Some(socket) = self.sockets.get(&key) {
            self.qualify(socket, &mut judgement);
        }
        let then = expected.then.as_ref().map(|t| Arc::new((**t).clone()));
        Some(Judged {
            leg: if captured { Leg::AppCaptured } else { Leg::AppUncaptured },
            judgement,
            expected: Some(then.unwrap_or(expected)),
            name,
        })
    }

    /// The steps that were seen, before those of the configuration.
    fn observed(
        &self,
        socket: &Socket,
        name: &NameEvidence,
        redirected: bool,
        captured: bool,
        journey: &[(&Socket, Joint)],
    ) -> Vec<Step> {
        let who = socket.whose.pod.map_or_else(String::new, |p| self.mesh.pod(p).name.to_string());
        let mut steps = vec![Step::new(
            "flow",
            Mark::Ok,
            format!(
                "{who} ({} pid {} uid {}) dialled {} over {}{}; attributed by {}",
                socket.whose.comm,
                socket.opener.pid(),
                socket.opener.uid,
                socket.dialled,
                socket.transport.as_str(),
                if socket.started == Nanos::BEFORE { " before the observation began" } else { "" },
                socket.whose.evidence.as_str()
            ),
        )];
        steps.push(match (&name.host, name.source) {
            (Some(host), NameSource::Dns) => {
                let age = name.age_nanos.unwrap_or_default() / Nanos::SECOND;
                let shared = name.candidates.len();
                let says = format!("{host} by a DNS answer {age} s earlier; {shared} name(s) share the address");
                Step::new("name", if shared > 1 { Mark::Unknown } else { Mark::Ok }, says)
            }
            (Some(host), source) => Step::new("name", Mark::Ok, format!("{host} by {}", source.as_str())),
            (None, _) => {
                Step::new("name", Mark::Unknown, "no server name, Host header or DNS answer was seen".to_owned())
            }
        });
        if socket.transport == Transport::Tcp {
            let says = match (redirected, captured) {
                _ if socket.started == Nanos::BEFORE => {
                    let taken = if captured { "the proxy holds its other end" } else { "no proxy holds its other end" };
                    format!("{taken}, as the kernel's tables of this network namespace show")
                }
                (true, true) => "the proxy accepted it: first packet and accepted socket mirror each other".to_owned(),
                (true, false) => "NAT sent it to the proxy's port, but no proxy accepted it".to_owned(),
                (false, _) => "the first packet left unchanged by NAT: the proxy never saw this connection".to_owned(),
            };
            steps.push(Step::new("captured", if captured { Mark::Ok } else { Mark::No }, says));
        }
        for (hop, joint) in journey.iter().skip(1) {
            let pod = hop.whose.pod.map_or_else(String::new, |p| self.mesh.pod(p).name.to_string());
            let guess = if matches!(joint, Joint::TupleAndWindow | Joint::Window) { " (a guess)" } else { "" };
            let failed = if hop.failure.is_some() { ", which failed" } else { "" };
            let says =
                format!("the proxy of {pod} connected to {}{failed}; joined by {}{guess}", hop.dialled, joint.as_str());
            steps.push(Step::new("seen", if hop.failure.is_some() { Mark::No } else { Mark::Ok }, says));
        }
        steps
    }

    /// The gateway that the journey reached.
    fn gateway_reached(&self, key: Key) -> Option<NamespacedName> {
        self.journey(key).iter().skip(1).find_map(|(hop, _)| self.gateway_at(hop.next_hop()))
    }

    pub(super) fn gateway_at(&self, to: SocketAddr) -> Option<NamespacedName> {
        let pod = self.mesh.pod_by_ip(to.ip())?;
        let proxy = self.mesh.pod(pod).proxy;
        let gateway = matches!(proxy, ProxyKind::Gateway | ProxyKind::Waypoint);
        gateway.then(|| self.mesh.gateway_of_pod(pod).unwrap_or_else(|| self.mesh.pod(pod).name.clone()))
    }

    /// HTTP requests share upstream connections: an open one of the same proxy may have carried this one, first of all one that
    /// leads where it has to go.
    fn pooled(&self, socket: &Socket, wanted: Option<&NamespacedName>) -> Option<(SocketAddr, Option<NamespacedName>)> {
        // ztunnel's tunnels carry one connection after the other, whatever their bytes
        let tunnels = socket.whose.pod.is_some_and(|p| self.mesh.pod(p).proxy == ProxyKind::Ambient);
        if !tunnels && !matches!(socket.bytes(), Bytes::Http | Bytes::Http2) {
            return None;
        }
        let uid = socket.whose.pod_uid.as_ref()?;
        let mut found: Vec<_> = self.open_upstreams(uid).map(|u| (u.dialled, self.gateway_at(u.next_hop()))).collect();
        found.sort_by_key(|(to, gateway)| (gateway.as_ref() != wanted, gateway.is_none(), *to));
        found.into_iter().next()
    }

    /// Design §3.4: what the bytes say, else DNS, else the entry that owns the address.
    fn name_of(&self, socket: &Socket, expected: Option<&Expected>) -> NameEvidence {
        let told = |host: &HostName, source| NameEvidence {
            host: Some(host.clone()),
            source,
            age_nanos: None,
            candidates: Vec::new(),
        };
        if let Some(sni) = socket.sni() {
            return told(sni, NameSource::Sni);
        }
        if let Some(host) = socket.host() {
            return told(host, NameSource::Http);
        }
        if let Some(dns) = self.names.of(&reader(socket), socket.dialled.ip(), socket.started) {
            return dns;
        }
        let entry = expected.map(|e| e.then.as_deref().unwrap_or(e)).and_then(|e| e.entry.as_ref());
        match entry.filter(|e| e.by == Match::Address && e.owner != crate::mesh::Owner::Service) {
            Some(entry) => told(&HostName::from(entry.host.as_str()), NameSource::Entry),
            None => NameEvidence::none(),
        }
    }

    fn book(&mut self, key: Key, judged: Judged) {
        let Some(socket) = self.sockets.get(&key) else { return };
        let path = self.hops(key);
        let shape: Vec<String> =
            path.iter().map(|h| format!("{} {}", h.role, h.pod.as_deref().unwrap_or_default())).collect();
        let name = &judged.name;
        let host = name.host.as_ref().map_or_else(|| arcstr::format!("{}", socket.dialled.ip()), HostName::shared);
        let flow_key = FlowKey {
            who: socket.whose.pod_uid.clone().unwrap_or_else(|| socket.whose.comm.clone()),
            container: socket.whose.container.clone(),
            leg: judged.leg,
            protocol: socket.transport,
            host,
            port: socket.dialled.port(),
            path: shape.join(" > ").into(),
            verdict: judged.judgement.verdict,
            reason: judged.judgement.reason(),
        };
        if let Some(booked) = socket.booked.as_ref().filter(|b| b.key == flow_key) {
            if self.again {
                // The same verdict, by other objects perhaps.
                self.changed |= self.flows.refresh(booked, judged.judgement, judged.expected);
            }
            return;
        }
        let node = self.node_of(&socket.opener);
        let rejudged = socket.booked.as_ref().and_then(|old| self.rejudged(old, &judged.judgement));
        let row = Flow { rejudged, ..self.row(socket, path, judged) };
        let cookie = key.cookie.0 ^ key.peer.map_or(0, |p| u64::from(p.port()));
        let Some(state) = self.state_of(key) else { return };
        if let Some(old) = self.take_booked(key) {
            self.flows.remove(&old);
        }
        self.changed = true;
        if let Some(booked) = self.flows.add(&node, flow_key, cookie, row, state) {
            self.give_booked(key, booked);
        }
    }

    fn row(&self, socket: &Socket, path: Vec<crate::world::Hop>, judged: Judged) -> Flow {
        let pod = socket.whose.pod.map(|p| self.mesh.pod(p));
        let ip = socket.local.map(|l| l.ip()).filter(|ip| !ip.is_unspecified()).or_else(|| pod?.ips.first().copied());
        let process = Process { pid: socket.opener.pid(), comm: socket.whose.comm.clone(), uid: socket.opener.uid };
        let own = ip.map(|ip| SocketAddr::new(ip, socket.local.map_or(0, |l| l.port())));
        let bytes = socket.bytes();
        Flow {
            id: crate::id::FlowId::default(),
            source: Source {
                namespace: pod.map(|p| p.name.namespace.clone()),
                pod: pod.map(|p| p.name.name.clone()),
                pod_uid: socket.whose.pod_uid.clone(),
                workload: pod.map(|p| p.workload.clone()),
                container: socket.whose.container.clone(),
                service_account: pod.map(|p| p.service_account.clone()),
                process: (socket.opener.pid() != 0).then_some(process),
                ip,
                node: self.node_of(&socket.opener),
                labels: pod.map(|p| p.labels.clone()).unwrap_or_default(),
                evidence: if pod.is_some() { socket.whose.evidence } else { Attribution::None },
            },
            destination: Destination { ip: socket.dialled.ip(), port: socket.dialled.port(), name: judged.name },
            protocol: socket.transport,
            l7: match (bytes, socket.transport) {
                (Bytes::Tls | Bytes::Http | Bytes::Http2, _) => Some(bytes.as_str()),
                (Bytes::Opaque, _) => Some("opaque"),
                (Bytes::Unknown, _) => None,
            },
            leg: judged.leg,
            path,
            judgement: Arc::new(judged.judgement),
            expected: judged.expected.filter(|e| e.outcome != Outcome::NotCaptured),
            rejudged: None,
            stale: u64::from(self.is_stale()),
            connections: 0,
            open: 0,
            failures: 0,
            bytes_sent: 0,
            bytes_received: 0,
            sent_per_second: 0,
            received_per_second: 0,
            rtt_micros: None,
            retransmits: 0,
            first_seen: self.wall_at(if socket.started == Nanos::BEFORE { socket.seen } else { socket.started }),
            last_seen: self.wall_at(socket.seen),
            community_id: own.map(|own| community_id(socket.transport, own, socket.dialled)),
        }
    }
}

/// Whose DNS answers count for this socket.
fn reader(socket: &Socket) -> ArcStr {
    socket.whose.pod_uid.clone().unwrap_or_default()
}
