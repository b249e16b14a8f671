//! Where observations and objects come from. Each source translates into [`egress_core::input::Input`], once.

pub mod clock;
