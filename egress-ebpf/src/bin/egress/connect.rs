//! Who dials what: connect(), sendmsg(), and the end of a socket.

use core::mem::offset_of;

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated as helper;
use egress_ebpf::{Endpoint, Kind, Loss, STATE_NO_SYN};

use crate::globals::{EPHEMERAL_FIRST, EPHEMERAL_LAST, UDP_PEERS};
use crate::kernel::{field, load_address, load64, mapped, now};
use crate::report::{self, Connection, NOWHERE};
use crate::state::{self, Peer, Socket, flag};

const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;
const IPPROTO_MPTCP: u32 = 262;

/// connect().
#[inline(always)]
pub(crate) fn on_connect<const V6: bool>(ctx: *mut bpf_sock_addr) {
    let protocol = field!(ctx, bpf_sock_addr, protocol);
    if protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_MPTCP {
        return;
    }
    let cookie = cookie_of(ctx);
    let sk = socket_of(ctx);
    let state = if protocol == IPPROTO_UDP { state::make_stored(sk) } else { state::make_tcp(cookie, sk) };
    let Some(socket) = state else { return };
    let finished = flag::UDP | flag::SYN | flag::ESTABLISHED | flag::CLOSED;
    if socket.started != 0 && socket.flags & finished == 0 {
        // The same socket tries again after connect() returned an error at once (no route, …).
        report::flow(Kind::Fail, socket, &Connection::unknown(STATE_NO_SYN));
    }
    identify(socket, ctx, cookie);
    socket.dialled = dialled::<V6>(ctx);
    socket.protocol = if protocol == IPPROTO_UDP { 17 } else { 6 };
    socket.flags = if protocol == IPPROTO_UDP {
        // Reported with its first datagram: resolvers connect() UDP sockets merely to sort addresses.
        (socket.flags & flag::REPORTED) | flag::UDP | flag::CONNECTED | flag::AWAIT_DATAGRAM
    } else {
        0
    };
    socket.wanted = 0;
    socket.copied = 0;
    socket.segments = 0;
    socket.wire_source = NOWHERE;
    socket.wire_destination = NOWHERE;
    report::first_sight_of_cgroup(socket.cgroup);
}

/// sendmsg() with a destination.
#[inline(always)]
pub(crate) fn on_sendmsg<const V6: bool>(ctx: *mut bpf_sock_addr) {
    if field!(ctx, bpf_sock_addr, protocol) != IPPROTO_UDP {
        return;
    }
    let sk = socket_of(ctx);
    if sk.is_null() {
        return;
    }
    let peer = dialled::<V6>(ctx);
    // SAFETY: a non-null socket of the context.
    let local_port = unsafe { (&raw const (*sk).src_port).read_volatile() };
    let (first, last) = (EPHEMERAL_FIRST.get(), EPHEMERAL_LAST.get());
    let to = u32::from(peer.port);
    if local_port != 0 && local_port < first && to >= first && to <= last {
        // A server answers a client.
        return;
    }
    let cookie = cookie_of(ctx);
    let Some(socket) = state::make_stored(sk) else { return };
    if socket.started == 0 {
        identify(socket, ctx, cookie);
        socket.protocol = 17;
        socket.flags = flag::UDP;
    }
    let key = Peer { cookie, address: peer.address, port: to, reserved: 0 };
    if UDP_PEERS.get_ptr(&key).is_some() {
        return;
    }
    if UDP_PEERS.insert(&key, &1, 0).is_err() {
        report::lost(Loss::UdpPeers);
    }
    if socket.flags & flag::AWAIT_DATAGRAM != 0 && socket.flags & flag::CONNECTED == 0 {
        // Two threads send on one socket, or the last send never left: it is reported without its packet.
        report_datagram(socket, &Connection::unknown(0));
    }
    // Whoever sends to this peer may not be who sent to the last one.
    identify(socket, ctx, cookie);
    socket.dialled = peer;
    socket.wire_source = NOWHERE;
    socket.wire_destination = NOWHERE;
    socket.flags = (socket.flags & !(flag::WIRE | flag::CONNECTED)) | flag::AWAIT_DATAGRAM;
    report::first_sight_of_cgroup(socket.cgroup);
}

/// Reports a UDP flow.
#[inline(always)]
pub(crate) fn report_datagram(socket: &mut Socket, connection: &Connection) {
    socket.flags = (socket.flags & !flag::AWAIT_DATAGRAM) | flag::REPORTED;
    report::flow(Kind::UdpOpen, socket, connection);
}

/// The last reference to a socket goes away.
#[inline(always)]
pub(crate) fn on_release(sk: *mut bpf_sock) {
    if field!(sk, bpf_sock, protocol) == IPPROTO_UDP {
        if let Some(socket) = state::stored(sk)
            && socket.flags & flag::REPORTED != 0
        {
            report::totals(Kind::UdpEnd, Loss::Flow, socket, now(), &report::datagrams(socket));
        }
        return;
    }
    // SAFETY: a helper on the context.
    let cookie = unsafe { helper::bpf_get_socket_cookie(sk.cast()) };
    let Some(socket) = state::tcp(cookie, || sk) else { return };
    if socket.flags & (flag::SYN | flag::ESTABLISHED | flag::CLOSED) == 0 {
        report::flow(Kind::Fail, socket, &Connection::unknown(STATE_NO_SYN));
    } else if socket.flags & flag::CLOSED == 0 {
        // TCP goes on closing without its process.
        return;
    }
    state::forget(cookie);
}

/// Who is calling, for which socket, now.
#[inline(always)]
fn identify(socket: &mut Socket, ctx: *mut bpf_sock_addr, cookie: u64) {
    socket.cookie = cookie;
    // SAFETY: helpers that read the current task and the context.
    unsafe {
        socket.started = helper::bpf_ktime_get_ns();
        socket.netns = helper::bpf_get_netns_cookie(ctx.cast());
        socket.cgroup = helper::bpf_get_current_cgroup_id();
        let thread = helper::bpf_get_current_pid_tgid();
        socket.tgid = (thread >> 32) as u32;
        socket.tid = thread as u32;
        let user = helper::bpf_get_current_uid_gid();
        socket.uid = user as u32;
        socket.gid = (user >> 32) as u32;
    }
    // SAFETY: sixteen bytes of room.
    unsafe { helper::bpf_get_current_comm(socket.comm.as_mut_ptr().cast(), 16) };
    socket.family = field!(ctx, bpf_sock_addr, family) as u16;
    socket.sampled = socket.started;
}

/// The destination that the caller gave.
#[inline(always)]
fn dialled<const V6: bool>(ctx: *mut bpf_sock_addr) -> Endpoint {
    let address = if V6 {
        load_address!(ctx, offset_of!(bpf_sock_addr, user_ip6))
    } else {
        mapped(field!(ctx, bpf_sock_addr, user_ip4))
    };
    // Network order in the low half.
    let port = u16::from_be(field!(ctx, bpf_sock_addr, user_port) as u16);
    Endpoint { address, port, reserved: 0 }
}

#[inline(always)]
fn socket_of(ctx: *mut bpf_sock_addr) -> *mut bpf_sock {
    load64!(ctx, offset_of!(bpf_sock_addr, __bindgen_anon_1)) as *mut bpf_sock
}

#[inline(always)]
fn cookie_of(ctx: *mut bpf_sock_addr) -> u64 {
    // SAFETY: a helper on the context.
    unsafe { helper::bpf_get_socket_cookie(ctx.cast()) }
}
