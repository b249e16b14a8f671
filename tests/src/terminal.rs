//! A real pseudo-terminal with a program in it: what it wrote, what is on its screen, what state it left it in.

use std::fs::File;
use std::io::{Read as _, Write};
use std::num::NonZeroU16;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{Termios, tcgetattr};

/// Nothing takes this long but on a machine that is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal and the program in it.
pub struct Terminal {
    master: Box<dyn MasterPty + Send>,
    keyboard: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    /// The other side, kept open: its modes can be read after the program is gone.
    tty: File,
    before: Termios,
    output: Receiver<Vec<u8>>,
    emulator: vt100::Parser,
    /// Everything that was written.
    pub written: Vec<u8>,
}

impl Terminal {
    /// Starts `command` in a terminal of 80×24 with only these variables, besides `TERM` and a UTF-8 locale.
    pub fn start(command: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        let pair = native_pty_system().openpty(PtySize { rows: 24, cols: 80, pixel_width: 0, pixel_height: 0 })?;
        let name = pair.master.tty_name().context("the terminal has a name")?;
        let tty = File::options().read(true).write(true).custom_flags_noctty().open(name)?;
        let before = tcgetattr(&tty)?;
        let mut builder = CommandBuilder::new(command[0]);
        builder.args(&command[1..]);
        builder.env_clear();
        for (name, value) in
            [("TERM", "xterm-256color"), ("LC_ALL", "C.UTF-8"), ("PATH", "/usr/bin:/bin")].iter().chain(variables)
        {
            builder.env(name, value);
        }
        let child = pair.slave.spawn_command(builder)?;
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader()?;
        let keyboard = pair.master.take_writer()?;
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 8 * 1024];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let emulator = vt100::Parser::new(rows(24), rows(80), 100);
        Ok(Self { master: pair.master, keyboard, child, tty, before, output, emulator, written: Vec::new() })
    }

    /// Types text, or the bytes of a key.
    pub fn send(&mut self, bytes: &str) -> Result<()> {
        self.keyboard.write_all(bytes.as_bytes())?;
        Ok(self.keyboard.flush()?)
    }

    /// The screen as a person sees it.
    pub fn screen(&self) -> &vt100::Screen {
        self.emulator.screen()
    }

    /// Takes what was written until `done` holds.
    pub fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !done(self) {
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.take(&bytes),
                Err(error) => bail!("{what}: {error}; on the screen:\n{}", self.screen().contents()),
            }
        }
        Ok(())
    }

    /// Waits until the screen shows this.
    pub fn shows(&mut self, text: &str) -> Result<()> {
        self.until(&format!("{text:?} should be shown"), |t| t.screen().contents().contains(text))
    }

    /// Takes what is written within this time; returns how many bytes.
    pub fn listen(&mut self, time: Duration) -> usize {
        let (end, before) = (Instant::now() + time, self.written.len());
        loop {
            match self.output.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.take(&bytes),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return self.written.len() - before,
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.emulator.process(bytes);
        self.written.extend_from_slice(bytes);
    }

    /// The window gets another size.
    pub fn resize(&mut self, width: u16, height: u16) -> Result<()> {
        let size = PtySize { rows: height, cols: width, pixel_width: 0, pixel_height: 0 };
        self.master.resize(size)?;
        self.emulator.set_size(rows(height), rows(width));
        Ok(())
    }

    /// The program's process id.
    pub fn pid(&self) -> Result<Pid> {
        let id = self.child.process_id().context("the program runs")?;
        Pid::from_raw(i32::try_from(id)?).context("a process id")
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid()?, signal)?)
    }

    /// Waits until the program is stopped.
    pub fn is_stopped(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        let stat = format!("/proc/{}/stat", self.pid()?.as_raw_nonzero());
        while !std::fs::read_to_string(&stat)?.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')) {
            anyhow::ensure!(Instant::now() < end, "the program does not stop");
            self.listen(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Ticks of the processor (1/100 s) that it used.
    pub fn ticks(&self) -> Result<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()?.as_raw_nonzero()))?;
        let fields: Vec<&str> = stat.rsplit_once(") ").context("fields")?.1.split(' ').collect();
        Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
    }

    /// The modes of the terminal now.
    pub fn modes(&self) -> Result<String> {
        Ok(format!("{:?}", tcgetattr(&self.tty)?))
    }

    /// The modes before the program started.
    pub fn modes_before(&self) -> String {
        format!("{:?}", self.before)
    }

    /// Waits for the end of the program; its exit code. Everything that it wrote is taken.
    pub fn wait(&mut self) -> Result<u32> {
        let end = Instant::now() + PATIENCE;
        let code = loop {
            if let Some(status) = self.child.try_wait()? {
                break status.exit_code();
            }
            if Instant::now() > end {
                self.child.kill()?;
                bail!("the program does not end; on the screen:\n{}", self.screen().contents());
            }
            self.listen(Duration::from_millis(10));
        };
        // What it wrote last may still be on its way through the terminal.
        while self.listen(Duration::from_millis(50)) > 0 {}
        Ok(code)
    }

    /// Nothing of the program is left in the terminal.
    pub fn is_given_back(&self) -> Result<()> {
        let screen = self.screen();
        anyhow::ensure!(
            self.modes()? == self.modes_before(),
            "modes: {} before: {}",
            self.modes()?,
            self.modes_before()
        );
        anyhow::ensure!(!screen.alternate_screen(), "the alternate screen was not left");
        anyhow::ensure!(!screen.hide_cursor(), "the cursor is hidden");
        anyhow::ensure!(!screen.bracketed_paste(), "paste is still bracketed");
        let last = |on: &str, off: &str| {
            let at = |what: &str| self.written.windows(what.len()).rposition(|w| w == what.as_bytes());
            at(on) < at(off)
        };
        anyhow::ensure!(last("\x1b[?1004h", "\x1b[?1004l"), "focus is still reported");
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn rows(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).unwrap_or(NonZeroU16::MIN)
}

trait NoControllingTerminal {
    /// Opening the terminal must not make it ours.
    fn custom_flags_noctty(&mut self) -> &mut Self;
}

impl NoControllingTerminal for std::fs::OpenOptions {
    fn custom_flags_noctty(&mut self) -> &mut Self {
        use std::os::unix::fs::OpenOptionsExt as _;
        self.custom_flags(rustix::fs::OFlags::NOCTTY.bits().cast_signed())
    }
}
