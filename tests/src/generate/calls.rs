//! Calls: what the mesh declares, moved by one step.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::pools::full;
use super::{Draft, Front};

impl Draft {
    pub(super) fn calls(&mut self, count: usize) -> Vec<Value> {
        (1..=count)
            .map(|n| {
                let mut call = if self.chance.percent(78) { self.outbound() } else { self.at_gateway() };
                call["id"] = format!("c{n}").into();
                call
            })
            .collect()
    }

    /// An address in, at the ends of, or right after what an entry declares.
    fn address(&mut self, declared: &[String]) -> String {
        match self.chance.any(declared) {
            Some(address) if self.chance.percent(75) => match address.split_once('/') {
                None => address,
                Some((first, bits)) => {
                    let first = first.parse().map(Ipv4Addr::to_bits).unwrap_or_default();
                    let size = 1u32 << (32 - bits.parse::<u32>().unwrap_or(32).clamp(1, 32));
                    let step = self.chance.of(&[0, size / 2, size - 1, size, u32::MAX]);
                    Ipv4Addr::from_bits(first.wrapping_add(step)).to_string()
                }
            },
            _ => match self.chance.below(12) {
                0..=5 => "192.0.2.200".to_owned(),
                6 => self.chance.of(&self.fronts.clone()).vip,
                7 => self.chance.of(&["10.96.1.1", "10.96.1.2", "10.96.1.3"]).to_owned(),
                8 => self.chance.of(&["10.1.7.1", "10.1.7.2", "10.1.7.11"]).to_owned(),
                9 => format!("192.0.2.{}", self.chance.between(1, 9)),
                10 => format!("240.240.0.{}", self.chance.between(1, 9)),
                _ => self.chance.of(&self.pools.addresses).to_owned(),
            },
        }
    }

    /// The name, one below it, one beside it, the one above it, or one that only looks like it.
    fn near(&mut self, host: &str) -> String {
        let name = full(host, "any");
        match self.chance.below(24) {
            0..=14 => name,
            15 => full(host, "x.y"),
            16 => format!("sub.{name}"),
            17 => name.split_once('.').map_or(name.clone(), |(_, above)| above.to_owned()),
            18 => name.to_uppercase(),
            19 => format!("q{name}"),
            20 => name.split('.').next().unwrap_or_default().to_owned(),
            21 => name.split('.').take(2).collect::<Vec<_>>().join("."),
            _ => self.pools.host(&mut self.chance, 0),
        }
    }

    fn wanted(&mut self) -> (String, Vec<u16>, Vec<String>) {
        match self.chance.below(20) {
            0..=8 if !self.entries.is_empty() => {
                let entry = self.chance.of(&self.entries.clone());
                (entry.host, entry.ports, entry.addresses)
            }
            9..=14 if !self.routed.is_empty() => {
                let host = self.chance.of(&self.routed.clone());
                let same: Vec<_> = self.entries.iter().filter(|e| e.host == host).cloned().collect();
                let entry = self.chance.any(&same);
                let ports = entry.as_ref().map_or_else(|| self.pools.ports.clone(), |e| e.ports.clone());
                (host, ports, entry.map(|e| e.addresses).unwrap_or_default())
            }
            15 | 16 if !self.services.is_empty() => {
                let service = self.chance.of(&self.services.clone());
                (service.host(), service.ports, Vec::new())
            }
            17 => {
                let front = self.chance.of(&self.fronts.clone());
                (front.host(), front.ports.iter().map(|p| p.0).collect(), vec![front.vip])
            }
            _ => (self.pools.host(&mut self.chance, 0), self.pools.ports.clone(), Vec::new()),
        }
    }

    /// Bytes that suit the port, most of the time.
    fn payload(&mut self, port: u16) -> &'static str {
        let usual = match port {
            80 | 8080 => "http",
            443 | 8443 | 15443 | 9443 => "tls",
            _ => "opaque",
        };
        if self.chance.percent(65) { usual } else { self.chance.of(&["tls", "http", "http2", "opaque"]) }
    }

    fn line(&mut self, from: String, leg: &str, to: String, payload: &str, host: &str) -> Value {
        let mut call = json!({
            "id": "", "from": from, "leg": leg, "to": to, "protocol": "tcp", "payload": payload,
            "sni": null, "host": null, "path": null, "container": null, "uid": null,
        });
        match payload {
            "tls" if self.chance.percent(94) => call["sni"] = self.near(host).into(),
            "http" | "http2" => {
                if self.chance.percent(95) {
                    let mut name = self.near(host);
                    if self.chance.percent(8) {
                        let port = to.rsplit(':').next().unwrap_or_default();
                        name = format!("{name}:{port}");
                    }
                    call["host"] = name.into();
                }
                call["path"] = self.chance.of(&["/", "/", "/v1", "/v1/x", "/v12", "/V1", "/other"]).into();
            }
            _ => {}
        }
        call
    }

    fn outbound(&mut self) -> Value {
        let (namespace, pod) = self.chance.of(&self.clients.clone());
        let way = self.chance.any(&self.ways.clone()).filter(|_| self.chance.percent(40));
        let (host, ports, addresses) = match &way {
            Some(way) => (way.entry.host.clone(), vec![way.port], way.entry.addresses.clone()),
            None => self.wanted(),
        };
        let port = if self.chance.percent(88) { self.chance.of(&ports) } else { self.chance.of(&self.pools.ports) };
        let address = self.address(&addresses);
        let payload = match way {
            Some(way) if self.chance.percent(85) => way.payload(),
            _ => self.payload(port),
        };
        self.line(format!("{namespace}/{pod}"), "outbound", format!("{address}:{port}"), payload, &host)
    }

    fn at_gateway(&mut self) -> Value {
        let way = self.chance.any(&self.ways.clone()).filter(|_| self.chance.percent(65));
        if let Some(way) = way {
            let payload = if self.chance.percent(85) { way.payload() } else { self.payload(way.server) };
            return self.arriving(&way.front, way.target(), payload, &way.entry.host);
        }
        let front = self.chance.of(&self.fronts.clone());
        let served: Vec<u16> = self.gateways.iter().flat_map(|g| g.ports.clone()).collect();
        let mut ports = front.ports.clone();
        if self.chance.percent(80) {
            ports.retain(|(port, target)| served.contains(port) || served.contains(target));
        }
        let (port, target) = self.chance.any(&ports).unwrap_or(front.ports[0]);
        let server = match self.chance.any(&self.gateways.clone()) {
            Some(gateway) if self.chance.percent(50) => Some(gateway),
            _ => None,
        };
        let host = match (server, self.chance.any(&self.kube_gateways.clone())) {
            (Some(gateway), _) => self.chance.any(&gateway.hosts).filter(|h| h != "*"),
            (None, Some(gateway)) if self.chance.percent(50) => self.chance.of(&gateway.listeners).2,
            _ => None,
        };
        let host = match host {
            Some(host) => host,
            None => self.wanted().0,
        };
        let payload = self.payload(port);
        self.arriving(&front, target, payload, &host)
    }

    fn arriving(&mut self, front: &Front, target: u16, payload: &str, host: &str) -> Value {
        let from = format!("{}/{}-0", front.namespace, front.service);
        let mut call = self.line(from, "gateway", format!("{}:{target}", front.address), payload, host);
        if payload == "tls" && !call["sni"].is_null() && self.chance.percent(45) {
            call["host"] = if self.chance.percent(85) { call["sni"].clone() } else { self.near(host).into() };
            call["path"] = self.chance.of(&["/", "/v1", "/v1/x"]).into();
        }
        call
    }
}
