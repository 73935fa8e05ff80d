//! Whether other machines can reach the server, and which settings that requires.

use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::settings::Config;

/// Whether calls need a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// Calls need no credential; one that is presented is ignored.
    Off,
    /// All calls need one, except health checks and reflection.
    Required,
}

impl Config {
    /// Whether only programs on this machine can connect.
    pub fn is_loopback(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }

    /// Whether calls need a credential. If `auth` is unset, they do unless the address is loopback and no `tls_client_ca` is set.
    pub fn requires_credentials(&self) -> bool {
        let default = if self.is_loopback() && self.tls_client_ca.is_none() { Auth::Off } else { Auth::Required };
        self.auth.unwrap_or(default) == Auth::Required
    }

    /// Refuses to listen beyond loopback without TLS and credentials, unless `insecure` says so.
    ///
    /// # Errors
    /// If TLS or credentials are missing; the message says what to add.
    pub fn check_exposure(&self, has_tls: bool) -> Result<(), ConfigError> {
        let has_credentials = self.requires_credentials();
        if self.is_loopback() || self.insecure || has_tls && has_credentials {
            return Ok(());
        }
        let mut missing = Vec::new();
        if !has_tls {
            missing.push("add --tls-cert FILE and --tls-key FILE, or others can read and change what is sent");
        }
        if !has_credentials {
            missing.push("remove --auth off, or everybody can do everything");
        }
        Err(ConfigError::Invalid(format!(
            "listen {} can be reached from other machines: {}; or add --insecure if something else protects it, such as a \
             private network or a proxy with TLS",
            self.listen,
            missing.join("; "),
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &str, auth: Option<Auth>, insecure: bool) -> Config {
        Config { listen: listen.parse().expect("an address"), auth, insecure, ..Config::default() }
    }

    #[test]
    fn credentials_are_required_beyond_loopback_unless_it_is_set() {
        for (listen, auth, required) in [
            ("127.0.0.1:1", None, false),
            ("[::1]:1", None, false),
            ("[::ffff:127.0.0.1]:1", None, false),
            ("127.0.0.1:1", Some(Auth::Required), true),
            ("0.0.0.0:1", None, true),
            ("[::]:1", None, true),
            ("192.0.2.1:1", None, true),
            ("0.0.0.0:1", Some(Auth::Off), false),
        ] {
            assert_eq!(config(listen, auth, false).requires_credentials(), required, "{listen} {auth:?}");
        }
        let with_authorities = Config { tls_client_ca: Some("ca.pem".into()), ..config("127.0.0.1:1", None, false) };
        assert!(with_authorities.requires_credentials());
    }

    #[test]
    fn beyond_loopback_tls_and_credentials_are_needed_or_consent() {
        let refused = |config: Config| config.check_exposure(false).err().map(|error| error.to_string());
        for listen in ["127.0.0.1:1", "[::1]:1"] {
            assert_eq!(refused(config(listen, Some(Auth::Off), false)), None);
        }
        let message = refused(config("0.0.0.0:50051", None, false)).expect("no TLS");
        assert!(message.contains("0.0.0.0:50051") && message.contains("--tls-cert"), "{message}");
        assert!(message.contains("--insecure") && !message.contains("--auth"), "{message}");
        let message = refused(config("0.0.0.0:50051", Some(Auth::Off), false)).expect("neither");
        assert!(message.contains("--tls-cert") && message.contains("remove --auth off"), "{message}");
        assert_eq!(refused(config("0.0.0.0:50051", Some(Auth::Off), true)), None);
        assert!(config("0.0.0.0:50051", None, false).check_exposure(true).is_ok());
        let open = config("0.0.0.0:50051", Some(Auth::Off), false).check_exposure(true).expect_err("no credentials");
        assert!(!open.to_string().contains("--tls-cert") && open.to_string().contains("--auth off"), "{open}");
    }
}
