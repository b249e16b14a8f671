//! Which kinds a server has, and in which versions.

use kube::Client;
use kube::core::Request;
use kube::core::params::GetParams;
use serde_json::Value;

use super::kinds::{KINDS, Kind};
use super::trouble::{Trouble, answered};

/// A resource that is served: group, version, plural.
type Served = (String, String, String);

/// The kinds that are read and served, each in its best version.
pub(super) async fn served(client: &Client) -> Result<Vec<(&'static Kind, String)>, Trouble> {
    let mut found = Vec::new();
    let core = answered(async { Ok(client.list_core_api_versions_aggregated().await?) }).await?;
    let named = answered(async { Ok(client.list_api_groups_aggregated().await?) }).await?;
    for group in core.items.iter().chain(&named.items) {
        let name = group.metadata.as_ref().and_then(|m| m.name.clone()).unwrap_or_default();
        for version in &group.versions {
            let resources = version.resources.iter().filter_map(|r| r.resource.clone());
            let number = version.version.clone().unwrap_or_default();
            found.extend(resources.map(|plural| (name.clone(), number.clone(), plural)));
        }
    }
    if found.is_empty() {
        // Before Kubernetes 1.26 the answer is of another shape: each version is asked.
        found = one_by_one(client).await?;
    }
    Ok(best(&found))
}

async fn one_by_one(client: &Client) -> Result<Vec<Served>, Trouble> {
    let mut found = Vec::new();
    let mut asked: Vec<(&str, &str)> = Vec::new();
    for kind in KINDS {
        for version in kind.versions {
            if asked.contains(&(kind.group, version)) {
                continue;
            }
            asked.push((kind.group, version));
            let path = if kind.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", kind.group) };
            let request = Request::new(path).get(version, &GetParams::default());
            let request = request.map_err(|e| Trouble::NotUnderstood(e.to_string()))?;
            let list: Value = match answered(async { Ok(client.request(request).await?) }).await {
                Err(Trouble::NotServed) => continue,
                answer => answer?,
            };
            let resources = list.get("resources").and_then(Value::as_array).into_iter().flatten();
            let names = resources.filter_map(|r| r.get("name").and_then(Value::as_str));
            found.extend(names.map(|n| (kind.group.to_owned(), (*version).to_owned(), n.to_owned())));
        }
    }
    Ok(found)
}

/// For each kind the first of its versions that is served.
fn best(found: &[Served]) -> Vec<(&'static Kind, String)> {
    let is = |kind: &Kind, version: &str| {
        found.iter().any(|(group, served, plural)| group == kind.group && served == version && plural == kind.plural)
    };
    let version = |kind: &'static Kind| kind.versions.iter().find(|v| is(kind, v)).map(|v| (kind, (*v).to_owned()));
    KINDS.iter().filter_map(version).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_versions_the_best_is_taken_and_unknown_ones_are_not() {
        let served =
            |group: &str, version: &str, plural: &str| (group.to_owned(), version.to_owned(), plural.to_owned());
        let found = [
            served("networking.istio.io", "v1alpha3", "gateways"),
            served("networking.istio.io", "v1beta1", "gateways"),
            served("gateway.networking.k8s.io", "v3", "gateways"),
            served("", "v1", "pods"),
            served("", "v1", "secrets"),
        ];
        let found: Vec<_> = best(&found).into_iter().map(|(kind, version)| (kind.resource(), version)).collect();
        assert_eq!(
            found,
            [("pods".to_owned(), "v1".to_owned()), ("gateways.networking.istio.io".to_owned(), "v1beta1".to_owned())]
        );
    }
}
