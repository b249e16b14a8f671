//! `egress-tui snapshot` outside of the lab: any cgroup v2 tree with kubelet-style paths, Pods with those uids in a folder.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up must fail")]

#[path = "probe/node.rs"]
#[expect(dead_code, reason = "shared with the probe's tests, which use more of it")]
mod node;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use egress_tests::program;
use node::{APP, Actor, Node, OUTSIDE, POD};
use serde_json::Value;

/// The pod that the node's cgroup belongs to: a labelled client of the warehouse that excludes its port.
fn pod(folder: &Path) {
    let text = format!(
        r#"apiVersion: v1
kind: Pod
metadata:
  name: legacy-7d9f8-x2x7p
  namespace: cloud-platform
  uid: {POD}
  labels: {{app: legacy, egress-gateway-dwh: enabled, pod-template-hash: 7d9f8}}
  annotations:
    sidecar.istio.io/status: '{{"containers":["istio-proxy"],"revision":"default"}}'
    traffic.sidecar.istio.io/excludeOutboundPorts: "1433"
  ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: legacy-7d9f8, controller: true, uid: x}}]
spec:
  nodeName: worker-1
  serviceAccountName: legacy
  containers:
  - {{name: app, image: example/app}}
  - {{name: istio-proxy, image: example/proxyv2:1.31, args: [proxy, sidecar]}}
status:
  phase: Running
  podIP: {APP}
  podIPs: [{{ip: {APP}}}]
  containerStatuses:
  - {{name: app, containerID: "containerd://{}"}}
"#,
        "ab".repeat(32)
    );
    fs::write(folder.join("9-pod.yaml"), text).unwrap();
}

fn mesh() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(program::repository().join("tests/lab/dwh-static-tcp/mesh")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    pod(folder.path());
    folder
}

/// Until the program says that it sees everything, or ended.
fn ready(file: &Path, child: &mut Child) {
    let gives_up = Instant::now() + Duration::from_secs(30);
    while !file.exists() {
        assert!(child.try_wait().unwrap().is_none(), "ended before it was ready");
        assert!(Instant::now() < gives_up, "not ready after 30 s");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn snapshot(node: &Node, arguments: &[&str], play: impl FnOnce()) -> (i32, Vec<u8>) {
    snapshot_by(program::command(&[]), node, arguments, play)
}

fn snapshot_by(mut command: Command, node: &Node, arguments: &[&str], play: impl FnOnce()) -> (i32, Vec<u8>) {
    let mesh = mesh();
    let file = mesh.path().join("ready");
    command
        .args(["snapshot", "--node", "worker-1", "--duration", "60s"])
        .args(arguments)
        .arg("--mesh")
        .arg(mesh.path())
        .arg("--cgroup-root")
        .arg(&node.root);
    command.arg("--ready-file").arg(&file).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    ready(&file, &mut child);
    let coverage: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(coverage["coverage"]["capture"]["tier"], "full");
    play();
    // An interrupt ends the observation early; what was seen is printed all the same.
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(!file.exists(), "the ready file is removed at the end");
    (output.status.code().unwrap_or(-1), output.stdout)
}

fn dial(node: &Node) {
    let mut outside = node.outside();
    outside.listen("server", "tcp4", &format!("{OUTSIDE}:1433"));
    let mut app = node.app();
    app.socket("client", "tcp4");
    app.tell(&format!("connect client {OUTSIDE}:1433"));
    outside.tell("accept server peer");
    app.tell("send client 12010000");
    outside.tell("read peer 4");
    app.tell("close client");
    outside.tell("close peer");
}

#[test]
fn a_pod_is_found_by_its_cgroup_and_judged_by_the_objects_of_a_folder() {
    let Some(node) = Node::live() else { return };
    let (code, stdout) = snapshot(&node, &["-o", "json"], || dial(&node));
    assert_eq!(code, 130);
    let document: Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(document["coverage"]["lost"]["total"], 0);
    assert_eq!(document["incomplete"], serde_json::json!([]));
    let flows = document["flows"].as_array().unwrap();
    let flow = flows.iter().find(|f| f["destination"]["port"] == 1433).unwrap_or_else(|| panic!("{flows:#?}"));
    assert_eq!((flow["verdict"].as_str(), flow["reason"].as_str()), (Some("bypass"), Some("EXCLUDED_PORT")));
    assert_eq!(flow["source"]["pod"], "legacy-7d9f8-x2x7p");
    assert_eq!(flow["source"]["workload"], serde_json::json!({"kind": "Deployment", "name": "legacy"}));
    assert_eq!(flow["source"]["container"], "app");
    assert_eq!(flow["source"]["evidence"], "cgroup");
    assert_eq!(flow["leg"], "app-uncaptured");
    assert_eq!((flow["connections"].as_u64(), flow["bytesSent"].as_u64()), (Some(1), Some(4)));
    assert!(flow["communityId"].as_str().unwrap().starts_with("1:"));
    let decides = flow["chain"].as_array().unwrap().iter().find(|s| s["outcome"] == "decides").unwrap();
    assert_eq!(decides["object"], "Pod cloud-platform/legacy-7d9f8-x2x7p");
    assert!(decides["field"].as_str().unwrap().contains("excludeOutboundPorts"));
}

#[test]
fn lines_and_csv_say_the_same_as_the_document() {
    let Some(node) = Node::live() else { return };
    let (_, lines) = snapshot(&node, &["-o", "jsonl", "--each"], || {
        dial(&node);
        dial(&node);
    });
    let lines = String::from_utf8(lines).unwrap();
    let flows: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let dialled = flows.iter().filter(|f| f["destination"]["port"] == 1433);
    assert_eq!(dialled.filter(|f| f["verdict"] == "bypass" && f["connections"] == 1).count(), 2, "{lines}");

    let (_, table) = snapshot(&node, &["-o", "csv"], || dial(&node));
    let table = String::from_utf8(table).unwrap();
    let row = table.lines().find(|l| l.contains(",1433,")).unwrap();
    assert!(row.contains("bypass") && row.contains("EXCLUDED_PORT") && row.contains("legacy-7d9f8-x2x7p"), "{row}");
    assert!(table.lines().next().unwrap().starts_with("id,verdict,class"));
}

/// A pod that has dialled out, was refused once, listens and serves, before anybody looks.
struct Before {
    app: Actor,
    outside: Actor,
}

impl Before {
    fn of(node: &Node) -> Self {
        let (mut app, mut outside) = (node.app(), node.outside());
        outside.listen("server", "tcp4", &format!("{OUTSIDE}:1433"));
        app.socket("old", "tcp4");
        app.tell(&format!("connect old {OUTSIDE}:1433"));
        outside.tell("accept server old");
        app.tell("send old 0102030405");
        outside.tell("read old 5");
        app.socket("refused", "tcp4");
        app.attempt(&format!("connect refused {OUTSIDE}:1434")).unwrap_err();
        app.listen("service", "tcp4", &format!("{APP}:8080"));
        outside.socket("client", "tcp4");
        outside.tell(&format!("connect client {APP}:8080"));
        app.tell("accept service served");
        Self { app, outside }
    }

    /// Speaks on the old connection, ends it, and opens another one like it.
    fn go_on(&mut self) {
        self.app.tell("send old 01020304");
        self.outside.tell("read old 4");
        // With the answer comes the acknowledgement.
        self.outside.tell("send old 05");
        self.app.tell("read old 1");
        self.app.socket("new", "tcp4");
        self.app.tell(&format!("connect new {OUTSIDE}:1433"));
        self.outside.tell("accept server new");
        self.app.tell("send new 010203");
        self.outside.tell("read new 3");
    }
}

/// The flows of a document, after what every such document must say.
fn flows(stdout: &[u8], older: &str) -> Vec<Value> {
    let document: Value = serde_json::from_slice(stdout).unwrap();
    let hooks = document["coverage"]["capture"]["hooks"].as_array().unwrap();
    assert!(hooks.iter().any(|h| h["name"] == older && h["attached"] == true), "{hooks:?}");
    assert_eq!(document["coverage"]["lost"]["total"], 0, "{}", document["coverage"]);
    assert_eq!(document["incomplete"], serde_json::json!([]));
    document["flows"].as_array().unwrap().clone()
}

#[test]
fn a_connection_that_is_older_than_the_program_is_a_row_with_its_pod_and_counted_once() {
    let Some(node) = Node::live() else { return };
    let mut before = Before::of(&node);
    let (code, stdout) = snapshot(&node, &["-o", "json"], || before.go_on());
    assert_eq!(code, 130);
    let flows = flows(&stdout, "sock_diag");
    let [flow] = &flows[..] else { panic!("neither the refused one nor what the pod serves is a row: {flows:#?}") };
    assert_eq!((flow["verdict"].as_str(), flow["reason"].as_str()), (Some("bypass"), Some("EXCLUDED_PORT")));
    assert_eq!(flow["source"]["pod"], "legacy-7d9f8-x2x7p");
    assert_eq!(
        (flow["source"]["container"].as_str(), flow["source"]["evidence"].as_str()),
        (Some("app"), Some("cgroup"))
    );
    assert_eq!(flow["source"]["process"]["pid"], before.app.pid);
    assert_eq!(flow["destination"]["port"], 1433);
    assert_eq!(flow["connections"], 2, "the old one and the new one, each once");
    assert_eq!(flow["bytesSent"], 4, "of the old one what it sent since the start; the new one is still open");

    let (_, stdout) = snapshot(&node, &["-o", "json"], || {
        before.app.tell("close old");
        before.outside.tell("close old");
    });
    let flows = self::flows(&stdout, "sock_diag");
    assert_eq!(flows.len(), 1, "{flows:#?}");
    assert_eq!(flows[0]["connections"], 2, "both are old by now");
}

#[test]
fn who_may_not_enter_namespaces_reads_the_tables_of_one_process_per_pod() {
    let Some(node) = Node::live() else { return };
    let mut before = Before::of(&node);
    let mut weaker = Command::new("setpriv");
    weaker.args(["--bounding-set", "-sys_admin,-sys_ptrace", "--inh-caps", "-all"]).arg(program::path());
    weaker.current_dir(program::repository());
    let (code, stdout) = snapshot_by(weaker, &node, &["-o", "json"], || before.go_on());
    assert_eq!(code, 130);
    let flows = flows(&stdout, "proc-net");
    let [flow] = &flows[..] else { panic!("{flows:#?}") };
    assert_eq!((flow["source"]["pod"].as_str(), flow["connections"].as_u64()), (Some("legacy-7d9f8-x2x7p"), Some(2)));
    assert_eq!((flow["verdict"].as_str(), flow["source"]["container"].as_str()), (Some("bypass"), Some("app")));
}

/// What `record` wrote when it was ended by a signal: the exit code, and the replay's code, incompleteness and pods.
fn recorded(signal: rustix::process::Signal) -> Option<(Option<i32>, i32, String, Vec<String>)> {
    let node = Node::live()?;
    let mesh = mesh();
    let (ready_file, tape) = (mesh.path().join("ready"), mesh.path().join("tape.egr"));
    let mut command = program::command(&["record"]);
    command.arg(&tape).args(["--node", "worker-1", "--cgroup-root"]).arg(&node.root);
    command.arg("--mesh").arg(mesh.path()).arg("--ready-file").arg(&ready_file).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    ready(&ready_file, &mut child);
    dial(&node);
    if signal == rustix::process::Signal::KILL {
        // A frame is closed each second; a second after the connection it is on its way to the disk.
        let size = || fs::metadata(&tape).map_or(0, |m| m.len());
        let (before, gives_up) = (size(), Instant::now() + Duration::from_secs(30));
        while size() < before + 200 {
            assert!(Instant::now() < gives_up, "nothing is written");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let (before, gives_up) = (size(), Instant::now() + Duration::from_secs(30));
        while size() == before {
            assert!(Instant::now() < gives_up, "nothing more is written");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
    let code = child.wait().unwrap().code();
    let output = program::run(&["snapshot", "--replay", tape.to_str().unwrap()]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let pods = document["flows"].as_array().unwrap().iter().filter_map(|f| f["source"]["pod"].as_str());
    let pods = pods.map(str::to_owned).collect();
    Some((code, output.status.code().unwrap(), document["incomplete"].to_string(), pods))
}

#[test]
fn a_recording_that_is_ended_by_a_signal_is_whole() {
    let Some((code, _, incomplete, pods)) = recorded(rustix::process::Signal::TERM) else { return };
    assert_eq!(code, Some(143));
    assert!(!incomplete.contains("was cut"), "{incomplete}");
    assert!(pods.contains(&"legacy-7d9f8-x2x7p".to_owned()), "{pods:?}");
}

#[test]
fn a_recording_that_was_killed_is_good_up_to_its_last_second() {
    let Some((code, replayed, incomplete, pods)) = recorded(rustix::process::Signal::KILL) else { return };
    assert_eq!((code, replayed), (None, 5));
    assert!(incomplete.contains("it was cut at byte"), "{incomplete}");
    assert!(pods.contains(&"legacy-7d9f8-x2x7p".to_owned()), "{pods:?}");
}
