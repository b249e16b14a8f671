//! The edges of egress-tui: sources, engine, outputs, screens. What decides is in [`egress_core`].
//!
//! ```text
//! source ─▶ engine ─▶ World ─▶ { tui, out, cmd }
//! ```

pub mod cli;
pub mod cmd;
pub mod engine;
pub mod exit;
pub mod out;
pub mod source;
pub mod tui;
