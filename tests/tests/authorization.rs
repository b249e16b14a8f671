//! AuthorizationPolicy at the egress gateway, and EnvoyFilter (semantics §5.4; Istio: `pilot/pkg/security/authz`).
#![expect(clippy::unwrap_used, reason = "a test that cannot set up must fail")]

use egress_tests::ask::{Asked, decided_by, verdict};
use serde_json::{Value, json};

/// Three external hosts behind one gateway: plaintext HTTP, HTTP wrapped in mTLS, TCP and TLS passthrough.
const MESH: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: sleep, namespace: default, labels: {app: sleep, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: sleeper, containers: [{name: app}, {name: istio-proxy, image: "example/proxyv2:1.31.2", args: [proxy, sidecar]}]}
status: {phase: Running, podIP: 10.1.1.10}
---
apiVersion: v1
kind: Pod
metadata: {name: egw-1, namespace: istio-system, labels: {istio: egressgateway}}
spec: {serviceAccountName: egw, containers: [{name: istio-proxy, args: [proxy, router]}]}
status: {phase: Running, podIP: 10.1.9.9}
---
apiVersion: v1
kind: Service
metadata: {name: egw, namespace: istio-system}
spec: {clusterIP: 10.96.0.50, selector: {istio: egressgateway}, ports: [{name: http, port: 80, targetPort: 8080}, {name: https, port: 443, targetPort: 8443}, {name: tls, port: 444, targetPort: 8444}, {name: tcp, port: 5432, targetPort: 15432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: egw-x, namespace: istio-system, labels: {kubernetes.io/service-name: egw}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: https, port: 8443}, {name: tls, port: 8444}, {name: tcp, port: 15432}]
endpoints: [{addresses: [10.1.9.9], conditions: {ready: true}, targetRef: {kind: Pod, name: egw-1, namespace: istio-system}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ext, namespace: default}
spec:
  hosts: [plain.example, mutual.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db, namespace: default}
spec: {hosts: [db.example], ports: [{number: 5432, name: tcp, protocol: TCP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: tls, namespace: default}
spec: {hosts: [tls.example], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: egress, namespace: istio-system}
spec:
  selector: {istio: egressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [plain.example]}
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [mutual.example], tls: {mode: ISTIO_MUTUAL}}
  - {port: {number: 444, name: tls, protocol: TLS}, hosts: [tls.example], tls: {mode: PASSTHROUGH}}
  - {port: {number: 5432, name: tcp, protocol: TCP}, hosts: [db.example]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: egw, namespace: istio-system}
spec:
  host: egw.istio-system.svc.cluster.local
  subsets: [{name: mutual, trafficPolicy: {tls: {mode: ISTIO_MUTUAL, sni: mutual.example}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: plain, namespace: istio-system}
spec:
  hosts: [plain.example]
  gateways: [mesh, egress]
  http:
  - {match: [{gateways: [mesh], port: 80}], route: [{destination: {host: egw.istio-system.svc.cluster.local, port: {number: 80}}}]}
  - {match: [{gateways: [egress], port: 80}], route: [{destination: {host: plain.example, port: {number: 80}}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mutual, namespace: istio-system}
spec:
  hosts: [mutual.example]
  gateways: [mesh, egress]
  http:
  - {match: [{gateways: [mesh], port: 80}], route: [{destination: {host: egw.istio-system.svc.cluster.local, subset: mutual, port: {number: 443}}}]}
  - {match: [{gateways: [egress], port: 443}], route: [{destination: {host: mutual.example, port: {number: 80}}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: rest, namespace: istio-system}
spec:
  hosts: [db.example, tls.example]
  gateways: [mesh, egress]
  tls:
  - {match: [{gateways: [mesh], port: 443, sniHosts: [tls.example]}], route: [{destination: {host: egw.istio-system.svc.cluster.local, port: {number: 444}}}]}
  - {match: [{gateways: [egress], port: 444, sniHosts: [tls.example]}], route: [{destination: {host: tls.example, port: {number: 443}}}]}
  tcp:
  - {match: [{gateways: [mesh], port: 5432}], route: [{destination: {host: egw.istio-system.svc.cluster.local, port: {number: 5432}}}]}
  - {match: [{gateways: [egress], port: 5432}], route: [{destination: {host: db.example, port: {number: 5432}}}]}
"#;

/// A policy of the gateway's namespace for the gateway's pods.
fn policy(action: &str, rules: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: istio-system}}\n\
         spec: {{selector: {{matchLabels: {{istio: egressgateway}}}}, action: {action}, rules: {rules}}}"
    )
}

fn with(policies: &[&str]) -> Asked {
    let mut texts = vec![MESH];
    texts.extend(policies);
    Asked::of(&texts)
}

fn plain(mesh: &Asked) -> Value {
    mesh.call(
        "default/sleep",
        "198.51.100.1:80",
        &json!({"payload": "http", "host": "plain.example", "path": "/a/b?x=1"}),
    )
}

fn mutual(mesh: &Asked) -> Value {
    mesh.call("default/sleep", "198.51.100.1:80", &json!({"payload": "http", "host": "mutual.example", "path": "/"}))
}

fn tls(mesh: &Asked) -> Value {
    mesh.call("default/sleep", "198.51.100.1:443", &json!({"payload": "tls", "sni": "tls.example"}))
}

fn tcp(mesh: &Asked) -> Value {
    mesh.call("default/sleep", "198.51.100.1:5432", &json!({"payload": "opaque"}))
}

const STOPPED: &str = "blocked AUTHORIZATION_POLICY";
const PASSES: &str = "via-gateway ROUTED_VIA_GATEWAY";
const OPEN: &str = "conditional AUTHORIZATION_POLICY";

/// The verdict on the call with one policy.
fn of(ask: fn(&Asked) -> Value, action: &str, rules: &str) -> String {
    verdict(&ask(&with(&[&policy(action, rules)])))
}

#[test]
fn without_a_policy_everything_passes() {
    let mesh = with(&[]);
    for ask in [plain, mutual, tls, tcp] {
        assert_eq!(verdict(&ask(&mesh)), PASSES, "{}", ask(&mesh));
    }
}

#[test]
fn a_denial_names_policy_and_rule_and_the_gateway_is_still_reached() {
    let rules = "[{to: [{operation: {hosts: [other.example]}}]}, {to: [{operation: {hosts: [plain.example]}}]}]";
    let answer = plain(&with(&[&policy("DENY", rules)]));
    assert_eq!(verdict(&answer), STOPPED);
    assert_eq!(decided_by(&answer), "AuthorizationPolicy istio-system/p .spec.rules[1]");
    assert_eq!((&answer["outcome"], &answer["leg2"]["outcome"]), (&json!("via-gateway"), &json!("blocked")));
    assert_eq!(answer["leg2"]["response"], 403);
    assert_eq!(answer["gateway"], "istio-system/egw");
}

#[test]
fn of_several_actions_a_denial_wins_and_what_nothing_allows_is_denied() {
    assert_eq!(of(plain, "ALLOW", "[{to: [{operation: {hosts: ['*.example']}}]}]"), PASSES);
    assert_eq!(of(plain, "ALLOW", "[{}]"), PASSES);
    assert_eq!(of(plain, "ALLOW", "[]"), STOPPED);
    assert_eq!(of(plain, "DENY", "[]"), PASSES);
    assert_eq!(of(plain, "AUDIT", "[{}]"), PASSES);
    let (allow, deny) = (policy("ALLOW", "[{}]"), policy("DENY", "[{}]").replace("name: p", "name: q"));
    let answer = plain(&with(&[&allow, &deny]));
    assert_eq!(decided_by(&answer), "AuthorizationPolicy istio-system/q .spec.rules[0]");
}

#[test]
fn what_no_rule_allows_names_the_one_condition_that_fails() {
    let rules = "[{to: [{operation: {hosts: [plain.example], ports: ['80']}}]}]";
    let answer = plain(&with(&[&policy("ALLOW", rules)]));
    assert_eq!(verdict(&answer), STOPPED);
    assert_eq!(decided_by(&answer), "AuthorizationPolicy istio-system/p .spec.rules[0].to[0].operation.ports");
    let says = answer["because"].as_array().unwrap().last().unwrap()["says"].as_str().unwrap();
    assert!(says.contains("8080"), "ports are those of the gateway's pod: {says}");
}

#[test]
fn ports_are_those_on_which_the_pod_listens() {
    assert_eq!(of(tcp, "DENY", "[{to: [{operation: {ports: ['5432']}}]}]"), PASSES);
    assert_eq!(of(tcp, "DENY", "[{to: [{operation: {ports: ['15432']}}]}]"), STOPPED);
    assert_eq!(of(tcp, "DENY", "[{to: [{operation: {notPorts: ['15432']}}]}]"), PASSES);
    assert_eq!(of(tcp, "DENY", "[{when: [{key: destination.port, values: ['15432']}]}]"), STOPPED);
    assert_eq!(of(tcp, "DENY", "[{when: [{key: destination.ip, values: [10.1.9.0/24]}]}]"), STOPPED);
}

#[test]
fn the_caller_has_a_name_only_where_it_comes_with_mtls_of_the_mesh() {
    for who in [
        "{namespaces: [default]}",
        "{namespaces: ['def*']}",
        "{principals: [cluster.local/ns/default/sa/sleeper]}",
        "{principals: ['*/sa/sleeper']}",
        "{serviceAccounts: [default/sleeper]}",
        "{trustDomains: [cluster.local]}",
    ] {
        let rules = format!("[{{from: [{{source: {who}}}]}}]");
        assert_eq!(of(mutual, "ALLOW", &rules), PASSES, "{who}");
        assert_eq!(of(mutual, "DENY", &rules), STOPPED, "{who}");
        // over plaintext nobody is anybody: nothing is allowed, and a denial of somebody does not hold
        assert_eq!(of(plain, "ALLOW", &rules), STOPPED, "{who}");
        assert_eq!(of(plain, "DENY", &rules), PASSES, "{who}");
        // nor where the gateway passes TLS through
        assert_eq!(of(tls, "ALLOW", &rules), STOPPED, "{who}");
    }
    assert_eq!(of(mutual, "DENY", "[{from: [{source: {notNamespaces: [default]}}]}]"), PASSES);
    assert_eq!(of(plain, "DENY", "[{from: [{source: {notNamespaces: [default]}}]}]"), STOPPED);
    assert_eq!(of(mutual, "ALLOW", "[{from: [{source: {serviceAccounts: [sleeper]}}]}]"), STOPPED);
    assert_eq!(of(mutual, "ALLOW", "[{from: [{source: {principals: [cluster.local/ns/other/sa/sleeper]}}]}]"), STOPPED);
}

#[test]
fn principals_of_the_old_trust_domain_still_count() {
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
                  data: {mesh: 'trustDomain: new.example\n\n    trustDomainAliases: [old.example]\n\n    '}";
    let rules = |td: &str| format!("[{{from: [{{source: {{principals: [{td}/ns/default/sa/sleeper]}}}}]}}]");
    let of = |td: &str| verdict(&mutual(&with(&[config, &policy("ALLOW", &rules(td))])));
    assert_eq!((of("new.example"), of("old.example")), (PASSES.to_owned(), PASSES.to_owned()));
    assert_eq!((of("cluster.local"), of("other.example")), (PASSES.to_owned(), STOPPED.to_owned()));
}

#[test]
fn addresses_are_those_of_the_proxy_that_connects() {
    assert_eq!(of(plain, "DENY", "[{from: [{source: {ipBlocks: [10.1.1.0/24]}}]}]"), STOPPED);
    assert_eq!(of(plain, "DENY", "[{from: [{source: {notIpBlocks: [10.1.1.10]}}]}]"), PASSES);
    assert_eq!(of(tcp, "ALLOW", "[{from: [{source: {remoteIpBlocks: [10.1.1.0/24]}}]}]"), PASSES);
}

#[test]
fn server_names_are_those_that_the_gateway_sees() {
    let rules = "[{when: [{key: connection.sni, values: ['*.example']}]}]";
    assert_eq!(of(tls, "ALLOW", rules), PASSES);
    assert_eq!(of(tls, "ALLOW", "[{when: [{key: connection.sni, values: [other.example]}]}]"), STOPPED);
    // of mTLS to the gateway: the name that the DestinationRule sends
    assert_eq!(of(mutual, "ALLOW", "[{when: [{key: connection.sni, values: [mutual.example]}]}]"), PASSES);
    assert_eq!(of(plain, "ALLOW", rules), STOPPED);
}

#[test]
fn paths_are_matched_without_the_query_and_unknown_ones_are_not_guessed() {
    assert_eq!(of(plain, "DENY", "[{to: [{operation: {paths: [/a/b]}}]}]"), STOPPED);
    assert_eq!(of(plain, "DENY", "[{to: [{operation: {paths: ['/a*']}}]}]"), STOPPED);
    assert_eq!(of(plain, "DENY", "[{to: [{operation: {paths: ['/{*}/b']}}]}]"), STOPPED);
    assert_eq!(of(plain, "DENY", "[{to: [{operation: {paths: [/b]}}]}]"), PASSES);
    let mesh = with(&[&policy("DENY", "[{to: [{operation: {paths: [/admin]}}]}]")]);
    let answer = mesh.call("default/sleep", "198.51.100.1:80", &json!({"payload": "http", "host": "plain.example"}));
    assert_eq!(verdict(&answer), OPEN);
    assert_eq!(decided_by(&answer), "AuthorizationPolicy istio-system/p .spec.rules[0].to[0].operation.paths");
    assert_eq!((&answer["certainty"], &answer["outcome"]), (&json!("needs-l7"), &json!("via-gateway")));
}

#[test]
fn methods_headers_and_tokens_are_not_known() {
    for rule in [
        "{to: [{operation: {methods: [POST]}}]}",
        "{when: [{key: 'request.headers[x-team]', values: [a]}]}",
        "{when: [{key: 'request.auth.claims[iss]', values: [a]}]}",
        "{from: [{source: {requestPrincipals: ['*']}}]}",
    ] {
        assert_eq!(of(plain, "DENY", &format!("[{rule}]")), OPEN, "{rule}");
        assert_eq!(of(plain, "ALLOW", &format!("[{rule}]")), OPEN, "{rule}");
    }
    assert_eq!(of(plain, "ALLOW", "[{to: [{operation: {methods: ['*']}}]}]"), PASSES);
    // what else fails decides, whatever the method
    assert_eq!(of(plain, "DENY", "[{to: [{operation: {methods: [POST], hosts: [other.example]}}]}]"), PASSES);
}

#[test]
fn on_bytes_that_are_no_http_a_permission_shrinks_and_a_denial_grows() {
    let rules = "[{to: [{operation: {methods: [GET], ports: ['15432']}}]}]";
    assert_eq!(of(tcp, "DENY", rules), STOPPED);
    let answer = tcp(&with(&[&policy("ALLOW", rules)]));
    assert_eq!(verdict(&answer), STOPPED);
    assert_eq!(decided_by(&answer), "AuthorizationPolicy istio-system/p .spec.rules[0].to[0].operation.methods");
    assert_eq!(answer["leg2"]["response"], Value::Null);
    assert_eq!(of(tcp, "DENY", "[{to: [{operation: {methods: [GET], ports: ['1']}}]}]"), PASSES);
    assert_eq!(of(tcp, "DENY", "[{to: [{operation: {hosts: [other.example]}}]}]"), STOPPED);
}

#[test]
fn what_istiod_cannot_read_shrinks_a_permission_and_is_left_out_of_a_denial() {
    assert_eq!(of(plain, "ALLOW", "[{when: [{key: no.such.key, values: [a]}]}]"), STOPPED);
    assert_eq!(of(plain, "DENY", "[{when: [{key: no.such.key, values: [a]}]}]"), PASSES);
    assert_eq!(of(plain, "ALLOW", "[{to: [{operation: {ports: [http, '8080']}}]}]"), STOPPED);
    assert_eq!(of(plain, "DENY", "[{to: [{operation: {ports: [http, '8080']}}]}]"), STOPPED);
    assert_eq!(of(plain, "DENY", "[{to: [{operation: {ports: [http]}}]}]"), STOPPED);
}

#[test]
fn an_authorizer_outside_decides_what_is_not_known_here() {
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
                  data: {mesh: 'extensionProviders: [{name: opa, envoyExtAuthzGrpc: {service: opa.default.svc, port: 9191}}, {name: web, envoyExtAuthzHttp: {service: web.default.svc, port: 80}}]'}";
    let custom = |provider: &str, rules: &str| {
        policy("CUSTOM", rules).replace("action: CUSTOM", &format!("action: CUSTOM, provider: {{name: {provider}}}"))
    };
    let of = |ask: fn(&Asked) -> Value, p: &str| verdict(&ask(&with(&[config, p])));
    let asked = custom("opa", "[{to: [{operation: {hosts: [plain.example]}}]}]");
    assert_eq!(of(plain, &asked), "unknown AUTHORIZATION_POLICY");
    assert_eq!(decided_by(&plain(&with(&[config, &asked]))), "AuthorizationPolicy istio-system/p .spec.rules[0]");
    assert_eq!(of(mutual, &asked), PASSES);
    // one that speaks HTTP only is not asked about TCP
    assert_eq!(of(tcp, &custom("web", "[{}]")), PASSES);
    assert_eq!(of(tcp, &custom("opa", "[{}]")), "unknown AUTHORIZATION_POLICY");
    // one that the mesh does not define denies
    assert_eq!(of(plain, &custom("none", "[{}]")), STOPPED);
}

#[test]
fn policies_of_other_pods_and_namespaces_and_dry_runs_do_not_count() {
    let deny = policy("DENY", "[{}]");
    let of = |p: &str| verdict(&plain(&with(&[p])));
    assert_eq!(of(&deny), STOPPED);
    assert_eq!(of(&deny.replace("istio: egressgateway", "istio: other")), PASSES);
    assert_eq!(of(&deny.replace("namespace: istio-system", "namespace: default")), PASSES);
    assert_eq!(of(&deny.replace("name: p,", "name: p, annotations: {istio.io/dry-run: 'true'},")), PASSES);
    let all = deny.replace("selector: {matchLabels: {istio: egressgateway}}, ", "");
    assert_eq!(of(&all), STOPPED);
    // the calling pod's own policies are about what comes in
    let own = all.replace("namespace: istio-system", "namespace: default");
    assert_eq!(of(&own), PASSES);
    // a targetRef is for gateways of the Gateway API
    let target = "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: egw}]";
    assert_eq!(of(&deny.replace("selector: {matchLabels: {istio: egressgateway}}", target)), PASSES);
}

#[test]
fn policies_of_a_gateway_api_gateway_select_it_by_name_or_by_labels() {
    let target = "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: NAME}]";
    let deny = policy("DENY", "[{}]").replace("selector: {matchLabels: {istio: egressgateway}}", target);
    let mesh = MESH.replace(
        "labels: {istio: egressgateway}",
        "labels: {istio: egressgateway, gateway.networking.k8s.io/gateway-name: egw}",
    );
    let of = |policy: &str, env: &[&str]| verdict(&plain(&Asked::with(&[&mesh, policy], None, env)));
    assert_eq!(of(&deny.replace("NAME", "egw"), &[]), STOPPED);
    assert_eq!(of(&deny.replace("NAME", "other"), &[]), PASSES);
    let by_labels = policy("DENY", "[{}]");
    assert_eq!(of(&by_labels, &[]), STOPPED);
    assert_eq!(of(&by_labels, &["ENABLE_SELECTOR_BASED_K8S_GATEWAY_POLICY=false"]), PASSES);
}

#[test]
fn at_the_gateway_itself_an_unknown_caller_leaves_it_open() {
    let call = |rules: &str| {
        let mesh = with(&[&policy("DENY", rules)]);
        let bytes = json!({"leg": "gateway", "payload": "http", "host": "plain.example", "path": "/"});
        verdict(&mesh.call("istio-system/egw-1", "10.1.9.9:8080", &bytes))
    };
    assert_eq!(call("[{from: [{source: {ipBlocks: [10.1.1.0/24]}}]}]"), OPEN);
    assert_eq!(call("[{}]"), STOPPED);
    assert_eq!(call("[{from: [{source: {namespaces: [default]}}]}]"), "gateway-leg GATEWAY_ROUTE");
}

/// An EnvoyFilter of the root namespace with one patch.
fn filter(context: &str, apply_to: &str, more: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: f, namespace: istio-system}}\n\
         spec: {{configPatches: [{{applyTo: {apply_to}, match: {{context: {context}{more}}}, patch: {{operation: MERGE, value: {{}}}}}}]}}"
    )
}

fn tainted(ask: fn(&Asked) -> Value, filter: &str) -> bool {
    let answer = ask(&with(&[filter]));
    let named = answer["because"].as_array().unwrap().iter().any(|s| {
        (s["object"] == "EnvoyFilter istio-system/f" || s["object"] == "EnvoyFilter default/f")
            && s["field"] == ".spec.configPatches[0]"
    });
    assert_eq!(named, answer["certainty"] == "envoyfilter-tainted", "{answer}");
    assert_eq!(verdict(&answer), PASSES, "what the objects say stands, with the doubt beside it");
    named
}

#[test]
fn an_envoyfilter_taints_what_its_context_can_touch() {
    assert!(tainted(plain, &filter("SIDECAR_OUTBOUND", "HTTP_FILTER", "")));
    assert!(tainted(plain, &filter("ANY", "CLUSTER", "")));
    assert!(tainted(plain, &filter("GATEWAY", "NETWORK_FILTER", "")), "the gateway's leg counts too");
    assert!(!tainted(plain, &filter("SIDECAR_INBOUND", "HTTP_FILTER", "")));
    assert!(!tainted(plain, &filter("ANY", "BOOTSTRAP", "")));
}

#[test]
fn an_envoyfilter_taints_the_pods_that_it_is_for() {
    let of = |namespace: &str, selector: &str| {
        let text = filter("SIDECAR_OUTBOUND", "LISTENER", "")
            .replace("namespace: istio-system", &format!("namespace: {namespace}"));
        tainted(plain, &text.replace("spec: {", &format!("spec: {{{selector}")))
    };
    assert!(of("default", ""));
    assert!(
        !with(&[&filter("SIDECAR_OUTBOUND", "LISTENER", "").replace("namespace: istio-system", "namespace: other")])
            .call("default/sleep", "198.51.100.1:5432", &json!({}))["certainty"]
            .as_str()
            .unwrap()
            .contains("envoyfilter")
    );
    assert!(of("default", "workloadSelector: {labels: {app: sleep}}, "));
    assert!(!of("default", "workloadSelector: {labels: {app: other}}, "));
    assert!(!of("default", "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: x}], "));
}

#[test]
fn an_envoyfilter_for_another_port_cluster_or_release_does_not_taint() {
    let of = |ask: fn(&Asked) -> Value, what: &str, more: &str| tainted(ask, &filter("SIDECAR_OUTBOUND", what, more));
    assert!(of(tcp, "NETWORK_FILTER", ", listener: {portNumber: 5432}"));
    assert!(!of(tcp, "NETWORK_FILTER", ", listener: {portNumber: 443}"));
    assert!(!of(plain, "VIRTUAL_HOST", ", routeConfiguration: {portNumber: 8080}"));
    assert!(of(plain, "CLUSTER", ", cluster: {service: egw.istio-system.svc.cluster.local}"));
    assert!(!of(plain, "CLUSTER", ", cluster: {service: other.example}"));
    assert!(!of(plain, "CLUSTER", ", cluster: {portNumber: 443}"));
    assert!(of(plain, "LISTENER", r", proxy: {proxyVersion: '^1\.31.*'}"));
    assert!(!of(plain, "LISTENER", r", proxy: {proxyVersion: '^1\.30.*'}"));
}

#[test]
fn a_route_of_the_gateway_that_leads_back_to_it_is_a_loop() {
    let mesh = MESH.replace(
        "- {match: [{gateways: [egress], port: 80}], route: [{destination: {host: plain.example, port: {number: 80}}}]}",
        "- {match: [{gateways: [egress], port: 80}], route: [{destination: {host: egw.istio-system.svc.cluster.local, port: {number: 80}}}]}",
    );
    let answer = plain(&Asked::of(&[&mesh]));
    assert_eq!((verdict(&answer).as_str(), &answer["outcome"]), ("broken GATEWAY_LOOP", &json!("via-gateway")));
    assert_eq!(decided_by(&answer), "VirtualService istio-system/plain .spec.http[1].match[0]");
}
