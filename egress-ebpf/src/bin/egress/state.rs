//! What is remembered of a socket.
//!
//! A TCP socket lives in a slot of a table that is indexed by the low bits of its cookie: taking one costs a third of making
//! socket storage, and finding it is a handful of instructions. A slot that another socket holds is left to it, and the
//! newcomer gets storage of its own in the kernel, which is never evicted. So the table may be small, and even a slot that is
//! never given back only makes the sockets that fall on it slower. A slot is written under the lock of the socket that holds
//! it, as TCP hooks run; UDP has no such lock, so its sockets always have storage.

use core::cell::UnsafeCell;

use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock, bpf_spin_lock};
use aya_ebpf::helpers::generated::{self as helper, bpf_sk_storage_get};
use egress_ebpf::{Endpoint, Loss, SLOT_COUNT};

use crate::globals::{SLOTS, SOCKETS};
use crate::ring;

/// A place for one TCP socket.
#[repr(C)]
pub(crate) struct Slot {
    lock: bpf_spin_lock,
    reserved: u32,
    /// Cookie of the socket that holds it; 0 if nobody does. Cookies are never used twice.
    owner: u64,
    socket: Socket,
}

/// Whether any TCP socket ever found its slot taken. Until then nobody needs to look for storage.
#[repr(transparent)]
struct Crowded(UnsafeCell<u64>);

// SAFETY: only read and written as a whole, volatile; it changes once.
unsafe impl Sync for Crowded {}

static CROWDED: Crowded = Crowded(UnsafeCell::new(0));

/// State of one outgoing socket. TCP hooks run under the socket's lock and may write it plainly; several threads may send on
/// one UDP socket at once, so its counters are added to atomically and its flags are only ever set.
#[repr(C)]
pub(crate) struct Socket {
    /// When connect() (UDP unconnected: the first sendmsg()) was called; 0 in fresh state.
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

/// The state in the slot of the TCP socket with this cookie.
#[inline(always)]
pub(crate) fn seated(cookie: u64) -> Option<&'static mut Socket> {
    let slot = slot(cookie)?;
    (slot.owner == cookie).then_some(&mut slot.socket)
}

/// The state of a TCP socket whose slot was taken. `sk` is asked for only if there is any such socket.
#[inline(always)]
pub(crate) fn crowded_out(sk: impl FnOnce() -> *mut bpf_sock) -> Option<&'static mut Socket> {
    // SAFETY: see Crowded.
    if unsafe { CROWDED.0.get().read_volatile() } == 0 {
        return None;
    }
    stored(sk())
}

/// The state of a TCP socket that has one.
#[inline(always)]
pub(crate) fn tcp(cookie: u64, sk: impl FnOnce() -> *mut bpf_sock) -> Option<&'static mut Socket> {
    seated(cookie).or_else(|| crowded_out(sk))
}

/// The state of a UDP socket that has one, or of a TCP socket that has storage.
#[inline(always)]
pub(crate) fn stored(sk: *mut bpf_sock) -> Option<&'static mut Socket> {
    if sk.is_null() {
        return None;
    }
    storage(sk, 0)
}

/// The state of a TCP socket, made if there is none; counts where the kernel has no memory.
#[inline(always)]
pub(crate) fn make_tcp(cookie: u64, sk: *mut bpf_sock) -> Option<&'static mut Socket> {
    let slot = slot(cookie)?;
    if slot.owner == cookie {
        return Some(&mut slot.socket);
    }
    // Whoever was crowded out once keeps its storage, even if the slot is free by now: what it says of an earlier attempt
    // must not be left behind.
    if let Some(socket) = crowded_out(|| sk) {
        return Some(socket);
    }
    if slot.owner == 0 && take(slot, cookie) {
        let socket = &mut slot.socket;
        socket.started = 0;
        socket.sent = 0;
        socket.received = 0;
        socket.flags = 0;
        return Some(socket);
    }
    // SAFETY: see Crowded.
    unsafe { CROWDED.0.get().write_volatile(1) };
    make_stored(sk)
}

/// Storage of a socket, made if there is none; counts where the kernel has no memory.
#[inline(always)]
pub(crate) fn make_stored(sk: *mut bpf_sock) -> Option<&'static mut Socket> {
    if sk.is_null() {
        return None;
    }
    let socket = storage(sk, BPF_SK_STORAGE_GET_F_CREATE.into());
    if socket.is_none() {
        ring::lost(Loss::Storage);
    }
    socket
}

/// The TCP socket has nothing more to tell: gives its slot to whoever comes next. Storage goes with the socket.
#[inline(always)]
pub(crate) fn forget(cookie: u64) {
    if let Some(slot) = slot(cookie)
        && slot.owner == cookie
    {
        // The end of a connection and the release of its socket may both come here; the second must not give away what
        // somebody else has taken in between.
        exchange(slot, cookie, 0);
    }
}

#[inline(always)]
fn slot(cookie: u64) -> Option<&'static mut Slot> {
    let index = cookie as u32 & (SLOT_COUNT as u32 - 1);
    // SAFETY: an element of an array map, which lives as long as the program. Who may write it: see Socket.
    SLOTS.get_ptr_mut(index).map(|slot| unsafe { &mut *slot })
}

/// Takes a free slot.
#[inline(always)]
fn take(slot: &mut Slot, cookie: u64) -> bool {
    exchange(slot, 0, cookie)
}

/// Compares and sets the owner. With a lock: the BPF instruction that does so came with 5.12.
#[inline(always)]
fn exchange(slot: &mut Slot, from: u64, to: u64) -> bool {
    let lock = &raw mut slot.lock;
    // SAFETY: the verifier checks that the lock is the slot's own and is given back.
    unsafe {
        helper::bpf_spin_lock(lock);
        let owned = slot.owner == from;
        if owned {
            slot.owner = to;
        }
        helper::bpf_spin_unlock(lock);
        owned
    }
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
