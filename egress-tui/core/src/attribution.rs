//! From a cgroup's path to the pod and container that kubelet made it for (design §7.4).
//!
//! The path's beginning is never trusted: nested nodes (kind, minikube) put their own prefix before it. The *last*
//! component that looks like a pod's counts, and the nearest container scope below it.

use arcstr::ArcStr;

/// What a cgroup's path says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `metadata.uid` of the pod, with dashes as the API spells it (static pods: 32 hex digits without).
    pub pod_uid: ArcStr,
    /// Container id, 64 hex digits; `None` for the pod's own cgroup and runtime monitors.
    pub container_id: Option<ArcStr>,
}

/// Reads a path relative to the cgroup root. `None`: not below a pod.
pub fn place_of(path: &str) -> Option<Place> {
    let parts: Vec<&str> = path.split(['/', ':']).collect();
    let (at, pod_uid) = parts.iter().enumerate().rev().find_map(|(i, part)| Some((i, pod_uid(part)?)))?;
    let container_id = parts[at + 1..].iter().find_map(|part| container_id(part)).map(ArcStr::from);
    Some(Place { pod_uid: pod_uid.into(), container_id })
}

/// `kubepods-burstable-pod<uid>.slice`, `kubepods-pod<uid>.slice`, `kubelet-kubepods-…-pod<uid>.slice`, `pod<uid>`.
fn pod_uid(part: &str) -> Option<String> {
    let part = part.strip_suffix(".slice").unwrap_or(part);
    let uid = match part.rsplit_once("-pod") {
        Some((before, uid)) if before.contains("kubepods") => uid.replace('_', "-"),
        _ => part.strip_prefix("pod")?.replace('_', "-"),
    };
    let hex = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let dashes = uid.bytes().filter(|b| *b == b'-').count();
    let shaped = hex == 32 && hex + dashes == uid.len() && (dashes == 4 || dashes == 0);
    shaped.then_some(uid)
}

/// `cri-containerd-<64hex>.scope`, `crio-<64hex>`, `docker-…`, `libpod-…`, bare `<64hex>`; not `crio-conmon-…`.
fn container_id(part: &str) -> Option<&str> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let (prefix, id) = part.rsplit_once('-').unwrap_or(("", part));
    let known = matches!(prefix, "" | "cri-containerd" | "crio" | "docker" | "libpod");
    (known && id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UID: &str = "0a1b2c3d-1111-4222-8333-444455556666";

    #[test]
    fn every_spelling_of_kubelet_and_the_runtimes() {
        let id = "ab".repeat(32);
        let under = UID.replace('-', "_");
        let systemd = format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice");
        for (path, container) in [
            (format!("{systemd}/cri-containerd-{id}.scope"), true),
            (format!("{systemd}/crio-{id}.scope"), true),
            (format!("{systemd}/docker-{id}.scope"), true),
            (format!("{systemd}/libpod-{id}.scope/init"), true),
            (format!("{systemd}/crio-conmon-{id}.scope"), false),
            (systemd.clone(), false),
            (format!("/kubepods.slice/kubepods-pod{under}.slice/cri-containerd-{id}.scope"), true),
            (format!("/kubepods/besteffort/pod{UID}/{id}"), true),
            (format!("/kubepods/burstable/pod{UID}/crio-{id}"), true),
            (
                format!("/system.slice/containerd.service/kubepods-besteffort-pod{under}.slice:cri-containerd:{id}"),
                true,
            ),
            (
                format!(
                    "/docker/{}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{under}.slice/cri-containerd-{id}.scope",
                    "cd".repeat(32)
                ),
                true,
            ),
        ] {
            let place = place_of(&path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!(place.pod_uid, UID, "{path}");
            assert_eq!(place.container_id.as_deref(), container.then_some(id.as_str()), "{path}");
        }
    }

    #[test]
    fn a_static_pod_has_a_uid_without_dashes() {
        let uid = "0123456789abcdef0123456789abcdef";
        assert_eq!(place_of(&format!("/kubepods/burstable/pod{uid}/x")).unwrap().pod_uid, uid);
    }

    #[test]
    fn services_and_sessions_are_no_pods() {
        for path in ["", "/", "/system.slice/sshd.service", "/user.slice/podman.scope", "/podfoo/x", "/machine/pod1"] {
            assert_eq!(place_of(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_read_without_panic(path in "\\PC{0,200}") {
            let _ = place_of(&path);
        }
    }
}
