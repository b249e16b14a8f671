//! What is remembered of a socket, in the socket's own storage.

use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use egress_ebpf::{Endpoint, Loss};

use crate::globals::SOCKETS;
use crate::ring;

/// State of one outgoing socket. TCP hooks run under the socket's lock and may write it plainly; several threads may send on
/// one UDP socket at once, so its counters are added to atomically and its flags are only ever set.
#[repr(C)]
pub(crate) struct Socket {
    /// When connect() (UDP unconnected: the first sendmsg()) was called; 0 in fresh storage.
    pub(crate) started: u64,
    pub(crate) cookie: u64,
    pub(crate) cgroup: u64,
    pub(crate) netns: u64,
    /// UDP payload bytes.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// When it was last sampled.
    pub(crate) sampled: u64,
    pub(crate) tgid: u32,
    pub(crate) tid: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) comm: [u8; 16],
    pub(crate) dialled: Endpoint,
    /// First packet after NAT.
    pub(crate) wire_source: Endpoint,
    pub(crate) wire_destination: Endpoint,
    pub(crate) family: u16,
    pub(crate) protocol: u16,
    /// See [`flag`].
    pub(crate) flags: u32,
    /// First bytes: how many are wanted (0: not yet known what it is), copied, and how many segments were looked at.
    pub(crate) wanted: u32,
    pub(crate) copied: u32,
    pub(crate) segments: u32,
    /// The TCP sequence number that new payload starts at.
    pub(crate) next_sequence: u32,
}

/// Bits of [`Socket::flags`].
pub(crate) mod flag {
    /// A UDP socket.
    pub(crate) const UDP: u32 = 1;
    /// TCP made a SYN.
    pub(crate) const SYN: u32 = 1 << 1;
    /// TCP is established.
    pub(crate) const ESTABLISHED: u32 = 1 << 2;
    /// TCP failed or closed, and that was reported.
    pub(crate) const CLOSED: u32 = 1 << 3;
    /// The first packet was seen.
    pub(crate) const FIRST_PACKET: u32 = 1 << 4;
    /// Its numbers could be read.
    pub(crate) const WIRE: u32 = 1 << 5;
    /// `next_sequence` holds a number.
    pub(crate) const SEQUENCE: u32 = 1 << 6;
    /// No more first bytes are wanted.
    pub(crate) const BYTES_DONE: u32 = 1 << 7;
    /// UDP: at least one open was reported.
    pub(crate) const REPORTED: u32 = 1 << 8;
    /// UDP: the first datagram to `dialled` has not left yet.
    pub(crate) const AWAIT_DATAGRAM: u32 = 1 << 9;
    /// UDP: `dialled` comes from connect().
    pub(crate) const CONNECTED: u32 = 1 << 10;
}

/// Key of [`crate::globals::UDP_PEERS`].
#[repr(C)]
pub(crate) struct Peer {
    pub(crate) cookie: u64,
    pub(crate) address: [u32; 4],
    pub(crate) port: u32,
    pub(crate) reserved: u32,
}

/// The state of a socket that has one.
#[inline(always)]
pub(crate) fn find(sk: *mut bpf_sock) -> Option<&'static mut Socket> {
    storage(sk, 0)
}

/// The state of a socket, made if there is none; counts where the kernel has no memory.
#[inline(always)]
pub(crate) fn find_or_make(sk: *mut bpf_sock) -> Option<&'static mut Socket> {
    let socket = storage(sk, BPF_SK_STORAGE_GET_F_CREATE.into());
    if socket.is_none() {
        ring::lost(Loss::Storage);
    }
    socket
}

#[inline(always)]
fn storage(sk: *mut bpf_sock, flags: u64) -> Option<&'static mut Socket> {
    // SAFETY: the verifier has checked that sk is a full socket; the kernel answers null or zeroed storage of this size
    // that lives at least until the program returns.
    unsafe {
        let map = (&raw const SOCKETS).cast_mut().cast();
        bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), flags).cast::<Socket>().as_mut()
    }
}
