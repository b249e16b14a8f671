//! Keys to changes. A pure function of the interface, the message and the world on screen.

use std::sync::Arc;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use egress_core::query::SortBy;
use egress_core::world::{Flow, World};
use tui_input::InputRequest;

use super::figure;
use super::key::{self, Action, Key, Place};
use super::menu::{Copied, Form, Menu};
use super::prompt::{Change, Prompt};
use super::ui::{Detail, Overlay, Ui, Yaml};
use super::view::explain;

/// Something happened at the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Msg {
    /// A key.
    Key(KeyEvent),
    /// Text was pasted.
    Paste(String),
}

/// What the loop has to do.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Leave.
    Quit,
    /// Back to the shell, for now.
    Suspend,
    /// Everything that is on the screen may be wrong.
    Redraw,
    /// A text goes to the clipboard.
    Copy(String),
    /// A flow as JSON goes to the clipboard.
    CopyJson(Arc<Flow>),
    /// The list as it is shown goes into a file.
    Export(Form, Arc<World>),
    /// The screen goes into a file.
    SaveScreen,
    /// Another scene of the tour is played.
    Scene(usize),
}

/// Two effects are the same when they do the same to the same flow; what an export holds is not compared.
impl PartialEq for Effect {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Copy(a), Self::Copy(b)) => a == b,
            (Self::CopyJson(a), Self::CopyJson(b)) => a.id == b.id,
            (Self::Export(a, _), Self::Export(b, _)) => a == b,
            (Self::Scene(a), Self::Scene(b)) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

/// Longest text that the search of help takes.
const LONGEST_SEARCH: usize = 40;

/// Applies a message. `live` is the newest world.
pub fn update(ui: &mut Ui, live: &Arc<World>, msg: &Msg) -> Option<Effect> {
    match msg {
        Msg::Paste(text) => {
            let change = ui.prompt.as_mut().map(|prompt| prompt.paste(text));
            match change {
                Some(change) => narrow(ui, change),
                None => ui.say("nothing takes pasted text here"),
            }
            None
        }
        // With the kitty protocol keys are also reported when they are let go.
        Msg::Key(event) if event.kind == KeyEventKind::Release => None,
        Msg::Key(event) => press(ui, live, *event),
    }
}

fn press(ui: &mut Ui, live: &Arc<World>, event: KeyEvent) -> Option<Effect> {
    let world = Arc::clone(ui.shown(live));
    ui.refresh(&world);
    if typed(ui, event) {
        return None;
    }
    let place = ui.place();
    let bound = Key::of(event).and_then(|k| key::action(k, place));
    let Some(action) = bound else {
        let name = match event.code {
            KeyCode::Modifier(_) | KeyCode::Null => return None,
            code => {
                let alt = if event.modifiers.contains(KeyModifiers::ALT) { "Alt-" } else { "" };
                format!("{alt}{}", Key::of(event).unwrap_or(Key::Plain(code)).name(false))
            }
        };
        ui.say(format!("no action on {name} here · ? help"));
        return None;
    };
    if let Some(tour) = &mut ui.tour {
        tour.let_go();
    }
    match action {
        Action::Quit => return Some(Effect::Quit),
        Action::Suspend => return Some(Effect::Suspend),
        Action::Redraw => return Some(Effect::Redraw),
        Action::Help => toggle_help(ui),
        Action::Pause => pause(ui, live),
        Action::Back => back(ui),
        Action::Up | Action::Down | Action::First | Action::Last => step(ui, &world, action),
        Action::PageUp | Action::PageDown | Action::HalfUp | Action::HalfDown => scroll(ui, &world, action),
        Action::Open => return open(ui, &world),
        Action::Find => find(ui),
        Action::NextStop | Action::PreviousStop => return walk(ui, action == Action::NextStop),
        Action::Complete => {
            let change = ui.prompt.as_mut().map(|prompt| prompt.complete(&world));
            if let Some(change) = change {
                narrow(ui, change);
            }
        }
        Action::CopyMenu => menu(ui, &world, Menu::Copy),
        Action::ExportMenu => menu(ui, &world, Menu::Export),
        Action::SaveScreen => return Some(Effect::SaveScreen),
        Action::Yaml => yaml(ui, &world),
        Action::NextObject | Action::PreviousObject => object(ui, action == Action::NextObject),
        Action::Problems => {
            ui.ask(|query| query.problems_only = !query.problems_only);
            ui.refresh(&world);
        }
        Action::NextProblem | Action::PreviousProblem => problem(ui, &world, action == Action::NextProblem),
        Action::SortMenu => ui.open_sort_menu(),
        Action::Reverse => ui.ask(|query| query.sort.reversed = !query.sort.reversed),
    }
    None
}

/// To another stop of the tour: what the user opened, froze and narrowed for the last one is undone.
fn walk(ui: &mut Ui, forward: bool) -> Option<Effect> {
    let Some(tour) = &mut ui.tour else {
        ui.say("the tour is part of egress-tui demo");
        return None;
    };
    let before = tour.scene();
    let stop = tour.go(forward);
    let after = tour.scene();
    if stop.is_none() {
        ui.say("the tour is over · Backspace back · q quit");
        return None;
    }
    ui.begin_stop();
    (before != after).then_some(Effect::Scene(after))
}

/// Opens the input of what is in front.
fn find(ui: &mut Ui) {
    if let Some(Overlay::Help { typing, search, top }) = &mut ui.overlay {
        *typing = true;
        search.clear();
        *top = 0;
    } else {
        ui.prompt = Some(Prompt::new(ui.query.filter.as_ref(), Arc::clone(&ui.saved)));
    }
}

/// Keys that are text because an input has the focus.
fn typed(ui: &mut Ui, event: KeyEvent) -> bool {
    if ui.place() == Place::Filter {
        return typed_filter(ui, event);
    }
    let Some(Overlay::Help { typing: typing @ true, search, top }) = &mut ui.overlay else { return false };
    match (event.code, event.modifiers - KeyModifiers::SHIFT) {
        (KeyCode::Char(c), KeyModifiers::NONE) => {
            if search.chars().count() < LONGEST_SEARCH {
                search.push(c);
            }
            *top = 0;
        }
        (KeyCode::Backspace, _) => {
            search.pop();
        }
        (KeyCode::Enter, _) => *typing = false,
        (KeyCode::Esc, _) => {
            *typing = false;
            search.clear();
        }
        _ => return false,
    }
    true
}

/// Letters are text; what leaves, completes or ends the program is not.
fn typed_filter(ui: &mut Ui, event: KeyEvent) -> bool {
    let control = event.modifiers.contains(KeyModifiers::CONTROL);
    let request = match (event.code, control) {
        (KeyCode::Char(c), false) => InputRequest::InsertChar(c),
        (KeyCode::Backspace, false) => InputRequest::DeletePrevChar,
        (KeyCode::Delete, _) => InputRequest::DeleteNextChar,
        (KeyCode::Left, false) => InputRequest::GoToPrevChar,
        (KeyCode::Right, false) => InputRequest::GoToNextChar,
        (KeyCode::Left, true) => InputRequest::GoToPrevWord,
        (KeyCode::Right, true) => InputRequest::GoToNextWord,
        (KeyCode::Home, _) | (KeyCode::Char('a'), true) => InputRequest::GoToStart,
        (KeyCode::End, _) | (KeyCode::Char('e'), true) => InputRequest::GoToEnd,
        (KeyCode::Char('w') | KeyCode::Backspace, true) => InputRequest::DeletePrevWord,
        (KeyCode::Char('u'), true) => InputRequest::DeleteLine,
        _ => return false,
    };
    let change = ui.prompt.as_mut().map(|prompt| prompt.edit(request));
    if let Some(change) = change {
        narrow(ui, change);
    }
    true
}

/// The list follows what is typed.
fn narrow(ui: &mut Ui, change: Change) {
    if let Change::Filter(filter) = change {
        ui.ask(|query| query.filter = filter);
    }
}

fn menu(ui: &mut Ui, world: &Arc<World>, menu: Menu) {
    if menu == Menu::Copy && ui.detail.is_none() && ui.current(world).is_none() {
        ui.say("no row to copy");
        return;
    }
    ui.overlay = Some(Overlay::Menu(menu, 0));
}

/// What the chosen row of a menu does.
fn choose(ui: &mut Ui, world: &Arc<World>, menu: Menu, row: usize) -> Option<Effect> {
    ui.overlay = None;
    match menu {
        Menu::Sort => {
            let by = SortBy::ALL[row.min(SortBy::ALL.len() - 1)];
            ui.ask(|query| {
                query.sort = egress_core::query::Sort { by, reversed: query.sort.by == by && query.sort.reversed }
            });
            None
        }
        Menu::Copy => {
            let flow = ui.detail.as_ref().map(|d| Arc::clone(&d.flow)).or_else(|| ui.current(world))?;
            Some(match Copied::ALL[row.min(Copied::ALL.len() - 1)] {
                Copied::Json => Effect::CopyJson(flow),
                what => Effect::Copy(what.text(&flow)),
            })
        }
        Menu::Export => {
            let listed = (0..ui.listing().len()).filter_map(|row| ui.listing().flow(world, row).map(Arc::clone));
            let shown = World { flows: listed.collect(), ..World::clone(world) };
            Some(Effect::Export(Form::ALL[row.min(Form::ALL.len() - 1)], Arc::new(shown)))
        }
    }
}

fn toggle_help(ui: &mut Ui) {
    ui.overlay = match ui.overlay {
        Some(Overlay::Help { .. }) => None,
        _ => Some(Overlay::Help { top: 0, search: String::new(), typing: false }),
    };
}

fn pause(ui: &mut Ui, live: &Arc<World>) {
    if ui.frozen.take().is_none() {
        ui.frozen = Some(Arc::clone(live));
        ui.say("the view stands still, capture goes on");
    }
}

/// One level back: overlay, pane, what the list was narrowed to, notices. Never quits.
fn back(ui: &mut Ui) {
    if ui.overlay.take().is_some() {
    } else if let Some(prompt) = ui.prompt.take() {
        ui.ask(|query| query.filter = prompt.before());
    } else if let Some(detail) = &mut ui.detail {
        if detail.yaml.take().is_none() {
            ui.detail = None;
        }
    } else if ui.query.problems_only || ui.query.filter.is_some() {
        ui.ask(|query| {
            query.problems_only = false;
            query.filter = None;
        });
    } else {
        ui.dismissed = usize::MAX;
    }
}

/// `row` moved within `0..len`.
fn moved(row: usize, len: usize, action: Action, page: usize) -> usize {
    let last = len.saturating_sub(1);
    match action {
        Action::Up => row.saturating_sub(1),
        Action::Down => row + 1,
        Action::PageUp => row.saturating_sub(page.max(1)),
        Action::PageDown => row + page.max(1),
        Action::HalfUp => row.saturating_sub((page / 2).max(1)),
        Action::HalfDown => row + (page / 2).max(1),
        Action::First => 0,
        _ => last,
    }
    .min(last)
}

fn step(ui: &mut Ui, world: &Arc<World>, action: Action) {
    let (page, last_top) = (ui.page_height, ui.last_top);
    match (&mut ui.overlay, &mut ui.detail) {
        (Some(Overlay::Menu(menu, row)), _) => *row = moved(*row, menu.rows().len(), action, page),
        (Some(Overlay::Help { top, .. }), _) | (None, Some(Detail { yaml: Some(Yaml { top, .. }), .. })) => {
            *top = moved(*top, last_top + 1, action, page);
        }
        (None, Some(detail)) => {
            detail.item = moved(detail.item, explain::items(&detail.flow).len(), action, page);
            detail.follow = true;
        }
        (None, None) => {
            if let Some(row) = ui.row() {
                let row = moved(row, ui.listing().len(), action, page);
                ui.select(world, row);
            }
        }
    }
}

fn scroll(ui: &mut Ui, world: &Arc<World>, action: Action) {
    let (page, last_top) = (ui.page_height, ui.last_top);
    if let (None, Some(detail @ Detail { yaml: None, .. })) = (&ui.overlay, &mut ui.detail) {
        detail.top = moved(detail.top, last_top + 1, action, page);
        detail.follow = false;
    } else {
        step(ui, world, action);
    }
}

fn open(ui: &mut Ui, world: &Arc<World>) -> Option<Effect> {
    if let Some(Overlay::Menu(menu, row)) = ui.overlay {
        return choose(ui, world, menu, row);
    }
    if let Some(prompt) = ui.prompt.take() {
        match prompt.finish() {
            Some(change) => narrow(ui, change),
            None => ui.say("the mistake was left out: the last valid filter stays"),
        }
        return None;
    }
    let Some(flow) = ui.current(world) else {
        ui.say("no row to explain");
        return None;
    };
    if let Some(row) = ui.row() {
        ui.select(world, row);
    }
    ui.detail = Some(Detail::new(flow));
    None
}

fn yaml(ui: &mut Ui, world: &Arc<World>) {
    if ui.detail.is_none() {
        // Opening a row has no effect outside.
        let _ = open(ui, world);
    }
    let Some(detail) = &mut ui.detail else { return };
    let items = explain::items(&detail.flow);
    match items.get(detail.item).and_then(|item| Some((item.object?.clone(), item.field.cloned()))) {
        Some((object, field)) => detail.yaml = Some(Yaml { object, field, top: Yaml::AT_FIELD }),
        None => ui.say("no object decided this step"),
    }
}

/// Selects the next step that another object decided.
fn object(ui: &mut Ui, forwards: bool) {
    let Some(detail) = &mut ui.detail else { return };
    let items = explain::items(&detail.flow);
    let now = items.get(detail.item).and_then(|item| item.object);
    let len = items.len();
    let found = (1..=len)
        .map(|n| if forwards { (detail.item + n) % len } else { (detail.item + len - n) % len })
        .find(|&at| items[at].object.is_some() && items[at].object != now);
    match found {
        Some(at) => {
            detail.item = at;
            detail.follow = true;
        }
        None => ui.say("no other object in this chain"),
    }
}

fn problem(ui: &mut Ui, world: &Arc<World>, forwards: bool) {
    let found = ui.row().and_then(|row| ui.listing().next_problem(world, row, forwards));
    let Some((row, wrapped)) = found else {
        let flows = figure::plural(world.flows.len() as u64, "flow");
        ui.say(format!("no problem among {flows}"));
        return;
    };
    ui.select(world, row);
    if wrapped {
        ui.say(if forwards { "went on at the top" } else { "went on at the bottom" });
    }
}
