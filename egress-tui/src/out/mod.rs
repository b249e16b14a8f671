//! Worlds as bytes. Nothing in here decides or does I/O beyond the writer that it is given.

pub mod csv;
pub mod explanation;
pub mod snapshot;
pub mod tape;

use std::io::{self, Write};

use egress_core::world::World;
use snapshot::Document;

/// The snapshot as one JSON document.
pub fn json(document: &Document, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document)?;
    out.write_all(b"\n")
}

/// One flow a line.
pub fn jsonl(document: &Document, out: &mut impl Write) -> io::Result<()> {
    for flow in &document.flows {
        serde_json::to_writer(&mut *out, flow)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// The JSON Schema of the document.
pub fn schema(out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &schemars::schema_for!(Document))?;
    out.write_all(b"\n")
}

/// The coverage alone, as the ready file carries it.
pub fn ready(world: &World) -> serde_json::Value {
    serde_json::json!({
        "schema": snapshot::SCHEMA,
        "tool": snapshot::Tool::here(),
        "node": world.node.as_str(),
        "pid": std::process::id(),
        "coverage": snapshot::Coverage::from(world),
    })
}
