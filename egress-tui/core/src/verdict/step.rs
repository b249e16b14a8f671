//! The steps of a chain. Each names what was asked, what came out, and the object and field that decided it.

use arcstr::ArcStr;

use crate::id::ObjectRef;
use crate::verdict::Says;

/// How a step came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mark {
    /// It holds.
    Ok,
    /// It does not hold.
    No,
    /// It would have matched but for one thing.
    Miss,
    /// The step that decides the verdict.
    Decides,
    /// Not known.
    Unknown,
}

impl Mark {
    /// The spelling in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::No => "no",
            Self::Miss => "miss",
            Self::Decides => "decides",
            Self::Unknown => "unknown",
        }
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was asked: `flow`, `name`, `captured`, `listener`, `registered`, `route`, `gateway`, `leg2`, `policy`, `seen`, …
    pub claim: &'static str,
    /// How it came out.
    pub mark: Mark,
    /// The object that decided it.
    pub object: Option<ObjectRef>,
    /// The field of that object: `.spec.tcp[0].match[0].sourceLabels`.
    pub field: Option<ArcStr>,
    /// A sentence for people. Never holds raw bytes from outside.
    pub says: Says,
}

impl Step {
    /// A step without an object.
    pub fn new(claim: &'static str, mark: Mark, says: impl Into<Says>) -> Self {
        Self { claim, mark, object: None, field: None, says: says.into() }
    }

    /// The same step, decided by `object` at `field`.
    #[must_use]
    pub fn by(mut self, object: ObjectRef, field: impl Into<ArcStr>) -> Self {
        self.object = Some(object);
        self.field = Some(field.into());
        self
    }
}
