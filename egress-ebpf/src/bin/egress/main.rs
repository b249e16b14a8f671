//! The BPF programs: one object, attached once at the cgroup v2 root, for kernels from 5.10 on.
//!
//! | program | what it sees | what it does |
//! |---|---|---|
//! | `connect4`, `connect6` | who dials what, before NAT and load balancing | makes the socket's state |
//! | `sendmsg4`, `sendmsg6` | datagrams of unconnected sockets | notes the first to each peer |
//! | `sock_ops` | TCP established, failed, closed, accepted | reports it |
//! | `sock_release` | the end of any socket | reports UDP totals, and connects that failed before a SYN |
//! | `skb_egress` | packets after NAT | first packet's four numbers, first bytes, samples, UDP totals |
//! | `skb_ingress` | packets | DNS answers, UDP totals |
//!
//! Rules that the kernel's history imposes, each learnt from a verifier that refused:
//! every path returns [`ALLOW`], since anything else blocks traffic on the node; fields of a context are read at constant
//! offsets ([`kernel::field`]); no helper that 5.10 lacks in that program type is called, not even behind a condition;
//! no atomic operation returns a value; nothing is kept in per-CPU scratch, because egress can interrupt egress.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(internal_features, reason = "the BPF target has no other way to a locked add")]
#![expect(unsafe_code, reason = "every BPF helper and map access is a call into the kernel, checked by its verifier")]

mod connect;
mod first_bytes;
mod globals;
mod kernel;
mod packet;
mod report;
mod ring;
mod sockops;
mod state;

use aya_ebpf::macros::{cgroup_skb, cgroup_sock, cgroup_sock_addr, sock_ops};
use aya_ebpf::programs::{SkBuffContext, SockAddrContext, SockContext, SockOpsContext};

/// What every program answers: the packet or call goes on as if nobody had looked.
const ALLOW: i32 = 1;

/// connect() of an AF_INET socket.
#[cgroup_sock_addr(connect4)]
fn connect4(ctx: SockAddrContext) -> i32 {
    connect::on_connect::<false>(ctx.sock_addr);
    ALLOW
}

/// connect() of an AF_INET6 socket.
#[cgroup_sock_addr(connect6)]
fn connect6(ctx: SockAddrContext) -> i32 {
    connect::on_connect::<true>(ctx.sock_addr);
    ALLOW
}

/// sendmsg() with an IPv4 destination on an unconnected UDP socket.
#[cgroup_sock_addr(sendmsg4)]
fn sendmsg4(ctx: SockAddrContext) -> i32 {
    connect::on_sendmsg::<false>(ctx.sock_addr);
    ALLOW
}

/// sendmsg() with an IPv6 destination on an unconnected UDP socket.
#[cgroup_sock_addr(sendmsg6)]
fn sendmsg6(ctx: SockAddrContext) -> i32 {
    connect::on_sendmsg::<true>(ctx.sock_addr);
    ALLOW
}

/// TCP state changes.
#[sock_ops]
fn sock_ops(ctx: SockOpsContext) -> u32 {
    sockops::on_event(ctx.ops);
    ALLOW as u32
}

/// The last reference of a process to an inet socket goes away.
#[cgroup_sock(sock_release)]
fn sock_release(ctx: SockContext) -> i32 {
    connect::on_release(ctx.sock);
    ALLOW
}

/// A packet leaves, after NAT.
#[cgroup_skb(egress)]
fn skb_egress(ctx: SkBuffContext) -> i32 {
    packet::on_egress(ctx.skb.skb);
    ALLOW
}

/// A packet arrives, after reverse NAT.
#[cgroup_skb(ingress)]
fn skb_ingress(ctx: SkBuffContext) -> i32 {
    packet::on_ingress(ctx.skb.skb);
    ALLOW
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The programs have no panicking path: the verifier would refuse this loop.
    loop {}
}

/// Helpers that are marked GPL-only ask for this word.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
