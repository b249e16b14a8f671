//! A recording on disk: written by a thread of its own, so that a slow disk never holds the engine for longer than its queue
//! is deep.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use egress_core::id::Nanos;
use egress_core::input::Input;
use egress_core::recording::{Recorder, Start};

/// Pieces that may wait for the disk; each is up to a quarter of a megabyte.
const WAITING: usize = 256;

/// When a new file begins, and how many old ones stay.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rotation {
    /// After this many bytes.
    pub size: Option<u64>,
    /// After this time.
    pub every: Option<Duration>,
    /// Old files beside the one that is written.
    pub keep: u32,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Written {
    /// Bytes in all files.
    pub bytes: u64,
    /// Files.
    pub files: u32,
}

enum Order {
    Append(Vec<u8>),
    Rotate,
}

/// A recording that is being written.
pub struct Tape {
    recorder: Recorder,
    rotation: Rotation,
    orders: Option<SyncSender<Order>>,
    thread: JoinHandle<io::Result<()>>,
    written: Written,
    in_file: u64,
    began: Option<Nanos>,
    now: Nanos,
    dropped: u64,
    told: u64,
}

impl Tape {
    /// Creates the file, which must not exist: 0600, and never through a link.
    pub fn create(path: &Path, start: Start, rotation: Rotation) -> anyhow::Result<Self> {
        let file = create(path).with_context(|| format!("cannot create {}", path.display()))?;
        let (orders, waiting) = sync_channel(WAITING);
        let place = path.to_owned();
        let thread = std::thread::Builder::new()
            .name("recording".to_owned())
            .spawn(move || write(file, &place, rotation.keep, &waiting))
            .context("cannot start the thread that writes the recording")?;
        let mut tape = Self {
            recorder: Recorder::new(start),
            rotation,
            orders: Some(orders),
            thread,
            written: Written { bytes: 0, files: 1 },
            in_file: 0,
            began: None,
            now: Nanos::default(),
            dropped: 0,
            told: 0,
        };
        tape.write();
        Ok(tape)
    }

    /// Notes an input.
    pub fn note(&mut self, input: &Input) {
        if self.orders.is_none() {
            self.dropped += 1;
            return;
        }
        if let Input::Tick { now, .. } = input {
            self.now = *now;
            self.began.get_or_insert(*now);
        }
        self.recorder.note(input);
    }

    /// Hands over what is ready. Where the disk failed, tells how many inputs were not kept.
    pub fn write(&mut self) -> Option<Input> {
        let bytes = self.recorder.take();
        self.append(bytes);
        let old = self
            .rotation
            .every
            .zip(self.began)
            .is_some_and(|(every, began)| u128::from(self.now.since(began)) >= every.as_nanos());
        if old || self.rotation.size.is_some_and(|size| self.in_file >= size) {
            let last = self.recorder.rotate();
            self.append(last);
            self.send(Order::Rotate);
            self.in_file = 0;
            self.began = Some(self.now);
            self.written.files += 1;
        }
        (self.dropped > self.told).then(|| {
            self.told = self.dropped;
            Input::Lost { stage: "recording".into(), total: self.dropped }
        })
    }

    fn append(&mut self, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        self.in_file += bytes.len() as u64;
        self.written.bytes += bytes.len() as u64;
        self.send(Order::Append(bytes));
    }

    fn send(&mut self, order: Order) {
        let Some(orders) = &self.orders else { return };
        let sent = match orders.try_send(order) {
            // The disk is behind: wait, sources count what they have to drop meanwhile.
            Err(TrySendError::Full(order)) => orders.send(order).is_ok(),
            Err(TrySendError::Disconnected(_)) => false,
            Ok(()) => true,
        };
        if !sent {
            // The thread ended with an error, which `end` returns.
            self.orders = None;
            self.dropped += 1;
        }
    }

    /// Closes the file.
    pub fn end(mut self) -> anyhow::Result<Written> {
        let last = self.recorder.end();
        self.append(last);
        drop(self.orders.take());
        let written =
            self.thread.join().map_err(|_| anyhow::anyhow!("the thread that writes the recording panicked"))?;
        written.context("cannot write the recording")?;
        Ok(self.written)
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

fn write(mut file: File, path: &Path, keep: u32, orders: &Receiver<Order>) -> io::Result<()> {
    for order in orders {
        match order {
            Order::Append(bytes) => file.write_all(&bytes)?,
            Order::Rotate => {
                file.sync_all()?;
                rotate(path, keep)?;
                file = create(path)?;
            }
        }
    }
    file.sync_all()
}

/// `FILE` becomes `FILE.1`, that one `FILE.2`; what is beyond `keep` goes.
fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    let name = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    };
    if keep == 0 {
        return fs::remove_file(path);
    }
    for n in (1..keep).rev() {
        match fs::rename(name(n), name(n + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, name(1))
}
