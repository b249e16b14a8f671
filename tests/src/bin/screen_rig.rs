//! The dashboard over a scripted feed, for tests in a pseudo-terminal: `screen_rig [FEED]`.
//!
//! Feeds: `still`, `quiet` (nothing young), `busy`, `end`, `panic-thread`, `panic-loop`, a number of flows, or one of
//! `hostile`, `blind`, `starting`, `meshless`, `stale`.
//!
//! Exit codes as the program's: 0, 128 and the signal, 3 where the feed ended, 101 after a panic.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use egress_tests::worlds;
use egress_tui::cmd::desk::Desk;
use egress_tui::tui::{self, Options, Quit};
use tokio::sync::watch;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let feed = std::env::args().nth(1).unwrap_or_default();
    let world = match feed.parse() {
        Ok(count) => worlds::many(count),
        Err(_) if feed == "hostile" => worlds::hostile_world(),
        Err(_) if feed == "quiet" => worlds::quiet_world(),
        Err(_) if feed == "blind" => worlds::blind_world(),
        Err(_) if feed == "starting" => worlds::starting_world(),
        Err(_) if feed == "meshless" => worlds::meshless_world(),
        Err(_) if feed == "stale" => worlds::stale_world(),
        Err(_) => worlds::dwh_world(),
    };
    if let Err(why) = tui::term::check() {
        tui::term::last_words(&format!("no dashboard: {why}; use snapshot"));
        return ExitCode::from(2);
    }
    let (sender, receiver) = watch::channel(Arc::new(world));
    let source = tokio::spawn(publish(feed.clone(), sender));
    let result = tokio::select! {
        result = tui::run(receiver, Options::default(), Box::new(Desk)) => result,
        () = fail(&feed) => unreachable!("it panics"),
    };
    source.abort();
    match result {
        Ok(Quit::User) => ExitCode::SUCCESS,
        Ok(Quit::Signal(number)) => ExitCode::from(u8::try_from(128 + number).unwrap_or(u8::MAX)),
        Ok(Quit::SourceEnded) => {
            tui::term::last_words("error: the source ended");
            ExitCode::from(3)
        }
        Err(error) => {
            tui::term::last_words(&format!("error: {error:#}"));
            ExitCode::from(101)
        }
    }
}

/// Panics in the loop's own thread, if that is asked for.
async fn fail(feed: &str) {
    if feed != "panic-loop" {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    panic!("the loop of the test");
}

/// What the feed does: stand still, change ten times a second, panic in another thread, or end.
async fn publish(feed: String, sender: watch::Sender<Arc<egress_core::world::World>>) {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    for round in 1u64.. {
        tick.tick().await;
        match feed.as_str() {
            "busy" => sender.send_modify(|world| {
                let mut next = (**world).clone();
                next.generation += 1;
                next.now.0 += 100_000_000;
                next.flows = next.flows.iter().map(|f| Arc::new(jittered(f, round))).collect();
                *world = Arc::new(next);
            }),
            "panic-thread" if round == 5 => {
                let _ = std::thread::spawn(|| panic!("the thread of the test")).join();
            }
            "end" if round == 5 => return,
            _ => {}
        }
    }
}

fn jittered(flow: &egress_core::world::Flow, round: u64) -> egress_core::world::Flow {
    let mut flow = flow.clone();
    flow.sent_per_second = flow.sent_per_second * (90 + (round * 7 + flow.id.0) % 21) / 100;
    flow.connections += round % 2;
    flow
}
