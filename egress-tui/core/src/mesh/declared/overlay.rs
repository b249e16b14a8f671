//! Overlays of an `IstioOperator`: paths into a manifest, and what is to stand there (Istio: `operator/pkg/tpath`, `pkg/util/path`).

use serde_json::{Map, Value};

/// One step of a path.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// A key of an object.
    Key(String),
    /// A place in a list; `None` is behind its end (`[-1]`).
    Index(Option<usize>),
    /// The item of a list whose key has this value; without a key the item itself.
    Item(Option<String>, String),
}

/// `spec.ports.[name:http].port`, `spec.ports[0]`, `metadata.annotations.a\.b`.
fn parts(path: &str) -> Option<Vec<Part>> {
    let mut out = Vec::new();
    let mut word = String::new();
    let mut letters = path.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => word.extend(letters.next()),
            '.' | '[' => {
                if !word.is_empty() {
                    out.push(Part::Key(std::mem::take(&mut word)));
                }
                if letter == '[' {
                    let mut inner = String::new();
                    loop {
                        match letters.next()? {
                            ']' => break,
                            c => inner.push(c),
                        }
                    }
                    out.push(match inner.split_once(':') {
                        Some(("", value)) => Part::Item(None, value.to_owned()),
                        Some((key, value)) => Part::Item(Some(key.to_owned()), value.to_owned()),
                        None if inner == "-1" => Part::Index(None),
                        None => Part::Index(Some(inner.parse().ok()?)),
                    });
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        out.push(Part::Key(word));
    }
    (!out.is_empty()).then_some(out)
}

/// Sets what stands at the path, or takes it away (`value` is null). `false`: there is no such place.
pub(crate) fn patch(manifest: &mut Value, path: &str, value: &Value) -> bool {
    let Some(parts) = parts(path) else { return false };
    let Some((end, way)) = parts.split_last() else { return false };
    let mut here = manifest;
    for part in way {
        let Some(next) = step(here, part) else { return false };
        here = next;
    }
    match end {
        Part::Key(key) => {
            let Some(object) = as_object(here) else { return false };
            if value.is_null() {
                object.remove(key);
            } else {
                object.insert(key.clone(), value.clone());
            }
            true
        }
        Part::Index(_) | Part::Item(..) => {
            if here.is_null() {
                *here = Value::Array(Vec::new());
            }
            let Some(list) = here.as_array_mut() else { return false };
            let place = place(list, end);
            match (place, value.is_null()) {
                (Some(place), true) => {
                    list.remove(place);
                }
                (Some(place), false) => list[place] = value.clone(),
                (None, false) if *end == Part::Index(None) => list.push(value.clone()),
                (None, _) => return false,
            }
            true
        }
    }
}

fn step<'v>(here: &'v mut Value, part: &Part) -> Option<&'v mut Value> {
    match part {
        Part::Key(key) => Some(as_object(here)?.entry(key.clone()).or_insert(Value::Null)),
        part => {
            let list = here.as_array_mut()?;
            let place = place(list, part)?;
            list.get_mut(place)
        }
    }
}

fn as_object(here: &mut Value) -> Option<&mut Map<String, Value>> {
    if here.is_null() {
        *here = Value::Object(Map::new());
    }
    here.as_object_mut()
}

fn place(list: &[Value], part: &Part) -> Option<usize> {
    let is = |v: &Value, wanted: &str| match v {
        Value::String(text) => text == wanted,
        Value::Number(number) => number.to_string() == wanted,
        Value::Bool(value) => value.to_string() == wanted,
        _ => false,
    };
    match part {
        Part::Index(Some(n)) => (*n < list.len()).then_some(*n),
        Part::Item(Some(key), wanted) => list.iter().position(|v| v.get(key).is_some_and(|v| is(v, wanted))),
        Part::Item(None, wanted) => list.iter().position(|v| is(v, wanted)),
        Part::Key(_) | Part::Index(None) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(path: &str, value: &Value) -> (bool, Value) {
        let mut manifest = json!({"spec": {"ports": [{"name": "http", "port": 80}, {"name": "tls", "port": 443}]}});
        let done = patch(&mut manifest, path, value);
        (done, manifest)
    }

    #[test]
    fn items_are_found_by_a_key_by_place_and_behind_the_end() {
        assert_eq!(patched("spec.ports.[name:tls].port", &json!(8443)).1["spec"]["ports"][1]["port"], 8443);
        assert_eq!(patched("spec.ports[0].targetPort", &json!(8080)).1["spec"]["ports"][0]["targetPort"], 8080);
        assert_eq!(patched("spec.ports.[port:80].name", &json!("web")).1["spec"]["ports"][0]["name"], "web");
        assert_eq!(patched("spec.ports[-1]", &json!({"port": 1})).1["spec"]["ports"][2]["port"], 1);
    }

    #[test]
    fn keys_are_made_and_null_takes_away() {
        let (done, manifest) = patched("metadata.annotations.example\\.com/a", &json!("b"));
        assert!(done);
        assert_eq!(manifest["metadata"]["annotations"]["example.com/a"], "b");
        assert_eq!(patched("spec.ports[1]", &Value::Null).1["spec"]["ports"], json!([{"name": "http", "port": 80}]));
        assert_eq!(patched("spec.ports", &Value::Null).1, json!({"spec": {}}));
    }

    #[test]
    fn what_leads_nowhere_changes_nothing() {
        for path in
            ["", ".", "spec.ports[7].port", "spec.ports[x]", "spec.ports[name:none].port", "spec[0]", "spec.ports["]
        {
            assert!(!patched(path, &json!(1)).0, "{path}");
        }
    }
}
