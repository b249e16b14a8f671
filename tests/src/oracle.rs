//! Cases of `tests/oracle`: meshes, calls, and what Istio's own code answers.

use std::fs;
use std::path::{Path, PathBuf};

use egress_core::manifest::{self, RawObject};
use egress_core::mesh::{Mesh, MeshOptions};
use egress_tui::cmd::explain;
use serde_json::Value;

/// What is compared, of both legs.
pub const FIELDS: [&str; 7] =
    ["outcome", "cluster", "gateway", "response", "leg2.outcome", "leg2.cluster", "leg2.response"];

/// A case as text.
#[derive(Debug, Clone)]
pub struct Case {
    /// Below `tests/oracle`.
    pub name: String,
    /// Cases of the same kind.
    pub topic: String,
    /// The files of the mesh.
    pub mesh: Vec<String>,
    /// Lines of `explain --calls`.
    pub calls: String,
    /// Lines of Istio's answers.
    pub expected: String,
    /// Switches of istiod.
    pub options: MeshOptions,
}

/// Every case, by name.
pub fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle");
    let mut folders = Vec::new();
    find(&root, &mut folders);
    folders.sort();
    folders.iter().map(|folder| Case::read(&root, folder)).collect()
}

fn find(folder: &Path, out: &mut Vec<PathBuf>) {
    for path in entries(folder) {
        if path.join("expected.jsonl").is_file() {
            out.push(path);
        } else if path.is_dir() && !path.ends_with("tool") {
            find(&path, out);
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let read = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut found: Vec<PathBuf> = read.map(|entry| entry.expect("an entry").path()).collect();
    found.sort();
    found
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

impl Case {
    fn read(root: &Path, folder: &Path) -> Self {
        let about: Value = serde_json::from_str(&text(&folder.join("case.json"))).expect("case.json is JSON");
        let features = about.get("features").and_then(Value::as_object).cloned().unwrap_or_default();
        let pairs: Vec<String> =
            features.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
        let name = folder.strip_prefix(root).unwrap_or(folder).to_string_lossy().into_owned();
        let (kind, last) = name.split_once('/').unwrap_or(("", &name));
        let topic = if kind == "cases" { last.split('-').next().unwrap_or(last) } else { kind };
        Self {
            topic: topic.to_owned(),
            mesh: entries(&folder.join("mesh")).iter().map(|file| text(file)).collect(),
            calls: text(&folder.join("calls.jsonl")),
            expected: text(&folder.join("expected.jsonl")),
            options: MeshOptions::parse(None, pairs.iter().map(String::as_str)).expect("features are known switches"),
            name,
        }
    }

    /// The objects of the mesh.
    pub fn objects(&self) -> Vec<RawObject> {
        let files = self.mesh.iter().enumerate();
        files.flat_map(|(n, text)| manifest::parse(&format!("{}/{n}.yaml", self.name), text).objects).collect()
    }

    /// The lines that `explain` answers over these objects.
    pub fn answers(&self, objects: &[RawObject]) -> String {
        let mut out = Vec::new();
        let mesh = Mesh::compile(objects, &self.options);
        explain::run(&mesh, self.calls.as_bytes(), &mut out).expect("memory is writable");
        String::from_utf8(out).expect("answers are UTF-8")
    }

    /// Istio's answer and the engine's of each call.
    pub fn pairs(&self, answers: &str) -> Vec<(Value, Value)> {
        let lines = |text: &str| -> Vec<Value> {
            let lines = text.lines().filter(|l| !l.trim().is_empty());
            lines.map(|l| serde_json::from_str(l).expect("JSON")).collect()
        };
        let (want, got) = (lines(&self.expected), lines(answers));
        assert_eq!(want.len(), got.len(), "{}", self.name);
        want.into_iter().zip(got).collect()
    }
}

/// Which fields were compared, and whether they agree.
pub fn compared(want: &Value, got: &Value) -> Vec<(&'static str, bool)> {
    FIELDS.iter().filter_map(|field| agrees(field, want, got).map(|ok| (*field, ok))).collect()
}

/// The rule of `compare.py`: null is not compared; a cluster or status that a broken leg does not name may be left out.
fn agrees(field: &str, want: &Value, got: &Value) -> Option<bool> {
    let (leg, name) = field.strip_prefix("leg2.").map_or(("", field), |name| ("leg2", name));
    let part = |answer: &Value| match leg {
        "" => answer.clone(),
        leg => answer.get(leg).cloned().unwrap_or(Value::Null),
    };
    let (want, got) = (part(want), part(got));
    let wanted = want.get(name).filter(|v| !v.is_null())?;
    let given = got.get(name).unwrap_or(&Value::Null);
    let broken = want.get("outcome").and_then(Value::as_str) == Some("broken");
    let both = broken && got.get("outcome").and_then(Value::as_str) == Some("broken");
    let silent = given.is_null()
        && match name {
            "cluster" => both,
            "response" => broken && got.is_object() && matches!(wanted.as_u64(), Some(500 | 503)),
            _ => false,
        };
    Some(wanted == given || silent)
}
