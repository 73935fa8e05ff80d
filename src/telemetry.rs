//! Logs: what the filter lets through, as text or JSON, to standard error. Standard output belongs to what a verb prints.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::time::SystemTime;

use crate::config::LogFormat;

/// What `EnvFilter` reads. A level alone is for this crate, and libraries log errors: some of them log a line for each frame that a
/// client sends.
fn directives(filter: &str) -> String {
    match filter.trim().parse::<LevelFilter>() {
        Ok(LevelFilter::OFF) | Err(_) => filter.to_owned(),
        Ok(level) => format!("error,interlock={level}"),
    }
}

/// Sets up logging for the whole process. A second call changes nothing, so that tests may call it each.
///
/// # Errors
/// When the filter cannot be read; the message quotes it.
pub fn start(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(directives(filter))
        .map_err(|error| anyhow::anyhow!("the log filter `{filter}` cannot be read: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_timer(SystemTime).with_writer(std::io::stderr);
    // The only failure is that logging has been set up before, and then it is as good as done.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
    };
    Ok(())
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
            assert_eq!(directives(given), used);
            assert!(EnvFilter::try_new(directives(given)).is_ok());
        }
        assert!(EnvFilter::try_new(directives("no=such=level")).is_err());
    }
}
