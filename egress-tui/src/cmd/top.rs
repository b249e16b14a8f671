//! `top`: the dashboard.

use super::desk::Desk;
use super::observe::{self, Observation, Wanted};
use crate::cli::{Common, Tapes};
use crate::exit::Exit;
use crate::tui;

/// Runs the verb.
pub async fn run(common: &Common, tapes: &Tapes, screen: &tui::Options) -> anyhow::Result<Exit> {
    if let Some(refused) = no_terminal() {
        return Ok(refused);
    }
    let observation = observe::start(common, tapes, Wanted { screen: true, ..Wanted::default() }).await?;
    show(observation, screen).await
}

/// Says what to do instead where there is no terminal to draw on.
pub(super) fn no_terminal() -> Option<Exit> {
    let why = tui::term::check().err()?;
    super::complain(&format!("{why}; `egress-tui snapshot -o json` prints what was seen"));
    Some(Exit::Usage)
}

/// Shows an observation until the user leaves.
async fn show(observation: Observation, screen: &tui::Options) -> anyhow::Result<Exit> {
    let shown = tui::run(observation.worlds.clone(), screen.clone(), Box::new(Desk)).await;
    // What was incomplete stood on the screen; it is no failure of a session that a person ended.
    let exit = observation.stop().await?.sources;
    Ok(ended(shown?, exit))
}

/// The exit code of a dashboard.
pub(super) fn ended(quit: tui::Quit, exit: Exit) -> Exit {
    match quit {
        tui::Quit::User | tui::Quit::SourceEnded => exit,
        tui::Quit::Signal(number) => Exit::Signal(u8::try_from(number).unwrap_or(u8::MAX)),
    }
}
