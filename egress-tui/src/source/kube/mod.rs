//! Objects from a cluster: watched, trimmed, compiled, and what is missing of them told.
//!
//! ```text
//! connect ─▶ discover (which kinds, which versions) ─▶ access (what may be read) ─▶ plan (which watches)
//!     watch ─┐
//!     watch ─┼─ News ─▶ keep (what there is, what is missing) ─ edits ─▶ Mesh ─▶ Input::Mesh, Input::Cluster
//!     look  ─┘
//! ```
//!
//! Load on the API server, for each node: one watch, on a connection of its own, for each kind that is served and may be read (some 30),
//! of pods those of the node and those that route; besides them, every [`Pace::look`], one list of one Namespace, and every other
//! time one review of rules. Nothing is ever written but access reviews, which ask.

mod access;
mod compile;
mod connect;
mod discover;
mod drive;
mod keep;
mod kinds;
mod look;
mod missing;
mod plan;
mod server;
mod trim;
mod trouble;
mod watch;

use std::collections::BTreeMap;
use std::time::Duration;

use egress_core::input::Input;
use egress_core::mesh::MeshOptions;
use egress_core::world::{ClusterState, Gap, Incomplete};
use tokio::sync::{mpsc, oneshot, watch as channel};
use tokio::task::JoinHandle;

pub use connect::{Cluster, ConnectError};
pub use kinds::{KINDS, Kind, Part};
pub use plan::Pods;
pub use server::Pace;

use drive::Driver;

/// What is wanted of a cluster.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which one.
    pub cluster: Cluster,
    /// Which pods.
    pub pods: Pods,
    /// What the mesh is compiled for.
    pub mesh: MeshOptions,
    /// How long things take.
    pub pace: Pace,
}

/// How much was read so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bytes received.
    pub bytes: u64,
    /// Objects of each kind.
    pub objects: BTreeMap<&'static str, usize>,
    /// Watches.
    pub watches: usize,
    /// How often history was gone (410), so that objects were listed anew.
    pub gone: u64,
    /// How long the latest mesh took to be made.
    pub compiled: Duration,
}

/// Whether the first mesh is on its way to the engine.
#[derive(Debug, Clone)]
enum Loading {
    /// Nothing was heard yet.
    Waiting,
    /// It is tried again.
    Failing(String),
    /// It never will be: the configuration leads nowhere.
    Unusable(String),
    /// It is.
    Done,
}

/// A cluster that is watched.
pub struct Running {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
    loaded: channel::Receiver<Loading>,
    figures: channel::Receiver<Figures>,
}

impl Running {
    /// Waits until the objects are on their way to the engine; an error if it is clear that they never will be.
    pub async fn loaded(&mut self) -> Result<(), String> {
        let told = self.loaded.wait_for(|l| matches!(l, Loading::Done | Loading::Unusable(_))).await;
        match told.as_deref() {
            Ok(Loading::Unusable(why)) => Err(why.clone()),
            Ok(_) => Ok(()),
            Err(_) => Err("the cluster's source ended".to_owned()),
        }
    }

    /// What the cluster said instead of giving its objects.
    pub fn why_not_loaded(&self) -> String {
        match &*self.loaded.borrow() {
            Loading::Failing(why) | Loading::Unusable(why) => why.clone(),
            Loading::Waiting | Loading::Done => "the cluster did not answer in time".to_owned(),
        }
    }

    /// How much was read so far.
    pub fn figures(&self) -> Figures {
        self.figures.borrow().clone()
    }

    /// Ends all watches.
    pub async fn stop(self) {
        // It may have ended with the engine.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

/// Begins to watch; returns at once.
pub fn start(options: Options, out: mpsc::Sender<Vec<Input>>) -> Running {
    let (stop, stopped) = oneshot::channel();
    let (loaded_send, loaded) = channel::channel(Loading::Waiting);
    let (figures_send, figures) = channel::channel(Figures::default());
    let task = tokio::spawn(async move {
        let run = run(options, out, loaded_send, figures_send);
        tokio::select! {
            () = run => {}
            _ = stopped => {}
        }
    });
    Running { task, stop, loaded, figures }
}

async fn run(
    options: Options,
    out: mpsc::Sender<Vec<Input>>,
    loaded: channel::Sender<Loading>,
    figures: channel::Sender<Figures>,
) {
    let (client, place) = match options.cluster.connect().await {
        Ok(connected) => connected,
        Err(error) => {
            let why = error.to_string();
            // Nobody listens any more, if it fails.
            let _ = out.send(vec![Input::Cluster(unusable(&why))]).await;
            loaded.send_replace(Loading::Unusable(why));
            out.closed().await;
            return;
        }
    };
    Driver::new(options, (client, &place), out, loaded, figures).run().await;
}

/// A configuration that leads to no cluster.
fn unusable(why: &str) -> ClusterState {
    let missing = Incomplete {
        what: format!("no cluster: {why}"),
        affects: "flows are shown, verdicts are not: every flow is unknown".to_owned(),
        fix: "name a kubeconfig with --kubeconfig or KUBECONFIG, or manifests with --mesh PATH".to_owned(),
    };
    ClusterState { gaps: vec![Gap { kind: "all".into(), missing }], ..ClusterState::default() }
}
