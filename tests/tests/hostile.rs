//! Bytes from the network, from processes and from objects that mean harm: whatever the program prints, it steers no
//! terminal, runs in no spreadsheet, and is cut where it has no end.

use std::path::Path;

use egress_core::input::Input;
use egress_core::manifest::parse;
use egress_core::mesh::{Mesh, MeshOptions};
use egress_core::recording::{Played, Player, Reader, Recorder};
use egress_tests::program;
use egress_tui::cmd::demo::DWH_STATIC_TCP;
use serde_json::Value;

/// Clears the screen, sets the clipboard, turns the writing round, begins a formula.
const NASTY: &str = "=cmd|'/c calc'!A0\u{1b}[2J\u{1b}]52;c;b3duZWQ=\u{7}\u{9b}31m\u{202e}gnp.exe\u{200b}\u{2066}\r\n\t";

/// 64 KiB of it.
fn endless() -> String {
    NASTY.repeat(64 * 1024 / NASTY.len() + 1)
}

fn is_hostile(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The objects of the demo's lab; annotations, labels and names say what they should not.
fn objects() -> String {
    let folder = program::repository().join("tests/lab/dwh-static-tcp/mesh");
    let mut text = String::new();
    for file in ["1-published.yaml", "2-added.yaml", "3-pods.yaml"] {
        text.push_str(&std::fs::read_to_string(folder.join(file)).expect("the scenario"));
        text.push_str("\n---\n");
    }
    let quoted = serde_json::to_string(&endless()).expect("a string");
    // a key of YAML has 1024 bytes at most
    let key = serde_json::to_string(NASTY).expect("a string");
    text.replace("    app: web\n", &format!("    app: {quoted}\n    {key}: {quoted}\n"))
        .replace("image: registry.example/web:1", &format!("image: {quoted}"))
        .replace(
            "direct-static-dwh-connection-through-egress-gateway",
            &NASTY.replace(['\r', '\n', '\t', ' ', '\'', '\u{7}', '\u{1b}'], ""),
        )
        .replace("excludeOutboundPorts: \"1433\"", &format!("excludeOutboundPorts: {quoted}"))
}

/// The demo, with every process and host renamed.
fn tape(into: &Path) {
    let mut reader = Reader::default();
    reader.push(DWH_STATIC_TCP);
    let mut entries = Vec::new();
    while let Ok(Some(more)) = reader.frame() {
        entries.extend(more);
    }
    let start = reader.start().expect("the demo says where it comes from").clone();
    let (mut player, mut recorder) = (Player::new(&start, 0, None), Recorder::new(start));
    let steer = |bytes: &mut [u8]| {
        for name in [&b"emarsyscdi"[..], b"paste", b"ledger"] {
            let found: Vec<_> =
                (0..bytes.len().saturating_sub(name.len())).filter(|at| bytes[*at..].starts_with(name)).collect();
            for at in found {
                bytes[at..at + 5].copy_from_slice(b"=\x1b[2J");
            }
        }
    };
    for entry in entries {
        let input = match player.play(entry) {
            Played::Input(Input::Process { tgid, cgroup, .. }) => {
                Input::Process { tgid, cgroup, comm: Some(endless().into()) }
            }
            Played::Input(Input::Payload(mut payload)) => {
                steer(&mut payload.bytes);
                Input::Payload(payload)
            }
            Played::Input(Input::Dns { at, cookie, mut message }) => {
                steer(&mut message);
                Input::Dns { at, cookie, message }
            }
            Played::Input(other) => other,
            Played::Mesh(change) => {
                let mesh = Mesh::compile(&parse("mesh/hostile.yaml", &objects()).objects, &MeshOptions::default());
                Input::Mesh { at: change.at, source: change.source, mesh: mesh.into() }
            }
            Played::Nothing => continue,
        };
        recorder.note(&input);
    }
    std::fs::write(into, [recorder.take(), recorder.end()].concat()).expect("writable");
}

/// What one verb prints on both streams; it may not die of it.
fn printed(arguments: &[&str]) -> String {
    let output = program::run(arguments);
    assert!(
        matches!(output.status.code(), Some(0 | 1 | 5)),
        "{arguments:?}: {:?} {}",
        output.status,
        program::said(&output)
    );
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    let all = text.clone() + &program::said(&output);
    let found: Vec<_> = all.lines().filter(|line| line.chars().any(is_hostile)).collect();
    assert!(found.is_empty(), "{arguments:?} printed {:?}", found.first());
    text
}

#[test]
fn nothing_that_is_printed_steers_a_terminal_or_a_spreadsheet() {
    let folder = tempfile::tempdir().expect("a folder");
    let (tape_path, mesh_path) = (folder.path().join("tape.egr"), folder.path().join("mesh.yaml"));
    tape(&tape_path);
    std::fs::write(&mesh_path, objects()).expect("writable");
    let (tape, mesh) = (tape_path.to_str().expect("UTF-8"), mesh_path.to_str().expect("UTF-8"));

    let document: Value = serde_json::from_str(&printed(&["snapshot", "--replay", tape, "-o", "json"])).expect("JSON");
    let flows = document["flows"].as_array().expect("flows");
    let web =
        flows.iter().find(|f| f["source"]["pod"] == "web" && f["destination"]["port"] == 1433).expect("the pod web");
    assert!(web["destination"]["host"].as_str().is_some_and(|h| h.contains("windows.net")), "{}", web["destination"]);
    let longest = flows.iter().map(|f| f.to_string().len()).max();
    assert!(longest < Some(16 * 1024), "a flow of {longest:?} bytes: nothing cut it");

    printed(&["snapshot", "--replay", tape, "-o", "jsonl"]);
    let table = printed(&["snapshot", "--replay", tape, "-o", "csv"]);
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    for cell in reader.records().flat_map(|r| r.expect("CSV").iter().map(str::to_owned).collect::<Vec<_>>()) {
        assert!(!cell.starts_with(['=', '+', '-', '@']) || cell.parse::<f64>().is_ok(), "a formula: {cell}");
    }

    for arguments in [&["watch", "--replay", tape][..], &["watch", "--replay", tape, "-o", "jsonl"]] {
        let lines = printed(arguments);
        assert!(lines.lines().count() > 3, "{lines}");
        assert!(lines.lines().all(|line| line.len() < 8 * 1024), "a line without an end");
    }
    let id = web["id"].as_str().expect("an id");
    for form in ["text", "json"] {
        printed(&["explain", "--replay", tape, id, "-o", form]);
        printed(&[
            "explain",
            "--mesh",
            mesh,
            "--from",
            "cloud-platform/web",
            "--to",
            "emarsyscdi.database.windows.net:1433",
            "-o",
            form,
        ]);
    }
    printed(&["snapshot", "--replay", tape, "--filter", "reason:EXCLUDED_PORT"]);
}
