//! The terminal: entered once, left once, on every way out.
//!
//! Every mode is undone in reverse order, and only if it was set. Leaving is idempotent and shared by quitting, errors,
//! panics in any thread and signals; a frame is one locked write, so that nothing is drawn after leaving.
//! `ratatui::restore()` is not enough: it neither shows the cursor nor ends paste and focus reports.

use base64::Engine as _;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use crossterm::cursor::{Hide, Show};
use crossterm::event::{DisableBracketedPaste, DisableFocusChange, EnableBracketedPaste, EnableFocusChange};
use crossterm::queue;
use crossterm::style::force_color_output;
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
    disable_raw_mode, enable_raw_mode,
};
use ratatui::backend::{Backend, CrosstermBackend};
use ratatui::buffer::Buffer;
use ratatui::layout::{Rect, Size};
use tokio::sync::Notify;

/// Most bytes of a copied text, encoded: what terminals and multiplexers take at least.
const LONGEST_COPY: usize = 74_994;

/// Frames below this many bytes arrive in one piece anyway; wrapping each tick of the clock would double its size.
const SYNCHRONISE_FROM: usize = 256;

/// What was set and has to be undone. There is one terminal, so there is one of these.
#[derive(Debug, Default)]
struct Modes {
    raw: bool,
    screen: bool,
}

static MODES: Mutex<Modes> = Mutex::new(Modes { raw: false, screen: false });
static PANICKED: AtomicBool = AtomicBool::new(false);
static PANIC: Notify = Notify::const_new();

fn modes() -> MutexGuard<'static, Modes> {
    MODES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why there can be no dashboard here; `Ok` if there can. To be asked before anything is started.
pub fn check() -> Result<(), &'static str> {
    if !io::stdout().is_terminal() {
        return Err("stdout is not a terminal");
    }
    let keyboard = io::stdin().is_terminal() || std::fs::File::open("/dev/tty").is_ok();
    if keyboard {
        Ok(())
    } else {
        Err("there is no terminal to read keys from: stdin is none, /dev/tty cannot be opened")
    }
}

/// Writes all bytes to the terminal, also where somebody made it non-blocking.
fn write_all(mut bytes: &[u8]) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::io::Errno;
    let out = io::stdout().lock();
    while !bytes.is_empty() {
        match rustix::io::write(&out, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::new(&out, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn enter(modes: &mut Modes) -> io::Result<()> {
    // Colour is decided in one place, which is not crossterm (see `look`).
    force_color_output(true);
    enable_raw_mode()?;
    modes.raw = true;
    let mut bytes = Vec::new();
    queue!(bytes, EnterAlternateScreen, Hide, EnableBracketedPaste, EnableFocusChange, Clear(ClearType::All))?;
    modes.screen = true;
    write_all(&bytes)
}

/// Undoes what was set, in reverse order. A second call does nothing: it would move the cursor over a message.
fn leave(modes: &mut Modes) -> io::Result<()> {
    let mut bytes = Vec::new();
    if std::mem::take(&mut modes.screen) {
        queue!(bytes, EndSynchronizedUpdate, DisableFocusChange, DisableBracketedPaste, Show, LeaveAlternateScreen)?;
    }
    // Cooked mode first: it must not depend on a terminal that takes no bytes any more.
    let cooked = if std::mem::take(&mut modes.raw) { disable_raw_mode() } else { Ok(()) };
    write_all(&bytes).and(cooked)
}

/// Before a panic's message is printed, the terminal is given back; the loop learns of it and ends.
fn leave_on_panic() {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if INSTALLED.swap(true, Ordering::SeqCst) {
        return;
    }
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // A frame may be on its way in another thread; one that never ends must not keep the message back.
        for _ in 0..200 {
            match MODES.try_lock() {
                Ok(mut modes) => {
                    let _ = leave(&mut modes);
                    break;
                }
                Err(TryLockError::Poisoned(poisoned)) => {
                    let _ = leave(&mut poisoned.into_inner());
                    break;
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        before(panic);
        PANICKED.store(true, Ordering::SeqCst);
        PANIC.notify_one();
    }));
}

/// The terminal while it is ours.
#[derive(Debug)]
pub struct Screen {
    last: Option<Buffer>,
}

impl Screen {
    /// Takes the terminal: alternate screen, raw, no cursor, paste and focus reported.
    pub fn enter() -> io::Result<Self> {
        leave_on_panic();
        let mut modes = modes();
        if let Err(error) = enter(&mut modes) {
            let _ = leave(&mut modes);
            return Err(error);
        }
        Ok(Self { last: None })
    }

    /// Gives the terminal back.
    pub fn leave(&mut self) -> io::Result<()> {
        leave(&mut modes())
    }

    /// Takes it again after [`Screen::leave`], or makes sure of it when others may have changed it.
    pub fn again(&mut self) -> io::Result<()> {
        self.last = None;
        enter(&mut modes())
    }

    /// The next frame is drawn in full.
    pub fn forget(&mut self) {
        self.last = None;
    }

    /// Columns and rows. Serial lines and some recorders do not know theirs.
    fn size() -> io::Result<Size> {
        Ok(match crossterm::terminal::size()? {
            (0, _) | (_, 0) => Size { width: 80, height: 24 },
            (width, height) => Size { width, height },
        })
    }

    /// Draws what changed since the last frame: one write, or none.
    pub fn show(&mut self, next: Buffer) -> io::Result<()> {
        let mut bytes = Vec::new();
        let fresh = self.last.as_ref().is_none_or(|last| last.area != next.area);
        if fresh {
            queue!(bytes, Clear(ClearType::All))?;
            self.last = Some(Buffer::empty(next.area));
        }
        if let Some(last) = &self.last {
            let changes = last.diff(&next);
            if !changes.is_empty() {
                CrosstermBackend::new(&mut bytes).draw(changes.into_iter())?;
            }
        }
        self.last = Some(next);
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.len() >= SYNCHRONISE_FROM {
            let mut whole = Vec::with_capacity(bytes.len() + 16);
            queue!(whole, BeginSynchronizedUpdate)?;
            whole.extend_from_slice(&bytes);
            queue!(whole, EndSynchronizedUpdate)?;
            bytes = whole;
        }
        // Somebody may have left in the meantime (a panic in another thread): then nothing is drawn any more.
        let modes = modes();
        if modes.screen { write_all(&bytes) } else { Ok(()) }
    }

    /// Asks the terminal to put a text on its clipboard (OSC 52), through tmux as well. `false`: terminals do not take so much.
    pub fn copy(&self, text: &str) -> io::Result<bool> {
        let encoded = base64::engine::general_purpose::STANDARD.encode(text);
        if encoded.len() > LONGEST_COPY {
            return Ok(false);
        }
        let mut bytes = format!("\x1b]52;c;{encoded}\x07");
        if std::env::var_os("TMUX").is_some() {
            // tmux hands it on where set-clipboard allows; where only passthrough is allowed, that way.
            bytes = format!("{bytes}\x1bPtmux;\x1b{bytes}\x1b\\");
        }
        let modes = modes();
        if modes.screen {
            write_all(bytes.as_bytes())?;
        }
        Ok(true)
    }

    /// What is on the screen, as text.
    pub fn text(&self) -> Option<String> {
        self.last.as_ref().map(text)
    }

    /// An empty buffer of the terminal's size.
    pub fn blank() -> io::Result<Buffer> {
        let Size { width, height } = Self::size()?;
        Ok(Buffer::empty(Rect::new(0, 0, width, height)))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.leave();
    }
}

/// A screen as text, without blanks at the ends of lines.
pub fn text(buffer: &Buffer) -> String {
    let mut out = String::new();
    for y in buffer.area.top()..buffer.area.bottom() {
        let mut line = String::new();
        let mut covered = 0;
        for x in buffer.area.left()..buffer.area.right() {
            if covered > 0 {
                covered -= 1;
                continue;
            }
            let symbol = buffer[(x, y)].symbol();
            covered = unicode_width::UnicodeWidthStr::width(symbol).saturating_sub(1);
            line.push_str(symbol);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Whether a thread panicked; the terminal is already left then.
pub fn panicked() -> bool {
    PANICKED.load(Ordering::SeqCst)
}

/// Waits until a thread panics.
pub async fn panic() {
    while !panicked() {
        PANIC.notified().await;
    }
}

/// Prints a last word, after leaving, where people look for it.
pub fn last_words(text: &str) {
    let mut err = io::stderr().lock();
    let _ = writeln!(err, "{text}");
}
