//! Every scenario of `tests/scenarios` holds.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use egress_tests::scenario::{self, Difference, Scenario};

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
