//! What a mesh keeps of its objects: what was read of each, where it stands and what is wrong with it. An edit makes a new one that
//! shares everything that it does not name.

use std::collections::BTreeMap;
use std::sync::Arc;

use arcstr::ArcStr;
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value;

use crate::id::ObjectRef;
use crate::manifest::{self, Origin, Problem, RawObject};
use crate::mesh::index::Objects;
use crate::mesh::object::read::{Note, Reading, field};

/// One edit of a mesh.
#[derive(Debug, Clone)]
pub enum Change {
    /// Adds an object, or puts it in the place of the one with the same API group, kind, namespace and name.
    Put(RawObject),
    /// Takes an object out.
    Remove {
        /// Its API group; empty for the core group.
        group: ArcStr,
        /// Its kind and name.
        object: ObjectRef,
    },
}

impl Change {
    /// Takes out what has this object's name; `None` if it has none.
    pub fn remove(raw: &RawObject) -> Option<Self> {
        let (object, version) = name_of(&raw.value, &Reading::default())?;
        (!object.name.name.is_empty()).then(|| Self::Remove { group: group(&version).into(), object })
    }
}

/// What makes two objects the same one: kind and name, and the API group.
pub(crate) type Identity = (ObjectRef, ArcStr);

/// See the module.
#[derive(Debug, Default, Clone)]
pub(crate) struct Kept {
    pub(crate) objects: Objects,
    /// Where each stands, sorted.
    origins: Vec<Arc<(Identity, Origin)>>,
    /// What is wrong with each.
    wrong: BTreeMap<Identity, Vec<Problem>>,
    /// Objects without a name or a kind.
    nameless: Vec<Problem>,
}

/// A name for an `IstioOperator` that has none, as files for `istioctl install` have: of its first gateway, else what istioctl
/// calls what it installed.
fn unnamed(value: &Value) -> &str {
    let gateways = ["/spec/components/egressGateways/0/name", "/spec/components/ingressGateways/0/name"];
    gateways.iter().find_map(|p| value.pointer(p).and_then(Value::as_str)).unwrap_or("installed-state")
}

/// The object's name; the namespace is `default` where none is written, as kubectl has it.
fn name_of(value: &Value, reading: &Reading) -> Option<(ObjectRef, ArcStr)> {
    fn text<'v>(of: Option<&'v Value>, key: &str) -> &'v str {
        of.and_then(Value::as_object).and_then(|map| field(map, key)).and_then(Value::as_str).unwrap_or_default()
    }
    let metadata = value.as_object().and_then(|map| field(map, "metadata"));
    let kind = text(Some(value), "kind");
    let name = match text(metadata, "name") {
        "" if kind == "IstioOperator" => unnamed(value),
        name => name,
    };
    if kind.is_empty() {
        return None;
    }
    let cluster = matches!(
        kind,
        "Namespace"
            | "Node"
            | "GatewayClass"
            | "CustomResourceDefinition"
            | "ClusterRole"
            | "ClusterRoleBinding"
            | "PersistentVolume"
            | "Istio"
            | "IstioRevision"
    );
    let namespace = match text(metadata, "namespace") {
        "" if !cluster => "default",
        namespace => namespace,
    };
    let object = ObjectRef::new(reading.word(kind), reading.word(namespace), reading.word(name));
    Some((object, reading.word(text(Some(value), "apiVersion"))))
}

/// The group of an `apiVersion`; empty for the core group.
pub(crate) fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// Newer versions of one object first.
fn version_rank(api_version: &str) -> (u8, u32) {
    let version = api_version.rsplit('/').next().unwrap_or_default();
    let digits = |prefix: &str| version.strip_prefix(prefix).and_then(|v| v.parse::<u32>().ok()).map(|n| u32::MAX - n);
    let split = |word: &str| {
        let (major, minor) = version.strip_prefix('v')?.split_once(word)?;
        let number = major.parse::<u32>().ok()?.checked_mul(1000)?.checked_add(minor.parse().ok()?)?;
        Some(u32::MAX - number)
    };
    if let Some(n) = digits("v") {
        (0, n)
    } else if let Some(n) = split("beta") {
        (1, n)
    } else {
        (2, split("alpha").unwrap_or(u32::MAX))
    }
}

/// A raw object whose name is known.
struct Named<'r> {
    /// Of its kind and its namespace among all: few texts of either sort stand for many objects.
    ranks: (u32, u32),
    name: ArcStr,
    object: ObjectRef,
    version: ArcStr,
    raw: &'r RawObject,
}

/// Numbers kinds and namespaces in their order.
fn rank(named: &mut [Named<'_>]) {
    let ranks = |text: fn(&ObjectRef) -> &ArcStr| -> FxHashMap<ArcStr, u32> {
        let mut all: Vec<ArcStr> =
            named.iter().map(|n| text(&n.object)).collect::<FxHashSet<_>>().into_iter().cloned().collect();
        all.sort();
        all.into_iter().zip(0..).collect()
    };
    let (kinds, namespaces) = (ranks(|o| &o.kind), ranks(|o| &o.name.namespace));
    for Named { ranks, object, .. } in named {
        *ranks = (kinds[&object.kind], namespaces[&object.name.namespace]);
    }
}

fn told(object: Option<ObjectRef>, raw: &RawObject, Note { field, says }: Note) -> Problem {
    let line = manifest::field_line(&raw.origin, &field).unwrap_or(raw.origin.line);
    Problem { object, field, file: raw.origin.file.clone(), line, column: 0, says }
}

fn note(field: &str, says: &str) -> Note {
    Note { field: field.into(), says: says.to_owned() }
}

impl Kept {
    /// Reads raw objects. Of each the newest version counts, then the first by file and line; the order of the list does not matter.
    pub(crate) fn new(raw: &[RawObject]) -> Self {
        let reading = Reading::of(raw.len());
        let mut out = Self::default();
        let mut named = Vec::with_capacity(raw.len());
        for raw in raw {
            if let Some((object, version)) = out.name(raw, &reading) {
                named.push(Named { ranks: (0, 0), name: object.name.name.clone(), object, version, raw });
            }
        }
        rank(&mut named);
        named.sort_by(|a, b| {
            let place = |x: &RawObject| (x.origin.line, x.origin.item);
            (a.ranks, &a.name)
                .cmp(&(b.ranks, &b.name))
                .then_with(|| group(&a.version).cmp(group(&b.version)))
                .then_with(|| version_rank(&a.version).cmp(&version_rank(&b.version)))
                .then_with(|| a.raw.origin.file.cmp(&b.raw.origin.file))
                .then_with(|| place(a.raw).cmp(&place(b.raw)))
                .then_with(|| a.raw.value.to_string().cmp(&b.raw.value.to_string()))
        });
        let mut last: Option<(Identity, &Value)> = None;
        for Named { object, version, raw, .. } in named {
            let identity = (object, reading.word(group(&version)));
            if let Some((known, value)) = &last
                && *known == identity
            {
                if **value != raw.value {
                    let twice = note("", "stands in the input more than once; another one counts");
                    let problem = told(Some(identity.0.clone()), raw, twice);
                    out.wrong.entry(identity).or_default().push(problem);
                }
                continue;
            }
            out.add(&identity, raw, &reading);
            last = Some((identity, &raw.value));
        }
        out.objects.shrink();
        out.origins.shrink_to_fit();
        out
    }

    /// The same after some edits.
    pub(crate) fn edited(&self, changes: impl IntoIterator<Item = Change>) -> Self {
        let mut out = self.clone();
        let reading = Reading::default();
        for change in changes {
            match change {
                Change::Remove { group, object } => out.remove(&(object, group)),
                Change::Put(raw) => {
                    if let Some((object, version)) = out.name(&raw, &reading) {
                        let identity = (object, reading.word(group(&version)));
                        out.remove(&identity);
                        out.add(&identity, &raw, &reading);
                    }
                }
            }
        }
        out.objects.sort();
        out
    }

    /// Name and version of an object; what has none is a problem.
    fn name(&mut self, raw: &RawObject, reading: &Reading) -> Option<(ObjectRef, ArcStr)> {
        let (object, field) = match name_of(&raw.value, reading) {
            Some((object, version)) if !object.name.name.is_empty() => return Some((object, version)),
            Some((object, _)) => (Some(object), ".metadata.name"),
            None => (None, ".kind"),
        };
        self.nameless.push(told(object, raw, note(field, "is missing: the object is ignored")));
        None
    }

    fn add(&mut self, identity: &Identity, raw: &RawObject, reading: &Reading) {
        let object = &identity.0;
        self.objects.read_one(object, raw, reading);
        let notes = reading.take_notes();
        if !notes.is_empty() {
            let problems = notes.into_iter().map(|n| told(Some(object.clone()), raw, n));
            self.wrong.entry(identity.clone()).or_default().extend(problems);
        }
        let mut origin = raw.origin.clone();
        if origin.text.is_empty() {
            // from an API: the value itself is gone after this
            origin.text = raw.value.to_string().into();
        }
        let item = Arc::new((identity.clone(), origin));
        // a first reading comes in order
        if self.origins.last().is_some_and(|last| last.0 > *identity) {
            let place = self.origins.partition_point(|known| known.0 < *identity);
            self.origins.insert(place, item);
        } else {
            self.origins.push(item);
        }
    }

    fn remove(&mut self, identity: &Identity) {
        let Ok(place) = self.origins.binary_search_by(|known| known.0.cmp(identity)) else { return };
        self.origins.remove(place);
        self.wrong.remove(identity);
        self.objects.remove(&identity.1, &identity.0);
    }

    /// Where an object stands; where groups have a kind of the same name, the last of them.
    pub(crate) fn origin(&self, object: &ObjectRef) -> Option<&Origin> {
        let end = self.origins.partition_point(|known| known.0.0 <= *object);
        self.origins[..end].last().filter(|known| known.0.0 == *object).map(|known| &known.1)
    }

    /// Where each stands, in the order of names.
    pub(crate) fn origins(&self) -> impl Iterator<Item = &Origin> {
        self.origins.iter().map(|known| &known.1)
    }

    /// Name and group of each, and where it stands, in the order of names.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&Identity, &Origin)> {
        self.origins.iter().map(|item| (&item.0, &item.1))
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.origins.len()
    }

    /// What is wrong, in the order of files and lines.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut out: Vec<Problem> = self.nameless.iter().chain(self.wrong.values().flatten()).cloned().collect();
        out.sort_by(|a, b| {
            let place = |p: &Problem| (p.line, p.column);
            (&a.file, place(a), &a.object, &a.field, &a.says).cmp(&(&b.file, place(b), &b.object, &b.field, &b.says))
        });
        out
    }
}
