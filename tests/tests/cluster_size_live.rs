//! A large cluster in a real API server: time, bytes, memory.

use std::fmt;
use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use egress_tests::cluster::{ApiServer, Watching, entry, wanted};
use egress_tests::program;
use serde_json::{Value, json};

fn text(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Pods with a sidecar as injection leaves them, and entries: a cluster of 200 namespaces.
fn large(pods: usize, entries: usize) -> Vec<Value> {
    let when = "2026-01-01T00:00:00Z";
    let space = |n: usize| format!("ns-{}", n % 200);
    let uid = |kind: usize, n: usize| format!("{kind:08x}-0000-4000-8000-{n:012x}");
    let environment: Vec<Value> = (0..40)
        .map(|n| json!({"name": format!("VARIABLE_{n}"), "value": format!("a value of some length {n}")}))
        .collect();
    let mut all: Vec<Value> = (0..200)
        .map(|n| {
            let name = space(n);
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "uid": uid(1, n), "creationTimestamp": when,
                "labels": {"istio-injection": "enabled", "kubernetes.io/metadata.name": name}}, "status": {"phase": "Active"}})
        })
        .collect();
    all.extend((0..pods).map(|n| {
        let ip = format!("10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255);
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("web-6d4cf56db6-{n:05}"), "namespace": space(n), "uid": uid(2, n), "creationTimestamp": when,
                "labels": {"app": format!("web-{}", n % 500), "pod-template-hash": "6d4cf56db6", "security.istio.io/tlsMode": "istio"},
                "annotations": {"sidecar.istio.io/status": "{\"revision\":\"default\"}", "example.com/note": "x".repeat(400)},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6d4cf56db6", "uid": uid(3, n % 500), "controller": true}]},
            "spec": {"nodeName": format!("node-{}", n % 200), "serviceAccountName": "web", "containers": [
                {"name": "app", "image": "example/web:1", "env": environment, "ports": [{"containerPort": 8080}]},
                {"name": "istio-proxy", "image": "example/proxyv2:1.31.0", "args": ["proxy", "sidecar"], "securityContext": {"runAsUser": 1337}}]},
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                "containerStatuses": [{"name": "app", "containerID": format!("containerd://{n:064x}"), "image": "", "imageID": "", "ready": true, "restartCount": 0}]}})
    }));
    all.extend((0..entries).map(|n| {
        let mut entry = entry(&space(n), &format!("host-{n:05}"));
        entry["metadata"]["uid"] = uid(4, n).into();
        entry["metadata"]["creationTimestamp"] = when.into();
        entry["metadata"]["generation"] = 1.into();
        entry
    }));
    all
}

/// What a process uses: resident memory now and at its most, in MiB, and seconds of processors.
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    memory: u64,
    most: u64,
    seconds: f64,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB (at most {} MiB), {:.2} s of processors", self.memory, self.most, self.seconds)
    }
}

/// Of a process that runs.
fn usage(pid: u32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let of = |name: &str| {
        let line = status.lines().find(|l| l.starts_with(name))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
    };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = fields[11].parse::<u32>().ok()? + fields[12].parse::<u32>().ok()?;
    Some(Usage { memory: of("VmRSS:")?, most: of("VmHWM:")?, seconds: f64::from(ticks) / 100.0 })
}

/// Waits until `done` is something; meanwhile what a process uses, and when it ends that is what it used last.
fn while_it_runs(child: &mut Child, done: impl Fn() -> bool) -> Usage {
    let mut last = Usage::default();
    loop {
        last = usage(child.id()).unwrap_or(last);
        if done() || child.try_wait().expect("a child").is_some() {
            return last;
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

const PODS: usize = 20_000;
const ENTRIES: usize = 10_000;

/// What a large cluster costs. Run on its own for figures: `-- --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "it measures")]
async fn a_large_cluster_is_read_soon_kept_small_and_edited_at_once() {
    if !wanted() {
        return;
    }
    let mut server = ApiServer::with_kinds(&[]).await;
    let config = server.printed().await;
    server.store(&large(PODS, ENTRIES));
    // The server's own caches are warm after this, as those of a server that runs are.
    let mut first = Watching::all(&config);
    first.loaded().await;
    first.stop().await;

    let began = Instant::now();
    let mut seen = Watching::all(&config);
    seen.loaded().await;
    let took = began.elapsed();
    let figures = seen.figures();
    println!(
        "all of {} objects by {} watches in {:.2} s, {:.1} MiB received, compiled in {} ms",
        figures.objects.values().sum::<usize>(),
        figures.watches,
        took.as_secs_f64(),
        figures.bytes as f64 / f64::from(1 << 20),
        figures.compiled.as_millis()
    );
    assert_eq!((figures.objects.get("Pod"), figures.objects.get("ServiceEntry")), (Some(&PODS), Some(&ENTRIES)));
    // An edit does not wait for anything of that size, nor for the edit before it.
    for (nth, host) in ["one.example.com", "two.example.com", "three.example.com"].iter().enumerate() {
        let mut edited = entry("ns-7", "host-00007");
        edited["spec"]["hosts"] = json!([host]);
        let mut route = json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "route", "namespace": "ns-7"},
            "spec": {"hosts": ["edited.example.com"], "http": [{"route": [{"destination": {"host": host}}]}]}});
        let (object, kind, name) = if nth == 0 {
            (edited.take(), "ServiceEntry", "host-00007")
        } else {
            (route.take(), "VirtualService", "route")
        };
        server.apply(&object).await;
        let began = Instant::now();
        seen.until("the edit", |w| w.text(kind, "ns-7", name).contains(host)).await;
        let (took, compiled) = (began.elapsed().as_millis(), seen.figures().compiled.as_millis());
        println!("an edit of a {kind} is in the mesh {took} ms after the server took it ({compiled} ms of compiling)");
    }
    seen.stop().await;

    // The program itself: all of it, for an answer.
    let ask = ["explain", "--from", "ns-0/web-6d4cf56db6-00000", "--to", "host-00000.example.com:443", "--kubeconfig"];
    let began = Instant::now();
    let mut child = program::command(&ask).arg(&config).stdout(Stdio::piped()).spawn().expect("it starts");
    let used = while_it_runs(&mut child, || false);
    println!("explain, which reads all pods: {:.2} s, {used}", began.elapsed().as_secs_f64());
    let answer = child.wait_with_output().expect("a child");
    assert!(text(&answer).contains("host-00000.example.com"), "{}", text(&answer));

    // And what the printed DaemonSet runs on a node, which reads its own pods.
    let ready = tempfile::tempdir().expect("a folder");
    let ready = ready.path().join("ready");
    let mut watch = program::command(&["watch", "-o", "jsonl", "--node", "node-7", "--ready-file"]);
    watch.arg(&ready).arg("--kubeconfig").arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
    let began = Instant::now();
    let mut child = watch.spawn().expect("it starts");
    let used = while_it_runs(&mut child, || ready.exists());
    println!("watch on a node, ready after {:.2} s: {used}", began.elapsed().as_secs_f64());
    let quiet = Instant::now();
    let used = while_it_runs(&mut child, || quiet.elapsed() > Duration::from_secs(5));
    println!("and 5 s later: {used}");
    assert!(child.try_wait().expect("a child").is_none(), "it watches");
    child.kill().expect("ours");
    child.wait().expect("a child");

    let node = egress_tui::source::kube::Pods::OfNode("node-7".into());
    let mut seen = Watching::new(&config, node, egress_tests::cluster::quick());
    seen.loaded().await;
    let figures = seen.figures();
    println!(
        "one node: {} pods, {:.1} MiB received",
        figures.objects["Pod"],
        figures.bytes as f64 / f64::from(1 << 20)
    );
    assert_eq!(figures.objects.get("Pod"), Some(&(PODS / 200)));
    seen.stop().await;
}
