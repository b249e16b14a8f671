//! `demo`: the dashboard on a recording of the lab that is part of the program.

use super::observe::{self, Wanted};
use super::top;
use crate::cli::{Common, Tapes};
use crate::exit::Exit;
use crate::source::replay::Replay;
use crate::tui;

/// A minute of `cargo xtask lab --scenario dwh-static-tcp`. `--record FILE` of the same command makes it anew.
pub const DWH_STATIC_TCP: &[u8] = include_bytes!("../../demo/dwh-static-tcp.egr");

/// Runs the verb.
pub async fn run(common: &Common, tapes: &Tapes, screen: &tui::Options) -> anyhow::Result<Exit> {
    if let Some(refused) = top::no_terminal() {
        return Ok(refused);
    }
    let replay = Replay::inside("dwh-static-tcp", DWH_STATIC_TCP)?;
    let wanted = Wanted { screen: true, ..Wanted::default() };
    let observation = observe::play(replay, common, tapes, wanted).await?;
    top::show(observation, screen).await
}
