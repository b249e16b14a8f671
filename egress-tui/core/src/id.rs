//! Identifiers. Every one that crosses a function boundary has a type of its own.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use arcstr::ArcStr;
use serde::{Deserialize, Serialize};

/// Nanoseconds of `CLOCK_MONOTONIC`, the clock of the kernel's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Nanos(pub u64);

impl Nanos {
    /// At some time before the observation began.
    pub const BEFORE: Nanos = Nanos(0);
    /// One millisecond.
    pub const MILLI: u64 = 1_000_000;
    /// One second.
    pub const SECOND: u64 = 1_000_000_000;

    /// Time since `earlier`, zero if that lies in the future.
    pub fn since(self, earlier: Nanos) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct WallTime(pub i64);

impl WallTime {
    /// RFC 3339 in UTC with microseconds.
    pub fn rfc3339(self) -> String {
        let whole = self.0 - self.0.rem_euclid(1000);
        jiff::Timestamp::from_nanosecond(i128::from(whole)).map_or_else(|_| String::new(), |t| format!("{t:.6}"))
    }
}

/// The kernel's socket cookie (`SO_COOKIE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct SocketCookie(pub u64);

/// The id of a cgroup v2: the inode of its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct CgroupId(pub u64);

/// The cookie of a network namespace (`SO_NETNS_COOKIE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct NetnsCookie(pub u64);

/// Nodes whose observations can be joined. Which one an id belongs to stands in the highest byte of cookies and cgroup ids,
/// and in the highest byte of process ids: places that the kernel never reaches (`PID_MAX_LIMIT` is 2²²).
pub const MOST_NODES: usize = 256;

/// Where the node stands in a process id.
pub const NODE_SHIFT_OF_PID: u32 = 24;

impl NetnsCookie {
    /// The number of the node, 0 for the first.
    pub fn node(self) -> usize {
        (self.0 >> 56) as usize
    }
}

/// `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NamespacedName {
    /// The namespace; empty for objects of the cluster.
    pub namespace: ArcStr,
    /// The name.
    pub name: ArcStr,
}

impl NamespacedName {
    /// From its two parts.
    pub fn new(namespace: impl Into<ArcStr>, name: impl Into<ArcStr>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}", self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// An object as users, reports and logs name it: `VirtualService pay/stripe-egress`. A copy costs one count: chains name many objects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef(Arc<KindAndName>);

/// What an [`ObjectRef`] is read as.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KindAndName {
    /// Its kind, as Kubernetes spells it.
    pub kind: ArcStr,
    /// Where it is.
    pub name: NamespacedName,
}

impl ObjectRef {
    /// From its three parts.
    pub fn new(kind: impl Into<ArcStr>, namespace: impl Into<ArcStr>, name: impl Into<ArcStr>) -> Self {
        Self(Arc::new(KindAndName { kind: kind.into(), name: NamespacedName::new(namespace, name) }))
    }
}

impl Deref for ObjectRef {
    type Target = KindAndName;

    fn deref(&self) -> &KindAndName {
        &self.0
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// A flow's stable id: a hash of what makes it one flow, and of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FlowId(pub u64);

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
