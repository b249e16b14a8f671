//! The flows of a snapshot as CSV: the same columns, flattened, safe to open in a spreadsheet.

use std::io::Write;

use super::snapshot::{Document, Flow};

type Column = (&'static str, fn(&Flow) -> String);

/// Every column: its name is the JSON path.
const COLUMNS: &[Column] = &[
    ("id", |f| f.id.clone()),
    ("verdict", |f| f.verdict.into()),
    ("class", |f| f.class.into()),
    ("severity", |f| f.severity.into()),
    ("reason", |f| f.reason.into()),
    ("reasons", |f| f.reasons.join(" ")),
    ("why", |f| f.why.clone()),
    ("source.namespace", |f| text(f.source.namespace.as_ref())),
    ("source.pod", |f| text(f.source.pod.as_ref())),
    ("source.podUid", |f| text(f.source.pod_uid.as_ref())),
    ("source.workload", |f| f.source.workload.as_ref().map_or_else(String::new, |w| format!("{}/{}", w.kind, w.name))),
    ("source.container", |f| text(f.source.container.as_ref())),
    ("source.serviceAccount", |f| text(f.source.service_account.as_ref())),
    ("source.process.pid", |f| text(f.source.process.as_ref().map(|p| p.pid))),
    ("source.process.comm", |f| text(f.source.process.as_ref().map(|p| &p.comm))),
    ("source.process.uid", |f| text(f.source.process.as_ref().map(|p| p.uid))),
    ("source.ip", |f| text(f.source.ip.as_ref())),
    ("source.node", |f| f.source.node.clone()),
    ("source.evidence", |f| f.source.evidence.into()),
    ("destination.ip", |f| f.destination.ip.clone()),
    ("destination.port", |f| f.destination.port.to_string()),
    ("destination.host", |f| text(f.destination.host.as_ref())),
    ("destination.name.source", |f| f.destination.name.source.into()),
    ("destination.name.confidence", |f| f.destination.name.confidence.into()),
    ("protocol", |f| f.protocol.into()),
    ("l7", |f| text(f.l7)),
    ("leg", |f| f.leg.into()),
    ("path", |f| {
        let hop = |h: &super::snapshot::Hop| format!("{} {}", h.role, h.to);
        f.path.iter().map(hop).collect::<Vec<_>>().join(" > ")
    }),
    ("expected.outcome", |f| text(f.expected.as_ref().map(|e| e.outcome))),
    ("expected.cluster", |f| text(f.expected.as_ref().and_then(|e| e.cluster.as_ref()))),
    ("expected.gateway", |f| text(f.expected.as_ref().and_then(|e| e.gateway.as_ref()))),
    ("expected.registration", |f| text(f.expected.as_ref().map(|e| e.registration))),
    ("connections", |f| f.connections.to_string()),
    ("open", |f| f.open.to_string()),
    ("failures", |f| f.failures.to_string()),
    ("bytesSent", |f| f.bytes_sent.to_string()),
    ("bytesReceived", |f| f.bytes_received.to_string()),
    ("rttMicros", |f| text(f.rtt_micros)),
    ("retransmits", |f| f.retransmits.to_string()),
    ("firstSeen", |f| f.first_seen.clone()),
    ("lastSeen", |f| f.last_seen.clone()),
    ("communityId", |f| text(f.community_id.as_ref())),
];

fn text(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |v| v.to_string())
}

/// A cell that a spreadsheet takes for a formula gets an apostrophe in front.
fn harmless(cell: String) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell }
}

/// Header and one row per flow.
pub fn write(document: &Document, out: &mut impl Write) -> csv::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(COLUMNS.iter().map(|(name, _)| *name))?;
    for flow in &document.flows {
        writer.write_record(COLUMNS.iter().map(|(_, cell)| harmless(cell(flow))))?;
    }
    writer.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn formulas_are_defused() {
        assert_eq!(harmless("=cmd|' /C calc'!A0".into()), "'=cmd|' /C calc'!A0");
        assert_eq!(harmless("api.example.com".into()), "api.example.com");
    }
}
