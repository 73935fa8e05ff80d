//! Address of the metrics port.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Address of the metrics port, `off` or `usual`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsListen {
    /// The server has no metrics port.
    Off,
    /// This address, which must be free.
    At(SocketAddr),
    /// The default address; off if another process has it.
    Usual,
}

impl MetricsListen {
    /// The default: port 9464 of the loopback address.
    pub fn usual() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9_464))
    }

    /// The address to listen on, if any.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
            Self::Usual => Some(Self::usual()),
        }
    }
}

impl FromStr for MetricsListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "off" => Ok(Self::Off),
            "usual" => Ok(Self::Usual),
            address => address
                .parse()
                .map(Self::At)
                .map_err(|_| format!("`{text}` is neither `off` nor an address such as 127.0.0.1:9464")),
        }
    }
}

impl fmt::Display for MetricsListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
            Self::Usual => f.write_str("usual"),
        }
    }
}

impl Serialize for MetricsListen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MetricsListen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_or_off() {
        for (text, expected) in [
            ("off", MetricsListen::Off),
            ("0.0.0.0:9464", MetricsListen::At(SocketAddr::from(([0, 0, 0, 0], 9_464)))),
            ("usual", MetricsListen::Usual),
        ] {
            assert_eq!(text.parse(), Ok(expected));
            assert_eq!(expected.to_string(), text);
        }
        let error = "localhost".parse::<MetricsListen>().expect_err("no address");
        assert!(error.contains("`localhost`") && error.contains("off"), "{error}");
    }
}
