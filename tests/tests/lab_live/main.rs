//! The lab, live: real Envoys, real traffic, the real probe. What must be seen stands in each scenario's `scenario.json`; what
//! really happened stands in Envoy's access logs.
#![expect(clippy::print_stderr, reason = "tests that were skipped say so")]

mod burst;
mod lab;
mod machine;
mod pages;

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::machine::Leftovers;

const SCENARIO: &str = "dwh-static-tcp";

/// How long a lab observes: playing takes one or two.
const SECONDS: &str = "6";

/// Classes that ask somebody to do something.
const ALARMS: [&str; 3] = ["bypass", "unregistered", "unknown"];

fn observed(scenario: &str, file: &std::path::Path) -> Value {
    let tape = file.with_extension("egr");
    let path = |p: &std::path::Path| p.to_str().expect("a path").to_owned();
    let all = ["--scenario", scenario, "--json", &path(file), "--record", &path(&tape), "--seconds", SECONDS];
    let out = lab::run(&all);
    assert_eq!(out.status.code(), Some(0), "{}", lab::talk(&out));
    lab::snapshot(file)
}

/// What was recorded beside a snapshot gives the same bytes.
fn assert_replays(file: &std::path::Path) {
    let tape = file.with_extension("egr");
    let again = Command::new(lab::egress_tui()).args(["snapshot", "-o", "json", "--replay"]).arg(&tape).output();
    let again = again.expect("egress-tui");
    assert_eq!(again.status.code(), Some(0), "{}", lab::talk(&again));
    assert!(again.stdout == std::fs::read(file).expect("the snapshot"), "the replay differs from the snapshot");
}

fn flows(snapshot: &Value) -> &[Value] {
    snapshot["flows"].as_array().expect("flows")
}

/// A test for each scenario: every variant has its verdict, its reason and the object and field that decided, nothing else raises
/// anything, and the page shows what was printed.
macro_rules! scenarios {
    ($($test:ident: $name:literal;)*) => {
        $(#[test] fn $test() { all_variants($name); })*

        #[test]
        fn no_scenario_goes_untested() {
            let mut tested = vec![$($name),*];
            tested.sort_unstable();
            assert_eq!(lab::names(), tested);
        }
    };
}

scenarios! {
    a_data_warehouse_behind_a_static_gateway: "dwh-static-tcp";
    the_data_warehouse_exactly_as_published: "dwh-as-published";
    the_data_warehouse_under_registry_only: "dwh-registry-only";
    interception_is_explained_by_what_set_it_up: "interception";
    a_managed_redis_under_registry_only: "redis-registry-only";
    a_managed_redis_with_a_misspelt_key: "redis-helm-typo";
    a_managed_redis_with_only_the_virtual_service_added: "redis-with-virtualservice";
    a_gateway_per_upstream_that_originates_tls: "tls-origination";
    a_mesh_gateway_that_routes_and_does_not_restrict: "smm-mesh-gateway";
    an_injected_gateway_over_two_namespaces: "osm-egress";
    the_same_with_the_gateway_api: "osm-egress-gateway-api";
    the_same_in_ambient_mode: "osm-egress-ambient";
}

fn all_variants(scenario: &str) {
    let Some(_turn) = lab::allowed() else { return };
    let before = Leftovers::now();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("out.json");
    let snapshot = observed(scenario, &file);
    assert_replays(&file);
    pages::assert_shows(scenario, &file.with_extension("egr"));

    let schema = Command::new(lab::egress_tui()).args(["snapshot", "--schema"]).output().expect("a schema");
    let schema: Value = serde_json::from_slice(&schema.stdout).expect("JSON");
    let errors: Vec<String> =
        jsonschema::validator_for(&schema).expect("a schema").iter_errors(&snapshot).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");

    assert_eq!(snapshot["coverage"]["lost"]["total"], 0, "{}", snapshot["coverage"]);
    let hooks = snapshot["coverage"]["capture"]["hooks"].as_array().expect("hooks");
    assert!(!hooks.is_empty() && hooks.iter().all(|h| h["attached"] == true), "{hooks:?}");

    let mut wrong = Vec::new();
    let mut explained = 0;
    let listed = lab::listed(scenario);
    let variants = listed["variants"].as_array().expect("variants");
    assert!(!variants.is_empty(), "nothing to see");
    for variant in variants {
        let (name, mine): (_, Vec<&Value>) =
            (&variant["name"], flows(&snapshot).iter().filter(|f| f["source"]["pod"] == variant["name"]).collect());
        let fits = |f: &&&Value| f["verdict"] == variant["verdict"] && f["reason"] == variant["reason"];
        let Some(flow) = mine.iter().find(fits) else {
            let seen: Vec<_> = mine.iter().map(|f| format!("{}/{}", f["verdict"], f["reason"])).collect();
            wrong.push(format!("{name}: {}/{} is not among {seen:?}", variant["verdict"], variant["reason"]));
            continue;
        };
        explained += 1;
        let chain = flow["chain"].as_array().expect("a chain");
        let decided = |s: &&Value| s["object"] == variant["object"] && s["field"] == variant["field"];
        if !chain.iter().any(|s| decided(&s)) {
            let steps: Vec<_> =
                chain.iter().map(|s| format!("{} {} ({})", s["object"], s["field"], s["says"])).collect();
            let wanted = format!("{} {}", variant["object"], variant["field"]);
            wrong.push(format!("{name}: no step names {wanted}:\n    {}", steps.join("\n    ")));
        }
        // what the variant is not about must not raise anything
        let others = mine.iter().filter(|f| !fits(f) && ALARMS.iter().any(|a| f["class"] == *a));
        wrong.extend(others.map(|f| format!("{name}: also {}/{}: {}", f["verdict"], f["reason"], f["destination"])));
    }
    assert!(wrong.is_empty(), "{} of {} variants\n{}", explained, variants.len(), wrong.join("\n"));
    before.assert_nothing_new();
}

#[test]
fn a_journey_through_the_gateway_is_one_row_with_three_hops_and_what_joined_them() {
    let Some(_turn) = lab::allowed() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let snapshot = observed(SCENARIO, &folder.path().join("out.json"));
    for (pod, evidence) in [("etl", "tuple+bytes"), ("etl-tds", "tuple+bytes")] {
        let rows: Vec<&Value> = flows(&snapshot)
            .iter()
            .filter(|f| f["source"]["pod"] == pod && f["destination"]["port"] == 1433 && f["protocol"] == "tcp")
            .collect();
        let [row] = rows.as_slice() else { panic!("{pod}: {} rows: {rows:#?}", rows.len()) };
        let path = row["path"].as_array().expect("a path");
        let roles: Vec<_> = path.iter().map(|h| h["role"].as_str().unwrap_or_default()).collect();
        assert_eq!(roles, ["app", "sidecar", "gateway"], "{pod}: {path:?}");
        assert_eq!(row["connections"], 1, "{pod}");
        assert!(path[1..].iter().all(|h| h["evidence"] == evidence), "{pod}: {path:?}");
        assert_eq!(path[2]["to"], "203.0.113.10:1433", "{pod}");
    }
}

#[test]
fn a_killed_lab_is_cleared_by_the_next_start() {
    let Some(_turn) = lab::allowed() else { return };
    let before = Leftovers::now();
    let folder = tempfile::tempdir().expect("a folder");
    let first = folder.path().join("first.json");
    let mut killed = lab::start(&["--json", first.to_str().expect("a path")]);
    kill(killed.id(), Signal::KILL);
    killed.wait().expect("a child");
    assert!(Leftovers::now().any_of_a_lab(), "a killed lab leaves its cgroups: otherwise there is nothing to test");

    observed(SCENARIO, &folder.path().join("second.json"));
    before.assert_nothing_new();
}

#[test]
fn signals_end_a_lab_and_everything_in_it() {
    let Some(_turn) = lab::allowed() else { return };
    let before = Leftovers::now();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("out.json");
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut ended = lab::start(&["--json", file.to_str().expect("a path")]);
        kill(ended.id(), signal);
        assert_eq!(ended.wait().expect("a child").code(), Some(code));
        before.assert_nothing_new();
    }
}

#[test]
fn the_lab_survives_a_program_that_is_killed() {
    let Some(_turn) = lab::allowed() else { return };
    let before = Leftovers::now();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("out.json");
    let mut orphaned = lab::start(&["--json", file.to_str().expect("a path")]);
    let (program, _) = lab::program_of(orphaned.id()).expect("the program");
    kill(program.cast_unsigned(), Signal::KILL);
    let code = orphaned.wait().expect("a child").code();
    assert!(code.is_some_and(|c| c != 0), "a snapshot that was killed is no success: {code:?}");
    before.assert_nothing_new();
}

#[test]
fn two_labs_at_a_time_see_only_their_own_traffic() {
    let Some(_turn) = lab::allowed() else { return };
    let before = Leftovers::now();
    let folder = tempfile::tempdir().expect("a folder");
    let files = ["one.json", "two.json"].map(|f| folder.path().join(f));
    let labs: Vec<_> = files
        .iter()
        .map(|file| {
            lab::command(&["--seconds", "12", "--json", file.to_str().expect("a path")]).spawn().expect("a lab")
        })
        .collect();
    for lab in labs {
        let out = lab.wait_with_output().expect("a child");
        assert_eq!(out.status.code(), Some(0), "{}", lab::talk(&out));
    }
    for file in &files {
        let snapshot = lab::snapshot(file);
        let etl: Vec<_> =
            flows(&snapshot).iter().filter(|f| f["source"]["pod"] == "etl" && f["protocol"] == "tcp").collect();
        assert_eq!(etl.len(), 1, "{etl:#?}");
        assert_eq!(etl[0]["connections"], 1);
    }
    before.assert_nothing_new();
}

#[test]
fn the_program_judges_a_kept_node_the_same_way_and_the_node_goes_when_asked() {
    let Some(_turn) = lab::allowed() else { return };
    let before = Leftovers::now();
    let up = lab::run(&["--keep"]);
    assert_eq!(up.status.code(), Some(0), "{}", lab::talk(&up));
    let said = String::from_utf8_lossy(&up.stdout).into_owned();
    let attach = said.lines().find_map(|l| l.strip_prefix("attach   egress-tui ")).expect("how to attach");
    let seen = Command::new(lab::egress_tui())
        .arg("snapshot")
        .args(attach.split(' '))
        // the node repeats its traffic every ten seconds
        .args(["--duration", "13s", "-o", "json"])
        .output()
        .expect("egress-tui");
    let down = lab::run(&["--down"]);
    assert_eq!(down.status.code(), Some(0), "{}", lab::talk(&down));
    assert_eq!(seen.status.code(), Some(0), "{}", String::from_utf8_lossy(&seen.stderr));
    let snapshot: Value = serde_json::from_slice(&seen.stdout).expect("JSON");
    let verdict = |pod: &str| {
        let rows = flows(&snapshot).iter().filter(|f| f["source"]["pod"] == pod && f["destination"]["port"] == 1433);
        rows.map(|f| f["verdict"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(verdict("etl"), ["via-gateway"]);
    assert_eq!(verdict("web"), ["bypass"]);
    before.assert_nothing_new();
}

fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a pid");
    kill_process(pid, signal).expect("a process");
}
