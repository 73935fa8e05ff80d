//! Beyond loopback no server starts without TLS and credentials by mistake.

use std::process::{Command, Stdio};

/// How a server ends that must not start, and what it says.
fn refused(verb: &[&str], flags: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_interlock"))
        .args(verb)
        // The address is of a documentation network; the server must not come to listening.
        .args(["--listen", "192.0.2.1:0"])
        .args(flags)
        .env("INTERLOCK_DATABASE_URL", "host=/nonexistent")
        .stdin(Stdio::null())
        .output()
        .expect("the program");
    assert!(!output.status.success(), "{verb:?} {flags:?} started");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).expect("UTF-8")
}

#[test]
fn server_beyond_loopback_refuses_to_start_and_names_the_missing_flags() {
    for verb in [&["serve"][..], &["dev", "--ephemeral"]] {
        let message = refused(verb, &[]);
        assert!(message.contains("192.0.2.1:0 can be reached from other machines"), "{message}");
        assert!(message.contains("--tls-cert FILE") && message.contains("--insecure"), "{message}");
        assert!(!message.contains("--auth"), "credentials are required by default there: {message}");
        let message = refused(verb, &["--auth", "off"]);
        assert!(message.contains("--tls-cert FILE") && message.contains("remove --auth off"), "{message}");
    }
    // With consent it goes on, as far as it can.
    let message = refused(&["serve"], &["--insecure"]);
    assert!(message.contains("cannot listen on 192.0.2.1:0"), "{message}");
}
