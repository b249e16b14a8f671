//! A tree, compiled: what is asked of each flow.

use std::net::IpAddr;

use ipnet::IpNet;
use regex::{Regex, RegexBuilder};

use super::field::{Field, Kind};
use super::syntax::{Form, Item, Op, Test, Tree};
use super::{Fault, nearest};
use crate::id::{Nanos, WallTime};
use crate::query::{NEW_SECONDS, is_problem};
use crate::verdict::{Reason, Severity};
use crate::world::Flow;

/// Most memory that one regular expression may take.
const REGEX_BYTES: usize = 1 << 20;

/// What is asked of a flow.
#[derive(Debug)]
pub(crate) enum Check {
    All(Vec<Check>),
    Any(Vec<Check>),
    Not(Box<Check>),
    Word(Pattern),
    Text(Field, Vec<Pattern>),
    Choice(Field, Vec<Choice>),
    Address(Field, Vec<IpNet>),
    /// The inclusive range.
    Number(Field, u64, u64),
    /// Nanoseconds since first seen, inclusive.
    Age(u64, u64),
    /// First seen at or after this moment.
    Since(Moment),
}

/// A word of a closed list, or the beginning of several.
#[derive(Debug)]
pub(crate) enum Choice {
    One(&'static str),
    Prefix(String),
}

impl Choice {
    fn accepts(&self, word: &str) -> bool {
        match self {
            Self::One(one) => *one == word,
            Self::Prefix(prefix) => word.starts_with(prefix.as_str()),
        }
    }
}

/// When something began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// At this instant.
    At(WallTime),
    /// The latest time that the clock (UTC) showed this many nanoseconds of the day.
    TimeOfDay(i64),
    /// This long ago.
    Ago(u64),
}

const DAY: i64 = 86_400 * Nanos::SECOND.cast_signed();

impl Moment {
    fn instant(self, now: WallTime) -> i64 {
        match self {
            Self::At(at) => at.0,
            Self::Ago(span) => now.0.saturating_sub_unsigned(span),
            Self::TimeOfDay(time) => {
                let today = now.0 - now.0.rem_euclid(DAY) + time;
                if today > now.0 { today - DAY } else { today }
            }
        }
    }
}

/// A condition on text.
#[derive(Debug)]
pub(crate) enum Pattern {
    /// Somewhere inside; the value is in lower case.
    Inside(String),
    /// Somewhere inside, in this case.
    InsideExactly(String),
    /// The whole text; the value is in lower case.
    Whole(String),
    /// The whole text, in this case.
    WholeExactly(String),
    /// A regular expression; `*` patterns become one.
    Regex(Regex),
}

impl Pattern {
    fn new(item: &Item, op: Op) -> Result<Self, Fault> {
        let upper = item.text.chars().any(char::is_uppercase);
        let lower = || item.text.to_lowercase();
        if item.form == Form::Regex || op == Op::Matches {
            return regex(&item.text, item);
        }
        if item.form == Form::Plain && item.text.contains('*') {
            let parts: Vec<String> = item.text.split('*').map(regex::escape).collect();
            return regex(&format!("^{}$", parts.join(".*")), item);
        }
        Ok(match (op, upper) {
            (Op::Has, false) => Self::Inside(lower()),
            (Op::Has, true) => Self::InsideExactly(item.text.clone()),
            (_, false) => Self::Whole(lower()),
            (_, true) => Self::WholeExactly(item.text.clone()),
        })
    }

    fn accepts(&self, text: &str) -> bool {
        match self {
            Self::Inside(value) if text.chars().any(|c| c.is_uppercase() || !c.is_ascii()) => {
                text.to_lowercase().contains(value.as_str())
            }
            Self::Inside(value) | Self::InsideExactly(value) => text.contains(value.as_str()),
            Self::Whole(value) => text == value || text.to_lowercase() == *value,
            Self::WholeExactly(value) => text == value,
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

fn regex(pattern: &str, item: &Item) -> Result<Pattern, Fault> {
    // An upper-case letter after a backslash is a class such as \S, not a letter that was meant.
    let mut before = ' ';
    let upper = item.text.chars().any(|c| std::mem::replace(&mut before, c) != '\\' && c.is_uppercase());
    RegexBuilder::new(pattern)
        .case_insensitive(!upper)
        .dot_matches_new_line(true)
        .size_limit(REGEX_BYTES)
        .dfa_size_limit(REGEX_BYTES)
        .build()
        .map(Pattern::Regex)
        .map_err(|error| {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Fault::new(item.span.clone(), format!("{} is no regular expression", item.text)).propose(Some(why))
        })
}

impl Check {
    pub(crate) fn new(tree: &Tree) -> Result<Self, Fault> {
        let all = |parts: &[Tree]| parts.iter().map(Self::new).collect::<Result<Vec<_>, _>>();
        Ok(match tree {
            Tree::And(parts) => Self::All(all(parts)?),
            Tree::Or(parts) => Self::Any(all(parts)?),
            Tree::Not(inner) => Self::Not(Box::new(Self::new(inner)?)),
            Tree::Saved(_, inner) => Self::new(inner)?,
            Tree::Test(test) => Self::test(test)?,
        })
    }

    fn test(test: &Test) -> Result<Self, Fault> {
        let Some(field) = test.field else {
            return Ok(Self::Word(Pattern::new(&test.items[0], Op::Has)?));
        };
        let ops = field.kind().ops();
        if !ops.contains(&test.op) {
            let known: Vec<&str> = ops.iter().map(|op| op.as_str()).collect();
            let message = format!("{} cannot be compared with {}", field.name(), test.op.as_str());
            let proposal = format!("use {}", known.join(" "));
            return Err(Fault::new(test.op_span.clone(), message).propose(Some(proposal)));
        }
        if test.items.len() > 1 && !matches!(test.op, Op::Has | Op::Is | Op::IsNot) {
            let message = format!("{} takes one value", test.op.as_str());
            return Err(Fault::new(test.items[1].span.clone(), message));
        }
        let items = &test.items;
        let found = match field.kind() {
            Kind::Text => Self::Text(field, items.iter().map(|i| Pattern::new(i, test.op)).collect::<Result<_, _>>()?),
            Kind::Choice => Self::Choice(field, items.iter().map(|i| choice(field, i)).collect::<Result<_, _>>()?),
            Kind::Address => Self::Address(field, items.iter().map(network).collect::<Result<_, _>>()?),
            Kind::Severity => Self::Any(items.iter().map(|i| severity(i, test.op)).collect::<Result<_, _>>()?),
            Kind::Number | Kind::Amount => {
                Self::Any(items.iter().map(|i| number(field, i, test.op)).collect::<Result<_, _>>()?)
            }
            Kind::Span => Self::Any(items.iter().map(|i| age(i, test.op)).collect::<Result<_, _>>()?),
            Kind::Moment => Self::Any(items.iter().map(|i| moment(i).map(Self::Since)).collect::<Result<_, _>>()?),
        };
        Ok(if test.op == Op::IsNot { Self::Not(Box::new(found)) } else { found })
    }

    pub(crate) fn accepts(&self, flow: &Flow, now: WallTime) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|p| p.accepts(flow, now)),
            Self::Any(parts) => parts.iter().any(|p| p.accepts(flow, now)),
            Self::Not(inner) => !inner.accepts(flow, now),
            Self::Word(pattern) => {
                let mut accepts = |text: &str| pattern.accepts(text);
                Field::Host.any_text(flow, &mut accepts)
                    || Field::Workload.any_text(flow, &mut accepts)
                    || accepts(&flow.destination.ip.to_string())
            }
            Self::Text(field, patterns) => field.any_text(flow, &mut |text| patterns.iter().any(|p| p.accepts(text))),
            Self::Choice(Field::Is, choices) => {
                let accepts = |word: &str| choices.iter().any(|c| c.accepts(word));
                accepts("problem") && is_problem(flow)
                    || accepts("new") && age_of(flow, now) < NEW_SECONDS * Nanos::SECOND
                    || accepts("stale") && flow.judgement.reasons.contains(&Reason::StaleProxy)
            }
            Self::Choice(field, choices) => field.any_choice(flow, &|word| choices.iter().any(|c| c.accepts(word))),
            Self::Address(field, networks) => {
                field.any_address(flow, &|ip: IpAddr| networks.iter().any(|n| n.contains(&ip)))
            }
            Self::Number(Field::Severity, low, high) => (*low..=*high).contains(&(flow.judgement.severity as u64)),
            Self::Number(field, low, high) => field.number(flow).is_some_and(|n| (*low..=*high).contains(&n)),
            Self::Age(low, high) => (*low..=*high).contains(&age_of(flow, now)),
            Self::Since(moment) => flow.first_seen.0 >= moment.instant(now),
        }
    }
}

/// Nanoseconds since a flow was first seen.
fn age_of(flow: &Flow, now: WallTime) -> u64 {
    u64::try_from(now.0.saturating_sub(flow.first_seen.0)).unwrap_or(0)
}

fn choice(field: Field, item: &Item) -> Result<Choice, Fault> {
    let words = field.choices();
    if item.form == Form::Plain
        && let Some(prefix) = item.text.strip_suffix('*')
    {
        let prefix = if field == Field::Reason { prefix.to_uppercase() } else { prefix.to_lowercase() };
        if words.iter().any(|word| word.starts_with(&prefix)) {
            return Ok(Choice::Prefix(prefix));
        }
    }
    let found = words.iter().find(|word| word.eq_ignore_ascii_case(&item.text)).copied();
    found.or_else(|| field.alias(&item.text)).map(Choice::One).ok_or_else(|| unknown_word(field, item, &words))
}

fn unknown_word(field: Field, item: &Item, words: &[&'static str]) -> Fault {
    let proposal = match nearest(&item.text, words.iter().copied()) {
        Some(near) => Some(format!("did you mean {near}?")),
        None if words.len() <= 8 => Some(format!("one of {}", words.join(", "))),
        None => None,
    };
    Fault::new(item.span.clone(), format!("{}: does not know {}", field.name(), item.text)).propose(proposal)
}

fn severity(item: &Item, op: Op) -> Result<Check, Fault> {
    let words = Field::Severity.choices();
    let written = Field::Severity.alias(&item.text).unwrap_or(&item.text);
    let found = Severity::ALL.iter().find(|s| s.as_str().eq_ignore_ascii_case(written));
    let severity = found.ok_or_else(|| unknown_word(Field::Severity, item, &words))?;
    Ok(range(*severity as u64, op).map_or(NEVER, |(low, high)| Check::Number(Field::Severity, low, high)))
}

/// Nothing is accepted.
const NEVER: Check = Check::Any(Vec::new());

fn network(item: &Item) -> Result<IpNet, Fault> {
    let bare = || item.text.parse::<IpAddr>().ok().map(IpNet::from);
    let found = item.text.parse::<IpNet>().ok().or_else(bare);
    found.map(|n| n.trunc()).ok_or_else(|| {
        Fault::new(item.span.clone(), format!("{} is no address or range", item.text))
            .propose(Some("write 203.0.113.7 or 203.0.113.0/24".to_owned()))
    })
}

fn number(field: Field, item: &Item, op: Op) -> Result<Check, Fault> {
    let amount = field.kind() == Kind::Amount;
    let units: &[(&str, f64)] = if amount { &[("K", 1e3), ("M", 1e6), ("G", 1e9), ("", 1.0)] } else { &[("", 1.0)] };
    let found = measured(&item.text, units).ok_or_else(|| {
        let (what, example) = if amount { ("amount", "800, 1.5K, 2M or 1G") } else { ("number", "443") };
        let message = format!("{} is no {what}", item.text);
        Fault::new(item.span.clone(), message).propose(Some(format!("write {example}")))
    })?;
    Ok(range(found, op).map_or(NEVER, |(low, high)| Check::Number(field, low, high)))
}

fn age(item: &Item, op: Op) -> Result<Check, Fault> {
    let span = span(&item.text).ok_or_else(|| {
        Fault::new(item.span.clone(), format!("{} is no time", item.text))
            .propose(Some("write 30s, 5m, 2h or 1d".to_owned()))
    })?;
    Ok(range(span, op).map_or(NEVER, |(low, high)| Check::Age(low, high)))
}

/// Nanoseconds.
fn span(text: &str) -> Option<u64> {
    let second = Nanos::SECOND as f64;
    measured(
        text,
        &[("ms", second / 1e3), ("s", second), ("m", 60.0 * second), ("h", 3600.0 * second), ("d", 86_400.0 * second)],
    )
}

fn measured(text: &str, units: &[(&str, f64)]) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let factor = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1;
    let plain =
        digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') && digits.starts_with(|c: char| c.is_ascii_digit());
    if !plain {
        return None;
    }
    if unit.is_empty() && !digits.contains('.') {
        return digits.parse().ok();
    }
    let value = digits.parse::<f64>().ok()? * factor;
    // Digits have no sign, and what they say is below 2⁶³.
    #[expect(clippy::cast_sign_loss, reason = "digits have no sign")]
    (value.is_finite() && value < 9e18).then_some(value as u64)
}

fn moment(item: &Item) -> Result<Moment, Fault> {
    let text = &item.text;
    let parts: Vec<Option<i64>> = text.split(':').map(|p| p.parse().ok().filter(|_| p.len() == 2)).collect();
    let time = |hour: i64, minute: i64, second: i64| {
        let valid = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..60).contains(&second);
        valid.then(|| Moment::TimeOfDay((hour * 3600 + minute * 60 + second) * Nanos::SECOND.cast_signed()))
    };
    let found = match parts[..] {
        [Some(hour), Some(minute)] => time(hour, minute, 0),
        [Some(hour), Some(minute), Some(second)] => time(hour, minute, second),
        _ => {
            let stamp = || text.parse::<jiff::Timestamp>().ok().and_then(|t| i64::try_from(t.as_nanosecond()).ok());
            span(text).map(Moment::Ago).or_else(|| stamp().map(|at| Moment::At(WallTime(at))))
        }
    };
    found.ok_or_else(|| {
        Fault::new(item.span.clone(), format!("{text} is no moment"))
            .propose(Some("write 13:45 (UTC), 5m (ago) or 2026-11-21T13:45:00Z".to_owned()))
    })
}

/// The inclusive range of whole numbers that compare so; `None` is empty. `!=` is the negation of `=`.
fn range(value: u64, op: Op) -> Option<(u64, u64)> {
    match op {
        Op::Above => Some((value.checked_add(1)?, u64::MAX)),
        Op::AtLeast => Some((value, u64::MAX)),
        Op::Below => Some((0, value.checked_sub(1)?)),
        Op::AtMost => Some((0, value)),
        Op::Has | Op::Is | Op::IsNot | Op::Matches => Some((value, value)),
    }
}
