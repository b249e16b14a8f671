//! What every live verb does: sources on, engine on, ready file; and off again, with everything drained.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arcstr::ArcStr;
use egress_core::input::Input;
use egress_core::ledger::{Ledger, Options};
use egress_core::recording::Start;
use egress_core::world::{Capture, Hook, World};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::cli::{Common, Speed, Tapes};
use crate::exit::Exit;
use crate::out::tape::{Rotation, Tape, Written};
use crate::source::cgroup::CgroupTree;
use crate::source::replay::{self, Replay};
use crate::source::sockets::{self, Access};
use crate::source::{bpf, clock, files};
use crate::{engine, out};

/// Sources and engine, running.
pub struct Observation {
    /// New worlds arrive here.
    pub worlds: watch::Receiver<Arc<World>>,
    /// What the sources could not do.
    pub exit: Exit,
    engine: JoinHandle<(Arc<World>, Option<Tape>)>,
    source: Source,
    ready: Option<ReadyFile>,
}

/// Where observations come from.
enum Source {
    /// The kernel of this machine; `None` where it cannot be observed.
    Live { clock: clock::Running, capture: Option<bpf::Running>, older: Option<sockets::Running> },
    /// Recordings.
    Replay(JoinHandle<()>),
}

/// What a verb wants.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// Every connection as a flow of its own.
    pub each: bool,
    /// Somebody watches: recordings play at their own speed, and time goes on after their end.
    pub screen: bool,
    /// How long; the end of a recording comes earlier.
    pub duration: Option<Duration>,
}

/// Loads the mesh, attaches the hooks or opens the recordings. A source that fails is told on standard error and in the
/// worlds.
pub async fn start(common: &Common, tapes: &Tapes, wanted: Wanted) -> anyhow::Result<Observation> {
    if tapes.replay.is_empty() {
        live(common, tapes, wanted).await
    } else {
        let replay = Replay::open(&tapes.replay)?;
        play(replay, common, tapes, wanted).await
    }
}

async fn live(common: &Common, tapes: &Tapes, wanted: Wanted) -> anyhow::Result<Observation> {
    let ready = common.ready_file.as_deref().map(ReadyFile::new).transpose()?;
    let node = node_name(common);
    let tape = tapes.record.as_deref().map(|path| tape(path, tapes, common, &node)).transpose()?;
    let (send, receive) = mpsc::channel(engine::CHANNEL);
    let mut ledger = Ledger::new(Options { node, each: wanted.each, ..Options::default() });
    let (publish, mut worlds) = watch::channel(Arc::new(ledger.world()));
    let engine = tokio::spawn(engine::run(ledger, receive, publish, tape));
    let clock = clock::start(send.clone());
    let mut exit = load(common, &send).await?;
    let options = bpf::Options {
        cgroup_root: common.cgroup_root.clone(),
        ring_bytes: common.ring_bytes,
        proc: common.proc.clone(),
    };
    let access = Access::allowed();
    let before = match (access, CgroupTree::find(options.cgroup_root.as_deref())) {
        (Access::Proc, Ok(tree)) => {
            let proc = options.proc.clone();
            tokio::task::spawn_blocking(move || sockets::from_proc(proc, tree)).await?
        }
        // Without a tree there is no capture either, and that says so.
        _ => Vec::new(),
    };
    let mut older = None;
    let capture = match bpf::start(&options, send.clone()) {
        Ok(running) => {
            let mut capture = running.capture.clone();
            capture.hooks.push(Hook { name: access.as_str().into(), why: None });
            send.send(vec![Input::Capture(capture)]).await?;
            send.send(before).await?;
            if let (Access::Diag, Ok(tree)) = (access, CgroupTree::find(options.cgroup_root.as_deref())) {
                older = Some(sockets::start(options.proc, tree, send.clone())?);
            }
            Some(running)
        }
        Err(error) => {
            super::complain(&format!("{error}\n  still works: {}\n  to do: {}", error.still_works(), error.fix()));
            exit = exit.or(Exit::Capture);
            send.send(vec![Input::Capture(blind(&error))]).await?;
            None
        }
    };
    drop(send);
    // The engine has taken over all of the above once it published a world that holds it.
    let known = |w: &Arc<World>| !w.coverage.capture.hooks.is_empty();
    worlds.wait_for(known).await.context("the engine ended")?;
    if let Some(ready) = &ready {
        if let Some(older) = &mut older {
            older.first().await;
        }
        ready.write(&worlds.borrow_and_update().clone())?;
    }
    Ok(Observation { worlds, exit, engine, source: Source::Live { clock, capture, older }, ready })
}

/// Plays recordings.
pub async fn play(replay: Replay, common: &Common, tapes: &Tapes, wanted: Wanted) -> anyhow::Result<Observation> {
    let ready = common.ready_file.as_deref().map(ReadyFile::new).transpose()?;
    let node = common.node.as_deref().map_or_else(|| replay.node(), ArcStr::from);
    let (send, receive) = mpsc::channel(engine::CHANNEL);
    let options = Options { node, cluster: replay.cluster(), each: wanted.each, replayed: true };
    let mut ledger = Ledger::new(options);
    let (publish, worlds) = watch::channel(Arc::new(ledger.world()));
    let engine = tokio::spawn(engine::run(ledger, receive, publish, None::<Tape>));
    let exit = load(common, &send).await?;
    let asked = common.istio_version.is_some() || !common.istiod_env.is_empty();
    let options = replay::Options {
        speed: tapes.speed.unwrap_or(if wanted.screen { Speed::Times(1.0) } else { Speed::Max }),
        seek: tapes.seek.unwrap_or_default(),
        until: wanted.duration,
        stay: wanted.screen,
        without_mesh: !common.mesh.is_empty(),
        mesh: if asked { Some(super::mesh_options(common)?) } else { None },
    };
    let source = tokio::spawn(replay.run(options, send));
    if let Some(ready) = &ready {
        ready.write(&worlds.borrow().clone())?;
    }
    Ok(Observation { worlds, exit, engine, source: Source::Replay(source), ready })
}

/// Objects from files.
async fn load(common: &Common, send: &mpsc::Sender<Vec<Input>>) -> anyhow::Result<Exit> {
    let options = super::mesh_options(common)?;
    let paths = common.mesh.clone();
    if paths.is_empty() {
        return Ok(Exit::Done);
    }
    match tokio::task::spawn_blocking(move || files::load(&paths, &options)).await? {
        Ok((mesh, source)) => {
            send.send(vec![Input::Mesh { at: clock::now().0, source, mesh }]).await?;
            Ok(Exit::Done)
        }
        Err(error) => {
            super::complain(&error.to_string());
            Ok(Exit::Cluster)
        }
    }
}

impl engine::Tee for Tape {
    fn note(&mut self, input: &Input) {
        Self::note(self, input);
    }

    fn settle(&mut self) -> Option<Input> {
        self.write()
    }
}

fn tape(path: &Path, tapes: &Tapes, common: &Common, node: &ArcStr) -> anyhow::Result<Tape> {
    let start = Start {
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        node: node.clone(),
        cluster: None,
        istio_version: common.istio_version.clone(),
        istiod_env: common.istiod_env.clone(),
        part: 0,
    };
    let rotation = Rotation { size: tapes.rotate_size, every: tapes.rotate_every, keep: tapes.keep };
    Tape::create(path, start, rotation)
}

/// The last world, how it ended, and what was recorded.
pub struct Ended {
    /// The last world, in which nothing is pending.
    pub world: Arc<World>,
    /// What the sources could not do.
    pub sources: Exit,
    /// What the recording holds.
    pub written: Option<Written>,
}

impl Observation {
    /// The end of the recordings, or of the duration, or a signal, or a world that is enough. Returns at once where nothing can
    /// be observed.
    pub async fn wait_until(
        &mut self,
        duration: Option<Duration>,
        enough: impl Fn(&World) -> bool,
    ) -> anyhow::Result<Exit> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let over = async {
            match &mut self.source {
                Source::Live { capture: None, .. } => {}
                Source::Live { .. } => match duration {
                    Some(duration) => tokio::time::sleep(duration).await,
                    None => std::future::pending().await,
                },
                // It ends by itself; a panic in it is told when the engine stops.
                Source::Replay(source) => drop(source.await),
            }
        };
        let mut worlds = self.worlds.clone();
        Ok(tokio::select! {
            () = over => Exit::Done,
            // The engine ends only after the sources.
            Ok(_) = worlds.wait_for(|world| enough(world)) => Exit::Done,
            _ = interrupt.recv() => Exit::Signal(2),
            _ = terminate.recv() => Exit::Signal(15),
            _ = hangup.recv() => Exit::Signal(1),
        })
    }

    /// Detaches, delivers what is on its way, and returns the last world.
    pub async fn stop(self) -> anyhow::Result<Ended> {
        match self.source {
            Source::Live { clock, capture, older } => {
                if let Some(capture) = capture {
                    capture.stop().await;
                }
                if let Some(older) = older {
                    older.stop().await;
                }
                clock.stop().await;
            }
            Source::Replay(source) => source.abort(),
        }
        let (world, tape) = self.engine.await?;
        drop(self.ready);
        let written = tape.map(Tape::end).transpose()?;
        Ok(Ended { world, sources: self.exit, written })
    }
}

fn blind(error: &bpf::CaptureError) -> Capture {
    let why: ArcStr = error.to_string().into();
    Capture { tier: "none".into(), hooks: vec![Hook { name: "all".into(), why: Some(why) }], cgroup_root: "".into() }
}

/// The name of the Node that this machine is.
pub fn node_name(common: &Common) -> ArcStr {
    match &common.node {
        Some(name) => name.into(),
        None => rustix::system::uname().nodename().to_string_lossy().into_owned().into(),
    }
}

/// Unlinked at the start, renamed into place when ready, removed at the end.
struct ReadyFile(PathBuf);

impl ReadyFile {
    fn new(path: &Path) -> anyhow::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove the old ready file {}", path.display()))
            }
            _ => Ok(Self(path.to_owned())),
        }
    }

    fn write(&self, world: &World) -> anyhow::Result<()> {
        let mut name = self.0.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let fresh = self.0.with_file_name(name);
        let write = || {
            let mut file = fs::File::create(&fresh)?;
            file.write_all(out::ready(world).to_string().as_bytes())?;
            fs::rename(&fresh, &self.0)
        };
        write().with_context(|| format!("cannot write the ready file {}", self.0.display()))
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        // It may be gone already; there is nothing left to tell.
        let _ = fs::remove_file(&self.0);
    }
}
