//! What a list shows: which flows, in which order, and the window of them that fits on a screen.
//!
//! A [`Listing`] is computed when the world or the question changes, a [`Page`] at every frame. Only the page makes
//! rows, and only as many as are visible: the cost of a frame does not grow with the number of flows.

use std::cmp::Reverse;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::filter::Filter;
use crate::id::{FlowId, Nanos, WallTime};
use crate::verdict::{Class, Severity};
use crate::world::{Flow, World};

/// Flows first seen within this many seconds count as new in the summary of classes.
pub const NEW_SECONDS: u64 = 300;

/// What deserves a look: severity medium or worse, and everything that could not be judged (`is:problem`).
pub fn is_problem(flow: &Flow) -> bool {
    flow.judgement.severity >= Severity::Med || flow.class() == Class::Unknown
}

/// What rows are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SortBy {
    /// Problems first; then worst severity, class, bytes per second, bytes.
    #[default]
    Verdict,
    /// Bytes per second, both directions.
    Rate,
    /// Bytes per second sent.
    Sent,
    /// Bytes per second received.
    Received,
    /// First seen, newest first.
    Age,
    /// Namespace and name of the workload.
    Workload,
    /// Name or address of the destination.
    Host,
    /// Port of the destination.
    Port,
    /// Connections so far.
    Connections,
}

impl SortBy {
    /// In the order of the sort menu.
    pub const ALL: [Self; 9] = [
        Self::Verdict,
        Self::Rate,
        Self::Sent,
        Self::Received,
        Self::Age,
        Self::Workload,
        Self::Host,
        Self::Port,
        Self::Connections,
    ];

    /// The spelling in menus and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verdict => "verdict",
            Self::Rate => "rate",
            Self::Sent => "tx",
            Self::Received => "rx",
            Self::Age => "age",
            Self::Workload => "workload",
            Self::Host => "host",
            Self::Port => "port",
            Self::Connections => "connections",
        }
    }
}

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Sort {
    /// By what.
    pub by: SortBy,
    /// The other way round.
    pub reversed: bool,
}

/// What a list was asked for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Only flows that it accepts.
    pub filter: Option<Filter>,
    /// Only problems ([`is_problem`]).
    pub problems_only: bool,
    /// In which order.
    pub sort: Sort,
}

impl Query {
    /// Whether the flow belongs on the list at this instant.
    pub fn accepts(&self, flow: &Flow, now: WallTime) -> bool {
        (!self.problems_only || is_problem(flow)) && self.filter.as_ref().is_none_or(|f| f.accepts(flow, now))
    }
}

/// One class of the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassTotal {
    /// Flows.
    pub flows: u64,
    /// Bytes per second, both directions.
    pub rate: u64,
    /// Flows first seen within [`NEW_SECONDS`].
    pub new: u64,
}

/// Sums over all flows, whatever the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// By class, in the order of [`Class::ALL`].
    pub classes: [ClassTotal; Class::ALL.len()],
    /// All flows.
    pub flows: usize,
    /// Of these, problems.
    pub problems: usize,
}

impl Totals {
    /// The sums of this world.
    pub fn of(world: &World) -> Self {
        let mut totals = Self { flows: world.flows.len(), ..Self::default() };
        let fresh = world.now.0 - (NEW_SECONDS * Nanos::SECOND).cast_signed();
        for flow in &world.flows {
            let class = &mut totals.classes[flow.class() as usize];
            class.flows += 1;
            class.rate += flow.sent_per_second + flow.received_per_second;
            class.new += u64::from(flow.first_seen.0 > fresh);
            totals.problems += usize::from(is_problem(flow));
        }
        totals
    }

    /// The sums of one class.
    pub fn class(&self, class: Class) -> ClassTotal {
        self.classes[class as usize]
    }
}

/// Which flows, in which order. Refers to flows by identity, so that it can outlive the world that it was made from.
#[derive(Debug, Default)]
pub struct Listing {
    ids: Vec<FlowId>,
    /// Index into `World::flows`, or [`GONE`].
    places: Vec<u32>,
    gone: Option<Arc<Flow>>,
}

/// Stands for the flow that is shown although the world no longer has it.
const GONE: u32 = u32::MAX;

impl Listing {
    /// Filters and sorts anew.
    pub fn new(world: &World, query: &Query) -> Self {
        let mut places: Vec<u32> = (0..world.flows.len() as u32).collect();
        places.retain(|&i| query.accepts(&world.flows[i as usize], world.now));
        let flow = |i: u32| &*world.flows[i as usize];
        let id = |i: u32| flow(i).id;
        let rate = |f: &Flow| f.sent_per_second + f.received_per_second;
        match query.sort.by {
            SortBy::Verdict => places.sort_by_cached_key(|&i| {
                let f = flow(i);
                let bytes = f.bytes_sent + f.bytes_received;
                (!is_problem(f), Reverse(f.judgement.severity), f.class(), Reverse(rate(f)), Reverse(bytes), f.id)
            }),
            SortBy::Rate => places.sort_by_cached_key(|&i| (Reverse(rate(flow(i))), id(i))),
            SortBy::Sent => places.sort_by_cached_key(|&i| (Reverse(flow(i).sent_per_second), id(i))),
            SortBy::Received => places.sort_by_cached_key(|&i| (Reverse(flow(i).received_per_second), id(i))),
            SortBy::Age => places.sort_by_cached_key(|&i| (Reverse(flow(i).first_seen), id(i))),
            SortBy::Workload => places.sort_by_cached_key(|&i| (flow(i).source.label(), id(i))),
            SortBy::Host => places.sort_by_cached_key(|&i| (flow(i).destination.label(), id(i))),
            SortBy::Port => places.sort_by_cached_key(|&i| (flow(i).destination.port, id(i))),
            SortBy::Connections => places.sort_by_cached_key(|&i| (Reverse(flow(i).connections), id(i))),
        }
        if query.sort.reversed {
            places.reverse();
        }
        Self { ids: places.iter().map(|&i| id(i)).collect(), places, gone: None }
    }

    /// Keeps the order, finds the flows again in a newer world; the ones that are gone drop out, new ones are left out.
    pub fn follow(&mut self, world: &World) {
        let index: FxHashMap<FlowId, u32> = world.flows.iter().zip(0..).map(|(f, i)| (f.id, i)).collect();
        self.gone = None;
        self.places = self.ids.iter().map(|id| index.get(id).copied().unwrap_or(GONE)).collect();
        let mut places = self.places.iter();
        self.ids.retain(|_| places.next().is_some_and(|&p| p != GONE));
        self.places.retain(|&p| p != GONE);
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// No row at all.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The row of this flow.
    pub fn position(&self, id: FlowId) -> Option<usize> {
        self.ids.iter().position(|&other| other == id)
    }

    /// The flow at this row of `world`, which must be the one that the listing was made from or follows.
    pub fn flow<'a>(&'a self, world: &'a World, row: usize) -> Option<&'a Arc<Flow>> {
        match self.places.get(row) {
            Some(&GONE) => self.gone.as_ref(),
            Some(&place) => world.flows.get(place as usize),
            None => None,
        }
    }

    /// Keeps showing a flow that the world no longer has, at the row where it was.
    pub fn keep(&mut self, row: usize, flow: Arc<Flow>) {
        let row = row.min(self.ids.len());
        self.ids.insert(row, flow.id);
        self.places.insert(row, GONE);
        self.gone = Some(flow);
    }

    /// The nearest problem from `row`, forwards or backwards; the second value tells that the end was passed.
    pub fn next_problem(&self, world: &World, row: usize, forwards: bool) -> Option<(usize, bool)> {
        let len = self.len();
        (1..=len).find_map(|step| {
            let at = if forwards { (row + step) % len } else { (row + len - step) % len };
            let wrapped = if forwards { at <= row } else { at >= row };
            self.flow(world, at).filter(|f| is_problem(f)).map(|_| (at, wrapped))
        })
    }
}

/// One row of a page.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its flow.
    pub flow: Arc<Flow>,
    /// The world no longer has it; it is shown because it is selected.
    pub gone: bool,
}

/// What one screen needs.
#[derive(Debug, Clone)]
pub struct Page {
    /// The instant that is shown.
    pub world: Arc<World>,
    /// Sums over all flows.
    pub totals: Totals,
    /// Rows of the whole list.
    pub listed: usize,
    /// Row of the list that is the page's first.
    pub first: usize,
    /// The rows that are visible.
    pub rows: Vec<Row>,
    /// The selected row of the list.
    pub selected: Option<usize>,
    /// The selected flow.
    pub current: Option<Arc<Flow>>,
}

impl Page {
    /// Cuts `height` rows from `first` on; `selected` is a row of the list.
    pub fn cut(
        world: &Arc<World>,
        listing: &Listing,
        totals: Totals,
        first: usize,
        height: usize,
        selected: Option<usize>,
    ) -> Self {
        let end = (first + height).min(listing.len());
        let rows = (first..end)
            .filter_map(|row| {
                let flow = listing.flow(world, row)?;
                Some(Row { flow: Arc::clone(flow), gone: listing.places[row] == GONE })
            })
            .collect();
        let current = selected.and_then(|row| listing.flow(world, row)).map(Arc::clone);
        Self { world: Arc::clone(world), totals, listed: listing.len(), first, rows, selected, current }
    }
}
