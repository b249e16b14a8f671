//! Inputs to frames.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;
use xxhash_rust::xxh3::Xxh3;

use super::entry::{Entry, Start};
use super::frame::{self, kind};
use crate::id::Nanos;
use crate::input::Input;
use crate::manifest::Origin;
use crate::mesh::Mesh;
use crate::world::{Capture, ClusterState, Incomplete, MeshSource};

/// A frame is closed when its entries have this many bytes, so that little is lost in a crash,
const FULL: usize = 256 << 10;
/// or when its first entry is this old.
const OLD: u64 = Nanos::SECOND;
/// Parts of a text.
const PART: usize = 1 << 20;
/// zstd's level: its own default, which keeps up with every rate that the rings do.
const LEVEL: i32 = 3;
/// cgroups and processes that a new part repeats; older ones are left out.
const MOST_PLACES: usize = 65_536;

/// Turns inputs into the bytes of a file.
#[derive(Debug)]
pub struct Recorder {
    start: Start,
    out: Vec<u8>,
    entries: Vec<u8>,
    since: Option<Nanos>,
    now: Nanos,
    written: FxHashSet<u64>,
    // What a new part has to repeat.
    places: VecDeque<Vec<u8>>,
    lost: Vec<(arcstr::ArcStr, u64)>,
    capture: Option<Capture>,
    notes: Vec<Incomplete>,
    mesh: Option<(Nanos, MeshSource, std::sync::Arc<Mesh>)>,
    cluster: Option<ClusterState>,
    /// Keys of the texts in effect, in this part.
    texts: FxHashSet<u64>,
}

impl Recorder {
    /// Begins the first file.
    pub fn new(start: Start) -> Self {
        let mut recorder = Self {
            start,
            out: Vec::new(),
            entries: Vec::new(),
            since: None,
            now: Nanos::default(),
            written: FxHashSet::default(),
            places: VecDeque::new(),
            lost: Vec::new(),
            capture: None,
            notes: Vec::new(),
            mesh: None,
            cluster: None,
            texts: FxHashSet::default(),
        };
        recorder.begin();
        recorder
    }

    /// Notes an input, before the ledger is told.
    pub fn note(&mut self, input: &Input) {
        match input {
            Input::Socket(event) => self.push(&Entry::Socket(event.clone())),
            Input::Payload(payload) => self.push(&Entry::Payload(payload.clone())),
            Input::Dns { at, cookie, message } => {
                self.push(&Entry::Dns { at: *at, cookie: *cookie, message: message.clone() });
            }
            Input::Cgroup { id, path } => self.place(&Entry::Cgroup { id: *id, path: path.clone() }),
            Input::Process { tgid, comm, cgroup } => {
                self.place(&Entry::Process { tgid: *tgid, comm: comm.clone(), cgroup: cgroup.clone() });
            }
            Input::Lost { stage, total } => {
                match self.lost.iter_mut().find(|(s, _)| s == stage) {
                    Some((_, before)) => *before = *total,
                    None => self.lost.push((stage.clone(), *total)),
                }
                self.push(&Entry::Lost { stage: stage.clone(), total: *total });
            }
            Input::Capture(capture) => {
                self.capture = Some(capture.clone());
                self.push(&Entry::Capture(capture.clone()));
            }
            Input::Mesh { at, source, mesh } => {
                self.mesh = Some((*at, source.clone(), mesh.clone()));
                self.mesh(*at, source, mesh);
            }
            Input::Incomplete(note) => {
                self.notes.push(note.clone());
                self.push(&Entry::Incomplete(note.clone()));
            }
            Input::Cluster(state) => {
                self.cluster = Some(state.clone());
                self.push(&Entry::Cluster(state.clone()));
            }
            // A recording is of one node: others are joined when it is played.
            Input::Node { .. } => {}
            Input::Tick { now, wall } => {
                self.now = *now;
                self.push(&Entry::Tick { now: *now, wall: *wall });
                if now.since(*self.since.get_or_insert(*now)) >= OLD {
                    self.close_frame();
                }
            }
        }
    }

    /// The bytes that are ready to be written.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Ends the file; returns its last bytes.
    pub fn end(&mut self) -> Vec<u8> {
        self.close_frame();
        frame::push(&mut self.out, kind::END, &[]);
        self.take()
    }

    /// Ends the file and begins another that can be read without it: returns the last bytes of the old one.
    pub fn rotate(&mut self) -> Vec<u8> {
        let last = self.end();
        self.start.part += 1;
        self.written.clear();
        self.texts.clear();
        self.begin();
        let places = std::mem::take(&mut self.places);
        for place in &places {
            self.append(place);
        }
        self.places = places;
        if let Some(capture) = self.capture.clone() {
            self.push(&Entry::Capture(capture));
        }
        for note in self.notes.clone() {
            self.push(&Entry::Incomplete(note));
        }
        if let Some(state) = self.cluster.clone() {
            self.push(&Entry::Cluster(state));
        }
        for (stage, total) in self.lost.clone() {
            self.push(&Entry::Lost { stage, total });
        }
        if let Some((at, source, mesh)) = self.mesh.clone() {
            self.mesh(at, &source, &mesh);
        }
        last
    }

    fn begin(&mut self) {
        self.out.extend(frame::head());
        // A start cannot fail to be encoded: it goes to memory.
        let start = postcard::to_allocvec(&self.start).unwrap_or_default();
        frame::push(&mut self.out, kind::START, &start);
    }

    fn place(&mut self, entry: &Entry) {
        let bytes = postcard::to_allocvec(entry).unwrap_or_default();
        self.append(&bytes);
        if self.places.len() == MOST_PLACES {
            self.places.pop_front();
        }
        self.places.push_back(bytes);
    }

    fn mesh(&mut self, at: Nanos, source: &MeshSource, mesh: &Mesh) {
        let mut texts: Vec<u64> = Vec::new();
        for origin in mesh.origins() {
            let key = self.text(origin, &origin.text);
            // Objects of one list share their text.
            if texts.last() != Some(&key) {
                texts.push(key);
            }
        }
        let now: FxHashSet<u64> = texts.iter().copied().collect();
        let before = std::mem::replace(&mut self.texts, now);
        let put: Vec<u64> = texts.iter().copied().filter(|key| !before.contains(key)).collect();
        let mut gone: Vec<u64> = before.difference(&self.texts).copied().collect();
        let source = source.clone();
        if before.is_empty() || put.len() + gone.len() >= texts.len() {
            self.push(&Entry::Mesh { at, source, texts });
        } else {
            gone.sort_unstable();
            self.push(&Entry::MeshEdit { at, source, gone, put });
        }
    }

    /// Writes a text unless it was written before.
    fn text(&mut self, origin: &Origin, text: &str) -> u64 {
        let key = key(&origin.file, origin.line, text);
        if self.written.insert(key) {
            let mut rest = text;
            loop {
                let mut cut = rest.len().min(PART);
                while !rest.is_char_boundary(cut) {
                    cut -= 1;
                }
                let (part, behind) = rest.split_at(cut);
                let (file, line) = (origin.file.clone(), origin.line);
                self.push(&Entry::Text { key, file, line, part: part.to_owned() });
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
        }
        key
    }

    fn push(&mut self, entry: &Entry) {
        let bytes = postcard::to_allocvec(entry).unwrap_or_default();
        self.append(&bytes);
    }

    fn append(&mut self, bytes: &[u8]) {
        self.since.get_or_insert(self.now);
        self.entries.extend(bytes);
        if self.entries.len() >= FULL {
            self.close_frame();
        }
    }

    fn close_frame(&mut self) {
        self.since = None;
        if self.entries.is_empty() {
            return;
        }
        let mut payload = (self.entries.len() as u32).to_le_bytes().to_vec();
        // Compression in memory fails only without memory.
        payload.extend(zstd::bulk::compress(&self.entries, LEVEL).unwrap_or_default());
        frame::push(&mut self.out, kind::ENTRIES, &payload);
        self.entries.clear();
    }
}

/// What names a text.
pub(super) fn key(file: &str, line: u32, text: &str) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&(file.len() as u64).to_le_bytes());
    hasher.update(file.as_bytes());
    hasher.update(&line.to_le_bytes());
    hasher.update(text.as_bytes());
    hasher.digest()
}
