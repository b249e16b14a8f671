//! Objects for verbs that look at them once: from files, else from the cluster.

use std::sync::Arc;

use egress_core::input::Input;
use egress_core::mesh::Mesh;
use egress_core::world::{ClusterState, MeshSource};
use tokio::sync::mpsc;

use super::{complain, mesh_options, observe};
use crate::cli::Common;
use crate::exit::Exit;
use crate::source::{files, kube};

/// Objects, and what is missing of them.
pub(super) struct Objects {
    pub(super) mesh: Arc<Mesh>,
    pub(super) source: MeshSource,
    /// What is known of the cluster, where they come from one.
    pub(super) cluster: Option<ClusterState>,
    /// How much was read from it.
    pub(super) figures: kube::Figures,
}

impl Objects {
    /// Incomplete where something of the cluster cannot be read.
    pub(super) fn exit(&self) -> Exit {
        let gaps = self.cluster.as_ref().is_some_and(|c| !c.gaps.is_empty());
        if gaps { Exit::Incomplete } else { Exit::Done }
    }

    /// Says on standard error what is missing and what could not be used.
    pub(super) fn complain(&self) {
        for skipped in &self.source.skipped {
            complain(skipped);
        }
        for gap in self.cluster.iter().flat_map(|c| &c.gaps) {
            let missing = &gap.missing;
            complain(&format!("{}\n  affects: {}\n  to do: {}", missing.what, missing.affects, missing.fix));
        }
    }
}

/// Reads them; an error of its own kind says why nothing can be read at all.
pub(super) async fn load(common: &Common) -> anyhow::Result<Result<Objects, String>> {
    let options = mesh_options(common)?;
    let cluster = observe::cluster(common);
    if !common.mesh.is_empty() || !cluster.is_known() {
        return Ok(match files::load(&common.mesh, &options) {
            Ok((mesh, source)) => Ok(Objects { mesh, source, cluster: None, figures: kube::Figures::default() }),
            Err(error) => Err(error.to_string()),
        });
    }
    let (send, mut inputs) = mpsc::channel(16);
    let mut watched = observe::watch_cluster(cluster, kube::Pods::All, options, send);
    let mut state = None;
    let first = async {
        while let Some(batch) = inputs.recv().await {
            for input in batch {
                match input {
                    Input::Cluster(now) => state = Some(now),
                    Input::Mesh { mesh, source, .. } => return Some((mesh, source)),
                    _ => {}
                }
            }
        }
        None
    };
    let found = tokio::select! {
        found = first => found.ok_or_else(|| "the cluster's source ended".to_owned()),
        Err(why) = observe::first_answer(&mut watched) => Err(why),
    };
    let figures = watched.figures();
    watched.stop().await;
    Ok(found.map(|(mesh, source)| Objects { mesh, source, cluster: state, figures }))
}
