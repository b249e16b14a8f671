//! A real API server on this machine (`tests/apiserver`), what a test does to it as its administrator, and what the program's
//! source of objects sees of it.

mod objects;
mod relay;
mod watching;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc as lines;
use std::time::Duration;

use egress_tui::source::kube::Cluster;
use kube::Client;
use kube::api::{DeleteParams, PostParams};
use kube::core::Request;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::program::xtask;

use objects::{api, plural, text};

pub use objects::{apply, definitions, entry, load, namespace, objects_below, pod, reads, role, rules};
pub use relay::Relay;
pub use watching::{Watching, quick};

/// What may take long on a busy machine, and ends a test that waits for what never comes.
pub const LONG: Duration = Duration::from_secs(90);

/// The server's program: told by the gate, else built (and kept) by `cargo xtask apiserver`.
fn program() -> PathBuf {
    if let Some(told) = std::env::var_os("EGRESS_APISERVER") {
        return told.into();
    }
    let said = xtask(&["apiserver"]).stderr(Stdio::inherit()).output().expect("cargo xtask apiserver");
    assert!(said.status.success(), "cargo xtask apiserver: {}", said.status);
    PathBuf::from(String::from_utf8_lossy(&said.stdout).trim())
}

/// The tests need no right but that of building a large program; without root, a developer's machine, they are skipped.
pub fn wanted() -> bool {
    std::env::var_os("EGRESS_REQUIRE_LIVE").is_some()
        || std::env::var_os("EGRESS_APISERVER").is_some()
        || rustix::process::geteuid().is_root()
}

struct Process {
    child: Child,
    input: ChildStdin,
    output: lines::Receiver<String>,
}

impl Drop for Process {
    /// As on a node that loses power: the server and its etcd are gone at once.
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = format!("/tmp/eg-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        fs::create_dir(&path).expect("a new folder");
        Self(path.into())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is in nobody's way.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A cluster: its folder, and its server while that runs.
pub struct ApiServer {
    // Ends before its folder goes.
    process: Option<Process>,
    folder: Folder,
    flags: Vec<String>,
}

impl ApiServer {
    /// A new cluster, whose server runs with these flags of kube-apiserver.
    pub fn start(flags: &[&str]) -> Self {
        // Sockets' paths are short: no folder of the test programs.
        let folder = Folder::new();
        let flags = flags.iter().map(|f| (*f).to_owned()).collect();
        let mut server = Self { folder, flags, process: None };
        server.run();
        server
    }

    /// A new cluster with the definitions of all kinds.
    pub async fn with_kinds(flags: &[&str]) -> Self {
        let server = Self::start(flags);
        server.install(|_| true).await;
        server
    }

    /// Starts the server on what the folder holds.
    pub fn run(&mut self) {
        assert!(self.process.is_none(), "it runs");
        let log = fs::File::options().create(true).append(true).open(self.folder.0.join("log")).expect("a log");
        let mut child = Command::new(program())
            .arg("-dir")
            .arg(&self.folder.0)
            .arg("--")
            .args(&self.flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the API server starts");
        let input = child.stdin.take().expect("piped");
        let said = BufReader::new(child.stdout.take().expect("piped"));
        let (send, output) = lines::channel();
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        self.process = Some(Process { child, input, output });
        assert_eq!(self.line()["event"], "ready");
    }

    fn line(&mut self) -> Value {
        let process = self.process.as_mut().expect("it runs");
        let Ok(line) = process.output.recv_timeout(LONG) else {
            let log = fs::read_to_string(self.folder.0.join("log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(20).collect();
            panic!("the API server ended, or is silent: {last:#?}");
        };
        serde_json::from_str(&line).expect("JSON")
    }

    /// `compact` or `revision`; the revision that is answered.
    pub fn tell(&mut self, command: &str) -> u64 {
        let answer = self.ask(command);
        answer["revision"].as_u64().unwrap_or_else(|| panic!("{answer}"))
    }

    fn ask(&mut self, command: &str) -> Value {
        let process = self.process.as_mut().expect("it runs");
        process.input.write_all(format!("{command}\n").as_bytes()).expect("it listens");
        self.line()
    }

    /// Its process takes no turn any more: connections stay, and nothing is answered.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let id = self.process.as_ref().expect("it runs").child.id();
        let process = Pid::from_raw(id.cast_signed()).expect("a process");
        kill_process(process, signal).expect("ours");
    }

    /// A token of an account of the namespace `default` that is refused in so many seconds.
    pub async fn brief_token(&mut self, name: &str, seconds: u32) -> String {
        let request = Request::new("/api/v1/namespaces/default/serviceaccounts");
        let request = request.get(name, &kube::core::params::GetParams::default()).expect("a request");
        let account: Value = self.admin().await.request(request).await.expect("an account");
        let answer = self.ask(&format!("token default {name} {} {seconds}", text(&account["metadata"]["uid"])));
        text(&answer["token"])
    }

    /// The configuration of that path, but through a relay.
    pub fn through(&self, relay: &Relay, config: &Path) -> PathBuf {
        let text_of = fs::read_to_string(config).expect("readable");
        let mut config: Value = serde_json::from_str(&text_of).expect("JSON");
        config["clusters"][0]["cluster"]["server"] = format!("https://{}", relay.address()).into();
        let path = self.folder.0.join("relay.kubeconfig");
        fs::write(&path, config.to_string()).expect("writable");
        path
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        fs::read_to_string(self.folder.0.join("address")).expect("readable").trim().to_owned()
    }

    /// Stores objects as they are, with the uids that they have, past everything that admits; many at once.
    pub fn store(&mut self, objects: &[Value]) {
        let process = self.process.as_mut().expect("it runs");
        for object in objects {
            let name = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
            let place = match (object["kind"].as_str().unwrap_or_default(), text(&object["apiVersion"]).split_once('/'))
            {
                ("Node", None) => "minions".to_owned(),
                ("Service", None) => "services/specs".to_owned(),
                (kind, Some((group, _))) if group.contains('.') => format!("{group}/{}", plural(kind)),
                (kind, _) => plural(kind),
            };
            let namespace =
                if name("namespace").is_empty() { String::new() } else { format!("{}/", name("namespace")) };
            let line = format!("put /registry/{place}/{namespace}{} {object}\n", name("name"));
            // A thread empties the other pipe.
            process.input.write_all(line.as_bytes()).expect("it listens");
        }
        for _ in objects {
            assert_eq!(self.line()["event"], "put");
        }
    }

    /// The account that `egress-tui manifests` prints, and a configuration with its token.
    pub async fn printed(&self) -> PathBuf {
        let printed = crate::program::run(&["manifests", "--revision", "canary"]);
        assert!(printed.status.success(), "{}", crate::program::said(&printed));
        let read = egress_core::manifest::parse("", &String::from_utf8_lossy(&printed.stdout));
        let objects: Vec<Value> = read.objects.into_iter().map(|o| o.value).collect();
        self.apply_all(&objects).await;
        self.kubeconfig_with_token(&self.token("egress-tui", "egress-tui", 3600).await)
    }

    /// The server and its etcd are gone at once; the data stays.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Keeps a copy of the data of a server that does not run.
    pub fn back_up(&self) {
        assert!(self.process.is_none(), "it runs");
        copy(&self.folder.0.join("etcd"), &self.folder.0.join("backup"));
    }

    /// Puts the copy in the place of the data.
    pub fn restore(&self) {
        self.wipe();
        copy(&self.folder.0.join("backup"), &self.folder.0.join("etcd"));
    }

    /// Takes all data away: the next start is another cluster at the same address.
    pub fn wipe(&self) {
        assert!(self.process.is_none(), "it runs");
        fs::remove_dir_all(self.folder.0.join("etcd")).expect("removable");
    }

    /// The administrator's configuration.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.0.join("admin.kubeconfig")
    }

    /// A configuration with a bearer token in a file, as pods have it.
    pub fn kubeconfig_with_token(&self, token: &str) -> PathBuf {
        let text = fs::read_to_string(self.kubeconfig()).expect("readable");
        let mut config: Value = serde_json::from_str(&text).expect("JSON");
        let place = self.folder.0.join("token");
        fs::write(&place, token).expect("writable");
        config["users"][0]["user"] = json!({"tokenFile": place});
        let path = self.folder.0.join("token.kubeconfig");
        fs::write(&path, config.to_string()).expect("writable");
        path
    }

    /// Another token in that file.
    pub fn rotate(&self, token: &str) {
        fs::write(self.folder.0.join("token"), token).expect("writable");
    }

    /// A client that may do everything.
    pub async fn admin(&self) -> Client {
        let cluster = Cluster { kubeconfig: Some(self.kubeconfig()), context: None };
        cluster.connect().await.expect("a client").0
    }

    /// Creates or changes an object of any kind, with its status where it has one.
    pub async fn apply(&self, object: &Value) {
        let client = self.admin().await;
        apply(&client, object).await.unwrap_or_else(|e| panic!("{}: {e}", object["metadata"]["name"]));
    }

    /// Creates or changes all of them.
    pub async fn apply_all<'a>(&self, objects: impl IntoIterator<Item = &'a Value>) {
        let client = self.admin().await;
        for object in objects {
            apply(&client, object).await.unwrap_or_else(|e| panic!("{}: {e}", object["metadata"]["name"]));
        }
    }

    /// Takes an object away.
    pub async fn delete(&self, object: &Value) {
        let api = api(&self.admin().await, object);
        api.delete(&text(&object["metadata"]["name"]), &DeleteParams::default()).await.expect("deleted");
    }

    /// Installs the definitions whose names are chosen, and waits until their kinds are served.
    pub async fn install(&self, chosen: impl Fn(&str) -> bool) {
        let all: Vec<Value> = definitions().into_iter().filter(|d| chosen(&text(&d["metadata"]["name"]))).collect();
        self.apply_all(&all).await;
        let client = self.admin().await;
        for definition in &all {
            let group = text(&definition["spec"]["group"]);
            let plural = text(&definition["spec"]["names"]["plural"]);
            let path = format!("/apis/{group}/{}/{plural}", text(&definition["spec"]["versions"][0]["name"]));
            let served = async {
                let mut every = tokio::time::interval(Duration::from_millis(50));
                loop {
                    every.tick().await;
                    let request = Request::new(path.as_str()).list(&kube::api::ListParams::default().limit(1));
                    if client.request::<Value>(request.expect("a request")).await.is_ok() {
                        return;
                    }
                }
            };
            timeout(LONG, served).await.unwrap_or_else(|_| panic!("{path} is not served"));
        }
    }

    /// A ServiceAccount with these rules for the whole cluster, and a token for it.
    pub async fn account(&self, name: &str, rules: &Value) -> String {
        self.apply_all(&[
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "default"}}),
            role(name, rules),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}]}),
        ])
        .await;
        self.token("default", name, 3600).await
    }

    /// A token of a ServiceAccount for so many seconds (600 at least, says the server).
    pub async fn token(&self, namespace: &str, name: &str, seconds: u32) -> String {
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": seconds}});
        let made = Request::new(format!("/api/v1/namespaces/{namespace}/serviceaccounts"))
            .create_subresource("token", name, &PostParams::default(), request.to_string().into_bytes())
            .expect("a request");
        let made: Value = self.admin().await.request(made).await.expect("a token");
        text(&made["status"]["token"])
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}
