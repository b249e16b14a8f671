//! How it looks: palette and glyphs. Passed down to every drawing function, never global.
//!
//! Only [`Look`] decides about colour. A look without colour holds styles without any colour, so that the backend never
//! sends a colour command: crossterm answers `NO_COLOR` with `ESC[;m`, which also resets bold and reverse and makes the
//! selected row invisible. So crossterm's own opinion is switched off ([`super::term`]), and this is the one place.

use egress_core::verdict::Class;
use ratatui::style::{Color, Modifier, Style};

/// Whether to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ColorChoice {
    /// As the environment says.
    #[default]
    Auto,
    /// Whatever the environment says.
    Always,
    /// Never.
    Never,
}

/// Which colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Theme {
    /// The terminal's own sixteen, on its own background.
    #[default]
    Auto,
    /// For a dark background.
    Dark,
    /// For a light background.
    Light,
    /// None: bold, underline and reverse only.
    Mono,
    /// The terminal's own sixteen, everything bold, nothing dim.
    HighContrast,
}

impl Theme {
    /// Every theme.
    pub const ALL: [Self; 5] = [Self::Auto, Self::Dark, Self::Light, Self::Mono, Self::HighContrast];

    /// The spelling in options and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Dark => "dark",
            Self::Light => "light",
            Self::Mono => "mono",
            Self::HighContrast => "high-contrast",
        }
    }

    /// The theme with this spelling.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.as_str() == text)
    }
}

/// What the environment tells about the terminal. Empty variables count as unset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// `NO_COLOR`.
    pub no_color: Option<String>,
    /// `TERM`.
    pub term: Option<String>,
    /// `COLORTERM`.
    pub colorterm: Option<String>,
    /// `COLORFGBG`: `15;0`, foreground and background of the terminal.
    pub colorfgbg: Option<String>,
    /// The first of `LC_ALL`, `LC_CTYPE`, `LANG` that is set.
    pub locale: Option<String>,
}

impl Surroundings {
    /// Reads them from environment variables.
    pub fn from_env() -> Self {
        let get = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        Self {
            no_color: get("NO_COLOR"),
            term: get("TERM"),
            colorterm: get("COLORTERM"),
            colorfgbg: get("COLORFGBG"),
            locale: get("LC_ALL").or_else(|| get("LC_CTYPE")).or_else(|| get("LANG")),
        }
    }

    fn light(&self) -> bool {
        let background = self.colorfgbg.as_deref().and_then(|v| v.rsplit(';').next());
        matches!(background, Some("7" | "15"))
    }

    fn utf8(&self) -> bool {
        let locale = self.locale.as_deref().unwrap_or_default().to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    }
}

/// How many colours the terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    True,
    Indexed,
    Sixteen,
}

/// Styles by meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Palette {
    /// Ordinary text.
    pub text: Style,
    /// What matters less.
    pub dim: Style,
    /// Lines between panes.
    pub border: Style,
    /// The selected row, on top of everything else.
    pub select: Style,
    /// Titles of columns and sections.
    pub header: Style,
    /// Keys in the footer and in help.
    pub key: Style,
    /// It holds.
    pub ok: Style,
    /// Worth knowing.
    pub note: Style,
    /// Something is missing or was lost.
    pub warn: Style,
    /// It does not work.
    pub bad: Style,
    /// Class `bypass`: its word.
    pub bypass: Style,
    /// Class `bypass`: its mark.
    pub bypass_mark: Style,
    /// Class `unregistered`.
    pub unregistered: Style,
    /// Class `direct`.
    pub direct: Style,
    /// Class `unknown`.
    pub unknown: Style,
    /// Class `exempt` and `stopped`.
    pub quiet: Style,
    /// Sparklines.
    pub spark: Style,
    /// A sample that was lost.
    pub spark_lost: Style,
}

/// Three hues carry meaning, the rest is neutral: measured distances between them stay apart in every common form of
/// colour blindness, which red, amber and green do not.
struct Hues {
    text: Color,
    dim: Color,
    border: Color,
    select: Style,
    bypass: Color,
    unregistered: Color,
    direct: Color,
}

impl Palette {
    fn of_hues(h: &Hues) -> Self {
        let plain = Style::new().fg(h.text);
        let of = |color| Style::new().fg(color);
        Self {
            text: plain,
            dim: of(h.dim),
            border: of(h.border),
            select: h.select,
            header: plain.add_modifier(Modifier::BOLD),
            key: plain.add_modifier(Modifier::BOLD),
            ok: plain,
            note: of(h.direct),
            warn: of(h.unregistered).add_modifier(Modifier::BOLD),
            bad: of(h.bypass).add_modifier(Modifier::BOLD),
            bypass: of(h.bypass).add_modifier(Modifier::BOLD),
            bypass_mark: of(h.bypass).add_modifier(Modifier::BOLD | Modifier::REVERSED),
            unregistered: of(h.unregistered),
            direct: of(h.direct),
            unknown: plain.add_modifier(Modifier::ITALIC),
            quiet: of(h.dim),
            spark: of(h.direct),
            spark_lost: of(h.unregistered),
        }
    }

    fn sixteen() -> Self {
        Self::of_hues(&Hues {
            text: Color::Reset,
            dim: Color::Reset,
            border: Color::Reset,
            select: Style::new().add_modifier(Modifier::REVERSED),
            bypass: Color::Red,
            unregistered: Color::Yellow,
            direct: Color::Blue,
        })
        .faint()
    }

    /// Bright black cannot be read on half of the palettes in use, so what matters less is faint, not grey.
    fn faint(mut self) -> Self {
        self.dim = self.dim.add_modifier(Modifier::DIM);
        self.border = self.border.add_modifier(Modifier::DIM);
        self.quiet = self.quiet.add_modifier(Modifier::DIM);
        self
    }

    fn dark(depth: Depth) -> Self {
        let pick = |rgb, index| if depth == Depth::True { Color::from_u32(rgb) } else { Color::Indexed(index) };
        Self::of_hues(&Hues {
            text: pick(0x00C8_C8C8, 251),
            dim: pick(0x008A_9199, 245),
            border: pick(0x0050_565E, 240),
            select: Style::new().bg(pick(0x002B_3442, 237)).add_modifier(Modifier::BOLD),
            bypass: pick(0x00E6_4B4B, 203),
            unregistered: pick(0x00F5_B421, 214),
            direct: pick(0x005C_87CA, 68),
        })
    }

    fn light(depth: Depth) -> Self {
        let pick = |rgb, index| if depth == Depth::True { Color::from_u32(rgb) } else { Color::Indexed(index) };
        Self::of_hues(&Hues {
            text: pick(0x003A_3A3A, 237),
            dim: pick(0x0066_6B70, 242),
            border: pick(0x00A8_ADB2, 248),
            select: Style::new().bg(pick(0x00D6_DEEA, 253)).add_modifier(Modifier::BOLD),
            bypass: pick(0x008E_1514, 88),
            unregistered: pick(0x00A8_5F01, 130),
            direct: pick(0x0028_718E, 24),
        })
    }

    fn mono() -> Self {
        let plain = Style::new();
        let bold = plain.add_modifier(Modifier::BOLD);
        let reversed = plain.add_modifier(Modifier::REVERSED);
        Self {
            text: plain,
            dim: plain,
            border: plain,
            select: reversed,
            header: bold,
            key: bold,
            ok: plain,
            note: plain,
            warn: bold.add_modifier(Modifier::UNDERLINED),
            bad: bold.add_modifier(Modifier::REVERSED),
            bypass: bold,
            bypass_mark: bold.add_modifier(Modifier::REVERSED),
            unregistered: plain.add_modifier(Modifier::UNDERLINED),
            direct: plain,
            unknown: plain,
            quiet: plain,
            spark: plain,
            spark_lost: bold,
        }
    }

    fn high_contrast() -> Self {
        let mut palette = Self::sixteen();
        let bold = Style::new().add_modifier(Modifier::BOLD);
        palette.text = bold;
        palette.dim = Style::new();
        palette.border = Style::new();
        palette.quiet = Style::new();
        palette.unregistered = palette.unregistered.patch(bold);
        palette.direct = palette.direct.patch(bold);
        palette
    }
}

/// What lines and marks are drawn with. Nothing is wider than one cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glyphs {
    /// Horizontal and vertical line.
    pub rule: &'static str,
    /// Vertical line.
    pub bar: &'static str,
    /// Corners of a box: top left, top right, bottom left, bottom right.
    pub corners: [&'static str; 4],
    /// Branch and last branch of a ladder.
    pub branch: [&'static str; 2],
    /// Before the selected row.
    pub cursor: &'static str,
    /// Something was cut.
    pub ellipsis: &'static str,
    /// From, to.
    pub arrow: &'static str,
    /// Between levels of a path of screens.
    pub crumb: &'static str,
    /// Between words of the header.
    pub dot: &'static str,
    /// Falling and rising order.
    pub order: [&'static str; 2],
    /// Scroll bar: its track, its thumb.
    pub scroll: [&'static str; 2],
    /// Eight heights, lowest first.
    pub spark: [&'static str; 8],
    /// A sample that was lost.
    pub lost: &'static str,
    /// Nothing but ASCII may be written.
    pub ascii: bool,
}

impl Glyphs {
    const UNICODE: Self = Self {
        rule: "─",
        bar: "│",
        corners: ["┌", "┐", "└", "┘"],
        branch: ["├", "└"],
        cursor: "▌",
        ellipsis: "…",
        arrow: "→",
        crumb: "›",
        dot: "·",
        order: ["▾", "▴"],
        scroll: ["│", "█"],
        spark: ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
        lost: "·",
        ascii: false,
    };
    const ASCII: Self = Self {
        rule: "-",
        bar: "|",
        corners: ["+", "+", "+", "+"],
        branch: ["|", "`"],
        cursor: ">",
        // No host name and no name of an object holds it.
        ellipsis: "+",
        arrow: "->",
        crumb: ">",
        dot: "-",
        order: ["v", "^"],
        scroll: ["|", "#"],
        spark: [".", ":", "-", "=", "+", "*", "%", "#"],
        lost: "?",
        ascii: true,
    };
}

/// Palette and glyphs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Styles by meaning.
    pub palette: Palette,
    /// What lines and marks are drawn with.
    pub glyphs: Glyphs,
}

impl Look {
    /// A look that asks nobody: for pictures and tests. Dark and light are in true colour.
    pub fn plain(theme: Theme, ascii: bool) -> Self {
        let palette = match theme {
            Theme::Auto => Palette::sixteen(),
            Theme::Dark => Palette::dark(Depth::True),
            Theme::Light => Palette::light(Depth::True),
            Theme::Mono => Palette::mono(),
            Theme::HighContrast => Palette::high_contrast(),
        };
        Self { palette, glyphs: if ascii { Glyphs::ASCII } else { Glyphs::UNICODE } }
    }

    /// Decides in the order option, theme, `NO_COLOR`, `TERM`, `COLORTERM`. The caller has made sure that there is a
    /// terminal.
    pub fn choose(color: ColorChoice, theme: Theme, ascii: bool, around: &Surroundings) -> Self {
        let term = around.term.as_deref().unwrap_or_default();
        let dumb = term.is_empty() || term == "dumb";
        let colourless = match color {
            ColorChoice::Always => false,
            ColorChoice::Never => true,
            ColorChoice::Auto => around.no_color.is_some() || dumb,
        };
        let depth = match around.colorterm.as_deref() {
            Some("truecolor" | "24bit") => Depth::True,
            _ if term.contains("256color") => Depth::Indexed,
            _ => Depth::Sixteen,
        };
        let theme = match (colourless, theme) {
            (true, _) => Theme::Mono,
            (false, Theme::Auto) if around.light() && depth != Depth::Sixteen => Theme::Light,
            (false, theme) => theme,
        };
        let mut look = Self::plain(theme, ascii || term == "linux" || dumb || !around.utf8());
        look.palette = match (theme, depth) {
            (Theme::Dark | Theme::Light, Depth::Sixteen) => Palette::sixteen(),
            (Theme::Dark, depth) => Palette::dark(depth),
            (Theme::Light, depth) => Palette::light(depth),
            _ => look.palette,
        };
        look
    }

    /// Style of a class's word.
    pub fn class(&self, class: Class) -> Style {
        match class {
            Class::Bypass => self.palette.bypass,
            Class::Unregistered => self.palette.unregistered,
            Class::Unknown => self.palette.unknown,
            Class::Direct => self.palette.direct,
            Class::Gateway => self.palette.text,
            Class::Exempt | Class::Stopped => self.palette.quiet,
        }
    }

    /// Style of a class's mark.
    pub fn mark(&self, class: Class) -> Style {
        if class == Class::Bypass { self.palette.bypass_mark } else { self.class(class) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(variables: &[(&str, &str)]) -> Surroundings {
        let get = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Surroundings {
            no_color: get("NO_COLOR"),
            term: get("TERM"),
            colorterm: get("COLORTERM"),
            colorfgbg: get("COLORFGBG"),
            locale: get("LANG").or(Some("C.UTF-8".to_owned())),
        }
    }

    fn chosen(color: ColorChoice, theme: Theme, variables: &[(&str, &str)]) -> Palette {
        Look::choose(color, theme, false, &around(variables)).palette
    }

    #[test]
    fn the_option_wins_over_no_color_and_that_over_the_terminal() {
        use ColorChoice::{Always, Auto, Never};
        let term = ("TERM", "xterm");
        assert_eq!(chosen(Auto, Theme::Auto, &[term]), Palette::sixteen());
        assert_eq!(chosen(Auto, Theme::Auto, &[term, ("NO_COLOR", "1")]), Palette::mono());
        assert_eq!(chosen(Always, Theme::Auto, &[term, ("NO_COLOR", "1")]), Palette::sixteen());
        assert_eq!(chosen(Never, Theme::Dark, &[term]), Palette::mono());
        assert_eq!(chosen(Auto, Theme::Dark, &[("TERM", "dumb")]), Palette::mono());
        assert_eq!(chosen(Auto, Theme::Dark, &[]), Palette::mono(), "no TERM at all");
    }

    #[test]
    fn colours_are_as_deep_as_the_terminal() {
        let auto = ColorChoice::Auto;
        let (plain, indexed, full) = (("TERM", "xterm"), ("TERM", "xterm-256color"), ("COLORTERM", "truecolor"));
        assert_eq!(chosen(auto, Theme::Dark, &[plain]), Palette::sixteen());
        assert_eq!(chosen(auto, Theme::Dark, &[indexed]), Palette::dark(Depth::Indexed));
        assert_eq!(chosen(auto, Theme::Dark, &[indexed, full]), Palette::dark(Depth::True));
        assert_eq!(chosen(auto, Theme::Auto, &[indexed, ("COLORFGBG", "0;15")]), Palette::light(Depth::Indexed));
        assert_eq!(chosen(auto, Theme::Auto, &[indexed, ("COLORFGBG", "15;0")]), Palette::sixteen());
    }

    #[test]
    fn a_terminal_that_may_not_know_the_glyphs_gets_ascii() {
        let ascii = |option, variables: &[(&str, &str)]| {
            Look::choose(ColorChoice::Auto, Theme::Auto, option, &around(variables)).glyphs.ascii
        };
        assert!(!ascii(false, &[("TERM", "xterm")]));
        assert!(ascii(true, &[("TERM", "xterm")]));
        assert!(ascii(false, &[("TERM", "linux")]));
        assert!(ascii(false, &[("TERM", "xterm"), ("LANG", "C")]));
        assert!(!ascii(false, &[("TERM", "xterm"), ("LANG", "de_DE.utf8")]));
    }

    #[test]
    fn no_glyph_is_wider_than_its_cell() {
        use unicode_width::UnicodeWidthStr;
        for g in [Glyphs::UNICODE, Glyphs::ASCII] {
            let one = [g.rule, g.bar, g.cursor, g.ellipsis, g.crumb, g.dot, g.lost];
            let all = one.iter().chain(&g.corners).chain(&g.branch).chain(&g.order).chain(&g.scroll).chain(&g.spark);
            for glyph in all {
                assert_eq!(glyph.width(), 1, "{glyph}");
                assert!(!g.ascii || glyph.is_ascii(), "{glyph}");
            }
        }
    }
}
