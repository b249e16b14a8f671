//! Gateway API: Gateways, routes of four kinds, ReferenceGrants.

use serde_json::{Map, Value, json};

use super::{Draft, KubeGateway, Theme};

const GROUP: &str = "gateway.networking.k8s.io";

impl Draft {
    pub(super) fn gateway_api(&mut self, theme: Theme) {
        let main = theme == Theme::GatewayApi;
        if !main && !self.chance.percent(12) {
            return;
        }
        if self.chance.percent(40) {
            let spec = json!({"spec": {"controllerName": "istio.io/gateway-controller"}});
            self.add(&format!("{GROUP}/v1"), "GatewayClass", None, "istio", Value::Null, spec);
        }
        for n in 0..self.chance.between(1, 2) {
            self.kube_gateway(n);
        }
        if self.chance.percent(45) {
            self.grant();
        }
        for _ in 0..if main { self.chance.between(3, 6) } else { self.chance.between(1, 3) } {
            self.kube_route();
        }
    }

    fn kube_gateway(&mut self, n: usize) {
        let namespace = self.chance.of(&["edge", "istio-system", "shop"]);
        let name = self.named("out");
        let mut listeners = Vec::new();
        let mut facts = Vec::new();
        for i in 0..self.chance.between(1, 3) {
            let (port, protocol) = self.chance.of(&[
                (80, "HTTP"),
                (80, "HTTP"),
                (443, "TLS"),
                (443, "HTTPS"),
                (5432, "TCP"),
                (31400, "TCP"),
                (8080, "HTTP"),
                (15443, "TLS"),
            ]);
            let listener = format!("part-{i}");
            let hostname = if protocol != "TCP" && self.chance.percent(50) {
                Some(self.pools.host(&mut self.chance, 45))
            } else {
                None
            };
            let mut item = json!({"name": listener, "port": port, "protocol": protocol});
            if let Some(host) = &hostname {
                item["hostname"] = host.as_str().into();
            }
            let terminate = protocol == "HTTPS" || (protocol == "TLS" && self.chance.percent(25));
            if terminate {
                item["tls"] = json!({"mode": "Terminate", "certificateRefs": [{"name": "cert"}]});
            } else if protocol == "TLS" {
                item["tls"] = json!({"mode": "Passthrough"});
            }
            if self.chance.percent(75) {
                let mut allowed = match self.chance.below(4) {
                    0 | 1 => json!({"namespaces": {"from": "All"}}),
                    2 => json!({"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "blue"}}}}),
                    _ => json!({"namespaces": {"from": "Same"}}),
                };
                if self.chance.percent(12) {
                    let kind = self.chance.of(&["HTTPRoute", "TLSRoute", "TCPRoute", "GRPCRoute"]);
                    allowed["kinds"] = json!([{ "kind": kind }]);
                }
                item["allowedRoutes"] = allowed;
            }
            facts.push((listener, port, hostname));
            listeners.push(item);
        }
        let class = if self.chance.percent(94) { "istio" } else { "other" };
        let mut spec = json!({"gatewayClassName": class, "listeners": listeners});
        match self.chance.below(10) {
            0..=3 => {
                let front = self.chance.of(&self.fronts.clone());
                spec["addresses"] = json!([{"type": "Hostname", "value": front.host()}]);
            }
            4 => spec["addresses"] = json!([{"type": "Hostname", "value": "istio-egressgateway"}]),
            _ => {
                // What the controller would deploy.
                let mut numbers: Vec<u16> = facts.iter().map(|f| f.1).collect();
                numbers.sort_unstable();
                numbers.dedup();
                let named: Vec<(String, u16)> = numbers.iter().map(|p| (format!("port-{p}"), *p)).collect();
                let ports: Vec<(&str, u16, u16)> = named.iter().map(|(name, p)| (name.as_str(), *p, *p)).collect();
                let labels = json!({"gateway.networking.k8s.io/gateway-name": name});
                let (network, vip) = (format!("10.1.{}", 20 + n), format!("10.96.0.{}", 20 + n));
                self.front(namespace, &format!("{name}-istio"), &labels, &network, &vip, &ports);
            }
        }
        self.add(&format!("{GROUP}/v1"), "Gateway", Some(namespace), &name, Value::Null, json!({ "spec": spec }));
        self.kube_gateways.push(KubeGateway { namespace, name, listeners: facts });
    }

    fn grant(&mut self) {
        let from = json!([{
            "group": GROUP,
            "kind": self.chance.of(&["HTTPRoute", "HTTPRoute", "TLSRoute", "TCPRoute", "GRPCRoute"]),
            "namespace": self.namespace(),
        }]);
        let namespace = self.chance.of(&["edge", "istio-system", "shop", "bank"]);
        let mut to = json!({"group": "", "kind": "Service"});
        if self.chance.percent(40) {
            let names: Vec<String> = self.services.iter().map(|s| s.name.clone()).collect();
            to["name"] = self.chance.any(&names).unwrap_or_else(|| "way-out".to_owned()).into();
        }
        let name = self.named("grant");
        let spec = json!({"spec": {"from": from, "to": [to]}});
        self.add(&format!("{GROUP}/v1beta1"), "ReferenceGrant", Some(namespace), &name, Value::Null, spec);
    }

    fn parent(&mut self, namespace: &str) -> Value {
        let mut parent = Map::new();
        let choice = self.chance.below(20);
        let owner;
        if let (Some(gateway), 0..=10) = (self.chance.any(&self.kube_gateways.clone()), choice) {
            if self.chance.percent(50) {
                parent.insert("group".into(), GROUP.into());
                parent.insert("kind".into(), "Gateway".into());
            }
            parent.insert("name".into(), gateway.name.into());
            if self.chance.percent(30) {
                let named = self.chance.of(&gateway.listeners).0;
                parent
                    .insert("sectionName".into(), if self.chance.percent(90) { named.into() } else { "absent".into() });
            }
            if self.chance.percent(20) {
                parent.insert("port".into(), self.chance.of(&gateway.listeners).1.into());
            }
            owner = gateway.namespace;
        } else if let (Some(entry), 11..=16) = (self.chance.any(&self.entries.clone()), choice) {
            parent.insert("group".into(), "networking.istio.io".into());
            parent.insert("kind".into(), "ServiceEntry".into());
            parent.insert("name".into(), entry.entry.into());
            if self.chance.percent(50) {
                parent.insert("port".into(), self.chance.of(&entry.ports).into());
            }
            owner = entry.namespace;
        } else {
            let (name, home, ports) = match self.chance.any(&self.services.clone()) {
                Some(service) if self.chance.percent(80) => (service.name, service.namespace, service.ports),
                _ => ("istio-egressgateway".to_owned(), "istio-system", vec![80, 443]),
            };
            parent.insert("group".into(), "".into());
            parent.insert("kind".into(), "Service".into());
            parent.insert("name".into(), name.into());
            if self.chance.percent(50) {
                parent.insert("port".into(), self.chance.of(&ports).into());
            }
            owner = home;
        }
        if owner != namespace || self.chance.percent(30) {
            parent.insert("namespace".into(), owner.into());
        }
        parent.into()
    }

    fn backend(&mut self, namespace: &str) -> Value {
        let choice = self.chance.below(20);
        let (name, home, ports) = match choice {
            0..=7 => {
                let front = self.chance.of(&self.fronts.clone());
                (front.service, front.namespace, front.ports.iter().map(|p| p.0).collect())
            }
            8..=14 if !self.entries.is_empty() => {
                let entry = self.chance.of(&self.entries.clone());
                let port = self.chance.of(&entry.ports);
                let mut backend =
                    json!({"group": "networking.istio.io", "kind": "Hostname", "name": entry.host, "port": port});
                if self.chance.percent(5) {
                    backend["namespace"] = entry.namespace.into();
                }
                return backend;
            }
            15 => ("absent".to_owned(), "bank", vec![80]),
            _ => match self.chance.any(&self.services.clone()) {
                Some(service) => (service.name, service.namespace, service.ports),
                None => ("way-out".to_owned(), "edge", vec![80, 443]),
            },
        };
        let port = if self.chance.percent(85) { self.chance.of(&ports) } else { self.chance.of(&self.pools.ports) };
        let mut backend = json!({"name": name, "port": port});
        if home != namespace && self.chance.percent(92) {
            backend["namespace"] = home.into();
        }
        backend
    }

    fn kube_route(&mut self) {
        let namespace = self.namespace();
        let kind =
            self.chance.of(&["HTTPRoute", "HTTPRoute", "HTTPRoute", "TLSRoute", "TLSRoute", "TCPRoute", "GRPCRoute"]);
        let parents: Vec<Value> = (0..self.chance.of(&[1, 1, 2])).map(|_| self.parent(namespace)).collect();
        let mut spec = json!({ "parentRefs": parents });
        if kind == "TLSRoute" || (kind != "TCPRoute" && self.chance.percent(60)) {
            let mut hosts: Vec<String> =
                (0..self.chance.of(&[1, 1, 2])).map(|_| self.pools.host(&mut self.chance, 30)).collect();
            hosts.dedup();
            self.routed.extend(hosts.iter().cloned());
            spec["hostnames"] = json!(hosts);
        }
        let count = if matches!(kind, "HTTPRoute" | "GRPCRoute") { self.chance.of(&[1, 1, 2, 3]) } else { 1 };
        let rules: Vec<Value> = (0..count).map(|_| self.kube_rule(kind, namespace)).collect();
        spec["rules"] = rules.into();
        let version = match kind {
            "HTTPRoute" => self.chance.of(&["v1", "v1beta1"]),
            _ => "v1",
        };
        let name = self.named("route");
        self.add(&format!("{GROUP}/{version}"), kind, Some(namespace), &name, Value::Null, json!({ "spec": spec }));
    }

    fn kube_rule(&mut self, kind: &str, namespace: &str) -> Value {
        let count = self.chance.of(if kind == "HTTPRoute" { &[1, 1, 1, 2, 0] } else { &[1, 1, 2, 1, 1] });
        let mut backends = Vec::new();
        for _ in 0..count {
            let mut backend = self.backend(namespace);
            if self.chance.percent(25) {
                backend["weight"] = self.chance.of(&[0, 1, 9]).into();
            }
            backends.push(backend);
        }
        let mut rule = json!({ "backendRefs": backends });
        match kind {
            "HTTPRoute" => self.http_rule_parts(&mut rule),
            "GRPCRoute" if self.chance.percent(40) => {
                let method = self.chance.of(&[
                    json!({"service": "v1", "method": "x"}),
                    json!({"service": "v1"}),
                    json!({"type": "RegularExpression", "service": "v.*"}),
                ]);
                rule["matches"] = json!([{ "method": method }]);
            }
            _ => {}
        }
        rule
    }

    fn http_rule_parts(&mut self, rule: &mut Value) {
        // The default that the API server fills in is written out: files have no API server.
        let paths = [
            ("PathPrefix", "/"),
            ("PathPrefix", "/v1"),
            ("PathPrefix", "/v1/"),
            ("Exact", "/v1"),
            ("RegularExpression", "/v[0-9]+"),
        ];
        let count = self.chance.of(&[1, 1, 2]);
        let matches: Vec<Value> = (0..count)
            .map(|_| {
                let (kind, value) = if self.chance.percent(45) { paths[0] } else { self.chance.of(&paths) };
                json!({"path": {"type": kind, "value": value}})
            })
            .collect();
        rule["matches"] = matches.into();
        match self.chance.below(16) {
            0 => {
                let redirect = self.chance.of(&[
                    json!({"scheme": "https"}),
                    json!({"hostname": "other.example.com", "statusCode": 302}),
                    json!({"port": 8443, "statusCode": 301}),
                ]);
                rule["filters"] = json!([{"type": "RequestRedirect", "requestRedirect": redirect}]);
                if let Some(rule) = rule.as_object_mut() {
                    rule.remove("backendRefs");
                }
            }
            1 | 2 => {
                let host = self.known_host();
                rule["filters"] = json!([{"type": "URLRewrite", "urlRewrite": {"hostname": host}}]);
            }
            _ => {}
        }
    }
}
