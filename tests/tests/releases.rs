//! Behaviour that depends on the release and on istiod's environment (semantics §1.3): every row changes an answer.

use egress_core::mesh::Rules;
use egress_tests::ask::Asked;
use serde_json::{Value, json};

const SLEEP: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: sleep, namespace: default, labels: {app: sleep}}
spec: {containers: [{name: app}, {name: istio-proxy, args: [proxy, sidecar]}]}
status: {phase: Running, podIP: 10.1.1.10}
";

/// A row: what differs, the objects, the call, the two sides (release, environment) and what each of them answers.
struct Row {
    switch: &'static str,
    mesh: &'static str,
    call: (&'static str, &'static str, Value),
    field: &'static str,
    old: (&'static str, &'static [&'static str], Value),
    new: (&'static str, &'static [&'static str], Value),
}

const TWO_NAMESPACES: &str = r"
apiVersion: v1
kind: Service
metadata: {name: db, namespace: prod, creationTimestamp: '2024-01-05T00:00:00Z'}
spec: {clusterIP: 10.96.0.7, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-x, namespace: prod, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.1.2.2], conditions: {ready: true}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db, namespace: aaa, creationTimestamp: '2024-01-01T00:00:00Z'}
spec: {hosts: [db.prod.svc.cluster.local], ports: [{number: 8081, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 198.51.100.9}]}
";

fn rows() -> Vec<Row> {
    let tls = |sni: &str| json!({"payload": "tls", "sni": sni});
    let http = |host: &str| json!({"payload": "http", "host": host, "path": "/"});
    vec![
        Row {
            switch: "external_name_alias",
            mesh: "apiVersion: v1\nkind: Service\nmetadata: {name: ext, namespace: default}\nspec: {type: ExternalName, externalName: www.example.com, ports: [{name: http, port: 80}]}",
            call: ("default/sleep", "198.51.100.1:80", http("ext.default.svc.cluster.local")),
            field: "cluster",
            old: ("1.20", &[], json!("outbound|80||ext.default.svc.cluster.local")),
            new: ("1.21", &[], json!("PassthroughCluster")),
        },
        Row {
            switch: "ip_autoallocate",
            mesh: "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: db, namespace: default}\nspec: {hosts: [db.example], ports: [{number: 3306, name: tcp, protocol: TCP}], resolution: DNS}\nstatus: {addresses: [{value: 240.240.0.5, host: db.example}]}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: 'defaultConfig: {proxyMetadata: {ISTIO_META_DNS_CAPTURE: \"true\"}}'}",
            call: ("default/sleep", "8.8.8.8:3306", json!({})),
            field: "cluster",
            old: ("1.24", &[], json!("outbound|3306||db.example")),
            new: ("1.25", &[], json!("PassthroughCluster")),
        },
        Row {
            switch: "unified_scope",
            mesh: TWO_NAMESPACES,
            call: ("default/sleep", "198.51.100.1:80", http("db.prod.svc.cluster.local")),
            field: "outcome",
            old: ("1.23", &[], json!("passthrough")),
            new: ("1.24", &[], json!("in-mesh")),
        },
        Row {
            switch: "ambient_dns_capture",
            mesh: "apiVersion: v1\nkind: Pod\nmetadata: {name: amb, namespace: default, annotations: {ambient.istio.io/redirection: enabled}}\nspec: {containers: [{name: app}]}\nstatus: {phase: Running, podIP: 10.1.1.20}",
            call: ("default/amb", "9.9.9.9:53", json!({"protocol": "udp", "payload": "unknown"})),
            field: "outcome",
            old: ("1.24", &[], json!("not-captured")),
            new: ("1.25", &[], json!("not-applicable")),
        },
        Row {
            switch: "absolute_names",
            mesh: "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: web, namespace: default}\nspec: {hosts: [www.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}",
            call: ("default/sleep", "198.51.100.1:80", http("www.example.com.")),
            field: "cluster",
            old: ("1.25", &[], json!("PassthroughCluster")),
            new: ("1.26", &[], json!("outbound|80||www.example.com")),
        },
        Row {
            switch: "pick_best_namespace",
            mesh: PICKED,
            call: ("default/sleep", "198.51.100.1:80", http("www.example.com")),
            field: "next",
            old: ("1.29", &[], json!({"kind": "static", "host": "proxy.example", "port": 81})),
            new: ("1.30", &[], json!({"kind": "static", "host": "proxy.example", "port": 80})),
        },
        Row {
            switch: "dynamic_dns",
            mesh: "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: wild, namespace: default}\nspec: {hosts: ['*.example.com'], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DYNAMIC_DNS}",
            call: ("default/sleep", "198.51.100.1:443", tls("a.example.com")),
            field: "cluster",
            old: ("1.29", &[], json!("PassthroughCluster")),
            new: ("1.30", &[], json!("outbound|443||*.example.com")),
        },
        Row {
            switch: "host_exclusion",
            mesh: "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: web, namespace: ext}\nspec: {hosts: [www.example.com], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}\n---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: default, namespace: default}\nspec: {egress: [{hosts: ['*/*', '~ext/*']}]}",
            call: ("default/sleep", "198.51.100.1:443", tls("www.example.com")),
            field: "verdict",
            old: ("1.30", &[], json!("registered-direct")),
            new: ("1.31", &[], json!("not-visible")),
        },
        Row {
            switch: "dynamic_policy",
            mesh: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: 'outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}'}",
            call: ("default/sleep", "198.51.100.1:8081", http("foo.example")),
            field: "outcome",
            old: ("1.30", &[], json!("passthrough")),
            new: ("1.31", &[], json!("dynamic")),
        },
        Row {
            switch: "entry_visibility",
            mesh: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: 'serviceEntryVisibility: {default: NAMESPACE, applyToSidecars: true}'}\n---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: web, namespace: ext}\nspec: {hosts: [www.example.com], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}",
            call: ("default/sleep", "198.51.100.1:443", tls("www.example.com")),
            field: "verdict",
            old: ("1.30", &[], json!("registered-direct")),
            new: ("1.31", &[], json!("not-visible")),
        },
        Row {
            switch: "merge_rules_by_export",
            mesh: MERGED,
            call: ("default/sleep", "198.51.100.1:80", http("www.example.com")),
            field: "outcome",
            old: ("1.17", &[], json!("direct")),
            new: ("1.18", &[], json!("broken")),
        },
        Row {
            switch: "scope_gateways",
            mesh: GATEWAY,
            call: (
                "istio-system/egw",
                "10.1.9.9:8080",
                json!({"leg": "gateway", "payload": "http", "host": "www.example.com"}),
            ),
            field: "outcome",
            old: ("1.31", &[], json!("direct")),
            new: ("1.31", &["PILOT_SCOPE_GATEWAY_TO_NAMESPACE=true"], json!("broken")),
        },
        Row {
            switch: "strict_gateways",
            mesh: MANAGED,
            call: (
                "gw/egress-istio-1",
                "10.1.9.9:8080",
                json!({"leg": "gateway", "payload": "http", "host": "www.example.com"}),
            ),
            field: "outcome",
            old: ("1.30", &[], json!("direct")),
            new: ("1.31", &[], json!("broken")),
        },
    ]
}

const PICKED: &str = r"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: default}
spec: {hosts: [www.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: proxy, namespace: aaa, creationTimestamp: '2024-01-05T00:00:00Z'}
spec: {hosts: [proxy.example], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 81}], resolution: STATIC, endpoints: [{address: 198.51.100.5}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: proxy, namespace: zzz, creationTimestamp: '2024-01-01T00:00:00Z'}
spec: {hosts: [proxy.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 198.51.100.6}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: default}
spec: {hosts: [www.example.com], http: [{route: [{destination: {host: proxy.example, port: {number: 80}}}]}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: default}
spec: {egress: [{hosts: ['./*']}]}
";

const MERGED: &str = r"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: default}
spec: {hosts: [www.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a, namespace: default, creationTimestamp: '2024-01-01T00:00:00Z'}
spec: {host: www.example.com, exportTo: ['*'], subsets: [{name: v2}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: b, namespace: default, creationTimestamp: '2024-01-02T00:00:00Z'}
spec: {host: www.example.com, exportTo: ['other', '.']}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: default}
spec: {hosts: [www.example.com], http: [{route: [{destination: {host: www.example.com, subset: v2}}]}]}
";

const GATEWAY: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: egw, namespace: istio-system, labels: {istio: egressgateway}}
spec: {containers: [{name: istio-proxy, args: [proxy, router]}]}
status: {phase: Running, podIP: 10.1.9.9}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: default}
spec: {hosts: [www.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: egress, namespace: default}
spec: {selector: {istio: egressgateway}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: default}
spec: {hosts: [www.example.com], gateways: [egress], http: [{route: [{destination: {host: www.example.com, port: {number: 80}}}]}]}
";

const MANAGED: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: egress-istio-1, namespace: gw, labels: {istio: egressgateway, gateway.networking.k8s.io/gateway-name: egress}}
spec: {containers: [{name: istio-proxy, args: [proxy, router]}]}
status: {phase: Running, podIP: 10.1.9.9}
---
apiVersion: v1
kind: Service
metadata: {name: egress-istio, namespace: gw}
spec: {clusterIP: 10.96.0.9, selector: {gateway.networking.k8s.io/gateway-name: egress}, ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: egress, namespace: gw}
spec: {gatewayClassName: istio, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: default}
spec: {hosts: [www.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: egress, namespace: default}
spec: {selector: {istio: egressgateway}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: default}
spec: {hosts: [www.example.com], gateways: [egress], http: [{route: [{destination: {host: www.example.com, port: {number: 80}}}]}]}
";

#[test]
fn every_row_changes_an_answer() {
    for Row { switch, mesh, call: (from, to, bytes), field, old, new } in rows() {
        for (version, env, want) in [old, new] {
            let answer = Asked::with(&[SLEEP, mesh], Some(version), env).call(from, to, &bytes);
            assert_eq!(answer[field], want, "{switch} in {version} {env:?}: {answer}");
        }
    }
}

#[test]
fn every_switch_of_istiod_can_be_turned_against_its_release() {
    // what a release turned on can be turned off again, and answers as before it
    for Row { switch, mesh, call: (from, to, bytes), field, old, new } in rows() {
        let variable = match switch {
            "external_name_alias" => "ENABLE_EXTERNAL_NAME_ALIAS",
            "ip_autoallocate" => "PILOT_ENABLE_IP_AUTOALLOCATE",
            "unified_scope" => "PILOT_UNIFIED_SIDECAR_SCOPE",
            "pick_best_namespace" => "PILOT_SIDECAR_PICK_BEST_SERVICE_NAMESPACE",
            "strict_gateways" => "PILOT_ENABLE_STRICT_GATEWAY_MERGING",
            "absolute_names" => "PILOT_ENABLE_ABSOLUTE_FQDN_VHOST_DOMAIN",
            "merge_rules_by_export" => "ENABLE_ENHANCED_DESTINATIONRULE_MERGE",
            _ => continue,
        };
        assert!(Rules::SWITCHES.contains(&variable));
        let off = format!("{variable}=false");
        let answer = Asked::with(&[SLEEP, mesh], Some(new.0), &[&off]).call(from, to, &bytes);
        assert_eq!(answer[field], old.2, "{off}");
    }
}
