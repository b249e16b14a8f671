//! placeholder
use crate::mesh::object::Meta;
use crate::mesh::object::read::At;
#[derive(Default)]
pub(crate) struct Objects {}
impl Objects {
    pub(crate) fn read(&mut self, _kind: &str, _meta: Meta, _at: &At<'_>) {}
    pub(crate) fn retain(&mut self, _f: &dyn Fn(&Meta) -> bool) {}
}
pub(crate) fn translate(_objects: &mut crate::mesh::index::Objects) {}
