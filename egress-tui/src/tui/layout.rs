//! Where things are. What goes first when the screen gets smaller is decided here and nowhere else.

use egress_core::world::World;
use ratatui::layout::Rect;

use super::look::Look;
use super::ui::Ui;
use super::view::notice;

/// Below this nothing can be read.
pub const SMALLEST: (u16, u16) = (40, 8);

/// How much room the summary of classes has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Summary {
    /// A table of two by three with sparklines and words.
    Table,
    /// Two lines with short sparklines.
    Lines,
    /// One line of counts.
    Counts,
    /// None.
    Gone,
}

/// The list's screen, top to bottom. A rectangle without height is not drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Where am I, how well do I see.
    pub header: Rect,
    /// What is missing.
    pub notice: Rect,
    /// How the summary is drawn.
    pub summary_as: Summary,
    /// The classes.
    pub summary: Rect,
    /// What the list shows, and in which order.
    pub status: Rect,
    /// Titles of columns.
    pub titles: Rect,
    /// Rows.
    pub rows: Rect,
    /// The line above `why`.
    pub rule: Rect,
    /// Why the selected row is what it is.
    pub why: Rect,
    /// Keys.
    pub footer: Rect,
    /// Lines go between the parts.
    pub airy: bool,
}

/// Takes rectangles off the top of what is left.
struct Column(Rect);

impl Column {
    fn top(&mut self, height: u16) -> Rect {
        let height = height.min(self.0.height);
        let taken = Rect { height, ..self.0 };
        self.0.y += height;
        self.0.height -= height;
        taken
    }

    fn bottom(&mut self, height: u16) -> Rect {
        let height = height.min(self.0.height);
        self.0.height -= height;
        Rect { y: self.0.y + self.0.height, height, ..self.0 }
    }
}

/// `None` below [`SMALLEST`].
pub fn plan(area: Rect, world: &World, ui: &Ui, look: &Look) -> Option<Plan> {
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        return None;
    }
    let airy = area.height >= 28;
    let summary_as = match (area.width, area.height) {
        (110.., 28..) => Summary::Table,
        (72.., 20..) => Summary::Lines,
        (_, 14..) => Summary::Counts,
        _ => Summary::Gone,
    };
    let most = if area.height < 14 { 0 } else { area.height / 5 };
    let notice_lines = notice::lines(world, ui, look, area.width, usize::from(most)).len() as u16;
    let mut rest = Column(area);
    let header = rest.top(1);
    let footer = rest.bottom(1);
    let why = rest.bottom(if area.height >= 18 { 2 } else { 1 });
    let rule = rest.bottom(u16::from(area.height >= 10));
    let line = u16::from(airy);
    let notice = {
        let taken = rest.top(if notice_lines > 0 { notice_lines + line } else { 0 });
        Rect { y: taken.y + line.min(taken.height), height: taken.height.saturating_sub(line), ..taken }
    };
    let summary_height = match summary_as {
        Summary::Table => 4,
        Summary::Lines => 2,
        Summary::Counts => 1,
        Summary::Gone => 0,
    };
    let _above = rest.top(line);
    let summary = rest.top(summary_height);
    let _below = rest.top(line);
    let status = rest.top(line);
    let titles = rest.top(1);
    let rows = rest.top(u16::MAX);
    Some(Plan { header, notice, summary_as, summary, status, titles, rows, rule, why, footer, airy })
}

/// The screen between header and footer, for panes that take all of it.
pub fn body(area: Rect) -> Rect {
    Rect { y: area.y + 1, height: area.height.saturating_sub(2), ..area }
}
