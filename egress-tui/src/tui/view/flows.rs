//! The table of flows.

use egress_core::name::NameSource;
use egress_core::query::{Page, Row, SortBy};
use egress_core::world::Flow;
use ratatui::style::{Modifier, Style};

use crate::tui::column::{self, Column, MARGIN, Side};
use crate::tui::figure;
use crate::tui::pen::Pen;
use crate::tui::ui::Ui;

/// How the name is known, in four cells.
pub fn name_source(source: NameSource) -> &'static str {
    match source {
        NameSource::Sni => "sni",
        NameSource::Http => "http",
        NameSource::Dns => "dns",
        NameSource::Entry => "se",
        NameSource::None => "ip",
    }
}

/// What is spoken, in four cells.
fn spoken(flow: &Flow) -> &'static str {
    match flow.spoken() {
        "http2" => "h2",
        l7 => l7,
    }
}

/// What a Deployment's pod is called without the hashes of its ReplicaSet and its own.
fn owner(pod: &str) -> &str {
    const SAFE: &str = "bcdfghjklmnpqrstvwxz2456789";
    let hash = |part: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&part.len()) && part.chars().all(|c| SAFE.contains(c))
    };
    match pod.rsplit_once('-') {
        Some((set, own)) if hash(own, 5..=5) => match set.rsplit_once('-') {
            Some((deployment, template)) if hash(template, 6..=10) => deployment,
            _ => set,
        },
        _ => pod,
    }
}

/// Draws the titles of the columns.
pub fn draw_titles(pen: &mut Pen<'_>, ui: &Ui) {
    let look = pen.look;
    let order = look.glyphs.order[usize::from(ui.query.sort.reversed)];
    let mut x = MARGIN;
    let mut mark = 0;
    let columns = column::plan(pen.width());
    let verdict = columns.iter().any(|(c, _)| *c == Column::Verdict);
    for (column, width) in columns {
        let sorted = column.sort() == Some(ui.query.sort.by)
            || (column == Column::Rate && matches!(ui.query.sort.by, SortBy::Sent | SortBy::Received));
        let title = format!("{}{}", column.title(), if sorted { order } else { "" });
        match column.side() {
            // The mark belongs to the verdict; the title stands over both.
            Side::Left => pen.text(x - mark, 0, width + mark, &title, look.palette.header),
            Side::Right => pen.right(x, 0, width, &title, look.palette.header),
        };
        mark = if column == Column::Mark && verdict { width + 1 } else { 0 };
        x += width + 1;
    }
}

/// Draws the rows of the page, and the scroll bar.
pub fn draw_rows(pen: &mut Pen<'_>, page: &Page, ui: &Ui) {
    let columns = column::plan(pen.width());
    let named = columns.iter().any(|(c, _)| *c == Column::Name);
    for (y, row) in (0..).zip(&page.rows) {
        let selected = page.selected == Some(page.first + usize::from(y));
        draw_row(pen, y, row, &columns, named, selected, ui);
    }
    scroll_bar(pen, page);
}

fn draw_row(pen: &mut Pen<'_>, y: u16, row: &Row, columns: &[(Column, u16)], named: bool, selected: bool, ui: &Ui) {
    let look = pen.look;
    let palette = &look.palette;
    let flow = &*row.flow;
    let class = flow.class();
    if selected {
        pen.paint(y, pen.width() - 1, palette.select);
        pen.symbol(0, y, look.glyphs.cursor, palette.select);
    }
    // A reversed mark on a reversed row would vanish: the row says it by its word.
    let over = |style: Style| match (row.gone, selected) {
        (true, _) => palette.dim.patch(palette_selection(selected, palette.select)).add_modifier(Modifier::CROSSED_OUT),
        (false, false) => style,
        (false, true) => Style { sub_modifier: Modifier::REVERSED, ..style }.patch(palette.select),
    };
    let mut x = MARGIN;
    for &(column, width) in columns {
        let words = if matches!(column, Column::Mark | Column::Verdict) { look.class(class) } else { palette.text };
        let style = over(match column {
            Column::Mark => look.mark(class),
            Column::Name | Column::L7 | Column::Process => palette.dim,
            _ => words,
        });
        let number = |n: u64| (figure::short(n), over(if n == 0 { palette.dim } else { palette.text }));
        match column {
            Column::Mark => pen.text(x, y, width, class.mark(), style),
            // The star: judged by objects that may be out of date.
            Column::Verdict if flow.stale > 0 => pen.text(x, y, width, &format!("{}*", flow.verdict().word()), style),
            Column::Verdict => pen.text(x, y, width, flow.verdict().word(), style),
            Column::Workload => pen.qualified(x, y, width, &flow.source.label(), style),
            Column::Host => {
                let inferred = matches!(flow.destination.name.source, NameSource::Dns | NameSource::Entry);
                let mark = if inferred && !named { "~" } else { "" };
                pen.middle(x, y, width, &format!("{mark}{}", flow.destination.label()), style)
            }
            Column::Name => pen.text(x, y, width, name_source(flow.destination.name.source), style),
            Column::Port => pen.right(x, y, width, &flow.destination.port.to_string(), style),
            Column::L7 => pen.text(x, y, width, spoken(flow), style),
            Column::Via => pen.text(x, y, width, owner(&flow.via()), style),
            Column::Rate => {
                let (text, style) = number(flow.sent_per_second + flow.received_per_second);
                pen.right(x, y, width, &text, style)
            }
            Column::Sent => {
                let (text, style) = number(flow.sent_per_second);
                pen.right(x, y, width, &text, style)
            }
            Column::Received => {
                let (text, style) = number(flow.received_per_second);
                pen.right(x, y, width, &text, style)
            }
            Column::Age => {
                let age = figure::age(figure::between(flow.first_seen, ui.instant()));
                pen.right(x, y, width, &age, style)
            }
            Column::Connections => pen.right(x, y, width, &figure::short(flow.connections), style),
            Column::Process => match &flow.source.process {
                Some(process) => pen.text(x, y, width, &format!("{} {}", process.pid, process.comm), style),
                None => 0,
            },
        };
        x += width + 1;
    }
}

fn palette_selection(selected: bool, select: Style) -> Style {
    if selected { select } else { Style::new() }
}

fn scroll_bar(pen: &mut Pen<'_>, page: &Page) {
    let look = pen.look;
    let height = usize::from(pen.height());
    if page.listed <= height || height == 0 {
        return;
    }
    let thumb = (height * height / page.listed).clamp(1, height);
    let top = (page.first * (height - thumb)).div_ceil((page.listed - height).max(1)).min(height - thumb);
    let x = pen.width().saturating_sub(1);
    for y in 0..height {
        let on = (top..top + thumb).contains(&y);
        pen.symbol(x, y as u16, look.glyphs.scroll[usize::from(on)], look.palette.border);
    }
}
