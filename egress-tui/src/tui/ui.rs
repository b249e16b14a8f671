//! What the user did to the screen: selection, order, open panes. Nothing of the world is in here but what is pinned:
//! the frozen instant, and the flow that is selected.

use std::sync::Arc;
use std::time::Duration;

use egress_core::id::{FlowId, ObjectRef, WallTime};
use egress_core::mesh::whatif::WhatIf;
use egress_core::query::{Listing, Page, Query, SortBy, Totals};
use egress_core::world::{Flow, World};
use ratatui::layout::Rect;

use super::key::Place;
use super::layout;
use super::look::Look;
use super::menu::Menu;
use super::prompt::Prompt;
use super::tour::Tour;
use super::view::explain;
use super::view::object::Text;

/// Rows change their places at most this often while nobody touches the list.
const REORDER_EVERY: Duration = Duration::from_secs(1);
/// A selected flow that the world no longer has stays on screen for this long.
const GONE_STAYS: Duration = Duration::from_secs(10);

/// The pane that explains one flow.
#[derive(Debug, Clone)]
pub struct Detail {
    /// The flow as it was seen last; it may have left the world since.
    pub flow: Arc<Flow>,
    /// The selected step.
    pub item: usize,
    /// First visible line of the ladder.
    pub top: usize,
    /// Keep the selected step on screen; off while the user scrolls.
    pub follow: bool,
    /// The object as YAML, over everything else.
    pub yaml: Option<Yaml>,
    /// The text of the object behind the selected step.
    pub text: Option<Text>,
    /// What one change would do, found for this generation of the mesh.
    pub what_if: Option<(u64, Vec<WhatIf>)>,
}

impl Detail {
    /// Opens at the step that decides.
    pub fn new(flow: Arc<Flow>) -> Self {
        let item = explain::deciding(&flow);
        Self { flow, item, top: 0, follow: true, yaml: None, text: None, what_if: None }
    }
}

/// An object as YAML.
#[derive(Debug, Clone)]
pub struct Yaml {
    /// The object.
    pub object: ObjectRef,
    /// The field to show.
    pub field: Option<arcstr::ArcStr>,
    /// First visible line, or [`Yaml::AT_FIELD`].
    pub top: usize,
}

impl Yaml {
    /// As `top`: the next frame shows the field.
    pub const AT_FIELD: usize = usize::MAX;
}

/// What lies over the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overlay {
    /// Help.
    Help {
        /// First visible line.
        top: usize,
        /// What is searched for.
        search: String,
        /// Keys go into the search.
        typing: bool,
    },
    /// A menu, and its selected row.
    Menu(Menu, usize),
}

/// A short message in the last line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toast {
    /// What it says.
    pub text: String,
    /// When it goes.
    pub until: Duration,
}

/// The state of the interface.
#[derive(Debug, Default)]
pub struct Ui {
    /// What the list shows, and in which order.
    pub query: Query,
    /// The open explain pane.
    pub detail: Option<Detail>,
    /// Saved filters: names and texts.
    pub saved: Arc<[(String, String)]>,
    /// The filter is being typed.
    pub prompt: Option<Prompt>,
    /// What lies over the screen.
    pub overlay: Option<Overlay>,
    /// A short message.
    pub toast: Option<Toast>,
    /// The frozen instant.
    pub frozen: Option<Arc<World>>,
    /// The tour that the demo is.
    pub tour: Option<Tour>,
    /// Notices about what is missing are put away: this many there were.
    pub dismissed: usize,
    /// Time since the start; moves only from outside.
    pub uptime: Duration,
    /// The time of the wall; moves only from outside.
    pub now: WallTime,
    /// Highest bytes per second of any class so far: the scale of every sparkline.
    pub peak: u64,
    selection: Selection,
    list: List,
    /// Height of whatever scrolls, at the last frame.
    pub(super) page_height: usize,
    /// Where whatever scrolls may begin at the latest, at the last frame.
    pub(super) last_top: usize,
}

/// The selected flow. An identity, never a row number.
#[derive(Debug, Default)]
struct Selection {
    /// `None` while nothing was touched: the first row is shown as selected and the list may reorder under it.
    flow: Option<Arc<Flow>>,
    row: usize,
    top: usize,
    gone_since: Option<Duration>,
}

#[derive(Debug, Default)]
struct List {
    listing: Listing,
    totals: Totals,
    sorted: Option<Duration>,
    generation: Option<u64>,
    /// Rows still stand where an older world had them.
    behind: bool,
    /// The question changed: sort at the next frame, however soon.
    stale: bool,
}

impl Ui {
    /// Lets time pass.
    pub fn pass(&mut self, uptime: Duration, now: WallTime) {
        self.uptime = uptime;
        self.now = now;
        if self.toast.as_ref().is_some_and(|t| t.until <= uptime) {
            self.toast = None;
        }
    }

    /// The instant on screen.
    pub fn shown<'a>(&'a self, live: &'a Arc<World>) -> &'a Arc<World> {
        self.frozen.as_ref().unwrap_or(live)
    }

    /// The time that ages refer to.
    pub fn instant(&self) -> WallTime {
        self.frozen.as_ref().map_or(self.now, |world| world.now)
    }

    /// Which keys are valid.
    pub fn place(&self) -> Place {
        match (&self.overlay, &self.detail) {
            (Some(Overlay::Help { .. }), _) => Place::Help,
            (Some(Overlay::Menu(..)), _) => Place::Menu,
            (None, None) if self.prompt.is_some() => Place::Filter,
            (None, Some(Detail { yaml: Some(_), .. })) => Place::Yaml,
            (None, Some(_)) => Place::Explain,
            (None, None) => Place::List,
        }
    }

    /// Says something in the last line for two seconds.
    pub fn say(&mut self, text: impl Into<String>) {
        self.toast = Some(Toast { text: text.into(), until: self.uptime + Duration::from_secs(2) });
    }

    /// Changes what the list shows; it is made anew at once.
    pub fn ask(&mut self, change: impl FnOnce(&mut Query)) {
        change(&mut self.query);
        self.list.stale = true;
    }

    /// Brings list, selection and open panes up to this world. Rows change their places at most once a second, and
    /// never under an open menu.
    pub fn refresh(&mut self, world: &Arc<World>) {
        let changed = self.list.generation != Some(world.generation);
        if changed {
            self.list.generation = Some(world.generation);
            self.list.totals = Totals::of(world);
            self.list.behind = true;
            self.peak = world.history.iter().flatten().flatten().copied().fold(self.peak, u64::max);
        }
        let due = self.list.sorted.is_none_or(|at| self.uptime >= at + REORDER_EVERY);
        let expired = self.selection.gone_since.is_some_and(|at| self.uptime >= at + GONE_STAYS);
        if self.list.stale || expired || (self.list.behind && due && !matches!(self.overlay, Some(Overlay::Menu(..)))) {
            self.list.listing = Listing::new(world, &self.query);
            self.list.sorted = Some(self.uptime);
            self.list.stale = false;
            self.list.behind = false;
        } else if changed {
            self.list.listing.follow(world);
        } else {
            return;
        }
        self.hold(world);
        self.follow_tour(world);
        if let Some(detail) = &mut self.detail
            && let Some(flow) = world.flows.iter().find(|f| f.id == detail.flow.id)
        {
            detail.flow = Arc::clone(flow);
            detail.item = detail.item.min(explain::items(flow).len().saturating_sub(1));
        }
    }

    /// Selects what the tour points at, once, when it is there.
    fn follow_tour(&mut self, world: &Arc<World>) {
        let Some(tour) = &mut self.tour else { return };
        let (Some(flow), Some(stop)) = (tour.found(world), tour.stop()) else { return };
        let Some(row) = self.list.listing.position(flow.id) else { return };
        tour.let_go();
        self.select(world, row);
        if stop.explained {
            self.detail = Some(Detail::new(flow));
        }
    }

    /// A new stop of the tour begins: nothing is selected, open, frozen or narrowed, and no row is known.
    pub fn begin_stop(&mut self) {
        (self.detail, self.frozen, self.prompt, self.overlay) = (None, None, None, None);
        (self.selection, self.list, self.query) = (Selection::default(), List::default(), Query::default());
        self.peak = 0;
    }

    /// Finds the selected flow again.
    fn hold(&mut self, world: &Arc<World>) {
        let selection = &mut self.selection;
        let listing = &mut self.list.listing;
        let Some(flow) = selection.flow.clone() else { return };
        let offset = selection.row.saturating_sub(selection.top);
        if let Some(row) = listing.position(flow.id) {
            selection.row = row;
            selection.flow = listing.flow(world, row).map(Arc::clone);
            selection.gone_since = None;
        } else if !self.query.accepts(&flow, world.now) || world.flows.iter().any(|f| f.id == flow.id) {
            // The filter hides it. It is still the selected one when the filter goes.
            selection.row = selection.row.min(listing.len().saturating_sub(1));
            selection.gone_since = None;
        } else if self.uptime < *selection.gone_since.get_or_insert(self.uptime) + GONE_STAYS {
            selection.row = selection.row.min(listing.len());
            listing.keep(selection.row, flow);
        } else {
            selection.gone_since = None;
            selection.row = selection.row.min(listing.len().saturating_sub(1));
            selection.flow = listing.flow(world, selection.row).map(Arc::clone);
        }
        // A view that begins at the first row stays there: whatever is worst never hides above it. Further down the
        // selected row keeps its line, and the rows around it move.
        if selection.top > 0 {
            selection.top = selection.row.saturating_sub(offset);
        }
    }

    /// The selected row of the list.
    pub fn row(&self) -> Option<usize> {
        (!self.list.listing.is_empty()).then(|| self.selection.row.min(self.list.listing.len() - 1))
    }

    /// The selected flow.
    pub fn current(&self, world: &World) -> Option<Arc<Flow>> {
        self.row().and_then(|row| self.list.listing.flow(world, row)).map(Arc::clone)
    }

    /// The identity that is held, if the user selected one.
    pub fn held(&self) -> Option<FlowId> {
        self.selection.flow.as_ref().map(|f| f.id)
    }

    /// Selects a row of the list.
    pub fn select(&mut self, world: &World, row: usize) {
        let row = row.min(self.list.listing.len().saturating_sub(1));
        self.selection.row = row;
        self.selection.flow = self.list.listing.flow(world, row).map(Arc::clone);
        self.selection.gone_since = None;
    }

    /// The list.
    pub fn listing(&self) -> &Listing {
        &self.list.listing
    }

    /// What this screen needs: the rows that are visible in `area`, no more.
    pub fn page(&mut self, world: &Arc<World>, look: &Look, area: Rect) -> Page {
        self.refresh(world);
        let height = layout::plan(area, world, self, look).map_or(0, |plan| usize::from(plan.rows.height));
        let selected = self.row();
        let len = self.list.listing.len();
        let selection = &mut self.selection;
        if let Some(row) = selected {
            let latest = row.min(len.saturating_sub(height));
            let earliest = (row + 1).saturating_sub(height);
            selection.top = selection.top.clamp(earliest.min(latest), latest.max(earliest.min(latest)));
        } else {
            selection.top = 0;
        }
        if self.detail.is_none() {
            self.page_height = height;
        }
        Page::cut(world, &self.list.listing, self.list.totals, selection.top, height, selected)
    }

    /// Opens the order menu at the order in force.
    pub fn open_sort_menu(&mut self) {
        let row = SortBy::ALL.iter().position(|by| *by == self.query.sort.by).unwrap_or(0);
        self.overlay = Some(Overlay::Menu(Menu::Sort, row));
    }
}
