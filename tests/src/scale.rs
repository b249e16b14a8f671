//! A mesh of any size, always the same for the same size and seed, as `kubectl get -o yaml` would print it, and calls that
//! reach into all of it: exact hosts, wildcards, ranges, allocated addresses, gateways, and what nobody registered.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use egress_core::input::Transport;
use egress_core::mesh::{Bytes, Call, CallLeg, Mesh, PodIndex};

/// How many of each kind.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// ServiceEntries.
    pub entries: u32,
    /// VirtualServices.
    pub virtual_services: u32,
    /// Sidecars.
    pub sidecars: u32,
    /// Endpoints in all EndpointSlices.
    pub endpoints: u32,
    /// Pods with a sidecar.
    pub pods: u32,
    /// Namespaces.
    pub namespaces: u32,
}

impl Size {
    /// The size that the budgets are for, scaled by its number of ServiceEntries.
    pub fn of(entries: u32) -> Self {
        Self {
            entries,
            virtual_services: entries / 2,
            sidecars: entries / 20,
            endpoints: entries * 5,
            pods: entries / 5,
            namespaces: (entries / 50).max(1),
        }
    }

    fn services(self) -> u32 {
        self.pods.max(1)
    }
}

/// SplitMix64: a generator of its own, so that the mesh does not change with a library.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u32) -> u32 {
        (self.roll() % u64::from(n.max(1))) as u32
    }
}

/// What an entry is about, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Tls,
    HttpAndTls,
    Range,
    Static,
    Wildcard,
    Private,
    Named,
}

fn sort(i: u32) -> Sort {
    match i % 10 {
        0..=3 => Sort::Tls,
        4 => Sort::HttpAndTls,
        5 => Sort::Range,
        6 => Sort::Static,
        7 => Sort::Wildcard,
        8 => Sort::Private,
        _ => Sort::Named,
    }
}

fn host(i: u32) -> String {
    match sort(i) {
        Sort::Wildcard => format!("*.zone{i}.example.net"),
        Sort::Range | Sort::Static => format!("db{i}.internal.example.org"),
        _ => format!("api{i}.vendor{}.example.com", i % 500),
    }
}

/// The namespace of an entry, a VirtualService, a pod or a Service.
fn namespace(size: Size, i: u32) -> String {
    format!("team-{:03}", i % size.namespaces)
}

/// An address for number `i` below a first byte.
fn ip(first: u8, i: u32) -> Ipv4Addr {
    let [_, b, c, d] = i.to_be_bytes();
    Ipv4Addr::new(first, b, c, d)
}

struct Writer {
    dice: Dice,
    text: String,
    files: Vec<(String, String)>,
}

impl Writer {
    fn object(
        &mut self,
        api: &str,
        kind: &str,
        namespace: &str,
        name: &str,
        labels: &[(&str, &str)],
        annotations: &[(&str, &str)],
    ) {
        let (second, uid, version) = (self.dice.below(86_400), self.dice.roll(), self.dice.below(90_000_000));
        let text = &mut self.text;
        let _ = writeln!(text, "---\napiVersion: {api}\nkind: {kind}\nmetadata:");
        if !annotations.is_empty() {
            let _ = writeln!(text, "  annotations:");
            for (key, value) in annotations {
                let _ = writeln!(text, "    {key}: {value}");
            }
        }
        let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
        let _ = writeln!(
            text,
            "  creationTimestamp: \"2025-03-{:02}T{h:02}:{m:02}:{s:02}Z\"\n  generation: 1",
            1 + version % 28
        );
        if !labels.is_empty() {
            let _ = writeln!(text, "  labels:");
            for (key, value) in labels {
                let _ = writeln!(text, "    {key}: {value}");
            }
        }
        let _ = writeln!(text, "  name: {name}");
        if !namespace.is_empty() {
            let _ = writeln!(text, "  namespace: {namespace}");
        }
        let high = uid >> 32;
        let _ = writeln!(
            text,
            "  resourceVersion: \"{version}\"\n  uid: {high:08x}-0000-4000-8000-{:012x}",
            uid & 0xffff_ffff_ffff
        );
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn list(&mut self, indent: &str, key: &str, items: &[String]) {
        let _ = writeln!(self.text, "{indent}{key}:");
        for item in items {
            let _ = writeln!(self.text, "{indent}- {item}");
        }
    }

    fn file(&mut self, name: &str) {
        self.files.push((name.to_owned(), std::mem::take(&mut self.text)));
    }
}

/// Files of the mesh: name and text.
pub fn files(size: Size, seed: u64) -> Vec<(String, String)> {
    let mut out = Writer { dice: Dice(seed), text: String::new(), files: Vec::new() };
    cluster(&mut out, size);
    for i in 0..size.entries {
        entry(&mut out, size, i);
    }
    out.file("serviceentries.yaml");
    for i in 0..size.virtual_services {
        virtual_service(&mut out, size, i);
    }
    out.file("virtualservices.yaml");
    for i in 0..size.entries / 5 {
        destination_rule(&mut out, size, i);
    }
    out.file("destinationrules.yaml");
    for i in 0..size.sidecars {
        sidecar(&mut out, size, i);
    }
    out.file("sidecars.yaml");
    for i in 0..size.services() {
        service(&mut out, size, i);
    }
    out.file("services.yaml");
    for i in 0..size.pods {
        pod(&mut out, size, i);
    }
    out.file("pods.yaml");
    out.files
}

/// How many Gateways share the hosts that lead to the gateway.
fn gateways(size: Size) -> u32 {
    (size.entries / 100).clamp(1, 40)
}

fn cluster(out: &mut Writer, size: Size) {
    for i in 0..size.namespaces {
        let name = namespace(size, i);
        out.object(
            "v1",
            "Namespace",
            "",
            &name,
            &[("istio-injection", "enabled"), ("kubernetes.io/metadata.name", &name)],
            &[],
        );
    }
    out.object("v1", "Namespace", "", "istio-system", &[("kubernetes.io/metadata.name", "istio-system")], &[]);
    out.object("v1", "ConfigMap", "istio-system", "istio", &[], &[]);
    out.line("data:\n  mesh: |\n    outboundTrafficPolicy:\n      mode: ALLOW_ANY\n    defaultConfig:\n      proxyMetadata:\n        ISTIO_META_DNS_CAPTURE: \"true\"");
    for i in 0..3 {
        let name = format!("istio-egressgateway-7c9d-{i}");
        out.object(
            "v1",
            "Pod",
            "istio-system",
            &name,
            &[("app", "istio-egressgateway"), ("istio", "egressgateway")],
            &[],
        );
        let address = ip(10, 0xff_0000 + i);
        let _ = writeln!(
            out.text,
            "spec:\n  containers:\n  - args:\n    - proxy\n    - router\n    image: docker.io/istio/proxyv2:1.31.0\n    name: istio-proxy\n  nodeName: node-{i}\nstatus:\n  phase: Running\n  podIP: {address}"
        );
    }
    out.object("v1", "Service", "istio-system", "istio-egressgateway", &[], &[]);
    out.line("spec:\n  clusterIP: 172.31.0.50\n  ports:\n  - name: http2\n    port: 80\n    targetPort: 8080\n  - name: https\n    port: 443\n    targetPort: 8443\n  - name: tcp\n    port: 5432\n    targetPort: 5432\n  selector:\n    istio: egressgateway");
    for g in 0..gateways(size) {
        out.object("networking.istio.io/v1", "Gateway", "istio-system", &format!("egress-{g}"), &[], &[]);
        out.line("spec:\n  selector:\n    istio: egressgateway\n  servers:");
        let hosts: Vec<String> = (0..size.virtual_services)
            .filter(|v| v % 2 == 0 && v / 2 % gateways(size) == g)
            .map(|v| format!("{:?}", host(v)))
            .collect();
        let server = |number: u32, protocol: &str| {
            let tls = if protocol == "TLS" { "    tls:\n      mode: PASSTHROUGH\n" } else { "" };
            format!(
                "    port:\n      name: {}-{g}\n      number: {number}\n      protocol: {protocol}\n{tls}",
                protocol.to_lowercase()
            )
        };
        for (number, protocol) in [(443, "TLS"), (80, "HTTP")] {
            out.text.push_str("  - hosts:\n");
            for host in &hosts {
                let _ = writeln!(out.text, "    - {host}");
            }
            out.text.push_str(&server(number, protocol));
        }
    }
    out.file("cluster.yaml");
}

fn entry(out: &mut Writer, size: Size, i: u32) {
    let own = namespace(size, i);
    out.object("networking.istio.io/v1", "ServiceEntry", &own, &format!("entry-{i}"), &[("team", &own)], &[]);
    out.line("spec:");
    let other = namespace(size, i.wrapping_mul(7) + 3);
    let tls = "  ports:\n  - name: tls\n    number: 443\n    protocol: TLS";
    match sort(i) {
        Sort::Range => out.list("  ", "addresses", &[format!("{}/24", ip(20, i << 8))]),
        Sort::Static => out.list("  ", "addresses", &[ip(21, i).to_string()]),
        Sort::Private => out.list("  ", "exportTo", &[".".to_owned()]),
        Sort::Named => out.list("  ", "exportTo", &[".".to_owned(), other]),
        Sort::Tls | Sort::HttpAndTls | Sort::Wildcard => {}
    }
    if sort(i) == Sort::Static {
        let _ = writeln!(out.text, "  endpoints:\n  - address: {}\n  - address: {}", ip(22, i), ip(23, i));
    }
    let mut hosts = vec![format!("{:?}", host(i))];
    if sort(i) == Sort::HttpAndTls {
        hosts.push(format!("cdn{i}.example.com"));
    }
    out.list("  ", "hosts", &hosts);
    out.line(if i % 20 == 9 { "  location: MESH_INTERNAL" } else { "  location: MESH_EXTERNAL" });
    match sort(i) {
        Sort::Tls | Sort::Wildcard | Sort::Private => out.line(tls),
        Sort::HttpAndTls => out.line("  ports:\n  - name: http\n    number: 80\n    protocol: HTTP\n  - name: tls\n    number: 443\n    protocol: TLS"),
        Sort::Range => {
            let port = 5432 + i / 10 % 8;
            let _ = writeln!(out.text, "  ports:\n  - name: tcp\n    number: {port}\n    protocol: TCP");
        }
        Sort::Static => out.line("  ports:\n  - name: mysql\n    number: 3306\n    protocol: TCP"),
        Sort::Named => out.line("  ports:\n  - name: grpc\n    number: 8443\n    protocol: GRPC\n  - name: http\n    number: 80\n    protocol: HTTP"),
    }
    match sort(i) {
        Sort::Range | Sort::Wildcard => out.line("  resolution: NONE"),
        Sort::Static => out.line("  resolution: STATIC"),
        _ => {
            out.line("  resolution: DNS\nstatus:\n  addresses:");
            let _ = writeln!(out.text, "  - host: {}\n    value: {}", host(i), ip(240, i));
        }
    }
}

fn virtual_service(out: &mut Writer, size: Size, i: u32) {
    let own = namespace(size, i);
    out.object("networking.istio.io/v1", "VirtualService", &own, &format!("route-{i}"), &[], &[]);
    out.line("spec:");
    if i % 5 == 1 {
        out.list("  ", "exportTo", &[".".to_owned()]);
    }
    let (host, gateway) = (host(i), format!("istio-system/egress-{}", i / 2 % gateways(size)));
    if i.is_multiple_of(2) {
        out.list("  ", "gateways", &["mesh".to_owned(), gateway.clone()]);
    }
    out.list("  ", "hosts", &[format!("{host:?}")]);
    let text = &mut out.text;
    let door = "istio-egressgateway.istio-system.svc.cluster.local";
    match (i.is_multiple_of(2), sort(i)) {
        (true, Sort::Range | Sort::Static) => {
            let _ = writeln!(
                text,
                "  tcp:\n  - match:\n    - gateways:\n      - mesh\n    route:\n    - destination:\n        host: {door}\n        port:\n          number: 5432"
            );
        }
        (true, _) => {
            let label = if i % 8 == 2 { "\n      sourceLabels:\n        tier: web" } else { "" };
            let _ = writeln!(
                text,
                "  tls:\n  - match:\n    - gateways:\n      - mesh\n      port: 443\n      sniHosts:\n      - {host:?}{label}\n    route:\n    - destination:\n        host: {door}\n        port:\n          number: 443\n  - match:\n    - gateways:\n      - {gateway}\n      port: 443\n      sniHosts:\n      - {host:?}\n    route:\n    - destination:\n        host: {host:?}\n        port:\n          number: 443"
            );
        }
        (false, _) => {
            let _ = writeln!(
                text,
                "  http:\n  - match:\n    - uri:\n        prefix: /v2\n    - headers:\n        x-canary:\n          exact: \"yes\"\n    route:\n    - destination:\n        host: {host:?}\n      weight: 90\n    - destination:\n        host: {host:?}\n        subset: canary\n      weight: 10\n  - route:\n    - destination:\n        host: {host:?}"
            );
        }
    }
}

fn destination_rule(out: &mut Writer, size: Size, i: u32) {
    let of = i * 5;
    out.object("networking.istio.io/v1", "DestinationRule", &namespace(size, of), &format!("rule-{i}"), &[], &[]);
    let _ = writeln!(
        out.text,
        "spec:\n  host: {:?}\n  subsets:\n  - labels:\n      version: canary\n    name: canary\n  trafficPolicy:\n    tls:\n      mode: {}",
        host(of),
        if i.is_multiple_of(2) { "SIMPLE" } else { "DISABLE" }
    );
}

/// Every second namespace has one for all its pods; the others are for some pods.
fn sidecar(out: &mut Writer, size: Size, i: u32) {
    let own = namespace(size, i * 2);
    let selects = i >= size.namespaces / 2;
    out.object("networking.istio.io/v1", "Sidecar", &own, &format!("sidecar-{i}"), &[], &[]);
    out.line("spec:\n  egress:");
    let mut hosts = vec!["./*".to_owned(), "istio-system/*".to_owned(), format!("{}/*", namespace(size, i + 1))];
    match i % 4 {
        0 => hosts.push("\"*/*.example.com\"".to_owned()),
        1 => hosts.push(format!("\"*/{}\"", host(i * 10))),
        _ => {}
    }
    out.list("  - ", "hosts", &[]);
    for host in &hosts {
        let _ = writeln!(out.text, "    - {host}");
    }
    if i % 7 == 3 {
        out.line("  outboundTrafficPolicy:\n    mode: REGISTRY_ONLY");
    }
    if selects {
        let _ = writeln!(out.text, "  workloadSelector:\n    labels:\n      app: app-{}", i % 10);
    }
}

fn service(out: &mut Writer, size: Size, i: u32) {
    let (own, name) = (namespace(size, i), format!("svc-{i}"));
    out.object("v1", "Service", &own, &name, &[("app", &name)], &[]);
    let _ = writeln!(
        out.text,
        "spec:\n  clusterIP: {}\n  ports:\n  - name: http\n    port: 8080\n    targetPort: 8080\n  - name: grpc\n    port: 9090\n    targetPort: 9090\n  selector:\n    app: app-{}",
        ip(172, 0x10_0000 + i),
        i / size.namespaces % 10
    );
    let each = size.endpoints / size.services();
    out.object(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        &own,
        &format!("{name}-x"),
        &[("kubernetes.io/service-name", &name)],
        &[],
    );
    out.line("addressType: IPv4\nendpoints:");
    for e in 0..each {
        // the first is a pod of this mesh, the others are of clusters and machines whose pods nobody listed
        let n = i * each + e;
        let address = if e == 0 && i < size.pods { ip(10, i) } else { ip(11, n) };
        let _ = writeln!(out.text, "- addresses:\n  - {address}\n  conditions:\n    ready: {}", n % 50 != 7);
        if e == 0 && i < size.pods {
            let _ = writeln!(out.text, "  targetRef:\n    kind: Pod\n    name: pod-{i}\n    namespace: {own}");
        }
    }
    out.line("ports:\n- name: http\n  port: 8080\n  protocol: TCP\n- name: grpc\n  port: 9090\n  protocol: TCP");
}

fn pod(out: &mut Writer, size: Size, i: u32) {
    let (own, app) = (namespace(size, i), format!("app-{}", i / size.namespaces % 10));
    let tier = if i.is_multiple_of(3) { "web" } else { "batch" };
    out.object(
        "v1",
        "Pod",
        &own,
        &format!("pod-{i}"),
        &[("app", &app), ("pod-template-hash", "7c9d8f"), ("security.istio.io/tlsMode", "istio"), ("tier", tier)],
        &[("sidecar.istio.io/status", "'{\"containers\":[\"istio-proxy\"],\"revision\":\"default\"}'")],
    );
    let (address, uid) = (ip(10, i), out.dice.roll());
    let _ = writeln!(
        out.text,
        "  ownerReferences:\n  - apiVersion: apps/v1\n    controller: true\n    kind: ReplicaSet\n    name: {app}-7c9d8f\nspec:\n  containers:\n  - image: registry.example.com/{own}/{app}:1.0\n    name: {app}\n    ports:\n    - containerPort: 8080\n      protocol: TCP\n  - args:\n    - proxy\n    - sidecar\n    - --domain\n    - $(POD_NAMESPACE).svc.cluster.local\n    env:\n    - name: ISTIO_META_CLUSTER_ID\n      value: Kubernetes\n    image: docker.io/istio/proxyv2:1.31.0\n    name: istio-proxy\n    securityContext:\n      runAsUser: 1337\n  nodeName: node-{}\n  serviceAccountName: default\nstatus:\n  containerStatuses:\n  - containerID: containerd://{uid:016x}{uid:016x}{uid:016x}{uid:016x}\n    name: {app}\n  phase: Running\n  podIP: {address}\n  podIPs:\n  - ip: {address}",
        i % 20
    );
}

/// A call with names of its own.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Number of the pod.
    pub pod: PodIndex,
    /// Destination.
    pub to: SocketAddr,
    /// First bytes.
    pub bytes: Bytes,
    /// Server name.
    pub sni: Option<String>,
    /// Host header.
    pub host: Option<String>,
}

impl Asked {
    /// The call.
    pub fn call(&self) -> Call<'_> {
        Call {
            pod: self.pod,
            leg: CallLeg::Outbound,
            to: self.to,
            transport: Transport::Tcp,
            bytes: self.bytes,
            sni: self.sni.as_deref(),
            host: self.host.as_deref(),
            path: None,
            dns: None,
            container: None,
            uid: None,
            gid: None,
            captured: true,
        }
    }
}

/// `count` different calls, round the given pods, of every sort there is in the mesh, about the first `entries` of it.
pub fn calls(size: Size, entries: u32, pods: &[PodIndex], count: u32, seed: u64) -> Vec<Asked> {
    let mut dice = Dice(seed);
    (0..count)
        .map(|n| {
            let i = dice.below(entries);
            let outside = IpAddr::V4(ip(93, dice.below(1 << 24)));
            let name = host(i).replace('*', "www");
            let (to, bytes, sni, host) = match (sort(i), dice.below(12)) {
                (_, 0) => ((outside, 443), Bytes::Tls, Some(format!("unknown{n}.example.io")), None),
                (_, 1) => ((outside, 9999), Bytes::Opaque, None, None),
                (_, 2) => (
                    (IpAddr::V4(ip(172, 0x10_0000 + i % size.services())), 8080),
                    Bytes::Http,
                    None,
                    Some(format!("svc-{0}.{1}", i % size.services(), namespace(size, i))),
                ),
                (Sort::Range, _) => {
                    ((IpAddr::V4(ip(20, (i << 8) + n % 256)), (5432 + i / 10 % 8) as u16), Bytes::Opaque, None, None)
                }
                (Sort::Static, _) => ((IpAddr::V4(ip(21, i)), 3306), Bytes::Opaque, None, None),
                (Sort::HttpAndTls | Sort::Named, r) if r % 2 == 0 => ((outside, 80), Bytes::Http, None, Some(name)),
                (Sort::Named, _) => ((outside, 8443), Bytes::Http2, None, Some(name)),
                (Sort::Tls | Sort::Private, 3) => ((IpAddr::V4(ip(240, i)), 443), Bytes::Tls, Some(name), None),
                _ => ((outside, 443), Bytes::Tls, Some(name), None),
            };
            Asked { pod: pods[n as usize % pods.len()], to: to.into(), bytes, sni, host }
        })
        .collect()
}

/// Pods with a sidecar, round the namespaces.
pub fn pods(mesh: &Mesh, count: usize) -> Vec<PodIndex> {
    let sidecars = mesh.pods().filter(|p| mesh.pod(*p).name.namespace != "istio-system");
    let all: Vec<PodIndex> = sidecars.collect();
    let step = (all.len() / count).max(1);
    all.into_iter().step_by(step).take(count).collect()
}
