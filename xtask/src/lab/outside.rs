//! The name server of the cluster and the hosts outside of it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE};

use crate::lab::scenario::Host;

/// What a client that talks neither too much nor too little ever needs.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers A records of the names in a file, an empty answer for their other types, NXDOMAIN for the rest.
#[derive(Debug, Args)]
pub(crate) struct Dns {
    /// The address to listen on.
    #[arg(long)]
    listen: Ipv4Addr,
    /// JSON: name → addresses.
    #[arg(long)]
    names: PathBuf,
}

impl Dns {
    pub(crate) fn run(self) -> Result<()> {
        let names: BTreeMap<String, Vec<Ipv4Addr>> = serde_json::from_slice(&std::fs::read(&self.names)?)?;
        let socket = UdpSocket::bind((self.listen, 53)).context("the name server's socket")?;
        ready()?;
        let mut buffer = [0; 1500];
        loop {
            let (length, peer) = socket.recv_from(&mut buffer)?;
            if let Some(reply) = answer(&names, &buffer[..length]) {
                socket.send_to(&reply, peer)?;
            }
        }
    }
}

/// Seconds that an answer may be kept.
const TTL: u32 = 30;

/// A query for the A records of a name.
pub(crate) fn query(name: &str) -> Result<Vec<u8>> {
    let mut packet = Packet::new_query(1);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let question = Question::new(Name::new(name)?, QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN), false);
    packet.questions.push(question);
    Ok(packet.build_bytes_vec()?)
}

/// The first A record of a reply.
pub(crate) fn first_address(reply: &[u8]) -> Option<Ipv4Addr> {
    let reply = Packet::parse(reply).ok()?;
    reply.answers.iter().find_map(|r| match &r.rdata {
        RData::A(a) => Some(Ipv4Addr::from(a.address)),
        _ => None,
    })
}

/// The name that a query is about.
pub(crate) fn asks_for(query: &[u8]) -> Option<String> {
    Some(Packet::parse(query).ok()?.questions.first()?.qname.to_string().to_ascii_lowercase())
}

/// The reply to a query.
pub(crate) fn answer(names: &BTreeMap<String, Vec<Ipv4Addr>>, query: &[u8]) -> Option<Vec<u8>> {
    let query = Packet::parse(query).ok()?;
    let question = query.questions.first()?.clone();
    let mut reply = Packet::new_reply(query.id());
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE | PacketFlag::RECURSION_DESIRED);
    match names.get(&question.qname.to_string().to_ascii_lowercase()) {
        None => *reply.rcode_mut() = RCODE::NameError,
        Some(addresses) if question.qtype == QTYPE::TYPE(TYPE::A) => {
            for address in addresses {
                let record = A { address: (*address).into() };
                reply.answers.push(ResourceRecord::new(question.qname.clone(), CLASS::IN, TTL, RData::A(record)));
            }
        }
        Some(_) => {}
    }
    reply.questions.push(question);
    reply.build_bytes_vec_compressed().ok()
}

/// Hosts that answer: TLS, HTTP or echo, by the first byte that the client sends.
#[derive(Debug, Args)]
pub(crate) struct World {
    /// JSON: the hosts.
    #[arg(long)]
    hosts: PathBuf,
    /// `cert-chain.pem` and `key.pem`.
    #[arg(long)]
    certificates: PathBuf,
}

impl World {
    pub(crate) fn run(self) -> Result<()> {
        let hosts: Vec<Host> = serde_json::from_slice(&std::fs::read(&self.hosts)?)?;
        let mut sinks = Vec::new();
        for host in &hosts {
            let own = self.certificates.join(host.address.to_string());
            let tls = Arc::new(certified(if own.is_dir() { &own } else { &self.certificates })?);
            for port in &host.tcp {
                let listener =
                    TcpListener::bind((host.address, *port)).with_context(|| format!("{}:{port}", host.address))?;
                let tls = tls.clone();
                thread::spawn(move || {
                    for stream in listener.incoming().flatten() {
                        let tls = tls.clone();
                        // a client that misbehaves ends its own connection only
                        thread::spawn(move || serve(stream, tls));
                    }
                });
            }
            for port in &host.udp {
                sinks.push(UdpSocket::bind((host.address, *port))?);
            }
        }
        for sink in sinks {
            thread::spawn(move || {
                let mut buffer = [0; 2048];
                while sink.recv_from(&mut buffer).is_ok() {}
            });
        }
        ready()?;
        loop {
            thread::park();
        }
    }
}

fn certified(folder: &Path) -> Result<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(folder.join("cert-chain.pem"))?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem"))?;
    Ok(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?)
}

fn serve(mut stream: TcpStream, tls: Arc<ServerConfig>) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut first = [0];
    if stream.peek(&mut first)? == 0 {
        return Ok(());
    }
    match first[0] {
        // a TLS record that holds a handshake
        0x16 => {
            let mut stream = StreamOwned::new(ServerConnection::new(tls)?, stream);
            http(&mut stream)?;
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        b'A'..=b'Z' => http(&mut stream)?,
        _ => {
            let mut buffer = [0; 4096];
            loop {
                let length = stream.read(&mut buffer)?;
                if length == 0 {
                    break;
                }
                stream.write_all(&buffer[..length])?;
            }
        }
    }
    Ok(())
}

/// Answers requests until the client closes: a proxy keeps its connection for the next one, and whoever closes first keeps the
/// port busy.
fn http(stream: &mut (impl std::io::Read + std::io::Write)) -> Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..length]);
        while let Some(end) = request.windows(4).position(|w| w == b"\r\n\r\n") {
            request.drain(..end + 4);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")?;
            stream.flush()?;
        }
    }
}

/// Says that it serves.
pub(crate) fn ready() -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready")?;
    out.flush()?;
    Ok(())
}
