//! What a node's agents write into iptables: istio-init in a pod, kube-proxy on the node.

use std::fmt::Write as _;

use crate::lab::ambient::{DNS_PORT, GROUP, PORT};
use crate::lab::objects::{Node, PROXY_ID, Pod, Proxy, Service, ServicePort};

const ANNOTATIONS: &str = "traffic.sidecar.istio.io/";

/// The nat table of a pod as istio-init leaves it (Istio: `tools/istio-iptables/pkg/capture/run.go`, `Run`; which
/// annotation becomes which argument: `files/injection-template.yaml`). The order of the rules decides.
/// `None`: nothing is redirected in this pod.
pub(crate) fn istio_init(pod: &Pod) -> Option<String> {
    let annotation = |name: &str| pod.annotations.get(&format!("{ANNOTATIONS}{name}")).map(String::as_str);
    let mode = pod.annotations.get("sidecar.istio.io/interceptionMode").map(String::as_str);
    if pod.proxy != Some(Proxy::Sidecar) || pod.host_network || mode == Some("NONE") {
        return None;
    }
    let mut t = String::from(
        "*nat\n:ISTIO_INBOUND - [0:0]\n:ISTIO_REDIRECT - [0:0]\n:ISTIO_IN_REDIRECT - [0:0]\n:ISTIO_OUTPUT - [0:0]\n",
    );
    let mut rule = |text: String| {
        t.push_str("-A ");
        t.push_str(&text);
        t.push('\n');
    };
    for interface in split(annotation("excludeInterfaces")) {
        rule(format!("PREROUTING -i {interface} -j RETURN"));
        rule(format!("OUTPUT -o {interface} -j RETURN"));
    }
    rule("ISTIO_INBOUND -p tcp --dport 15008 -j RETURN".into());
    rule("ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001".into());
    rule("ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006".into());
    let inbound = annotation("includeInboundPorts").unwrap_or("*");
    if !inbound.is_empty() {
        rule("PREROUTING -p tcp -j ISTIO_INBOUND".into());
        if inbound == "*" {
            let excluded = split(annotation("excludeInboundPorts"));
            for port in ["15090", "15021", "15020"].into_iter().chain(excluded) {
                rule(format!("ISTIO_INBOUND -p tcp --dport {port} -j RETURN"));
            }
            rule("ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT".into());
        } else {
            for port in split(Some(inbound)) {
                rule(format!("ISTIO_INBOUND -p tcp --dport {port} -j ISTIO_IN_REDIRECT"));
            }
        }
    }
    rule("OUTPUT -j ISTIO_OUTPUT".into());
    for port in split(annotation("excludeOutboundPorts")) {
        rule(format!("ISTIO_OUTPUT -p tcp --dport {port} -j RETURN"));
        rule(format!("ISTIO_OUTPUT -p udp --dport {port} -j RETURN"));
    }
    rule("ISTIO_OUTPUT -o lo -s 127.0.0.6/32 -j RETURN".into());
    for owner in ["uid", "gid"] {
        let own = format!("-m owner --{owner}-owner {PROXY_ID}");
        rule(format!("ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 {own} -j ISTIO_IN_REDIRECT"));
        rule(format!("ISTIO_OUTPUT -o lo -m owner ! --{owner}-owner {PROXY_ID} -j RETURN"));
        rule(format!("ISTIO_OUTPUT {own} -j RETURN"));
    }
    rule("ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN".into());
    for range in split(annotation("excludeOutboundIPRanges")) {
        rule(format!("ISTIO_OUTPUT -d {range} -j RETURN"));
    }
    for port in split(annotation("includeOutboundPorts")) {
        rule(format!("ISTIO_OUTPUT -p tcp --dport {port} -j ISTIO_REDIRECT"));
    }
    match annotation("includeOutboundIPRanges") {
        None | Some("*") => rule("ISTIO_OUTPUT -j ISTIO_REDIRECT".into()),
        ranges => {
            for range in split(ranges) {
                rule(format!("ISTIO_OUTPUT -d {range} -j ISTIO_REDIRECT"));
            }
        }
    }
    t.push_str("COMMIT\n");
    Some(t)
}

/// The nat table of an ambient pod as the CNI agent leaves it (Istio: `cni/pkg/iptables/iptables.go`): every connection and
/// DNS query but ztunnel's own go to ztunnel, which listens in this namespace.
pub(crate) fn ambient(pod: &Pod) -> Option<String> {
    if !pod.is_ambient() || pod.host_network {
        return None;
    }
    let theirs = format!("-m owner ! --gid-owner {GROUP}");
    Some(format!(
        "*nat\n:ISTIO_OUTPUT - [0:0]\n-A OUTPUT -j ISTIO_OUTPUT\n\
         -A ISTIO_OUTPUT ! -o lo -p udp --dport 53 {theirs} -j REDIRECT --to-ports {DNS_PORT}\n\
         -A ISTIO_OUTPUT ! -d 127.0.0.1/32 -p tcp {theirs} -j REDIRECT --to-ports {PORT}\nCOMMIT\n"
    ))
}

/// The node's nat table: Services to their endpoints, and pods leave with the node's address.
pub(crate) fn kube_proxy(node: &Node, services: &[Service]) -> String {
    let mut t =
        String::from("*nat\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES\n");
    for service in services {
        for ServicePort { protocol, port, endpoints } in &service.ports {
            for (i, (address, target)) in endpoints.iter().enumerate() {
                let left = endpoints.len() - i;
                let share = if left > 1 {
                    format!(" -m statistic --mode nth --every {left} --packet 0")
                } else {
                    String::new()
                };
                let _ = writeln!(
                    t,
                    "-A KUBE-SERVICES -d {}/32 -p {protocol} -m {protocol} --dport {port}{share} -j DNAT --to-destination {address}:{target}",
                    service.address
                );
            }
        }
    }
    let _ = writeln!(t, "-A POSTROUTING -s {0} ! -d {0} -j MASQUERADE\nCOMMIT", node.pod_cidr);
    t
}

fn split(value: Option<&str>) -> impl Iterator<Item = &str> {
    value.unwrap_or_default().split(',').map(str::trim).filter(|v| !v.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use super::*;

    fn pod(annotations: &[(&str, &str)]) -> Pod {
        let annotations = annotations.iter().map(|(k, v)| (format!("{ANNOTATIONS}{k}"), (*v).to_owned()));
        Pod {
            namespace: "default".into(),
            name: "sleep".into(),
            uid: "1".into(),
            ip: Ipv4Addr::new(10, 244, 0, 2),
            qos: "Burstable".into(),
            service_account: "default".into(),
            host_network: false,
            annotations: annotations.collect(),
            containers: BTreeMap::new(),
            proxy: Some(Proxy::Sidecar),
        }
    }

    fn outbound(annotations: &[(&str, &str)]) -> Vec<String> {
        let rules = istio_init(&pod(annotations)).unwrap_or_default();
        rules.lines().filter_map(|l| l.strip_prefix("-A ISTIO_OUTPUT ")).map(str::to_owned).collect()
    }

    #[test]
    fn without_annotations_everything_but_the_proxy_and_loopback_is_redirected() {
        // as Istio's own ipnets.golden with `*` instead of a range
        assert_eq!(
            outbound(&[]),
            [
                "-o lo -s 127.0.0.6/32 -j RETURN",
                "-o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT",
                "-o lo -m owner ! --uid-owner 1337 -j RETURN",
                "-m owner --uid-owner 1337 -j RETURN",
                "-o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT",
                "-o lo -m owner ! --gid-owner 1337 -j RETURN",
                "-m owner --gid-owner 1337 -j RETURN",
                "-d 127.0.0.1/32 -j RETURN",
                "-j ISTIO_REDIRECT",
            ]
        );
    }

    #[test]
    fn excluded_ports_come_first_and_hold_for_udp_too() {
        let rules = outbound(&[("excludeOutboundPorts", "1433, 9443")]);
        assert_eq!(
            rules[..4],
            [
                "-p tcp --dport 1433 -j RETURN",
                "-p udp --dport 1433 -j RETURN",
                "-p tcp --dport 9443 -j RETURN",
                "-p udp --dport 9443 -j RETURN"
            ]
        );
    }

    #[test]
    fn excluded_ranges_come_before_included_ports_and_those_before_included_ranges() {
        let rules = outbound(&[
            ("includeOutboundIPRanges", "9.9.0.0/16"),
            ("excludeOutboundIPRanges", "1.1.0.0/16"),
            ("includeOutboundPorts", "31000"),
        ]);
        assert_eq!(
            rules[rules.len() - 3..],
            ["-d 1.1.0.0/16 -j RETURN", "-p tcp --dport 31000 -j ISTIO_REDIRECT", "-d 9.9.0.0/16 -j ISTIO_REDIRECT"]
        );
    }

    #[test]
    fn gateways_and_host_network_pods_are_left_alone() {
        let gateway = Pod { proxy: Some(Proxy::Router), ..pod(&[]) };
        let host = Pod { host_network: true, ..pod(&[]) };
        let plain = Pod { proxy: None, ..pod(&[]) };
        assert!([gateway, host, plain].iter().all(|p| istio_init(p).is_none()));
    }
}
