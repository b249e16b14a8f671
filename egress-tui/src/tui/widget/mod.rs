//! Pieces of screens that know nothing of the domain.

pub mod spark;
