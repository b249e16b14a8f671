//! Connections of the same sort are one row. Adds, takes back and moves what a connection contributed.

use std::sync::Arc;

use arcstr::ArcStr;
use rustc_hash::FxHashMap;
use sha1::{Digest as _, Sha1};

use crate::id::{FlowId, WallTime};
use crate::input::{Counters, Transport};
use crate::mesh::{Expected, Outcome};
use crate::verdict::{Class, Judgement, Reason, Verdict};
use crate::world::{Flow, Leg};

/// Rows that are kept; connections beyond it are counted as lost in stage `flows`. 1 KiB each.
const MOST_FLOWS: usize = 100_000;

/// Connections that `--each` keeps; beyond it they are counted as lost in stage `each`.
const MOST_EACH: usize = 200_000;

/// What makes connections one flow (design §7.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct FlowKey {
    /// Pod uid, or the process's name on the host.
    pub(super) who: ArcStr,
    pub(super) container: Option<ArcStr>,
    pub(super) leg: Leg,
    pub(super) protocol: Transport,
    /// Host, else address.
    pub(super) host: ArcStr,
    pub(super) port: u16,
    /// Role and pod of each hop.
    pub(super) path: ArcStr,
    pub(super) verdict: Verdict,
    pub(super) reason: Reason,
}

impl FlowKey {
    /// Stable across runs on the same node.
    pub(super) fn id(&self, node: &str) -> FlowId {
        let mut hash = Sha1::new();
        let port = self.port.to_string();
        for part in [
            node,
            &self.who,
            self.container.as_deref().unwrap_or_default(),
            self.leg.as_str(),
            self.protocol.as_str(),
            &self.host,
            &port,
            &self.path,
            self.verdict.as_str(),
            self.reason.code(),
        ] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        first_eight(&hash.finalize())
    }
}

fn first_eight(digest: &[u8]) -> FlowId {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    FlowId(u64::from_be_bytes(bytes))
}

/// What one connection added to its flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Booked {
    pub(super) key: FlowKey,
    row: usize,
    each: Option<usize>,
    counters: Counters,
    open: bool,
    failed: bool,
    /// Judged by objects that may have been out of date.
    pub(super) stale: bool,
}

/// The state of a connection that is booked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) counters: Counters,
    pub(super) open: bool,
    pub(super) failed: bool,
    pub(super) at: WallTime,
}

#[derive(Debug, Default, Clone, Copy)]
struct Pace {
    sent: u64,
    received: u64,
}

#[derive(Debug, Default)]
pub(super) struct Flows {
    index: FxHashMap<FlowKey, usize>,
    rows: Vec<Option<Arc<Flow>>>,
    pace: Vec<Pace>,
    /// Rows whose pace is not zero, or was not a second ago.
    moving: Vec<usize>,
    each: Vec<Option<Arc<Flow>>>,
    keep_each: bool,
    /// Bytes of this second by class.
    second: [u64; Class::ALL.len()],
    /// Connections that found no room.
    pub(super) refused: u64,
    pub(super) refused_each: u64,
}

impl Flows {
    pub(super) fn new(keep_each: bool) -> Self {
        Self { keep_each, ..Self::default() }
    }

    /// Books a connection. `row` is what its flow looks like if it is the first of its sort (counts zero).
    pub(super) fn add(&mut self, node: &str, key: FlowKey, cookie: u64, row: Flow, state: State) -> Option<Booked> {
        let each = self.add_each(node, &key, cookie, &row, state);
        let at = if let Some(at) = self.index.get(&key) {
            *at
        } else {
            if self.index.len() >= MOST_FLOWS {
                self.refused += 1;
                return None;
            }
            let id = key.id(node);
            self.rows.push(Some(Arc::new(Flow { id, stale: 0, ..row.clone() })));
            self.pace.push(Pace::default());
            self.index.insert(key.clone(), self.rows.len() - 1);
            self.rows.len() - 1
        };
        if let Some(flow) = self.rows[at].as_mut() {
            let flow = Arc::make_mut(flow);
            flow.connections += 1;
            flow.open += u64::from(state.open);
            flow.failures += u64::from(state.failed);
            flow.stale += row.stale;
            if row.rejudged.is_some() {
                flow.rejudged = row.rejudged;
            }
        }
        let (open, failed, by_old) = (state.open, state.failed, row.stale > 0);
        let mut booked = Booked { key, row: at, each, counters: Counters::default(), open, failed, stale: by_old };
        self.update(&mut booked, state);
        Some(booked)
    }

    fn add_each(&mut self, node: &str, key: &FlowKey, cookie: u64, row: &Flow, state: State) -> Option<usize> {
        if !self.keep_each {
            return None;
        }
        if self.each.len() >= MOST_EACH {
            self.refused_each += 1;
            return None;
        }
        let mut hash = Sha1::new();
        hash.update(key.id(node).0.to_be_bytes());
        hash.update(cookie.to_be_bytes());
        let mut own = Flow { id: first_eight(&hash.finalize()), connections: 1, ..row.clone() };
        own.open = u64::from(state.open);
        own.failures = u64::from(state.failed);
        self.each.push(Some(Arc::new(own)));
        Some(self.each.len() - 1)
    }

    /// The connection's counters or state moved on.
    pub(super) fn update(&mut self, booked: &mut Booked, state: State) {
        let sent = state.counters.sent.saturating_sub(booked.counters.sent);
        let received = state.counters.received.saturating_sub(booked.counters.received);
        let retransmits = u64::from(state.counters.retransmits.saturating_sub(booked.counters.retransmits));
        let apply = |flow: &mut Flow| {
            flow.bytes_sent += sent;
            flow.bytes_received += received;
            flow.retransmits += retransmits;
            flow.rtt_micros = state.counters.rtt_micros.or(flow.rtt_micros);
            if booked.open && !state.open {
                flow.open = flow.open.saturating_sub(1);
            }
            if !booked.failed && state.failed {
                flow.failures += 1;
            }
            flow.last_seen = flow.last_seen.max(state.at);
        };
        if let Some(flow) = self.rows[booked.row].as_mut() {
            let class = flow.class() as usize;
            apply(Arc::make_mut(flow));
            self.second[class] += sent + received;
        }
        if let Some(own) = booked.each.and_then(|i| self.each[i].as_mut()) {
            apply(Arc::make_mut(own));
        }
        let pace = &mut self.pace[booked.row];
        if sent + received > 0 {
            if pace.sent + pace.received == 0 {
                self.moving.push(booked.row);
            }
            pace.sent += sent;
            pace.received += received;
        }
        booked.counters = state.counters;
        booked.open = state.open;
        booked.failed = state.failed;
    }

    /// The row of a booked connection.
    pub(super) fn row(&self, booked: &Booked) -> Option<&Arc<Flow>> {
        self.rows[booked.row].as_ref()
    }

    /// The chain of a booked connection is another one; whether that changed anything.
    pub(super) fn refresh(&mut self, booked: &Booked, judgement: Judgement, expected: Option<Arc<Expected>>) -> bool {
        let Some(flow) = self.rows[booked.row].as_mut().filter(|row| *row.judgement != judgement) else { return false };
        let flow = Arc::make_mut(flow);
        flow.judgement = Arc::new(judgement);
        flow.expected = expected.filter(|e| e.outcome != Outcome::NotCaptured);
        true
    }

    /// The objects that a connection was judged by turned out to be those of the moment.
    pub(super) fn confirm(&mut self, booked: &mut Booked) {
        if !std::mem::take(&mut booked.stale) {
            return;
        }
        for flow in
            [self.rows[booked.row].as_mut(), booked.each.and_then(|i| self.each[i].as_mut())].into_iter().flatten()
        {
            let flow = Arc::make_mut(flow);
            flow.stale = flow.stale.saturating_sub(1);
        }
    }

    /// Takes back what a connection added, because it belongs to another flow after all.
    pub(super) fn remove(&mut self, booked: &Booked) {
        if let Some(i) = booked.each {
            self.each[i] = None;
        }
        let Some(flow) = self.rows[booked.row].as_mut() else { return };
        let flow = Arc::make_mut(flow);
        flow.connections = flow.connections.saturating_sub(1);
        flow.open = flow.open.saturating_sub(u64::from(booked.open));
        flow.failures = flow.failures.saturating_sub(u64::from(booked.failed));
        flow.stale = flow.stale.saturating_sub(u64::from(booked.stale));
        flow.bytes_sent = flow.bytes_sent.saturating_sub(booked.counters.sent);
        flow.bytes_received = flow.bytes_received.saturating_sub(booked.counters.received);
        flow.retransmits = flow.retransmits.saturating_sub(u64::from(booked.counters.retransmits));
        if flow.connections == 0 {
            self.index.remove(&booked.key);
            self.rows[booked.row] = None;
        }
    }

    /// A second is over: turns what moved into rates, and returns the bytes by class.
    pub(super) fn second(&mut self) -> [u64; Class::ALL.len()] {
        let moved = std::mem::take(&mut self.moving);
        for at in moved {
            let pace = std::mem::take(&mut self.pace[at]);
            if let Some(flow) = self.rows[at].as_mut() {
                let flow = Arc::make_mut(flow);
                flow.sent_per_second = pace.sent;
                flow.received_per_second = pace.received;
            }
            if pace.sent + pace.received > 0 {
                // Looked at once more in a second, so that the rate falls back to zero.
                self.moving.push(at);
            }
        }
        std::mem::take(&mut self.second)
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &Arc<Flow>> {
        self.rows.iter().flatten()
    }

    pub(super) fn each(&self) -> impl Iterator<Item = &Arc<Flow>> {
        self.each.iter().flatten()
    }
}
