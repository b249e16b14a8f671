//! Agreement does not hang on the order of objects, nor on what things are called.

use std::collections::BTreeSet;

use egress_core::manifest::RawObject;
use egress_tests::generate::Chance;
use egress_tests::oracle::{self, Case};

#[test]
fn the_order_of_the_objects_changes_no_answer() {
    let mut chance = Chance::new(4);
    for case in oracle::cases() {
        let mut objects = case.objects();
        let in_order = case.answers(&objects);
        chance.shuffle(&mut objects);
        assert_eq!(case.answers(&objects), in_order, "{}", case.name);
    }
}

/// Words of the language of objects: something that is called like one of these keeps its name.
const WORDS: [&str; 16] = [
    "default",
    "istio-system",
    "istio",
    "mesh",
    "all",
    "app",
    "http",
    "tls",
    "tcp",
    "https",
    "proxy",
    "sidecar",
    "router",
    "version",
    "v1",
    "cert",
];

/// Names of namespaces and pods.
fn names(objects: &[RawObject]) -> BTreeSet<String> {
    let named = objects.iter().filter(|o| matches!(o.value["kind"].as_str(), Some("Namespace" | "Pod")));
    let all = named.filter_map(|o| o.value["metadata"]["name"].as_str().map(str::to_owned));
    all.filter(|name| !WORDS.contains(&name.as_str())).collect()
}

/// Every name and host gets another one. Ties are decided by the order of names, so the new ones sort as the old ones did.
fn renamed(text: &str, names: &BTreeSet<String>) -> String {
    let text = text.replace("example.", "examplf.").replace("EXAMPLE.", "EXAMPLF.");
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut out = String::with_capacity(text.len() * 11 / 10);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let end = rest.find(|c| !part_of_name(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        out.push_str(word);
        // What a colon follows is a key, unless the colon is that of a port.
        let key = match after.strip_prefix('"') {
            Some(after) => after.starts_with(':'),
            None => after.starts_with(": ") || after.starts_with(":\n"),
        };
        if !key && names.contains(&word.to_ascii_lowercase()) {
            out.push(if word.chars().any(char::is_lowercase) { 'x' } else { 'X' });
        }
        let skip = after.chars().next().map_or(0, char::len_utf8);
        out.push_str(&after[..skip]);
        rest = &after[skip..];
    }
    out
}

#[test]
fn other_names_of_namespaces_pods_and_hosts_give_the_same_agreement() {
    let mut report = Vec::new();
    let mut asked = 0;
    for case in oracle::cases() {
        let names = names(&case.objects());
        let other = Case {
            mesh: case.mesh.iter().map(|text| renamed(text, &names)).collect(),
            calls: renamed(&case.calls, &names),
            expected: renamed(&case.expected, &names),
            ..case
        };
        for (want, got) in other.pairs(&other.answers(&other.objects())) {
            asked += 1;
            if oracle::compared(&want, &got).iter().any(|(_, ok)| !ok) {
                report.push(format!("{} {}: want {want}\n    got {got}", other.name, want["id"]));
            }
        }
    }
    assert!(asked > 5_000, "only {asked} calls");
    assert!(report.is_empty(), "{} calls differ:\n{}", report.len(), report[..report.len().min(8)].join("\n"));
}

#[test]
fn a_rename_leaves_keys_alone_and_takes_whole_names() {
    let names = BTreeSet::from(["egress".to_owned(), "web".to_owned()]);
    let text = "egress:\n- {name: web, \"egress\": web-1, host: api.web.svc, www: www.example.com}";
    let want = "egress:\n- {name: webx, \"egress\": web-1, host: api.webx.svc, www: www.examplf.com}";
    assert_eq!(renamed(text, &names), want);
}
