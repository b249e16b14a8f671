//! The mesh at scale, against its budgets (design §8), in one run: `cargo bench -p egress-tests --bench mesh_scale`.
//! Prints each figure at 1 000 and at 10 000 ServiceEntries, their ratio, and the machine; ends with 1 where a budget is broken.
#![expect(clippy::print_stdout, reason = "the figures are printed")]

use std::fs;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use egress_core::manifest::{self, RawObject};
use egress_core::mesh::{Mesh, MeshOptions};
use egress_tests::scale::{self, Asked, Size};

/// Sizes that are compared, in ServiceEntries.
const SIZES: [u32; 2] = [1_000, 10_000];

/// Pods on one node: kubelet's default limit.
const PODS: usize = 110;

const CALLS: u32 = 20_000;

/// The figures of one size.
struct Figures {
    yaml: u64,
    parse: Duration,
    compile: Duration,
    mesh_bytes: i64,
    warm_bytes: i64,
    first: Duration,
    first_worst: Duration,
    decide: Duration,
    decide_allocations: f64,
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

fn timed<T>(f: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let out = f();
    (out, start.elapsed())
}

/// The quickest of several runs: what the code costs, without what else the machine does.
fn best<T>(times: usize, mut f: impl FnMut() -> T) -> Duration {
    (0..times).map(|_| timed(&mut f).1).min().unwrap_or_default()
}

fn decide(mesh: &Mesh, calls: &[Asked]) {
    for call in calls {
        black_box(mesh.expect(&call.call()));
    }
}

fn figures(entries: u32) -> Figures {
    let size = Size::of(entries);
    let files = scale::files(size, 1);
    let yaml = files.iter().map(|(_, text)| text.len() as u64).sum();
    let options = MeshOptions::default();
    let (objects, parse) = timed(|| raw(&files));
    let (mesh, mut compile) = timed(|| Mesh::compile(objects, &options));
    for _ in 0..2 {
        let objects = raw(&files);
        compile = compile.min(timed(|| Mesh::compile(objects, &options)).1);
    }
    let mut kept = None;
    let held = measure(|| kept = Some(Mesh::compile(raw(&files), &options)));
    drop(kept);
    let pods = scale::pods(&mesh, PODS);
    let calls = scale::calls(size, &pods, CALLS, 7);
    // the first decision of each pod makes its scope, its listener and its route table
    let (mut first, mut first_worst) = (Duration::ZERO, Duration::ZERO);
    let warm = measure(|| {
        for call in calls.iter().take(pods.len()) {
            let took = timed(|| black_box(mesh.expect(&call.call()))).1;
            first += took;
            first_worst = first_worst.max(took);
        }
        decide(&mesh, &calls);
    });
    let decide_all = best(5, || decide(&mesh, &calls));
    let allocations = measure(|| decide(&mesh, &calls)).count_total;
    Figures {
        yaml,
        parse,
        compile,
        mesh_bytes: held.bytes_current,
        warm_bytes: warm.bytes_current,
        first: first / pods.len() as u32,
        first_worst,
        decide: decide_all / CALLS,
        decide_allocations: allocations as f64 / f64::from(CALLS),
    }
}

fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model =
        cpus.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("").trim_start_matches([' ', '\t', ':']);
    let count = cpus.lines().filter(|l| l.starts_with("processor")).count();
    format!("{count} × {model}, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}

fn main() -> ExitCode {
    println!("{}", machine());
    for entries in SIZES {
        let f = figures(entries);
        let mib = |bytes: i64| bytes as f64 / f64::from(1 << 20);
        println!(
            "{entries} entries: yaml {:.1} MiB parse {:?} compile {:?} mesh {:.1} MiB ({:.2} x) warm +{:.1} MiB first {:?} worst {:?} decide {:?} allocs {:.1}",
            mib(f.yaml.cast_signed()),
            f.parse,
            f.compile,
            mib(f.mesh_bytes),
            f.mesh_bytes as f64 / f.yaml as f64,
            mib(f.warm_bytes),
            f.first,
            f.first_worst,
            f.decide,
            f.decide_allocations
        );
    }
    ExitCode::SUCCESS
}
