//! Splits a connection string into the parameters of TLS, of which the driver knows only some, and the rest.
//!
//! Both forms (URL and pairs) are parsed as the driver parses them, so that both find the same parameters.

use super::tls::Parameters;

/// Why a connection string cannot be used. Never shows the string, which usually holds a password.
#[derive(Debug, thiserror::Error)]
pub enum BadTarget {
    /// The driver cannot parse it.
    #[error("{}", super::connection::Explained(.0))]
    Driver(#[from] super::connection::DbError),
    /// A parameter of TLS has a value that cannot be used.
    #[error("{name}: {why}")]
    Parameter {
        /// The name of the parameter.
        name: &'static str,
        /// What is wrong with its value, and what to do.
        why: String,
    },
}

impl BadTarget {
    pub(in crate::store) fn parameter(name: &'static str, why: impl Into<String>) -> Self {
        Self::Parameter { name, why: why.into() }
    }
}

/// Returns the string without the parameters of TLS, and these. Of a parameter that is given twice the last value counts, as for libpq.
pub(in crate::store) fn take_apart(text: &str) -> Result<(String, Parameters), BadTarget> {
    let mut parameters = Parameters::default();
    let rest = match ["postgres://", "postgresql://"].iter().any(|prefix| text.starts_with(prefix)) {
        true => from_url(text, &mut parameters)?,
        false => from_pairs(text, &mut parameters)?,
    };
    Ok((rest, parameters))
}

fn from_url(text: &str, parameters: &mut Parameters) -> Result<String, BadTarget> {
    // A question mark before the @ belongs to the password.
    let after_credentials = text.find('@').map_or(0, |at| at + 1);
    let Some(query) = text[after_credentials..].find('?').map(|mark| after_credentials + mark) else {
        return Ok(text.to_owned());
    };
    let mut rest = text[..query].to_owned();
    let mut separator = '?';
    for pair in text[query + 1..].split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let Some(place) = parameters.place(&decoded(name, "a parameter's name")?) {
            *place.value = Some(decoded(value, place.name)?);
            continue;
        }
        rest.push(separator);
        rest.push_str(pair);
        separator = '&';
    }
    Ok(rest)
}

fn from_pairs(text: &str, parameters: &mut Parameters) -> Result<String, BadTarget> {
    let mut rest = String::with_capacity(text.len());
    let mut left = text;
    while let Some((pair, after)) = next_pair(left) {
        match pair.value.as_ref().and_then(|_| parameters.place(pair.name)) {
            Some(place) => *place.value = pair.value,
            None => {
                rest.push_str(&left[..left.len() - after.len()]);
                rest.push(' ');
            }
        }
        left = after;
    }
    rest.push_str(left);
    Ok(rest)
}

/// `name = value`. The value is in single quotes or ends at white space; a backslash quotes the character behind it.
struct SettingPair<'a> {
    name: &'a str,
    /// None: it is incomplete, which the driver reports.
    value: Option<String>,
}

/// The next pair and the text behind it. None: no pair begins here.
fn next_pair(text: &str) -> Option<(SettingPair<'_>, &str)> {
    let text = text.trim_start();
    let end = text.find(|c: char| c.is_whitespace() || c == '=')?;
    let (name, after) = text.split_at(end);
    let after = after.trim_start().strip_prefix('=')?.trim_start();
    let quoted = after.strip_prefix('\'');
    let body = quoted.unwrap_or(after);
    let mut value = String::new();
    let mut characters = body.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, kept)| kept)),
            '\'' if quoted.is_some() => return Some((SettingPair { name, value: Some(value) }, &body[at + 1..])),
            _ if quoted.is_none() && character.is_whitespace() => {
                return Some((SettingPair { name, value: Some(value) }, &body[at..]));
            }
            _ => value.push(character),
        }
    }
    let is_whole = quoted.is_none() && !value.is_empty();
    Some((SettingPair { name, value: is_whole.then_some(value) }, ""))
}

/// Decodes percent-encoding. `name`: the parameter that the text belongs to, for the error.
fn decoded(text: &str, name: &'static str) -> Result<String, BadTarget> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = text.get(at + 1..at + 3).filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match hex.filter(|_| byte == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(meant) => {
                decoded.push(meant);
                at += 3;
            }
            None => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).map_err(|_| BadTarget::parameter(name, "is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, [Option<String>; 4]) {
        let (rest, Parameters { sslmode, sslrootcert, sslcert, sslkey }) = take_apart(text).expect("a string");
        (rest, [sslmode, sslrootcert, sslcert, sslkey])
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn tls_parameters_are_taken_out_of_a_url() {
        let given = "postgres://me:a?b@h:1/d?sslmode=verify-full&application_name=x&sslrootcert=%2Fetc%2Fa%20b.pem&keepalives=0";
        let (rest, found) = parts(given);
        assert_eq!(rest, "postgres://me:a?b@h:1/d?application_name=x&keepalives=0");
        assert_eq!(found, [some("verify-full"), some("/etc/a b.pem"), None, None]);
        let (rest, found) = parts("postgresql://h/d?sslcert=a&sslkey=b&sslmode=require&sslmode=disable");
        assert_eq!(rest, "postgresql://h/d");
        assert_eq!(found, [some("disable"), None, some("a"), some("b")]);
        for same in ["postgres://me@h/d", "postgres://h", "postgres://me:p@h/d?options=-cgeqo%3Doff"] {
            assert_eq!(parts(same), (same.to_owned(), [None, None, None, None]));
        }
    }

    #[test]
    fn tls_parameters_are_taken_out_of_pairs() {
        let (rest, found) =
            parts(r"host=h sslmode = 'verify-ca' password='a sslmode=b \' c' sslrootcert=/a\ b  user=me");
        assert_eq!(found, [some("verify-ca"), some("/a b"), None, None]);
        let config: tokio_postgres::Config = rest.parse().expect("pairs");
        assert_eq!(config.get_password(), Some(&b"a sslmode=b ' c"[..]));
        assert_eq!(config.get_user(), Some("me"));
        // Incomplete pairs are left to the driver, which refuses them.
        for broken in ["host=h sslmode=", "host=h sslmode='require", "host", "host=h user"] {
            let (rest, found) = parts(broken);
            assert_eq!(found, [None, None, None, None], "{broken}");
            assert!(rest.parse::<tokio_postgres::Config>().is_err(), "{broken}: {rest}");
        }
    }
}
