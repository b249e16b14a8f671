//! The one table of keys. Footer, help, the README's table and the test for conflicts come from it.
//!
//! One key has one meaning everywhere it is valid. No chords, no Alt: tmux and macOS eat it.

use std::fmt::Write as _;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// One row or step up.
    Up,
    /// One row or step down.
    Down,
    /// One screen up.
    PageUp,
    /// One screen down.
    PageDown,
    /// Half a screen up.
    HalfUp,
    /// Half a screen down.
    HalfDown,
    /// The first row.
    First,
    /// The last row.
    Last,
    /// Explain the selected row; choose in a menu.
    Open,
    /// One level back. Never quits.
    Back,
    /// Only problems, or everything.
    Problems,
    /// The next problem.
    NextProblem,
    /// The previous problem.
    PreviousProblem,
    /// Type what is looked for: a filter, or words of help.
    Find,
    /// Complete the word.
    Complete,
    /// Choose the order.
    SortMenu,
    /// Turn the order round.
    Reverse,
    /// The next object of the chain.
    NextObject,
    /// The previous object of the chain.
    PreviousObject,
    /// The whole object as YAML.
    Yaml,
    /// Choose what goes to the clipboard.
    CopyMenu,
    /// Choose the form in which the list goes into a file.
    ExportMenu,
    /// The screen goes into a file.
    SaveScreen,
    /// Freeze the view, or go on.
    Pause,
    /// The next stop of the tour.
    NextStop,
    /// The previous stop of the tour.
    PreviousStop,
    /// Help for this screen.
    Help,
    /// Draw everything again.
    Redraw,
    /// Back to the shell, for now.
    Suspend,
    /// Leave.
    Quit,
}

/// Where keys are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// A list of flows.
    List,
    /// The chain of one flow.
    Explain,
    /// An object as YAML.
    Yaml,
    /// The filter that is being typed.
    Filter,
    /// A menu.
    Menu,
    /// Help.
    Help,
}

impl Place {
    /// Every place.
    pub const ALL: [Self; 6] = [Self::List, Self::Explain, Self::Yaml, Self::Filter, Self::Menu, Self::Help];
}

const LIST: &[Place] = &[Place::List];
const ROWS: &[Place] = &[Place::List, Place::Explain];
const EXPLAIN: &[Place] = &[Place::Explain];
const SCROLLS: &[Place] = &[Place::List, Place::Explain, Place::Yaml, Place::Help];
const TOUR: &[Place] = &[Place::List, Place::Explain, Place::Yaml];
const MOVES: &[Place] = &Place::ALL;

/// Groups of the help screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Selecting and scrolling.
    Move,
    /// Finding rows.
    Find,
    /// Looking closer.
    Look,
    /// Time.
    Time,
    /// The program itself.
    Program,
}

impl Group {
    /// In the order of the help screen.
    pub const ALL: [Self; 5] = [Self::Move, Self::Look, Self::Find, Self::Time, Self::Program];

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Self::Move => "MOVE",
            Self::Find => "FIND",
            Self::Look => "LOOK CLOSER",
            Self::Time => "TIME",
            Self::Program => "PROGRAM",
        }
    }
}

/// A key as the terminal reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// A key without modifiers; for letters the shift is part of the letter.
    Plain(KeyCode),
    /// With Ctrl.
    Ctrl(char),
}

impl Key {
    /// The key of this event; `None` for combinations that are never bound.
    pub fn of(event: KeyEvent) -> Option<Self> {
        let modifiers = event.modifiers - KeyModifiers::SHIFT;
        match (event.code, modifiers) {
            (code, KeyModifiers::NONE) => Some(Self::Plain(code)),
            (KeyCode::Char(c), KeyModifiers::CONTROL) => Some(Self::Ctrl(c.to_ascii_lowercase())),
            _ => None,
        }
    }

    /// As users call it.
    pub fn name(self, ascii: bool) -> String {
        match self {
            Self::Ctrl(c) => format!("Ctrl-{}", c.to_ascii_uppercase()),
            Self::Plain(KeyCode::Char(' ')) => "Space".to_owned(),
            Self::Plain(KeyCode::Char(c)) => c.to_string(),
            Self::Plain(KeyCode::Up) => if ascii { "Up" } else { "↑" }.to_owned(),
            Self::Plain(KeyCode::Down) => if ascii { "Down" } else { "↓" }.to_owned(),
            Self::Plain(KeyCode::Left) => if ascii { "Left" } else { "←" }.to_owned(),
            Self::Plain(KeyCode::Right) => if ascii { "Right" } else { "→" }.to_owned(),
            Self::Plain(KeyCode::PageUp) => "PgUp".to_owned(),
            Self::Plain(KeyCode::PageDown) => "PgDn".to_owned(),
            Self::Plain(KeyCode::Tab) => "Tab".to_owned(),
            Self::Plain(KeyCode::BackTab) => "Shift-Tab".to_owned(),
            Self::Plain(KeyCode::F(n)) => format!("F{n}"),
            Self::Plain(code) => format!("{code:?}"),
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Binding {
    /// What it does.
    pub action: Action,
    /// The keys, the one to teach first.
    pub keys: &'static [Key],
    /// Where it is valid.
    pub places: &'static [Place],
    /// Where help shows it.
    pub group: Group,
    /// What help says.
    pub help: &'static str,
    /// What the footer says, and how soon it gives way: 0 stays longest. `None` is not in the footer.
    pub hint: Option<(&'static str, u8)>,
}

const fn c(c: char) -> Key {
    Key::Plain(KeyCode::Char(c))
}

const fn k(code: KeyCode) -> Key {
    Key::Plain(code)
}

const fn ctrl(c: char) -> Key {
    Key::Ctrl(c)
}

/// Every key of the program.
pub const BINDINGS: &[Binding] = &[
    bind(Action::Up, &[k(KeyCode::Up), c('k')], MOVES, Group::Move, "one up", None),
    bind(Action::Down, &[k(KeyCode::Down), c('j')], MOVES, Group::Move, "one down", None),
    bind(Action::PageUp, &[k(KeyCode::PageUp), ctrl('b')], SCROLLS, Group::Move, "page up", None),
    bind(Action::PageDown, &[k(KeyCode::PageDown), ctrl('f')], SCROLLS, Group::Move, "page down", None),
    bind(Action::HalfUp, &[ctrl('u')], SCROLLS, Group::Move, "half a page up", None),
    bind(Action::HalfDown, &[ctrl('d')], SCROLLS, Group::Move, "half a page down", None),
    bind(Action::First, &[c('g'), k(KeyCode::Home)], MOVES, Group::Move, "first", None),
    bind(Action::Last, &[c('G'), k(KeyCode::End)], MOVES, Group::Move, "last", None),
    bind(
        Action::Open,
        &[k(KeyCode::Enter), c('d')],
        &[Place::List, Place::Menu, Place::Filter],
        Group::Look,
        "explain the row",
        Some(("explain", 1)),
    ),
    bind(Action::NextObject, &[c('o')], EXPLAIN, Group::Look, "next object of the chain", Some(("object", 2))),
    bind(Action::PreviousObject, &[c('O')], EXPLAIN, Group::Look, "previous object", None),
    bind(Action::Yaml, &[c('y')], ROWS, Group::Look, "object as YAML, at the field", Some(("yaml", 3))),
    bind(Action::Back, &[k(KeyCode::Esc)], MOVES, Group::Look, "back, close, show all", Some(("back", 1))),
    bind(Action::Find, &[c('/')], LIST, Group::Find, "filter", Some(("filter", 2))),
    bind(
        Action::Complete,
        &[k(KeyCode::Tab)],
        &[Place::Filter],
        Group::Find,
        "complete the word",
        Some(("complete", 2)),
    ),
    bind(Action::Problems, &[c('b')], LIST, Group::Find, "problems only", Some(("problems", 2))),
    bind(Action::NextProblem, &[c('n')], LIST, Group::Find, "next problem", Some(("next problem", 5))),
    bind(Action::PreviousProblem, &[c('N')], LIST, Group::Find, "previous problem", None),
    bind(Action::SortMenu, &[c('s')], LIST, Group::Find, "sort by", Some(("sort", 3))),
    bind(Action::Reverse, &[c('S')], LIST, Group::Find, "reverse the order", None),
    bind(Action::CopyMenu, &[c('c')], ROWS, Group::Program, "copy to the clipboard", Some(("copy", 6))),
    bind(Action::ExportMenu, &[c('e')], LIST, Group::Program, "export the list", None),
    bind(Action::SaveScreen, &[ctrl('s')], MOVES, Group::Program, "save the screen as text", None),
    bind(Action::Pause, &[c('p')], ROWS, Group::Time, "pause the view, resume", Some(("pause", 4))),
    bind(Action::Find, &[c('/')], &[Place::Help], Group::Find, "search in help", Some(("search", 2))),
    bind(Action::NextStop, &[c(' ')], TOUR, Group::Program, "next stop of the demo's tour", None),
    bind(Action::PreviousStop, &[k(KeyCode::Backspace)], TOUR, Group::Program, "previous stop of the tour", None),
    bind(Action::Help, &[c('?')], MOVES, Group::Program, "this help", None),
    bind(Action::Redraw, &[ctrl('l')], MOVES, Group::Program, "draw again", None),
    bind(Action::Suspend, &[ctrl('z')], MOVES, Group::Program, "suspend", None),
    bind(Action::Quit, &[c('q'), ctrl('c')], MOVES, Group::Program, "quit", None),
];

const fn bind(
    action: Action,
    keys: &'static [Key],
    places: &'static [Place],
    group: Group,
    help: &'static str,
    hint: Option<(&'static str, u8)>,
) -> Binding {
    Binding { action, keys, places, group, help, hint }
}

impl Binding {
    /// All keys, as users call them.
    pub fn names(&self, ascii: bool) -> String {
        self.keys.iter().map(|key| key.name(ascii)).collect::<Vec<_>>().join(" ")
    }
}

/// What this key does in this place.
pub fn action(key: Key, place: Place) -> Option<Action> {
    BINDINGS.iter().find(|b| b.places.contains(&place) && b.keys.contains(&key)).map(|b| b.action)
}

/// The table as the README prints it: one row per action.
pub fn markdown() -> String {
    let mut out = String::from("| key | does |\n|---|---|\n");
    for group in Group::ALL {
        for binding in BINDINGS.iter().filter(|b| b.group == group) {
            let keys: Vec<_> = binding.keys.iter().map(|key| format!("`{}`", key.name(false))).collect();
            let _ = writeln!(out, "| {} | {} |", keys.join(" "), binding.help);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_bound_twice_in_one_place() {
        for place in Place::ALL {
            let mut keys: Vec<_> = BINDINGS.iter().filter(|b| b.places.contains(&place)).flat_map(|b| b.keys).collect();
            let all = keys.len();
            keys.sort_by_key(|key| key.name(false));
            keys.dedup();
            assert_eq!(keys.len(), all, "{place:?}");
        }
    }

    #[test]
    fn a_key_means_the_same_wherever_it_is_valid() {
        for binding in BINDINGS {
            for key in binding.keys {
                let actions: Vec<_> = Place::ALL.into_iter().filter_map(|place| action(*key, place)).collect();
                assert!(actions.iter().all(|a| *a == binding.action), "{key:?}: {actions:?}");
            }
        }
    }

    #[test]
    fn shift_is_part_of_the_letter_and_other_modifiers_are_not_bound() {
        let shifted = KeyEvent::new(KeyCode::Char('G'), KeyModifiers::SHIFT);
        assert_eq!(Key::of(shifted).and_then(|key| action(key, Place::List)), Some(Action::Last));
        let alt = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::ALT);
        assert_eq!(Key::of(alt), None);
    }
}
