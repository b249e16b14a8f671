//! What the kernel offers, each wrapped once.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated as helper;

/// Reads a context's field at a constant offset.
///
/// LLVM merges plain loads of two branches into one load from `ctx + variable`, which the verifier refuses ("dereference of
/// modified ctx ptr"), and volatile does not keep it from that.
macro_rules! field {
    ($ctx:expr, $struct:ty, $($field:tt)+) => {
        $crate::kernel::load32!($ctx, core::mem::offset_of!($struct, $($field)+))
    };
}
pub(crate) use field;

/// Reads 32 bits of a context at a constant offset.
macro_rules! load32 {
    ($ctx:expr, $offset:expr) => {{
        let value: u64;
        // SAFETY: a load from the context, which the verifier checks.
        unsafe {
            core::arch::asm!(
                "{value} = *(u32 *)({ctx} + {offset})",
                value = out(reg) value, ctx = in(reg) $ctx, offset = const $offset,
                options(nostack, pure, readonly),
            );
        }
        value as u32
    }};
}
pub(crate) use load32;

/// Reads 64 bits of a context at a constant offset: counters and pointers.
macro_rules! load64 {
    ($ctx:expr, $offset:expr) => {{
        let value: u64;
        // SAFETY: as load32.
        unsafe {
            core::arch::asm!(
                "{value} = *(u64 *)({ctx} + {offset})",
                value = out(reg) value, ctx = in(reg) $ctx, offset = const $offset,
                options(nostack, pure, readonly),
            );
        }
        value
    }};
}
pub(crate) use load64;

/// Reads a pointer into the packet (`data`, `data_end`): a 32-bit field of the context that the verifier widens.
macro_rules! load_pointer {
    ($ctx:expr, $struct:ty, $field:ident) => {{
        let value: u64;
        // SAFETY: as load32. Not truncated afterwards: arithmetic would make the pointer a number.
        unsafe {
            core::arch::asm!(
                "{value} = *(u32 *)({ctx} + {offset})",
                value = out(reg) value, ctx = in(reg) $ctx, offset = const core::mem::offset_of!($struct, $field),
                options(nostack, pure, readonly),
            );
        }
        value as *const u8
    }};
}
pub(crate) use load_pointer;

/// Reads four 32-bit words of a context at a constant offset: an IPv6 address.
macro_rules! load_address {
    ($ctx:expr, $offset:expr) => {
        [
            $crate::kernel::load32!($ctx, $offset),
            $crate::kernel::load32!($ctx, $offset + 4),
            $crate::kernel::load32!($ctx, $offset + 8),
            $crate::kernel::load32!($ctx, $offset + 12),
        ]
    };
}
pub(crate) use load_address;

/// An IPv4 address as every record carries it: `::ffff:a.b.c.d`.
#[inline(always)]
pub(crate) const fn mapped(address: u32) -> [u32; 4] {
    [0, 0, 0xffff_u32.to_be(), address]
}

/// `CLOCK_MONOTONIC`, nanoseconds.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: no argument.
    unsafe { helper::bpf_ktime_get_ns() }
}

/// A locked add whose result nobody reads: all that kernels before 5.12 can do.
#[inline(always)]
pub(crate) fn add(counter: *mut u64, value: u64) {
    // SAFETY: the pointer comes from a map value.
    unsafe {
        core::intrinsics::atomic_xadd::<u64, u64, { core::intrinsics::AtomicOrdering::Relaxed }>(counter, value);
    }
}

/// A value of the packet, wherever its bytes lie; `None` if the packet is too short.
#[inline(always)]
pub(crate) fn load<T: Copy>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the helper fills all of T or answers an error; T is plain integers.
    unsafe {
        let failed = helper::bpf_skb_load_bytes(skb.cast(), offset, value.as_mut_ptr().cast(), size_of::<T>() as u32);
        (failed == 0).then(|| value.assume_init())
    }
}
