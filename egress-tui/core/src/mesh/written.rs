//! An object as it was written, with the line of a field.

use arcstr::ArcStr;

use crate::id::ObjectRef;
use crate::mesh::Mesh;

/// The text of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The file; empty where the object comes from an API.
    pub file: ArcStr,
    /// Number of the first line in that file, from 1.
    pub first: usize,
    /// Its lines.
    pub lines: Vec<String>,
    /// Which of them holds the field.
    pub at: Option<usize>,
}

impl Mesh {
    /// The text of `object`, with the line of `field` or of the nearest field above it that exists.
    pub fn written(&self, object: &ObjectRef, field: Option<&str>) -> Option<Written> {
        let (text, file, first) = self.object_text(object)?;
        let line = field.and_then(|field| self.field_line(object, field)).map(|line| line as usize);
        let first = (first as usize).max(1);
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let at = line.and_then(|line| line.checked_sub(first)).filter(|at| *at < lines.len());
        Some(Written { file, first, lines, at })
    }
}
