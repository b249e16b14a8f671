//! The last lines: why the selected row is what it is, and the keys.

use egress_core::filter::{Filter, Tree};
use egress_core::query::{Page, SortBy};
use egress_core::verdict::Mark;

use crate::tui::figure;
use crate::tui::key::{Action, BINDINGS, Place};
use crate::tui::pen::{self, Pen};
use crate::tui::ui::Ui;

use super::summary;

/// What the list shows, on a line of its own.
pub fn draw_status(pen: &mut Pen<'_>, page: &Page, ui: &Ui) {
    let palette = &pen.look.palette;
    let (text, dim) = (palette.text, palette.dim);
    let shown = if page.listed == page.totals.flows {
        figure::plural(page.totals.flows as u64, "flow")
    } else {
        format!("{} of {}", page.listed, figure::plural(page.totals.flows as u64, "flow"))
    };
    let problems = if ui.query.problems_only { "on" } else { "off" };
    let problems_style = if ui.query.problems_only { palette.header } else { dim };
    let mut x = 1;
    for chip in chips(ui) {
        x += pen.pieces(x, 0, pen.width().saturating_sub(x), [("[", dim), (&*chip, palette.header), ("] ", dim)]);
    }
    if x == 1 {
        x += pen.pieces(1, 0, pen.width(), [("all   ", text)]);
    }
    let x = x + pen.pieces(x, 0, pen.width().saturating_sub(x), [(&*shown, text), ("   ", text)]);
    let x = x + pen.text(x, 0, pen.width(), &summary::stopped(page), text) + 4;
    let x = x + pen.pieces(x, 0, pen.width(), [("sort ", dim), (&*order(ui), text)]) + 4;
    pen.pieces(x, 0, pen.width().saturating_sub(x), [("b problems only: ", dim), (problems, problems_style)]);
}

/// The parts of the filter that all have to hold.
fn chips(ui: &Ui) -> Vec<String> {
    match ui.query.filter.as_ref().map(Filter::tree) {
        None => Vec::new(),
        Some(Tree::And(parts)) => parts.iter().map(ToString::to_string).collect(),
        Some(tree) => vec![tree.to_string()],
    }
}

fn order(ui: &Ui) -> String {
    let sort = ui.query.sort;
    let name = if sort.by == SortBy::Verdict { "severity, then bytes/s" } else { sort.by.as_str() };
    if sort.reversed { format!("{name}, reversed") } else { name.to_owned() }
}

/// The line above `why`. Where there is no status line, it says what the list leaves out.
pub fn draw_rule(pen: &mut Pen<'_>, page: &Page, ui: &Ui, says_status: bool) {
    let palette = &pen.look.palette;
    let style = palette.header;
    pen.rule(0);
    if !says_status {
        return;
    }
    let mut parts = Vec::new();
    parts.extend(chips(ui).into_iter().map(|chip| format!("[{chip}]")));
    if ui.query.problems_only {
        parts.push("problems only".to_owned());
    }
    if page.listed != page.totals.flows {
        parts.push(format!("{} of {}", page.listed, page.totals.flows));
    }
    if ui.query.sort.by != SortBy::Verdict || ui.query.sort.reversed {
        parts.push(format!("sort {}", order(ui)));
    }
    if !parts.is_empty() {
        let text = format!(" {} ", parts.join(&format!(" {} ", pen.look.glyphs.dot)));
        let width = pen.width().saturating_sub(4);
        pen.right(2, 0, width, &text, style);
    }
}

/// Why the selected row is what it is: the engine's sentence, which names object and field.
pub fn draw_why(pen: &mut Pen<'_>, page: &Page) {
    let palette = &pen.look.palette;
    let (text, dim) = (palette.text, palette.dim);
    let x = 1 + pen.pieces(1, 0, 4, [("why", palette.key)]) + if pen.height() > 1 { 2 } else { 1 };
    let Some(flow) = &page.current else {
        let says = if page.totals.flows == 0 { "nothing to explain yet" } else { "no row is selected" };
        pen.text(x, 0, pen.width().saturating_sub(x), says, dim);
        return;
    };
    let room = pen.width().saturating_sub(x + 1);
    let judgement = &flow.judgement;
    let why = if judgement.why.is_empty() { judgement.reason().meaning() } else { &judgement.why };
    let height = pen.height();
    let whole = pen::wrap(why, usize::from(room), usize::from(height) + 1, pen.look);
    let step = judgement.chain.iter().rev().find(|s| s.mark == Mark::Decides);
    let Some((step, object)) =
        step.and_then(|s| Some((s, s.object.as_ref()?))).filter(|_| whole.len() > usize::from(height) && height > 1)
    else {
        for (y, line) in (0..).zip(pen::wrap(why, usize::from(room), usize::from(height), pen.look)) {
            pen.text(x, y, room, &line, text);
        }
        return;
    };
    // Too long for its lines: the sentence is cut, what decided is named in any case.
    for (y, line) in (0..).zip(pen::wrap(&step.says.text(), usize::from(room), usize::from(height) - 1, pen.look)) {
        pen.text(x, y, room, &line, text);
    }
    let field = step.field.as_ref().map_or("", |f| f.as_str());
    let field_room = (pen::cells(field, pen.look) as u16).min(room * 3 / 5);
    let name = object.to_string();
    let used = pen.middle(x, height - 1, room - field_room - u16::from(field_room > 0), &name, dim);
    pen.middle(x + used + 1, height - 1, field_room, field, dim);
}

/// Keys that are valid here, as many as fit; or the message that was said last.
pub fn draw_keys(pen: &mut Pen<'_>, ui: &Ui) {
    let look = pen.look;
    let palette = &look.palette;
    let place = ui.place();
    let ascii = look.glyphs.ascii;
    let width = pen.width();
    let end = match place {
        Place::Help => "q quit",
        Place::Filter => "Ctrl-C quit",
        _ => "? help  q quit",
    };
    let end_width = end.len() as u16;
    if width > end_width + 2 {
        let x = width - end_width - 1;
        let pieces: &[(&str, _)] = match place {
            Place::Help => &[("q", palette.key), (" quit", palette.text)],
            Place::Filter => &[("Ctrl-C", palette.key), (" quit", palette.text)],
            _ => &[("?", palette.key), (" help  ", palette.text), ("q", palette.key), (" quit", palette.text)],
        };
        pen.pieces(x, 0, end_width, pieces.iter().copied());
    }
    let room = usize::from(width.saturating_sub(end_width + 4));
    if let Some(toast) = &ui.toast {
        pen.text(1, 0, room as u16, &toast.text, palette.note);
        return;
    }
    let arrows = if ascii { "Up/Down" } else { "↑↓" };
    let moves = match place {
        Place::Explain => "step",
        Place::Yaml | Place::Help => "scroll",
        Place::List | Place::Menu | Place::Filter => "select",
    };
    let mut hints = vec![(4, arrows.to_owned(), moves)];
    for binding in BINDINGS.iter().filter(|b| b.places.contains(&place)) {
        let Some((says, drop)) = binding.hint else { continue };
        let says = match (binding.action, place, ui.frozen.is_some()) {
            (Action::Open, Place::Menu, _) => "choose",
            (Action::Open, Place::Filter, _) => "keep",
            (Action::Back, Place::Filter, _) => "undo",
            (Action::Back, Place::List, _) => continue,
            (Action::Problems, _, _) if ui.query.problems_only => "all flows",
            (Action::Pause, _, true) => "resume",
            _ => says,
        };
        // What ends a state that one may have forgotten stays longest.
        let forgotten = says == "resume" || says == "all flows";
        hints.push((if forgotten { 0 } else { drop }, binding.keys[0].name(ascii), says));
    }
    let cells = |hints: &[(u8, String, &str)]| -> usize {
        hints.iter().map(|(_, keys, says)| pen::cells(keys, look) + says.len() + 3).sum()
    };
    while cells(&hints) > room {
        let Some(last) = (0..hints.len()).max_by_key(|&i| (hints[i].0, i)) else { break };
        hints.remove(last);
    }
    let mut x = 1;
    for (_, keys, says) in &hints {
        x += pen.pieces(x, 0, width, [(&**keys, palette.key), (" ", palette.text), (*says, palette.text)]) + 2;
    }
}
