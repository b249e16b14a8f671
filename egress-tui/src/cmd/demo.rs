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

/// Most of a minute of `cargo xtask lab --scenario NAME`, for each of the published set-ups. `--record FILE` of the same
/// command makes them anew.
pub const SCENES: &[(&str, &[u8])] = &[
    ("dwh-static-tcp", DWH_STATIC_TCP),
    ("redis-registry-only", include_bytes!("../../demo/redis-registry-only.egr")),
    ("smm-mesh-gateway", include_bytes!("../../demo/smm-mesh-gateway.egr")),
    ("osm-egress", include_bytes!("../../demo/osm-egress.egr")),
    ("tls-origination", include_bytes!("../../demo/tls-origination.egr")),
];

/// The first of them.
pub const DWH_STATIC_TCP: &[u8] = include_bytes!("../../demo/dwh-static-tcp.egr");

/// What there is to see.
pub const STOPS: &[tour::Stop] = &[
    tour::Stop {
        scene: 0,
        title: "a gateway node",
        text: "One row for each kind of connection, worst first. Rows marked ok went through the egress gateway; those above \
               them should have, or nobody registered where they went. The line below the list names what decided.",
        points_at: "workload:cloud-platform/web port:1433",
        explained: false,
    },
    tour::Stop {
        scene: 0,
        title: "why",
        text: "Enter explains a row: each step with its object and field, that object's text, and what one change would do. \
               This pod lacks the label that the rule to the gateway asks for.",
        points_at: "workload:cloud-platform/web port:1433",
        explained: true,
    },
    tour::Stop {
        scene: 1,
        title: "a gateway that nothing leads to",
        text: "This Redis is registered, so REGISTRY_ONLY lets it out. It has a Gateway too, but no VirtualService leads \
               there: the connection goes straight out, and telnet looks the same either way.",
        points_at: "workload:default/busybox port:6379",
        explained: true,
    },
    tour::Stop {
        scene: 2,
        title: "a route without an entry",
        text: "The rule leads to the gateway, but nobody registered httpbin.org, so the gateway has no cluster for it. Esc \
               shows the list: the same set-up completed, and six ways around it.",
        points_at: "workload:smm-demo/notifications-v1 port:80",
        explained: true,
    },
    tour::Stop {
        scene: 3,
        title: "the redirect that curl follows",
        text: "The published check is curl -L, which goes on to https. The entry has port 80 only, so the second request \
               leaves past the gateway, although all looks well.",
        points_at: "workload:curl/curl-redirected port:443",
        explained: true,
    },
    tour::Stop {
        scene: 4,
        title: "a proxy that is behind",
        text: "What is expected comes from the objects, what happened from sockets. This proxy went to another gateway than \
               they say: it still runs older configuration.",
        points_at: "workload:geo/places-stale port:80",
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
