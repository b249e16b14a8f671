//! The closed list of reasons (design §4.2). A code is added there first.

macro_rules! reasons {
    ($($variant:ident $code:literal $group:literal $text:literal;)*) => {
        /// Why a verdict is what it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $(#[doc = $text] $variant,)* }

        impl Reason {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The spelling in JSON, filters and `explain --code`.
            pub fn code(self) -> &'static str { match self { $(Self::$variant => $code,)* } }

            /// Which part of the decision it belongs to.
            pub fn group(self) -> &'static str { match self { $(Self::$variant => $group,)* } }

            /// What it means.
            pub fn meaning(self) -> &'static str { match self { $(Self::$variant => $text,)* } }
        }
    };
}

reasons! {
    NoProxy "NO_PROXY" "capture" "The pod runs no proxy although its namespace or labels put it in the mesh.";
    HostNetwork "HOST_NETWORK" "capture" "The pod uses the node's network (spec.hostNetwork): nothing intercepts it.";
    ExcludedPort "EXCLUDED_PORT" "capture" "An annotation excludes this destination port from interception.";
    ExcludedCidr "EXCLUDED_CIDR" "capture" "An annotation excludes this destination range from interception.";
    NotIncluded "NOT_INCLUDED" "capture" "An annotation limits interception to ranges or ports that do not hold this destination.";
    ProxyUid "PROXY_UID" "capture" "The process runs under the proxy's uid or gid (1337), which interception leaves alone.";
    ProxyContainer "PROXY_CONTAINER" "capture" "A process other than the proxy dialled out from the proxy's container.";
    InitContainer "INIT_CONTAINER" "capture" "An init container that runs before interception is set up.";
    Udp "UDP" "capture" "UDP is never intercepted.";
    IpFamily "IP_FAMILY" "capture" "Interception is not set up for this address family.";
    RedirectMissing "REDIRECT_MISSING" "capture" "The pod's configuration promises interception, but the proxy never saw the connection.";
    Unregistered "UNREGISTERED" "registration" "No ServiceEntry or Service has this host or address.";
    NotExported "NOT_EXPORTED" "registration" "exportTo keeps the entry from this namespace.";
    SidecarScope "SIDECAR_SCOPE" "registration" "The Sidecar of this workload does not import the entry.";
    DiscoverySelector "DISCOVERY_SELECTOR" "registration" "The entry's namespace is outside of meshConfig.discoverySelectors, or its revision is another one.";
    PortNotRegistered "PORT_NOT_REGISTERED" "registration" "The entry does not list this port.";
    ProtocolMismatch "PROTOCOL_MISMATCH" "registration" "The bytes do not fit the protocol of the entry's port.";
    SniIpMismatch "SNI_IP_MISMATCH" "registration" "The server name is the entry's, the address is not.";
    TcpHijack "TCP_HIJACK" "registration" "A TCP entry without a usable address takes every destination on its port.";
    AddressHijack "ADDRESS_HIJACK" "registration" "The address belongs to an entry of another host.";
    ShadowedBy "SHADOWED_BY" "registration" "Another object with the same host wins.";
    RoutedViaGateway "ROUTED_VIA_GATEWAY" "routing" "A rule leads to the gateway.";
    RoutedViaWaypoint "ROUTED_VIA_WAYPOINT" "routing" "The entry is bound to a waypoint.";
    RegisteredDirect "REGISTERED_DIRECT" "routing" "Registered, and no rule leads elsewhere.";
    NoRouteToGateway "NO_ROUTE_TO_GATEWAY" "routing" "A policy file demands a gateway, and no rule leads to one.";
    PortNotRouted "PORT_NOT_ROUTED" "routing" "The rule to the gateway does not hold this port.";
    SniNotMatched "SNI_NOT_MATCHED" "routing" "The rule to the gateway does not hold this server name.";
    NoSni "NO_SNI" "routing" "The rule to the gateway needs a server name, and the connection has none.";
    SubnetNotMatched "SUBNET_NOT_MATCHED" "routing" "The rule to the gateway does not hold this destination subnet.";
    SourceLabels "SOURCE_LABELS" "routing" "The rule to the gateway is for pods with other labels.";
    SourceNamespace "SOURCE_NAMESPACE" "routing" "The rule to the gateway is for pods of another namespace.";
    HttpNotMatched "HTTP_NOT_MATCHED" "routing" "The rule to the gateway does not match this request.";
    VsNotExported "VS_NOT_EXPORTED" "routing" "exportTo keeps the VirtualService from this namespace.";
    VsNotImported "VS_NOT_IMPORTED" "routing" "The Sidecar of this workload does not import the VirtualService.";
    VsGateways "VS_GATEWAYS" "routing" "The VirtualService does not list the gateway `mesh`.";
    VsShadowed "VS_SHADOWED" "routing" "Another VirtualService of the same host wins.";
    VsWrongBlock "VS_WRONG_BLOCK" "routing" "The rule stands in a block (http, tls, tcp) that does not apply to the port's protocol.";
    Weighted "WEIGHTED" "routing" "A weighted route sends a part of the traffic elsewhere.";
    EgressProxy "EGRESS_PROXY" "routing" "outboundTrafficPolicy sends what is unknown to a proxy.";
    WrongGateway "WRONG_GATEWAY" "gateway" "Another gateway than the configured one took it.";
    GatewayAddressed "GATEWAY_ADDRESSED" "gateway" "The application addressed the gateway itself.";
    GatewayRoute "GATEWAY_ROUTE" "gateway" "A route of the gateway permits it.";
    GatewayNoRoute "GATEWAY_NO_ROUTE" "gateway" "No route of the gateway permits it.";
    GatewayHostMissing "GATEWAY_HOST_MISSING" "gateway" "No server of the gateway has this host.";
    GatewayPortMissing "GATEWAY_PORT_MISSING" "gateway" "The gateway does not listen on this port.";
    GatewaySelectsNothing "GATEWAY_SELECTS_NOTHING" "gateway" "The Gateway's selector matches no pod.";
    GatewayLoop "GATEWAY_LOOP" "gateway" "The gateway's route leads back to the gateway.";
    GatewayNoEndpoints "GATEWAY_NO_ENDPOINTS" "gateway" "The gateway's Service has no endpoint.";
    TlsModeMismatch "TLS_MODE_MISMATCH" "gateway" "One side speaks TLS and the other does not expect it.";
    DestinationMissing "DESTINATION_MISSING" "destination" "The route's destination is not in the registry of the proxy that evaluates it.";
    SubsetMissing "SUBSET_MISSING" "destination" "The DestinationRule that applies does not define the subset.";
    InvalidBackend "INVALID_BACKEND" "destination" "The Gateway API route has a backend that cannot be used.";
    ReferenceDenied "REFERENCE_DENIED" "destination" "No ReferenceGrant permits the reference.";
    NoEndpoints "NO_ENDPOINTS" "destination" "The destination has no endpoint.";
    RegistryOnly "REGISTRY_ONLY" "policy" "outboundTrafficPolicy REGISTRY_ONLY stopped it.";
    AuthorizationPolicy "AUTHORIZATION_POLICY" "policy" "An AuthorizationPolicy stopped it.";
    Exempted "EXEMPTED" "policy" "Exempted by configuration of this program.";
    WaypointNotUsed "WAYPOINT_NOT_USED" "ambient" "The waypoint's address was not dialled.";
    WaypointNotBound "WAYPOINT_NOT_BOUND" "ambient" "The waypoint does not accept the entry.";
    WaypointSidecarClient "WAYPOINT_SIDECAR_CLIENT" "ambient" "A sidecar does not use the waypoint of an entry.";
    NameUnknown "NAME_UNKNOWN" "evidence" "No name of the destination is known.";
    EvidenceMissing "EVIDENCE_MISSING" "evidence" "Something that would decide was not seen.";
    Pooled "POOLED" "evidence" "The proxy reuses upstream connections; this one has none of its own.";
    StaleProxy "STALE_PROXY" "evidence" "The proxy does something else than the objects say.";
    EnvoyFilter "ENVOY_FILTER" "evidence" "An EnvoyFilter may have changed the proxy's configuration.";
    ViaHttpProxy "VIA_HTTP_PROXY" "evidence" "The application speaks to an HTTP proxy; the real destination is inside.";
    OutsideMesh "OUTSIDE_MESH" "exempt" "Neither the namespace nor the pod is enrolled.";
    HostProcess "HOST_PROCESS" "exempt" "A process of the node, not of a pod.";
    ProxyControl "PROXY_CONTROL" "exempt" "Control traffic of the proxy: xDS, name look-ups, agent.";
    InCluster "IN_CLUSTER" "exempt" "A pod, Service, node, the API server, loopback or the cluster's DNS.";
}

impl Reason {
    /// The reason with this code.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|r| r.code() == text)
    }
}
