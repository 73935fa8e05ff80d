//! Logs and traces. Log lines that pass the filter go to standard error, as text or JSON; standard output is for the
//! output of commands. Traces are optional (see [`traces`]).

pub mod traces;

use tracing::Subscriber;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::config::{Config, LogFormat};
use crate::spans;
use traces::Traces;

/// Directives for `EnvFilter`. A level alone applies to this crate, and libraries log only errors: some of them log a
/// line for each frame that a client sends. The spans of traces are never logged.
fn directives(filter: &str) -> String {
    let filter = match filter.trim().parse::<LevelFilter>() {
        Ok(LevelFilter::OFF) | Err(_) => filter.to_owned(),
        Ok(level) => format!("error,interlock={level}"),
    };
    format!("{filter},{}=off", spans::TARGET)
}

/// Sets up logging for the whole process. A second call changes nothing, so that every test may call it.
///
/// # Errors
/// If the filter cannot be parsed; the message quotes it.
pub fn start(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let subscriber = Registry::default().with(lines(format)).with(env_filter(filter)?);
    // `try_init` fails only if logging was set up before, which is fine.
    let _is_set = subscriber.try_init();
    Ok(())
}

/// Starts logs, and traces if they are configured.
///
/// # Errors
/// If the filter cannot be parsed, or the collector's URL cannot be used.
pub fn start_with_traces(config: &Config) -> anyhow::Result<Option<Traces>> {
    let Some(endpoint) = &config.otlp_endpoint else {
        start(&config.log, config.log_format)?;
        return Ok(None);
    };
    let traces = Traces::new(endpoint, config.otlp_sample_ratio)?;
    let logs = lines(config.log_format).with_filter(env_filter(&config.log)?);
    let _is_set = Registry::default().with(logs).with(traces.layer()).try_init();
    Ok(Some(traces))
}

fn env_filter(filter: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(directives(filter))
        .map_err(|error| anyhow::anyhow!("the log filter `{filter}` cannot be read: {error}"))
}

/// Layer that writes log lines.
fn lines<S: Subscriber + for<'a> LookupSpan<'a>>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync> {
    let layer = fmt::layer().with_timer(SystemTime).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => layer.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_alone_is_for_this_crate() {
        for (given, used) in [
            ("info", "error,interlock=info"),
            ("WARN", "error,interlock=warn"),
            ("off", "off"),
            ("debug,h2=warn", "debug,h2=warn"),
            ("interlock=trace", "interlock=trace"),
        ] {
            assert_eq!(directives(given), format!("{used},interlock::spans=off"));
            assert!(EnvFilter::try_new(directives(given)).is_ok());
        }
        assert!(EnvFilter::try_new(directives("no=such=level")).is_err());
    }
}
