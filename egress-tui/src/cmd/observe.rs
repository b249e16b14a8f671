//! What every live verb does: sources on, engine on, ready file; and off again, with everything drained.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use arcstr::ArcStr;
use egress_core::input::Input;
use egress_core::ledger::{Ledger, Options};
use egress_core::world::{Capture, Hook, World};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::cli::Common;
use crate::exit::Exit;
use crate::source::{bpf, clock, files};
use crate::{engine, out};

/// Sources and engine, running.
pub struct Observation {
    /// New worlds arrive here.
    pub worlds: watch::Receiver<Arc<World>>,
    /// What the sources could not do.
    pub exit: Exit,
    engine: JoinHandle<Arc<World>>,
    clock: clock::Running,
    capture: Option<bpf::Running>,
    ready: Option<ReadyFile>,
}

/// Loads the mesh, attaches the hooks. A source that fails is told on standard error and in the worlds.
pub async fn start(common: &Common, each: bool) -> anyhow::Result<Observation> {
    let ready = common.ready_file.as_deref().map(ReadyFile::new).transpose()?;
    let (send, receive) = mpsc::channel(engine::CHANNEL);
    let mut ledger = Ledger::new(Options { node: node_name(common), cluster: None, each });
    let (publish, mut worlds) = watch::channel(Arc::new(ledger.world()));
    let engine = tokio::spawn(engine::run(ledger, receive, publish));
    let clock = clock::start(send.clone());
    let mut exit = Exit::Done;

    let paths = common.mesh.clone();
    let options = super::mesh_options(common)?;
    if !paths.is_empty() {
        match tokio::task::spawn_blocking(move || files::load(&paths, &options)).await? {
            Ok((mesh, source)) => {
                let input = Input::Mesh { at: clock::now().0, source, mesh };
                send.send(vec![input]).await?;
            }
            Err(error) => {
                super::complain(&error.to_string());
                exit = exit.or(Exit::Cluster);
            }
        }
    }
    let wanted = bpf::Options {
        cgroup_root: common.cgroup_root.clone(),
        ring_bytes: common.ring_bytes,
        proc: common.proc.clone(),
    };
    let capture = match bpf::start(&wanted, send.clone()) {
        Ok(running) => {
            send.send(vec![Input::Capture(running.capture.clone())]).await?;
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
        ready.write(&worlds.borrow_and_update().clone())?;
    }
    Ok(Observation { worlds, exit, engine, clock, capture, ready })
}

impl Observation {
    /// Detaches, delivers what is on its way, and returns the last world.
    pub async fn stop(self) -> anyhow::Result<(Arc<World>, Exit)> {
        if let Some(capture) = self.capture {
            capture.stop().await;
        }
        self.clock.stop().await;
        let world = self.engine.await?;
        drop(self.ready);
        let exit = if world.incomplete.is_empty() { self.exit } else { self.exit.or(Exit::Incomplete) };
        Ok((world, exit))
    }

    /// The kernel can be observed at all.
    pub fn captures(&self) -> bool {
        self.capture.is_some()
    }
}

fn blind(error: &bpf::CaptureError) -> Capture {
    let why: ArcStr = error.to_string().into();
    Capture { tier: "none".into(), hooks: vec![Hook { name: "all".into(), why: Some(why) }], cgroup_root: "".into() }
}

fn node_name(common: &Common) -> ArcStr {
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
