//! Settings of Postgres on which a guarantee of Interlock depends, or its speed.

use std::collections::BTreeMap;

use super::finding::{Finding, bytes};

/// Values by name, sizes in bytes and times in milliseconds.
pub type PostgresSettings = BTreeMap<String, String>;

/// Maximum run time of a server's statements; a shorter limit of Postgres would end them first.
const LONGEST_STATEMENT_MS: i64 = 60_000;
/// Default of `shared_buffers` in Postgres.
const DEFAULT_SHARED_BUFFERS: i64 = 128 << 20;

const AREA: &str = "database";

pub fn look(settings: &PostgresSettings) -> Vec<Finding> {
    let value = |name: &str| settings.get(name).map_or("", String::as_str);
    let mut findings = vec![
        switch("fsync", value("fsync"), "a crash of the machine loses acknowledged writes, or the whole database"),
        switch("full_page_writes", value("full_page_writes"), "a crash of the machine can leave torn pages"),
        of_synchronous_commit(value("synchronous_commit")),
        of_autovacuum(value("autovacuum")),
        of_wal_level(value("wal_level")),
        of_isolation(value("default_transaction_isolation")),
        of_shared_buffers(value("shared_buffers")),
    ];
    if value("default_transaction_read_only") == "on" {
        findings.push(
            Finding::fail(AREA, "default_transaction_read_only", "on: no write succeeds")
                .advise("ALTER ROLE … or DATABASE … SET default_transaction_read_only = off"),
        );
    }
    findings.extend(LIMITS.iter().filter_map(|limit| limit.look(value(limit.name))));
    findings
}

fn switch(name: &'static str, value: &str, loss: &str) -> Finding {
    if value == "on" {
        return Finding::ok(AREA, name, "on");
    }
    Finding::fail(AREA, name, format!("{value}: {loss}"))
        .advise(format!("ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()"))
}

fn of_synchronous_commit(value: &str) -> Finding {
    let name = "synchronous_commit";
    if value != "off" {
        return Finding::ok(AREA, name, value);
    }
    Finding::fail(AREA, name, "off: a crash of Postgres loses the last acknowledged writes")
        .advise("set it to on, for the system, or for this role and database if it is set there (ALTER ROLE … RESET …)")
}

fn of_autovacuum(value: &str) -> Finding {
    if value == "on" {
        return Finding::ok(AREA, "autovacuum", "on");
    }
    Finding::fail(AREA, "autovacuum", format!("{value}: tables of leases and stages grow without bound"))
        .advise("ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf()")
}

fn of_wal_level(value: &str) -> Finding {
    if value != "minimal" {
        return Finding::ok(AREA, "wal_level", value);
    }
    Finding::warn(AREA, "wal_level", "minimal: no standby and no point-in-time recovery")
        .advise("ALTER SYSTEM SET wal_level = replica, and restart Postgres")
}

fn of_isolation(value: &str) -> Finding {
    let name = "default_transaction_isolation";
    if value == "read committed" {
        return Finding::ok(AREA, name, value);
    }
    Finding::warn(AREA, name, format!("{value}: concurrent writes to one row fail in Postgres and are retried"))
        .advise("ALTER ROLE … or DATABASE … SET default_transaction_isolation = 'read committed'")
}

fn of_shared_buffers(value: &str) -> Finding {
    let size: i64 = value.parse().unwrap_or_default();
    let text = bytes(size as f64);
    if size >= DEFAULT_SHARED_BUFFERS {
        return Finding::ok(AREA, "shared_buffers", text);
    }
    Finding::warn(AREA, "shared_buffers", format!("{text}, less than Postgres takes by itself"))
        .advise("128MB at least; a quarter of the memory is usual")
}

/// A limit of Postgres that ends what a server does. 0: none.
struct Limit {
    name: &'static str,
    /// Lower limits do harm.
    least_ms: i64,
    harm: &'static str,
}

const LIMITS: &[Limit] = &[
    Limit {
        name: "statement_timeout",
        least_ms: LONGEST_STATEMENT_MS,
        harm: "long commits and reads are ended by Postgres",
    },
    Limit {
        name: "transaction_timeout",
        least_ms: LONGEST_STATEMENT_MS,
        harm: "long commits and reads are ended by Postgres",
    },
    Limit {
        name: "idle_session_timeout",
        least_ms: i64::MAX,
        harm: "idle connections of servers are ended all the time",
    },
    Limit {
        name: "idle_in_transaction_session_timeout",
        least_ms: 1_000,
        harm: "Postgres ends a transaction whose server waits for a moment",
    },
];

impl Limit {
    /// A finding if the limit is harmfully low.
    fn look(&self, value: &str) -> Option<Finding> {
        let found: i64 = value.parse().unwrap_or_default();
        if found == 0 || found >= self.least_ms {
            return None;
        }
        let advice = format!("ALTER ROLE … SET {} = 0 for the role of the servers", self.name);
        Some(Finding::warn(AREA, self.name, format!("{found} ms: {}", self.harm)).advise(advice))
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn good() -> PostgresSettings {
        let pairs = [
            ("fsync", "on"),
            ("full_page_writes", "on"),
            ("synchronous_commit", "on"),
            ("autovacuum", "on"),
            ("wal_level", "replica"),
            ("default_transaction_isolation", "read committed"),
            ("default_transaction_read_only", "off"),
            ("shared_buffers", "134217728"),
            ("statement_timeout", "0"),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect()
    }

    #[test]
    fn each_bad_setting_is_found_alone() {
        let faults = |settings: &PostgresSettings| {
            let findings = look(settings);
            findings
                .iter()
                .filter(|finding| finding.level != Level::Ok)
                .map(|finding| (finding.check, finding.level, finding.advice.is_empty()))
                .collect::<Vec<_>>()
        };
        assert_eq!(faults(&good()), []);
        for (name, value, level) in [
            ("fsync", "off", Level::Fail),
            ("full_page_writes", "off", Level::Fail),
            ("synchronous_commit", "off", Level::Fail),
            ("autovacuum", "off", Level::Fail),
            ("wal_level", "minimal", Level::Warn),
            ("default_transaction_isolation", "serializable", Level::Warn),
            ("default_transaction_read_only", "on", Level::Fail),
            ("shared_buffers", "1048576", Level::Warn),
            ("statement_timeout", "5000", Level::Warn),
            ("transaction_timeout", "5000", Level::Warn),
            ("idle_session_timeout", "3600000", Level::Warn),
            ("idle_in_transaction_session_timeout", "10", Level::Warn),
        ] {
            let mut settings = good();
            settings.insert(name.to_owned(), value.to_owned());
            assert_eq!(faults(&settings), [(name, level, false)]);
        }
    }
}
