//! DestinationRules, Sidecars, PeerAuthentications.

use serde_json::{Map, Value, json};

use super::pools::NAMESPACES;
use super::{Draft, ISTIO, Theme};

impl Draft {
    pub(super) fn policies(&mut self, theme: Theme) {
        let rules = match theme {
            Theme::Routing | Theme::Gateways => self.chance.between(1, 4),
            _ => self.chance.between(0, 2),
        };
        for _ in 0..rules {
            self.destination_rule();
        }
        if theme == Theme::Visibility || self.chance.percent(25) {
            for _ in 0..self.chance.between(1, 3) {
                self.sidecar();
            }
        }
        if self.chance.percent(12) {
            let mode = self.chance.of(&["STRICT", "PERMISSIVE", "DISABLE"]);
            let (namespace, name) = (self.namespace(), self.named("mtls"));
            let spec = json!({"spec": {"mtls": {"mode": mode}}});
            self.add("security.istio.io/v1", "PeerAuthentication", Some(namespace), &name, Value::Null, spec);
        }
    }

    fn tls(&mut self) -> Value {
        let mode = self.chance.of(&["SIMPLE", "SIMPLE", "ISTIO_MUTUAL", "ISTIO_MUTUAL", "DISABLE", "MUTUAL"]);
        let mut tls = json!({ "mode": mode });
        if mode != "DISABLE" && self.chance.percent(60) {
            tls["sni"] = self.known_host().into();
        }
        if mode == "MUTUAL" {
            tls["clientCertificate"] = "/etc/certs/cert.pem".into();
            tls["privateKey"] = "/etc/certs/key.pem".into();
        }
        tls
    }

    fn traffic_policy(&mut self) -> Value {
        let mut policy = json!({"connectionPool": {"tcp": {"maxConnections": 10}}});
        if self.chance.percent(65) {
            policy = json!({"tls": self.tls()});
        }
        if self.chance.percent(30) {
            let number = self.chance.of(&self.pools.ports);
            let mut setting = json!({"port": {"number": number}});
            if self.chance.percent(75) {
                setting["tls"] = self.tls();
            } else {
                setting["loadBalancer"] = json!({"simple": "ROUND_ROBIN"});
            }
            policy["portLevelSettings"] = json!([setting]);
        }
        if self.chance.percent(6) {
            policy["loadBalancer"] = json!({"simple": self.chance.of(&["PASSTHROUGH", "LEAST_REQUEST"])});
        }
        policy
    }

    fn destination_rule(&mut self) {
        let namespace = self.namespace();
        let host = match self.chance.below(20) {
            0..=8 => self.chance.of(&self.fronts.clone()).host(),
            9..=14 if !self.entries.is_empty() => self.chance.of(&self.entries.clone()).host,
            15..=16 if !self.services.is_empty() => self.chance.of(&self.services.clone()).host(),
            17 => "*.svc.cluster.local".to_owned(),
            18 => "*.istio-system.svc.cluster.local".to_owned(),
            _ => self.pools.host(&mut self.chance, 50),
        };
        let mut spec = Map::new();
        spec.insert("host".into(), host.into());
        if self.chance.percent(70) {
            spec.insert("trafficPolicy".into(), self.traffic_policy());
        }
        if self.chance.percent(65) {
            let mut subsets = Vec::new();
            for name in self.chance.some(&["v1", "v2"], 1, 2) {
                let mut subset = json!({ "name": name });
                if self.chance.percent(55) {
                    subset["labels"] = json!({"version": self.chance.of(&["v1", "v2"])});
                }
                if self.chance.percent(30) {
                    subset["trafficPolicy"] = self.traffic_policy();
                }
                subsets.push(subset);
            }
            spec.insert("subsets".into(), subsets.into());
        }
        if self.chance.percent(8) {
            let labels = self.chance.of(&[json!({"egress": "yes"}), json!({"istio": "egressgateway"})]);
            spec.insert("workloadSelector".into(), json!({ "matchLabels": labels }));
        } else {
            self.exported(namespace, &mut spec, 30, false);
        }
        let name = self.named("dest");
        self.add(ISTIO, "DestinationRule", Some(namespace), &name, Value::Null, json!({ "spec": spec }));
    }

    fn imported(&mut self) -> Vec<String> {
        let mut hosts = Vec::new();
        for _ in 0..self.chance.between(1, 4) {
            let namespace = match self.chance.below(12) {
                0..=2 => ".",
                3..=6 => "*",
                7 => "istio-system",
                8 => "~",
                _ => self.chance.of(&NAMESPACES),
            };
            let host = match self.chance.below(12) {
                0..=4 => "*".to_owned(),
                5..=7 if !self.entries.is_empty() => self.chance.of(&self.entries.clone()).host,
                8 => self.chance.of(&self.fronts.clone()).host(),
                9 => "*.svc.cluster.local".to_owned(),
                _ => self.pools.host(&mut self.chance, 45),
            };
            let exclude = if namespace != "~" && namespace != "*" && self.chance.percent(6) { "~" } else { "" };
            hosts.push(format!("{exclude}{namespace}/{host}"));
        }
        hosts.sort();
        hosts.dedup();
        self.chance.shuffle(&mut hosts);
        hosts
    }

    fn sidecar(&mut self) {
        let namespace = self.chance.of(&["shop", "shop", "bank", "tools", "istio-system", "edge"]);
        let mut spec = Map::new();
        if self.chance.percent(35) {
            let labels = self.chance.of(&[json!({"egress": "yes"}), json!({"app": "web"}), json!({"egress": "no"})]);
            spec.insert("workloadSelector".into(), json!({ "labels": labels }));
        }
        let mut egress = Vec::new();
        let mut taken = Vec::new();
        for n in 0..self.chance.of(&[1, 1, 2, 3]) {
            let mut listener = json!({"hosts": self.imported()});
            if self.chance.percent(35) {
                let number = self.chance.of(&self.pools.ports);
                if taken.contains(&number) {
                    continue;
                }
                taken.push(number);
                let mut port = json!({"number": number, "name": format!("port-{n}")});
                port["protocol"] = self.chance.of(&["HTTP", "TCP", "TLS", "HTTPS", "HTTP_PROXY", "GRPC"]).into();
                listener["port"] = port;
                if self.chance.percent(25) {
                    listener["bind"] = self.chance.of(&["127.0.0.1", "0.0.0.0", "203.0.113.5"]).into();
                }
                if self.chance.percent(12) {
                    listener["captureMode"] = self.chance.of(&["NONE", "IPTABLES", "DEFAULT"]).into();
                }
                egress.insert(0, listener);
            } else if !egress.iter().any(|other: &Value| other.get("port").is_none()) {
                // Validation wants the one without a port last.
                egress.push(listener);
            }
        }
        if !egress.is_empty() && self.chance.percent(92) {
            spec.insert("egress".into(), egress.into());
        }
        if spec.is_empty() || self.chance.percent(50) {
            let mode = self.chance.of(&["REGISTRY_ONLY", "ALLOW_ANY"]);
            let mut policy = json!({ "mode": mode });
            if self.chance.percent(25) {
                let (host, port) = match self.chance.any(&self.entries.clone()) {
                    Some(entry) if self.chance.percent(50) => (entry.host, self.chance.of(&entry.ports)),
                    _ => ("istio-egressgateway.istio-system.svc.cluster.local".to_owned(), 443),
                };
                policy = json!({"mode": "ALLOW_ANY", "egressProxy": {"host": host, "port": {"number": port}}});
                if self.chance.percent(20) {
                    policy["egressProxy"]["subset"] = "v1".into();
                }
            }
            spec.insert("outboundTrafficPolicy".into(), policy);
        }
        let name = self.named("scope");
        self.add(ISTIO, "Sidecar", Some(namespace), &name, Value::Null, json!({ "spec": spec }));
    }
}
