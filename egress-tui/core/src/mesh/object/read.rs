//! Reading fields of raw objects. Every field knows its path; what is not of the expected type is noted and read as absent.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::BuildHasher;

use arcstr::ArcStr;
use rustc_hash::{FxBuildHasher, FxHashMap};
use serde_json::{Map, Value};

use crate::name::printable;

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) field: ArcStr,
    pub(crate) says: String,
}

/// A path, built from the inside out and only spelled when something is wrong.
#[derive(Clone, Copy)]
enum Path<'p> {
    Root,
    Key(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(parent, key) if key.contains(['.', '[', '/']) => write!(f, "{parent}[\"{key}\"]"),
            Self::Key(parent, key) => write!(f, "{parent}.{key}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// What the fields of one reading share: what is wrong, and words that many objects use, kept once.
#[derive(Default)]
pub(crate) struct Reading {
    notes: RefCell<Vec<Note>>,
    /// By their hashes, so that none is read again when there is need for more room. Words whose hashes are the same are not shared.
    words: RefCell<FxHashMap<u64, ArcStr>>,
}

impl Reading {
    /// Of so many objects.
    pub(crate) fn of(objects: usize) -> Self {
        // a name, and two or three more words
        let words = FxHashMap::with_capacity_and_hasher(4 * objects, FxBuildHasher);
        Self { words: RefCell::new(words), ..Self::default() }
    }

    /// What was noted since the last time.
    pub(crate) fn take_notes(&self) -> Vec<Note> {
        self.notes.take()
    }

    pub(crate) fn note(&self, note: Note) {
        self.notes.borrow_mut().push(note);
    }

    /// The word, printable, shared with everybody who read it before. What is no name anywhere (control characters and the like)
    /// is escaped here, where it enters, so that no chain can carry it on.
    pub(crate) fn word(&self, text: &str) -> ArcStr {
        if text.bytes().all(|b| (b' '..=b'~').contains(&b)) { self.share(text) } else { self.share(&printable(text)) }
    }

    /// The same for text of several lines.
    fn passage(&self, text: &str) -> ArcStr {
        if !text.contains(['\n', '\t']) {
            return self.word(text);
        }
        let lines: Vec<String> =
            text.split('\n').map(|l| l.split('\t').map(printable).collect::<Vec<_>>().join("\t")).collect();
        lines.join("\n").into()
    }

    fn share(&self, text: &str) -> ArcStr {
        match self.words.borrow_mut().entry(FxBuildHasher.hash_one(text)) {
            Entry::Occupied(known) if known.get() == text => known.get().clone(),
            Entry::Occupied(_) => text.into(),
            Entry::Vacant(free) => free.insert(text.into()).clone(),
        }
    }
}

/// Objects with fewer fields are searched from their beginning, which takes less than hashing the key.
const FEW: usize = 12;

/// The value of a key.
pub(crate) fn field<'v>(map: &'v Map<String, Value>, key: &str) -> Option<&'v Value> {
    if map.len() > FEW { map.get(key) } else { map.iter().find(|(k, _)| *k == key).map(|(_, v)| v) }
}

/// A field, present or not.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    value: Option<&'a Value>,
    path: Path<'a>,
    reading: &'a Reading,
}

impl<'a> At<'a> {
    pub(crate) fn root(value: &'a Value, reading: &'a Reading) -> Self {
        Self { value: Some(value), path: Path::Root, reading }
    }

    /// Says what is wrong with this field.
    pub(crate) fn note(&self, says: impl Into<String>) {
        self.reading.note(Note { field: self.path(), says: says.into() });
    }

    pub(crate) fn path(&self) -> ArcStr {
        self.reading.word(&self.path.to_string())
    }

    /// Runs `f` on a field of this object; absent parents have absent fields.
    pub(crate) fn key<T>(&self, key: &str, f: impl FnOnce(At<'_>) -> T) -> T {
        let value = match self.value {
            Some(Value::Object(map)) => field(map, key).filter(|v| !v.is_null()),
            Some(Value::Null) | None => None,
            Some(_) => {
                self.note("is not an object");
                None
            }
        };
        f(At { value, path: Path::Key(&self.path, key), reading: self.reading })
    }

    pub(crate) fn is_present(&self) -> bool {
        self.value.is_some()
    }

    /// Each item of a list.
    pub(crate) fn each<T>(&self, mut f: impl FnMut(At<'_>) -> T) -> Vec<T> {
        match self.value {
            Some(Value::Array(items)) => items
                .iter()
                .enumerate()
                .map(|(n, v)| {
                    f(At {
                        value: Some(v).filter(|v| !v.is_null()),
                        path: Path::Index(&self.path, n),
                        reading: self.reading,
                    })
                })
                .collect(),
            Some(_) => {
                self.note("is not a list");
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// Runs `f` on one item of a list.
    pub(crate) fn item<T>(&self, place: usize, f: impl FnOnce(At<'_>) -> T) -> T {
        let value = self.value.and_then(|v| v.get(place)).filter(|v| !v.is_null());
        f(At { value, path: Path::Index(&self.path, place), reading: self.reading })
    }

    /// Each field of an object, with its key.
    pub(crate) fn fields<T>(&self, mut f: impl FnMut(&'a str, At<'_>) -> T) -> Vec<T> {
        match self.value {
            Some(Value::Object(map)) => map
                .iter()
                .map(|(k, v)| {
                    f(
                        k,
                        At {
                            value: Some(v).filter(|v| !v.is_null()),
                            path: Path::Key(&self.path, k),
                            reading: self.reading,
                        },
                    )
                })
                .collect(),
            Some(_) => {
                self.note("is not an object");
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    pub(crate) fn string(&self) -> Option<ArcStr> {
        match self.value? {
            Value::String(text) => Some(self.reading.word(text)),
            Value::Number(number) => {
                self.note("is a number; a string is expected");
                Some(number.to_string().into())
            }
            Value::Bool(value) => {
                self.note("is a boolean; a string is expected");
                Some(value.to_string().into())
            }
            _ => {
                self.note("is not a string");
                None
            }
        }
    }

    /// A value of an annotation, which may have lines.
    fn passage(&self) -> ArcStr {
        match self.value {
            Some(Value::String(text)) => self.reading.passage(text),
            _ => self.text(),
        }
    }

    pub(crate) fn text(&self) -> ArcStr {
        self.string().unwrap_or_default()
    }

    pub(crate) fn strings(&self) -> Vec<ArcStr> {
        self.each(|item| item.text())
    }

    pub(crate) fn bool(&self) -> Option<bool> {
        if let Value::Bool(value) = self.value? {
            Some(*value)
        } else {
            self.note("is not true or false");
            None
        }
    }

    /// A number; a string of digits counts, as in protobuf's JSON.
    pub(crate) fn number(&self) -> Option<u64> {
        let number = match self.value? {
            Value::Number(n) => n.as_u64().or_else(|| {
                n.as_f64()
                    .filter(|f| f.fract() == 0.0 && (0.0..1e15).contains(f))
                    .and_then(|f| format!("{f:.0}").parse().ok())
            }),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        if number.is_none() {
            self.note("is not a whole number");
        }
        number
    }

    /// A port number. What is out of range is noted and absent.
    pub(crate) fn port(&self) -> Option<u16> {
        let number = self.number()?;
        let port = u16::try_from(number).ok();
        if port.is_none() {
            self.note(format!("{number} is not a port"));
        }
        port
    }

    /// A port number, or the name of a container's port.
    pub(crate) fn port_or_name(&self) -> Option<Result<u16, ArcStr>> {
        match self.value? {
            Value::String(text) => Some(text.parse().map_err(|_| self.reading.word(text))),
            _ => self.port().map(Ok),
        }
    }

    /// A map of strings, sorted by key.
    pub(crate) fn labels(&self) -> Labels {
        let mut out: Vec<(ArcStr, ArcStr)> = self.fields(|k, v| (self.reading.word(k), v.passage()));
        out.sort();
        out
    }

    /// One of the words of an enum (case matters, as in protobuf's JSON), or its number.
    pub(crate) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let found = match self.value? {
            Value::String(text) => words.iter().find(|(w, _)| w == text).map(|(_, t)| *t),
            Value::Number(number) => number.as_u64().and_then(|n| words.get(n as usize)).map(|(_, t)| *t),
            _ => None,
        };
        if found.is_none() {
            let words: Vec<_> = words.iter().map(|(w, _)| *w).collect();
            self.note(format!("is none of {}", words.join(", ")));
        }
        found
    }

    pub(crate) fn value(&self) -> Option<&'a Value> {
        self.value
    }
}

/// Labels, sorted by key.
pub(crate) type Labels = Vec<(ArcStr, ArcStr)>;

/// Every label of `selector` stands in `labels` with that value.
pub(crate) fn selects(selector: &[(ArcStr, ArcStr)], labels: &[(ArcStr, ArcStr)]) -> bool {
    selector.iter().all(|(k, v)| label(labels, k) == Some(v))
}

/// The value of a label.
pub(crate) fn label<'l>(labels: &'l [(ArcStr, ArcStr)], key: &str) -> Option<&'l ArcStr> {
    labels.binary_search_by(|(k, _)| k.as_str().cmp(key)).ok().map(|i| &labels[i].1)
}
