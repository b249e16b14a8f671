//! The loop: wait for a key, a new world, a second, a signal; change; draw once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossterm::event::{self, Event};
use egress_core::filter::Filter;
use egress_core::id::WallTime;
use egress_core::world::{Flow, World};
use ratatui::layout::Rect;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use signal_hook::low_level::emulate_default_handler;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, sleep_until};

use super::figure;
use super::look::{ColorChoice, Look, Surroundings, Theme};
use super::menu::Form;
use super::term::{self, Screen};
use super::tour::{Stage, Stop, Tour};
use super::ui::Ui;
use super::update::{Effect, Msg, update};
use super::view;

/// New data is drawn at most this often: four times a second.
const DATA_FRAME: Duration = Duration::from_millis(250);
/// The same while the terminal's window is not the one in front.
const UNFOCUSED_FRAME: Duration = Duration::from_secs(1);
/// Input that arrives within this time after a frame shares the next one.
const COALESCE: Duration = Duration::from_millis(16);
/// The clock.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Events that wait for the loop at most; a flood waits in the terminal.
const KEYBOARD: usize = 1024;
/// How soon the thread that reads keys notices that nobody wants them any more.
const KEYBOARD_STOPS: Duration = Duration::from_secs(1);

/// What leaves the screen: forms that the dashboard does not know itself.
pub trait Desk {
    /// A flow as `snapshot` prints it.
    fn json(&self, flow: &Flow, world: &World) -> String;
    /// Writes the flows of a world into a new file; returns its name.
    fn export(&self, world: &World, form: Form, filter: &str) -> io::Result<String>;
    /// Writes a screen into a new file; returns its name.
    fn save(&self, screen: &str, at: WallTime) -> io::Result<String>;
}

/// What the user chose about the screen.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Colour or not.
    pub color: ColorChoice,
    /// Which colours.
    pub theme: Theme,
    /// Nothing but ASCII.
    pub ascii: bool,
    /// What the list is narrowed to at first.
    pub filter: Option<Filter>,
    /// Saved filters: names and texts.
    pub saved: Arc<[(String, String)]>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quit {
    /// The user left.
    User,
    /// This signal came; the exit code is 128 and its number.
    Signal(i32),
    /// Nobody publishes worlds any more.
    SourceEnded,
}

/// Shows worlds until the user leaves, a signal comes or nobody publishes any more. The terminal is the caller's again
/// when this returns, also with an error. A panic in any thread ends it with an error, its message already printed.
pub async fn run(
    worlds: watch::Receiver<Arc<World>>,
    options: Options,
    desk: Box<dyn Desk + Send>,
) -> anyhow::Result<Quit> {
    show(worlds, options, desk, None).await
}

/// The same, with stops whose scenes the stage plays; it begins with the first.
pub async fn walk(
    stops: &'static [Stop],
    mut stage: Box<dyn Stage + Send>,
    options: Options,
    desk: Box<dyn Desk + Send>,
) -> anyhow::Result<Quit> {
    let tour = Tour::new(stops).context("a tour needs a stop")?;
    show(stage.enter(tour.scene()), options, desk, Some((tour, stage))).await
}

async fn show(
    worlds: watch::Receiver<Arc<World>>,
    options: Options,
    desk: Box<dyn Desk + Send>,
    tour: Option<(Tour, Box<dyn Stage + Send>)>,
) -> anyhow::Result<Quit> {
    term::check().map_err(anyhow::Error::msg)?;
    let look = Look::choose(options.color, options.theme, options.ascii, &Surroundings::from_env());
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let mut screen = Screen::enter().context("cannot take the terminal")?;
    let mut shown = Loop::new(worlds, look, desk);
    shown.ui.query.filter = options.filter;
    shown.ui.saved = options.saved;
    (shown.ui.tour, shown.stage) = tour.unzip();
    let result = shown.run(&mut screen, &mut signals).await;
    let left = screen.leave();
    match result {
        // A terminal that is gone takes no bytes: that is a hang-up, and so is failing to leave it.
        Err(error) if gone(&error) => Ok(Quit::Signal(SIGHUP)),
        Ok(quit) => left
            .context("cannot give the terminal back")
            .map(|()| quit)
            .or_else(|error| if gone(&error) || matches!(quit, Quit::Signal(_)) { Ok(quit) } else { Err(error) }),
        Err(error) => Err(error),
    }
}

fn gone(error: &anyhow::Error) -> bool {
    let code = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    code == Some(rustix::io::Errno::IO.raw_os_error()) || code == Some(rustix::io::Errno::PIPE.raw_os_error())
}

/// Keys, read in a thread of their own. crossterm's stream of events is not used: it loses wake-ups when it is drained,
/// and with its default source it stalls when more than 1024 bytes come at once.
struct Keyboard {
    events: mpsc::Receiver<io::Result<Event>>,
    unwanted: Arc<AtomicBool>,
}

impl Keyboard {
    fn listen() -> io::Result<Self> {
        let (sender, events) = mpsc::channel(KEYBOARD);
        let unwanted = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&unwanted);
        std::thread::Builder::new().name("keyboard".to_owned()).spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let event = match event::poll(KEYBOARD_STOPS) {
                    Ok(false) => continue,
                    Ok(true) => event::read(),
                    Err(error) => Err(error),
                };
                let failed = event.is_err();
                if sender.blocking_send(event).is_err() || failed {
                    break;
                }
            }
        })?;
        Ok(Self { events, unwanted })
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.unwanted.store(true, Ordering::Relaxed);
    }
}

struct Signals {
    terminate: Signal,
    hangup: Signal,
    interrupt: Signal,
    stop: Signal,
    go_on: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        // The second of the same signal ends the program at once, whatever the loop is waiting for.
        for number in [SIGTERM, SIGHUP, SIGINT] {
            let first = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&first))?;
            signal_hook::flag::register(number, first)?;
        }
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            stop: signal(SignalKind::from_raw(SIGTSTP))?,
            go_on: signal(SignalKind::from_raw(SIGCONT))?,
        })
    }
}

/// Sends a text to the terminal's clipboard. Whether the terminal took it cannot be known.
fn copied(text: &str, screen: &Screen) -> anyhow::Result<String> {
    Ok(if screen.copy(text)? {
        format!("sent {} to the terminal's clipboard", figure::plural(text.len() as u64, "byte"))
    } else {
        "too long for a terminal's clipboard; e writes the list into a file".to_owned()
    })
}

struct Loop {
    worlds: watch::Receiver<Arc<World>>,
    look: Look,
    desk: Box<dyn Desk + Send>,
    stage: Option<Box<dyn Stage + Send>>,
    ui: Ui,
    world: Arc<World>,
    received: Instant,
    started: Instant,
    drawn: Option<Instant>,
    focused: bool,
    /// Something that only input changes.
    touched: bool,
    /// Something that only data changes.
    aged: bool,
}

impl Loop {
    fn new(mut worlds: watch::Receiver<Arc<World>>, look: Look, desk: Box<dyn Desk + Send>) -> Self {
        let world = Arc::clone(&worlds.borrow_and_update());
        let now = Instant::now();
        let (ui, focused) = (Ui::default(), true);
        Self {
            worlds,
            look,
            desk,
            stage: None,
            ui,
            world,
            received: now,
            started: now,
            drawn: None,
            focused,
            touched: true,
            aged: false,
        }
    }

    async fn run(mut self, screen: &mut Screen, signals: &mut Signals) -> anyhow::Result<Quit> {
        let mut keyboard = Keyboard::listen().context("cannot read keys")?;
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.due();
            tokio::select! {
                biased;
                () = term::panic() => anyhow::bail!("a thread panicked; its message is above"),
                _ = signals.terminate.recv() => return Ok(Quit::Signal(SIGTERM)),
                _ = signals.hangup.recv() => return Ok(Quit::Signal(SIGHUP)),
                _ = signals.interrupt.recv() => return Ok(Quit::Signal(SIGINT)),
                _ = signals.stop.recv() => self.stop(screen)?,
                _ = signals.go_on.recv() => self.go_on(screen)?,
                event = keyboard.events.recv() => {
                    if let Some(quit) = self.input(event, &mut keyboard, screen, signals).await? {
                        return Ok(quit);
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => self.draw(screen)?,
                changed = self.worlds.changed() => {
                    if changed.is_err() {
                        return Ok(Quit::SourceEnded);
                    }
                    self.world = Arc::clone(&self.worlds.borrow_and_update());
                    self.received = Instant::now();
                    self.aged = true;
                }
                _ = heartbeat.tick() => self.aged = true,
            }
        }
    }

    /// When the next frame is to be drawn; `None` while nothing changed.
    fn due(&self) -> Option<Instant> {
        let Some(drawn) = self.drawn else { return Some(self.started) };
        if self.touched {
            return Some(drawn + COALESCE);
        }
        self.aged.then_some(drawn + if self.focused { DATA_FRAME } else { UNFOCUSED_FRAME })
    }

    /// The time on the wall: the newest world's, and what passed since it came.
    fn pass(&mut self) {
        let since = i64::try_from(self.received.elapsed().as_nanos()).unwrap_or(i64::MAX);
        self.ui.pass(self.started.elapsed(), WallTime(self.world.now.0.saturating_add(since)));
    }

    fn draw(&mut self, screen: &mut Screen) -> anyhow::Result<()> {
        self.pass();
        let mut buffer = Screen::blank()?;
        let area: Rect = buffer.area;
        view::frame(&mut self.ui, &self.world, &self.look, area, &mut buffer);
        screen.show(buffer)?;
        self.drawn = Some(Instant::now());
        self.touched = false;
        self.aged = false;
        Ok(())
    }

    /// Takes everything that waits, then lets one frame show it.
    async fn input(
        &mut self,
        first: Option<io::Result<Event>>,
        keyboard: &mut Keyboard,
        screen: &mut Screen,
        signals: &mut Signals,
    ) -> anyhow::Result<Option<Quit>> {
        let mut next = first;
        // A flood of keys must not keep the screen from being drawn.
        for _ in 0..KEYBOARD {
            let event = next.context("the terminal's input ended")??;
            self.touched = true;
            match self.event(event) {
                Some(Effect::Quit) => return Ok(Some(Quit::User)),
                Some(Effect::Redraw) => screen.forget(),
                Some(Effect::Suspend) => {
                    screen.leave()?;
                    // As the terminal would: to everybody in the foreground, so that a parent stops with us.
                    rustix::process::kill_current_process_group(rustix::process::Signal::TSTP)?;
                    signals.stop.recv().await;
                    self.stop(screen)?;
                }
                Some(effect) => self.outside(&effect, screen)?,
                None => {}
            }
            match keyboard.events.try_recv() {
                Ok(more) => next = Some(more),
                Err(_) => break,
            }
        }
        Ok(None)
    }

    fn event(&mut self, event: Event) -> Option<Effect> {
        match event {
            Event::Key(key) => {
                self.pass();
                update(&mut self.ui, &self.world, &Msg::Key(key))
            }
            Event::Paste(text) => {
                self.pass();
                update(&mut self.ui, &self.world, &Msg::Paste(text))
            }
            Event::FocusGained => {
                self.focused = true;
                None
            }
            Event::FocusLost => {
                self.focused = false;
                None
            }
            Event::Resize(..) | Event::Mouse(_) => None,
        }
    }

    /// Clipboard and files; what became of it is said in the last line.
    fn outside(&mut self, effect: &Effect, screen: &Screen) -> anyhow::Result<()> {
        let written = |what: &str, name: io::Result<String>| match name {
            Ok(name) => format!("{what} written to {name}"),
            Err(error) => format!("the {what} could not be written: {error}"),
        };
        let says = match effect {
            Effect::Copy(text) => copied(text, screen)?,
            Effect::CopyJson(flow) => copied(&self.desk.json(flow, &self.world), screen)?,
            Effect::Export(form, world) => {
                let filter = self.ui.query.filter.as_ref().map_or("", |f| f.text());
                written("list", self.desk.export(world, *form, filter))
            }
            Effect::SaveScreen => {
                let text = screen.text().unwrap_or_default();
                written("screen", self.desk.save(&text, self.world.now))
            }
            Effect::Scene(scene) => {
                if let Some(stage) = &mut self.stage {
                    self.worlds = stage.enter(*scene);
                    self.world = Arc::clone(&self.worlds.borrow_and_update());
                    self.received = Instant::now();
                }
                return Ok(());
            }
            Effect::Quit | Effect::Suspend | Effect::Redraw => return Ok(()),
        };
        self.ui.say(says);
        Ok(())
    }

    /// Stops as by default, and takes the terminal again when it goes on.
    fn stop(&mut self, screen: &mut Screen) -> anyhow::Result<()> {
        screen.leave()?;
        emulate_default_handler(SIGTSTP)?;
        self.go_on(screen)
    }

    fn go_on(&mut self, screen: &mut Screen) -> anyhow::Result<()> {
        screen.again()?;
        self.touched = true;
        Ok(())
    }
}
