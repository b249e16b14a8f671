//! The filter language: every documented example, round trips, and the same answers as an evaluator that is too simple to be
//! wrong.

use egress_core::filter::complete::{Completion, complete};
use egress_core::filter::field::Kind;
use egress_core::filter::syntax::Form;
use egress_core::filter::{Field, Filter, Item, Op, Test, Tree};
use egress_core::id::{Nanos, WallTime};
use egress_core::query::is_problem;
use egress_core::world::{Flow, World};
use egress_tests::worlds;
use proptest::prelude::*;

fn found(world: &World, text: &str) -> Vec<String> {
    let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{error}"));
    let mut labels: Vec<String> =
        world.flows.iter().filter(|f| filter.accepts(f, world.now)).map(|f| f.source.label()).collect();
    labels.sort();
    labels.dedup();
    labels
}

fn count(world: &World, text: &str) -> usize {
    let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{error}"));
    world.flows.iter().filter(|f| filter.accepts(f, world.now)).count()
}

/// The table of the documentation: each line is understood as it says.
#[test]
fn the_documented_examples() {
    let world = worlds::dwh_world();
    for (text, canonical) in [
        ("is:problem ns:pay", "is:problem ns:pay"),
        ("class:bypass,unreg -workload:dev/*", "class:bypass,unreg -workload:dev/*"),
        ("verdict:wrong-gateway or reason:EXCLUDED_PORT", "verdict:wrong-gateway or reason:EXCLUDED_PORT"),
        ("host:*.salesforce.com port:443", "host:*.salesforce.com port:443"),
        ("dst:203.0.113.0/24 or no:name", "dst:203.0.113.0/24 or no:name"),
        ("rate>1M age<5m", "rate>1M age<5m"),
        ("via:direct se:pay/stripe", "via:direct se:pay/stripe"),
        ("gw:crm/*", "gw:crm/*"),
        ("\"api.bank-c\" !cmd:curl", "\"api.bank-c\" -cmd:curl"),
        ("host~/^s3[.-]/", "host~/^s3[.-]/"),
        ("since:13:45 is:new", "since:13:45 is:new"),
        ("a | b c", "a or (b c)"),
        ("NOT (a or b)", "-(a or b)"),
        ("", ""),
    ] {
        let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(filter.tree().to_string(), canonical, "{text}");
        let _ = count(&world, text);
    }
}

#[test]
fn fields_find_what_they_say() {
    let world = worlds::dwh_world();
    let all = world.flows.len();
    assert_eq!(count(&world, ""), all);
    assert_eq!(found(&world, "reason:SOURCE_LABELS"), ["cloud-platform/web"]);
    assert_eq!(found(&world, "reason:EXCLUDED_*"), ["cloud-platform/etl-excluded"]);
    assert_eq!(found(&world, "verdict:BYPASS workload:cloud-platform/web"), ["cloud-platform/web"]);
    assert_eq!(count(&world, "class:unreg"), count(&world, "class:unregistered"));
    assert_eq!(count(&world, "is:problem") + count(&world, "-is:problem"), all);
    assert_eq!(count(&world, "severity>=high") + count(&world, "severity<high"), all);
    assert_eq!(count(&world, "severity!=crit"), all - count(&world, "severity:crit"));
    assert!(count(&world, "port:1433") > 0 && count(&world, "port:1433") == count(&world, "port>=1433 port<=1433"));
    assert_eq!(count(&world, "port:1433,443"), count(&world, "port:1433 or port:443"));
    assert_eq!(count(&world, "port!=1433,443"), count(&world, "-port:1433 -port:443"));
    assert_eq!(count(&world, "dst:0.0.0.0/0") + count(&world, "dst:::/0"), all);
    assert_eq!(count(&world, "has:name") + count(&world, "no:name"), all);
    assert_eq!(count(&world, "host:database.windows"), count(&world, "host:*database.windows*"));
    assert_eq!(count(&world, "host:DATABASE"), 0, "an upper-case letter is meant");
    assert!(count(&world, "age<1d") > 0);
    assert!(count(&world, "vs:istio-egress-gateway/*") > 0);
    assert!(count(&world, "via:direct") > 0 && count(&world, "has:gateway") > 0);
    assert_eq!(count(&world, "web"), count(&world, "host:web or workload:web"));
}

#[test]
fn a_time_of_day_is_the_latest_one() {
    let world = worlds::dwh_world();
    let mut flow = Flow::clone(&world.flows[0]);
    let at = |text: &str| WallTime(text.parse::<jiff::Timestamp>().expect("a time").as_nanosecond() as i64);
    flow.first_seen = at("2026-11-20T23:50:00Z");
    let accepts = |text: &str, now: &str| Filter::parse(text).expect(text).accepts(&flow, at(now));
    assert!(accepts("since:23:45", "2026-11-21T00:05:00Z"), "yesterday's 23:45");
    assert!(!accepts("since:23:55", "2026-11-21T00:05:00Z"));
    assert!(!accepts("since:00:01", "2026-11-21T00:05:00Z"));
    assert!(accepts("since:20m", "2026-11-21T00:05:00Z") && !accepts("since:10m", "2026-11-21T00:05:00Z"));
    assert!(accepts("since:2026-11-20T23:50:00Z", "2026-11-21T00:05:00Z"));
}

#[test]
fn saved_filters_are_names_for_trees() {
    let saved = |name: &str| match name {
        "mine" => Some("ns:cloud-platform or ns:marketing".to_owned()),
        "loop" => Some("@loop".to_owned()),
        "bad" => Some("nss:x".to_owned()),
        _ => None,
    };
    let world = worlds::dwh_world();
    let filter = Filter::parse_with("@mine -port:53", &saved).expect("a filter");
    assert_eq!(filter.tree().to_string(), "@mine -port:53");
    let plain = Filter::parse("(ns:cloud-platform or ns:marketing) -port:53").expect("a filter");
    for flow in &world.flows {
        assert_eq!(filter.accepts(flow, world.now), plain.accepts(flow, world.now));
    }
    let error = Filter::parse_with("@loop", &saved).expect_err("it never ends");
    assert!(error.message.contains("nested"), "{error}");
    let error = Filter::parse_with("a @bad", &saved).expect_err("a mistake inside");
    assert_eq!((&error.text[error.span.clone()], error.message.contains("no field nss")), ("@bad", true));
}

#[test]
fn completion_proposes_fields_then_what_is_there_to_be_found() {
    let world = worlds::dwh_world();
    let at_end = |text: &str| complete(text, text.len(), &world, &["mine"]);
    let texts = |c: &Completion| c.proposals.iter().map(|p| p.text.clone()).collect::<Vec<_>>();
    assert_eq!(texts(&at_end("-ver")), ["verdict:"]);
    assert_eq!(texts(&at_end("ns:a (@m")), ["@mine"]);
    let classes = at_end("class:un");
    assert_eq!(classes.common(), "un");
    for proposal in &classes.proposals {
        assert_eq!(proposal.flows, Some(count(&world, &format!("class:{}", proposal.text))), "{}", proposal.text);
    }
    let listed = at_end("class:bypass,dir");
    assert_eq!((texts(&listed), listed.replace), (vec!["direct".to_owned()], 13..16));
    // Whatever is proposed is a filter that finds as many flows as it says.
    for field in Field::ALL {
        for proposal in complete(&format!("{}:", field.name()), field.name().len() + 1, &world, &[]).proposals {
            let op = if field.kind() == Kind::Text { "=" } else { ":" };
            let text = format!("{}{op}{}", field.name(), proposal.text);
            assert_eq!(proposal.flows, Some(count(&world, &text)), "{text}");
        }
    }
}

/// A value that suits the field.
fn value(field: Option<Field>) -> BoxedStrategy<(String, Form)> {
    let plain = |texts: &'static [&'static str]| prop::sample::select(texts).prop_map(|t| (t.to_owned(), Form::Plain));
    match field.map(|f| (f, f.kind())) {
        Some((_, Kind::Number)) => plain(&["0", "53", "443", "1433", "65535"]).boxed(),
        Some((_, Kind::Amount)) => plain(&["0", "1", "1.5K", "20K", "1M", "2g"]).boxed(),
        Some((_, Kind::Span)) => plain(&["0s", "500ms", "30s", "5m", "2h", "1d"]).boxed(),
        Some((_, Kind::Moment)) => plain(&["13:45", "00:00:01", "5m", "2026-11-20T23:50:00Z"]).boxed(),
        Some((_, Kind::Address)) => plain(&["10.0.0.0/8", "203.0.113.7", "fe80::/10", "::1", "0.0.0.0/0"]).boxed(),
        Some((field, Kind::Choice | Kind::Severity)) => {
            prop::sample::select(field.choices()).prop_map(|t| (t.to_owned(), Form::Plain)).boxed()
        }
        _ => prop_oneof![
            plain(&["web", "cloud-platform/*", "*database*", "etl", "direct", "Web", "*", "10.96.0.10"]),
            "[ -~äÄ]{1,6}".prop_map(|t| (t, Form::Quoted)),
            prop::sample::select(vec!["^e", "a|b", "/x/", "\\.net$", "\\S"]).prop_map(|t| (t.to_owned(), Form::Regex)),
        ]
        .boxed(),
    }
}

fn test() -> impl Strategy<Value = String> {
    let field = prop::sample::select(Field::ALL).prop_flat_map(|field| {
        let op = prop::sample::select(field.kind().ops());
        (Just(field), op, prop::collection::vec(value(Some(field)), 1..3))
    });
    let fielded = field.prop_map(|(field, op, items)| {
        let several = matches!(op, Op::Has | Op::Is | Op::IsNot);
        let items: Vec<String> = items.iter().take(if several { 2 } else { 1 }).map(written).collect();
        format!("{}{}{}", field.name(), op.as_str(), items.join(","))
    });
    prop_oneof![3 => fielded, 1 => value(None).prop_map(|item| written(&item))]
}

fn written((text, form): &(String, Form)) -> String {
    match form {
        Form::Plain => text.clone(),
        Form::Quoted => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        Form::Regex => format!("/{}/", text.replace('/', "\\/")),
    }
}

fn query() -> impl Strategy<Value = String> {
    test().prop_recursive(4, 24, 3, |inner| {
        let parts = prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            parts.clone().prop_map(|p| p.join(" ")),
            parts.prop_map(|p| format!("({})", p.join(" or "))),
            inner.prop_map(|i| format!("-({i})")),
        ]
    })
}

/// The definition of the language, written down as directly as possible.
fn naive(tree: &Tree, flow: &Flow, now: WallTime) -> bool {
    match tree {
        Tree::And(parts) => parts.iter().all(|p| naive(p, flow, now)),
        Tree::Or(parts) => parts.iter().any(|p| naive(p, flow, now)),
        Tree::Not(inner) => !naive(inner, flow, now),
        Tree::Saved(_, inner) => naive(inner, flow, now),
        Tree::Test(test) => naive_test(test, flow, now),
    }
}

fn naive_test(test: &Test, flow: &Flow, now: WallTime) -> bool {
    let holds = |op: Op| test.items.iter().any(|item| naive_item(test.field, op, item, flow, now));
    if test.op == Op::IsNot { !holds(Op::Is) } else { holds(test.op) }
}

fn naive_item(field: Option<Field>, op: Op, item: &Item, flow: &Flow, now: WallTime) -> bool {
    let destination = &flow.destination;
    let host = destination.name.host.as_ref().map(|h| h.as_str().to_owned());
    let Some(field) = field else {
        let texts = [host, Some(flow.source.label()), Some(destination.ip.to_string())];
        return texts.iter().flatten().any(|t| naive_text(op, item, t));
    };
    let age = (now.0 - flow.first_seen.0).max(0).cast_unsigned();
    let named = |kind: &str| -> Vec<String> {
        let objects = flow.judgement.chain.iter().filter_map(|s| s.object.clone());
        objects.filter(|o| o.kind == kind).map(|o| o.name.to_string()).collect()
    };
    let through: Vec<String> = flow
        .path
        .iter()
        .filter(|h| h.role == "gateway" || h.role == "waypoint")
        .filter_map(|h| h.pod.as_ref().map(ToString::to_string))
        .collect();
    let word = |words: &[&str]| words.iter().any(|w| w.eq_ignore_ascii_case(&item.text));
    let owned = |text: &Option<arcstr::ArcStr>| text.iter().map(ToString::to_string).collect::<Vec<_>>();
    let texts: Vec<String> = match field {
        Field::Workload => vec![flow.source.label()],
        Field::Namespace => owned(&flow.source.namespace),
        Field::Pod => flow
            .source
            .pod
            .iter()
            .map(|p| format!("{}/{p}", flow.source.namespace.clone().unwrap_or_default()))
            .collect(),
        Field::Node => vec![flow.source.node.to_string()],
        Field::Host => host.into_iter().collect(),
        Field::L7 => vec![flow.spoken().to_owned()],
        Field::Via => vec![flow.via()],
        Field::Gateway => {
            let expected = flow.expected.as_ref().and_then(|e| e.gateway.as_ref()).map(ToString::to_string);
            let right = !through.is_empty() && flow.class().as_str() == "gateway";
            through.into_iter().chain(expected.filter(|_| right)).collect()
        }
        Field::Entry => named("ServiceEntry"),
        Field::Route => named("VirtualService"),
        Field::Command => flow.source.process.iter().map(|p| p.comm.to_string()).collect(),
        Field::Class => return word(&[flow.class().as_str()]),
        Field::Verdict => return word(&[flow.verdict().as_str()]),
        Field::Reason => return flow.judgement.reasons.iter().any(|r| word(&[r.code()])),
        Field::Name => return word(&[destination.name.source.as_str()]),
        Field::State => {
            let failed = flow.open == 0 && flow.failures > 0 && flow.failures >= flow.connections;
            return word(&[if flow.open > 0 {
                "open"
            } else if failed {
                "failed"
            } else {
                "closed"
            }]);
        }
        Field::Is => {
            let fresh = age < 300 * Nanos::SECOND;
            return match item.text.as_str() {
                "problem" => is_problem(flow),
                "new" => fresh,
                _ => flow.judgement.reasons.iter().any(|r| r.code() == "STALE_PROXY"),
            };
        }
        Field::Has | Field::No => {
            let has = match item.text.as_str() {
                "name" => host.is_some(),
                "gateway" => flow.path.iter().any(|h| h.role == "gateway" || h.role == "waypoint"),
                "process" => flow.source.process.is_some(),
                _ => flow.failures > 0,
            };
            return has == (field == Field::Has);
        }
        Field::Severity => {
            let order = ["info", "ok", "low", "med", "high", "crit"];
            let place = |w: &str| order.iter().position(|o| *o == w).expect("a severity") as f64;
            return naive_number(op, place(flow.judgement.severity.as_str()), place(&item.text));
        }
        Field::Ip | Field::Dst | Field::Src => {
            let range: ipnet::IpNet =
                item.text.parse().unwrap_or_else(|_| item.text.parse::<std::net::IpAddr>().expect("an address").into());
            let (dst, src) = (range.contains(&destination.ip), flow.source.ip.is_some_and(|ip| range.contains(&ip)));
            return match field {
                Field::Dst => dst,
                Field::Src => src,
                _ => dst || src,
            };
        }
        Field::Port => return naive_number(op, f64::from(destination.port), naive_value(&item.text)),
        Field::Count => return naive_number(op, flow.connections as f64, naive_value(&item.text)),
        Field::Pid => {
            let pid = flow.source.process.as_ref().map(|p| f64::from(p.pid));
            return pid.is_some_and(|pid| naive_number(op, pid, naive_value(&item.text)));
        }
        Field::Tx => return naive_number(op, flow.sent_per_second as f64, naive_value(&item.text)),
        Field::Rx => return naive_number(op, flow.received_per_second as f64, naive_value(&item.text)),
        Field::Rate => {
            let rate = flow.sent_per_second + flow.received_per_second;
            return naive_number(op, rate as f64, naive_value(&item.text));
        }
        Field::Age => return naive_number(op, age as f64, naive_value(&item.text) * 1e9),
        Field::Since => {
            let from = match item.text.as_str() {
                "5m" => now.0 - 300_000_000_000,
                "2026-11-20T23:50:00Z" => 1_795_218_600_000_000_000,
                time => {
                    let seconds = if time == "13:45" { 49_500 } else { 1 };
                    let day = 86_400_000_000_000;
                    let today = now.0.div_euclid(day) * day + seconds * 1_000_000_000;
                    if today > now.0 { today - day } else { today }
                }
            };
            return flow.first_seen.0 >= from;
        }
    };
    texts.iter().any(|t| naive_text(op, item, t))
}

/// In the unit without a letter; spans in seconds.
fn naive_value(text: &str) -> f64 {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_lowercase().as_str() {
        "ms" => 0.001,
        "k" => 1e3,
        "m" if digits == "5" => 60.0,
        "m" => 1e6,
        "g" => 1e9,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => 1.0,
    };
    digits.parse::<f64>().expect("a number") * factor
}

fn naive_number(op: Op, has: f64, value: f64) -> bool {
    match op {
        Op::Above => has > value,
        Op::AtLeast => has >= value,
        Op::Below => has < value,
        Op::AtMost => has <= value,
        _ => (has - value).abs() < f64::EPSILON,
    }
}

fn naive_text(op: Op, item: &Item, text: &str) -> bool {
    let fold = !item.text.chars().any(char::is_uppercase);
    if item.form == Form::Regex || op == Op::Matches {
        let fold = fold || item.text == "\\S";
        return regex::RegexBuilder::new(&item.text).case_insensitive(fold).build().expect("a pattern").is_match(text);
    }
    let (text, value) =
        if fold { (text.to_lowercase(), item.text.to_lowercase()) } else { (text.to_owned(), item.text.clone()) };
    if item.form == Form::Plain && value.contains('*') {
        return naive_glob(&value, &text);
    }
    if op == Op::Has { text.contains(&value) } else { text == value }
}

fn naive_glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| naive_glob(tail, &rest[at..]))
        }),
    }
}

/// Turns the direction of text round.
const BIDI: char = '\u{202e}';

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_is_understood_as_the_same(text in query()) {
        if let Ok(filter) = Filter::parse(&text) {
            let printed = filter.tree().to_string();
            let again = Filter::parse(&printed).unwrap_or_else(|error| panic!("{error}"));
            prop_assert_eq!(again.tree(), filter.tree());
            prop_assert_eq!(again.tree().to_string(), printed);
        }
    }

    #[test]
    fn it_finds_what_its_definition_says(text in query()) {
        let world = worlds::dwh_world();
        if let Ok(filter) = Filter::parse(&text) {
            for flow in &world.flows {
                prop_assert_eq!(filter.accepts(flow, world.now), naive(filter.tree(), flow, world.now), "{} on {}", text, flow.source.label());
            }
        }
    }

    #[test]
    fn any_text_is_a_filter_or_a_mistake_with_a_place(text in "[ -~äß…\u{202e}\n\"()/|:=<>~@,*-]{0,40}", cursor in 0usize..50) {
        let _ = complete(&text, cursor, &worlds::dwh_world(), &["mine"]);
        if let Err(error) = Filter::parse(&text) {
            prop_assert!(text.get(error.span.clone()).is_some(), "{:?}", error.span);
            let told = error.to_string();
            prop_assert!(!told.contains(BIDI), "{}", told);
        }
    }
}
