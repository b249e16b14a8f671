//! Dependencies point inward only (design §5): `source → engine → world → {tui, out, cmd}`, everything may use the core, and the
//! core uses none of the edges and nothing that does I/O.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// Crates that open files or sockets, read clocks, talk to the kernel, to a cluster or to a terminal. A name ending in `-`
/// stands for all that begin so. (`libc` is not among them: a hash crate asks it which instructions the processor has.)
const EDGES: &[&str] = &[
    "aya",
    "aya-",
    "clap",
    "clap_builder",
    "crossterm",
    "egress-ebpf",
    "egress-tui",
    "futures-util",
    "hyper",
    "kube",
    "kube-",
    "mio",
    "nix",
    "ratatui",
    "ratatui-",
    "rustix",
    "rustls",
    "signal-hook",
    "socket2",
    "tempfile",
    "tokio",
    "tokio-",
];

/// For each part of the application: the parts that it must not name.
const WALLS: &[(&str, &[&str])] = &[
    ("source", &["engine", "tui", "out", "cmd", "view"]),
    ("engine", &["tui", "out", "cmd", "view"]),
    ("view", &["source", "engine", "tui", "out", "cmd"]),
    ("tui", &["source", "engine", "out", "cmd"]),
    ("out", &["source", "engine", "tui", "cmd"]),
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn metadata() -> Metadata {
    MetadataCommand::new().current_dir(workspace()).exec().expect("cargo metadata")
}

/// Names of everything that `package` is built with, transitively; not what its own tests use.
fn built_with(metadata: &Metadata, package: &str) -> BTreeSet<String> {
    let names: HashMap<&PackageId, &str> = metadata.packages.iter().map(|p| (&p.id, p.name.as_str())).collect();
    let graph = metadata.resolve.as_ref().expect("a resolved graph");
    let nodes: HashMap<_, _> = graph.nodes.iter().map(|n| (&n.id, n)).collect();
    let first = metadata.packages.iter().find(|p| p.name.as_str() == package).expect("the package").id.clone();
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::from([first.clone()]);
    let mut left = vec![first];
    while let Some(id) = left.pop() {
        for dependency in &nodes[&id].deps {
            let normal = dependency.dep_kinds.iter().any(|k| k.kind == DependencyKind::Normal);
            if normal && seen.insert(dependency.pkg.clone()) {
                found.insert(names[&dependency.pkg].to_owned());
                left.push(dependency.pkg.clone());
            }
        }
    }
    found
}

fn is_edge(name: &str) -> bool {
    EDGES.iter().any(|edge| name == *edge || (edge.ends_with('-') && name.starts_with(edge)))
}

#[test]
fn the_core_is_built_with_nothing_that_does_io() {
    let found = built_with(&metadata(), "egress-core");
    assert!(found.contains("serde"), "the graph was not read: {found:?}");
    let edges: Vec<_> = found.iter().filter(|name| is_edge(name)).collect();
    assert!(edges.is_empty(), "egress-core is built with {edges:?}");
}

#[test]
fn what_user_space_shares_with_the_kernel_has_no_dependency() {
    let metadata = metadata();
    let package = metadata.packages.iter().find(|p| p.name.as_str() == "egress-ebpf").expect("the package");
    let required: Vec<_> = package
        .dependencies
        .iter()
        .filter(|d| d.kind == DependencyKind::Normal && !d.optional && d.target.is_none())
        .map(|d| d.name.as_str())
        .collect();
    assert!(required.is_empty(), "the library of egress-ebpf needs {required:?}");
}

/// Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry")) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

/// Top-level modules of this crate that a file names: `crate::X`, or as many `super::` as lead there.
fn names(text: &str, depth: usize) -> BTreeSet<String> {
    let up = "super::".repeat(depth);
    let word =
        |rest: &str| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned();
    let mut found = BTreeSet::new();
    for line in text.lines().map(|l| l.split("//").next().unwrap_or_default()) {
        for root in ["crate::", "egress_tui::", up.as_str()] {
            for (at, _) in line.match_indices(root) {
                let after = &line[at + root.len()..];
                let lists = after.strip_prefix('{').map(|list| list.split('}').next().unwrap_or(list));
                match lists {
                    Some(list) => found.extend(list.split(',').map(|item| word(item.trim()))),
                    None => drop(found.insert(word(after))),
                }
            }
        }
    }
    found
}

#[test]
fn the_parts_of_the_application_respect_their_walls() {
    let src = workspace().join("egress-tui/src");
    let mut crossed = Vec::new();
    let mut looked_at = 0;
    for (part, forbidden) in WALLS {
        let folder = src.join(part);
        let mut files = if folder.is_dir() { sources(&folder) } else { Vec::new() };
        files.extend(Some(src.join(format!("{part}.rs"))).filter(|f| f.is_file()));
        for file in files {
            looked_at += 1;
            let inside = file.strip_prefix(&src).expect("below src");
            let mut depth = inside.components().count();
            if file.ends_with("mod.rs") {
                depth -= 1;
            }
            let named = names(&fs::read_to_string(&file).expect("a source file"), depth);
            for wall in forbidden.iter().filter(|wall| named.contains(**wall)) {
                crossed.push(format!("{} names {wall}", inside.display()));
            }
        }
    }
    assert!(looked_at > 5, "only {looked_at} files were found");
    assert!(crossed.is_empty(), "{}", crossed.join("\n"));
}

#[test]
fn paths_are_found_however_they_are_spelt() {
    let found = names(
        "use crate::engine::Engine;\nuse crate::{out, tui::Page};\n// crate::source\nlet x = super::cmd::run();",
        1,
    );
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["cmd", "engine", "out", "tui"]);
}
