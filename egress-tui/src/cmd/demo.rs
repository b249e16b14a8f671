//! `demo`: a tour through recordings of the lab that are part of the program.

use std::sync::Arc;

use egress_core::ledger::{Ledger, Options};
use egress_core::world::World;
use tokio::sync::{mpsc, watch};

use super::desk::Desk;
use super::observe::{self, Wanted};
use super::top;
use crate::cli::{Common, Tapes};
use crate::exit::Exit;
use crate::source::replay::Replay;
use crate::tui::{self, tour};

/// A minute of `cargo xtask lab --scenario dwh-static-tcp`. `--record FILE` of the same command makes it anew.
pub const DWH_STATIC_TCP: &[u8] = include_bytes!("../../demo/dwh-static-tcp.egr");

/// Recordings of the lab, by scenario.
pub const SCENES: &[(&str, &[u8])] = &[("dwh-static-tcp", DWH_STATIC_TCP)];

/// What there is to see.
pub const STOPS: &[tour::Stop] = &[
    tour::Stop {
        scene: 0,
        title: "a gateway node",
        text: "One row for each kind of connection, worst first. The rows marked ok went through the egress gateway; the rows \
               above them should have, or nobody registered where they went. The line below the list says why.",
        points_at: "workload:cloud-platform/web port:1433",
        explained: false,
    },
    tour::Stop {
        scene: 0,
        title: "why",
        text: "Enter explains a row: each step with the object and field that decided it, that object's text, and what one change \
               would do. This pod lacks the label that the rule to the gateway asks for.",
        points_at: "workload:cloud-platform/web port:1433",
        explained: true,
    },
];

/// Runs the verb.
pub async fn run(common: &Common, tapes: &Tapes, screen: &tui::Options) -> anyhow::Result<Exit> {
    if let Some(refused) = top::no_terminal() {
        return Ok(refused);
    }
    let (failed, mut failures) = mpsc::unbounded_channel();
    let stage = Stage { common: common.clone(), tapes: tapes.clone(), failed };
    let shown = tui::walk(STOPS, Box::new(stage), screen.clone(), Box::new(Desk)).await;
    match failures.try_recv() {
        Ok(error) => Err(error),
        Err(_) => Ok(top::ended(shown?, Exit::Done)),
    }
}

struct Stage {
    common: Common,
    tapes: Tapes,
    failed: mpsc::UnboundedSender<anyhow::Error>,
}

impl tour::Stage for Stage {
    fn enter(&mut self, scene: usize) -> watch::Receiver<Arc<World>> {
        let nothing = Ledger::new(Options { replayed: true, ..Options::default() }).world();
        let (worlds, shown) = watch::channel(Arc::new(nothing));
        let (common, tapes, failed) = (self.common.clone(), self.tapes.clone(), self.failed.clone());
        tokio::spawn(async move {
            if let Err(error) = play(scene, &common, &tapes, worlds).await {
                // Only a dashboard that is gone already does not want to know.
                let _ = failed.send(error);
            }
        });
        shown
    }
}

/// Plays a scene until nobody looks any more.
async fn play(scene: usize, common: &Common, tapes: &Tapes, worlds: watch::Sender<Arc<World>>) -> anyhow::Result<()> {
    let (name, bytes) = SCENES[scene];
    let replay = Replay::inside(name, bytes)?;
    let mut observation = observe::play(replay, common, tapes, Wanted { screen: true, ..Wanted::default() }).await?;
    loop {
        tokio::select! {
            () = worlds.closed() => break,
            changed = observation.worlds.changed() => {
                if changed.is_err() {
                    break;
                }
                worlds.send_replace(Arc::clone(&observation.worlds.borrow_and_update()));
            }
        }
    }
    observation.stop().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use egress_core::filter::Filter;

    use super::*;

    #[test]
    fn every_stop_plays_a_scene_and_points_at_something() {
        for stop in STOPS {
            assert!(SCENES.get(stop.scene).is_some(), "{}", stop.title);
            assert!(Filter::parse(stop.points_at).is_ok(), "{}", stop.title);
        }
    }
}
