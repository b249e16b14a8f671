//! A scenario: objects (`mesh/`), what istiod generated for them (`envoy/`), and `scenario.json`: what is outside, what
//! is played, and what must be seen.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::lab::ambient::Vip;

/// The file `scenario.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// One line.
    pub(crate) title: String,
    /// Host name to addresses, for the lab's name server. Documentation ranges only.
    pub(crate) names: BTreeMap<String, Vec<Ipv4Addr>>,
    /// Hosts outside of the cluster.
    pub(crate) outside: Vec<Host>,
    /// What is played, in this order.
    pub(crate) variants: Vec<Variant>,
    /// The journey that `--burst` repeats.
    #[serde(default)]
    pub(crate) burst: Option<Burst>,
    /// Addresses that ztunnel and waypoints know.
    #[serde(default)]
    pub(crate) vips: Vec<Vip>,
    /// Its folder.
    #[serde(skip)]
    pub(crate) folder: PathBuf,
    /// Its folder's name.
    #[serde(skip)]
    pub(crate) name: String,
}

/// A host outside: every TCP port speaks TLS, HTTP or echo, as the client begins.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Host {
    /// Its address.
    pub(crate) address: Ipv4Addr,
    /// TCP ports that answer.
    #[serde(default)]
    pub(crate) tcp: Vec<u16>,
    /// UDP ports that listen and say nothing.
    #[serde(default)]
    pub(crate) udp: Vec<u16>,
    /// Names of its certificate; default: every name of the scenario.
    #[serde(default)]
    pub(crate) names: Vec<String>,
}

/// One pod, what it does, and what must be seen of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Variant {
    /// `namespace/name` of the pod.
    pub(crate) pod: String,
    /// One line.
    pub(crate) title: String,
    /// The traffic.
    pub(crate) play: Vec<Play>,
    /// What must be seen.
    pub(crate) expect: Expect,
}

/// What must be seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    /// The verdict.
    pub(crate) verdict: String,
    /// The deciding reason.
    pub(crate) reason: String,
    /// The deciding object: `Kind namespace/name`.
    pub(crate) object: String,
    /// Its field.
    pub(crate) field: String,
}

/// The journey that `--burst` repeats.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Burst {
    /// `namespace/name` of the pod.
    pub(crate) pod: String,
    /// The traffic; `count` and `parallel` come from the command line.
    pub(crate) play: Play,
}

/// One command in a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Play {
    /// The container that the process belongs to.
    #[serde(default = "app")]
    pub(crate) container: String,
    /// Its uid.
    #[serde(default = "user")]
    pub(crate) uid: u32,
    /// Its gid.
    #[serde(default = "user")]
    pub(crate) gid: u32,
    /// The name that the process goes by.
    pub(crate) r#as: String,
    /// What it does.
    #[serde(rename = "do")]
    pub(crate) verb: Verb,
    /// `HOST:PORT` (resolved by the pod's name server) or `ADDRESS:PORT`.
    pub(crate) to: String,
    /// Server name or Host header; default: the host of `to`, none if that is an address.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// How often.
    #[serde(default = "once")]
    pub(crate) count: u32,
    /// How many at a time.
    #[serde(default = "once")]
    pub(crate) parallel: u32,
    /// The client must not get its answer.
    #[serde(default)]
    pub(crate) fails: bool,
    /// Before istio-init, or the node's CNI plugin, has written the pod's rules: they are taken away for this play.
    #[serde(default)]
    pub(crate) early: bool,
}

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verb {
    /// TLS, a request, an answer, a clean close.
    Tls,
    /// The same, the `ClientHello` in two segments.
    TlsSplit,
    /// Bytes that are neither TLS nor HTTP (a TDS pre-login), echoed.
    Tcp,
    /// A Redis PING, echoed.
    Redis,
    /// One HTTP request.
    Http,
    /// The same, its Host in the second segment.
    HttpSplit,
    /// One datagram, not answered.
    Udp,
}

fn app() -> String {
    "app".to_owned()
}

fn user() -> u32 {
    1000
}

fn once() -> u32 {
    1
}

/// The folder that holds the scenarios.
pub(crate) fn home() -> PathBuf {
    crate::workspace().join("tests/lab")
}

impl Scenario {
    /// By name, or a folder of the same shape.
    pub(crate) fn load(which: &str) -> Result<Self> {
        let published = home().join(which);
        let folder = if published.join("scenario.json").is_file() { published } else { PathBuf::from(which) };
        let file = folder.join("scenario.json");
        if !file.is_file() {
            let known: Vec<_> = all()?.into_iter().map(|s| s.name).collect();
            bail!("no scenario {which:?}; there are: {} (or give a folder with a scenario.json)", known.join(", "));
        }
        let text = fs::read_to_string(&file)?;
        let mut scenario: Self = serde_json::from_str(&text).with_context(|| format!("{}", file.display()))?;
        scenario.folder = folder.canonicalize()?;
        scenario.name = scenario.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(scenario)
    }

    /// What istiod generated for this pod's proxy.
    pub(crate) fn envoy(&self, namespace: &str, pod: &str) -> PathBuf {
        self.folder.join("envoy").join(format!("{namespace}.{pod}.json"))
    }

    fn to_json(&self) -> Value {
        let variants = self.variants.iter().map(|v| {
            let (namespace, name) = v.pod.split_once('/').unwrap_or(("default", &v.pod));
            json!({
                "name": name, "namespace": namespace, "title": v.title,
                "verdict": v.expect.verdict, "reason": v.expect.reason,
                "object": v.expect.object, "field": v.expect.field,
            })
        });
        json!({"name": self.name, "title": self.title, "variants": variants.collect::<Vec<_>>()})
    }
}

/// Every scenario of the repository, by name.
pub(crate) fn all() -> Result<Vec<Scenario>> {
    let home = home();
    let mut names: Vec<String> = fs::read_dir(&home)
        .with_context(|| format!("{}", home.display()))?
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|name| scenario_file(&home, name).is_file())
        .collect();
    names.sort();
    names.iter().map(|name| Scenario::load(name)).collect()
}

fn scenario_file(home: &Path, name: &str) -> PathBuf {
    home.join(name).join("scenario.json")
}

/// What `--list` prints.
pub(crate) fn list(as_json: bool) -> Result<String> {
    let all = all()?;
    if as_json {
        return Ok(serde_json::to_string_pretty(&all.iter().map(Scenario::to_json).collect::<Vec<_>>())?);
    }
    let mut lines = Vec::new();
    for scenario in &all {
        lines.push(format!("{}: {}", scenario.name, scenario.title));
        for v in &scenario.variants {
            let name = v.pod.split_once('/').map_or(v.pod.as_str(), |(_, name)| name);
            lines.push(format!("  {name:<46} {}/{}", v.expect.verdict, v.expect.reason));
            lines.push(format!("  {:<46} {} {}", "", v.expect.object, v.expect.field));
        }
    }
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::lab::cgroup;
    use crate::lab::objects::{Objects, Pod, Proxy};

    fn everything() -> Vec<(Scenario, Vec<Pod>)> {
        let with_pods = |scenario: Scenario| {
            let objects = Objects::read(&scenario.folder.join("mesh")).expect("objects");
            let node = objects.node().expect("a Node");
            let pods = objects.pods(&node.name).expect("pods");
            (scenario, pods)
        };
        all().expect("scenarios").into_iter().map(with_pods).collect()
    }

    #[test]
    fn every_variant_is_a_pod_of_the_node_and_its_containers_exist() {
        for (scenario, pods) in everything() {
            for variant in &scenario.variants {
                let pod = pods.iter().find(|p| p.key() == variant.pod).expect(&variant.pod);
                let missing = variant.play.iter().find(|p| !pod.containers.contains_key(&p.container));
                assert!(missing.is_none(), "{}: {}: {missing:?}", scenario.name, variant.pod);
                assert!(!variant.play.is_empty(), "{}: {} plays nothing", scenario.name, variant.pod);
            }
            let names: BTreeSet<_> = scenario.variants.iter().map(|v| v.pod.rsplit('/').next()).collect();
            assert_eq!(names.len(), scenario.variants.len(), "{}: pods of one name", scenario.name);
        }
    }

    #[test]
    fn every_proxy_has_what_istiod_generated_for_its_pod() {
        for (scenario, pods) in everything() {
            for pod in pods.iter().filter(|p| p.proxy.is_some_and(Proxy::is_envoy)) {
                let file = scenario.envoy(&pod.namespace, &pod.name);
                let text = fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
                let bootstrap: Value = serde_json::from_slice(&text).expect("JSON");
                let id = bootstrap["node"]["id"].as_str().expect("an id");
                let wanted = format!("~{}~{}.{}~", pod.ip, pod.name, pod.namespace);
                assert!(id.contains(&wanted), "{}: {id} is not {wanted}", file.display());
            }
        }
    }

    #[test]
    fn only_documentation_addresses_are_outside() {
        let documentation = |a: &Ipv4Addr| {
            let [a, b, c, _] = a.octets();
            [(192, 0, 2), (198, 51, 100), (203, 0, 113)].contains(&(a, b, c))
        };
        for (scenario, _) in everything() {
            let hosts: BTreeSet<_> = scenario.outside.iter().map(|h| h.address).collect();
            assert!(hosts.iter().all(documentation), "{}: {hosts:?}", scenario.name);
            assert!(scenario.names.values().flatten().all(|a| hosts.contains(a)), "{}: {hosts:?}", scenario.name);
        }
    }

    #[test]
    fn no_two_containers_share_a_cgroup() {
        for (scenario, pods) in everything() {
            let paths: Vec<_> =
                pods.iter().flat_map(|p| p.containers.values().map(|id| cgroup::of_container(p, id))).collect();
            let distinct: BTreeSet<_> = paths.iter().collect();
            assert_eq!(distinct.len(), paths.len(), "{}", scenario.name);
        }
    }
}
