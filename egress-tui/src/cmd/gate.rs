//! What makes a headless verb fail, and when it has seen enough.

use clap::Args;
use egress_core::filter::{Filter, nearest};
use egress_core::query::is_problem;
use egress_core::verdict::{Class, Severity};
use egress_core::world::{Flow, World};

use crate::exit::Exit;

/// Options of the verbs that judge.
#[derive(Debug, Clone, Default, Args)]
pub struct Gate {
    /// Exit with 1 if a flow is of this class or at least of this severity; verdict:X and reason:X narrow (repeatable)
    #[arg(long, value_name = "WORD", value_delimiter = ',', value_parser = threshold)]
    pub fail_on: Vec<Filter>,
    /// Lost events that do not make the answer incomplete
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_lost: u64,
    /// Nodes that must be observed for the answer to be complete: a number, or a share as 50%
    #[arg(long, value_name = "NODES", value_parser = nodes)]
    pub min_coverage: Option<Nodes>,
    /// End as soon as there is a problem (or what --fail-on names)
    #[arg(long)]
    pub until_problem: bool,
}

/// How many nodes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Nodes {
    /// At least so many.
    Count(u32),
    /// At least this share of all, 0 to 1.
    Share(f64),
}

fn nodes(text: &str) -> Result<Nodes, String> {
    let share = text.strip_suffix('%').map(|t| t.parse::<f64>().ok().filter(|p| (0.0..=100.0).contains(p)));
    match share {
        Some(share) => share.map(|p| Nodes::Share(p / 100.0)),
        None => text.parse().ok().map(Nodes::Count),
    }
    .ok_or_else(|| format!("'{text}' is no number of nodes; write 3 or 50%"))
}

/// A class, a severity, `verdict:X` or `reason:X`, as a filter.
fn threshold(word: &str) -> Result<Filter, String> {
    let classes = Class::ALL.map(Class::as_str);
    let severities = Severity::ALL.map(Severity::as_str);
    let text = match word.split_once(':') {
        Some(("verdict" | "reason" | "class" | "severity", _)) => word.to_owned(),
        None if Filter::parse(&format!("class:{word}")).is_ok() => format!("class:{word}"),
        None if Filter::parse(&format!("severity:{word}")).is_ok() => format!("severity>={word}"),
        _ => {
            let near =
                nearest(word, classes.into_iter().chain(severities)).map(|near| format!("; did you mean {near}?"));
            let known = format!("{} or {}", classes.join(", "), severities.join(", "));
            return Err(near.map_or_else(
                || format!("'{word}' is none of {known}"),
                |near| format!("'{word}' is no class and no severity{near}"),
            ));
        }
    };
    Filter::parse(&text).map_err(|error| error.to_string())
}

impl Gate {
    /// Whether this flow is what the verb must fail on.
    fn fails(&self, flow: &Flow, world: &World) -> bool {
        self.fail_on.iter().any(|f| f.accepts(flow, world.now))
    }

    /// Whether enough was seen.
    pub fn is_enough(&self, world: &World) -> bool {
        let stops = |flow: &Flow| if self.fail_on.is_empty() { is_problem(flow) } else { self.fails(flow, world) };
        self.until_problem && world.flows.iter().any(|flow| stops(flow))
    }

    /// What the last world means for the exit code.
    pub fn exit(&self, world: &World) -> Exit {
        let found = world.flows.iter().any(|flow| self.fails(flow, world));
        let coverage = &world.coverage;
        let tolerated = (1..=self.max_lost).contains(&coverage.lost_total());
        let covered = match self.min_coverage {
            None => true,
            Some(Nodes::Count(least)) => coverage.nodes_observed >= least,
            Some(Nodes::Share(least)) => {
                f64::from(coverage.nodes_observed) >= least * f64::from(coverage.nodes_total.max(1))
            }
        };
        let incomplete = world.incomplete.len() > usize::from(tolerated) || !covered;
        let complete = if incomplete { Exit::Incomplete } else { Exit::Done };
        if found { Exit::Findings } else { complete }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_class_or_a_severity() {
        let text = |word: &str| threshold(word).map(|f| f.tree().to_string());
        assert_eq!(text("bypass").as_deref(), Ok("class:bypass"));
        assert_eq!(text("unreg").as_deref(), Ok("class:unreg"));
        assert_eq!(text("high").as_deref(), Ok("severity>=high"));
        assert_eq!(text("reason:EXCLUDED_PORT").as_deref(), Ok("reason:EXCLUDED_PORT"));
        assert!(text("bypas").expect_err("a slip").contains("did you mean bypass?"));
        assert!(text("verdict:bypas").expect_err("a slip").contains("did you mean bypass?"));
        assert!(text("zzz").expect_err("nonsense").contains("crit"));
    }

    #[test]
    fn nodes_are_a_number_or_a_share() {
        assert_eq!(nodes("3"), Ok(Nodes::Count(3)));
        assert_eq!(nodes("50%"), Ok(Nodes::Share(0.5)));
        assert!(nodes("120%").is_err() && nodes("many").is_err());
    }
}
