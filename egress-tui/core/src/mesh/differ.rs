//! What differs between two meshes: which objects, and at which field first.

use std::cmp::Ordering;
use std::fmt::Write as _;

use arcstr::ArcStr;
use rustc_hash::FxHashMap;
use serde_json::Value;

use crate::id::ObjectRef;
use crate::manifest::{self, Origin};
use crate::mesh::Mesh;

/// How an object differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    /// It was not there.
    Added,
    /// It is another one.
    Changed,
    /// It is not there any more.
    Removed,
}

impl How {
    /// The spelling in JSON and in sentences.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

/// One object that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub object: ObjectRef,
    /// The first field that differs: `.spec.tcp[0]`; empty where the whole object does.
    pub field: ArcStr,
    /// How.
    pub how: How,
}

impl Difference {
    /// `VirtualService n/a .spec.tcp[0]`.
    pub fn place(&self) -> String {
        if self.field.is_empty() { self.object.to_string() } else { format!("{} {}", self.object, self.field) }
    }

    /// Somebody configured it; what the cluster itself writes all the time is not that.
    pub fn is_configured(&self) -> bool {
        !matches!(self.object.kind.as_str(), "Pod" | "EndpointSlice" | "Endpoints" | "Node")
    }
}

/// Documents that are read to find a field; what differs beyond that is only named.
const MOST_READ: usize = 64;

/// Documents that were read, by where they lie in memory.
#[derive(Default)]
struct Read(FxHashMap<(usize, u32), Vec<Item>>);

/// Its place in a list, and the object.
type Item = (Option<u32>, Value);

impl Read {
    fn value(&mut self, origin: &Origin) -> Option<&Value> {
        let place = (origin.text.as_ptr() as usize, origin.line);
        if !self.0.contains_key(&place) {
            if self.0.len() >= MOST_READ {
                return None;
            }
            let read = manifest::parse_document(&origin.file, origin.line, &origin.text);
            self.0.insert(place, read.objects.into_iter().map(|o| (o.origin.item, o.value)).collect());
        }
        self.0.get(&place)?.iter().find(|(item, _)| *item == origin.item).map(|(_, value)| value)
    }
}

impl Mesh {
    /// What is different from `old`, in the order of names; at most so many.
    pub fn differences(&self, old: &Self, most: usize) -> Vec<Difference> {
        let (mut read_old, mut read_new) = (Read::default(), Read::default());
        let mut out = Vec::new();
        let mut before = old.named_origins().peekable();
        let mut after = self.named_origins().peekable();
        while out.len() < most {
            let order = match (before.peek(), after.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((a, _)), Some((b, _))) => a.cmp(b),
            };
            let whole = |object: &ObjectRef, how| Difference { object: object.clone(), field: ArcStr::new(), how };
            match order {
                Ordering::Less => out.extend(before.next().map(|((object, _), _)| whole(object, How::Removed))),
                Ordering::Greater => out.extend(after.next().map(|((object, _), _)| whole(object, How::Added))),
                Ordering::Equal => {
                    let (Some((_, a)), Some(((object, _), b))) = (before.next(), after.next()) else { continue };
                    if a.text == b.text && a.item == b.item {
                        continue;
                    }
                    let field = match (read_old.value(a), read_new.value(b)) {
                        (Some(a), Some(b)) => match first(a, b, &mut String::new()) {
                            Some(field) => field,
                            // The same content, written otherwise.
                            None => continue,
                        },
                        _ => String::new(),
                    };
                    out.push(Difference { object: object.clone(), field: field.into(), how: How::Changed });
                }
            }
        }
        out
    }
}

/// Written by the server with every change, and by nobody for the mesh's sake.
const NOISE: [&str; 3] = ["resourceVersion", "managedFields", "generation"];

/// The path of the first value that differs.
fn first(a: &Value, b: &Value, path: &mut String) -> Option<String> {
    let length = path.len();
    let mut found = None;
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            for key in b.keys().chain(a.keys().filter(|k| !b.contains_key(*k))) {
                if path == ".metadata" && NOISE.contains(&key.as_str()) {
                    continue;
                }
                path.push('.');
                path.push_str(&crate::name::printable(key));
                found = match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => first(a, b, path),
                    _ => Some(path.clone()),
                };
                path.truncate(length);
                if found.is_some() {
                    break;
                }
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for n in 0..a.len().max(b.len()) {
                // Writing to a string cannot fail.
                let _ = write!(path, "[{n}]");
                found = match (a.get(n), b.get(n)) {
                    (Some(a), Some(b)) => first(a, b, path),
                    _ => Some(path.clone()),
                };
                path.truncate(length);
                if found.is_some() {
                    break;
                }
            }
        }
        _ if a == b => {}
        _ => found = Some(path.clone()),
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::MeshOptions;

    fn mesh(text: &str) -> Mesh {
        Mesh::compile(&manifest::parse("a.yaml", text).objects, &MeshOptions::default())
    }

    const SERVICE: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\n";

    fn told(new: &str, old: &str) -> Vec<String> {
        let list = mesh(new).differences(&mesh(old), 10);
        list.iter().map(|d| format!("{} {} {}", d.how.as_str(), d.object, d.field)).collect()
    }

    #[test]
    fn objects_that_differ_are_named_with_the_field() {
        let old = format!(
            "{SERVICE}metadata: {{name: a, namespace: n, generation: 1}}\nspec: {{tcp: [{{match: [{{port: 1}}]}}]}}\n"
        );
        let new = old.replace("port: 1", "port: 2").replace("generation: 1", "generation: 2");
        assert_eq!(told(&new, &old), ["changed VirtualService n/a .spec.tcp[0].match[0].port"]);
        assert_eq!(told(&old, ""), ["added VirtualService n/a "]);
        assert_eq!(told("", &old), ["removed VirtualService n/a "]);
        assert_eq!(told(&old, &old), [""; 0]);
    }

    #[test]
    fn the_same_content_written_otherwise_is_no_difference() {
        let old = format!("{SERVICE}metadata: {{name: a, namespace: n}}\nspec: {{hosts: [b]}}\n");
        let list = format!("kind: List\nitems:\n- {}", old.trim_end().replace('\n', "\n  "));
        assert_eq!(told(&list, &old), [""; 0]);
        assert_eq!(
            told(&list.replace("hosts: [b]", "hosts: [b, c]"), &list),
            ["changed VirtualService n/a .spec.hosts[1]"]
        );
    }

    #[test]
    fn no_more_are_told_than_asked_for() {
        let all: Vec<String> = (0..50).map(|n| format!("{SERVICE}metadata: {{name: a{n}}}\n")).collect();
        assert_eq!(mesh(&all.join("---\n")).differences(&Mesh::default(), 7).len(), 7);
    }
}
