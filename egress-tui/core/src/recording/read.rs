//! Frames to entries. Whatever the bytes are, memory stays bounded and what was read before stays good.

use thiserror::Error;

use super::VERSION;
use super::entry::{Entry, Start};
use super::frame::{self, FRAME_HEAD, HEAD, LARGEST, MAGIC, kind};

/// Why a recording cannot be read from some byte on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Damage {
    /// Another sort of file.
    #[error("this is no recording of egress-tui")]
    Foreign,
    /// A newer format.
    #[error("it has format {0}, written by a newer egress-tui; this one reads up to {VERSION}")]
    Newer(u16),
    /// The file ends within a frame, or without the frame that closes it.
    #[error("it was cut at byte {at}: the program that wrote it did not end in order, or the copy is incomplete")]
    Cut {
        /// Bytes that are good.
        at: u64,
    },
    /// A frame whose bytes were changed.
    #[error("it is damaged at byte {at}: {what}")]
    Frame {
        /// Bytes that are good.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// Takes the bytes of a file in pieces of any size and gives its entries.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    bytes: Vec<u8>,
    /// Place in `bytes` of the next frame.
    next: usize,
    /// Place in the file of `bytes[0]`.
    offset: u64,
    start: Option<Start>,
    began: bool,
    ended: bool,
    damage: Option<Damage>,
}

/// Bytes of entries and of frame heads that are kept at most: one whole frame, and what came with it.
const KEPT: usize = LARGEST + FRAME_HEAD;

impl Reader {
    /// How many more bytes it wants before frames are taken out.
    pub fn room(&self) -> usize {
        (KEPT + FRAME_HEAD).saturating_sub(self.bytes.len() - self.next)
    }

    /// Takes more bytes of the file.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.next > 0 {
            self.bytes.drain(..self.next);
            self.offset += self.next as u64;
            self.next = 0;
        }
        self.bytes.extend(bytes);
    }

    /// Where the file comes from, once its first frame was read.
    pub fn start(&self) -> Option<&Start> {
        self.start.as_ref()
    }

    /// The entries of the next frame; `None` until more bytes are pushed. After damage there is nothing any more.
    pub fn frame(&mut self) -> Result<Option<Vec<Entry>>, Damage> {
        if let Some(damage) = &self.damage {
            return Err(damage.clone());
        }
        let read = self.read();
        if let Err(damage) = &read {
            self.damage = Some(damage.clone());
        }
        read
    }

    /// The file has no more bytes.
    pub fn finish(&self) -> Result<(), Damage> {
        match &self.damage {
            Some(damage) => Err(damage.clone()),
            None if !self.began && self.bytes.is_empty() => Err(Damage::Foreign),
            None if !self.ended || self.next < self.bytes.len() => Err(Damage::Cut { at: self.at() }),
            None => Ok(()),
        }
    }

    fn at(&self) -> u64 {
        self.offset + self.next as u64
    }

    fn damaged(&self, what: &'static str) -> Damage {
        Damage::Frame { at: self.at(), what }
    }

    fn read(&mut self) -> Result<Option<Vec<Entry>>, Damage> {
        if !self.began {
            let known = self.bytes.len().min(MAGIC.len());
            if self.bytes[..known] != MAGIC[..known] {
                return Err(Damage::Foreign);
            }
            if self.bytes.len() < HEAD {
                return Ok(None);
            }
            let version = u16::from_le_bytes([self.bytes[MAGIC.len()], self.bytes[MAGIC.len() + 1]]);
            if version > VERSION {
                return Err(Damage::Newer(version));
            }
            self.began = true;
            self.next = HEAD;
        }
        loop {
            let rest = &self.bytes[self.next..];
            if rest.is_empty() {
                return Ok(None);
            }
            if self.ended {
                return Err(self.damaged("there are bytes behind its end"));
            }
            if rest.len() < FRAME_HEAD {
                return Ok(None);
            }
            let (length, kind) = (frame::number(rest, 0) as usize, rest[4]);
            if length > LARGEST {
                return Err(self.damaged("a frame says that it is larger than any frame is"));
            }
            let Some(payload) = rest.get(FRAME_HEAD..FRAME_HEAD + length) else { return Ok(None) };
            if frame::checksum(kind, payload) != frame::number(rest, 5) {
                return Err(self.damaged("the checksum of a frame is wrong"));
            }
            let taken = FRAME_HEAD + length;
            match kind {
                kind::START if self.start.is_none() => {
                    let start: Start =
                        postcard::from_bytes(payload).map_err(|_| self.damaged("its start is malformed"))?;
                    self.start = Some(start);
                    self.next += taken;
                }
                _ if self.start.is_none() => {
                    return Err(self.damaged("the frame that says where it comes from is missing"));
                }
                kind::ENTRIES => {
                    let entries = self.entries(payload)?;
                    self.next += taken;
                    return Ok(Some(entries));
                }
                kind::END => {
                    self.ended = true;
                    self.next += taken;
                }
                kind::OPTIONAL.. => self.next += taken,
                _ => return Err(self.damaged("a frame of an unknown kind")),
            }
        }
    }

    fn entries(&self, payload: &[u8]) -> Result<Vec<Entry>, Damage> {
        let size = frame::number(payload, 0) as usize;
        let packed = payload.get(4..).unwrap_or_default();
        if size > LARGEST {
            return Err(self.damaged("a frame says that it unpacks to more than any frame does"));
        }
        let unpacked = zstd::bulk::decompress(packed, size).map_err(|_| self.damaged("a frame cannot be unpacked"))?;
        let mut rest = unpacked.as_slice();
        let mut entries = Vec::new();
        while !rest.is_empty() {
            let (entry, behind) = postcard::take_from_bytes(rest).map_err(|_| self.damaged("an entry is malformed"))?;
            entries.push(entry);
            rest = behind;
        }
        Ok(entries)
    }
}
