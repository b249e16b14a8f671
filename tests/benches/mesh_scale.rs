//! The mesh at scale, against its budgets (design §8), in one run: `cargo bench -p egress-tests --bench mesh_scale`.
//! Prints each figure at the full size, with a tenth of the entries in the same cluster, and with a tenth of everything; how it grows
//! with the entries; and the machine. Ends with 1 where a budget is broken.
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "the figures are printed; a mesh that is not there ends the run"
)]

use std::fs;
use std::hint::black_box;
use std::process::ExitCode;

use allocation_counter::measure;
use egress_core::manifest::{self, RawObject};
use egress_core::mesh::{self, Change, Memo, Mesh, MeshOptions};
use egress_core::name::HostName;
use egress_tests::scale::{self, Asked, Size};
use rustix::time::{ClockId, clock_gettime};

/// ServiceEntries of the full size.
const ENTRIES: u32 = 10_000;

/// How many times fewer the others have.
const TIMES: u32 = 10;

/// Growth that is no growth: ten times the entries may take no more than half as long again. A search that halves what is left would
/// take as much longer as this; anything that looks at every entry takes ten times as long.
const FLAT: f64 = 1.5;

/// Pods on one node: kubelet's default limit.
const PODS: usize = 110;

const CALLS: u32 = 20_000;

/// How often all of them are asked.
const ROUNDS: usize = 100;

/// The figures of one size. Times are CPU time of this thread in nanoseconds: what else the machine does is left out.
struct Figures {
    yaml: f64,
    parse: f64,
    compile: f64,
    held: f64,
    warm: f64,
    first: f64,
    first_worst: f64,
    decision: f64,
    /// The same calls at every size: of the first entries only.
    same: f64,
    allocations: f64,
    cached: f64,
    edit: f64,
    visible: f64,
    entry_visible: f64,
}

fn raw(files: &[(String, String)]) -> Vec<RawObject> {
    files
        .iter()
        .flat_map(|(name, text)| {
            let manifest = manifest::parse(name, text);
            assert!(manifest.problems.is_empty(), "{}", manifest.problems[0]);
            manifest.objects
        })
        .collect()
}

fn cpu_time() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

fn timed<T>(f: impl FnOnce() -> T) -> (T, f64) {
    let start = cpu_time();
    let out = f();
    (out, cpu_time() - start)
}

/// The quickest of several runs.
fn best(times: usize, mut f: impl FnMut() -> f64) -> f64 {
    (0..times).map(|_| f()).fold(f64::INFINITY, f64::min)
}

fn decide(mesh: &Mesh, calls: &[Asked]) {
    for call in calls {
        black_box(mesh.expect(&call.call()));
    }
}

/// Calls that are timed together: few enough for a quiet moment of the machine.
const TOGETHER: usize = 100;

/// What all calls take, once each: the sum of what each hundred of them took at its quickest. Between two rounds of a hundred all
/// others had their turn, so that no call finds in a near cache what it needs of the mesh. Its own names it does find there: they were
/// just read. What becomes of the answers is not counted.
fn quickest<C: Clone, A>(calls: &[C], mut answer: impl FnMut(&C) -> A) -> f64 {
    let mut best = vec![f64::INFINITY; calls.len().div_ceil(TOGETHER)];
    let mut answers = Vec::with_capacity(TOGETHER);
    for _ in 0..ROUNDS {
        for (hundred, best) in calls.chunks(TOGETHER).zip(&mut best) {
            let hundred = hundred.to_vec();
            *best = best.min(timed(|| answers.extend(hundred.iter().map(&mut answer))).1);
            black_box(&answers);
            answers.clear();
        }
    }
    best.iter().sum()
}

/// The same calls as the ledger remembers them.
fn remembered(calls: &[Asked]) -> Vec<mesh::Asked> {
    let owned = |asked: &Asked| {
        let call = asked.call();
        mesh::Asked {
            pod: call.pod,
            leg: call.leg,
            to: call.to,
            transport: call.transport,
            bytes: call.bytes,
            sni: call.sni.map(HostName::from),
            host: call.host.map(HostName::from),
            path: None,
            dns: None,
            container: Some("app".into()),
            uid: Some(1000),
            gid: Some(1000),
            captured: call.captured,
        }
    };
    calls.iter().map(owned).collect()
}

/// An object of this kind with a host more.
fn changed(files: &[(String, String)], kind: &str) -> RawObject {
    let mut objects = raw(files).into_iter();
    let mut found = objects.find(|o| o.value["kind"] == kind).expect("the mesh has one");
    if let Some(hosts) = found.value["spec"]["hosts"].as_array_mut() {
        hosts.push("one-more.example.com".into());
    }
    found
}

fn figures(size: Size) -> Figures {
    let files = scale::files(size, 1);
    let options = MeshOptions::default();
    let parse = best(3, || timed(|| drop(black_box(raw(&files)))).1);
    let compile = best(3, || {
        let objects = raw(&files);
        // what it was made of, and the mesh itself, are freed by whom they belong to
        timed(|| black_box(Mesh::compile(&objects, &options))).1
    });
    let mut kept = None;
    let held = measure(|| kept = Some(Mesh::compile(&raw(&files), &options)));
    let mesh = kept.expect("it was compiled");
    let pods = scale::pods(&mesh, PODS);
    let calls = scale::calls(size, size.entries, &pods, CALLS, 7);
    // the first decision of each pod makes its scope, its listener and its route table
    let (mut first, mut first_worst) = (0.0, 0.0);
    let warm = measure(|| {
        for call in calls.iter().take(pods.len()) {
            let took = timed(|| black_box(mesh.expect(&call.call()))).1;
            first += took;
            first_worst = f64::max(first_worst, took);
        }
        decide(&mesh, &calls);
    });
    let decision = quickest(&calls, |call| mesh.expect(&call.call()));
    let few = scale::calls(size, ENTRIES / TIMES, &pods, CALLS, 7);
    decide(&mesh, &few);
    let same = quickest(&few, |call| mesh.expect(&call.call()));
    let allocations = measure(|| decide(&mesh, &calls)).count_total;
    let asked = remembered(&calls);
    let mut memo = Memo::default();
    for call in &asked {
        black_box(memo.expect(&mesh, call));
    }
    let cached = quickest(&asked, |a| memo.expect(&mesh, a));
    // what a reader waits for: the old mesh is still there, and is freed later
    let shown = |kind: &str, call: Option<&Asked>| {
        let put = changed(&files, kind);
        best(3, || {
            let change = Change::Put(put.clone());
            let (_edited, took) = timed(|| {
                let edited = mesh.edited([change]);
                let answer = call.map(|call| edited.expect(&call.call()));
                (edited, answer)
            });
            took
        })
    };
    Figures {
        yaml: files.iter().map(|(_, text)| text.len() as f64).sum(),
        parse,
        compile,
        held: held.bytes_current as f64,
        warm: warm.bytes_current as f64,
        first: first / pods.len() as f64,
        first_worst,
        decision: decision / f64::from(CALLS),
        same: same / f64::from(CALLS),
        allocations: allocations as f64 / f64::from(CALLS),
        cached: cached / f64::from(CALLS),
        edit: shown("VirtualService", None),
        visible: shown("VirtualService", calls.first()),
        entry_visible: shown("ServiceEntry", calls.first()),
    }
}

fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model =
        cpus.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("").trim_start_matches([' ', '\t', ':']);
    let count = cpus.lines().filter(|l| l.starts_with("processor")).count();
    format!("{count} x {model}, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}

fn main() -> ExitCode {
    println!("{}; CPU time of one thread", machine());
    let full = Size::of(ENTRIES);
    let tenth = Size::of(ENTRIES / TIMES);
    // the cluster stays as it is: namespaces, pods, Services, endpoints, Sidecars
    let entries = Size { entries: tenth.entries, virtual_services: tenth.virtual_services, ..full };
    let [all, entries, full] = [tenth, entries, full].map(figures);
    let mut broken = 0;
    println!("{:44} {:>12} {:>12} {:>12} {:>7}  budget", "", "1/10 of all", "1/10 entries", ENTRIES, "growth");
    let mut row = |name: &str, of: &dyn Fn(&Figures) -> f64, unit: f64, most: Option<f64>, growth: Option<f64>| {
        let [a, b, c] = [&all, &entries, &full].map(|f| of(f) / unit);
        let grown = c / b;
        let kept = most.is_none_or(|most| c <= most) && growth.is_none_or(|most| grown <= most);
        broken += u32::from(!kept);
        let mut told = most.map_or_else(String::new, |most| format!("<= {most}"));
        told.extend(growth.map(|most| format!("  growth <= {most}")));
        let mark = if kept { "" } else { "  BROKEN" };
        println!("{name:44} {a:12.2} {b:12.2} {c:12.2} {grown:7.2}  {told}{mark}");
    };
    let (mib, ms, us, as_entries) = (f64::from(1 << 20), 1e6, 1e3, Some(f64::from(TIMES)));
    row("YAML, MiB", &|f| f.yaml, mib, None, None);
    row("parse, ms", &|f| f.parse, ms, None, None);
    row("full compile, ms", &|f| f.compile, ms, Some(1_000.0), as_entries);
    row("compile per KiB of YAML, us", &|f| f.compile / f.yaml * 1024.0, us, None, None);
    row("compiled mesh, MiB", &|f| f.held, mib, None, None);
    row("compiled mesh / YAML", &|f| f.held / f.yaml, 1.0, Some(3.0), None);
    row("what the proxies of 110 pods add, MiB", &|f| f.warm, mib, None, None);
    row("first decision of a pod, ms", &|f| f.first, ms, None, None);
    row("the slowest of them, ms", &|f| f.first_worst, ms, None, None);
    row("decision, new tuple, us", &|f| f.decision, us, Some(2.0), None);
    row("decision, calls about the same 1 000, us", &|f| f.same, us, Some(2.0), Some(FLAT));
    row("allocations of a decision", &|f| f.allocations, 1.0, None, Some(FLAT));
    row("the same, remembered, ns", &|f| f.cached, 1.0, Some(300.0), Some(FLAT));
    row("one edit, ms", &|f| f.edit, ms, None, None);
    row("a VirtualService edited and a decision, ms", &|f| f.visible, ms, Some(100.0), None);
    row("a ServiceEntry edited and a decision, ms", &|f| f.entry_visible, ms, Some(100.0), None);
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
