//! Which processes of pods there are, in which network namespace, and whose socket is which.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use arcstr::ArcStr;
use egress_core::attribution::place_of;
use egress_core::id::CgroupId;
use egress_core::input::Input;

use super::Access;
use crate::source::cgroup::CgroupTree;
use crate::source::process::pod_path;

/// A process of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) tgid: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) name: ArcStr,
    pub(super) cgroup: CgroupId,
    /// Path of `cgroup`.
    pub(super) path: ArcStr,
    /// Path in whichever hierarchy names the pod.
    pub(super) pod: ArcStr,
}

impl Owner {
    /// What the engine has to know before it hears of this process's sockets.
    pub(super) fn inputs(&self) -> [Input; 2] {
        [
            Input::Cgroup { id: self.cgroup, path: Some(self.path.clone()) },
            Input::Process { tgid: self.tgid, comm: Some(self.name.clone()), cgroup: Some(self.pod.clone()) },
        ]
    }

    /// The name as the kernel's records have it.
    pub(super) fn comm(&self) -> [u8; 16] {
        let mut comm = [0; 16];
        for (to, from) in comm.iter_mut().zip(self.name.bytes()) {
            *to = from;
        }
        comm
    }
}

/// A network namespace that processes of pods are in.
#[derive(Debug, Default)]
pub(super) struct Namespace {
    /// One process in it.
    pub(super) tgid: u32,
    /// The host's own: not all that is in it belongs to pods.
    pub(super) host: bool,
    processes: Vec<Owner>,
    by_inode: HashMap<u64, Owner>,
    /// Not every process let its descriptors be read (ptrace(2) access).
    guarded: bool,
}

/// Whose a socket is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whose<'a> {
    /// This process has it open.
    Process(&'a Owner),
    /// Nobody in a pod.
    Nobody,
    /// Several processes may have it, and none lets us look.
    Unknown,
}

impl Namespace {
    /// By its inode; where descriptors are guarded, the one process or kind of process that runs under its uid.
    pub(super) fn whose(&self, inode: u64, uid: u32) -> Whose<'_> {
        if let Some(owner) = self.by_inode.get(&inode) {
            return Whose::Process(owner);
        }
        if !self.guarded || self.host || inode == 0 {
            return Whose::Nobody;
        }
        let mut same = self.processes.iter().filter(|p| p.uid == uid);
        match (same.next(), same.next()) {
            (Some(only), None) => Whose::Process(only),
            _ => Whose::Unknown,
        }
    }

    #[cfg(test)]
    pub(super) fn of(processes: Vec<Owner>, by_inode: HashMap<u64, Owner>, guarded: bool) -> Self {
        Self { tgid: 1, host: false, processes, by_inode, guarded }
    }
}

/// All of them, by an inode that stands for the namespace.
pub(super) fn namespaces(proc: &Path, tree: &CgroupTree, access: Access) -> HashMap<u64, Namespace> {
    let host = identity(&proc.join("1"), access);
    let mut all: HashMap<u64, Namespace> = HashMap::new();
    for entry in std::fs::read_dir(proc).into_iter().flatten().flatten() {
        let Some(tgid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let process = entry.path();
        let Some(owner) = owner(tgid, &process, tree) else { continue };
        let Some(inode) = identity(&process, access) else { continue };
        let namespace =
            all.entry(inode).or_insert_with(|| Namespace { tgid, host: Some(inode) == host, ..Namespace::default() });
        // Whoever may not look may often still list: then it is the links that are refused.
        let links = std::fs::read_dir(process.join("fd")).map_or_else(
            |error| vec![Err(error)],
            |fds| fds.flatten().map(|fd| std::fs::read_link(fd.path())).collect(),
        );
        for link in links {
            match link {
                Ok(link) => namespace.by_inode.extend(socket_inode(&link).map(|inode| (inode, owner.clone()))),
                Err(error) => namespace.guarded |= error.kind() == std::io::ErrorKind::PermissionDenied,
            }
        }
        namespace.processes.push(owner);
    }
    all
}

/// The inode of the namespace; whoever may not look at that takes the one of its `tcp` table, which each namespace has
/// of its own.
pub(super) fn identity(process: &Path, access: Access) -> Option<u64> {
    let name = match access {
        Access::Diag => "ns/net",
        Access::Proc => "net/tcp",
    };
    Some(std::fs::metadata(process.join(name)).ok()?.ino())
}

fn socket_inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// A process whose cgroup is a pod's and in our tree.
fn owner(tgid: u32, process: &Path, tree: &CgroupTree) -> Option<Owner> {
    let text = std::fs::read_to_string(process.join("cgroup")).ok()?;
    let pod = pod_path(&text)?;
    place_of(&pod)?;
    let unified = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let cgroup = tree.id_of_unified(Path::new(unified))?;
    let status = String::from_utf8_lossy(&std::fs::read(process.join("status")).ok()?).into_owned();
    // `Uid: REAL EFFECTIVE SAVED FILESYSTEM`; a kernel thread has no descriptors, a zombie neither.
    let effective =
        |key| status.lines().find_map(|l| l.strip_prefix(key)?.split_ascii_whitespace().nth(1)?.parse().ok());
    let name = std::fs::read(process.join("comm")).unwrap_or_default();
    let name = String::from_utf8_lossy(&name);
    Some(Owner {
        tgid,
        uid: effective("Uid:")?,
        gid: effective("Gid:")?,
        name: name.trim_end_matches('\n').into(),
        cgroup,
        path: unified.into(),
        pod,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(tgid: u32, uid: u32, name: &str) -> Owner {
        Owner { tgid, uid, gid: uid, name: name.into(), cgroup: CgroupId(7), path: "/p".into(), pod: "/p".into() }
    }

    #[test]
    fn a_socket_is_whose_descriptor_it_is() {
        let (app, envoy) = (process(10, 1000, "app"), process(11, 1337, "envoy"));
        let open = Namespace::of(vec![app.clone(), envoy.clone()], [(5, app.clone())].into(), false);
        assert_eq!(open.whose(5, 1000), Whose::Process(&app));
        assert_eq!(open.whose(6, 1000), Whose::Nobody, "every descriptor was looked at");
    }

    #[test]
    fn where_descriptors_are_guarded_only_a_uid_of_one_process_tells() {
        let (app, envoy, agent) =
            (process(10, 1000, "app"), process(11, 1337, "envoy"), process(12, 1337, "pilot-agent"));
        let guarded = Namespace::of(vec![app.clone(), envoy, agent], HashMap::new(), true);
        assert_eq!(guarded.whose(5, 1000), Whose::Process(&app));
        assert_eq!(guarded.whose(6, 1337), Whose::Unknown, "an agent's connection is not the proxy's");
        assert_eq!(guarded.whose(7, 0), Whose::Unknown);
        assert_eq!(guarded.whose(0, 1000), Whose::Nobody, "no process has it open any more");
    }
}
