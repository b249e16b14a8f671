//! The program with a real API server: answers, exit codes, what it prints to be installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use egress_core::manifest;
use egress_tests::cluster::{ApiServer, entry, load, namespace, objects_below, pod, reads, wanted};
use egress_tests::program::{self, said};
use serde_json::{Value, json};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_answers_as_the_same_objects_in_files_do() {
    if !wanted() {
        return;
    }
    let mesh = program::repository().join("tests/lab/dwh-static-tcp/mesh");
    let mut server = ApiServer::with_kinds(&[]).await;
    load(&mut server, objects_below(&mesh)).await;
    let config = server.printed().await;
    let config = config.to_str().expect("text");
    let pods = objects_below(&mesh).into_iter().filter(|o| o["kind"] == "Pod");
    let mut calls = Vec::new();
    for (nth, pod) in pods.enumerate() {
        let name = format!(
            "{}/{}",
            pod["metadata"]["namespace"].as_str().expect("text"),
            pod["metadata"]["name"].as_str().expect("text")
        );
        for (to, payload) in [("192.0.2.10:1433", "opaque"), ("198.51.100.20:443", "tls"), ("198.51.100.30:80", "http")]
        {
            let call = json!({"id": format!("{nth} {to}"), "from": name, "leg": "outbound", "to": to, "protocol": "tcp",
                "payload": payload, "sni": (payload == "tls").then_some("api.example.org"), "host": null, "path": null});
            calls.push(call.to_string());
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("calls.jsonl");
    fs::write(&file, calls.join("\n")).expect("writable");
    let file = file.to_str().expect("text");
    let by_files = program::run(&["explain", "--mesh", mesh.to_str().expect("text"), "--calls", file, "-o", "jsonl"]);
    let by_cluster = program::run(&["explain", "--kubeconfig", config, "--calls", file, "-o", "jsonl"]);
    assert!(by_files.status.success() && text(&by_files).lines().count() > 20, "{}", said(&by_files));
    assert_eq!(by_cluster.status.code(), Some(0), "{}", said(&by_cluster));
    assert_eq!(text(&by_cluster), text(&by_files));
}

/// What a snapshot says of flows, without what every run has anew.
fn essence(file: &Path) -> Vec<Value> {
    let document: Value = serde_json::from_str(&fs::read_to_string(file).expect("readable")).expect("JSON");
    let mut flows: Vec<Value> = document["flows"].as_array().expect("flows").clone();
    flows.retain(|f| f["leg"] != "host");
    for flow in &mut flows {
        let flow = flow.as_object_mut().expect("an object");
        for own in [
            "process",
            "rttMicros",
            "firstSeen",
            "lastSeen",
            "communityId",
            "retransmits",
            "bytesSent",
            "bytesReceived",
            "path",
            "connections",
            "open",
        ] {
            flow.remove(own);
        }
        flow["source"]["process"] = Value::Null;
        flow["destination"]["name"]["ageSeconds"] = Value::Null;
        // Sentences name processes, ports and ages; objects, fields and outcomes stay.
        for step in flow["chain"].as_array_mut().expect("a chain") {
            step["says"] = Value::Null;
        }
    }
    flows.sort_by_key(|f| f["id"].to_string());
    flows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lab_sees_the_same_with_its_objects_in_a_cluster() {
    if !wanted() || !rustix::process::geteuid().is_root() {
        return;
    }
    let mut server = ApiServer::with_kinds(&[]).await;
    load(&mut server, objects_below(&program::repository().join("tests/lab/dwh-static-tcp/mesh"))).await;
    let config = server.printed().await;
    let folder = tempfile::tempdir().expect("a folder");
    let lab = |name: &str, more: &[&str]| {
        let file = folder.path().join(name);
        let mut lab = program::xtask(&["lab", "--seconds", "6", "--json"]);
        lab.arg(&file).args(more);
        let out = lab.output().expect("cargo xtask lab");
        assert_eq!(out.status.code(), Some(0), "{}", said(&out));
        file
    };
    let by_files = lab("files.json", &[]);
    let by_cluster = lab("cluster.json", &["--kubeconfig", config.to_str().expect("text")]);
    assert_eq!(essence(&by_cluster), essence(&by_files));
    let document: Value = serde_json::from_str(&fs::read_to_string(by_cluster).expect("readable")).expect("JSON");
    assert_eq!(
        (&document["coverage"]["mesh"]["source"], &document["cluster"]),
        (&"cluster tests".into(), &"tests".into())
    );
    assert_eq!((&document["coverage"]["mesh"]["stale"], &document["incomplete"]), (&Value::Null, &json!([])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_read_is_said_with_the_rule_and_in_the_exit_code() {
    if !wanted() {
        return;
    }
    let server = ApiServer::with_kinds(&[]).await;
    server.apply_all(&[namespace("shop"), entry("shop", "api"), pod("shop", "cart", "w1", "10.1.0.5")]).await;
    let rules = json!([
        reads("", &["namespaces", "nodes", "pods", "services", "configmaps"]),
        reads("discovery.k8s.io", &["*"]),
        reads("apiextensions.k8s.io", &["*"]),
        reads(
            "networking.istio.io",
            &[
                "serviceentries",
                "gateways",
                "destinationrules",
                "sidecars",
                "workloadentries",
                "envoyfilters",
                "proxyconfigs"
            ]
        ),
    ]);
    let config = server.kubeconfig_with_token(&server.account("narrow", &rules).await);
    let config = config.to_str().expect("text");
    let asked = ["explain", "--kubeconfig", config, "--from", "shop/cart", "--to", "api.example.com:443"];
    let answer = program::run(&asked);
    assert_eq!(answer.status.code(), Some(5), "{}", said(&answer));
    assert!(text(&answer).contains("shop/cart"), "what can be told is told");
    let told = said(&answer);
    assert!(told.contains("no right to list and watch virtualservices.networking.istio.io"), "{told}");
    assert!(
        told.contains(
            r#"{apiGroups: ["networking.istio.io"], resources: ["virtualservices"], verbs: [get, list, watch]}"#
        ),
        "{told}"
    );
    // The namespace of a pod that is named without one.
    let answer = program::run(&[
        "explain",
        "--kubeconfig",
        config,
        "-n",
        "shop",
        "--from",
        "cart",
        "--to",
        "api.example.com:443",
    ]);
    assert_eq!(answer.status.code(), Some(5), "{}", said(&answer));

    let doctor = program::run(&["doctor", "--kubeconfig", config, "-o", "json"]);
    let checks: Vec<Value> = serde_json::from_slice(&doctor.stdout).expect("JSON");
    let cluster: Vec<&Value> = checks.iter().filter(|c| c["what"] == "cluster").collect();
    assert!(cluster.iter().any(|c| c["found"].as_str().is_some_and(|f| f.contains("watches"))), "{cluster:?}");
    assert!(cluster.iter().any(|c| c["fix"].as_str().is_some_and(|f| f.contains("virtualservices"))), "{cluster:?}");
}

#[test]
fn a_configuration_that_leads_nowhere_is_told_at_once() {
    let nowhere = program::run(&["explain", "--kubeconfig", "/nonexistent/config", "--from", "a/b", "--to", "c:1"]);
    assert_eq!(nowhere.status.code(), Some(4), "{}", said(&nowhere));
    assert!(said(&nowhere).contains("/nonexistent/config"), "{}", said(&nowhere));
    let both = program::run(&["snapshot", "--kubeconfig", "a", "--mesh", "b"]);
    assert_eq!(both.status.code(), Some(2), "{}", said(&both));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_printed_to_be_installed_is_admitted_and_only_reads() {
    if !wanted() {
        return;
    }
    let server = ApiServer::start(&[]);
    let admin = server.kubeconfig();
    let admin = admin.to_str().expect("text");
    let check = program::run(&["manifests", "--kubeconfig", admin, "--check"]);
    assert_eq!(check.status.code(), Some(0), "{}{}", text(&check), said(&check));
    assert!(text(&check).contains("ok  Pod"), "{}", text(&check));
    // Applied for real, and checked again where its namespace is there.
    let printed = server.printed().await;
    let check = program::run(&["manifests", "--kubeconfig", admin, "--check", "--nodes", "all"]);
    assert_eq!(check.status.code(), Some(0), "{}{}", text(&check), said(&check));
    // Its own account may not.
    let refused = program::run(&["manifests", "--kubeconfig", printed.to_str().expect("text"), "--check"]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(text(&refused).contains("forbidden"), "{}", text(&refused));

    let set = program::run(&[
        "manifests",
        "--nodes",
        "pool=edge",
        "--image",
        "registry.example/egress-tui:1",
        "-n",
        "watchers",
    ]);
    let read = manifest::parse("", &text(&set));
    assert!(read.problems.is_empty(), "{:?}", read.problems);
    let objects: Vec<Value> = read.objects.into_iter().map(|o| o.value).collect();
    let kinds: Vec<&str> = objects.iter().filter_map(|o| o["kind"].as_str()).collect();
    assert_eq!(kinds, ["Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "DaemonSet"]);
    for rule in objects[2]["rules"].as_array().expect("rules") {
        assert_eq!(rule["verbs"], json!(["get", "list", "watch"]), "{rule}");
        assert!(rule["resources"].as_array().is_some_and(|r| r.iter().all(|r| r != "secrets" && r != "*")), "{rule}");
    }
    let pod = &objects[4]["spec"]["template"]["spec"];
    assert_eq!(pod["nodeSelector"], json!({"pool": "edge"}));
    assert_eq!(pod["containers"][0]["image"], "registry.example/egress-tui:1");
    assert_eq!(objects[3]["subjects"][0]["namespace"], "watchers");
}

#[test]
fn a_chart_and_a_folder_for_kustomize_come_from_the_same_source() {
    let folder = tempfile::tempdir().expect("a folder");
    let (chart, base) = (folder.path().join("chart"), folder.path().join("base"));
    for (option, place) in [("--helm", &chart), ("--kustomize", &base)] {
        let made = program::run(&["manifests", option, place.to_str().expect("text")]);
        assert!(made.status.success(), "{}", said(&made));
        let again = program::run(&["manifests", option, place.to_str().expect("text")]);
        assert_eq!(again.status.code(), Some(2), "a folder that holds something stays as it is");
    }
    let one = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("readable");
        let read = manifest::parse("", &text);
        assert!(read.problems.is_empty(), "{}: {:?}", path.display(), read.problems);
        read.objects.into_iter().next().expect("an object").value
    };
    let list = one(base.join("kustomization.yaml"));
    for file in list["resources"].as_array().expect("a list") {
        one(base.join(file.as_str().expect("text")));
    }
    // The chart's DaemonSet, rendered with its own values, is the one that is printed.
    let values = one(chart.join("values.yaml"));
    let mut template = fs::read_to_string(chart.join("templates/daemonset.yaml")).expect("readable");
    for (name, indent) in [("resources", 10), ("nodeSelector", 8), ("tolerations", 8)] {
        let lines: String = egress_core::yaml::write(&values[name])
            .lines()
            .flat_map(|l| [format!("\n{:indent$}", ""), l.to_owned()])
            .collect();
        let directive = format!("{{{{- toYaml .Values.{name} | nindent {indent} }}}}");
        let at = template.find(&directive).unwrap_or_else(|| panic!("{name}: {template}"));
        // What stands before `{{-` up to the last word is taken away, as Helm does.
        let head = template[..at].trim_end().to_owned();
        template = format!("{head}{lines}{}", &template[at + directive.len()..]);
    }
    let image = values["image"].as_str().expect("text");
    let rendered = template
        .replace("{{ .Values.image | quote }}", &format!("\"{image}\""))
        .replace("{{ .Release.Namespace }}", "egress-tui");
    let read = manifest::parse("", &rendered);
    assert!(read.problems.is_empty(), "{:?}\n{rendered}", read.problems);
    assert_eq!(read.objects[0].value, one(base.join("daemonset.yaml")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_static_program_runs_where_there_is_nothing_else() {
    if !wanted() {
        return;
    }
    let Some(program) = std::env::var_os("EGRESS_STATIC") else {
        assert!(
            std::env::var_os("EGRESS_REQUIRE_LIVE").is_none(),
            "cargo xtask image, then EGRESS_STATIC=target/image/egress-tui"
        );
        return;
    };
    let server = ApiServer::with_kinds(&[]).await;
    server.apply_all(&[namespace("shop"), entry("shop", "api"), pod("shop", "cart", "w1", "10.1.0.5")]).await;
    let root = tempfile::tempdir().expect("a folder");
    fs::copy(program, root.path().join("egress-tui")).expect("copied");
    // The tokens and keys that a kubelet mounts: the only other file.
    let text_of = fs::read_to_string(server.printed().await).expect("readable");
    let mut config: Value = serde_json::from_str(&text_of).expect("JSON");
    let token = config["users"][0]["user"]["tokenFile"].as_str().expect("text").to_owned();
    let authority = config["clusters"][0]["cluster"]["certificate-authority"].as_str().expect("text").to_owned();
    for (from, name) in [(token, "token"), (authority, "ca.crt")] {
        fs::copy(from, root.path().join(name)).expect("copied");
    }
    config["users"][0]["user"]["tokenFile"] = "/token".into();
    config["clusters"][0]["cluster"]["certificate-authority"] = "/ca.crt".into();
    fs::write(root.path().join("config"), config.to_string()).expect("writable");
    let run = |arguments: &[&str]| {
        let mut chroot = Command::new("chroot");
        chroot
            .env_clear()
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .arg(root.path())
            .arg("/egress-tui")
            .args(arguments);
        chroot.output().expect("chroot")
    };
    let version = run(&["--version"]);
    assert!(version.status.success(), "{}", said(&version));
    let answer = run(&["explain", "--kubeconfig", "/config", "--from", "shop/cart", "--to", "api.example.com:443"]);
    assert_eq!(answer.status.code(), Some(0), "{}", said(&answer));
    assert!(text(&answer).contains("api.example.com"), "{}", text(&answer));
}
