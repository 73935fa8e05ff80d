//! What the exit codes of a program mean: success, or a class of failure.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use clap::ValueEnum;

use crate::proto::FailureClass;

/// The classes of failures that a client may report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClassName {
    /// A called service failed. Retried.
    ServerError = 1,
    /// A called service limited the rate. Retried, with a longer wait.
    RateLimited = 2,
    /// A connection failed or broke. Retried.
    Network = 3,
    /// The request to a called service was wrong. Not retried.
    ClientError = 4,
    /// Something took too long. Retried.
    Timeout = 5,
    /// The work was stopped on purpose. Not retried.
    Cancelled = 6,
    /// A bug in the program. Retried.
    Internal = 7,
}

impl ClassName {
    /// The class in messages.
    pub fn failure_class(self) -> FailureClass {
        FailureClass::try_from(self as i32).unwrap_or_default()
    }
}

/// The exit codes that are not INTERNAL: those of sysexits.h, of timeout(1), and 79.
const CLASSES: &[(&[i32], FailureClass)] = &[
    (&[64, 65, 66, 67, 77, 78], FailureClass::ClientError),
    (&[69, 75, 76], FailureClass::ServerError),
    (&[68], FailureClass::Network),
    (&[79], FailureClass::RateLimited),
    (&[124], FailureClass::Timeout),
];

/// The table of exit codes, for help texts.
pub const EXIT_TABLE: &str = "\
Exit codes of COMMAND and what they mean:
  0                                success
  64 65 66 67 77 78                CLIENT_ERROR, not retried (usage, bad data, no input, no user, no permission, configuration)
  68                               NETWORK, retried (no host)
  69 75 76                         SERVER_ERROR, retried (unavailable, temporary failure, protocol)
  79                               RATE_LIMITED, retried after a longer wait
  124                              TIMEOUT, retried (as of timeout(1))
  any other, or killed by a signal INTERNAL, retried";

/// The class of failure that an exit means. None: success.
pub fn failure_class(status: ExitStatus) -> Option<FailureClass> {
    let code = match status.code() {
        Some(0) => return None,
        Some(code) => code,
        None => return Some(FailureClass::Internal),
    };
    let class = CLASSES.iter().find(|(codes, _)| codes.contains(&code));
    Some(class.map_or(FailureClass::Internal, |(_, class)| *class))
}

/// The exit code, or 128 plus the number of the signal that ended the program, as shells report it.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// How the program ended, such as `exit 65` or `signal 9`.
pub fn exit_text(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    #[test]
    fn an_exit_code_has_one_class_and_stands_in_the_table() {
        assert_eq!(failure_class(exited(0)), None);
        assert_eq!(failure_class(exited(65)), Some(FailureClass::ClientError));
        assert_eq!(failure_class(exited(75)), Some(FailureClass::ServerError));
        assert_eq!(failure_class(exited(1)), Some(FailureClass::Internal));
        assert_eq!(failure_class(ExitStatus::from_raw(9)), Some(FailureClass::Internal));
        for (codes, class) in CLASSES {
            let name = class.as_str_name().trim_start_matches("FAILURE_CLASS_");
            let row: Vec<_> = codes.iter().map(ToString::to_string).collect();
            let row = EXIT_TABLE.lines().find(|line| line.trim_start().starts_with(&format!("{} ", row.join(" "))));
            assert!(row.is_some_and(|row| row.contains(name)), "{name}");
        }
    }

    #[test]
    fn a_signal_is_shown_as_shells_show_it() {
        assert_eq!((exit_code(exited(7)), &*exit_text(exited(7))), (7, "exit 7"));
        assert_eq!((exit_code(ExitStatus::from_raw(9)), &*exit_text(ExitStatus::from_raw(9))), (137, "signal 9"));
    }

    #[test]
    fn class_names_have_their_numbers_on_the_wire() {
        for name in ClassName::value_variants() {
            let flag = name.to_possible_value().expect("a name").get_name().to_uppercase().replace('-', "_");
            assert_eq!(name.failure_class().as_str_name(), format!("FAILURE_CLASS_{flag}"));
        }
    }
}
