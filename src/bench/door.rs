//! Cost of TLS and API keys: the same updates on a server without them, on one with TLS, and on one with both.
//!
//! All three servers run all the time, over one database, and each has jobs of its own, so that none reads what another
//! has written.

use super::compare::{MeasuredRun, Scene, row};
use super::load::{channels, closed_loop};
use super::report::Row;
use super::servers::{Demands, Server};
use super::workloads::{MANY, applied, prepare, update_call};
use anyhow::Context;

/// Names of the servers, and what they require of their clients.
const VARIANTS: [(&str, Demands); 3] = [
    ("plain", Demands { tls: false, key: false }),
    ("TLS", Demands { tls: true, key: false }),
    ("TLS and key", Demands { tls: true, key: true }),
];

/// One of the three servers.
struct Variant {
    name: &'static str,
    server: Server,
    /// Prefix of the ids of its jobs.
    prefix: String,
}

/// UpdateStageProgress on many jobs, on each server in rotation.
pub async fn door(scene: &Scene<'_>) -> anyhow::Result<Vec<Row>> {
    let url = scene.settings.database_url.as_deref().filter(|_| scene.settings.target.is_none());
    let url = url.context("bench door starts servers of its own, so --target cannot be used")?;
    let mut variants = Vec::new();
    for (name, demands) in VARIANTS {
        let server =
            Server::demanding(url, demands).await.with_context(|| format!("{name}: the server does not start"))?;
        variants.push(Variant { name, server, prefix: prepare(scene, name, MANY).await? });
    }
    let mut rows = Vec::new();
    for in_flight in scene.settings.in_flight(&[1, 64]) {
        rows.extend(in_turn(scene, &variants, in_flight).await?);
    }
    for variant in variants {
        variant.server.stop().await;
    }
    Ok(rows)
}

async fn in_turn(scene: &Scene<'_>, variants: &[Variant], in_flight: usize) -> anyhow::Result<Vec<Row>> {
    let before = scene.stored().await?;
    let mut acknowledged = 0;
    let mut runs: Vec<Vec<MeasuredRun>> = variants.iter().map(|_| Vec::new()).collect();
    for round in 0..=scene.settings.pairs {
        for (variant, runs) in variants.iter().zip(&mut runs) {
            let channels = channels(&variant.server.address, in_flight).await?;
            let call = applied(update_call(&variant.prefix, MANY, in_flight));
            let work = closed_loop(&channels, in_flight, scene.settings.run, call);
            let run = scene.costed(&variant.server, work).await?;
            acknowledged += i64::try_from(run.sample.applied)?;
            // The first round warms up.
            if round > 0 {
                runs.push(run);
            }
        }
    }
    if let (Some(before), Some(after)) = (before, scene.stored().await?) {
        let stored = after.versions - before.versions;
        anyhow::ensure!(stored == acknowledged, "{acknowledged} updates were acknowledged, {stored} are stored");
    }
    let report = |(variant, of_variant): (&Variant, &Vec<MeasuredRun>)| {
        let mut row = row("update many jobs", variant.name, in_flight, &of_variant.iter().collect::<Vec<_>>());
        let both = of_variant.iter().zip(&runs[0]);
        row.set_ratios(both.map(|(run, plain)| run.sample.per_second() / plain.sample.per_second()));
        row.memory_bytes = variant.server.memory_bytes();
        row
    };
    Ok(variants.iter().zip(&runs).map(report).collect())
}
