//! What all watches of a cluster share: the connection, how long things take, what was counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::connect::Connection;

/// How long things take.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// First pause after a failure; each one after it is twice as long,
    pub first: Duration,
    /// but never longer than this.
    pub longest: Duration,
    /// How long the server keeps a watch open, at most (kube's own limit is 294 s); each asks for three quarters of it and a random part
    /// of the rest.
    pub watch: Duration,
    /// How often it is seen whether the cluster answers, and whether it is the same one; its rights every other time.
    pub look: Duration,
    /// How long a change may wait for others before all of them take effect.
    pub gather: Duration,
    /// How long a first answer may take before the objects that are there are used without it.
    pub patience: Duration,
    /// Nothing is asked before a random part of this has passed: many nodes begin at once.
    pub spread: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(250),
            longest: Duration::from_secs(5),
            watch: Duration::from_secs(290),
            look: Duration::from_secs(15),
            gather: Duration::from_millis(40),
            patience: Duration::from_secs(10),
            spread: Duration::ZERO,
        }
    }
}

/// What all watches share.
pub(super) struct Server {
    pub(super) connection: Connection,
    pub(super) pace: Pace,
    /// The server streams lists; false once it refused.
    pub(super) streams: AtomicBool,
    /// Bytes received.
    pub(super) bytes: AtomicU64,
    /// The newest version of anything that was seen, where versions are numbers.
    pub(super) newest: AtomicU64,
    /// How often history was gone, so that objects were listed anew.
    pub(super) gone: AtomicU64,
    chance: AtomicU64,
}

impl Server {
    pub(super) fn new(connection: Connection, pace: Pace) -> Self {
        use std::hash::{BuildHasher as _, Hasher as _};
        // Seeded by the system for each process: nodes that begin at the same moment spread.
        let seed = std::collections::hash_map::RandomState::new().build_hasher().finish();
        Self {
            connection,
            pace,
            streams: AtomicBool::new(true),
            bytes: AtomicU64::new(0),
            newest: AtomicU64::new(0),
            gone: AtomicU64::new(0),
            chance: AtomicU64::new(seed),
        }
    }

    /// A part of it, from nothing to all, at random (splitmix64).
    pub(super) fn part_of(&self, time: Duration) -> Duration {
        let mut z = self.chance.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        time.mul_f64((z ^ (z >> 31)) as f64 / u64::MAX as f64)
    }

    /// A version of something was seen.
    pub(super) fn saw(&self, version: &str) {
        if let Ok(version) = version.parse() {
            self.newest.fetch_max(version, Ordering::Relaxed);
        }
    }
}

/// Pauses between failures.
pub(super) struct Pause {
    next: Duration,
}

impl Pause {
    pub(super) fn new(pace: &Pace) -> Self {
        Self { next: pace.first }
    }

    /// Half of the pause, and a random part of the other half.
    pub(super) async fn wait(&mut self, server: &Server) {
        let now = self.next;
        self.next = (self.next * 2).min(server.pace.longest);
        sleep(now / 2 + server.part_of(now / 2)).await;
    }

    pub(super) fn over(&mut self, pace: &Pace) {
        self.next = pace.first;
    }
}

/// What all watches have to know of the cluster; where it changes, they are opened again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Era {
    /// Counts clusters: nothing that is known of one holds for the next.
    pub(super) cluster: u64,
    /// Counts silences: connections from before one may be dead without knowing.
    pub(super) connection: u64,
}
