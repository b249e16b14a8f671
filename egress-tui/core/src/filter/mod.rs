//! The filter language: one for the dashboard, `--filter`, `watch` and the configuration.
//!
//! ```text
//! query = and { ("or" | "|") and }          and  = not { ["and"] not }        a space means and
//! not   = ("-" | "!" | "not") not | atom    atom = "(" query ")" | field op value | @saved | word
//! op    = ":" "=" "!=" ">" ">=" "<" "<=" "~"
//! value = word | "quoted" | glob* | /regex/ | cidr | list,of,values | number[K M G] | number[s m h d]
//! ```
//!
//! `:` is "contains" for text, "is" for numbers and closed words, "lies in" for addresses, and takes lists; `=` is the exact
//! text, `~` a regular expression. Case folds unless the value has an upper-case letter. A bare word looks at host,
//! workload and address. [`syntax`] turns text into a [`Tree`] and back, [`field`] is the table of fields, [`check`] compiles
//! the tree against flows, [`complete`] proposes what could come next.
//!
//! A mistake is an error with a place and a proposal; it never becomes a search for text.

mod check;
pub mod complete;
pub mod field;
pub mod syntax;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arcstr::ArcStr;

pub use self::field::Field;
pub use self::syntax::{Item, Op, Test, Tree};

use self::check::Check;
use crate::id::WallTime;
use crate::name::printable;
use crate::world::Flow;

/// Longest text of a filter, in bytes.
pub const LONGEST: usize = 4096;

/// A condition on flows together with the text that the user wrote for it.
#[derive(Clone)]
pub struct Filter {
    text: ArcStr,
    tree: Tree,
    check: Arc<Check>,
}

impl Filter {
    /// Reads a filter without saved ones.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        Self::parse_with(text, &|_| None)
    }

    /// Reads a filter; `saved` gives the text behind `@NAME`.
    pub fn parse_with(text: &str, saved: &dyn Fn(&str) -> Option<String>) -> Result<Self, FilterError> {
        let tree = syntax::parse(text, saved)?;
        let check = Check::new(&tree).map_err(|fault| fault.at(text))?;
        Ok(Self { text: text.into(), tree, check: Arc::new(check) })
    }

    /// As the user wrote it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What was understood; its `Display` is the canonical spelling.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Whether the flow fulfils it. `now` is the instant that ages refer to.
    pub fn accepts(&self, flow: &Flow, now: WallTime) -> bool {
        self.check.accepts(flow, now)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.text).finish()
    }
}

/// What is wrong with a filter, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FilterError {
    /// The whole filter.
    pub text: String,
    /// The bytes of it that are wrong; on character boundaries.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub proposal: Option<String>,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = printable(&self.text[..self.span.start]).chars().count();
        let wrong = printable(&self.text[self.span.clone()]).chars().count().max(1);
        writeln!(f, "filter: {}", printable(&self.message))?;
        writeln!(f, "  {}", printable(&self.text))?;
        write!(f, "  {}{}", " ".repeat(before), "^".repeat(wrong))?;
        match &self.proposal {
            Some(proposal) => write!(f, " {}", printable(proposal)),
            None => Ok(()),
        }
    }
}

/// A [`FilterError`] before the text is attached.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    span: Range<usize>,
    message: String,
    proposal: Option<String>,
}

impl Fault {
    pub(crate) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), proposal: None }
    }

    pub(crate) fn propose(mut self, proposal: Option<String>) -> Self {
        self.proposal = proposal;
        self
    }

    fn at(self, text: &str) -> FilterError {
        let end = self.span.end.min(text.len());
        FilterError {
            text: text.to_owned(),
            span: self.span.start.min(end)..end,
            message: self.message,
            proposal: self.proposal,
        }
    }
}

/// The candidate that is nearest to what was written, if it is near enough to be what was meant.
pub fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase();
    let furthest = 1 + written.chars().count() / 3;
    candidates
        .into_iter()
        .map(|candidate| (distance(&written, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= furthest && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edit distance where two neighbours that changed places count once (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let swap = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + swap);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> FilterError {
        Filter::parse(text).expect_err(text)
    }

    #[test]
    fn a_mistake_shows_its_place_and_what_was_probably_meant() {
        let error = fault("ns:pay verdcit:bypass");
        assert_eq!(&error.text[error.span.clone()], "verdcit");
        assert_eq!(
            error.to_string(),
            "filter: there is no field verdcit\n  ns:pay verdcit:bypass\n         ^^^^^^^ did you mean verdict?"
        );
        let error = fault("class:bypas");
        assert_eq!(
            (&error.text[error.span.clone()], error.proposal.as_deref()),
            ("bypas", Some("did you mean bypass?"))
        );
    }

    #[test]
    fn every_kind_of_mistake_is_told_apart() {
        for (text, wrong, message) in [
            ("host~/(/", "/(/", "is no regular expression"),
            ("rate>fast", "fast", "is no amount"),
            ("age<5x", "5x", "is no time"),
            ("\"open", "\"open", "the quote is never closed"),
            ("(a or b", "(", "the parenthesis is never closed"),
            ("a or", "", "something is missing after or"),
            ("a )", ")", "nothing was opened that this closes"),
            ("port>", "", "a value is missing after port>"),
            ("port:http", "http", "is no number"),
            ("dst:203.0.113.0/33", "203.0.113.0/33", "is no address or range"),
            ("class>bypass", ">", "class cannot be compared with >"),
            ("is:heavy", "heavy", "is: does not know"),
            ("@mine", "@mine", "no filter is saved as mine"),
            ("api.example.com:443", "api.example.com:443", "a word cannot hold a colon"),
            ("since:25:00", "25:00", "is no moment"),
            ("host:a,,b", "", "a value is missing in the list"),
        ] {
            let error = fault(text);
            assert_eq!(&error.text[error.span.clone()], wrong, "{text}: {error}");
            assert!(error.message.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn the_nearest_word_must_be_near() {
        assert_eq!(nearest("severty", ["severity", "verdict"]), Some("severity"));
        assert_eq!(nearest("hots", ["host", "ns"]), Some("host"));
        assert_eq!(nearest("zzz", ["host", "ns"]), None);
    }
}
