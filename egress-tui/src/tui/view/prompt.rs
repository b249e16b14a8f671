//! The filter while it is typed: text with cursor, how many rows it finds, and what is wrong or could come next.

use egress_core::filter::FilterError;
use egress_core::query::Page;

use crate::tui::figure;
use crate::tui::pen::{self, Pen};
use crate::tui::prompt::Prompt;

/// What is wrong, and what was probably meant.
pub fn says(error: &FilterError) -> String {
    match &error.proposal {
        Some(proposal) => format!("{}: {proposal}", error.message),
        None => error.message.clone(),
    }
}

/// Draws it where the `why` lines are.
pub fn draw(pen: &mut Pen<'_>, prompt: &Prompt, page: &Page) {
    let look = pen.look;
    let palette = &look.palette;
    let found = format!("{} of {}", page.listed, figure::plural(page.totals.flows as u64, "flow"));
    let width = pen.width();
    let room = width.saturating_sub(found.len() as u16 + 6);
    pen.right(1, 0, width.saturating_sub(2), &found, palette.dim);
    pen.text(1, 0, 1, "/", palette.key);

    // The text scrolls so that the cursor stays in sight.
    let text = prompt.text();
    let before: String = text.chars().take(prompt.cursor()).collect();
    let mut hidden = 0;
    while pen::cells(&before[hidden..], look) + 1 > usize::from(room) {
        hidden += before[hidden..].chars().next().map_or(1, char::len_utf8);
    }
    pen.text(3, 0, room, &text[hidden..], palette.text);
    let cursor = 3 + pen::cells(&before[hidden..], look) as u16;
    let under: String = text[before.len()..].chars().take(1).collect();
    let under = if under.is_empty() || pen::cells(&under, look) != 1 { " ".to_owned() } else { under };
    pen.text(cursor, 0, 1, &under, palette.select);

    if pen.height() < 2 {
        return;
    }
    let y = pen.height() - 1;
    // Proposals were asked for: they tell what a half word could become.
    let proposed = prompt.found.as_ref().is_some_and(|found| !found.proposals.is_empty());
    if let Some(error) = prompt.error.as_ref().filter(|_| !proposed) {
        let start = 3 + text.get(hidden..error.span.start).map_or(0, |t| pen::cells(t, look)) as u16;
        let wrong = text.get(error.span.start.max(hidden)..error.span.end).map_or(0, |t| pen::cells(t, look)).max(1);
        let says = says(error);
        let carets = "^".repeat(wrong.min(usize::from(room)));
        let length = pen::cells(&says, look) as u16;
        let behind = start + carets.len() as u16 + 1;
        if behind + length < width {
            pen.text(start, y, width, &carets, palette.bad);
            pen.text(behind, y, width, &says, palette.warn);
        } else if start > length + 3 {
            pen.text(start, y, width, &carets, palette.bad);
            pen.text(start - length - 1, y, length, &says, palette.warn);
        } else {
            pen.text(1, y, width - 2, &says, palette.warn);
        }
        return;
    }
    match &prompt.found {
        Some(found) if found.proposals.is_empty() => {
            pen.text(3, y, width - 4, "nothing begins like that", palette.dim);
        }
        Some(found) => {
            let mut x = 3;
            for proposal in &found.proposals {
                let count = proposal.flows.map_or_else(String::new, |n| format!(" {n}"));
                let cells = (pen::cells(&proposal.text, look) + count.len()) as u16;
                if x + cells + 4 > width {
                    pen.text(x, y, 1, look.glyphs.ellipsis, palette.dim);
                    break;
                }
                x += pen.pieces(x, y, width - x, [(&*proposal.text, palette.text), (&*count, palette.dim)]) + 2;
            }
        }
        None => {
            let hint = if text.is_empty() {
                "field:value, or a word: host, workload, ip"
            } else {
                "a space means and; or, -, ( ), field:value; a word looks at host, workload, ip"
            };
            pen.text(3, y, width - 4, hint, palette.dim);
        }
    }
}
