//! Vectors of the search that are made here are those that Postgres makes.

use super::*;
use crate::config::Config;
use crate::dev::TestDatabase;
use crate::domain::timeline::search_text::search_text;
use crate::store::Store;
use crate::store::connection::{Client, Run, Target};
use crate::store::pool::PoolSettings;
use crate::store::tests::database;

fn english() -> SearchLanguage {
    SearchLanguage::of_tag("en")
}

fn known(words: &[(&str, Lexeme)]) -> LexemeCache {
    let cache = LexemeCache::default();
    cache.add(words.iter().map(|(word, lexeme)| ((english(), Short::from(*word)), lexeme.clone())));
    cache
}

#[test]
fn a_vector_is_made_once_all_words_are_known() {
    let cache = known(&[("the", Lexeme::Stop), ("plans", Lexeme::Stem("plan".into()))]);
    assert!(cache.vector(english(), "the plans").is_some());
    assert_eq!(cache.vector(english(), "the new plans"), None);
    assert_eq!(cache.take_unknown(), [(english(), Short::from("new"))]);
    assert_eq!(cache.take_unknown(), []);
    assert_eq!(cache.vector(SearchLanguage::SIMPLE, "the"), None, "another language");
    assert_eq!(cache.vector(english(), ""), None);
}

#[test]
fn texts_that_only_postgres_can_cut_and_long_texts_are_left_to_it() {
    let cache = known(&[("the", Lexeme::Stop), ("odd", Lexeme::Irregular)]);
    assert_eq!(cache.vector(english(), "the odd"), None);
    assert_eq!(cache.take_unknown(), [], "it is known to be irregular");
    assert!(cache.vector(english(), &vec!["the"; vector::MAX_WORDS].join(" ")).is_some());
    assert_eq!(cache.vector(english(), &vec!["the"; vector::MAX_WORDS + 1].join(" ")), None);
}

#[test]
fn long_words_are_neither_kept_nor_asked_for() {
    let cache = known(&[("the", Lexeme::Stop)]);
    assert_eq!(cache.vector(english(), &format!("the {}", "x".repeat(MAX_WORD_BYTES + 1))), None);
    assert_eq!(cache.take_unknown(), []);
    assert_eq!(cache.vector(english(), &"x".repeat(MAX_WORD_BYTES)), None);
    assert_eq!(cache.take_unknown().len(), 1);
}

#[test]
fn words_in_use_are_kept_and_memory_is_bounded() {
    let cache = known(&[("the", Lexeme::Stop)]);
    for n in 0..3 * GENERATION_BYTES / WORD_BYTES {
        cache.add(std::iter::once(((english(), Short::from(n.to_string())), Lexeme::Stop)));
        assert!(n % 1_000 > 0 || cache.vector(english(), "the").is_some(), "{n}");
    }
    let state = cache.state.lock();
    assert!(state.recent.bytes.max(state.before.bytes) < GENERATION_BYTES + 2 * WORD_BYTES);
    assert!(state.recent.get(english(), "0").or(state.before.get(english(), "0")).is_none());
}

#[test]
fn unknown_words_are_bounded() {
    let cache = LexemeCache::default();
    for n in 0..2 * MAX_UNKNOWN {
        assert_eq!(cache.vector(english(), &n.to_string()), None);
    }
    assert_eq!(cache.take_unknown().len(), MAX_UNKNOWN);
}

/// Texts of many scripts, each of which is taken for every language.
const TEXTS: &[&str] = &[
    "The plans of the running engines are planned, and planning them has been generously organised",
    "To be or not to be: that is the question",
    "the the the",
    "Die Häuser der größten Städte würden überall gebaut, und die Straßen sind schön",
    "Les élèves mangeaient rapidement les pommes qu'ils avaient achetées",
    "Los niños corrían hacia las montañas; no estaban cansados",
    "Быстрые лисицы перепрыгивали через ленивых собак и не остановились",
    "Οι γρήγορες αλεπούδες πηδούν πάνω από τα τεμπέλικα σκυλιά, ΛΟΓΟΣ",
    "İstanbul'da evlerimizden çıkıyorduk ışık",
    "הילדים רצים בגן שָׁלוֹם",
    "الأولاد يلعبون في الحديقة العَرَبِيَّةُ",
    "हिन्दी भाषा में लड़कियाँ खेलती हैं १२३",
    "குழந்தைகள் விளையாடுகிறார்கள்",
    "Nopeat ketut hyppäsivät laiskojen koirien yli taloissammekin",
    "A gyors rókák átugrották a lusta kutyákat házaikban",
    "東京都の天気 iPhone15を買う 안녕하세요 ที่นี่",
    "3.14 1e5 0x1f v1.2.3 2024-05-06 12:30 50% $7 +49 30 1 000 000 x2 2x",
    "foo@bar.com https://example.com/a/b?c=d#e /usr/lib <b>x</b> &amp; A.B.C. don't o'clock",
    "e\u{301}te\u{301} \u{1d400}\u{1d401} ﬁsh ½ ß ſ ŉ Ǆ ﷺ ª º ² ³",
    "🎉party🎉",
];

async fn store_and_client() -> (TestDatabase, Store, Client) {
    let database = database().await;
    let target = Target::parse(database.url()).expect("our own URL");
    let client = target.connect("").await.expect("Postgres listens");
    let store = Store::new(target, PoolSettings::from(&Config::default())).expect("a pool");
    (database, store, client)
}

#[tokio::test]
async fn vectors_are_those_of_postgres() {
    let (_database, store, client) = store_and_client().await;
    let mut texts: Vec<String> = TEXTS.iter().map(|text| search_text(text)).collect();
    texts.extend([search_text(&"x".repeat(300)), vec!["running"; vector::MAX_WORDS].join(" ")]);
    let cases: Vec<(SearchLanguage, &String)> =
        SearchLanguage::all().flat_map(|language| texts.iter().map(move |text| (language, text))).collect();
    for (language, words) in &cases {
        assert_eq!(store.lexemes.vector(*language, words), None, "no word is known");
    }
    while store.learn_lexemes().await.expect("Postgres answers") > 0 {
        cases.iter().for_each(|(language, words)| drop(store.lexemes.vector(*language, words)));
    }
    let mut made = 0;
    for (language, words) in &cases {
        let Some(vector) = store.lexemes.vector(*language, words) else { continue };
        let sql = "SELECT $1::tsvector::text, segment_vector($2, $3)::text";
        let rows = client.rows(sql, &[&vector, &language.name(), words]).await.expect("two vectors");
        let (ours, theirs): (&str, &str) = (rows[0].get(0), rows[0].get(1));
        assert_eq!(ours, theirs, "{words} in {}", language.name());
        made += 1;
    }
    assert!(made * 10 >= cases.len() * 9, "{} of {} are left to Postgres", cases.len() - made, cases.len());
}

const INSERT: &str = "
    INSERT INTO segments (namespace_id, session_uid, key, arrival, version, kind, status, sequence, create_time, update_time, text, search_config,
        search_text, search_vector)
    SELECT 1, '60000000-0000-8000-8000-000000000001', 'k', 1, 1, 2, 2, 0, now(), now(), 'The plans', 'english', 'the plans', $1::text::tsvector";

#[tokio::test]
async fn the_database_makes_the_vectors_that_are_not_sent() {
    let (_database, _store, client) = store_and_client().await;
    for (sent, stored) in [(None, "'plan':1004 'plans':2 'the':1"), (Some("'sent':1"), "'sent':1")] {
        client.batch_execute("DELETE FROM segments").await.expect("no segments");
        client.rows(INSERT, &[&sent]).await.expect("a segment");
        assert_eq!(stored_vector(&client).await.as_deref(), Some(stored));
    }
    for (change, stored) in [
        // As servers before V23 write, which send no vector.
        ("text = 'blue', search_text = NULL", Some("'blue':1,1002")),
        ("text = 'runs', search_vector = NULL", Some("'run':1002 'runs':1")),
        ("text = 'new', search_vector = '''sent'':1'", Some("'sent':1")),
        ("text = NULL, search_config = NULL", None),
        ("text = 'interim'", None),
        ("text = 'final', search_config = 'simple'", Some("'final':1")),
    ] {
        client.batch_execute(&format!("UPDATE segments SET {change}")).await.expect("an update");
        assert_eq!(stored_vector(&client).await.as_deref(), stored, "{change}");
    }
}

async fn stored_vector(client: &Client) -> Option<String> {
    client.rows("SELECT search_vector::text FROM segments", &[]).await.expect("a segment")[0].get(0)
}
