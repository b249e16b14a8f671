//! Recordings as a source: files merged on the clock of the wall, at the speed that is wanted.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use egress_core::id::{MOST_NODES, Nanos, WallTime};
use egress_core::input::Input;
use egress_core::mesh::{Mesh, MeshOptions};
use egress_core::recording::{Damage, Entry, Objects, Played, Player, Reader, Start};
use egress_core::world::Incomplete;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::cli::Speed;

/// Bytes that are read at a time.
const PIECE: usize = 256 << 10;

/// A recording that cannot be used at all. Damage after a good beginning is told as incompleteness, and the rest is played.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The file cannot be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is nothing good at its beginning.
    #[error("cannot play {}: {source}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Damage,
    },
    /// Too many.
    #[error("these recordings are of more than {MOST_NODES} nodes")]
    Nodes,
}

/// Which part of a recording, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// How fast.
    pub speed: Speed,
    /// From where on that fast: nanoseconds of the recording's clock.
    pub seek: Duration,
    /// Until where: of the recording's clock.
    pub until: Option<Duration>,
    /// Time goes on after the end, so that ages and rates do; for screens.
    pub stay: bool,
    /// The objects of the recording are left out, since others are judged by.
    pub without_mesh: bool,
    /// What objects are compiled for; `None`: what the recording was made for.
    pub mesh: Option<MeshOptions>,
}

/// Recordings, opened.
pub struct Replay {
    tracks: Vec<Track>,
    nodes: Vec<arcstr::ArcStr>,
}

struct Track {
    path: PathBuf,
    bytes: Bytes,
    reader: Reader,
    waiting: VecDeque<Entry>,
    player: Player,
    /// The objects in effect.
    mesh: Option<Arc<Mesh>>,
    wall: WallTime,
    damage: Option<Damage>,
    over: bool,
}

/// Where a recording is read from.
enum Bytes {
    File(File),
    Inside(&'static [u8]),
}

impl Bytes {
    fn read(&mut self, most: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::File(file) => {
                let mut bytes = Vec::with_capacity(most);
                file.take(most as u64).read_to_end(&mut bytes)?;
                Ok(bytes)
            }
            Self::Inside(rest) => {
                let (now, later) = rest.split_at(most.min(rest.len()));
                *rest = later;
                Ok(now.to_vec())
            }
        }
    }
}

impl Replay {
    /// Opens files and reads their beginnings.
    pub fn open(paths: &[PathBuf]) -> Result<Self, ReplayError> {
        let open = |path: &PathBuf| {
            let file = File::open(path).map_err(|source| ReplayError::Unreadable { path: path.clone(), source })?;
            Ok((path.clone(), Bytes::File(file)))
        };
        Self::new(paths.iter().map(open).collect::<Result<_, _>>()?)
    }

    /// A recording that is part of the program.
    pub fn inside(name: &str, bytes: &'static [u8]) -> Result<Self, ReplayError> {
        Self::new(vec![(PathBuf::from(name), Bytes::Inside(bytes))])
    }

    fn new(sources: Vec<(PathBuf, Bytes)>) -> Result<Self, ReplayError> {
        let mut begun = Vec::new();
        for (path, bytes) in sources {
            begun.push(Begun::read(path, bytes)?);
        }
        // The earliest file gives the clock; parts of one recording play after each other.
        begun.sort_by(|a, b| (a.first.map(|(_, wall)| wall), &a.path).cmp(&(b.first.map(|(_, wall)| wall), &b.path)));
        let origin = begun.first().and_then(|b| b.first);
        let mut nodes: Vec<arcstr::ArcStr> = Vec::new();
        let mut tracks = Vec::new();
        for (nth, file) in begun.into_iter().enumerate() {
            let node = nodes.iter().position(|n| *n == file.start.node).unwrap_or_else(|| {
                nodes.push(file.start.node.clone());
                nodes.len() - 1
            });
            if node >= MOST_NODES {
                return Err(ReplayError::Nodes);
            }
            tracks.push(Track {
                player: Player::new(&file.start, node, origin.filter(|_| nth > 0)),
                mesh: None,
                path: file.path,
                bytes: file.bytes,
                reader: file.reader,
                waiting: file.waiting,

                wall: file.first.map_or(WallTime(i64::MIN), |(_, wall)| wall),
                damage: file.damage,
                over: false,
            });
        }
        Ok(Self { tracks, nodes })
    }

    /// The node whose clock counts.
    pub fn node(&self) -> arcstr::ArcStr {
        self.nodes.first().cloned().unwrap_or_default()
    }

    /// The cluster that the recordings name.
    pub fn cluster(&self) -> Option<arcstr::ArcStr> {
        self.tracks.first().and_then(|t| t.reader.start()).and_then(|s| s.cluster.clone())
    }

    /// Plays everything; ends early when nobody listens.
    pub async fn run(mut self, options: Options, out: mpsc::Sender<Vec<Input>>) {
        for (number, name) in self.nodes.iter().enumerate().skip(1) {
            if out.send(vec![Input::Node { number, name: name.clone() }]).await.is_err() {
                return;
            }
        }
        let mut pace = Pace { options: &options, first: None, since: None };
        let mut batch = Vec::new();
        let mut clock = None;
        while let Some(entry) = self.next() {
            let (track, entry) = entry;
            match self.tracks[track].player.play(entry) {
                Played::Mesh(change) if !options.without_mesh => {
                    let start = self.tracks[track].reader.start();
                    let wanted = || options.mesh.clone().unwrap_or_else(|| start.map(recorded).unwrap_or_default());
                    let mesh = Arc::new(match (change.objects, &self.tracks[track].mesh) {
                        (Objects::All(objects), _) => Mesh::compile(&objects, &wanted()),
                        (Objects::Edits(edits), Some(mesh)) => mesh.edited(edits),
                        (Objects::Edits(edits), None) => Mesh::compile(&[], &wanted()).edited(edits),
                    });
                    self.tracks[track].mesh = Some(mesh.clone());
                    batch.push(Input::Mesh { at: change.at, source: change.source, mesh });
                }
                Played::Input(Input::Cluster(_)) if options.without_mesh => {}
                Played::Mesh(_) | Played::Nothing => {}
                Played::Input(input) => {
                    let tick = match &input {
                        Input::Tick { now, wall } => Some((*now, *wall)),
                        _ => None,
                    };
                    batch.push(input);
                    let Some((now, wall)) = tick else { continue };
                    clock = Some((now, wall));
                    if pace.is_over(wall) {
                        break;
                    }
                    pace.wait(wall).await;
                    if out.send(std::mem::take(&mut batch)).await.is_err() {
                        return;
                    }
                }
            }
        }
        batch.extend(self.tracks.iter().filter_map(Track::note).map(Input::Incomplete));
        if out.send(batch).await.is_err() || !options.stay {
            return;
        }
        if let Some((now, wall)) = clock {
            go_on(now, wall, &out).await;
        }
    }

    /// The next entry on the clock.
    fn next(&mut self) -> Option<(usize, Entry)> {
        loop {
            let living = self.tracks.iter().enumerate().filter(|(_, t)| !t.over);
            let (nth, _) = living.min_by_key(|(nth, t)| (t.wall, *nth))?;
            let track = &mut self.tracks[nth];
            if let Some(entry) = track.waiting.pop_front() {
                if let Entry::Tick { wall, .. } = &entry {
                    track.wall = *wall;
                }
                return Some((nth, entry));
            }
            track.fill();
        }
    }
}

/// Time passes after the end.
async fn go_on(now: Nanos, wall: WallTime, out: &mpsc::Sender<Vec<Input>>) {
    let began = Instant::now();
    let mut every = tokio::time::interval(Duration::from_millis(100));
    loop {
        every.tick().await;
        let passed = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let tick = Input::Tick {
            now: Nanos(now.0.saturating_add(passed)),
            wall: WallTime(wall.0.saturating_add_unsigned(passed)),
        };
        if out.send(vec![tick]).await.is_err() {
            return;
        }
    }
}

/// What the recording was judged with.
fn recorded(start: &Start) -> MeshOptions {
    let env = start.istiod_env.iter().map(String::as_str);
    MeshOptions::parse(start.istio_version.as_deref(), env).unwrap_or_default()
}

/// The beginning of a file, up to its first tick.
struct Begun {
    path: PathBuf,
    bytes: Bytes,
    reader: Reader,
    start: Start,
    waiting: VecDeque<Entry>,
    first: Option<(Nanos, WallTime)>,
    damage: Option<Damage>,
}

impl Begun {
    fn read(path: PathBuf, mut bytes: Bytes) -> Result<Self, ReplayError> {
        let mut reader = Reader::default();
        let mut waiting = VecDeque::new();
        let mut first = None;
        let mut damage = None;
        while first.is_none() && damage.is_none() {
            match piece(&mut bytes, &mut reader, &path)? {
                Piece::Entries(entries) => {
                    first = entries.iter().find_map(|entry| match entry {
                        Entry::Tick { now, wall } => Some((*now, *wall)),
                        _ => None,
                    });
                    waiting.extend(entries);
                }
                Piece::End => break,
                Piece::Damage(found) => damage = Some(found),
            }
        }
        let Some(start) = reader.start().cloned() else {
            let source = damage.or_else(|| reader.finish().err()).unwrap_or(Damage::Foreign);
            return Err(ReplayError::Unusable { path, source });
        };
        Ok(Self { path, bytes, reader, start, waiting, first, damage })
    }
}

enum Piece {
    Entries(Vec<Entry>),
    End,
    Damage(Damage),
}

/// Reads until a frame is whole.
fn piece(bytes: &mut Bytes, reader: &mut Reader, path: &Path) -> Result<Piece, ReplayError> {
    loop {
        match reader.frame() {
            Ok(Some(entries)) => return Ok(Piece::Entries(entries)),
            Err(damage) => return Ok(Piece::Damage(damage)),
            Ok(None) => {
                let more = bytes.read(PIECE.min(reader.room().max(1)));
                let more = more.map_err(|source| ReplayError::Unreadable { path: path.to_owned(), source })?;
                if more.is_empty() {
                    return Ok(reader.finish().map_or_else(Piece::Damage, |()| Piece::End));
                }
                reader.push(&more);
            }
        }
    }
}

impl Track {
    fn fill(&mut self) {
        if self.damage.is_some() {
            self.over = true;
            return;
        }
        match piece(&mut self.bytes, &mut self.reader, &self.path) {
            Ok(Piece::Entries(entries)) => self.waiting.extend(entries),
            Ok(Piece::End) => self.over = true,
            Ok(Piece::Damage(damage)) => self.damage = Some(damage),
            // It was readable a moment ago: what is behind is missing, as in a file that was cut.
            Err(_) => self.damage = Some(self.reader.finish().err().unwrap_or(Damage::Foreign)),
        }
    }

    fn note(&self) -> Option<Incomplete> {
        let damage = self.damage.as_ref()?;
        Some(Incomplete {
            what: format!("recording {}: {damage}", egress_core::name::printable(&self.path.display().to_string())),
            affects: "what happened after that is not shown".to_owned(),
            fix: "everything before it is good; take a whole copy of the file if there is one".to_owned(),
        })
    }
}

/// When what is played is due.
struct Pace<'a> {
    options: &'a Options,
    first: Option<WallTime>,
    since: Option<(WallTime, Instant)>,
}

impl Pace<'_> {
    fn played(&mut self, wall: WallTime) -> Duration {
        let first = *self.first.get_or_insert(wall);
        Duration::from_nanos(u64::try_from(wall.0.saturating_sub(first.0)).unwrap_or(0))
    }

    fn is_over(&mut self, wall: WallTime) -> bool {
        let played = self.played(wall);
        self.options.until.is_some_and(|until| played >= until)
    }

    async fn wait(&mut self, wall: WallTime) {
        let Speed::Times(times) = self.options.speed else { return };
        if self.played(wall) < self.options.seek {
            return;
        }
        let (from, began) = *self.since.get_or_insert_with(|| (wall, Instant::now()));
        let span = Duration::from_nanos(u64::try_from(wall.0.saturating_sub(from.0)).unwrap_or(0));
        tokio::time::sleep_until(began + span.div_f64(times)).await;
    }
}
