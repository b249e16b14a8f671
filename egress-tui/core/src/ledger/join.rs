//! Which socket carries which on (design §3.3), strongest evidence first:
//!
//! - the four numbers of a socket's first packet after NAT, mirrored by an accepted socket: who took it;
//! - the same first bytes: which socket of that proxy carries it on;
//! - pod, destination and time: a guess, and called one.

use std::net::SocketAddr;

use arcstr::ArcStr;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::collections::BTreeSet;

use crate::id::{NamespacedName, Nanos};
use crate::mesh::Bytes;
use crate::world::{Hop, Joint};

use super::Ledger;
use super::socket::{Key, Role, Socket};

/// A journey never has more hops than this; a loop ends here.
const MOST_HOPS: usize = 5;

/// Port of waypoints for tunnels of the mesh.
const HBONE: u16 = 15008;

/// How much earlier than the accept a proxy's upstream socket may seem to begin: records of two CPUs overtake each other.
const SLACK: u64 = 5 * Nanos::MILLI;

/// Upstream sockets of one pod's proxy.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    by_print: FxHashMap<u64, SmallVec<[Key; 1]>>,
    /// Those that no journey claimed, by the time they began.
    free: BTreeSet<(Nanos, Key)>,
    /// All that are open, claimed or not: HTTP reuses them.
    open: BTreeSet<Key>,
    /// Journeys that are settled but miss their next hop.
    waiting: BTreeSet<Key>,
}

/// Who accepted a connection.
pub(super) struct Taker {
    /// uid of the pod whose proxy it is.
    pub(super) pod_uid: ArcStr,
    /// When it did; `None` on another node.
    pub(super) at: Option<Nanos>,
}

impl Ledger {
    pub(super) fn register_upstream(&mut self, socket: &Socket) {
        if !matches!(socket.role, Role::Sidecar | Role::Gateway) || socket.transport != crate::input::Transport::Tcp {
            return;
        }
        let Some(uid) = &socket.whose.pod_uid else { return };
        let pod = self.upstreams.entry(uid.clone()).or_default();
        pod.free.insert((socket.started, socket.key));
        pod.open.insert(socket.key);
        if let Some(print) = socket.first.fingerprint {
            pod.by_print.entry(print).or_default().push(socket.key);
        }
    }

    pub(super) fn print_upstream(&mut self, key: Key, print: u64) {
        let Some(uid) = self.sockets.get(&key).and_then(|s| s.whose.pod_uid.clone()) else { return };
        let keys = self.upstreams.entry(uid).or_default().by_print.entry(print).or_default();
        if !keys.contains(&key) {
            keys.push(key);
        }
    }

    pub(super) fn unregister_upstream(&mut self, socket: &Socket) {
        let Some(uid) = &socket.whose.pod_uid else { return };
        let Some(pod) = self.upstreams.get_mut(uid) else { return };
        pod.free.remove(&(socket.started, socket.key));
        pod.open.remove(&socket.key);
        pod.waiting.remove(&socket.key);
        if let Some(print) = socket.first.fingerprint
            && let Some(keys) = pod.by_print.get_mut(&print)
        {
            keys.retain(|k| *k != socket.key);
            if keys.is_empty() {
                pod.by_print.remove(&print);
            }
        }
        if pod.free.is_empty() && pod.open.is_empty() && pod.waiting.is_empty() && pod.by_print.is_empty() {
            self.upstreams.remove(uid);
        }
    }

    /// The pod whose proxy took this socket's connection, if one did.
    ///
    /// REDIRECT leads to loopback in the same network namespace; a gateway is reached at its pod's address.
    pub(super) fn taker(&self, socket: &Socket) -> Option<Taker> {
        let to = socket.next_hop();
        let accepted = socket.wire.and_then(|w| self.accepts.get(&(w.destination, w.source)).copied());
        if self.is_redirected(socket) {
            let at = accepted?;
            return Some(Taker { pod_uid: socket.whose.pod_uid.clone()?, at: Some(at) });
        }
        let pod = self.mesh.pod_by_ip(to.ip())?;
        let proxies =
            matches!(self.mesh.pod(pod).proxy, crate::mesh::ProxyKind::Gateway | crate::mesh::ProxyKind::Waypoint);
        proxies.then(|| Taker { pod_uid: self.mesh.pod(pod).uid.clone(), at: accepted })
    }

    /// NAT sent its first packet to a listener of its own network namespace.
    pub(super) fn is_redirected(&self, socket: &Socket) -> bool {
        socket.wire.is_some_and(|w| w.destination != socket.remote && self.is_own(socket, w.destination))
    }

    fn is_own(&self, socket: &Socket, to: SocketAddr) -> bool {
        to.ip().is_loopback() || socket.whose.pod.is_some_and(|p| self.mesh.pod(p).ips.contains(&to.ip()))
    }

    /// The upstream socket that has the same first bytes, or those that the application sent: a way between two proxies may be
    /// wrapped in TLS.
    fn next_by_bytes(&self, socket: &Socket, origin: &Socket, taker: &Taker) -> Option<Key> {
        let same = |print: Option<u64>| self.next_by_print(socket, print?, taker);
        same(socket.first.fingerprint).or_else(|| same(origin.first.fingerprint))
    }

    fn next_by_print(&self, socket: &Socket, print: u64, taker: &Taker) -> Option<Key> {
        let keys = self.upstreams.get(&taker.pod_uid)?.by_print.get(&print)?;
        let fits = |key: &&Key| {
            self.sockets.get(key).is_some_and(|u| {
                (u.claimed_by.is_none() || u.claimed_by == Some(socket.key))
                    && u.key != socket.key
                    && taker.at.is_none_or(|at| u.started.0 + SLACK >= at.0)
            })
        };
        keys.iter().filter(fits).min_by_key(|k| self.sockets.get(k).map(|s| (s.started, **k))).copied()
    }

    /// The first unclaimed upstream socket of that proxy after the accept whose bytes do not contradict.
    fn next_by_window(&self, socket: &Socket, origin: &Socket, taker: &Taker) -> Option<Key> {
        // What is inside of a proxy's TLS is what the application said.
        let said = if socket.bytes() == Bytes::Tls && origin.bytes() != Bytes::Tls { origin } else { socket };
        let at = taker.at?;
        let free = &self.upstreams.get(&taker.pod_uid)?.free;
        if socket.started == Nanos::BEFORE {
            // Nobody knows when: only the destination can tell which one it was.
            let before = free.iter().take_while(|(started, _)| *started == Nanos::BEFORE);
            let same = |u: &&Socket| u.key != socket.key && u.dialled == socket.dialled;
            return before.filter_map(|(_, key)| self.sockets.get(key)).find(same).map(|u| u.key);
        }
        let from = Nanos(at.0.saturating_sub(SLACK));
        let until = socket.closed.map_or(u64::MAX, |c| c.0.saturating_add(SLACK));
        // proxies add headers to HTTP, and a tunnel shows nothing of what is in it
        let tunnel = socket.dialled.port() == HBONE
            || socket.whose.pod.is_some_and(|p| self.mesh.pod(p).proxy == crate::mesh::ProxyKind::Ambient);
        let http = tunnel || matches!(said.bytes(), Bytes::Http | Bytes::Http2);
        free.range((from, Key { cookie: crate::id::SocketCookie(0), peer: None })..)
            .take_while(|(started, _)| started.0 <= until)
            .filter_map(|(_, key)| self.sockets.get(key))
            .filter(|u| u.key != socket.key && (http || !u.first.contradicts(&said.first)))
            // Bytes that are known on both sides and differ belong to somebody else, unless a proxy rewrites them.
            .find(|u| match (said.first.fingerprint, u.first.fingerprint) {
                (Some(a), Some(b)) => a == b || http || said.bytes() != Bytes::Tls,
                _ => true,
            })
            .map(|u| u.key)
    }

    /// Follows a socket as far as it was carried on. With `guess`, also by time.
    pub(super) fn follow(&mut self, key: Key, guess: bool) {
        self.follow_to(key, guess, None);
    }

    /// The same; a guess ends at the gateway `closed`, which carries this one nowhere.
    pub(super) fn follow_to(&mut self, key: Key, guess: bool, closed: Option<&NamespacedName>) {
        let mut at = key;
        for _ in 0..MOST_HOPS {
            let Some(socket) = self.sockets.get(&at) else { return };
            if let Some((next, _)) = socket.next {
                at = next;
                continue;
            }
            let Some(taker) = self.taker(socket) else { return };
            let mirrored = taker.at.is_some();
            let origin = self.sockets.get(&key).unwrap_or(socket);
            let bytes = self.next_by_bytes(socket, origin, &taker);
            let ends_here = closed.is_some() && self.gateway_at(socket.next_hop()).as_ref() == closed;
            let found = match (bytes, guess && !ends_here) {
                (Some(next), _) => Some((next, if mirrored { Joint::TupleAndBytes } else { Joint::Bytes })),
                (None, true) => self.next_by_window(socket, origin, &taker).map(|next| (next, Joint::TupleAndWindow)),
                (None, false) => None,
            };
            let pod = taker.pod_uid;
            let Some((next, joint)) = found else {
                if guess && !ends_here {
                    self.upstreams.entry(pod).or_default().waiting.insert(key);
                }
                return;
            };
            self.claim(at, next, joint);
            at = next;
        }
    }

    fn claim(&mut self, from: Key, next: Key, joint: Joint) {
        if let Some(socket) = self.sockets.get_mut(&from) {
            socket.next = Some((next, joint));
        }
        let Some(upstream) = self.sockets.get_mut(&next) else { return };
        upstream.claimed_by = Some(from);
        let (started, uid, booked) = (upstream.started, upstream.whose.pod_uid.clone(), upstream.booked.take());
        if let Some(booked) = booked {
            // It stood as a row of its own until its journey was found.
            self.flows.remove(&booked);
            self.changed = true;
        }
        if let Some(pod) = uid.and_then(|uid| self.upstreams.get_mut(&uid)) {
            pod.free.remove(&(started, next));
        }
    }

    /// Journeys in this pod that miss their next hop: an upstream socket just appeared.
    pub(super) fn waiting_in(&self, pod_uid: &ArcStr) -> Vec<Key> {
        self.upstreams.get(pod_uid).map(|p| p.waiting.iter().copied().collect()).unwrap_or_default()
    }

    pub(super) fn no_longer_waiting(&mut self, pod_uid: &ArcStr, key: Key) {
        if let Some(pod) = self.upstreams.get_mut(pod_uid) {
            pod.waiting.remove(&key);
        }
    }

    /// Open upstream sockets of this pod's proxy, claimed or not.
    pub(super) fn open_upstreams(&self, pod_uid: &ArcStr) -> impl Iterator<Item = &Socket> {
        let keys = self.upstreams.get(pod_uid).map(|p| p.open.iter()).into_iter().flatten();
        keys.filter_map(|k| self.sockets.get(k)).filter(|s| !s.is_over())
    }

    /// The sockets of a journey, the application's own first.
    pub(super) fn journey(&self, key: Key) -> Vec<(&Socket, Joint)> {
        let mut out = Vec::new();
        let mut at = Some((key, Joint::Socket));
        while let Some((key, joint)) = at {
            let Some(socket) = self.sockets.get(&key) else { break };
            out.push((socket, joint));
            at = socket.next.filter(|_| out.len() < MOST_HOPS);
        }
        out
    }

    /// The same as values for screens and reports.
    pub(super) fn hops(&self, key: Key) -> Vec<Hop> {
        let kind = |s: &Socket| s.whose.pod.map(|p| self.mesh.pod(p).proxy);
        let hop = |(socket, evidence): (&Socket, Joint)| Hop {
            role: match socket.role {
                Role::Sidecar if kind(socket) == Some(crate::mesh::ProxyKind::Ambient) => "ztunnel",
                Role::Sidecar => "sidecar",
                Role::Gateway if kind(socket) == Some(crate::mesh::ProxyKind::Waypoint) => "waypoint",
                Role::Gateway => "gateway",
                Role::Agent => "agent",
                Role::App | Role::GatewayOther | Role::Stranger => "app",
                Role::Host => "host",
            },
            pod: socket.whose.pod.map(|p| arcstr::format!("{}", self.mesh.pod(p).name)),
            from: socket.source(),
            to: socket.dialled,
            evidence,
        };
        self.journey(key).into_iter().map(hop).collect()
    }
}
