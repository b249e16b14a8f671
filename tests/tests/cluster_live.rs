//! Objects from a real API server: everything that a cluster does to whoever watches it.

use egress_core::id::ObjectRef;
use egress_tests::cluster::{ApiServer, Watching, entry, namespace, pod, quick, role, rules, wanted};
use egress_tui::source::kube::Pods;
use serde_json::{Value, json};

fn without(rules: &[Value], resource: &str) -> Vec<Value> {
    let mut rules = rules.to_vec();
    for rule in &mut rules {
        if let Some(list) = rule["resources"].as_array_mut() {
            list.retain(|r| r != resource);
        }
    }
    rules.retain(|r| r["resources"].as_array().is_some_and(|l| !l.is_empty()));
    rules
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_read_followed_and_only_what_changes_is_told() {
    if !wanted() {
        return;
    }
    let server = ApiServer::with_kinds(&[]).await;
    server.apply_all(&[namespace("shop"), entry("shop", "api"), pod("shop", "cart", "w1", "10.1.0.5")]).await;
    let mut seen = Watching::all(&server.printed().await);
    seen.loaded().await;
    assert!(seen.has("ServiceEntry", "shop", "api") && seen.has("Pod", "shop", "cart"));
    assert!(seen.has("Namespace", "", "kube-system"));
    assert_eq!(seen.state.gaps, []);
    assert_eq!(seen.state.name, "tests");

    let mut changed = entry("shop", "api");
    changed["spec"]["hosts"] = json!(["other.example.com"]);
    server.apply(&changed).await;
    seen.until("the edit", |w| w.text("ServiceEntry", "shop", "api").contains("other.example.com")).await;

    // A status that decides nothing changes nothing.
    let meshes = seen.meshes;
    let mut ready = pod("shop", "cart", "w1", "10.1.0.5");
    ready["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    server.apply(&ready).await;
    server.apply(&entry("shop", "second")).await;
    seen.until("the second entry", |w| w.has("ServiceEntry", "shop", "second")).await;
    assert_eq!(seen.meshes, meshes + 1);

    server.delete(&entry("shop", "api")).await;
    seen.until("the deletion", |w| !w.has("ServiceEntry", "shop", "api")).await;
    seen.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_pods_those_of_the_node_and_those_that_route_are_known() {
    if !wanted() {
        return;
    }
    let server = ApiServer::with_kinds(&[]).await;
    let node = |name: &str| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    let mut gateway = pod("shop", "egress", "w2", "10.1.1.1");
    gateway["metadata"]["labels"] = json!({"gw": "mine"});
    let mut control = pod("shop", "istiod", "w2", "10.1.1.2");
    control["metadata"]["labels"] = json!({"app": "istiod", "istio.io/rev": "canary"});
    let selecting = json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "g", "namespace": "shop"},
        "spec": {"selector": {"gw": "mine"}, "servers": []}});
    let settings = |name: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"},
        "data": {"mesh": "rootNamespace: shop\n", "other": "no"}})
    };
    server
        .apply_all(&[
            namespace("shop"),
            node("w1"),
            node("w2"),
            gateway,
            control,
            selecting,
            settings("istio"),
            settings("istio-canary"),
            settings("another"),
            pod("shop", "here", "w1", "10.1.0.1"),
            pod("shop", "there", "w2", "10.1.1.3"),
        ])
        .await;
    let mut seen = Watching::new(&server.printed().await, Pods::OfNode("w1".into()), quick());
    seen.until("pods and settings", |w| {
        w.has("Pod", "shop", "egress") && w.has("Pod", "shop", "istiod") && w.has("ConfigMap", "shop", "istio-canary")
    })
    .await;
    assert!(seen.has("Pod", "shop", "here") && !seen.has("Pod", "shop", "there"));
    assert!(seen.has("ConfigMap", "shop", "istio") && !seen.has("ConfigMap", "shop", "another"));
    assert!(!seen.text("ConfigMap", "shop", "istio").contains("other"));
    assert_eq!(seen.state.gaps, []);

    // Of a pod elsewhere its Service's endpoints tell, else the network of its node.
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "there-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "there"}},
        "endpoints": [{"addresses": ["10.1.1.3"], "targetRef": {"kind": "Pod", "name": "there", "namespace": "shop"}}],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]});
    let inside = |w: &Watching, last: u8| w.mesh.in_cluster([10, 1, 1, last].into(), 80).map(|i| (i.what, i.object));
    assert_eq!(inside(&seen, 3), None);
    server.apply(&slice).await;
    seen.until("the endpoint", |w| inside(w, 3) == Some(("pod", Some(ObjectRef::new("Pod", "shop", "there"))))).await;
    let mut networked = node("w2");
    networked["spec"] = json!({"podCIDR": "10.1.1.0/24", "podCIDRs": ["10.1.1.0/24"]});
    server.apply(&networked).await;
    seen.until("the network", |w| inside(w, 9) == Some(("pod-network", Some(ObjectRef::new("Node", "", "w2"))))).await;

    // A selector that goes takes its pods along.
    server.delete(&json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "g", "namespace": "shop"}})).await;
    seen.until("the gateway's pod is of no interest any more", |w| !w.has("Pod", "shop", "egress")).await;
    seen.stop().await;

    let mut nowhere = Watching::new(&server.printed().await, Pods::OfNode("laptop".into()), quick());
    nowhere.loaded().await;
    nowhere.until("that this machine is no node", |w| w.gaps() == ["Pod"]).await;
    nowhere.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinds_come_and_go() {
    if !wanted() {
        return;
    }
    let server = ApiServer::start(&[]);
    server.apply(&namespace("shop")).await;
    let mut seen = Watching::all(&server.printed().await);
    seen.loaded().await;
    assert!(seen.state.gaps.iter().any(|g| g.missing.what.contains("none of Istio's kinds")), "{:?}", seen.state);
    server.install(|name| name.ends_with(".networking.istio.io")).await;
    server.apply(&entry("shop", "before")).await;
    seen.until("an entry of a kind that is new", |w| w.has("ServiceEntry", "shop", "before")).await;
    seen.until("that nothing is missing", |w| w.state.gaps.is_empty()).await;

    // Deleted under the watch, and installed again with other objects (the third way to a 410).
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "serviceentries.networking.istio.io"}});
    server.delete(&definition).await;
    seen.until("the entry is gone with its kind", |w| !w.has("ServiceEntry", "shop", "before")).await;
    server.install(|name| name == "serviceentries.networking.istio.io").await;
    server.apply(&entry("shop", "after")).await;
    seen.until("an entry of the kind that is back", |w| w.has("ServiceEntry", "shop", "after")).await;
    assert!(!seen.has("ServiceEntry", "shop", "before"));

    // Another version is served instead: the objects stay.
    let mut upgraded: Value = egress_tests::cluster::definitions()
        .into_iter()
        .find(|d| d["metadata"]["name"] == "serviceentries.networking.istio.io")
        .expect("in the file");
    for version in upgraded["spec"]["versions"].as_array_mut().expect("a list") {
        version["served"] = json!(version["name"] == "v1beta1");
    }
    server.apply(&upgraded).await;
    seen.until("the entry in the other version", |w| w.text("ServiceEntry", "shop", "after").contains("v1beta1")).await;
    seen.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_that_are_missing_taken_and_given_are_told() {
    if !wanted() {
        return;
    }
    let server = ApiServer::with_kinds(&[]).await;
    server.apply_all(&[namespace("shop"), entry("shop", "api")]).await;
    let all = rules();
    let token = server.account("viewer", &without(&all, "pods").into()).await;
    let mut seen = Watching::all(&server.kubeconfig_with_token(&token));
    seen.loaded().await;
    let pods = seen.state.gaps.iter().find(|g| g.kind == "Pod").expect("pods are denied");
    assert_eq!(
        pods.missing.fix,
        r#"add to the ClusterRole: {apiGroups: [""], resources: ["pods"], verbs: [get, list, watch]}"#
    );
    assert!(seen.has("ServiceEntry", "shop", "api"), "what is granted works");
    assert!(seen.gaps().contains(&"HTTPRoute"), "{:?}", seen.gaps());

    server.apply_all(&[pod("shop", "cart", "w1", "10.1.0.5"), role("viewer", &all.clone().into())]).await;
    seen.until("pods after the grant", |w| w.has("Pod", "shop", "cart") && !w.gaps().contains(&"Pod")).await;

    // Taken away under a watch that is open and stays so.
    let narrowed: Vec<Value> = all.iter().filter(|r| r["apiGroups"][0] != "networking.istio.io").cloned().collect();
    server.apply(&role("viewer", &narrowed.into())).await;
    seen.until("that entries may be read no more", |w| w.gaps().contains(&"ServiceEntry")).await;
    assert!(seen.has("ServiceEntry", "shop", "api"), "what was known stays");
    server.delete(&entry("shop", "api")).await;
    server.apply_all(&[entry("shop", "new"), role("viewer", &all.into())]).await;
    seen.until("what happened meanwhile", |w| {
        w.has("ServiceEntry", "shop", "new") && !w.has("ServiceEntry", "shop", "api")
    })
    .await;
    assert!(!seen.gaps().contains(&"ServiceEntry"));
    seen.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_streaming_lists_is_listed_in_pages() {
    if !wanted() {
        return;
    }
    let server = ApiServer::start(&["--feature-gates=WatchList=false"]);
    server.install(|n| n.starts_with("serviceentries")).await;
    server.apply(&namespace("shop")).await;
    let many: Vec<Value> = (0..1_100).map(|n| entry("shop", &format!("e{n}"))).collect();
    server.apply_all(&many).await;
    let mut seen = Watching::all(&server.printed().await);
    seen.loaded().await;
    assert_eq!(seen.figures().objects.get("ServiceEntry"), Some(&1_100));
    server.apply(&entry("shop", "later")).await;
    seen.until("a later one", |w| w.has("ServiceEntry", "shop", "later")).await;
    seen.stop().await;
}

const HOSTILE: &str = "a\u{1b}[2J\u{202e}b";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_that_make_no_sense_are_kept_marked_and_harm_nobody() {
    if !wanted() {
        return;
    }
    let mut server = ApiServer::with_kinds(&[]).await;
    let mut enumeration = entry("shop", "unknown-enum");
    enumeration["spec"]["resolution"] = json!("SOMETIMES");
    let mut empty = entry("shop", "no-hosts");
    empty["spec"]["hosts"] = json!([]);
    let mut types = entry("shop", "types");
    types["spec"]["ports"] = json!("none");
    types["spec"]["resolution"] = json!(7);
    let mut huge = entry("shop", "huge");
    huge["metadata"]["annotations"] = json!({"networking.istio.io/x": "x".repeat(200_000)});
    let mut hostile = entry("shop", "hostile");
    hostile["spec"]["hosts"] = json!(["\u{1b}[2J\u{202e}evil.example.com", "a b", "*"]);
    hostile["metadata"]["annotations"] = json!({"istio.io/note": "\u{1b}]0;title\u{7}"});
    let bare = json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "bare", "namespace": "shop"}});
    server.apply_all(&[namespace("shop"), enumeration, empty, types, huge, hostile, bare, entry("shop", "good")]).await;
    // Past everything that checks names: what a broken or hostile store might hold.
    let mut stranger = pod("shop", HOSTILE, "w1", "10.1.0.66");
    stranger["metadata"]["uid"] = "00000009-0000-4000-8000-000000000001".into();
    stranger["metadata"]["labels"] = json!({HOSTILE: HOSTILE});
    server.store(&[stranger]);
    let mut seen = Watching::all(&server.printed().await);
    seen.loaded().await;
    let name = &seen.mesh.in_cluster([10, 1, 0, 66].into(), 80).and_then(|i| i.object).expect("a pod").to_string();
    assert_eq!(&egress_core::name::printable(name), name);
    for name in ["unknown-enum", "no-hosts", "types", "huge", "hostile", "bare", "good"] {
        assert!(seen.has("ServiceEntry", "shop", name), "{name}");
    }
    let marked: Vec<String> = seen
        .mesh
        .problems()
        .iter()
        .filter_map(|p| p.object.as_ref())
        .map(|o: &ObjectRef| o.name.name.to_string())
        .collect();
    for name in ["unknown-enum", "types"] {
        assert!(marked.iter().any(|m| m == name), "{name}: {marked:?}");
    }
    assert!(!seen.text("ServiceEntry", "shop", "huge").contains("xxxxxxxx"), "huge annotations are not kept");
    // In a running watch too.
    let mut later = entry("shop", "later");
    later["spec"]["location"] = json!({"a": 1});
    server.apply(&later).await;
    seen.until("a later one", |w| w.has("ServiceEntry", "shop", "later")).await;
    seen.stop().await;
}
