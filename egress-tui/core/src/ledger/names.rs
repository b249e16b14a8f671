//! What DNS said: names per (pod, address), and addresses per host.

use std::collections::VecDeque;
use std::net::IpAddr;

use arcstr::ArcStr;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::id::Nanos;
use crate::name::{HostName, NameEvidence, NameSource};
use crate::sniff::Answer;

/// Answers that are remembered; beyond it the oldest are forgotten. About 200 bytes each.
const LONGEST_MEMORY: usize = 65_536;

/// Names kept for one address in one pod: a CDN's address has many, the newest ones tell.
const NAMES_PER_ADDRESS: usize = 8;

/// Addresses kept for one host.
const ADDRESSES_PER_HOST: usize = 64;

/// Whose answers: the pod's uid, or the empty string for the node.
type Reader = ArcStr;

/// Names of one address, newest first, and when each was told.
type Told = SmallVec<[(HostName, Nanos); 2]>;

#[derive(Debug, Default)]
pub(super) struct Names {
    by_address: FxHashMap<(Reader, IpAddr), Told>,
    by_host: FxHashMap<ArcStr, SmallVec<[IpAddr; 4]>>,
    order: VecDeque<(Reader, IpAddr)>,
}

impl Names {
    pub(super) fn learn(&mut self, reader: &Reader, at: Nanos, answer: &Answer) {
        let addresses = self.by_host.entry(answer.host.shared()).or_default();
        for ip in &answer.addresses {
            if !addresses.contains(ip) && addresses.len() < ADDRESSES_PER_HOST {
                addresses.push(*ip);
            }
            let key = (reader.clone(), *ip);
            let names = self.by_address.entry(key.clone()).or_insert_with(|| {
                self.order.push_back(key);
                SmallVec::new()
            });
            names.retain(|(host, _)| *host != answer.host);
            names.insert(0, (answer.host.clone(), at));
            names.truncate(NAMES_PER_ADDRESS);
        }
        while self.order.len() > LONGEST_MEMORY {
            if let Some(oldest) = self.order.pop_front() {
                self.by_address.remove(&oldest);
            }
        }
        if self.by_host.len() > LONGEST_MEMORY {
            self.by_host.clear();
        }
    }

    /// The names whose answers held `ip` when `reader` asked, newest first.
    pub(super) fn of(&self, reader: &Reader, ip: IpAddr, at: Nanos) -> Option<NameEvidence> {
        let names = self.by_address.get(&(reader.clone(), ip))?;
        let (host, told) = names.first()?;
        Some(NameEvidence {
            host: Some(host.clone()),
            source: NameSource::Dns,
            age_nanos: Some(at.since(*told)),
            candidates: names.iter().map(|(host, _)| host.clone()).collect(),
        })
    }

    /// The addresses that anyone on this node was told for `host`.
    pub(super) fn addresses(&self, host: &str) -> &[IpAddr] {
        self.by_host.get(host).map_or(&[], |a| a.as_slice())
    }
}
