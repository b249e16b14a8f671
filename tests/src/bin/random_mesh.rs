//! `random_mesh SEED MESHES CALLS FOLDER`: writes so many random meshes, each a case of the shape of `tests/oracle`, without answers.
#![expect(clippy::print_stderr, reason = "a command: it says what is wrong")]

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use egress_tests::generate;
use serde_json::json;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match write(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("random_mesh: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn write(arguments: &[String]) -> Result<()> {
    let [seed, meshes, calls, folder] = arguments else {
        anyhow::bail!("usage: random_mesh SEED MESHES CALLS FOLDER");
    };
    let (seed, meshes): (u64, u64) = (seed.parse().context("SEED")?, meshes.parse().context("MESHES")?);
    let calls = calls.parse().context("CALLS")?;
    for seed in seed..seed + meshes {
        let made = generate::mesh(seed, calls);
        let case = Path::new(folder).join(format!("g{seed:05}"));
        fs::create_dir_all(case.join("mesh"))?;
        fs::write(case.join("mesh/mesh.yaml"), generate::documents(&made.objects))?;
        let lines: Vec<String> = made.calls.iter().map(|call| format!("{call}\n")).collect();
        fs::write(case.join("calls.jsonl"), lines.concat())?;
        let about = json!({
            "title": format!("random mesh, seed {seed}"), "why": made.theme.as_str(), "tests": [],
            "istioVersion": "1.31", "features": made.features,
        });
        fs::write(case.join("case.json"), format!("{about:#}\n"))?;
    }
    Ok(())
}
