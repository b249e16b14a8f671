//! Verdicts and why: the words ([`taxonomy`], [`reason`]), the steps of a chain ([`step`]), their sentences ([`says`]), and the decision ([`judge`]).

mod compare;
pub mod judge;
pub mod reason;
pub mod says;
pub mod step;
pub mod taxonomy;

pub use reason::Reason;
pub use says::Says;
pub use step::{Mark, Step};
pub use taxonomy::{Class, Severity, Verdict};

/// A verdict with everything that explains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The one verdict.
    pub verdict: Verdict,
    /// How bad it is, after policy.
    pub severity: Severity,
    /// The deciding reason first, contributing ones after it.
    pub reasons: Vec<Reason>,
    /// What led here, in the order of the decision.
    pub chain: Vec<Step>,
    /// One sentence that names the deciding object and field.
    pub why: String,
}

impl Judgement {
    /// The deciding reason.
    pub fn reason(&self) -> Reason {
        self.reasons.first().copied().unwrap_or(Reason::EvidenceMissing)
    }
}
