//! Bursts: hundreds of journeys at a time, each joint compared with Envoy's own access logs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::lab;
use crate::machine::Leftovers;

/// Journeys of one burst.
const JOURNEYS: usize = 200;
/// How many at a time; all of it twice, so that conntrack knows the ports already.
const PARALLEL: [usize; 6] = [1, 4, 16, 1, 4, 16];

/// From the accepted socket's remote address to the local address of the socket that the proxy opened for it; several where
/// a port was used again.
fn carried_on(log: &Path) -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(log).unwrap_or_else(|e| panic!("{}: {e}", log.display()));
    let lines = text.lines().map(|l| serde_json::from_str::<Value>(l).expect("a line of JSON"));
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in lines.filter(|l| l["layer"] == "tcp") {
        let (down, up) = (line["downstream_remote"].as_str(), line["upstream_local"].as_str());
        let (Some(down), Some(up)) = (down, up) else { continue };
        found.entry(down.to_owned()).or_default().push(up.to_owned());
    }
    found
}

/// A thousand healthy connections of each sort raise nothing.
fn all_is_well(scenario: &str, verdict: &str) {
    let Some(_turn) = lab::allowed() else { return };
    let before = Leftovers::now();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("out.json");
    let path = file.to_str().expect("a path");
    let out = lab::run(&["--scenario", scenario, "--json", path, "--burst", "1000x8", "--seconds", "20"]);
    assert_eq!(out.status.code(), Some(0), "{}", lab::talk(&out));
    let snapshot = lab::snapshot(&file);
    assert_eq!(snapshot["coverage"]["lost"]["total"], 0, "{}", snapshot["coverage"]);
    let rows = snapshot["flows"].as_array().expect("flows");
    let alarms: Vec<&Value> = rows
        .iter()
        .filter(|f| ["bypass", "unregistered", "unknown", "stopped"].iter().any(|c| f["class"] == *c))
        .collect();
    assert!(alarms.is_empty(), "{} of {}, the first: {:#}", alarms.len(), rows.len(), alarms[0]);
    let asked = |f: &&Value| f["protocol"] == "tcp" && f["leg"] == "app-captured";
    let well: Vec<&Value> = rows.iter().filter(asked).collect();
    assert!(well.iter().all(|f| f["verdict"] == verdict), "{scenario}");
    assert_eq!(well.len(), 1000, "{scenario}");
    before.assert_nothing_new();
}

#[test]
fn a_thousand_connections_through_a_gateway_raise_nothing() {
    all_is_well("dwh-registry-only", "via-gateway");
}

#[test]
fn a_thousand_registered_connections_raise_nothing() {
    all_is_well("redis-registry-only", "registered-direct");
}

#[test]
fn a_thousand_requests_over_pooled_connections_raise_nothing() {
    all_is_well("tls-origination", "via-gateway");
}

#[test]
fn a_thousand_requests_through_a_mesh_gateway_raise_nothing() {
    all_is_well("smm-mesh-gateway", "via-gateway");
}

#[test]
fn a_thousand_requests_through_an_injected_gateway_raise_nothing() {
    all_is_well("osm-egress", "via-gateway");
}

#[test]
fn a_thousand_requests_through_a_gateway_of_the_gateway_api_raise_nothing() {
    all_is_well("osm-egress-gateway-api", "via-gateway");
}

#[test]
fn a_thousand_requests_through_a_waypoint_raise_nothing() {
    all_is_well("osm-egress-ambient", "via-waypoint");
}

#[test]
fn bursts_with_warm_conntrack_are_joined_as_envoy_says() {
    let Some(_turn) = lab::allowed() else { return };
    let before = Leftovers::now();
    let folder = tempfile::tempdir().expect("a folder");
    let (file, logs) = (folder.path().join("out.json"), folder.path().join("logs"));
    let bursts: Vec<String> = PARALLEL.iter().map(|p| format!("{JOURNEYS}x{p}")).collect();
    let text = |path: &Path| path.to_str().expect("a path").to_owned();
    let out =
        lab::run(&["--json", &text(&file), "--burst", &bursts.join(","), "--logs", &text(&logs), "--seconds", "30"]);
    assert_eq!(out.status.code(), Some(0), "{}", lab::talk(&out));
    let snapshot = lab::snapshot(&file);
    assert_eq!(snapshot["coverage"]["lost"]["total"], 0, "{}", snapshot["coverage"]);

    let sidecar = carried_on(&logs.join("cloud-platform.etl.log"));
    let gateway = carried_on(&logs.join("istio-egress-gateway.static-whitelist-internal-egress-gateway-7c9d5.log"));
    let journeys = JOURNEYS * PARALLEL.len();
    let connections = |log: &BTreeMap<String, Vec<String>>| log.values().map(Vec::len).sum::<usize>();
    assert_eq!(connections(&sidecar), journeys);
    assert_eq!(connections(&gateway), journeys);
    let says =
        |log: &BTreeMap<String, Vec<String>>, down: &str, up: &String| log.get(down).is_some_and(|l| l.contains(up));

    let rows: Vec<&Value> = snapshot["flows"]
        .as_array()
        .expect("flows")
        .iter()
        .filter(|f| f["protocol"] == "tcp" && f["destination"]["port"] == 1433)
        .collect();
    let mut wrong = Vec::new();
    let mut seen = BTreeMap::new();
    for row in &rows {
        let from = |hop: usize| row["path"][hop]["from"].as_str().unwrap_or_default().to_owned();
        let (app, first, second) = (from(0), from(1), from(2));
        *seen.entry(app.clone()).or_insert(0) += 1;
        if !says(&sidecar, &app, &first) {
            wrong.push(format!("{app}: sidecar {first}, Envoy says {:?}", sidecar.get(&app)));
        } else if !says(&gateway, &first, &second) {
            wrong.push(format!("{app}: gateway {second}, Envoy says {:?}", gateway.get(&first)));
        }
        if row["verdict"] != "via-gateway" || row["source"]["pod"] != "etl" {
            wrong.push(format!("{app}: {}/{} of {}", row["verdict"], row["reason"], row["source"]["pod"]));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    let missed: Vec<_> = sidecar.iter().filter(|(app, l)| seen.get(*app) != Some(&l.len())).collect();
    assert!(missed.is_empty(), "not seen: {missed:?}");
    assert_eq!(rows.len(), journeys);
    before.assert_nothing_new();
}
