//! Sockets
mod community;
mod names;
