//! A bounded copy of the first bytes that a connection sends. Nothing is parsed here beyond what decides how much to copy.
//!
//! The hook sees a whole write before it is cut into segments, so a ClientHello larger than the MSS is one buffer; what
//! splits it is the application writing it in pieces. Pieces carry their offset; a hole is a piece that was lost.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use egress_ebpf::{Bytes, FINGERPRINT, Kind, Loss};

use crate::globals::{PAYLOAD_LIMIT, PAYLOADS};
use crate::kernel::{field, load, now};
use crate::ring::{self, Wake};
use crate::state::{Socket, flag};

/// Segments that are looked at before a connection counts as neither TLS nor HTTP.
const PATIENCE: u32 = 6;
/// Segments after which nothing more is copied.
const LAST_SEGMENT: u32 = 10;
/// Bytes wanted of HTTP, and of TLS while its length is not known.
const DEFAULT_WANTED: u32 = 2048;
/// Most bytes in one record.
const CHUNK: u32 = 2048;
/// Records per segment: PAYLOAD_LIMIT in all.
const CHUNKS: u32 = 4;

/// What a record says about its bytes.
pub(crate) struct Piece {
    pub(crate) kind: Kind,
    pub(crate) loss: Loss,
    pub(crate) cookie: u64,
    pub(crate) offset: u32,
    pub(crate) total: u32,
    pub(crate) port: u16,
}

/// What the first bytes of a segment are.
enum Opening {
    /// Copy this many bytes of the stream, then stop.
    Wanted(u32),
    /// An HTTP CONNECT: copy, and look again, because what it carries is to come.
    Tunnel,
    /// Nothing that we know.
    Unknown,
}

/// A segment with payload leaves.
#[inline(always)]
pub(crate) fn on_segment(skb: *mut __sk_buff, socket: &mut Socket, transport: u32) {
    // Ports, sequence number, acknowledgement, and the word whose first byte holds the header's length.
    let Some([ports, sequence, _, last]) = load::<[u32; 4]>(skb, transport) else { return };
    let sequence = u32::from_be(sequence);
    let start = transport + ((u32::from_be(last) >> 28) * 4);
    let length = field!(skb, __sk_buff, len);
    if length <= start {
        return;
    }
    let payload = length - start;
    if socket.flags & flag::SEQUENCE != 0 && (sequence.wrapping_sub(socket.next_sequence) as i32) < 0 {
        // A retransmission.
        return;
    }
    socket.next_sequence = sequence.wrapping_add(payload);
    socket.flags |= flag::SEQUENCE;
    socket.segments += 1;
    let limit = PAYLOAD_LIMIT.get();
    if limit == 0 {
        socket.flags |= flag::BYTES_DONE;
        return;
    }
    let port = (u32::from_be(ports) & 0xffff) as u16;
    let mut piece =
        Piece { kind: Kind::Payload, loss: Loss::Payload, cookie: socket.cookie, offset: 0, total: 0, port };

    let mut tunnel = false;
    if socket.wanted == 0 {
        let wanted = match opening(skb, start, payload) {
            Opening::Wanted(bytes) => bytes,
            Opening::Tunnel => {
                tunnel = true;
                if payload < DEFAULT_WANTED { payload } else { DEFAULT_WANTED }
            }
            Opening::Unknown => {
                if socket.segments == 1 {
                    piece.total = if payload < FINGERPRINT as u32 { payload } else { FINGERPRINT as u32 };
                    copy::<FINGERPRINT>(skb, start, piece.total, &piece);
                }
                if socket.segments >= PATIENCE {
                    socket.flags |= flag::BYTES_DONE;
                }
                return;
            }
        };
        socket.wanted = if wanted < limit { wanted } else { limit };
        socket.copied = 0;
    }

    piece.total = socket.wanted;
    let mut from = start;
    let mut left = payload;
    let mut chunk = 0;
    while chunk < CHUNKS {
        chunk += 1;
        let missing = piece.total.wrapping_sub(socket.copied);
        let mut bytes = if missing < left { missing } else { left };
        if bytes == 0 {
            break;
        }
        piece.offset = socket.copied;
        if bytes <= 512 {
            copy::<512>(skb, from, bytes, &piece);
        } else {
            if bytes > CHUNK {
                bytes = CHUNK;
            }
            copy::<{ CHUNK as usize }>(skb, from, bytes, &piece);
        }
        socket.copied += bytes;
        from += bytes;
        left -= bytes;
    }
    if tunnel {
        socket.wanted = 0;
    } else if socket.copied >= piece.total || socket.segments >= LAST_SEGMENT {
        socket.flags |= flag::BYTES_DONE;
    }
}

/// Looks at no more than five bytes. Words of a method are compared whole: three capital letters also begin an SMTP greeting.
#[inline(always)]
fn opening(skb: *mut __sk_buff, start: u32, payload: u32) -> Opening {
    if payload < 5 {
        return match load::<u8>(skb, start) {
            Some(0x16) => Opening::Wanted(DEFAULT_WANTED),
            _ => Opening::Unknown,
        };
    }
    let Some(head) = load::<[u8; 5]>(skb, start) else { return Opening::Unknown };
    if head[0] == 0x16 && head[1] == 3 {
        return Opening::Wanted(5 + (u32::from(head[3]) << 8 | u32::from(head[4])));
    }
    let request = if payload < DEFAULT_WANTED { payload } else { DEFAULT_WANTED };
    match &[head[0], head[1], head[2], head[3]] {
        b"GET " | b"POST" | b"PUT " | b"HEAD" | b"DELE" | b"OPTI" | b"PATC" | b"TRAC" => Opening::Wanted(request),
        // HTTP/2: the request's headers may come in a later write than the preface.
        b"PRI " => Opening::Wanted(DEFAULT_WANTED),
        b"CONN" => Opening::Tunnel,
        _ => Opening::Unknown,
    }
}

/// A record with room for N bytes.
#[repr(C)]
struct Chunk<const N: usize> {
    head: Bytes,
    bytes: [u8; N],
}

/// Copies `length` (1 to N) bytes of the packet from `from` on. N is a power of two.
#[inline(always)]
pub(crate) fn copy<const N: usize>(skb: *mut __sk_buff, from: u32, length: u32, piece: &Piece) {
    const { assert!(N.is_power_of_two()) };
    let Some(record) = ring::reserve::<Chunk<N>>(&PAYLOADS, piece.loss) else { return };
    let at = now();
    record.head.header = ring::header::<Chunk<N>>(piece.kind, 0, at, piece.cookie);
    record.head.offset = piece.offset;
    record.head.total = piece.total;
    record.head.length = length;
    record.head.port = piece.port;
    record.head.reserved = 0;
    let bytes = record.bytes.as_mut_ptr();
    // SAFETY: the record has N bytes of room and `between` answers at most N.
    let failed = unsafe { bpf_skb_load_bytes(skb.cast(), from, bytes.cast(), between::<N>(length)) };
    if failed != 0 {
        ring::discard(record);
        return;
    }
    ring::submit(record, at, Wake::Soon);
}

/// The same number, in a form that shows every verifier that it lies in 1 to N.
///
/// 5.10 and 6.1 refuse a length that could be 0, and forget what a comparison has shown once the compiler moves the number
/// through the stack. Arithmetic right before the call needs no comparison; assembler, or the compiler would see that
/// it changes nothing and leave it out.
#[inline(always)]
fn between<const N: usize>(length: u32) -> u32 {
    let mut number = u64::from(length);
    // SAFETY: arithmetic on one register.
    unsafe {
        core::arch::asm!(
            "{number} += -1",
            "{number} &= {mask}",
            "{number} += 1",
            number = inout(reg) number, mask = const N - 1,
            options(nostack, nomem),
        );
    }
    number as u32
}
