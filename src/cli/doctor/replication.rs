//! Checks of standbys and slots: whether acknowledged writes survive the loss of the primary, and what fills its disk.

use super::finding::{Finding, bytes};
use super::settings::PostgresSettings;
use crate::store::inspect::{Slot, Standby};

/// Replication lag above which a failover takes long.
const LAG_SECONDS: f64 = 60.0;
const LAG_BYTES: f64 = 1e9;
/// Size of the log retained for a slot above which its reader is too far behind.
const KEPT_BYTES: f64 = 1e9;

const AREA: &str = "database";

/// Checks the standbys, and the settings of synchronous replication.
pub fn of_standbys(standbys: &[Standby], settings: &PostgresSettings) -> Vec<Finding> {
    let value = |name: &str| settings.get(name).map_or("", String::as_str);
    let (names, commit) = (value("synchronous_standby_names"), value("synchronous_commit"));
    let mut findings = vec![of_set(standbys, names, commit)];
    findings.extend(standbys.iter().filter_map(of_lag));
    findings
}

fn of_set(standbys: &[Standby], names: &str, commit: &str) -> Finding {
    let check = "standbys";
    let is_synchronous = |standby: &&Standby| matches!(standby.sync_state.as_str(), "sync" | "quorum");
    let synchronous = standbys.iter().filter(is_synchronous).count();
    let all = standbys.iter().map(|standby| standby.name.as_str()).collect::<Vec<_>>().join(", ");
    if names.is_empty() {
        if standbys.is_empty() {
            return Finding::ok(AREA, check, "none: there is one copy of the data");
        }
        return Finding::warn(
            AREA,
            check,
            format!("{all}: none is synchronous, a failover can lose acknowledged writes"),
        )
        .advise("set synchronous_standby_names; with Patroni, synchronous_mode: true");
    }
    if matches!(commit, "off" | "local") {
        let what = format!("synchronous_commit is {commit}, so no commit waits for {names:?}");
        return Finding::fail(AREA, check, what).advise("set synchronous_commit to on for this role and database");
    }
    if standbys.iter().any(|standby| standby.sync_state.is_empty()) {
        return Finding::warn(AREA, check, format!("{all}: this role may not see which is synchronous"))
            .advise("GRANT pg_monitor to this role, and look again");
    }
    if synchronous == 0 {
        return Finding::fail(AREA, check, format!("none of {names:?} is connected: all commits wait"))
            .advise("start the standby, or take it out of synchronous_standby_names and reload");
    }
    Finding::ok(AREA, check, format!("{all}: {synchronous} synchronous, synchronous_commit is {commit}"))
}

fn of_lag(standby: &Standby) -> Option<Finding> {
    let (lag_bytes, lag_seconds) = (standby.lag_bytes.unwrap_or_default(), standby.lag_seconds.unwrap_or_default());
    if lag_bytes < LAG_BYTES && lag_seconds < LAG_SECONDS {
        return None;
    }
    let what = format!("{} is {} and {lag_seconds:.0} s behind", standby.name, bytes(lag_bytes));
    Some(Finding::warn(AREA, "replication lag", what).advise("look at its disk, its network and at long queries on it"))
}

/// Checks the replication slots.
pub fn of_slots(slots: &[Slot]) -> Vec<Finding> {
    let finding = |slot: &Slot| {
        let (name, kept) = (&slot.name, bytes(slot.kept_bytes));
        let drop = format!("if its reader will not come back: SELECT pg_drop_replication_slot('{name}')");
        match (slot.wal_status.as_str(), slot.is_active) {
            ("lost", _) => Some(
                Finding::warn(AREA, "slots", format!("{name} is lost: its reader has to begin from a new copy"))
                    .advise(drop),
            ),
            (_, false) if slot.kept_bytes >= KEPT_BYTES => Some(
                Finding::warn(
                    AREA,
                    "slots",
                    format!("{name} has no reader and keeps {kept} of log, which fills the disk"),
                )
                .advise(drop),
            ),
            (_, true) if slot.kept_bytes >= KEPT_BYTES => Some(
                Finding::warn(AREA, "slots", format!("{name} keeps {kept} of log: its reader is behind"))
                    .advise("look at the reader; max_slot_wal_keep_size bounds what it can take"),
            ),
            _ => None,
        }
    };
    let findings: Vec<Finding> = slots.iter().filter_map(finding).collect();
    if findings.is_empty() {
        return vec![Finding::ok(AREA, "slots", format!("{}, none keeps much log", slots.len()))];
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn standby(sync_state: &str) -> Standby {
        Standby { name: "b".to_owned(), sync_state: sync_state.to_owned(), lag_bytes: Some(0.0), lag_seconds: None }
    }

    #[test]
    fn standbys_are_judged_by_whether_commits_wait_for_them() {
        let level = |states: &[&str], names: &str, commit: &str| {
            let settings = [("synchronous_standby_names", names), ("synchronous_commit", commit)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into_iter()
                .collect();
            let standbys: Vec<Standby> = states.iter().map(|state| standby(state)).collect();
            of_standbys(&standbys, &settings)[0].level
        };
        assert_eq!(level(&[], "", "on"), Level::Ok);
        assert_eq!(level(&["async"], "", "on"), Level::Warn);
        assert_eq!(level(&["sync", "async"], "b", "on"), Level::Ok);
        assert_eq!(level(&["quorum"], "ANY 1 (b)", "remote_apply"), Level::Ok);
        assert_eq!(level(&["sync"], "b", "local"), Level::Fail);
        assert_eq!(level(&["async"], "b", "on"), Level::Fail);
        assert_eq!(level(&[], "b", "on"), Level::Fail);
        assert_eq!(level(&[""], "b", "on"), Level::Warn);
    }

    #[test]
    fn a_standby_that_is_behind_and_slots_that_keep_log_are_found() {
        let behind = Standby { lag_bytes: Some(2e9), ..standby("sync") };
        assert_eq!(of_lag(&behind).map(|finding| finding.level), Some(Level::Warn));
        assert!(of_lag(&standby("sync")).is_none());
        let slot = |is_active, kept_bytes, wal_status: &str| Slot {
            name: "s".to_owned(),
            is_active,
            wal_status: wal_status.to_owned(),
            kept_bytes,
        };
        let level = |slot: Slot| of_slots(&[slot])[0].level;
        assert_eq!(level(slot(true, 1e6, "reserved")), Level::Ok);
        assert_eq!(level(slot(false, 1e6, "reserved")), Level::Ok);
        assert_eq!(level(slot(false, 2e9, "extended")), Level::Warn);
        assert_eq!(level(slot(true, 2e9, "extended")), Level::Warn);
        assert_eq!(level(slot(false, 0.0, "lost")), Level::Warn);
    }
}
