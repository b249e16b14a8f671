//! The dashboard in a real pseudo-terminal: whatever ends it, the terminal is the shell's again.

#![expect(clippy::print_stdout, reason = "tests print what they measured")]

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use egress_tests::program;
use egress_tests::terminal::Terminal;
use egress_tui::cmd::demo::STOPS;
use rustix::process::Signal;

const RIG: &str = env!("CARGO_BIN_EXE_screen_rig");

fn dashboard(feed: &str) -> Result<Terminal> {
    dashboard_with(feed, &[])
}

fn dashboard_with(feed: &str, variables: &[(&str, &str)]) -> Result<Terminal> {
    let mut terminal = Terminal::start(&["sh", "-c", &format!("echo before; exec {RIG} {feed}")], variables)?;
    terminal.shows("VERDICT")?;
    Ok(terminal)
}

/// The program ended with this code, and what was on the screen before it is there again.
fn ended(terminal: &mut Terminal, code: u32) -> Result<()> {
    assert_eq!(terminal.wait()?, code, "{}", terminal.screen().contents());
    terminal.is_given_back()?;
    assert!(terminal.screen().contents().contains("before"), "{}", terminal.screen().contents());
    Ok(())
}

#[test]
fn the_screen_is_taken_while_it_runs() -> Result<()> {
    let terminal = dashboard("still")?;
    assert!(terminal.screen().alternate_screen());
    assert!(terminal.screen().hide_cursor());
    assert!(terminal.screen().bracketed_paste());
    assert_ne!(terminal.modes()?, terminal.modes_before());
    Ok(())
}

#[test]
fn q_quits() -> Result<()> {
    let mut terminal = dashboard("still")?;
    terminal.send("q")?;
    ended(&mut terminal, 0)
}

#[test]
fn ctrl_c_quits_from_any_screen() -> Result<()> {
    for keys in ["\x03", "\r\x03", "?\x03", "?/abc\x03", "s\x03", "\ry\x03"] {
        let mut terminal = dashboard("still")?;
        terminal.send(keys)?;
        ended(&mut terminal, 0)?;
    }
    Ok(())
}

#[test]
fn a_signal_gives_the_terminal_back() -> Result<()> {
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130)] {
        for feed in ["still", "busy"] {
            let mut terminal = dashboard(feed)?;
            terminal.signal(signal)?;
            ended(&mut terminal, code)?;
        }
    }
    Ok(())
}

/// Every stop finds the row that it points at.
#[test]
fn the_demo_is_a_tour() -> Result<()> {
    let start = format!("echo before; exec {} demo --speed 20", program::path().display());
    let mut terminal = Terminal::start(&["sh", "-c", &start], &[])?;
    for (nth, stop) in STOPS.iter().enumerate() {
        terminal.shows(&format!("{}/{}  {}", nth + 1, STOPS.len(), stop.title))?;
        if stop.explained {
            terminal.shows("Flows ›")?;
        }
        terminal.send(" ")?;
    }
    terminal.shows("the tour is over")?;
    terminal.send("q")?;
    ended(&mut terminal, 0)
}

fn position(terminal: &Terminal, bytes: &str) -> Option<usize> {
    terminal.written.windows(bytes.len()).position(|w| w == bytes.as_bytes())
}

#[test]
fn a_panic_gives_the_terminal_back_before_it_speaks() -> Result<()> {
    for (feed, message) in [("panic-thread", "the thread of the test"), ("panic-loop", "the loop of the test")] {
        let mut terminal = dashboard(feed)?;
        ended(&mut terminal, 101)?;
        assert!(terminal.screen().contents().contains(message), "{}", terminal.screen().contents());
        let (left, said) = (position(&terminal, "\x1b[?1049l"), position(&terminal, message));
        assert!(left < said, "left at {left:?}, said at {said:?}");
        let after = said.map(|at| String::from_utf8_lossy(&terminal.written[at..]).into_owned()).unwrap_or_default();
        assert!(!after.contains("\x1b[?"), "nothing is drawn any more: {after:?}");
    }
    Ok(())
}

#[test]
fn an_error_is_printed_after_leaving() -> Result<()> {
    let mut terminal = dashboard("end")?;
    ended(&mut terminal, 3)?;
    assert!(terminal.screen().contents().contains("error: the source ended"));
    assert!(position(&terminal, "\x1b[?1049l") < position(&terminal, "error: the source ended"));
    Ok(())
}

fn stopped(terminal: &mut Terminal) -> Result<()> {
    terminal.until("the screen should be left", |t| !t.screen().alternate_screen())?;
    terminal.is_stopped()?;
    terminal.is_given_back()
}

#[test]
fn it_stops_and_goes_on() -> Result<()> {
    for how in ["Ctrl-Z", "SIGTSTP"] {
        let mut terminal = dashboard("still")?;
        for round in 0..3 {
            if how == "Ctrl-Z" {
                terminal.send("\x1a")?;
            } else {
                terminal.signal(Signal::TSTP)?;
            }
            stopped(&mut terminal)?;
            terminal.signal(Signal::CONT)?;
            terminal.until("the screen should be taken again", |t| t.screen().alternate_screen())?;
            terminal.shows("VERDICT")?;
            assert!(terminal.screen().hide_cursor(), "{how} {round}");
        }
        terminal.send("q")?;
        ended(&mut terminal, 0)?;
    }
    Ok(())
}

#[test]
fn a_stop_that_nobody_announced_is_mended_when_it_goes_on() -> Result<()> {
    let mut terminal = dashboard("still")?;
    terminal.signal(Signal::STOP)?;
    terminal.is_stopped()?;
    let before = terminal.written.len();
    terminal.signal(Signal::CONT)?;
    terminal.until("everything should be drawn again", |t| {
        String::from_utf8_lossy(&t.written[before..]).contains("VERDICT")
    })?;
    terminal.send("q")?;
    ended(&mut terminal, 0)
}

#[test]
fn a_terminal_that_goes_away_ends_it() -> Result<()> {
    use portable_pty::{CommandBuilder, PtySize, native_pty_system};
    use std::io::Read as _;
    for feed in ["still", "busy"] {
        let pair = native_pty_system().openpty(PtySize { rows: 24, cols: 80, pixel_width: 0, pixel_height: 0 })?;
        let mut command = CommandBuilder::new(RIG);
        command.arg(feed);
        command.env("TERM", "xterm");
        let mut child = pair.slave.spawn_command(command)?;
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader()?;
        let (mut seen, mut bytes) = (Vec::new(), [0; 4096]);
        while !String::from_utf8_lossy(&seen).contains("VERDICT") {
            let count = reader.read(&mut bytes)?;
            seen.extend_from_slice(&bytes[..count]);
        }
        // Every handle on our side: the program's terminal is gone.
        drop((reader, pair.master));
        assert_eq!(child.wait()?.exit_code(), 129, "{feed}");
    }
    Ok(())
}

#[test]
fn the_second_signal_ends_it_even_if_the_terminal_takes_no_bytes() -> Result<()> {
    use portable_pty::{CommandBuilder, PtySize, native_pty_system};
    let size = PtySize { rows: 60, cols: 200, pixel_width: 0, pixel_height: 0 };
    let pair = native_pty_system().openpty(size)?;
    let mut command = CommandBuilder::new(RIG);
    command.arg("busy");
    command.env("TERM", "xterm");
    let mut child = pair.slave.spawn_command(command)?;
    drop(pair.slave);
    let pid = rustix::process::Pid::from_raw(child.process_id().unwrap_or_default().cast_signed()).expect("a pid");
    // Nobody reads: the first frame is larger than what a terminal keeps, so its write never ends.
    let writes = |pid: rustix::process::Pid| {
        std::fs::read_to_string(format!("/proc/{}/wchan", pid.as_raw_nonzero()))
            .unwrap_or_default()
            .contains("n_tty_write")
            || std::fs::read_to_string(format!("/proc/{}/syscall", pid.as_raw_nonzero()))
                .unwrap_or_default()
                .starts_with("1 ")
    };
    while !writes(pid) {
        std::thread::yield_now();
        assert!(child.try_wait()?.is_none(), "it runs");
    }
    rustix::process::kill_process(pid, Signal::TERM)?;
    while child.try_wait()?.is_none() {
        rustix::process::kill_process(pid, Signal::TERM)?;
        std::thread::yield_now();
    }
    assert_eq!(child.wait()?.exit_code(), 143);
    Ok(())
}

#[test]
fn an_idle_minute_is_nearly_silent() -> Result<()> {
    let mut terminal = dashboard("quiet")?;
    terminal.listen(Duration::from_secs(2));
    let ticks = terminal.ticks()?;
    let bytes = terminal.listen(Duration::from_secs(6));
    let used = terminal.ticks()? - ticks;
    println!("idle: {} bytes a minute, {used} of 600 ticks", bytes * 10);
    assert!(bytes > 0, "the clock goes on");
    assert!(bytes * 10 < 5 * 1024, "{bytes} bytes in six seconds");
    assert!(used <= 6, "{used} ticks in six seconds are more than 1 %");
    Ok(())
}

fn frames(terminal: &Terminal, from: usize) -> usize {
    // Every frame ends with the reset of all styles.
    const END: &[u8] = b"\x1b[0m";
    terminal.written[from..].windows(END.len()).filter(|w| *w == END).count()
}

#[test]
fn data_is_drawn_four_times_a_second_and_less_when_nobody_looks() -> Result<()> {
    let mut terminal = dashboard("busy")?;
    terminal.listen(Duration::from_secs(1));
    let from = terminal.written.len();
    terminal.listen(Duration::from_secs(3));
    let focused = frames(&terminal, from);
    terminal.send("\x1b[O")?;
    terminal.listen(Duration::from_secs(1));
    let from = terminal.written.len();
    terminal.listen(Duration::from_secs(3));
    let unfocused = frames(&terminal, from);
    assert!((6..=13).contains(&focused), "{focused} frames in three seconds");
    assert!((1..=4).contains(&unfocused), "{unfocused} frames in three seconds without focus");
    terminal.send("\x1b[I")?;
    terminal.send("?")?;
    terminal.shows("help")?;
    Ok(())
}

#[test]
fn keys_in_a_burst_are_all_taken() -> Result<()> {
    let mut terminal = dashboard("5000")?;
    terminal.send(&"j".repeat(2_000))?;
    terminal.send("\r")?;
    terminal.shows("Flows ›")?;
    terminal.send("\x1b")?;
    terminal.shows("VERDICT")?;
    terminal.send("q")?;
    ended(&mut terminal, 0)
}

#[test]
fn a_storm_of_sizes_ends_in_the_right_one() -> Result<()> {
    let mut terminal = dashboard("busy")?;
    for n in 0..300u16 {
        terminal.resize(1 + n * 37 % 200, 1 + n * 11 % 60)?;
    }
    terminal.resize(1, 1)?;
    terminal.resize(100, 30)?;
    terminal.shows("b problems only")?;
    terminal.until("the clock should reach the edge", |t| {
        t.screen().rows(0, 100).next().is_some_and(|row| row.trim_end().len() > 95)
    })?;
    terminal.send("q")?;
    assert_eq!(terminal.wait()?, 0);
    terminal.is_given_back()
}

#[test]
fn a_terminal_that_does_not_know_its_size_gets_the_usual_one() -> Result<()> {
    let mut terminal = Terminal::start(&["sh", "-c", &format!("stty rows 0 cols 0; exec {RIG} still")], &[])?;
    terminal.shows("VERDICT")?;
    Ok(())
}

#[test]
fn what_is_pasted_is_not_typed() -> Result<()> {
    let mut terminal = dashboard("still")?;
    terminal.send("\x1b[200~qqq\x03\x1b[201~")?;
    terminal.shows("nothing takes pasted text here")?;
    terminal.send("q")?;
    ended(&mut terminal, 0)
}

/// Every colour command there is: `ESC[3…m`, `ESC[4…m`, `ESC[9…m` and the empty one, which resets all.
fn colours(terminal: &Terminal) -> Vec<String> {
    let text = String::from_utf8_lossy(&terminal.written).into_owned();
    text.split("\x1b[")
        .filter_map(|part| part.split_once('m').map(|(sequence, _)| sequence))
        .filter(|s| s.chars().all(|c| c.is_ascii_digit() || c == ';'))
        .filter(|s| {
            s.starts_with(';') || s.split(';').any(|n| n.len() == 2 && matches!(n.as_bytes()[0], b'3' | b'4' | b'9'))
        })
        .filter(|s| !matches!(*s, "39" | "49" | "39;49"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn no_color_keeps_the_selected_row_visible() -> Result<()> {
    let mut terminal = dashboard_with("still", &[("NO_COLOR", "1")])?;
    terminal.send("j")?;
    terminal.listen(Duration::from_millis(300));
    assert_eq!(colours(&terminal), Vec::<String>::new());
    let screen = terminal.screen();
    let reversed = (0..24).filter(|row| screen.cell(*row, 20).is_some_and(vt100::Cell::inverse)).count();
    assert_eq!(reversed, 1, "one row is selected");
    terminal.send("q")?;
    ended(&mut terminal, 0)
}

#[test]
fn an_empty_no_color_counts_as_unset() -> Result<()> {
    let terminal = dashboard_with("still", &[("NO_COLOR", "")])?;
    assert!(!colours(&terminal).is_empty());
    Ok(())
}

#[test]
fn a_locale_without_utf8_gets_ascii() -> Result<()> {
    for variables in [&[("LC_ALL", "C")][..], &[("TERM", "dumb")], &[("TERM", "linux")]] {
        let terminal = dashboard_with("still", variables)?;
        assert!(terminal.written.is_ascii(), "{variables:?}");
    }
    Ok(())
}

#[test]
fn hostile_names_steer_nothing() -> Result<()> {
    let mut terminal = dashboard("hostile")?;
    for keys in ["\r", "G", "y", "\x1b", "\x1b", "?"] {
        terminal.send(keys)?;
        terminal.listen(Duration::from_millis(100));
    }
    let text = String::from_utf8(terminal.written.clone())?;
    assert!(!text.contains('\x07') && !text.contains("\x1b]"), "no window title");
    assert!(
        text.chars().all(|c| !matches!(c, '\u{80}'..='\u{9f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'))
    );
    // What the program itself sends: positions, styles, modes; nothing else.
    for part in text.split('\x1b').skip(1) {
        let ends = part.strip_prefix('[').and_then(|s| s.find(|c: char| c.is_ascii_alphabetic()).map(|at| &s[at..=at]));
        assert!(ends.is_some_and(|e| "HmhlJ".contains(e)), "{:?}", part.chars().take(20).collect::<String>());
    }
    terminal.send("q")?;
    ended(&mut terminal, 0)
}

#[test]
fn keys_come_from_the_terminal_when_stdin_is_something_else() -> Result<()> {
    for line in [format!("yes | {RIG}"), format!("{RIG} < /dev/null")] {
        let mut terminal = Terminal::start(&["sh", "-c", &format!("echo before; {line}; echo code $?")], &[])?;
        terminal.shows("VERDICT")?;
        terminal.send("?")?;
        terminal.shows("help")?;
        terminal.send("q")?;
        terminal.shows("code 0")?;
        ended(&mut terminal, 0)?;
    }
    Ok(())
}

#[test]
fn without_a_keyboard_it_refuses() -> Result<()> {
    // A session of its own has no controlling terminal, so there is no /dev/tty either.
    let line = format!("setsid -w {RIG} < /dev/null; echo code $?");
    let mut terminal = Terminal::start(&["sh", "-c", &line], &[])?;
    terminal.shows("code 2")?;
    assert!(terminal.screen().contents().contains("no terminal to read keys from"));
    assert_eq!(terminal.wait()?, 0);
    Ok(())
}

#[test]
fn without_a_screen_it_refuses() -> Result<()> {
    let out = Command::new(RIG).stdin(Stdio::null()).output()?;
    assert_eq!(out.status.code(), Some(2));
    assert_eq!(out.stdout, b"", "not one byte of a screen");
    assert!(String::from_utf8(out.stderr)?.contains("stdout is not a terminal"));
    Ok(())
}
