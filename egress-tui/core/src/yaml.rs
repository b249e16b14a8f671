//! Values as YAML text that people read: block style, quotes only where something else would be read without them.
//!
//! [`crate::manifest::parse`] reads the same value again.

use std::fmt::Write as _;

use serde_json::Value;

/// The document, with a line break at its end.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(value, 0, &mut out),
        Value::Array(list) if !list.is_empty() => block(value, 0, &mut out),
        _ => {
            scalar(value, 0, &mut out);
            out.push('\n');
        }
    }
    out
}

/// Documents, each behind a marker.
pub fn write_all<'a>(values: impl IntoIterator<Item = &'a Value>) -> String {
    values.into_iter().flat_map(|value| ["---\n".to_owned(), write(value)]).collect()
}

/// The lines of a map or a list that is not empty; the first one is where `out` ends.
fn block(value: &Value, depth: usize, out: &mut String) {
    let pad = |out: &mut String, first: bool| {
        if !first {
            out.extend(std::iter::repeat_n(' ', depth));
        }
    };
    match value {
        Value::Object(map) => {
            for (n, (key, value)) in map.iter().enumerate() {
                pad(out, n == 0);
                string(key, None, out);
                out.push(':');
                nested(value, depth, out);
            }
        }
        Value::Array(list) => {
            for (n, value) in list.iter().enumerate() {
                pad(out, n == 0);
                out.push('-');
                if is_block(value) {
                    out.push(' ');
                    block(value, depth + 2, out);
                } else {
                    out.push(' ');
                    scalar(value, depth + 2, out);
                    out.push('\n');
                }
            }
        }
        _ => {}
    }
}

fn is_block(value: &Value) -> bool {
    value.as_object().is_some_and(|m| !m.is_empty()) || value.as_array().is_some_and(|l| !l.is_empty())
}

/// What stands behind a key.
fn nested(value: &Value, depth: usize, out: &mut String) {
    if !is_block(value) {
        out.push(' ');
        scalar(value, depth + 2, out);
        out.push('\n');
        return;
    }
    out.push('\n');
    // kubectl's own style: a list stands at its key's column
    let inside = if value.is_array() { depth } else { depth + 2 };
    out.extend(std::iter::repeat_n(' ', inside));
    block(value, inside, out);
}

fn scalar(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::String(text) => string(text, Some(depth), out),
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        other => {
            // Writing to a string cannot fail.
            let _ = write!(out, "{other}");
        }
    }
}

/// A string; one of several lines as a block of this indentation, where that is possible.
fn string(text: &str, indent: Option<usize>, out: &mut String) {
    if is_plain(text) {
        out.push_str(text);
        return;
    }
    if let Some(indent) = indent.filter(|_| is_literal(text)) {
        out.push_str(if text.ends_with('\n') { "|" } else { "|-" });
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            out.push('\n');
            if !line.is_empty() {
                out.extend(std::iter::repeat_n(' ', indent));
                out.push_str(line);
            }
        }
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_hidden(c) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Characters that a terminal would not show, or would obey.
fn is_hidden(c: char) -> bool {
    let shown = crate::name::printable(c.encode_utf8(&mut [0; 4]));
    !shown.starts_with(c) || matches!(c, '\u{2028}' | '\u{2029}' | '\u{85}')
}

/// Nothing but this text can be read where it stands without quotes.
fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let safe = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/' | b'=' | b'+' | b'(' | b')');
    let starts = bytes.first().is_some_and(|b| b.is_ascii_alphabetic() || matches!(b, b'/' | b'_'));
    let word = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "y" | "n"
    );
    let inside = bytes.iter().enumerate().all(|(n, b)| {
        let neighbours = n > 0 && n + 1 < bytes.len();
        safe(b)
            || (*b == b':' && neighbours && bytes[n + 1] != b' ')
            || (matches!(b, b' ' | b',' | b'\'') && neighbours && bytes[n + 1] != b'#' && bytes[n + 1] != b':')
    });
    starts && inside && !word
}

/// Lines that may stand as they are below their key.
fn is_literal(text: &str) -> bool {
    let lines = text.strip_suffix('\n').unwrap_or(text);
    lines.contains('\n')
        && !lines.starts_with([' ', '\t', '\n'])
        && !lines.ends_with('\n')
        && !text.chars().any(|c| c != '\n' && is_hidden(c))
        && lines.split('\n').all(|l| !l.ends_with(' '))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn again(value: &Value) -> Value {
        let text = write(value);
        let read = crate::manifest::parse("", &text);
        assert!(read.problems.is_empty(), "{:?}\n{text}", read.problems);
        read.objects.into_iter().next().map_or(Value::Null, |o| o.value)
    }

    #[test]
    fn it_looks_as_people_write_it() {
        let value = json!({"kind": "Role", "rules": [{"verbs": ["get", "list"], "names": []}], "data": {"mesh": "a: 1\nb:\n  - c\n"}});
        let text = "kind: Role\nrules:\n- verbs:\n  - get\n  - list\n  names: []\ndata:\n  mesh: |\n    a: 1\n    b:\n      - c\n";
        assert_eq!(write(&value), text);
    }

    #[test]
    fn whatever_is_written_is_read_as_it_was() {
        let odd = [
            "",
            " ",
            "a: b",
            "a:b",
            "- a",
            "#x",
            "a #b",
            "true",
            "No",
            "1",
            "1e3",
            "0x1f",
            "~",
            "null",
            "*",
            "&a",
            "!x",
            "{",
            "[a]",
            "%x",
            "@a",
            "`",
            "a\n",
            "a\nb",
            "a\nb\n",
            "a\n\nb\n",
            "\na",
            " a\nb",
            "a \nb",
            "a\tb",
            "a\u{1b}[2Jb",
            "\u{202e}x",
            "\u{1f600}",
            "a\r\nb",
            "x:",
            "'a'",
            "\"a\"",
            "a\\b",
            "a, b",
            "it's",
            "---",
            "--- a\nb",
            "...",
            "?",
            ": a",
            "a: ",
            "=",
            ".5",
            "-1",
            "1:20",
            "a\n---\nb",
            "2001-01-01",
            "\u{feff}a",
            "a\u{85}b",
            "\u{2028}",
        ];
        for text in odd {
            let value =
                json!({"kind": text, "list": [text, [text], {text: text}], "deep": {"er": [{"a": text, "b": 1}]}});
            assert_eq!(again(&value), value, "{}", write(&value));
        }
        let value = json!({"a": [], "b": {}, "c": null, "d": [[], {}, [[1, 2.5, true]]], "e": -3});
        assert_eq!(again(&value), value);
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_written() {
        let text = write(&json!({"a": "\u{1b}]0;x\u{7}\nb", "\u{9b}k": 1}));
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }
}
