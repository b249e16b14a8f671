//! The dashboard. Renders worlds, computes nothing about verdicts.
//!
//! ```text
//!  watch<Arc<World>> ──▶ run ──▶ view::frame(ui, world, look) ──▶ Buffer ──▶ term::Screen (one write per frame)
//!  keys ───────────────▶ run ──▶ update(ui, world, msg) ──▶ Effect
//! ```
//!
//! [`ui::Ui`] holds what the user did, [`key`] is the one table of keys, [`layout`] and [`column`] decide what fits,
//! [`look::Look`] how it looks, [`pen::Pen`] is the only way for text onto the screen.

pub mod column;
pub mod figure;
pub mod key;
pub mod layout;
pub mod look;
pub mod menu;
pub mod pen;
pub mod prompt;
mod run;
pub mod svg;
pub mod term;
pub mod tour;
pub mod ui;
pub mod update;
pub mod view;
pub mod widget;

pub use run::{Desk, Options, Quit, run, walk};
