//! Bytes of the rings, validated and translated. What is unknown is counted by the caller, never guessed at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use egress_core::id::{CgroupId, Nanos, NetnsCookie, SocketCookie};
use egress_core::input::{Counters, Failure, Input, Opener, Payload, SocketEvent, Transport, Wire};
use egress_ebpf::{Accept, Bytes, Cgroup, Decode, Endpoint, Field, Flow, HAS_WIRE, Header, Kind, STATE_NO_SYN, Totals};

/// TCP states (`include/net/tcp_states.h`) in which our FIN or the peer's has been counted.
mod state {
    pub(super) const FIN_WAIT2: u8 = 5;
    pub(super) const TIME_WAIT: u8 = 6;
    pub(super) const CLOSE_WAIT: u8 = 8;
    pub(super) const LAST_ACK: u8 = 9;
    pub(super) const CLOSING: u8 = 11;
}

/// Segments sent again after which "nobody answered" is more likely than an ICMP error (both end a connect after the
/// same kind of silence; measured: ICMP one, silence two or more).
const SILENCE: u32 = 2;

/// What a record says.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, on the stack")]
pub enum Record {
    /// For the world.
    Input(Input),
    /// The first socket of a cgroup.
    Cgroup {
        /// It.
        id: CgroupId,
        /// Its ancestors, nearest first.
        ancestors: Vec<CgroupId>,
    },
}

/// A record and when it was made.
#[derive(Debug)]
pub struct Decoded {
    /// `CLOCK_MONOTONIC`.
    pub at: Nanos,
    /// What it says.
    pub record: Record,
}

/// Why bytes were not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// Shorter than it says or than its kind needs.
    #[error("too short")]
    Short,
    /// Written by another version of the programs.
    #[error("record version {0}")]
    Version(u16),
    /// A kind that this version does not know.
    #[error("record kind {0}")]
    Kind(u16),
}

/// Reads one record.
pub fn decode(bytes: &[u8]) -> Result<Decoded, Undecodable> {
    let header = Header::decode(bytes).ok_or(Undecodable::Short)?;
    if header.version != egress_ebpf::VERSION {
        return Err(Undecodable::Version(header.version));
    }
    let bytes = bytes.get(..header.size.into()).ok_or(Undecodable::Short)?;
    let kind = Kind::from_number(header.kind).ok_or(Undecodable::Kind(header.kind))?;
    let record = match kind {
        Kind::Open | Kind::UdpOpen => open(kind, &fixed(bytes)?),
        Kind::Fail => fail(&fixed(bytes)?),
        Kind::Accept => accept(&fixed(bytes)?),
        Kind::Close | Kind::Sample | Kind::UdpEnd => totals(kind, &fixed(bytes)?),
        Kind::Cgroup => cgroup(&fixed(bytes)?),
        Kind::Payload | Kind::Dns => {
            let head: Bytes = fixed(bytes)?;
            let copied = bytes[Bytes::SIZE..].get(..head.length as usize).ok_or(Undecodable::Short)?;
            first_bytes(kind, &head, copied)
        }
    };
    Ok(Decoded { at: Nanos(header.at), record })
}

/// The fixed part of a record.
fn fixed<T: Decode>(bytes: &[u8]) -> Result<T, Undecodable> {
    T::decode(bytes).ok_or(Undecodable::Short)
}

fn open(kind: Kind, flow: &Flow) -> Record {
    let wire = wire(flow);
    let remote = known(&flow.remote);
    let dialled = dialled(flow, remote);
    let local = known(&flow.local).unwrap_or_else(|| {
        // Bound to any address: the packet tells which one was taken.
        let address = wire.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |w| w.source.ip());
        let port = if flow.local.port == 0 { wire.map_or(0, |w| w.source.port()) } else { flow.local.port };
        SocketAddr::new(address, port)
    });
    Record::Input(Input::Socket(SocketEvent::Open {
        cookie: SocketCookie(flow.header.cookie),
        at: Nanos(flow.header.at),
        started: Nanos(flow.started),
        opener: opener(flow),
        transport: if kind == Kind::UdpOpen { Transport::Udp } else { Transport::Tcp },
        dialled,
        remote: remote.unwrap_or(dialled),
        local,
        wire,
        rtt_micros: (flow.rtt_micros != 0).then_some(flow.rtt_micros),
    }))
}

fn fail(flow: &Flow) -> Record {
    let failure = if flow.state == STATE_NO_SYN {
        Failure::Unreachable
    } else if flow.segments_in > 0 {
        Failure::Refused
    } else if flow.retransmits >= SILENCE {
        Failure::TimedOut
    } else {
        Failure::GaveUp
    };
    Record::Input(Input::Socket(SocketEvent::Fail {
        cookie: SocketCookie(flow.header.cookie),
        at: Nanos(flow.header.at),
        started: Nanos(flow.started),
        opener: opener(flow),
        dialled: dialled(flow, known(&flow.remote)),
        local: known(&flow.local),
        wire: wire(flow),
        failure,
    }))
}

fn accept(accept: &Accept) -> Record {
    Record::Input(Input::Socket(SocketEvent::Accept {
        cookie: SocketCookie(accept.header.cookie),
        at: Nanos(accept.header.at),
        local: address(&accept.local),
        remote: address(&accept.remote),
    }))
}

fn totals(kind: Kind, totals: &Totals) -> Record {
    let cookie = SocketCookie(totals.header.cookie);
    let at = Nanos(totals.header.at);
    let (sent, received) = if totals.protocol == Transport::Tcp.number() {
        // The kernel counts a SYN and a FIN as one byte each.
        let fin_sent = matches!(totals.state, state::FIN_WAIT2 | state::TIME_WAIT | state::LAST_ACK | state::CLOSING);
        let fin_received = matches!(
            totals.state,
            state::FIN_WAIT2 | state::TIME_WAIT | state::CLOSE_WAIT | state::LAST_ACK | state::CLOSING
        );
        (totals.sent.saturating_sub(1 + u64::from(fin_sent)), totals.received.saturating_sub(u64::from(fin_received)))
    } else {
        (totals.sent, totals.received)
    };
    let rtt_micros = (totals.rtt_micros != 0).then_some(totals.rtt_micros);
    let counters = Counters { sent, received, rtt_micros, retransmits: totals.retransmits };
    Record::Input(Input::Socket(if kind == Kind::Sample {
        SocketEvent::Sample { cookie, at, counters }
    } else {
        SocketEvent::Close { cookie, at, counters }
    }))
}

fn cgroup(cgroup: &Cgroup) -> Record {
    let ancestors =
        cgroup.ancestors.into_iter().rev().filter(|id| *id != 0 && *id != cgroup.id).map(CgroupId).collect();
    Record::Cgroup { id: CgroupId(cgroup.id), ancestors }
}

fn first_bytes(kind: Kind, head: &Bytes, copied: &[u8]) -> Record {
    let cookie = SocketCookie(head.header.cookie);
    let at = Nanos(head.header.at);
    Record::Input(if kind == Kind::Dns {
        Input::Dns { at, cookie, message: copied.to_vec() }
    } else {
        Input::Payload(Payload { cookie, at, offset: head.offset, total: head.total, bytes: copied.to_vec() })
    })
}

fn opener(flow: &Flow) -> Opener {
    Opener {
        tgid: flow.tgid,
        tid: flow.tid,
        uid: flow.uid,
        gid: flow.gid,
        comm: flow.comm,
        cgroup: CgroupId(flow.cgroup),
        netns: NetnsCookie(flow.netns),
    }
}

fn wire(flow: &Flow) -> Option<Wire> {
    (flow.header.flags & HAS_WIRE != 0)
        .then(|| Wire { source: address(&flow.wire_source), destination: address(&flow.wire_destination) })
}

/// connect() to the unspecified address means this host (Linux): then the socket's remote end says which address.
fn dialled(flow: &Flow, remote: Option<SocketAddr>) -> SocketAddr {
    let dialled = address(&flow.dialled);
    if dialled.ip().is_unspecified() {
        let own = if flow.dialled.address == [0; 4] && flow.family == 10 {
            IpAddr::V6(Ipv6Addr::LOCALHOST)
        } else {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        };
        return SocketAddr::new(remote.map_or(own, |r| r.ip()), dialled.port());
    }
    dialled
}

/// An address that was filled in.
fn known(endpoint: &Endpoint) -> Option<SocketAddr> {
    let address = address(endpoint);
    (!address.ip().is_unspecified()).then_some(address)
}

/// Addresses lie in memory in the order of the wire; IPv4 is v4-mapped.
fn address(endpoint: &Endpoint) -> SocketAddr {
    let mut octets = [0; 16];
    for (four, word) in octets.chunks_exact_mut(4).zip(endpoint.address) {
        four.copy_from_slice(&word.to_ne_bytes());
    }
    SocketAddr::new(Ipv6Addr::from(octets).to_canonical(), endpoint.port)
}

#[cfg(test)]
mod tests;
