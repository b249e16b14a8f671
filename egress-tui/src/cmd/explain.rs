//! `explain --mesh DIR --calls FILE -o jsonl`: one answer per line, in order (design §7.1). Conformance to Istio is measured by it,
//! so its spelling is fixed.

use std::borrow::Cow;
use std::io::{BufRead, Write};
use std::net::SocketAddr;

use anyhow::Context as _;
use egress_core::input::Transport;
use egress_core::mesh::{Bytes, Call, CallLeg, Expected, Mesh, Next};
use egress_core::name::printable;
use egress_core::verdict::judge::as_configured;
use egress_core::verdict::{Judgement, Step};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// Every line got its answer.
    All,
    /// Some lines got an error (exit code 5).
    Incomplete,
}

/// A line of `--calls`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Line {
    pub(super) id: Option<Value>,
    pub(super) from: String,
    pub(super) leg: Option<String>,
    pub(super) to: String,
    pub(super) protocol: Option<String>,
    pub(super) payload: Option<String>,
    pub(super) sni: Option<String>,
    pub(super) host: Option<String>,
    pub(super) path: Option<String>,
    pub(super) container: Option<String>,
    pub(super) uid: Option<u32>,
}

/// An answer. The order of the fields is that of the contract.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer<'a> {
    id: &'a Value,
    #[serde(flatten)]
    leg: LegAnswer<'a>,
    registration: &'static str,
    certainty: &'static str,
    alternatives: Vec<&'a str>,
    verdict: &'static str,
    reason: &'static str,
    because: Vec<StepAnswer<'a>>,
}

/// The part that is the same for every leg.
#[derive(Debug, Serialize)]
struct LegAnswer<'a> {
    outcome: &'static str,
    cluster: Option<&'a str>,
    response: Option<u16>,
    gateway: Option<String>,
    next: Option<NextAnswer<'a>>,
    leg2: Option<Box<SecondLeg<'a>>>,
}

#[derive(Debug, Serialize)]
struct SecondLeg<'a> {
    #[serde(flatten)]
    leg: LegAnswer<'a>,
    certainty: &'static str,
    alternatives: Vec<&'a str>,
}

#[derive(Debug, Serialize)]
struct NextAnswer<'a> {
    kind: &'static str,
    host: Option<&'a str>,
    port: Option<u16>,
}

#[derive(Debug, Serialize)]
struct StepAnswer<'a> {
    claim: &'static str,
    outcome: &'static str,
    object: Option<String>,
    field: Option<&'a str>,
    says: Cow<'a, str>,
}

#[derive(Debug, Serialize)]
struct Refusal<'a> {
    id: &'a Value,
    error: String,
}

/// Answers every line of `calls` into `out`.
pub fn run(mesh: &Mesh, calls: impl BufRead, out: &mut impl Write) -> anyhow::Result<Answered> {
    let mut answered = Answered::All;
    for line in calls.split(b'\n') {
        let line = line.context("cannot read the calls")?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if let Err((id, error)) = answer(mesh, &line, out)? {
            answered = Answered::Incomplete;
            serde_json::to_writer(&mut *out, &Refusal { id: &id, error })?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()?;
    Ok(answered)
}

/// The inner error is a line that cannot be answered: its id, and why.
fn answer(mesh: &Mesh, line: &[u8], out: &mut impl Write) -> anyhow::Result<Result<(), (Value, String)>> {
    let text = String::from_utf8_lossy(line);
    let line: Line = match serde_json::from_str(&text) {
        Ok(line) => line,
        Err(error) => {
            let id =
                serde_json::from_str::<Value>(&text).ok().and_then(|v| v.get("id").cloned()).unwrap_or(Value::Null);
            return Ok(Err((id, printable(&error.to_string()))));
        }
    };
    let id = line.id.clone().unwrap_or(Value::Null);
    let call = match call(mesh, &line) {
        Ok(call) => call,
        Err(error) => return Ok(Err((id, error))),
    };
    let expected = mesh.expect(&call);
    let judgement = as_configured(mesh, &call, &expected);
    serde_json::to_writer(&mut *out, &of(&id, &expected, &judgement))?;
    out.write_all(b"\n")?;
    Ok(Ok(()))
}

pub(super) fn call<'a>(mesh: &Mesh, line: &'a Line) -> Result<Call<'a>, String> {
    let (namespace, name) =
        line.from.split_once('/').ok_or_else(|| format!("from: {:?} is not NAMESPACE/POD", line.from))?;
    let pod =
        mesh.pod_by_name(namespace, name).ok_or_else(|| format!("from: there is no pod {}", printable(&line.from)))?;
    let to: SocketAddr = line.to.parse().map_err(|_| format!("to: {:?} is not ADDRESS:PORT", line.to))?;
    let leg = match line.leg.as_deref() {
        None | Some("outbound") => CallLeg::Outbound,
        Some("gateway") => CallLeg::Gateway,
        Some(other) => return Err(format!("leg: {other:?} is none of outbound, gateway")),
    };
    let transport = match line.protocol.as_deref() {
        None | Some("tcp") => Transport::Tcp,
        Some("udp") => Transport::Udp,
        Some(other) => return Err(format!("protocol: {other:?} is none of tcp, udp")),
    };
    let bytes = match line.payload.as_deref() {
        None => Bytes::Unknown,
        Some(word) => Bytes::parse(word)
            .ok_or_else(|| format!("payload: {word:?} is none of tls, http, http2, opaque, unknown"))?,
    };
    Ok(Call {
        pod,
        leg,
        to: SocketAddr::new(to.ip().to_canonical(), to.port()),
        transport,
        bytes,
        sni: line.sni.as_deref(),
        host: line.host.as_deref(),
        path: line.path.as_deref(),
        dns: None,
        container: line.container.as_deref(),
        uid: line.uid,
        gid: None,
        captured: false,
    })
}

pub(super) fn of<'a>(id: &'a Value, expected: &'a Expected, judgement: &'a Judgement) -> Answer<'a> {
    Answer {
        id,
        leg: leg(expected),
        registration: expected.registration.as_str(),
        certainty: expected.certainty.as_str(),
        alternatives: expected.alternatives.iter().map(arcstr::ArcStr::as_str).collect(),
        verdict: judgement.verdict.as_str(),
        reason: judgement.reason().code(),
        because: judgement.chain.iter().map(step).collect(),
    }
}

fn leg(expected: &Expected) -> LegAnswer<'_> {
    LegAnswer {
        outcome: expected.outcome.as_str(),
        cluster: expected.cluster.as_deref(),
        response: expected.response,
        gateway: expected.gateway.as_ref().map(ToString::to_string),
        next: expected.next.as_ref().map(next),
        leg2: expected.leg2.as_deref().map(|second| {
            Box::new(SecondLeg {
                leg: leg(second),
                certainty: second.certainty.as_str(),
                alternatives: second.alternatives.iter().map(arcstr::ArcStr::as_str).collect(),
            })
        }),
    }
}

fn next(next: &Next) -> NextAnswer<'_> {
    NextAnswer { kind: next.kind.as_str(), host: next.host.as_deref(), port: next.port }
}

fn step(step: &Step) -> StepAnswer<'_> {
    StepAnswer {
        claim: step.claim,
        outcome: step.mark.as_str(),
        object: step.object.as_ref().map(ToString::to_string),
        field: step.field.as_deref(),
        says: step.says.text(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use egress_core::manifest;
    use egress_core::mesh::MeshOptions;

    fn mesh() -> Mesh {
        let text = r"
apiVersion: v1
kind: Pod
metadata: {name: sleep, namespace: default, labels: {app: sleep}}
spec: {containers: [{name: app}, {name: istio-proxy, args: [proxy, sidecar]}]}
status: {podIP: 10.1.1.10}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ext, namespace: default}
spec: {hosts: [www.example.com], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}
";
        Mesh::compile(&manifest::parse("m.yaml", text).objects, &MeshOptions::default())
    }

    fn ask(line: &str) -> (Vec<Value>, Answered) {
        let mut out = Vec::new();
        let answered = run(&mesh(), line.as_bytes(), &mut out).expect("memory can be written");
        let lines = String::from_utf8(out).expect("JSON is UTF-8");
        (lines.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect(), answered)
    }

    #[test]
    fn the_answer_has_the_keys_of_the_contract_in_its_order() {
        let call = r#"{"id":"a1","from":"default/sleep","leg":"outbound","to":"93.184.216.34:443","protocol":"tcp","payload":"tls","sni":"www.example.com","host":null,"path":null,"container":null,"uid":null}"#;
        let (answers, answered) = ask(call);
        let keys: Vec<_> = answers[0].as_object().expect("an object").keys().map(String::as_str).collect();
        let want = [
            "id",
            "outcome",
            "cluster",
            "response",
            "gateway",
            "next",
            "leg2",
            "registration",
            "certainty",
            "alternatives",
            "verdict",
            "reason",
            "because",
        ];
        assert_eq!(keys, want);
        assert_eq!(answered, Answered::All);
        assert_eq!(answers[0]["outcome"], "direct");
        assert_eq!(answers[0]["cluster"], "outbound|443||www.example.com");
        assert_eq!(answers[0]["next"], serde_json::json!({"kind": "dns", "host": "www.example.com", "port": 443}));
        assert_eq!(answers[0]["registration"], "visible");
        assert_eq!(answers[0]["verdict"], "registered-direct");
    }

    #[test]
    fn lines_that_cannot_be_answered_say_why_and_the_others_are_answered() {
        let lines = concat!(
            "{\"id\":1,\"from\":\"default/none\",\"to\":\"1.1.1.1:1\",\"payload\":\"tls\"}\n",
            "\n",
            "not json\n",
            "{\"id\":\"p\",\"from\":\"default/sleep\",\"to\":\"1.1.1.1:1\",\"payload\":\"quic\"}\n",
            "{\"id\":\"l\",\"from\":\"default/sleep\",\"leg\":\"inbound\",\"to\":\"1.1.1.1:1\",\"payload\":\"tls\"}\n",
            "{\"id\":\"ok\",\"from\":\"default/sleep\",\"to\":\"1.1.1.1:1\",\"payload\":\"opaque\"}\n",
        );
        let (answers, answered) = ask(lines);
        assert_eq!(answered, Answered::Incomplete);
        let errors: Vec<_> = answers.iter().map(|a| a.get("error").and_then(Value::as_str).unwrap_or("")).collect();
        assert!(errors[0].contains("no pod default/none") && !errors[1].is_empty(), "{errors:?}");
        assert!(
            errors[2].contains("tls, http, http2, opaque, unknown") && errors[3].contains("outbound, gateway"),
            "{errors:?}"
        );
        assert_eq!(
            (answers[0]["id"].as_u64(), answers[1]["id"].is_null(), answers[4]["outcome"].as_str()),
            (Some(1), true, Some("passthrough"))
        );
    }
}
