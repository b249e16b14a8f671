//! The seven classes at a glance: counts, bytes per second, the last minute.

use egress_core::query::{NEW_SECONDS, Page};
use egress_core::verdict::Class;
use egress_core::world::HISTORY_SECONDS;

use crate::tui::figure;
use crate::tui::layout::Summary;
use crate::tui::pen::Pen;
use crate::tui::ui::Ui;
use crate::tui::widget::spark;

/// Problems stand left, in reading order. What was stopped moved no bytes: it is a count elsewhere.
const CELLS: [[Class; 3]; 2] =
    [[Class::Bypass, Class::Unregistered, Class::Unknown], [Class::Direct, Class::Gateway, Class::Exempt]];

/// `xx 2 stopped`.
pub fn stopped(page: &Page) -> String {
    format!("{} {} stopped", Class::Stopped.mark(), figure::short(page.totals.class(Class::Stopped).flows))
}

fn samples(page: &Page, class: Class) -> Vec<Option<u64>> {
    page.world.history.iter().map(|second| second.map(|classes| classes[class as usize])).collect()
}

/// Draws it in the form that the layout chose.
pub fn draw(pen: &mut Pen<'_>, page: &Page, ui: &Ui, form: Summary) {
    match form {
        Summary::Table => table(pen, page, ui),
        Summary::Lines => two_lines(pen, page, ui),
        Summary::Counts => counts(pen, page),
        Summary::Gone => {}
    }
}

fn table(pen: &mut Pen<'_>, page: &Page, ui: &Ui) {
    let look = pen.look;
    let palette = &look.palette;
    let half = pen.width() / 2;
    let spark_width = 20;
    let minutes = NEW_SECONDS / 60;
    for (column, classes) in (0..).zip(CELLS) {
        let x = 1 + column * half;
        pen.text(x, 0, 5, "class", palette.dim);
        pen.right(x + 11, 0, 5, "flows", palette.dim);
        pen.right(x + 17, 0, 8, "tx+rx/s", palette.dim);
        pen.text(x + 27, 0, spark_width, "bytes/s, last 60 s", palette.dim);
        pen.text(x + 48, 0, 8, &format!("last {minutes}m"), palette.dim);
        for (y, class) in (1..).zip(classes) {
            let total = page.totals.class(class);
            let word = look.class(class);
            // What there is none of draws no attention.
            let (mark, word) = if total.flows == 0 { (palette.dim, palette.dim) } else { (look.mark(class), word) };
            pen.text(x, y, 2, class.mark(), mark);
            pen.text(x + 3, y, 8, class.word(), word);
            let number = if total.flows == 0 { palette.dim } else { palette.text };
            pen.right(x + 11, y, 5, &figure::short(total.flows), number);
            pen.right(x + 17, y, 8, &figure::short(total.rate), number);
            spark::draw(pen, x + 27, y, spark_width, &samples(page, class), HISTORY_SECONDS, ui.peak);
            let new = if total.new == 0 { "=".to_owned() } else { format!("+{} new", figure::short(total.new)) };
            pen.text(x + 48, y, 9, &new, if total.new == 0 { palette.dim } else { palette.text });
        }
    }
}

fn two_lines(pen: &mut Pen<'_>, page: &Page, ui: &Ui) {
    let look = pen.look;
    let palette = &look.palette;
    let beside = 13;
    // Mark, word, count and the spaces between them; the rest is the sparkline's.
    let words = 2 + 1 + 7 + 1 + 4 + 1;
    let cell = (pen.width().saturating_sub(beside + 1)) / 3;
    let room = cell.saturating_sub(words + 1).min(20);
    for (x, y, class) in
        (0..).zip(CELLS).flat_map(|(y, row)| (0..).zip(row).map(move |(x, class)| (1 + x * cell, y, class)))
    {
        let total = page.totals.class(class);
        let (mark, word) =
            if total.flows == 0 { (palette.dim, palette.dim) } else { (look.mark(class), look.class(class)) };
        let count = figure::short(total.flows);
        pen.text(x, y, 2, class.mark(), mark);
        let used = pen.text(x + 3, y, 7, class.word(), word);
        pen.text(x + 4 + used, y, 4, &count, palette.text);
        spark::draw(pen, x + words, y, room, &samples(page, class), HISTORY_SECONDS, ui.peak);
    }
    let end = pen.width().saturating_sub(beside + 1);
    let all = figure::plural(page.totals.flows as u64, "flow");
    pen.right(end, 0, beside, &stopped(page), palette.dim);
    pen.right(end, 1, beside, &all, palette.dim);
}

fn counts(pen: &mut Pen<'_>, page: &Page) {
    let look = pen.look;
    let mut x = 1;
    for class in Class::ALL {
        let total = page.totals.class(class);
        let empty = total.flows == 0;
        let width = pen.width().saturating_sub(x);
        let mark = if empty { look.palette.dim } else { look.mark(class) };
        let count = if empty { look.palette.dim } else { look.class(class) };
        x += pen.pieces(x, 0, width, [(class.mark(), mark), (&*figure::short(total.flows), count)]) + 1;
    }
}
