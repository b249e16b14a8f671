//! Edits to a mesh, away from the threads that wait for the network.

use std::collections::BTreeMap;
use std::sync::Arc;

use arcstr::ArcStr;
use egress_core::manifest::{Origin, RawObject};
use egress_core::mesh::{Mesh, MeshOptions};
use egress_core::world::MeshSource;

use super::keep::Edit;
use super::watch::Key;

/// Keeps the latest mesh.
pub(super) struct Compiler {
    place: ArcStr,
    options: MeshOptions,
    objects: BTreeMap<(String, Key), RawObject>,
    mesh: Option<Arc<Mesh>>,
}

impl Compiler {
    pub(super) fn new(place: ArcStr, options: MeshOptions) -> Self {
        Self { place, options, objects: BTreeMap::new(), mesh: None }
    }

    /// There is a mesh.
    pub(super) fn has_compiled(&self) -> bool {
        self.mesh.is_some()
    }

    /// The mesh after these edits; `None` where the program ends.
    pub(super) async fn compile(&mut self, edits: Vec<Edit>) -> Option<(MeshSource, Arc<Mesh>)> {
        for edit in edits {
            let key = (edit.kind.resource(), edit.key);
            match edit.value {
                Some(value) => {
                    let text = value.to_string().into();
                    let origin = Origin { text, ..Origin::default() };
                    self.objects.insert(key, RawObject { value, origin });
                }
                None => drop(self.objects.remove(&key)),
            }
        }
        let objects: Vec<RawObject> = self.objects.values().cloned().collect();
        let options = self.options.clone();
        let mesh = tokio::task::spawn_blocking(move || Arc::new(Mesh::compile(objects, &options))).await.ok()?;
        self.mesh = Some(mesh.clone());
        let skipped = mesh.problems().iter().map(|p| egress_core::name::printable(&p.to_string()).into()).collect();
        let source = MeshSource {
            kind: "cluster".into(),
            place: self.place.clone(),
            objects: u32::try_from(mesh.object_count()).unwrap_or(u32::MAX),
            skipped,
        };
        Some((source, mesh))
    }
}
