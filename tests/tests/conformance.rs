//! Agreement with answers that Istio's own code computed (`tests/oracle`), per field and topic.
#![expect(clippy::print_stdout, reason = "the agreement is printed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use egress_core::mesh::{Mesh, MeshOptions};
use egress_tui::cmd::explain;
use egress_tui::source::files;
use serde_json::Value;

const FIELDS: [&str; 7] =
    ["outcome", "cluster", "gateway", "response", "leg2.outcome", "leg2.cluster", "leg2.response"];

#[derive(Default, Clone, Copy)]
struct Tally {
    agree: usize,
    differ: usize,
}

impl Tally {
    fn add(&mut self, agrees: bool) {
        *(if agrees { &mut self.agree } else { &mut self.differ }) += 1;
    }

    fn share(self) -> f64 {
        let total = (self.agree + self.differ) as f64;
        if total == 0.0 { 1.0 } else { self.agree as f64 / total }
    }
}

fn oracle() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle")
}

fn cases(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the oracle's folder is readable") {
        let path = entry.expect("an entry").path();
        if path.join("expected.jsonl").is_file() {
            out.push(path);
        } else if path.is_dir() && !path.ends_with("tool") {
            cases(&path, out);
        }
    }
    out.sort();
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("a file of the case");
    text.lines().filter(|l| !l.trim().is_empty()).map(|l| serde_json::from_str(l).expect("JSON")).collect()
}

fn options(case: &Path) -> MeshOptions {
    let text = fs::read_to_string(case.join("case.json")).unwrap_or_else(|_| "{}".to_owned());
    let case: Value = serde_json::from_str(&text).expect("case.json is JSON");
    let features = case.get("features").and_then(Value::as_object).cloned().unwrap_or_default();
    let pairs: Vec<String> = features.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    MeshOptions::parse(None, pairs.iter().map(String::as_str)).expect("features are known switches")
}

fn mesh(case: &Path) -> Mesh {
    let files = files::read(&[case.join("mesh")]).expect("the mesh is readable");
    Mesh::compile(files.objects, &options(case))
}

/// The rule of `compare.py`: null is not compared; a cluster or status that a broken leg does not name may be left out.
fn agrees(field: &str, want: &Value, got: &Value) -> Option<bool> {
    let (leg, name) = field.strip_prefix("leg2.").map_or(("", field), |name| ("leg2", name));
    let part =
        |answer: &Value| if leg.is_empty() { answer.clone() } else { answer.get(leg).cloned().unwrap_or(Value::Null) };
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

fn topic(case: &Path) -> String {
    let name = case.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let folder = case.parent().and_then(Path::file_name).and_then(|n| n.to_str()).unwrap_or_default();
    if folder == "cases" { name.split('-').next().unwrap_or(name).to_owned() } else { folder.to_owned() }
}

#[test]
fn calls_are_decided_as_istio_decides_them() {
    let mut all = Vec::new();
    cases(&oracle(), &mut all);
    assert!(all.len() > 100, "the oracle's cases are there");
    let only = std::env::var("EGRESS_CASE").unwrap_or_default();
    let mut by_field: BTreeMap<&str, Tally> = BTreeMap::new();
    let mut by_topic: BTreeMap<String, Tally> = BTreeMap::new();
    let mut report = Vec::new();
    for case in all.iter().filter(|c| c.to_string_lossy().contains(&only)) {
        let calls = fs::read(case.join("calls.jsonl")).expect("calls");
        let mut out = Vec::new();
        explain::run(&mesh(case), calls.as_slice(), &mut out).expect("memory is writable");
        let answers: Vec<Value> =
            String::from_utf8(out).expect("UTF-8").lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
        let expected = lines(&case.join("expected.jsonl"));
        assert_eq!(answers.len(), expected.len(), "{}", case.display());
        for (want, got) in expected.iter().zip(&answers) {
            let compared: Vec<(&str, bool)> =
                FIELDS.iter().filter_map(|f| agrees(f, want, got).map(|ok| (*f, ok))).collect();
            if compared.is_empty() {
                continue;
            }
            for (field, ok) in &compared {
                by_field.entry(field).or_default().add(*ok);
            }
            let whole = compared.iter().all(|(_, ok)| *ok);
            by_topic.entry(topic(case)).or_default().add(whole);
            if !whole {
                let name = case.strip_prefix(oracle()).unwrap_or(case).display();
                report.push(format!("{name} {}: want {want}\n    got {got}", want["id"]));
            }
        }
    }
    for (field, tally) in &by_field {
        println!(
            "{field:14} {:6} of {:6} agree ({:.2} %)",
            tally.agree,
            tally.agree + tally.differ,
            100.0 * tally.share()
        );
    }
    for (topic, tally) in &by_topic {
        println!(
            "{topic:14} {:6} of {:6} calls agree ({:.2} %)",
            tally.agree,
            tally.agree + tally.differ,
            100.0 * tally.share()
        );
    }
    for line in report.iter().take(20) {
        println!("{line}");
    }
    for (topic, tally) in &by_topic {
        assert!(tally.differ == 0, "{topic}: {} of {} calls differ", tally.differ, tally.agree + tally.differ);
    }
}
