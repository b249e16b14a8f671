//! What could be written at the cursor: fields, then words of closed lists and values seen in the world, with counts.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use super::field::Kind;
use super::{Field, Filter, Op};
use crate::world::World;

/// Most proposals.
const MOST: usize = 50;

/// What could replace a part of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The bytes that a proposal replaces.
    pub replace: Range<usize>,
    /// The proposals, best first.
    pub proposals: Vec<Proposal>,
}

/// One proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// What to write.
    pub text: String,
    /// How many flows it would find; `None` for fields.
    pub flows: Option<usize>,
    /// What it means.
    pub help: &'static str,
}

impl Completion {
    /// What all proposals begin with.
    pub fn common(&self) -> &str {
        let Some(first) = self.proposals.first() else { return "" };
        let mut common = first.text.as_str();
        for other in &self.proposals[1..] {
            let same = common.char_indices().zip(other.text.chars()).find(|((_, a), b)| a != b);
            let end = same.map_or(common.len().min(other.text.len()), |((at, _), _)| at);
            common = &common[..end];
        }
        common
    }
}

/// Proposes for the word that ends at `cursor` (a byte offset; one inside of a character counts as before it).
pub fn complete(text: &str, cursor: usize, seen: &World, saved: &[&str]) -> Completion {
    let mut cursor = cursor.min(text.len());
    while !text.is_char_boundary(cursor) {
        cursor -= 1;
    }
    let before = &text[..cursor];
    let begins = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | '|');
    let start = before.rfind(begins).map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    let word = before[start..].trim_start_matches(['-', '!']);
    let start = cursor - word.len();
    let length = word.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(word.len());
    let (name, behind) = word.split_at(length);
    let op = Op::ALL.into_iter().find(|op| behind.starts_with(op.as_str()));
    match (Field::parse(name), op) {
        (Some(field), Some(op)) => {
            let value = &behind[op.as_str().len()..];
            let value = value.rsplit(',').next().unwrap_or(value);
            Completion { replace: cursor - value.len()..cursor, proposals: values(field, value, seen) }
        }
        _ => Completion { replace: start..cursor, proposals: fields(word, saved) },
    }
}

fn fields(word: &str, saved: &[&str]) -> Vec<Proposal> {
    let lower = word.to_lowercase();
    let named = Field::ALL.iter().filter(|f| f.name().starts_with(&lower));
    let named = named.map(|f| Proposal { text: format!("{}:", f.name()), flows: None, help: f.help() });
    let kept = saved.iter().map(|name| format!("@{name}")).filter(|text| text.starts_with(word));
    named.chain(kept.map(|text| Proposal { text, flows: None, help: "a saved filter" })).take(MOST).collect()
}

fn values(field: Field, begun: &str, world: &World) -> Vec<Proposal> {
    let counts = counted(field, world);
    let lower = begun.to_lowercase();
    let mut out: Vec<Proposal> = Vec::new();
    let mut propose = |text: &str, flows: usize| {
        if text.to_lowercase().starts_with(&lower) {
            out.push(Proposal { text: spelled(text), flows: Some(flows), help: "" });
        }
    };
    let closed = field.choices();
    if closed.is_empty() {
        for (text, flows) in &counts {
            propose(text, *flows);
        }
    } else {
        for word in closed {
            propose(word, counts.get(word).copied().unwrap_or(0));
        }
    }
    out.sort_by(|a, b| b.flows.cmp(&a.flows).then_with(|| a.text.cmp(&b.text)));
    out.truncate(MOST);
    out
}

/// Every value of the field in the world, and how many flows have it.
fn counted(field: Field, world: &World) -> BTreeMap<String, usize> {
    let counts: RefCell<BTreeMap<String, usize>> = RefCell::default();
    let count = |text: &str| {
        *counts.borrow_mut().entry(text.to_owned()).or_default() += 1;
        false
    };
    match field.kind() {
        Kind::Text => world.flows.iter().for_each(|flow| {
            let mut last: Vec<String> = Vec::new();
            field.any_text(flow, &mut |text| {
                if !last.iter().any(|l| l == text) {
                    last.push(text.to_owned());
                    count(text);
                }
                false
            });
        }),
        Kind::Choice if field == Field::Is => {
            for word in field.choices() {
                let Ok(filter) = Filter::parse(&format!("is:{word}")) else { continue };
                let found = world.flows.iter().filter(|f| filter.accepts(f, world.now)).count();
                counts.borrow_mut().insert(word.to_owned(), found);
            }
        }
        Kind::Choice => world.flows.iter().for_each(|flow| {
            field.any_choice(flow, &count);
        }),
        Kind::Severity => world.flows.iter().for_each(|flow| {
            count(flow.judgement.severity.as_str());
        }),
        Kind::Number => world.flows.iter().filter_map(|flow| field.number(flow)).for_each(|n| {
            count(&n.to_string());
        }),
        Kind::Address => world.flows.iter().for_each(|flow| {
            field.any_address(flow, &|ip| count(&ip.to_string()));
        }),
        Kind::Amount | Kind::Span | Kind::Moment => {}
    }
    counts.into_inner()
}

/// In quotes where the grammar would take it for something else.
fn spelled(text: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !matches!(c, '(' | ')' | '|' | '"' | ',' | '*');
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with('/') {
        text.to_owned()
    } else {
        super::syntax::quoted(text)
    }
}
