//! Help: made from the table of keys, the table of verdicts and the names of evidence. Searchable.

use egress_core::filter::Field;
use egress_core::query::SortBy;
use egress_core::verdict::{Class, Verdict};
use ratatui::style::Style;

use crate::tui::key::{BINDINGS, Group, Place};
use crate::tui::look::Look;
use crate::tui::menu::Menu;
use crate::tui::pen::{self, Pen};
use crate::tui::ui::{Overlay, Ui};

/// Cells of the keys and words.
const LEFT: usize = 18;

/// One line: a key or word, and what it means. A title has no meaning.
struct Line {
    left: String,
    right: String,
    style: Style,
}

/// Where the keys of help itself belong, and the place below it.
fn below(ui: &Ui) -> Place {
    match &ui.detail {
        Some(detail) if detail.yaml.is_some() => Place::Yaml,
        Some(_) => Place::Explain,
        None => Place::List,
    }
}

/// Sections of the left column, and of the right one where there are two.
fn sections(ui: &Ui, look: &Look) -> [Vec<Vec<Line>>; 2] {
    let palette = &look.palette;
    let ascii = look.glyphs.ascii;
    let place = below(ui);
    let title = |text: &str| Line { left: text.to_owned(), right: String::new(), style: palette.header };
    let line = |left: String, right: &str, style| Line { left, right: right.to_owned(), style };
    let mut sections = Vec::new();
    for group in Group::ALL {
        let bound = BINDINGS
            .iter()
            .filter(|b| b.group == group && (b.places.contains(&place) || b.places.contains(&Place::Help)));
        let keys: Vec<_> = bound.map(|b| line(b.names(ascii), b.help, palette.key)).collect();
        if !keys.is_empty() {
            sections.push([title(group.title())].into_iter().chain(keys).collect());
        }
    }
    let evidence = [
        ("sni", "server name of the TLS hello"),
        ("http", "Host header of the request"),
        ("dns ~", "from a DNS answer: inferred"),
        ("se ~", "from a ServiceEntry's address"),
        ("ip", "no name is known"),
    ];
    let lines = evidence.map(|(word, says)| line(word.to_owned(), says, palette.text));
    sections.push([title("NAME: HOW IT IS KNOWN")].into_iter().chain(lines).collect());
    let fields = Field::ALL.iter().map(|f| line(format!("{}:", f.name()), f.help(), palette.text));
    sections.push([title("FILTER: FIELDS")].into_iter().chain(fields).collect());
    let mut verdicts = Vec::new();
    for class in Class::ALL {
        let words = Verdict::ALL.iter().filter(|v| v.class() == class);
        let lines = words.map(|v| line(format!("{} {}", class.mark(), v.word()), v.definition(), look.class(class)));
        verdicts.push([title(&format!("VERDICTS: {}", class.as_str()))].into_iter().chain(lines).collect());
    }
    [sections, verdicts]
}

/// A line of a column: key or word, its style, what it means.
type Shown = (String, Style, String);

/// Everything that fits the search, in as many columns.
fn columns_of(ui: &Ui, look: &Look, search: &str, columns: usize, width: usize) -> Vec<Vec<Shown>> {
    let wanted = search.to_lowercase();
    let hit = |l: &Line| format!("{} {}", l.left, l.right).to_lowercase().contains(&wanted);
    let mut out: Vec<Vec<Shown>> = vec![Vec::new(); columns];
    for (column, sections) in sections(ui, look).into_iter().enumerate() {
        let out = &mut out[column.min(columns - 1)];
        for section in sections {
            let found: Vec<_> = section.iter().skip(1).filter(|l| wanted.is_empty() || hit(l)).collect();
            if found.is_empty() {
                continue;
            }
            if !out.is_empty() {
                out.push((String::new(), look.palette.text, String::new()));
            }
            out.push((section[0].left.clone(), section[0].style, String::new()));
            let room = width.saturating_sub(width.min(LEFT)).max(12);
            for line in found {
                for (i, part) in pen::wrap(&line.right, room, 4, look).into_iter().enumerate() {
                    out.push((if i == 0 { line.left.clone() } else { String::new() }, line.style, part));
                }
            }
        }
    }
    // A column that the search left empty gives its place to the other.
    if columns == 2 && out[0].is_empty() {
        out.swap(0, 1);
    }
    if out.iter().all(Vec::is_empty) {
        out[0].push((format!("nothing about \"{search}\""), look.palette.dim, String::new()));
    }
    out
}

fn inner(width: u16, height: u16) -> (u16, u16, u16, u16) {
    let margin = if width >= 100 { 4 } else { 1 };
    (margin, 1, width.saturating_sub(2 * margin), height.saturating_sub(2))
}

/// Columns of the overlay: help is read in two where there is room.
fn columns(width: u16) -> usize {
    if width >= 100 { 2 } else { 1 }
}

/// How many lines there are and how many fit.
pub fn measure(ui: &Ui, look: &Look, width: u16, height: u16) -> (usize, usize) {
    let Some(Overlay::Help { search, .. }) = &ui.overlay else { return (0, 0) };
    let (_, _, inner_width, inner_height) = inner(width, height);
    let columns = columns(width);
    let cells = usize::from(inner_width.saturating_sub(4)) / columns;
    let room = usize::from(inner_height.saturating_sub(2));
    let longest = columns_of(ui, look, search, columns, cells.saturating_sub(2)).iter().map(Vec::len).max();
    (longest.unwrap_or(0), room)
}

/// Draws it over the screen.
pub fn draw(pen: &mut Pen<'_>, ui: &Ui) {
    let Some(Overlay::Help { top, search, typing }) = &ui.overlay else { return };
    let look = pen.look;
    let palette = &look.palette;
    let (x, y, width, height) = inner(pen.width(), pen.height());
    let columns = columns(pen.width());
    let mut pen = pen.within(x, y, width, height);
    pen.clear();
    let place = match below(ui) {
        Place::Explain => "explain",
        Place::Yaml => "yaml",
        _ => "flows",
    };
    pen.frame(&format!("help {} {place}", look.glyphs.dot));
    let cells = usize::from(width.saturating_sub(4)) / columns;
    let shown = columns_of(ui, look, search, columns, cells.saturating_sub(2));
    let room = usize::from(height.saturating_sub(2));
    let longest = shown.iter().map(Vec::len).max().unwrap_or(0);
    for (column, lines) in shown.into_iter().enumerate() {
        let x = 2 + (column * cells) as u16;
        let left_width = cells.saturating_sub(2).min(LEFT) as u16;
        for (y, (left, style, right)) in (1..).zip(lines.into_iter().skip(*top).take(room)) {
            let title = right.is_empty();
            pen.text(x, y, if title { cells as u16 } else { left_width - 1 }, &left, style);
            pen.text(x + left_width, y, (cells as u16).saturating_sub(left_width + 2), &right, palette.text);
        }
    }
    let more = if longest > top + room { "PgDn more  " } else { "" };
    let foot = if *typing || !search.is_empty() {
        format!(" search: {search}{} ", if *typing { "_" } else { "" })
    } else {
        format!(" {more}/ search  Esc close ")
    };
    pen.right(2, height.saturating_sub(1), width.saturating_sub(4), &foot, palette.dim);
}

/// Draws a menu over the screen.
pub fn draw_menu(pen: &mut Pen<'_>, ui: &Ui, menu: Menu, row: usize) {
    let rows = menu.rows();
    let look = pen.look;
    let palette = &look.palette;
    let (width, height) = (24.min(pen.width()), (rows.len() as u16 + 2).min(pen.height().saturating_sub(2)));
    let (x, y) = ((pen.width() - width) / 2, (pen.height() - height) / 2);
    let mut pen = pen.within(x, y, width, height);
    pen.clear();
    pen.frame(menu.title());
    let room = usize::from(height.saturating_sub(2));
    let top = (row + 1).saturating_sub(room);
    for (y, (i, text)) in (1..).zip(rows.iter().enumerate().skip(top).take(room)) {
        let style = if i == row { palette.select } else { palette.text };
        let in_force = menu == Menu::Sort && SortBy::ALL[i] == ui.query.sort.by;
        let now = if in_force { look.glyphs.order[usize::from(ui.query.sort.reversed)] } else { " " };
        let mut line = pen.within(1, y, width - 2, 1);
        line.paint(0, width - 2, style);
        line.symbol(0, 0, if i == row { look.glyphs.cursor } else { " " }, style);
        line.pieces(2, 0, width, [(*text, style), (" ", style), (now, style)]);
    }
}
