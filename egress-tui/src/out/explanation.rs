//! A judgement as text: what was decided, every step with object and field, the object's text at the deciding line, what
//! nearly applied, and what would change it.

use std::io::{self, Write};

use egress_core::id::ObjectRef;
use egress_core::mesh::whatif::WhatIf;
use egress_core::mesh::{Expected, Mesh};
use egress_core::name::printable;
use egress_core::verdict::{Judgement, Mark, Step};

/// Lines of an object before and after the deciding one.
const AROUND: usize = 3;

/// What is explained.
pub struct Explanation<'a> {
    /// Who to whom.
    pub title: String,
    /// The verdict and its chain.
    pub judgement: &'a Judgement,
    /// What the configuration says; `None` where there is nothing to ask.
    pub expected: Option<&'a Expected>,
    /// What changed in the objects that decide, in words.
    pub history: &'a [String],
    /// What would change it.
    pub changes: &'a [WhatIf],
    /// The objects.
    pub mesh: &'a Mesh,
}

/// Writes it.
pub fn text(explained: &Explanation<'_>, out: &mut impl Write) -> io::Result<()> {
    let judgement = explained.judgement;
    let verdict = judgement.verdict;
    writeln!(
        out,
        "{} {}  {} ({}, {})",
        verdict.class().mark(),
        verdict.word(),
        explained.title,
        verdict.as_str(),
        judgement.severity.as_str()
    )?;
    writeln!(out, "   why  {} [{}]", judgement.why, judgement.reason().code())?;
    for line in explained.history {
        writeln!(out, "   then {line}")?;
    }
    writeln!(out)?;
    for step in &judgement.chain {
        self::step(step, judgement, explained.mesh, out)?;
    }
    let Some(expected) = explained.expected else { return Ok(()) };
    let captured = expected.then.as_deref().unwrap_or(expected);
    writeln!(out)?;
    let gateway = captured.gateway.as_ref().map_or_else(String::new, |g| format!(" {g}"));
    let cluster = captured.cluster.as_ref().map_or_else(String::new, |c| format!(" ({c})"));
    writeln!(out, "expected  {}{gateway}{cluster}", captured.outcome.as_str())?;
    let listed = |object: &ObjectRef, field: &str| {
        judgement.chain.iter().any(|s| s.object.as_ref() == Some(object) && s.field.as_deref() == Some(field))
    };
    for miss in captured.misses.iter().filter(|m| !listed(&m.object, &m.field)) {
        writeln!(out, "nearly    {} {}: {} [{}]", miss.object, miss.field, miss.says, miss.reason.code())?;
    }
    for change in explained.changes {
        writeln!(out, "what if   {}: {}", change.what, change.then())?;
    }
    Ok(())
}

fn step(step: &Step, judgement: &Judgement, mesh: &Mesh, out: &mut impl Write) -> io::Result<()> {
    let mark = match step.mark {
        Mark::Ok => "ok",
        Mark::No => "no",
        Mark::Miss => "~ ",
        Mark::Decides => judgement.verdict.class().mark(),
        Mark::Unknown => "..",
    };
    writeln!(out, "{mark} {:<11} {}", step.claim, step.says)?;
    let Some(object) = &step.object else { return Ok(()) };
    let field = step.field.as_deref().unwrap_or_default();
    writeln!(out, "   {:<11} {object} {field}", "")?;
    if step.mark != Mark::Decides {
        return Ok(());
    }
    let Some(written) = mesh.written(object, step.field.as_deref()) else { return Ok(()) };
    let Some(at) = written.at else { return Ok(()) };
    if !written.file.is_empty() {
        writeln!(out, "   {:<11} {}:{}", "", printable(&written.file), written.first + at)?;
    }
    let from = at.saturating_sub(AROUND);
    for (nth, line) in written.lines.iter().enumerate().take(at + AROUND + 1).skip(from) {
        let cursor = if nth == at { '>' } else { ' ' };
        writeln!(out, "   {:<11} {cursor}{:>5} {}", "", written.first + nth, printable(line))?;
    }
    Ok(())
}
