//! Agreement with answers that Istio's own code computed (`tests/oracle`), per field and topic.
#![expect(clippy::print_stdout, reason = "the agreement is printed")]

use std::collections::BTreeMap;

use egress_tests::oracle;

#[derive(Default, Clone, Copy)]
struct Tally {
    agree: usize,
    differ: usize,
}

impl Tally {
    fn add(&mut self, agrees: bool) {
        *(if agrees { &mut self.agree } else { &mut self.differ }) += 1;
    }

    fn line(self, what: &str) -> String {
        let total = self.agree + self.differ;
        format!("{what:14} {:6} of {total:6} agree ({:.2} %)", self.agree, 100.0 * self.agree as f64 / total as f64)
    }
}

#[test]
fn calls_are_decided_as_istio_decides_them() {
    let all = oracle::cases();
    assert!(all.len() > 250, "the oracle's cases are there");
    let only = std::env::var("EGRESS_CASE").unwrap_or_default();
    let mut by_field: BTreeMap<&str, Tally> = BTreeMap::new();
    let mut by_topic: BTreeMap<&str, Tally> = BTreeMap::new();
    let mut report = Vec::new();
    for case in all.iter().filter(|c| c.name.contains(&only)) {
        for (want, got) in case.pairs(&case.answers(&case.objects())) {
            let compared = oracle::compared(&want, &got);
            if compared.is_empty() {
                continue;
            }
            for (field, ok) in &compared {
                by_field.entry(field).or_default().add(*ok);
            }
            let whole = compared.iter().all(|(_, ok)| *ok);
            by_topic.entry(&case.topic).or_default().add(whole);
            if !whole {
                report.push(format!("{} {}: want {want}\n    got {got}", case.name, want["id"]));
            }
        }
    }
    for (what, tally) in by_field.iter().chain(&by_topic) {
        println!("{}", tally.line(what));
    }
    for line in report.iter().take(20) {
        println!("{line}");
    }
    assert!(report.is_empty(), "{} calls differ", report.len());
}
