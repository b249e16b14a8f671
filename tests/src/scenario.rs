//! Scenarios: one behaviour of Istio per file, with the objects, the connections, and what must come of them.
//!
//! ```yaml
//! title: One sentence, the behaviour
//! says: Why it matters to who reads it.
//! tests: [T70]                     # numbers of the list of cases that the project works from
//! rules: ["§4.2", R-HTTP-3]        # rules, consequences (C1), lints (L06), corrections (§11.4)
//! source: [pilot/pkg/networking/core/httproute.go]
//! include: [client, allow-any]     # files of `base/`; an object of the scenario replaces one of the same kind and name
//! verified: oracle                 # outcome, cluster, gateway, response and leg2 are what Istio's own code computes; else: text
//! calls:                           # spelled as `explain --calls` takes them; `from` is default/sleep where it is not given
//! - to: 151.101.1.67:80
//!   payload: http
//!   host: edition.cnn.com
//!   expect:                        # spelled as `explain` answers, plus:
//!     decides: VirtualService default/cnn .spec.http[0].match[0]
//!     near: [VirtualService default/other .spec.exportTo]
//! ---
//! apiVersion: networking.istio.io/v1
//! …
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use egress_core::id::ObjectRef;
use egress_core::manifest::{self, RawObject};
use egress_core::mesh::{Mesh, MeshOptions};
use egress_tui::cmd::explain;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What an answer may be compared in; `decides` and `near` are steps of `because`.
const EXPECTED: [&str; 12] = [
    "outcome",
    "cluster",
    "response",
    "gateway",
    "next",
    "leg2",
    "registration",
    "certainty",
    "alternatives",
    "verdict",
    "reason",
    "decides",
];

/// What every call must say; `decides` is null where no object has a say.
const REQUIRED: [&str; 5] = ["outcome", "registration", "verdict", "reason", "decides"];

/// What of an expectation Istio's simulator cannot compute.
const BEYOND_ISTIO: [&str; 3] = ["not-captured", "not-applicable", "unknown"];

/// Where the expectation comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verified {
    /// Istio's generator and simulator were asked.
    Oracle,
    /// Nothing computes it; it is read in Istio's source or documentation.
    Text,
}

/// The first document of a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Head {
    title: String,
    says: String,
    #[serde(default)]
    tests: Vec<String>,
    rules: Vec<String>,
    source: Vec<String>,
    include: Vec<String>,
    #[serde(default)]
    istiod: BTreeMap<String, String>,
    istio_version: Option<String>,
    verified: Verified,
    calls: Vec<CallLine>,
}

/// A connection, and what must come of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CallLine {
    /// What is special about this one; for readers.
    #[serde(rename = "says")]
    _says: Option<String>,
    from: Option<String>,
    leg: Option<String>,
    to: String,
    protocol: Option<String>,
    payload: Option<String>,
    sni: Option<String>,
    host: Option<String>,
    path: Option<String>,
    container: Option<String>,
    uid: Option<u32>,
    expect: Map<String, Value>,
}

/// A scenario, read.
#[derive(Debug)]
pub struct Scenario {
    /// Where it stands.
    pub path: PathBuf,
    /// The behaviour, one sentence.
    pub title: String,
    /// Why it matters.
    pub says: String,
    /// Numbers of the list of cases.
    pub tests: Vec<String>,
    /// Rules, consequences, lints, corrections.
    pub rules: Vec<String>,
    /// Istio's files.
    pub source: Vec<String>,
    /// Files of `base/`.
    pub include: Vec<String>,
    /// Where outcome, cluster, gateway, response and second leg come from.
    pub verified: Verified,
    options: MeshOptions,
    features: BTreeMap<String, String>,
    objects: Vec<RawObject>,
    calls: Vec<CallLine>,
}

/// Something that is not as the scenario says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The call, as a reader would name it.
    pub call: String,
    /// What was compared.
    pub field: String,
    /// What the scenario says.
    pub want: String,
    /// What the program says.
    pub got: String,
}

/// The folder of scenarios.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// Paths of all scenarios, sorted, without `base/`.
pub fn all() -> Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    for group in entries(&folder())? {
        if group.is_dir() && !group.ends_with("base") {
            out.extend(entries(&group)?);
        }
    }
    Ok(out)
}

/// What is in a folder, sorted.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    let mut out = list.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?;
    out.sort();
    Ok(out)
}

/// Reads a scenario and the files that it includes.
pub fn load(path: &Path) -> Result<Scenario> {
    let text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    let base = folder().join("base");
    let include = |name: &str| {
        let path = base.join(format!("{name}.yaml"));
        fs::read_to_string(&path).with_context(|| format!("include: {}", path.display()))
    };
    read(path, &text, include).with_context(|| format!("{}", path.display()))
}

/// The same from text; `include` gives the text of a file of `base/`.
pub fn read(path: &Path, text: &str, include: impl Fn(&str) -> Result<String>) -> Result<Scenario> {
    let mut own = objects(&path.display().to_string(), text)?;
    if own.is_empty() {
        bail!("there is nothing in it");
    }
    let head: Head = serde_json::from_value(own.remove(0).value).context("the first document")?;
    let mut all: Vec<RawObject> = Vec::new();
    for name in &head.include {
        overlay(&mut all, objects(name, &include(name)?)?);
    }
    overlay(&mut all, own);
    let env: Vec<String> = head.istiod.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let options = MeshOptions::parse(head.istio_version.as_deref(), env.iter().map(String::as_str))?;
    if head.title.is_empty() || head.says.is_empty() || head.rules.is_empty() || head.source.is_empty() {
        bail!("title, says, rules and source say something");
    }
    if head.calls.is_empty() {
        bail!("a scenario without a call asserts nothing");
    }
    for call in &head.calls {
        let allowed = |key: &str| EXPECTED.contains(&key) || key == "near";
        if let Some(key) = call.expect.keys().find(|k| !allowed(k)) {
            bail!("{}: expect knows no {key:?}, but {}, near", call.name(), EXPECTED.join(", "));
        }
        if let Some(key) = REQUIRED.iter().find(|k| !call.expect.contains_key(**k)) {
            bail!("{}: expect says nothing of {key}", call.name());
        }
    }
    Ok(Scenario {
        path: path.to_owned(),
        title: head.title,
        says: head.says,
        tests: head.tests,
        rules: head.rules,
        source: head.source,
        include: head.include,
        verified: head.verified,
        options,
        features: head.istiod,
        objects: all,
        calls: head.calls,
    })
}

fn objects(file: &str, text: &str) -> Result<Vec<RawObject>> {
    let read = manifest::parse(file, text);
    match read.problems.first() {
        Some(problem) => bail!("{problem}"),
        None => Ok(read.objects),
    }
}

/// Objects of the same kind and name are replaced.
fn overlay(all: &mut Vec<RawObject>, more: Vec<RawObject>) {
    for object in more {
        let name = name_of(&object);
        match all.iter_mut().find(|o| name_of(o) == name) {
            Some(place) => *place = object,
            None => all.push(object),
        }
    }
}

/// API group, kind and name: `Gateway` is a kind of two groups.
fn name_of(object: &RawObject) -> (String, ObjectRef) {
    let text = |path: &str| object.value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let group = text("/apiVersion").rsplit_once('/').map_or(String::new(), |(group, _)| group.to_owned());
    (group, ObjectRef::new(text("/kind"), text("/metadata/namespace"), text("/metadata/name")))
}

impl Scenario {
    /// Every expectation of a field, over all calls.
    pub fn expectations<'a>(&'a self, field: &'a str) -> impl Iterator<Item = &'a str> {
        self.calls.iter().filter_map(move |c| c.expect.get(field).and_then(Value::as_str))
    }

    /// What the program says otherwise, with the objects in the order of the file.
    pub fn check(&self) -> Result<Vec<Difference>> {
        self.differences(&self.compile(&self.objects)?)
    }

    /// The same with the objects in the opposite order, which must not matter.
    pub fn check_reversed(&self) -> Result<Vec<Difference>> {
        self.differences(&self.compile(&self.objects.iter().rev().cloned().collect::<Vec<_>>())?)
    }

    fn compile(&self, objects: &[RawObject]) -> Result<Mesh> {
        let mesh = Mesh::compile(objects, &self.options);
        match mesh.problems().iter().next() {
            Some(problem) => bail!("{}: {problem}", self.path.display()),
            None => Ok(mesh),
        }
    }

    fn differences(&self, mesh: &Mesh) -> Result<Vec<Difference>> {
        let mut out = Vec::new();
        let answers = answers(mesh, &self.calls)?;
        for (call, answer) in self.calls.iter().zip(&answers) {
            let before = out.len();
            call.compare(answer, &mut out);
            if out.len() > before {
                out.push(Difference {
                    call: call.name(),
                    field: "the whole chain".to_owned(),
                    want: String::new(),
                    got: chain(answer),
                });
            }
        }
        Ok(out)
    }

    /// Writes the scenario as a folder that the oracle evaluates: `mesh/`, `calls.jsonl`, `case.json`. Calls that no simulator of
    /// Istio's decides (UDP, what is not captured) are left out; `false` if that leaves none.
    pub fn to_oracle_case(&self, folder: &Path) -> Result<bool> {
        let asked = self.calls.iter().enumerate().filter(|(_, c)| c.is_for_istio());
        let calls: Vec<String> = asked.map(|(n, call)| call.line(n).to_string()).collect();
        if calls.is_empty() {
            return Ok(false);
        }
        let texts: Vec<&str> =
            self.objects.iter().map(|o| o.origin.text.trim_start_matches("---").trim_matches('\n')).collect();
        let case = json!({
            "title": self.title, "why": self.rules.join(", "), "tests": self.tests, "features": self.features,
        });
        fs::create_dir_all(folder.join("mesh"))?;
        fs::write(folder.join("mesh/mesh.yaml"), texts.join("\n---\n") + "\n")?;
        fs::write(folder.join("calls.jsonl"), calls.join("\n") + "\n")?;
        fs::write(folder.join("case.json"), format!("{case:#}\n"))?;
        Ok(true)
    }

    /// What `expected.jsonl` of that folder says otherwise than the scenario. What the oracle leaves open is not compared, and
    /// a cluster or a status may be left out beside `broken`.
    pub fn compare_with_oracle(&self, folder: &Path) -> Result<Vec<Difference>> {
        let text = fs::read_to_string(folder.join("expected.jsonl"))?;
        let mut out = Vec::new();
        for line in text.lines().filter(|l| !l.trim().is_empty()) {
            let answer: Value = serde_json::from_str(line)?;
            let call = answer.get("id").and_then(Value::as_str).and_then(|id| id.parse::<usize>().ok());
            let call = call.and_then(|n| self.calls.get(n));
            let call = call.with_context(|| format!("an answer to no call: {line}"))?;
            let expect = Value::Object(call.expect.clone());
            // an answer of the proxy itself has a status and no outcome
            if answer["outcome"].is_null() && answer["response"].is_null() {
                out.push(call.difference("outcome", &expect["outcome"], &Value::Null));
            }
            call.against_istio("", &expect, &answer, &mut out);
            match (expect.get("leg2"), answer.get("leg2").filter(|l| !l.is_null())) {
                (Some(ours), Some(theirs)) => call.against_istio("leg2.", ours, theirs, &mut out),
                (None, Some(theirs)) => {
                    out.push(call.difference("leg2", &Value::Null, &json!({"outcome": theirs["outcome"]})));
                }
                (_, None) => {}
            }
        }
        Ok(out)
    }
}

impl CallLine {
    fn name(&self) -> String {
        let from = self.from.as_deref().unwrap_or("default/sleep");
        let words = [self.payload.as_deref(), self.sni.as_deref(), self.host.as_deref(), self.path.as_deref()];
        let words: Vec<&str> = words.into_iter().flatten().collect();
        format!("{from} -> {} {}", self.to, words.join(" "))
    }

    fn line(&self, id: usize) -> Value {
        json!({
            "id": id.to_string(),
            "from": self.from.as_deref().unwrap_or("default/sleep"),
            "leg": self.leg.as_deref().unwrap_or("outbound"),
            "to": self.to,
            "protocol": self.protocol.as_deref().unwrap_or("tcp"),
            "payload": self.payload,
            "sni": self.sni,
            "host": self.host,
            "path": self.path,
            "container": self.container,
            "uid": self.uid,
        })
    }

    fn is_for_istio(&self) -> bool {
        let outcome = self.expect.get("outcome").and_then(Value::as_str).unwrap_or_default();
        let known = !matches!(self.payload.as_deref(), None | Some("unknown"));
        known && self.protocol.as_deref() != Some("udp") && !BEYOND_ISTIO.contains(&outcome)
    }

    fn difference(&self, field: &str, want: &Value, got: &Value) -> Difference {
        Difference { call: self.name(), field: field.to_owned(), want: want.to_string(), got: got.to_string() }
    }

    fn compare(&self, answer: &Value, out: &mut Vec<Difference>) {
        if let Some(error) = answer.get("error") {
            out.push(self.difference("answer", &Value::Null, error));
            return;
        }
        for (field, want) in &self.expect {
            let got = match field.as_str() {
                "decides" => deciding(answer),
                "near" => near(answer),
                "leg2" => selected(want, answer.get("leg2").unwrap_or(&Value::Null)),
                "next" => selected(want, answer.get("next").unwrap_or(&Value::Null)),
                _ => answer.get(field).cloned().unwrap_or(Value::Null),
            };
            if *want != got {
                out.push(self.difference(field, want, &got));
            }
        }
    }

    fn against_istio(&self, prefix: &str, ours: &Value, theirs: &Value, out: &mut Vec<Difference>) {
        let broken = ours.get("outcome").and_then(Value::as_str) == Some("broken");
        for field in ["outcome", "cluster", "gateway", "response"] {
            let (want, got) = (ours.get(field).unwrap_or(&Value::Null), theirs.get(field).unwrap_or(&Value::Null));
            let open = got.is_null() || (broken && want.is_null() && matches!(field, "cluster" | "response"));
            if !open && want != got {
                out.push(self.difference(&format!("{prefix}{field}"), want, got));
            }
        }
    }
}

/// The keys of `got` that `want` has.
fn selected(want: &Value, got: &Value) -> Value {
    match (want, got) {
        (Value::Object(want), Value::Object(all)) => {
            let part = want.iter().map(|(key, want)| {
                let got = all.get(key).unwrap_or(&Value::Null);
                (key.clone(), selected(want, got))
            });
            Value::Object(part.collect())
        }
        _ => got.clone(),
    }
}

fn answers(mesh: &Mesh, calls: &[CallLine]) -> Result<Vec<Value>> {
    let lines: Vec<String> = calls.iter().enumerate().map(|(n, c)| c.line(n).to_string()).collect();
    let mut out = Vec::new();
    explain::run(mesh, lines.join("\n").as_bytes(), &mut out)?;
    let out = String::from_utf8(out)?;
    out.lines().map(|l| Ok(serde_json::from_str(l)?)).collect()
}

fn steps(answer: &Value) -> impl Iterator<Item = &Value> {
    answer.get("because").and_then(Value::as_array).into_iter().flatten()
}

/// `KIND NAMESPACE/NAME FIELD`.
fn source(step: &Value) -> Option<String> {
    let text = |key: &str| step.get(key).and_then(Value::as_str);
    Some(format!("{} {}", text("object")?, text("field")?))
}

/// Object and field of the step that decided; it is the last one.
fn deciding(answer: &Value) -> Value {
    let last = steps(answer).filter(|s| s["outcome"] == "decides").last();
    last.and_then(source).map_or(Value::Null, Value::String)
}

/// Object and field of what nearly applied, without what decided.
fn near(answer: &Value) -> Value {
    let decided = deciding(answer);
    let misses = steps(answer).filter(|s| s["outcome"] == "miss").filter_map(source).map(Value::String);
    misses.filter(|m| *m != decided).collect()
}

fn chain(answer: &Value) -> String {
    let line = |step: &Value| {
        let text = |key: &str| step.get(key).and_then(Value::as_str).unwrap_or_default();
        let source = source(step).map_or(String::new(), |s| format!(" [{s}]"));
        format!("\n        {:10} {:8} {}{source}", text("claim"), text("outcome"), text("says"))
    };
    let lines: Vec<String> = steps(answer).map(line).collect();
    lines.concat()
}
