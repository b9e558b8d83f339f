//! A host and a port as settings write them: `HOST:PORT` with IPv4, `[IPv6]` or a name.
//!
//! Nothing is resolved here: a name stays a name until somebody binds or dials it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Host and port. Hosts are kept in one spelling (lower case, addresses in their shortest form),
/// so that equality means "the same place as far as the text tells".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// The place that a loopback default names.
    pub(crate) fn loopback(port: u16) -> Self {
        Self { host: Ipv4Addr::LOCALHOST.to_string(), port }
    }

    /// Reads `HOST:PORT`; port 0 is allowed and means "whichever is free".
    ///
    /// # Errors
    /// A text that says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match Self::parse_optional_port(text)? {
            (host, Some(port)) => Ok(Self { host, port }),
            (_, None) => Err(format!(
                "{text:?} has no port: write HOST:PORT, such as 127.0.0.1:8848, [::1]:8848 or \
                 node-1:8848"
            )),
        }
    }

    /// Reads `HOST[:PORT]` of a place that others dial: no port 0, no unspecified address.
    /// Without a port it takes `default_port`.
    ///
    /// # Errors
    /// A text that says what is wrong.
    pub(crate) fn parse_dialled(text: &str, default_port: u16) -> Result<Self, String> {
        let (host, port) = Self::parse_optional_port(text)?;
        if port == Some(0) {
            return Err(format!("{text:?}: others cannot dial port 0, write 1 to 65535"));
        }
        let endpoint = Self { host, port: port.unwrap_or(default_port) };
        if endpoint.is_unspecified() {
            return Err(format!("{text:?}: others cannot dial an unspecified address"));
        }
        Ok(endpoint)
    }

    fn parse_optional_port(text: &str) -> Result<(String, Option<u16>), String> {
        let trimmed = text.trim();
        let (host, port) = if let Some(rest) = trimmed.strip_prefix('[') {
            let (inside, after) =
                rest.split_once(']').ok_or_else(|| format!("{text:?} lacks the closing ]"))?;
            let address: Ipv6Addr =
                inside.parse().map_err(|_| format!("{text:?} has no IPv6 address in [ ]"))?;
            match after.strip_prefix(':') {
                Some(port) => (address.to_string(), Some(port)),
                None if after.is_empty() => (address.to_string(), None),
                None => return Err(format!("{text:?} has {after:?} after ]: write [IPv6]:PORT")),
            }
        } else {
            if trimmed.parse::<Ipv6Addr>().is_ok() || trimmed.matches(':').count() > 1 {
                return Err(format!("{text:?}: write IPv6 in brackets, such as [::1]:8848"));
            }
            match trimmed.split_once(':') {
                Some((host, port)) => (host_name(text, host)?, Some(port)),
                None => (host_name(text, trimmed)?, None),
            }
        };
        match port {
            Some(port) => Ok((host, Some(port_number(text, port)?))),
            None => Ok((host, None)),
        }
    }

    /// The port; 0 until it is bound.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The same host at another port.
    pub(crate) fn at_port(&self, port: u16) -> Self {
        Self { host: self.host.clone(), port }
    }

    /// With `bound` in place of port 0: what an address meant once its listener is bound.
    pub(crate) fn or_bound(&self, bound: u16) -> Self {
        if self.port == 0 { self.at_port(bound) } else { self.clone() }
    }

    /// Only this machine can reach it. A name other than `localhost` counts as reachable by
    /// others: what it resolves to may change.
    pub(crate) fn is_loopback(&self) -> bool {
        match self.address() {
            Some(address) => address.is_loopback(),
            None => self.host == "localhost",
        }
    }

    /// `0.0.0.0` or `[::]`: fine to listen on, nothing to dial.
    pub(crate) fn is_unspecified(&self) -> bool {
        self.address().is_some_and(|address| address.is_unspecified())
    }

    /// Both cannot be bound at once: equal ports (0 aside) and hosts that overlap.
    pub(crate) fn collides_with(&self, other: &Self) -> bool {
        self.port != 0
            && self.port == other.port
            && (self.host == other.host || self.is_unspecified() || other.is_unspecified())
    }

    fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn port_number(text: &str, port: &str) -> Result<u16, String> {
    // `u16::from_str` takes a leading `+`, which no other tool would read as a port.
    port.parse()
        .ok()
        .filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| format!("{text:?} has port {port:?}: allowed are 0 to 65535"))
}

fn host_name(text: &str, host: &str) -> Result<String, String> {
    if host.is_empty() {
        return Err(format!("{text:?} has no host: write HOST:PORT"));
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(address.to_string());
    }
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    let numeric = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if name.len() > 253 || numeric || !name.split('.').all(label_fits) {
        return Err(format!("{text:?}: {host:?} is neither an address nor a host name"));
    }
    Ok(name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let parsed = Endpoint::parse(text).map(|endpoint| endpoint.to_string());
        assert_eq!(parsed.as_deref().map_err(String::as_str), expected, "{text}");
    }

    #[test]
    fn reads_addresses_and_names() {
        check("127.0.0.1:8848", Ok("127.0.0.1:8848"));
        check(" 127.0.0.1:0 ", Ok("127.0.0.1:0"));
        check("[::1]:7848", Ok("[::1]:7848"));
        check("[0:0:0:0:0:0:0:1]:7848", Ok("[::1]:7848"));
        check("Node-1.Quorate.svc.:7848", Ok("node-1.quorate.svc:7848"));
        check("node_1:65535", Ok("node_1:65535"));
    }

    #[test]
    fn refuses_what_is_no_address() {
        check("", Err("\"\" has no host: write HOST:PORT"));
        check(":8848", Err("\":8848\" has no host: write HOST:PORT"));
        check(
            "localhost",
            Err("\"localhost\" has no port: write HOST:PORT, such as 127.0.0.1:8848, \
                 [::1]:8848 or node-1:8848"),
        );
        check("a:65536", Err("\"a:65536\" has port \"65536\": allowed are 0 to 65535"));
        check("a:+1", Err("\"a:+1\" has port \"+1\": allowed are 0 to 65535"));
        check("a:", Err("\"a:\" has port \"\": allowed are 0 to 65535"));
        check("::1:7848", Err("\"::1:7848\": write IPv6 in brackets, such as [::1]:8848"));
        check("[::1:7848", Err("\"[::1:7848\" lacks the closing ]"));
        check("[::1]7848", Err("\"[::1]7848\" has \"7848\" after ]: write [IPv6]:PORT"));
        check("[a]:7848", Err("\"[a]:7848\" has no IPv6 address in [ ]"));
        check(
            "256.0.0.1:1",
            Err("\"256.0.0.1:1\": \"256.0.0.1\" is neither an address nor a host name"),
        );
        check("http//a:1", Err("\"http//a:1\": \"http//a\" is neither an address nor a host name"));
        check("a..b:1", Err("\"a..b:1\": \"a..b\" is neither an address nor a host name"));
    }

    #[test]
    fn dialled_places_have_a_port_and_a_host() {
        let dialled = |text| Endpoint::parse_dialled(text, 7848).map(|place| place.to_string());
        assert_eq!(dialled("node-1").as_deref(), Ok("node-1:7848"));
        assert_eq!(dialled("[fe80::1]").as_deref(), Ok("[fe80::1]:7848"));
        assert_eq!(dialled("node-1:1").as_deref(), Ok("node-1:1"));
        assert!(dialled("node-1:0").unwrap_err().contains("port 0"));
        assert!(dialled("[::]:7848").unwrap_err().contains("unspecified"));
    }

    #[test]
    fn knows_who_can_reach_it() {
        let at = |text| Endpoint::parse(text).expect("a good endpoint");
        for inside in ["127.0.0.1:1", "127.3.2.1:1", "[::1]:1", "localhost:1", "LOCALHOST:1"] {
            assert!(at(inside).is_loopback(), "{inside}");
        }
        for outside in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "node-1:1"] {
            assert!(!at(outside).is_loopback(), "{outside}");
        }
        assert!(at("0.0.0.0:1").collides_with(&at("127.0.0.1:1")));
        assert!(!at("0.0.0.0:0").collides_with(&at("127.0.0.1:0")));
        assert!(!at("127.0.0.1:1").collides_with(&at("127.0.0.2:1")));
        assert_eq!(at("a:0").or_bound(9), at("a:9"));
        assert_eq!(at("a:1").or_bound(9), at("a:1"));
    }
}
