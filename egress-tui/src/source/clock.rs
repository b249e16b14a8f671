//! Time as an input, for when the kernel's source does not tick.

use std::time::Duration;

use egress_core::id::{Nanos, WallTime};
use egress_core::input::Input;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

/// Decisions that wait for a tick wait at most this long.
const EVERY: Duration = Duration::from_millis(20);

/// Both clocks, read together.
pub fn now() -> (Nanos, WallTime) {
    let mono = clock_gettime(ClockId::Monotonic);
    let wall = clock_gettime(ClockId::Realtime);
    let nanos = |t: rustix::time::Timespec| t.tv_sec * 1_000_000_000 + t.tv_nsec;
    (Nanos(nanos(mono).unsigned_abs()), WallTime(nanos(wall)))
}

/// A running clock.
pub struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Sends a tick now and every 20 ms.
pub fn start(out: mpsc::Sender<Vec<Input>>) -> Running {
    let (stop, mut stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = every.tick() => {}
                _ = &mut stopped => break,
            }
            let (now, wall) = now();
            if out.send(vec![Input::Tick { now, wall }]).await.is_err() {
                break;
            }
        }
    });
    Running { stop, task }
}

impl Running {
    /// Ends it.
    pub async fn stop(self) {
        // The task may have ended by itself, with the engine.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}
