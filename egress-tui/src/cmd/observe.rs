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
use crate::source::{bpf, clock, files, kube};
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
    Live {
        clock: clock::Running,
        capture: Option<bpf::Running>,
        older: Option<sockets::Running>,
        cluster: Option<Box<kube::Running>>,
    },
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
    let mut ledger = Ledger::new(Options { node: node.clone(), each: wanted.each, ..Options::default() });
    let (publish, mut worlds) = watch::channel(Arc::new(ledger.world()));
    let engine = tokio::spawn(engine::run(ledger, receive, publish, tape));
    let clock = clock::start(send.clone());
    let (mut exit, mut cluster) = load(common, &send, kube::Pods::OfNode(node.clone())).await?;
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
    let mut with_mesh = false;
    // A screen shows at once what there is; a document begins when the objects are there.
    if let Some(cluster) = cluster.as_mut().filter(|_| !wanted.screen) {
        match first_answer(cluster).await {
            Ok(()) => with_mesh = true,
            Err(why) => {
                super::complain(&why);
                exit = exit.or(Exit::Cluster);
            }
        }
    }
    // The engine has taken over all of the above once it published a world that holds it.
    let known = |w: &Arc<World>| !w.coverage.capture.hooks.is_empty() && (!with_mesh || w.coverage.mesh_generation > 0);
    if !wanted.screen {
        worlds.wait_for(known).await.context("the engine ended")?;
    }
    if let Some(ready) = &ready {
        if let Some(older) = &mut older {
            older.first().await;
        }
        if wanted.screen {
            ready.write_later(worlds.clone(), cluster.is_some());
        } else {
            ready.write(&worlds.borrow_and_update().clone())?;
        }
    }
    Ok(Observation {
        worlds,
        exit,
        engine,
        source: Source::Live { clock, capture, older, cluster: cluster.map(Box::new) },
        ready,
    })
}

/// How long a headless verb waits for a cluster that does not answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// The objects are on their way, or why they are not.
pub(super) async fn first_answer(cluster: &mut kube::Running) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, cluster.loaded()).await {
        Ok(answer) => answer,
        Err(_) => Err(cluster.why_not_loaded()),
    }
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
    // Objects of today's cluster judge a recording only where somebody asks for it.
    let named = cluster(common).is_named();
    let (mut exit, mut cluster) =
        if named || !common.mesh.is_empty() { load(common, &send, kube::Pods::All).await? } else { (Exit::Done, None) };
    if let Some(Err(why)) = match &mut cluster {
        Some(cluster) => Some(first_answer(cluster).await),
        None => None,
    } {
        super::complain(&why);
        exit = exit.or(Exit::Cluster);
    }
    let asked = common.istio_version.is_some() || !common.istiod_env.is_empty();
    let options = replay::Options {
        speed: tapes.speed.unwrap_or(if wanted.screen { Speed::Times(1.0) } else { Speed::Max }),
        seek: tapes.seek.unwrap_or_default(),
        until: wanted.duration,
        stay: wanted.screen,
        without_mesh: named || !common.mesh.is_empty(),
        mesh: if asked { Some(super::mesh_options(common)?) } else { None },
    };
    let source = tokio::spawn(async move {
        let playing = replay.run(options, send);
        // The cluster is watched as long as the recording plays.
        playing.await;
        if let Some(cluster) = cluster {
            cluster.stop().await;
        }
    });
    if let Some(ready) = &ready {
        ready.write(&worlds.borrow().clone())?;
    }
    Ok(Observation { worlds, exit, engine, source: Source::Replay(source), ready })
}

/// The cluster that the command line means.
pub(super) fn cluster(common: &Common) -> kube::Cluster {
    kube::Cluster { kubeconfig: common.kubeconfig.clone(), context: common.context.clone() }
}

/// Objects from files, else from a cluster, if there is one.
async fn load(
    common: &Common,
    send: &mpsc::Sender<Vec<Input>>,
    pods: kube::Pods,
) -> anyhow::Result<(Exit, Option<kube::Running>)> {
    let options = super::mesh_options(common)?;
    let paths = common.mesh.clone();
    let cluster = cluster(common);
    if paths.is_empty() {
        return Ok((Exit::Done, cluster.is_known().then(|| watch_cluster(cluster, pods, options, send.clone()))));
    }
    match tokio::task::spawn_blocking(move || files::load(&paths, &options)).await? {
        Ok((mesh, source)) => {
            send.send(vec![Input::Mesh { at: clock::now().0, source, mesh }]).await?;
            Ok((Exit::Done, None))
        }
        Err(error) => {
            super::complain(&error.to_string());
            Ok((Exit::Cluster, None))
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

/// Nodes whose DaemonSet begins everywhere at the same moment spread over this time.
const SPREAD: Duration = Duration::from_secs(3);

/// Watches a cluster.
pub(super) fn watch_cluster(
    cluster: kube::Cluster,
    pods: kube::Pods,
    mesh: egress_core::mesh::MeshOptions,
    send: mpsc::Sender<Vec<Input>>,
) -> kube::Running {
    let spread = if cluster.is_in_pod() && matches!(pods, kube::Pods::OfNode(_)) { SPREAD } else { Duration::ZERO };
    let pace = kube::Pace { spread, ..kube::Pace::default() };
    kube::start(kube::Options { cluster, pods, mesh, pace }, send)
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
            Source::Live { clock, capture, older, cluster } => {
                if let Some(capture) = capture {
                    capture.stop().await;
                }
                if let Some(older) = older {
                    older.stop().await;
                }
                if let Some(cluster) = cluster {
                    cluster.stop().await;
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

    /// When the hooks are attached, and the objects of a cluster are there or it is clear that they will not be.
    fn write_later(&self, mut worlds: watch::Receiver<Arc<World>>, from_cluster: bool) {
        let path = self.0.clone();
        tokio::spawn(async move {
            let there = |w: &Arc<World>| {
                let told = w.coverage.cluster.as_ref().is_some_and(|c| !c.gaps.is_empty());
                let objects = !from_cluster || w.coverage.mesh_generation > 0 || told;
                objects && !w.coverage.capture.hooks.is_empty()
            };
            let world = worlds.wait_for(there).await.ok().map(|w| w.clone());
            if let Some(Err(error)) = world.map(|world| write_ready(&path, &world)) {
                super::complain(&format!("{error:#}"));
            }
        });
    }

    fn write(&self, world: &World) -> anyhow::Result<()> {
        write_ready(&self.0, world)
    }
}

fn write_ready(path: &Path, world: &World) -> anyhow::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let fresh = path.with_file_name(name);
    let write = || {
        let mut file = fs::File::create(&fresh)?;
        file.write_all(out::ready(world).to_string().as_bytes())?;
        fs::rename(&fresh, path)
    };
    write().with_context(|| format!("cannot write the ready file {}", path.display()))
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        // It may be gone already; there is nothing left to tell.
        let _ = fs::remove_file(&self.0);
    }
}
