//! What is missing, said in place: what happened, what that affects, what to do. The table stays.

use egress_core::query::Page;
use egress_core::world::{Incomplete, World};

use crate::tui::figure;
use crate::tui::look::Look;
use crate::tui::pen::{self, Pen};
use crate::tui::ui::Ui;

use super::header::{self, State};

/// Lines above the table, at most `most`. None where everything is there, or where the user put them away.
pub fn lines(world: &World, ui: &Ui, look: &Look, width: u16, most: usize) -> Vec<String> {
    // Without any flow the same is said, at length, where the rows would be.
    if most == 0 || world.flows.is_empty() || world.incomplete.len() <= ui.dismissed {
        return Vec::new();
    }
    let width = usize::from(width.saturating_sub(2));
    let mut out: Vec<String> = Vec::new();
    for (i, missing) in world.incomplete.iter().enumerate() {
        let left = world.incomplete.len() - i;
        let room = most - out.len();
        if room <= 1 && left > 1 && i > 0 {
            out.push(format!("and {left} more: egress-tui snapshot -o json lists all under incomplete"));
            break;
        }
        let keep = if left > 1 { room - 1 } else { room };
        out.extend(pen::wrap(&sentence(missing), width, keep.clamp(1, 2), look));
        if out.len() >= most {
            break;
        }
    }
    out.truncate(most);
    out
}

fn sentence(missing: &Incomplete) -> String {
    format!("{}: {}. To do: {}", missing.what, missing.affects, missing.fix)
}

/// Draws the notice above the table.
pub fn draw(pen: &mut Pen<'_>, world: &World, ui: &Ui) {
    let lines = lines(world, ui, pen.look, pen.width(), usize::from(pen.height()));
    let style = pen.look.palette.warn;
    for (y, line) in (0..).zip(lines) {
        pen.text(1, y, pen.width().saturating_sub(2), &line, style);
    }
}

/// Why the table has no row; drawn where the rows would be.
pub fn draw_empty(pen: &mut Pen<'_>, page: &Page, ui: &Ui) {
    let palette = &pen.look.palette;
    let (text, dim) = (palette.text, palette.dim);
    let world = &page.world;
    let width = pen.width().saturating_sub(6).min(90);
    let mut lines = Vec::new();
    if page.totals.flows > 0 {
        lines.push((nothing_fits(page, ui), text));
        if ui.query.problems_only {
            lines.push((observed(page), dim));
        }
    } else {
        lines.push((starting(world, ui), text));
        if header::state(world, ui) == State::Wait {
            lines.extend(checklist(world).into_iter().map(|line| (line, text)));
        }
        for missing in &world.incomplete {
            lines.push((String::new(), text));
            lines.push((missing.what.clone(), palette.warn));
            lines.push((missing.affects.clone(), text));
            lines.push((missing.fix.clone(), text));
        }
        let unattached = world.coverage.capture.hooks.iter().filter(|h| h.why.is_some());
        for hook in unattached {
            lines.push((format!("hook {}: {}", hook.name, hook.why.as_deref().unwrap_or_default()), dim));
        }
    }
    let mut y = u16::from(pen.height() > 6);
    for (line, style) in lines {
        if line.is_empty() {
            y += 1;
        }
        for part in pen::wrap(&line, usize::from(width), 4, pen.look).into_iter().filter(|p| !p.is_empty()) {
            pen.text(3, y, width, &part, style);
            y += 1;
        }
    }
}

fn starting(world: &World, ui: &Ui) -> String {
    let since = figure::age(figure::between(world.started, ui.instant()));
    match header::state(world, ui) {
        State::Wait => format!("starting on {}", world.node),
        State::Blind => "no kernel capture, so no flow can be seen".to_owned(),
        _ => format!("no flows yet, capturing for {since}"),
    }
}

fn checklist(world: &World) -> Vec<String> {
    let coverage = &world.coverage;
    let (attached, hooks) = (coverage.capture.attached(), coverage.capture.hooks.len());
    let bpf = if coverage.capture.tier.is_empty() {
        "..  bpf   attaching".to_owned()
    } else {
        format!("ok  bpf   {attached} of {hooks} hooks attached")
    };
    let mesh = &coverage.mesh;
    let objects = if header::loading(world) {
        format!("..  mesh  reading {} {}", mesh.kind, mesh.place)
    } else {
        format!("ok  mesh  {} objects from {} {}", mesh.objects, mesh.kind, mesh.place)
    };
    vec![bpf, objects]
}

fn nothing_fits(page: &Page, ui: &Ui) -> String {
    let all = figure::plural(page.totals.flows as u64, "flow");
    match (&ui.query.filter, ui.query.problems_only) {
        (Some(filter), _) => format!("filter {} hides all: {all} · Esc shows them", filter.text()),
        (None, true) => format!("no problem among {all} · b shows all"),
        (None, false) => format!("{all}, none listed yet"),
    }
}

/// What "no problem" is worth: pods whose connections could be seen, nodes that could not.
fn observed(page: &Page) -> String {
    use egress_core::mesh::ProxyKind;
    let world = &page.world;
    let application = |pod: &egress_core::mesh::Pod| {
        pod.node == world.node && !matches!(pod.proxy, ProxyKind::Gateway | ProxyKind::Waypoint | ProxyKind::Ztunnel)
    };
    let pods = world.mesh.pods().filter(|&p| application(world.mesh.pod(p))).count() as u64;
    let coverage = &world.coverage;
    let unseen = coverage.nodes_total.saturating_sub(coverage.nodes_observed);
    format!(
        "{} on this node, {} not observed, {} lost, mesh generation {}",
        figure::plural(pods, "application pod"),
        figure::plural(u64::from(unseen), "node"),
        figure::plural(coverage.lost_total(), "event"),
        coverage.mesh_generation,
    )
}
