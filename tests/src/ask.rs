//! A mesh written down in a test, and questions to it in the words of `explain --calls`.

use egress_core::manifest;
use egress_core::mesh::{Mesh, MeshOptions};
use egress_tui::cmd::explain;
use serde_json::{Value, json};

/// A mesh that can be asked.
pub struct Asked {
    mesh: Mesh,
}

impl Asked {
    /// Of YAML documents, compiled for the newest release.
    pub fn of(texts: &[&str]) -> Self {
        Self::with(texts, None, &[])
    }

    /// Of YAML documents, compiled as `--istio-version` and `--istiod-env` say.
    ///
    /// # Panics
    /// Where the texts or the options are wrong: the test is.
    #[expect(clippy::panic, reason = "a test that cannot set up must fail")]
    pub fn with(texts: &[&str], version: Option<&str>, env: &[&str]) -> Self {
        let parsed = manifest::parse("test.yaml", &texts.join("\n---\n"));
        assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
        let options = match MeshOptions::parse(version, env.iter().copied()) {
            Ok(options) => options,
            Err(error) => panic!("{error}"),
        };
        let mesh = Mesh::compile(&parsed.objects, &options);
        assert!(mesh.problems().is_empty(), "{:?}", mesh.problems());
        Self { mesh }
    }

    /// The mesh itself.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// One call: `FROM` is namespace/pod, `TO` an address and port, `bytes` an object with any of the other words
    /// (`payload` is `opaque` unless it says otherwise).
    ///
    /// # Panics
    /// Where there is no answer.
    #[expect(clippy::expect_used, reason = "a test that gets no answer must fail")]
    pub fn call(&self, from: &str, to: &str, bytes: &Value) -> Value {
        let mut line = json!({"id": "a", "from": from, "to": to, "payload": "opaque"});
        for (key, value) in bytes.as_object().into_iter().flatten() {
            line[key] = value.clone();
        }
        let mut out = Vec::new();
        explain::run(&self.mesh, line.to_string().as_bytes(), &mut out).expect("memory can be written");
        let answer: Value = serde_json::from_slice(&out).expect("an answer is JSON");
        assert!(answer.get("error").is_none(), "{answer}");
        answer
    }
}

/// The last step: the one that decided the verdict, as `OBJECT FIELD`.
pub fn decided_by(answer: &Value) -> String {
    let last = answer["because"].as_array().and_then(|steps| steps.last()).unwrap_or(&Value::Null);
    let text = |key: &str| last[key].as_str().unwrap_or("-").to_owned();
    format!("{} {}", text("object"), text("field"))
}

/// `VERDICT REASON`.
pub fn verdict(answer: &Value) -> String {
    let text = |key: &str| answer[key].as_str().unwrap_or("-");
    format!("{} {}", text("verdict"), text("reason"))
}
