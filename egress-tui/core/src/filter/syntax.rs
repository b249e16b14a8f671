//! Text to tree and back: `parse(tree.to_string())` is the same tree.

use std::fmt;
use std::ops::Range;

use super::field::{self, Field};
use super::{Fault, FilterError, LONGEST, nearest};

/// How deep parentheses, negations and saved filters may nest.
const DEEPEST: usize = 64;

/// What was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tree {
    /// Every part holds; no part at all accepts everything.
    And(Vec<Tree>),
    /// Some part holds.
    Or(Vec<Tree>),
    /// It does not hold.
    Not(Box<Tree>),
    /// A saved filter.
    Saved(String, Box<Tree>),
    /// One condition.
    Test(Test),
}

/// One condition. Equal when it says the same, wherever it stands.
#[derive(Debug, Clone)]
pub struct Test {
    /// The field; `None` is a bare word.
    pub field: Option<Field>,
    /// How it is compared.
    pub op: Op,
    /// With what; several are alternatives.
    pub items: Vec<Item>,
    /// Where the operator stands.
    pub(crate) op_span: Range<usize>,
}

impl PartialEq for Test {
    fn eq(&self, other: &Self) -> bool {
        (self.field, self.op, &self.items) == (other.field, other.op, &other.items)
    }
}

impl Eq for Test {}

/// A value.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its text, without quotes or slashes.
    pub text: String,
    /// How it was written.
    pub form: Form,
    /// Where it stands.
    pub(crate) span: Range<usize>,
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, self.form) == (&other.text, other.form)
    }
}

impl Eq for Item {}

/// How a value was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// As it is; `*` stands for anything.
    Plain,
    /// In quotes: nothing has a special meaning.
    Quoted,
    /// Between slashes.
    Regex,
}

/// How values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// `:`
    Has,
    /// `=`
    Is,
    /// `!=`
    IsNot,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `~`
    Matches,
}

impl Op {
    /// Longer ones first, as they are recognised.
    pub const ALL: [Self; 8] =
        [Self::IsNot, Self::AtLeast, Self::AtMost, Self::Has, Self::Is, Self::Above, Self::Below, Self::Matches];

    /// Its spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Has => ":",
            Self::Is => "=",
            Self::IsNot => "!=",
            Self::Above => ">",
            Self::AtLeast => ">=",
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Matches => "~",
        }
    }
}

/// Reads a filter.
pub fn parse(text: &str, saved: &dyn Fn(&str) -> Option<String>) -> Result<Tree, FilterError> {
    read(text, saved, 0).map_err(|fault| fault.at(text))
}

fn read(text: &str, saved: &dyn Fn(&str) -> Option<String>, depth: usize) -> Result<Tree, Fault> {
    if text.len() > LONGEST {
        return Err(Fault::new(0..0, format!("it is longer than {LONGEST} bytes")));
    }
    let mut parser = Parser { text, at: 0, depth, saved };
    parser.skip();
    if parser.rest().is_empty() {
        return Ok(Tree::And(Vec::new()));
    }
    let tree = parser.or()?;
    match parser.rest().chars().next() {
        None => Ok(tree),
        Some(c) => Err(Fault::new(parser.at..parser.at + c.len_utf8(), "nothing was opened that this closes")),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    saved: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Takes a word of the grammar (`or`, `and`, `not`): a whole word in lower or upper case.
    fn keyword(&mut self, word: &str) -> bool {
        let rest = self.rest();
        let Some(head) = rest.get(..word.len()) else { return false };
        let ends = rest[word.len()..].chars().next().is_none_or(|c| c.is_whitespace() || matches!(c, '(' | ')' | '|'));
        let found = ends && (head == word || head == word.to_ascii_uppercase());
        if found {
            self.at += word.len();
            self.skip();
        }
        found
    }

    fn take(&mut self, mark: char) -> bool {
        let found = self.rest().starts_with(mark);
        if found {
            self.at += mark.len_utf8();
            self.skip();
        }
        found
    }

    fn or(&mut self) -> Result<Tree, Fault> {
        let mut parts = vec![self.and()?];
        loop {
            let word = if self.take('|') {
                "|"
            } else if self.keyword("or") {
                "or"
            } else {
                break;
            };
            self.demand(word)?;
            parts.push(self.and()?);
        }
        Ok(one_or(parts, Tree::Or))
    }

    fn and(&mut self) -> Result<Tree, Fault> {
        self.demand("this")?;
        let mut parts = vec![self.not()?];
        loop {
            let rest = self.rest();
            if rest.is_empty() || rest.starts_with([')', '|']) {
                break;
            }
            let here = self.at;
            if self.keyword("or") {
                self.at = here;
                break;
            }
            if self.keyword("and") {
                self.demand("and")?;
            }
            parts.push(self.not()?);
        }
        Ok(one_or(parts, Tree::And))
    }

    /// Something must follow.
    fn demand(&self, after: &str) -> Result<(), Fault> {
        let rest = self.rest();
        if rest.is_empty() || rest.starts_with([')', '|']) {
            return Err(Fault::new(self.at..self.at, format!("something is missing after {after}")));
        }
        Ok(())
    }

    fn deeper(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Fault::new(self.at..self.at, format!("it is nested more than {DEEPEST} deep")));
        }
        Ok(())
    }

    fn not(&mut self) -> Result<Tree, Fault> {
        if self.take('-') || self.take('!') || self.keyword("not") {
            self.demand("the negation")?;
            self.deeper()?;
            let inner = self.not()?;
            self.depth -= 1;
            return Ok(Tree::Not(Box::new(inner)));
        }
        self.atom()
    }

    fn atom(&mut self) -> Result<Tree, Fault> {
        let start = self.at;
        if self.take('(') {
            self.deeper()?;
            let inner = self.or()?;
            self.depth -= 1;
            if !self.take(')') {
                return Err(Fault::new(start..start + 1, "the parenthesis is never closed"));
            }
            return Ok(inner);
        }
        if self.rest().starts_with('@') {
            return self.saved();
        }
        if let Some(test) = self.field_test()? {
            return Ok(Tree::Test(test));
        }
        let item = self.item(&[])?;
        if item.form == Form::Plain && ["or", "and", "not"].contains(&item.text.to_lowercase().as_str()) {
            let proposal = Some(format!("the word itself is written \"{}\"", item.text));
            return Err(Fault::new(item.span, format!("something is missing before {}", item.text)).propose(proposal));
        }
        if item.form == Form::Plain && item.text.contains(':') && item.text.parse::<std::net::IpAddr>().is_err() {
            let proposal = item.text.rsplit_once(':').map(|(host, port)| format!("write host:{host} port:{port}"));
            return Err(Fault::new(item.span, "a word cannot hold a colon").propose(proposal));
        }
        self.skip();
        Ok(Tree::Test(Test { field: None, op: Op::Has, op_span: start..start, items: vec![item] }))
    }

    fn saved(&mut self) -> Result<Tree, Fault> {
        let start = self.at;
        self.at += 1;
        let name: String = self.rest().chars().take_while(|c| is_name(*c)).collect();
        self.at += name.len();
        let span = start..self.at;
        let Some(text) = (self.saved)(&name) else {
            return Err(Fault::new(span, format!("no filter is saved as {name}")));
        };
        self.deeper()?;
        let tree = read(&text, self.saved, self.depth)
            .map_err(|fault| Fault::new(span, format!("in the saved filter {name}: {}", fault.message)))?;
        self.depth -= 1;
        self.skip();
        Ok(Tree::Saved(name, Box::new(tree)))
    }

    /// `field op value`; `None` where a bare word stands.
    fn field_test(&mut self) -> Result<Option<Test>, Fault> {
        let start = self.at;
        let rest = self.rest();
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, behind) = rest.split_at(length);
        let Some(op) = Op::ALL.into_iter().find(|op| behind.starts_with(op.as_str())) else { return Ok(None) };
        let word: &str = rest.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '|')).next().unwrap_or(rest);
        if name.is_empty() || word.parse::<std::net::IpAddr>().is_ok() {
            return Ok(None);
        }
        let Some(field) = Field::parse(name) else {
            let proposal = nearest(name, field::names()).map(|near| format!("did you mean {near}?"));
            return Err(Fault::new(start..start + length, format!("there is no field {name}")).propose(proposal));
        };
        let op_span = start + length..start + length + op.as_str().len();
        self.at = op_span.end;
        let missing = |at: usize, what: String| Fault::new(at..at, what);
        if self.rest().chars().next().is_none_or(|c| c.is_whitespace() || matches!(c, ')' | '|')) {
            return Err(missing(self.at, format!("a value is missing after {name}{}", op.as_str())));
        }
        let mut items = Vec::new();
        loop {
            if self.rest().chars().next().is_none_or(|c| c.is_whitespace() || matches!(c, ')' | '|' | ',')) {
                return Err(missing(self.at, "a value is missing in the list".to_owned()));
            }
            items.push(self.item(&[','])?);
            if !self.rest().starts_with(',') {
                break;
            }
            self.at += 1;
        }
        self.skip();
        Ok(Some(Test { field: Some(field), op, items, op_span }))
    }

    /// One value, up to a blank, a parenthesis, `|`, or one of `ends`.
    fn item(&mut self, ends: &[char]) -> Result<Item, Fault> {
        let start = self.at;
        let form = match self.rest().chars().next() {
            Some('"') => Form::Quoted,
            Some('/') => Form::Regex,
            _ => Form::Plain,
        };
        if form == Form::Plain {
            let is_end = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | '|' | '"') || ends.contains(&c);
            let length = self.rest().find(is_end).unwrap_or(self.rest().len());
            self.at += length;
            let text = self.text[start..self.at].to_owned();
            if text.is_empty() {
                return Err(Fault::new(start..start + 1, "a value cannot begin here"));
            }
            return Ok(Item { text, form, span: start..self.at });
        }
        let mark = if form == Form::Quoted { '"' } else { '/' };
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((place, c)) = chars.next() {
            match c {
                c if c == mark => {
                    self.at = start + place + 1;
                    return Ok(Item { text, form, span: start..self.at });
                }
                '\\' => match chars.next() {
                    Some((_, next)) if next == mark || (next == '\\' && form == Form::Quoted) => text.push(next),
                    Some((_, next)) => text.extend([c, next]),
                    None => break,
                },
                c => text.push(c),
            }
        }
        let what = if form == Form::Quoted { "quote" } else { "regular expression" };
        Err(Fault::new(start..self.text.len(), format!("the {what} is never closed")))
    }
}

fn one_or(mut parts: Vec<Tree>, many: impl Fn(Vec<Tree>) -> Tree) -> Tree {
    if parts.len() == 1 { parts.swap_remove(0) } else { many(parts) }
}

/// Characters of a saved filter's name.
pub fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(parts) => join(f, parts, " "),
            Self::Or(parts) => join(f, parts, " or "),
            Self::Not(inner) => {
                f.write_str("-")?;
                inner.within(f)
            }
            Self::Saved(name, _) => write!(f, "@{name}"),
            Self::Test(test) => test.fmt(f),
        }
    }
}

fn join(f: &mut fmt::Formatter<'_>, parts: &[Tree], between: &str) -> fmt::Result {
    for (n, part) in parts.iter().enumerate() {
        if n > 0 {
            f.write_str(between)?;
        }
        part.within(f)?;
    }
    Ok(())
}

impl Tree {
    /// In parentheses where another tree is inside.
    fn within(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(_) | Self::Or(_) => write!(f, "({self})"),
            _ => write!(f, "{self}"),
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(field) = self.field {
            write!(f, "{}{}", field.name(), self.op.as_str())?;
        }
        for (n, item) in self.items.iter().enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            item.fmt(f)?;
        }
        Ok(())
    }
}

/// The text in quotes.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.form {
            Form::Plain => f.write_str(&self.text),
            Form::Quoted => f.write_str(&quoted(&self.text)),
            Form::Regex => write!(f, "/{}/", self.text.replace('/', "\\/")),
        }
    }
}
