//! Programs of the tests that are written in Go: built once, kept in the user's cache under the hash of their sources.

use std::fs;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

use crate::install;
use crate::tools::find;

/// What to build.
pub(crate) struct Program<'a> {
    /// Its name in the cache.
    pub(crate) name: &'a str,
    /// Its sources: one folder.
    pub(crate) sources: PathBuf,
    /// Go's oldest release that builds it.
    pub(crate) needs: (u32, u32),
    /// More flags of the build.
    pub(crate) flags: &'a [&'a str],
    /// What it costs, for whoever waits.
    pub(crate) costs: &'a str,
}

impl Program<'_> {
    /// The program, built if these sources never were. Who comes second waits.
    pub(crate) fn build(&self) -> Result<PathBuf> {
        let place = cache()?.join(format!("{}-{}", self.name, hash(&self.sources, self.flags)?));
        if place.is_file() {
            return Ok(place);
        }
        fs::create_dir_all(cache()?)?;
        let lock = cache()?.join(format!("{}.lock", self.name));
        let order = OpenOptions::new().create(true).truncate(false).write(true).open(lock)?;
        flock(&order, FlockOperation::LockExclusive)?;
        if place.is_file() {
            return Ok(place);
        }
        let go = go(self.needs)?;
        eprintln!("building {} with {}: {}", self.name, go.display(), self.costs);
        let fresh = place.with_extension("new");
        let mut build = Command::new(go);
        build.args(["build", "-mod=readonly", "-trimpath", "-p", "2"]).args(self.flags).arg("-o").arg(&fresh).arg(".");
        build.current_dir(&self.sources).env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "local").env("GOFLAGS", "");
        ensure!(build.status()?.success(), "go build of {} failed", self.name);
        fs::rename(&fresh, &place)?;
        Ok(place)
    }
}

/// The machine's Go if it is new enough, else one of our own in the cache.
fn go(needs: (u32, u32)) -> Result<PathBuf> {
    let usual = Path::new("/usr/local/go/bin/go");
    let mut known = find("go").into_iter().chain(usual.is_file().then(|| usual.to_owned()));
    match known.find(|go| version(go).is_some_and(|v| v >= needs)) {
        Some(go) => Ok(go),
        None => install::go(&cache()?),
    }
}

/// `(1, 26)` of `go version go1.26.8 linux/amd64`.
fn version(go: &Path) -> Option<(u32, u32)> {
    let said = Command::new(go).env("GOTOOLCHAIN", "local").arg("version").output().ok()?;
    release(&String::from_utf8_lossy(&said.stdout))
}

fn release(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.split_whitespace().nth(2)?.strip_prefix("go")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The user's cache: it outlives every clone.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache"));
    Ok(base.or_else(home).context("neither XDG_CACHE_HOME nor HOME is set")?.join("egress-tui"))
}

/// Of the Go sources, the versions that they are built with, and the flags.
fn hash(sources: &Path, flags: &[&str]) -> Result<String> {
    let mut names: Vec<PathBuf> = fs::read_dir(sources)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    names.retain(|p| p.extension().is_some_and(|e| ["go", "mod", "sum"].iter().any(|known| e == *known)));
    names.sort();
    let mut all = Sha256::new();
    for name in names {
        let text = fs::read(&name)?;
        all.update(name.file_name().unwrap_or_default().as_encoded_bytes());
        all.update((text.len() as u64).to_le_bytes());
        all.update(&text);
    }
    for flag in flags {
        all.update(flag);
    }
    Ok(all.finalize().iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_says_of_itself_is_read() {
        assert_eq!(release("go version go1.26.8 linux/amd64"), Some((1, 26)));
        assert_eq!(release("go version go1.19 linux/amd64"), Some((1, 19)));
        assert_eq!(release("bash: go: not found"), None);
    }

    #[test]
    fn other_flags_are_another_program() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let names = [&[][..], &["-v"]].map(|flags| hash(here, flags).ok());
        assert!(names[0].is_some() && names[0] != names[1]);
    }
}
