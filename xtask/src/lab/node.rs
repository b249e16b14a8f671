//! The node: a network namespace for itself, one for everything outside, one for every pod, wired as a CNI plugin, kube-proxy and
//! istio-init would; the name server, the hosts outside, and an Envoy in every pod that has a proxy.
//!
//! ```text
//!   pod  eth0 ── vN ┐                              203.0.113.0/24 and the like, on lo
//!   pod  eth0 ── vN ┼ node ── uplink ── eth0 ── outside
//!   pod  eth0 ── vN ┘  Services, masquerading
//! ```
//!
//! Namespaces have no names and no mounts: they live as long as the processes in them, and every process sits in the
//! run's cgroups. Killing those removes everything.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use rcgen::SanType;

use crate::lab::certs::{Authority, dns, spiffe};
use crate::lab::objects::{Objects, PROXY_ID, Pod, Proxy};
use crate::lab::run::Run;
use crate::lab::scenario::{Play, Scenario};
use crate::lab::{ambient, cgroup, rules};
use crate::tools::{find, tool};

/// What the node is called among the sandboxes; no pod's key lacks the slash.
const NODE: &str = "node";
/// Everything that is not the node.
const OUTSIDE: &str = "outside";

/// A node that runs.
pub(crate) struct Node {
    /// The objects' folder, as the program is to read it.
    pub(crate) mesh: PathBuf,
    /// `metadata.name` of the Node object.
    pub(crate) name: String,
    /// How many proxies run.
    pub(crate) proxies: usize,
    pods: Vec<Pod>,
    sandboxes: BTreeMap<String, Sandbox>,
    children: Vec<Child>,
    binary: PathBuf,
    // last: clears what the fields above ran
    pub(crate) run: Run,
}

/// A process that holds a pod's namespaces, and the pipe to it.
struct Sandbox {
    folder: PathBuf,
    pid: i32,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    child: Child,
}

/// A play that is ready to be run: its whole command line.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    /// `namespace/name` of the pod.
    pub(crate) pod: String,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// How many journeys.
    pub(crate) count: u32,
    /// The client must not get its answer.
    pub(crate) fails: bool,
    /// The pod's rules are taken away for this play.
    pub(crate) early: Option<Rules>,
}

/// The rules of a running pod.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    network: String,
    file: PathBuf,
}

impl Rules {
    /// Nothing is redirected any more.
    pub(crate) fn lift(&self) -> Result<()> {
        self.restore("*nat\nCOMMIT\n")
    }

    /// As istio-init writes them.
    pub(crate) fn write(&self) -> Result<()> {
        self.restore(&fs::read_to_string(&self.file).with_context(|| format!("{}", self.file.display()))?)
    }

    fn restore(&self, table: &str) -> Result<()> {
        let mut command = tool("nsenter");
        let program = find("iptables-restore").context("no iptables-restore")?;
        command.arg(format!("--net={}", self.network)).arg("--").arg(program);
        let mut child = command.stdin(Stdio::piped()).spawn().context("nsenter")?;
        child.stdin.take().context("no pipe")?.write_all(table.as_bytes())?;
        let status = child.wait()?;
        if !status.success() {
            bail!("iptables-restore in {}: {status}", self.network);
        }
        Ok(())
    }
}

impl Node {
    /// Makes it. On failure nothing is left.
    pub(crate) fn up(scenario: &Scenario, envoy: &Path, run: Run) -> Result<Self> {
        let objects = Objects::read(&scenario.folder.join("mesh"))?;
        let machine = objects.node()?;
        let mesh = run.folder.join("mesh");
        copy_folder(&scenario.folder.join("mesh"), &mesh)?;
        let bin = run.folder.join("bin");
        fs::create_dir_all(&bin)?;
        let binary = bin.join("lab");
        fs::copy(std::env::current_exe()?, &binary)?;
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))?;
        let mut node = Self {
            mesh,
            name: machine.name.clone(),
            proxies: 0,
            pods: objects.pods(&machine.name)?,
            sandboxes: BTreeMap::new(),
            children: Vec::new(),
            binary,
            run,
        };
        let services = objects.services();
        let Some(resolver) = services.iter().find(|s| s.namespace == "kube-system" && s.name == "kube-dns") else {
            bail!("the mesh has no Service kube-system/kube-dns");
        };
        let resolver = resolver.address;

        let authority = Authority::new()?;
        let etc = node.prepare(NODE, &resolv_conf("default", resolver))?;
        // Pods on the node's network trust what the other pods trust.
        authority.write(&etc.join("certs"), vec![spiffe("default", "default")?])?;
        node.prepare(OUTSIDE, "")?;
        for pod in node.pods.clone() {
            for id in pod.containers.values() {
                fs::create_dir_all(node.run.observed.join(cgroup::of_container(&pod, id)))?;
            }
            if pod.host_network {
                continue;
            }
            let etc = node.prepare(&pod.key(), &resolv_conf(&pod.namespace, resolver))?;
            let mut names = vec![spiffe(&pod.namespace, &pod.service_account)?];
            if pod.proxy == Some(Proxy::Waypoint) {
                names.push(SanType::IpAddress(pod.ip.into()));
            }
            authority.write(&etc.join("certs"), names)?;
        }
        let names = scenario.names.keys().map(|n| dns(n)).collect::<Result<Vec<_>>>()?;
        let certificates = node.run.folder.join("outside-certs");
        authority.write(&certificates, names)?;
        for host in scenario.outside.iter().filter(|h| !h.names.is_empty()) {
            let names = host.names.iter().map(|n| dns(n)).collect::<Result<Vec<_>>>()?;
            authority.write(&certificates.join(host.address.to_string()), names)?;
        }

        node.wire(&machine, &services, resolver, scenario)?;
        node.serve(scenario, &services, resolver, &certificates)?;
        node.start_proxies(scenario, envoy)?;
        node.start_ambient(scenario, resolver)?;
        Ok(node)
    }

    /// The folder of a sandbox with its `/etc`, and the sandbox itself.
    fn prepare(&mut self, key: &str, resolv_conf: &str) -> Result<PathBuf> {
        let folder = self.run.folder.join("pods").join(key.replace('/', "."));
        let etc = folder.join("etc");
        fs::create_dir_all(etc.join("certs"))?;
        let host = key.split('/').next_back().unwrap_or(key);
        fs::write(etc.join("resolv.conf"), resolv_conf)?;
        fs::write(etc.join("hosts"), format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {host}\n"))?;
        fs::write(etc.join("nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files dns\n")?;
        fs::write(
            etc.join("passwd"),
            "root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\nistio-proxy:x:1337:1337::/:/bin/sh\n",
        )?;
        fs::write(etc.join("group"), "root:x:0:\napp:x:1000:\nistio-proxy:x:1337:\n")?;
        if Path::new("/etc/ld.so.cache").is_file() {
            fs::copy("/etc/ld.so.cache", etc.join("ld.so.cache"))?;
        }
        // pods: the cgroup of the sandbox container, which no containerStatus names
        let cgroup = match self.pods.iter().find(|p| p.key() == key) {
            Some(pod) => {
                self.run.observed.join(cgroup::of_container(pod, &format!("{:0>64}", pod.uid.replace('-', ""))))
            }
            None => self.run.unobserved.join(key),
        };
        fs::create_dir_all(&cgroup)?;
        let mut command = tool("unshare");
        command.args(["--net", "--mount", "--propagation", "private", "--"]).arg(&self.binary);
        command.args(["inside", "sandbox", "--folder"]).arg(&folder).arg("--cgroup").arg(&cgroup);
        command.args(["--parent", &std::process::id().to_string()]);
        command.stderr(File::create(folder.join("sandbox.log"))?);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("unshare")?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else { bail!("no pipe") };
        let pid = child.id().cast_signed();
        let sandbox = Sandbox { folder, pid, input, output: BufReader::new(output), child };
        self.sandboxes.insert(key.to_owned(), sandbox);
        Ok(etc)
    }

    /// Addresses, links, routes and rules, all namespaces at once.
    fn wire(
        &mut self,
        machine: &crate::lab::objects::Node,
        services: &[crate::lab::objects::Service],
        resolver: Ipv4Addr,
        scenario: &Scenario,
    ) -> Result<()> {
        for (key, sandbox) in &mut self.sandboxes {
            sandbox.expect("up").with_context(|| format!("sandbox {key}"))?;
        }
        let router = Ipv4Addr::from((u32::from(machine.address) & 0xffff_ff00) | 1);
        let gateway = machine.pod_gateway;
        let outside = self.sandbox(OUTSIDE)?;
        let mut links = format!(
            "link set lo up\naddr add {resolver}/32 dev lo\nlink add uplink type veth peer name eth0 netns {}\n\
             addr add {}/24 dev uplink\nlink set uplink up\nroute add default via {router}\n",
            outside.pid, machine.address
        );
        let mut hosts = format!("link set lo up\naddr add {router}/24 dev eth0\nlink set eth0 up\n");
        for host in &scenario.outside {
            let _ = writeln!(hosts, "addr add {}/32 dev lo", host.address);
        }
        for (i, pod) in self.pods.iter().filter(|p| !p.host_network).enumerate() {
            let sandbox = self.sandbox(&pod.key())?;
            let _ = write!(
                links,
                "link add v{i} type veth peer name eth0 netns {}\naddr add {gateway}/32 dev v{i}\nlink set v{i} up\n\
                 route add {}/32 dev v{i}\n",
                sandbox.pid, pod.ip
            );
            let own = format!(
                "link set lo up\naddr add {}/32 dev eth0\nlink set eth0 up\nroute add {gateway} dev eth0 scope link\n\
                 route add default via {gateway}\n",
                pod.ip
            );
            let rules = rules::istio_init(pod).or_else(|| rules::ambient(pod));
            // as Kubernetes does, so that gateways may listen below 1024
            sandbox.plan(&own, rules.as_deref(), "net.ipv4.ip_unprivileged_port_start=0\n")?;
        }
        self.sandbox(OUTSIDE)?.plan(&hosts, None, "")?;
        let forward = "net.ipv4.ip_forward=1\nnet.ipv4.conf.all.rp_filter=0\nnet.ipv4.conf.default.rp_filter=0\n";
        self.sandbox(NODE)?.plan(&links, Some(&rules::kube_proxy(machine, services)), forward)?;
        // the node first: it makes the links that the others configure
        let others: Vec<String> = self.sandboxes.keys().filter(|k| *k != NODE).cloned().collect();
        self.all_do("wire", &[NODE.to_owned()])?;
        self.all_do("wire", &others)?;
        Ok(())
    }

    /// The name server on the node, the hosts outside.
    fn serve(
        &mut self,
        scenario: &Scenario,
        services: &[crate::lab::objects::Service],
        resolver: Ipv4Addr,
        certificates: &Path,
    ) -> Result<()> {
        let mut names = scenario.names.clone();
        for service in services {
            names.insert(format!("{}.{}.svc.cluster.local", service.name, service.namespace), vec![service.address]);
        }
        let (names_file, hosts_file) = (self.run.folder.join("names.json"), self.run.folder.join("hosts.json"));
        fs::write(&names_file, serde_json::to_string_pretty(&names)?)?;
        fs::write(&hosts_file, serde_json::to_string_pretty(&scenario.outside)?)?;
        let text = |path: &Path| path.display().to_string();
        let binary = text(&self.binary);
        let dns = [&binary, "inside", "dns", "--listen", &resolver.to_string(), "--names", &text(&names_file)]
            .map(str::to_owned);
        let world = [&binary, "inside", "world", "--hosts", &text(&hosts_file), "--certificates", &text(certificates)]
            .map(str::to_owned);
        for (place, command) in [(NODE, dns), (OUTSIDE, world)] {
            let cgroup = self.run.unobserved.join(place);
            let command = self.command(place, place, &cgroup, (0, 0), &command)?;
            self.serve_as(place, command)?;
        }
        Ok(())
    }

    fn start_proxies(&mut self, scenario: &Scenario, envoy: &Path) -> Result<()> {
        let mut waiting = Vec::new();
        for pod in self.pods.clone() {
            let (Some(proxy), Some(id)) = (pod.proxy, pod.containers.get("istio-proxy")) else { continue };
            if !proxy.is_envoy() {
                continue;
            }
            let config = self.sandbox(&pod.key())?.folder.join("envoy.json");
            let given = scenario.envoy(&pod.namespace, &pod.name);
            fs::copy(&given, &config).with_context(|| format!("{}", given.display()))?;
            let command = [
                &envoy.display().to_string(),
                "-c",
                &config.display().to_string(),
                "--disable-hot-restart",
                "--concurrency",
                "1",
                "--log-level",
                "error",
                "--file-flush-interval-msec",
                "50",
            ]
            .map(str::to_owned);
            let cgroup = self.run.observed.join(cgroup::of_container(&pod, id));
            let mut command = self.command(&pod.key(), &pod.key(), &cgroup, (PROXY_ID, PROXY_ID), &command)?;
            let folder = &self.sandbox(&pod.key())?.folder;
            command.stdin(Stdio::null()).stdout(File::create(access_log(folder))?);
            command.stderr(File::create(folder.join("envoy.log"))?);
            self.children.push(command.spawn()?);
            waiting.push(pod.key());
        }
        self.all_do("ready", &waiting)?;
        self.proxies = waiting.len();
        Ok(())
    }

    /// ztunnel and waypoints.
    fn start_ambient(&mut self, scenario: &Scenario, resolver: Ipv4Addr) -> Result<()> {
        let file = self.run.folder.join("vips.json");
        fs::write(&file, serde_json::to_string_pretty(&scenario.vips)?)?;
        let vips = ["--vips".to_owned(), file.display().to_string()];
        for pod in self.pods.clone() {
            let (name, user, words) = match pod.proxy {
                Some(Proxy::Waypoint) => ("envoy", (PROXY_ID, PROXY_ID), vec!["waypoint".to_owned()]),
                Some(Proxy::Ztunnel) => {
                    ("ztunnel", (0, ambient::GROUP), vec!["ztunnel".into(), "--resolver".into(), resolver.to_string()])
                }
                Some(Proxy::Sidecar | Proxy::Router) | None => continue,
            };
            let id = pod.containers.get("istio-proxy").with_context(|| format!("pod {} has no proxy", pod.key()))?;
            let program = self.program(name)?;
            let mut command = vec![program.display().to_string(), "inside".to_owned()];
            command.extend(words.into_iter().chain(vips.clone()));
            if pod.proxy == Some(Proxy::Ztunnel) {
                let served = self.pods.iter().filter(|p| p.is_ambient()).filter_map(|p| self.pid_of(&p.key()));
                command.extend(served.map(|pid| pid.to_string()));
            }
            let cgroup = self.run.observed.join(cgroup::of_container(&pod, id));
            let command = self.command(&pod.key(), &pod.key(), &cgroup, user, &command)?;
            self.serve_as(&pod.key(), command)?;
            self.proxies += 1;
        }
        Ok(())
    }

    /// This program under another name, which is then the process's.
    fn program(&self, name: &str) -> Result<PathBuf> {
        let program = self.binary.with_file_name(name);
        if !program.exists() {
            fs::hard_link(&self.binary, &program)?;
        }
        Ok(program)
    }

    /// Starts a server and waits until it says that it serves.
    fn serve_as(&mut self, what: &str, mut command: Command) -> Result<()> {
        let log = self.run.folder.join(format!("{}.log", what.replace('/', ".")));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let mut child = command.spawn()?;
        let said = child.stdout.take().context("no pipe")?;
        self.children.push(child);
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line)?;
        if line.trim() != "ready" {
            bail!("the servers of {what} did not start: {}", fs::read_to_string(log).unwrap_or_default().trim());
        }
        Ok(())
    }

    /// Gives all of them the same word, then waits for all.
    fn all_do(&mut self, word: &str, keys: &[String]) -> Result<()> {
        for key in keys {
            let sandbox = self.sandboxes.get_mut(key).with_context(|| format!("no sandbox {key}"))?;
            writeln!(sandbox.input, "{word}").with_context(|| format!("sandbox {key}: {}", sandbox.log()))?;
        }
        for key in keys {
            let sandbox = self.sandboxes.get_mut(key).with_context(|| format!("no sandbox {key}"))?;
            sandbox.expect(word).with_context(|| format!("sandbox {key}"))?;
        }
        Ok(())
    }

    fn sandbox(&self, key: &str) -> Result<&Sandbox> {
        self.sandboxes.get(key).with_context(|| format!("no sandbox {key}"))
    }

    /// A command that runs `command` in the network of one sandbox and the files of another.
    fn command(
        &self,
        network: &str,
        mount: &str,
        cgroup: &Path,
        (uid, gid): (u32, u32),
        command: &[String],
    ) -> Result<Command> {
        let mut line = Command::new(&self.binary);
        line.args(["inside", "exec"]);
        line.args(["--network", &self.sandbox(network)?.pid.to_string()]);
        line.args(["--mount", &self.sandbox(mount)?.pid.to_string()]);
        line.arg("--cgroup").arg(cgroup).args(["--uid", &uid.to_string(), "--gid", &gid.to_string()]);
        line.args(["--parent", &std::process::id().to_string()]);
        line.arg("--").args(command);
        Ok(line)
    }

    /// The command of one play, to be run by this process.
    pub(crate) fn ready(&self, pod: &str, play: &Play) -> Result<Ready> {
        let found = self.pods.iter().find(|p| p.key() == pod).with_context(|| format!("no pod {pod} on the node"))?;
        let id = found
            .containers
            .get(&play.container)
            .with_context(|| format!("pod {pod} has no container {:?}", play.container))?;
        let client = self.program(&play.r#as)?;
        let sandbox = self.sandbox(if found.host_network { NODE } else { pod })?;
        let network = format!("/proc/{}/ns/net", sandbox.pid);
        let early = play.early.then(|| Rules { network, file: sandbox.rules() });
        let sandbox = sandbox.pid.to_string();
        let cgroup = self.run.observed.join(cgroup::of_container(found, id));
        let mut command = vec![self.binary.display().to_string(), "inside".into(), "exec".into()];
        let options = [
            ("--network", sandbox.clone()),
            ("--mount", sandbox),
            ("--cgroup", cgroup.display().to_string()),
            ("--uid", play.uid.to_string()),
            ("--gid", play.gid.to_string()),
            ("--parent", std::process::id().to_string()),
        ];
        for (name, value) in options {
            command.extend([name.to_owned(), value]);
        }
        command.extend(["--".to_owned(), client.display().to_string()]);
        command.extend(["inside".to_owned(), "client".to_owned(), serde_json::to_string(play)?]);
        Ok(Ready { pod: pod.to_owned(), command, count: play.count, fails: play.fails, early })
    }

    /// Copies every proxy's access log into the folder, as `NAMESPACE.POD.log`.
    pub(crate) fn save_access_logs(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        for pod in &self.pods {
            if let Ok(sandbox) = self.sandbox(&pod.key()) {
                let log = access_log(&sandbox.folder);
                if log.is_file() {
                    fs::copy(log, folder.join(format!("{}.{}.log", pod.namespace, pod.name)))?;
                }
            }
        }
        Ok(())
    }

    /// How many pods there are.
    pub(crate) fn pods(&self) -> usize {
        self.pods.len()
    }

    /// pid of the process that holds a pod's namespaces.
    pub(crate) fn pid_of(&self, pod: &str) -> Option<i32> {
        self.sandboxes.get(pod).map(|s| s.pid)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.run.kill();
        // reap them: a cgroup with zombies cannot be removed
        for child in self.children.iter_mut().chain(self.sandboxes.values_mut().map(|s| &mut s.child)) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Sandbox {
    fn plan(&self, ip: &str, rules: Option<&str>, sysctl: &str) -> Result<()> {
        fs::write(self.folder.join("ip.batch"), ip)?;
        fs::write(self.folder.join("sysctl"), sysctl)?;
        if let Some(rules) = rules {
            fs::write(self.rules(), rules)?;
        }
        Ok(())
    }

    fn rules(&self) -> PathBuf {
        self.folder.join("rules")
    }

    fn expect(&mut self, word: &str) -> Result<()> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.trim() != word {
            bail!("instead of {word:?} it said {:?} {}", line.trim(), self.log());
        }
        Ok(())
    }

    fn log(&self) -> String {
        let said = |file: &str| fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        format!("{} {}", said("sandbox.log").trim(), said("envoy.log").trim())
    }
}

fn access_log(folder: &Path) -> PathBuf {
    folder.join("access.log")
}

fn resolv_conf(namespace: &str, resolver: Ipv4Addr) -> String {
    format!(
        "nameserver {resolver}\nsearch {namespace}.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    )
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
