//! Every scenario of `tests/scenarios` holds, and every numbered case, rule and reason has one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use egress_core::verdict::Reason;
use egress_tests::scenario::{self, Difference, Scenario};

mod covered {
    //! What has to have a scenario.

    /// Numbers of the cases that the project works from: outbound policy, entries, VirtualServices and gateways, published
    /// set-ups, interception by sidecars, ambient.
    pub(super) const CASES: [(u16, u16); 8] =
        [(1, 12), (20, 65), (70, 112), (120, 134), (140, 157), (160, 160), (162, 163), (167, 168)];

    /// Cases that need more than a call.
    pub(super) const ELSEWHERE: [(&str, &str); 1] =
        [("T150", "a proxy's own socket beside the application's: tests/journeys.rs")];

    /// Numbered rules: of http, tls and tcp routes, consequences of the listener table, corrections that Istio's code made.
    pub(super) const RULES: [(&str, u16); 5] = [("R-HTTP-", 10), ("R-TLS-", 6), ("R-TCP-", 4), ("C", 18), ("§11.", 17)];

    /// Rules that no call can show.
    pub(super) const RULES_ELSEWHERE: [(&str, &str); 1] = [("§11.16", "no call says that its request is HTTP/1.0")];

    /// Reasons that no call decides.
    pub(super) const REASONS_ELSEWHERE: [(&str, &str); 10] = [
        ("REDIRECT_MISSING", "needs sockets: one that the proxy never accepted"),
        ("WRONG_GATEWAY", "needs sockets: the gateway that was reached"),
        ("POOLED", "needs sockets: an upstream connection that is reused"),
        ("STALE_PROXY", "needs sockets: what the proxy did instead"),
        ("HOST_PROCESS", "needs a process that belongs to no pod"),
        ("NAME_UNKNOWN", "contributes where the bytes name nothing; it never decides"),
        ("REGISTRY_ONLY", "contributes to `blocked`; why it was not registered decides"),
        ("VIA_HTTP_PROXY", "needs the request that the application sends to its proxy"),
        ("NO_ROUTE_TO_GATEWAY", "needs a policy file"),
        ("EXEMPTED", "needs a configuration of this program"),
    ];
}

fn loaded() -> Vec<Scenario> {
    let paths = scenario::all().expect("the folder of scenarios is readable");
    let all: Vec<Result<Scenario>> = paths.iter().map(|p| scenario::load(p)).collect();
    let broken: Vec<String> = all.iter().filter_map(|s| s.as_ref().err()).map(|e| format!("{e:#}")).collect();
    assert!(broken.is_empty(), "scenarios that cannot be read:\n{}", broken.join("\n"));
    all.into_iter().flatten().collect()
}

fn place(path: &Path) -> String {
    path.strip_prefix(scenario::folder()).unwrap_or(path).display().to_string()
}

fn report(of: &Scenario, differences: &[Difference], out: &mut String) {
    let mut last = "";
    let _ = writeln!(out, "\n{}: {}", place(&of.path), of.title);
    for d in differences {
        if d.call != last {
            let _ = writeln!(out, "  {}", d.call);
            last = &d.call;
        }
        if d.want.is_empty() {
            let _ = writeln!(out, "    {}:{}", d.field, d.got);
        } else {
            let _ = writeln!(out, "    {:13} wanted {}\n    {:13} is     {}", d.field, d.want, "", d.got);
        }
    }
}

#[test]
fn every_scenario_holds() {
    let (mut out, mut failed) = (String::new(), 0);
    let only = std::env::var("EGRESS_SCENARIO").unwrap_or_default();
    let all = loaded();
    for scenario in all.iter().filter(|s| place(&s.path).contains(&only)) {
        match scenario.check() {
            Ok(differences) if differences.is_empty() => {}
            Ok(differences) => {
                failed += 1;
                report(scenario, &differences, &mut out);
            }
            Err(e) => {
                failed += 1;
                let _ = writeln!(out, "\n{}: {e:#}", place(&scenario.path));
            }
        }
    }
    assert!(failed == 0, "{failed} of {} scenarios do not hold:\n{out}", all.len());
}

#[test]
fn the_order_of_the_objects_does_not_matter() {
    let mut out = String::new();
    for scenario in &loaded() {
        let forward = scenario.check().expect("a mesh");
        let backward = scenario.check_reversed().expect("a mesh");
        if forward.is_empty() && !backward.is_empty() {
            report(scenario, &backward, &mut out);
        }
    }
    assert!(out.is_empty(), "with the objects reversed:\n{out}");
}

#[test]
fn every_case_of_the_list_has_a_scenario() {
    let all = loaded();
    let mut by_case: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for scenario in &all {
        for case in &scenario.tests {
            by_case.entry(case).or_default().push(place(&scenario.path));
        }
    }
    let wanted: BTreeSet<String> =
        covered::CASES.iter().flat_map(|(from, to)| (*from..=*to).map(|n| format!("T{n:02}"))).collect();
    let elsewhere = |t: &String| covered::ELSEWHERE.iter().any(|(case, _)| case == t);
    let missing: Vec<&String> = wanted.iter().filter(|t| !by_case.contains_key(t.as_str()) && !elsewhere(t)).collect();
    assert!(missing.is_empty(), "cases without a scenario: {missing:?}");
    let unknown: Vec<_> = by_case.iter().filter(|(t, _)| !wanted.contains(**t)).collect();
    assert!(unknown.is_empty(), "numbers that no list has: {unknown:?}");
    for (case, places) in &by_case {
        let name = format!("{}-", case.to_lowercase());
        assert!(places.iter().any(|p| p.contains(&name)), "the file of {case} has its number in its name: {places:?}");
    }
}

#[test]
fn every_rule_has_a_scenario() {
    let all = loaded();
    let named: BTreeSet<&str> = all.iter().flat_map(|s| s.rules.iter().map(String::as_str)).collect();
    let numbered = |name: &'static str, last: u16| (1..=last).map(move |n| format!("{name}{n}"));
    let wanted = covered::RULES.iter().flat_map(|(name, last)| numbered(name, *last));
    let elsewhere = |rule: &String| covered::RULES_ELSEWHERE.iter().any(|(name, _)| name == rule);
    let missing: Vec<String> = wanted.filter(|r| !named.contains(r.as_str()) && !elsewhere(r)).collect();
    assert!(missing.is_empty(), "rules without a scenario: {missing:?}");
}

#[test]
fn every_reason_has_a_scenario_or_a_place_elsewhere() {
    let all = loaded();
    let mut decided: BTreeSet<&str> = BTreeSet::new();
    for scenario in &all {
        decided.extend(scenario.expectations("reason"));
        // what only contributes is named by the scenario that shows it as a near miss
        decided.extend(scenario.rules.iter().map(String::as_str));
    }
    let elsewhere: BTreeMap<&str, &str> = covered::REASONS_ELSEWHERE.iter().copied().collect();
    for reason in Reason::ALL {
        let code = reason.code();
        match (decided.contains(code), elsewhere.get(code)) {
            (true, None) | (false, Some(_)) => {}
            (true, Some(why)) => panic!("{code} has a scenario and is on the list of those without: {why}"),
            (false, None) => panic!("{code} has no scenario, and no list says why"),
        }
    }
}

#[test]
fn every_shared_file_is_used() {
    let all = loaded();
    let used: BTreeSet<&str> = all.iter().flat_map(|s| s.include.iter().map(String::as_str)).collect();
    for path in scenario::entries(&scenario::folder().join("base")).expect("the folder is readable") {
        let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or_default();
        assert!(used.contains(name), "no scenario includes base/{name}.yaml");
    }
}

#[test]
fn a_scenario_that_cannot_be_meant_is_refused() {
    let head = "title: t\nsays: s\nrules: [C1]\nsource: [x]\ninclude: []\nverified: text\n";
    let call = "calls:\n- to: 192.0.2.1:443\n  expect: {outcome: direct, registration: visible, verdict: x, reason: y, decides: z";
    let refused = |text: String, says: &str| {
        let error = scenario::read(Path::new("s.yaml"), &text, |_| Ok(String::new())).expect_err("is refused");
        assert!(format!("{error:#}").contains(says), "{error:#}");
    };
    refused(format!("{head}calls: []\n"), "asserts nothing");
    refused(format!("{head}call: []\n{call}}}\n"), "unknown field `call`");
    refused(format!("{head}{call}, verdicts: x}}\n"), "expect knows no \"verdicts\"");
    refused(
        format!("{head}calls:\n- to: 192.0.2.1:443\n  expect: {{outcome: direct}}\n"),
        "expect says nothing of registration",
    );
    refused(format!("{head}{call}}}\n---\nkind: [\n"), "s.yaml:");
    refused(String::new(), "nothing in it");
}
