//! Scenarios as questions to Istio's own code: writes them as folders that the oracle evaluates, and reads its answers.
//!
//! `scenario_oracle write DIR`, then the oracle over DIR, then `scenario_oracle compare DIR`. The exit code is 1 where an answer
//! and a scenario that says `verified: oracle` differ.
#![expect(clippy::print_stdout, reason = "what differs is the output")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use egress_tests::scenario::{self, Scenario, Verified};

fn main() -> Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["write", folder] => write(Path::new(folder)),
        ["compare", folder] => compare(Path::new(folder)),
        _ => bail!("usage: scenario_oracle write|compare DIR"),
    }
}

fn each(folder: &Path) -> Result<Vec<(Scenario, PathBuf)>> {
    let mut out = Vec::new();
    for path in scenario::all()? {
        let name = path.with_extension("");
        let name = name.strip_prefix(scenario::folder())?.to_string_lossy().replace('/', "-");
        out.push((scenario::load(&path)?, folder.join(name)));
    }
    Ok(out)
}

fn write(folder: &Path) -> Result<ExitCode> {
    let mut written = 0;
    for (scenario, case) in each(folder)? {
        written += usize::from(scenario.to_oracle_case(&case)?);
    }
    println!("{written} cases in {}", folder.display());
    Ok(ExitCode::SUCCESS)
}

fn compare(folder: &Path) -> Result<ExitCode> {
    let (mut agree, mut differ) = (0, 0);
    for (scenario, case) in each(folder)? {
        if !case.join("expected.jsonl").is_file() {
            if scenario.verified == Verified::Oracle {
                println!("{}: no answer of the oracle", scenario.path.display());
                differ += 1;
            }
            continue;
        }
        let differences = scenario.compare_with_oracle(&case).context(case.display().to_string())?;
        if differences.is_empty() {
            agree += 1;
            continue;
        }
        differ += usize::from(scenario.verified == Verified::Oracle);
        println!("{} ({:?}): {}", scenario.path.display(), scenario.verified, scenario.title);
        for d in differences {
            println!("    {}: {} is {} here, {} in Istio", d.call, d.field, d.want, d.got);
        }
    }
    println!("{agree} scenarios agree with Istio, {differ} differ");
    Ok(ExitCode::from(u8::from(differ > 0)))
}
