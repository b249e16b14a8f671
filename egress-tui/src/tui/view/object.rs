//! The object behind a step: its name, the field that decided, the lines of its YAML around that field.

use arcstr::ArcStr;
use egress_core::id::ObjectRef;
use egress_core::mesh::Written;
use egress_core::world::World;

use crate::tui::pen::{self, Pen};
use crate::tui::ui::Yaml;

use super::explain::Item;

/// An object as it was written. Finding a field parses the document, so it is done once and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    object: ObjectRef,
    field: Option<ArcStr>,
    generation: u64,
    /// The file, or what stands for it.
    place: String,
    written: Option<Written>,
}

impl Text {
    /// The text of `object` with the line of `field`; `before` if it is that already.
    pub fn of(before: Option<Self>, world: &World, object: &ObjectRef, field: Option<&ArcStr>) -> Self {
        let generation = world.coverage.mesh_generation;
        match before {
            Some(text) if text.generation == generation && text.object == *object && text.field.as_ref() == field => {
                text
            }
            _ => Self {
                object: object.clone(),
                field: field.cloned(),
                generation,
                place: String::new(),
                written: world.mesh.written(object, field.map(ArcStr::as_str)),
            }
            .placed(world),
        }
    }

    /// Objects that come from no file are named by where all objects come from.
    fn placed(mut self, world: &World) -> Self {
        let file = self.written.as_ref().map_or("", |w| w.file.as_str());
        self.place = if file.is_empty() { world.coverage.mesh.place.to_string() } else { file.to_owned() };
        self
    }
}

/// Draws the pane of one item.
pub fn draw(pen: &mut Pen<'_>, item: &Item<'_>, items: &[Item<'_>], text: Option<&Text>, beside: bool) {
    let text = text.filter(|t| Some(&t.object) == item.object);
    let written = text.and_then(|t| t.written.as_ref());
    let place = text.map_or("", |t| t.place.as_str());
    let palette = &pen.look.palette;
    let (header, dim, plain, key) = (palette.header, palette.dim, palette.text, palette.key);
    let room = pen.width().saturating_sub(2);
    let mut y = 0;
    if !beside {
        pen.rule(0);
        y = 1;
    }
    let Some(object) = item.object else {
        for line in pen::wrap(&item.says.text(), usize::from(room), usize::from(pen.height()), pen.look) {
            pen.text(1, y, room, &line, plain);
            y += 1;
        }
        return;
    };
    for line in pen::wrap(&object.to_string(), usize::from(room), if pen.height() > 12 { 2 } else { 1 }, pen.look) {
        pen.text(1, y, room, &line, header);
        y += 1;
    }
    if let Some(written) = written.filter(|_| beside) {
        let line = written.first + written.at.unwrap_or(0);
        pen.middle(1, y, room, &format!("{place}:{line}"), dim);
        y += 1;
    }
    if let Some(field) = item.field {
        for line in pen::wrap(field, usize::from(room), 3, pen.look) {
            pen.text(1, y, room, &line, key);
            y += 1;
        }
    }
    // The ladder beside it shows the sentence already.
    if !beside {
        for line in pen::wrap(&item.says.text(), usize::from(room), 4, pen.look) {
            pen.text(1, y, room, &line, plain);
            y += 1;
        }
    }
    let others = if beside { objects(items) } else { Vec::new() };
    let list = if others.is_empty() { 0 } else { others.len() as u16 + 2 };
    let bottom = pen.height().saturating_sub(list);
    if let Some(written) = written {
        if beside {
            y += 1;
        }
        excerpt(&mut pen.within(0, y, pen.width(), bottom.saturating_sub(y)), written);
    }
    if list > 0 && bottom > y {
        let mut pen = pen.within(0, bottom, pen.width(), list);
        pen.rule(0);
        pen.text(1, 0, room, " objects in this chain ", header);
        for (y, other) in (1..).zip(others) {
            let style = if other == object { key } else { plain };
            pen.symbol(1, y, if other == object { pen.look.glyphs.cursor } else { " " }, key);
            pen.middle(3, y, room.saturating_sub(2), &other.to_string(), style);
        }
    }
}

/// Every object of the chain, once, in its order; at most eight.
fn objects<'a>(items: &[Item<'a>]) -> Vec<&'a ObjectRef> {
    let mut out: Vec<&ObjectRef> = Vec::new();
    for object in items.iter().filter_map(|i| i.object) {
        if !out.contains(&object) && out.len() < 8 {
            out.push(object);
        }
    }
    out
}

/// The lines around the field, with their numbers.
fn excerpt(pen: &mut Pen<'_>, text: &Written) {
    let height = usize::from(pen.height());
    let at = text.at.unwrap_or(0);
    let first = at.saturating_sub(height / 3).min(text.lines.len().saturating_sub(height));
    body(pen, text, first);
}

fn body(pen: &mut Pen<'_>, text: &Written, first: usize) {
    let palette = &pen.look.palette;
    let (dim, plain, key) = (palette.dim, palette.text, palette.key);
    let digits = (text.first + text.lines.len()).to_string().len() as u16;
    let height = usize::from(pen.height());
    for (y, (n, line)) in (0..).zip(text.lines.iter().enumerate().skip(first).take(height)) {
        let here = text.at == Some(n);
        pen.text(1, y, 1, if here { ">" } else { " " }, key);
        pen.right(2, y, digits, &(text.first + n).to_string(), dim);
        let x = 4 + digits;
        pen.text(x, y, pen.width().saturating_sub(x + 1), line, if here { key } else { plain });
    }
}

/// Lines of the whole object, how many fit, and where the field stands.
pub fn measure(text: Option<&Text>, height: u16) -> (usize, usize, usize) {
    let room = usize::from(height.saturating_sub(2));
    match text.and_then(|t| t.written.as_ref()) {
        Some(text) => (text.lines.len(), room, text.at.unwrap_or(0)),
        None => (0, room, 0),
    }
}

/// Draws the whole object.
pub fn draw_yaml(pen: &mut Pen<'_>, yaml: &Yaml, text: Option<&Text>) {
    let palette = &pen.look.palette;
    let (header, dim) = (palette.header, palette.dim);
    let width = pen.width();
    let written = text.and_then(|t| t.written.as_ref());
    let file = text.map_or("", |t| t.place.as_str());
    let place = written.map_or_else(String::new, |w| format!("{file}:{}", w.first + w.at.unwrap_or(0)));
    let beside = (pen::cells(&place, pen.look) as u16).min(width / 2);
    pen.middle(1, 0, width.saturating_sub(beside + 4), &yaml.object.to_string(), header);
    pen.right(0, 0, width.saturating_sub(1), &place, dim);
    pen.rule(1);
    let mut pen = pen.within(0, 2, width, pen.height().saturating_sub(2));
    let Some(written) = written else {
        let kept = "no text: this object was not read from the mesh, or it is gone";
        pen.text(1, 1, width.saturating_sub(2), kept, dim);
        return;
    };
    body(&mut pen, written, yaml.top.min(written.lines.len().saturating_sub(1)));
}
