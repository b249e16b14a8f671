//! Test support: the program as a user starts it, worlds to draw, screens without a terminal, terminals without a screen, random meshes.

pub mod ask;
pub mod cluster;
pub mod generate;
pub mod oracle;
pub mod program;
pub mod scale;
pub mod scenario;
pub mod screens;
pub mod terminal;
pub mod worlds;
