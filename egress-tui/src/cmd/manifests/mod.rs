//! `manifests`: what runs the program on the nodes of a cluster, printed for `kubectl apply -f -`, kustomize or Helm.

mod check;
mod helm;
mod set;

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use egress_core::yaml;

use super::finish;
use crate::cli::{Common, Manifests};
use crate::exit::Exit;
use set::Set;

/// Runs the verb.
pub async fn run(common: &Common, options: &Manifests) -> anyhow::Result<Exit> {
    let set = match Set::new(common, options) {
        Ok(set) => set,
        Err(why) => {
            super::complain(&why);
            return Ok(Exit::Usage);
        }
    };
    if options.check {
        return check::run(common, &set).await;
    }
    if let Some(folder) = &options.helm {
        return write(folder, helm::files(&set));
    }
    if let Some(folder) = &options.kustomize {
        return write(folder, kustomize(&set));
    }
    let mut out = io::stdout().lock();
    let text = format!("{}{}", set.about(), yaml::write_all(&set.objects()));
    finish(out.write_all(text.as_bytes()), Exit::Done)
}

/// One file for each object, and the list of them.
fn kustomize(set: &Set) -> Vec<(String, String)> {
    let objects = set.objects();
    let name = |object: &serde_json::Value| {
        format!("{}.yaml", object["kind"].as_str().unwrap_or_default().to_ascii_lowercase())
    };
    let list: Vec<String> = objects.iter().map(name).collect();
    let kustomization = serde_json::json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": list
    });
    let mut files = vec![("kustomization.yaml".to_owned(), yaml::write(&kustomization))];
    files.extend(objects.iter().map(|object| (name(object), yaml::write(object))));
    files
}

/// Writes files into a folder that is empty or new: nobody's changes are lost.
fn write(folder: &Path, files: Vec<(String, String)>) -> anyhow::Result<Exit> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    anyhow::ensure!(entries.next().is_none(), "{} is not empty", folder.display());
    for (name, text) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(Exit::Done)
}
