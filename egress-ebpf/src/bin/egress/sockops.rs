//! What becomes of a TCP connection.

use core::mem::offset_of;

use aya_ebpf::bindings::{
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB,
    BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_TCP_CLOSE, bpf_sock, bpf_sock_ops,
};
use aya_ebpf::helpers::generated as helper;
use egress_ebpf::{Accept, Endpoint, Kind, Loss};

use crate::globals::FLOWS;
use crate::kernel::{field, load_address, load32, load64, mapped, now};
use crate::report::{self, Connection, Count};
use crate::ring::{self, Wake};
use crate::state::{self, flag};

const AF_INET: u32 = 2;
/// Where a callback's arguments begin: for a state change the old and the new state.
const ARGUMENTS: usize = offset_of!(bpf_sock_ops, __bindgen_anon_1);

/// One of the kernel's callbacks. It calls about five times per connect; most are not for us, so that test comes first.
#[inline(always)]
pub(crate) fn on_event(ops: *mut bpf_sock_ops) {
    let event = field!(ops, bpf_sock_ops, op);
    if event == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB {
        accepted(ops);
        return;
    }
    if event != BPF_SOCK_OPS_TCP_CONNECT_CB
        && event != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB
        && event != BPF_SOCK_OPS_STATE_CB
    {
        return;
    }
    // SAFETY: a helper on the context.
    let cookie = unsafe { helper::bpf_get_socket_cookie(ops.cast()) };
    let sk = || load64!(ops, offset_of!(bpf_sock_ops, __bindgen_anon_2)) as *mut bpf_sock;
    let Some(socket) = state::tcp(cookie, sk) else { return };
    if event == BPF_SOCK_OPS_TCP_CONNECT_CB {
        socket.flags |= flag::SYN;
        // Others' callbacks on this socket stay as they are.
        let wanted = field!(ops, bpf_sock_ops, bpf_sock_ops_cb_flags) | BPF_SOCK_OPS_STATE_CB_FLAG;
        // SAFETY: a helper on the context.
        let _ = unsafe { helper::bpf_sock_ops_cb_flags_set(ops, wanted as i32) };
    } else if event == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB {
        socket.flags |= flag::ESTABLISHED;
        report::flow(Kind::Open, socket, &connection(ops, 0));
    } else {
        let old = load32!(ops, ARGUMENTS);
        let new = load32!(ops, ARGUMENTS + 4);
        if new != BPF_TCP_CLOSE || socket.flags & flag::CLOSED != 0 {
            return;
        }
        socket.flags |= flag::CLOSED;
        if socket.flags & flag::ESTABLISHED == 0 {
            report::flow(Kind::Fail, socket, &connection(ops, old as u8));
            state::forget(cookie);
            return;
        }
        let count = Count {
            sent: load64!(ops, offset_of!(bpf_sock_ops, bytes_acked)),
            received: load64!(ops, offset_of!(bpf_sock_ops, bytes_received)),
            rtt_micros: field!(ops, bpf_sock_ops, srtt_us) >> 3,
            retransmits: field!(ops, bpf_sock_ops, total_retrans),
            state: old as u8,
        };
        report::totals(Kind::Close, Loss::Flow, socket, now(), &count);
        state::forget(cookie);
    }
}

#[inline(always)]
fn accepted(ops: *mut bpf_sock_ops) {
    let Some(record) = ring::reserve::<Accept>(&FLOWS, Loss::Accept) else { return };
    let at = now();
    // SAFETY: a helper on the context.
    let cookie = unsafe { helper::bpf_get_socket_cookie(ops.cast()) };
    record.header = ring::header::<Accept>(Kind::Accept, 0, at, cookie);
    let (remote, local) = endpoints(ops);
    record.remote = remote;
    record.local = local;
    ring::submit(record, at, Wake::Soon);
}

#[inline(always)]
fn connection(ops: *mut bpf_sock_ops, state: u8) -> Connection {
    let (remote, local) = endpoints(ops);
    Connection {
        remote,
        local,
        rtt_micros: field!(ops, bpf_sock_ops, srtt_us) >> 3,
        retransmits: field!(ops, bpf_sock_ops, total_retrans),
        segments_in: field!(ops, bpf_sock_ops, segs_in),
        state,
    }
}

#[inline(always)]
fn endpoints(ops: *mut bpf_sock_ops) -> (Endpoint, Endpoint) {
    let (remote, local) = if field!(ops, bpf_sock_ops, family) == AF_INET {
        (mapped(field!(ops, bpf_sock_ops, remote_ip4)), mapped(field!(ops, bpf_sock_ops, local_ip4)))
    } else {
        (
            load_address!(ops, offset_of!(bpf_sock_ops, remote_ip6)),
            load_address!(ops, offset_of!(bpf_sock_ops, local_ip6)),
        )
    };
    // The remote port is a 32-bit number in network order, the local one is a number.
    let remote_port = u32::from_be(field!(ops, bpf_sock_ops, remote_port)) as u16;
    let local_port = field!(ops, bpf_sock_ops, local_port) as u16;
    (
        Endpoint { address: remote, port: remote_port, reserved: 0 },
        Endpoint { address: local, port: local_port, reserved: 0 },
    )
}
