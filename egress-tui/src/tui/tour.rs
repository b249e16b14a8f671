//! A tour: scenes that are shown one after the other, and what to see in each.

use std::sync::Arc;

use egress_core::filter::Filter;
use egress_core::world::{Flow, World};
use tokio::sync::watch;

/// One stop of a tour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// What is played, as the stage counts.
    pub scene: usize,
    /// A few words.
    pub title: &'static str,
    /// What to see, in two or three sentences.
    pub text: &'static str,
    /// The flow that is meant, as a filter.
    pub points_at: &'static str,
    /// Its explanation is opened.
    pub explained: bool,
}

/// Who plays scenes.
pub trait Stage {
    /// Begins a scene from its start; what was played before ends.
    fn enter(&mut self, scene: usize) -> watch::Receiver<Arc<World>>;
}

/// Where a tour stands.
#[derive(Debug, Clone)]
pub struct Tour {
    stops: &'static [Stop],
    at: usize,
    over: bool,
    /// The flow that this stop points at was not on the screen yet.
    looking: Option<Filter>,
}

impl Tour {
    /// At its first stop; `None` for a tour without any.
    pub fn new(stops: &'static [Stop]) -> Option<Self> {
        let mut tour = Self { stops, at: 0, over: false, looking: None };
        tour.look(stops.first()?);
        Some(tour)
    }

    /// The stop that is shown.
    pub fn stop(&self) -> Option<&'static Stop> {
        self.stops.get(self.at).filter(|_| !self.over)
    }

    /// What is played.
    pub fn scene(&self) -> usize {
        self.stops.get(self.at).map_or(0, |stop| stop.scene)
    }

    /// Its number from 1 on, and how many there are.
    pub fn place(&self) -> (usize, usize) {
        (self.at + 1, self.stops.len())
    }

    /// To the next stop or the previous one. Behind the last one the tour is over.
    pub fn go(&mut self, forward: bool) -> Option<&'static Stop> {
        match (forward, self.over) {
            (true, false) if self.at + 1 < self.stops.len() => self.at += 1,
            (true, false) => self.over = true,
            (false, true) => self.over = false,
            (false, false) => self.at = self.at.saturating_sub(1),
            (true, true) => {}
        }
        let stop = self.stop()?;
        self.look(stop);
        Some(stop)
    }

    fn look(&mut self, stop: &Stop) {
        self.looking = Filter::parse(stop.points_at).ok();
    }

    /// The flow that the stop points at, as soon as it is there.
    pub fn found(&self, world: &World) -> Option<Arc<Flow>> {
        let filter = self.looking.as_ref()?;
        world.flows.iter().find(|flow| filter.accepts(flow, world.now)).map(Arc::clone)
    }

    /// It was found, or the user chose something else to look at.
    pub fn let_go(&mut self) {
        self.looking = None;
    }
}
