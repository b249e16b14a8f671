//! Entries to inputs again, on the clock and with the identities of one observation that may have several nodes.

use arcstr::ArcStr;
use rustc_hash::FxHashMap;

use super::entry::{Entry, Start};
use crate::id::{CgroupId, NODE_SHIFT_OF_PID, Nanos, NetnsCookie, SocketCookie, WallTime};
use crate::input::{Input, SocketEvent};
use crate::manifest::{self, RawObject};
use crate::mesh::Change;
use crate::world::MeshSource;

/// What an entry became.
#[derive(Debug)]
pub enum Played {
    /// An input.
    Input(Input),
    /// Other objects are in effect; whoever plays compiles them.
    Mesh(MeshChange),
    /// A part of something that comes later.
    Nothing,
}

/// Objects that take effect.
#[derive(Debug)]
pub struct MeshChange {
    /// When.
    pub at: Nanos,
    /// Where they come from.
    pub source: MeshSource,
    /// Which.
    pub objects: Objects,
}

/// Objects that take effect.
#[derive(Debug)]
pub enum Objects {
    /// These are all of them.
    All(Vec<RawObject>),
    /// These changed.
    Edits(Vec<Change>),
}

/// Plays one file.
#[derive(Debug)]
pub struct Player {
    node: usize,
    name: ArcStr,
    texts: FxHashMap<u64, Text>,
    /// What makes this node's monotonic time the first node's.
    shift: Option<i64>,
    origin: Option<(Nanos, WallTime)>,
    /// The latest tick of this file.
    tick: Option<(Nanos, WallTime)>,
}

#[derive(Debug, Default)]
struct Text {
    file: ArcStr,
    line: u32,
    whole: String,
}

impl Player {
    /// `node` counts the nodes from 0, and is below [`crate::id::MOST_NODES`]; `origin` is the first tick of node 0, or `None` for that node itself.
    pub fn new(start: &Start, node: usize, origin: Option<(Nanos, WallTime)>) -> Self {
        Self { node, name: start.node.clone(), texts: FxHashMap::default(), shift: None, origin, tick: None }
    }

    /// The time of the wall up to which it played.
    pub fn wall(&self) -> Option<WallTime> {
        self.tick.map(|(_, wall)| wall)
    }

    /// Makes an input of an entry.
    pub fn play(&mut self, entry: Entry) -> Played {
        Played::Input(match entry {
            Entry::Socket(event) => Input::Socket(self.socket(event)),
            Entry::Payload(mut payload) => {
                payload.cookie = self.cookie(payload.cookie);
                payload.at = self.time(payload.at);
                Input::Payload(payload)
            }
            Entry::Dns { at, cookie, message } => {
                Input::Dns { at: self.time(at), cookie: self.cookie(cookie), message }
            }
            Entry::Cgroup { id, path } => Input::Cgroup { id: self.cgroup(id), path },
            Entry::Process { tgid, comm, cgroup } => Input::Process { tgid: self.tgid(tgid), comm, cgroup },
            Entry::Lost { stage, total } => {
                let stage = if self.node == 0 { stage } else { format!("{}:{stage}", self.name).into() };
                Input::Lost { stage, total }
            }
            Entry::Capture(capture) => Input::Capture(capture),
            Entry::Incomplete(note) => Input::Incomplete(note),
            Entry::Tick { now, wall } => {
                self.tick = Some((now, wall));
                self.align(now, wall);
                Input::Tick { now: self.time(now), wall }
            }
            Entry::Text { key, file, line, part } => {
                let text = self.texts.entry(key).or_insert_with(|| Text { file, line, whole: String::new() });
                text.whole.push_str(&part);
                return Played::Nothing;
            }
            Entry::Mesh { at, source, texts } => {
                let objects = Objects::All(self.objects(&texts));
                return Played::Mesh(MeshChange { at: self.time(at), source, objects });
            }
            Entry::MeshEdit { at, source, gone, put } => {
                // What stands in a text that comes as well is put in its own place.
                let mut edits: Vec<Change> = self.objects(&gone).iter().filter_map(Change::remove).collect();
                edits.extend(self.objects(&put).into_iter().map(Change::Put));
                return Played::Mesh(MeshChange { at: self.time(at), source, objects: Objects::Edits(edits) });
            }
            Entry::Cluster(state) => Input::Cluster(state),
        })
    }

    fn objects(&self, texts: &[u64]) -> Vec<RawObject> {
        let read = |text: &Text| manifest::parse_document(&text.file, text.line, &text.whole).objects;
        texts.iter().filter_map(|key| self.texts.get(key)).flat_map(read).collect()
    }

    /// The first tick tells how this node's clock lies to the first node's.
    fn align(&mut self, now: Nanos, wall: WallTime) {
        if self.shift.is_none() {
            let nanos = |n: Nanos| i64::try_from(n.0).unwrap_or(i64::MAX);
            self.shift = Some(self.origin.map_or(0, |(zero, zero_wall)| {
                nanos(zero).saturating_add(wall.0.saturating_sub(zero_wall.0)).saturating_sub(nanos(now))
            }));
        }
    }

    fn time(&self, at: Nanos) -> Nanos {
        if at == Nanos::BEFORE {
            return at;
        }
        Nanos(at.0.saturating_add_signed(self.shift.unwrap_or(0)))
    }

    fn high(&self) -> u64 {
        (self.node as u64) << 56
    }

    fn cookie(&self, cookie: SocketCookie) -> SocketCookie {
        SocketCookie(cookie.0 | self.high())
    }

    fn cgroup(&self, id: CgroupId) -> CgroupId {
        CgroupId(id.0 | self.high())
    }
}

impl Player {
    fn tgid(&self, tgid: u32) -> u32 {
        tgid | (self.node as u32) << NODE_SHIFT_OF_PID
    }

    fn socket(&self, event: SocketEvent) -> SocketEvent {
        let mut event = event;
        match &mut event {
            SocketEvent::Open { cookie, at, started, opener, .. }
            | SocketEvent::Fail { cookie, at, started, opener, .. } => {
                *cookie = self.cookie(*cookie);
                *at = self.time(*at);
                *started = self.time(*started);
                opener.tgid = self.tgid(opener.tgid);
                opener.cgroup = self.cgroup(opener.cgroup);
                opener.netns = NetnsCookie(opener.netns.0 | self.high());
            }
            SocketEvent::Accept { cookie, at, .. }
            | SocketEvent::Sample { cookie, at, .. }
            | SocketEvent::Close { cookie, at, .. } => {
                *cookie = self.cookie(*cookie);
                *at = self.time(*at);
            }
        }
        event
    }
}
