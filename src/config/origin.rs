//! Origin of a web page.

use std::str::FromStr;

use http::Uri;
use serde::{Deserialize, Deserializer, Serialize};

/// Scheme, host and port of a page, as browsers write them: `https://board.example` or `http://localhost:3000`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Origin(String);

impl Origin {
    /// The origin as browsers send it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Host and port; the port is absent if it is the scheme's own.
    pub fn authority(&self) -> &str {
        self.0.split_once("://").map_or("", |(_, authority)| authority)
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match written_by_browsers(text) {
            Some(origin) if origin == text => Ok(Origin(origin)),
            _ => Err(format!(
                "`{text}` is no origin: write http:// or https://, one host in lower case, and its port unless that is 80 or 443 of \
                 the scheme"
            )),
        }
    }
}

/// The origin of a URL as browsers write it. None: it has none.
fn written_by_browsers(url: &str) -> Option<String> {
    let url: Uri = url.parse().ok()?;
    let (scheme, host) = (url.scheme_str()?, url.host()?.to_ascii_lowercase());
    let own_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let is_one_host = !host.is_empty() && !host.contains('*');
    is_one_host.then(|| match url.port_u16() {
        Some(port) if port != own_port => format!("{scheme}://{host}:{port}"),
        _ => format!("{scheme}://{host}"),
    })
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for good in ["https://board.example", "http://localhost:3000", "http://[::1]:8080", "http://127.0.0.1:5173"] {
            assert_eq!(good.parse::<Origin>().expect(good).as_str(), good);
        }
        for bad in [
            "*",
            "null",
            "board.example",
            "https://",
            "https://board.example/",
            "https://board.example:443",
            "http://board.example:80",
            "https://Board.example",
            "https://a b",
            "https://*.example",
            "ftp://board.example",
            "http://localhost:port",
            "https://ada@board.example",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
        assert_eq!(
            "http://localhost:3000".parse().map(|it: Origin| it.authority().to_owned()),
            Ok("localhost:3000".to_owned())
        );
    }
}
