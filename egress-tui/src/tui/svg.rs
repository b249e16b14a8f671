//! A screen as a picture: from the buffer, without a terminal, the same bytes every time.

use std::fmt::Write as _;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr;

/// Width of a cell, in tenths of the picture's unit.
const TENTHS: u32 = 84;
/// Height of a cell.
const HEIGHT: u32 = 18;
const MARGIN: u32 = 10;
const BACKGROUND: &str = "#12161c";
const TEXT: &str = "#c8c8c8";

#[derive(Debug, Clone, PartialEq, Eq)]
struct Ink {
    fg: String,
    bg: Option<String>,
    modifier: Modifier,
}

fn hex(color: Color) -> Option<String> {
    Some(match color {
        Color::Rgb(r, g, b) => format!("#{r:02x}{g:02x}{b:02x}"),
        Color::Red | Color::LightRed => "#e64b4b".to_owned(),
        Color::Yellow | Color::LightYellow => "#f5b421".to_owned(),
        Color::Blue | Color::LightBlue => "#5c87ca".to_owned(),
        _ => return None,
    })
}

fn ink(cell: &Cell) -> Ink {
    let (mut fg, mut bg) = (hex(cell.fg).unwrap_or_else(|| TEXT.to_owned()), hex(cell.bg));
    if cell.modifier.contains(Modifier::REVERSED) {
        let ground = bg.unwrap_or_else(|| BACKGROUND.to_owned());
        (fg, bg) = (ground, Some(fg));
    }
    Ink { fg, bg, modifier: cell.modifier - Modifier::REVERSED }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Cells of one row that look the same: where they begin, how many, what they say.
fn runs(buffer: &Buffer, y: u16) -> Vec<(u16, u16, Ink, String)> {
    let area = buffer.area;
    let mut runs: Vec<(u16, u16, Ink, String)> = Vec::new();
    let mut covered = 0;
    for x in 0..area.width {
        let cell = &buffer[(area.x + x, area.y + y)];
        if covered > 0 {
            covered -= 1;
            continue;
        }
        let cells = cell.symbol().width().max(1) as u16;
        covered = cells - 1;
        let ink = ink(cell);
        match runs.last_mut() {
            Some((_, width, last, text)) if *last == ink => {
                *width += cells;
                text.push_str(cell.symbol());
            }
            _ => runs.push((x, cells, ink, cell.symbol().to_owned())),
        }
    }
    runs
}

fn tenths(n: u32) -> String {
    format!("{}.{}", n / 10, n % 10)
}

/// The buffer as an SVG for dark and light pages alike.
pub fn render(buffer: &Buffer, title: &str) -> String {
    let area = buffer.area;
    let width = (u32::from(area.width) * TENTHS).div_ceil(10) + 2 * MARGIN;
    let height = u32::from(area.height) * HEIGHT + 2 * MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" aria-label=\"{title}\">\n<title>{title}</title>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n\
         <g font-family=\"ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace\" font-size=\"14\">\n",
        title = escape(title)
    );
    for y in 0..area.height {
        let top = MARGIN + u32::from(y) * HEIGHT;
        for (x, cells, ink, text) in runs(buffer, y) {
            let left = tenths(MARGIN * 10 + u32::from(x) * TENTHS);
            let long = tenths(u32::from(cells) * TENTHS);
            if let Some(bg) = &ink.bg {
                let _ = writeln!(
                    out,
                    "<rect x=\"{left}\" y=\"{top}\" width=\"{long}\" height=\"{HEIGHT}\" fill=\"{bg}\"/>"
                );
            }
            // Blanks at the ends are not drawn, and those inside are kept by every renderer.
            let shown = text.trim();
            if shown.is_empty() {
                continue;
            }
            let skipped = text.width() - text.trim_start().width();
            let left = tenths(MARGIN * 10 + (u32::from(x) + skipped as u32) * TENTHS);
            let long = tenths(shown.width() as u32 * TENTHS);
            let shown = escape(shown).replace(' ', "\u{a0}");
            let mut style = String::new();
            for (modifier, attribute) in [
                (Modifier::BOLD, " font-weight=\"bold\""),
                (Modifier::ITALIC, " font-style=\"italic\""),
                (Modifier::UNDERLINED, " text-decoration=\"underline\""),
                (Modifier::CROSSED_OUT, " text-decoration=\"line-through\""),
                (Modifier::DIM, " opacity=\"0.6\""),
            ] {
                if ink.modifier.contains(modifier) {
                    style.push_str(attribute);
                }
            }
            let _ = writeln!(
                out,
                "<text x=\"{left}\" y=\"{}\" textLength=\"{long}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{}\"{style}>{shown}</text>",
                top + 13,
                ink.fg,
            );
        }
    }
    out.push_str("</g>\n</svg>\n");
    out
}
