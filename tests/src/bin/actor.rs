//! A process that opens sockets on command, in a network namespace and a cgroup of its own.
//!
//! ```text
//! actor [--cgroup DIR] [--netns NAME]
//! ```
//!
//! One command a line on stdin, one answer a line on stdout (`ok …`, or `error` and the errno or what else is wrong), so that tests follow each step without
//! waiting for time to pass. Sockets go by names that the test chooses; `socket` answers the kernel's cookie.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use egress_core::input::Input;
use egress_ebpf::SLOT_COUNT;
use egress_tui::source::bpf;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use rustix::thread::LinkNameSpaceType;
use tokio::sync::mpsc::Receiver;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().context("an option without value");
        match argument.as_str() {
            "--cgroup" => fs::write(PathBuf::from(value()?).join("cgroup.procs"), "0").context("joining the cgroup")?,
            "--netns" => {
                let namespace = File::open(PathBuf::from("/run/netns").join(value()?))?;
                rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            }
            other => bail!("unknown option {other}"),
        }
    }
    let mut actor = Actor::default();
    let mut out = io::stdout().lock();
    writeln!(out, "ok {}", std::process::id())?;
    out.flush()?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match actor.act(&words) {
            Ok(answer) => writeln!(out, "ok {answer}")?,
            Err(error) => match error.downcast_ref::<rustix::io::Errno>() {
                Some(errno) => writeln!(out, "error {}", errno.raw_os_error())?,
                None => writeln!(out, "error {error:#}")?,
            },
        }
        out.flush()?;
    }
    Ok(())
}

#[derive(Default)]
struct Actor {
    sockets: HashMap<String, OwnedFd>,
    capture: Option<(bpf::Running, Receiver<Vec<Input>>)>,
}

impl Actor {
    fn act(&mut self, words: &[&str]) -> Result<String> {
        match words {
            ["socket", name, kind] => self.socket(name, open(kind)?),
            // Opens sockets until one falls on the same slot of the probe's table as that cookie.
            ["socket-beside", name, kind, cookie] => {
                let slot = cookie.parse::<u64>()? % SLOT_COUNT as u64;
                loop {
                    let socket = open(kind)?;
                    if sockopt::socket_cookie(&socket)? % SLOT_COUNT as u64 == slot {
                        return self.socket(name, socket);
                    }
                }
            }
            ["bind", name, to] => {
                sockopt::set_socket_reuseaddr(self.get(name)?, true)?;
                rustix::net::bind(self.get(name)?, &to.parse::<SocketAddr>()?)?;
                self.address(name)
            }
            ["listen", name] => Ok(rustix::net::listen(self.get(name)?, 128).map(|()| String::new())?),
            ["accept", listener, name] => {
                let accepted = rustix::net::accept_with(self.get(listener)?, SocketFlags::CLOEXEC)?;
                let cookie = sockopt::socket_cookie(&accepted)?;
                self.sockets.insert((*name).to_owned(), accepted);
                Ok(cookie.to_string())
            }
            ["connect", name, to] => {
                rustix::net::connect(self.get(name)?, &to.parse::<SocketAddr>()?)?;
                self.address(name)
            }
            ["address", name] => self.address(name),
            ["send", name, bytes] => {
                rustix::net::send(self.get(name)?, &unhex(bytes)?, SendFlags::NOSIGNAL)?;
                Ok(String::new())
            }
            ["sendto", name, to, bytes] => {
                rustix::net::sendto(self.get(name)?, &unhex(bytes)?, SendFlags::empty(), &to.parse::<SocketAddr>()?)?;
                Ok(String::new())
            }
            // Reads exactly so many bytes of a stream.
            ["read", name, count] => {
                let mut bytes = vec![0; count.parse()?];
                let (read, _) = rustix::net::recv(self.get(name)?, bytes.as_mut_slice(), RecvFlags::WAITALL)?;
                Ok(hex(&bytes[..read]))
            }
            // One datagram, and who sent it.
            ["receive", name] => {
                let mut bytes = vec![0; 65_536];
                let (read, _, from) = rustix::net::recvfrom(self.get(name)?, bytes.as_mut_slice(), RecvFlags::empty())?;
                let from: SocketAddr = from.context("a datagram without sender")?.try_into()?;
                Ok(format!("{from} {}", hex(&bytes[..read])))
            }
            ["close", name] => {
                self.sockets.remove(*name).context("no such socket")?;
                Ok(String::new())
            }
            // Connects to a listener of this process, accepts and closes, so many times.
            ["burst", listener, to, count] => {
                for _ in 0..count.parse::<u32>()? {
                    let socket =
                        rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
                    rustix::net::connect(&socket, &to.parse::<SocketAddr>()?)?;
                    drop(rustix::net::accept_with(self.get(listener)?, SocketFlags::CLOEXEC)?);
                }
                Ok(String::new())
            }
            // Captures in this process until it ends.
            ["capture", cgroup] => {
                let (out, inputs) = tokio::sync::mpsc::channel(1024);
                let options = bpf::Options { cgroup_root: Some(cgroup.into()), ..bpf::Options::default() };
                let running = bpf::start(&options, out)?;
                let tier = running.capture.tier.to_string();
                self.capture = Some((running, inputs));
                Ok(tier)
            }
            _ => bail!("unknown command {words:?}"),
        }
    }

    fn socket(&mut self, name: &str, socket: OwnedFd) -> Result<String> {
        let cookie = sockopt::socket_cookie(&socket)?;
        self.sockets.insert(name.to_owned(), socket);
        Ok(cookie.to_string())
    }

    fn get(&self, name: &str) -> Result<&OwnedFd> {
        self.sockets.get(name).with_context(|| format!("no socket {name}"))
    }

    fn address(&self, name: &str) -> Result<String> {
        let address: SocketAddr = rustix::net::getsockname(self.get(name)?)?.try_into()?;
        Ok(address.to_string())
    }
}

fn open(kind: &str) -> Result<OwnedFd> {
    let (family, kind) = match kind {
        "tcp4" => (AddressFamily::INET, SocketType::STREAM),
        "tcp6" => (AddressFamily::INET6, SocketType::STREAM),
        "udp4" => (AddressFamily::INET, SocketType::DGRAM),
        "udp6" => (AddressFamily::INET6, SocketType::DGRAM),
        other => bail!("unknown kind {other}"),
    };
    Ok(rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?)
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    (0..text.len() / 2).map(|i| Ok(u8::from_str_radix(&text[i * 2..i * 2 + 2], 16)?)).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = std::fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
        text
    })
}
