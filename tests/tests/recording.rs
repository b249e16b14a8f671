//! Recordings: what is played is what was seen, whatever happened to the file in between.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use egress_core::id::{Nanos, WallTime};
use egress_core::input::Input;
use egress_core::ledger::{Ledger, Options};
use egress_core::manifest::{RawObject, parse};
use egress_core::mesh::{Change, Mesh, MeshOptions};
use egress_core::recording::{Damage, Entry, Objects, Played, Player, Reader, Recorder, Start, VERSION};
use egress_core::world::{ClusterState, MeshSource, World};
use egress_tests::program;
use egress_tui::cmd::demo::{DWH_STATIC_TCP, SCENES};
use egress_tui::out::snapshot::{Document, Items};
use serde_json::Value;

/// Frames of a file, and what ended them.
fn read(bytes: &[u8]) -> (Option<Start>, Vec<Entry>, Result<(), Damage>) {
    let mut reader = Reader::default();
    let entries = rest(&mut reader, bytes);
    (reader.start().cloned(), entries, reader.finish())
}

/// What a reader that stands somewhere in a file makes of the next bytes.
fn rest(reader: &mut Reader, bytes: &[u8]) -> Vec<Entry> {
    reader.push(bytes);
    let mut entries = Vec::new();
    while let Ok(Some(more)) = reader.frame() {
        entries.extend(more);
    }
    entries
}

fn start() -> Start {
    read(DWH_STATIC_TCP).0.expect("the demo says where it comes from")
}

fn inputs(entries: Vec<Entry>) -> Vec<Input> {
    let mut player = Player::new(&start(), 0, None);
    let mut mesh: Arc<Mesh> = Arc::default();
    let inputs = entries.into_iter().filter_map(|entry| match player.play(entry) {
        Played::Input(input) => Some(input),
        Played::Mesh(change) => {
            mesh = match change.objects {
                Objects::All(objects) => Mesh::compile(&objects, &MeshOptions::default()),
                Objects::Edits(edits) => mesh.edited(edits),
            }
            .into();
            let mesh = mesh.clone();
            Some(Input::Mesh { at: change.at, source: change.source, mesh })
        }
        Played::Nothing => None,
    });
    inputs.collect()
}

fn last_world(inputs: Vec<Input>) -> World {
    let mut ledger = Ledger::new(Options { node: start().node, replayed: true, ..Options::default() });
    for input in inputs {
        ledger.apply(input);
    }
    ledger.finish();
    ledger.world()
}

fn snapshot(inputs: Vec<Input>) -> Value {
    serde_json::to_value(Document::new(&last_world(inputs), Items::Flows, None)).expect("a document")
}

/// Two lists of entries say the same.
fn same(a: &[Entry], b: &[Entry]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| format!("{a:?}") == format!("{b:?}"))
}

#[test]
fn the_demo_holds_the_story_of_the_readme() {
    let (_, entries, end) = read(DWH_STATIC_TCP);
    assert_eq!(end, Ok(()));
    let world = last_world(inputs(entries));
    assert_eq!(world.coverage.lost_total(), 0);
    let verdict = |workload: &str| {
        let flow = world.flows.iter().find(|f| f.source.label() == workload && f.destination.port != 53);
        let flow = flow.unwrap_or_else(|| panic!("no flow of {workload}"));
        (flow.verdict().as_str(), flow.judgement.reason().code())
    };
    assert_eq!(verdict("cloud-platform/etl"), ("via-gateway", "ROUTED_VIA_GATEWAY"));
    assert_eq!(verdict("cloud-platform/web"), ("bypass", "SOURCE_LABELS"));
    assert_eq!(verdict("cloud-platform/etl-excluded"), ("bypass", "EXCLUDED_PORT"));
    assert_eq!(verdict("marketing/campaigns"), ("not-visible", "NOT_EXPORTED"));
}

#[test]
fn what_is_recorded_again_plays_the_same() {
    let (_, entries, _) = read(DWH_STATIC_TCP);
    let wanted = snapshot(inputs(entries.clone()));
    let mut recorder = Recorder::new(start());
    for input in inputs(entries.clone()) {
        recorder.note(&input);
    }
    let bytes = [recorder.take(), recorder.end()].concat();
    let (_, again, end) = read(&bytes);
    assert_eq!(end, Ok(()));
    assert!(same(&entries, &again), "the entries differ");
    assert_eq!(snapshot(inputs(again)), wanted);
}

#[test]
fn every_part_of_a_rotated_recording_can_be_judged_alone() {
    let (_, entries, _) = read(DWH_STATIC_TCP);
    let all = inputs(entries);
    let mut recorder = Recorder::new(start());
    let mut parts = Vec::new();
    let mut part = Vec::new();
    for (nth, input) in all.iter().enumerate() {
        recorder.note(input);
        part.extend(recorder.take());
        if nth % 2_000 == 1_999 {
            part.extend(recorder.rotate());
            parts.push(std::mem::take(&mut part));
        }
    }
    part.extend(recorder.end());
    parts.push(part);
    assert!(parts.len() > 2, "{} parts", parts.len());
    let mut joined = Vec::new();
    for (nth, part) in parts.iter().enumerate() {
        let (start, entries, end) = read(part);
        assert_eq!((start.map(|s| s.part), end), (Some(nth as u32), Ok(())));
        let world = last_world(inputs(entries.clone()));
        assert!(world.mesh.object_count() > 0 && !world.coverage.capture.hooks.is_empty(), "part {nth}");
        let nameless = world.flows.iter().filter(|f| f.source.pod.is_none()).count();
        assert_eq!(nameless, 0, "part {nth}: every socket has its pod");
        joined.extend(entries);
    }
    // Objects are compiled once more for each part, so only their generation differs.
    let (mut whole, mut by_parts) = (snapshot(all), snapshot(inputs(joined)));
    for document in [&mut whole, &mut by_parts] {
        document["coverage"]["mesh"] = Value::Null;
    }
    assert_eq!(by_parts, whole);
}

/// Whole frames before the cut are kept, the cut is told with its place.
#[test]
fn a_file_that_was_cut_anywhere_is_good_up_to_there() {
    let bytes = DWH_STATIC_TCP;
    let from = bytes.len().saturating_sub(64 << 10);
    let mut reader = Reader::default();
    let all = read(bytes).1.len();
    let mut last = rest(&mut reader, &bytes[..from]).len();
    for cut in from..bytes.len() {
        assert!(last <= all, "{cut}");
        match reader.finish() {
            Err(Damage::Cut { at }) => assert!(at <= cut as u64, "{cut}"),
            other => panic!("{cut}: {other:?}"),
        }
        last += rest(&mut reader, &bytes[cut..=cut]).len();
    }
    assert_eq!(reader.finish(), Ok(()));
    assert_eq!(last, all, "only the frame that closes the file stands behind the last entries");
}

/// Nothing after the flipped bit is believed, everything before it is.
#[test]
fn a_flipped_bit_is_noticed_where_it_is() {
    let bytes = DWH_STATIC_TCP;
    let all = read(bytes).1;
    for nth in 0..400 {
        let at = nth * (bytes.len() - 1) / 399;
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1 << (nth % 8);
        let (_, entries, end) = read(&damaged);
        let kept = entries.len();
        assert!(same(&entries, &all[..kept]), "byte {at}");
        match end {
            Err(Damage::Frame { at: good, .. } | Damage::Cut { at: good }) => assert!(good <= at as u64, "byte {at}"),
            Err(Damage::Foreign) => assert!(at < 8, "byte {at}"),
            Err(Damage::Newer(_)) => assert!((8..10).contains(&at), "byte {at}"),
            // An older version than the first: there is none, the bytes behind it decide.
            other => assert!((8..10).contains(&at), "byte {at}: {other:?}"),
        }
    }
}

/// Lengths that lie cost no memory.
#[test]
fn a_frame_that_says_it_is_huge_is_refused() {
    let mut bytes = DWH_STATIC_TCP[..10].to_vec();
    bytes.extend(u32::MAX.to_le_bytes());
    bytes.extend([2, 0, 0, 0, 0]);
    assert!(matches!(read(&bytes).2, Err(Damage::Frame { at: 10, .. })));
    let mut reader = Reader::default();
    let mut given = 0;
    for piece in DWH_STATIC_TCP.chunks(1_000) {
        assert!(reader.room() > 0);
        reader.push(piece);
        while let Ok(Some(entries)) = reader.frame() {
            given += entries.len();
        }
    }
    assert_eq!(given, read(DWH_STATIC_TCP).1.len(), "pieces of any size");
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("egress-tui-recording-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("a file");
        text(&path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn the_program_replays_and_says_what_is_missing() {
    let folder = Folder::new("replay");
    let whole = folder.file("whole.egr", DWH_STATIC_TCP);
    let cut = folder.file("cut.egr", &DWH_STATIC_TCP[..DWH_STATIC_TCP.len() - 20_000]);
    let run = |file: &str| program::run(&["snapshot", "--replay", file, "-o", "json"]);
    let (first, second) = (run(&whole), run(&whole));
    assert_eq!(first.status.code(), Some(0), "{}", program::said(&first));
    assert_eq!(first.stdout, second.stdout, "the same bytes");
    let told = run(&cut);
    assert_eq!(told.status.code(), Some(5));
    let document: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let what = document["incomplete"][0]["what"].as_str().expect("what is missing");
    assert!(what.contains("cut.egr") && what.contains("it was cut at byte"), "{what}");
    assert!(!document["flows"].as_array().expect("flows").is_empty());
}

#[test]
fn recordings_of_the_first_format_are_read_to_their_end() {
    for (name, bytes) in SCENES {
        assert_eq!(bytes[8..10], 1_u16.to_le_bytes(), "{name} was made before objects were recorded as edits");
        let (start, entries, end) = read(bytes);
        assert!(start.is_some() && end == Ok(()), "{name}: {end:?}");
        let world = last_world(inputs(entries));
        assert!(!world.flows.is_empty() && world.coverage.mesh_generation > 0, "{name}");
    }
    assert_eq!(VERSION, 2);
}

#[test]
fn files_that_cannot_be_played_are_told_apart() {
    let folder = Folder::new("bad");
    let mut newer = DWH_STATIC_TCP.to_vec();
    newer[8..10].copy_from_slice(&(VERSION + 1).to_le_bytes());
    for (name, bytes, says) in [
        ("newer.egr", newer.as_slice(), "written by a newer egress-tui"),
        ("foreign.egr", b"{\"flows\":[]}".as_slice(), "is no recording of egress-tui"),
        ("empty.egr", b"".as_slice(), "is no recording of egress-tui"),
        ("head.egr", &DWH_STATIC_TCP[..30], "it was cut at byte"),
    ] {
        let output = program::run(&["snapshot", "--replay", &folder.file(name, bytes)]);
        let said = program::said(&output);
        assert_eq!(output.status.code(), Some(4), "{name}: {said}");
        assert!(said.contains(name) && said.contains(says), "{said}");
    }
    let output = program::run(&["snapshot", "--replay", "/nonexistent.egr"]);
    assert_eq!(output.status.code(), Some(4), "{}", program::said(&output));
    let there = folder.file("there.egr", b"mine");
    let output = program::run(&["record", &there, "--duration", "0s"]);
    assert_eq!(output.status.code(), Some(2), "{}", program::said(&output));
    assert!(program::said(&output).contains("cannot create"), "{}", program::said(&output));
    assert_eq!(fs::read(&there).expect("still there"), b"mine");
}

/// Two nodes: identities of the kernel are told apart, each flow names its node.
#[test]
fn recordings_of_several_nodes_are_joined_on_the_clock() {
    let folder = Folder::new("nodes");
    let (_, entries, _) = read(DWH_STATIC_TCP);
    let mut recorder = Recorder::new(Start { node: "node-2".into(), ..start() });
    for input in inputs(entries) {
        recorder.note(&input);
    }
    let (one, two) = (folder.file("1.egr", DWH_STATIC_TCP), folder.file("2.egr", &recorder.end()));
    let run = |files: &[&str]| -> Value {
        let arguments: Vec<&str> =
            ["snapshot", "--each"].into_iter().chain(files.iter().flat_map(|f| ["--replay", *f])).collect();
        let output = program::run(&arguments);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", program::said(&output)))
    };
    let count = |document: &Value, node: &str| {
        let flows = document["flows"].as_array().expect("flows").iter();
        flows.filter(|f| f["source"]["node"] == node).map(|f| f["connections"].as_u64().expect("a number")).sum::<u64>()
    };
    let (alone, both) = (run(&[&one]), run(&[&two, &one]));
    assert_eq!(both["coverage"]["nodes"]["observed"], 2);
    assert!(count(&alone, "node-1") > 0);
    assert_eq!(count(&both, "node-1"), count(&alone, "node-1"));
    assert_eq!(count(&both, "node-2"), count(&alone, "node-1"));
}

/// What was seen is judged by other objects.
#[test]
fn a_recording_is_judged_anew_by_other_objects() {
    let folder = Folder::new("anew");
    let whole = folder.file("whole.egr", DWH_STATIC_TCP);
    let mesh = program::repository().join("tests/lab/dwh-static-tcp/mesh");
    let edited = folder.0.join("mesh");
    fs::create_dir_all(&edited).expect("a folder");
    let mut objects = String::new();
    let mut files: Vec<_> = fs::read_dir(mesh).expect("the scenario's objects").flatten().map(|e| e.path()).collect();
    files.sort();
    for file in files {
        objects.push_str(&fs::read_to_string(file).expect("text"));
        objects.push_str("\n---\n");
    }
    fs::write(edited.join("all.yaml"), objects.replace("kind: VirtualService", "kind: VirtualServiceNoMore"))
        .expect("a file");
    let verdicts = |more: &[&str]| -> Vec<String> {
        let arguments: Vec<&str> = ["snapshot", "--replay", &whole].into_iter().chain(more.iter().copied()).collect();
        let document: Value = serde_json::from_slice(&program::run(&arguments).stdout).expect("JSON");
        let flows = document["flows"].as_array().expect("flows").iter();
        flows.filter(|f| f["source"]["pod"] == "etl").map(|f| f["verdict"].to_string()).collect()
    };
    assert!(verdicts(&[]).contains(&"\"via-gateway\"".to_owned()));
    let anew = verdicts(&["--mesh", &text(&edited)]);
    assert!(!anew.is_empty() && !anew.contains(&"\"via-gateway\"".to_owned()), "{anew:?}");
}

fn tick(seconds: u64) -> Input {
    let nanos = seconds * 1_000_000_000;
    Input::Tick { now: Nanos(nanos), wall: WallTime(nanos.cast_signed()) }
}

fn object(name: &str, host: &str) -> RawObject {
    let text = format!(
        r#"{{"apiVersion":"networking.istio.io/v1","kind":"ServiceEntry","metadata":{{"name":"{name}","namespace":"n"}},"spec":{{"hosts":["{host}"]}}}}"#
    );
    parse("", &text).objects.remove(0)
}

#[test]
fn changes_of_objects_cost_what_changed_and_are_played_as_they_were() {
    let source = || MeshSource { kind: "cluster".into(), objects: 100, ..MeshSource::default() };
    let first = Mesh::compile(
        &(0..100).map(|n| object(&format!("e{n}"), "a.example")).collect::<Vec<_>>(),
        &MeshOptions::default(),
    );
    let remove = Change::remove(&object("e2", "")).expect("it has a name");
    let second = first.edited([Change::Put(object("e1", "b.example")), remove]);
    let state = ClusterState { name: "c".into(), stale: Some((WallTime(5), "refused".into())), gaps: Vec::new() };
    let mut recorder = Recorder::new(start());
    for input in [
        tick(1),
        Input::Mesh { at: Nanos(1), source: source(), mesh: first.into() },
        tick(2),
        Input::Cluster(state.clone()),
        Input::Mesh { at: Nanos(2), source: source(), mesh: second.into() },
        tick(3),
    ] {
        recorder.note(&input);
    }
    let mut bytes = recorder.take();
    bytes.extend(recorder.end());
    let (_, entries, end) = read(&bytes);
    assert_eq!(end, Ok(()));
    let edits: Vec<(usize, usize)> = entries
        .iter()
        .filter_map(|e| match e {
            Entry::MeshEdit { gone, put, .. } => Some((gone.len(), put.len())),
            _ => None,
        })
        .collect();
    // e1 as it was and e2 go, e1 as it is comes.
    assert_eq!(edits, [(2, 1)]);
    let world = last_world(inputs(entries));
    assert_eq!(world.coverage.cluster, Some(state));
    let told: Vec<String> = world.changes.iter().map(|c| c.told(world.now)).collect();
    assert_eq!(told, ["changed 1 s ago: ServiceEntry n/e1 .spec.hosts[0]", "removed 1 s ago: ServiceEntry n/e2"]);
}
