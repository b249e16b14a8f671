//! What the screens say, at the sizes and in the looks that people have.

#![expect(clippy::print_stdout, reason = "tests print what they measured")]

use std::time::Duration;

use crossterm::event::KeyCode;
use egress_core::world::World;
use egress_tests::screens::{Dashboard, styles, text};
use egress_tests::worlds;
use egress_tui::cmd::demo::STOPS;
use egress_tui::tui::look::Theme;
use egress_tui::tui::svg;
use egress_tui::tui::tour::Tour;

const SIZES: [(u16, u16); 4] = [(200, 50), (120, 35), (80, 24), (40, 12)];

/// A screen of a world, reached by typing keys; Enter is written `\n`, Esc `\x1b`, Tab `\t`.
fn screen(world: World, size: (u16, u16), theme: Theme, ascii: bool, keys: &str) -> Dashboard {
    let mut dashboard = Dashboard::new(world, size, theme, ascii);
    dashboard.draw();
    for c in keys.chars() {
        dashboard.key(match c {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            '\x1b' => KeyCode::Esc,
            c => KeyCode::Char(c),
        });
        dashboard.draw();
    }
    dashboard
}

/// Every size as text; the colours of the largest as a map of letters.
fn snapshot(name: &str, world: &World, keys: &str) {
    for size in SIZES {
        let (width, height) = size;
        let mut shown = screen(world.clone(), size, Theme::Mono, false, keys);
        insta::assert_snapshot!(format!("{name}-{width}x{height}"), shown.text());
    }
}

#[test]
fn flows() {
    snapshot("flows", &worlds::dwh_world(), "");
}

#[test]
fn a_stop_of_the_demos_tour() {
    for size in SIZES {
        let mut shown = Dashboard::plain(worlds::dwh_world(), size);
        shown.ui.tour = Tour::new(STOPS);
        insta::assert_snapshot!(format!("tour-{}x{}", size.0, size.1), shown.text());
    }
}

#[test]
fn flows_in_ascii() {
    for size in SIZES {
        let mut shown = screen(worlds::dwh_world(), size, Theme::Mono, true, "");
        insta::assert_snapshot!(format!("flows-ascii-{}x{}", size.0, size.1), shown.text());
    }
}

#[test]
fn colours_of_every_theme() {
    for theme in Theme::ALL {
        for size in SIZES {
            let mut shown = screen(worlds::dwh_world(), size, theme, false, "jj");
            let name = format!("styles-{}-{}x{}", theme.as_str(), size.0, size.1);
            insta::assert_snapshot!(name, styles(&shown.draw()));
        }
    }
}

#[test]
fn explain_the_pod_without_the_label() {
    snapshot("explain-bypass", &worlds::dwh_world(), "\n");
}

#[test]
fn explain_the_way_through_the_gateway() {
    snapshot("explain-gateway", &worlds::dwh_world(), "jjjjjjjjjjj\n");
}

#[test]
fn explain_what_nearly_applied() {
    snapshot("explain-nearly", &worlds::dwh_world(), "jjjjjjj\nG");
}

#[test]
fn explain_what_could_not_be_judged() {
    snapshot("explain-unknown", &worlds::dwh_world(), "jjjjjjjjj\n");
}

#[test]
fn the_object_at_the_deciding_line() {
    snapshot("yaml", &worlds::dwh_world(), "y");
}

#[test]
fn help() {
    snapshot("help", &worlds::dwh_world(), "?");
}

#[test]
fn help_is_searched() {
    snapshot("help-search", &worlds::dwh_world(), "?/waypoint\n");
}

#[test]
fn help_of_the_explain_pane() {
    snapshot("help-explain", &worlds::dwh_world(), "\n?");
}

#[test]
fn sort_menu() {
    snapshot("sort-menu", &worlds::dwh_world(), "sjj");
}

#[test]
fn a_filter_is_typed() {
    snapshot("filter", &worlds::dwh_world(), "/class:bypass workload:etl");
}

#[test]
fn a_filter_with_a_mistake() {
    snapshot("filter-mistake", &worlds::dwh_world(), "/class:bypass verdcit:bypass");
}

#[test]
fn a_filter_is_completed() {
    snapshot("filter-complete", &worlds::dwh_world(), "/class:un\t");
}

#[test]
fn a_filter_in_force() {
    snapshot("filter-kept", &worlds::dwh_world(), "/class:bypass -workload:etl\n");
}

#[test]
fn copy_menu() {
    snapshot("copy-menu", &worlds::dwh_world(), "cj");
}

#[test]
fn export_menu() {
    snapshot("export-menu", &worlds::dwh_world(), "e");
}

#[test]
fn problems_only() {
    snapshot("problems", &worlds::dwh_world(), "b");
}

#[test]
fn paused() {
    snapshot("paused", &worlds::dwh_world(), "p");
}

#[test]
fn starting() {
    snapshot("starting", &worlds::starting_world(), "");
}

#[test]
fn blind() {
    snapshot("blind", &worlds::blind_world(), "");
}

#[test]
fn without_objects() {
    snapshot("meshless", &worlds::meshless_world(), "");
}

#[test]
fn stale_and_lossy() {
    snapshot("stale", &worlds::stale_world(), "");
}

#[test]
fn nothing_yet() {
    snapshot("empty", &worlds::world(Vec::new()), "");
}

#[test]
fn no_problem_says_what_that_is_worth() {
    let mut world = worlds::dwh_world();
    world.flows.retain(|f| !egress_core::query::is_problem(f));
    snapshot("no-problem", &world, "b");
}

#[test]
fn monochrome_never_asks_for_a_colour() {
    use ratatui::style::Color;
    for keys in ["", "jj", "\n", "?", "s", "b", "\ny"] {
        for world in [worlds::dwh_world(), worlds::stale_world(), worlds::blind_world()] {
            let buffer = screen(world, (120, 35), Theme::Mono, false, keys).draw();
            for cell in buffer.content() {
                assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset), "{keys:?}: {cell:?}");
            }
        }
    }
}

#[test]
fn ascii_screens_hold_ascii_only() {
    for keys in ["", "jj", "\n", "?", "s", "b", "\ny", "p"] {
        for world in [worlds::dwh_world(), worlds::stale_world(), worlds::blind_world(), worlds::hostile_world()] {
            for size in SIZES {
                let shown = screen(world.clone(), size, Theme::Mono, true, keys).text();
                assert!(shown.is_ascii(), "{keys:?} {size:?}:\n{shown}");
            }
        }
    }
}

#[test]
fn hostile_text_reaches_no_cell() {
    for keys in ["", "\n", "\nG", "\ny", "?", "p"] {
        for size in [(200, 60), (120, 35), (80, 24), (40, 12), (40, 8)] {
            let buffer = screen(worlds::hostile_world(), size, Theme::Auto, false, keys).draw();
            for cell in buffer.content() {
                let bad = cell.symbol().chars().any(|c| {
                    c.is_control()
                        || matches!(c, '\u{80}'..='\u{9f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{300}'..='\u{36f}')
                });
                assert!(!bad, "{keys:?} {size:?}: {:?}", cell.symbol());
            }
        }
    }
}

#[test]
fn the_deciding_object_is_named_at_every_size_that_has_two_lines_for_it() {
    for size in [(120, 35), (80, 24), (80, 18)] {
        let shown = Dashboard::plain(worlds::dwh_world(), size).text();
        assert!(shown.contains("VirtualServic"), "{size:?}\n{shown}");
        assert!(shown.contains("sourceLabels"), "{size:?}\n{shown}");
    }
}

#[test]
fn coverage_and_loss_stand_in_every_header() {
    for keys in ["", "\n", "s", "\ny"] {
        for size in SIZES {
            let shown = screen(worlds::stale_world(), size, Theme::Mono, false, keys).text();
            let header = shown.lines().next().expect("a header");
            assert!(header.contains("nodes 1/14") && header.contains("lost 1.2K"), "{keys:?} {size:?}: {header}");
        }
    }
}

#[test]
fn a_screen_that_is_too_small_says_how_big_it_has_to_be() {
    assert!(Dashboard::plain(worlds::dwh_world(), (39, 8)).text().contains("need 40x8"));
    assert!(Dashboard::plain(worlds::dwh_world(), (40, 7)).text().contains("need 40x8"));
    assert!(!Dashboard::plain(worlds::dwh_world(), (40, 8)).text().contains("need"));
}

/// 1×1 to 200×60, every place, with 0, 1, some and 10 000 flows. Nothing is drawn outside of the area.
#[test]
fn every_size_can_be_drawn() {
    use egress_tui::tui::view;
    use ratatui::buffer::{Buffer, Cell};
    use ratatui::layout::Rect;

    let mut one = worlds::dwh_world();
    one.flows.truncate(1);
    let worlds = [worlds::blind_world(), one, worlds::stale_world(), worlds::many(10_000), worlds::hostile_world()];
    let widths = || (1..=200u16).filter(|w| *w < 12 || w % 23 == 0 || (38..=45).contains(w) || (108..=120).contains(w));
    let heights = || (1..=60u16).filter(|h| *h < 15 || h % 11 == 0 || (17..=29).contains(h));
    for (n, world) in worlds.into_iter().enumerate() {
        for keys in ["", "\n", "\ny", "?", "s"] {
            let mut dashboard = screen(world.clone(), (80, 24), Theme::Dark, false, keys);
            // The large and the hostile world are as good at fewer sizes.
            let step = if n < 3 { 1 } else { 6 };
            for width in widths().step_by(step) {
                for height in heights().step_by(step) {
                    let whole = Rect::new(0, 0, width + 4, height + 4);
                    let area = Rect::new(3, 2, width, height);
                    let mut buffer = Buffer::filled(whole, Cell::new("@"));
                    let world = std::sync::Arc::clone(&dashboard.world);
                    view::frame(&mut dashboard.ui, &world, &dashboard.look, area, &mut buffer);
                    for y in 0..whole.height {
                        for x in 0..whole.width {
                            let outside = !area.contains((x, y).into());
                            assert!(!outside || buffer[(x, y)].symbol() == "@", "{x},{y} at {width}x{height} {keys:?}");
                        }
                    }
                }
            }
        }
    }
}

/// A key press with 50 000 flows: what it costs the processor, new worlds arriving in between.
#[test]
fn a_key_press_is_cheap_with_fifty_thousand_flows() {
    use rustix::time::{ClockId, clock_gettime};
    let used = || {
        let t = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(t.tv_sec.unsigned_abs(), u32::try_from(t.tv_nsec).unwrap_or(0))
    };
    let measure = |count: u64| {
        let mut dashboard = Dashboard::new(worlds::many(count), (200, 60), Theme::Dark, false);
        dashboard.draw();
        let mut times: Vec<Duration> = (0..300)
            .map(|press| {
                if press % 5 == 0 {
                    dashboard.publish(|world| world.now.0 += 250_000_000);
                    dashboard.wait(Duration::from_millis(250));
                }
                let before = used();
                match press % 4 {
                    0 => dashboard.key(KeyCode::Down),
                    1 => dashboard.key(KeyCode::PageDown),
                    2 => dashboard.key(KeyCode::Char('n')),
                    _ => dashboard.key(KeyCode::Char('S')),
                };
                dashboard.draw();
                used().saturating_sub(before)
            })
            .collect();
        times.sort();
        times[times.len() * 99 / 100]
    };
    let (empty, full) = (measure(0), measure(50_000));
    println!("p99 of key press to frame: {full:?} with 50 000 flows, {empty:?} with none");
    assert!(full < Duration::from_millis(50), "{full:?}");
}

/// The picture of the README. `UPDATE_SCREENS=1 cargo test -p egress-tests --test screens picture` writes it anew.
#[test]
fn the_picture_of_the_readme_is_what_the_program_draws() {
    let mut dashboard = Dashboard::new(worlds::dwh_world(), (120, 32), Theme::Dark, false);
    let buffer = dashboard.draw();
    let shown = text(&buffer);
    assert!(shown.contains("▌ !! BYPASS") && shown.contains("why  the rule to the gateway wants label"), "{shown}");
    let title = "egress-tui: the flows of a gateway node, worst first, and why the selected one bypasses the gateway";
    let drawn = svg::render(&buffer, title);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/screens/flows.svg");
    if std::env::var_os("UPDATE_SCREENS").is_some() {
        std::fs::write(path, &drawn).expect("the picture can be written");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == drawn, "tests/screens/flows.svg is old: run the test with UPDATE_SCREENS=1");
}

/// The table of keys in the README. `UPDATE_SCREENS=1` writes it anew.
#[test]
fn the_readme_lists_the_keys() {
    const MARKS: (&str, &str) = ("<!-- keys -->\n", "<!-- /keys -->");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = std::fs::read_to_string(path).expect("README.md");
    let (before, rest) = readme.split_once(MARKS.0).expect("README.md has a place for the keys");
    let (table, after) = rest.split_once(MARKS.1).expect("and an end of it");
    let wanted = egress_tui::tui::key::markdown();
    if std::env::var_os("UPDATE_SCREENS").is_some() {
        std::fs::write(path, format!("{before}{}{wanted}{}{after}", MARKS.0, MARKS.1)).expect("README.md is writable");
    } else {
        assert_eq!(table, wanted, "run the test with UPDATE_SCREENS=1");
    }
}
