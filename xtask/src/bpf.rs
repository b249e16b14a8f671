//! `cargo xtask bpf`: builds the object with the BPF programs, or checks the committed one.
//!
//! The object is committed, so that users need a stable compiler only. Building it needs one whose core library can be
//! compiled for the BPF target and whose LLVM the linker shares: Debian's `rustc-web` with `rust-web-src`, and bpf-linker.
//! The same sources and tools give the same bytes in any folder, because paths are remapped and debug sections dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use object::read::elf::{ElfFile64, FileHeader as _};
use object::{Endianness, Object as _, ObjectSection as _, ObjectSymbol as _};
use sha2::{Digest as _, Sha256};

use crate::tools::{cargo, find};
use crate::workspace;

/// Rebuild the BPF object that the program embeds, or check the committed one
#[derive(Debug, Args)]
pub(crate) struct Bpf {
    /// Compare with a fresh build instead of replacing: bytes where the recorded toolchain is at hand, else sections and maps
    #[arg(long)]
    verify: bool,
}

const OBJECT: &str = "egress-ebpf/egress.bpf.o";
const RECORD: &str = "egress-ebpf/egress.bpf.toolchain";
const TARGET: &str = "bpfel-unknown-none";

/// Linked with BTF, and with small copies inlined: the linker's default makes each a call to a byte loop, which costs four
/// times the verified instructions.
const FLAGS: [&str; 4] =
    ["-Cdebuginfo=2", "-Cpanic=abort", "-Clink-arg=--btf", "-Clink-arg=--disable-expand-memcpy-in-order"];

impl Bpf {
    /// The exit code is 0, or 1 where the committed object is not what the sources give.
    pub(crate) fn run(&self) -> Result<u8> {
        if !self.verify {
            println!("{}", build(&workspace())?);
            return Ok(0);
        }
        match verify(&workspace()) {
            Ok(said) => {
                println!("{said}");
                Ok(0)
            }
            Err(error) => {
                println!("{OBJECT}: {error:#}");
                Ok(1)
            }
        }
    }
}

/// Builds the object and writes it and the record of what made it into `root`. Answers what it did.
pub(crate) fn build(root: &Path) -> Result<String> {
    let toolchain = Toolchain::find(root)?;
    let object = toolchain.build(root)?;
    Shape::of(&object)?.check()?;
    fs::write(root.join(OBJECT), &object)?;
    fs::write(root.join(RECORD), toolchain.record(&object))?;
    Ok(format!("{OBJECT}: {} bytes, sha256 {}", object.len(), sha256(&object)))
}

/// Checks the committed object in `root`. Answers how far it could be checked.
pub(crate) fn verify(root: &Path) -> Result<String> {
    let committed = fs::read(root.join(OBJECT)).context(OBJECT)?;
    let record = Record::read(&fs::read_to_string(root.join(RECORD)).context(RECORD)?);
    let hash = sha256(&committed);
    ensure!(record.0.get("sha256") == Some(&hash), "its sha256 {hash} is not the one that {RECORD} records");
    let shape = Shape::of(&committed)?;
    shape.check()?;
    let toolchain = match Toolchain::find(root) {
        Ok(toolchain) => toolchain,
        Err(error) => {
            return Ok(format!("{OBJECT}: hash, sections and maps are right; not rebuilt, no toolchain: {error:#}"));
        }
    };
    let fresh = toolchain.build(root)?;
    let moved = record.differences(&toolchain);
    if moved.is_empty() {
        ensure!(fresh == committed, "the sources give other bytes (sha256 {}): run cargo xtask bpf", sha256(&fresh));
        return Ok(format!("{OBJECT}: identical to a fresh build, sha256 {hash}"));
    }
    let fresh = Shape::of(&fresh)?;
    fresh.check()?;
    ensure!(fresh == shape, "a fresh build has other sections or maps: {fresh:?} instead of {shape:?}");
    Ok(format!("{OBJECT}: the toolchain moved ({}); sections and maps agree with a fresh build", moved.join(", ")))
}

/// What builds the object.
struct Toolchain {
    rustc: PathBuf,
    linker: PathBuf,
    strip: PathBuf,
    /// Where the core library's sources are, as the compiler names them and as they really are.
    library: [PathBuf; 2],
    /// Names and versions of everything that decides the bytes.
    versions: BTreeMap<String, String>,
}

impl Toolchain {
    fn find(root: &Path) -> Result<Self> {
        // The distribution's compiler, not rustup's: only it has the core library's sources and an LLVM to share.
        let rustc = PathBuf::from("/usr/bin/rustc");
        let said = said(Command::new(&rustc).arg("-vV")).context("rustc-web is not installed")?;
        let field =
            |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).map(str::to_owned);
        let llvm = field("LLVM version:").context("rustc names no LLVM version")?;
        let major = llvm.split('.').next().unwrap_or_default();
        let sysroot = self::said(Command::new(&rustc).args(["--print", "sysroot"]))?;
        let library = PathBuf::from(sysroot.trim()).join("lib/rustlib/src/rust");
        let real = library.canonicalize().context("rust-web-src is not installed")?;
        let strip = find(&format!("llvm-strip-{major}")).with_context(|| format!("llvm-{major} is not installed"))?;
        let linker = find("bpf-linker")
            .or_else(|| Some(cargo_home()?.join("bin/bpf-linker")).filter(|path| path.is_file()))
            .context("bpf-linker is not installed")?;
        let linker_version = self::said(Command::new(&linker).arg("--version"))?;

        let mut versions = packages(&fs::read_to_string(root.join("Cargo.lock"))?);
        versions.insert("rustc".into(), said.lines().next().unwrap_or_default().trim_start_matches("rustc ").into());
        versions.insert("llvm".into(), llvm);
        versions.insert("bpf-linker".into(), linker_version.trim().trim_start_matches("bpf-linker ").into());
        Ok(Self { rustc, linker, strip, library: [library, real], versions })
    }

    /// The object's bytes.
    fn build(&self, root: &Path) -> Result<Vec<u8>> {
        let root = root.canonicalize()?;
        let target = root.join("target/bpf");
        let mut flags: Vec<String> = FLAGS.iter().map(|&flag| flag.to_owned()).collect();
        let mut remap = |from: &Path, to: &str| flags.push(format!("--remap-path-prefix={}/={to}", from.display()));
        remap(&root, "");
        for library in &self.library {
            remap(library, "rust/");
        }
        for registry in registries()? {
            remap(&registry, "");
        }
        let mut build = cargo();
        build
            .current_dir(&root)
            .args(["build", "--quiet", "--release", "--locked", "-Zbuild-std=core", "--target", TARGET])
            .args(["--package", "egress-ebpf", "--features", "programs", "--bin", "egress", "--target-dir"])
            .arg(&target)
            // -Z on a stable compiler, for this build alone.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTC", &self.rustc)
            .env_remove("RUSTUP_TOOLCHAIN")
            .env("RUSTC_WRAPPER", "")
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker)
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
            .env("CARGO_PROFILE_RELEASE_INCREMENTAL", "false")
            .env("CARGO_PROFILE_RELEASE_LTO", "true")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
            .env("CARGO_PROFILE_RELEASE_PANIC", "abort");
        ensure!(build.status()?.success(), "the build failed");
        let stripped = target.join("egress.bpf.o");
        // Keeps .BTF and .BTF.ext.
        let mut strip = Command::new(&self.strip);
        strip.arg("-g").arg("-o").arg(&stripped).arg(target.join(TARGET).join("release/egress"));
        ensure!(strip.status()?.success(), "stripping failed");
        Ok(fs::read(stripped)?)
    }

    fn record(&self, object: &[u8]) -> String {
        let mut text = String::from(
            "# What made egress.bpf.o. Written by `cargo xtask bpf`, read by `cargo xtask bpf --verify`.\n",
        );
        for (name, version) in &self.versions {
            let _ = writeln!(text, "{name} = {version}");
        }
        let _ = writeln!(text, "sha256 = {}", sha256(object));
        text
    }
}

/// The record beside the object: `name = value` lines.
struct Record(BTreeMap<String, String>);

impl Record {
    fn read(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.filter_map(|line| line.split_once(" = "));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// In what the toolchain at hand is another one.
    fn differences(&self, toolchain: &Toolchain) -> Vec<String> {
        let changed = toolchain.versions.iter().filter(|(name, version)| self.0.get(*name) != Some(version));
        changed
            .map(|(name, now)| format!("{name} {} → {now}", self.0.get(name).map_or("none", String::as_str)))
            .collect()
    }
}

/// What can be said of an object without its bytes: programs, maps, licence.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    programs: BTreeSet<String>,
    maps: BTreeSet<String>,
    licence: Vec<u8>,
}

/// Section names of the programs. The kernel's loader takes type and hook from them.
const PROGRAMS: [&str; 8] = [
    "cgroup/connect4",
    "cgroup/connect6",
    "cgroup/sendmsg4",
    "cgroup/sendmsg6",
    "cgroup/sock_release",
    "cgroup_skb/egress",
    "cgroup_skb/ingress",
    "sockops",
];

const MAPS: [&str; 7] = ["CGROUPS", "FLOWS", "LOSSES", "PAYLOADS", "SLOTS", "SOCKETS", "UDP_PEERS"];

impl Shape {
    fn of(object: &[u8]) -> Result<Self> {
        let file = ElfFile64::<Endianness>::parse(object).context("no 64-bit ELF file")?;
        ensure!(file.elf_header().e_machine(file.endian()) == object::elf::EM_BPF, "not made for BPF");
        let mut shape = Self { programs: BTreeSet::new(), maps: BTreeSet::new(), licence: Vec::new() };
        let mut map_section = None;
        for section in file.sections() {
            let name = section.name()?;
            if name == "license" {
                shape.licence = section.data()?.to_vec();
            } else if name == ".maps" {
                map_section = Some(section.index());
            } else if section.kind() == object::SectionKind::Text && section.size() > 0 && name != ".text" {
                shape.programs.insert(name.to_owned());
            }
        }
        for symbol in file.symbols() {
            if symbol.section_index().is_some() && symbol.section_index() == map_section && symbol.size() > 0 {
                shape.maps.insert(symbol.name()?.to_owned());
            }
        }
        Ok(shape)
    }

    fn check(&self) -> Result<()> {
        let expected = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
        ensure!(self.programs == expected(&PROGRAMS), "its programs are {:?}", self.programs);
        ensure!(self.maps == expected(&MAPS), "its maps are {:?}", self.maps);
        ensure!(self.licence == b"GPL\0", "its licence section is {:?}", self.licence);
        Ok(())
    }
}

/// The crates that are compiled into the object, out of `Cargo.lock`.
fn packages(lock: &str) -> BTreeMap<String, String> {
    let value = |line: &str, key: &str| Some(line.strip_prefix(key)?.trim_matches('"').to_owned());
    let mut found = BTreeMap::new();
    let mut name = None;
    for line in lock.lines() {
        if let Some(text) = value(line, "name = ") {
            name = Some(text).filter(|name| name.starts_with("aya-ebpf"));
        } else if let (Some(version), Some(name)) = (value(line, "version = "), name.take()) {
            found.insert(name, version);
        }
    }
    found
}

/// Folders below which Cargo keeps the sources of crates; their names tell which registry was used.
fn registries() -> Result<Vec<PathBuf>> {
    let sources = cargo_home().context("no home folder")?.join("registry/src");
    if !sources.is_dir() {
        return Ok(Vec::new());
    }
    let mut folders = Vec::new();
    for entry in fs::read_dir(sources)? {
        folders.push(entry?.path());
    }
    folders.sort();
    Ok(folders)
}

fn cargo_home() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"));
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

fn said(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_of_the_object_are_read_from_the_lock_file() {
        let lock = "[[package]]\nname = \"aya\"\nversion = \"0.14.0\"\n\n[[package]]\nname = \"aya-ebpf\"\nversion = \"0.2.1\"\n";
        assert_eq!(packages(lock), BTreeMap::from([("aya-ebpf".to_owned(), "0.2.1".to_owned())]));
    }

    #[test]
    fn a_record_is_read_back() {
        let record = Record::read("# talk\nrustc = 1.96.0 (a b)\nsha256 = 00\n");
        assert_eq!(record.0["rustc"], "1.96.0 (a b)");
        assert_eq!(record.0["sha256"], "00");
        assert_eq!(record.0.len(), 2);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(Shape::of(b"\x7fELF").is_err());
        assert!(Shape::of(&[]).is_err());
    }
}
