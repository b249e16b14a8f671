//! What becomes of flows when the objects do: judged again by the new ones while they are open, and by those of their moment for
//! ever after they are over.

use std::sync::Arc;

use crate::input::Transport;
use crate::mesh::{Bytes, Mesh};
use crate::verdict::{Class, Judgement, Mark, Reason, Step};
use crate::world::{ClusterState, Gap, MOST_CHANGES, MeshSource, ObjectChange, Rejudged};

use super::Ledger;
use super::flows::Booked;
use super::socket::{Key, Role, Socket};

/// Differences between two meshes that are looked at; more than that is another mesh, not an edit.
const MOST_DIFFERENCES: usize = 64;

/// Changes that one flow names.
const MOST_NAMED: usize = 4;

impl Ledger {
    pub(super) fn cluster(&mut self, state: ClusterState) {
        let was_stale = self.is_stale();
        if let Some((since, _)) = &state.stale {
            self.coverage.mesh_at = *since;
        }
        if !state.name.is_empty() {
            self.options.cluster = Some(state.name.clone());
        }
        let gaps_before = self.coverage.cluster.take().map(|c| c.gaps).unwrap_or_default();
        let other_gaps = gaps_before != state.gaps;
        self.coverage.cluster = Some(state);
        self.changed = true;
        if was_stale && !self.is_stale() {
            for key in self.keys() {
                if let Some(mut booked) = self.take_booked(key) {
                    self.flows.confirm(&mut booked);
                    self.give_booked(key, booked);
                }
            }
        }
        if other_gaps && self.coverage.mesh_generation > 0 {
            self.settle_again(true);
        }
    }

    /// Changes of objects are heard of.
    pub(super) fn is_fresh(&self) -> bool {
        self.coverage.cluster.as_ref().is_some_and(|c| c.stale.is_none()) && self.coverage.mesh_generation > 0
    }

    /// They are not, so that a verdict may rest on objects that are no more.
    pub(super) fn is_stale(&self) -> bool {
        self.coverage.cluster.as_ref().is_some_and(|c| c.stale.is_some())
    }

    pub(super) fn replace_mesh(&mut self, source: MeshSource, mesh: Arc<Mesh>) {
        let before = std::mem::replace(&mut self.mesh, mesh);
        if self.coverage.mesh_generation > 0 {
            let at = self.wall;
            let differences = self.mesh.differences(&before, MOST_DIFFERENCES);
            self.latest = differences.into_iter().map(|what| Arc::new(ObjectChange { at, what })).collect();
            self.changes.extend(self.latest.iter().filter(|c| c.what.is_configured()).cloned());
            while self.changes.len() > MOST_CHANGES {
                self.changes.pop_front();
            }
        }
        self.coverage.mesh = source;
        self.coverage.mesh_generation += 1;
        if !self.is_stale() {
            self.coverage.mesh_at = self.wall;
        }
        self.coverage.nodes_total = (self.mesh.node_count() as u32).max(self.coverage.nodes_observed);
        self.strangers.clear();
        self.changed = true;
        self.settle_again(!self.latest.is_empty());
        self.latest.clear();
    }

    fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.sockets.keys().copied().collect();
        keys.sort_unstable();
        keys
    }

    /// Judges what is booked by the objects of now; `others`: they are not those of before.
    fn settle_again(&mut self, others: bool) {
        let mut keys = self.keys();
        // A pod that is gone leaves its last connections behind: they were judged while it was there.
        keys.retain(|key| {
            let before = self.sockets.get(key).is_some_and(|s| s.whose.pod.is_some());
            self.attribute_again(*key);
            let gone = before && self.sockets.get(key).is_some_and(|s| s.role == Role::Stranger);
            !(gone && self.sockets.get(key).is_some_and(|s| s.booked.is_some()))
        });
        self.again = others;
        for key in keys {
            if self.sockets.get(&key).is_some_and(|s| s.booked.is_some()) {
                self.settle(key);
            }
        }
        self.again = false;
    }

    /// Why a connection that was booked is another verdict now, if objects are why.
    pub(super) fn rejudged(&self, old: &Booked, now: &Judgement) -> Option<Arc<Rejudged>> {
        let same = old.key.verdict == now.verdict && old.key.reason == now.reason();
        if same || self.latest.is_empty() {
            // A row that moves for another reason takes along what it knew.
            return self.flows.row(old).and_then(|row| row.rejudged.clone()).filter(|_| same);
        }
        let before = self.flows.row(old).map(|row| row.judgement.clone());
        let chains = || before.iter().flat_map(|j| &j.chain).chain(&now.chain);
        let named = |change: &&Arc<ObjectChange>| chains().any(|s| s.object.as_ref() == Some(&change.what.object));
        let mut by: Vec<_> = self.latest.iter().filter(named).cloned().collect();
        if by.is_empty() {
            by = self.latest.iter().filter(|c| c.what.is_configured()).cloned().collect();
        }
        if by.is_empty() {
            by.clone_from(&self.latest);
        }
        by.truncate(MOST_NAMED);
        Some(Arc::new(Rejudged { was: old.key.verdict, was_reason: old.key.reason, by }))
    }

    /// Says so where a verdict rests on objects that cannot be read, or that may be out of date.
    pub(super) fn qualify(&self, socket: &Socket, judgement: &mut Judgement) {
        let Some(cluster) = &self.coverage.cluster else { return };
        if matches!(judgement.verdict.class(), Class::Exempt) {
            return;
        }
        if let Some((since, why)) = &cluster.stale {
            let says = format!("the objects are those of {}: {why}", since.rfc3339());
            judgement.chain.push(Step::new("mesh", Mark::Unknown, says));
        }
        for gap in cluster.gaps.iter().filter(|gap| matters(gap, socket)) {
            let says = format!("{}: {}", gap.missing.what, gap.missing.affects);
            judgement.chain.push(Step::new("mesh", Mark::Unknown, says));
            if !judgement.reasons.contains(&Reason::EvidenceMissing) {
                judgement.reasons.push(Reason::EvidenceMissing);
            }
        }
    }
}

/// A verdict on this connection might be another one with these objects.
fn matters(gap: &Gap, socket: &Socket) -> bool {
    let bytes = socket.bytes();
    match gap.kind.as_str() {
        "HTTPRoute" | "GRPCRoute" => matches!(bytes, Bytes::Http | Bytes::Http2 | Bytes::Unknown),
        "TLSRoute" => matches!(bytes, Bytes::Tls | Bytes::Unknown),
        "TCPRoute" => socket.transport == Transport::Tcp,
        "ServiceEntry"
        | "VirtualService"
        | "Gateway"
        | "DestinationRule"
        | "Sidecar"
        | "WorkloadEntry"
        | "EnvoyFilter"
        | "AuthorizationPolicy"
        | "GatewayClass"
        | "ReferenceGrant"
        | "Namespace"
        | "Service"
        | "EndpointSlice"
        | "ConfigMap"
        | "Pod" => true,
        _ => false,
    }
}
