//! Splits the settings of a connection string into one set for each host.

use tokio_postgres::Config;
use tokio_postgres::config::{Host as Address, SslMode};

/// Host and port, for logs.
pub(in crate::store) fn name_of(config: &Config) -> String {
    let port = config.get_ports().first().copied().unwrap_or(5432);
    match (config.get_hosts().first(), config.get_hostaddrs().first()) {
        (Some(Address::Tcp(host)), _) => format!("{host}:{port}"),
        (Some(Address::Unix(directory)), _) => format!("{}:{port}", directory.display()),
        (None, Some(address)) => format!("{address}:{port}"),
        (None, None) => "no host".to_owned(),
    }
}

/// The settings of one host, as the driver needs them for TLS.
pub(in crate::store) fn of_one(mut config: Config) -> Config {
    if let [Address::Unix(_)] = config.get_hosts() {
        // Postgres has no TLS on Unix sockets, whatever is set; libpq does the same.
        config.ssl_mode(SslMode::Disable);
    }
    if let ([], [address]) = (config.get_hosts(), config.get_hostaddrs()) {
        // The certificate has to name the address.
        let address = address.to_string();
        config.host(address);
    }
    config
}

/// The settings of each host alone. The driver would try one host after the other, and wait for one that hangs.
pub(in crate::store) fn each_host(config: &Config) -> Vec<Config> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    let is_even = |given: usize| given <= 1 || given == count;
    if count <= 1 || !is_even(hosts.len()) || !is_even(addresses.len()) || !is_even(ports.len()) {
        // Numbers of hosts and ports that do not match are reported by the driver.
        return vec![config.clone()];
    }
    (0..count).map(|place| one_host(config, place)).collect()
}

fn one_host(config: &Config, place: usize) -> Config {
    let mut one = without_hosts(config);
    match config.get_hosts().get(place) {
        Some(Address::Tcp(host)) => {
            one.host(host);
        }
        Some(Address::Unix(directory)) => {
            one.host_path(directory);
        }
        None => {}
    }
    if let Some(address) = config.get_hostaddrs().get(place) {
        one.hostaddr(*address);
    }
    if let Some(port) = config.get_ports().get(place).or_else(|| config.get_ports().first()) {
        one.port(*port);
    }
    one
}

/// All settings but the hosts, which cannot be removed from a `Config`.
fn without_hosts(config: &Config) -> Config {
    let mut one = Config::new();
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    if let Some(name) = config.get_dbname() {
        one.dbname(name);
    }
    if let Some(options) = config.get_options() {
        one.options(options);
    }
    if let Some(name) = config.get_application_name() {
        one.application_name(name);
    }
    if let Some(limit) = config.get_connect_timeout() {
        one.connect_timeout(*limit);
    }
    if let Some(limit) = config.get_tcp_user_timeout() {
        one.tcp_user_timeout(*limit);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        one.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    one.ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .target_session_attrs(config.get_target_session_attrs())
        .channel_binding(config.get_channel_binding())
        .load_balance_hosts(config.get_load_balance_hosts());
    one
}
