//! The same objects as a Helm chart: what differs between clusters is a value.

use egress_core::yaml;
use serde_json::{Value, json};

use super::set::Set;

/// Values and the text that stands for each in a template.
const VALUES: [(&str, &str, Indent); 4] = [
    ("image", "{{ .Values.image | quote }}", Indent::None),
    ("resources", "{{- toYaml .Values.resources | nindent 10 }}", Indent::Lines),
    ("nodeSelector", "{{- toYaml .Values.nodeSelector | nindent 8 }}", Indent::Lines),
    ("tolerations", "{{- toYaml .Values.tolerations | nindent 8 }}", Indent::Lines),
];

#[derive(Clone, Copy, PartialEq)]
enum Indent {
    None,
    Lines,
}

/// Files of the chart, by name.
pub(super) fn files(set: &Set) -> Vec<(String, String)> {
    let version = env!("CARGO_PKG_VERSION");
    let chart = json!({
        "apiVersion": "v2", "name": "egress-tui", "version": version, "appVersion": version, "type": "application",
        "description": "What leaves the nodes of a cluster, and whether it goes through the egress gateway"
    });
    let pod = set.pod();
    let container = &pod["containers"][0];
    let values = json!({
        "image": set.image,
        "nodeSelector": pod.get("nodeSelector").cloned().unwrap_or_else(|| json!({})),
        "tolerations": pod["tolerations"],
        "resources": container["resources"]
    });
    let mut files =
        vec![("Chart.yaml".to_owned(), yaml::write(&chart)), ("values.yaml".to_owned(), yaml::write(&values))];
    for mut object in set.objects() {
        let kind = object["kind"].as_str().unwrap_or_default().to_ascii_lowercase();
        if kind == "namespace" {
            // `helm install --create-namespace` makes it; the level of pod security is the cluster's own choice.
            continue;
        }
        for pointer in ["/metadata/namespace", "/subjects/0/namespace"] {
            if let Some(namespace) = object.pointer_mut(pointer) {
                *namespace = mark("namespace").into();
            }
        }
        if kind == "daemonset" {
            object["spec"]["template"]["spec"]["nodeSelector"] = mark("nodeSelector").into();
            object["spec"]["template"]["spec"]["tolerations"] = mark("tolerations").into();
            object["spec"]["template"]["spec"]["containers"][0]["resources"] = mark("resources").into();
            object["spec"]["template"]["spec"]["containers"][0]["image"] = mark("image").into();
        }
        files.push((format!("templates/{kind}.yaml"), template(&object)));
    }
    files
}

/// Stands for a value until the text is written; no object of ours holds such a text.
fn mark(name: &str) -> String {
    format!("VALUE_{name}_VALUE")
}

fn template(object: &Value) -> String {
    let mut text = yaml::write(object).replace(&mark("namespace"), "{{ .Release.Namespace }}");
    for (name, stands, indent) in VALUES {
        let stands =
            if indent == Indent::Lines { format!("\n{}", pad(&text, name, stands)) } else { stands.to_owned() };
        let mark = mark(name);
        // A block begins on a line of its own: the space behind the key goes.
        text = if indent == Indent::Lines {
            text.replace(&format!(" {mark}"), &stands)
        } else {
            text.replace(&mark, &stands)
        };
    }
    text
}

/// A template's directive on its own line, where `nindent` begins another.
fn pad(text: &str, name: &str, stands: &str) -> String {
    let line = text.lines().find(|l| l.contains(&mark(name))).unwrap_or_default();
    let depth = line.len() - line.trim_start().len();
    format!("{}{stands}", " ".repeat(depth + 2))
}
