//! Edits to a mesh, away from the threads that wait for the network.

use std::sync::Arc;

use arcstr::ArcStr;
use egress_core::id::ObjectRef;
use egress_core::manifest::{Origin, RawObject};
use egress_core::mesh::{Change, Mesh, MeshOptions};
use egress_core::world::MeshSource;

use super::keep::Edit;

/// Keeps the latest mesh.
pub(super) struct Compiler {
    place: ArcStr,
    options: MeshOptions,
    mesh: Option<Arc<Mesh>>,
}

impl Compiler {
    pub(super) fn new(place: ArcStr, options: MeshOptions) -> Self {
        Self { place, options, mesh: None }
    }

    /// There is a mesh.
    pub(super) fn has_compiled(&self) -> bool {
        self.mesh.is_some()
    }

    /// The mesh after these edits; `None` where the program ends.
    pub(super) async fn compile(&mut self, edits: Vec<Edit>) -> Option<(MeshSource, Arc<Mesh>)> {
        let options = self.options.clone();
        let before = self.mesh.take();
        let compiled = tokio::task::spawn_blocking(move || {
            Arc::new(match before {
                Some(mesh) => mesh.edited(edits.into_iter().map(change)),
                None => first(edits, &options),
            })
        });
        let mesh = compiled.await.ok()?;
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

fn first(edits: Vec<Edit>, options: &MeshOptions) -> Mesh {
    let objects: Vec<RawObject> = edits.into_iter().filter_map(raw).collect();
    let mesh = Mesh::compile(&objects, options);
    // nobody waits for their end
    tokio::task::spawn_blocking(move || drop(objects));
    mesh
}

/// The text of an object from an API is its JSON: the mesh keeps no value.
fn raw(edit: Edit) -> Option<RawObject> {
    let value = edit.value?;
    let origin = Origin { text: value.to_string().into(), ..Origin::default() };
    Some(RawObject { value, origin })
}

fn change(edit: Edit) -> Change {
    let group = edit.kind.group.into();
    let object = ObjectRef::new(edit.kind.kind, edit.key.0.as_str(), edit.key.1.as_str());
    raw(edit).map_or(Change::Remove { group, object }, Change::Put)
}
