//! Protocols of ports, and what they mean for listeners (Istio: `pkg/config/protocol`, `pkg/config/kube/conversion.go`).

/// What a port declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    Http,
    Http2,
    Grpc,
    GrpcWeb,
    HttpProxy,
    Https,
    Tls,
    Tcp,
    Mongo,
    Redis,
    Mysql,
    Udp,
    /// Nothing that is known: the bytes decide.
    Auto,
}

impl Protocol {
    /// Case does not matter (`protocol.Parse`).
    pub(crate) fn parse(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "http" => Self::Http,
            "http2" => Self::Http2,
            "grpc" => Self::Grpc,
            "grpc-web" => Self::GrpcWeb,
            "http_proxy" => Self::HttpProxy,
            "https" => Self::Https,
            "tls" => Self::Tls,
            "tcp" => Self::Tcp,
            "mongo" => Self::Mongo,
            "redis" => Self::Redis,
            "mysql" => Self::Mysql,
            "udp" => Self::Udp,
            _ => Self::Auto,
        }
    }

    /// Of a Service's port (`kube.ConvertProtocol`).
    pub(crate) fn of_service_port(port: u16, name: &str, transport: &str, app: Option<&str>) -> Self {
        if transport == "UDP" {
            return Self::Udp;
        }
        match app {
            Some("kubernetes.io/h2c") => return Self::Http2,
            Some("kubernetes.io/ws") => return Self::Http,
            Some("kubernetes.io/wss") => return Self::Https,
            _ => {}
        }
        let name = app.unwrap_or(name);
        if name.get(..8).is_some_and(|n| n.eq_ignore_ascii_case("grpc-web")) {
            return Self::GrpcWeb;
        }
        match Self::parse(name.split('-').next().unwrap_or_default()) {
            // servers that speak first there: looking at the client's bytes would hang
            Self::Auto if matches!(port, 25 | 53 | 3306 | 27017) => Self::Tcp,
            protocol => protocol,
        }
    }

    /// Routed by Host.
    pub(crate) fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb | Self::HttpProxy)
    }

    /// Routed by Host, at least where the bytes are HTTP.
    pub(crate) fn is_http_or_auto(self) -> bool {
        self.is_http() || self == Self::Auto
    }

    /// Routed by address (and server name, for the two TLS ones).
    pub(crate) fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp | Self::Https | Self::Tls | Self::Mongo | Self::Redis | Self::Mysql)
    }

    /// Routed by server name.
    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// The word of Istio's documentation.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Http2 => "HTTP2",
            Self::Grpc => "GRPC",
            Self::GrpcWeb => "GRPC-Web",
            Self::HttpProxy => "HTTP_PROXY",
            Self::Https => "HTTPS",
            Self::Tls => "TLS",
            Self::Tcp => "TCP",
            Self::Mongo => "MONGO",
            Self::Redis => "REDIS",
            Self::Mysql => "MYSQL",
            Self::Udp => "UDP",
            Self::Auto => "no protocol",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_port_is_named_by_its_prefix_or_app_protocol() {
        let of = Protocol::of_service_port;
        assert_eq!(of(80, "http-web", "TCP", None), Protocol::Http);
        assert_eq!(of(80, "web", "TCP", Some("https")), Protocol::Https);
        assert_eq!(of(3306, "db", "TCP", None), Protocol::Tcp);
        assert_eq!(of(3307, "db", "TCP", None), Protocol::Auto);
        assert_eq!(of(80, "GRPC-Web-x", "TCP", None), Protocol::GrpcWeb);
        assert_eq!(of(53, "dns", "UDP", None), Protocol::Udp);
    }
}
