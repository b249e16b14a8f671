//! The program's source of objects in a test.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use egress_core::id::ObjectRef;
use egress_core::input::Input;
use egress_core::mesh::{Mesh, MeshOptions};
use egress_core::world::ClusterState;
use egress_tui::source::kube::{Cluster, Figures, Options, Pace, Pods, Running, start};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::LONG;

/// The program's source of objects, and what it told.
pub struct Watching {
    running: Running,
    inputs: mpsc::Receiver<Vec<Input>>,
    /// The latest mesh.
    pub mesh: Arc<Mesh>,
    /// How many meshes there were.
    pub meshes: usize,
    /// The latest state of the cluster.
    pub state: ClusterState,
}

/// Pauses of a test: everything soon.
pub fn quick() -> Pace {
    Pace {
        first: Duration::from_millis(50),
        longest: Duration::from_secs(1),
        watch: Duration::from_secs(20),
        look: Duration::from_millis(500),
        ..Pace::default()
    }
}

impl Watching {
    /// All pods, with that configuration.
    pub fn all(kubeconfig: &Path) -> Self {
        Self::new(kubeconfig, Pods::All, quick())
    }

    /// With that configuration.
    pub fn new(kubeconfig: &Path, pods: Pods, pace: Pace) -> Self {
        let cluster = Cluster { kubeconfig: Some(kubeconfig.to_owned()), context: None };
        let (send, inputs) = mpsc::channel(64);
        let options = Options { cluster, pods, mesh: MeshOptions::default(), pace };
        let running = start(options, send);
        Self { running, inputs, mesh: Arc::default(), meshes: 0, state: ClusterState::default() }
    }

    /// Takes in what is told until it is as a test wants it.
    pub async fn until(&mut self, what: &str, is: impl Fn(&Self) -> bool) {
        let wait = async {
            while !is(self) {
                let batch = self.inputs.recv().await.expect("the source goes on");
                for input in batch {
                    match input {
                        Input::Mesh { mesh, .. } => {
                            self.mesh = mesh;
                            self.meshes += 1;
                        }
                        Input::Cluster(state) => self.state = state,
                        other => panic!("{other:?}"),
                    }
                }
            }
        };
        let seen = timeout(LONG, wait).await;
        assert!(seen.is_ok(), "not seen: {what}; {:?}, {} objects", self.state, self.mesh.object_count());
    }

    /// Until the first mesh is there.
    pub async fn loaded(&mut self) {
        self.until("the first mesh", |w| w.meshes > 0).await;
    }

    /// An object is known.
    pub fn has(&self, kind: &str, namespace: &str, name: &str) -> bool {
        self.mesh.object_text(&ObjectRef::new(kind, namespace, name)).is_some()
    }

    /// The text of an object that is known.
    pub fn text(&self, kind: &str, namespace: &str, name: &str) -> String {
        self.mesh.object_text(&ObjectRef::new(kind, namespace, name)).map(|(text, ..)| text).unwrap_or_default()
    }

    /// What cannot be read: the kinds.
    pub fn gaps(&self) -> Vec<&str> {
        self.state.gaps.iter().map(|g| g.kind.as_str()).collect()
    }

    /// How much was read.
    pub fn figures(&self) -> Figures {
        self.running.figures()
    }

    /// Ends it.
    pub async fn stop(self) {
        drop(self.inputs);
        self.running.stop().await;
    }
}
