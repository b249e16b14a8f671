//! ServiceEntries and WorkloadEntries.

use serde_json::{Map, Value, json};

use super::pools::full;
use super::{Draft, ISTIO, Registered, Theme};

/// Protocols that several hosts of one entry may share.
const NAMED: [&str; 6] = ["HTTP", "TLS", "HTTPS", "HTTP2", "GRPC", "GRPC-WEB"];

impl Draft {
    pub(super) fn entries(&mut self, theme: Theme) {
        let (low, high) = match theme {
            Theme::Registry => (5, 9),
            Theme::Visibility => (3, 7),
            Theme::Services => (2, 4),
            _ => (2, 6),
        };
        for _ in 0..self.chance.between(low, high) {
            if theme == Theme::Services && self.chance.percent(25) {
                self.entry_of_service();
            } else {
                self.entry(if theme == Theme::Visibility { 60 } else { 25 });
            }
        }
        if self.chance.percent(15) {
            for _ in 0..self.chance.between(1, 2) {
                self.workload_entry();
            }
        }
    }

    fn entry(&mut self, exported: usize) {
        let resolution = self.chance.of(&[
            None,
            Some("NONE"),
            Some("NONE"),
            Some("STATIC"),
            Some("STATIC"),
            Some("DNS"),
            Some("DNS"),
            Some("DNS"),
            Some("DNS_ROUND_ROBIN"),
            Some("DYNAMIC_DNS"),
        ]);
        let none = matches!(resolution, None | Some("NONE"));
        let (wild, dns) = match resolution {
            Some("DYNAMIC_DNS") => (100, false),
            Some("DNS" | "DNS_ROUND_ROBIN") => (0, true),
            _ => (30, false),
        };
        let mut hosts = vec![self.pools.host(&mut self.chance, wild)];
        if self.chance.percent(20) {
            hosts.push(self.pools.host(&mut self.chance, wild));
            hosts.dedup();
        }
        let mut ports = self.entry_ports(resolution == Some("DYNAMIC_DNS"));
        let opaque = |port: &Value| !NAMED.contains(&port["protocol"].as_str().unwrap_or_default());
        if hosts.len() > 1 && ports.iter().any(opaque) {
            hosts.truncate(1);
        }
        if !none && resolution != Some("DYNAMIC_DNS") && self.chance.percent(15) {
            let number = ports[0]["number"].as_u64().unwrap_or_default();
            ports[0]["targetPort"] = (number + 1000).into();
        } else if none && self.chance.percent(8) {
            ports[0]["targetPort"] = 9443.into();
        }
        let mut spec = Map::new();
        spec.insert("hosts".into(), json!(hosts));
        let addresses = self.entry_addresses(resolution, dns);
        if !addresses.is_empty() {
            spec.insert("addresses".into(), json!(addresses));
        }
        spec.insert("ports".into(), json!(ports));
        if let Some(resolution) = resolution {
            spec.insert("resolution".into(), resolution.into());
        }
        match self.chance.below(8) {
            0 if resolution != Some("DYNAMIC_DNS") => drop(spec.insert("location".into(), "MESH_INTERNAL".into())),
            1 | 2 => {}
            _ => drop(spec.insert("location".into(), "MESH_EXTERNAL".into())),
        }
        self.endpoints(&mut spec, resolution, &ports);
        let namespace = self.namespace();
        self.exported(namespace, &mut spec, exported, true);
        let mut status = Value::Null;
        if !none && addresses.is_empty() && self.chance.percent(45) && !hosts.iter().any(|h| h.starts_with('*')) {
            let list: Vec<Value> = hosts
                .iter()
                .map(|host| json!({"host": host, "value": format!("240.240.0.{}", self.chance.between(1, 9))}))
                .collect();
            status = json!({ "addresses": list });
        }
        let labels = if self.chance.percent(4) {
            json!({"labels": {"networking.istio.io/enable-autoallocate-ip": self.chance.of(&["true", "false"])}})
        } else {
            Value::Null
        };
        self.register(namespace, &hosts, &addresses, spec, status, labels);
    }

    fn register(
        &mut self,
        namespace: &'static str,
        hosts: &[String],
        addresses: &[String],
        spec: Map<String, Value>,
        status: Value,
        meta: Value,
    ) {
        let name = self.named("entry");
        let ports: Vec<u16> = spec["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|port| port["number"].as_u64().and_then(|n| u16::try_from(n).ok()))
            .collect();
        let mut rest = json!({ "spec": spec });
        let mut seen: Vec<String> = addresses.to_vec();
        if !status.is_null() {
            for address in status["addresses"].as_array().into_iter().flatten() {
                seen.extend(address["value"].as_str().map(str::to_owned));
            }
            rest["status"] = status;
        }
        let api = self.chance.of(&[ISTIO, ISTIO, "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"]);
        self.add(api, "ServiceEntry", Some(namespace), &name, meta, rest);
        for host in hosts {
            self.entries.push(Registered {
                namespace,
                entry: name.clone(),
                host: host.clone(),
                ports: ports.clone(),
                addresses: seen.clone(),
            });
        }
    }

    fn entry_ports(&mut self, dynamic: bool) -> Vec<Value> {
        let mut ports = Vec::new();
        for number in self.chance.some(&self.pools.ports.clone(), 1, 3) {
            let usual = match number {
                80 | 8080 => "HTTP",
                443 | 8443 | 15443 => "TLS",
                _ => "TCP",
            };
            let protocol = if dynamic {
                self.chance.of(&["HTTP", "TLS", "GRPC", "HTTP2"])
            } else if self.chance.percent(50) {
                usual
            } else {
                self.chance.of(&[
                    "HTTP",
                    "TLS",
                    "TCP",
                    "HTTPS",
                    "GRPC",
                    "HTTP2",
                    "MONGO",
                    "MYSQL",
                    "REDIS",
                    "GRPC-WEB",
                    "UDP",
                    "",
                    "",
                    "HTTP_PROXY",
                ])
            };
            let name = self.chance.of(&["port", "http", "tls"]);
            let mut port = json!({"number": number, "name": format!("{name}-{number}")});
            if !protocol.is_empty() {
                port["protocol"] =
                    if self.chance.percent(4) { protocol.to_lowercase().into() } else { protocol.into() };
            }
            ports.push(port);
        }
        ports
    }

    fn entry_addresses(&mut self, resolution: Option<&str>, dns: bool) -> Vec<String> {
        if resolution == Some("DYNAMIC_DNS") || !self.chance.percent(45) {
            return Vec::new();
        }
        let mut all: Vec<&str> = self.pools.addresses.clone();
        if !dns {
            all.extend(&self.pools.ranges);
            all.extend(&self.pools.ranges);
        }
        let high = if self.ties { 2 } else { 1 };
        let mut list: Vec<String> = self.chance.some(&all, 1, high).into_iter().map(str::to_owned).collect();
        list.dedup();
        list
    }

    fn endpoints(&mut self, spec: &mut Map<String, Value>, resolution: Option<&str>, ports: &[Value]) {
        let fixed = resolution == Some("STATIC");
        let named = matches!(resolution, Some("DNS" | "DNS_ROUND_ROBIN"));
        if !(fixed || named && self.chance.percent(40)) {
            return;
        }
        if resolution != Some("DNS_ROUND_ROBIN") && self.chance.percent(12) {
            let app = self.chance.of(&["vm", "stock0", "web"]);
            spec.insert("workloadSelector".into(), json!({"labels": {"app": app}}));
            return;
        }
        let high = if resolution == Some("DNS_ROUND_ROBIN") { 1 } else { 2 };
        let mut list = Vec::new();
        for _ in 0..self.chance.between(1, high) {
            let mut endpoint = if fixed || self.chance.percent(30) {
                json!({"address": format!("192.0.2.{}", self.chance.between(1, 9))})
            } else {
                json!({"address": self.chance.of(&["one.example.org", "two.example.org"])})
            };
            if self.chance.percent(30) {
                endpoint["labels"] = json!({"version": self.chance.of(&["v1", "v2"])});
            }
            if self.chance.percent(15) {
                let name = ports[0]["name"].as_str().unwrap_or_default().to_owned();
                endpoint["ports"] = json!({name: self.chance.between(2000, 2003)});
            }
            list.push(endpoint);
        }
        spec.insert("endpoints".into(), list.into());
    }

    /// An entry whose host is that of a Service.
    fn entry_of_service(&mut self) {
        let Some(service) = self.chance.any(&self.services.clone()) else { return self.entry(25) };
        let protocol = self.chance.of(&["HTTP", "TCP", "TLS"]);
        let number = self.chance.of(&service.ports);
        let mut spec = Map::new();
        spec.insert("hosts".into(), json!([service.host()]));
        spec.insert("ports".into(), json!([{"number": number, "name": "port", "protocol": protocol}]));
        spec.insert("resolution".into(), "STATIC".into());
        spec.insert("endpoints".into(), json!([{"address": "192.0.2.77"}]));
        let addresses =
            if self.chance.percent(50) { vec![self.chance.of(&self.pools.addresses).to_owned()] } else { vec![] };
        if !addresses.is_empty() {
            spec.insert("addresses".into(), json!(addresses));
        }
        let namespace = self.namespace();
        self.exported(namespace, &mut spec, 40, false);
        self.register(namespace, &[service.host()], &addresses, spec, Value::Null, Value::Null);
    }

    fn workload_entry(&mut self) {
        let mut spec = json!({
            "address": format!("192.0.2.{}", self.chance.between(100, 109)),
            "labels": {"app": self.chance.of(&["vm", "stock0"]), "version": self.chance.of(&["v1", "v2"])},
        });
        if self.chance.percent(30) {
            spec["ports"] = json!({"port-443": 9443});
        }
        let (namespace, name) = (self.namespace(), self.named("vm"));
        self.add(ISTIO, "WorkloadEntry", Some(namespace), &name, Value::Null, json!({ "spec": spec }));
    }

    /// A host that something registered, a full name of it.
    pub(super) fn known_host(&mut self) -> String {
        match self.chance.any(&self.entries.clone()) {
            Some(entry) if self.chance.percent(85) => full(&entry.host, "any"),
            _ => self.pools.host(&mut self.chance, 0),
        }
    }
}
