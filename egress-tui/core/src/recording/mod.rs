//! Recordings: everything that the ledger was told, in order, as bytes.
//!
//! # Format, version 2
//!
//! ```text
//! file   = magic version frame*            magic = 89 45 47 52 0d 0a 1a 0a      version = u16
//! frame  = length kind crc payload         length = u32, bytes of payload        kind = u8
//!                                          crc = u32, CRC-32 (IEEE) of kind and payload
//! kind 1 = Start                           first frame of every file, and only there
//! kind 2 = size entries                    size = u32, bytes of the entries; entries = zstd of Entry*
//! kind 3 = End                             the writer closed the file; without it the file was cut
//! kind ≥ 128                               skipped by readers that do not know it
//! ```
//!
//! Numbers are little-endian. [`Start`] and [`Entry`] are in the [postcard wire format]; their fields and variants, in order,
//! are the schema. Every frame stands for itself: what a crash leaves is readable up to its last whole frame. Mesh objects
//! are texts, named by a hash of file, line and content and written once; [`Entry::Mesh`] lists the texts in effect, and
//! [`Entry::MeshEdit`] those that come and go, so a change costs what changed. (Version 1 had neither the latter nor [`Entry::Cluster`].)
//!
//! [`Recorder`] turns inputs into frames, [`Reader`] frames into entries, [`Player`] entries into inputs again. No I/O: bytes go
//! in and out. [postcard wire format]: <https://postcard.jamesmunns.com/wire-format>
//!
//! [postcard wire format]: https://postcard.jamesmunns.com/wire-format

mod entry;
mod frame;
mod play;
mod read;
mod write;

pub use self::entry::{Entry, Start};
pub use self::play::{MeshChange, Objects, Played, Player};
pub use self::read::{Damage, Reader};
pub use self::write::Recorder;

/// The version that is written, and the newest that can be read.
pub const VERSION: u16 = 2;
