//! A way to the API server that a test opens and closes.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::LONG;

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// They lead to the server.
    Open,
    /// They are accepted, and stay; no byte comes from the server any more.
    Silent,
    /// They are ended, and new ones at once.
    Cut,
    /// The relay is gone.
    Gone,
}

struct State {
    way: Way,
    /// Bytes from the server after which the way falls silent.
    budget: Option<usize>,
    connections: Vec<TcpStream>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// See the module.
pub struct Relay {
    at: String,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Relay {
    /// An open way to that address.
    pub fn to(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("bound").to_string();
        let state = State { way: Way::Open, budget: None, connections: Vec::new() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let (accepts, address) = (shared.clone(), address.to_owned());
        let accepting = thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let way = accepts.lock().way;
                match way {
                    Way::Gone => return,
                    Way::Cut => {}
                    Way::Open | Way::Silent => accepts.connect(client, &address),
                }
            }
        });
        Self { at, shared, accepting: Some(accepting) }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.at
    }

    /// Connections lead to the server, also those that were silent.
    pub fn open(&self) {
        self.shared.turn(Way::Open);
    }

    /// Nothing is answered any more.
    pub fn silence(&self) {
        self.shared.turn(Way::Silent);
    }

    /// Connections end, and new ones come to nothing.
    pub fn cut(&self) {
        self.shared.turn(Way::Cut);
    }

    /// It will fall silent after so many bytes from the server.
    pub fn silence_after(&self, bytes: usize) {
        self.shared.lock().budget = Some(bytes);
    }

    /// Waits until it fell silent.
    pub fn is_silent(&self) {
        let state = self.shared.lock();
        let waited = self.shared.changed.wait_timeout_while(state, LONG, |s| s.way != Way::Silent);
        let late = waited.unwrap_or_else(PoisonError::into_inner).1.timed_out();
        assert!(!late, "so much was never sent");
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.turn(Way::Gone);
        // Whoever waits for the next connection gets one.
        let _ = TcpStream::connect(&self.at);
        let _ = self.accepting.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, way: Way) {
        let mut state = self.lock();
        (state.way, state.budget) = (way, None);
        if matches!(way, Way::Cut | Way::Gone) {
            for connection in state.connections.drain(..) {
                // It may have ended by itself.
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
        self.changed.notify_all();
    }

    fn connect(self: &Arc<Self>, client: TcpStream, address: &str) {
        // A server that does not run refuses; so does the relay then.
        let Ok(server) = TcpStream::connect(address) else { return };
        let copy = |one: &TcpStream| one.try_clone().expect("a descriptor");
        self.lock().connections.extend([copy(&client), copy(&server)]);
        let (mut from, mut to) = (copy(&client), copy(&server));
        thread::spawn(move || {
            // Ends with either of them.
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
        let shared = self.clone();
        thread::spawn(move || {
            shared.down(&server, &client);
            let _ = client.shutdown(Shutdown::Both);
        });
    }

    /// From the server to the client, as far as the way is open.
    fn down(&self, mut server: &TcpStream, mut client: &TcpStream) {
        let mut bytes = vec![0; 16 << 10];
        while let Ok(count @ 1..) = server.read(&mut bytes) {
            let mut state = self.lock();
            if let Some(left) = state.budget {
                state.budget = left.checked_sub(count);
                if state.budget.is_none() {
                    state.way = Way::Silent;
                    self.changed.notify_all();
                }
            }
            let waited = self.changed.wait_while(state, |s| s.way == Way::Silent);
            if waited.unwrap_or_else(PoisonError::into_inner).way != Way::Open {
                return;
            }
            if client.write_all(&bytes[..count]).is_err() {
                return;
            }
        }
    }
}
