//! What this account may read: asked before it is tried, so that what is missing can be named, with the rule that would add it.

use futures_util::StreamExt as _;
use kube::Client;
use kube::core::Request;
use kube::core::params::PostParams;
use serde_json::{Value, json};

use super::kinds::{KINDS, Kind, Part};
use super::trouble::{Trouble, answered};

/// Questions that are open at the same time.
const AT_ONCE: usize = 8;

/// What a kind's objects may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Access {
    /// Listed and watched.
    Granted,
    /// Not all verbs are granted; these are not.
    Denied(Vec<&'static str>),
    /// The server would not say: it is tried.
    Unknown(Trouble),
}

/// Asks for one kind, or for one object of it.
pub(super) async fn ask(client: &Client, kind: &Kind, name: Option<&str>) -> Access {
    let mut missing = Vec::new();
    for verb in ["list", "watch"] {
        match allowed(client, kind, name, verb).await {
            Ok(true) => {}
            Ok(false) => missing.push(verb),
            Err(trouble) => return Access::Unknown(trouble),
        }
    }
    if missing.is_empty() { Access::Granted } else { Access::Denied(missing) }
}

/// Asks for every kind that is served and read as a whole.
pub(super) async fn ask_all(client: &Client, served: &[(&'static Kind, String)]) -> Vec<(&'static Kind, Access)> {
    let kinds = served.iter().map(|(kind, _)| *kind).filter(|k| k.part != Part::MeshConfig);
    let asked: Vec<_> = kinds.clone().map(|kind| ask_whole(client, kind)).collect();
    let all = futures_util::stream::iter(asked).buffer_unordered(AT_ONCE).collect();
    let mut answers: Vec<_> = match answered(async { Ok(all.await) }).await {
        Ok(answers) => answers,
        Err(trouble) => kinds.map(|kind| (kind, Access::Unknown(trouble.clone()))).collect(),
    };
    answers.sort_by_key(|(kind, _)| KINDS.iter().position(|k| k == *kind));
    answers
}

async fn ask_whole(client: &Client, kind: &'static Kind) -> (&'static Kind, Access) {
    (kind, ask(client, kind, None).await)
}

async fn allowed(client: &Client, kind: &Kind, name: Option<&str>, verb: &str) -> Result<bool, Trouble> {
    let mut attributes = json!({"group": kind.group, "resource": kind.plural, "verb": verb});
    if let Some(name) = name {
        attributes["name"] = name.into();
    }
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes}
    });
    let answer = post(client, "selfsubjectaccessreviews", &review).await?;
    Ok(answer.pointer("/status/allowed").and_then(Value::as_bool).unwrap_or(false))
}

/// All rules of this account in one answer, to notice that they changed; `None` where the server cannot tell all of them.
pub(super) async fn rules(client: &Client) -> Result<Option<Value>, Trouble> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "default"}
    });
    let mut answer = post(client, "selfsubjectrulesreviews", &review).await?;
    let incomplete = answer.pointer("/status/incomplete").and_then(Value::as_bool).unwrap_or(true);
    Ok(answer.pointer_mut("/status/resourceRules").map(Value::take).filter(|_| !incomplete))
}

async fn post(client: &Client, resource: &str, review: &Value) -> Result<Value, Trouble> {
    let request = Request::new(format!("/apis/authorization.k8s.io/v1/{resource}"))
        .create(&PostParams::default(), review.to_string().into_bytes())
        .map_err(|e| Trouble::NotUnderstood(e.to_string()))?;
    answered(async { Ok(client.request(request).await?) }).await
}

/// The rule that grants it, as it stands in a ClusterRole.
pub(super) fn rule(kind: &Kind, names: &[&str]) -> String {
    let quoted = |list: &[&str]| list.iter().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
    let only = if names.is_empty() { String::new() } else { format!(", resourceNames: [{}]", quoted(names)) };
    format!("{{apiGroups: [\"{}\"], resources: [\"{}\"]{only}, verbs: [get, list, watch]}}", kind.group, kind.plural)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_what_a_role_would_say() {
        let kind = KINDS.iter().find(|k| k.kind == "ConfigMap").expect("in the table");
        let says = rule(kind, &["istio"]);
        let says = says.as_str();
        assert_eq!(
            says,
            r#"{apiGroups: [""], resources: ["configmaps"], resourceNames: ["istio"], verbs: [get, list, watch]}"#
        );
    }
}
