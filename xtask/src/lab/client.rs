//! Traffic: one client, which runs in a container of a pod and reports what it got as one line of JSON.

use std::fs;
use std::io::{Read as _, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde::{Deserialize, Serialize};

use crate::lab::scenario::{Play, Verb};

/// How long a connect or an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between the two segments of a split ClientHello or request: long enough that they are not sent as one.
const SPLIT_GAP: Duration = Duration::from_millis(20);
/// Bytes of a TDS pre-login packet: what a SQL client says first, in clear text.
const TDS_PRELOGIN: &[u8] = &[
    0x12, 0x01, 0x00, 0x2f, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x1a, 0x00, 0x06, 0x01, 0x00, 0x20, 0x00, 0x01, 0x02,
    0x00, 0x21, 0x00, 0x01, 0x03, 0x00, 0x22, 0x00, 0x04, 0x04, 0x00, 0x26, 0x00, 0x01, 0xff, 0x11, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
];
/// What a Redis client says first.
const REDIS_PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
/// A datagram of the size of a QUIC Initial, with its first byte and version.
const QUIC_INITIAL: [u8; 1200] = {
    let mut datagram = [0; 1200];
    datagram[0] = 0xc3;
    datagram[4] = 1;
    datagram
};

/// Plays one [`Play`].
#[derive(Debug, Args)]
pub(crate) struct Client {
    /// The play, as JSON.
    play: String,
}

/// What a client got.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Journeys that ended as they should.
    pub(crate) ok: u32,
    /// Journeys that did not.
    pub(crate) failed: u32,
    /// The first failure.
    pub(crate) error: Option<String>,
}

impl Client {
    pub(crate) fn run(self) -> Result<()> {
        let play: Play = serde_json::from_str(&self.play)?;
        let outcome = match Journey::prepare(&play) {
            Ok(journey) => repeat(&journey, &play),
            Err(e) => Outcome { failed: play.count, error: Some(format!("{e:#}")), ok: 0 },
        };
        writeln!(std::io::stdout().lock(), "{}", serde_json::to_string(&outcome)?)?;
        Ok(())
    }
}

fn repeat(journey: &Journey, play: &Play) -> Outcome {
    let (left, ok) = (AtomicU32::new(play.count), AtomicU32::new(0));
    let worker = || {
        let mut error = None;
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
            match journey.go() {
                Ok(()) => {
                    ok.fetch_add(1, Ordering::Relaxed);
                }
                Err(e) => error = error.or(Some(format!("{e:#}"))),
            }
        }
        error
    };
    // one at a time stays on this thread: its name is the process's
    let error = if play.parallel <= 1 {
        worker()
    } else {
        thread::scope(|scope| {
            let workers: Vec<_> = (0..play.parallel).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().find_map(|w| w.join().ok().flatten())
        })
    };
    let ok = ok.into_inner();
    Outcome { ok, failed: play.count - ok, error }
}

struct Journey {
    verb: Verb,
    to: SocketAddr,
    name: Option<String>,
    tls: Arc<ClientConfig>,
}

impl Journey {
    fn prepare(play: &Play) -> Result<Self> {
        let (host, port) = play.to.rsplit_once(':').context("the destination needs a port")?;
        let port: u16 = port.parse()?;
        let to = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, port),
            Err(_) => (host, port).to_socket_addrs()?.next().with_context(|| format!("{host} has no address"))?,
        };
        let name = play.name.clone().or_else(|| host.parse::<IpAddr>().is_err().then(|| host.to_owned()));
        let mut roots = RootCertStore::empty();
        // other containers than an application's may have no certificates
        if fs::exists("/etc/certs/root-cert.pem")? {
            roots.add(CertificateDer::from_pem_file("/etc/certs/root-cert.pem")?)?;
        }
        let tls = Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
        Ok(Self { verb: play.verb, to, name, tls })
    }

    fn go(&self) -> Result<()> {
        match self.verb {
            Verb::Tls | Verb::TlsSplit => {
                let name = match &self.name {
                    Some(name) => ServerName::try_from(name.clone())?,
                    None => ServerName::from(self.to.ip()),
                };
                let socket = Socket { stream: self.connect()?, split: self.verb == Verb::TlsSplit };
                let mut stream = StreamOwned::new(ClientConnection::new(self.tls.clone(), name)?, socket);
                self.request(&mut stream)?;
                stream.conn.send_close_notify();
                stream.flush()?;
                finish(&stream.sock.stream)
            }
            Verb::Http | Verb::HttpSplit => {
                let mut stream = self.connect()?;
                self.request(&mut stream)?;
                finish(&stream)
            }
            Verb::Tcp => self.echo(TDS_PRELOGIN),
            Verb::Redis => self.echo(REDIS_PING),
            Verb::Udp => {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                socket.connect(self.to)?;
                socket.send(&QUIC_INITIAL)?;
                Ok(())
            }
        }
    }

    fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.to, PATIENCE).with_context(|| format!("connect {}", self.to))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn echo(&self, bytes: &[u8]) -> Result<()> {
        let mut stream = self.connect()?;
        stream.write_all(bytes)?;
        let mut echo = vec![0; bytes.len()];
        stream.read_exact(&mut echo)?;
        if echo != bytes {
            bail!("not the echo");
        }
        finish(&stream)
    }

    fn request(&self, stream: &mut (impl std::io::Read + Write)) -> Result<()> {
        let host = self.name.clone().unwrap_or_else(|| self.to.to_string());
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: lab\r\nAccept: */*\r\n\r\n");
        // one segment, or what comes before the host in one of its own
        let (first, rest) = request.split_at(if self.verb == Verb::HttpSplit { "GET / HTTP/1.1\r\n".len() } else { 0 });
        if !first.is_empty() {
            stream.write_all(first.as_bytes())?;
            stream.flush()?;
            thread::sleep(SPLIT_GAP);
        }
        stream.write_all(rest.as_bytes())?;
        stream.flush()?;
        let mut reply = Vec::new();
        let mut buffer = [0; 1024];
        while !reply.ends_with(b"\r\n\r\nok\n") {
            let length = stream.read(&mut buffer)?;
            if length == 0 {
                bail!("answer ended after {} bytes: {:?}", reply.len(), String::from_utf8_lossy(&reply).lines().next());
            }
            reply.extend_from_slice(&buffer[..length]);
            // a proxy that refuses keeps the connection
            if reply.windows(4).any(|w| w == b"\r\n\r\n") && !reply.starts_with(b"HTTP/1.1 200") {
                bail!("{}", String::from_utf8_lossy(&reply).lines().next().unwrap_or_default());
            }
        }
        Ok(())
    }
}

/// Says that nothing more comes, and waits for the other side to say the same.
fn finish(mut stream: &TcpStream) -> Result<()> {
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest)?;
    Ok(())
}

/// A connection that may cut its first write in two.
struct Socket {
    stream: TcpStream,
    split: bool,
}

impl std::io::Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if std::mem::take(&mut self.split) && bytes.len() > 1 {
            let (first, _) = bytes.split_at(bytes.len() / 2);
            self.stream.write_all(first)?;
            thread::sleep(SPLIT_GAP);
            return Ok(first.len());
        }
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}
