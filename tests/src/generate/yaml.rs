//! Objects as YAML that a person can read.

use std::fmt::Write as _;

use serde_json::Value;

/// Documents, in this order.
pub fn documents(objects: &[Value]) -> String {
    let mut out = String::new();
    for (n, object) in objects.iter().enumerate() {
        if n > 0 {
            out.push_str("---\n");
        }
        block(object, 0, &mut out);
    }
    out
}

fn block(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let _ = write!(out, "{indent}{}:", text(key));
                after_key(value, depth, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                let mut lines = String::new();
                if is_block(item) {
                    block(item, depth + 1, &mut lines);
                } else {
                    let _ = writeln!(lines, "{indent}  {}", flow(item));
                }
                // The first line's indentation makes room for the dash.
                let _ = write!(out, "{indent}- {}", lines.get(indent.len() + 2..).unwrap_or_default());
            }
        }
        _ => {
            let _ = writeln!(out, "{indent}{}", flow(value));
        }
    }
}

fn after_key(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::String(lines) if lines.contains('\n') => {
            out.push_str(" |\n");
            for line in lines.lines() {
                let _ = writeln!(out, "{}{line}", "  ".repeat(depth + 1));
            }
        }
        value if is_block(value) => {
            out.push('\n');
            block(value, depth + 1, out);
        }
        value => {
            let _ = writeln!(out, " {}", flow(value));
        }
    }
}

/// Lists of plain values and small maps stay on one line.
fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty() && flow(value).len() > 60,
        Value::Array(items) => items.iter().any(Value::is_object) || flow(value).len() > 100,
        _ => false,
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let inside: Vec<String> = fields.iter().map(|(k, v)| format!("{}: {}", text(k), flow(v))).collect();
            format!("{{{}}}", inside.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(s) => text(s),
        other => other.to_string(),
    }
}

/// Plain where no reader of YAML can take it for anything else.
fn text(s: &str) -> String {
    let plain = s.starts_with(|c: char| c.is_ascii_alphabetic())
        && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !matches!(
            s.to_ascii_lowercase().as_str(),
            "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null"
        );
    if plain { s.to_owned() } else { Value::from(s).to_string() }
}
