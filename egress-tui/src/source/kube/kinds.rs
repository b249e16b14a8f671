//! Every kind that is read from a cluster: what it is called, which of its versions are understood, what is missing without it.

/// What of a kind is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of its objects.
    All,
    /// Pods of this node, and those that route: gateways, control planes.
    Pods,
    /// ConfigMaps of the mesh's name.
    MeshConfig,
    /// Names and annotations only.
    Names,
}

/// One kind.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its API group; empty for the core group.
    pub group: &'static str,
    /// As in objects.
    pub kind: &'static str,
    /// As in addresses and in RBAC rules.
    pub plural: &'static str,
    /// Versions that are understood, the best first.
    pub versions: &'static [&'static str],
    /// What of it is watched.
    pub part: Part,
    /// What cannot be told without it.
    pub affects: &'static str,
}

impl Kind {
    /// `serviceentries.networking.istio.io`; the name of its definition, where it has one.
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Installed by somebody: a cluster may do without.
    pub fn is_custom(&self) -> bool {
        self.group.contains('.') && !matches!(self.group, "discovery.k8s.io" | "apiextensions.k8s.io")
    }
}

const ISTIO: &[&str] = &["v1", "v1beta1", "v1alpha3"];
const ISTIO_ALPHA: &[&str] = &["v1", "v1beta1", "v1alpha3", "v1alpha1"];
const SECURITY: &[&str] = &["v1", "v1beta1"];
const GATEWAY: &[&str] = &["v1", "v1beta1", "v1alpha2"];
const EXPERIMENTAL: &[&str] = &["v1beta1", "v1alpha1"];

const NETWORKING: &str = "networking.istio.io";
const ROUTES: &str = "gateway.networking.k8s.io";

const fn kind(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    versions: &'static [&'static str],
    affects: &'static str,
) -> Kind {
    Kind { group, kind, plural, versions, part: Part::All, affects }
}

/// All of them (semantics §1.1), in the order in which they are asked for.
pub const KINDS: &[Kind] = &[
    Kind {
        part: Part::Names,
        ..kind(
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            "customresourcedefinitions",
            &["v1"],
            "kinds that are installed or removed later are noticed late; which release of the Gateway API is installed is not known",
        )
    },
    kind("", "Namespace", "namespaces", &["v1"], "which namespaces are in the mesh, and what is exported to them"),
    Kind {
        part: Part::Pods,
        ..kind("", "Pod", "pods", &["v1"], "flows are not attributed to pods: all of them are unknown")
    },
    kind("", "Service", "services", &["v1"], "which addresses are in the cluster, and which Services front gateways"),
    kind(
        "discovery.k8s.io",
        "EndpointSlice",
        "endpointslices",
        &["v1"],
        "whether gateways and Services have endpoints",
    ),
    kind("", "Node", "nodes", &["v1"], "how many nodes there are, and which addresses are theirs"),
    Kind {
        part: Part::MeshConfig,
        ..kind(
            "",
            "ConfigMap",
            "configmaps",
            &["v1"],
            "the mesh's settings: outboundTrafficPolicy, exports and root namespace are taken to be Istio's defaults",
        )
    },
    kind(NETWORKING, "ServiceEntry", "serviceentries", ISTIO, "which hosts are registered"),
    kind(NETWORKING, "VirtualService", "virtualservices", ISTIO, "which routes lead to gateways"),
    kind(NETWORKING, "Gateway", "gateways", ISTIO, "what gateways listen for"),
    kind(NETWORKING, "DestinationRule", "destinationrules", ISTIO, "subsets, TLS and tunnels of destinations"),
    kind(NETWORKING, "Sidecar", "sidecars", ISTIO, "what workloads import, and their outboundTrafficPolicy"),
    kind(NETWORKING, "WorkloadEntry", "workloadentries", ISTIO, "endpoints of entries that select them"),
    kind(NETWORKING, "EnvoyFilter", "envoyfilters", ISTIO, "whether proxies are patched beyond what objects say"),
    kind(NETWORKING, "ProxyConfig", "proxyconfigs", ISTIO_ALPHA, "settings of proxies"),
    kind("security.istio.io", "AuthorizationPolicy", "authorizationpolicies", SECURITY, "what gateways deny"),
    kind("security.istio.io", "PeerAuthentication", "peerauthentications", SECURITY, "mutual TLS between proxies"),
    kind(ROUTES, "GatewayClass", "gatewayclasses", GATEWAY, "which Gateway API gateways are Istio's"),
    kind(ROUTES, "Gateway", "gateways", GATEWAY, "gateways and waypoints of the Gateway API"),
    kind(ROUTES, "HTTPRoute", "httproutes", GATEWAY, "HTTP routes of the Gateway API"),
    kind(ROUTES, "GRPCRoute", "grpcroutes", GATEWAY, "gRPC routes of the Gateway API"),
    kind(ROUTES, "TLSRoute", "tlsroutes", GATEWAY, "TLS routes of the Gateway API"),
    kind(ROUTES, "TCPRoute", "tcproutes", GATEWAY, "TCP routes of the Gateway API"),
    kind(ROUTES, "ReferenceGrant", "referencegrants", GATEWAY, "which routes may refer to other namespaces"),
    kind(ROUTES, "ListenerSet", "listenersets", GATEWAY, "listeners that are added to gateways"),
    kind(
        "gateway.networking.x-k8s.io",
        "XListenerSet",
        "xlistenersets",
        EXPERIMENTAL,
        "listeners that are added to gateways",
    ),
    kind("gateway.networking.x-k8s.io", "XBackend", "xbackends", EXPERIMENTAL, "external backends of routes"),
    kind(
        "install.istio.io",
        "IstioOperator",
        "istiooperators",
        &["v1alpha1"],
        "the mesh's settings as its operator has them",
    ),
    kind("sailoperator.io", "Istio", "istios", &["v1", "v1alpha1"], "the mesh's settings as its operator has them"),
    kind("sailoperator.io", "IstioRevision", "istiorevisions", &["v1", "v1alpha1"], "the mesh's revisions"),
    kind(
        "maistra.io",
        "ServiceMeshControlPlane",
        "servicemeshcontrolplanes",
        &["v2", "v1"],
        "the mesh's settings as its operator has them",
    ),
    kind("maistra.io", "ServiceMeshMemberRoll", "servicemeshmemberrolls", &["v1"], "which namespaces are in the mesh"),
    kind(
        "servicemesh.cisco.com",
        "IstioMeshGateway",
        "istiomeshgateways",
        &["v1alpha1"],
        "gateways of the vendor's operator",
    ),
    kind(
        "servicemesh.cisco.com",
        "IstioControlPlane",
        "istiocontrolplanes",
        &["v1alpha1"],
        "the mesh's settings as its operator has them",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_pods_is_never_watched() {
        assert!(KINDS.iter().all(|k| !matches!(k.kind, "ReplicaSet" | "Deployment" | "Secret" | "Job")));
    }

    #[test]
    fn a_kind_stands_in_the_table_once() {
        for (n, kind) in KINDS.iter().enumerate() {
            assert!(!KINDS[..n].iter().any(|k| k.group == kind.group && k.kind == kind.kind), "{kind:?}");
        }
    }
}
