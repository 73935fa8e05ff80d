//! Timelines in the SQL that a user would write: sessions, segments with foreign keys to session and parent, an index of the texts.

use std::time::{Duration, Instant};

use super::load::{Sample, micros};
use super::segments::{SENTENCE_MS, SampleTexts, page_start_ms};
use crate::store::connection::{Client, Run, Target};

/// Connections at most: more only contend on a few cores.
const CONNECTIONS: usize = 64;
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS raw_sessions (session_id text PRIMARY KEY, created timestamptz NOT NULL DEFAULT now());
    CREATE TABLE IF NOT EXISTS raw_segments (
        session_id text NOT NULL REFERENCES raw_sessions,
        key text NOT NULL,
        kind smallint NOT NULL,
        parent_key text,
        start_ms bigint,
        end_ms bigint,
        speaker text,
        language text,
        text text,
        created timestamptz NOT NULL DEFAULT now(),
        words tsvector GENERATED ALWAYS AS (to_tsvector('english', coalesce(text, ''))) STORED,
        PRIMARY KEY (session_id, key),
        FOREIGN KEY (session_id, parent_key) REFERENCES raw_segments);
    CREATE INDEX IF NOT EXISTS raw_segments_start ON raw_segments (session_id, start_ms);
    CREATE INDEX IF NOT EXISTS raw_segments_words ON raw_segments USING gin (words);
    TRUNCATE raw_sessions, raw_segments";
const INSERT: &str = "INSERT INTO raw_segments (session_id, key, kind, parent_key, start_ms, end_ms, speaker, language, text) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, 'en', $8)";
const COPY: &str = "WITH s AS (INSERT INTO raw_sessions SELECT session_id FROM sessions WHERE session_id LIKE $1 || '-full-%' RETURNING session_id) \
    INSERT INTO raw_segments (session_id, key, kind, start_ms, end_ms, speaker, language, text) \
    SELECT n.session_id, g.key, g.kind, g.start_ns / 1000000, g.end_ns / 1000000, g.speaker, g.language, g.text \
    FROM s JOIN sessions n ON n.session_id = s.session_id JOIN segments g ON g.session_uid = n.session_uid AND g.namespace_id = n.namespace_id";
const QUERY: &str = "SELECT key, kind, parent_key, start_ms, end_ms, speaker, language, text FROM raw_segments \
    WHERE session_id = $1 AND start_ms >= $2 ORDER BY start_ms LIMIT $3";
const SEARCH: &str = "SELECT session_id, key, ts_headline('english', text, q), ts_rank(words, q) AS rank \
    FROM raw_segments, plainto_tsquery('english', $1) q WHERE words @@ q ORDER BY rank DESC LIMIT $2";

/// The tables, and where they are.
pub struct RawTimeline {
    target: Target,
    sessions: u64,
}

impl RawTimeline {
    /// Creates the tables, with sessions of their own.
    pub async fn prepare(url: &str, sessions: u64) -> anyhow::Result<Self> {
        let target = Target::parse(url)?;
        let client = target.connect(TABLES).await?;
        let count = i64::try_from(sessions)?;
        client
            .rows("INSERT INTO raw_sessions SELECT 'raw-' || i FROM generate_series(0, $1::int8 - 1) i", &[&count])
            .await?;
        Ok(Self { target, sessions })
    }

    /// Copies the segments that our server was filled with.
    pub async fn copy(&self, name: &str) -> anyhow::Result<()> {
        let client = self.target.connect("SET session_replication_role = replica").await?;
        client.rows(COPY, &[&name]).await?;
        client.rows("ANALYZE raw_segments", &[]).await?;
        Ok(())
    }

    /// Stores sets of five segments, a transaction each.
    pub async fn append_sets(&self, in_flight: usize, run: Duration) -> anyhow::Result<Sample> {
        let (texts, sessions) = (SampleTexts::new(), self.sessions);
        // Sets of another run have other keys.
        let own = format!("{:x}-", rand::random::<u64>());
        let append = async move |client: &Client, n: u64| {
            let (session, text) = (format!("raw-{}", n % sessions), texts.sentence(n));
            let start = (n / sessions * SENTENCE_MS).cast_signed();
            let end = start + SENTENCE_MS.cast_signed();
            let speaker = format!("speaker {}", n % 10);
            let key = |part: &str| format!("{own}{n}{part}");
            client.batch_execute("BEGIN").await?;
            for (part, kind, parent) in
                [("a", 1_i16, None), ("t", 2, Some("a")), ("x", 3, Some("t")), ("y", 3, Some("t")), ("z", 3, Some("t"))]
            {
                let text = (kind > 1).then_some(&text);
                let parent = parent.map(key);
                client.rows(INSERT, &[&session, &key(part), &kind, &parent, &start, &end, &speaker, &text]).await?;
            }
            client.batch_execute("COMMIT").await
        };
        self.run(in_flight, run, append).await
    }

    /// Reads pages of timelines.
    pub async fn query(&self, in_flight: usize, run: Duration, limit: i64) -> anyhow::Result<Sample> {
        let client = self.target.connect("").await?;
        let rows = client.rows("SELECT session_id FROM raw_sessions WHERE session_id NOT LIKE 'raw-%'", &[]).await?;
        let sessions: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        anyhow::ensure!(!sessions.is_empty(), "nothing was copied");
        let query = async move |client: &Client, n: u64| {
            let session = &sessions[(n % sessions.len() as u64) as usize];
            let start = page_start_ms(n).cast_signed();
            client.rows(QUERY, &[session, &start, &limit]).await.map(drop)
        };
        self.run(in_flight, run, query).await
    }

    /// Searches for two words, with `limit` results at most.
    pub async fn search(&self, in_flight: usize, run: Duration, limit: i64) -> anyhow::Result<Sample> {
        let texts = SampleTexts::new();
        let search =
            async move |client: &Client, n: u64| client.rows(SEARCH, &[&texts.query(n), &limit]).await.map(drop);
        self.run(in_flight, run, search).await
    }

    /// Runs `work` over as many connections as there are calls in flight, [`CONNECTIONS`] at most.
    async fn run(
        &self,
        in_flight: usize,
        run: Duration,
        work: impl AsyncFn(&Client, u64) -> Result<(), tokio_postgres::Error>,
    ) -> anyhow::Result<Sample> {
        let mut clients = Vec::new();
        for _ in 0..in_flight.min(CONNECTIONS) {
            clients.push(self.target.connect("").await?);
        }
        let every = clients.len() as u64;
        let started = Instant::now();
        let one = async |(i, client): (usize, &Client)| {
            let mut latencies = Vec::new();
            for n in 0_u64.. {
                if started.elapsed() >= run {
                    break;
                }
                let sent = Instant::now();
                work(client, n * every + i as u64).await?;
                latencies.push(micros(sent.elapsed()));
            }
            Ok::<_, tokio_postgres::Error>(latencies)
        };
        let mut sample = Sample::default();
        for latencies in futures::future::join_all(clients.iter().enumerate().map(one)).await {
            sample.latencies.extend(latencies?);
        }
        sample.calls = sample.latencies.len() as u64;
        (sample.applied, sample.took) = (sample.calls, started.elapsed());
        sample.latencies.sort_unstable();
        Ok(sample)
    }
}
