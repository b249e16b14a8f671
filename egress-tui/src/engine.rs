//! The owner task: eats inputs in order, publishes worlds. It holds no rule; the ledger decides.

use std::sync::Arc;
use std::time::Duration;

use egress_core::input::Input;
use egress_core::ledger::Ledger;
use egress_core::world::World;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// Screens get a new world at most this often (tui-ux §10).
const PUBLISH_EVERY: Duration = Duration::from_millis(250);

/// Batches that may wait between a source and the engine; beyond it the source counts what it has to drop.
pub const CHANNEL: usize = 1_024;

/// Whoever keeps what the ledger is told: a recording.
pub trait Tee {
    /// Before the ledger is told.
    fn note(&mut self, input: &Input);
    /// After a batch; what the ledger must know of how that went.
    fn settle(&mut self) -> Option<Input>;
}

/// Runs until every source is gone; returns the last world, in which nothing is pending. What the ledger is told goes to
/// the tee first.
pub async fn run<T: Tee>(
    mut ledger: Ledger,
    mut inputs: mpsc::Receiver<Vec<Input>>,
    worlds: watch::Sender<Arc<World>>,
    mut tee: Option<T>,
) -> (Arc<World>, Option<T>) {
    let mut publish = interval_at(Instant::now() + PUBLISH_EVERY, PUBLISH_EVERY);
    publish.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = publish.tick() => {
                if ledger.has_changed() {
                    worlds.send_replace(Arc::new(ledger.world()));
                }
            }
            batch = inputs.recv() => match batch {
                Some(batch) => {
                    for input in batch {
                        if let Some(tee) = &mut tee {
                            tee.note(&input);
                        }
                        ledger.apply(input);
                    }
                    if let Some(failed) = tee.as_mut().and_then(T::settle) {
                        ledger.apply(failed);
                    }
                }
                None => break,
            },
        }
    }
    ledger.finish();
    let last = Arc::new(ledger.world());
    worlds.send_replace(last.clone());
    (last, tee)
}
