//! One verb per file: wiring between sources, core and outputs.

pub mod explain;
