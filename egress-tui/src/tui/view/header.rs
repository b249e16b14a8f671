//! The first line: where am I, which cluster, how fresh is the mesh, how well do I see, live or not.

use egress_core::id::Nanos;
use egress_core::world::World;
use ratatui::style::{Modifier, Style};

use crate::tui::figure;
use crate::tui::look::Look;
use crate::tui::pen::{self, Pen};
use crate::tui::ui::Ui;

/// A cluster whose objects were confirmed longer ago than this is not the one that is running any more.
const STALE_AFTER: u64 = 60 * Nanos::SECOND;

/// How live the screen is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Everything that is shown is now.
    Live,
    /// Starting: hooks or objects are not there yet.
    Wait,
    /// Nothing in the kernel reports.
    Blind,
    /// The mesh is old.
    Stale,
    /// The view stands still.
    Paused,
    /// Everything that is shown comes from a recording.
    Replay,
}

impl State {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "LIVE",
            Self::Wait => "WAIT",
            Self::Blind => "BLIND",
            Self::Stale => "STALE",
            Self::Paused => "PAUSED",
            Self::Replay => "REPLAY",
        }
    }
}

/// No hook reports.
pub fn blind(world: &World) -> bool {
    let capture = &world.coverage.capture;
    capture.tier == "none" || (!capture.hooks.is_empty() && capture.attached() == 0)
}

/// There are no objects to judge by, and none are on their way.
pub fn meshless(world: &World) -> bool {
    let coverage = &world.coverage;
    if let (Some(cluster), 0) = (&coverage.cluster, coverage.mesh_generation) {
        return cluster.gaps.iter().any(|g| g.kind == "all");
    }
    coverage.mesh.kind == "none" || (coverage.mesh_generation > 0 && coverage.mesh.objects == 0)
}

/// Objects are on their way.
pub fn loading(world: &World) -> bool {
    !meshless(world) && world.coverage.mesh_generation == 0
}

/// Objects may have changed without notice.
pub fn stale(world: &World) -> bool {
    world.coverage.cluster.as_ref().is_some_and(|c| c.stale.is_some()) && world.coverage.mesh_generation > 0
}

/// The state of this world as the interface shows it.
pub fn state(world: &World, ui: &Ui) -> State {
    let coverage = &world.coverage;
    let age = figure::between(coverage.mesh_at, ui.instant());
    if ui.frozen.is_some() {
        State::Paused
    } else if blind(world) {
        State::Blind
    } else if coverage.capture.tier.is_empty() || loading(world) {
        State::Wait
    } else if stale(world) || (coverage.mesh.kind == "cluster" && age > STALE_AFTER) {
        State::Stale
    } else if world.replayed {
        State::Replay
    } else {
        State::Live
    }
}

struct Piece {
    /// What goes first when there is no room has the highest number.
    drop: u8,
    text: String,
    style: Style,
}

fn pieces(world: &World, ui: &Ui, look: &Look) -> Vec<Piece> {
    let palette = &look.palette;
    let coverage = &world.coverage;
    let state = state(world, ui);
    let piece = |drop, text: String, style| Piece { drop, text, style };
    let mut out = vec![piece(6, world.node.to_string(), palette.header)];
    if let Some(cluster) = &world.cluster {
        out.push(piece(9, format!("ctx {cluster}"), palette.text));
    }
    let (seen, all) = (coverage.nodes_observed, coverage.nodes_total.max(coverage.nodes_observed));
    out.push(piece(0, format!("nodes {seen}/{all}"), palette.text));
    let age = figure::age(figure::between(coverage.mesh_at, ui.instant()));
    let (mesh, style) = if meshless(world) {
        ("mesh NONE".to_owned(), palette.warn)
    } else if loading(world) {
        ("mesh loading".to_owned(), palette.note)
    } else if state == State::Stale {
        (format!("mesh {age} old"), palette.warn)
    } else {
        (format!("mesh {} {age}", coverage.mesh.kind), palette.text)
    };
    out.push(piece(if style == palette.text { 5 } else { 2 }, mesh, style));
    if ui.frozen.is_some() {
        let behind = figure::age(figure::between(world.now, ui.now));
        out.push(piece(7, format!("{behind} behind"), palette.note));
    }
    let skipped = coverage.mesh.skipped.len();
    if skipped > 0 {
        out.push(piece(3, format!("{skipped} skipped"), palette.warn));
    }
    let (attached, hooks) = (coverage.capture.attached(), coverage.capture.hooks.len());
    let (bpf, style) = if blind(world) {
        ("bpf NONE".to_owned(), palette.bad)
    } else if coverage.capture.tier.is_empty() {
        ("bpf loading".to_owned(), palette.note)
    } else {
        (format!("bpf {attached}/{hooks}"), if attached < hooks { palette.warn } else { palette.text })
    };
    out.push(piece(if style == palette.text { 4 } else { 1 }, bpf, style));
    let lost = coverage.lost_total();
    let style = if lost > 0 { palette.warn } else { palette.text };
    out.push(piece(0, format!("lost {}", figure::short(lost)), style));
    out
}

/// Draws it.
pub fn draw(pen: &mut Pen<'_>, world: &World, ui: &Ui) {
    let look = pen.look;
    let palette = &look.palette;
    let width = usize::from(pen.width());
    let state = state(world, ui);
    let state_style = match state {
        State::Live => palette.header,
        State::Wait => palette.note.add_modifier(Modifier::BOLD),
        State::Paused => palette.select.add_modifier(Modifier::BOLD),
        State::Blind | State::Stale => palette.bad,
        State::Replay => palette.note,
    };
    let mut clock = figure::clock(ui.instant());
    if width >= 100 {
        clock.push_str(" UTC");
    }
    let mut pieces = pieces(world, ui, look);
    let clock_cells = if width >= 60 { clock.len() + 2 } else { 0 };
    let right = clock_cells + state.as_str().len() + 2;
    let separator = format!(" {} ", look.glyphs.dot);
    let taken = |pieces: &[Piece]| {
        let text: usize = pieces.iter().map(|p| pen::cells(&p.text, look)).sum();
        text + pieces.len().saturating_sub(1) * 3 + 1
    };
    while taken(&pieces) + right > width {
        // Node names can be long: the name is shortened before other pieces go.
        let over = taken(&pieces) + right - width;
        let name = &mut pieces[0];
        if name.drop == 6 && name.text.chars().count() > over + 12 {
            let kept = name.text.chars().count() - over - 1;
            name.text = name.text.chars().take(kept).chain(look.glyphs.ellipsis.chars()).collect();
            break;
        }
        let Some(last) = (0..pieces.len()).max_by_key(|&i| pieces[i].drop).filter(|&i| pieces[i].drop > 0) else {
            break;
        };
        pieces.remove(last);
    }
    let mut x = 1;
    if width >= 110 && taken(&pieces) + right + 12 <= width {
        x += pen.text(x, 0, 12, "egress-tui", palette.dim) + 2;
    }
    for (i, piece) in pieces.iter().enumerate() {
        if i > 0 {
            x += pen.text(x, 0, 3, &separator, palette.dim);
        }
        x += pen.text(x, 0, pen.width(), &piece.text, piece.style);
    }
    let end = pen.width().saturating_sub(1);
    let state_width = state.as_str().len() as u16;
    pen.right(end.saturating_sub(state_width), 0, state_width, state.as_str(), state_style);
    if clock_cells > 0 {
        let gap = if width >= 100 { 2 } else { 1 };
        let cells = clock.len() as u16;
        pen.right(end.saturating_sub(state_width + gap + cells), 0, cells, &clock, palette.text);
    }
}
