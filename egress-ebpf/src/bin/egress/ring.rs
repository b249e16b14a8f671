//! Records on their way out, and what could not leave.

use core::cell::UnsafeCell;

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::{bpf_ringbuf_discard, bpf_ringbuf_reserve, bpf_ringbuf_submit};
use egress_ebpf::{Header, Kind, Loss, VERSION};

use crate::globals::{LOSSES, Ring, WAKE_INTERVAL};
use crate::kernel;

/// When the reader was last woken. Shared by all CPUs and racy on purpose: one wake more or less is no harm, and the reader
/// looks by itself every 20 ms.
#[repr(transparent)]
struct LastWake(UnsafeCell<u64>);

// SAFETY: only read and written as a whole, volatile.
unsafe impl Sync for LastWake {}

static LAST_WAKE: LastWake = LastWake(UnsafeCell::new(0));

/// Whether the reader should be woken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// At most once in the interval.
    Soon,
    /// At once: what the record names may be gone in a moment.
    Now,
}

/// Counts a loss on this CPU. The add is locked because an interrupt may count on the same CPU in between.
#[inline(always)]
pub(crate) fn lost(loss: Loss) {
    if let Some(counter) = LOSSES.get_ptr_mut(loss as u32) {
        kernel::add(counter, 1);
    }
}

/// Room for a record; counts `loss` if there is none. Every field must be written: it holds old bytes.
#[inline(always)]
pub(crate) fn reserve<T>(ring: &'static Ring, loss: Loss) -> Option<&'static mut T> {
    // SAFETY: the kernel answers null or size_of::<T>() bytes, 8-aligned, ours until submitted or discarded. Records are
    // plain integers, so any bytes are valid.
    let room = unsafe {
        let map = core::ptr::from_ref(ring).cast_mut().cast();
        bpf_ringbuf_reserve(map, size_of::<T>() as u64, 0).cast::<T>().as_mut()
    };
    if room.is_none() {
        lost(loss);
    }
    room
}

/// The head of a record of type T.
#[inline(always)]
pub(crate) fn header<T>(kind: Kind, flags: u16, at: u64, cookie: u64) -> Header {
    Header { kind: kind as u16, size: size_of::<T>() as u16, version: VERSION, flags, at, cookie }
}

/// Hands a record to the reader.
#[inline(always)]
pub(crate) fn submit<T>(record: &mut T, at: u64, wake: Wake) {
    let flags = if wake == Wake::Now || due(at) { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    // SAFETY: the record came from `reserve` and is not used afterwards.
    unsafe { bpf_ringbuf_submit(core::ptr::from_mut(record).cast(), flags.into()) }
}

/// Gives the room back.
#[inline(always)]
pub(crate) fn discard<T>(record: &mut T) {
    // SAFETY: as submit.
    unsafe { bpf_ringbuf_discard(core::ptr::from_mut(record).cast(), BPF_RB_NO_WAKEUP.into()) }
}

#[inline(always)]
fn due(at: u64) -> bool {
    // SAFETY: see LastWake.
    unsafe {
        let last = LAST_WAKE.0.get();
        if at < last.read_volatile().wrapping_add(WAKE_INTERVAL.get()) {
            return false;
        }
        last.write_volatile(at);
    }
    true
}
