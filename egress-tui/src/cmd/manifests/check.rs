//! `manifests --check`: would this cluster take the set? Every object is sent as a dry run, which runs everything that admits or refuses
//! and stores nothing; and the pod itself, which policies see only when it is made. It needs rights that the program's own account does not
//! have: those of whoever installs it.

use std::io::{self, Write as _};

use egress_core::name::printable;
use kube::Client;
use kube::core::Request;
use kube::core::params::{Patch, PatchParams};
use serde_json::{Value, json};

use super::set::Set;
use crate::cli::Common;
use crate::cmd::{complain, finish, observe};
use crate::exit::Exit;

/// Checks all objects, and prints a line for each. Findings: something is refused.
pub(super) async fn run(common: &Common, set: &Set) -> anyhow::Result<Exit> {
    let client = match observe::cluster(common).connect().await {
        Ok((client, _)) => client,
        Err(error) => {
            complain(&error.to_string());
            return Ok(Exit::Cluster);
        }
    };
    let namespace =
        Request::new("/api/v1/namespaces").get(&set.namespace, &kube::core::params::GetParams::default())?;
    let there = match client.request::<Value>(namespace).await {
        Err(kube::Error::Api(status)) if status.code == 404 => false,
        // Who may not look may not install either: the dry run tells.
        Ok(_) | Err(kube::Error::Api(_)) => true,
        Err(error) => {
            complain(&error.to_string());
            return Ok(Exit::Cluster);
        }
    };
    let mut out = io::stdout().lock();
    let mut exit = Exit::Done;
    let mut written = Ok(());
    let mut objects = set.objects();
    objects.push(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "egress-tui-check", "namespace": set.namespace}, "spec": set.pod()}));
    for mut object in objects {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        if !there && object["metadata"].get("namespace").is_some() {
            // Nothing can be tried in a namespace that is not there yet.
            object["metadata"]["namespace"] = "default".into();
        }
        let says = match try_out(&client, &object).await {
            Ok(()) => "admitted".to_owned(),
            Err(why) => {
                exit = exit.or(Exit::Findings);
                why
            }
        };
        let mark = if says == "admitted" { "ok" } else { "no" };
        written = written.and_then(|()| writeln!(out, "{mark}  {kind:<18} {}", printable(&says)));
    }
    if !there {
        let says = format!("namespace {} is not there yet: what belongs into it was tried in default", set.namespace);
        written = written.and_then(|()| writeln!(out, "--  {says}"));
    }
    finish(written, exit)
}

/// One object as a dry run; why it is refused.
async fn try_out(client: &Client, object: &Value) -> Result<(), String> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (version, plural) = (text("/apiVersion"), format!("{}s", text("/kind").to_ascii_lowercase()));
    let root = if version.contains('/') { "apis" } else { "api" };
    let path = match text("/metadata/namespace") {
        "" => format!("/{root}/{version}/{plural}"),
        namespace => format!("/{root}/{version}/namespaces/{namespace}/{plural}"),
    };
    let params = PatchParams { dry_run: true, ..PatchParams::apply("egress-tui").force() };
    let request = Request::new(path).patch(text("/metadata/name"), &params, &Patch::Apply(object));
    let answer = client.request::<Value>(request.map_err(|e| e.to_string())?).await;
    match answer {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(format!("{} ({})", status.message, status.code)),
        Err(error) => Err(error.to_string()),
    }
}
