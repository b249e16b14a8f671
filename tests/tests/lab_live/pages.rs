//! The page of a scenario shows what the program printed: the block below its heading is compared with what a recording of the
//! scenario's traffic gives. `UPDATE_PAGES=1` writes it anew.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::lab;

/// Under it stands the block.
const HEADING: &str = "## What the program printed\n";
const FENCE: &str = "```";

/// Everything but name look-ups, which are nobody's question here.
const FILTER: &str = "not port:53";

/// Compares the page of `scenario` with what `egress-tui watch` says to a recording of it.
pub(crate) fn assert_shows(scenario: &str, tape: &Path) {
    let out = Command::new(lab::egress_tui())
        .args(["watch", "--filter", FILTER, "--replay"])
        .arg(tape)
        .output()
        .expect("egress-tui");
    assert_eq!(out.status.code(), Some(0), "{}", lab::talk(&out));
    let said = String::from_utf8(out.stdout).expect("text");
    let printed = lines(&said);
    let page = lab::workspace().join("tests/lab").join(scenario).join("README.md");
    let text = fs::read_to_string(&page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
    let (before, after) = text.split_once(HEADING).unwrap_or_else(|| panic!("{}: no {HEADING}", page.display()));
    let mut parts = after.splitn(3, FENCE);
    let (Some(talk), Some(block), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        panic!("{}: no block", page.display());
    };
    let shown = block.split_once('\n').map_or("", |(_, lines)| lines);
    if shown == printed {
        return;
    }
    if std::env::var_os("UPDATE_PAGES").is_some() {
        let new = format!("{before}{HEADING}{talk}{FENCE}text\n{printed}{FENCE}{rest}");
        fs::write(&page, new).expect("the page");
        return;
    }
    panic!("{} shows\n{shown}\nand the program printed (UPDATE_PAGES=1 writes it)\n{printed}", page.display());
}

/// Without the time, in order of the text: which flow was seen first is another in each run. Flows that differ in their way only
/// are one line.
fn lines(said: &str) -> String {
    let mut lines: Vec<&str> = said.lines().filter_map(|l| l.split_once(' ').map(|(_, rest)| rest)).collect();
    lines.sort_unstable();
    lines.dedup();
    lines.into_iter().fold(String::new(), |all, line| all + line + "\n")
}
