//! `egress-tui`.

use std::process::ExitCode;

fn main() -> ExitCode {
    egress_tui::run().into()
}
