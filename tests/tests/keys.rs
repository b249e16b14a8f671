//! What keys do: every action in every place, and that a selected row stays selected whatever happens around it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use egress_core::query::{SortBy, is_problem};
use egress_tests::screens::Dashboard;
use egress_tests::worlds;
use egress_tui::tui::key::{Action, BINDINGS, Key, Place};
use egress_tui::tui::tour::{Stop, Tour};
use egress_tui::tui::ui::Overlay;
use egress_tui::tui::update::{Effect, Msg, update};

fn dashboard() -> Dashboard {
    let mut dashboard = Dashboard::plain(worlds::dwh_world(), (120, 35));
    dashboard.draw();
    dashboard
}

fn at(place: Place) -> Dashboard {
    let mut dashboard = dashboard();
    match place {
        Place::List => {}
        Place::Explain => {
            dashboard.key(KeyCode::Enter);
        }
        Place::Yaml => {
            dashboard.key(KeyCode::Char('y'));
        }
        Place::Filter => {
            dashboard.key(KeyCode::Char('/'));
        }
        Place::Menu => {
            dashboard.key(KeyCode::Char('s'));
        }
        Place::Help => {
            dashboard.key(KeyCode::Char('?'));
        }
    }
    dashboard.draw();
    assert_eq!(dashboard.ui.place(), place);
    dashboard
}

fn event(key: Key) -> KeyEvent {
    match key {
        Key::Plain(code) => KeyEvent::new(code, KeyModifiers::NONE),
        Key::Ctrl(c) => KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL),
    }
}

#[test]
fn every_key_of_the_table_does_something_in_every_place_where_it_is_bound() {
    for binding in BINDINGS {
        for &place in binding.places {
            for &key in binding.keys {
                let mut dashboard = at(place);
                dashboard.event(event(key));
                let toast = dashboard.ui.toast.as_ref().map_or("", |t| t.text.as_str());
                assert!(!toast.starts_with("no action"), "{place:?} {key:?}: {toast}");
            }
        }
    }
}

#[test]
fn every_key_that_is_not_bound_says_so_and_changes_nothing() {
    let codes = (' '..='~').map(KeyCode::Char).chain([KeyCode::Tab, KeyCode::F(5), KeyCode::Delete, KeyCode::Left]);
    // In the filter every letter is text.
    for place in Place::ALL.into_iter().filter(|place| *place != Place::Filter) {
        let bound: BTreeSet<String> = BINDINGS
            .iter()
            .filter(|b| b.places.contains(&place))
            .flat_map(|b| b.keys)
            .map(|k| format!("{k:?}"))
            .collect();
        for code in codes.clone().filter(|code| !bound.contains(&format!("{:?}", Key::Plain(*code)))) {
            let mut dashboard = at(place);
            assert_eq!(dashboard.key(code), None);
            assert_eq!(dashboard.ui.place(), place);
            let toast = dashboard.ui.toast.clone().expect("it says so");
            assert!(toast.text.starts_with("no action on "), "{toast:?}");
            dashboard.wait(Duration::from_secs(2));
            assert_eq!(dashboard.ui.toast, None);
        }
    }
}

#[test]
fn a_combination_is_called_what_it_is() {
    let mut dashboard = dashboard();
    dashboard.event(KeyEvent::new(KeyCode::Char('q'), KeyModifiers::ALT));
    assert!(dashboard.ui.toast.as_ref().is_some_and(|t| t.text.starts_with("no action on Alt-q here")));
}

/// (place, key, place after it, effect)
#[test]
fn keys_lead_where_they_should() {
    use KeyCode::{Char, Enter, Esc};
    let table = [
        (Place::List, Enter, Place::Explain, None),
        (Place::List, Char('d'), Place::Explain, None),
        (Place::List, Char('y'), Place::Yaml, None),
        (Place::List, Char('s'), Place::Menu, None),
        (Place::List, Char('?'), Place::Help, None),
        (Place::List, Char('/'), Place::Filter, None),
        (Place::List, Char('c'), Place::Menu, None),
        (Place::List, Char('e'), Place::Menu, None),
        (Place::Filter, Enter, Place::List, None),
        (Place::Filter, Esc, Place::List, None),
        (Place::Filter, Char('q'), Place::Filter, None),
        (Place::Explain, Char('c'), Place::Menu, None),
        (Place::List, Esc, Place::List, None),
        (Place::List, Char('q'), Place::List, Some(Effect::Quit)),
        (Place::Explain, Esc, Place::List, None),
        (Place::Explain, Char('y'), Place::Yaml, None),
        (Place::Explain, Char('?'), Place::Help, None),
        (Place::Explain, Char('q'), Place::Explain, Some(Effect::Quit)),
        (Place::Yaml, Esc, Place::Explain, None),
        (Place::Yaml, Char('?'), Place::Help, None),
        (Place::Menu, Esc, Place::List, None),
        (Place::Menu, Enter, Place::List, None),
        (Place::Menu, Char('?'), Place::Help, None),
        (Place::Help, Esc, Place::List, None),
        (Place::Help, Char('?'), Place::List, None),
        (Place::Help, Char('q'), Place::Help, Some(Effect::Quit)),
    ];
    for (from, key, to, effect) in table {
        let mut dashboard = at(from);
        assert_eq!(dashboard.key(key), effect, "{from:?} {key:?}");
        assert_eq!(dashboard.ui.place(), to, "{from:?} {key:?}");
    }
    for (c, effect) in [('c', Effect::Quit), ('z', Effect::Suspend), ('l', Effect::Redraw)] {
        for place in Place::ALL {
            assert_eq!(at(place).ctrl(c), Some(effect.clone()), "{place:?}");
        }
    }
}

#[test]
fn help_lists_every_key_that_is_valid_below_it() {
    for place in [Place::List, Place::Explain, Place::Yaml] {
        let mut dashboard = at(place);
        dashboard.size = (120, 200);
        dashboard.key(KeyCode::Char('?'));
        let shown = dashboard.text();
        for binding in BINDINGS.iter().filter(|b| b.places.contains(&place)) {
            assert!(shown.contains(binding.help), "{place:?}: {} is missing", binding.help);
            assert!(shown.contains(&binding.names(false)), "{place:?}: {} is missing", binding.names(false));
        }
    }
}

#[test]
fn help_can_be_read_to_its_end_on_a_small_screen() {
    let mut dashboard = at(Place::Help);
    dashboard.size = (80, 24);
    let mut seen = dashboard.text();
    for _ in 0..20 {
        dashboard.key(KeyCode::PageDown);
        seen.push_str(&dashboard.text());
    }
    for word in ["MOVE", "PROGRAM", "GW-LEG", "BROKEN", "leads nowhere"] {
        assert!(seen.contains(word), "{word}");
    }
}

#[test]
fn typing_in_the_search_of_help_is_text() {
    let mut dashboard = at(Place::Help);
    dashboard.keys("/quit");
    assert_eq!(dashboard.ui.place(), Place::Help);
    assert!(dashboard.text().contains("search: quit_"));
    assert!(dashboard.text().contains("Ctrl-C"));
    assert!(!dashboard.text().contains("half a page"));
    dashboard.key(KeyCode::Esc);
    assert!(dashboard.text().contains("half a page"), "Esc ends the search, not help");
    assert_eq!(dashboard.ctrl('c'), Some(Effect::Quit), "Ctrl-C quits while typing, too");
}

#[test]
fn keys_that_are_let_go_do_nothing() {
    let mut dashboard = dashboard();
    let mut release = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE);
    release.kind = KeyEventKind::Release;
    assert_eq!(dashboard.event(release), None);
}

#[test]
fn pasted_text_is_not_typed() {
    let mut dashboard = dashboard();
    let world = Arc::clone(&dashboard.world);
    assert_eq!(update(&mut dashboard.ui, &world, &Msg::Paste("qqq\x03".to_owned())), None);
    assert!(dashboard.ui.toast.is_some());
}

#[test]
fn the_first_row_is_the_worst() {
    let mut dashboard = dashboard();
    assert_eq!(dashboard.selected().as_deref(), Some("cloud-platform/web emarsyscdi.database.windows.net"));
    let order: Vec<_> = (0..dashboard.ui.listing().len())
        .map(|row| is_problem(dashboard.ui.listing().flow(&dashboard.world, row).expect("row")))
        .collect();
    assert!(order.is_sorted_by(|a, b| a >= b), "problems stand before the rest: {order:?}");
}

/// Moves down to a row and returns what it is.
fn pick(dashboard: &mut Dashboard) -> String {
    dashboard.keys("jjjjj");
    dashboard.selected().expect("a row is selected")
}

#[test]
fn a_selected_row_stays_selected_through_every_order() {
    let mut dashboard = dashboard();
    let picked = pick(&mut dashboard);
    for row in 0..SortBy::ALL.len() {
        dashboard.key(KeyCode::Char('s'));
        dashboard.key(KeyCode::Char('g'));
        for _ in 0..row {
            dashboard.key(KeyCode::Down);
        }
        dashboard.key(KeyCode::Enter);
        assert_eq!(dashboard.selected().as_deref(), Some(&*picked), "{:?}", SortBy::ALL[row]);
        assert_eq!(dashboard.ui.query.sort.by, SortBy::ALL[row]);
        dashboard.key(KeyCode::Char('S'));
        assert_eq!(dashboard.selected().as_deref(), Some(&*picked), "{:?} reversed", SortBy::ALL[row]);
        assert!(dashboard.text().contains('▌'), "the selected row is on screen");
    }
}

#[test]
fn a_selected_row_stays_selected_when_the_world_moves_on() {
    let mut dashboard = dashboard();
    let picked = pick(&mut dashboard);
    for round in 0..10u64 {
        dashboard.publish(|world| {
            world.flows.reverse();
            for flow in &mut world.flows {
                let mut changed = (**flow).clone();
                changed.sent_per_second = (flow.id.0 * 7_919 * (round + 1)) % 1_000_000;
                *flow = Arc::new(changed);
            }
        });
        dashboard.wait(Duration::from_millis(700));
        assert_eq!(dashboard.selected().as_deref(), Some(&*picked));
    }
}

#[test]
fn a_selected_row_comes_back_when_the_filter_that_hid_it_goes() {
    let mut dashboard = dashboard();
    dashboard.keys("G");
    let picked = dashboard.selected().expect("a row");
    dashboard.keys("b");
    assert_ne!(dashboard.selected().as_ref(), Some(&picked));
    dashboard.keys("b");
    assert_eq!(dashboard.selected(), Some(picked));
}

#[test]
fn a_selected_flow_that_is_gone_stays_for_ten_seconds() {
    let mut dashboard = dashboard();
    let picked = pick(&mut dashboard);
    let id = dashboard.ui.held().expect("held");
    dashboard.publish(|world| world.flows.retain(|f| f.id != id));
    for _ in 0..9 {
        assert_eq!(dashboard.selected().as_deref(), Some(&*picked));
        dashboard.wait(Duration::from_secs(1));
        dashboard.publish(|_| {});
    }
    dashboard.wait(Duration::from_secs(2));
    assert_ne!(dashboard.selected().as_deref(), Some(&*picked));
    assert!(dashboard.selected().is_some(), "its neighbour is selected");
    assert_eq!(dashboard.ui.listing().len(), 13);
}

#[test]
fn the_untouched_list_follows_the_worst_row() {
    let mut dashboard = dashboard();
    dashboard.publish(|world| {
        let mut heavy = (*world.flows[5]).clone();
        heavy.sent_per_second = 900_000_000;
        world.flows[5] = Arc::new(heavy);
    });
    dashboard.wait(Duration::from_secs(1));
    assert_eq!(dashboard.selected().as_deref(), Some("cloud-platform/etl-excluded emarsyscdi.database.windows.net"));
}

#[test]
fn rows_change_places_at_most_once_a_second() {
    let mut dashboard = dashboard();
    let order = |d: &Dashboard| -> Vec<_> {
        (0..d.ui.listing().len()).map(|row| d.ui.listing().flow(&d.world, row).expect("row").id).collect()
    };
    let mut changes = 0;
    let mut last = order(&dashboard);
    for round in 1..=40u64 {
        dashboard.publish(|world| {
            for flow in &mut world.flows {
                let mut moved = (**flow).clone();
                moved.sent_per_second = (flow.id.0 * 7_919 * round) % 1_000_003;
                *flow = Arc::new(moved);
            }
        });
        dashboard.wait(Duration::from_millis(100));
        dashboard.draw();
        let now = order(&dashboard);
        changes += usize::from(now != last);
        last = now;
    }
    assert!((2..=4).contains(&changes), "{changes} changes in four seconds");
}

#[test]
fn numbers_are_fresh_while_rows_stand_still() {
    let mut dashboard = dashboard();
    dashboard.publish(|world| {
        let mut changed = (*world.flows[2]).clone();
        changed.connections = 777;
        world.flows[2] = Arc::new(changed);
    });
    dashboard.wait(Duration::from_millis(100));
    assert!(dashboard.text().contains("777"));
}

#[test]
fn pause_keeps_the_view_and_not_the_clock_of_the_capture() {
    let mut dashboard = dashboard();
    dashboard.keys("p");
    dashboard.publish(|world| world.flows.clear());
    dashboard.wait(Duration::from_secs(5));
    let shown = dashboard.text();
    assert!(shown.contains("PAUSED") && shown.contains("14:02:31") && shown.contains("cloud-platform/web"), "{shown}");
    dashboard.keys("p");
    let shown = dashboard.text();
    assert!(shown.contains("LIVE") && shown.contains("14:02:36") && !shown.contains("cloud-platform/web "), "{shown}");
}

#[test]
fn an_explained_flow_stays_explained_when_it_leaves_the_world() {
    let mut dashboard = at(Place::Explain);
    dashboard.publish(|world| world.flows.clear());
    assert!(dashboard.text().contains("SOURCE_LABELS"));
    dashboard.key(KeyCode::Esc);
    assert_eq!(dashboard.ui.place(), Place::List);
}

#[test]
fn the_next_problem_is_found_and_the_end_is_told() {
    let mut dashboard = dashboard();
    let expected = dashboard.world.flows.iter().filter(|f| is_problem(f)).count();
    let first = dashboard.selected();
    for _ in 1..expected {
        dashboard.keys("n");
        assert_eq!(dashboard.ui.toast, None);
    }
    dashboard.keys("n");
    assert_eq!(dashboard.selected(), first);
    assert_eq!(dashboard.ui.toast.as_ref().map(|t| t.text.as_str()), Some("went on at the top"));
    dashboard.keys("N");
    assert_eq!(dashboard.ui.toast.as_ref().map(|t| t.text.as_str()), Some("went on at the bottom"));
}

#[test]
fn objects_of_the_chain_are_visited_in_turn() {
    let mut dashboard = at(Place::Explain);
    let object = |d: &Dashboard| {
        let detail = d.ui.detail.as_ref().expect("open");
        detail.flow.judgement.chain[detail.item].object.as_ref().map(ToString::to_string)
    };
    let first = object(&dashboard).expect("the deciding step names an object");
    assert!(first.starts_with("VirtualService"), "{first}");
    dashboard.keys("o");
    assert!(object(&dashboard).is_some_and(|o| o.starts_with("ServiceEntry")));
    dashboard.keys("O");
    assert_eq!(object(&dashboard), Some(first));
}

#[test]
fn every_line_of_an_explanation_can_be_reached() {
    for size in [(120, 35), (80, 24), (40, 12)] {
        let mut dashboard = at(Place::Explain);
        dashboard.size = size;
        let mut seen = String::new();
        for _ in 0..60 {
            seen.push_str(&dashboard.text());
            dashboard.key(KeyCode::PageDown);
        }
        for word in ["hops seen", "sure of", "guessed", "not seen", "traffic", "13:48:31"] {
            assert!(seen.contains(word), "{size:?}: {word}");
        }
    }
}

/// Any keys in any order at any size, worlds coming and going: no panic, and nothing but q and Ctrl-C quits.
#[test]
fn ten_thousand_random_keys() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut codes: Vec<KeyEvent> = BINDINGS.iter().flat_map(|b| b.keys).map(|k| event(*k)).collect();
    codes.extend((' '..='~').map(|c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE)));
    codes.extend([KeyCode::Tab, KeyCode::Backspace, KeyCode::Null].map(|c| KeyEvent::new(c, KeyModifiers::NONE)));
    let mut dashboard = dashboard();
    let all = dashboard.world.flows.clone();
    for _ in 0..10_000 {
        let key = codes[random(codes.len())];
        let typing = matches!(dashboard.ui.overlay, Some(Overlay::Help { typing: true, .. }))
            || dashboard.ui.place() == Place::Filter;
        let effect = dashboard.event(key);
        let quits =
            Key::of(key).is_some_and(|k| BINDINGS.iter().any(|b| b.action == Action::Quit && b.keys.contains(&k)));
        if effect == Some(Effect::Quit) {
            assert!(quits, "{key:?}");
        } else {
            assert!(!quits || typing, "{key:?} did not quit");
        }
        match random(20) {
            0 => dashboard.publish(|world| world.flows = all.clone()),
            1 => dashboard.publish(|world| world.flows.truncate(world.flows.len() / 2)),
            2 => dashboard.publish(|world| world.flows.clear()),
            3 => dashboard.wait(Duration::from_millis(700)),
            4 => dashboard.size = (1 + random(200) as u16, 1 + random(60) as u16),
            _ => {}
        }
        if random(3) == 0 {
            dashboard.draw();
        }
    }
}

fn listed(dashboard: &mut Dashboard) -> usize {
    dashboard.draw();
    dashboard.ui.listing().len()
}

#[test]
fn a_filter_narrows_the_list_while_it_is_typed() {
    let mut dashboard = dashboard();
    let all = listed(&mut dashboard);
    dashboard.keys("/reason:SOURCE_LABELS");
    assert_eq!(listed(&mut dashboard), 1);
    assert!(dashboard.text().contains("1 of "), "{}", dashboard.text());
    dashboard.key(KeyCode::Enter);
    assert_eq!((dashboard.ui.place(), listed(&mut dashboard)), (Place::List, 1));
    assert!(dashboard.text().contains("[reason:SOURCE_LABELS]"), "{}", dashboard.text());
    dashboard.key(KeyCode::Esc);
    assert_eq!(listed(&mut dashboard), all, "Esc takes the filter away");
}

#[test]
fn a_mistake_is_shown_and_the_last_valid_filter_goes_on() {
    let mut dashboard = dashboard();
    dashboard.keys("/class:bypass");
    let found = listed(&mut dashboard);
    dashboard.keys(" verdcit:bypass");
    assert_eq!(listed(&mut dashboard), found);
    let text = dashboard.text();
    assert!(text.contains("^^^^^^^") && text.contains("did you mean verdict?"), "{text}");
    dashboard.key(KeyCode::Enter);
    assert_eq!(listed(&mut dashboard), found);
    assert!(dashboard.ui.toast.as_ref().is_some_and(|t| t.text.contains("last valid filter")));
    dashboard.keys("/");
    dashboard.ctrl('u');
    dashboard.keys("host:zzz");
    assert_eq!(listed(&mut dashboard), 0);
    dashboard.key(KeyCode::Esc);
    assert_eq!(listed(&mut dashboard), found, "Esc goes back to the filter that was there");
}

#[test]
fn tab_completes_and_shows_what_is_there() {
    let mut dashboard = dashboard();
    dashboard.keys("/ver");
    dashboard.key(KeyCode::Tab);
    dashboard.keys("by");
    dashboard.key(KeyCode::Tab);
    assert_eq!(dashboard.ui.prompt.as_ref().map(|p| p.text().to_owned()), Some("verdict:bypass".to_owned()));
    dashboard.keys(" class:un");
    dashboard.key(KeyCode::Tab);
    let text = dashboard.text();
    assert!(text.contains("unregistered") && text.contains("unknown"), "{text}");
}

#[test]
fn what_is_copied_is_what_stands_there() {
    let mut dashboard = dashboard();
    let row = dashboard.selected().expect("a row");
    dashboard.key(KeyCode::Char('c'));
    let Some(Effect::Copy(host)) = dashboard.key(KeyCode::Enter) else { panic!("the host is copied") };
    assert!(row.contains(&host[..8]), "{host}: {row}");
    dashboard.keys("cjjjj");
    let Some(Effect::Copy(chain)) = dashboard.key(KeyCode::Enter) else { panic!("the chain is copied") };
    assert!(chain.lines().count() > 4 && chain.contains("[Pod ") || chain.contains("[VirtualService "), "{chain}");
    dashboard.keys("cjjjjj");
    assert!(matches!(dashboard.key(KeyCode::Enter), Some(Effect::CopyJson(_))));
    assert_eq!(dashboard.ctrl('s'), Some(Effect::SaveScreen));
}

#[test]
fn an_export_holds_the_list_in_its_order() {
    let mut dashboard = dashboard();
    dashboard.keys("/class:bypass");
    dashboard.key(KeyCode::Enter);
    let rows = listed(&mut dashboard);
    dashboard.keys("e");
    let Some(Effect::Export(_, world)) = dashboard.key(KeyCode::Enter) else { panic!("the list is exported") };
    assert_eq!(world.flows.len(), rows);
    assert!(world.flows.iter().all(|f| f.class().as_str() == "bypass"));
}

const STOPS: &[Stop] = &[
    Stop { scene: 0, title: "first", text: "One.", points_at: "class:bypass", explained: false },
    Stop {
        scene: 0,
        title: "second",
        text: "Two.",
        points_at: "workload:cloud-platform/web port:1433",
        explained: true,
    },
    Stop { scene: 1, title: "third", text: "Three.", points_at: "workload:nobody", explained: true },
];

#[test]
fn a_tour_points_at_what_its_stop_is_about_and_undoes_what_the_last_one_opened() {
    let mut dashboard = Dashboard::plain(worlds::dwh_world(), (120, 35));
    dashboard.ui.tour = Tour::new(STOPS);
    let shown = dashboard.text();
    assert!(shown.contains("1/3  first") && shown.contains("One."), "{shown}");
    assert!(dashboard.ui.held().is_some(), "the worst row is pointed at");
    dashboard.keys("/").keys("class:ok");
    dashboard.key(KeyCode::Enter);
    assert_eq!(dashboard.key(KeyCode::Char(' ')), None, "the same scene goes on");
    let shown = dashboard.text();
    assert!(shown.contains("2/3  second") && shown.contains("Flows › cloud-platform/web"), "{shown}");
    assert!(dashboard.ui.query.filter.is_none());
    assert_eq!(dashboard.key(KeyCode::Char(' ')), Some(Effect::Scene(1)));
    let shown = dashboard.text();
    assert!(shown.contains("3/3  third") && !shown.contains("Flows ›"), "{shown}");
    assert_eq!(dashboard.key(KeyCode::Char(' ')), None);
    assert!(!dashboard.text().contains("third"), "it is over");
    assert_eq!(dashboard.key(KeyCode::Backspace), None, "the scene is still played");
    assert!(dashboard.text().contains("3/3  third"));
    assert_eq!(dashboard.key(KeyCode::Backspace), Some(Effect::Scene(0)));
}

#[test]
fn a_tour_leaves_the_row_that_the_user_chose() {
    let mut dashboard = Dashboard::plain(worlds::starting_world(), (120, 35));
    dashboard.ui.tour = Tour::new(STOPS);
    dashboard.draw();
    dashboard.key(KeyCode::Char('G'));
    let flows = worlds::dwh_world().flows;
    dashboard.publish(|world| world.flows = flows);
    dashboard.wait(Duration::from_secs(2));
    dashboard.draw();
    assert_eq!(dashboard.ui.held(), None);
}
