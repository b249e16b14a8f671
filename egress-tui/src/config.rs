//! The configuration file: values that options have unless they are given. Options win over the environment, that over the
//! user's file, that over the system's file.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use egress_core::filter::{Filter, nearest, syntax};
use egress_core::name::printable;
use toml::{Table, Value};

/// The system's file.
const SYSTEM: &str = "/etc/egress-tui/config.toml";

/// Keys that are options of the same name: the option, and what the template says of it.
const KEYS: [(&str, &str, &str); 12] = [
    ("kubeconfig", "\"/etc/egress-tui/kubeconfig\"", "Mesh objects from the cluster of this kubeconfig"),
    ("context", "\"production\"", "Context of the kubeconfig"),
    ("mesh", "[\"/etc/egress-tui/mesh\"]", "Mesh objects from YAML or JSON files or folders"),
    ("node", "\"worker-1\"", "The Node object that this machine is"),
    ("cgroup-root", "\"/sys/fs/cgroup\"", "Where hooks attach"),
    ("ring-bytes", "4194304", "Size of each ring buffer"),
    ("istio-version", "\"1.31\"", "Semantics of that Istio release"),
    ("istiod-env", "[\"PILOT_SCOPE_GATEWAY_TO_NAMESPACE=true\"]", "Feature switches of istiod"),
    ("color", "\"auto\"", "always, auto or never"),
    ("ascii", "false", "Draw with ASCII only"),
    ("filter", "\"is:problem\"", "What the list shows at first"),
    ("keep", "24", "How many old files of a recording stay"),
];

/// A table of names and filters, used as @NAME.
const FILTERS: &str = "filters";

/// The command line with the values of the files put in where nothing else was said, and saved filters.
pub struct Configured {
    /// Arguments.
    pub arguments: Vec<OsString>,
    /// Names and texts.
    pub filters: Vec<(String, String)>,
    /// Each value that a file gave: key, value, file.
    pub origins: Vec<(String, String, PathBuf)>,
}

/// Reads the files that apply, and completes the arguments.
pub fn apply(command: &Command, arguments: Vec<OsString>, given: Option<&Path>) -> anyhow::Result<Configured> {
    let mut out = Configured { arguments, filters: Vec::new(), origins: Vec::new() };
    // A mistake of the command line is told when it is parsed for good.
    let Ok(matches) = command.clone().try_get_matches_from(&out.arguments) else { return Ok(out) };
    let mut known: Vec<String> = Vec::new();
    for file in files(given) {
        let table = read(&file)?;
        for (key, value) in &table {
            if key == FILTERS {
                out.saved(&file, value)?;
                continue;
            }
            let Some((name, ..)) = KEYS.iter().find(|(name, ..)| name == key) else {
                let names = KEYS.iter().map(|(name, ..)| *name).chain([FILTERS]);
                let near = nearest(key, names.clone()).map_or_else(
                    || format!("; known are {}", names.collect::<Vec<_>>().join(", ")),
                    |near| format!("; did you mean {near}?"),
                );
                bail!("{}: there is no key {}{near}", file.display(), printable(key));
            };
            let values = texts(value).with_context(|| format!("{}: {key}", file.display()))?;
            // The first file that says it wins; what was given on the command line or in the environment wins over all.
            let instead = ["mesh", "kubeconfig", "context"];
            let other_source = |name: &str| {
                let ours = if name == "mesh" { &instead[1..] } else { &instead[..1] };
                instead.contains(&name)
                    && ours.iter().any(|other| known.iter().any(|k| k == other) || given_otherwise(&matches, other))
            };
            if known.contains(key) || other_source(name) || given_otherwise(&matches, &name.replace('-', "_")) {
                continue;
            }
            known.push(key.clone());
            for value in values {
                match value.as_str() {
                    "true" if *name == "ascii" => out.arguments.push(format!("--{name}").into()),
                    "false" if *name == "ascii" => {}
                    _ => out.arguments.push(format!("--{name}={value}").into()),
                }
                out.origins.push((key.clone(), value, file.clone()));
            }
        }
    }
    Ok(out)
}

fn given_otherwise(matches: &ArgMatches, id: &str) -> bool {
    let given = |matches: &ArgMatches| {
        matches.try_contains_id(id).unwrap_or(false)
            && matches!(matches.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    };
    given(matches) || matches.subcommand().is_some_and(|(_, below)| given(below))
}

impl Configured {
    fn saved(&mut self, file: &Path, value: &Value) -> anyhow::Result<()> {
        let Some(table) = value.as_table() else {
            bail!("{}: {FILTERS} is a table: [{FILTERS}], then NAME = \"filter\"", file.display());
        };
        for (name, text) in table {
            let place = || format!("{}: {FILTERS}.{}", file.display(), printable(name));
            let Some(text) = text.as_str() else { bail!("{}: a filter is a text", place()) };
            if name.is_empty() || !name.chars().all(syntax::is_name) {
                bail!("{}: a name has letters, digits, - and _", place());
            }
            if !self.filters.iter().any(|(known, _)| known == name) {
                self.filters.push((name.clone(), text.to_owned()));
                self.origins.push((format!("{FILTERS}.{name}"), text.to_owned(), file.to_owned()));
            }
        }
        let saved = |name: &str| self.filters.iter().find(|(n, _)| n == name).map(|(_, text)| text.clone());
        for (name, text) in &self.filters {
            Filter::parse_with(text, &saved)
                .map_err(|e| anyhow::anyhow!("{}: {FILTERS}.{name}: {e}", file.display()))?;
        }
        Ok(())
    }
}

/// The values of a key, as a command line would spell them.
fn texts(value: &Value) -> anyhow::Result<Vec<String>> {
    Ok(match value {
        Value::String(text) => vec![text.clone()],
        Value::Integer(number) => vec![number.to_string()],
        Value::Boolean(yes) => vec![yes.to_string()],
        Value::Array(items) => {
            let mut all = Vec::new();
            for item in items {
                all.extend(texts(item)?);
            }
            all
        }
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => {
            bail!("a text, a number, true or false, or a list of these")
        }
    })
}

/// Files that apply, the strongest first. One that was named must be there.
fn files(given: Option<&Path>) -> Vec<PathBuf> {
    if let Some(path) = given {
        return vec![path.to_owned()];
    }
    let home = || {
        let invoking = invoking_uid().and_then(|uid| home_of(uid, &fs::read_to_string("/etc/passwd").ok()?));
        invoking.or_else(|| std::env::var_os("HOME").map(PathBuf::from)).map(|home| home.join(".config"))
    };
    let user = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|p| p.is_absolute()).or_else(home);
    let user = user.map(|folder| folder.join("egress-tui/config.toml"));
    user.into_iter().chain([PathBuf::from(SYSTEM)]).filter(|path| path.exists()).collect()
}

/// Who typed `sudo`: with root's rights, but with their own configuration.
fn invoking_uid() -> Option<u32> {
    rustix::process::geteuid().is_root().then(|| std::env::var("SUDO_UID").ok()?.parse().ok()).flatten()
}

/// The home folder that passwd(5) gives a uid.
fn home_of(uid: u32, passwd: &str) -> Option<PathBuf> {
    let line = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut found = line.filter(|fields| fields.len() >= 7 && fields[2].parse() == Ok(uid));
    found.next().map(|fields| PathBuf::from(fields[5])).filter(|home| home.is_absolute())
}

fn read(path: &Path) -> anyhow::Result<Table> {
    let shown = || format!("cannot read {}", path.display());
    let meta = fs::metadata(path).with_context(shown)?;
    let trusted = [Some(rustix::process::geteuid().as_raw()), Some(0), invoking_uid()];
    // A tool that runs as root must not obey a file that anybody can write.
    if !trusted.contains(&Some(meta.uid())) || meta.mode() & 0o002 != 0 {
        bail!("{} belongs to uid {} or can be written by everybody: it is not read", path.display(), meta.uid());
    }
    let text = fs::read_to_string(path).with_context(shown)?;
    text.parse::<Table>().with_context(|| format!("{} is malformed", path.display()))
}

/// A commented file that says what the defaults are.
pub fn template() -> String {
    let mut out = String::from("# egress-tui: values that options have unless they are given.\n");
    for (name, example, help) in KEYS {
        let _ = write!(out, "\n# {help}\n#{name} = {example}\n");
    }
    out.push_str("\n# Filters, used as @NAME\n#[filters]\n#mine = \"is:problem -ns:dev\"\n");
    out
}

#[cfg(test)]
mod tests {
    use super::home_of;

    #[test]
    fn the_home_of_who_typed_sudo_is_where_passwd_says() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nbroken:1000\nops:x:1000:1000:Ops,,,:/home/ops:/bin/bash\nodd:x:7:7::none:\n";
        assert_eq!(home_of(1000, passwd), Some("/home/ops".into()));
        assert_eq!((home_of(7, passwd), home_of(5, passwd)), (None, None));
    }
}
