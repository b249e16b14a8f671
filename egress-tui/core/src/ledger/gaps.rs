//! What is missing, what that affects, what to do: on every screen, in every export, in the exit code.

use arcstr::ArcStr;

use super::Ledger;
use crate::world::Incomplete;

impl Ledger {
    pub(super) fn incomplete(&self) -> Vec<Incomplete> {
        let mut out = self.notes.clone();
        let mut say = |what: String, affects: &str, fix: &str| {
            out.push(Incomplete { what, affects: affects.to_owned(), fix: fix.to_owned() });
        };
        let lost = self.coverage.lost_total();
        if lost > 0 {
            let stages: Vec<String> = self.coverage.lost.iter().map(|(s, n)| format!("{s} {n}")).collect();
            say(
                format!("{lost} events were lost ({})", stages.join(", ")),
                "connections may be missing, or miss their name or their path",
                "enlarge the rings (--ring-bytes), or watch fewer connections",
            );
        }
        for hook in self.coverage.capture.hooks.iter().filter(|h| h.why.is_some()) {
            say(
                format!("hook {} is not attached: {}", hook.name, hook.why.as_deref().unwrap_or_default()),
                "what this hook sees is missing",
                "run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
            );
        }
        let cluster = self.coverage.cluster.as_ref();
        if let Some((since, why)) = cluster.and_then(|c| c.stale.as_ref()) {
            say(
                format!("the cluster has not answered since {}: {why}", since.rfc3339()),
                "verdicts use the objects of that moment",
                "nothing: it is asked again every few seconds; see whether the API server runs",
            );
        }
        let unusable = cluster.is_some_and(|c| c.gaps.iter().any(|g| g.kind == "all"));
        if unusable {
            // What is wrong with the cluster stands below.
        } else if cluster.is_some() && self.coverage.mesh_generation == 0 {
            say(
                "no mesh objects are known: the cluster has not answered yet".to_owned(),
                "flows are shown, verdicts are not: every flow is unknown",
                "wait; or name manifests or dumps with --mesh PATH",
            );
        } else if self.coverage.mesh_generation == 0 || self.coverage.mesh.objects == 0 {
            say(
                "no mesh objects are known".to_owned(),
                "flows are shown, verdicts are not: every flow is unknown",
                "name manifests or dumps with --mesh PATH",
            );
        }
        if !self.coverage.mesh.skipped.is_empty() {
            let skipped = &self.coverage.mesh.skipped;
            say(
                format!("{} objects or files could not be used: {}", skipped.len(), skipped[0]),
                "verdicts that depend on them",
                "mend what coverage.mesh.skipped lists",
            );
        }
        if !self.strangers.is_empty() && self.coverage.mesh.objects > 0 {
            let mut uids: Vec<&str> = self.strangers.iter().map(ArcStr::as_str).collect();
            uids.sort_unstable();
            say(
                format!("{} pods have no Pod object: {}", uids.len(), uids[0]),
                "their flows are unknown",
                "add the Pods of this node to --mesh (kubectl get pods -A -o yaml)",
            );
        }
        out.extend(self.coverage.cluster.iter().flat_map(|c| &c.gaps).map(|g| g.missing.clone()));
        out
    }
}
