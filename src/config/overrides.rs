//! The settings of a command line: which of them are given, and in what order the sources win.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Value};

use super::settings::Config;
use super::{ConfigError, DatabaseUrl};

/// The name of the setting that is not one of [`Config`].
const FILE: &str = "config";

/// Settings from flags and environment variables. Flattened into a command, it adds `--config` and a flag for each setting.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    file: Option<PathBuf>,
    /// Every setting: the given value, else the command's default.
    settings: Config,
    /// Names of the settings that a flag or an environment variable gives.
    given: Vec<String>,
}

impl Args for Overrides {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(FILE)
            .long("config")
            .env("INTERLOCK_CONFIG")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("TOML file with settings. Flags and environment variables win over it");
        Config::augment_args(command.arg(file))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Overrides {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let is_given = |name: &str| {
            let source = matches.value_source(name);
            matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
        };
        let names = Config::augment_args(Command::new(FILE));
        let names = names.get_arguments().map(|argument| argument.get_id().as_str());
        let given = names.filter(|name| is_given(name)).map(str::to_owned).collect();
        let settings = Config::from_arg_matches(matches)?;
        Ok(Self { file: matches.get_one::<PathBuf>(FILE).cloned(), settings, given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Config {
    /// The settings of a command: what `overrides` gives wins over its file, and that over the defaults of its flags.
    ///
    /// # Errors
    /// When a value cannot be read or makes no sense; the message names the setting.
    pub fn load(overrides: &Overrides, database_url: Option<&DatabaseUrl>) -> Result<Config, ConfigError> {
        let settings = dict(&overrides.settings)?;
        let given: Dict = settings
            .iter()
            .filter(|(name, _)| overrides.given.contains(name))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        let mut figment = Figment::from(Serialized::defaults(settings));
        if let Some(path) = &overrides.file {
            if !path.is_file() {
                return Err(ConfigError::NoFile(path.clone()));
            }
            figment = figment.merge(Toml::file_exact(path));
        }
        figment = figment.merge(Serialized::globals(given));
        if let Some(url) = database_url {
            figment = figment.merge(Serialized::global("database_url", url));
        }
        let config: Config = figment.extract().map_err(|error| ConfigError::Unreadable(Box::new(error)))?;
        config.validated()
    }
}

fn dict(settings: &Config) -> Result<Dict, ConfigError> {
    let value = Value::serialize(settings).map_err(|error| ConfigError::Unreadable(Box::new(error)))?;
    Ok(value.into_dict().unwrap_or_default())
}
