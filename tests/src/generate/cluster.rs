//! What Kubernetes has: namespaces, pods, Services, EndpointSlices, and the mesh's own configuration.

use serde_json::{Map, Value, json};

use super::pools::NAMESPACES;
use super::{Draft, Front, Plain, Theme};

/// Labels that rules and selectors ask for.
pub(super) const CLIENTS: [(&str, &str, &str, &str); 6] = [
    // namespace, name, address, label
    ("shop", "web", "10.1.1.10", "no"),
    ("shop", "cron", "10.1.1.11", "yes"),
    ("bank", "ledger", "10.1.2.10", "yes"),
    ("edge", "probe", "10.1.3.10", "no"),
    ("tools", "ci", "10.1.4.10", "no"),
    ("istio-system", "check", "10.1.5.10", "yes"),
];

impl Draft {
    pub(super) fn namespaces(&mut self) {
        for namespace in NAMESPACES {
            let mut labels = json!({"kubernetes.io/metadata.name": namespace, "istio-injection": "enabled"});
            if self.chance.percent(50) {
                labels["team"] = self.chance.of(&["blue", "red"]).into();
            }
            self.add("v1", "Namespace", None, namespace, json!({ "labels": labels }), Value::Null);
        }
    }

    pub(super) fn mesh_config(&mut self, theme: Theme) {
        let mut lines = Vec::new();
        if self.chance.percent(60) {
            let mode = match self.chance.below(10) {
                0..=5 => "REGISTRY_ONLY",
                6..=8 => "ALLOW_ANY",
                _ => "ALLOW_ANY_DYNAMIC_DNS",
            };
            lines.push(format!("outboundTrafficPolicy:\n  mode: {mode}"));
        }
        let share = if theme == Theme::Visibility { 25 } else { 6 };
        for key in ["defaultServiceExportTo", "defaultVirtualServiceExportTo", "defaultDestinationRuleExportTo"] {
            if self.chance.percent(share) {
                let value = self.chance.of(&["[\".\"]", "[\"*\"]", "[\"edge\", \".\"]", "[\"shop\"]"]);
                lines.push(format!("{key}: {value}"));
            }
        }
        if self.chance.percent(10) {
            lines.push("enableAutoMtls: false".to_owned());
        }
        if self.chance.percent(20) {
            let more = if self.chance.percent(50) { "\n    ISTIO_META_DNS_AUTO_ALLOCATE: \"true\"" } else { "" };
            lines.push(format!("defaultConfig:\n  proxyMetadata:\n    ISTIO_META_DNS_CAPTURE: \"true\"{more}"));
        }
        if self.chance.percent(6) {
            lines.push("rootNamespace: tools".to_owned());
        }
        if self.chance.percent(10) {
            lines.push("trustDomain: mesh.example".to_owned());
        }
        let text = if lines.is_empty() { "{}\n".to_owned() } else { lines.join("\n") + "\n" };
        if self.chance.percent(95) {
            self.add("v1", "ConfigMap", Some("istio-system"), "istio", Value::Null, json!({"data": {"mesh": text}}));
        }
        let switches = [
            ("PILOT_SCOPE_GATEWAY_TO_NAMESPACE", "true"),
            ("PILOT_ENABLE_IP_AUTOALLOCATE", "false"),
            ("PILOT_SIDECAR_PICK_BEST_SERVICE_NAMESPACE", "false"),
            ("PILOT_FILTER_GATEWAY_CLUSTER_CONFIG", "true"),
        ];
        for (name, value) in switches {
            if self.chance.percent(4) {
                self.features.insert(name.into(), value.into());
            }
        }
    }

    fn pod(&mut self, namespace: &str, name: &str, address: &str, labels: Value, proxy: Option<&str>) {
        let mut labels = labels;
        let mut annotations = json!({});
        let mut containers = Vec::new();
        if proxy != Some("router") {
            containers.push(json!({"name": "app", "image": "example/app:1"}));
        }
        if let Some(role) = proxy {
            containers.push(json!({"name": "istio-proxy", "image": "example/proxy:1", "args": ["proxy", role]}));
            if role == "sidecar" {
                annotations["sidecar.istio.io/status"] =
                    "{\"containers\":[\"istio-proxy\"],\"revision\":\"default\"}".into();
                labels["security.istio.io/tlsMode"] = "istio".into();
                if self.chance.percent(8) {
                    annotations["proxy.istio.io/config"] =
                        "proxyMetadata:\n  ISTIO_META_DNS_CAPTURE: \"true\"\n".into();
                }
            }
        }
        let ready = if self.chance.percent(95) { "True" } else { "False" };
        self.add(
            "v1",
            "Pod",
            Some(namespace),
            name,
            json!({"labels": labels, "annotations": annotations}),
            json!({
                "spec": {"containers": containers, "serviceAccountName": "default", "nodeName": "node-1"},
                "status": {
                    "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
                    "conditions": [{"type": "Ready", "status": ready}],
                },
            }),
        );
    }

    fn service(&mut self, namespace: &'static str, name: &str, spec: Value, annotations: Value) {
        self.add(
            "v1",
            "Service",
            Some(namespace),
            name,
            json!({ "annotations": annotations }),
            json!({ "spec": spec }),
        );
    }

    fn slice(&mut self, namespace: &str, service: &str, ports: &[(String, u16)], pods: &[(String, String, bool)]) {
        let ports: Vec<Value> =
            ports.iter().map(|(name, port)| json!({"name": name, "port": port, "protocol": "TCP"})).collect();
        let endpoints: Vec<Value> = pods
            .iter()
            .map(|(address, pod, ready)| {
                json!({
                    "addresses": [address], "conditions": {"ready": ready},
                    "targetRef": {"kind": "Pod", "name": pod, "namespace": namespace},
                })
            })
            .collect();
        self.add(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            Some(namespace),
            &format!("{service}-x1"),
            json!({"labels": {"kubernetes.io/service-name": service}}),
            json!({"addressType": "IPv4", "ports": ports, "endpoints": endpoints}),
        );
    }

    /// A Service with gateway pods behind it.
    pub(super) fn front(
        &mut self,
        namespace: &'static str,
        service: &str,
        labels: &Value,
        network: &str,
        vip: &str,
        ports: &[(&str, u16, u16)],
    ) {
        let count = if self.chance.percent(25) { 2 } else { 1 };
        let mut behind = Vec::new();
        for n in 0..count {
            let (name, address) = (format!("{service}-{n}"), format!("{network}.{}", n + 1));
            let mut labels = labels.clone();
            if self.chance.percent(30) {
                labels["version"] = self.chance.of(&["v1", "v2"]).into();
            }
            self.pod(namespace, &name, &address, labels, Some("router"));
            let ready = self.chance.percent(96);
            behind.push((address, name, ready));
        }
        let listed: Vec<Value> = ports
            .iter()
            .map(|(name, port, target)| json!({"name": name, "port": port, "targetPort": target, "protocol": "TCP"}))
            .collect();
        let spec =
            json!({"type": "ClusterIP", "clusterIP": vip, "clusterIPs": [vip], "selector": labels, "ports": listed});
        let annotations = self.service_export(6);
        self.service(namespace, service, spec, annotations);
        let targets: Vec<(String, u16)> = ports.iter().map(|(name, _, target)| ((*name).to_owned(), *target)).collect();
        self.slice(namespace, service, &targets, &behind);
        self.fronts.push(Front {
            namespace,
            service: service.to_owned(),
            address: format!("{network}.1"),
            ports: ports.iter().map(|(_, port, target)| (*port, *target)).collect(),
            vip: vip.to_owned(),
        });
    }

    fn service_export(&mut self, share: usize) -> Value {
        if !self.chance.percent(share) {
            return json!({});
        }
        let list = self.chance.of(&[".", "*", "shop,bank", "edge", "~", ".,edge"]);
        json!({"networking.istio.io/exportTo": list})
    }

    pub(super) fn pods_and_services(&mut self, theme: Theme) {
        for (namespace, name, address, label) in CLIENTS {
            let labels = json!({"app": name, "egress": label});
            self.pod(namespace, name, address, labels, Some("sidecar"));
            self.clients.push((namespace, name));
        }
        let (http, tls) = self.chance.of(&[(8080, 8443), (80, 443), (80, 8443)]);
        let first = [("http2", 80, http), ("https", 443, tls), ("tcp", 31400, 31400), ("tls", 15443, 15443)];
        self.front(
            "istio-system",
            "istio-egressgateway",
            &json!({"istio": "egressgateway"}),
            "10.1.8",
            "10.96.0.8",
            &first,
        );
        let db = self.chance.of(&[5432, 6432]);
        let second = [("tls-443", 443, 443), ("http-80", 80, 80), ("tcp-db", 5432, db)];
        self.front("edge", "way-out", &json!({"app": "way-out", "zone": "edge"}), "10.1.9", "10.96.0.9", &second);
        let count = match theme {
            Theme::Services => self.chance.between(2, 4),
            Theme::GatewayApi => self.chance.between(1, 2),
            _ => self.chance.between(0, 2),
        };
        for n in 0..count {
            self.plain(n);
        }
        if self.chance.percent(if theme == Theme::Services { 60 } else { 15 }) {
            self.external_name();
        }
    }

    /// A Service with two pods, one of them perhaps outside of the mesh.
    fn plain(&mut self, n: usize) {
        let namespace = self.chance.of(&["shop", "bank", "tools"]);
        let name = format!("{}{n}", self.chance.of(&["stock", "rates"]));
        let mut behind = Vec::new();
        for (i, version) in ["v1", "v2"].into_iter().enumerate() {
            let (pod, address) = (format!("{name}-{i}"), format!("10.1.7.{}", n * 10 + i + 1));
            let proxy = if self.chance.percent(60) { Some("sidecar") } else { None };
            self.pod(namespace, &pod, &address, json!({"app": name, "version": version}), proxy);
            let ready = self.chance.percent(85);
            behind.push((address, pod, ready));
        }
        let mut numbers = self.pools.ports.clone();
        numbers.truncate(self.chance.between(1, 3));
        let mut ports = Vec::new();
        let mut targets = Vec::new();
        for number in &numbers {
            let word =
                self.chance.of(&["http", "tcp", "https", "tls", "grpc", "mysql", "web", "http2", "mongo", "redis"]);
            let port_name = format!("{word}-{number}");
            let target = number + self.chance.of(&[0, 0, 1000]);
            let mut port = json!({"name": port_name, "port": number, "targetPort": target, "protocol": "TCP"});
            if self.chance.percent(20) {
                let protocol = self.chance.of(&[
                    "http",
                    "https",
                    "tcp",
                    "tls",
                    "kubernetes.io/h2c",
                    "kubernetes.io/ws",
                    "mysql",
                    "other",
                ]);
                port["appProtocol"] = protocol.into();
            }
            ports.push(port);
            targets.push((port_name, target));
        }
        let mut spec = json!({"selector": {"app": name}, "ports": ports});
        if self.chance.percent(25) {
            spec["clusterIP"] = "None".into();
        } else {
            let vip = format!("10.96.1.{}", n + 1);
            spec["clusterIPs"] = json!([vip]);
            spec["clusterIP"] = vip.into();
            spec["type"] = self.chance.of(&["ClusterIP", "ClusterIP", "NodePort"]).into();
        }
        let annotations = self.service_export(25);
        self.service(namespace, &name, spec, annotations);
        if self.chance.percent(92) {
            self.slice(namespace, &name, &targets, &behind);
        }
        self.services.push(Plain { namespace, name, ports: numbers });
    }

    fn external_name(&mut self) {
        let namespace = self.namespace();
        let target = match self.services.first() {
            Some(service) if self.chance.percent(30) => service.host(),
            _ => self.pools.host(&mut self.chance, 0),
        };
        let name = "alias".to_owned();
        let ports = self.pools.ports.clone();
        let listed: Vec<Value> =
            ports.iter().map(|port| json!({"name": format!("tcp-{port}"), "port": port, "protocol": "TCP"})).collect();
        let mut spec = Map::new();
        spec.insert("type".into(), "ExternalName".into());
        spec.insert("externalName".into(), target.into());
        spec.insert("ports".into(), listed.into());
        self.service(namespace, &name, spec.into(), json!({}));
        self.services.push(Plain { namespace, name, ports });
    }
}
