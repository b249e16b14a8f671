//! What becomes of flows when objects change while they are watched, or may have changed without notice.

use std::path::PathBuf;

use egress_core::id::{Nanos, ObjectRef, WallTime};
use egress_core::input::Input;
use egress_core::mesh::Change;
use egress_core::verdict::{Reason, Verdict};
use egress_core::world::{ClusterState, Gap, Incomplete, MeshSource};

use crate::node::{DWH, Node, WAREHOUSE, hello, mesh, only};

/// Everything that would take one of the objects out.
fn removals() -> impl Iterator<Item = (ObjectRef, Change)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("lab/dwh-static-tcp/mesh");
    let read = egress_tui::source::files::read(&[folder]).unwrap();
    read.objects.into_iter().filter_map(|o| match Change::remove(&o)? {
        Change::Remove { group, object } => Some((object.clone(), Change::Remove { group, object })),
        Change::Put(_) => None,
    })
}

fn only_of_kind(kind: &str) -> String {
    let all: Vec<_> = removals().filter(|(o, _)| o.kind == kind).collect();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].0.name.to_string()
}

/// The objects without one of them, as a cluster would tell it.
fn without(node: &mut Node, kind: &str, name: &str) {
    let (mesh, mut source) = mesh();
    let (_, change) = removals().find(|(o, _)| o.kind == kind && o.name.to_string() == name).unwrap();
    source.kind = "cluster".into();
    node.ledger.apply(Input::Mesh { at: Nanos(node.now), source, mesh: mesh.edited([change]).into() });
}

#[test]
fn an_open_connection_is_judged_again_when_objects_change_and_says_which() {
    let mut node = Node::new();
    let [a, s, g] = node.journey("cloud-platform/etl", 40_000, WAREHOUSE, &hello(DWH, 1));
    let over = node.journey("cloud-platform/etl-tds", 41_000, WAREHOUSE, &hello(DWH, 2));
    for cookie in over {
        node.close(cookie, 5, 4);
    }
    node.world();
    // What is over is forgotten by and by, and keeps the verdict of its moment.
    node.tick(5_000);
    let name = only_of_kind("VirtualService");
    without(&mut node, "VirtualService", &name);
    node.tick(12_000);
    let world = node.ledger.world();
    let flow = world.flows.iter().find(|f| f.open > 0).unwrap();
    assert_ne!(flow.verdict(), Verdict::ViaGateway);
    let rejudged = flow.rejudged.as_ref().unwrap();
    assert_eq!((rejudged.was, rejudged.was_reason), (Verdict::ViaGateway, Reason::RoutedViaGateway));
    let told: Vec<String> = flow.changes(&world).iter().map(|c| c.told(world.now)).collect();
    assert_eq!(told, [format!("removed 12 s ago: VirtualService {name}")]);
    let past = world.flows.iter().find(|f| f.open == 0).unwrap();
    assert_eq!((past.verdict(), &past.rejudged), (Verdict::ViaGateway, &None));
    for cookie in [a, s, g] {
        node.close(cookie, 1, 1);
    }
}

#[test]
fn a_pod_that_is_deleted_leaves_its_flows_as_they_were_judged() {
    let mut node = Node::new();
    node.journey("cloud-platform/etl", 40_000, WAREHOUSE, &hello(DWH, 1));
    node.world();
    without(&mut node, "Pod", "cloud-platform/etl");
    let world = node.world();
    let flow = only(&world);
    assert_eq!((flow.verdict(), flow.source.pod.as_deref()), (Verdict::ViaGateway, Some("etl")));
}

#[test]
fn verdicts_that_rest_on_objects_of_before_say_so_until_the_cluster_answers_again() {
    let mut node = Node::new();
    let (mesh, source) = mesh();
    let cluster = |stale: bool, gaps: Vec<Gap>| {
        let stale = stale.then(|| (WallTime(1_700_000_000_000_000_000), "connection refused".into()));
        Input::Cluster(ClusterState { name: "prod".into(), stale, gaps })
    };
    let source = MeshSource { kind: "cluster".into(), ..source };
    node.ledger.apply(Input::Mesh { at: Nanos(node.now), source, mesh });
    node.ledger.apply(cluster(true, Vec::new()));
    node.journey("cloud-platform/etl", 40_000, WAREHOUSE, &hello(DWH, 1));
    let world = node.world();
    let flow = only(&world);
    assert_eq!((flow.verdict(), flow.stale, world.cluster.as_deref()), (Verdict::ViaGateway, 1, Some("prod")));
    assert!(flow.judgement.chain.iter().any(|s| s.claim == "mesh" && s.says.text().contains("connection refused")));
    assert!(world.incomplete.iter().any(|i| i.what.contains("has not answered since")), "{:?}", world.incomplete);

    node.ledger.apply(cluster(false, Vec::new()));
    let world = node.world();
    assert_eq!((only(&world).stale, &world.incomplete[..]), (0, &[][..]));
    assert_eq!(world.coverage.mesh_at, world.now, "every change is heard of");

    let missing = Incomplete { what: "no right to list".into(), affects: "routes".into(), fix: "a rule".into() };
    node.ledger.apply(cluster(false, vec![Gap { kind: "VirtualService".into(), missing: missing.clone() }]));
    let world = node.world();
    assert!(only(&world).judgement.reasons.contains(&Reason::EvidenceMissing));
    assert_eq!(world.incomplete, [missing]);
}
