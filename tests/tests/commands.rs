//! The command line as scripts meet it: what bad input gets, which exit code, and that every surface says the same.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up must fail")]
#![expect(clippy::print_stderr, reason = "a test that was skipped says so")]

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Output;

use egress_tests::program::{self, command, repository, run, said};
use serde_json::Value;

const MESH: &str = "tests/lab/dwh-static-tcp/mesh";

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn calls(lines: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), lines).unwrap();
    file
}

fn explain(mesh: &str, lines: &str) -> (Output, Vec<Value>) {
    let file = calls(lines);
    let output = run(&["explain", "--mesh", mesh, "--calls", file.path().to_str().unwrap(), "-o", "jsonl"]);
    let answers = String::from_utf8(output.stdout.clone()).unwrap();
    let answers = answers.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    (output, answers)
}

#[test]
fn console_blocks_of_the_readme_are_true() {
    // As a reader would: from the top of the repository.
    std::env::set_current_dir(repository()).unwrap();
    trycmd::TestCases::new()
        .register_bin("egress-tui", egress_tests::program::path())
        .case(repository().join("README.md"))
        .run();
}

#[test]
fn explain_answers_one_line_per_line_in_order() {
    let (output, answers) = explain(
        MESH,
        r#"{"id":"b","from":"cloud-platform/etl","to":"203.0.113.10:1433","payload":"tls","sni":"emarsyscdi.database.windows.net"}
{"id":"a","from":"cloud-platform/web","to":"203.0.113.10:1433","payload":"opaque"}
"#,
    );
    assert_eq!(code(&output), 0, "{}", said(&output));
    assert_eq!((answers[0]["id"].as_str(), answers[1]["id"].as_str()), (Some("b"), Some("a")));
    assert_eq!(answers[0]["outcome"], "via-gateway");
    assert_eq!(answers[0]["verdict"], "via-gateway");
    assert_eq!(answers[0]["reason"], "ROUTED_VIA_GATEWAY");
    assert_eq!(answers[0]["leg2"]["outcome"], "direct");
    assert_eq!(
        (answers[1]["verdict"].as_str(), answers[1]["reason"].as_str()),
        (Some("bypass"), Some("SOURCE_LABELS"))
    );
    let because = answers[1]["because"].as_array().unwrap();
    let decides = because.iter().find(|s| s["outcome"] == "decides").unwrap();
    assert_eq!(decides["field"], ".spec.tcp[0].match[0].sourceLabels");
}

#[test]
fn a_bad_call_is_answered_in_its_place() {
    let (output, answers) = explain(
        MESH,
        r#"{"id":"a","from":"cloud-platform/nobody","to":"203.0.113.10:1433","payload":"tls"}
not json
{"id":"c","from":"cloud-platform/etl","to":"203.0.113.10:1433","payload":"telepathy"}
{"id":"d","from":"cloud-platform/etl","to":"203.0.113.10:1433","payload":"opaque"}
"#,
    );
    assert_eq!(code(&output), 5);
    assert_eq!(answers.len(), 4);
    assert!(answers[0]["error"].as_str().unwrap().contains("cloud-platform/nobody"), "{}", answers[0]);
    assert!(answers[1]["error"].is_string());
    assert!(answers[2]["error"].as_str().unwrap().contains("opaque"), "names the words that are valid: {}", answers[2]);
    assert_eq!(answers[3]["outcome"], "via-gateway");
}

#[test]
fn a_malformed_document_is_told_with_its_place_and_costs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(repository().join(MESH)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    fs::write(folder.path().join("9-broken.yaml"), "kind: ServiceEntry\nmetadata: {name: x\n  namespace: [\n").unwrap();
    let line = r#"{"id":"a","from":"cloud-platform/etl","to":"203.0.113.10:1433","payload":"opaque"}"#;
    let (output, answers) = explain(folder.path().to_str().unwrap(), line);
    assert_eq!(answers[0]["outcome"], "via-gateway");
    assert!(said(&output).contains("9-broken.yaml:"), "names file and line: {}", said(&output));
}

#[test]
fn a_missing_folder_is_exit_code_4_and_named() {
    let file = calls("{}\n");
    let output = run(&["explain", "--mesh", "/no/such/folder", "--calls", file.path().to_str().unwrap()]);
    assert_eq!(code(&output), 4);
    assert!(said(&output).contains("/no/such/folder"));
}

#[test]
fn wrong_usage_is_exit_code_2_with_the_nearest_valid_word() {
    for (arguments, hint) in [
        (&["snapshot", "--durration", "1s"][..], "--duration"),
        (&["snapshott"], "snapshot"),
        (&["snapshot", "--duration", "soon"], "10s"),
        (&["snapshot", "--ring-bytes", "5000"], "power of two"),
        (&["snapshot", "-o", "xml"], "jsonl"),
        (&["explain", "--code", "SOURCE_LABEL"], "SOURCE_LABELS"),
        (&["explain"], "--calls"),
        (&["snapshot", "--mesh", MESH, "--istiod-env", "NO_SUCH_SWITCH=true"], "PILOT_"),
    ] {
        let output = run(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(hint), "{arguments:?}: {}", said(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn the_dashboard_needs_a_terminal_and_says_what_does_not() {
    let output = run(&["top", "--mesh", MESH]);
    assert_eq!(code(&output), 2);
    assert!(said(&output).contains("egress-tui snapshot"), "{}", said(&output));
}

#[test]
fn the_schema_is_valid_and_describes_what_is_printed() {
    let output = run(&["snapshot", "--schema"]);
    assert_eq!(code(&output), 0);
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    jsonschema::meta::validate(&schema).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(schema["properties"]["schema"]["const"], "egress-tui.snapshot/v1");
}

/// uid and gid of nobody: no capability is left.
const NOBODY: u32 = 65_534;

#[test]
fn without_rights_a_snapshot_is_exit_code_3_and_says_what_is_missing() {
    if !rustix::process::geteuid().is_root() {
        // Then the rights are missing already.
        let output = run(&["snapshot", "--mesh", MESH, "--duration", "1s"]);
        assert_eq!(code(&output), 3, "{}", said(&output));
        return;
    }
    // The repository may lie where nobody can look: program and objects go to a place of their own.
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let program = folder.path().join("egress-tui");
    fs::copy(egress_tests::program::path(), &program).unwrap();
    let mesh = folder.path().join("mesh");
    fs::create_dir(&mesh).unwrap();
    for entry in fs::read_dir(repository().join(MESH)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, mesh.join(path.file_name().unwrap())).unwrap();
    }
    for path in [folder.path(), &mesh] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let mut command = std::process::Command::new(&program);
    command.args(["snapshot", "--duration", "1s", "--mesh"]).arg(&mesh).current_dir("/").uid(NOBODY).gid(NOBODY);
    let output = command.output().unwrap();
    assert_eq!(code(&output), 3, "{}", said(&output));
    assert!(said(&output).contains("CAP_BPF"), "{}", said(&output));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["coverage"]["capture"]["tier"], "none");
    assert!(!document["incomplete"].as_array().unwrap().is_empty());
}

#[test]
fn a_folder_that_is_no_cgroup_is_exit_code_3_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(&["snapshot", "--duration", "1s", "--cgroup-root", folder.path().to_str().unwrap()]);
    assert_eq!(code(&output), 3, "{}", said(&output));
    assert!(said(&output).contains("cgroup"), "{}", said(&output));
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let mut child = command(&["snapshot", "--schema"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 0, "{}", said(&output));
}

#[test]
fn every_reason_code_can_be_looked_up() {
    for reason in egress_core::verdict::Reason::ALL {
        let output = run(&["explain", "--code", reason.code()]);
        assert_eq!(code(&output), 0);
        assert!(String::from_utf8_lossy(&output.stdout).starts_with(reason.code()));
    }
}

fn demo() -> String {
    program::repository().join("egress-tui/demo/dwh-static-tcp.egr").display().to_string()
}

fn mesh() -> String {
    program::repository().join("tests/lab/dwh-static-tcp/mesh").display().to_string()
}

/// Standard output, and the exit code that it must have.
fn printed(code: i32, arguments: &[&str]) -> String {
    let output = program::run(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", program::said(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn one_connection_is_explained_with_the_line_that_decides_and_what_would_change_it() {
    let (mesh, to) = (mesh(), "emarsyscdi.database.windows.net:1433");
    let explain = |from: &str, form: &str| {
        printed(0, &["explain", "--mesh", &mesh, "--from", from, "--to", to, "--payload", "tls", "-o", form])
    };
    let text = explain("cloud-platform/web", "text");
    assert!(text.contains("!! BYPASS") && text.contains("[SOURCE_LABELS]"), "{text}");
    assert!(text.contains(">   42       sourceLabels:"), "{text}");
    assert!(
        text.contains("with the label egress-gateway-dwh=enabled on Pod cloud-platform/web: via-gateway"),
        "{text}"
    );
    let json: serde_json::Value = serde_json::from_str(&explain("cloud-platform/web", "json")).expect("JSON");
    assert_eq!((&json["verdict"], &json["reason"]), (&"bypass".into(), &"SOURCE_LABELS".into()));
    assert_eq!(json["whatIf"][0]["outcome"], "via-gateway");
    let text = explain("cloud-platform/etl-excluded", "text");
    assert!(text.contains("if the proxy got the connection: via-gateway"), "{text}");
}

#[test]
fn a_flow_is_explained_by_the_beginning_of_its_id() {
    let demo = demo();
    let lines = printed(0, &["snapshot", "--replay", &demo, "-o", "jsonl", "--filter", "reason:EXCLUDED_PORT"]);
    let flow: serde_json::Value = serde_json::from_str(&lines).expect("one flow");
    let id = flow["id"].as_str().expect("an id");
    let text = printed(0, &["explain", &id[..10], "--replay", &demo]);
    assert!(text.contains("[EXCLUDED_PORT]") && text.contains("excludeOutboundPorts"), "{text}");
    let output = program::run(&["explain", "zz", "--replay", &demo]);
    assert_eq!(output.status.code(), Some(2));
    assert!(program::said(&output).contains(id), "what there is, is listed");
}

#[test]
fn watch_says_each_problem_once_in_plain_words() {
    let demo = demo();
    let text = printed(0, &["watch", "--replay", &demo]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.iter().any(|l| l.contains("bypass, critical: cloud-platform/web to ")), "{text}");
    assert!(lines.iter().all(|l| !l.contains("via-gateway")), "what is well is not told: {text}");
    let mut once = lines.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), lines.len(), "{text}");
    let json = printed(0, &["watch", "--replay", &demo, "-o", "jsonl", "--limit", "3"]);
    let first: Vec<serde_json::Value> = json.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(first.len(), 3);
    assert!(first.iter().all(|l| l["event"] == "new" && l["flow"]["verdict"].is_string()));
    let filtered = printed(0, &["watch", "--replay", &demo, "--filter", "verdict:via-gateway"]);
    assert!(filtered.contains("via-gateway, ok: cloud-platform/etl to"), "{filtered}");
}

#[test]
fn a_gate_fails_on_what_it_was_told_to() {
    let demo = demo();
    for (code, word) in [(1, "bypass"), (1, "high"), (1, "reason:SOURCE_LABELS"), (0, "verdict:wrong-gateway")] {
        printed(code, &["snapshot", "--replay", &demo, "--fail-on", word]);
    }
    printed(5, &["snapshot", "--replay", &demo, "--min-coverage", "2"]);
    printed(1, &["snapshot", "--replay", &demo, "--min-coverage", "2", "--fail-on", "crit"]);
    let output = program::run(&["snapshot", "--replay", &demo, "--fail-on", "bypas"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(program::said(&output).contains("did you mean bypass?"), "{}", program::said(&output));
    let until = printed(0, &["snapshot", "--replay", &demo, "--until-problem"]);
    assert!(until.contains("\"flows\""));
}

#[test]
fn a_filter_that_cannot_be_read_shows_its_place() {
    let output = program::run(&["snapshot", "--replay", &demo(), "--filter", "ns:pay verdcit:x"]);
    assert_eq!(output.status.code(), Some(2));
    let said = program::said(&output);
    assert!(said.contains("         ^^^^^^^ did you mean verdict?"), "{said}");
}

#[test]
fn configuration_files_give_defaults_and_their_mistakes_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("writable");
        path.display().to_string()
    };
    let demo = demo();
    let good = file("good.toml", "filter = \"@mine\"\n[filters]\nmine = \"reason:SOURCE_LABELS\"\n");
    assert_eq!(printed(0, &["watch", "--config", &good, "--replay", &demo]).lines().count(), 1);
    let over = ["watch", "--config", &good, "--replay", &demo, "--filter", "class:bypass"];
    assert!(printed(0, &over).lines().count() > 1, "an option wins over the file");
    let shown = printed(0, &["config", "--config", &good]);
    assert!(shown.contains("filter = @mine") && shown.contains("good.toml"), "{shown}");
    for (text, says) in [
        ("filtr = \"x\"", "there is no key filtr; did you mean filter?"),
        ("filter = ", "is malformed"),
        ("mesh = {a = 1}", "mesh"),
        ("[filters]\nx = \"clas:a\"", "did you mean class?"),
    ] {
        let output = program::run(&["watch", "--config", &file("bad.toml", text), "--replay", &demo]);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(program::said(&output).contains(says), "{text}: {}", program::said(&output));
    }
    let template = printed(0, &["config", "--template"]);
    let plain: String =
        template.lines().filter(|l| !l.starts_with("# ")).flat_map(|l| [l.trim_start_matches('#'), "\n"]).collect();
    let all = file("template.toml", &plain);
    assert!(printed(0, &["config", "--config", &all]).contains("filters.mine"), "every line of the template is valid");
    let nothing = file("nothing.toml", &template);
    assert_eq!(printed(0, &["config", "--config", &nothing]), "", "the template says what holds anyway");
}

#[test]
fn through_sudo_the_configuration_is_the_invoking_users() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can give a file to somebody else");
        return;
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "filter = \"is:problem\"\n").expect("writable");
    std::os::unix::fs::chown(file.path(), Some(1000), Some(1000)).expect("root");
    let read_as = |sudo_uid: &str| {
        let mut command = program::command(&["config", "--config"]);
        command.arg(file.path()).env("SUDO_UID", sudo_uid).output().expect("the program")
    };
    assert_eq!(read_as("1000").status.code(), Some(0));
    for somebody_else in ["", "1001"] {
        let output = read_as(somebody_else);
        assert_eq!(output.status.code(), Some(2), "{somebody_else}");
        assert!(program::said(&output).contains("belongs to uid 1000"), "{}", program::said(&output));
    }
}

#[test]
fn paper_is_made_from_the_same_tables() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(printed(0, &["completions", shell]).contains("fail-on"), "{shell}");
    }
    let man = printed(0, &["man"]).replace("\\-", "-");
    for word in ["snapshot", "watch", "doctor", "VERDICTS", "via-gateway", "SOURCE_LABELS", "reason:", "Ctrl-C"] {
        assert!(man.contains(word), "{word}");
    }
    for verb in ["top", "watch", "snapshot", "record", "explain", "doctor", "demo"] {
        assert!(printed(0, &["man", verb]).contains(".TH"), "{verb}");
    }
    assert_eq!(program::run(&["man", "nothing"]).status.code(), Some(2));
}

#[test]
fn doctor_says_what_is_missing_and_what_to_do() {
    let output = program::run(&["doctor", "-o", "json", "--mesh", "/nonexistent", "--cgroup-root", "/nonexistent"]);
    let checks: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let checks = checks.as_array().expect("a list");
    for what in ["kernel", "rights", "cgroups", "hooks", "mesh"] {
        assert!(checks.iter().any(|c| c["what"] == what), "{what}: {checks:?}");
    }
    for check in checks.iter().filter(|c| c["state"] != "ok") {
        assert!(check["fix"].is_string() && check["stillWorks"].is_string(), "{check}");
    }
    assert_eq!(output.status.code(), Some(3), "nothing can be captured without a cgroup");
    let text = printed(3, &["doctor", "--cgroup-root", "/nonexistent"]);
    assert!(text.contains("still works:") && text.contains("to do:"), "{text}");
}
