//! YAML and JSON text to raw objects, each with where it stands.
//!
//! Nothing is lost and nothing is fatal: a document that cannot be read becomes a [`Problem`] with file, line and column, and the
//! documents around it are read all the same. Lists (`List`, `kubectl get -o yaml`) are taken apart. Aliases and nesting are
//! bounded, so a hostile file costs at most [`MAX_NODES`] values.

use std::fmt;

use arcstr::ArcStr;
use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Number, Value};

use crate::id::ObjectRef;

/// Values per document, aliases expanded. Beyond it the document is a problem. The largest object that Kubernetes stores has
/// 1.5 MiB, so a `List` of a whole cluster is what this leaves room for.
pub const MAX_NODES: usize = 20_000_000;

/// Values that aliases may add to a document.
const MAX_ALIASED: usize = 100_000;

/// Nesting of a document. Custom resource definitions, the deepest objects in practice, stay below 100.
const MAX_DEPTH: usize = 200;

/// Where an object stands.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// Path of the file as it was given.
    pub file: ArcStr,
    /// First line of the document, 1-based; 0 where there is no file.
    pub line: u32,
    /// The text of the document.
    pub text: ArcStr,
    /// Its place in the `items` of a list.
    pub item: Option<u32>,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// An object as it was written.
#[derive(Debug, Clone)]
pub struct RawObject {
    /// Its content.
    pub value: Value,
    /// Where it stands.
    pub origin: Origin,
}

/// Something that could not be used, or only in part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The object, where it is known.
    pub object: Option<ObjectRef>,
    /// Path of the field; empty for a whole document.
    pub field: ArcStr,
    /// File.
    pub file: ArcStr,
    /// Line in the file, 1-based; 0 where it is not known.
    pub line: u32,
    /// Column, 1-based; 0 where it is not known.
    pub column: u32,
    /// What is wrong.
    pub says: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) if self.file.is_empty() => {}
            (0, _) => write!(f, "{}: ", self.file)?,
            (line, 0) => write!(f, "{}:{line}: ", self.file)?,
            (line, column) => write!(f, "{}:{line}:{column}: ", self.file)?,
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.says)
    }
}

/// What a file holds.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    /// Its objects, in order.
    pub objects: Vec<RawObject>,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

/// Reads a file.
pub fn parse(file: &str, text: &str) -> Manifest {
    let mut manifest = Manifest::default();
    let file = ArcStr::from(file);
    for (line, document) in documents(text) {
        take_document(Origin { file: file.clone(), line, text: document.into(), item: None }, &mut manifest);
    }
    manifest
}

/// Reads one document of a file, as [`Origin::text`] holds it, that began at `line`.
pub fn parse_document(file: &ArcStr, line: u32, text: &str) -> Manifest {
    let mut manifest = Manifest::default();
    take_document(Origin { file: file.clone(), line, text: text.into(), item: None }, &mut manifest);
    manifest
}

fn take_document(origin: Origin, manifest: &mut Manifest) {
    match read(&origin.text) {
        Ok(tree) => {
            for (at, says) in tree.notes {
                manifest.problems.push(problem(&origin, at, says));
            }
            if let Some(value) = tree.value {
                take_apart(value, origin, manifest);
            }
        }
        Err((at, says)) => manifest.problems.push(problem(&origin, at, says)),
    }
}

/// The line of a field in the file, or of the nearest field above it that exists. `path` is spelled `.spec.hosts[0]`.
pub fn field_line(origin: &Origin, path: &str) -> Option<u32> {
    let mut want: Vec<String> = Vec::new();
    if let Some(item) = origin.item {
        want.push("items".to_owned());
        want.push(item.to_string());
    }
    want.extend(segments(path));
    if let Some(text) = of_api(origin) {
        return locate(&text, &want);
    }
    locate(&origin.text, &want).map(|line| origin.line + line - 1)
}

/// The object that stands at an origin.
pub(crate) fn read_again(origin: &Origin) -> Option<RawObject> {
    let read = parse_document(&origin.file, origin.line, &origin.text);
    let RawObject { value, .. } = read.objects.into_iter().find(|o| o.origin.item == origin.item)?;
    Some(RawObject { value, origin: origin.clone() })
}

/// An object that no file holds, as YAML: an API sends JSON without line breaks.
fn of_api(origin: &Origin) -> Option<String> {
    if !origin.file.is_empty() || origin.line > 0 || !origin.text.starts_with('{') {
        return None;
    }
    let value: Value = serde_json::from_str(&origin.text).ok()?;
    Some(crate::yaml::write(&value))
}

/// The text of one object: the whole document, or its part of a list, with the line where it begins.
pub fn object_text(origin: &Origin) -> (String, u32) {
    if let Some(text) = of_api(origin) {
        return (text, 1);
    }
    let Some(item) = origin.item else { return (origin.text.to_string(), origin.line) };
    let first = locate(&origin.text, &["items".to_owned(), item.to_string()]).unwrap_or(1) as usize;
    let next = locate(&origin.text, &["items".to_owned(), (item + 1).to_string()]).map(|l| l as usize);
    let next = next.filter(|n| *n > first);
    let lines: Vec<&str> = origin.text.lines().skip(first - 1).take(next.map_or(usize::MAX, |n| n - first)).collect();
    (lines.join("\n"), origin.line + first as u32 - 1)
}

fn problem(origin: &Origin, (line, column): (u32, u32), says: String) -> Problem {
    Problem {
        object: guess(&origin.text),
        field: ArcStr::new(),
        file: origin.file.clone(),
        line: origin.line + line.max(1) - 1,
        column,
        says,
    }
}

/// Which object a broken document is about, from its plain lines.
fn guess(text: &str) -> Option<ObjectRef> {
    let find = |prefix: &str| {
        let line = text.lines().find(|l| l.starts_with(prefix))?;
        let value = line[prefix.len()..].split('#').next()?.trim().trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| value.to_owned())
    };
    Some(ObjectRef::new(find("kind:")?, find("  namespace:").unwrap_or_default(), find("  name:").unwrap_or_default()))
}

/// Splits at document markers, which no scalar may hold at the beginning of a line (YAML 1.2.2 §9.1.2).
fn documents(text: &str) -> impl Iterator<Item = (u32, &str)> {
    let mut starts = vec![(0, 1)];
    let mut at = 0;
    for (n, line) in text.split_inclusive('\n').enumerate() {
        if line.strip_prefix("---").is_some_and(|rest| rest.trim_start() != rest || rest.is_empty()) && at > 0 {
            starts.push((at, n as u32 + 1));
        }
        at += line.len();
    }
    let ends: Vec<usize> = starts.iter().skip(1).map(|(at, _)| *at).chain([text.len()]).collect();
    starts.into_iter().zip(ends).filter_map(move |((from, line), to)| {
        let part = &text[from..to];
        let filled = |l: &str| {
            let l = l.strip_prefix("---").unwrap_or(l).trim();
            !l.is_empty() && !l.starts_with('#') && !l.starts_with('%') && l != "..."
        };
        part.lines().any(filled).then_some((line, part))
    })
}

fn take_apart(value: Value, origin: Origin, manifest: &mut Manifest) {
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
    if !kind.ends_with("List") || value.get("items").is_none_or(|i| !i.is_array()) || origin.item.is_some() {
        if value.is_object() {
            manifest.objects.push(RawObject { value, origin });
        } else {
            manifest.problems.push(problem(&origin, (1, 0), "not an object".to_owned()));
        }
        return;
    }
    let Value::Object(mut map) = value else { return };
    let Some(Value::Array(items)) = map.remove("items") else { return };
    // a typed list (PodList) leaves kind and version off its items in some clients
    let inner =
        map.get("kind").and_then(Value::as_str).and_then(|k| k.strip_suffix("List")).unwrap_or_default().to_owned();
    let version = map.remove("apiVersion");
    for (n, mut item) in items.into_iter().enumerate() {
        if let (Value::Object(o), false) = (&mut item, inner.is_empty()) {
            o.entry("kind").or_insert_with(|| Value::String(inner.clone()));
            if let Some(v) = &version {
                o.entry("apiVersion").or_insert_with(|| v.clone());
            }
        }
        take_apart(item, Origin { item: Some(n as u32), ..origin.clone() }, manifest);
    }
}

type At = (u32, u32);

fn at(span: Span) -> At {
    (span.start.line() as u32, span.start.col() as u32 + 1)
}

struct Tree {
    value: Option<Value>,
    notes: Vec<(At, String)>,
}

enum Open {
    List(Vec<Value>),
    Fields { fields: Map<String, Value>, key: Option<String>, merged: Vec<Value> },
}

struct Frame {
    open: Open,
    anchor: usize,
}

/// Reads one document. The parser is driven event by event, so nesting costs memory of ours and never stack.
fn read(text: &str) -> Result<Tree, (At, String)> {
    let mut parser = Parser::new_from_str(text);
    let mut stack: Vec<Frame> = Vec::new();
    let mut anchors: Vec<(usize, Value, usize)> = Vec::new();
    let (mut nodes, mut aliased) = (0, 0);
    let mut tree = Tree { value: None, notes: Vec::new() };
    while let Some(event) = parser.next_event() {
        let (event, span) =
            event.map_err(|e| ((e.marker().line() as u32, e.marker().col() as u32 + 1), e.info().to_owned()))?;
        nodes += 1;
        if nodes + aliased > MAX_NODES {
            return Err((at(span), format!("more than {MAX_NODES} values")));
        }
        let done = match event {
            Event::SequenceStart(anchor, _) => {
                stack.push(Frame { open: Open::List(Vec::new()), anchor });
                None
            }
            Event::MappingStart(anchor, _) => {
                stack.push(Frame { open: Open::Fields { fields: Map::new(), key: None, merged: Vec::new() }, anchor });
                None
            }
            Event::SequenceEnd | Event::MappingEnd => stack.pop().map(|frame| (close(frame.open), frame.anchor)),
            Event::Scalar(text, style, anchor, tag) => {
                let string =
                    style != ScalarStyle::Plain || tag.is_some_and(|t| t.is_yaml_core_schema() && t.suffix == "str");
                Some((if string { Value::String(text.into_owned()) } else { plain(&text) }, anchor))
            }
            Event::Alias(id) => {
                let known = anchors.iter().rev().find(|(a, ..)| *a == id);
                let Some((_, value, size)) = known else {
                    return Err((at(span), "alias of an anchor that is not closed yet".to_owned()));
                };
                aliased += size;
                if aliased > MAX_ALIASED {
                    return Err((at(span), format!("aliases expand to more than {MAX_ALIASED} values")));
                }
                Some((value.clone(), 0))
            }
            Event::DocumentEnd if tree.value.is_some() => break,
            _ => None,
        };
        if stack.len() > MAX_DEPTH {
            return Err((at(span), format!("nested deeper than {MAX_DEPTH}")));
        }
        if let Some((value, anchor)) = done {
            if anchor > 0 {
                let size = size(&value);
                anchors.push((anchor, value.clone(), size));
            }
            place(value, span, &mut stack, &mut tree);
        }
    }
    Ok(tree)
}

fn place(value: Value, span: Span, stack: &mut [Frame], tree: &mut Tree) {
    match stack.last_mut().map(|f| &mut f.open) {
        None => {
            if !value.is_null() {
                tree.value = Some(value);
            }
        }
        Some(Open::List(items)) => items.push(value),
        Some(Open::Fields { fields, key, merged }) => match key.take() {
            None => {
                *key = Some(match value {
                    Value::String(text) => text,
                    Value::Null => "null".to_owned(),
                    Value::Bool(_) | Value::Number(_) => value.to_string(),
                    Value::Array(_) | Value::Object(_) => {
                        tree.notes.push((at(span), "a key that is not a scalar".to_owned()));
                        value.to_string()
                    }
                });
            }
            Some(key) if key == "<<" => merged.push(value),
            Some(key) => {
                if fields.contains_key(&key) {
                    tree.notes
                        .push((at(span), format!("the key {key:?} stands here a second time; the last one counts")));
                }
                fields.insert(key, value);
            }
        },
    }
}

fn close(open: Open) -> Value {
    match open {
        Open::List(items) => Value::Array(items),
        Open::Fields { mut fields, merged, .. } => {
            let sources = merged.into_iter().flat_map(|m| if let Value::Array(list) = m { list } else { vec![m] });
            for source in sources {
                if let Value::Object(source) = source {
                    for (key, value) in source {
                        fields.entry(key).or_insert(value);
                    }
                }
            }
            Value::Object(fields)
        }
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

/// A plain scalar by the core schema (YAML 1.2.2 §10.3.2).
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok().map(Number::from),
        None => match text.strip_prefix("0o") {
            Some(octal) => u64::from_str_radix(octal, 8).ok().map(Number::from),
            None => decimal(text),
        },
    };
    number.map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

fn decimal(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        let text = text.strip_prefix('+').unwrap_or(text);
        return text.parse::<u64>().map(Number::from).or_else(|_| text.parse::<i64>().map(Number::from)).ok();
    }
    if digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-')) {
        return text.parse::<f64>().ok().and_then(Number::from_f64);
    }
    None
}

/// `.spec.hosts[0]` as `spec`, `hosts`, `0`; a key with dots is written `["a.b/c"]`.
pub(crate) fn segments(path: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let Some((key, tail)) = quoted.split_once("\"]") else { break };
            out.push(key.to_owned());
            rest = tail;
        } else if let Some(index) = rest.strip_prefix('[') {
            let Some((index, tail)) = index.split_once(']') else { break };
            out.push(index.to_owned());
            rest = tail;
        } else {
            rest = if first == '.' { &rest[1..] } else { rest };
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            if end > 0 {
                out.push(rest[..end].to_owned());
            }
            rest = &rest[end..];
        }
    }
    out
}

enum Place {
    List(usize),
    Fields(Option<String>),
}

/// The line (1-based) of the deepest part of `want` that exists.
fn locate(text: &str, want: &[String]) -> Option<u32> {
    let mut parser = Parser::new_from_str(text);
    let mut stack: Vec<Place> = Vec::new();
    let mut best: Option<(usize, u32)> = None;
    let follows = |stack: &[Place]| {
        stack.len() <= want.len()
            && stack.iter().zip(want).all(|(place, want)| match place {
                Place::List(index) => want.parse() == Ok(*index),
                Place::Fields(key) => key.as_ref() == Some(want),
            })
    };
    let mut note = |stack: &[Place], line: u32| {
        if follows(stack) && best.is_none_or(|(depth, _)| stack.len() > depth) {
            best = Some((stack.len(), line));
        }
    };
    while let Some(Ok((event, span))) = parser.next_event() {
        let line = span.start.line() as u32;
        match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if let Some(Place::Fields(key @ None)) = stack.last_mut() {
                    *key = Some(String::new());
                }
                note(&stack, line);
                stack.push(if matches!(event, Event::SequenceStart(..)) {
                    Place::List(0)
                } else {
                    Place::Fields(None)
                });
                continue;
            }
            Event::Scalar(text, ..) => {
                if let Some(Place::Fields(key @ None)) = stack.last_mut() {
                    *key = Some(text.into_owned());
                    note(&stack, line);
                    continue;
                }
                note(&stack, line);
            }
            Event::Alias(_) => note(&stack, line),
            Event::SequenceEnd | Event::MappingEnd => {
                stack.pop();
            }
            Event::DocumentEnd => break,
            _ => continue,
        }
        match stack.last_mut() {
            Some(Place::List(index)) => *index += 1,
            Some(Place::Fields(key)) => *key = None,
            None => {}
        }
    }
    best.map(|(_, line)| line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn documents_and_lists_are_taken_apart_with_their_lines() {
        let text = "# head\n---\nkind: A\nmetadata: {name: a}\n---\n\n---\nkind: List\nitems:\n- kind: B\n  spec:\n    hosts:\n    - x\n    - y\n- kind: C\n";
        let m = parse("f.yaml", text);
        let kinds: Vec<_> = m.objects.iter().map(|o| o.value["kind"].as_str().unwrap_or("").to_owned()).collect();
        assert_eq!(kinds, ["A", "B", "C"]);
        assert_eq!(m.objects[0].origin.line, 2);
        assert_eq!(field_line(&m.objects[1].origin, ".spec.hosts[1]"), Some(14));
        assert_eq!(field_line(&m.objects[1].origin, ".spec.hosts[7]"), Some(12));
        assert_eq!(
            object_text(&m.objects[1].origin),
            ("- kind: B\n  spec:\n    hosts:\n    - x\n    - y".to_owned(), 10)
        );
        assert!(m.problems.is_empty(), "{:?}", m.problems);
    }

    #[test]
    fn a_broken_document_is_a_problem_and_its_neighbours_are_read() {
        let text =
            "kind: A\n---\nkind: ServiceEntry\nmetadata:\n  name: x\n  namespace: n\nspec: {hosts: [a\n---\nkind: B\n";
        let m = parse("f.yaml", text);
        assert_eq!(m.objects.len(), 2);
        assert_eq!(m.problems.len(), 1);
        assert!(m.problems[0].line >= 3, "{}", m.problems[0]);
        assert_eq!(m.problems[0].object, Some(ObjectRef::new("ServiceEntry", "n", "x")));
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        let m = parse(
            "f",
            "a: 1\nb: '1'\nc: true\nd: on\ne: 2024-01-01T00:00:00Z\nf: 1.5\ng: ~\nh: 0x10\ni: 10.0.0.1\nj: -\u{33}\n",
        );
        let v = &m.objects[0].value;
        let want = serde_json::json!({"a":1,"b":"1","c":true,"d":"on","e":"2024-01-01T00:00:00Z","f":1.5,"g":null,"h":16,"i":"10.0.0.1","j":-3});
        assert_eq!(*v, want);
    }

    #[test]
    fn anchors_merge_and_alias_bombs_are_refused() {
        let m = parse("f", "x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\n");
        assert_eq!(m.objects[0].value["y"], serde_json::json!({"b": 3, "a": 1}));
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..10 {
            let list = vec![format!("*a{}", i - 1); 10].join(",");
            let line = format!("a{i}: &a{i} [{list}]\n");
            bomb.push_str(&line);
        }
        let m = parse("f", &bomb);
        assert!(m.objects.is_empty() && m.problems[0].says.contains("aliases"), "{:?}", m.problems);
    }

    #[test]
    fn deep_nesting_is_refused_without_using_the_stack() {
        let m = parse("f", &"[".repeat(100_000));
        assert!(m.objects.is_empty() && m.problems.len() == 1);
        let m = parse("f", &format!("{}1{}", "{\"a\":".repeat(5000), "}".repeat(5000)));
        assert!(m.objects.is_empty() && m.problems.len() == 1);
    }

    #[test]
    fn duplicate_keys_are_told_and_the_last_one_counts() {
        let m = parse("f.yaml", "kind: A\nspec: 1\nspec: 2\n");
        assert_eq!(m.objects[0].value["spec"], 2);
        assert_eq!((m.problems[0].line, m.problems.len()), (3, 1));
    }

    #[test]
    fn paths_with_quoted_keys_are_found() {
        let m = parse("f", "metadata:\n  annotations:\n    a.b/c: x\n");
        assert_eq!(field_line(&m.objects[0].origin, ".metadata.annotations[\"a.b/c\"]"), Some(3));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,400}") {
            let m = parse("f", &text);
            for o in &m.objects { let _ = (object_text(&o.origin), field_line(&o.origin, ".spec.x[0]")); }
        }

        #[test]
        fn mutated_manifests_are_read_or_refused(cut in 0usize..300, insert in "[\\[\\]{}:,&*'\"\n -]{0,6}") {
            let base = "apiVersion: v1\nkind: List\nitems:\n- kind: A\n  metadata: {name: a, labels: {\"x\": \"y\"}}\n  spec:\n    hosts: [a, b]\n    text: |\n      one\n      two\n- kind: B\n";
            let cut = cut.min(base.len());
            let text = format!("{}{}{}", &base[..cut], insert, &base[cut..]);
            let m = parse("f", &text);
            for o in &m.objects { let _ = (object_text(&o.origin), field_line(&o.origin, ".spec.hosts[1]")); }
        }
    }
}
