//! What must hold of any mesh: the order of its objects does not matter, an edit is the same as compiling anew, and nothing that
//! stands in an object or a call can end the program or reach a chain raw.

use std::collections::BTreeMap;
use std::path::Path;

use egress_core::id::ObjectRef;
use egress_core::manifest::{self, RawObject};
use egress_core::mesh::{Bytes, Change, Expected, Mesh, MeshOptions, PodIndex};
use egress_core::verdict::Step;
use egress_tests::scale::{self, Asked, Size};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use serde_json::Value;

/// Runs of each property: together they take some seconds.
fn runs(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None::<Box<FileFailurePersistence>>.map(|f| f as _),
        ..ProptestConfig::default()
    }
}

const SIZE: u32 = 60;

fn objects() -> Vec<RawObject> {
    let files = scale::files(Size::of(SIZE), 3);
    files.iter().flat_map(|(name, text)| manifest::parse(name, text).objects).collect()
}

fn compiled(objects: &[RawObject]) -> Mesh {
    Mesh::compile(objects, &MeshOptions::default())
}

/// Everything that a mesh says about a set of calls, and of itself.
fn answers(mesh: &Mesh) -> Vec<String> {
    let pods: Vec<PodIndex> = mesh.pods().collect();
    let mut out: Vec<String> = mesh.problems().iter().map(ToString::to_string).collect();
    out.push(format!("{} objects, {} pods, {}", mesh.object_count(), pods.len(), mesh.istio_version()));
    if pods.is_empty() {
        return out;
    }
    for asked in scale::calls(Size::of(SIZE), SIZE, &pods, 400, 5) {
        out.push(format!("{asked:?}: {:?}", mesh.expect(&asked.call())));
    }
    out
}

#[track_caller]
fn same(got: &Mesh, want: &Mesh) {
    for (got, want) in answers(got).iter().zip(&answers(want)) {
        assert_eq!(got, want);
    }
    assert_eq!(got.problems(), want.problems());
}

/// What makes two objects the same one.
fn identity(value: &Value) -> Option<(String, ObjectRef)> {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let group = text("/apiVersion").split_once('/').map_or("", |(group, _)| group);
    let namespace = match (text("/kind"), text("/metadata/namespace")) {
        ("Namespace" | "Node", _) => "",
        (_, "") => "default",
        (_, namespace) => namespace,
    };
    let named = !text("/metadata/name").is_empty();
    named.then(|| (group.to_owned(), ObjectRef::new(text("/kind"), namespace, text("/metadata/name"))))
}

/// Walks to some value inside of `value` and replaces it.
fn mutate(value: &mut Value, dice: &[u32], with: &Value) {
    let Some((roll, rest)) = dice.split_first() else { return replace(value, with) };
    let roll = *roll as usize;
    match value {
        Value::Array(items) if !items.is_empty() => {
            let n = roll % items.len();
            mutate(&mut items[n], rest, with);
        }
        Value::Object(fields) if !fields.is_empty() => {
            let n = roll % fields.len();
            fields.values_mut().skip(n).take(1).for_each(|inner| mutate(inner, rest, with));
        }
        _ => replace(value, with),
    }
}

fn replace(value: &mut Value, with: &Value) {
    *value = match (with, &*value) {
        // twice the same item, or one fewer
        (Value::Null, Value::Array(items)) => Value::Array(items.iter().chain(items).cloned().collect()),
        (Value::Bool(false), Value::Array(items)) => Value::Array(items.iter().skip(1).cloned().collect()),
        _ => with.clone(),
    };
}

/// Strings that somebody might write to do harm, and some that are nearly right.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("*".to_owned()),
        Just("*.".to_owned()),
        Just("*com".to_owned()),
        Just(".".to_owned()),
        Just("..".to_owned()),
        Just("/".to_owned()),
        Just("./*".to_owned()),
        Just("*/*".to_owned()),
        Just("~/*".to_owned()),
        Just("0.0.0.0/0".to_owned()),
        Just("::/0".to_owned()),
        Just("256.1.1.1/33".to_owned()),
        Just("[::1]:80".to_owned()),
        Just("a.example.com\u{1b}[31m".to_owned()),
        Just("a\u{202e}moc.elpmaxe".to_owned()),
        Just("a\u{200b}b\u{feff}".to_owned()),
        Just("line\nbreak\r\0".to_owned()),
        Just("пример.испытание".to_owned()),
        Just("x".repeat(64 * 1024)),
        Just("a.".repeat(32 * 1024)),
        Just("(".repeat(300)),
        Just("18446744073709551616".to_owned()),
        any::<String>(),
    ]
}

fn replacement() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(Value::from(f64::MAX)),
        (0u32..70_000).prop_map(Value::from),
        hostile().prop_map(Value::from),
        hostile().prop_map(|text| serde_json::json!([text])),
        hostile().prop_map(|text| serde_json::json!({text.clone(): text})),
        Just(serde_json::json!([])),
        Just(serde_json::json!({})),
        Just(serde_json::json!([null, 1, "a", [], {}])),
    ]
}

/// Objects as people and istiod's own tests wrote them: some of the oracle's meshes and a lab's.
fn real() -> Vec<RawObject> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut out = Vec::new();
    let mut folders = vec![root.join("lab/dwh-static-tcp/mesh"), root.join("oracle/cases")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "yaml") {
                files.push(path);
            }
        }
    }
    files.sort();
    for path in files.iter().step_by(4) {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        out.extend(manifest::parse("real.yaml", &text).objects);
    }
    assert!(out.len() > 100, "the folders of the tests are there");
    out
}

/// Texts of an answer that are for people.
fn said(expected: &Expected, out: &mut Vec<String>) {
    for step in &expected.because {
        out.push(step.says.to_string());
        out.extend(step.object.iter().map(ToString::to_string));
        out.extend(step.field.iter().map(ToString::to_string));
    }
    for miss in &expected.misses {
        out.extend([miss.says.to_string(), miss.object.to_string(), miss.field.to_string()]);
    }
    out.extend(expected.uncaptured.iter().map(|u| u.says.to_string()));
    out.extend(expected.cluster.iter().map(ToString::to_string));
    out.extend(expected.gateway.iter().map(ToString::to_string));
    for part in [&expected.leg2, &expected.then].into_iter().flatten() {
        said(part, out);
    }
}

/// A character that moves the cursor, turns the text round or cannot be seen.
fn is_raw(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[track_caller]
fn nothing_raw(mesh: &Mesh, calls: &[Asked]) {
    let mut texts: Vec<String> = mesh.problems().iter().map(ToString::to_string).collect();
    for asked in calls {
        said(&mesh.expect(&asked.call()), &mut texts);
    }
    let raw = texts.iter().find(|t| t.chars().any(is_raw));
    assert!(raw.is_none(), "{:?}", raw.map(|t| t.chars().take(300).collect::<String>()));
}

#[test]
fn the_order_of_objects_does_not_matter() {
    let want = compiled(&objects());
    let mut reversed = objects();
    reversed.reverse();
    same(&compiled(&reversed), &want);
    proptest!(runs(6), |(order in Just(objects()).prop_shuffle())| {
        same(&compiled(&order), &want);
    });
}

#[test]
fn what_is_taken_out_and_put_back_leaves_no_trace() {
    let want = compiled(&objects());
    let all = objects();
    proptest!(runs(12), |(n in 0..all.len())| {
        let (group, object) = identity(&all[n].value).expect("it has a name");
        let without = want.edited([Change::Remove { group: group.as_str().into(), object }]);
        prop_assert_eq!(without.object_count(), want.object_count() - 1);
        let back = without.edited([Change::Put(all[n].clone())]);
        same(&back, &want);
        same(&want.edited([Change::Put(all[n].clone())]), &want);
    });
}

#[test]
fn edits_are_the_same_as_compiling_anew() {
    let all = objects();
    let start = compiled(&all);
    let edits = proptest::collection::vec(
        (0..all.len(), 0u8..3, proptest::collection::vec(any::<u32>(), 2..7), replacement()),
        1..8,
    );
    proptest!(runs(24), |(edits in edits)| {
        let mut model: BTreeMap<String, RawObject> = BTreeMap::new();
        let key = |value: &Value| identity(value).map(|(g, o)| format!("{g} {o}"));
        for raw in &all {
            model.insert(key(&raw.value).expect("it has a name"), raw.clone());
        }
        let mut edited = start.edited([]);
        for (n, what, dice, with) in edits {
            let mut raw = all[n].clone();
            let (group, object) = identity(&raw.value).expect("it has a name");
            let key = key(&raw.value).expect("it has a name");
            if what == 0 {
                model.remove(&key);
                edited = edited.edited([Change::Remove { group: group.as_str().into(), object }]);
                continue;
            }
            for part in ["spec", "status", "data", "endpoints", "ports"] {
                if what == 1 && let Some(value) = raw.value.get_mut(part) {
                    mutate(value, &dice, &with);
                    break;
                }
            }
            model.insert(key, raw.clone());
            edited = edited.edited([Change::Put(raw)]);
        }
        same(&edited, &compiled(&model.into_values().collect::<Vec<_>>()));
    });
}

/// A cluster whose hosts come and go for weeks: the mesh forgets those that are gone, and its answers stay what they are.
#[test]
fn hosts_that_come_and_go_leave_no_trace() {
    let all = objects();
    let entry = |n: u32, host: &str| {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: passing-{n}, namespace: default}}\n\
             spec: {{hosts: [{host}], ports: [{{number: 443, name: tls, protocol: TLS}}], resolution: DNS}}\n"
        );
        manifest::parse("passing.yaml", &text).objects.remove(0)
    };
    let passing =
        |n: u32| (0..40).map(|k| entry(k, &format!("passing-{n}-{k}.example.com"))).collect::<Vec<RawObject>>();
    // those of the first day stand before the others, so that the others' places change when they are forgotten
    let mut mesh = compiled(&all.iter().cloned().chain(passing(0)).collect::<Vec<_>>());
    // far more than the mesh has hosts, so that what is gone is forgotten more than once
    for n in 0..40 {
        let many = passing(n);
        mesh = mesh.edited(many.iter().cloned().map(Change::Put));
        if n == 39 {
            let want = compiled(&all.iter().cloned().chain(many.clone()).collect::<Vec<_>>());
            same(&mesh, &want);
            let pod = mesh.pods().next().expect("it has pods");
            let asked = |host: &str| Asked {
                pod,
                to: "203.0.113.9:443".parse().expect("an address"),
                bytes: Bytes::Tls,
                sni: Some(host.into()),
                host: None,
            };
            for host in ["passing-39-7.example.com", "passing-38-7.example.com"] {
                let (got, want) = (mesh.expect(&asked(host).call()), want.expect(&asked(host).call()));
                assert_eq!(got, want, "{host}");
            }
        }
        mesh = mesh.edited(many.iter().filter_map(Change::remove));
    }
    same(&mesh, &compiled(&all));
}

/// A DestinationRule that stood there before its host was registered: once the host is, the rule is what its connections are dialled by.
#[test]
fn a_rule_that_waited_for_its_host_applies() {
    let object = |text: &str| manifest::parse("late.yaml", text).objects.remove(0);
    let rule = object(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: late, namespace: default}\n\
         spec: {host: late.example.com, trafficPolicy: {tls: {mode: SIMPLE, sni: front.example.com}}}\n",
    );
    let entry = object(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: late, namespace: default}\n\
         spec: {hosts: [late.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}\n",
    );
    let before: Vec<RawObject> = objects().into_iter().chain([rule]).collect();
    let all: Vec<RawObject> = before.iter().cloned().chain([entry.clone()]).collect();
    let (edited, want) = (compiled(&before).edited([Change::Put(entry)]), compiled(&all));
    // of a namespace whose proxies import everything
    let pod = want.pods().find(|p| {
        let call = late(*p);
        want.expect(&call.call()).cluster.is_some_and(|c| c.contains("late.example.com"))
    });
    let call = late(pod.expect("some pod imports it"));
    let (got, want) = (edited.expect(&call.call()), want.expect(&call.call()));
    assert_eq!(got, want);
    let named =
        |step: &Step| step.object.as_ref().is_some_and(|o| o.kind == "DestinationRule" && o.name.name == "late");
    assert!(got.because.iter().any(named), "{got:#?}");
}

fn late(pod: PodIndex) -> Asked {
    let to = "203.0.113.9:80".parse().expect("an address");
    Asked { pod, to, bytes: Bytes::Http, sni: None, host: Some("late.example.com".into()) }
}

#[test]
fn no_object_ends_the_program_or_reaches_a_chain_raw() {
    let all = real();
    let places =
        proptest::collection::vec((0..all.len(), proptest::collection::vec(any::<u32>(), 1..9), replacement()), 1..12);
    proptest!(runs(48), |(places in places, from in 0..all.len(), host in hostile())| {
        // a slice of the real objects, some of them broken
        let mut objects: Vec<RawObject> = all.iter().cycle().skip(from).take(60).cloned().collect();
        for (n, dice, with) in &places {
            let n = n % objects.len();
            mutate(&mut objects[n].value, dice, with);
        }
        let mesh = compiled(&objects);
        let pods: Vec<PodIndex> = mesh.pods().take(6).collect();
        let mut calls = Vec::new();
        for pod in pods {
            for (to, bytes) in [("10.96.0.50:443", Bytes::Tls), ("203.0.113.9:80", Bytes::Http), ("203.0.113.9:1433", Bytes::Opaque), ("203.0.113.9:443", Bytes::Unknown)] {
                let to = to.parse().expect("an address");
                calls.push(Asked { pod, to, bytes, sni: Some(host.clone()), host: Some(host.clone()) });
            }
        }
        nothing_raw(&mesh, &calls);
    });
}

#[test]
fn hostile_names_in_objects_and_calls_do_no_harm() {
    let files = scale::files(Size::of(20), 3);
    let all: Vec<RawObject> = files.iter().flat_map(|(name, text)| manifest::parse(name, text).objects).collect();
    proptest!(runs(32), |(names in proptest::collection::vec(hostile(), 4), from in any::<usize>())| {
        let mut objects = all.clone();
        for (n, name) in names.iter().enumerate() {
            for raw in objects.iter_mut().skip((from % 7) + n).step_by(9) {
                for pointer in ["/metadata/name", "/spec/hosts/0", "/spec/host", "/spec/egress/0/hosts/0", "/metadata/namespace", "/spec/ports/0/name"] {
                    if let Some(value) = raw.value.pointer_mut(pointer).filter(|_| (from + n).is_multiple_of(2)) {
                        *value = Value::from(name.as_str());
                    }
                }
            }
        }
        let mesh = compiled(&objects);
        let pods: Vec<PodIndex> = mesh.pods().collect();
        let mut calls = scale::calls(Size::of(20), 20, &pods, 40, 9);
        for (n, call) in calls.iter_mut().enumerate() {
            let name = names[n % names.len()].clone();
            match n % 3 {
                0 => call.sni = Some(name),
                1 => call.host = Some(name),
                _ => {}
            }
        }
        nothing_raw(&mesh, &calls);
    });
}
