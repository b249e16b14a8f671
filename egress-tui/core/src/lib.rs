//! Everything in egress-tui that decides.
//!
//! ```text
//!  observations ─┐                     ┌─▶ judge ─▶ Judgement (verdict, reason, chain)
//!  (input)       ├─▶ ledger ─ journeys ┤
//!  mesh objects ─┘                     └─▶ flows ─▶ World (what screens and reports render)
//!        └──▶ mesh::Mesh (compiled, immutable) ─▶ Expected
//! ```
//!
//! - [`input`]: everything that may change the world. Sources translate into it, once, at the border.
//! - [`mesh`]: the objects, compiled and indexed; answers what Istio's configuration says must happen ([`mesh::Expected`]).
//! - [`ledger`]: sockets stitched into journeys, with the evidence that joined them.
//! - [`verdict`]: the order of design §4.1; every verdict travels with the chain of steps that led to it.
//! - [`filter`]: the language that chooses flows, the same everywhere.
//! - [`query`]: filter, order and window of a list: the page that one screen needs.
//! - [`recording`]: observations and objects as bytes, and back: the same inputs give the same worlds.
//! - [`world`]: everything at one instant, cheap to clone, rendered by the TUI, the reports and `explain` alike.
//!
//! No I/O, no clock, no environment: time comes in as an argument, and `clippy.toml` beside this package forbids the rest.
#![forbid(unsafe_code)]

pub mod attribution;
pub mod filter;
pub mod id;
pub mod input;
pub mod ledger;
pub mod manifest;
pub mod mesh;
pub mod name;
pub mod query;
pub mod recording;
pub mod sniff;
pub mod verdict;
pub mod world;
pub mod yaml;
