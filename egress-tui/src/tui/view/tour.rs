//! The band of a tour below everything else.

use ratatui::layout::Rect;

use crate::tui::pen::{self, Pen};
use crate::tui::tour::Tour;
use crate::tui::ui::Ui;

/// Lines of text that a stop may take.
fn most(height: u16) -> u16 {
    match height {
        0..14 => 0,
        14..24 => 1,
        24..30 => 3,
        _ => 4,
    }
}

/// The screen without the band, and the band; it has no height where there is no tour or no room.
pub fn split(area: Rect, ui: &Ui) -> (Rect, Rect) {
    let text = if ui.tour.as_ref().is_some_and(|tour| tour.stop().is_some()) { most(area.height) } else { 0 };
    let height = if text > 0 { text + 1 } else { 0 };
    let above = area.height - height;
    (Rect { height: above, ..area }, Rect { y: area.y + above, height, ..area })
}

/// Draws it.
pub fn draw(pen: &mut Pen<'_>, tour: &Tour) {
    let Some(stop) = tour.stop() else { return };
    let (width, height) = (pen.width(), pen.height());
    if height == 0 {
        return;
    }
    let palette = &pen.look.palette;
    let (strong, text, dim) = (palette.header, palette.text, palette.dim);
    let (at, all) = tour.place();
    pen.rule(0);
    let title = format!(" {at}/{all}  {} ", stop.title);
    let keys = if at < all { " Space next · Backspace back " } else { " Space ends the tour · Backspace back " };
    let used = pen.text(2, 0, width.saturating_sub(4), &title, strong);
    let room = width.saturating_sub(used + 6);
    if usize::from(room) > pen::cells(keys, pen.look) {
        pen.right(used + 3, 0, room, keys, dim);
    }
    let lines = pen::wrap(stop.text, usize::from(width.saturating_sub(2)), usize::from(height - 1), pen.look);
    for (y, line) in (1..).zip(lines) {
        pen.text(1, y, width.saturating_sub(2), &line, text);
    }
}
