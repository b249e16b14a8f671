//! Settings that the loader writes before the programs are verified, and maps.
//!
//! Read-only globals are frozen, so the verifier knows their values and drops the branches that they switch off.

use aya_ebpf::btf_maps::{Array, LruHashMap, PerCpuArray, RingBuf, SkStorage};
use aya_ebpf::macros::btf_map;
use egress_ebpf::SLOT_COUNT;

use crate::state::{Peer, Slot, Socket};

/// A read-only global that the loader may set.
#[repr(transparent)]
pub(crate) struct Setting<T>(T);

impl<T: Copy> Setting<T> {
    /// Its value at load time; volatile, or the compiler would keep the one that is written here.
    #[inline(always)]
    pub(crate) fn get(&self) -> T {
        // SAFETY: a reference to an initialised static.
        unsafe { core::ptr::read_volatile(&raw const self.0) }
    }
}

/// Nanoseconds: the reader is woken at most this often. A wake-up costs the traced process 2–15 µs, so one for each record
/// would double the price of a connect; 4 ms between two keep it below one part in a hundred, and the reader looks by
/// itself every 20 ms.
#[unsafe(no_mangle)]
pub(crate) static WAKE_INTERVAL: Setting<u64> = Setting(4_000_000);
/// Nanoseconds between two samples of one socket; 0 switches them off.
#[unsafe(no_mangle)]
pub(crate) static SAMPLE_INTERVAL: Setting<u64> = Setting(1_000_000_000);
/// Bytes of one socket that are copied at most.
#[unsafe(no_mangle)]
pub(crate) static PAYLOAD_LIMIT: Setting<u32> = Setting(8192);
/// First ephemeral port.
#[unsafe(no_mangle)]
pub(crate) static EPHEMERAL_FIRST: Setting<u32> = Setting(32768);
/// Last ephemeral port.
#[unsafe(no_mangle)]
pub(crate) static EPHEMERAL_LAST: Setting<u32> = Setting(60999);
/// A port from which DNS answers come.
#[unsafe(no_mangle)]
pub(crate) static DNS_PORT: Setting<u32> = Setting(53);
/// Another one; 0 for none.
#[unsafe(no_mangle)]
pub(crate) static DNS_PORT_TOO: Setting<u32> = Setting(15053);

/// Sockets and cgroups. The loader sets the size.
#[btf_map]
pub(crate) static FLOWS: Ring = Ring::new();
/// First bytes and DNS answers: a ring of their own, because one of them is as big as ten flows.
#[btf_map]
pub(crate) static PAYLOADS: Ring = Ring::new();
/// By [`egress_ebpf::Loss`].
#[btf_map]
pub(crate) static LOSSES: PerCpuArray<u64, 16> = PerCpuArray::new();
/// State of sockets.
#[btf_map]
pub(crate) static SLOTS: Array<Slot, SLOT_COUNT> = Array::new();
/// State of the sockets whose slot is taken. Freed with the socket, never evicted.
#[btf_map]
pub(crate) static SOCKETS: SkStorage<Socket> = SkStorage::new();
/// Peers of unconnected UDP sockets that were already reported. An evicted one is reported again.
#[btf_map]
pub(crate) static UDP_PEERS: LruHashMap<Peer, u64, 16384> = LruHashMap::new();
/// cgroups that were already reported. An evicted one is reported again.
#[btf_map]
pub(crate) static CGROUPS: LruHashMap<u64, u64, 8192> = LruHashMap::new();

/// Records of several types share a ring.
pub(crate) type Ring = RingBuf<(), { 4 << 20 }>;
