//! The ledger: sockets stitched into journeys, journeys judged, connections of the same sort folded into flows.
//!
//! ```text
//! Input ─▶ sockets ─▶ join (who carries whom on) ─▶ decide (judge) ─▶ flows ─▶ World
//! ```
//!
//! Same inputs in the same order give the same world. Time comes in with [`Input::Tick`] and with the events.
//!
//! A connection is judged as soon as nothing that could change the answer is open, at the latest [`PATIENCE`] after it
//! began: an accept may arrive later than the payload that it explains, and a proxy dials out only after that.

mod community;
mod decide;
mod flows;
mod gaps;
mod join;
mod names;
mod objects;
mod socket;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use arcstr::ArcStr;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::attribution::{Place, place_of};
use crate::id::{CgroupId, Nanos, NetnsCookie, SocketCookie, WallTime};
use crate::input::{Counters, Failure, Input, Opener, SocketEvent, Transport, Wire};
use crate::mesh::{Memo, Mesh};
use crate::sniff;
use crate::verdict::Class;
use crate::world::{Capture, Coverage, HISTORY_SECONDS, Incomplete, ObjectChange, World};

use flows::{Flows, State};
use join::Upstreams;
use names::Names;
use socket::{FirstBytes, Key, Role, Socket, Surroundings, attribute};

/// How long an application's socket may wait for the evidence that would settle it.
pub const PATIENCE: u64 = 600 * Nanos::MILLI;

/// How long a proxy's socket may stay unclaimed before it becomes a row of its own: applications ask first.
const UNCLAIMED: u64 = PATIENCE + 400 * Nanos::MILLI;

/// How long a socket that is over stays in the table, for events that overtook each other.
const LINGER: u64 = 2 * Nanos::SECOND;

/// Characters of a process's name that are kept: more than any kernel gives (`TASK_COMM_LEN` is 16, that of kernel threads 64).
const LONGEST_COMM: usize = 64;

/// Attributions (cgroups, processes, namespaces) that are remembered; beyond it the table starts anew.
const LONGEST_MEMORY: usize = 131_072;

/// What a ledger needs to know before it begins.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The node's name.
    pub node: ArcStr,
    /// The cluster's name, where known.
    pub cluster: Option<ArcStr>,
    /// Keep every connection as a flow of its own.
    pub each: bool,
    /// The observations come from a recording.
    pub replayed: bool,
}

/// The owner of everything that was observed.
#[derive(Debug)]
pub struct Ledger {
    options: Options,
    /// The nodes that take part; the first is the ledger's own.
    nodes: Vec<ArcStr>,
    mesh: Arc<Mesh>,
    coverage: Coverage,
    cgroups: FxHashMap<CgroupId, Option<Place>>,
    processes: FxHashMap<u32, Process>,
    netns: FxHashMap<NetnsCookie, ArcStr>,
    sockets: FxHashMap<Key, Socket>,
    /// UDP sockets talk to many peers; TCP sockets are not in here.
    peers: FxHashMap<SocketCookie, Vec<Key>>,
    /// First bytes that arrived before the socket they belong to.
    early: FxHashMap<SocketCookie, FirstBytes>,
    early_order: VecDeque<SocketCookie>,
    /// DNS answers whose socket is not known yet: the two rings are not ordered against each other.
    early_answers: VecDeque<(SocketCookie, Nanos, sniff::Answer)>,
    /// Accepted sockets by (own address, other end).
    accepts: FxHashMap<(SocketAddr, SocketAddr), Nanos>,
    accepts_order: VecDeque<(Nanos, (SocketAddr, SocketAddr))>,
    upstreams: FxHashMap<ArcStr, Upstreams>,
    due: BinaryHeap<Reverse<(Nanos, Due, Key)>>,
    names: Names,
    flows: Flows,
    strangers: FxHashSet<ArcStr>,
    /// What sources said that they cannot see.
    notes: Vec<Incomplete>,
    expected: Memo,
    lost: BTreeMap<ArcStr, u64>,
    /// What changed in the objects, oldest first.
    changes: VecDeque<Arc<ObjectChange>>,
    /// What the change that takes effect now consists of.
    latest: Vec<Arc<ObjectChange>>,
    /// What is booked is judged again.
    again: bool,
    history: VecDeque<Option<[u64; Class::ALL.len()]>>,
    now: Nanos,
    wall: WallTime,
    started: Option<WallTime>,
    second: Option<Nanos>,
    generation: u64,
    changed: bool,
}

/// What has to be looked at later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// Settle it with what is known.
    Settle,
    /// Forget it.
    Forget,
}

#[derive(Debug, Default)]
struct Process {
    comm: Option<ArcStr>,
    place: Option<Place>,
}

/// Payloads that wait for their socket (TCP Fast Open, two rings); beyond it the oldest are dropped.
const MOST_EARLY: usize = 4_096;

/// Notes of sources that are kept; there are as many as there are sources and reasons, not as there are events.
const MOST_NOTES: usize = 256;

/// How long an accept waits for the connection that it mirrors.
const ACCEPT_MEMORY: u64 = 30 * Nanos::SECOND;

impl Ledger {
    /// An empty one.
    pub fn new(options: Options) -> Self {
        let flows = Flows::new(options.each);
        Self {
            nodes: vec![options.node.clone()],
            options,
            mesh: Arc::default(),
            coverage: Coverage { nodes_observed: 1, nodes_total: 1, ..Coverage::default() },
            cgroups: FxHashMap::default(),
            processes: FxHashMap::default(),
            netns: FxHashMap::default(),
            sockets: FxHashMap::default(),
            peers: FxHashMap::default(),
            early: FxHashMap::default(),
            early_order: VecDeque::new(),
            early_answers: VecDeque::new(),
            accepts: FxHashMap::default(),
            accepts_order: VecDeque::new(),
            upstreams: FxHashMap::default(),
            due: BinaryHeap::new(),
            names: Names::default(),
            flows,
            strangers: FxHashSet::default(),
            notes: Vec::new(),
            expected: Memo::default(),
            lost: BTreeMap::new(),
            changes: VecDeque::new(),
            latest: Vec::new(),
            again: false,
            history: VecDeque::new(),
            now: Nanos::default(),
            wall: WallTime::default(),
            started: None,
            second: None,
            generation: 0,
            changed: true,
        }
    }

    /// Takes one observation.
    pub fn apply(&mut self, input: Input) {
        match input {
            Input::Socket(event) => self.socket(&event),
            Input::Payload(payload) => self.payload(&payload),
            Input::Dns { at, cookie, message } => self.dns(at, cookie, &message),
            Input::Cgroup { id, path } => {
                forget_if_full(&mut self.cgroups);
                self.cgroups.insert(id, path.as_deref().and_then(place_of));
            }
            Input::Process { tgid, comm, cgroup } => {
                forget_if_full(&mut self.processes);
                let place = cgroup.as_deref().and_then(place_of);
                let comm = comm.map(|c| crate::name::brief(&c, LONGEST_COMM).into());
                self.processes.insert(tgid, Process { comm, place });
            }
            Input::Lost { stage, total } => {
                self.changed |= self.lost.insert(stage, total) != Some(total);
            }
            Input::Capture(capture) => self.capture(capture),
            Input::Incomplete(note) => {
                self.changed = true;
                if !self.notes.contains(&note) && self.notes.len() < MOST_NOTES {
                    self.notes.push(note);
                }
            }
            Input::Node { number, name } => self.node(number, name),
            Input::Mesh { source, mesh, .. } => self.replace_mesh(source, mesh),
            Input::Cluster(state) => self.cluster(state),
            Input::Tick { now, wall } => self.tick(now, wall),
        }
    }

    fn node(&mut self, number: usize, name: ArcStr) {
        let known = self.nodes.len().max(number + 1);
        self.nodes.resize(known, ArcStr::default());
        self.nodes[number] = name;
        self.coverage.nodes_observed = self.nodes.len() as u32;
        self.coverage.nodes_total = self.coverage.nodes_total.max(self.coverage.nodes_observed);
        self.changed = true;
    }

    /// The node whose kernel saw this.
    fn node_of(&self, opener: &Opener) -> ArcStr {
        self.nodes.get(opener.netns.node()).unwrap_or(&self.options.node).clone()
    }

    fn capture(&mut self, capture: Capture) {
        self.coverage.capture = capture;
        self.changed = true;
    }

    fn attribute_again(&mut self, key: Key) {
        let Some(socket) = self.sockets.get(&key) else { return };
        let local = socket.local.map(|l| l.ip());
        let (opener, local) = (socket.opener, local);
        let (whose, role) = attribute(&opener, local, &self.surroundings(&opener));
        if let Some(socket) = self.sockets.get_mut(&key) {
            socket.whose = whose;
            socket.role = role;
        }
    }

    fn surroundings(&self, opener: &Opener) -> Surroundings<'_> {
        let process = self.processes.get(&opener.tgid);
        Surroundings {
            mesh: &self.mesh,
            cgroup: self.cgroups.get(&opener.cgroup).and_then(Option::as_ref),
            process: process.and_then(|p| p.place.as_ref()),
            process_comm: process.and_then(|p| p.comm.as_ref()),
            netns_pod: self.netns.get(&opener.netns),
        }
    }

    fn socket(&mut self, event: &SocketEvent) {
        match *event {
            SocketEvent::Open { cookie, at, started, opener, transport, dialled, remote, local, wire, rtt_micros } => {
                let key = Key { cookie, peer: (transport == Transport::Udp).then_some(dialled) };
                let counters = Counters { rtt_micros, ..Counters::default() };
                let new = New { key, at, started, opener, transport, dialled, remote, local: Some(local), wire };
                self.open(&new, counters, None);
            }
            SocketEvent::Fail { cookie, at, started, opener, dialled, local, wire, failure } => {
                let key = Key { cookie, peer: None };
                let transport = Transport::Tcp;
                let new = New { key, at, started, opener, transport, dialled, remote: dialled, local, wire };
                self.open(&new, Counters::default(), Some(failure));
            }
            SocketEvent::Accept { at, local, remote, .. } => self.accept(at, local, remote),
            SocketEvent::Sample { cookie, at, counters } => self.count(cookie, at, counters, false),
            SocketEvent::Close { cookie, at, counters } => self.count(cookie, at, counters, true),
        }
    }

    fn open(&mut self, new: &New, counters: Counters, failure: Option<Failure>) {
        let (whose, role) = attribute(&new.opener, new.local.map(|l| l.ip()), &self.surroundings(&new.opener));
        if let (Some(uid), true) = (&whose.pod_uid, new.opener.netns != NetnsCookie::default()) {
            let host_network = whose.pod.is_none_or(|p| self.mesh.pod(p).host_network)
                || whose.pod.is_some_and(|p| self.mesh.pod(p).proxy == crate::mesh::ProxyKind::Ztunnel);
            let shares = matches!(role, Role::App | Role::Sidecar | Role::Gateway | Role::GatewayOther);
            if whose.evidence == crate::world::Attribution::Cgroup && !host_network && shares {
                forget_if_full(&mut self.netns);
                self.netns.insert(new.opener.netns, uid.clone());
            }
        }
        if role == Role::Stranger {
            self.strangers.extend(whose.pod_uid.clone());
        }
        let first = self.early.remove(&new.key.cookie).unwrap_or_default();
        let key = new.key;
        if let Some(old) = self.sockets.get_mut(&key) {
            // A datagram socket that came back to a peer, or a record that came twice: the first one stands.
            old.seen = new.at;
            return;
        }
        if new.transport == Transport::Udp {
            self.peers.entry(key.cookie).or_default().push(key);
        }
        if new.transport == Transport::Udp && !self.early_answers.is_empty() {
            self.early_answers_of(key.cookie, &whose.pod_uid.clone().unwrap_or_default());
        }
        let socket = Socket {
            key,
            opener: new.opener,
            transport: new.transport,
            dialled: new.dialled,
            remote: new.remote,
            local: new.local,
            wire: new.wire,
            started: new.started,
            seen: new.at,
            failure,
            closed: None,
            counters,
            first,
            whose,
            role,
            claimed_by: None,
            next: None,
            booked: None,
        };
        self.register_upstream(&socket);
        self.sockets.insert(key, socket);
        let patience = if matches!(role, Role::Sidecar | Role::Gateway) { UNCLAIMED } else { PATIENCE };
        self.due.push(Reverse((Nanos(new.at.0 + patience), Due::Settle, key)));
        if failure.is_some() {
            self.due.push(Reverse((Nanos(new.at.0 + UNCLAIMED + LINGER), Due::Forget, key)));
        }
        self.evidence_for(key);
    }

    fn accept(&mut self, at: Nanos, local: SocketAddr, remote: SocketAddr) {
        self.accepts.insert((local, remote), at);
        self.accepts_order.push_back((at, (local, remote)));
        while let Some((old, ends)) = self.accepts_order.front().copied() {
            if at.since(old) < ACCEPT_MEMORY {
                break;
            }
            self.accepts_order.pop_front();
            if self.accepts.get(&ends) == Some(&old) {
                self.accepts.remove(&ends);
            }
        }
    }

    fn count(&mut self, cookie: SocketCookie, at: Nanos, counters: Counters, over: bool) {
        let mut keys = self.peers.get(&cookie).cloned().unwrap_or_default();
        if keys.is_empty() {
            keys.push(Key { cookie, peer: None });
        }
        for (nth, key) in keys.iter().enumerate() {
            let Some(socket) = self.sockets.get_mut(key) else { continue };
            // A datagram socket's counters are the socket's, not the peer's: they stand at its first peer.
            if nth == 0 {
                socket.counters =
                    Counters { rtt_micros: counters.rtt_micros.or(socket.counters.rtt_micros), ..counters };
            }
            socket.seen = at;
            if over && socket.closed.is_none() {
                socket.closed = Some(at);
                self.due.push(Reverse((Nanos(at.0 + UNCLAIMED + LINGER), Due::Forget, *key)));
            }
            let (state, booked) = (self.state_of(*key), self.take_booked(*key));
            if let (Some(state), Some(mut booked)) = (state, booked) {
                self.flows.update(&mut booked, state);
                self.changed = true;
                self.give_booked(*key, booked);
            }
            if over {
                self.evidence_for(*key);
            }
        }
    }

    fn payload(&mut self, payload: &crate::input::Payload) {
        let key = Key { cookie: payload.cookie, peer: None };
        if let Some(socket) = self.sockets.get_mut(&key) {
            let news = socket.first.add(payload.offset, payload.total, &payload.bytes);
            let (print, role) = (socket.first.fingerprint, socket.role);
            if let (Some(print), Role::Sidecar | Role::Gateway) = (print, role) {
                self.print_upstream(key, print);
            }
            if news {
                self.evidence_for(key);
            }
            return;
        }
        if !self.early.contains_key(&payload.cookie) {
            self.early_order.push_back(payload.cookie);
            while self.early_order.len() > MOST_EARLY {
                if let Some(oldest) = self.early_order.pop_front() {
                    self.early.remove(&oldest);
                }
            }
        }
        let first = self.early.entry(payload.cookie).or_default();
        first.add(payload.offset, payload.total, &payload.bytes);
    }

    fn dns(&mut self, at: Nanos, cookie: SocketCookie, message: &[u8]) {
        let Some(answer) = sniff::answers(message) else { return };
        let reader = self.peers.get(&cookie).and_then(|keys| self.sockets.get(keys.first()?));
        if let Some(reader) = reader.map(|s| s.whose.pod_uid.clone().unwrap_or_default()) {
            self.names.learn(&reader, at, &answer);
            return;
        }
        self.early_answers.push_back((cookie, at, answer));
        while self.early_answers.len() > MOST_EARLY {
            if let Some((_, at, answer)) = self.early_answers.pop_front() {
                self.names.learn(&ArcStr::default(), at, &answer);
            }
        }
    }

    /// The socket of answers that came before it is known now.
    fn early_answers_of(&mut self, cookie: SocketCookie, reader: &ArcStr) {
        if !self.early_answers.iter().any(|(c, ..)| *c == cookie) {
            return;
        }
        for (owner, at, answer) in std::mem::take(&mut self.early_answers) {
            if owner == cookie {
                self.names.learn(reader, at, &answer);
            } else {
                self.early_answers.push_back((owner, at, answer));
            }
        }
    }

    fn tick(&mut self, now: Nanos, wall: WallTime) {
        self.now = self.now.max(now);
        self.wall = wall;
        self.started.get_or_insert(wall);
        if self.coverage.mesh_at == WallTime::default() && self.coverage.mesh_generation > 0 {
            self.coverage.mesh_at = wall;
        }
        if self.is_fresh() {
            self.coverage.mesh_at = wall;
        }
        while let Some(Reverse((at, what, key))) = self.due.peek().copied() {
            if at > self.now {
                break;
            }
            self.due.pop();
            match what {
                Due::Settle => self.settle(key),
                Due::Forget => self.forget(key),
            }
        }
        let second = *self.second.get_or_insert(now);
        if now.since(second) >= Nanos::SECOND {
            let missed = (now.since(second) / Nanos::SECOND).saturating_sub(1).min(HISTORY_SECONDS as u64);
            for _ in 0..missed {
                self.history.push_back(None);
            }
            let bytes = self.flows.second();
            self.history.push_back(Some(bytes));
            while self.history.len() > HISTORY_SECONDS {
                self.history.pop_front();
            }
            self.second = Some(Nanos(second.0 + now.since(second) / Nanos::SECOND * Nanos::SECOND));
            // Rates fall back to zero and the minute moves on, also when nothing else happens any more.
            self.changed |= self.history.iter().flatten().flatten().any(|b| *b > 0);
        }
    }

    /// Nothing more will come: settles what waits.
    pub fn finish(&mut self) {
        let mut rest: Vec<Reverse<(Nanos, Due, Key)>> = std::mem::take(&mut self.due).into_vec();
        rest.sort_by_key(|Reverse(due)| *due);
        for Reverse((_, what, key)) in rest {
            if what == Due::Settle {
                self.settle(key);
            }
        }
    }

    fn forget(&mut self, key: Key) {
        if let Some(socket) = self.sockets.remove(&key) {
            self.unregister_upstream(&socket);
            if socket.transport == Transport::Udp {
                self.peers.remove(&key.cookie);
            }
        }
    }

    fn take_booked(&mut self, key: Key) -> Option<flows::Booked> {
        self.sockets.get_mut(&key).and_then(|s| s.booked.take())
    }

    fn give_booked(&mut self, key: Key, booked: flows::Booked) {
        if let Some(socket) = self.sockets.get_mut(&key) {
            socket.booked = Some(booked);
        }
    }

    fn state_of(&self, key: Key) -> Option<State> {
        let socket = self.sockets.get(&key)?;
        Some(State {
            counters: socket.counters,
            open: !socket.is_over(),
            failed: socket.failure.is_some(),
            at: self.wall_at(socket.seen),
        })
    }

    /// The wall clock at a moment of the kernel's clock, by the latest tick.
    fn wall_at(&self, at: Nanos) -> WallTime {
        WallTime(self.wall.0 - self.now.0.cast_signed() + at.0.cast_signed())
    }

    /// Something changed since [`Ledger::world`] was last called.
    pub fn has_changed(&self) -> bool {
        self.changed
    }

    /// Everything at this instant.
    pub fn world(&mut self) -> World {
        self.changed = false;
        self.generation += 1;
        self.coverage.lost = self.lost.iter().filter(|(_, n)| **n > 0).map(|(s, n)| (s.clone(), *n)).collect();
        for (stage, n) in [("flows", self.flows.refused), ("each", self.flows.refused_each)] {
            if n > 0 {
                self.coverage.lost.push((stage.into(), n));
            }
        }
        World {
            generation: self.generation,
            node: self.options.node.clone(),
            cluster: self.options.cluster.clone(),
            started: self.started.unwrap_or(self.wall),
            now: self.wall,
            coverage: self.coverage.clone(),
            incomplete: self.incomplete(),
            flows: self.flows.rows().cloned().collect(),
            each: self.flows.each().cloned().collect(),
            history: self.history.iter().copied().collect(),
            replayed: self.options.replayed,
            changes: self.changes.iter().cloned().collect(),
            mesh: self.mesh.clone(),
        }
    }
}

/// A socket that appeared.
struct New {
    key: Key,
    at: Nanos,
    started: Nanos,
    opener: Opener,
    transport: Transport,
    dialled: SocketAddr,
    remote: SocketAddr,
    local: Option<SocketAddr>,
    wire: Option<Wire>,
}

fn forget_if_full<K, V>(table: &mut FxHashMap<K, V>) {
    if table.len() >= LONGEST_MEMORY {
        table.clear();
    }
}
