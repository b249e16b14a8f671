//! One flow, explained: the steps that led to the verdict, what the configuration expects, what nearly applied, which
//! sockets were seen and what joined them, and how sure each of it is.

use std::fmt::Write as _;

use arcstr::ArcStr;
use egress_core::id::{Nanos, ObjectRef};
use egress_core::mesh::{Certainty, Expected, Outcome};
use egress_core::name::NameSource;
use egress_core::verdict::{Class, Mark, Says};
use egress_core::world::{Attribution, Flow, Joint, World};
use ratatui::style::Style;

use crate::tui::figure;
use crate::tui::look::Look;
use crate::tui::pen::{self, Pen};
use crate::tui::ui::{Detail, Ui};

use super::object;

/// From this width on the object stands beside the ladder.
const SIDE_BY_SIDE: u16 = 110;
/// Cells of the left column of the ladder's lower half.
const LABEL: usize = 11;

/// Below this width nothing stands beside a step's claim.
const NARROW: usize = 60;
/// Lines of one text: nothing that is true is longer, and hostile text must end somewhere.
const LONGEST: usize = 40;

/// How the steps of the chain are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Steps {
    /// With object, field and sentence.
    Full,
    /// One line each.
    OneLine,
}

/// Something that can be selected: a step of the chain, or a rule that nearly applied.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// What was asked.
    pub claim: &'a str,
    /// How it came out.
    pub mark: Mark,
    /// The object that decided it.
    pub object: Option<&'a ObjectRef>,
    /// The field of that object.
    pub field: Option<&'a ArcStr>,
    /// A sentence.
    pub says: &'a Says,
}

fn captured(flow: &Flow) -> Option<&Expected> {
    flow.expected.as_deref().map(|e| e.then.as_deref().unwrap_or(e))
}

/// Everything that can be selected, in the order of the screen.
pub fn items(flow: &Flow) -> Vec<Item<'_>> {
    let chain = &flow.judgement.chain;
    let steps = chain.iter().map(|s| Item {
        claim: s.claim,
        mark: s.mark,
        object: s.object.as_ref(),
        field: s.field.as_ref(),
        says: &s.says,
    });
    // What decided is not also listed as what nearly applied.
    let new = |object: &ObjectRef, field: &ArcStr| {
        !chain.iter().any(|s| s.object.as_ref() == Some(object) && s.field.as_ref() == Some(field))
    };
    let misses = captured(flow).into_iter().flat_map(|e| &e.misses).filter(|m| new(&m.object, &m.field)).map(|m| {
        Item { claim: m.reason.code(), mark: Mark::Miss, object: Some(&m.object), field: Some(&m.field), says: &m.says }
    });
    steps.chain(misses).collect()
}

/// The step to start with: the one that decides, else the first that does not hold.
pub fn deciding(flow: &Flow) -> usize {
    let chain = &flow.judgement.chain;
    chain
        .iter()
        .position(|s| s.mark == Mark::Decides)
        .or_else(|| chain.iter().position(|s| s.mark != Mark::Ok))
        .unwrap_or(0)
}

/// One line of the ladder.
struct Line {
    pieces: Vec<(String, Style)>,
    /// The item that it belongs to.
    item: Option<usize>,
}

struct Ladder<'a> {
    lines: Vec<Line>,
    width: usize,
    look: &'a Look,
}

impl Ladder<'_> {
    fn push(&mut self, pieces: Vec<(String, Style)>, item: Option<usize>) {
        self.lines.push(Line { pieces, item });
    }

    fn blank(&mut self) {
        if self.lines.last().is_some_and(|l| !l.pieces.is_empty()) {
            self.push(Vec::new(), None);
        }
    }

    /// `label  text`, wrapped under itself.
    fn entry(&mut self, label: &str, text: &str, item: Option<usize>) {
        let palette = &self.look.palette;
        let room = self.width.saturating_sub(LABEL + 1);
        for (i, part) in pen::wrap(text, room, LONGEST, self.look).into_iter().enumerate() {
            let label = format!(" {:LABEL$}", if i == 0 { label } else { "" });
            self.push(vec![(label, palette.header), (part, palette.text)], item);
        }
    }
}

fn mark(mark: Mark, class: Class, look: &Look) -> (&'static str, Style) {
    let palette = &look.palette;
    match mark {
        Mark::Ok => ("ok", palette.ok),
        Mark::No => ("no", palette.warn),
        Mark::Miss => ("~ ", palette.note),
        Mark::Decides => (class.mark(), look.mark(class)),
        Mark::Unknown => ("..", palette.unknown),
    }
}

fn ladder<'a>(detail: &Detail, world: &World, ui: &Ui, look: &'a Look, width: usize, steps_as: Steps) -> Ladder<'a> {
    let flow = &*detail.flow;
    let mut out = Ladder { lines: Vec::new(), width, look };
    let items = items(flow);
    let steps = flow.judgement.chain.len();
    for (i, item) in items.iter().take(steps).enumerate() {
        step(&mut out, flow, i, item, i + 1 == steps, steps_as);
    }
    out.blank();
    verdict(&mut out, flow);
    out.blank();
    history(&mut out, flow, world, ui);
    out.blank();
    expected(&mut out, flow);
    for (i, item) in items.iter().enumerate().skip(steps) {
        let object = item.object.map(ToString::to_string).unwrap_or_default();
        let field = item.field.map(ArcStr::as_str).unwrap_or_default();
        let text = format!("{object} {field}: {} ({})", item.says, item.claim);
        out.entry(if i == steps { "nearly" } else { "" }, &text, Some(i));
    }
    out.blank();
    let changes = detail.what_if.as_ref().map_or(&[][..], |(_, changes)| changes);
    for (i, change) in changes.iter().enumerate() {
        out.entry(if i == 0 { "what if" } else { "" }, &format!("{}: {}", change.what, change.then()), None);
    }
    out.blank();
    certainty(&mut out, flow, world, ui);
    out.blank();
    hops(&mut out, flow, look);
    traffic(&mut out, flow);
    out
}

/// What the verdict was, and which changes of objects made it another one.
fn history(out: &mut Ladder<'_>, flow: &Flow, world: &World, ui: &Ui) {
    if let Some(rejudged) = &flow.rejudged {
        out.entry("was", &format!("{} ({})", rejudged.was.as_str(), rejudged.was_reason.code()), None);
    }
    for (i, change) in flow.changes(world).into_iter().enumerate() {
        out.entry(if i == 0 { "objects" } else { "" }, &change.told(ui.instant()), None);
    }
    if flow.stale > 0 {
        let text = format!(
            "{} of {} connections were judged by objects that may be out of date",
            flow.stale, flow.connections
        );
        out.entry("stale", &text, None);
    }
}

fn step(out: &mut Ladder<'_>, flow: &Flow, i: usize, item: &Item<'_>, last: bool, steps_as: Steps) {
    let look = out.look;
    let palette = &look.palette;
    let (word, style) = mark(item.mark, flow.class(), look);
    let glyphs = &look.glyphs;
    let object = item.object.map(ToString::to_string);
    let lead = vec![("  ".to_owned(), palette.text), (word.to_owned(), style)];
    if steps_as == Steps::Full {
        let branch = glyphs.branch[usize::from(last)];
        let head = format!(" {branch} {} {:11} ", i + 1, item.claim);
        // Where it is narrow, what a step says stands below its claim.
        let stacked = out.width < NARROW;
        let indent = if stacked { 7 } else { pen::cells(&head, look) + 4 };
        let bar = format!("     {}", if last { " " } else { glyphs.bar });
        let room = out.width.saturating_sub(indent);
        let mut texts: Vec<(String, Style)> = Vec::new();
        let object = object.unwrap_or_default();
        texts.extend(
            pen::wrap(&object, room, LONGEST, look).into_iter().filter(|l| !l.is_empty()).map(|l| (l, palette.text)),
        );
        let field = item.field.map(ArcStr::as_str).unwrap_or_default();
        texts.extend(
            pen::wrap(field, room, LONGEST, look).into_iter().filter(|l| !l.is_empty()).map(|l| (l, palette.note)),
        );
        texts.extend(pen::wrap(&item.says.text(), room, LONGEST, look).into_iter().map(|line| (line, palette.dim)));
        let mut first = lead;
        first.push((head, palette.text));
        let mut texts = texts.into_iter();
        if !stacked {
            first.extend(texts.next());
        }
        out.push(first, Some(i));
        for text in texts {
            out.push(vec![(format!("{bar:indent$}"), palette.border), text], Some(i));
        }
        return;
    }
    let mut pieces = lead;
    pieces.push((format!(" {:11} ", item.claim), palette.text));
    match object {
        Some(object) => {
            pieces.push((object, palette.text));
            if let Some(field) = item.field {
                pieces.push((format!(" {field}"), palette.dim));
            }
        }
        None => pieces.push((item.says.to_string(), palette.dim)),
    }
    out.push(pieces, Some(i));
}

fn verdict(out: &mut Ladder<'_>, flow: &Flow) {
    let look = out.look;
    let palette = &look.palette;
    let class = flow.class();
    let judgement = &flow.judgement;
    // The word on screen may be an abbreviation; filters and JSON use the whole.
    let whole = judgement.verdict.as_str();
    let spelled =
        if judgement.verdict.word().eq_ignore_ascii_case(whole) { String::new() } else { format!("{whole}, ") };
    out.push(
        vec![
            (" ".to_owned(), palette.text),
            (class.mark().to_owned(), look.mark(class)),
            (format!(" {}", judgement.verdict.word()), look.class(class)),
            (format!("  {spelled}severity {}", judgement.severity.as_str()), palette.text),
        ],
        None,
    );
    let room = out.width.saturating_sub(5);
    for line in pen::wrap(judgement.verdict.definition(), room, 4, look) {
        out.push(vec![("    ".to_owned(), palette.text), (line, palette.dim)], None);
    }
    out.entry("reason", &format!("{}: {}", judgement.reason().code(), judgement.reason().meaning()), None);
    if judgement.reasons.len() > 1 {
        let also: Vec<_> = judgement.reasons[1..].iter().map(|r| r.code()).collect();
        out.entry("also", &also.join(", "), None);
    }
}

fn path_of(expected: &Expected) -> String {
    let mut text = expected.outcome.as_str().to_owned();
    if let Some(gateway) = &expected.gateway {
        let _ = write!(text, " {gateway}");
    }
    if let Some(cluster) = &expected.cluster {
        let _ = write!(text, " · cluster {cluster}");
    }
    if let Some(status) = expected.response {
        let _ = write!(text, " · answers {status}");
    }
    if let Some(next) = &expected.next {
        let host = next.host.as_deref().unwrap_or("the address that was dialled");
        let port = next.port.map(|p| format!(":{p}")).unwrap_or_default();
        let _ = write!(text, " · dials {host}{port} ({})", next.kind.as_str());
    }
    text
}

fn expected(out: &mut Ladder<'_>, flow: &Flow) {
    let Some(whole) = flow.expected.as_deref() else {
        out.entry("expected", "nothing: no objects of the mesh speak about this socket", None);
        return;
    };
    if whole.outcome == Outcome::NotCaptured
        && let Some(cause) = &whole.uncaptured
    {
        out.entry("expected", &format!("not captured: {}", cause.says), None);
    }
    let captured = whole.then.as_deref().unwrap_or(whole);
    let label = if whole.outcome == Outcome::NotCaptured { "if captured" } else { "expected" };
    out.entry(label, &path_of(captured), None);
    let mut leg = captured.leg2.as_deref();
    while let Some(next) = leg {
        out.entry("then", &path_of(next), None);
        leg = next.leg2.as_deref();
    }
    if captured.alternatives.len() > 1 {
        let others: Vec<_> = captured.alternatives.iter().map(ArcStr::as_str).collect();
        out.entry("or", &others.join(", "), None);
    }
}

fn hops(out: &mut Ladder<'_>, flow: &Flow, look: &Look) {
    for (i, hop) in flow.path.iter().enumerate() {
        let from = hop.from.map_or_else(|| "?".to_owned(), |a| a.to_string());
        let pod = hop.pod.as_deref().unwrap_or("(no pod)");
        let text =
            format!("{} {} {pod} {from} {} {} · {}", i + 1, hop.role, look.glyphs.arrow, hop.to, joint(hop.evidence));
        out.entry(if i == 0 { "hops seen" } else { "" }, &text, None);
    }
}

fn joint(joint: Joint) -> &'static str {
    match joint {
        Joint::Socket => "its own socket",
        Joint::TupleAndBytes => "joined by the packet's numbers and the first bytes",
        Joint::TupleAndWindow => "joined by the packet's numbers, then pod and time: a guess",
        Joint::Bytes => "joined by the first bytes",
        Joint::Window => "joined by pod, destination and time: a guess",
    }
}

fn traffic(out: &mut Ladder<'_>, flow: &Flow) {
    let mut parts = vec![figure::plural(flow.connections, "connection"), format!("{} open", figure::short(flow.open))];
    if flow.failures > 0 {
        parts.push(format!("{} failed", figure::short(flow.failures)));
    }
    parts.push(format!("sent {}", figure::short(flow.bytes_sent)));
    parts.push(format!("received {}", figure::short(flow.bytes_received)));
    if let Some(rtt) = flow.rtt_micros {
        parts.push(format!("rtt {:.1} ms", f64::from(rtt) / 1000.0));
    }
    if flow.retransmits > 0 {
        parts.push(figure::plural(flow.retransmits, "retransmit"));
    }
    parts.push(format!("first {}", figure::clock(flow.first_seen)));
    parts.push(format!("last {}", figure::clock(flow.last_seen)));
    out.entry("traffic", &parts.join(" · "), None);
    let source = &flow.source;
    let mut who = Vec::new();
    who.extend(source.process.as_ref().map(|p| format!("pid {} {} uid {}", p.pid, p.comm, p.uid)));
    who.extend(source.container.as_ref().map(|c| format!("container {c}")));
    who.extend(source.service_account.as_ref().map(|s| format!("service account {s}")));
    who.extend(source.pod.as_ref().map(|p| format!("pod {p}")));
    out.entry("who", &who.join(" · "), None);
    let mut ids = format!("flow {} · leg {}", flow.id, flow.leg.as_str());
    if let Some(community) = &flow.community_id {
        let _ = write!(ids, " · {community}");
    }
    out.entry("ids", &ids, None);
}

/// What is certain, what was inferred and what nobody saw: without it a verdict cannot be trusted.
fn certainty(out: &mut Ladder<'_>, flow: &Flow, world: &World, ui: &Ui) {
    let (mut sure, mut guessed, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    match flow.source.evidence {
        Attribution::Cgroup => sure.push("the pod, by its cgroup".to_owned()),
        Attribution::Netns => sure.push("the pod, by its network namespace".to_owned()),
        Attribution::Address => guessed.push("the pod, by its address".to_owned()),
        Attribution::None => missing.push("a pod: the process is in none".to_owned()),
    }
    let name = &flow.destination.name;
    match name.source {
        NameSource::Sni => sure.push("the name, from the TLS hello".to_owned()),
        NameSource::Http => sure.push("the name, from the request".to_owned()),
        NameSource::Entry => sure.push("the name: an entry owns the address".to_owned()),
        NameSource::Dns => {
            let age = name.age_nanos.map_or_else(String::new, |n| format!(" {} earlier", figure::age(n)));
            let shared = match name.candidates.len() {
                0 | 1 => String::new(),
                n => format!(", one of {n} names of this address"),
            };
            guessed.push(format!("the name, from a DNS answer{age}{shared}"));
        }
        NameSource::None => missing.push("a name: neither SNI nor Host nor DNS answer".to_owned()),
    }
    for hop in flow.path.iter().skip(1) {
        match hop.evidence {
            Joint::Socket | Joint::TupleAndBytes | Joint::Bytes => sure.push(format!("hop {}", hop.role)),
            Joint::TupleAndWindow | Joint::Window => guessed.push(format!("hop {}", hop.role)),
        }
    }
    match captured(flow).map(|e| e.certainty) {
        Some(Certainty::Exact) => sure.push("what the configuration says".to_owned()),
        Some(Certainty::NeedsSni) => missing.push("the server name, which would decide".to_owned()),
        Some(Certainty::NeedsHost) => missing.push("the Host header, which would decide".to_owned()),
        Some(Certainty::NeedsL7) => missing.push("path or headers, which would decide".to_owned()),
        Some(Certainty::NeedsDns) => missing.push("what a name resolves to, which would decide".to_owned()),
        Some(Certainty::EnvoyFilterTainted) => {
            guessed.push("the configuration: an EnvoyFilter may change it".to_owned());
        }
        None => {}
    }
    for step in flow.judgement.chain.iter().filter(|s| s.mark == Mark::Unknown) {
        missing.push(format!("{}: {}", step.claim, step.says));
    }
    let lost = world.coverage.lost_total();
    if lost > 0 {
        missing.push(figure::plural(lost, "lost event"));
    }
    let all = |parts: &[String]| if parts.is_empty() { "nothing".to_owned() } else { parts.join(" · ") };
    out.entry("sure of", &all(&sure), None);
    out.entry("guessed", &all(&guessed), None);
    out.entry("not seen", &all(&missing), None);
    let coverage = &world.coverage;
    let age = figure::age(figure::between(coverage.mesh_at, ui.instant()));
    let text =
        format!("generation {} · {} {} · {age} old", coverage.mesh_generation, coverage.mesh.kind, coverage.mesh.place);
    out.entry("mesh", &text, None);
}

/// Widths and heights of the two panes: ladder, object.
struct Panes {
    ladder: (u16, u16),
    object: (u16, u16, u16, u16),
    side_by_side: bool,
    steps: Steps,
}

fn panes(width: u16, height: u16) -> Panes {
    // One line of breadcrumb and one rule stand above both.
    let room = height.saturating_sub(2);
    if width >= SIDE_BY_SIDE {
        let left = width * 3 / 5;
        return Panes {
            ladder: (left, room),
            object: (left + 1, 2, width - left - 1, room),
            side_by_side: true,
            steps: Steps::Full,
        };
    }
    let below = if room >= 16 { (room / 2).clamp(7, 18) } else { 0 };
    let above = room - below;
    // What the lower pane says of the selected step need not stand in the ladder.
    let steps = if below > 0 { Steps::OneLine } else { Steps::Full };
    Panes { ladder: (width, above), object: (0, 2 + above, width, below), side_by_side: false, steps }
}

/// Rows for `lines` lines: the last row tells that there is more.
fn room_of(height: u16, lines: usize) -> u16 {
    if lines > usize::from(height) { height.saturating_sub(1) } else { height }
}

/// Lines of the ladder, how many fit, and the lines of the selected item.
pub fn measure(
    detail: &Detail,
    world: &World,
    ui: &Ui,
    look: &Look,
    width: u16,
    height: u16,
) -> (usize, usize, (usize, usize)) {
    let panes = panes(width, height);
    let ladder = ladder(detail, world, ui, look, usize::from(panes.ladder.0.saturating_sub(2)), panes.steps);
    let of_item = |l: &Line| l.item == Some(detail.item);
    let from = ladder.lines.iter().position(of_item).unwrap_or(0);
    let to = ladder.lines.iter().rposition(of_item).unwrap_or(from);
    (ladder.lines.len(), usize::from(room_of(panes.ladder.1, ladder.lines.len())), (from, to))
}

/// Draws both panes.
pub fn draw(pen: &mut Pen<'_>, detail: &Detail, world: &World, ui: &Ui) {
    let look = pen.look;
    let palette = &look.palette;
    let flow = &*detail.flow;
    breadcrumb(pen, flow, world);
    pen.rule(1);
    let panes = panes(pen.width(), pen.height());
    let (width, height) = panes.ladder;
    let ladder = ladder(detail, world, ui, look, usize::from(width.saturating_sub(2)), panes.steps);
    let total = ladder.lines.len();
    let shown = room_of(height, total);
    for (y, line) in (2..).zip(ladder.lines.into_iter().skip(detail.top).take(usize::from(shown))) {
        let selected = line.item == Some(detail.item) && line.item.is_some();
        if selected {
            pen.symbol(0, y, look.glyphs.cursor, palette.key);
        }
        let pieces = line.pieces.iter().map(|(text, style)| {
            (text.as_str(), if selected { style.add_modifier(palette.key.add_modifier) } else { *style })
        });
        pen.pieces(1, y, width.saturating_sub(2), pieces);
    }
    if shown < height {
        let below = total.saturating_sub(detail.top + usize::from(shown));
        let more = if below > 0 { format!("{below} more lines, PgDn") } else { "end".to_owned() };
        pen.right(0, 1 + height, width.saturating_sub(2), &more, palette.dim);
    }
    if panes.side_by_side {
        for y in 2..pen.height() {
            pen.symbol(width, y, look.glyphs.bar, palette.border);
        }
    }
    let (x, y, width, height) = panes.object;
    let items = items(flow);
    let mut pen = pen.within(x, y, width, height);
    if let Some(item) = items.get(detail.item) {
        object::draw(&mut pen, item, &items, detail.text.as_ref(), panes.side_by_side);
    }
}

fn breadcrumb(pen: &mut Pen<'_>, flow: &Flow, world: &World) {
    let look = pen.look;
    let palette = &look.palette;
    let glyphs = &look.glyphs;
    let rate = figure::short(flow.sent_per_second + flow.received_per_second);
    let age = figure::age(figure::between(flow.first_seen, world.now.max(flow.first_seen)));
    let closed = world.now.0 - flow.last_seen.0 > (60 * Nanos::SECOND).cast_signed() && flow.open == 0;
    let facts = if pen.width() >= 72 {
        let state = if closed { "closed".to_owned() } else { format!("{rate}/s") };
        format!("{}  {state}  {age}", figure::plural(flow.connections, "connection"))
    } else {
        String::new()
    };
    let room = pen.width().saturating_sub(pen::cells(&facts, look) as u16 + 4);
    let to = format!("{}:{}", flow.destination.label(), flow.destination.port);
    let crumb = format!(" {} ", glyphs.crumb);
    let arrow = format!(" {} ", glyphs.arrow);
    let who = flow.source.label();
    pen.pieces(
        1,
        0,
        room,
        [
            ("Flows", palette.dim),
            (&*crumb, palette.dim),
            (&*who, palette.header),
            (&*arrow, palette.dim),
            (&*to, palette.header),
        ],
    );
    let end = pen.width().saturating_sub(1);
    pen.right(0, 0, end, &facts, palette.dim);
}
