//! Rules of the source that no compiler knows: files stay short, nothing is left for later without saying where.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// Lines of a source file.
const LONGEST: usize = 700;

/// What breaks a rule: `FILE:LINE: what`.
pub(crate) fn broken(workspace: &Path) -> Result<Vec<String>> {
    // spelt apart: this file is checked too
    let later = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let mut found = Vec::new();
    for file in sources(workspace)? {
        let text = fs::read_to_string(&file)?;
        let name = file.strip_prefix(workspace).unwrap_or(&file).display();
        let lines = text.lines().count();
        if lines > LONGEST {
            found.push(format!("{name}: {lines} lines, {LONGEST} are allowed"));
        }
        for (number, line) in text.lines().enumerate() {
            // `WORD(#12)` names an issue
            if later.iter().any(|word| line.contains(word) && !line.contains(&format!("{word}(#"))) {
                found.push(format!("{name}:{}: left for later without an issue", number + 1));
            }
        }
    }
    Ok(found)
}

/// Every source file of the workspace, without what is built.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let hidden = name.to_string_lossy().starts_with('.') || name == "target";
        if entry.file_type()?.is_dir() && !hidden {
            found.extend(sources(&entry.path())?);
        } else if entry.path().extension().is_some_and(|e| e == "rs") {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
