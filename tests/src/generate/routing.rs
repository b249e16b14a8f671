//! VirtualServices: rules of three kinds, delegates, gateways.

use serde_json::{Map, Value, json};

use super::pools::{NAMESPACES, covers};
use super::{Draft, Front, ISTIO, Theme, Way};

const PATHS: [(&str, &str); 6] =
    [("prefix", "/"), ("prefix", "/v1"), ("prefix", "/v1/"), ("exact", "/v1"), ("regex", "/v[0-9]+"), ("regex", "/.*")];

impl Draft {
    pub(super) fn routes(&mut self, theme: Theme) {
        let main = theme == Theme::Routing;
        if self.chance.percent(if main { 50 } else { 12 }) {
            for _ in 0..self.chance.between(1, 2) {
                self.delegate();
            }
        }
        let (low, high) = match theme {
            Theme::Routing => (4, 8),
            Theme::Gateways => (3, 6),
            Theme::Registry | Theme::GatewayApi => (0, 3),
            _ => (1, 5),
        };
        for _ in 0..self.chance.between(low, high) {
            if self.chance.percent(60) { self.two_legs() } else { self.virtual_service() }
        }
    }

    /// The published pattern: one VirtualService, mesh to the gateway, gateway to the host; perhaps with one thing wrong.
    fn two_legs(&mut self) {
        let Some(entry) = self.chance.any(&self.entries.clone()) else { return self.virtual_service() };
        let port = self.chance.of(&entry.ports);
        let kind = match port {
            80 | 8080 => "http",
            443 | 8443 | 15443 => "tls",
            _ => "tcp",
        };
        let kind = if self.chance.percent(85) { kind } else { self.chance.of(&["http", "tls", "tcp"]) };
        // The two that Gateways select.
        let fronts = self.fronts[..2].to_vec();
        let front = self.chance.of(&fronts);
        let namespace = self.chance.of(&[entry.namespace, front.namespace, "shop"]);
        let (gateway, mutual) = match self.chance.any(&self.gateways.clone()) {
            Some(gateway) if self.chance.percent(25) => (gateway, false),
            _ => self.gateway_for(namespace, &front, kind, &entry.host),
        };
        let reference = format!("{}/{}", gateway.namespace, gateway.name);
        let server = self.chance.of(&gateway.ports);
        let subset = mutual && self.chance.percent(85);
        if subset {
            self.mutual_rule(&front, &entry.host);
        }
        let to_gateway = |chance: &mut super::Chance| {
            let mut destination = json!({"host": front.host()});
            if chance.percent(85) {
                let near: Vec<u16> = front.ports.iter().map(|p| p.0).filter(|p| *p == server).collect();
                let port = chance.any(&near).unwrap_or(front.ports[0].0);
                destination["port"] = json!({ "number": port });
            }
            if subset {
                destination["subset"] = "mutual".into();
            } else if chance.percent(8) {
                destination["subset"] = chance.of(&["v1", "v2"]).into();
            }
            json!([{ "destination": destination }])
        };
        let away = json!([{"destination": {"host": entry.host, "port": {"number": port}}}]);
        let mut first = json!({"gateways": ["mesh"], "port": port});
        let mut second = json!({"gateways": [reference], "port": server});
        if kind == "tls" {
            first["sniHosts"] = json!([entry.host]);
            second["sniHosts"] = json!([entry.host]);
        }
        if kind == "tcp" && self.chance.percent(20) {
            first["destinationSubnets"] = json!([self.chance.of(&self.pools.ranges)]);
        }
        for side in [&mut first, &mut second] {
            if self.chance.percent(8) {
                let gone = self.chance.of(&["gateways", "port"]);
                side.as_object_mut().map(|side| side.remove(gone));
            }
        }
        self.source(&mut first, 20);
        let route = to_gateway(&mut self.chance);
        let mut rules = vec![json!({"match": [first], "route": route}), json!({"match": [second], "route": away})];
        if self.chance.percent(12) {
            self.chance.shuffle(&mut rules);
        }
        let mut gateways = vec![json!("mesh"), json!(reference)];
        if self.chance.percent(8) {
            let at = self.chance.below(2);
            gateways.remove(at);
        }
        let mut spec = Map::new();
        spec.insert("hosts".into(), json!([entry.host]));
        spec.insert("gateways".into(), gateways.into());
        spec.insert(kind.into(), rules.into());
        self.exported(namespace, &mut spec, 30, false);
        self.routed.push(entry.host.clone());
        self.ways.push(Way { front, server, kind, entry, port });
        let name = self.named("way");
        self.add(ISTIO, "VirtualService", Some(namespace), &name, Value::Null, json!({ "spec": spec }));
    }

    /// Clients of this front speak Istio's mutual TLS where they ask for the subset.
    fn mutual_rule(&mut self, front: &Front, sni: &str) {
        let mut tls = json!({"mode": "ISTIO_MUTUAL"});
        if self.chance.percent(75) && !sni.starts_with('*') {
            tls["sni"] = sni.into();
        }
        let mut policy = json!({ "tls": tls });
        if self.chance.percent(40) {
            policy = json!({"portLevelSettings": [{"port": {"number": 443}, "tls": tls}]});
        }
        let spec = json!({"spec": {"host": front.host(), "subsets": [{"name": "mutual", "trafficPolicy": policy}]}});
        let namespace = self.chance.of(&[front.namespace, front.namespace, front.namespace, "shop"]);
        let name = self.named("dest");
        self.add(ISTIO, "DestinationRule", Some(namespace), &name, Value::Null, spec);
    }

    fn virtual_service(&mut self) {
        let namespace = self.namespace();
        let gateways = self.gateway_names(namespace);
        let hosts = self.route_hosts(namespace, &gateways);
        let mut spec = Map::new();
        spec.insert("hosts".into(), json!(hosts));
        if !gateways.is_empty() {
            spec.insert("gateways".into(), json!(gateways));
        }
        for kind in self.chance.some(&["http", "http", "tls", "tcp"], 1, 2) {
            let count = self.chance.of(&[1, 1, 2, 3]);
            let rules: Vec<Value> = (0..count)
                .map(|_| match kind {
                    "http" => self.http_rule(namespace, &gateways, true),
                    "tls" => self.tls_rule(namespace, &gateways, &hosts),
                    _ => self.tcp_rule(namespace, &gateways),
                })
                .collect();
            spec.insert(kind.into(), rules.into());
        }
        self.exported(namespace, &mut spec, 30, false);
        self.routed.extend(hosts);
        let name = self.named("rules");
        self.add(ISTIO, "VirtualService", Some(namespace), &name, Value::Null, json!({ "spec": spec }));
    }

    fn delegate(&mut self) {
        let namespace = self.namespace();
        let rules: Vec<Value> = (0..self.chance.between(1, 2)).map(|_| self.http_rule(namespace, &[], false)).collect();
        let mut spec = Map::new();
        spec.insert("http".into(), rules.into());
        self.exported(namespace, &mut spec, 30, false);
        let name = self.named("part");
        self.add(ISTIO, "VirtualService", Some(namespace), &name, Value::Null, json!({ "spec": spec }));
        self.delegates.push((namespace, name));
    }

    fn gateway_names(&mut self, namespace: &str) -> Vec<String> {
        let mut names = Vec::new();
        if self.chance.percent(75) {
            names.push("mesh".to_owned());
        }
        for gateway in self.chance.some(&self.gateways.clone(), 0, 2) {
            names.push(if gateway.namespace == namespace && self.chance.percent(50) {
                gateway.name
            } else {
                format!("{}/{}", gateway.namespace, gateway.name)
            });
        }
        names
    }

    /// Names that do not cover each other, as validation demands.
    fn route_hosts(&mut self, namespace: &str, gateways: &[String]) -> Vec<String> {
        let mut hosts: Vec<String> = Vec::new();
        for _ in 0..self.chance.of(&[1, 1, 1, 2, 3]) {
            let host = match self.chance.below(20) {
                0..=8 if !self.entries.is_empty() => self.chance.of(&self.entries.clone()).host,
                9..=11 if !self.services.is_empty() => {
                    let service = self.chance.of(&self.services.clone());
                    if service.namespace == namespace && self.chance.percent(40) {
                        service.name
                    } else {
                        service.host()
                    }
                }
                12 if !gateways.is_empty() && !gateways.iter().any(|g| g == "mesh") => "*".to_owned(),
                13 => self.chance.of(&self.fronts.clone()).host(),
                14 => "*.svc.cluster.local".to_owned(),
                15..=16 if !self.gateways.is_empty() => {
                    let mut list = self.chance.of(&self.gateways.clone()).hosts;
                    list.retain(|h| h != "*");
                    self.chance.any(&list).unwrap_or_else(|| self.pools.host(&mut self.chance, 35))
                }
                _ => self.pools.host(&mut self.chance, 40),
            };
            if !hosts.iter().any(|other| covers(other, &host) || covers(&host, other)) {
                hosts.push(host);
            }
        }
        hosts
    }

    fn source(&mut self, part: &mut Value, share: usize) {
        if self.chance.percent(share) {
            part["sourceLabels"] = self.chance.of(&[
                json!({"egress": "yes"}),
                json!({"egress": "no"}),
                json!({"app": "web"}),
                json!({"app": "cron", "egress": "yes"}),
            ]);
        }
        if self.chance.percent(share / 2) {
            part["sourceNamespace"] = self.chance.of(&NAMESPACES).into();
        }
    }

    fn destination(&mut self, namespace: &str) -> Value {
        let (host, ports) = match self.chance.below(20) {
            0..=4 => {
                let front = self.chance.of(&self.fronts.clone());
                let host = match self.chance.below(8) {
                    0 => front.service.clone(),
                    1 => format!("{}.{}", front.service, front.namespace),
                    _ => front.host(),
                };
                let served: Vec<u16> = self.gateways.iter().flat_map(|g| g.ports.clone()).collect();
                let mut ports: Vec<u16> = front.ports.iter().map(|p| p.0).collect();
                if ports.iter().any(|p| served.contains(p)) && self.chance.percent(75) {
                    ports.retain(|p| served.contains(p));
                }
                (host, ports)
            }
            5..=14 if !self.entries.is_empty() => {
                let entry = self.chance.of(&self.entries.clone());
                (entry.host, entry.ports)
            }
            15..=18 if !self.services.is_empty() => {
                let service = self.chance.of(&self.services.clone());
                let short = service.namespace == namespace && self.chance.percent(40);
                (if short { service.name.clone() } else { service.host() }, service.ports)
            }
            _ => (self.pools.host(&mut self.chance, 10), self.pools.ports.clone()),
        };
        let mut destination = json!({ "host": host });
        if self.chance.percent(70) {
            let port = if self.chance.percent(85) { self.chance.of(&ports) } else { self.chance.of(&self.pools.ports) };
            destination["port"] = json!({ "number": port });
        }
        if self.chance.percent(12) {
            destination["subset"] = self.chance.of(&["v1", "v2"]).into();
        }
        destination
    }

    fn targets(&mut self, namespace: &str) -> Vec<Value> {
        let count = self.chance.of(&[1, 1, 1, 1, 2]);
        let mut targets = Vec::new();
        for n in 0..count {
            let mut target = json!({"destination": self.destination(namespace)});
            if count > 1 {
                target["weight"] =
                    if n == 0 { self.chance.of(&[50, 90, 100]) } else { self.chance.of(&[0, 10, 50]) }.into();
            }
            targets.push(target);
        }
        targets
    }

    fn http_rule(&mut self, namespace: &str, gateways: &[String], root: bool) -> Value {
        let mut rule = Map::new();
        if self.chance.percent(65) {
            let mut matches = Vec::new();
            for _ in 0..self.chance.of(&[1, 1, 2]) {
                let mut part = json!({});
                if self.chance.percent(45) {
                    let (kind, value) = self.chance.of(&PATHS);
                    part["uri"] = json!({ kind: value });
                    if self.chance.percent(8) {
                        part["ignoreUriCase"] = true.into();
                    }
                }
                if self.chance.percent(6) {
                    let host = self.known_host();
                    part["authority"] = json!({self.chance.of(&["exact", "prefix"]): host});
                }
                self.match_parts(&mut part, gateways);
                matches.push(part);
            }
            rule.insert("match".into(), matches.into());
        }
        match self.chance.below(24) {
            0 => {
                let redirect = self
                    .chance
                    .of(&[json!({"uri": "/new"}), json!({"authority": "other.example.com", "redirectCode": 302})]);
                rule.insert("redirect".into(), redirect);
            }
            1 => {
                rule.insert("directResponse".into(), json!({"status": self.chance.of(&[200, 418, 503])}));
            }
            2..=5 if root && !self.delegates.is_empty() => {
                let (home, name) = self.chance.of(&self.delegates.clone());
                let mut delegate = json!({ "name": name });
                if home != namespace || self.chance.percent(50) {
                    delegate["namespace"] = home.into();
                }
                rule.insert("delegate".into(), delegate);
            }
            _ => {
                rule.insert("route".into(), self.targets(namespace).into());
                match self.chance.below(12) {
                    0 | 1 => {
                        let host = self.known_host();
                        rule.insert("rewrite".into(), json!({ "authority": host }));
                    }
                    2 => {
                        rule.insert("rewrite".into(), json!({"uri": "/x"}));
                    }
                    _ => {}
                }
            }
        }
        rule.into()
    }

    /// What all three kinds of rules can ask for.
    fn match_parts(&mut self, part: &mut Value, gateways: &[String]) {
        if self.chance.percent(45) {
            part["port"] = self.chance.of(&self.pools.ports).into();
        }
        if !gateways.is_empty() && self.chance.percent(40) {
            part["gateways"] = json!(self.chance.some(gateways, 1, 2));
        }
        self.source(part, 20);
    }

    fn tls_rule(&mut self, namespace: &str, gateways: &[String], hosts: &[String]) -> Value {
        let mut matches = Vec::new();
        for _ in 0..self.chance.of(&[1, 1, 2]) {
            let host = self.chance.of(hosts);
            let below: Vec<&str> =
                self.pools.hosts.iter().copied().filter(|h| *h != host && covers(&host, h)).collect();
            let name = match self.chance.any(&below) {
                Some(name) if self.chance.percent(50) => name.to_owned(),
                _ => host,
            };
            let mut part = json!({"sniHosts": [name]});
            if self.chance.percent(10) {
                part["destinationSubnets"] = self.subnets();
            }
            self.match_parts(&mut part, gateways);
            matches.push(part);
        }
        json!({"match": matches, "route": self.targets(namespace)})
    }

    fn tcp_rule(&mut self, namespace: &str, gateways: &[String]) -> Value {
        let mut rule = json!({"route": self.targets(namespace)});
        if self.chance.percent(70) {
            let mut matches = Vec::new();
            for _ in 0..self.chance.of(&[1, 1, 2]) {
                let mut part = json!({});
                if self.chance.percent(20) {
                    part["destinationSubnets"] = self.subnets();
                }
                self.match_parts(&mut part, gateways);
                matches.push(part);
            }
            rule["match"] = matches.into();
        }
        rule
    }

    fn subnets(&mut self) -> Value {
        let mut all: Vec<&str> = self.pools.ranges.clone();
        all.extend(&self.pools.addresses);
        json!(self.chance.some(&all, 1, 2))
    }
}
