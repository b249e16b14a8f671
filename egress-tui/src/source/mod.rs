//! Where observations and objects come from. Each source translates into [`egress_core::input::Input`], once.

pub mod bpf;
pub mod cgroup;
pub mod clock;
pub mod files;
pub mod kube;
pub mod process;
pub mod replay;
pub mod sockets;
