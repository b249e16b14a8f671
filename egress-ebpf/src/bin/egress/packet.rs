//! Packets: the first one after NAT, byte counts, DNS answers.

use core::mem::offset_of;

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::helpers::generated as helper;
use egress_ebpf::{Endpoint, Kind, LONGEST_DNS, Loss};

use crate::connect;
use crate::first_bytes::{self, Piece};
use crate::globals::{DNS_PORT, DNS_PORT_TOO};
use crate::kernel::{field, load, load_address, load_pointer, load64, mapped};
use crate::report::{self, Connection};
use crate::state::{self, Socket, flag};

const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const UDP_HEADER: u32 = 8;
const DNS_HEADER: u32 = 12;
/// Bytes of an IPv6 header; with extension headers the next-header number is not TCP or UDP and we look away.
const IPV6_HEADER: u32 = 40;

/// Where a packet's transport header is.
struct Network {
    version: u8,
    protocol: u8,
    transport: u32,
}

/// A packet leaves.
#[inline(always)]
pub(crate) fn on_egress(skb: *mut __sk_buff) {
    // SAFETY: a helper on the context.
    let cookie = unsafe { helper::bpf_get_socket_cookie(skb.cast()) };
    let socket = if let Some(socket) = state::seated(cookie) {
        socket
    } else {
        let Some(network) = network(skb) else { return };
        if network.protocol == PROTOCOL_UDP {
            if let Some(socket) = state::stored(full_socket(skb)) {
                datagram_leaves(skb, socket, &network);
            }
            return;
        }
        let Some(socket) = state::crowded_out(|| full_socket(skb)) else { return };
        socket
    };
    if socket.flags & (flag::FIRST_PACKET | flag::BYTES_DONE) != flag::FIRST_PACKET | flag::BYTES_DONE {
        let network = match network(skb) {
            Some(network) if network.protocol == PROTOCOL_TCP => network,
            _ => {
                socket.flags |= flag::FIRST_PACKET | flag::BYTES_DONE;
                return;
            }
        };
        if socket.flags & flag::FIRST_PACKET == 0 {
            first_packet(skb, socket, &network);
        }
        if socket.flags & flag::BYTES_DONE == 0 {
            first_bytes::on_segment(skb, socket, network.transport);
        }
    }
    if socket.flags & flag::ESTABLISHED != 0 && report::sample_is_due(socket) {
        let sk = full_socket(skb);
        if !sk.is_null() {
            report::sample(socket, sk);
        }
    }
}

#[inline(always)]
fn datagram_leaves(skb: *mut __sk_buff, socket: &mut Socket, network: &Network) {
    let payload = field!(skb, __sk_buff, len).wrapping_sub(network.transport + UDP_HEADER);
    report::count(&mut socket.sent, payload);
    if socket.flags & flag::AWAIT_DATAGRAM != 0 {
        let sk = full_socket(skb);
        if sk.is_null() {
            return;
        }
        first_packet(skb, socket, network);
        let local = local_end(sk, network.version);
        connect::report_datagram(socket, &Connection { local, ..Connection::unknown(0) });
    }
    if report::sample_is_due(socket) {
        report::totals(Kind::Sample, Loss::Sample, socket, socket.sampled, &report::datagrams(socket));
    }
}

/// The socket's own address: all zero while it is bound to any.
#[inline(always)]
fn local_end(sk: *mut bpf_sock, version: u8) -> Endpoint {
    let address = if version == 4 {
        mapped(field!(sk, bpf_sock, src_ip4))
    } else {
        load_address!(sk, offset_of!(bpf_sock, src_ip6))
    };
    Endpoint { address, port: field!(sk, bpf_sock, src_port) as u16, reserved: 0 }
}

/// NAT has been applied: these four numbers are what the accepting socket sees, mirrored. The socket's own are not,
/// because NAT may change its port too.
#[inline(always)]
fn first_packet(skb: *mut __sk_buff, socket: &mut Socket, network: &Network) {
    socket.flags |= flag::FIRST_PACKET;
    let Some([source_port, destination_port]) = load::<[u16; 2]>(skb, network.transport) else { return };
    let (source, destination) = if network.version == 4 {
        let Some([source, destination]) = load::<[u32; 2]>(skb, 12) else { return };
        (mapped(source), mapped(destination))
    } else {
        let Some([source, destination]) = load::<[[u32; 4]; 2]>(skb, 8) else { return };
        (source, destination)
    };
    socket.wire_source = Endpoint { address: source, port: u16::from_be(source_port), reserved: 0 };
    socket.wire_destination = Endpoint { address: destination, port: u16::from_be(destination_port), reserved: 0 };
    socket.flags |= flag::WIRE;
}

/// A packet arrives. Most are TCP and nothing to us: they are told apart before the socket is touched.
#[inline(always)]
pub(crate) fn on_ingress(skb: *mut __sk_buff) {
    let Some(network) = network(skb) else { return };
    if network.protocol != PROTOCOL_UDP {
        return;
    }
    let start = network.transport + UDP_HEADER;
    let length = field!(skb, __sk_buff, len);
    if length < start {
        return;
    }
    let payload = length - start;
    if let Some(socket) = state::stored(full_socket(skb)) {
        report::count(&mut socket.received, payload);
    }
    let Some(source) = load::<u16>(skb, network.transport) else { return };
    let port = u32::from(u16::from_be(source));
    if port != DNS_PORT.get() && (port != DNS_PORT_TOO.get() || port == 0) {
        return;
    }
    if payload < DNS_HEADER {
        return;
    }
    if payload > LONGEST_DNS as u32 {
        report::lost(Loss::DnsTooLong);
        return;
    }
    // SAFETY: a helper on the context.
    let cookie = unsafe { helper::bpf_get_socket_cookie(skb.cast()) };
    let piece = Piece { kind: Kind::Dns, loss: Loss::Dns, cookie, offset: 0, total: payload, port: port as u16 };
    if payload <= 512 {
        first_bytes::copy::<512>(skb, start, payload, &piece);
    } else {
        first_bytes::copy::<LONGEST_DNS>(skb, start, payload, &piece);
    }
}

/// Reads the network header, which the stack has made sure lies in one piece.
#[inline(always)]
fn network(skb: *mut __sk_buff) -> Option<Network> {
    let start = load_pointer!(skb, __sk_buff, data);
    let end = load_pointer!(skb, __sk_buff, data_end);
    // Up to IPv4's protocol in byte 9; IPv6's next header is in byte 6.
    if start.wrapping_add(10) > end {
        return None;
    }
    // SAFETY: within the bounds that were just compared, as the verifier checks.
    let (first, v6_next, v4_protocol) = unsafe { (*start, *start.add(6), *start.add(9)) };
    match first >> 4 {
        4 => Some(Network { version: 4, protocol: v4_protocol, transport: u32::from(first & 15) * 4 }),
        6 => Some(Network { version: 6, protocol: v6_next, transport: IPV6_HEADER }),
        _ => None,
    }
}

/// The packet's socket, unless it is none, half-open or in TIME_WAIT.
#[inline(always)]
fn full_socket(skb: *mut __sk_buff) -> *mut bpf_sock {
    let sk = load64!(skb, offset_of!(__sk_buff, __bindgen_anon_2)) as *mut bpf_sock;
    if sk.is_null() {
        return sk;
    }
    // SAFETY: a socket of the context, not null.
    unsafe { helper::bpf_sk_fullsock(sk) }
}
