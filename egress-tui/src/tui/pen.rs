//! The only place where text enters a screen. Whatever comes here is cut to its cells and made harmless once more,
//! although it was already validated where it entered the program.

use std::char::EscapeUnicode;
use std::str::Chars;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use unicode_width::UnicodeWidthChar;

use super::look::Look;

/// Longest text that is measured to be cut in the middle; what is longer is cut at the end.
const LONGEST_MIDDLE: usize = 1024;

/// Characters that may be written: what has no width of its own, steers the terminal or reverses the direction of
/// writing is spelled out.
struct Safe<'a> {
    chars: Chars<'a>,
    pending: Pending,
    ascii: bool,
}

enum Pending {
    None,
    Spelled(Chars<'static>),
    Escaped(EscapeUnicode),
}

fn safe(text: &str, ascii: bool) -> Safe<'_> {
    Safe { chars: text.chars(), pending: Pending::None, ascii }
}

/// Characters of our own sentences, in ASCII.
fn spell(c: char) -> Option<&'static str> {
    Some(match c {
        '→' | '▶' => "->",
        '↑' => "^",
        '↓' => "v",
        '…' => "..",
        '·' | '–' | '—' => "-",
        '›' => ">",
        '‹' => "<",
        '“' | '”' => "\"",
        '‘' | '’' => "'",
        '×' => "x",
        '≠' => "!=",
        '≤' => "<=",
        '≥' => ">=",
        'µ' => "u",
        _ => return None,
    })
}

/// Cells of a character that may be written as it is.
fn harmless(c: char) -> Option<u16> {
    let hidden = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..='\u{e0fff}');
    // Marks that turn the direction of what follows without being invisible themselves.
    let turns = matches!(c, '\u{061c}');
    match c.width() {
        Some(width @ 1..=2) if !hidden && !turns && !c.is_control() => Some(width as u16),
        _ => None,
    }
}

impl Iterator for Safe<'_> {
    type Item = (char, u16);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let spelled = match &mut self.pending {
                Pending::None => None,
                Pending::Spelled(chars) => chars.next(),
                Pending::Escaped(chars) => chars.next(),
            };
            if let Some(c) = spelled {
                return Some((c, 1));
            }
            let c = self.chars.next()?;
            self.pending = match harmless(c) {
                Some(width) if !self.ascii || c.is_ascii() => return Some((c, width)),
                _ if matches!(c, '\t' | '\n') => return Some((' ', 1)),
                Some(_) if spell(c).is_some() => Pending::Spelled(spell(c).unwrap_or_default().chars()),
                _ => Pending::Escaped(c.escape_unicode()),
            };
        }
    }
}

/// Cells that the text takes.
pub fn cells(text: &str, look: &Look) -> usize {
    safe(text, look.glyphs.ascii).map(|(_, width)| usize::from(width)).sum()
}

/// Breaks a text at spaces into lines of at most `width` cells; what is longer than a line is broken anywhere.
/// At most `most` lines; the last one ends with an ellipsis if something was left out.
pub fn wrap(text: &str, width: usize, most: usize, look: &Look) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    if width == 0 || most == 0 {
        return Vec::new();
    }
    // A screen never shows more than this; a hostile text of any length costs no more.
    let limit = width * (most + 1);
    let clean: String = safe(text, look.glyphs.ascii).map(|(c, _)| c).take(limit).collect();
    for word in clean.split(' ').filter(|w| !w.is_empty()) {
        let length = cells(word, look);
        if used > 0 && used + 1 + length <= width {
            lines.last_mut().expect("there is always a line").push(' ');
            used += 1;
        } else if used > 0 && lines.len() == most {
            // There is no next line: what is left of this one is filled up to the ellipsis.
            let last = lines.last_mut().expect("there is always a line");
            last.push(' ');
            last.push_str(word);
            break;
        } else if used > 0 {
            lines.push(String::new());
            used = 0;
        }
        for (c, cell) in safe(word, look.glyphs.ascii) {
            if used + usize::from(cell) > width {
                let ends = lines.len() == most;
                let full = lines.last_mut().expect("there is always a line");
                let carried = if ends { String::new() } else { full.split_off(joint(full, width)) };
                used = cells(&carried, look);
                lines.push(carried);
            }
            lines.last_mut().expect("there is always a line").push(c);
            used += usize::from(cell);
        }
    }
    let cut = lines.len() > most;
    lines.truncate(most);
    let last = lines.last_mut().expect("most is not zero");
    if cut || cells(last, look) > width {
        while cells(last, look) + cells(look.glyphs.ellipsis, look) > width {
            last.pop();
        }
        last.push_str(look.glyphs.ellipsis);
    }
    lines
}

/// Where a line that one long word fills is best broken: behind the last joint of a name or path, unless that leaves
/// most of the line empty.
fn joint(line: &str, width: usize) -> usize {
    let cut = line.rfind(['/', '.', '|', ',', '-', '_', ':']).map_or(line.len(), |at| at + 1);
    if line[cut..].contains(' ') || cut < width / 3 { line.len() } else { cut }
}

/// Writes text into a rectangle of a buffer.
pub struct Pen<'a> {
    buffer: &'a mut Buffer,
    /// Palette and glyphs.
    pub look: &'a Look,
    /// Where it may write.
    pub area: Rect,
}

impl<'a> Pen<'a> {
    /// A pen for the part of `area` that lies inside the buffer.
    pub fn new(buffer: &'a mut Buffer, look: &'a Look, area: Rect) -> Self {
        let area = area.intersection(buffer.area);
        Self { buffer, look, area }
    }

    /// The same pen, bound to a smaller rectangle given in cells from this one's corner.
    pub fn within(&mut self, x: u16, y: u16, width: u16, height: u16) -> Pen<'_> {
        let corner = Rect::new(self.area.x.saturating_add(x), self.area.y.saturating_add(y), width, height);
        let area = corner.intersection(self.area);
        Pen { buffer: self.buffer, look: self.look, area }
    }

    /// Width of its rectangle.
    pub fn width(&self) -> u16 {
        self.area.width
    }

    /// Height of its rectangle.
    pub fn height(&self) -> u16 {
        self.area.height
    }

    /// Writes from `x`, at most `width` cells, with an ellipsis where something was cut. Returns the cells used.
    pub fn text(&mut self, x: u16, y: u16, width: u16, text: &str, style: Style) -> u16 {
        let room = width.min(self.area.width.saturating_sub(x));
        if room == 0 || y >= self.area.height {
            return 0;
        }
        let mut used = 0;
        let mut chars = safe(text, self.look.glyphs.ascii).peekable();
        while let Some((c, cell)) = chars.next() {
            let fits = used + cell <= room;
            let last = fits && used + cell == room && chars.peek().is_some();
            if !fits || last {
                // What was cut is said in the last cell.
                let at = if fits { used } else { used.min(room - 1) };
                self.symbol(x + at, y, self.look.glyphs.ellipsis, style);
                for rest in at + 1..room {
                    self.symbol(x + rest, y, " ", style);
                }
                return room;
            }
            let mut bytes = [0; 4];
            self.symbol(x + used, y, c.encode_utf8(&mut bytes), style);
            if cell == 2 {
                self.symbol(x + used + 1, y, " ", style);
            }
            used += cell;
        }
        used
    }

    /// Writes the whole text so that it ends at `x + width`.
    pub fn right(&mut self, x: u16, y: u16, width: u16, text: &str, style: Style) -> u16 {
        let used = cells(text, self.look).min(usize::from(width)) as u16;
        self.text(x + width - used, y, used, text, style)
    }

    /// Writes with the middle left out where it does not fit: both ends of a host name matter.
    pub fn middle(&mut self, x: u16, y: u16, width: u16, text: &str, style: Style) -> u16 {
        let ascii = self.look.glyphs.ascii;
        let width = width.min(self.area.width.saturating_sub(x));
        if text.len() > LONGEST_MIDDLE || width < 9 || cells(text, self.look) <= usize::from(width) {
            return self.text(x, y, width, text, style);
        }
        let whole: Vec<(char, u16)> = safe(text, ascii).collect();
        let tail_room = (width - 1) * 2 / 3;
        let mut tail = whole.len();
        let mut room = tail_room;
        while tail > 0 && whole[tail - 1].1 <= room {
            tail -= 1;
            room -= whole[tail].1;
        }
        let head_room = width - 1 - (tail_room - room);
        let mut out = String::new();
        let mut used = 0;
        for &(c, cell) in &whole[..tail] {
            if used + cell > head_room {
                break;
            }
            out.push(c);
            used += cell;
        }
        out.push_str(self.look.glyphs.ellipsis);
        out.extend(whole[tail..].iter().map(|(c, _)| c));
        self.text(x, y, width, &out, style)
    }

    /// Writes `namespace/name`; where it does not fit, the namespace gives way first: names differ at their end.
    pub fn qualified(&mut self, x: u16, y: u16, width: u16, text: &str, style: Style) -> u16 {
        let Some((namespace, name)) = text.split_once('/').filter(|_| text.len() <= LONGEST_MIDDLE) else {
            return self.text(x, y, width, text, style);
        };
        let over = cells(text, self.look).saturating_sub(usize::from(width));
        if over == 0 {
            return self.text(x, y, width, text, style);
        }
        let kept = cells(namespace, self.look).saturating_sub(over + 1).max(3);
        let head: String = safe(namespace, self.look.glyphs.ascii).map(|(c, _)| c).take(kept).collect();
        let text = format!("{head}{}/{name}", self.look.glyphs.ellipsis);
        self.text(x, y, width, &text, style)
    }

    /// Writes pieces one after the other; returns the cells used.
    pub fn pieces<'t>(
        &mut self,
        x: u16,
        y: u16,
        width: u16,
        pieces: impl IntoIterator<Item = (&'t str, Style)>,
    ) -> u16 {
        let mut used = 0;
        for (text, style) in pieces {
            used += self.text(x + used, y, width.saturating_sub(used), text, style);
        }
        used
    }

    /// A line over the whole width.
    pub fn rule(&mut self, y: u16) {
        for x in 0..self.area.width {
            self.symbol(x, y, self.look.glyphs.rule, self.look.palette.border);
        }
    }

    /// A glyph of the look, in one cell.
    pub fn symbol(&mut self, x: u16, y: u16, symbol: &str, style: Style) {
        if x >= self.area.width || y >= self.area.height {
            return;
        }
        if let Some(cell) = self.buffer.cell_mut((self.area.x + x, self.area.y + y)) {
            cell.set_symbol(symbol).set_style(style);
        }
    }

    /// Puts a style over a whole row.
    pub fn paint(&mut self, y: u16, width: u16, style: Style) {
        if y < self.area.height {
            let row = Rect::new(self.area.x, self.area.y + y, width.min(self.area.width), 1);
            self.buffer.set_style(row, style);
        }
    }

    /// Empties the rectangle.
    pub fn clear(&mut self) {
        for y in 0..self.area.height {
            for x in 0..self.area.width {
                if let Some(cell) = self.buffer.cell_mut((self.area.x + x, self.area.y + y)) {
                    cell.reset();
                }
            }
        }
    }

    /// A box along the edge of the rectangle.
    pub fn frame(&mut self, title: &str) {
        let (width, height) = (self.area.width, self.area.height);
        let style = self.look.palette.border;
        let glyphs = &self.look.glyphs;
        if width < 2 || height < 2 {
            return;
        }
        for x in 1..width - 1 {
            self.symbol(x, 0, glyphs.rule, style);
            self.symbol(x, height - 1, glyphs.rule, style);
        }
        for y in 1..height - 1 {
            self.symbol(0, y, glyphs.bar, style);
            self.symbol(width - 1, y, glyphs.bar, style);
        }
        let [tl, tr, bl, br] = glyphs.corners;
        self.symbol(0, 0, tl, style);
        self.symbol(width - 1, 0, tr, style);
        self.symbol(0, height - 1, bl, style);
        self.symbol(width - 1, height - 1, br, style);
        self.pieces(2, 0, width.saturating_sub(4), [(" ", style), (title, self.look.palette.header), (" ", style)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::look::Theme;

    fn look(ascii: bool) -> Look {
        Look::plain(Theme::Mono, ascii)
    }

    fn written(width: u16, ascii: bool, write: impl FnOnce(&mut Pen<'_>)) -> String {
        let look = look(ascii);
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, 1));
        write(&mut Pen::new(&mut buffer, &look, Rect::new(0, 0, width, 1)));
        buffer.content().iter().map(ratatui::buffer::Cell::symbol).collect()
    }

    #[test]
    fn what_steers_a_terminal_is_spelled_out() {
        let text = "a\u{1b}[31mb\u{9b}2Jc\u{202e}d\u{200b}e\u{301}f\u{7f}\r";
        let shown = written(120, false, |pen| {
            pen.text(0, 0, 120, text, Style::new());
        });
        assert_eq!(shown.trim_end(), "a\\u{1b}[31mb\\u{9b}2Jc\\u{202e}d\\u{200b}e\\u{301}f\\u{7f}\\u{d}");
    }

    #[test]
    fn a_wide_character_takes_two_cells_and_is_never_halved() {
        let shown = written(6, false, |pen| {
            pen.text(0, 0, 6, "漢字漢字", Style::new());
        });
        assert_eq!(shown, "漢 字 … ");
        let shown = written(4, false, |pen| {
            pen.text(0, 0, 4, "漢字", Style::new());
        });
        assert_eq!(shown, "漢 字 ");
    }

    #[test]
    fn both_ends_of_a_host_stay_readable() {
        let shown = written(20, false, |pen| {
            pen.middle(0, 0, 20, "s3.eu-central-1.wasabisys.com", Style::new());
        });
        assert_eq!(shown, "s3.eu-c…asabisys.com");
    }

    #[test]
    fn a_namespace_gives_way_to_the_name() {
        let shown = written(20, false, |pen| {
            pen.qualified(0, 0, 20, "cloud-platform/etl-plain", Style::new());
        });
        assert_eq!(shown, "cloud-pla…/etl-plain");
        let shown = written(12, false, |pen| {
            pen.qualified(0, 0, 12, "cloud-platform/etl-sidecar-shell", Style::new());
        });
        assert_eq!(shown, "clo…/etl-si…");
    }

    #[test]
    fn ascii_means_ascii() {
        let shown = written(40, true, |pen| {
            pen.text(0, 0, 40, "a → b · grüße…", Style::new());
        });
        assert!(shown.is_ascii(), "{shown}");
        assert!(shown.starts_with("a -> b - gr\\u{fc}"), "{shown}");
    }

    #[test]
    fn sixty_four_kibibytes_cost_one_line() {
        let name = "\u{202e}".repeat(64 * 1024);
        assert_eq!(wrap(&name, 20, 2, &look(false)).len(), 2);
        let shown = written(10, false, |pen| {
            pen.middle(0, 0, 10, &name, Style::new());
        });
        assert_eq!(shown, "\\u{202e}\\…");
    }

    #[test]
    fn lines_break_at_spaces() {
        let lines = wrap("the rule is for pods with the label", 12, 9, &look(false));
        assert_eq!(lines, ["the rule is", "for pods", "with the", "label"]);
        assert_eq!(wrap("aaaa bbbb cccc", 5, 2, &look(false)), ["aaaa", "bbbb…"]);
        assert_eq!(wrap("no /very/long/path", 10, 1, &look(false)), ["no /very/…"]);
        assert_eq!(wrap("aaaaaaaaaaaa", 5, 9, &look(false)), ["aaaaa", "aaaaa", "aa"]);
        assert_eq!(
            wrap(".spec.tcp[0].match[0].sourceLabels", 20, 9, &look(false)),
            [".spec.tcp[0].", "match[0].", "sourceLabels"]
        );
    }
}
