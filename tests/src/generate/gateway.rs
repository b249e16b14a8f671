//! Gateways: servers that share pods, ports and hosts.

use serde_json::{Value, json};

use super::pools::NAMESPACES;
use super::{Draft, Front, ISTIO, Served, Theme};

impl Draft {
    pub(super) fn gateways(&mut self, theme: Theme) {
        let (low, high) = match theme {
            Theme::Gateways => (3, 5),
            Theme::GatewayApi => (0, 1),
            _ => (1, 3),
        };
        for _ in 0..self.chance.between(low, high) {
            self.gateway();
        }
    }

    fn gateway(&mut self) {
        let namespace = self.namespace();
        let mut servers = Vec::new();
        let mut ports = Vec::new();
        let mut hosts = Vec::new();
        for n in 0..self.chance.between(1, 3) {
            let port = self.chance.of(&[80, 80, 443, 443, 443, 5432, 31400, 15443, 8080, 8443]);
            let (server, named) = self.server(n, port);
            servers.push(server);
            ports.push(port);
            hosts.extend(named);
        }
        let selector = match self.chance.below(20) {
            0..=8 => json!({"istio": "egressgateway"}),
            9..=14 => json!({"app": "way-out"}),
            15 | 16 => json!({"zone": "edge"}),
            17 => json!({"app": "way-out", "version": "v1"}),
            18 => json!({"istio": "nobody"}),
            _ => Value::Null,
        };
        let mut spec = json!({ "servers": servers });
        if !selector.is_null() {
            spec["selector"] = selector;
        }
        let name = self.named("gate");
        self.add(ISTIO, "Gateway", Some(namespace), &name, Value::Null, json!({ "spec": spec }));
        self.gateways.push(Served { namespace, name, hosts, ports });
    }

    /// A Gateway made for one host, on a port that the front's Service has: the server's port, and whether its clients must speak
    /// Istio's mutual TLS.
    pub(super) fn gateway_for(
        &mut self,
        namespace: &'static str,
        front: &Front,
        kind: &str,
        host: &str,
    ) -> (Served, bool) {
        let (protocol, mode) = match kind {
            "http" => self.chance.of(&[
                ("HTTP", ""),
                ("HTTP", ""),
                ("HTTP", ""),
                ("HTTPS", "ISTIO_MUTUAL"),
                ("HTTPS", "SIMPLE"),
            ]),
            "tls" => self.chance.of(&[("TLS", "PASSTHROUGH"), ("TLS", "PASSTHROUGH"), ("HTTPS", "PASSTHROUGH")]),
            _ => self.chance.of(&[("TCP", ""), ("TCP", ""), ("TLS", "ISTIO_MUTUAL"), ("TLS", "SIMPLE")]),
        };
        let usual = match (kind, mode) {
            ("http", "") => 80,
            ("tcp", "") => front.ports.last().map_or(5432, |p| p.0),
            _ => 443,
        };
        let port = if self.chance.percent(85) { usual } else { self.chance.of(&front.ports).0 };
        let wider = host.split_once('.').map(|(_, above)| format!("*.{above}")).filter(|w| w.matches('.').count() > 1);
        let served = match (self.chance.below(8), wider) {
            (0..=3, _) => host.to_owned(),
            (4 | 5, Some(wider)) => wider,
            (6, _) => format!("{namespace}/{host}"),
            _ => "*".to_owned(),
        };
        let mut server = json!({"port": {"number": port, "name": "way", "protocol": protocol}, "hosts": [served]});
        if !mode.is_empty() {
            server["tls"] = json!({ "mode": mode });
            if mode == "SIMPLE" {
                server["tls"]["credentialName"] = "cert".into();
            }
        }
        let selector =
            if front.service == "way-out" { json!({"app": "way-out"}) } else { json!({"istio": "egressgateway"}) };
        let name = self.named("gate");
        let spec = json!({"spec": {"selector": selector, "servers": [server]}});
        self.add(ISTIO, "Gateway", Some(namespace), &name, Value::Null, spec);
        let bare = served.rsplit('/').next().unwrap_or_default().to_owned();
        let served = Served { namespace, name, hosts: vec![bare], ports: vec![port] };
        self.gateways.push(served.clone());
        (served, mode == "ISTIO_MUTUAL")
    }

    /// A server and its hosts without their namespaces.
    fn server(&mut self, n: usize, port: u16) -> (Value, Vec<String>) {
        let usual = match port {
            80 | 8080 => "HTTP",
            443 | 15443 => "TLS",
            8443 => "HTTPS",
            _ => "TCP",
        };
        let protocol = if self.chance.percent(65) {
            usual
        } else {
            self.chance.of(&["HTTP", "TLS", "TCP", "HTTPS", "HTTP2", "GRPC", "MONGO", "HTTP"])
        };
        let mut hosts = Vec::new();
        let mut bare = Vec::new();
        for _ in 0..self.chance.of(&[1, 1, 1, 2, 3]) {
            let host = if self.chance.percent(25) {
                "*".to_owned()
            } else if self.chance.percent(10) && !self.services.is_empty() {
                self.chance.of(&self.services.clone()).host()
            } else {
                self.pools.host(&mut self.chance, 35)
            };
            let prefix = match self.chance.below(10) {
                0 => "./".to_owned(),
                1 => "*/".to_owned(),
                2 => format!("{}/", self.chance.of(&NAMESPACES)),
                _ => String::new(),
            };
            if !bare.contains(&host) {
                hosts.push(format!("{prefix}{host}"));
                bare.push(host);
            }
        }
        let name = format!("{}-{port}-{n}", protocol.to_lowercase());
        let mut server = json!({"port": {"number": port, "name": name, "protocol": protocol}, "hosts": hosts});
        if matches!(protocol, "TLS" | "HTTPS") {
            let mode = self.chance.of(&[
                "PASSTHROUGH",
                "PASSTHROUGH",
                "PASSTHROUGH",
                "SIMPLE",
                "SIMPLE",
                "ISTIO_MUTUAL",
                "ISTIO_MUTUAL",
                "MUTUAL",
                "OPTIONAL_MUTUAL",
                "AUTO_PASSTHROUGH",
            ]);
            let mut tls = json!({ "mode": mode });
            if matches!(mode, "SIMPLE" | "MUTUAL" | "OPTIONAL_MUTUAL") {
                tls["credentialName"] = "cert".into();
            }
            server["tls"] = tls;
        } else if protocol == "HTTP" && self.chance.percent(12) {
            server["tls"] = json!({"httpsRedirect": true});
        }
        if self.chance.percent(4) {
            server["bind"] = self.chance.of(&["10.1.8.1", "127.0.0.1", "0.0.0.0"]).into();
        }
        (server, bare)
    }
}
