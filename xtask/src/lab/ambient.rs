//! Stand-ins for ztunnel and for a waypoint, which no Envoy can be: sockets at the places where theirs are.
//!
//! ```text
//!  pod's namespace                                                waypoint's namespace
//!  app ──▶ :15001 accepted by ztunnel ──▶ (marked) ──tunnel──▶ :15008 waypoint ──▶ host outside
//! ```
//!
//! ztunnel is one process of a pod of its own that opens sockets in other pods' network namespaces, so the cgroup of such a
//! socket is not the pod's. The tunnel is TLS with an HTTP CONNECT in it, one for each connection: HBONE is HTTP/2 and is
//! shared. What happens to a connection is written in the scenario, not computed.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};
use serde::{Deserialize, Serialize};

use crate::lab::outside;

/// The group of ztunnel's process, whose sockets are not redirected to it again. The real one marks them (0x539, the same number).
pub(crate) const GROUP: u32 = 0x539;
/// Where connections of the pod are redirected to, and its DNS queries.
pub(crate) const PORT: u16 = 15001;
pub(crate) const DNS_PORT: u16 = 15053;
/// Where a waypoint takes tunnels.
const TUNNELS: u16 = 15008;
/// What a client that talks neither too much nor too little ever needs.
const PATIENCE: Duration = Duration::from_secs(10);

/// An address that stands for a host outside.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vip {
    /// The host.
    pub(crate) host: String,
    /// `status.addresses` of its ServiceEntry.
    pub(crate) address: Ipv4Addr,
    /// Ports of the entry.
    pub(crate) ports: Vec<u16>,
    /// The waypoint's pod; none: ztunnel goes there itself.
    #[serde(default)]
    pub(crate) waypoint: Option<Ipv4Addr>,
}

/// One ztunnel for all pods of the node.
#[derive(Debug, Args)]
pub(crate) struct Ztunnel {
    /// JSON: the addresses that it knows.
    #[arg(long)]
    vips: PathBuf,
    /// The cluster's name server.
    #[arg(long)]
    resolver: Ipv4Addr,
    /// Processes that hold the pods' network namespaces.
    #[arg(required = true)]
    pods: Vec<i32>,
}

impl Ztunnel {
    pub(crate) fn run(self) -> Result<()> {
        let vips: Arc<[Vip]> = vips(&self.vips)?.into();
        for pid in &self.pods {
            let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
            let (vips, resolver) = (vips.clone(), self.resolver);
            // a thread's namespace is that of the threads it starts
            let opened = thread::spawn(move || -> Result<()> {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
                let names = UdpSocket::bind((Ipv4Addr::LOCALHOST, DNS_PORT))?;
                let known = vips.clone();
                thread::spawn(move || answer_names(&names, &known, resolver));
                thread::spawn(move || {
                    for stream in listener.incoming().flatten() {
                        let vips = vips.clone();
                        // a client that misbehaves ends its own connection only
                        thread::spawn(move || take(stream, &vips, resolver));
                    }
                });
                Ok(())
            });
            match opened.join() {
                Ok(done) => done.with_context(|| format!("the namespace of process {pid}"))?,
                Err(_) => bail!("the namespace of process {pid}"),
            }
        }
        outside::ready()?;
        loop {
            thread::park();
        }
    }
}

fn vips(file: &Path) -> Result<Vec<Vip>> {
    Ok(serde_json::from_slice(&std::fs::read(file)?)?)
}

/// One connection of an application.
fn take(app: TcpStream, vips: &[Vip], resolver: Ipv4Addr) -> Result<()> {
    let to = rustix::net::sockopt::ip_original_dst(&app)?;
    let Some(vip) = vips.iter().find(|v| v.address == *to.ip()) else {
        return plain(app, TcpStream::connect_timeout(&to.into(), PATIENCE)?);
    };
    let Some(waypoint) = vip.waypoint else {
        if !vip.ports.contains(&to.port()) {
            return Ok(());
        }
        let ip = look_up(&vip.host, resolver)?;
        return plain(app, TcpStream::connect_timeout(&SocketAddr::from((ip, to.port())), PATIENCE)?);
    };
    let tunnel = TcpStream::connect_timeout(&SocketAddr::from((waypoint, TUNNELS)), PATIENCE)?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file("/etc/certs/root-cert.pem")?)?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::from(std::net::IpAddr::from(waypoint));
    let mut connection = ClientConnection::new(Arc::new(config), name)?;
    let mut socket = &tunnel;
    let mut stream = rustls::Stream::new(&mut connection, &mut socket);
    write_line(&mut stream, &format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n"))?;
    if !head(&mut stream)?.starts_with("HTTP/1.1 200") {
        return Ok(());
    }
    relay(Connection::Client(connection), &tunnel, &app)
}

/// Asks the cluster's name server, as a query that is not redirected.
fn look_up(host: &str, resolver: Ipv4Addr) -> Result<Ipv4Addr> {
    let query = outside::query(host)?;
    let reply = forward(&query, resolver)?;
    outside::first_address(&reply).with_context(|| format!("{host} has no address"))
}

fn forward(query: &[u8], resolver: Ipv4Addr) -> Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((resolver, 53))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(query)?;
    let mut buffer = [0; 1500];
    let length = socket.recv(&mut buffer)?;
    Ok(buffer[..length].to_vec())
}

/// ztunnel's DNS: hosts of entries have the addresses that stand for them.
fn answer_names(socket: &UdpSocket, vips: &[Vip], resolver: Ipv4Addr) -> Result<()> {
    let names = vips.iter().map(|v| (v.host.clone(), vec![v.address])).collect();
    let mut buffer = [0; 1500];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer)?;
        let query = &buffer[..length];
        let own = outside::asks_for(query).is_some_and(|name| vips.iter().any(|v| v.host == name));
        let reply = if own { outside::answer(&names, query) } else { forward(query, resolver).ok() };
        if let Some(reply) = reply {
            socket.send_to(&reply, peer)?;
        }
    }
}

/// A waypoint of one lab: takes tunnels, and dials the host behind the address that the tunnel is for.
#[derive(Debug, Args)]
pub(crate) struct Waypoint {
    /// JSON: the addresses that it knows.
    #[arg(long)]
    vips: PathBuf,
}

impl Waypoint {
    pub(crate) fn run(self) -> Result<()> {
        let vips: Arc<[Vip]> = vips(&self.vips)?.into();
        let chain = CertificateDer::pem_file_iter("/etc/certs/cert-chain.pem")?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file("/etc/certs/key.pem")?;
        let config = Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?);
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, TUNNELS))?;
        outside::ready()?;
        for stream in listener.incoming().flatten() {
            let (vips, config) = (vips.clone(), config.clone());
            thread::spawn(move || pass(&stream, &vips, config));
        }
        Ok(())
    }
}

fn pass(tunnel: &TcpStream, vips: &[Vip], config: Arc<ServerConfig>) -> Result<()> {
    tunnel.set_read_timeout(Some(PATIENCE))?;
    let mut connection = ServerConnection::new(config)?;
    let mut socket = tunnel;
    let mut stream = rustls::Stream::new(&mut connection, &mut socket);
    let asked = head(&mut stream)?;
    let target: SocketAddrV4 = asked.split(' ').nth(1).context("no target")?.parse()?;
    let Some(vip) = vips.iter().find(|v| v.address == *target.ip() && v.ports.contains(&target.port())) else {
        return write_line(&mut stream, "HTTP/1.1 404 Not Found\r\n\r\n");
    };
    let to = (vip.host.as_str(), target.port()).to_socket_addrs()?.next().context("no address")?;
    let outside = TcpStream::connect_timeout(&to, PATIENCE)?;
    write_line(&mut stream, "HTTP/1.1 200 OK\r\n\r\n")?;
    relay(Connection::Server(connection), tunnel, &outside)
}

fn write_line(stream: &mut impl Write, text: &str) -> Result<()> {
    stream.write_all(text.as_bytes())?;
    Ok(stream.flush()?)
}

/// The first line of a head; the lines after it are read, too. Nothing follows it before it is answered.
fn head(stream: &mut impl Read) -> Result<String> {
    let mut lines = BufReader::with_capacity(1, stream);
    let mut first = String::new();
    lines.read_line(&mut first)?;
    let mut rest = String::new();
    while lines.read_line(&mut rest)? > 2 {
        rest.clear();
    }
    Ok(first)
}

/// Both directions in the clear.
fn plain(app: TcpStream, upstream: TcpStream) -> Result<()> {
    let (mut from, mut to) = (app.try_clone()?, upstream.try_clone()?);
    let there = thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let (mut from, mut to) = (upstream, app);
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    let _ = there.join();
    Ok(())
}

/// Both directions, one of them inside TLS.
fn relay(mut tls: Connection, mut tunnel: &TcpStream, mut clear: &TcpStream) -> Result<()> {
    tunnel.set_nonblocking(true)?;
    clear.set_nonblocking(true)?;
    let mut buffer = [0; 16_384];
    let (mut from_tunnel, mut from_clear) = (true, true);
    while from_tunnel || from_clear || tls.wants_write() {
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, from_tunnel);
        wanted.set(PollFlags::OUT, tls.wants_write());
        let clear_wanted = if from_clear { PollFlags::IN } else { PollFlags::empty() };
        let (tunnel_fd, clear_fd) = (tunnel.as_fd(), clear.as_fd());
        let mut both = [PollFd::from_borrowed_fd(tunnel_fd, wanted), PollFd::from_borrowed_fd(clear_fd, clear_wanted)];
        let limit = rustix::time::Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
        if poll(&mut both, Some(&limit))? == 0 {
            return Ok(());
        }
        if tls.wants_write() {
            match tls.write_tls(&mut tunnel) {
                Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => return Err(e.into()),
                _ => {}
            }
        }
        if from_tunnel {
            from_tunnel = match tls.read_tls(&mut tunnel) {
                Ok(length) => length > 0,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => true,
                Err(_) => false,
            };
            let state = tls.process_new_packets()?;
            let length = state.plaintext_bytes_to_read().min(buffer.len());
            tls.reader().read_exact(&mut buffer[..length])?;
            write_all(clear, &buffer[..length])?;
            if state.peer_has_closed() || !from_tunnel {
                from_tunnel = false;
                let _ = clear.shutdown(Shutdown::Write);
            }
        }
        if from_clear {
            match clear.read(&mut buffer) {
                Ok(0) => {
                    from_clear = false;
                    tls.send_close_notify();
                }
                Ok(length) => tls.writer().write_all(&buffer[..length])?,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => from_clear = false,
            }
        }
    }
    Ok(())
}

/// Writes all, waiting where the other side is slow.
fn write_all(mut stream: &TcpStream, bytes: &[u8]) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.write_all(bytes)?;
    Ok(stream.set_nonblocking(true)?)
}
