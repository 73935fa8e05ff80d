//! The launcher's own statements: is Postgres ready, and creating databases.

use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

use super::DevError;

/// Connects and drives the connection in a task that ends with the client.
pub(super) async fn connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = error_text(&error), "a connection of the Postgres launcher ended");
        }
    });
    Ok(client)
}

/// What Postgres said, where it said something: by itself the driver says `db error` of that.
pub(super) fn error_text(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string)
}

/// Creates a database unless it exists.
pub(super) async fn ensure_database(client: &Client, name: &str) -> Result<(), DevError> {
    let exists = client.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&name]).await?;
    if exists.is_some() {
        return Ok(());
    }
    match client.batch_execute(&format!("CREATE DATABASE {}", quote(name))).await {
        Err(error) if error.code() == Some(&SqlState::DUPLICATE_DATABASE) => Ok(()),
        other => Ok(other?),
    }
}

/// Copies a database. Postgres refuses while anybody is connected to the original, and a client that has gone may
/// still have a backend for a moment, so this waits for them to be gone.
pub(super) async fn copy_database(client: &Client, from: &str, to: &str) -> Result<(), DevError> {
    let statement = format!("CREATE DATABASE {} TEMPLATE {}", quote(to), quote(from));
    for _ in 0..1_000 {
        let users: i64 =
            client.query_one("SELECT count(*) FROM pg_stat_activity WHERE datname = $1", &[&from]).await?.get(0);
        if users == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(client.batch_execute(&statement).await?)
}

/// Drops a database and throws out whoever is connected to it.
pub(super) async fn drop_database(client: &Client, name: &str) -> Result<(), DevError> {
    let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote(name));
    Ok(client.batch_execute(&statement).await?)
}

fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A connection URL over a unix socket. Every byte that could mean something in a URL is escaped.
pub(super) fn socket_url(user: &str, socket_directory: &std::path::Path, port: u16, database: &str) -> String {
    let directory = escape(&socket_directory.to_string_lossy());
    format!("postgresql://{}@{directory}:{port}/{}", escape(user), escape(database))
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio_postgres::config::Host;

    use super::*;

    #[test]
    fn the_url_of_a_socket_is_understood_by_the_driver() {
        let url = socket_url("a b", Path::new("/tmp/x y/ä"), 5432, "data/base");
        let config: Config = url.parse().expect("a valid URL");
        assert_eq!(config.get_user(), Some("a b"));
        assert_eq!(config.get_dbname(), Some("data/base"));
        assert_eq!(config.get_hosts(), [Host::Unix("/tmp/x y/ä".into())]);
        assert_eq!(config.get_ports(), [5432]);
    }
}
