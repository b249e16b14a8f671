//! A real API server that dies, falls silent, forgets its history, takes tokens back, and is restored from a backup.

use std::time::Duration;

use egress_tests::cluster::{ApiServer, LONG, Relay, Watching, entry, namespace, quick, rules, wanted};
use egress_tui::source::kube::{Pace, Pods};
use kube::core::Request;
use kube::core::params::ListParams;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_and_comes_back_is_stale_and_then_known_with_all_that_happened() {
    if !wanted() {
        return;
    }
    let mut server = ApiServer::with_kinds(&[]).await;
    server.apply_all(&[namespace("shop"), entry("shop", "before")]).await;
    let mut seen = Watching::all(&server.printed().await);
    seen.loaded().await;
    server.kill();
    seen.until("that it is stale", |w| w.state.stale.is_some()).await;
    assert!(seen.has("ServiceEntry", "shop", "before"));
    server.run();
    server.delete(&entry("shop", "before")).await;
    server.apply(&entry("shop", "after")).await;
    seen.until("what happened since", |w| {
        w.has("ServiceEntry", "shop", "after") && !w.has("ServiceEntry", "shop", "before")
    })
    .await;
    seen.until("that it is not stale", |w| w.state.stale.is_none()).await;
    seen.stop().await;
}

/// Changes an object several times, so that history has something to forget.
async fn churn(server: &ApiServer, word: &str) {
    for n in 0..5 {
        let mut other = entry("shop", "other");
        other["spec"]["hosts"] = json!([format!("{word}{n}.example.com")]);
        server.apply(&other).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_that_was_compacted_under_a_watch_is_listed_anew() {
    if !wanted() {
        return;
    }
    let mut server = ApiServer::start(&["--watch-cache=false"]);
    server.install(|n| n.starts_with("serviceentries")).await;
    server.apply_all(&[namespace("shop"), entry("shop", "one")]).await;
    let relay = Relay::to(&server.address());
    let config = server.through(&relay, &server.printed().await);
    let mut seen = Watching::all(&config);
    seen.loaded().await;
    // The watch cannot see any of it, and asks for what comes after what it knows.
    relay.cut();
    churn(&server, "a").await;
    server.delete(&entry("shop", "one")).await;
    server.tell("compact");
    relay.open();
    seen.until("the deletion", |w| !w.has("ServiceEntry", "shop", "one") && w.has("ServiceEntry", "shop", "other"))
        .await;
    assert!(seen.figures().gone > 0, "410 was answered");
    seen.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_from_before_a_restart_is_listed_anew() {
    if !wanted() {
        return;
    }
    let mut server = ApiServer::start(&[]);
    server.install(|n| n.starts_with("serviceentries")).await;
    server.apply_all(&[namespace("shop"), entry("shop", "one")]).await;
    let relay = Relay::to(&server.address());
    let config = server.through(&relay, &server.printed().await);
    let mut seen = Watching::all(&config);
    seen.loaded().await;
    relay.cut();
    churn(&server, "a").await;
    server.delete(&entry("shop", "one")).await;
    // The new process's cache begins here: what the watch knows is older.
    server.kill();
    server.run();
    churn(&server, "b").await;
    relay.open();
    seen.until("what happened meanwhile", |w| {
        !w.has("ServiceEntry", "shop", "one") && w.text("ServiceEntry", "shop", "other").contains("b4")
    })
    .await;
    assert!(seen.figures().gone > 0, "410 was answered");
    seen.stop().await;
}

/// The status of a request for one more page.
async fn next_page(server: &ApiServer, token: &str) -> Result<Value, kube::Error> {
    let params = ListParams { limit: Some(1), continue_token: Some(token.to_owned()), ..ListParams::default() };
    let request = Request::new("/apis/networking.istio.io/v1/serviceentries").list(&params).expect("a request");
    server.admin().await.request(request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_a_list_whose_history_is_gone_are_listed_anew() {
    if !wanted() {
        return;
    }
    let mut server = ApiServer::start(&["--feature-gates=WatchList=false"]);
    server.install(|n| n.starts_with("serviceentries")).await;
    server.apply(&namespace("shop")).await;
    let mut many: Vec<Value> = (0..2_000).map(|n| entry("shop", &format!("e{n}"))).collect();
    for (n, entry) in many.iter_mut().enumerate() {
        entry["metadata"]["annotations"] = json!({"example.com/note": "x".repeat(500)});
        entry["metadata"]["uid"] = format!("00000001-0000-4000-8000-{n:012x}").into();
    }
    server.store(&many);
    let relay = Relay::to(&server.address());
    let config = server.through(&relay, &server.printed().await);
    // In the middle of the list: a page of 500 has some 400 kB.
    relay.silence_after(900_000);
    let mut seen = Watching::all(&config);
    relay.is_silent();
    let first = ListParams::default().limit(1);
    let request = Request::new("/apis/networking.istio.io/v1/serviceentries").list(&first).expect("a request");
    let page: Value = server.admin().await.request(request).await.expect("a page");
    let token = page["metadata"]["continue"].as_str().expect("a token").to_owned();
    churn(&server, "a").await;
    server.tell("compact");
    // The server notices within some 15 s.
    let forgotten = async { while next_page(&server, &token).await.is_ok() {} };
    tokio::time::timeout(LONG, forgotten).await.expect("the token is good no more");
    relay.open();
    seen.until("all of them", |w| w.figures().objects.get("ServiceEntry") == Some(&2_001)).await;
    assert!(seen.figures().gone > 0, "410 was answered");
    seen.stop().await;
}

/// All objects, once they are loaded with this token; watches are short, so that the token is soon asked for again.
async fn watched_with(server: &ApiServer, token: &str) -> Watching {
    let pace = Pace { watch: Duration::from_secs(2), ..quick() };
    let mut seen = Watching::new(&server.kubeconfig_with_token(token), Pods::All, pace);
    seen.loaded().await;
    seen
}

/// Until the server does not accept the credentials, and then with those that lie in the same file.
async fn refused_and_renewed(server: &ApiServer, seen: &mut Watching, new: &str) {
    seen.until("that the token is refused", |w| {
        w.state.stale.as_ref().is_some_and(|(_, why)| why.contains("credentials") && why.contains("401"))
    })
    .await;
    assert!(seen.has("ServiceEntry", "shop", "api"), "what was known stays");
    server.rotate(new);
    server.apply(&entry("shop", "later")).await;
    seen.until("an entry, with the new token", |w| w.has("ServiceEntry", "shop", "later") && w.state.stale.is_none())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_expires_is_told_and_its_successor_is_read_from_the_file() {
    if !wanted() {
        return;
    }
    let mut server = ApiServer::with_kinds(&[]).await;
    server.apply_all(&[namespace("shop"), entry("shop", "api")]).await;
    let new = server.account("viewer", &rules().into()).await;
    let brief = server.brief_token("viewer", 15).await;
    let mut seen = watched_with(&server, &brief).await;
    assert_eq!(seen.state.stale, None, "it is good for some seconds");
    refused_and_renewed(&server, &mut seen, &new).await;
    seen.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_whose_account_is_gone_is_told_and_its_successor_is_read_from_the_file() {
    if !wanted() {
        return;
    }
    let server = ApiServer::with_kinds(&[]).await;
    server.apply_all(&[namespace("shop"), entry("shop", "api")]).await;
    let old = server.account("old", &rules().into()).await;
    let new = server.account("new", &rules().into()).await;
    let mut seen = watched_with(&server, &old).await;
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "old", "namespace": "default"}});
    server.delete(&account).await;
    refused_and_renewed(&server, &mut seen, &new).await;
    seen.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_falls_silent_is_stale_and_what_happened_meanwhile_is_known_when_it_answers() {
    if !wanted() {
        return;
    }
    let server = ApiServer::with_kinds(&[]).await;
    server.apply_all(&[namespace("shop"), entry("shop", "before")]).await;
    let relay = Relay::to(&server.address());
    let config = server.through(&relay, &server.printed().await);
    let mut seen = Watching::all(&config);
    seen.loaded().await;
    relay.silence();
    seen.until("that nothing is answered", |w| {
        w.state.stale.as_ref().is_some_and(|(_, why)| why.contains("no answer"))
    })
    .await;
    server.delete(&entry("shop", "before")).await;
    server.apply(&entry("shop", "after")).await;
    relay.open();
    seen.until("what happened since", |w| {
        w.has("ServiceEntry", "shop", "after") && !w.has("ServiceEntry", "shop", "before") && w.state.stale.is_none()
    })
    .await;
    seen.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_was_restored_or_replaced_is_read_anew() {
    if !wanted() {
        return;
    }
    let mut server = ApiServer::with_kinds(&[]).await;
    server.apply_all(&[namespace("shop"), entry("shop", "old")]).await;
    let config = server.printed().await;
    server.kill();
    server.back_up();
    server.run();
    server.delete(&entry("shop", "old")).await;
    for n in 0..300 {
        let mut busy = entry("shop", "busy");
        busy["spec"]["hosts"] = json!([format!("{n}.example.com")]);
        server.apply(&busy).await;
    }
    let pace = Pace { watch: Duration::from_secs(290), ..quick() };
    let mut seen = Watching::new(&config, Pods::All, pace);
    seen.loaded().await;
    assert!(seen.has("ServiceEntry", "shop", "busy") && !seen.has("ServiceEntry", "shop", "old"));

    // Versions go back: a watch would go on in silence.
    server.kill();
    server.restore();
    server.run();
    seen.until("what the backup has", |w| {
        w.has("ServiceEntry", "shop", "old") && !w.has("ServiceEntry", "shop", "busy")
    })
    .await;

    // Another cluster at the same address, whose versions may be higher or lower.
    server.kill();
    server.wipe();
    server.run();
    server.install(|name| name.ends_with(".networking.istio.io")).await;
    server.apply_all(&[namespace("else"), entry("else", "where")]).await;
    server.printed().await;
    seen.until("the other cluster", |w| {
        w.has("ServiceEntry", "else", "where") && !w.has("ServiceEntry", "shop", "old")
    })
    .await;
    assert!(!seen.has("Namespace", "", "shop"));
    seen.stop().await;
}
