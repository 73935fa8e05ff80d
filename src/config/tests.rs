//! Precedence, validation and redaction.

use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, Command, FromArgMatches};

use super::*;

/// What the flags say, as clap reads them.
fn flags(arguments: &[&str]) -> Overrides {
    read(arguments).expect("valid flags")
}

fn read(arguments: &[&str]) -> Result<Overrides, clap::Error> {
    let command = Overrides::augment_args(Command::new("test")).mut_args(|argument| argument.env(None));
    Overrides::from_arg_matches(&command.no_binary_name(true).try_get_matches_from(arguments)?)
}

fn file(text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("interlock-{}.toml", uuid::Uuid::new_v4()));
    std::fs::write(&path, text).expect("a writable directory for temporary files");
    path
}

#[test]
fn without_anything_the_defaults_hold() {
    let config = Config::load(&Overrides::default(), None).expect("valid defaults");
    assert_eq!(config.listen.to_string(), "127.0.0.1:50051");
    assert_eq!((config.pool_min, config.pool_max), (5, 20));
    assert!(!config.reflection);
    assert!(config.require_database_url().is_err());
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let path = file("pool_max = 7\nqueue_timeout = \"5s\"\ncache_bytes = \"8MiB\"\nlog_format = \"json\"\n");
    let overrides = flags(&["--config", &path.to_string_lossy(), "--pool-max", "9", "--reflection"]);
    let config = Config::load(&overrides, None);
    std::fs::remove_file(path).expect("the file is there");
    let config = config.expect("valid settings");
    assert_eq!(config.pool_max, 9);
    assert_eq!(config.queue_timeout, Duration::from_secs(5));
    assert_eq!(config.cache_bytes, ByteSize::mib(8));
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(config.pool_min, 5);
    assert!(config.reflection);
}

#[test]
fn a_setting_has_the_same_name_as_flag_variable_and_key_of_a_file() {
    let command = Overrides::augment_args(Command::new("test"));
    let settings = serde_json::to_value(Config::default()).expect("serialisable");
    let arguments: Vec<_> = command.get_arguments().filter(|argument| argument.get_id() != "config").collect();
    assert_eq!(arguments.len(), settings.as_object().expect("an object").len() - 1, "all but database_url are flags");
    for argument in arguments {
        let name = argument.get_id().as_str();
        assert!(settings.get(name).is_some(), "{name} cannot stand in a file");
        assert_eq!(argument.get_long(), Some(name.replace('_', "-").as_str()));
        let variable = argument.get_env().and_then(|name| name.to_str());
        assert_eq!(variable, Some(format!("INTERLOCK_{}", name.to_uppercase()).as_str()));
        assert!(argument.get_help().is_some(), "{name} has no reason");
    }
}

#[test]
fn durations_and_sizes_parse_as_before_and_in_more_units() {
    for (text, seconds) in [("30s", 30), ("90 s", 90), ("5m", 300), ("2h", 7_200), ("7d", 604_800), ("1h 30min", 5_400)]
    {
        let config = Config::load(&flags(&["--drain-timeout", text]), None).expect("valid settings");
        assert_eq!(config.drain_timeout, Duration::from_secs(seconds), "{text}");
    }
    let config = Config::load(&flags(&["--drain-timeout", "1500ms"]), None).expect("valid settings");
    assert_eq!(config.drain_timeout, Duration::from_millis(1_500));
    for (text, bytes) in
        [("4194305", 4_194_305), ("4096KiB", 4 << 20), ("8 MiB", 8 << 20), ("1GiB", 1 << 30), ("8MB", 8_000_000)]
    {
        let config = Config::load(&flags(&["--queue-bytes", text]), None).expect("valid settings");
        assert_eq!(config.queue_bytes.as_u64(), bytes, "{text}");
    }
    for (flag, wrong) in [
        ("--drain-timeout", "30"),
        ("--drain-timeout", ""),
        ("--drain-timeout", "s"),
        ("--drain-timeout", "99999999999999999999d"),
        ("--queue-bytes", "MiB"),
        ("--queue-bytes", ""),
        ("--queue-bytes", "64 pages"),
    ] {
        let error = read(&[flag, wrong]).expect_err(wrong).to_string();
        assert!(error.contains(flag) && error.contains(wrong), "{error}");
    }
}

#[test]
fn invalid_settings_are_refused_with_their_names() {
    let refused = |arguments: &[&str], word: &str| {
        let error = Config::load(&flags(arguments), None).expect_err("must be refused");
        assert!(error.to_string().contains(word), "{error}");
    };
    refused(&["--pool-max", "3"], "pool_min");
    refused(&["--default-deadline", "10s"], "default_deadline");
    refused(&["--queue-bytes", "1KiB"], "queue_bytes");
    refused(&["--arriving-bytes", "4MiB"], "arriving_bytes");
    refused(&["--otlp-sample-ratio", "1.5"], "otlp_sample_ratio");
    for bad in ["localhost:4317", "http://", "http://ada:canary@a:4317", "http://a:4318/v1/traces", "grpc://a:1"] {
        refused(&["--otlp-endpoint", bad], "otlp_endpoint");
    }
    refused(&["--config", "/nonexistent.toml"], "/nonexistent.toml");

    let path = file("pool_maximum = 7\n");
    let overrides = flags(&["--config", &path.to_string_lossy()]);
    let error = Config::load(&overrides, None).expect_err("an unknown name");
    std::fs::remove_file(path).expect("the file is there");
    assert!(error.to_string().contains("pool_maximum"), "{error}");
}

#[test]
fn a_password_does_not_show_and_a_primary_is_asked_for() {
    let url = DatabaseUrl::new("postgresql://ada:canary@a,b/interlock");
    let config = Config::load(&Overrides::default(), Some(&url)).expect("valid settings");
    assert!(!format!("{config:?}").contains("canary"));
    let url = config.require_database_url().expect("a database");
    assert_eq!(url.expose(), "postgresql://ada:canary@a,b/interlock?target_session_attrs=read-write");
    for (given, used) in [
        ("host=a user=b", "host=a user=b target_session_attrs=read-write"),
        ("postgresql://a/b?x=y", "postgresql://a/b?x=y&target_session_attrs=read-write"),
        ("host=a target_session_attrs=any", "host=a target_session_attrs=any"),
    ] {
        assert_eq!(DatabaseUrl::new(given).requiring_primary().expose(), used);
    }
}

#[test]
fn rates_come_from_flags_and_files() {
    let path = file("rate_limit_read = \"off\"\nrate_limit_watch = \"60/m\"\n");
    let overrides = flags(&["--config", &path.to_string_lossy(), "--rate-limit-write", "600/m"]);
    let config = Config::load(&overrides, None);
    std::fs::remove_file(path).expect("the file is there");
    let config = config.expect("valid settings");
    let rates = [config.rate_limit_read, config.rate_limit_write, config.rate_limit_watch, config.rate_limit_essential];
    assert_eq!(rates.map(|rate| rate.to_string()), ["off", "600/m", "60/m", "10000/s"]);
}
