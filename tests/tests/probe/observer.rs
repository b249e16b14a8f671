//! Capture in the test's own process, below one node's cgroup.

use std::time::{Duration, Instant};

use egress_core::input::{Input, Payload, SocketEvent};
use egress_tui::source::bpf::{self, Options, Running};
use tokio::sync::mpsc::{Receiver, channel};

use crate::node::Node;

/// What is not seen within this time is not seen.
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Observer {
    pub(crate) running: Option<Running>,
    inputs: Receiver<Vec<Input>>,
    /// Everything so far, in order.
    pub(crate) seen: Vec<Input>,
}

impl Observer {
    pub(crate) fn start(node: &Node) -> Self {
        Self::with(&Options { cgroup_root: Some(node.root.clone()), ..Options::default() }, 1024)
    }

    /// `batches` is the room of the channel.
    pub(crate) fn with(options: &Options, batches: usize) -> Self {
        let (out, inputs) = channel(batches);
        let running = bpf::start(options, out).expect("capture starts");
        for hook in &running.capture.hooks {
            assert_eq!(hook.why, None, "{}", hook.name);
        }
        Self { running: Some(running), inputs, seen: Vec::new() }
    }

    /// Looks through what was seen and goes on receiving until something fits.
    pub(crate) fn until<T>(&mut self, what: &str, mut find: impl FnMut(&Input) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        let mut next = 0;
        loop {
            while let Some(input) = self.seen.get(next) {
                if let Some(found) = find(input) {
                    return found;
                }
                next += 1;
            }
            // Ticks come every 20 ms, so this never waits for long.
            assert!(Instant::now() < end, "never seen: {what}; seen: {:#?}", self.events());
            match self.inputs.blocking_recv() {
                Some(batch) => self.seen.extend(batch),
                None => panic!("the source ended before {what}"),
            }
        }
    }

    /// The socket's event that fits.
    pub(crate) fn event<T>(&mut self, what: &str, cookie: u64, find: impl Fn(&SocketEvent) -> Option<T>) -> T {
        self.until(what, |input| match input {
            Input::Socket(event) if event.cookie().0 == cookie => find(event),
            _ => None,
        })
    }

    /// Stops capture; everything that happened before is then in `seen`.
    pub(crate) fn stop(&mut self) {
        let running = self.running.take().expect("stopped once");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut stop = std::pin::pin!(running.stop());
            loop {
                tokio::select! {
                    () = &mut stop => break,
                    Some(batch) = self.inputs.recv() => self.seen.extend(batch),
                }
            }
            while let Some(batch) = self.inputs.recv().await {
                self.seen.extend(batch);
            }
        });
    }

    /// Events of sockets.
    pub(crate) fn events(&self) -> Vec<&SocketEvent> {
        self.seen
            .iter()
            .filter_map(|input| match input {
                Input::Socket(event) => Some(event),
                _ => None,
            })
            .collect()
    }

    /// First bytes of a socket.
    pub(crate) fn payloads(&self, cookie: u64) -> Vec<&Payload> {
        self.seen
            .iter()
            .filter_map(|input| match input {
                Input::Payload(payload) if payload.cookie.0 == cookie => Some(payload),
                _ => None,
            })
            .collect()
    }

    /// The last total of each loss.
    pub(crate) fn lost(&self) -> u64 {
        let mut stages = std::collections::BTreeMap::new();
        for input in &self.seen {
            if let Input::Lost { stage, total } = input {
                stages.insert(stage.to_string(), *total);
            }
        }
        stages.values().sum()
    }
}
