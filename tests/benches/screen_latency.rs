//! From a key to its frame: with an empty table and with 50 000 flows, while 10 000 connections a second arrive.
//!
//! `cargo bench -p egress-tests --bench screen_latency --profile release`. The loop that feeds the ledger runs beside the one
//! that draws, as in the program; percentiles over all keys, and the ratio of the two tables, of one run.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossterm::event::KeyCode;
use egress_core::id::{Nanos, NetnsCookie, SocketCookie, WallTime};
use egress_core::input::{Input, Opener, SocketEvent, Transport};
use egress_core::ledger::{Ledger, Options};
use egress_tests::screens::Dashboard;
use egress_tests::worlds;

/// Flows in the large table.
const FLOWS: u64 = 50_000;
/// Connections that arrive each second while keys are pressed.
const CONNECTS: u64 = 10_000;
/// Keys that are pressed.
const KEYS: usize = 600;
/// Time between two keys, and between two worlds.
const BETWEEN_KEYS: Duration = Duration::from_millis(5);
const BETWEEN_WORLDS: Duration = Duration::from_millis(250);

fn main() {
    println!("{:<26} {:>9} {:>9} {:>9} {:>9}", "key to frame, ms", "p50", "p99", "max", "connects");
    let mut medians = Vec::new();
    for flows in [0, FLOWS] {
        let stop = Arc::new(AtomicBool::new(false));
        let fed = Arc::new(AtomicU64::new(0));
        let feeder = thread::spawn({
            let (stop, fed) = (Arc::clone(&stop), Arc::clone(&fed));
            move || feed(&stop, &fed)
        });
        let mut took = press(flows);
        stop.store(true, Ordering::Relaxed);
        feeder.join().expect("the ledger runs");
        took.sort_unstable();
        let at = |share: usize| took[(took.len() - 1) * share / 100].as_secs_f64() * 1e3;
        let fed = fed.load(Ordering::Relaxed);
        println!("{:<26} {:>9.2} {:>9.2} {:>9.2} {fed:>9}", format!("{flows} flows"), at(50), at(99), at(100));
        medians.push((at(50), at(99)));
    }
    println!("ratio p50 {:.1}, p99 {:.1}", medians[1].0 / medians[0].0, medians[1].1 / medians[0].1);
}

/// Presses keys of every sort; the world changes as often as it is published.
fn press(flows: u64) -> Vec<Duration> {
    let mut dashboard = Dashboard::plain(worlds::many(flows), (120, 35));
    dashboard.draw();
    let keys = "jjjjGgkjnNbb/host:1".chars().map(KeyCode::Char).chain([KeyCode::Esc, KeyCode::Enter, KeyCode::Esc]);
    let mut published = Instant::now();
    let mut took = Vec::with_capacity(KEYS);
    for key in keys.cycle().take(KEYS) {
        if published.elapsed() >= BETWEEN_WORLDS {
            dashboard.publish(|world| world.now = WallTime(world.now.0 + 250_000_000));
            published = Instant::now();
        }
        dashboard.wait(BETWEEN_KEYS);
        let pressed = Instant::now();
        dashboard.key(key);
        black_box(dashboard.draw());
        took.push(pressed.elapsed());
        thread::sleep(BETWEEN_KEYS);
    }
    took
}

/// The engine's work: connections and ticks into a ledger, a world four times a second.
fn feed(stop: &AtomicBool, fed: &AtomicU64) {
    let mut ledger = Ledger::new(Options { node: "node-1".into(), ..Options::default() });
    let began = Instant::now();
    let (mut sent, mut published) = (0, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        let now = began.elapsed();
        let nanos = Nanos(now.as_nanos() as u64 + Nanos::SECOND);
        let due = now.as_millis() as u64 * CONNECTS / 1_000;
        for n in sent..due {
            let to = SocketAddr::from(([203, 0, 113, (n % 250) as u8], 1 + (n % 60_000) as u16));
            let from = SocketAddr::from(([10, 0, 0, 1], 1_024 + (n % 60_000) as u16));
            ledger.apply(Input::Socket(SocketEvent::Open {
                cookie: SocketCookie(n + 1),
                at: nanos,
                started: nanos,
                opener: Opener { tgid: 1 + n as u32 % 500, netns: NetnsCookie(1), ..Opener::default() },
                transport: Transport::Tcp,
                dialled: to,
                remote: to,
                local: from,
                wire: None,
                rtt_micros: None,
            }));
        }
        sent = due;
        ledger.apply(Input::Tick { now: nanos, wall: WallTime(nanos.0.cast_signed()) });
        if published.elapsed() >= BETWEEN_WORLDS {
            black_box(ledger.world());
            published = Instant::now();
        }
        thread::sleep(Duration::from_millis(20));
    }
    fed.store(sent, Ordering::Relaxed);
}
