//! Which columns fit. A function of the width only, never of the rows: nothing jumps when a name gets longer.

use egress_core::query::SortBy;

/// A column of the flows table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Column {
    /// The class, in two cells.
    Mark,
    /// The verdict's word.
    Verdict,
    /// Who.
    Workload,
    /// Where to.
    Host,
    /// How the name is known.
    Name,
    /// The port.
    Port,
    /// What is spoken.
    L7,
    /// The observed next hop.
    Via,
    /// Bytes per second, both directions.
    Rate,
    /// Bytes per second sent.
    Sent,
    /// Bytes per second received.
    Received,
    /// Since the first connection.
    Age,
    /// Connections so far.
    Connections,
    /// The process of the first connection.
    Process,
}

/// On which side of its cells a column's text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

impl Column {
    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Self::Mark => "",
            Self::Verdict => "VERDICT",
            Self::Workload => "WORKLOAD",
            Self::Host => "HOST",
            Self::Name => "NAME",
            Self::Port => "PORT",
            Self::L7 => "L7",
            Self::Via => "VIA",
            Self::Rate => "RATE",
            Self::Sent => "TX/s",
            Self::Received => "RX/s",
            Self::Age => "AGE",
            Self::Connections => "N",
            Self::Process => "PROCESS",
        }
    }

    /// The order that it shows.
    pub fn sort(self) -> Option<SortBy> {
        Some(match self {
            Self::Verdict => SortBy::Verdict,
            Self::Workload => SortBy::Workload,
            Self::Host => SortBy::Host,
            Self::Port => SortBy::Port,
            Self::Rate => SortBy::Rate,
            Self::Sent => SortBy::Sent,
            Self::Received => SortBy::Received,
            Self::Age => SortBy::Age,
            Self::Connections => SortBy::Connections,
            Self::Mark | Self::Name | Self::L7 | Self::Via | Self::Process => return None,
        })
    }

    /// Where its text is.
    pub fn side(self) -> Side {
        match self {
            Self::Port | Self::Rate | Self::Sent | Self::Received | Self::Age | Self::Connections => Side::Right,
            _ => Side::Left,
        }
    }
}

/// Cells before the first column: the cursor and a space.
pub const MARGIN: u16 = 2;
/// Cells behind the last column: a space and the scroll bar.
const SCROLL: u16 = 2;

/// Columns and their widths, in the order of the screen; one space goes between two.
pub fn plan(width: u16) -> Vec<(Column, u16)> {
    let fixed = |column, cells, from| (width >= from).then_some((column, cells));
    let both = width >= 112;
    let via = match width {
        0..140 => 10,
        140..170 => 16,
        _ => 24,
    };
    let before = [fixed(Column::Mark, 2, 0), fixed(Column::Verdict, 8, 44)];
    let after = [
        fixed(Column::Name, 4, 92),
        fixed(Column::Port, 5, 68),
        fixed(Column::L7, 4, 118),
        fixed(Column::Via, via, 104),
        fixed(Column::Rate, 5, 76).filter(|_| !both),
        fixed(Column::Sent, 5, 112),
        fixed(Column::Received, 5, 112),
        fixed(Column::Age, 4, 80),
        fixed(Column::Connections, 4, 118),
        fixed(Column::Process, 20, 150),
    ];
    let taken = |columns: &[Option<(Column, u16)>]| columns.iter().flatten().map(|(_, cells)| cells + 1).sum::<u16>();
    let left = width.saturating_sub(MARGIN + SCROLL + taken(&before) + taken(&after));
    let mut columns: Vec<_> = before.into_iter().flatten().collect();
    if width >= 60 {
        // A host of usual length has its cells by then, a long pod name has not.
        let workload = if width >= 150 { (left - 1) / 2 } else { ((left - 1) * 2 / 5).max(14) };
        columns.push((Column::Workload, workload));
        columns.push((Column::Host, left.saturating_sub(workload + 1)));
    } else {
        columns.push((Column::Host, left));
    }
    columns.extend(after.into_iter().flatten());
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(width: u16) -> u16 {
        let columns = plan(width);
        MARGIN + columns.iter().map(|(_, cells)| cells + 1).sum::<u16>() - 1 + SCROLL
    }

    #[test]
    fn every_width_is_used_up_exactly() {
        for width in 40..=300 {
            assert_eq!(total(width), width, "{:?}", plan(width));
        }
    }

    #[test]
    fn the_host_keeps_its_twenty_cells() {
        for width in 40..=300 {
            let host = plan(width).into_iter().find(|(c, _)| *c == Column::Host).map(|(_, cells)| cells);
            assert!(host >= Some(20), "{width}: {host:?}");
        }
    }

    #[test]
    fn a_wider_screen_never_loses_a_column_but_rate_for_its_two_halves() {
        for width in 40..300 {
            let (narrow, wide) = (plan(width), plan(width + 1));
            for (column, _) in narrow {
                assert!(column == Column::Rate || wide.iter().any(|(c, _)| *c == column), "{column:?} at {width}");
            }
        }
    }
}
