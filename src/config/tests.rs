//! Precedence, validation and redaction.

use clap::{Args, FromArgMatches};

use super::*;

/// What the flags say, as clap reads them.
fn flags(arguments: &[&str]) -> Layer {
    let command = Layer::augment_args(clap::Command::new("test"));
    let matches = command.try_get_matches_from(std::iter::once(&"test").chain(arguments)).expect("valid flags");
    Layer::from_arg_matches(&matches).expect("a layer")
}

fn file(text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("interlock-{}.toml", uuid::Uuid::new_v4()));
    std::fs::write(&path, text).expect("a writable directory for temporary files");
    path
}

#[test]
fn without_anything_the_defaults_hold() {
    let config = Config::load(&Layer::default(), None).expect("valid defaults");
    assert_eq!(config.listen.to_string(), "127.0.0.1:50051");
    assert_eq!((config.pool_min, config.pool_max), (5, 20));
    assert!(!config.reflection);
    assert!(config.require_database_url().is_err());
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let path = file("pool_max = 7\nqueue_wait = \"5s\"\ncache_bytes = \"8MiB\"\nlog_format = \"json\"\n");
    let layer = Layer { config: Some(path.clone()), ..flags(&["--pool-max", "9", "--reflection"]) };
    let config = Config::load(&layer, None);
    std::fs::remove_file(path).expect("the file is there");
    let config = config.expect("valid settings");
    assert_eq!(config.pool_max, 9);
    assert_eq!(config.queue_wait, Span::seconds(5));
    assert_eq!(config.cache_bytes, ByteSize::mebibytes(8));
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(config.pool_min, 5);
    assert!(config.reflection);
}

#[test]
fn every_setting_has_a_flag_an_environment_variable_and_a_default() {
    let command = Layer::augment_args(clap::Command::new("test"));
    let defaults = serde_json::to_value(Config::default()).expect("serialisable");
    for (name, _) in defaults.as_object().expect("an object") {
        if name == "database_url" {
            continue;
        }
        let argument = command
            .get_arguments()
            .find(|argument| argument.get_id() == name.as_str())
            .unwrap_or_else(|| panic!("{name} has no flag"));
        let variable = argument.get_env().and_then(|name| name.to_str());
        let expected = format!("INTERLOCK_{}", name.to_uppercase());
        assert_eq!(variable, Some(expected.as_str()));
        let help = argument.get_help().map(ToString::to_string);
        assert!(help.is_some_and(|help| help.contains("[default: ")), "{name}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_its_name() {
    let refused = |arguments: &[&str], word: &str| {
        let error = Config::load(&flags(arguments), None).expect_err("must be refused");
        assert!(error.to_string().contains(word), "{error}");
    };
    refused(&["--pool-max", "3"], "pool_min");
    refused(&["--max-call", "10s"], "max_call");
    refused(&["--queue-bytes", "1KiB"], "queue_bytes");
    refused(&["--arriving-bytes", "4MiB"], "arriving_bytes");
    refused(&["--otlp-sample-ratio", "1.5"], "otlp_sample_ratio");
    for bad in ["localhost:4317", "http://", "http://ada:canary@a:4317", "http://a:4318/v1/traces", "grpc://a:1"] {
        refused(&["--otlp-endpoint", bad], "otlp_endpoint");
    }
    refused(&["--config", "/nonexistent.toml"], "/nonexistent.toml");

    let path = file("pool_maximum = 7\n");
    let layer = Layer { config: Some(path.clone()), ..Layer::default() };
    let error = Config::load(&layer, None).expect_err("an unknown name");
    std::fs::remove_file(path).expect("the file is there");
    assert!(error.to_string().contains("pool_maximum"), "{error}");
}

#[test]
fn a_password_does_not_show_and_a_primary_is_asked_for() {
    let url = DatabaseUrl::new("postgresql://ada:canary@a,b/interlock");
    let config = Config::load(&Layer::default(), Some(&url)).expect("valid settings");
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
fn rates_come_from_flags_and_files_and_off_stays_off_until_one_is_set() {
    let path = file("rate_limit_read = \"off\"\nrate_limit_watch = \"60/m\"\n");
    let layer = Layer { config: Some(path.clone()), ..flags(&["--rate-limit-write", "600/m"]) };
    let config = Config::load(&layer, None);
    std::fs::remove_file(path).expect("the file is there");
    let config = config.expect("valid settings");
    let rates = [config.rate_limit_read, config.rate_limit_write, config.rate_limit_watch, config.rate_limit_essential];
    assert_eq!(rates.map(|rate| rate.to_string()), ["off", "600/m", "60/m", "10000/s"]);
    let off = Config::default().without_rate_limits();
    let config = Config::load_over(off, &flags(&["--rate-limit-essential", "5/s"]), None).expect("valid settings");
    assert_eq!((config.rate_limit_write, config.rate_limit_essential.to_string()), (CallRate::OFF, "5/s".to_owned()));
}
