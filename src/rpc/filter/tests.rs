//! Filters: what they mean, and that no text of any form does harm.

use proptest::prelude::*;

use super::*;
use crate::domain::job::JobPhase;
use crate::domain::query::{Comparison, Test, TimeField};
use crate::domain::time::Timestamp;

fn clauses(text: &str) -> Vec<Clause> {
    match filter(text) {
        Ok(filter) => filter.clauses,
        Err(refusal) => panic!("{text}: {refusal}"),
    }
}

fn refused(text: &str) -> String {
    match filter(text) {
        Err(Refusal::InvalidField { path, why }) if path == "filter" => why,
        other => panic!("{text:.100}: {other:?}"),
    }
}

fn test<T>(comparison: Comparison, value: T) -> Test<T> {
    Test { comparison, value }
}

#[test]
fn comparisons_are_read_with_their_types() {
    use Comparison::*;
    assert_eq!(clauses(""), []);
    assert_eq!(clauses("  "), []);
    assert_eq!(clauses("state = RUNNING"), [Clause::State(vec![JobPhase::Running])]);
    assert_eq!(clauses("kind!='a b'"), [Clause::Kind(vec![test(NotEqual, "a b".to_owned())])]);
    let label = Clause::Label { key: "team/x".to_owned(), any_of: vec![test(Equal, "a\"\\ü".to_owned())] };
    assert_eq!(clauses(r#"labels.team/x = "a\"\\ü""#), [label]);
    let moment = test(GreaterOrEqual, Timestamp(0));
    let time = Clause::Time { field: TimeField::End, any_of: vec![moment] };
    assert_eq!(clauses("end_time>=1970-01-01T00:00:00Z"), std::slice::from_ref(&time));
    assert_eq!(clauses("end_time >= \"1970-01-01T01:00:00+01:00\""), [time]);
}

#[test]
fn or_binds_tighter_than_and_and_stays_within_a_field() {
    let both = Clause::State(vec![JobPhase::Pending, JobPhase::Running]);
    let film = Clause::Kind(vec![test(Comparison::Equal, "film".to_owned())]);
    let bare = "kind = film AND state = RUNNING OR state = PENDING OR state = RUNNING";
    assert_eq!(clauses(bare), [film.clone(), both.clone()]);
    assert_eq!(clauses("kind = film AND (state = RUNNING OR (state = PENDING))"), [film.clone(), both.clone()]);
    assert_eq!(clauses("((kind = film) AND (state = RUNNING OR state = PENDING))"), [film.clone(), both.clone()]);
    assert_eq!(clauses("(kind = film AND state = RUNNING OR state = PENDING)"), [film, both]);
    let Clause::State(rest) = &clauses("state != FAILED")[0] else { panic!() };
    assert_eq!((rest.len(), rest.contains(&JobPhase::Failed)), (6, false));
    let none = clauses("state = RUNNING AND state = PAUSED");
    assert_eq!(none.len(), 2, "contradictions are for the database");
}

#[test]
fn faults_have_their_position() {
    for (text, place) in [
        ("colour = red", "at character 1:"),
        ("state = BLUE", "at character 9:"),
        ("state = running", "at character 9:"),
        ("state < RUNNING", "at character 7:"),
        ("kind = \"film", "at character 8:"),
        ("kind = \"fi\0lm\"", "at character 11:"),
        ("kind = \"a\\", "at character 8:"),
        ("kind", "at character 5:"),
        ("kind =", "at character 7:"),
        ("kind = AND kind = b", "at character 12:"),
        ("kind ! film", "at character 6:"),
        ("kind == film", "at character 6:"),
        ("(kind = film", "at character 13:"),
        ("kind = film)", "at character 12:"),
        ("kind = film state = RUNNING", "at character 13:"),
        ("kind = film and state = RUNNING", "at character 13:"),
        ("kind = film AND", "at character 16:"),
        ("()", "at character 2:"),
        ("kind = a OR state = RUNNING", "at character 13:"),
        ("labels.a = a OR labels.b = a", "at character 17:"),
        ("(kind = a AND kind = b) OR kind = c", "at character 28:"),
        ("NOT kind = a", "at character 1:"),
        ("-kind = a", "at character 1:"),
        ("labels. = a", "at character 1:"),
        ("labels.ü = a", "at character 8:"),
        ("end_time > yesterday", "at character 12:"),
        ("end_time > 1700000000", "at character 12:"),
        ("\"kind\" = a", "at character 1:"),
        ("kind = a; DROP TABLE job", "at character 9:"),
    ] {
        let why = refused(text);
        assert!(why.starts_with(place), "{text}: {why}");
    }
}

#[test]
fn hostile_filters_end_quickly() {
    refused(&"(".repeat(2_000));
    refused(&format!("{}kind = a{}", "(".repeat(9), ")".repeat(9)));
    refused(&"x".repeat(2_001));
    refused(&"x".repeat(4_000_000));
    refused(&"\"".repeat(1_999));
    let long = vec!["kind=a"; 200].join(" OR ");
    assert!(matches!(&clauses(&long)[..], [Clause::Kind(tests)] if tests.len() == 200));
    // Characters count, not bytes.
    assert_eq!(clauses(&format!("kind = \"{}\"", "ü".repeat(1_990))).len(), 1);
}

#[test]
fn orders_are_read() {
    let order_of = |field, descending| Ok(JobOrder { field, descending });
    assert_eq!(order(""), order_of(OrderField::CreateTime, true));
    assert_eq!(order("create_time"), order_of(OrderField::CreateTime, false));
    assert_eq!(order(" end_time  desc "), order_of(OrderField::EndTime, true));
    assert_eq!(order("priority asc"), order_of(OrderField::Priority, false));
    for bad in ["kind", "priority down", "priority desc asc", "priority desc, create_time", "priority,end_time", "DESC"]
    {
        assert!(matches!(order(bad), Err(Refusal::InvalidField { path, .. }) if path == "order_by"), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[(kindOAR=!<>'\"\\\\ü .]{0,60}|\\PC{0,60}") {
        let _parsed = filter(&text);
    }

    #[test]
    fn any_text_can_be_quoted(value in "[^\\p{Cc}]{0,30}") {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        let read = clauses(&format!("kind = \"{quoted}\""));
        prop_assert_eq!(read, [Clause::Kind(vec![test(Comparison::Equal, value)])]);
    }
}
