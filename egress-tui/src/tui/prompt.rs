//! The filter while it is typed: every key narrows the list at once; with a mistake in it the last valid filter goes on.

use std::sync::Arc;

use egress_core::filter::complete::{Completion, complete};
use egress_core::filter::{Field, Filter, FilterError, LONGEST};
use egress_core::world::World;
use tui_input::{Input, InputRequest};

/// What is typed, and what it was before.
#[derive(Debug, Clone)]
pub struct Prompt {
    input: Input,
    /// What is wrong with it.
    pub error: Option<FilterError>,
    /// What Tab found last.
    pub found: Option<Completion>,
    /// The filter to go back to.
    before: Option<Filter>,
    saved: Arc<[(String, String)]>,
}

/// What an edit leads to.
#[derive(Debug, Clone)]
pub enum Change {
    /// The list is narrowed by this from now on.
    Filter(Option<Filter>),
    /// The last valid filter goes on.
    Keep,
}

impl Prompt {
    /// Opens with the filter in force. `saved` holds names and texts.
    pub fn new(filter: Option<&Filter>, saved: Arc<[(String, String)]>) -> Self {
        let text = filter.map_or("", Filter::text).to_owned();
        Self { input: Input::new(text), error: None, found: None, before: filter.cloned(), saved }
    }

    /// The text.
    pub fn text(&self) -> &str {
        self.input.value()
    }

    /// Characters before the cursor.
    pub fn cursor(&self) -> usize {
        self.input.cursor()
    }

    /// The filter to go back to.
    pub fn before(&self) -> Option<Filter> {
        self.before.clone()
    }

    /// Moves or edits.
    pub fn edit(&mut self, request: InputRequest) -> Change {
        let grows = matches!(request, InputRequest::InsertChar(_));
        if grows && self.text().len() >= LONGEST {
            return Change::Keep;
        }
        self.found = None;
        match self.input.handle(request) {
            Some(change) if change.value => self.read(),
            _ => Change::Keep,
        }
    }

    /// Inserts pasted text: control characters become blanks.
    pub fn paste(&mut self, text: &str) -> Change {
        for c in text.chars().take(LONGEST) {
            let c = if c.is_control() { ' ' } else { c };
            if self.text().len() < LONGEST {
                self.input.handle(InputRequest::InsertChar(c));
            }
        }
        self.found = None;
        self.read()
    }

    /// Completes the word before the cursor as far as it is certain; the proposals are shown.
    pub fn complete(&mut self, world: &World) -> Change {
        let text = self.text().to_owned();
        let at = text.char_indices().nth(self.cursor()).map_or(text.len(), |(at, _)| at);
        let names: Vec<&str> = self.saved.iter().map(|(name, _)| name.as_str()).collect();
        let found = complete(&text, at, world, &names);
        let common = found.common().to_owned();
        let mut change = Change::Keep;
        if common.len() > found.replace.len() || found.proposals.len() == 1 {
            let behind = &text[found.replace.end..];
            let before = format!("{}{common}", &text[..found.replace.start]);
            let cursor = before.chars().count();
            self.input = Input::new(format!("{before}{behind}")).with_cursor(cursor);
            change = self.read();
        }
        self.found = (found.proposals.len() != 1).then_some(found);
        change
    }

    /// The typing is over: what stands there is meant as it stands. `None`: there is a mistake in it.
    pub fn finish(&self) -> Option<Change> {
        match self.text().trim() {
            "" => Some(Change::Filter(None)),
            text => self.parse(text).ok().map(|filter| Change::Filter(Some(filter))),
        }
    }

    /// The last word could become `field:`.
    fn names_a_field(&self) -> bool {
        let text = self.text();
        let word = text[before_word(text, text.len()).len()..].trim_start_matches([' ', '-', '!', '(']);
        !word.is_empty() && Field::ALL.iter().any(|field| field.name().starts_with(word))
    }

    fn parse(&self, text: &str) -> Result<Filter, FilterError> {
        let saved = |name: &str| self.saved.iter().find(|(n, _)| n == name).map(|(_, text)| text.clone());
        Filter::parse_with(text, &saved)
    }

    fn read(&mut self) -> Change {
        if self.text().trim().is_empty() {
            self.error = None;
            return Change::Filter(None);
        }
        // The beginning of a field's name is not yet a word to look for.
        let text = if self.names_a_field() { before_word(self.text(), self.text().len()) } else { self.text() };
        match self.parse(text) {
            Ok(_) if text.is_empty() => Change::Filter(self.before.clone()),
            Ok(filter) => {
                self.error = None;
                Change::Filter(Some(filter))
            }
            Err(error) => {
                // What stands before the mistake goes on; a word that became a wrong field is no search for that word.
                let valid = before_word(self.text(), error.span.start);
                let change = match self.parse(valid) {
                    Ok(_) if valid.is_empty() => Change::Filter(self.before.clone()),
                    Ok(filter) => Change::Filter(Some(filter)),
                    Err(_) => Change::Keep,
                };
                self.error = Some(error);
                change
            }
        }
    }
}

/// What stands before the word that holds this byte.
fn before_word(text: &str, at: usize) -> &str {
    let ends = |c: char| c.is_whitespace() || matches!(c, '(' | '|');
    text[..at].rfind(ends).map_or("", |end| text[..end].trim_end_matches([' ', '(', '|', '-', '!']))
}
