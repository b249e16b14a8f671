//! The dashboard with a real API server that is slow, silent, gone and back; and a row that turns when an object goes.

#![expect(clippy::print_stdout, reason = "tests print what they measured")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use egress_tests::cluster::{ApiServer, entry, load, namespace, objects_below, wanted};
use egress_tests::program;
use egress_tests::terminal::Terminal;
use serde_json::{Value, json};

fn dashboard(config: &Path) -> Result<Terminal> {
    let program = program::path().display().to_string();
    let mut terminal = Terminal::start(&[&program, "--kubeconfig", &config.display().to_string()], &[])?;
    terminal.resize(160, 40)?;
    Ok(terminal)
}

/// Keys are answered: the help comes and goes.
fn is_live(terminal: &mut Terminal) -> Result<()> {
    terminal.send("?")?;
    terminal.shows("explain the row")?;
    terminal.send("\x1b")?;
    terminal.until("the help should be gone", |t| !t.screen().contents().contains("explain the row"))
}

#[test]
fn the_first_screen_waits_for_no_cluster() -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    // Connections are made, and nobody ever takes them.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config");
    let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "mute\u{1b}[2J",
        "clusters": [{"name": "c", "cluster": {"server": format!("https://{}", silent.local_addr()?), "insecure-skip-tls-verify": true}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "mute\u{1b}[2J", "context": {"cluster": "c", "user": "u"}}]});
    fs::write(&config, text.to_string())?;
    let mut took = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let mut terminal = dashboard(&config)?;
        terminal.shows("VERDICT")?;
        took.push(began.elapsed().as_millis());
        terminal.shows("mesh loading")?;
        is_live(&mut terminal)?;
        terminal.send("q")?;
        ensure!(terminal.wait()? == 0, "{}", terminal.screen().contents());
        terminal.is_given_back()?;
    }
    println!("ms from the start to the first screen, with an API server that never answers: {took:?}");
    Ok(())
}

/// The age of the objects that the header tells, in seconds.
fn age(terminal: &Terminal) -> Option<u64> {
    let text = terminal.screen().contents();
    let (_, rest) = text.split_once("mesh ")?;
    let (age, _) = rest.split_once(" old")?;
    age.strip_suffix('s')?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_screen_lives_on_while_the_server_is_stopped_and_gone_and_recovers() -> Result<()> {
    if !wanted() {
        return Ok(());
    }
    let mut server = ApiServer::with_kinds(&[]).await;
    server.apply_all(&[namespace("shop"), entry("shop", "api")]).await;
    let config = server.printed().await;
    let mut terminal = dashboard(&config)?;
    terminal.shows("mesh cluster")?;

    // Its process stands still: connections stay, no answer comes.
    server.freeze();
    let began = Instant::now();
    terminal.shows("STALE")?;
    println!("a server that stands still is STALE after {:.1} s", began.elapsed().as_secs_f64());
    terminal.until("its age should be told", |t| age(t).is_some())?;
    let first = age(&terminal);
    terminal.until("its age should grow", |t| age(t) > first)?;
    is_live(&mut terminal)?;
    server.thaw();
    let began = Instant::now();
    terminal.until("it should be fresh again", |t| !t.screen().contents().contains("STALE"))?;
    println!("and fresh {:.1} s after it goes on", began.elapsed().as_secs_f64());

    server.kill();
    let began = Instant::now();
    terminal.shows("STALE")?;
    println!("a server that is gone is STALE after {:.1} s", began.elapsed().as_secs_f64());
    is_live(&mut terminal)?;
    server.run();
    let began = Instant::now();
    terminal.until("it should be fresh again", |t| !t.screen().contents().contains("STALE"))?;
    println!("and fresh {:.1} s after it is back", began.elapsed().as_secs_f64());
    terminal.send("q")?;
    ensure!(terminal.wait()? == 0, "{}", terminal.screen().contents());
    Ok(())
}

/// A lab that was kept; it goes with this value.
struct Lab {
    said: String,
}

fn lab(arguments: &[&str]) -> Result<String> {
    let out = program::xtask(&["lab"]).args(arguments).output()?;
    ensure!(out.status.success(), "{}", program::said(&out));
    Ok(String::from_utf8(out.stdout)?)
}

impl Lab {
    fn start() -> Result<Self> {
        Ok(Self { said: lab(&["--keep"])? })
    }

    fn line(&self, begins: &str) -> Result<&str> {
        let line = self.said.lines().find_map(|l| l.strip_prefix(begins)).with_context(|| self.said.clone())?;
        Ok(line.trim())
    }

    fn option(&self, name: &str) -> Result<&str> {
        let mut words = self.line("attach")?.split(' ').skip_while(|w| *w != name);
        words.nth(1).with_context(|| format!("no {name}: {}", self.said))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Ok(id) = self.line("end      cargo xtask lab --down") {
            lab(&["--down", id]).expect("the lab goes");
        }
    }
}

/// A process that is ended with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn folder_named(below: &Path, word: &str) -> Option<PathBuf> {
    fs::read_dir(below).ok()?.flatten().map(|e| e.path()).filter(|p| p.is_dir()).find_map(|path| {
        let fits = path.file_name().is_some_and(|n| n.to_string_lossy().contains(word));
        if fits { Some(path) } else { folder_named(&path, word) }
    })
}

/// A connection from that pod, open as long as this value lives.
fn connection(lab: &Lab, pod: &Value, to: (&str, u16)) -> Result<Running> {
    let containers = pod["status"]["containerStatuses"].as_array().context("containers")?;
    let application = containers.iter().find(|c| c["name"] != "istio-proxy").context("an application")?;
    let id = application["containerID"].as_str().and_then(|id| id.rsplit('/').next()).context("an id")?;
    let container = folder_named(Path::new(lab.option("--cgroup-root")?), id).context("its cgroup")?;
    // The pod's own: no row is shared with what the lab plays in the container.
    let cgroup = container.parent().context("the pod's cgroup")?;
    let process = lab.line("enter")?.split_whitespace().nth(4).context("a process")?;
    // What a SQL client says first, and then it waits for us.
    let dial = format!(
        r"exec 3<>/dev/tcp/{}/{}; printf '\x12\x01\x00\x08\x00\x00\x01\x00' >&3; echo sent; read -r end",
        to.0, to.1
    );
    let enter = r#"echo $$ > "$0/cgroup.procs" && exec nsenter --net --mount --target "$1" bash -c "$2""#;
    let mut shell = Command::new("bash");
    shell.arg("-c").arg(enter).arg(cgroup).arg(process).arg(dial);
    let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
    let running = Running(child);
    ensure!(line == "sent\n", "no connection: {line:?}");
    Ok(running)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_that_is_deleted_turns_the_row_of_an_open_connection() -> Result<()> {
    if !wanted() || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let all = objects_below(&program::repository().join("tests/lab/dwh-static-tcp/mesh"));
    let find = |kind: &str, name: &str| {
        let mut fit = all.iter().filter(|o| {
            o["kind"] == kind && o["metadata"]["name"].as_str().is_some_and(|n| n == name || name.is_empty())
        });
        fit.next().with_context(|| format!("no {kind} {name}"))
    };
    let (route, pod) = (find("VirtualService", "")?, find("Pod", "etl")?);
    let mut server = ApiServer::with_kinds(&[]).await;
    load(&mut server, all.clone()).await;
    let config = server.printed().await;
    let lab = Lab::start()?;
    let folder = tempfile::tempdir()?;
    let ready = folder.path().join("ready");
    let mut watch = program::command(&["watch", "-o", "jsonl", "--filter", "pod:etl port:1433"]);
    watch.arg("--kubeconfig").arg(&config).arg("--ready-file").arg(&ready);
    watch.args(["--cgroup-root", lab.option("--cgroup-root")?, "--node", lab.option("--node")?]);
    let mut watch = Running(watch.stdout(Stdio::piped()).spawn()?);
    let mut lines = BufReader::new(watch.0.stdout.take().context("piped")?).lines();
    let mut row = |is: &dyn Fn(&Value) -> bool| -> Result<Value> {
        for line in lines.by_ref() {
            let line: Value = serde_json::from_str(&line?)?;
            if is(&line["flow"]) {
                return Ok(line["flow"].clone());
            }
        }
        anyhow::bail!("the program ended")
    };
    while !ready.exists() {
        ensure!(watch.0.try_wait()?.is_none(), "the program ended");
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    let open = connection(&lab, pod, ("203.0.113.10", 1433))?;
    let before = row(&|flow| flow["source"]["container"].is_null())?;
    assert_eq!(
        (&before["verdict"], &before["reason"]),
        (&json!("via-gateway"), &json!("ROUTED_VIA_GATEWAY")),
        "{before:#}"
    );

    let began = Instant::now();
    server.delete(route).await;
    let deleted = began.elapsed();
    let after = row(&|flow| flow["source"]["container"].is_null())?;
    println!(
        "the row turned {} ms after the deletion was asked for, which took {} ms",
        began.elapsed().as_millis(),
        deleted.as_millis()
    );
    // What is open still goes through the gateway, which nothing asks for any more.
    assert_eq!((&after["verdict"], &after["reason"]), (&json!("policy-mismatch"), &json!("STALE_PROXY")), "{after:#}");
    let was = (&after["changed"]["was"], &after["changed"]["reason"]);
    assert_eq!(was, (&json!("via-gateway"), &json!("ROUTED_VIA_GATEWAY")), "{after:#}");
    let name = format!(
        "VirtualService {}/{}",
        route["metadata"]["namespace"].as_str().unwrap_or_default(),
        route["metadata"]["name"].as_str().unwrap_or_default()
    );
    assert_eq!(after["changed"]["objects"], json!([{"object": name, "field": null, "how": "removed"}]));
    drop(open);
    Ok(())
}
