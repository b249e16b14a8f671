//! Which settings count where several control planes leave theirs: all workloads are judged by one of them, and where another one
//! would say something else that is told.

use std::sync::Arc;

use arcstr::ArcStr;
use rustc_hash::FxHashMap;

use crate::manifest::Problem;
use crate::mesh::object::MeshConfig;
use crate::mesh::object::kube::PodSpec;

/// What the control plane of no other name is called.
const DEFAULT: &str = "default";

/// `istio`: the default revision's; `istio-REVISION`.
fn revision(config: &MeshConfig) -> &str {
    let name = config.object.as_ref().map_or("istio", |o| o.name.name.as_str());
    name.strip_prefix("istio-").unwrap_or(DEFAULT)
}

/// The settings that count: the default revision's while a proxy is attached to it or nobody knows, else those of the revision that
/// most proxies are attached to. And a problem for each of the others that have proxies and say something else.
pub(crate) fn choose(configs: &[Arc<MeshConfig>], pods: &[Arc<PodSpec>]) -> (Option<Arc<MeshConfig>>, Vec<Problem>) {
    if configs.len() < 2 {
        return (configs.first().cloned(), Vec::new());
    }
    let mut proxies: FxHashMap<ArcStr, usize> = FxHashMap::default();
    for revision in pods.iter().filter_map(|p| p.revision()) {
        *proxies.entry(revision).or_default() += 1;
    }
    let attached = |config: &MeshConfig| proxies.get(revision(config)).copied().unwrap_or_default();
    // Of several that are alike in this the last one counts for `istio`, the first one for others: as they are sorted.
    let default = configs.iter().rfind(|c| revision(c) == DEFAULT);
    let default = default.filter(|c| attached(c) > 0 || configs.iter().all(|c| attached(c) == 0));
    let Some(chosen) = default.or_else(|| configs.iter().rev().max_by_key(|c| attached(c))) else {
        return (None, Vec::new());
    };
    let others = configs.iter().filter(|c| revision(c) != revision(chosen) && attached(c) > 0);
    let problems = others.filter(|c| !c.says_the_same(chosen)).map(|other| {
        let by = chosen.object.as_ref().map_or_else(|| "the default settings".to_owned(), ToString::to_string);
        let (count, name) = (attached(other), revision(other));
        Problem {
            object: other.object.clone(),
            field: ".data.mesh".into(),
            file: ArcStr::new(),
            line: 0,
            column: 0,
            says: format!("{count} pods of revision {name} have other settings than {by}, by which all are judged"),
        }
    });
    (Some(chosen.clone()), problems.collect())
}

#[cfg(test)]
mod tests {
    use crate::manifest;
    use crate::mesh::{Mesh, MeshOptions};

    fn settings(name: &str, mode: &str) -> String {
        format!(
            "---\nkind: ConfigMap\napiVersion: v1\nmetadata: {{name: {name}, namespace: istio-system}}\n\
             data: {{mesh: 'outboundTrafficPolicy: {{mode: {mode}}}'}}\n"
        )
    }

    fn pods(revision: &str, count: usize) -> String {
        let one = |n| {
            format!(
                "---\nkind: Pod\napiVersion: v1\nmetadata: {{name: {revision}-{n}, namespace: a, annotations: {{istio.io/rev: {revision}}}}}\n"
            )
        };
        (0..count).map(one).collect()
    }

    fn told(parts: &[String]) -> (String, Vec<String>) {
        let mesh = Mesh::compile(&manifest::parse("", &parts.concat()).objects, &MeshOptions::default());
        let chosen = mesh.index.config.object.as_ref().map(ToString::to_string).unwrap_or_default();
        (chosen, mesh.problems().iter().map(|p| p.says.clone()).collect())
    }

    #[test]
    fn the_default_counts_while_it_is_used_and_others_are_told() {
        let both = [settings("istio", "ALLOW_ANY"), settings("istio-canary", "REGISTRY_ONLY")];
        assert_eq!(told(&both), ("ConfigMap istio-system/istio".to_owned(), vec![]));
        let used = [both.concat(), pods("default", 1), pods("canary", 2)];
        let (chosen, problems) = told(&used);
        assert_eq!(chosen, "ConfigMap istio-system/istio");
        assert_eq!(
            problems,
            [
                "2 pods of revision canary have other settings than ConfigMap istio-system/istio, by which all are judged"
            ]
        );
    }

    #[test]
    fn of_named_revisions_the_one_with_most_proxies_counts() {
        let both = [settings("istio-1-29", "ALLOW_ANY"), settings("istio-1-30", "REGISTRY_ONLY")].concat();
        assert_eq!(told(&[both.clone(), pods("1-30", 2)]).0, "ConfigMap istio-system/istio-1-30");
        assert_eq!(told(&[both.clone(), pods("1-30", 2), pods("1-29", 3)]).0, "ConfigMap istio-system/istio-1-29");
        assert_eq!(told(&[both]).0, "ConfigMap istio-system/istio-1-29");
    }

    #[test]
    fn revisions_that_say_the_same_are_no_problem() {
        let both = [settings("istio", "ALLOW_ANY"), settings("istio-canary", "ALLOW_ANY")].concat();
        assert_eq!(told(&[both, pods("default", 1), pods("canary", 1)]).1, [""; 0]);
    }
}
