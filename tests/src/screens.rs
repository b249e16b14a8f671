//! Screens without a terminal: draw a world, press keys, read text and styles.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use egress_core::world::World;
use egress_tui::tui::look::{Look, Theme};
pub use egress_tui::tui::term::text;
use egress_tui::tui::ui::Ui;
use egress_tui::tui::update::{Effect, Msg, update};
use egress_tui::tui::view;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

/// A dashboard whose clock is turned by hand.
pub struct Dashboard {
    /// What the user did.
    pub ui: Ui,
    /// The newest world.
    pub world: Arc<World>,
    /// How it looks.
    pub look: Look,
    /// Columns and rows.
    pub size: (u16, u16),
}

impl Dashboard {
    /// At the moment of the world's publication.
    pub fn new(world: World, size: (u16, u16), theme: Theme, ascii: bool) -> Self {
        let mut ui = Ui::default();
        ui.pass(Duration::ZERO, world.now);
        Self { ui, world: Arc::new(world), look: Look::plain(theme, ascii), size }
    }

    /// Monochrome, the one where marks and words have to do everything.
    pub fn plain(world: World, size: (u16, u16)) -> Self {
        Self::new(world, size, Theme::Mono, false)
    }

    /// Time passes.
    pub fn wait(&mut self, time: Duration) {
        let now = egress_core::id::WallTime(self.ui.now.0 + time.as_nanos() as i64);
        self.ui.pass(self.ui.uptime + time, now);
    }

    /// A new world is published.
    pub fn publish(&mut self, change: impl FnOnce(&mut World)) {
        let mut world = (*self.world).clone();
        change(&mut world);
        world.generation += 1;
        self.world = Arc::new(world);
    }

    /// A key is pressed.
    pub fn key(&mut self, code: KeyCode) -> Option<Effect> {
        self.event(KeyEvent::new(code, KeyModifiers::NONE))
    }

    /// A key with Ctrl is pressed.
    pub fn ctrl(&mut self, c: char) -> Option<Effect> {
        self.event(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL))
    }

    /// Letters are typed, one frame after each.
    pub fn keys(&mut self, letters: &str) -> &mut Self {
        for c in letters.chars() {
            self.key(KeyCode::Char(c));
            self.draw();
        }
        self
    }

    /// Any key event.
    pub fn event(&mut self, event: KeyEvent) -> Option<Effect> {
        update(&mut self.ui, &self.world, &Msg::Key(event))
    }

    /// A frame.
    pub fn draw(&mut self) -> Buffer {
        let area = Rect::new(0, 0, self.size.0, self.size.1);
        let mut buffer = Buffer::empty(area);
        view::frame(&mut self.ui, &self.world, &self.look, area, &mut buffer);
        buffer
    }

    /// A frame as text.
    pub fn text(&mut self) -> String {
        text(&self.draw())
    }

    /// The selected flow's row as text.
    pub fn selected(&mut self) -> Option<String> {
        self.draw();
        self.ui.current(&self.world).map(|f| format!("{} {}", f.source.label(), f.destination.label()))
    }
}

/// One letter for each style in use, and what the letters mean: a change of colour shows in review.
pub fn styles(buffer: &Buffer) -> String {
    let mut names: BTreeMap<String, char> = BTreeMap::new();
    let mut letters = ('a'..='z').chain('A'..='Z');
    let mut rows = String::new();
    for y in 0..buffer.area.height {
        let mut row = String::new();
        for x in 0..buffer.area.width {
            let cell = &buffer[(x, y)];
            let visible = cell.symbol() != " "
                || cell.modifier.contains(Modifier::REVERSED)
                || cell.bg != Style::new().bg.unwrap_or_default();
            if !visible {
                row.push(' ');
                continue;
            }
            let style = format!("{:?} on {:?} {:?}", cell.fg, cell.bg, cell.modifier);
            let letter = *names.entry(style).or_insert_with(|| letters.next().unwrap_or('?'));
            row.push(letter);
        }
        let _ = writeln!(rows, "{}", row.trim_end());
    }
    let mut legend: Vec<_> = names.into_iter().map(|(style, letter)| (letter, style)).collect();
    legend.sort();
    for (letter, style) in legend {
        let _ = writeln!(rows, "{letter} = {style}");
    }
    rows
}
