//! How a command ends: exit codes, and errors as one line.

use std::fmt;
use std::process::ExitCode;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::text::plain;

/// Exit codes of the commands that call a server. Scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A job that was watched did not succeed.
    NotSucceeded = 1,
    /// A flag or a document is invalid, an address is in use, or the output cannot be written; clap exits with the same code.
    Usage = 2,
    /// The server refused the call.
    Refused = 3,
    /// The server cannot be reached, or cannot serve now.
    Unreachable = 4,
    /// A permit or a lease is lost.
    Lost = 5,
}

/// The exit codes, for the help of each command that calls a server.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the watched job did not succeed, or `doctor` found a failure
  2  a flag or a document is invalid, an address is in use, or the output cannot be written
  3  the server refused the call, or denied the permit
  4  the server cannot be reached, or cannot serve now
  5  a permit or a lease is lost
An error is one line on the standard error; with a reason, it comes from the server: `error: STATUS / REASON: message`.";

/// Why a command failed.
#[derive(Debug)]
pub struct Failed {
    /// Exit code of the program.
    pub exit: Exit,
    line: String,
}

impl Failed {
    /// An invalid flag or document.
    pub fn usage(line: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, line: line.into() }
    }

    /// A server or a database that cannot be reached.
    pub fn unreachable(line: impl Into<String>) -> Self {
        Self { exit: Exit::Unreachable, line: line.into() }
    }

    /// A call that was refused, a permit that was denied, or an answer that cannot be used.
    pub fn refused(line: impl Into<String>) -> Self {
        Self { exit: Exit::Refused, line: line.into() }
    }

    /// A permit or a lease that is lost.
    pub fn lost(line: impl Into<String>) -> Self {
        Self { exit: Exit::Lost, line: line.into() }
    }

    /// A call that failed.
    pub fn call(server: &str, status: &Status) -> Self {
        let failed = Self { exit: exit_of(status), line: error_line(server, status) };
        match advice(server, status) {
            Some(advice) => failed.advise(advice),
            None => failed,
        }
    }

    /// Adds the request id with which the command can be repeated, if it is unknown whether the request was applied.
    pub fn repeatable(self, request_id: &str) -> Self {
        match self.exit {
            Exit::Unreachable => self.advise(&format!("it is safe to repeat this with --request-id {request_id}")),
            Exit::NotSucceeded | Exit::Usage | Exit::Refused | Exit::Lost => self,
        }
    }

    /// The same error with advice, after a semicolon.
    pub fn advise(mut self, advice: &str) -> Self {
        self.line = format!("{}; {advice}", self.line);
        self
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.line)
    }
}

impl std::error::Error for Failed {}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// The `ErrorInfo` reason of an Interlock server. None: the call did not reach one.
pub fn reason(status: &Status) -> Option<String> {
    status.get_error_details().error_info().map(|info| info.reason.clone())
}

fn exit_of(status: &Status) -> Exit {
    match status.code() {
        Code::Unavailable => Exit::Unreachable,
        // Without a reason it is this side that gave up.
        Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal if reason(status).is_none() => {
            Exit::Unreachable
        }
        _ => Exit::Refused,
    }
}

/// Status code, reason and message in one line. The message of an invalid field begins with its path.
pub fn error_line(server: &str, status: &Status) -> String {
    let code = code_name(status.code());
    match reason(status) {
        Some(reason) => plain(&format!("{code} / {reason}: {}", status.message())),
        None => plain(&format!("{code}: {server}: {}", root_cause(status))),
    }
}

/// The deepest cause of a connection error: "connection refused", not "transport error".
fn root_cause(status: &Status) -> String {
    let Some(cause) = causes(status).last() else {
        // A status shows itself with its code, which stands in the line already.
        return status.message().to_owned();
    };
    cause.to_string()
}

/// All causes of a status, the deepest last.
fn causes(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(status), |error| error.source())
}

/// The first cause of type `T`. I/O and HTTP/2 errors hold another error inside, which is searched too.
fn cause<T: std::error::Error + 'static>(status: &Status) -> Option<&T> {
    causes(status).find_map(|error| {
        let kept = || {
            let io = error.downcast_ref::<h2::Error>().and_then(h2::Error::get_io);
            io.or_else(|| error.downcast_ref::<std::io::Error>())?.get_ref()?.downcast_ref::<T>()
        };
        error.downcast_ref::<T>().or_else(kept)
    })
}

/// What to do about an error of credentials or TLS. None: the error is of another kind.
fn advice(server: &str, status: &Status) -> Option<&'static str> {
    use rustls::{AlertDescription, CertificateError, Error};
    if status.code() == Code::Unauthenticated {
        return Some("set INTERLOCK_API_KEY to a valid API key");
    }
    let is_secure = server.starts_with("https://");
    let Some(fault) = cause::<Error>(status).filter(|_| is_secure) else {
        // Which error a connection ends with that the other side closes at once depends on who is faster.
        let is_broken = cause::<hyper::Error>(status).is_some() || cause::<h2::Error>(status).is_some();
        let advice = match is_secure {
            true => "if the server requires a client certificate, see --cert and --cert-key",
            false => {
                "if the server has TLS, use https://; if another program listens at this address, name the server's with --server"
            }
        };
        return is_broken.then_some(advice);
    };
    Some(match fault {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "none of the certificate authorities in use signed the server's certificate, name the right ones with --ca"
        }
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the server's certificate has expired, or the clock of this machine is wrong"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the server's certificate is for other names than the host of --server",
        Error::InvalidCertificate(CertificateError::Other(_)) => {
            "--ca may name the server's own certificate where one of an authority is needed"
        }
        Error::InvalidMessage(_) => "if the server has no TLS, use http://",
        Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::HandshakeFailure
            | AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown,
        ) => "the server refused the client certificate or requires one, see --cert and --cert-key",
        _ => return None,
    })
}

/// The code as in the protos, such as `NOT_FOUND`.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    fn refused(code: Code, reason: &str, message: &str) -> Status {
        let details = ErrorDetails::with_error_info(reason, "interlock", std::collections::HashMap::new());
        Status::with_error_details(code, message, details)
    }

    #[test]
    fn an_error_is_one_line_with_status_reason_and_field() {
        let failed =
            Failed::call("http://a", &refused(Code::InvalidArgument, "INVALID_FIELD", "stages[0].name: is\nempty"));
        assert_eq!(failed.to_string(), "INVALID_ARGUMENT / INVALID_FIELD: stages[0].name: is empty");
        let failed = Failed::call("http://a", &Status::unavailable("gone"));
        assert_eq!(failed.to_string(), "UNAVAILABLE: http://a: gone");
    }

    #[test]
    fn exit_codes_distinguish_refused_from_unreachable() {
        let exit = |status: &Status| Failed::call("", status).exit;
        assert_eq!(exit(&refused(Code::NotFound, "JOB_NOT_FOUND", "")), Exit::Refused);
        assert_eq!(exit(&refused(Code::Internal, "INTERNAL", "")), Exit::Refused);
        assert_eq!(exit(&refused(Code::Unavailable, "DRAINING", "")), Exit::Unreachable);
        assert_eq!(exit(&Status::unavailable("")), Exit::Unreachable);
        assert_eq!(exit(&Status::deadline_exceeded("")), Exit::Unreachable);
        assert_eq!(exit(&Status::unimplemented("")), Exit::Refused);
    }
}
