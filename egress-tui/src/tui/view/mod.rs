//! Screens. Each draws a page; none decides, asks or remembers anything.

pub mod explain;
pub mod flows;
pub mod footer;
pub mod header;
pub mod help;
pub mod notice;
pub mod object;
pub mod prompt;
pub mod summary;
pub mod tour;

use std::sync::Arc;

use egress_core::mesh::whatif;
use egress_core::query::Page;
use egress_core::world::World;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::layout::{self, SMALLEST};
use super::look::Look;
use super::pen::Pen;
use super::ui::{Detail, Overlay, Ui, Yaml};
use object::Text;

/// Makes the frame of this world: brings the interface up to it, then draws.
pub fn frame(ui: &mut Ui, live: &Arc<World>, look: &Look, area: Rect, buffer: &mut Buffer) {
    let world = Arc::clone(ui.shown(live));
    let (area, band) = tour::split(area, ui);
    let page = ui.page(&world, look, area);
    fit(ui, &page, look, area);
    draw(&page, ui, look, area, buffer);
    if let Some(tour) = &ui.tour {
        tour::draw(&mut Pen::new(buffer, look, band), tour);
    }
}

/// Keeps what scrolls within its bounds, and the selected step visible.
fn fit(ui: &mut Ui, page: &Page, look: &Look, area: Rect) {
    let body = layout::body(area);
    if matches!(ui.overlay, Some(Overlay::Help { .. })) {
        let (lines, room) = help::measure(ui, look, area.width, area.height);
        (ui.page_height, ui.last_top) = (room, lines.saturating_sub(room));
        if let Some(Overlay::Help { top, .. }) = &mut ui.overlay {
            *top = (*top).min(ui.last_top);
        }
        return;
    }
    let Some(mut detail) = ui.detail.take() else { return };
    let generation = page.world.coverage.mesh_generation;
    if detail.what_if.as_ref().is_none_or(|(known, _)| *known != generation) {
        detail.what_if = Some((generation, whatif::of_flow(&page.world.mesh, &detail.flow)));
    }
    let wanted = match &detail.yaml {
        Some(yaml) => Some((yaml.object.clone(), yaml.field.clone())),
        None => explain::items(&detail.flow)
            .get(detail.item)
            .and_then(|item| Some((item.object?.clone(), item.field.cloned()))),
    };
    detail.text = wanted.map(|(object, field)| Text::of(detail.text.take(), &page.world, &object, field.as_ref()));
    if let Some(yaml) = &mut detail.yaml {
        let (lines, room, at) = object::measure(detail.text.as_ref(), body.height);
        (ui.page_height, ui.last_top) = (room, lines.saturating_sub(room));
        if yaml.top == Yaml::AT_FIELD {
            yaml.top = at.saturating_sub(room / 3);
        }
        yaml.top = yaml.top.min(ui.last_top);
    } else {
        let (lines, room, (from, to)) = explain::measure(&detail, &page.world, ui, look, body.width, body.height);
        (ui.page_height, ui.last_top) = (room, lines.saturating_sub(room));
        if detail.follow {
            detail.top = detail.top.max((to + 1).saturating_sub(room)).min(from);
        }
        detail.top = detail.top.min(ui.last_top);
    }
    ui.detail = Some(detail);
}

/// Draws the whole screen.
pub fn draw(page: &Page, ui: &Ui, look: &Look, area: Rect, buffer: &mut Buffer) {
    let Some(plan) = layout::plan(area, &page.world, ui, look) else {
        too_small(&mut Pen::new(buffer, look, area));
        return;
    };
    let world = &*page.world;
    header::draw(&mut Pen::new(buffer, look, plan.header), world, ui);
    footer::draw_keys(&mut Pen::new(buffer, look, plan.footer), ui);
    let body = layout::body(area);
    match &ui.detail {
        Some(Detail { yaml: Some(yaml), text, .. }) => {
            object::draw_yaml(&mut Pen::new(buffer, look, body), yaml, text.as_ref());
        }
        Some(detail) => explain::draw(&mut Pen::new(buffer, look, body), detail, world, ui),
        None => {
            if plan.airy {
                for part in [plan.summary, plan.status] {
                    let above = Rect { y: part.y - 1, height: 1, ..part };
                    Pen::new(buffer, look, above).rule(0);
                }
                if plan.notice.height > 0 {
                    let above = Rect { y: plan.notice.y - 1, height: 1, ..plan.notice };
                    Pen::new(buffer, look, above).rule(0);
                }
            }
            notice::draw(&mut Pen::new(buffer, look, plan.notice), world, ui);
            summary::draw(&mut Pen::new(buffer, look, plan.summary), page, ui, plan.summary_as);
            if plan.status.height > 0 {
                footer::draw_status(&mut Pen::new(buffer, look, plan.status), page, ui);
            }
            flows::draw_titles(&mut Pen::new(buffer, look, plan.titles), ui);
            let mut rows = Pen::new(buffer, look, plan.rows);
            if page.listed == 0 {
                notice::draw_empty(&mut rows, page, ui);
            } else {
                flows::draw_rows(&mut rows, page, ui);
            }
            if plan.rule.height > 0 {
                footer::draw_rule(&mut Pen::new(buffer, look, plan.rule), page, ui, plan.status.height == 0);
            }
            let mut last = Pen::new(buffer, look, plan.why);
            match &ui.prompt {
                Some(prompt) => {
                    prompt::draw(&mut last, prompt, page);
                    if let (Some(error), 1) = (&prompt.error, plan.why.height) {
                        let mut line = Pen::new(buffer, look, plan.footer);
                        line.clear();
                        line.text(1, 0, line.width().saturating_sub(2), &prompt::says(error), look.palette.warn);
                    }
                }
                None => footer::draw_why(&mut last, page),
            }
        }
    }
    let mut pen = Pen::new(buffer, look, area);
    match ui.overlay {
        Some(Overlay::Help { .. }) => help::draw(&mut pen, ui),
        Some(Overlay::Menu(menu, row)) => help::draw_menu(&mut pen, ui, menu, row),
        None => {}
    }
}

/// One line in the middle: how big it has to be.
fn too_small(pen: &mut Pen<'_>) {
    let text = format!("need {}x{}", SMALLEST.0, SMALLEST.1);
    let (width, height) = (pen.width(), pen.height());
    let style = pen.look.palette.text;
    pen.text(width.saturating_sub(text.len() as u16) / 2, height / 2, width, &text, style);
}
