//! Exit codes (design §7): the only place that knows the numbers. They never depend on the output format.

use std::process::ExitCode;

/// How the program ended. Where several apply, the order is: usage, capture, cluster, findings, incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Findings at or above the threshold.
    Findings,
    /// Wrong usage, configuration or filter.
    Usage,
    /// Cannot capture.
    Capture,
    /// Cannot read the cluster or the files.
    Cluster,
    /// Answered, but incomplete: `incomplete[]` says why.
    Incomplete,
    /// Ended by this signal.
    Signal(u8),
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Findings => 1,
            Self::Usage => 2,
            Self::Capture => 3,
            Self::Cluster => 4,
            Self::Incomplete => 5,
            Self::Signal(number) => 128 + number,
        }
    }

    /// The one that counts of two. A signal counts before all.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let rank = |exit: Self| match exit {
            Self::Signal(_) => 0,
            Self::Usage => 1,
            Self::Capture => 2,
            Self::Cluster => 3,
            Self::Findings => 4,
            Self::Incomplete => 5,
            Self::Done => 6,
        };
        if rank(other) < rank(self) { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn several_apply_in_the_documented_order() {
        let worst_last = [Exit::Done, Exit::Incomplete, Exit::Findings, Exit::Cluster, Exit::Capture, Exit::Usage];
        for pair in worst_last.windows(2) {
            assert_eq!(pair[0].or(pair[1]), pair[1]);
            assert_eq!(pair[1].or(pair[0]), pair[1]);
        }
        assert_eq!(Exit::Signal(15).code(), 143);
    }
}
