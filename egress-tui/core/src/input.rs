//! Everything that may change the world. Sources translate into these values once, at the border; nothing behind it
//! sees a kernel record, a Kubernetes client or a file.
//!
//! The types with `Serialize` are what [`crate::recording`] writes: a field that is added, moved or removed here is a new
//! version of that format.

use std::net::SocketAddr;
use std::sync::Arc;

use arcstr::ArcStr;
use serde::{Deserialize, Serialize};

use crate::id::{CgroupId, NODE_SHIFT_OF_PID, Nanos, NetnsCookie, SocketCookie, WallTime};
use crate::mesh::Mesh;
use crate::world::{Capture, ClusterState, Incomplete, MeshSource};

/// One observation, in the order in which the source saw it.
#[derive(Debug, Clone)]
pub enum Input {
    /// A socket did something.
    Socket(SocketEvent),
    /// First bytes that a socket sent.
    Payload(Payload),
    /// A DNS answer that arrived at a socket (the message without UDP header).
    Dns {
        /// When it arrived.
        at: Nanos,
        /// The socket that received it.
        cookie: SocketCookie,
        /// The message, hostile bytes.
        message: Vec<u8>,
    },
    /// The path of a cgroup, relative to the cgroup v2 root; sent once before the first event that names the id.
    Cgroup {
        /// Its id.
        id: CgroupId,
        /// Its path; `None` if it could not be found any more.
        path: Option<ArcStr>,
    },
    /// The path of the process's cgroup as `/proc/PID/cgroup` tells it, for hosts whose sockets all sit in the v2 root.
    Process {
        /// Thread group id.
        tgid: u32,
        /// The process's name (`/proc/PID/comm`), which may differ from the thread's.
        comm: Option<ArcStr>,
        /// Path in whichever hierarchy names a pod.
        cgroup: Option<ArcStr>,
    },
    /// Events that never arrived.
    Lost {
        /// Where: `ring.flow`, `ring.payload`, `storage`, `channel`, …
        stage: ArcStr,
        /// Total since the start.
        total: u64,
    },
    /// What the source can see.
    Capture(Capture),
    /// Something that a source cannot see.
    Incomplete(Incomplete),
    /// Another node takes part: ids that name this number are its.
    Node {
        /// From 1 on; the ledger's own node is 0.
        number: usize,
        /// Its name.
        name: ArcStr,
    },
    /// A new mesh took effect.
    Mesh {
        /// When.
        at: Nanos,
        /// Where it comes from.
        source: MeshSource,
        /// The compiled objects.
        mesh: Arc<Mesh>,
    },
    /// What is known of the cluster changed.
    Cluster(ClusterState),
    /// Time passes. Decisions that wait for a tick are taken here.
    Tick {
        /// Monotonic time.
        now: Nanos,
        /// The same instant on the wall.
        wall: WallTime,
    },
}

/// TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Transport {
    /// TCP (MPTCP subflows too).
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// `tcp` or `udp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// IANA protocol number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// Who called `connect()` or `sendmsg()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Opener {
    /// Thread group id (what users call pid).
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// Effective user id, in the initial user namespace.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Name of the thread, hostile bytes, NUL-padded.
    pub comm: [u8; 16],
    /// cgroup of the caller.
    pub cgroup: CgroupId,
    /// Network namespace of the socket.
    pub netns: NetnsCookie,
}

/// The four numbers of a socket's first packet, after NAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Wire {
    /// Source as the other side sees it.
    pub source: SocketAddr,
    /// The real next hop.
    pub destination: SocketAddr,
}

impl Opener {
    /// The process id as its node shows it.
    pub fn pid(&self) -> u32 {
        self.tgid & ((1 << NODE_SHIFT_OF_PID) - 1)
    }
}

/// How a connect failed, as far as the kernel's counters tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Failure {
    /// A reset answered.
    Refused,
    /// Nobody answered, retransmissions went out.
    TimedOut,
    /// connect() returned an error at once (no route, prohibited, …).
    Unreachable,
    /// An ICMP error, or the application gave up.
    GaveUp,
}

/// A socket's life. Addresses are normalised: v4-mapped IPv6 is IPv4.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum SocketEvent {
    /// TCP established, or the first datagram of a (UDP socket, peer).
    Open {
        /// The socket.
        cookie: SocketCookie,
        /// When the handshake ended (UDP: when it was sent).
        at: Nanos,
        /// When connect() was called; [`Nanos::BEFORE`] for a socket that was open when the observation began.
        started: Nanos,
        /// By whom.
        opener: Opener,
        /// TCP or UDP.
        transport: Transport,
        /// The address that the application dialled, before NAT and before a socket load balancer.
        dialled: SocketAddr,
        /// The socket's remote address (after a socket load balancer).
        remote: SocketAddr,
        /// The socket's local address.
        local: SocketAddr,
        /// The first packet's numbers, where it was seen.
        wire: Option<Wire>,
        /// Smoothed round trip, microseconds.
        rtt_micros: Option<u32>,
    },
    /// A TCP connect failed.
    Fail {
        /// The socket.
        cookie: SocketCookie,
        /// When.
        at: Nanos,
        /// When connect() was called.
        started: Nanos,
        /// By whom.
        opener: Opener,
        /// The address that the application dialled.
        dialled: SocketAddr,
        /// The socket's local address where one was bound.
        local: Option<SocketAddr>,
        /// The SYN's numbers, where it was seen.
        wire: Option<Wire>,
        /// How.
        failure: Failure,
    },
    /// A listening socket accepted a TCP connection.
    Accept {
        /// The accepted socket.
        cookie: SocketCookie,
        /// When.
        at: Nanos,
        /// Its own address.
        local: SocketAddr,
        /// The other end, as this side sees it.
        remote: SocketAddr,
    },
    /// Counters of a live socket.
    Sample {
        /// The socket.
        cookie: SocketCookie,
        /// When.
        at: Nanos,
        /// Its counters.
        counters: Counters,
    },
    /// The socket is closed.
    Close {
        /// The socket.
        cookie: SocketCookie,
        /// When.
        at: Nanos,
        /// Its last counters.
        counters: Counters,
    },
}

impl SocketEvent {
    /// The socket that it is about.
    pub fn cookie(&self) -> SocketCookie {
        match self {
            Self::Open { cookie, .. }
            | Self::Fail { cookie, .. }
            | Self::Accept { cookie, .. }
            | Self::Sample { cookie, .. }
            | Self::Close { cookie, .. } => *cookie,
        }
    }
}

/// Payload bytes and path quality, SYN and FIN already taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Payload bytes acknowledged by the peer (UDP: sent).
    pub sent: u64,
    /// Payload bytes received.
    pub received: u64,
    /// Smoothed round trip, microseconds.
    pub rtt_micros: Option<u32>,
    /// Retransmitted segments.
    pub retransmits: u32,
}

/// A piece of the first bytes that a socket sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Payload {
    /// The socket.
    pub cookie: SocketCookie,
    /// When it left.
    pub at: Nanos,
    /// Offset in the captured stream; 0 starts anew.
    pub offset: u32,
    /// How many bytes the kernel side wants to deliver in all.
    pub total: u32,
    /// The bytes, hostile.
    pub bytes: Vec<u8>,
}
