//! Menus: a title and a few rows to choose from.

use egress_core::query::SortBy;
use egress_core::verdict::Mark;
use egress_core::world::Flow;

use super::view::explain;

/// A menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Menu {
    /// In which order.
    Sort,
    /// What of the selected row goes to the clipboard.
    Copy,
    /// In which form the list goes into a file.
    Export,
}

impl Menu {
    /// What stands above it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Sort => "sort by",
            Self::Copy => "copy",
            Self::Export => "export the list",
        }
    }

    /// Its rows.
    pub fn rows(self) -> Vec<&'static str> {
        match self {
            Self::Sort => SortBy::ALL.iter().map(|by| by.as_str()).collect(),
            Self::Copy => Copied::ALL.iter().map(|what| what.as_str()).collect(),
            Self::Export => Form::ALL.iter().map(|form| form.as_str()).collect(),
        }
    }
}

/// What can be copied of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Copied {
    /// Name or address of the destination.
    Host,
    /// Namespace and name of the workload.
    Workload,
    /// What the table shows.
    Row,
    /// The sentence under the table.
    Why,
    /// Every step.
    Chain,
    /// As `snapshot` prints it.
    Json,
}

impl Copied {
    /// In the order of the menu.
    pub const ALL: [Self; 6] = [Self::Host, Self::Workload, Self::Row, Self::Why, Self::Chain, Self::Json];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Workload => "workload",
            Self::Row => "row",
            Self::Why => "why",
            Self::Chain => "chain",
            Self::Json => "json",
        }
    }

    /// The text, but for [`Copied::Json`].
    pub fn text(self, flow: &Flow) -> String {
        match self {
            Self::Host => flow.destination.label(),
            Self::Workload => flow.source.label(),
            Self::Row | Self::Json => format!(
                "{} {} -> {} {} {} via {}",
                flow.verdict().word(),
                flow.source.label(),
                flow.destination.label(),
                flow.destination.port,
                flow.spoken(),
                flow.via()
            ),
            Self::Why => flow.judgement.why.clone(),
            Self::Chain => chain(flow),
        }
    }
}

/// One line a step: mark, what was asked, object and field, what it says.
fn chain(flow: &Flow) -> String {
    let mut lines = vec![Copied::Row.text(flow)];
    for item in explain::items(flow) {
        let mark = match item.mark {
            Mark::Ok => "ok",
            Mark::No => "no",
            Mark::Miss => "~ ",
            Mark::Decides => flow.class().mark(),
            Mark::Unknown => "..",
        };
        let object = item.object.map_or_else(String::new, |object| format!(" [{object}"));
        let field = match (item.object, item.field) {
            (Some(_), Some(field)) => format!(" {field}]"),
            (Some(_), None) => "]".to_owned(),
            _ => String::new(),
        };
        lines.push(format!("  {mark} {}: {}{object}{field}", item.claim, item.says));
    }
    lines.join("\n")
}

/// Forms of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// One document.
    Json,
    /// One flow a line.
    Jsonl,
    /// The same columns, flattened.
    Csv,
}

impl Form {
    /// In the order of the menu.
    pub const ALL: [Self; 3] = [Self::Csv, Self::Jsonl, Self::Json];

    /// Its name, and the file's suffix.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
        }
    }
}
