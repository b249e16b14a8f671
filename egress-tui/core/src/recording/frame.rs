//! Frames: length, kind, checksum, payload.

use super::VERSION;

/// As PNG's: a high byte, a name, line ends of both sorts, a control character. Transfers as text break it visibly.
pub(super) const MAGIC: [u8; 8] = *b"\x89EGR\r\n\x1a\n";
/// Magic and version.
pub(super) const HEAD: usize = 10;
/// Length, kind, checksum.
pub(super) const FRAME_HEAD: usize = 9;
/// Most bytes of a payload, and of the entries in it when they are unpacked.
pub(super) const LARGEST: usize = 16 << 20;

/// Kinds of frames.
pub(super) mod kind {
    pub(crate) const START: u8 = 1;
    pub(crate) const ENTRIES: u8 = 2;
    pub(crate) const END: u8 = 3;
    /// From here on a reader skips what it does not know.
    pub(crate) const OPTIONAL: u8 = 128;
}

/// What every file begins with.
pub(super) fn head() -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..MAGIC.len()].copy_from_slice(&MAGIC);
    head[MAGIC.len()..].copy_from_slice(&VERSION.to_le_bytes());
    head
}

/// Appends a frame.
pub(super) fn push(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    out.extend((payload.len() as u32).to_le_bytes());
    out.push(kind);
    out.extend(checksum(kind, payload).to_le_bytes());
    out.extend(payload);
}

/// CRC-32 of kind and payload.
pub(super) fn checksum(kind: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(payload);
    hasher.finalize()
}

/// A little-endian number at a place that is there.
pub(super) fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}
