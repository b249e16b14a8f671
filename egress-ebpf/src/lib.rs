//! The records that the BPF programs write and user space reads.
//!
//! Both sides compile this file, so a record has one definition. Every record is `repr(C)`, of fixed-width integers and
//! without implicit padding (asserted at compile time); it is decoded field by field from bytes, so no bytes from the
//! kernel are ever reinterpreted in place. Integers are in the machine's byte order, ports are numbers, addresses keep the
//! order of the wire and IPv4 is always `::ffff:a.b.c.d`.
//!
//! Two rings carry them: [`map::FLOWS`] (sockets and cgroups) and [`map::PAYLOADS`] (first bytes and DNS answers), so that
//! bulky payload can never push out flows. They are not ordered against each other.
#![no_std]

mod wire;

pub use wire::{Decode, Field};

/// Counts changes of any record's layout or meaning. User space refuses what it does not know.
pub const VERSION: u16 = 1;

/// What a record is. The number is [`Header::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// [`Flow`]: an outgoing TCP connection is established.
    Open = 1,
    /// [`Flow`]: an outgoing TCP connection failed.
    Fail = 2,
    /// [`Flow`]: the first datagram of a UDP socket to a peer.
    UdpOpen = 3,
    /// [`Accept`]: a listening socket accepted a TCP connection.
    Accept = 4,
    /// [`Totals`]: an outgoing TCP connection is closed.
    Close = 5,
    /// [`Totals`]: the running counters of a live socket.
    Sample = 6,
    /// [`Totals`]: a UDP socket that sent datagrams is closed.
    UdpEnd = 7,
    /// [`Cgroup`]: the first socket of a cgroup.
    Cgroup = 8,
    /// [`Bytes`]: first bytes that a socket sent.
    Payload = 9,
    /// [`Bytes`]: a DNS answer that a socket received, without UDP header.
    Dns = 10,
}

impl Kind {
    /// From [`Header::kind`].
    pub const fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Open,
            2 => Self::Fail,
            3 => Self::UdpOpen,
            4 => Self::Accept,
            5 => Self::Close,
            6 => Self::Sample,
            7 => Self::UdpEnd,
            8 => Self::Cgroup,
            9 => Self::Payload,
            10 => Self::Dns,
            _ => return None,
        })
    }
}

/// What was lost: an index of [`map::LOSSES`], a per-CPU array of u64 that the programs count up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Loss {
    /// No room in the flow ring for an open, fail, close or UDP record.
    Flow = 0,
    /// No room in the flow ring for an accept.
    Accept = 1,
    /// No room in the flow ring for a sample (the next one makes good for it).
    Sample = 2,
    /// No room in the flow ring for a cgroup's first sight (its path is looked up later).
    Cgroup = 3,
    /// No room in the payload ring for first bytes.
    Payload = 4,
    /// No room in the payload ring for a DNS answer.
    Dns = 5,
    /// A DNS answer longer than [`LONGEST_DNS`].
    DnsTooLong = 6,
    /// The kernel gave no memory for a socket's state: that socket is not seen.
    Storage = 7,
    /// The table of UDP peers refused an entry: a peer may be reported twice.
    UdpPeers = 8,
}

impl Loss {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Flow,
        Self::Accept,
        Self::Sample,
        Self::Cgroup,
        Self::Payload,
        Self::Dns,
        Self::DnsTooLong,
        Self::Storage,
        Self::UdpPeers,
    ];

    /// The spelling in coverage and reports.
    pub const fn stage(self) -> &'static str {
        match self {
            Self::Flow => "ring.flow",
            Self::Accept => "ring.accept",
            Self::Sample => "ring.sample",
            Self::Cgroup => "ring.cgroup",
            Self::Payload => "ring.payload",
            Self::Dns => "ring.dns",
            Self::DnsTooLong => "dns.too-long",
            Self::Storage => "storage",
            Self::UdpPeers => "udp-peers",
        }
    }
}

/// Longest DNS answer that is copied, bytes: EDNS resolvers do not announce more over UDP.
pub const LONGEST_DNS: usize = 4096;

/// Bytes of the first segment that are copied where it is neither TLS nor HTTP: enough to tell two connections apart.
pub const FINGERPRINT: usize = 64;

/// Places for sockets in [`map::SLOTS`]: a power of two, since the low bits of a cookie choose. 3 MiB.
pub const SLOT_COUNT: usize = 16_384;

/// Names of the maps in the object.
pub mod map {
    /// Ring of [`crate::Flow`], [`crate::Accept`], [`crate::Totals`], [`crate::Cgroup`].
    pub const FLOWS: &str = "FLOWS";
    /// Ring of [`crate::Bytes`].
    pub const PAYLOADS: &str = "PAYLOADS";
    /// Per-CPU counters by [`crate::Loss`].
    pub const LOSSES: &str = "LOSSES";
    /// State of TCP sockets, by the low bits of their cookie.
    pub const SLOTS: &str = "SLOTS";
    /// Socket storage: state of UDP sockets, and of the TCP sockets whose slot is taken.
    pub const SOCKETS: &str = "SOCKETS";
    /// (socket, peer) of unconnected UDP.
    pub const UDP_PEERS: &str = "UDP_PEERS";
    /// cgroups already reported.
    pub const CGROUPS: &str = "CGROUPS";
}

/// Names of the read-only globals that the loader may set, with their types.
pub mod global {
    /// u64, nanoseconds: the reader is woken at most this often.
    pub const WAKE_INTERVAL: &str = "WAKE_INTERVAL";
    /// u64, nanoseconds between two samples of one socket; 0 switches them off.
    pub const SAMPLE_INTERVAL: &str = "SAMPLE_INTERVAL";
    /// u32, bytes of one socket that are copied at most.
    pub const PAYLOAD_LIMIT: &str = "PAYLOAD_LIMIT";
    /// u32, first ephemeral port.
    pub const EPHEMERAL_FIRST: &str = "EPHEMERAL_FIRST";
    /// u32, last ephemeral port.
    pub const EPHEMERAL_LAST: &str = "EPHEMERAL_LAST";
    /// u32, a port from which DNS answers come.
    pub const DNS_PORT: &str = "DNS_PORT";
    /// u32, another one (Istio's agent); 0 for none.
    pub const DNS_PORT_TOO: &str = "DNS_PORT_TOO";
}

/// The state number in a [`Flow`] of kind fail whose `connect()` returned an error before a SYN was made.
pub const STATE_NO_SYN: u8 = 0xff;

/// TCP_SYN_SENT (`include/net/tcp_states.h`).
pub const STATE_SYN_SENT: u8 = 2;

/// [`Header::flags`]: `wire_source` and `wire_destination` hold the first packet's numbers.
pub const HAS_WIRE: u16 = 1;

wire::record! {
    /// The head of every record.
    pub struct Header {
        /// [`Kind`].
        pub kind: u16,
        /// Bytes of this record, head included.
        pub size: u16,
        /// [`VERSION`].
        pub version: u16,
        /// By kind: [`HAS_WIRE`].
        pub flags: u16,
        /// `CLOCK_MONOTONIC`, nanoseconds.
        pub at: u64,
        /// Socket cookie, 0 for none.
        pub cookie: u64,
    }
}

wire::record! {
    /// An address and a port.
    pub struct Endpoint {
        /// In the order of the wire, IPv4 as `::ffff:a.b.c.d`.
        pub address: [u32; 4],
        /// As a number.
        pub port: u16,
        /// Zero.
        pub reserved: u16,
    }
}

wire::record! {
    /// Kinds [`Kind::Open`], [`Kind::Fail`], [`Kind::UdpOpen`].
    pub struct Flow {
        /// Head.
        pub header: Header,
        /// When connect() or sendmsg() was called, `CLOCK_MONOTONIC` nanoseconds.
        pub started: u64,
        /// cgroup of the caller.
        pub cgroup: u64,
        /// Cookie of the socket's network namespace.
        pub netns: u64,
        /// Process (thread group id, initial pid namespace).
        pub tgid: u32,
        /// Thread.
        pub tid: u32,
        /// User, initial user namespace.
        pub uid: u32,
        /// Group, initial user namespace.
        pub gid: u32,
        /// Name of the thread.
        pub comm: [u8; 16],
        /// Smoothed round trip, microseconds.
        pub rtt_micros: u32,
        /// Retransmitted segments.
        pub retransmits: u32,
        /// Segments received.
        pub segments_in: u32,
        /// AF_INET or AF_INET6: the family of the socket.
        pub family: u16,
        /// IPPROTO_TCP or IPPROTO_UDP.
        pub protocol: u8,
        /// The TCP state that it failed in, or [`STATE_NO_SYN`].
        pub state: u8,
        /// What the application asked for.
        pub dialled: Endpoint,
        /// The socket's remote end, after a socket load balancer. All zero where unknown.
        pub remote: Endpoint,
        /// The socket's local end. All zero where unknown.
        pub local: Endpoint,
        /// Source of the first packet, after NAT ([`HAS_WIRE`]).
        pub wire_source: Endpoint,
        /// Destination of the first packet, after NAT ([`HAS_WIRE`]).
        pub wire_destination: Endpoint,
        /// Zero.
        pub reserved: u32,
    }
}

wire::record! {
    /// Kind [`Kind::Accept`].
    pub struct Accept {
        /// Head.
        pub header: Header,
        /// The accepted socket's own end.
        pub local: Endpoint,
        /// The other end, as this side sees it.
        pub remote: Endpoint,
    }
}

wire::record! {
    /// Kinds [`Kind::Close`], [`Kind::Sample`], [`Kind::UdpEnd`]. TCP counters are the kernel's and so include SYN and FIN.
    pub struct Totals {
        /// Head.
        pub header: Header,
        /// TCP: bytes_acked. UDP: payload bytes sent.
        pub sent: u64,
        /// TCP: bytes_received. UDP: payload bytes received.
        pub received: u64,
        /// Smoothed round trip, microseconds; 0 for UDP.
        pub rtt_micros: u32,
        /// Retransmitted segments; 0 for UDP.
        pub retransmits: u32,
        /// IPPROTO_TCP or IPPROTO_UDP.
        pub protocol: u8,
        /// TCP state that it was closed from.
        pub state: u8,
        /// Zero.
        pub reserved: [u8; 6],
    }
}

wire::record! {
    /// Kind [`Kind::Cgroup`].
    pub struct Cgroup {
        /// Head.
        pub header: Header,
        /// Its id.
        pub id: u64,
        /// Ids of its ancestors at levels 1 to 8, 0 where there is none. The root is level 0 and left out.
        pub ancestors: [u64; 8],
    }
}

wire::record! {
    /// Kinds [`Kind::Payload`], [`Kind::Dns`]: this head, then `length` bytes, then filling up to the record's size.
    pub struct Bytes {
        /// Head.
        pub header: Header,
        /// Offset of these bytes in what is copied of the stream; 0 starts anew.
        pub offset: u32,
        /// How many bytes of the stream are wanted in all.
        pub total: u32,
        /// How many follow.
        pub length: u32,
        /// The peer's port after NAT (payload: destination; DNS: source).
        pub port: u16,
        /// Zero.
        pub reserved: u16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_their_sizes() {
        assert_eq!(
            (Header::SIZE, Endpoint::SIZE, Flow::SIZE, Accept::SIZE, Totals::SIZE, Cgroup::SIZE, Bytes::SIZE),
            (24, 20, 200, 64, 56, 96, 40),
            "a layout changed: count VERSION up"
        );
    }

    #[test]
    fn losses_are_numbered_as_they_are_listed() {
        for (index, loss) in Loss::ALL.into_iter().enumerate() {
            assert_eq!(loss as usize, index);
        }
    }

    #[test]
    fn kinds_survive_their_numbers() {
        for number in 0..=u16::MAX {
            if let Some(kind) = Kind::from_number(number) {
                assert_eq!(kind as u16, number);
            }
        }
        assert!(Kind::from_number(10).is_some() && Kind::from_number(11).is_none());
    }

    #[test]
    fn a_record_is_what_was_encoded_and_never_read_past_its_end() {
        let bytes: [u8; Flow::SIZE] = core::array::from_fn(|i| i as u8);
        let flow = Flow::decode(&bytes).expect("long enough");
        assert_eq!(flow.header.kind, u16::from_ne_bytes([0, 1]));
        assert_eq!(flow.comm, core::array::from_fn(|i| 64 + i as u8));
        assert_eq!(flow.dialled.port, u16::from_ne_bytes([112, 113]));
        assert!(Flow::decode(&bytes[1..]).is_none());
    }
}
