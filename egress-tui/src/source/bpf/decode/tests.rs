#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

/// A record as the kernel would write it.
struct Written(Vec<u8>);

impl Written {
    fn of(kind: u16, size: usize) -> Self {
        let mut bytes = vec![0; size];
        bytes[0..2].copy_from_slice(&kind.to_ne_bytes());
        bytes[2..4].copy_from_slice(&(size as u16).to_ne_bytes());
        bytes[4..6].copy_from_slice(&egress_ebpf::VERSION.to_ne_bytes());
        bytes[8..16].copy_from_slice(&7_u64.to_ne_bytes());
        bytes[16..24].copy_from_slice(&99_u64.to_ne_bytes());
        Self(bytes)
    }

    fn put(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn endpoint(self, offset: usize, address: &str, port: u16) -> Self {
        let octets = match address.parse().unwrap() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        self.put(offset, &octets).put(offset + 16, &port.to_ne_bytes())
    }

    fn input(&self) -> Input {
        match decode(&self.0).unwrap().record {
            Record::Input(input) => input,
            other @ Record::Cgroup { .. } => panic!("{other:?}"),
        }
    }

    fn socket(&self) -> SocketEvent {
        match self.input() {
            Input::Socket(event) => event,
            other => panic!("{other:?}"),
        }
    }
}

mod at {
    use core::mem::offset_of;
    use egress_ebpf::{Bytes, Flow, Totals};
    pub(super) const DIALLED: usize = offset_of!(Flow, dialled);
    pub(super) const REMOTE: usize = offset_of!(Flow, remote);
    pub(super) const LOCAL: usize = offset_of!(Flow, local);
    pub(super) const WIRE_SOURCE: usize = offset_of!(Flow, wire_source);
    pub(super) const WIRE_DESTINATION: usize = offset_of!(Flow, wire_destination);
    pub(super) const STATE: usize = offset_of!(Flow, state);
    pub(super) const SEGMENTS: usize = offset_of!(Flow, segments_in);
    pub(super) const RETRANSMITS: usize = offset_of!(Flow, retransmits);
    pub(super) const SENT: usize = offset_of!(Totals, sent);
    pub(super) const RECEIVED: usize = offset_of!(Totals, received);
    pub(super) const PROTOCOL: usize = offset_of!(Totals, protocol);
    pub(super) const TOTALS_STATE: usize = offset_of!(Totals, state);
    pub(super) const LENGTH: usize = offset_of!(Bytes, length);
}

fn flow(kind: Kind) -> Written {
    Written::of(kind as u16, Flow::SIZE)
}

#[test]
fn an_open_after_redirect_keeps_what_was_dialled_and_what_left() {
    let written = flow(Kind::Open)
        .put(6, &HAS_WIRE.to_ne_bytes())
        .endpoint(at::DIALLED, "203.0.113.7", 443)
        .endpoint(at::REMOTE, "203.0.113.7", 443)
        .endpoint(at::LOCAL, "10.0.0.5", 40000)
        .endpoint(at::WIRE_SOURCE, "10.0.0.5", 51515)
        .endpoint(at::WIRE_DESTINATION, "127.0.0.1", 15001);
    let SocketEvent::Open { cookie, at, transport, dialled, remote, local, wire, rtt_micros, .. } = written.socket()
    else {
        panic!()
    };
    assert_eq!((cookie, at, transport, rtt_micros), (SocketCookie(99), Nanos(7), Transport::Tcp, None));
    assert_eq!(dialled, "203.0.113.7:443".parse().unwrap());
    assert_eq!(remote, dialled);
    assert_eq!(local, "10.0.0.5:40000".parse().unwrap());
    let wire = wire.unwrap();
    assert_eq!(wire.source, "10.0.0.5:51515".parse().unwrap());
    assert_eq!(wire.destination, "127.0.0.1:15001".parse().unwrap());
}

#[test]
fn an_ipv6_address_stays_one() {
    let written = flow(Kind::Open).endpoint(at::DIALLED, "2001:db8::1", 80);
    let SocketEvent::Open { dialled, wire, .. } = written.socket() else { panic!() };
    assert_eq!(dialled, "[2001:db8::1]:80".parse().unwrap());
    assert_eq!(wire, None);
}

#[test]
fn dialling_the_unspecified_address_is_dialling_this_host() {
    let written = flow(Kind::Open).endpoint(at::DIALLED, "0.0.0.0", 80).endpoint(at::REMOTE, "127.0.0.1", 80);
    let SocketEvent::Open { dialled, .. } = written.socket() else { panic!() };
    assert_eq!(dialled, "127.0.0.1:80".parse().unwrap());
}

#[test]
fn a_udp_socket_bound_to_any_address_has_the_one_that_its_packet_had() {
    let written = flow(Kind::UdpOpen)
        .put(6, &HAS_WIRE.to_ne_bytes())
        .endpoint(at::DIALLED, "203.0.113.7", 443)
        .put(at::LOCAL + 16, &40000_u16.to_ne_bytes())
        .endpoint(at::WIRE_SOURCE, "10.0.0.5", 40000)
        .endpoint(at::WIRE_DESTINATION, "203.0.113.7", 443);
    let SocketEvent::Open { local, transport, remote, .. } = written.socket() else { panic!() };
    assert_eq!(transport, Transport::Udp);
    assert_eq!(local, "10.0.0.5:40000".parse().unwrap());
    assert_eq!(remote, "203.0.113.7:443".parse().unwrap());
}

/// The measured table: what the counters of a failed connect mean.
#[test]
fn failures_are_told_apart_by_their_counters() {
    for (state, segments, retransmits, expected) in [
        (egress_ebpf::STATE_SYN_SENT, 1_u32, 0_u32, Failure::Refused),
        (egress_ebpf::STATE_SYN_SENT, 0, 2, Failure::TimedOut),
        (egress_ebpf::STATE_SYN_SENT, 0, 6, Failure::TimedOut),
        (egress_ebpf::STATE_SYN_SENT, 0, 1, Failure::GaveUp),
        (egress_ebpf::STATE_SYN_SENT, 0, 0, Failure::GaveUp),
        (STATE_NO_SYN, 0, 0, Failure::Unreachable),
    ] {
        let written = flow(Kind::Fail)
            .put(at::STATE, &[state])
            .put(at::SEGMENTS, &segments.to_ne_bytes())
            .put(at::RETRANSMITS, &retransmits.to_ne_bytes());
        let SocketEvent::Fail { failure, local, .. } = written.socket() else { panic!() };
        assert_eq!(failure, expected, "state {state} segments {segments} retransmits {retransmits}");
        assert_eq!(local, None);
    }
}

/// Measured: 38 bytes sent and 5 000 received are counted 40 and 5 001 when the peer closes last.
#[test]
fn syn_and_fin_are_no_payload() {
    let close = |state: u8, sent: u64, received: u64| {
        let written = Written::of(Kind::Close as u16, Totals::SIZE)
            .put(at::PROTOCOL, &[6])
            .put(at::TOTALS_STATE, &[state])
            .put(at::SENT, &sent.to_ne_bytes())
            .put(at::RECEIVED, &received.to_ne_bytes());
        let SocketEvent::Close { counters, .. } = written.socket() else { panic!() };
        (counters.sent, counters.received)
    };
    assert_eq!(close(5, 40, 5001), (38, 5000), "we closed first");
    assert_eq!(close(9, 40, 5001), (38, 5000), "the peer closed first");
    assert_eq!(close(1, 39, 5000), (38, 5000), "reset");
    assert_eq!(close(1, 0, 0), (0, 0), "never below zero");
}

#[test]
fn udp_counters_are_payload_already() {
    let written = Written::of(Kind::UdpEnd as u16, Totals::SIZE)
        .put(at::PROTOCOL, &[17])
        .put(at::SENT, &40_u64.to_ne_bytes())
        .put(at::RECEIVED, &60_u64.to_ne_bytes());
    let SocketEvent::Close { counters, .. } = written.socket() else { panic!() };
    assert_eq!((counters.sent, counters.received), (40, 60));
}

#[test]
fn payload_is_as_long_as_it_says_and_no_longer_than_the_record() {
    let record = |length: u32| {
        Written::of(Kind::Payload as u16, Bytes::SIZE + 64)
            .put(at::LENGTH, &length.to_ne_bytes())
            .put(Bytes::SIZE, b"GET / HTTP/1.1")
    };
    let Input::Payload(payload) = record(14).input() else { panic!() };
    assert_eq!(payload.bytes, b"GET / HTTP/1.1");
    assert_eq!(decode(&record(65).0).unwrap_err(), Undecodable::Short);
    assert_eq!(decode(&record(u32::MAX).0).unwrap_err(), Undecodable::Short);
}

#[test]
fn a_cgroup_comes_with_its_ancestors_nearest_first() {
    let ids: Vec<u8> = [10_u64, 20, 30, 42, 0, 0, 0, 0].iter().flat_map(|id| id.to_ne_bytes()).collect();
    let written = Written::of(Kind::Cgroup as u16, Cgroup::SIZE).put(24, &42_u64.to_ne_bytes()).put(32, &ids);
    let Record::Cgroup { id, ancestors } = decode(&written.0).unwrap().record else { panic!() };
    assert_eq!(id, CgroupId(42));
    assert_eq!(ancestors, [CgroupId(30), CgroupId(20), CgroupId(10)]);
}

#[test]
fn what_is_unknown_is_refused() {
    assert_eq!(decode(&[]).unwrap_err(), Undecodable::Short);
    assert_eq!(decode(&Written::of(0, 24).0).unwrap_err(), Undecodable::Kind(0));
    assert_eq!(decode(&Written::of(11, 24).0).unwrap_err(), Undecodable::Kind(11));
    assert_eq!(decode(&flow(Kind::Open).put(4, &2_u16.to_ne_bytes()).0).unwrap_err(), Undecodable::Version(2));
    for kind in 1..=10 {
        assert_eq!(decode(&Written::of(kind, 24).0).unwrap_err(), Undecodable::Short, "kind {kind}");
    }
    let mut cut = flow(Kind::Open).0;
    cut.pop();
    assert_eq!(decode(&cut).unwrap_err(), Undecodable::Short);
}
