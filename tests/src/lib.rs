//! Test support: worlds to draw, screens without a terminal, terminals without a screen.

pub mod screens;
pub mod worlds;
