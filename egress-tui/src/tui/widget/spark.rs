//! Sparklines on one logarithmic scale, so that heights compare between lines.

use ratatui::style::Style;

use crate::tui::look::Look;
use crate::tui::pen::Pen;

/// From the lowest step to the highest: five powers of ten, so that a trickle beside a flood is still seen.
const DECADES: f64 = 5.0;

/// One cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    /// Before anything was observed.
    Before,
    /// A second of it was not observed.
    Lost,
    /// Observed: 0 is nothing at all, 7 is the peak.
    Height(usize),
}

/// Draws the last `span` samples, the newest at the right edge. `peak` is the full height of all lines that are to be
/// compared. A cell that holds a sample that was lost says so, whatever else it holds.
pub fn draw(pen: &mut Pen<'_>, x: u16, y: u16, width: u16, samples: &[Option<u64>], span: usize, peak: u64) {
    let (glyphs, palette) = (&pen.look.glyphs, &pen.look.palette);
    let draw: Vec<(&'static str, Style)> = cells(samples, span, usize::from(width), peak)
        .into_iter()
        .map(|cell| match cell {
            Cell::Before => (" ", palette.text),
            Cell::Lost => (glyphs.lost, palette.spark_lost),
            Cell::Height(height) => (glyphs.spark[height], palette.spark),
        })
        .collect();
    for (at, (symbol, style)) in (x..).zip(draw) {
        pen.symbol(at, y, symbol, style);
    }
}

fn cells(samples: &[Option<u64>], span: usize, width: usize, peak: u64) -> Vec<Cell> {
    (0..width)
        .map(|cell| {
            // Samples are counted back from the newest, which ends the last cell.
            let from = samples.len() + cell * span / width;
            let to = samples.len() + (cell + 1) * span / width;
            if from < span {
                return Cell::Before;
            }
            let of_cell = samples.get(from - span..to - span).unwrap_or_default();
            if of_cell.iter().any(Option::is_none) {
                return Cell::Lost;
            }
            Cell::Height(height(of_cell.iter().flatten().copied().max().unwrap_or(0), peak))
        })
        .collect()
}

fn height(value: u64, peak: u64) -> usize {
    if value == 0 || peak == 0 {
        return 0;
    }
    let share = 1.0 - (peak as f64 / value as f64).log10() / DECADES;
    (1..7u8).find(|step| share * 7.0 <= f64::from(*step)).map_or(7, usize::from)
}

/// The same as text, for tests and for people who copy a screen.
pub fn text(look: &Look, samples: &[Option<u64>], span: usize, width: usize, peak: u64) -> String {
    cells(samples, span, width, peak)
        .into_iter()
        .map(|cell| match cell {
            Cell::Before => " ",
            Cell::Lost => look.glyphs.lost,
            Cell::Height(height) => look.glyphs.spark[height],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::look::Theme;

    fn shown(samples: &[Option<u64>], span: usize, width: usize, peak: u64) -> String {
        text(&Look::plain(Theme::Mono, false), samples, span, width, peak)
    }

    #[test]
    fn heights_are_logarithmic_and_shared() {
        let samples: Vec<_> = [0, 1, 10, 100, 1_000, 10_000, 100_000, 1_000_000].map(Some).to_vec();
        assert_eq!(shown(&samples, 8, 8, 1_000_000), "▁▂▂▃▄▆▇█");
    }

    #[test]
    fn a_lost_second_shows_in_its_cell_and_only_there() {
        let samples = [Some(5), Some(5), None, Some(5), Some(5), Some(5)];
        assert_eq!(shown(&samples, 6, 3, 5), "█·█");
    }

    #[test]
    fn what_was_before_the_start_is_empty_not_zero() {
        assert_eq!(shown(&[Some(0), Some(7)], 4, 4, 7), "  ▁█");
        assert_eq!(shown(&[], 4, 4, 0), "    ");
    }
}
