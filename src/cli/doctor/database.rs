//! Checks of the database: reachable and writable, version, schema, connections, clock, and causes of slowness.

use super::finding::{Finding, bytes};
use super::{replication, settings};
use crate::store::connection::Target;
use crate::store::inspect::{DeadRows, Inspection, Instance, LongTransaction, Schema, Unanswered};

/// Oldest version of Postgres that Interlock is tested with.
const OLDEST_VERSION: i32 = 15;
/// Connections of a server beside its pool: seven lanes, four for dispatcher and background work, one each for credentials, hints, health and the
/// proof that sessions are not shared.
const FIXED_CONNECTIONS: u32 = 15;
/// Clocks that differ by more make logs hard to compare. Nothing else rests on it: all times are the database's.
const CLOCK_SECONDS: f64 = 2.0;
/// Transactions since the oldest frozen row: far beyond what autovacuum lets come about (200 million),
const XID_AGE_WARN: i32 = 1_000_000_000;
/// and shortly before Postgres takes no more writes.
const XID_AGE_FAIL: i32 = 1_800_000_000;

const AREA: &str = "database";

pub async fn look(target: &Target, pool_max: u32) -> Vec<Finding> {
    let inspection = match Inspection::begin(target).await {
        Ok(inspection) => inspection,
        Err(error) => return vec![unreachable(&error.to_string())],
    };
    let mut findings = Vec::new();
    let schema = inspection.schema().await;
    let found = inspection.settings().await;
    let settings = found.as_ref().ok();
    match inspection.instance().await {
        Ok(instance) => {
            let servers = schema.as_ref().ok().copied().flatten().map_or(0, |schema| schema.servers);
            findings.extend(of_instance(&instance));
            if let Some(settings) = settings {
                findings.push(of_connections(&instance, settings, servers, pool_max));
            }
        }
        Err(error) => findings.push(unanswered("reachable", &error)),
    }
    findings.extend(findings_of("schema", schema, |schema| of_schema(schema.as_ref())));
    let standbys = inspection.standbys().await;
    match (&settings, standbys) {
        (Some(settings), Ok(standbys)) => {
            findings.extend(settings::look(settings));
            findings.extend(replication::of_standbys(&standbys, settings));
        }
        (Some(settings), Err(error)) => {
            findings.extend(settings::look(settings));
            findings.push(unanswered("standbys", &error));
        }
        (None, _) => findings.extend(found.as_ref().err().map(|error| unanswered("settings", error))),
    }
    findings.extend(findings_of("slots", inspection.slots().await, |slots| replication::of_slots(&slots)));
    findings.extend(findings_of("transactions", inspection.long_transactions().await, |found| of_transactions(&found)));
    findings.extend(findings_of("dead rows", inspection.dead_rows().await, |found| of_dead_rows(&found)));
    findings.extend(findings_of("indexes", inspection.unfinished_indexes().await, |found| of_indexes(&found)));
    findings
}

/// The findings of an answer, or one finding for an error.
fn findings_of<T>(
    check: &'static str,
    answer: Result<T, Unanswered>,
    findings: impl FnOnce(T) -> Vec<Finding>,
) -> Vec<Finding> {
    match answer {
        Ok(answer) => findings(answer),
        Err(error) => vec![unanswered(check, &error)],
    }
}

fn unanswered(check: &'static str, error: &dyn std::fmt::Display) -> Finding {
    Finding::warn(AREA, check, format!("the check failed: {error}"))
}

fn unreachable(error: &str) -> Finding {
    let finding = Finding::fail(AREA, "reachable", error);
    if error.contains("takes no writes") {
        return finding.advise("name all hosts in the URL (a,b), so that the primary is found; or promote this one");
    }
    if error.contains("pooler") || error.contains("Pgpool") {
        return finding;
    }
    finding.advise("check host, port, user, password and pg_hba.conf; `psql` with the same URL says the same")
}

fn of_instance(instance: &Instance) -> Vec<Finding> {
    let Instance { version, version_number, database, .. } = instance;
    let mut findings = vec![Finding::ok(
        AREA,
        "reachable",
        format!("database {database:?} takes writes, {}", bytes(instance.size_bytes as f64)),
    )];
    findings.push(if version_number / 10_000 >= OLDEST_VERSION {
        Finding::ok(AREA, "version", format!("Postgres {version}"))
    } else {
        Finding::fail(AREA, "version", format!("Postgres {version} is older than {OLDEST_VERSION}"))
            .advise(format!("upgrade Postgres to {OLDEST_VERSION} or newer; older ones are not tested"))
    });
    if instance.encoding != "UTF8" {
        let what = format!("text is stored as {}, which cannot hold all texts", instance.encoding);
        findings.push(Finding::fail(AREA, "encoding", what).advise("use a database with ENCODING 'UTF8'"));
    }
    if !instance.can_create {
        let advice = "GRANT CREATE ON DATABASE … and ON SCHEMA public to this role, or run `interlock migrate` as its owner; \
            history needs a new partition each day";
        findings.push(Finding::fail(AREA, "rights", "this role may not make tables").advise(advice));
    }
    findings.push(of_clock(instance.clock_ahead));
    findings.extend(of_xid_age(instance.oldest_xid_age));
    findings
}

fn of_clock(ahead: f64) -> Finding {
    let what =
        format!("the clock is {:.1} s {} this machine's", ahead.abs(), if ahead < 0.0 { "behind" } else { "ahead of" });
    if ahead.abs() < CLOCK_SECONDS {
        return Finding::ok(AREA, "clock", format!("within {CLOCK_SECONDS} s of this machine's"));
    }
    let advice = "run NTP on both; leases and timers go by the database's clock, so a failover to a host with another clock shifts them";
    Finding::warn(AREA, "clock", what).advise(advice)
}

fn of_xid_age(age: i32) -> Option<Finding> {
    let what = format!("the oldest row that is not frozen is {age} transactions old");
    let advice = "find what holds vacuum back (old transactions, slots), then VACUUM FREEZE; at two billion Postgres takes no more writes";
    match age {
        XID_AGE_FAIL.. => Some(Finding::fail(AREA, "wraparound", what).advise(advice)),
        XID_AGE_WARN.. => Some(Finding::warn(AREA, "wraparound", what).advise(advice)),
        _ => None,
    }
}

/// Checks that Postgres allows the connections of all servers, beside those of others now.
fn of_connections(instance: &Instance, settings: &settings::PostgresSettings, servers: i64, pool_max: u32) -> Finding {
    let number = |name: &str| settings.get(name).and_then(|value| value.parse::<i64>().ok()).unwrap_or_default();
    let room = number("max_connections") - number("superuser_reserved_connections") - number("reserved_connections");
    let (servers, each) = (servers.max(1), i64::from(pool_max + FIXED_CONNECTIONS));
    let others = instance.connections - instance.own_connections;
    let needed = servers * each + others;
    let what = format!(
        "{needed} of {room} are needed: {servers} × {each} for servers with --pool-max {pool_max}, {others} of others now"
    );
    let advice = "raise max_connections, lower --pool-max, or put PgBouncer in session mode between";
    if needed > room {
        Finding::fail(AREA, "max_connections", what).advise(advice)
    } else if needed * 5 > room * 4 {
        Finding::warn(AREA, "max_connections", what).advise(advice)
    } else {
        Finding::ok(AREA, "max_connections", what)
    }
}

fn of_schema(schema: Option<&Schema>) -> Vec<Finding> {
    let Some(Schema { version, known_version, days_ahead, servers }) = schema else {
        let advice = "`interlock migrate`, or start `interlock serve`, which does it too";
        return vec![Finding::warn(AREA, "schema", "Interlock has made nothing here yet").advise(advice)];
    };
    let mut findings = vec![match version.cmp(known_version) {
        std::cmp::Ordering::Equal => Finding::ok(AREA, "schema", format!("version {version}, the newest")),
        std::cmp::Ordering::Less => {
            Finding::warn(AREA, "schema", format!("version {version}, this program has {known_version}"))
                .advise("`interlock migrate`, or start the new `interlock serve`")
        }
        std::cmp::Ordering::Greater => {
            Finding::fail(AREA, "schema", format!("version {version} is newer than this program's {known_version}"))
                .advise("upgrade this program; one this old cannot start on the database")
        }
    }];
    findings.push(if *days_ahead >= 2 {
        Finding::ok(AREA, "history", format!("partitions for {days_ahead} days ahead"))
    } else {
        Finding::fail(AREA, "history", format!("partitions for {days_ahead} days ahead; without one no write succeeds"))
            .advise("start a server, which makes them; if one runs, its log says why it cannot (a lock on job_events, rights)")
    });
    findings.push(Finding::ok(AREA, "servers", format!("{servers} running")));
    findings
}

fn of_transactions(found: &[LongTransaction]) -> Vec<Finding> {
    if found.is_empty() {
        return vec![Finding::ok(AREA, "transactions", "none is older than a minute")];
    }
    let finding = |found: &LongTransaction| {
        let LongTransaction { id, owner, state, age_seconds } = found;
        let (advice, which) = if state == "prepared" {
            ("ROLLBACK PREPARED it, unless its owner will commit it", "prepared transaction")
        } else {
            ("pg_terminate_backend(PID), if it is stuck; a backup is one too", "transaction of process")
        };
        Finding::warn(
            AREA,
            "transactions",
            format!("{which} {id} ({owner:?}, {state}) is open for {age_seconds:.0} s: dead rows cannot be removed"),
        )
        .advise(advice)
    };
    found.iter().map(finding).collect()
}

fn of_dead_rows(found: &[DeadRows]) -> Vec<Finding> {
    let finding = |DeadRows { table, dead, live }: &DeadRows| {
        Finding::warn(AREA, "dead rows", format!("{table} has {dead} dead rows and {live} others"))
            .advise(format!("find what holds autovacuum back (see transactions and slots), then VACUUM {table}"))
    };
    found.iter().map(finding).collect()
}

fn of_indexes(found: &[String]) -> Vec<Finding> {
    let finding = |name: &String| {
        Finding::fail(AREA, "indexes", format!("{name} is not valid, so it is not used"))
            .advise(format!("REINDEX INDEX CONCURRENTLY {name}"))
    };
    found.iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn instance() -> Instance {
        Instance {
            version_number: 150_004,
            version: "15.4".to_owned(),
            is_in_recovery: false,
            encoding: "UTF8".to_owned(),
            database: "interlock".to_owned(),
            size_bytes: 1,
            oldest_xid_age: 1,
            can_create: true,
            connections: 10,
            own_connections: 8,
            clock_ahead: 0.1,
        }
    }

    /// The findings that are not OK.
    fn faults(instance: &Instance) -> Vec<(&'static str, Level)> {
        let findings = of_instance(instance);
        findings.iter().filter(|it| it.level != Level::Ok).map(|it| (it.check, it.level)).collect()
    }

    #[test]
    fn each_fault_of_an_instance_is_found_alone() {
        assert_eq!(faults(&instance()), []);
        let cases = [
            (Instance { version_number: 140_011, ..instance() }, ("version", Level::Fail)),
            (Instance { encoding: "SQL_ASCII".to_owned(), ..instance() }, ("encoding", Level::Fail)),
            (Instance { can_create: false, ..instance() }, ("rights", Level::Fail)),
            (Instance { clock_ahead: -7.0, ..instance() }, ("clock", Level::Warn)),
            (Instance { oldest_xid_age: 1_200_000_000, ..instance() }, ("wraparound", Level::Warn)),
            (Instance { oldest_xid_age: 1_900_000_000, ..instance() }, ("wraparound", Level::Fail)),
        ];
        for (instance, fault) in cases {
            assert_eq!(faults(&instance), [fault]);
        }
    }

    #[test]
    fn connections_are_counted_for_all_servers_and_others() {
        let settings = [("max_connections", "100"), ("superuser_reserved_connections", "3")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect();
        let level = |servers, pool_max| of_connections(&instance(), &settings, servers, pool_max).level;
        assert_eq!(level(0, 20), Level::Ok);
        assert_eq!(level(2, 20), Level::Ok);
        assert_eq!(level(2, 28), Level::Warn);
        assert_eq!(level(3, 20), Level::Fail);
    }

    #[test]
    fn a_schema_is_missing_old_current_or_too_new() {
        let level = |version, days_ahead| {
            let schema = Schema { version, known_version: 10, days_ahead, servers: 1 };
            of_schema(Some(&schema)).iter().map(|finding| finding.level).collect::<Vec<_>>()
        };
        assert_eq!(level(10, 7), [Level::Ok; 3]);
        assert_eq!(level(9, 7)[0], Level::Warn);
        assert_eq!(level(11, 7)[0], Level::Fail);
        assert_eq!(level(10, 1)[1], Level::Fail);
        assert_eq!(of_schema(None)[0].level, Level::Warn);
    }

    #[test]
    fn what_holds_vacuum_back_or_is_not_used_is_reported_one_by_one() {
        let levels = |findings: Vec<Finding>| findings.iter().map(|it| (it.check, it.level)).collect::<Vec<_>>();
        let transaction = |state: &str| LongTransaction {
            id: "1".to_owned(),
            owner: "ana".to_owned(),
            state: state.to_owned(),
            age_seconds: 90.0,
        };
        assert_eq!(levels(of_transactions(&[])), [("transactions", Level::Ok)]);
        let both = of_transactions(&[transaction("active"), transaction("prepared")]);
        assert!(both[0].advice.contains("pg_terminate_backend") && both[1].advice.contains("ROLLBACK PREPARED"));
        assert_eq!(levels(both), [("transactions", Level::Warn); 2]);
        let dead = DeadRows { table: "stages".to_owned(), dead: 9, live: 1 };
        assert_eq!(levels(of_dead_rows(&[dead])), [("dead rows", Level::Warn)]);
        assert_eq!(levels(of_indexes(&["jobs_by_end".to_owned()])), [("indexes", Level::Fail)]);
        assert_eq!(levels(vec![unanswered("slots", &"no rights")]), [("slots", Level::Warn)]);
    }
}
